//! The simulator: the same seed does the same, sound workloads are clean, and every planted bug is found.

use std::{
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
};

use harness::{
    plan::Plan,
    sim::{Options, Outcome, found, keep, repeat, run},
    workload::{self, CheckName, Consistency, ExpectedVerdict, FaultAction, Workload},
};
use store::config::{Mutant, ReadMode};

fn load(path: &str) -> Workload {
    let path: PathBuf = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    workload::load(&path).unwrap_or_else(|problem| panic!("{problem}"))
}

fn reference() -> Workload {
    load("tests/workloads/reference.toml")
}

fn simulated(workload: &Workload, seed: u64) -> Outcome {
    run(&Plan::new(workload.clone(), seed), &Options::default())
}

fn assert_clean(workload: &Workload, seeds: std::ops::Range<u64>) {
    for seed in seeds {
        let outcome = simulated(workload, seed);
        assert!(outcome.findings.is_empty(), "{} seed {seed}: {:#?}", workload.name, outcome.findings);
        assert!(outcome.undecided.is_empty(), "{} seed {seed}: {:?}", workload.name, outcome.undecided);
    }
}

#[test]
fn one_seed_does_one_thing_and_another_seed_another() {
    let workload = reference();
    let first = simulated(&workload, 1);
    assert_eq!(first.stats, simulated(&workload, 1).stats);
    assert_ne!(first.stats.fingerprint, simulated(&workload, 2).stats.fingerprint);
    let told = run(&Plan::new(workload.clone(), 1), &Options { tale: true, ..Options::default() });
    assert_eq!(first.stats, told.stats, "telling changes nothing");
    assert!(told.tale.len() > 100 && told.tale.iter().any(|line| line.contains("is killed")));
}

#[test]
fn the_reference_is_what_it_is_called() {
    let outcome = simulated(&reference(), 3);
    let asked = outcome.stats.answered + outcome.stats.failed + outcome.stats.unknown;
    assert!((150..260).contains(&asked), "{asked} operations");
    assert!((8..20).contains(&outcome.stats.faults), "{} faults", outcome.stats.faults);
    assert!((9..16).contains(&(outcome.stats.simulated / 1_000_000_000)), "{} ns", outcome.stats.simulated);
}

#[test]
fn the_reference_is_clean() {
    assert_clean(&reference(), 0..60);
}

#[test]
fn what_was_fixed_stays_fixed() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../workloads/regressions");
    for entry in std::fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        let text = std::fs::read_to_string(&path).expect("a plan");
        let plan: Plan = toml::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let outcome = run(&plan, &Options::default());
        assert!(outcome.findings.is_empty(), "{}: {:#?}", path.display(), outcome.findings);
    }
}

#[test]
fn a_storm_of_faults_is_clean() {
    assert_clean(&load("tests/workloads/storm.toml"), 0..40);
}

#[test]
fn a_kept_seed_does_the_same_again_and_is_judged_the_same_from_its_files() {
    let workload = load("../workloads/negative/lease-without-drift-margin.toml");
    let plan = Plan::new(workload, 0);
    let outcome = run(&plan, &Options::default());
    let results = tempfile::tempdir().expect("a folder");
    let folder = keep(results.path(), &plan).expect("kept");
    assert!(folder.ends_with("lease-without-drift-margin/sim-0"), "{}", folder.display());
    let text = std::fs::read_to_string(folder.join("plan.toml")).expect("a plan");
    let again = run(&toml::from_str(&text).expect("a plan"), &Options::default());
    assert_eq!((again.stats, again.findings), (outcome.stats, outcome.findings));
    let history = checker::history::History::read(&folder.join("history.jsonl")).expect("a history");
    let report = checker::linearizability::check(&history, checker::linearizability::Budget::default());
    assert!(matches!(report.verdict(), checker::linearizability::Verdict::Violation(_)));
    let report = checker::lease_safety::check(&folder).expect("traces");
    assert!(!report.is_valid() && report.exercise.mutants.values().sum::<usize>() > 0);
    assert!(std::fs::read_to_string(folder.join("tale.txt")).expect("a tale").lines().count() > 100);
}

/// The workloads of a folder, in the order of their names.
fn folder(name: &str) -> Vec<Workload> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../workloads").join(name);
    let mut paths: Vec<PathBuf> =
        std::fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").path()).collect();
    paths.sort();
    paths.iter().map(|path| workload::load(path).unwrap_or_else(|problem| panic!("{problem}"))).collect()
}

/// Every workload of a folder, with fewer operations.
fn assert_all_clean(name: &str, at_least: usize, seeds: std::ops::Range<u64>) {
    let workloads = folder(name);
    assert!(workloads.len() >= at_least);
    for mut workload in workloads {
        if let Some(operations) = &mut workload.operations {
            operations.rate = operations.rate.map(|rate| rate.min(200));
        }
        assert_clean(&workload, seeds.clone());
    }
}

#[test]
fn every_scenario_is_clean() {
    assert_all_clean("scenarios", 13, 0..3);
}

#[test]
fn every_mix_of_faults_is_clean() {
    assert_all_clean("faults", 8, 0..2);
}

#[test]
fn smoke_is_clean() {
    let mut workload = load("../workloads/smoke.toml");
    workload.operations.as_mut().expect("operations").rate = Some(150);
    assert_clean(&workload, 0..3);
}

/// The negative workloads with a planted bug.
fn negative() -> Vec<Workload> {
    folder("negative").into_iter().filter(|workload| workload.test.mutant.is_some()).collect()
}

