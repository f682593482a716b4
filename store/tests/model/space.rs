//! The state space: which actions a state allows, what must hold in every state, and what some state must show.

use stateright::{Checker, Expectation, HasDiscoveries, Model, Property};
use store::core::{Moment, invariants::Violation};

use crate::{
    bounds::{Bounds, PARTITION, REPLICAS, Sight, Start},
    machine::{Machine, Running},
    world::{Action, Scene, Spent, World},
};

impl Model for Scene {
    type State = World;
    type Action = Action;

    fn init_states(&self) -> Vec<World> {
        vec![self.bounds.prelude.iter().fold(start(self), |world, action| world.after(*action, self))]
    }

    fn actions(&self, world: &World, actions: &mut Vec<Action>) {
        if world.broken.is_some() {
            return;
        }
        let (bounds, spent) = (&self.bounds, &world.spent);
        for ((from, to), link) in world.network.iter() {
            let up = world.machine(to).running().is_some();
            if up && !link.live.is_empty() {
                actions.push(Action::Deliver(from, to));
            }
            if up && !link.late.is_empty() && spent.late < bounds.late {
                actions.push(Action::DeliverLate(from, to));
            }
            let connected = up && world.machine(from).running().is_some();
            if connected && spent.breaks < bounds.breaks {
                actions.push(Action::Break(from, to));
            }
        }
        for node in 1..=REPLICAS {
            self.own_actions(node, world, actions);
        }
        if spent.ticks < bounds.ticks {
            actions.push(Action::Tick);
        }
    }

