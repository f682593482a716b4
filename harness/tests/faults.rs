//! Every fault of the vocabulary does what it is called, in simulated time: what it breaks is broken while it lasts, and
//! whole afterwards. On real processes, `real_faults` shows it.

use std::path::Path;

use harness::{
    plan::Plan,
    sim::{Options, Outcome, run},
    workload::{self, Word},
};

const CLUSTER: &str = r#"
[cluster]
nodes = 5
partitions = [{ replicas = [1, 2, 3, 4, 5] }]
heartbeat_ms = 80
missed_rounds = 5
lease = { duration_ms = 400, drift_ppm = 50000 }
request_timeout_ms = 500
[clients]
count = 5
entry = "any"
timeout_ms = 700
[operations]
mix = { get = 5, put = 5 }
keys = { count = 4 }
rate = 100
[phases]
warm_up = "500ms"
faults = "4s"
"#;

/// A run with these faults, told in words; nothing may be wrong with it, and all of them take effect.
fn told(faults: &str, seed: u64) -> Outcome {
    let outcome = simulated(CLUSTER, faults, seed);
    assert!(outcome.undecided.is_empty(), "seed {seed}: {:?}", outcome.undecided);
    outcome
}

/// What a run lacks since one of these faults, or more, came to nothing.
fn lacking(faults: &str) -> Vec<String> {
    simulated(CLUSTER, faults, 1).undecided
}

fn simulated(cluster: &str, faults: &str, seed: u64) -> Outcome {
    let path = Path::new("faults.toml");
    let workload =
        workload::parse(path, &format!("{cluster}\n{faults}")).unwrap_or_else(|problem| panic!("{problem}"));
    let outcome = run(&Plan::new(workload, seed), &Options { tale: true, ..Options::default() });
    assert!(outcome.findings.is_empty(), "seed {seed}: {:#?}", outcome.findings);
    outcome
}

/// One fault at one second.
fn fault(action: &str, rest: &str) -> String {
    format!("[[nemesis]]\nat = \"1s\"\naction = \"{action}\"\n{rest}\n")
}

/// Where in the tale something is told for the first time from there on, and when.
fn find(outcome: &Outcome, from: usize, what: &str) -> Option<(usize, f64)> {
    let (place, line) = outcome.tale.iter().enumerate().skip(from).find(|(_, line)| line.contains(what))?;
    let time = line.split_whitespace().next().and_then(|time| time.parse().ok());
    Some((place, time.unwrap_or_else(|| panic!("{line}"))))
}

#[track_caller]
fn when(outcome: &Outcome, from: usize, what: &str) -> (usize, f64) {
    find(outcome, from, what).unwrap_or_else(|| panic!("{what:?} is not told:\n{}", faults_told(outcome)))
}

fn faults_told(outcome: &Outcome) -> String {
    let lines = outcome.tale.iter().filter(|line| line.contains("  fault ") || line.contains("  n"));
    lines.take(60).cloned().collect::<Vec<_>>().join("\n")
}

/// What each action needs beside its target.
fn keys(word: Word) -> &'static str {
    match word {
        Word::Cut => "target = \"leader(1)\"\npeer = \"follower(1)\"\nfor = \"800ms\"",
        Word::Split => "parts = 3\nfor = \"800ms\"",
        Word::Swizzle => "period = \"100ms\"",
        Word::Flap => "target = \"leader(1)\"\nperiod = \"150ms\"\nfor = \"1200ms\"",
        Word::ClockRate => "target = \"leader(1)\"\nrate_ppm = 49000\nfor = \"800ms\"",
        // the only jump and the only standstill that leases do not mind
        Word::ClockOffset => "target = \"leader(1)\"\noffset_ms = 700",
        Word::ClockFreeze => "target = \"followers(1)\"\nfor = \"150ms\"",
        Word::Delay => "target = \"leader(1)\"\ndelay = { mean = \"20ms\" }\nfor = \"800ms\"",
        Word::Throttle => "target = \"leader(1)\"\nbytes_per_second = 4000\nfor = \"800ms\"",
        Word::FrameDrop | Word::FrameDuplicate | Word::FrameReorder | Word::FrameHold => {
            "target = \"leader(1)\"\nchance = 0.2\nfor = \"800ms\""
        }
        Word::TransferLeader => "target = \"follower(1)\"\npartition = 1",
        Word::MajoritiesRing | Word::Heal => "",
        Word::Resume => "target = \"node 2\"",
        Word::Wipe | Word::Restart | Word::Release | Word::Reset => "target = \"follower(1)\"",
        _ => "target = \"leader(1)\"\nfor = \"800ms\"",
    }
}

