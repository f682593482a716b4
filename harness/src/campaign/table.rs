//! What a campaign prints: a row for each workload, and what to look at.

use std::time::Duration;

use super::{Found, Row, Verdict};

/// Widths of the columns but for the last.
const COLUMNS: [(&str, usize); 6] =
    [("workload", 44), ("seeds", 7), ("reached", 8), ("found by", 16), ("seed", 6), ("time", 8)];

/// The line above all rows.
pub fn head() -> String {
    let names = COLUMNS.map(|(name, width)| pad(name, width)).join(" ");
    format!("{names} shrunk to")
}

/// The line of a workload.
pub fn line(row: &Row) -> String {
    let found = row.found.as_ref();
    let reached = row.mutant.as_ref().map_or_else(String::new, |_| row.reached.to_string());
    let by = found.map_or_else(|| "-".to_owned(), |found| found.kind.to_string());
    let seed = found.map_or_else(String::new, |found| found.seed.to_string());
    let cells = [row.workload.clone(), row.seeds.to_string(), reached, by, seed, seconds(row.took)];
    let cells: Vec<_> = COLUMNS.iter().zip(cells).map(|((_, width), cell)| pad(&cell, *width)).collect();
    let shrunk = found.and_then(|found| found.shrunk);
    let shrunk = shrunk.map_or_else(String::new, |(size, took)| format!("{size} in {}", seconds(took)));
    let marked = if row.verdict == Verdict::Expected { shrunk } else { format!("{shrunk} !") };
    format!("{} {}", cells.join(" "), marked.trim_start()).trim_end().to_owned()
}

/// What is not as expected, and how to see it again.
pub fn unexpected(rows: &[Row]) -> Vec<String> {
    let rows = rows.iter().filter(|row| row.verdict != Verdict::Expected);
    rows.map(|row| {
        let verdict = match row.verdict {
            Verdict::Expected => "as expected",
            Verdict::Unexpected => "not as expected",
            Verdict::Undecided => "undecided",
            Verdict::Failed => "failed",
        };
        let again = row
            .found
            .as_ref()
            .map_or_else(String::new, |Found { again, .. }| format!("\n    again: {again}"));
        format!("{} is {verdict}: {}{again}", row.workload, row.words)
    })
    .collect()
}

/// Planted bugs that were found, and how quickly.
pub fn bugs(rows: &[Row]) -> Option<String> {
    let planted: Vec<_> = rows.iter().filter(|row| row.mutant.is_some() && !is_control(row)).collect();
    // what is not the expected violation does not find the bug
    let is_found = |row: &&&Row| row.found.is_some() && row.verdict != Verdict::Unexpected;
    let mut times: Vec<Duration> = planted.iter().filter(is_found).map(|row| row.took).collect();
    times.sort();
    let (found, all) = (times.len(), planted.len());
    let quickly = times.last().map_or_else(String::new, |worst| {
        format!(", median {}, worst {}", seconds(times[times.len() / 2]), seconds(*worst))
    });
    (all > 0).then(|| format!("{found} of {all} planted bugs found{quickly}"))
}

fn is_control(row: &Row) -> bool {
    row.mutant.as_ref().is_some_and(|mutant| mutant.starts_with("control-"))
}

fn seconds(time: Duration) -> String {
    format!("{:.1} s", time.as_secs_f64())
}

fn pad(cell: &str, width: usize) -> String {
    format!("{cell:<width$}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        shrink::{Kind, Size},
        workload::CheckName,
    };

    fn row(mutant: &str, verdict: Verdict, found: bool) -> Row {
        let kind = Kind { by: CheckName::LeaseSafety, invariant: Some("L4".to_owned()) };
        let lasts = Duration::from_millis(1500);
        let size = Size { faults: 2, operations: Some(5), clients: 2, keys: 1, nodes: 3, lasts };
        let again = "harness sim w.toml --seeds 7..8 --tale".to_owned();
        Row {
            workload: format!("w-{mutant}"),
            mutant: Some(mutant.to_owned()),
            reached: 12,
            seeds: 8,
            found: found.then(|| Found {
                seed: 7,
                kind,
                shrunk: Some((size, Duration::from_secs(9))),
                again,
            }),
            verdict,
            words: "so it is".to_owned(),
            took: Duration::from_millis(2340),
        }
    }

    #[test]
    fn a_line_says_what_found_it_and_how_small_it_is() {
        let line = line(&row("bug", Verdict::Expected, true));
        let words: Vec<_> = line.split_whitespace().collect();
        assert_eq!(
            words.join(" "),
            "w-bug 8 12 lease-safety L4 7 2.3 s 2 faults, 5 operations, 2 clients, 1 keys, 3 nodes, 1.5 s in 9.0 s"
        );
        assert_eq!(line.find("lease-safety"), head().find("found by"), "columns stand below their names");
    }

    #[test]
    fn what_is_not_as_expected_is_told_with_the_way_to_see_it() {
        let rows = [
            row("bug", Verdict::Expected, true),
            row("late", Verdict::Unexpected, false),
            row("control-x", Verdict::Unexpected, true),
        ];
        assert!(line(&rows[1]).ends_with('!'));
        let told = unexpected(&rows);
        assert_eq!(told[0], "w-late is not as expected: so it is");
        assert!(told[1].ends_with("again: harness sim w.toml --seeds 7..8 --tale"), "{told:?}");
        assert_eq!(told.len(), 2);
        assert_eq!(
            bugs(&rows).as_deref(),
            Some("1 of 2 planted bugs found, median 2.3 s, worst 2.3 s"),
            "a control is no bug"
        );
        assert_eq!(bugs(&rows[1..]).as_deref(), Some("0 of 1 planted bugs found"));
        assert_eq!(bugs(&rows[2..]), None);
        let other = row("bug", Verdict::Unexpected, true);
        assert_eq!(
            bugs(&[other]).as_deref(),
            Some("0 of 1 planted bugs found"),
            "another check found something else"
        );
    }
}
