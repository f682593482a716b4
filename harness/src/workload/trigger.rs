//! What brings a fault on, when it is not the clock.

use serde::{Deserialize, Serialize};
use store::{
    api::{Ballot, NodeId, PartitionId},
    core::{Message, message::GroupMessage},
    node::wire::{Kind, Seen},
};

use super::scalar::Time;
use crate::proxy::Match;

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
        /// Who sends it; none: anyone.
        from: Option<NodeId>,
        /// To whom; none: anyone.
        to: Option<NodeId>,
        /// Which.
        matching: Match,
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

impl Happening {
    /// Whether the sending of this message is what is waited for.
    pub fn is_message(&self, sender: NodeId, receiver: NodeId, message: &Message) -> bool {
        let Self::Message { from, to, matching } = self else { return false };
        from.is_none_or(|from| from == sender)
            && to.is_none_or(|to| to == receiver)
            && matching.means(Some(&seen(message)))
    }
}

/// What a message shows to those who look for one.
pub fn seen(message: &Message) -> Seen {
    let plain = |kind| Seen { kind, partition: None, ballot: None };
    match message {
        Message::Join { .. } => plain(Kind::Join),
        Message::Table(_) => plain(Kind::Table),
        Message::HeartbeatRequest { .. } => plain(Kind::HeartbeatRequest),
        Message::HeartbeatReply { .. } => plain(Kind::HeartbeatReply),
        Message::Forward { .. } => plain(Kind::Forward),
        Message::Forwarded { .. } => plain(Kind::Forwarded),
        Message::Leading { partition, ballot } => {
            Seen { kind: Kind::Leading, partition: Some(*partition), ballot: Some(*ballot) }
        }
        Message::Group { partition, message } => {
            let (kind, ballot) = in_group(message);
            Seen { kind, partition: Some(*partition), ballot: Some(ballot) }
        }
    }
}

fn in_group(message: &GroupMessage) -> (Kind, Ballot) {
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
        GroupMessage::TakeOver { ballot } => (Kind::TakeOver, ballot),
        GroupMessage::Trimmed { ballot, .. } => (Kind::Trimmed, ballot),
        GroupMessage::FetchSnapshot { ballot, .. } => (Kind::FetchSnapshot, ballot),
        GroupMessage::SnapshotPiece { ballot, .. } => (Kind::SnapshotPiece, ballot),
        GroupMessage::AcceptedByAll { ballot, .. } => (Kind::AcceptedByAll, ballot),
    }
}

#[cfg(test)]
mod tests {
    use store::node::wire::{encode, peek};

    use super::*;

    #[test]
    fn a_message_is_recognised_by_all_that_is_said_of_it() {
        let happening = |from, ballot, partition| Happening::Message {
            from,
            to: Some(2),
            matching: Match { partition, min_ballot: Some(ballot), ..Match::kind(Kind::Nack) },
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
        assert_eq!(peek(&encode(&message)), Some(seen(&message)), "as the network sees it");
    }
}
