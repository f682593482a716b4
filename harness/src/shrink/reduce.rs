//! What is left out of a plan, and how.

use std::{collections::BTreeSet, time::Duration};

use super::{Size, ddmin::minimize, trial::Trials};
use crate::{
    generator::Ask,
    plan::{Cause, Plan, PlannedAsk},
    workload::{Action, CheckName, Delays, OperationStep, Require, Step, Time, Wait, Who},
};

/// No fault is made shorter than this.
const SHORTEST: Duration = Duration::from_millis(20);

/// A plan with no more faults than this, and
const FAULTS: u64 = 10;

/// no more operations than this is small: no great effort is made to leave out more.
const OPERATIONS: u64 = 20;

/// A plan that fails, and the way to smaller ones that fail the same way.
pub struct Reduction<'a, 'b> {
    /// The smallest so far.
    pub plan: Plan,
    /// What tells whether a smaller one still fails.
    pub trials: &'a mut Trials<'b>,
}

impl Reduction<'_, '_> {
    /// Leaves out what can be left out, until nothing more can be or the time is up.
    pub fn run(&mut self, by: CheckName) {
        self.drop_what_shows_nothing(by);
        loop {
            let before = self.plan.clone();
            // operations while there are many faults: what fails often shrinks quickly, and each fault less makes it rarer
            self.operations();
            self.steps();
            self.faults();
            self.times();
            self.surroundings();
            self.keys();
            self.clients();
            // with too few of them nothing can go on, which is no violation to be shown
            if by != CheckName::Progress {
                self.partitions();
                self.nodes();
            }
            // the seed changes with every success
            let same = Plan { seed: before.seed, ..self.plan.clone() } == before;
            if self.trials.is_over() || same && (self.is_small() || !self.trials.try_harder()) {
                return;
            }
        }
    }

    /// Whether people can take it in.
    fn is_small(&self) -> bool {
        let size = Size::of(&self.plan);
        size.faults <= FAULTS && size.operations.is_some_and(|operations| operations <= OPERATIONS)
    }

    /// Takes the candidate if it fails the same way.
    fn take(&mut self, candidate: &Plan) -> bool {
        let smaller = self.trials.fails(candidate);
        let taken = smaller.is_some();
        if let Some(plan) = smaller {
            self.plan = plan;
        }
        taken
    }

    /// Takes the plan with this change, if it changes anything and fails the same way.
    fn change(&mut self, change: impl FnOnce(&mut Plan)) -> bool {
        let mut candidate = self.plan.clone();
        change(&mut candidate);
        candidate != self.plan && self.take(&candidate)
    }

    /// Takes the shortest of a list that still fails.
    fn shorten<T: Clone>(&mut self, items: Vec<T>, set: impl Fn(&mut Plan, &[T])) {
        minimize(items, |kept| {
            if self.trials.is_over() {
                return None;
            }
            let mut candidate = self.plan.clone();
            set(&mut candidate, kept);
            Some(self.take(&candidate))
        });
    }

    /// The end of the run first: what comes earlier has less to try.
    pub fn end(&mut self) {
        for part in [0.25, 0.5, 0.75, 0.9] {
            while self.change(|plan| {
                let end =
                    Time(Duration::from_millis((plan.phases.faults.0.as_millis() as f64 * part) as u64));
                plan.phases.faults = end;
                plan.faults.retain(|fault| !matches!(fault.cause, Cause::At(at) if at >= end));
            }) {}
        }
    }

    fn drop_what_shows_nothing(&mut self, by: CheckName) {
        // without the record of a real run a plan is one that people can take in
        self.change(|plan| plan.follows = None);
        self.change(|plan| {
            plan.require = Require::default();
            if by != CheckName::Statements {
                plan.expect.that.clear();
            }
            plan.phases.quiesce = Time::default();
        });
        if by != CheckName::Progress {
            self.change(|plan| plan.phases.final_reads = false);
        }
    }

    fn faults(&mut self) {
        self.shorten(self.plan.faults.clone(), |plan, kept| plan.faults = kept.to_vec());
    }

    fn steps(&mut self) {
        self.shorten(self.plan.steps.clone(), |plan, kept| plan.steps = kept.to_vec());
        for index in 0..self.plan.steps.len() {
            self.operations_of_step(index);
        }
    }

