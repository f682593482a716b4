//! `store bench load`: real nodes, little time.

use std::{
    process::{Command, Output, Stdio},
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use store::{
    client::Client,
    config::StorageKind,
    local::{self, NAME, NodeProcess, Shape},
};
use tokio::time::Instant;

fn bench(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_store"));
    command.args(["bench", "load"]).args(arguments).env("RUST_LOG", "error");
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn json(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| {
        panic!("{error}: {}{}", text(&output.stdout), text(&output.stderr));
    })
}

/// Every operation that was asked is counted once.
fn assert_adds_up(counts: &Value) {
    let of = |name: &str| counts[name].as_u64().unwrap_or_else(|| panic!("no {name}: {counts}"));
    assert_eq!(of("asked"), of("right") + of("wrong") + of("failed") + of("unknown"), "{counts}");
}

#[test]
fn what_cannot_be_measured_is_refused_with_the_reason() {
    let refused = |arguments: &[&str]| {
        let output = bench(arguments).output().expect("it runs");
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        text(&output.stderr)
    };
    for (arguments, reason) in [
        (["--depth", "0"], "error: --depth 0: at least one operation must be in flight\n"),
        (["--connections", "0"], "error: --connections 0: at least one is needed\n"),
        (
            ["--value-size", "19"],
            "error: --value-size 19: from 20, since a value carries its key, to 1048576\n",
        ),
        (["--seconds", "NaN"], "error: --seconds NaN: more than 0, and a day at most\n"),
        (["--rate", "0"], "error: --rate 0: more than 0, and a hundred million at most\n"),
    ] {
        assert_eq!(refused(&arguments), reason);
    }
    let plain = |arguments: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_store")).arg("bench").args(arguments).output();
        text(&output.expect("it runs").stderr)
    };
    assert_eq!(plain(&["--clients", "0"]), "error: --clients 0: at least one is needed\n");
    assert_eq!(
        plain(&["--operations", "10", "--clients", "11"]),
        "error: --operations 10: at least one for each of 11 clients\n"
    );
    let all = ["--mix", "get=1,swap=2"];
    assert!(refused(&all).contains("'swap' is no operation: write get, put or cas"), "{}", refused(&all));
    let weight = ["--mix", "put=often"];
    assert!(refused(&weight).contains("'often' is no weight: write get=9,put=1"), "{}", refused(&weight));
    let both = ["--address", "127.0.0.1:1", "--memory"];
    assert!(refused(&both).contains("cannot be used with"), "{}", refused(&both));
    let both = ["--seconds", "1", "--operations", "1"];
    assert!(refused(&both).contains("cannot be used with"), "{}", refused(&both));
    let nobody = refused(&["--address", "127.0.0.1:1"]);
    assert!(nobody.starts_with("error: cannot connect: "), "{nobody}");
}

#[test]
fn a_short_load_on_a_cluster_of_its_own_is_answered_whole() {
    let arguments = ["--memory", "--partitions", "3", "--operations", "600", "--mix", "get=2,put=1,cas=1"];
    let more = ["--connections", "3", "--warm-up", "0", "--keys", "50", "--json"];
    let output = bench(&[&arguments[..], &more].concat()).output().expect("it runs");
    let report = json(&output);
    assert_eq!(output.status.code(), Some(0), "{report:#}");
    assert_adds_up(&report["counts"]);
    assert_eq!((&report["counts"]["asked"], &report["counts"]["right"]), (&600.into(), &600.into()));
    let kinds = report["operations"].as_array().expect("operations");
    let names: Vec<_> = kinds.iter().map(|kind| kind["kind"].as_str().expect("a name")).collect();
    assert_eq!(names, ["get", "put", "cas"]);
    let asked: u64 = kinds.iter().map(|kind| kind["asked"].as_u64().expect("a count")).sum();
    assert_eq!(asked, 600);
    for kind in kinds {
        assert_adds_up(kind);
        let latencies = ["p50_us", "p90_us", "p99_us", "p999_us", "max_us"];
        let latencies: Vec<_> =
            latencies.iter().map(|name| kind[name].as_f64().expect("a latency")).collect();
        // faster than a round trip can be, or slower than the test bears, is no latency
        assert!(latencies.is_sorted() && latencies[0] > 5.0 && latencies[4] < 2e7, "{kind:#}");
    }
    assert!(report["per_second"].as_f64().is_some_and(|rate| rate > 0.0));
    assert_eq!(report["memory_mib"].as_array().map(Vec::len), Some(3));
    assert!(report["processors"]["leaders"].is_f64() && report["processors"]["followers"].is_f64());
}

#[test]
fn reads_are_fast_with_leases_and_never_without() {
    for (leases, flag) in [(true, None), (false, Some("--without-leases"))] {
        let arguments = ["--memory", "--operations", "200", "--warm-up", "0", "--keys", "10", "--json"];
        let output = bench(&arguments).args(flag).output().expect("it runs");
        let counts = &json(&output)["counts"];
        assert_eq!(counts["right"], 200, "{counts}");
        assert_eq!(counts["fast"], if leases { 200 } else { 0 }, "{counts}");
    }
}

