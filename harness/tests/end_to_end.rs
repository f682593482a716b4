//! Real processes, from the command line to the verdict: a run with a kill, and what is said of tampered copies of its
//! record; Ctrl-C; bad input.

mod place;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    io::Read,
    path::Path,
    process::{Child, Command, ExitStatus, Output, Stdio},
};

use checker::{
    history::{Function, History, Key, Kind, Record},
    lease_safety::{self, Invariant},
    linearizability::{self, Budget, Verdict},
    trace::{TraceEvent, TraceLine},
};
use harness::proxy::{Endpoint, LinkCounters};
use place::Place;
use rustix::process::{Pid, Signal, kill_process};

const WORKLOAD: &str = r#"
[cluster]
nodes = 3
partitions = { count = 2, from = 1, to = 101 }
lease = { duration_ms = 400, drift_ppm = 50000 }
request_timeout_ms = 600
[clients]
count = 6
entry = "pinned"
timeout_ms = 800
[operations]
mix = { get = 5, put = 4, cas = 1 }
keys = { count = 4 }
rate = 400
[phases]
warm_up = "500ms"
faults = "4s"
quiesce = "500ms"
[[nemesis]]
at = "500ms"
action = "kill"
target = "leader(1)"
for = "1500ms"
[require]
operations = 100
operations_per_fault = 5
leader_changes = 1
final_reads = true
"#;

/// The seed of these runs.
const SEED: [&str; 2] = ["--seed", "5"];

fn last_line(output: &Output) -> String {
    let text = String::from_utf8_lossy(&output.stdout);
    text.lines().last().unwrap_or_default().to_owned()
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to.join("trace")).expect("folder made");
    fs::copy(from.join("history.jsonl"), to.join("history.jsonl")).expect("history copied");
    for file in fs::read_dir(from.join("trace")).expect("traces") {
        let file = file.expect("trace");
        fs::copy(file.path(), to.join("trace").join(file.file_name())).expect("trace copied");
    }
}

fn history(run: &Path) -> Vec<Record> {
    let text = fs::read_to_string(run.join("history.jsonl")).expect("history");
    text.lines().map(|line| serde_json::from_str(line).expect("a record")).collect()
}

fn verdict(run: &Path) -> Verdict {
    let history = History::read(&run.join("history.jsonl")).expect("a history");
    linearizability::check(&history, Budget::default()).verdict()
}

/// Lets the last read of some key return what its first one did, though it was overwritten in between.
fn swap_a_read(run: &Path) {
    let mut records = history(run);
    let mut first: BTreeMap<Key, String> = BTreeMap::new();
    let mut last: BTreeMap<Key, (usize, String)> = BTreeMap::new();
    let mut written = Vec::new();
    for (index, record) in records.iter().enumerate() {
        let Record::Op(op) = record else { continue };
        let (Kind::Ok, Some(result)) = (op.kind, &op.result) else { continue };
        match (&op.function, &result.returned) {
            (Function::Get { key }, Some(value)) => {
                first.entry(key.clone()).or_insert_with(|| value.clone());
                last.insert(key.clone(), (index, value.clone()));
            }
            (Function::Put { value, .. }, _) => written.push(value.clone()),
            _ => {}
        }
    }
    let (key, (index, _)) = last
        .into_iter()
        .find(|(key, (_, value))| first[key] != *value && written.contains(value))
        .expect("a key that was overwritten");
    let Record::Op(op) = &mut records[index] else { panic!("not an operation") };
    op.result.as_mut().expect("a result").returned = Some(first[&key].clone());
    let lines: Vec<String> =
        records.iter().map(|record| serde_json::to_string(record).expect("a line")).collect();
    fs::write(run.join("history.jsonl"), lines.join("\n") + "\n").expect("history written");
}

/// Lets the last hold of some leader last ten seconds longer than its grants.
fn stretch_a_lease(run: &Path) {
    for file in fs::read_dir(run.join("trace")).expect("traces") {
        let path = file.expect("trace").path();
        let text = fs::read_to_string(&path).expect("trace");
        let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
        for line in lines.iter_mut().rev() {
            let Ok(mut traced) = serde_json::from_str::<TraceLine>(line) else { continue };
            if let TraceEvent::Hold { until, .. } = &mut traced.event {
                *until += 10_000_000_000;
                *line = serde_json::to_string(&traced).expect("a line");
                fs::write(&path, lines.join("\n") + "\n").expect("trace written");
                return;
            }
        }
    }
    panic!("nobody held a lease");
}

