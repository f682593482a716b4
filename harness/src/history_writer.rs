//! The one writer of a run's history: the order of its lines is the order of time.
//!
//! Every record takes its time stamp under the lock that also orders the lines. An operation's invocation is recorded before
//! its request leaves and its completion after the answer has come, so that recorded intervals contain the real ones.

mod file;
mod line;

use std::{
    fs::File,
    io,
    path::Path,
    sync::{Mutex, MutexGuard, PoisonError},
};

use checker::history::{Function, Header, Kind, Nemesis, Op, OpResult, Phase, Record, Trip};
use tokio::sync::watch;

use crate::clock::boottime_ns;
use file::LineFile;
use line::put_op;

/// The history of a run, while it is written.
#[derive(Debug)]
pub struct History {
    origin: u64,
    inner: Mutex<Inner>,
    /// Writes that were acknowledged.
    writes: watch::Sender<u64>,
}

#[derive(Debug)]
struct Inner {
    /// `None`: nothing is recorded, only counted.
    file: Option<LineFile>,
    /// Time stamp of the last line.
    last: u64,
    /// Operations that have ended.
    count: usize,
    completed: Vec<Completed>,
    faults: Vec<Nemesis>,
}

/// Who asks whom for what.
#[derive(Clone, Debug)]
pub struct Asked {
    /// Logical process.
    pub process: u64,
    /// The client.
    pub client: u64,
    /// The node that is asked first.
    pub node: u64,
    /// What is asked.
    pub function: Function,
}

/// How an operation ended.
#[derive(Clone, Debug, PartialEq)]
pub enum Ended {
    /// It was answered.
    Ok(OpResult),
    /// It definitely did not happen, and why.
    Fail(String),
    /// Nobody knows, and why.
    Info(String),
}

/// How an operation ended, where, and what it met on its way there.
#[derive(Clone, Debug, PartialEq)]
pub struct Finished {
    /// How.
    pub ended: Ended,
    /// The node that was asked last.
    pub node: u64,
    /// What it met before.
    pub trip: Trip,
}

/// An operation that has ended, as the summary needs it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Completed {
    /// When it was asked, in nanoseconds of the history.
    pub invoked: u64,
    /// When it ended.
    pub ended: u64,
    /// `get`, `put`, `cas` or `delete`.
    pub name: &'static str,
    /// How it ended.
    pub kind: Kind,
    /// Whether it was a fast read.
    pub fast: bool,
    /// Whether it was a local read.
    pub local: bool,
    /// What it met on its way.
    pub trip: Trip,
}

impl History {
    /// Begins the history of a run with what `header` makes of its time 0, which is now.
    pub fn create(path: &Path, header: impl FnOnce(u64) -> Header) -> io::Result<Self> {
        let origin = boottime_ns();
        let history = Self::new(origin, Some(LineFile::start(File::create_new(path)?)?));
        history.lock().write(&Record::Header(header(origin)));
        history.flush()?;
        Ok(history)
    }

    /// Counts operations and records nothing: for measuring what recording costs.
    pub fn unrecorded() -> Self {
        Self::new(boottime_ns(), None)
    }

    fn new(origin: u64, file: Option<LineFile>) -> Self {
        let (completed, faults) = Default::default();
        let inner = Inner { file, last: 0, count: 0, completed, faults };
        Self { origin, inner: Mutex::new(inner), writes: watch::Sender::new(0) }
    }

    /// The machine's clock at time 0.
    pub fn origin(&self) -> u64 {
        self.origin
    }

    /// Nanoseconds since the run began.
    pub fn now(&self) -> u64 {
        boottime_ns() - self.origin
    }

    /// Records that an operation is about to be sent; returns when.
    pub fn invoke(&self, asked: &Asked) -> u64 {
        let mut inner = self.lock();
        let time = self.stamp(&mut inner);
        inner.append(|line| put_op(line, time, asked, None));
        time
    }

    /// Records how the operation that was invoked at `invoked` has ended.
    pub fn complete(&self, asked: &Asked, invoked: u64, finished: &Finished) {
        let Finished { ended, trip, .. } = finished;
        let mut inner = self.lock();
        let time = self.stamp(&mut inner);
        inner.count += 1;
        if inner.file.is_some() {
            inner.append(|line| put_op(line, time, asked, Some(finished)));
            let (fast, local) = ended.result().map_or((false, false), |result| (result.fast, result.local));
            let (name, kind) = (name_of(&asked.function), ended.kind());
            inner.completed.push(Completed { invoked, ended: time, name, kind, fast, local, trip: *trip });
        }
        drop(inner);
        if is_acknowledged_write(&asked.function, ended) {
            self.writes.send_modify(|writes| *writes += 1);
        }
    }

