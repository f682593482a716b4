//! The state machine of a partition: keys with a value and a version, and the clients' sessions.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::{
    api::{Key, Operation, Outcome, SessionTag, StoreError, Value},
    core::{
        message::{Command, Entry},
        sessions::{self, Session, Sessions, Verdict},
    },
};

/// The keys of a partition, and the sessions. Deleted keys stay, with their version and no value, so that an answer about an
/// absent key carries the version of the write that removed it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct KeyValues {
    keys: BTreeMap<Key, Versioned>,
    sessions: Sessions,
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

/// What a partition's state has that an earlier one had not: snapshots are made of these.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Change {
    /// A key holds this.
    Key(Key, Versioned),
    /// A session is open, and this is remembered of it.
    Session(u64, Session),
    /// A session is open, and what is remembered of it has not changed. Whoever is sent a snapshot closes those that it has and
    /// that are not named: so nobody need remember what has expired.
    SessionStays(u64),
    /// A session is closed.
    SessionClosed(u64),
}

impl Change {
    /// About how many bytes it takes.
    pub fn weight(&self) -> usize {
        match self {
            Self::Key(key, held) => 32 + key.weight() + held.value.as_ref().map_or(0, |value| value.len()),
            Self::Session(_, held) => 32 + held.weight(),
            Self::SessionStays(_) | Self::SessionClosed(_) => 16,
        }
    }
}

impl KeyValues {
    /// A partition with these keys, all at version 0.
    pub fn new(preset: impl IntoIterator<Item = (Key, Value)>) -> Self {
        let keys = preset.into_iter().map(|(key, value)| (key, Versioned { value: Some(value), version: 0 }));
        Self { keys: keys.collect(), ..Self::default() }
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

    /// The clients' sessions.
    pub fn sessions(&self) -> &Sessions {
        &self.sessions
    }

    /// Moves on to number `index` by all that entries up to there have changed, whatever came between.
    pub fn move_to(&mut self, index: u64, changed: impl IntoIterator<Item = Change>) {
        assert!(
            index >= self.applied,
            "a snapshot of {index} does not undo what was applied up to {}",
            self.applied
        );
        self.applied = index;
        for change in changed {
            match change {
                Change::Key(key, held) => drop(self.keys.insert(key, held)),
                Change::Session(session, held) => self.sessions.set(session, Some(held)),
                Change::SessionStays(_) => {}
                Change::SessionClosed(session) => self.sessions.set(session, None),
            }
        }
    }

    /// All that an entry after number `index` has changed: keys in their order, then every open session.
    pub fn changed_since(&self, index: u64) -> Vec<Change> {
        let changed = self.keys.iter().filter(|(_, held)| held.version > index);
        let keys = changed.map(|(key, held)| Change::Key(key.clone(), held.clone()));
        let sessions = self.sessions.iter().map(|(session, held)| {
            let changed = held.index > index;
            if changed { Change::Session(session, held.clone()) } else { Change::SessionStays(session) }
        });
        keys.chain(sessions).collect()
    }

    /// What another has sent as [`KeyValues::changed_since`], and the sessions that are open here and not there.
    pub fn closing(&self, mut changed: Vec<Change>) -> Vec<Change> {
        let open: BTreeSet<u64> = changed
            .iter()
            .filter_map(|change| match change {
                Change::Session(session, _) | Change::SessionStays(session) => Some(*session),
                Change::Key(..) | Change::SessionClosed(_) => None,
            })
            .collect();
        let closed =
            self.sessions.iter().map(|(session, _)| session).filter(|session| !open.contains(session));
        changed.extend(closed.map(Change::SessionClosed));
        changed
    }

    /// What these entries, which follow number `index` and are the last applied, have changed, as it is now: keys in their
    /// order, then sessions. Of the entries that changed one of them only the last counts: what is held names its index.
    pub fn changed_by<'a>(
        &self,
        index: u64,
        entries: impl ExactSizeIterator<Item = &'a Entry> + Clone,
    ) -> Vec<Change> {
        // whichever are fewer
        let keys: Vec<(&Key, &Versioned)> = if self.keys.len() <= entries.len() {
            self.keys.iter().filter(|(_, held)| held.version > index).collect()
        } else {
            self.written_by(index, entries.clone())
        };
        let mut sessions = Vec::new();
        for (entry, index) in entries.zip(index + 1..) {
            let named = sessions::named_by(entry, index);
            let named = named.into_iter().map(|session| (session, self.sessions.get(session)));
            sessions.extend(named.filter(|(_, held)| held.is_none_or(|held| held.index == index)));
        }
        sessions.sort_unstable_by_key(|(session, _)| *session);
        sessions.dedup_by_key(|(session, _)| *session);
        let keys = keys.into_iter().map(|(key, held)| Change::Key(key.clone(), held.clone()));
        let sessions = sessions.into_iter().map(|(session, held)| match held {
            Some(held) => Change::Session(session, held.clone()),
            None => Change::SessionClosed(session),
        });
        keys.chain(sessions).collect()
    }

