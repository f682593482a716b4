//! What objects do that are used by one client at a time.
//!
//! They implement stateright's [`SequentialSpec`], so that stateright's tester and the searches of this crate judge by the
//! same definitions; the tests compare them. The register with its compare-and-swap stands here: the store's keys are registers
//! (`kv`), and so are Jepsen's `register` and `cas-register`.

mod append;
mod collections;
mod keyed;
mod multi_register;
mod mutex;

pub use append::{Append, AppendOp, Text};
pub use collections::{Counter, CounterOp, Queue, QueueOp, QueueRet, Set, SetOp, SetRet};
pub use keyed::Keyed;
pub use multi_register::{Access, MultiRegister};
pub use mutex::{Mutex, MutexOp};

use std::hash::Hash;

use stateright::semantics::SequentialSpec;

use crate::general::Model;

/// A register: the value of one key, `None` when the key is absent.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Register<V>(pub Option<V>);

/// What a register is asked.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum RegisterOp<V> {
    /// Read.
    Get,
    /// Write.
    Put(V),
    /// Write `new` if the register holds `expected`.
    Cas {
        /// What it must hold; `None`: absent.
        expected: Option<V>,
        /// The new value.
        new: V,
    },
    /// Remove.
    Delete,
}

/// What a register answers.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum RegisterRet<V> {
    /// The value read.
    Value(Option<V>),
    /// Written, removed or swapped.
    Done,
    /// Not swapped, since it held this.
    Differs(Option<V>),
    /// Not swapped, since it held something else; what, nobody said. Only recorded, never answered.
    Refused,
}

impl<V: Clone + PartialEq> SequentialSpec for Register<V> {
    type Op = RegisterOp<V>;
    type Ret = RegisterRet<V>;

    fn invoke(&mut self, op: &Self::Op) -> Self::Ret {
        match op {
            RegisterOp::Get => return RegisterRet::Value(self.0.clone()),
            RegisterOp::Cas { expected, .. } if self.0 != *expected => {
                return RegisterRet::Differs(self.0.clone());
            }
            RegisterOp::Put(new) | RegisterOp::Cas { new, .. } => self.0 = Some(new.clone()),
            RegisterOp::Delete => self.0 = None,
        }
        RegisterRet::Done
    }

    fn is_valid_step(&mut self, op: &Self::Op, ret: &Self::Ret) -> bool {
        let answered = self.invoke(op);
        match ret {
            RegisterRet::Refused => matches!(answered, RegisterRet::Differs(_)),
            _ => answered == *ret,
        }
    }
}

impl<V: Clone + Eq + Hash> Model for Register<V> {
    fn is_read(op: &RegisterOp<V>, answer: &RegisterRet<V>) -> bool {
        match op {
            RegisterOp::Get => true,
            RegisterOp::Cas { expected, new } => {
                *answer != RegisterRet::Done || expected.as_ref() == Some(new)
            }
            RegisterOp::Put(_) | RegisterOp::Delete => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sequence_of_operations() {
        let cas = |expected, new| RegisterOp::Cas { expected, new };
        let steps = [
            (RegisterOp::Get, RegisterRet::Value(None)),
            (cas(None, 1), RegisterRet::Done),
            (cas(None, 2), RegisterRet::Differs(Some(1))),
            (cas(Some(1), 2), RegisterRet::Done),
            (RegisterOp::Get, RegisterRet::Value(Some(2))),
            (RegisterOp::Delete, RegisterRet::Done),
            (cas(Some(2), 3), RegisterRet::Differs(None)),
            (RegisterOp::Put(4), RegisterRet::Done),
            (RegisterOp::Get, RegisterRet::Value(Some(4))),
        ];
        assert!(Register(None).is_valid_history(steps.clone()));
        let refused = [(cas(Some(3), 4), RegisterRet::Refused)];
        assert!(Register(Some(1)).is_valid_history(refused.clone()));
        assert!(!Register(Some(3)).is_valid_history(refused));
        let mut wrong = steps;
        wrong[4].1 = RegisterRet::Value(Some(1));
        assert!(!Register(None).is_valid_history(wrong));
    }
}
