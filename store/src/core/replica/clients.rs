//! What clients ask for: reads under the lease, everything else through the log. Where replicas answer reads, each answers
//! from what it has applied, once that is as much as the client has seen. So a client's answers never go back in the log,
//! which makes each partition sequentially consistent; that a replica may be cut off or slow makes it no more than that. Such
//! a read claims nothing of the lease, and is not traced as a fast one.

use super::{Asked, Leadership, Replica, Request, Standing, terms};
use crate::{
    api::{Answer, Ballot, Key, Operation, Outcome, SessionTag, StoreError},
    config::{Mutant, ReadMode},
    core::{
        LocalTime, Moment, Turn,
        message::{Command, Entry, ProposalId},
        sessions::Verdict,
        trace::TraceEvent,
    },
};

/// Bytes of entries that may wait to be decided: a leader that is cut off from its quorum takes no more, and one message carries all
/// of them to whoever comes back.
pub const MOST_UNDECIDED: u64 = 128 << 20;

impl Replica {
    /// Whether this replica, and no other node, is to be asked.
    pub fn answers(&self, operation: &Operation, moment: Moment<'_>) -> bool {
        let deposed =
            moment.config.mutant == Some(Mutant::DeposedLeaderServesReads) && self.deposed.is_some();
        let leads = self.serving().is_some() && !self.paxos.stopped() && !self.hold_is_over(moment);
        let reads_on = deposed || self.kept_hold(moment).is_some();
        leads && !self.is_handing_over() || reads_on && operation.is_read()
    }

    /// Whether this replica answers a read alone, whoever leads: it has applied as much as the client has seen.
    pub fn reads_locally(&self, operation: &Operation, seen: u64, moment: Moment<'_>) -> bool {
        is_local_read(operation, moment) && self.kv.applied() >= seen
    }

    /// Answers a read from what is applied, which [`Replica::reads_locally`] says is enough.
    pub fn answer_locally(&self, request: &Request, turn: &mut Turn<'_>) {
        assert!(self.kv.applied() >= request.seen, "a session never goes back in the log");
        let (value, version) = self.kv.read(request.operation.key());
        let answer = Answer {
            outcome: Outcome::Value(value),
            version,
            index: self.kv.applied(),
            leader: turn.config.node,
            ballot: self.paxos.promised(),
            fast: false,
            local: true,
        };
        request.origin.reply(Ok(answer), turn);
    }

    /// Answers an operation for the leader of this group, which [`Replica::answers`] says this replica is, if the log need not
    /// have it: then nothing happens to this replica. False: it is to be proposed.
    pub fn answer_alone(&self, request: &Request, turn: &mut Turn<'_>) -> bool {
        if self.answer_deposed(request, turn) {
            return true;
        }
        let hold = self.hold_until(turn.moment());
        let is_over = terms(turn.moment()).is_some() && hold.is_none_or(|expiry| turn.now >= expiry);
        let may_serve = !self.paxos.stopped() && !is_over && !self.is_handing_over();
        let Some(ballot) = self.serving().filter(|_| may_serve) else {
            let partition = self.paxos.group().partition;
            request.origin.reply(Err(StoreError::NotLeader { partition, leader: None }), turn);
            return true;
        };
        // a leader that has not applied as much as a client has seen reads through the log, whose end is beyond that
        let may_be_fast = request.operation.is_read() && !is_local_read(&request.operation, turn.moment());
        may_be_fast && self.answer_fast(request, (ballot, hold), turn)
            || turn.has(Mutant::SwapRefusedAlone) && self.refuse_swap(request, ballot, turn)
    }

    /// An operation for the leader of this group.
    pub fn submit(&mut self, request: Request, turn: &mut Turn<'_>) {
        if !self.answer_alone(&request, turn) {
            self.propose(request, turn);
        }
    }

    /// A planted bug: answers a swap that would not match what is applied here. True when it did.
    fn refuse_swap(&self, request: &Request, ballot: Ballot, turn: &mut Turn<'_>) -> bool {
        let Operation::Cas { key, expected, .. } = &request.operation else { return false };
        let (seen, version) = self.kv.read(key);
        if request.session.is_some() || seen == *expected {
            return false;
        }
        turn.reached(Mutant::SwapRefusedAlone);
        let (index, leader) = (self.kv.applied(), turn.config.node);
        let outcome = Outcome::NotSwapped { seen };
        request
            .origin
            .reply(Ok(Answer { outcome, version, index, leader, ballot, fast: false, local: false }), turn);
        true
    }

    /// Planted bugs: a leader that was deposed, or has handed over, answers reads as if it still led. True when it did.
    pub(super) fn answer_deposed(&self, request: &Request, turn: &mut Turn<'_>) -> bool {
        if let Some((ballot, until)) = self.kept_hold(turn.moment())
            && request.operation.is_read()
        {
            turn.reached(Mutant::LeaseKeptAcrossTransfer);
            self.answer_read(request, ballot, until, turn);
            return true;
        }
        let (Some(Mutant::DeposedLeaderServesReads), Some(ballot)) = (turn.config.mutant, self.deposed)
        else {
            return false;
        };
        if self.serving().is_some() || !request.operation.is_read() {
            return false;
        }
        turn.reached(Mutant::DeposedLeaderServesReads);
        self.answer_read(request, ballot, turn.now, turn);
        true
    }

