//! Breadth first, just in time (Lowe 2017): all configurations that there can be, from completion to completion.
//!
//! At each completion every configuration in which that operation is not linearised yet is extended by sequences of operations
//! in progress that end with it; those in which none fits are gone. When none is left, no order gets beyond this completion.
//!
//! Reductions, beside eager reads (see [`super::depth`]):
//! - **Just in time.** Of two neighbours that can change places without a change of answers or of the state behind both, only the
//!   order by rank is tried: first what returns first, unknown operations last, by number. So what can change places with the
//!   operation that completes next is left for later.
//! - **Alike.** Of operations in progress that ask and answer the same only the first by rank is tried.
//! - **Dominance.** Of two configurations with the same state and the same operations linearised, the one that has used as
//!   many or more of each kind of unknown operations can do nothing that the other cannot.
//!
//! They are sound together, for any specification, because the first two mend the same thing: pairs out of rank. Of the orders
//! S that there are take those with the fewest unknown operations, of these those with the fewest pairs of operations other
//! than reads that stand out of rank, and of these one with every read as early as it can be. Each reduction would turn S into
//! an order that comes before it:
//! - a read that moves to where it first fits changes no pair of others;
//! - two neighbours x y out of rank change places: y was invoked before x returned, since it returns before x, so real time
//!   allows it, and there is one such pair less;
//! - x, and y that is like it, in progress already and before it by rank, change places: whatever stands between them in S was
//!   invoked before y returned, so before x did; the states stay the same; and of the pairs that are concerned, the one of x
//!   and y is mended and none of the others gets worse.
//!
//! So nothing keeps the search from S. Where a configuration on the way is dominated, the search goes on behind the other with
//! the same rest: whether a step is left out depends on nothing but the step and what makes configurations equal.

use rustc_hash::FxHashMap;

use super::depth::{use_one, uses};
use super::tables::{Class, ENTRY, Prepared, State, Tables};
use super::{Answer, Model};

/// No operation.
const NONE: u32 = u32::MAX;

#[derive(Clone, Default)]
struct Node {
    state: State,
    /// Operations in progress that are linearised, in the order of their numbers.
    done: Vec<u32>,
    used: Vec<(u32, u32)>,
    /// The last step on the way here, in [`Breadth::trail`].
    last: u32,
    pending: Option<Pending>,
}

/// The operation taken last, if nothing was taken since.
#[derive(Clone, Copy)]
struct Pending {
    /// The state before it.
    before: State,
    class: Class,
    /// By which commuting operations are ordered: by completion, then the unknown ones by number.
    rank: (bool, u32),
}

/// A step on the way to nodes: the one before, and the place of the operation in the history.
type Step = (u32, usize);

/// What tells nodes apart, but for the unknown operations used; and for each the ways to use them of which none is better
/// than another.
type Fronts = FxHashMap<Box<[u32]>, Vec<Vec<(u32, u32)>>>;

/// The search, which can be interrupted.
#[derive(Default)]
pub(super) struct Breadth {
    /// Completed operations by completion.
    returns: Vec<u32>,
    /// For each its place there.
    ranks: Vec<u32>,
    /// How many of them are dealt with.
    returned: usize,
    /// Operations below it have been invoked.
    high: u32,
    /// Operations in progress.
    open: Vec<u32>,
    /// Configurations behind the last completion.
    frontier: Vec<Node>,
    /// Nodes to be extended towards the completion at hand, while there is one.
    todo: Option<Vec<Node>>,
    /// Nodes that were met on the way to it.
    met: Fronts,
    /// Configurations behind it.
    next: Vec<Node>,
    behind: Fronts,
    trail: Vec<Step>,
    configurations: usize,
    bytes: usize,
}

impl Breadth {
    pub(super) fn configurations(&self) -> usize {
        self.configurations
    }

    pub(super) fn furthest(&self) -> usize {
        self.returned
    }

    /// The order found, or one up to where none gets on.
    pub(super) fn order(&self) -> Vec<usize> {
        let mut order = Vec::new();
        let mut at = self.frontier.first().map_or(NONE, |node| node.last);
        while let Some(&(before, place)) = self.trail.get(at as usize) {
            order.push(place);
            at = before;
        }
        order.reverse();
        order
    }

