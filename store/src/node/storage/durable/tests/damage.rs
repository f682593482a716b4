//! One wrong byte anywhere in the files of a closed folder: either all that was acknowledged is there, or the node refuses and says
//! which file is wrong.

use std::{fs::File, path::PathBuf};

use tempfile::TempDir;

use super::*;

/// A closed folder, and what was acknowledged in it.
struct Closed {
    folder: TempDir,
    state: DurableState,
    boots: u64,
}

/// On a disk without syncs where there is one: thousands of folders are opened.
fn temporary() -> TempDir {
    let shared = Path::new("/dev/shm");
    let folder = if shared.is_dir() { tempfile::tempdir_in(shared) } else { tempfile::tempdir() };
    folder.expect("a temporary folder")
}

/// Some records in sorted files, the others in a journal; a node has started twice.
fn closed() -> Closed {
    let folder = temporary();
    let mut state = DurableState::default();
    let records = records();
    let (early, late) = records.split_at(6);
    for part in [early, late] {
        let (mut storage, _) = Durable::open(folder.path(), 7, false).expect("opens");
        for record in part {
            state.apply(record);
            storage.write(&[Batch { number: 1, records: vec![record.clone()] }]).expect("writes");
            storage.sync().expect("syncs");
        }
        if part == early {
            storage.keys.rotate_memtable_and_wait().expect("sorts");
        }
    }
    Closed { folder, state, boots: 2 }
}

