//! The state machine of a partition: keys with a value and a version.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::{
    api::{Key, Operation, Outcome, Value},
    core::message::Entry,
};

/// The keys of a partition. Deleted keys stay, with their version and no value, so that an answer about an absent key
/// carries the version of the write that removed it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct KeyValues {
    keys: BTreeMap<Key, Versioned>,
    applied: u64,
}

/// What a key holds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Versioned {
    /// Its value; none when it is absent.
    pub value: Option<Value>,
    /// Index of the entry that wrote it, or removed it.
    pub version: u64,
}

/// A key with what it holds: snapshots are made of these.
pub type Pair = (Key, Versioned);

impl KeyValues {
    /// A partition with these keys, all at version 0.
    pub fn new(preset: impl IntoIterator<Item = (Key, Value)>) -> Self {
        let keys = preset.into_iter().map(|(key, value)| (key, Versioned { value: Some(value), version: 0 }));
        Self { keys: keys.collect(), applied: 0 }
    }

    /// Number of log entries applied.
    pub fn applied(&self) -> u64 {
        self.applied
    }

    /// What a key holds, if it was ever there.
    pub fn get(&self, key: &Key) -> Option<&Versioned> {
        self.keys.get(key)
    }

    /// Value and version of a key; version 0 when it was never written.
    pub fn read(&self, key: &Key) -> (Option<Value>, u64) {
        self.keys.get(key).map_or((None, 0), |found| (found.value.clone(), found.version))
    }

    /// Moves on to number `index` by all that entries up to there have changed, whatever came between.
    pub fn move_to(&mut self, index: u64, changed: impl IntoIterator<Item = Pair>) {
        assert!(
            index >= self.applied,
            "a snapshot of {index} does not undo what was applied up to {}",
            self.applied
        );
        self.applied = index;
        self.keys.extend(changed);
    }

    /// All keys that an entry after number `index` has written or removed, in their order.
    pub fn changed_since(&self, index: u64) -> Vec<Pair> {
        let changed = self.keys.iter().filter(|(_, held)| held.version > index);
        changed.map(|(key, held)| (key.clone(), held.clone())).collect()
    }

    /// The keys that these entries name, except by reading, as they are now: at least all that the entries have changed.
    pub fn changed_by<'a>(&self, entries: impl IntoIterator<Item = &'a Entry>) -> Vec<Pair> {
        let named: BTreeSet<&Key> = entries
            .into_iter()
            .filter_map(|entry| match entry {
                Entry::Command(command) if !command.operation.is_read() => Some(command.operation.key()),
                Entry::Command(_) | Entry::StopSign(_) => None,
            })
            .collect();
        named.into_iter().filter_map(|key| Some((key.clone(), self.keys.get(key)?.clone()))).collect()
    }

    /// Every key that was ever there.
    pub fn iter(&self) -> impl Iterator<Item = (&Key, &Versioned)> {
        self.keys.iter()
    }

    /// Applies the next log entry; gives outcome and version for the client that waits for it.
    pub fn apply(&mut self, entry: &Entry) -> Option<(Outcome, u64)> {
        self.applied += 1;
        match entry {
            Entry::Command(command) => Some(self.execute(&command.operation)),
            Entry::StopSign(_) => None,
        }
    }

    fn execute(&mut self, operation: &Operation) -> (Outcome, u64) {
        match operation {
            Operation::Get { key } => {
                let (value, version) = self.read(key);
                (Outcome::Value(value), version)
            }
            Operation::Put { key, value } => (Outcome::Written, self.write(key, Some(value.clone()))),
            Operation::Delete { key } => (Outcome::Deleted, self.write(key, None)),
            Operation::Cas { key, expected, new } => {
                let (seen, version) = self.read(key);
                if seen == *expected {
                    (Outcome::Swapped, self.write(key, Some(new.clone())))
                } else {
                    (Outcome::NotSwapped { seen }, version)
                }
            }
        }
    }

    fn write(&mut self, key: &Key, value: Option<Value>) -> u64 {
        let version = self.applied;
        self.keys.insert(key.clone(), Versioned { value, version });
        version
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::message::{Command, ProposalId};

    fn apply(kv: &mut KeyValues, operation: Operation) -> (Outcome, u64) {
        let id = ProposalId { node: 1, boot: 1, number: kv.applied };
        kv.apply(&Entry::Command(Command { id, operation })).expect("a command has an outcome")
    }

    #[test]
    fn a_cas_on_an_absent_key_swaps_when_absence_is_expected() {
        let (mut kv, key) = (KeyValues::default(), Key::Integer(1));
        let cas = Operation::Cas { key: key.clone(), expected: None, new: "a".into() };
        assert_eq!(apply(&mut kv, cas.clone()), (Outcome::Swapped, 1));
        assert_eq!(apply(&mut kv, cas), (Outcome::NotSwapped { seen: Some("a".into()) }, 1));
    }

    #[test]
    fn a_deleted_key_keeps_the_version_of_its_deletion() {
        let key = Key::Integer(1);
        let mut kv = KeyValues::new([(key.clone(), "preset".into())]);
        assert_eq!(kv.read(&key), (Some("preset".into()), 0));
        assert_eq!(apply(&mut kv, Operation::Delete { key: key.clone() }), (Outcome::Deleted, 1));
        assert_eq!(apply(&mut kv, Operation::Get { key: key.clone() }), (Outcome::Value(None), 1));
        let put = Operation::Put { key: key.clone(), value: "b".into() };
        assert_eq!(apply(&mut kv, put), (Outcome::Written, 3));
        assert_eq!(kv.read(&key), (Some("b".into()), 3));
    }
}