#[test]
fn a_run_with_a_kill_is_valid_and_tampered_copies_of_its_record_are_not() {
    let place = Place::new(WORKLOAD);
    let output = place.run(&SEED);
    let shown = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(output.status.code(), Some(0), "{shown}\n{}", String::from_utf8_lossy(&output.stderr));
    assert!(last_line(&output).starts_with("VERDICT valid short seed 5"), "{shown}");
    assert!(shown.contains("kill leader(1) -> node"), "{shown}");
    let run = place.latest();
    assert!(
        shown.lines().any(|line| line.starts_with("report ") && line.ends_with("/report.html")),
        "{shown}"
    );
    for file in
        ["plan.toml", "history.jsonl", "verdict.json", "report.html", "logs/node-1.log", "trace/node-1.jsonl"]
    {
        assert!(run.join(file).is_file(), "{file} is missing");
    }

    let swapped = place.path("swapped");
    copy(&run, &swapped);
    assert_eq!(verdict(&swapped), Verdict::Valid);
    swap_a_read(&swapped);
    assert!(matches!(verdict(&swapped), Verdict::Violation(_)), "a stale read passes");

    let stretched = place.path("stretched");
    copy(&run, &stretched);
    assert!(lease_safety::check(&stretched).expect("traces").is_valid());
    stretch_a_lease(&stretched);
    let report = lease_safety::check(&stretched).expect("traces");
    assert!(
        report.counts.contains_key(&Invariant::L2),
        "a lease beyond its grants passes: {:?}",
        report.counts
    );
}

#[test]
fn clients_that_share_connections_survive_a_kill_like_others() {
    let place = Place::new(&WORKLOAD.replace("count = 6", "count = 6\nshare = 3"));
    let output = place.run(&SEED);
    let text = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(0), "{text}");
    let run = place.latest();
    let links = fs::read_to_string(run.join("links.json")).expect("links");
    let links: Vec<LinkCounters> = serde_json::from_str(&links).expect("counters");
    let dialer = |link: &LinkCounters| match link.link.from {
        Endpoint::Client(client @ 1..=6) if link.connections > 0 => Some(client),
        _ => None,
    };
    let dialers: BTreeSet<u64> = links.iter().filter_map(dialer).collect();
    assert_eq!(dialers, BTreeSet::from([1, 4]), "the first client of each three dials");
    let answered = |record: &Record| match record {
        Record::Op(op) if op.kind == Kind::Ok => Some(op.client),
        _ => None,
    };
    let clients: BTreeSet<u64> = history(&run).iter().filter_map(answered).collect();
    assert!((1..=6).all(|client| clients.contains(&client)), "{clients:?}");
}

#[test]
fn what_is_permanent_stays_broken_and_the_core_answers() {
    let faults = r#"
[[nemesis]]
at = "300ms"
action = "kill"
target = "node 5"
permanent = true
[[nemesis]]
every = "200ms"
action = "isolate"
target = "node 4"
for = "100ms"
permanent = true
"#;
    let workload = WORKLOAD.replace("nodes = 3", "nodes = 5\nreplication = 5").replace("\"4s\"", "\"2s\"");
    let place = Place::new(&(workload.replace("operations_per_fault = 5\n", "") + faults));
    let output = place.run(&SEED);
    let text = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(0), "{text}");
    assert!(text.contains("4 of 4 keys read within 20 s through the core of nodes 1, 2, 3"), "{text}");

    let run = place.latest();
    let records = history(&run);
    let is_heal = |record: &Record| matches!(record, Record::Phase(phase) if phase.name == "heal");
    let healed = records.iter().position(is_heal).expect("a heal phase");
    let faults = |of: &[Record], target: &str, begins: bool| {
        let counts = |record: &&Record| matches!(record, Record::Nemesis(fault) if fault.target == target && fault.begins == begins);
        of.iter().filter(counts).count()
    };
    let is_operation = |record: &Record| matches!(record, Record::Op(_));
    let over = records.iter().rposition(is_operation).expect("operations") + 1;
    assert_eq!((faults(&records, "node 5", true), faults(&records[..over], "node 5", false)), (1, 0));
    assert_eq!(faults(&records[over..], "node 5", false), 1, "it ends with the run");
    assert!(faults(&records[..healed], "node 4", true) > 1 && faults(&records[healed..], "node 4", true) > 0);
    assert!(faults(&records, "leader(1)", false) == 1, "what is not permanent is healed");
    let trace = fs::read_to_string(run.join("trace/node-5.jsonl")).expect("a trace");
    let boots = trace.lines().map(|line| serde_json::from_str::<TraceLine>(line).expect("a line").boot);
    assert_eq!(boots.max(), Some(1), "the dead stay dead");
}

