//! What a failing run fails of: the smallest part of the history that has no order, with the order that gets furthest, and
//! the events that contradict the leases. A run whose verdict says that all is well is not searched again.

mod furthest;
mod spacetime;

use std::{collections::BTreeSet, time::Duration};

use checker::{
    history::History,
    lease_safety::{self, Evidence},
    linearizability::{self, Budget},
    sequential,
};
use serde::Serialize;

use crate::{
    recorded::{HISTORY, Recorded},
    report::name_of,
    workload::{CheckName, Consistency},
};
use spacetime::SpaceTime;

/// Most violations of a kind that are shown; all are counted.
const SHOWN: usize = 6;
/// The verdict is known: this is only about showing it.
const EFFORT: Duration = Duration::from_secs(20);

/// What was found.
#[derive(Debug, Default, Serialize)]
pub(super) struct Findings {
    keys: Vec<KeyFinding>,
    /// Keys without an order.
    keys_in_all: usize,
    leases: Vec<LeaseFinding>,
    leases_in_all: usize,
    sessions: Vec<SessionFinding>,
    sessions_in_all: usize,
    /// What happened on the nodes around the first of them.
    spacetime: Option<SpaceTime>,
}

/// A key whose history has no order.
#[derive(Debug, Serialize)]
struct KeyFinding {
    key: String,
    /// In words.
    text: String,
    /// The operations that have no order even on their own, by invocation: indices of the run's operations, and after
    /// [`Findings::point_into`] of those that are drawn.
    operations: Vec<usize>,
    /// The place in `operations` of the one whose answer no order explains.
    culprit: Option<usize>,
    /// The order that gets furthest: places in `operations`, each with the value that it leaves.
    furthest: Vec<(usize, Option<String>)>,
    /// What the key held before the first of them.
    initial: Option<String>,
}

/// Events that contradict each other.
#[derive(Debug, Serialize)]
struct LeaseFinding {
    invariant: String,
    text: String,
    evidence: Vec<Mark>,
}

/// An event of a trace or of the history.
#[derive(Debug, Serialize)]
struct Mark {
    file: String,
    line: usize,
    /// Microseconds of the history.
    time: i64,
    text: String,
}

/// A promise to sessions that was broken.
#[derive(Debug, Serialize)]
struct SessionFinding {
    text: String,
    /// The operation on whose line it shows.
    operation: Option<usize>,
}

impl Findings {
    /// Looks for what the verdict says is there; without a verdict, for what the plan has checked.
    pub(super) fn look(run: &Recorded) -> Self {
        let wanted = |check| match (&run.verdict, &run.plan) {
            (Some(verdict), _) => {
                verdict.checks.iter().any(|said| name_of(check) == said.name && said.status == "violation")
            }
            (None, Some(plan)) => match check {
                CheckName::Linearizable => plan.checks.consistency == Consistency::Linearizable,
                CheckName::Sequential => plan.checks.consistency == Consistency::Sequential,
                _ => plan.checks.lease_safety,
            },
            // what the run promised is not known
            (None, None) => false,
        };
        let mut findings = Self::default();
        if ![CheckName::Linearizable, CheckName::LeaseSafety, CheckName::Sequential].into_iter().any(wanted) {
            return findings;
        }
        // what is malformed was said by the checks
        let Ok(history) = History::read(&run.folder.join(HISTORY)) else { return findings };
        if wanted(CheckName::Linearizable) {
            findings.take_keys(run, &history);
        }
        if wanted(CheckName::LeaseSafety) {
            findings.take_leases(run, &history);
        }
        if wanted(CheckName::Sequential) {
            findings.take_sessions(run, &history);
        }
        findings.spacetime = findings.centre(run).map(|centre| SpaceTime::around(run, &centre));
        findings
    }

