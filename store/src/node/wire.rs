//! Frames on a connection: a 4-byte big-endian length, then a postcard value.
//!
//! Whoever dials sends a [`Handshake`] first and gets a [`Verdict`]. After that a client sends
//! [`ClientRequest`](crate::api::ClientRequest)s and gets [`ClientReply`](crate::api::ClientReply)s; a node sends
//! protocol messages and gets nothing: the other direction of that pair of nodes is a connection of its own.

use bytes::{BufMut, Bytes, BytesMut};
use postcard::ser_flavors::Flavor;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use tokio_util::codec::LengthDelimitedCodec;

use crate::api::{Ballot, NodeId, PartitionId};

/// Version of the wire format; a node refuses every other.
pub const VERSION: u16 = 4;

/// A longer frame of a client, or before the handshake is over, closes the connection.
pub const MAX_FRAME: usize = 4 << 20;

/// A longer message between nodes is not sent. One message brings a follower that lags up to date with what the log still has.
pub const MAX_MESSAGE: usize = 1 << 30;

/// The framing of a connection.
pub type Frames = LengthDelimitedCodec;

/// The first frame on a connection.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Handshake {
    /// [`VERSION`] of the sender.
    pub version: u16,
    /// The cluster that it means.
    pub cluster: String,
    /// Who it is.
    pub role: Role,
}

/// Who dials.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Role {
    /// A client.
    Client,
    /// A node.
    Node {
        /// Its number.
        node: NodeId,
        /// The node that it means to reach.
        to: NodeId,
        /// Identity of its disk: a node that lost its disk is another node.
        disk: u64,
        /// How often it has started on that disk.
        boot: u64,
        /// How often it has dialed this peer since.
        dial: u64,
        /// Digest of the cluster's configuration: nodes that were configured differently refuse each other.
        config: u64,
    },
}

/// The answer to a [`Handshake`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Verdict {
    /// Go on.
    Welcome {
        /// The node that answers.
        node: NodeId,
    },
    /// The connection is closed.
    Refused {
        /// Why, in words.
        reason: String,
    },
}

/// The framing of a new connection.
pub fn frames() -> Frames {
    LengthDelimitedCodec::builder().max_frame_length(MAX_FRAME).new_codec()
}

/// The bytes of a frame, without its length.
pub fn encode<T: Serialize>(value: &T) -> Bytes {
    postcard::to_stdvec(value).expect("a value in memory can be encoded").into()
}

/// Appends a whole frame, its length included, to what is written; returns the length.
pub fn put<T: Serialize>(out: &mut BytesMut, value: &T) -> usize {
    let start = out.len();
    out.put_u32(0);
    postcard::serialize_with_flavor(value, Appended(out)).expect("a value in memory can be encoded");
    let length = out.len() - start - 4;
    let told = u32::try_from(length).expect("no value has four gigabytes");
    out[start..start + 4].copy_from_slice(&told.to_be_bytes());
    length
}

/// Encodes to the end of a buffer that is written anyway, without a buffer of its own.
struct Appended<'a>(&'a mut BytesMut);

impl Flavor for Appended<'_> {
    type Output = ();

    fn try_push(&mut self, byte: u8) -> postcard::Result<()> {
        self.0.put_u8(byte);
        Ok(())
    }

    fn try_extend(&mut self, bytes: &[u8]) -> postcard::Result<()> {
        self.0.extend_from_slice(bytes);
        Ok(())
    }

    fn finalize(self) -> postcard::Result<()> {
        Ok(())
    }
}

/// The value in a frame.
pub fn decode<T: DeserializeOwned>(frame: &[u8]) -> Result<T, postcard::Error> {
    postcard::from_bytes(frame)
}

/// What a frame is, for those that look at a connection from outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[expect(missing_docs, reason = "the messages of the same name, in core/message.rs and above")]
pub enum Kind {
    Handshake,
    Verdict,
    /// What a client asks.
    Request,
    /// What a client is answered.
    Reply,
    Join,
    Table,
    HeartbeatRequest,
    HeartbeatReply,
    Leading,
    Forward,
    Forwarded,
    Prepare,
    Promise,
    AcceptSync,
    Accept,
    Accepted,
    Decide,
    PrepareReq,
    Nack,
    LeaseNack,
    LeaseExtend,
    LeaseGranted,
    LeaseRelease,
    TakeOver,
    Trimmed,
    FetchSnapshot,
    SnapshotPiece,
}

