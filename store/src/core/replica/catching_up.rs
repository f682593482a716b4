//! How a replica catches up with another whose log no longer reaches back to what it lacks.
//!
//! A leader that has to bring such a follower up to date, or an acceptor that has to show a candidate what it accepted, says
//! `Trimmed` instead. Who is told so fetches what has changed since the last entry that it applied, piece by piece: one piece is
//! on its way at a time, so that the slower side sets the pace. With the last piece keys, snapshot and log move on together, in
//! one batch; then it asks to be prepared anew, or, as a candidate, asks all for their promises again.
//!
//! Why it is safe: a snapshot reflects decided entries only. They are the same at every ballot, so it does not matter under
//! which it was fetched, or from whom; the accepted ballot does not change with it, but with the AcceptSync that follows. A
//! replica that appends does not need one and takes none, so that one that comes late cuts nothing off (camunda 6092). Each piece
//! repeats number and basis of its request: what belongs to an earlier one is dropped.
//!
//! The sender keeps what it hands out for a while, so that the fetch goes on where it stopped when a connection or a leadership
//! ended. If it no longer has it (it restarted, or much time went by), or if another has to be asked, the fetch begins anew.

use std::{collections::BTreeMap, time::Duration};

use super::{Replica, Standing};
use crate::{
    api::{Ballot, NodeId},
    config::Mutant,
    core::{
        LocalTime, Moment, Turn, detector::LONGEST_PERIOD, kv::Change, message::GroupMessage,
        trace::TraceEvent,
    },
};

/// Bytes of keys in one piece, except that one key always fits, and that frequent snapshots come in small pieces. Heartbeats wait
/// behind a piece, so that a slow link must bear one within an election timeout.
const BYTES_PER_PIECE: u64 = 256 << 10;

