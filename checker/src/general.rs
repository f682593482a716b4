//! Linearizability for any sequential specification: stateright's [`SequentialSpec`], nothing more.
//!
//! Two searches take turns on one table of states (`tables.rs`), each for a while that doubles: depth first (`depth.rs`), which
//! is quick where there is an order, and breadth first, just in time (`breadth.rs`), which is quick where there is none, since
//! it never looks beyond the completion that no order gets beyond. Whichever ends first decides; both are right. The turns are
//! counted in transitions, not in time, so the result is the same on every machine.
//!
//! ```
//! use checker::general::{check, Recorded, Verdict};
//! use checker::budget::Budget;
//! use stateright::semantics::SequentialSpec;
//!
//! /// A light with one switch that tells whether it is on now.
//! #[derive(Clone, PartialEq, Eq, Hash)]
//! struct Light(bool);
//!
//! impl SequentialSpec for Light {
//!     type Op = ();
//!     type Ret = bool;
//!     fn invoke(&mut self, (): &()) -> bool {
//!         self.0 = !self.0;
//!         self.0
//!     }
//! }
//!
//! impl checker::general::Model for Light {}
//!
//! // Two people press at once; a third presses when the first is done. One press has no answer: it may have happened.
//! let presses = [
//!     Recorded::completed((), true, 1, 3),
//!     Recorded::completed((), false, 2, 5),
//!     Recorded::completed((), false, 4, 6),
//!     Recorded::unknown((), 2),
//! ];
//! let verdict = check(&presses, &Light(false), Budget::default()).verdict;
//! assert_eq!(verdict, Verdict::Valid(vec![0, 1, 3, 2]));
//!
//! let twice = [Recorded::completed((), true, 1, 2), Recorded::completed((), true, 3, 4)];
//! let Verdict::Violation(violation) = check(&twice, &Light(false), Budget::default()).verdict else { panic!() };
//! assert_eq!((violation.stuck, violation.core), (1, vec![0, 1]));
//! ```

mod breadth;
mod core;
mod depth;
mod tables;
mod verify;

use std::fmt;
use std::hash::Hash;

use serde::Serialize;
use stateright::semantics::SequentialSpec;

use crate::budget::{Budget, Limits, Spent, Stopwatch};
use breadth::Breadth;
use depth::Depth;
use tables::{Prepared, Tables};
pub use verify::{Refuted, verify};

/// A sequential specification whose states, operations and answers can be kept and compared.
pub trait Model: SequentialSpec<Op: Clone + Eq + Hash, Ret: Clone + Eq + Hash> + Clone + Eq + Hash {
    /// Whether an operation that answers this is a mere look: whatever the state in which that answer is possible, it leaves it
    /// as it is. Saying so makes the search much quicker; saying it of one that changes a state is an error, at which the
    /// search panics.
    fn is_read(_op: &Self::Op, _answer: &Self::Ret) -> bool {
        false
    }

    /// The part of the object that an operation is about, if it is about one: operations on different parts neither see nor
    /// change anything of each other's. Then each part is judged on its own, which is quicker by far.
    fn part(_op: &Self::Op) -> Option<u64> {
        None
    }

    /// Bytes that it holds beside its own size, roughly: a memory limit counts them for every state that was met.
    fn weight(&self) -> usize {
        0
    }
}

/// An operation as it was recorded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recorded<O, R> {
    /// When it was invoked.
    pub called: usize,
    /// When it returned, and with what; `None`: unknown whether it happened.
    pub returned: Option<(usize, R)>,
    /// What was asked.
    pub op: O,
}

impl<O, R> Recorded<O, R> {
    /// An operation that returned. It precedes another if it returned before that was invoked; moments that are equal do not
    /// order anything.
    pub fn completed(op: O, answer: R, called: usize, returned: usize) -> Self {
        Self { called, returned: Some((returned, answer)), op }
    }

    /// An operation that may have happened at any time after its invocation, or never.
    pub fn unknown(op: O, called: usize) -> Self {
        Self { called, returned: None, op }
    }
}

