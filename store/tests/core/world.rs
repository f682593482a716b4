//! A deterministic world for the core: nodes, links, disks and clocks in simulated time, every turn watched by the
//! invariants.

use std::collections::{BTreeMap, VecDeque};

use crate::telling;
use store::{
    api::{Ballot, Key, NodeId, Operation, Response, Value},
    config::{ClockSkew, ClusterConfig, Mutant},
    core::{
        ClientId, Config, Input, LocalTime, Message, Node, Output,
        durable::{DurableState, Record},
        invariants::{Observer, Violation},
        message::Entry,
        trace::TraceEvent,
    },
};

const MILLION: i128 = 1_000_000;

/// Milliseconds in the world's nanoseconds.
pub const MS: u64 = 1_000_000;

/// Gives every link and disk its next delay, nanoseconds.
pub trait Delays {
    /// Of a message.
    fn message(&mut self) -> u64;
    /// Of a sync.
    fn sync(&mut self) -> u64;
    /// Whether the next message is lost although its connection lives on, as when a queue is full.
    fn loses(&mut self) -> bool {
        false
    }
}

/// The same for all: a millisecond for a message, half of one for a sync.
pub struct Constant;

impl Delays for Constant {
    fn message(&mut self) -> u64 {
        MS
    }

    fn sync(&mut self) -> u64 {
        MS / 2
    }
}

/// An operation that a client of the world has asked for.
pub struct Asked {
    pub node: NodeId,
    pub operation: Operation,
    pub response: Option<Response>,
    /// Highest version of the key that anyone had been told of when it was asked.
    known_version: u64,
}

pub struct World {
    pub now: u64,
    pub observer: Observer,
    pub asked: Vec<Asked>,
    /// What happened, for golden scripts: trace events and replies.
    pub told: Vec<String>,
    /// Names of the messages that are told of, too.
    pub tell_messages: Vec<String>,
    /// No message is lost any more without a new connection.
    pub calm: bool,
    machines: BTreeMap<NodeId, Machine>,
    links: BTreeMap<(NodeId, NodeId), Link>,
    delays: Box<dyn Delays>,
    known_versions: BTreeMap<Key, u64>,
    /// The highest ballot of its own that each replica has told anyone of.
    told_ballots: BTreeMap<(NodeId, u32), Ballot>,
    turns: u64,
}

struct Machine {
    config: Config,
    node: Option<Node>,
    paused: bool,
    disk: DurableState,
    syncing: VecDeque<(u64, u64, Vec<Record>)>,
    durable: u64,
    held: Vec<(u64, Output)>,
    clock: Clock,
    /// Nothing is synced.
    stalled: bool,
}

#[derive(Default)]
struct Link {
    queue: VecDeque<(u64, Message)>,
    state: LinkState,
    /// Names of messages to lose, the next of each.
    lose: Vec<String>,
    /// Names of messages to keep back until released, the next of each.
    keep: Vec<String>,
    kept: Vec<Message>,
    /// What an earlier connection still delivers, in its order, beside the present one.
    late: VecDeque<(u64, Message)>,
}

#[derive(Default, PartialEq, Eq, Clone, Copy)]
enum LinkState {
    #[default]
    Open,
    /// What is sent is lost.
    Cut,
    /// What is sent waits.
    Held,
}

#[derive(Clone, Copy)]
struct Clock {
    base_common: u64,
    base_local: u64,
    rate_ppm: i64,
}

impl Clock {
    fn local(&self, common: u64) -> LocalTime {
        let passed = i128::from(common) - i128::from(self.base_common);
        let local = i128::from(self.base_local) + passed * (MILLION + i128::from(self.rate_ppm)) / MILLION;
        LocalTime(u64::try_from(local).expect("clocks stay positive"))
    }

    /// The first common time at which the clock reads `local` or more.
    fn common(&self, local: LocalTime) -> u64 {
        let passed = i128::from(local.0) - i128::from(self.base_local);
        let rate = MILLION + i128::from(self.rate_ppm);
        let common = i128::from(self.base_common) + (passed * MILLION + rate - 1).div_euclid(rate);
        u64::try_from(common.max(0)).expect("times fit")
    }
}

