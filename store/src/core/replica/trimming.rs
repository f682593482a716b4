//! When a replica makes a snapshot and trims its log.
//!
//! A snapshot is the keys as they are after the last entry applied. Only what has changed since the one before is written, in
//! the batch that moves its index and drops entries from the log: so after a crash keys, index and log fit together (etcd 13766),
//! and no entry is gone that no snapshot covers (omnipaxos 0.2.4). What has changed are the keys that the entries between have
//! written, at most as many bytes as these: a write is written twice at most, however many keys there are. The log in memory is
//! trimmed from when all that is durable, a piece in each turn. Where there is no disk no keys are gathered.
//!
//! Entries that the snapshot covers stay for members that are not known to have them decided, or acknowledged to the leader, within
//! the budget: a dead member stops nothing. Each replica trims by itself. A stop-sign is never covered, so that whoever has the log
//! of a stopped group knows it (L7).

use std::collections::BTreeMap;

use super::Replica;
use crate::{
    api::NodeId,
    config::{Mutant, TrimConfig},
    core::{
        Turn,
        durable::Record,
        kv::Change,
        message::{Entry, GroupMessage},
        trace::TraceEvent,
    },
};

/// Entries that are dropped in a turn, unless there are very many: to free a hundred thousand takes long enough to be missed.
const AT_ONCE: u64 = 1024;

/// In memory nothing is written: a snapshot comes after so many bytes at the latest, and entries go while the processor still has
/// them at hand (16 partitions, with what followers are told: 1.2 times as many writes).
const IN_MEMORY: u64 = 16 << 10;

/// Of very many entries this part is dropped in a turn, so that they do not grow more, however many each turn brings.
const PART: u64 = 8;

/// What a replica knows of its snapshot and of the others.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Trimming {
    /// Number of the last entry that the snapshot reflects.
    snapshot: u64,
    /// Bytes of the entries that were applied since.
    bytes: u64,
    /// How far the others have said that they know the log to be decided, or the leader that they have it.
    told: BTreeMap<NodeId, u64>,
    /// The persist that makes it durable, and how many entries are to go after that.
    pending: Option<(u64, u64)>,
    /// How many entries are to go, since a snapshot that covers them is durable.
    free_to: u64,
    /// Keys that a planted bug makes durable one turn late.
    late: Vec<Change>,
}

impl Trimming {
    pub(super) fn new(snapshot: u64) -> Self {
        let (told, late) = (BTreeMap::new(), Vec::new());
        Self { snapshot, bytes: 0, told, pending: None, free_to: 0, late }
    }

    /// An entry is applied.
    pub(super) fn applied(&mut self, entry: &Entry) {
        self.bytes += entry.weight() as u64;
    }

    /// Whether something is to be done once this persist is durable.
    pub(super) fn waits_for(&self, number: u64) -> bool {
        self.pending.is_some_and(|(persist, _)| persist <= number)
    }

    /// Whether a planted bug has kept keys back for the next turn.
    pub(super) fn owes_keys(&self) -> bool {
        !self.late.is_empty()
    }

    /// Another replica has said how far it knows the log to be decided.
    pub(super) fn told(&mut self, from: NodeId, decided: u64) {
        self.told.insert(from, decided);
    }
}

impl Replica {
    /// Ends a turn, after the log was recorded: what a snapshot covers is in the log on disk before it.
    pub(super) fn trim_if_due(&mut self, turn: &mut Turn<'_>) {
        self.persist_late_keys(turn);
        let index = self.covered();
        let TrimConfig { snapshot_after_bytes, keep_log_bytes } = turn.config.cluster.trimming_of_each();
        // where nothing is kept, who lags has as long as it takes to the next snapshot
        let most = if turn.has_disk() || keep_log_bytes == 0 { u64::MAX } else { IN_MEMORY };
        if self.trimming.bytes < snapshot_after_bytes.min(most)
            || index == self.trimming.snapshot
            || self.trimming.pending.is_some()
        {
            return;
        }
        let changed = self.changed_until(index, turn);
        let had_by_all = self.had_by_all(index);
        let start = self.first_to_keep(had_by_all, index, turn);
        self.persist_snapshot(index, changed, start, turn);
        self.tell_what_all_have(had_by_all, turn);
        self.trimming.pending = Some((turn.covering(), start));
        let partition = self.paxos.group().partition;
        turn.trace(|| TraceEvent::Snapshot { partition, index, start, fetched: false });
    }

    /// A persist of this node is durable: if that is the snapshot's, or a later one, the log need not have what it covers.
    pub(super) fn trim_durable(&mut self, number: u64) {
        if let Some((_, start)) = self.trimming.pending.take_if(|(persist, _)| *persist <= number) {
            self.trimming.free_to = start;
        }
    }

    /// Drops a piece of what is to go.
    pub(super) fn free_a_piece(&mut self, turn: &mut Turn<'_>) {
        if self.has_more_to_free() {
            self.paxos.trim(next_start(self.paxos.log().start(), self.trimming.free_to), turn);
        }
    }

    /// Whether the log still has what a durable snapshot lets go.
    pub(super) fn has_more_to_free(&self) -> bool {
        self.paxos.log().start() < self.trimming.free_to
    }