/// A history of a model.
pub type Recording<M> = [Recorded<<M as SequentialSpec>::Op, <M as SequentialSpec>::Ret>];

/// What was found, and what it cost.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The verdict.
    pub verdict: Verdict,
    /// Transitions made.
    pub steps: u64,
    /// Different configurations visited.
    pub configurations: usize,
    /// Most bytes of search state at any moment, roughly.
    pub bytes: usize,
}

/// Whether a history is linearizable. Operations are named by their places in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is: in this order. Unknown operations that are not in it did not happen.
    Valid(Vec<usize>),
    /// It is not.
    Violation(Violation),
    /// Not decided.
    Unknown(Undecided),
}

/// Why a history is not linearizable.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Violation {
    /// Operations whose answers contradict each other, by invocation: no order suits them, even if all others happened at any
    /// time after their invocation, with any answer, or never.
    pub core: Vec<usize>,
    /// The operation of the core that cannot be placed: up to its completion there is an order of the others, beyond it none.
    pub stuck: usize,
    /// A longest order of what could be placed before that.
    pub placed: Vec<usize>,
}

/// What was not decided.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Undecided {
    /// Which part of the budget ran out.
    pub reason: Spent,
    /// Most completed operations that were put in order.
    pub placed: usize,
    /// How many there are.
    pub completed: usize,
}

impl fmt::Display for Undecided {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}; {} of {} operations were put in order", self.reason, self.placed, self.completed)
    }
}

/// Transitions of the first turn of each search.
const FIRST_TURN: u64 = 256;

/// Which searches are made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Searches {
    /// Both, in turn.
    InTurns,
    /// Depth first alone.
    DepthFirst,
    /// Breadth first alone.
    BreadthFirst,
}

/// Judges a history of one object that begins as `model`.
pub fn check<M: Model>(history: &Recording<M>, model: &M, budget: Budget) -> Finding {
    check_by(history, model, Searches::InTurns, budget)
}

/// The same by these searches: each must be right alone, however seldom the other leaves it the last word.
pub fn check_by<M: Model>(history: &Recording<M>, model: &M, searches: Searches, budget: Budget) -> Finding {
    let watch = Stopwatch::start(budget.time);
    within(history, model, searches, Limits::share(budget, 1, &watch))
}

/// The same within what is left of a budget.
pub(crate) fn within<M: Model>(
    history: &Recording<M>,
    model: &M,
    searches: Searches,
    limits: Limits<'_>,
) -> Finding {
    let parts = parts::<M>(history);
    if parts.len() < 2 {
        return undivided(history, model, searches, limits);
    }
    // linearizability is local (Herlihy & Wing 1990, theorem 1), and parts are objects that do not touch each other
    let mut whole = Finding { verdict: Verdict::Valid(Vec::new()), steps: 0, configurations: 0, bytes: 0 };
    let mut orders = Vec::new();
    for places in parts {
        let part: Vec<_> = places.iter().map(|&place| history[place].clone()).collect();
        // they share the transitions that there are
        let limits = Limits { steps: limits.steps.saturating_sub(whole.steps), ..limits };
        let Finding { verdict, steps, configurations, bytes } = undivided(&part, model, searches, limits);
        whole.steps += steps;
        whole.configurations += configurations;
        whole.bytes = whole.bytes.max(bytes);
        let outer = |inner: Vec<usize>| inner.into_iter().map(|place| places[place]).collect::<Vec<_>>();
        match verdict {
            Verdict::Valid(order) => orders.push(outer(order)),
            Verdict::Violation(Violation { core, stuck, placed }) => {
                let (core, stuck, placed) = (outer(core), places[stuck], outer(placed));
                whole.verdict = Verdict::Violation(Violation { core, stuck, placed });
                return whole;
            }
            // a violation of another part counts more
            Verdict::Unknown(undecided) => whole.verdict = Verdict::Unknown(undecided),
        }
    }
    if let Verdict::Valid(order) = &mut whole.verdict {
        *order = merged::<M>(history, orders);
    }
    whole
}

