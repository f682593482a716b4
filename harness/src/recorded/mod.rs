//! What a run has left in its folder, read back: all operations, also those that failed or were never answered, and
//! whatever else there is. A run that was interrupted or that failed half-way has fewer files; that is no error here.

mod lines;
mod operation;

pub(crate) use lines::records;
pub(crate) use operation::{Operation, Outcome, Texts, What};

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};
use checker::{
    history::{Header, Nemesis, Phase},
    lease_safety::Traces,
};
use serde::Deserialize;

use crate::{messages::Messages, plan::Plan, proxy::LinkCounters};
use lines::Lines;

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
    /// Those between nodes; none: the run has recorded none.
    pub(crate) messages: Option<Messages>,
    /// What is not there, or cannot be read, and why.
    pub(crate) lacking: Vec<String>,
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
        let messages = Messages::open(&run.folder).map_err(|error| format!("{error:#}"));
        seen(messages.map(|messages| run.messages = messages));
        run.lacking = lacking;
        Ok(run)
    }

    /// Whether the run was simulated: simulated time begins at 0 on every clock.
    pub(crate) fn simulated(&self) -> bool {
        self.header.origin == 0
    }
}

/// The end of a fault, of which this is the beginning.
pub(crate) fn end_of<'a>(begin: &Nemesis, faults: &'a [Nemesis]) -> Option<&'a Nemesis> {
    faults.iter().find(|record| !record.begins && record.fault == begin.fault)
}

fn json<T: for<'a> Deserialize<'a>>(folder: &Path, name: &str) -> Result<T, String> {
    let bytes = fs::read(folder.join(name)).map_err(|error| format!("{name}: {error}"))?;
    serde_json::from_slice(&bytes).map_err(|error| format!("{name}: {error}"))
}

/// Most findings of a check that a page holds.
const FINDINGS: usize = 40;

/// Most bytes of the words of a finding, which name values that may be of any length.
const WORDS: usize = 4000;

/// The words of a finding, cut where they are too long to be read.
pub(crate) fn readable(text: String) -> String {
    if text.len() <= WORDS {
        return text;
    }
    let end = (0..=WORDS).rev().find(|&at| text.is_char_boundary(at)).unwrap_or_default();
    format!("{}… ({} bytes in all)", &text[..end], text.len())
}

impl Verdict {
    /// With no more findings than one reads.
    pub(crate) fn short(mut self) -> Self {
        for check in &mut self.checks {
            let more = check.findings.len().saturating_sub(FINDINGS);
            check.findings.truncate(FINDINGS);
            for finding in &mut check.findings {
                *finding = readable(std::mem::take(finding));
            }
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
