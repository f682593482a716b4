//! Registers of which each value that is needed was written once, in whatever format that is told: they are decided without a
//! search, as those of this project's own histories are (`linearizability/unique.rs`, where it is proved).
//!
//! Nothing is assumed of the history: it is put into the same numbers, and that a value was written twice shows there. Left to the
//! search is also what cannot be put so: a compare-and-swap that did not match, of which nobody said what it saw.
//!
//! The verdict has the certificate that a search would give. A core of registers leaves operations out, where that of the search
//! lets them happen at any time or never. It holds in that sense, too: none of those left out leaves a value that the core needs,
//! so they can be deleted from any order that they were part of. What is unknown is not named in it: it may happen or not anyway.

use rustc_hash::FxHashMap;

use crate::budget::Limits;
use crate::explain;
use crate::formats::Edn;
use crate::general::{Recorded, Recording, Verdict, Violation};
use crate::linearizability::first_failure;
use crate::linearizability::problem::{ABSENT, Action, NEVER, Position, Problem, Step, Value};
use crate::linearizability::unique;
use crate::model::{Register, RegisterOp, RegisterRet};

/// The verdict; `None`: this cannot tell.
pub(super) fn by_unique_values(
    history: &Recording<Register<Edn>>,
    first: &Register<Edn>,
    limits: Limits<'_>,
) -> Option<Verdict> {
    let problem = problem(history, first)?;
    if unique::linearizable(&problem)? {
        let order = unique::order(&problem)?;
        return Some(Verdict::Valid(order.into_iter().map(|place| place as usize).collect()));
    }
    let found = explain::core(&problem, first_failure(&problem), limits);
    // where there was no time to look for it: the operation whose completion no order gets beyond
    let stuck = found.stuck.or_else(|| found.steps.iter().position(|step| step.ret == found.line))?;
    let place = |at: usize| found.steps[at].operation as usize;
    let returned = |&place: &usize| history[place].returned.is_some();
    let core = (0..found.steps.len()).map(place).filter(returned).collect();
    let placed = found.placed.iter().map(|&at| place(at)).collect();
    Some(Verdict::Violation(Violation { core, stuck: place(stuck), placed }))
}

/// The number of a value, in the order of appearance.
fn number<'a>(numbers: &mut FxHashMap<&'a Edn, Value>, value: Option<&'a Edn>) -> Value {
    let next = numbers.len() as Value + 1;
    value.map_or(ABSENT, |value| *numbers.entry(value).or_insert(next))
}

/// The history in small numbers.
fn problem(history: &Recording<Register<Edn>>, first: &Register<Edn>) -> Option<Problem> {
    let mut numbers: FxHashMap<&Edn, Value> = FxHashMap::default();
    let initial = number(&mut numbers, first.0.as_ref());
    let (mut completed, mut unknown) = (Vec::new(), Vec::new());
    for (place, Recorded { called, returned, op }) in history.iter().enumerate() {
        let answer = returned.as_ref().map(|(_, answer)| answer);
        let action = match (op, answer) {
            (RegisterOp::Put(value), _) => Action::Write(number(&mut numbers, Some(value))),
            (RegisterOp::Delete, _) => Action::Write(ABSENT),
            (RegisterOp::Get, Some(RegisterRet::Value(value))) => {
                Action::Read(number(&mut numbers, value.as_ref()))
            }
            (RegisterOp::Cas { expected, .. }, Some(RegisterRet::Differs(seen))) => {
                Action::Read(if seen == expected { NEVER } else { number(&mut numbers, seen.as_ref()) })
            }
            (RegisterOp::Cas { expected, new }, Some(RegisterRet::Done) | None) => {
                let (expected, new) =
                    (number(&mut numbers, expected.as_ref()), number(&mut numbers, Some(new)));
                if expected == new { Action::Read(expected) } else { Action::Swap { expected, new } }
            }
            (RegisterOp::Get | RegisterOp::Cas { .. }, _) => return None,
        };
        let (call, operation) = (Position::try_from(*called).ok()?, u32::try_from(place).ok()?);
        match returned {
            Some((ret, _)) => {
                let ret = Position::try_from(*ret).ok()?;
                completed.push(Step { call, ret, action, operation });
            }
            // where it changes nothing it is as if it never happened
            None if action.leaves().is_none() => {}
            None => unknown.push(Step { call, ret: Position::MAX, action, operation }),
        }
    }
    Some(Problem { initial, completed, unknown, values: numbers.len() + 1 })
}
