//! A plan: what one run does, down to every fault's time and every client's stream of operations.
//!
//! A workload and a seed make a plan, always the same one; the plan is written into the results as `plan.toml`, and a run
//! is carried out from the plan alone. A client's operations are not listed one by one: its entry holds the seed of a
//! `ChaCha8` stream, and with `operations` that is all that [`crate::generator::Generator`] needs to repeat them exactly.
//! What a plan cannot fix is how the processes interleave.

mod check;

use std::{fmt::Display, path::Path, time::Duration};

use checker::history::{Header, Partitioning, Range};
use rand::{RngExt, SeedableRng, seq::SliceRandom};
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};
use store::{
    api::{self, NodeId},
    config::{ClusterConfig, PartitionConfig, TestOptions},
};

use crate::generator::Ask;
use crate::replay::{self, Follows};
use crate::workload::{
    Checks, Delays, Entry, Expect, ExpectedVerdict, FaultSpec, NodeClock, Operations, Phases, Require, Step,
    System, Time, Trigger, When, Workload, history_key,
};

/// What one run does.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Plan {
    /// Name of the workload.
    pub workload: String,
    /// What it is for, in words.
    pub about: Option<String>,
    /// The seed.
    pub seed: u64,
    /// The system under test.
    #[serde(default, skip_serializing_if = "System::is_store")]
    pub system: System,
    /// How many nodes there are.
    pub nodes: u64,
    /// Nodes that are cut off from the others until a step heals them.
    pub late: Vec<NodeId>,
    /// How many clients run steps; they are numbered after those of `clients`.
    pub script_clients: u64,
    /// After how long an operation without an answer counts as unknown.
    pub timeout_ms: u64,
    /// So many clients share one connection to each node.
    #[serde(default = "one")]
    pub share: u64,
    /// Clients have sessions.
    #[serde(default)]
    pub sessions: bool,
    /// The cluster.
    pub cluster: ClusterConfig,
    /// Planted bugs and what else only tests ask for.
    pub test: TestOptions,
    /// How long what takes.
    pub phases: Phases,
    /// What is checked.
    pub checks: Checks,
    /// What the run must contain to mean anything.
    pub require: Require,
    /// How it should end.
    pub expect: Expect,
    /// What clients do at random.
    pub operations: Option<Operations>,
    /// How long messages between nodes travel without any fault.
    #[serde(default)]
    pub network: Delays,
    /// Each node's clock, where it differs from the machine's.
    pub clocks: Vec<NodeClock>,
    /// The clients that do so.
    pub clients: Vec<PlannedClient>,
    /// Faults by the clock, in the order of their times.
    pub faults: Vec<PlannedFault>,
    /// The script.
    pub steps: Vec<Step>,
    /// The real run that simulated runs follow, as far as it can be matched: in plans that were made of one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub follows: Option<Follows>,
}

/// Plans that were written before clients could share do not say so.
fn one() -> u64 {
    1
}

/// A client and its stream of operations.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PlannedClient {
    /// Its number, from 1.
    pub client: u64,
    /// Seed of its stream.
    pub seed: u64,
    /// Where its operations enter the cluster.
    pub entry: PlannedEntry,
    /// Its share of the run's `total`, if there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub operations: Option<u64>,
    /// What it asks, one by one, instead of its stream: in plans that were shrunk.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub asks: Option<Vec<PlannedAsk>>,
}

/// One operation that is listed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PlannedAsk {
    /// When, from the moment at which the clients begin; later if the one before is not answered by then.
    pub at: Time,
    /// What.
    pub ask: Ask,
    /// The node that is asked first; none: the leader of the key's partition.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<NodeId>,
}

/// Where a client's operations enter the cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PlannedEntry {
    /// A node that the client's stream chooses, for each operation anew.
    Any,
    /// The leader of the key's partition.
    Leader,
    /// Always this node.
    Node(NodeId),
}

/// A fault and what brings it on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PlannedFault {
    /// What brings it on.
    pub cause: Cause,
    /// What.
    pub spec: FaultSpec,
    /// Why it is here.
    #[serde(default)]
    pub origin: Origin,
    /// The nodes in the order in which the fault chooses among them.
    pub order: Vec<NodeId>,
}