/// What the first bytes of a frame tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seen {
    /// What it is.
    pub kind: Kind,
    /// The partition that it is about, if it is about one.
    pub partition: Option<PartitionId>,
    /// The ballot that it carries first, if it carries one.
    pub ballot: Option<Ballot>,
}

/// Bytes of a frame, without its length, from which [`peek`] can tell everything.
pub const PEEK: usize = 48;

/// The variants of [`Message`](crate::core::Message), in their order; what is not one is within a group.
const MESSAGES: [Option<Kind>; 8] = [
    Some(Kind::Join),
    Some(Kind::Table),
    Some(Kind::HeartbeatRequest),
    Some(Kind::HeartbeatReply),
    Some(Kind::Leading),
    Some(Kind::Forward),
    Some(Kind::Forwarded),
    None,
];

/// The variants of [`GroupMessage`](crate::core::GroupMessage), in their order. Each begins with a ballot.
const GROUP_MESSAGES: [Kind; 16] = [
    Kind::Prepare,
    Kind::Promise,
    Kind::AcceptSync,
    Kind::Accept,
    Kind::Accepted,
    Kind::Decide,
    Kind::PrepareReq,
    Kind::Nack,
    Kind::LeaseNack,
    Kind::LeaseExtend,
    Kind::LeaseGranted,
    Kind::LeaseRelease,
    Kind::TakeOver,
    Kind::Trimmed,
    Kind::FetchSnapshot,
    Kind::SnapshotPiece,
];

