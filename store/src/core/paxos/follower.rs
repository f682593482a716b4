//! The follower's half of Sequence Paxos: promise, synchronise, append, acknowledge.

use super::{Paxos, Role, resend_after};
use crate::{
    api::{Ballot, NodeId},
    config::Mutant,
    core::{
        LocalTime, Turn,
        message::{GroupMessage, Suffix},
    },
};

/// What only a follower knows.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Follower {
    /// Highest session of the promised ballot that this follower has answered; 0: none.
    session: u64,
    pub(super) phase: FollowerPhase,
}

/// How far a follower has come with its leader.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum FollowerPhase {
    /// It asks to be prepared anew.
    Recover {
        /// When it asks again.
        deadline: LocalTime,
    },
    /// It has promised and waits for AcceptSync.
    Prepare,
    /// It appends what comes.
    Accept {
        /// Number of the message that comes next.
        next_sequence: u64,
        /// Something is to be acknowledged at the end of the turn.
        acknowledge: bool,
    },
}

/// A leader's Prepare.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Prepare {
    /// The ballot.
    pub ballot: Ballot,
    /// The session.
    pub session: u64,
    /// The leader's decided index.
    pub decided: u64,
    /// The ballot of its last accepted entry.
    pub accepted_ballot: Ballot,
    /// Length of its log.
    pub length: u64,
    /// Its clock.
    pub sent_at: LocalTime,
}

impl Follower {
    pub(super) fn recovering(now: LocalTime) -> Self {
        Self { session: 0, phase: FollowerPhase::Recover { deadline: now } }
    }

    pub(super) fn next_deadline(&self) -> Option<LocalTime> {
        match self.phase {
            FollowerPhase::Recover { deadline } => Some(deadline),
            FollowerPhase::Prepare | FollowerPhase::Accept { .. } => None,
        }
    }
}

impl Paxos {
    /// Promises, and says what the leader lacks; if that is gone from the log, says so instead: such a promise does not count
    /// before the leader has fetched it and asks again. The caller has made sure that the lease allows it, and that this replica
    /// does not lead; `granted`: it grants the lease with it. False when the Prepare is stale and was not answered.
    pub fn on_prepare(&mut self, from: NodeId, prepare: Prepare, granted: bool, turn: &mut Turn<'_>) -> bool {
        let Role::Follower(follower) = &mut self.role else { unreachable!("a leader steps down first") };
        assert!(prepare.ballot >= self.promised, "an acceptor answers nothing below its promise");
        if prepare.ballot == self.promised && !follower.accepts_session(prepare.session) {
            return false;
        }
        *follower = Follower { session: prepare.session, phase: FollowerPhase::Prepare };
        self.promise(prepare.ballot, turn);
        let longer = self.length() > prepare.length;
        let lacking = if turn.has(Mutant::AdoptByLengthOnly) {
            longer.then_some(prepare.decided)
        } else if self.accepted_ballot > prepare.accepted_ballot {
            // a snapshot may have taken the leader beyond this log; then another of the quorum has the best one
            Some(prepare.decided.min(self.length()))
        } else if self.accepted_ballot == prepare.accepted_ballot && longer {
            Some(prepare.length)
        } else {
            None
        };
        let suffix = lacking.and_then(|start| self.suffix(start));
        if lacking.is_some() && suffix.is_none() {
            self.tell_trimmed(from, (prepare.ballot, prepare.session), turn);
            return true;
        }
        let promise = GroupMessage::Promise {
            ballot: prepare.ballot,
            session: prepare.session,
            accepted_ballot: self.accepted_ballot,
            length: self.length(),
            decided: self.decided,
            suffix,
            granted: granted.then_some(prepare.sent_at),
        };
        if turn.has(Mutant::PromiseNotDurable) {
            turn.reached(Mutant::PromiseNotDurable);
            turn.send(from, self.group.wrap(promise));
        } else {
            turn.send_durable(from, self.group.wrap(promise));
        }
        true
    }

    /// Whether word of this session that something is gone from the sender's log is for this replica to act upon: it has
    /// promised and waits to be synchronised, or it leads and waits for the sender's promise.
    pub fn awaits(&self, from: NodeId, (ballot, session): (Ballot, u64)) -> bool {
        match &self.role {
            Role::Leader(leader) => leader.awaits_promise(from, (ballot, session)),
            Role::Follower(follower) => {
                ballot == self.promised
                    && from == ballot.node
                    && session == follower.session
                    && follower.phase == FollowerPhase::Prepare
            }
        }
    }

