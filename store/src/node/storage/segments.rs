//! The files of the log: `log/1.seg`, `log/2.seg` and so on, each made long beforehand, all zeros.
//!
//! The next write is begun only when the one before it is synced, and it goes to one segment. So at most the last write is not
//! whole after a crash, and what is not whole is **torn** only if nothing whole follows it, and if it was not acknowledged (see
//! [`Mark`](super::mark)). It is made zeros again, and the node's log says how much it was. Anything else is **damage**, and
//! the node does not start; nothing was changed then.

use std::{
    fs::{self, File},
    io,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
};

use super::{
    StorageError,
    frame::{Content, Frame},
    in_file,
    mark::Mark,
};

/// Zeros that are written at once.
const PIECE: u64 = 1 << 20;

/// A segment that is written.
#[derive(Debug)]
pub struct Segment {
    /// Its number.
    pub number: u64,
    /// Bytes that were written to it.
    pub length: u64,
    /// Bytes that it was made for.
    pub capacity: u64,
    path: PathBuf,
    file: File,
}

impl Segment {
    /// Makes one; it is there wholly or not at all. Zeros are written, so that later syncs need not tell the file system which
    /// blocks are in use.
    pub fn create(log: &Path, number: u64, capacity: u64) -> Result<Self, StorageError> {
        let unfinished = log.join("next.new");
        let path = path_of(log, number);
        let make = || {
            let file = File::create(&unfinished)?;
            let zeros = vec![0; PIECE.min(capacity) as usize];
            let mut written = 0;
            while written < capacity {
                let piece = PIECE.min(capacity - written);
                file.write_all_at(&zeros[..piece as usize], written)?;
                // in pieces, so that the syncs of the log do not wait for all of it
                sync_file(&file)?;
                written += piece;
            }
            fs::rename(&unfinished, &path)?;
            sync_folder(log)?;
            Ok(file)
        };
        let file = make().map_err(in_file(&path))?;
        Ok(Self { number, length: 0, capacity, path, file })
    }

    /// Opens one that has `length` bytes.
    pub fn open(log: &Path, number: u64, length: u64) -> Result<Self, StorageError> {
        let path = path_of(log, number);
        let open = || {
            let file = File::options().write(true).open(&path)?;
            let capacity = file.metadata()?.len();
            Ok((file, capacity))
        };
        let (file, capacity) = open().map_err(in_file(&path))?;
        Ok(Self { number, length, capacity, path, file })
    }

    /// Appends bytes, which may still be lost.
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), StorageError> {
        self.file.write_all_at(bytes, self.length).map_err(in_file(&self.path))?;
        self.length += bytes.len() as u64;
        Ok(())
    }

    /// Makes all that was appended durable.
    pub fn sync(&self) -> Result<(), StorageError> {
        sync_file(&self.file).map_err(in_file(&self.path))
    }

    /// Whether it was made for so many bytes more.
    pub fn has_room(&self, bytes: usize) -> bool {
        self.length + bytes as u64 <= self.capacity
    }
}

/// Removes a segment for good.
pub fn remove(log: &Path, number: u64) -> Result<(), StorageError> {
    let path = path_of(log, number);
    fs::remove_file(&path).and_then(|()| sync_folder(log)).map_err(in_file(&path))
}

/// Makes what a folder lists durable.
pub fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()?;
    #[cfg(test)]
    super::power::folder_is_synced(folder);
    Ok(())
}

/// Makes what is in a file durable, and its length.
pub fn sync_file(file: &File) -> io::Result<()> {
    file.sync_data()?;
    #[cfg(test)]
    super::power::file_is_synced(file);
    Ok(())
}

fn path_of(log: &Path, number: u64) -> PathBuf {
    log.join(format!("{number}.seg"))
}

/// What the log holds.
#[derive(Debug, Default)]
pub struct Log {
    /// The segments that there are.
    pub segments: Vec<u64>,
    /// The last one with a whole write, and where that ends.
    pub end: Option<(u64, u64)>,
    /// Number of the last whole write.
    pub last: Option<u64>,
    /// Where the last whole write is, if it was not acknowledged.
    unsure: Option<(PathBuf, u64, usize)>,
    /// What is not whole behind it.
    torn: Option<Torn>,
}

/// What a crash has left of a write: bytes `at` to `end`.
#[derive(Debug)]
struct Torn {
    path: PathBuf,
    at: usize,
    end: usize,
}

impl Log {
    /// Reads all segments, in the folder `log`, and changes nothing. `each` is told of each whole write. All up to number
    /// `acknowledged` must be whole.
    pub fn read(
        log: &Path,
        disk: u64,
        acknowledged: u64,
        mut each: impl FnMut(u64, Content) -> Result<(), String>,
    ) -> Result<Self, StorageError> {
        let mut found = Self { segments: numbers(log)?, ..Self::default() };
        for segment in found.segments.clone() {
            let path = path_of(log, segment);
            let bytes = fs::read(&path).map_err(in_file(&path))?;
            found.read_segment(&path, &bytes, (disk, segment), &mut each)?;
        }
        if found.last <= Some(acknowledged) {
            found.unsure = None;
        }
        found.all_acknowledged(log, acknowledged)?;
        Ok(found)
    }

