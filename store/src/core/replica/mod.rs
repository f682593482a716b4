//! One node's replica of one group: puts election, Sequence Paxos, lease and keys together.
//!
//! The rules that tie them (the numbers are those of [`invariants`](crate::core::invariants)):
//! - A replica leads, and promises another, only when its own grant allows it (L3).
//! - A leader answers a read alone only in the accept phase, before its hold ends, and when no entry on the key awaits
//!   decision (L4, L5); every other read goes through the log.
//! - A leader whose hold has ended gives the lease back and leads again only with a new ballot, so that an
//!   acknowledgement that comes late revives nothing (L1).
//! - An acceptor renews the lease only of a leader that its own election still follows and that is connected to a quorum;
//!   otherwise a leader that can send but not receive would keep its successor out for ever.

mod catching_up;
mod clients;
mod expiring;
mod handing;
mod leading;
mod leasing;
mod trimming;
mod unapplied;

pub use clients::is_local_read;

use catching_up::CatchingUp;
use expiring::Idle;
use trimming::Trimming;
use unapplied::Unapplied;

use std::{collections::VecDeque, time::Duration};

use crate::{
    api::{Ballot, NodeId, Operation, PartitionStatus, Response, SessionTag, StoreError},
    config::Mutant,
    core::{
        ClientId, LocalTime, Moment, Output, Turn,
        detector::LONGEST_PERIOD,
        durable::DurableGroup,
        election::Election,
        kv::KeyValues,
        lease::{Grant, Hold, Terms},
        message::{Entry, ForwardId, GroupMessage, GroupStatus, Message, ProposalId},
        paxos::{
            Group, Paxos, Role,
            follower::Prepare,
            leader::{Accepting, PromiseOutcome, Promised},
        },
        trace::TraceEvent,
    },
};

/// One node's replica of one group.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Replica {
    paxos: Paxos,
    election: Election,
    kv: KeyValues,
    grant: Option<Grant>,
    /// The highest ballot above the promise that this grant has kept from it: its leader hears when the grant is given back.
    refused: Option<Ballot>,
    standing: Standing,
    next_proposal: u64,
    trimming: Trimming,
    catching_up: CatchingUp,
    /// The last ballot that this replica led under; only a planted bug looks at it.
    deposed: Option<Ballot>,
    /// A ballot that was handed over, and the end of its hold: only a planted bug keeps it.
    kept: Option<(Ballot, LocalTime)>,
}

/// What a replica makes of the election.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Standing {
    /// Another is elected, or nobody.
    Follower,
    /// It is elected, and waits until its own grant to another has ended.
    Candidate(Ballot),
    /// It leads, in the prepare or in the accept phase.
    Leader(Box<Leadership>),
}

/// What a leader keeps beside Sequence Paxos.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Leadership {
    ballot: Ballot,
    /// When it began to prepare.
    began: LocalTime,
    hold: Hold,
    traced_expiry: Option<LocalTime>,
    extend_at: LocalTime,
    progress: Progress,
    /// Who waits for this leadership's own proposals, in their order, which is that of the log.
    waiting: VecDeque<(ProposalId, Asked)>,
    unapplied: Unapplied,
    /// Length of the log that was adopted.
    adopted: u64,
    /// Who is to lead instead: until it does, or it comes to nothing, clients are answered nothing.
    handing_to: Option<NodeId>,
    idle: Idle,
}

/// Since when a leader has had entries that it could not decide, and since when such that its own disk has not got: each for
/// itself, since followers whose disks work decide without it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
struct Progress {
    decided: Advance,
    durable: Advance,
}

/// Who waits for what was proposed, and since when.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Asked {
    origin: Origin,
    received: LocalTime,
}

/// How far something has come on its way to the end of the log, and since when it has not got further.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
struct Advance {
    reached: u64,
    stuck_since: Option<LocalTime>,
}

/// An operation that somebody waits for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Request {
    /// Whom to answer.
    pub origin: Origin,
    /// What is asked.
    pub operation: Operation,
    /// How much of the log its client has seen.
    pub seen: u64,
    /// Of a write: its place in its client's session.
    pub session: Option<SessionTag>,
    /// When it arrived at this node.
    pub received: LocalTime,
}

/// Whom to answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Origin {
    /// A client of this node.
    Client(ClientId),
    /// A node that forwarded it.
    Node {
        /// That node.
        node: NodeId,
        /// Its identity for the request.
        id: ForwardId,
    },
}