#[test]
fn outside_the_assumption_of_the_leases_a_violation_is_found_and_within_it_is_not() {
    let is_outside = |workload: &Workload| {
        workload.test.mutant.is_none() && workload.cluster.reads == ReadMode::Linearizable
    };
    let outside: Vec<Workload> = folder("negative").into_iter().filter(is_outside).collect();
    assert_eq!(outside.len(), 4);
    for mut workload in outside {
        let hit = (0..10).find_map(|seed| {
            let plan = Plan::new(workload.clone(), seed);
            found(&plan, &run(&plan, &Options::default())).cloned()
        });
        assert!(hit.is_some(), "{} was not found in 10 seeds", workload.name);
        // the same faults with clocks that are right
        workload.clocks.clear();
        workload.nemesis.retain(|entry| !matches!(entry.fault.action, FaultAction::Clock(_)));
        workload.expect.verdict = ExpectedVerdict::Valid;
        assert_clean(&workload, 0..3);
    }
}

/// Reads that any replica answers are sequentially consistent, and no more than that.
#[test]
fn local_reads_are_not_linearizable_and_keep_what_they_promise() {
    let mut workload = load("../workloads/negative/reads-through-non-leaders.toml");
    let plan = Plan::new(workload.clone(), 0);
    let outcome = run(&plan, &Options::default());
    let finding = found(&plan, &outcome).expect("a stale read is found in the first seed");
    assert_eq!(finding.by, CheckName::Linearizable);
    assert!(outcome.stats.local_reads > 200 && outcome.stats.fast_reads == 0, "{:?}", outcome.stats);
    workload.checks.consistency = Consistency::Sequential;
    workload.expect.verdict = ExpectedVerdict::Valid;
    assert_clean(&workload, 0..5);
}

/// Where nodes redirect, clients find the leaders themselves: after boot each of them is told of each leader, and after a
/// leader has died again.
#[test]
fn clients_are_redirected_to_each_leader_and_again_to_its_successor() {
    let workload = load("../workloads/scenarios/redirects.toml");
    for seed in 0..20 {
        let stats = simulated(&workload, seed).stats;
        assert!((9..30).contains(&stats.redirects), "seed {seed}: {} redirects", stats.redirects);
    }
}

#[test]
fn every_planted_bug_is_found_and_what_it_changes_is_reached() {
    let planted: Vec<Workload> = negative()
        .into_iter()
        .filter(|workload| workload.expect.verdict == ExpectedVerdict::Violation)
        .collect();
    assert!(planted.len() >= 15, "{} planted bugs", planted.len());
    for workload in planted {
        let name = &workload.name;
        let mut reached = 0;
        let hit = (0..60).find_map(|seed| {
            let plan = Plan::new(workload.clone(), seed);
            let outcome = run(&plan, &Options::default());
            reached += outcome.stats.mutant_reached;
            found(&plan, &outcome).map(|finding| (seed, outcome.stats.mutant_reached, finding.clone()))
        });
        let Some((seed, here, finding)) = hit else {
            panic!("{name} was not found in 60 seeds, and reached {reached} times")
        };
        assert!(here > 0, "{name}: seed {seed} found something else: {finding:?}");
        println!("{name}: seed {seed}, reached {here} times, {:?}: {finding}", finding.by);
    }
}

/// Counterexamples of the model (`store/tests/model/export.rs`): each of them runs, and where their skeleton is enough, what
/// broke in the model breaks here.
#[test]
fn paths_of_the_model_break_here_what_they_broke_there() {
    const ENOUGH: [&str; 4] = [
        "accepted-ballot-not-set",
        "announced-not-durable",
        "candidate-ignores-own-grant",
        "deposed-leader-serves-reads",
    ];
    let paths = folder("../harness/tests/model/negative");
    assert_eq!(paths.len(), 12, "one path for each planted bug that the model finds");
    for workload in paths {
        let reached_and_found = |seed| {
            let outcome = simulated(&workload, seed);
            let plan = Plan::new(workload.clone(), seed);
            outcome.stats.mutant_reached > 0 && found(&plan, &outcome).is_some()
        };
        let hit = (0..200).find(|seed| reached_and_found(*seed));
        println!("{}: {hit:?}", workload.name);
        assert!(hit.is_some() || !ENOUGH.contains(&&*workload.name), "{}", workload.name);
    }
}

#[test]
fn controls_are_reached_and_nothing_is_found() {
    let is_control = |workload: &Workload| workload.test.mutant.is_some_and(Mutant::is_control);
    let controls: Vec<Workload> = negative().into_iter().filter(is_control).collect();
    assert_eq!(controls.len(), 2);
    for control in controls {
        assert_clean(&control, 0..10);
        assert!(simulated(&control, 0).stats.mutant_reached > 0, "{} is reached", control.name);
    }
}

#[test]
fn without_their_bugs_negative_workloads_are_clean() {
    for workload in negative() {
        let mut workload = workload.without_mutant();
        let rate = &mut workload.operations.as_mut().expect("operations").rate;
        *rate = rate.map(|rate| rate.min(200));
        assert_clean(&workload, 0..2);
    }
}

/// What no seed fixes: every call gives another number, in the second run too.
fn unseeded() -> u64 {
    static CALLS: AtomicU64 = AtomicU64::new(0);
    CALLS.fetch_add(1, Ordering::Relaxed) % 1009
}

#[test]
fn what_no_seed_fixes_is_found_by_running_twice() {
    let plan = Plan::new(reference(), 5);
    assert!(!repeat(&plan, &Options::default()).diverged);
    let planted = Options { planted: Some(unseeded), ..Options::default() };
    assert!(repeat(&plan, &planted).diverged);
}
