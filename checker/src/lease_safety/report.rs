//! What the lease checks found, and how much the run gave them to find.

use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;

use super::clock::{Common, FOREVER};
use super::traces::{Place, Traces};
use crate::history::{History, Moment};

/// Violations of one invariant that are told; the others are only counted.
const TOLD: usize = 10;

/// The invariants that are checked, by their numbers in the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[expect(missing_docs, reason = "each is stated where the module begins")]
pub enum Invariant {
    L1,
    L2,
    L3,
    L4,
    L5,
    L6,
    L7,
    L8,
    #[serde(rename = "SP2")]
    Sp2,
    #[serde(rename = "SP3")]
    Sp3,
    #[serde(rename = "BLE3")]
    Ble3,
}

impl fmt::Display for Invariant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sp2 => f.write_str("SP2"),
            Self::Sp3 => f.write_str("SP3"),
            Self::Ble3 => f.write_str("BLE3"),
            other => write!(f, "{other:?}"),
        }
    }
}

/// One of the events that contradict each other.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Evidence {
    /// The file that it stands in.
    pub file: String,
    /// Its line, from 1.
    pub line: usize,
    /// When, in nanoseconds of the history's clock; negative before the run began.
    pub time: i64,
    /// What it says.
    pub text: String,
}

/// A violation of an invariant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Violation {
    /// Which.
    pub invariant: Invariant,
    /// How the events contradict it.
    pub text: String,
    /// The events.
    pub evidence: Vec<Evidence>,
}

/// How much of the protocol a run has exercised: a run that tested nothing passes too.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Exercise {
    /// Trace events read.
    pub events: usize,
    /// Lines that crashes cut off, and were ignored.
    pub truncated_lines: usize,
    /// Boots of nodes.
    pub boots: usize,
    /// Leases held.
    pub holds: usize,
    /// Times that a hold was extended.
    pub extensions: usize,
    /// Grants given, extensions among them.
    pub grants: usize,
    /// Promises given.
    pub promises: usize,
    /// Reads answered without the group, from the traces.
    pub fast_reads: usize,
    /// Those of them that were checked in the last tenth of a lease's length before its expiry.
    pub fast_reads_near_expiry: usize,
    /// Fast answers in the history for which no trace event was found.
    pub fast_answers_without_event: usize,
    /// Log entries whose decision was compared between nodes or incarnations.
    pub entries_compared: usize,
    /// Snapshots that a node has fetched from another.
    pub snapshots_fetched: usize,
    /// Changes of leader after the first, by partition.
    pub leader_changes: BTreeMap<u32, usize>,
    /// Take-overs by a node that never came to lead under that ballot, by partition.
    pub failed_elections: BTreeMap<u32, u64>,
    /// Planted bugs that were reached, with how often.
    pub mutants: BTreeMap<String, usize>,
}

/// What the lease checks found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LeaseReport {
    /// Whether leases were on; L1 to L7 are checked only then.
    pub leases: bool,
    /// How often each invariant was violated.
    pub counts: BTreeMap<Invariant, usize>,
    /// The first violations of each invariant.
    pub violations: Vec<Violation>,
    /// How much was exercised.
    pub exercise: Exercise,
}

impl LeaseReport {
    /// Whether no invariant was violated.
    pub fn is_valid(&self) -> bool {
        self.counts.is_empty()
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.invariant, self.text)?;
        for evidence in &self.evidence {
            let Evidence { file, line, time, text } = evidence;
            let sign = if *time < 0 { "-" } else { "" };
            let time = crate::explain::seconds(time.unsigned_abs());
            write!(f, "\n  {file}:{line} at {sign}{time}: {text}")?;
        }
        Ok(())
    }
}

/// Gathers violations.
pub(super) struct Findings<'a> {
    traces: &'a Traces,
    origin: Common,
    counts: BTreeMap<Invariant, usize>,
    violations: Vec<Violation>,
    pub(super) exercise: Exercise,
}

impl<'a> Findings<'a> {
    pub(super) fn new(traces: &'a Traces, history: &History) -> Self {
        let exercise = Exercise {
            events: traces.nodes.iter().map(|node| node.lines.len()).sum(),
            truncated_lines: traces.nodes.iter().map(|node| node.truncated.len()).sum(),
            ..Exercise::default()
        };
        let origin = history.header.origin.into();
        Self { traces, origin, counts: BTreeMap::new(), violations: Vec::new(), exercise }
    }

    /// Adds a violation; the words are only made for those that are told.
    pub(super) fn add(&mut self, invariant: Invariant, told: impl FnOnce(&Self) -> (String, Vec<Evidence>)) {
        let count = self.counts.entry(invariant).or_default();
        *count += 1;
        if *count <= TOLD {
            let (text, evidence) = told(self);
            self.violations.push(Violation { invariant, text, evidence });
        }
    }

    /// The trace event at a place, as evidence.
    pub(super) fn event(&self, place: Place) -> Evidence {
        let node = &self.traces.nodes[place.file as usize];
        let (number, line) = &node.lines[place.index as usize];
        let told = serde_json::to_string(&line.event).unwrap_or_default();
        Evidence {
            file: format!("trace/{}", node.file),
            line: *number,
            time: self.since_origin(line.common.into()),
            text: format!("node {} {told}", line.node),
        }
    }

    /// A line of the history as evidence.
    pub(super) fn history_line(moment: Moment, text: String) -> Evidence {
        Evidence { file: "history.jsonl".to_owned(), line: moment.position, time: moment.time as i64, text }
    }

    /// A moment in words, on the history's clock.
    pub(super) fn moment(&self, at: Common) -> String {
        if at == FOREVER {
            return "never".to_owned();
        }
        let time = self.since_origin(at);
        let sign = if time < 0 { "-" } else { "" };
        format!("{sign}{}", crate::explain::seconds(time.unsigned_abs()))
    }

    pub(super) fn into_report(mut self, leases: bool) -> LeaseReport {
        self.violations.sort_by_key(|violation| violation.invariant);
        let Self { counts, violations, exercise, .. } = self;
        LeaseReport { leases, counts, violations, exercise }
    }

    fn since_origin(&self, at: Common) -> i64 {
        at.saturating_sub(self.origin).clamp(i64::MIN.into(), i64::MAX.into()) as i64
    }
}
