//! `report.html`: a run at a glance, in one file that is read offline, without a server.
//!
//! It is made from what stands in the run's folder, so that an old run, one that failed half-way, and a simulated one get
//! theirs in the same way. What the run did not record is said in the page, and not invented.

mod columns;
mod finding;
mod intervals;
mod pack;
mod page;
mod sample;
mod series;

use std::{
    io::Write as _,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};
use checker::history::Nemesis;
use serde::Serialize;

use crate::{
    proxy::LinkCounters,
    recorded::{CheckWords, Recorded, end_of},
    results::write_whole,
    terminal::{PROGRAM, for_shell},
};
use columns::Columns;
use finding::Findings;
use intervals::Roles;
use page::Headline;
use sample::Sample;
use series::{Throughput, Way};

/// The file in a run's folder.
pub const FILE: &str = "report.html";

/// Writes the report of a run's folder, whole or not at all; where it is.
pub fn write(folder: &Path) -> Result<PathBuf> {
    let run = Recorded::read(folder)?;
    let text = render(&run)?;
    let path = run.folder.join(FILE);
    write_whole(&path, |out| Ok(out.write_all(text.as_bytes())?))?;
    Ok(path)
}

/// All that the page shows.
#[derive(Debug, Serialize)]
struct Data<'a> {
    workload: &'a str,
    about: Option<&'a str>,
    seed: u64,
    folder: String,
    simulated: bool,
    verdict: Judged,
    /// Nanoseconds that the common clock showed when the run began.
    origin: u64,
    /// Microseconds from the beginning of the run to its last record.
    span: u64,
    phases: Vec<(u64, &'a str)>,
    faults: Vec<Fault<'a>>,
    /// Microseconds in which the harness itself stood still.
    stalls: Vec<(u64, u64)>,
    nodes: Vec<u64>,
    throughput: Throughput,
    ways: Vec<Way>,
    sample: Sample,
    operations: Columns,
    roles: Roles,
    findings: Findings,
    links: Option<&'a [LinkCounters]>,
    lacking: &'a [String],
}

/// The verdict.
#[derive(Debug, Serialize)]
struct Judged {
    verdict: String,
    line: String,
    again: String,
    as_expected: Option<bool>,
    exit_code: Option<u8>,
    mutant: Option<String>,
    missing: Vec<String>,
    deaths: Vec<String>,
    checks: Vec<CheckWords>,
}

/// A fault, from its beginning to its end.
#[derive(Debug, PartialEq, Eq, Serialize)]
struct Fault<'a> {
    number: u64,
    action: &'a str,
    target: &'a str,
    name: Option<&'a str>,
    nodes: &'a [u64],
    /// Microseconds: when it was asked for, in effect, and undone.
    requested: u64,
    from: u64,
    to: Option<u64>,
    /// It did not last: it ends where it begins.
    instant: bool,
    struck: Option<u64>,
}

fn render(run: &Recorded) -> Result<String> {
    let span = run.last.div_ceil(1000).max(1);
    let mut findings = Findings::look(run);
    let core = findings.core();
    let sample = sample::choose(run, &core);
    findings.point_into(&sample.kept);
    let verdict = judged(run, &findings);
    let headline = Headline {
        verdict: verdict.verdict.clone(),
        line: verdict.line.clone(),
        again: verdict.again.clone(),
    };
    let data = Data {
        workload: &run.header.workload,
        about: run.plan.as_ref().and_then(|plan| plan.about.as_deref()),
        seed: run.header.seed,
        folder: run.folder.file_name().unwrap_or_default().to_string_lossy().into_owned(),
        simulated: run.simulated(),
        verdict,
        origin: run.header.origin,
        span,
        phases: run.phases.iter().map(|phase| (phase.time / 1000, phase.name.as_str())).collect(),
        faults: faults(&run.faults),
        stalls: run.verdict.iter().flat_map(|verdict| &verdict.figures.stalls).map(in_micros).collect(),
        nodes: nodes(run),
        throughput: Throughput::of(&run.operations, span),
        ways: series::ways(&run.operations, span),
        operations: Columns::pack(run, &sample.kept, &core),
        sample,
        roles: intervals::roles(run),
        findings,
        links: run.links.as_deref(),
        lacking: &run.lacking,
    };
    page::page(&headline, &data).context("the report cannot be put together")
}

fn in_micros((from, to): &(f64, f64)) -> (u64, u64) {
    ((from * 1e6) as u64, (to * 1e6) as u64)
}

