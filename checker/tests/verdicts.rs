//! Histories written by hand, the budget, and the command line with its exit codes.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::process::{Command, Output};
use std::time::Duration;
use std::{fs, path::Path};

use checker::history::{Function, History, Key, Kind, OpResult, Record};
use checker::linearizability::{Budget, Verdict, check};
use support::{Recorder, result};

/// Builds a history of key "k" from a drawing: one line per operation, `process: call .. return function`. Positions in the
/// drawing give the order of events; `?` in the place of the return leaves it unknown, and with `!` before it the answer is that
/// it failed.
fn drawn(initial: Option<&str>, lines: &[&str]) -> Vec<Record> {
    let mut events: Vec<(u64, u64, Kind, Function, Option<OpResult>)> = Vec::new();
    for (process, line) in lines.iter().enumerate() {
        let mut words = line.split_whitespace();
        let mut word = || words.next().unwrap();
        let (call, ret, name) = (word().parse().unwrap(), word(), word());
        let value = |text: &str| (text != "-").then(|| text.to_owned());
        let key = Key::String("k".to_owned());
        let (function, answer) = match name {
            "get" => (Function::Get { key }, result(value(word()), None)),
            "put" => (Function::Put { key, value: word().to_owned() }, result(None, None)),
            "delete" => (Function::Delete { key }, result(None, None)),
            "cas" => {
                let function = Function::Cas { key, expected: value(word()), new: word().to_owned() };
                let seen = words.next().map(value);
                (function, result(seen.clone().flatten(), Some(seen.is_none())))
            }
            other => panic!("{other}?"),
        };
        let process = process as u64;
        events.push((call, process, Kind::Invoke, function.clone(), None));
        if let Some(failed) = ret.strip_prefix('!') {
            events.push((failed.parse().unwrap(), process, Kind::Fail, function, None));
        } else if ret != "?" {
            events.push((ret.parse().unwrap(), process, Kind::Ok, function, Some(answer)));
        }
    }
    events.sort_by_key(|event| event.0);
    let initial = initial.map(|value| (Key::String("k".to_owned()), value.to_owned()));
    let mut recorder = Recorder::new(initial.into_iter().collect());
    for (_, process, kind, function, result) in events {
        recorder.event(process, kind, function, result);
    }
    recorder.records
}

fn verdict(initial: Option<&str>, lines: &[&str]) -> Verdict {
    check(&History::from_records(drawn(initial, lines)).unwrap(), Budget::default()).verdict()
}

