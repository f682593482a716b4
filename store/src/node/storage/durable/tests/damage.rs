//! One wrong byte anywhere in the files of a closed folder: either all that was acknowledged is there, or the node refuses and says
//! which file is wrong.

use std::{collections::BTreeMap, path::PathBuf};

use super::*;
use crate::node::storage::frame::Frame;

/// A closed folder, and what was acknowledged in it.
struct Closed {
    folder: TempDir,
    state: DurableState,
    boots: u64,
    /// The segment that was written last.
    segment: PathBuf,
}

/// Earlier snapshots are in the tree only, later ones in the log; a node has started twice.
fn closed() -> Closed {
    let folder = temporary();
    let mut state = DurableState::default();
    let records: Vec<Record> = records().into_iter().chain(rounds(8)).collect();
    let (early, late) = records.split_at(records.len() / 2);
    let mut segment = PathBuf::new();
    for part in [early, late] {
        let (mut storage, _) = open(folder.path());
        for record in part {
            state.apply(record);
            write(&mut storage, vec![record.clone()]);
        }
        storage.settle();
        segment = folder.path().join(format!("log/{}.seg", storage.segment.number));
    }
    Closed { folder, state, boots: 2, segment }
}

/// All files of a folder with what was written to them.
fn files(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut files = BTreeMap::new();
    for entry in fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            files.extend(self::files(&path));
        } else {
            let content = fs::read(&path).expect("a file");
            files.insert(path, content);
        }
    }
    files
}

/// A copy of a folder.
pub fn copy_of(folder: &Path) -> TempDir {
    copy(&files(folder), folder)
}

fn copy(files: &BTreeMap<PathBuf, Vec<u8>>, from: &Path) -> TempDir {
    let to = temporary();
    for (path, bytes) in files {
        let path = to.path().join(path.strip_prefix(from).expect("a file of the folder"));
        fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
        fs::write(&path, bytes).expect("a file");
    }
    to
}

/// Opens copies of the folder with one byte changed, every `step`th byte of each file; how many were harmless and refused.
fn change_bytes(closed: &Closed, step: usize, mask: impl Fn(usize) -> u8) -> (u64, u64) {
    let root = closed.folder.path();
    let files = files(root);
    let names: Vec<String> = files.keys().map(|path| path.display().to_string()).collect();
    assert!(!root.join("log/1.seg").exists(), "the log has lost its beginning");
    for kind in [".seg", "mark", "current", "tables/"] {
        assert!(names.iter().any(|name| name.contains(kind)), "{kind} is among {names:?}");
    }
    let (mut harmless, mut refused) = (0, 0);
    for (path, bytes) in &files {
        for at in (0..bytes.len()).step_by(step) {
            let mut changed = files.clone();
            changed.get_mut(path).expect("the file")[at] ^= mask(at);
            let copy = copy(&changed, root);
            let place = format!("{} byte {at} of {}", path.display(), bytes.len());
            match try_open(copy.path()) {
                Ok((_, found)) => {
                    assert_eq!((found.disk, found.boot), (7, closed.boots + 1), "{place}");
                    assert_eq!(found.state, closed.state, "{place}");
                    harmless += 1;
                }
                Err(StorageError::Damaged { file, why }) => {
                    let name = file.strip_prefix(copy.path()).expect("a file of the folder");
                    assert!(copy.path().join(name).exists(), "{place}: {why}");
                    let untouched = self::files(copy.path());
                    assert!(untouched.values().eq(changed.values()), "{place}: nothing was changed");
                    refused += 1;
                }
                Err(error) => panic!("{place}: not a clear error: {error}"),
            }
        }
    }
    (harmless, refused)
}

#[test]
fn a_wrong_byte_is_harmless_or_refused() {
    let (harmless, refused) = change_bytes(&closed(), 3, |at| 1 << (at / 3 % 8));
    assert!(harmless > 0 && refused > 300, "{harmless} harmless, {refused} refused");
}

#[test]
#[ignore = "takes minutes: each byte four times, of which the test above tries every third once"]
fn every_wrong_byte_is_harmless_or_refused() {
    let closed = closed();
    for mask in [0x01, 0x10, 0x80, 0xff] {
        let (harmless, refused) = change_bytes(&closed, 1, |_| mask);
        println!("mask {mask:#04x}: {harmless} harmless, {refused} refused");
        assert!(refused > 1000, "{refused} refused");
    }
}

/// Where the writes of a segment begin, and where the last one ends.
fn writes(path: &Path, bytes: &[u8]) -> Vec<usize> {
    let segment = path.file_stem().and_then(|stem| stem.to_str()?.parse().ok()).expect("its number");
    let mut ends = vec![0];
    while let Some(frame) = Frame::read(&bytes[ends[ends.len() - 1]..], 7, segment) {
        ends.push(ends[ends.len() - 1] + frame.length);
    }
    ends
}

