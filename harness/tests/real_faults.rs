//! Faults on real processes: each of the vocabulary is carried out and undone, faults keep their times whatever others wait
//! for, a wiped node stays out, and a false statement is found.

use std::{fs, path::Path, process::Command};

use checker::history::{History, Nemesis};

const CLUSTER: &str = r#"
[cluster]
nodes = 5
partitions = [{ replicas = [1, 2, 3, 4, 5] }]
lease = { duration_ms = 400, drift_ppm = 50000 }
request_timeout_ms = 600
[clients]
count = 6
entry = "any"
timeout_ms = 800
[operations]
mix = { get = 5, put = 5 }
keys = { count = 4 }
rate = 300
"#;

struct Ran {
    code: Option<i32>,
    shown: String,
    history: History,
    /// How often each node has started its core, from node 1 on.
    starts: Vec<usize>,
}

fn run(text: &str) -> Ran {
    let folder = tempfile::tempdir().expect("folder");
    fs::write(folder.path().join("faults.toml"), text).expect("workload written");
    let mut command = Command::new(env!("CARGO_BIN_EXE_harness"));
    command.current_dir(folder.path()).args(["faults.toml", "--seed", "1", "--quiet"]);
    let output = command.output().expect("the harness runs");
    let shown =
        format!("{}\n{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    let path = folder.path().join("results/latest/history.jsonl");
    let history = History::read(Path::new(&path)).unwrap_or_else(|error| panic!("{error}\n{shown}"));
    let starts = |node: u64| {
        let trace = fs::read_to_string(folder.path().join(format!("results/latest/trace/node-{node}.jsonl")));
        trace.expect("a trace").matches("\"kind\":\"started\"").count()
    };
    Ran { code: output.status.code(), shown, history, starts: (1..=5).map(starts).collect() }
}

impl Ran {
    fn begin(&self, action: &str) -> &Nemesis {
        let mut begun = self.history.faults.iter().filter(|fault| fault.begins && fault.action == action);
        begun.next().unwrap_or_else(|| panic!("no {action} has begun\n{}", self.shown))
    }

    fn end(&self, of: &Nemesis) -> Option<&Nemesis> {
        self.history.faults.iter().find(|fault| !fault.begins && fault.fault == of.fault)
    }

    /// Seconds from the beginning of the faults phase.
    fn since(&self, time: u64) -> f64 {
        let faults = self.history.phases.iter().find(|phase| phase.name == "faults").expect("faults phase");
        (time as f64 - faults.time as f64) / 1e9
    }
}

/// Every action that can be undone or ends by itself, with what it needs.
const LASTING: &[(&str, &str)] = &[
    // first, while a leader that nothing has happened to yet writes all the time
    ("kill-during-write", "target = \"leader(1)\""),
    ("kill", "target = \"leader(1)\""),
    ("kill-during-recovery", "target = \"follower(1)\""),
    ("lose-unsynced", "target = \"leader(1)\""),
    ("corrupt-tail", "target = \"leader(1)\""),
    ("pause", "target = \"follower(1)\""),
    ("isolate", "target = \"leader(1)\"\nlinks = \"close\""),
    ("cut", "target = \"leader(1)\"\npeer = \"follower(1)\"\nlinks = \"silence\""),
    ("cut-oneway", "target = \"leader(1)\"\ndirection = \"in\"\nlinks = \"sever\""),
    ("halves", "target = \"leader(1)\""),
    ("split", "parts = 3"),
    ("majorities-ring", ""),
    ("bridge", "target = \"leader(1)\""),
    ("chain", "target = \"leader(1)\""),
    ("swizzle", "period = \"50ms\""),
    ("flap", "target = \"leader(1)\"\nperiod = \"80ms\""),
    ("hold", "target = \"minority\""),
    ("refuse", "target = \"follower(1)\""),
    ("half-open", "target = \"follower(1)\""),
    ("delay", "target = \"leader(1)\"\ndelay = { median = \"5ms\", high = \"30ms\" }"),
    ("throttle", "target = \"leader(1)\"\nbytes_per_second = 20000"),
    ("frame-drop", "target = \"leader(1)\"\nchance = 0.1"),
    ("frame-duplicate", "target = \"leader(1)\"\nkinds = [\"accept\", \"decide\"]"),
    ("frame-reorder", "target = \"leader(1)\"\nchance = 0.2"),
    ("frame-hold", "target = \"leader(1)\"\nnth = 5"),
    ("stall-disk", "target = \"lagging(1)\""),
    ("clock-rate", "target = \"lease-holder(1)\"\nrate_ppm = 49000"),
];

#[test]
fn every_fault_is_carried_out_and_undone() {
    let mut text = format!("{CLUSTER}\n[phases]\nwarm_up = \"500ms\"\nfaults = \"22s\"\n");
    for (index, (action, keys)) in LASTING.iter().enumerate() {
        let at = 200 + index * 700;
        let fault = format!("[[nemesis]]\nat = \"{at}ms\"\naction = \"{action}\"\n{keys}\nfor = \"600ms\"\n");
        text.push_str(&fault);
    }
    // the holder's clock jumps forward, which leases do not mind
    text +=
        "[[nemesis]]\nat = \"19500ms\"\naction = \"clock-offset\"\ntarget = \"leader(1)\"\noffset_ms = 300\n";
    text += "[[nemesis]]\nat = \"19500ms\"\naction = \"restart\"\ntarget = \"follower(1)\"\n";
    text += "[[nemesis]]\nat = \"20s\"\naction = \"reset\"\ntarget = \"leader(1)\"\n";
    text +=
        "[[nemesis]]\nat = \"21s\"\naction = \"transfer-leader\"\ntarget = \"follower(1)\"\npartition = 1\n";
    let ran = run(&text);
    assert_eq!(ran.code, Some(0), "{}", ran.shown);
    assert_eq!(ran.begin("transfer-leader").struck, Some(1));
    for (action, _) in LASTING {
        let begun = ran.begin(action);
        assert!(!begun.nodes.is_empty(), "{action}");
        let ended = ran.end(begun).unwrap_or_else(|| panic!("{action} has not ended"));
        assert!(ended.time > begun.time, "{action}");
        let counts = action.starts_with("frame-") || action.starts_with("kill-during-");
        assert_eq!(ended.struck.is_some_and(|struck| struck > 0), counts, "{action}: {ended:?}");
    }
    // the life between its two deaths ended before its core could start
    let twice = ran.begin("kill-during-recovery").nodes[0];
    let lives = ran.history.faults.iter().filter(|fault| fault.begins && fault.nodes.contains(&twice));
    let restarts =
        ["kill", "kill-during-write", "kill-during-recovery", "lose-unsynced", "corrupt-tail", "restart"];
    let lives = lives.filter(|fault| restarts.contains(&fault.action.as_str())).count();
    assert_eq!(ran.starts[twice as usize - 1], 1 + lives, "{:?}", ran.starts);
    for action in ["restart", "reset", "clock-offset"] {
        assert!(!ran.begin(action).nodes.is_empty(), "{action}");
    }
}

#[test]
fn a_fault_that_comes_to_nothing_leaves_the_run_undecided() {
    let ran = run(&format!(
        "{}{}",
        CLUSTER.replace("mix = { get = 5, put = 5 }", "mix = { get = 5 }"),
        r#"
        [phases]
        warm_up = "200ms"
        faults = "3s"
        [[nemesis]]
        at = "100ms"
        action = "frame-drop"
        target = "all"
        kinds = ["join"]
        for = "200ms"
        [[nemesis]]
        at = "200ms"
        action = "frame-hold"
        target = "node 1"
        kinds = ["join"]
        permanent = true
        [[nemesis]]
        at = "300ms"
        action = "release"
        target = "node 2"
        [[nemesis]]
        at = "400ms"
        action = "kill-during-write"
        target = "follower(1)"
        for = "100ms"
        [[nemesis]]
        after = { writes = 1 }
        action = "kill"
        target = "node 2"
        "#
    ));
    assert_eq!(ran.code, Some(3), "{}", ran.shown);
    let lacks = |what: &str| assert!(ran.shown.contains(&format!("fault {what}\n")), "{what}\n{}", ran.shown);
    lacks("1 of the plan (frame-drop all) struck no message");
    lacks("2 of the plan (frame-hold node 1) struck no message");
    lacks("3 of the plan (release node 2) struck no hold");
    lacks("4 of the plan (kill-during-write follower(1)) struck no node in a write");
    lacks("5 of the plan (kill node 2) never began");
    let killed = ran.begin("kill-during-write");
    assert_eq!((killed.nodes.len(), killed.struck), (1, Some(0)), "killed all the same, and says so");
}

#[test]
fn a_fault_that_waits_keeps_no_other_from_its_time() {
    let ran = run(&format!(
        "{CLUSTER}{}",
        r#"
        [phases]
        warm_up = "200ms"
        faults = "4s"
        # nobody is paused, so this one waits in vain for three seconds
        [[nemesis]]
        at = "200ms"
        action = "resume"
        target = "random"
        [[nemesis]]
        at = "700ms"
        name = "kill"
        action = "kill"
        target = "follower(1)"
        for = "400ms"
        [[nemesis]]
        after = { fault = "kill", ends = true, plus = "100ms" }
        action = "hold"
        target = "follower(1)"
        for = "200ms"
        [[nemesis]]
        after = { writes = 100 }
        action = "isolate"
        target = "node 3"
        for = "200ms"
        [[nemesis]]
        after = { message = "accepted", ballot = 1, count = 3 }
        action = "reset"
        target = "node 2"
        "#
    ));
    assert_eq!(ran.code, Some(3), "a fault found nobody, so nothing is shown: {}", ran.shown);
    let late = |fault: &Nemesis, due: f64| ran.since(fault.requested) - due;
    let (vacant, kill) = (ran.begin("resume"), ran.begin("kill"));
    assert!(vacant.nodes.is_empty() && late(vacant, 3.2) > -0.1, "it waited: {vacant:?}");
    assert!((0.0..0.4).contains(&late(kill, 0.7)), "{kill:?}");
    let ended = ran.end(kill).expect("restarted");
    let hold = ran.begin("hold");
    let after = (hold.requested as f64 - ended.time as f64) / 1e9;
    assert!((0.09..0.5).contains(&after), "{after} s after the kill");
    assert_eq!(ran.begin("isolate").nodes, [3]);
    assert_eq!(ran.begin("reset").nodes, [2]);
    assert!(ran.begin("reset").instant, "nothing is left to undo");
}

/// A node without a replica writes nothing: the kill in a write waits for a second and then kills it anyway. Meanwhile it lives, and
/// another fault waits for it: of that one nothing has happened.
#[test]
fn a_fault_whose_node_dies_before_it_is_reached_found_nobody() {
    let cluster = CLUSTER.replace("[1, 2, 3, 4, 5]", "[1, 2, 3]");
    let ran = run(&format!(
        "{cluster}{}",
        r#"
        [phases]
        warm_up = "200ms"
        faults = "3s"
        [[nemesis]]
        at = "200ms"
        action = "kill-during-write"
        target = "node 5"
        for = "2s"
        [[nemesis]]
        at = "500ms"
        action = "stall-disk"
        target = "node 5"
        for = "500ms"
        "#
    ));
    assert_eq!(ran.code, Some(3), "{}", ran.shown);
    let (killed, stalled) = (ran.begin("kill-during-write"), ran.begin("stall-disk"));
    assert_eq!((&killed.nodes[..], &stalled.nodes[..]), (&[5][..], &[][..]));
    assert!(ran.end(stalled).is_none(), "and nothing was undone");
    assert!(ran.shown.contains("stall-disk node 5) found nobody"), "{}", ran.shown);
}

#[test]
fn a_wiped_node_is_gone_for_good_and_false_statements_are_found() {
    let ran = run(&format!(
        "{CLUSTER}{}",
        r#"
        [phases]
        warm_up = "200ms"
        faults = "0s"
        [[step]]
        name = "a write"
        client = 1
        via = "leader(1)"
        put = { key = 1 }
        [[step]]
        name = "its leader loses its disk"
        fault = { action = "wipe", target = "answered(a write)" }
        # whom the others ask would still send a write there, and its outcome would be unknown
        [[step]]
        name = "another one leads"
        wait = "leader-change(1)"
        [[step]]
        name = "its clients are refused"
        client = 1
        via = "answered(a write)"
        times = 20
        get = { key = 1 }
        within = "5s"
        expect = { outcome = "fail", error = "not ready" }
        [[step]]
        name = "those of others are not"
        client = [2, 3]
        via = "leader(1)"
        times = 20
        put = { key = 1 }
        within = "5s"
        expect = { not_leader = "answered(a write)" }
        [[expect.that]]
        name = "it goes on"
        says = "progress"
        within = "5s"
        [[expect.that]]
        name = "not so"
        says = "leader-changes"
        at_least = 9
        "#
    ));
    assert_eq!(ran.code, Some(1), "{}", ran.shown);
    assert!(ran.shown.contains("1 of 2 statements are true"), "{}", ran.shown);
    assert!(ran.shown.contains("not so: partition 1 had"), "{}", ran.shown);
    assert!(ran.shown.contains("5 of 5 steps as expected"), "{}", ran.shown);
}
