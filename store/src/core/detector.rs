//! The eventually perfect failure detector of a node, which carries the heartbeats of all its groups.
//!
//! Every period a node asks every other. Who has not answered any of the last `missed_rounds` requests is suspected
//! (EPFD1, strong completeness); who answers is restored, and a reply that is too late to count when the next round begins
//! lengthens the period (EPFD2, eventual strong accuracy: Cachin, Guerraoui, Rodrigues, section 2.6.5): by one step a period, however many
//! replies a healed link delivers at once. The period grows to four times the configured one at most, so that leases keep
//! their relation to the election timeout; a network whose delay is beyond that is outside what this detector is accurate
//! for.
//!
//! A node says of itself what it found at its last period. Who answers but has asked nothing for long has a clock that stands
//! still: what it says of its leader is from before, and its happiness with that leader, repeated for ever, would keep all
//! others from electing another. So it is not passed on.

use std::{collections::BTreeMap, time::Duration};

use crate::{
    api::NodeId,
    core::{LocalTime, Moment, message::GroupStatus, paxos::Group},
};

/// How many times the configured period, and with it the election timeout, may become.
pub const LONGEST_PERIOD: u32 = 4;

/// What a node knows of every other node.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Detector {
    round: u64,
    period: Duration,
    /// The round in which the period was last lengthened.
    lengthened: u64,
    next_period: LocalTime,
    peers: BTreeMap<NodeId, Peer>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
struct Peer {
    /// The newest round that it has answered; 0: none.
    answered: u64,
    /// The round in which it last asked.
    asked: u64,
    groups: Vec<GroupStatus>,
}

impl Detector {
    /// A node that has heard of nobody.
    pub fn new(peers: impl Iterator<Item = NodeId>, moment: Moment<'_>) -> Self {
        Self {
            round: 0,
            lengthened: 0,
            period: moment.config.cluster.heartbeat(),
            next_period: moment.now,
            peers: peers.map(|peer| (peer, Peer::default())).collect(),
        }
    }

