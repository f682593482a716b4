//! The world of one simulated run: everything that is, and the loop in which everything happens.
//!
//! One stream of chance, one agenda, no clock but the world's own: the same plan does the same, byte for byte, and the
//! fingerprint of all events and outputs shows it.

use std::sync::Arc;

use store::{api::NodeId, core::Output, core::trace::TraceEvent};

use super::{
    Options, Stats,
    chance::{Dice, Weather},
    clients::Clients,
    events::{Agenda, Event, Fingerprint},
    faults::Nemesis,
    machine::Machine,
    network::Network,
    phases::Phases,
    post::Post,
    script::{Script, expects_still_weather},
    watch::{Finding, Watch},
};
use crate::{cluster::NodeLeaders, leaders::Leaders, plan::Plan, replay::Follower};

/// Findings of one run that are kept.
const KEPT: usize = 10;

/// The most events of one run: a world that does not come to its end is wrong, too.
const MOST_EVENTS: u64 = 200_000_000;

/// One simulated run.
pub struct World<'a> {
    pub(super) plan: &'a Plan,
    pub(super) options: &'a Options,
    /// The world's time, nanoseconds since it began.
    pub(super) now: u64,
    pub(super) agenda: Agenda,
    pub(super) dice: Dice,
    pub(super) weather: Weather,
    pub(super) print: Fingerprint,
    pub(super) machines: Vec<Machine>,
    pub(super) network: Network,
    /// Who leads, by what the nodes say.
    pub(super) leaders: NodeLeaders,
    /// Who leads, by what the clients may know.
    pub(super) guess: Leaders,
    /// Nodes that serve clients.
    pub(super) opened: Vec<NodeId>,
    pub(super) clients: Clients,
    pub(super) nemesis: Nemesis,
    pub(super) phases: Phases,
    pub(super) script: Script,
    pub(super) watch: Watch,
    pub(super) findings: Vec<Finding>,
    pub(super) stats: Stats,
    /// Nothing happens any more.
    pub(super) over: bool,
    /// What happened, in words, if anyone wants to read it.
    pub(super) tale: Option<Vec<String>>,
    /// The messages between nodes, if anyone wants to see them.
    pub(super) post: Option<Post>,
    pub(super) freed: Vec<Output>,
    pub(super) out: Vec<Output>,
}

impl<'a> World<'a> {
    /// The world before its first event.
    pub fn new(plan: &'a Plan, options: &'a Options) -> Self {
        let mut dice = Dice::new(plan.seed ^ 0x51D0_51D0_51D0_51D0);
        let weather = Weather::draw(&mut dice, expects_still_weather(&plan.steps) || plan.follows.is_some());
        let machine = |node| {
            let disk = dice.below(1 << 48);
            Machine::new(plan, node, disk, weather.disk(&mut dice))
        };
        let machines = plan.node_ids().into_iter().map(machine).collect();
        let mut world = Self {
            plan,
            options,
            now: 0,
            agenda: Agenda::default(),
            dice,
            weather,
            print: Fingerprint::default(),
            machines,
            network: Network::new(plan.nodes, weather, plan.seed),
            leaders: NodeLeaders::default(),
            guess: Leaders::new(plan.cluster.clone()),
            opened: Vec::new(),
            clients: Clients::new(plan),
            nemesis: Nemesis::new(plan),
            phases: Phases::new(plan),
            script: Script::default(),
            watch: Watch::new(plan),
            findings: Vec::new(),
            stats: Stats::default(),
            over: false,
            tale: options.tale.then(Vec::new),
            post: options.messages.then(Post::default),
            freed: Vec::new(),
            out: Vec::new(),
        };
        world.tell(|| format!("the weather is {}", weather.name));
        if let Some(follows) = &plan.follows {
            world.network.follow(Follower::new(Arc::clone(&follows.course)));
        }
        world.switch_network();
        for node in plan.node_ids() {
            world.begin(node);
        }
        world.agenda.add(0, Event::Phase);
        world
    }

