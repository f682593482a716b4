//! The seeds of one workload, until something is found or its share of the time is up.

use std::{path::PathBuf, time::Duration};

use anyhow::{Result, ensure};
use store::config::Mutant;

use super::{Found, Row, Verdict};
use crate::{
    clock::boottime_ns,
    plan::Plan,
    report::NEVER_REACHED,
    shrink::{self, Kind, NOT_AGAIN, Shrunk, Size},
    sim::{self, Case, Finding, Options, Outcome},
    workload::ExpectedVerdict,
};

/// Seeds are run in rounds, at most of so many for each thread; the time is looked at after each.
const ROUND: u64 = 8;

/// What a hunt may spend.
#[derive(Clone, Debug)]
pub struct Means {
    /// Time for the seeds; the first round is run whatever it takes.
    pub time: Duration,
    /// Time to shrink what was found; zero: it is not shrunk.
    pub shrink: Duration,
    /// Runs side by side.
    pub jobs: usize,
    /// Where runs that fail, and small plans, are kept.
    pub out: PathBuf,
}

/// What the seeds of a workload came to.
#[derive(Default)]
struct Tally {
    seeds: u64,
    reached: u64,
    undecided: u64,
    /// Why the first undecided seed is.
    why: String,
    failed: Option<String>,
    found: Option<(u64, Finding)>,
}

/// As workload files write it.
fn name_of_mutant(mutant: Mutant) -> String {
    serde_json::to_value(mutant).ok().and_then(|name| Some(name.as_str()?.to_owned())).unwrap_or_default()
}

/// Runs the seeds of a workload, or a plan.
pub fn hunt(case: &Case, means: &Means) -> Row {
    let began = boottime_ns();
    let tally = run(case, means, began + means.time.as_nanos() as u64);
    let took = Duration::from_nanos(boottime_ns() - began);
    let negative = case.plan.expect.verdict == ExpectedVerdict::Violation;
    let (mut verdict, mut words) = judge(&tally, negative, case.plan.test.mutant.is_some());
    let found = tally.found.map(|(seed, finding)| {
        let plan = case.plan(seed);
        let (found, kept) = found(case, &plan, &Kind::of(&finding), means, verdict);
        if let Err(error) = kept {
            // a violation says more than a failure
            if verdict != Verdict::Unexpected {
                verdict = Verdict::Failed;
            }
            words = format!("{words}; seed {seed}: {error:#}");
        }
        found
    });
    Row {
        workload: case.plan.workload.clone(),
        mutant: case.plan.test.mutant.map(name_of_mutant),
        reached: tally.reached,
        seeds: tally.seeds,
        found,
        verdict,
        words,
        took,
    }
}

fn run(case: &Case, means: &Means, end: u64) -> Tally {
    let one = |seed| sim::run(&case.plan(seed), &Options::default());
    let finding = |outcome: &Outcome| sim::first_finding(&case.plan, outcome).cloned();
    let mut tally = Tally::default();
    let (mut next, mut round) = (case.seeds.start, 1);
    while next < case.seeds.end && (tally.seeds == 0 || boottime_ns() < end) {
        let until = case.seeds.end.min(next + round * means.jobs as u64);
        let enough = |outcome: &Outcome| finding(outcome).is_some();
        for outcome in sim::run_seeds(next..until, means.jobs, one, enough) {
            tally.take(&outcome, finding(&outcome));
        }
        next = until;
        round = ROUND.min(round * 2);
        if tally.found.is_some() || tally.failed.is_some() {
            break;
        }
    }
    tally
}

impl Tally {
    fn take(&mut self, outcome: &Outcome, finding: Option<Finding>) {
        self.seeds += 1;
        self.reached += outcome.stats.mutant_reached;
        if let Some(why) = outcome.undecided.first() {
            self.undecided += 1;
            if self.undecided == 1 {
                self.why = format!("seed {}: {why}", outcome.seed);
            }
        }
        if let Some(why) = &outcome.failed {
            self.failed.get_or_insert_with(|| format!("seed {}: {why}", outcome.seed));
        }
        if let Some(finding) = finding {
            self.found.get_or_insert((outcome.seed, finding));
        }
    }
}

