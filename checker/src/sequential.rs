//! Whether each partition of a history is sequentially consistent (Lamport 1979), with its log as the witness.
//!
//! **What is promised.** The operations of a partition have one order, in which each read returns what the latest write of
//! its key before it has left, and in which the operations of each client stand as the client asked them. So a client reads
//! its own writes, and never an older state after a newer one. Writes, compare-and-swaps and deletions respect real time as
//! well: they are linearizable among themselves. Reads are not: another client may have been told of a newer value before.
//!
//! **How it is decided.** Each answer says which length of the log it reflects (`index`) and which entry wrote its key last
//! (`version`). So the order is given: by index, each entry before the reads that reflect it. It is replayed:
//!
//! 1. *Log*: no two writes have one index, and a write's version is its index.
//! 2. *Session*: the indices of a client's answers never decrease, and its writes lie above all that it was answered before.
//!    A client that goes on after an unknown outcome stays the same session; the unknown operation is nobody's to wait for.
//! 3. *Real time*: a write's index is above those of all writes that had returned when it was invoked. Nothing is read before
//!    it was invoked.
//! 4. *Value*: an answer of index i and version v about a key is true if v is the key's last version up to i of all that are
//!    known, and entry v wrote the value. A compare-and-swap is held against the version before its own.
//!
//! A version that no answered write has was written by one with an unknown outcome: one of the same key and value, used
//! once. Where several could have been and a contradiction follows from the choice of one, the key is undecided; so is a
//! history that does not record indices or partitions.
//!
//! It is sound: if all of this holds, the order by index is a legal one, so the partition is sequentially consistent; if
//! something does not, an answer is wrong about the log, or the store broke the promise. It takes O(n log n), but for the writes
//! of a key with an unknown outcome: each version that only reads know of looks through all that are left of them.

mod replay;

use std::collections::{BTreeMap, BTreeSet};

use rustc_hash::FxHashMap;
use serde::Serialize;

use crate::explain::in_words;
use crate::history::{Function, History, Operation};
use replay::replay;

/// What was found about a history.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Report {
    /// Operations that happened or may have happened.
    pub operations: usize,
    /// Of these, reads that replicas answered from what they had applied.
    pub local_reads: usize,
    /// Reads of a state that lacks a write of the partition which had returned when they were invoked: allowed here.
    pub stale_reads: usize,
    /// Clients that were answered.
    pub sessions: usize,
    /// What is wrong.
    pub violations: Vec<Violation>,
    /// What could not be decided.
    pub undecided: Vec<String>,
}

/// The verdict on a history.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// Every partition is sequentially consistent.
    Valid,
    /// Some is not.
    Violation,
    /// Not decided.
    Unknown,
}

/// A promise that was broken.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Violation {
    /// Which one.
    pub rule: Rule,
    /// The line on which it shows.
    pub line: usize,
    /// The same in words.
    pub text: String,
}

/// The parts of the promise.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Rule {
    /// The log holds each write once.
    Log,
    /// A session never goes back.
    Session,
    /// Writes respect real time.
    RealTime,
    /// What is read is what the log had.
    Value,
}

impl Report {
    /// A violation outweighs what is undecided.
    pub fn verdict(&self) -> Verdict {
        match (self.violations.is_empty(), self.undecided.is_empty()) {
            (false, _) => Verdict::Violation,
            (true, false) => Verdict::Unknown,
            (true, true) => Verdict::Valid,
        }
    }
}

/// Judges a history.
pub fn check(history: &History) -> Report {
    let mut findings = Findings::default();
    let mut partitions: BTreeMap<u32, Vec<Asked<'_>>> = BTreeMap::new();
    for operation in &history.operations {
        match history.header.partition_of(operation.function.key()) {
            Some(partition) => partitions.entry(partition).or_default().push(Asked::new(operation)),
            None => findings.undecided(format!(
                "the history does not say which partition holds key {}",
                operation.function.key()
            )),
        }
    }
    let mut stale_reads = 0;
    for asked in partitions.values_mut() {
        let missing = asked.iter().find(|asked| asked.operation.result.is_some() && asked.index().is_none());
        if let Some(missing) = missing {
            findings.undecided(format!("no index is recorded: {}", in_words(missing.operation)));
            continue;
        }
        stale_reads += in_real_time(asked, &mut findings);
        in_sessions(asked, &mut findings);
        let taken = once_in_the_log(asked, &mut findings);
        replay(asked, &history.header.initial, taken, &mut findings);
    }
    let answered = || history.operations.iter().filter_map(|asked| Some((asked, asked.result.as_ref()?)));
    let mut clients: Vec<u64> = answered().map(|(operation, _)| operation.client).collect();
    clients.sort_unstable();
    clients.dedup();
    findings.violations.sort_by_key(|violation| violation.line);
    Report {
        operations: history.operations.len(),
        local_reads: answered().filter(|(_, result)| result.local).count(),
        stale_reads,
        sessions: clients.len(),
        violations: findings.violations,
        undecided: findings.undecided,
    }
}

