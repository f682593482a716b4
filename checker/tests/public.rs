//! Public histories that nobody on this project wrote, with the verdicts that their origins state.
//!
//! They are not part of the project. `CHECKER_HISTORIES` names their folder, or a folder beside this workspace holds it as
//! `histories`; where neither is there, the test says so.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The folder with `expected.csv`.
fn folder() -> Option<PathBuf> {
    if let Some(named) = std::env::var_os("CHECKER_HISTORIES") {
        return Some(named.into());
    }
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).parent()?;
    let beside = fs::read_dir(workspace.parent()?).ok()?;
    let folders = beside.flatten().map(|entry| entry.path().join("histories"));
    folders.into_iter().find(|folder| folder.join("expected.csv").is_file())
}

#[test]
fn public_histories_get_the_verdicts_that_their_origins_state() {
    let Some(folder) = folder() else {
        eprintln!("skipped: no folder of public histories; CHECKER_HISTORIES names one");
        return;
    };
    let expected = fs::read_to_string(folder.join("expected.csv")).unwrap();
    let mut wrong = Vec::new();
    let mut count = 0;
    for line in expected.lines().skip(1) {
        let [file, format, model, verdict] = line.split(',').collect::<Vec<_>>()[..] else {
            panic!("{line}?")
        };
        // the formats are told apart without being named, but for what a failed cas means
        for arguments in [&["--format", format, "--model", model, "--verify"][..], &["--time-limit", "20s"]] {
            let path = folder.join(file);
            let output = Command::new(env!("CARGO_BIN_EXE_checker"))
                .arg("check")
                .arg(path)
                .args(arguments)
                .output()
                .unwrap();
            let stdout = String::from_utf8_lossy(&output.stdout);
            let last = stdout.lines().last().unwrap_or_default();
            let code = i32::from(verdict != "valid");
            if output.status.code() != Some(code) || !last.starts_with(&format!("VERDICT {verdict}")) {
                wrong.push(format!(
                    "{file} {arguments:?}: {last} {}",
                    String::from_utf8_lossy(&output.stderr)
                ));
            }
            count += 1;
        }
    }
    assert!(wrong.is_empty(), "{} of {count}:\n{}", wrong.len(), wrong.join("\n"));
    assert!(count > 0, "expected.csv names nothing");
}
