//! Puts the recorded holds and grants together, on the common clock.
//!
//! What is really promised:
//! - A *grant* of ballot b on acceptor g promises that g promises no node but b's before `until`. It is recorded before
//!   the message that carries it leaves. A later grant of the same ballot extends it, to the later of the two ends; a
//!   grant of another ballot replaces it; `released` ends it. A crash does not: the acceptor has to wait after a restart,
//!   so the end is mapped with the clock of the boot that granted, extended beyond the crash.
//! - A *hold* of ballot b begins with its first `hold` event and ends at the earliest of: the last `until`, `hold-ended`,
//!   `stepped-down` of that ballot, the next `started` of that node.
//!
//! A clock that changes meanwhile changes when `until` comes, so the clock in force at each moment counts.

use std::collections::BTreeMap;

use rustc_hash::FxHashMap;

use super::clock::{Clocks, Common};
use super::report::{Findings, Invariant};
use super::traces::{Place, Traces};
use crate::trace::{Ballot, TraceEvent, TraceLine};

/// A lease held, as the interval `start <= t < end`.
pub(super) struct Hold {
    pub(super) partition: u32,
    pub(super) ballot: Ballot,
    pub(super) start: Common,
    pub(super) end: Common,
    /// Each `hold` event: where, when, and when its `until` comes.
    pub(super) events: Vec<Span>,
}

/// A `hold` or `granted` event.
#[derive(Clone, Copy)]
pub(super) struct Span {
    pub(super) place: Place,
    pub(super) at: Common,
    pub(super) until: Common,
}

/// The grant of one ballot on one acceptor.
pub(super) struct Grant {
    pub(super) ballot: Ballot,
    /// Each `granted` event, with the latest end promised so far.
    pub(super) events: Vec<Span>,
    /// When it was released or replaced.
    pub(super) over: Option<(Common, Place)>,
}

/// Everything that is recorded about leases.
#[derive(Default)]
pub(super) struct Recorded {
    pub(super) holds: Vec<Hold>,
    /// By partition and acceptor, in the order of time.
    pub(super) grants: FxHashMap<(u32, u64), Vec<Grant>>,
    /// Replicas by partition.
    pub(super) replicas: FxHashMap<u32, Vec<u64>>,
    /// `decided` events of leaders by partition: when, ballot, where.
    pub(super) decisions: FxHashMap<u32, Vec<(Common, Ballot, Place)>>,
}

impl Recorded {
    /// Walks through all traces. What can be seen on a single node on the way is judged here: L3, and the part of L2 that
    /// a hold is not revived.
    pub(super) fn collect(traces: &Traces, findings: &mut Findings<'_>) -> Self {
        let clocks = Clocks::collect(traces);
        let mut recorded = Self::default();
        for (file, node) in traces.nodes.iter().enumerate() {
            let mut walk = Walk { clocks: &clocks, recorded: &mut recorded, findings, open: BTreeMap::new() };
            for (index, (_, line)) in node.lines.iter().enumerate() {
                walk.line(Place { file: file as u32, index: index as u32 }, line);
            }
        }
        recorded
    }
}

/// The walk through one node's trace.
struct Walk<'w, 'f> {
    clocks: &'w Clocks,
    recorded: &'w mut Recorded,
    findings: &'w mut Findings<'f>,
    /// The latest hold of each ballot: its index, and where it was ended.
    open: BTreeMap<(u32, Ballot), (usize, Option<Place>)>,
}

impl Walk<'_, '_> {
    fn line(&mut self, place: Place, line: &TraceLine) {
        let at = Common::from(line.common);
        let span =
            |until: u64| Span { place, at, until: self.clocks.reaches(line.node, line.boot, at, until) };
        match line.event {
            TraceEvent::Started { .. } => self.started(at),
            TraceEvent::Group { partition, ref replicas, promised } => {
                self.recorded.replicas.insert(partition, replicas.clone());
                self.restarted(line.node, partition, promised, at, place);
            }
            TraceEvent::Hold { partition, ballot, until } => self.hold(partition, ballot, span(until)),
            TraceEvent::HoldEnded { partition, ballot } | TraceEvent::SteppedDown { partition, ballot } => {
                self.hold_ended(partition, ballot, at, place);
            }
            TraceEvent::Granted { partition, ballot, until } => {
                self.findings.exercise.grants += 1;
                self.granted(line.node, partition, ballot, span(until));
            }
            TraceEvent::Released { partition, ballot } => {
                if let Some(grant) =
                    self.last_grant(line.node, partition).filter(|grant| grant.ballot == ballot)
                {
                    grant.over.get_or_insert((at, place));
                }
            }
            TraceEvent::Promised { partition, ballot } => {
                self.findings.exercise.promises += 1;
                self.no_other_while_granted(line.node, partition, ballot, at, place);
            }
            TraceEvent::Decided { partition, ballot, leading: true, .. } => {
                self.recorded.decisions.entry(partition).or_default().push((at, ballot, place));
            }
            _ => {}
        }
    }