    /// The last entry that a snapshot of the keys reflects: a stop-sign changes none, and is left for the log.
    pub(super) fn covered(&self) -> u64 {
        let applied = self.kv.applied();
        if self.paxos.stopped() && applied == self.paxos.length() { applied - 1 } else { applied }
    }

    /// What has changed from the snapshot until entry `index`, which is applied, for the disk, if there is one.
    pub(super) fn changed_until(&self, index: u64, turn: &Turn<'_>) -> Vec<Change> {
        if !turn.has_disk() {
            return Vec::new();
        }
        let snapshot = self.trimming.snapshot;
        self.kv.changed_by(snapshot, self.paxos.log().between(snapshot, index))
    }

    /// The snapshot moves on to `index`, and the log on disk loses its first `start` entries.
    pub(super) fn persist_snapshot(
        &mut self,
        index: u64,
        mut changed: Vec<Change>,
        start: u64,
        turn: &mut Turn<'_>,
    ) {
        assert!(start <= index, "no entry is dropped that no snapshot covers");
        (self.trimming.snapshot, self.trimming.bytes, self.trimming.pending) = (index, 0, None);
        if turn.has(Mutant::SnapshotIndexBeforeKeys) {
            turn.reached(Mutant::SnapshotIndexBeforeKeys);
            self.trimming.late = std::mem::take(&mut changed);
        }
        let partition = self.paxos.group().partition;
        turn.persist(|| Record::Snapshot { partition, index, changed, start });
    }

    fn persist_late_keys(&mut self, turn: &mut Turn<'_>) {
        let changed = std::mem::take(&mut self.trimming.late);
        if !changed.is_empty() {
            let (partition, index) = (self.paxos.group().partition, self.trimming.snapshot);
            turn.persist(|| {
                let start = self.paxos.log().start();
                Record::Snapshot { partition, index, changed, start }
            });
        }
    }

    /// How many of the first `index` entries all others are known to have. What is decided, and a follower has acknowledged, is in
    /// its log for good, before a heartbeat tells that it knows.
    fn had_by_all(&self, index: u64) -> u64 {
        let told = |node: NodeId| self.trimming.told.get(&node).copied().unwrap_or(0);
        let acknowledged = |node| self.paxos.lag_of(node).map_or(0, |lag| self.paxos.length() - lag);
        let has = |node| told(node).max(acknowledged(node));
        self.paxos.group().others().map(has).min().unwrap_or(index).min(index)
    }

    /// What the others have is kept only within the budget, and nothing goes that the snapshot does not cover.
    fn first_to_keep(&self, had_by_all: u64, index: u64, turn: &Turn<'_>) -> u64 {
        let TrimConfig { keep_log_bytes, .. } = turn.config.cluster.trimming_of_each();
        self.paxos.log().within(keep_log_bytes, had_by_all).min(index)
    }

    /// A leader tells its followers, which keep entries for one another and else hear of one another only by heartbeats.
    fn tell_what_all_have(&self, length: u64, turn: &mut Turn<'_>) {
        let TrimConfig { keep_log_bytes, .. } = turn.config.cluster.trimming_of_each();
        let Some(ballot) = self.serving() else { return };
        // while a member lacks what the log begins with there is nothing to tell, and without a budget nothing is kept
        if keep_log_bytes > 0 && length > self.paxos.log().start() {
            for node in self.paxos.group().others() {
                // all includes this replica: what it has is durable with its snapshot
                let told = GroupMessage::AcceptedByAll { ballot, length };
                turn.send_durable(node, self.paxos.group().wrap(told));
            }
        }
    }

    /// Its leader has said what all have. A member that had told of more than it had synced, and crashed, says so itself.
    pub(super) fn on_accepted_by_all(&mut self, length: u64) {
        for node in self.paxos.group().others() {
            let told = self.trimming.told.entry(node).or_default();
            *told = length.max(*told);
        }
    }
}

/// Where a log that begins at `start` begins after the next piece of what it is to lose, up to `goal`.
fn next_start(start: u64, goal: u64) -> u64 {
    goal.min(start + AT_ONCE.max((goal - start) / PART))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_log_is_trimmed_in_pieces_and_all_of_it_in_the_end() {
        assert_eq!(next_start(0, AT_ONCE), AT_ONCE, "a short one at once");
        let starts: Vec<u64> =
            std::iter::successors(Some(0), |start| (*start < 100_000).then(|| next_start(*start, 100_000)))
                .collect();
        assert_eq!(starts.last(), Some(&100_000));
        assert!(starts.len() < 50, "{}", starts.len());
        assert!(starts.windows(2).all(|pair| pair[1] > pair[0] && pair[1] - pair[0] <= 100_000 / PART));
    }

    /// Each turn brings far more entries than a short piece takes, and a snapshot of all of them is durable with it.
    #[test]
    fn a_log_that_grows_fast_does_not_grow_without_bound() {
        const EACH: u64 = 20 * AT_ONCE;
        let mut start = 0;
        for turn in 1..10_000 {
            let length = turn * EACH;
            start = next_start(start, length);
            assert!(length - start <= PART * EACH, "turn {turn}: {} entries", length - start);
        }
    }
}
