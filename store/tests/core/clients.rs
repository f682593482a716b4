//! What a node says to clients when another node leads, and when replicas answer reads themselves.

use std::collections::BTreeMap;

use store::{
    api::{Answer, Key, NodeId, Operation, Outcome, Response, StoreError},
    config::{ReadMode, RoutingMode},
};

use crate::{
    cluster::one_partition,
    world::{Constant, MS, World},
};

/// Three nodes, of which node 3 leads.
fn led(routing: RoutingMode, reads: ReadMode) -> World {
    let mut cluster = one_partition(3);
    (cluster.routing, cluster.reads) = (routing, reads);
    let mut world = World::new(&cluster, 3, &BTreeMap::new(), None, Box::new(Constant));
    for node in world.ids() {
        world.start(node).expect("a first start breaks nothing");
    }
    world.run(600 * MS).expect("the first election");
    assert_eq!(world.status(3).expect("it runs").partitions[0].role, "leader");
    world
}

fn key() -> Key {
    Key::String("x".to_owned())
}

fn get() -> Operation {
    Operation::Get { key: key() }
}

fn put(value: &str) -> Operation {
    Operation::Put { key: key(), value: value.into() }
}

/// What comes back within 20 ms, if something does.
fn ask(world: &mut World, node: NodeId, operation: Operation, seen: u64) -> Option<Response> {
    let number = world.ask_after(node, operation, seen).expect("no invariant breaks");
    world.run(20 * MS).expect("no invariant breaks");
    world.asked[number].response.clone()
}

fn answered(world: &mut World, node: NodeId, operation: Operation, seen: u64) -> Answer {
    ask(world, node, operation, seen).expect("an answer").expect("it is carried out")
}

fn leader_named_by(world: &mut World, node: NodeId, operation: Operation) -> Option<(NodeId, u64)> {
    match ask(world, node, operation, 0) {
        Some(Err(error @ StoreError::NotLeader { partition: 1, leader })) => {
            assert!(error.is_definite());
            leader.map(|ballot| (ballot.node, ballot.number))
        }
        other => panic!("{other:?} is no redirect"),
    }
}

#[test]
fn a_node_that_redirects_names_the_leader_and_hands_nothing_on() {
    let mut world = led(RoutingMode::Redirect, ReadMode::Linearizable);
    let (_, first) = leader_named_by(&mut world, 1, put("refused")).expect("it knows the leader");
    assert_eq!(leader_named_by(&mut world, 2, get()), Some((3, first)));
    let answer = answered(&mut world, 3, get(), 0);
    assert_eq!(answer.outcome, Outcome::Value(None), "what was refused has not happened");
    assert_eq!((answer.ballot.node, answer.ballot.number), (3, first), "the ballot that was named");
    // the leader dies: until another one leads, nobody is named, and nobody is kept waiting
    world.crash(3);
    let suspects = |world: &World| world.status(1).expect("it runs").suspected == [3];
    assert!(world.run_until(1000 * MS, suspects).expect("no invariant breaks"));
    assert_eq!(leader_named_by(&mut world, 1, get()), None);
    world.run(1000 * MS).expect("no invariant breaks");
    let successor = (1..=2).find(|node| world.status(*node).expect("it runs").partitions[0].role == "leader");
    let successor = successor.expect("somebody leads");
    let (named, second) = leader_named_by(&mut world, 3 - successor, get()).expect("it knows the leader");
    assert_eq!(named, successor);
    assert!(second > first, "under a higher ballot");
}

