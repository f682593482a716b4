//! The whole of the model's state, and what each action does to it.

use std::{
    cell::Cell,
    panic::{AssertUnwindSafe, catch_unwind, set_hook, take_hook},
    sync::Once,
};

use store::{
    api::{Ballot, NodeId},
    config::Mutant,
    core::{
        ClientId, Config, Input, LocalTime, Output,
        invariants::{Observer, Violation},
        message::GroupStatus,
        replica::{Origin, Request},
        trace::TraceEvent,
    },
};

use crate::{
    bounds::{Bounds, PARTITION, REPLICAS, Start, TICK_MS},
    clients::Clients,
    machine::{Happening, Life, Machine, Outcome, Running},
    network::Network,
};

const MS: u64 = 1_000_000;

/// What every clock shows at the beginning, nanoseconds.
const EPOCH: u64 = 1_000 * MS;

thread_local! {
    /// Whether a panic of this thread is caught, and told as a violation.
    static CAUGHT: Cell<bool> = const { Cell::new(false) };
}

/// What happens next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    /// The next message of the connection arrives.
    Deliver(NodeId, NodeId),
    /// The next message of an earlier connection arrives.
    DeliverLate(NodeId, NodeId),
    /// The connection breaks.
    Break(NodeId, NodeId),
    /// The oldest persist becomes durable.
    Sync(NodeId),
    /// A heartbeat period finds no leader, and a neighbour that sees none.
    NoLeader(NodeId),
    /// A heartbeat period finds this ballot's leader well.
    Follow(NodeId, Ballot),
    /// A heartbeat period finds nobody.
    Alone(NodeId),
    /// A deadline has passed, and the node notices.
    Wake(NodeId),
    /// A client asks a node.
    Ask(usize, NodeId),
    /// A leader is asked to hand over to another node.
    HandOver(NodeId, NodeId),
    /// The node is killed.
    Crash(NodeId),
    /// It starts again.
    Restart(NodeId),
    /// Time passes.
    Tick,
}

/// How often what was done.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Spent {
    pub hand_overs: u32,
    pub elections: u32,
    pub losses: u32,
    pub crashes: u32,
    pub breaks: u32,
    pub late: u32,
    pub ticks: u32,
}

/// The state of the model.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct World {
    pub machines: Vec<Machine>,
    pub network: Network,
    pub clients: Clients,
    pub spent: Spent,
    pub observer: Observer,
    /// The highest ballot of its own that each node has told anyone of.
    told: Vec<Ballot>,
    /// What is broken.
    pub broken: Option<Violation>,
}

/// What never changes: the bounds, and each node's configuration in each of its lives.
#[derive(Debug)]
pub struct Scene {
    pub bounds: Bounds,
    configs: Vec<Vec<Config>>,
}

impl Scene {
    pub fn new(bounds: Bounds) -> Self {
        let lives = u64::from(bounds.crashes) + 1;
        let of = |node| (1..=lives).map(|boot| bounds.config(node, boot)).collect();
        Self { configs: (1..=REPLICAS).map(of).collect(), bounds }
    }

    fn config(&self, node: NodeId, boot: u64) -> &Config {
        &self.configs[node as usize - 1][boot as usize - 1]
    }

    /// The real time at which a node's clock reads `local`, or shortly after.
    fn common(&self, node: NodeId, local: LocalTime) -> u64 {
        let gain = self.bounds.rates[node as usize - 1].gain();
        EPOCH + ((local.0 - EPOCH) * TICK_MS).div_ceil(gain)
    }
}

impl World {
    /// Three nodes that have just started.
    pub fn new(scene: &Scene) -> Self {
        let mut world = Self {
            machines: vec![Machine::new(); REPLICAS as usize],
            network: Network::new(),
            clients: Clients::new(scene.bounds.clients.len()),
            spent: Spent::default(),
            observer: Observer::default(),
            told: vec![Ballot::BOTTOM; REPLICAS as usize],
            broken: None,
        };
        if scene.bounds.start == Start::LedAfterStopSign {
            world.machines[0] = Machine::with_stop_sign();
        }
        for node in 1..=REPLICAS {
            world.start(node, scene).expect("a fresh node breaks nothing");
        }
        // there is nobody to answer who leads
        world.network = Network::new();
        world
    }