    /// The node has crashed some time before: whatever it held is over.
    fn started(&mut self, at: Common) {
        for (index, _) in std::mem::take(&mut self.open).into_values() {
            let hold = &mut self.recorded.holds[index];
            hold.end = hold.end.min(at);
        }
    }

    /// A grant leaves its acceptor only after the promise to its ballot is durable. So what was granted to a higher ballot
    /// than the disk holds after a restart was never told to anyone, and binds no longer.
    fn restarted(&mut self, node: u64, partition: u32, promised: Ballot, at: Common, place: Place) {
        if let Some(grant) = self.last_grant(node, partition).filter(|grant| grant.ballot > promised) {
            grant.over.get_or_insert((at, place));
        }
    }

    fn hold(&mut self, partition: u32, ballot: Ballot, span: Span) {
        if let Some(&(index, ended)) = self.open.get(&(partition, ballot)) {
            let hold = &mut self.recorded.holds[index];
            if ended.is_none() && span.at < hold.end {
                hold.end = span.until;
                hold.events.push(span);
                self.findings.exercise.extensions += 1;
                return;
            }
            let last = hold.events.last().map_or(span.place, |span| span.place);
            let end = hold.end;
            self.findings.add(Invariant::L2, |findings| {
                let end = findings.moment(end);
                let text = format!(
                    "a hold of partition {partition} is revived under its ballot after its end at {end}"
                );
                (text, vec![findings.event(ended.unwrap_or(last)), findings.event(span.place)])
            });
        }
        self.open.insert((partition, ballot), (self.recorded.holds.len(), None));
        self.findings.exercise.holds += 1;
        let Span { at: start, until: end, .. } = span;
        self.recorded.holds.push(Hold { partition, ballot, start, end, events: vec![span] });
    }

    fn hold_ended(&mut self, partition: u32, ballot: Ballot, at: Common, place: Place) {
        if let Some((index, ended)) = self.open.get_mut(&(partition, ballot)) {
            let hold = &mut self.recorded.holds[*index];
            hold.end = hold.end.min(at);
            ended.get_or_insert(place);
        }
    }

    fn granted(&mut self, node: u64, partition: u32, ballot: Ballot, mut span: Span) {
        self.no_other_while_granted(node, partition, ballot, span.at, span.place);
        let grants = self.recorded.grants.entry((partition, node)).or_default();
        if let Some(last) = grants.last_mut() {
            let before = last.events.last().map_or(span.at, |span| span.until);
            if last.over.is_none() && last.ballot.node == ballot.node {
                span.until = span.until.max(before);
            }
            if last.over.is_none() && last.ballot == ballot {
                last.events.push(span);
                return;
            }
            last.over.get_or_insert((span.at, span.place));
        }
        grants.push(Grant { ballot, events: vec![span], over: None });
    }

    /// L3: no promise to another while a grant runs. A grant to another is one, too.
    fn no_other_while_granted(
        &mut self,
        node: u64,
        partition: u32,
        ballot: Ballot,
        at: Common,
        place: Place,
    ) {
        let Some(grant) = self.last_grant(node, partition) else { return };
        let Some(&span) = grant.events.last() else { return };
        if grant.over.is_some() || grant.ballot.node == ballot.node || at >= span.until {
            return;
        }
        let holder = grant.ballot.node;
        self.findings.add(Invariant::L3, |findings| {
            let until = findings.moment(span.until);
            let text = format!(
                "node {node} promises or grants partition {partition} to node {} while its grant to node {holder} runs until \
                 {until}",
                ballot.node
            );
            (text, vec![findings.event(span.place), findings.event(place)])
        });
    }

    fn last_grant(&mut self, node: u64, partition: u32) -> Option<&mut Grant> {
        self.recorded.grants.get_mut(&(partition, node))?.last_mut()
    }
}
