//! Frames on a connection: a 4-byte big-endian length, then a postcard value.
//!
//! Whoever dials sends a [`Handshake`] first and gets a [`Verdict`]. After that a client sends
//! [`ClientRequest`](crate::api::ClientRequest)s and gets [`ClientReply`](crate::api::ClientReply)s; a node sends
//! protocol messages and gets nothing: the other direction of that pair of nodes is a connection of its own.

use bytes::{Buf, Bytes, BytesMut};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use tokio_util::codec::LengthDelimitedCodec;

use crate::{
    api::{Ballot, MAX_KEY, MAX_VALUES, NodeId, PartitionId},
    encoding,
};

/// Version of the wire format; a node refuses every other.
pub const VERSION: u16 = 7;

/// A longer frame of a client, or before the handshake is over, closes the connection. What a client may ask for fits, and so does
/// every answer.
pub const MAX_FRAME: usize = 4 << 20;

const _: () = assert!(MAX_FRAME > MAX_KEY + MAX_VALUES + (64 << 10));

/// A longer message between nodes is not sent. One message brings a follower that lags up to date with what the log still has.
pub const MAX_MESSAGE: usize = 1 << 30;

/// Bytes that are put together for one write, except that one frame always fits.
pub const WRITE: usize = 1 << 20;

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

/// Appends a whole frame, its length included, to what is written.
pub fn put<T: Serialize>(out: &mut Vec<u8>, value: &T) {
    let start = out.len();
    out.extend([0; 4]);
    encoding::append(out, value);
    let length = out.len() - start - 4;
    assert!(length <= MAX_MESSAGE, "a frame of {length} bytes is longer than any is taken");
    out[start..start + 4].copy_from_slice(&(length as u32).to_be_bytes());
}

/// The value in a frame.
pub fn decode<T: DeserializeOwned>(frame: &[u8]) -> Result<T, postcard::Error> {
    postcard::from_bytes(frame)
}

/// Takes the first frame out of what was read, and decodes it; none while it is not complete. An error is for people.
pub fn take<T: DeserializeOwned>(read: &mut BytesMut, longest: usize) -> Result<Option<T>, String> {
    let Some((length, rest)) = read.split_first_chunk::<4>() else { return Ok(None) };
    let length = u32::from_be_bytes(*length) as usize;
    if length > longest {
        return Err(format!("a frame of {length} bytes is longer than {longest}"));
    }
    let Some(frame) = rest.get(..length) else { return Ok(None) };
    let value = decode(frame).map_err(|error| error.to_string())?;
    read.advance(4 + length);
    Ok(Some(value))
}

/// How many bytes the first frame of what was read still lacks, as far as that is known.
pub fn lacking(read: &[u8]) -> usize {
    let length = read.first_chunk().map(|length| 4 + u32::from_be_bytes(*length) as usize);
    length.unwrap_or(4).saturating_sub(read.len())
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
    AcceptedByAll,
}

/// All kinds, in their order.
pub const KINDS: [Kind; 28] = [
    Kind::Handshake,
    Kind::Verdict,
    Kind::Request,
    Kind::Reply,
    Kind::Join,
    Kind::Table,
    Kind::HeartbeatRequest,
    Kind::HeartbeatReply,
    Kind::Leading,
    Kind::Forward,
    Kind::Forwarded,
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
    Kind::AcceptedByAll,
];

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

/// Where a message belongs, as far as the first bytes of its frame tell.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Place {
    /// The session between leader and follower.
    pub session: Option<u64>,
    /// Where in the log: the length of the sender's log, the index after which entries follow, or the decided index. Of
    /// heartbeats the round; of what is forwarded the sender's number for it.
    pub index: Option<u64>,
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

/// The variants of [`GroupMessage`](crate::core::GroupMessage), in their order: the last of all kinds. Each begins with a ballot.
const GROUP_MESSAGES: &[Kind] = KINDS.split_at(11).1;

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

/// The same with the place of the message; what is not within these bytes of that is left out.
pub fn peek_place(frame: &[u8]) -> Option<(Seen, Place)> {
    let seen = peek(frame)?;
    Some((seen, place(frame, seen.kind).unwrap_or_default()))
}

fn place(frame: &[u8], kind: Kind) -> Option<Place> {
    let (_, rest) = postcard::take_from_bytes::<u32>(frame).ok()?;
    let session = |(session, index): (u64, u64)| Place { session: Some(session), index: Some(index) };
    let alone = |index| Place { session: None, index: Some(index) };
    match kind {
        Kind::HeartbeatRequest | Kind::HeartbeatReply => return taken(rest).map(alone),
        Kind::Forward | Kind::Forwarded => {
            return taken(rest).map(|(_boot, number): (u64, u64)| alone(number));
        }
        _ => {}
    }
    let (_, rest) = postcard::take_from_bytes::<(PartitionId, u32, Ballot)>(rest).ok()?;
    match kind {
        Kind::Prepare => {
            taken(rest).map(|(of, _decided, _accepted, length): (_, u64, Ballot, _)| session((of, length)))
        }
        Kind::Promise => taken(rest).map(|(of, _accepted, length): (_, Ballot, _)| session((of, length))),
        Kind::AcceptSync => {
            taken(rest).map(|(of, _basis, start): (_, (Ballot, u64), _)| session((of, start)))
        }
        Kind::Accept | Kind::Decide => {
            taken(rest).map(|(of, _sequence, index): (_, u64, _)| session((of, index)))
        }
        Kind::Accepted | Kind::Trimmed => taken(rest).map(session),
        _ => None,
    }
}