    /// How many writes were acknowledged.
    pub fn writes(&self) -> watch::Receiver<u64> {
        self.writes.subscribe()
    }

    /// Records a fault that is in effect by now; sets its time.
    pub fn nemesis(&self, mut nemesis: Nemesis) {
        let mut inner = self.lock();
        nemesis.time = self.stamp(&mut inner);
        inner.write(&Record::Nemesis(nemesis.clone()));
        inner.faults.push(nemesis);
    }

    /// Records that a phase begins; returns when.
    pub fn phase(&self, name: &str) -> u64 {
        let mut inner = self.lock();
        let time = self.stamp(&mut inner);
        inner.write(&Record::Phase(Phase { time, name: name.to_owned() }));
        time
    }

    /// The operations that have ended so far, from number `from` on.
    pub fn completed_since(&self, from: usize) -> Vec<Completed> {
        self.lock().completed.get(from..).unwrap_or_default().to_vec()
    }

    /// How many operations have ended so far.
    pub fn completed_count(&self) -> usize {
        self.lock().count
    }

    /// The faults so far.
    pub fn faults(&self) -> Vec<Nemesis> {
        self.lock().faults.clone()
    }

    /// Has everything so far written soon. An error, now or earlier, means that the record has ended before this.
    pub fn hand_over(&self) -> io::Result<()> {
        let mut inner = self.lock();
        inner.file.as_mut().map_or(Ok(()), |file| {
            file.hand_over();
            written(file)
        })
    }

    /// Waits until everything so far is in the operating system's hands. Errors as [`hand_over`](Self::hand_over).
    pub fn flush(&self) -> io::Result<()> {
        let mut inner = self.lock();
        inner.file.as_mut().map_or(Ok(()), |file| {
            file.wait();
            written(file)
        })
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A time that is later than that of the line before.
    fn stamp(&self, inner: &mut Inner) -> u64 {
        inner.last = self.now().max(inner.last + 1);
        inner.last
    }
}

impl Inner {
    fn append(&mut self, put: impl FnOnce(&mut Vec<u8>)) {
        if let Some(file) = &mut self.file {
            file.append(put);
        }
    }

    /// A line that is rare, and that must not wait for others.
    fn write(&mut self, record: &Record) {
        self.append(|line| {
            serde_json::to_writer(&mut *line, record).expect("plain data");
            line.push(b'\n');
        });
        if let Some(file) = &mut self.file {
            file.hand_over();
        }
    }
}

fn written(file: &LineFile) -> io::Result<()> {
    match file.failure() {
        Some(error) => Err(io::Error::new(error.kind(), format!("cannot write the history: {error}"))),
        None => Ok(()),
    }
}

impl Asked {
    /// The record of the completion.
    pub fn completion(&self, time: u64, finished: &Finished) -> Op {
        let Finished { ended, node, trip } = finished;
        let mut op = Op { node: *node, trip: *trip, ..self.op(time, ended.kind()) };
        match ended {
            Ended::Ok(result) => op.result = Some(result.clone()),
            Ended::Fail(error) | Ended::Info(error) => op.error = Some(error.clone()),
        }
        op
    }

    /// The record of the invocation, or, but for what came of it, of the completion.
    pub fn op(&self, time: u64, kind: Kind) -> Op {
        Op {
            time,
            process: self.process,
            client: self.client,
            node: self.node,
            kind,
            function: self.function.clone(),
            result: None,
            error: None,
            trip: Trip::default(),
        }
    }
}

impl Finished {
    /// It ended at the first node that was asked.
    pub fn straight(node: u64, ended: Ended) -> Self {
        Self { ended, node, trip: Trip::default() }
    }
}

impl Ended {
    /// The record's type.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Ok(_) => Kind::Ok,
            Self::Fail(_) => Kind::Fail,
            Self::Info(_) => Kind::Info,
        }
    }

    /// The answer, if there is one.
    pub fn result(&self) -> Option<&OpResult> {
        match self {
            Self::Ok(result) => Some(result),
            Self::Fail(_) | Self::Info(_) => None,
        }
    }
}

/// Whether an operation wrote, and whoever asked was told so.
pub fn is_acknowledged_write(function: &Function, ended: &Ended) -> bool {
    let swapped = |result: &OpResult| result.swapped != Some(false);
    !matches!(function, Function::Get { .. }) && ended.result().is_some_and(swapped)
}

