//! Random schedules of crashes, pauses, cuts, slow links, slow disks and drifting clocks, in simulated time: the invariants
//! hold at every turn, and once everything is healed every partition serves again within a bound.
//!
//! `STORE_SEEDS=A..B` runs other seeds.

use std::collections::{BTreeMap, BTreeSet};

use crate::world::{Delays, MS, World, written};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use store::{
    api::{Key, KeyType, NodeId, Operation, PartitionStatus},
    config::{
        ClockSkew, ClusterConfig, LeaseConfig, Mutant, PartitionConfig, Partitioning, ReadMode, RoutingMode,
        SESSION_IDLE_MS, StorageKind, TrimConfig,
    },
};

/// The second: whether messages are lost now and then without a sign.
pub struct RandomDelays(pub ChaCha8Rng, pub bool);

impl Delays for RandomDelays {
    fn message(&mut self) -> u64 {
        if self.0.random_ratio(1, 200) {
            self.0.random_range(MS..200 * MS)
        } else {
            self.0.random_range(MS / 10..3 * MS)
        }
    }

    fn sync(&mut self) -> u64 {
        if self.0.random_ratio(1, 100) {
            self.0.random_range(MS..100 * MS)
        } else {
            self.0.random_range(MS / 10..2 * MS)
        }
    }

    fn loses(&mut self) -> bool {
        self.1 && self.0.random_ratio(1, 100)
    }
}

/// A schedule decides some dozens of entries of about 50 bytes.
pub fn trimming(seed: u64) -> TrimConfig {
    match seed % 4 {
        0 => TrimConfig::default(),
        1 => TrimConfig { snapshot_after_bytes: 1, keep_log_bytes: 0 },
        2 => TrimConfig { snapshot_after_bytes: 200, keep_log_bytes: 100 },
        _ => TrimConfig { snapshot_after_bytes: 100, keep_log_bytes: 1000 },
    }
}

pub fn cluster(rng: &mut ChaCha8Rng, nodes: NodeId, trimming: TrimConfig) -> ClusterConfig {
    let partition =
        |partition: u32, lower: Option<i64>, upper: Option<i64>, replication: u64| PartitionConfig {
            partition,
            lower: lower.map(Key::Integer),
            upper: upper.map(Key::Integer),
            replication,
            replicas: Vec::new(),
        };
    let drift_ppm = if rng.random_bool(0.5) { 200_000 } else { 1_000 };
    let lease = rng.random_bool(0.8).then_some(LeaseConfig { duration_ms: 300, drift_ppm });
    ClusterConfig {
        name: "random".to_owned(),
        key_type: KeyType::Integer,
        partitioning: Partitioning::Range,
        partitions: vec![partition(1, None, Some(3), 3), partition(2, Some(3), None, nodes)],
        threshold: nodes,
        heartbeat_ms: 50,
        missed_rounds: 6,
        lease,
        request_timeout_ms: 1000,
        session_idle_ms: SESSION_IDLE_MS,
        storage: StorageKind::Durable,
        routing: RoutingMode::Forward,
        reads: ReadMode::Linearizable,
        trimming,
        preset: Vec::new(),
    }
}

/// Runs one schedule; the world at its end, or what broke.
fn run(seed: u64, mutant: Option<Mutant>, trimming: TrimConfig) -> Result<World, String> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let nodes = if rng.random_bool(0.5) { 3 } else { 5 };
    let cluster = cluster(&mut rng, nodes, trimming);
    let bound = cluster.lease.map_or(0, |lease| lease.drift_ppm as i64);
    let skews: BTreeMap<NodeId, ClockSkew> = (1..=nodes)
        .map(|node| {
            let rate_ppm = rng.random_range(-bound..=bound);
            (node, ClockSkew { rate_ppm, offset_ms: rng.random_range(-50_000..50_000) })
        })
        .collect();
    let delays = Box::new(RandomDelays(ChaCha8Rng::seed_from_u64(seed ^ 0xD15C), seed.is_multiple_of(4)));
    let mut world = World::new(&cluster, nodes, &skews, mutant, delays);
    for node in 1..=nodes {
        world.start(node)?;
    }
    world.run(1000 * MS)?;
    for step in 0..600 {
        // the planted bugs are hunted as they were before leaders could be moved
        fault(&mut world, &mut rng, nodes, mutant.is_none())?;
        let operation = operation(&mut rng, step);
        world.ask(rng.random_range(1..=nodes), operation)?;
        world.run(rng.random_range(0..20 * MS))?;
    }
    heal(&mut world)?;
    progress(&mut world)?;
    converge(&mut world)?;
    happened_once_or_never(&world)?;
    Ok(world)
}

