//! The workload file as it is written: every key that exists, with the places of the values that are checked later.

use std::{collections::BTreeMap, fmt};

use serde::{Deserialize, Deserializer, de::Visitor};
use store::{
    config::{LeaseConfig, Mutant, Partitioning, ReadMode, RoutingMode, StorageKind},
    node::wire::Kind,
};
use toml::Spanned;

use super::{
    CheckName, Checks, Direction, Distribution, ExpectedVerdict, LinkFault, Mix, Phases, Require, Word,
    scalar::{Entry, FileKey, Peer, Target, Time, Via, Wait, Who},
    target::{EtcdReads, SystemKind},
};

/// A whole workload file.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct File {
    pub about: Option<String>,
    pub mutant: Option<Spanned<Mutant>>,
    pub lose_unsynced: Option<Spanned<bool>>,
    pub target: Option<System>,
    pub cluster: Spanned<Cluster>,
    #[serde(default)]
    pub clients: Clients,
    pub operations: Option<Spanned<Operations>>,
    #[serde(default)]
    pub network: Network,
    #[serde(default)]
    pub clocks: BTreeMap<Spanned<String>, Spanned<Clock>>,
    #[serde(default)]
    pub nemesis: Vec<Spanned<Nemesis>>,
    pub random: Option<Spanned<Random>>,
    #[serde(default, rename = "step")]
    pub steps: Vec<Spanned<Step>>,
    #[serde(default)]
    pub phases: Phases,
    #[serde(default)]
    pub checks: Checks,
    pub require: Option<Spanned<Require>>,
    #[serde(default)]
    pub expect: Expect,
}

/// `[target]`
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct System {
    #[serde(default)]
    pub kind: SystemKind,
    pub bin: Option<Spanned<String>>,
    pub reads: Option<Spanned<EtcdReads>>,
}

/// `[cluster]`
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cluster {
    pub nodes: Spanned<u64>,
    #[serde(default)]
    pub late: Vec<Spanned<u64>>,
    #[serde(default = "integer")]
    pub key_type: KeyType,
    #[serde(default)]
    pub partitioning: Partitioning,
    pub partitions: Option<Spanned<Partitions>>,
    pub replication: Option<Spanned<u64>>,
    pub threshold: Option<Spanned<u64>>,
    #[serde(default = "durable")]
    pub storage: StorageKind,
    #[serde(default)]
    pub routing: RoutingMode,
    pub reads: Option<Spanned<ReadMode>>,
    #[serde(default = "heartbeat")]
    pub heartbeat_ms: Spanned<u64>,
    #[serde(default = "missed_rounds")]
    pub missed_rounds: Spanned<u64>,
    pub lease: Option<Spanned<Lease>>,
    #[serde(default = "request_timeout")]
    pub request_timeout_ms: Spanned<u64>,
    pub session_idle_ms: Option<Spanned<u64>>,
    pub snapshot_after_bytes: Option<Spanned<u64>>,
    pub keep_log_bytes: Option<Spanned<u64>>,
    #[serde(default)]
    pub preset: Preset,
}

/// `preset`: a value for each key, or for the keys of each range.
pub enum Preset {
    Keys(BTreeMap<Spanned<String>, String>),
    Ranges(Vec<PresetRange>),
}

/// The preset value of some keys.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PresetRange {
    pub keys: Spanned<Keys>,
    pub value: Spanned<String>,
}

/// `key_type`, with the words of this file in its errors.
#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum KeyType {
    Integer,
    String,
}

/// `lease`: a table or `"off"`.
pub enum Lease {
    Off,
    On(LeaseConfig),
}

/// `partitions`: a list of ranges, or how many even ranges of a span of integers.
pub enum Partitions {
    List(Vec<Spanned<Partition>>),
    Even(EvenPartitions),
}

/// One range.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Partition {
    pub lower: Option<Spanned<FileKey>>,
    pub upper: Option<Spanned<FileKey>>,
    #[serde(default)]
    pub replicas: Vec<Spanned<u64>>,
}

/// Even ranges of `[from, to)`; by hash only so many.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EvenPartitions {
    pub count: Spanned<u64>,
    pub from: Option<Spanned<i64>>,
    pub to: Option<Spanned<i64>>,
}

/// `[clients]`
#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Clients {
    pub count: Spanned<u64>,
    pub entry: Spanned<Entry>,
    pub timeout_ms: Spanned<u64>,
    pub share: Spanned<u64>,
    pub sessions: bool,
}

/// `[operations]`
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Operations {
    pub mix: Spanned<Mix>,
    pub keys: Spanned<Keys>,
    #[serde(default)]
    pub distribution: Distribution,
    pub skew: Option<Spanned<f64>>,
    #[serde(default)]
    pub value_size: usize,
    pub rate: Option<Spanned<u64>>,
    pub total: Option<Spanned<u64>>,
}

