//! What all faults in effect come to together.
//!
//! Each fault claims something for as long as it lasts: that a node is down, that a link is held. The world is what
//! all claims together ask for, so that faults may overlap and end in any order: what one of them frees, another may still
//! hold. Real runs and simulated ones share this; they differ in how they bring the world about.

use std::collections::{BTreeMap, BTreeSet};

use store::{api::NodeId, config::ClockSkew, node::control::DiskFault};

use super::{
    LATE, late_effect,
    shapes::{Ground, links},
};
use crate::{
    plan::Plan,
    proxy::{Conditions, Link},
    workload::{ClockChange, FaultAction, FaultSpec, LinkRule, Shape, Time},
};

/// A fault that has begun.
#[derive(Clone, Debug, PartialEq)]
pub struct Active {
    /// What was asked for.
    pub spec: FaultSpec,
    /// Its place in the plan's list of faults, from 1; none: a step asked for it.
    pub planned: Option<u64>,
    /// The nodes that its target came down to.
    pub nodes: Vec<NodeId>,
    /// The nodes that its peer came down to.
    pub peers: Vec<NodeId>,
    /// All nodes, in the order in which it chooses among them.
    pub order: Vec<NodeId>,
    /// How many clients there are; they are numbered from 1.
    pub clients: u64,
}

/// What a fault asks for while it lasts.
#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    /// These nodes are dead.
    Down(Vec<NodeId>),
    /// These nodes stand still.
    Paused(Vec<NodeId>),
    /// These nodes' disks are like this.
    Disk(Vec<NodeId>, DiskFault),
    /// These nodes' clocks have changed.
    Clock(Vec<NodeId>, ClockChange),
    /// This happens to these links.
    Links(Vec<Link>, LinkRule),
}

/// The effects of all faults, by their numbers.
#[derive(Clone, Debug, Default)]
pub struct Effects {
    /// What links are like without faults, where they are not open.
    base: BTreeMap<Link, Conditions>,
    all: BTreeMap<u64, Effect>,
    /// Those of permanent faults, which nothing outweighs.
    permanent: BTreeSet<u64>,
}

impl Active {
    /// What it asks for after so many of its periods; none: nothing that lasts, or it has come to its end.
    pub fn effect(&self, tick: u64) -> Option<Effect> {
        let nodes = self.nodes.clone();
        match &self.spec.action {
            FaultAction::Kill(_) => Some(Effect::Down(nodes)),
            FaultAction::Pause => Some(Effect::Paused(nodes)),
            FaultAction::StallDisk { slow } => {
                let slow_ms = slow.map_or(0, |slow| slow.0.as_millis() as u64);
                Some(Effect::Disk(nodes, DiskFault { stalled: slow.is_none(), slow_ms }))
            }
            FaultAction::Clock(change) => Some(Effect::Clock(nodes, *change)),
            FaultAction::Links { shape, rule } => {
                links(shape, self.ground(), tick).map(|links| Effect::Links(links, rule.clone()))
            }
            FaultAction::Wipe
            | FaultAction::Restart
            | FaultAction::Resume
            | FaultAction::Release
            | FaultAction::Reset
            | FaultAction::TransferLeader { .. }
            | FaultAction::Heal => None,
        }
    }

    /// Whether it is over as soon as it has begun: it leaves nothing behind that could be undone, or it found nobody.
    pub fn is_instant(&self) -> bool {
        self.nodes.is_empty() || self.effect(0).is_none()
    }

    /// From one change of its links to the next; none: they stay as they are.
    pub fn period(&self) -> Option<Time> {
        match self.spec.action {
            FaultAction::Links { shape: Shape::Swizzle { period } | Shape::Flap { period }, .. } => {
                Some(period)
            }
            _ => None,
        }
    }

    /// Whether it leaves its nodes outside of the core that must make progress. A node that lost its disk never comes back.
    pub fn leaves_outside(&self) -> bool {
        self.spec.permanent || self.spec.action == FaultAction::Wipe
    }

    /// Whether a final heal ends it. A clock that has jumped for good does not jump back: that would be another fault.
    pub fn heals(&self) -> bool {
        let jump = matches!(self.spec.action, FaultAction::Clock(ClockChange::Offset { .. }));
        !self.spec.permanent && (!jump || self.spec.lasts.is_some())
    }

