//! The checks at the end of a simulated run, on the history and the traces in memory.

use std::collections::BTreeMap;

use checker::{
    history::{History, Trip},
    lease_safety::{self, Traces},
    linearizability::{self, Budget, Verdict},
    sequential,
};
use store::api::PartitionId;

use super::{Stats, watch::Finding};
use crate::{
    report::{Facts, Figures, NEVER_REACHED, Outcomes, Status, fault_figures, lacking, missing},
    run::all_keys,
    statements::{self, Evidence},
    workload::{CheckName, ExpectedVerdict},
};

/// Transitions that the search may spend on one key. Counted and not timed, so that the verdict depends on the seed alone.
const STEPS: u64 = 20_000_000;

/// What the checks say.
#[derive(Debug, Default)]
pub struct Judgement {
    /// What is wrong.
    pub findings: Vec<Finding>,
    /// What could not be decided.
    pub undecided: Vec<String>,
}

impl Judgement {
    /// Judges the history.
    pub fn linearizable(&mut self, history: &History) {
        let budget = Budget { steps: Some(STEPS), threads: Some(1), ..Budget::default() };
        for key in linearizability::check(history, budget).keys {
            match key.verdict {
                Verdict::Valid => {}
                Verdict::Violation(violation) => {
                    self.findings.push(Finding { by: CheckName::Linearizable, text: violation.text });
                }
                Verdict::Unknown(undecided) => self.undecided.push(format!(
                    "linearizable: {}: {} of {} operations of key {} put in order",
                    undecided.reason, undecided.placed, undecided.completed, undecided.key
                )),
            }
        }
    }

    /// Judges the history by the log that its answers tell of.
    pub fn sequential(&mut self, history: &History) {
        let report = sequential::check(history);
        let findings = report.violations.into_iter().map(|violation| violation.text);
        self.findings.extend(findings.map(|text| Finding { by: CheckName::Sequential, text }));
        self.undecided.extend(report.undecided.into_iter().map(|what| format!("sequential: {what}")));
    }

    /// Judges what the workload states.
    pub fn stated(&mut self, evidence: &Evidence<'_>) {
        for statement in statements::judge(evidence) {
            match statement.status {
                Status::Valid => {}
                Status::Violation => {
                    self.findings.push(Finding { by: CheckName::Statements, text: statement.words });
                }
                Status::Unknown => self.undecided.push(statement.words),
            }
        }
    }

    /// Judges whether the run contained what the workload asks for, as of a real run: without it, nothing is shown.
    pub fn contained(&mut self, stats: &Stats, evidence: &Evidence<'_>) {
        let Evidence { plan, history, leader_changes, .. } = *evidence;
        let answered = history.operations.iter();
        let answered =
            answered.filter_map(|operation| Some((operation.invoked.time, operation.returned?.time)));
        let healed = history
            .phases
            .iter()
            .find(|phase| phase.name == "heal")
            .map_or(stats.simulated, |heal| heal.time);
        let figures = Figures {
            operations: [("all", Outcomes { ok: stats.answered, ..Outcomes::default() })].into(),
            fast_reads: stats.fast_reads,
            local_reads: stats.local_reads,
            ways: Trip { redirects: stats.redirects, unknown: stats.asked_again, ..Trip::default() },
            leader_changes: statements::counts(leader_changes),
            faults: fault_figures(&answered.collect::<Vec<_>>(), &history.faults, healed),
            ..Figures::default()
        };
        let keys = all_keys(plan).len();
        let facts = Facts {
            fast_reads_near_expiry: Some(stats.near_expiry as usize),
            keys,
            keys_read_at_the_end: if plan.phases.final_reads { keys - stats.keys_unread as usize } else { 0 },
            mutant_reached: stats.mutant_reached as usize,
            snapshots_fetched: stats.snapshots_fetched as usize,
            failed_elections: evidence.failed_elections.cloned(),
        };
        self.undecided.extend(missing(&plan.require, &facts, &figures));
        self.undecided.extend(lacking(plan, &history.faults));
        // of seeds that are to find a planted bug, all together tell whether it was reached
        let control = plan.test.mutant.is_some() && plan.expect.verdict == ExpectedVerdict::Valid;
        if control && stats.mutant_reached == 0 {
            self.undecided.push(NEVER_REACHED.to_owned());
        }
    }

    /// Judges the traces, and says how many elections of each partition failed.
    pub fn lease_safe(&mut self, traces: &Traces, history: &History) -> BTreeMap<PartitionId, u64> {
        let report = lease_safety::check_traces(traces, history);
        let findings = report.violations.iter().map(ToString::to_string);
        self.findings.extend(findings.map(|text| Finding { by: CheckName::LeaseSafety, text }));
        report.exercise.failed_elections
    }
}
