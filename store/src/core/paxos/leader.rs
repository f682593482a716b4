//! The leader's half of Sequence Paxos: prepare, adopt, accept, decide.

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use super::{Paxos, Role, resend_after};
use crate::{
    api::{Ballot, NodeId},
    config::Mutant,
    core::{
        LocalTime, Moment, Turn,
        detector::LONGEST_PERIOD,
        entries::Entries,
        message::{Entry, GroupMessage, Suffix},
    },
};

/// Entries that a leader sends to one follower before the first of them is acknowledged.
const WINDOW: u64 = 4096;

/// Bytes of entries in one Accept, except that one entry always fits.
const BYTES_PER_MESSAGE: usize = 1 << 20;

/// What only a leader knows.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Leader {
    ballot: Ballot,
    last_session: u64,
    peers: BTreeMap<NodeId, Peer>,
    phase: LeaderPhase,
    /// Promises that a planted bug counts again; 0 without it.
    repeated: usize,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum LeaderPhase {
    Prepare { promises: BTreeMap<NodeId, Promised> },
    Accept(Accepting),
}

/// What a leader in the accept phase keeps.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Accepting {
    /// Accepted ballot and length of the log that was adopted.
    adopted: (Ballot, u64),
    /// Length of the own log that is durable under this ballot.
    durable: u64,
    /// Persists that are under way, with the length of the log in each.
    persisting: VecDeque<(u64, u64)>,
    /// About how many bytes the entries take that are not decided.
    undecided: u64,
}

