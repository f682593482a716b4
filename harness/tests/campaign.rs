//! Campaigns from the outside: shards are exact, a killed one goes on, what does not belong together is refused.

use std::{
    fs,
    os::unix::process::ExitStatusExt as _,
    path::PathBuf,
    process::{Command, Output, Stdio},
    time::Duration,
};

use serde_json::Value;

/// Three nodes, whose leader dies: over in some milliseconds.
const CLEAN: &str = "
[cluster]
nodes = 3
partitions = [{}]
heartbeat_ms = 40
missed_rounds = 5
lease = { duration_ms = 200, drift_ppm = 100000 }
request_timeout_ms = 300

[clients]
count = 3
timeout_ms = 400

[operations]
mix = { get = 3, put = 3, cas = 1 }
keys = { count = 3 }
rate = 40

[phases]
warm_up = '500ms'
faults = '2s'
quiesce = '500ms'

[[nemesis]]
at = '500ms'
action = 'kill'
target = 'leader(1)'
for = '500ms'
";

/// The holder's clock stands still, which leases do not bear.
const FROZEN: &str = "
[cluster]
nodes = 3
partitions = [{}]
heartbeat_ms = 80
missed_rounds = 5
lease = { duration_ms = 400, drift_ppm = 10000 }
request_timeout_ms = 500

[clients]
count = 6
entry = 'pinned'
timeout_ms = 800

[operations]
mix = { get = 7, put = 3 }
keys = { count = 2 }
rate = 200

[phases]
warm_up = '1s'
faults = '3s'

[[nemesis]]
at = '500ms'
action = 'isolate'
target = 'lease-holder(1)'
for = '2s'

[[nemesis]]
at = '530ms'
action = 'clock-freeze'
target = 'lease-holder(1)'
for = '1900ms'
";

/// A folder with workloads, and results beside it.
struct Place(tempfile::TempDir);

