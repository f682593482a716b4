//! A planned change of leaders, in this group: how the leader lets go, and how its successor begins.
//!
//! The order of the leader's steps is what keeps L1 to L6: it stops fast reads when it is asked; it waits until its log is
//! decided and the successor has it durably; then, in one turn, it voids its hold (traced before anything leaves), gives up its
//! ballot for good, sends LeaseRelease to all, and `TakeOver` to the successor behind it on the same link. An acceptor that
//! hears of the release is free to promise the successor; one that does not is not, so a message that is lost costs time,
//! never safety. The successor takes a ballot above all that it has seen, durable before anyone hears of it (BLE3), and goes
//! the way of every new leader.

use super::{Replica, Standing};
use crate::{
    api::{Ballot, NodeId, TransferError},
    config::Mutant,
    core::{LocalTime, Moment, Turn, durable::Record, message::GroupMessage, trace::TraceEvent},
};

/// A successor may lack so many entries: as many as are under way to it at most.
const LONGEST_LAG: u64 = 4096;

impl Replica {
    /// The ballot that could be handed over to `to`, or why none can.
    pub fn may_hand_over(
        &self,
        to: NodeId,
        trusted: bool,
        moment: Moment<'_>,
    ) -> Result<Ballot, TransferError> {
        let may_serve = !self.paxos.stopped() && !self.hold_is_over(moment);
        let Some(ballot) = self.serving().filter(|_| may_serve) else {
            return Err(TransferError::NotLeader { leader: None });
        };
        let group = self.paxos.group();
        if !group.replicas.contains(&to) {
            return Err(TransferError::NoReplica { to, replicas: group.replicas.clone() });
        }
        if !trusted {
            return Err(TransferError::Suspected { to });
        }
        Ok(ballot)
    }

    /// Why `to` cannot lead yet.
    pub fn lags(&self, to: NodeId) -> TransferError {
        TransferError::Lags { to, entries: self.paxos.lag_of(to), at_most: LONGEST_LAG }
    }

    /// Stops answering clients for the sake of `to`, if it is nearly up to date. True when it has.
    pub fn stop_serving_for(&mut self, to: NodeId) -> bool {
        let near = self.paxos.lag_of(to).is_some_and(|lag| lag <= LONGEST_LAG);
        match &mut self.standing {
            Standing::Leader(leadership) if near => {
                leadership.handing_to = Some(to);
                true
            }
            _ => false,
        }
    }

    /// Serves again, if this replica still leads.
    pub fn end_hand_over(&mut self) {
        if let Standing::Leader(leadership) = &mut self.standing {
            leadership.handing_to = None;
        }
    }

    /// Whether this replica leads and answers nobody, since another is to lead.
    pub(super) fn is_handing_over(&self) -> bool {
        matches!(&self.standing, Standing::Leader(leadership) if leadership.handing_to.is_some())
    }

    /// Hands over once the successor's log is this leader's, durably, and all of it is decided. True when it has.
    pub fn hand_over_if_ready(&mut self, turn: &mut Turn<'_>) -> bool {
        let (Some(ballot), Standing::Leader(leadership)) = (self.serving(), &self.standing) else {
            return false;
        };
        let Some(to) = leadership.handing_to else { return false };
        if self.paxos.lag_of(to) != Some(0) || self.paxos.decided() < self.paxos.length() {
            return false;
        }
        assert!(leadership.waiting.is_empty(), "whoever waits for what is decided has been answered");
        if turn.has(Mutant::LeaseKeptAcrossTransfer) {
            self.kept = self.hold_until(turn.moment()).map(|until| (ballot, until));
        }
        self.give_up(self.paxos.promised(), turn);
        turn.send(to, self.paxos.group().wrap(GroupMessage::TakeOver { ballot }));
        true
    }

    /// The leader of this ballot has let go, and wants this replica to lead. True when it takes over.
    pub(super) fn on_take_over(&mut self, from: NodeId, ballot: Ballot, turn: &mut Turn<'_>) -> bool {
        let follows = self.paxos.promised() == ballot && self.election.leader() <= ballot;
        if !follows || ballot.node != from || !matches!(self.standing, Standing::Follower) {
            return false;
        }
        let (partition, ballot) = (self.paxos.group().partition, self.election.succeed(ballot));
        turn.trace(|| TraceEvent::Elected { partition, ballot });
        turn.persist(|| Record::Announced { partition, ballot });
        self.standing = Standing::Candidate(ballot);
        self.try_to_lead(turn);
        true
    }

    /// A planted bug: the hold that was not void when it was handed over, while it lasts.
    pub(super) fn kept_hold(&self, moment: Moment<'_>) -> Option<(Ballot, LocalTime)> {
        self.kept.filter(|(_, until)| moment.now < *until)
    }
}
