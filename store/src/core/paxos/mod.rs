//! Leader-based Sequence Paxos of one group (Haridi, Kroll, Carbone: arXiv 2008.13456; with sessions and recovery after
//! OmniPaxos, EuroSys'23, section 4).
//!
//! A leader with ballot n first learns the most recent log of a quorum (prepare phase), adopts it, and then only appends
//! (accept phase). An entry is decided once a quorum has it durably at n.
//!
//! Why it is safe: if an entry was decided at n, a quorum has it at accepted ballot n or above; every later leader's
//! quorum meets that one, and the maximum by (accepted ballot, length) contains it. Three steps keep that true, and each
//! has gone wrong in published versions: the adopting leader sets its own accepted ballot (`Paxos::adopt`); the maximum
//! looks at both keys in that order; and log and accepted ballot change in one atomic persist.
//!
//! This module knows nothing of leases, keys or clients: [`replica`](crate::core::replica) asks it to lead or to promise
//! only when the lease allows it, and applies what it decides.

pub mod follower;
pub mod leader;

use std::{
    hash::{DefaultHasher, Hash, Hasher},
    time::Duration,
};

use crate::{
    api::{Ballot, NodeId, PartitionId},
    core::{
        LocalTime, Moment, Turn,
        durable::{DurableGroup, Record},
        entries::Entries,
        log::Log,
        message::{Entry, GroupMessage, Message, Suffix},
        trace::TraceEvent,
    },
};
use follower::{Follower, FollowerPhase};
use leader::Leader;

/// A group as one replica of it sees it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Group {
    /// The partition.
    pub partition: PartitionId,
    /// This replica.
    pub node: NodeId,
    /// All replicas.
    pub replicas: Vec<NodeId>,
    /// A planted bug: half of an even number is enough.
    pub half: bool,
}

impl Group {
    /// More than half.
    pub fn quorum(&self) -> usize {
        if self.half { self.replicas.len().div_ceil(2) } else { self.replicas.len() / 2 + 1 }
    }

    /// The other replicas.
    pub fn others(&self) -> impl Iterator<Item = NodeId> + '_ {
        self.replicas.iter().copied().filter(|replica| *replica != self.node)
    }

    /// Wraps a message to a replica of this group.
    pub fn wrap(&self, message: GroupMessage) -> Message {
        Message::Group { partition: self.partition, message }
    }
}

/// One replica's part in its group's Sequence Paxos.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Paxos {
    group: Group,
    promised: Ballot,
    /// The persist that made the promise durable; 0: an earlier life's.
    promised_by: u64,
    accepted_ballot: Ballot,
    log: Log,
    decided: u64,
    role: Role,
    /// From here on the log (or its ballot) has changed since the last persist.
    unrecorded: Option<u64>,
    recorded_decided: u64,
    traced_decided: u64,
}

/// What a replica is in its group.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// It leads, or tries to.
    Leader(Leader),
    /// It follows, or waits for somebody to follow.
    Follower(Follower),
}

impl Paxos {
    /// A replica that starts with what it finds on its disk; it asks who leads.
    pub fn new(group: Group, durable: &DurableGroup, now: LocalTime) -> Self {
        assert!(durable.decided <= durable.log.length(), "SP3: what is decided is in the log");
        assert!(
            durable.log.start() <= durable.snapshot.applied()
                && durable.snapshot.applied() <= durable.decided,
            "entries are dropped only when a snapshot covers them, and a snapshot covers only what is decided"
        );
        Self {
            group,
            promised: durable.promised,
            promised_by: 0,
            accepted_ballot: durable.accepted_ballot,
            log: durable.log.clone(),
            decided: durable.decided,
            role: Role::Follower(Follower::recovering(now)),
            unrecorded: None,
            recorded_decided: durable.decided,
            traced_decided: durable.decided,
        }
    }

    /// The group.
    pub fn group(&self) -> &Group {
        &self.group
    }

    /// The highest ballot promised.
    pub fn promised(&self) -> Ballot {
        self.promised
    }

    /// The persist that made the promise durable.
    pub fn promised_by(&self) -> u64 {
        self.promised_by
    }

    /// Length of the log.
    pub fn length(&self) -> u64 {
        self.log.length()
    }

