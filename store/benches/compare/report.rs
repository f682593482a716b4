//! What the comparison says: medians, ratios within rounds, and the goals.

use std::fmt;

use serde::Serialize;
use store::load::median;

use crate::{
    Arguments, LOADS,
    contenders::{Measured, Memory, Rounds, Way},
};

/// Everything.
#[derive(Debug, Serialize)]
pub struct Report {
    rounds: usize,
    seconds: f64,
    /// The version that was compared with, or why none was.
    etcd: Result<String, String>,
    /// Why omnipaxos was left out, if it was.
    omnipaxos_skipped: Option<String>,
    rows: Vec<Row>,
    ratios: Vec<Ratio>,
    memory: Memory,
}

/// Medians of one way under one load.
#[derive(Debug, Serialize)]
struct Row {
    what: &'static str,
    connections: usize,
    depth: usize,
    per_second: f64,
    p50_us: f64,
    p99_us: f64,
    /// Processors used.
    clients: f64,
    leader: f64,
    followers: f64,
}

/// What one way is beside another one.
#[derive(Debug, Serialize)]
struct Ratio {
    figure: Figure,
    what: &'static str,
    beside: &'static str,
    in_flight: usize,
    /// The median of the rounds' ratios; none: it was not measured.
    measured: Option<f64>,
    /// What it is to be.
    goal: Option<Goal>,
    reached: Option<bool>,
}

/// What a ratio is to be.
#[derive(Clone, Copy, Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
enum Goal {
    AtLeast(f64),
    AtMost(f64),
}

impl Goal {
    fn is_reached(self, ratio: f64) -> bool {
        match self {
            Self::AtLeast(bound) => ratio >= bound,
            Self::AtMost(bound) => ratio <= bound,
        }
    }
}

/// What is compared of two ways.
#[derive(Clone, Copy, Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
enum Figure {
    PerSecond,
    P50,
    P99,
}

const ONE: (usize, usize) = LOADS[0];
const SMALL: (usize, usize) = LOADS[1];
const LARGE: (usize, usize) = LOADS[2];

/// What is compared with what, under which load, and what the ratio is to be.
type Compared = (Figure, Way, Way, (usize, usize), Option<Goal>);

/// All of it. Those without a goal say how far the store is from
/// what the machine allows, and what happens to a mixed load.
const COMPARED: [Compared; 33] = {
    use Figure::{P50, P99, PerSecond};
    use Goal::{AtLeast, AtMost};
    [
        (PerSecond, Way::LeaseGet, Way::EtcdGet, SMALL, Some(AtLeast(12.0))),
        (PerSecond, Way::LeaseGet, Way::EtcdGet, LARGE, Some(AtLeast(20.0))),
        (PerSecond, Way::DurablePut, Way::EtcdPut, SMALL, Some(AtLeast(6.0))),
        (PerSecond, Way::DurablePut, Way::EtcdPut, LARGE, Some(AtLeast(12.0))),
        (PerSecond, Way::MemoryPut, Way::OmnipaxosPut, SMALL, Some(AtLeast(2.0))),
        (PerSecond, Way::MemoryPut, Way::OmnipaxosPut, LARGE, Some(AtLeast(2.0))),
        (PerSecond, Way::LeaseGet, Way::DurableLogGet, SMALL, Some(AtLeast(3.0))),
        (PerSecond, Way::LeaseGet, Way::DurableLogGet, LARGE, Some(AtLeast(3.0))),
        (PerSecond, Way::LeaseGet, Way::MemoryLogGet, SMALL, Some(AtLeast(3.0))),
        (PerSecond, Way::LeaseGet, Way::MemoryLogGet, LARGE, Some(AtLeast(3.0))),
        (P50, Way::LeaseGet, Way::Echo, ONE, Some(AtMost(1.6))),
        (P50, Way::DurablePut, Way::QuorumSynced, ONE, Some(AtMost(1.5))),
        (PerSecond, Way::ManyPartitionsGet, Way::LeaseGet, SMALL, Some(AtLeast(1.0))),
        (PerSecond, Way::ManyPartitionsGet, Way::LeaseGet, LARGE, Some(AtLeast(1.0))),
        (PerSecond, Way::ManyPartitionsPut, Way::MemoryPut, SMALL, Some(AtLeast(1.0))),
        (PerSecond, Way::ManyPartitionsPut, Way::MemoryPut, LARGE, Some(AtLeast(1.0))),
        (PerSecond, Way::ManyPartitionsDurablePut, Way::DurablePut, SMALL, Some(AtLeast(1.0))),
        (PerSecond, Way::ManyPartitionsDurablePut, Way::DurablePut, LARGE, Some(AtLeast(1.0))),
        (PerSecond, Way::LeaseGet, Way::DurableLogGet, ONE, None),
        (PerSecond, Way::LeaseGet, Way::MemoryLogGet, ONE, None),
        (PerSecond, Way::Echo, Way::QuorumInMemory, SMALL, None),
        (PerSecond, Way::Echo, Way::QuorumInMemory, LARGE, None),
        (PerSecond, Way::LeaseGet, Way::Echo, LARGE, None),
        (PerSecond, Way::MemoryPut, Way::OmnipaxosTightPut, SMALL, None),
        (PerSecond, Way::MemoryPut, Way::OmnipaxosTightPut, LARGE, None),
        (PerSecond, Way::OmnipaxosPut, Way::QuorumInMemory, SMALL, None),
        (PerSecond, Way::OmnipaxosPut, Way::QuorumInMemory, LARGE, None),
        (PerSecond, Way::MemoryPut, Way::QuorumInMemory, SMALL, None),
        (PerSecond, Way::MemoryPut, Way::QuorumInMemory, LARGE, None),
        (PerSecond, Way::DurablePut, Way::QuorumSynced, SMALL, None),
        (PerSecond, Way::DurablePut, Way::QuorumSynced, LARGE, None),
        (P99, Way::DurableMix, Way::EtcdMix, SMALL, None),
        (P99, Way::DurableMix, Way::EtcdMix, LARGE, None),
    ]
};