    fn take_keys(&mut self, run: &Recorded, history: &History) {
        let report = linearizability::check(history, Budget { time: Some(EFFORT), ..Budget::default() });
        for key in report.keys {
            let linearizability::Verdict::Violation(violation) = key.verdict else { continue };
            self.keys_in_all += 1;
            if self.keys.len() == SHOWN {
                continue;
            }
            let line = |index: &usize| history.operations[*index].invoked.position as u32;
            let operations: Vec<usize> =
                violation.operations.iter().filter_map(|index| on_line(run, line(index))).collect();
            let ends = |&index: &usize| run.operations[index].end_line as usize == violation.line;
            let culprit = operations.iter().position(ends);
            let initial = history.header.initial.iter().find(|(of, _)| *of == violation.key);
            let initial = initial.map(|(_, value)| value.clone());
            let furthest = furthest::order(run, &operations, initial.as_deref(), culprit);
            let text = |state| run.texts.get(state).map(str::to_owned);
            self.keys.push(KeyFinding {
                key: violation.key.to_string(),
                text: violation.text,
                culprit,
                furthest: furthest.into_iter().map(|(place, state)| (place, text(state))).collect(),
                initial,
                operations,
            });
        }
    }

    fn take_leases(&mut self, run: &Recorded, history: &History) {
        let Some(traces) = &run.traces else { return };
        let report = lease_safety::check_traces(traces, history);
        self.leases_in_all = report.counts.values().sum();
        let mark = |evidence: Evidence| {
            let Evidence { file, line, time, text } = evidence;
            Mark { file, line, time: time / 1000, text }
        };
        self.leases = report
            .violations
            .into_iter()
            .take(2 * SHOWN)
            .map(|violation| LeaseFinding {
                invariant: violation.invariant.to_string(),
                text: violation.text,
                evidence: violation.evidence.into_iter().map(mark).collect(),
            })
            .collect();
    }

    fn take_sessions(&mut self, run: &Recorded, history: &History) {
        let report = sequential::check(history);
        self.sessions_in_all = report.violations.len();
        let violations = report.violations.into_iter().take(SHOWN);
        self.sessions = violations
            .map(|violation| SessionFinding {
                operation: run
                    .operations
                    .iter()
                    .position(|operation| operation.end_line as usize == violation.line),
                text: violation.text,
            })
            .collect();
    }

    /// The moment around which it is worth looking.
    fn centre(&self, run: &Recorded) -> Option<spacetime::Centre> {
        if let Some(key) = self.keys.first() {
            let centre = key.operations.get(key.culprit?).map(|&index| &run.operations[index])?;
            return Some(spacetime::Centre::of_operation(run, centre, &key.operations));
        }
        let first = self.leases.first()?;
        spacetime::Centre::of_times(run, first.evidence.iter().map(|mark| mark.time))
    }

    /// The operations that show what was found.
    pub(super) fn core(&self) -> BTreeSet<usize> {
        let of_keys = self.keys.iter().flat_map(|key| &key.operations);
        let of_sessions = self.sessions.iter().filter_map(|session| session.operation.as_ref());
        let of_spacetime = self.spacetime.iter().flat_map(|spacetime| &spacetime.operations);
        of_keys.chain(of_sessions).chain(of_spacetime).copied().collect()
    }

    /// From now on operations are named by their places among those that are drawn, which are all of the core.
    pub(super) fn point_into(&mut self, kept: &[usize]) {
        let place = |index: &mut usize| {
            *index = kept.binary_search(index).expect("operations that show a violation are kept");
        };
        self.keys.iter_mut().flat_map(|key| &mut key.operations).for_each(place);
        self.sessions.iter_mut().filter_map(|session| session.operation.as_mut()).for_each(place);
        self.spacetime.iter_mut().flat_map(|spacetime| &mut spacetime.operations).for_each(place);
    }

    /// The first of them in a line; none: nothing was found.
    pub(super) fn first_words(&self) -> Option<String> {
        let key = self.keys.first().map(|key| format!("linearizable: {}", first_line(&key.text)));
        let lease = self.leases.first();
        let lease =
            lease.map(|lease| format!("lease-safety: {}: {}", lease.invariant, first_line(&lease.text)));
        let session =
            self.sessions.first().map(|session| format!("sequential: {}", first_line(&session.text)));
        key.or(lease).or(session)
    }
}

fn first_line(text: &str) -> &str {
    text.lines().next().unwrap_or_default().trim_end_matches(':')
}

/// The operation that was invoked on this line of the history.
fn on_line(run: &Recorded, line: u32) -> Option<usize> {
    run.operations.binary_search_by_key(&line, |operation| operation.line).ok()
}
