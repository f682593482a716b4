//! What nodes do in the world: turns, what comes of them, starts and deaths.

use store::{
    api::NodeId,
    core::{Input, Message, Output, trace::TraceEvent},
    node::control::{DiskFault, Notice},
};

use super::{
    events::Event,
    machine::{Doom, Incoming, Process},
    network::{Letter, Parcel},
    world::World,
};

/// How long the planted bug that acknowledges before the sync leaves batches unsynced, as in a real node.
const UNSYNCED: u64 = 200_000_000;

/// A deadline that has passed already is looked at again after this.
const SOON: u64 = 1_000;

impl World<'_> {
    /// A process begins on a machine that is dead.
    pub(super) fn begin(&mut self, node: NodeId) {
        let delay = self.weather.start.draw(&mut self.dice);
        let now = self.now;
        let machine = self.machine_mut(node);
        machine.begin();
        let (life, boot) = (machine.life, machine.config.boot + 1);
        let due = self.followed_start(node, boot).filter(|due| *due >= now).unwrap_or(now + delay);
        self.agenda.add(due, Event::Start { node, life });
    }

    /// When this life of a node began in the run that is followed, on this run's clock.
    fn followed_start(&self, node: NodeId, boot: u64) -> Option<u64> {
        let at = self.plan.follows.as_ref()?.start_of(node, boot)?;
        Some((at + self.phases.clients_began?.0).saturating_sub(self.phases.clients_began?.1))
    }

    /// Its core starts, unless it has died before; one that is paused starts when it goes on.
    pub(super) fn start(&mut self, node: NodeId, life: u64) {
        let now = self.now;
        let machine = self.machine_mut(node);
        if machine.life != life || !matches!(machine.process, Process::Starting) {
            return;
        }
        let mut out = Vec::new();
        machine.start(now, &mut out);
        let boot = machine.config.boot;
        self.tell(|| format!("n{node} starts, boot {boot}"));
        self.carry_out(node, &mut out, usize::MAX);
        if let Some(Doom::Recovery { .. }) = self.machine(node).doom {
            let due = now + self.weather.message.draw(&mut self.dice);
            self.agenda.add(due, Event::Doom { node, life });
        }
        self.arm(node);
        for link in self.network.links_of(node) {
            self.dial(link);
        }
    }

    /// A wake-up: the node takes its turn if it has something to do.
    pub(super) fn wake(&mut self, node: NodeId) {
        let now = self.now;
        let machine = self.machine_mut(node);
        if machine.armed != now {
            return;
        }
        machine.armed = u64::MAX;
        if !machine.is_awake() {
            return;
        }
        if !machine.inbox.is_empty() || machine.clock.local(now) >= machine.deadline {
            self.turn(node, usize::MAX);
        }
        self.arm(node);
    }

    /// Something comes in; the node looks at it a little later, together with what comes until then.
    pub(super) fn deliver(&mut self, node: NodeId, incoming: Incoming) {
        let machine = self.machine_mut(node);
        machine.inbox.push(incoming);
        if machine.inbox.len() == 1 && machine.is_awake() {
            self.wake_soon(node);
        }
    }

    /// The node looks at what waits.
    pub(super) fn wake_soon(&mut self, node: NodeId) {
        let mut due = self.now + self.weather.wake.draw(&mut self.dice);
        if let Some(planted) = self.options.planted {
            due += planted();
        }
        self.arm_at(node, due);
    }

    /// Sees to it that the node wakes for its own deadline.
    pub(super) fn arm(&mut self, node: NodeId) {
        let machine = self.machine(node);
        if machine.is_awake() {
            let due = machine.clock.common(machine.deadline).max(self.now + SOON);
            self.arm_at(node, due);
        }
        if machine_has_mail(self, node) {
            self.wake_soon(node);
        }
    }

    fn arm_at(&mut self, node: NodeId, due: u64) {
        let machine = self.machine_mut(node);
        if due < machine.armed {
            machine.armed = due;
            self.agenda.add(due, Event::Wake(node));
        }
    }

    /// One turn; of what comes of it, only the first `limit` effects happen.
    fn turn(&mut self, node: NodeId, limit: usize) {
        // what a core says before it gives up stays where the run finds it
        self.machines[node as usize - 1].turn(self.now, &mut self.freed, &mut self.out);
        let mut freed = std::mem::take(&mut self.freed);
        let mut out = std::mem::take(&mut self.out);
        self.stats.turns += 1;
        let left = limit.saturating_sub(freed.len());
        for output in freed.drain(..).take(limit) {
            self.let_go(node, output);
        }
        if limit > 0 {
            self.carry_out(node, &mut out, left);
        }
        out.clear();
        self.freed = freed;
        self.out = out;
    }

    /// Traces first, then the persist, then what may leave; the rest waits for its persist. Stops after `limit` effects.
    fn carry_out(&mut self, node: NodeId, out: &mut Vec<Output>, limit: usize) {
        self.print.add(out);
        self.observe(node, out);
        let persist_first = out.pop_if(|output| matches!(output, Output::Persist { .. }));
        for output in persist_first.into_iter().chain(out.drain(..)).take(limit) {
            match output {
                Output::Persist { number, records } => self.persist(node, number, records),
                Output::Send { needs, .. } | Output::Reply { needs, .. } => {
                    if let Some(output) = self.machine_mut(node).hold(needs, output) {
                        self.let_go(node, output);
                    }
                }
                Output::Transferred { client, result } => self.transferred(client.request, &result),
                Output::Open => self.opened.push(node),
                // who leads is read off the traces, which the observer looks at as well
                Output::Trace(_) | Output::Leading { .. } | Output::SteppedDown { .. } => {}
            }
        }
    }

    fn persist(&mut self, node: NodeId, number: u64, records: Vec<store::core::durable::Record>) {
        let machine = self.machine_mut(node);
        let late = machine.acknowledges_before_sync();
        if late || !machine.has_disk() {
            machine.acknowledge_early(number);
        }
        if late {
            self.watch.mutant_reached += 1;
        }
        let machine = self.machine_mut(node);
        if machine.has_disk() && machine.disk.take(number, records) {
            if late {
                // the log thread waits before it writes: what comes meanwhile goes with it
                let (life, due) = (machine.life, self.now + UNSYNCED);
                self.agenda.add(due, Event::Synced { node, life });
            } else {
                self.sync(node);
            }
        }
    }

    fn sync(&mut self, node: NodeId) {
        let machine = &self.machines[node as usize - 1];
        let slow = machine.disk_fault.slow_ms * 1_000_000;
        let due = self.now + machine.sync.draw(&mut self.dice) + slow;
        let machine = self.machine_mut(node);
        if machine.disk.begin() {
            let life = machine.life;
            self.agenda.add(due, Event::Synced { node, life });
        }
    }

    /// A sync is done.
    pub(super) fn synced(&mut self, node: NodeId, life: u64) {
        let machine = self.machine_mut(node);
        if machine.life != life {
            return;
        }
        if machine.acknowledges_before_sync() && !machine.disk.is_writing() {
            return self.sync(node);
        }
        if let Some(Doom::Write { fault }) = machine.doom {
            self.nemesis.strike(fault);
            return self.doomed(node, life);
        }
        if machine.disk_fault.stalled {
            machine.sync_waits = true;
            return;
        }
        let number = machine.disk.synced();
        self.deliver(node, Incoming::Persisted(number));
        if !self.machine(node).acknowledges_before_sync() {
            self.sync(node);
        } else if self.machine(node).disk.waits() {
            self.agenda.add(self.now + UNSYNCED, Event::Synced { node, life });
        }
    }

    /// The disk is like this from now on; a sync that a stalled one kept waiting is over when it is not stalled any more.
    pub(super) fn set_disk(&mut self, node: NodeId, fault: DiskFault) {
        let now = self.now;
        let machine = self.machine_mut(node);
        machine.disk_fault = fault;
        if !fault.stalled && std::mem::take(&mut machine.sync_waits) {
            let life = machine.life;
            self.agenda.add(now, Event::Synced { node, life });
        }
    }

    fn let_go(&mut self, node: NodeId, output: Output) {
        match output {
            Output::Send { to, message, .. } => {
                self.message_sent(node, to, &message);
                if let Message::HeartbeatReply { groups, .. } = &message {
                    self.watch.told(node, groups);
                }
                if let Some(post) = &mut self.post {
                    post.sent(self.now, (node, to), &message);
                }
                self.network.send((node, to), message, self.now, &mut self.agenda, &mut self.dice);
            }
            Output::Reply { client, response, .. } => self.replied(client, response),
            _ => unreachable!("only sends and replies wait for a persist"),
        }
    }

    /// Looks at everything that the turn has traced, and at what the node has decided.
    fn observe(&mut self, node: NodeId, out: &[Output]) {
        let machine = &self.machines[node as usize - 1];
        if let Err(finding) = self.watch.turn(self.now, machine, out) {
            self.found(finding);
        }
        for output in out {
            let Output::Trace(event) = output else { continue };
            match *event {
                TraceEvent::Leading { partition, ballot } => {
                    self.leaders.record(self.now, node, &Notice::Leading { partition, ballot });
                    self.guess.announced(partition, node);
                    self.leader_changed(partition);
                }
                TraceEvent::SteppedDown { partition, ballot } => {
                    self.leaders.record(self.now, node, &Notice::SteppedDown { partition, ballot });
                }
                _ => {}
            }
            self.tell_event(node, event);
        }
    }

    // ---- links -------------------------------------------------------------------------------------------------------

    /// The next parcel of a link arrives.
    pub(super) fn arrive(&mut self, link: u32, epoch: u32) {
        let Some(parcel) = self.network.arrived(link, epoch) else { return };
        let (from, to) = self.network.ends(link);
        if self.machine(to).node().is_none() {
            return;
        }
        let input = match parcel {
            Parcel::Session => Input::Session { from },
            Parcel::Message(letter) => self.received(from, letter),
        };
        self.deliver(to, Incoming::Input(input));
    }

    /// A message of an earlier connection comes late.
    pub(super) fn straggles(&mut self, index: usize) {
        let Some((link, letter)) = self.network.straggler(index) else { return };
        let (from, to) = self.network.ends(link);
        if self.machine(to).node().is_some() {
            let input = self.received(from, letter);
            self.deliver(to, Incoming::Input(input));
        }
    }

    /// A message has arrived at a node that lives.
    fn received(&mut self, from: NodeId, Letter { number, message }: Letter) -> Input {
        if let Some(post) = &mut self.post {
            post.arrived(self.now, number);
        }
        Input::Message { from, message }
    }

    /// The link's sender will dial.
    pub(super) fn dial(&mut self, link: u32) {
        let due = self.now + self.weather.redial.draw(&mut self.dice);
        self.agenda.add(due, Event::Dial(link));
    }

    /// The link's sender dials; a paused one does so when it goes on, and one whose peer is dead when that starts.
    pub(super) fn dialed(&mut self, link: u32) {
        let (from, to) = self.network.ends(link);
        let able = self.machine(from).is_awake() && self.machine(to).node().is_some();
        let disk = self.machine(from).config.disk;
        let welcome = self.machine(to).node().is_some_and(|node| node.accepts_peer(from, disk));
        if able && welcome && self.network.wants_connection(link) {
            self.network.connect(link, self.now, &mut self.agenda, &mut self.dice);
        }
    }

    // ---- death and sleep ---------------------------------------------------------------------------------------------

    /// SIGKILL, at any point: between turns, or in the middle of what a turn does.
    pub(super) fn kill(&mut self, node: NodeId) {
        if self.machine(node).is_awake() && self.dice.one_in(2) {
            let limit = self.dice.below(12) as usize;
            self.turn(node, limit);
        }
        let now = self.now;
        let life = self.machine(node).life;
        self.lose_connections(node, life);
        let dice = &mut self.dice;
        let machine = &mut self.machines[node as usize - 1];
        let ran = machine.node().is_some();
        machine.disk.crash(dice);
        machine.die();
        if ran {
            self.watch.crashed(now, node);
        }
        self.leaders.ended(node);
        self.opened.retain(|open| *open != node);
        self.network.node_died(node, now, &mut self.agenda, &mut self.dice);
        self.tell(|| format!("n{node} is killed"));
    }

    /// SIGSTOP.
    pub(super) fn pause(&mut self, node: NodeId) {
        self.machine_mut(node).paused = true;
        self.tell(|| format!("n{node} is paused"));
    }

    /// SIGCONT: everything that has come meanwhile is there at once.
    pub(super) fn resume(&mut self, node: NodeId) {
        let machine = self.machine_mut(node);
        machine.paused = false;
        machine.armed = u64::MAX;
        self.tell(|| format!("n{node} goes on"));
        self.handshakes_go_on(node);
        for link in self.network.links_of(node) {
            if self.network.ends(link).0 == node && self.network.wants_connection(link) {
                self.dial(link);
            }
        }
        self.arm(node);
    }
}

fn machine_has_mail(world: &World<'_>, node: NodeId) -> bool {
    let machine = world.machine(node);
    machine.is_awake() && !machine.inbox.is_empty()
}