    /// Answers a read under the lease, if it may (L4, L5, L7).
    pub(super) fn answer_fast(
        &self,
        request: &Request,
        (ballot, hold): (Ballot, Option<LocalTime>),
        turn: &mut Turn<'_>,
    ) -> bool {
        let expiry = match hold {
            Some(expiry) => expiry,
            None if terms(turn.moment()).is_none() && turn.has(Mutant::ReadsWithoutLease) => {
                turn.reached(Mutant::ReadsWithoutLease);
                turn.now + turn.config.cluster.heartbeat()
            }
            None => return false,
        };
        let Standing::Leader(leadership) = &self.standing else { return false };
        // received > now: the clock was set back while the request waited
        if turn.now >= expiry
            || request.received > turn.now
            || self.awaits_decision(leadership, request.operation.key(), turn)
        {
            return false;
        }
        assert_eq!(self.paxos.promised(), ballot, "L4: a holder that promised another reads nothing");
        self.answer_read(request, ballot, expiry, turn);
        true
    }

    /// Whether an entry on the key is in the log, own or adopted, that is not applied yet (L5).
    fn awaits_decision(&self, leadership: &Leadership, key: &Key, turn: &mut Turn<'_>) -> bool {
        let pending = leadership.unapplied.write(key, self.paxos.log());
        let adopted = self.kv.applied() < leadership.adopted;
        if pending && adopted && turn.has(Mutant::FastReadBeforeAdoptedSuffix) {
            turn.reached(Mutant::FastReadBeforeAdoptedSuffix);
            return false;
        }
        if pending && !adopted && turn.has(Mutant::ControlReadPastOwnWrites) {
            turn.reached(Mutant::ControlReadPastOwnWrites);
            return false;
        }
        pending
    }

    pub(super) fn answer_read(
        &self,
        request: &Request,
        ballot: Ballot,
        expiry: LocalTime,
        turn: &mut Turn<'_>,
    ) {
        let (value, version) = self.kv.read(request.operation.key());
        let checked = turn.now;
        turn.trace(|| TraceEvent::FastRead {
            partition: self.paxos.group().partition,
            ballot,
            key: request.operation.key().to_string(),
            received: request.received.0,
            checked: checked.0,
            expiry: expiry.0,
            version,
            applied: self.kv.applied(),
        });
        let answer = Answer {
            outcome: Outcome::Value(value),
            version,
            index: self.kv.applied(),
            leader: turn.config.node,
            ballot,
            fast: true,
            local: false,
        };
        request.origin.reply(Ok(answer), turn);
    }

    /// Has the log carry out an operation that [`Replica::answer_alone`] leaves to it, unless too much waits to be decided.
    pub fn propose(&mut self, request: Request, turn: &mut Turn<'_>) {
        let bytes = self.paxos.undecided();
        if bytes > MOST_UNDECIDED {
            return request.origin.reply(Err(StoreError::Busy { bytes }), turn);
        }
        let id = ProposalId { node: turn.config.node, boot: turn.config.boot, number: self.next_proposal };
        self.next_proposal += 1;
        let session = self.tag_of(&request, turn);
        let Request { origin, operation, received, .. } = request;
        let Standing::Leader(leadership) = &mut self.standing else { unreachable!("only a leader proposes") };
        if !operation.is_read() {
            leadership.unapplied.add(operation.key(), self.paxos.length() + 1);
        }
        assert!(
            leadership.waiting.back().is_none_or(|(last, _)| *last < id),
            "SP1: a proposal has an identity of its own"
        );
        leadership.waiting.push_back((id, Asked { origin, received }));
        self.paxos.propose(Entry::Command(Command { id, operation, session }), turn);
    }

    /// A write's place in its session; a planted bug has what was carried out already carried out again.
    fn tag_of(&self, request: &Request, turn: &mut Turn<'_>) -> Option<SessionTag> {
        let tag = request.session.filter(|_| !request.operation.is_read())?;
        if turn.has(Mutant::SessionForgotten) && matches!(self.kv.sessions().known(tag), Some(Ok(_))) {
            turn.reached(Mutant::SessionForgotten);
            return None;
        }
        Some(tag)
    }

    /// Applies what is decided and answers who waits for it.
    pub(super) fn apply(&mut self, turn: &mut Turn<'_>) {
        self.paxos.trace_decided(turn);
        while self.kv.applied() < self.paxos.decided() {
            let entry = self.paxos.entry(self.kv.applied() + 1);
            self.trimming.applied(entry);
            let result = self.kv.apply(entry);
            let Standing::Leader(leadership) = &mut self.standing else { continue };
            let (Entry::Command(command), Some(result)) = (entry, result) else { continue };
            if !command.operation.is_read() {
                leadership.unapplied.applied(command.operation.key(), self.kv.applied());
            }
            let own = (command.id.node, command.id.boot) == (turn.config.node, turn.config.boot);
            assert!(
                !own || leadership.waiting.front().is_none_or(|(first, _)| command.id <= *first),
                "SP1: own proposals are decided in the order in which they were made"
            );
            if let Some((_, request)) = leadership.waiting.pop_front_if(|(id, _)| *id == command.id) {
                let (leader, ballot, fast, local) = (turn.config.node, leadership.ballot, false, false);
                let answer = result.map(|Verdict { outcome, version, index }| Answer {
                    outcome,
                    version,
                    index,
                    leader,
                    ballot,
                    fast,
                    local,
                });
                request.origin.reply(answer, turn);
            }
        }
    }
}

/// Whether an operation is a read that any replica answers.
pub fn is_local_read(operation: &Operation, moment: Moment<'_>) -> bool {
    moment.config.cluster.reads == ReadMode::Local && operation.is_read()
}