impl World {
    pub fn new(
        cluster: &ClusterConfig,
        nodes: NodeId,
        skews: &BTreeMap<NodeId, ClockSkew>,
        mutant: Option<Mutant>,
        delays: Box<dyn Delays>,
    ) -> Self {
        let ids: Vec<NodeId> = (1..=nodes).collect();
        let mut world = Self {
            now: 0,
            observer: Observer::default(),
            asked: Vec::new(),
            told: Vec::new(),
            tell_messages: Vec::new(),
            calm: false,
            machines: BTreeMap::new(),
            links: BTreeMap::new(),
            delays,
            known_versions: BTreeMap::new(),
            told_ballots: BTreeMap::new(),
            turns: 0,
        };
        for id in &ids {
            let config = Config {
                node: *id,
                nodes: ids.clone(),
                disk: 100 + id,
                boot: 0,
                cluster: cluster.clone(),
                mutant,
                traced: true,
            };
            let skew = skews.get(id).copied().unwrap_or_default();
            let base_local = 1_000_000 * MS + (skew.offset_ms + 100_000) as u64 * MS;
            let clock = Clock { base_common: 0, base_local, rate_ppm: skew.rate_ppm };
            let machine = Machine {
                config,
                node: None,
                paused: false,
                disk: DurableState::default(),
                syncing: VecDeque::new(),
                durable: 0,
                held: Vec::new(),
                clock,
                stalled: false,
            };
            world.machines.insert(*id, machine);
            for other in ids.iter().filter(|other| *other != id) {
                world.links.insert((*id, *other), Link::default());
            }
        }
        world
    }

    pub fn ids(&self) -> Vec<NodeId> {
        self.machines.keys().copied().collect()
    }

    /// The values that a node's decided log writes, in their order.
    pub fn decided_values(&self, id: NodeId) -> Vec<Value> {
        let replicas = self.machines[&id].node.iter().flat_map(Node::replicas);
        let entries = replicas.flat_map(|replica| {
            let paxos = replica.paxos();
            (1..=paxos.decided()).map(|index| paxos.entry(index))
        });
        entries
            .filter_map(|entry| match entry {
                Entry::Command(command) => written(&command.operation).cloned(),
                Entry::StopSign(_) => None,
            })
            .collect()
    }

    pub fn is_up(&self, id: NodeId) -> bool {
        self.machines[&id].node.is_some()
    }

    /// Starts a node, or starts it again with what its disk holds.
    pub fn start(&mut self, id: NodeId) -> Result<(), Violation> {
        let now = self.now;
        let machine = self.machines.get_mut(&id).expect("a known node");
        assert!(machine.node.is_none(), "node {id} runs");
        machine.config.boot += 1;
        machine.durable = 0;
        let mut out = Vec::new();
        machine.node = Some(Node::start(&machine.config, &machine.disk, machine.clock.local(now), &mut out));
        self.carry_out(id, out)?;
        for other in self.ids().into_iter().filter(|other| *other != id) {
            self.reconnect(id, other)?;
            self.reconnect(other, id)?;
        }
        Ok(())
    }

    /// SIGKILL: what was not synced is lost, and every message on its way from or to it.
    pub fn crash(&mut self, id: NodeId) {
        let machine = self.machines.get_mut(&id).expect("a known node");
        machine.node = None;
        machine.paused = false;
        machine.syncing.clear();
        machine.held.clear();
        self.observer.crashed(self.now, id);
        for ((from, to), link) in &mut self.links {
            if *from == id || *to == id {
                link.queue.clear();
                link.kept.clear();
                link.late.clear();
            }
        }
    }

    /// The sender connects anew while the earlier connection has not delivered everything: the rest comes late.
    pub fn reconnect_early(&mut self, from: NodeId, to: NodeId, late_by: u64) -> Result<(), Violation> {
        let link = self.links.get_mut(&(from, to)).expect("a known link");
        let rest = std::mem::take(&mut link.queue);
        let last = link.late.back().map_or(0, |(due, _)| *due);
        link.late.extend(rest.into_iter().map(|(due, message)| ((due + late_by).max(last), message)));
        self.reconnect(from, to)
    }

