//! What brings a fault on, when it is not the clock.

use serde::{Deserialize, Serialize};
use store::{
    api::{Ballot, NodeId, PartitionId},
    core::{Message, message::GroupMessage},
};

use super::scalar::Time;

/// Something that has to happen first, counted from the beginning of the faults phase.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trigger {
    /// What.
    pub happening: Happening,
    /// How often.
    pub count: u64,
    /// How long after that.
    pub plus: Time,
}

/// Something that happens in a run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Happening {
    /// A node sends a message.
    Message {
        /// What kind.
        kind: MessageKind,
        /// Who sends it; none: anyone.
        from: Option<NodeId>,
        /// To whom; none: anyone.
        to: Option<NodeId>,
        /// The lowest number of its ballot.
        ballot: u64,
        /// Of what partition; none: of any.
        partition: Option<PartitionId>,
    },
    /// A partition gets another leader.
    LeaderChange {
        /// The partition.
        partition: PartitionId,
    },
    /// A write is acknowledged.
    Write,
    /// The named fault begins.
    FaultBegins(String),
    /// The named fault ends.
    FaultEnds(String),
}

/// Declares [`MessageKind`] with the text of each.
macro_rules! kinds {
    ($($kind:ident = $text:literal,)*) => {
        /// The kinds of messages between nodes.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[expect(missing_docs, reason = "each has the name of its message")]
        pub enum MessageKind {
            $(#[serde(rename = $text)] $kind,)*
        }

        impl MessageKind {
            /// All of them, as they are written.
            pub const ALL: &[&str] = &[$($text,)*];
        }
    };
}

kinds! {
    Join = "join",
    Table = "table",
    HeartbeatRequest = "heartbeat-request",
    HeartbeatReply = "heartbeat-reply",
    Leading = "leading",
    Forward = "forward",
    Forwarded = "forwarded",
    Prepare = "prepare",
    Promise = "promise",
    AcceptSync = "accept-sync",
    Accept = "accept",
    Accepted = "accepted",
    Decide = "decide",
    PrepareReq = "prepare-req",
    Nack = "nack",
    LeaseNack = "lease-nack",
    LeaseExtend = "lease-extend",
    LeaseGranted = "lease-granted",
    LeaseRelease = "lease-release",
}

impl Happening {
    /// Whether the sending of this message is what is waited for.
    pub fn is_message(&self, sender: NodeId, receiver: NodeId, message: &Message) -> bool {
        let Self::Message { kind, from, to, ballot, partition } = self else { return false };
        let traits = Traits::of(message);
        traits.kind == *kind
            && from.is_none_or(|from| from == sender)
            && to.is_none_or(|to| to == receiver)
            && partition.is_none_or(|partition| traits.partition == Some(partition))
            && traits.ballot.map_or(0, |ballot| ballot.number) >= *ballot
    }
}

/// What a message shows to those who look for one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Traits {
    /// Its kind.
    pub kind: MessageKind,
    /// Its partition, if it is about one.
    pub partition: Option<PartitionId>,
    /// The ballot that it is of.
    pub ballot: Option<Ballot>,
}

impl Traits {
    /// Those of a message.
    pub fn of(message: &Message) -> Self {
        let plain = |kind| Self { kind, partition: None, ballot: None };
        match message {
            Message::Join { .. } => plain(MessageKind::Join),
            Message::Table(_) => plain(MessageKind::Table),
            Message::HeartbeatRequest { .. } => plain(MessageKind::HeartbeatRequest),
            Message::HeartbeatReply { .. } => plain(MessageKind::HeartbeatReply),
            Message::Forward { .. } => plain(MessageKind::Forward),
            Message::Forwarded { .. } => plain(MessageKind::Forwarded),
            Message::Leading { partition, ballot } => {
                Self { kind: MessageKind::Leading, partition: Some(*partition), ballot: Some(*ballot) }
            }
            Message::Group { partition, message } => {
                let (kind, ballot) = in_group(message);
                Self { kind, partition: Some(*partition), ballot: Some(ballot) }
            }
        }
    }
}

fn in_group(message: &GroupMessage) -> (MessageKind, Ballot) {
    use MessageKind as Kind;
    match *message {
        GroupMessage::Prepare { ballot, .. } => (Kind::Prepare, ballot),
        GroupMessage::Promise { ballot, .. } => (Kind::Promise, ballot),
        GroupMessage::AcceptSync { ballot, .. } => (Kind::AcceptSync, ballot),
        GroupMessage::Accept { ballot, .. } => (Kind::Accept, ballot),
        GroupMessage::Accepted { ballot, .. } => (Kind::Accepted, ballot),
        GroupMessage::Decide { ballot, .. } => (Kind::Decide, ballot),
        GroupMessage::PrepareReq { promised } => (Kind::PrepareReq, promised),
        GroupMessage::Nack { promised } => (Kind::Nack, promised),
        GroupMessage::LeaseNack { ballot, .. } => (Kind::LeaseNack, ballot),
        GroupMessage::LeaseExtend { ballot, .. } => (Kind::LeaseExtend, ballot),
        GroupMessage::LeaseGranted { ballot, .. } => (Kind::LeaseGranted, ballot),
        GroupMessage::LeaseRelease { ballot } => (Kind::LeaseRelease, ballot),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_recognised_by_all_that_is_said_of_it() {
        let happening = |from, ballot, partition| Happening::Message {
            kind: MessageKind::Nack,
            from,
            to: Some(2),
            ballot,
            partition,
        };
        let promised = Ballot { number: 2, ..Ballot::BOTTOM };
        let message = Message::Group { partition: 1, message: GroupMessage::Nack { promised } };
        assert!(happening(None, 2, Some(1)).is_message(1, 2, &message));
        assert!(happening(Some(1), 0, None).is_message(1, 2, &message));
        assert!(!happening(None, 2, Some(1)).is_message(1, 3, &message), "another receiver");
        assert!(!happening(Some(3), 2, Some(1)).is_message(1, 2, &message), "another sender");
        assert!(!happening(None, 3, Some(1)).is_message(1, 2, &message), "a lower ballot");
        assert!(!happening(None, 2, Some(2)).is_message(1, 2, &message), "another partition");
        assert!(!happening(None, 0, None).is_message(1, 2, &Message::Join { disk: 0 }), "another kind");
    }
}
