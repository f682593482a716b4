//! What a run has left in its folder, read back: all operations, also those that failed or were never answered, and
//! whatever else there is. A run that was interrupted or that failed half-way has fewer files; that is no error here.

use std::{
    collections::HashMap,
    fs::{self, File},
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};
use checker::{
    history::{Function, Header, Kind, Nemesis, Op, Phase, Record, Trip},
    lease_safety::Traces,
};
use serde::Deserialize;

use crate::{plan::Plan, proxy::LinkCounters};

use super::messages::Message;

/// Everything that a run has left.
pub(super) struct Recorded {
    pub(super) folder: PathBuf,
    pub(super) header: Header,
    /// In the order of invocation.
    pub(super) operations: Vec<Operation>,
    pub(super) texts: Texts,
    pub(super) faults: Vec<Nemesis>,
    pub(super) phases: Vec<Phase>,
    /// Time of the last record, in nanoseconds of the history.
    pub(super) last: u64,
    pub(super) verdict: Option<Verdict>,
    pub(super) plan: Option<Plan>,
    pub(super) links: Option<Vec<LinkCounters>>,
    pub(super) traces: Option<Traces>,
    pub(super) messages: Option<Vec<Message>>,
    /// What is not there, or cannot be read, and why.
    pub(super) lacking: Vec<String>,
}

/// An operation with all that the history says of it. Texts are indices of [`Texts`].
#[derive(Clone, Debug)]
pub(super) struct Operation {
    pub(super) invoked: u64,
    /// When it was answered, refused or given up; `None`: the history ends before.
    pub(super) ended: Option<u64>,
    /// Lines of the history; 0: there is none.
    pub(super) line: u32,
    pub(super) end_line: u32,
    pub(super) process: u64,
    pub(super) client: u64,
    /// The node that was asked first, and the one that was asked last.
    pub(super) node: u64,
    pub(super) last_node: u64,
    pub(super) what: What,
    pub(super) outcome: Outcome,
    pub(super) key: u32,
    pub(super) value: u32,
    pub(super) expected: u32,
    pub(super) returned: u32,
    pub(super) swapped: Option<bool>,
    pub(super) version: u64,
    pub(super) index: u64,
    pub(super) leader: u64,
    pub(super) ballot: u32,
    pub(super) fast: bool,
    pub(super) local: bool,
    pub(super) error: u32,
    pub(super) trip: u32,
}

/// What was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum What {
    Get,
    Put,
    Cas,
    Delete,
}

/// How it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    Ok,
    Fail,
    Info,
    /// The history ends before.
    Open,
}

/// Texts by number; 0 is none.
#[derive(Debug)]
pub(super) struct Texts {
    texts: Vec<String>,
    numbers: HashMap<String, u32>,
}

/// The verdict as `verdict.json` holds it; what a later version adds or an earlier one lacks is no matter.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Verdict {
    #[serde(rename = "verdict")]
    pub(super) status: String,
    pub(super) as_expected: Option<bool>,
    pub(super) exit_code: Option<u8>,
    pub(super) words: String,
    pub(super) again: Option<String>,
    pub(super) missing: Vec<String>,
    pub(super) checks: Vec<CheckWords>,
    pub(super) mutant: Option<String>,
    pub(super) deaths: Vec<DeathWords>,
    pub(super) figures: FigureWords,
}

/// What one check said.
#[derive(Clone, Debug, Default, Deserialize, serde::Serialize)]
#[serde(default)]
pub(super) struct CheckWords {
    pub(super) name: String,
    pub(super) status: String,
    pub(super) words: String,
    pub(super) findings: Vec<String>,
}

/// A node that ended by itself.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct DeathWords {
    node: u64,
    cause: serde_json::Value,
}

/// The figures that only the run itself knows.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct FigureWords {
    /// In seconds.
    pub(super) stalls: Vec<(f64, f64)>,
}

