//! Pairs the events of a history into operations.
//!
//! Jepsen's semantics: `ok` happened between invocation and completion; `fail` definitely did not happen and is set aside;
//! `info`, and an operation that never completed, may happen at any time after the invocation, or never. What does not
//! fit is an error and never dropped silently: a checker that forgives a malformed history forgives a wrong store too.

use rustc_hash::{FxHashMap, FxHashSet};

use super::{Function, Kind, Op, OpResult};

/// A point of a history. Real-time order is the order of lines; the time is for people.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Moment {
    /// Line of the event, from 1. No two events share one.
    pub position: usize,
    /// Nanoseconds since the run began.
    pub time: u64,
}

/// An operation that happened or may have happened.
#[derive(Clone, Debug, PartialEq)]
pub struct Operation {
    /// Logical process.
    pub process: u64,
    /// The client that ran it.
    pub client: u64,
    /// The node that was asked first.
    pub node: u64,
    /// When it was invoked.
    pub invoked: Moment,
    /// When it returned; `None`: unknown whether or when it happened.
    pub returned: Option<Moment>,
    /// What was asked.
    pub function: Function,
    /// What came back; present exactly when `returned` is.
    pub result: Option<OpResult>,
}

/// Pairs events as they come.
#[derive(Default)]
pub(super) struct Pairing {
    /// Operations in the order of invocation; `None`: it failed.
    operations: Vec<Option<Operation>>,
    /// The open operation of each process.
    open: FxHashMap<u64, usize>,
    /// Processes that ended in `info`.
    retired: FxHashSet<u64>,
    /// Time of the last event.
    time: u64,
    /// Operations that definitely did not happen.
    refused: Vec<Operation>,
}

impl Pairing {
    /// Takes the event on line `position`; the error says what does not fit.
    pub(super) fn take(&mut self, op: Op, position: usize) -> Result<(), String> {
        if op.time < self.time {
            return Err(format!("time goes backwards: {} ns after {} ns", op.time, self.time));
        }
        self.time = op.time;
        if op.kind == Kind::Invoke { self.invoke(op, position) } else { self.complete(op, position) }
    }

    /// All operations that may have happened, and those that did not.
    pub(super) fn finish(self) -> (Vec<Operation>, Vec<Operation>) {
        (self.operations.into_iter().flatten().collect(), self.refused)
    }

    fn invoke(&mut self, op: Op, position: usize) -> Result<(), String> {
        if self.retired.contains(&op.process) {
            return Err(format!(
                "process {} goes on after info; a client needs a new process then",
                op.process
            ));
        }
        if op.result.is_some() {
            return Err("an invocation carries a result".to_owned());
        }
        if self.open.insert(op.process, self.operations.len()).is_some() {
            return Err(format!("process {} invokes an operation while another is open", op.process));
        }
        self.operations.push(Some(Operation {
            process: op.process,
            client: op.client,
            node: op.node,
            invoked: Moment { position, time: op.time },
            returned: None,
            function: op.function,
            result: None,
        }));
        Ok(())
    }

    fn complete(&mut self, op: Op, position: usize) -> Result<(), String> {
        let word = op.kind.word();
        let Some(index) = self.open.remove(&op.process) else {
            return Err(format!("process {} completes ({word}) without an open operation", op.process));
        };
        let slot = &mut self.operations[index];
        let operation = slot.as_mut().expect("an open operation has not failed");
        if operation.function != op.function || operation.client != op.client {
            return Err(format!(
                "this {word} does not match its invocation on line {}: other function, arguments or client",
                operation.invoked.position
            ));
        }
        match (op.kind, op.result) {
            (Kind::Ok, Some(result)) => {
                let swap = matches!(op.function, Function::Cas { .. });
                if swap != result.swapped.is_some() {
                    return Err("`swapped` belongs to every answer of cas, and to no other".to_owned());
                }
                operation.returned = Some(Moment { position, time: op.time });
                operation.result = Some(result);
            }
            (Kind::Ok, None) => {
                return Err(
                    "ok without a complete result (returned, version, leader, ballot, fast)".to_owned()
                );
            }
            (_, Some(_)) => return Err(format!("{word} carries a result; only ok has one")),
            (Kind::Fail, None) => {
                self.refused.extend(slot.take());
            }
            (_, None) => {
                self.retired.insert(op.process);
            }
        }
        Ok(())
    }
}
