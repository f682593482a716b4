//! The compact form of a history of keys: small, and read in one pass that does nothing but count. For histories of millions of
//! operations.
//!
//! Numbers are written seven bits a byte, the lowest first. Values of a key are numbered from 1 in the order of appearance;
//! 0 is absent.
//!
//! | part | contents |
//! |---|---|
//! | mark | `LINHIST1` |
//! | keys | operations; keys; for each its JSON text, the number of its values, the value that it holds at first |
//! | events | for each its kind, lines and nanoseconds since the one before, a slot, and what `event` lists; 255 ends them |
//! | values | for each key its values |
//!
//! A slot stands for an operation in progress, and is free again when it returned. Operations that certainly did not happen
//! are left out, as are completions that leave an operation unknown.
//!
//! Nothing is a history whose operations are not as many as it says, in which a key stands twice, or which does not end with the
//! last value: an event that damage makes an end would leave a beginning that may well be valid.

mod bytes;
mod write;

use std::path::{Path, PathBuf};

use rustc_hash::{FxHashMap, FxHashSet};

use crate::formats::Malformed;
use crate::history::{Function, Key, Moment, OpResult, Operation};
use crate::linearizability::Record;
use crate::linearizability::problem::{ABSENT, Action, NEVER, Position, Problem, Step, Value};
use bytes::Bytes;
pub use write::write;

/// How it begins.
pub(crate) const MARK: &[u8] = b"LINHIST1";

/// Fewest bytes of an invocation: what it is, line, nanoseconds, slot, key, process, node.
const INVOCATION: usize = 7;

/// What an event is.
mod event {
    /// Invocation: key, process, node.
    pub(super) const GET: u8 = 0;
    /// The same, and the value.
    pub(super) const PUT: u8 = 1;
    /// The same, and the values expected and new.
    pub(super) const CAS: u8 = 2;
    /// As of get.
    pub(super) const DELETE: u8 = 3;
    /// Done: a get tells the value, a cas 0 where it swapped, and else the value seen and 1.
    pub(super) const RETURN: u8 = 4;
    /// No event follows.
    pub(super) const END: u8 = 255;
}

/// A history in the compact form, ready to be judged.
pub struct Compact {
    /// Keys and what happened to them.
    pub(crate) keys: Vec<(Key, Problem)>,
    /// Operations that happened or may have happened.
    pub operations: usize,
    path: PathBuf,
    initial: FxHashMap<Key, Value>,
}

impl Compact {
    /// Reads a history.
    pub fn read(path: &Path) -> Result<Self, Malformed> {
        let bytes = std::fs::read(path)?;
        let mut bytes = Bytes::new(&bytes);
        let header = Header::read(&mut bytes)?;
        let mut steps: Vec<(u32, Step)> =
            Vec::with_capacity(header.operations.min(bytes.left() / INVOCATION));
        events(&mut bytes, &header, |event| match event {
            Event::Invoked { key, call, action, .. } => {
                let operation = steps.len() as u32;
                steps.push((key, Step { call, ret: Position::MAX, action, operation }));
            }
            Event::Returned { operation, ret, answer, .. } => {
                let step = &mut steps[operation as usize].1;
                step.ret = ret;
                step.action = settled(step.action, answer);
            }
        })?;
        let operations = steps.len();
        if operations != header.operations {
            let told = header.operations;
            return Err(
                bytes.malformed(format!("{operations} operations, where the beginning tells of {told}"))
            );
        }
        Names::read(&mut bytes, &header, &FxHashSet::default())?;
        if bytes.left() > 0 {
            return Err(bytes.malformed(format!("{} bytes behind the end", bytes.left())));
        }
        let initial = header.keys.iter().map(|key| (key.name.clone(), key.initial)).collect();
        Ok(Self { keys: header.problems(steps), operations, path: path.to_owned(), initial })
    }

    /// Reads again, for what is to be told in words: these operations, and what the values are that they name.
    fn look_up(&self, indices: &FxHashSet<u32>) -> Result<FxHashMap<u32, Operation>, Malformed> {
        let bytes = std::fs::read(&self.path)?;
        let mut bytes = Bytes::new(&bytes);
        let header = Header::read(&mut bytes)?;
        let mut found: FxHashMap<u32, (u32, Action, Option<Value>, Operation)> = FxHashMap::default();
        let mut count = 0;
        events(&mut bytes, &header, |event| match event {
            Event::Invoked { key, call, action, process, node, time } => {
                if indices.contains(&count) {
                    let invoked = Moment { position: call as usize, time };
                    let function = Function::Get { key: header.keys[key as usize].name.clone() };
                    let (returned, result, client) = (None, None, process);
                    let operation = Operation { process, client, node, invoked, returned, function, result };
                    found.insert(count, (key, action, None, operation));
                }
                count += 1;
            }
            Event::Returned { operation, ret, answer, time } => {
                if let Some((_, _, answered, operation)) = found.get_mut(&operation) {
                    operation.returned = Some(Moment { position: ret as usize, time });
                    *answered = Some(answer);
                }
            }
        })?;
        let names = Names::read(&mut bytes, &header, &found.values().map(|(key, ..)| *key).collect())?;
        Ok(found
            .into_iter()
            .map(|(index, (key, action, answer, operation))| {
                (index, names.named(key, action, answer, operation))
            })
            .collect())
    }
}

