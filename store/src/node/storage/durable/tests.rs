//! What a disk gives back: whole, torn and damaged, and after a crash between any two steps.

mod crashes;
mod damage;

use tempfile::TempDir;

use super::*;
use crate::{
    api::{Ballot, Key, Operation, Outcome},
    core::{
        entries::Entries,
        kv::{Change, Versioned},
        message::{Command, Entry, ProposalId, Table},
        sessions::Session,
    },
    node::storage::{LosesUnsynced, tear_log},
};

/// Segments so short that a few writes fill one.
const SHORT: Sizes = Sizes { first: 512, most: 1024 };

/// On a disk without syncs where there is one: thousands of folders are opened.
fn temporary() -> TempDir {
    let shared = Path::new("/dev/shm");
    let folder = if shared.is_dir() { tempfile::tempdir_in(shared) } else { tempfile::tempdir() };
    folder.expect("a temporary folder")
}

fn try_open(folder: &Path) -> Result<(Durable, Found), StorageError> {
    Durable::open_with(folder, 7, false, SHORT, Box::new(|_: Step| {}))
}

fn open(folder: &Path) -> (Durable, Found) {
    try_open(folder).unwrap_or_else(|error| panic!("{error}"))
}

/// One write, durable.
fn write(storage: &mut Durable, records: Vec<Record>) {
    storage.write(vec![Batch { number: 1, records }]).expect("writes");
    storage.sync().expect("syncs");
}

/// Rounds of two entries and a snapshot after each, in a write of its own, after [`records`].
fn rounds(count: u64) -> Vec<Record> {
    let round = |round: u64| {
        let length = 9 + 2 * round;
        let name = format!("key {}", round % 3);
        let covers = |index: u64, value: &str| {
            snapshot(index, &[(&name, Some(&format!("{value}{round}")), index)], &[], index - 1)
        };
        [
            Record::Accepted {
                partition: 1,
                accepted_ballot: ballot(3),
                start: length,
                entries: entries(&["v", &format!("w{round}")]),
            },
            Record::Decided { partition: 1, decided: length + 1 },
            covers(length + 1, "v"),
            covers(length + 2, "w"),
        ]
    };
    (0..count).flat_map(round).collect()
}

fn ballot(number: u64) -> Ballot {
    Ballot { config: 0, number, priority: 0, node: 1 }
}

fn entries(values: &[&str]) -> Entries {
    let entry = |value: &&str| {
        let operation = Operation::Put { key: Key::Integer(1), value: (*value).into() };
        Entry::Command(Command { id: ProposalId { node: 1, boot: 1, number: 1 }, operation, session: None })
    };
    Vec::into(values.iter().map(entry).collect())
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
    keys: &[(&str, Option<&str>, u64)],
    sessions: &[(u64, Option<u64>)],
    start: u64,
) -> Record {
    let key = |(key, value, version): &(&str, Option<&str>, u64)| {
        let held = Versioned { value: value.map(Into::into), version: *version };
        Change::Key(Key::String((*key).to_owned()), held)
    };
    let session = |(session, last): &(u64, Option<u64>)| {
        let held = |index| {
            let outcome = Outcome::NotSwapped { seen: Some("b".into()) };
            Change::Session(*session, Session { last: index, outcome: Some(outcome), version: 1, index })
        };
        last.map_or(Change::SessionClosed(*session), held)
    };
    let changed = keys.iter().map(key).chain(sessions.iter().map(session)).collect();
    Record::Snapshot { partition: 1, index, changed, start }
}

#[test]
fn a_reopened_store_holds_what_its_records_add_up_to() {
    let folder = temporary();
    let (mut storage, found) = open(folder.path());
    assert_eq!((found.disk, found.boot, found.state), (7, 1, DurableState::default()));
    let mut expected = DurableState::default();
    for record in records() {
        expected.apply(&record);
        write(&mut storage, vec![record]);
    }
    drop(storage);
    let (_, found) = Durable::open(folder.path(), 8, false).expect("opens again");
    let sessions = found.state.groups[&1].snapshot.sessions().iter();
    assert_eq!(sessions.map(|(session, held)| (session, held.last)).collect::<Vec<_>>(), [(2, 7)]);
    assert_eq!((found.disk, found.boot, found.state), (7, 2, expected));
}

#[test]
fn a_checkpoint_adds_up_to_what_is_in_force() {
    let (mut in_force, mut again) = (DurableState::default(), DurableState::default());
    apply(&mut in_force, records());
    for record in checkpoint(&in_force) {
        again.apply(&record);
    }
    assert_eq!(again, in_force);
    let group = &in_force.groups[&1];
    assert_eq!((group.announced, group.promised, group.decided), (ballot(1), ballot(2), 7));
    assert_eq!((group.log.start(), group.log.length(), group.snapshot.applied()), (7, 9, 7));
}

/// The numbers of the segments.
fn segments(folder: &Path) -> Vec<u64> {
    Log::read(&folder.join("log"), 7, 0, |_, _| Ok(())).expect("it is read").segments
}

