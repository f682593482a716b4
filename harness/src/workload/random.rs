//! Faults at random: `[random]`. The seed chooses them, and the plan lists each of them with its time.

use rand::{RngExt, seq::IndexedRandom};
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};
use store::{
    api::PartitionId,
    config::{ClusterConfig, StorageKind},
    node::wire::{KINDS, Kind},
};
use toml::Spanned;

use super::{
    ClockChange, Death, Direction, Fault, FaultAction, FaultSpec, LinkFault, LinkRule, Shape, Time, Word,
    check::{Scope, at_least},
    faults::check_fault,
    file, lacks,
    scalar::Target,
};
use crate::proxy::{Connect, Deed, Delay, Match, Rule, Strikes};

/// Faults at random.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RandomFaults {
    /// The usual time from one to the next.
    pub every: Time,
    /// Each seed draws which of them there are at all, how often each comes, and how fast they follow one another.
    pub swarm: bool,
    /// What they are drawn from.
    pub choices: Vec<Choice>,
}

/// A fault that may be drawn.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Choice {
    /// How often it is, compared with the others.
    pub weight: u32,
    /// The fault. It lasts anything from an eighth of its time to all of it.
    pub fault: FaultSpec,
}

/// Checks `[random]`. Without a list of its own it draws from the whole vocabulary.
pub fn check(scope: &Scope, table: Spanned<file::Random>) -> Result<RandomFaults, Fault> {
    let file::Random { every, swarm, faults } = table.into_inner();
    if every.get_ref().0.is_zero() {
        return Err(Fault::new(every.span(), "no time from one fault to the next", "here")
            .help("write a time such as \"1s\""));
    }
    let mut choices = Vec::new();
    for choice in faults {
        let span = choice.span();
        let choice = choice.into_inner();
        let weight = choice.weight.as_ref().map_or(Ok(1), |weight| at_least(weight, 1, "weight"))? as u32;
        let fault = check_fault(scope, span.clone(), &choice.fault(None))?;
        if fault.action == FaultAction::Wipe {
            return Err(Fault::new(
                span,
                "a node that lost its disk never comes back",
                "may be drawn for each node",
            )
            .help("remove it here, and write a `[[nemesis]]` with `action = \"wipe\"` and `at`"));
        }
        choices.push(Choice { weight, fault });
    }
    if choices.is_empty() {
        choices = lacks::possible(scope.system, vocabulary(scope.nodes, scope.cluster));
    }
    Ok(RandomFaults { every: every.into_inner(), swarm, choices })
}

impl RandomFaults {
    /// The faults of one seed, with their times.
    pub fn draw(&self, phase: Time, rng: &mut ChaCha8Rng) -> Vec<(Time, FaultSpec)> {
        let (choices, pace) = if self.swarm { self.swarm_of(rng) } else { (self.choices.clone(), 1.0) };
        let mut drawn = Vec::new();
        let mut at = Time::default();
        loop {
            at.0 += self
                .every
                .0
                .mul_f64(pace * rng.random_range(0.5..1.5))
                .max(std::time::Duration::from_millis(1));
            if at >= phase {
                return drawn;
            }
            let Ok(choice) = choices.choose_weighted(rng, |choice| choice.weight) else { return drawn };
            let mut fault = choice.fault.clone();
            fault.lasts =
                fault.lasts.map(|lasts| whole_millis(lasts.0.mul_f64(rng.random_range(0.125..=1.0))));
            drawn.push((whole_millis(at.0), fault));
        }
    }

    /// A random subset, with weights of its own, and how much slower than usual it goes.
    fn swarm_of(&self, rng: &mut ChaCha8Rng) -> (Vec<Choice>, f64) {
        let mut choices: Vec<Choice> =
            self.choices.iter().filter(|_| rng.random_bool(0.4)).cloned().collect();
        if choices.is_empty() {
            choices.extend(self.choices.choose(rng).cloned());
        }
        for choice in &mut choices {
            choice.weight *= rng.random_range(1..=4);
        }
        (choices, 2.0_f64.powf(rng.random_range(-1.0..=1.0)))
    }
}

/// Plans write times in milliseconds.
fn whole_millis(time: std::time::Duration) -> Time {
    Time(std::time::Duration::from_millis((time.as_millis() as u64).max(1)))
}

