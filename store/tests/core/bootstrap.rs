//! How a cluster comes to be: who is entered in its lookup table.

use std::collections::BTreeMap;

use store::core::Node;

use crate::{
    cluster::one_partition,
    world::{Constant, MS, World},
};

/// Two of three nodes are enough to open, but the partition names all three as its replicas: the table waits for the third, so
/// that it names its disk too, and a disk that takes its place has none of its promises.
#[test]
fn a_named_replica_that_joins_late_is_entered_with_its_disk() {
    let mut cluster = one_partition(3);
    cluster.threshold = 2;
    let mut world = World::new(&cluster, 3, &BTreeMap::new(), None, Box::new(Constant));
    world.start(1).expect("it starts");
    world.start(2).expect("it starts");
    world.run(1000 * MS).expect("no invariant breaks");
    assert!(world.node(1).expect("it runs").table().is_none(), "a replica is missing");
    world.start(3).expect("it starts");
    world.run(200 * MS).expect("no invariant breaks");
    for node in world.ids() {
        let lets_in = |disk| world.node(node).is_some_and(|node: &Node| node.accepts_peer(3, disk));
        let members = &world.node(node).expect("it runs").table().expect("the table is made").members;
        assert_eq!(members.len(), 3, "node {node}");
        assert!(lets_in(members[&3]) && !lets_in(members[&3] + 1), "node {node}");
    }
}
