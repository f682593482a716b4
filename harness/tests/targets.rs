//! Other people's systems, from the command line to the verdict: nodes of Maelstrom's protocol, and etcd where there is one.

mod place;

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::Path,
    process::{Command, Output},
};

use place::Place;

/// The nodes that are shipped: `CASPaxos`.
fn nodes() -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../workloads/maelstrom/caspaxos.py");
    format!("python3 '{}'", fs::canonicalize(path).expect("it is there").display())
}

const MAELSTROM: &str = r#"
[target]
kind = "maelstrom"
[cluster]
nodes = 3
[clients]
count = 6
entry = "pinned"
timeout_ms = 2500
[operations]
mix = { get = 4, put = 3, cas = 2 }
keys = { count = 2 }
rate = 150
[phases]
warm_up = "300ms"
faults = "3s"
quiesce = "300ms"
final_reads = false
[[nemesis]]
at = "100ms"
action = "isolate"
target = "node 1"
for = "1s"
[[nemesis]]
at = "1500ms"
action = "frame-reorder"
target = "all"
chance = 0.3
for = "700ms"
[[nemesis]]
at = "1500ms"
action = "frame-duplicate"
target = "all"
chance = 0.3
for = "700ms"
[require]
operations = 20
"#;

const ETCD: &str = r#"
[target]
kind = "etcd"
[cluster]
nodes = 3
[clients]
count = 6
entry = "pinned"
timeout_ms = 1500
[operations]
mix = { get = 5, put = 4, cas = 2, delete = 1 }
keys = { count = 3 }
rate = 150
[phases]
boot = "60s"
warm_up = "500ms"
faults = "5s"
quiesce = "500ms"
[[nemesis]]
at = "300ms"
action = "isolate"
target = "node 1"
for = "1500ms"
[[nemesis]]
at = "2500ms"
action = "kill"
target = "node 2"
for = "1s"
[require]
operations = 30
final_reads = true
"#;