/// Every fault that leaves a sound cluster sound: no node is lost for good, and every clock keeps to what leases allow for.
fn vocabulary(nodes: u64, cluster: &ClusterConfig) -> Vec<Choice> {
    let partitions = cluster.partitions.len() as PartitionId;
    let mut choices: Vec<Choice> = Vec::new();
    let mut add = |word: Word, target: Target, millis: u64, action: FaultAction| {
        let lasts = (millis > 0).then(|| Time(std::time::Duration::from_millis(millis)));
        choices.push(Choice {
            weight: 1,
            fault: FaultSpec { name: None, word, target, lasts, action, permanent: false },
        });
    };
    for partition in 1..=partitions {
        let leader = Target::Leader(partition);
        let follower = Target::Follower(partition);
        if cluster.storage == StorageKind::Durable {
            for (word, death) in [
                (Word::Kill, Death::Now),
                (Word::KillDuringWrite, Death::DuringWrite),
                (Word::KillDuringRecovery, Death::DuringRecovery),
                (Word::LoseUnsynced, Death::LosesUnsynced),
                (Word::CorruptTail, Death::TearsLog),
            ] {
                add(word, leader.clone(), 800, FaultAction::Kill(death));
                add(word, Target::Random, 800, FaultAction::Kill(death));
            }
            add(Word::StallDisk, leader.clone(), 1000, FaultAction::StallDisk { slow: None });
            add(Word::StallDisk, follower.clone(), 1500, FaultAction::StallDisk { slow: Some(millis(40)) });
            add(Word::Restart, Target::Lagging(partition), 0, FaultAction::Restart);
        }
        add(Word::Pause, leader.clone(), 900, FaultAction::Pause);
        add(Word::Pause, follower.clone(), 900, FaultAction::Pause);
        for (word, target, shape, links) in link_faults(partition, nodes) {
            add(word, target, 900, FaultAction::Links { shape, rule: links.into() });
        }
        for (word, rule) in link_rules() {
            let shape = Shape::Between { peer: None, direction: Direction::Both };
            add(word, leader.clone(), 900, FaultAction::Links { shape, rule });
        }
        for (word, target, direction, rule) in client_faults(partition) {
            add(word, target, 900, FaultAction::Links { shape: Shape::Clients { direction }, rule });
        }
        add(Word::Reset, leader.clone(), 0, FaultAction::Reset);
        add(Word::TransferLeader, follower, 0, FaultAction::TransferLeader { partition });
        for ppm in cluster.lease.iter().flat_map(|lease| [-(lease.drift_ppm as i64), lease.drift_ppm as i64])
        {
            add(Word::ClockRate, leader.clone(), 1500, FaultAction::Clock(ClockChange::Rate { ppm }));
        }
    }
    choices
}

fn link_faults(partition: PartitionId, nodes: u64) -> Vec<(Word, Target, Shape, LinkFault)> {
    let (leader, follower) = (Target::Leader(partition), Target::Follower(partition));
    let between = |peer, direction| Shape::Between { peer, direction };
    let mut faults = vec![
        (Word::Isolate, leader.clone(), between(None, Direction::Both), LinkFault::Hold),
        (Word::Isolate, Target::LeaseHolder(partition), between(None, Direction::Both), LinkFault::Sever),
        (Word::Isolate, Target::Minority(Some(partition)), between(None, Direction::Both), LinkFault::Close),
        (Word::Cut, leader.clone(), between(Some(follower.clone()), Direction::Both), LinkFault::Silence),
        (Word::CutOneway, leader.clone(), between(None, Direction::Out), LinkFault::Hold),
        (Word::CutOneway, leader.clone(), between(None, Direction::In), LinkFault::Sever),
        (Word::CutOneway, follower, between(None, Direction::In), LinkFault::Hold),
        (Word::Halves, leader.clone(), Shape::Halves, LinkFault::Hold),
        (Word::Split, Target::All, Shape::Split { parts: 3 }, LinkFault::Sever),
        (Word::Bridge, Target::Random, Shape::Bridge, LinkFault::Hold),
        (Word::Chain, leader.clone(), Shape::Chain, LinkFault::Hold),
        (Word::Swizzle, Target::All, Shape::Swizzle { period: millis(80) }, LinkFault::Hold),
        (Word::Flap, leader, Shape::Flap { period: millis(120) }, LinkFault::Sever),
    ];
    if nodes > 3 {
        faults.push((Word::MajoritiesRing, Target::All, Shape::MajoritiesRing, LinkFault::Hold));
    }
    faults
}

/// Faults between clients and nodes.
fn client_faults(partition: PartitionId) -> Vec<(Word, Target, Direction, LinkRule)> {
    let (leader, follower) = (Target::Leader(partition), Target::Follower(partition));
    vec![
        (Word::CutOneway, leader.clone(), Direction::In, LinkFault::Hold.into()),
        (Word::CutOneway, leader.clone(), Direction::Out, LinkFault::Hold.into()),
        (Word::CutOneway, follower, Direction::Out, LinkFault::Sever.into()),
        (Word::Cut, leader.clone(), Direction::Both, LinkFault::Sever.into()),
        (Word::Cut, Target::Random, Direction::Both, LinkFault::Silence.into()),
        (Word::HalfOpen, leader.clone(), Direction::In, LinkRule::Rule(Rule::HalfOpen)),
        (Word::Refuse, Target::Random, Direction::Both, LinkRule::Connect(Connect::Refuse)),
        (Word::Delay, leader, Direction::Both, LinkRule::Delay(Delay::Exponential { mean: millis(20).0 })),
    ]
}

