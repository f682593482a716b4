//! Records in fjall, an embedded log-structured engine.

#[cfg(test)]
mod tests;

use std::{collections::BTreeMap, fs, io, path::Path};

use fjall::{Database, Keyspace, KeyspaceCreateOptions, OwnedWriteBatch, PersistMode};
use serde::{Serialize, de::DeserializeOwned};

use super::{Batch, Found, Storage, StorageError, die_now, in_file, journal, mark::Mark, trees};
use crate::{
    api::{Key, PartitionId},
    core::{
        durable::{DurableGroup, DurableState, Record},
        kv::{Change, KeyValues},
        log::Log,
    },
};

/// Bytes that the engine keeps in memory, and in its own log, before it sorts them into files. Most entries are trimmed by then.
const UNFLUSHED: u64 = 16 << 20;

/// Records in fjall: one entry of a group's log a key, so that cutting a log is deleting keys. One write has all records of
/// the batches that wait, and a number.
pub struct Durable {
    database: Database,
    keys: Keyspace,
    /// Where each log begins and how long it is.
    logs: BTreeMap<PartitionId, (u64, u64)>,
    /// Of the last write.
    number: u64,
    mark: Mark,
}

impl Durable {
    /// Opens or makes the store in `folder`; `fresh_disk` becomes the identity of a new one. A tester may have the process `die`
    /// in the middle of it.
    ///
    /// What is there is checked first: where a file is damaged, nothing is changed.
    pub fn open(folder: &Path, fresh_disk: u64, die: bool) -> Result<(Self, Found), StorageError> {
        let mark = Mark::open(folder)?;
        let last = if trees::exist(folder)? {
            trees::check(folder)?;
            journal::check(folder, mark.acknowledged)?
        } else {
            begin_anew(folder, mark.acknowledged)?;
            None
        };
        let database = Database::builder(folder).manual_journal_persist(true).open()?;
        let options = || KeyspaceCreateOptions::default().max_memtable_size(UNFLUSHED);
        let keys = database.keyspace("node", options)?;
        let number = match keys.get(journal::NUMBER)? {
            Some(value) => journal::number_in(&value).unwrap_or_default(),
            None => 0,
        };
        let mut durable = Self { database, keys, logs: BTreeMap::new(), number, mark };
        durable.is_as_written(folder, last)?;
        let disk = durable.load(b"disk")?.unwrap_or(fresh_disk);
        let boot = durable.load::<u64>(b"boot")?.unwrap_or(0) + 1;
        let state = durable.load_state()?;
        let bounds = |log: &Log| (log.start(), log.length());
        durable.logs =
            state.groups.iter().map(|(partition, group)| (*partition, bounds(&group.log))).collect();
        let mut batch = durable.begin();
        batch.insert(&durable.keys, b"disk".as_slice(), bytes(&disk));
        batch.insert(&durable.keys, b"boot".as_slice(), bytes(&boot));
        batch.commit()?;
        if die {
            die_now();
        }
        durable.sync()?;
        Ok((durable, Found { disk, boot, state }))
    }

    /// Whether the engine has found all: the last write of the journals, and what was acknowledged.
    fn is_as_written(&self, folder: &Path, last: Option<u64>) -> Result<(), StorageError> {
        let (number, acknowledged) = (self.number, self.mark.acknowledged);
        let expected = last.unwrap_or(acknowledged).max(acknowledged);
        if number < expected {
            let why = format!("it ends with write {number}, and write {expected} was there");
            return Err(StorageError::Damaged { file: folder.join("keyspaces"), why });
        }
        Ok(())
    }

    /// The next write. The engine numbers its writes for itself, too, from what it says now on.
    fn begin(&mut self) -> OwnedWriteBatch {
        self.number += 1;
        let numbered = journal::numbered(self.number, self.database.seqno());
        let mut batch = self.database.batch();
        batch.insert(&self.keys, journal::NUMBER, numbered);
        batch
    }

    fn load<T: DeserializeOwned>(&self, key: &[u8]) -> Result<Option<T>, StorageError> {
        let Some(value) = self.keys.get(key)? else { return Ok(None) };
        read(&String::from_utf8_lossy(key), &value).map(Some)
    }

    fn load_state(&self) -> Result<DurableState, StorageError> {
        let mut state = DurableState { table: self.load(b"table")?, ..DurableState::default() };
        for partition in state.table.iter().flat_map(|table| table.replicas.keys()) {
            let group = DurableGroup {
                announced: self.load(&field(*partition, b'a'))?.unwrap_or_default(),
                promised: self.load(&field(*partition, b'p'))?.unwrap_or_default(),
                accepted_ballot: self.load(&field(*partition, b'c'))?.unwrap_or_default(),
                decided: self.load(&field(*partition, b'd'))?.unwrap_or_default(),
                snapshot: self.load_snapshot(*partition)?,
                log: self.load_log(*partition)?,
            };
            let covered = group.snapshot.applied();
            if group.log.start() > covered || group.log.length() < covered {
                let what = format!("log of partition {partition}");
                let (first, last) = (group.log.start() + 1, group.log.length());
                let why = format!("it has entries {first} to {last}, and the snapshot reflects {covered}");
                return Err(StorageError::Unreadable { what, why });
            }
            let group = DurableGroup { decided: group.decided.max(covered), ..group };
            state.groups.insert(*partition, group);
        }
        Ok(state)
    }