    /// Goes on for so many transitions.
    pub(super) fn run<M: Model>(
        &mut self,
        prepared: &Prepared,
        tables: &mut Tables<'_, M>,
        turn: u64,
    ) -> Option<Answer> {
        if self.frontier.is_empty() {
            self.returns = (0..prepared.completed.len() as u32).collect();
            self.returns.sort_by_key(|&index| prepared.completed[index as usize].ret);
            self.ranks = vec![0; self.returns.len()];
            for (rank, &index) in self.returns.iter().enumerate() {
                self.ranks[index as usize] = rank as u32;
            }
            self.frontier.push(Node { last: NONE, ..Node::default() });
        }
        let mut left = turn;
        loop {
            let Some(&target) = self.returns.get(self.returned) else { return Some(Answer::Linearizable) };
            let mut todo = match self.todo.take() {
                Some(todo) => todo,
                None => self.begin(prepared, tables, target),
            };
            while let Some(node) = todo.pop() {
                if left == 0 {
                    todo.push(node);
                    self.todo = Some(todo);
                    return None;
                }
                left -= 1;
                if let Err(spent) = tables.count() {
                    return Some(Answer::Spent(spent));
                }
                self.extend(prepared, tables, target, &node, &mut todo);
            }
            if self.next.is_empty() {
                let completion = prepared.completed[target as usize].place;
                return Some(Answer::Stuck { completion });
            }
            self.finish(tables, target);
        }
    }

    /// Takes what was invoked before this completion into progress; tells from where it is to be reached.
    fn begin<M: Model>(&mut self, prepared: &Prepared, tables: &mut Tables<'_, M>, target: u32) -> Vec<Node> {
        let moment = prepared.completed[target as usize].ret;
        while prepared.completed.get(self.high as usize).is_some_and(|done| done.call <= moment) {
            self.open.push(self.high);
            self.high += 1;
        }
        let mut todo = Vec::new();
        for node in self.frontier.clone() {
            let length = self.trail.len();
            let settled = self.settle(prepared, tables, node);
            let kept = if settled.done.binary_search(&target).is_ok() {
                self.arrive(tables, target, settled)
            } else {
                todo.push(settled);
                true
            };
            self.keep_trail(tables, length, kept);
        }
        todo
    }

    /// The completion is dealt with.
    fn finish<M: Model>(&mut self, tables: &mut Tables<'_, M>, target: u32) {
        self.open.retain(|&index| index != target);
        self.returned += 1;
        self.met.clear();
        tables.discharge(self.bytes);
        self.bytes = 0;
        let behind = std::mem::take(&mut self.behind);
        self.frontier.clear();
        for node in std::mem::take(&mut self.next) {
            let kept = behind.get(&node.key()).is_some_and(|front| front.contains(&node.used));
            if kept {
                self.frontier.push(node);
            }
        }
    }

    /// All reads in progress that fit are linearised.
    fn settle<M: Model>(&mut self, prepared: &Prepared, tables: &mut Tables<'_, M>, mut node: Node) -> Node {
        for &index in &self.open {
            let done = prepared.completed[index as usize];
            if let Err(at) = node.done.binary_search(&index)
                && tables.reads(node.state, done.class)
            {
                node.done.insert(at, index);
                node.pending = None;
                self.trail.push((node.last, done.place));
                node.last = self.trail.len() as u32 - 1;
            }
        }
        node
    }

    /// A configuration behind the completion at hand; tells whether it is new.
    fn arrive<M: Model>(&mut self, tables: &mut Tables<'_, M>, target: u32, mut node: Node) -> bool {
        node.done.retain(|&index| index != target);
        node.pending = None;
        let new = insert(&mut self.behind, &node);
        if new {
            self.configurations += 1;
            self.charge(tables, &node);
            self.next.push(node);
        }
        new
    }

    /// The trail was so long before a node that is kept or not.
    fn keep_trail<M: Model>(&mut self, tables: &mut Tables<'_, M>, length: usize, kept: bool) {
        if kept {
            tables.charge(size_of::<Step>() * (self.trail.len() - length));
        } else {
            self.trail.truncate(length);
        }
    }

    fn charge<M: Model>(&mut self, tables: &mut Tables<'_, M>, node: &Node) {
        let words = 2 * node.done.len() + 4 * node.used.len();
        let bytes = 2 * size_of::<Node>() + 4 * words + 2 * ENTRY;
        tables.charge(bytes);
        self.bytes += bytes;
    }

