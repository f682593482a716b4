//! What nodes and clients did around a violation: the traced events of the nodes, the requests of the clients on the key,
//! and the messages between nodes, where the run has recorded them.

use std::collections::BTreeMap;

use checker::trace::{TraceEvent, TraceLine};
use serde::Serialize;

use crate::{
    messages::{Message, Messages},
    recorded::{Operation, Recorded},
    report::html::intervals::events,
};

/// Most events of a kind, operations and messages that are drawn: those that are nearest in time.
const EVENTS: usize = 14;
const OPERATIONS: usize = 10;
const MESSAGES: usize = 120;

/// Least and most nanoseconds before the violation that are shown.
const LEAST: u64 = 5_000_000;
const MOST: u64 = 2_000_000_000;

/// Where to look.
#[derive(Debug)]
pub(super) struct Centre {
    /// Nanoseconds of the history.
    from: u64,
    to: u64,
    at: u64,
    partition: Option<u32>,
    key: Option<u32>,
    core: Vec<usize>,
}

/// The picture. Times are microseconds of the history.
#[derive(Debug, Serialize)]
pub(super) struct SpaceTime {
    from: u64,
    to: u64,
    /// The moment that it is about.
    at: u64,
    partition: Option<u32>,
    events: Vec<Event>,
    /// Requests on the key: indices of operations.
    pub(super) operations: Vec<usize>,
    /// For each of these, when a node traced that it answered it; none: that is not recorded.
    answered: Vec<Option<i64>>,
    /// None: the run has recorded none.
    messages: Option<Vec<Arrow>>,
    /// What the record of the messages lacks, in words; none: nothing.
    unrecorded: Option<String>,
    /// How many of each were left out, since they are too many.
    left_out: BTreeMap<String, usize>,
}

/// A message between nodes. Times are nanoseconds of the history.
#[derive(Debug, Serialize)]
struct Arrow {
    sent: u64,
    /// None: it never did.
    arrived: Option<u64>,
    from: u64,
    to: u64,
    text: String,
    /// Why it did not arrive, or what a fault did to it.
    trouble: Option<String>,
}

/// Something that a node traced.
#[derive(Debug, Serialize)]
struct Event {
    at: i64,
    node: u64,
    kind: String,
    text: String,
}

impl Centre {
    /// Around an operation, back to the others that contradict it if they are not too far away.
    pub(super) fn of_operation(run: &Recorded, operation: &Operation, core: &[usize]) -> Self {
        let ended = operation.ended.unwrap_or(operation.invoked);
        let earlier = core.iter().map(|&index| run.operations[index].invoked);
        let reach = |from: &u64| operation.invoked.saturating_sub(*from) < MOST;
        let first = earlier.filter(reach).min().unwrap_or(operation.invoked).min(operation.invoked);
        let margin = ((ended - first) / 5).max(LEAST);
        let key = operation.named(run).and_then(|key| run.header.partition_of(&key));
        Self {
            from: first.saturating_sub(margin),
            to: ended + margin,
            at: operation.invoked,
            partition: key,
            key: Some(operation.key),
            core: core.to_vec(),
        }
    }

    /// Around events of the traces, given in microseconds; the later ones are what shows it.
    pub(super) fn of_times(run: &Recorded, times: impl Iterator<Item = i64>) -> Option<Self> {
        let times: Vec<u64> = times.map(|time| time.max(0) as u64 * 1000).collect();
        let at = *times.iter().max()?;
        let first = times.iter().copied().filter(|time| at - time < MOST).min()?;
        let margin = ((at - first) / 3).max(20 * LEAST);
        let traces = run.traces.as_ref()?;
        let near = |line: &&TraceLine| line.common.abs_diff(run.header.origin + at) < 2_000;
        let partition = events(traces).filter(near).find_map(|line| partition(&line.event));
        let from = first.saturating_sub(margin);
        Some(Self { from, to: at + margin, at, partition, key: None, core: Vec::new() })
    }

    fn covers(&self, from: u64, to: u64) -> bool {
        from <= self.to && to >= self.from
    }
}