/// What a follower said in its promise.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Promised {
    /// Ballot at which its log was last accepted.
    pub accepted_ballot: Ballot,
    /// Length of its log.
    pub length: u64,
    /// Its decided index.
    pub decided: u64,
    /// What it has beyond this leader.
    pub suffix: Option<Suffix>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Peer {
    session: u64,
    state: PeerState,
    /// How long it may take to acknowledge what was sent.
    patience: Duration,
    /// When something is sent again; none: nothing is outstanding.
    deadline: Option<LocalTime>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum PeerState {
    /// A Prepare is out.
    Preparing,
    /// It has promised; the quorum is not complete.
    Promised,
    /// It was told that it lacks entries that are gone.
    Behind,
    /// AcceptSync was sent; Accept and Decide follow.
    Synced(Synced),
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Synced {
    sequence: u64,
    sent: u64,
    sent_decided: u64,
    /// Length in AcceptSync.
    base: u64,
    /// Durable length that it acknowledged in this session.
    accepted: Option<u64>,
}

/// What became of a promise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PromiseOutcome {
    /// It belongs to another ballot or session.
    Ignored,
    /// It counts.
    Counted,
    /// It completed the quorum: the leader is in the accept phase now.
    Adopted,
}

impl Leader {
    /// The ballot that it leads under.
    pub fn ballot(&self) -> Ballot {
        self.ballot
    }

    /// The accept phase, if it has come to that.
    pub fn accepting(&self) -> Option<&Accepting> {
        match &self.phase {
            LeaderPhase::Accept(accepting) => Some(accepting),
            LeaderPhase::Prepare { .. } => None,
        }
    }

    pub(super) fn next_deadline(&self) -> Option<LocalTime> {
        self.peers.values().filter_map(|peer| peer.deadline).min()
    }

    /// Whether this is the session in which a follower's promise is awaited.
    pub(super) fn awaits_promise(&self, from: NodeId, (ballot, session): (Ballot, u64)) -> bool {
        let preparing = |peer: &Peer| peer.session == session && peer.state == PeerState::Preparing;
        ballot == self.ballot && self.accepting().is_none() && self.peers.get(&from).is_some_and(preparing)
    }

    fn next_session(&mut self) -> u64 {
        self.last_session += 1;
        self.last_session
    }
}

impl Accepting {
    /// Length of the own log that is durable under this ballot.
    pub fn durable(&self) -> u64 {
        self.durable
    }
}

impl Paxos {
    /// Starts to lead with a ballot above its promise. The caller has made sure that the lease allows it. True when this
    /// replica alone is a quorum.
    pub fn lead(&mut self, ballot: Ballot, turn: &mut Turn<'_>) -> bool {
        assert!(ballot > self.promised, "a leader's ballot is above all that it promised");
        assert_eq!(ballot.node, self.group.node, "BLE3: a ballot belongs to one node");
        self.promise(ballot, turn);
        self.role = Role::Leader(Leader {
            ballot,
            last_session: 0,
            peers: BTreeMap::new(),
            phase: LeaderPhase::Prepare { promises: BTreeMap::new() },
            repeated: 0,
        });
        self.prepare_all(turn);
        self.adopt_if_quorum(turn)
    }

    /// Asks all for their promises, first or again: what they promised before was relative to another log of this leader.
    pub(super) fn prepare_all(&mut self, turn: &mut Turn<'_>) {
        let mine = Promised {
            accepted_ballot: self.accepted_ballot,
            length: self.length(),
            decided: self.decided,
            suffix: None,
        };
        let others: Vec<NodeId> = self.group.others().collect();
        let promises = BTreeMap::from([(self.group.node, mine)]);
        let Role::Leader(leader) = &mut self.role else { unreachable!("only a leader prepares") };
        leader.phase = LeaderPhase::Prepare { promises };
        for other in others {
            self.prepare_anew(other, turn);
        }
    }

    /// Opens a new session with those that were to be sent what is gone from the log by now.
    pub(super) fn prepare_who_lags(&mut self, turn: &mut Turn<'_>) {
        let start = self.log.start();
        let Role::Leader(leader) = &self.role else { return };
        let lags = |peer: &Peer| matches!(&peer.state, PeerState::Synced(synced) if synced.sent < start);
        let lagging: Vec<NodeId> =
            leader.peers.iter().filter(|(_, peer)| lags(peer)).map(|(node, _)| *node).collect();
        for node in lagging {
            self.prepare_anew(node, turn);
        }
    }

    /// Opens a new session with a follower: whatever it acknowledged in earlier ones is forgotten.
    pub fn prepare_anew(&mut self, to: NodeId, turn: &mut Turn<'_>) {
        let Role::Leader(leader) = &mut self.role else { return };
        let session = leader.next_session();
        let patience = leader.peers.get(&to).map(|peer| peer.patience);
        let patience = patience.unwrap_or(turn.config.cluster.election_timeout());
        if let LeaderPhase::Prepare { promises } = &mut leader.phase {
            promises.remove(&to);
        }
        leader.peers.insert(to, Peer { session, state: PeerState::Preparing, patience, deadline: None });
        self.send_prepare(to, turn);
    }

    /// Sends the Prepare of the current session, first or again.
    pub fn send_prepare(&mut self, to: NodeId, turn: &mut Turn<'_>) {
        let (decided, accepted_ballot, length) = (self.decided, self.accepted_ballot, self.length());
        // its ballot must be durable, not what was appended since: a stalled disk keeps no follower out of a session
        let needs = self.promised_by;
        let Role::Leader(leader) = &mut self.role else { return };
        let ballot = leader.ballot;
        let Some(peer) = leader.peers.get_mut(&to) else { return };
        peer.deadline = Some(turn.now + resend_after(turn.moment()));
        let session = peer.session;
        let prepare =
            GroupMessage::Prepare { ballot, session, decided, accepted_ballot, length, sent_at: turn.now };
        if turn.has(Mutant::ControlPrepareTwice) {
            turn.reached(Mutant::ControlPrepareTwice);
            turn.send_after(to, self.group.wrap(prepare.clone()), needs);
        }
        turn.send_after(to, self.group.wrap(prepare), needs);
    }

    /// A follower refuses for `wait`, since another holds its grant: tries the same ballot again after that.
    pub fn retry_after(&mut self, from: NodeId, at: LocalTime) {
        let Role::Leader(leader) = &mut self.role else { return };
        if let Some(peer) = leader.peers.get_mut(&from)
            && peer.state == PeerState::Preparing
        {
            peer.deadline = Some(at);
        }
    }

    /// Sends Prepare again to all that have not promised: what kept them from it may be over.
    pub fn retry_now(&mut self, turn: &mut Turn<'_>) {
        let Role::Leader(leader) = &self.role else { return };
        let waiting: Vec<NodeId> = leader
            .peers
            .iter()
            .filter(|(_, peer)| peer.state == PeerState::Preparing)
            .map(|(node, _)| *node)
            .collect();
        for node in waiting {
            self.send_prepare(node, turn);
        }
    }

    /// A promise of a follower, counted once per node.
    pub fn on_promise(
        &mut self,
        from: NodeId,
        (ballot, session): (Ballot, u64),
        promised: Promised,
        turn: &mut Turn<'_>,
    ) -> PromiseOutcome {
        let Role::Leader(leader) = &mut self.role else { return PromiseOutcome::Ignored };
        let Some(peer) = leader.peers.get_mut(&from) else { return PromiseOutcome::Ignored };
        if ballot != leader.ballot || session != peer.session {
            let counts = ballot < leader.ballot && peer.state == PeerState::Preparing;
            if !counts || !turn.has(Mutant::StalePromiseCounted) {
                return PromiseOutcome::Ignored;
            }
            turn.reached(Mutant::StalePromiseCounted);
        }
        match (&mut leader.phase, &peer.state) {
            (_, PeerState::Synced(_)) | (LeaderPhase::Prepare { .. }, PeerState::Behind) => {
                PromiseOutcome::Ignored
            }
            (LeaderPhase::Prepare { .. }, PeerState::Promised) if turn.has(Mutant::PromiseCountedTwice) => {
                leader.repeated += 1;
                if self.adopt_if_quorum(turn) { PromiseOutcome::Adopted } else { PromiseOutcome::Counted }
            }
            (LeaderPhase::Prepare { .. }, PeerState::Promised) => PromiseOutcome::Counted,
            (LeaderPhase::Prepare { promises }, PeerState::Preparing) => {
                promises.insert(from, promised);
                peer.state = PeerState::Promised;
                if self.adopt_if_quorum(turn) { PromiseOutcome::Adopted } else { PromiseOutcome::Counted }
            }
            (LeaderPhase::Accept(_), _) => {
                if turn.has(Mutant::DecidedOfLatePromise) && promised.decided < self.decided {
                    turn.reached(Mutant::DecidedOfLatePromise);
                    self.decided = promised.decided;
                }
                self.sync_to(from, &promised, turn);
                PromiseOutcome::Counted
            }
        }
    }

    fn adopt_if_quorum(&mut self, turn: &mut Turn<'_>) -> bool {
        let quorum = self.group.quorum();
        let Role::Leader(leader) = &mut self.role else { return false };
        let LeaderPhase::Prepare { promises } = &mut leader.phase else { return false };
        if promises.len() + leader.repeated < quorum {
            return false;
        }
        if promises.len() < quorum {
            turn.reached(Mutant::PromiseCountedTwice);
        }
        if turn.has(Mutant::QuorumOfHalf) && promises.len() * 2 == self.group.replicas.len() {
            turn.reached(Mutant::QuorumOfHalf);
        }
        let promises = std::mem::take(promises);
        self.adopt(promises, turn);
        true
    }

    /// Makes the most recent log of a quorum its own, and accepts it at its own ballot, atomically.
    fn adopt(&mut self, mut promises: BTreeMap<NodeId, Promised>, turn: &mut Turn<'_>) {
        let Role::Leader(leader) = &self.role else { unreachable!("only a leader adopts") };
        let ballot = leader.ballot;
        let (best, adopted) = self.best_of(&promises, turn);
        let suffix = promises.get_mut(&best).and_then(|promised| promised.suffix.take());
        let suffix = suffix.unwrap_or_else(|| {
            assert_eq!(best, self.group.node, "who has a more recent log has sent it");
            Suffix { start: self.length(), entries: Entries::default() }
        });
        let accepted_ballot = if turn.has(Mutant::AcceptedBallotNotSet) {
            turn.reached(Mutant::AcceptedBallotNotSet);
            self.accepted_ballot
        } else {
            ballot
        };
        self.replace(accepted_ballot, suffix, turn);
        assert_eq!(self.length(), adopted.1, "the adopted log is the best one");
        let decided = promises.values().map(|promised| promised.decided).max().unwrap_or(0);
        assert!(
            decided <= self.length(),
            "SP2: what any of a quorum knows to be decided is in the adopted log"
        );
        self.decide(decided);
        let Role::Leader(leader) = &mut self.role else { unreachable!("only a leader adopts") };
        let undecided =
            self.log.after(self.decided.max(self.log.start())).map(|entry| entry.weight() as u64).sum();
        leader.phase =
            LeaderPhase::Accept(Accepting { adopted, durable: 0, persisting: VecDeque::new(), undecided });
        for (node, promised) in promises {
            if node != self.group.node {
                self.sync_to(node, &promised, turn);
            }
        }
    }

    /// Whose log is adopted, with its accepted ballot and length: the maximum by ballot, then by length; this replica's own
    /// where it is as recent as any.
    fn best_of(&self, promises: &BTreeMap<NodeId, Promised>, turn: &mut Turn<'_>) -> (NodeId, (Ballot, u64)) {
        let states = || promises.iter().map(|(node, said)| (*node, (said.accepted_ballot, said.length)));
        let own = |node: NodeId| node == self.group.node;
        let best = states().max_by_key(|(node, state)| (*state, own(*node)));
        let wrong = match turn.config.mutant {
            Some(Mutant::AdoptByBallotOnly) => states().max_by_key(|(node, state)| (state.0, own(*node))),
            Some(Mutant::AdoptByLengthOnly) => states().max_by_key(|(node, state)| (state.1, own(*node))),
            _ => best,
        };
        if let (Some(mutant), true) = (turn.config.mutant, wrong != best) {
            turn.reached(mutant);
        }
        wrong.expect("a quorum is never empty")
    }

    /// Brings a follower's log to this leader's: AcceptSync cuts it at the last entry that certainly is the same. If some that
    /// follow that one are gone, the follower is told to fetch what they came to, and comes back.
    fn sync_to(&mut self, to: NodeId, promised: &Promised, turn: &mut Turn<'_>) {
        let (length, decided) = (self.length(), self.decided);
        let Role::Leader(leader) = &mut self.role else { return };
        let LeaderPhase::Accept(accepting) = &leader.phase else { return };
        let (ballot, adopted) = (leader.ballot, accepting.adopted);
        let common = if promised.accepted_ballot == ballot {
            promised.length
        } else if promised.accepted_ballot == adopted.0 {
            promised.length.min(adopted.1)
        } else {
            promised.decided
        };
        // what it knows to be decided is the same, also where a snapshot has taken it beyond what it had accepted
        let mut common = common.max(promised.decided);
        assert!(common <= length, "SP2: what a follower knows to be decided is in its leader's log");
        let Some(peer) = leader.peers.get_mut(&to) else { return };
        if common < self.log.start() && turn.has(Mutant::TrimmedSentAsWhole) {
            turn.reached(Mutant::TrimmedSentAsWhole);
            common = self.log.start();
        }
        if common < self.log.start() {
            peer.state = PeerState::Behind;
            peer.deadline = Some(turn.now + peer.patience);
            let session = (ballot, peer.session);
            return self.tell_trimmed(to, session, turn);
        }
        peer.state = PeerState::Synced(Synced {
            sequence: 0,
            sent: length,
            sent_decided: decided,
            base: length,
            accepted: None,
        });
        peer.deadline = Some(turn.now + peer.patience);
        let session = peer.session;
        let suffix = self.log.suffix(common, length);
        let basis = (promised.accepted_ballot, promised.length);
        let message = GroupMessage::AcceptSync { ballot, session, basis, suffix, decided };
        turn.send(to, self.group.wrap(message));
    }

    /// Appends an entry; the end of the turn sends it and persists it side by side. Its index.
    pub fn propose(&mut self, entry: Entry, turn: &mut Turn<'_>) -> u64 {
        assert!(self.in_accept_phase(), "only a leader in the accept phase proposes");
        assert!(!self.stopped(), "no entry follows a stop-sign");
        self.changed_from(self.length(), turn);
        if let Role::Leader(Leader { phase: LeaderPhase::Accept(accepting), .. }) = &mut self.role {
            accepting.undecided += entry.weight() as u64;
        }
        self.log.push(entry);
        self.trace_stop_sign(turn);
        self.length()
    }

    /// A follower has everything up to `length` durably.
    pub fn on_accepted(
        &mut self,
        from: NodeId,
        (ballot, session): (Ballot, u64),
        length: u64,
        turn: &mut Turn<'_>,
    ) {
        let own_length = self.length();
        let Role::Leader(leader) = &mut self.role else { return };
        if ballot != leader.ballot {
            return;
        }
        let Some(peer) = leader.peers.get_mut(&from) else { return };
        let (PeerState::Synced(synced), true) = (&mut peer.state, peer.session == session) else { return };
        assert!(length <= own_length, "a follower has nothing that its leader did not send");
        synced.accepted = synced.accepted.max(Some(length));
        let done = synced.accepted == Some(synced.sent);
        peer.deadline = (!done).then(|| turn.now + peer.patience);
        self.decide_by_quorum(turn);
    }

    /// A persist of this node is durable.
    pub fn on_persisted(&mut self, number: u64, turn: &mut Turn<'_>) {
        let Role::Leader(leader) = &mut self.role else { return };
        let LeaderPhase::Accept(accepting) = &mut leader.phase else { return };
        while let Some((persist, length)) = accepting.persisting.front().copied() {
            if persist > number {
                break;
            }
            accepting.durable = length;
            accepting.persisting.pop_front();
        }
        self.decide_by_quorum(turn);
    }

    /// Whether this persist of the node is one of what it proposed.
    pub fn waits_for(&self, number: u64) -> bool {
        let Role::Leader(leader) = &self.role else { return false };
        let oldest = leader.accepting().and_then(|accepting| accepting.persisting.front());
        oldest.is_some_and(|(persist, _)| *persist <= number)
    }

    /// What a quorum has durably at this ballot is decided.
    fn decide_by_quorum(&mut self, turn: &mut Turn<'_>) {
        let quorum = self.group.quorum();
        let Role::Leader(leader) = &self.role else { return };
        let LeaderPhase::Accept(accepting) = &leader.phase else { return };
        let accepted = leader.peers.values().filter_map(|peer| match &peer.state {
            PeerState::Synced(synced) => synced.accepted,
            PeerState::Preparing | PeerState::Promised | PeerState::Behind => None,
        });
        let mut own = accepting.durable;
        if turn.has(Mutant::LeaderCountsUnsynced) && own < self.length() {
            turn.reached(Mutant::LeaderCountsUnsynced);
            own = self.length();
        }
        let mut durable: Vec<u64> = accepted.chain([own]).collect();
        let decided = if turn.has(Mutant::ControlDecideByCounting) {
            turn.reached(Mutant::ControlDecideByCounting);
            let by_quorum =
                |length: u64| durable.iter().filter(|durable| **durable >= length).count() >= quorum;
            durable.iter().copied().filter(|length| by_quorum(*length)).max()
        } else {
            durable.sort_unstable_by(|a, b| b.cmp(a));
            durable.get(quorum - 1).copied()
        };
        // a planted bug may have set it back, to where the log has nothing any more
        let before = self.decided.max(self.log.start());
        self.decide(decided.unwrap_or(0));
        let newly: u64 =
            self.log.between(before, self.decided.max(before)).map(|entry| entry.weight() as u64).sum();
        if let Role::Leader(Leader { phase: LeaderPhase::Accept(accepting), .. }) = &mut self.role {
            accepting.undecided = accepting.undecided.saturating_sub(newly);
        }
    }

    /// About how many bytes of a leader's log are not decided: what it has adopted counts, too.
    pub fn undecided(&self) -> u64 {
        let Role::Leader(leader) = &self.role else { return 0 };
        leader.accepting().map_or(0, |accepting| accepting.undecided)
    }

    /// How many entries of this leader's log a replica does not have durably; none if it is in no session with this leader.
    pub fn lag_of(&self, replica: NodeId) -> Option<u64> {
        let Role::Leader(leader) = &self.role else { return None };
        match &leader.peers.get(&replica)?.state {
            PeerState::Synced(synced) => Some(self.length() - synced.accepted?),
            PeerState::Preparing | PeerState::Promised | PeerState::Behind => None,
        }
    }

    /// A follower said in a heartbeat how far it knows the log to be decided: Decide is sent again if it lags.
    pub fn on_follower_decided(&mut self, from: NodeId, decided: u64) {
        let Role::Leader(leader) = &mut self.role else { return };
        if let Some(Peer { state: PeerState::Synced(synced), .. }) = leader.peers.get_mut(&from)
            && synced.accepted == Some(synced.sent)
        {
            synced.sent_decided = synced.sent_decided.min(decided);
        }
    }

    /// Ends a leader's turn: Accept to every synced follower, or Decide when there is nothing to append.
    pub(super) fn announce_as_leader(&mut self, recorded: Option<Suffix>, turn: &mut Turn<'_>) {
        let (decided, length) = (self.decided, self.log.length());
        let Role::Leader(leader) = &mut self.role else { return };
        let LeaderPhase::Accept(accepting) = &mut leader.phase else { return };
        if recorded.is_some() {
            accepting.persisting.push_back((turn.covering(), length));
        }
        let (ballot, log) = (leader.ballot, &self.log);
        let mut latest = recorded.unwrap_or_else(|| Suffix { start: length, entries: Entries::default() });
        for (node, peer) in &mut leader.peers {
            let PeerState::Synced(synced) = &mut peer.state else { continue };
            while synced.sent < length && synced.sent - synced.accepted.unwrap_or(synced.base) < WINDOW {
                let start = synced.sent;
                synced.sent += fitting(log.after(start));
                synced.sent_decided = decided.min(synced.sent);
                synced.sequence += 1;
                peer.deadline.get_or_insert(turn.now + peer.patience);
                // followers that keep up are sent what was just recorded
                if (latest.start, latest.end()) != (start, synced.sent) {
                    latest = log.suffix(start, synced.sent);
                }
                let suffix = latest.clone();
                let (session, sequence) = (peer.session, synced.sequence);
                turn.send(
                    *node,
                    self.group.wrap(GroupMessage::Accept { ballot, session, sequence, suffix, decided }),
                );
            }
            if synced.sent_decided < decided.min(synced.sent) {
                synced.sent_decided = decided.min(synced.sent);
                synced.sequence += 1;
                let (session, sequence) = (peer.session, synced.sequence);
                turn.send(
                    *node,
                    self.group.wrap(GroupMessage::Decide { ballot, session, sequence, decided }),
                );
            }
        }
    }

    /// Prepare again to all in the prepare phase (which also keeps their grants fresh); in the accept phase to those that
    /// have not promised, and in a new session to those that acknowledge nothing or have not come back.
    pub(super) fn resend_as_leader(&mut self, turn: &mut Turn<'_>) {
        let Role::Leader(leader) = &self.role else { return };
        let late: Vec<(NodeId, bool)> = leader
            .peers
            .iter()
            .filter(|(_, peer)| peer.deadline.is_some_and(|deadline| deadline <= turn.now))
            .map(|(node, peer)| (*node, matches!(peer.state, PeerState::Synced(_) | PeerState::Behind)))
            .collect();
        for (node, told) in late {
            if told {
                self.be_more_patient(node, turn.moment());
                self.prepare_anew(node, turn);
            } else {
                self.send_prepare(node, turn);
            }
        }
    }

    /// What was sent may not be lost but slow: a new session that comes before its answer can would never be answered either.
    fn be_more_patient(&mut self, with: NodeId, moment: Moment<'_>) {
        let Role::Leader(leader) = &mut self.role else { return };
        if let Some(peer) = leader.peers.get_mut(&with) {
            let longest = moment.config.cluster.election_timeout() * LONGEST_PERIOD;
            peer.patience = (peer.patience * 2).min(longest);
        }
    }
}

/// How many of these entries one Accept takes.
fn fitting<'a>(entries: impl Iterator<Item = &'a Entry>) -> u64 {
    let mut bytes = 0;
    let fit = entries.take_while(|entry| {
        bytes += entry.weight();
        bytes <= BYTES_PER_MESSAGE
    });
    fit.count().max(1) as u64
}