/// The places of the operations on each part; all in one where an operation may be about all.
fn parts<M: Model>(history: &Recording<M>) -> Vec<Vec<usize>> {
    let mut parts = std::collections::BTreeMap::<u64, Vec<usize>>::new();
    for (place, operation) in history.iter().enumerate() {
        match M::part(&operation.op) {
            Some(part) => parts.entry(part).or_default().push(place),
            None => return Vec::new(),
        }
    }
    parts.into_values().collect()
}

/// One order of all parts. Each operation takes effect when it and all before it in its part have been invoked, which is
/// before it returns, since nothing before it was invoked later than that.
fn merged<M: Model>(history: &Recording<M>, orders: Vec<Vec<usize>>) -> Vec<usize> {
    let mut points = Vec::new();
    for order in orders {
        let mut point = 0;
        for place in order {
            point = point.max(history[place].called);
            points.push((point, place));
        }
    }
    // stable: what takes effect at the same moment stays in order
    points.sort_by_key(|&(point, _)| point);
    points.into_iter().map(|(_, place)| place).collect()
}

fn undivided<M: Model>(history: &Recording<M>, model: &M, searches: Searches, limits: Limits<'_>) -> Finding {
    let mut search = Portfolio::new(history, model, limits);
    let (answer, placed) = search.run(searches);
    let Portfolio { prepared, tables, depth, breadth } = search;
    let configurations = depth.configurations() + breadth.configurations();
    let verdict = match answer {
        Answer::Linearizable => Verdict::Valid(placed),
        Answer::Stuck { completion } => {
            let (core, stuck) = core::shrink(history, model, completion, tables.steps, limits);
            Verdict::Violation(Violation { core, stuck, placed })
        }
        Answer::Spent(reason) => {
            let placed = depth.furthest().max(breadth.furthest());
            Verdict::Unknown(Undecided { reason, placed, completed: prepared.completed.len() })
        }
    };
    Finding { verdict, steps: tables.steps, configurations, bytes: tables.peak }
}

/// Whether there is an order, and if not, the operation that cannot be placed; `None`: the limits do not suffice.
fn decide<M: Model>(
    history: &Recording<M>,
    model: &M,
    limits: Limits<'_>,
) -> Option<Result<Vec<usize>, usize>> {
    let mut search = Portfolio::new(history, model, limits);
    match search.run(Searches::InTurns) {
        (Answer::Linearizable, order) => Some(Ok(order)),
        (Answer::Stuck { completion }, _) => Some(Err(completion)),
        (Answer::Spent(_), _) => None,
    }
}

/// How a search ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Answer {
    /// There is an order.
    Linearizable,
    /// There is none.
    Stuck {
        /// Place in the history of the operation whose completion no order gets beyond.
        completion: usize,
    },
    /// The budget ran out.
    Spent(Spent),
}

/// Both searches and what they share.
struct Portfolio<'a, M: Model> {
    prepared: Prepared,
    tables: Tables<'a, M>,
    depth: Depth,
    breadth: Breadth,
}

impl<'a, M: Model> Portfolio<'a, M> {
    fn new(history: &'a Recording<M>, model: &M, limits: Limits<'a>) -> Self {
        let (prepared, tables) = tables::prepare(history, model, limits);
        Self { prepared, tables, depth: Depth::default(), breadth: Breadth::default() }
    }

    /// The answer, with the order found or the longest one up to where no order gets on.
    fn run(&mut self, searches: Searches) -> (Answer, Vec<usize>) {
        let mut turn = FIRST_TURN;
        loop {
            if searches != Searches::BreadthFirst
                && let Some(answer) = self.depth.run(&self.prepared, &mut self.tables, turn)
            {
                return (answer, self.depth.order(&self.prepared));
            }
            if searches != Searches::DepthFirst
                && let Some(answer) = self.breadth.run(&self.prepared, &mut self.tables, turn)
            {
                return (answer, self.breadth.order());
            }
            turn = turn.saturating_mul(2);
        }
    }
}