#[test]
fn a_wiped_node_comes_back_as_other_faults_ask_for() {
    let wipe = "[[nemesis]]\nat = \"1200ms\"\naction = \"wipe\"\ntarget = \"node 2\"\n";
    let still = told(&(fault("pause", "target = \"node 2\"\nfor = \"800ms\"") + wipe), 1);
    let (wiped, _) = when(&still, 0, "n2 has lost its disk");
    let (paused, at) = when(&still, wiped, "n2 is paused");
    let (_, goes_on) = when(&still, paused, "n2 goes on");
    let (_, ends) = when(&still, 0, "n2 is paused");
    assert!((goes_on - ends - 0.8).abs() < 0.01, "it stood still again from {at} s to {goes_on} s");
}

#[test]
fn every_action_leaves_the_cluster_sound() {
    for word in Word::ALL {
        for seed in 0..3 {
            let outcome = simulated(CLUSTER, &fault(word.text(), keys(*word)), seed);
            let began = format!("fault 1 {} ", word.text());
            let (place, _) = when(&outcome, 0, &began);
            assert!(outcome.tale[place].contains("begins"), "{}", outcome.tale[place]);
            let nobody = matches!(word, Word::Resume);
            assert_eq!(outcome.stats.faults_without_target, u64::from(nobody), "{}", word.text());
            let idle = nobody || matches!(word, Word::Release | Word::KillDuringSnapshot);
            assert_eq!(!outcome.undecided.is_empty(), idle, "{}: {:?}", word.text(), outcome.undecided);
        }
    }
}

#[test]
fn a_killed_node_is_dead_until_its_time_is_over() {
    let outcome = told(&fault("kill", "target = \"node 2\"\nfor = \"1s\""), 1);
    let (killed, at) = when(&outcome, 0, "n2 is killed");
    let (_, started) = when(&outcome, killed, "n2 starts, boot 2");
    assert!((1.0..1.6).contains(&(started - at)), "{at} {started}");
}

#[test]
fn a_node_starts_when_the_last_fault_that_keeps_it_dead_is_over() {
    let other = "[[nemesis]]\nat = \"1500ms\"\naction = \"kill\"\ntarget = \"node 2\"\nfor = \"1500ms\"\n";
    let outcome = told(&format!("{}{other}", fault("kill", "target = \"node 2\"\nfor = \"1s\"")), 1);
    let (killed, at) = when(&outcome, 0, "n2 is killed");
    let (_, started) = when(&outcome, killed, "n2 starts, boot 2");
    assert!((2.0..2.6).contains(&(started - at)), "{at} {started}");
    assert_eq!(outcome.stats.faults_without_target, 0);
}

#[test]
fn a_node_that_dies_in_a_write_dies_soon() {
    let outcome = told(&fault("kill-during-write", "target = \"leader(1)\"\nfor = \"1s\""), 1);
    let (fault, at) = when(&outcome, 0, "fault 1 kill-during-write");
    let (_, died) = when(&outcome, fault, "is killed");
    assert!((0.0..1.01).contains(&(died - at)), "{at} {died}");
}

#[test]
fn a_node_that_dies_in_its_recovery_dies_twice() {
    let outcome = told(&fault("kill-during-recovery", "target = \"node 2\"\nfor = \"1s\""), 1);
    let (first, _) = when(&outcome, 0, "n2 is killed");
    let (started, _) = when(&outcome, first, "n2 starts, boot 2");
    let (second, _) = when(&outcome, started, "n2 is killed");
    when(&outcome, second, "n2 starts, boot 3");
}

