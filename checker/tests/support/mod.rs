//! Builds histories for tests.

pub mod command;
pub mod feed;
pub mod runs;
pub mod small;

use checker::history::{Function, Header, Key, Kind, Op, OpResult, Partitioning, Record, Trip};

/// A small generator of its own, so that the histories stay the same for ever.
#[allow(dead_code, reason = "not every test draws")]
pub struct Random(u64);

#[allow(dead_code, reason = "not every test draws")]
impl Random {
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % bound
    }
}

/// A register that answers as a store would, and the records of what clients saw.
#[allow(dead_code, reason = "not every test records")]
pub struct Recorder {
    pub records: Vec<Record>,
    time: u64,
}

#[allow(dead_code, reason = "not every test records")]
impl Recorder {
    pub fn new(initial: Vec<(Key, String)>) -> Self {
        let (workload, partitions) = ("test".to_owned(), Vec::new());
        let partitioning = Partitioning::Range;
        let header = Header { workload, seed: 0, origin: 0, initial, partitions, partitioning };
        Self { records: vec![Record::Header(header)], time: 0 }
    }

    /// Gives the last event its time.
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

#[allow(dead_code, reason = "not every test records")]
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