#[test]
fn a_replica_reads_what_it_has_applied_and_no_less_than_its_client_has_seen() {
    let mut world = led(RoutingMode::Forward, ReadMode::Local);
    let written = answered(&mut world, 1, put("one"), 0);
    assert_eq!((written.index, written.version, written.local), (1, 1, false));
    let fast_reads = world.observer.fast_reads;
    for node in 1..=3 {
        let read = answered(&mut world, node, get(), written.index);
        assert_eq!(read.outcome, Outcome::Value(Some("one".into())));
        assert_eq!((read.leader, read.index, read.local, read.fast), (node, 1, true, false));
    }
    // node 1 is cut off: it goes on reading what it has, to those who have seen no more
    for other in [2, 3] {
        world.cut(1, other);
        world.cut(other, 1);
    }
    let newer = answered(&mut world, 3, put("two"), 1);
    let stale = answered(&mut world, 1, get(), 1);
    assert_eq!((stale.outcome, stale.index), (Outcome::Value(Some("one".into())), 1), "not linearizable");
    // who has seen the second write waits there, and is told so in the end
    let number = world.ask_after(1, get(), newer.index).expect("no invariant breaks");
    world.run(990 * MS).expect("no invariant breaks");
    assert_eq!(world.asked[number].response, None);
    world.run(20 * MS).expect("no invariant breaks");
    let behind = StoreError::Behind { partition: 1, applied: 1, seen: 2, waited_ms: 1000 };
    assert!(behind.is_definite());
    assert_eq!(world.asked[number].response, Some(Err(behind)));
    // or is answered when the node has caught up
    let number = world.ask_after(1, get(), newer.index).expect("no invariant breaks");
    world.open_all().expect("no invariant breaks");
    world.run(500 * MS).expect("no invariant breaks");
    let caught_up = world.asked[number].response.clone().expect("an answer").expect("it is read");
    assert_eq!((caught_up.outcome, caught_up.local), (Outcome::Value(Some("two".into())), true));
    assert!(caught_up.index >= newer.index);
    assert_eq!(world.observer.fast_reads, fast_reads, "none of them claims to be fast");
}

/// A node without a replica hands a read to the leader, with what its client has seen; a leader that has not applied as much
/// reads through the log.
#[test]
fn a_leader_that_lags_behind_a_client_reads_through_the_log() {
    let mut world = led(RoutingMode::Forward, ReadMode::Local);
    answered(&mut world, 3, put("one"), 0);
    let read = answered(&mut world, 3, get(), 2);
    assert_eq!((read.index, read.version, read.local, read.fast), (2, 1, false, false));
    assert_eq!(read.outcome, Outcome::Value(Some("one".into())));
}

/// What nobody decides, and what waits for a leader, fills no memory: more is refused, definitely, and taken again later.
#[test]
fn operations_that_cannot_be_carried_out_are_taken_up_to_a_limit_only() {
    let mut world = led(RoutingMode::Forward, ReadMode::Linearizable);
    let long = "x".repeat(4_000_000);
    let refused_of_40 = |world: &mut World, node: NodeId| {
        let first = world.asked.len();
        for _ in 0..40 {
            world.ask(node, put(&long)).expect("no invariant breaks");
        }
        world.run(20 * MS).expect("no invariant breaks");
        let busy = |response: &Option<Response>| match response {
            Some(Err(error @ StoreError::Busy { bytes })) => error.is_definite() && *bytes > 100 << 20,
            _ => false,
        };
        world.asked[first..].iter().filter(|asked| busy(&asked.response)).count()
    };
    for other in [1, 2] {
        world.cut(3, other);
        world.cut(other, 3);
    }
    assert_eq!(refused_of_40(&mut world, 3), 6, "the leader's log has 136 MB that nobody else has");
    world.open_all().expect("no invariant breaks");
    world.run(2000 * MS).expect("no invariant breaks");
    answered(&mut world, 1, put("after it"), 0);
    world.crash(2);
    world.crash(3);
    let alone = |world: &World| world.status(1).expect("it runs").suspected == [2, 3];
    assert!(world.run_until(1000 * MS, alone).expect("no invariant breaks"));
    world.run(1000 * MS).expect("no invariant breaks");
    assert_eq!(
        refused_of_40(&mut world, 1),
        7,
        "who waits for a leader is refused before the limit is passed"
    );
    world.run(2000 * MS).expect("no invariant breaks");
    assert_eq!(refused_of_40(&mut world, 1), 7, "who has waited too long makes room");
}
