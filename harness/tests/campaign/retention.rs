//! Old runs go while a campaign runs, and nothing else does.

use std::{
    fs::{self, File},
    path::Path,
};

use super::place::{CLEAN, FROZEN, Place, code, finished, told};

/// What a run has left, made by hand.
fn run(folder: &Path, passed: bool) {
    fs::create_dir_all(folder).expect("made");
    fs::write(folder.join("plan.toml"), "").expect("written");
    let verdict = format!(r#"{{"verdict":"valid","as_expected":{passed}}}"#);
    fs::write(folder.join("verdict.json"), verdict).expect("written");
}

/// The names in a folder, in order.
fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("readable").file_name());
    let mut names: Vec<String> = entries.map(|name| name.to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

#[test]
fn old_runs_go_but_failing_ones_later_and_none_that_goes_on_or_is_named() {
    let place = Place::new(&[("frozen.toml", FROZEN.to_owned()), ("clean.toml", CLEAN.to_owned())]);
    let (clean, frozen) = (place.path("out/clean"), place.path("out/frozen"));
    for year in 2001..2008 {
        run(&clean.join(format!("{year}0101T000000Z-7")), true);
        // younger than all that the campaign keeps itself
        run(&frozen.join(format!("{}0101T000000Z-7", year + 80)), false);
    }
    let of_another = place.path("out/gone/20010101T000000Z-1");
    run(&of_another, true);
    let notes = clean.join("20010101T000000Z-7/why.md");
    fs::write(&notes, "").expect("written");
    let goes_on = File::open(clean.join("20020101T000000Z-7/plan.toml")).expect("there");
    goes_on.lock().expect("locked");

    let output =
        finished(&mut place.campaign("out", &["--seeds", "0..4", "--keep", "1", "--junit", "out/junit.xml"]));
    assert_eq!(code(&output), Some(1), "{}", told(&output));
    assert!(told(&output).contains("removed 6 old runs, "), "{}", told(&output));
    assert_eq!(
        names(&clean),
        ["20010101T000000Z-7", "20020101T000000Z-7", "20070101T000000Z-7"],
        "one with a note, one that goes on, and the newest"
    );
    assert!(of_another.exists(), "the only one of its workload");
    // five that fail stay, and those that the campaign names
    let younger: Vec<String> = (2083..2088).map(|year| format!("{year}0101T000000Z-7")).collect();
    let kept = names(&frozen);
    assert_eq!(kept.iter().filter(|name| !name.starts_with("sim-")).cloned().collect::<Vec<_>>(), younger);
    let campaign = place.read("out");
    let named: Vec<&str> = campaign["records"]
        .as_array()
        .expect("records")
        .iter()
        .flat_map(|record| record["classes"].as_array().expect("classes"))
        .flat_map(|class| class["kept"].as_array().expect("runs"))
        .map(|run| run.as_str().expect("a path"))
        .collect();
    assert!(named.len() >= 3, "{named:?}");
    for run in named {
        assert!(place.path("out").join(run).join("report.html").exists(), "{run}");
    }
    let junit = fs::read_to_string(place.path("out/junit.xml")).expect("written");
    let again = junit.split("--plans ").nth(1).and_then(|rest| rest.split(' ').next()).expect("a plan");
    assert!(place.path(again).exists(), "{again}");

    // what goes on no more goes, and so does what the next campaign does not name
    drop(goes_on);
    let output = finished(&mut place.campaign("out", &["--seeds", "10..11", "--keep", "1"]));
    assert_eq!(code(&output), Some(1), "{}", told(&output));
    assert_eq!(names(&clean), ["20010101T000000Z-7", "20070101T000000Z-7"]);
    assert_eq!(
        names(&frozen).iter().filter(|name| name.starts_with("sim-")).count(),
        1,
        "{:?}",
        names(&frozen)
    );
}