#[test]
fn a_node_that_dies_in_the_transfer_of_a_snapshot_was_in_one() {
    let trimmed = CLUSTER.replace("[clients]", "snapshot_after_bytes = 300\nkeep_log_bytes = 0\n[clients]");
    let cut = fault("isolate", "target = \"node 2\"\nfor = \"1s\"");
    let kill = "[[nemesis]]\nat = \"1900ms\"\naction = \"kill-during-snapshot\"\ntarget = \"node 2\"\nfor = \"500ms\"\n";
    let vain =
        "fault 2 of the plan (kill-during-snapshot node 2) struck no node in the transfer of a snapshot";
    let mut struck = 0;
    for seed in 0..20 {
        let outcome = simulated(&trimmed, &format!("{cut}{kill}"), seed);
        if !outcome.undecided.is_empty() {
            assert_eq!(outcome.undecided, [vain], "seed {seed}: it lacked little");
            continue;
        }
        struck += 1;
        let (_, reached) = when(&outcome, 0, "fault 1 isolate node 2 ends");
        let (killed, died) = when(&outcome, 0, "n2 is killed");
        assert!((0.0..0.9).contains(&(died - reached)), "seed {seed}: {reached} {died}");
        when(&outcome, killed, "n2 starts, boot 2");
        assert!(outcome.stats.snapshots_fetched > 0, "seed {seed}: it fetched the rest, or all of it again");
    }
    assert!(struck >= 15, "{struck} of 20");
}

#[test]
fn a_wiped_node_is_gone_for_good() {
    let outcome = told(&fault("wipe", "target = \"node 2\""), 1);
    let (wiped, _) = when(&outcome, 0, "n2 has lost its disk");
    let (started, _) = when(&outcome, wiped, "n2 starts, boot 1");
    for told in ["n2 p1 promises", "n2 p1 elects", "n2 p1 learns", "n2 p1 leads"] {
        assert_eq!(find(&outcome, started, told), None, "its peers let it in");
    }
    let refused =
        outcome.tale[started..].iter().any(|line| line.contains("at n2") && line.contains("not ready"));
    assert!(refused, "its clients are refused");
}

#[test]
fn a_restart_of_a_live_node_is_a_kill_and_a_start() {
    let outcome = told(&fault("restart", "target = \"node 2\""), 1);
    let (killed, at) = when(&outcome, 0, "n2 is killed");
    let (_, started) = when(&outcome, killed, "n2 starts, boot 2");
    assert!(started - at < 0.5, "at once");
}

#[test]
fn a_restart_outweighs_what_keeps_a_node_dead() {
    let restart = "[[nemesis]]\nat = \"1500ms\"\naction = \"restart\"\ntarget = \"node 2\"\n";
    let outcome = told(&format!("{}{restart}", fault("kill", "target = \"node 2\"\nfor = \"2s\"")), 1);
    let (killed, at) = when(&outcome, 0, "n2 is killed");
    let (started, time) = when(&outcome, killed, "n2 starts, boot 2");
    assert!((0.5..1.0).contains(&(time - at)), "{at} {time}");
    assert_eq!(find(&outcome, started, "n2 starts, boot 3"), None, "the end of the kill finds it alive");
}

#[test]
fn a_node_goes_on_when_the_last_pause_is_over() {
    let other = "[[nemesis]]\nat = \"1200ms\"\naction = \"pause\"\ntarget = \"node 2\"\nfor = \"1500ms\"\n";
    let outcome = told(&format!("{}{other}", fault("pause", "target = \"node 2\"\nfor = \"500ms\"")), 1);
    let (paused, at) = when(&outcome, 0, "n2 is paused");
    let (_, on) = when(&outcome, paused, "n2 goes on");
    assert!((1.69..1.71).contains(&(on - at)), "{at} {on}");
    let resume = "[[nemesis]]\nat = \"1400ms\"\naction = \"resume\"\ntarget = \"node 2\"\n";
    let outcome = told(&format!("{}{other}{resume}", fault("pause", "target = \"node 2\"\nfor = \"3s\"")), 1);
    let (paused, at) = when(&outcome, 0, "n2 is paused");
    let (_, on) = when(&outcome, paused, "n2 goes on");
    assert!((0.39..0.41).contains(&(on - at)), "a resume outweighs both: {at} {on}");
}