    fn read_segment(
        &mut self,
        path: &Path,
        bytes: &[u8],
        (disk, segment): (u64, u64),
        each: &mut impl FnMut(u64, Content) -> Result<(), String>,
    ) -> Result<(), StorageError> {
        let mut at = 0;
        while let Some(frame) = Frame::read(&bytes[at..], disk, segment).filter(|frame| self.is_next(frame)) {
            if let Some(torn) = &self.torn {
                let why = format!(
                    "{} is not whole, and whole ones follow in {}",
                    self.broken(torn),
                    path.display()
                );
                return Err(StorageError::Damaged { file: torn.path.clone(), why });
            }
            let unreadable = |why: String| StorageError::Damaged {
                file: path.to_owned(),
                why: format!("write {} at byte {at} cannot be understood: {why}", frame.number),
            };
            let content: Content =
                postcard::from_bytes(frame.content).map_err(|error| unreadable(error.to_string()))?;
            if matches!(content, Content::Checkpoint { .. }) != (at == 0) {
                return Err(unreadable("a segment begins with a checkpoint, and has no other".to_owned()));
            }
            each(frame.number, content).map_err(unreadable)?;
            self.unsure = Some((path.to_owned(), at as u64, frame.length));
            at += frame.length;
            (self.last, self.end) = (Some(frame.number), Some((segment, at as u64)));
        }
        let Some(end) = bytes[at..].iter().rposition(|byte| *byte != 0) else { return Ok(()) };
        let torn = Torn { path: path.to_owned(), at, end: at + end + 1 };
        let follows = Frame::find(bytes, at, self.last.unwrap_or(0), disk, segment);
        let (first, why) = match (follows, &self.torn) {
            (None, None) => {
                self.torn = Some(torn);
                return Ok(());
            }
            (Some(next), None) => (&torn, format!("whole ones follow from byte {next} on")),
            (Some(_), Some(first)) => (first, format!("whole ones follow in {}", path.display())),
            (None, Some(first)) => (first, format!("neither is what {} begins with", path.display())),
        };
        let why = format!("{} is not whole, and {why}", self.broken(first));
        Err(StorageError::Damaged { file: first.path.clone(), why })
    }

    fn is_next(&self, frame: &Frame<'_>) -> bool {
        self.last.is_none_or(|last| frame.number == last + 1)
    }

    /// What is not whole, in words.
    fn broken(&self, torn: &Torn) -> String {
        let write = self.last.map_or_else(|| "a write".to_owned(), |last| format!("write {}", last + 1));
        format!("{write} at byte {}", torn.at)
    }

    fn all_acknowledged(&self, log: &Path, acknowledged: u64) -> Result<(), StorageError> {
        let last = self.last.unwrap_or(0);
        if last >= acknowledged {
            return Ok(());
        }
        let (file, what) = match (&self.torn, self.segments.last()) {
            (Some(torn), _) => (torn.path.clone(), format!("{} is not whole", self.broken(torn))),
            (None, Some(newest)) => (path_of(log, *newest), format!("it ends with write {last}")),
            (None, None) => (log.to_owned(), "it holds no segment".to_owned()),
        };
        Err(StorageError::Damaged { file, why: format!("{what}, and write {acknowledged} was acknowledged") })
    }

    /// Whether a write is torn.
    #[cfg(test)]
    pub fn is_torn(&self) -> bool {
        self.torn.is_some()
    }

    /// Makes the last write durable if nobody knows that it is: what was read may be in the memory of the system only, as if it were on
    /// the disk, also after a sync that has failed. So it is written again first.
    pub fn make_durable(&mut self) -> Result<(), StorageError> {
        let Some((path, at, length)) = self.unsure.take() else { return Ok(()) };
        let again = || {
            let file = File::options().read(true).write(true).open(&path)?;
            let mut bytes = vec![0; length];
            file.read_exact_at(&mut bytes, at)?;
            file.write_all_at(&bytes, at)?;
            sync_file(&file)
        };
        again().map_err(in_file(&path))
    }

    /// Makes zeros of a torn write.
    pub fn cut(&mut self) -> Result<(), StorageError> {
        let Some(torn) = self.torn.take() else { return Ok(()) };
        let (at, bytes) = (torn.at, torn.end - torn.at);
        tracing::warn!(
            file = %torn.path.display(), at, bytes,
            "{} was torn by a crash and never acknowledged: cut off", self.broken(&torn)
        );
        let cut = || {
            let file = File::options().write(true).open(&torn.path)?;
            file.write_all_at(&vec![0; bytes], at as u64)?;
            sync_file(&file)
        };
        cut().map_err(in_file(&torn.path))
    }
}

/// The segments in a folder: none is missing between two.
fn numbers(log: &Path) -> Result<Vec<u64>, StorageError> {
    let mut numbers: Vec<u64> = Vec::new();
    let entries = match fs::read_dir(log) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(numbers),
        entries => entries.map_err(in_file(log))?,
    };
    for entry in entries {
        let path = entry.map_err(in_file(log))?.path();
        if path.extension().is_some_and(|kind| kind == "seg") {
            let number = path.file_stem().and_then(|stem| stem.to_str()?.parse().ok());
            let why = "a segment has a number".to_owned();
            numbers.push(number.ok_or(StorageError::Damaged { file: path, why })?);
        }
    }
    numbers.sort_unstable();
    if let Some(gap) = numbers.windows(2).find(|pair| pair[1] != pair[0] + 1) {
        let why = format!("it is not there, but segments {} and {} are", gap[0], gap[1]);
        return Err(StorageError::Damaged { file: path_of(log, gap[0] + 1), why });
    }
    Ok(numbers)
}

/// Leaves the log of a node that does not run as a write that was torn would: garbage follows the last write. Nothing that was
/// synced is touched.
pub fn tear_log(folder: &Path) -> io::Result<()> {
    let log = folder.join("log");
    let disk = Mark::disk_of(folder).map_err(io::Error::other)?;
    let found = Log::read(&log, disk, 0, |_, _| Ok(())).map_err(io::Error::other)?;
    let Some((segment, end)) = found.end else { return Ok(()) };
    let file = File::options().write(true).open(path_of(&log, segment))?;
    file.write_all_at(&[0x5a; 64], end)?;
    file.sync_data()
}
