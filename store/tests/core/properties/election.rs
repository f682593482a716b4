//! Ballot leader election (Haridi, Kroll, Carbone, arXiv 2008.13456; quorum-connected as in OmniPaxos, EuroSys'23, 5.2).

use std::collections::{BTreeMap, BTreeSet};

use store::{
    api::{Ballot, NodeId},
    config::Mutant,
    core::trace::TraceEvent,
};

use super::{
    ELECTION_TIMEOUT, cut_both, isolate, led,
    planted::{Planted, ballot, breaks},
};
use crate::world::{MS, World};

/// Whom each correct process elects.
fn elected(world: &World) -> BTreeMap<NodeId, Ballot> {
    let correct = world.ids().into_iter().filter_map(|node| world.status(node));
    correct.map(|status| (status.node, status.partitions[0].elected)).collect()
}

/// Waits until every correct process has elected a correct one; who has not, if that takes more than four election timeouts.
fn completeness(world: &mut World) -> Result<(), BTreeMap<NodeId, Ballot>> {
    let complete = |world: &World| elected(world).values().all(|ballot| world.is_up(ballot.node));
    let done = world.run_until(4 * ELECTION_TIMEOUT, complete).expect("no invariant breaks");
    if done { Ok(()) } else { Err(elected(world)) }
}

/// Whether all correct processes elect the same one, at every moment of three seconds.
fn agree_for_three_seconds(world: &mut World) -> bool {
    let agree = |world: &World| elected(world).values().collect::<BTreeSet<_>>().len() == 1;
    !world.run_until(3000 * MS, |world| !agree(world)).expect("no invariant breaks")
}

/// "Eventually every correct process elects some correct process, if a majority are correct."
#[test]
fn ble1_completeness() {
    let mut world = led(5, None);
    world.crash(5);
    world.crash(2);
    assert_eq!(completeness(&mut world), Ok(()));
    // it bites: without a correct majority nobody takes over
    let mut world = led(5, None);
    (3..=5).for_each(|node| world.crash(node));
    let stuck = completeness(&mut world).expect_err("a minority elects nobody");
    assert!(stuck.values().all(|ballot| ballot.node == 5), "{stuck:?}");
}

/// Who answers and whose clock stands still is happy for ever with the leader that it had: that keeps nobody from electing
/// another one.
#[test]
fn ble1_a_clock_that_stands_still_stops_no_election() {
    let mut world = led(5, None);
    world.set_rate(1, -999_999);
    world.crash(5);
    let replaced =
        |world: &World| (2..=4).all(|node| elected(world).get(&node).is_some_and(|ballot| ballot.node != 5));
    assert_eq!(world.run_until(8 * ELECTION_TIMEOUT, replaced), Ok(true), "{:?}", elected(&world));
    assert_eq!(elected(&world)[&1].node, 5, "node 1 still answers, and knows of nothing");
}

/// "Eventually no two correct processes elect different correct processes."
#[test]
fn ble2_eventual_agreement() {
    // the leader dies; only a hub is still connected to all; a chain: each is stable after four election timeouts
    let shapes: [fn(&mut World); 3] = [
        |world| world.crash(5),
        |world| {
            for (one, other) in [(2, 3), (2, 4), (2, 5), (3, 4), (3, 5), (4, 5)] {
                cut_both(world, one, other);
            }
        },
        |world| cut_both(world, 1, 5),
    ];
    for shape in shapes {
        let mut world = led(5, None);
        shape(&mut world);
        world.run(4 * ELECTION_TIMEOUT).expect("no invariant breaks");
        assert!(agree_for_three_seconds(&mut world));
    }
    // it bites: a leader that is cut off from all others goes on electing itself
    let mut world = led(5, None);
    isolate(&mut world, 5);
    world.run(4 * ELECTION_TIMEOUT).expect("no invariant breaks");
    assert!(!agree_for_three_seconds(&mut world));
}

/// "If a process L with ballot n is elected as leader by p, then all previously elected leaders by p have ballot m with m < n,
/// and (L, n) is a unique number."
#[test]
fn ble3_monotonic_unique_ballots() {
    let mut world = led(5, None);
    for leader in [5, 4, 5] {
        world.crash(leader);
        world.run(3 * ELECTION_TIMEOUT).expect("another is elected");
        world.start(leader).expect("it starts");
        world.run(2 * ELECTION_TIMEOUT).expect("it follows");
    }
    let mut last: BTreeMap<NodeId, Ballot> = BTreeMap::new();
    let mut leaders = BTreeSet::new();
    for (_, node, event) in &world.events {
        match event {
            TraceEvent::Started { .. } => {
                last.remove(node);
            }
            TraceEvent::Elected { ballot, .. } => {
                let previous = last.insert(*node, *ballot);
                assert!(previous.is_none_or(|previous| previous < *ballot), "{previous:?}, then {ballot}");
            }
            TraceEvent::Leading { ballot, .. } => assert!(leaders.insert(*ballot), "{ballot} led twice"),
            _ => {}
        }
    }
    assert!(leaders.len() >= 4, "leaders changed: {leaders:?}");
    // it bites: the same ballot leads twice, one leads under a ballot of another, one goes back
    let leading = |ballot| TraceEvent::Leading { partition: 1, ballot };
    for second in [ballot(2, 3), ballot(3, 1), ballot(1, 3)] {
        let mut planted = Planted::new();
        planted.see(0, 3, leading(ballot(2, 3))).expect("a first leader");
        breaks("BLE3", planted.see(10, 3, leading(second)));
    }
}

/// BLE3 across restarts: a ballot is durable before anyone hears of it. The hub takes over while its disk is stalled, and
/// restarts: the others have heard nothing that it does not know any more.
#[test]
fn ble3_a_ballot_that_was_told_of_is_never_taken_again() {
    assert_eq!(hub_restarts_before_its_ballot_is_durable(None), Ok(()));
    let violation = hub_restarts_before_its_ballot_is_durable(Some(Mutant::AnnouncedNotDurable));
    assert!(violation.clone().is_err_and(|violation| violation.starts_with("BLE3")), "{violation:?}");
}

fn hub_restarts_before_its_ballot_is_durable(mutant: Option<Mutant>) -> Result<(), String> {
    let mut world = led(5, mutant);
    for (one, other) in [(2, 3), (2, 4), (2, 5), (3, 4), (3, 5), (4, 5)] {
        cut_both(&mut world, one, other);
    }
    world.stall_disk(1, true);
    let took_over = |world: &World| {
        let mine =
            |event: &TraceEvent| matches!(event, TraceEvent::Elected { ballot, .. } if ballot.node == 1);
        world.events.iter().any(|(at, node, event)| *at > 600 * MS && *node == 1 && mine(event))
    };
    assert!(world.run_until(1000 * MS, took_over)?, "the hub takes over");
    world.run(100 * MS)?;
    world.crash(1);
    world.stall_disk(1, false);
    world.start(1)?;
    world.run(1000 * MS)
}