#[test]
fn what_is_held_is_released() {
    let release = "[[nemesis]]\nat = \"1200ms\"\naction = \"release\"\ntarget = \"node 2\"\n";
    let outcome = told(&format!("{}{release}", fault("hold", "target = \"node 2\"\nfor = \"3s\"")), 1);
    let (_, held) = when(&outcome, 0, "fault 1 hold node 2 begins");
    let (_, released) = when(&outcome, 0, "fault 1 hold node 2 ends");
    assert!((0.19..0.21).contains(&(released - held)), "{held} {released}");
}

/// A lease of 400 ms is not waited for: messages and syncs take a fraction of a millisecond in simulated time.
#[test]
fn a_leader_that_is_asked_to_hand_over_is_followed_within_a_few_round_trips() {
    for seed in 1..=10 {
        let outcome = told(&fault("transfer-leader", "target = \"follower(1)\"\npartition = 1"), seed);
        let (place, asked) = when(&outcome, 0, "fault 1 transfer-leader follower(1) begins");
        let (_, done) = when(&outcome, place, "fault 1: the successor leads under ");
        println!("seed {seed}: {:.1} ms", (done - asked) * 1e3);
        assert!(done - asked < 0.1, "seed {seed}: {} s", done - asked);
        assert_eq!(outcome.stats.leader_changes, 1, "seed {seed}: nobody takes the lead back");
    }
}

#[test]
fn a_hand_over_to_who_leads_already_comes_to_nothing() {
    let refused = lacking(&fault("transfer-leader", "target = \"leader(1)\"\npartition = 1"));
    assert_eq!(refused, ["fault 1 of the plan (transfer-leader leader(1)) struck no leader"]);
}

#[test]
fn a_swizzle_ends_by_itself() {
    let outcome = told(&fault("swizzle", "period = \"100ms\""), 1);
    let (_, began) = when(&outcome, 0, "fault 1 swizzle all begins");
    let (_, ended) = when(&outcome, 0, "fault 1 swizzle all ends");
    // five nodes: four more are cut off, five are let in, the last of them at the end
    assert!((0.89..0.91).contains(&(ended - began)), "{began} {ended}");
}

#[test]
fn nothing_is_written_while_a_majority_of_disks_is_stalled() {
    let outcome = told(&fault("stall-disk", "target = \"majority\"\nfor = \"1500ms\""), 1);
    let (_, began) = when(&outcome, 0, "fault 1 stall-disk majority begins");
    let (end, ended) = when(&outcome, 0, "fault 1 stall-disk majority ends");
    assert!((1.499..1.501).contains(&(ended - began)));
    let written = |line: &&String| line.contains(" Put ") && line.contains(": Ok(");
    let time = |line: &String| line.split_whitespace().next().and_then(|time| time.parse::<f64>().ok());
    // what was durable in time may be answered a little later
    let during = outcome.tale[..end].iter().filter(|line| time(line).is_some_and(|time| time > began + 0.2));
    assert_eq!(during.filter(written).count(), 0);
    assert!(outcome.tale[end..].iter().filter(written).count() > 10, "afterwards they go on");
}

#[test]
fn a_slow_disk_slows_writes_and_nothing_else() {
    let slow =
        |slow: &str| told(&fault("stall-disk", &format!("target = \"all\"\nslow = \"{slow}\"")), 1).stats;
    let (mild, severe) = (slow("1ms"), slow("120ms"));
    assert!(severe.answered < mild.answered, "{} {}", severe.answered, mild.answered);
    assert!(severe.fast_reads > 0);
}

#[test]
fn faults_are_triggered_by_what_happens() {
    let by = |after: &str| {
        let rest = format!(
            "[[nemesis]]\nname = \"it\"\nafter = {after}\naction = \"kill\"\ntarget = \"follower(1)\"\nfor = \"500ms\"\n"
        );
        told(
            &format!("{}{rest}", fault("kill", "name = \"first\"\ntarget = \"leader(1)\"\nfor = \"500ms\"")),
            2,
        )
    };
    let outcome = by("{ leader_change = 1 }");
    let (killed, _) = when(&outcome, 0, "fault 1 kill leader(1) begins");
    let (led, at) = when(&outcome, killed, " leads under ");
    let (_, triggered) = when(&outcome, led, "fault 2 kill follower(1) begins");
    assert!(triggered - at < 0.000_001, "at that moment");

    let outcome = by("{ fault = \"first\", ends = true, plus = \"100ms\" }");
    let (ended, at) = when(&outcome, 0, "fault 1 kill leader(1) ends");
    let (_, triggered) = when(&outcome, ended, "fault 2 kill follower(1) begins");
    assert!((0.099..0.101).contains(&(triggered - at)), "{at} {triggered}");

    let outcome = by("{ writes = 100 }");
    let (triggered, _) = when(&outcome, 0, "kill follower(1) begins");
    let (phase, _) = when(&outcome, 0, "Faults");
    let acknowledged = |line: &&String| line.contains("Put") && line.contains(": Ok(");
    assert_eq!(outcome.tale[phase..triggered].iter().filter(acknowledged).count(), 100);

    let outcome = by("{ message = \"accept\", ballot = 1, count = 20 }");
    when(&outcome, 0, "kill follower(1) begins");
}

