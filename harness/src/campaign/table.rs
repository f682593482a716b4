//! What a campaign prints: a row for each workload, and what to look at.

use std::{collections::BTreeSet, fmt, time::Duration};

use super::{
    Verdict, canary, coverage,
    failures::failures,
    judge::judge,
    record::{Ended, Mode, Record},
};
use crate::report::{FAILED, severity};

/// Widths of the columns but for the last.
const COLUMNS: [(&str, usize); 6] =
    [("workload", 44), ("seeds", 7), ("reached", 8), ("found by", 16), ("seed", 6), ("time", 8)];

/// The line above all rows.
pub fn head() -> String {
    let names = COLUMNS.map(|(name, width)| pad(name, width)).join(" ");
    format!("{names} shrunk to")
}

/// The line of a workload.
pub fn line(record: &Record) -> String {
    let [cells @ .., shrunk] = cells(record);
    let cells: Vec<_> = COLUMNS.iter().zip(cells).map(|((_, width), cell)| pad(&cell, *width)).collect();
    let marked = if judge(record).0 == Verdict::Expected { shrunk } else { format!("{shrunk} !") };
    format!("{} {}", cells.join(" "), marked.trim_start()).trim_end().to_owned()
}

/// The cells of a workload's row.
pub fn cells(record: &Record) -> [String; 7] {
    let found = record.shown();
    let shrunk = found.and_then(|found| Some((found.size.as_ref()?, found.shrink_ms)));
    [
        record.workload.clone(),
        record.seeds().to_string(),
        record.mutant.as_ref().map_or_else(String::new, |_| record.reached.to_string()),
        found.map_or_else(|| "-".to_owned(), |found| found.kind.clone()),
        found.and_then(|found| found.seeds.first()).map_or_else(String::new, u64::to_string),
        seconds(record.took_ms),
        shrunk.map_or_else(String::new, |(size, took)| format!("{size} in {}", seconds(took))),
    ]
}

/// What is not as expected, and how to see it again.
pub fn unexpected(records: &[Record]) -> Vec<String> {
    let failures = failures(records).into_iter();
    let again = |again: &str| if again.is_empty() { String::new() } else { format!("\n    again: {again}") };
    let failures = failures.map(|failure| format!("{failure}{}", again(&failure.again)));
    let others = records.iter().filter_map(|record| {
        let (verdict, words) = judge(record);
        // what was found is told with its like
        let told = verdict == Verdict::Expected
            || verdict == Verdict::Unexpected && record.classes.iter().any(|class| record.is_alarm(class));
        (!told).then(|| format!("{} is {}: {words}", record.workload, verdict.words()))
    });
    failures.chain(others).collect()
}

/// Planted bugs that were found, and how quickly, in simulation and on real processes.
pub fn bugs(records: &[Record]) -> Vec<String> {
    let of = |mode, place: &str| Some(format!("{}{place}", bugs_found(records, mode)?));
    [of(Mode::Simulation, ""), of(Mode::Real, " on real processes")].into_iter().flatten().collect()
}

fn bugs_found(records: &[Record], mode: Mode) -> Option<String> {
    let is_bug = |record: &&Record| record.mode == mode && record.mutant.is_some() && !is_control(record);
    let planted: Vec<_> = records.iter().filter(is_bug).collect();
    // what is not the expected violation does not find the bug
    let is_found = |record: &&&Record| record.classes.iter().any(|class| class.expected);
    let mut times: Vec<u64> = planted.iter().filter(is_found).map(|record| record.took_ms).collect();
    times.sort_unstable();
    let (found, all) = (times.len(), planted.len());
    let quickly = times.last().map_or_else(String::new, |worst| {
        format!(", median {}, worst {}", seconds(times[times.len() / 2]), seconds(*worst))
    });
    (all > 0).then(|| format!("{found} of {all} planted bugs found{quickly}"))
}

/// What nothing was ever seen of in all runs, in words.
pub fn never(records: &[Record]) -> Option<String> {
    let records = records.iter().filter(|record| record.mode != Mode::Canary);
    let never = coverage::never(records.map(|record| &record.coverage));
    (!never.is_empty()).then(|| format!("never hit: {}", never.join(", ")))
}

/// What all rows together come to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Whole {
    /// The exit code.
    pub exit_code: u8,
    words: String,
}

impl Whole {
    /// Of these rows, of a campaign that has ended so.
    pub fn of(records: &[Record], ended: Ended) -> Self {
        if !canary::problems(records).is_empty() {
            let words = "the canary fails: nothing that this campaign says can be believed".to_owned();
            return Self { exit_code: FAILED, words };
        }
        let records: Vec<&Record> = records.iter().filter(|record| record.mode != Mode::Canary).collect();
        let codes = records.iter().map(|record| judge(record).0.exit_code());
        // without a row, or before its end, nothing is shown
        let before_its_end = (ended == Ended::NotYet || records.is_empty()).then_some(3);
        let exit_code = codes.chain(before_its_end).max_by_key(|code| severity(*code)).unwrap_or(3);
        let seeds = |real: bool| -> u64 {
            let some = records.iter().filter(|record| (record.mode == Mode::Real) == real);
            some.map(|record| record.seeds()).sum()
        };
        let on_processes = match seeds(true) {
            0 => String::new(),
            runs => format!(", {runs} on real processes"),
        };
        let ended = match ended {
            Ended::NotYet => ", not at its end",
            Ended::TimeIsUp => ", until its time was up",
            Ended::AllIsDone => "",
        };
        let workloads: BTreeSet<&str> = records.iter().map(|record| record.workload.as_str()).collect();
        let words = format!(
            "campaign of {} workloads, {} simulated runs{on_processes}{ended}",
            workloads.len(),
            seeds(false)
        );
        Self { exit_code, words }
    }

