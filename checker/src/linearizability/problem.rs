//! One key's history, reduced to what the search needs: values as small numbers, operations as reads, writes and swaps.

use rustc_hash::FxHashMap;

use crate::history::{Function, History, Key, Operation};

/// A place of an event in the history: its line. No two events share one.
pub(crate) type Position = u32;

/// A value of the key, interned. Two are special.
pub(crate) type Value = u32;
/// The key is absent.
pub(crate) const ABSENT: Value = 0;
/// A value that nothing ever writes: what a compare-and-swap saw that failed although it saw what it expected.
pub(crate) const NEVER: Value = u32::MAX;

/// What an operation does to the register.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Action {
    /// Needs this value and leaves it: a read, or a compare-and-swap that failed and saw it.
    Read(Value),
    /// Leaves this value, whatever was there.
    Write(Value),
    /// Needs `expected`, leaves `new`.
    Swap {
        /// The value needed.
        expected: Value,
        /// The value left.
        new: Value,
    },
}

impl Action {
    /// The value that the register must hold.
    pub(crate) fn needs(self) -> Option<Value> {
        match self {
            Self::Read(value) | Self::Swap { expected: value, .. } => Some(value),
            Self::Write(_) => None,
        }
    }

    /// The value that it leaves, if it changes the register.
    pub(crate) fn leaves(self) -> Option<Value> {
        match self {
            Self::Read(_) => None,
            Self::Write(value) | Self::Swap { new: value, .. } => Some(value),
        }
    }
}

/// An operation of one key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Step {
    /// Position of the invocation in the history.
    pub(crate) call: Position,
    /// Position of the completion; `Position::MAX`: unknown.
    pub(crate) ret: Position,
    /// What it does.
    pub(crate) action: Action,
    /// Index in [`History::operations`].
    pub(crate) operation: u32,
}

/// One key's history.
#[derive(Clone, Debug)]
pub(crate) struct Problem {
    /// Value before the first operation.
    pub(crate) initial: Value,
    /// Operations that happened, by invocation.
    pub(crate) completed: Vec<Step>,
    /// Operations that may have happened, by invocation. Reads are not among them, since one whose answer nobody saw
    /// constrains nothing; nor are swaps that would change nothing.
    pub(crate) unknown: Vec<Step>,
    /// Number of interned values: they are `0..values`.
    pub(crate) values: usize,
}

/// Splits a history by keys, in the order of keys. Linearizability is local (Herlihy & Wing 1990, theorem 1): a history
/// is linearizable exactly when each key's part of it is.
pub(crate) fn split(history: &History) -> Vec<(Key, Problem)> {
    let mut groups: FxHashMap<&Key, Vec<usize>> = FxHashMap::default();
    for (index, operation) in history.operations.iter().enumerate() {
        groups.entry(operation.function.key()).or_default().push(index);
    }
    let initial: FxHashMap<&Key, &str> =
        history.header.initial.iter().map(|(key, value)| (key, value.as_str())).collect();
    let mut groups: Vec<_> = groups.into_iter().collect();
    groups.sort_unstable_by_key(|(key, _)| *key);
    let problem = |(key, members): (&Key, Vec<usize>)| {
        let problem = Problem::new(&history.operations, &members, initial.get(key).copied());
        (key.clone(), problem)
    };
    groups.into_iter().map(problem).collect()
}

impl Problem {
    fn new(operations: &[Operation], members: &[usize], initial: Option<&str>) -> Self {
        let mut values = Interner::default();
        let mut problem =
            Self { initial: values.intern(initial), completed: Vec::new(), unknown: Vec::new(), values: 0 };
        for &index in members {
            let operation = &operations[index];
            let ret = operation.returned.map_or(Position::MAX, |moment| position(moment.position));
            let Some(action) = values.action(operation) else { continue };
            let call = position(operation.invoked.position);
            let step = Step { call, ret, action, operation: index as u32 };
            if operation.returned.is_some() {
                problem.completed.push(step);
            } else {
                problem.unknown.push(step);
            }
        }
        problem.values = values.count();
        problem
    }

    /// The same key with only those operations, by index in [`History::operations`], that `keep` accepts.
    pub(crate) fn restricted(&self, keep: impl Fn(&Step) -> bool) -> Self {
        let filter = |steps: &[Step]| steps.iter().copied().filter(|step| keep(step)).collect();
        Self { completed: filter(&self.completed), unknown: filter(&self.unknown), ..*self }
    }

    /// The part of the history up to and including position `end`: what had not returned by then is unknown.
    pub(crate) fn prefix(&self, end: Position) -> Self {
        let mut prefix = self.restricted(|step| step.call <= end);
        let (completed, open): (Vec<_>, Vec<_>) =
            prefix.completed.into_iter().partition(|step| step.ret <= end);
        let open = open.into_iter().filter(|step| step.action.leaves().is_some());
        prefix.unknown.extend(open.map(|step| Step { ret: Position::MAX, ..step }));
        prefix.unknown.sort_unstable_by_key(|step| step.call);
        prefix.completed = completed;
        prefix
    }
}

/// Four bytes are enough for a place in a file that anybody could read.
fn position(line: usize) -> Position {
    Position::try_from(line).expect("a history has fewer than four billion lines")
}

/// Gives values small numbers in the order of appearance, for one key.
#[derive(Default)]
struct Interner<'a> {
    numbers: FxHashMap<&'a str, Value>,
}

impl<'a> Interner<'a> {
    fn intern(&mut self, value: Option<&'a str>) -> Value {
        let next = self.numbers.len() as Value + 1;
        value.map_or(ABSENT, |text| *self.numbers.entry(text).or_insert(next))
    }

    fn count(&self) -> usize {
        self.numbers.len() + 1
    }

    /// What the operation does; `None`: it constrains nothing.
    fn action(&mut self, operation: &'a Operation) -> Option<Action> {
        let result = operation.result.as_ref();
        match &operation.function {
            Function::Get { .. } => {
                result.map(|result| Action::Read(self.intern(result.returned.as_deref())))
            }
            Function::Put { value, .. } => Some(Action::Write(self.intern(Some(value)))),
            Function::Delete { .. } => Some(Action::Write(ABSENT)),
            Function::Cas { expected, new, .. } => {
                let expected = self.intern(expected.as_deref());
                match result {
                    Some(result) if result.swapped == Some(false) => {
                        let seen = self.intern(result.returned.as_deref());
                        Some(Action::Read(if seen == expected { NEVER } else { seen }))
                    }
                    _ => {
                        let new = self.intern(Some(new));
                        let changes = expected != new;
                        // Unknown: where it does not match it changes nothing, which is as if it never happened.
                        match (changes, result) {
                            (true, _) => Some(Action::Swap { expected, new }),
                            (false, Some(_)) => Some(Action::Read(expected)),
                            (false, None) => None,
                        }
                    }
                }
            }
        }
    }
}
