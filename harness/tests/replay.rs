//! A real run that fails: its messages are recorded, each that was counted, and drawn around the violation; and simulated runs
//! that follow it fail the same way, from then on every time.

mod place;

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use harness::proxy::{Endpoint, LinkCounters};
use place::Place;
use serde_json::Value;

/// A leader that was deposed goes on answering reads, while single messages are lost, doubled and late.
const WORKLOAD: &str = r#"
mutant = "deposed-leader-serves-reads"
[cluster]
nodes = 3
partitions = [{}]
heartbeat_ms = 80
missed_rounds = 5
lease = { duration_ms = 400, drift_ppm = 50000 }
request_timeout_ms = 500
[clients]
count = 6
entry = "pinned"
timeout_ms = 800
[operations]
mix = { get = 6, put = 4 }
keys = { count = 2 }
rate = 300
[phases]
warm_up = "1s"
faults = "5s"
quiesce = "500ms"
[[nemesis]]
at = "200ms"
action = "frame-drop"
target = "all"
kinds = ["heartbeat-reply", "accepted"]
chance = 0.02
for = "4s"
[[nemesis]]
at = "200ms"
action = "frame-duplicate"
target = "all"
kinds = ["decide"]
chance = 0.05
for = "4s"
[[nemesis]]
at = "1s"
action = "isolate"
target = "leader(1)"
for = "3s"
[require]
operations = 300
[expect]
verdict = "violation"
"#;

fn harness(folder: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_harness"));
    command.current_dir(folder).args(arguments).output().expect("the harness runs")
}

fn shown(output: &Output) -> String {
    format!("{}\n{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// The frames between nodes that each link has counted, and those that were sent twice.
fn counted(run: &Path) -> BTreeMap<(u64, u64), u64> {
    let links = fs::read(run.join("links.json")).expect("counters");
    let links: Vec<LinkCounters> = serde_json::from_slice(&links).expect("counters");
    let between = links.iter().filter_map(|counters| match (counters.link.from, counters.link.to) {
        (Endpoint::Node(from), Endpoint::Node(to)) => {
            Some(((from, to), counters.frames + counters.duplicated))
        }
        _ => None,
    });
    between.collect()
}

/// The messages that a run has recorded.
fn recorded(run: &Path) -> Vec<Value> {
    let output = harness(run, &["inspect", ".", "--messages", "--json", "--limit", "0"]);
    let text = String::from_utf8_lossy(&output.stdout);
    let events = text.lines().map(|line| serde_json::from_str::<Value>(line).expect("JSON"));
    assert!(!shown(&output).contains("not recorded"), "{}", String::from_utf8_lossy(&output.stderr));
    events.filter(|event| event["event"] == "message").collect()
}

fn by_link(messages: &[Value]) -> BTreeMap<(u64, u64), u64> {
    let mut links = BTreeMap::new();
    for message in messages {
        let end = |name: &str| message[name].as_u64().expect("a node");
        *links.entry((end("from"), end("to"))).or_default() += 1;
    }
    links
}

/// The data of a report.
fn data(page: &str) -> Value {
    let (_, data) = page.split_once(r#"type="application/json">"#).expect("a block of data");
    let (data, _) = data.split_once("</script>").expect("its end");
    serde_json::from_str(data).expect("JSON")
}

fn failed_run(place: &Place) -> PathBuf {
    let output = harness(&place.path(""), &["negative/short.toml", "--seed", "1", "--quiet"]);
    assert_eq!(output.status.code(), Some(0), "{}", shown(&output));
    place.latest()
}

#[test]
fn a_real_run_that_failed_records_its_messages_and_fails_again_in_simulated_time() {
    let place = Place::negative(WORKLOAD);
    let (folder, run) = (place.path(""), failed_run(&place));

    // every frame that was counted is recorded, and one that is missing is missed
    let messages = recorded(&run);
    assert!(messages.len() > 1_000, "{} messages", messages.len());
    assert_eq!(by_link(&messages), counted(&run));
    assert_ne!(by_link(&messages[1..]), counted(&run));
    let trouble = |word: &str| {
        messages
            .iter()
            .filter(|message| message["trouble"].as_str().is_some_and(|text| text.contains(word)))
            .count()
    };
    assert!(trouble("dropped by fault") > 0 && trouble("struck by fault") > 0);

    // the report draws them around the violation
    let page = fs::read_to_string(run.join("report.html")).expect("a report");
    assert!(page.len() < 2_000_000, "{} bytes", page.len());
    let spacetime = &data(&page)["findings"]["spacetime"];
    let arrows = spacetime["messages"].as_array().expect("messages");
    assert!(arrows.iter().any(|arrow| !arrow["arrived"].is_null()), "{spacetime}");
    assert_eq!(spacetime["unrecorded"], Value::Null);

    // simulated runs follow it until one shows the same, which is the same from then on
    let output = harness(&folder, &["replay", "results/latest", "--seeds", "0..10"]);
    assert_eq!(output.status.code(), Some(0), "{}", shown(&output));
    let text = shown(&output);
    assert!(text.contains("messages as recorded") && text.contains("AGAIN linearizable"), "{text}");
    let kept = text.lines().find_map(|line| line.strip_prefix("kept     ")).expect("a folder");
    let kept = folder.join(kept);
    let plan = kept.join("plan.toml");
    let plan = plan.to_str().expect("text");
    let again = harness(&folder, &["sim", "--plans", plan, "--twice"]);
    assert_eq!(again.status.code(), Some(0), "{}", shown(&again));
    assert!(shown(&again).contains("VERDICT violation"), "{}", shown(&again));

    // a plan whose record is gone, or cut off, does not do something else without a word
    let record = kept.join("followed.bin");
    let whole = fs::read(&record).expect("read");
    for left in [&b"{}\n"[..], &whole[..whole.len() - 4], &whole[..whole.len() / 2]] {
        fs::write(&record, left).expect("written");
        let broken = harness(&folder, &["sim", "--plans", plan]);
        assert_eq!(broken.status.code(), Some(2), "{}", shown(&broken));
    }

    // neither a simulated run nor one that passed is followed
    let refused = |run: &Path, why: &str| {
        let output = harness(&folder, &["replay", run.to_str().expect("text")]);
        assert_eq!(output.status.code(), Some(2), "{}", shown(&output));
        assert!(shown(&output).contains(why), "{}", shown(&output));
    };
    refused(&kept, "the run was simulated");
    let verdict = fs::read(run.join("verdict.json")).expect("a verdict");
    let mut verdict: Value = serde_json::from_slice(&verdict).expect("JSON");
    verdict["checks"] = Value::Array(Vec::new());
    fs::write(run.join("verdict.json"), verdict.to_string()).expect("written");
    refused(&run, "no check has found a violation");
}

#[test]
fn a_folder_without_a_run_is_not_followed() {
    let folder = tempfile::tempdir().expect("a folder");
    let output = harness(folder.path(), &["replay", "."]);
    assert_eq!(output.status.code(), Some(2));
    assert!(shown(&output).contains("error: .:"), "{}", shown(&output));
}
