//! What a run has left in its folder, read back: all operations, also those that failed or were never answered, and
//! whatever else there is. A run that was interrupted or that failed half-way has fewer files; that is no error here.

pub(crate) mod messages;

use std::{
    collections::HashMap,
    fs::{self, File},
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};
use checker::{
    history::{Function, Header, Key, Kind, Nemesis, Op, Phase, Record, Trip},
    lease_safety::Traces,
};
use clap::ValueEnum;
use serde::Deserialize;

use crate::{plan::Plan, proxy::LinkCounters};
use messages::Message;

/// The file of a run's folder that holds its history.
pub(crate) const HISTORY: &str = "history.jsonl";

/// Everything that a run has left.
pub(crate) struct Recorded {
    pub(crate) folder: PathBuf,
    pub(crate) header: Header,
    /// In the order of invocation.
    pub(crate) operations: Vec<Operation>,
    pub(crate) texts: Texts,
    pub(crate) faults: Vec<Nemesis>,
    pub(crate) phases: Vec<Phase>,
    /// Time of the last record, in nanoseconds of the history.
    pub(crate) last: u64,
    pub(crate) verdict: Option<Verdict>,
    pub(crate) plan: Option<Plan>,
    pub(crate) links: Option<Vec<LinkCounters>>,
    pub(crate) traces: Option<Traces>,
    pub(crate) messages: Option<Vec<Message>>,
    /// What is not there, or cannot be read, and why.
    pub(crate) lacking: Vec<String>,
}

/// An operation with all that the history says of it. Texts are indices of [`Texts`].
#[derive(Clone, Debug)]
pub(crate) struct Operation {
    pub(crate) invoked: u64,
    /// When it was answered, refused or given up; `None`: the history ends before.
    pub(crate) ended: Option<u64>,
    /// Lines of the history; 0: there is none.
    pub(crate) line: u32,
    pub(crate) end_line: u32,
    pub(crate) process: u64,
    pub(crate) client: u64,
    /// The node that was asked first, and the one that was asked last.
    pub(crate) node: u64,
    pub(crate) last_node: u64,
    pub(crate) what: What,
    pub(crate) outcome: Outcome,
    pub(crate) key: u32,
    /// Whether the key is an integer, and not a text that looks like one.
    pub(crate) integer: bool,
    pub(crate) value: u32,
    pub(crate) expected: u32,
    pub(crate) returned: u32,
    pub(crate) swapped: Option<bool>,
    pub(crate) version: u64,
    pub(crate) index: u64,
    pub(crate) leader: u64,
    pub(crate) ballot: u32,
    pub(crate) fast: bool,
    pub(crate) local: bool,
    pub(crate) error: u32,
    pub(crate) trip: u32,
}

/// What was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum What {
    Get,
    Put,
    Cas,
    Delete,
}

/// How it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Outcome {
    Ok,
    Fail,
    Info,
    /// The history ends before.
    Open,
}

impl What {
    /// The word that stands for it in a history.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Get => "get",
            Self::Put => "put",
            Self::Cas => "cas",
            Self::Delete => "delete",
        }
    }
}

impl Outcome {
    /// The word that stands for it in a history; `open` where none does.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Fail => "fail",
            Self::Info => "info",
            Self::Open => "open",
        }
    }
}

impl Operation {
    /// Whether an answer came.
    pub(crate) fn answered(&self) -> bool {
        self.outcome == Outcome::Ok
    }

    /// Its key.
    pub(crate) fn named(&self, run: &Recorded) -> Option<Key> {
        let text = run.texts.get(self.key)?;
        if self.integer { text.parse().ok().map(Key::Integer) } else { Some(Key::String(text.to_owned())) }
    }

    /// The last moment at which it may have happened: one whose outcome is unknown may at any time.
    pub(crate) fn may_happen_until(&self) -> u64 {
        match self.outcome {
            Outcome::Info | Outcome::Open => u64::MAX,
            Outcome::Ok | Outcome::Fail => self.ended.unwrap_or(u64::MAX),
        }
    }

    /// Whether its answer holds what the key held.
    pub(crate) fn tells_a_value(&self) -> bool {
        self.answered() && (self.what == What::Get || self.swapped == Some(false))
    }
}

/// Texts by number; 0 is none.
#[derive(Debug)]
pub(crate) struct Texts {
    texts: Vec<String>,
    numbers: HashMap<String, u32>,
}

/// The verdict as `verdict.json` holds it; what a later version adds or an earlier one lacks is no matter.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Verdict {
    #[serde(rename = "verdict")]
    pub(crate) status: String,
    pub(crate) as_expected: Option<bool>,
    pub(crate) exit_code: Option<u8>,
    pub(crate) words: String,
    pub(crate) again: Option<String>,
    pub(crate) missing: Vec<String>,
    pub(crate) checks: Vec<CheckWords>,
    pub(crate) mutant: Option<String>,
    pub(crate) deaths: Vec<DeathWords>,
    pub(crate) figures: FigureWords,
}

/// What one check said.
#[derive(Clone, Debug, Default, Deserialize, serde::Serialize)]
#[serde(default)]
pub(crate) struct CheckWords {
    pub(crate) name: String,
    pub(crate) status: String,
    pub(crate) words: String,
    pub(crate) findings: Vec<String>,
}

/// A node that ended by itself.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct DeathWords {
    pub(crate) node: u64,
    cause: serde_json::Value,
}

/// The figures that only the run itself knows.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct FigureWords {
    /// In seconds.
    pub(crate) stalls: Vec<(f64, f64)>,
}

impl Recorded {
    /// Reads a run's folder. Only a history that cannot be read is an error.
    pub(crate) fn read(folder: &Path) -> Result<Self> {
        let folder =
            fs::canonicalize(folder).with_context(|| format!("there is no run in {}", folder.display()))?;
        let mut lines = Lines::default();
        lines.read(&folder.join(HISTORY))?;
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
        if run.folder.join(messages::FILE).exists() {
            seen(json(&run.folder, messages::FILE).map(|messages| run.messages = Some(messages)));
        }
        run.lacking = lacking;
        Ok(run)
    }

    /// Whether the run was simulated: simulated time begins at 0 on every clock.
    pub(crate) fn simulated(&self) -> bool {
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
    pub(crate) fn deaths_in_words(&self) -> Vec<String> {
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
    pub(crate) fn find(&self, text: &str) -> u32 {
        self.numbers.get(text).copied().unwrap_or(u32::MAX)
    }

    /// The text of a number; `None`: there is none.
    pub(crate) fn get(&self, number: u32) -> Option<&str> {
        let text = self.texts.get(number as usize).filter(|_| number > 0);
        text.map(String::as_str)
    }
}

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