impl Origin {
    /// Answers.
    pub fn reply(self, response: Response, turn: &mut Turn<'_>) {
        match self {
            Self::Client(client) => turn.reply(client, response),
            Self::Node { node, id } => turn.send(node, Message::Forwarded { id, response }),
        }
    }
}

impl Replica {
    /// A replica that starts with what it finds on its disk, and with the preset keys of its partition.
    pub fn new(
        group: Group,
        priority: u32,
        durable: &DurableGroup,
        preset: KeyValues,
        moment: Moment<'_>,
    ) -> Self {
        let node = group.node;
        let remembers = moment.config.mutant != Some(Mutant::RestartForgetsGrant);
        let forgotten = terms(moment).filter(|_| durable.promised != Ballot::BOTTOM && remembers);
        let mut keys = preset;
        keys.move_to(durable.snapshot.applied(), durable.snapshot.contents());
        let mut replica = Self {
            trimming: Trimming::new(keys.applied()),
            catching_up: CatchingUp::default(),
            election: Election::new(node, priority, durable.announced, durable.promised),
            paxos: Paxos::new(group, durable, moment.now),
            kv: keys,
            // L3: what this replica granted before it restarted is forgotten, so it assumes the longest
            grant: forgotten
                .map(|terms| Grant { ballot: durable.promised, until: moment.now + terms.restart_wait() }),
            refused: None,
            standing: Standing::Follower,
            next_proposal: 1,
            deposed: None,
            kept: None,
        };
        while replica.kv.applied() < replica.paxos.decided() {
            let entry = replica.paxos.entry(replica.kv.applied() + 1);
            replica.trimming.applied(entry);
            replica.kv.apply(entry);
        }
        replica
    }

    /// Sequence Paxos, for the invariants.
    pub fn paxos(&self) -> &Paxos {
        &self.paxos
    }

    /// The lease that this replica has granted, for the invariants.
    pub fn grant(&self) -> Option<Grant> {
        self.grant
    }

    /// The keys as applied, for the invariants.
    pub fn keys(&self) -> &KeyValues {
        &self.kv
    }

    /// The ballot under which this replica serves clients, if it does.
    pub fn serving(&self) -> Option<Ballot> {
        match &self.standing {
            Standing::Leader(leadership) if self.paxos.in_accept_phase() => Some(leadership.ballot),
            _ => None,
        }
    }

    /// End of the lease that this replica holds, on its own clock.
    pub fn hold_until(&self, moment: Moment<'_>) -> Option<LocalTime> {
        let (Standing::Leader(leadership), Some(terms)) = (&self.standing, terms(moment)) else {
            return None;
        };
        if !self.paxos.in_accept_phase() {
            return None;
        }
        let fewer = usize::from(moment.config.mutant == Some(Mutant::HoldByMinority));
        leadership.hold.expiry(self.paxos.group().quorum() - fewer, hold_length(&terms, moment))
    }

    /// What heartbeats say of this group.
    pub fn heartbeat(&self) -> GroupStatus {
        GroupStatus {
            partition: self.paxos.group().partition,
            ballot: self.election.own(),
            leader: self.election.leader(),
            happy: self.election.happy(),
            leading: self.serving().is_some(),
            decided: self.paxos.decided(),
        }
    }

    /// How this replica sees its group, for people.
    pub fn status(&self, moment: Moment<'_>) -> PartitionStatus {
        PartitionStatus {
            partition: self.paxos.group().partition,
            elected: self.election.leader(),
            promised: self.paxos.promised(),
            role: if self.catching_up.fetches() { "catching up" } else { self.paxos.role_name() }.to_owned(),
            hold_ms: self.hold_until(moment).map(|until| until.since(moment.now).as_millis() as u64),
            log_start: self.paxos.log().start(),
            log_length: self.paxos.length(),
            decided: self.paxos.decided(),
        }
    }