    /// Begins the next round if it is time; the round to ask all others for.
    pub fn next_round(&mut self, moment: Moment<'_>) -> Option<u64> {
        // further away than a period: the clock was set back
        let set_back = self.next_period > moment.now + self.period;
        if moment.now < self.next_period && !set_back {
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

    /// A request of another node.
    pub fn on_request(&mut self, from: NodeId) {
        if let Some(peer) = self.peers.get_mut(&from) {
            peer.asked = self.round;
        }
    }

    /// A reply to the request of a round.
    pub fn on_reply(&mut self, from: NodeId, round: u64, groups: Vec<GroupStatus>, moment: Moment<'_>) {
        let missed = moment.config.cluster.missed_rounds;
        let Some(peer) = self.peers.get_mut(&from) else { return };
        if round <= peer.answered || round > self.round {
            return;
        }
        if peer.answered > 0 && round + missed <= self.round && self.lengthened < self.round {
            self.lengthened = self.round;
            let longest = moment.config.cluster.heartbeat() * LONGEST_PERIOD;
            self.period = (self.period + moment.config.cluster.heartbeat() / 4).min(longest);
        }
        // who has just come back has had no chance to ask: its happiness counts until it has had one
        let restored = peer.answered == 0 || peer.answered + missed < self.round;
        let asked = if restored { self.round } else { peer.asked };
        *peer = Peer { answered: round, asked, groups };
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

    /// What the trusted replicas of a group said of it last; they are happy only if their clocks go on.
    pub fn last_words(&self, group: &Group, moment: Moment<'_>) -> Vec<GroupStatus> {
        // a peer's period may be the longest one while this node's is the shortest, and one request more be under way
        let patience = (moment.config.cluster.missed_rounds + 1) * u64::from(LONGEST_PERIOD);
        let words = |peer: &Peer| {
            let said = peer.groups.iter().find(|status| status.partition == group.partition)?;
            Some(GroupStatus { happy: said.happy && peer.asked + patience >= self.round, ..*said })
        };
        group
            .others()
            .filter(|node| self.trusts(*node, moment))
            .filter_map(|node| self.peers.get(&node))
            .filter_map(words)
            .collect()
    }

    fn is_recent(&self, peer: &Peer, missed: u64) -> bool {
        peer.answered > 0 && peer.answered + missed >= self.round
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        api::{Ballot, KeyType},
        config::{
            ClusterConfig, Partitioning, ReadMode, RoutingMode, SESSION_IDLE_MS, StorageKind, TrimConfig,
        },
        core::Config,
    };

    const PERIOD: u64 = 10_000_000;

    fn config() -> Config {
        let cluster = ClusterConfig {
            name: "detector".to_owned(),
            key_type: KeyType::Integer,
            partitioning: Partitioning::Range,
            partitions: Vec::new(),
            threshold: 2,
            heartbeat_ms: 10,
            missed_rounds: 3,
            lease: None,
            request_timeout_ms: 100,
            session_idle_ms: SESSION_IDLE_MS,
            storage: StorageKind::Memory,
            routing: RoutingMode::Forward,
            reads: ReadMode::Linearizable,
            trimming: TrimConfig::default(),
            preset: Vec::new(),
        };
        Config { node: 1, nodes: vec![1, 2], disk: 1, boot: 1, cluster, mutant: None, traced: false }
    }

    /// The rounds that begin until a moment, each at its time.
    fn rounds_until(detector: &mut Detector, config: &Config, end: u64) -> u64 {
        let mut round = 0;
        while detector.next_deadline().0 <= end {
            let now = detector.next_deadline();
            round = detector.next_round(Moment { config, now }).expect("its time has come");
        }
        round
    }

    #[test]
    fn epfd1_a_node_that_stops_answering_is_suspected_and_epfd2_restored_when_it_answers() {
        let config = config();
        let moment = Moment { config: &config, now: LocalTime(0) };
        let mut detector = Detector::new([2].into_iter(), moment);
        let first = detector.next_round(moment).expect("the first round");
        detector.on_reply(2, first, Vec::new(), moment);
        assert!(detector.suspected(moment).is_empty());
        let last = rounds_until(&mut detector, &config, 4 * PERIOD);
        assert_eq!(detector.suspected(moment), [2]);
        detector.on_reply(2, last, Vec::new(), moment);
        assert!(detector.suspected(moment).is_empty());
    }

    #[test]
    fn epfd2_late_replies_lengthen_the_period_by_one_step_however_many_come_at_once() {
        let config = config();
        let moment = Moment { config: &config, now: LocalTime(0) };
        let mut detector = Detector::new([2].into_iter(), moment);
        let first = detector.next_round(moment).expect("the first round");
        detector.on_reply(2, first, Vec::new(), moment);
        let last = rounds_until(&mut detector, &config, 40 * PERIOD);
        for round in first + 1..=last {
            detector.on_reply(2, round, Vec::new(), moment);
        }
        assert_eq!(detector.period, Duration::from_nanos(PERIOD + PERIOD / 4));
    }

    #[test]
    fn ble1_the_happiness_of_a_peer_whose_clock_stands_still_is_not_passed_on() {
        let config = config();
        let moment = Moment { config: &config, now: LocalTime(0) };
        let group = Group { node: 1, replicas: vec![1, 2], partition: 1, half: false };
        let happy = GroupStatus {
            partition: 1,
            ballot: Ballot::BOTTOM,
            leader: Ballot::BOTTOM,
            happy: true,
            leading: false,
            decided: 0,
        };
        let mut detector = Detector::new([2].into_iter(), moment);
        let mut answered = |asks: bool, periods: u64| {
            for period in 0..periods {
                let now = detector.next_deadline();
                let moment = Moment { config: &config, now };
                let round = detector.next_round(moment).expect("its time has come");
                if asks && period % 4 == 0 {
                    detector.on_request(2);
                }
                detector.on_reply(2, round, vec![happy], moment);
            }
            detector.last_words(&group, moment).first().map(|words| words.happy)
        };
        assert_eq!(answered(true, 40), Some(true), "however slow it is");
        assert_eq!(answered(false, 8), Some(true), "for a while");
        assert_eq!(answered(false, 8), Some(false));
        assert_eq!(answered(true, 1), Some(true));
    }

    /// Otherwise a node that was cut off for long would depose a leader that all the others see.
    #[test]
    fn who_has_just_come_back_is_believed_until_it_has_had_time_to_ask() {
        let config = config();
        let moment = Moment { config: &config, now: LocalTime(0) };
        let group = Group { node: 1, replicas: vec![1, 2], partition: 1, half: false };
        let (ballot, leader) = (Ballot::BOTTOM, Ballot::BOTTOM);
        let happy = GroupStatus { partition: 1, ballot, leader, happy: true, leading: false, decided: 0 };
        let mut detector = Detector::new([2].into_iter(), moment);
        let first = detector.next_round(moment).expect("the first round");
        detector.on_reply(2, first, vec![happy], moment);
        let last = rounds_until(&mut detector, &config, 40 * PERIOD);
        detector.on_reply(2, last, vec![happy], moment);
        assert!(detector.last_words(&group, moment)[0].happy);
    }

    #[test]
    fn a_clock_that_was_set_back_does_not_stop_the_rounds() {
        let config = config();
        let late = Moment { config: &config, now: LocalTime(1000 * PERIOD) };
        let mut detector = Detector::new([2].into_iter(), late);
        assert_eq!(detector.next_round(late), Some(1));
        let set_back = Moment { config: &config, now: LocalTime(10 * PERIOD) };
        assert_eq!(detector.next_round(set_back), Some(2));
        assert_eq!(detector.next_round(set_back), None, "the next one a period later");
    }
}