    pub fn machine(&self, node: NodeId) -> &Machine {
        &self.machines[node as usize - 1]
    }

    /// Real time in nanoseconds.
    fn common(&self) -> u64 {
        EPOCH + u64::from(self.spent.ticks) * TICK_MS * MS
    }

    pub fn local(&self, node: NodeId, scene: &Scene) -> LocalTime {
        let gain = scene.bounds.rates[node as usize - 1].gain();
        LocalTime(EPOCH + u64::from(self.spent.ticks) * gain * MS)
    }

    pub fn config<'a>(&self, node: NodeId, scene: &'a Scene) -> &'a Config {
        scene.config(node, self.machine(node).boot)
    }

    /// The state after an action. An assertion of the core that fails is a violation, too.
    pub fn after(&self, action: Action, scene: &Scene) -> Self {
        let mut next = self.clone();
        quiet();
        CAUGHT.set(true);
        let done = catch_unwind(AssertUnwindSafe(|| next.act(action, scene)));
        CAUGHT.set(false);
        let broken = done.unwrap_or_else(|panic| Err(format!("assertion: {}", words(&*panic))));
        if let Err(violation) = broken {
            next.broken = Some(violation);
        }
        next
    }

    fn act(&mut self, action: Action, scene: &Scene) -> Result<(), Violation> {
        match action {
            Action::Deliver(from, to) => {
                let carried = self.network.link(from, to).live.pop_front().expect("something is on its way");
                self.turn(to, Some(Happening::Input(carried.input(from))), scene)
            }
            Action::DeliverLate(from, to) => {
                self.spent.late += 1;
                let message = self.network.link(from, to).late.pop_front().expect("something is on its way");
                self.turn(to, Some(Happening::Input(Input::Message { from, message })), scene)
            }
            Action::Break(from, to) => {
                self.spent.breaks += 1;
                self.network.break_link(from, to, scene.bounds.late > self.spent.late);
                Ok(())
            }
            Action::Sync(node) => self.sync(node, scene),
            Action::NoLeader(node) => {
                let silent = GroupStatus {
                    partition: PARTITION,
                    ballot: Ballot::BOTTOM,
                    leader: Ballot::BOTTOM,
                    happy: false,
                    leading: false,
                    decided: 0,
                };
                self.turn(node, Some(Happening::Heartbeat(vec![silent])), scene)
            }
            Action::Follow(node, ballot) => {
                let told = &mut self.told[ballot.node as usize - 1];
                *told = ballot.max(*told);
                let well = GroupStatus {
                    partition: PARTITION,
                    ballot,
                    leader: ballot,
                    happy: true,
                    leading: false,
                    decided: 0,
                };
                self.turn(node, Some(Happening::Heartbeat(vec![well])), scene)
            }
            Action::Alone(node) => {
                self.spent.losses += 1;
                self.turn(node, Some(Happening::Heartbeat(Vec::new())), scene)
            }
            Action::Wake(node) => self.turn(node, None, scene),
            Action::Ask(client, node) => self.ask(client, node, scene),
            Action::HandOver(node, to) => {
                self.spent.hand_overs += 1;
                self.turn(node, Some(Happening::HandOver(to)), scene)
            }
            Action::Crash(node) => {
                self.spent.crashes += 1;
                self.crash(node, scene);
                Ok(())
            }
            Action::Restart(node) => self.start(node, scene),
            Action::Tick => {
                self.spent.ticks += 1;
                Ok(())
            }
        }
    }

    fn ask(&mut self, client: usize, node: NodeId, scene: &Scene) -> Result<(), Violation> {
        let script = scene.bounds.clients[client];
        let (operation, session) =
            self.clients.next(client, script).expect("the client has something to ask");
        let request = self.clients.ask(client, node, script);
        let origin = Origin::Client(ClientId { connection: client as u64, request });
        let received = self.local(node, scene);
        self.turn(
            node,
            Some(Happening::Request(Request { origin, operation, seen: 0, session, received })),
            scene,
        )
    }

    /// Whether an invariant holds; an invariant that is broken says so by its name.
    pub fn keeps(&self, invariant: &str) -> bool {
        self.broken.as_ref().is_none_or(|broken| !broken.starts_with(invariant))
    }

    fn crash(&mut self, node: NodeId, scene: &Scene) {
        self.machines[node as usize - 1].crash();
        self.network.crash(node, scene.bounds.late > self.spent.late);
        self.clients.crashed(node);
        self.observer.crashed(self.common(), node);
    }

    /// Starts a node; its neighbours see that its connections are new ones. (Theirs to it bring it nothing: it asks who leads
    /// anyway.)
    fn start(&mut self, node: NodeId, scene: &Scene) -> Result<(), Violation> {
        let promised = self.machine(node).promised();
        let event = TraceEvent::Group { partition: PARTITION, replicas: (1..=REPLICAS).collect(), promised };
        let now = self.local(node, scene);
        let boot = self.machine(node).boot + 1;
        self.observer.on_event(self.common(), node, &event, &|local| scene.common(node, local))?;
        for other in (1..=REPLICAS).filter(|other| *other != node) {
            self.network.break_link(node, other, scene.bounds.late > self.spent.late);
        }
        let outcome = self.machines[node as usize - 1].start(scene.config(node, boot), now);
        self.take_in(node, outcome, scene)
    }

    fn turn(&mut self, node: NodeId, happening: Option<Happening>, scene: &Scene) -> Result<(), Violation> {
        let (config, now) = (self.config(node, scene), self.local(node, scene));
        let outcome = self.machines[node as usize - 1].turn(config, now, happening);
        self.take_in(node, outcome, scene)
    }

    fn sync(&mut self, node: NodeId, scene: &Scene) -> Result<(), Violation> {
        let (config, now) = (self.config(node, scene), self.local(node, scene));
        let outcome = self.machines[node as usize - 1].sync(config, now);
        self.take_in(node, outcome, scene)
    }

    /// Has the invariants look at what a turn did, and carries out what it wants.
    fn take_in(&mut self, node: NodeId, outcome: Outcome, scene: &Scene) -> Result<(), Violation> {
        let common = self.common();
        let mut observer = std::mem::take(&mut self.observer);
        for output in &outcome.told {
            if let Output::Trace(event) = output {
                self.on_elected(node, event)?;
                observer.on_event(common, node, event, &|local| scene.common(node, local))?;
            }
        }
        if let Life::Up(running) = &self.machine(node).life {
            observer.on_replica(node, &running.replica)?;
        }
        self.observer = observer;
        for (to, message) in outcome.sent {
            if self.machine(to).running().is_some() {
                self.network.link(node, to).live.push_back(crate::network::Carried::Message(message));
            }
        }
        for output in outcome.told {
            if let Output::Reply { client, response, .. } = output {
                self.clients.answered(client.connection as usize, client.request, &response)?;
            }
        }
        let slow = scene.bounds.slow_disks.contains(&node);
        if !slow && self.machine(node).running().is_some_and(Running::is_syncing) {
            return self.sync(node, scene);
        }
        Ok(())
    }

    /// BLE3: a ballot that a node takes over with is above all that it ever told anyone of, in earlier lives too.
    fn on_elected(&mut self, node: NodeId, event: &TraceEvent) -> Result<(), Violation> {
        let TraceEvent::Elected { ballot, .. } = event else { return Ok(()) };
        if ballot.node != node {
            return Ok(());
        }
        self.spent.elections += 1;
        let told = self.told[node as usize - 1];
        if *ballot > told {
            return Ok(());
        }
        Err(format!("BLE3: node {node} takes over with {ballot} after it has told of {told}"))
    }

    /// The ballot that heartbeats of a node may tell of: one that is durable.
    pub fn announced(&self, node: NodeId, scene: &Scene) -> Ballot {
        match self.machine(node).running() {
            Some(running) if scene.bounds.mutant == Some(Mutant::AnnouncedNotDurable) => {
                running.replica.heartbeat().ballot
            }
            _ => self.machine(node).announced(),
        }
    }
}

/// Panics that are caught are not printed: there may be thousands.
fn quiet() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let usual = take_hook();
        set_hook(Box::new(move |info| {
            if !CAUGHT.get() {
                usual(info);
            }
        }));
    });
}

fn words(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().cloned();
    text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned())).unwrap_or_default()
}
