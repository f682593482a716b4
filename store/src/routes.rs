//! What a client knows of a cluster, and how an operation finds its leader where nodes redirect.
//!
//! Pure, so that real and simulated clients go the same way. Where nodes forward, an operation is asked of one node, once.
//! Where they redirect, a client keeps a map from partition to leader, which takes
//! only higher ballots: what a node says of the leader may be older than what another has said. An operation is asked of
//! one node after another for as long as every answer so far says that it certainly did not happen. Between two pauses no
//! node is asked twice, so a chain of redirects has as many hops as there are nodes at most; how many rounds there are is
//! for the caller's time limit to say.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    time::Duration,
};

use crate::{
    api::{Answer, Ballot, NodeId, PartitionId, StoreError},
    config::RoutingMode,
};

/// What a client knows of its cluster.
#[derive(Clone, Debug)]
pub struct Routes {
    routing: RoutingMode,
    nodes: Vec<NodeId>,
    leaders: BTreeMap<PartitionId, Ballot>,
    /// The highest index of an answer in each partition.
    seen: BTreeMap<PartitionId, u64>,
}

/// Where an operation is asked first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entry {
    /// At this node, whoever leads.
    At(NodeId),
    /// At the leader as far as the client knows; at this node when it knows of none, or when nodes forward.
    Leader(NodeId),
}

/// One operation's way.
#[derive(Clone, Debug)]
pub struct Journey {
    partition: PartitionId,
    node: NodeId,
    /// Nodes that were asked in vain since the last pause.
    tried: BTreeSet<NodeId>,
    trip: Trip,
}

/// What an operation met on its way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Trip {
    /// Times that a node named the leader and the client went there.
    pub redirects: u64,
    /// Times that a node could not be reached.
    pub gone: u64,
    /// Times that a node knew of no leader to go to.
    pub leaderless: u64,
    /// Times that a replica that answers reads itself had not applied as much as the client had seen.
    pub behind: u64,
    /// Times that it was not known whether it had happened, and the client asked again in its session.
    pub unknown: u64,
}

/// Why an operation certainly did not happen at a node, although it may at another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Obstacle {
    /// No connection could be made, so nothing was sent.
    Gone,
    /// The node does not lead the partition; it says who does, if it knows.
    NotLeader(Option<Ballot>),
    /// The replica has not applied as much as the client has seen.
    Behind,
}

/// A client goes on to another node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Detour {
    /// The node that was asked in vain.
    pub from: NodeId,
    /// What happened there.
    pub why: Why,
    /// The node that is asked next.
    pub to: NodeId,
    /// The client waits before it asks: an election may be in progress.
    pub pause: bool,
}

/// What makes a client go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// The node named the leader, to which the client goes.
    Redirected,
    /// The node could not be reached.
    Gone,
    /// The node knows of no leader, or of none that has not been asked in vain.
    Leaderless,
    /// The node has not applied as much as the client has seen.
    Behind,
    /// It may have happened there; a client with a session asks again.
    Unknown,
}

impl Obstacle {
    /// What stands in the way of an operation that was refused, if another node may be asked.
    pub fn of(error: &StoreError) -> Option<Self> {
        match error {
            StoreError::NotLeader { leader, .. } => Some(Self::NotLeader(*leader)),
            // it waited for a leader, in vain
            StoreError::NoLeader { .. } => Some(Self::NotLeader(None)),
            StoreError::Behind { .. } => Some(Self::Behind),
            _ => None,
        }
    }
}

impl Routes {
    /// A client that knows the nodes, and no leader.
    pub fn new(routing: RoutingMode, nodes: impl IntoIterator<Item = NodeId>) -> Self {
        Self { routing, nodes: nodes.into_iter().collect(), leaders: BTreeMap::new(), seen: BTreeMap::new() }
    }

    /// The leader of a partition, as far as the client knows.
    pub fn leader(&self, partition: PartitionId) -> Option<NodeId> {
        self.leaders.get(&partition).map(|ballot| ballot.node)
    }

