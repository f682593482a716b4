//! The log of one replica. Indices are absolute and count from 1; a beginning of the log may be gone, since a snapshot covers
//! it. `length` means entries from the first that ever was, whether they are still here or not.

use std::{
    borrow::Borrow,
    collections::{VecDeque, vec_deque},
};

use crate::core::message::{Entry, Suffix};

/// Entries `start + 1` to `length`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Log {
    start: u64,
    entries: VecDeque<Entry>,
    bytes: u64,
}

impl Log {
    /// A log without its first `start` entries.
    pub fn new(start: u64, entries: Vec<Entry>) -> Self {
        let bytes = weight(entries.iter());
        Self { start, entries: entries.into(), bytes }
    }

    /// How many entries at its beginning are gone.
    pub fn start(&self) -> u64 {
        self.start
    }

    /// Number of its last entry.
    pub fn length(&self) -> u64 {
        self.start + self.entries.len() as u64
    }

    /// About how many bytes the entries that are here take.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Entry number `index`, which must still be here.
    pub fn entry(&self, index: u64) -> &Entry {
        assert!(index > self.start, "entry {index} is gone: the log begins after {}", self.start);
        &self.entries[(index - self.start - 1) as usize]
    }

    /// The last entry, if any is here.
    pub fn last(&self) -> Option<&Entry> {
        self.entries.back()
    }

    /// All entries after number `index`: never fewer because some are gone.
    pub fn after(&self, index: u64) -> vec_deque::Iter<'_, Entry> {
        self.between(index, self.length())
    }

    /// Entries after number `from` up to number `to`.
    pub fn between(&self, from: u64, to: u64) -> vec_deque::Iter<'_, Entry> {
        assert!(from >= self.start, "entries after {from} are gone: the log begins after {}", self.start);
        self.entries.range((from - self.start) as usize..(to - self.start) as usize)
    }

    /// A copy of the same entries.
    pub fn suffix(&self, from: u64, to: u64) -> Suffix {
        Suffix { start: from, entries: Vec::into(self.between(from, to).cloned().collect()) }
    }

    /// Appends an entry.
    pub fn push(&mut self, entry: Entry) {
        self.bytes += entry.weight() as u64;
        self.entries.push_back(entry);
    }

    /// Appends entries.
    pub fn extend(&mut self, entries: impl IntoIterator<Item = Entry>) {
        entries.into_iter().for_each(|entry| self.push(entry));
    }

    /// A snapshot covers everything up to number `index`, which may lie beyond the end: all of that is gone.
    pub fn cover(&mut self, index: u64) {
        if index <= self.start {
            return;
        }
        let gone = ((index - self.start) as usize).min(self.entries.len());
        self.bytes -= weight(self.entries.drain(..gone));
        self.start = index;
    }

    /// The first number, from `lowest` on, after which no more than `budget` bytes of entries follow.
    pub fn within(&self, budget: u64, lowest: u64) -> u64 {
        let mut start = lowest.clamp(self.start, self.length());
        if self.bytes <= budget {
            return start;
        }
        let mut bytes = if start == self.start { self.bytes } else { weight(self.after(start)) };
        while bytes > budget {
            start += 1;
            bytes -= self.entry(start).weight() as u64;
        }
        start
    }

    /// Cuts off everything after number `length`.
    pub fn truncate(&mut self, length: u64) {
        assert!(length >= self.start, "a log is not cut off below {}, where it begins", self.start);
        let keep = ((length - self.start) as usize).min(self.entries.len());
        self.bytes -= weight(self.entries.range(keep..));
        self.entries.truncate(keep);
    }
}

fn weight(entries: impl Iterator<Item: Borrow<Entry>>) -> u64 {
    entries.map(|entry| entry.borrow().weight() as u64).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::message::StopSign;

    /// Each weighs 64 bytes.
    fn entry(config: u32) -> Entry {
        Entry::StopSign(StopSign { config, members: Vec::new() })
    }

    fn copy(entries: vec_deque::Iter<'_, Entry>) -> Vec<Entry> {
        entries.cloned().collect()
    }

    fn log() -> Log {
        let mut log = Log::default();
        log.extend((1..=5).map(entry));
        log
    }

    #[test]
    fn indices_stay_what_they_were_when_the_beginning_is_gone() {
        let mut log = log();
        log.cover(2);
        assert_eq!((log.start(), log.length(), log.bytes()), (2, 5, 3 * 64));
        assert_eq!(
            (log.entry(3), copy(log.after(4)), copy(log.between(2, 3))),
            (&entry(3), vec![entry(5)], vec![entry(3)])
        );
        log.cover(1);
        log.truncate(3);
        log.push(entry(6));
        assert_eq!((log.start(), log.length(), log.last(), log.bytes()), (2, 4, Some(&entry(6)), 2 * 64));
        log.cover(9);
        assert_eq!((log.start(), log.length(), log.last(), log.bytes()), (9, 9, None, 0));
        assert_eq!(copy(log.after(9)), []);
    }

    #[test]
    #[should_panic(expected = "entries after 1 are gone")]
    fn what_is_gone_is_never_nothing() {
        let mut log = log();
        log.cover(2);
        log.after(1);
    }

    #[test]
    fn what_is_kept_is_within_the_budget() {
        let mut log = log();
        assert_eq!(log.within(2 * 64, 0), 3);
        assert_eq!(log.within(2 * 64 + 63, 0), 3);
        assert_eq!(log.within(2 * 64, 4), 4, "no more than is asked for");
        assert_eq!((log.within(1000, 0), log.within(0, 0)), (0, 5));
        log.cover(2);
        assert_eq!(log.within(1000, 0), 2, "what is left");
    }
}