/// Why a fault is in a plan, and so what a run lacks without it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Origin {
    /// The workload asks for it.
    #[default]
    Once,
    /// The workload asks for it again and again: it is one time of several, of the `[[nemesis]]` with this number, from 1.
    Every(u64),
    /// It was drawn at random.
    Random,
}

/// What brings a planned fault on. Times count from the beginning of the faults phase.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Cause {
    /// Its time.
    At(Time),
    /// Something that has to happen.
    After(Trigger),
}

impl Plan {
    /// The plan of a workload under a seed.
    pub fn new(workload: Workload, seed: u64) -> Self {
        let faults = faults(&workload, seed);
        let clients = if workload.operations.is_some() { clients(&workload, seed) } else { Vec::new() };
        let script_clients = if workload.steps.is_empty() { 0 } else { workload.clients.count };
        Self {
            workload: workload.name,
            about: workload.about,
            seed,
            system: workload.system,
            nodes: workload.nodes,
            late: workload.late,
            script_clients,
            timeout_ms: workload.clients.timeout_ms,
            share: workload.clients.share,
            sessions: workload.clients.sessions,
            cluster: workload.cluster,
            test: workload.test,
            phases: workload.phases,
            checks: workload.checks,
            require: workload.require,
            expect: workload.expect,
            operations: workload.operations,
            network: workload.network,
            clocks: workload.clocks,
            clients,
            faults,
            steps: workload.steps,
            follows: None,
        }
    }

    /// Reads a plan, as results hold it, with the record that it follows; the error names the file, and the place in it. Since it may
    /// have been edited, what a workload must not say it must not say either.
    pub fn load(path: &Path) -> Result<Self, String> {
        let unreadable = |error: &dyn Display| format!("error: {} is no plan: {error}", path.display());
        let text = std::fs::read_to_string(path).map_err(|error| unreadable(&error))?;
        let mut plan: Self = toml::from_str(&text).map_err(|error| unreadable(&error))?;
        check::check(&plan)
            .map_err(|problem| format!("error: {} cannot be run: {problem}", path.display()))?;
        if let Some(follows) = &mut plan.follows {
            let folder = path.parent().unwrap_or(path);
            follows
                .read(folder)
                .map_err(|error| format!("error: {} of {}: {error:#}", replay::FILE, path.display()))?;
        }
        Ok(plan)
    }

    /// The plan without its planted bug, if it has one: it should be valid then.
    #[must_use]
    pub fn without_mutant(mut self) -> Self {
        if self.test.mutant.take().is_some() {
            self.expect.verdict = ExpectedVerdict::Valid;
            self.expect.by = None;
        }
        self
    }

    /// The first record of a history of this plan, whose time 0 is this reading of the machine's clock.
    pub fn header(&self, origin: u64) -> Header {
        let key = |key: &Option<api::Key>| key.as_ref().map(history_key);
        let range = |range: &PartitionConfig| Range {
            partition: range.partition,
            lower: key(&range.lower),
            upper: key(&range.upper),
        };
        let preset = &self.cluster.preset;
        Header {
            workload: self.workload.clone(),
            seed: self.seed,
            origin,
            initial: preset.iter().map(|(key, value)| (history_key(key), value.clone())).collect(),
            partitions: self.cluster.partitions.iter().map(range).collect(),
            partitioning: match self.cluster.partitioning {
                store::config::Partitioning::Range => Partitioning::Range,
                store::config::Partitioning::Hash => Partitioning::Hash,
            },
        }
    }

    /// All nodes.
    pub fn node_ids(&self) -> Vec<NodeId> {
        (1..=self.nodes).collect()
    }

    /// The number of a client of the script among all clients.
    pub fn script_client(&self, client: u64) -> u64 {
        self.clients.len() as u64 + client
    }

    /// The highest number of a client that runs operations or steps.
    pub fn last_client(&self) -> u64 {
        self.clients.len() as u64 + self.script_clients
    }
}