/// The folder as a crash before the last sync leaves it: the mark does not know of the last write.
fn before_the_last_sync(closed: &Closed) -> (BTreeMap<PathBuf, Vec<u8>>, DurableState) {
    let mut files = files(closed.folder.path());
    let mark = closed.folder.path().join("mark");
    let folder = copy(&files, closed.folder.path());
    let mut older = Mark::open(folder.path(), 7).expect("a mark");
    older.set(older.acknowledged - 1).expect("written");
    files.insert(mark, fs::read(folder.path().join("mark")).expect("a mark"));
    let mut state = DurableState::default();
    let all: Vec<Record> = records().into_iter().chain(rounds(8)).collect();
    for record in &all[..all.len() - 1] {
        state.apply(record);
    }
    (files, state)
}

#[test]
fn a_write_that_is_torn_anywhere_is_cut_off_and_all_before_it_is_there() {
    let closed = closed();
    let (files, before) = before_the_last_sync(&closed);
    let root = closed.folder.path();
    let whole = &files[&closed.segment];
    let ends = writes(&closed.segment, whole);
    let (from, to) = (ends[ends.len() - 2], ends[ends.len() - 1]);
    let torn = |bytes: Vec<u8>, what: String| {
        let mut files = files.clone();
        files.insert(closed.segment.clone(), bytes);
        let copy = copy(&files, root);
        let (mut storage, found) = try_open(copy.path()).unwrap_or_else(|error| panic!("{what}: {error}"));
        assert!(found.state == before, "{what}");
        // and it goes on
        write(&mut storage, vec![rounds(8).pop().expect("a record")]);
        drop(storage);
        let (_, found) = open(copy.path());
        assert_eq!(found.state, closed.state, "{what}");
    };
    for at in (from..to).step_by(3) {
        torn(whole[..at].to_vec(), format!("the file ends at byte {at}"));
        let mut beginning = whole.clone();
        beginning[at..].fill(0);
        torn(beginning, format!("nothing was written from byte {at} on"));
        // later pieces were written before earlier ones
        let mut wrong = whole.clone();
        wrong[at] ^= 0x20;
        torn(wrong, format!("byte {at} is wrong"));
        let mut hole = whole.clone();
        hole[from..=at].fill(0);
        torn(hole, format!("nothing was written up to byte {at}"));
    }
}

/// After a failure of the machine the mark may be older than the log.
#[test]
fn a_damaged_write_that_others_follow_is_found_without_the_mark() {
    let closed = closed();
    let root = closed.folder.path();
    let mut files = files(root);
    let unused = temporary();
    drop(Mark::open(unused.path(), 7).expect("a mark"));
    files.insert(root.join("mark"), fs::read(unused.path().join("mark")).expect("a mark"));
    let ends = writes(&closed.segment, &files[&closed.segment]);
    let mut refused = 0;
    for at in 0..ends[ends.len() - 2] {
        let mut changed = files.clone();
        changed.get_mut(&closed.segment).expect("the segment")[at] ^= 1 << (at % 8);
        match try_open(copy(&changed, root).path()) {
            Ok((_, found)) => assert_eq!(found.state, closed.state, "byte {at}"),
            Err(StorageError::Damaged { .. }) => refused += 1,
            Err(error) => panic!("byte {at}: not a clear error: {error}"),
        }
    }
    assert!(refused > 100, "{refused} refused");
}

#[test]
fn damage_says_where_it_is() {
    let closed = closed();
    let root = closed.folder.path();
    let all = files(root);
    let name = closed.segment.strip_prefix(root).expect("a file of the folder").display().to_string();
    let ends = writes(&closed.segment, &all[&closed.segment]);
    assert!(ends.len() > 4, "there are some writes: {ends:?}");
    let refused = |files: &BTreeMap<PathBuf, Vec<u8>>| {
        let copy = copy(files, root);
        let error = try_open(copy.path()).err().expect("it is refused");
        error.to_string().replace(&copy.path().display().to_string(), "")
    };
    let changed = |at: usize| {
        let mut files = all.clone();
        files.get_mut(&closed.segment).expect("the segment")[at] ^= 1;
        refused(&files)
    };
    let (middle, next, last) = (ends[1], ends[2], ends[ends.len() - 2]);
    let words = changed(middle);
    assert!(words.starts_with(&format!("/{name} is damaged: write ")), "{words}");
    assert!(
        words.contains(&format!("at byte {middle} is not whole, and whole ones follow from byte {next} on")),
        "{words}"
    );
    assert!(words.contains("Nothing was changed"), "{words}");
    let words = changed(last);
    let mark = Mark::open(copy_of(root).path(), 7).expect("a mark").acknowledged;
    let expected = format!("write {mark} at byte {last} is not whole, and write {mark} was acknowledged");
    assert!(words.contains(&expected), "{words}");
    // one that is whole, and was written before
    let mut files = all.clone();
    let bytes = files.get_mut(&closed.segment).expect("the segment");
    bytes[last..].fill(0);
    let words = refused(&files);
    assert!(words.contains(&format!("it ends with write {}, and write {mark} was ack", mark - 1)), "{words}");
    // a segment between two
    let mut files = all.clone();
    files.insert(root.join("log/900.seg"), vec![0; 64]);
    let words = refused(&files);
    assert!(words.contains("it is not there, but segments") && words.contains("and 900 are"), "{words}");
}