impl Record for Compact {
    fn recorded(&self, indices: &[u32]) -> FxHashMap<u32, Operation> {
        // it was read a moment ago; whoever changes it meanwhile gets no words
        self.look_up(&indices.iter().copied().collect()).unwrap_or_default()
    }

    fn initial(&self, key: &Key) -> Option<String> {
        let value = *self.initial.get(key)?;
        let bytes = std::fs::read(&self.path).ok()?;
        let mut bytes = Bytes::new(&bytes);
        let header = Header::read(&mut bytes).ok()?;
        events(&mut bytes, &header, |_| {}).ok()?;
        let number = header.keys.iter().position(|known| known.name == *key)? as u32;
        let names = Names::read(&mut bytes, &header, &FxHashSet::from_iter([number])).ok()?;
        names.name(number, value)
    }

    /// This form leaves versions out.
    fn version(&self, _: u32) -> Option<u64> {
        None
    }

    /// And operations that failed.
    fn refused(&self, _: &Key, _: Option<&String>) -> Option<Operation> {
        None
    }
}

/// What is known of a key before the events.
struct KeyInfo {
    name: Key,
    /// How many values it has, without absent.
    values: u32,
    initial: Value,
}

struct Header {
    operations: usize,
    keys: Vec<KeyInfo>,
}

impl Header {
    fn read(bytes: &mut Bytes<'_>) -> Result<Self, Malformed> {
        bytes.mark(MARK)?;
        let operations = bytes.number()? as usize;
        let count = bytes.number()?;
        let mut keys = Vec::new();
        let mut known = FxHashSet::default();
        let mut all_values = 0;
        for _ in 0..count {
            let text = bytes.text()?;
            let name: Key =
                serde_json::from_slice(text).map_err(|error| bytes.malformed(format!("a key: {error}")))?;
            if !known.insert(name.clone()) {
                return Err(bytes.malformed(format!("the key {name} is there already")));
            }
            let values = bytes.small()?;
            all_values += values as usize;
            // each value has a place in the file, and the checker a table of them
            if all_values > bytes.left() {
                let message = format!("{all_values} values, in a file that is too short for them");
                return Err(bytes.malformed(message));
            }
            let initial = bytes.small_up_to(values)?;
            keys.push(KeyInfo { name, values, initial });
        }
        Ok(Self { operations, keys })
    }

    /// Sorts the operations by keys.
    fn problems(&self, steps: Vec<(u32, Step)>) -> Vec<(Key, Problem)> {
        let mut counts = vec![(0, 0); self.keys.len()];
        for (key, step) in &steps {
            let (completed, unknown) = &mut counts[*key as usize];
            *(if step.ret < Position::MAX { completed } else { unknown }) += 1;
        }
        let problem = |(key, &(completed, unknown)): (&KeyInfo, &(usize, usize))| Problem {
            initial: key.initial,
            completed: Vec::with_capacity(completed),
            unknown: Vec::with_capacity(unknown),
            values: key.values as usize + 1,
        };
        let mut problems: Vec<Problem> = self.keys.iter().zip(&counts).map(problem).collect();
        for (key, step) in steps {
            let problem = &mut problems[key as usize];
            match step.action {
                _ if step.ret < Position::MAX => problem.completed.push(step),
                // what nobody saw, or what changes nothing, constrains nothing
                Action::Read(_) => {}
                Action::Swap { expected, new } if expected == new => {}
                _ => problem.unknown.push(step),
            }
        }
        let mut keys: Vec<_> = self.keys.iter().map(|key| key.name.clone()).zip(problems).collect();
        keys.retain(|(_, problem)| !problem.completed.is_empty() || !problem.unknown.is_empty());
        keys.sort_unstable_by(|(one, _), (other, _)| one.cmp(other));
        keys
    }
}

/// An event as it is read.
enum Event {
    Invoked {
        key: u32,
        call: Position,
        action: Action,
        process: u64,
        node: u64,
        time: u64,
    },
    /// The answer of a get is the value; that of a cas 0 where it swapped, and else the value seen and 1; else 0.
    Returned {
        operation: u32,
        ret: Position,
        answer: Value,
        time: u64,
    },
}

