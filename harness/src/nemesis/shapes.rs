//! Which links a fault is about, for every shape and every moment of it.

use store::api::NodeId;

use crate::{
    proxy::Link,
    workload::{Direction, Shape},
};

/// The nodes among which a shape is drawn.
#[derive(Clone, Copy, Debug)]
pub struct Ground<'a> {
    /// The nodes that the target came down to.
    pub target: &'a [NodeId],
    /// The nodes that the peer came down to.
    pub peers: &'a [NodeId],
    /// All nodes, in the order in which the fault chooses among them.
    pub order: &'a [NodeId],
    /// How many clients there are.
    pub clients: u64,
}

/// The links of a shape after so many of its periods; none: it has come to its end.
pub fn links(shape: &Shape, ground: Ground<'_>, tick: u64) -> Option<Vec<Link>> {
    let Ground { target, peers, order, clients } = ground;
    let of = |is_cut: &dyn Fn(NodeId, NodeId) -> bool| Some(among(order, is_cut));
    match shape {
        Shape::Between { peer, direction } => {
            let is_peer = |node| peer.is_none() || peers.contains(&node);
            let out = |from, to| target.contains(&from) && is_peer(to);
            of(&|from, to| match direction {
                Direction::Out => out(from, to),
                Direction::In => out(to, from),
                Direction::Both => out(from, to) || out(to, from),
            })
        }
        Shape::Clients { direction } => {
            let pairs = target.iter().flat_map(|node| (1..=clients).map(move |client| (client, *node)));
            let ways = pairs.flat_map(|(client, node)| match direction {
                Direction::In => vec![Link::client(client, node)],
                Direction::Out => vec![Link::answers(node, client)],
                Direction::Both => vec![Link::client(client, node), Link::answers(node, client)],
            });
            Some(ways.collect())
        }
        Shape::Halves => {
            let side = smaller_half(target, order);
            of(&|from, to| side.contains(&from) != side.contains(&to))
        }
        Shape::Split { parts } => {
            let part = |node| order.iter().position(|other| *other == node).unwrap_or(0) as u64 % parts;
            of(&|from, to| part(from) != part(to))
        }
        Shape::MajoritiesRing => {
            let reach = (order.len() / 2).div_ceil(2);
            of(&|from, to| ring_distance(order, from, to) > reach)
        }
        Shape::Bridge => {
            let bridge = &target[..target.len().min(1)];
            let shores: Vec<NodeId> = order.iter().copied().filter(|node| !bridge.contains(node)).collect();
            let (left, right) = shores.split_at(shores.len() / 2);
            of(&|from, to| {
                left.contains(&from) && right.contains(&to) || right.contains(&from) && left.contains(&to)
            })
        }
        Shape::Chain => {
            let row = row_around(target, order);
            let place = |node| row.iter().position(|other| *other == node).unwrap_or(0);
            of(&|from, to| place(from).abs_diff(place(to)) > 1)
        }
        Shape::Swizzle { .. } => {
            let cut_off = swizzled(order, tick as usize)?;
            of(&|from, to| cut_off.contains(&from) || cut_off.contains(&to))
        }
        Shape::Flap { .. } if tick % 2 == 1 => Some(Vec::new()),
        Shape::Flap { .. } => of(&|from, to| target.contains(&from) || target.contains(&to)),
    }
}

/// The nodes that a fault of this shape is recorded with.
pub fn touched(shape: &Shape, ground: Ground<'_>) -> Vec<NodeId> {
    let mut nodes = match shape {
        Shape::Halves => smaller_half(ground.target, ground.order),
        Shape::Split { .. } | Shape::MajoritiesRing | Shape::Swizzle { .. } => ground.order.to_vec(),
        Shape::Chain => row_around(ground.target, ground.order),
        Shape::Between { .. } | Shape::Clients { .. } | Shape::Bridge | Shape::Flap { .. } => {
            ground.target.to_vec()
        }
    };
    nodes.extend(ground.peers.iter().filter(|peer| !ground.target.contains(peer)));
    nodes
}

