//! The eventually perfect failure detector of a node, which carries the heartbeats of all its groups.
//!
//! Every period a node asks every other. Who has not answered any of the last `missed_rounds` requests is suspected
//! (EPFD1, strong completeness); who answers is restored, and a reply that comes after the suspicion lengthens the period
//! (EPFD2, eventual strong accuracy: Cachin, Guerraoui, Rodrigues, section 2.6.5). The period grows to four times the
//! configured one at most, so that leases keep their relation to the election timeout; a network whose delay is beyond
//! that is outside what this detector is accurate for.

use std::{collections::BTreeMap, time::Duration};

use crate::{
    api::NodeId,
    core::{LocalTime, Moment, message::GroupStatus, paxos::Group},
};

const LONGEST_PERIOD: u32 = 4;

/// What a node knows of every other node.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Detector {
    round: u64,
    period: Duration,
    next_period: LocalTime,
    peers: BTreeMap<NodeId, Peer>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
struct Peer {
    /// The newest round that it has answered; 0: none.
    answered: u64,
    groups: Vec<GroupStatus>,
}

impl Detector {
    /// A node that has heard of nobody.
    pub fn new(peers: impl Iterator<Item = NodeId>, moment: Moment<'_>) -> Self {
        Self {
            round: 0,
            period: moment.config.cluster.heartbeat(),
            next_period: moment.now,
            peers: peers.map(|peer| (peer, Peer::default())).collect(),
        }
    }

    /// Begins the next round if it is time; the round to ask all others for.
    pub fn next_round(&mut self, moment: Moment<'_>) -> Option<u64> {
        if moment.now < self.next_period {
            return None;
        }
        self.next_period = moment.now + self.period;
        self.round += 1;
        Some(self.round)
    }

    /// When the next round begins.
    pub fn next_deadline(&self) -> LocalTime {
        self.next_period
    }

    /// A reply to the request of a round.
    pub fn on_reply(&mut self, from: NodeId, round: u64, groups: Vec<GroupStatus>, moment: Moment<'_>) {
        let missed = moment.config.cluster.missed_rounds;
        let Some(peer) = self.peers.get_mut(&from) else { return };
        if round <= peer.answered || round > self.round {
            return;
        }
        if peer.answered > 0 && round + missed < self.round {
            let longest = moment.config.cluster.heartbeat() * LONGEST_PERIOD;
            self.period = (self.period + moment.config.cluster.heartbeat() / 4).min(longest);
        }
        *peer = Peer { answered: round, groups };
    }

    /// Whether a node has answered lately. A node trusts itself.
    pub fn trusts(&self, node: NodeId, moment: Moment<'_>) -> bool {
        node == moment.config.node
            || self
                .peers
                .get(&node)
                .is_some_and(|peer| self.is_recent(peer, moment.config.cluster.missed_rounds))
    }

    /// The nodes that are suspected.
    pub fn suspected(&self, moment: Moment<'_>) -> Vec<NodeId> {
        self.peers.keys().copied().filter(|node| !self.trusts(*node, moment)).collect()
    }

    /// What the trusted replicas of a group said of it last.
    pub fn last_words(&self, group: &Group, moment: Moment<'_>) -> Vec<GroupStatus> {
        group
            .others()
            .filter(|node| self.trusts(*node, moment))
            .filter_map(|node| self.peers.get(&node))
            .filter_map(|peer| peer.groups.iter().find(|status| status.partition == group.partition).copied())
            .collect()
    }

    fn is_recent(&self, peer: &Peer, missed: u64) -> bool {
        peer.answered > 0 && peer.answered + missed >= self.round
    }
}
