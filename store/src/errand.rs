//! What a client does with an operation until it is told what came of it, or its time is up.
//!
//! Pure, so that real and simulated clients do the same. Without sessions an operation is asked for again only where it certainly
//! did not happen, so it happens at most once. With sessions a client asks for a write under one tag, however often: the partition
//! carries it out once, and answers what came of it the first time. So an attempt whose outcome is unknown is followed by
//! another, and the write happens exactly once if any is answered. A session is opened in each partition when its first write needs
//! it, and again when it has expired.
//!
//! What may have happened is never called a failure: after an attempt whose outcome is unknown only a verdict says what happened,
//! and without one the outcome is unknown.

use std::{collections::BTreeMap, time::Duration};

use crate::{
    api::{Answer, Operation, PartitionId, SessionTag, StoreError},
    routes::{Detour, Journey, Obstacle, Routes},
};

/// The sessions of one client, which asks one thing at a time: one in each partition that it has written to, if it has any.
#[derive(Clone, Debug, Default)]
pub struct Sessions(Option<BTreeMap<PartitionId, SessionTag>>);

/// One operation.
#[derive(Clone, Debug)]
pub struct Errand {
    partition: PartitionId,
    operation: Operation,
    /// What may have happened is asked for again.
    persists: bool,
    needs: Needs,
    /// Why it cannot be said that no attempt has happened.
    doubt: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Needs {
    /// A client without sessions; or a read, which may be asked for as often as one likes.
    Nothing,
    /// The session is not open.
    Session,
    /// The place that it has in its session.
    Tag(SessionTag),
}

/// What a client does after an attempt that failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Next {
    /// Nothing more will come of it: the error stands, definite or not.
    End,
    /// Nothing more will come of it, and nobody can tell whether it has happened, for this reason.
    Unknown(String),
    /// It certainly did not happen this time: another node is asked.
    GoOn(Obstacle),
    /// It certainly has not happened, and its session is gone: the same node is asked for another one.
    Reopen,
    /// It may have happened: it is asked for again.
    AskAgain,
}

impl Sessions {
    /// For a client that asks for what may have happened again.
    pub fn exactly_once() -> Self {
        Self(Some(BTreeMap::new()))
    }

    /// The next place in the session of a partition, if that is open. One that was given up is not given again.
    fn place(&mut self, partition: PartitionId) -> Needs {
        let Some(open) = &mut self.0 else { return Needs::Nothing };
        open.get_mut(&partition).map_or(Needs::Session, |tag| {
            tag.sequence += 1;
            Needs::Tag(*tag)
        })
    }

    fn opened(&mut self, partition: PartitionId, session: u64) {
        if let Some(open) = &mut self.0 {
            open.insert(partition, SessionTag { session, sequence: 0 });
        }
    }

    fn expired(&mut self, partition: PartitionId) {
        if let Some(open) = &mut self.0 {
            open.remove(&partition);
        }
    }
}

impl Errand {
    /// An operation on a key of this partition.
    pub fn new(partition: PartitionId, operation: Operation, sessions: &mut Sessions) -> Self {
        let persists = sessions.0.is_some();
        let needs = if operation.is_read() { Needs::Nothing } else { sessions.place(partition) };
        Self { partition, operation, persists, needs, doubt: None }
    }

    /// What a node is asked now.
    pub fn request(&self) -> (Operation, Option<SessionTag>) {
        match self.needs {
            Needs::Nothing => (self.operation.clone(), None),
            Needs::Session => (Operation::OpenSession { key: self.operation.key().clone() }, None),
            Needs::Tag(tag) => (self.operation.clone(), Some(tag)),
        }
    }

    /// How long one node may take, of all the time that the operation has: enough is left to ask others, if that may be.
    pub fn patience(&self, limit: Duration) -> Duration {
        if self.persists { limit / 4 } else { limit }
    }

    /// A node has answered. None: the session is open now, and the same node is asked for the operation itself.
    pub fn answered(&mut self, answer: Answer, sessions: &mut Sessions) -> Option<Answer> {
        if self.needs != Needs::Session {
            return Some(answer);
        }
        sessions.opened(self.partition, answer.index);
        self.needs = sessions.place(self.partition);
        None
    }

    /// A node has refused.
    pub fn refused(&mut self, error: &StoreError, sessions: &mut Sessions) -> Next {
        if let Some(obstacle) = Obstacle::of(error) {
            return Next::GoOn(obstacle);
        }
        match error {
            StoreError::Indefinite { reason } => self.unanswered(reason),
            StoreError::SessionExpired { .. } => {
                sessions.expired(self.partition);
                if self.doubt.is_some() {
                    return self.ends(error);
                }
                self.needs = sessions.place(self.partition);
                Next::Reopen
            }
            _ => self.ends(error),
        }
    }

    /// A node was asked, and it is not known what came of it.
    pub fn unanswered(&mut self, reason: &str) -> Next {
        if !self.persists {
            return Next::End;
        }
        // a session that nobody uses expires, and a read changes nothing
        if let Needs::Tag(_) = self.needs {
            self.doubt.get_or_insert_with(|| reason.to_owned());
        }
        Next::AskAgain
    }

    /// Where the client goes next, if it goes anywhere.
    pub fn detour(&self, next: &Next, journey: &mut Journey, routes: &mut Routes) -> Option<Detour> {
        match next {
            Next::GoOn(obstacle) if self.persists => Some(journey.go_on_regardless(*obstacle, routes)),
            Next::GoOn(obstacle) => journey.go_on(*obstacle, routes),
            Next::AskAgain => Some(journey.ask_again(routes)),
            Next::End | Next::Unknown(_) | Next::Reopen => None,
        }
    }

