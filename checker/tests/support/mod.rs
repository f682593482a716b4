//! Builds histories for tests.

use checker::history::{Function, Header, Key, Kind, Op, OpResult, Partitioning, Record, Trip};

/// A register that answers as a store would, and the records of what clients saw.
pub struct Recorder {
    pub records: Vec<Record>,
    time: u64,
}

impl Recorder {
    pub fn new(initial: Vec<(Key, String)>) -> Self {
        let (workload, partitions) = ("test".to_owned(), Vec::new());
        let partitioning = Partitioning::Range;
        let header = Header { workload, seed: 0, origin: 0, initial, partitions, partitioning };
        Self { records: vec![Record::Header(header)], time: 0 }
    }

    /// Gives the last event its time.
    #[allow(dead_code, reason = "not every test tells times")]
    pub fn time(&mut self, time: u64) {
        self.time = time;
        if let Some(Record::Op(op)) = self.records.last_mut() {
            op.time = time;
        }
    }

    pub fn event(&mut self, process: u64, kind: Kind, function: Function, result: Option<OpResult>) {
        self.time += 10;
        let error = matches!(kind, Kind::Fail | Kind::Info).then(|| "timeout".to_owned());
        let op = Op {
            time: self.time,
            process,
            client: process,
            node: 1,
            kind,
            function,
            result,
            error,
            trip: Trip::default(),
        };
        self.records.push(Record::Op(op));
    }
}

pub fn result(returned: Option<String>, swapped: Option<bool>) -> OpResult {
    let (version, index, leader, ballot) = (0, None, 1, "1".to_owned());
    OpResult { returned, swapped, version, index, leader, ballot, fast: false, local: false }
}

/// What a register that holds `state` answers.
#[allow(dead_code, reason = "not every test has a store")]
pub fn answer(state: &mut Option<String>, function: &Function) -> OpResult {
    match function {
        Function::Get { .. } => result(state.clone(), None),
        Function::Put { value, .. } => {
            *state = Some(value.clone());
            result(None, None)
        }
        Function::Delete { .. } => {
            *state = None;
            result(None, None)
        }
        Function::Cas { expected, new, .. } if state == expected => {
            *state = Some(new.clone());
            result(None, Some(true))
        }
        Function::Cas { .. } => result(state.clone(), Some(false)),
    }
}
