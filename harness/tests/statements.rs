//! What workloads state of their runs: found true when it is, found false when it is not, and undecided when the run shows
//! neither. In simulated time; `end_to_end` shows the same on real processes.

use std::path::Path;

use harness::{
    plan::Plan,
    sim::{Options, Outcome, run},
    workload::{self, CheckName},
};

/// The leader of the one partition is isolated for two seconds: clients at the other nodes go on under another leader. Then a
/// majority dies, for more than twice as long as an operation may take, so that some begin and end meanwhile.
const CUT: &str = r#"
[cluster]
nodes = 3
partitions = [{}]
heartbeat_ms = 80
missed_rounds = 5
lease = { duration_ms = 400, drift_ppm = 50000 }
request_timeout_ms = 500
[clients]
count = 6
entry = "any"
timeout_ms = 800
[operations]
mix = { get = 6, put = 3 }
keys = { count = 3 }
rate = 200
[phases]
warm_up = "1s"
faults = "6s"
[[nemesis]]
name = "cut"
at = "1s"
action = "isolate"
target = "leader(1)"
for = "2s"
[[nemesis]]
name = "majority"
at = "3500ms"
action = "kill"
target = "majority"
"#;

fn outcome(statement: &str) -> Outcome {
    let text = format!("{CUT}\n[[expect.that]]\n{statement}");
    let workload =
        workload::parse(Path::new("cut.toml"), &text).unwrap_or_else(|problem| panic!("{problem}"));
    run(&Plan::new(workload, 3), &Options::default())
}

#[track_caller]
fn is_true(statement: &str) {
    let outcome = outcome(statement);
    assert!(outcome.findings.is_empty(), "{statement}: {:?}", outcome.findings);
    assert!(outcome.undecided.is_empty(), "{statement}: {:?}", outcome.undecided);
}

#[track_caller]
fn is_false(statement: &str, words: &str) {
    let outcome = outcome(statement);
    let found = outcome.findings.iter().find(|finding| finding.by == CheckName::Statements);
    let found = found.unwrap_or_else(|| panic!("{statement} was not found false: {:?}", outcome.undecided));
    assert!(found.text.contains(words), "{statement}: {}", found.text);
    assert_eq!(outcome.findings.len(), 1, "{:?}", outcome.findings);
}

#[track_caller]
fn is_undecided(statement: &str) {
    let outcome = outcome(statement);
    assert!(outcome.findings.is_empty(), "{statement}: {:?}", outcome.findings);
    assert_eq!(outcome.undecided.len(), 1, "{statement}: {:?}", outcome.undecided);
}

#[test]
fn nothing_is_answered_between_two_events() {
    // the last hold is over after less than half a second
    let dead = "after = { fault = \"majority\", plus = \"450ms\" }\nuntil = { phase = \"heal\" }";
    is_true(&format!("says = \"silence\"\n{dead}"));
    let cut = "after = { fault = \"cut\" }\nuntil = { fault = \"cut\", ends = true }";
    is_false(&format!("says = \"silence\"\n{cut}"), "was answered");
    is_undecided("says = \"silence\"\nafter = { phase = \"end\" }");
}

#[test]
fn every_read_is_fast() {
    // reads behind a write on their key are not, and in seconds of load there are such
    is_false("says = \"fast-reads\"\nafter = { phase = \"warm-up\" }", "was not fast");
    let old = "after = { fault = \"majority\" }\nuntil = { phase = \"heal\" }";
    let outcome = outcome(&format!("says = \"fast-reads\"\n{old}"));
    assert!(outcome.findings.is_empty(), "{:?}", outcome.findings);
}

#[test]
fn a_leader_is_another_node_than_before() {
    is_true("says = \"other-leader\"\nafter = { fault = \"cut\" }\nwithin = \"2s\"");
    is_false(
        "says = \"other-leader\"\nafter = { fault = \"cut\" }\nwithin = \"50ms\"",
        "another leader than node",
    );
}

#[test]
fn leadership_passes_so_often() {
    is_true("says = \"leader-changes\"\nat_least = 1");
    is_true("says = \"leader-changes\"\nat_least = 1\nat_most = 50");
    is_false("says = \"leader-changes\"\nat_least = 50", "not at least 50");
    is_false("says = \"leader-changes\"\nat_most = 0", "not at most 0");
}

#[test]
fn leadership_passes_so_often_in_a_time() {
    let cut = "after = { fault = \"cut\" }\nuntil = { fault = \"cut\", ends = true }";
    is_true(&format!("says = \"leader-changes\"\nat_least = 1\nat_most = 1\n{cut}"));
    is_false(&format!("says = \"leader-changes\"\nat_most = 0\n{cut}"), "1 leader changes from");
    is_false(&format!("says = \"leader-changes\"\nat_least = 2\n{cut}"), "not at least 2");
    // the one change of the run comes after the warm-up
    let before = "until = { fault = \"cut\" }";
    is_true(&format!("says = \"leader-changes\"\nat_most = 0\n{before}"));
    // there is no such end after the majority's death
    let endless = "after = { fault = \"majority\" }\nuntil = { fault = \"cut\", ends = true }";
    is_undecided(&format!("says = \"leader-changes\"\nat_most = 50\n{endless}"));
}

#[test]
fn elections_fail_so_often() {
    // the leader that is cut off from all others cannot be elected again, and does not even try
    is_false("says = \"failed-elections\"\nat_least = 50", "failed elections, not at least 50");
    is_true("says = \"failed-elections\"\nat_most = 50");
}

#[test]
fn operations_are_answered_within_a_bound() {
    is_true("says = \"progress\"\nwithin = \"5s\"");
    let dead = "after = { fault = \"majority\", plus = \"450ms\" }";
    is_false(
        &format!("says = \"progress\"\nwithin = \"700ms\"\n{dead}"),
        "no operation of partition 1 was answered",
    );
}

#[test]
fn writes_are_answered_within_a_bound() {
    is_true("says = \"writes\"\nafter = { fault = \"cut\" }\nwithin = \"3s\"");
    is_true("says = \"writes\"\nwithin = \"5s\"");
    let dead = "after = { fault = \"majority\" }";
    is_false(
        &format!("says = \"writes\"\nwithin = \"700ms\"\n{dead}"),
        "no write of partition 1 was answered",
    );
}
