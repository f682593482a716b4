//! The harness watches itself: when its own timer comes late, nothing that it timed in that window can be trusted.

use std::{
    convert::Infallible,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::time::{self, MissedTickBehavior};

use crate::history_writer::History;

/// How often the timer is due.
const PERIOD: Duration = Duration::from_millis(10);

/// Lateness from which on a window counts as stalled.
const TOLERATED: Duration = Duration::from_millis(60);

/// Windows in which the harness did not run when it should have.
#[derive(Debug, Default)]
pub struct Stalls {
    windows: Mutex<Vec<Stall>>,
}

/// One window, in nanoseconds of the history.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stall {
    /// When the timer was due.
    pub from: u64,
    /// When it came.
    pub to: u64,
}

impl Stalls {
    /// Watches for as long as it is polled.
    pub async fn watch(self: Arc<Self>, history: Arc<History>) -> Infallible {
        let mut ticks = time::interval(PERIOD);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        ticks.tick().await;
        let mut last = history.now();
        loop {
            ticks.tick().await;
            let now = history.now();
            self.observe(last + PERIOD.as_nanos() as u64, now);
            last = now;
        }
    }

    fn observe(&self, due: u64, came: u64) {
        if came > due + TOLERATED.as_nanos() as u64 {
            self.windows.lock().unwrap_or_else(PoisonError::into_inner).push(Stall { from: due, to: came });
        }
    }

    /// All windows so far.
    pub fn windows(&self) -> Vec<Stall> {
        self.windows.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The first window that overlaps this interval.
    pub fn during(&self, from: u64, to: u64) -> Option<Stall> {
        self.windows().into_iter().find(|stall| stall.from <= to && from <= stall.to)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_late_timer_is_a_stall() {
        let stalls = Stalls::default();
        let millis = |millis: u64| millis * 1_000_000;
        stalls.observe(millis(10), millis(30));
        assert_eq!(stalls.windows(), []);
        stalls.observe(millis(100), millis(200));
        assert_eq!(stalls.during(millis(0), millis(99)), None);
        assert!(stalls.during(millis(150), millis(160)).is_some());
        assert!(stalls.during(millis(200), millis(300)).is_some());
        assert_eq!(stalls.during(millis(201), millis(300)), None);
    }
}
