//! Sequence Paxos (Haridi, Kroll, Carbone, arXiv 2008.13456). Where the known mistakes are planted (`Mutant`), random schedules
//! find them; these tests show that each check bites by itself.

use std::collections::BTreeMap;

use store::{
    api::{NodeId, Value},
    core::{
        durable::Record,
        message::{Command, Entry, ProposalId},
        trace::TraceEvent,
    },
};

use super::{
    ELECTION_TIMEOUT, ask, cut_both, isolate, led,
    planted::{Planted, breaks},
    put,
};
use crate::{
    random_schedules::happened_once_or_never,
    world::{MS, World, written},
};

/// Writes at every node while leaders die and come back.
fn leaders_come_and_go() -> World {
    let mut world = led(3, None);
    for step in 0_u64..60 {
        let node = 1 + step % 3;
        world.ask(node, put("x", &format!("v{step}"))).expect("no invariant breaks");
        world.run(20 * MS).expect("no invariant breaks");
        match step {
            5 | 40 => world.crash(3),
            20 | 55 => world.start(3).expect("it starts"),
            _ => {}
        }
    }
    world.run(2000 * MS).expect("no invariant breaks");
    world
}

/// A value that was decided and that nobody has proposed.
fn decided_from_nowhere(world: &World) -> Option<Value> {
    let proposed = |value: &Value| world.asked.iter().any(|asked| written(&asked.operation) == Some(value));
    world
        .ids()
        .into_iter()
        .flat_map(|node| world.decided_values(node))
        .find(|value| &**value != "first" && !proposed(value))
}

/// A cluster that has decided the write of `first`, with all nodes down, so that their disks can be written to.
fn down_after_one_write() -> World {
    let mut world = led(3, None);
    ask(&mut world, 1, put("x", "first")).expect("an answer").expect("it is written");
    world.run(10 * MS).expect("everybody hears of it");
    world.ids().into_iter().for_each(|node| world.crash(node));
    world
}

/// As if the leader of the ballot that a node has accepted had appended this entry after `start` others.
fn append(world: &mut World, node: NodeId, start: u64, entry: &Entry) {
    let elected = world.events.iter().rev().find_map(|(_, _, event)| match event {
        TraceEvent::Leading { ballot, .. } => Some(*ballot),
        _ => None,
    });
    let accepted_ballot = elected.expect("there was a leader");
    world.plant(
        node,
        &Record::Accepted { partition: 1, accepted_ballot, start, entries: vec![entry.clone()].into() },
    );
}

fn entry(number: u64, value: &str) -> Entry {
    let id = ProposalId { node: 3, boot: 1, number };
    Entry::Command(Command { id, operation: put("x", value), session: None })
}

fn start_and_run(world: &mut World) -> Result<(), String> {
    for node in world.ids() {
        world.start(node)?;
    }
    world.run(2000 * MS)
}

/// "If process p decides v then v is a sequence of proposed commands (without duplicates)."
#[test]
fn sp1_validity() {
    let world = leaders_come_and_go();
    assert_eq!(happened_once_or_never(&world), Ok(()));
    assert_eq!(decided_from_nowhere(&world), None);
    assert!(world.decided_values(1).len() > 20, "much was decided");
    // it bites: a log holds what nobody proposed, and the same proposal twice
    let mut world = down_after_one_write();
    (1..=3).for_each(|node| append(&mut world, node, 1, &entry(2, "from nowhere")));
    start_and_run(&mut world).expect("no invariant of the observer breaks");
    assert_eq!(decided_from_nowhere(&world), Some("from nowhere".into()));
    let mut world = down_after_one_write();
    (1..=3).for_each(|node| append(&mut world, node, 1, &entry(1, "first")));
    breaks("SP1", start_and_run(&mut world));
}

