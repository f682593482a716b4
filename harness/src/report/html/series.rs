//! What all operations together show over time: throughput by outcome, the share of fast reads, latencies. Nothing is left
//! out here, whatever is left out of the drawing of single operations.

use serde::Serialize;

use super::pack::Column;
use crate::recorded::{Operation, Outcome, What};

/// Most moments of a series of counts, and of percentiles, which need more operations each.
const COUNTED: u64 = 600;
const RANKED: u64 = 200;

/// How many operations ended in each moment.
#[derive(Debug, Serialize)]
pub(super) struct Throughput {
    /// Microseconds of a moment.
    pub(super) width: u64,
    ok: Column,
    fail: Column,
    info: Column,
    /// Reads that were answered, and how many of them the leader answered alone.
    reads: Column,
    fast: Column,
}

/// How long operations of one way took: by moments, in microseconds. 0 where there was none.
#[derive(Debug, Serialize)]
pub(super) struct Way {
    name: &'static str,
    count: usize,
    width: u64,
    p50: Column,
    p90: Column,
    p99: Column,
    max: Column,
    /// The same over the whole run.
    whole: [u64; 4],
}

/// The width of a moment: a round number of microseconds, so that `span` has at most `most` of them.
fn width(span: u64, most: u64) -> u64 {
    let least = span.div_ceil(most).max(1000);
    let mut decade = 1000;
    loop {
        for step in [1, 2, 5] {
            if decade * step >= least {
                return decade * step;
            }
        }
        decade *= 10;
    }
}

impl Throughput {
    /// Counts the operations of a run of `span` microseconds by the moment at which they ended.
    pub(super) fn of(operations: &[Operation], span: u64) -> Self {
        let width = width(span, COUNTED);
        let count = |counts: &dyn Fn(&Operation) -> bool| {
            let mut moments = vec![0; (span / width + 1) as usize];
            for operation in operations.iter().filter(|operation| counts(operation)) {
                let Some(ended) = operation.ended else { continue };
                moments[((ended / 1000 / width) as usize).min((span / width) as usize)] += 1;
            }
            Column::plain(moments)
        };
        let is_read = |operation: &Operation| operation.what == What::Get && operation.outcome == Outcome::Ok;
        Self {
            width,
            ok: count(&|operation| operation.outcome == Outcome::Ok),
            fail: count(&|operation| operation.outcome == Outcome::Fail),
            info: count(&|operation| operation.outcome == Outcome::Info),
            reads: count(&is_read),
            fast: count(&|operation| is_read(operation) && operation.fast),
        }
    }
}

/// The way that an answered operation took: 0 to 3 of [`WAYS`].
fn way(operation: &Operation) -> usize {
    match operation {
        Operation { fast: true, .. } => 0,
        Operation { local: true, .. } => 1,
        Operation { what: What::Get, .. } => 2,
        _ => 3,
    }
}

const WAYS: [&str; 4] = ["fast reads", "local reads", "log reads", "writes"];

/// Latencies of answered operations by the way that they took, which is what decides how long they take.
pub(super) fn ways(operations: &[Operation], span: u64) -> Vec<Way> {
    let width = width(span, RANKED);
    let moments = (span / width + 1) as usize;
    let mut by_way = WAYS.map(|_| vec![Vec::new(); moments]);
    for operation in operations.iter().filter(|operation| operation.outcome == Outcome::Ok) {
        let Some(ended) = operation.ended else { continue };
        let moment = ((ended / 1000 / width) as usize).min(moments - 1);
        by_way[way(operation)][moment].push((ended - operation.invoked) / 1000);
    }
    let ranked = WAYS.into_iter().zip(by_way).map(|(name, mut moments)| {
        for moment in &mut moments {
            moment.sort_unstable();
        }
        let mut all: Vec<u64> = moments.iter().flatten().copied().collect();
        all.sort_unstable();
        let rank = |thousandths| Column::plain(moments.iter().map(|moment| percentile(moment, thousandths)));
        Way {
            name,
            count: all.len(),
            width,
            p50: rank(500),
            p90: rank(900),
            p99: rank(990),
            max: rank(1000),
            whole: [500, 900, 990, 1000].map(|thousandths| percentile(&all, thousandths)),
        }
    });
    ranked.filter(|way| way.count > 0).collect()
}

/// The least number that so many thousandths do not exceed; at least 1, since 0 stands for none.
fn percentile(sorted: &[u64], thousandths: usize) -> u64 {
    let rank = (sorted.len() * thousandths).div_ceil(1000);
    rank.checked_sub(1).map_or(0, |index| sorted[index].max(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_round_and_few() {
        assert_eq!(width(25_000_000, 600), 50_000);
        assert_eq!(width(10, 600), 1000);
        assert_eq!(width(600_000, 600), 1000);
        assert_eq!(width(600_001, 600), 2000);
    }

    #[test]
    fn every_operation_counts_in_the_moment_at_which_it_ended() {
        let operation = |ended: u64, outcome, fast| Operation {
            outcome,
            fast,
            ..crate::report::html::tests::operation(ended - 500_000, 500_000)
        };
        let operations = [
            operation(1_500_000, Outcome::Ok, true),
            operation(1_600_000, Outcome::Ok, false),
            operation(2_500_000, Outcome::Fail, false),
            operation(3_000_000, Outcome::Info, false),
            Operation { ended: None, ..operation(1_000_000, Outcome::Open, false) },
        ];
        let counted = Throughput::of(&operations, 3000);
        assert_eq!((counted.width, counted.ok), (1000, Column::plain([0, 2, 0, 0])));
        assert_eq!((counted.fail, counted.info), (Column::plain([0, 0, 1, 0]), Column::plain([0, 0, 0, 1])));
        assert_eq!((counted.reads, counted.fast), (Column::plain([0, 2, 0, 0]), Column::plain([0, 1, 0, 0])));
        let ways = ways(&operations, 3000);
        let names: Vec<_> = ways.iter().map(|way| (way.name, way.count, way.whole[0])).collect();
        assert_eq!(names, [("fast reads", 1, 500), ("log reads", 1, 500)]);
    }

    #[test]
    fn percentiles_are_of_what_was_measured() {
        assert_eq!(percentile(&[], 500), 0);
        assert_eq!(percentile(&[0], 990), 1);
        let hundred: Vec<u64> = (1..=100).collect();
        assert_eq!([500, 900, 990, 1000].map(|rank| percentile(&hundred, rank)), [50, 90, 99, 100]);
    }
}
