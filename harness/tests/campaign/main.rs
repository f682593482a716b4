//! Campaigns from the outside.

mod nights;
mod place;
mod printed;
mod retention;
mod shards;

use std::fs;

use serde_json::Value;

use place::{CLEAN, Place, blocks, code, finished, told, workloads};

#[test]
fn what_is_new_is_run_on_real_processes_too() {
    let place = Place::new(&[("clean.toml", CLEAN.to_owned())]);
    let arguments = ["--seeds", "0..2", "--real", "12s", "--junit", "junit.xml"];
    let output = finished(&mut place.campaign("out", &arguments));
    assert_eq!(code(&output), Some(0), "{}", told(&output));
    let campaign = place.read("out");
    let real: Vec<&Value> = campaign["records"]
        .as_array()
        .expect("records")
        .iter()
        .filter(|record| record["mode"] == "real")
        .collect();
    assert_eq!(real.len(), 1, "{campaign}");
    assert_eq!((&real[0]["workload"], &real[0]["coverage"]["fault kill"]), (&"clean".into(), &1.into()));
    let junit = fs::read_to_string(place.path("junit.xml")).expect("written");
    assert!(junit.contains("name=\"clean\" classname=\"real\""), "{junit}");
    assert!(place.path("out/clean").is_dir(), "its results are kept");
}

#[test]
fn a_damaged_file_is_told_with_its_place() {
    let place = workloads();
    fs::create_dir(place.path("out")).expect("made");
    for (text, words) in [("{\"version\": 1, ", "damaged"), ("{\"version\": 99}", "its version is 99")] {
        fs::write(place.path("out/campaign.json"), text).expect("written");
        let outputs =
            [place.merge(&["out"]), finished(&mut place.campaign("out", &["--seeds", "0..2", "--resume"]))];
        for output in outputs {
            assert_eq!(code(&output), Some(2), "{}", told(&output));
            let told = told(&output);
            assert!(told.contains("out/campaign.json") && told.contains(words), "{told}");
        }
    }
}

#[test]
fn a_check_that_sees_nothing_fails_the_campaign_before_anything_is_run() {
    let place = workloads();
    let output = finished(&mut place.campaign("out", &["--seeds", "0..2", "--blind", "linearizable"]));
    assert_eq!(code(&output), Some(4), "{}", told(&output));
    assert!(told(&output).contains("canary/a-tampered-history"), "{}", told(&output));
    assert!(told(&output).contains("VERDICT unknown the canary fails"), "{}", told(&output));
    assert!(blocks(&place.read("out")).is_empty(), "nothing else was run");
    let merged = place.merge(&["out"]);
    assert_eq!(code(&merged), Some(4), "{}", told(&merged));
}
