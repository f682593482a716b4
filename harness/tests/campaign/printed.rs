//! What `sim`, `shrink`, `campaign` and `merge` print: to people, quietly, as JSON, and on a terminal.

use std::{path::Path, process::Command};

use serde_json::Value;

use super::place::{CLEAN, FROZEN, Place, code, finished, told};

fn place() -> Place {
    Place::new(&[("clean.toml", CLEAN.to_owned()), ("frozen.toml", FROZEN.to_owned())])
}

/// Standard output, of which no line is missing, and standard error.
fn says(place: &Place, arguments: &[&str]) -> (Option<i32>, Vec<String>, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_harness"));
    let output = finished(command.current_dir(place.path("")).args(arguments));
    let lines = String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect();
    (code(&output), lines, String::from_utf8_lossy(&output.stderr).into_owned())
}

#[test]
fn seeds_are_told_in_words_quietly_and_as_json_and_progress_only_on_a_terminal() {
    let place = place();
    let sim = |workload: &str, more: &[&str]| {
        let workload = format!("workloads/{workload}.toml");
        says(&place, &[&["sim", &workload, "--seeds", "0..3"], more].concat())
    };
    let (code, lines, stderr) = sim("clean", &[]);
    assert_eq!((code, stderr.as_str()), (Some(0), ""), "nobody looks on");
    assert_eq!(lines[0], "clean: nothing is wrong in 3 seeds");
    assert!(lines.len() > 3, "{lines:?}");
    let verdict = "VERDICT valid 3 simulated runs: nothing is wrong in 3 seeds";
    assert_eq!(sim("clean", &["--quiet"]).1, [verdict]);
    let (_, json, _) = sim("clean", &["--json"]);
    let row: Value = serde_json::from_str(&json[0]).expect("JSON");
    assert_eq!((json.len(), json[1].as_str()), (2, verdict));
    assert_eq!((&row["workload"], &row["runs"], &row["exit_code"]), (&"clean".into(), &3.into(), &0.into()));
    assert_eq!(row["seeds"], Value::Array(Vec::new()));
    assert!(row["totals"]["answered"].as_u64() > Some(0), "{row}");

    let (code, lines, stderr) = sim("frozen", &["--quiet"]);
    assert_eq!((code, stderr.as_str()), (Some(1), ""));
    assert!(
        lines[0].starts_with("seed 0: ") && lines.iter().any(|line| line.contains("kept: ")),
        "{lines:?}"
    );
    assert!(lines.last().is_some_and(|line| line.starts_with("VERDICT violation ")), "{lines:?}");
    let (code, json, _) = sim("frozen", &["--json"]);
    let row: Value = serde_json::from_str(&json[0]).expect("JSON");
    assert_eq!((code, &row["verdict"]), (Some(1), &"violation".into()));
    let seed = &row["seeds"][0];
    assert_eq!(seed["seed"], 0);
    assert!(seed["findings"][0]["words"].is_string() && seed["again"].is_string(), "{seed}");
    let kept = seed["kept"].as_str().expect("it is kept");
    assert!(place.path(kept).join("report.html").exists(), "{kept}");
    // what a negative workload expects is nothing that is wrong
    assert_eq!(sim("clean", &["--json", "--tale"]).0, Some(2), "one or the other");
}

