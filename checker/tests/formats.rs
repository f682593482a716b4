//! Every format on the command line: what it means, what is refused and where; the compact form; and parsers that are fed damage.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::fs;
use std::path::Path;

use checker::budget::Budget;
use checker::compact::{self, Compact};
use checker::formats::{self, Format};
use checker::history::{History, Record};
use checker::linearizability::{Verdict, check, check_compact};
use support::Random;
use support::command::{checked, edn, run};
use support::runs::{Shape, make_stale, recorded};

#[test]
fn the_models_are_judged_in_edn() {
    let write_read = |read| {
        edn(&[
            (0, "invoke", "write", "1"),
            (0, "ok", "write", "1"),
            (1, "invoke", "read", "nil"),
            (1, "ok", "read", read),
        ])
    };
    let acquired = |second| {
        edn(&[
            (0, "invoke", "acquire", "nil"),
            (0, "ok", "acquire", "nil"),
            (1, "invoke", "acquire", "nil"),
            (1, second, "acquire", "nil"),
        ])
    };
    let counted = |read| {
        edn(&[
            (0, "invoke", "add", "2"),
            (0, "info", "add", "2"),
            (1, "invoke", "add", "3"),
            (1, "ok", "add", "3"),
            (1, "invoke", "read", "nil"),
            (1, "ok", "read", read),
        ])
    };
    let queued = |first, second| {
        edn(&[
            (0, "invoke", "enqueue", "1"),
            (0, "ok", "enqueue", "1"),
            (0, "invoke", "enqueue", "2"),
            (0, "ok", "enqueue", "2"),
            (1, "invoke", "dequeue", "nil"),
            (1, "ok", "dequeue", first),
            (1, "invoke", "dequeue", "nil"),
            (1, "ok", "dequeue", second),
        ])
    };
    let registers = |read| {
        edn(&[
            (0, "invoke", "txn", "[[:write :x 1] [:write :y 2]]"),
            (0, "ok", "txn", "[[:write :x 1] [:write :y 2]]"),
            (1, "invoke", "txn", "[[:read :x nil] [:read :y nil]]"),
            (1, "ok", "txn", read),
        ])
    };
    let cases = [
        ("register", write_read("1"), 0),
        ("register", write_read("2"), 1),
        ("cas-register", write_read("0"), 1),
        ("mutex", acquired("info"), 0),
        ("mutex", acquired("fail"), 0),
        ("mutex", acquired("ok"), 1),
        ("counter", counted("3"), 0),
        ("counter", counted("5"), 0),
        ("counter", counted("2"), 1),
        ("set", counted("#{3}"), 0),
        ("set", counted("[2 3]"), 0),
        ("set", counted("#{2}"), 1),
        ("queue", queued("1", "2"), 0),
        ("queue", queued("2", "1"), 1),
        ("multi-register", registers("[[:read :x 1] [:read :y nil]]"), 0),
        ("multi-register", registers("[[:read :x 1] [:read :y 1]]"), 1),
    ];
    for (model, text, code) in cases {
        let (found, last) = checked(&text, &["--model", model, "--verify"]);
        assert_eq!(found, code, "{model}: {last}\n{text}");
    }
}

#[test]
fn a_register_begins_as_it_is_said() {
    let text = edn(&[(0, "invoke", "read", "nil"), (0, "ok", "read", "7")]);
    assert_eq!(checked(&text, &[]).0, 1, "it begins with 0");
    assert_eq!(checked(&text, &["--initial", "7"]).0, 0);
    let nothing = edn(&[(0, "invoke", "read", "nil"), (0, "ok", "read", "nil")]);
    assert_eq!(checked(&nothing, &["--initial", "7"]).0, 0, "a read of nil says nothing");
    let text = "0 :invoke :read nil\n0 :ok :read nil\n";
    assert_eq!(checked(text, &["--initial", "7"]).0, 1, "in columns it says that the register holds nothing");
}

#[test]
fn keys_are_judged_on_their_own() {
    let text = edn(&[
        (0, "invoke", "write", "[:a 1]"),
        (0, "ok", "write", "[:a 1]"),
        (0, "invoke", "read", "[:b nil]"),
        (0, "ok", "read", "[:b 0]"),
        (0, "invoke", "cas", "[:a [1 2]]"),
        (0, "ok", "cas", "[:a [1 2]]"),
        (0, "invoke", "read", "[:a nil]"),
        (0, "ok", "read", "[:a 1]"),
    ]);
    let (code, last) = checked(&text, &[]);
    assert!(code == 1 && last.starts_with("VERDICT violation key :a line 8"), "{last}");
}

