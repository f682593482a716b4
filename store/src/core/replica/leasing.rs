//! The two sides of the lease: what this replica grants, and what it holds as the leader.

use std::cmp::Ordering;

use super::{Replica, Standing, granted_at, terms};
use crate::{
    api::{Ballot, NodeId},
    config::Mutant,
    core::{LocalTime, Moment, Turn, lease::Grant, message::GroupMessage, trace::TraceEvent},
};

impl Replica {
    /// Grants the leader of the promised ballot the lease, counted from a moment that is now unless a bug is planted.
    pub(super) fn renew_grant(&mut self, ballot: Ballot, since: LocalTime, turn: &mut Turn<'_>) {
        let Some(terms) = terms(turn.moment()) else { return };
        assert_eq!(ballot, self.paxos.promised(), "L3: the lease is granted to the promised ballot only");
        let grant = Grant::renew(self.grant, ballot, since + terms.grant());
        self.grant = Some(grant);
        self.refused = self.refused.filter(|refused| *refused > ballot);
        let (partition, until) = (self.paxos.group().partition, grant.until.0);
        turn.trace(|| TraceEvent::Granted { partition, ballot, until });
    }

    pub(super) fn on_lease_extend(
        &mut self,
        from: NodeId,
        ballot: Ballot,
        sent_at: LocalTime,
        turn: &mut Turn<'_>,
    ) {
        if !self.is_current(from, ballot, turn) || self.paxos.leading().is_some() {
            return;
        }
        if !self.would_renew(ballot) {
            return;
        }
        let since = granted_at(sent_at, turn);
        self.renew_grant(ballot, since, turn);
        // L2: a restart must not forget whom it has granted, so the promise is durable before anyone counts on the grant
        let granted = self.paxos.group().wrap(GroupMessage::LeaseGranted { ballot, sent_at });
        turn.send_after(from, granted, self.paxos.promised_by());
    }

    /// Whether the own election still follows the leader of the promised ballot and knows it connected to a quorum.
    /// Otherwise a leader that can send but not receive, or one that only this replica still sees, would keep its successor
    /// out for ever.
    pub(super) fn would_renew(&self, ballot: Ballot) -> bool {
        match self.election.leader().cmp(&ballot) {
            Ordering::Less => true,
            Ordering::Equal => self.election.happy(),
            Ordering::Greater => false,
        }
    }

    /// L1: an acknowledgement counts for the ballot that asked, and only while that ballot is led and its hold has not ended.
    pub(super) fn on_lease_granted(
        &mut self,
        from: NodeId,
        ballot: Ballot,
        sent_at: LocalTime,
        turn: &mut Turn<'_>,
    ) {
        if self.hold_is_over(turn.moment()) {
            return;
        }
        if let Standing::Leader(leadership) = &mut self.standing
            && leadership.ballot == ballot
        {
            if turn.has(Mutant::LeaseFromReplyTime) && turn.now > sent_at {
                turn.reached(Mutant::LeaseFromReplyTime);
                leadership.hold.acknowledge(from, turn.now);
            }
            leadership.hold.acknowledge(from, sent_at);
            self.trace_hold(turn);
        }
    }

    pub(super) fn on_lease_release(&mut self, ballot: Ballot, turn: &mut Turn<'_>) {
        self.release_grant(ballot, turn);
        self.refuse_no_longer(ballot.node, turn);
        self.paxos.retry_now(turn);
        self.try_to_lead(turn);
    }

    /// What was refused need not wait any longer. Its leader may have heard earlier than this replica that the lease was given
    /// back, have tried too early, and wait since then for the end of a grant that is none any more.
    fn refuse_no_longer(&mut self, holder: NodeId, turn: &mut Turn<'_>) {
        if self.grant.is_none()
            && let Some(ballot) = self.refused.take()
        {
            let nack = GroupMessage::LeaseNack { ballot, holder, remaining: 0 };
            turn.send(ballot.node, self.paxos.group().wrap(nack));
        }
    }

    pub(super) fn release_grant(&mut self, ballot: Ballot, turn: &mut Turn<'_>) {
        if self.grant.is_some_and(|grant| grant.ballot == ballot) {
            self.grant = None;
            let partition = self.paxos.group().partition;
            turn.trace(|| TraceEvent::Released { partition, ballot });
        }
    }

    /// Asks a quorum for more time, unless this leader makes no progress: then another should lead. Before it has the
    /// lease, it keeps its own grant fresh only; the Prepares that it sends again do the rest.
    pub(super) fn extend_lease(&mut self, turn: &mut Turn<'_>) {
        let serving = self.serving().is_some();
        let (Some(terms), Standing::Leader(leadership)) = (terms(turn.moment()), &mut self.standing) else {
            return;
        };
        if turn.now < leadership.extend_at {
            return;
        }
        leadership.extend_at = turn.now + terms.grant() / 4;
        if leadership.progress.stuck_since().is_some_and(|since| turn.now.since(since) > terms.grant()) {
            return;
        }
        let ballot = leadership.ballot;
        leadership.hold.acknowledge(turn.config.node, turn.now);
        self.renew_grant(ballot, turn.now, turn);
        self.trace_hold(turn);
        if serving {
            let extend = GroupMessage::LeaseExtend { ballot, sent_at: turn.now };
            for other in self.paxos.group().others() {
                turn.send(other, self.paxos.group().wrap(extend.clone()));
            }
        }
    }

    /// A leader in the accept phase that holds no lease although leases are on.
    pub(super) fn hold_is_over(&self, moment: Moment<'_>) -> bool {
        terms(moment).is_some()
            && self.serving().is_some()
            && self.hold_until(moment).is_none_or(|expiry| moment.now >= expiry)
    }

    pub(super) fn trace_hold(&mut self, turn: &mut Turn<'_>) {
        let expiry = self.hold_until(turn.moment());
        let Standing::Leader(leadership) = &mut self.standing else { return };
        if expiry != leadership.traced_expiry
            && let Some(until) = expiry
        {
            leadership.traced_expiry = expiry;
            let lengthens = [Mutant::HoldByMinority, Mutant::LeaseWithoutDriftMargin];
            if let Some(mutant) = lengthens.into_iter().find(|mutant| turn.has(*mutant)) {
                let quorum = self.paxos.group().quorum();
                let honest =
                    terms(turn.moment()).and_then(|terms| leadership.hold.expiry(quorum, terms.hold()));
                if honest != expiry {
                    turn.reached(mutant);
                }
            }
            let (partition, ballot) = (self.paxos.group().partition, leadership.ballot);
            turn.trace(|| TraceEvent::Hold { partition, ballot, until: until.0 });
        }
    }
}
