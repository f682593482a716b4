//! Clients in the simulated world: the sessions, workers and final readers of real runs, driven by events.
//!
//! A session asks one thing at a time and records all of it. Until a request has left on an established connection every
//! failure is definite; from then on only the store's own definite errors are. Where an operation goes on to after that say
//! [`Routes`], and what it asks for [`Errand`]; both are the same in the store's own client.

use std::{sync::Arc, time::Duration};

use checker::history::{Function, Key, Kind, Record};
use store::{
    api::{NodeId, Operation, PartitionId, Response, SessionTag, StoreError},
    client::PAUSE,
    core::{ClientId, Input},
    errand::{Errand, Next, Sessions},
    routes::{Entry, Journey, Obstacle, Routes},
};

use super::{
    client_links::Passage,
    events::{Attempt, Event},
    machine::{Incoming, Process},
    world::World,
};
use crate::{
    generator::{Generator, Knowledge},
    history_writer::{Asked, Ended, Finished},
    plan::{Plan, PlannedEntry},
    proxy::Link,
    run::{READERS, all_keys},
    targets::store::{operation_of, result_of, trip_of},
    worker::{BACKOFF, entry},
};

/// Pause of a final reader after a read that was not answered, as in a real run.
const READ_AGAIN: u64 = 50_000_000;

/// All clients.
#[derive(Debug)]
pub struct Clients {
    sessions: Vec<Session>,
    workers: Vec<Worker>,
    /// Workers ask nothing more.
    pub stopping: bool,
    /// The final readers, while they read.
    pub readers: Vec<Reader>,
    /// Every key of the run.
    pub keys: Vec<Key>,
    /// What waits for a link to change.
    pub parked: Vec<(Link, Event)>,
    stride: u64,
}

/// A client's connections and its present process number.
#[derive(Clone, Debug)]
struct Session {
    process: u64,
    /// How often it has asked a node.
    asked: u64,
    /// The life of each node that it is connected to; 0: it is not.
    connected: Vec<u64>,
    routes: Routes,
    places: Sessions,
    flight: Option<Flight>,
    /// What it waits for no longer, and what may yet arrive at its node.
    given_up: Vec<Flight>,
}

/// An operation that was asked and has not ended.
#[derive(Clone, Debug)]
struct Flight {
    /// Number of the present attempt.
    number: u64,
    partition: PartitionId,
    journey: Journey,
    function: Function,
    errand: Errand,
    /// What the node is asked.
    request: (Operation, Option<SessionTag>),
    /// How much of the partition's log the client had seen when it asked.
    seen: u64,
    began: u64,
    deadline: u64,
    /// When this attempt is given up.
    until: u64,
    /// It waits before it asks the next node.
    pausing: bool,
    /// The request has left on a connection.
    sent: bool,
    /// The life of the node when it was asked.
    life: u64,
    /// The node has taken it in.
    delivered: bool,
    response: Option<Response>,
    /// Highest version of the key that anyone knew of when this was asked.
    known: u64,
}

#[derive(Debug)]
struct Worker {
    generator: Generator,
    knowledge: Knowledge,
    interval: Option<u64>,
    last: u64,
    /// When the workers began: times of a list count from here.
    began: u64,
}

/// A final reader: the keys that it has yet to read, the last one first.
#[derive(Debug)]
pub struct Reader {
    client: u64,
    /// How many reads it has begun, and where the first one went: each goes to the next node of the core.
    turn: u64,
    left: Vec<Key>,
}

impl Clients {
    /// Clients that have asked nothing.
    pub fn new(plan: &Plan) -> Self {
        let last = plan.last_client() + READERS;
        let session = |client| Session {
            process: client,
            asked: 0,
            connected: vec![0; plan.nodes as usize],
            routes: Routes::new(plan.cluster.routing, plan.node_ids()),
            places: if plan.sessions { Sessions::exactly_once() } else { Sessions::default() },
            flight: None,
            given_up: Vec::new(),
        };
        Self {
            sessions: (0..=last).map(session).collect(),
            workers: Vec::new(),
            stopping: false,
            readers: Vec::new(),
            keys: all_keys(plan),
            parked: Vec::new(),
            stride: last + 1,
        }
    }

    /// Whether workers still wait for answers.
    pub fn workers_wait(&self) -> bool {
        self.sessions[1..=self.workers.len()].iter().any(|session| session.flight.is_some())
    }

