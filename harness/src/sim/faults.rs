//! The nemesis of the simulated world: the same faults, targets, triggers and ends as in real runs.

use std::collections::{BTreeMap, BTreeSet};

use checker::history::{self, Function, Record};
use store::{
    api::{Ballot, NodeId, PartitionId, TransferError},
    core::{ClientId, Input, Message, message::GroupMessage},
};

use super::{
    events::Event,
    machine::{Doom, Incoming, Process},
    world::World,
};
use crate::{
    history_writer::{Ended, is_acknowledged_write},
    nemesis::{
        Active, Effect, Effects, IDLE, LATE, LOOK_AGAIN, Member, Scene, State, VACANCY, in_words, is_fixed,
        suits, wants_peers,
    },
    plan::{Cause, Plan},
    proxy::{Conditions, Link},
    workload::{Death, FaultAction, FaultSpec, Happening, Shape, Target, Word},
};

/// The connection over which faults ask leaders to hand over: no client's.
const TRANSFERS: u64 = u64::MAX;

/// Breaks things and mends them.
#[derive(Debug)]
pub struct Nemesis {
    effects: Effects,
    conditions: BTreeMap<Link, Conditions>,
    active: BTreeMap<u64, Active>,
    last_fault: u64,
    /// Faults that were asked for, in that order.
    pub wanted: Vec<Wanted>,
    /// Faults that wait for something to happen.
    waiting: Vec<Waiting>,
    /// Faults of the plan begin no more.
    pub closed: bool,
    /// Nodes that permanent faults have hit.
    outside: BTreeSet<NodeId>,
    /// How much faults have struck, beside messages.
    struck: BTreeMap<u64, u64>,
}

/// A fault that was asked for.
#[derive(Debug)]
pub struct Wanted {
    spec: FaultSpec,
    order: Vec<NodeId>,
    /// Its place in the plan's list of faults, from 1; none: it belongs to the script, which waits for it.
    planned: Option<u64>,
    /// Until when a vacant role is waited for; none: it has not been due yet.
    deadline: Option<u64>,
    /// Its number, once it has begun.
    pub began: Option<u64>,
}

/// A fault that waits for something to happen.
#[derive(Debug)]
struct Waiting {
    happening: Happening,
    /// How often it has yet to happen.
    left: u64,
    plus: u64,
    wanted: usize,
}

impl Nemesis {
    /// Everything is whole, but for the nodes that come late: those are cut off.
    pub fn new(plan: &Plan) -> Self {
        Self {
            effects: Effects::new(plan),
            conditions: BTreeMap::new(),
            active: BTreeMap::new(),
            last_fault: 0,
            wanted: Vec::new(),
            waiting: Vec::new(),
            closed: false,
            outside: BTreeSet::new(),
            struck: BTreeMap::new(),
        }
    }

    /// What is done to a link; none: nothing.
    pub fn conditions(&self, link: Link) -> Option<&Conditions> {
        self.conditions.get(&link)
    }

    /// A fault has struck something that it counts.
    pub fn strike(&mut self, fault: u64) {
        *self.struck.entry(fault).or_default() += 1;
    }

    /// Faults whose trigger has not come.
    pub fn untriggered(&self) -> u64 {
        self.waiting.iter().filter(|waiting| waiting.left > 0).count() as u64
    }
}