    /// How long a node may take to accept a connection, of all the time that an operation has: where nodes redirect, enough
    /// is left to ask others.
    pub fn patience(&self, limit: Duration) -> Duration {
        match self.routing {
            RoutingMode::Forward => limit,
            RoutingMode::Redirect => limit / 4,
        }
    }

    /// An operation sets out.
    pub fn begin(&self, partition: PartitionId, entry: Entry) -> Journey {
        let node = match entry {
            Entry::At(node) => node,
            Entry::Leader(node) if self.routing == RoutingMode::Forward => node,
            Entry::Leader(otherwise) => self.leader(partition).unwrap_or(otherwise),
        };
        Journey { partition, node, tried: BTreeSet::new(), trip: Trip::default() }
    }

    /// Takes in who answered, and how much of the log the answer has shown.
    pub fn answered(&mut self, partition: PartitionId, answer: &Answer) {
        let seen = self.seen.entry(partition).or_default();
        *seen = (*seen).max(answer.index);
        if !answer.local {
            self.learn(partition, answer.ballot);
        }
    }

    /// How much of a partition's log the client has seen: no later answer may show it less.
    pub fn seen(&self, partition: PartitionId) -> u64 {
        self.seen.get(&partition).copied().unwrap_or_default()
    }

    /// A leader makes itself known; what is older than what is known changes nothing.
    fn learn(&mut self, partition: PartitionId, ballot: Ballot) {
        let known = self.leaders.entry(partition).or_default();
        *known = (*known).max(ballot);
    }
}

impl Journey {
    /// The node that is asked now.
    pub fn node(&self) -> NodeId {
        self.node
    }

    /// What the operation has met so far.
    pub fn trip(&self) -> Trip {
        self.trip
    }

    /// The operation did not happen at the present node: goes on to the next one. None where nodes forward.
    pub fn go_on(&mut self, obstacle: Obstacle, routes: &mut Routes) -> Option<Detour> {
        if routes.routing == RoutingMode::Forward {
            return None;
        }
        let from = self.node;
        self.tried.insert(from);
        if let Obstacle::NotLeader(Some(ballot)) = obstacle {
            routes.learn(self.partition, ballot);
        }
        let leader = routes.leader(self.partition).filter(|leader| !self.tried.contains(leader));
        let why = match obstacle {
            Obstacle::Gone => Why::Gone,
            Obstacle::NotLeader(Some(ballot)) if leader == Some(ballot.node) => Why::Redirected,
            Obstacle::NotLeader(_) => Why::Leaderless,
            Obstacle::Behind => Why::Behind,
        };
        let to = leader.or_else(|| self.untried(from, routes));
        let pause = to.is_none() || why == Why::Leaderless;
        let to = to.unwrap_or_else(|| {
            self.tried.clear();
            after(from, &routes.nodes).next().unwrap_or(from)
        });
        self.node = to;
        self.trip.count(why);
        Some(Detour { from, why, to, pause })
    }

    /// The same for a client that asks on where nodes forward, too: at the next node, after a pause.
    pub fn go_on_regardless(&mut self, obstacle: Obstacle, routes: &mut Routes) -> Detour {
        let why = match obstacle {
            Obstacle::Gone => Why::Gone,
            Obstacle::NotLeader(_) => Why::Leaderless,
            Obstacle::Behind => Why::Behind,
        };
        self.go_on(obstacle, routes).unwrap_or_else(|| self.next_after_pause(why, routes))
    }

    /// It may have happened at the present node, and the client asks for it again: at the next node, after a pause.
    pub fn ask_again(&mut self, routes: &Routes) -> Detour {
        self.tried.clear();
        self.next_after_pause(Why::Unknown, routes)
    }

    fn next_after_pause(&mut self, why: Why, routes: &Routes) -> Detour {
        let from = self.node;
        let to = after(from, &routes.nodes).next().unwrap_or(from);
        self.node = to;
        self.trip.count(why);
        Detour { from, why, to, pause: true }
    }