/// The verdict of the run, or, of one that has left none, what can be said from its record.
fn judged(run: &Recorded, findings: &Findings) -> Judged {
    let recorded = run.verdict.clone();
    let simulated = if run.simulated() { "simulated " } else { "" };
    let of = format!("{simulated}{} seed {}", run.header.workload, run.header.seed);
    let again = recorded.as_ref().and_then(|verdict| verdict.again.clone()).unwrap_or_else(|| again(run));
    let Some(verdict) = recorded else {
        let (verdict, why) = match findings.first_words() {
            Some(words) => ("violation", words),
            None => ("unknown", "the run has left no verdict: it was interrupted, or it failed".to_owned()),
        };
        let mutant = run.plan.as_ref().and_then(|plan| plan.test.mutant);
        return Judged {
            verdict: verdict.to_owned(),
            line: format!("{of}: {why}"),
            again,
            as_expected: None,
            exit_code: None,
            mutant: mutant.map(|mutant| format!("{mutant:?}")),
            missing: Vec::new(),
            deaths: Vec::new(),
            checks: Vec::new(),
        };
    };
    Judged {
        line: format!("{of}: {}", verdict.words),
        again,
        deaths: verdict.deaths_in_words(),
        verdict: verdict.status,
        as_expected: verdict.as_expected,
        exit_code: verdict.exit_code,
        mutant: verdict.mutant,
        missing: verdict.missing,
        checks: verdict.checks,
    }
}

/// How to do it again, of a run whose verdict does not say so: its plan says all that a run is told.
fn again(run: &Recorded) -> String {
    let how = if run.simulated() { "sim --tale --plans" } else { "run --plans" };
    match &run.plan {
        Some(_) => {
            format!("{PROGRAM} {how} {}", for_shell(&run.folder.join("plan.toml")))
        }
        None => "the run has left no plan that could be run again".to_owned(),
    }
}

fn faults(records: &[Nemesis]) -> Vec<Fault<'_>> {
    let begun = records.iter().filter(|record| record.begins);
    let fault = begun.map(|begin| Fault {
        number: begin.fault,
        action: &begin.action,
        target: &begin.target,
        name: begin.name.as_deref(),
        nodes: &begin.nodes,
        requested: begin.requested / 1000,
        from: begin.time / 1000,
        to: end_of(begin, records).map(|end| end.time / 1000).or(begin.instant.then_some(begin.time / 1000)),
        instant: begin.instant,
        struck: end_of(begin, records).and_then(|end| end.struck).or(begin.struck),
    });
    fault.collect()
}

/// All nodes that the plan or the traces know of.
fn nodes(run: &Recorded) -> Vec<u64> {
    let planned = run.plan.iter().flat_map(crate::plan::Plan::node_ids);
    let traced = run.traces.iter().flat_map(|traces| &traces.nodes);
    let traced = traced.filter_map(|trace| trace.lines.first().map(|(_, line)| line.node));
    let mut nodes: Vec<u64> = planned.chain(traced).collect();
    nodes.sort_unstable();
    nodes.dedup();
    nodes
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::recorded::{Operation, Outcome, What};

    /// An answered read, invoked and taking so many nanoseconds.
    pub(super) fn operation(invoked: u64, took: u64) -> Operation {
        Operation {
            invoked,
            ended: Some(invoked + took),
            line: 0,
            end_line: 0,
            process: 1,
            client: 1,
            node: 1,
            last_node: 1,
            what: What::Get,
            outcome: Outcome::Ok,
            key: 1,
            integer: true,
            value: 0,
            expected: 0,
            returned: 0,
            swapped: None,
            version: 0,
            index: 0,
            leader: 1,
            ballot: 0,
            fast: true,
            local: false,
            error: 0,
            trip: 0,
        }
    }

    const HEADER: &str = r#"{"record":"header","workload":"w","seed":7,"origin":1000,"initial":[]}"#;

    /// A run that has left nothing but a history of these lines behind its header.
    pub(super) fn recorded(lines: &[String]) -> Recorded {
        traced(lines, &[])
    }

    /// The same with a trace of these lines.
    pub(super) fn traced(lines: &[String], trace: &[String]) -> Recorded {
        let folder = tempfile::tempdir().expect("a folder");
        let write = |name: &str, text: String| fs::write(folder.path().join(name), text).expect("written");
        write("history.jsonl", format!("{HEADER}\n{}\n", lines.join("\n")));
        fs::create_dir(folder.path().join("trace")).expect("made");
        write("trace/node-1.jsonl", trace.join("\n") + "\n");
        Recorded::read(folder.path()).expect("a history")
    }

    #[test]
    fn a_fault_lasts_until_it_is_undone() {
        let fault = |time: u64, fault: u64, begins: bool| {
            let rest = r#""action":"pause","target":"node 1","nodes":[1]"#;
            format!(
                r#"{{"record":"nemesis","time":{time},"requested":{time},"fault":{fault},"begins":{begins},{rest}}}"#
            )
        };
        let instant = fault(4000, 3, true).replace("pause", "reset").replace("[1]", "[1],\"instant\":true");
        let run = recorded(&[fault(1000, 1, true), fault(3000, 2, true), instant, fault(5000, 1, false)]);
        let spans: Vec<_> = faults(&run.faults).iter().map(|fault| (fault.from, fault.to)).collect();
        assert_eq!(spans, [(1, Some(5)), (3, None), (4, Some(4))]);
    }

    #[test]
    fn a_run_without_a_verdict_is_never_valid() {
        let run = recorded(&[r#"{"record":"phase","time":5,"name":"boot"}"#.to_owned()]);
        let judged = judged(&run, &Findings::look(&run));
        assert_eq!(judged.verdict, "unknown");
        assert!(judged.line.contains("left no verdict"), "{}", judged.line);
        assert!(render(&run).expect("a page").contains("traces"), "what is not there is said");
    }
}