    /// The keys that were written last by one of these entries, in their order.
    fn written_by<'a>(
        &self,
        index: u64,
        entries: impl Iterator<Item = &'a Entry>,
    ) -> Vec<(&Key, &Versioned)> {
        let written = |(entry, index): (&Entry, u64)| {
            let Entry::Command(Command { operation, .. }) = entry else { return None };
            self.keys.get_key_value(operation.key()).filter(|(_, held)| held.version == index)
        };
        let mut keys: Vec<_> = entries.zip(index + 1..).filter_map(written).collect();
        keys.sort_unstable_by_key(|(key, _)| *key);
        keys
    }

    /// All that there is.
    pub fn contents(&self) -> impl Iterator<Item = Change> {
        let keys = self.keys.iter().map(|(key, held)| Change::Key(key.clone(), held.clone()));
        keys.chain(self.sessions.iter().map(|(session, held)| Change::Session(session, held.clone())))
    }

    /// Every key that was ever there.
    pub fn iter(&self) -> impl Iterator<Item = (&Key, &Versioned)> {
        self.keys.iter()
    }

    /// Applies the next log entry; gives what comes of it for the client that waits for it. After an error this entry has changed
    /// nothing, and never will.
    pub fn apply(&mut self, entry: &Entry) -> Option<Result<Verdict, StoreError>> {
        self.applied += 1;
        match entry {
            Entry::Command(Command { operation, session, .. }) => {
                Some(match session.filter(|_| !operation.is_read() && !operation.opens_session()) {
                    Some(tag) => self.execute_once(operation, tag),
                    None => self.execute(operation),
                })
            }
            Entry::StopSign(_) => None,
            Entry::Expiry(expiry) => {
                self.sessions.expire(expiry);
                None
            }
        }
    }

    fn execute_once(&mut self, operation: &Operation, tag: SessionTag) -> Result<Verdict, StoreError> {
        if let Some(known) = self.sessions.known(tag) {
            return known;
        }
        let verdict = self.execute(operation)?;
        self.sessions.carried_out(tag, verdict.clone());
        Ok(verdict)
    }

    fn execute(&mut self, operation: &Operation) -> Result<Verdict, StoreError> {
        let index = self.applied;
        let (outcome, version) = match operation {
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
            Operation::OpenSession { key } => return self.sessions.open(index, self.read(key).1),
        };
        Ok(Verdict { outcome, version, index })
    }

    fn write(&mut self, key: &Key, value: Option<Value>) -> u64 {
        let version = self.applied;
        let written = Versioned { value, version };
        match self.keys.get_mut(key) {
            Some(held) => *held = written,
            None => drop(self.keys.insert(key.clone(), written)),
        }
        version
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::{
        message::ProposalId,
        sessions::{Expiry, MOST_REMEMBERED, MOST_SESSIONS},
    };

    fn entry(kv: &KeyValues, operation: Operation, session: Option<SessionTag>) -> Entry {
        let id = ProposalId { node: 1, boot: 1, number: kv.applied };
        Entry::Command(Command { id, operation, session })
    }

    fn apply_in(
        kv: &mut KeyValues,
        operation: Operation,
        session: impl Into<Option<SessionTag>>,
    ) -> Result<(Outcome, u64), StoreError> {
        let entry = entry(kv, operation, session.into());
        let verdict = kv.apply(&entry).expect("a command has an outcome")?;
        Ok((verdict.outcome, verdict.version))
    }

    fn apply(kv: &mut KeyValues, operation: Operation) -> (Outcome, u64) {
        apply_in(kv, operation, None).expect("it is carried out")
    }

    fn key() -> Key {
        Key::Integer(1)
    }

    fn cas(expected: Option<&str>, new: &str) -> Operation {
        Operation::Cas { key: key(), expected: expected.map(Into::into), new: new.into() }
    }

    fn open(kv: &mut KeyValues) -> u64 {
        let version = kv.read(&key()).1;
        assert_eq!(apply(kv, Operation::OpenSession { key: key() }), (Outcome::Opened, version));
        kv.applied
    }

    fn tag(session: u64, sequence: u64) -> SessionTag {
        SessionTag { session, sequence }
    }

    #[test]
    fn a_cas_on_an_absent_key_swaps_when_absence_is_expected() {
        let mut kv = KeyValues::default();
        assert_eq!(apply(&mut kv, cas(None, "a")), (Outcome::Swapped, 1));
        assert_eq!(apply(&mut kv, cas(None, "a")), (Outcome::NotSwapped { seen: Some("a".into()) }, 1));
    }

    #[test]
    fn a_deleted_key_keeps_the_version_of_its_deletion() {
        let key = key();
        let mut kv = KeyValues::new([(key.clone(), "preset".into())]);
        assert_eq!(kv.read(&key), (Some("preset".into()), 0));
        assert_eq!(apply(&mut kv, Operation::Delete { key: key.clone() }), (Outcome::Deleted, 1));
        assert_eq!(apply(&mut kv, Operation::Get { key: key.clone() }), (Outcome::Value(None), 1));
        let put = Operation::Put { key: key.clone(), value: "b".into() };
        assert_eq!(apply(&mut kv, put), (Outcome::Written, 3));
        assert_eq!(kv.read(&key), (Some("b".into()), 3));
    }

    #[test]
    fn a_write_that_is_asked_for_again_gets_its_first_verdict_and_changes_nothing() {
        let mut kv = KeyValues::default();
        let session = open(&mut kv);
        let first = entry(&kv, cas(None, "a"), Some(tag(session, 1)));
        let verdict = kv.apply(&first).expect("a verdict").expect("it is carried out");
        assert_eq!((&verdict.outcome, verdict.version, verdict.index), (&Outcome::Swapped, 2, 2));
        apply(&mut kv, Operation::Delete { key: key() });
        assert_eq!(kv.apply(&first), Some(Ok(verdict)), "although it would swap again");
        assert_eq!(kv.read(&key()), (None, 3));
        let failed = cas(Some("b"), "c");
        let seen = Outcome::NotSwapped { seen: None };
        assert_eq!(apply_in(&mut kv, failed.clone(), tag(session, 2)), Ok((seen.clone(), 3)));
        apply(&mut kv, Operation::Put { key: key(), value: "b".into() });
        assert_eq!(apply_in(&mut kv, failed, tag(session, 2)), Ok((seen, 3)), "although it would swap now");
        assert_eq!(kv.read(&key()), (Some("b".into()), 6));
    }

    #[test]
    fn an_earlier_write_and_one_of_another_session_are_refused_and_change_nothing() {
        let mut kv = KeyValues::default();
        let session = open(&mut kv);
        assert!(apply_in(&mut kv, cas(None, "a"), tag(session, 5)).is_ok(), "numbers may be left out");
        let refused = StoreError::OutOfSequence { session, sequence: 4, last: 5 };
        assert_eq!(apply_in(&mut kv, cas(Some("a"), "b"), tag(session, 4)), Err(refused));
        let refused = StoreError::SessionExpired { session: 9 };
        assert_eq!(apply_in(&mut kv, cas(Some("a"), "b"), tag(9, 1)), Err(refused));
        let unnumbered = apply_in(&mut kv, cas(Some("a"), "b"), tag(session, 0));
        assert!(matches!(unnumbered, Err(StoreError::OutOfSequence { .. })), "{unnumbered:?}");
        assert_eq!(kv.read(&key()), (Some("a".into()), 2));
    }

    #[test]
    fn a_session_expires_unless_it_was_used_since() {
        let mut kv = KeyValues::default();
        let (idle, used) = (open(&mut kv), open(&mut kv));
        assert!(apply_in(&mut kv, cas(None, "a"), tag(used, 1)).is_ok());
        kv.apply(&Entry::Expiry(Expiry { sessions: vec![(idle, 0), (used, 0), (77, 1)] }));
        assert_eq!(kv.sessions().iter().map(|(session, _)| session).collect::<Vec<_>>(), [used]);
        let late = apply_in(&mut kv, cas(Some("a"), "b"), tag(idle, 1));
        assert_eq!(late, Err(StoreError::SessionExpired { session: idle }));
    }

    #[test]
    fn there_is_an_end_to_the_sessions() {
        let mut kv = KeyValues::default();
        let first = open(&mut kv);
        for _ in 1..MOST_SESSIONS {
            open(&mut kv);
        }
        let refused = StoreError::TooManySessions { at_most: MOST_SESSIONS as u64 };
        assert_eq!(apply_in(&mut kv, Operation::OpenSession { key: key() }, None), Err(refused));
        kv.apply(&Entry::Expiry(Expiry { sessions: vec![(first, 0)] }));
        open(&mut kv);
        assert_eq!(kv.sessions().len(), MOST_SESSIONS);
    }

    /// Swaps of a few bytes that are refused with a long value: what the sessions remember of them has an end, and who asks again for
    /// what nobody remembers is told that it was carried out, never that it failed.
    #[test]
    fn there_is_an_end_to_what_sessions_remember() {
        let mut kv = KeyValues::default();
        let sessions: Vec<u64> = (0..20).map(|_| open(&mut kv)).collect();
        let long = "x".repeat(1 << 20);
        apply(&mut kv, Operation::Put { key: key(), value: long.as_str().into() });
        let mut first = Vec::new();
        for session in &sessions {
            first.push(apply_in(&mut kv, cas(None, ""), tag(*session, 1)).expect("it is carried out"));
        }
        let weight: u64 = kv.sessions().iter().map(|(_, held)| held.weight() as u64).sum();
        assert_eq!(weight, MOST_REMEMBERED);
        for (number, session) in sessions.iter().enumerate() {
            let again = apply_in(&mut kv, cas(None, ""), tag(*session, 1));
            if number < 16 {
                assert_eq!(again, Ok(first[number].clone()));
            } else {
                assert!(matches!(again, Err(StoreError::Forgotten)), "{again:?}");
            }
        }
        assert!(
            apply_in(&mut kv, cas(Some(&long), "short"), tag(sessions[19], 2)).is_ok(),
            "the next is as any"
        );
        let mut elsewhere = KeyValues::default();
        elsewhere.move_to(kv.applied(), kv.contents());
        assert_eq!(elsewhere, kv, "a snapshot has the same room");
        kv.apply(&Entry::Expiry(Expiry { sessions: vec![(sessions[0], 1)] }));
        apply(&mut kv, Operation::Put { key: key(), value: long.as_str().into() });
        let next = tag(sessions[17], 2);
        let verdict = apply_in(&mut kv, cas(None, ""), next);
        assert_eq!(apply_in(&mut kv, cas(None, ""), next), verdict, "who is gone leaves room");
    }

    /// With more keys than entries, the entries are gone through; the other way the keys.
    #[test]
    fn what_entries_have_changed_is_the_same_whichever_are_gone_through() {
        let preset = (0..4).map(|key| (Key::Integer(key), Value::from("preset")));
        let mut kv = KeyValues::new(preset);
        let key = |key| Key::Integer(key);
        let swap = |expected: &str| Operation::Cas {
            key: key(1),
            expected: Some(expected.into()),
            new: "swapped".into(),
        };
        let asked = [
            Operation::Put { key: key(9), value: "a".into() },
            swap("other"),
            Operation::Get { key: key(2) },
            Operation::Put { key: key(3), value: "b".into() },
            Operation::Put { key: key(9), value: "c".into() },
            Operation::Delete { key: key(2) },
            swap("preset"),
            Operation::Delete { key: key(7) },
        ];
        let mut entries = Vec::new();
        for operation in asked {
            let entry = entry(&kv, operation, None);
            kv.apply(&entry);
            entries.push(entry);
        }
        for from in 0..=entries.len() {
            let newer: Vec<_> = kv.iter().filter(|(_, held)| held.version > from as u64).collect();
            assert_eq!(kv.written_by(from as u64, entries[from..].iter()), newer, "from {from}");
            let changed = newer.into_iter().map(|(key, held)| Change::Key(key.clone(), held.clone()));
            assert_eq!(kv.changed_by(from as u64, entries[from..].iter()), changed.collect::<Vec<_>>());
        }
    }

    /// Whatever of these entries a state has applied, both ways bring it to where the others are.
    #[test]
    fn changes_bring_an_earlier_state_to_the_later_one() {
        let mut kv = KeyValues::default();
        let put = |value: &str| Operation::Put { key: key(), value: value.into() };
        let asked = [
            (Operation::OpenSession { key: key() }, None),
            (put("a"), Some(tag(1, 1))),
            (Operation::OpenSession { key: key() }, None),
            (Operation::OpenSession { key: key() }, None),
            (put("b"), Some(tag(3, 1))),
            (put("b"), Some(tag(3, 1))),
        ];
        let mut entries: Vec<Entry> =
            asked.into_iter().map(|(operation, session)| entry(&kv, operation, session)).collect();
        entries.push(Entry::Expiry(Expiry { sessions: vec![(1, 1), (4, 0), (3, 0)] }));
        entries.push(entry(&kv, put("c"), None));
        let states: Vec<KeyValues> = std::iter::once(kv.clone())
            .chain(entries.iter().map(|entry| {
                kv.apply(entry);
                kv.clone()
            }))
            .collect();
        assert_eq!(kv.sessions().iter().map(|(session, _)| session).collect::<Vec<_>>(), [3]);
        for (applied, earlier) in states.iter().enumerate() {
            for (length, later) in states.iter().enumerate().skip(applied) {
                let mut sent = earlier.clone();
                sent.move_to(length as u64, earlier.closing(later.changed_since(applied as u64)));
                assert_eq!(sent, *later, "from {applied} to {length}");
                let mut kept = earlier.clone();
                kept.move_to(
                    length as u64,
                    later.changed_by(applied as u64, entries[applied..length].iter()),
                );
                assert_eq!(kept, *later, "from {applied} to {length}");
            }
        }
        let mut whole = KeyValues::default();
        whole.move_to(kv.applied(), kv.contents());
        assert_eq!(whole, kv);
    }
}