/// Name, initial value, drawing, the operations of the explanation, and words in it.
type Bad<'a> = (&'a str, Option<&'a str>, &'a [&'a str], &'a [usize], &'a str);

#[test]
fn linearizable_histories_are_valid() {
    // Here the unknown put explains the first read, too, but then it is missing for the last.
    let saved = [
        "1 ? put a",
        "2 12 put c",
        "3 13 cas c a",
        "4 10 get a",
        "14 15 put d",
        "16 17 get d",
        "18 19 get a",
    ];
    let cases: [(&str, Option<&str>, &[&str]); 12] = [
        ("an unknown write is saved for later", None, &saved),
        ("nothing", None, &[]),
        ("the initial value", Some("a"), &["1 2 get a"]),
        ("absent at first", None, &["1 2 get -", "3 4 cas - a", "5 6 get a"]),
        ("concurrent writes in either order", None, &["1 5 put a", "2 6 put b", "7 8 get a"]),
        ("a read may see a write that has not returned", None, &["1 9 put a", "2 3 get a", "4 5 get a"]),
        ("an unknown write may happen late", None, &["1 ? put a", "2 3 get -", "4 5 get a"]),
        ("an unknown write may never happen", None, &["1 ? put a", "2 3 put b", "4 5 get b", "6 7 get b"]),
        ("an unknown swap between two reads", None, &["1 2 put a", "3 ? cas a b", "4 5 get a", "6 7 get b"]),
        ("unknown swaps in a row", None, &["1 2 put a", "3 ? cas b c", "4 ? cas a b", "5 6 get c"]),
        ("a failed swap is a read", None, &["1 2 put a", "3 4 cas b c a", "5 6 delete", "7 8 cas a b -"]),
        ("the same value twice", None, &["1 2 put a", "3 4 put b", "5 6 put a", "7 8 get a"]),
    ];
    for (name, initial, lines) in cases {
        assert_eq!(verdict(initial, lines), Verdict::Valid, "{name}");
    }
}

#[test]
fn violations_are_found_and_explained() {
    let cases: [Bad<'_>; 14] = [
        (
            "a stale read",
            None,
            &["1 2 put a", "3 4 put b", "5 6 get a"],
            &[0, 1, 2],
            "although process 1 (put \"b\")",
        ),
        ("a lost write", None, &["1 2 put a", "3 4 get -"], &[0, 1], "although process 0 (put \"a\")"),
        ("a value from nowhere", Some("z"), &["1 2 put a", "3 4 get q"], &[1], "nobody wrote \"q\""),
        (
            "a read before its write",
            None,
            &["1 2 get a", "3 4 put a"],
            &[0],
            "\"a\" was asked for later only, by process 1 (put \"a\"), from 0.000000 s (line 4)",
        ),
        (
            "a write that failed",
            None,
            &["1 !2 put a", "3 4 get a"],
            &[0],
            "nobody wrote \"a\"; process 0 (put \"a\") asked to, from 0.000000 s (line 2), and was told that it had failed",
        ),
        (
            "a swap that failed",
            None,
            &["1 !2 cas - a", "3 4 get a"],
            &[0],
            "process 0 (cas absent to \"a\") asked to",
        ),
        ("nobody deletes", Some("a"), &["1 !2 put b", "3 4 get -"], &[0], "leaves none: nobody deleted it."),
        ("back and forth", None, &["1 9 put a", "2 3 get a", "4 5 get -"], &[0, 1, 2], "get read absent"),
        (
            "two swaps of one value",
            None,
            &["1 2 put a", "3 6 cas a b", "4 5 cas a c"],
            &[0, 1, 2],
            "cas \"a\"",
        ),
        ("a swap that cannot match", None, &["1 2 put a", "3 4 cas b c"], &[1], "nobody wrote \"b\""),
        ("failed although it matched", None, &["1 2 put a", "3 4 cas a b a"], &[1], "saw \"a\""),
        ("a deleted value", None, &["1 2 put a", "3 4 delete", "5 6 get a"], &[0, 1, 2], "(delete)"),
        (
            "an unknown write happens once",
            None,
            &["1 ? put a", "2 3 get a", "4 5 put b", "6 7 get b", "8 9 get a"],
            &[0, 1, 2, 4],
            "(get read \"a\")",
        ),
        (
            "a write that had not begun",
            None,
            &["1 2 put a", "3 4 get b", "5 ? put b"],
            &[1],
            "\"b\" was asked for later only, by process 2 (put \"b\")",
        ),
    ];
    for (name, initial, lines, core, words) in cases {
        let Verdict::Violation(violation) = verdict(initial, lines) else { panic!("{name}: not found") };
        assert_eq!(violation.operations, core, "{name}: {}", violation.text);
        assert!(violation.text.contains(words), "{name}: {}", violation.text);
        let stuck = violation.stuck.unwrap();
        assert!(core.contains(&stuck) && !violation.placed.contains(&stuck), "{name}: {violation:?}");
        assert!(violation.placed.iter().all(|placed| core.contains(placed)), "{name}: {violation:?}");
    }
}

#[test]
fn a_spent_budget_is_unknown_and_a_violation_elsewhere_counts_more() {
    let hard = ["1 30 put a", "2 31 put b", "3 32 put a", "4 33 put b", "34 35 get a", "36 37 get a"];
    let history = History::from_records(drawn(None, &hard)).unwrap();
    let tight = Budget { steps: Some(1), ..Budget::default() };
    let Verdict::Unknown(undecided) = check(&history, tight).verdict() else { panic!("decided in one step") };
    assert_eq!((undecided.reason, undecided.completed), ("step limit", 6));
    for budget in
        [Budget { memory: Some(0), ..Budget::default() }, Budget { steps: Some(0), ..Budget::default() }]
    {
        assert!(matches!(check(&history, budget).verdict(), Verdict::Unknown(_)));
    }
    assert_eq!(check(&history, Budget::default()).verdict(), Verdict::Valid);

    let mut records = drawn(None, &hard);
    for (process, kind) in [(90, Kind::Invoke), (90, Kind::Ok)] {
        let mut recorder = Recorder::new(Vec::new());
        let answer = (kind == Kind::Ok).then(|| result(Some("q".to_owned()), None));
        recorder.event(process, kind, Function::Get { key: Key::String("z".to_owned()) }, answer);
        recorder.time(1000);
        records.extend(recorder.records.pop());
    }
    let history = History::from_records(records).unwrap();
    assert!(matches!(check(&history, tight).verdict(), Verdict::Violation(_)));
}

#[test]
fn an_expired_time_limit_ends_a_long_search() {
    let wide: Vec<String> = (0..40).map(|n| format!("{} {} put v{}", n + 1, n + 100, n % 20)).collect();
    let mut lines: Vec<&str> = wide.iter().map(String::as_str).collect();
    let reads: Vec<String> =
        (0..21).map(|n| format!("{} {} get v{}", 300 + 2 * n, 301 + 2 * n, n % 20)).collect();
    lines.extend(reads.iter().map(String::as_str));
    let history = History::from_records(drawn(None, &lines)).unwrap();
    let report = check(&history, Budget { time: Some(Duration::from_millis(50)), ..Budget::default() });
    assert!(
        !matches!(report.verdict(), Verdict::Valid),
        "the reads come after all writes: {:?}",
        report.verdict()
    );
    assert!(report.elapsed < 2_000_000_000, "{} ns", report.elapsed);
}

fn run(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_checker")).args(arguments).output().unwrap()
}

fn last_line(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).lines().last().unwrap_or_default().to_owned()
}

