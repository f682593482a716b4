//! `harness serve` over a real socket: what it shows, what it refuses, and how it follows a run that goes on.

use std::{
    fs::{self, File, OpenOptions},
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    os::unix::fs::symlink,
    path::Path,
    process::{Child, Command, Stdio},
    thread,
    time::Duration,
};

use harness::clock::boottime_ns;
use serde_json::Value;
use tempfile::TempDir;

#[path = "serve/browser.rs"]
mod browser;

/// What is waited for comes in time or not at all.
const DEADLINE: Duration = Duration::from_mins(1);

/// A server of a folder. It ends with the test.
struct Server {
    child: Child,
    address: SocketAddr,
}

impl Server {
    fn start(folder: &Path) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_harness"));
        command.arg("serve").arg(folder).args(["--listen", "127.0.0.1:0", "--keep", "1", "--quiet"]);
        let mut child = command.stdout(Stdio::piped()).spawn().expect("it starts");
        let mut line = String::new();
        BufReader::new(child.stdout.take().expect("a pipe")).read_line(&mut line).expect("it says where");
        let address = line.trim().strip_prefix("http://").and_then(|rest| rest.strip_suffix('/'));
        let address = address.and_then(|address| address.parse().ok()).unwrap_or_else(|| panic!("{line:?}"));
        Self { child, address }
    }

    /// What is answered to these lines and an empty one.
    fn says(&self, lines: &[&str]) -> Answer {
        let mut stream = TcpStream::connect(self.address).expect("it listens");
        stream.set_read_timeout(Some(DEADLINE)).expect("a deadline");
        stream.write_all((lines.join("\r\n") + "\r\n\r\n").as_bytes()).expect("sent");
        let mut all = Vec::new();
        stream.read_to_end(&mut all).expect("an answer");
        Answer::of(&all)
    }

    fn ask(&self, method: &str, path: &str, headers: &[&str]) -> Answer {
        let first = format!("{method} {path} HTTP/1.1");
        let host = format!("Host: {}", self.address);
        let lines: Vec<&str> =
            [first.as_str(), &host, "Connection: close"].into_iter().chain(headers.iter().copied()).collect();
        self.says(&lines)
    }

    fn get(&self, path: &str) -> Answer {
        self.ask("GET", path, &[])
    }

    fn json(&self, path: &str) -> Value {
        let answer = self.get(path);
        assert_eq!((answer.status, answer.header("content-type")), (200, Some("application/json")), "{path}");
        serde_json::from_slice(&answer.body).expect("JSON")
    }

    /// Asks until the answer is as it should be.
    fn until(&self, path: &str, is: impl Fn(&Value) -> bool) -> Value {
        let end = boottime_ns() + DEADLINE.as_nanos() as u64;
        loop {
            let value = self.json(path);
            if is(&value) {
                return value;
            }
            assert!(boottime_ns() < end, "{path}: it never came: {value:#}");
            thread::park_timeout(Duration::from_millis(20));
        }
    }

    /// The most memory that it has used, in kilobytes.
    fn most_memory(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).expect("it lives");
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("a line");
        line.trim().trim_end_matches(" kB").parse().expect("a number")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

struct Answer {
    status: u16,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

impl Answer {
    fn of(all: &[u8]) -> Self {
        let end = all.windows(4).position(|four| four == b"\r\n\r\n").expect("an end of the headers");
        let head = String::from_utf8(all[..end].to_vec()).expect("text");
        let mut lines = head.lines();
        let status =
            lines.next().and_then(|line| line.split(' ').nth(1)).and_then(|status| status.parse().ok());
        let headers = lines
            .filter_map(|line| line.split_once(": "))
            .map(|(name, value)| (name.to_lowercase(), value.to_owned()));
        Self { status: status.expect("a status"), headers: headers.collect(), body: all[end + 4..].to_vec() }
    }

    fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(of, _)| of == name).map(|(_, value)| value.as_str())
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

fn write(folder: &Path, name: &str, text: &str) {
    let path = folder.join(name);
    fs::create_dir_all(path.parent().expect("a folder")).expect("made");
    fs::write(path, text).expect("written");
}

fn append(path: &Path, text: &str) {
    let mut file = OpenOptions::new().append(true).create(true).open(path).expect("opened");
    file.write_all(text.as_bytes()).expect("written");
}

const HEADER: &str =
    "{\"record\":\"header\",\"workload\":\"smoke\",\"seed\":7,\"origin\":1000000000,\"initial\":[]}\n";

/// The line of a pause that begins after three seconds.
fn pause(target: &str) -> String {
    let whom = format!(r#""action":"pause","target":"{target}","nodes":[2]"#);
    format!(r#"{{"record":"nemesis","time":3000000000,"requested":1,"fault":1,"begins":true,{whom}}}"#) + "\n"
}

/// Some runs: valid ones, one with a violation, one without a verdict, a simulated one of a campaign, and one that is nobody's.
fn results() -> TempDir {
    let results = tempfile::tempdir().expect("a folder");
    let verdict = |workload: &str, seed: u64, verdict: &str, as_expected: bool, count: u64| {
        format!(
            r#"{{"workload":"{workload}","seed":{seed},"verdict":"{verdict}","as_expected":{as_expected},"exit_code":{},
            "words":"so it is","missing":[],"deaths":[],"mutant":null,
            "again":"cargo run -- workloads/{workload}.toml --seed {seed}",
            "checks":[{{"name":"linearizable","status":"{verdict}","words":"in words","findings":["<b>key</b> 3"]}}],
            "figures":{{"seconds":23.5,"faults":[{{}},{{}}],"stalls":[],
                "operations":{{"get":{{"ok":{count},"fail":0,"info":0}}}}}}}}"#,
            i32::from(!as_expected)
        )
    };
    for (folder, text) in [
        ("smoke/20261121T000000Z-1", Some(verdict("smoke", 1, "valid", true, 300))),
        ("smoke/20261121T000100Z-2", Some(verdict("smoke", 2, "valid", true, 100))),
        ("smoke/20261121T000200Z-3", Some(verdict("smoke", 3, "violation", false, 200))),
        ("load/20261121T000300Z-4", None),
        ("nightly/lease/sim-5", None),
    ] {
        write(results.path(), &format!("{folder}/plan.toml"), "workload = \"w\"\n");
        write(results.path(), &format!("{folder}/history.jsonl"), HEADER);
        write(results.path(), &format!("{folder}/logs/node-1.log"), "<script>alert(1)</script>\n");
        if let Some(text) = text {
            write(results.path(), &format!("{folder}/verdict.json"), &text);
            write(results.path(), &format!("{folder}/report.html"), "<!doctype html><p>a report</p>");
        }
    }
    write(results.path(), "README.md", "what stands here is no run");
    symlink("smoke/20261121T000000Z-1", results.path().join("latest")).expect("linked");
    results
}

#[test]
fn runs_are_listed_with_what_they_have_come_to_and_which_would_be_removed() {
    let results = results();
    let server = Server::start(results.path());
    let listing = server.json("/api/runs");
    let rows = listing["runs"].as_array().expect("rows");
    let row =
        |place: &str| rows.iter().find(|row| row["place"] == place).unwrap_or_else(|| panic!("{listing:#}"));
    assert_eq!(rows.len(), 5);
    let smoke = row("smoke/20261121T000000Z-1");
    assert_eq!(
        (&smoke["state"], &smoke["operations"], &smoke["faults"]),
        (&"valid".into(), &300.into(), &2.into())
    );
    assert_eq!((&smoke["goes"], &row("smoke/20261121T000100Z-2")["goes"]), (&true.into(), &false.into()));
    assert_eq!(row("load/20261121T000300Z-4")["state"], "no-verdict");
    let simulated = row("nightly/lease/sim-5");
    assert_eq!((&simulated["simulated"], &simulated["campaign"]), (&true.into(), &"nightly".into()));
    let run = server.json("/api/run/smoke/20261121T000200Z-3");
    assert_eq!(
        (&run["state"], &run["checks"][0]["findings"][0]),
        (&"violation".into(), &"<b>key</b> 3".into())
    );
    let files: Vec<&str> =
        run["files"].as_array().expect("files").iter().filter_map(|file| file["name"].as_str()).collect();
    assert_eq!(files, ["history.jsonl", "plan.toml", "report.html", "verdict.json", "logs/node-1.log"]);
    // a folder of a run itself is served as well
    let one = Server::start(&results.path().join("latest"));
    assert_eq!(one.json("/api/runs")["runs"][0]["seed"], 1);
    assert_eq!(one.json("/api/run/")["workload"], "smoke");
    assert_eq!((one.get("/run/").status, one.get("/file/plan.toml").status), (200, 200));
}

#[test]
fn nothing_but_files_of_runs_is_given_and_nothing_is_changed() {
    let results = results();
    let outside = tempfile::tempdir().expect("a folder");
    write(outside.path(), "secret", "SECRET");
    write(results.path(), "smoke/20261121T000000Z-1/.hidden", "SECRET");
    let run = results.path().join("smoke/20261121T000000Z-1");
    symlink(outside.path(), run.join("out")).expect("linked");
    symlink(outside.path().join("secret"), run.join("link")).expect("linked");
    let pipe = Command::new("mkfifo").arg(run.join("pipe")).status().expect("it runs");
    assert!(pipe.success());
    let server = Server::start(results.path());
    let base = "/file/smoke/20261121T000000Z-1";
    assert_eq!(server.get(&format!("{base}/plan.toml")).text(), "workload = \"w\"\n");
    let absolute = format!("/file/{}", outside.path().join("secret").display());
    let up = "../".repeat(12);
    let tricks = [
        format!("{base}/.hidden"),
        format!("{base}/link"),
        format!("{base}/out/secret"),
        format!("{base}/pipe"),
        format!("{base}/logs"),
        format!("{base}/../../README.md"),
        format!("{base}/{up}{}", outside.path().join("secret").display()),
        format!("{base}/%2e%2e/%2e%2e/README.md"),
        format!("{base}/..%2f..%2fREADME.md"),
        format!("{base}/..%5cREADME.md"),
        format!("{base}/%252e%252e/plan.toml"),
        format!("{base}//plan.toml"),
        format!("{base}/plan.toml%00.html"),
        format!("{base}/plan.toml/"),
        format!("{base}/%ff"),
        format!("{base}/{}", "x".repeat(3000)),
        absolute.clone(),
        absolute.replace('/', "%2f").replacen("%2f", "/", 2),
        "/file/README.md".to_owned(),
        "/file/latest/plan.toml".to_owned(),
        "/file/".to_owned(),
        "/run/smoke".to_owned(),
        "/run/latest".to_owned(),
        "/api/run/smoke/..".to_owned(),
        "/api/live/nightly".to_owned(),
        "/assets/../Cargo.toml".to_owned(),
        "/nothing".to_owned(),
        "//".to_owned(),
    ];
    for path in &tricks {
        let answer = server.get(path);
        assert!([400, 404].contains(&answer.status), "{path}: {} {}", answer.status, answer.text());
        assert!(!answer.text().contains("SECRET"), "{path}");
    }
    for method in ["POST", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE", "PROPFIND"] {
        let answer = server.ask(method, "/api/runs", &[]);
        assert_eq!((answer.status, answer.header("allow")), (405, Some("GET, HEAD")), "{method}");
    }
    let get = "GET /api/runs HTTP/1.1";
    let close = "Connection: close";
    let of = |lines: &[&str]| server.says(lines).status;
    assert_eq!(of(&[get, "Host: localhost:1", close]), 200);
    assert_eq!(of(&[get, "Host: [::1]:80", close]), 200);
    for host in ["Host: evil.example", "Host: evil.example:8080", "Host: 127.0.0.1.evil.example", "Host:"] {
        let answer = server.says(&[get, host, close]);
        assert!(answer.status == 421 && !answer.text().contains("smoke"), "{host}: {}", answer.status);
    }
    assert_eq!(of(&[get, close]), 400);
    assert_eq!(of(&[get, "Host: localhost", "Host: evil.example", close]), 400);
    assert_eq!(of(&["GET http://evil.example/api/runs HTTP/1.1", "Host: localhost", close]), 421);
    assert_eq!(of(&["nonsense", close]), 400);
}

#[test]
fn every_answer_says_what_a_browser_may_do_with_it() {
    let results = results();
    let server = Server::start(results.path());
    let base = "/file/smoke/20261121T000000Z-1";
    write(results.path(), "smoke/20261121T000000Z-1/evil.html", "<script>alert(1)</script>");
    write(results.path(), "smoke/20261121T000000Z-1/data/disk", "\u{1}");
    for (path, kind, policy) in [
        ("/", "text/html; charset=utf-8", "script-src 'self'"),
        ("/run/smoke/20261121T000000Z-1", "text/html; charset=utf-8", "script-src 'self'"),
        ("/assets/runs.js", "text/javascript; charset=utf-8", "default-src 'none'"),
        ("/assets/report.css", "text/css; charset=utf-8", "default-src 'none'"),
        ("/api/runs", "application/json", "sandbox"),
        (&format!("{base}/report.html"), "text/html; charset=utf-8", "sandbox allow-scripts"),
        (&format!("{base}/evil.html"), "text/plain; charset=utf-8", "sandbox"),
        (&format!("{base}/logs/node-1.log"), "text/plain; charset=utf-8", "sandbox"),
        (&format!("{base}/verdict.json"), "application/json", "sandbox"),
        (&format!("{base}/data/disk"), "application/octet-stream", "sandbox"),
        ("/nothing", "text/plain; charset=utf-8", "sandbox"),
    ] {
        let answer = server.get(path);
        assert_eq!(answer.header("content-type"), Some(kind), "{path}");
        let given = answer.header("content-security-policy").unwrap_or_default();
        assert!(given.contains(policy) && given.contains("default-src 'none'"), "{path}: {given}");
        assert!(
            !given.contains("allow-same-origin") && given.contains("frame-ancestors 'none'"),
            "{path}: {given}"
        );
        for (name, value) in [
            ("x-content-type-options", "nosniff"),
            ("x-frame-options", "DENY"),
            ("referrer-policy", "no-referrer"),
            ("cross-origin-resource-policy", "same-origin"),
            ("cache-control", "no-store"),
        ] {
            assert_eq!(answer.header(name), Some(value), "{path}: {name}");
        }
        assert_eq!(answer.header("access-control-allow-origin"), None);
        let length = answer.body.len().to_string();
        assert_eq!(answer.header("content-length"), Some(length.as_str()), "{path}");
        let head = server.ask("HEAD", path, &[]);
        assert_eq!((head.status, head.body.len()), (answer.status, 0), "{path}");
        if path != "/api/runs" {
            assert_eq!(head.header("content-length"), Some(length.as_str()), "{path}");
        }
    }
}

#[test]
fn a_large_file_is_streamed_and_a_part_of_it_is_given() {
    const LENGTH: u64 = 400 << 20;
    let results = results();
    let run = results.path().join("smoke/20261121T000000Z-1");
    let file = File::create(run.join("history.jsonl")).expect("made");
    file.set_len(LENGTH).expect("made long");
    std::os::unix::fs::FileExt::write_all_at(&file, b"in the middle", LENGTH / 2).expect("written");
    let server = Server::start(results.path());
    let path = "/file/smoke/20261121T000000Z-1/history.jsonl";
    let range = |range: &str| server.ask("GET", path, &[&format!("Range: bytes={range}")]);
    let middle = range(&format!("{}-{}", LENGTH / 2, LENGTH / 2 + 12));
    assert_eq!((middle.status, middle.text().as_str()), (206, "in the middle"));
    assert_eq!(
        middle.header("content-range"),
        Some(format!("bytes {}-{}/{LENGTH}", LENGTH / 2, LENGTH / 2 + 12).as_str())
    );
    assert_eq!((range("-5").status, range("-5").body.len()), (206, 5));
    let beyond = range(&format!("{LENGTH}-"));
    assert_eq!(
        (beyond.status, beyond.header("content-range")),
        (416, Some(format!("bytes */{LENGTH}").as_str()))
    );
    let unless = server.ask("HEAD", path, &["Range: bytes=0-1", "If-Range: \"x\""]);
    assert_eq!((unless.status, unless.header("content-length")), (200, Some(LENGTH.to_string().as_str())));
    let mut stream = TcpStream::connect(server.address).expect("it listens");
    stream.set_read_timeout(Some(DEADLINE)).expect("a deadline");
    write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").expect("sent");
    let received = std::io::copy(&mut stream, &mut std::io::sink()).expect("all of it");
    assert!(received > LENGTH && received < LENGTH + 2000, "{received}");
    assert!(server.most_memory() < 100 << 10, "{} kB", server.most_memory());
}

#[test]
fn a_run_is_followed_while_it_is_written() {
    let results = results();
    let run = results.path().join("smoke/20261122T000000Z-7");
    write(&run, "plan.toml", "workload = \"smoke\"\n");
    fs::create_dir(run.join("trace")).expect("made");
    let lock = File::open(run.join("plan.toml")).expect("there");
    lock.lock().expect("locked");
    let server = Server::start(results.path());
    let state = |state: &'static str| {
        server.until("/api/runs", |listing| {
            let rows = listing["runs"].as_array().expect("rows");
            rows.iter().any(|row| row["place"] == "smoke/20261122T000000Z-7" && row["state"] == state)
        })
    };
    state("running");
    let live = "/api/live/smoke/20261122T000000Z-7";
    let booting = server.json(live);
    assert_eq!((&booting["running"], &booting["phase"]), (&true.into(), &Value::Null));
    let history = run.join("history.jsonl");
    append(&history, HEADER);
    append(&history, "{\"record\":\"phase\",\"time\":1000,\"name\":\"warm-up\"}\n");
    server.until(live, |live| live["phase"] == "warm-up");
    let op = |time: u64, kind: &str| {
        let who = format!(r#""process":{time},"client":1,"node":1,"type":"{kind}","f":"get","key":1"#);
        format!("{{\"record\":\"op\",\"time\":{time},{who},\"error\":\"e\"}}\n")
    };
    append(
        &history,
        &(op(2_000_000_000, "invoke") + &op(2_100_000_000, "invoke") + &op(2_200_000_000, "fail")),
    );
    let seen = server.until(live, |live| live["operations"]["get"]["fail"] == 1);
    assert_eq!((&seen["open"], &seen["throughput"]["counts"][8]), (&1.into(), &serde_json::json!([0, 1, 0])));
    append(&history, &pause("leader(1)"));
    let seen = server.until(live, |live| live["in_force"].as_array().is_some_and(|faults| faults.len() == 1));
    assert_eq!(seen["in_force"][0]["words"], "pause leader(1) -> node 2");
    let ballot = r#"{"config":0,"number":3,"priority":0,"node":2}"#;
    let leading =
        r#"{"node":2,"boot":1,"common":4000000000,"local":1,"kind":"leading","partition":1,"ballot":"#;
    append(&run.join("trace/node-2.jsonl"), &format!("{leading}{ballot}}}\n"));
    let seen = server.until(live, |live| !live["leaders"]["1"].is_null());
    assert_eq!((&seen["leaders"]["1"]["node"], &seen["leaders"]["1"]["since"]), (&2.into(), &3.0.into()));
    // whoever wrote it is gone: nothing is left of the lock
    drop(lock);
    server.until(live, |live| live["running"] == false);
    state("no-verdict");
}

#[test]
fn a_real_run_is_seen_to_go_on_and_once_it_is_killed_to_have_ended() {
    let results = tempfile::tempdir().expect("a folder");
    let server = Server::start(results.path());
    assert_eq!(server.json("/api/runs")["runs"], serde_json::json!([]));
    let workload = Path::new(env!("CARGO_MANIFEST_DIR")).join("../workloads/smoke.toml");
    let mut command = Command::new(env!("CARGO_BIN_EXE_harness"));
    command.arg("run").arg(workload).arg("--out").arg(results.path()).arg("--quiet");
    let mut run = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("it starts");
    let listing = server.until("/api/runs", |listing| listing["runs"][0]["state"] == "running");
    let place = listing["runs"][0]["place"].as_str().expect("a place").to_owned();
    let live = format!("/api/live/{place}");
    let has =
        |live: &Value, what: &str| live["operations"][what]["ok"].as_u64().is_some_and(|count| count > 0);
    let seen = server.until(&live, |live| {
        let leads = |leader: &Value| !leader.is_null();
        has(live, "get")
            && has(live, "put")
            && live["leaders"].as_object().is_some_and(|all| all.len() == 3 && all.values().all(leads))
    });
    assert_eq!((&seen["running"], &seen["unreadable"]), (&true.into(), &0.into()));
    run.kill().expect("it lived until now");
    run.wait().expect("it is dead");
    server.until(&live, |live| live["running"] == false);
    server.until("/api/runs", |listing| listing["runs"][0]["state"] == "no-verdict");
}

#[test]
fn a_thousand_silent_connections_keep_nobody_out() {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    let raised = rustix::process::Rlimit { current: limit.maximum, maximum: limit.maximum };
    rustix::process::setrlimit(rustix::process::Resource::Nofile, raised).expect("raised");
    let results = results();
    let server = Server::start(results.path());
    let mut silent = Vec::new();
    for number in 0..1000 {
        let mut stream = TcpStream::connect_timeout(&server.address, DEADLINE).expect("it listens");
        if number % 2 == 0 {
            stream.write_all(b"GET / HT").expect("sent");
        }
        silent.push(stream);
    }
    for _ in 0..3 {
        assert_eq!(server.get("/api/runs").status, 200);
    }
    let open = fs::read_dir(format!("/proc/{}/fd", server.child.id())).expect("it lives").count();
    assert!(open < 400, "{open} file descriptors");
    assert!(server.most_memory() < 60 << 10, "{} kB", server.most_memory());
    // the first ones had to go
    silent[0].set_read_timeout(Some(DEADLINE)).expect("a deadline");
    assert!(matches!(silent[0].read(&mut [0; 64]), Ok(0) | Err(_)));
}

#[test]
fn what_cannot_be_served_is_said() {
    let results = results();
    let server = Server::start(results.path());
    let run = |arguments: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_harness"))
            .arg("serve")
            .args(arguments)
            .output()
            .expect("it runs");
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let folder = results.path().to_str().expect("text");
    let (code, says) = run(&[folder, "--listen", &server.address.to_string()]);
    assert_eq!(code, Some(4), "{says}");
    assert!(says.contains("another program does") && says.contains("--listen 127.0.0.1:0"), "{says}");
    let (code, says) = run(&[&format!("{folder}/nowhere")]);
    assert_eq!(code, Some(2));
    assert!(says.contains("there is no such folder"), "{says}");
    assert_eq!(run(&[&format!("{folder}/README.md")]).0, Some(2));
    assert_eq!(run(&[folder, "--listen", "nowhere"]).0, Some(2));
    assert_eq!(run(&[folder, "--keep", "0"]).0, Some(2));
}
