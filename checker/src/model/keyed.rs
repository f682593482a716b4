//! Many objects of one kind, told apart by keys, as one object.

use std::collections::BTreeMap;
use std::hash::{BuildHasher, Hash};

use rustc_hash::FxBuildHasher;
use stateright::semantics::SequentialSpec;

use crate::general::Model;

/// Objects by key. One that nobody used is as all are at first.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Keyed<K: Ord, S> {
    /// Those that are not as at first.
    used: BTreeMap<K, S>,
    /// What each is like at first.
    first: S,
}

impl<K: Ord, S> Keyed<K, S> {
    /// Objects that begin like this one.
    pub fn of(first: S) -> Self {
        Self { used: BTreeMap::new(), first }
    }
}

impl<K: Clone + Ord, S: Clone + PartialEq> Keyed<K, S> {
    /// Lets `act` have the object of a key. Objects that are as at first are not kept, so that equal states are equal.
    fn with<R>(&mut self, key: &K, act: impl FnOnce(&mut S) -> R) -> R {
        let mut object = self.used.remove(key).unwrap_or_else(|| self.first.clone());
        let result = act(&mut object);
        if object != self.first {
            self.used.insert(key.clone(), object);
        }
        result
    }
}

impl<K: Clone + Ord, S: SequentialSpec + Clone + PartialEq> SequentialSpec for Keyed<K, S> {
    type Op = (K, S::Op);
    type Ret = S::Ret;

    fn invoke(&mut self, (key, op): &Self::Op) -> S::Ret {
        self.with(key, |object| object.invoke(op))
    }

    fn is_valid_step(&mut self, (key, op): &Self::Op, ret: &S::Ret) -> bool {
        self.with(key, |object| object.is_valid_step(op, ret))
    }
}

impl<K: Clone + Ord + Hash, S: Model> Model for Keyed<K, S> {
    fn is_read((_, op): &Self::Op, answer: &S::Ret) -> bool {
        S::is_read(op, answer)
    }

    fn part((key, _): &Self::Op) -> Option<u64> {
        Some(FxBuildHasher.hash_one(key))
    }

    fn weight(&self) -> usize {
        let object = |object: &S| 2 * (size_of::<K>() + size_of::<S>()) + object.weight();
        self.used.values().map(object).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Register, RegisterOp, RegisterRet};
    use super::*;

    #[test]
    fn keys_do_not_touch_each_other() {
        let steps = [
            ((1, RegisterOp::Put('a')), RegisterRet::Done),
            ((2, RegisterOp::Get), RegisterRet::Value(None)),
            ((1, RegisterOp::Get), RegisterRet::Value(Some('a'))),
        ];
        assert!(Keyed::of(Register(None)).is_valid_history(steps.clone()));
        assert!(!Keyed::of(Register(Some('b'))).is_valid_history(steps));
    }
}