#[test]
fn a_trigger_that_never_comes_breaks_nothing() {
    let rest =
        "[[nemesis]]\nafter = { leader_change = 1, count = 99 }\naction = \"kill\"\ntarget = \"node 1\"\n";
    let outcome = simulated(CLUSTER, rest, 1);
    assert_eq!(outcome.stats.faults, 0);
    assert_eq!(outcome.stats.untriggered, 1);
    assert_eq!(outcome.undecided, ["fault 1 of the plan (kill node 1) never began"]);
}

#[test]
fn a_fault_that_comes_to_nothing_leaves_the_run_undecided() {
    let vacant = lacking(&fault("resume", "target = \"node 2\""));
    assert_eq!(vacant, ["fault 1 of the plan (resume node 2) found nobody to break"]);
    let strange = "target = \"all\"\nkinds = [\"join\"]\nfor = \"1s\"";
    for action in ["frame-drop", "frame-duplicate", "frame-reorder", "frame-hold"] {
        let vain = lacking(&fault(action, strange));
        assert_eq!(vain, [format!("fault 1 of the plan ({action} all) struck no message")]);
    }
    let permanent = "target = \"node 2\"\nkinds = [\"join\"]\npermanent = true";
    let vain = lacking(&fault("frame-drop", permanent));
    assert_eq!(vain, ["fault 1 of the plan (frame-drop node 2) struck no message"]);
    let released = lacking(&fault("release", "target = \"node 2\""));
    assert_eq!(released, ["fault 1 of the plan (release node 2) struck no hold"]);
    let whole = lacking(&fault("kill-during-snapshot", "target = \"node 2\"\nfor = \"2s\""));
    let vain =
        "fault 1 of the plan (kill-during-snapshot node 2) struck no node in the transfer of a snapshot";
    assert_eq!(whole, [vain]);
}

#[test]
fn a_node_that_writes_nothing_does_not_die_in_a_write() {
    let reads = CLUSTER.replace("mix = { get = 5, put = 5 }", "mix = { get = 5 }");
    let idle = fault("kill-during-write", "target = \"follower(1)\"\nfor = \"2s\"");
    let outcome = simulated(&reads, &idle, 1);
    let (begun, at) = when(&outcome, 0, "fault 1 kill-during-write");
    let (_, died) = when(&outcome, begun, "is killed");
    assert!((0.999..1.001).contains(&(died - at)), "after a second without a write: {at} {died}");
    let vain = "fault 1 of the plan (kill-during-write follower(1)) struck no node in a write";
    assert_eq!(outcome.undecided, [vain]);
}

#[test]
fn a_dropped_message_is_missed_and_no_other() {
    // without its Accepteds a leader decides nothing
    let drop = "target = \"leader(1)\"\ndirection = \"in\"\nkinds = [\"accepted\"]\nfor = \"300ms\"";
    let outcome = told(&fault("frame-drop", drop), 1);
    let (began, from) = when(&outcome, 0, "fault 1 frame-drop leader(1) begins");
    let (ended, _) = when(&outcome, began, "fault 1 frame-drop leader(1) ends");
    let during = outcome.tale[began..ended].iter();
    let late = during
        .filter(|line| line.split_whitespace().next().and_then(|time| time.parse().ok()) > Some(from + 0.02));
    assert_eq!(late.filter(|line| line.contains(" p1 decides ")).count(), 0, "{}", faults_told(&outcome));
    assert!(outcome.tale[ended..].iter().any(|line| line.contains(" p1 decides ")));
}
