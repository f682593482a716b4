//! Best-effort broadcast (Cachin, Guerraoui, Rodrigues, module 3.1): heartbeat requests and the announcement of a leader go
//! to every other node. What a node tells itself it does not send.

use std::collections::{BTreeMap, BTreeSet};

use store::{api::NodeId, core::Message};

use super::{cut_both, led, start_all};
use crate::{
    cluster::one_partition,
    world::{Constant, MS, Passed, World},
};

/// A world in which broadcasts are sent while the leader dies and another announces itself; `disturb` may break it.
fn broadcasts(disturb: impl FnOnce(&mut World)) -> World {
    let mut world = led(5, None);
    world.record_messages = true;
    disturb(&mut world);
    world.crash(5);
    world.run(1000 * MS).expect("a leader change");
    world.record_messages = false;
    world.run(10 * MS).expect("what is under way arrives");
    let leading = world.sent.iter().filter(|passed| matches!(passed.message, Message::Leading { .. }));
    assert_eq!(leading.count(), 4, "one leader has announced itself");
    world
}

fn is_broadcast(passed: &Passed) -> bool {
    matches!(passed.message, Message::Leading { .. } | Message::HeartbeatRequest { .. })
}

/// A message that a correct process broadcast and another correct one did not deliver.
fn undelivered(world: &World, delivered: &[Passed]) -> Option<(NodeId, NodeId, Message)> {
    let correct: Vec<NodeId> = world.ids().into_iter().filter(|node| world.is_up(*node)).collect();
    let arrived = |from: NodeId, to: NodeId, message: &Message| {
        delivered.iter().any(|passed| (passed.from, passed.to) == (from, to) && passed.message == *message)
    };
    // what is sent in the last milliseconds is still under way
    let end = world.now - 20 * MS;
    let sent = world.sent.iter().filter(|passed| is_broadcast(passed) && passed.at < end);
    let expected = sent.filter(|passed| correct.contains(&passed.from)).flat_map(|passed| {
        let others = correct.iter().copied().filter(|to| *to != passed.from);
        others.map(|to| (passed.from, to, passed.message.clone()))
    });
    expected.into_iter().find(|(from, to, message)| !arrived(*from, *to, message))
}

/// A broadcast that a process delivered twice.
fn repeated(delivered: &[Passed]) -> Option<&Passed> {
    let mut seen = BTreeSet::new();
    delivered
        .iter()
        .filter(|passed| is_broadcast(passed))
        .find(|passed| !seen.insert((passed.from, passed.to, format!("{:?}", passed.message))))
}

/// A broadcast that was delivered and not sent before.
fn created<'a>(sent: &[Passed], delivered: &'a [Passed]) -> Option<&'a Passed> {
    let was_sent = |passed: &Passed| {
        sent.iter().any(|earlier| {
            (earlier.from, earlier.to) == (passed.from, passed.to)
                && earlier.at <= passed.at
                && earlier.message == passed.message
        })
    };
    delivered.iter().filter(|passed| is_broadcast(passed)).find(|passed| !was_sent(passed))
}

/// "If a correct process broadcasts a message m, then every correct process eventually delivers m."
#[test]
fn beb1_validity() {
    let world = broadcasts(|_| ());
    assert_eq!(undelivered(&world, &world.delivered), None);
    // it bites: a link that loses everything, which a correct process's does not
    let broken = broadcasts(|world| cut_both(world, 1, 2));
    assert!(matches!(undelivered(&broken, &broken.delivered), Some((1, 2, _) | (2, 1, _))));
}

/// "No message is delivered more than once."
#[test]
fn beb2_no_duplication() {
    let mut world = broadcasts(|_| ());
    assert_eq!(repeated(&world.delivered), None);
    // it bites: one announcement arrives again
    let again = world.delivered.iter().find(|passed| matches!(passed.message, Message::Leading { .. }));
    let again = again.expect("an announcement was delivered").clone();
    world.delivered.push(again.clone());
    assert_eq!(repeated(&world.delivered), Some(&again));
}

/// "If a process delivers a message m with sender s, then m was previously broadcast by process s."
#[test]
fn beb3_no_creation() {
    // recorded from the start, so that nothing is delivered that was sent before
    let mut world = World::new(&one_partition(5), 5, &BTreeMap::new(), None, Box::new(Constant));
    world.record_messages = true;
    start_all(&mut world);
    world.run(600 * MS).expect("the first election");
    assert!(world.delivered.iter().any(is_broadcast));
    assert_eq!(created(&world.sent, &world.delivered), None);
    // it bites: an announcement by a node that has never led, and a true one that arrives before it was sent
    let announced = world.delivered.iter().find(|passed| matches!(passed.message, Message::Leading { .. }));
    let announced = announced.expect("an announcement was delivered").clone();
    let forged = Passed { from: announced.to, to: announced.from, ..announced.clone() };
    let early = Passed { at: 0, ..announced };
    for contradiction in [forged, early] {
        world.delivered.push(contradiction.clone());
        assert_eq!(created(&world.sent, &world.delivered), Some(&contradiction));
        world.delivered.pop();
    }
}
