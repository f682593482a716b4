//! How many operations ended in each quarter of a second; of a long run, in longer stretches.

use checker::history::Kind;
use serde::Serialize;

/// Most stretches that are kept. When there are more, two and two become one.
const MOST: usize = 600;

/// Operations that ended, by when and how.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Throughput {
    /// Milliseconds of a stretch.
    width: u64,
    /// How many ended `ok`, `fail` and `info` in each.
    counts: Vec<[u64; 3]>,
}

impl Default for Throughput {
    fn default() -> Self {
        Self { width: 250, counts: Vec::new() }
    }
}

impl Throughput {
    /// An operation has ended at that time, in nanoseconds of the run.
    pub(super) fn count(&mut self, time: u64, kind: Kind) {
        let time = time / 1_000_000;
        while time / self.width >= MOST as u64 {
            self.width *= 2;
            let both = |two: &[[u64; 3]]| [0, 1, 2].map(|kind| two.iter().map(|one| one[kind]).sum());
            self.counts = self.counts.chunks(2).map(both).collect();
        }
        let at = (time / self.width) as usize;
        if self.counts.len() <= at {
            self.counts.resize(at + 1, [0; 3]);
        }
        let kind = match kind {
            Kind::Ok => 0,
            Kind::Fail => 1,
            Kind::Info | Kind::Invoke => 2,
        };
        self.counts[at][kind] += 1;
    }

    #[cfg(test)]
    pub(super) fn at(&self, stretch: usize) -> [u64; 3] {
        self.counts[stretch]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_run_is_kept_in_longer_stretches() {
        let mut throughput = Throughput::default();
        for second in 0..10_000 {
            throughput.count(second * 1_000_000_000, Kind::Ok);
            throughput.count(second * 1_000_000_000 + 999_999_999, Kind::Info);
        }
        assert_eq!((throughput.width, throughput.counts.len()), (32_000, 313));
        assert_eq!(
            (throughput.at(0), throughput.at(311), throughput.at(312)),
            ([32, 0, 32], [32, 0, 32], [16, 0, 16])
        );
        throughput.count(u64::MAX, Kind::Fail);
        assert!(throughput.counts.len() <= MOST);
        assert_eq!(throughput.counts.iter().map(|counts| counts[0]).sum::<u64>(), 10_000, "nothing is lost");
    }
}
