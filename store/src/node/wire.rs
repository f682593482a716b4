//! Frames on a connection: a 4-byte big-endian length, then a postcard value.
//!
//! Whoever dials sends a [`Handshake`] first and gets a [`Verdict`]. After that a client sends
//! [`ClientRequest`](crate::api::ClientRequest)s and gets [`ClientReply`](crate::api::ClientReply)s; a node sends
//! protocol messages and gets nothing: the other direction of that pair of nodes is a connection of its own.

use bytes::Bytes;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use tokio_util::codec::LengthDelimitedCodec;

use crate::api::NodeId;

/// Version of the wire format; a node refuses every other.
pub const VERSION: u16 = 1;

/// A longer frame of a client, or before the handshake is over, closes the connection.
pub const MAX_FRAME: usize = 4 << 20;

/// A longer message between nodes is not sent. One message brings a follower's whole log up to date.
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

/// The value in a frame.
pub fn decode<T: DeserializeOwned>(frame: &[u8]) -> Result<T, postcard::Error> {
    postcard::from_bytes(frame)
}
