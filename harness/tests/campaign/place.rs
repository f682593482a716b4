//! Small workloads in a folder of their own, and what campaigns make of them.

use std::{
    fs,
    path::PathBuf,
    process::{Command, Output, Stdio},
    time::Duration,
};

use serde_json::Value;

/// Three nodes, whose leader dies: over in some milliseconds.
pub const CLEAN: &str = "
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
pub const FROZEN: &str = "
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
pub struct Place(pub tempfile::TempDir);

impl Place {
    pub fn new(workloads: &[(&str, String)]) -> Self {
        let place = Self(tempfile::tempdir().expect("a folder"));
        for (name, text) in workloads {
            let path = place.path("workloads").join(name);
            fs::create_dir_all(path.parent().expect("it has one")).expect("made");
            fs::write(path, text).expect("written");
        }
        place
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub fn campaign(&self, out: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_harness"));
        command.current_dir(self.0.path()).args(["campaign", "workloads", "--out", out]);
        if !arguments.contains(&"--shrink") {
            command.args(["--shrink", "0s"]);
        }
        command.args(arguments).stdin(Stdio::null());
        command
    }

    pub fn merge(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_harness"));
        command.current_dir(self.0.path()).arg("merge").args(arguments).output().expect("it runs")
    }

    pub fn read(&self, out: &str) -> Value {
        let text = fs::read_to_string(self.path(out).join("campaign.json")).expect("it is there");
        serde_json::from_str(&text).expect("JSON")
    }
}

pub fn workloads() -> Place {
    let frozen = format!("{FROZEN}\n[expect]\nverdict = 'violation'\n");
    let other = CLEAN.replace("'kill'", "'pause'");
    Place::new(&[("clean.toml", CLEAN.to_owned()), ("other.toml", other), ("negative/frozen.toml", frozen)])
}

pub fn code(output: &Output) -> Option<i32> {
    output.status.code()
}

pub fn told(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// (workload, first seed, seeds, fingerprint) of all blocks that were run.
pub fn blocks(campaign: &Value) -> Vec<(String, u64, u64, String)> {
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
pub fn timeless(mut value: Value) -> Value {
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
pub fn simulated(junit: &str) -> usize {
    junit.matches("classname=\"simulation\"").count()
}

pub fn finished(command: &mut Command) -> Output {
    command.output().expect("it runs")
}

/// Waits until something holds, for a minute at most.
pub fn wait_for(what: &str, holds: impl Fn() -> bool) {
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
