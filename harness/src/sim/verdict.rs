//! The checks at the end of a simulated run, on the history and the traces in memory.

use checker::{
    history::History,
    lease_safety::{self, Traces},
    linearizability::{self, Budget, Verdict},
    sequential,
};

use super::watch::Finding;
use crate::{
    report::Status,
    statements::{self, Evidence},
    workload::CheckName,
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

    /// Judges the traces.
    pub fn lease_safe(&mut self, traces: &Traces, history: &History) {
        let report = lease_safety::check_traces(traces, history);
        let findings = report.violations.iter().map(ToString::to_string);
        self.findings.extend(findings.map(|text| Finding { by: CheckName::LeaseSafety, text }));
    }
}
