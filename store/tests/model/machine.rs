//! One node of the model: a replica of the real core with its journal, its disk and its clock.

use std::collections::VecDeque;

use store::{
    api::{Ballot, NodeId},
    core::{
        Config, Input, Journal, LocalTime, Message, Moment, Output, Turn,
        durable::{DurableState, Record},
        kv::KeyValues,
        message::{Entry, GroupStatus, StopSign},
        paxos::Group,
        replica::Replica,
    },
};

use crate::bounds::{PARTITION, REPLICAS};

/// A node.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Machine {
    /// How often it has started.
    pub boot: u64,
    disk: DurableState,
    /// Whether it runs.
    pub life: Life,
}

/// Whether a node runs.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Life {
    /// It does.
    Up(Box<Running>),
    /// It crashed; as a leader with entries that it had not decided?
    Down {
        /// It did.
        mid_accept: bool,
    },
}

/// A node that runs.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Running {
    /// The replica.
    pub replica: Replica,
    journal: Journal,
    /// Persists under way.
    syncing: VecDeque<(u64, Vec<Record>)>,
    durable: u64,
    /// Messages that wait for a persist.
    held: Vec<(u64, NodeId, Message)>,
}

/// What a turn of a node comes to.
#[derive(Debug, Default)]
pub struct Outcome {
    /// Messages that leave now.
    pub sent: Vec<(NodeId, Message)>,
    /// Trace events and replies.
    pub told: Vec<Output>,
}

/// What happens to a node.
#[derive(Debug)]
pub enum Happening {
    /// An input of the core.
    Input(Input),
    /// A heartbeat period with these last words of the neighbours.
    Heartbeat(Vec<GroupStatus>),
    /// This node is asked to hand over to another one.
    HandOver(NodeId),
    /// An operation that this node answers.
    Request(store::core::replica::Request),
}

impl Machine {
    /// A node that has never run.
    pub fn new() -> Self {
        Self { boot: 0, disk: DurableState::default(), life: Life::Down { mid_accept: false } }
    }

    /// A node that has never run, on whose disk an earlier leader has left a stop-sign.
    pub fn with_stop_sign() -> Self {
        let ballot = Ballot { config: 0, number: 1, priority: 0, node: 2 };
        let mut machine = Self::new();
        machine.disk.apply(&Record::Promised { partition: PARTITION, ballot });
        machine.disk.apply(&Record::Accepted {
            partition: PARTITION,
            accepted_ballot: ballot,
            start: 0,
            entries: vec![Entry::StopSign(StopSign { config: 1, members: vec![1, 2, 3] })].into(),
        });
        machine
    }

    /// The node, if it runs.
    pub fn running(&self) -> Option<&Running> {
        match &self.life {
            Life::Up(running) => Some(running),
            Life::Down { .. } => None,
        }
    }

    /// Whether it is down, and crashed as a leader that had accepted what it had not decided.
    pub fn crashed_mid_accept(&self) -> bool {
        matches!(self.life, Life::Down { mid_accept: true })
    }

    /// The highest ballot that the node may have told of as its own.
    pub fn announced(&self) -> Ballot {
        self.disk.groups.get(&PARTITION).map(|group| group.announced).unwrap_or_default()
    }

    /// What its disk holds of the group.
    pub fn promised(&self) -> Ballot {
        self.disk.groups.get(&PARTITION).map(|group| group.promised).unwrap_or_default()
    }

    /// Starts with what the disk holds. Its first turn asks who leads.
    pub fn start(&mut self, config: &Config, now: LocalTime) -> Outcome {
        self.boot += 1;
        let group = Group {
            partition: PARTITION,
            node: config.node,
            replicas: (1..=REPLICAS).collect(),
            half: false,
        };
        let found = self.disk.groups.get(&PARTITION).cloned().unwrap_or_default();
        let replica = Replica::new(group, 0, &found, KeyValues::default(), Moment { config, now });
        self.life = Life::Up(Box::new(Running {
            replica,
            journal: Journal::default(),
            syncing: VecDeque::new(),
            durable: 0,
            held: Vec::new(),
        }));
        self.turn(config, now, None)
    }

    /// SIGKILL: what was not synced is lost.
    pub fn crash(&mut self) {
        let mid_accept = self.running().is_some_and(|running| {
            let paxos = running.replica.paxos();
            paxos.in_accept_phase() && paxos.decided() < paxos.length()
        });
        self.life = Life::Down { mid_accept };
    }

    /// One turn, as `Node` does it: the input, then what is due, then the end.
    pub fn turn(&mut self, config: &Config, now: LocalTime, happening: Option<Happening>) -> Outcome {
        let Life::Up(running) = &mut self.life else { unreachable!("only a node that runs has turns") };
        let mut out = Vec::new();
        let turn = &mut Turn::new(Moment { config, now }, &mut running.journal, &mut out);
        let replica = &mut running.replica;
        match happening {
            Some(Happening::Input(Input::Message { from, message: Message::Group { message, .. } })) => {
                replica.handle(from, message, turn);
            }
            Some(Happening::Input(Input::Session { from })) => replica.on_session(from, turn),
            Some(Happening::Input(Input::Persisted { number })) => replica.on_persisted(number, turn),
            Some(Happening::Heartbeat(words)) => {
                replica.on_heartbeat_period(&words, turn);
            }
            Some(Happening::Request(request)) => replica.submit(request, turn),
            Some(Happening::HandOver(to)) => {
                // a successor that is not in the leader's session is waited for, by nobody here
                let _ = replica.stop_serving_for(to);
            }
            Some(Happening::Input(_)) | None => {}
        }
        replica.on_time(turn);
        replica.hand_over_if_ready(turn);
        replica.finish_turn(turn);
        out.extend(running.journal.take());
        running.carry_out(out)
    }

    /// The oldest persist is durable; what waited for it leaves.
    pub fn sync(&mut self, config: &Config, now: LocalTime) -> Outcome {
        let Life::Up(running) = &mut self.life else { unreachable!("only a node that runs syncs") };
        let (number, records) = running.syncing.pop_front().expect("a persist is under way");
        for record in &records {
            self.disk.apply(record);
        }
        running.durable = number;
        let (free, held) = std::mem::take(&mut running.held)
            .into_iter()
            .partition::<Vec<_>, _>(|(needs, ..)| *needs <= number);
        running.held = held;
        let mut outcome = self.turn(config, now, Some(Happening::Input(Input::Persisted { number })));
        outcome.sent.splice(0..0, free.into_iter().map(|(_, to, message)| (to, message)));
        outcome
    }
}

impl Running {
    /// Whether a persist is under way.
    pub fn is_syncing(&self) -> bool {
        !self.syncing.is_empty()
    }

    fn carry_out(&mut self, out: Vec<Output>) -> Outcome {
        let mut outcome = Outcome::default();
        for output in out {
            match output {
                Output::Persist { number, records } => self.syncing.push_back((number, records)),
                Output::Send { message: Message::Leading { .. }, .. } => {}
                Output::Send { to, message, needs } if needs > self.durable => {
                    self.held.push((needs, to, message));
                }
                Output::Send { to, message, .. } => outcome.sent.push((to, message)),
                output => outcome.told.push(output),
            }
        }
        outcome
    }
}
