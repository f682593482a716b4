//! What is watched at every turn and every answer, and what is kept for the checks at the end.

use std::{collections::BTreeMap, fmt};

use checker::{
    history::{Key, OpResult, Record},
    lease_safety::{NodeTrace, Traces},
    trace,
};
use store::{
    api::{Ballot, NodeId, PartitionId},
    core::{LocalTime, Output, invariants::Observer, message::GroupStatus, trace::TraceEvent},
};

use super::machine::Machine;
use crate::{plan::Plan, workload::CheckName};

/// Something that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The check that it belongs to, as a workload names it.
    pub by: CheckName,
    /// In words.
    pub text: String,
}

impl fmt::Display for Finding {
    /// Its first line.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text.lines().next().unwrap_or_default())
    }
}

/// The observers of a run.
#[derive(Debug)]
pub struct Watch {
    observer: Observer,
    /// Some clock has changed. The invariants' observer maps times by the clocks of their moment, so that what it says of
    /// leases counts no longer; the traces, which know every clock's changes, are judged at the end.
    clocks_changed: bool,
    lease: u64,
    /// Highest ballot of its own that each node has told anyone of, in each partition, in any of its lives.
    told: BTreeMap<(NodeId, PartitionId), Ballot>,
    /// Highest version of each key that any client was told of.
    versions: BTreeMap<Key, u64>,
    traces: Option<Vec<Vec<trace::TraceLine>>>,
    /// The history.
    pub records: Vec<Record>,
    /// Fast reads in the last tenth of a lease's length before the hold's end.
    pub near_expiry: u64,
    /// Snapshots that a node has fetched from another.
    pub snapshots_fetched: u64,
    /// How often a planted bug was reached.
    pub mutant_reached: u64,
}

impl Watch {
    /// Nothing has happened.
    pub fn new(plan: &Plan) -> Self {
        Self {
            observer: Observer::default(),
            clocks_changed: false,
            lease: plan.cluster.lease.map_or(0, |lease| lease.duration_ms * 1_000_000),
            told: BTreeMap::new(),
            versions: BTreeMap::new(),
            traces: plan.checks.lease_safety.then(|| vec![Vec::new(); plan.nodes as usize]),
            records: vec![Record::Header(plan.header(0))],
            near_expiry: 0,
            snapshots_fetched: 0,
            mutant_reached: 0,
        }
    }

    /// A node has ended a turn.
    pub fn turn(&mut self, now: u64, machine: &Machine, out: &[Output]) -> Result<(), Finding> {
        let Some(node) = machine.node() else { return Ok(()) };
        for output in out {
            if let Output::Trace(event) = output {
                self.event(now, machine, event);
                self.is_new(machine.config.node, event)?;
            }
        }
        let to_common = |local: LocalTime| machine.clock.common(local);
        match self.observer.observe(now, machine.config.node, node, out, to_common) {
            Err(text) if !(self.clocks_changed && text.starts_with('L')) => {
                Err(Finding { by: CheckName::LeaseSafety, text })
            }
            _ => Ok(()),
        }
    }

    /// BLE3: a ballot that a node takes over with is above all that it ever told anyone of.
    fn is_new(&self, node: NodeId, event: &TraceEvent) -> Result<(), Finding> {
        if let TraceEvent::Elected { partition, ballot } = event
            && ballot.node == node
            && let Some(told) = self.told.get(&(node, *partition)).filter(|told| *told >= ballot)
        {
            let text = format!("BLE3: node {node} takes over with {ballot} after it has told of {told}");
            return Err(Finding { by: CheckName::LeaseSafety, text });
        }
        Ok(())
    }

    /// A node's heartbeat leaves.
    pub fn told(&mut self, node: NodeId, groups: &[GroupStatus]) {
        for group in groups {
            let told = self.told.entry((node, group.partition)).or_default();
            *told = (*told).max(group.ballot);
        }
    }

    /// A core gave up in the middle of a turn: what it had to say until then.
    pub fn last_words(&mut self, out: &[Output]) {
        let reached = |output: &&Output| matches!(output, Output::Trace(TraceEvent::MutantReached { .. }));
        self.mutant_reached += out.iter().filter(reached).count() as u64;
    }

    /// A node has died.
    pub fn crashed(&mut self, now: u64, node: NodeId) {
        self.observer.crashed(now, node);
    }

    /// A node's clock has changed.
    pub fn clock_changed(&mut self, now: u64, machine: &Machine) {
        self.clocks_changed = true;
        self.event(now, machine, &machine.clock.event());
    }

