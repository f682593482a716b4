//! What survives a crash: the records that a node persists, and the state that they add up to.
//!
//! A storage engine may keep records in any form, as long as loading gives what [`DurableState::apply`] gives for the
//! batches that were synced, in their order, each batch wholly or not at all.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{
    api::{Ballot, PartitionId},
    core::{
        entries::Entries,
        kv::{Change, KeyValues},
        log::Log,
        message::{Entry, Table},
    },
};

/// One durable change.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Record {
    /// The cluster's lookup table.
    Table(Table),
    /// The group's election has announced this ballot as its own: never again one at or below it.
    Announced {
        /// The group.
        partition: PartitionId,
        /// The ballot.
        ballot: Ballot,
    },
    /// The group's promise has risen.
    Promised {
        /// The group.
        partition: PartitionId,
        /// The ballot.
        ballot: Ballot,
    },
    /// The log is cut to `start`, entries follow, and all of it is accepted at `accepted_ballot`: atomic.
    Accepted {
        /// The group.
        partition: PartitionId,
        /// The ballot.
        accepted_ballot: Ballot,
        /// Length that the log is cut to.
        start: u64,
        /// What follows.
        entries: Entries,
    },
    /// The group's decided index has risen. Rides along; nothing waits for it.
    Decided {
        /// The group.
        partition: PartitionId,
        /// The decided index.
        decided: u64,
    },
    /// The group's snapshot moves on to `index`, and the log loses its first `start` entries, which the snapshot covers: atomic.
    /// What it holds beyond stays.
    Snapshot {
        /// The group.
        partition: PartitionId,
        /// Number of the last entry that the snapshot reflects.
        index: u64,
        /// At least the keys and sessions that have changed since the snapshot before, as they are at `index`.
        changed: Vec<Change>,
        /// How many entries at the beginning of the log are gone; the log may have been shorter. At most `index`.
        start: u64,
    },
}

impl Record {
    /// About how many bytes it takes.
    pub fn weight(&self) -> usize {
        64 + match self {
            Self::Accepted { entries, .. } => entries.iter().map(Entry::weight).sum(),
            Self::Snapshot { changed, .. } => changed.iter().map(Change::weight).sum(),
            Self::Table(_) | Self::Announced { .. } | Self::Promised { .. } | Self::Decided { .. } => 0,
        }
    }
}

/// What a node finds when it starts again.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct DurableState {
    /// The cluster's lookup table, once agreed on.
    pub table: Option<Table>,
    /// The groups.
    pub groups: BTreeMap<PartitionId, DurableGroup>,
}

/// What a replica of one group finds when it starts again.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct DurableGroup {
    /// The highest ballot that its election announced as its own.
    pub announced: Ballot,
    /// The ballot that it promised.
    pub promised: Ballot,
    /// The ballot at which its log was last accepted.
    pub accepted_ballot: Ballot,
    /// The keys as they were when `applied` entries had been: all that were ever written.
    pub snapshot: KeyValues,
    /// The log. It begins no later than the snapshot ends.
    pub log: Log,
    /// A lower bound of the decided index.
    pub decided: u64,
}

impl DurableState {
    /// Adds a record.
    pub fn apply(&mut self, record: &Record) {
        match record {
            Record::Table(table) => self.table = Some(table.clone()),
            Record::Announced { partition, ballot } => self.group(*partition).announced = *ballot,
            Record::Promised { partition, ballot } => self.group(*partition).promised = *ballot,
            Record::Accepted { partition, accepted_ballot, start, entries } => {
                let group = self.group(*partition);
                group.accepted_ballot = *accepted_ballot;
                group.log.truncate(*start);
                assert_eq!(group.log.length(), *start, "entries follow what the log holds");
                group.log.extend(entries.iter().cloned());
            }
            Record::Decided { partition, decided } => self.group(*partition).decided = *decided,
            Record::Snapshot { partition, index, changed, start } => {
                assert!(start <= index, "no entry is dropped that no snapshot covers");
                let group = self.group(*partition);
                group.snapshot.move_to(*index, changed.iter().cloned());
                group.log.cover(*start);
                assert!(group.log.length() >= *index, "the log goes on where the snapshot ends");
                group.decided = group.decided.max(*index);
            }
        }
    }

    fn group(&mut self, partition: PartitionId) -> &mut DurableGroup {
        self.groups.entry(partition).or_default()
    }
}
