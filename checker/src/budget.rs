//! How much a check may spend, and the one clock of this crate that measures it.

use std::time::{Duration, Instant};

/// What a check may spend. Whatever runs out first makes the verdict unknown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Budget {
    /// Wall-clock time of the whole check; `None`: unbounded.
    pub time: Option<Duration>,
    /// Bytes of search state of the whole check (beside the history itself); each thread gets its share of it.
    pub memory: Option<usize>,
    /// Transitions of the search on any one key.
    pub steps: Option<u64>,
    /// Threads; `None`: one per processor.
    pub threads: Option<usize>,
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