impl Place {
    fn new(workloads: &[(&str, String)]) -> Self {
        let place = Self(tempfile::tempdir().expect("a folder"));
        for (name, text) in workloads {
            let path = place.path("workloads").join(name);
            fs::create_dir_all(path.parent().expect("it has one")).expect("made");
            fs::write(path, text).expect("written");
        }
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn campaign(&self, out: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_harness"));
        command.current_dir(self.0.path()).args(["campaign", "workloads", "--out", out]);
        if !arguments.contains(&"--shrink") {
            command.args(["--shrink", "0s"]);
        }
        command.args(arguments).stdin(Stdio::null());
        command
    }

    fn merge(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_harness"));
        command.current_dir(self.0.path()).arg("merge").args(arguments).output().expect("it runs")
    }

    fn read(&self, out: &str) -> Value {
        let text = fs::read_to_string(self.path(out).join("campaign.json")).expect("it is there");
        serde_json::from_str(&text).expect("JSON")
    }
}

fn workloads() -> Place {
    let frozen = format!("{FROZEN}\n[expect]\nverdict = 'violation'\n");
    let other = CLEAN.replace("'kill'", "'pause'");
    Place::new(&[("clean.toml", CLEAN.to_owned()), ("other.toml", other), ("negative/frozen.toml", frozen)])
}

fn code(output: &Output) -> Option<i32> {
    output.status.code()
}

fn told(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// (workload, first seed, seeds, fingerprint) of all blocks that were run.
fn blocks(campaign: &Value) -> Vec<(String, u64, u64, String)> {
    let mut all = Vec::new();
    let records = campaign["records"].as_array().expect("records");
    for record in records.iter().filter(|record| record["mode"] != "canary") {
        for block in record["blocks"].as_array().expect("blocks") {
            all.push((
                record["workload"].as_str().expect("a name").to_owned(),
                block["first"].as_u64().expect("a number"),
                block["seeds"].as_u64().expect("a number"),
                block["fingerprint"].as_str().expect("digits").to_owned(),
            ));
        }
    }
    all.sort();
    all
}

/// The same without times.
fn timeless(mut value: Value) -> Value {
    match &mut value {
        Value::Object(fields) => {
            fields.retain(|name, _| !name.ends_with("_ms"));
            for field in fields.values_mut() {
                *field = timeless(field.take());
            }
        }
        Value::Array(items) => {
            for item in items {
                *item = timeless(item.take());
            }
        }
        _ => {}
    }
    value
}

/// Cases of a `JUnit` file that were simulated.
fn simulated(junit: &str) -> usize {
    junit.matches("classname=\"simulation\"").count()
}

fn finished(command: &mut Command) -> Output {
    command.output().expect("it runs")
}

#[test]
fn shards_together_run_what_one_campaign_runs() {
    let place = workloads();
    let seeds = ["--seeds", "100..140"];
    let one = finished(&mut place.campaign("one", &seeds));
    assert_eq!(code(&one), Some(0), "{}", told(&one));
    let whole = blocks(&place.read("one"));
    assert!(whole.iter().any(|block| block.0 == "clean" && block.1 == 118), "{whole:?}");
    assert_ne!(whole[0].3, whole[1].3, "fingerprints tell blocks apart");
    for of in 1..=5 {
        let outs: Vec<String> = (1..=of).map(|number| format!("{number}-of-{of}")).collect();
        let mut together = Vec::new();
        for (out, number) in outs.iter().zip(1..) {
            let shard = format!("{number}/{of}");
            let output = finished(&mut place.campaign(out, &[&seeds[..], &["--shard", &shard]].concat()));
            // the fifth of five shards may have nothing to find
            assert_eq!(code(&output), Some(0), "{}", told(&output));
            together.extend(blocks(&place.read(out)));
        }
        together.sort();
        assert_eq!(together, whole, "{of} shards: nothing is missing, and nothing comes twice");
        let mut merge: Vec<&str> = outs.iter().map(String::as_str).collect();
        merge.extend(["--out", "merged", "--junit", "merged.xml", "--summary", "merged.md"]);
        let merged = place.merge(&merge);
        assert_eq!(code(&merged), Some(0), "{}", told(&merged));
        assert_eq!(timeless(place.read("merged"))["records"], timeless(place.read("one"))["records"]);
        let junit = fs::read_to_string(place.path("merged.xml")).expect("written");
        assert!(simulated(&junit) == 3 && junit.contains("failures=\"0\""), "{junit}");
        assert!(
            fs::read_to_string(place.path("merged.md")).expect("written").starts_with("## VERDICT valid")
        );
        if of > 1 {
            let output = place.merge(&[outs[0].as_str()]);
            assert_eq!(code(&output), Some(3), "{}", told(&output));
            assert!(told(&output).contains(&format!("shard 2/{of} is missing")), "{}", told(&output));
        }
    }
}

#[test]
fn a_failure_of_a_shard_is_one_of_the_whole_and_told_once() {
    let place = Place::new(&[("frozen.toml", FROZEN.to_owned()), ("clean.toml", CLEAN.to_owned())]);
    let seeds = ["--seeds", "0..34"];
    let outs = ["a", "b"];
    for (out, shard) in outs.iter().zip(["1/2", "2/2"]) {
        finished(&mut place.campaign(out, &[&seeds[..], &["--shard", shard]].concat()));
    }
    let merged = place.merge(&["b", "a", "--junit", "merged.xml", "--summary", "merged.md"]);
    assert_eq!(code(&merged), Some(1), "{}", told(&merged));
    let lines: Vec<String> = told(&merged)
        .lines()
        .filter(|line| line.contains("lease-safety L5 (not shrunk): "))
        .map(str::to_owned)
        .collect();
    assert_eq!(lines.len(), 1, "{}", told(&merged));
    assert!(lines[0].contains(" seeds (frozen ") && lines[0].contains(", …)"), "{}", lines[0]);
    let junit = fs::read_to_string(place.path("merged.xml")).expect("written");
    assert!(simulated(&junit) == 2 && junit.contains("failures=\"1\""), "{junit}");
    let summary = fs::read_to_string(place.path("merged.md")).expect("written");
    assert!(summary.contains("| lease-safety L5 | not shrunk | "), "{summary}");
}

#[test]
fn what_is_new_is_run_on_real_processes_too() {
    let place = Place::new(&[("clean.toml", CLEAN.to_owned())]);
    let arguments = ["--seeds", "0..2", "--real", "12s", "--junit", "junit.xml"];
    let output = finished(&mut place.campaign("out", &arguments));
    assert_eq!(code(&output), Some(0), "{}", told(&output));
    let campaign = place.read("out");
    let real: Vec<&Value> = campaign["records"]
        .as_array()
        .expect("records")
        .iter()
        .filter(|record| record["mode"] == "real")
        .collect();
    assert_eq!(real.len(), 1, "{campaign}");
    assert_eq!((&real[0]["workload"], &real[0]["coverage"]["fault kill"]), (&"clean".into(), &1.into()));
    let junit = fs::read_to_string(place.path("junit.xml")).expect("written");
    assert!(junit.contains("name=\"clean\" classname=\"real\""), "{junit}");
    assert!(place.path("out/clean").is_dir(), "its results are kept");
}

#[test]
fn shards_of_other_texts_are_refused() {
    let place = workloads();
    let shard =
        |number: &str| place.campaign(number, &["--seeds", "0..2", "--shard", &format!("{number}/2")]);
    assert_eq!(code(&finished(&mut shard("1"))), Some(0));
    fs::write(place.path("workloads/clean.toml"), CLEAN.replace("rate = 40", "rate = 41")).expect("written");
    assert_eq!(code(&finished(&mut shard("2"))), Some(0));
    let output = place.merge(&["1", "2"]);
    assert_eq!(code(&output), Some(2));
    assert!(told(&output).contains("other workloads, or texts of them"), "{}", told(&output));
}

#[test]
fn a_damaged_file_is_told_with_its_place() {
    let place = workloads();
    fs::create_dir(place.path("out")).expect("made");
    for (text, words) in [("{\"version\": 1, ", "damaged"), ("{\"version\": 99}", "its version is 99")] {
        fs::write(place.path("out/campaign.json"), text).expect("written");
        let outputs =
            [place.merge(&["out"]), finished(&mut place.campaign("out", &["--seeds", "0..2", "--resume"]))];
        for output in outputs {
            assert_eq!(code(&output), Some(2), "{}", told(&output));
            let told = told(&output);
            assert!(told.contains("out/campaign.json") && told.contains(words), "{told}");
        }
    }
}

#[test]
fn a_killed_campaign_goes_on_and_comes_to_the_same_end() {
    let place = workloads();
    let arguments = ["--seeds", "0..80", "--jobs", "1"];
    assert_eq!(code(&finished(&mut place.campaign("whole", &arguments))), Some(0));
    let mut child = place.campaign("killed", &arguments).stdout(Stdio::null()).spawn().expect("it runs");
    let file = place.path("killed/campaign.json");
    wait_for("some blocks", || file.exists() && blocks(&place.read("killed")).len() > 5);
    child.kill().expect("it is killed");
    let status = child.wait().expect("it is over");
    assert_eq!(status.signal(), Some(9), "it was killed in the middle: {status}");
    let before = place.read("killed");
    assert_eq!(before["ended"], "not-yet");
    assert!(blocks(&before).len() < blocks(&place.read("whole")).len());
    let other = finished(&mut place.campaign("killed", &["--seeds", "0..81", "--resume"]));
    assert_eq!(code(&other), Some(2));
    assert!(told(&other).contains("seeds 0..80 and not 0..81"), "{}", told(&other));
    let resumed = finished(&mut place.campaign("killed", &[&arguments[..], &["--resume"]].concat()));
    assert_eq!(code(&resumed), Some(0), "{}", told(&resumed));
    assert_eq!(timeless(place.read("killed")), timeless(place.read("whole")));
    // when all is done, nothing is done again
    let again = finished(&mut place.campaign("killed", &[&arguments[..], &["--resume"]].concat()));
    assert_eq!(code(&again), Some(0), "{}", told(&again));
    assert_eq!(timeless(place.read("killed")), timeless(place.read("whole")));
}

#[test]
fn a_check_that_sees_nothing_fails_the_campaign_before_anything_is_run() {
    let place = workloads();
    let output = finished(&mut place.campaign("out", &["--seeds", "0..2", "--blind", "linearizable"]));
    assert_eq!(code(&output), Some(4), "{}", told(&output));
    assert!(told(&output).contains("canary/a-tampered-history"), "{}", told(&output));
    assert!(told(&output).contains("VERDICT unknown the canary fails"), "{}", told(&output));
    assert!(blocks(&place.read("out")).is_empty(), "nothing else was run");
    let merged = place.merge(&["out"]);
    assert_eq!(code(&merged), Some(4), "{}", told(&merged));
}

#[test]
fn what_one_night_has_found_the_next_one_knows() {
    let place = Place::new(&[("frozen.toml", FROZEN.to_owned()), ("clean.toml", CLEAN.to_owned())]);
    let night = |out: &str, seeds: &str| {
        // shrunk, so that its plan is kept; in a small time, since nobody reads it
        let arguments = ["--seeds", seeds, "--state", "state", "--summary", "night.md", "--shrink", "3s"];
        let output = finished(&mut place.campaign(out, &arguments));
        assert_eq!(code(&output), Some(1), "{}", told(&output));
        fs::read_to_string(place.path("night.md")).expect("written")
    };
    let first = night("first", "0..2");
    assert!(first.contains("\n- new: lease-safety L"), "{first}");
    fs::write(place.path("workloads/clean.toml"), CLEAN.replace("rate = 40", "rate = 41")).expect("written");
    let second = night("second", "100..102");
    assert!(second.contains("\n- known: lease-safety L"), "{second}");
    assert!(second.contains("| known/lease-safety-l"), "its plan was run again: {second}");
    // it is over: nothing is run again, and the state takes it in once
    let state = fs::read(place.path("state/state.json")).expect("written");
    let before = timeless(place.read("second"));
    let again = ["--seeds", "100..102", "--state", "state", "--resume"];
    let output = finished(&mut place.campaign("second", &again));
    assert_eq!(code(&output), Some(1), "{}", told(&output));
    assert_eq!(timeless(place.read("second")), before);
    assert_eq!(fs::read(place.path("state/state.json")).expect("there"), state);
    // nothing of it can be used when it is damaged
    fs::write(place.path("state/state.json"), "{").expect("written");
    let output = finished(&mut place.campaign("third", &["--seeds", "0..2", "--state", "state"]));
    assert_eq!(code(&output), Some(2), "{}", told(&output));
    assert!(told(&output).contains("state/state.json is damaged"), "{}", told(&output));
}

/// Waits until something holds, for a minute at most.
fn wait_for(what: &str, holds: impl Fn() -> bool) {
    let (_sender, never) = std::sync::mpsc::channel::<()>();
    for _ in 0..12_000 {
        if holds() {
            return;
        }
        // nobody sends anything: this waits
        let _ = never.recv_timeout(Duration::from_millis(5));
    }
    panic!("{what} did not come about");
}