/// The operation's name.
pub fn name_of(function: &Function) -> &'static str {
    match function {
        Function::Get { .. } => "get",
        Function::Put { .. } => "put",
        Function::Cas { .. } => "cas",
        Function::Delete { .. } => "delete",
    }
}

#[cfg(test)]
mod tests {
    use checker::history::{Key, Partitioning};

    use super::*;

    fn header(origin: u64) -> Header {
        let (workload, initial) = ("test".to_owned(), vec![(Key::Integer(1), "a".to_owned())]);
        let partitioning = Partitioning::Range;
        Header { workload, seed: 1, origin, initial, partitions: Vec::new(), partitioning }
    }

    fn asked(client: u64) -> Asked {
        Asked { process: client, client, node: 1, function: Function::Get { key: Key::Integer(1) } }
    }

    #[test]
    fn lines_are_in_the_order_of_time_whoever_writes_them() {
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("history.jsonl");
        let history = History::create(&path, header).expect("history");
        std::thread::scope(|scope| {
            for client in 0..4 {
                let history = &history;
                scope.spawn(move || {
                    for _ in 0..200 {
                        let invoked = history.invoke(&asked(client));
                        let ended = Finished::straight(1, Ended::Info("lost".to_owned()));
                        history.complete(&asked(client), invoked, &ended);
                    }
                });
            }
        });
        history.flush().expect("written");
        let text = std::fs::read_to_string(&path).expect("read");
        let records: Vec<Record> =
            text.lines().map(|line| serde_json::from_str(line).expect("a record")).collect();
        assert!(matches!(&records[0], Record::Header(header) if header.origin == history.origin()));
        let times: Vec<u64> = records[1..]
            .iter()
            .map(|record| match record {
                Record::Op(op) => op.time,
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(times.len(), 4 * 200 * 2);
        assert!(times.is_sorted_by(|earlier, later| earlier < later), "strictly increasing");
        assert_eq!(history.completed_since(0).len(), 800);
    }

    #[test]
    fn a_record_survives_being_written_and_read() {
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("history.jsonl");
        let history = History::create(&path, header).expect("history");
        let invoked = history.invoke(&asked(3));
        let result = OpResult {
            returned: Some("a".to_owned()),
            swapped: None,
            version: 4,
            index: Some(7),
            leader: 2,
            ballot: "0.1.0@n2".to_owned(),
            fast: true,
            local: false,
        };
        let trip = Trip { redirects: 1, gone: 2, leaderless: 3, behind: 4, unknown: 5 };
        let finished = Finished { ended: Ended::Ok(result.clone()), node: 2, trip };
        history.complete(&asked(3), invoked, &finished);
        history.flush().expect("written");
        let text = std::fs::read_to_string(&path).expect("read");
        let last: Record = serde_json::from_str(text.lines().last().expect("a line")).expect("a record");
        let Record::Op(op) = last else { panic!("{text}") };
        assert_eq!((op.kind, op.result, op.node, op.trip), (Kind::Ok, Some(result), 2, trip), "{text}");
        assert!(history.completed_since(0)[0].fast);
    }

    #[test]
    fn a_full_disk_is_reported() {
        let full = File::options().write(true).open("/dev/full").expect("/dev/full");
        let history = History::new(0, Some(LineFile::start(full).expect("a thread")));
        history.invoke(&asked(1));
        let error = history.flush().expect_err("no space");
        assert!(error.to_string().contains("cannot write the history"), "{error}");
        assert!(history.flush().is_err() && history.hand_over().is_err(), "the gap is not forgotten");
    }

    #[test]
    fn what_was_recorded_before_a_panic_is_in_the_file() {
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("history.jsonl");
        let history = History::create(&path, header).expect("history");
        let ended = std::thread::spawn(move || {
            for client in 0..10_000 {
                history.invoke(&asked(client));
            }
            panic!("planned");
        })
        .join();
        ended.expect_err("it has panicked");
        let text = std::fs::read_to_string(&path).expect("read");
        let clients = text.lines().skip(1).map(|line| match serde_json::from_str(line).expect("a record") {
            Record::Op(op) => op.client,
            other => panic!("{other:?}"),
        });
        assert!(clients.eq(0..10_000), "all of it, in order");
    }

    #[test]
    fn without_a_record_operations_are_only_counted() {
        let history = History::unrecorded();
        let invoked = history.invoke(&asked(1));
        history.complete(&asked(1), invoked, &Finished::straight(1, Ended::Info("lost".to_owned())));
        history.flush().expect("nothing to write");
        assert_eq!((history.completed_count(), history.completed_since(0).len()), (1, 0));
    }
}