    /// A message of another replica. True when this replica takes over, with a ballot that must be durable before any
    /// heartbeat tells of it.
    pub fn handle(&mut self, from: NodeId, message: GroupMessage, turn: &mut Turn<'_>) -> bool {
        if !self.paxos.group().replicas.contains(&from) {
            return false;
        }
        let mut takes_over = false;
        self.give_up_if_over(turn);
        match message {
            GroupMessage::Prepare { ballot, session, decided, accepted_ballot, length, sent_at } => {
                self.on_prepare(
                    from,
                    Prepare { ballot, session, decided, accepted_ballot, length, sent_at },
                    turn,
                );
            }
            GroupMessage::Promise { ballot, session, accepted_ballot, length, decided, suffix, granted } => {
                let promised = Promised { accepted_ballot, length, decided, suffix };
                self.on_promise(from, (ballot, session), promised, granted, turn);
            }
            GroupMessage::AcceptSync { ballot, session, basis, suffix, decided } => {
                if self.is_current(from, ballot, turn) {
                    self.paxos.on_accept_sync((ballot, session), basis, suffix, decided, turn);
                }
            }
            GroupMessage::Accept { ballot, session, sequence, suffix, decided } => {
                if self.is_current(from, ballot, turn) {
                    self.paxos.on_accept(from, (ballot, session, sequence), suffix, decided, turn);
                }
            }
            GroupMessage::Decide { ballot, session, sequence, decided } => {
                if self.is_current(from, ballot, turn) {
                    self.paxos.on_decide(from, (ballot, session, sequence), decided, turn);
                }
            }
            GroupMessage::Accepted { ballot, session, length } => {
                self.paxos.on_accepted(from, (ballot, session), length, turn);
            }
            GroupMessage::PrepareReq { promised } => self.on_prepare_request(from, promised, turn),
            GroupMessage::Nack { promised } => self.on_nack(promised, turn),
            GroupMessage::LeaseNack { ballot, remaining, .. } => {
                self.on_lease_nack(from, ballot, remaining, turn);
            }
            GroupMessage::LeaseExtend { ballot, sent_at } => {
                self.on_lease_extend(from, ballot, sent_at, turn);
            }
            GroupMessage::LeaseGranted { ballot, sent_at } => {
                self.on_lease_granted(from, ballot, sent_at, turn);
            }
            GroupMessage::LeaseRelease { ballot } => self.on_lease_release(ballot, turn),
            GroupMessage::TakeOver { ballot } => takes_over = self.on_take_over(from, ballot, turn),
            GroupMessage::Trimmed { ballot, session, .. } => self.on_trimmed(from, (ballot, session), turn),
            GroupMessage::FetchSnapshot { ballot, number, since, index, offset } => {
                self.on_fetch(from, (ballot, number), since, (index, offset), turn);
            }
            GroupMessage::SnapshotPiece { number, since, index, offset, changed, last, .. } => {
                self.on_piece(from, (number, since), (index, offset), changed, last, turn);
            }
            GroupMessage::AcceptedByAll { ballot, length } => {
                if self.is_current(from, ballot, turn) {
                    self.on_accepted_by_all(length);
                }
            }
        }
        self.apply(turn);
        self.stop_fetching_in_session(turn);
        takes_over
    }

    /// A leader whose ballot is below the promise is told so.
    fn is_current(&self, from: NodeId, ballot: Ballot, turn: &mut Turn<'_>) -> bool {
        if ballot < self.paxos.promised() {
            self.paxos.nack(from, turn);
        }
        ballot == self.paxos.promised()
    }

    fn on_prepare(&mut self, from: NodeId, prepare: Prepare, turn: &mut Turn<'_>) {
        let promised = self.paxos.promised();
        if prepare.ballot < promised {
            return self.paxos.nack(from, turn);
        }
        if prepare.ballot.node != from || prepare.ballot == promised && self.paxos.leading() == Some(promised)
        {
            return;
        }
        if prepare.ballot > promised {
            let refusal = self.grant.and_then(|grant| Some((grant, grant.refuses(from, turn.now)?)));
            if refusal.is_some() && turn.has(Mutant::AcceptorIgnoresGrant) {
                turn.reached(Mutant::AcceptorIgnoresGrant);
            } else if let Some((grant, remaining)) = refusal {
                let (ballot, holder) = (prepare.ballot, grant.ballot.node);
                let remaining = remaining.as_nanos() as u64;
                self.refused = self.refused.max(Some(prepare.ballot));
                let nack = GroupMessage::LeaseNack { ballot, holder, remaining };
                return turn.send(from, self.paxos.group().wrap(nack));
            }
            if self.paxos.leading().is_some() {
                self.step_down(turn);
            }
        }
        let granted = prepare.ballot > promised || self.would_renew(prepare.ballot);
        if self.paxos.on_prepare(from, prepare, granted, turn) && granted {
            let since = granted_at(prepare.sent_at, turn);
            self.renew_grant(prepare.ballot, since, turn);
        }
    }

    fn on_promise(
        &mut self,
        from: NodeId,
        session: (Ballot, u64),
        promised: Promised,
        granted: Option<LocalTime>,
        turn: &mut Turn<'_>,
    ) {
        if let Some(sent_at) = granted {
            self.on_lease_granted(from, session.0, sent_at, turn);
        }
        if self.paxos.on_promise(from, session, promised, turn) == PromiseOutcome::Adopted {
            self.on_adopted(turn);
        }
    }

