//! The general search: Wing & Gong (1993) with Lowe's memoisation on (linearised operations, state) (2017; Horn &
//! Kroening 2015), as in Porcupine, without recursion.
//!
//! A configuration is what has been linearised and the register's value. Operations that must happen are numbered by
//! invocation. An operation can be next (is *minimal*) when it was invoked before every other remaining one returned.
//! Porcupine keeps the remaining events in a linked list and the linearised set as bits. Here a configuration is `high`
//! and `open`: all operations from `high` on remain, and of those below `high` exactly `open` do. `open` is kept equal to
//! the minimal operations; they overlap pairwise, so there are never more of them than processes. The memo therefore
//! costs a few words per configuration, however long the history is.
//!
//! Reductions, each sound for any history. Let S be an order of the remaining operations:
//! - **Eager reads.** A minimal read of the value that the register holds is taken at once: moved to the front of S it
//!   breaks no real-time order (it is minimal) and changes no state, so if any S exists, one that begins with it does.
//! - **Dead writes.** A minimal write W of a dead value (see [`super::needs`]) is taken right before any other write
//!   that is taken: moved from its place in S to the front it breaks no real-time order, the write behind it hides it, and
//!   at its old place nothing needs its value, so the next change there is a write or there is none. When the register
//!   holds a dead value already, W is taken at once for the same reason. All dead values are one state.
//! - **Unknown operations just in time.** An unknown operation is tried only when a minimal operation needs the value that
//!   it leaves, directly or through other unknown swaps (lemma in [`super::needs`]).
//! - **Twins.** Of minimal operations that do the same, only the first to return is tried: in an S that begins with
//!   another twin the two can change places. Unknown twins that can happen already are alike from then on.

use rustc_hash::FxHashMap;

use super::needs::Needs;
use super::problem::{Action, Position, Problem, Step, Value};
use crate::budget::{Limits, Spent};
use crate::memo::Memo;

/// State: the register holds a value that no remaining operation needs.
const DEAD: Value = u32::MAX - 1;
/// What the allocator takes beside each of the two lists of a frame, roughly.
const LISTS: usize = 2 * 16;
/// Transitions between two looks at the clock.
const STEPS_PER_LOOK: u64 = 256;

/// What a search found, and what it cost.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Outcome {
    /// The answer.
    pub(crate) answer: Answer,
    /// Transitions made.
    pub(crate) steps: u64,
    /// Different configurations visited.
    pub(crate) configurations: usize,
    /// Most operations that were linearised at once, of those that must happen.
    pub(crate) furthest: usize,
}

/// The answer of a search.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// There is an order.
    Linearizable,
    /// There is none; no order gets beyond the completion at this position.
    Stuck {
        /// Position of that completion.
        position: Position,
    },
    /// The budget ran out.
    Spent(Spent),
}

/// Searches for an order of the key's operations.
pub(crate) fn search(problem: &Problem, limits: Limits<'_>) -> Outcome {
    Search::new(problem, limits).run()
}

/// What has been linearised of the operations that must happen, and the value of the register.
#[derive(Clone)]
struct Configuration {
    high: u32,
    open: Vec<u32>,
    state: Value,
}

/// A way on from a configuration.
#[derive(Clone, Copy)]
enum Choice {
    /// A minimal operation that changes the register.
    Completed(u32),
    /// All minimal dead writes, with none behind them.
    Dead,
    /// An unknown operation.
    Unknown(u32),
}

struct Frame {
    configuration: Configuration,
    choices: Vec<Choice>,
    next: usize,
    /// The unknown operation that led here.
    unknown: Option<u32>,
}

struct Search<'a> {
    completed: &'a [Step],
    unknown: &'a [Step],
    needs: Needs,
    /// Unknown operations by the value that they leave, in the order of invocation.
    sources: FxHashMap<Value, Vec<u32>>,
    limits: Limits<'a>,
    memo: Memo,
    /// The key that is looked up.
    key: Vec<u32>,
    stack: Vec<Frame>,
    taken: Vec<bool>,
    /// The unknown operations taken, in the order of taking.
    trail: Vec<u32>,
    bytes: usize,
    steps: u64,
    blocked: Position,
    furthest: usize,
}

impl<'a> Search<'a> {
    fn new(problem: &'a Problem, limits: Limits<'a>) -> Self {
        let mut sources: FxHashMap<Value, Vec<u32>> = FxHashMap::default();
        for (index, step) in problem.unknown.iter().enumerate() {
            let value = step.action.leaves().expect("unknown reads are dropped before the search");
            sources.entry(value).or_default().push(index as u32);
        }
        Self {
            completed: &problem.completed,
            unknown: &problem.unknown,
            needs: Needs::of(problem),
            sources,
            limits,
            memo: Memo::default(),
            key: Vec::new(),
            stack: vec![Frame {
                configuration: Configuration { high: 0, open: Vec::new(), state: problem.initial },
                choices: Vec::new(),
                next: 0,
                unknown: None,
            }],
            taken: vec![false; problem.unknown.len()],
            trail: Vec::new(),
            bytes: 0,
            steps: 0,
            blocked: 0,
            furthest: 0,
        }
    }

