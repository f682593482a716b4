//! What both searches share: the history in small numbers, and each state and each transition of the model computed once.

use std::rc::Rc;

use rustc_hash::FxHashMap;

use super::{Model, Recording};
use crate::budget::{Limits, Spent};

/// A state of the model, numbered in the order of discovery.
pub(super) type State = u32;
/// What an operation asked, and what it was answered: operations of one class are alike but for their times.
pub(super) type Class = u32;

/// Bytes that the allocator keeps beside what it gives, roughly.
pub(super) const ALLOCATED: usize = 16;
/// Entries for which a hash table is made at first, at most: short histories are judged by the thousand.
const FEW: usize = 256;
/// Entries that a step adds to a list or a table, mostly fewer.
const AT_ONCE: usize = 32;
/// Bytes of the two counters of a shared value.
const COUNTED: usize = 16;
/// Looks at the budget, of which each step has one, between two looks at the clock.
const LOOKS_PER_TIME: u64 = 128;

/// An operation that completed.
#[derive(Clone, Copy)]
pub(super) struct Done {
    pub(super) call: usize,
    pub(super) ret: usize,
    pub(super) class: Class,
    /// Its place in the history.
    pub(super) place: usize,
}

/// Unknown operations that are alike. Of those that can have happened already it does not matter which one did, so they
/// are used in the order of invocation.
pub(super) struct Alike {
    pub(super) class: Class,
    /// Invocations and places in the history, by invocation.
    pub(super) members: Vec<(usize, usize)>,
}

impl Alike {
    /// How many were invoked before a moment.
    pub(super) fn invoked_before(&self, moment: usize) -> u32 {
        self.members.partition_point(|&(call, _)| call < moment) as u32
    }
}

/// A history in small numbers.
pub(super) struct Prepared {
    /// By invocation.
    pub(super) completed: Vec<Done>,
    /// By first invocation.
    pub(super) unknown: Vec<Alike>,
}

/// States and transitions.
pub(super) struct Tables<'a, M: Model> {
    limits: Limits<'a>,
    /// What the classes stand for.
    classes: Vec<(&'a M::Op, Option<&'a M::Ret>)>,
    reads: Vec<bool>,
    states: Vec<Rc<M>>,
    numbers: FxHashMap<Rc<M>, State>,
    /// By state and class; `None`: the answer does not fit.
    transitions: FxHashMap<u64, Option<State>>,
    pub(super) steps: u64,
    looks: u64,
    /// What the states hold, and what the searches have said that they hold.
    bytes: usize,
    pub(super) peak: usize,
}

/// Numbers what a history consists of.
pub(super) fn prepare<'a, M: Model>(
    history: &'a Recording<M>,
    model: &M,
    limits: Limits<'a>,
) -> (Prepared, Tables<'a, M>) {
    let mut numbers: FxHashMap<(&M::Op, Option<&M::Ret>), Class> = FxHashMap::default();
    numbers.reserve(history.len().min(FEW));
    let (mut classes, mut reads) = (Vec::new(), Vec::new());
    let mut completed = Vec::with_capacity(history.len());
    let mut unknown: Vec<Alike> = Vec::new();
    let mut alike: FxHashMap<Class, usize> = FxHashMap::default();
    let mut places: Vec<usize> = (0..history.len()).collect();
    places.sort_by_key(|&place| history[place].called);
    for place in places {
        let operation = &history[place];
        let what = (&operation.op, operation.returned.as_ref().map(|(_, answer)| answer));
        let class = *numbers.entry(what).or_insert_with(|| {
            classes.push(what);
            reads.push(what.1.is_some_and(|answer| M::is_read(what.0, answer)));
            classes.len() as Class - 1
        });
        if let Some((ret, _)) = operation.returned {
            completed.push(Done { call: operation.called, ret, class, place });
        } else {
            let slot = *alike.entry(class).or_insert_with(|| {
                unknown.push(Alike { class, members: Vec::new() });
                unknown.len() - 1
            });
            unknown[slot].members.push((operation.called, place));
        }
    }
    let begun = Rc::new(model.clone());
    let mut transitions = FxHashMap::default();
    transitions.reserve(4 * classes.len().min(FEW));
    let tables = Tables {
        limits,
        classes,
        reads,
        states: vec![Rc::clone(&begun)],
        numbers: FxHashMap::from_iter([(begun, 0)]),
        transitions,
        steps: 0,
        looks: 0,
        bytes: 0,
        peak: 0,
    };
    (Prepared { completed, unknown }, tables)
}

