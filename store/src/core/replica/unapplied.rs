//! The writes in a leader's log that are not applied yet: a read of a key that one of them changes goes through the log (L5).
//!
//! Every write comes and goes here, and few reads meet one. So no order of keys is kept: a write is the number of its entry, in the
//! slot that its key falls into, and a read looks at the entries of one slot.

use std::collections::VecDeque;

use crate::{
    api::Key,
    config::hash,
    core::{log::Log, message::Entry},
};

/// A few hundred operations in flight come to a few in each.
const SLOTS: usize = 1 << BITS;
const BITS: u32 = 5;

/// Numbers of entries, in their order in each slot.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Unapplied([VecDeque<u64>; SLOTS]);

impl Unapplied {
    /// The last entry of the log, with this number, writes the key.
    pub(super) fn add(&mut self, key: &Key, index: u64) {
        self.0[slot(key)].push_back(index);
    }

    /// The entry with this number, which writes the key, is applied.
    pub(super) fn applied(&mut self, key: &Key, index: u64) {
        let first = self.0[slot(key)].pop_front();
        assert_eq!(first, Some(index), "L5: every write in the log was counted");
    }

    /// Whether one of them writes the key.
    pub(super) fn write(&self, key: &Key, log: &Log) -> bool {
        self.0[slot(key)].iter().any(|index| {
            let Entry::Command(command) = log.entry(*index) else { return false };
            command.operation.key() == key
        })
    }
}

/// By the high bits of a product (Knuth, volume 3, section 6.4: the golden ratio): each alone of the hash's own bits depends on few of
/// the key's, and the low ones may have chosen the partition.
fn slot(key: &Key) -> usize {
    (hash(key).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> (u64::BITS - BITS)) as usize
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        api::Operation,
        core::message::{Command, ProposalId},
    };

    fn log(keys: &[Key]) -> Log {
        let id = ProposalId { node: 1, boot: 1, number: 1 };
        let entry = |key: &Key| {
            let operation = Operation::Put { key: key.clone(), value: "v".into() };
            Entry::Command(Command { id, operation, session: None })
        };
        Log::new(0, keys.iter().map(entry).collect())
    }

    /// Two writes of each of many keys, of which many share a slot: each is there until the second is applied.
    #[test]
    fn a_key_is_written_until_its_last_write_is_applied() {
        const KEYS: usize = 10 * SLOTS;
        let texts = (0..KEYS / 2).map(|number| Key::String(number.to_string()));
        let keys: Vec<Key> = (0..KEYS as i64 / 2).map(Key::Integer).chain(texts).collect();
        let written: Vec<Key> = keys.iter().chain(&keys).cloned().collect();
        let log = log(&written);
        let mut unapplied = Unapplied::default();
        for (key, index) in written.iter().zip(1..) {
            assert_eq!(unapplied.write(key, &log), index > KEYS as u64, "before write {index}");
            unapplied.add(key, index);
        }
        for (key, index) in written.iter().zip(1..) {
            assert!(unapplied.write(key, &log), "before {index} is applied");
            unapplied.applied(key, index);
            assert_eq!(unapplied.write(key, &log), index <= KEYS as u64, "after {index} is applied");
        }
        assert_eq!(unapplied, Unapplied::default());
    }

    #[test]
    fn keys_are_spread_over_the_slots() {
        let fullest = |keys: &mut dyn Iterator<Item = Key>| {
            let mut counts = [0; SLOTS];
            keys.for_each(|key| counts[slot(&key)] += 1);
            counts.into_iter().max()
        };
        assert!(fullest(&mut (0..1000).map(Key::Integer)) < Some(2 * 1000 / SLOTS));
        let texts =
            |prefix: &'static str| (0..1000).map(move |number| Key::String(format!("{prefix}{number}")));
        assert!(fullest(&mut texts("")) < Some(3 * 1000 / SLOTS));
        assert!(fullest(&mut texts("bench-")) < Some(3 * 1000 / SLOTS));
        let of_a_partition = |key: &Key| hash(key).is_multiple_of(16);
        assert!(fullest(&mut (0..16_000).map(Key::Integer).filter(of_a_partition)) < Some(2 * 1000 / SLOTS));
    }

    #[test]
    #[should_panic(expected = "every write in the log was counted")]
    fn a_write_that_was_not_counted_is_found_out() {
        let mut unapplied = Unapplied::default();
        unapplied.add(&Key::Integer(1), 2);
        unapplied.applied(&Key::Integer(1), 1);
    }
}