    pub fn pause(&mut self, id: NodeId) {
        self.machines.get_mut(&id).expect("a known node").paused = true;
    }

    pub fn resume(&mut self, id: NodeId) {
        self.machines.get_mut(&id).expect("a known node").paused = false;
    }

    /// The node's disk syncs nothing until it is told to go on.
    pub fn stall_disk(&mut self, id: NodeId, stalled: bool) {
        self.machines.get_mut(&id).expect("a known node").stalled = stalled;
    }

    /// Messages from one node to another are lost from now on.
    pub fn cut(&mut self, from: NodeId, to: NodeId) {
        let link = self.links.get_mut(&(from, to)).expect("a known link");
        link.state = LinkState::Cut;
        link.queue.clear();
        link.kept.clear();
        link.late.clear();
    }

    /// Messages from one node to another wait from now on.
    pub fn hold(&mut self, from: NodeId, to: NodeId) {
        self.links.get_mut(&(from, to)).expect("a known link").state = LinkState::Held;
    }

    /// A cut link is a new connection; a held one goes on.
    pub fn open(&mut self, from: NodeId, to: NodeId) -> Result<(), Violation> {
        let link = self.links.get_mut(&(from, to)).expect("a known link");
        let was_cut = link.state == LinkState::Cut;
        link.state = LinkState::Open;
        if was_cut { self.reconnect(from, to) } else { Ok(()) }
    }

    pub fn open_all(&mut self) -> Result<(), Violation> {
        for (from, to) in self.links.keys().copied().collect::<Vec<_>>() {
            self.open(from, to)?;
        }
        Ok(())
    }

    /// Loses the next message of this name.
    pub fn lose(&mut self, from: NodeId, to: NodeId, name: &str) {
        self.links.get_mut(&(from, to)).expect("a known link").lose.push(name.to_owned());
    }

    /// Keeps the next message of this name back until [`World::release`].
    pub fn keep(&mut self, from: NodeId, to: NodeId, name: &str) {
        self.links.get_mut(&(from, to)).expect("a known link").keep.push(name.to_owned());
    }

    /// What was kept back arrives now, however late.
    pub fn release(&mut self, from: NodeId, to: NodeId) {
        let now = self.now;
        let link = self.links.get_mut(&(from, to)).expect("a known link");
        link.keep.clear();
        let kept = std::mem::take(&mut link.kept);
        link.queue.extend(kept.into_iter().map(|message| (now, message)));
    }

    fn reconnect(&mut self, from: NodeId, to: NodeId) -> Result<(), Violation> {
        let open = self.links[&(from, to)].state == LinkState::Open;
        if open && self.is_up(from) && self.is_up(to) {
            self.turn(to, vec![Input::Session { from }])?;
        }
        Ok(())
    }

    /// A client asks a node; the answer comes in its place of [`World::asked`].
    pub fn ask(&mut self, node: NodeId, operation: Operation) -> Result<usize, Violation> {
        let number = self.asked.len();
        let known_version = self.known_versions.get(operation.key()).copied().unwrap_or(0);
        self.asked.push(Asked { node, operation: operation.clone(), response: None, known_version });
        if self.is_up(node) && !self.machines[&node].paused {
            let client = ClientId { connection: 1, request: number as u64 };
            self.turn(node, vec![Input::Request { client, operation }])?;
        }
        Ok(number)
    }

    /// Lets simulated time pass.
    pub fn run(&mut self, nanoseconds: u64) -> Result<(), Violation> {
        let end = self.now + nanoseconds;
        while let Some((time, event)) = self.next_event().filter(|(time, _)| *time <= end) {
            self.now = self.now.max(time);
            self.happen(event)?;
        }
        self.now = end;
        Ok(())
    }

    /// Runs until `done`, at most so long; false when it did not come to that.
    pub fn run_until(&mut self, limit: u64, mut done: impl FnMut(&Self) -> bool) -> Result<bool, Violation> {
        let end = self.now + limit;
        while self.now < end {
            if done(self) {
                return Ok(true);
            }
            self.run(MS)?;
        }
        Ok(done(self))
    }