    /// The operation that a client has asked a node and waits for.
    pub fn asks(&self, client: u64, node: NodeId) -> Option<u64> {
        let flight = self.sessions[client as usize].flight.as_ref();
        flight.filter(|flight| !flight.pausing && flight.journey.node() == node).map(|flight| flight.number)
    }

    /// A client's connection to a node is gone, and what was on its way on it.
    pub fn forget_connection(&mut self, client: u64, node: NodeId) {
        let session = &mut self.sessions[client as usize];
        session.connected[node as usize - 1] = 0;
        session.given_up.retain(|flight| flight.journey.node() != node);
    }

    /// Keys that the final readers have yet to read.
    pub fn unread(&self) -> impl Iterator<Item = &Key> {
        self.readers.iter().flat_map(|reader| &reader.left)
    }
}

impl Worker {
    /// When the next operation is due, if the plan lists it.
    fn listed(&self) -> Option<u64> {
        self.generator.due().map(|due| self.began + due.as_nanos() as u64)
    }
}

impl World<'_> {
    /// The workers begin, one after the other within one interval.
    pub(super) fn start_workers(&mut self) {
        let Some(operations) = self.plan.operations.clone().map(Arc::new) else { return };
        let clients = self.plan.clients.len() as u64;
        let interval = operations.rate.map(|rate| clients * 1_000_000_000 / rate);
        for (index, client) in self.plan.clients.iter().enumerate() {
            let first = self.now + interval.unwrap_or_default() * index as u64 / clients;
            let generator = Generator::new(client.clone(), self.plan.nodes, Arc::clone(&operations));
            let worker =
                Worker { generator, knowledge: Knowledge::default(), interval, last: first, began: self.now };
            let due = worker.listed().unwrap_or(first);
            self.clients.workers.push(worker);
            self.agenda.add(due, Event::Due(client.client));
        }
    }

    /// The final readers begin.
    pub(super) fn start_readers(&mut self) {
        let first = match self.plan.clients.first().map(|client| client.entry) {
            Some(PlannedEntry::Node(node)) => node,
            _ => 1,
        };
        for reader in 0..READERS {
            let keys = self.clients.keys.iter().skip(reader as usize).step_by(READERS as usize);
            let left: Vec<Key> = keys.rev().cloned().collect();
            let client = self.plan.last_client() + 1 + reader;
            self.clients.readers.push(Reader { client, turn: first + reader, left });
            self.agenda.add(self.now, Event::Due(client));
        }
    }

    /// A client asks its next question.
    pub(super) fn client_is_due(&mut self, client: u64) {
        if client <= self.clients.workers.len() as u64 {
            self.worker_asks(client);
        } else if let Some(reader) = self.clients.readers.iter_mut().find(|reader| reader.client == client) {
            let Some(key) = reader.left.last().cloned() else { return };
            let turn = reader.turn as usize;
            reader.turn += 1;
            let core = self.core();
            // without a core nothing is read, which the end of the phase finds
            let Some(node) = core.get(turn % core.len().max(1)).copied() else { return };
            self.ask(client, Entry::At(node), Function::Get { key }, self.limit());
        }
    }

    fn worker_asks(&mut self, client: u64) {
        if self.clients.stopping {
            return;
        }
        let worker = &mut self.clients.workers[client as usize - 1];
        worker.last = self.now;
        let Some(choice) = worker.generator.choose() else { return };
        let function = choice.ask.resolve(&worker.knowledge);
        let node = choice.node.unwrap_or_else(|| self.guess.entry(function.key()));
        let entry = entry(&self.plan.cluster, &function, node);
        self.ask(client, entry, function, self.limit());
    }

    fn limit(&self) -> u64 {
        self.plan.timeout_ms * 1_000_000
    }

    /// Asks the store, and records it as one operation.
    pub(super) fn ask(&mut self, client: u64, entry: Entry, function: Function, limit: u64) {
        let partition = self.guess.partition_of(function.key());
        let known = self.watch.known_version(function.key());
        let session = &mut self.clients.sessions[client as usize];
        let journey = session.routes.begin(partition, entry);
        let asked = Asked { process: session.process, client, node: journey.node(), function };
        session.asked += 1;
        let errand = Errand::new(partition, operation_of(&asked.function), &mut session.places);
        session.flight = Some(Flight {
            number: session.asked,
            partition,
            journey,
            function: asked.function.clone(),
            request: errand.request(),
            errand,
            seen: session.routes.seen(partition),
            began: self.now,
            deadline: self.now + limit,
            until: self.now + limit,
            pausing: false,
            sent: false,
            life: 0,
            delivered: false,
            response: None,
            known,
        });
        self.watch.records.push(Record::Op(asked.op(self.now, Kind::Invoke)));
        self.asks_node(client);
    }

    /// Asks the node to which the client's operation has come.
    fn asks_node(&mut self, client: u64) {
        let Some(flight) = &self.clients.sessions[client as usize].flight else { return };
        let (number, node) = (flight.number, flight.journey.node());
        let life = self.machine(node).life;
        let mut delay = self.weather.message.draw(&mut self.dice);
        let (there, back) = (Link::client(client, node), Link::answers(node, client));
        let (there, back) = (self.client_delay(there, number), self.client_delay(back, number));
        delay += there;
        let session = &mut self.clients.sessions[client as usize];
        let Some(flight) = &mut session.flight else { return };
        let sent = session.connected[node as usize - 1] == life;
        if !sent {
            // a new connection: there and back once more
            delay += self.weather.message.draw(&mut self.dice) + self.weather.message.draw(&mut self.dice);
            delay += there + back;
        }
        (flight.sent, flight.life, flight.delivered, flight.response) = (sent, life, false, None);
        flight.request = flight.errand.request();
        let limit = Duration::from_nanos(flight.deadline - flight.began);
        let given_up = self.now + session.routes.patience(limit).as_nanos() as u64;
        flight.until = flight.deadline.min(self.now + flight.errand.patience(limit).as_nanos() as u64);
        let until = flight.until;
        let attempt = Attempt { client, number };
        self.agenda.add(self.now + delay, Event::Request(attempt));
        if !sent && given_up < until {
            self.agenda.add(given_up, Event::Timeout(attempt));
        }
        self.agenda.add(until, Event::Timeout(attempt));
    }

    /// The pause before the next node is over.
    pub(super) fn asks_again(&mut self, attempt: Attempt) {
        let Some(flight) = self.flight(attempt) else { return };
        flight.pausing = false;
        self.asks_node(attempt.client);
    }

    /// An operation certainly did not happen at the node that was asked.
    fn in_vain(&mut self, attempt: Attempt, obstacle: Obstacle, error: &str) {
        self.goes_wrong(attempt, &Next::GoOn(obstacle), Ended::Fail, error);
    }

    /// Nobody can tell whether an operation happened at the node that was asked.
    fn in_doubt(&mut self, attempt: Attempt, reason: &str) {
        let Some(flight) = self.flight(attempt) else { return };
        let next = flight.errand.unanswered(reason);
        self.goes_wrong(attempt, &next, Ended::Info, reason);
    }

    /// The node has refused.
    fn refused(&mut self, attempt: Attempt, error: &StoreError) {
        let session = &mut self.clients.sessions[attempt.client as usize];
        let Some(flight) = &mut session.flight else { return };
        let next = flight.errand.refused(error, &mut session.places);
        let ended: fn(String) -> Ended = if error.is_definite() { Ended::Fail } else { Ended::Info };
        self.goes_wrong(attempt, &next, ended, &error.to_string());
    }

    /// An attempt has failed: the client goes on to another node, asks again, or that was the operation's end.
    fn goes_wrong(&mut self, attempt: Attempt, next: &Next, ended: fn(String) -> Ended, error: &str) {
        let now = self.now;
        let session = &mut self.clients.sessions[attempt.client as usize];
        let Some(flight) = session.flight.as_mut().filter(|flight| flight.number == attempt.number) else {
            return;
        };
        let asked = flight.journey.node();
        let detour = flight.errand.detour(next, &mut flight.journey, &mut session.routes);
        let unknown = |doubt: &str| Ended::Info(format!("the outcome is unknown: {doubt}"));
        let due = match (next, detour) {
            (Next::Unknown(doubt), _) => return self.complete(attempt, &unknown(doubt)),
            (Next::Reopen, _) => now,
            (_, None) => return self.complete(attempt, &ended(error.to_owned())),
            (_, Some(detour)) => now + if detour.pause { PAUSE.as_nanos() as u64 } else { 0 },
        };
        if due >= flight.deadline {
            let gave_up = || Ended::Fail(format!("gave up: {}; at last {}", flight.journey.trip(), error));
            let ended = flight.errand.doubt().map_or_else(gave_up, unknown);
            return self.complete_at(attempt, asked, &ended);
        }
        session.asked += 1;
        (flight.number, flight.pausing) = (session.asked, true);
        let next_attempt = Attempt { number: session.asked, ..attempt };
        self.agenda.add(due, Event::Again(next_attempt));
        if let Some(detour) = detour {
            self.tell(|| format!("c{}: {detour}", attempt.client));
        }
    }

    /// A request reaches its node, or finds nobody there.
    pub(super) fn request_arrives(&mut self, attempt: Attempt) {
        let waited_for = self.flight(attempt).is_some();
        let Some(flight) = self.undelivered(attempt) else { return };
        let (node, sent, dialed) = (flight.journey.node(), flight.sent, flight.life);
        let ((operation, tag), seen) = (flight.request.clone(), flight.seen);
        match self.request_passes(attempt.client, node, sent) {
            Passage::Passes => {}
            Passage::Waits(link) => return self.clients.parked.push((link, Event::Request(attempt))),
            Passage::Lost => return,
            Passage::Breaks => return self.connection_lost(attempt),
        }
        let machine = self.machine(node);
        let life = machine.life;
        match machine.process {
            // a lost connection is told of by itself
            Process::Dead | Process::Starting if sent => return,
            Process::Dead | Process::Starting => {
                return self.in_vain(attempt, Obstacle::Gone, "cannot connect: nobody listens");
            }
            // it answers the handshake when it goes on
            Process::Up(_) if machine.paused && !sent => return,
            Process::Up(_) => {}
        }
        let session = &mut self.clients.sessions[attempt.client as usize];
        let connected = &mut session.connected[node as usize - 1];
        if sent && (dialed != life || waited_for && *connected != life) {
            return;
        }
        if let Some(flight) = session.flight.as_mut().filter(|_| waited_for) {
            *connected = life;
            flight.sent = true;
            flight.delivered = true;
        }
        session.given_up.retain(|flight| flight.number != attempt.number);
        let client = ClientId { connection: attempt.client, request: attempt.number };
        self.deliver(node, Incoming::Input(Input::Request { client, operation, seen, session: tag }));
    }

    /// A node goes on: so do the handshakes that it owes.
    pub(super) fn handshakes_go_on(&mut self, node: NodeId) {
        for attempt in self.attempts(|flight| flight.journey.node() == node && !flight.sent) {
            let delay = self.weather.message.draw(&mut self.dice);
            self.agenda.add(self.now + delay, Event::Request(attempt));
        }
    }

    /// A node dies: whoever waits for it learns that after a while.
    pub(super) fn lose_connections(&mut self, node: NodeId, life: u64) {
        let index = node as usize - 1;
        for attempt in self.attempts(|flight| flight.journey.node() == node) {
            let delay = self.weather.message.draw(&mut self.dice);
            self.agenda.add(self.now + delay, Event::Lost(attempt));
        }
        for session in &mut self.clients.sessions {
            if session.connected[index] == life {
                session.connected[index] = 0;
            }
            session.given_up.retain(|flight| flight.journey.node() != node);
        }
    }

    /// A node has answered. An answer to what nobody waits for any more is dropped.
    pub(super) fn replied(&mut self, client: ClientId, response: Response) {
        let attempt = Attempt { client: client.connection, number: client.request };
        let delay = self.weather.message.draw(&mut self.dice);
        if let Some(flight) = self.flight(attempt) {
            let link = Link::answers(flight.journey.node(), attempt.client);
            flight.response = Some(response);
            let delay = delay + self.client_delay(link, attempt.number);
            self.agenda.add(self.now + delay, Event::Reply(attempt));
        }
    }

    /// The answer is there.
    pub(super) fn reply_arrives(&mut self, attempt: Attempt) {
        let Some(flight) = self.flight(attempt).filter(|flight| flight.response.is_some()) else { return };
        let node = flight.journey.node();
        match self.answer_passes(attempt.client, node) {
            Passage::Passes => {}
            Passage::Waits(link) => return self.clients.parked.push((link, Event::Reply(attempt))),
            Passage::Lost => return,
            Passage::Breaks => {
                self.clients.forget_connection(attempt.client, node);
                return self.connection_lost(attempt);
            }
        }
        let session = &mut self.clients.sessions[attempt.client as usize];
        let Some(flight) = session.flight.as_mut().filter(|flight| flight.number == attempt.number) else {
            return;
        };
        match flight.response.take() {
            None => {}
            Some(Ok(answer)) => {
                session.routes.answered(flight.partition, &answer);
                if let Some(answer) = flight.errand.answered(answer, &mut session.places) {
                    return self.complete(attempt, &Ended::Ok(result_of(&answer)));
                }
                // its session is open now
                session.asked += 1;
                flight.number = session.asked;
                self.asks_node(attempt.client);
            }
            Some(Err(error)) => self.refused(attempt, &error),
        }
    }

    /// The node has died.
    pub(super) fn connection_lost(&mut self, attempt: Attempt) {
        match self.flight(attempt) {
            None => {}
            Some(flight) if flight.sent => {
                self.in_doubt(attempt, "connection lost: the node closed the connection");
            }
            Some(_) => self.in_vain(attempt, Obstacle::Gone, "cannot connect: the node is gone"),
        }
    }

    /// The client waits no longer, for a connection or for an answer; the connection is not used again.
    pub(super) fn time_is_up(&mut self, attempt: Attempt) {
        let now = self.now;
        let Some(flight) = self.flight(attempt) else { return };
        let (node, sent) = (flight.journey.node(), flight.sent);
        if sent && now < flight.until {
            return;
        }
        let late = Some(flight.clone()).filter(|flight| flight.sent && !flight.delivered);
        let session = &mut self.clients.sessions[attempt.client as usize];
        session.connected[node as usize - 1] = 0;
        session.given_up.extend(late);
        if sent {
            self.in_doubt(attempt, "no answer in time");
        } else {
            self.in_vain(attempt, Obstacle::Gone, "no connection in time");
        }
    }

    fn flight(&mut self, attempt: Attempt) -> Option<&mut Flight> {
        let flight = self.clients.sessions[attempt.client as usize].flight.as_mut();
        flight.filter(|flight| flight.number == attempt.number)
    }

    /// What has not arrived at its node, be it waited for or not.
    fn undelivered(&mut self, attempt: Attempt) -> Option<&Flight> {
        let session = &self.clients.sessions[attempt.client as usize];
        let all = session.flight.iter().chain(&session.given_up);
        all.filter(|flight| !flight.delivered).find(|flight| flight.number == attempt.number)
    }

    fn attempts(&self, fits: impl Fn(&Flight) -> bool) -> Vec<Attempt> {
        let all = self.clients.sessions.iter().zip(0_u64..);
        all.filter_map(|(session, client)| {
            let flight = session.flight.as_ref().filter(|flight| !flight.pausing && fits(flight))?;
            Some(Attempt { client, number: flight.number })
        })
        .collect()
    }

    /// An operation has ended at the node that it has come to.
    fn complete(&mut self, attempt: Attempt, ended: &Ended) {
        let flight = self.flight(attempt);
        if let Some(node) = flight.map(|flight| flight.journey.node()) {
            self.complete_at(attempt, node, ended);
        }
    }

    /// An operation has ended at this node, the last that was asked: it is recorded, and whoever asked goes on.
    fn complete_at(&mut self, attempt: Attempt, node: NodeId, ended: &Ended) {
        let client = attempt.client;
        let session = &mut self.clients.sessions[client as usize];
        let Some(flight) = session.flight.take() else { return };
        let process = session.process;
        if let Ended::Info(_) = ended {
            session.process += self.clients.stride;
        }
        let trip = trip_of(flight.journey.trip());
        let asked = Asked { process, client, node, function: flight.function };
        let finished = Finished { ended: ended.clone(), node, trip };
        self.stats.count(&finished);
        self.tell(|| format!("c{client} at n{node} {:?}: {ended:?}", asked.function));
        if let Some(result) = ended.result() {
            if !result.local {
                self.guess.answered(asked.function.key(), result.leader);
            }
            if let Err(finding) = self.watch.answered(asked.function.key(), flight.known, result) {
                self.found(finding);
            }
        }
        self.watch.records.push(Record::Op(asked.completion(self.now, &finished)));
        self.answered(&asked.function, ended);
        self.goes_on(client, &asked.function, &finished);
    }

    fn goes_on(&mut self, client: u64, function: &Function, finished: &Finished) {
        let (now, ended) = (self.now, &finished.ended);
        if let Some(worker) = self.clients.workers.get_mut(client as usize - 1) {
            worker.knowledge.learn(function, ended.kind(), ended.result());
            let pause = if matches!(ended, Ended::Fail(_)) { BACKOFF.as_nanos() as u64 } else { 0 };
            let paced = worker.interval.map_or(now, |interval| worker.last + interval);
            let due = worker.listed().unwrap_or(paced);
            self.agenda.add(due.max(now + pause), Event::Due(client));
        } else if let Some(reader) = self.clients.readers.iter_mut().find(|reader| reader.client == client) {
            if ended.result().is_some() {
                reader.left.pop();
                self.agenda.add(now, Event::Due(client));
            } else {
                self.agenda.add(now + READ_AGAIN, Event::Due(client));
            }
        } else {
            self.task_answered(client, function, finished);
        }
    }
}
