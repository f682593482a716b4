//! The nemesis of the simulated world: the same faults, targets and ends as in real runs.

use std::collections::{BTreeMap, BTreeSet};

use checker::history::{self, Record};
use store::{
    api::{NodeId, PartitionId},
    config::ClockSkew,
};

use super::{events::Event, machine::Process, world::World};
use crate::{
    nemesis::{Cut, Cuts, VACANCY, late_cut, name_of, smaller_half},
    plan::Plan,
    proxy::{Link, Rule},
    workload::{FaultAction, FaultSpec, Target},
};

/// How long until a vacant role is looked for again.
const LOOK_AGAIN: u64 = 20_000_000;

/// Breaks things and mends them.
#[derive(Debug)]
pub struct Nemesis {
    cuts: Cuts,
    rules: BTreeMap<Link, Rule>,
    active: BTreeMap<u64, Active>,
    last_fault: u64,
    /// Faults that were asked for, in that order.
    pub wanted: Vec<Wanted>,
    /// Faults of the plan begin no more, but for permanent ones.
    pub closed: bool,
    /// Nodes that permanent faults have hit.
    outside: BTreeSet<NodeId>,
}

/// A fault that was asked for.
#[derive(Debug)]
pub struct Wanted {
    spec: FaultSpec,
    order: Vec<NodeId>,
    /// Until when a vacant role is waited for.
    deadline: u64,
    /// It belongs to the script, which waits for it.
    scripted: bool,
    /// Its number, once it has begun.
    pub began: Option<u64>,
}

/// A fault in effect.
#[derive(Debug)]
struct Active {
    spec: FaultSpec,
    nodes: Vec<NodeId>,
    /// Clocks to go back to.
    clocks: BTreeMap<NodeId, ClockSkew>,
}

impl Nemesis {
    /// Everything is whole, but for the nodes that come late: those are cut off under fault number 0.
    pub fn new(plan: &Plan) -> Self {
        let mut cuts = Cuts::default();
        cuts.add(0, late_cut(plan));
        Self {
            cuts,
            rules: BTreeMap::new(),
            active: BTreeMap::new(),
            last_fault: 0,
            wanted: Vec::new(),
            closed: false,
            outside: BTreeSet::new(),
        }
    }

    /// Whether a permanent fault of this kind keeps a node broken, whatever other faults end.
    fn is_kept(&self, action: FaultAction, node: NodeId) -> bool {
        let kept = |active: &Active| active.spec.permanent && active.spec.action == action;
        self.active.values().any(|active| kept(active) && active.nodes.contains(&node))
    }
}

