//! A replica as its node keeps it: a node with many of them is kept busy only by those to which something happens, or whose time
//! has come. To the others a turn changes nothing: all that [`Replica`] does at the end of a turn follows from what happened to
//! it, from its deadline, or from a persist that it waits for.

use crate::core::{LocalTime, Moment, Turn, replica::Replica};

/// A replica, and whether it has anything to do.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Hosted {
    replica: Replica,
    /// Something has happened to it in this turn, or it has more to do in the next one.
    touched: bool,
    /// [`Replica::next_deadline`] at the end of the last turn in which something happened to it.
    deadline: Option<LocalTime>,
}

impl Hosted {
    /// A replica that has just started.
    pub fn new(replica: Replica) -> Self {
        Self { replica, touched: true, deadline: None }
    }

    /// The replica, to look at.
    pub fn replica(&self) -> &Replica {
        &self.replica
    }

    /// The replica, to which something happens.
    pub fn touch(&mut self) -> &mut Replica {
        self.touched = true;
        &mut self.replica
    }

    /// The replica, if something has happened to it in this turn, or time alone may change it.
    pub fn if_due(&mut self, now: LocalTime) -> Option<&mut Replica> {
        let due =
            self.touched || self.deadline.is_some_and(|deadline| deadline <= now) || self.replica.hands_out();
        due.then(|| self.touch())
    }

    /// A persist of the node is durable.
    pub fn on_persisted(&mut self, number: u64, turn: &mut Turn<'_>) {
        if self.replica.waits_for(number) {
            self.touched = true;
        }
        if let Some(replica) = self.if_due(turn.now) {
            replica.on_persisted(number, turn);
        }
    }

    /// Ends a turn.
    pub fn finish_turn(&mut self, turn: &mut Turn<'_>) {
        if std::mem::take(&mut self.touched) {
            self.replica.finish_turn(turn);
            self.touched = self.replica.has_more_to_do();
            self.deadline = self.replica.next_deadline(turn.moment());
        }
    }

    /// When time alone changes the replica, at the earliest.
    pub fn next_deadline(&self, moment: Moment<'_>) -> Option<LocalTime> {
        if self.touched { self.replica.next_deadline(moment) } else { self.deadline }
    }
}