#[test]
fn on_a_terminal_one_line_changes_and_quietly_there_is_none() {
    if !Path::new("/usr/bin/script").exists() {
        eprintln!("skipped: there is no /usr/bin/script, which gives a program a terminal");
        return;
    }
    let place = place();
    let on_a_terminal = |arguments: &str| {
        let command = format!("{} {arguments}", env!("CARGO_BIN_EXE_harness"));
        let mut script = Command::new("/usr/bin/script");
        script.current_dir(place.path("")).args(["--quiet", "--return", "--command", &command, "/dev/null"]);
        let output = finished(&mut script);
        told(&output)
    };
    for (arguments, words) in [
        ("campaign workloads --seeds 0..2 --shrink 0s", "clean seed 0"),
        ("sim workloads/clean.toml --seeds 0..3", "clean: run 1 of 3, 0 fail"),
        ("shrink workloads/frozen.toml --budget 1s", "frozen seed 0: shrinking, "),
    ] {
        let loud = on_a_terminal(arguments);
        assert!(loud.contains("\r\x1b[K") && loud.contains(words), "{arguments}: {loud:?}");
        let verdict = loud.rsplit('\x1b').next().unwrap_or_default();
        assert!(verdict.contains("VERDICT") || verdict.contains("again"), "nothing of it is left: {loud:?}");
    }
    let quiet = on_a_terminal("sim workloads/clean.toml --seeds 0..3 --quiet");
    assert!(!quiet.contains('\x1b'), "{quiet:?}");
}

#[test]
fn a_plan_is_shrunk_in_words_quietly_and_as_json() {
    let place = place();
    let shrink = |more: &[&str]| {
        says(&place, &[&["shrink", "workloads/frozen.toml", "--budget", "1s"], more].concat())
    };
    let (code, lines, stderr) = shrink(&[]);
    assert_eq!((code, stderr.as_str()), (Some(0), ""));
    assert_eq!(lines.len(), 6, "{lines:?}");
    let (code, quiet, _) = shrink(&["--quiet"]);
    assert_eq!(
        (code, &quiet),
        (Some(0), &vec!["again   harness sim --plans results/frozen/shrunk-0/plan.toml --tale".to_owned()])
    );
    let (code, json, _) = shrink(&["--json"]);
    let small: Value = serde_json::from_str(&json[0]).expect("JSON");
    assert_eq!((code, json.len(), &small["seed"]), (Some(0), 1, &0.into()));
    assert!(small["after"]["faults"].as_u64() <= small["before"]["faults"].as_u64(), "{small}");
    assert!(place.path(small["folder"].as_str().expect("a path")).join("plan.toml").exists(), "{small}");
    let nothing = says(&place, &["shrink", "workloads/clean.toml", "--seeds", "0..1", "--json"]);
    assert_eq!((nothing.0, nothing.1), (Some(3), vec![]), "{}", nothing.2);
}

#[test]
fn a_campaign_is_told_in_words_quietly_and_as_json() {
    let place = Place::new(&[("clean.toml", CLEAN.to_owned())]);
    let campaign = |out: &str, more: &[&str]| {
        let output = finished(&mut place.campaign(out, &[&["--seeds", "0..2"], more].concat()));
        let lines: Vec<String> = String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect();
        (code(&output), lines, String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let verdict = "VERDICT valid campaign of 1 workloads, 2 simulated runs".to_owned();
    let (code, lines, stderr) = campaign("loud", &[]);
    assert_eq!((code, stderr.as_str(), lines.last()), (Some(0), "", Some(&verdict)));
    assert!(lines[0].starts_with("workload "), "{lines:?}");
    let (code, lines, _) = campaign("json", &["--json"]);
    assert_eq!((code, lines.len(), &lines[1]), (Some(0), 2, &verdict));
    let printed: Value = serde_json::from_str(&lines[0]).expect("JSON");
    assert_eq!(printed, place.read("json"), "it is campaign.json");
    let (code, lines, _) = says(&place, &["merge", "json", "--json", "--out", "merged"]);
    assert_eq!((code, &lines[1]), (Some(0), &verdict));
    assert_eq!(serde_json::from_str::<Value>(&lines[0]).expect("JSON"), place.read("merged"));
    assert_eq!(says(&place, &["merge", "json", "--quiet"]).1, [verdict]);

    let failing = Place::new(&[("clean.toml", CLEAN.to_owned()), ("frozen.toml", FROZEN.to_owned())]);
    let output = finished(&mut failing.campaign("out", &["--seeds", "0..1", "--quiet"]));
    let printed = told(&output);
    assert!(printed.contains("frozen ") && printed.contains("    again: "), "{printed}");
    assert!(!printed.contains("clean ") && !printed.contains("never hit"), "{printed}");
}