/// The order in which choice number `choice` of a run goes through the nodes.
pub fn node_order(nodes: u64, seed: u64, choice: u64) -> Vec<NodeId> {
    let mut order: Vec<NodeId> = (1..=nodes).collect();
    order.shuffle(&mut ChaCha8Rng::seed_from_u64(sub_seed(seed, NODE_ORDERS, choice)));
    order
}

const CLIENTS: u64 = 1;
const NODE_ORDERS: u64 = 2;
const FAULT_TIMES: u64 = 3;
const RANDOM_FAULTS: u64 = 4;

/// The seed of one of the streams of a run: splitmix64 over the three numbers, in the 63 bits that TOML can write.
fn sub_seed(seed: u64, stream: u64, index: u64) -> u64 {
    let mix = |value: u64| {
        let value = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        value ^ (value >> 31)
    };
    mix(mix(mix(seed) ^ stream) ^ index) >> 1
}

fn clients(workload: &Workload, seed: u64) -> Vec<PlannedClient> {
    let entry = |client: u64| match &workload.clients.entry {
        Entry::Any => PlannedEntry::Any,
        Entry::Leader => PlannedEntry::Leader,
        Entry::Pinned => PlannedEntry::Node((client - 1) % workload.nodes + 1),
        Entry::Nodes(nodes) => PlannedEntry::Node(nodes[(client - 1) as usize % nodes.len()]),
    };
    let total = workload.operations.as_ref().and_then(|operations| operations.total);
    let count = workload.clients.count;
    let share = |client: u64| total.map(|total| total / count + u64::from(client <= total % count));
    (1..=count)
        .map(|client| PlannedClient {
            client,
            seed: sub_seed(seed, CLIENTS, client),
            entry: entry(client),
            operations: share(client),
            asks: None,
        })
        .collect()
}

fn faults(workload: &Workload, seed: u64) -> Vec<PlannedFault> {
    let mut caused: Vec<(Cause, FaultSpec, Origin)> = Vec::new();
    for (index, entry) in workload.nemesis.iter().enumerate() {
        match &entry.when {
            When::At(at) => caused.push((Cause::At(*at), entry.fault.clone(), Origin::Once)),
            When::After(trigger) => {
                caused.push((Cause::After(trigger.clone()), entry.fault.clone(), Origin::Once));
            }
            When::Every(every) => {
                let end =
                    if entry.fault.permanent { Time(workload.phases.end()) } else { workload.phases.faults };
                let mut rng = ChaCha8Rng::seed_from_u64(sub_seed(seed, FAULT_TIMES, index as u64));
                let times = again_and_again(*every, entry.fault.lasts, end, &mut rng);
                let origin = Origin::Every(index as u64 + 1);
                caused.extend(times.into_iter().map(|at| (Cause::At(at), entry.fault.clone(), origin)));
            }
        }
    }
    if let Some(random) = &workload.random {
        let mut rng = ChaCha8Rng::seed_from_u64(sub_seed(seed, RANDOM_FAULTS, 0));
        let drawn = random.draw(workload.phases.faults, &mut rng);
        caused.extend(drawn.into_iter().map(|(at, fault)| (Cause::At(at), fault, Origin::Random)));
    }
    // what has no time stands at the end
    caused.sort_by_key(|(cause, ..)| match cause {
        Cause::At(at) => at.0,
        Cause::After(_) => Duration::MAX,
    });
    caused
        .into_iter()
        .enumerate()
        .map(|(index, (cause, spec, origin))| PlannedFault {
            cause,
            spec,
            origin,
            order: node_order(workload.nodes, seed, index as u64),
        })
        .collect()
}

