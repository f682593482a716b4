//! Keys, and the values that they hold.

use std::sync::Arc;

use super::{Kind, LEAST_VALUE, Mix, Request};
use crate::api::Value;

/// Which keys are asked, in which order.
#[derive(Clone, Debug)]
pub struct Keys {
    keys: Arc<[i64]>,
    order: Order,
}

#[derive(Clone, Debug)]
enum Order {
    /// Any, again and again; the state of a generator.
    Random(u64),
    /// Each once, from a place on, so many steps further each time.
    Each { next: usize, step: usize },
}

impl Keys {
    /// Keys at random.
    pub fn random(keys: Arc<[i64]>, seed: u64) -> Self {
        Self { keys, order: Order::Random(seed) }
    }

    /// Each of the keys that fall to one of several connections.
    pub fn share(keys: Arc<[i64]>, (number, connections): (usize, usize)) -> Self {
        Self { keys, order: Order::Each { next: number, step: connections } }
    }

    /// The next operation, if there is another key.
    pub(super) fn next(&mut self, mix: Mix) -> Option<Request> {
        let (position, draw) = match &mut self.order {
            Order::Random(state) => {
                let random = split_mix(state);
                ((random >> 32) as usize % self.keys.len(), random as u32)
            }
            Order::Each { next, step } => {
                let position = *next;
                *next += *step;
                (position, 0)
            }
        };
        Some(Request { kind: mix.kind(draw), key: *self.keys.get(position)? })
    }
}

impl Mix {
    fn kind(self, draw: u32) -> Kind {
        let sum: u32 = self.0.iter().sum();
        let mut left = draw % sum.max(1);
        for (kind, weight) in Kind::ALL.into_iter().zip(self.0) {
            if left < weight {
                return kind;
            }
            left -= weight;
        }
        Kind::Get
    }
}

/// `SplitMix64`: the same operations in each run.
fn split_mix(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut mixed = *state;
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

/// The value that a key holds: of so many bytes, the last of which are the key in decimal digits.
pub fn value_of(key: i64, size: usize) -> Value {
    let mut text = vec![b'0'; size];
    digits(key, &mut text);
    String::from_utf8(text).expect("digits").into()
}

/// Whether this is the value of the key.
pub fn value_shows(value: &[u8], key: i64, size: usize) -> bool {
    let mut expected = [b'0'; LEAST_VALUE];
    digits(key, &mut expected);
    value.len() == size && value.ends_with(&expected)
}

/// Writes the key at the end. Keys are not negative.
fn digits(key: i64, text: &mut [u8]) {
    let mut left = key;
    for place in text.iter_mut().rev() {
        if left == 0 {
            return;
        }
        *place = b'0' + (left % 10) as u8;
        left /= 10;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_shows_its_key_and_no_other() {
        let value = value_of(907, 24);
        assert_eq!(&*value, "000000000000000000000907");
        assert!(value_shows(value.as_bytes(), 907, 24));
        assert!(!value_shows(value.as_bytes(), 90, 24));
        assert!(!value_shows(value.as_bytes(), 907, 25), "it is shorter");
        assert!(value_shows(value_of(i64::MAX, LEAST_VALUE).as_bytes(), i64::MAX, LEAST_VALUE));
    }

    #[test]
    fn a_mix_has_what_its_weights_say() {
        let mut keys = Keys::random((0..10).collect(), 1);
        let mut counts = [0; 3];
        for _ in 0..10_000 {
            let request = keys.next(Mix([6, 3, 1])).expect("there is always another one");
            counts[request.kind as usize] += 1;
        }
        let shares = counts.map(|count| f64::from(count) / 1000.0);
        assert!(
            shares.iter().zip([6.0, 3.0, 1.0]).all(|(share, weight)| (share - weight).abs() < 0.3),
            "{shares:?}"
        );
        assert_eq!(
            Keys::random([7].into(), 1).next(Mix::only(Kind::Cas)),
            Some(Request { kind: Kind::Cas, key: 7 })
        );
    }

    #[test]
    fn shares_are_all_keys_once() {
        let keys: Arc<[i64]> = (0..10).collect();
        let mut seen = Vec::new();
        for number in 0..3 {
            let mut share = Keys::share(Arc::clone(&keys), (number, 3));
            while let Some(request) = share.next(Mix::only(Kind::Put)) {
                seen.push(request.key);
            }
        }
        seen.sort_unstable();
        assert_eq!(seen, *keys);
    }
}