impl World<'_> {
    /// Puts the plan's faults on the agenda.
    pub(super) fn plan_faults(&mut self) {
        for (number, planned) in (1..).zip(&self.plan.faults) {
            let wanted = self.want_fault(&planned.spec, planned.order.clone(), Some(number));
            match &planned.cause {
                Cause::At(at) => self.agenda.add(self.now + at.0.as_nanos() as u64, Event::Fault(wanted)),
                Cause::After(trigger) => self.nemesis.waiting.push(Waiting {
                    happening: trigger.happening.clone(),
                    left: trigger.count,
                    plus: trigger.plus.0.as_nanos() as u64,
                    wanted,
                }),
            }
        }
    }

    /// A step asks for a fault; returns its place in the list of those.
    pub(super) fn script_fault(&mut self, spec: &FaultSpec, order: Vec<NodeId>) -> usize {
        let wanted = self.want_fault(spec, order, None);
        self.agenda.add(self.now, Event::Fault(wanted));
        wanted
    }

    fn want_fault(&mut self, spec: &FaultSpec, order: Vec<NodeId>, planned: Option<u64>) -> usize {
        self.nemesis.wanted.push(Wanted { spec: spec.clone(), order, planned, deadline: None, began: None });
        self.nemesis.wanted.len() - 1
    }

    // ---- what triggers faults ----------------------------------------------------------------------------------------

    /// Something has happened: what waits for it is due, or waits for fewer of them.
    fn happened(&mut self, is_it: impl Fn(&Happening) -> bool) {
        let now = self.now;
        for waiting in &mut self.nemesis.waiting {
            if waiting.left > 0 && is_it(&waiting.happening) {
                waiting.left -= 1;
                if waiting.left == 0 {
                    self.agenda.add(now + waiting.plus, Event::Fault(waiting.wanted));
                }
            }
        }
    }

    pub(super) fn message_sent(&mut self, from: NodeId, to: NodeId, message: &Message) {
        if let Message::Group { message: GroupMessage::SnapshotPiece { .. }, .. } = message {
            self.in_snapshot(from);
            self.in_snapshot(to);
        }
        if !self.nemesis.waiting.is_empty() {
            self.happened(|happening| happening.is_message(from, to, message));
        }
    }

    pub(super) fn leader_changed(&mut self, of: PartitionId) {
        self.happened(|happening| *happening == Happening::LeaderChange { partition: of });
    }

    pub(super) fn answered(&mut self, function: &Function, ended: &Ended) {
        if is_acknowledged_write(function, ended) {
            self.happened(|happening| *happening == Happening::Write);
        }
    }

    // ---- the course of a fault ---------------------------------------------------------------------------------------

    /// A fault begins, unless the role that it is aimed at is vacant: then it is tried again for a while.
    pub(super) fn fault_is_due(&mut self, index: usize) {
        let now = self.now;
        let wanted = &mut self.nemesis.wanted[index];
        let deadline = *wanted.deadline.get_or_insert(now + VACANCY.as_nanos() as u64);
        let (spec, order, planned) = (wanted.spec.clone(), wanted.order.clone(), wanted.planned);
        if self.nemesis.closed && planned.is_some() && !spec.permanent {
            return;
        }
        let (nodes, peers) = self.whom(&spec, &order);
        let somebody = !nodes.is_empty() && (!peers.is_empty() || !wants_peers(&spec.action));
        let hopeless = is_fixed(&spec.target) || spec.action == FaultAction::Heal;
        if !somebody && !hopeless && now < deadline {
            return self.agenda.add(now + LOOK_AGAIN.as_nanos() as u64, Event::Fault(index));
        }
        let nodes = if somebody { nodes } else { Vec::new() };
        let active = Active { spec, planned, nodes, peers, order, clients: self.plan.last_client() };
        let fault = self.begin_fault(&active);
        self.nemesis.wanted[index].began = Some(fault);
        if planned.is_none() {
            self.look(now);
        }
    }

    /// Whom a fault comes down to at this moment: its target, and its peer.
    fn whom(&self, spec: &FaultSpec, order: &[NodeId]) -> (Vec<NodeId>, Vec<NodeId>) {
        if spec.action == FaultAction::Heal {
            return (Vec::new(), Vec::new());
        }
        let fit = |node| suits(spec, self.state(node));
        let mut nodes = self.scene(&spec.target).resolve(&spec.target, order, fit);
        nodes.retain(|node| fit(*node));
        let peers = match &spec.action {
            FaultAction::Links { shape: Shape::Between { peer: Some(peer), .. }, .. } => {
                // a role that the target has already is somebody else's here
                let others: Vec<NodeId> =
                    order.iter().copied().filter(|node| !nodes.contains(node)).collect();
                let peers = self.resolve(peer, &others);
                peers.into_iter().filter(|peer| !nodes.contains(peer)).collect()
            }
            _ => Vec::new(),
        };
        (nodes, peers)
    }

    fn begin_fault(&mut self, active: &Active) -> u64 {
        self.nemesis.last_fault += 1;
        let fault = self.nemesis.last_fault;
        let nobody = active.nodes.is_empty() && active.spec.action != FaultAction::Heal;
        self.stats.faults += 1;
        if active.leaves_outside() {
            self.nemesis.outside.extend(active.touched());
        }
        if nobody {
            self.stats.faults_without_target += 1;
            self.record(fault, true, active);
            return fault;
        }
        let effect = active.effect(0);
        if let Some(effect) = &effect {
            self.nemesis.effects.set(fault, effect.clone());
            self.nemesis.active.insert(fault, active.clone());
        }
        if active.spec.permanent {
            self.nemesis.effects.keep(fault);
        }
        self.act(fault, active);
        if let Some(effect) = effect {
            self.settle(&effect);
        }
        self.record(fault, true, active);
        if let Some(lasts) = active.spec.lasts {
            self.agenda.add(self.now + lasts.0.as_nanos() as u64, Event::Undo(fault));
        }
        if let Some(period) = active.period() {
            self.agenda.add(self.now + period.0.as_nanos() as u64, Event::Change { fault, tick: 1 });
        }
        fault
    }

    /// A fault changes its links, or ends by itself.
    pub(super) fn change_fault(&mut self, fault: u64, tick: u64) {
        let Some(active) = self.nemesis.active.get(&fault) else { return };
        let period = active.period().unwrap_or_default().0.as_nanos() as u64;
        match active.effect(tick) {
            Some(effect) => {
                self.nemesis.effects.set(fault, effect.clone());
                self.settle(&effect);
                self.agenda.add(self.now + period, Event::Change { fault, tick: tick + 1 });
            }
            None => self.end_fault(fault),
        }
    }

    /// Undoes a fault, if it is still in effect.
    pub(super) fn end_fault(&mut self, fault: u64) {
        let Some(active) = self.nemesis.active.remove(&fault) else { return };
        if let Some(effect) = self.nemesis.effects.remove(fault) {
            self.settle(&effect);
        }
        self.record(fault, false, &active);
    }

    /// Undoes every fault in effect that is not permanent, lets late nodes in, and starts dead nodes again that can come back.
    pub(super) fn heal(&mut self) {
        self.nemesis.effects.remove(LATE);
        self.switch_network();
        let passing = self.nemesis.active.iter().filter(|(_, active)| active.heals());
        for fault in passing.map(|(fault, _)| *fault).collect::<Vec<_>>() {
            self.end_fault(fault);
        }
        self.settle_nodes(&self.plan.node_ids());
    }

    /// The run is over: what is still in effect, since it is permanent, ends with it and says what it has struck.
    pub(super) fn close_faults(&mut self) {
        for (fault, active) in std::mem::take(&mut self.nemesis.active) {
            self.record(fault, false, &active);
        }
    }

    /// What a fault does once, at its beginning.
    fn act(&mut self, fault: u64, active: &Active) {
        let nodes = &active.nodes;
        match &active.spec.action {
            FaultAction::Kill(death) => nodes.iter().for_each(|node| self.kill_so(fault, *node, *death)),
            FaultAction::Wipe => nodes.iter().for_each(|node| self.wipe(*node)),
            FaultAction::Restart => {
                self.nemesis.effects.let_live(nodes);
                for node in nodes {
                    self.kill_so(fault, *node, Death::Now);
                }
                self.settle_nodes(nodes);
            }
            FaultAction::Resume => {
                self.nemesis.effects.let_go_on(nodes);
                self.settle_nodes(nodes);
            }
            FaultAction::Release => {
                let holds = |active: &Active| {
                    active.spec.word == Word::Hold && active.nodes.iter().any(|node| nodes.contains(node))
                };
                let all = self.nemesis.active.iter();
                let held: Vec<u64> =
                    all.filter(|(_, active)| holds(active)).map(|(fault, _)| *fault).collect();
                for held in held {
                    self.nemesis.strike(fault);
                    self.end_fault(held);
                }
            }
            FaultAction::Reset => self.reset(nodes),
            FaultAction::Heal => self.heal(),
            FaultAction::TransferLeader { partition } => self.transfer_leader(fault, *partition, active),
            FaultAction::Pause
            | FaultAction::Links { .. }
            | FaultAction::StallDisk { .. }
            | FaultAction::Clock(_) => {}
        }
    }

    /// Asks the leader to hand over to the first of the nodes.
    fn transfer_leader(&mut self, fault: u64, partition: PartitionId, active: &Active) {
        let leader = self.leaders.all().get(&partition).map(|(leader, _)| *leader);
        let (Some(leader), Some(to)) = (leader, active.nodes.first().copied()) else { return };
        if leader != to && self.machine(leader).is_awake() {
            self.nemesis.active.insert(fault, active.clone());
            let client = ClientId { connection: TRANSFERS, request: fault };
            self.deliver(leader, Incoming::Input(Input::Transfer { client, partition, to }));
        }
    }

    /// What came of a transfer that a fault has asked for.
    pub(super) fn transferred(&mut self, fault: u64, result: &Result<Ballot, TransferError>) {
        self.tell(|| match result {
            Ok(ballot) => format!("fault {fault}: the successor leads under {ballot}"),
            Err(error) => format!("fault {fault}: {error}"),
        });
        if result.is_ok() {
            self.nemesis.strike(fault);
        }
        self.end_fault(fault);
    }

    fn kill_so(&mut self, fault: u64, node: NodeId, death: Death) {
        if !self.machine(node).is_running() {
            return;
        }
        match death {
            Death::LosesUnsynced => {
                self.machine_mut(node).disk.lose_unsynced();
                self.kill(node);
            }
            Death::DuringWrite if self.machine(node).is_awake() => {
                let life = self.machine(node).life;
                self.machine_mut(node).doom = Some(Doom::Write { fault });
                self.agenda.add(self.now + IDLE.as_nanos() as u64, Event::Doom { node, life });
            }
            Death::DuringSnapshot if self.machine(node).is_awake() => {
                let life = self.machine(node).life;
                self.machine_mut(node).doom = Some(Doom::Snapshot { fault, caught: false });
                self.agenda.add(self.now + IDLE.as_nanos() as u64, Event::Doom { node, life });
            }
            // a batch that was torn is no batch
            Death::Now | Death::DuringWrite | Death::DuringSnapshot | Death::TearsLog => self.kill(node),
            Death::DuringRecovery => {
                self.kill(node);
                self.begin(node);
                let life = self.machine(node).life;
                self.machine_mut(node).doom = Some(Doom::Recovery { fault });
                self.tell(|| format!("n{node} will die in its life {life} as soon as it has started"));
            }
        }
    }

    /// A piece of a snapshot is on its way to the node or from it: one that is to die in the transfer does so before it comes,
    /// or soon after.
    fn in_snapshot(&mut self, node: NodeId) {
        let machine = self.machine_mut(node);
        let life = machine.life;
        let Some(Doom::Snapshot { caught: caught @ false, .. }) = &mut machine.doom else { return };
        *caught = true;
        let due = self.now + self.weather.message.draw(&mut self.dice);
        self.agenda.add(due, Event::Doom { node, life });
    }

    /// A node that is to die in a write has not written for a while, or one that has started is to die at once.
    pub(super) fn doomed(&mut self, node: NodeId, life: u64) {
        if self.machine(node).life == life && self.machine(node).is_running() {
            if let Some(Doom::Recovery { fault } | Doom::Snapshot { fault, caught: true }) =
                self.machine(node).doom
            {
                self.nemesis.strike(fault);
            }
            self.kill(node);
            // faults may have ended meanwhile that kept it dead
            self.settle_nodes(&[node]);
        }
    }

    fn wipe(&mut self, node: NodeId) {
        if self.machine(node).is_running() {
            self.kill(node);
        }
        let disk = self.dice.below(1 << 48);
        self.machine_mut(node).wipe(disk);
        self.tell(|| format!("n{node} has lost its disk"));
        // another fault may keep it dead, or still
        self.settle_nodes(&[node]);
    }

    /// Breaks the connections between the nodes and all others; what faults there are stay.
    fn reset(&mut self, nodes: &[NodeId]) {
        let links: BTreeSet<u32> = nodes.iter().flat_map(|node| self.network.links_of(*node)).collect();
        for link in links {
            self.network.reset(link, self.now, &mut self.agenda, &mut self.dice);
            self.dial(link);
        }
    }

    // ---- whom --------------------------------------------------------------------------------------------------------

    /// The nodes that no permanent fault has hit.
    pub(super) fn core(&self) -> Vec<NodeId> {
        let outside = &self.nemesis.outside;
        self.plan.node_ids().into_iter().filter(|node| !outside.contains(node)).collect()
    }

    /// Whom a target comes down to at this moment; nobody: the role is vacant.
    pub(super) fn resolve(&self, target: &Target, order: &[NodeId]) -> Vec<NodeId> {
        self.scene(target).resolve(target, order, |_| true)
    }

    fn state(&self, node: NodeId) -> State {
        let machine = self.machine(node);
        State { running: machine.is_running(), paused: machine.paused }
    }

    /// Who is what, by what the nodes say; those that stand still say nothing.
    fn scene(&self, target: &Target) -> Scene {
        let leaders = self.leaders.all().into_iter().map(|(partition, (node, _))| (partition, node));
        let mut scene = Scene { leaders: leaders.collect(), ..Scene::default() };
        if let Target::Answered(step) = target {
            scene.answered.extend(self.answered_by(step).map(|node| (step.clone(), node)));
        }
        for config in &self.plan.cluster.partitions {
            let members = config.replicas.iter().map(|node| (*node, Member::default()));
            scene.groups.insert(config.partition, members.collect());
        }
        let named: BTreeSet<PartitionId> = scene
            .groups
            .iter()
            .filter(|(_, group)| !group.is_empty())
            .map(|(partition, _)| *partition)
            .collect();
        let asks = matches!(target, Target::LeaseHolder(_) | Target::Lagging(_));
        for node in self.plan.node_ids() {
            let Some(status) = self.machine(node).status(self.now) else { continue };
            for group in status.partitions.iter().filter(|group| asks || !named.contains(&group.partition)) {
                let holds = group.hold_ms.is_some_and(|left| left > 0);
                let members = scene.groups.entry(group.partition).or_default();
                members.insert(node, Member { holds, decided: Some(group.decided) });
            }
        }
        scene
    }

    // ---- what all faults together ask for ----------------------------------------------------------------------------

    /// Brings about what has changed with an effect that has come or gone.
    fn settle(&mut self, effect: &Effect) {
        match effect {
            Effect::Links(..) => self.switch_network(),
            _ => self.settle_nodes(effect.nodes()),
        }
    }

    fn settle_nodes(&mut self, nodes: &[NodeId]) {
        for node in nodes {
            self.settle_node(*node);
        }
    }

    fn settle_node(&mut self, node: NodeId) {
        let effects = &self.nemesis.effects;
        let (down, paused) = (effects.is_down(node), effects.is_paused(node));
        let (clock, disk) = (effects.clock(node, self.machine(node).first_skew), effects.disk(node));
        let machine = self.machine(node);
        if !down && machine.has_disk() && matches!(machine.process, Process::Dead) {
            self.begin(node);
        }
        match (self.machine(node).paused, paused && self.machine(node).is_running()) {
            (false, true) => self.pause(node),
            (true, false) => self.resume(node),
            _ => {}
        }
        self.set_disk(node, disk);
        if self.machine(node).skew != clock {
            self.set_clock(node, clock);
        }
    }

    fn set_clock(&mut self, node: NodeId, skew: store::config::ClockSkew) {
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

    /// The network obeys the faults in effect, all links at once.
    pub(super) fn switch_network(&mut self) {
        let conditions = self.nemesis.effects.conditions();
        let before = std::mem::replace(&mut self.nemesis.conditions, conditions.clone());
        let links: BTreeSet<Link> = before.keys().chain(conditions.keys()).copied().collect();
        for link in links {
            let was = before.get(&link).cloned().unwrap_or_default();
            let conditions = conditions.get(&link).cloned().unwrap_or_default();
            let Some(ends) = link.nodes() else {
                self.client_link_changed(link, &was, &conditions);
                continue;
            };
            let again = self.network.set(ends, conditions, self.now, &mut self.agenda, &mut self.dice);
            if let Some(again) = again {
                self.dial(again);
            }
        }
    }

    fn record(&mut self, fault: u64, begins: bool, active: &Active) {
        let (target, nodes) = in_words(active);
        let action = active.spec.word.text();
        let by_nodes = self.nemesis.struck.get(&fault).copied().unwrap_or_default();
        let struck = active.spec.word.strikes().map(|_| by_nodes + self.network.struck(fault));
        self.tell(|| {
            format!("fault {fault} {action} {target} {} {nodes:?}", if begins { "begins" } else { "ends" })
        });
        self.watch.records.push(Record::Nemesis(history::Nemesis {
            time: self.now,
            requested: self.now,
            fault,
            begins,
            action: action.to_owned(),
            target,
            nodes,
            name: active.spec.name.clone(),
            planned: active.planned,
            struck,
            instant: active.is_instant(),
        }));
        if let Some(name) = &active.spec.name {
            self.happened(|happening| match happening {
                Happening::FaultBegins(of) => begins && of == name,
                Happening::FaultEnds(of) => !begins && of == name,
                _ => false,
            });
        }
    }
}
