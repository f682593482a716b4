//! The thread that writes, and what a tester may ask of its disk.

use std::{
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        mpsc::{Receiver, RecvTimeoutError, Sender, channel},
    },
    thread,
    time::Duration,
};

use super::{Batch, Storage, StorageError, die_now};
use crate::node::control::DiskFault;

/// How long the planted bug that acknowledges before the sync leaves batches unsynced.
const UNSYNCED: Duration = Duration::from_millis(200);

/// How long a batch that nothing waits for may wait for company. After each round of writes every node learns what is decided;
/// a sync for that alone would stand in the way of the next round, which comes sooner than this under load.
const RIDES_ALONG: Duration = Duration::from_millis(2);

/// Bytes of records that one write takes, except that one batch always fits: what has gathered behind a disk that stood still may be
/// more than a frame can say.
const ONE_WRITE: usize = 64 << 20;

/// The thread that writes, and the way to it.
#[derive(Debug)]
pub struct LogThread {
    batches: Sender<Batch>,
    disk: Arc<DiskControl>,
}

impl LogThread {
    /// Starts it. `durable` is called with the number of the last durable batch; `late` leaves batches unsynced for a
    /// while, for the planted bug.
    pub fn start(
        mut storage: Box<dyn Storage>,
        late: bool,
        durable: impl Fn(u64) + Send + 'static,
        failed: impl FnOnce(StorageError) + Send + 'static,
    ) -> Self {
        let (batches, waiting) = channel::<Batch>();
        let disk = Arc::new(DiskControl::default());
        let control = Arc::clone(&disk);
        thread::spawn(move || {
            while let Some(taken) = take(&waiting, late) {
                let number = taken.last().map_or(0, |batch| batch.number);
                let written = storage.write(taken).and_then(|()| {
                    control.pass();
                    storage.sync()
                });
                if let Err(error) = written {
                    return failed(error);
                }
                durable(number);
            }
        });
        Self { batches, disk }
    }

    /// What a tester asks of the disk.
    pub fn disk(&self) -> &DiskControl {
        &self.disk
    }

    /// Hands over a batch.
    pub fn persist(&self, batch: Batch) {
        // the thread ends only after it has ended the process
        let _ = self.batches.send(batch);
    }
}

/// All batches that wait, at least one; none once nobody can send any more.
fn take(waiting: &Receiver<Batch>, late: bool) -> Option<Vec<Batch>> {
    let mut taken = vec![waiting.recv().ok()?];
    if late {
        // one long wait after the first batch: what comes meanwhile is acknowledged and not synced
        let (_never, pause) = channel::<()>();
        assert_eq!(pause.recv_timeout(UNSYNCED), Err(RecvTimeoutError::Timeout));
    }
    take_more(waiting, &mut taken);
    if taken.iter().all(Batch::rides_along)
        && let Ok(next) = waiting.recv_timeout(RIDES_ALONG)
    {
        taken.push(next);
        take_more(waiting, &mut taken);
    }
    Some(taken)
}

/// What waits now, as much as one write takes.
fn take_more(waiting: &Receiver<Batch>, taken: &mut Vec<Batch>) {
    let mut bytes: usize = taken.iter().map(Batch::weight).sum();
    while bytes < ONE_WRITE
        && let Ok(batch) = waiting.try_recv()
    {
        bytes += batch.weight();
        taken.push(batch);
    }
}

/// What a tester asks of the disk: the log thread passes here between each write and its sync.
#[derive(Debug, Default)]
pub struct DiskControl {
    asked: Mutex<Asked>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Asked {
    fault: DiskFault,
    die: bool,
}

impl DiskControl {
    /// Syncs go like this from now on; one that stands still goes on when the fault is over.
    pub fn set(&self, fault: DiskFault) {
        self.lock().fault = fault;
        self.changed.notify_all();
    }

    /// The process dies in its next write, or in the one that waits for its sync.
    pub fn die_in_write(&self) {
        self.lock().die = true;
        self.changed.notify_all();
    }