    fn run(mut self) -> Outcome {
        let mut root = self.stack[0].configuration.clone();
        if self.settle(&mut root) {
            return self.outcome(Answer::Linearizable);
        }
        self.stack[0].choices = self.choices(&root);
        self.stack[0].configuration = root;
        self.bytes = self.stack[0].bytes();
        while let Some(frame) = self.stack.last_mut() {
            let Some(&choice) = frame.choices.get(frame.next) else {
                self.backtrack();
                continue;
            };
            frame.next += 1;
            let configuration = frame.configuration.clone();
            if let Some(spent) = self.spent() {
                return self.outcome(Answer::Spent(spent));
            }
            self.steps += 1;
            if self.advance(configuration, choice) {
                return self.outcome(Answer::Linearizable);
            }
        }
        let position = self.blocked;
        self.outcome(Answer::Stuck { position })
    }

    /// Makes a choice; true when everything is linearised then. A configuration that is new goes on the stack.
    fn advance(&mut self, mut configuration: Configuration, choice: Choice) -> bool {
        let unknown = self.apply(&mut configuration, choice);
        if let Some(index) = unknown {
            self.taken[index as usize] = true;
            self.trail.push(index);
        }
        if self.settle(&mut configuration) {
            return true;
        }
        let mut key = std::mem::take(&mut self.key);
        self.memo_key(&configuration, &mut key);
        let new = self.memo.insert(&key);
        self.key = key;
        if new {
            let choices = self.choices(&configuration);
            let frame = Frame { configuration, choices, next: 0, unknown };
            self.bytes += frame.bytes();
            self.stack.push(frame);
        } else if let Some(index) = unknown {
            self.trail.pop();
            self.taken[index as usize] = false;
        }
        false
    }

    fn backtrack(&mut self) {
        let frame = self.stack.pop().expect("backtracks from the frame on top");
        if let Some(index) = frame.unknown {
            self.trail.pop();
            self.taken[index as usize] = false;
        }
        self.bytes -= frame.bytes();
    }

    fn spent(&self) -> Option<Spent> {
        if self.steps >= self.limits.steps {
            return Some(Spent::Steps);
        }
        if self.bytes + self.memo.bytes() + self.stack_bytes() > self.limits.memory {
            return Some(Spent::Memory);
        }
        (self.steps.is_multiple_of(STEPS_PER_LOOK) && self.limits.watch.expired()).then_some(Spent::Time)
    }

    /// Bytes of the stack but for what its frames point to, with what it takes for a moment when it grows.
    fn stack_bytes(&self) -> usize {
        let grows = self.stack.len() == self.stack.capacity();
        size_of::<Frame>() * self.stack.capacity() * if grows { 3 } else { 1 }
    }

    fn outcome(self, answer: Answer) -> Outcome {
        let furthest = if answer == Answer::Linearizable { self.completed.len() } else { self.furthest };
        Outcome { answer, steps: self.steps, configurations: self.memo.len() + 1, furthest }
    }

    /// Linearises the choice and what it takes along; tells which unknown operation it used.
    fn apply(&self, at: &mut Configuration, choice: Choice) -> Option<u32> {
        let (action, unknown) = match choice {
            Choice::Completed(index) => (self.completed[index as usize].action, None),
            Choice::Unknown(index) => (self.unknown[index as usize].action, Some(index)),
            Choice::Dead => {
                self.take_dead_writes(at);
                at.state = DEAD;
                return None;
            }
        };
        if matches!(action, Action::Write(_)) {
            self.take_dead_writes(at);
        }
        if let Choice::Completed(index) = choice {
            at.open.retain(|&open| open != index);
        }
        at.state = action.leaves().expect("only changes are choices");
        unknown
    }

    fn take_dead_writes(&self, at: &mut Configuration) {
        loop {
            let before = at.open.len();
            let low = at.low();
            at.open.retain(|&index| !self.is_dead_write(index, low));
            if at.open.len() == before {
                return;
            }
            self.extend(at);
        }
    }

    fn is_dead_write(&self, index: u32, low: u32) -> bool {
        matches!(self.completed[index as usize].action, Action::Write(value) if !self.needs.alive(value, low))
    }

    /// Takes everything that can be taken without a choice; true when everything is linearised then.
    fn settle(&mut self, at: &mut Configuration) -> bool {
        loop {
            let earliest = self.extend(at);
            let low = at.low();
            if at.state != DEAD && !self.needs.alive(at.state, low) {
                at.state = DEAD;
            }
            let before = at.open.len();
            let state = at.state;
            at.open.retain(|&index| match self.completed[index as usize].action {
                Action::Read(value) => value != state,
                Action::Write(_) => state != DEAD || !self.is_dead_write(index, low),
                Action::Swap { .. } => true,
            });
            if at.open.len() == before {
                self.blocked = self.blocked.max(earliest);
                self.furthest = self.furthest.max(at.high as usize - at.open.len());
                return at.open.is_empty();
            }
        }
    }

