//! Until when each value is needed, the ground of the search's reductions.
//!
//! A completed operation *needs* a value when it can only happen while the register holds it. A value is also needed when
//! an unknown swap can turn it into one that is needed. With `low` the first completed operation that is not linearised
//! yet, a value whose last need lies below `low` is *dead*: no remaining operation that must happen can tell whether the
//! register ever held it.
//!
//! **Lemma (useless unknowns).** Let S be an order of the remaining operations, and let an unknown operation in S leave a
//! value v that is dead, or such that the next operation in S that is not without effect does not need v. Then S without
//! it is an order too. *Proof.* Consider the last such operation. No completed operation that needs v follows before the
//! register changes again. The next change is a write, which does not care what was there, or a swap that expects v: a
//! completed one would make v needed; an unknown one leaves a w that is dead (else v would not be), and would itself be a
//! later such operation. Nothing at all may follow as well. So removing it disturbs nobody; repeat. ∎
//!
//! It follows that an unknown write of a value that nobody observed drops out, whether or not values are unique. That
//! holds because every completed operation that depends on the register says what it saw, a failed compare-and-swap too.

use std::collections::BinaryHeap;

use rustc_hash::FxHashMap;

use super::problem::{Action, Problem, Value};

/// For each value the number of completed operations up to and including the last that needs it; 0: none does.
pub(crate) struct Needs(Vec<u32>);

impl Needs {
    /// Finds the last need of each value; a value turned into another by an unknown swap inherits that one's need.
    pub(crate) fn of(problem: &Problem) -> Self {
        let mut last = vec![0; problem.values];
        for (index, step) in problem.completed.iter().enumerate() {
            if let Some(place) = step.action.needs().and_then(|value| last.get_mut(value as usize)) {
                *place = index as u32 + 1;
            }
        }
        let mut sources: FxHashMap<Value, Vec<Value>> = FxHashMap::default();
        for step in &problem.unknown {
            if let Action::Swap { expected, new } = step.action {
                sources.entry(new).or_default().push(expected);
            }
        }
        // From the latest need downwards, so that each value is raised at most once.
        let targets = sources.iter().map(|(&target, _)| (last[target as usize], target));
        let mut heap: BinaryHeap<(u32, Value)> = targets.collect();
        while let Some((need, value)) = heap.pop() {
            for source in sources.remove(&value).unwrap_or_default() {
                if last[source as usize] < need {
                    last[source as usize] = need;
                    heap.push((need, source));
                }
            }
        }
        Self(last)
    }

    /// Whether a completed operation from `low` on may need the value.
    pub(crate) fn alive(&self, value: Value, low: u32) -> bool {
        self.0.get(value as usize).is_some_and(|&last| last > low)
    }
}