    /// Number of entries known to be decided.
    pub fn decided(&self) -> u64 {
        self.decided
    }

    /// The log.
    pub fn log(&self) -> &Log {
        &self.log
    }

    /// Entry number `index`, from 1; none before the log's start is left.
    pub fn entry(&self, index: u64) -> &Entry {
        self.log.entry(index)
    }

    /// Role and phase.
    pub fn role(&self) -> &Role {
        &self.role
    }

    /// The ballot that this replica leads under, in either phase.
    pub fn leading(&self) -> Option<Ballot> {
        match &self.role {
            Role::Leader(leader) => Some(leader.ballot()),
            Role::Follower(_) => None,
        }
    }

    /// True when this replica leads and has adopted a quorum's log.
    pub fn in_accept_phase(&self) -> bool {
        matches!(&self.role, Role::Leader(leader) if leader.accepting().is_some())
    }

    /// True once a stop-sign ends the log.
    pub fn stopped(&self) -> bool {
        matches!(self.log.last(), Some(Entry::StopSign(_)))
    }

    /// Role and phase in a word, for people.
    pub fn role_name(&self) -> &'static str {
        match &self.role {
            Role::Leader(leader) if leader.accepting().is_some() => "leader",
            Role::Leader(_) => "preparing",
            Role::Follower(follower) if matches!(follower.phase, FollowerPhase::Recover { .. }) => {
                "recovering"
            }
            Role::Follower(_) => "follower",
        }
    }

    /// Stops leading; asks who leads now.
    pub fn step_down(&mut self, turn: &mut Turn<'_>) {
        self.role = Role::Follower(Follower::recovering(turn.now));
    }

    /// A higher ballot was promised somewhere; tells `to` so.
    pub fn nack(&self, to: NodeId, turn: &mut Turn<'_>) {
        turn.send(to, self.group.wrap(GroupMessage::Nack { promised: self.promised }));
    }

    /// Sends again what was not answered in time.
    pub fn on_time(&mut self, turn: &mut Turn<'_>) {
        match &self.role {
            Role::Leader(_) => self.resend_as_leader(turn),
            Role::Follower(_) => self.resend_as_follower(turn),
        }
    }

    /// When [`Paxos::on_time`] has something to do.
    pub fn next_deadline(&self) -> Option<LocalTime> {
        match &self.role {
            Role::Leader(leader) => leader.next_deadline(),
            Role::Follower(follower) => follower.next_deadline(),
        }
    }

    /// Ends a turn: one record for all that the log has gained, then the messages that tell of it.
    pub fn finish_turn(&mut self, turn: &mut Turn<'_>) {
        let gained = self.unrecorded.take();
        match &self.role {
            Role::Leader(_) => {
                let gained = gained.map(|start| self.log.suffix(start, self.length()));
                if let Some(Suffix { start, entries }) = &gained {
                    self.record(*start, |_| Entries::clone(entries), turn);
                }
                self.announce_as_leader(gained, turn);
            }
            Role::Follower(_) => {
                if let Some(start) = gained {
                    self.record(start, |log| log.suffix(start, log.length()).entries, turn);
                }
                self.acknowledge(turn);
            }
        }
    }

    fn record(&mut self, start: u64, entries: impl FnOnce(&Log) -> Entries, turn: &mut Turn<'_>) {
        let (partition, accepted_ballot) = (self.group.partition, self.accepted_ballot);
        turn.persist(|| Record::Accepted { partition, accepted_ballot, start, entries: entries(&self.log) });
        if self.decided > self.recorded_decided {
            self.recorded_decided = self.decided;
            turn.persist(|| Record::Decided { partition, decided: self.decided });
        }
    }

    /// Tells what is newly decided, under the ballot and in the role that it was decided in.
    pub fn trace_decided(&mut self, turn: &mut Turn<'_>) {
        if self.decided <= self.traced_decided {
            return;
        }
        turn.trace(|| TraceEvent::Decided {
            partition: self.group.partition,
            ballot: self.promised,
            leading: self.in_accept_phase(),
            first: self.traced_decided + 1,
            hashes: self.log.between(self.traced_decided, self.decided).map(hash).collect(),
        });
        self.traced_decided = self.decided;
    }

    /// L7: tells that the log has come to end in a stop-sign, under the ballot that put it there or kept it.
    fn trace_stop_sign(&self, turn: &mut Turn<'_>) {
        if self.stopped() {
            let (partition, ballot, index) = (self.group.partition, self.promised, self.length());
            turn.trace(|| TraceEvent::StopSign { partition, ballot, index });
        }
    }

    /// A snapshot covers the first `start` entries, all of them applied here: they are gone. Who was being sent them is
    /// prepared anew, and will learn that.
    pub fn trim(&mut self, start: u64, turn: &mut Turn<'_>) {
        assert!(start <= self.decided, "SP3: what is not decided is in the log");
        self.log.cover(start);
        self.prepare_who_lags(turn);
    }

    /// All up to number `index` is decided, and another node has sent what it comes to. Safe at any ballot: what is decided
    /// is in every log that will ever be adopted, so that this node's claim, its accepted ballot and length, stays as good as
    /// it was. Entries beyond the snapshot may be decided already, and stay.
    pub fn install(&mut self, index: u64, turn: &mut Turn<'_>) {
        assert!(index > self.decided, "SP3: a snapshot that comes late does not undo what is decided");
        assert!(!self.in_session(), "what a leader and its followers append is not cut off by a snapshot");
        self.log.cover(index);
        self.unrecorded = self.unrecorded.map(|start| start.max(index));
        (self.decided, self.recorded_decided, self.traced_decided) = (index, index, index);
        match &mut self.role {
            Role::Leader(_) => self.prepare_all(turn),
            Role::Follower(follower) => follower.phase = FollowerPhase::Recover { deadline: turn.now },
        }
    }

    /// Whether this replica appends: as a leader, or as a follower that its leader has brought up to date.
    pub fn in_session(&self) -> bool {
        match &self.role {
            Role::Leader(leader) => leader.accepting().is_some(),
            Role::Follower(follower) => matches!(follower.phase, FollowerPhase::Accept { .. }),
        }
    }

    /// Replaces the log from `suffix.start` on and accepts all of it at `ballot`.
    fn replace(&mut self, ballot: Ballot, suffix: Suffix, turn: &mut Turn<'_>) {
        assert!(suffix.start >= self.decided, "SP3: a decided log only grows");
        assert!(suffix.start <= self.length(), "entries follow what the log holds");
        assert!(ballot >= self.accepted_ballot, "an acceptor's ballot only rises");
        self.log.truncate(suffix.start);
        self.log.extend(suffix.entries.into_vec());
        self.accepted_ballot = ballot;
        self.changed_from(suffix.start, turn);
        self.trace_stop_sign(turn);
    }

    fn changed_from(&mut self, start: u64, turn: &mut Turn<'_>) {
        self.unrecorded = Some(self.unrecorded.map_or(start, |earlier| earlier.min(start)));
        turn.will_persist();
    }

    /// The decided index rises to `decided`, but never beyond the log.
    fn decide(&mut self, decided: u64) {
        self.decided = self.decided.max(decided.min(self.length()));
    }

    fn promise(&mut self, ballot: Ballot, turn: &mut Turn<'_>) {
        assert!(ballot >= self.promised, "a promise only rises");
        if ballot > self.promised {
            self.promised = ballot;
            turn.persist(|| Record::Promised { partition: self.group.partition, ballot });
            self.promised_by = turn.covering();
            turn.trace(|| TraceEvent::Promised { partition: self.group.partition, ballot });
        }
    }

    /// The entries after number `start`; none when some of them are gone.
    fn suffix(&self, start: u64) -> Option<Suffix> {
        (start >= self.log.start()).then(|| self.log.suffix(start, self.length()))
    }

    /// What `to` lacks is gone from this log.
    fn tell_trimmed(&self, to: NodeId, (ballot, session): (Ballot, u64), turn: &mut Turn<'_>) {
        let trimmed = GroupMessage::Trimmed { ballot, session, start: self.log.start() };
        turn.send_durable(to, self.group.wrap(trimmed));
    }
}

/// After how long an unanswered message is sent again.
fn resend_after(moment: Moment<'_>) -> Duration {
    moment.config.cluster.heartbeat()
}

fn hash(entry: &Entry) -> u64 {
    let mut hasher = DefaultHasher::new();
    entry.hash(&mut hasher);
    hasher.finish()
}
