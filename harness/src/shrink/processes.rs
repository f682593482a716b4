//! Candidates on real processes: they never interleave in the same way twice, so that one counts if it fails in so many of so
//! many runs.

use std::{fs, path::PathBuf, str::FromStr};

use anyhow::Result;
use checker::history::Record;

use super::Kind;
use crate::{
    plan::Plan,
    recorded,
    report::{Report, Status},
    run::{self, Ended},
    sim::Finding,
};

/// In how many of how many runs a candidate must fail, such as 2/3.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Often {
    /// At least in so many,
    pub fails: u64,
    /// of so many.
    pub of: u64,
}

impl FromStr for Often {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let number = |text: &str| text.parse::<u64>().ok().filter(|number| *number > 0);
        let often = text.split_once('/').and_then(|(fails, of)| Some((number(fails)?, number(of)?)));
        match often {
            Some((fails, of)) if fails <= of => Ok(Self { fails, of }),
            _ => Err("write K/N, such as 2/3: at least K of N runs fail".to_owned()),
        }
    }
}

/// A run that failed, and what is left of it.
#[derive(Debug)]
pub struct Failing {
    /// Its folder.
    pub folder: PathBuf,
    /// What it has shown.
    pub findings: Vec<Finding>,
}

impl Failing {
    /// What its clients asked and were told.
    pub fn history(&self) -> Result<Vec<Record>> {
        let mut records = Vec::new();
        recorded::records(&self.folder.join("history.jsonl"), |_, record| {
            records.push(record);
            Ok(())
        })?;
        Ok(records)
    }
}

/// Runs candidates on real processes, one at a time.
#[derive(Debug)]
pub struct Processes {
    often: Often,
    options: run::Options,
    /// A run of the plan that is tried next that has failed already.
    first: Option<Failing>,
    /// A run of the smallest plan so far that failed.
    pub failing: Option<Failing>,
    /// The user has stopped it all.
    pub interrupted: bool,
}

impl Processes {
    /// Candidates must fail so often; their results go below this folder, and only those of the smallest plan stay.
    pub fn new(often: Often, results: PathBuf) -> Result<Self> {
        let node_command = crate::cli::node_command()?;
        let options = run::Options { results, node_command, quiet: true };
        Ok(Self { often, options, first: None, failing: None, interrupted: false })
    }

    /// Whether the candidate fails often enough, and not without the bug that is planted; with how many runs that took.
    pub fn fails(&mut self, candidate: &Plan, kind: &Kind) -> (bool, u64) {
        let mut failing = Vec::from_iter(self.first.take());
        let mut runs = failing.len() as u64;
        let Often { fails, of } = self.often;
        // until it cannot come to another end
        while (failing.len() as u64) < fails && fails - failing.len() as u64 <= of - runs && !self.interrupted
        {
            runs += 1;
            failing.extend(self.of_kind(candidate, kind));
        }
        let often = failing.len() as u64 >= fails;
        let bug = candidate.test.mutant.is_some();
        let by_itself = often && bug && {
            runs += 1;
            self.shows(&candidate.clone().without_mutant(), kind)
        };
        let fails = often && !by_itself;
        let before = if fails { self.failing.replace(failing.remove(0)) } else { None };
        for folder in failing.into_iter().chain(before).map(|failing| failing.folder) {
            forget(&folder);
        }
        (fails, runs)
    }

    /// One run of a plan: the first thing wrong in it that is wanted. It counts as one of the runs of the plan that is tried next.
    pub fn first(&mut self, plan: &Plan, wanted: impl Fn(&Finding) -> bool) -> Result<Option<Finding>> {
        self.first = self.once(plan, &wanted)?;
        let findings = self.first.iter().flat_map(|failing| &failing.findings);
        let mut findings = findings.filter(|finding| wanted(finding));
        Ok(findings.next().cloned())
    }

    /// Whether one run of a plan shows it; nothing stays of it.
    pub fn shows(&mut self, plan: &Plan, kind: &Kind) -> bool {
        self.of_kind(plan, kind).map(|failing| forget(&failing.folder)).is_some()
    }

    /// One run of a plan, if it shows this. A plan of which too much was left out need not make sense: then it shows nothing.
    fn of_kind(&mut self, plan: &Plan, kind: &Kind) -> Option<Failing> {
        self.once(plan, |finding| Kind::of(finding) == *kind).ok().flatten()
    }

    /// One run of a plan, if it shows what is wanted; of any other nothing stays.
    fn once(&mut self, plan: &Plan, wanted: impl Fn(&Finding) -> bool) -> Result<Option<Failing>> {
        match run::alone(plan, String::new(), &self.options)? {
            Ended::Interrupted(folder) => {
                self.interrupted = true;
                forget(&folder);
                Ok(None)
            }
            Ended::Checked(report) => {
                let findings = findings(plan, &report);
                let shows = findings.iter().any(wanted);
                if !shows {
                    forget(&report.folder);
                }
                Ok(shows.then(|| Failing { folder: report.folder.clone(), findings }))
            }
        }
    }
}

/// What a run has shown, unless the bug that is planted was never reached.
fn findings(plan: &Plan, report: &Report) -> Vec<Finding> {
    if plan.test.mutant.is_some() && report.facts.mutant_reached == 0 {
        return Vec::new();
    }
    let failing = report.checks.iter().filter(|check| check.status == Status::Violation);
    let texts = failing.flat_map(|check| {
        let words =
            if check.findings.is_empty() { std::slice::from_ref(&check.words) } else { &check.findings };
        words.iter().map(|text| Finding { by: check.name, text: text.clone() })
    });
    texts.collect()
}

fn forget(folder: &std::path::Path) {
    if let Err(error) = fs::remove_dir_all(folder) {
        eprintln!("warning: {} cannot be removed: {error}", folder.display());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn how_often_is_a_number_of_runs_of_as_many_or_more() {
        assert_eq!("2/3".parse(), Ok(Often { fails: 2, of: 3 }));
        assert_eq!("1/1".parse(), Ok(Often { fails: 1, of: 1 }));
        for wrong in ["", "2", "0/3", "4/3", "2/x", "-1/2"] {
            assert!(wrong.parse::<Often>().is_err(), "{wrong}");
        }
    }
}