/// The processes that are children of this one.
fn children(parent: u32) -> Vec<Pid> {
    let path = format!("/proc/{parent}/task");
    let tasks = fs::read_dir(path).into_iter().flatten().flatten();
    tasks
        .filter_map(|task| fs::read_to_string(task.path().join("children")).ok())
        .flat_map(|text| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>())
        .filter_map(|pid| pid.parse().ok().and_then(Pid::from_raw))
        .collect()
}

fn wait_until(what: &str, mut done: impl FnMut() -> bool) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("runtime");
    runtime.block_on(async {
        let limit = std::time::Duration::from_secs(30);
        let polling = async {
            while !done() {
                tokio::time::sleep(std::time::Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(limit, polling).await.unwrap_or_else(|_| panic!("waited in vain for {what}"));
    });
}

fn wait_for_end(child: &mut Child) -> ExitStatus {
    let mut status = None;
    wait_until("the harness's end", || {
        status = child.try_wait().expect("waited for");
        status.is_some()
    });
    status.expect("ended")
}

#[test]
fn ctrl_c_kills_every_node_and_keeps_the_history() {
    let place = Place::new(WORKLOAD);
    let mut child =
        place.harness(&SEED).stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("started");
    let history_file = place.path("results/latest/history.jsonl");
    wait_until("operations", || {
        fs::read_to_string(&history_file).is_ok_and(|text| text.contains("\"type\":\"ok\""))
    });
    let nodes = children(child.id());
    assert_eq!(nodes.len(), 3, "three nodes run");
    let harness = Pid::from_raw(child.id() as i32).expect("a process");
    kill_process(harness, Signal::INT).expect("interrupted");
    assert_eq!(wait_for_end(&mut child).code(), Some(130));
    for node in nodes {
        assert!(!Path::new(&format!("/proc/{}", node.as_raw_nonzero())).exists(), "an orphan");
    }
    assert!(history(&place.latest()).len() > 10, "the history so far is whole");
    let report = fs::read_to_string(place.latest().join("report.html")).expect("a report");
    assert!(report.contains("the run has left no verdict"), "what was recorded is drawn, and is not valid");
}

/// Nothing of a script goes on when it has failed: what it still asked would be recorded behind the end of the run, and reach the
/// nodes of the next one.
#[test]
fn what_a_script_has_under_way_ends_with_it() {
    let place = Place::new(
        r#"
[cluster]
nodes = 3
partitions = [{}]
lease = "off"
request_timeout_ms = 1000
[clients]
count = 2
timeout_ms = 1500
[[step]]
name = "goes on"
client = 1
get = { key = 1 }
for = "1m"
expect = { outcome = "any" }
background = true
[[step]]
client = 2
put = { key = 2, value = "two" }
within = "5s"
[[step]]
client = 2
get = { key = 2 }
expect = { value = "three" }
"#,
    );
    let output = place.run(&[]);
    assert_eq!(output.status.code(), Some(1), "{}", last_line(&output));
    let records = history(&place.latest());
    let asks_for_1 = |record: &Record| matches!(record, Record::Op(op) if op.kind == Kind::Invoke && *op.function.key() == Key::Integer(1));
    let heal =
        records.iter().position(|record| matches!(record, Record::Phase(phase) if phase.name == "heal"));
    let (before, after) = records.split_at(heal.expect("the cluster is healed"));
    assert!(before.iter().any(asks_for_1));
    let late = after.iter().filter(|record| asks_for_1(record)).count();
    assert!(late <= 10, "{late} reads, and those at the end are a few");
}

/// A node that nobody had asked to die: the run has failed, and says so everywhere.
#[test]
fn a_node_that_dies_by_itself_fails_the_run_in_every_place_that_tells_of_it() {
    let place = Place::new(WORKLOAD);
    let mut command = place.harness(&SEED);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("started");
    let history_file = place.path("results/latest/history.jsonl");
    wait_until("the end of the faults", || {
        fs::read_to_string(&history_file).is_ok_and(|text| text.contains("\"quiesce\""))
    });
    let node = children(child.id())[0];
    kill_process(node, Signal::ABORT).expect("aborted");
    let mut text = String::new();
    child.stdout.take().expect("its output").read_to_string(&mut text).expect("its output can be read");
    let code = wait_for_end(&mut child).code();
    let verdict: serde_json::Value =
        serde_json::from_str(&fs::read_to_string(place.latest().join("verdict.json")).expect("a verdict"))
            .expect("JSON");
    assert_eq!(
        (code, &verdict["exit_code"], &verdict["verdict"]),
        (Some(4), &4.into(), &"unknown".into()),
        "{text}"
    );
    assert_eq!(verdict["deaths"].as_array().map(Vec::len), Some(1), "{text}");
    let last = text.lines().last().unwrap_or_default();
    assert!(last.starts_with("VERDICT unknown short seed 5: the run failed: node "), "{text}");
    assert!(last.ends_with(" was killed by signal 6, and nobody had killed it"), "{text}");
    assert_eq!(verdict["words"], last.trim_start_matches("VERDICT unknown short seed 5: "));
}

/// A planted bug over which an assertion of the core fails: found by lease safety, as in simulated time. What the core
/// reached before it gave up counts.
#[test]
fn an_assertion_of_the_core_that_fails_is_a_violation_that_lease_safety_finds() {
    let workload =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../workloads/negative/adopt-by-ballot-only.toml");
    let folder = tempfile::tempdir().expect("folder");
    // which logs differ when a leader dies is a matter of chance on real processes
    let found = (0..8).any(|seed| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_harness"));
        command.current_dir(folder.path()).arg(&workload).args(["--quiet", "--seed", &seed.to_string()]);
        let output = command.output().expect("the harness runs");
        let text = fs::read_to_string(folder.path().join("results/latest/verdict.json")).expect("a verdict");
        let verdict: serde_json::Value = serde_json::from_str(&text).expect("JSON");
        let deaths = verdict["deaths"].as_array().expect("deaths");
        let Some(assertion) = deaths.iter().find_map(|death| death["cause"]["assertion"].as_str()) else {
            return false;
        };
        assert!(assertion.contains("store/src/core/"), "{assertion}");
        assert_eq!((output.status.code(), &verdict["verdict"]), (Some(0), &"violation".into()), "{text}");
        assert!(last_line(&output).contains(": expected, "), "{}", last_line(&output));
        let checks = verdict["checks"].as_array().expect("checks");
        let leases = checks.iter().find(|check| check["name"] == "lease-safety").expect("lease safety");
        assert_eq!(leases["status"], "violation", "{text}");
        let finding = leases["findings"][0].as_str().expect("a finding");
        assert!(finding.contains("'s core gave up: ") && finding.ends_with(assertion), "{finding}");
        assert!(verdict["facts"]["mutant_reached"].as_u64() > Some(0), "{text}");
        true
    });
    assert!(found, "no core gave up in eight runs");
}

#[test]
fn bad_input_and_places_that_cannot_be_written_have_their_exit_codes() {
    let place = Place::new(&WORKLOAD.replace("count = 6", "cuont = 6"));
    let output = place.run(&SEED);
    assert_eq!(output.status.code(), Some(2));
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(error.contains("short.toml:8:1") && error.contains("did you mean `count`"), "{error}");

    let place = Place::new(WORKLOAD);
    let output = place.harness(&SEED).args(["--out", "/proc/nowhere"]).output().expect("the harness runs");
    assert_eq!(output.status.code(), Some(4));
    assert!(last_line(&output).starts_with("VERDICT unknown"), "{}", last_line(&output));
}