/// `keys`: exactly one of `count`, `from` with `to` (and `step`), and `list`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Keys {
    pub count: Option<Spanned<u64>>,
    pub from: Option<i64>,
    pub to: Option<i64>,
    pub step: Option<Spanned<u64>>,
    #[serde(default)]
    pub list: Vec<Spanned<FileKey>>,
}

/// `[network]`
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Network {
    pub delay: Option<Spanned<DelayTable>>,
    pub links: Vec<Spanned<LinkDelay>>,
}

/// One entry of `links` in `[network]`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LinkDelay {
    pub from: Spanned<u64>,
    pub to: Spanned<u64>,
    pub delay: Spanned<DelayTable>,
}

/// One entry of `[clocks]`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Clock {
    #[serde(default)]
    pub rate_ppm: i64,
    #[serde(default)]
    pub offset_ms: i64,
}

/// Declares a table of a fault: the keys that all faults have, beside those of the place where it stands.
macro_rules! fault_table {
    ($(#[$doc:meta])* $table:ident { $($key:ident: $type:ty,)* }) => {
        $(#[$doc])*
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        pub struct $table {
            $(pub $key: $type,)*
            pub action: Spanned<Word>,
            pub target: Option<Spanned<Target>>,
            #[serde(rename = "for")]
            pub lasts: Option<Spanned<Time>>,
            pub links: Option<Spanned<LinkFault>>,
            pub direction: Option<Spanned<Direction>>,
            pub peer: Option<Spanned<Peer>>,
            pub parts: Option<Spanned<u64>>,
            pub period: Option<Spanned<Time>>,
            pub slow: Option<Spanned<Time>>,
            pub delay: Option<Spanned<DelayTable>>,
            pub bytes_per_second: Option<Spanned<u64>>,
            pub kinds: Option<Spanned<Vec<Kind>>>,
            pub partition: Option<Spanned<u32>>,
            pub min_ballot: Option<Spanned<u64>>,
            pub max_ballot: Option<Spanned<u64>>,
            pub chance: Option<Spanned<f64>>,
            pub nth: Option<Spanned<u64>>,
            pub at_most: Option<Spanned<Time>>,
            pub rate_ppm: Option<Spanned<i64>>,
            pub offset_ms: Option<Spanned<i64>>,
        }

        impl $table {
            /// What it says of the fault, without what belongs to its place.
            pub fn fault(&self, name: Option<String>) -> Fault {
                Fault {
                    name,
                    action: self.action.clone(),
                    target: self.target.clone(),
                    lasts: self.lasts.clone(),
                    links: self.links.clone(),
                    direction: self.direction.clone(),
                    peer: self.peer.clone(),
                    parts: self.parts.clone(),
                    period: self.period.clone(),
                    slow: self.slow.clone(),
                    delay: self.delay.clone(),
                    bytes_per_second: self.bytes_per_second.clone(),
                    kinds: self.kinds.clone(),
                    partition: self.partition.clone(),
                    min_ballot: self.min_ballot.clone(),
                    max_ballot: self.max_ballot.clone(),
                    chance: self.chance.clone(),
                    nth: self.nth.clone(),
                    at_most: self.at_most.clone(),
                    rate_ppm: self.rate_ppm.clone(),
                    offset_ms: self.offset_ms.clone(),
                }
            }
        }
    };
}

fault_table! {
    /// One `[[nemesis]]`.
    Nemesis {
        name: Option<Spanned<String>>,
        at: Option<Spanned<Time>>,
        every: Option<Spanned<Time>>,
        after: Option<Spanned<After>>,
        permanent: Option<Spanned<bool>>,
    }
}

fault_table! {
    /// The fault of a step.
    StepFault {}
}

fault_table! {
    /// One `[[random.fault]]`.
    RandomFault {
        weight: Option<Spanned<u64>>,
    }
}

/// `[random]`
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Random {
    pub every: Spanned<Time>,
    #[serde(default)]
    pub swarm: bool,
    #[serde(default, rename = "fault")]
    pub faults: Vec<Spanned<RandomFault>>,
}

/// A fault, wherever it stands.
pub struct Fault {
    pub name: Option<String>,
    pub action: Spanned<Word>,
    pub target: Option<Spanned<Target>>,
    pub lasts: Option<Spanned<Time>>,
    pub links: Option<Spanned<LinkFault>>,
    pub direction: Option<Spanned<Direction>>,
    pub peer: Option<Spanned<Peer>>,
    pub parts: Option<Spanned<u64>>,
    pub period: Option<Spanned<Time>>,
    pub slow: Option<Spanned<Time>>,
    pub delay: Option<Spanned<DelayTable>>,
    pub bytes_per_second: Option<Spanned<u64>>,
    pub kinds: Option<Spanned<Vec<Kind>>>,
    pub partition: Option<Spanned<u32>>,
    pub min_ballot: Option<Spanned<u64>>,
    pub max_ballot: Option<Spanned<u64>>,
    pub chance: Option<Spanned<f64>>,
    pub nth: Option<Spanned<u64>>,
    pub at_most: Option<Spanned<Time>>,
    pub rate_ppm: Option<Spanned<i64>>,
    pub offset_ms: Option<Spanned<i64>>,
}

/// `delay`: a duration, or the parameters of a distribution.
#[derive(Clone, Copy)]
pub enum DelayTable {
    Constant(Time),
    Distribution(Distributed),
}

/// `delay` as a table: one of the three ways.
#[derive(Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Distributed {
    pub shortest: Option<Time>,
    pub longest: Option<Time>,
    pub mean: Option<Time>,
    pub median: Option<Time>,
    pub high: Option<Time>,
}

/// `after`: exactly one of `message`, `leader_change`, `writes`, `fault`, and what goes with it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct After {
    pub message: Option<Spanned<Kind>>,
    pub from: Option<Spanned<u64>>,
    pub to: Option<Spanned<u64>>,
    pub ballot: Option<Spanned<u64>>,
    pub partition: Option<Spanned<u32>>,
    pub leader_change: Option<Spanned<u32>>,
    pub writes: Option<Spanned<u64>>,
    pub fault: Option<Spanned<String>>,
    pub ends: Option<Spanned<bool>>,
    pub count: Option<Spanned<u64>>,
    #[serde(default)]
    pub plus: Time,
}

