//! The log of one replica. Indices are absolute and count from 1; a beginning of the log may be gone, since a snapshot covers
//! it. `length` means entries from the first that ever was, whether they are still here or not.

use crate::core::message::Entry;

/// Entries `start + 1` to `length`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Log {
    start: u64,
    entries: Vec<Entry>,
    bytes: u64,
}

impl Log {
    /// A log without its first `start` entries.
    pub fn new(start: u64, entries: Vec<Entry>) -> Self {
        let bytes = weight(&entries);
        Self { start, entries, bytes }
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
        self.entries.last()
    }

    /// All entries after number `index`: never fewer because some are gone.
    pub fn after(&self, index: u64) -> &[Entry] {
        assert!(index >= self.start, "entries after {index} are gone: the log begins after {}", self.start);
        &self.entries[(index - self.start) as usize..]
    }

    /// Entries after number `from` up to number `to`.
    pub fn between(&self, from: u64, to: u64) -> &[Entry] {
        &self.after(from)[..(to - from) as usize]
    }

    /// Appends an entry.
    pub fn push(&mut self, entry: Entry) {
        self.bytes += entry.weight() as u64;
        self.entries.push(entry);
    }

    /// Appends entries.
    pub fn extend(&mut self, entries: Vec<Entry>) {
        self.bytes += weight(&entries);
        self.entries.extend(entries);
    }

    /// Cuts off everything after number `length`.
    pub fn truncate(&mut self, length: u64) {
        assert!(length >= self.start, "a log is not cut off below {}, where it begins", self.start);
        let keep = ((length - self.start) as usize).min(self.entries.len());
        self.bytes -= weight(&self.entries[keep..]);
        self.entries.truncate(keep);
    }
}

fn weight(entries: &[Entry]) -> u64 {
    entries.iter().map(|entry| entry.weight() as u64).sum()
}