    /// Extends a node in which the target is not linearised by one operation, in all ways.
    fn extend<M: Model>(
        &mut self,
        prepared: &Prepared,
        tables: &mut Tables<'_, M>,
        target: u32,
        node: &Node,
        todo: &mut Vec<Node>,
    ) {
        let mut alike: Vec<(Class, u32, u32)> = Vec::new();
        for &index in self.open.iter().filter(|index| node.done.binary_search(index).is_err()) {
            let done = prepared.completed[index as usize];
            alike.push((done.class, self.ranks[index as usize], index));
        }
        alike.sort_unstable();
        alike.dedup_by_key(|&mut (class, ..)| class);
        for (class, rank, index) in alike {
            let Some(after) = tables.step(node.state, class) else { continue };
            let rank = (false, rank);
            if node
                .pending
                .is_some_and(|last| rank < last.rank && tables.commute(last.before, last.class, class, after))
            {
                continue;
            }
            let mut next = node.clone();
            let length = self.trail.len();
            let place = prepared.completed[index as usize].place;
            self.step(&mut next, after, Pending { before: node.state, class, rank }, place);
            let at = next.done.binary_search(&index).unwrap_or_else(|at| at);
            next.done.insert(at, index);
            let kept = self.reach(prepared, tables, target, next, todo);
            self.keep_trail(tables, length, kept);
        }
        let moment = prepared.completed[target as usize].ret;
        for (slot, unknown) in prepared.unknown.iter().enumerate() {
            let (slot, class) = (slot as u32, unknown.class);
            let nth = uses(&node.used, slot);
            if nth >= unknown.invoked_before(moment.saturating_add(1)) {
                continue;
            }
            let Some(after) = tables.step(node.state, class).filter(|&after| after != node.state) else {
                continue;
            };
            let rank = (true, slot);
            let reorders =
                |last: Pending| rank < last.rank && tables.commute(last.before, last.class, class, after);
            if node.pending.is_some_and(reorders) {
                continue;
            }
            let mut next = node.clone();
            let length = self.trail.len();
            let place = unknown.members[nth as usize].1;
            self.step(&mut next, after, Pending { before: node.state, class, rank }, place);
            use_one(&mut next.used, slot);
            let kept = self.reach(prepared, tables, target, next, todo);
            self.keep_trail(tables, length, kept);
        }
    }

    fn step(&mut self, node: &mut Node, after: State, pending: Pending, place: usize) {
        node.state = after;
        node.pending = Some(pending);
        self.trail.push((node.last, place));
        node.last = self.trail.len() as u32 - 1;
    }

    /// A node on the way to the completion at hand, or behind it; tells whether it is new.
    fn reach<M: Model>(
        &mut self,
        prepared: &Prepared,
        tables: &mut Tables<'_, M>,
        target: u32,
        node: Node,
        todo: &mut Vec<Node>,
    ) -> bool {
        let node = self.settle(prepared, tables, node);
        if node.done.binary_search(&target).is_ok() {
            return self.arrive(tables, target, node);
        }
        let new = insert(&mut self.met, &node);
        if new {
            self.configurations += 1;
            self.charge(tables, &node);
            todo.push(node);
        }
        new
    }
}

impl Node {
    fn key(&self) -> Box<[u32]> {
        let mut key = Vec::with_capacity(5 + self.done.len());
        let (before, (unknown, number)) =
            self.pending.map_or((NONE, (false, NONE)), |last| (last.before, last.rank));
        key.extend([self.state, before, u32::from(unknown), number]);
        key.extend_from_slice(&self.done);
        key.into_boxed_slice()
    }
}

/// Whether nothing that is as good is there already; what the node is better than goes.
fn insert(fronts: &mut Fronts, node: &Node) -> bool {
    let front = fronts.entry(node.key()).or_default();
    if front.iter().any(|used| is_within(used, &node.used)) {
        return false;
    }
    front.retain(|used| !is_within(&node.used, used));
    front.push(node.used.clone());
    true
}

/// Whether no kind of unknown operations is used more often in `few` than in `many`.
fn is_within(few: &[(u32, u32)], many: &[(u32, u32)]) -> bool {
    few.iter().all(|&(slot, count)| count <= uses(many, slot))
}

#[cfg(test)]
mod tests {
    use super::super::{Limits, Portfolio, Recorded, Searches, Stopwatch};
    use super::*;
    use crate::budget::Budget;
    use crate::model::{Register, RegisterOp, RegisterRet};

    /// After four writes it does not matter in which order the first two of them came.
    #[test]
    fn steps_to_what_was_there_already_are_forgotten() {
        let history: Vec<_> = (0..6)
            .map(|value| Recorded::completed(RegisterOp::Put(value), RegisterRet::Done, 0, 10 + value))
            .chain([Recorded::completed(RegisterOp::Get, RegisterRet::Value(Some(99)), 9, 10)])
            .collect();
        let watch = Stopwatch::start(None);
        let limits = Limits::share(Budget::default(), 1, &watch);
        let mut search = Portfolio::new(&history, &Register(None), limits);
        let (answer, _) = search.run(Searches::BreadthFirst);
        assert_eq!(answer, Answer::Stuck { completion: 6 });
        let Portfolio { breadth, tables, .. } = search;
        assert!(tables.steps > 100, "{}", tables.steps);
        assert!(breadth.trail.len() <= breadth.configurations, "no step leads to nothing that is new");
    }
}
