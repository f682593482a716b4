//! A node's disk: the log, which all groups share, and the tree of the snapshots' keys.
//!
//! Every record is written to the log, one write and one sync for all batches that wait. What it adds up to is kept in memory, but
//! for the keys of the snapshots: so each segment begins with a checkpoint of it, and nothing before is needed but the keys.

#[cfg(test)]
mod tests;

use std::{fs, io, path::Path, path::PathBuf};

use super::{
    Batch, Found, Storage, StorageError, die_now,
    frame::{self, Content},
    in_file,
    keeper::{Job, Keeper, Step, Watch},
    keys::{Keys, Moved},
    mark::Mark,
    segments::{self, Log, Segment},
    trees,
};
use crate::core::durable::{DurableGroup, DurableState, Record};

/// Bytes of segments. Each is twice as long as the one before it, from the first to the last of these; and always longer than what
/// its checkpoint has, so that at most a third of what is written are checkpoints.
#[derive(Clone, Copy, Debug)]
struct Sizes {
    first: u64,
    most: u64,
}

const SIZES: Sizes = Sizes { first: 1 << 20, most: 16 << 20 };

/// How many times longer than its checkpoint a segment is at least.
const CHECKPOINTS: u64 = 4;

/// Bytes that the buffer of writes keeps.
const BUFFER: usize = 4 << 20;

/// The storage of a node.
pub struct Durable {
    /// Goes first: it works in the folder that the mark has locked.
    keeper: Keeper,
    mark: Mark,
    sizes: Sizes,
    /// The segment that is written.
    segment: Segment,
    /// Of the last write.
    number: u64,
    /// The last write that had a snapshot.
    snapshots: u64,
    boot: u64,
    /// What all records add up to, but for the keys and sessions of the snapshots.
    in_force: DurableState,
    /// What the keeper is to do once all that was written is synced.
    jobs: Vec<Job>,
    /// The next segment was asked for.
    asked: bool,
    /// What was written last is not synced.
    unsynced: bool,
    buffer: Vec<u8>,
}

impl Durable {
    /// Opens or makes the store in `folder`; `fresh_disk` becomes the identity of a new one. A tester may have the process `die`
    /// in the middle of it.
    ///
    /// What is there is checked first: where a file is damaged, nothing is changed.
    pub fn open(folder: &Path, fresh_disk: u64, die: bool) -> Result<(Self, Found), StorageError> {
        Self::open_with(folder, fresh_disk, die, SIZES, Box::new(|_: Step| {}))
    }

    fn open_with(
        folder: &Path,
        fresh_disk: u64,
        die: bool,
        sizes: Sizes,
        watch: Watch,
    ) -> Result<(Self, Found), StorageError> {
        let mark = Mark::open(folder, fresh_disk)?;
        let has_keys = trees::check(&folder.join("keys"))?;
        let mut replay = Replay::default();
        let path = folder.join("log");
        let mut log =
            Log::read(&path, mark.disk, mark.acknowledged, |number, content| replay.take(number, content))?;
        let keys = open_keys(folder, has_keys, &log, &replay)?;
        log.cut()?;
        // before the tree, or a later write, says that it was there
        log.make_durable()?;
        let (keys, state) = replay.with_keys(keys)?;
        let (segment, prepared, superseded) = open_segments(&path, &log, sizes)?;
        let number = log.last.unwrap_or(0);
        let mut durable = Self {
            sizes,
            segment,
            number,
            snapshots: replay.snapshots,
            boot: replay.boot + 1,
            in_force: replay.in_force,
            asked: prepared.is_some(),
            keeper: Keeper::start(path, keys, prepared, watch),
            jobs: Vec::new(),
            unsynced: false,
            buffer: Vec::new(),
            mark,
        };
        durable.append(Content::Started { boot: durable.boot })?;
        if !superseded.is_empty() {
            // before what this start itself leaves behind: the oldest goes first
            durable.jobs.insert(0, Job::Remove { segments: superseded });
        }
        if die {
            die_now();
        }
        durable.sync()?;
        // at least all that was there at the start will be missed, also after a failure of the machine
        durable.mark.sync()?;
        let found = Found { disk: durable.mark.disk, boot: durable.boot, state };
        Ok((durable, found))
    }

