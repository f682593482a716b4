//! All that a run has recorded, in one order of time.

use checker::{
    history::{Nemesis, Phase},
    lease_safety::Traces,
    trace::TraceEvent,
};

use super::{filter::Filter, logs::Logged};
use crate::{
    messages::Message,
    recorded::{Operation, Recorded, end_of},
};

/// Something that happened.
pub(super) struct Event<'a> {
    /// Nanoseconds of the history; nodes log before it begins, too.
    pub(super) time: i64,
    pub(super) what: Happened<'a>,
}

/// What it was.
pub(super) enum Happened<'a> {
    Phase(&'a Phase),
    /// Begins, with its effect, or ends.
    Fault(&'a Nemesis),
    /// A node begins to lead a partition, or no longer does; with its ballot.
    Leads {
        node: u64,
        partition: u32,
        ballot: String,
        begins: bool,
    },
    Message(Message),
    Logged(Logged),
    Operation(&'a Operation),
}

impl Happened<'_> {
    /// What comes first of what happened at the same moment.
    fn rank(&self) -> u8 {
        match self {
            Self::Phase(_) => 0,
            Self::Fault(_) => 1,
            Self::Leads { .. } => 2,
            Self::Message(_) => 3,
            Self::Logged(_) => 4,
            Self::Operation(_) => 5,
        }
    }
}

/// What is asked for, and how many more operations are like it but on other keys.
pub(super) fn choose<'a>(
    run: &'a Recorded,
    filter: &Filter<'_>,
    logged: Vec<Logged>,
    messages: Vec<Message>,
) -> (Vec<Event<'a>>, usize) {
    let mut events = Vec::new();
    let mut take = |from: i64, to: i64, what: Happened<'a>| {
        if filter.covers(from, to) {
            events.push(Event { time: from, what });
        }
    };
    let at = |time: u64| time as i64;
    for phase in &run.phases {
        take(at(phase.time), at(phase.time), Happened::Phase(phase));
    }
    for fault in &run.faults {
        // one that is in effect in that time matters there, even if it began before
        let until = if fault.begins && !fault.instant {
            end_of(fault, &run.faults).map_or(run.last, |end| end.time)
        } else {
            fault.time
        };
        take(at(fault.time), at(until), Happened::Fault(fault));
    }
    for (time, leads) in run.traces.iter().flat_map(|traces| changes(traces, run.header.origin)) {
        take(time, time, leads);
    }
    for message in messages {
        take(at(message.sent), at(message.last()), Happened::Message(message));
    }
    for line in logged {
        take(line.time, line.time, Happened::Logged(line));
    }
    let mut beside = 0;
    if !filter.course {
        for operation in run.operations.iter().filter(|operation| filter.takes(operation)) {
            if filter.is_on_key(operation) {
                let time = at(operation.invoked);
                events.push(Event { time, what: Happened::Operation(operation) });
            } else {
                beside += 1;
            }
        }
    }
    events.sort_by_key(|event| (event.time, event.what.rank()));
    (events, beside)
}

/// Who began to lead what, and who stopped.
fn changes<'a>(traces: &Traces, origin: u64) -> Vec<(i64, Happened<'a>)> {
    let lines = traces.nodes.iter().flat_map(|node| node.lines.iter().map(|(_, line)| line));
    let change = lines.filter_map(|line| {
        let (partition, ballot, begins) = match &line.event {
            TraceEvent::Leading { partition, ballot } => (*partition, ballot, true),
            TraceEvent::SteppedDown { partition, ballot } => (*partition, ballot, false),
            _ => return None,
        };
        let ballot = ballot.to_string();
        let time = line.common as i64 - origin as i64;
        Some((time, Happened::Leads { node: line.node, partition, ballot, begins }))
    });
    change.collect()
}