/// An operation and what real time says of its place in the log.
struct Asked<'a> {
    operation: &'a Operation,
    /// The highest index of a write that had returned when this was invoked: it comes later in the log.
    floor: u64,
}

impl<'a> Asked<'a> {
    fn new(operation: &'a Operation) -> Self {
        Self { operation, floor: 0 }
    }

    /// Its index, if it was answered and that is recorded.
    fn index(&self) -> Option<u64> {
        self.operation.result.as_ref()?.index
    }

    /// The version of its key that it was answered with.
    fn version(&self) -> u64 {
        self.operation.result.as_ref().map_or(0, |result| result.version)
    }

    fn is_get(&self) -> bool {
        matches!(self.operation.function, Function::Get { .. })
    }

    /// Whether it wrote, as far as is known.
    fn wrote(&self) -> bool {
        !self.is_get() && self.operation.result.as_ref().is_some_and(|result| result.swapped != Some(false))
    }

    /// The line on which it shows what it was answered.
    fn line(&self) -> usize {
        self.operation.returned.unwrap_or(self.operation.invoked).position
    }
}

/// What was found so far.
#[derive(Default)]
struct Findings {
    violations: Vec<Violation>,
    undecided: Vec<String>,
}

impl Findings {
    fn violation(&mut self, rule: Rule, asked: &Asked<'_>, what: &str) {
        let line = asked.line();
        let text = format!("{what}: {}", in_words(asked.operation));
        self.violations.push(Violation { rule, line, text });
    }

    fn undecided(&mut self, what: String) {
        if !self.undecided.contains(&what) {
            self.undecided.push(what);
        }
    }
}

/// Sets each operation's floor, and holds those that are no reads against it. Returns how many reads are below theirs.
fn in_real_time(asked: &mut [Asked<'_>], findings: &mut Findings) -> usize {
    let mut events: Vec<(usize, bool, usize)> = Vec::new();
    for (number, asked) in asked.iter().enumerate() {
        events.push((asked.operation.invoked.position, false, number));
        if let (Some(returned), false) = (asked.operation.returned, asked.is_get()) {
            events.push((returned.position, true, number));
        }
    }
    events.sort_unstable();
    let mut highest = 0;
    for (_, returns, number) in events {
        if returns {
            highest = highest.max(asked[number].index().unwrap_or_default());
        } else {
            asked[number].floor = highest;
        }
    }
    let mut stale = 0;
    for asked in asked.iter() {
        let Some(index) = asked.index() else { continue };
        if asked.is_get() {
            stale += usize::from(index < asked.floor);
        } else if index <= asked.floor {
            let what = format!("entry {index} was asked for after entry {} had returned", asked.floor);
            findings.violation(Rule::RealTime, asked, &what);
        }
    }
    stale
}

/// The indices of each client's answers never decrease, and an entry of its own lies above all before.
fn in_sessions(asked: &[Asked<'_>], findings: &mut Findings) {
    let mut sessions: FxHashMap<u64, &Asked<'_>> = FxHashMap::default();
    for now in asked.iter().filter(|asked| asked.index().is_some()) {
        let Some(before) = sessions.insert(now.operation.client, now) else { continue };
        let (earlier, later) = (before.index(), now.index());
        if later < earlier || later == earlier && !now.is_get() {
            let seen = if before.is_get() { "had read at" } else { "had written entry" };
            let (client, earlier) = (now.operation.client, earlier.unwrap_or_default());
            let later = later.unwrap_or_default();
            let what = format!("client {client} {seen} {earlier}, and was answered from {later} then");
            findings.violation(Rule::Session, now, &what);
            // what follows is held against the newest that it has seen
            sessions.insert(now.operation.client, before);
        }
    }
}

/// No two operations have one entry, and the version that a write leaves is its entry. Returns the entries.
fn once_in_the_log(asked: &[Asked<'_>], findings: &mut Findings) -> BTreeSet<u64> {
    let mut entries: FxHashMap<u64, &Asked<'_>> = FxHashMap::default();
    for now in asked {
        let Some(index) = now.index() else { continue };
        let version = now.version();
        if now.wrote() && version != index || version > index {
            let what = format!("version {version} belongs to no operation of index {index}");
            findings.violation(Rule::Log, now, &what);
        }
        if now.is_get() {
            continue;
        }
        if let Some(other) = entries.insert(index, now) {
            let what = format!("entry {index} is also that of {}", in_words(other.operation));
            findings.violation(Rule::Log, now, &what);
        }
    }
    asked.iter().filter(|asked| !asked.is_get()).filter_map(Asked::index).collect()
}
