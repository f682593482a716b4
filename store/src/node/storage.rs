//! Where a node's durable state is kept: the narrow trait, and what stands behind it.
//!
//! The loop hands a batch of records to the [`LogThread`] and goes on; the thread takes all batches that wait, writes them
//! and syncs once for all of them and all groups, then says which is the last durable one. A failed write or sync ends the
//! process: what was not synced is never acknowledged.
//!
//! A node that starts first looks whether its disk is whole ([`Durable::open`]): a write that a crash has torn is cut off, any
//! other damage stops it before anything is changed.
//!
//! Files: `durable` is the storage; `frame` one write of the log, `segments` its files, `mark` what was acknowledged; `keys` the
//! tree of the snapshots' keys, `trees` the check of its files; `keeper` the thread behind both.

mod durable;
mod frame;
mod keeper;
mod keys;
mod log_thread;
mod mark;
#[cfg(test)]
mod power;
mod segments;
mod trees;

use std::{
    io,
    path::{Path, PathBuf},
};

use rustix::process::{Signal, getpid, kill_process};

pub use durable::Durable;
pub use log_thread::{DiskControl, LogThread};
pub use segments::tear_log;

use crate::core::durable::{DurableState, Record};

/// A batch of records with its number.
#[derive(Debug)]
pub struct Batch {
    /// The persist's number.
    pub number: u64,
    /// Its records.
    pub records: Vec<Record>,
}

impl Batch {
    /// About how many bytes its records take.
    fn weight(&self) -> usize {
        self.records.iter().map(Record::weight).sum()
    }

    /// Whether nothing waits for it: what is decided is known from others, too.
    fn rides_along(&self) -> bool {
        self.records.iter().all(|record| matches!(record, Record::Decided { .. }))
    }
}

/// A place that keeps records.
pub trait Storage: Send {
    /// Takes batches, in order; they may still be lost. What was taken before is synced.
    fn write(&mut self, batches: Vec<Batch>) -> Result<(), StorageError>;
    /// Makes all that was written durable.
    fn sync(&mut self) -> Result<(), StorageError>;
}

/// Why a storage cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum StorageError {
    /// The tree of the snapshots' keys failed.
    #[error("the tree of the snapshots' keys failed: {0}")]
    Tree(#[from] lsm_tree::Error),
    /// Two would cut off each other's writes.
    #[error("{}: another process has opened the folder", .folder.display())]
    Locked {
        /// Which.
        folder: PathBuf,
    },
    /// The thread that makes segments has ended.
    #[error("no further segment of the log is made")]
    KeeperEnded,
    /// A file cannot be read or written.
    #[error("{}: {source}", .file.display())]
    File {
        /// Which.
        file: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file is not what was written. Nothing was changed.
    #[error(
        "{} is damaged: {why}. Nothing was changed. Put back what was in the file, if it can be had, but no older copy of it or of \
         the folder: that would have forgotten promises. Otherwise leave this node off: the others go on as long as each \
         partition has a majority, and let no node in that comes back with an empty folder",
        .file.display()
    )]
    Damaged {
        /// Which.
        file: PathBuf,
        /// What is wrong with it, and where.
        why: String,
    },
    /// What is stored does not fit together.
    #[error("the stored {what} cannot be read: {why}")]
    Unreadable {
        /// What was looked for.
        what: String,
        /// What is wrong with it.
        why: String,
    },
}

/// Names the file that an error is about.
fn in_file(file: &Path) -> impl Fn(io::Error) -> StorageError {
    move |source| StorageError::File { file: file.to_owned(), source }
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
    fn write(&mut self, batches: Vec<Batch>) -> Result<(), StorageError> {
        self.unsynced.extend(batches);
        Ok(())
    }

    fn sync(&mut self) -> Result<(), StorageError> {
        self.inner.write(std::mem::take(&mut self.unsynced))?;
        self.inner.sync()
    }
}

/// As of SIGKILL: nothing is tidied up.
fn die_now() {
    // cannot fail for the process itself
    let _ = kill_process(getpid(), Signal::KILL);
}
