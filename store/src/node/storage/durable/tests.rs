//! What a disk gives back: whole, torn and damaged.

mod damage;

use super::*;
use crate::{
    api::{Ballot, Operation, Outcome},
    core::{
        kv::Versioned,
        message::{Command, Entry, ProposalId, Table},
        sessions::{Session, Verdict},
    },
    node::storage::{LosesUnsynced, tear_log},
};

fn ballot(number: u64) -> Ballot {
    Ballot { config: 0, number, priority: 0, node: 1 }
}

fn entries(values: &[&str]) -> Vec<Entry> {
    let entry = |value: &&str| {
        let operation = Operation::Put { key: Key::Integer(1), value: (*value).into() };
        Entry::Command(Command { id: ProposalId { node: 1, boot: 1, number: 1 }, operation, session: None })
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
            Change::Session(
                *session,
                Session { last: index, verdict: Verdict { outcome, version: 1, index } },
            )
        };
        last.map_or(Change::SessionClosed(*session), held)
    };
    let changed = keys.iter().map(key).chain(sessions.iter().map(session)).collect();
    Record::Snapshot { partition: 1, index, changed, start }
}

#[test]
fn a_log_that_lacks_entries_that_no_snapshot_covers_is_refused() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (mut storage, _) = Durable::open(folder.path(), 7, false).expect("opens");
    storage.write(&[Batch { number: 1, records: records() }]).expect("writes");
    let mut batch = storage.begin();
    batch.insert(&storage.keys, field(1, b'i'), bytes(&6_u64));
    batch.commit().expect("the snapshot's index goes back");
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
        let journal = fs::read(folder.path().join("0.jnl")).expect("the journal");
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
    storage.write(&[Batch { number: 1, records: vec![table.clone(), announced.clone()] }]).expect("writes");
    storage.sync().expect("syncs");
    storage.write(&[Batch { number: 2, records: vec![promised.clone()] }]).expect("writes");
    drop(storage);
    let (_, found) = Durable::open(folder.path(), 7, false).expect("opens again");
    assert_eq!(found.state.groups[&1].announced, ballot(1));
    assert_eq!(found.state.groups[&1].promised, Ballot::BOTTOM);
}
