//! What happens in a world, in words for golden scripts.

use store::{
    api::{Operation, Outcome, Response},
    core::{Message, message::GroupMessage, trace::TraceEvent},
};

/// A protocol event in words; none when it happens all the time.
pub fn event(event: &TraceEvent) -> Option<String> {
    Some(match event {
        TraceEvent::Elected { partition, ballot } => format!("p{partition} elects {ballot}"),
        TraceEvent::Promised { partition, ballot } => format!("p{partition} promises {ballot}"),
        TraceEvent::Released { partition, ballot } => {
            format!("p{partition} releases its grant to {ballot}")
        }
        TraceEvent::HoldEnded { partition, ballot } => {
            format!("p{partition} gives the lease of {ballot} back")
        }
        TraceEvent::Leading { partition, ballot } => format!("p{partition} leads under {ballot}"),
        TraceEvent::SteppedDown { partition, ballot } => {
            format!("p{partition} leads no longer under {ballot}")
        }
        TraceEvent::Decided { partition, first, hashes, leading: true, .. } => {
            format!("p{partition} decides {first}..{}", *first + hashes.len() as u64 - 1)
        }
        TraceEvent::StopSign { partition, ballot, index } => {
            format!("p{partition} has a stop-sign at {index} under {ballot}")
        }
        TraceEvent::Snapshot { partition, index, start, fetched } => {
            let how = if *fetched { "fetched" } else { "made" };
            format!("p{partition} has {how} a snapshot of {index}, its log begins after {start}")
        }
        TraceEvent::MutantReached { name } => format!("mutant {name} reached"),
        _ => return None,
    })
}

/// The name of a message as it stands in the code.
pub fn name(message: &Message) -> String {
    let text = match message {
        Message::Group { message, .. } => format!("{message:?}"),
        other => format!("{other:?}"),
    };
    text.split([' ', '(', '{']).next().unwrap_or_default().to_owned()
}

/// A message in words: its name, and what a story of leases and sessions turns on.
pub fn message(message: &Message) -> String {
    let name = name(message);
    let Message::Group { message, .. } = message else { return name };
    match message {
        GroupMessage::Prepare { ballot, session, .. } => format!("{name} {ballot}, session {session}"),
        GroupMessage::Promise { ballot, session, granted, .. } => {
            let grant = if granted.is_some() { "with" } else { "without" };
            format!("{name} {ballot}, session {session}, {grant} a grant")
        }
        GroupMessage::LeaseNack { ballot, holder, remaining } => {
            format!("{name} {ballot}: n{holder} holds the lease for {:.1} ms", *remaining as f64 / 1e6)
        }
        GroupMessage::Nack { promised } | GroupMessage::PrepareReq { promised } => {
            format!("{name}, promised {promised}")
        }
        GroupMessage::Trimmed { start, .. } => format!("{name}: the log begins after {start}"),
        GroupMessage::FetchSnapshot { since, index, offset, .. } => {
            format!("{name} since {since}, of {index} from {offset} on")
        }
        GroupMessage::SnapshotPiece { since, index, offset, changed, last, .. } => {
            let last = if *last { ", the last" } else { "" };
            format!("{name} since {since}, of {index}, {} changes from {offset} on{last}", changed.len())
        }
        GroupMessage::LeaseRelease { ballot } => format!("{name} {ballot}"),
        _ => name,
    }
}

/// An operation in words.
pub fn operation(operation: &Operation) -> String {
    match operation {
        Operation::Get { key } => format!("get {key}"),
        Operation::Put { key, value } => format!("put {key} {value}"),
        Operation::Cas { key, expected, new } => format!("cas {key} {expected:?} {new}"),
        Operation::Delete { key } => format!("delete {key}"),
        Operation::OpenSession { key } => format!("open-session {key}"),
    }
}

/// An answer in words.
pub fn response(response: &Response) -> String {
    match response {
        Ok(answer) => {
            let outcome = match &answer.outcome {
                Outcome::Value(value) => value.as_deref().unwrap_or("absent").to_owned(),
                Outcome::Opened => format!("session {}", answer.index),
                other => format!("{other:?}"),
            };
            let fast = if answer.fast { ", fast" } else { "" };
            format!("{outcome} (version {}, leader n{}{fast})", answer.version, answer.leader)
        }
        Err(error) => error.to_string(),
    }
}
