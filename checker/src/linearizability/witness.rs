//! The order that the answers tell of, tried before any search where values repeat.
//!
//! A store may say with each answer which version of the key it reflects: that of the operation's own entry if it wrote, else
//! that of the latest write before it. By version, and each write before what saw it, the answers name one order of what
//! completed. It is replayed from the initial value in O(n log n). Where the register holds something else than the next
//! operation needs, an unknown operation that leaves what is needed is put in between, each at most once: nobody told of its
//! version.
//!
//! **Success proves that there is an order, whatever the store says.** What is accepted is an order that was built, in which
//! every completed operation stands once and each unknown one at most once. Each is carried out on the register's value, which
//! must be what it needs. None of it returned before one in front of it was invoked: the latest invocation so far suffices to see
//! it. That is the definition. The versions only chose which order to try; a store that lies about them can have a valid history
//! searched, never an invalid one accepted.
//!
//! **Failure decides nothing**: versions may be missing or wrong while the answers have an order, and another choice of unknown
//! operations may fit. The search goes on as if nobody had asked.

use rustc_hash::FxHashMap;

use super::problem::{Position, Problem, Step, Value};

/// Whether the order by version is one. `version` tells that of an operation, by its index; `None`: it is not recorded.
pub(crate) fn confirms(problem: &Problem, version: impl Fn(u32) -> Option<u64>) -> bool {
    let mut told = Vec::with_capacity(problem.completed.len());
    for step in &problem.completed {
        let Some(version) = version(step.operation) else { return false };
        told.push((version, step.action.leaves().is_none(), step));
    }
    told.sort_unstable_by_key(|&(version, reads, step)| (version, reads, step.call));
    let mut replay = Replay { holds: problem.initial, latest: 0, unknown: Unknown::of(problem) };
    told.into_iter().all(|(.., step)| replay.goes_on(step))
}

/// The register, and the latest invocation of all that was carried out on it.
struct Replay<'a> {
    holds: Value,
    latest: Position,
    unknown: Unknown<'a>,
}

impl Replay<'_> {
    /// Carries the operation out, behind an unknown one if it takes one; false: it does not fit.
    fn goes_on(&mut self, step: &Step) -> bool {
        if let Some(needed) = step.action.needs()
            && needed != self.holds
        {
            let Some(unknown) = self.unknown.take(self.holds, needed) else { return false };
            if !self.carry_out(&unknown) {
                return false;
            }
        }
        self.carry_out(step)
    }

    fn carry_out(&mut self, step: &Step) -> bool {
        if step.action.needs().is_some_and(|needed| needed != self.holds) || step.ret < self.latest {
            return false;
        }
        self.latest = self.latest.max(step.call);
        self.holds = step.action.leaves().unwrap_or(self.holds);
        true
    }
}

/// Unknown operations that were not used yet.
struct Unknown<'a> {
    /// By what they need, if anything, and what they leave: the latest invoked first.
    left: FxHashMap<(Option<Value>, Value), Vec<&'a Step>>,
}

impl<'a> Unknown<'a> {
    fn of(problem: &'a Problem) -> Self {
        let mut left: FxHashMap<_, Vec<&Step>> = FxHashMap::default();
        for step in problem.unknown.iter().rev() {
            if let Some(leaves) = step.action.leaves() {
                left.entry((step.action.needs(), leaves)).or_default().push(step);
            }
        }
        Self { left }
    }

    /// The first to be invoked of those that turn one value into the other: a write, or a swap that expects the one. Whatever
    /// follows must have returned later than that.
    fn take(&mut self, from: Value, to: Value) -> Option<Step> {
        let first = |needs| self.left.get(&(needs, to)).and_then(|steps| steps.last()).map(|step| step.call);
        let earliest =
            [Some(from), None].into_iter().filter_map(|needs| Some((first(needs)?, needs))).min()?;
        self.left.get_mut(&(earliest.1, to))?.pop().copied()
    }
}

#[cfg(test)]
mod tests {
    use super::super::problem::Action;
    use super::*;

    /// Whether these versions confirm operations of a call, a return and an action; value 0 is the initial one.
    fn confirmed(steps: &[(Position, Position, Action, u64)]) -> bool {
        let step = |(operation, &(call, ret, action, _)): (usize, &(Position, Position, Action, u64))| Step {
            call,
            ret,
            action,
            operation: operation as u32,
        };
        let (completed, unknown) =
            steps.iter().enumerate().map(step).partition(|step: &Step| step.ret < Position::MAX);
        let problem = Problem { initial: 0, completed, unknown, values: 10 };
        confirms(&problem, |operation| Some(steps[operation as usize].3))
    }

    const UNKNOWN: Position = Position::MAX;

    #[test]
    fn an_order_that_respects_time_is_accepted() {
        let [write, other] = [Action::Write(1), Action::Write(2)];
        assert!(confirmed(&[(1, 4, write, 2), (2, 5, other, 1), (3, 6, Action::Read(2), 1)]));
        assert!(
            !confirmed(&[(1, 4, write, 2), (2, 5, other, 1), (6, 7, Action::Read(2), 1)]),
            "overwritten before"
        );
        assert!(!confirmed(&[(1, 2, write, 2), (3, 4, other, 1)]), "out of time");
        assert!(!confirmed(&[(1, 2, write, 1), (3, 4, Action::Read(2), 1)]), "never written");
    }

    #[test]
    fn unknown_operations_fill_gaps_once() {
        let (write, read) = (Action::Write(1), Action::Read(1));
        let swap = Action::Swap { expected: 1, new: 2 };
        let gap = [(1, UNKNOWN, write, 0), (2, 3, read, 1)];
        assert!(confirmed(&gap));
        let twice = [(4, 5, Action::Write(0), 2), (6, 7, read, 3)];
        assert!(!confirmed(&[&gap[..], &twice].concat()), "it happened once");
        assert!(!confirmed(&[(1, 2, read, 1), (3, UNKNOWN, write, 0)]), "not invoked yet");
        let chain = [(1, UNKNOWN, write, 0), (2, UNKNOWN, swap, 0), (3, 4, Action::Read(2), 5)];
        assert!(!confirmed(&chain), "two at once are left to the search");
        assert!(confirmed(&[&chain[..2], &[(3, 4, read, 4), (5, 6, Action::Read(2), 5)]].concat()));
        assert!(confirmed(&[(1, UNKNOWN, write, 0), (2, 3, swap, 1)]), "a swap found what nobody told of");
        let late = (6, UNKNOWN, Action::Swap { expected: 0, new: 1 }, 0);
        assert!(confirmed(&[&gap[..], &[late]].concat()), "the first to be invoked is taken");
    }
}
