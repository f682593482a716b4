//! Clients in the simulated world: the sessions, workers and final readers of real runs, driven by events.
//!
//! A session asks one thing at a time and records all of it. Until a request has left on an established connection every
//! failure is definite; from then on only the store's own definite errors are.

use std::sync::Arc;

use checker::history::{Function, Key, Kind, Op, Record};
use store::{
    api::{NodeId, Response},
    core::{ClientId, Input},
};

use super::{
    events::{Attempt, Event},
    machine::{Incoming, Process},
    world::World,
};
use crate::{
    generator::{Generator, Knowledge},
    history_writer::Ended,
    plan::{Plan, PlannedEntry},
    run::{READERS, all_keys},
    worker::{BACKOFF, operation_of, result_of},
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
    stride: u64,
}

/// A client's connections and its present process number.
#[derive(Clone, Debug, Default)]
struct Session {
    process: u64,
    asked: u64,
    /// The life of each node that it is connected to; 0: it is not.
    connected: Vec<u64>,
    flight: Option<Flight>,
}

/// An operation that was asked and has not ended.
#[derive(Clone, Debug)]
struct Flight {
    number: u64,
    node: NodeId,
    function: Function,
    /// The request has left on a connection.
    sent: bool,
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
            connected: vec![0; plan.nodes as usize],
            ..Session::default()
        };
        Self {
            sessions: (0..=last).map(session).collect(),
            workers: Vec::new(),
            stopping: false,
            readers: Vec::new(),
            keys: all_keys(plan),
            stride: last + 1,
        }
    }

    /// Whether workers still wait for answers.
    pub fn workers_wait(&self) -> bool {
        self.sessions[1..=self.workers.len()].iter().any(|session| session.flight.is_some())
    }

    /// Keys that the final readers have yet to read.
    pub fn unread(&self) -> impl Iterator<Item = &Key> {
        self.readers.iter().flat_map(|reader| &reader.left)
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
            let worker = Worker { generator, knowledge: Knowledge::default(), interval, last: first };
            self.clients.workers.push(worker);
            self.agenda.add(first, Event::Due(client.client));
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
            self.ask(client, node, Function::Get { key }, self.limit());
        }
    }

    fn worker_asks(&mut self, client: u64) {
        if self.clients.stopping {
            return;
        }
        let worker = &mut self.clients.workers[client as usize - 1];
        worker.last = self.now;
        let choice = worker.generator.choose();
        let function = choice.ask.resolve(&worker.knowledge);
        let node = choice.node.unwrap_or_else(|| self.guess.entry(function.key()));
        self.ask(client, node, function, self.limit());
    }

    fn limit(&self) -> u64 {
        self.plan.timeout_ms * 1_000_000
    }

    /// Asks a node, once, and records it.
    pub(super) fn ask(&mut self, client: u64, node: NodeId, function: Function, limit: u64) {
        let life = self.machine(node).life;
        let known = self.watch.known_version(function.key());
        let mut delay = self.weather.message.draw(&mut self.dice);
        let session = &mut self.clients.sessions[client as usize];
        session.asked += 1;
        let number = session.asked;
        let sent = session.connected[node as usize - 1] == life;
        if !sent {
            // a new connection: there and back once more
            delay += self.weather.message.draw(&mut self.dice) + self.weather.message.draw(&mut self.dice);
        }
        let process = session.process;
        session.flight = Some(Flight {
            number,
            node,
            function: function.clone(),
            sent,
            delivered: false,
            response: None,
            known,
        });
        let attempt = Attempt { client, number };
        self.agenda.add(self.now + delay, Event::Request(attempt));
        self.agenda.add(self.now + limit, Event::Timeout(attempt));
        self.watch.records.push(Record::Op(Op {
            time: self.now,
            process,
            client,
            node,
            kind: Kind::Invoke,
            function,
            result: None,
            error: None,
        }));
    }

    /// A request reaches its node, or finds nobody there.
    pub(super) fn request_arrives(&mut self, attempt: Attempt) {
        let Some(flight) = self.flight(attempt).filter(|flight| !flight.delivered) else { return };
        let (node, sent) = (flight.node, flight.sent);
        let operation = operation_of(&flight.function);
        let machine = self.machine(node);
        let life = machine.life;
        match machine.process {
            // a lost connection is told of by itself
            Process::Dead | Process::Starting if sent => return,
            Process::Dead | Process::Starting => {
                return self.complete(attempt, &Ended::Fail("cannot connect: nobody listens".to_owned()));
            }
            // it answers the handshake when it goes on
            Process::Up(_) if machine.paused && !sent => return,
            Process::Up(_) => {}
        }
        let session = &mut self.clients.sessions[attempt.client as usize];
        let connected = &mut session.connected[node as usize - 1];
        if sent && *connected != life {
            return;
        }
        *connected = life;
        if let Some(flight) = &mut session.flight {
            flight.sent = true;
            flight.delivered = true;
        }
        let client = ClientId { connection: attempt.client, request: attempt.number };
        self.deliver(node, Incoming::Input(Input::Request { client, operation }));
    }

    /// A node goes on: so do the handshakes that it owes.
    pub(super) fn handshakes_go_on(&mut self, node: NodeId) {
        for attempt in self.attempts(|flight| flight.node == node && !flight.sent) {
            let delay = self.weather.message.draw(&mut self.dice);
            self.agenda.add(self.now + delay, Event::Request(attempt));
        }
    }

    /// A node dies: whoever waits for it learns that after a while.
    pub(super) fn lose_connections(&mut self, node: NodeId, life: u64) {
        let index = node as usize - 1;
        for attempt in self.attempts(|flight| flight.node == node) {
            let delay = self.weather.message.draw(&mut self.dice);
            self.agenda.add(self.now + delay, Event::Lost(attempt));
        }
        for session in &mut self.clients.sessions {
            if session.connected[index] == life {
                session.connected[index] = 0;
            }
        }
    }

    /// A node has answered. An answer to what nobody waits for any more is dropped.
    pub(super) fn replied(&mut self, client: ClientId, response: Response) {
        let attempt = Attempt { client: client.connection, number: client.request };
        let delay = self.weather.message.draw(&mut self.dice);
        let session = &mut self.clients.sessions[attempt.client as usize];
        if let Some(flight) = session.flight.as_mut().filter(|flight| flight.number == attempt.number) {
            flight.response = Some(response);
            self.agenda.add(self.now + delay, Event::Reply(attempt));
        }
    }

    /// The answer is there.
    pub(super) fn reply_arrives(&mut self, attempt: Attempt) {
        let Some(response) = self.flight(attempt).and_then(|flight| flight.response.take()) else { return };
        let ended = match response {
            Ok(answer) => Ended::Ok(result_of(&answer)),
            Err(error) if error.is_definite() => Ended::Fail(error.to_string()),
            Err(error) => Ended::Info(error.to_string()),
        };
        self.complete(attempt, &ended);
    }

    /// The node has died.
    pub(super) fn connection_lost(&mut self, attempt: Attempt) {
        let Some(flight) = self.flight(attempt) else { return };
        let ended = if flight.sent {
            Ended::Info("connection lost: the node closed the connection".to_owned())
        } else {
            Ended::Fail("cannot connect: the node is gone".to_owned())
        };
        self.complete(attempt, &ended);
    }

    /// The client waits no longer; its connection is not used again.
    pub(super) fn time_is_up(&mut self, attempt: Attempt) {
        let Some(flight) = self.flight(attempt) else { return };
        let (node, sent) = (flight.node, flight.sent);
        self.clients.sessions[attempt.client as usize].connected[node as usize - 1] = 0;
        let ended = if sent {
            Ended::Info("no answer in time".to_owned())
        } else {
            Ended::Fail("no connection in time".to_owned())
        };
        self.complete(attempt, &ended);
    }

    fn flight(&mut self, attempt: Attempt) -> Option<&mut Flight> {
        let flight = self.clients.sessions[attempt.client as usize].flight.as_mut();
        flight.filter(|flight| flight.number == attempt.number)
    }

    fn attempts(&self, fits: impl Fn(&Flight) -> bool) -> Vec<Attempt> {
        let all = self.clients.sessions.iter().zip(0_u64..);
        all.filter_map(|(session, client)| {
            let flight = session.flight.as_ref().filter(|flight| fits(flight))?;
            Some(Attempt { client, number: flight.number })
        })
        .collect()
    }

    /// An operation has ended: it is recorded, and whoever asked goes on.
    fn complete(&mut self, attempt: Attempt, ended: &Ended) {
        let client = attempt.client;
        let session = &mut self.clients.sessions[client as usize];
        let Some(flight) = session.flight.take() else { return };
        let process = session.process;
        if let Ended::Info(_) = ended {
            session.process += self.clients.stride;
        }
        self.stats.count(ended);
        self.tell(|| format!("c{client} at n{} {:?}: {ended:?}", flight.node, flight.function));
        if let Some(result) = ended.result() {
            self.guess.answered(flight.function.key(), result.leader);
            if let Err(finding) = self.watch.answered(flight.function.key(), flight.known, result) {
                self.found(finding);
            }
        }
        let error = match ended {
            Ended::Ok(_) => None,
            Ended::Fail(error) | Ended::Info(error) => Some(error.clone()),
        };
        self.watch.records.push(Record::Op(Op {
            time: self.now,
            process,
            client,
            node: flight.node,
            kind: ended.kind(),
            function: flight.function.clone(),
            result: ended.result().cloned(),
            error,
        }));
        self.answered(&flight.function, ended);
        self.goes_on(client, &flight.function, ended);
    }

    fn goes_on(&mut self, client: u64, function: &Function, ended: &Ended) {
        let now = self.now;
        if let Some(worker) = self.clients.workers.get_mut(client as usize - 1) {
            worker.knowledge.learn(function, ended.kind(), ended.result());
            let pause = if matches!(ended, Ended::Fail(_)) { BACKOFF.as_nanos() as u64 } else { 0 };
            let due = worker.interval.map_or(now, |interval| worker.last + interval);
            self.agenda.add(due.max(now + pause), Event::Due(client));
        } else if let Some(reader) = self.clients.readers.iter_mut().find(|reader| reader.client == client) {
            if ended.result().is_some() {
                reader.left.pop();
                self.agenda.add(now, Event::Due(client));
            } else {
                self.agenda.add(now + READ_AGAIN, Event::Due(client));
            }
        } else {
            self.task_answered(client, function, ended);
        }
    }
}
