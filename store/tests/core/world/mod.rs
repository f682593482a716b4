//! A deterministic world for the core: nodes, links, disks and clocks in simulated time, every turn watched by the
//! invariants.

mod parts;

use std::collections::BTreeMap;

use crate::telling;
use parts::{Clock, Link, LinkState, Machine};
use store::{
    api::{Ballot, Key, NodeId, Operation, Response, SessionTag, Value},
    config::{ClockSkew, ClusterConfig, Mutant},
    core::{
        ClientId, Config, Input, Message, Node, Output,
        durable::Record,
        invariants::{Observer, Violation},
        message::Entry,
        trace::TraceEvent,
    },
};

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
    pub session: Option<SessionTag>,
    pub response: Option<Response>,
    /// What was known of the key when it was asked.
    known: Known,
}

/// The highest versions of a key that anyone has been told of.
#[derive(Clone, Copy, Default)]
struct Known {
    written: u64,
    read: u64,
}

/// A message that a node sent, or that one was handed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Passed {
    pub at: u64,
    pub from: NodeId,
    pub to: NodeId,
    pub message: Message,
}

pub struct World {
    pub now: u64,
    pub observer: Observer,
    pub asked: Vec<Asked>,
    /// What happened, for golden scripts: trace events and replies.
    pub told: Vec<String>,
    /// The trace events of all nodes, with the common time of each.
    pub events: Vec<(u64, NodeId, TraceEvent)>,
    /// Every message that was sent, and every one that was delivered, while they are recorded.
    pub sent: Vec<Passed>,
    pub delivered: Vec<Passed>,
    pub record_messages: bool,
    /// Names of the messages that are told of, too.
    pub tell_messages: Vec<String>,
    /// No message is lost any more without a new connection.
    pub calm: bool,
    machines: BTreeMap<NodeId, Machine>,
    links: BTreeMap<(NodeId, NodeId), Link>,
    delays: Box<dyn Delays>,
    known: BTreeMap<Key, Known>,
    /// The highest ballot of its own that each replica has told anyone of.
    told_ballots: BTreeMap<(NodeId, u32), Ballot>,
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
            events: Vec::new(),
            sent: Vec::new(),
            delivered: Vec::new(),
            record_messages: false,
            tell_messages: Vec::new(),
            calm: false,
            machines: BTreeMap::new(),
            links: BTreeMap::new(),
            delays,
            known: BTreeMap::new(),
            told_ballots: BTreeMap::new(),
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
            world.machines.insert(*id, Machine::new(config, Clock::new(skew)));
            for other in ids.iter().filter(|other| *other != id) {
                world.links.insert((*id, *other), Link::default());
            }
        }
        world
    }

    pub fn ids(&self) -> Vec<NodeId> {
        self.machines.keys().copied().collect()
    }

    /// The values that a node's decided log writes, in their order; of one that is trimmed, what is left of it.
    pub fn decided_values(&self, id: NodeId) -> Vec<Value> {
        let replicas = self.node(id).into_iter().flat_map(Node::replicas);
        let entries = replicas.flat_map(|replica| {
            let paxos = replica.paxos();
            (paxos.log().start() + 1..=paxos.decided()).map(|index| paxos.entry(index))
        });
        entries
            .filter_map(|entry| match entry {
                Entry::Command(command) => written(&command.operation).cloned(),
                Entry::StopSign(_) | Entry::Expiry(_) => None,
            })
            .collect()
    }

    pub fn node(&self, id: NodeId) -> Option<&Node> {
        self.machines[&id].node.as_ref()
    }

    pub fn is_up(&self, id: NodeId) -> bool {
        self.node(id).is_some()
    }

    /// Adds to the disk of a node that is down, as if an earlier life had written it.
    pub fn plant(&mut self, id: NodeId, record: &Record) {
        let machine = self.machines.get_mut(&id).expect("a known node");
        assert!(machine.node.is_none(), "node {id} runs");
        machine.disk.apply(record);
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

    /// It goes on, and takes all that has become ready meanwhile in one turn.
    pub fn resume_in_one_turn(&mut self, id: NodeId) -> Result<(), Violation> {
        self.resume(id);
        let mut inputs = Vec::new();
        while let Some((time, event)) = self.next_event().filter(|(time, _)| *time <= self.now) {
            let (to, input) = self.take(event)?;
            assert_eq!(to, id, "at {time} nothing was ready for another node");
            let last = input == Input::Tick;
            inputs.push(input);
            if last {
                break;
            }
        }
        self.turn(id, inputs)
    }

    /// The node's clock runs at another rate from now on.
    pub fn set_rate(&mut self, id: NodeId, rate_ppm: i64) {
        let now = self.now;
        self.machines.get_mut(&id).expect("a known node").clock.set_rate(now, rate_ppm);
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

    /// Loses all messages of this name, or none any more.
    pub fn mute(&mut self, from: NodeId, to: NodeId, name: &str, muted: bool) {
        let link = self.links.get_mut(&(from, to)).expect("a known link");
        link.mute.retain(|other| other != name);
        if muted {
            link.mute.push(name.to_owned());
        }
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
        self.ask_after(node, operation, 0)
    }

    /// The same of a client that has seen so much of the log.
    pub fn ask_after(&mut self, node: NodeId, operation: Operation, seen: u64) -> Result<usize, Violation> {
        self.ask_in(None, node, operation, seen)
    }

    /// The same of a client with a session.
    pub fn ask_in(
        &mut self,
        session: Option<SessionTag>,
        node: NodeId,
        operation: Operation,
        seen: u64,
    ) -> Result<usize, Violation> {
        let number = self.asked.len();
        // however often a write of a session is asked for, it is one operation
        let same = |asked: &&Asked| asked.session == session && asked.operation.key() == operation.key();
        let first = session.and_then(|_| self.asked.iter().find(same));
        let known = first.map(|first| first.known).or_else(|| self.known.get(operation.key()).copied());
        let (asked, known) = (operation.clone(), known.unwrap_or_default());
        self.asked.push(Asked { node, operation: asked, session, response: None, known });
        if self.is_up(node) && !self.machines[&node].paused {
            let client = ClientId { connection: 1, request: number as u64 };
            self.turn(node, vec![Input::Request { client, operation, seen, session }])?;
        }
        Ok(number)
    }

    /// A node that leads is asked to hand over.
    pub fn transfer(&mut self, node: NodeId, to: NodeId) -> Result<(), Violation> {
        if !self.is_up(node) || self.machines[&node].paused {
            return Ok(());
        }
        let client = ClientId { connection: 2, request: 0 };
        self.turn(node, vec![Input::Transfer { client, partition: 1, to }])
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
        let (id, input) = self.take(event)?;
        self.turn(id, vec![input])
    }

    /// Which node an event is for, and what it is to that node.
    fn take(&mut self, event: Event) -> Result<(NodeId, Input), Violation> {
        match event {
            Event::Arrival(from, to) => {
                let link = self.links.get_mut(&(from, to)).expect("a known link");
                let (_, message) = link.queue.pop_front().expect("the event was chosen for it");
                Ok((to, self.delivered(from, to, message)))
            }
            Event::Late(from, to) => {
                let link = self.links.get_mut(&(from, to)).expect("a known link");
                let (_, message) = link.late.pop_front().expect("the event was chosen for it");
                Ok((to, self.delivered(from, to, message)))
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
                Ok((id, Input::Persisted { number }))
            }
            Event::Deadline(id) => Ok((id, Input::Tick)),
        }
    }

    fn delivered(&mut self, from: NodeId, to: NodeId, message: Message) -> Input {
        if self.record_messages {
            self.delivered.push(Passed { at: self.now, from, to, message: message.clone() });
        }
        Input::Message { from, message }
    }

    fn turn(&mut self, id: NodeId, inputs: Vec<Input>) -> Result<(), Violation> {
        let now = self.now;
        let machine = self.machines.get_mut(&id).expect("a known node");
        let Some(node) = &mut machine.node else { return Ok(()) };
        let local = machine.clock.local(now);
        let thorough = machine.config.mutant.is_none().then(|| node.clone());
        let mut out = Vec::new();
        for input in &inputs {
            node.handle(&machine.config, local, input.clone(), &mut out);
        }
        node.finish_turn(&machine.config, local, &mut out);
        if let Some(mut thorough) = thorough {
            thorough.go_through_all();
            let mut all_out = Vec::new();
            for input in inputs {
                thorough.handle(&machine.config, local, input, &mut all_out);
            }
            thorough.finish_turn(&machine.config, local, &mut all_out);
            assert_eq!(
                (&out, &*node),
                (&all_out, &thorough),
                "to a replica that is left alone nothing happens"
            );
        }
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
            Output::Trace(event) => self.tell_event(id, event),
            Output::Transferred { result, .. } => match result {
                Ok(ballot) => self.tell(&format!("n{id} is told that the successor leads under {ballot}")),
                Err(error) => self.tell(&format!("n{id} hands nothing over: {error}")),
            },
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
        if self.record_messages {
            self.sent.push(Passed { at: self.now, from, to, message: message.clone() });
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
        if link.mute.contains(&name) {
            return;
        }
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

    /// L5 and L8: an answer reflects at least what anyone knew when it was asked, unless it is a local read.
    pub fn answered(&mut self, number: usize, response: Response) -> Result<(), Violation> {
        let asked = &mut self.asked[number];
        assert!(asked.response.is_none(), "request {number} is answered twice");
        if let Ok(answer) = &response {
            let (version, known) = (answer.version, asked.known);
            if version < known.written.max(known.read) && !answer.local {
                let (broken, of) = match answer.fast {
                    true if version < known.written => ("L5", known.written),
                    true => ("L8", known.read),
                    false => ("linearizability", known.written.max(known.read)),
                };
                let what = &asked.operation;
                return Err(format!("{broken}: version {version} answered where {of} was known: {what:?}"));
            }
            let known = self.known.entry(asked.operation.key().clone()).or_default();
            let highest = if asked.operation.is_read() { &mut known.read } else { &mut known.written };
            *highest = (*highest).max(version);
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

    fn tell_event(&mut self, id: NodeId, event: TraceEvent) {
        if let Some(told) = telling::event(&event) {
            self.tell(&format!("n{id} {told}"));
        }
        self.events.push((self.now, id, event));
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
        Operation::Get { .. } | Operation::Delete { .. } | Operation::OpenSession { .. } => None,
    }
}
