//! Who leads each partition, as far as the nodes have said.

use std::collections::BTreeMap;

use store::{
    api::{Ballot, NodeId, PartitionId},
    node::control::Notice,
};

/// What the nodes' notices say about leadership.
#[derive(Debug, Default)]
pub struct Leaders(BTreeMap<PartitionId, Leadership>);

#[derive(Debug, Default)]
struct Leadership {
    /// Ballots that a living node leads and has not stepped down from. After a partition of the network there can be
    /// several: a deposed leader does not know yet.
    current: BTreeMap<Ballot, NodeId>,
    /// Every ballot that was ever led, and since when.
    led: BTreeMap<Ballot, u64>,
}

impl Leaders {
    /// `node` said so at that time.
    pub fn record(&mut self, at: u64, node: NodeId, notice: &Notice) {
        match *notice {
            Notice::Leading { partition, ballot } => {
                let leadership = self.0.entry(partition).or_default();
                leadership.current.insert(ballot, node);
                leadership.led.entry(ballot).or_insert(at);
            }
            Notice::SteppedDown { partition, ballot } => {
                self.0.entry(partition).or_default().current.remove(&ballot);
            }
            Notice::Listening { .. } | Notice::Open { .. } | Notice::Done { .. } | Notice::GaveUp { .. } => {}
        }
    }

    /// The process of `node` ended: it leads nothing.
    pub fn ended(&mut self, node: NodeId) {
        for leadership in self.0.values_mut() {
            leadership.current.retain(|_, leader| *leader != node);
        }
    }

    /// The highest ballot that is led, and who leads it.
    pub fn leader(&self, partition: PartitionId) -> Option<(NodeId, Ballot)> {
        self.0.get(&partition)?.highest()
    }

    /// The leader of each partition that has one.
    pub fn all(&self) -> BTreeMap<PartitionId, (NodeId, Ballot)> {
        let leader = |(partition, leadership): (&PartitionId, &Leadership)| {
            leadership.highest().map(|leader| (*partition, leader))
        };
        self.0.iter().filter_map(leader).collect()
    }

    /// Ballots that were led after the first, by partition.
    pub fn changes(&self) -> BTreeMap<PartitionId, u64> {
        self.change_times().into_iter().map(|(partition, times)| (partition, times.len() as u64)).collect()
    }

    /// When each partition's leadership passed to another ballot, in the order of ballots.
    pub fn change_times(&self) -> BTreeMap<PartitionId, Vec<u64>> {
        let times = |leadership: &Leadership| leadership.led.values().skip(1).copied().collect();
        self.0.iter().map(|(partition, leadership)| (*partition, times(leadership))).collect()
    }
}

impl Leadership {
    fn highest(&self) -> Option<(NodeId, Ballot)> {
        self.current.last_key_value().map(|(ballot, node)| (*node, *ballot))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ballot(number: u64, node: NodeId) -> Ballot {
        Ballot { number, node, ..Ballot::BOTTOM }
    }

    fn leading(number: u64, node: NodeId) -> Notice {
        Notice::Leading { partition: 1, ballot: ballot(number, node) }
    }

    #[test]
    fn the_highest_ballot_leads_until_it_steps_down() {
        let mut leaders = Leaders::default();
        assert_eq!(leaders.leader(1), None);
        leaders.record(10, 2, &leading(1, 2));
        leaders.record(20, 3, &leading(2, 3));
        assert_eq!(leaders.leader(1), Some((3, ballot(2, 3))));
        leaders.record(30, 3, &Notice::SteppedDown { partition: 1, ballot: ballot(2, 3) });
        assert_eq!(leaders.leader(1), Some((2, ballot(1, 2))), "node 2 never stepped down");
        assert_eq!(leaders.changes(), BTreeMap::from([(1, 1)]));
        assert_eq!(leaders.change_times(), BTreeMap::from([(1, vec![20])]));
    }

    #[test]
    fn a_dead_node_leads_nothing() {
        let mut leaders = Leaders::default();
        leaders.record(10, 1, &leading(1, 1));
        leaders.ended(1);
        assert_eq!(leaders.all(), BTreeMap::new());
        assert_eq!(leaders.changes(), BTreeMap::from([(1, 0)]));
    }
}