fn write(path: &Path, records: &[Record]) {
    let lines: Vec<String> =
        records.iter().map(|record| serde_json::to_string(record).unwrap() + "\n").collect();
    fs::write(path, lines.concat()).unwrap();
}

#[test]
fn the_command_line_tells_verdicts_by_exit_codes() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("history.jsonl");
    let file = path.to_str().unwrap();

    write(&path, &drawn(None, &["1 2 put a", "3 4 get a"]));
    let output = run(&["check", file]);
    assert_eq!(output.status.code(), Some(0));
    assert!(
        last_line(&output).starts_with("VERDICT valid (2 operations on 1 keys"),
        "{}",
        last_line(&output)
    );

    write(&path, &drawn(None, &["1 2 put a", "3 4 get -"]));
    let output = run(&["check", file, "--json", "--format", "jsonl", "--model", "kv"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(last_line(&output).starts_with("VERDICT violation key k line 5"), "{}", last_line(&output));
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let report: serde_json::Value = serde_json::from_str(text.lines().next().unwrap()).unwrap();
    assert_eq!(report["keys"][0]["verdict"], "violation");
    assert_eq!(report["keys"][0]["operations"], serde_json::json!([0, 1]));

    let hard = ["1 30 put a", "2 31 put b", "3 32 put a", "4 33 get b", "34 35 get a"];
    write(&path, &drawn(None, &hard));
    let output = run(&["check", file, "--memory-limit", "1"]);
    assert_eq!(output.status.code(), Some(3));
    assert!(last_line(&output).starts_with("VERDICT unknown key k memory limit"), "{}", last_line(&output));

    fs::write(&path, "{}\n").unwrap();
    assert_eq!(run(&["check", file]).status.code(), Some(2));
    assert_eq!(run(&["check"]).status.code(), Some(2));
    assert_eq!(run(&["check", file, "--time-limit", "soon"]).status.code(), Some(2));
    let output = run(&["leases", folder.path().to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(2), "no traces are bad input");
    assert!(String::from_utf8_lossy(&output.stderr).contains("cannot read"));

    // nothing is in it, so nothing is shown
    let header = r#"{"record":"header","workload":"w","seed":1,"origin":5,"initial":[]}"#;
    fs::write(&path, header).unwrap();
    fs::create_dir(folder.path().join("trace")).unwrap();
    fs::write(folder.path().join("trace/node-1.jsonl"), "").unwrap();
    for arguments in [["sequential", file], ["leases", folder.path().to_str().unwrap()]] {
        let output = run(&arguments);
        assert_eq!(output.status.code(), Some(3), "{arguments:?}");
        assert!(last_line(&output).starts_with("VERDICT unknown no "), "{}", last_line(&output));
    }
}

/// A pipe gives its bytes once, and a few at a time: those that tell what form the history has are a part of it.
#[test]
fn a_history_that_comes_through_a_pipe_is_judged_as_its_file_is() {
    use std::{
        io::Write,
        process::{Command, Stdio},
    };
    let event = |process: u64, kind: &str, function: &str, value: &str| {
        format!("INFO  jepsen.util - {process}\t:{kind}\t:{function}\t{value}\n")
    };
    let mut text = String::new();
    for value in 1..400 {
        let value = value.to_string();
        text += &(event(0, "invoke", "write", &value) + &event(0, "ok", "write", &value));
    }
    text += &(event(1, "invoke", "read", "nil") + &event(1, "ok", "read", "1"));
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("history.log");
    fs::write(&path, &text).unwrap();
    let of_file = run(&["check", path.to_str().unwrap()]);
    assert_eq!(of_file.status.code(), Some(1), "{}", last_line(&of_file));
    let mut child = Command::new(env!("CARGO_BIN_EXE_checker"))
        .args(["check", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut pipe = child.stdin.take().unwrap();
    for line in text.split_inclusive('\n') {
        pipe.write_all(line.as_bytes()).unwrap();
    }
    drop(pipe);
    let of_pipe = child.wait_with_output().unwrap();
    assert_eq!(of_pipe.status.code(), Some(1), "{}", last_line(&of_pipe));
    let verdict = |output: &Output| last_line(output).split(" in ").next().unwrap().to_owned();
    assert_eq!(verdict(&of_pipe), verdict(&of_file));
}
