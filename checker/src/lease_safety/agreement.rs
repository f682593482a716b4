//! SP2, SP3 and BLE3: decided logs and ballots, which hold with and without leases.

use rustc_hash::{FxHashMap, FxHashSet};

use super::report::{Findings, Invariant};
use super::traces::{Place, Traces};
use crate::trace::{Ballot, TraceEvent, TraceLine};

/// Judges decided logs and ballots, and counts what was exercised.
pub(super) fn check(traces: &Traces, findings: &mut Findings<'_>) {
    let mut log = DecidedLog::default();
    let mut ballots = Ballots::default();
    for (place, line) in traces.in_common_order() {
        match &line.event {
            TraceEvent::Started { .. } => findings.exercise.boots += 1,
            TraceEvent::MutantReached { name } => {
                *findings.exercise.mutants.entry(name.clone()).or_default() += 1;
            }
            TraceEvent::Decided { partition, first, hashes, .. } => {
                log.decided(*partition, *first, hashes, line, place, findings);
            }
            TraceEvent::Snapshot { partition, index, start, fetched } => {
                findings.exercise.snapshots_fetched += usize::from(*fetched);
                log.covered(*partition, (*index, *start), *fetched, line, place, findings);
            }
            TraceEvent::Elected { partition, ballot } => {
                ballots.elected(*partition, *ballot, line, place, findings);
            }
            TraceEvent::Leading { partition, ballot } => {
                ballots.leading(*partition, *ballot, line, place, findings);
            }
            _ => {}
        }
    }
    for (partition, _) in ballots.taken_over.iter().filter(|ballot| !ballots.led.contains_key(ballot)) {
        *findings.exercise.failed_elections.entry(*partition).or_default() += 1;
    }
}

#[derive(Default)]
struct DecidedLog {
    /// By partition and index: the hash first seen, and where.
    entries: FxHashMap<(u32, u64), (u64, Place)>,
    /// By partition and node: the incarnation, the index that must come next, and the event that says so.
    next: FxHashMap<(u32, u64), (u64, u64, Place)>,
}

impl DecidedLog {
    /// A snapshot reflects what is decided, and no entry is gone that it does not cover. After one that another node has sent,
    /// the node goes on behind it.
    fn covered(
        &mut self,
        partition: u32,
        (index, start): (u64, u64),
        fetched: bool,
        line: &TraceLine,
        place: Place,
        findings: &mut Findings<'_>,
    ) {
        let known = self.next.get(&(partition, line.node)).filter(|(boot, ..)| *boot == line.boot);
        let (next, before) = known.map_or((index + 1, place), |&(_, next, before)| (next, before));
        let behind = if fetched { index < next && before != place } else { index >= next && before != place };
        if start > index || behind {
            findings.add(Invariant::Sp3, |findings| {
                let text = format!(
                    "node {} has a snapshot of {index} and a log that begins after {start} in partition {partition}, \
                     where entry {next} is the next to be decided",
                    line.node
                );
                (text, vec![findings.event(before), findings.event(place)])
            });
        }
        if fetched {
            self.next.insert((partition, line.node), (line.boot, index + 1, place));
        }
    }

    fn decided(
        &mut self,
        partition: u32,
        first: u64,
        hashes: &[u64],
        line: &TraceLine,
        place: Place,
        findings: &mut Findings<'_>,
    ) {
        if hashes.is_empty() {
            return;
        }
        let after = first.saturating_add(hashes.len() as u64);
        let known = self.next.insert((partition, line.node), (line.boot, after, place));
        if let Some((_, next, before)) = known.filter(|&(boot, next, _)| boot == line.boot && next != first) {
            findings.add(Invariant::Sp3, |findings| {
                let text = format!(
                    "node {} decides index {first} of partition {partition} where {next} must come next",
                    line.node
                );
                (text, vec![findings.event(before), findings.event(place)])
            });
        }
        let mut told = false;
        for (index, &hash) in (first..).zip(hashes) {
            let &mut (seen, before) = self.entries.entry((partition, index)).or_insert((hash, place));
            findings.exercise.entries_compared += usize::from(before != place);
            if seen != hash && !told {
                told = true;
                findings.add(Invariant::Sp2, |findings| {
                    let text = format!(
                        "index {index} of partition {partition} is decided with two entries, {seen:#x} and {hash:#x}"
                    );
                    (text, vec![findings.event(before), findings.event(place)])
                });
            }
        }
    }
}

#[derive(Default)]
struct Ballots {
    /// By partition and ballot: who led it first, and where.
    led: FxHashMap<(u32, Ballot), (u64, Place)>,
    /// Partitions and ballots with which a node took over.
    taken_over: FxHashSet<(u32, Ballot)>,
    /// By partition and node: the last ballot that it led, in any incarnation.
    last_led: FxHashMap<(u32, u64), (Ballot, Place)>,
    /// By partition and node: the last ballot that it elected, and in which incarnation.
    last_elected: FxHashMap<(u32, u64), (u64, Ballot, Place)>,
}

impl Ballots {
    fn elected(
        &mut self,
        partition: u32,
        ballot: Ballot,
        line: &TraceLine,
        place: Place,
        findings: &mut Findings<'_>,
    ) {
        if ballot.node == line.node {
            self.taken_over.insert((partition, ballot));
        }
        let known = self.last_elected.insert((partition, line.node), (line.boot, ballot, place));
        if let Some((.., before)) = known.filter(|&(boot, last, _)| boot == line.boot && ballot <= last) {
            let text = format!(
                "node {} elects a ballot of partition {partition} that is not above its last",
                line.node
            );
            findings
                .add(Invariant::Ble3, |findings| (text, vec![findings.event(before), findings.event(place)]));
        }
    }

    fn leading(
        &mut self,
        partition: u32,
        ballot: Ballot,
        line: &TraceLine,
        place: Place,
        findings: &mut Findings<'_>,
    ) {
        let node = line.node;
        let (leader, first) = *self.led.entry((partition, ballot)).or_insert((node, place));
        if first == place {
            findings
                .exercise
                .leader_changes
                .entry(partition)
                .and_modify(|changes| *changes += 1)
                .or_insert(0);
        }
        if leader != node || ballot.node != node {
            let text = format!("node {node} leads partition {partition} under a ballot of another node");
            let others = (first != place).then_some(first);
            findings.add(Invariant::Ble3, |findings| {
                (text, others.into_iter().chain([place]).map(|place| findings.event(place)).collect())
            });
        }
        let known = self.last_led.insert((partition, node), (ballot, place));
        if let Some((_, before)) = known.filter(|&(last, _)| ballot <= last) {
            let text =
                format!("node {node} leads partition {partition} under a ballot that is not above its last");
            findings
                .add(Invariant::Ble3, |findings| (text, vec![findings.event(before), findings.event(place)]));
        }
    }
}