impl SpaceTime {
    /// What there is around a moment.
    pub(super) fn around(run: &Recorded, centre: &Centre) -> Self {
        let mut left_out = BTreeMap::new();
        let mut few = |what: &str, count: usize, most: usize| {
            if count > most {
                left_out.insert(what.to_owned(), count - most);
            }
        };
        let lines = traced(run, centre);
        let mut kept: Vec<Event> = Vec::new();
        for (kind, mut of_kind) in lines {
            of_kind.sort_by_key(|line| line.common.abs_diff(run.header.origin + centre.at));
            few(&kind, of_kind.len(), EVENTS);
            kept.extend(of_kind.into_iter().take(EVENTS).map(|line| event(run, &kind, line)));
        }
        kept.sort_by_key(|event| event.at);
        let mut operations: Vec<usize> = (0..run.operations.len())
            .filter(|&index| {
                let operation = &run.operations[index];
                Some(operation.key) == centre.key
                    && centre.covers(operation.invoked, operation.may_happen_until())
            })
            .collect();
        operations.sort_by_key(|&index| {
            (!centre.core.contains(&index), run.operations[index].invoked.abs_diff(centre.at))
        });
        few("requests on the key", operations.len(), OPERATIONS);
        operations.truncate(OPERATIONS);
        operations.sort_unstable();
        let answered = operations.iter().map(|&index| answered(run, &run.operations[index])).collect();
        let messages = run.messages.as_ref();
        let mut unrecorded = messages.and_then(Messages::missing);
        let mut arrows = None;
        if let Some(messages) = messages {
            match near(messages, centre) {
                Ok((near, others)) => {
                    few("messages of other partitions or of whole nodes", others, 0);
                    few("messages", near.len(), MESSAGES);
                    arrows = Some(drawn(near, centre));
                }
                Err(error) => unrecorded = Some(format!("those that cannot be read: {error:#}")),
            }
        }
        let (from, to) = (centre.from / 1000, centre.to / 1000);
        Self {
            from,
            to,
            at: centre.at / 1000,
            partition: centre.partition,
            events: kept,
            operations,
            answered,
            messages: arrows,
            unrecorded,
            left_out,
        }
    }
}

/// The messages of the time and the partition, and how many others there were then.
fn near(messages: &Messages, centre: &Centre) -> anyhow::Result<(Vec<Message>, usize)> {
    let (mut near, mut others) = (Vec::new(), 0);
    messages.between(centre.from, centre.to, |message| {
        let of = message.partition();
        if message.told.is_none() || (of.is_some() && of == centre.partition) {
            near.push(message);
        } else {
            others += 1;
        }
    })?;
    Ok((near, others))
}

/// The arrows of those that are nearest in time; half of them may be of messages that never arrived.
fn drawn(mut near: Vec<Message>, centre: &Centre) -> Vec<Arrow> {
    near.sort_by_key(|message| message.sent.abs_diff(centre.at));
    let mut lost = 0;
    let (first, rest): (Vec<Message>, Vec<Message>) = near.into_iter().partition(|message| {
        let is_lost = message.arrived().is_none();
        lost += usize::from(is_lost);
        is_lost && lost <= MESSAGES / 2
    });
    let mut chosen: Vec<Message> = first.into_iter().chain(rest).take(MESSAGES).collect();
    chosen.sort_by_key(|message| message.sent);
    let arrow = |message: &Message| Arrow {
        sent: message.sent,
        arrived: message.arrived(),
        from: message.from,
        to: message.to,
        text: message.text(),
        trouble: message.trouble(),
    };
    chosen.iter().map(arrow).collect()
}

/// The events of the time and the partition, by kind; fast reads of the key alone.
fn traced<'a>(run: &'a Recorded, centre: &Centre) -> BTreeMap<String, Vec<&'a TraceLine>> {
    let mut by_kind: BTreeMap<String, Vec<&TraceLine>> = BTreeMap::new();
    let origin = run.header.origin;
    let key = centre.key.and_then(|key| run.texts.get(key));
    for line in run.traces.iter().flat_map(events) {
        let time = line.common.saturating_sub(origin);
        let other_partition =
            partition(&line.event).is_some_and(|of| centre.partition.is_some_and(|its| its != of));
        let other_key =
            matches!(&line.event, TraceEvent::FastRead { key: of, .. } if key.is_some_and(|key| of != key));
        if line.common < origin || !centre.covers(time, time) || other_partition || other_key {
            continue;
        }
        by_kind.entry(kind(&line.event)).or_default().push(line);
    }
    by_kind
}