    /// Passes when the disk is as it should be; does not come back when the process is to die.
    fn pass(&self) {
        let asked = self.lock();
        let slow = Duration::from_millis(asked.fault.slow_ms);
        let waited = self.changed.wait_timeout_while(asked, slow, |asked| !asked.die);
        let (asked, _) = waited.unwrap_or_else(PoisonError::into_inner);
        let stalled = self.changed.wait_while(asked, |asked| asked.fault.stalled && !asked.die);
        if stalled.unwrap_or_else(PoisonError::into_inner).die {
            die_now();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Asked> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{api::Ballot, core::durable::Record};

    /// A storage that only counts its syncs.
    struct Counts(Sender<()>);

    impl Storage for Counts {
        fn write(&mut self, _: Vec<Batch>) -> Result<(), StorageError> {
            Ok(())
        }

        fn sync(&mut self) -> Result<(), StorageError> {
            self.0.send(()).expect("the test listens");
            Ok(())
        }
    }

    #[test]
    fn nothing_is_synced_while_the_disk_is_stalled() {
        let (synced, syncs) = channel();
        let (tell, told) = channel();
        let durable = move |number| tell.send(number).expect("the test listens");
        let log = LogThread::start(Box::new(Counts(synced)), false, durable, |error| panic!("{error}"));
        log.disk().set(DiskFault { stalled: true, slow_ms: 0 });
        log.persist(Batch { number: 1, records: Vec::new() });
        assert_eq!(syncs.recv_timeout(Duration::from_millis(50)), Err(RecvTimeoutError::Timeout));
        assert_eq!(told.try_recv().ok(), None);
        log.disk().set(DiskFault { stalled: false, slow_ms: 20 });
        let limit = Duration::from_secs(20);
        assert_eq!(told.recv_timeout(limit), Ok(1), "the batch that waited");
        log.persist(Batch { number: 2, records: Vec::new() });
        assert_eq!(told.recv_timeout(limit), Ok(2), "a slow disk");
        assert_eq!(syncs.try_iter().count(), 2);
    }

    /// A storage that counts the batches of each sync.
    struct Gathers(usize, Sender<usize>);

    impl Storage for Gathers {
        fn write(&mut self, batches: Vec<Batch>) -> Result<(), StorageError> {
            self.0 += batches.len();
            Ok(())
        }

        fn sync(&mut self) -> Result<(), StorageError> {
            self.1.send(std::mem::take(&mut self.0)).expect("the test listens");
            Ok(())
        }
    }

    #[test]
    fn what_is_decided_rides_along_and_nothing_else_waits() {
        let (synced, syncs) = channel();
        let (tell, told) = channel();
        let durable = move |number| tell.send(number).expect("the test listens");
        let (batches, waiting) = channel();
        let decided = || vec![Record::Decided { partition: 1, decided: 5 }];
        let promised = || vec![Record::Promised { partition: 1, ballot: Ballot::BOTTOM }];
        let batch = |number, records| batches.send(Batch { number, records }).expect("it is taken");
        let taken =
            || take(&waiting, false).expect("a batch").iter().map(|batch| batch.number).collect::<Vec<_>>();
        batch(1, promised());
        assert_eq!(taken(), [1], "at once");
        batch(2, decided());
        batch(3, promised());
        batch(4, decided());
        assert_eq!(taken(), [2, 3, 4]);
        batch(5, decided());
        assert_eq!(taken(), [5], "nothing came");
        // one that comes while it waits
        let log = LogThread::start(Box::new(Gathers(0, synced)), false, durable, |error| panic!("{error}"));
        log.persist(Batch { number: 1, records: decided() });
        log.persist(Batch { number: 2, records: decided() });
        let limit = Duration::from_secs(20);
        while told.recv_timeout(limit).expect("it is durable") != 2 {}
        assert_eq!(syncs.try_iter().sum::<usize>(), 2, "also without company");
    }

    /// A storage whose third sync fails.
    struct Fails {
        syncs: u64,
        written: Sender<u64>,
    }

    impl Storage for Fails {
        fn write(&mut self, batches: Vec<Batch>) -> Result<(), StorageError> {
            for batch in batches {
                self.written.send(batch.number).expect("the test listens");
            }
            Ok(())
        }

        fn sync(&mut self) -> Result<(), StorageError> {
            self.syncs += 1;
            if self.syncs == 3 {
                let source = std::io::Error::from_raw_os_error(5);
                return Err(StorageError::File { file: "0.jnl".into(), source });
            }
            Ok(())
        }
    }

    #[test]
    fn nothing_is_acknowledged_or_written_after_a_failed_sync() {
        let (written, writes) = channel();
        let (tell, told) = channel();
        let acknowledges = tell.clone();
        let durable = move |number| acknowledges.send(Ok(number)).expect("the test listens");
        let failed = move |error: StorageError| tell.send(Err(error.to_string())).expect("the test listens");
        let log = LogThread::start(Box::new(Fails { syncs: 0, written }), false, durable, failed);
        let limit = Duration::from_secs(20);
        for number in 1..=2 {
            log.persist(Batch { number, records: Vec::new() });
            assert_eq!(told.recv_timeout(limit), Ok(Ok(number)));
        }
        log.persist(Batch { number: 3, records: Vec::new() });
        let error = told.recv_timeout(limit).expect("it is told").expect_err("it fails");
        assert!(error.contains("0.jnl: Input/output error"), "{error}");
        log.persist(Batch { number: 4, records: Vec::new() });
        // both ends of the thread are gone: it says and writes nothing more
        assert_eq!(told.recv_timeout(limit), Err(RecvTimeoutError::Disconnected));
        assert_eq!(writes.iter().collect::<Vec<_>>(), [1, 2, 3]);
    }
}