/// Bounds of the memory that a node takes, MiB.
const IDLE_PARTITION: f64 = 1.0;
const MILLION_KEYS: f64 = 400.0;

impl Report {
    /// Of the other programs: etcd's version or why it is left out, and why omnipaxos is, if it is.
    pub fn new(
        arguments: &Arguments,
        (etcd, omnipaxos_skipped): (Result<String, String>, Option<String>),
        rounds: &Rounds,
        memory: Memory,
    ) -> Self {
        let rows = LOADS.iter().flat_map(|load| Way::ALL.map(|way| (way, *load)));
        let rows = rows.filter_map(|cell| Some(Row::of(cell, rounds.get(&cell)?)));
        Self {
            rounds: arguments.rounds,
            seconds: arguments.seconds,
            etcd,
            omnipaxos_skipped,
            rows: rows.collect(),
            ratios: COMPARED.iter().map(|compared| Ratio::of(*compared, rounds)).collect(),
            memory,
        }
    }
}

impl Row {
    fn of((way, (connections, depth)): (Way, (usize, usize)), rounds: &[Measured]) -> Self {
        let of = |figure: fn(&Measured) -> f64| median(rounds.iter().map(figure).collect());
        Self {
            what: way.words(),
            connections,
            depth,
            per_second: of(|measured| measured.per_second),
            p50_us: of(|measured| measured.p50_us),
            p99_us: of(|measured| measured.p99_us),
            clients: of(|measured| measured.processors[0]),
            leader: of(|measured| measured.processors[1]),
            followers: of(|measured| measured.processors[2]),
        }
    }
}

impl Ratio {
    fn of((figure, way, other, load, goal): Compared, rounds: &Rounds) -> Self {
        let of = |measured: &Measured| match figure {
            Figure::PerSecond => measured.per_second,
            Figure::P50 => measured.p50_us,
            Figure::P99 => measured.p99_us,
        };
        let both = rounds.get(&(way, load)).zip(rounds.get(&(other, load)));
        let ratio = both.map(|(one, other)| {
            median(one.iter().zip(other).map(|(one, other)| of(one) / of(other)).collect())
        });
        Self {
            figure,
            what: way.words(),
            beside: other.words(),
            in_flight: load.0 * load.1,
            measured: ratio,
            goal,
            reached: goal.zip(ratio).map(|(goal, ratio)| goal.is_reached(ratio)),
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.etcd {
            Ok(version) => writeln!(f, "{version}, three members, durable, everything at its default")?,
            Err(why) => writeln!(f, "etcd skipped: {why}")?,
        }
        if let Some(why) = &self.omnipaxos_skipped {
            writeln!(f, "omnipaxos skipped: {why}")?;
        }
        writeln!(
            f,
            "\nin flight     {:<38} {:>10} {:>9} {:>9}   processors: clients, leader, followers",
            "", "per second", "p50 us", "p99 us"
        )?;
        for row in &self.rows {
            let Row { what, connections, depth, per_second, p50_us, p99_us, clients, leader, followers } =
                row;
            writeln!(
                f,
                "{:>3} ({connections:>2} x {depth:>2}) {what:<38} {per_second:>10.0} {p50_us:>9.0} {p99_us:>9.0}   {clients:.2} {leader:.2} {followers:.2}",
                connections * depth
            )?;
        }
        writeln!(f, "\n{:<8} {:<11} {:>9}  {:>8}", "goal", "", "in flight", "ratio")?;
        for ratio in &self.ratios {
            writeln!(f, "{ratio}")?;
        }
        let Memory { idle_partition, million_keys } = self.memory;
        let word = |reached| if reached { "reached" } else { "missed" };
        writeln!(
            f,
            "{:<8} < {IDLE_PARTITION} MiB      {idle_partition:>19.2}  memory of a partition that nobody uses, on a node",
            word(idle_partition < IDLE_PARTITION)
        )?;
        writeln!(
            f,
            "{:<8} < {MILLION_KEYS} MiB    {million_keys:>19.0}  memory of a node with a million keys of 128 bytes",
            word(million_keys < MILLION_KEYS)
        )?;
        writeln!(
            f,
            "\n{} rounds of {} s each, in turn; medians, of ratios those of the rounds' ratios. All on this machine, clients included: \
             absolute figures say nothing of another one, or of this one tomorrow",
            self.rounds, self.seconds
        )
    }
}

impl fmt::Display for Ratio {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = match (self.measured, self.reached) {
            (None, _) => "skipped",
            (Some(_), Some(true)) => "reached",
            (Some(_), Some(false)) => "missed",
            (Some(_), None) => "-",
        };
        let goal = match self.goal {
            Some(Goal::AtLeast(bound)) => format!(">= {bound}"),
            Some(Goal::AtMost(bound)) => format!("<= {bound}"),
            None => String::new(),
        };
        let ratio = self.measured.map_or("-".to_owned(), |ratio| format!("{ratio:.2}"));
        let figure = match self.figure {
            Figure::PerSecond => "throughput",
            Figure::P50 => "p50",
            Figure::P99 => "p99",
        };
        let (what, beside, in_flight) = (self.what, self.beside, self.in_flight);
        write!(f, "{word:<8} {goal:<11} {in_flight:>9}  {ratio:>8}  {figure}: {what} / {beside}")
    }
}