    /// What it chooses its links among.
    pub fn ground(&self) -> Ground<'_> {
        Ground { target: &self.nodes, peers: &self.peers, order: &self.order, clients: self.clients }
    }

    /// The nodes that it is recorded with.
    pub fn touched(&self) -> Vec<NodeId> {
        match &self.spec.action {
            FaultAction::Links { .. } if self.nodes.is_empty() => Vec::new(),
            FaultAction::Links { shape, .. } => super::shapes::touched(shape, self.ground()),
            _ => self.nodes.clone(),
        }
    }
}

impl Effects {
    /// Those of the beginning: the delays that the plan gives to links, and what keeps late nodes away.
    pub fn new(plan: &Plan) -> Self {
        let nodes = plan.node_ids();
        let pairs = nodes.iter().flat_map(|from| nodes.iter().map(move |to| (*from, *to)));
        let delays = pairs.filter(|(from, to)| from != to).filter_map(|(from, to)| {
            Some((Link::between(from, to), Conditions::from(plan.network.of(from, to)?)))
        });
        let mut effects = Self { base: delays.collect(), ..Self::default() };
        effects.set(LATE, late_effect(plan));
        effects
    }

    /// A fault asks for this from now on.
    pub fn set(&mut self, fault: u64, effect: Effect) {
        self.all.insert(fault, effect);
    }

    /// What a fault asks for is permanent.
    pub fn keep(&mut self, fault: u64) {
        self.permanent.insert(fault);
    }

    fn passing(&mut self) -> impl Iterator<Item = &mut Effect> {
        let permanent = &self.permanent;
        self.all.iter_mut().filter(|(fault, _)| !permanent.contains(fault)).map(|(_, effect)| effect)
    }

    /// A fault asks for nothing any more.
    pub fn remove(&mut self, fault: u64) -> Option<Effect> {
        self.all.remove(&fault)
    }

    /// Nothing keeps these nodes dead any more.
    pub fn let_live(&mut self, nodes: &[NodeId]) {
        for effect in self.passing() {
            if let Effect::Down(down) = effect {
                down.retain(|node| !nodes.contains(node));
            }
        }
    }

    /// Nothing keeps these nodes still any more.
    pub fn let_go_on(&mut self, nodes: &[NodeId]) {
        for effect in self.passing() {
            if let Effect::Paused(paused) = effect {
                paused.retain(|node| !nodes.contains(node));
            }
        }
    }

    /// Whether a node is to be dead.
    pub fn is_down(&self, node: NodeId) -> bool {
        self.all.values().any(|effect| matches!(effect, Effect::Down(nodes) if nodes.contains(&node)))
    }

    /// Whether a node is to stand still.
    pub fn is_paused(&self, node: NodeId) -> bool {
        self.all.values().any(|effect| matches!(effect, Effect::Paused(nodes) if nodes.contains(&node)))
    }

    /// A node's clock, which was `first` without faults.
    pub fn clock(&self, node: NodeId, first: ClockSkew) -> ClockSkew {
        self.all.values().fold(first, |clock, effect| match effect {
            Effect::Clock(nodes, change) if nodes.contains(&node) => change.of(clock),
            _ => clock,
        })
    }

    /// A node's disk: stalled if any fault stalls it, as slow as all of them together make it.
    pub fn disk(&self, node: NodeId) -> DiskFault {
        self.all.values().fold(DiskFault::default(), |disk, effect| match effect {
            Effect::Disk(nodes, fault) if nodes.contains(&node) => {
                DiskFault { stalled: disk.stalled || fault.stalled, slow_ms: disk.slow_ms + fault.slow_ms }
            }
            _ => disk,
        })
    }

    /// What happens to each link: what all faults do to it, added up. A link that is not listed is open.
    pub fn conditions(&self) -> BTreeMap<Link, Conditions> {
        let mut conditions = self.base.clone();
        for (fault, effect) in &self.all {
            let Effect::Links(links, rule) = effect else { continue };
            for link in links {
                *conditions.entry(*link).or_default() += rule.conditions(*fault);
            }
        }
        conditions
    }
}

