//! The pages as a browser shows them.

use std::{fs::File, path::PathBuf, process::Command};

use super::{HEADER, Server, append, pause, results, write};

/// What has become of a page, and what its console says.
fn opened(address: &str) -> Option<String> {
    let Some(browser) = browser() else {
        eprintln!("skipped: there is no chromium, chromium-browser or google-chrome on PATH");
        return None;
    };
    let profile = tempfile::tempdir().expect("a folder");
    let output = Command::new("timeout")
        .arg("120")
        .arg(browser)
        .args(["--headless=new", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr", "--v=0"])
        .args(["--window-size=1400,1000", "--virtual-time-budget=4000", "--dump-dom"])
        .arg(format!("--user-data-dir={}", profile.path().display()))
        .arg(address)
        .output()
        .expect("the browser runs");
    let says = String::from_utf8_lossy(&output.stderr);
    let complaints: Vec<&str> = says.lines().filter(|line| line.contains("CONSOLE")).collect();
    assert!(complaints.is_empty(), "{complaints:?}");
    Some(String::from_utf8_lossy(&output.stdout).into_owned())
}

#[test]
fn a_browser_filters_and_orders_the_table() {
    let results = results();
    let server = Server::start(results.path());
    let Some(page) = opened(&format!("http://{}/#selftest", server.address)) else { return };
    let (_, came) = page.split_once("data-selftest=\"").expect("the test in the page came to nothing");
    let (came, _) = came.split_once('"').expect("an attribute");
    let after = |what: &str| {
        let part = came.split("; ").find_map(|part| part.strip_prefix(what));
        part.unwrap_or_else(|| panic!("{what}: {came}")).trim().to_owned()
    };
    let (one, two, three, four) =
        ("20261121T000000Z-1", "20261121T000100Z-2", "20261121T000200Z-3", "20261121T000300Z-4");
    assert_eq!(after("first"), format!("sim-5 {four} {three} {two} {one}"), "the newest first");
    assert_eq!(after("by operations"), format!("{one} {three} {two} sim-5 {four}"));
    assert_eq!(after("the other way"), format!("sim-5 {four} {two} {three} {one}"));
    assert_eq!((after("sorted"), after("violations")), ("operations".to_owned(), three.to_owned()));
    assert_eq!((after("focus"), after("text")), ("text".to_owned(), format!("{two} {one}")));
    assert!(after("address").contains("text=smoke+valid"), "{came}");
    assert_eq!(after("row"), four, "two rows down by keyboard");
    assert!(page.contains("would remove the 1 marked"), "what would be removed is said");
}

/// A planted bug excuses only what is expected of it.
#[test]
fn a_violation_that_nobody_expects_is_an_alarm_whatever_is_planted() {
    let results = tempfile::tempdir().expect("a folder");
    for (run, as_expected) in
        [("sim-1", ",\"as_expected\":true"), ("sim-2", ",\"as_expected\":false"), ("sim-3", "")]
    {
        let run = results.path().join("negative").join(run);
        write(&run, "plan.toml", "");
        write(&run, "verdict.json", &format!(r#"{{"verdict":"violation","mutant":"Bug"{as_expected}}}"#));
    }
    let server = Server::start(results.path());
    let Some(page) = opened(&format!("http://{}/?unexpected", server.address)) else { return };
    let shown = |run: &str| page.contains(&format!("data-place=\"negative/{run}\""));
    assert_eq!((shown("sim-1"), shown("sim-2"), shown("sim-3")), (false, true, true), "{page}");
}

#[test]
fn a_browser_shows_a_run_that_goes_on_and_one_that_is_over() {
    let results = results();
    let run = results.path().join("smoke/20261122T000000Z-7");
    write(&run, "plan.toml", "");
    write(&run, "history.jsonl", HEADER);
    append(&run.join("history.jsonl"), &pause("<i>"));
    let lock = File::open(run.join("plan.toml")).expect("there");
    lock.lock().expect("locked");
    let server = Server::start(results.path());
    let page = |place: &str| opened(&format!("http://{}/{place}", server.address));
    let Some(going) = page("run/smoke/20261122T000000Z-7") else { return };
    assert!(going.contains("As it goes") && going.contains("pause &lt;i&gt; -&gt; node 2"), "{going}");
    assert!(going.contains("class=\"band\"") && going.contains("id=\"leaders\""), "{going}");
    let over = page("run/smoke/20261121T000200Z-3").expect("the browser is still there");
    assert!(
        over.contains("&lt;b&gt;key&lt;/b&gt; 3") && over.contains("workloads/smoke.toml --seed 3"),
        "{over}"
    );
    assert!(over.contains("/file/smoke/20261121T000200Z-3/report.html"), "{over}");
    assert!(!over.contains("As it went"), "its report tells that");
    let killed = page("run/load/20261121T000300Z-4").expect("the browser is still there");
    assert!(killed.contains("As it went") && killed.contains("no verdict</span>"), "{killed}");
}

#[test]
fn a_browser_shows_a_report_that_is_served() {
    let results = tempfile::tempdir().expect("a folder");
    let run = results.path().join("smoke/20261122T000000Z-7");
    write(&run, "history.jsonl", HEADER);
    for number in 1..20_u64 {
        let time = number * 1_000_000;
        let op = |time: u64, kind: &str, rest: &str| {
            format!(
                r#"{{"record":"op","time":{time},"type":"{kind}","process":1,"client":1,"node":1,"f":"get","key":1{rest}}}"#
            ) + "\n"
        };
        let answer = r#","returned":null,"version":0,"index":0,"leader":2,"ballot":"0.1.0@n2","fast":true"#;
        append(&run.join("history.jsonl"), &(op(time, "invoke", "") + &op(time + 500_000, "ok", answer)));
    }
    harness::report::html::write(&run).expect("a report");
    let server = Server::start(results.path());
    let address = format!("http://{}/file/smoke/20261122T000000Z-7/report.html#selftest", server.address);
    let Some(page) = opened(&address) else { return };
    assert!(
        page.contains("data-selftest=\"clicked ") && page.contains("<pre id=\"errors\" hidden=\"\">"),
        "{page}"
    );
}

fn browser() -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    let names = ["chromium", "chromium-browser", "google-chrome"];
    std::env::split_paths(&path)
        .flat_map(|folder| names.map(|name| folder.join(name)))
        .find(|file| file.is_file())
}
