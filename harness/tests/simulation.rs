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
fn each_seed_must_contain_what_is_required_of_a_run() {
    let mut workload = reference();
    let answered = |workload: &Workload, seed| simulated(workload, seed).stats.answered;
    let (first, second) = (answered(&workload, 1), answered(&workload, 2));
    assert_ne!(first, second);
    // together they have enough
    workload.require.operations = first.min(second) + 1;
    let undecided = [1, 2].map(|seed| simulated(&workload, seed).undecided);
    let lacks = format!("{} answered operations, {} are required", first.min(second), first.min(second) + 1);
    assert!(undecided.contains(&vec![lacks]) && undecided.contains(&Vec::new()), "{undecided:?}");
    workload.require.operations_per_fault = 10_000;
    assert!(
        simulated(&workload, 1)
            .undecided
            .iter()
            .any(|lacks| lacks.contains("answered operations overlap fault"))
    );
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
    let folder = keep(results.path(), &plan, &outcome).expect("kept");
    assert!(folder.ends_with("lease-without-drift-margin/sim-0"), "{}", folder.display());
    let text = std::fs::read_to_string(folder.join("plan.toml")).expect("a plan");
    let again = run(&toml::from_str(&text).expect("a plan"), &Options::default());
    assert_eq!((again.stats, again.findings), (outcome.stats, outcome.findings));
    let watched = run(&plan, &Options { messages: true, ..Options::default() });
    assert_eq!(watched.stats, outcome.stats, "to record messages changes nothing");
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
    paths.retain(|path| path.extension().is_some_and(|ending| ending == "toml"));
    paths.sort();
    paths.iter().map(|path| workload::load(path).unwrap_or_else(|problem| panic!("{problem}"))).collect()
}

/// The workload with no more operations a second than these, of which it requires fewer then.
fn slowed(mut workload: Workload, most: u64) -> Workload {
    if let Some(rate) = workload.operations.as_mut().and_then(|operations| operations.rate.as_mut()) {
        let before = std::mem::replace(rate, most.min(*rate));
        let require = &mut workload.require;
        for count in [&mut require.operations, &mut require.operations_per_fault, &mut require.fast_reads] {
            *count = *count * *rate / before;
        }
    }
    workload
}

/// Every workload of a folder, with fewer operations.
fn assert_all_clean(name: &str, at_least: usize, seeds: std::ops::Range<u64>) {
    let workloads = folder(name);
    assert!(workloads.len() >= at_least);
    for workload in workloads {
        assert_clean(&slowed(workload, 200), seeds.clone());
    }
}

#[test]
fn every_scenario_is_clean() {
    assert_all_clean("scenarios", 22, 0..3);
}

#[test]
fn every_mix_of_faults_is_clean() {
    assert_all_clean("faults", 8, 0..2);
}

#[test]
fn smoke_is_clean() {
    assert_clean(&slowed(load("../workloads/smoke.toml"), 150), 0..3);
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
    assert_eq!(paths.len(), 13, "one path for each planted bug that the model finds");
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
    assert_eq!(controls.len(), 5);
    for control in controls {
        assert_clean(&control, 0..10);
        assert!(simulated(&control, 0).stats.mutant_reached > 0, "{} is reached", control.name);
    }
}

#[test]
fn without_their_bugs_negative_workloads_are_clean() {
    for workload in negative() {
        assert_clean(&slowed(workload.without_mutant(), 200), 0..2);
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

/// Panics in the simulator itself, in the middle of a turn's bookkeeping.
fn broken() -> u64 {
    panic!("the simulator is broken")
}

#[test]
fn a_panic_of_the_simulator_is_no_finding() {
    let plan = Plan::new(reference(), 5);
    let options = Options { planted: Some(broken), ..Options::default() };
    let panic = std::panic::catch_unwind(|| run(&plan, &options)).expect_err("the simulator's panic goes on");
    assert_eq!(panic.downcast_ref(), Some(&"the simulator is broken"));
}

#[test]
fn a_failing_seed_that_cannot_be_kept_still_has_its_verdict() {
    let folder = tempfile::tempdir().expect("a folder");
    let negative = folder.path().join("negative");
    std::fs::create_dir(&negative).expect("a folder");
    let workload =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../workloads/negative/adopt-by-ballot-only.toml");
    let text = std::fs::read_to_string(workload).expect("a workload") + "by = \"progress\"\n";
    std::fs::write(negative.join("w.toml"), text).expect("written");
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_harness"));
    command.current_dir(folder.path()).args([
        "sim",
        "negative/w.toml",
        "--seeds",
        "0..3",
        "--out",
        "/proc/nowhere",
    ]);
    let output = command.output().expect("the harness runs");
    let shown = String::from_utf8_lossy(&output.stdout);
    let last = shown.lines().last().unwrap_or_default();
    assert_eq!(output.status.code(), Some(1), "{shown}");
    assert!(last.starts_with("VERDICT violation 3 simulated runs: not the expected one"), "{last}");
    assert!(last.contains("could not be kept"), "{last}");
}

#[test]
fn a_reader_who_leaves_early_changes_nothing() {
    let workload = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/workloads/reference.toml");
    let simulate = |stdout: std::process::Stdio| {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_harness"));
        command.arg("sim").arg(&workload).args(["--seeds", "1..2", "--tale"]).stdout(stdout);
        let output = command.output().expect("the harness runs");
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let (reader, writer) = std::io::pipe().expect("a pipe");
    drop(reader);
    assert_eq!(simulate(writer.into()), (Some(0), String::new()));
    let full = std::fs::File::options().write(true).open("/dev/full").expect("/dev/full");
    let (code, said) = simulate(full.into());
    assert_eq!(code, Some(0));
    assert!(said.starts_with("error: cannot write to standard output: "), "{said}");
}

#[test]
fn a_step_whose_fault_finds_nobody_decides_nothing() {
    let undecided = |more: &str| {
        let text = format!(
            "[cluster]\nnodes = 3\npartitions = [{{}}]\nlease = \"off\"\n[[step]]\nname = \"slow\"\nfault = {{ action = \
             \"delay\", target = \"all\", delay = \"5ms\"{more} }}\n[clients]\ncount = 1\n[[step]]\nclient = 1\nget = {{ key = 1 }}\n"
        );
        simulated(&workload::parse(Path::new("steps.toml"), &text).expect("right"), 1).undecided
    };
    assert_eq!(undecided(""), [""; 0]);
    // a peer is somebody else than the target
    assert_eq!(undecided(", peer = \"all\""), ["the step's delay all and all found nobody to break"]);
}

#[test]
fn no_more_is_asked_than_the_total_and_the_run_goes_on() {
    let text = "[cluster]\nnodes = 3\npartitions = [{}]\nlease = \"off\"\n[clients]\ncount = 3\n[operations]\ntotal = 7\nrate = 1000\n\
                mix = { get = 1, put = 1, cas = 0, delete = 0 }\nkeys = { count = 2 }\n[phases]\nfaults = \"2s\"\n";
    let outcome = simulated(&workload::parse(Path::new("total.toml"), text).expect("right"), 1);
    let stats = &outcome.stats;
    assert_eq!((stats.answered, stats.failed, stats.unknown), (7 + 2, 0, 0), "and the final reads");
    assert!(stats.simulated > 2_000_000_000, "{}", stats.simulated);
}
