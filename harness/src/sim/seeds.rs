//! Runs of many seeds, side by side, and each seed twice if that is asked for.

use std::{
    collections::BTreeMap,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    sync::{
        Mutex, Once, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use checker::history::{History, Record};
use store::assertions;

use super::{Options, Stats, verdict::Judgement, watch::Finding, world::World};
use crate::{
    panics,
    plan::Plan,
    replay::Followed,
    report::took_effect,
    statements::Evidence,
    workload::{CheckName, Consistency},
};

/// How one run ended.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// Its seed.
    pub seed: u64,
    /// What is wrong; nothing: all checks passed.
    pub findings: Vec<Finding>,
    /// What could not be decided.
    pub undecided: Vec<String>,
    /// Why the simulator failed: then nothing is known of this run.
    pub failed: Option<String>,
    /// It went another way the second time.
    pub diverged: bool,
    /// What it contained.
    pub stats: Stats,
    /// How many of its messages went by the record of another run.
    pub followed: Followed,
    /// Faults that took effect, by what workloads call them.
    pub faults: BTreeMap<String, u64>,
    /// What happened, if that was asked for.
    pub tale: Vec<String>,
}

/// Carries a plan out in simulated time, and checks what came of it. An assertion of the core that fails is a finding; any
/// other panic is the simulator's own, and goes on to the caller.
pub fn run(plan: &Plan, options: &Options) -> Outcome {
    let mut world = carry_out(plan, options);
    let mut judgement = Judgement { findings: std::mem::take(&mut world.findings), ..Judgement::default() };
    let records = std::mem::take(&mut world.watch.records);
    let mut faults = BTreeMap::new();
    match History::from_records(records) {
        Ok(history) => {
            for fault in history.faults.iter().filter(|fault| fault.begins) {
                *faults.entry(fault.action.clone()).or_default() +=
                    u64::from(took_effect(fault, &history.faults));
            }
            match plan.checks.consistency {
                Consistency::Linearizable => judgement.linearizable(&history),
                Consistency::Sequential => judgement.sequential(&history),
                Consistency::Unchecked => {}
            }
            let leader_changes = world.leaders.change_times();
            let traces = world.watch.take_traces();
            let failed_elections = traces.map(|traces| judgement.lease_safe(&traces, &history));
            let evidence = Evidence {
                plan,
                history: &history,
                leader_changes: &leader_changes,
                failed_elections: failed_elections.as_ref(),
                stalls: &[],
            };
            judgement.stated(&evidence);
            if judgement.findings.is_empty() {
                judgement.contained(&world.stats, &evidence);
            }
        }
        Err(error) => judgement.undecided.push(format!("the history is malformed: {error}")),
    }
    Outcome {
        seed: plan.seed,
        findings: judgement.findings,
        undecided: judgement.undecided,
        failed: None,
        diverged: false,
        stats: world.stats,
        followed: world.network.followed(),
        faults,
        tale: world.tale.take().unwrap_or_default(),
    }
}

/// The history of a plan's run.
pub fn history(plan: &Plan) -> Vec<Record> {
    std::mem::take(&mut carry_out(plan, &Options::default()).watch.records)
}

/// Carries a plan out; the world at its end, before the checks.
pub(super) fn carry_out<'a>(plan: &'a Plan, options: &'a Options) -> World<'a> {
    quiet_assertions();
    let mut world = World::new(plan, options);
    if let Err(panic) = catch_unwind(AssertUnwindSafe(|| world.run())) {
        let Some(words) = assertions::last_words() else { resume_unwind(panic) };
        let text = format!("a node's core gave up: {words}");
        world.found(Finding { by: CheckName::LeaseSafety, text });
        world.watch.last_words(&world.out);
    }
    world.sum_up();
    world
}

/// Carries a plan out twice; the outcome says whether both did the same.
pub fn repeat(plan: &Plan, options: &Options) -> Outcome {
    let first = run(plan, options);
    let second = run(plan, options);
    Outcome { diverged: first.stats != second.stats || first.findings != second.findings, ..first }
}

/// Runs the seeds of a range on several threads; outcomes come in the order of seeds. When `enough` says so of one, no
/// later seed is begun, and outcomes of later seeds are dropped. A run that panics has failed, and the others go on.
pub fn run_seeds(
    seeds: std::ops::Range<u64>,
    jobs: usize,
    one: impl Fn(u64) -> Outcome + Sync,
    enough: impl Fn(&Outcome) -> bool + Sync,
) -> Vec<Outcome> {
    let next = AtomicU64::new(seeds.start);
    let stopped = AtomicBool::new(false);
    let all: Mutex<Vec<Outcome>> = Mutex::default();
    std::thread::scope(|scope| {
        for _ in 0..jobs.max(1) {
            scope.spawn(|| {
                while !stopped.load(Ordering::Relaxed) {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= seeds.end {
                        break;
                    }
                    let outcome = catch_unwind(AssertUnwindSafe(|| one(seed))).unwrap_or_else(|panic| {
                        let failed = Some(panics::words(&*panic));
                        Outcome { seed, failed, ..Outcome::default() }
                    });
                    if enough(&outcome) {
                        stopped.store(true, Ordering::Relaxed);
                    }
                    all.lock().unwrap_or_else(PoisonError::into_inner).push(outcome);
                }
            });
        }
    });
    let mut all = all.into_inner().unwrap_or_else(PoisonError::into_inner);
    all.sort_by_key(|outcome| outcome.seed);
    if let Some(last) = all.iter().position(enough) {
        all.truncate(last + 1);
    }
    all
}

/// An assertion of a simulated core that fails is told with its seed, and not printed where it happens.
fn quiet_assertions() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let print = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            if !assertions::heed(panic) {
                print(panic);
            }
        }));
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_that_panics_has_failed_and_the_others_go_on() {
        let one = |seed| {
            assert!(seed != 2, "seed {seed} broke the simulator");
            Outcome { seed, ..Outcome::default() }
        };
        let outcomes = run_seeds(0..5, 2, one, |_| false);
        let failed: Vec<_> = outcomes.iter().map(|outcome| outcome.failed.as_deref()).collect();
        assert_eq!(failed, [None, None, Some("seed 2 broke the simulator"), None, None]);
    }
}
