//! The messages between nodes, for those who look at a run that is kept: when each was sent and when it arrived, if it did.

use store::{api::NodeId, core::Message};

use crate::{recorded::messages, workload::seen};

/// The messages in the order in which they were sent; behind them those that arrived twice.
#[derive(Debug, Default)]
pub struct Post {
    sent: Vec<messages::Message>,
    again: Vec<messages::Message>,
}

impl Post {
    /// A message is handed to the network, which numbers all of them from 1.
    pub fn sent(&mut self, now: u64, (from, to): (NodeId, NodeId), message: &Message) {
        let seen = seen(message);
        let ballot = seen.ballot.map(|ballot| format!(" {ballot}")).unwrap_or_default();
        let kind = format!("{:?}", seen.kind);
        self.sent.push(messages::Message {
            sent: now,
            arrived: None,
            from,
            to,
            partition: seen.partition,
            text: format!("{kind}{ballot}"),
        });
    }

    /// The message of this number arrives at a node that lives.
    pub fn arrived(&mut self, now: u64, number: u64) {
        let message = &mut self.sent[number as usize - 1];
        if message.arrived.is_none() {
            message.arrived = Some(now);
        } else {
            self.again.push(messages::Message { arrived: Some(now), ..message.clone() });
        }
    }

    /// All of them.
    pub fn all(self) -> Vec<messages::Message> {
        let mut all = self.sent;
        all.extend(self.again);
        all
    }
}
