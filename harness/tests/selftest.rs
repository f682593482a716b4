//! `harness selftest` finds every fault to do what it says, and finds out each one that does not.

use std::process::Command;

use serde_json::Value;

/// The exit code and the rows.
fn selftest(arguments: &[&str]) -> (Option<i32>, Vec<Value>) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_harness"));
    let output = command.arg("selftest").arg("--json").args(arguments).output().expect("it runs");
    let text = String::from_utf8(output.stdout).expect("text");
    let mut lines = text.lines();
    let rows = lines.next().expect("a line of JSON");
    assert!(lines.next_back().is_some_and(|last| last.starts_with("VERDICT ")), "{text}");
    (output.status.code(), serde_json::from_str(rows).expect("rows"))
}

fn names(rows: &[Value], finding: &str) -> Vec<String> {
    let with = rows.iter().filter(|row| row["finding"] == finding);
    with.map(|row| format!("{}: {}", row["primitive"], row["reasons"])).collect()
}

#[test]
fn every_fault_does_what_it_says_and_nothing_else() {
    let (code, rows) = selftest(&[]);
    assert_eq!(names(&rows, "broken"), Vec::<String>::new());
    // a busy machine may leave some undecided, which is not green
    let undecided = names(&rows, "undecided");
    assert_eq!(code, Some(if undecided.is_empty() { 0 } else { 3 }), "{undecided:?}");
    assert!(rows.len() >= 22, "{rows:?}");
    let row = |name: &str| rows.iter().find(|row| row["primitive"] == name).expect("a row");
    let counts = |name: &str| ["arrived", "later", "lost"].map(|column| row(name)[column].clone());
    assert_eq!(counts("hold"), [0, 20, 0]);
    assert_eq!(counts("sever"), [0, 0, 20]);
    assert_eq!(counts("hold the 3rd"), [19, 1, 0]);
    assert_eq!(counts("drop Accept, ballot >= 3"), [8, 0, 4]);
}

#[test]
fn a_fault_that_does_nothing_is_found_out() {
    let (code, rows) = selftest(&["--sabotage", "idle"]);
    let found = names(&rows, "broken").len();
    assert_eq!((code, found), (Some(1), rows.len()), "{:?}", names(&rows, "proven"));
}

#[test]
fn a_fault_that_meets_everybody_is_found_out() {
    let (code, rows) = selftest(&["--sabotage", "everywhere"]);
    let found = names(&rows, "broken").len();
    assert_eq!((code, found), (Some(1), rows.len()), "{:?}", names(&rows, "proven"));
}