/// `[expect]`
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Expect {
    pub verdict: ExpectedVerdict,
    pub by: Option<CheckName>,
    pub that: Vec<Spanned<Statement>>,
}

/// One `[[expect.that]]`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Statement {
    pub name: Option<String>,
    pub says: Spanned<Says>,
    pub partition: Option<Spanned<u32>>,
    pub after: Option<Spanned<Moment>>,
    pub until: Option<Spanned<Moment>>,
    pub within: Option<Spanned<Time>>,
    pub at_least: Option<Spanned<u64>>,
    pub at_most: Option<Spanned<u64>>,
}

/// What a statement says.
#[derive(Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Says {
    Silence,
    FastReads,
    OtherLeader,
    LeaderChanges,
    FailedElections,
    Progress,
    Writes,
}

impl Says {
    pub fn text(self) -> &'static str {
        match self {
            Self::Silence => "silence",
            Self::FastReads => "fast-reads",
            Self::OtherLeader => "other-leader",
            Self::LeaderChanges => "leader-changes",
            Self::FailedElections => "failed-elections",
            Self::Progress => "progress",
            Self::Writes => "writes",
        }
    }
}

/// `after` and `until` of a statement: a fault or a phase.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Moment {
    pub fault: Option<Spanned<String>>,
    #[serde(default)]
    pub ends: bool,
    pub phase: Option<Spanned<String>>,
    #[serde(default)]
    pub plus: Time,
}

/// One `[[step]]`: exactly one of the verbs, and what goes with it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Step {
    pub name: Option<Spanned<String>>,
    pub get: Option<Spanned<OfKey>>,
    pub put: Option<Spanned<Put>>,
    pub cas: Option<Spanned<Cas>>,
    pub delete: Option<Spanned<OfKey>>,
    pub fault: Option<Spanned<StepFault>>,
    pub heal: Option<Spanned<String>>,
    pub wait: Option<Spanned<Wait>>,
    #[serde(rename = "await")]
    pub awaits: Option<Vec<Spanned<String>>>,
    pub client: Option<Spanned<Who>>,
    pub via: Option<Spanned<Via>>,
    pub times: Option<Spanned<u64>>,
    #[serde(rename = "for")]
    pub lasts: Option<Spanned<Time>>,
    pub within: Option<Spanned<Time>>,
    pub timeout_ms: Option<Spanned<u64>>,
    pub background: Option<Spanned<bool>>,
    pub expect: Option<Spanned<Expectation>>,
}

/// `get`, `delete`
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OfKey {
    pub key: Option<Spanned<FileKey>>,
    pub keys: Option<Spanned<Keys>>,
}

/// `put`
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Put {
    pub key: Option<Spanned<FileKey>>,
    pub keys: Option<Spanned<Keys>>,
    pub value: Option<Spanned<String>>,
}

/// `cas`
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cas {
    pub key: Option<Spanned<FileKey>>,
    pub keys: Option<Spanned<Keys>>,
    pub expected: Option<Spanned<String>>,
    pub new: Option<Spanned<String>>,
}