    /// Makes `open` hold all minimal operations; tells the earliest completion among them.
    fn extend(&self, at: &mut Configuration) -> Position {
        let mut earliest =
            at.open.iter().map(|&index| self.completed[index as usize].ret).min().unwrap_or(Position::MAX);
        while let Some(step) = self.completed.get(at.high as usize).filter(|step| step.call < earliest) {
            earliest = earliest.min(step.ret);
            at.open.push(at.high);
            at.high += 1;
        }
        if at.open.is_empty() { 0 } else { earliest }
    }

    /// The words by which configurations are told apart: of the unknown operations taken only those count that leave a
    /// value which is alive, since others will not be taken again anyway.
    fn memo_key(&self, at: &Configuration, key: &mut Vec<u32>) {
        let low = at.low();
        key.clear();
        key.extend([at.high, at.state, at.open.len() as u32]);
        key.extend_from_slice(&at.open);
        let alive = |index: &&u32| {
            let value = self.unknown[**index as usize].action.leaves();
            value.is_some_and(|value| self.needs.alive(value, low))
        };
        let start = key.len();
        key.extend(self.trail.iter().filter(alive));
        key[start..].sort_unstable();
    }

    /// The ways on, the most promising first: what the operation with the earliest completion waits for.
    fn choices(&self, at: &Configuration) -> Vec<Choice> {
        let Some(&urgent) = at.open.iter().min_by_key(|&&index| self.completed[index as usize].ret) else {
            return Vec::new();
        };
        let urgent_action = self.completed[urgent as usize].action;
        let wanted = urgent_action.needs().or(urgent_action.leaves());
        let low = at.low();
        let mut found: Vec<((bool, Position), Choice)> = Vec::new();
        let mut twins: Vec<(Action, usize)> = Vec::new();
        let mut dead = None;
        for &index in &at.open {
            let step = self.completed[index as usize];
            match step.action {
                Action::Write(_) if self.is_dead_write(index, low) => {
                    dead = Some(dead.unwrap_or(step.ret).min(step.ret));
                    continue;
                }
                Action::Write(_) => {}
                Action::Swap { expected, .. } if expected == at.state => {}
                _ => continue,
            }
            let rank = (step.action.leaves() != wanted && index != urgent, step.ret);
            if let Some((_, twin)) = twins.iter().find(|(action, _)| *action == step.action) {
                if rank.1 < found[*twin].0.1 {
                    found[*twin] = (rank, Choice::Completed(index));
                }
            } else {
                twins.push((step.action, found.len()));
                found.push((rank, Choice::Completed(index)));
            }
        }
        if let Some(ret) = dead {
            found.push(((ret != self.completed[urgent as usize].ret, ret), Choice::Dead));
        }
        self.unknown_choices(at, wanted, &mut found);
        found.sort_by_key(|(rank, _)| *rank);
        found.into_iter().map(|(_, choice)| choice).collect()
    }

    /// Unknown operations that leave a value which a minimal operation needs, directly or through unknown swaps.
    fn unknown_choices(
        &self,
        at: &Configuration,
        wanted: Option<Value>,
        found: &mut Vec<((bool, Position), Choice)>,
    ) {
        let mut targets: Vec<Value> = Vec::new();
        let aim = |value: Value, targets: &mut Vec<Value>| {
            if value != at.state && !targets.contains(&value) {
                targets.push(value);
            }
        };
        for &index in &at.open {
            if let Some(value) = self.completed[index as usize].action.needs() {
                aim(value, &mut targets);
            }
        }
        let earliest =
            at.open.iter().map(|&index| self.completed[index as usize].ret).min().unwrap_or(Position::MAX);
        let mut next = 0;
        while let Some(&target) = targets.get(next) {
            next += 1;
            let mut seen: Vec<Action> = Vec::new();
            for &index in self.sources.get(&target).map_or(&[][..], Vec::as_slice) {
                let step = self.unknown[index as usize];
                if step.call > earliest {
                    break;
                }
                if self.taken[index as usize] || seen.contains(&step.action) {
                    continue;
                }
                seen.push(step.action);
                match step.action {
                    Action::Swap { expected, .. } if expected != at.state => aim(expected, &mut targets),
                    _ => found.push(((Some(target) != wanted, Position::MAX), Choice::Unknown(index))),
                }
            }
        }
    }
}

impl Frame {
    /// Bytes that it points to.
    fn bytes(&self) -> usize {
        let open = size_of::<u32>() * self.configuration.open.capacity();
        LISTS + open + size_of::<Choice>() * self.choices.capacity()
    }
}

impl Configuration {
    /// All operations below it are linearised.
    fn low(&self) -> u32 {
        self.open.first().copied().unwrap_or(self.high)
    }
}
