//! What is checked when a run is over: the recorded history and traces, as they are on disk.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::{Context, Result};
use checker::{
    history::History,
    lease_safety,
    linearizability::{self, Budget, Verdict},
    sequential,
};

use super::{Carried, Run};
use crate::{
    cluster::{Cause, Death},
    plan::Plan,
    report::{Check, Facts, Figures, Report, Status},
    script::ScriptReport,
    stall::Stall,
    statements::{self, Evidence, Judged},
    workload::{CheckName, Consistency, FINAL_READS, core_in_words},
};

/// Checks a run that is over.
pub async fn report(run: &Arc<Run>, carried: Carried, folder: PathBuf, again: String) -> Result<Report> {
    let faults = run.history.faults();
    let mut figures =
        Figures::gather(&run.history.completed_since(0), &faults, carried.healed, carried.ended);
    figures.leader_changes = run.cluster.leader_changes();
    let seconds = |nanos: u64| nanos as f64 / 1e9;
    figures.stalls =
        run.stalls.windows().iter().map(|stall| (seconds(stall.from), seconds(stall.to))).collect();
    let mut facts =
        Facts { keys: run.keys.len(), keys_read_at_the_end: carried.keys_read, ..Facts::default() };
    let plan = Arc::clone(&run.plan);
    let stalls = run.stalls.windows();
    let answered = figures.answered() > 0;
    let deaths = run.cluster.deaths();
    let changes = run.cluster.leader_change_times();
    // the checks compute for seconds; Ctrl-C is still heard
    tokio::task::spawn_blocking(move || {
        let mut checks = all(&plan, &folder, &carried, (&stalls, answered), &mut facts)?;
        if !plan.expect.that.is_empty() {
            let history = read(&folder)?;
            let evidence = Evidence {
                plan: &plan,
                history: &history,
                leader_changes: &changes,
                failed_elections: facts.failed_elections.as_ref(),
                stalls: &stalls,
            };
            checks.push(stated(&evidence));
        }
        hear_assertions(&mut checks, &deaths);
        let mut report = Report::new(&plan, folder, checks, facts, figures, &faults, deaths);
        report.again = again;
        report.missing.extend(carried.cut_short.map(|why| format!("the end of the run: {why}")));
        Ok(report)
    })
    .await
    .context("a check ended early")?
}

fn all(
    plan: &Plan,
    folder: &Path,
    carried: &Carried,
    (stalls, answered): (&[Stall], bool),
    facts: &mut Facts,
) -> Result<Vec<Check>> {
    let mut checks = Vec::new();
    match plan.checks.consistency {
        Consistency::Linearizable => checks.push(linearizable(plan, folder)?),
        Consistency::Sequential => checks.push(sequential(folder)?),
        Consistency::Unchecked => {}
    }
    if plan.checks.lease_safety {
        checks.push(lease_safe(plan, folder, facts));
    }
    if plan.checks.progress && plan.phases.final_reads && carried.cut_short.is_none() {
        checks.push(progress(plan, carried, (stalls, answered), facts));
    }
    checks.extend(carried.script.as_ref().map(script));
    Ok(checks)
}

fn linearizable(plan: &Plan, folder: &Path) -> Result<Check> {
    let history = read(folder)?;
    let budget = Budget { time: Some(plan.checks.budget.0), ..Budget::default() };
    let report = linearizability::check(&history, budget);
    let (status, findings) = match report.verdict() {
        Verdict::Valid => (Status::Valid, Vec::new()),
        Verdict::Violation(_) => {
            let texts = report.keys.iter().filter_map(|key| match &key.verdict {
                Verdict::Violation(violation) => Some(violation.text.clone()),
                _ => None,
            });
            (Status::Violation, texts.collect())
        }
        Verdict::Unknown(undecided) => {
            let words = format!(
                "{}: {} of {} operations of key {:?} put in order",
                undecided.reason, undecided.placed, undecided.completed, undecided.key
            );
            (Status::Unknown, vec![words])
        }
    };
    let words = match status {
        Status::Violation => format!("{} of {} keys have no linear order", findings.len(), report.keys.len()),
        _ => format!("{} operations on {} keys", report.operations, report.keys.len()),
    };
    let words = format!("{words}, {:.2} s", report.elapsed as f64 / 1e9);
    Ok(Check { name: CheckName::Linearizable, status, words, findings })
}

