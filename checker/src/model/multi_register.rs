//! Registers that are read and written several at a time.

use std::collections::BTreeMap;
use std::hash::Hash;

use stateright::semantics::SequentialSpec;

use crate::general::Model;

/// Registers by key; those that nobody wrote hold nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct MultiRegister<K: Ord, V>(pub BTreeMap<K, V>);

/// One part of an operation.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Access<K, V> {
    /// Read a register.
    Read(K),
    /// Write one.
    Write(K, V),
}

impl<K: Clone + Ord, V: Clone + PartialEq> SequentialSpec for MultiRegister<K, V> {
    /// Reads and writes that take effect at once, in this order.
    type Op = Vec<Access<K, V>>;
    /// What the reads found; `None`: nothing, or, as it is recorded, the answer does not say. So a recorded `None` fits whatever
    /// the register holds, as in Knossos, whose clients read nil of registers that nobody wrote and where they cannot tell.
    type Ret = Vec<Option<V>>;

    fn invoke(&mut self, op: &Self::Op) -> Self::Ret {
        let mut found = Vec::new();
        for access in op {
            match access {
                Access::Read(key) => found.push(self.0.get(key).cloned()),
                Access::Write(key, value) => {
                    self.0.insert(key.clone(), value.clone());
                }
            }
        }
        found
    }

    fn is_valid_step(&mut self, op: &Self::Op, ret: &Self::Ret) -> bool {
        let found = self.invoke(op);
        found.len() == ret.len() && found.iter().zip(ret).all(|(found, told)| told.is_none() || found == told)
    }
}

impl<K: Clone + Ord + Hash, V: Clone + Eq + Hash> Model for MultiRegister<K, V> {
    fn is_read(op: &Self::Op, _: &Self::Ret) -> bool {
        op.iter().all(|access| matches!(access, Access::Read(_)))
    }

    fn weight(&self) -> usize {
        2 * (size_of::<K>() + size_of::<V>()) * self.0.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_parts_take_effect_at_once() {
        let steps = [
            (vec![Access::Write('x', 1), Access::Write('y', 2)], vec![]),
            (vec![Access::Read('x'), Access::Write('x', 3), Access::Read('x')], vec![Some(1), Some(3)]),
            (vec![Access::Read('y'), Access::Read('z')], vec![None, None]),
        ];
        assert!(MultiRegister::default().is_valid_history(steps.clone()));
        let mut wrong = steps;
        wrong[2].1[1] = Some(2);
        assert!(!MultiRegister::default().is_valid_history(wrong));
    }
}
