//! The command line.

#![allow(dead_code, reason = "not every test runs it")]
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::process::{Command, Output};

pub fn run(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_checker")).args(arguments).output().unwrap()
}

/// The exit code and the last line of a check of this text.
pub fn checked(text: &str, arguments: &[&str]) -> (i32, String) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("history");
    fs::write(&file, text).unwrap();
    let output = run(&[&["check", file.to_str().unwrap()], arguments].concat());
    let text = if output.status.code() == Some(2) { output.stderr } else { output.stdout };
    let text = String::from_utf8(text).unwrap().replace(file.to_str().unwrap(), "FILE");
    (output.status.code().unwrap(), text.lines().last().unwrap_or_default().to_owned())
}

/// A history in EDN from short events: process, type, function, value.
pub fn edn(events: &[(i64, &str, &str, &str)]) -> String {
    let event = |(process, kind, function, value): &(i64, &str, &str, &str)| {
        format!("{{:process {process}, :type :{kind}, :f :{function}, :value {value}}}\n")
    };
    events.iter().map(event).collect()
}
