//! One piece of work: seeds of a workload, what they find, and how small that is.

use std::{ops::Range, path::PathBuf, time::Duration};

use anyhow::Result;
use store::config::Mutant;

use super::{
    coverage,
    record::{Block, Class, Mode, Note, Record},
    shape::shape,
    state::is_kept,
};
use crate::{
    clock::boottime_ns,
    shrink::{self, Ground, Kind, NotShrunk, Shrunk, Size},
    sim::{self, Case, Finding, Options, Outcome, Stats},
};

/// The seeds of a negative workload are run in rounds, at most of so many for each thread; the time is looked at after each.
const ROUND: u64 = 8;

/// Seeds of a workload that show the same kind of violation and are shrunk and kept; more are counted.
const CLOSELY: u64 = 3;

/// What a piece of work may spend.
#[derive(Clone, Debug)]
pub struct Means {
    /// A negative workload begins no round after this moment, but for the first. None: there is time for all seeds.
    pub end: Option<u64>,
    /// Time to shrink what a seed shows; zero: it is not shrunk.
    pub shrink: Duration,
    /// Runs side by side.
    pub jobs: usize,
    /// Where runs that fail, and small plans, are kept.
    pub out: PathBuf,
}

/// Runs a piece of work, and writes down what comes of it. Negative workloads are over when they are found out; of others all
/// seeds are run, whatever they show: so it depends on nothing but the list of pieces what is run.
pub fn hunt(case: &Case, piece: &Range<u64>, means: &Means, record: &mut Record) {
    hunt_with(case, piece, means, record, &|seed| sim::run(&case.plan(seed), &Options::default()));
}

/// The same with another way to run a seed.
pub fn hunt_with(
    case: &Case,
    piece: &Range<u64>,
    means: &Means,
    record: &mut Record,
    one: &(impl Fn(u64) -> Outcome + Sync),
) {
    let began = boottime_ns();
    let outcomes = if record.negative {
        until_found(case, piece, means, one)
    } else {
        sim::run_seeds(piece.clone(), means.jobs, one, |_| false)
    };
    record.took_ms += (boottime_ns() - began) / 1_000_000;
    let totals = outcomes.iter().fold(Stats::default(), |sum, outcome| sum.and(outcome.stats));
    record.blocks.push(Block {
        first: piece.start,
        seeds: outcomes.len() as u64,
        fingerprint: format!("{:016x}", totals.fingerprint),
    });
    record.reached += totals.mutant_reached;
    coverage::count(&totals, &outcomes, &mut record.coverage);
    for outcome in &outcomes {
        take(case, outcome, means, record);
    }
}

/// Runs seeds until one shows what is expected, or fails, or the time is up.
fn until_found(
    case: &Case,
    piece: &Range<u64>,
    means: &Means,
    one: &(impl Fn(u64) -> Outcome + Sync),
) -> Vec<Outcome> {
    let enough = |outcome: &Outcome| outcome.failed.is_some() || sim::found(&case.plan, outcome).is_some();
    let is_over = || means.end.is_some_and(|end| boottime_ns() >= end);
    let (mut outcomes, mut next, mut round) = (Vec::new(), piece.start, 1);
    while next < piece.end && (outcomes.is_empty() || !is_over()) {
        let until = piece.end.min(next + round * means.jobs as u64);
        outcomes.extend(sim::run_seeds(next..until, means.jobs, one, enough));
        if outcomes.last().is_some_and(enough) {
            break;
        }
        next = until;
        round = ROUND.min(round * 2);
    }
    outcomes
}