    fn load_log(&self, partition: PartitionId) -> Result<Log, StorageError> {
        let start = self.load(&field(partition, b't'))?.unwrap_or(0);
        let mut log = Vec::new();
        for item in self.keys.range(entry(partition, start + 1)..=entry(partition, u64::MAX)) {
            let (key, value) = item.into_inner()?;
            let index = start + log.len() as u64 + 1;
            if key[..] != entry(partition, index)[..] {
                let what = format!("log of partition {partition}");
                return Err(StorageError::Unreadable { what, why: format!("entry {index} is missing") });
            }
            log.push(read(&format!("entry {index} of partition {partition}"), &value)?);
        }
        Ok(Log::new(start, log))
    }

    fn load_snapshot(&self, partition: PartitionId) -> Result<KeyValues, StorageError> {
        let index = self.load(&field(partition, b'i'))?.unwrap_or(0);
        let mut changes: Vec<Change> = Vec::new();
        for item in self.keys.prefix(field(partition, b's')) {
            let (_, value) = item.into_inner()?;
            let (key, held) = read(&format!("a key of the snapshot of partition {partition}"), &value)?;
            changes.push(Change::Key(key, held));
        }
        for item in self.keys.prefix(field(partition, b'o')) {
            let (_, value) = item.into_inner()?;
            let (session, held) =
                read(&format!("a session of the snapshot of partition {partition}"), &value)?;
            changes.push(Change::Session(session, held));
        }
        let mut snapshot = KeyValues::default();
        snapshot.move_to(index, changes);
        Ok(snapshot)
    }

    fn insert(&mut self, batch: &mut OwnedWriteBatch, record: &Record) {
        match record {
            Record::Table(table) => batch.insert(&self.keys, b"table".as_slice(), bytes(table)),
            Record::Announced { partition, ballot } => {
                batch.insert(&self.keys, field(*partition, b'a'), bytes(ballot));
            }
            Record::Promised { partition, ballot } => {
                batch.insert(&self.keys, field(*partition, b'p'), bytes(ballot));
            }
            Record::Decided { partition, decided } => {
                batch.insert(&self.keys, field(*partition, b'd'), bytes(decided));
            }
            Record::Accepted { partition, accepted_ballot, start, entries } => {
                batch.insert(&self.keys, field(*partition, b'c'), bytes(accepted_ballot));
                let (_, length) = self.logs.entry(*partition).or_default();
                let end = start + entries.len() as u64;
                for index in end + 1..=*length {
                    batch.remove(&self.keys, entry(*partition, index));
                }
                *length = end;
                for (index, value) in (start + 1..).zip(entries) {
                    batch.insert(&self.keys, entry(*partition, index), bytes(value));
                }
            }
            Record::Snapshot { partition, index, changed, start } => {
                for change in changed {
                    self.insert_change(batch, *partition, change);
                }
                batch.insert(&self.keys, field(*partition, b'i'), bytes(index));
                batch.insert(&self.keys, field(*partition, b't'), bytes(start));
                let (first, length) = self.logs.entry(*partition).or_default();
                for index in *first + 1..=*start.min(length) {
                    batch.remove(&self.keys, entry(*partition, index));
                }
                (*first, *length) = (*start, *start.max(length));
            }
        }
    }

    fn insert_change(&self, batch: &mut OwnedWriteBatch, partition: PartitionId, change: &Change) {
        match change {
            Change::Key(key, held) => {
                batch.insert(&self.keys, snapshot_key(partition, key), bytes(&(key, held)));
            }
            Change::Session(session, held) => {
                batch.insert(&self.keys, snapshot_session(partition, *session), bytes(&(session, held)));
            }
            Change::SessionStays(_) => {}
            Change::SessionClosed(session) => {
                batch.remove(&self.keys, snapshot_session(partition, *session));
            }
        }
    }
}

impl Storage for Durable {
    fn write(&mut self, batches: &[Batch]) -> Result<(), StorageError> {
        let mut batch = self.begin();
        for record in batches.iter().flat_map(|batch| &batch.records) {
            self.insert(&mut batch, record);
        }
        Ok(batch.commit()?)
    }

    fn sync(&mut self) -> Result<(), StorageError> {
        self.database.persist(PersistMode::SyncData)?;
        self.mark.set(self.number)
    }
}

/// Removes what a crash in the first start has left of the engine's files: nothing was ever acknowledged.
fn begin_anew(folder: &Path, acknowledged: u64) -> Result<(), StorageError> {
    let version = folder.join("version");
    if acknowledged > 0 {
        let why = format!("it is gone, and write {acknowledged} was acknowledged");
        return Err(StorageError::Damaged { file: version, why });
    }
    let absent = |done: io::Result<()>| match done {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(in_file(folder)(error)),
        _ => Ok(()),
    };
    absent(fs::remove_dir_all(folder.join("keyspaces")))?;
    journal::journals(folder)?.iter().try_for_each(|journal| absent(fs::remove_file(journal)))
}

fn field(partition: PartitionId, kind: u8) -> Vec<u8> {
    let mut key = vec![b'g'];
    key.extend(partition.to_be_bytes());
    key.push(kind);
    key
}

fn entry(partition: PartitionId, index: u64) -> Vec<u8> {
    let mut key = field(partition, b'l');
    key.extend(index.to_be_bytes());
    key
}

fn snapshot_key(partition: PartitionId, key: &Key) -> Vec<u8> {
    let mut name = field(partition, b's');
    name.extend(bytes(key));
    name
}

fn snapshot_session(partition: PartitionId, session: u64) -> Vec<u8> {
    let mut name = field(partition, b'o');
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
