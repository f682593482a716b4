//! Finds a minimal core of a violation.
//!
//! An operation is *relaxed* by forgetting when it returned and with what: then it may have happened at any time after its
//! invocation, or never. A history that has an order still has it when operations are relaxed, for any specification. So if a
//! history fails with some of them relaxed, the others, the core, contradict each other, whatever became of the rest.
//! Operations are relaxed as long as what remains still fails (delta debugging, Zeller & Hildebrandt 2002).

use super::{Model, Recorded, Recording, decide};
use crate::budget::{Limits, Stopwatch};

/// Most transitions of one search: so many times those that found the violation, within these bounds; and most bytes.
const TIMES: u64 = 8;
const STEPS: (u64, u64) = (1000, 50_000);
const BYTES: usize = 64 << 20;

/// The core of a history in which no order gets beyond the completion of `stuck`, as so many transitions found, and the
/// operation of it that cannot be placed.
pub(super) fn shrink<M: Model>(
    history: &Recording<M>,
    model: &M,
    stuck: usize,
    steps: u64,
    limits: Limits<'_>,
) -> (Vec<usize>, usize) {
    if limits.explain.is_zero() {
        // of all that completed it is known that there is no order
        let mut all: Vec<usize> =
            (0..history.len()).filter(|&place| history[place].returned.is_some()).collect();
        all.sort_by_key(|&place| history[place].called);
        return (all, stuck);
    }
    let own = Stopwatch::start(Some(limits.watch.left(limits.explain)));
    let (memory, steps) = (limits.memory.min(BYTES), (TIMES * steps).clamp(STEPS.0, STEPS.1));
    let limits = Limits { watch: &own, memory, steps, ..limits };
    let fails = |core: &[usize], end| match decide(&relaxed(history, core, end), model, limits) {
        Some(Err(stuck)) => Some(stuck),
        _ => None,
    };
    let ret = |place: usize| history[place].returned.as_ref().map_or(usize::MAX, |(ret, _)| *ret);
    let returned_by = |end: usize| {
        let mut core: Vec<usize> = (0..history.len()).filter(|&place| ret(place) <= end).collect();
        // the latest last: they are what the contradiction is about
        core.sort_by_key(|&place| ret(place));
        core
    };
    // what returned later may matter all the same: its answer says what it did while it was in progress
    let (mut core, mut end, mut culprit) = (returned_by(ret(stuck)), ret(stuck), stuck);
    if own.expired() || fails(&core, end).is_none() {
        (core, end) = (returned_by(usize::MAX - 1), usize::MAX - 1);
    }
    let mut few = 2;
    while few < core.len() && !own.expired() {
        let candidate = core[core.len() - few..].to_vec();
        if let Some(stuck) = fails(&candidate, end) {
            (core, culprit) = (candidate, stuck);
            break;
        }
        few *= 2;
    }
    let mut chunk = core.len().div_ceil(2);
    while chunk > 0 {
        let mut begin = 0;
        let mut dropped = false;
        while begin < core.len() && !own.expired() {
            let tail = core.get(begin + chunk..).unwrap_or_default();
            let candidate = [&core[..begin], tail].concat();
            match fails(&candidate, end) {
                Some(stuck) => {
                    (core, culprit) = (candidate, stuck);
                    dropped = true;
                }
                None => begin += chunk,
            }
        }
        if chunk > 1 || !dropped {
            chunk /= 2;
        }
    }
    core.sort_by_key(|&place| history[place].called);
    (core, culprit)
}

/// The history up to a moment, with everything relaxed but these operations. Places stay what they are.
pub(super) fn relaxed<O: Clone, R: Clone>(
    history: &[Recorded<O, R>],
    kept: &[usize],
    end: usize,
) -> Vec<Recorded<O, R>> {
    let mut all: Vec<_> = history
        .iter()
        .map(|operation| {
            let called = if operation.called <= end { operation.called } else { usize::MAX };
            Recorded { called, returned: None, op: operation.op.clone() }
        })
        .collect();
    for &place in kept {
        all[place] = history[place].clone();
    }
    all
}
