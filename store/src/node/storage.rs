//! Where a node's durable state is kept: the narrow trait, and the thread that writes.
//!
//! The loop hands a batch of records to the [`LogThread`] and goes on; the thread takes all batches that wait, writes them
//! and syncs once for all of them and all groups, then says which is the last durable one. A failed write or sync ends the
//! process: what was not synced is never acknowledged.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{self, Read, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        mpsc::{Receiver, RecvTimeoutError, Sender, channel},
    },
    thread,
    time::Duration,
};

use fjall::{Database, Keyspace, KeyspaceCreateOptions, PersistMode};
use rustix::process::{Signal, getpid, kill_process};
use serde::{Serialize, de::DeserializeOwned};

use super::control::DiskFault;
use crate::{
    api::{Key, PartitionId},
    core::{
        durable::{DurableGroup, DurableState, Record},
        kv::{Change, KeyValues},
        log::Log,
    },
};

/// Version of the layout on disk; a node refuses every other.
const LAYOUT: u32 = 3;

/// Bytes that the engine keeps in memory, and in its own log, before it sorts them into files. Most entries are trimmed by then.
const UNFLUSHED: u64 = 16 << 20;

/// How long the planted bug that acknowledges before the sync leaves batches unsynced.
const UNSYNCED: Duration = Duration::from_millis(200);

/// A batch of records with its number.
#[derive(Debug)]
pub struct Batch {
    /// The persist's number.
    pub number: u64,
    /// Its records.
    pub records: Vec<Record>,
}

/// A place that keeps records.
pub trait Storage: Send {
    /// Takes batches, in order; they may still be lost.
    fn write(&mut self, batches: &[Batch]) -> Result<(), StorageError>;
    /// Makes all that was written durable.
    fn sync(&mut self) -> Result<(), StorageError>;
}

/// Why a storage cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum StorageError {
    /// The engine failed.
    #[error("the storage engine failed: {0}")]
    Engine(#[from] fjall::Error),
    /// The folder holds something that this version cannot read.
    #[error("the stored {what} cannot be read: {why}")]
    Unreadable {
        /// What was looked for.
        what: String,
        /// What is wrong with it.
        why: String,
    },
}

/// What a node finds on its disk.
#[derive(Debug)]
pub struct Found {
    /// Identity of the disk.
    pub disk: u64,
    /// How often the node has started on it, this time included.
    pub boot: u64,
    /// The state.
    pub state: DurableState,
}

/// Records in fjall, an embedded log-structured engine: one entry of a group's log a key, so that cutting a log is
/// deleting keys.
pub struct Durable {
    database: Database,
    keys: Keyspace,
    /// Where each log begins and how long it is.
    logs: BTreeMap<PartitionId, (u64, u64)>,
}