    /// The leader's log replaces this follower's, from the last entry that is the same.
    pub fn on_accept_sync(
        &mut self,
        (ballot, session): (Ballot, u64),
        basis: (Ballot, u64),
        mut suffix: Suffix,
        decided: u64,
        turn: &mut Turn<'_>,
    ) {
        let (promised, current) = (self.promised, (self.accepted_ballot, self.length()));
        let Role::Follower(follower) = &mut self.role else { return };
        let awaited =
            session == follower.session && follower.phase == FollowerPhase::Prepare && basis == current;
        if ballot != promised || !awaited && !turn.has(Mutant::StaleAcceptSync) {
            return;
        }
        if !awaited {
            turn.reached(Mutant::StaleAcceptSync);
            follower.session = session;
        }
        follower.phase = FollowerPhase::Accept { next_sequence: 1, acknowledge: true };
        assert!(
            self.accepted_ballot != ballot || suffix.start == self.length(),
            "SP2: nothing that was acknowledged at a ballot is cut off at that ballot"
        );
        if turn.has(Mutant::CutAtOwnDecided) && suffix.start > self.decided {
            turn.reached(Mutant::CutAtOwnDecided);
            suffix.start = self.decided;
        }
        self.replace(ballot, suffix, turn);
        self.decide(decided);
    }

    /// Appends the leader's entries.
    pub fn on_accept(
        &mut self,
        from: NodeId,
        (ballot, session, sequence): (Ballot, u64, u64),
        suffix: Suffix,
        decided: u64,
        turn: &mut Turn<'_>,
    ) {
        if !self.is_next(from, (ballot, session, sequence), turn) {
            return;
        }
        assert_eq!(suffix.start, self.length(), "an Accept of this session follows what the log holds");
        self.changed_from(suffix.start, turn);
        self.log.extend(suffix.entries.into_vec());
        self.trace_stop_sign(turn);
        self.decide(decided);
        if let Role::Follower(Follower { phase: FollowerPhase::Accept { acknowledge, .. }, .. }) =
            &mut self.role
        {
            *acknowledge = true;
        }
    }

    /// Learns what is decided.
    pub fn on_decide(
        &mut self,
        from: NodeId,
        (ballot, session, sequence): (Ballot, u64, u64),
        decided: u64,
        turn: &mut Turn<'_>,
    ) {
        if self.is_next(from, (ballot, session, sequence), turn) {
            self.decide(decided);
        }
    }

    /// Whether a message is the next one of this session; asks to be prepared anew when one is missing.
    fn is_next(
        &mut self,
        from: NodeId,
        (ballot, session, sequence): (Ballot, u64, u64),
        turn: &mut Turn<'_>,
    ) -> bool {
        let promised = self.promised;
        let Role::Follower(follower) = &mut self.role else { return false };
        if ballot != promised || session != follower.session {
            return false;
        }
        let FollowerPhase::Accept { next_sequence, .. } = &mut follower.phase else { return false };
        if sequence > *next_sequence {
            self.recover_from(from, turn);
            return false;
        }
        let is_next = sequence == *next_sequence;
        *next_sequence += u64::from(is_next);
        is_next
    }

    /// The connection to the leader was lost, and messages with it: asks that leader to prepare this follower anew.
    pub fn on_session(&mut self, from: NodeId, turn: &mut Turn<'_>) {
        if matches!(self.role, Role::Follower(_)) && self.promised.node == from {
            self.recover_from(from, turn);
        }
    }

    fn recover_from(&mut self, from: NodeId, turn: &mut Turn<'_>) {
        let Role::Follower(follower) = &mut self.role else { return };
        follower.phase = FollowerPhase::Recover { deadline: turn.now + resend_after(turn.moment()) };
        turn.send(from, self.group.wrap(GroupMessage::PrepareReq { promised: self.promised }));
    }

    pub(super) fn resend_as_follower(&mut self, turn: &mut Turn<'_>) {
        let Role::Follower(follower) = &mut self.role else { return };
        let FollowerPhase::Recover { deadline } = &mut follower.phase else { return };
        if *deadline > turn.now {
            return;
        }
        *deadline = turn.now + resend_after(turn.moment());
        for other in self.group.others() {
            turn.send(other, self.group.wrap(GroupMessage::PrepareReq { promised: self.promised }));
        }
    }

    /// Ends a follower's turn: one Accepted for all that was appended, once it is durable.
    pub(super) fn acknowledge(&mut self, turn: &mut Turn<'_>) {
        let (ballot, length) = (self.promised, self.length());
        let Role::Follower(follower) = &mut self.role else { return };
        let FollowerPhase::Accept { acknowledge, .. } = &mut follower.phase else { return };
        if std::mem::take(acknowledge) {
            let accepted =
                self.group.wrap(GroupMessage::Accepted { ballot, session: follower.session, length });
            if turn.has(Mutant::ControlAcceptedTwice) {
                turn.reached(Mutant::ControlAcceptedTwice);
                turn.send_durable(ballot.node, accepted.clone());
            }
            if turn.has(Mutant::AcceptedNotDurable) {
                turn.reached(Mutant::AcceptedNotDurable);
                return turn.send(ballot.node, accepted);
            }
            turn.send_durable(ballot.node, accepted);
        }
    }
}

impl Follower {
    /// Whether a Prepare of the promised ballot is to be answered: one of a newer session, or the current one again while
    /// nothing has followed it.
    fn accepts_session(&self, session: u64) -> bool {
        session > self.session || session == self.session && self.phase == FollowerPhase::Prepare
    }
}