    /// Why it cannot be said that nothing has happened, if it cannot.
    pub fn doubt(&self) -> Option<&str> {
        self.doubt.as_deref()
    }

    fn ends(&self, error: &StoreError) -> Next {
        self.doubt.as_ref().map_or(Next::End, |doubt| Next::Unknown(format!("{doubt}; then {error}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::{Ballot, Key, Outcome};

    const KEY: Key = Key::Integer(1);

    fn put() -> Operation {
        Operation::Put { key: KEY, value: "a".into() }
    }

    fn answer(index: u64) -> Answer {
        let (outcome, ballot) = (Outcome::Written, Ballot::BOTTOM);
        Answer { outcome, version: index, index, leader: 1, ballot, fast: false, local: false }
    }

    /// The write, with its place in a session.
    fn tagged(session: u64, sequence: u64) -> (Operation, Option<SessionTag>) {
        (put(), Some(SessionTag { session, sequence }))
    }

    fn opened() -> Sessions {
        let mut sessions = Sessions::exactly_once();
        let mut first = Errand::new(1, put(), &mut sessions);
        assert_eq!(first.request(), (Operation::OpenSession { key: KEY }, None));
        assert_eq!(first.answered(answer(7), &mut sessions), None, "there is more to ask");
        assert_eq!(first.request(), tagged(7, 1));
        assert_eq!(first.answered(answer(8), &mut sessions), Some(answer(8)));
        sessions
    }

    #[test]
    fn a_session_is_opened_once_for_each_partition_and_reads_need_none() {
        let mut sessions = opened();
        assert_eq!(Errand::new(1, put(), &mut sessions).request(), tagged(7, 2));
        assert_eq!(Errand::new(1, put(), &mut sessions).request(), tagged(7, 3));
        let elsewhere = Errand::new(2, put(), &mut sessions).request();
        assert_eq!(elsewhere, (Operation::OpenSession { key: KEY }, None));
        let get = Operation::Get { key: KEY };
        assert_eq!(Errand::new(1, get.clone(), &mut sessions).request(), (get, None));
    }

    #[test]
    fn an_unknown_outcome_is_followed_by_the_same_question() {
        let mut sessions = opened();
        let mut errand = Errand::new(1, put(), &mut sessions);
        assert_eq!(errand.unanswered("no answer in time"), Next::AskAgain);
        let error = StoreError::NotLeader { partition: 1, leader: None };
        assert_eq!(errand.refused(&error, &mut sessions), Next::GoOn(Obstacle::NotLeader(None)));
        assert_eq!(errand.request(), tagged(7, 2));
        assert_eq!(errand.doubt(), Some("no answer in time"));
    }

    #[test]
    fn an_expired_session_is_opened_again_unless_the_write_may_have_happened() {
        let mut sessions = opened();
        let expired = StoreError::SessionExpired { session: 7 };
        let mut certain = Errand::new(1, put(), &mut sessions);
        assert_eq!(certain.refused(&expired, &mut sessions), Next::Reopen);
        assert_eq!(certain.request().0, Operation::OpenSession { key: KEY });

        let mut sessions = opened();
        let mut doubtful = Errand::new(1, put(), &mut sessions);
        doubtful.unanswered("lost");
        let Next::Unknown(why) = doubtful.refused(&expired, &mut sessions) else { panic!("{doubtful:?}") };
        assert!(why.starts_with("lost; then session 7 has expired"), "{why}");
        let next = Errand::new(1, put(), &mut sessions).request();
        assert_eq!(next.0, Operation::OpenSession { key: KEY }, "the next write gets a session that is open");
    }

    #[test]
    fn what_may_have_happened_is_never_a_failure() {
        let refusals = [
            StoreError::OutOfSequence { session: 7, sequence: 2, last: 3 },
            StoreError::TooManySessions { at_most: 1 },
            StoreError::OutOfRange { key: KEY },
        ];
        for error in refusals {
            let mut sessions = opened();
            let mut errand = Errand::new(1, put(), &mut sessions);
            assert_eq!(errand.refused(&error, &mut sessions), Next::End, "{error}");
            let mut errand = Errand::new(1, put(), &mut sessions);
            errand.unanswered("lost");
            let next = errand.refused(&error, &mut sessions);
            assert!(matches!(next, Next::Unknown(_)), "{error}: {next:?}");
        }
    }

    #[test]
    fn a_session_of_which_nobody_knows_whether_it_was_opened_leaves_no_doubt_of_the_write() {
        let mut sessions = Sessions::exactly_once();
        let mut errand = Errand::new(1, put(), &mut sessions);
        assert_eq!(errand.unanswered("lost"), Next::AskAgain);
        assert_eq!(errand.doubt(), None);
        assert_eq!(errand.request().0, Operation::OpenSession { key: KEY });
    }

    #[test]
    fn without_sessions_what_may_have_happened_is_not_asked_for_again() {
        let mut none = Sessions::default();
        let mut errand = Errand::new(1, put(), &mut none);
        assert_eq!(errand.request(), (put(), None));
        assert_eq!(errand.unanswered("lost"), Next::End);
        let unknown = StoreError::Indefinite { reason: "so".to_owned() };
        assert_eq!(errand.refused(&unknown, &mut none), Next::End);
        let elsewhere = StoreError::NotLeader { partition: 1, leader: None };
        assert_eq!(errand.refused(&elsewhere, &mut none), Next::GoOn(Obstacle::NotLeader(None)));
    }
}
