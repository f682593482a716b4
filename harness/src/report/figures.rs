//! Figures of a run, from its completed operations and faults.

use std::collections::BTreeMap;

use checker::history::{Kind, Nemesis, Trip};
use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

use super::lacking::struck;
use crate::{history_writer::Completed, recorded::end_of};

/// All figures of a run.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Figures {
    /// Seconds of the run, from boot to end.
    pub seconds: f64,
    /// Operations by kind.
    pub operations: BTreeMap<&'static str, Outcomes>,
    /// Reads that leaders answered without their group.
    pub fast_reads: u64,
    /// Reads that replicas answered from what they had applied.
    pub local_reads: u64,
    /// What all operations together met on their ways.
    pub ways: Trip,
    /// Latencies and rates by the way that operations take.
    pub latencies: Vec<Latency>,
    /// The faults.
    pub faults: Vec<FaultFigures>,
    /// Leader changes by partition.
    pub leader_changes: BTreeMap<u32, u64>,
    /// Windows in which the harness itself did not run when it should have, in seconds since the run began.
    pub stalls: Vec<(f64, f64)>,
}

/// How operations of one kind ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outcomes {
    /// Answered.
    pub ok: u64,
    /// Definitely did not happen.
    pub fail: u64,
    /// Nobody knows.
    pub info: u64,
}

/// How long answered operations of one way took, in microseconds.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Latency {
    /// `fast reads`, `local reads`, `log reads` or `writes`.
    pub way: &'static str,
    /// How many.
    pub count: u64,
    /// How many per second of the time that operations ran.
    pub per_second: f64,
    /// Half took no longer.
    pub p50: u64,
    /// Nine of ten took no longer.
    pub p90: u64,
    /// 99 of 100 took no longer.
    pub p99: u64,
    /// None took longer.
    pub max: u64,
}

/// A fault and what ran beside it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct FaultFigures {
    /// Its number.
    pub fault: u64,
    /// What.
    pub action: String,
    /// Whom, as the workload says.
    pub target: String,
    /// Whom it came down to; nobody: it did not happen.
    pub nodes: Vec<u64>,
    /// When it was in effect, in nanoseconds of the history.
    pub from: u64,
    /// When it was undone.
    pub to: Option<u64>,
    /// It did not last: there was nothing to undo.
    pub instant: bool,
    /// Answered operations that overlap it.
    pub overlapping: u64,
    /// How much it has struck, where that is counted; 0: it came to nothing.
    pub struck: Option<u64>,
}

impl Figures {
    /// Gathers the figures. A fault that was not undone lasts until `healed`; what permanent faults do later is left out.
    pub fn gather(completed: &[Completed], faults: &[Nemesis], healed: u64, ended: u64) -> Self {
        let mut figures = Self { seconds: ended as f64 / 1e9, ..Self::default() };
        for operation in completed {
            figures.ways.redirects += operation.trip.redirects;
            figures.ways.gone += operation.trip.gone;
            figures.ways.leaderless += operation.trip.leaderless;
            figures.ways.behind += operation.trip.behind;
            figures.ways.unknown += operation.trip.unknown;
            let outcomes = figures.operations.entry(operation.name).or_default();
            match operation.kind {
                Kind::Ok => outcomes.ok += 1,
                Kind::Fail => outcomes.fail += 1,
                Kind::Info | Kind::Invoke => outcomes.info += 1,
            }
        }
        let answered: Vec<&Completed> =
            completed.iter().filter(|operation| operation.kind == Kind::Ok).collect();
        figures.local_reads = answered.iter().filter(|operation| operation.local).count() as u64;
        figures.fast_reads = answered.iter().filter(|operation| operation.fast).count() as u64;
        let is_read = |operation: &&&Completed| operation.name == "get";
        let alone = |operation: &Completed| operation.fast || operation.local;
        let ways: [(&'static str, Vec<&Completed>); 4] = [
            ("fast reads", answered.iter().filter(|operation| operation.fast).copied().collect()),
            ("local reads", answered.iter().filter(|operation| operation.local).copied().collect()),
            ("log reads", answered.iter().filter(is_read).filter(|read| !alone(read)).copied().collect()),
            ("writes", answered.iter().filter(|operation| !is_read(operation)).copied().collect()),
        ];
        let first = completed.iter().map(|operation| operation.invoked).min().unwrap_or_default();
        let last = completed.iter().map(|operation| operation.ended).max().unwrap_or_default();
        let seconds = last.saturating_sub(first).max(1) as f64 / 1e9;
        figures.latencies =
            ways.into_iter().filter_map(|(way, operations)| latency(way, &operations, seconds)).collect();
        let times: Vec<(u64, u64)> =
            answered.iter().map(|operation| (operation.invoked, operation.ended)).collect();
        figures.faults = fault_figures(&times, faults, healed);
        figures
    }

    /// Answered operations of all kinds.
    pub fn answered(&self) -> u64 {
        self.operations.values().map(|outcomes| outcomes.ok).sum()
    }
}

fn latency(way: &'static str, operations: &[&Completed], seconds: f64) -> Option<Latency> {
    if operations.is_empty() {
        return None;
    }
    let mut histogram = Histogram::<u64>::new(3).ok()?;
    for operation in operations {
        histogram += (operation.ended - operation.invoked) / 1000;
    }
    Some(Latency {
        way,
        count: operations.len() as u64,
        per_second: operations.len() as f64 / seconds,
        p50: histogram.value_at_quantile(0.5),
        p90: histogram.value_at_quantile(0.9),
        p99: histogram.value_at_quantile(0.99),
        max: histogram.max(),
    })
}

/// The faults that began before everything was `healed`, with the answered operations beside them, of which these are the
/// beginnings and ends.
pub fn fault_figures(answered: &[(u64, u64)], faults: &[Nemesis], healed: u64) -> Vec<FaultFigures> {
    faults
        .iter()
        .filter(|record| record.begins && record.time <= healed)
        .map(|record| {
            let to = end_of(record, faults).map(|end| end.time);
            let until =
                to.or(record.instant.then_some(record.time)).unwrap_or(u64::MAX).min(healed.max(record.time));
            let overlaps = |(invoked, ended): &&(u64, u64)| *invoked <= until && *ended >= record.time;
            FaultFigures {
                fault: record.fault,
                action: record.action.clone(),
                target: record.target.clone(),
                nodes: record.nodes.clone(),
                from: record.time,
                to,
                overlapping: answered.iter().filter(overlaps).count() as u64,
                instant: record.instant,
                struck: struck(record.fault, faults),
            }
        })
        .collect()
}
