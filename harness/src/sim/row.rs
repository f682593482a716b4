//! What the seeds of a workload came to, in words and as JSON.

use std::path::PathBuf;

use serde::Serialize;
use serde_json::json;

use super::{Case, Outcome, Stats};
use crate::{
    report::{FAILED, html, name_of, severity},
    workload::CheckName,
};

/// Seeds of a workload that are printed one by one.
const SHOWN: usize = 20;

/// What the seeds of one workload came to.
pub(super) struct Row {
    pub(super) workload: String,
    pub(super) verdict: &'static str,
    pub(super) exit_code: u8,
    pub(super) words: String,
    pub(super) totals: Stats,
    pub(super) runs: u64,
    /// Those of which there is anything to say.
    pub(super) seeds: Vec<Remark>,
}

/// What there is to say of a seed.
#[derive(Serialize)]
pub(super) struct Remark {
    seed: u64,
    findings: Vec<Found>,
    /// Two runs of it differ.
    diverged: bool,
    undecided: Vec<String>,
    /// Why the simulator failed.
    failed: Option<String>,
    again: String,
    /// Where everything is written down.
    pub(super) kept: Option<PathBuf>,
}

#[derive(Serialize)]
struct Found {
    check: CheckName,
    words: String,
}

impl Remark {
    /// What there is to say of a seed, if anything.
    pub(super) fn of(case: &Case, outcome: &Outcome) -> Option<Self> {
        let Outcome { seed, findings, diverged, undecided, failed, .. } = outcome;
        let nothing = findings.is_empty() && !diverged && undecided.is_empty() && failed.is_none();
        let found = findings.iter().map(|finding| Found { check: finding.by, words: finding.text.clone() });
        (!nothing).then(|| Self {
            seed: *seed,
            findings: found.collect(),
            diverged: *diverged,
            undecided: undecided.clone(),
            failed: failed.clone(),
            again: case.again(*seed),
            kept: None,
        })
    }

    /// Whether it shows that something is wrong.
    pub(super) fn fails(&self) -> bool {
        self.diverged || !self.findings.is_empty()
    }
}

impl Row {
    /// The harness has failed; a violation says more than that.
    pub(super) fn fail(&mut self, why: &str) {
        if severity(self.exit_code) > severity(FAILED) {
            self.words = format!("{}; {why}", self.words);
        } else {
            (self.verdict, self.exit_code, self.words) = ("unknown", FAILED, why.to_owned());
        }
    }

    /// Prints it; quietly: unless all is as it should be.
    pub(super) fn print(&self, quiet: bool) {
        if quiet && self.exit_code == 0 {
            return;
        }
        for seed in self.seeds.iter().filter(|seed| seed.fails()).take(SHOWN) {
            let first = seed.findings.first().map_or("", |found| found.words.as_str());
            let first = if seed.diverged { "two runs of this seed differ" } else { first };
            say!("seed {}: {}\n    again: {}", seed.seed, first.replace('\n', "\n    "), seed.again);
            // the first is told in full
            let others = seed.findings.iter().skip(1).filter(|_| !seed.diverged);
            for Found { check, words } in others {
                say!("    also {}: {}", name_of(*check), words.lines().next().unwrap_or_default());
            }
            if let Some(folder) = &seed.kept {
                say!("    kept: {}", folder.display());
                say!("    report: {}", folder.join(html::FILE).display());
            }
        }
        // once a planted bug is found, what other seeds lack does not matter
        let undecided = self.seeds.iter().filter(|seed| self.exit_code != 0 && !seed.undecided.is_empty());
        for seed in undecided.take(SHOWN) {
            say!("seed {}: undecided: {}", seed.seed, seed.undecided.join("; "));
        }
        for seed in &self.seeds {
            if let Some(why) = &seed.failed {
                say!("seed {}: the simulator failed: {why}\n    again: {}", seed.seed, seed.again);
            }
        }
        say!("{}: {}", self.workload, self.words);
    }

    /// Prints it as one line of JSON.
    pub(super) fn print_json(&self) {
        let Self { workload, verdict, exit_code, words, totals, runs, seeds } = self;
        let fingerprint = format!("{:016x}", totals.fingerprint);
        let row = json!({
            "workload": workload, "verdict": verdict, "exit_code": exit_code, "words": words, "runs": runs,
            "fingerprint": fingerprint, "totals": totals, "seeds": seeds,
        });
        say!("{row}");
    }
}