    /// One write; gives back what is persisted with it.
    fn append(&mut self, mut content: Content) -> Result<Vec<Record>, StorageError> {
        assert!(!self.unsynced, "a write is begun when the one before it is synced");
        self.keeper.check()?;
        let number = self.number + 1;
        let is_full = self.encode(number, &content) && self.segment.length > 0;
        if is_full {
            self.change_segments()?;
        }
        if self.segment.length == 0 {
            content = self.checkpoint(content.into_records());
            self.encode(number, &content);
        }
        self.segment.write(&self.buffer)?;
        (self.number, self.unsynced) = (number, true);
        if !self.asked && self.segment.length > self.segment.capacity / 2 {
            self.ask_for_segment();
        }
        Ok(content.into_records())
    }

    /// Fills the buffer; whether that is more than the segment was made for.
    fn encode(&mut self, number: u64, content: &Content) -> bool {
        self.buffer.clear();
        // a snapshot that was fetched may have been much longer
        self.buffer.shrink_to(BUFFER);
        frame::append(&mut self.buffer, self.mark.disk, self.segment.number, number, content);
        !self.segment.has_room(self.buffer.len())
    }

    /// Goes on in the next segment. The one before is synced; it is removed when the first write of this one is.
    fn change_segments(&mut self) -> Result<(), StorageError> {
        if !self.asked {
            self.ask_for_segment();
        }
        let next = self.keeper.next_segment()?;
        let before = std::mem::replace(&mut self.segment, next);
        self.jobs.push(Job::Remove { segments: vec![before.number] });
        self.asked = false;
        Ok(())
    }

    fn ask_for_segment(&mut self) {
        let entries: u64 = self.in_force.groups.values().map(|group| group.log.bytes()).sum();
        let twice = (2 * self.segment.capacity).clamp(self.sizes.first, self.sizes.most);
        let capacity = twice.max(CHECKPOINTS * entries);
        self.keeper.ask(Job::Prepare { number: self.segment.number + 1, capacity });
        self.asked = true;
    }

    /// Waits until the keeper has done all that it was asked for.
    #[cfg(test)]
    fn settle(&self) {
        let (tell, told) = std::sync::mpsc::channel();
        self.keeper.ask(Job::Tell(tell));
        told.recv().expect("the keeper goes on");
    }

    fn checkpoint(&self, records: Vec<Record>) -> Content {
        let in_force = checkpoint(&self.in_force);
        Content::Checkpoint { boot: self.boot, snapshots: self.snapshots, in_force, records }
    }
}

impl Storage for Durable {
    fn write(&mut self, batches: Vec<Batch>) -> Result<(), StorageError> {
        let records = batches.into_iter().flat_map(|batch| batch.records).collect();
        let records = self.append(Content::Records(records))?;
        let moved = apply(&mut self.in_force, records);
        if !moved.is_empty() {
            self.snapshots = self.number;
            self.jobs.push(Job::Snapshots { number: self.number, moved });
        }
        Ok(())
    }

    fn sync(&mut self) -> Result<(), StorageError> {
        self.segment.sync()?;
        self.unsynced = false;
        self.mark.set(self.number)?;
        self.jobs.drain(..).for_each(|job| self.keeper.ask(job));
        Ok(())
    }
}

/// Adds records to what is in force; the keys of snapshots are not part of that.
fn apply(in_force: &mut DurableState, records: Vec<Record>) -> Vec<Moved> {
    let mut snapshots = Vec::new();
    for mut record in records {
        if let Record::Snapshot { partition, index, changed, .. } = &mut record {
            let changed = std::mem::take(changed);
            snapshots.push(Moved { partition: *partition, index: *index, changed });
        }
        in_force.apply(&record);
    }
    snapshots
}

/// Records that add up to a state without keys.
fn checkpoint(state: &DurableState) -> Vec<Record> {
    let mut records: Vec<Record> = state.table.clone().map(Record::Table).into_iter().collect();
    for (partition, group) in &state.groups {
        let DurableGroup { announced, promised, accepted_ballot, snapshot, log, decided } = group;
        let partition = *partition;
        let moved =
            |index: u64| Record::Snapshot { partition, index, changed: Vec::new(), start: log.start() };
        records.extend([
            Record::Announced { partition, ballot: *announced },
            Record::Promised { partition, ballot: *promised },
            // an empty log that begins where this one does
            moved(log.start()),
            Record::Accepted {
                partition,
                accepted_ballot: *accepted_ballot,
                start: log.start(),
                entries: log.suffix(log.start(), log.length()).entries,
            },
            moved(snapshot.applied()),
            Record::Decided { partition, decided: *decided },
        ]);
    }
    records
}

