//! How much a check may spend, and the one clock of this crate that measures it.

use std::time::{Duration, Instant};

/// Time for making a counterexample small, unless something else is said.
const EXPLAIN: Duration = Duration::from_secs(2);

/// Search state of a check, unless something else is said: less than what has the kernel end the process.
const MEMORY: usize = 4 << 30;

/// What a check may spend. Whatever runs out first makes the verdict unknown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Budget {
    /// Wall-clock time of the whole check; `None`: unbounded.
    pub time: Option<Duration>,
    /// Bytes of search state of the whole check (beside the history itself), of which each thread gets its share; `None`: 4 GiB.
    pub memory: Option<usize>,
    /// Transitions of the search on any one key.
    pub steps: Option<u64>,
    /// Threads; `None`: one per processor.
    pub threads: Option<usize>,
    /// Time for making the counterexample of a violation small, for each key; `None`: two seconds.
    pub explain: Option<Duration>,
}

/// Measures the time that a check takes.
#[derive(Clone, Copy, Debug)]
pub struct Stopwatch {
    begun: Instant,
    limit: Option<Duration>,
}

impl Stopwatch {
    /// Starts now; [`Self::expired`] after `limit`.
    #[expect(
        clippy::disallowed_methods,
        reason = "a budget is about this process's own effort; no node's clock and no recorded time is involved"
    )]
    pub fn start(limit: Option<Duration>) -> Self {
        Self { begun: Instant::now(), limit }
    }

    /// Time since the start.
    pub fn elapsed(&self) -> Duration {
        self.begun.elapsed()
    }

    /// Whether the limit is reached.
    pub fn expired(&self) -> bool {
        self.limit.is_some_and(|limit| self.elapsed() >= limit)
    }

    /// The time left, at most `cap`.
    pub fn left(&self, cap: Duration) -> Duration {
        self.limit.map_or(cap, |limit| limit.saturating_sub(self.elapsed()).min(cap))
    }
}

/// What one search may spend.
#[derive(Clone, Copy)]
pub(crate) struct Limits<'a> {
    /// Ends the search when it expires.
    pub(crate) watch: &'a Stopwatch,
    /// Bytes of search state.
    pub(crate) memory: usize,
    /// Transitions.
    pub(crate) steps: u64,
    /// Time for making a counterexample small.
    pub(crate) explain: Duration,
}

impl<'a> Limits<'a> {
    /// The share of a budget that one of so many threads has.
    pub(crate) fn share(budget: Budget, threads: usize, watch: &'a Stopwatch) -> Self {
        Self {
            watch,
            memory: budget.memory.unwrap_or(MEMORY) / threads,
            steps: budget.steps.unwrap_or(u64::MAX),
            explain: watch.left(budget.explain.unwrap_or(EXPLAIN)),
        }
    }
}

/// Which part of the budget ran out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spent {
    /// Time.
    Time,
    /// Memory.
    Memory,
    /// Transitions.
    Steps,
}

impl Spent {
    /// The words for it.
    pub fn words(self) -> &'static str {
        match self {
            Self::Time => "time limit",
            Self::Memory => "memory limit",
            Self::Steps => "step limit",
        }
    }
}

impl std::fmt::Display for Spent {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.words())
    }
}
