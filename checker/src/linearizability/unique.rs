//! The near-linear decision for keys whose values are each written at most once (Gibbons & Korach 1997, extended by
//! compare-and-swap chains and unknown operations).
//!
//! Only values that are needed must be unique; others cannot be told apart anyway. An unknown operation that left a
//! needed value has happened, since nothing else can have; the other unknown ones drop out (lemma in [`super::needs`]).
//!
//! - A *cluster* is a value's writer and its readers. In any order the cluster is contiguous, the writer first.
//! - A swap a -> b consumes a: cluster b follows right behind cluster a. So clusters form *chains* that begin with a
//!   write or the initial value, and a chain is contiguous in any order. Two swaps that consume one value, a value that
//!   is needed but was never written, and a cycle of swaps have no order.
//! - Inside a chain the order is fixed: writer, readers, swap, readers, … It respects real time exactly when no member
//!   returned before one of an earlier stage was invoked; the latest invocation so far suffices to see it.
//! - Chain A must precede chain B exactly when a member of A returned before one of B was invoked:
//!   `first_return(A) < last_call(B)`. An order of chains exists exactly when no two must precede each other. *Proof.* Let
//!   M have the greatest `last_call` on a cycle, and let N follow M on it. Then N's successor was last invoked no later
//!   than M, so N must precede M; and M must precede N. ∎
//! - With zones [first return, last call], *forward* when not reversed, two chains must precede each other exactly when
//!   both are forward and overlap, or a reversed one lies inside a forward one.

use rustc_hash::{FxHashMap, FxHashSet};

use super::needs::Needs;
use super::problem::{Action, Position, Problem, Step};

/// Whether the key's history is linearizable; `None`: a needed value was written twice, so this cannot tell.
pub(crate) fn linearizable(problem: &Problem) -> Option<bool> {
    let clusters = Clusters::of(problem)?;
    Some(!clusters.impossible && clusters.zones().is_some_and(orderable))
}

/// An order of a problem that [`linearizable`] says has one: operations by their indices.
///
/// Chains stand by the sum of both ends of their zones. If A must precede B, and B need not precede A, then the first return of A
/// is below the last call of B, and the first return of B is not below the last call of A: so the sum of A is below that of B.
pub(crate) fn order(problem: &Problem) -> Option<Vec<u32>> {
    let clusters = Clusters::of(problem)?;
    // of each cluster: the sum of its chain, where that begins, and its place in it
    let mut ranks = vec![(u64::MAX, usize::MAX, usize::MAX); clusters.all.len()];
    for (start, _) in clusters.starts() {
        let mut zone = Zone::EMPTY;
        for at in clusters.chain(start) {
            zone.add(clusters.all[at].writer.unwrap_or(Zone::EMPTY));
            zone.add(clusters.all[at].readers);
        }
        let sum = u64::from(zone.first_return) + u64::from(zone.last_call);
        for (place, at) in clusters.chain(start).enumerate() {
            ranks[at] = (sum, start, place);
        }
    }
    let mut members = members(problem);
    members.sort_unstable_by_key(|(step, cluster, writes)| (ranks[*cluster], !writes, step.call));
    Some(members.into_iter().map(|(step, ..)| step.operation).collect())
}

/// Operations that contradict each other, by their indices, of a problem that [`linearizable`] says has no order: those of one
/// chain or of two, and of each cluster's readers only the first to return and the last to be invoked. `None`: the
/// contradiction is of another kind.
pub(crate) fn contradiction(problem: &Problem) -> Option<FxHashSet<u32>> {
    let clusters = Clusters::of(problem)?;
    let of_chains: FxHashSet<usize> =
        clusters.clashing_chains()?.into_iter().flat_map(|start| clusters.chain(start)).collect();
    let mut found = FxHashSet::default();
    let mut readers: FxHashMap<usize, [Step; 2]> = FxHashMap::default();
    for (step, cluster, writes) in members(problem).into_iter().filter(|(_, at, _)| of_chains.contains(at)) {
        if writes {
            found.insert(step.operation);
            continue;
        }
        let [first, last] = readers.entry(cluster).or_insert([step; 2]);
        if step.ret < first.ret {
            *first = step;
        }
        if step.call > last.call {
            *last = step;
        }
    }
    found.extend(readers.into_values().flatten().map(|step| step.operation));
    Some(found)
}

/// The operations that happened, each with its cluster as [`Clusters::add`] numbers it, and whether it wrote that. A read of what
/// nothing writes has none.
fn members(problem: &Problem) -> Vec<(Step, usize, bool)> {
    let needs = Needs::of(problem);
    let happened =
        problem.unknown.iter().filter(|step| step.action.leaves().is_some_and(|value| needs.alive(value, 0)));
    let mut nameless = problem.values;
    let mut members = Vec::new();
    for step in problem.completed.iter().chain(happened) {
        let member = match (step.action.leaves(), step.action.needs()) {
            (Some(value), _) if needs.alive(value, 0) => (*step, value as usize, true),
            (Some(_), _) => {
                nameless += 1;
                (*step, nameless - 1, true)
            }
            (None, Some(value)) if (value as usize) < problem.values => (*step, value as usize, false),
            (None, _) => continue,
        };
        members.push(member);
    }
    members
}

