//! Whom a target comes down to, given who is what at that moment.

use std::collections::BTreeMap;

use store::api::{NodeId, PartitionId};

use crate::workload::Target;

/// Who is what at one moment, as far as a target asks for it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Scene {
    /// The leader of each partition that has one.
    pub leaders: BTreeMap<PartitionId, NodeId>,
    /// The replicas of each partition that are known.
    pub groups: BTreeMap<PartitionId, BTreeMap<NodeId, Member>>,
    /// Who answered which step.
    pub answered: BTreeMap<String, NodeId>,
}

/// A replica of a partition.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Member {
    /// It holds the partition's lease.
    pub holds: bool,
    /// Entries that it knows to be decided; none: it does not say.
    pub decided: Option<u64>,
}

impl Scene {
    /// The nodes that a target comes down to; none when the role is vacant. `order` decides among several, and where one of
    /// several is wanted, only those count that are `fit`.
    pub fn resolve(&self, target: &Target, order: &[NodeId], fit: impl Fn(NodeId) -> bool) -> Vec<NodeId> {
        let first = |nodes: Vec<NodeId>| nodes.into_iter().find(|node| fit(*node)).into_iter().collect();
        match target {
            Target::Node(node) => vec![*node],
            Target::Nodes(nodes) => nodes.clone(),
            Target::All => {
                let mut all = order.to_vec();
                all.sort_unstable();
                all
            }
            Target::Random => first(order.to_vec()),
            Target::Leader(partition) => self.leaders.get(partition).copied().into_iter().collect(),
            Target::LeaseHolder(partition) => {
                let holder = self.group(*partition).find(|(_, member)| member.holds);
                holder.map(|(node, _)| node).into_iter().collect()
            }
            Target::Follower(partition) => first(self.followers(*partition, order)),
            Target::Followers(partition) => self.followers(*partition, order),
            Target::Lagging(partition) => {
                let followers = self.followers(*partition, order);
                let decided = |node: &NodeId| {
                    self.group(*partition).find(|(member, _)| member == node).and_then(|(_, of)| of.decided)
                };
                let known = followers.iter().filter_map(|node| Some((decided(node)?, *node)));
                // among equals the order decides
                known.min_by_key(|(decided, _)| *decided).map(|(_, node)| node).into_iter().collect()
            }
            Target::Minority(of) => {
                let all = self.crowd(*of, order);
                all[..all.len().saturating_sub(1) / 2].to_vec()
            }
            Target::Majority(of) => {
                let all = self.crowd(*of, order);
                let many = if all.is_empty() { 0 } else { all.len() / 2 + 1 };
                all[..many].to_vec()
            }
            Target::Answered(step) => self.answered.get(step).copied().into_iter().collect(),
        }
    }

    /// A follower needs a leader: without one, there are no followers either.
    fn followers(&self, partition: PartitionId, order: &[NodeId]) -> Vec<NodeId> {
        let Some(leader) = self.leaders.get(&partition) else { return Vec::new() };
        self.crowd(Some(partition), order).into_iter().filter(|node| node != leader).collect()
    }

    /// The replicas of a partition, or all nodes, in the order.
    fn crowd(&self, partition: Option<PartitionId>, order: &[NodeId]) -> Vec<NodeId> {
        match partition {
            None => order.to_vec(),
            Some(partition) => {
                let of_group = |node: &&NodeId| self.group(partition).any(|(member, _)| member == **node);
                order.iter().filter(of_group).copied().collect()
            }
        }
    }

    fn group(&self, partition: PartitionId) -> impl Iterator<Item = (NodeId, Member)> + '_ {
        self.groups.get(&partition).into_iter().flatten().map(|(node, member)| (*node, *member))
    }
}

/// Whether waiting cannot bring anyone into this role.
pub fn is_fixed(target: &Target) -> bool {
    matches!(target, Target::Node(_) | Target::Nodes(_) | Target::All | Target::Answered(_))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ORDER: [NodeId; 5] = [4, 2, 5, 1, 3];

    fn scene() -> Scene {
        let member = |decided, holds| Member { holds, decided };
        let group = [
            (1, member(Some(9), false)),
            (2, member(Some(7), false)),
            (3, member(Some(9), true)),
            (4, member(None, false)),
        ];
        Scene {
            leaders: BTreeMap::from([(1, 3)]),
            groups: BTreeMap::from([(1, BTreeMap::from(group))]),
            answered: BTreeMap::from([("write".to_owned(), 5)]),
        }
    }

    fn resolved(target: &str) -> Vec<NodeId> {
        scene().resolve(&target.parse().expect("a target"), &ORDER, |node| node != 4)
    }

    #[test]
    fn every_target_comes_down_to_whom_it_says() {
        assert_eq!(resolved("node 4"), [4]);
        assert_eq!(resolved("nodes 4, 1"), [4, 1]);
        assert_eq!(resolved("all"), [1, 2, 3, 4, 5]);
        assert_eq!(resolved("random"), [2], "node 4 is not fit");
        assert_eq!(resolved("one"), [2]);
        assert_eq!(resolved("leader(1)"), [3]);
        assert_eq!(resolved("lease-holder(1)"), [3]);
        assert_eq!(resolved("follower(1)"), [2]);
        assert_eq!(resolved("followers(1)"), [4, 2, 1]);
        assert_eq!(resolved("lagging(1)"), [2]);
        assert_eq!(resolved("minority"), [4, 2]);
        assert_eq!(resolved("majority"), [4, 2, 5]);
        assert_eq!(resolved("minority(1)"), [4], "one of four");
        assert_eq!(resolved("majority(1)"), [4, 2, 1], "three of four");
        assert_eq!(resolved("answered(write)"), [5]);
    }

    #[test]
    fn a_vacant_role_is_nobody() {
        for target in
            ["leader(2)", "lease-holder(2)", "follower(2)", "lagging(2)", "majority(2)", "answered(x)"]
        {
            assert_eq!(resolved(target), Vec::<NodeId>::new(), "{target}");
        }
    }
}