/// Times in the phase, each after a pause between half and one and a half of `every`, counted from the end of the one
/// before.
fn again_and_again(every: Time, lasts: Option<Time>, phase: Time, rng: &mut ChaCha8Rng) -> Vec<Time> {
    let pause = every.0.as_millis() as u64;
    let mut times = Vec::new();
    let mut at = Duration::ZERO;
    loop {
        at += Duration::from_millis(rng.random_range(pause / 2..=pause + pause / 2).max(1));
        if at >= phase.0 {
            return times;
        }
        times.push(Time(at));
        at += lasts.map_or(Duration::ZERO, |lasts| lasts.0);
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::workload;

    const WORKLOAD: &str = r#"
        [cluster]
        nodes = 5
        partitions = [{ upper = 100 }, { lower = 100, upper = 200, replicas = [2, 3, 4] }, { lower = 200 }]
        lease = { duration_ms = 300, drift_ppm = 50000 }
        preset = { 1 = "one" }
        [clients]
        count = 4
        entry = "pinned"
        [operations]
        mix = { get = 6, put = 3, cas = 1 }
        keys = { count = 12 }
        distribution = "zipf"
        rate = 1000
        [network]
        delay = { shortest = "1ms", longest = "2ms" }
        links = [{ from = 1, to = 2, delay = "5ms" }]
        [clocks]
        2 = { rate_ppm = -40000, offset_ms = 5 }
        [[nemesis]]
        every = "2s"
        action = "isolate"
        target = "random"
        for = "500ms"
        [[nemesis]]
        at = "1s"
        action = "clock-rate"
        target = "leader(2)"
        rate_ppm = 1000
        [[nemesis]]
        name = "again"
        after = { leader_change = 2, count = 3, plus = "5ms" }
        action = "cut-oneway"
        target = "leader(2)"
        peer = "follower(2)"
        links = "sever"
        [[step]]
        client = [1, 2]
        via = "leader(1)"
        cas = { key = 1, expected = "one", new = "two" }
        expect = { swapped = true }
    "#;

    fn plan(seed: u64) -> Plan {
        Plan::new(workload::parse(Path::new("w.toml"), WORKLOAD).expect("right"), seed)
    }

    #[test]
    fn a_plan_survives_being_written_and_read() {
        let plan = plan(7);
        let text = toml::to_string(&plan).expect("written");
        assert_eq!(toml::from_str::<Plan>(&text).expect("read"), plan, "{text}");
    }

    #[test]
    fn one_seed_one_plan() {
        assert_eq!(plan(7), plan(7));
        assert_ne!(plan(7).clients, plan(8).clients);
    }

    #[test]
    fn faults_come_in_the_order_of_time_and_inside_the_phase() {
        for seed in 0..50 {
            let plan = plan(seed);
            let times: Vec<Time> = plan
                .faults
                .iter()
                .filter_map(|fault| match fault.cause {
                    Cause::At(at) => Some(at),
                    Cause::After(_) => None,
                })
                .collect();
            assert_eq!(times.len() + 1, plan.faults.len(), "one waits for a leader change");
            assert!(times.is_sorted() && times.iter().all(|at| *at < plan.phases.faults));
            assert!(plan.faults.len() > 3, "every two seconds for ten");
            assert!(plan.faults.iter().all(|fault| fault.order.len() == 5));
        }
    }

    /// The checker has the hash in code of its own.
    #[test]
    fn the_checker_looks_for_keys_where_the_store_puts_them() {
        for partitions in ["[{}, {}, {}, {}, {}]", "{ count = 7 }"] {
            let text = format!(
                "[cluster]\nnodes = 3\npartitioning = 'hash'\npartitions = {partitions}\nlease = 'off'\n[phases]\nfaults = '1s'\n"
            );
            let workload = workload::parse(Path::new("hash.toml"), &text);
            let plan = Plan::new(workload.unwrap_or_else(|problem| panic!("{problem}")), 1);
            let header = plan.header(0);
            for number in -500..500 {
                for key in [api::Key::Integer(number), api::Key::String(format!("key {number}"))] {
                    assert_eq!(
                        header.partition_of(&history_key(&key)),
                        plan.cluster.partition_of(&key),
                        "{key}"
                    );
                }
            }
        }
    }

    #[test]
    fn pinned_clients_are_dealt_to_the_nodes() {
        let entries: Vec<PlannedEntry> = plan(0).clients.iter().map(|client| client.entry).collect();
        assert_eq!(entries, (1..=4).map(PlannedEntry::Node).collect::<Vec<_>>());
    }
}