/// All files of a folder with what was written to them.
fn files(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut files = BTreeMap::new();
    for entry in fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            files.extend(self::files(&path));
        } else {
            let content = journal::content(&path).expect("a file");
            files.insert(path, content);
        }
    }
    files
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
    for kind in ["0.jnl", "mark", "version", "current", "tables/"] {
        assert!(names.iter().any(|name| name.contains(kind)), "{kind} is among {names:?}");
    }
    let (mut harmless, mut refused) = (0, 0);
    for (path, bytes) in &files {
        for at in (0..bytes.len()).step_by(step) {
            let mut changed = files.clone();
            changed.get_mut(path).expect("the file")[at] ^= mask(at);
            let copy = copy(&changed, root);
            let place = format!("{} byte {at} of {}", path.display(), bytes.len());
            match Durable::open(copy.path(), 8, false) {
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

/// Where the writes of the folder's journal begin, and where the last one ends.
fn writes(bytes: &[u8]) -> Vec<usize> {
    let mut ends = vec![0];
    while let Some(length) = journal::whole(&bytes[ends[ends.len() - 1]..]) {
        ends.push(ends[ends.len() - 1] + length);
    }
    ends
}

/// The folder as a crash before the last sync leaves it: the mark does not know of the last write.
fn before_the_last_sync(closed: &Closed) -> (BTreeMap<PathBuf, Vec<u8>>, DurableState) {
    let mut files = files(closed.folder.path());
    let mark = closed.folder.path().join("mark");
    let folder = copy(&files, closed.folder.path());
    let mut older = Mark::open(folder.path()).expect("a mark");
    older.set(older.acknowledged - 1).expect("written");
    files.insert(mark, fs::read(folder.path().join("mark")).expect("a mark"));
    let mut state = DurableState::default();
    records()[..records().len() - 1].iter().for_each(|record| state.apply(record));
    (files, state)
}

#[test]
fn a_write_that_is_torn_anywhere_is_cut_off_and_all_before_it_is_there() {
    let closed = closed();
    let (files, before) = before_the_last_sync(&closed);
    let root = closed.folder.path();
    let journal = root.join("0.jnl");
    let whole = &files[&journal];
    let ends = writes(whole);
    let (from, to) = (ends[ends.len() - 2], ends[ends.len() - 1]);
    let torn = |bytes: Vec<u8>, what: String, may_be_whole: bool| {
        let mut files = files.clone();
        files.insert(journal.clone(), bytes);
        let copy = copy(&files, root);
        let (mut storage, found) =
            Durable::open(copy.path(), 8, false).unwrap_or_else(|error| panic!("{what}: {error}"));
        assert!(found.state == before || may_be_whole && found.state == closed.state, "{what}");
        // and it goes on
        storage
            .write(&[Batch { number: 1, records: vec![records().pop().expect("a record")] }])
            .expect("writes");
        storage.sync().expect("syncs");
        drop(storage);
        let (_, found) = Durable::open(copy.path(), 8, false).expect("opens again");
        assert_eq!(found.state, closed.state, "{what}");
    };
    for at in (from..to).step_by(3) {
        torn(whole[..at].to_vec(), format!("ends at byte {at}"), false);
        // later pieces were written before earlier ones
        let mut wrong = whole.clone();
        wrong[at] ^= 0x20;
        // the engine's number of a write may be another one, as long as their order stays
        torn(wrong, format!("byte {at} is wrong"), (from + 5..from + 13).contains(&at));
        let mut hole = whole.clone();
        hole[from..=at].fill(0);
        torn(hole, format!("nothing was written up to byte {at}"), false);
    }
}

/// After a failure of the machine the mark may be older than the journal.
#[test]
fn a_damaged_write_that_others_follow_is_found_without_the_mark() {
    let closed = closed();
    let root = closed.folder.path();
    let mut files = files(root);
    let unused = temporary();
    drop(Mark::open(unused.path()).expect("a mark"));
    files.insert(root.join("mark"), fs::read(unused.path().join("mark")).expect("a mark"));
    let journal = root.join("0.jnl");
    let ends = writes(&files[&journal]);
    let mut refused = 0;
    for at in (0..ends[ends.len() - 2]).step_by(5) {
        let mut changed = files.clone();
        changed.get_mut(&journal).expect("the journal")[at] ^= 1 << (at % 8);
        match Durable::open(copy(&changed, root).path(), 8, false) {
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
    let journal = root.join("0.jnl");
    let all = files(root);
    let ends = writes(&all[&journal]);
    let refused = |files: &BTreeMap<PathBuf, Vec<u8>>| {
        let copy = copy(files, root);
        let error = Durable::open(copy.path(), 8, false).err().expect("it is refused");
        error.to_string().replace(&copy.path().display().to_string(), "")
    };
    let changed = |at: usize| {
        let mut files = all.clone();
        files.get_mut(&journal).expect("the journal")[at] ^= 1;
        refused(&files)
    };
    let (middle, last) = (ends[2], ends[ends.len() - 2]);
    let words = changed(middle);
    let next = ends[3];
    assert!(words.starts_with("/0.jnl is damaged: write 3 at byte "), "{words}");
    assert!(
        words.contains(&format!("at byte {middle} is not whole, and whole ones follow from byte {next} on")),
        "{words}"
    );
    assert!(words.contains("Nothing was changed"), "{words}");
    let words = changed(last);
    assert!(
        words
            .contains(&format!("at byte {last} is not whole, and write {} was acknowledged", ends.len() - 1)),
        "{words}"
    );
    // a journal that is not the newest one was synced
    let mut files = all.clone();
    let bytes = files.remove(&journal).expect("the journal");
    let mut sealed = bytes[..middle].to_vec();
    files.insert(root.join("1.jnl"), bytes[middle..].to_vec());
    files.insert(journal.clone(), sealed.clone());
    let (_, found) = Durable::open(copy(&files, root).path(), 8, false).expect("whole ones are read");
    assert_eq!(found.state, closed.state);
    let second = ends[1];
    sealed[second] ^= 1;
    files.insert(journal.clone(), sealed);
    let words = refused(&files);
    assert!(
        words.contains(&format!("write 2 at byte {second} is not whole, and there is a later journal")),
        "{words}"
    );
    files.insert(journal, bytes[..second].to_vec());
    let words = refused(&files);
    assert!(words.contains("/1.jnl is damaged: write 2 at byte 0"), "{words}");
}

/// The last write of a journal is not whole, and only its checksum shows it.
#[test]
fn the_engine_alone_does_not_open_after_some_crashes() {
    let closed = closed();
    let (mut files, _) = before_the_last_sync(&closed);
    let journal = files.get_mut(&closed.folder.path().join("0.jnl")).expect("the journal");
    let last = writes(journal).pop().expect("its end");
    // of the last item's value
    journal[last - 20] ^= 1;
    let opened = Database::builder(copy(&files, closed.folder.path()).path()).open();
    assert!(matches!(opened, Err(fjall::Error::JournalRecovery(_))), "{:?}", opened.err());
}

/// Why the journals are read before the engine reads them.
#[test]
fn the_engine_alone_drops_what_follows_a_wrong_byte() {
    let closed = closed();
    let mut files = files(closed.folder.path());
    let journal = files.get_mut(&closed.folder.path().join("0.jnl")).expect("the journal");
    let ends = writes(journal);
    // behind what is in the sorted files
    let at = ends[ends.len() - 3];
    journal[at] ^= 0x40;
    let copy = copy(&files, closed.folder.path());
    let database = Database::builder(copy.path()).open().expect("it does not say a word");
    let keys = database.keyspace("node", KeyspaceCreateOptions::default).expect("a keyspace");
    let number = keys.get(journal::NUMBER).expect("read").expect("a number");
    assert_eq!(journal::number_in(&number), Some(ends.len() as u64 - 3), "two writes are gone");
    let left = File::open(copy.path().join("0.jnl")).and_then(|file| file.metadata()).expect("the journal");
    assert_eq!(left.len(), at as u64, "also on the disk");
}

#[test]
fn a_file_that_is_gone_is_missed() {
    let closed = closed();
    let root = closed.folder.path();
    let all = files(root);
    for path in all.keys().filter(|path| !path.ends_with("lock")) {
        let mut files = all.clone();
        files.remove(path);
        let copy = copy(&files, root);
        let opened = Durable::open(copy.path(), 8, false);
        assert!(opened.is_err(), "{} is gone, and nobody missed it", path.display());
    }
}

#[test]
fn a_crash_in_the_first_start_leaves_nothing_that_is_in_the_way() {
    let folder = temporary();
    fs::write(folder.path().join("mark.new"), "ma").expect("a piece of a mark");
    drop(Mark::open(folder.path()).expect("a mark"));
    fs::write(folder.path().join("lock"), "").expect("a lock");
    fs::write(folder.path().join("0.jnl"), "").expect("a journal");
    fs::create_dir(folder.path().join("keyspaces")).expect("a folder");
    let (_, found) = Durable::open(folder.path(), 7, false).expect("it starts");
    assert_eq!((found.disk, found.boot, found.state), (7, 1, DurableState::default()));
}

#[test]
fn a_folder_is_opened_by_one_at_a_time() {
    let folder = temporary();
    let (_storage, _) = Durable::open(folder.path(), 7, false).expect("opens");
    let refused = Durable::open(folder.path(), 7, false).err().expect("it is refused").to_string();
    assert!(refused.contains("another process has opened the folder"), "{refused}");
}
