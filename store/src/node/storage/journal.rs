//! Reads the engine's journals before the engine does.
//!
//! A journal is a row of writes; the engine replays it when it opens. Left to itself it ends at the first piece of a write that
//! it cannot make out and cuts off everything behind that, wherever it is and without a word; and it refuses to open
//! when the last write is torn in a way that only the checksum shows. So the journals are read here first, and the engine finds
//! whole ones only:
//!
//! - The next write is begun only when the one before it is synced. So at most the last write is torn, and what is not whole is
//!   **torn** only if nothing whole follows it, and if it was not acknowledged (see [`Mark`](super::mark)). It is cut off, and the
//!   log says how much.
//! - Anything else is **damage**, and the node does not start. Nothing was changed then.
//!
//! A write is: 1, its number of items (u32), the engine's sequence number (u64); for each item: 2, kind (u8), compression (u8),
//! keyspace (u64), length of its key (u16), of its value (u32), and of its value as stored (u32), key, value; 3, checksum of
//! the items (u64, XXH3), and a trailer. All little-endian. The first item of each is the store's own: it numbers the writes, and
//! says from what the sequence number was drawn, since the engine's checksum does not cover that.

use std::{
    fs::{self, File},
    io::{self, Read},
    path::{Path, PathBuf},
};

use rustix::fs::{SeekFrom, seek};
use xxhash_rust::xxh3::xxh3_64;

use super::{StorageError, in_file};

/// Key of the item that numbers a write.
pub const NUMBER: &[u8] = b"write";

/// What a write ends with.
const TRAILER: &[u8] = &[b'F', b'J', b'L', 3];

/// More than the engine ever draws for itself between two writes.
const DRAWN_BETWEEN: u64 = 1 << 20;

/// Value of the item that numbers a write.
pub fn numbered(number: u64, drawn_from: u64) -> [u8; 16] {
    let mut value = [0; 16];
    value[..8].copy_from_slice(&number.to_le_bytes());
    value[8..].copy_from_slice(&drawn_from.to_le_bytes());
    value
}

/// The number in such a value.
pub fn number_in(value: &[u8]) -> Option<u64> {
    let (number, drawn_from) = value.split_first_chunk::<8>()?;
    (drawn_from.len() == 8).then(|| u64::from_le_bytes(*number))
}

/// Reads all journals in `folder`, and cuts a torn write off. Gives the number of the last write in them, if there is any.
/// All up to number `acknowledged` must be whole.
pub fn check(folder: &Path, acknowledged: u64) -> Result<Option<u64>, StorageError> {
    let journals = journals(folder)?;
    let mut last: Option<Write> = None;
    for (place, path) in journals.iter().enumerate() {
        let bytes = content(path).map_err(in_file(path))?;
        let mut at = 0;
        while bytes[at..].iter().any(|byte| *byte != 0) {
            let next = Write::read(&bytes[at..]).filter(|write| write.follows(last.as_ref()));
            let Some(write) = next else {
                let is_newest = place + 1 == journals.len();
                tear(path, &bytes, at, last.as_ref(), acknowledged, is_newest)?;
                break;
            };
            at += write.length;
            last = Some(write);
        }
    }
    if let Some(Write { number, .. }) = last.as_ref().filter(|last| last.number < acknowledged) {
        return Err(StorageError::Damaged {
            file: journals.last().expect("there is a write in one").clone(),
            why: format!("it ends with write {number}, and write {acknowledged} was acknowledged"),
        });
    }
    Ok(last.map(|last| last.number))
}

/// Cuts off what begins at `at` and is not whole, if a crash may have left it so.
fn tear(
    path: &Path,
    bytes: &[u8],
    at: usize,
    last: Option<&Write>,
    acknowledged: u64,
    is_newest: bool,
) -> Result<(), StorageError> {
    let damaged = |why: String| StorageError::Damaged { file: path.to_owned(), why };
    let number = last.map(|last| last.number + 1);
    let torn = number.map_or_else(|| "a write".to_owned(), |number| format!("write {number}"));
    if !is_newest {
        return Err(damaged(format!("{torn} at byte {at} is not whole, and there is a later journal")));
    }
    let begins_later = |start: &usize| {
        bytes[*start] == 1 && Write::read(&bytes[*start..]).is_some_and(|write| write.is_after(last))
    };
    // also one at `at`: it follows nothing, since the engine's number of the write before is damaged
    if let Some(next) = (at..bytes.len()).find(begins_later) {
        return Err(damaged(format!(
            "{torn} at byte {at} is not whole, and whole ones follow from byte {next} on"
        )));
    }
    if number.is_none_or(|number| number <= acknowledged) && acknowledged > 0 {
        return Err(damaged(format!(
            "{torn} at byte {at} is not whole, and write {acknowledged} was acknowledged"
        )));
    }
    let end = bytes.iter().rposition(|byte| *byte != 0).map_or(at, |end| end + 1);
    tracing::warn!(file = %path.display(), at, bytes = end - at, "{torn} was torn by a crash and never acknowledged: cut off");
    let journal = File::options().write(true).open(path).map_err(in_file(path))?;
    journal.set_len(at as u64).and_then(|()| journal.sync_all()).map_err(in_file(path))
}

