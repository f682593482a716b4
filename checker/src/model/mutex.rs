//! A lock.

use stateright::semantics::SequentialSpec;

use crate::general::Model;

/// Whether the lock is taken.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Mutex(pub bool);

/// What a lock is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum MutexOp {
    /// Take it, if it is free.
    Acquire,
    /// Free it, if it is taken.
    Release,
}

impl SequentialSpec for Mutex {
    type Op = MutexOp;
    /// Whether it was done.
    type Ret = bool;

    fn invoke(&mut self, op: &MutexOp) -> bool {
        let taken = *op == MutexOp::Acquire;
        let done = self.0 != taken;
        self.0 = taken;
        done
    }
}

impl Model for Mutex {
    fn is_read(_: &MutexOp, done: &bool) -> bool {
        !done
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_is_taken_once() {
        let steps = [(MutexOp::Acquire, true), (MutexOp::Acquire, false), (MutexOp::Release, true)];
        assert!(Mutex::default().is_valid_history(steps));
        assert!(!Mutex::default().is_valid_history([(MutexOp::Acquire, true), (MutexOp::Acquire, true)]));
        assert!(!Mutex::default().is_valid_history([(MutexOp::Release, true)]));
    }
}