/// Writes down what came of a seed.
fn take(case: &Case, outcome: &Outcome, means: &Means, record: &mut Record) {
    let note = |words: &str| Note { seed: outcome.seed, words: words.to_owned() };
    if let Some(why) = outcome.undecided.first() {
        record.undecided(note(why));
    }
    if let Some(why) = &outcome.failed {
        record.failed(note(&format!("the simulator failed: {why}")));
    }
    let expected = sim::found(&case.plan, outcome);
    let Some(finding) = expected.or(outcome.findings.first()) else { return };
    let kind = Kind::of(finding).to_string();
    let before: u64 = record.classes.iter().filter(|class| class.kind == kind).map(|class| class.count).sum();
    let class = Class {
        kind,
        shape: None,
        expected: expected.is_some(),
        of_the_store: is_of_the_store(case.plan.test.mutant, outcome.stats.mutant_reached),
        count: 1,
        seeds: vec![outcome.seed],
        words: finding.to_string(),
        size: None,
        shrink_ms: 0,
        again: case.again(outcome.seed),
        plan: None,
    };
    let class = match record.mode {
        // it is seen again every time, and nobody looks into it
        Mode::Canary | Mode::Real => class,
        Mode::Simulation if before >= CLOSELY => class,
        Mode::Simulation => closely(case, class, finding, means, record),
    };
    record.found(class);
}

/// Whether what a seed shows has nothing to do with the planted bug, since that was never reached. The counter of one bug may
/// miss that it has changed something.
fn is_of_the_store(mutant: Option<Mutant>, reached: u64) -> bool {
    let counted = mutant.is_some_and(|mutant| mutant != Mutant::AdoptByLengthOnly);
    counted && reached == 0
}

/// Shrinks what a seed shows, and keeps what nobody expects.
fn closely(case: &Case, mut class: Class, finding: &Finding, means: &Means, record: &mut Record) -> Class {
    let seed = class.seeds[0];
    let mut plan = case.plan(seed);
    // what is not the expected violation has nothing to do with the planted bug, by which shrinking goes
    let shrinks = (class.expected || !record.negative) && !is_kept(case);
    let ground = Ground::Simulation(means.jobs);
    let small = (shrinks && !means.shrink.is_zero())
        .then(|| shrink::shrink(&plan, &Kind::of(finding), ground, means.shrink));
    match &small {
        Some(Err(why @ NotShrunk::WithoutTheBug)) => {
            // it is the store that fails
            (class.expected, class.of_the_store) = (false, true);
            class.words = format!("{}; {why}", class.words);
            plan = plan.without_mutant();
        }
        Some(Err(why)) => {
            record.failed(Note { seed, words: format!("{}; {why}", class.words) });
        }
        Some(Ok(Shrunk { plan, took, .. })) => {
            class.shape = Some(shape(plan));
            class.plan = toml::to_string(plan).ok();
            class.size = Some(Size::of(plan).to_string());
            class.shrink_ms = took.as_millis() as u64;
        }
        None if is_kept(case) => {
            // it is as small as it was
            class.shape = Some(shape(&plan));
            class.plan = toml::to_string(&plan).ok();
        }
        None => {}
    }
    let out = means.out.join(&case.group);
    let mut keep = || -> Result<()> {
        let mut folders = Vec::new();
        if !class.expected {
            folders.push(sim::keep(&out, &plan, &sim::run(&plan, &Options::default()))?);
        }
        if let Some(Ok(small)) = &small {
            folders.push(sim::keep_shrunk(&out, &small.plan, seed)?);
        }
        if let Some(folder) = folders.last() {
            class.again = sim::again_of_plan(&folder.join("plan.toml"));
        }
        Ok(())
    };
    if let Err(error) = keep() {
        record.failed(Note { seed, words: format!("{error:#}") });
    }
    class
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_found_where_the_planted_bug_is_not_reached_is_of_the_store() {
        assert!(is_of_the_store(Some(Mutant::AdoptByBallotOnly), 0));
        assert!(!is_of_the_store(Some(Mutant::AdoptByBallotOnly), 1));
        assert!(!is_of_the_store(Some(Mutant::AdoptByLengthOnly), 0), "it may not be counted");
        assert!(!is_of_the_store(None, 0), "no bug is planted");
    }
}
