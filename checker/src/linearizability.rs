//! Whether a history is linearizable (Herlihy & Wing 1990): whether every operation can be given one moment between its
//! invocation and its completion such that the operations, in the order of these moments, are what a register would do.
//!
//! Keys are judged one by one, in parallel, and the result does not depend on the number of threads unless a budget runs
//! out. A budget that runs out makes a key unknown, and unknown is never valid.

mod needs;
pub(crate) mod problem;
pub(crate) mod search;
mod unique;

use std::num::NonZero;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use serde::Serialize;

pub use crate::budget::Budget;
use crate::budget::Stopwatch;
use crate::explain;
use crate::history::{History, Key};
use problem::Problem;
use search::{Answer, Limits, Outcome, Spent};

/// The verdict of a key or of a history.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "verdict", rename_all = "kebab-case")]
pub enum Verdict {
    /// Linearizable.
    Valid,
    /// Not linearizable.
    Violation(Violation),
    /// Not decided: a budget ran out.
    Unknown(Undecided),
}

/// Why a key's history is not linearizable.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Violation {
    /// The key.
    pub key: Key,
    /// Indices in [`History::operations`] of operations that have no order even on their own, by invocation.
    pub operations: Vec<usize>,
    /// Line of the completion that no order gets beyond.
    pub line: usize,
    /// The same in words.
    pub text: String,
}

/// What was not decided.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Undecided {
    /// The key.
    pub key: Key,
    /// Which budget ran out.
    pub reason: &'static str,
    /// Most operations that were put in order.
    pub placed: usize,
    /// How many there are to be put in order.
    pub completed: usize,
}

/// How a key was judged: chosen by what its history is, not by what it is said to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Method {
    /// Every needed value was written once: chains of clusters, in near-linear time.
    UniqueValues,
    /// The general search.
    Search,
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
    /// Operations that definitely did not happen.
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
    let problems = problem::split(history);
    let threads = budget.threads.unwrap_or_else(|| thread::available_parallelism().map_or(1, NonZero::get));
    let threads = threads.clamp(1, problems.len().max(1));
    let limits = Limits {
        watch: &watch,
        memory: budget.memory.unwrap_or(usize::MAX) / threads,
        steps: budget.steps.unwrap_or(u64::MAX),
    };
    // The largest first, so that no thread is left alone with it at the end.
    let mut order: Vec<usize> = (0..problems.len()).collect();
    order.sort_by_key(|&index| std::cmp::Reverse(problems[index].1.completed.len()));
    let next = AtomicUsize::new(0);
    let work = || {
        let mut done = Vec::new();
        while let Some(&index) = order.get(next.fetch_add(1, Ordering::Relaxed)) {
            let (key, problem) = &problems[index];
            done.push((index, judge(history, key, problem, limits)));
        }
        done
    };
    let mut keys: Vec<(usize, KeyReport)> = thread::scope(|scope| {
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        workers.into_iter().flat_map(|worker| worker.join().expect("a worker does not panic")).collect()
    });
    keys.sort_by_key(|(index, _)| *index);
    Report {
        keys: keys.into_iter().map(|(_, report)| report).collect(),
        operations: history.operations.len(),
        failed: history.refused.len(),
        elapsed: watch.elapsed().as_nanos() as u64,
    }
}

/// Decides one key.
fn decide(problem: &Problem, limits: Limits<'_>) -> (Method, Outcome) {
    let answer = match unique::linearizable(problem) {
        None => return (Method::Search, search::search(problem, limits)),
        Some(true) => Answer::Linearizable,
        Some(false) => Answer::Stuck { position: first_failure(problem) },
    };
    (Method::UniqueValues, Outcome { answer, steps: 0, configurations: 0, furthest: 0 })
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
fn first_failure(problem: &Problem) -> usize {
    let mut ends: Vec<usize> = problem.completed.iter().map(|step| step.ret).collect();
    ends.sort_unstable();
    let sound = ends.partition_point(|&end| unique::linearizable(&problem.prefix(end)) == Some(true));
    ends.get(sound).or(ends.last()).copied().unwrap_or_default()
}

fn judge(history: &History, key: &Key, problem: &Problem, limits: Limits<'_>) -> KeyReport {
    let (method, outcome) = decide(problem, limits);
    let verdict = match outcome.answer {
        Answer::Linearizable => Verdict::Valid,
        Answer::Stuck { position } => {
            Verdict::Violation(explain::violation(history, key, problem, position, limits.watch))
        }
        Answer::Spent(spent) => Verdict::Unknown(Undecided {
            key: key.clone(),
            reason: match spent {
                Spent::Time => "time limit",
                Spent::Memory => "memory limit",
                Spent::Steps => "step limit",
            },
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
        verdict,
    }
}
