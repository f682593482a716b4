//! What a crash leaves between any two steps of the keeper, and in the first write of a segment.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use super::{damage::copy_of, *};
use crate::node::storage::power;

/// The folder as a crash in a step leaves it; what was acknowledged then, and the same with what may have been written.
struct Crash {
    step: Step,
    folder: TempDir,
    states: [DurableState; 2],
}

/// All crashes while these records are written.
fn crashes(records: impl IntoIterator<Item = Record>) -> Vec<Crash> {
    let folder = temporary();
    let states = Arc::new(Mutex::new([DurableState::default(), DurableState::default()]));
    let crashes = Arc::new(Mutex::new(Vec::new()));
    let early = Arc::new(AtomicUsize::new(0));
    let watch = {
        let (root, states, crashes) = (folder.path().to_owned(), Arc::clone(&states), Arc::clone(&crashes));
        let early = Arc::clone(&early);
        Box::new(move |step: Step| {
            let states = states.lock().expect("the states").clone();
            let may_come_early = step == Step::Prepared;
            early.fetch_add(usize::from(!may_come_early && states[0] != states[1]), Ordering::SeqCst);
            crashes.lock().expect("the crashes").push(Crash { step, folder: copy_of(&root), states });
        })
    };
    let (mut storage, _) = Durable::open_with(folder.path(), 7, false, SHORT, watch).expect("opens");
    for record in records {
        states.lock().expect("the states")[1].apply(&record);
        storage.write(vec![Batch { number: 1, records: vec![record.clone()] }]).expect("writes");
        storage.settle();
        // all in it is whole: this is what a crash of the process leaves
        states.lock().expect("the states")[0].apply(&record);
        storage.sync().expect("syncs");
        storage.settle();
    }
    drop(storage);
    assert_eq!(early.load(Ordering::SeqCst), 0, "nothing is told to the tree or removed before the sync");
    std::mem::take(&mut *crashes.lock().expect("the crashes"))
}

#[test]
fn a_crash_between_any_two_steps_of_the_keeper_loses_nothing() {
    let mut seen: BTreeMap<String, u64> = BTreeMap::new();
    for (place, crash) in crashes(records().into_iter().chain(rounds(40))).into_iter().enumerate() {
        *seen.entry(format!("{:?}", crash.step)).or_default() += 1;
        let (mut storage, found) = open(crash.folder.path());
        assert!(crash.states.contains(&found.state), "{place}: after {:?}", crash.step);
        // and it goes on: the next segment, and one more
        let length = found.state.groups.get(&1).map_or(0, |group| group.log.length());
        if length < 9 {
            continue;
        }
        let mut state = found.state;
        for start in length..length + 30 {
            let accepted_ballot = ballot(4);
            let record =
                Record::Accepted { partition: 1, accepted_ballot, start, entries: entries(&["more"]) };
            state.apply(&record);
            write(&mut storage, vec![record]);
        }
        storage.settle();
        drop(storage);
        let (_, again) = open(crash.folder.path());
        assert!(again.state == state, "{place}: after {:?}, then more", crash.step);
    }
    for step in [Step::Taken, Step::Prepared, Step::Flushed, Step::Removed] {
        assert!(seen.get(&format!("{step:?}")).is_some_and(|count| *count > 3), "{step:?}: {seen:?}");
    }
}

/// Writes what fits in the segments, and then what fills one of its own, which is not synced: so a start has to write to another one.
/// What all of it adds up to.
fn write_a_whole_segment(storage: &mut Durable) -> DurableState {
    let mut state = DurableState::default();
    for record in records() {
        state.apply(&record);
        write(storage, vec![record]);
    }
    let (accepted_ballot, long) = (ballot(3), "long".repeat(1000));
    let record = Record::Accepted { partition: 1, accepted_ballot, start: 9, entries: entries(&[&long]) };
    state.apply(&record);
    let before = storage.segment.number;
    storage.write(vec![Batch { number: 1, records: vec![record] }]).expect("writes");
    assert!(storage.segment.number == before + 1 && storage.segment.length > storage.segment.capacity);
    state
}

/// The first write of a segment fills it, and the process is killed before the segment behind it is gone: so the start changes segments
/// once more, and has two to remove. The oldest goes first, or a crash would leave a gap.
#[test]
fn a_crash_in_a_start_that_removes_two_segments_loses_nothing() {
    let folder = temporary();
    let (mut storage, _) = open(folder.path());
    let state = write_a_whole_segment(&mut storage);
    let killed = copy_of(folder.path());
    let crashes = Arc::new(Mutex::new(Vec::new()));
    let watch = {
        let (root, crashes) = (killed.path().to_owned(), Arc::clone(&crashes));
        Box::new(move |step: Step| crashes.lock().expect("the crashes").push((step, copy_of(&root))))
    };
    let (storage, found) = Durable::open_with(killed.path(), 7, false, SHORT, watch).expect("opens");
    assert!(found.state == state);
    storage.settle();
    let crashes = std::mem::take(&mut *crashes.lock().expect("the crashes"));
    assert_eq!(crashes.iter().filter(|(step, _)| *step == Step::Removed).count(), 2);
    for (step, folder) in crashes {
        assert!(open(folder.path()).1.state == state, "after {step:?}");
    }
}