    /// Lets everything happen.
    pub fn run(&mut self) {
        while !self.over
            && let Some((time, event)) = self.agenda.take()
        {
            self.now = time;
            self.stats.events += 1;
            self.print.add(&(time, event));
            self.happen(event);
            if self.stats.events > MOST_EVENTS {
                self.over = true;
                let text = format!("no end after {MOST_EVENTS} events");
                self.found(Finding { by: crate::workload::CheckName::Progress, text });
            }
        }
    }

    /// What the run has contained, however it has ended.
    pub fn sum_up(&mut self) {
        self.stats.simulated = self.now;
        self.stats.fingerprint = self.print.value();
        self.stats.leader_changes = self.leaders.changes().values().sum();
        self.stats.messages = self.network.sent;
        self.stats.untriggered = self.nemesis.untriggered();
        self.stats.near_expiry = self.watch.near_expiry;
        self.stats.snapshots_fetched = self.watch.snapshots_fetched;
        self.stats.mutant_reached = self.watch.mutant_reached;
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Wake(node) => self.wake(node),
            Event::Arrive { link, epoch } => self.arrive(link, epoch),
            Event::Straggler(index) => self.straggles(index),
            Event::Dial(link) => self.dialed(link),
            Event::Synced { node, life } => self.synced(node, life),
            Event::Start { node, life } => self.start(node, life),
            Event::Request(attempt) => self.request_arrives(attempt),
            Event::Reply(attempt) => self.reply_arrives(attempt),
            Event::Lost(attempt) => self.connection_lost(attempt),
            Event::Timeout(attempt) => self.time_is_up(attempt),
            Event::Again(attempt) => self.asks_again(attempt),
            Event::Due(client) => self.client_is_due(client),
            Event::Fault(index) => self.fault_is_due(index),
            Event::Undo(fault) => self.end_fault(fault),
            Event::Change { fault, tick } => self.change_fault(fault, tick),
            Event::Doom { node, life } => self.doomed(node, life),
            Event::Phase => self.phase(),
            Event::Script => self.follow_script(),
            Event::Task(task) => self.task(task),
        }
    }

    /// Something is wrong. The run ends with that, unless another check is to find it.
    pub(super) fn found(&mut self, finding: Finding) {
        self.tell(|| finding.text.clone());
        let wanted = self.plan.expect.by.is_none_or(|by| by == finding.by);
        if self.findings.len() < KEPT {
            self.findings.push(finding);
        }
        self.over |= wanted;
    }

    pub(super) fn machine(&self, node: NodeId) -> &Machine {
        &self.machines[node as usize - 1]
    }

    pub(super) fn machine_mut(&mut self, node: NodeId) -> &mut Machine {
        &mut self.machines[node as usize - 1]
    }

    /// Every partition has a leader.
    pub(super) fn all_led(&self) -> bool {
        self.leaders.all().len() == self.plan.cluster.partitions.len()
    }

    // ---- the tale ----------------------------------------------------------------------------------------------------

    pub(super) fn tell(&mut self, what: impl FnOnce() -> String) {
        let now = self.now;
        if let Some(tale) = &mut self.tale {
            tale.push(format!("{:>12.6} s  {}", now as f64 / 1e9, what()));
        }
    }

    pub(super) fn tell_event(&mut self, node: NodeId, event: &TraceEvent) {
        let at = |partition: &u32| format!("n{node} p{partition}");
        self.tell(|| match event {
            TraceEvent::Elected { partition, ballot } => format!("{} elects {ballot}", at(partition)),
            TraceEvent::Promised { partition, ballot } => format!("{} promises {ballot}", at(partition)),
            TraceEvent::Leading { partition, ballot } => format!("{} leads under {ballot}", at(partition)),
            TraceEvent::SteppedDown { partition, ballot } => {
                format!("{} leads no longer under {ballot}", at(partition))
            }
            TraceEvent::Decided { partition, ballot, leading, first, hashes } => format!(
                "{} {} {first}..={} under {ballot}",
                at(partition),
                if *leading { "decides" } else { "learns" },
                first + hashes.len() as u64 - 1
            ),
            other => format!("n{node} {other:?}"),
        });
    }
}
