//! Maps a node's clock to the machine's, in exact integers.
//!
//! A node's clock runs piecewise linearly: from each `clock` event on, until the next of the same boot,
//! `local = base_local + floor((common - base_common) * (1e6 + rate_ppm) / 1e6)`. The last piece of a boot extends for
//! ever, since what a grant promises does not end with the process that gave it; the clock of a later boot says nothing
//! about promises of an earlier one.

use rustc_hash::FxHashMap;

use super::traces::Traces;
use crate::trace::TraceEvent;

const MILLION: i128 = 1_000_000;

/// A moment on the machine's clock, in nanoseconds; [`FOREVER`] when a clock never gets there.
pub type Common = i128;
/// Later than every event.
pub const FOREVER: Common = i128::MAX;

/// The clocks of all nodes.
#[derive(Debug, Default)]
pub struct Clocks {
    boots: FxHashMap<(u64, u64), Vec<Piece>>,
}

#[derive(Clone, Copy, Debug)]
struct Piece {
    /// In force from here on.
    from: Common,
    base_common: i128,
    base_local: i128,
    rate_ppm: i64,
}

impl Clocks {
    /// Collects the `clock` events. A boot that has none before its first other event is anchored at that event's
    /// readings, at the rate of the machine's clock.
    pub fn collect(traces: &Traces) -> Self {
        let mut clocks = Self::default();
        for (_, line) in traces.lines() {
            let pieces = clocks.boots.entry((line.node, line.boot)).or_default();
            if let TraceEvent::Clock { base_common, base_local, rate_ppm } = line.event {
                // In force from its anchor, but not before the event that it replaces.
                let earliest = pieces.last().map_or(Common::MIN, |last| last.from);
                pieces.push(Piece {
                    from: if pieces.is_empty() { Common::MIN } else { earliest.max(base_common.into()) },
                    base_common: base_common.into(),
                    base_local: base_local.into(),
                    rate_ppm,
                });
            } else if pieces.is_empty() && !matches!(line.event, TraceEvent::Started { .. }) {
                let (base_common, base_local) = (line.common.into(), line.local.into());
                pieces.push(Piece { from: Common::MIN, base_common, base_local, rate_ppm: 0 });
            }
        }
        clocks
    }

    /// The first moment, not before `since`, at which the clock of this boot shows `local` or later.
    pub fn reaches(&self, node: u64, boot: u64, since: Common, local: u64) -> Common {
        let Some(pieces) = self.boots.get(&(node, boot)) else { return since };
        let first = pieces.partition_point(|piece| piece.from <= since).saturating_sub(1);
        for (index, piece) in pieces.iter().enumerate().skip(first) {
            let end = pieces.get(index + 1).map_or(FOREVER, |next| next.from);
            let at = piece.reaches(local.into()).max(since).max(piece.from);
            if at < end {
                return at;
            }
        }
        FOREVER
    }
}

impl Piece {
    /// The least common time at which `base_local + floor((common - base_common) * m / 1e6) >= local`. A whole number is at
    /// most the floor exactly when it is at most the fraction, so this is a division rounded up.
    fn reaches(&self, local: i128) -> Common {
        let speed = MILLION + i128::from(self.rate_ppm);
        let distance = (local - self.base_local) * MILLION;
        if speed <= 0 {
            return if distance <= 0 { Common::MIN } else { FOREVER };
        }
        // Rounds towards zero, which is up, unless positive with a remainder.
        let up = i128::from(distance > 0 && distance % speed != 0);
        self.base_common + distance / speed + up
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn clocks(pieces: &[(i128, i128, i128, i64)]) -> Clocks {
        let piece =
            |&(from, base_common, base_local, rate_ppm)| Piece { from, base_common, base_local, rate_ppm };
        Clocks { boots: [((1, 1), pieces.iter().map(piece).collect())].into_iter().collect() }
    }

    #[test]
    fn maps_exactly_and_rounds_up() {
        let clocks = clocks(&[(Common::MIN, 1000, 5000, 500_000)]);
        for local in 5001..5100 {
            let at = clocks.reaches(1, 1, 1000, local);
            let shows = |common: i128| 5000 + (common - 1000) * 1_500_000 / 1_000_000;
            assert!(shows(at) >= i128::from(local) && shows(at - 1) < i128::from(local));
        }
        assert_eq!(clocks.reaches(1, 1, 2000, 5000), 2000, "not before the moment asked from");
    }

    #[test]
    fn follows_jumps_and_a_frozen_clock() {
        let jump = clocks(&[(Common::MIN, 0, 0, 0), (100, 100, 1000, 0)]);
        assert_eq!((jump.reaches(1, 1, 0, 50), jump.reaches(1, 1, 0, 500)), (50, 100));
        assert_eq!(jump.reaches(1, 1, 0, 1010), 110);
        let frozen = clocks(&[(Common::MIN, 0, 0, 0), (100, 100, 100, -1_000_000)]);
        assert_eq!(frozen.reaches(1, 1, 0, 101), FOREVER);
        let back = clocks(&[(Common::MIN, 0, 0, 0), (100, 100, 40, 0)]);
        assert_eq!(back.reaches(1, 1, 0, 120), 180);
    }
}