/// `expect` of a step.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Expectation {
    #[serde(default)]
    pub outcome: super::script::StepOutcome,
    pub value: Option<Spanned<String>>,
    pub absent: Option<Spanned<bool>>,
    pub swapped: Option<bool>,
    pub fast: Option<bool>,
    pub local: Option<bool>,
    pub redirected: Option<bool>,
    pub reconnected: Option<bool>,
    pub leader: Option<Spanned<Target>>,
    pub not_leader: Option<Spanned<Target>>,
    pub one_leader: Option<bool>,
    pub attempts: Option<Spanned<u64>>,
    pub error: Option<String>,
}

impl Default for Clients {
    fn default() -> Self {
        Self {
            count: Spanned::new(0..0, 3),
            entry: Spanned::new(0..0, Entry::Any),
            timeout_ms: Spanned::new(0..0, 2000),
            share: Spanned::new(0..0, 1),
            sessions: false,
        }
    }
}

impl<'de> Deserialize<'de> for Lease {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct OffOrTable;
        impl<'de> Visitor<'de> for OffOrTable {
            type Value = Lease;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("\"off\" or { duration_ms = 300, drift_ppm = 50000 }")
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Lease, E> {
                match text {
                    "off" => Ok(Lease::Off),
                    _ => Err(E::invalid_value(serde::de::Unexpected::Str(text), &self)),
                }
            }

            fn visit_map<A: serde::de::MapAccess<'de>>(self, map: A) -> Result<Lease, A::Error> {
                LeaseConfig::deserialize(serde::de::value::MapAccessDeserializer::new(map)).map(Lease::On)
            }
        }
        deserializer.deserialize_any(OffOrTable)
    }
}

impl<'de> Deserialize<'de> for DelayTable {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct TimeOrTable;
        impl<'de> Visitor<'de> for TimeOrTable {
            type Value = DelayTable;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(
                    "a duration such as \"20ms\", { shortest = \"1ms\", longest = \"20ms\" }, { mean = \"5ms\" } or { median \
                     = \"5ms\", high = \"50ms\" }",
                )
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<DelayTable, E> {
                let wrong = |()| E::invalid_value(serde::de::Unexpected::Str(text), &self);
                text.parse().map(DelayTable::Constant).map_err(wrong)
            }

            fn visit_map<A: serde::de::MapAccess<'de>>(self, map: A) -> Result<DelayTable, A::Error> {
                let table = serde::de::value::MapAccessDeserializer::new(map);
                Distributed::deserialize(table).map(DelayTable::Distribution)
            }
        }
        deserializer.deserialize_any(TimeOrTable)
    }
}

impl Default for Preset {
    fn default() -> Self {
        Self::Ranges(Vec::new())
    }
}

impl<'de> Deserialize<'de> for Preset {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ListOrTable;
        impl<'de> Visitor<'de> for ListOrTable {
            type Value = Preset;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a table such as { 1 = \"first\" }, or a list such as [{ keys = { from = 1, to = 41 }, value = \"{key}\" }]")
            }

            fn visit_seq<A: serde::de::SeqAccess<'de>>(self, mut seq: A) -> Result<Preset, A::Error> {
                let mut ranges = Vec::new();
                while let Some(range) = seq.next_element()? {
                    ranges.push(range);
                }
                Ok(Preset::Ranges(ranges))
            }

            fn visit_map<A: serde::de::MapAccess<'de>>(self, map: A) -> Result<Preset, A::Error> {
                let keys = serde::de::value::MapAccessDeserializer::new(map);
                BTreeMap::deserialize(keys).map(Preset::Keys)
            }
        }
        deserializer.deserialize_any(ListOrTable)
    }
}

impl<'de> Deserialize<'de> for Partitions {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ListOrTable;
        impl<'de> Visitor<'de> for ListOrTable {
            type Value = Partitions;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list such as [{ upper = 100 }, { lower = 100 }], or { count = 3, from = 1, to = 6001 }")
            }

            fn visit_seq<A: serde::de::SeqAccess<'de>>(self, mut seq: A) -> Result<Partitions, A::Error> {
                let mut list = Vec::new();
                while let Some(partition) = seq.next_element()? {
                    list.push(partition);
                }
                Ok(Partitions::List(list))
            }

            fn visit_map<A: serde::de::MapAccess<'de>>(self, map: A) -> Result<Partitions, A::Error> {
                let even = serde::de::value::MapAccessDeserializer::new(map);
                EvenPartitions::deserialize(even).map(Partitions::Even)
            }
        }
        deserializer.deserialize_any(ListOrTable)
    }
}

fn integer() -> KeyType {
    KeyType::Integer
}

fn durable() -> StorageKind {
    StorageKind::Durable
}

fn heartbeat() -> Spanned<u64> {
    Spanned::new(0..0, 80)
}

fn missed_rounds() -> Spanned<u64> {
    Spanned::new(0..0, 5)
}

fn request_timeout() -> Spanned<u64> {
    Spanned::new(0..0, 1500)
}
