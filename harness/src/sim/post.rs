//! The messages between nodes, for those who look at a run that is kept: when each was sent and when it arrived, if it did.

use std::collections::BTreeMap;

use store::{
    api::NodeId,
    core,
    node::wire::{PEEK, encode},
};

use crate::messages::{Fate, Message, Told};

/// The messages in the order in which they were sent; behind them those that arrived twice.
#[derive(Debug, Default)]
pub struct Post {
    sent: Vec<Message>,
    again: Vec<Message>,
    /// How many were sent on each link. Connections are not told apart.
    links: BTreeMap<(NodeId, NodeId), u64>,
}

impl Post {
    /// A message is handed to the network, which numbers all of them from 1.
    pub fn sent(&mut self, now: u64, (from, to): (NodeId, NodeId), message: &core::Message) {
        let frame = encode(message);
        let count = self.links.entry((from, to)).or_default();
        let number = *count;
        *count += 1;
        self.sent.push(Message {
            sent: now,
            from,
            to,
            connection: 0,
            back: false,
            number,
            told: Told::of(&frame[..frame.len().min(PEEK)]),
            fate: Fate::Open,
            fault: None,
            again: false,
        });
    }

    /// The message of this number arrives at a node that lives.
    pub fn arrived(&mut self, now: u64, number: u64) {
        let message = &mut self.sent[number as usize - 1];
        let fate = Fate::Arrived(now);
        if message.fate == Fate::Open {
            message.fate = fate;
        } else {
            self.again.push(Message { fate, again: true, ..message.clone() });
        }
    }

    /// All of them.
    pub(super) fn all(self) -> Vec<Message> {
        let mut all = self.sent;
        all.extend(self.again);
        all
    }
}
