//! Runs of many seeds, side by side, and each seed twice if that is asked for.

use std::{
    cell::RefCell,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Mutex, Once, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use checker::history::History;

use super::{Options, Stats, verdict::Judgement, watch::Finding, world::World};
use crate::{
    plan::Plan,
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
    /// It went another way the second time.
    pub diverged: bool,
    /// What it contained.
    pub stats: Stats,
    /// What happened, if that was asked for.
    pub tale: Vec<String>,
}

/// Carries a plan out in simulated time, and checks what came of it. A core that panics is a finding.
pub fn run(plan: &Plan, options: &Options) -> Outcome {
    let mut world = carry_out(plan, options);
    let mut judgement = Judgement::default();
    let records = std::mem::take(&mut world.watch.records);
    match History::from_records(records) {
        Ok(history) => {
            match plan.checks.consistency {
                Consistency::Linearizable => judgement.linearizable(&history),
                Consistency::Sequential => judgement.sequential(&history),
                Consistency::Unchecked => {}
            }
            let leader_changes = world.leaders.changes();
            let evidence = Evidence { plan, history: &history, leader_changes: &leader_changes, stalls: &[] };
            judgement.stated(&evidence);
            if let Some(traces) = world.watch.take_traces() {
                judgement.lease_safe(&traces, &history);
            }
        }
        Err(error) => judgement.undecided.push(format!("the history is malformed: {error}")),
    }
    let mut findings = std::mem::take(&mut world.findings);
    findings.extend(judgement.findings);
    Outcome {
        seed: plan.seed,
        findings,
        undecided: judgement.undecided,
        diverged: false,
        stats: world.stats,
        tale: world.tale.take().unwrap_or_default(),
    }
}

/// Carries a plan out; the world at its end, before the checks.
pub(super) fn carry_out<'a>(plan: &'a Plan, options: &'a Options) -> World<'a> {
    quiet_panics();
    let mut world = World::new(plan, options);
    let ran = catch_unwind(AssertUnwindSafe(|| world.run()));
    SIMULATING.set(false);
    if ran.is_err() {
        let text = format!("a node's core gave up: {}", LAST_PANIC.take());
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
/// later seed is begun, and outcomes of later seeds are dropped.
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
                    let outcome = one(seed);
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

thread_local! {
    static LAST_PANIC: RefCell<String> = const { RefCell::new(String::new()) };
    static SIMULATING: RefCell<bool> = const { RefCell::new(false) };
}

/// A panic of a simulated core is a finding, told with its seed, and not printed where it happens.
fn quiet_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let print = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            if SIMULATING.with(|simulating| *simulating.borrow()) {
                LAST_PANIC.set(panic.to_string().replacen(":\n", ": ", 1));
            } else {
                print(panic);
            }
        }));
    });
    SIMULATING.set(true);
}
