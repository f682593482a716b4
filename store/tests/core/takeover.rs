//! What could keep a leader from coming to lead, or a follower from being brought up to date, for longer than its cause.

use std::collections::BTreeMap;

use store::{
    api::{Key, NodeId, Operation},
    core::trace::TraceEvent,
};

use crate::{
    cluster::one_partition,
    telling::name,
    world::{Constant, Delays, MS, World},
};

fn put(value: &str) -> Operation {
    Operation::Put { key: Key::String("x".to_owned()), value: value.into() }
}

/// Three nodes that have just started.
fn started(lease: bool, delays: Box<dyn Delays>) -> World {
    let mut cluster = one_partition(3);
    if !lease {
        cluster.lease = None;
    }
    let mut world = World::new(&cluster, 3, &BTreeMap::new(), None, delays);
    for node in world.ids() {
        world.start(node).expect("a first start breaks nothing");
    }
    world
}

fn role(world: &World, node: NodeId) -> String {
    world.status(node).expect("it runs").partitions[0].role.clone()
}

/// Its heartbeats would keep the others from trying for as long as it does.
#[test]
fn a_leader_that_gets_no_promises_gives_up() {
    let mut world = started(true, Box::new(Constant));
    world.run(600 * MS).expect("the first election");
    world.crash(3);
    world.mute(1, 2, "Promise", true);
    world.run_until(600 * MS, |world| role(world, 2) == "preparing").expect("no invariant breaks");
    let began = world.now;
    // the longest refusal, 306 ms, and two election timeouts
    world.run(900 * MS).expect("no invariant breaks");
    assert_eq!(role(&world, 2), "preparing");
    let spent = world.status(2).expect("it runs").partitions[0].elected;
    world.run_until(100 * MS, |world| role(world, 2) != "preparing").expect("no invariant breaks");
    assert!(world.now - began < 910 * MS, "after {} ms", (world.now - began) / MS);
    // once promises arrive again, somebody leads, and not under the ballot that was given up
    world.mute(1, 2, "Promise", false);
    world.run(1200 * MS).expect("no invariant breaks");
    let last = world.events.iter().rev().find_map(|(_, _, event)| match event {
        TraceEvent::Leading { ballot, .. } => Some(*ballot),
        _ => None,
    });
    assert!(last.is_some_and(|ballot| ballot > spent), "{last:?} after {spent}");
}

/// Without leases no refusal is waited for: the limit is five election timeouts, so that it grows with slow links.
#[test]
fn without_leases_a_leader_that_gets_no_promises_gives_up_too() {
    let mut world = started(false, Box::new(Constant));
    world.run(600 * MS).expect("the first election");
    world.crash(3);
    world.mute(1, 2, "Promise", true);
    let preparing = |world: &World| role(world, 2) == "preparing";
    assert!(world.run_until(600 * MS, preparing).expect("no invariant breaks"));
    world.run(1490 * MS).expect("no invariant breaks");
    assert_eq!(role(&world, 2), "preparing");
    assert!(world.run_until(20 * MS, |world| !preparing(world)).expect("no invariant breaks"));
    world.mute(1, 2, "Promise", false);
    let leads = |world: &World| [1, 2].into_iter().any(|node| role(world, node) == "leader");
    assert!(world.run_until(1500 * MS, leads).expect("no invariant breaks"));
}

/// A leader that cannot persist stops extending its lease, also while its followers decide without it.
#[test]
fn a_leader_whose_disk_stalls_is_replaced_while_its_followers_go_on_deciding() {
    let mut world = started(true, Box::new(Constant));
    world.run(600 * MS).expect("the first election");
    let leader =
        world.ids().into_iter().find(|node| role(&world, *node) == "leader").expect("somebody leads");
    world.stall_disk(leader, true);
    let other = world.ids().into_iter().find(|node| *node != leader).expect("there are three");
    let replaced =
        |world: &World| world.ids().into_iter().any(|node| node != leader && role(world, node) == "leader");
    // its patience, its lease, and two election timeouts
    for number in 0..120 {
        if replaced(&world) {
            break;
        }
        world.ask(other, put(&number.to_string())).expect("no invariant breaks");
        world.run(10 * MS).expect("no invariant breaks");
    }
    assert!(replaced(&world), "node {leader} still leads");
    let answered = world.asked.iter().filter(|asked| matches!(asked.response, Some(Ok(_)))).count();
    assert!(answered > 10, "the followers decided meanwhile: {answered}");
}

/// Its own disk works, so its log grows; nobody acknowledges anything.
#[test]
fn a_leader_that_can_decide_nothing_stops_extending_while_its_log_grows() {
    let mut world = started(true, Box::new(Constant));
    world.run(600 * MS).expect("the first election");
    let leader =
        world.ids().into_iter().find(|node| role(&world, *node) == "leader").expect("somebody leads");
    for other in world.ids().into_iter().filter(|node| *node != leader) {
        world.mute(other, leader, "Accepted", true);
    }
    // its patience, its lease, and some
    for number in 0..90 {
        if role(&world, leader) != "leader" {
            return;
        }
        world.ask(leader, put(&number.to_string())).expect("no invariant breaks");
        world.run(10 * MS).expect("no invariant breaks");
    }
    panic!("node {leader} still leads");
}