/// The process is killed between a write and its sync, and the power fails after the next start has found the write: it was counted on
/// by then, so it is there.
#[test]
fn what_a_start_has_found_outlives_the_power() {
    let folder = temporary();
    power::watch(folder.path());
    let removing = Arc::new(Mutex::new(None));
    let open_watched = || {
        let (root, removing) = (folder.path().to_owned(), Arc::clone(&removing));
        let watch = Box::new(move |step: Step| {
            if step == Step::Flushed {
                power::all_is_synced(&root.join("keys"));
                removing.lock().expect("the disk").get_or_insert_with(|| power::durable(&root));
            }
        });
        Durable::open_with(folder.path(), 7, false, SHORT, watch).expect("opens")
    };
    let (mut storage, _) = open_watched();
    let state = write_a_whole_segment(&mut storage);
    drop(storage);
    *removing.lock().expect("the disk") = None;
    let (storage, found) = open_watched();
    assert!(found.state == state);
    storage.settle();
    // before any segment is removed
    let disk = removing.lock().expect("the disk").take().expect("the start removes a segment");
    let restored = temporary();
    disk.restore(folder.path(), restored.path());
    assert!(open(restored.path()).1.state == state);
}

#[test]
fn the_tree_is_flushed_before_the_log_is_removed() {
    // without the last flush the log must have what the tree lacks
    for crash in crashes(records().into_iter().chain(rounds(40))) {
        let path = crash.folder.path().join("keys");
        let mut replay = Replay::default();
        let take = |number: u64, content: Content| replay.take(number, content);
        Log::read(&crash.folder.path().join("log"), 7, 0, take).expect("it is read");
        let position = Keys::open(&path).expect("opens").position();
        let (first, covered) = (replay.moved.first().map(|(number, _)| *number), replay.covered.unwrap_or(0));
        assert!(position >= covered, "{:?}: {position} is before {covered}", crash.step);
        assert!(first.is_none_or(|first| first > covered), "{:?}", crash.step);
    }
}

#[test]
fn the_first_write_of_a_segment_may_be_torn_anywhere() {
    let folder = temporary();
    let (mut storage, _) = open(folder.path());
    let mut state = DurableState::default();
    let all: Vec<Record> = records().into_iter().chain(rounds(40)).collect();
    let mut before = (copy_of(folder.path()), DurableState::default());
    for record in all {
        let segment = storage.segment.number;
        state.apply(&record);
        storage.write(vec![Batch { number: 1, records: vec![record.clone()] }]).expect("writes");
        if storage.segment.number > segment && segment > 2 {
            // the write is there, and not synced
            let torn = copy_of(folder.path());
            let path = torn.path().join(format!("log/{}.seg", storage.segment.number));
            let whole = fs::read(&path).expect("the segment");
            let written = storage.segment.length as usize;
            for at in (0..written).step_by(7) {
                let mut bytes = whole.clone();
                bytes[at] ^= 0x10;
                fs::write(&path, &bytes).expect("torn");
                let copy = copy_of(torn.path());
                let (_, found) = open(copy.path());
                assert!(found.state == before.1, "byte {at} of {written} is wrong");
                bytes = whole.clone();
                bytes[at..written].fill(0);
                fs::write(&path, &bytes).expect("torn");
                let (_, found) = open(copy_of(torn.path()).path());
                assert!(found.state == before.1, "nothing from byte {at} of {written} on");
            }
            return;
        }
        storage.sync().expect("syncs");
        storage.settle();
        before = (copy_of(folder.path()), state.clone());
    }
    panic!("no segment was changed");
}

/// Only what was synced is there, after each step of the keeper and after each write that was acknowledged.
#[test]
fn a_power_failure_loses_nothing_that_was_acknowledged() {
    let folder = temporary();
    let root = folder.path().to_owned();
    power::watch(&root);
    let (images, acknowledged) = (Arc::new(Mutex::new(Vec::new())), Arc::new(AtomicUsize::new(0)));
    let image = {
        let (root, images, acknowledged) = (root.clone(), Arc::clone(&images), Arc::clone(&acknowledged));
        move || {
            let image = (acknowledged.load(Ordering::SeqCst), power::durable(&root));
            images.lock().expect("the images").push(image);
        }
    };
    let watch = {
        let (image, keys) = (image.clone(), root.join("keys"));
        Box::new(move |step: Step| {
            if step == Step::Flushed {
                power::all_is_synced(&keys);
            }
            image();
        })
    };
    let (mut storage, _) = Durable::open_with(&root, 7, false, SHORT, watch).expect("opens");
    let mut states = vec![DurableState::default()];
    for record in records().into_iter().chain(rounds(40)) {
        let mut state = states[states.len() - 1].clone();
        state.apply(&record);
        states.push(state);
        storage.write(vec![Batch { number: 1, records: vec![record] }]).expect("writes");
        storage.settle();
        image();
        storage.sync().expect("syncs");
        acknowledged.fetch_add(1, Ordering::SeqCst);
        image();
        storage.settle();
    }
    drop(storage);
    let images = std::mem::take(&mut *images.lock().expect("the images"));
    assert!(images.len() > 150, "{}", images.len());
    for (place, (acknowledged, disk)) in images.into_iter().enumerate() {
        let restored = temporary();
        disk.restore(&root, restored.path());
        let (_, found) = open(restored.path());
        // the next one may have been synced, and not been acknowledged
        let next = (acknowledged + 1).min(states.len() - 1);
        assert!(states[acknowledged..=next].contains(&found.state), "{place}: after {acknowledged} writes");
    }
}