impl Effect {
    /// The nodes that it is about; none: it is about links.
    pub fn nodes(&self) -> &[NodeId] {
        match self {
            Self::Down(nodes) | Self::Paused(nodes) | Self::Disk(nodes, _) | Self::Clock(nodes, _) => nodes,
            Self::Links(..) => &[],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proxy::Rule;

    fn on(links: &[(u64, u64)], rule: Rule) -> Effect {
        let links = links.iter().map(|(from, to)| Link::between(*from, *to)).collect();
        Effect::Links(links, LinkRule::Rule(rule))
    }

    fn shown(effects: &Effects) -> String {
        let arrow = |(link, conditions): (Link, Conditions)| {
            let (from, to) = link.nodes().expect("between nodes");
            format!("{from}-{to} {:?}", conditions.rule)
        };
        effects.conditions().into_iter().map(arrow).collect::<Vec<_>>().join(", ")
    }

    #[test]
    fn what_one_cut_frees_another_may_still_hold() {
        let mut effects = Effects::default();
        effects.set(1, on(&[(1, 2), (2, 1)], Rule::Hold));
        effects.set(2, on(&[(2, 1), (2, 3)], Rule::Sever));
        assert_eq!(shown(&effects), "1-2 Hold, 2-1 Sever, 2-3 Sever");
        effects.remove(1);
        assert_eq!(shown(&effects), "2-1 Sever, 2-3 Sever");
        effects.set(3, on(&[(2, 1)], Rule::Hold));
        effects.remove(2);
        assert_eq!(shown(&effects), "2-1 Hold");
        effects.remove(3);
        assert_eq!(shown(&effects), "");
    }

    #[test]
    fn a_node_is_down_until_the_last_fault_that_wants_it_so() {
        let mut effects = Effects::default();
        effects.set(1, Effect::Down(vec![1, 2]));
        effects.set(2, Effect::Down(vec![2]));
        effects.remove(1);
        assert!(!effects.is_down(1) && effects.is_down(2));
        effects.let_live(&[2]);
        assert!(!effects.is_down(2), "a restart counts for more");
        effects.set(9, Effect::Down(vec![5]));
        effects.keep(9);
        effects.let_live(&[5]);
        assert!(effects.is_down(5), "but not for more than what is permanent");
        effects.set(3, Effect::Paused(vec![3]));
        effects.set(4, Effect::Paused(vec![3]));
        effects.remove(3);
        assert!(effects.is_paused(3));
        effects.let_go_on(&[3]);
        assert!(!effects.is_paused(3));
    }

    #[test]
    fn changes_of_a_clock_add_up_and_end_in_any_order() {
        let first = ClockSkew { rate_ppm: 7, offset_ms: 100 };
        let mut effects = Effects::default();
        effects.set(1, Effect::Clock(vec![1], ClockChange::Rate { ppm: 1000 }));
        effects.set(2, Effect::Clock(vec![1], ClockChange::Offset { ms: 50 }));
        effects.set(3, Effect::Clock(vec![1, 2], ClockChange::Freeze));
        assert_eq!(effects.clock(1, first), ClockSkew { rate_ppm: -1_000_000, offset_ms: 150 });
        effects.remove(3);
        assert_eq!(effects.clock(1, first), ClockSkew { rate_ppm: 1000, offset_ms: 150 });
        effects.remove(1);
        assert_eq!(effects.clock(1, first), ClockSkew { rate_ppm: 7, offset_ms: 150 });
        assert_eq!(effects.clock(2, first), first);
    }

    #[test]
    fn a_disk_is_as_bad_as_all_that_is_wrong_with_it() {
        let slow = |slow_ms| DiskFault { stalled: false, slow_ms };
        let mut effects = Effects::default();
        effects.set(1, Effect::Disk(vec![1], slow(20)));
        effects.set(2, Effect::Disk(vec![1], slow(30)));
        effects.set(3, Effect::Disk(vec![1], DiskFault { stalled: true, slow_ms: 0 }));
        assert_eq!(effects.disk(1), DiskFault { stalled: true, slow_ms: 50 });
        effects.remove(3);
        assert_eq!(effects.disk(1), slow(50));
        assert_eq!(effects.disk(2), DiskFault::default());
    }
}