/// Two segments with writes are there when a crash comes before the older one is removed.
#[test]
fn damage_in_an_older_segment_is_found() {
    let folder = temporary();
    let removed = std::sync::Arc::new(std::sync::Mutex::new(None));
    let watch = {
        let (root, removed) = (folder.path().to_owned(), std::sync::Arc::clone(&removed));
        Box::new(move |step: Step| {
            if step == Step::Flushed {
                removed.lock().expect("the copy").get_or_insert_with(|| copy_of(&root));
            }
        })
    };
    let (mut storage, _) = Durable::open_with(folder.path(), 7, false, SHORT, watch).expect("opens");
    for record in records().into_iter().chain(rounds(8)) {
        write(&mut storage, vec![record]);
        storage.settle();
    }
    let two = removed.lock().expect("the copy").take().expect("a segment was removed");
    let path = two.path().join("log/1.seg");
    let whole = fs::read(&path).expect("the older segment");
    let ends = writes(&path, &whole);
    let last = ends[ends.len() - 2];
    for at in [ends[1] + 40, last, last + 33, ends[ends.len() - 1] + 1] {
        let mut bytes = whole.clone();
        bytes[at] ^= 1;
        fs::write(&path, &bytes).expect("damaged");
        let words = try_open(two.path()).err().expect("it is refused").to_string();
        assert!(words.contains("1.seg is damaged: write ") && words.contains("whole ones follow"), "{words}");
    }
    fs::write(&path, &whole).expect("put back");
    open(two.path());
}

#[test]
fn a_file_that_is_gone_is_missed() {
    let closed = closed();
    let root = closed.folder.path();
    let all = files(root);
    let mut missed = 0;
    for path in all.keys() {
        let mut files = all.clone();
        files.remove(path);
        match try_open(copy(&files, root).path()) {
            // the next segment, which was not written to, or a list of tables that is not the last one
            Ok((_, found)) => {
                assert_eq!(found.state, closed.state, "{} is gone", path.display());
                let name = path.display().to_string();
                assert!(name.contains("/keys/v") || name.contains("/log/"), "{name} was not missed");
                assert_ne!(path, &closed.segment, "nobody missed it");
            }
            Err(StorageError::Damaged { .. }) => missed += 1,
            Err(error) => panic!("{} is gone: {error}", path.display()),
        }
    }
    assert!(missed >= 5, "{missed} of {:?}", all.keys());
}

#[test]
fn an_older_copy_of_the_tree_is_refused() {
    let folder = temporary();
    let root = folder.path();
    let (mut storage, _) = open(root);
    let mut older = BTreeMap::new();
    for record in records().into_iter().chain(rounds(20)) {
        write(&mut storage, vec![record]);
        storage.settle();
        if older.is_empty() && storage.segment.number == 3 {
            older = files(&root.join("keys"));
        }
    }
    drop(storage);
    let mut mixed = files(root);
    mixed.retain(|path, _| !path.starts_with(root.join("keys")));
    let refused = |files: &BTreeMap<PathBuf, Vec<u8>>| match try_open(copy(files, root).path()) {
        Err(StorageError::Damaged { why, .. }) => why,
        Err(error) => panic!("not a clear error: {error}"),
        Ok(_) => panic!("it opens"),
    };
    let why = refused(&mixed);
    assert!(why.contains("it is not there, and the log begins after the snapshots of write"), "{why}");
    mixed.extend(older);
    let why = refused(&mixed);
    assert!(why.contains("it ends with write") && why.contains("the log begins after"), "{why}");
}

#[test]
fn a_crash_in_the_first_start_leaves_nothing_that_is_in_the_way() {
    let folder = temporary();
    fs::write(folder.path().join("mark.new"), "ma").expect("a piece of a mark");
    drop(Mark::open(folder.path(), 7).expect("a mark"));
    fs::create_dir_all(folder.path().join("keys/tables")).expect("a folder");
    fs::create_dir(folder.path().join("log")).expect("a folder");
    fs::write(folder.path().join("log/next.new"), "").expect("a piece of a segment");
    fs::write(folder.path().join("log/1.seg"), [0; 300]).expect("a segment");
    let (_, found) = open(folder.path());
    assert_eq!((found.disk, found.boot, found.state), (7, 1, DurableState::default()));
}

#[test]
fn a_folder_is_opened_by_one_at_a_time() {
    let folder = temporary();
    let (_storage, _) = open(folder.path());
    let refused = try_open(folder.path()).err().expect("it is refused").to_string();
    assert!(refused.contains("another process has opened the folder"), "{refused}");
}
