//! The seeds of one workload, until something is found or its share of the time is up.

use std::{path::PathBuf, time::Duration};

use anyhow::Result;
use store::config::Mutant;

use super::{Found, Row, Verdict};
use crate::{
    clock::boottime_ns,
    plan::Plan,
    report::NEVER_REACHED,
    shrink::{self, Kind, NotShrunk, Shrunk, Size},
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
    /// The first that is expected, or, where nothing is, the first at all.
    found: Option<(u64, Finding)>,
    /// The first that is not what a negative workload expects: another check found it, or the bug was not reached.
    other: Option<(u64, Finding)>,
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
    // what is not the expected violation has nothing to do with the planted bug, by which shrinking goes
    let shrinks = tally.found.is_some() && !means.shrink.is_zero();
    let found = tally.found.or(tally.other).map(|(seed, finding)| {
        let kind = Kind::of(&finding);
        let plan = case.plan(seed);
        let small = shrinks.then(|| shrink::shrink(&plan, &kind, means.jobs, means.shrink));
        if let Some(Err(why)) = small {
            (verdict, words) = not_shrunk(why, verdict, &format!("{words}; seed {seed}: {why}"));
        }
        let (again, kept) = keep(case, plan, small.as_ref(), verdict, means);
        if let Err(error) = kept {
            (verdict, words) = (worse(verdict, Verdict::Failed), format!("{words}; seed {seed}: {error:#}"));
        }
        let shrunk = small.and_then(Result::ok).map(|Shrunk { plan, took, .. }| (Size::of(&plan), took));
        Found { seed, kind, shrunk, again }
    });
    Row {
        workload: case.name(),
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
    let negative = case.plan.expect.verdict == ExpectedVerdict::Violation;
    let one = |seed| sim::run(&case.plan(seed), &Options::default());
    let finding = |outcome: &Outcome| sim::first_finding(&case.plan, outcome).cloned();
    let mut tally = Tally::default();
    let (mut next, mut round) = (case.seeds.start, 1);
    while next < case.seeds.end && (tally.seeds == 0 || boottime_ns() < end) {
        let until = case.seeds.end.min(next + round * means.jobs as u64);
        let enough = |outcome: &Outcome| finding(outcome).is_some();
        for outcome in sim::run_seeds(next..until, means.jobs, one, enough) {
            tally.take(&outcome, finding(&outcome), negative);
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
    fn take(&mut self, outcome: &Outcome, finding: Option<Finding>, negative: bool) {
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
        match finding {
            Some(finding) => _ = self.found.get_or_insert((outcome.seed, finding)),
            None if negative => {
                if let Some(finding) = outcome.findings.first() {
                    self.other.get_or_insert((outcome.seed, finding.clone()));
                }
            }
            None => {}
        }
    }
}

fn judge(tally: &Tally, negative: bool, planted: bool) -> (Verdict, String) {
    let Tally { seeds, reached, undecided, why, .. } = tally;
    match (&tally.failed, &tally.found) {
        (_, Some((_, finding))) if !negative => (Verdict::Unexpected, finding.to_string()),
        (Some(why), _) => (Verdict::Failed, format!("the simulator failed: {why}")),
        (None, Some((_, finding))) => (Verdict::Expected, finding.to_string()),
        (None, None) if tally.other.is_some() => {
            let finding = tally.other.iter().map(|(_, finding)| finding.to_string()).collect::<String>();
            (Verdict::Unexpected, format!("not the violation that is expected: {finding}"))
        }
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

/// What it means that a seed that has shown something could not be shrunk.
fn not_shrunk(why: NotShrunk, verdict: Verdict, words: &str) -> (Verdict, String) {
    let verdict = match why {
        NotShrunk::WithoutTheBug => Verdict::Unexpected,
        NotShrunk::NotAgain => worse(verdict, Verdict::Failed),
    };
    (verdict, words.to_owned())
}

/// A violation that nobody expects says more than a failure.
fn worse(one: Verdict, other: Verdict) -> Verdict {
    if one == Verdict::Unexpected { one } else { other }
}

/// Keeps a run that nobody expects, and what it was shrunk to; how to see it again.
fn keep(
    case: &Case,
    plan: Plan,
    small: Option<&Result<Shrunk, NotShrunk>>,
    verdict: Verdict,
    means: &Means,
) -> (String, Result<()>) {
    let seed = plan.seed;
    let out = means.out.join(&case.group);
    let mut again = case.again(seed);
    let keep = || -> Result<()> {
        if verdict != Verdict::Expected {
            let plan = if matches!(small, Some(Err(NotShrunk::WithoutTheBug))) {
                plan.without_mutant()
            } else {
                plan
            };
            let folder = sim::keep(&out, &plan, &sim::run(&plan, &Options::default()))?;
            again = sim::again_of_plan(&folder.join("plan.toml"));
        }
        if let Some(Ok(small)) = small {
            let folder = sim::keep_shrunk(&out, &small.plan, seed)?;
            again = sim::again_of_plan(&folder.join("plan.toml"));
        }
        Ok(())
    };
    let kept = keep();
    (again, kept)
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
            tally.take(outcome, found.then_some(finding), negative);
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
        // what nobody expects is a violation, whether the bug was reached or not
        let finding = Finding { by: CheckName::Progress, text: "so".to_owned() };
        for reached in [0, 1] {
            let other = Outcome { findings: vec![finding.clone()], ..outcome(reached, false) };
            assert_eq!(bug(&[(other.clone(), false)]), Verdict::Unexpected);
            assert_eq!(bug(&[(other, false), (outcome(1, false), true)]), Verdict::Expected);
        }
        assert_eq!(bug(&[(outcome(1, true), false), (outcome(1, false), false)]), Verdict::Unexpected);
    }

    #[test]
    fn what_shows_without_the_planted_bug_is_a_bug_of_the_store() {
        let verdict = |why, before| not_shrunk(why, before, "").0;
        assert_eq!(verdict(NotShrunk::WithoutTheBug, Verdict::Expected), Verdict::Unexpected);
        assert_eq!(verdict(NotShrunk::NotAgain, Verdict::Expected), Verdict::Failed);
        assert_eq!(verdict(NotShrunk::NotAgain, Verdict::Unexpected), Verdict::Unexpected);
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
