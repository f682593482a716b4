//! From a real run that failed to a simulated one that fails the same way, and does so every time from then on.
//!
//! The plan of such a run says again what happened in it, as far as that was recorded: each fault with the nodes that it found
//! and the times at which it struck and ended, each request with the time at which it was asked, the starts of the processes, and
//! for the messages between nodes how long each travelled and which never arrived. What was not recorded (disks, what ran when on
//! which processor, how requests travelled) and what cannot be matched is drawn from the seed, so several seeds are tried. A
//! run that shows the same check and invariant is kept with all that it followed: its plan alone brings it about again, and can
//! be shrunk like any other.
//!
//! | file | |
//! |---|---|
//! | `struck` | faults as they struck |
//! | `course` | the record that simulated runs follow |
//! | `follow` | which recorded message is meant by one that is sent |
//! | `command` | the command line |

pub mod command;
mod course;
mod follow;
mod struck;

use std::path::Path;

use anyhow::{Context, Result, ensure};
use checker::{history::Record, trace::TraceEvent};

pub use course::{Course, FILE, Follows};
pub use follow::Followed;
pub(crate) use follow::{Follower, Passage};
pub use struck::Aim;

use crate::{
    plan::Plan,
    recorded::{self, HISTORY, Recorded},
    results::PLAN,
    shrink::{Kind, listed},
    sim::Finding,
    workload::CheckName,
};

/// A real run that failed, as simulated ones may follow it.
#[derive(Debug)]
pub struct Replay {
    /// What they do, with faults aimed at the nodes that they found, and at roles.
    plans: [Plan; 2],
    /// What is to be seen again: any of these.
    pub kinds: Vec<Kind>,
    /// The first of it in words.
    pub words: String,
    /// What of the record is not there.
    pub lacking: Vec<String>,
}

impl Replay {
    /// Reads the folder of a real run that failed.
    pub fn of(folder: &Path) -> Result<Self> {
        let run = Recorded::read(folder)?;
        ensure!(!run.simulated(), "the run was simulated: `harness sim --plans` does it again");
        let plan =
            run.plan.clone().with_context(|| format!("there is no plan ({})", run.lacking.join("; ")))?;
        plan.system.simulated(&run.folder.join(PLAN)).map_err(anyhow::Error::msg)?;
        let kinds = kinds(&run);
        ensure!(
            !kinds.is_empty(),
            "no check has found a violation in this run: there is nothing to look for"
        );
        let mut records = Vec::new();
        recorded::records(&run.folder.join(HISTORY), |_, record| {
            records.push(record);
            Ok(())
        })?;
        let began = records.iter().find_map(|record| match record {
            Record::Phase(phase) if phase.name == "warm-up" => Some(phase.time),
            _ => None,
        });
        let began = began.context("the run was over before its clients began")?;
        let mut messages = Vec::new();
        let mut lacking = run.lacking.clone();
        match &run.messages {
            Some(all) => {
                all.between(0, u64::MAX, |message| messages.push(message))?;
                lacking.extend(
                    all.missing().map(|missing| format!("messages that are not recorded: {missing}")),
                );
            }
            None => lacking.push("the run has recorded no messages between nodes".to_owned()),
        }
        let follows = Follows::new(began, starts(&run), Course::new(messages));
        let plans = [Aim::Nodes, Aim::Roles].map(|aim| {
            let mut plan = listed(&struck::as_they_struck(&plan, &run.faults, began, aim), &records);
            // the run goes on until that check has seen it, whatever others see on the way
            plan.expect.by.get_or_insert(kinds[0].by);
            plan.follows = Some(follows.clone());
            plan
        });
        let words = run.verdict.as_ref().map(|verdict| verdict.words.clone()).unwrap_or_default();
        Ok(Self { plans, kinds, words, lacking })
    }

    /// The plan of one simulated run, and at whom its faults are aimed: with even seeds at the nodes that they found.
    pub fn plan(&self, seed: u64) -> (Plan, Aim) {
        let aim = if seed.is_multiple_of(2) { Aim::Nodes } else { Aim::Roles };
        (Plan { seed, ..self.plans[usize::from(aim == Aim::Roles)].clone() }, aim)
    }

    /// Simulated runs follow no messages.
    pub fn leave_out_messages(&mut self) {
        self.plans.iter_mut().for_each(|plan| plan.follows = None);
    }
}

/// What its checks have found.
fn kinds(run: &Recorded) -> Vec<Kind> {
    let mut kinds = Vec::new();
    let checks = run.verdict.iter().flat_map(|verdict| &verdict.checks);
    for check in checks.filter(|check| check.status == "violation") {
        let name = serde_json::Value::String(check.name.clone());
        let Ok(by) = serde_json::from_value::<CheckName>(name) else { continue };
        for text in check.findings.iter().chain(check.findings.is_empty().then_some(&check.words)) {
            let kind = Kind::of(&Finding { by, text: text.clone() });
            if !kinds.contains(&kind) {
                kinds.push(kind);
            }
        }
    }
    kinds
}

/// When each life of each node has begun, in nanoseconds of the history.
fn starts(run: &Recorded) -> Vec<(u64, u64, u64)> {
    let lines = run.traces.iter().flat_map(|traces| &traces.nodes).flat_map(|node| &node.lines);
    let started = lines.filter(|(_, line)| matches!(line.event, TraceEvent::Started { .. }));
    started.map(|(_, line)| (line.node, line.boot, line.common.saturating_sub(run.header.origin))).collect()
}
