//! Depth first: Wing & Gong (1993) with Lowe's memoisation (2017), without recursion.
//!
//! A configuration is what has been linearised and the state. Operations that completed are numbered by invocation. One can be
//! next (is *minimal*) when no other remaining one returned before it was invoked. All operations from `high` on remain, and of
//! those below `high` exactly `open` do, which are kept equal to the minimal ones: no more than there are processes, so a
//! configuration costs a few words however long the history is.
//!
//! Reductions, each sound for any specification. Let S be an order of the remaining operations:
//! - **Eager reads.** A minimal read (see [`Model::is_read`]) whose answer fits is taken at once: moved to the front of S it
//!   breaks no real-time order (it is minimal), and the others find the state as before, since it changes none, neither here
//!   nor where it stood. An operation that merely changes nothing here may have changed something there.
//! - **Alike.** Of minimal operations that ask and answer the same only the first to return is tried: in an S that begins with
//!   another of them the two can change places. Of unknown ones, which never return, the first to be invoked.
//! - **Unknown operations just in time.** If an unknown operation of S and the one behind it can change places without a change
//!   of answers or of the state behind both, they do; at the end of S it drops out; of two unknown ones the order by number is
//!   the one to keep. Each exchange moves an unknown operation back or mends an inversion, so this ends. In the S that is left
//!   every unknown operation is followed by one with which it cannot change places, and only such ways are tried. Which those
//!   are depends on the last unknown operation and the state before it, so these belong to the configuration.
//!
//! They are sound together as those of [`super::breadth`] are, by the same ranks.

use super::tables::{ALLOCATED, Class, Held, Prepared, State, Tables, list_bytes};
use super::{Answer, Model};
use crate::memo::Memo;

/// Operations that become minimal at once, mostly.
const ROOM: usize = 4;

/// The unknown operation that was taken last, if nothing was taken since, and the state before it.
type Pending = Option<(State, u32)>;

#[derive(Default)]
struct Configuration {
    high: u32,
    open: Vec<u32>,
    state: State,
    /// How many of the unknown operations that are alike have been used, where any have.
    used: Vec<(u32, u32)>,
    pending: Pending,
}

/// A way on: an operation that completed, or one of the unknown ones that are alike.
#[derive(Clone, Copy)]
enum Choice {
    Completed(u32),
    Unknown(u32),
}

struct Frame {
    configuration: Configuration,
    choices: Vec<(Choice, State)>,
    next: usize,
    /// Operations in order when it was entered.
    length: usize,
}

/// The search, which can be interrupted.
#[derive(Default)]
pub(super) struct Depth {
    begun: bool,
    memo: Memo,
    /// The key that is looked up.
    key: Vec<u32>,
    stack: Vec<Frame>,
    /// Places in the history, in the order found so far.
    order: Vec<usize>,
    longest: Vec<usize>,
    /// How much of `longest` and `order` is the same.
    common: usize,
    furthest: usize,
    /// The latest of the completions that some configuration waits for: when, and whose.
    blocked: (usize, usize),
    scratch: Scratch,
    /// Bytes of the lists of all frames.
    frames: usize,
    held: Held,
}

/// Lists that every configuration fills anew.
#[derive(Default)]
struct Scratch {
    found: Vec<((bool, usize), Choice, State)>,
    alike: Vec<(Class, usize, u32)>,
}

impl Depth {
    pub(super) fn configurations(&self) -> usize {
        self.memo.len()
    }

    pub(super) fn furthest(&self) -> usize {
        self.furthest
    }

    /// The order found, or the longest one.
    pub(super) fn order(&self, prepared: &Prepared) -> Vec<usize> {
        if self.furthest == prepared.completed.len() { self.order.clone() } else { self.longest.clone() }
    }

    /// What it holds, or holds for a moment when the next configuration comes.
    fn bytes(&self) -> usize {
        let lists = list_bytes(&self.stack) + list_bytes(&self.order) + list_bytes(&self.longest);
        lists + self.frames + self.memo.bytes()
    }