fn taken<T: DeserializeOwned>(bytes: &[u8]) -> Option<T> {
    postcard::take_from_bytes(bytes).ok().map(|(value, _)| value)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::{
        api::{Key, Operation, StoreError},
        core::{
            LocalTime, Message,
            entries::Entries,
            message::{ForwardId, GroupMessage, Suffix, Table},
        },
    };

    const BALLOT: Ballot = Ballot { config: u32::MAX, number: u64::MAX, priority: u32::MAX, node: u64::MAX };

    fn group_messages() -> Vec<(Kind, GroupMessage)> {
        let (ballot, session, length, decided, sequence) = (BALLOT, 1, 2, 3, 4);
        let (sent_at, accepted_ballot) = (LocalTime::default(), Ballot::BOTTOM);
        let suffix = Suffix { start: 0, entries: Entries::default() };
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
            (Kind::AcceptedByAll, GroupMessage::AcceptedByAll { ballot, length }),
        ]
    }

    fn seen(message: &Message) -> Option<Seen> {
        let frame = encode(message);
        peek(&frame[..frame.len().min(PEEK)])
    }

    #[test]
    fn a_frame_is_the_same_wherever_it_is_encoded() {
        let mut out = b"before".to_vec();
        let mut expected = out.clone();
        for (_, message) in group_messages() {
            let message = Message::Group { partition: 1, message };
            let frame = encode(&message);
            put(&mut out, &message);
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
    fn the_place_of_a_message_is_told_as_far_as_the_first_bytes_have_it() {
        let ballot = Ballot { config: 0, number: 9, priority: 1, node: 3 };
        let (accepted_ballot, session, decided, sequence) = (ballot, 300, 70, 5);
        let sent_at = LocalTime::default();
        let suffix = Suffix { start: 71, entries: Entries::default() };
        let place = |message| {
            let frame = encode(&Message::Group { partition: 2, message });
            let (_, Place { session, index }) =
                peek_place(&frame[..frame.len().min(PEEK)]).expect("a message");
            (session, index)
        };
        let prepare =
            GroupMessage::Prepare { ballot, session, decided, accepted_ballot, length: 72, sent_at };
        assert_eq!(place(prepare), (Some(300), Some(72)));
        let promise = GroupMessage::Promise {
            ballot,
            session,
            accepted_ballot,
            length: 73,
            decided,
            suffix: None,
            granted: None,
        };
        assert_eq!(place(promise), (Some(300), Some(73)));
        let basis = (ballot, 60);
        let sync = GroupMessage::AcceptSync { ballot, session, basis, suffix: suffix.clone(), decided };
        assert_eq!(place(sync), (Some(300), Some(71)));
        let accept = GroupMessage::Accept { ballot, session, sequence, suffix: suffix.clone(), decided };
        assert_eq!(place(accept), (Some(300), Some(71)));
        assert_eq!(place(GroupMessage::Accepted { ballot, session, length: 74 }), (Some(300), Some(74)));
        assert_eq!(place(GroupMessage::Decide { ballot, session, sequence, decided }), (Some(300), Some(70)));
        assert_eq!(place(GroupMessage::Trimmed { ballot, session, start: 75 }), (Some(300), Some(75)));
        assert_eq!(place(GroupMessage::LeaseRelease { ballot }), (None, None));
        // of the largest ballots and numbers, not all is within the first bytes
        let accept =
            GroupMessage::Accept { ballot: BALLOT, session: u64::MAX, sequence: u64::MAX, suffix, decided };
        assert_eq!(place(accept), (None, None));
        let forward = encode(&Message::Forwarded {
            id: ForwardId { boot: 3, number: 1 << 40 },
            response: Err(StoreError::NotReady { joined: 1, threshold: 2 }),
        });
        let (_, told) = peek_place(&forward).expect("a message");
        assert_eq!(told, Place { session: None, index: Some(1 << 40) });
        let (_, told) = peek_place(&encode(&Message::HeartbeatRequest { round: 8 })).expect("a message");
        assert_eq!(told.index, Some(8));
        let (_, told) = peek_place(&encode(&Message::Join { disk: 8 })).expect("a message");
        assert_eq!(told, Place::default());
    }

    #[test]
    fn what_is_no_message_is_not_recognised() {
        assert_eq!(peek(&[]), None);
        assert_eq!(peek(&[8]), None, "no such message");
        assert_eq!(peek(&[7, 1, 17, 0, 0, 0, 0]), None, "no such message of a group");
        assert_eq!(peek(&[7, 1, 3, 0]), None, "cut off inside the ballot");
    }

    #[test]
    fn every_kind_has_a_number() {
        for (number, kind) in KINDS.iter().enumerate() {
            assert_eq!(*kind as usize, number, "{kind:?}");
        }
        assert_eq!(Kind::AcceptedByAll as usize + 1, KINDS.len());
    }
}