impl World<'_> {
    /// Puts the plan's faults on the agenda.
    pub(super) fn plan_faults(&mut self) {
        for planned in &self.plan.faults {
            let at = self.now + planned.at.0.as_nanos() as u64;
            self.want_fault(&planned.spec, planned.order.clone(), at, false);
        }
    }

    /// A fault is asked for; returns its place in the list of those.
    pub(super) fn want_fault(
        &mut self,
        spec: &FaultSpec,
        order: Vec<NodeId>,
        at: u64,
        scripted: bool,
    ) -> usize {
        let deadline = at + VACANCY.as_nanos() as u64;
        let index = self.nemesis.wanted.len();
        self.nemesis.wanted.push(Wanted { spec: spec.clone(), order, deadline, scripted, began: None });
        self.agenda.add(at, Event::Fault(index));
        index
    }

    /// A fault begins, unless the role that it is aimed at is vacant: then it is tried again for a while.
    pub(super) fn fault_is_due(&mut self, index: usize) {
        let Wanted { spec, order, deadline, scripted, .. } = &self.nemesis.wanted[index];
        let (spec, order, deadline, scripted) = (spec.clone(), order.clone(), *deadline, *scripted);
        if self.nemesis.closed && !scripted && !spec.permanent {
            return;
        }
        let nodes =
            if spec.action == FaultAction::Heal { Vec::new() } else { self.resolve(&spec.target, &order) };
        let nodes: Vec<NodeId> = nodes.into_iter().filter(|node| self.suits(&spec, *node)).collect();
        let hopeless = matches!(spec.target, Target::Node(_) | Target::All | Target::Answered(_))
            || spec.action == FaultAction::Heal;
        if nodes.is_empty() && !hopeless && self.now < deadline {
            return self.agenda.add(self.now + LOOK_AGAIN, Event::Fault(index));
        }
        let fault = self.begin_fault(spec, nodes, &order);
        self.nemesis.wanted[index].began = Some(fault);
        if scripted {
            self.look(self.now);
        }
    }

    fn begin_fault(&mut self, spec: FaultSpec, nodes: Vec<NodeId>, order: &[NodeId]) -> u64 {
        self.nemesis.last_fault += 1;
        let fault = self.nemesis.last_fault;
        if spec.action == FaultAction::Heal {
            self.heal();
        }
        let mut active = Active { spec, nodes, clocks: BTreeMap::new() };
        self.break_it(fault, &mut active, order);
        self.record(fault, true, &active);
        self.stats.faults += 1;
        if active.spec.permanent {
            self.nemesis.outside.extend(&active.nodes);
        }
        if active.nodes.is_empty() && active.spec.action != FaultAction::Heal {
            self.stats.faults_without_target += 1;
        }
        if let Some(lasts) = active.spec.lasts {
            self.agenda.add(self.now + lasts.0.as_nanos() as u64, Event::Undo(fault));
        }
        if !active.nodes.is_empty() && active.spec.action != FaultAction::Restart {
            self.nemesis.active.insert(fault, active);
        }
        fault
    }

    /// Undoes a fault, if it is still in effect.
    pub(super) fn end_fault(&mut self, fault: u64) {
        if let Some(active) = self.nemesis.active.remove(&fault) {
            self.mend(fault, &active);
            self.record(fault, false, &active);
        }
    }

    /// Undoes every fault in effect that is not permanent, lets late nodes in, and starts dead nodes again that can come back.
    pub(super) fn heal(&mut self) {
        self.nemesis.cuts.remove(0);
        self.switch_network();
        let passing = |(fault, active): (&u64, &Active)| (!active.spec.permanent).then_some(*fault);
        while let Some(fault) = self.nemesis.active.iter().find_map(passing) {
            self.end_fault(fault);
        }
        self.restart(&self.plan.node_ids());
    }

    /// The nodes that no permanent fault has hit.
    pub(super) fn core(&self) -> Vec<NodeId> {
        let outside = &self.nemesis.outside;
        self.plan.node_ids().into_iter().filter(|node| !outside.contains(node)).collect()
    }

    /// Whom a target comes down to at this moment; nobody: the role is vacant.
    pub(super) fn resolve(&self, target: &Target, order: &[NodeId]) -> Vec<NodeId> {
        let leader = |partition: PartitionId| self.leaders.leader(partition).map(|(node, _)| node);
        match target {
            Target::Node(node) => vec![*node],
            Target::All => self.plan.node_ids(),
            Target::Random => order.iter().take(1).copied().collect(),
            Target::Leader(partition) => leader(*partition).into_iter().collect(),
            Target::LeaseHolder(partition) => {
                let holds = |node: &NodeId| {
                    let status = self.machine(*node).status(self.now);
                    status.is_some_and(|status| {
                        status.partitions.iter().any(|group| {
                            group.partition == *partition && group.hold_ms.is_some_and(|left| left > 0)
                        })
                    })
                };
                self.plan.node_ids().into_iter().find(holds).into_iter().collect()
            }
            Target::Follower(partition) => self.followers(*partition, order).into_iter().take(1).collect(),
            Target::Followers(partition) => self.followers(*partition, order),
            Target::Answered(step) => self.answered_by(step).into_iter().collect(),
        }
    }

    /// A follower needs a leader: without one, there are no followers either.
    fn followers(&self, partition: PartitionId, order: &[NodeId]) -> Vec<NodeId> {
        let Some((leader, _)) = self.leaders.leader(partition) else { return Vec::new() };
        let planned = self.plan.cluster.partitions.iter().find(|config| config.partition == partition);
        let named: BTreeSet<NodeId> =
            planned.iter().flat_map(|config| config.replicas.iter().copied()).collect();
        let replicates = |node: NodeId| {
            let machine = self.machine(node);
            let found = machine.node().filter(|_| !machine.paused);
            found.is_some_and(|node| {
                node.replicas().any(|replica| replica.paxos().group().partition == partition)
            })
        };
        let is_replica =
            |node: NodeId| if named.is_empty() { replicates(node) } else { named.contains(&node) };
        order.iter().copied().filter(|node| *node != leader && is_replica(*node)).collect()
    }

    /// Whether an action can be done to a node in its present state.
    fn suits(&self, spec: &FaultSpec, node: NodeId) -> bool {
        let machine = self.machine(node);
        match spec.action {
            FaultAction::Restart => !machine.is_running(),
            FaultAction::Pause | FaultAction::Clock => machine.is_awake(),
            // what is dead stays so when that is permanent, and is cut off when it comes back
            FaultAction::Kill | FaultAction::Isolate | FaultAction::Halves | FaultAction::CutOneway => {
                spec.permanent || machine.is_running()
            }
            FaultAction::Heal => true,
        }
    }

    fn break_it(&mut self, fault: u64, active: &mut Active, order: &[NodeId]) {
        let all = self.plan.node_ids();
        let how = active.spec.links;
        match active.spec.action {
            FaultAction::Kill => {
                for node in &active.nodes {
                    if self.machine(*node).is_running() {
                        self.kill(*node);
                    }
                }
            }
            FaultAction::Pause => active.nodes.iter().for_each(|node| self.pause(*node)),
            FaultAction::Restart => self.restart(&active.nodes),
            FaultAction::Clock => {
                for node in &active.nodes {
                    let before = self.machine(*node).skew;
                    active.clocks.insert(*node, before);
                    self.set_clock(*node, active.spec.clock.of(before));
                }
            }
            FaultAction::Isolate => self.cut(fault, Cut::isolate(&all, &active.nodes, how)),
            FaultAction::CutOneway => {
                self.cut(fault, Cut::oneway(&all, &active.nodes, active.spec.direction, how));
            }
            FaultAction::Halves => {
                active.nodes = smaller_half(&active.nodes, order);
                self.cut(fault, Cut::halves(&all, &active.nodes, how));
            }
            FaultAction::Heal => {}
        }
    }

    fn mend(&mut self, fault: u64, active: &Active) {
        match active.spec.action {
            FaultAction::Kill => self.restart(&active.nodes),
            FaultAction::Pause => {
                let kept = |node: NodeId| self.nemesis.is_kept(FaultAction::Pause, node);
                let wakes = |node: &NodeId| self.machine(*node).paused && !kept(*node);
                for node in active.nodes.iter().copied().filter(wakes).collect::<Vec<_>>() {
                    self.resume(node);
                }
            }
            FaultAction::Clock => {
                for (node, skew) in &active.clocks {
                    if !self.nemesis.is_kept(FaultAction::Clock, *node) {
                        self.set_clock(*node, *skew);
                    }
                }
            }
            FaultAction::Isolate | FaultAction::Halves | FaultAction::CutOneway => {
                self.nemesis.cuts.remove(fault);
                self.switch_network();
            }
            FaultAction::Restart | FaultAction::Heal => {}
        }
    }

    fn cut(&mut self, fault: u64, cut: Cut) {
        self.nemesis.cuts.add(fault, cut);
        self.switch_network();
    }

    /// The network obeys the cuts in effect, all links at once.
    pub(super) fn switch_network(&mut self) {
        let rules = self.nemesis.cuts.rules();
        let before = std::mem::replace(&mut self.nemesis.rules, rules.clone());
        let links: BTreeSet<Link> = before.keys().chain(rules.keys()).copied().collect();
        for link in links {
            let Some(ends) = link.nodes() else { continue };
            let rule = rules.get(&link).copied().unwrap_or_default();
            if let Some(again) = self.network.rule(ends, rule, self.now, &mut self.agenda, &mut self.dice) {
                self.dial(again);
            }
        }
    }

    /// Starts those of the nodes that are dead, unless they have lost what they promised.
    fn restart(&mut self, nodes: &[NodeId]) {
        for node in nodes {
            let machine = self.machine(*node);
            let can_come_back = machine.has_disk() && !self.nemesis.is_kept(FaultAction::Kill, *node);
            if can_come_back && matches!(machine.process, Process::Dead) {
                self.begin(*node);
            }
        }
    }

    fn set_clock(&mut self, node: NodeId, skew: ClockSkew) {
        let now = self.now;
        let machine = &mut self.machines[node as usize - 1];
        machine.skew = skew;
        if machine.node().is_none() {
            return;
        }
        machine.clock.set(now, skew);
        machine.armed = u64::MAX;
        self.watch.clock_changed(now, machine);
        self.arm(node);
    }

    fn record(&mut self, fault: u64, begins: bool, active: &Active) {
        let (action, target) = (name_of(active.spec.action), active.spec.target.to_string());
        self.tell(|| {
            format!(
                "fault {fault} {action} {target} {} {:?}",
                if begins { "begins" } else { "ends" },
                active.nodes
            )
        });
        self.watch.records.push(Record::Nemesis(history::Nemesis {
            time: self.now,
            requested: self.now,
            fault,
            begins,
            action: action.to_owned(),
            target,
            nodes: active.nodes.clone(),
        }));
    }
}