    /// Goes on for so many transitions.
    pub(super) fn run<M: Model>(
        &mut self,
        prepared: &Prepared,
        tables: &mut Tables<'_, M>,
        turn: u64,
    ) -> Option<Answer> {
        if !self.begun {
            self.begun = true;
            if self.enter(prepared, tables, Configuration::default(), 0) {
                return Some(Answer::Linearizable);
            }
        }
        for _ in 0..turn {
            while self.stack.last().is_some_and(|frame| frame.next == frame.choices.len()) {
                self.backtrack();
            }
            let now = self.bytes();
            let Some(frame) = self.stack.last_mut() else {
                return Some(Answer::Stuck { completion: self.blocked.1 });
            };
            let (choice, state) = frame.choices[frame.next];
            frame.next += 1;
            if let Err(spent) = tables.count(&mut self.held, now) {
                return Some(Answer::Spent(spent));
            }
            let configuration = frame.configuration.to_go_on_from();
            if self.advance(prepared, tables, configuration, choice, state) {
                return Some(Answer::Linearizable);
            }
        }
        None
    }

    fn advance<M: Model>(
        &mut self,
        prepared: &Prepared,
        tables: &mut Tables<'_, M>,
        mut at: Configuration,
        choice: Choice,
        state: State,
    ) -> bool {
        let length = self.order.len();
        let before = at.state;
        at.state = state;
        match choice {
            Choice::Completed(index) => {
                at.open.retain(|&open| open != index);
                at.pending = None;
                self.order.push(prepared.completed[index as usize].place);
            }
            Choice::Unknown(slot) => {
                at.pending = Some((before, slot));
                let nth = use_one(&mut at.used, slot);
                self.order.push(prepared.unknown[slot as usize].members[nth as usize].1);
            }
        }
        self.enter(prepared, tables, at, length)
    }

    /// Takes what can be taken at once; then either everything is linearised (true), or the configuration goes on the stack if
    /// it is new.
    fn enter<M: Model>(
        &mut self,
        prepared: &Prepared,
        tables: &mut Tables<'_, M>,
        mut at: Configuration,
        length: usize,
    ) -> bool {
        let (earliest, urgent) = self.settle(prepared, tables, &mut at);
        if at.open.is_empty() {
            return true;
        }
        at.write_key(&mut self.key);
        if self.memo.insert(&self.key) {
            let choices = choices(prepared, tables, &at, (earliest, urgent), &mut self.scratch);
            let frame = Frame { configuration: at, choices, next: 0, length };
            self.frames += frame.bytes();
            self.stack.push(frame);
        } else {
            self.order.truncate(length);
            self.common = self.common.min(length);
        }
        false
    }

    fn backtrack(&mut self) {
        if let Some(frame) = self.stack.pop() {
            self.frames -= frame.bytes();
            self.order.truncate(frame.length);
            self.common = self.common.min(frame.length);
        }
    }

    /// Takes every minimal read that fits; tells the earliest completion left, and whose.
    fn settle<M: Model>(
        &mut self,
        prepared: &Prepared,
        tables: &mut Tables<'_, M>,
        at: &mut Configuration,
    ) -> (usize, u32) {
        loop {
            let earliest = at.extend(prepared);
            let before = at.open.len();
            let state = at.state;
            let order = &mut self.order;
            at.open.retain(|&index| {
                let done = prepared.completed[index as usize];
                let taken = tables.reads(state, done.class);
                if taken {
                    order.push(done.place);
                }
                !taken
            });
            if at.open.len() < before {
                at.pending = None;
                continue;
            }
            let placed = at.high as usize - at.open.len();
            if placed > self.furthest || self.furthest == 0 {
                self.furthest = placed;
                self.longest.truncate(self.common);
                self.longest.extend_from_slice(&self.order[self.common..]);
                self.common = self.order.len();
            }
            if let Some(urgent) = prepared.completed.get(earliest.1 as usize)
                && earliest.0 != usize::MAX
            {
                self.blocked = self.blocked.max((earliest.0, urgent.place));
            }
            return earliest;
        }
    }
}

impl Frame {
    /// Bytes of its lists.
    fn bytes(&self) -> usize {
        let Configuration { open, used, .. } = &self.configuration;
        3 * ALLOCATED
            + size_of::<u32>() * open.capacity()
            + size_of::<(u32, u32)>() * used.capacity()
            + size_of::<(Choice, State)>() * self.choices.capacity()
    }
}

