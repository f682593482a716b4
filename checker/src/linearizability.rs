//! Whether a history is linearizable (Herlihy & Wing 1990): whether every operation can be given one moment between its
//! invocation and its completion such that the operations, in the order of these moments, are what a register would do.
//!
//! Keys are judged one by one, in parallel, and the result does not depend on the number of threads unless a budget runs
//! out. A budget that runs out makes a key unknown, and unknown is never valid.

mod needs;
pub(crate) mod problem;
pub(crate) mod search;
pub(crate) mod unique;
mod witness;

use rustc_hash::FxHashMap;
use serde::Serialize;

pub use crate::budget::Budget;
use crate::budget::{Limits, Stopwatch};
use crate::compact::Compact;
use crate::explain;
use crate::history::{Function, History, Key, Operation};
use crate::judge::in_parallel;
use problem::{Position, Problem};
use search::{Answer, Outcome};

/// The verdict of a key or of a history.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "verdict", rename_all = "kebab-case")]
pub enum Verdict {
    /// Linearizable.
    Valid,
    /// Not linearizable.
    Violation(Violation),
    /// Not decided: a budget ran out, or the checker contradicts itself.
    Unknown(Undecided),
}

/// Why a key's history is not linearizable.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Violation {
    /// The key. In JSON a [`KeyReport`] has it.
    #[serde(skip_serializing)]
    pub key: Key,
    /// Indices in [`History::operations`] of operations that have no order even on their own, by invocation.
    pub operations: Vec<usize>,
    /// The one of them that cannot be placed.
    pub stuck: Option<usize>,
    /// A longest order of them up to there.
    pub placed: Vec<usize>,
    /// Line of the completion that no order gets beyond.
    pub line: usize,
    /// The same in words.
    pub text: String,
}

/// What was not decided.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Undecided {
    /// The key. In JSON a [`KeyReport`] has it.
    #[serde(skip_serializing)]
    pub key: Key,
    /// Why: which budget ran out.
    pub reason: &'static str,
    /// Most operations that were put in order.
    pub placed: usize,
    /// How many there are to be put in order. The same.
    #[serde(skip_serializing)]
    pub completed: usize,
}

/// How a key was judged: chosen by what its history is, not by what it is said to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Method {
    /// Every needed value was written once: chains of clusters, in near-linear time.
    UniqueValues,
    /// The order that the versions in the answers name was replayed.
    Witness,
    /// The general search.
    Search,
}

/// What came of checking the certificate of a verdict by other means.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Certificate {
    /// Nobody asked for it.
    #[default]
    Unchecked,
    /// It holds.
    Holds,
    /// It was not found out whether it holds.
    Open(String),
    /// It does not hold, so neither does the verdict: the checker is wrong.
    Wrong(String),
}

impl Certificate {
    fn is_unchecked(&self) -> bool {
        *self == Self::Unchecked
    }
}

/// What was found about one key.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct KeyReport {
    /// The key.
    pub key: Key,
    /// How it was judged.
    pub method: Method,
    /// Operations that completed.
    pub completed: usize,
    /// Operations that may have happened and matter: reads without an answer are not among them.
    pub unknown: usize,
    /// Transitions of the search.
    pub steps: u64,
    /// Configurations that it visited.
    pub configurations: usize,
    /// Whether the verdict's certificate was checked.
    #[serde(skip_serializing_if = "Certificate::is_unchecked")]
    pub certificate: Certificate,
    /// The verdict.
    #[serde(flatten)]
    pub verdict: Verdict,
}

/// What was found about a history.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Report {
    /// Each key, in the order of keys.
    pub keys: Vec<KeyReport>,
    /// Operations that happened or may have happened.
    pub operations: usize,
    /// Operations that definitely did not happen; 0 where the history is in the compact form, which leaves them out.
    pub failed: usize,
    /// Time that the check took, in nanoseconds.
    pub elapsed: u64,
}

impl Report {
    /// The verdict on the whole: a violation if any key has one, else unknown if any key is, else valid.
    pub fn verdict(&self) -> Verdict {
        let verdicts = || self.keys.iter().map(|key| &key.verdict);
        verdicts()
            .find(|verdict| matches!(verdict, Verdict::Violation(_)))
            .or_else(|| verdicts().find(|verdict| matches!(verdict, Verdict::Unknown(_))))
            .cloned()
            .unwrap_or(Verdict::Valid)
    }
}

/// Judges a history within a budget.
pub fn check(history: &History, budget: Budget) -> Report {
    let watch = Stopwatch::start(budget.time);
    let keys = judge_all(history, &problem::split(history), budget, &watch);
    let (operations, failed) = (history.operations.len(), history.refused.len());
    Report { keys, operations, failed, elapsed: watch.elapsed().as_nanos() as u64 }
}

/// Judges a history in the compact form within a budget.
pub fn check_compact(history: &Compact, budget: Budget) -> Report {
    let watch = Stopwatch::start(budget.time);
    let keys = judge_all(history, &history.keys, budget, &watch);
    Report { keys, operations: history.operations, failed: 0, elapsed: watch.elapsed().as_nanos() as u64 }
}

/// Where operations are looked up that are to be told about.
pub(crate) trait Record: Sync {
    /// The operations with these indices.
    fn recorded(&self, indices: &[u32]) -> FxHashMap<u32, Operation>;
    /// What a key held at first.
    fn initial(&self, key: &Key) -> Option<String>;
    /// The version of its key that an operation's answer reflects, where that is recorded.
    fn version(&self, index: u32) -> Option<u64>;
    /// The first operation that would have left that value of a key (none: absent), but failed, where those are kept.
    fn refused(&self, key: &Key, value: Option<&String>) -> Option<Operation>;
}

