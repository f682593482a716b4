//! The configurations that a search has met, as words: a hash set whose keys lie behind each other in large pieces.
//!
//! A box for each key would cost more than most keys do, and freeing millions of boxes takes longer than a budget of time may be
//! overrun. What it takes is known to the byte, also what it takes for a moment while its table grows.

use std::hash::Hasher;

use rustc_hash::FxHasher;

/// Words of the first piece, and of the longest ones: each is twice as long as the one before until then; a key that is longer has
/// one of its own.
const FIRST_PIECE: usize = 1 << 10;
const PIECE: usize = 1 << 16;
/// Places of the first table.
const FIRST: usize = 1 << 8;

/// Where a key lies.
#[derive(Clone, Copy)]
struct Place {
    /// A part of its hash: most keys that differ are told apart by it.
    hash: u32,
    /// The piece from 1; 0: the place is free.
    piece: u32,
    /// Where it begins there: with its length.
    begin: u32,
}

const FREE: Place = Place { hash: 0, piece: 0, begin: 0 };

/// A set of keys.
#[derive(Default)]
pub(crate) struct Memo {
    pieces: Vec<Vec<u32>>,
    /// A power of two of them, none or more than are taken.
    places: Vec<Place>,
    count: usize,
    words: usize,
}

impl Memo {
    /// How many keys there are.
    pub(crate) fn len(&self) -> usize {
        self.count
    }

    /// Bytes that it holds, or holds for a moment when the next key comes.
    pub(crate) fn bytes(&self) -> usize {
        let places = self.places.len() * if self.is_full() { 3 } else { 1 };
        size_of::<u32>() * self.words + size_of::<Place>() * places
    }

    /// Whether the table grows before another key finds a place.
    fn is_full(&self) -> bool {
        4 * (self.count + 1) > 3 * self.places.len()
    }

    /// Adds a key; false: it is there already.
    pub(crate) fn insert(&mut self, key: &[u32]) -> bool {
        if self.is_full() {
            self.grow();
        }
        let mut hasher = FxHasher::default();
        for &word in key {
            hasher.write_u32(word);
        }
        let hash = (hasher.finish() >> 16) as u32;
        let mut at = hash as usize & (self.places.len() - 1);
        while self.places[at].piece > 0 {
            if self.places[at].hash == hash && self.key(self.places[at]) == key {
                return false;
            }
            at = (at + 1) & (self.places.len() - 1);
        }
        let (piece, begin) = self.keep(key);
        self.places[at] = Place { hash, piece, begin };
        self.count += 1;
        true
    }

    fn key(&self, place: Place) -> &[u32] {
        let words = &self.pieces[place.piece as usize - 1][place.begin as usize..];
        &words[1..=words[0] as usize]
    }

    /// Writes a key down; tells where.
    fn keep(&mut self, key: &[u32]) -> (u32, u32) {
        let length = key.len() + 1;
        if self.pieces.last().is_none_or(|piece| piece.capacity() - piece.len() < length) {
            let usual = (FIRST_PIECE << self.pieces.len().min(16)).min(PIECE);
            let words = usual.max(length);
            self.pieces.push(Vec::with_capacity(words));
            self.words += words;
        }
        let number = self.pieces.len() as u32;
        let piece = self.pieces.last_mut().expect("there is one by now");
        let begin = piece.len() as u32;
        piece.push(key.len() as u32);
        piece.extend_from_slice(key);
        (number, begin)
    }

    fn grow(&mut self) {
        let length = (2 * self.places.len()).max(FIRST);
        let old = std::mem::replace(&mut self.places, vec![FREE; length]);
        for place in old.into_iter().filter(|place| place.piece > 0) {
            let mut at = place.hash as usize & (length - 1);
            while self.places[at].piece > 0 {
                at = (at + 1) & (length - 1);
            }
            self.places[at] = place;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn it_is_a_set() {
        let (mut memo, mut set) = (Memo::default(), HashSet::new());
        let mut draw = 1_u64;
        for _ in 0..20_000 {
            draw = draw.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let key = vec![(draw >> 60) as u32; (draw >> 33) as usize % 400];
            assert_eq!(memo.insert(&key), set.insert(key));
        }
        assert_eq!(memo.len(), set.len());
        let long = vec![7; 3 * PIECE];
        assert!(memo.insert(&long) && !memo.insert(&long) && memo.insert(&[]) == set.insert(Vec::new()));
    }

    #[test]
    fn what_it_takes_is_told_before_it_is_taken() {
        let mut memo = Memo::default();
        for key in 0..200_000_u32 {
            let told = memo.bytes();
            memo.insert(&[key, key, key]);
            let taken: usize = memo.pieces.iter().map(|piece| 4 * piece.capacity()).sum();
            let taken = taken + size_of::<Place>() * memo.places.capacity();
            let first = size_of::<Place>() * FIRST;
            assert!(taken <= told + 4 * PIECE + first, "{taken} {told}");
            assert!(memo.bytes() >= taken);
        }
    }
}
