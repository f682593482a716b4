//! Entries that several have: what is sent to each follower and what is recorded is one list, and it is encoded once.

use std::{
    fmt,
    hash::{Hash, Hasher},
    ops::Deref,
    sync::{Arc, OnceLock},
};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::{core::message::Entry, encoding};

/// A list of entries, to share. It is encoded as bytes, with their number, that are a list of entries.
#[derive(Clone, Default)]
pub struct Entries(Arc<Shared>);

#[derive(Default)]
struct Shared {
    entries: Vec<Entry>,
    encoded: OnceLock<Vec<u8>>,
}

impl Entries {
    /// The entries, copied only if others have them, too.
    pub fn into_vec(self) -> Vec<Entry> {
        Arc::try_unwrap(self.0).map_or_else(|shared| shared.entries.clone(), |shared| shared.entries)
    }
}

impl From<Vec<Entry>> for Entries {
    fn from(entries: Vec<Entry>) -> Self {
        Self(Arc::new(Shared { entries, encoded: OnceLock::new() }))
    }
}

impl Deref for Entries {
    type Target = [Entry];

    fn deref(&self) -> &[Entry] {
        &self.0.entries
    }
}

impl PartialEq for Entries {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

impl Eq for Entries {}

impl Hash for Entries {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (**self).hash(state);
    }
}

impl fmt::Debug for Entries {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(formatter)
    }
}

impl Serialize for Entries {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let encoded = self.0.encoded.get_or_init(|| {
            let mut encoded = Vec::with_capacity(self.iter().map(Entry::weight).sum());
            encoding::append(&mut encoded, &self.0.entries);
            encoded
        });
        serializer.serialize_bytes(encoded)
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
    fn who_shares_them_encodes_nothing_again() {
        let (entries, mut out) = (entries(), Vec::new());
        let other = entries.clone();
        encoding::append(&mut out, &entries);
        let first = other.0.encoded.get().expect("encoded").as_ptr();
        encoding::append(&mut out, &other);
        assert_eq!(entries.0.encoded.get().expect("encoded").as_ptr(), first);
        let (one, rest) = postcard::take_from_bytes::<Entries>(&out).expect("entries");
        let (another, rest) = postcard::take_from_bytes::<Entries>(rest).expect("entries");
        assert_eq!((one, another, rest), (entries, other, &[][..]));
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