#[test]
fn what_does_not_fit_is_refused_with_its_place() {
    let cases = [
        (
            "[{:process 0, :type :invoke, :f :read}\n {:process 0, :type :done",
            "line 2, column 2: this is never closed",
        ),
        ("[{:process 0, :type :invoke, :f :read}", "line 1, column 1: the history is never closed"),
        ("{:process 0, :type :done, :f :read}", "line 1, column 1: :type is done"),
        ("{:process 0, :type :ok, :f :read}", "line 1, column 1: process 0 completes (ok) without"),
        (
            "0 :invoke :read nil\n0 :invoke :read nil\n",
            "line 2, column 1: process 0 invokes an operation while",
        ),
        ("0 :invoke :read nil\n0 :ok :write 1\n", "line 2, column 1: this ok of :write 1 does not match"),
        ("0 :invoke :dance nil\n", "line 1, column 1: this model does not know :dance"),
        ("0 :invoke :cas 1\n", "line 1, column 1: a cas has two values"),
        ("0 :invoke :write [1\n", "line 1, column 18: this is never closed"),
        ("hello", "not a history that is known"),
    ];
    for (text, expected) in cases {
        let (code, last) = checked(text, &[]);
        assert!(code == 2 && last.contains(expected), "{text}: {code} {last}");
    }
}

fn shapes() -> Vec<Shape> {
    let base = Shape { operations: 3000, keys: 5, clients: 10, unknown: 30, values: 0, deletes: false };
    vec![
        base,
        Shape { deletes: true, unknown: 0, ..base },
        Shape { values: 6, keys: 20, operations: 2000, ..base },
    ]
}

fn in_compact_form(history: &History, file: &Path) -> Compact {
    let mut bytes = Vec::new();
    compact::write(history, &mut bytes).unwrap();
    fs::write(file, bytes).unwrap();
    Compact::read(file).unwrap()
}

#[test]
fn the_compact_form_gets_the_same_report() {
    let folder = tempfile::tempdir().unwrap();
    for (number, shape) in shapes().iter().enumerate() {
        for stale in [false, true] {
            let mut records: Vec<Record> = recorded(shape, 3);
            if stale {
                make_stale(&mut records);
            }
            let history = History::from_records(records).unwrap();
            let compact = in_compact_form(&history, &folder.path().join("history"));
            let (expected, found) =
                (check(&history, Budget::default()), check_compact(&compact, Budget::default()));
            assert_eq!(
                (found.keys, found.operations),
                (expected.keys, expected.operations),
                "shape {number}"
            );
        }
    }
}

#[test]
fn a_converted_history_is_judged_on_the_command_line() {
    let folder = tempfile::tempdir().unwrap();
    let (json, small) = (folder.path().join("history.jsonl"), folder.path().join("history.compact"));
    let mut records = recorded(&shapes()[0], 3);
    make_stale(&mut records);
    let lines: Vec<String> = records.iter().map(|record| serde_json::to_string(record).unwrap()).collect();
    fs::write(&json, lines.join("\n") + "\n").unwrap();
    let [json, small] = [&json, &small].map(|path| path.to_str().unwrap());
    assert!(run(&["convert", json, "-o", small]).status.success());
    assert!(fs::metadata(small).unwrap().len() * 5 < fs::metadata(json).unwrap().len());
    let told = |file| {
        let output = run(&["check", file]);
        assert_eq!(output.status.code(), Some(1));
        let text = String::from_utf8(output.stdout).unwrap();
        text.lines().filter(|line| !line.starts_with("VERDICT")).collect::<Vec<_>>().join("\n")
    };
    assert_eq!(told(json), told(small));
    assert!(told(small).contains("get read"));
}

/// A compact history of two puts and a get of one key, its bytes by parts: head, events, end and values.
fn small_compact() -> [Vec<u8>; 4] {
    let key = b"\x03\"k\"";
    let head = [b"LINHIST1".as_slice(), &[3, 1], key, &[2, 0]].concat();
    // put 1, put 2, get 2, one after the other
    let events = [
        1, 1, 0, 0, 0, 0, 1, 1, 4, 1, 0, 0, 1, 1, 0, 0, 0, 0, 1, 2, 4, 1, 0, 0, 0, 1, 0, 0, 0, 0, 1, 4, 1, 0,
        0, 2,
    ];
    [head, events.to_vec(), vec![255], b"\x01a\x01b".to_vec()]
}

#[test]
fn a_compact_history_is_read_to_its_last_byte() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("history");
    let read = |bytes: &[u8]| {
        fs::write(&file, bytes).unwrap();
        Compact::read(&file).map(|read| check_compact(&read, Budget::default()).verdict())
    };
    let refused = |bytes: &[u8], words: &str| {
        let message = read(bytes).expect_err(words).to_string();
        assert!(message.contains(words), "{message} is not: {words}");
    };
    let [head, events, end, values] = small_compact();
    let all = [&head[..], &events, &end, &values].concat();
    assert_eq!(read(&all).unwrap(), Verdict::Valid);
    for cut in 0..all.len() {
        read(&all[..cut]).expect_err("it is cut off");
    }
    refused(&[&all[..], b"x"].concat(), "bytes behind the end");
    // where an event begins, the end mark has come instead
    for place in [8, 20] {
        let mut damaged = all.clone();
        damaged[head.len() + place + 4 - 4 * usize::from(place == 8)] = 255;
        read(&damaged).expect_err("a history that ends too early");
    }
    let mut short = [&head[..], &events[..12], &end, &values].concat();
    refused(&short, "1 operations, where the beginning tells of 3");
    short[8] = 1;
    assert_eq!(read(&short).unwrap(), Verdict::Valid);
    let two = [b"LINHIST1".as_slice(), &[0, 2], b"\x03\"k\"", &[0, 0], b"\x03\"k\"", &[0, 0, 255]].concat();
    refused(&two, "the key k is there already");
    let many =
        [b"LINHIST1".as_slice(), &[0, 2], b"\x01\x31", &[2, 0], b"\x01\x32", &[3, 0, 255, 0, 0]].concat();
    refused(&many, "values, in a file that is too short for them");
}

