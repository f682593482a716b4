//! The workload file as it is written: every key that exists, with the places of the values that are checked later.

use std::{collections::BTreeMap, fmt};

use serde::{Deserialize, Deserializer, de::Visitor};
use store::config::{LeaseConfig, Mutant, StorageKind};
use toml::Spanned;

use super::{
    Checks, Direction, Distribution, Expect, FaultAction, LinkFault, Mix, Phases, Require,
    scalar::{Entry, FileKey, Target, Time, Via, Wait, Who},
};

/// A whole workload file.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct File {
    pub about: Option<String>,
    pub mutant: Option<Spanned<Mutant>>,
    pub lose_unsynced: Option<Spanned<bool>>,
    pub cluster: Cluster,
    #[serde(default)]
    pub clients: Clients,
    pub operations: Option<Spanned<Operations>>,
    #[serde(default)]
    pub clocks: BTreeMap<Spanned<String>, Spanned<Clock>>,
    #[serde(default)]
    pub nemesis: Vec<Spanned<Nemesis>>,
    #[serde(default, rename = "step")]
    pub steps: Vec<Spanned<Step>>,
    #[serde(default)]
    pub phases: Phases,
    #[serde(default)]
    pub checks: Checks,
    #[serde(default)]
    pub require: Require,
    #[serde(default)]
    pub expect: Expect,
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
    pub partitions: Spanned<Partitions>,
    pub replication: Option<Spanned<u64>>,
    pub threshold: Option<Spanned<u64>>,
    #[serde(default = "durable")]
    pub storage: StorageKind,
    #[serde(default = "heartbeat")]
    pub heartbeat_ms: Spanned<u64>,
    #[serde(default = "missed_rounds")]
    pub missed_rounds: Spanned<u64>,
    pub lease: Spanned<Lease>,
    #[serde(default = "request_timeout")]
    pub request_timeout_ms: Spanned<u64>,
    #[serde(default)]
    pub preset: BTreeMap<Spanned<String>, String>,
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

/// Even ranges of `[from, to)`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EvenPartitions {
    pub count: Spanned<u64>,
    pub from: i64,
    pub to: Spanned<i64>,
}

/// `[clients]`
#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Clients {
    pub count: Spanned<u64>,
    pub entry: Spanned<Entry>,
    pub timeout_ms: Spanned<u64>,
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
}

/// `keys`: exactly one of `count`, `from` with `to`, and `list`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Keys {
    pub count: Option<Spanned<u64>>,
    pub from: Option<i64>,
    pub to: Option<i64>,
    #[serde(default)]
    pub list: Vec<Spanned<FileKey>>,
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

/// One `[[nemesis]]`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Nemesis {
    pub at: Option<Spanned<Time>>,
    pub every: Option<Spanned<Time>>,
    pub action: Spanned<FaultAction>,
    pub target: Option<Spanned<Target>>,
    #[serde(rename = "for")]
    pub lasts: Option<Spanned<Time>>,
    #[serde(default)]
    pub links: LinkFault,
    #[serde(default)]
    pub direction: Direction,
    pub rate_ppm: Option<i64>,
    pub offset_ms: Option<i64>,
    pub permanent: Option<Spanned<bool>>,
}

/// The fault of a step.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StepFault {
    pub action: Spanned<FaultAction>,
    pub target: Option<Spanned<Target>>,
    #[serde(rename = "for")]
    pub lasts: Option<Spanned<Time>>,
    #[serde(default)]
    pub links: LinkFault,
    #[serde(default)]
    pub direction: Direction,
    pub rate_ppm: Option<i64>,
    pub offset_ms: Option<i64>,
}

/// One `[[step]]`: exactly one of the verbs, and what goes with it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Step {
    pub name: Option<Spanned<String>>,
    pub get: Option<OfKey>,
    pub put: Option<Put>,
    pub cas: Option<Cas>,
    pub delete: Option<OfKey>,
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
    pub key: Spanned<FileKey>,
}

/// `put`
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Put {
    pub key: Spanned<FileKey>,
    pub value: Option<String>,
}

/// `cas`
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cas {
    pub key: Spanned<FileKey>,
    pub expected: Option<String>,
    pub new: Option<String>,
}

/// `expect` of a step.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Expectation {
    #[serde(default)]
    pub outcome: super::script::StepOutcome,
    pub value: Option<String>,
    pub absent: Option<Spanned<bool>>,
    pub swapped: Option<bool>,
    pub fast: Option<bool>,
    pub leader: Option<Spanned<Target>>,
    pub not_leader: Option<Spanned<Target>>,
    pub one_leader: Option<bool>,
    pub error: Option<String>,
}

impl Default for Clients {
    fn default() -> Self {
        Self {
            count: Spanned::new(0..0, 3),
            entry: Spanned::new(0..0, Entry::Any),
            timeout_ms: Spanned::new(0..0, 2000),
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