    /// The same if this is as bad, too.
    #[must_use]
    pub fn or_worse(self, exit_code: u8) -> Self {
        let worst = [self.exit_code, exit_code].into_iter().max_by_key(|code| severity(*code));
        Self { exit_code: worst.unwrap_or(exit_code), ..self }
    }
}

impl fmt::Display for Whole {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verdict = match self.exit_code {
            0 => "valid",
            1 => "violation",
            _ => "unknown",
        };
        write!(f, "VERDICT {verdict} {}", self.words)
    }
}

fn is_control(record: &Record) -> bool {
    record.mutant.as_ref().is_some_and(|mutant| mutant.starts_with("control-"))
}

fn seconds(ms: u64) -> String {
    format!("{:.1} s", Duration::from_millis(ms).as_secs_f64())
}

fn pad(cell: &str, width: usize) -> String {
    format!("{cell:<width$}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::campaign::record::{Block, Class, Mode, Note};

    fn record(mutant: &str, found: Option<bool>) -> Record {
        let class = |expected| Class {
            kind: "lease-safety L4".to_owned(),
            shape: Some("kill: get".to_owned()),
            expected,
            count: 1,
            seeds: vec![7],
            words: "L4: so it is".to_owned(),
            size: Some("2 faults, 5 operations".to_owned()),
            shrink_ms: 9000,
            again: "harness sim w.toml --seeds 7..8 --tale".to_owned(),
            ..Class::default()
        };
        Record {
            workload: format!("w-{mutant}"),
            mutant: Some(mutant.to_owned()),
            reached: 12,
            blocks: vec![Block { first: 0, seeds: 8, fingerprint: String::new() }],
            classes: found.map(class).into_iter().collect(),
            took_ms: 2340,
            ..Record::new(Mode::Simulation, true)
        }
    }

    #[test]
    fn a_line_says_what_found_it_and_how_small_it_is() {
        let line = line(&record("bug", Some(true)));
        let words: Vec<_> = line.split_whitespace().collect();
        assert_eq!(words.join(" "), "w-bug 8 12 lease-safety L4 7 2.3 s 2 faults, 5 operations in 9.0 s");
        assert_eq!(line.find("lease-safety"), head().find("found by"), "columns stand below their names");
    }

    #[test]
    fn what_is_not_as_expected_is_told_with_the_way_to_see_it() {
        let records = [record("bug", Some(true)), record("late", None), record("control-x", Some(false))];
        assert!(line(&records[1]).ends_with('!'));
        let told = unexpected(&records);
        assert!(told[0].ends_with("again: harness sim w.toml --seeds 7..8 --tale"), "{told:?}");
        assert_eq!(told[1], "w-late is not as expected: nothing was found in 8 seeds");
        assert_eq!(told.len(), 2);
        assert_eq!(
            bugs_found(&records, Mode::Simulation).as_deref(),
            Some("1 of 2 planted bugs found, median 2.3 s, worst 2.3 s"),
            "a control is no bug"
        );
        assert_eq!(bugs_found(&records[1..], Mode::Simulation).as_deref(), Some("0 of 1 planted bugs found"));
        assert_eq!(bugs_found(&records[2..], Mode::Simulation), None);
        let other = record("bug", Some(false));
        assert_eq!(
            bugs_found(&[other], Mode::Simulation).as_deref(),
            Some("0 of 1 planted bugs found"),
            "another check found something else"
        );
    }

    #[test]
    fn the_worst_row_counts_and_a_campaign_that_is_not_over_shows_nothing() {
        let good = record("bug", Some(true));
        let code = |records: &[Record], ended| Whole::of(records, ended).exit_code;
        assert_eq!(code(std::slice::from_ref(&good), Ended::AllIsDone), 0);
        assert_eq!(code(std::slice::from_ref(&good), Ended::TimeIsUp), 0);
        assert_eq!(code(std::slice::from_ref(&good), Ended::NotYet), 3);
        assert_eq!(code(&[], Ended::AllIsDone), 3);
        let bad = record("bug", None);
        assert_eq!(code(&[good.clone(), bad.clone()], Ended::NotYet), 1);
        let real = Record { mode: Mode::Real, ..good.clone() };
        let words = Whole::of(&[good.clone(), real], Ended::AllIsDone).words;
        assert_eq!(words, "campaign of 1 workloads, 8 simulated runs, 8 on real processes");
        let mut broken = good;
        broken.failed(Note { seed: 1, words: "so".to_owned() });
        assert_eq!(code(&[broken.clone()], Ended::AllIsDone), 4);
        assert_eq!(code(&[broken, bad], Ended::AllIsDone), 1);
        assert_eq!(Whole::of(&[], Ended::AllIsDone).or_worse(4).exit_code, 4);
    }
}