/// SP1, as clients see it: no value is decided twice, and none whose writer was told that it definitely did not happen.
pub fn happened_once_or_never(world: &World) -> Result<(), String> {
    for node in world.ids() {
        let mut decided = BTreeSet::new();
        for value in world.decided_values(node).into_iter().filter(|value| &**value != "last") {
            if !decided.insert(value.clone()) {
                return Err(format!("SP1: {value} was decided twice"));
            }
        }
        for asked in &world.asked {
            if let (Some(Err(error)), Some(value)) = (&asked.response, written(&asked.operation))
                && error.is_definite()
                && decided.contains(value)
            {
                return Err(format!("{value} was decided, and its writer told: {error}"));
            }
        }
    }
    Ok(())
}

/// SP4, for every replica: within ten election timeouts there is a moment at which nothing is left undecided and each leads
/// or follows. (Links and disks are still slow now and then, so a leader may yet lose its lease at any time.)
pub fn converge(world: &mut World) -> Result<(), String> {
    world.run_until(3000 * MS, |world| unsettled(world).is_none())?;
    unsettled(world).map_or(Ok(()), |group| Err(format!("SP4: a replica does not converge: {group:?}")))
}

fn unsettled(world: &World) -> Option<PartitionStatus> {
    let statuses = world.ids().into_iter().filter_map(|node| world.status(node));
    let settled = |group: &PartitionStatus| {
        group.decided == group.log_length && (group.role == "leader" || group.role == "follower")
    };
    statuses.flat_map(|status| status.partitions).find(|group| !settled(group))
}

fn operation(rng: &mut ChaCha8Rng, step: u64) -> Operation {
    let key = Key::Integer(rng.random_range(0..6));
    let value = format!("v{step}");
    match rng.random_range(0..10) {
        0..5 => Operation::Get { key },
        5..8 => Operation::Put { key, value: value.into() },
        8 => Operation::Cas { key, expected: None, new: value.into() },
        _ => Operation::Delete { key },
    }
}

pub fn fault(world: &mut World, rng: &mut ChaCha8Rng, nodes: NodeId, transfers: bool) -> Result<(), String> {
    let node = rng.random_range(1..=nodes);
    let other = 1 + (node + rng.random_range(0..nodes - 1)) % nodes;
    match rng.random_range(0..100) {
        0..2 if world.is_up(node) => world.crash(node),
        2..6 if !world.is_up(node) => world.start(node)?,
        6..8 if world.is_up(node) => world.pause(node),
        8..14 => world.resume(node),
        14..16 => world.cut(node, other),
        16..18 => world.hold(node, other),
        18..20 => {
            for peer in (1..=nodes).filter(|peer| *peer != node) {
                world.cut(node, peer);
                world.cut(peer, node);
            }
        }
        20..24 => world.open(node, other)?,
        24..26 => world.open_all()?,
        26..30 => world.reconnect_early(node, other, rng.random_range(0..600 * MS))?,
        30..34 if transfers => world.transfer(node, other)?,
        _ => {}
    }
    Ok(())
}

pub fn heal(world: &mut World) -> Result<(), String> {
    world.calm = true;
    world.open_all()?;
    for node in world.ids() {
        world.resume(node);
        if !world.is_up(node) {
            world.start(node)?;
        }
    }
    Ok(())
}

/// SP4, after the heal: a client that asks again after an error has its write in each partition within ten election
/// timeouts.
fn progress(world: &mut World) -> Result<(), String> {
    world.run(3000 * MS)?;
    for key in [0, 5] {
        let deadline = world.now + 3000 * MS;
        loop {
            let operation = Operation::Put { key: Key::Integer(key), value: "last".into() };
            let number = world.ask(1, operation)?;
            world.run_until(deadline.saturating_sub(world.now), |world| {
                world.asked[number].response.is_some()
            })?;
            match &world.asked[number].response {
                Some(Ok(_)) => break,
                Some(Err(_)) if world.now < deadline => {}
                answer => return Err(format!("SP4: a write to key {key} after the heal came to {answer:?}")),
            }
        }
    }
    Ok(())
}