    /// Fewer clients, keys and times, for a shorter time.
    fn operations_of_step(&mut self, index: usize) {
        let Action::Operation(step) = self.plan.steps[index].action.clone() else { return };
        let clients = match step.client {
            Who::All => (1..=self.plan.script_clients).collect(),
            Who::Only(clients) => clients,
        };
        self.shorten(clients, |plan, kept| {
            change_step(plan, index, |step| step.client = Who::Only(kept.to_vec()));
        });
        self.shorten(step.keys, |plan, kept| change_step(plan, index, |step| step.keys = kept.to_vec()));
        self.change(|plan| change_step(plan, index, |step| (step.lasts, step.times) = (None, 1)));
        while self.change(|plan| change_step(plan, index, |step| step.times = (step.times / 2).max(1))) {}
        let halve = |step: &mut OperationStep| {
            step.lasts =
                step.lasts.map(|lasts| if lasts.0 / 2 < SHORTEST { lasts } else { Time(lasts.0 / 2) });
        };
        while self.change(|plan| change_step(plan, index, halve)) {}
        self.begin_later(index);
    }

    /// What a step asks again and again may matter at the end only: it begins later, as long as that is no less of a violation,
    /// and then once may be enough.
    fn begin_later(&mut self, mut index: usize) {
        for part in [2, 4, 8, 16] {
            while let Some(lasts) = lasts_of(&self.plan, index).filter(|lasts| *lasts / part >= SHORTEST) {
                let steps = self.plan.steps.len();
                if !self.change(|plan| wait_before(plan, index, lasts / part)) {
                    break;
                }
                index += self.plan.steps.len() - steps;
            }
        }
        self.change(|plan| change_step(plan, index, |step| (step.lasts, step.times) = (None, 1)));
    }

    /// All of a client's operations at once, then all of a key's, then single ones.
    fn operations(&mut self) {
        let all = asks(&self.plan);
        let clients: BTreeSet<usize> = all.iter().map(|(client, _)| *client).collect();
        self.shorten(clients.into_iter().collect(), |plan, kept| {
            let asks: Vec<_> = asks(plan).into_iter().filter(|(client, _)| kept.contains(client)).collect();
            set_asks(plan, &asks);
        });
        let keys: BTreeSet<_> = all.iter().map(|(_, ask)| key_of(&ask.ask).clone()).collect();
        self.shorten(keys.into_iter().collect(), |plan, kept| {
            let on = |(_, ask): &(usize, PlannedAsk)| kept.contains(key_of(&ask.ask));
            let asks: Vec<_> = asks(plan).into_iter().filter(on).collect();
            set_asks(plan, &asks);
        });
        self.shorten(asks(&self.plan), set_asks);
    }

    fn times(&mut self) {
        self.end();
        for _ in 0..6 {
            let half = Time(self.plan.phases.warm_up.0 / 2);
            let half = if half.0 < SHORTEST { Time::default() } else { half };
            let cut = self.plan.phases.warm_up.0.saturating_sub(half.0);
            let shift = |plan: &mut Plan| {
                plan.phases.warm_up = half;
                for ask in plan.clients.iter_mut().filter_map(|client| client.asks.as_mut()).flatten() {
                    ask.at.0 = ask.at.0.saturating_sub(cut);
                }
            };
            if cut.is_zero() || !self.change(shift) {
                break;
            }
        }
        for index in 0..self.plan.faults.len() {
            while let Some(lasts) = self.plan.faults[index].spec.lasts.filter(|lasts| lasts.0 / 2 >= SHORTEST)
            {
                if !self.change(|plan| plan.faults[index].spec.lasts = Some(Time(lasts.0 / 2))) {
                    break;
                }
            }
        }
    }

    fn surroundings(&mut self) {
        self.shorten(self.plan.clocks.clone(), |plan, kept| plan.clocks = kept.to_vec());
        self.change(|plan| plan.network = Delays::default());
        self.change(|plan| plan.late.clear());
        self.change(|plan| plan.share = 1);
        self.change(|plan| plan.sessions = false);
        self.shorten(self.plan.cluster.preset.clone(), |plan, kept| plan.cluster.preset = kept.to_vec());
    }

    fn partitions(&mut self) {
        if self.plan.cluster.partitions.len() > 1 {
            self.shorten(self.plan.cluster.partitions.clone(), |plan, kept| {
                plan.cluster.partitions = kept.to_vec();
            });
        }
    }

    fn keys(&mut self) {
        let used: BTreeSet<_> = asks(&self.plan).iter().map(|(_, ask)| key_of(&ask.ask).clone()).collect();
        self.change(|plan| {
            if let Some(operations) = &mut plan.operations {
                operations.keys.retain(|key| used.contains(key));
            }
        });
    }

    /// Clients that ask nothing go; the others are numbered anew.
    fn clients(&mut self) {
        self.change(|plan| {
            plan.clients.retain(|client| client.asks.as_ref().is_none_or(|asks| !asks.is_empty()));
            for (client, number) in plan.clients.iter_mut().zip(1..) {
                client.client = number;
            }
        });
        let without = asks(&self.plan).is_empty() && self.plan.clients.is_empty();
        self.change(|plan| {
            if without {
                plan.operations = None;
            }
        });
    }