fn sequential(folder: &Path) -> Result<Check> {
    let report = sequential::check(&read(folder)?);
    let (violations, undecided) = (report.violations.len(), report.undecided.len());
    let exercised = format!(
        "{} operations of {} sessions, {} local reads, {} of them behind a write that had returned",
        report.operations, report.sessions, report.local_reads, report.stale_reads
    );
    let (status, words, findings) = match report.verdict() {
        sequential::Verdict::Valid => (Status::Valid, exercised, Vec::new()),
        sequential::Verdict::Violation => {
            let texts = report.violations.into_iter().map(|violation| violation.text).collect();
            (Status::Violation, format!("{violations} promises broken; {exercised}"), texts)
        }
        sequential::Verdict::Unknown => {
            (Status::Unknown, format!("{undecided} things undecided; {exercised}"), report.undecided)
        }
    };
    Ok(Check { name: CheckName::Sequential, status, words, findings })
}

fn read(folder: &Path) -> Result<History> {
    History::read(&folder.join("history.jsonl")).context("the history cannot be read")
}

fn stated(evidence: &Evidence<'_>) -> Check {
    let judged = statements::judge(evidence);
    let status = judged.iter().map(|statement| statement.status).max().unwrap_or(Status::Valid);
    let is_true = |statement: &&Judged| statement.status == Status::Valid;
    let words = format!("{} of {} statements are true", judged.iter().filter(is_true).count(), judged.len());
    let findings = judged
        .into_iter()
        .filter(|statement| statement.status != Status::Valid)
        .map(|statement| statement.words);
    Check { name: CheckName::Statements, status, words, findings: findings.collect() }
}

/// What else was found counts although the traces cannot be read, or tell nothing.
fn lease_safe(plan: &Plan, folder: &Path, facts: &mut Facts) -> Check {
    let unknown = |words: String| {
        let (name, status, findings) = (CheckName::LeaseSafety, Status::Unknown, Vec::new());
        Check { name, status, words, findings }
    };
    let report = match lease_safety::check(folder) {
        Ok(report) => report,
        Err(error) => return unknown(format!("the traces cannot be read: {error}")),
    };
    let exercise = &report.exercise;
    facts.fast_reads_near_expiry = Some(exercise.fast_reads_near_expiry);
    facts.failed_elections = Some(exercise.failed_elections.clone());
    facts.mutant_reached = exercise.mutants.values().sum();
    facts.snapshots_fetched = exercise.snapshots_fetched;
    let exercised = format!(
        "{} holds extended {} times, {} fast reads ({} near their expiry), {} decisions compared, {} snapshots fetched",
        exercise.holds,
        exercise.extensions,
        exercise.fast_reads,
        exercise.fast_reads_near_expiry,
        exercise.entries_compared,
        exercise.snapshots_fetched
    );
    let counts: Vec<String> = report
        .counts
        .iter()
        .map(|(invariant, count)| format!("{invariant} violated {count} times"))
        .collect();
    let (status, words) = if report.is_valid() {
        if exercise.boots == 0 || plan.cluster.lease.is_some() && !report.leases {
            return unknown("no start of a node is in the traces".to_owned());
        }
        (Status::Valid, exercised)
    } else {
        (Status::Violation, format!("{}; {exercised}", counts.join(", ")))
    };
    let findings = report.violations.iter().map(ToString::to_string).collect();
    Check { name: CheckName::LeaseSafety, status, words, findings }
}

/// An assertion of a core that fails is a finding of lease safety, as in simulated time: it states what must always hold.
fn hear_assertions(checks: &mut Vec<Check>, deaths: &[Death]) {
    let is_assertion = |death: &&Death| matches!(death.cause, Cause::Assertion(_));
    let findings: Vec<String> = deaths.iter().filter(is_assertion).map(ToString::to_string).collect();
    let Some(first) = findings.first().and_then(|finding| finding.lines().next()).map(str::to_owned) else {
        return;
    };
    match checks.iter_mut().find(|check| check.name == CheckName::LeaseSafety) {
        Some(check) => {
            check.status = Status::Violation;
            check.words = format!("{first}; {}", check.words);
            check.findings.splice(0..0, findings);
        }
        None => checks.push(Check {
            name: CheckName::LeaseSafety,
            status: Status::Violation,
            words: first,
            findings,
        }),
    }
}