    /// A quorum has promised, and granted the lease with it.
    fn on_adopted(&mut self, turn: &mut Turn<'_>) {
        let Standing::Leader(leadership) = &mut self.standing else { unreachable!("only a leader adopts") };
        let (ballot, partition) = (leadership.ballot, self.paxos.group().partition);
        for index in self.kv.applied() + 1..=self.paxos.length() {
            if let Entry::Command(command) = self.paxos.entry(index)
                && !command.operation.is_read()
            {
                leadership.unapplied.add(command.operation.key(), index);
            }
        }
        leadership.adopted = self.paxos.length();
        leadership.progress = Progress::default();
        leadership.extend_at = turn.now;
        if self.hold_is_over(turn.moment()) {
            return self.give_up(self.paxos.promised(), turn);
        }
        self.deposed = Some(ballot);
        turn.trace(|| TraceEvent::Leading { partition, ballot });
        turn.announce(Output::Leading { partition, ballot });
        turn.send_to_all(&Message::Leading { partition, ballot });
        if turn.has(Mutant::ControlLeadingToldTwice) {
            turn.reached(Mutant::ControlLeadingToldTwice);
            turn.send_to_all(&Message::Leading { partition, ballot });
        }
        self.trace_hold(turn);
        self.apply(turn);
    }

    fn on_prepare_request(&mut self, from: NodeId, promised: Ballot, turn: &mut Turn<'_>) {
        match self.paxos.leading() {
            Some(ballot) if promised <= ballot => self.paxos.prepare_anew(from, turn),
            _ => self.on_nack(promised, turn),
        }
    }

    fn on_nack(&mut self, promised: Ballot, turn: &mut Turn<'_>) {
        if self.paxos.leading().is_some_and(|ballot| promised > ballot) {
            self.give_up(promised, turn);
        }
    }

    fn on_lease_nack(&mut self, from: NodeId, ballot: Ballot, remaining: u64, turn: &mut Turn<'_>) {
        if self.paxos.leading() == Some(ballot)
            && let Some(terms) = terms(turn.moment())
        {
            self.paxos.retry_after(from, turn.now + terms.wait(Duration::from_nanos(remaining)));
        }
    }

    /// Does what is due.
    pub fn on_time(&mut self, turn: &mut Turn<'_>) {
        self.give_up_if_over(turn);
        self.try_to_lead(turn);
        self.paxos.on_time(turn);
        self.fetch_on_time(turn);
        self.extend_lease(turn);
        self.expire_sessions(turn);
        self.expire_requests(turn);
    }

    /// L1, L6: before anything else, a leader whose hold has ended, or that could not come to lead in time, stops trying.
    fn give_up_if_over(&mut self, turn: &mut Turn<'_>) {
        let late = match &self.standing {
            Standing::Leader(leadership) => {
                self.serving().is_none() && turn.now >= leadership.began + prepare_limit(turn.moment())
            }
            _ => false,
        };
        if late || self.hold_is_over(turn.moment()) {
            self.give_up(self.paxos.promised(), turn);
        }
    }

    /// A persist of this node is durable.
    pub fn on_persisted(&mut self, number: u64, turn: &mut Turn<'_>) {
        self.give_up_if_over(turn);
        self.paxos.on_persisted(number, turn);
        self.trim_durable(number);
        self.apply(turn);
    }

    /// The connection of a peer is a new one.
    pub fn on_session(&mut self, from: NodeId, turn: &mut Turn<'_>) {
        self.paxos.on_session(from, turn);
        self.fetch_again_from(from, turn);
    }

    /// Ends a turn.
    pub fn finish_turn(&mut self, turn: &mut Turn<'_>) {
        if let (Standing::Leader(leadership), Some(durable)) = (&mut self.standing, durable(&self.paxos)) {
            let length = self.paxos.length();
            leadership.progress.decided.observe(self.paxos.decided(), length, turn.now);
            leadership.progress.durable.observe(durable, length, turn.now);
        }
        self.free_a_piece(turn);
        self.paxos.finish_turn(turn);
        self.trim_if_due(turn);
    }

    /// Whether this persist of the node, once it is durable, changes something here.
    pub fn waits_for(&self, number: u64) -> bool {
        self.trimming.waits_for(number) || self.paxos.waits_for(number)
    }

