//! The summary that ends a run, for people.

use std::fmt::Write as _;

use checker::history::Trip;

use super::{Figures, Report, Status, html, verdict::name_of};
use crate::cluster::Cause;

/// The most findings of a check that are shown; all are in verdict.json.
const SHOWN: usize = 3;

/// The summary, without its last line.
pub fn render(report: &Report) -> String {
    let mut text = String::new();
    let figures = &report.figures;
    let mutant = report.mutant.as_ref().map(|mutant| format!(", planted bug {mutant}")).unwrap_or_default();
    line(&mut text, &format!("{} seed {}, {:.1} s{mutant}", report.workload, report.seed, figures.seconds));
    // a system without leases has no fast reads to tell of
    let has_leases = report.facts.fast_reads_near_expiry.is_some();
    operations(&mut text, figures, has_leases);
    latencies(&mut text, figures);
    faults(&mut text, figures);
    let changes: Vec<String> = figures
        .leader_changes
        .iter()
        .map(|(partition, count)| format!("partition {partition}: {count}"))
        .collect();
    if !changes.is_empty() {
        line(&mut text, &format!("leader changes  {}", changes.join(", ")));
    }
    for (from, to) in &figures.stalls {
        line(&mut text, &format!("harness stalled {from:.3} s to {to:.3} s"));
    }
    for death in &report.deaths {
        line(&mut text, &format!("node died       {}", death.to_string().lines().next().unwrap_or_default()));
        if matches!(death.cause, Cause::Unknown(_)) {
            death.log.lines().for_each(|last| line(&mut text, &format!("    {last}")));
        }
    }
    if report.mutant.is_some() {
        line(&mut text, &format!("planted bug     reached {} times", report.facts.mutant_reached));
    }
    for check in &report.checks {
        let status = match check.status {
            Status::Valid => "valid",
            Status::Unknown => "unknown",
            Status::Violation => "VIOLATION",
        };
        line(&mut text, &format!("check           {:<13} {status}: {}", name_of(check.name), check.words));
        for finding in check.findings.iter().take(SHOWN) {
            line(&mut text, &format!("    {}", finding.replace('\n', "\n    ")));
        }
        if check.findings.len() > SHOWN {
            line(&mut text, &format!("    … and {} more in verdict.json", check.findings.len() - SHOWN));
        }
    }
    for lacking in &report.missing {
        line(&mut text, &format!("missing         {lacking}"));
    }
    line(&mut text, &format!("results         {}", report.folder.display()));
    line(&mut text, &format!("report          {}", report.folder.join(html::FILE).display()));
    text
}

/// The last line.
pub fn verdict_line(report: &Report) -> String {
    let verdict = match report.verdict {
        Status::Valid => "valid",
        Status::Unknown => "unknown",
        Status::Violation => "violation",
    };
    format!("VERDICT {verdict} {} seed {}: {}", report.workload, report.seed, report.words)
}

fn operations(text: &mut String, figures: &Figures, has_leases: bool) {
    line(text, "operations            ok     fail     info");
    for (name, outcomes) in &figures.operations {
        line(text, &format!("  {name:<12} {:>9}{:>9}{:>9}", outcomes.ok, outcomes.fail, outcomes.info));
    }
    if has_leases || figures.fast_reads > 0 {
        line(text, &format!("fast reads      {}", figures.fast_reads));
    }
    if figures.local_reads > 0 {
        line(text, &format!("local reads     {}", figures.local_reads));
    }
    if !figures.ways.is_straight() {
        let Trip { redirects, gone, leaderless, behind, unknown } = figures.ways;
        let behind =
            if behind > 0 { format!(", {behind} times a replica was behind") } else { String::new() };
        let unknown =
            if unknown > 0 { format!(", {unknown} times asked again in a session") } else { String::new() };
        let words = format!(
            "{redirects}; {gone} times a node was gone, {leaderless} times none led{behind}{unknown}"
        );
        line(text, &format!("redirects       {words}"));
    }
}

fn latencies(text: &mut String, figures: &Figures) {
    line(text, "latency            count      per s      p50      p90      p99      max");
    for latency in &figures.latencies {
        let ms = |micros: u64| format!("{:.2}", micros as f64 / 1000.0);
        line(
            text,
            &format!(
                "  {:<12} {:>9} {:>10.1} {:>8} {:>8} {:>8} {:>8} ms",
                latency.way,
                latency.count,
                latency.per_second,
                ms(latency.p50),
                ms(latency.p90),
                ms(latency.p99),
                ms(latency.max)
            ),
        );
    }
}

fn faults(text: &mut String, figures: &Figures) {
    for fault in &figures.faults {
        let seconds = |nanos: u64| format!("{:.3} s", nanos as f64 / 1e9);
        let until = fault.to.map(|to| format!(" to {}", seconds(to))).unwrap_or_default();
        let struck = fault.struck.map(|struck| format!(", struck {struck}")).unwrap_or_default();
        let nodes: Vec<String> = fault.nodes.iter().map(u64::to_string).collect();
        let whom = match nodes.as_slice() {
            [] if fault.action == "heal" => String::new(),
            [] => " -> nobody".to_owned(),
            _ => format!(" -> node {}", nodes.join(", ")),
        };
        line(
            text,
            &format!(
                "fault {:<9} {} {}{whom}, {}{until}{struck}, {} operations overlap",
                fault.fault,
                fault.action,
                fault.target,
                seconds(fault.from),
                fault.overlapping
            ),
        );
    }
}

