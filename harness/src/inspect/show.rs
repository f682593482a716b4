//! How an event reads.

use anyhow::Result;
use serde::Serialize;

use super::{
    InspectArguments,
    events::{Event, Happened},
    logs::Logged,
};
use crate::{
    export,
    messages::Message,
    recorded::{Operation, Outcome, Recorded, What},
};

/// Longest text of a run that is shown whole, in characters.
const LONGEST: usize = 80;

/// An event in one line; an arrow points to the operation that it is all about.
pub(super) fn line(run: &Recorded, event: &Event<'_>, centre: Option<&Operation>) -> String {
    let seconds = event.time as f64 / 1e9;
    let (mark, who, what) = match &event.what {
        Happened::Phase(phase) => (" ", String::new(), format!("phase {}", phase.name)),
        Happened::Fault(fault) => {
            let begins = if fault.begins { "" } else { "end of " };
            let struck = fault.struck.map(|struck| format!(", struck {struck}")).unwrap_or_default();
            let name = fault.name.as_ref().map(|name| format!(" ({name})")).unwrap_or_default();
            let nodes: Vec<String> = fault.nodes.iter().map(|node| format!("n{node}")).collect();
            let nodes = if nodes.is_empty() { "nobody".to_owned() } else { nodes.join(", ") };
            let what = format!("{begins}{} {}{name}: {nodes}{struck}", fault.action, fault.target);
            ("!", format!("fault {}", fault.fault), what)
        }
        Happened::Leads { node, partition, ballot, begins } => {
            let word = if *begins { "leads" } else { "no longer leads" };
            ("*", format!("n{node}"), format!("{word} partition {partition}, ballot {ballot}"))
        }
        Happened::Message(message) => {
            let who = format!("n{} -> n{}", message.from, message.to);
            let of = message.partition().map(|of| format!(" of partition {of}")).unwrap_or_default();
            let after =
                message.arrived().map(|arrived| format!("arrived after {}", took(arrived - message.sent)));
            let came: Vec<String> = [after, message.trouble()].into_iter().flatten().collect();
            (" ", who, format!("{}{of}, {}", message.text(), came.join(", ")))
        }
        Happened::Logged(Logged { node, level, text, .. }) => {
            let level = level.as_deref().unwrap_or_default();
            (" ", format!("n{node} log"), format!("{level} {}", short(text)).trim_start().to_owned())
        }
        Happened::Operation(operation) => {
            let is_centre = centre.is_some_and(|centre| centre.line == operation.line);
            let who = format!("process {}", operation.process);
            (if is_centre { ">" } else { " " }, who, operation_in_words(run, operation))
        }
    };
    format!("{mark} {seconds:>13.6} s  {who:<13} {what}")
}

fn operation_in_words(run: &Recorded, operation: &Operation) -> String {
    let text = |number| run.texts.get(number).map_or("nothing".to_owned(), quoted);
    let key = run.texts.get(operation.key).map(short).unwrap_or_default();
    let asked = match operation.what {
        What::Get => format!("get {key}"),
        What::Put => format!("put {key} = {}", text(operation.value)),
        What::Cas => format!("cas {key} {} -> {}", text(operation.expected), text(operation.value)),
        What::Delete => format!("delete {key}"),
    };
    let found = match operation.swapped {
        Some(true) => " swapped".to_owned(),
        Some(false) => format!(" not swapped, holds {}", text(operation.returned)),
        None if operation.tells_a_value() => format!(" {}", text(operation.returned)),
        None => String::new(),
    };
    let outcome = match operation.outcome {
        Outcome::Open => "open: the history ends before".to_owned(),
        Outcome::Info => "info: unknown whether it happened".to_owned(),
        Outcome::Fail => "fail: it did not happen".to_owned(),
        Outcome::Ok => format!("ok{found}"),
    };
    let took = operation.ended.map(|ended| format!(" after {}", took(ended - operation.invoked)));
    let error = run.texts.get(operation.error).map(|error| format!(", {}", short(error)));
    let trip = run.texts.get(operation.trip).map(|trip| format!(", {trip}"));
    let asked_at = match (operation.node, operation.last_node) {
        (first, last) if first == last => format!("n{first}"),
        (first, last) => format!("n{first}..n{last}"),
    };
    let more = [took, error, trip].into_iter().flatten().collect::<String>();
    format!("#{} {asked_at} {asked}  {outcome}{}{more}", operation.line, answer(run, operation))
}