fn judge(tally: &Tally, negative: bool, planted: bool) -> (Verdict, String) {
    let Tally { seeds, reached, undecided, why, .. } = tally;
    match (&tally.failed, &tally.found) {
        (_, Some((_, finding))) if !negative => (Verdict::Unexpected, finding.to_string()),
        (Some(why), _) => (Verdict::Failed, format!("the simulator failed: {why}")),
        (None, Some((_, finding))) => (Verdict::Expected, finding.to_string()),
        (None, None) if planted && *reached == 0 => {
            (Verdict::Undecided, format!("{NEVER_REACHED} in {seeds} seeds"))
        }
        (None, None) if undecided == seeds || *undecided > 0 && !negative => {
            (Verdict::Undecided, format!("{undecided} of {seeds} seeds undecided; {why}"))
        }
        (None, None) if negative => (Verdict::Unexpected, format!("nothing was found in {seeds} seeds")),
        (None, None) => (Verdict::Expected, format!("nothing is wrong in {seeds} seeds")),
    }
}

/// What a seed has shown, shrunk if there is time; with whether it could be kept: a run that nobody expects, and what it was
/// shrunk to.
fn found(case: &Case, plan: &Plan, kind: &Kind, means: &Means, verdict: Verdict) -> (Found, Result<()>) {
    let seed = plan.seed;
    let tried = (!means.shrink.is_zero()).then(|| shrink::shrink(plan, kind, means.jobs, means.shrink));
    let differs = matches!(tried, Some(None));
    let small = tried.flatten();
    let mut again = case.again(seed);
    let mut keep = || -> Result<()> {
        if verdict != Verdict::Expected {
            sim::keep(&means.out, plan, &sim::run(plan, &Options::default()))?;
        }
        if let Some(small) = &small {
            let folder = sim::keep_shrunk(&means.out, &small.plan, seed)?;
            again = format!("harness sim --plans {}/plan.toml --tale", folder.display());
        }
        ensure!(!differs, NOT_AGAIN);
        Ok(())
    };
    let kept = keep();
    let shrunk = small.map(|Shrunk { plan, took, .. }| (Size::of(&plan), took));
    (Found { seed, kind: kind.clone(), shrunk, again }, kept)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workload::CheckName;

    fn outcome(reached: u64, undecided: bool) -> Outcome {
        let stats = sim::Stats { mutant_reached: reached, ..sim::Stats::default() };
        let undecided = if undecided { vec!["so".to_owned()] } else { Vec::new() };
        Outcome { undecided, stats, ..Outcome::default() }
    }

    fn judged(outcomes: &[(Outcome, bool)], negative: bool, planted: bool) -> Verdict {
        let mut tally = Tally::default();
        for (outcome, found) in outcomes {
            let finding = Finding { by: CheckName::Linearizable, text: "so".to_owned() };
            tally.take(outcome, found.then_some(finding));
        }
        judge(&tally, negative, planted).0
    }

    #[test]
    fn a_planted_bug_must_be_reached_and_found() {
        let bug = |outcomes: &[_]| judged(outcomes, true, true);
        assert_eq!(bug(&[(outcome(1, false), false), (outcome(1, false), true)]), Verdict::Expected);
        assert_eq!(bug(&[(outcome(1, false), false)]), Verdict::Unexpected);
        assert_eq!(bug(&[(outcome(0, false), false)]), Verdict::Undecided, "it was never reached");
        assert_eq!(bug(&[(outcome(1, true), false)]), Verdict::Undecided);
        assert_eq!(bug(&[(outcome(1, true), false), (outcome(1, false), false)]), Verdict::Unexpected);
    }

    #[test]
    fn a_clean_workload_must_be_clean_and_decided_in_every_seed() {
        let clean = |outcomes: &[_]| judged(outcomes, false, false);
        assert_eq!(clean(&[(outcome(0, false), false)]), Verdict::Expected);
        assert_eq!(clean(&[(outcome(0, false), false), (outcome(0, true), false)]), Verdict::Undecided);
        assert_eq!(clean(&[(outcome(0, true), false), (outcome(0, false), true)]), Verdict::Unexpected);
        let broken = Outcome { failed: Some("so".to_owned()), ..Outcome::default() };
        assert_eq!(clean(&[(outcome(0, false), false), (broken.clone(), false)]), Verdict::Failed);
        assert_eq!(clean(&[(broken, false), (outcome(0, false), true)]), Verdict::Unexpected);
        assert_eq!(judged(&[(outcome(0, false), false)], false, true), Verdict::Undecided, "a control");
    }
}
