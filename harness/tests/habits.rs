//! What people expect of any command: a version that says what was built, completions, words that can be switched off.

use std::{
    fs,
    path::Path,
    process::{Command, Output},
};

fn harness(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_harness")).args(arguments).output().expect("it runs")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn the_version_says_what_was_built() {
    let output = harness(&["--version"]);
    let says = text(&output.stdout);
    assert!(
        output.status.success() && says.starts_with("harness 0.1.0 (") && says.ends_with(")\n"),
        "{says}"
    );
}

#[test]
fn a_release_names_its_commit_where_there_is_one() {
    let build = Path::new(env!("CARGO_MANIFEST_DIR")).join("build.rs");
    let folder = tempfile::tempdir().expect("a folder");
    let program = folder.path().join("build");
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let compiled = Command::new(rustc).arg("--edition=2024").arg(&build).arg("-o").arg(&program).status();
    assert!(compiled.is_ok_and(|status| status.success()), "the build script compiles on its own");
    let package = folder.path().join("clone/harness");
    fs::create_dir_all(package.join("src")).expect("made");
    fs::copy(&build, package.join("build.rs")).expect("copied");
    let says = |profile: &str| {
        let mut command = Command::new(&program);
        command.current_dir(&package).env("CARGO_PKG_VERSION", "1.2.3").env("PROFILE", profile);
        // whatever clone surrounds the folder for temporary files
        let output = command.env("GIT_CEILING_DIRECTORIES", folder.path()).output().expect("it runs");
        assert!(output.status.success());
        let lines = text(&output.stdout);
        let line = lines.lines().find_map(|line| line.strip_prefix("cargo:rustc-env=HARNESS_VERSION="));
        (line.expect("a version").to_owned(), lines.contains("rerun-if-changed=src"))
    };
    assert_eq!(says("debug"), ("1.2.3 (development build)".to_owned(), false));
    assert_eq!(says("release"), ("1.2.3 (commit unknown)".to_owned(), true));
    let git = |arguments: &[&str]| {
        let mut command = Command::new("git");
        command
            .current_dir(&package)
            .args(["-c", "user.name=n", "-c", "user.email=e@example.org"])
            .args(arguments);
        let output = command.output().expect("git runs");
        assert!(output.status.success(), "{output:?}");
        text(&output.stdout).trim().to_owned()
    };
    git(&["init", "--quiet", ".."]);
    git(&["commit", "--quiet", "--allow-empty", "-m", "of something else"]);
    assert_eq!(says("release").0, "1.2.3 (commit unknown)", "the sources are not of that clone");
    git(&["add", "build.rs"]);
    git(&["commit", "--quiet", "-m", "the sources"]);
    let commit = git(&["rev-parse", "--short=12", "HEAD"]);
    assert_eq!(says("release").0, format!("1.2.3 ({commit})"));
    fs::write(package.join("build.rs"), "// changed").expect("written");
    assert_eq!(says("release").0, format!("1.2.3 ({commit}, changed)"));
}

#[test]
fn shells_are_told_all_commands_but_those_of_the_machinery() {
    for (shell, begins) in
        [("bash", "_harness()"), ("zsh", "#compdef harness"), ("fish", "# Print an optspec")]
    {
        let output = harness(&["completions", shell]);
        let says = text(&output.stdout);
        assert!(
            output.status.success() && says.starts_with(begins),
            "{shell}: {}",
            &says[..200.min(says.len())]
        );
        for command in ["serve", "prune", "inspect", "explain-verdict", "completions"] {
            assert!(says.contains(command), "{shell}: {command}");
        }
    }
    assert_eq!(harness(&["completions", "dos"]).status.code(), Some(2));
}

#[test]
fn the_format_of_verdicts_is_explained() {
    let output = harness(&["explain-verdict"]);
    let says = text(&output.stdout);
    assert!(output.status.success() && says.starts_with("verdict.json, version 1"), "{says}");
    assert!(
        says.contains("as_expected: true or false") && says.lines().all(|line| line.len() <= 160),
        "{says}"
    );
    let output = harness(&["explain-verdict", "--schema"]);
    let schema: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(schema["anyOf"][0]["properties"]["version"]["enum"][0], 1);
}

#[test]
fn who_prunes_is_told_what_goes_and_then_it_is_gone() {
    let results = tempfile::tempdir().expect("a folder");
    for second in 1..4 {
        let run = results.path().join(format!("w/20261121T00000{second}Z-1"));
        fs::create_dir_all(&run).expect("made");
        fs::write(run.join("plan.toml"), "").expect("written");
        fs::write(run.join("verdict.json"), r#"{"verdict":"valid","as_expected":true}"#).expect("written");
    }
    let folder = results.path().to_str().expect("text");
    let prune = |more: &[&str]| {
        let output = harness(&[&["prune", folder][..], more].concat());
        (output.status.code(), text(&output.stdout), text(&output.stderr))
    };
    let runs = || fs::read_dir(results.path().join("w")).expect("read").count();
    let (code, says, _) = prune(&["--keep", "1", "--dry-run"]);
    assert_eq!((code, runs()), (Some(0), 3));
    assert!(
        says.contains("w/20261121T000001Z-1\n") && says.ends_with("would remove 2 runs, 76 B; 1 stay\n"),
        "{says}"
    );
    assert_eq!(
        prune(&["--keep", "1", "--quiet"]),
        (Some(0), "removed 2 runs, 76 B; 1 stay\n".to_owned(), String::new())
    );
    assert_eq!(runs(), 1);
    assert_eq!((prune(&[]).0, prune(&["--keep", "0"]).0), (Some(2), Some(2)), "how many is never guessed");
    let (code, _, says) = prune(&["--keep", "1", "--dry-run", "extra"]);
    assert_eq!(code, Some(2), "{says}");
    assert_eq!(harness(&["prune", "/nowhere/at/all", "--keep", "1"]).status.code(), Some(2));
}

#[test]
fn nothing_is_coloured_without_a_terminal_or_where_nobody_wants_it() {
    for arguments in [&["--help"][..], &["run", "nowhere.toml"], &["sim", "--seeds", "x"], &["prune"]] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_harness"));
        let output = command
            .args(arguments)
            .env("NO_COLOR", "1")
            .env("CLICOLOR_FORCE", "1")
            .output()
            .expect("it runs");
        let all = [output.stdout, output.stderr].concat();
        assert!(!all.is_empty() && !all.contains(&0x1b), "{arguments:?}: {}", text(&all));
    }
}