/// A cluster in memory.
struct Running {
    nodes: Vec<NodeProcess>,
    _folder: tempfile::TempDir,
}

impl Running {
    async fn start() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let shape = Shape { storage: StorageKind::Memory, leases: true, partitions: 1 };
        let program = env!("CARGO_BIN_EXE_store").as_ref();
        let nodes = local::start(program, folder.path(), shape).await.expect("the nodes start");
        let running = Self { nodes, _folder: folder };
        running.leader().await;
        running
    }

    /// Who leads now.
    async fn leader(&self) -> Pid {
        let addresses: Vec<_> = self.nodes.iter().map(|node| node.address.clone()).collect();
        let (directory, _) = local::when_led(NAME, &addresses).await.expect("somebody leads");
        let leader = directory.partitions[0].leader.expect("a leader").node as usize - 1;
        Pid::from_raw(self.nodes[leader].child.id() as i32).expect("a process")
    }

    /// Waits until so many writes are decided, when the load is in full swing; who leads then. On a slow machine that may be
    /// another one than at first.
    async fn leader_after(&self, entries: u64) -> Pid {
        let deadline = Instant::now() + Duration::from_secs(20);
        let mut client = Client::connect(&self.nodes[0].address, NAME).await.expect("it listens");
        while client.status().await.expect("it tells").partitions[0].decided < entries {
            assert!(Instant::now() < deadline, "fewer than {entries} entries within 20 s");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        self.leader().await
    }

    /// The load on it.
    fn load(&self, arguments: &[&str]) -> Command {
        let mut command = bench(&["--address", &self.nodes[0].address, "--cluster", NAME, "--json"]);
        command.args(["--keys", "10", "--warm-up", "0", "--mix", "put=1"]).args(arguments);
        command
    }
}

fn run(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(test);
}

/// One operation at most is in flight: counted from when they were sent, all but one would be as fast as ever.
#[test]
fn at_a_fixed_rate_all_that_was_due_while_the_leader_stood_still_is_late() {
    run(async {
        let running = Running::start().await;
        let arguments = ["--rate", "100", "--seconds", "2", "--connections", "1", "--depth", "1"];
        let load = running.load(&arguments).spawn().expect("it starts");
        let leader = running.leader_after(10 + 30).await;
        kill_process(leader, Signal::STOP).expect("it lives");
        // so long it stands still: this is what is measured, nothing is waited for
        tokio::time::sleep(Duration::from_millis(400)).await;
        kill_process(leader, Signal::CONT).expect("it lives");
        let output = load.wait_with_output().expect("it ends");
        let report = json(&output);
        assert_eq!(output.status.code(), Some(0), "{report:#}");
        assert_adds_up(&report["counts"]);
        assert_eq!(report["counts"]["right"], 200, "every one that was due, late or not: {report:#}");
        let of = |name: &str| report["operations"][0][name].as_f64().expect("a latency") / 1000.0;
        // 40 of 200 were due meanwhile, one each 10 ms
        assert!(of("max_us") >= 380.0, "{report:#}");
        assert!(of("p99_us") >= 350.0, "{report:#}");
        assert!(of("p90_us") >= 150.0, "{report:#}");
    });
}

#[test]
fn what_is_not_answered_is_counted_and_told() {
    run(async {
        let running = Running::start().await;
        let arguments = ["--rate", "100", "--seconds", "3", "--connections", "1", "--depth", "4"];
        let load = running.load(&arguments).args(["--timeout-ms", "300"]).spawn().expect("it starts");
        let leader = running.leader_after(10 + 30).await;
        kill_process(leader, Signal::STOP).expect("it lives");
        let output = load.wait_with_output().expect("it ends");
        let report = json(&output);
        assert_eq!(output.status.code(), Some(1), "{report:#}");
        let counts = &report["counts"];
        assert_adds_up(counts);
        assert_eq!(counts["asked"], 300, "what was due and never sent is counted: {counts}");
        assert_eq!(counts["unknown"], 4, "{counts}");
        assert!(counts["failed"].as_u64().is_some_and(|failed| failed >= 100), "{counts}");
        assert_eq!(report["complaints"], serde_json::json!(["a connection was lost: no answer for 300 ms"]));
        let said = text(&output.stderr);
        assert!(said.starts_with("error: of 300 operations "), "{said}");
    });
}

/// Ctrl-C in the middle of it leaves nothing behind.
#[test]
fn what_is_interrupted_leaves_no_folder() {
    let temporary = tempfile::tempdir().expect("a folder");
    let mut child = bench(&["--seconds", "60"]).env("TMPDIR", temporary.path()).spawn().expect("it starts");
    let entries = || std::fs::read_dir(temporary.path()).expect("a folder").count();
    let deadline = Instant::now() + Duration::from_secs(20);
    while entries() == 0 {
        assert!(Instant::now() < deadline, "no node has made a folder");
        std::thread::yield_now();
    }
    let process = Pid::from_raw(child.id() as i32).expect("a process");
    kill_process(process, Signal::INT).expect("interrupted");
    assert_eq!(child.wait().expect("it ends").code(), Some(2));
    assert_eq!(entries(), 0);
}
