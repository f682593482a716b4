//! The keys and sessions of the snapshots, in a log-structured tree of sorted tables.
//!
//! The tree has no log of its own: what it was told is in its memory, until it is flushed into a table. It knows of how many
//! writes of the log it has seen the snapshots, and that is in the tables with them. So whatever it has lost with the process is
//! told to it again from the log, which keeps it until the tree is flushed.

use std::{path::Path, sync::Arc};

use lsm_tree::{
    AbstractTree, AnyTree, Cache, Config, Guard, SeqNo, SequenceNumberCounter, compaction::Leveled,
};
use serde::{Serialize, de::DeserializeOwned};

use super::StorageError;
use crate::{
    api::{Key, PartitionId},
    core::kv::{Change, KeyValues},
};

/// Bytes that it keeps in memory before it makes a table of them.
const UNFLUSHED: u64 = 16 << 20;

/// Bytes of tables that it keeps in memory: they are read when a node starts, and when tables are merged.
const CACHED: u64 = 1 << 20;

/// How often tables are merged after a flush, at most.
const MERGES: u32 = 3;

/// Key of the number of the last write of the log whose snapshots it has seen.
const POSITION: &[u8] = b"position";

/// A snapshot of one group that has moved on.
#[derive(Debug)]
pub struct Moved {
    /// The group.
    pub partition: PartitionId,
    /// Number of the last entry that the snapshot reflects.
    pub index: u64,
    /// What has changed.
    pub changed: Vec<Change>,
}

/// The tree.
pub struct Keys {
    tree: AnyTree,
    sequence: SequenceNumberCounter,
    visible: SequenceNumberCounter,
    position: u64,
    /// Something is in memory only.
    unflushed: bool,
}

impl Keys {
    /// Opens or makes it in `folder`.
    pub fn open(folder: &Path) -> Result<Self, StorageError> {
        let (sequence, visible) = (SequenceNumberCounter::default(), SequenceNumberCounter::default());
        let tree = Config::new(folder, sequence.clone(), visible.clone())
            .use_cache(Arc::new(Cache::with_capacity_bytes(CACHED)))
            .open()?;
        let next = tree.get_highest_seqno().map_or(0, |highest| highest + 1);
        sequence.fetch_max(next);
        visible.fetch_max(next);
        let mut keys = Self { tree, sequence, visible, position: 0, unflushed: false };
        keys.position = keys.load(POSITION)?.unwrap_or(0);
        Ok(keys)
    }

    /// The last write of the log whose snapshots it has seen.
    pub fn position(&self) -> u64 {
        self.position
    }

    /// Takes all that write `number` of the log has of snapshots. No flush comes between, so tables have all of it or nothing.
    pub fn take(&mut self, number: u64, snapshots: &[Moved]) -> Result<(), StorageError> {
        assert!(number > self.position, "the tree has seen the snapshots of write {number} before");
        let sequence = self.sequence.next();
        for Moved { partition, index, changed } in snapshots {
            for change in changed {
                self.insert(*partition, change, sequence);
            }
            self.tree.insert(name(*partition, b'i'), bytes(index), sequence);
        }
        self.tree.insert(POSITION, bytes(&number), sequence);
        self.visible.fetch_max(sequence + 1);
        (self.position, self.unflushed) = (number, true);
        if self.tree.active_memtable().size() > UNFLUSHED { self.flush() } else { Ok(()) }
    }

    fn insert(&self, partition: PartitionId, change: &Change, number: SeqNo) {
        match change {
            Change::Key(key, held) => {
                self.tree.insert(name_of_key(partition, key), bytes(&(key, held)), number);
            }
            Change::Session(session, held) => {
                self.tree.insert(name_of_session(partition, *session), bytes(&(session, held)), number);
            }
            Change::SessionStays(_) => {}
            Change::SessionClosed(session) => {
                self.tree.remove(name_of_session(partition, *session), number);
            }
        }
    }

    /// Makes all that it has taken durable.
    pub fn flush(&mut self) -> Result<(), StorageError> {
        if self.unflushed {
            // nobody reads older versions
            let unread = self.sequence.get();
            let lock = self.tree.get_flush_lock();
            self.tree.rotate_memtable();
            self.tree.flush(&lock, unread)?;
            drop(lock);
            self.unflushed = false;
            for _ in 0..MERGES {
                self.tree.compact(Arc::new(Leveled::default()), unread)?;
            }
        }
        Ok(())
    }

    /// The snapshot of a group.
    pub fn snapshot(&self, partition: PartitionId) -> Result<KeyValues, StorageError> {
        let index = self.load(&name(partition, b'i'))?.unwrap_or(0);
        let mut changes: Vec<Change> = Vec::new();
        for item in self.tree.prefix(name(partition, b's'), SeqNo::MAX, None) {
            let (_, value) = item.into_inner()?;
            let (key, held) = read(&format!("a key of the snapshot of partition {partition}"), &value)?;
            changes.push(Change::Key(key, held));
        }
        for item in self.tree.prefix(name(partition, b'o'), SeqNo::MAX, None) {
            let (_, value) = item.into_inner()?;
            let (session, held) =
                read(&format!("a session of the snapshot of partition {partition}"), &value)?;
            changes.push(Change::Session(session, held));
        }
        let mut snapshot = KeyValues::default();
        snapshot.move_to(index, changes);
        Ok(snapshot)
    }

    fn load<T: DeserializeOwned>(&self, key: &[u8]) -> Result<Option<T>, StorageError> {
        let Some(value) = self.tree.get(key, SeqNo::MAX)? else { return Ok(None) };
        read(&String::from_utf8_lossy(key), &value).map(Some)
    }
}

fn name(partition: PartitionId, kind: u8) -> Vec<u8> {
    let mut key = vec![b'g'];
    key.extend(partition.to_be_bytes());
    key.push(kind);
    key
}

fn name_of_key(partition: PartitionId, key: &Key) -> Vec<u8> {
    let mut name = name(partition, b's');
    name.extend(bytes(key));
    name
}

fn name_of_session(partition: PartitionId, session: u64) -> Vec<u8> {
    let mut name = name(partition, b'o');
    name.extend(session.to_be_bytes());
    name
}

fn bytes<T: Serialize>(value: &T) -> Vec<u8> {
    postcard::to_stdvec(value).expect("a value in memory can be encoded")
}

fn read<T: DeserializeOwned>(what: &str, value: &[u8]) -> Result<T, StorageError> {
    postcard::from_bytes(value)
        .map_err(|error| StorageError::Unreadable { what: what.to_owned(), why: error.to_string() })
}