/// Who answered and how, of an operation that was answered.
fn answer(run: &Recorded, operation: &Operation) -> String {
    if !operation.answered() {
        return String::new();
    }
    let ballot = run.texts.get(operation.ballot).unwrap_or("?");
    let index = if operation.index > 0 { format!(" at log {}", operation.index) } else { String::new() };
    let way = match (operation.fast, operation.local) {
        (true, _) => ", fast",
        (_, true) => ", local",
        _ => "",
    };
    format!(" by n{} ({ballot}{index}{way})", operation.leader)
}

/// A duration for people.
fn took(nanos: u64) -> String {
    match nanos {
        0..1_000_000 => format!("{:.0} us", nanos as f64 / 1e3),
        1_000_000..1_000_000_000 => format!("{:.2} ms", nanos as f64 / 1e6),
        _ => format!("{:.3} s", nanos as f64 / 1e9),
    }
}

fn quoted(text: &str) -> String {
    format!("\"{}\"", short(text))
}

/// A text of the run as a terminal may show it: without its control characters, and not too long.
fn short(text: &str) -> String {
    let mut shown: String = text.chars().take(LONGEST).flat_map(escaped).collect();
    if text.chars().nth(LONGEST).is_some() {
        shown.push('…');
    }
    shown
}

fn escaped(character: char) -> Vec<char> {
    if character.is_control() { character.escape_default().collect() } else { vec![character] }
}

/// What stands behind the events: how much there is, and how to see more.
pub(super) fn end(
    run: &Recorded,
    arguments: &InspectArguments,
    operations: usize,
    left_out: usize,
    beside: usize,
) -> Vec<String> {
    let mut words = Vec::new();
    if left_out > 0 {
        words.push(format!("… and {left_out} more (--limit 0 shows all)"));
    }
    if beside > 0 {
        words.push(format!("operations on other keys that are left out: {beside}"));
    }
    let counted = |outcome| run.operations.iter().filter(|operation| operation.outcome == outcome).count();
    let [ok, fail, info, open] = [Outcome::Ok, Outcome::Fail, Outcome::Info, Outcome::Open].map(counted);
    let shown = if operations > 0 { format!("{operations} of ") } else { String::new() };
    words.push(format!(
        "{shown}{} operations ({ok} ok, {fail} fail, {info} info, {open} open), {} seed {}",
        run.operations.len(),
        run.header.workload,
        run.header.seed
    ));
    match &run.verdict {
        Some(verdict) => words.push(format!("verdict {}: {}", verdict.status, verdict.words)),
        None => words.push("no verdict: the run was interrupted, or it failed".to_owned()),
    }
    if operations == 0 && arguments.around.is_none() {
        words.push(
            "operations: --key K, --process P, --outcome info, --slower 100ms, --from 3s --to 4s, --around LINE"
                .to_owned(),
        );
    }
    words
}

/// An event as a line of JSON: `at`, in nanoseconds of the history, `event`, and what it is.
pub(super) fn json(run: &Recorded, event: &Event<'_>) -> Result<String> {
    #[derive(Serialize)]
    struct Line<'a, T> {
        at: i64,
        event: &'a str,
        #[serde(flatten)]
        what: T,
    }
    #[derive(Serialize)]
    struct Leads<'a> {
        node: u64,
        partition: u32,
        ballot: &'a str,
        begins: bool,
    }
    #[derive(Serialize)]
    struct Sent {
        from: u64,
        to: u64,
        connection: u64,
        number: u64,
        partition: Option<u32>,
        text: String,
        arrived: Option<u64>,
        trouble: Option<String>,
    }
    fn to<T: Serialize>(at: i64, event: &str, what: T) -> Result<String> {
        Ok(serde_json::to_string(&Line { at, event, what })?)
    }
    match &event.what {
        Happened::Phase(phase) => to(event.time, "phase", phase),
        Happened::Fault(fault) => to(event.time, "fault", fault),
        Happened::Leads { node, partition, ballot, begins } => {
            to(event.time, "leads", Leads { node: *node, partition: *partition, ballot, begins: *begins })
        }
        Happened::Message(message) => {
            let Message { from, to: receiver, connection, number, .. } = *message;
            let (partition, text) = (message.partition(), message.text());
            let (arrived, trouble) = (message.arrived(), message.trouble());
            let sent = Sent { from, to: receiver, connection, number, partition, text, arrived, trouble };
            to(event.time, "message", sent)
        }
        Happened::Logged(logged) => to(event.time, "log", logged),
        Happened::Operation(operation) => to(event.time, "operation", export::row(run, operation)),
    }
}