impl Configuration {
    /// A copy, with room for a few operations that become minimal.
    fn to_go_on_from(&self) -> Self {
        let mut open = Vec::with_capacity(self.open.len() + ROOM);
        open.extend_from_slice(&self.open);
        let Self { high, state, pending, .. } = *self;
        Self { high, open, state, used: self.used.clone(), pending }
    }

    /// Makes `open` hold all minimal operations; tells the earliest completion among them, and whose it is.
    fn extend(&mut self, prepared: &Prepared) -> (usize, u32) {
        let ret = |index: u32| (prepared.completed[index as usize].ret, index);
        let mut earliest = self.open.iter().map(|&index| ret(index)).min().unwrap_or((usize::MAX, u32::MAX));
        while prepared.completed.get(self.high as usize).is_some_and(|done| done.call <= earliest.0) {
            earliest = earliest.min(ret(self.high));
            self.open.push(self.high);
            self.high += 1;
        }
        earliest
    }

    /// The words by which configurations are told apart.
    fn write_key(&self, key: &mut Vec<u32>) {
        key.clear();
        let (before, slot) = self.pending.unwrap_or((u32::MAX, u32::MAX));
        key.extend([self.high, self.state, before, slot, self.open.len() as u32]);
        key.extend_from_slice(&self.open);
        key.extend(self.used.iter().flat_map(|&(slot, count)| [slot, count]));
    }
}

/// Counts one more use of unknown operations that are alike; tells how many there were before.
pub(super) fn use_one(used: &mut Vec<(u32, u32)>, slot: u32) -> u32 {
    match used.binary_search_by_key(&slot, |&(slot, _)| slot) {
        Ok(at) => {
            used[at].1 += 1;
            used[at].1 - 1
        }
        Err(at) => {
            used.insert(at, (slot, 1));
            0
        }
    }
}

/// How many of them have been used.
pub(super) fn uses(used: &[(u32, u32)], slot: u32) -> u32 {
    used.binary_search_by_key(&slot, |&(slot, _)| slot).map_or(0, |at| used[at].1)
}

/// The ways on and the states that they lead to, the most promising first: what lets the operation with the earliest
/// completion be next.
fn choices<M: Model>(
    prepared: &Prepared,
    tables: &mut Tables<'_, M>,
    at: &Configuration,
    (earliest, urgent): (usize, u32),
    Scratch { found, alike }: &mut Scratch,
) -> Vec<(Choice, State)> {
    let pending = at.pending.map(|(before, slot)| (before, prepared.unknown[slot as usize].class, slot));
    let urgent_class = prepared.completed[urgent as usize].class;
    found.clear();
    alike.clear();
    alike.extend(at.open.iter().map(|&index| {
        let done = prepared.completed[index as usize];
        (done.class, done.ret, index)
    }));
    alike.sort_unstable();
    alike.dedup_by_key(|&mut (class, ..)| class);
    for &mut (class, ret, index) in alike {
        let Some(after) = tables.step(at.state, class) else { continue };
        if pending.is_some_and(|(before, unknown, _)| tables.commute(before, unknown, class, after)) {
            continue;
        }
        let far = index != urgent && tables.step(after, urgent_class).is_none();
        found.push(((far, ret), Choice::Completed(index), after));
    }
    for (slot, unknown) in prepared.unknown.iter().enumerate() {
        let slot = slot as u32;
        if uses(&at.used, slot) >= unknown.invoked_before(earliest.saturating_add(1)) {
            continue;
        }
        let Some(after) = tables.step(at.state, unknown.class).filter(|&after| after != at.state) else {
            continue;
        };
        let reorders = |&(before, class, last): &(State, Class, u32)| {
            slot < last && tables.commute(before, class, unknown.class, after)
        };
        if !pending.as_ref().is_some_and(reorders) {
            let far = tables.step(after, urgent_class).is_none();
            found.push(((far, usize::MAX), Choice::Unknown(slot), after));
        }
    }
    found.sort_by_key(|&(rank, ..)| rank);
    found.iter().map(|&(_, choice, state)| (choice, state)).collect()
}