    fn untried(&self, from: NodeId, routes: &Routes) -> Option<NodeId> {
        after(from, &routes.nodes).find(|node| !self.tried.contains(node))
    }
}

/// The nodes in their order, from the one behind `node` round to itself.
fn after(node: NodeId, nodes: &[NodeId]) -> impl Iterator<Item = NodeId> {
    let behind = nodes.iter().position(|other| *other == node).map_or(0, |position| position + 1);
    nodes.iter().copied().cycle().skip(behind).take(nodes.len())
}

impl Trip {
    fn count(&mut self, why: Why) {
        let count = match why {
            Why::Redirected => &mut self.redirects,
            Why::Gone => &mut self.gone,
            Why::Leaderless => &mut self.leaderless,
            Why::Behind => &mut self.behind,
            Why::Unknown => &mut self.unknown,
        };
        *count += 1;
    }

    /// True when the first node that was asked answered.
    pub fn is_straight(&self) -> bool {
        *self == Self::default()
    }
}

impl fmt::Display for Trip {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { redirects, gone, leaderless, behind, unknown } = self;
        write!(
            f,
            "redirected {redirects} times, {gone} times a node was gone, {leaderless} times none led, {behind} times a \
             replica was behind"
        )?;
        if *unknown > 0 {
            write!(f, ", {unknown} times the outcome was unknown")?;
        }
        Ok(())
    }
}