impl Recorded {
    /// Reads a run's folder. Only a history that cannot be read is an error.
    pub(super) fn read(folder: &Path) -> Result<Self> {
        let folder =
            fs::canonicalize(folder).with_context(|| format!("there is no run in {}", folder.display()))?;
        let mut lines = Lines::default();
        lines.read(&folder.join("history.jsonl"))?;
        let mut lacking = lines.lacking;
        let mut seen = |read: Result<(), String>| lacking.extend(read.err());
        let mut run = Self {
            header: lines.header.context("the history has no header: is this the folder of a run?")?,
            operations: lines.operations,
            texts: lines.texts,
            faults: lines.faults,
            phases: lines.phases,
            last: lines.last,
            verdict: None,
            plan: None,
            links: None,
            traces: None,
            messages: None,
            lacking: Vec::new(),
            folder,
        };
        seen(json(&run.folder, "verdict.json").map(|verdict: Verdict| run.verdict = Some(verdict.short())));
        if !run.simulated() {
            seen(json(&run.folder, "links.json").map(|links| run.links = Some(links)));
        }
        let plan = fs::read_to_string(run.folder.join("plan.toml")).map_err(|error| error.to_string());
        let plan = plan.and_then(|text| toml::from_str(&text).map_err(|error| error.message().to_owned()));
        seen(plan.map(|plan| run.plan = Some(plan)).map_err(|error| format!("plan.toml: {error}")));
        let traces = Traces::read(&run.folder.join("trace")).map_err(|error| format!("traces: {error}"));
        seen(traces.map(|traces| run.traces = Some(traces)));
        if run.folder.join(super::messages::FILE).exists() {
            seen(json(&run.folder, super::messages::FILE).map(|messages| run.messages = Some(messages)));
        }
        run.lacking = lacking;
        Ok(run)
    }

    /// Whether the run was simulated: simulated time begins at 0 on every clock.
    pub(super) fn simulated(&self) -> bool {
        self.header.origin == 0
    }
}

fn json<T: for<'a> Deserialize<'a>>(folder: &Path, name: &str) -> Result<T, String> {
    let bytes = fs::read(folder.join(name)).map_err(|error| format!("{name}: {error}"))?;
    serde_json::from_slice(&bytes).map_err(|error| format!("{name}: {error}"))
}

/// Most findings of a check that a page holds.
const FINDINGS: usize = 40;

impl Verdict {
    /// With no more findings than one reads.
    fn short(mut self) -> Self {
        for check in &mut self.checks {
            let more = check.findings.len().saturating_sub(FINDINGS);
            check.findings.truncate(FINDINGS);
            if more > 0 {
                check.findings.push(format!("… and {more} more in verdict.json"));
            }
        }
        self
    }

    /// The nodes that ended by themselves, in words.
    pub(super) fn deaths_in_words(&self) -> Vec<String> {
        let words = |death: &DeathWords| {
            let cause = match &death.cause {
                serde_json::Value::Object(cause) => cause.values().next().cloned().unwrap_or_default(),
                other => other.clone(),
            };
            let cause = cause.as_str().map_or_else(|| cause.to_string(), str::to_owned);
            format!("node {} ended by itself: {cause}", death.node)
        };
        self.deaths.iter().map(words).collect()
    }
}

impl Default for Texts {
    fn default() -> Self {
        Self { texts: vec![String::new()], numbers: HashMap::new() }
    }
}

impl Texts {
    fn number(&mut self, text: &str) -> u32 {
        if let Some(number) = self.numbers.get(text) {
            return *number;
        }
        let number = self.texts.len() as u32;
        self.texts.push(text.to_owned());
        self.numbers.insert(text.to_owned(), number);
        number
    }

    fn optional(&mut self, text: Option<&String>) -> u32 {
        text.map_or(0, |text| self.number(text))
    }

    /// The number of a text; one that stands for nothing else if the run does not hold it.
    pub(super) fn find(&self, text: &str) -> u32 {
        self.numbers.get(text).copied().unwrap_or(u32::MAX)
    }

    /// The text of a number; `None`: there is none.
    pub(super) fn get(&self, number: u32) -> Option<&str> {
        let text = self.texts.get(number as usize).filter(|_| number > 0);
        text.map(String::as_str)
    }
}

/// The lines of a history, as they come.
#[derive(Default)]
struct Lines {
    header: Option<Header>,
    operations: Vec<Operation>,
    /// The open operation of each process.
    open: HashMap<u64, usize>,
    texts: Texts,
    faults: Vec<Nemesis>,
    phases: Vec<Phase>,
    last: u64,
    lacking: Vec<String>,
}

impl Lines {
    fn read(&mut self, path: &Path) -> Result<()> {
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
                Ok(record) => self.take(number, record),
                Err(_) if text.trim_ascii().is_empty() => {}
                Err(_) if !text.ends_with(b"\n") => {
                    self.lacking
                        .push(format!("the last line of the history, {number}, was cut off by a crash"));
                }
                Err(error) => {
                    return Err(error).with_context(|| format!("{shown}: line {number} is no record"));
                }
            }
        }
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

    fn complete(&mut self, line: u32, op: &Op) {
        let Some(open) = self.open.remove(&op.process) else {
            self.lacking.push(format!("line {line} of the history ends an operation that never began"));
            return;
        };
        let error = self.texts.optional(op.error.as_ref());
        let trip = if op.trip.is_straight() { 0 } else { self.texts.number(&trip_in_words(op.trip)) };
        let operation = &mut self.operations[open];
        operation.ended = Some(op.time);
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
