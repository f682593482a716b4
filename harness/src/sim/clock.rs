//! A node's clock as a function of the world's time, in exact integers.

use store::{
    config::ClockSkew,
    core::{LocalTime, trace::TraceEvent},
};

const MILLION: i128 = 1_000_000;

/// What every clock read at the world's beginning, but for its offset: far enough from 0 for every offset.
const EPOCH: i128 = 1_000_000_000_000_000_000;

/// The world's clock seen through rate and offset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Clock {
    base_common: u64,
    base_local: u64,
    skew: ClockSkew,
}

impl Clock {
    /// A clock with this skew from now on.
    pub fn new(common: u64, skew: ClockSkew) -> Self {
        Self { base_common: common, base_local: nanos(EPOCH + i128::from(common) + offset(skew)), skew }
    }

    /// Changes the skew: a new rate applies from here on, a new offset makes the clock jump by the difference.
    pub fn set(&mut self, common: u64, skew: ClockSkew) {
        let base_local = i128::from(self.local(common).0) + offset(skew) - offset(self.skew);
        *self = Self { base_common: common, base_local: nanos(base_local), skew };
    }

    /// What it reads at a time of the world.
    pub fn local(&self, common: u64) -> LocalTime {
        let passed = i128::from(common) - i128::from(self.base_common);
        LocalTime(nanos(i128::from(self.base_local) + (passed * self.rate()).div_euclid(MILLION)))
    }

    /// The first time of the world at which it reads `local` or more; of a clock that stands still, the end of time.
    pub fn common(&self, local: LocalTime) -> u64 {
        let passed = i128::from(local.0) - i128::from(self.base_local);
        let rate = self.rate();
        if rate == 0 {
            return if passed > 0 { u64::MAX } else { self.base_common };
        }
        nanos(i128::from(self.base_common) + (passed * MILLION + rate - 1).div_euclid(rate))
    }

    /// How the two clocks relate, for the trace.
    pub fn event(&self) -> TraceEvent {
        let Self { base_common, base_local, skew } = *self;
        TraceEvent::Clock { base_common, base_local, rate_ppm: skew.rate_ppm }
    }

    /// No clock runs backwards.
    fn rate(&self) -> i128 {
        (MILLION + i128::from(self.skew.rate_ppm)).max(0)
    }
}

fn offset(skew: ClockSkew) -> i128 {
    i128::from(skew.offset_ms) * MILLION
}

fn nanos(time: i128) -> u64 {
    u64::try_from(time.max(0)).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deadline_is_the_first_moment_at_which_the_clock_reads_it() {
        for rate_ppm in [-999_999, -290_000, -3, 0, 1, 40_000, 999_999] {
            let clock = Clock::new(5_000, ClockSkew { rate_ppm, offset_ms: -7 });
            for ahead in [0, 1, 2, 999, 1_000_003] {
                let deadline = LocalTime(clock.local(5_000).0 + ahead);
                let due = clock.common(deadline);
                assert!(clock.local(due) >= deadline, "{rate_ppm} {ahead}");
                assert!(due == 5_000 || clock.local(due - 1) < deadline, "{rate_ppm} {ahead}");
            }
        }
    }

    #[test]
    fn a_clock_that_stands_still_reaches_nothing_and_goes_on_from_there() {
        let mut clock = Clock::new(0, ClockSkew { rate_ppm: 0, offset_ms: 0 });
        clock.set(1_000, ClockSkew { rate_ppm: -1_000_000, offset_ms: 0 });
        let stands = clock.local(1_000);
        assert_eq!(clock.local(9_000), stands);
        assert_eq!(clock.common(LocalTime(stands.0 + 1)), u64::MAX);
        assert_eq!(clock.common(stands), 1_000);
        clock.set(9_000, ClockSkew::default());
        assert_eq!(clock.local(9_500), LocalTime(stands.0 + 500));
    }

    #[test]
    fn a_new_rate_does_not_make_the_clock_jump_and_a_new_offset_does() {
        let mut clock = Clock::new(0, ClockSkew { rate_ppm: 100_000, offset_ms: 5 });
        let before = clock.local(1_000_000);
        clock.set(1_000_000, ClockSkew { rate_ppm: -100_000, offset_ms: 5 });
        assert_eq!(clock.local(1_000_000), before);
        clock.set(1_000_000, ClockSkew { rate_ppm: -100_000, offset_ms: 8 });
        assert_eq!(clock.local(1_000_000).0, before.0 + 3_000_000);
    }
}
