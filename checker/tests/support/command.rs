//! The command line.

#![allow(dead_code, reason = "not every test runs it")]
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::process::{Command, Output};

pub fn run(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_checker")).args(arguments).output().unwrap()
}

/// What a check of this text prints on standard output and standard error.
pub fn told(text: &str, arguments: &[&str]) -> (String, String) {
    let output = checking(text, arguments);
    let [stdout, stderr] = [output.stdout, output.stderr].map(|bytes| String::from_utf8(bytes).unwrap());
    (stdout, stderr)
}

/// The exit code and the last line of a check of this text.
pub fn checked(text: &str, arguments: &[&str]) -> (i32, String) {
    let output = checking(text, arguments);
    let text = if output.status.code() == Some(2) { output.stderr } else { output.stdout };
    let text = String::from_utf8(text).unwrap();
    (output.status.code().unwrap(), text.lines().last().unwrap_or_default().to_owned())
}

fn checking(text: &str, arguments: &[&str]) -> Output {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("history");
    fs::write(&file, text).unwrap();
    run(&[&["check", file.to_str().unwrap()], arguments].concat())
}

/// A history in EDN from short events: process, type, function, value.
pub fn edn(events: &[(i64, &str, &str, &str)]) -> String {
    let event = |(process, kind, function, value): &(i64, &str, &str, &str)| {
        format!("{{:process {process}, :type :{kind}, :f :{function}, :value {value}}}\n")
    };
    events.iter().map(event).collect()
}
