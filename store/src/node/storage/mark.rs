//! The file `mark`: the version of the layout of a data folder, the identity of the disk, and the number of the last write that was
//! acknowledged.
//!
//! It is there before anything else. The number is written when a sync has come back, and before anybody hears of that; it
//! is not synced itself, but at each start. So after a crash of the process it is exact, and what it says was acknowledged must
//! be found. After a failure of the machine it may be older: then a damaged write that was the last one may pass for a torn one;
//! one that others follow never does.

use std::{
    fs::{self, File, TryLockError},
    io,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
};

use xxhash_rust::xxh3::xxh3_64;

use super::{
    StorageError, in_file,
    segments::{sync_file, sync_folder},
};

/// Version of the layout on disk; a node refuses every other.
pub const LAYOUT: u32 = 7;

/// What the file begins with, whatever the version.
const MAGIC: &[u8; 4] = b"mark";

/// Magic, version, identity, number, and a checksum of them.
const LENGTH: usize = 4 + 4 + 8 + 8 + 8;

/// The file. While it is open, no other process opens it.
#[derive(Debug)]
pub struct Mark {
    file: File,
    path: PathBuf,
    /// Identity of the disk.
    pub disk: u64,
    /// The last write that was acknowledged, when it was opened.
    pub acknowledged: u64,
}

impl Mark {
    /// Opens the mark of a folder; makes it where nothing is yet, and `fresh_disk` is the identity then.
    pub fn open(folder: &Path, fresh_disk: u64) -> Result<Self, StorageError> {
        let path = folder.join("mark");
        if !path.exists() {
            let unfinished = path.with_extension("new");
            let mut others = fs::read_dir(folder).map_err(in_file(folder))?;
            if others.any(|entry| entry.map_or(true, |entry| entry.path() != unfinished)) {
                let why = format!(
                    "it is not there, but other files are: they are of an earlier version (this program reads version {LAYOUT}), \
                     or are not a node's"
                );
                return Err(StorageError::Damaged { file: path, why });
            }
            create(folder, fresh_disk, &unfinished, &path).map_err(in_file(&path))?;
        }
        let file = File::options().write(true).open(&path).map_err(in_file(&path))?;
        // two processes would cut off each other's writes
        file.try_lock().map_err(|error| match error {
            TryLockError::WouldBlock => StorageError::Locked { folder: folder.to_owned() },
            TryLockError::Error(error) => in_file(&path)(error),
        })?;
        let bytes = fs::read(&path).map_err(in_file(&path))?;
        let (disk, acknowledged) =
            read(&bytes).map_err(|why| StorageError::Damaged { file: path.clone(), why })?;
        Ok(Self { file, path, disk, acknowledged })
    }

    /// Makes the number durable, too.
    pub fn sync(&self) -> Result<(), StorageError> {
        sync_file(&self.file).map_err(in_file(&self.path))
    }

    /// The identity of the disk of a node that does not run.
    pub fn disk_of(folder: &Path) -> Result<u64, StorageError> {
        let path = folder.join("mark");
        let bytes = fs::read(&path).map_err(in_file(&path))?;
        read(&bytes).map(|(disk, _)| disk).map_err(|why| StorageError::Damaged { file: path, why })
    }

    /// All writes up to this one are durable.
    pub fn set(&mut self, number: u64) -> Result<(), StorageError> {
        self.file.write_all_at(&content(LAYOUT, self.disk, number), 0).map_err(in_file(&self.path))
    }
}

/// There wholly or not at all.
fn create(folder: &Path, disk: u64, unfinished: &Path, path: &Path) -> io::Result<()> {
    fs::write(unfinished, content(LAYOUT, disk, 0))?;
    sync_file(&File::open(unfinished)?)?;
    fs::rename(unfinished, path)?;
    sync_folder(folder)
}

fn content(layout: u32, disk: u64, number: u64) -> [u8; LENGTH] {
    let mut bytes = [0; LENGTH];
    bytes[..4].copy_from_slice(MAGIC);
    bytes[4..8].copy_from_slice(&layout.to_le_bytes());
    bytes[8..16].copy_from_slice(&disk.to_le_bytes());
    bytes[16..24].copy_from_slice(&number.to_le_bytes());
    let checksum = xxh3_64(&bytes[..24]);
    bytes[24..].copy_from_slice(&checksum.to_le_bytes());
    bytes
}

/// Identity and number.
fn read(bytes: &[u8]) -> Result<(u64, u64), String> {
    let word = |from: usize| {
        let word = bytes.get(from..from + 8).and_then(|word| word.try_into().ok());
        word.map(u64::from_le_bytes).ok_or_else(|| format!("it has {} bytes, not {LENGTH}", bytes.len()))
    };
    let head = word(0)?;
    let layout = head >> 32;
    if bytes.starts_with(MAGIC) && layout != u64::from(LAYOUT) && is_of_some_version(bytes) {
        return Err(format!("its layout is version {layout}, this program reads version {LAYOUT}"));
    }
    let (disk, number, checksum) = (word(8)?, word(16)?, word(24)?);
    if bytes.len() != LENGTH || !bytes.starts_with(MAGIC) || checksum != xxh3_64(&bytes[..24]) {
        return Err("its checksum does not fit".to_owned());
    }
    Ok((disk, number))
}

/// Whether the checksum fits that any version ends with.
fn is_of_some_version(bytes: &[u8]) -> bool {
    bytes.split_last_chunk().is_some_and(|(rest, checksum)| xxh3_64(rest) == u64::from_le_bytes(*checksum))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_version_is_refused_clearly() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("mark");
        let refused = || Mark::open(folder.path(), 7).expect_err("it is refused").to_string();
        fs::write(&path, content(LAYOUT + 1, 7, 5)).expect("a mark");
        let words = format!("its layout is version {}, this program reads version {LAYOUT}", LAYOUT + 1);
        assert!(refused().contains(&words), "{}", refused());
        // the last one knew nothing of the identity
        let mut older = [b"mark".as_slice(), &4_u32.to_le_bytes(), &5_u64.to_le_bytes()].concat();
        older.extend(xxh3_64(&older).to_le_bytes());
        fs::write(&path, older).expect("a mark");
        assert!(refused().contains("its layout is version 4, this program reads"), "{}", refused());
        fs::remove_file(&path).expect("no mark");
        fs::write(folder.path().join("0.jnl"), "of an earlier version").expect("a journal");
        assert!(refused().contains("they are of an earlier version"), "{}", refused());
    }
}