    /// The last node goes.
    fn nodes(&mut self) {
        while self.plan.nodes > 1 && self.change(without_last_node) {}
    }
}

fn change_step(plan: &mut Plan, index: usize, change: impl FnOnce(&mut OperationStep)) {
    if let Some(Action::Operation(step)) = plan.steps.get_mut(index).map(|step| &mut step.action) {
        change(step);
    }
}

/// How long a step asks again and again.
fn lasts_of(plan: &Plan, index: usize) -> Option<Duration> {
    match &plan.steps.get(index)?.action {
        Action::Operation(step) => step.lasts.map(|lasts| lasts.0),
        _ => None,
    }
}

/// What a step asks again and again begins so much later, and ends when it did: the script waits before it.
fn wait_before(plan: &mut Plan, index: usize, later: Duration) {
    change_step(plan, index, |step| step.lasts = step.lasts.map(|lasts| Time(lasts.0.saturating_sub(later))));
    let before = index.checked_sub(1).map(|before| &mut plan.steps[before].action);
    if let Some(Action::Wait(Wait::For(time))) = before {
        time.0 += later;
    } else {
        let name = format!("before {}", plan.steps[index].name);
        let action = Action::Wait(Wait::For(Time(later)));
        plan.steps.insert(index, Step { name, within: None, action });
    }
}

fn without_last_node(plan: &mut Plan) {
    let last = plan.nodes;
    plan.nodes -= 1;
    plan.late.retain(|node| *node != last);
    plan.clocks.retain(|clock| clock.node != last);
    plan.cluster.threshold = plan.cluster.threshold.min(plan.nodes);
    for partition in &mut plan.cluster.partitions {
        partition.replicas.retain(|node| *node != last);
        partition.replication = match partition.replicas.len() as u64 {
            0 => partition.replication.min(plan.nodes),
            replicas => replicas,
        };
    }
    for fault in &mut plan.faults {
        fault.order.retain(|node| *node != last);
    }
    for ask in plan.clients.iter_mut().filter_map(|client| client.asks.as_mut()).flatten() {
        ask.node = ask.node.map(|node| node.min(plan.nodes));
    }
    plan.network.links.retain(|link| link.from != last && link.to != last);
}

/// All listed operations, each with its client's place.
fn asks(plan: &Plan) -> Vec<(usize, PlannedAsk)> {
    let of = |(place, asks): (usize, &Option<Vec<PlannedAsk>>)| {
        let asks = asks.iter().flatten().cloned();
        asks.map(|ask| (place, ask)).collect::<Vec<_>>()
    };
    let mut asks: Vec<_> = plan.clients.iter().map(|client| &client.asks).enumerate().flat_map(of).collect();
    asks.sort_by_key(|(_, ask)| ask.at);
    asks
}

fn set_asks(plan: &mut Plan, kept: &[(usize, PlannedAsk)]) {
    for (place, client) in plan.clients.iter_mut().enumerate() {
        if client.asks.is_some() {
            let of = kept.iter().filter(|(of, _)| *of == place);
            client.asks = Some(of.map(|(_, ask)| ask.clone()).collect());
        }
    }
}

fn key_of(ask: &Ask) -> &checker::history::Key {
    match ask {
        Ask::Get(key) | Ask::Put(key, _) | Ask::Cas(key, _) | Ask::Delete(key) => key,
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn what_begins_later_ends_when_it_did() {
        let text = "[cluster]\nnodes = 3\npartitions = [{}]\nlease = \"off\"\n[clients]\ncount = 1\n\
            [[step]]\nname = \"cut\"\nfault = { action = \"isolate\", target = \"node 3\" }\n\
            [[step]]\nname = \"reads\"\nclient = 1\nget = { key = 1 }\nfor = \"800ms\"\n";
        let workload =
            crate::workload::parse(Path::new("w.toml"), text).unwrap_or_else(|told| panic!("{told}"));
        let mut plan = Plan::new(workload, 1);
        let millis = Duration::from_millis;
        assert_eq!((plan.steps.len(), lasts_of(&plan, 0), lasts_of(&plan, 1)), (2, None, Some(millis(800))));
        // a step that waits comes before it, and once it is there it waits longer
        for (index, later, waits, left) in [(1, 400, 400, 400), (2, 100, 500, 300)] {
            wait_before(&mut plan, index, millis(later));
            let Action::Wait(Wait::For(time)) = &plan.steps[1].action else { panic!("{:?}", plan.steps) };
            assert_eq!(
                (plan.steps.len(), time.0, lasts_of(&plan, 2)),
                (3, millis(waits), Some(millis(left)))
            );
        }
    }
}
