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
use super::tables::{ALLOCATED, Class, Held, Prepared, State, Tables, list_bytes, table_bytes};
use super::{Answer, Model};
use crate::budget::Spent;

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

/// Ways to use unknown operations of which none is better than another.
type Front = Vec<Vec<(u32, u32)>>;

/// What tells nodes apart, but for the unknown operations used; and for each the ways to use them.
#[derive(Default)]
struct Fronts {
    by_key: FxHashMap<Box<[u32]>, Front>,
    /// Bytes of the keys and of what the fronts hold.
    held: usize,
}

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
    /// Configurations behind the last completion, as long as none of them is extended.
    frontier: Vec<Node>,
    /// The last step on the way to the first of them.
    at: u32,
    /// Nodes to be extended towards the completion at hand, while there is one.
    todo: Option<Vec<Node>>,
    /// Nodes that were met on the way to it.
    met: Fronts,
    /// Configurations behind it.
    next: Vec<Node>,
    behind: Fronts,
    trail: Vec<Step>,
    configurations: usize,
    /// Bytes of the lists of all nodes.
    nodes: usize,
    held: Held,
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
        let mut at = self.at;
        while let Some(&(before, place)) = self.trail.get(at as usize) {
            order.push(place);
            at = before;
        }
        order.reverse();
        order
    }

    /// What it holds, or holds for a moment when the next node comes.
    fn bytes(&self, todo: &Vec<Node>) -> usize {
        let nodes = list_bytes(todo) + list_bytes(&self.next) + list_bytes(&self.frontier) + self.nodes;
        let numbers = list_bytes(&self.returns) + list_bytes(&self.ranks) + list_bytes(&self.open);
        nodes + numbers + list_bytes(&self.trail) + self.met.bytes() + self.behind.bytes()
    }

    /// Goes on for so many transitions.
    pub(super) fn run<M: Model>(
        &mut self,
        prepared: &Prepared,
        tables: &mut Tables<'_, M>,
        turn: u64,
    ) -> Option<Answer> {
        if self.frontier.is_empty() && self.todo.is_none() {
            self.returns = (0..prepared.completed.len() as u32).collect();
            self.returns.sort_by_key(|&index| prepared.completed[index as usize].ret);
            self.ranks = vec![0; self.returns.len()];
            for (rank, &index) in self.returns.iter().enumerate() {
                self.ranks[index as usize] = rank as u32;
            }
            self.at = NONE;
            self.frontier.push(Node { last: NONE, ..Node::default() });
            self.nodes = self.frontier[0].bytes();
        }
        let mut left = turn;
        loop {
            let Some(&target) = self.returns.get(self.returned) else { return Some(Answer::Linearizable) };
            let mut todo = match self.todo.take() {
                Some(todo) => todo,
                None => match self.begin(prepared, tables, target, &mut left) {
                    Ok(todo) => todo,
                    Err(spent) => return Some(Answer::Spent(spent)),
                },
            };
            loop {
                if left == 0 {
                    self.todo = Some(todo);
                    return None;
                }
                let Some(node) = todo.pop() else { break };
                left -= 1;
                let now = self.bytes(&todo);
                if let Err(spent) = tables.count(&mut self.held, now) {
                    return Some(Answer::Spent(spent));
                }
                self.nodes -= node.bytes();
                self.extend(prepared, tables, target, &node, &mut todo);
            }
            if self.next.is_empty() {
                let completion = prepared.completed[target as usize].place;
                return Some(Answer::Stuck { completion });
            }
            self.finish(target);
        }
    }

    /// Takes what was invoked before this completion into progress; tells from where it is to be reached. Where it is linearised
    /// already, the configuration has had its turn with that.
    fn begin<M: Model>(
        &mut self,
        prepared: &Prepared,
        tables: &mut Tables<'_, M>,
        target: u32,
        left: &mut u64,
    ) -> Result<Vec<Node>, Spent> {
        let moment = prepared.completed[target as usize].ret;
        while prepared.completed.get(self.high as usize).is_some_and(|done| done.call <= moment) {
            self.open.push(self.high);
            self.high += 1;
        }
        let mut todo = Vec::new();
        self.frontier.reverse();
        while let Some(node) = self.frontier.pop() {
            let now = self.bytes(&todo);
            tables.look(&mut self.held, now)?;
            self.nodes -= node.bytes();
            let length = self.trail.len();
            let settled = self.settle(prepared, tables, node);
            let kept = if settled.done.binary_search(&target).is_ok() {
                *left = left.saturating_sub(1);
                self.arrive(target, settled)
            } else {
                self.nodes += settled.bytes();
                todo.push(settled);
                true
            };
            self.keep_trail(length, kept);
        }
        Ok(todo)
    }

    /// The completion is dealt with.
    fn finish(&mut self, target: u32) {
        self.open.retain(|&index| index != target);
        self.returned += 1;
        self.met.by_key.clear();
        self.met.held = 0;
        let behind = std::mem::take(&mut self.behind);
        self.frontier.clear();
        for node in std::mem::take(&mut self.next) {
            let kept = behind.by_key.get(&node.key()).is_some_and(|front| front.contains(&node.used));
            if kept {
                self.frontier.push(node);
            }
        }
        self.nodes = self.frontier.iter().map(Node::bytes).sum();
        self.at = self.frontier.first().map_or(NONE, |node| node.last);
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
    fn arrive(&mut self, target: u32, mut node: Node) -> bool {
        node.done.retain(|&index| index != target);
        node.pending = None;
        let new = self.behind.insert(&node);
        if new {
            self.configurations += 1;
            self.nodes += node.bytes();
            self.next.push(node);
        }
        new
    }

    /// The trail was so long before a node that is kept or not.
    fn keep_trail(&mut self, length: usize, kept: bool) {
        if !kept {
            self.trail.truncate(length);
        }
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
            self.keep_trail(length, kept);
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
            self.keep_trail(length, kept);
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
            return self.arrive(target, node);
        }
        let new = self.met.insert(&node);
        if new {
            self.configurations += 1;
            self.nodes += node.bytes();
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

    /// Bytes of its lists.
    fn bytes(&self) -> usize {
        let (done, used) = (self.done.capacity(), self.used.capacity());
        2 * ALLOCATED + size_of::<u32>() * done + size_of::<(u32, u32)>() * used
    }
}

impl Fronts {
    /// Whether nothing that is as good is there already; what the node is better than goes.
    fn insert(&mut self, node: &Node) -> bool {
        let key = node.key();
        let key_bytes = size_of_val(&key[..]) + 2 * ALLOCATED;
        let front = self.by_key.entry(key).or_default();
        if front.iter().any(|used| is_within(used, &node.used)) {
            return false;
        }
        let before = if front.is_empty() { 0 } else { key_bytes + front_bytes(front) };
        front.retain(|used| !is_within(&node.used, used));
        front.push(node.used.clone());
        self.held = self.held - before + key_bytes + front_bytes(front);
        true
    }

    fn bytes(&self) -> usize {
        self.held + table_bytes(&self.by_key)
    }
}

fn front_bytes(front: &Front) -> usize {
    let used = |used: &Vec<(u32, u32)>| ALLOCATED + size_of::<(u32, u32)>() * used.capacity();
    size_of::<Vec<(u32, u32)>>() * front.capacity() + front.iter().map(used).sum::<usize>()
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