fn line(text: &mut String, line: &str) {
    // writing to a String cannot fail
    let _ = writeln!(text, "{line}");
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use checker::history::{Kind, Nemesis};

    use super::*;
    use crate::{
        cluster::Death,
        history_writer::Completed,
        report::{Check, Facts, missing},
        workload::{CheckName, Require},
    };

    fn operation(name: &'static str, kind: Kind, fast: bool, from_ms: u64, to_ms: u64) -> Completed {
        Completed {
            invoked: from_ms * 1_000_000,
            ended: to_ms * 1_000_000,
            name,
            kind,
            fast,
            local: false,
            trip: Trip::default(),
        }
    }

    fn fault(begins: bool, ms: u64) -> Nemesis {
        Nemesis {
            time: ms * 1_000_000,
            requested: ms * 1_000_000,
            fault: 1,
            begins,
            action: "kill".to_owned(),
            target: "leader(1)".to_owned(),
            nodes: vec![3],
            name: None,
            planned: None,
            struck: (!begins).then_some(1),
            instant: false,
        }
    }

    #[test]
    fn what_does_not_last_has_only_beside_it_what_was_under_way() {
        let instant = Nemesis { instant: true, action: "reset".to_owned(), ..fault(true, 400) };
        let completed =
            [operation("get", Kind::Ok, true, 399, 401), operation("get", Kind::Ok, true, 500, 501)];
        let required = Require { operations_per_fault: 2, ..Require::default() };
        for (fault, overlapping, missing_ones) in
            [(instant, 1, 0), (fault(true, 400), 2, 0), (fault(true, 450), 1, 1)]
        {
            let figures = Figures::gather(&completed, &[fault], 900_000_000, 2_000_000_000);
            assert_eq!(figures.faults[0].overlapping, overlapping);
            assert_eq!(missing(&required, &Facts::default(), &figures).len(), missing_ones);
        }
    }

    #[test]
    fn a_summary_says_everything_that_happened() {
        let trip = Trip { redirects: 2, gone: 1, ..Trip::default() };
        let completed = [
            Completed { trip, ..operation("get", Kind::Ok, true, 0, 1) },
            operation("get", Kind::Ok, false, 1, 4),
            operation("put", Kind::Ok, false, 500, 502),
            operation("put", Kind::Info, false, 502, 1000),
            operation("cas", Kind::Fail, false, 2, 3),
        ];
        let mut figures =
            Figures::gather(&completed, &[fault(true, 400), fault(false, 600)], 900_000_000, 2_000_000_000);
        figures.leader_changes.insert(1, 2);
        let report = Report {
            version: 1,
            workload: "smoke".to_owned(),
            seed: 7,
            verdict: Status::Violation,
            as_expected: false,
            exit_code: 1,
            words: "linearizable: key 1".to_owned(),
            missing: vec!["2 leader changes, 3 are required".to_owned()],
            checks: vec![Check {
                name: CheckName::Linearizable,
                status: Status::Violation,
                words: "key 1".to_owned(),
                findings: vec!["a stale read\nof key 1".to_owned()],
            }],
            facts: Facts::default(),
            figures,
            mutant: None,
            deaths: vec![Death {
                node: 2,
                cause: Cause::Unknown("was killed by signal 6".to_owned()),
                log: "first of the last words\nlast words".to_owned(),
            }],
            again: "harness smoke.toml --seed 7".to_owned(),
            folder: PathBuf::from("results/smoke/x-7"),
        };
        let expected = "\
smoke seed 7, 2.0 s
operations            ok     fail     info
  cas                  0        1        0
  get                  2        0        0
  put                  1        0        1
fast reads      1
redirects       2; 1 times a node was gone, 0 times none led
latency            count      per s      p50      p90      p99      max
  fast reads           1        1.0     1.00     1.00     1.00     1.00 ms
  log reads            1        1.0     3.00     3.00     3.00     3.00 ms
  writes               1        1.0     2.00     2.00     2.00     2.00 ms
fault 1         kill leader(1) -> node 3, 0.400 s to 0.600 s, struck 1, 1 operations overlap
leader changes  partition 1: 2
node died       node 2 was killed by signal 6, and nobody had killed it
    first of the last words
    last words
check           linearizable  VIOLATION: key 1
    a stale read
    of key 1
missing         2 leader changes, 3 are required
results         results/smoke/x-7
report          results/smoke/x-7/report.html
";
        assert_eq!(render(&report), expected);
        assert_eq!(verdict_line(&report), "VERDICT violation smoke seed 7: linearizable: key 1");
    }
}
