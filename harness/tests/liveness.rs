//! SP4 in simulated time: after the heal of a connected core every partition answers within a bound, whatever stays broken
//! outside of the core.

use std::path::{Path, PathBuf};

use harness::{
    plan::Plan,
    sim::{Options, Outcome, run},
    workload::{self, CheckName, ClockChange, FaultAction, Target, When, Workload},
};

/// Every fault that there is, several at once: too fast for real processes.
const EVERYTHING: &str = "tests/workloads/everything.toml";

fn path_of(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn load(path: &str) -> Workload {
    workload::load(&path_of(path)).unwrap_or_else(|problem| panic!("{problem}"))
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
fn a_healed_core_makes_progress_whatever_stays_broken_outside() {
    for path in ["../workloads/healed-core.toml", "../workloads/healed-core-without-leases.toml", EVERYTHING]
    {
        let workload = load(path);
        assert!(workload.nemesis.iter().any(|entry| entry.fault.permanent));
        assert_clean(&workload, 0..8);
    }
}

/// An election that needs all replicas: only a node that stays dead shows it.
#[test]
fn a_core_that_makes_no_progress_is_found_and_named() {
    let mut workload = load("../workloads/negative/election-needs-all.toml");
    let outcome = simulated(&workload, 0);
    let finding = outcome.findings.first().expect("no progress");
    assert_eq!(finding.by, CheckName::Progress);
    assert_eq!(
        finding.text,
        "SP4: not every partition had a leader after everything was healed within 4.5 s of simulated time \
         by the core of nodes 1, 2, 3, 4"
    );
    for entry in &mut workload.nemesis {
        entry.fault.permanent = false;
    }
    let outcome = simulated(&workload, 0);
    assert!(outcome.findings.is_empty() && outcome.stats.mutant_reached > 0, "{:?}", outcome.findings);
}

/// A workload file is refused that may leave no core; a plan that does so all the same is judged.
#[test]
fn where_permanent_faults_hit_every_node_nothing_is_read_and_that_is_said() {
    let mut workload = load("tests/workloads/broken-for-ever.toml");
    let entry = &mut workload.nemesis[0];
    entry.when = When::At("1s".parse().expect("a time"));
    entry.fault.action = FaultAction::Clock(ClockChange::Rate { ppm: 10 });
    (entry.fault.target, entry.fault.lasts, entry.fault.permanent) = (Target::All, None, true);
    let outcome = simulated(&workload, 0);
    let finding = outcome.findings.first().expect("nothing is read");
    assert_eq!(finding.by, CheckName::Progress);
    assert!(finding.text.contains("could not be read"), "{}", finding.text);
    assert!(
        finding.text.ends_with("by nobody, since permanent faults have hit every node"),
        "{}",
        finding.text
    );
}

/// A node that is dead already when it is to die for good.
#[test]
fn what_is_dead_when_it_is_to_die_for_good_does_not_come_back() {
    let name = "tests/workloads/broken-for-ever.toml";
    let text = std::fs::read_to_string(path_of(name)).expect("a workload");
    let dies = |at: &str, ends: &str| {
        format!("\n[[nemesis]]\nat = '{at}'\naction = 'kill'\ntarget = 'node 5'\n{ends}\n")
    };
    let text = text + &dies("3s", "for = '1s'") + &dies("3500ms", "permanent = true");
    let workload = workload::parse(Path::new(name), &text).unwrap_or_else(|problem| panic!("{problem}"));
    let told = run(&Plan::new(workload, 0), &Options { tale: true, ..Options::default() });
    let last =
        told.tale.iter().rposition(|line| line.contains("n5 starts") || line.contains("kill node 5 begins"));
    assert!(last.is_some_and(|last| told.tale[last].contains("kill node 5 begins")));
    assert!(told.findings.is_empty(), "{:?}", told.findings);
}

/// A leader that stays broken: dead, asleep, deaf, mute, cut off, coming and going, with a clock that is as slow as allowed, or with a disk
/// that does not sync.
const LEADERS: [&str; 10] = [
    "action = 'kill'",
    "action = 'pause'",
    "action = 'cut-oneway'\ndirection = 'in'",
    "action = 'cut-oneway'\ndirection = 'in'\nlinks = 'sever'",
    "action = 'cut-oneway'\ndirection = 'out'",
    "action = 'cut-oneway'\ndirection = 'out'\nlinks = 'sever'",
    "action = 'isolate'",
    "action = 'isolate'\nlinks = 'sever'",
    "action = 'clock-rate'\nrate_ppm = -100000",
    "action = 'stall-disk'",
];

/// A holder that syncs nothing gets its lease extended no more. Without leases it may go on leading, and its followers decide
/// without its disk.
#[test]
fn a_leader_whose_disk_stands_still_loses_its_lease_and_is_replaced() {
    let name = "tests/workloads/broken-for-ever.toml";
    let text = std::fs::read_to_string(path_of(name)).expect("a workload");
    let stalls =
        "\n[[nemesis]]\nat = '3500ms'\naction = 'stall-disk'\ntarget = 'leader(1)'\npermanent = true\n";
    let workload =
        workload::parse(Path::new(name), &(text + stalls)).unwrap_or_else(|problem| panic!("{problem}"));
    for seed in 0..4 {
        let told = run(&Plan::new(workload.clone(), seed), &Options { tale: true, ..Options::default() });
        let begins = |line: &String| line.contains("stall-disk leader(1) begins");
        let begun = told.tale.iter().position(begins).expect("it begins");
        let old = told.tale[begun].split(['[', ']']).nth(1).expect("whom it hits");
        let leads = |line: &&String| line.contains(" p1 leads under ");
        let last = told.tale[begun..]
            .iter()
            .rfind(leads)
            .unwrap_or_else(|| panic!("seed {seed}: nobody else leads"));
        assert!(!last.contains(&format!("n{old} p1 ")), "seed {seed}: {last}");
    }
}

#[test]
fn a_leader_that_stays_broken_is_replaced() {
    let name = "tests/workloads/broken-for-ever.toml";
    let text = std::fs::read_to_string(path_of(name)).expect("a workload");
    let off = text.replace("lease = { duration_ms = 300, drift_ppm = 100000 }", "lease = 'off'");
    assert_ne!(text, off);
    let frozen = ["action = 'clock-rate'\nrate_ppm = -999999"];
    let with_leases = LEADERS.iter().map(|fault| (&text, fault));
    let without = LEADERS.iter().chain(&frozen).map(|fault| (&off, fault));
    for (text, fault) in with_leases.chain(without) {
        let entry =
            format!("\n[[nemesis]]\nat = '3500ms'\n{fault}\ntarget = 'leader(1)'\npermanent = true\n");
        let workload = workload::parse(Path::new(fault), &(text.clone() + &entry));
        assert_clean(&workload.unwrap_or_else(|problem| panic!("{problem}")), 0..3);
    }
}
