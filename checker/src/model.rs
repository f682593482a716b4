//! What one key does when it is used by one client at a time: a register with get, put, compare-and-swap and delete.
//!
//! It implements stateright's [`SequentialSpec`], so that stateright's tester and the search of this crate judge by the
//! same definition; the tests compare them.

use stateright::semantics::SequentialSpec;

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
        let mut wrong = steps;
        wrong[4].1 = RegisterRet::Value(Some(1));
        assert!(!Register(None).is_valid_history(wrong));
    }
}
