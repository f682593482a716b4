//! A history, line by line.

use std::{
    collections::HashMap,
    fs::File,
    io::{BufRead, BufReader},
    path::Path,
};

use anyhow::{Context, Result};
use checker::history::{Function, Header, Key, Kind, Nemesis, Op, Phase, Record, Trip};

use super::{FINDINGS, Operation, Outcome, Texts, What};

/// Hands over the records of a history, each with its line; the number of the last line if it was cut off.
///
/// # Errors
///
/// The file cannot be read, a line is no record, or what `take` says.
pub(crate) fn records(path: &Path, mut take: impl FnMut(u32, Record) -> Result<()>) -> Result<Option<u32>> {
    let shown = path.display();
    let file = File::open(path).with_context(|| format!("cannot read {shown}"))?;
    let mut file = BufReader::with_capacity(1 << 18, file);
    let mut text = Vec::new();
    for number in 1_u32.. {
        text.clear();
        if file.read_until(b'\n', &mut text).with_context(|| format!("cannot read {shown}"))? == 0 {
            break;
        }
        match serde_json::from_slice(text.trim_ascii()) {
            Ok(record) => take(number, record)?,
            Err(_) if text.trim_ascii().is_empty() => {}
            Err(_) if !text.ends_with(b"\n") => return Ok(Some(number)),
            Err(error) => return Err(error).with_context(|| format!("{shown}: line {number} is no record")),
        }
    }
    Ok(None)
}

/// The lines of a history, as they come.
#[derive(Default)]
pub(super) struct Lines {
    pub(super) header: Option<Header>,
    pub(super) operations: Vec<Operation>,
    /// The open operation of each process.
    open: HashMap<u64, usize>,
    pub(super) texts: Texts,
    pub(super) faults: Vec<Nemesis>,
    pub(super) phases: Vec<Phase>,
    pub(super) last: u64,
    pub(super) lacking: Vec<String>,
}

impl Lines {
    pub(super) fn read(&mut self, path: &Path) -> Result<()> {
        let cut = records(path, |number, record| {
            self.take(number, record);
            Ok(())
        })?;
        let cut = cut.map(|number| format!("the last line of the history, {number}, was cut off by a crash"));
        self.lacking.extend(cut);
        Ok(())
    }

    fn take(&mut self, number: u32, record: Record) {
        let time = match &record {
            Record::Header(_) => 0,
            Record::Op(op) => op.time,
            Record::Nemesis(fault) => fault.time,
            Record::Phase(phase) => phase.time,
        };
        self.last = self.last.max(time);
        match record {
            Record::Header(header) => self.header = Some(header),
            Record::Op(op) if op.kind == Kind::Invoke => self.invoke(number, &op),
            Record::Op(op) => self.complete(number, &op),
            Record::Nemesis(fault) => self.faults.push(fault),
            Record::Phase(phase) => self.phases.push(phase),
        }
    }

    fn invoke(&mut self, line: u32, op: &Op) {
        let (what, value, expected) = match &op.function {
            Function::Get { .. } => (What::Get, None, None),
            Function::Put { value, .. } => (What::Put, Some(value), None),
            Function::Cas { expected, new, .. } => (What::Cas, Some(new), expected.as_ref()),
            Function::Delete { .. } => (What::Delete, None, None),
        };
        self.open.insert(op.process, self.operations.len());
        let integer = matches!(op.function.key(), Key::Integer(_));
        let key = self.texts.number(&op.function.key().to_string());
        let (value, expected) = (self.texts.optional(value), self.texts.optional(expected));
        self.operations.push(Operation {
            invoked: op.time,
            ended: None,
            line,
            end_line: 0,
            process: op.process,
            client: op.client,
            node: op.node,
            last_node: op.node,
            what,
            outcome: Outcome::Open,
            key,
            integer,
            value,
            expected,
            returned: 0,
            swapped: None,
            version: 0,
            index: 0,
            leader: 0,
            ballot: 0,
            fast: false,
            local: false,
            error: 0,
            trip: 0,
        });
    }

    /// What is wrong with the history; of many such lines the first ones tell enough.
    fn lacks(&mut self, what: String) {
        if self.lacking.len() < FINDINGS {
            self.lacking.push(what);
        }
    }

    fn complete(&mut self, line: u32, op: &Op) {
        let Some(open) = self.open.remove(&op.process) else {
            self.lacks(format!("line {line} of the history ends an operation that never began"));
            return;
        };
        let error = self.texts.optional(op.error.as_ref());
        let trip = if op.trip.is_straight() { 0 } else { self.texts.number(&trip_in_words(op.trip)) };
        let operation = &mut self.operations[open];
        if op.time < operation.invoked {
            self.lacks(format!(
                "line {line} of the history ends an operation before it began; it is taken to end at once"
            ));
        }
        let operation = &mut self.operations[open];
        operation.ended = Some(op.time.max(operation.invoked));
        (operation.end_line, operation.last_node) = (line, op.node);
        operation.outcome = match op.kind {
            Kind::Ok => Outcome::Ok,
            Kind::Fail => Outcome::Fail,
            Kind::Info | Kind::Invoke => Outcome::Info,
        };
        (operation.error, operation.trip) = (error, trip);
        if let Some(result) = &op.result {
            operation.returned = self.texts.optional(result.returned.as_ref());
            operation.swapped = result.swapped;
            (operation.version, operation.index) = (result.version, result.index.unwrap_or_default());
            operation.leader = result.leader;
            operation.ballot = self.texts.number(&result.ballot);
            (operation.fast, operation.local) = (result.fast, result.local);
        }
    }
}

fn trip_in_words(trip: Trip) -> String {
    let Trip { redirects, gone, leaderless, behind, unknown } = trip;
    let words = [
        (redirects, "redirects"),
        (gone, "nodes gone"),
        (leaderless, "times no leader known"),
        (behind, "times a replica was behind"),
        (unknown, "times asked again in its session"),
    ];
    let words = words.iter().filter(|(count, _)| *count > 0).map(|(count, what)| format!("{count} {what}"));
    words.collect::<Vec<_>>().join(", ")
}
