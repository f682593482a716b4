//! L4, L5, L7 and L8: what reads saw, from the traces of the nodes that answered and the history of the clients that
//! asked.

use std::collections::BTreeMap;

use rustc_hash::FxHashMap;

use super::report::{Evidence, Findings, Invariant};
use super::traces::{Place, Traces};
use crate::history::{Function, History, Key, Operation};
use crate::trace::{Ballot, TraceEvent};

/// Judges the fast reads: L4 and L7 from the traces alone, L5 together with the history.
pub(super) fn check_fast_reads(traces: &Traces, history: &History, findings: &mut Findings<'_>) {
    let mut events = ReadEvents::default();
    for (file, node) in traces.nodes.iter().enumerate() {
        let mut walk = Walk::default();
        for (index, (_, line)) in node.lines.iter().enumerate() {
            let place = Place { file: file as u32, index: index as u32 };
            if let TraceEvent::FastRead { ref key, version, .. } = line.event {
                events.entry((line.node, key.clone(), version)).or_default().push((line.common, place));
            }
            walk.event(&line.event, place, findings);
        }
    }
    covers_acknowledged_writes(history, &events, findings);
}

/// L8: a read that begins after another returned sees no older version. A failed compare-and-swap is a read; a local read
/// promises nothing to others than its session.
pub(super) fn check_versions(history: &History, findings: &mut Findings<'_>) {
    let reads = |operation: &Operation| match operation.function {
        Function::Get { .. } => operation.result.as_ref().is_some_and(|result| !result.local),
        Function::Cas { .. } => operation.result.as_ref().is_some_and(|result| result.swapped == Some(false)),
        _ => false,
    };
    let read = |operation: &Operation| reads(operation);
    for (earlier, later) in stale(history, read, read) {
        let (before, after) = (version(earlier), version(later));
        findings.add(Invariant::L8, |_| {
            let text =
                format!("a read of key {} sees version {after} after another saw {before}", key(later));
            (text, vec![returned(earlier), returned(later)])
        });
    }
}

/// Trace events of fast reads by node, key and version, with their common times.
type ReadEvents = FxHashMap<(u64, String, u64), Vec<(u64, Place)>>;

/// The walk through one node's trace.
#[derive(Default)]
struct Walk {
    lease: u64,
    holds: BTreeMap<u32, HoldState>,
    stop_signs: FxHashMap<(u32, Ballot), Place>,
}

/// The last hold of a partition that the node recorded.
struct HoldState {
    ballot: Ballot,
    until: u64,
    place: Place,
    ended: Option<Place>,
}

impl Walk {
    fn event(&mut self, event: &TraceEvent, place: Place, findings: &mut Findings<'_>) {
        match *event {
            TraceEvent::Started { lease, .. } => {
                self.lease = lease;
                for hold in self.holds.values_mut() {
                    hold.ended.get_or_insert(place);
                }
            }
            TraceEvent::Hold { partition, ballot, until } => {
                self.holds.insert(partition, HoldState { ballot, until, place, ended: None });
            }
            TraceEvent::HoldEnded { partition, ballot } | TraceEvent::SteppedDown { partition, ballot } => {
                if let Some(hold) = self.holds.get_mut(&partition).filter(|hold| hold.ballot == ballot) {
                    hold.ended.get_or_insert(place);
                }
            }
            TraceEvent::StopSign { partition, ballot, .. } => {
                self.stop_signs.entry((partition, ballot)).or_insert(place);
            }
            TraceEvent::FastRead {
                partition, ballot, received, checked, expiry, version, applied, ..
            } => {
                findings.exercise.fast_reads += 1;
                let left = expiry.saturating_sub(checked);
                findings.exercise.fast_reads_near_expiry += usize::from(left > 0 && left <= self.lease / 10);
                self.in_time(partition, ballot, (received, checked, expiry), place, findings);
                if let Some(&stop) = self.stop_signs.get(&(partition, ballot)) {
                    let text =
                        format!("a fast read in partition {partition} after a stop-sign under its ballot");
                    findings.add(Invariant::L7, |findings| {
                        (text, vec![findings.event(stop), findings.event(place)])
                    });
                }
                if applied < version {
                    let text =
                        format!("a fast read sees version {version} with only {applied} entries applied");
                    findings.add(Invariant::L5, |findings| (text, vec![findings.event(place)]));
                }
            }
            _ => {}
        }
    }

