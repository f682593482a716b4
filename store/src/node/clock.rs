//! The one clock of a node: CLOCK_BOOTTIME, which suspension does not stop, through a rate and an offset that tests set.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

use crate::{
    config::ClockSkew,
    core::{LocalTime, trace::TraceEvent},
};

const MILLION: i128 = 1_000_000;

/// One reading of both clocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reading {
    /// The machine's clock in nanoseconds: the same for all nodes of one machine.
    pub common: u64,
    /// The node's clock.
    pub local: LocalTime,
}

/// The machine's clock seen through rate and offset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Clock {
    base_common: u64,
    base_local: u64,
    skew: ClockSkew,
}

impl Clock {
    /// A clock with this skew from now on.
    pub fn new(skew: ClockSkew) -> Self {
        Self::at(machine_time(), skew)
    }

    fn at(common: u64, skew: ClockSkew) -> Self {
        let base_local = offset(common, skew.offset_ms);
        Self { base_common: common, base_local, skew }
    }

    /// Reads both clocks at once.
    pub fn read(&self) -> Reading {
        let common = machine_time();
        Reading { common, local: self.local_at(common) }
    }

    /// Changes the skew: a new rate applies from here on, a new offset makes the clock jump by the difference.
    pub fn set(&mut self, skew: ClockSkew) {
        let common = machine_time();
        let jump = skew.offset_ms - self.skew.offset_ms;
        let base_local = offset(self.local_at(common).0, jump);
        *self = Self { base_common: common, base_local, skew };
    }

    /// How long the machine's clock takes until this one reads `deadline`.
    pub fn until(&self, deadline: LocalTime, now: LocalTime) -> Duration {
        let local = i128::from(deadline.0.saturating_sub(now.0));
        let rate = MILLION + i128::from(self.skew.rate_ppm);
        if rate <= 0 {
            return Duration::from_secs(1);
        }
        Duration::from_nanos(u64::try_from(local * MILLION / rate + 1).unwrap_or(u64::MAX))
    }

    /// How the two clocks relate, for the trace.
    pub fn event(&self) -> TraceEvent {
        TraceEvent::Clock {
            base_common: self.base_common,
            base_local: self.base_local,
            rate_ppm: self.skew.rate_ppm,
        }
    }

    fn local_at(&self, common: u64) -> LocalTime {
        let passed = i128::from(common) - i128::from(self.base_common);
        let local =
            i128::from(self.base_local) + passed * (MILLION + i128::from(self.skew.rate_ppm)) / MILLION;
        LocalTime(u64::try_from(local).unwrap_or(0))
    }
}

/// CLOCK_BOOTTIME in nanoseconds.
pub fn machine_time() -> u64 {
    let time = clock_gettime(ClockId::Boottime);
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

fn offset(time: u64, by_ms: i64) -> u64 {
    u64::try_from(i128::from(time) + i128::from(by_ms) * MILLION).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fast_clock_gains_and_an_offset_shifts() {
        let clock = Clock::at(1_000_000_000, ClockSkew { rate_ppm: 100_000, offset_ms: 5 });
        assert_eq!(clock.local_at(1_000_000_000), LocalTime(1_005_000_000));
        assert_eq!(clock.local_at(2_000_000_000), LocalTime(2_105_000_000));
    }

    #[test]
    fn a_change_of_rate_does_not_make_the_clock_jump() {
        let mut clock = Clock::new(ClockSkew::default());
        let before = clock.read();
        clock.set(ClockSkew { rate_ppm: -500_000, offset_ms: 0 });
        let after = clock.read();
        assert!(after.local >= before.local);
        assert!(after.local.0 - before.local.0 <= after.common - before.common);
    }

    #[test]
    fn a_slow_clock_reaches_a_deadline_later() {
        let clock = Clock::at(0, ClockSkew { rate_ppm: -500_000, offset_ms: 0 });
        assert_eq!(clock.until(LocalTime(100), LocalTime(0)), Duration::from_nanos(201));
    }
}