/// Recognises a protocol message by the first [`PEEK`] bytes of its frame, without its length, or by all of a shorter one.
/// `None`: it is no protocol message.
pub fn peek(frame: &[u8]) -> Option<Seen> {
    let (variant, rest) = postcard::take_from_bytes::<u32>(frame).ok()?;
    match MESSAGES.get(variant as usize)? {
        Some(Kind::Leading) => {
            let ((partition, ballot), _) = postcard::take_from_bytes(rest).ok()?;
            Some(Seen { kind: Kind::Leading, partition: Some(partition), ballot: Some(ballot) })
        }
        Some(kind) => Some(Seen { kind: *kind, partition: None, ballot: None }),
        None => {
            let ((partition, variant, ballot), _) =
                postcard::take_from_bytes::<(PartitionId, u32, Ballot)>(rest).ok()?;
            let kind = *GROUP_MESSAGES.get(variant as usize)?;
            Some(Seen { kind, partition: Some(partition), ballot: Some(ballot) })
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::{
        api::{Key, Operation, StoreError},
        core::{
            LocalTime, Message,
            message::{ForwardId, GroupMessage, Suffix, Table},
        },
    };

    const BALLOT: Ballot = Ballot { config: u32::MAX, number: u64::MAX, priority: u32::MAX, node: u64::MAX };

    fn group_messages() -> Vec<(Kind, GroupMessage)> {
        let (ballot, session, length, decided, sequence) = (BALLOT, 1, 2, 3, 4);
        let (sent_at, accepted_ballot) = (LocalTime::default(), Ballot::BOTTOM);
        let suffix = Suffix { start: 0, entries: Vec::new() };
        let basis = (Ballot::BOTTOM, 0);
        vec![
            (
                Kind::Prepare,
                GroupMessage::Prepare { ballot, session, decided, accepted_ballot, length, sent_at },
            ),
            (
                Kind::Promise,
                GroupMessage::Promise {
                    ballot,
                    session,
                    accepted_ballot,
                    length,
                    decided,
                    suffix: None,
                    granted: None,
                },
            ),
            (
                Kind::AcceptSync,
                GroupMessage::AcceptSync { ballot, session, basis, suffix: suffix.clone(), decided },
            ),
            (Kind::Accept, GroupMessage::Accept { ballot, session, sequence, suffix, decided }),
            (Kind::Accepted, GroupMessage::Accepted { ballot, session, length }),
            (Kind::Decide, GroupMessage::Decide { ballot, session, sequence, decided }),
            (Kind::PrepareReq, GroupMessage::PrepareReq { promised: ballot }),
            (Kind::Nack, GroupMessage::Nack { promised: ballot }),
            (Kind::LeaseNack, GroupMessage::LeaseNack { ballot, holder: 2, remaining: 5 }),
            (Kind::LeaseExtend, GroupMessage::LeaseExtend { ballot, sent_at }),
            (Kind::LeaseGranted, GroupMessage::LeaseGranted { ballot, sent_at }),
            (Kind::LeaseRelease, GroupMessage::LeaseRelease { ballot }),
            (Kind::TakeOver, GroupMessage::TakeOver { ballot }),
            (Kind::Trimmed, GroupMessage::Trimmed { ballot, session, start: 7 }),
            (
                Kind::FetchSnapshot,
                GroupMessage::FetchSnapshot { ballot, number: 1, since: 2, index: 3, offset: 4 },
            ),
            (
                Kind::SnapshotPiece,
                GroupMessage::SnapshotPiece {
                    ballot,
                    number: 1,
                    since: 2,
                    index: 3,
                    offset: 4,
                    changed: Vec::new(),
                    last: true,
                },
            ),
        ]
    }

    fn seen(message: &Message) -> Option<Seen> {
        let frame = encode(message);
        peek(&frame[..frame.len().min(PEEK)])
    }

    #[test]
    fn a_frame_is_the_same_wherever_it_is_encoded() {
        let mut out = BytesMut::from(&b"before"[..]);
        let mut expected = out.to_vec();
        for (_, message) in group_messages() {
            let message = Message::Group { partition: 1, message };
            let frame = encode(&message);
            assert_eq!(put(&mut out, &message), frame.len());
            expected.extend((frame.len() as u32).to_be_bytes());
            expected.extend(frame);
        }
        assert_eq!(out, expected);
    }

    #[test]
    fn every_message_is_recognised_by_its_first_bytes() {
        let id = ForwardId { boot: 1, number: 1 };
        let table = Table { members: BTreeMap::new(), config: 0, replicas: BTreeMap::new() };
        let operation = Operation::Get { key: Key::Integer(1) };
        let response = Err(StoreError::NotReady { joined: 1, threshold: 2 });
        let plain = [
            (Kind::Join, Message::Join { disk: u64::MAX }),
            (Kind::Table, Message::Table(table)),
            (Kind::HeartbeatRequest, Message::HeartbeatRequest { round: 1 }),
            (Kind::HeartbeatReply, Message::HeartbeatReply { round: 1, groups: Vec::new() }),
            (Kind::Forward, Message::Forward { id, operation, seen: 1, session: None }),
            (Kind::Forwarded, Message::Forwarded { id, response }),
        ];
        for (kind, message) in plain {
            assert_eq!(seen(&message), Some(Seen { kind, partition: None, ballot: None }), "{message:?}");
        }
        let about = |kind, partition| Some(Seen { kind, partition: Some(partition), ballot: Some(BALLOT) });
        let leading = Message::Leading { partition: u32::MAX, ballot: BALLOT };
        assert_eq!(seen(&leading), about(Kind::Leading, u32::MAX));
        for (kind, message) in group_messages() {
            let message = Message::Group { partition: u32::MAX, message };
            assert_eq!(seen(&message), about(kind, u32::MAX), "{message:?}");
        }
        assert_eq!(group_messages().len(), GROUP_MESSAGES.len());
    }

    #[test]
    fn what_is_no_message_is_not_recognised() {
        assert_eq!(peek(&[]), None);
        assert_eq!(peek(&[8]), None, "no such message");
        assert_eq!(peek(&[7, 1, 16, 0, 0, 0, 0]), None, "no such message of a group");
        assert_eq!(peek(&[7, 1, 3, 0]), None, "cut off inside the ballot");
    }
}
