//! Exactly once: clients ask for the same write again and again, at any node, whatever breaks meanwhile, and out of order with
//! their next ones. It is carried out once, all who ask are told the same, and no earlier write comes after a later one.

use std::collections::BTreeMap;

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use store::{
    api::{Key, NodeId, Operation, Outcome, SessionTag, StoreError},
    config::Mutant,
};

use crate::{
    random_schedules::{RandomDelays, cluster, converge, fault, heal, seeds, trimming},
    world::{Asked, MS, World, written},
};

const NODES: NodeId = 3;

/// A client with a key of its own, in one of the partitions.
struct Client {
    key: Key,
    /// Its session, once it is open, and the request that is to open it.
    session: Option<u64>,
    opening: Option<usize>,
    sequence: u64,
}

impl Client {
    fn new(number: i64) -> Self {
        Self { key: Key::Integer(number), session: None, opening: None, sequence: 0 }
    }

    /// Asks for a session, or for the next write in it, or again for one of the last; forgets a session that has expired.
    fn ask(&mut self, world: &mut World, rng: &mut ChaCha8Rng) -> Result<(), String> {
        let node = rng.random_range(1..=NODES);
        let opened = self.opening.and_then(|number| world.asked[number].response.clone());
        if let Some(Ok(answer)) = opened.filter(|_| self.session.is_none()) {
            (self.session, self.sequence) = (Some(answer.index), 0);
        }
        let Some(session) = self.session else {
            let operation = Operation::OpenSession { key: self.key.clone() };
            self.opening = Some(world.ask(node, operation)?);
            return Ok(());
        };
        let expired = StoreError::SessionExpired { session };
        let told = |asked: &Asked| {
            *asked.operation.key() == self.key && asked.response.as_ref() == Some(&Err(expired.clone()))
        };
        if world.asked.iter().any(told) {
            (self.session, self.opening) = (None, None);
            return Ok(());
        }
        let again = self.sequence > 0 && rng.random_bool(0.6);
        let sequence = if again {
            self.sequence.saturating_sub(rng.random_range(0..2)).max(1)
        } else {
            self.sequence += 1;
            self.sequence
        };
        let operation = write(&self.key, session, sequence);
        world.ask_in(Some(SessionTag { session, sequence }), node, operation, 0)?;
        Ok(())
    }
}

/// Values in the order in which a client writes them; every third write is a swap that mostly fails.
fn write(key: &Key, session: u64, sequence: u64) -> Operation {
    let (key, value) = (key.clone(), format!("{session:06}.{sequence:06}").into());
    match sequence % 3 {
        0 => Operation::Cas { key, expected: None, new: value },
        _ => Operation::Put { key, value },
    }
}

fn run(seed: u64, mutant: Option<Mutant>) -> Result<World, String> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut cluster = cluster(&mut rng, NODES, trimming(seed));
    cluster.session_idle_ms = rng.random_range(40..600);
    let delays = Box::new(RandomDelays(ChaCha8Rng::seed_from_u64(seed ^ 0x5E55), seed.is_multiple_of(4)));
    let mut world = World::new(&cluster, NODES, &BTreeMap::new(), mutant, delays);
    (1..=NODES).try_for_each(|node| world.start(node))?;
    world.run(1000 * MS)?;
    let mut clients: Vec<Client> = (0..6).map(Client::new).collect();
    for _ in 0..500 {
        fault(&mut world, &mut rng, NODES, true)?;
        let client = rng.random_range(0..clients.len());
        clients[client].ask(&mut world, &mut rng)?;
        world.run(rng.random_range(0..20 * MS))?;
    }
    heal(&mut world)?;
    world.run(3000 * MS)?;
    converge(&mut world)?;
    one_verdict(&world)?;
    for client in &clients {
        nothing_came_late(&mut world, &client.key)?;
    }
    Ok(world)
}

/// All who asked for a write and were told what came of it were told the same.
fn one_verdict(world: &World) -> Result<(), String> {
    let mut verdicts = BTreeMap::new();
    for asked in &world.asked {
        let (Some(tag), Some(Ok(answer))) = (asked.session, &asked.response) else { continue };
        let verdict = (answer.outcome.clone(), answer.version, answer.index);
        let first =
            verdicts.entry((asked.operation.key(), tag.session, tag.sequence)).or_insert(verdict.clone());
        if *first != verdict {
            return Err(format!("{tag:?} came to {first:?} and to {verdict:?}"));
        }
    }
    // within a session the log has them in their order
    let mut last: BTreeMap<_, u64> = BTreeMap::new();
    for ((key, session, sequence), (.., index)) in verdicts {
        let last = last.entry((key.clone(), session)).or_default();
        if index <= *last {
            return Err(format!("write {sequence} of session {session} stands before an earlier one"));
        }
        *last = index;
    }
    Ok(())
}

/// A key holds the last write that its client was told of, or one that it has asked for later.
fn nothing_came_late(world: &mut World, key: &Key) -> Result<(), String> {
    let wrote = |asked: &&Asked| {
        asked.operation.key() == key
            && matches!(&asked.response, Some(Ok(answer)) if answer.outcome == Outcome::Written)
    };
    let last = world.asked.iter().filter(wrote).filter_map(|asked| written(&asked.operation)).max().cloned();
    let deadline = world.now + 3000 * MS;
    loop {
        let number = world.ask(1, Operation::Get { key: key.clone() })?;
        world
            .run_until(deadline.saturating_sub(world.now), |world| world.asked[number].response.is_some())?;
        match &world.asked[number].response {
            Some(Ok(answer)) if matches!(&answer.outcome, Outcome::Value(value) if *value >= last) => {
                return Ok(());
            }
            // a leader may lose its lease at any time
            Some(Err(_)) if world.now < deadline => {}
            answer => return Err(format!("key {key} holds {answer:?} after {last:?} was written")),
        }
    }
}

#[test]
fn a_write_of_a_session_happens_once_whatever_breaks() {
    let (mut again, mut expired, mut fetched) = (0, 0, 0);
    for seed in seeds() {
        // shown only when something panics inside
        println!("seed {seed}");
        let world = run(seed, None).unwrap_or_else(|violation| panic!("seed {seed}: {violation}"));
        let mut verdicts = BTreeMap::<_, u64>::new();
        for asked in &world.asked {
            match (&asked.session, &asked.response) {
                (Some(tag), Some(Ok(_))) => {
                    let name = (asked.operation.key(), tag.session, tag.sequence);
                    *verdicts.entry(name).or_default() += 1;
                }
                (Some(_), Some(Err(StoreError::SessionExpired { .. }))) => expired += 1,
                _ => {}
            }
        }
        again += verdicts.into_values().filter(|times| *times > 1).count();
        fetched += world.observer.fetched;
    }
    println!("{again} writes were told more than once, {expired} refused, {fetched} snapshots fetched");
    let runs = seeds().count();
    assert!(again > 10 * runs && expired > runs && fetched > runs as u64, "the schedules exercise sessions");
}

#[test]
fn a_leader_or_a_snapshot_without_the_sessions_is_found() {
    for mutant in [Mutant::SessionForgotten, Mutant::SessionsNotInSnapshot] {
        let found = (0..100).find_map(|seed| run(seed, Some(mutant)).err().map(|broken| (seed, broken)));
        let (seed, broken) = found.unwrap_or_else(|| panic!("{mutant:?} was not found"));
        println!("{mutant:?}: seed {seed}: {broken}");
    }
}
