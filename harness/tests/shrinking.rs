//! Plans that fail are made small, in simulated time and on real processes, and fail the same way as before.

mod place;

use std::{fs, path::Path, time::Duration};

use harness::{
    plan::Plan,
    shrink::{Ground, Kind, NotShrunk, Shrunk, Size, shrink},
    sim::{self, Finding, Options, Outcome},
    workload::{self, CheckName},
};
use place::Place;
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
    shrink(plan, kind, Ground::Simulation(2), Duration::from_hours(1)).expect("it fails again")
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
    assert_eq!(
        shrink(&plan, &other, Ground::Simulation(2), Duration::from_hours(1)).err(),
        Some(NotShrunk::NotAgain)
    );
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
    assert_eq!(
        shrink(&plan, &kind, Ground::Simulation(2), Duration::from_hours(1)).err(),
        Some(NotShrunk::WithoutTheBug)
    );
}

/// A leader that is cut off answers from what it knew, however processes interleave; the pause has no part in it.
const STALE_READ: &str = r#"
mutant = "deposed-leader-serves-reads"
[cluster]
nodes = 3
partitions = [{}]
heartbeat_ms = 50
missed_rounds = 4
lease = { duration_ms = 200, drift_ppm = 10000 }
[clients]
count = 2
timeout_ms = 1000
[phases]
warm_up = "500ms"
faults = "4s"
[[nemesis]]
at = "1ms"
action = "pause"
target = "follower(1)"
for = "20ms"
[[step]]
name = "who leads"
client = 1
via = "leader(1)"
get = { key = 1 }
within = "10s"
[[step]]
fault = { action = "isolate", target = "answered(who leads)", for = "10s" }
[[step]]
wait = "1s"
[[step]]
client = 2
via = "leader(1)"
put = { key = 1, value = "new" }
within = "20s"
[[step]]
client = 1
via = "answered(who leads)"
get = { key = 1 }
expect = { outcome = "any" }
[expect]
verdict = "violation"
by = "linearizable"
"#;

#[test]
fn on_real_processes_what_is_left_still_fails_and_nothing_else_stays() {
    let place = Place::negative(STALE_READ);
    let mut shrinking = place.command();
    shrinking.args(["shrink", "--processes", "1/1", "--budget", "25s", "negative/short.toml"]);
    let output = shrinking.output().expect("it runs");
    let text = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(0), "{text}{}", String::from_utf8_lossy(&output.stderr));
    let of =
        |word: &str| text.lines().find_map(|line| line.strip_prefix(word)).map(str::trim).expect("a line");
    assert!(text.contains(": linearizable: "), "{text}");
    assert_ne!(of("before"), of("after").split(" (").next().expect("a size"), "something was left out");
    let kept = Path::new(of("kept"));
    let folders = fs::read_dir(kept.parent().expect("a folder")).expect("it can be read").count();
    assert_eq!(folders, 1, "runs of other candidates are gone");
    let verdict = fs::read_to_string(kept.join("verdict.json")).expect("a verdict");
    let verdict: serde_json::Value = serde_json::from_str(&verdict).expect("JSON");
    assert_eq!(verdict["verdict"], "violation");
    assert!(of("again").starts_with("harness run --plans"));
}
