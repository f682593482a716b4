//! Entries that several have: what is sent to each follower and what is recorded is one list, and what a thread sends to one
//! follower after the other it encodes once.

use std::{
    cell::RefCell,
    ops::Deref,
    sync::{Arc, Weak},
};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::{core::message::Entry, encoding};

/// A list of entries, to share. It is encoded as bytes, with their number, that are a list of entries.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Entries(Arc<Vec<Entry>>);

/// The list that a thread has encoded last: no list keeps bytes of its own, which would stay for as long as it waits for a follower
/// that does not read.
#[derive(Default)]
struct Last {
    /// The list; while this is here no other one gets its address.
    list: Weak<Vec<Entry>>,
    encoded: Vec<u8>,
}

/// Bytes of a list that are kept until the next one is encoded, at most.
const KEPT: usize = 2 << 20;

thread_local! {
    static LAST: RefCell<Last> = RefCell::default();
}

impl Entries {
    /// The entries, copied only if others have them, too.
    pub fn into_vec(self) -> Vec<Entry> {
        Arc::unwrap_or_clone(self.0)
    }
}

impl From<Vec<Entry>> for Entries {
    fn from(entries: Vec<Entry>) -> Self {
        Self(Arc::new(entries))
    }
}

impl Deref for Entries {
    type Target = [Entry];

    fn deref(&self) -> &[Entry] {
        &self.0
    }
}

impl Last {
    /// Encodes a list, if it is another one than the last.
    fn encoded(&mut self, list: &Arc<Vec<Entry>>) -> &[u8] {
        if self.list.as_ptr() != Arc::as_ptr(list) {
            self.list = Arc::downgrade(list);
            self.encoded.clear();
            encoding::append(&mut self.encoded, &**list);
        }
        &self.encoded
    }
}

impl Serialize for Entries {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        LAST.with_borrow_mut(|last| {
            let done = serializer.serialize_bytes(last.encoded(&self.0));
            if last.encoded.capacity() > KEPT {
                *last = Last::default();
            }
            done
        })
    }
}

impl<'de> Deserialize<'de> for Entries {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let encoded: &[u8] = Deserialize::deserialize(deserializer)?;
        let (entries, rest) = postcard::take_from_bytes(encoded).map_err(de::Error::custom)?;
        if !rest.is_empty() {
            return Err(de::Error::custom("entries are followed by something else"));
        }
        Ok(Vec::into(entries))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::message::StopSign;

    fn entries() -> Entries {
        let stop_sign = |config| Entry::StopSign(StopSign { config, members: vec![1, 2] });
        Vec::into((1..=3).map(stop_sign).collect())
    }

    #[test]
    fn what_is_encoded_is_the_list_whichever_came_before() {
        let (one, other) = (entries(), Vec::into(vec![entries()[1].clone()]));
        let mut out = Vec::new();
        let lists: [&Entries; 6] = [&one, &one.clone(), &other, &one, &Entries::default(), &other];
        for list in lists {
            encoding::append(&mut out, list);
        }
        // a list that is gone leaves its address to others, and what was encoded of it to none
        for _ in 0..100 {
            encoding::append(&mut out, &Entries::from(vec![one[0].clone()]));
            encoding::append(&mut out, &Entries::from(vec![one[2].clone()]));
        }
        let mut rest = &out[..];
        let mut next = || {
            let (entries, behind) = postcard::take_from_bytes::<Entries>(rest).expect("entries");
            rest = behind;
            entries
        };
        assert!(lists.into_iter().all(|list| next() == *list));
        assert!((0..100).all(|_| *next() == one[..1] && *next() == one[2..]));
        assert!(rest.is_empty());
    }

    #[test]
    fn who_shares_them_encodes_nothing_again_and_a_long_list_is_not_kept() {
        let (shared, mut last) = (entries().0, Last::default());
        let once = last.encoded(&shared).to_vec();
        last.encoded.push(9);
        assert_eq!(last.encoded(&Arc::clone(&shared)), [&once[..], &[9]].concat(), "it is not encoded anew");
        let members = vec![u64::MAX; KEPT / 8];
        let long = Entries::from(vec![Entry::StopSign(StopSign { config: 1, members })]);
        encoding::append(&mut Vec::new(), &long);
        LAST.with_borrow(|last| assert_eq!(last.encoded.capacity(), 0));
    }

    #[test]
    fn what_is_no_list_of_entries_is_an_error() {
        let mut encoded = Vec::new();
        encoding::append(&mut encoded, &entries());
        let length = encoded.len();
        assert!(postcard::from_bytes::<Entries>(&encoded[..length - 1]).is_err(), "cut off");
        encoded[0] -= 1;
        assert!(postcard::from_bytes::<Entries>(&encoded[..length - 1]).is_err(), "cut off within");
        encoded[0] += 2;
        encoded.push(0);
        assert!(postcard::from_bytes::<Entries>(&encoded).is_err(), "something behind them");
    }
}