impl<M: Model> Tables<'_, M> {
    /// The state after an operation of this class; `None`: the model would have answered something else.
    pub(super) fn step(&mut self, state: State, class: Class) -> Option<State> {
        let key = u64::from(state) << 32 | u64::from(class);
        if let Some(&next) = self.transitions.get(&key) {
            return next;
        }
        let (op, answer) = self.classes[class as usize];
        let mut after = M::clone(&self.states[state as usize]);
        let fits = if let Some(answer) = answer {
            after.is_valid_step(op, answer)
        } else {
            after.invoke(op);
            true
        };
        let next = fits.then(|| self.number(after));
        let is_read = self.reads[class as usize];
        assert!(!is_read || next.is_none_or(|next| next == state), "a read must not change the state");
        self.transitions.insert(key, next);
        next
    }

    /// Whether it is a read whose answer fits.
    pub(super) fn reads(&mut self, state: State, class: Class) -> bool {
        self.reads[class as usize] && self.step(state, class).is_some()
    }

    fn number(&mut self, state: M) -> State {
        let fresh = self.states.len() as State;
        if let Some(&number) = self.numbers.get(&state) {
            return number;
        }
        self.bytes += COUNTED + size_of::<M>() + state.weight() + 2 * ALLOCATED;
        let state = Rc::new(state);
        self.states.push(Rc::clone(&state));
        self.numbers.insert(state, fresh);
        fresh
    }

    /// Whether two operations can change places: `first` led from `before` to `between`, `second` would go on to `after`.
    pub(super) fn commute(&mut self, before: State, first: Class, second: Class, after: State) -> bool {
        let Some(other) = self.step(before, second) else { return false };
        self.step(other, first) == Some(after)
    }

    /// Counts a transition of a search, which holds so many bytes now; the error says that the budget does not allow it.
    pub(super) fn count(&mut self, held: &mut Held, now: usize) -> Result<(), Spent> {
        if self.steps >= self.limits.steps {
            return Err(Spent::Steps);
        }
        self.steps += 1;
        self.look(held, now)
    }

    /// Looks whether the budget allows a search to go on, which holds so many bytes now.
    pub(super) fn look(&mut self, held: &mut Held, now: usize) -> Result<(), Spent> {
        self.bytes = self.bytes - held.0 + now;
        held.0 = now;
        let bytes = self.bytes
            + list_bytes(&self.states)
            + table_bytes(&self.numbers)
            + table_bytes(&self.transitions);
        if bytes > self.limits.memory {
            return Err(Spent::Memory);
        }
        self.peak = self.peak.max(bytes);
        self.looks += 1;
        if self.looks.is_multiple_of(LOOKS_PER_TIME) && self.limits.watch.expired() {
            Err(Spent::Time)
        } else {
            Ok(())
        }
    }
}

/// Bytes that a search has said that it holds.
#[derive(Default)]
pub(super) struct Held(usize);

/// Bytes of a list, or those that it takes for a moment when the next step makes it grow.
pub(super) fn list_bytes<T>(list: &Vec<T>) -> usize {
    growing(size_of::<T>() * list.capacity(), list.len(), list.capacity())
}

/// The same of a hash table: seven of eight places can be taken, and each has a byte of its own beside its entry.
pub(super) fn table_bytes<K, V>(table: &FxHashMap<K, V>) -> usize {
    let places = table.capacity() / 7 * 8;
    growing((size_of::<(K, V)>() + 1) * places, table.len(), table.capacity())
}

/// What is nearly full will be copied to where there is twice as much room. A step may add many entries.
fn growing(bytes: usize, taken: usize, room: usize) -> usize {
    if taken + room / 16 + AT_ONCE < room { bytes } else { 3 * bytes }
}
