//! The one place where the harness reads time: `CLOCK_BOOTTIME`, which nodes read too, so that times of the harness and
//! of every node on this machine compare.

use rustix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};

/// Nanoseconds since the machine started, suspension included.
pub fn boottime_ns() -> u64 {
    let now = clock_gettime(ClockId::Boottime);
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}

/// When something was asked for and when it was known to have happened.
///
/// It took effect somewhere in between: a check may rely on the old state before `requested` and on the new one from
/// `effective` on, and on neither in the interval.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Effective {
    /// [`boottime_ns`] before anything was done.
    pub requested: u64,
    /// [`boottime_ns`] after it was in effect.
    pub effective: u64,
}

impl Effective {
    /// In effect now, asked for at `requested`.
    pub fn since(requested: u64) -> Self {
        Self { requested, effective: boottime_ns() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_does_not_run_backwards() {
        let earlier = boottime_ns();
        let interval = Effective::since(earlier);
        assert!(interval.requested <= interval.effective);
        assert!(interval.effective <= boottime_ns());
    }
}