fn among(order: &[NodeId], is_cut: &dyn Fn(NodeId, NodeId) -> bool) -> Vec<Link> {
    let mut nodes = order.to_vec();
    nodes.sort_unstable();
    let pairs = nodes.iter().flat_map(|from| nodes.iter().map(move |to| (*from, *to)));
    pairs
        .filter(|(from, to)| from != to && is_cut(*from, *to))
        .map(|(from, to)| Link::between(from, to))
        .collect()
}

/// The target and as many more, in `order`, as make the smaller half.
fn smaller_half(target: &[NodeId], order: &[NodeId]) -> Vec<NodeId> {
    let mut side: Vec<NodeId> = target.to_vec();
    for node in order {
        if side.len() < order.len() / 2 && !side.contains(node) {
            side.push(*node);
        }
    }
    side
}

/// The target in the middle of all others.
fn row_around(target: &[NodeId], order: &[NodeId]) -> Vec<NodeId> {
    let mut row: Vec<NodeId> = order.iter().copied().filter(|node| !target.contains(node)).collect();
    let middle = row.len() / 2;
    row.splice(middle..middle, target.iter().copied());
    row
}

/// Steps between two nodes on the ring of all.
fn ring_distance(order: &[NodeId], one: NodeId, other: NodeId) -> usize {
    let place = |node| order.iter().position(|other| *other == node).unwrap_or(0);
    let steps = place(one).abs_diff(place(other));
    steps.min(order.len() - steps)
}