    pub fn status(&self, id: NodeId) -> Option<store::api::NodeStatus> {
        let machine = &self.machines[&id];
        machine.node.as_ref().map(|node| node.status(&machine.config, machine.clock.local(self.now)))
    }

    fn next_event(&self) -> Option<(u64, Event)> {
        let running = |id: &NodeId| {
            let machine = &self.machines[id];
            machine.node.is_some() && !machine.paused
        };
        let arrivals = self
            .links
            .iter()
            .filter(|((_, to), link)| link.state == LinkState::Open && running(to))
            .filter_map(|((from, to), link)| Some((link.queue.front()?.0, Event::Arrival(*from, *to))));
        let late = self
            .links
            .iter()
            .filter(|((_, to), link)| link.state != LinkState::Cut && running(to))
            .filter_map(|((from, to), link)| Some((link.late.front()?.0, Event::Late(*from, *to))));
        let machines = self.machines.iter().filter(|(id, _)| running(id));
        let own = machines.flat_map(|(id, machine)| {
            let synced = machine.syncing.front().filter(|_| !machine.stalled);
            let synced = synced.map(|(due, ..)| (*due, Event::Synced(*id)));
            let local = machine.clock.local(self.now);
            let due = machine.node.as_ref().map(|node| node.next_deadline(&machine.config, local));
            let due = due.map(|due| (machine.clock.common(due).max(self.now), Event::Deadline(*id)));
            synced.into_iter().chain(due)
        });
        arrivals.chain(late).chain(own).min()
    }

    fn happen(&mut self, event: Event) -> Result<(), Violation> {
        self.turns += 1;
        match event {
            Event::Arrival(from, to) => {
                let link = self.links.get_mut(&(from, to)).expect("a known link");
                let (_, message) = link.queue.pop_front().expect("the event was chosen for it");
                self.turn(to, vec![Input::Message { from, message }])
            }
            Event::Late(from, to) => {
                let link = self.links.get_mut(&(from, to)).expect("a known link");
                let (_, message) = link.late.pop_front().expect("the event was chosen for it");
                self.turn(to, vec![Input::Message { from, message }])
            }
            Event::Synced(id) => {
                let machine = self.machines.get_mut(&id).expect("a known node");
                let (_, number, records) = machine.syncing.pop_front().expect("the event was chosen for it");
                for record in &records {
                    machine.disk.apply(record);
                }
                machine.durable = number;
                let (free, held) =
                    std::mem::take(&mut machine.held).into_iter().partition(|(needs, _)| *needs <= number);
                machine.held = held;
                for (_, output) in free {
                    self.let_go(id, output)?;
                }
                self.turn(id, vec![Input::Persisted { number }])
            }
            Event::Deadline(id) => self.turn(id, vec![Input::Tick]),
        }
    }

    fn turn(&mut self, id: NodeId, inputs: Vec<Input>) -> Result<(), Violation> {
        let now = self.now;
        let machine = self.machines.get_mut(&id).expect("a known node");
        let Some(node) = &mut machine.node else { return Ok(()) };
        let local = machine.clock.local(now);
        let mut out = Vec::new();
        for input in inputs {
            node.handle(&machine.config, local, input, &mut out);
        }
        node.finish_turn(&machine.config, local, &mut out);
        self.carry_out(id, out)
    }

    fn carry_out(&mut self, id: NodeId, out: Vec<Output>) -> Result<(), Violation> {
        self.ballots_are_new(id, &out)?;
        let sync = self.delays.sync();
        let machine = self.machines.get_mut(&id).expect("a known node");
        let node = machine.node.as_ref().expect("it has just had its turn");
        let clock = machine.clock;
        self.observer.observe(self.now, id, node, &out, |local| clock.common(local))?;
        let (traces, rest): (Vec<_>, Vec<_>) =
            out.into_iter().partition(|output| matches!(output, Output::Trace(_)));
        let mut free = traces;
        for output in rest {
            match output {
                Output::Persist { number, records } => {
                    let last = machine.syncing.back().map_or(0, |(due, ..)| *due);
                    machine.syncing.push_back((last.max(self.now + sync), number, records));
                }
                Output::Send { needs, .. } | Output::Reply { needs, .. } if needs > machine.durable => {
                    machine.held.push((needs, output));
                }
                output => free.push(output),
            }
        }
        for output in free {
            self.let_go(id, output)?;
        }
        Ok(())
    }