/// What the log adds up to while it is read.
#[derive(Debug, Default)]
struct Replay {
    boot: u64,
    /// The last write that had a snapshot.
    snapshots: u64,
    /// The tree must have seen the snapshots up to this write: the log does not have them any more.
    covered: Option<u64>,
    in_force: DurableState,
    /// The snapshots that the log has, and in which writes.
    moved: Vec<(u64, Vec<Moved>)>,
}

impl Replay {
    fn take(&mut self, number: u64, content: Content) -> Result<(), String> {
        match &content {
            Content::Checkpoint { boot, snapshots, in_force, .. } => {
                let mut state = DurableState::default();
                for record in in_force {
                    state.apply(record);
                }
                if self.covered.is_some() && (*snapshots, &state) != (self.snapshots, &self.in_force) {
                    return Err("it is another state than what was written before".to_owned());
                }
                self.covered.get_or_insert(*snapshots);
                (self.boot, self.snapshots, self.in_force) = (*boot, *snapshots, state);
            }
            Content::Started { boot } => self.boot = *boot,
            Content::Records(_) => {}
        }
        let moved = apply(&mut self.in_force, content.into_records());
        if !moved.is_empty() {
            self.snapshots = number;
            self.moved.push((number, moved));
        }
        Ok(())
    }

    /// Tells the tree what it has lost; the whole state.
    fn with_keys(&mut self, mut keys: Keys) -> Result<(Keys, DurableState), StorageError> {
        let seen = keys.position();
        for (number, moved) in self.moved.drain(..).filter(|(number, _)| *number > seen) {
            keys.take(number, &moved)?;
        }
        let mut state = self.in_force.clone();
        for (partition, group) in &mut state.groups {
            let covered = group.snapshot.applied();
            group.snapshot = keys.snapshot(*partition)?;
            if group.snapshot.applied() != covered {
                let what = format!("snapshot of partition {partition}");
                let why =
                    format!("it reflects entry {}, and the log says {covered}", group.snapshot.applied());
                return Err(StorageError::Unreadable { what, why });
            }
        }
        Ok((keys, state))
    }
}

/// Opens the tree, which must have what the log does not have any more.
fn open_keys(folder: &Path, exist: bool, log: &Log, replay: &Replay) -> Result<Keys, StorageError> {
    let path = folder.join("keys");
    let (covered, last) = (replay.covered.unwrap_or(0), log.last.unwrap_or(0));
    let damaged = |file: PathBuf, why: String| Err(StorageError::Damaged { file, why });
    if !exist {
        if covered > 0 {
            let why = format!("it is not there, and the log begins after the snapshots of write {covered}");
            return damaged(path.join("current"), why);
        }
        // what a crash has left that came before it was there
        match fs::remove_dir_all(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(in_file(&path)(error)),
            _ => {}
        }
    }
    let keys = Keys::open(&path)?;
    let position = keys.position();
    if position < covered {
        let why = format!(
            "it ends with write {position}, and the log begins after the snapshots of write {covered}"
        );
        return damaged(path, why);
    }
    if position > last {
        let why = format!("it ends with write {last}, and the snapshots of write {position} were there");
        return damaged(folder.join("log"), why);
    }
    Ok(keys)
}

/// The segment that is written, the one after it if it is there, and those before it.
fn open_segments(
    path: &Path,
    log: &Log,
    sizes: Sizes,
) -> Result<(Segment, Option<Segment>, Vec<u64>), StorageError> {
    let Some((number, length)) = log.end else {
        // nothing was ever written: what there is comes from a crash in the first start
        let begin = || {
            match fs::remove_dir_all(path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => fs::create_dir(path)?,
            }
            segments::sync_folder(path.parent().unwrap_or(path))
        };
        begin().map_err(in_file(path))?;
        return Ok((Segment::create(path, 1, sizes.first)?, None, Vec::new()));
    };
    let prepared = log.segments.iter().find(|segment| **segment > number);
    let prepared = prepared.map(|next| Segment::open(path, *next, 0)).transpose()?;
    let before = log.segments.iter().copied().filter(|segment| *segment < number).collect();
    Ok((Segment::open(path, number, length)?, prepared, before))
}
