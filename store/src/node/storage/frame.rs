//! One write of the log: a header, and what is written.
//!
//! Little-endian: checksum (u64, XXH3 of all that follows, seeded with the identity of the disk), `log1`, length of the content (u32),
//! number of the segment (u64), number of the write (u64); then the content, postcard. So a write that was made for another
//! disk, or for another segment, is none here.

use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::{core::durable::Record, encoding};

/// Bytes before the content.
pub const HEADER: usize = 32;

/// What a header has behind its checksum.
const MAGIC: &[u8; 4] = b"log1";

/// What a write says.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Content {
    /// The first write of each segment. Earlier ones are not needed any more once the keys of earlier snapshots are in their tree.
    Checkpoint {
        /// How often the node has started.
        boot: u64,
        /// The last write before that had a snapshot.
        snapshots: u64,
        /// What adds up to all that is in force, but for the keys of the snapshots.
        in_force: Vec<Record>,
        /// What the core has persisted then. It is in the same write, so that both are there or none.
        records: Vec<Record>,
    },
    /// The node has started once more.
    Started {
        /// How often.
        boot: u64,
    },
    /// What the core has persisted.
    Records(Vec<Record>),
}

impl Content {
    /// What the core has persisted.
    pub fn into_records(self) -> Vec<Record> {
        match self {
            Self::Checkpoint { records, .. } | Self::Records(records) => records,
            Self::Started { .. } => Vec::new(),
        }
    }
}

/// A whole write.
#[derive(Debug)]
pub struct Frame<'a> {
    /// Which write.
    pub number: u64,
    /// Bytes that it takes.
    pub length: usize,
    /// What it says, encoded.
    pub content: &'a [u8],
}

/// Appends a write to `bytes`.
pub fn append(bytes: &mut Vec<u8>, disk: u64, segment: u64, number: u64, content: &Content) {
    let from = bytes.len();
    bytes.resize(from + HEADER, 0);
    encoding::append(bytes, content);
    let length = u32::try_from(bytes.len() - from - HEADER).expect("a write takes less than 4 GiB");
    let frame = &mut bytes[from..];
    frame[8..12].copy_from_slice(MAGIC);
    frame[12..16].copy_from_slice(&length.to_le_bytes());
    frame[16..24].copy_from_slice(&segment.to_le_bytes());
    frame[24..32].copy_from_slice(&number.to_le_bytes());
    let checksum = xxh3_64_with_seed(&frame[8..], disk);
    frame[..8].copy_from_slice(&checksum.to_le_bytes());
}

impl<'a> Frame<'a> {
    /// The write that `bytes` begin with, if it is whole and belongs here.
    pub fn read(bytes: &'a [u8], disk: u64, segment: u64) -> Option<Self> {
        let (header, rest) = bytes.split_at_checked(HEADER)?;
        let word = |from: usize| u64::from_le_bytes(header[from..from + 8].try_into().expect("eight bytes"));
        let length = (word(8) >> 32) as usize;
        if &header[8..12] != MAGIC || word(16) != segment {
            return None;
        }
        let content = rest.get(..length)?;
        let whole = xxh3_64_with_seed(&bytes[8..HEADER + length], disk) == word(0);
        whole.then_some(Self { number: word(24), length: HEADER + length, content })
    }

    /// The first write after number `last` that begins in `bytes` at `from` or later, and where that is.
    pub fn find(bytes: &'a [u8], from: usize, last: u64, disk: u64, segment: u64) -> Option<usize> {
        let begins = |at: &usize| {
            bytes[*at..].get(8..12) == Some(MAGIC)
                && Self::read(&bytes[*at..], disk, segment).is_some_and(|frame| frame.number > last)
        };
        (from..bytes.len()).find(begins)
    }
}