impl Record for History {
    fn recorded(&self, indices: &[u32]) -> FxHashMap<u32, Operation> {
        indices.iter().map(|&index| (index, self.operations[index as usize].clone())).collect()
    }

    fn initial(&self, key: &Key) -> Option<String> {
        let initial = self.header.initial.iter().find(|(initial, _)| initial == key);
        initial.map(|(_, value)| value.clone())
    }

    fn version(&self, index: u32) -> Option<u64> {
        self.operations[index as usize].result.as_ref().map(|result| result.version)
    }

    fn refused(&self, key: &Key, value: Option<&String>) -> Option<Operation> {
        let leaves = |function: &Function| match function {
            Function::Get { .. } => false,
            Function::Put { key: written, value: new } | Function::Cas { key: written, new, .. } => {
                written == key && value == Some(new)
            }
            Function::Delete { key: deleted } => deleted == key && value.is_none(),
        };
        self.refused.iter().find(|operation| leaves(&operation.function)).cloned()
    }
}

fn judge_all(
    record: &impl Record,
    problems: &[(Key, Problem)],
    budget: Budget,
    watch: &Stopwatch,
) -> Vec<KeyReport> {
    let size = |(_, problem): &(Key, Problem)| problem.completed.len();
    in_parallel(problems, budget.threads, size, |(key, problem), threads| {
        judge(record, key, problem, Limits::share(budget, threads, watch))
    })
}

/// Where a key has more operations, halving takes too long: the words are about the whole then.
const HALVED: usize = 30_000;

/// Decides one key.
fn decide(record: &impl Record, problem: &Problem, limits: Limits<'_>) -> (Method, Outcome) {
    let (method, answer) = match unique::linearizable(problem) {
        Some(true) => (Method::UniqueValues, Answer::Linearizable),
        Some(false) => (Method::UniqueValues, Answer::Stuck { position: first_failure(problem) }),
        None if witness::confirms(problem, |operation| record.version(operation)) => {
            (Method::Witness, Answer::Linearizable)
        }
        None => return (Method::Search, search::search(problem, limits)),
    };
    (method, Outcome { answer, steps: 0, configurations: 0, furthest: 0 })
}

/// Whether an order exists; `None`: the budget does not suffice to tell.
pub(crate) fn has_order(problem: &Problem, limits: Limits<'_>) -> Option<bool> {
    unique::linearizable(problem).or_else(|| match search::search(problem, limits).answer {
        Answer::Linearizable => Some(true),
        Answer::Stuck { .. } => Some(false),
        Answer::Spent(_) => None,
    })
}

/// The first completion that no order gets beyond, of a key with unique values that has no order. A prefix of a
/// linearizable history is linearizable, so it is found by halving.
pub(crate) fn first_failure(problem: &Problem) -> Position {
    if problem.completed.len() > HALVED {
        return Position::MAX - 1;
    }
    let mut ends: Vec<Position> = problem.completed.iter().map(|step| step.ret).collect();
    ends.sort_unstable();
    let sound = ends.partition_point(|&end| unique::linearizable(&problem.prefix(end)) == Some(true));
    ends.get(sound).or(ends.last()).copied().unwrap_or_default()
}

fn judge(record: &impl Record, key: &Key, problem: &Problem, limits: Limits<'_>) -> KeyReport {
    let (method, outcome) = decide(record, problem, limits);
    let verdict = match outcome.answer {
        Answer::Linearizable => Verdict::Valid,
        Answer::Stuck { position } => {
            Verdict::Violation(explain::violation(record, key, problem, position, limits))
        }
        Answer::Spent(spent) => Verdict::Unknown(Undecided {
            key: key.clone(),
            reason: spent.words(),
            placed: outcome.furthest,
            completed: problem.completed.len(),
        }),
    };
    KeyReport {
        key: key.clone(),
        method,
        completed: problem.completed.len(),
        unknown: problem.unknown.len(),
        steps: outcome.steps,
        configurations: outcome.configurations,
        certificate: Certificate::Unchecked,
        verdict,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A reader of JSON may take the first of two equal names, the last, or neither.
    #[test]
    fn no_name_stands_twice_in_what_is_told_of_a_key() {
        let key = || Key::Integer(7);
        let violation = Violation {
            key: key(),
            operations: vec![1, 2],
            stuck: Some(2),
            placed: vec![1],
            line: 4,
            text: "why".to_owned(),
        };
        let undecided = Undecided { key: key(), reason: "time", placed: 1, completed: 3 };
        for verdict in [Verdict::Valid, Verdict::Violation(violation), Verdict::Unknown(undecided)] {
            let method = Method::Search;
            let report = KeyReport {
                key: key(),
                method,
                completed: 3,
                unknown: 0,
                steps: 9,
                configurations: 9,
                certificate: Certificate::Unchecked,
                verdict,
            };
            let text = serde_json::to_string(&report).expect("a report can be written as JSON");
            let read: serde_json::Map<String, serde_json::Value> =
                serde_json::from_str(&text).expect("an object");
            for name in read.keys() {
                assert_eq!(text.matches(&format!("\"{name}\":")).count(), 1, "{text}");
            }
            assert!(read.contains_key("verdict") && read["completed"] == 3, "{text}");
        }
    }
}
