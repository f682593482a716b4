//! Which links are cut: several cuts may be in effect at once, and the rules of the network are composed from all of them.

use std::collections::BTreeMap;

use store::api::NodeId;

use crate::{
    proxy::{Link, Rule},
    workload::{Direction, LinkFault},
};

/// The cuts in effect, by the number of their fault.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cuts(BTreeMap<u64, Cut>);

/// Links between nodes that one fault cuts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cut {
    links: Vec<Link>,
    rule: Rule,
}

impl Cut {
    /// Each of `cut_off` is cut off from every other node.
    pub fn isolate(nodes: &[NodeId], cut_off: &[NodeId], how: LinkFault) -> Self {
        Self::of(nodes, how, |from, to| cut_off.contains(&from) || cut_off.contains(&to))
    }

    /// `side` is cut off from the rest, and stays connected within itself.
    pub fn halves(nodes: &[NodeId], side: &[NodeId], how: LinkFault) -> Self {
        Self::of(nodes, how, |from, to| side.contains(&from) != side.contains(&to))
    }

    /// What `cut_off` send to other nodes is cut, or what other nodes send to them.
    pub fn oneway(nodes: &[NodeId], cut_off: &[NodeId], direction: Direction, how: LinkFault) -> Self {
        Self::of(nodes, how, |from, to| match direction {
            Direction::Out => cut_off.contains(&from),
            Direction::In => cut_off.contains(&to),
        })
    }

    fn of(nodes: &[NodeId], how: LinkFault, is_cut: impl Fn(NodeId, NodeId) -> bool) -> Self {
        let pairs = nodes.iter().flat_map(|from| nodes.iter().map(move |to| (*from, *to)));
        let links = pairs
            .filter(|(from, to)| from != to && is_cut(*from, *to))
            .map(|(from, to)| Link::between(from, to))
            .collect();
        let rule = match how {
            LinkFault::Hold => Rule::Hold,
            LinkFault::Sever => Rule::Sever,
        };
        Self { links, rule }
    }
}

impl Cuts {
    /// A cut comes into effect.
    pub fn add(&mut self, fault: u64, cut: Cut) {
        self.0.insert(fault, cut);
    }

    /// A cut ends; false when there was none.
    pub fn remove(&mut self, fault: u64) -> bool {
        self.0.remove(&fault).is_some()
    }

    /// The rules that all cuts together ask for: a link is open when no cut has it, and severing outweighs holding.
    pub fn rules(&self) -> BTreeMap<Link, Rule> {
        let mut rules = BTreeMap::new();
        for cut in self.0.values() {
            for link in &cut.links {
                let rule = rules.entry(*link).or_insert(cut.rule);
                if cut.rule == Rule::Sever {
                    *rule = Rule::Sever;
                }
            }
        }
        rules
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NODES: [NodeId; 4] = [1, 2, 3, 4];

    fn shown(cuts: &Cuts) -> String {
        let arrow = |(link, rule): (Link, Rule)| match (link.nodes(), rule) {
            (Some((from, to)), Rule::Hold) => format!("{from}-{to}"),
            (Some((from, to)), Rule::Sever) => format!("{from}x{to}"),
            _ => format!("{link:?} {rule:?}"),
        };
        cuts.rules().into_iter().map(arrow).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn an_isolated_node_is_cut_off_in_both_directions() {
        let mut cuts = Cuts::default();
        cuts.add(1, Cut::isolate(&NODES, &[2], LinkFault::Hold));
        assert_eq!(shown(&cuts), "1-2 2-1 2-3 2-4 3-2 4-2");
    }

    #[test]
    fn halves_stay_connected_within() {
        let mut cuts = Cuts::default();
        cuts.add(1, Cut::halves(&NODES, &[1, 2], LinkFault::Hold));
        assert_eq!(shown(&cuts), "1-3 1-4 2-3 2-4 3-1 3-2 4-1 4-2");
    }

    #[test]
    fn a_one_way_cut_leaves_the_way_back() {
        let mut cuts = Cuts::default();
        cuts.add(1, Cut::oneway(&NODES, &[1], Direction::Out, LinkFault::Sever));
        assert_eq!(shown(&cuts), "1x2 1x3 1x4");
        cuts.add(1, Cut::oneway(&NODES, &[1], Direction::In, LinkFault::Hold));
        assert_eq!(shown(&cuts), "2-1 3-1 4-1");
    }

    #[test]
    fn what_one_cut_frees_another_may_still_hold() {
        let mut cuts = Cuts::default();
        cuts.add(1, Cut::isolate(&NODES, &[1], LinkFault::Hold));
        cuts.add(2, Cut::halves(&NODES, &[1, 2], LinkFault::Sever));
        assert_eq!(shown(&cuts), "1-2 1x3 1x4 2-1 2x3 2x4 3x1 3x2 4x1 4x2");
        assert!(cuts.remove(2));
        assert_eq!(shown(&cuts), "1-2 1-3 1-4 2-1 3-1 4-1");
        assert!(cuts.remove(1));
        assert_eq!(shown(&cuts), "");
        assert!(!cuts.remove(1));
    }
}
