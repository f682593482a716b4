//! Which operations are drawn one by one. A page holds so many; the figures over time are of all of them.
//!
//! What must stay, stays: the failing sub-history, what touched its key meanwhile, what ran around it, whatever did not
//! succeed, the slowest. The rest is thinned out evenly.

use std::collections::BTreeSet;

use serde::Serialize;

use crate::recorded::{Operation, Outcome, Recorded};

/// Most operations of a page.
const MOST: usize = 24_000;
/// Most of each group that stays before the rest is thinned out, but for the failing sub-history, which stays whole.
const ON_KEY: usize = 3000;
const AROUND: usize = 3000;
const UNKNOWN: usize = 6000;
const FAILED: usize = 3000;
const SLOWEST: usize = 1000;

/// The operations that are drawn, and how many there are.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub(super) struct Sample {
    /// Indices in the order of invocation.
    #[serde(skip)]
    pub(super) kept: Vec<usize>,
    pub(super) total: usize,
    /// In words, what was left out; empty: nothing.
    pub(super) left_out: String,
}

/// Chooses: `core` are the operations that show the violations, in any order.
pub(super) fn choose(run: &Recorded, core: &BTreeSet<usize>) -> Sample {
    choose_of(&run.operations, core, MOST)
}

fn choose_of(operations: &[Operation], core: &BTreeSet<usize>, most: usize) -> Sample {
    let total = operations.len();
    if total <= most {
        return Sample { kept: (0..total).collect(), total, left_out: String::new() };
    }
    let mut kept: BTreeSet<usize> = core.clone();
    kept.extend(on_key(operations, core).take(ON_KEY));
    kept.extend(around(operations, core));
    let ended = |outcomes: &[Outcome]| {
        (0..total).filter(|&index| outcomes.contains(&operations[index].outcome)).collect()
    };
    let (unknown, failed): (Vec<usize>, Vec<usize>) =
        (ended(&[Outcome::Info, Outcome::Open]), ended(&[Outcome::Fail]));
    let few = |all: usize, most: usize, what: &str| {
        if all > most { format!("{most} of {all} {what}") } else { format!("all {what}") }
    };
    let not_ok =
        few(unknown.len(), UNKNOWN, "unknown ones") + ", " + &few(failed.len(), FAILED, "that failed");
    kept.extend(evenly(unknown, UNKNOWN));
    kept.extend(evenly(failed, FAILED));
    let took = |index: usize| operations[index].ended.unwrap_or(u64::MAX) - operations[index].invoked;
    let mut slowest: Vec<usize> = (0..total).collect();
    slowest.sort_unstable_by_key(|&index| std::cmp::Reverse(took(index)));
    kept.extend(&slowest[..SLOWEST.min(total)]);
    let rest: Vec<usize> = (0..total).filter(|index| !kept.contains(index)).collect();
    let room = most.saturating_sub(kept.len());
    kept.extend(evenly(rest, room));
    let left_out = format!(
        "{} of {total} operations are drawn one by one: the failing sub-history and what ran around it, {not_ok}, the slowest, \
         and of the rest an even part. Throughput, shares and percentiles are of all.",
        kept.len()
    );
    Sample { kept: kept.into_iter().collect(), total, left_out }
}

/// Operations on the keys of the core, between its first invocation and its last answer.
fn on_key<'a>(operations: &'a [Operation], core: &BTreeSet<usize>) -> impl Iterator<Item = usize> + use<'a> {
    let keys: BTreeSet<u32> = core.iter().map(|&index| operations[index].key).collect();
    let from = core.iter().map(|&index| operations[index].invoked).min().unwrap_or(u64::MAX);
    let to = core.iter().filter_map(|&index| operations[index].ended).max().unwrap_or_default();
    // the latest first: what happened right before is what one looks for
    (0..operations.len()).rev().filter(move |&index| {
        let operation = &operations[index];
        keys.contains(&operation.key)
            && operation.invoked <= to
            && operation.ended.is_none_or(|ended| ended >= from)
    })
}

/// The operations that were invoked next to one of the core.
fn around(operations: &[Operation], core: &BTreeSet<usize>) -> impl Iterator<Item = usize> {
    let each = AROUND / core.len().max(1) / 2;
    let last = operations.len();
    core.iter().flat_map(move |&index| index.saturating_sub(each)..(index + each).min(last))
}

/// So many of them, evenly spread.
fn evenly(indices: Vec<usize>, most: usize) -> Vec<usize> {
    if indices.len() <= most {
        return indices;
    }
    (0..most).map(|nth| indices[nth * indices.len() / most]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::html::tests::operation;

    #[test]
    fn what_shows_the_violation_stays_with_what_did_not_succeed_and_the_slowest() {
        let mut operations: Vec<Operation> = (0..50_000).map(|at| operation(at * 1000, 500)).collect();
        operations[40_123].key = 77;
        operations[7].key = 77;
        operations[39_000].key = 77;
        operations[100].outcome = Outcome::Info;
        (30_000..38_000).for_each(|index| operations[index].outcome = Outcome::Fail);
        operations[20_000].ended = Some(operations[20_000].invoked + 1_000_000);
        let core: BTreeSet<usize> = [7, 40_123].into();
        let sample = choose_of(&operations, &core, 12_000);
        assert!(sample.kept.len() <= 12_000 && sample.kept.len() > 11_000, "{}", sample.kept.len());
        for must in [7, 8, 40_122, 40_123, 40_124, 39_000, 100, 20_000] {
            assert!(sample.kept.binary_search(&must).is_ok(), "{must} is left out");
        }
        assert!(sample.left_out.contains("of 50000 operations"), "{}", sample.left_out);
        let fails = sample.kept.iter().filter(|&&index| operations[index].outcome == Outcome::Fail);
        assert!(fails.count() >= FAILED);
        // the rest is there everywhere
        let gap = sample.kept.windows(2).map(|pair| pair[1] - pair[0]).max();
        assert!(gap < Some(20), "{gap:?}");
    }

    #[test]
    fn a_small_run_is_drawn_whole() {
        let operations: Vec<Operation> = (0..10).map(|at| operation(at, 1)).collect();
        let sample = choose_of(&operations, &BTreeSet::new(), 10);
        assert_eq!((sample.kept.len(), sample.left_out.as_str()), (10, ""));
    }
}