/// When a node traced the fast read that this operation is; only if there is one alone that it can be.
fn answered(run: &Recorded, operation: &Operation) -> Option<i64> {
    let (key, ballot) = (run.texts.get(operation.key)?, run.texts.get(operation.ballot)?);
    let origin = run.header.origin;
    let (from, to) = (origin + operation.invoked, origin + operation.ended?);
    let traces = run.traces.as_ref().filter(|_| operation.fast)?;
    let its = traces.nodes.iter().flat_map(|node| {
        let first = node.lines.partition_point(|(_, line)| line.common < from);
        node.lines[first..].iter().map(|(_, line)| line).take_while(|line| line.common <= to)
    });
    let mut its = its.filter(|line| {
        matches!(&line.event, TraceEvent::FastRead { key: of, version, ballot: led, .. }
            if of == key && *version == operation.version && led.to_string() == ballot)
    });
    let only = its.next()?;
    its.next().is_none().then(|| (only.common - origin) as i64 / 1000)
}

fn event(run: &Recorded, kind: &str, line: &TraceLine) -> Event {
    let own = |local: u64| (local as i64 - run.header.origin as i64) as f64 / 1e9;
    let text = match &line.event {
        TraceEvent::Elected { ballot, .. } => format!("elects {ballot}"),
        TraceEvent::Promised { ballot, .. } => format!("promises {ballot}"),
        TraceEvent::Granted { ballot, until, .. } => {
            format!("grants {} until {:.6} s of its own clock", ballot, own(*until))
        }
        TraceEvent::Released { ballot, .. } => format!("grant to {ballot} is given back"),
        TraceEvent::Hold { ballot, until, .. } => {
            format!("holds the lease of {} until {:.6} s of its own clock", ballot, own(*until))
        }
        TraceEvent::HoldEnded { ballot, .. } => format!("gives up its hold of {ballot}"),
        TraceEvent::Leading { ballot, .. } => format!("leads under {ballot}"),
        TraceEvent::SteppedDown { ballot, .. } => format!("steps down from {ballot}"),
        TraceEvent::FastRead { ballot, key, checked, expiry, version, .. } => format!(
            "answers a read of key {key} alone under {}: version {version}, {:.3} ms before its hold ends",
            ballot,
            (*expiry as i64 - *checked as i64) as f64 / 1e6
        ),
        TraceEvent::Decided { leading, first, hashes, ballot, .. } => {
            let how = if *leading { "decides" } else { "is told that decided is" };
            let last = *first + hashes.len() as u64 - 1;
            let which = if last == *first { first.to_string() } else { format!("{first} to {last}") };
            format!("{how} entry {which} under {ballot}")
        }
        TraceEvent::Started { .. } => format!("starts for the {}. time", line.boot),
        TraceEvent::Clock { rate_ppm, .. } => format!("its clock changes: {rate_ppm} ppm from here on"),
        TraceEvent::MutantReached { name } => format!("planted bug {name}"),
        other => serde_json::to_string(other).unwrap_or_default(),
    };
    let at = (line.common as i64 - run.header.origin as i64) / 1000;
    Event { at, node: line.node, kind: kind.to_owned(), text }
}

/// The word that stands for it in a trace.
fn kind(event: &TraceEvent) -> String {
    let value = serde_json::to_value(event).unwrap_or_default();
    value.get("kind").and_then(serde_json::Value::as_str).unwrap_or_default().to_owned()
}

fn partition(event: &TraceEvent) -> Option<u32> {
    match event {
        TraceEvent::Group { partition, .. }
        | TraceEvent::Elected { partition, .. }
        | TraceEvent::Promised { partition, .. }
        | TraceEvent::Granted { partition, .. }
        | TraceEvent::Released { partition, .. }
        | TraceEvent::Hold { partition, .. }
        | TraceEvent::HoldEnded { partition, .. }
        | TraceEvent::Leading { partition, .. }
        | TraceEvent::SteppedDown { partition, .. }
        | TraceEvent::FastRead { partition, .. }
        | TraceEvent::Decided { partition, .. }
        | TraceEvent::StopSign { partition, .. }
        | TraceEvent::Snapshot { partition, .. } => Some(*partition),
        TraceEvent::Started { .. } | TraceEvent::Clock { .. } | TraceEvent::MutantReached { .. } => None,
    }
}