pub fn seeds() -> std::ops::Range<u64> {
    let Ok(text) = std::env::var("STORE_SEEDS") else { return 0..150 };
    let (from, to) = text.split_once("..").expect("STORE_SEEDS is A..B");
    from.parse().expect("a number")..to.parse().expect("a number")
}

#[test]
fn the_invariants_hold_in_random_schedules_and_progress_follows_the_heal() {
    let (mut fast_reads, mut decided, mut leaders, mut fetched) = (0, 0, 0, 0);
    for seed in seeds() {
        // shown only when something panics inside
        println!("seed {seed}");
        let world =
            run(seed, None, trimming(seed)).unwrap_or_else(|violation| panic!("seed {seed}: {violation}"));
        fast_reads += world.observer.fast_reads;
        decided += world.observer.decided;
        leaders += world.observer.leaders;
        fetched += world.observer.fetched;
    }
    println!(
        "{fast_reads} fast reads, {decided} entries decided, {leaders} leaders, {fetched} snapshots fetched"
    );
    let runs = seeds().count() as u64;
    assert!(
        fast_reads > 10 * runs && decided > 50 * runs && leaders > 2 * runs && fetched > runs,
        "the schedules exercise the store"
    );
}

#[test]
fn the_same_seed_gives_the_same_bytes() {
    let told = || run(7, None, trimming(7)).expect("a clean schedule").told;
    assert_eq!(told(), told());
}

/// The checks bite: each planted bug of the core is found by some schedule, and the controls by none. (A ballot that is
/// announced, or an entry that is acknowledged, before it is durable takes hundreds of schedules; the simulator finds it at once.)
#[test]
fn planted_bugs_are_found_and_controls_stay_green() {
    const BUGS: [Mutant; 18] = [
        Mutant::LeaseWithoutDriftMargin,
        Mutant::DeposedLeaderServesReads,
        Mutant::AdoptByBallotOnly,
        Mutant::AdoptByLengthOnly,
        Mutant::AcceptedBallotNotSet,
        Mutant::PromiseNotDurable,
        Mutant::PromiseCountedTwice,
        Mutant::StaleAcceptSync,
        Mutant::CandidateIgnoresOwnGrant,
        Mutant::RestartForgetsGrant,
        Mutant::FastReadBeforeAdoptedSuffix,
        Mutant::LeaderCountsUnsynced,
        Mutant::CutAtOwnDecided,
        Mutant::DecidedOfLatePromise,
        Mutant::LeaseFromReplyTime,
        Mutant::HoldByMinority,
        Mutant::GrantByHoldersClock,
        Mutant::AcceptorIgnoresGrant,
    ];
    const OF_TRIMMING: [Mutant; 3] =
        [Mutant::TrimmedSentAsWhole, Mutant::LateSnapshotTruncates, Mutant::SnapshotIndexBeforeKeys];
    let kept = BUGS.map(|mutant| (mutant, (|_| TrimConfig::default()) as fn(u64) -> TrimConfig));
    let trimmed = OF_TRIMMING.map(|mutant| (mutant, trimming as fn(u64) -> TrimConfig));
    for (mutant, trimming) in kept.into_iter().chain(trimmed) {
        let broken = |seed| broken_by(seed, mutant, trimming(seed)).map(|violation| (seed, violation));
        let found = (0..1000).find_map(broken);
        let (seed, violation) = found.unwrap_or_else(|| panic!("{mutant:?} was not found"));
        println!("{mutant:?}: seed {seed}: {violation}");
    }
    for control in [
        Mutant::ControlDecideByCounting,
        Mutant::ControlPrepareTwice,
        Mutant::ControlAcceptedTwice,
        Mutant::ControlLeadingToldTwice,
        Mutant::ControlReadPastOwnWrites,
    ] {
        for seed in 0..20 {
            assert_eq!(broken_by(seed, control, trimming(seed)), None, "{control:?} is no bug");
        }
    }
}

/// What a schedule breaks with a planted bug: an invariant of the observer, or an assertion of the core.
fn broken_by(seed: u64, mutant: Mutant, trimming: TrimConfig) -> Option<String> {
    match std::panic::catch_unwind(|| run(seed, Some(mutant), trimming).err()) {
        Ok(violation) => violation,
        Err(panic) => {
            let words = panic.downcast_ref::<String>().cloned();
            let words = words.or_else(|| panic.downcast_ref::<&str>().map(|words| (*words).to_owned()));
            Some(format!("assertion: {}", words.unwrap_or_default()))
        }
    }
}