    /// Whether it keeps parts of a snapshot for others, which [`Replica::on_time`] forgets in time, before any deadline.
    pub fn hands_out(&self) -> bool {
        self.catching_up.hands_out()
    }

    /// Whether the next turn has something to do, whatever happens in it: a long log goes in pieces.
    pub fn has_more_to_do(&self) -> bool {
        self.has_more_to_free() || self.trimming.owes_keys()
    }

    /// When [`Replica::on_time`] has something to do.
    pub fn next_deadline(&self, moment: Moment<'_>) -> Option<LocalTime> {
        let leader = match &self.standing {
            Standing::Leader(leadership) => {
                let oldest = leadership.waiting.front();
                let preparing = self.serving().is_none();
                [
                    terms(moment).map(|_| leadership.extend_at),
                    self.hold_until(moment),
                    preparing.then(|| leadership.began + prepare_limit(moment)),
                    oldest.map(|(_, request)| request.received + request_timeout(moment)),
                    self.expire_sessions_at(leadership, moment),
                ]
                .into_iter()
                .flatten()
                .min()
            }
            Standing::Candidate(_) => self.grant.map(|grant| grant.until),
            Standing::Follower => None,
        };
        leader.into_iter().chain(self.paxos.next_deadline()).chain(self.catching_up.next_deadline()).min()
    }

    fn expire_requests(&mut self, turn: &mut Turn<'_>) {
        let timeout = request_timeout(turn.moment());
        let Standing::Leader(leadership) = &mut self.standing else { return };
        let now = turn.now;
        let is_over = |(_, request): &mut (ProposalId, Asked)| request.received + timeout <= now;
        while let Some((_, request)) = leadership.waiting.pop_front_if(is_over) {
            let reason = format!("not decided within {} ms", timeout.as_millis());
            request.origin.reply(Err(StoreError::Indefinite { reason }), turn);
        }
    }
}

impl Leadership {
    fn new(ballot: Ballot, moment: Moment<'_>) -> Self {
        let mut hold = Hold::default();
        hold.acknowledge(moment.config.node, moment.now);
        Self {
            ballot,
            began: moment.now,
            hold,
            traced_expiry: None,
            extend_at: moment.now,
            progress: Progress::default(),
            waiting: VecDeque::new(),
            unapplied: Unapplied::default(),
            adopted: 0,
            handing_to: None,
            idle: Idle::default(),
        }
    }
}

impl Progress {
    fn stuck_since(&self) -> Option<LocalTime> {
        self.decided.stuck_since.into_iter().chain(self.durable.stuck_since).min()
    }
}

impl Advance {
    fn observe(&mut self, reached: u64, length: u64, now: LocalTime) {
        if reached == length {
            self.stuck_since = None;
        } else if self.stuck_since.is_none() || reached != self.reached {
            self.stuck_since = Some(now);
        }
        self.reached = reached;
    }
}

fn durable(paxos: &Paxos) -> Option<u64> {
    match paxos.role() {
        Role::Leader(leader) => leader.accepting().map(Accepting::durable),
        Role::Follower(_) => None,
    }
}

fn terms(moment: Moment<'_>) -> Option<Terms> {
    moment.config.cluster.lease.map(Terms::new)
}

/// How long a hold lasts from the request; a planted bug leaves the margin out.
fn hold_length(terms: &Terms, moment: Moment<'_>) -> Duration {
    match moment.config.mutant {
        Some(Mutant::LeaseWithoutDriftMargin) => terms.grant(),
        _ => terms.hold(),
    }
}

/// From when on an acceptor counts its grant: now; a planted bug takes the holder's word for what time it is.
fn granted_at(sent_at: LocalTime, turn: &mut Turn<'_>) -> LocalTime {
    if !turn.has(Mutant::GrantByHoldersClock) || sent_at == turn.now {
        return turn.now;
    }
    turn.reached(Mutant::GrantByHoldersClock);
    sent_at
}

/// For how long a leader tries to get its promises. What keeps them from it for longer does not keep the others from hearing
/// its heartbeats, so nobody else would ever try. With leases: the longest refusal and two election timeouts, since a round
/// trip is shorter than the lease, and that than an election timeout. Without: what the detector bears with, and one more.
fn prepare_limit(moment: Moment<'_>) -> Duration {
    let election_timeout = moment.config.cluster.election_timeout();
    terms(moment)
        .map_or(election_timeout * (LONGEST_PERIOD + 1), |terms| terms.restart_wait() + election_timeout * 2)
}

fn request_timeout(moment: Moment<'_>) -> Duration {
    Duration::from_millis(moment.config.cluster.request_timeout_ms)
}