/// "If process p decides u and process q decides v then one is a prefix of the other."
#[test]
fn sp2_uniform_agreement() {
    // the old leader, cut off, appends what is never decided; the others decide something else in its place
    let mut world = led(3, None);
    isolate(&mut world, 3);
    world.ask(3, put("x", "lost")).expect("no invariant breaks");
    world.run(4 * ELECTION_TIMEOUT).expect("no invariant breaks");
    ask(&mut world, 1, put("x", "kept")).expect("an answer").expect("it is written");
    world.open_all().expect("no invariant breaks");
    world.run(4 * ELECTION_TIMEOUT).expect("no invariant breaks");
    for node in world.ids() {
        assert_eq!(world.decided_values(node), ["kept".into()], "node {node}");
    }
    // it bites: two disks hold different entries as decided
    let mut world = down_after_one_write();
    append(&mut world, 1, 0, &entry(2, "other"));
    breaks("SP2", start_and_run(&mut world));
}

/// "If process p decides u and later decides v then u is a strict prefix of v."
#[test]
fn sp3_integrity() {
    let world = leaders_come_and_go();
    // what each node tells to have decided follows what it told before; a restart begins anew
    let mut told: BTreeMap<NodeId, u64> = BTreeMap::new();
    for (_, node, event) in &world.events {
        match event {
            TraceEvent::Started { .. } => {
                told.remove(node);
            }
            TraceEvent::Decided { first, hashes, .. } => {
                let before = told.get(node).copied();
                assert!(before.is_none_or(|before| before + 1 == *first), "{before:?}, then {first}");
                told.insert(*node, first + hashes.len() as u64 - 1);
            }
            _ => {}
        }
    }
    assert!(told.values().all(|decided| *decided > 20), "much was decided: {told:?}");
    // it bites: within one life a node had decided more than it has now
    let mut planted = Planted::with_decided(1);
    planted.look(0, 1).expect("a decided entry");
    planted.restart_unnoticed(0);
    breaks("SP3", planted.look(10, 1));
}

/// What befalls a world.
type Disturbance = fn(&mut World);

/// "If command C is proposed (infinitely often) by a correct process then eventually every correct process decides a sequence
/// containing C."
///
/// Correct means here: it lives, and is connected both ways to a replica that is connected to a quorum and comes to lead. The
/// bound is ten election timeouts.
#[test]
fn sp4_termination() {
    let disturbances: [(Disturbance, &[NodeId]); 4] = [
        (|world| world.crash(5), &[1, 2, 3, 4]),
        // only a hub, node 1, is still connected to all
        (
            |world| {
                for (one, other) in [(2, 3), (2, 4), (2, 5), (3, 4), (3, 5), (4, 5)] {
                    cut_both(world, one, other);
                }
            },
            &[1, 2, 3, 4, 5],
        ),
        // the leader can send but not receive
        (|world| (1..5).for_each(|node| world.cut(node, 5)), &[1, 2, 3, 4]),
        // one follower has lost the leader, but not the others
        (|world| cut_both(world, 1, 5), &[2, 3, 4, 5]),
    ];
    for (disturb, correct) in disturbances {
        let mut world = led(5, None);
        disturb(&mut world);
        assert_eq!(decided_everywhere(&mut world, correct), Ok(()));
    }
    // it bites: without a majority nothing is decided
    let mut world = led(5, None);
    (3..=5).for_each(|node| world.crash(node));
    assert_eq!(decided_everywhere(&mut world, &[1, 2]), Err(vec![1, 2]));
}

/// Proposes again and again; who of these nodes has not decided after ten election timeouts?
fn decided_everywhere(world: &mut World, correct: &[NodeId]) -> Result<(), Vec<NodeId>> {
    let missing = |world: &World| -> Vec<NodeId> {
        let lacks = |node: &&NodeId| !world.decided_values(**node).contains(&"wanted".into());
        correct.iter().filter(lacks).copied().collect()
    };
    for _ in 0..10 {
        world.ask(correct[0], put("x", "wanted")).expect("no invariant breaks");
        world.run(ELECTION_TIMEOUT).expect("no invariant breaks");
        if missing(world).is_empty() {
            return Ok(());
        }
    }
    Err(missing(world))
}
