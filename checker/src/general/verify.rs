//! Checks what a search claims, with other and simpler means: it shares nothing with the searches.
//!
//! What it costs has an end that is counted, not timed: the same certificate gets the same answer on every machine.

use std::collections::{HashMap, HashSet};
use std::hash::Hash;

use super::{Model, Recorded, Recording, Verdict, Violation};

/// Most steps of the search that tries every order of a core.
const STEPS: usize = 100_000;
/// The same where each of the others may happen again and again, which need not end.
const STEPS_AGAIN: usize = 5000;
/// Most bytes that either copies.
const BYTES: usize = 256 << 20;

/// Why a claim does not hold.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refuted {
    /// An operation is named that the history does not have, or one is named twice.
    #[error("operation {0} is named that is not there, or twice")]
    Named(usize),
    /// An operation completed and is not in the order.
    #[error("operation {0} completed, but is not in the order")]
    Missing(usize),
    /// An operation returned before another was invoked, yet stands behind it.
    #[error("operation {0} returned before operation {1} was invoked, but stands behind it")]
    RealTime(usize, usize),
    /// The model would have answered something else.
    #[error("operation {0} does not answer what the model answers there")]
    Answer(usize),
    /// The core has an order. Of the others it names one of each kind.
    #[error("the core has the order {0:?}")]
    Order(Vec<usize>),
    /// The operation that cannot be placed is not of the core.
    #[error("operation {0} cannot be placed, but is not of the core")]
    Stuck(usize),
    /// There are too many orders of the core to try them all.
    #[error("too many orders to try")]
    TooMany,
}

/// Checks the certificate of a verdict: an order by replaying it, a core by trying every order of it.
pub fn verify<M: Model>(history: &Recording<M>, model: &M, verdict: &Verdict) -> Result<(), Refuted> {
    match verdict {
        Verdict::Valid(order) => {
            let placed = replay(history, model, order)?;
            let missing = |place: &usize| history[*place].returned.is_some() && !placed.contains(place);
            (0..history.len()).find(missing).map_or(Ok(()), |place| Err(Refuted::Missing(place)))
        }
        Verdict::Violation(Violation { core, stuck, placed }) => {
            replay(history, model, placed)?;
            if !core.contains(stuck) {
                return Err(Refuted::Stuck(*stuck));
            }
            exhaust(history, model, core)
        }
        Verdict::Unknown(_) => Ok(()),
    }
}

/// Goes through an order of some operations; tells which they are.
fn replay<M: Model>(history: &Recording<M>, model: &M, order: &[usize]) -> Result<HashSet<usize>, Refuted> {
    let mut placed = HashSet::new();
    let mut object = model.clone();
    for &place in order {
        let operation = history.get(place).ok_or(Refuted::Named(place))?;
        if !placed.insert(place) {
            return Err(Refuted::Named(place));
        }
        match &operation.returned {
            Some((_, answer)) if !object.is_valid_step(&operation.op, answer) => {
                return Err(Refuted::Answer(place));
            }
            Some(_) => {}
            None => drop(object.invoke(&operation.op)),
        }
    }
    // from behind: nothing may have returned before the earliest of what stands before it was invoked
    let mut first_return: Option<(usize, usize)> = None;
    for &place in order.iter().rev() {
        if let Some((ret, late)) = first_return
            && ret < history[place].called
        {
            return Err(Refuted::RealTime(late, place));
        }
        let ret = history[place].returned.as_ref().map(|(ret, _)| (*ret, place));
        first_return = first_return.into_iter().chain(ret).min();
    }
    Ok(placed)
}