    /// What anyone knows of a key's version.
    pub fn known_version(&self, key: &Key) -> u64 {
        self.versions.get(key).copied().unwrap_or_default()
    }

    /// L5 and L8: an answer reflects at least what anyone knew when it was asked, unless it is a local read.
    pub fn answered(&mut self, key: &Key, known: u64, result: &OpResult) -> Result<(), Finding> {
        let version = self.versions.entry(key.clone()).or_default();
        *version = (*version).max(result.version);
        if result.version >= known || result.local {
            return Ok(());
        }
        let way = if result.fast { "L5: a fast read" } else { "L8: an operation" };
        let text = format!(
            "{way} of key {key} was answered with version {} by node {} under {}, and version {known} was known before",
            result.version, result.leader, result.ballot
        );
        Err(Finding { by: CheckName::LeaseSafety, text })
    }

    /// The traces, if they were kept.
    pub fn take_traces(&mut self) -> Option<Traces> {
        let nodes = self.traces.take()?.into_iter().enumerate();
        let nodes =
            nodes.map(|(index, lines)| NodeTrace::from_lines(&format!("node-{}.jsonl", index + 1), lines));
        Some(Traces { nodes: nodes.collect() })
    }

    /// Each node's trace, if they are kept.
    pub fn trace_lines(&self) -> &[Vec<trace::TraceLine>] {
        self.traces.as_deref().unwrap_or_default()
    }

    fn event(&mut self, now: u64, machine: &Machine, event: &TraceEvent) {
        match event {
            TraceEvent::FastRead { checked, expiry, .. }
                if expiry.saturating_sub(*checked) <= self.lease / 10 =>
            {
                self.near_expiry += 1;
            }
            TraceEvent::Snapshot { fetched: true, .. } => self.snapshots_fetched += 1,
            TraceEvent::MutantReached { .. } => self.mutant_reached += 1,
            _ => {}
        }
        if let Some(traces) = self.traces.as_mut().filter(|_| machine.config.traced) {
            let config = &machine.config;
            traces[config.node as usize - 1].push(trace::TraceLine {
                node: config.node,
                boot: config.boot,
                common: now,
                local: machine.clock.local(now).0,
                event: translated(event),
            });
        }
    }
}

/// The store's event as the checker reads it: the two know nothing of one another.
fn translated(event: &TraceEvent) -> trace::TraceEvent {
    use trace::TraceEvent as To;
    match event.clone() {
        TraceEvent::Started { lease, drift_ppm } => To::Started { lease, drift_ppm },
        TraceEvent::Clock { base_common, base_local, rate_ppm } => {
            To::Clock { base_common, base_local, rate_ppm }
        }
        TraceEvent::Group { partition, replicas, promised } => {
            To::Group { partition, replicas, promised: ballot(promised) }
        }
        TraceEvent::Elected { partition, ballot: of } => To::Elected { partition, ballot: ballot(of) },
        TraceEvent::Promised { partition, ballot: of } => To::Promised { partition, ballot: ballot(of) },
        TraceEvent::Granted { partition, ballot: of, until } => {
            To::Granted { partition, ballot: ballot(of), until }
        }
        TraceEvent::Released { partition, ballot: of } => To::Released { partition, ballot: ballot(of) },
        TraceEvent::Hold { partition, ballot: of, until } => {
            To::Hold { partition, ballot: ballot(of), until }
        }
        TraceEvent::HoldEnded { partition, ballot: of } => To::HoldEnded { partition, ballot: ballot(of) },
        TraceEvent::Leading { partition, ballot: of } => To::Leading { partition, ballot: ballot(of) },
        TraceEvent::SteppedDown { partition, ballot: of } => {
            To::SteppedDown { partition, ballot: ballot(of) }
        }
        TraceEvent::FastRead { partition, ballot: of, key, received, checked, expiry, version, applied } => {
            To::FastRead { partition, ballot: ballot(of), key, received, checked, expiry, version, applied }
        }
        TraceEvent::Decided { partition, ballot: of, leading, first, hashes } => {
            To::Decided { partition, ballot: ballot(of), leading, first, hashes }
        }
        TraceEvent::StopSign { partition, ballot: of, index } => {
            To::StopSign { partition, ballot: ballot(of), index }
        }
        TraceEvent::Snapshot { partition, index, start, fetched } => {
            To::Snapshot { partition, index, start, fetched }
        }
        TraceEvent::MutantReached { name } => To::MutantReached { name },
    }
}

fn ballot(ballot: Ballot) -> trace::Ballot {
    let Ballot { config, number, priority, node } = ballot;
    trace::Ballot { config, number, priority, node }
}
