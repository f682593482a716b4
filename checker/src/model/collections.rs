//! A counter, a set and a queue.

use std::collections::{BTreeSet, VecDeque};
use std::hash::Hash;

use stateright::semantics::SequentialSpec;

use crate::general::Model;

/// A number that is added to and read.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Counter(pub i64);

/// What a counter is asked.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum CounterOp {
    /// Add, maybe a negative number; it wraps round.
    Add(i64),
    /// Read.
    Read,
}

impl SequentialSpec for Counter {
    type Op = CounterOp;
    /// What was read; `None`: added.
    type Ret = Option<i64>;

    fn invoke(&mut self, op: &CounterOp) -> Option<i64> {
        match op {
            CounterOp::Add(number) => self.0 = self.0.wrapping_add(*number),
            CounterOp::Read => return Some(self.0),
        }
        None
    }
}

impl Model for Counter {
    fn is_read(op: &CounterOp, _: &Option<i64>) -> bool {
        matches!(op, CounterOp::Read | CounterOp::Add(0))
    }
}

/// A set that is added to and read.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Set<V: Ord>(pub BTreeSet<V>);

/// What a set is asked.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum SetOp<V> {
    /// Add an element.
    Add(V),
    /// Remove an element, if it is there.
    Remove(V),
    /// Read all of it.
    Read,
}

/// What a set answers.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum SetRet<V: Ord> {
    /// Added or removed, or it was so before.
    Done,
    /// Its elements.
    Elements(BTreeSet<V>),
}

impl<V: Clone + Ord> SequentialSpec for Set<V> {
    type Op = SetOp<V>;
    type Ret = SetRet<V>;

    fn invoke(&mut self, op: &SetOp<V>) -> SetRet<V> {
        match op {
            SetOp::Add(element) => self.0.insert(element.clone()),
            SetOp::Remove(element) => self.0.remove(element),
            SetOp::Read => return SetRet::Elements(self.0.clone()),
        };
        SetRet::Done
    }
}

impl<V: Clone + Ord + Hash> Model for Set<V> {
    fn is_read(op: &SetOp<V>, _: &SetRet<V>) -> bool {
        *op == SetOp::Read
    }

    fn weight(&self) -> usize {
        // a node of the tree is half full where elements come in order
        2 * size_of::<V>() * self.0.len()
    }
}

/// A queue, first in, first out.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Queue<V>(pub VecDeque<V>);

/// What a queue is asked.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum QueueOp<V> {
    /// Put behind the last.
    Enqueue(V),
    /// Take the first.
    Dequeue,
}

/// What a queue answers.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum QueueRet<V> {
    /// Enqueued.
    Done,
    /// What was the first; `None`: the queue was empty.
    Taken(Option<V>),
}

impl<V: Clone + PartialEq> SequentialSpec for Queue<V> {
    type Op = QueueOp<V>;
    type Ret = QueueRet<V>;

    fn invoke(&mut self, op: &QueueOp<V>) -> QueueRet<V> {
        match op {
            QueueOp::Enqueue(value) => self.0.push_back(value.clone()),
            QueueOp::Dequeue => return QueueRet::Taken(self.0.pop_front()),
        }
        QueueRet::Done
    }
}

impl<V: Clone + Eq + Hash> Model for Queue<V> {
    fn is_read(_: &QueueOp<V>, answer: &QueueRet<V>) -> bool {
        *answer == QueueRet::Taken(None)
    }

    fn weight(&self) -> usize {
        size_of::<V>() * self.0.capacity()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_add() {
        let steps = [(CounterOp::Add(2), None), (CounterOp::Add(-3), None), (CounterOp::Read, Some(-1))];
        assert!(Counter(0).is_valid_history(steps.clone()));
        assert!(!Counter(1).is_valid_history(steps));
    }

    #[test]
    fn sets_hold_an_element_once() {
        let read = |elements: &[i32]| (SetOp::Read, SetRet::Elements(elements.iter().copied().collect()));
        let steps = [(SetOp::Add(1), SetRet::Done), (SetOp::Add(1), SetRet::Done), read(&[1])];
        assert!(Set::default().is_valid_history(steps));
        let steps = [(SetOp::Add(1), SetRet::Done), (SetOp::Remove(1), SetRet::Done), read(&[1])];
        assert!(!Set::default().is_valid_history(steps));
    }

    #[test]
    fn queues_keep_the_order() {
        let put = |value| (QueueOp::Enqueue(value), QueueRet::Done);
        let take = |value| (QueueOp::Dequeue, QueueRet::Taken(value));
        let steps = [put(1), put(2), take(Some(1)), take(Some(2)), take(None)];
        assert!(Queue::default().is_valid_history(steps));
        assert!(!Queue::default().is_valid_history([put(1), put(2), take(Some(2))]));
    }
}