/// The journals in a folder, the newest one last.
pub fn journals(folder: &Path) -> Result<Vec<PathBuf>, StorageError> {
    let mut journals: Vec<(u64, PathBuf)> = Vec::new();
    for entry in fs::read_dir(folder).map_err(in_file(folder))? {
        let path = entry.map_err(in_file(folder))?.path();
        if path.extension().is_some_and(|kind| kind == "jnl") {
            let number = path.file_stem().and_then(|stem| stem.to_str()?.parse().ok()).ok_or_else(|| {
                StorageError::Damaged { file: path.clone(), why: "a journal has a number".to_owned() }
            })?;
            journals.push((number, path));
        }
    }
    journals.sort_unstable();
    Ok(journals.into_iter().map(|(_, path)| path).collect())
}

/// What was written to a file. The engine makes a journal long from the beginning: the rest of it is a hole.
pub fn content(path: &Path) -> io::Result<Vec<u8>> {
    let mut file = File::open(path)?;
    let mut end = 0;
    // until there is no data beyond
    while let Ok(data) = seek(&file, SeekFrom::Data(end)) {
        end = seek(&file, SeekFrom::Hole(data))?;
    }
    seek(&file, SeekFrom::Start(0))?;
    let mut bytes = Vec::with_capacity(end as usize);
    file.by_ref().take(end).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Bytes of the write that `bytes` begin with, if it is whole.
#[cfg(test)]
pub fn whole(bytes: &[u8]) -> Option<usize> {
    Write::read(bytes).map(|write| write.length)
}

/// A whole write.
struct Write {
    /// Bytes that it takes.
    length: usize,
    number: u64,
    /// The engine's number for it, and the lowest that it can have been.
    sequence: u64,
    drawn_from: u64,
}

impl Write {
    /// The write that `bytes` begin with, if it is whole.
    fn read(bytes: &[u8]) -> Option<Self> {
        let mut rest = bytes;
        let [1] = take(&mut rest)? else { return None };
        let items = u32::from_le_bytes(take(&mut rest)?);
        let sequence = u64::from_le_bytes(take(&mut rest)?);
        let body = rest;
        let mut numbers = None;
        for item in 0..items {
            let (key, value) = read_item(&mut rest)?;
            if item == 0 {
                let (number, drawn_from) = value.split_first_chunk::<8>().filter(|_| key == NUMBER)?;
                numbers =
                    Some((u64::from_le_bytes(*number), u64::from_le_bytes(drawn_from.try_into().ok()?)));
            }
        }
        let body = &body[..body.len() - rest.len()];
        let [3] = take(&mut rest)? else { return None };
        let checksum = u64::from_le_bytes(take(&mut rest)?);
        let trailer: [u8; 4] = take(&mut rest)?;
        let (number, drawn_from) = numbers?;
        let whole = trailer == TRAILER
            && checksum == xxh3_64(body)
            && (drawn_from..drawn_from.saturating_add(DRAWN_BETWEEN)).contains(&sequence);
        whole.then_some(Self { length: bytes.len() - rest.len(), number, sequence, drawn_from })
    }

    /// Whether it is the one after `last`, or may be the first that there is.
    fn follows(&self, last: Option<&Self>) -> bool {
        last.is_none_or(|last| self.number == last.number + 1 && self.drawn_from > last.sequence)
    }

    /// Whether it was written after `last`.
    fn is_after(&self, last: Option<&Self>) -> bool {
        last.is_none_or(|last| self.number > last.number)
    }
}

/// Key and value of the item that `rest` begins with.
fn read_item<'a>(rest: &mut &'a [u8]) -> Option<(&'a [u8], &'a [u8])> {
    let [2, _kind, 0] = take(rest)? else { return None };
    let _keyspace: [u8; 8] = take(rest)?;
    let key = u16::from_le_bytes(take(rest)?);
    let value = u32::from_le_bytes(take(rest)?);
    let stored = u32::from_le_bytes(take(rest)?);
    (value == stored).then_some(())?;
    let key = split(rest, key as usize)?;
    Some((key, split(rest, value as usize)?))
}

fn take<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    split(rest, N)?.try_into().ok()
}

fn split<'a>(rest: &mut &'a [u8], length: usize) -> Option<&'a [u8]> {
    let (taken, left) = rest.split_at_checked(length)?;
    *rest = left;
    Some(taken)
}

/// Leaves the log of a node that does not run as a write that was torn would: garbage follows the last write. Nothing that was
/// synced is touched, since a write ends with bytes that are not 0.
pub fn tear_log(folder: &Path) -> io::Result<()> {
    let newest = journals(folder).map_err(io::Error::other)?.pop();
    let Some(newest) = newest else { return Ok(()) };
    let end = content(&newest)?.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
    let journal = File::options().write(true).open(newest)?;
    // it begins as a write does
    let garbage = [1, 7, 0, 0, 0, 0xff, 0xff, 0xff, 2, 0x5a, 0x5a, 0x5a];
    std::os::unix::fs::FileExt::write_all_at(&journal, &garbage, end as u64)?;
    journal.sync_data()
}