    /// L4. The three readings are of one clock, so they need no mapping; the hold is the one recorded last before the
    /// read, and it must reach at least as far as the expiry that the read relied on.
    fn in_time(
        &self,
        partition: u32,
        ballot: Ballot,
        (received, checked, expiry): (u64, u64, u64),
        place: Place,
        findings: &mut Findings<'_>,
    ) {
        let hold = self.holds.get(&partition);
        let wrong = match hold {
            _ if received > checked => {
                format!("was checked {} ns before it was received", received - checked)
            }
            _ if checked >= expiry => format!("was checked {} ns after the lease expired", checked - expiry),
            None => "was answered without a hold".to_owned(),
            Some(hold) if hold.ballot != ballot => {
                "was answered under a ballot that holds nothing".to_owned()
            }
            Some(hold) if hold.ended.is_some() => "was answered after the hold had ended".to_owned(),
            Some(hold) if expiry > hold.until => {
                format!("relies on an expiry {} ns beyond that of the hold", expiry - hold.until)
            }
            Some(_) => return,
        };
        let before = hold.map(|hold| hold.ended.unwrap_or(hold.place));
        findings.add(Invariant::L4, |findings| {
            let text = format!("a fast read in partition {partition} {wrong}");
            (text, before.into_iter().chain([place]).map(|place| findings.event(place)).collect())
        });
    }
}

/// L5: a fast read's version is at least that of every write acknowledged before the read was invoked.
fn covers_acknowledged_writes(history: &History, events: &ReadEvents, findings: &mut Findings<'_>) {
    let fast = |operation: &Operation| {
        matches!(operation.function, Function::Get { .. })
            && operation.result.as_ref().is_some_and(|result| result.fast)
    };
    let write = |operation: &Operation| match operation.function {
        Function::Get { .. } => false,
        Function::Put { .. } | Function::Delete { .. } => true,
        Function::Cas { .. } => operation.result.as_ref().is_some_and(|result| result.swapped == Some(true)),
    };
    for operation in history.operations.iter().filter(|operation| fast(operation)) {
        let answered = event_of(operation, history, events);
        findings.exercise.fast_answers_without_event += usize::from(answered.is_none());
    }
    for (earlier, later) in stale(history, write, fast) {
        let (written, seen) = (version(earlier), version(later));
        let event = event_of(later, history, events);
        findings.add(Invariant::L5, |findings| {
            let text = format!(
                "a fast read of key {} sees version {seen}, although version {written} was acknowledged before it was invoked",
                key(later)
            );
            let event = event.map(|place| findings.event(place));
            (text, [returned(earlier), returned(later)].into_iter().chain(event).collect())
        });
    }
}

/// The trace event of a fast answer: of its node, key and version, between invocation and completion.
fn event_of(operation: &Operation, history: &History, events: &ReadEvents) -> Option<Place> {
    let (result, returned) = (operation.result.as_ref()?, operation.returned?);
    let candidates = events.get(&(result.leader, key(operation).to_string(), result.version))?;
    let begin = history.header.origin + operation.invoked.time;
    let index = candidates.partition_point(|(common, _)| *common < begin);
    let (common, place) = candidates.get(index)?;
    (*common <= history.header.origin + returned.time).then_some(*place)
}

/// Pairs of an operation among `first` and a later one among `second` on the same key, such that the former returned
/// before the latter was invoked, with a higher version. Of several former ones it is that with the highest version.
fn stale(
    history: &History,
    first: impl Fn(&Operation) -> bool,
    second: impl Fn(&Operation) -> bool,
) -> Vec<(&Operation, &Operation)> {
    let mut events: Vec<(usize, bool, &Operation)> = Vec::new();
    for operation in &history.operations {
        let Some(returned) = operation.returned else { continue };
        if first(operation) {
            events.push((returned.position, true, operation));
        }
        if second(operation) {
            events.push((operation.invoked.position, false, operation));
        }
    }
    events.sort_unstable_by_key(|event| event.0);
    let mut highest: FxHashMap<&Key, &Operation> = FxHashMap::default();
    let mut found = Vec::new();
    for (_, returns, operation) in events {
        let known = highest.get(key(operation)).copied();
        if !returns {
            found.extend(
                known.filter(|known| version(known) > version(operation)).map(|known| (known, operation)),
            );
        } else if known.is_none_or(|known| version(known) < version(operation)) {
            highest.insert(key(operation), operation);
        }
    }
    found
}

fn key(operation: &Operation) -> &Key {
    operation.function.key()
}

fn version(operation: &Operation) -> u64 {
    operation.result.as_ref().map_or(0, |result| result.version)
}

/// The completion of an operation as evidence.
fn returned(operation: &Operation) -> Evidence {
    let text = format!(
        "{}; invoked on line {}, version {}",
        crate::explain::in_words(operation),
        operation.invoked.position,
        version(operation)
    );
    Findings::history_line(operation.returned.unwrap_or(operation.invoked), text)
}
