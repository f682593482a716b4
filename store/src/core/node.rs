//! One node: bootstrap, failure detector, routing, and its replicas.
//!
//! **Bootstrap.** A node without a lookup table asks all others. The node with the lowest number makes the table once it
//! has heard of as many nodes as the threshold asks for, makes it durable, and only then tells anyone; whoever has the
//! table passes it on. So there is one table for the cluster's life. A table names the disk of each member: a node that
//! comes back with another disk has lost its promises and is refused.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    api::{Ballot, NodeId, NodeStatus, Operation, PartitionId, StoreError, TransferError},
    config::{Mutant, PartitionConfig, RoutingMode},
    core::{
        ClientId, Config, Input, Journal, LocalTime, Moment, Output, Turn,
        detector::Detector,
        durable::{DurableState, Record},
        hosted::Hosted,
        kv::KeyValues,
        message::{GroupStatus, Message, Table},
        paxos::Group,
        replica::{Origin, Replica, Request, is_local_read},
        routing::{Routing, Until, Waiting},
        trace::TraceEvent,
        transfer::Transfers,
    },
};

/// The state of one node.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Node {
    journal: Journal,
    state: State,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct State {
    detector: Detector,
    routing: Routing,
    transfers: Transfers,
    membership: Membership,
    /// The persist after which the own ballots may be told of (BLE3); 0: they may.
    announced: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Membership {
    /// No lookup table is known yet.
    Joining { joined: BTreeMap<NodeId, u64>, ask_at: LocalTime },
    /// The cluster is open.
    Member { table: Table, replicas: BTreeMap<PartitionId, Hosted> },
}

/// How a replica carries an operation out.
#[derive(Clone, Copy, Debug)]
enum Way {
    /// From what it has applied, whoever leads.
    Locally,
    /// As the leader of its group.
    AsLeader,
}

impl Node {
    /// A node that starts with what it finds on its disk. What it has to say at once is in `out`.
    pub fn start(config: &Config, durable: &DurableState, now: LocalTime, out: &mut Vec<Output>) -> Self {
        let mut journal = Journal::default();
        let mut turn = Turn::new(Moment { config, now }, &mut journal, out);
        let (lease, drift_ppm) =
            config.cluster.lease.map_or((0, 0), |lease| (lease.duration_ms * 1_000_000, lease.drift_ppm));
        turn.trace(|| TraceEvent::Started { lease, drift_ppm });
        let others = config.nodes.iter().copied().filter(|node| *node != config.node);
        let detector = Detector::new(others, turn.moment());
        let mut membership =
            Membership::Joining { joined: BTreeMap::from([(config.node, config.disk)]), ask_at: now };
        if let Some(table) = &durable.table {
            membership = Membership::open(table.clone(), durable, &mut turn);
        }
        Self {
            journal,
            state: State {
                detector,
                routing: Routing::default(),
                transfers: Transfers::default(),
                membership,
                announced: 0,
            },
        }
    }

    /// One thing that happened. All inputs of a turn get the same reading of the clock, taken after the last was dequeued.
    pub fn handle(&mut self, config: &Config, now: LocalTime, input: Input, out: &mut Vec<Output>) {
        self.state.handle(input, &mut Turn::new(Moment { config, now }, &mut self.journal, out));
    }

    /// Ends a turn: does what is due, then hands out the persist of all that the turn has changed.
    pub fn finish_turn(&mut self, config: &Config, now: LocalTime, out: &mut Vec<Output>) {
        self.state.finish_turn(&mut Turn::new(Moment { config, now }, &mut self.journal, out));
        out.extend(self.journal.take());
    }

    /// Has the next turn go through every replica, also those to which nothing happens: it comes to the same.
    pub fn go_through_all(&mut self) {
        self.state.membership.hosted_mut().for_each(|hosted| {
            hosted.touch();
        });
    }

    /// When the node wants to be woken with [`Input::Tick`] at the latest.
    pub fn next_deadline(&self, config: &Config, now: LocalTime) -> LocalTime {
        self.state.next_deadline(Moment { config, now })
    }

    /// Whether a peer may connect: a member that comes back with another disk has lost its promises.
    pub fn accepts_peer(&self, node: NodeId, disk: u64) -> bool {
        self.table().is_none_or(|table| table.members.get(&node).is_none_or(|known| *known == disk))
    }

    /// The replicas of this node.
    pub fn replicas(&self) -> impl Iterator<Item = &Replica> {
        self.state.membership.replicas()
    }

    /// The lookup table, once the cluster is open.
    pub fn table(&self) -> Option<&Table> {
        match &self.state.membership {
            Membership::Joining { .. } => None,
            Membership::Member { table, .. } => Some(table),
        }
    }

    /// The leader of a partition, as far as is known.
    pub fn leader(&self, partition: PartitionId) -> Option<Ballot> {
        let here = self.state.membership.replica(partition).and_then(Replica::serving);
        self.state.routing.leader(partition).max(here)
    }

    /// How the node sees itself, for people.
    pub fn status(&self, config: &Config, now: LocalTime) -> NodeStatus {
        let moment = Moment { config, now };
        let joined = match &self.state.membership {
            Membership::Joining { joined, .. } => joined.len(),
            Membership::Member { table, .. } => table.members.len(),
        };
        NodeStatus {
            node: config.node,
            boot: config.boot,
            open: self.table().is_some(),
            joined: joined as u64,
            suspected: self.state.detector.suspected(moment),
            partitions: self.replicas().map(|replica| replica.status(moment)).collect(),
        }
    }
}

impl State {
    fn handle(&mut self, input: Input, turn: &mut Turn<'_>) {
        match input {
            Input::Message { from, message } => match &self.membership {
                Membership::Joining { .. } => self.handle_joining(from, message, turn),
                Membership::Member { .. } => self.handle_member(from, message, turn),
            },
            Input::Session { from } => {
                self.membership.hosted_mut().for_each(|hosted| hosted.touch().on_session(from, turn));
            }
            Input::Request { client, operation, seen, session } => {
                let (received, until) = (turn.now, Until::Led);
                self.on_request(Waiting { client, operation, seen, session, received, until }, turn);
            }
            Input::Transfer { client, partition, to } => {
                if let Err(error) = self.on_transfer(client, partition, to, turn) {
                    turn.announce(Output::Transferred { client, result: Err(error) });
                }
            }
            Input::Persisted { number } => {
                if self.announced <= number {
                    self.announced = 0;
                }
                self.membership.hosted_mut().for_each(|hosted| hosted.on_persisted(number, turn));
            }
            Input::Tick => {}
        }
    }

    fn finish_turn(&mut self, turn: &mut Turn<'_>) {
        self.on_time(turn);
        self.go_on_with_transfers(turn);
        self.dispatch_waiting(turn);
        self.membership.hosted_mut().for_each(|hosted| hosted.finish_turn(turn));
    }

    // ---- messages ------------------------------------------------------------------------------------------------

    fn handle_joining(&mut self, from: NodeId, message: Message, turn: &mut Turn<'_>) {
        let Membership::Joining { joined, .. } = &mut self.membership else { return };
        match message {
            Message::Join { disk } => {
                joined.insert(from, disk);
            }
            Message::Table(table) => self.open(table, turn),
            Message::HeartbeatRequest { round } => {
                turn.send(from, Message::HeartbeatReply { round, groups: Vec::new() });
            }
            Message::HeartbeatReply { round, groups } => {
                self.detector.on_reply(from, round, groups, turn.moment());
            }
            Message::Forward { id, .. } => {
                let (joined, threshold) = (joined.len() as u64, turn.config.cluster.threshold);
                let response = Err(StoreError::NotReady { joined, threshold });
                turn.send(from, Message::Forwarded { id, response });
            }
            Message::Leading { partition, ballot } => self.routing.learn(partition, ballot),
            Message::Forwarded { .. } | Message::Group { .. } => {}
        }
    }

    fn handle_member(&mut self, from: NodeId, message: Message, turn: &mut Turn<'_>) {
        let Membership::Member { table, replicas } = &mut self.membership else { return };
        match message {
            Message::Join { .. } => turn.send_durable(from, Message::Table(table.clone())),
            Message::Table(other) => {
                assert_eq!(*table, other, "there is one lookup table in a cluster's life");
            }
            Message::HeartbeatRequest { round } => {
                self.detector.on_request(from);
                let groups = replicas.values().map(|hosted| hosted.replica().heartbeat()).collect();
                let mut needs = self.announced;
                if turn.has(Mutant::AnnouncedNotDurable) && needs > 0 {
                    turn.reached(Mutant::AnnouncedNotDurable);
                    needs = 0;
                }
                turn.send_after(from, Message::HeartbeatReply { round, groups }, needs);
            }
            Message::HeartbeatReply { round, groups } => {
                self.on_heartbeat(from, &groups);
                self.detector.on_reply(from, round, groups, turn.moment());
            }
            Message::Leading { partition, ballot } => self.routing.learn(partition, ballot),
            Message::Forward { id, operation, seen, session } => {
                let origin = Origin::Node { node: from, id };
                let request = Request { origin, operation, seen, session, received: turn.now };
                self.submit(request, turn);
            }
            Message::Forwarded { id, response } => self.routing.on_forwarded(from, id, response, turn),
            Message::Group { partition, message } => {
                if let Some(hosted) = replicas.get_mut(&partition)
                    && hosted.touch().handle(from, message, turn)
                {
                    self.announced = turn.covering();
                }
            }
        }
    }

    fn on_heartbeat(&mut self, from: NodeId, groups: &[GroupStatus]) {
        for group in groups {
            if group.leading {
                self.routing.learn(group.partition, group.ballot);
            }
            if let Some(replica) = self.membership.touch(group.partition) {
                replica.on_follower_decided(from, group.decided);
            }
        }
    }

    // ---- planned changes of leaders ------------------------------------------------------------------------------

    fn go_on_with_transfers(&mut self, turn: &mut Turn<'_>) {
        for partition in self.transfers.partitions() {
            if let Some(replica) = self.membership.touch(partition) {
                self.transfers.go_on(replica, &self.routing, turn);
            }
        }
    }

    fn on_transfer(
        &mut self,
        client: ClientId,
        partition: PartitionId,
        to: NodeId,
        turn: &mut Turn<'_>,
    ) -> Result<(), TransferError> {
        let trusted = self.detector.trusts(to, turn.moment());
        let leader = self.leader_elsewhere(partition, turn.moment());
        if !turn.config.cluster.partitions.iter().any(|config| config.partition == partition) {
            return Err(TransferError::NoPartition { partition });
        }
        let replica = self.membership.touch(partition).filter(|replica| replica.serving().is_some());
        let replica = replica.ok_or(TransferError::NotLeader { leader })?;
        match replica.serving() {
            Some(ballot) if to == turn.config.node => {
                turn.announce(Output::Transferred { client, result: Ok(ballot) });
                Ok(())
            }
            _ => self.transfers.begin((client, to), replica, trusted, turn),
        }
    }

    // ---- clients -------------------------------------------------------------------------------------------------

    fn on_request(&mut self, waiting: Waiting, turn: &mut Turn<'_>) {
        match self.partition_for(&waiting.operation, turn.moment()) {
            Err(error) => turn.reply(waiting.client, Err(error)),
            Ok(partition) => self.route(partition, waiting, turn),
        }
    }

    /// Has an operation carried out here, or hands it to the leader, or has it wait until one is known. Where clients find
    /// the leader themselves, they are told instead; where replicas answer reads, one that lags behind its client waits.
    fn route(&mut self, partition: PartitionId, waiting: Waiting, turn: &mut Turn<'_>) {
        let (operation, seen) = (&waiting.operation, waiting.seen);
        let here = self.membership.replica(partition);
        let way = here.and_then(|replica| Way::of(replica, operation, seen, turn.moment()));
        if let Some(way) = way {
            let Waiting { client, operation, seen, session, received, .. } = waiting;
            let request = Request { origin: Origin::Client(client), operation, seen, session, received };
            return self.carry_out(partition, way, request, turn);
        }
        if let Some(replica) = here.filter(|_| is_local_read(operation, turn.moment())) {
            let until = Until::Applied(replica.keys().applied());
            return self.routing.wait(partition, Waiting { until, ..waiting }, turn);
        }
        if self.transfers.concern(partition) {
            return self.routing.wait(partition, waiting, turn);
        }
        let leader = self.leader_elsewhere(partition, turn.moment());
        match (turn.config.cluster.routing, leader) {
            (RoutingMode::Redirect, leader) => {
                turn.reply(waiting.client, Err(StoreError::NotLeader { partition, leader }));
            }
            (RoutingMode::Forward, Some(leader)) => self.routing.forward(leader.node, waiting, turn),
            (RoutingMode::Forward, None) => self.routing.wait(partition, waiting, turn),
        }
    }

    /// The leader of a partition, if it is known, another node, and not suspected.
    fn leader_elsewhere(&self, partition: PartitionId, moment: Moment<'_>) -> Option<Ballot> {
        let leader = self.routing.leader(partition)?;
        (leader.node != moment.config.node && self.detector.trusts(leader.node, moment)).then_some(leader)
    }

    /// An operation that another node has forwarded.
    fn submit(&mut self, request: Request, turn: &mut Turn<'_>) {
        let partition = turn.config.cluster.partition_of(request.operation.key()).unwrap_or_default();
        let here = self.membership.replica(partition);
        let way = here.and_then(|replica| Way::of(replica, &request.operation, request.seen, turn.moment()));
        if let Some(way) = way {
            return self.carry_out(partition, way, request, turn);
        }
        let leader = self.leader_elsewhere(partition, turn.moment());
        request.origin.reply(Err(StoreError::NotLeader { partition, leader }), turn);
    }

    fn carry_out(&mut self, partition: PartitionId, way: Way, request: Request, turn: &mut Turn<'_>) {
        let Some(replica) = self.membership.replica(partition) else { return };
        match way {
            Way::Locally => replica.answer_locally(&request, turn),
            Way::AsLeader if replica.answer_alone(&request, turn) => {}
            Way::AsLeader => {
                if let Some(replica) = self.membership.touch(partition) {
                    replica.propose(request, turn);
                }
            }
        }
    }

    fn partition_for(&self, operation: &Operation, moment: Moment<'_>) -> Result<PartitionId, StoreError> {
        let key = operation.key();
        let cluster = &moment.config.cluster;
        if let Membership::Joining { joined, .. } = &self.membership {
            return Err(StoreError::NotReady { joined: joined.len() as u64, threshold: cluster.threshold });
        }
        if key.key_type() != cluster.key_type {
            return Err(StoreError::WrongKeyType { expected: cluster.key_type });
        }
        operation.fits()?;
        cluster.partition_of(key).ok_or_else(|| StoreError::OutOfRange { key: key.clone() })
    }

    fn dispatch_waiting(&mut self, turn: &mut Turn<'_>) {
        for partition in self.routing.partitions_waited_for() {
            for waiting in self.routing.take_waiting(partition) {
                self.route(partition, waiting, turn);
            }
        }
    }

    // ---- time ----------------------------------------------------------------------------------------------------

    fn on_time(&mut self, turn: &mut Turn<'_>) {
        let round = self.detector.next_round(turn.moment());
        if let Some(round) = round {
            turn.send_to_all(&Message::HeartbeatRequest { round });
        }
        if let Membership::Joining { .. } = &self.membership {
            self.join(turn);
        }
        if let Membership::Member { replicas, .. } = &mut self.membership {
            for hosted in replicas.values_mut() {
                if round.is_some() {
                    let words = self.detector.last_words(hosted.replica().paxos().group(), turn.moment());
                    if hosted.touch().on_heartbeat_period(&words, turn) {
                        self.announced = turn.covering();
                    }
                }
                if let Some(replica) = hosted.if_due(turn.now) {
                    replica.on_time(turn);
                }
            }
        }
        self.routing.expire(turn);
    }

    /// Asks for the lookup table, or makes it when this is the node that does and enough have joined.
    fn join(&mut self, turn: &mut Turn<'_>) {
        let Membership::Joining { joined, ask_at } = &mut self.membership else { return };
        let coordinates = turn.config.nodes.first() == Some(&turn.config.node);
        let cluster = &turn.config.cluster;
        // the table names the disk of every replica, so none may be missing
        let mut named = cluster.partitions.iter().flat_map(|partition| &partition.replicas);
        let enough = joined.len() as u64 >= cluster.threshold && named.all(|node| joined.contains_key(node));
        if coordinates && enough {
            let table = Table::new(joined.clone(), turn.config);
            return self.open(table, turn);
        }
        if *ask_at <= turn.now {
            *ask_at = turn.now + turn.config.cluster.heartbeat();
            turn.send_to_all(&Message::Join { disk: turn.config.disk });
        }
    }

    /// The lookup table is known: durable here before anyone else hears of it.
    fn open(&mut self, table: Table, turn: &mut Turn<'_>) {
        turn.persist(|| Record::Table(table.clone()));
        turn.send_to_all_durable(&Message::Table(table.clone()));
        self.membership = Membership::open(table, &DurableState::default(), turn);
    }

    fn next_deadline(&self, moment: Moment<'_>) -> LocalTime {
        let transfers = self.transfers.next_deadline();
        let joining = match &self.membership {
            Membership::Joining { ask_at, .. } => Some(*ask_at),
            Membership::Member { .. } => None,
        };
        let replicas = self.membership.hosted().filter_map(|hosted| hosted.next_deadline(moment));
        let first = self.detector.next_deadline();
        replicas
            .chain(joining)
            .chain(transfers)
            .chain(self.routing.next_deadline(moment))
            .fold(first, LocalTime::min)
    }
}

impl Way {
    fn of(replica: &Replica, operation: &Operation, seen: u64, moment: Moment<'_>) -> Option<Self> {
        if replica.reads_locally(operation, seen, moment) {
            return Some(Self::Locally);
        }
        replica.answers(operation, moment).then_some(Self::AsLeader)
    }
}

impl Membership {
    fn open(table: Table, durable: &DurableState, turn: &mut Turn<'_>) -> Self {
        let node = turn.config.node;
        let mut replicas = BTreeMap::new();
        for (partition, nodes) in table.replicas.iter().filter(|(_, nodes)| nodes.contains(&node)) {
            let found = durable.groups.get(partition).cloned().unwrap_or_default();
            let promised = found.promised;
            if turn.has(Mutant::RestartForgetsGrant) && promised != Ballot::BOTTOM {
                turn.reached(Mutant::RestartForgetsGrant);
            }
            turn.trace(|| TraceEvent::Group { partition: *partition, replicas: nodes.clone(), promised });
            let half = turn.has(Mutant::QuorumOfHalf);
            let group = Group { partition: *partition, node, replicas: nodes.clone(), half };
            let replica = Replica::new(group, 0, &found, preset(*partition, turn.config), turn.moment());
            replicas.insert(*partition, Hosted::new(replica));
        }
        turn.announce(Output::Open);
        Self::Member { table, replicas }
    }

    fn replicas(&self) -> impl Iterator<Item = &Replica> {
        self.hosted().map(Hosted::replica)
    }

    fn replica(&self, partition: PartitionId) -> Option<&Replica> {
        match self {
            Self::Joining { .. } => None,
            Self::Member { replicas, .. } => replicas.get(&partition).map(Hosted::replica),
        }
    }

    /// The replica of a partition, to which something happens.
    fn touch(&mut self, partition: PartitionId) -> Option<&mut Replica> {
        match self {
            Self::Joining { .. } => None,
            Self::Member { replicas, .. } => replicas.get_mut(&partition).map(Hosted::touch),
        }
    }

    fn hosted(&self) -> impl Iterator<Item = &Hosted> {
        match self {
            Self::Joining { .. } => None,
            Self::Member { replicas, .. } => Some(replicas.values()),
        }
        .into_iter()
        .flatten()
    }

    fn hosted_mut(&mut self) -> impl Iterator<Item = &mut Hosted> {
        match self {
            Self::Joining { .. } => None,
            Self::Member { replicas, .. } => Some(replicas.values_mut()),
        }
        .into_iter()
        .flatten()
    }
}

impl Table {
    /// Places every partition on the nodes that the configuration names, else round robin over those that joined.
    fn new(members: BTreeMap<NodeId, u64>, config: &Config) -> Self {
        let joined: Vec<NodeId> = members.keys().copied().collect();
        let place = |(position, partition): (usize, &PartitionConfig)| {
            let chosen = if partition.replicas.is_empty() {
                (0..partition.replication as usize)
                    .map(|copy| joined[(position + copy) % joined.len()])
                    .collect::<BTreeSet<_>>()
                    .into_iter()
                    .collect()
            } else {
                partition.replicas.clone()
            };
            (partition.partition, chosen)
        };
        let replicas = config.cluster.partitions.iter().enumerate().map(place).collect();
        Self { members, config: config.cluster.digest(), replicas }
    }
}

fn preset(partition: PartitionId, config: &Config) -> KeyValues {
    let mine =
        config.cluster.preset.iter().filter(|(key, _)| config.cluster.partition_of(key) == Some(partition));
    KeyValues::new(mine.map(|(key, value)| (key.clone(), value.as_str().into())))
}