/// The ballot of a Prepare must be durable, not what its leader has appended since.
#[test]
fn a_leader_whose_disk_stalls_still_lets_followers_into_a_new_session() {
    let mut world = started(false, Box::new(Constant));
    world.run(600 * MS).expect("the first election");
    let leader =
        world.ids().into_iter().find(|node| role(&world, *node) == "leader").expect("somebody leads");
    world.stall_disk(leader, true);
    for other in world.ids().into_iter().filter(|node| *node != leader) {
        world.ask(leader, put("before")).expect("no invariant breaks");
        world.cut(leader, other);
        world.run(5 * MS).expect("no invariant breaks");
        world.open(leader, other).expect("no invariant breaks");
    }
    world.run(100 * MS).expect("no invariant breaks");
    let asked = world.ask(leader, put("after")).expect("no invariant breaks");
    let answered = |world: &World| matches!(world.asked[asked].response, Some(Ok(_)));
    assert!(
        world.run_until(200 * MS, answered).expect("no invariant breaks"),
        "its followers decide without it"
    );
}

/// Every message takes the same time.
struct Slow(u64);

impl Delays for Slow {
    fn message(&mut self) -> u64 {
        self.0
    }

    fn sync(&mut self) -> u64 {
        MS / 2
    }
}

fn leads(event: &TraceEvent) -> bool {
    matches!(event, TraceEvent::Leading { .. })
}

/// The detector bears with round trips of up to four election timeouts; so must whoever waits for an answer. A leader that
/// opened a new session before the answer in the old one can have come would never decide anything.
///
/// Leases are off, since none outlasts such a round trip.
#[test]
fn a_leader_decides_however_long_a_round_trip_takes() {
    for delay in [1, 20, 60, 120, 160, 200, 280, 400, 500] {
        let mut world = slow_cluster_with_a_leader(delay);
        world.record_messages = true;
        world.run(3000 * MS).expect("no invariant breaks");
        assert_eq!(prepares(&world), 0, "delay {delay}: all are in session");
        // the client is told after a second that nobody knows; the entry is decided all the same
        world.ask(3, put("one")).expect("no invariant breaks");
        world.run(2 * delay * MS + MS).expect("no invariant breaks");
        let decided = world.status(3).expect("it runs").partitions[0].decided;
        assert_eq!(decided, 1, "delay {delay}: one round trip is enough");
    }
}

/// A follower asks to be prepared every heartbeat period until it is, and each time the leader opens a new session. The
/// answers do not chase one another for ever: the last session is answered, two message delays later than the first would be.
#[test]
fn a_follower_that_asks_again_and_again_is_brought_up_to_date() {
    for delay in [1, 20, 60, 120, 160, 200, 280, 400, 500] {
        let mut world = slow_cluster_with_a_leader(delay);
        world.ask(3, put("one")).expect("no invariant breaks");
        world.crash(1);
        world.run(3 * delay * MS).expect("no invariant breaks");
        world.start(1).expect("it starts");
        let up_to_date = |world: &World| {
            let group = world.status(1).expect("it runs").partitions[0].clone();
            (group.role.as_str(), group.log_length, group.decided) == ("follower", 1, 1)
        };
        let in_time = world.run_until((6 * delay + 5) * MS, up_to_date).expect("no invariant breaks");
        assert!(in_time, "delay {delay}: not within six message delays");
        // nothing goes on afterwards
        world.record_messages = true;
        world.run(3000 * MS).expect("no invariant breaks");
        assert_eq!(prepares(&world), 0, "delay {delay}");
    }
}

fn slow_cluster_with_a_leader(delay: u64) -> World {
    let mut world = started(false, Box::new(Slow(delay * MS)));
    world.run(10_000 * MS).expect("no invariant breaks");
    assert_eq!(role(&world, 3), "leader", "delay {delay}");
    world
}

fn prepares(world: &World) -> usize {
    world.sent.iter().filter(|passed| name(&passed.message) == "Prepare").count()
}

/// A Prepare waits for its leader's disk, a LeaseRelease does not, and so overtakes the Prepare of a ballot that is given up
/// at once. The acceptor then grants a lease that nobody will use or give back: that costs the successor one lease at most,
/// and is safe, since who has given a ballot up never counts a grant for it.
#[test]
fn a_release_that_overtakes_its_prepare_costs_one_lease_at_most() {
    let mut world = started(true, Box::new(Constant));
    // nodes 1, 2 and 3 take over at 100 ms; node 2 gives up for node 3, and then dies, so that node 3 needs node 1
    world.keep(2, 1, "Prepare");
    world.mute(3, 1, "Prepare", true);
    let released =
        |world: &World| world.told.iter().any(|told| told.ends_with("n2 p1 releases its grant to 0.1.0@n2"));
    assert!(world.run_until(200 * MS, released).expect("no invariant breaks"), "node 2 gives up");
    world.release(2, 1);
    world.run(MS).expect("no invariant breaks");
    world.crash(2);
    let granted = world.now;
    assert_eq!(world.status(1).expect("it runs").partitions[0].promised.node, 2, "granted after the release");
    world.mute(3, 1, "Prepare", false);
    let led = |world: &World| world.events.iter().any(|(_, _, event)| leads(event));
    assert!(!world.run_until(290 * MS, led).expect("no invariant breaks"), "node 1 refuses node 3");
    assert!(world.run_until(30 * MS, led).expect("no invariant breaks"), "and no longer");
    // 300 * 1.01 / 0.99 = 306.1 ms
    assert!(world.now - granted <= 312 * MS, "{} ms", (world.now - granted) / MS);
}