/// Messages that mean the same when they come twice. A doubled `forward` is carried out twice: connections do not double, and
/// the store relies on that.
fn repeatable() -> Vec<Kind> {
    use Kind::{Forward, Handshake, Join, Reply, Request, Table, Verdict};
    let once = |kind: &Kind| matches!(kind, Handshake | Verdict | Request | Reply | Join | Table | Forward);
    KINDS.into_iter().filter(|kind| !once(kind)).collect()
}

fn link_rules() -> Vec<(Word, LinkRule)> {
    let frames = |deed| LinkRule::Frames {
        matching: Match {
            kinds: if deed == Deed::Duplicate { repeatable() } else { Vec::new() },
            ..Match::default()
        },
        strikes: Strikes::Chance(0.1),
        deed,
    };
    vec![
        (Word::Hold, LinkRule::Rule(Rule::Hold)),
        (Word::HalfOpen, LinkRule::Rule(Rule::HalfOpen)),
        (Word::Refuse, LinkRule::Connect(Connect::Refuse)),
        (Word::Delay, LinkRule::Delay(Delay::Exponential { mean: millis(20).0 })),
        (Word::Throttle, LinkRule::Throttle { bytes_per_second: 10_000 }),
        (Word::FrameDrop, frames(Deed::Drop)),
        (Word::FrameDuplicate, frames(Deed::Duplicate)),
        (Word::FrameReorder, frames(Deed::Reorder { at_most: millis(50).0 })),
        (Word::FrameHold, frames(Deed::Hold)),
    ]
}

fn millis(millis: u64) -> Time {
    Time(std::time::Duration::from_millis(millis))
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, path::Path};

    use super::*;
    use crate::{
        plan::{Cause, Plan},
        workload::{Workload, parse},
    };

    fn workload(random: &str) -> Workload {
        let text = format!(
            "[cluster]\nnodes = 5\npartitions = {{ count = 2, from = 1, to = 101 }}\nlease = {{ duration_ms = 300, drift_ppm = \
             50000 }}\n[phases]\nfaults = \"20s\"\n[random]\n{random}"
        );
        parse(Path::new("w.toml"), &text).unwrap_or_else(|problem| panic!("{problem}"))
    }

    fn words(plan: &Plan) -> BTreeSet<Word> {
        plan.faults.iter().map(|fault| fault.spec.word).collect()
    }

    #[test]
    fn the_whole_vocabulary_is_all_that_a_sound_cluster_bears() {
        let workload = workload("every = \"1s\"");
        let random = workload.random.as_ref().expect("random faults");
        let all: BTreeSet<Word> = random.choices.iter().map(|choice| choice.fault.word).collect();
        let left: Vec<&str> =
            Word::ALL.iter().filter(|word| !all.contains(word)).map(|word| word.text()).collect();
        // only while somebody fetches one; gone for good; undone by other means; beyond what leases allow for; undoes the others
        let out =
            ["kill-during-snapshot", "wipe", "resume", "release", "clock-offset", "clock-freeze", "heal"];
        assert_eq!(left, out);
    }

    #[test]
    fn faults_come_as_often_as_is_said_and_each_with_its_time() {
        let plan = Plan::new(workload("every = \"500ms\""), 1);
        assert!((30..50).contains(&plan.faults.len()), "{}", plan.faults.len());
        for fault in &plan.faults {
            let Cause::At(at) = fault.cause else { panic!("{fault:?}") };
            assert!(at < plan.phases.faults);
            assert!(fault.spec.lasts.is_none_or(|lasts| lasts <= millis(1500)));
        }
        let text = toml::to_string(&plan).expect("written");
        assert_eq!(toml::from_str::<Plan>(&text).expect("read"), plan);
    }

    #[test]
    fn weights_count() {
        let two = "[[random.fault]]\naction = \"pause\"\ntarget = \"random\"\nfor = \"1s\"\nweight = 9\n[[random.fault]]\naction \
                   = \"reset\"\ntarget = \"random\"";
        let plan = Plan::new(workload(&format!("every = \"100ms\"\n{two}")), 1);
        let pauses = plan.faults.iter().filter(|fault| fault.spec.word == Word::Pause).count();
        assert!(pauses * 10 > plan.faults.len() * 8, "{pauses} of {}", plan.faults.len());
    }

    #[test]
    fn each_seed_of_a_swarm_is_another_mix() {
        let plan = |seed| Plan::new(workload("every = \"100ms\"\nswarm = true"), seed);
        let mixes: BTreeSet<BTreeSet<Word>> = (0..20).map(|seed| words(&plan(seed))).collect();
        assert!(mixes.len() > 15, "{}", mixes.len());
        let counts: Vec<usize> = (0..20).map(|seed| plan(seed).faults.len()).collect();
        let (least, most) = (counts.iter().min().expect("some"), counts.iter().max().expect("some"));
        assert!(most > &(least * 2), "the pace differs: {counts:?}");
        assert_eq!(plan(3), plan(3));
    }
}