/// When a set of operations first returned and was last invoked.
#[derive(Clone, Copy)]
struct Zone {
    first_return: Position,
    last_call: Position,
}

impl Zone {
    const EMPTY: Self = Self { first_return: Position::MAX, last_call: 0 };

    fn of(step: &Step) -> Self {
        Self { first_return: step.ret, last_call: step.call }
    }

    fn add(&mut self, other: Self) {
        self.first_return = self.first_return.min(other.first_return);
        self.last_call = self.last_call.max(other.last_call);
    }
}

/// No cluster.
const NONE: u32 = u32::MAX;

#[derive(Clone)]
struct Cluster {
    writer: Option<Zone>,
    /// A swap wrote it: it continues a chain.
    swapped: bool,
    readers: Zone,
    needed: bool,
    /// The cluster that a swap put behind it; or [`NONE`].
    next: u32,
}

impl Cluster {
    const NEW: Self = Self { writer: None, swapped: false, readers: Zone::EMPTY, needed: false, next: NONE };
}

struct Clusters {
    /// By value; behind them, one for each writer of a value that nobody needs.
    all: Vec<Cluster>,
    impossible: bool,
}

impl Clusters {
    /// Sorts the operations into clusters; `None`: a needed value was written twice.
    fn of(problem: &Problem) -> Option<Self> {
        let mut clusters = Self::new(problem);
        let needs = Needs::of(problem);
        let happened = problem
            .unknown
            .iter()
            .filter(|step| step.action.leaves().is_some_and(|value| needs.alive(value, 0)));
        for step in problem.completed.iter().chain(happened) {
            clusters.add(step, &needs)?;
        }
        Some(clusters)
    }

    fn new(problem: &Problem) -> Self {
        let mut all = vec![Cluster::NEW; problem.values];
        // The initial value was written before everything.
        all[problem.initial as usize].writer = Some(Zone { first_return: 0, last_call: 0 });
        Self { all, impossible: false }
    }

    /// Adds an operation; `None`: its value was written before.
    fn add(&mut self, step: &Step, needs: &Needs) -> Option<()> {
        let written = match step.action.leaves() {
            Some(value) if needs.alive(value, 0) => Some(value as usize),
            Some(_) => {
                self.all.push(Cluster::NEW);
                Some(self.all.len() - 1)
            }
            None => None,
        };
        if let Some(written) = written {
            let cluster = &mut self.all[written];
            if cluster.writer.replace(Zone::of(step)).is_some() {
                return None;
            }
            cluster.swapped = matches!(step.action, Action::Swap { .. });
        }
        let Some(needed) = step.action.needs() else { return Some(()) };
        let Some(cluster) = self.all.get_mut(needed as usize) else {
            self.impossible = true;
            return Some(());
        };
        cluster.needed = true;
        match written {
            // If two swaps consume one value, no chain reaches the cluster of the other.
            Some(next) => cluster.next = next as u32,
            None => cluster.readers.add(Zone::of(step)),
        }
        Some(())
    }

    /// Where chains begin.
    fn starts(&self) -> impl Iterator<Item = (usize, &Cluster)> {
        self.all.iter().enumerate().filter(|(_, cluster)| cluster.writer.is_some() && !cluster.swapped)
    }

    /// The clusters of a chain that begins here.
    fn chain(&self, start: usize) -> impl Iterator<Item = usize> {
        let next = |&at: &usize| Some(self.all[at].next as usize).filter(|&next| next < self.all.len());
        // two swaps that consume one value, or a cycle, must not keep it going for ever
        std::iter::successors(Some(start), next).take(self.all.len())
    }

    /// Where the chains begin that have no order: one in itself, or two that must precede each other.
    fn clashing_chains(&self) -> Option<Vec<usize>> {
        let mut zones: Vec<(Zone, usize)> = Vec::new();
        for (start, _) in self.starts() {
            let mut zone = Zone::EMPTY;
            for at in self.chain(start) {
                for stage in [self.all[at].writer.unwrap_or(Zone::EMPTY), self.all[at].readers] {
                    if stage.first_return < zone.last_call {
                        return Some(vec![start]);
                    }
                    zone.add(stage);
                }
            }
            zones.push((zone, start));
        }
        let (mut forward, reversed): (Vec<_>, Vec<_>) =
            zones.into_iter().partition(|(zone, _)| zone.first_return < zone.last_call);
        forward.sort_unstable_by_key(|(zone, _)| zone.first_return);
        if let Some(pair) = forward.windows(2).find(|pair| pair[1].0.first_return < pair[0].0.last_call) {
            return Some(vec![pair[0].1, pair[1].1]);
        }
        reversed.iter().find_map(|(inner, start)| {
            let behind = forward.partition_point(|(zone, _)| zone.first_return < inner.last_call);
            let (outer, other) = forward.get(behind.checked_sub(1)?)?;
            (outer.last_call > inner.first_return).then(|| vec![*start, *other])
        })
    }

