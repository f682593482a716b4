//! The thread that keeps house behind the log: nothing that is acknowledged waits for it, but for the next segment.
//!
//! Which of the two stores is durable first: **always the log**. A snapshot is handed over when the write that has it is synced;
//! so the tree never knows more than the log. And the log is removed only behind what the tree has flushed: at each change of
//! segments the tree is flushed first, then the segments before the new one are removed, the oldest first. So a crash between
//! any two of these steps leaves a tree that lacks some of the last snapshots, and a log that has them.

use std::{
    path::PathBuf,
    sync::mpsc::{Receiver, Sender, TryRecvError, channel},
    thread::{self, JoinHandle},
};

use super::{
    StorageError,
    keys::{Keys, Moved},
    segments::{self, Segment},
};

/// What is to be done, in this order.
#[derive(Debug)]
pub enum Job {
    /// Snapshots have moved on.
    Snapshots {
        /// The write of the log that says so.
        number: u64,
        /// Which, and by what.
        moved: Vec<Moved>,
    },
    /// Make the next segment.
    Prepare {
        /// Its number.
        number: u64,
        /// Bytes that it is made for.
        capacity: u64,
    },
    /// All in `segments` is covered by a checkpoint that is synced, and by the snapshots before.
    Remove {
        /// Which, the oldest first.
        segments: Vec<u64>,
    },
    /// Say when all before is done.
    #[cfg(test)]
    Tell(Sender<()>),
}

/// Between which two steps the keeper is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// The tree has the snapshots of a write in memory.
    Taken,
    /// The next segment is there.
    Prepared,
    /// The tree is flushed, and no segment is removed.
    Flushed,
    /// A segment is removed.
    Removed,
}

/// Called after each step: tests look what a crash would leave there.
pub type Watch = Box<dyn FnMut(Step) + Send>;

/// The way to the thread.
#[derive(Debug)]
pub struct Keeper {
    /// None once it is to end.
    jobs: Option<Sender<Job>>,
    done: Receiver<Result<Segment, StorageError>>,
    prepared: Option<Segment>,
    thread: Option<JoinHandle<()>>,
}

impl Drop for Keeper {
    /// Whoever opens the folder next finds nobody at work there.
    fn drop(&mut self) {
        self.jobs = None;
        if let Some(thread) = self.thread.take() {
            // a panic has ended the process
            let _ = thread.join();
        }
    }
}

impl Keeper {
    /// Starts it; `prepared` is the segment after the one that is written, if it is there.
    pub fn start(log: PathBuf, keys: Keys, prepared: Option<Segment>, watch: Watch) -> Self {
        let (jobs, waiting) = channel();
        let (tell, done) = channel();
        let mut house = House { log, keys, watch };
        let thread = thread::spawn(move || {
            for job in waiting {
                match house.work(job) {
                    Ok(None) => {}
                    Ok(Some(segment)) => drop(tell.send(Ok(segment))),
                    Err(error) => {
                        // nothing more is done, and every further write fails
                        let _ = tell.send(Err(error));
                        return;
                    }
                }
            }
        });
        Self { jobs: Some(jobs), done, prepared, thread: Some(thread) }
    }

    /// Hands a job over.
    pub fn ask(&self, job: Job) {
        if let Some(jobs) = &self.jobs {
            // it ends early only after it has said why
            let _ = jobs.send(job);
        }
    }

    /// Why it could not go on, if so.
    pub fn check(&mut self) -> Result<(), StorageError> {
        match self.done.try_recv() {
            Ok(done) => self.prepared = Some(done?),
            Err(TryRecvError::Empty) => {}
            Err(TryRecvError::Disconnected) => return Err(StorageError::KeeperEnded),
        }
        Ok(())
    }

    /// The next segment, which was asked for. Waits until all jobs before are done, so that they do not pile up.
    pub fn next_segment(&mut self) -> Result<Segment, StorageError> {
        match self.prepared.take() {
            Some(segment) => Ok(segment),
            None => self.done.recv().unwrap_or(Err(StorageError::KeeperEnded)),
        }
    }
}

/// What the thread has.
struct House {
    log: PathBuf,
    keys: Keys,
    watch: Watch,
}

impl House {
    fn work(&mut self, job: Job) -> Result<Option<Segment>, StorageError> {
        match job {
            Job::Snapshots { number, moved } => {
                self.keys.take(number, &moved)?;
                (self.watch)(Step::Taken);
            }
            Job::Prepare { number, capacity } => {
                let segment = Segment::create(&self.log, number, capacity)?;
                (self.watch)(Step::Prepared);
                return Ok(Some(segment));
            }
            Job::Remove { segments } => {
                self.keys.flush()?;
                (self.watch)(Step::Flushed);
                for segment in segments {
                    segments::remove(&self.log, segment)?;
                    (self.watch)(Step::Removed);
                }
            }
            #[cfg(test)]
            Job::Tell(tell) => drop(tell.send(())),
        }
        Ok(None)
    }
}