/// What an operation did, once its answer is known.
fn settled(action: Action, answer: Value) -> Action {
    match (action, answer) {
        (Action::Read(_), value) => Action::Read(value),
        (Action::Swap { expected, new }, 0) if expected == new => Action::Read(expected),
        (Action::Swap { .. }, 0) | (Action::Write(_), _) => action,
        (Action::Swap { expected, .. }, seen) => {
            Action::Read(if seen - 1 == expected { NEVER } else { seen - 1 })
        }
    }
}

/// Reads all events.
fn events(bytes: &mut Bytes<'_>, header: &Header, mut take: impl FnMut(Event)) -> Result<(), Malformed> {
    /// A slot that is free.
    const FREE: u32 = u32::MAX;
    // by slot: the operation, its key and what kind of answer it gets
    let mut slots: Vec<(u32, u32, u8)> = Vec::new();
    let (mut position, mut time, mut operations) = (0_u32, 0_u64, 0_u32);
    loop {
        let which = bytes.byte()?;
        if which == event::END {
            return Ok(());
        }
        let lines = bytes.small()?;
        position = match position.checked_add(lines) {
            Some(next) if lines > 0 && next < Position::MAX => next,
            _ => return Err(bytes.malformed("lines do not go on".to_owned())),
        };
        time = time.saturating_add(bytes.number()?);
        let slot = bytes.small()? as usize;
        if which == event::RETURN {
            let Some((operation, key, kind)) = slots.get_mut(slot).filter(|slot| slot.0 != FREE) else {
                return Err(bytes.malformed(format!("nothing is in progress in slot {slot}")));
            };
            let values = header.keys[*key as usize].values;
            let answer = match *kind {
                event::GET => bytes.small_up_to(values)?,
                event::CAS => bytes.small_up_to(values + 1)?,
                _ => 0,
            };
            take(Event::Returned { operation: *operation, ret: position, answer, time });
            *operation = FREE;
            continue;
        }
        let key = bytes.small()?;
        let Some(info) = header.keys.get(key as usize) else {
            return Err(bytes.malformed(format!("there is no key {key}")));
        };
        let (process, node) = (bytes.number()?, bytes.number()?);
        let action = match which {
            event::GET => Action::Read(NEVER),
            event::PUT => Action::Write(bytes.small_up_to(info.values)?),
            event::CAS => {
                let expected = bytes.small_up_to(info.values)?;
                Action::Swap { expected, new: bytes.small_up_to(info.values)? }
            }
            event::DELETE => Action::Write(ABSENT),
            other => return Err(bytes.malformed(format!("an event of kind {other}"))),
        };
        if slot == slots.len() {
            slots.push((operations, key, which));
        } else if let Some(free) = slots.get_mut(slot).filter(|slot| slot.0 == FREE) {
            *free = (operations, key, which);
        } else {
            return Err(bytes.malformed(format!("slot {slot} is not free, or not the next")));
        }
        operations += 1;
        take(Event::Invoked { key, call: position, action, process, node, time });
    }
}

/// The values of some keys.
struct Names(FxHashMap<u32, Vec<String>>);

impl Names {
    fn read(bytes: &mut Bytes<'_>, header: &Header, wanted: &FxHashSet<u32>) -> Result<Self, Malformed> {
        let mut names: FxHashMap<u32, Vec<String>> = FxHashMap::default();
        for (number, key) in header.keys.iter().enumerate() {
            for _ in 0..key.values {
                let text = bytes.text()?;
                if wanted.contains(&(number as u32)) {
                    names.entry(number as u32).or_default().push(String::from_utf8_lossy(text).into_owned());
                }
            }
        }
        Ok(Self(names))
    }

    fn name(&self, key: u32, value: Value) -> Option<String> {
        self.0.get(&key)?.get((value as usize).checked_sub(1)?).cloned()
    }

    /// The operation with what it asked and was answered.
    fn named(
        &self,
        number: u32,
        action: Action,
        answer: Option<Value>,
        mut operation: Operation,
    ) -> Operation {
        let key = operation.function.key().clone();
        let name = |value| self.name(number, value);
        let swaps = matches!(action, Action::Swap { .. });
        let function = match action {
            Action::Read(_) => Function::Get { key },
            Action::Write(value) => match name(value) {
                Some(value) => Function::Put { key, value },
                None => Function::Delete { key },
            },
            Action::Swap { expected, new } => {
                Function::Cas { key, expected: name(expected), new: name(new).unwrap_or_default() }
            }
        };
        let result = answer.map(|answer| OpResult {
            returned: name(if swaps { answer.saturating_sub(1) } else { answer }),
            swapped: swaps.then_some(answer == 0),
            version: 0,
            index: None,
            leader: 0,
            ballot: String::new(),
            fast: false,
            local: false,
        });
        operation.function = function;
        operation.result = result;
        operation
    }
}