impl fmt::Display for Detour {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { from, to, .. } = self;
        match self.why {
            Why::Redirected => write!(f, "node {from} redirected to node {to}"),
            Why::Gone => write!(f, "node {from} is gone, trying node {to}"),
            Why::Leaderless => {
                write!(f, "node {from} knows of no leader, an election may be in progress; trying node {to}")
            }
            Why::Behind => write!(f, "node {from} is behind what was seen, trying node {to}"),
            Why::Unknown => write!(f, "it may have happened at node {from}, asking again at node {to}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ballot(number: u64, node: NodeId) -> Ballot {
        Ballot { config: 0, number, priority: 0, node }
    }

    fn names(number: u64, node: NodeId) -> Obstacle {
        Obstacle::NotLeader(Some(ballot(number, node)))
    }

    fn steps(journey: &mut Journey, routes: &mut Routes, obstacles: &[Obstacle]) -> Vec<(Why, NodeId, bool)> {
        let mut step = |obstacle: &Obstacle| {
            let detour = journey.go_on(*obstacle, routes).expect("nodes redirect");
            (detour.why, detour.to, detour.pause)
        };
        obstacles.iter().map(&mut step).collect()
    }

    #[test]
    fn a_redirect_is_followed_and_remembered() {
        let mut routes = Routes::new(RoutingMode::Redirect, 1..=3);
        let mut journey = routes.begin(1, Entry::Leader(1));
        assert_eq!(steps(&mut journey, &mut routes, &[names(2, 3)]), [(Why::Redirected, 3, false)]);
        assert_eq!(journey.trip(), Trip { redirects: 1, ..Trip::default() });
        assert_eq!(routes.begin(1, Entry::Leader(1)).node(), 3, "the map knows the leader");
        assert_eq!(routes.begin(1, Entry::At(1)).node(), 1, "whoever leads");
        assert_eq!(routes.begin(2, Entry::Leader(1)).node(), 1, "of another partition nothing is known");
    }

    #[test]
    fn the_map_takes_only_higher_ballots() {
        let mut routes = Routes::new(RoutingMode::Redirect, 1..=3);
        routes.learn(1, ballot(5, 2));
        let mut journey = routes.begin(1, Entry::At(1));
        let stale = steps(&mut journey, &mut routes, &[names(4, 3)]);
        assert_eq!(
            stale,
            [(Why::Leaderless, 2, true)],
            "node 1 is behind: node 2 leads, under a higher ballot"
        );
        assert_eq!(routes.leader(1), Some(2));
    }

    #[test]
    fn when_the_leader_is_gone_another_node_tells_of_its_successor() {
        let mut routes = Routes::new(RoutingMode::Redirect, 1..=3);
        routes.learn(1, ballot(1, 2));
        let mut journey = routes.begin(1, Entry::Leader(1));
        let way = steps(&mut journey, &mut routes, &[Obstacle::Gone, names(1, 2), names(2, 1)]);
        assert_eq!(
            way,
            [(Why::Gone, 3, false), (Why::Leaderless, 1, true), (Why::Leaderless, 2, true)],
            "node 3 still names the dead one; node 1 names itself and does not serve; all were asked"
        );
        let way = steps(&mut journey, &mut routes, &[Obstacle::Gone, names(2, 1)]);
        assert_eq!(way, [(Why::Gone, 1, false), (Why::Leaderless, 3, true)]);
        assert_eq!(journey.trip(), Trip { gone: 2, leaderless: 3, ..Trip::default() });
    }

    #[test]
    fn nodes_that_name_one_another_are_asked_once_each_before_a_pause() {
        let mut routes = Routes::new(RoutingMode::Redirect, 1..=4);
        let mut journey = routes.begin(1, Entry::At(1));
        let mut asked = vec![1];
        for number in 1.. {
            let to = journey.node() % 4 + 1;
            let detour = journey.go_on(names(number, to), &mut routes).expect("nodes redirect");
            if detour.pause {
                break;
            }
            asked.push(detour.to);
        }
        assert_eq!(asked, [1, 2, 3, 4], "no hop more than there are nodes");
    }

    #[test]
    fn where_nodes_forward_an_operation_is_asked_once() {
        let mut routes = Routes::new(RoutingMode::Forward, 1..=3);
        routes.learn(1, ballot(1, 2));
        let mut journey = routes.begin(1, Entry::Leader(3));
        assert_eq!(journey.node(), 3, "it will find the leader");
        assert_eq!(journey.go_on(Obstacle::Gone, &mut routes), None);
        assert!(journey.trip().is_straight());
    }

    #[test]
    fn a_client_that_persists_asks_the_next_node_after_a_pause_whatever_nodes_do() {
        let mut routes = Routes::new(RoutingMode::Forward, 1..=3);
        let mut journey = routes.begin(1, Entry::At(3));
        let detour = |from, why, to| Detour { from, why, to, pause: true };
        assert_eq!(journey.ask_again(&routes), detour(3, Why::Unknown, 1));
        assert_eq!(journey.go_on_regardless(Obstacle::Gone, &mut routes), detour(1, Why::Gone, 2));
        assert_eq!(journey.trip(), Trip { unknown: 1, gone: 1, ..Trip::default() });
        let mut routes = Routes::new(RoutingMode::Redirect, 1..=3);
        let mut journey = routes.begin(1, Entry::At(3));
        assert_eq!(journey.ask_again(&routes), detour(3, Why::Unknown, 1));
        let redirected = Detour { from: 1, why: Why::Redirected, to: 3, pause: false };
        let names = names(1, 3);
        assert_eq!(journey.go_on_regardless(names, &mut routes), redirected, "although it was asked before");
    }

    #[test]
    fn only_a_refusal_that_another_node_need_not_repeat_makes_a_detour() {
        let elsewhere = StoreError::NotLeader { partition: 1, leader: None };
        assert_eq!(Obstacle::of(&elsewhere), Some(Obstacle::NotLeader(None)));
        let in_vain = StoreError::NoLeader { partition: 1, waited_ms: 5 };
        assert_eq!(Obstacle::of(&in_vain), Some(Obstacle::NotLeader(None)));
        assert_eq!(Obstacle::of(&StoreError::NotReady { joined: 1, threshold: 3 }), None);
        assert_eq!(
            Obstacle::of(&StoreError::Indefinite { reason: String::new() }),
            None,
            "it may have happened"
        );
    }
}