#[test]
fn a_compact_history_that_has_gone_is_judged_with_fewer_words() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("history");
    let [head, mut events, end, values] = small_compact();
    *events.last_mut().unwrap() = 1;
    fs::write(&file, [head, events, end, values].concat()).unwrap();
    let read = Compact::read(&file).unwrap();
    fs::remove_file(&file).unwrap();
    let Verdict::Violation(violation) = check_compact(&read, Budget::default()).verdict() else { panic!() };
    assert!(violation.text.contains("no order explains"), "{}", violation.text);
}

/// Feeds a parser a text with pieces cut out, doubled and overwritten: it must come back, with a history or an error with
/// its place.
fn survives(name: &str, text: &[u8], read: impl Fn(&[u8]) -> Result<(), String>) {
    let mut random = Random::new(5);
    let cases = std::env::var("CHECKER_CASES").ok().and_then(|text| text.parse().ok()).unwrap_or(2000);
    let mut refused = 0;
    for _ in 0..cases {
        let mut bytes = text.to_vec();
        for _ in 0..=random.below(3) {
            let at = random.below(bytes.len() as u64) as usize;
            let end = (at + 1 + random.below(12) as usize).min(bytes.len());
            match random.below(4) {
                0 => drop(bytes.drain(at..end)),
                1 => {
                    let piece = bytes[at..end].to_vec();
                    bytes.splice(at..at, piece);
                }
                2 => bytes[at] = b"()[]{}\"\\;:#^, \n09"[random.below(17) as usize],
                _ => bytes[at] = random.below(256) as u8,
            }
            if bytes.is_empty() {
                bytes.push(b' ');
            }
        }
        if let Err(message) = read(&bytes) {
            assert!(message.contains("line ") && message.contains("column "), "{name}: {message}");
            refused += 1;
        }
    }
    assert!(refused > cases / 10, "{name}: only {refused} of {cases} were refused");
}

#[test]
fn parsers_survive_damage() {
    let read = |format| {
        move |bytes: &[u8]| formats::read(bytes, format).map(drop).map_err(|error| error.to_string())
    };
    let text = edn(&[
        (0, "invoke", "write", "[1 \"a \\\" b\"]"),
        (1, "invoke", "cas", "#{1 2}"),
        (0, "ok", "write", "[1 #_x \\a]"),
        (1, "info", "cas", "{:a ^:b (1 2.5 nil)}"),
    ]);
    survives("edn", format!("[{text}]").as_bytes(), read(Format::Edn));
    survives("porcupine-kv", text.as_bytes(), read(Format::PorcupineKv));
    let columns =
        "INFO  jepsen.util - 0\t:invoke\t:cas\t[1 2]\nINFO  jepsen.util - 0\t:fail\t:cas\t[1 2]\n".repeat(2);
    survives("porcupine-log", columns.as_bytes(), read(Format::PorcupineLog));
    survives("jepsen-txt", columns.replace("INFO  jepsen.util - ", "").as_bytes(), read(Format::JepsenText));
    let records = recorded(&Shape { operations: 5, ..shapes()[1] }, 3);
    let lines: Vec<String> = records.iter().map(|record| serde_json::to_string(record).unwrap()).collect();
    survives("jsonl", (lines.join("\n") + "\n").as_bytes(), |bytes| {
        History::parse(bytes).map(drop).map_err(|error| error.to_string())
    });
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("history");
    let history = History::from_records(recorded(&Shape { operations: 20, ..shapes()[1] }, 3)).unwrap();
    let mut bytes = Vec::new();
    compact::write(&history, &mut bytes).unwrap();
    survives("compact", &bytes, |bytes| {
        fs::write(&file, bytes).unwrap();
        let read = Compact::read(&file).map_err(|error| error.to_string())?;
        // whatever could be read is judged, and told about
        let budget = Budget { steps: Some(1000), threads: Some(1), ..Budget::default() };
        for key in check_compact(&read, budget).keys {
            if let Verdict::Violation(violation) = key.verdict {
                assert!(!violation.operations.is_empty());
            }
        }
        Ok(())
    });
}