#[test]
fn the_log_stays_short_and_an_idle_group_keeps_what_it_has() {
    let folder = temporary();
    let (mut storage, _) = open(folder.path());
    let mut expected = DurableState::default();
    let idle = [
        Record::Table(Table {
            members: [(1, 7)].into(),
            config: 3,
            replicas: [(1, vec![1]), (2, vec![1])].into(),
        }),
        Record::Announced { partition: 2, ballot: ballot(4) },
        Record::Promised { partition: 2, ballot: ballot(5) },
        Record::Accepted {
            partition: 2,
            accepted_ballot: ballot(5),
            start: 0,
            entries: entries(&["idle", "too"]),
        },
        Record::Decided { partition: 2, decided: 1 },
    ];
    // the other group writes a hundred times what a segment holds
    for record in records().into_iter().skip(1).chain(idle).chain(rounds(500)) {
        expected.apply(&record);
        write(&mut storage, vec![record]);
    }
    storage.settle();
    let left = segments(folder.path());
    assert!(left[0] > 50 && left.len() <= 2, "{left:?}");
    drop(storage);
    let (_, found) = open(folder.path());
    assert_eq!(found.state, expected);
    assert_eq!(found.state.groups[&2].promised, ballot(5));
}

#[test]
fn a_write_that_is_longer_than_a_segment_is_written_to_one() {
    let folder = temporary();
    let (mut storage, _) = open(folder.path());
    let mut expected = DurableState::default();
    let long = "long ".repeat(1000);
    for record in records().into_iter().chain([Record::Accepted {
        partition: 1,
        accepted_ballot: ballot(3),
        start: 9,
        entries: entries(&[&long, "short"]),
    }]) {
        expected.apply(&record);
        write(&mut storage, vec![record]);
    }
    for _ in 0..100 {
        let next = Record::Decided { partition: 1, decided: 8 };
        expected.apply(&next);
        write(&mut storage, vec![next]);
    }
    // its checkpoint has the long one, too
    assert!(storage.segment.capacity > 4 * 5000, "{:?}", storage.segment);
    drop(storage);
    assert_eq!(open(folder.path()).1.state, expected);
}

#[test]
fn a_tree_that_does_not_fit_the_log_is_refused() {
    let folder = temporary();
    let (mut storage, _) = open(folder.path());
    write(&mut storage, records());
    let number = storage.number;
    drop(storage);
    let mut keys = Keys::open(&folder.path().join("keys")).expect("opens");
    keys.take(number, &[Moved { partition: 1, index: 6, changed: Vec::new() }]).expect("taken");
    keys.flush().expect("flushed");
    drop(keys);
    let refused = || try_open(folder.path()).err().expect("it is refused").to_string();
    assert_eq!(
        refused(),
        "the stored snapshot of partition 1 cannot be read: it reflects entry 6, and the log says 7"
    );
    let mut keys = Keys::open(&folder.path().join("keys")).expect("opens");
    keys.take(number + 5, &[]).expect("taken");
    keys.flush().expect("flushed");
    drop(keys);
    let words = format!("it ends with write {number}, and the snapshots of write {} were there", number + 5);
    assert!(refused().contains(&words), "{}", refused());
}

#[test]
fn a_torn_write_is_dropped_and_what_was_synced_before_it_is_not() {
    let folder = temporary();
    let (mut storage, _) = open(folder.path());
    let mut expected = DurableState::default();
    for record in records() {
        expected.apply(&record);
        write(&mut storage, vec![record]);
    }
    drop(storage);
    for boot in 2..4 {
        tear_log(folder.path()).expect("torn");
        let torn = || {
            let log = Log::read(&folder.path().join("log"), 7, 0, |_, _| Ok(())).expect("it is read");
            log.is_torn()
        };
        assert!(torn(), "there is garbage");
        let (mut storage, found) = open(folder.path());
        assert!(!torn(), "it is gone");
        assert_eq!((found.disk, found.boot, &found.state), (7, boot, &expected));
        // and it goes on after that
        let record = Record::Decided { partition: 1, decided: 7 + boot };
        expected.apply(&record);
        write(&mut storage, vec![record]);
    }
}

#[test]
fn what_was_not_synced_is_lost_with_the_process() {
    let folder = temporary();
    let (durable, _) = open(folder.path());
    let mut storage = LosesUnsynced::new(durable);
    let [table, announced, promised, ..] = &records()[..] else { unreachable!("there are more") };
    let first = Batch { number: 1, records: vec![table.clone(), announced.clone()] };
    storage.write(vec![first]).expect("writes");
    storage.sync().expect("syncs");
    storage.write(vec![Batch { number: 2, records: vec![promised.clone()] }]).expect("writes");
    drop(storage);
    let (_, found) = open(folder.path());
    assert_eq!(found.state.groups[&1].announced, ballot(1));
    assert_eq!(found.state.groups[&1].promised, Ballot::BOTTOM);
}
