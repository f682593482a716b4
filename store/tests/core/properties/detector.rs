//! The eventually perfect failure detector (Cachin, Guerraoui, Rodrigues, module 2.8).

use std::collections::BTreeMap;

use store::api::NodeId;

use super::{ELECTION_TIMEOUT, led, start_all};
use crate::{
    cluster::one_partition,
    world::{Delays, MS, World},
};

/// Whom each correct process suspects, millisecond by millisecond.
type Suspicions = Vec<BTreeMap<NodeId, Vec<NodeId>>>;

fn watch(world: &mut World, milliseconds: u64) -> Suspicions {
    let moment = |world: &mut World| {
        world.run(MS).expect("no invariant breaks");
        let correct = world.ids().into_iter().filter_map(|node| world.status(node));
        correct.map(|status| (status.node, status.suspected)).collect()
    };
    (0..milliseconds).map(|_| moment(world)).collect()
}

/// After how many milliseconds `holds` is true of every moment to the end; none when it is not true at the end.
fn holds_from(
    suspicions: &Suspicions,
    holds: impl Fn(&BTreeMap<NodeId, Vec<NodeId>>) -> bool,
) -> Option<usize> {
    let last_exception = suspicions.iter().rposition(|moment| !holds(moment));
    let from = last_exception.map_or(0, |last| last + 1);
    (from < suspicions.len()).then_some(from)
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

fn slow_links(delay: u64) -> World {
    let mut cluster = one_partition(3);
    // a lease outlasts no round trip of this length
    cluster.lease = None;
    let mut world = World::new(&cluster, 3, &BTreeMap::new(), None, Box::new(Slow(delay)));
    start_all(&mut world);
    world
}

/// "Eventually, every process that crashes is permanently suspected by every correct process."
#[test]
fn epfd1_strong_completeness() {
    let mut world = led(5, None);
    world.crash(2);
    world.crash(4);
    let suspicions = watch(&mut world, 3000);
    let all_suspect = |crashed: NodeId| {
        holds_from(&suspicions, |moment| moment.values().all(|suspected| suspected.contains(&crashed)))
    };
    let bound = (ELECTION_TIMEOUT / MS) as usize + 100;
    for crashed in [2, 4] {
        assert!(all_suspect(crashed).is_some_and(|from| from <= bound), "node {crashed}");
    }
    // it bites: this is not so of a process that lives, nor of one that has come back
    assert_eq!(all_suspect(3), None);
    world.start(4).expect("it starts");
    let suspicions = watch(&mut world, 1000);
    assert_eq!(holds_from(&suspicions, |moment| moment.values().all(|all| all.contains(&4))), None);
}

/// "Eventually, no correct process is suspected by any correct process."
#[test]
fn epfd2_eventual_strong_accuracy() {
    let accurate = |moment: &BTreeMap<NodeId, Vec<NodeId>>| moment.values().all(Vec::is_empty);
    // six periods are 300 ms at first; a reply may come too late by a part of a period, by periods, and by far
    for delay in [160, 200, 500] {
        let suspicions = watch(&mut slow_links(delay * MS), 12_000);
        let from = holds_from(&suspicions, accurate).expect("the period has been lengthened enough");
        let heard_of = 2 * delay as usize + 50;
        let wrongly = suspicions[heard_of..from].iter().any(|moment| !accurate(moment));
        assert!(
            wrongly && from < 6_000,
            "delay {delay}: suspected wrongly at first, accurate from {from} ms on"
        );
    }
    // it bites: a round trip beyond the longest period, which is no bound on delays that the detector knows
    assert_eq!(holds_from(&watch(&mut slow_links(700 * MS), 12_000), accurate), None);
}