    /// The zones of all chains; `None`: one of them has no order in itself.
    fn zones(&self) -> Option<Vec<Zone>> {
        if self.all.iter().any(|cluster| cluster.needed && cluster.writer.is_none()) {
            return None;
        }
        let mut zones = Vec::new();
        let mut visited = 0;
        for (_, start) in self.starts() {
            let mut zone = Zone::EMPTY;
            let mut at = Some(start);
            while let Some(cluster) = at {
                visited += 1;
                for stage in [cluster.writer.unwrap_or(Zone::EMPTY), cluster.readers] {
                    if stage.first_return < zone.last_call {
                        return None;
                    }
                    zone.add(stage);
                }
                at = self.all.get(cluster.next as usize);
            }
            zones.push(zone);
        }
        // What no chain reaches is a cycle of swaps, or was swapped from a value that another swap consumed.
        let written = self.all.iter().filter(|cluster| cluster.writer.is_some()).count();
        (visited == written).then_some(zones)
    }
}

/// Whether no two chains must precede each other.
fn orderable(zones: Vec<Zone>) -> bool {
    let (mut forward, reversed): (Vec<_>, Vec<_>) =
        zones.into_iter().partition(|zone| zone.first_return < zone.last_call);
    forward.sort_unstable_by_key(|zone| zone.first_return);
    let overlap = forward.windows(2).any(|pair| pair[1].first_return < pair[0].last_call);
    !overlap
        && reversed.iter().all(|inner| {
            let behind = forward.partition_point(|zone| zone.first_return < inner.last_call);
            behind.checked_sub(1).is_none_or(|outer| forward[outer].last_call <= inner.first_return)
        })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use proptest::strategy::ValueTree;
    use proptest::test_runner::TestRunner;

    use super::super::search::{Answer, search};
    use super::*;
    use crate::budget::{Budget, Limits, Stopwatch};

    /// Turns random bytes into a problem in which every value but 0 is written at most once, and 0 is the initial one.
    /// Calls and returns are shuffled by the bytes; a swap or read needs any value.
    fn problem(raw: &[(u8, u8, u8, u8)]) -> Problem {
        let values = raw.len() as u32 + 1;
        let mut completed = Vec::new();
        let mut unknown = Vec::new();
        for (index, &(what, needed, length, fate)) in raw.iter().enumerate() {
            let near = (index as u32 + 2).saturating_sub(u32::from(needed % 4)).min(values - 1);
            let new = index as u32 + 1;
            let action = match what % 5 {
                0 | 1 => Action::Read(near),
                2 | 3 => Action::Write(new),
                _ if near == new => Action::Write(new),
                _ => Action::Swap { expected: near, new },
            };
            // Positions are unique: calls are multiples of 64, returns lie between them.
            let call = (index as Position + 1) * 64;
            let ret = call + Position::from(length % 5) * 64 + 1 + index as Position;
            let step = Step { call, ret, action, operation: index as u32 };
            if fate % 6 > 0 {
                completed.push(step);
            } else if action.leaves().is_some() {
                unknown.push(Step { ret: Position::MAX, ..step });
            }
        }
        Problem { initial: 0, completed, unknown, values: values as usize }
    }

    #[test]
    fn the_random_problems_are_of_both_kinds() {
        let mut runner = TestRunner::deterministic();
        let mut counts = [0_u32; 2];
        for _ in 0..1000 {
            let raw = raw().new_tree(&mut runner).expect("bytes are always there").current();
            counts[usize::from(linearizable(&problem(&raw)) == Some(true))] += 1;
        }
        assert!(counts.iter().all(|&count| count > 150), "violations and valid ones: {counts:?}");
    }

    fn raw() -> impl Strategy<Value = Vec<(u8, u8, u8, u8)>> {
        proptest::collection::vec(any::<(u8, u8, u8, u8)>(), 0..14)
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 20_000, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn agrees_with_the_search(raw in raw()) {
            let problem = problem(&raw);
            let watch = Stopwatch::start(None);
            let limits = Limits::share(Budget::default(), 1, &watch);
            let expected = search(&problem, limits).answer == Answer::Linearizable;
            prop_assert_eq!(linearizable(&problem), Some(expected));
        }
    }
}