/// What a replica fetches, and what it hands out.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct CatchingUp {
    fetch: Option<Fetch>,
    handed_out: BTreeMap<NodeId, HandedOut>,
    /// Number of the last request.
    requests: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Fetch {
    from: NodeId,
    /// Entries that were applied when it began.
    since: u64,
    /// What the snapshot reflects; 0: no piece has come yet.
    index: u64,
    changed: Vec<Change>,
    /// How long a piece may take.
    patience: Duration,
    deadline: LocalTime,
    /// The last request was not the first for its piece.
    late: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct HandedOut {
    since: u64,
    index: u64,
    changed: Vec<Change>,
    asked: LocalTime,
}

impl CatchingUp {
    /// Whether a fetch is under way.
    pub(super) fn fetches(&self) -> bool {
        self.fetch.is_some()
    }

    /// Whether it keeps something that others fetch, and forgets in time.
    pub(super) fn hands_out(&self) -> bool {
        !self.handed_out.is_empty()
    }

    pub(super) fn next_deadline(&self) -> Option<LocalTime> {
        self.fetch.as_ref().map(|fetch| fetch.deadline)
    }
}

impl Replica {
    // ---- who fetches ---------------------------------------------------------------------------------------------

    /// What this replica lacks is gone from another's log. A fetch that gets on goes on, whoever it is from.
    pub(super) fn on_trimmed(&mut self, from: NodeId, session: (Ballot, u64), turn: &mut Turn<'_>) {
        let goes_on = self.catching_up.fetch.as_ref().is_some_and(|fetch| fetch.from == from || !fetch.late);
        if goes_on || !self.paxos.awaits(from, session) {
            return;
        }
        self.catching_up.fetch = Some(Fetch {
            from,
            since: self.kv.applied(),
            index: 0,
            changed: Vec::new(),
            patience: turn.config.cluster.election_timeout(),
            deadline: turn.now,
            late: false,
        });
        self.ask_for_piece(turn);
    }

    fn ask_for_piece(&mut self, turn: &mut Turn<'_>) {
        let ballot = self.paxos.promised();
        let Some(fetch) = &mut self.catching_up.fetch else { return };
        self.catching_up.requests += 1;
        fetch.deadline = turn.now + fetch.patience;
        let request = GroupMessage::FetchSnapshot {
            ballot,
            number: self.catching_up.requests,
            since: fetch.since,
            index: fetch.index,
            offset: fetch.changed.len() as u64,
        };
        turn.send(fetch.from, self.paxos.group().wrap(request));
    }

    /// A piece that is awaited is added, or begins another snapshot, if the sender no longer has the one of which there are
    /// pieces.
    pub(super) fn on_piece(
        &mut self,
        from: NodeId,
        (number, since): (u64, u64),
        (index, offset): (u64, u64),
        changed: Vec<Change>,
        last: bool,
        turn: &mut Turn<'_>,
    ) {
        let awaited = self.catching_up.requests;
        let Some(fetch) = &mut self.catching_up.fetch else { return };
        if from != fetch.from || number != awaited || since != fetch.since {
            return;
        }
        if index != fetch.index && offset == 0 {
            (fetch.index, fetch.changed) = (index, Vec::new());
        }
        if (index, offset) != (fetch.index, fetch.changed.len() as u64) {
            return;
        }
        fetch.changed.extend(changed);
        fetch.late = false;
        // a candidate that gets on need not give up
        if let Standing::Leader(leadership) = &mut self.standing {
            leadership.began = turn.now;
        }
        if last { self.install(turn) } else { self.ask_for_piece(turn) }
    }

    /// All pieces are there: keys, snapshot and log move on together.
    fn install(&mut self, turn: &mut Turn<'_>) {
        let fetch = self.catching_up.fetch.take();
        if turn.has(Mutant::LateSnapshotTruncates) {
            self.catching_up.fetch.clone_from(&fetch);
            if fetch.as_ref().is_some_and(|fetch| fetch.since < self.kv.applied()) {
                turn.reached(Mutant::LateSnapshotTruncates);
            }
        }
        let Some(Fetch { since, index, changed, .. }) = fetch else { return };
        assert_eq!(
            self.kv.applied(),
            since,
            "SP3: a snapshot that comes late does not undo what was applied"
        );
        let (partition, before) = (self.paxos.group().partition, self.changed_until(since, turn));
        self.paxos.install(index, turn);
        let changed =
            if turn.has(Mutant::SessionsNotInSnapshot) { changed } else { self.kv.closing(changed) };
        self.kv.move_to(index, changed.iter().cloned());
        // what the snapshot has of a key is newer than what was applied here before
        self.persist_snapshot(index, before.into_iter().chain(changed).collect(), index, turn);
        turn.trace(|| TraceEvent::Snapshot { partition, index, start: index, fetched: true });
    }

    /// Who appends lacks nothing.
    pub(super) fn stop_fetching_in_session(&mut self, turn: &Turn<'_>) {
        if self.paxos.in_session() && !turn.has(Mutant::LateSnapshotTruncates) {
            self.catching_up.fetch = None;
        }
    }

    /// The connection from another is new: what it was to bring may be lost.
    pub(super) fn fetch_again_from(&mut self, from: NodeId, turn: &mut Turn<'_>) {
        if self.catching_up.fetch.as_ref().is_some_and(|fetch| fetch.from == from) {
            self.ask_for_piece(turn);
        }
    }

    /// Asks again for a piece that does not come, with more patience: it may be slow. Forgets what nobody fetches any more.
    pub(super) fn fetch_on_time(&mut self, turn: &mut Turn<'_>) {
        let longest = turn.config.cluster.election_timeout() * LONGEST_PERIOD;
        if let Some(fetch) = self.catching_up.fetch.as_mut().filter(|fetch| fetch.deadline <= turn.now) {
            fetch.late = true;
            fetch.patience = (fetch.patience * 2).min(longest);
            self.ask_for_piece(turn);
        }
        let now = turn.now;
        self.catching_up.handed_out.retain(|_, handed_out| now.since(handed_out.asked) <= longest * 2);
    }

    // ---- who hands out -------------------------------------------------------------------------------------------

    /// Another wants the next piece; of a snapshot that is not here any more, it is given the first of a new one.
    pub(super) fn on_fetch(
        &mut self,
        from: NodeId,
        (ballot, number): (Ballot, u64),
        since: u64,
        (index, offset): (u64, u64),
        turn: &mut Turn<'_>,
    ) {
        let same = |known: &HandedOut| (known.index, known.since) == (index, since);
        let (known, covered) = (self.catching_up.handed_out.get(&from).is_some_and(same), self.covered());
        if !known && covered <= since {
            return;
        }
        if !known {
            let changed = self.changed_for_another(since, turn);
            let handed_out = HandedOut { since, index: covered, changed, asked: turn.now };
            self.catching_up.handed_out.insert(from, handed_out);
        }
        let Some(handed_out) = self.catching_up.handed_out.get_mut(&from) else { return };
        handed_out.asked = turn.now;
        let offset = if known { offset } else { 0 };
        let rest = handed_out.changed.get(offset as usize..).unwrap_or_default();
        let fits = fitting(rest, turn.moment());
        let piece = GroupMessage::SnapshotPiece {
            ballot,
            number,
            since,
            index: handed_out.index,
            offset,
            changed: rest[..fits].to_vec(),
            last: fits == rest.len(),
        };
        turn.send(from, self.paxos.group().wrap(piece));
    }

    /// What has changed since entry `since`; a planted bug leaves the sessions out.
    fn changed_for_another(&self, since: u64, turn: &mut Turn<'_>) -> Vec<Change> {
        let mut changed = self.kv.changed_since(since);
        if turn.has(Mutant::SessionsNotInSnapshot) {
            let all = changed.len();
            changed.retain(|change| matches!(change, Change::Key(..) | Change::SessionStays(_)));
            if changed.len() < all {
                turn.reached(Mutant::SessionsNotInSnapshot);
            }
        }
        changed
    }
}

/// How many of these keys one piece takes.
fn fitting(rest: &[Change], moment: Moment<'_>) -> usize {
    let limit = BYTES_PER_PIECE.min(moment.config.cluster.trimming.snapshot_after_bytes);
    let mut bytes = 0;
    let fit = rest.iter().take_while(|change| {
        bytes += change.weight() as u64;
        bytes <= limit
    });
    fit.count().max(1).min(rest.len())
}