impl Durable {
    /// Opens or makes the store in `folder`; `fresh_disk` becomes the identity of a new one. A tester may have the process `die`
    /// in the middle of it.
    pub fn open(folder: &Path, fresh_disk: u64, die: bool) -> Result<(Self, Found), StorageError> {
        let database = Database::builder(folder).manual_journal_persist(true).open()?;
        let options = || KeyspaceCreateOptions::default().max_memtable_size(UNFLUSHED);
        let keys = database.keyspace("node", options)?;
        let mut durable = Self { database, keys, logs: BTreeMap::new() };
        let layout: u32 = durable.load(b"layout")?.unwrap_or(LAYOUT);
        if layout != LAYOUT {
            let why = format!("it is version {layout}, this program reads version {LAYOUT}");
            return Err(StorageError::Unreadable { what: "layout".to_owned(), why });
        }
        let disk = durable.load(b"disk")?.unwrap_or(fresh_disk);
        let boot = durable.load::<u64>(b"boot")?.unwrap_or(0) + 1;
        let state = durable.load_state()?;
        let bounds = |log: &Log| (log.start(), log.length());
        durable.logs =
            state.groups.iter().map(|(partition, group)| (*partition, bounds(&group.log))).collect();
        let mut batch = durable.database.batch();
        batch.insert(&durable.keys, b"layout".as_slice(), bytes(&LAYOUT));
        batch.insert(&durable.keys, b"disk".as_slice(), bytes(&disk));
        batch.insert(&durable.keys, b"boot".as_slice(), bytes(&boot));
        batch.commit()?;
        if die {
            die_now();
        }
        durable.sync()?;
        Ok((durable, Found { disk, boot, state }))
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

    fn insert(&mut self, batch: &mut fjall::OwnedWriteBatch, record: &Record) {
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
}

impl Durable {
    fn insert_change(&self, batch: &mut fjall::OwnedWriteBatch, partition: PartitionId, change: &Change) {
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
        let mut batch = self.database.batch();
        for record in batches.iter().flat_map(|batch| &batch.records) {
            self.insert(&mut batch, record);
        }
        Ok(batch.commit()?)
    }

    fn sync(&mut self) -> Result<(), StorageError> {
        Ok(self.database.persist(PersistMode::SyncData)?)
    }
}

/// Keeps what is written in the process until it is synced, so that SIGKILL loses what a power failure would.
pub struct LosesUnsynced<S> {
    inner: S,
    unsynced: Vec<Batch>,
}

impl<S> LosesUnsynced<S> {
    /// In front of `inner`.
    pub fn new(inner: S) -> Self {
        Self { inner, unsynced: Vec::new() }
    }
}

impl<S: Storage> Storage for LosesUnsynced<S> {
    fn write(&mut self, batches: &[Batch]) -> Result<(), StorageError> {
        let copies =
            batches.iter().map(|batch| Batch { number: batch.number, records: batch.records.clone() });
        self.unsynced.extend(copies);
        Ok(())
    }

    fn sync(&mut self) -> Result<(), StorageError> {
        self.inner.write(&self.unsynced)?;
        self.unsynced.clear();
        self.inner.sync()
    }
}

/// What a tester asks of the disk: the log thread passes here between each write and its sync.
#[derive(Debug, Default)]
pub struct DiskControl {
    asked: Mutex<Asked>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Asked {
    fault: DiskFault,
    die: bool,
}

impl DiskControl {
    /// Syncs go like this from now on; one that stands still goes on when the fault is over.
    pub fn set(&self, fault: DiskFault) {
        self.lock().fault = fault;
        self.changed.notify_all();
    }

    /// The process dies in its next write, or in the one that waits for its sync.
    pub fn die_in_write(&self) {
        self.lock().die = true;
        self.changed.notify_all();
    }

    /// Passes when the disk is as it should be; does not come back when the process is to die.
    fn pass(&self) {
        let asked = self.lock();
        let slow = Duration::from_millis(asked.fault.slow_ms);
        let waited = self.changed.wait_timeout_while(asked, slow, |asked| !asked.die);
        let (asked, _) = waited.unwrap_or_else(PoisonError::into_inner);
        let stalled = self.changed.wait_while(asked, |asked| asked.fault.stalled && !asked.die);
        if stalled.unwrap_or_else(PoisonError::into_inner).die {
            die_now();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Asked> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// As of SIGKILL: nothing is tidied up.
fn die_now() {
    // cannot fail for the process itself
    let _ = kill_process(getpid(), Signal::KILL);
}

/// Leaves the log of a node that does not run as a write that was torn would: garbage follows the last batch. Nothing that was
/// synced is touched, since a batch ends with bytes that are not 0.
pub fn tear_log(folder: &Path) -> io::Result<()> {
    let mut journals: Vec<PathBuf> = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        journals.extend(path.extension().is_some_and(|kind| kind == "jnl").then_some(path));
    }
    // they are numbered
    let number = |path: &PathBuf| path.file_stem().and_then(|stem| stem.to_str()?.parse::<u64>().ok());
    let Some(newest) = journals.into_iter().max_by_key(number) else { return Ok(()) };
    let mut journal = File::options().read(true).write(true).open(newest)?;
    let mut bytes = Vec::new();
    journal.read_to_end(&mut bytes)?;
    let end = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
    journal.seek(SeekFrom::Start(end as u64))?;
    // it begins as a batch does
    journal.write_all(&[1, 7, 0, 0, 0, 0xff, 0xff, 0xff, 2, 0x5a, 0x5a, 0x5a])?;
    journal.sync_data()
}

/// The thread that writes, and the way to it.
#[derive(Debug)]
pub struct LogThread {
    batches: Sender<Batch>,
    disk: Arc<DiskControl>,
}

impl LogThread {
    /// Starts it. `durable` is called with the number of the last durable batch; `late` leaves batches unsynced for a
    /// while, for the planted bug.
    pub fn start(
        mut storage: Box<dyn Storage>,
        late: bool,
        durable: impl Fn(u64) + Send + 'static,
        failed: impl FnOnce(StorageError) + Send + 'static,
    ) -> Self {
        let (batches, waiting) = channel::<Batch>();
        let disk = Arc::new(DiskControl::default());
        let control = Arc::clone(&disk);
        thread::spawn(move || {
            while let Some(taken) = take(&waiting, late) {
                let number = taken.last().map_or(0, |batch| batch.number);
                let written = storage.write(&taken).and_then(|()| {
                    control.pass();
                    storage.sync()
                });
                if let Err(error) = written {
                    return failed(error);
                }
                durable(number);
            }
        });
        Self { batches, disk }
    }

    /// What a tester asks of the disk.
    pub fn disk(&self) -> &DiskControl {
        &self.disk
    }

    /// Hands over a batch.
    pub fn persist(&self, batch: Batch) {
        // the thread ends only after it has ended the process
        let _ = self.batches.send(batch);
    }
}

/// All batches that wait, at least one; none once nobody can send any more.
fn take(waiting: &Receiver<Batch>, late: bool) -> Option<Vec<Batch>> {
    let mut taken = vec![waiting.recv().ok()?];
    if late {
        // one long wait after the first batch: what comes meanwhile is acknowledged and not synced
        let (_never, pause) = channel::<()>();
        assert_eq!(pause.recv_timeout(UNSYNCED), Err(RecvTimeoutError::Timeout));
    }
    taken.extend(waiting.try_iter());
    Some(taken)
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        api::{Ballot, Key, Operation, Outcome},
        core::{
            kv::Versioned,
            message::{Command, Entry, ProposalId, Table},
            sessions::{Session, Verdict},
        },
    };

    fn ballot(number: u64) -> Ballot {
        Ballot { config: 0, number, priority: 0, node: 1 }
    }

    fn entries(values: &[&str]) -> Vec<Entry> {
        let entry = |value: &&str| {
            let operation = Operation::Put { key: Key::Integer(1), value: (*value).into() };
            Entry::Command(Command {
                id: ProposalId { node: 1, boot: 1, number: 1 },
                operation,
                session: None,
            })
        };
        values.iter().map(entry).collect()
    }

    fn records() -> Vec<Record> {
        let table = Table { members: [(1, 7)].into(), config: 3, replicas: [(1, vec![1])].into() };
        vec![
            Record::Table(table),
            Record::Announced { partition: 1, ballot: ballot(1) },
            Record::Promised { partition: 1, ballot: ballot(2) },
            Record::Accepted {
                partition: 1,
                accepted_ballot: ballot(1),
                start: 0,
                entries: entries(&["a", "b", "c"]),
            },
            Record::Accepted { partition: 1, accepted_ballot: ballot(2), start: 1, entries: entries(&["d"]) },
            Record::Decided { partition: 1, decided: 1 },
            // a snapshot of the node's own, which leaves an entry that it covers; and one that goes beyond the log
            snapshot(2, &[("x", Some("a"), 1), ("y", None, 2)], &[(1, Some(1)), (2, Some(2))], 1),
            Record::Accepted {
                partition: 1,
                accepted_ballot: ballot(2),
                start: 2,
                entries: entries(&["e", "f"]),
            },
            snapshot(7, &[("y", Some("b"), 6), ("z", Some("c"), 7)], &[(1, None), (2, Some(7))], 7),
            Record::Accepted {
                partition: 1,
                accepted_ballot: ballot(3),
                start: 7,
                entries: entries(&["g", "h"]),
            },
        ]
    }

    /// Keys with their values and versions; sessions with the indices of their last entries, or closed.
    fn snapshot(
        index: u64,
        changed: &[(&str, Option<&str>, u64)],
        sessions: &[(u64, Option<u64>)],
        start: u64,
    ) -> Record {
        let session = |(session, last): &(u64, Option<u64>)| {
            let held = |index| {
                let outcome = Outcome::NotSwapped { seen: Some("b".into()) };
                Change::Session(
                    *session,
                    Session { last: index, verdict: Verdict { outcome, version: 1, index } },
                )
            };
            last.map_or(Change::SessionClosed(*session), held)
        };
        let pair = |(key, value, version): &(&str, Option<&str>, u64)| {
            let held = Versioned { value: value.map(Into::into), version: *version };
            Change::Key(Key::String((*key).to_owned()), held)
        };
        Record::Snapshot {
            partition: 1,
            index,
            changed: changed.iter().map(pair).chain(sessions.iter().map(session)).collect(),
            start,
        }
    }

    #[test]
    fn a_log_that_lacks_entries_that_no_snapshot_covers_is_refused() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let (mut storage, _) = Durable::open(folder.path(), 7, false).expect("opens");
        storage.write(&[Batch { number: 1, records: records() }]).expect("writes");
        storage.keys.insert(field(1, b'i'), bytes(&6_u64)).expect("the snapshot's index goes back");
        storage.sync().expect("syncs");
        drop(storage);
        let refused = Durable::open(folder.path(), 7, false).err().expect("it is refused").to_string();
        assert_eq!(
            refused,
            "the stored log of partition 1 cannot be read: it has entries 8 to 9, and the snapshot reflects 6"
        );
    }

    #[test]
    fn trimmed_entries_leave_the_disk() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let (mut storage, _) = Durable::open(folder.path(), 7, false).expect("opens");
        storage.write(&[Batch { number: 1, records: records() }]).expect("writes");
        let left: Vec<_> =
            storage.keys.prefix(field(1, b'l')).map(|item| item.key().expect("a key").to_vec()).collect();
        assert_eq!(left, [entry(1, 8), entry(1, 9)]);
    }

    #[test]
    fn a_reopened_store_holds_what_its_records_add_up_to() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let (mut storage, found) = Durable::open(folder.path(), 7, false).expect("opens");
        assert_eq!((found.disk, found.boot, found.state), (7, 1, DurableState::default()));
        let mut expected = DurableState::default();
        for (record, number) in records().into_iter().zip(1..) {
            expected.apply(&record);
            storage.write(&[Batch { number, records: vec![record] }]).expect("writes");
        }
        storage.sync().expect("syncs");
        drop(storage);
        let (_, found) = Durable::open(folder.path(), 8, false).expect("opens again");
        let sessions = found.state.groups[&1].snapshot.sessions().iter();
        assert_eq!(sessions.map(|(session, held)| (session, held.last)).collect::<Vec<_>>(), [(2, 7)]);
        assert_eq!((found.disk, found.boot, found.state), (7, 2, expected));
    }

    /// A storage that only counts its syncs.
    struct Counts(Sender<()>);

    impl Storage for Counts {
        fn write(&mut self, _: &[Batch]) -> Result<(), StorageError> {
            Ok(())
        }

        fn sync(&mut self) -> Result<(), StorageError> {
            self.0.send(()).expect("the test listens");
            Ok(())
        }
    }

    #[test]
    fn nothing_is_synced_while_the_disk_is_stalled() {
        let (synced, syncs) = channel();
        let (tell, told) = channel();
        let durable = move |number| tell.send(number).expect("the test listens");
        let log = LogThread::start(Box::new(Counts(synced)), false, durable, |error| panic!("{error}"));
        log.disk().set(DiskFault { stalled: true, slow_ms: 0 });
        log.persist(Batch { number: 1, records: records() });
        assert_eq!(syncs.recv_timeout(Duration::from_millis(50)), Err(RecvTimeoutError::Timeout));
        assert_eq!(told.try_recv().ok(), None);
        log.disk().set(DiskFault { stalled: false, slow_ms: 20 });
        let limit = Duration::from_secs(20);
        assert_eq!(told.recv_timeout(limit), Ok(1), "the batch that waited");
        log.persist(Batch { number: 2, records: records() });
        assert_eq!(told.recv_timeout(limit), Ok(2), "a slow disk");
        assert_eq!(syncs.try_iter().count(), 2);
    }

    #[test]
    fn a_torn_write_is_dropped_and_what_was_synced_before_it_is_not() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let (mut storage, _) = Durable::open(folder.path(), 7, false).expect("opens");
        let mut expected = DurableState::default();
        for (record, number) in records().into_iter().zip(1..) {
            expected.apply(&record);
            storage.write(&[Batch { number, records: vec![record] }]).expect("writes");
        }
        storage.sync().expect("syncs");
        drop(storage);
        for boot in 2..4 {
            tear_log(folder.path()).expect("torn");
            let journal = std::fs::read(folder.path().join("0.jnl")).expect("the journal");
            assert_eq!(journal.iter().rfind(|byte| **byte != 0), Some(&0x5a), "there is garbage");
            let (mut storage, found) = Durable::open(folder.path(), 8, false).expect("opens again");
            assert_eq!((found.disk, found.boot, &found.state), (7, boot, &expected));
            // and it goes on after that
            let record = Record::Decided { partition: 1, decided: 7 + boot };
            expected.apply(&record);
            storage.write(&[Batch { number: boot, records: vec![record] }]).expect("writes");
            storage.sync().expect("syncs");
        }
    }

    #[test]
    fn what_was_not_synced_is_lost_with_the_process() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let (durable, _) = Durable::open(folder.path(), 7, false).expect("opens");
        let mut storage = LosesUnsynced::new(durable);
        let [table, announced, promised, ..] = &records()[..] else { unreachable!("there are more") };
        storage
            .write(&[Batch { number: 1, records: vec![table.clone(), announced.clone()] }])
            .expect("writes");
        storage.sync().expect("syncs");
        storage.write(&[Batch { number: 2, records: vec![promised.clone()] }]).expect("writes");
        drop(storage);
        let (_, found) = Durable::open(folder.path(), 7, false).expect("opens again");
        assert_eq!(found.state.groups[&1].announced, ballot(1));
        assert_eq!(found.state.groups[&1].promised, Ballot::BOTTOM);
    }
}
