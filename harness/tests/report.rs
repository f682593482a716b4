//! `report.html`: of a simulated run that fails, of a hundred thousand operations, and as a browser shows it.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use harness::{
    plan::Plan,
    report::html,
    sim::{self, Options},
    workload,
};
use serde_json::Value;
use tempfile::TempDir;

/// A kept run of a planted bug, which violates both linearizability and the leases.
fn failing() -> (TempDir, PathBuf) {
    let path =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../workloads/negative/lease-without-drift-margin.toml");
    let workload = workload::load(&path).unwrap_or_else(|problem| panic!("{problem}"));
    let plan = Plan::new(workload, 0);
    let outcome = sim::run(&plan, &Options::default());
    let results = tempfile::tempdir().expect("a folder");
    let folder = sim::keep(results.path(), &plan, &outcome).expect("kept");
    (results, folder)
}

/// What a key of the large run is overwritten with: were it not escaped, it would end the data and run.
const EVIL: &str = "</script><script>complain('planted')</script><!--";

/// A run of so many operations, one after the other, of which one read is stale: it returns what was overwritten.
fn large(count: u64) -> TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    let mut lines =
        r#"{"record":"header","workload":"large","seed":7,"origin":5000,"initial":[]}"#.to_owned();
    let mut held: BTreeMap<u64, String> = BTreeMap::new();
    let stale = count * 3 / 5 + 10;
    for number in 0..count {
        let (client, key, time) = (1 + number % 20, number % 10, 1_000_000 + number * 200_000);
        let value = if number == 1000 { EVIL.to_owned() } else { format!("c{client}-{number}") };
        let write = number % 3 == 0 || number == 1000 || number == 1010;
        let function = if write { format!(r#""put","value":"{value}""#) } else { r#""get""#.to_owned() };
        let who = format!(r#""process":{client},"client":{client},"node":1,"key":{key},"f":{function}"#);
        let op = |time: u64, kind: &str, rest: &str| {
            format!(r#"{{"record":"op","time":{time},"type":"{kind}",{who}{rest}}}"#)
        };
        let read = if number == stale { Some(EVIL.to_owned()) } else { held.get(&key).cloned() };
        let returned = if write { Value::Null } else { read.map_or(Value::Null, Value::String) };
        let answer = format!(
            r#","returned":{returned},"version":{number},"index":{number},"leader":2,"ballot":"0.1.0@n2","fast":{}"#,
            !write
        );
        let fails = number % 997 == 5 && number != stale;
        let (kind, rest) = if fails { ("fail", r#","error":"no leader""#) } else { ("ok", answer.as_str()) };
        let invoke = op(time, "invoke", "");
        let _ = std::fmt::Write::write_fmt(
            &mut lines,
            format_args!("\n{invoke}\n{}", op(time + 150_000 + number % 7 * 1000, kind, rest)),
        );
        if write && !fails {
            held.insert(key, value.clone());
        }
    }
    fs::write(folder.path().join("history.jsonl"), lines + "\n").expect("written");
    folder
}

/// The data of a report.
fn data(page: &str) -> Value {
    let (_, data) = page.split_once(r#"type="application/json">"#).expect("a block of data");
    let (data, _) = data.split_once("</script>").expect("its end");
    serde_json::from_str(data).expect("JSON")
}

#[test]
fn a_run_that_fails_shows_what_has_no_order_and_what_the_nodes_sent_meanwhile() {
    let (_results, folder) = failing();
    let page = fs::read_to_string(folder.join(html::FILE)).expect("a report");
    let data = data(&page);
    assert_eq!(data["verdict"]["verdict"], "violation");
    assert!(page.contains("sim --plans"), "how to do it again");
    let key = &data["findings"]["keys"][0];
    let core = key["operations"].as_array().expect("operations");
    assert!((2..=6).contains(&core.len()), "{key}");
    let furthest = key["furthest"].as_array().expect("an order");
    assert!(!furthest.is_empty() && furthest.len() < core.len(), "{key}");
    assert!(furthest.iter().all(|placed| placed[0] != key["culprit"]), "{key}");
    assert!(!data["findings"]["leases"].as_array().expect("leases").is_empty());
    let messages = data["findings"]["spacetime"]["messages"]
        .as_array()
        .expect("messages are recorded in simulated time");
    assert!(!messages.is_empty() && messages.iter().any(|message| !message["arrived"].is_null()));
    let roles = data["roles"]["intervals"].as_array().expect("intervals");
    for role in ["leads", "holds", "grants"] {
        assert!(roles.iter().any(|interval| interval["role"] == role), "nobody {role}");
    }
    // a hold that ran out did so at one moment on the node's own clock and at another on the common one
    assert!(roles.iter().any(|hold| hold["role"] == "holds" && hold["own"] != hold["to"]));
}

#[test]
fn a_hundred_thousand_operations_fit_into_two_megabytes_and_the_violation_is_among_them() {
    let run = large(100_000);
    let verdict = r#"{"verdict":"violation","words":"a stale read","checks":[{"name":"linearizable","status":"violation"}]}"#;
    fs::write(run.path().join("verdict.json"), verdict).expect("written");
    let path = html::write(run.path()).expect("a report");
    let page = fs::read_to_string(path).expect("it is there");
    assert!(page.len() < 2_000_000, "{} bytes", page.len());
    let data = data(&page);
    assert_eq!(
        (&data["sample"]["total"], &data["verdict"]["verdict"]),
        (&100_000.into(), &"violation".into())
    );
    assert!(data["sample"]["left_out"].as_str().is_some_and(|words| words.contains("of 100000 operations")));
    let key = &data["findings"]["keys"][0];
    assert_eq!(key["operations"].as_array().map(Vec::len), Some(3), "{key}");
    assert!(!page.contains(EVIL) && data.to_string().contains("complain('planted')"));
    assert!(fs::read_dir(run.path()).expect("a folder").count() == 3, "no half-written file stays");
    browse(run.path(), &["findings", "timeline", "lanes", "links", "notes"]);
}

#[test]
fn a_run_without_a_verdict_is_held_against_nothing_but_what_its_plan_has_checked() {
    let (_results, folder) = failing();
    let plan = fs::read_to_string(folder.join("plan.toml")).expect("a plan");
    let verdict = |change: &dyn Fn()| {
        change();
        let page = fs::read_to_string(html::write(&folder).expect("a report")).expect("it is there");
        data(&page)["verdict"]["verdict"].clone()
    };
    let with_plan = |from: &str, to: &str| {
        assert!(plan.contains(from), "{from}");
        fs::write(folder.join("plan.toml"), plan.replace(from, to)).expect("written");
    };
    assert_eq!(verdict(&|| fs::remove_file(folder.join("verdict.json")).expect("removed")), "violation");
    let unchecked = "consistency = \"unchecked\"\nlease_safety = false";
    assert_eq!(
        verdict(&|| with_plan("consistency = \"linearizable\"\nlease_safety = true", unchecked)),
        "unknown"
    );
    assert_eq!(verdict(&|| with_plan("lease_safety = true", "lease_safety = false")), "violation");
    assert_eq!(verdict(&|| fs::remove_file(folder.join("plan.toml")).expect("removed")), "unknown");
}

#[test]
fn a_browser_shows_the_failing_run_and_a_click_selects_an_operation() {
    let (_results, folder) = failing();
    browse(&folder, &["findings", "spacetime", "timeline", "lanes", "links", "notes"]);
}

#[test]
fn old_runs_get_their_report_and_what_is_no_run_is_refused() {
    let run = large(100);
    let report = |folder: &Path| -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_harness"));
        command.arg("report").arg(folder).output().expect("it runs")
    };
    let written = report(run.path());
    let says = String::from_utf8_lossy(&written.stdout);
    assert!(written.status.success() && says.trim_end().ends_with("/report.html"), "{says}");
    assert!(run.path().join(html::FILE).exists());
    let nowhere = report(&run.path().join("nowhere"));
    assert_eq!(nowhere.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&nowhere.stderr).contains("there is no run in"), "{nowhere:?}");
    fs::write(run.path().join("history.jsonl"), "{\"record\":\"op\"\n").expect("written");
    let damaged = report(run.path());
    assert_eq!(damaged.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&damaged.stderr).contains("line 1 is no record"), "{damaged:?}");
}

/// Opens a report in Chromium, clicks on an operation, and looks at what has become of the page.
fn browse(folder: &Path, sections: &[&str]) {
    let Some(browser) = browser() else {
        eprintln!("skipped: there is no chromium, chromium-browser or google-chrome on PATH");
        return;
    };
    let profile = tempfile::tempdir().expect("a folder");
    let path = fs::canonicalize(folder.join(html::FILE)).expect("a report");
    let output = Command::new("timeout")
        .arg("120")
        .arg(browser)
        .args(["--headless=new", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr", "--v=0"])
        .args(["--window-size=1400,1000", "--virtual-time-budget=5000", "--dump-dom"])
        .arg(format!("--user-data-dir={}", profile.path().display()))
        .arg(format!("file://{}#selftest", path.display()))
        .output()
        .expect("the browser runs");
    let says = String::from_utf8_lossy(&output.stderr);
    let complaints: Vec<&str> = says.lines().filter(|line| line.contains("CONSOLE")).collect();
    assert!(complaints.is_empty(), "{complaints:?}");
    let page = String::from_utf8_lossy(&output.stdout);
    let (shown, _) = page.split_once("<script id=\"data\"").expect("the page");
    assert!(
        shown.contains(r#"<pre id="errors" hidden="">"#),
        "{}",
        &shown[shown.len().saturating_sub(2000)..]
    );
    for section in sections {
        assert!(shown.contains(&format!("id=\"{section}\"")), "{section} is not there");
    }
    assert!(shown.contains("class=\"subhistory\"") && shown.contains("<canvas"), "no pictures");
    let (_, clicked) = shown.split_once("data-selftest=\"").expect("the click came to nothing");
    let (clicked, _) = clicked.split_once('"').expect("an attribute");
    let after = |what: &str| clicked.split("; ").find_map(|part| part.strip_prefix(what)).map(str::to_owned);
    let selected: Vec<_> =
        clicked.split("; ").filter_map(|part| part.strip_prefix("selected ")).map(str::to_owned).collect();
    assert_eq!(selected.first(), after("clicked ").as_ref(), "a click: {clicked}");
    assert_eq!(selected.get(1), after("next ").as_ref(), "an arrow: {clicked}");
    assert!(selected.iter().all(|line| line.parse::<u64>().is_ok()), "{clicked}");
    assert!(clicked.ends_with("let go"), "Escape: {clicked}");
    assert!(shown.contains("log index"), "no record of what was clicked");
}

fn browser() -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    let names = ["chromium", "chromium-browser", "google-chrome"];
    std::env::split_paths(&path)
        .flat_map(|folder| names.map(|name| folder.join(name)))
        .find(|file| file.is_file())
}
