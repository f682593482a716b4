//! The messages between the nodes of a run, as they are kept: each with when it was sent, what it is and what became of it.
//!
//! Real and simulated runs write one format. A run has one file, or two: when the newer one has grown to [`SEGMENT`], it becomes
//! the older one, and the older one goes, so that a run of any length keeps its last messages and no more than twice that. With
//! some ten bytes a message these are some twenty million of them. The newest are kept, not those around faults, since a
//! violation may show long after the fault that brought it on; which messages went is counted, and said by whoever draws.
//!
//! A file begins with a line of JSON ([`Header`]); after it come blocks, each with its length, of the messages of one link, in
//! the order in which their fates were known (`block.rs`). A block can be read without the others, and says which span of time it
//! is about. What the file lacks of what was sent is in it as a number: messages that were lost to it in the blocks, those
//! of files that went in the header, and an empty block at the end, without which the file was cut off.

mod block;
mod read;
mod write;

pub(crate) use block::Block;
pub(crate) use read::Messages;
pub(crate) use write::{Writer, write_all};

use std::fmt;

use serde::{Deserialize, Serialize};
use store::{
    api::Ballot,
    node::wire::{self, Kind},
};

use crate::proxy::Rule;

/// The file of a run's folder that holds them, and the one that holds those before.
pub(crate) const FILE: &str = "messages.bin";
pub(crate) const EARLIER: &str = "messages-earlier.bin";

/// How long a file grows.
const SEGMENT: u64 = 128 << 20;

const VERSION: u32 = 1;

/// A message from one node to another, or, where connections have answers, the answer to its handshake.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Message {
    /// When its first byte was read from the sender, in nanoseconds of the history. One that waited while the link was held is
    /// read when it goes on.
    pub(crate) sent: u64,
    /// Who sent it.
    pub(crate) from: u64,
    /// To whom.
    pub(crate) to: u64,
    /// Number of its connection among all that were dialed on its link, from 0.
    pub(crate) connection: u64,
    /// It travels against the direction in which its connection was dialed.
    pub(crate) back: bool,
    /// Its number on the connection in this direction, from 0.
    pub(crate) number: u64,
    /// What it says in short; none: its protocol is not known.
    pub(crate) told: Option<Told>,
    /// What became of it.
    pub(crate) fate: Fate,
    /// The fault of single messages that struck it.
    pub(crate) fault: Option<u64>,
    /// It arrived before, too: this is the second time.
    pub(crate) again: bool,
}

/// What a message says, in short.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Told {
    pub(crate) kind: Kind,
    /// The partition that it is about, and its ballot there.
    pub(crate) group: Option<(u32, Ballot)>,
    /// The session between leader and follower.
    pub(crate) session: Option<u64>,
    /// See [`wire::Place`].
    pub(crate) index: Option<u64>,
}

/// What became of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// Its last byte was written to the receiver then.
    Arrived(u64),
    /// The fault that struck it took it out of the stream.
    Dropped,
    /// Its connection ended before all of it was written, then; by this rule, or because an end of it was gone.
    Cut(u64, Option<Rule>),
    /// It had not arrived when the record ended.
    Open,
}

impl Told {
    /// What the first bytes of a frame tell, without its length.
    pub(crate) fn of(first_bytes: &[u8]) -> Option<Self> {
        let (seen, place) = wire::peek_place(first_bytes)?;
        let group = seen.partition.zip(seen.ballot);
        Some(Self { kind: seen.kind, group, session: place.session, index: place.index })
    }

    /// A frame of a handshake.
    pub(crate) fn plain(kind: Kind) -> Self {
        Self { kind, group: None, session: None, index: None }
    }
}

impl Message {
    /// When it arrived, if it did.
    pub(crate) fn arrived(&self) -> Option<u64> {
        match self.fate {
            Fate::Arrived(at) => Some(at),
            _ => None,
        }
    }

    /// The last moment that is known of it.
    pub(crate) fn last(&self) -> u64 {
        match self.fate {
            Fate::Arrived(at) | Fate::Cut(at, _) => at,
            Fate::Dropped | Fate::Open => self.sent,
        }
    }

    /// The partition that it is about; none: the whole node.
    pub(crate) fn partition(&self) -> Option<u32> {
        self.told.and_then(|told| told.group).map(|(partition, _)| partition)
    }

    /// What it says, in words.
    pub(crate) fn text(&self) -> String {
        let what =
            self.told.map_or_else(|| "a message that is not known".to_owned(), |told| told.to_string());
        let again = if self.again { ", a second time" } else { "" };
        format!("{what}{again}")
    }

    /// Why it did not arrive, or what a fault did to it although it did; none: it arrived as ever.
    pub(crate) fn trouble(&self) -> Option<String> {
        let fault = self.fault.map(|fault| format!("fault {fault}"));
        match self.fate {
            Fate::Arrived(_) => fault.map(|fault| format!("struck by {fault}")),
            Fate::Dropped => Some(format!("dropped by {}", fault.unwrap_or_else(|| "a fault".to_owned()))),
            Fate::Cut(_, rule) => {
                let kept = fault.map(|fault| format!("kept by {fault} until ")).unwrap_or_default();
                let why = rule.map(|rule| format!(" ({rule:?})").to_lowercase()).unwrap_or_default();
                Some(format!("{kept}cut off with its connection{why}"))
            }
            Fate::Open => Some("never arrived".to_owned()),
        }
    }
}

impl fmt::Display for Told {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.kind)?;
        self.group.map_or(Ok(()), |(_, ballot)| write!(f, " {ballot}"))?;
        self.session.map_or(Ok(()), |session| write!(f, " session {session}"))?;
        self.index.map_or(Ok(()), |index| write!(f, " #{index}"))
    }
}

/// The first line of a file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Header {
    version: u32,
    /// What the numbers of kinds mean, from 1.
    kinds: Vec<Kind>,
    /// Messages that files held which went, since they were too many.
    gone: u64,
    /// All messages that went were sent before this, in nanoseconds of the history.
    gone_until: u64,
}

impl Header {
    fn new(gone: u64, gone_until: u64) -> Self {
        Self { version: VERSION, kinds: wire::KINDS.to_vec(), gone, gone_until }
    }
}
