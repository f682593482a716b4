//! Snapshots and trimmed logs: what is kept, who catches up how, and that both stay small.

use store::{
    api::{Key, NodeId, Operation, PartitionStatus},
    config::{ClusterConfig, StorageKind, TrimConfig},
};

use crate::{
    cluster::one_partition,
    world::{Constant, MS, World},
};

fn cluster(nodes: NodeId, snapshot_after_bytes: u64, keep_log_bytes: u64) -> ClusterConfig {
    ClusterConfig { trimming: TrimConfig { snapshot_after_bytes, keep_log_bytes }, ..one_partition(nodes) }
}

fn led(cluster: &ClusterConfig, nodes: NodeId) -> World {
    let mut world = World::new(cluster, nodes, &[].into(), None, Box::new(Constant));
    (1..=nodes).for_each(|node| world.start(node).expect("it starts"));
    let leads = |world: &World| {
        let groups = world.status(nodes).map(|status| status.partitions).unwrap_or_default();
        groups.iter().any(|group| group.role == "leader")
    };
    assert_eq!(world.run_until(2000 * MS, leads), Ok(true), "the highest node leads");
    world
}

fn group(world: &World, node: NodeId) -> PartitionStatus {
    world.status(node).map(|status| status.partitions[0].clone()).expect("it runs")
}

/// Has so many writes of ten keys done, of about 50 bytes each.
fn write(world: &mut World, node: NodeId, times: u64) {
    for number in 0..times {
        let asked = world.ask(node, put(number)).expect("no invariant breaks");
        let done = world.run_until(1000 * MS, |world| world.asked[asked].response.is_some());
        assert_eq!(done, Ok(true));
        assert!(matches!(world.asked[asked].response, Some(Ok(_))), "write {number} is done");
    }
    world.run(200 * MS).expect("no invariant breaks");
}

fn put(number: u64) -> Operation {
    let key = Key::String(format!("key {}", number % 10));
    Operation::Put { key, value: format!("value {number}").into() }
}

fn kept(group: &PartitionStatus) -> u64 {
    group.log_length - group.log_start
}

#[test]
fn a_log_in_use_stays_as_short_as_the_time_between_snapshots() {
    let mut world = led(&cluster(3, 500, 100_000), 3);
    write(&mut world, 3, 300);
    for node in 1..=3 {
        let group = group(&world, node);
        // what lags by a heartbeat period is kept as well
        assert!(kept(&group) < 120 && group.log_length == 300, "{group:?}");
    }
}

/// Nothing is written there, so there is no reason to wait.
#[test]
fn without_a_disk_the_log_is_short() {
    let budgets = cluster(3, 4 << 20, 16 << 20);
    let cluster = ClusterConfig { storage: StorageKind::Memory, heartbeat_ms: 100, ..budgets };
    let mut world = led(&cluster, 3);
    for burst in 0..80 {
        for number in 0..100 {
            world.ask(3, put(burst * 100 + number)).expect("no invariant breaks");
        }
        world.run(2 * MS).expect("no invariant breaks");
    }
    for node in 1..=3 {
        let group = group(&world, node);
        // 16 KiB of entries of about 50 bytes, and what is on its way; a heartbeat period brings 5,000 entries, so that followers
        // hear of one another before
        assert!(group.decided > 7500 && kept(&group) < 1500, "{group:?}");
    }
}

/// Who lags has as long as it takes to the next snapshot: there is nothing else that waits for it.
#[test]
fn without_a_disk_and_a_budget_the_log_is_as_long_as_with_a_disk() {
    let mut world = led(&ClusterConfig { storage: StorageKind::Memory, ..cluster(3, 200_000, 0) }, 3);
    write(&mut world, 3, 1000);
    for node in 1..=3 {
        assert_eq!(group(&world, node).log_start, 0, "some 50 KB");
    }
}

/// A long log goes a thousand entries at a time: also those go for which no write comes any more.
#[test]
fn a_long_log_is_freed_to_its_end() {
    let mut world = led(&cluster(3, 200_000, 0), 3);
    let mut asked = 0;
    while group(&world, 3).log_start == 0 {
        for _ in 0..100 {
            world.ask(3, put(asked)).expect("no invariant breaks");
            asked += 1;
        }
        world.run(5 * MS).expect("no invariant breaks");
        assert!(asked < 10_000, "{:?}", group(&world, 3));
    }
    assert!(asked > 3000 && kept(&group(&world, 3)) > 1000, "{asked}: {:?}", group(&world, 3));
    world.run(1000 * MS).expect("no invariant breaks");
    for node in 1..=3 {
        let group = group(&world, node);
        assert!(group.decided == asked && kept(&group) < 500, "{group:?}");
    }
}

#[test]
fn a_dead_member_stops_no_trimming_and_comes_back() {
    let mut world = led(&cluster(3, 500, 2000), 3);
    write(&mut world, 3, 20);
    world.crash(1);
    write(&mut world, 3, 300);
    for node in 2..=3 {
        let group = group(&world, node);
        // 2000 bytes for node 1, and what has come since the last snapshot
        assert!(kept(&group) >= 30 && kept(&group) < 80, "{group:?}");
    }
    world.start(1).expect("it starts");
    let back = |world: &World| group(world, 1).role == "follower" && group(world, 1).decided == 320;
    assert_eq!(world.run_until(2000 * MS, back), Ok(true), "{:?}", group(&world, 1));
    assert_eq!(world.observer.fetched, 1, "by a snapshot");
}

#[test]
fn a_member_that_lags_within_the_budget_is_sent_the_log() {
    let mut world = led(&cluster(3, 500, 100_000), 3);
    world.crash(1);
    write(&mut world, 3, 300);
    assert_eq!(group(&world, 3).log_start, 0, "all of it is kept");
    world.start(1).expect("it starts");
    let back = |world: &World| group(world, 1).role == "follower" && group(world, 1).decided == 300;
    assert_eq!(world.run_until(2000 * MS, back), Ok(true), "{:?}", group(&world, 1));
    assert_eq!(world.observer.fetched, 0);
}

/// Whatever it takes to send the keys, who fetches catches up: each fetch brings only what has changed since the one before.
#[test]
fn a_member_catches_up_while_writes_go_on() {
    let mut world = led(&cluster(3, 200, 0), 3);
    world.crash(1);
    write(&mut world, 3, 100);
    world.start(1).expect("it starts");
    for number in 0..200 {
        world.ask(3, put(number)).expect("no invariant breaks");
        world.run(2 * MS).expect("no invariant breaks");
    }
    let group = group(&world, 1);
    assert!(group.role == "follower" && group.decided > 290, "{group:?}");
    assert!((1..6).contains(&world.observer.fetched), "{} snapshots", world.observer.fetched);
}