/// Who is cut off after so many changes: first one more at each, in the order, then one fewer, every second one first.
fn swizzled(order: &[NodeId], changes: usize) -> Option<Vec<NodeId>> {
    let all = order.len();
    if changes < all {
        return Some(order[..=changes].to_vec());
    }
    let back = changes - all + 1;
    let healing: Vec<NodeId> =
        order.iter().skip(1).step_by(2).chain(order.iter().step_by(2)).copied().collect();
    (back < all).then(|| healing[back..].to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workload::Target;

    const ORDER: [NodeId; 5] = [3, 5, 1, 4, 2];

    fn shown(shape: &Shape, target: &[NodeId], peers: &[NodeId], order: &[NodeId], tick: u64) -> String {
        let ground = Ground { target, peers, order, clients: 0 };
        let Some(links) = links(shape, ground, tick) else { return "over".to_owned() };
        let arrow = |link: Link| {
            let (from, to) = link.nodes().expect("between nodes");
            format!("{from}-{to}")
        };
        links.into_iter().map(arrow).collect::<Vec<_>>().join(" ")
    }

    fn between(peer: Option<&str>, direction: Direction) -> Shape {
        Shape::Between { peer: peer.map(|peer| peer.parse::<Target>().expect("a target")), direction }
    }

    #[test]
    fn an_isolated_node_is_cut_off_in_both_directions() {
        let isolate = between(None, Direction::Both);
        assert_eq!(shown(&isolate, &[2], &[], &[1, 2, 3, 4], 0), "1-2 2-1 2-3 2-4 3-2 4-2");
    }

    #[test]
    fn a_one_way_cut_leaves_the_way_back() {
        assert_eq!(shown(&between(None, Direction::Out), &[1], &[], &[1, 2, 3], 0), "1-2 1-3");
        assert_eq!(shown(&between(None, Direction::In), &[1], &[], &[1, 2, 3], 0), "2-1 3-1");
    }

    #[test]
    fn a_cut_between_two_leaves_the_others_alone() {
        let cut = |direction| between(Some("node 2"), direction);
        assert_eq!(shown(&cut(Direction::Both), &[1], &[2], &[1, 2, 3], 0), "1-2 2-1");
        assert_eq!(shown(&cut(Direction::Out), &[1], &[2], &[1, 2, 3], 0), "1-2");
        assert_eq!(shown(&cut(Direction::In), &[1], &[2], &[1, 2, 3], 0), "2-1");
    }

    #[test]
    fn clients_ask_one_way_and_are_answered_the_other() {
        let ground = Ground { target: &[2], peers: &[], order: &ORDER, clients: 2 };
        let of = |direction| links(&Shape::Clients { direction }, ground, 0).expect("it begins");
        assert_eq!(of(Direction::In), [Link::client(1, 2), Link::client(2, 2)]);
        assert_eq!(of(Direction::Out), [Link::answers(2, 1), Link::answers(2, 2)]);
        assert_eq!(of(Direction::Both).len(), 4);
    }

    #[test]
    fn halves_stay_connected_within_and_the_smaller_one_holds_the_target() {
        assert_eq!(shown(&Shape::Halves, &[1], &[], &[1, 2, 3, 4], 0), "1-3 1-4 2-3 2-4 3-1 3-2 4-1 4-2");
        assert_eq!(smaller_half(&[3], &[5, 3, 1, 2, 4]), [3, 5]);
        assert_eq!(smaller_half(&[5], &[5, 3, 1, 2, 4]), [5, 3]);
        assert_eq!(smaller_half(&[1], &[1]), [1]);
    }

    #[test]
    fn parts_of_a_split_know_nothing_of_one_another() {
        let split = shown(&Shape::Split { parts: 3 }, &[], &[], &[1, 2, 3, 4], 0);
        assert_eq!(split, "1-2 1-3 2-1 2-3 2-4 3-1 3-2 3-4 4-2 4-3", "1 and 4 stay together");
    }

    /// Whom each node still reaches.
    fn views(shape: &Shape, target: &[NodeId], order: &[NodeId]) -> Vec<Vec<NodeId>> {
        let ground = Ground { target, peers: &[], order, clients: 0 };
        let cut = links(shape, ground, 0).expect("it begins");
        let sees = |node: NodeId| {
            let mut seen: Vec<NodeId> =
                order.iter().copied().filter(|to| !cut.contains(&Link::between(node, *to))).collect();
            seen.sort_unstable();
            seen
        };
        order.iter().map(|node| sees(*node)).collect()
    }

    #[test]
    fn on_a_ring_everyone_sees_a_majority_and_no_two_the_same() {
        for nodes in [5, 7, 9] {
            let order: Vec<NodeId> = (1..=nodes).collect();
            let mut views = views(&Shape::MajoritiesRing, &[], &order);
            assert!(views.iter().all(|view| view.len() as u64 > nodes / 2 && (view.len() as u64) < nodes));
            views.sort();
            views.dedup();
            assert_eq!(views.len() as u64, nodes, "no two see the same");
        }
    }

    #[test]
    fn only_the_bridge_sees_both_shores() {
        let views = views(&Shape::Bridge, &[1], &ORDER);
        assert_eq!(views, [vec![1, 3, 5], vec![1, 3, 5], vec![1, 2, 3, 4, 5], vec![1, 2, 4], vec![1, 2, 4]]);
    }

    #[test]
    fn in_a_chain_everyone_sees_its_neighbours() {
        let views = views(&Shape::Chain, &[2], &ORDER);
        assert_eq!(row_around(&[2], &ORDER), [3, 5, 2, 1, 4]);
        // in the order: 3, 5, 1, 4, 2
        assert_eq!(views, [vec![3, 5], vec![2, 3, 5], vec![1, 2, 4], vec![1, 4], vec![1, 2, 5]]);
    }

    #[test]
    fn a_flap_comes_and_goes() {
        let flap = Shape::Flap { period: crate::workload::Time::default() };
        let shown = |tick| shown(&flap, &[1], &[], &[1, 2], tick);
        assert_eq!([shown(0), shown(1), shown(2)], ["1-2 2-1", "", "1-2 2-1"]);
    }

    #[test]
    fn a_swizzle_takes_all_away_and_brings_all_back() {
        let sizes: Vec<Option<usize>> =
            (0..11).map(|changes| swizzled(&ORDER, changes).map(|cut| cut.len())).collect();
        let full: Vec<Option<usize>> = [1, 2, 3, 4, 5, 4, 3, 2, 1].into_iter().map(Some).collect();
        assert_eq!(sizes[..9], full);
        assert_eq!(sizes[9..], [None, None]);
        assert_eq!(swizzled(&ORDER, 6).expect("on its way"), [3, 1, 2]);
        let swizzle = Shape::Swizzle { period: crate::workload::Time::default() };
        assert_eq!(shown(&swizzle, &[], &[], &ORDER, 9), "over");
    }
}