    /// BLE3: a ballot that a replica takes over with is above all that it ever told anyone of, in earlier lives too.
    fn ballots_are_new(&self, id: NodeId, out: &[Output]) -> Result<(), Violation> {
        for output in out {
            if let Output::Trace(TraceEvent::Elected { partition, ballot }) = output
                && ballot.node == id
                && let Some(told) = self.told_ballots.get(&(id, *partition)).filter(|told| *told >= ballot)
            {
                return Err(format!("BLE3: node {id} takes over with {ballot} after it has told of {told}"));
            }
        }
        Ok(())
    }

    fn let_go(&mut self, id: NodeId, output: Output) -> Result<(), Violation> {
        match output {
            Output::Send { to, message, .. } => self.send(id, to, message),
            Output::Reply { client, response, .. } => {
                return self.answered(client.request as usize, response);
            }
            Output::Trace(event) => self.tell_event(id, &event),
            Output::Open | Output::Persist { .. } | Output::Leading { .. } | Output::SteppedDown { .. } => {}
        }
        Ok(())
    }

    fn send(&mut self, from: NodeId, to: NodeId, message: Message) {
        if let Message::HeartbeatReply { groups, .. } = &message {
            for group in groups {
                let told = self.told_ballots.entry((from, group.partition)).or_default();
                *told = (*told).max(group.ballot);
            }
        }
        let due = self.now + self.delays.message();
        let up = self.is_up(to);
        let name = telling::name(&message);
        if self.tell_messages.contains(&name) {
            self.tell(&format!("n{from} -> n{to} {}", telling::message(&message)));
        }
        if !self.calm && self.delays.loses() {
            return;
        }
        let link = self.links.get_mut(&(from, to)).expect("a known link");
        if let Some(position) = link.lose.iter().position(|lost| *lost == name) {
            link.lose.remove(position);
            return self.tell(&format!("n{from} -> n{to} {name} is lost"));
        }
        if let Some(position) = link.keep.iter().position(|kept| *kept == name) {
            link.keep.remove(position);
            link.kept.push(message);
            return self.tell(&format!("n{from} -> n{to} {name} is kept back"));
        }
        if link.state != LinkState::Cut && up {
            let last = link.queue.back().map_or(0, |(due, _)| *due);
            link.queue.push_back((due.max(last), message));
        }
    }

    /// L5 and L8: an answer reflects at least what anyone knew when it was asked.
    fn answered(&mut self, number: usize, response: Response) -> Result<(), Violation> {
        let asked = &mut self.asked[number];
        assert!(asked.response.is_none(), "request {number} is answered twice");
        if let Ok(answer) = &response {
            if answer.version < asked.known_version {
                return Err(format!(
                    "{}: version {} answered where {} was known: {:?}",
                    if answer.fast { "L5" } else { "linearizability" },
                    answer.version,
                    asked.known_version,
                    asked.operation
                ));
            }
            let known = self.known_versions.entry(asked.operation.key().clone()).or_default();
            *known = (*known).max(answer.version);
        }
        let told = format!(
            "n{} answers {}: {}",
            asked.node,
            telling::operation(&asked.operation),
            telling::response(&response)
        );
        asked.response = Some(response);
        self.tell(&told);
        Ok(())
    }

    fn tell_event(&mut self, id: NodeId, event: &TraceEvent) {
        if let Some(told) = telling::event(event) {
            self.tell(&format!("n{id} {told}"));
        }
    }

    fn tell(&mut self, what: &str) {
        self.told.push(format!("{:>6} ms  {what}", self.now / MS));
    }
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    Synced(NodeId),
    Arrival(NodeId, NodeId),
    Late(NodeId, NodeId),
    Deadline(NodeId),
}

/// The value that an operation would write.
pub fn written(operation: &Operation) -> Option<&Value> {
    match operation {
        Operation::Put { value, .. } | Operation::Cas { new: value, .. } => Some(value),
        Operation::Get { .. } | Operation::Delete { .. } => None,
    }
}
