//! How a replica comes to lead, and how it stops.

use super::{Leadership, Replica, Standing, terms};
use crate::{
    api::{Ballot, NodeId, StoreError},
    config::Mutant,
    core::{
        Output, Turn,
        durable::Record,
        election::Elected,
        message::{GroupMessage, GroupStatus},
        trace::TraceEvent,
    },
};

impl Replica {
    /// One heartbeat period: `replies` are the last words of the connected replicas. True when this replica takes over,
    /// with a ballot that must be durable before any heartbeat tells of it.
    pub fn on_heartbeat_period(&mut self, replies: &[GroupStatus], turn: &mut Turn<'_>) -> bool {
        let (partition, quorum) = (self.paxos.group().partition, self.connected_enough(replies, turn));
        let elected = self.election.tick(replies, quorum, self.paxos.promised());
        if let Elected::Other(ballot) | Elected::Myself(ballot) = elected {
            turn.trace(|| TraceEvent::Elected { partition, ballot });
        }
        match elected {
            Elected::Unchanged => {}
            Elected::Other(_) => self.step_down(turn),
            Elected::Myself(ballot) => {
                self.step_down(turn);
                turn.persist(|| Record::Announced { partition, ballot });
                self.standing = Standing::Candidate(ballot);
            }
        }
        self.try_to_lead(turn);
        matches!(elected, Elected::Myself(_))
    }

    /// How many connected replicas an election needs, itself included: a quorum.
    fn connected_enough(&self, replies: &[GroupStatus], turn: &mut Turn<'_>) -> usize {
        let (quorum, all) = (self.paxos.group().quorum(), self.paxos.group().replicas.len());
        if !turn.has(Mutant::ElectionNeedsAll) {
            return quorum;
        }
        if (quorum..all).contains(&(replies.len() + 1)) {
            turn.reached(Mutant::ElectionNeedsAll);
        }
        all
    }

    /// What a follower said in a heartbeat.
    pub fn on_follower_decided(&mut self, from: NodeId, decided: u64) {
        self.trimming.told(from, decided);
        self.paxos.on_follower_decided(from, decided);
    }

    /// A candidate leads as soon as its own grant to another is over (L3).
    pub(super) fn try_to_lead(&mut self, turn: &mut Turn<'_>) {
        let Standing::Candidate(ballot) = self.standing else { return };
        if ballot <= self.paxos.promised() {
            self.standing = Standing::Follower;
            return self.election.spend(self.paxos.promised());
        }
        if self.grant.is_some_and(|grant| grant.refuses(ballot.node, turn.now).is_some()) {
            if !turn.has(Mutant::CandidateIgnoresOwnGrant) {
                return;
            }
            turn.reached(Mutant::CandidateIgnoresOwnGrant);
        }
        self.standing = Standing::Leader(Box::new(Leadership::new(ballot, turn.moment())));
        let adopted = self.paxos.lead(ballot, turn);
        self.renew_grant(ballot, turn.now, turn);
        if adopted {
            self.on_adopted(turn);
        }
    }

    /// Leads no longer: the hold is void for good, and is given back.
    pub(super) fn step_down(&mut self, turn: &mut Turn<'_>) {
        let Standing::Leader(leadership) = std::mem::replace(&mut self.standing, Standing::Follower) else {
            return;
        };
        let (partition, ballot) = (self.paxos.group().partition, leadership.ballot);
        if terms(turn.moment()).is_some() {
            if self.kept.is_none_or(|(kept, _)| kept != ballot) {
                turn.trace(|| TraceEvent::HoldEnded { partition, ballot });
            }
            self.release_grant(ballot, turn);
            let release = GroupMessage::LeaseRelease { ballot };
            for other in self.paxos.group().others() {
                turn.send(other, self.paxos.group().wrap(release.clone()));
            }
        }
        if self.paxos.in_accept_phase() {
            turn.trace(|| TraceEvent::SteppedDown { partition, ballot });
            turn.announce(Output::SteppedDown { partition, ballot });
        }
        for (_, request) in leadership.waiting {
            let reason = "the leader was replaced while the operation was in its log".to_owned();
            request.origin.reply(Err(StoreError::Indefinite { reason }), turn);
        }
        self.paxos.step_down(turn);
    }

    /// Leads no longer, and never again under this ballot.
    pub(super) fn give_up(&mut self, seen: Ballot, turn: &mut Turn<'_>) {
        self.step_down(turn);
        self.election.spend(seen);
    }
}