/// What was not read in time is nobody's fault when the harness itself stood still between the heal and the end.
/// The store says when it serves clients. Another system that has never answered anything may not be asked in its own words: that
/// it answers nothing after the faults either says nothing of them.
fn progress(plan: &Plan, carried: &Carried, (stalls, answered): (&[Stall], bool), facts: &Facts) -> Check {
    let (read, keys) = (facts.keys_read_at_the_end, facts.keys);
    let words = if carried.core.len() as u64 == plan.nodes {
        format!("{read} of {keys} keys read after everything was healed")
    } else {
        let bound = FINAL_READS.as_secs();
        format!("{read} of {keys} keys read within {bound} s through {}", core_in_words(&carried.core))
    };
    let stalled = stalls.iter().any(|stall| stall.from <= carried.ended && stall.to >= carried.healed);
    let (status, words) = match (carried.unread.is_empty(), stalled) {
        (true, _) => (Status::Valid, words),
        (false, _) if !answered && !plan.system.is_store() => {
            (Status::Unknown, format!("{words} (nothing was ever answered: this decides nothing)"))
        }
        (false, false) => (Status::Violation, words),
        (false, true) => {
            (Status::Unknown, format!("{words} (the harness stalled meanwhile: this decides nothing)"))
        }
    };
    Check { name: CheckName::Progress, status, words, findings: carried.unread.clone() }
}

fn script(report: &ScriptReport) -> Check {
    let words = format!("{} of {} steps as expected", report.passed, report.steps);
    let (status, findings) = match &report.failure {
        None => (Status::Valid, Vec::new()),
        Some(failure) if report.stalled => {
            let words = format!(
                "{}: {} (the harness stalled meanwhile: this decides nothing)",
                failure.step, failure.words
            );
            (Status::Unknown, vec![words])
        }
        Some(failure) => (Status::Violation, vec![format!("{}: {}", failure.step, failure.words)]),
    };
    Check { name: CheckName::Script, status, words, findings }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workload;

    #[test]
    fn a_bound_that_was_missed_while_the_harness_stood_still_decides_nothing() {
        let plan = plan_of("[cluster]\nnodes = 3\npartitions = [{}]\nlease = 'off'");
        let unread = vec!["key 1: no answer in time".to_owned()];
        let late = Carried { healed: 100, ended: 200, core: plan.node_ids(), unread, ..Carried::default() };
        let status = |carried: &Carried, from, to| {
            progress(&plan, carried, (&[Stall { from, to }], true), &Facts::default()).status
        };
        assert_eq!(status(&late, 10, 99), Status::Violation, "before the heal");
        assert_eq!(status(&late, 90, 110), Status::Unknown);
        assert_eq!(status(&late, 150, 160), Status::Unknown);
        assert_eq!(status(&late, 201, 300), Status::Violation, "after the end");
        let fine = Carried { unread: Vec::new(), ..late };
        assert_eq!(status(&fine, 150, 160), Status::Valid);
    }

    fn plan_of(text: &str) -> Plan {
        let workload = workload::parse(Path::new("w.toml"), text);
        Plan::new(workload.unwrap_or_else(|problem| panic!("{problem}")), 0)
    }

    #[test]
    fn another_system_that_never_answers_has_lost_nothing_to_the_faults() {
        let status = |text: &str, answered| {
            let plan = plan_of(text);
            let unread = vec!["key 1: no answer in time".to_owned()];
            let carried = Carried { core: plan.node_ids(), unread, ..Carried::default() };
            progress(&plan, &carried, (&[], answered), &Facts::default()).status
        };
        let other = "[target]\nkind = 'etcd'\n[cluster]\nnodes = 3";
        assert_eq!(status(other, false), Status::Unknown);
        assert_eq!(status(other, true), Status::Violation);
        let store = "[cluster]\nnodes = 3\npartitions = [{}]\nlease = 'off'";
        assert_eq!(status(store, false), Status::Violation, "it has said that it serves");
    }
}
