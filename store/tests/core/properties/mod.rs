//! The properties that the protocol promises: one test each, named after the property, that quotes it from its source.
//!
//! Every test shows too that it can fail: with a planted bug, with an event or a message that contradicts the property, or
//! in a world that breaks what the property rests on. PL, BEB and EPFD are modules of Cachin, Guerraoui, Rodrigues,
//! *Introduction to Reliable and Secure Distributed Programming*; BLE and SP are those of Haridi, Kroll, Carbone, *Lecture
//! Notes on Leader-based Sequence Paxos* (arXiv 2008.13456); L is the list of `core/invariants.rs`.

mod broadcast;
mod detector;
mod election;
mod leases;
mod links;
mod paxos;
mod planted;

use std::collections::BTreeMap;

use store::{
    api::{Key, NodeId, Operation, Response},
    config::Mutant,
};

use crate::{
    cluster::one_partition,
    world::{Constant, MS, World},
};

/// The election timeout of the cluster.
const ELECTION_TIMEOUT: u64 = 300 * MS;

/// A cluster of one partition that has just elected a leader: the highest node.
fn led(nodes: NodeId, mutant: Option<Mutant>) -> World {
    let mut world = World::new(&one_partition(nodes), nodes, &BTreeMap::new(), mutant, Box::new(Constant));
    start_all(&mut world);
    world.run(600 * MS).expect("the first election");
    world
}

/// Three nodes, led by node 3, whose clocks have come to run at these rates; the cluster's bound is 20 %.
fn led_with_rates(rates_ppm: [i64; 3], mutant: Option<Mutant>) -> Result<World, String> {
    let mut cluster = one_partition(3);
    cluster.lease.as_mut().expect("leases are on").drift_ppm = 200_000;
    let mut world = World::new(&cluster, 3, &BTreeMap::new(), mutant, Box::new(Constant));
    start_all(&mut world);
    world.run(600 * MS)?;
    for (node, rate_ppm) in (1..).zip(rates_ppm) {
        world.set_rate(node, rate_ppm);
    }
    world.run(600 * MS)?;
    Ok(world)
}

fn start_all(world: &mut World) {
    for node in world.ids() {
        world.start(node).expect("a first start breaks nothing");
    }
}

fn isolate(world: &mut World, node: NodeId) {
    for other in world.ids().into_iter().filter(|other| *other != node) {
        cut_both(world, node, other);
    }
}

fn cut_both(world: &mut World, one: NodeId, other: NodeId) {
    world.cut(one, other);
    world.cut(other, one);
}

fn put(key: &str, value: &str) -> Operation {
    Operation::Put { key: Key::String(key.to_owned()), value: value.into() }
}

fn get(key: &str) -> Operation {
    Operation::Get { key: Key::String(key.to_owned()) }
}

/// Asks, and lets time pass until the answer has come.
fn ask(world: &mut World, node: NodeId, operation: Operation) -> Result<Response, String> {
    let number = world.ask(node, operation)?;
    world.run_until(2000 * MS, |world| world.asked[number].response.is_some())?;
    world.asked[number].response.clone().ok_or_else(|| "no answer within two seconds".to_owned())
}
