//! Plans that fail are made small in simulated time, and fail the same way as before.

use std::{path::Path, time::Duration};

use harness::{
    plan::Plan,
    shrink::{Kind, NotShrunk, Shrunk, Size, shrink},
    sim::{self, Finding, Options, Outcome},
    workload::{self, CheckName},
};
use store::config::Mutant;

/// The first plan of a negative workload that fails, and with what.
fn failing(name: &str) -> (Plan, Finding) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("../workloads/negative/{name}.toml"));
    let workload = workload::load(&path).unwrap_or_else(|problem| panic!("{problem}"));
    let plan = |seed| Plan::new(workload.clone(), seed);
    let one = |seed| sim::run(&plan(seed), &Options::default());
    let finding = |outcome: &Outcome| sim::first_finding(&plan(outcome.seed), outcome).cloned();
    let outcomes = sim::run_seeds(0..500, 2, one, |outcome| finding(outcome).is_some());
    let last = outcomes.last().expect("seeds");
    (plan(last.seed), finding(last).expect("some seed of 500 fails"))
}

/// Without any limit of time the result depends on the plan alone.
fn shrunk(plan: &Plan, kind: &Kind) -> Shrunk {
    shrink(plan, kind, 2, Duration::from_hours(1)).expect("it fails again")
}

#[test]
fn a_planted_bug_is_left_with_what_it_needs() {
    let (plan, finding) = failing("deposed-leader-serves-reads");
    let kind = Kind::of(&finding);
    let small = shrunk(&plan, &kind);
    assert!(!small.unfinished);
    let (before, after) = (Size::of(&plan), Size::of(&small.plan));
    assert!(after.faults <= 10 && after.operations.is_some_and(|operations| operations <= 20), "{after}");
    assert!(after.faults < before.faults && after.lasts < before.lasts, "{before} became {after}");
    let again = sim::repeat(&small.plan, &Options::default());
    assert!(!again.diverged && again.stats.mutant_reached > 0);
    assert!(again.findings.iter().any(|finding| Kind::of(finding) == kind), "{:?}", again.findings);
    // the plan is a file that others can run
    let text = toml::to_string(&small.plan).expect("TOML");
    assert_eq!(toml::from_str::<Plan>(&text).expect("a plan"), small.plan);
    let healthy = sim::run(&small.plan.without_mutant(), &Options::default());
    assert_eq!(healthy.findings, [], "it is the bug that fails");
}

#[test]
fn another_kind_of_violation_does_not_count() {
    let (plan, finding) = failing("deposed-leader-serves-reads");
    let other = Kind { invariant: Some("SP2".to_owned()), by: CheckName::LeaseSafety };
    assert_ne!(Kind::of(&finding), other);
    assert_eq!(shrink(&plan, &other, 2, Duration::from_hours(1)).err(), Some(NotShrunk::NotAgain));
}

/// The clocks are beyond the bound: leases break whatever is planted, and a control breaks nothing.
#[test]
fn what_fails_without_the_planted_bug_too_does_not_count() {
    let (mut plan, finding) = failing("clock-rate-beyond-the-bound");
    plan.test.mutant = Some(Mutant::ControlPrepareTwice);
    let outcome = sim::run(&plan, &Options::default());
    let kind = Kind::of(&finding);
    assert!(outcome.stats.mutant_reached > 0);
    assert!(outcome.findings.iter().any(|finding| Kind::of(finding) == kind), "{:?}", outcome.findings);
    assert_eq!(shrink(&plan, &kind, 2, Duration::from_hours(1)).err(), Some(NotShrunk::WithoutTheBug));
}
