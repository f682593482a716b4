//! The clients' sessions of a partition, as the log has left them: a write that carries a session's tag is carried out at most
//! once, however often it is in the log.
//!
//! A session is named by the index of the entry that opened it. A delayed duplicate of that request opens another session, which
//! nobody uses and which expires. It has one write in flight at a time, numbered upwards, so the last number and its verdict are
//! all that there is to remember: a duplicate of the last write gets its verdict again, an earlier one is refused. What happens
//! is decided when an entry is applied, so all replicas decide the same, whoever leads and however often an entry was proposed.
//!
//! Why a write that was given up cannot happen behind its successor: the successor has a higher number, and once it is applied the
//! lower one is refused. Why an expired session does no harm: who is refused for it is told that this attempt did not happen,
//! and knows whether an earlier one may have.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{
    api::{Outcome, SessionTag, StoreError},
    core::message::Entry,
};

/// The most sessions that a partition has at a time: another one is refused until some have expired.
pub const MOST_SESSIONS: usize = 10_000;

/// Bytes of outcomes that the sessions of a partition remember together. A swap of a few bytes is refused with the value that it
/// found: so many of these would make a snapshot that nobody can write.
pub const MOST_REMEMBERED: u64 = 16 << 20;

/// The open sessions of a partition.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Sessions {
    open: BTreeMap<u64, Session>,
    /// About how many bytes their outcomes take.
    remembered: u64,
}

/// What is remembered of a session.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Session {
    /// The number of its last write; 0: none yet.
    pub last: u64,
    /// What came of that, or of the request that opened the session; none: the write was carried out, and [`MOST_REMEMBERED`]
    /// leaves no room for what came of it.
    pub outcome: Option<Outcome>,
    /// Version of the key that it reflects.
    pub version: u64,
    /// The entry's index.
    pub index: u64,
}

impl Session {
    /// About how many bytes its outcome takes.
    pub fn weight(&self) -> usize {
        self.outcome.as_ref().map_or(0, Outcome::weight)
    }
}

/// What came of an entry.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Verdict {
    /// The outcome.
    pub outcome: Outcome,
    /// Version of the key that it reflects.
    pub version: u64,
    /// The entry's index.
    pub index: u64,
}

/// An entry that names sessions that were idle: each is closed if it has written nothing since.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Expiry {
    /// The sessions, with the number of the last write that the leader knew of.
    pub sessions: Vec<(u64, u64)>,
}

impl Sessions {
    /// How many there are.
    pub fn len(&self) -> usize {
        self.open.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.open.is_empty()
    }

    /// What is remembered of a session, if it is open.
    pub fn get(&self, session: u64) -> Option<&Session> {
        self.open.get(&session)
    }

    /// The open sessions, in the order in which they were opened.
    pub fn iter(&self) -> impl Iterator<Item = (u64, &Session)> {
        self.open.iter().map(|(session, held)| (*session, held))
    }

    /// What a write with this tag gets without being carried out: its verdict, if it was, or why it is not. None: it is to be
    /// carried out.
    pub fn known(&self, tag: SessionTag) -> Option<Result<Verdict, StoreError>> {
        let SessionTag { session, sequence } = tag;
        let Some(held) = self.open.get(&session) else {
            return Some(Err(StoreError::SessionExpired { session }));
        };
        if sequence > held.last {
            return None;
        }
        if sequence == held.last && sequence > 0 {
            let Session { version, index, .. } = *held;
            let outcome = held.outcome.clone().ok_or(StoreError::Forgotten);
            return Some(outcome.map(|outcome| Verdict { outcome, version, index }));
        }
        Some(Err(StoreError::OutOfSequence { session, sequence, last: held.last }))
    }

    /// The entry with this index opens a session, unless there are too many. `version` is that of the key that it names.
    pub(super) fn open(&mut self, index: u64, version: u64) -> Result<Verdict, StoreError> {
        if self.open.len() >= MOST_SESSIONS {
            return Err(StoreError::TooManySessions { at_most: MOST_SESSIONS as u64 });
        }
        let outcome = Outcome::Opened;
        self.set(index, Some(Session { last: 0, outcome: Some(outcome.clone()), version, index }));
        Ok(Verdict { outcome, version, index })
    }

    /// A write with this tag, for which nothing was known, was carried out.
    pub(super) fn carried_out(&mut self, tag: SessionTag, verdict: Verdict) {
        let Verdict { outcome, version, index } = verdict;
        self.set(tag.session, None);
        let has_room = self.remembered + outcome.weight() as u64 <= MOST_REMEMBERED;
        let outcome = has_room.then_some(outcome);
        self.set(tag.session, Some(Session { last: tag.sequence, outcome, version, index }));
    }

    /// Closes those that have written nothing since the entry was proposed.
    pub(super) fn expire(&mut self, expiry: &Expiry) {
        for (session, last) in &expiry.sessions {
            if self.open.get(session).is_some_and(|held| held.last == *last) {
                self.set(*session, None);
            }
        }
    }

    /// A session is like this now; none: it is closed.
    pub(super) fn set(&mut self, session: u64, held: Option<Session>) {
        self.remembered += held.as_ref().map_or(0, Session::weight) as u64;
        let before = match held {
            Some(held) => self.open.insert(session, held),
            None => self.open.remove(&session),
        };
        self.remembered -= before.as_ref().map_or(0, Session::weight) as u64;
    }
}

/// The sessions that an entry may open, change or close, if it is the one with this index.
pub fn named_by(entry: &Entry, index: u64) -> Vec<u64> {
    match entry {
        Entry::Command(command) if command.operation.opens_session() => vec![index],
        Entry::Command(command) => command.session.iter().map(|tag| tag.session).collect(),
        Entry::Expiry(expiry) => expiry.sessions.iter().map(|(session, _)| *session).collect(),
        Entry::StopSign(_) => Vec::new(),
    }
}