    fn next_state(&self, world: &World, action: Action) -> Option<World> {
        let next = world.after(action, self);
        (next != *world).then_some(next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        let mut properties = vec![
            Property::always("SP1", |_, world: &World| world.keeps("SP1")),
            Property::always("SP2", |_, world: &World| world.keeps("SP2")),
            Property::always("SP3", |_, world: &World| world.keeps("SP3")),
            Property::always("BLE3", |_, world: &World| world.keeps("BLE3")),
            Property::always("L1", |_, world: &World| world.keeps("L1")),
            Property::always("L2", |_, world: &World| world.keeps("L2")),
            Property::always("L3", |_, world: &World| world.keeps("L3")),
            Property::always("L4", |_, world: &World| world.keeps("L4")),
            Property::always("L5", |_, world: &World| world.keeps("L5")),
            Property::always("L6", |_, world: &World| world.keeps("L6")),
            Property::always("L7", |_, world: &World| world.keeps("L7")),
            Property::always("L8", |_, world: &World| world.keeps("L8")),
            Property::always("linearizable", |_, world: &World| world.keeps("linearizable")),
            Property::always("assertions", |_, world: &World| world.keeps("assertion")),
        ];
        properties.extend(self.bounds.shows.iter().map(|sight| match sight {
            Sight::Decided => {
                Property::sometimes("a value is decided", |_, world: &World| world.observer.decided > 0)
            }
            Sight::FastRead => {
                Property::sometimes("a fast read is served", |_, world: &World| world.clients.read_fast())
            }
            Sight::HandOver => Property::sometimes("a lease is handed over", |_, world: &World| {
                world.observer.holders(PARTITION) > 1
            }),
            Sight::Fetched => {
                Property::sometimes("a snapshot is fetched", |_, world: &World| world.observer.fetched > 0)
            }
            Sight::CrashBeforeDecide => {
                Property::sometimes("a leader crashed between accept and decide", |_, world: &World| {
                    world.machines.iter().any(Machine::crashed_mid_accept)
                })
            }
        }));
        properties
    }
}

impl Scene {
    /// What a node does by itself, and what happens to it alone.
    fn own_actions(&self, node: u64, world: &World, actions: &mut Vec<Action>) {
        let (bounds, spent) = (&self.bounds, &world.spent);
        let Some(running) = world.machine(node).running() else {
            if bounds.restarts {
                actions.push(Action::Restart(node));
            }
            return;
        };
        let moment = Moment { config: world.config(node, self), now: world.local(node, self) };
        let replica = &running.replica;
        let seen = replica.heartbeat();
        if running.is_syncing() {
            actions.push(Action::Sync(node));
        }
        if spent.elections < bounds.elections && bounds.candidates.contains(&node) {
            actions.push(Action::NoLeader(node));
        }
        if seen.happy && spent.losses < bounds.losses {
            actions.push(Action::Alone(node));
        }
        for other in (1..=REPLICAS).filter(|other| *other != node) {
            let ballot = world.announced(other, self);
            if ballot > seen.leader {
                actions.push(Action::Follow(node, ballot));
            }
        }
        if replica.next_deadline(moment).is_some_and(|deadline| deadline <= moment.now) {
            actions.push(Action::Wake(node));
        }
        for client in 0..bounds.clients.len() {
            let operation = world.clients.next(client, bounds.clients[client]);
            if operation.is_some_and(|(operation, _)| replica.answers(&operation, moment)) {
                actions.push(Action::Ask(client, node));
            }
        }
        if spent.hand_overs < bounds.hand_overs && replica.serving().is_some() {
            for to in (1..=REPLICAS).filter(|to| *to != node) {
                actions.push(Action::HandOver(node, to));
            }
        }
        if spent.crashes < bounds.crashes && bounds.mortal.contains(&node) {
            actions.push(Action::Crash(node));
        }
    }
}

/// Where a run begins, before the prelude.
pub fn start(scene: &Scene) -> World {
    match scene.bounds.start {
        Start::Fresh => World::new(scene),
        Start::Led | Start::LedAfterStopSign => settled(World::new(scene), scene),
    }
}

/// Node 1 takes over, and all that follows from it happens.
fn settled(mut world: World, scene: &Scene) -> World {
    world = world.after(Action::NoLeader(1), scene);
    loop {
        let syncing =
            (1..=REPLICAS).find(|node| world.machine(*node).running().is_some_and(Running::is_syncing));
        let arriving = world.network.iter().find(|(_, link)| !link.live.is_empty()).map(|(ends, _)| ends);
        let action = match (syncing, arriving) {
            (Some(node), _) => Action::Sync(node),
            (None, Some((from, to))) => Action::Deliver(from, to),
            (None, None) => break,
        };
        world = world.after(action, scene);
    }
    let ballot = world.machine(1).announced();
    for node in 2..=REPLICAS {
        world = world.after(Action::Follow(node, ballot), scene);
    }
    world.spent = Spent::default();
    world
}

/// What came of exploring a state space.
pub struct Explored {
    bounds: Bounds,
    /// The first invariant that is broken: after which actions, and how.
    pub broken: Option<(Vec<Action>, Violation)>,
    never: Vec<&'static str>,
    /// Whether every state within the bounds was seen.
    pub whole: bool,
}

/// Explores the states within the bounds until all are seen or `limit` were, and prints how many there were.
pub fn explore(bounds: Bounds, limit: usize) -> Explored {
    let builder = Scene::new(bounds.clone()).checker().target_state_count(limit).threads(2);
    report(bounds, limit, &builder.finish_when(HasDiscoveries::AnyFailures).spawn_dfs().join())
}

/// Looks for the shortest way to break something. (One thread finds the same way every time.)
pub fn hunt(bounds: Bounds, limit: usize) -> Explored {
    let builder = Scene::new(bounds.clone()).checker().target_state_count(limit).threads(1);
    report(bounds, limit, &builder.finish_when(HasDiscoveries::AnyFailures).spawn_bfs().join())
}

fn report(bounds: Bounds, limit: usize, checker: &impl Checker<Scene>) -> Explored {
    let found = checker.discoveries();
    let (mut broken, mut never) = (None, Vec::new());
    for property in checker.model().properties() {
        match (property.expectation, found.get(property.name)) {
            (Expectation::Always, Some(path)) => {
                let violation = path.last_state().broken.clone().expect("it is why the property fails");
                broken = Some((path.clone().into_actions(), violation));
            }
            (Expectation::Sometimes, None) => never.push(property.name),
            _ => {}
        }
    }
    let whole = checker.state_count() < limit && broken.is_none();
    println!(
        "{:<40} {:>9} states, {:>9} transitions, depth {:>2}, {}",
        bounds.title(),
        checker.unique_state_count(),
        checker.state_count(),
        checker.max_depth(),
        broken.as_ref().map_or(if whole { "all" } else { "stopped there" }, |(_, violation)| violation),
    );
    Explored { bounds, broken, never, whole }
}

impl Explored {
    /// No state breaks anything, and all that must be seen was.
    pub fn assert_holds(&self) {
        let name = self.bounds.title();
        if let Some((actions, violation)) = &self.broken {
            panic!("{name}: {violation}, after {actions:#?}");
        }
        assert!(self.never.is_empty(), "{name}: never seen: {:?}", self.never);
    }
}