/// Tries every order of the core, in which every other operation may happen after its invocation, or not. If none exists
/// even when each may happen any number of times, which is quick to see, none exists.
fn exhaust<M: Model>(history: &Recording<M>, model: &M, core: &[usize]) -> Result<(), Refuted> {
    let mut known = HashSet::new();
    let mut is_wrong =
        |place: usize| history.get(place).is_none_or(|of| of.returned.is_none()) || !known.insert(place);
    if let Some(&place) = core.iter().find(|&&place| is_wrong(place)) {
        return Err(Refuted::Named(place));
    }
    if order_of(history, model, core, true) == Ok(None) {
        return Ok(());
    }
    order_of(history, model, core, false)?.map_or(Ok(()), |order| Err(Refuted::Order(order)))
}

/// Operations that are not of the core, by what they ask: their invocations, in order.
type Others = Vec<(usize, Vec<usize>)>;

/// What is placed of the core, how many of each kind of others were used, and the state.
type Seen<M> = HashSet<(Vec<bool>, Vec<usize>, M)>;

/// An order of the core with the others; where they may happen `again` and again, they are not counted and not told.
fn order_of<M: Model>(
    history: &Recording<M>,
    model: &M,
    core: &[usize],
    again: bool,
) -> Result<Option<Vec<usize>>, Refuted> {
    let ret = |place: usize| history[place].returned.as_ref().map_or(usize::MAX, |(ret, _)| *ret);
    let others = others(history, core);
    let steps = if again { STEPS_AGAIN } else { STEPS };
    let mut seen: Seen<M> = HashSet::new();
    let mut bytes = 0;
    let counts = vec![0; if again { 0 } else { others.len() }];
    let mut todo = vec![(vec![false; core.len()], counts, model.clone(), Vec::new())];
    while let Some((placed, used, object, order)) = todo.pop() {
        let left = || (0..core.len()).filter(|&index| !placed[index]);
        let Some(end) = left().map(|index| ret(core[index])).min() else { return Ok(Some(order)) };
        if !seen.insert((placed.clone(), used.clone(), object.clone())) {
            continue;
        }
        // every way on is a copy of the object, and of the rest where it leads to another state
        let state = size_of::<M>() + object.weight();
        let beside = placed.len() + size_of_val(&used[..]) + size_of_val(&order[..]);
        bytes += (core.len() + others.len()) * state + beside;
        if seen.len() > steps || bytes > BYTES {
            return Err(Refuted::TooMany);
        }
        for index in left().filter(|&index| history[core[index]].called <= end) {
            let mut after = object.clone();
            let operation = &history[core[index]];
            let answer = operation.returned.as_ref().map(|(_, answer)| answer);
            if answer.is_some_and(|answer| after.is_valid_step(&operation.op, answer)) {
                let mut placed = placed.clone();
                placed[index] = true;
                bytes += beside;
                todo.push((placed, used.clone(), after, [&order[..], &[core[index]]].concat()));
            }
        }
        for (kind, (example, calls)) in others.iter().enumerate() {
            let nth = used.get(kind).copied().unwrap_or_default();
            if calls.get(nth).is_some_and(|&call| call <= end) {
                let mut after = object.clone();
                after.invoke(&history[*example].op);
                if after != object {
                    let mut used = used.clone();
                    used.get_mut(kind).into_iter().for_each(|count| *count += 1);
                    let order = if again { Vec::new() } else { [&order[..], &[*example]].concat() };
                    bytes += beside;
                    todo.push((placed.clone(), used, after, order));
                }
            }
        }
    }
    Ok(None)
}

fn others<O: Eq + Hash, R>(history: &[Recorded<O, R>], core: &[usize]) -> Others {
    let core: HashSet<usize> = core.iter().copied().collect();
    let mut kinds: HashMap<&O, usize> = HashMap::new();
    let mut others: Others = Vec::new();
    for (place, operation) in history.iter().enumerate().filter(|(place, _)| !core.contains(place)) {
        let kind = *kinds.entry(&operation.op).or_insert(others.len());
        if kind == others.len() {
            others.push((place, Vec::new()));
        }
        others[kind].1.push(operation.called);
    }
    for (_, calls) in &mut others {
        calls.sort_unstable();
    }
    others
}