fn words(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

fn assert_ends(output: &Output, code: i32, with: &str) {
    let words = words(output);
    assert!(output.status.code() == Some(code) && words.contains(with), "{code}, {with:?}: {words}");
}

#[test]
fn a_correct_node_is_valid_and_leaves_what_other_runs_leave() {
    if !there_is("python3") {
        return;
    }
    let place = Place::new(&MAELSTROM.replace("final_reads = false", ""));
    let output = place.run(&["--bin", &nodes()]);
    assert_ends(&output, 0, "VERDICT valid");
    let latest = place.latest();
    for name in ["report.html", "history.jsonl", "verdict.json", "plan.toml", "links.json", "logs/node-1.log"]
    {
        assert!(latest.join(name).exists(), "{name}");
    }
    let plan = latest.join("plan.toml");
    let again = || place.command().args(["--plans", "--quiet"]).arg(&plan).output().expect("it runs");
    assert_ends(&again(), 0, "VERDICT valid");
    let text =
        fs::read_to_string(&plan).expect("read").replacen("target = \"node 1\"", "target = \"leader(1)\"", 1);
    fs::write(&plan, text).expect("written");
    assert_ends(&again(), 2, "plan.toml cannot be run: fault 1: nobody can tell which node this is");
}

#[test]
fn a_node_that_reads_without_a_majority_is_caught() {
    if !there_is("python3") {
        return;
    }
    let place = Place::new(&STALE_READ.replace("\"etcd\"\nreads = \"serializable\"", "\"maelstrom\""));
    let bin = nodes() + " --local-reads";
    assert_ends(&place.run(&["--bin", &bin, "--target", "maelstrom"]), 0, "expected, linearizable");
}

#[test]
fn what_a_node_does_wrong_is_told() {
    if !there_is("python3") {
        return;
    }
    let place = Place::new(MAELSTROM);
    let run = |bin: &str| place.run(&["--bin", bin]);
    let rubbish = run(&(nodes() + " --rubbish"));
    assert_ends(&rubbish, 4, "printed a line that is no message: \"what am I doing here?\"");
    assert_ends(&run("/no/such/program"), 4, "/no/such/program");
    assert_ends(&run("sh -c 'read line; exit 3'"), 4, "exited with status 3 before it listened");
    assert_ends(
        &run(
            "sh -c 'read line; echo \"{\\\"src\\\":\\\"n9\\\",\\\"dest\\\":\\\"c0\\\",\\\"body\\\":{}}\"; cat'",
        ),
        4,
        "a message that is not from n",
    );
    assert_ends(&run("sh -c 'kill -9 $$'"), 4, "was killed by signal 9 before it listened");
}

/// Everything is done by the first node; the others hand requests on to it as they are, so that it answers the client itself.
const HANDS_ON: &str = r#"
import json, sys
name, values = None, {}
def send(src, dest, body):
    print(json.dumps({"src": src, "dest": dest, "body": body}), flush=True)
for line in sys.stdin:
    message = json.loads(line)
    body = message["body"]
    kind, key = body["type"], body.get("key")
    answer = {"type": kind + "_ok", "in_reply_to": body["msg_id"]}
    if kind == "init":
        name = body["node_id"]
    elif name != "n1":
        send(message["src"], "n1", body)
        continue
    elif kind == "read":
        answer["value"] = values.get(key)
    elif kind == "cas" and values.get(key) != body["from"]:
        answer = {"type": "error", "code": 22, "text": "another", "in_reply_to": body["msg_id"]}
    else:
        values[key] = body["value"] if kind == "write" else body["to"]
    send(name, message["src"], answer)
"#;

#[test]
fn a_request_that_is_handed_on_is_answered_by_another_node() {
    if !there_is("python3") {
        return;
    }
    // few messages are handed on, so that a fault of single ones may meet none
    let (isolated, _) =
        MAELSTROM.split_once("[[nemesis]]\nat = \"1500ms\"").expect("it has faults of messages");
    let place = Place::new(&isolated.replace("final_reads = false", ""));
    fs::write(place.path("node.py"), HANDS_ON).expect("written");
    // the shell stays the node's parent, and is what is signalled first
    let node = place.path("node.py");
    let output = place.run(&["--bin", &format!("sh -c 'python3 {}; true'", node.display())]);
    assert_ends(&output, 0, "VERDICT valid");
    let history = fs::read_to_string(place.latest().join("history.jsonl")).expect("a history");
    assert!(history.contains(r#""node":3,"type":"ok""#), "the third node's requests were never answered");
    let left = Command::new("pgrep").args(["-f", &place.path("").display().to_string()]).output();
    assert!(left.is_ok_and(|left| left.stdout.is_empty()), "a node has outlived the run");
}

/// Answers to its start, and then does what the name of the first argument says.
const WRONG: &str = r#"
import json, os, sys, time
def send(asked, dest, body):
    print(json.dumps({"src": asked["dest"], "dest": dest, "body": body}), flush=True)
init = json.loads(sys.stdin.readline())
started = {"type": "init_ok", "in_reply_to": init["body"]["msg_id"]}
send(init, init["src"], started)
asked = json.loads(sys.stdin.readline())
if sys.argv[1] == "closes":
    os.close(1)
    time.sleep(600)
elif sys.argv[1] == "twice":
    send(init, init["src"], started)
elif sys.argv[1] == "whom":
    send(init, "n9", {"type": "read"})
elif sys.argv[1] == "dies":
    sys.exit("I have had enough")
time.sleep(600)
"#;

#[test]
fn what_a_node_does_wrong_later_is_told() {
    if !there_is("python3") {
        return;
    }
    let place = Place::new(MAELSTROM);
    fs::write(place.path("node.py"), WRONG).expect("written");
    for (what, told) in [
        ("closes", "closed its standard output and ran on"),
        ("twice", "answered to init a second time: "),
        ("whom", "sent a message to \"n9\", whom nobody knows: "),
        ("dies", "exited with status 1, and nobody had killed it"),
    ] {
        let output = place.run(&["--bin", &format!("python3 node.py {what}")]);
        assert_ends(&output, 4, told);
        assert!(words(&output).contains("node "), "which node: {}", words(&output));
    }
    assert_ends(
        &place.run(&["--bin", "true"]),
        4,
        "exited with status 0 before it listened\nits log is empty",
    );
    let at_once = place.run(&["--bin", "sh -c 'read line; exec 1>&-; exec sleep 600'"]);
    assert_ends(&at_once, 4, "closed its standard output and ran on before it listened");
}

/// Asks a service for whatever it is asked for; `--raw`: it hands on what it is asked as it is, and is answered past it.
const ASKS_A_SERVICE: &str = r#"
import json, sys
service, raw, waiting, asked_so_far = sys.argv[1], "--raw" in sys.argv, {}, 0
def send(src, dest, body):
    print(json.dumps({"src": src, "dest": dest, "body": body}), flush=True)
for line in sys.stdin:
    message = json.loads(line)
    body = message["body"]
    if body["type"] == "init":
        name = body["node_id"]
        send(name, message["src"], {"type": "init_ok", "in_reply_to": body["msg_id"]})
    elif raw:
        send(message["src"], service, body)
    elif message["src"] == service:
        asked = waiting.pop(body["in_reply_to"])
        send(name, asked["src"], {**body, "in_reply_to": asked["body"]["msg_id"]})
    else:
        asked_so_far += 1
        waiting[asked_so_far] = message
        send(name, service, {**body, "msg_id": asked_so_far})
"#;

#[test]
fn services_keep_what_they_promise_and_no_more() {
    if !there_is("python3") {
        return;
    }
    let calm = MAELSTROM.split("[[nemesis]]").next().expect("its beginning");
    for (service, expected) in
        [("lin-kv", "valid"), ("lin-kv --raw", "valid"), ("seq-kv", "violation"), ("lww-kv", "violation")]
    {
        let place = Place::new(&format!("{calm}[expect]\nverdict = \"{expected}\"\n"));
        fs::write(place.path("node.py"), ASKS_A_SERVICE).expect("written");
        let output = place.run(&["--bin", &format!("python3 node.py {service}"), "--time-limit", "2s"]);
        assert_ends(&output, 0, if expected == "valid" { "VERDICT valid" } else { "expected, linearizable" });
    }
}

#[test]
fn a_node_that_never_answers_decides_nothing() {
    if !there_is("python3") {
        return;
    }
    for workload in [MAELSTROM, &MAELSTROM.replace("final_reads = false", "")] {
        let output = Place::new(workload).run(&["--bin", &(nodes() + " --deaf"), "--time-limit", "1s"]);
        assert_ends(&output, 3, "VERDICT unknown short seed 0");
        assert_ends(&output, 3, "0 answered operations, 20 are required");
        let read_at_the_end = words(&output).contains("nothing was ever answered: this decides nothing");
        assert_eq!(read_at_the_end, workload != MAELSTROM, "{}", words(&output));
    }
}

#[test]
fn what_the_command_line_asks_for_must_fit_the_workload() {
    let place = Place::new(MAELSTROM);
    assert_ends(&place.run(&["--target", "etcd"]), 2, "a workload for a Maelstrom node");
    assert_ends(&place.run(&[]), 2, "which program is a node? Say `--bin");
    let sim = place.command().args(["sim", "short.toml"]).output().expect("the harness runs");
    assert_ends(&sim, 2, "cannot be simulated");
}

/// Whether there is such a program; the tests that need it are skipped with a reason.
fn there_is(program: &str) -> bool {
    let found = Command::new(program).arg("--version").output().is_ok();
    if !found {
        eprintln!("skipped: there is no {program} on PATH");
    }
    found
}

#[test]
fn etcd_is_linearizable_while_members_are_cut_off_and_killed() {
    if there_is("etcd") {
        let place = Place::new(ETCD);
        assert_ends(&place.run(&[]), 0, "VERDICT valid");
    }
}

/// A member that is cut off is read after the others have written without it: not by chance.
const STALE_READ: &str = r#"
[target]
kind = "etcd"
reads = "serializable"
[cluster]
nodes = 3
[clients]
count = 2
timeout_ms = 2000
[phases]
boot = "60s"
[[step]]
client = 1
via = "node 2"
put = { key = 1, value = "old" }
within = "10s"
[[step]]
client = 2
via = "node 1"
get = { key = 1 }
within = "10s"
expect = { value = "old" }
[[step]]
name = "cut"
fault = { action = "isolate", target = "node 1" }
# what is asked before the others have another leader than the one that is cut off may never be answered
[[step]]
client = 1
via = "node 2"
put = { key = 1, value = "lost" }
expect = { outcome = "any" }
[[step]]
client = 1
via = "node 2"
put = { key = 1, value = "new" }
within = "20s"
timeout_ms = 10000
[[step]]
client = 2
via = "node 1"
get = { key = 1 }
within = "10s"
expect = { value = "old" }
[expect]
verdict = "violation"
"#;

#[test]
fn serializable_reads_of_etcd_are_found_not_to_be_linearizable() {
    if there_is("etcd") {
        assert_ends(&Place::new(STALE_READ).run(&[]), 0, "expected, linearizable");
    }
}

#[test]
fn a_member_of_etcd_that_has_lost_its_disk_is_taken_in_anew_and_counts() {
    if !there_is("etcd") {
        return;
    }
    // etcd takes nobody in before its members have been connected for five seconds. With node 1 dead, nothing is decided
    // without the one that came back
    let text = ETCD.replace("faults = \"5s\"", "faults = \"12s\"");
    let (head, _) = text.split_once("[[nemesis]]").expect("faults");
    let faults = r#"
[[step]]
fault = { action = "wipe", target = "node 2" }
[[step]]
wait = "1s"
[[step]]
fault = { action = "kill", target = "node 1", for = "2s" }
[[step]]
wait = "1s"
[[step]]
client = 1
via = "node 2"
put = { key = 1, value = "with the new member" }
within = "8s"
[require]
operations = 30
final_reads = true
"#;
    let place = Place::new(&(head.to_owned() + faults));
    assert_ends(&place.run(&[]), 0, "VERDICT valid");
}

const REDIS: &str = r#"
[target]
kind = "redis"
[cluster]
nodes = 3
[clients]
count = 6
entry = [1]
timeout_ms = 1500
[operations]
mix = { get = 5, put = 4, cas = 4, delete = 1 }
keys = { count = 3 }
rate = 200
[phases]
warm_up = "500ms"
faults = "3s"
quiesce = "500ms"
final_reads = false
[[nemesis]]
at = "300ms"
action = "isolate"
target = "node 2"
for = "1s"
[[nemesis]]
at = "1500ms"
action = "kill"
target = "node 1"
for = "500ms"
[require]
operations = 30
"#;

#[test]
fn the_primary_of_redis_is_linearizable_and_swaps() {
    if there_is("redis-server") {
        let place = Place::new(REDIS);
        assert_ends(&place.run(&[]), 0, "VERDICT valid");
        let history = fs::read_to_string(place.latest().join("history.jsonl")).expect("a history");
        for swapped in ["\"swapped\":true", "\"swapped\":false"] {
            assert!(history.contains(swapped), "no swap ended with {swapped}");
        }
    }
}

#[test]
fn reads_of_replicas_of_redis_are_found_not_to_be_linearizable() {
    if there_is("redis-server") {
        let everywhere = REDIS.replace("entry = [1]", "entry = \"pinned\"");
        let place = Place::new(&format!("{everywhere}[expect]\nverdict = \"violation\"\n"));
        assert_ends(&place.run(&[]), 0, "expected, linearizable");
    }
}

#[test]
fn a_program_that_is_missing_or_cannot_listen_is_named() {
    let missing =
        "for node 1: No such file or directory (os error 2); install it, or say where it is (`--bin`)";
    let output = Place::new(ETCD).run(&["--bin", "/no/such/etcd"]);
    assert_ends(&output, 4, &format!("the run failed: could not run /no/such/etcd {missing}"));

    let place = Place::new(REDIS);
    let script = place.path("redis");
    fs::write(&script, "#!/bin/sh\necho Address already in use\nexit 1\n").expect("written");
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).expect("a program");
    assert_ends(
        &place.run(&["--bin", "./redis"]),
        4,
        "exited with status 1, and nobody had killed it\n    Address already in use",
    );
}

/// The node of the page "Test your own database": what a newcomer starts from.
#[test]
fn the_node_of_the_readme_comes_to_the_verdict_of_the_readme() {
    if !there_is("python3") {
        return;
    }
    let project = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let page = fs::read_to_string(project.join("README.md")).expect("the page");
    let from = page.find("    import json, sys").expect("a node");
    let node: Vec<&str> = page[from..]
        .lines()
        .take_while(|line| line.is_empty() || line.starts_with("    "))
        .map(|line| line.get(4..).unwrap_or_default())
        .collect();
    let place = Place::new("");
    fs::write(place.path("node.py"), node.join("\n")).expect("written");
    let mut command = place.command();
    command.args(["run", "--target", "maelstrom", "--bin", "python3 node.py"]);
    let output = command.args(["--quiet", "--time-limit", "3s"]).output().expect("the harness runs");
    assert_ends(
        &output,
        1,
        "VERDICT violation lin-kv seed 0: linearizable: 8 of 8 keys have no linear order",
    );
}

#[test]
fn a_third_target_takes_less_than_two_hundred_lines() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/targets/redis.rs");
    let text = fs::read_to_string(path).expect("the example");
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with("//"));
    assert!((1..200).contains(&lines.count()));
}
