//! Shards are exact: together they run what one campaign runs, and what does not belong together is refused.

use std::fs;

use super::place::{CLEAN, FROZEN, Place, blocks, code, finished, simulated, timeless, told, workloads};

#[test]
fn shards_together_run_what_one_campaign_runs() {
    let place = workloads();
    let seeds = ["--seeds", "100..140"];
    let one = finished(&mut place.campaign("one", &seeds));
    assert_eq!(code(&one), Some(0), "{}", told(&one));
    let whole = blocks(&place.read("one"));
    assert!(whole.iter().any(|block| block.0 == "clean" && block.1 == 118), "{whole:?}");
    assert_ne!(whole[0].3, whole[1].3, "fingerprints tell blocks apart");
    for of in 1..=5 {
        let outs: Vec<String> = (1..=of).map(|number| format!("{number}-of-{of}")).collect();
        let mut together = Vec::new();
        for (out, number) in outs.iter().zip(1..) {
            let shard = format!("{number}/{of}");
            let output = finished(&mut place.campaign(out, &[&seeds[..], &["--shard", &shard]].concat()));
            // the fifth of five shards may have nothing to find
            assert_eq!(code(&output), Some(0), "{}", told(&output));
            together.extend(blocks(&place.read(out)));
        }
        together.sort();
        assert_eq!(together, whole, "{of} shards: nothing is missing, and nothing comes twice");
        let mut merge: Vec<&str> = outs.iter().map(String::as_str).collect();
        merge.extend(["--out", "merged", "--junit", "merged.xml", "--summary", "merged.md"]);
        let merged = place.merge(&merge);
        assert_eq!(code(&merged), Some(0), "{}", told(&merged));
        assert_eq!(timeless(place.read("merged"))["records"], timeless(place.read("one"))["records"]);
        let junit = fs::read_to_string(place.path("merged.xml")).expect("written");
        assert!(simulated(&junit) == 3 && junit.contains("failures=\"0\""), "{junit}");
        assert!(
            fs::read_to_string(place.path("merged.md")).expect("written").starts_with("## VERDICT valid")
        );
        if of > 1 {
            let output = place.merge(&[outs[0].as_str()]);
            assert_eq!(code(&output), Some(3), "{}", told(&output));
            assert!(told(&output).contains(&format!("shard 2/{of} is missing")), "{}", told(&output));
        }
    }
}

#[test]
fn a_failure_of_a_shard_is_one_of_the_whole_and_told_once() {
    let place = Place::new(&[("frozen.toml", FROZEN.to_owned()), ("clean.toml", CLEAN.to_owned())]);
    let seeds = ["--seeds", "0..34"];
    let outs = ["a", "b"];
    for (out, shard) in outs.iter().zip(["1/2", "2/2"]) {
        finished(&mut place.campaign(out, &[&seeds[..], &["--shard", shard]].concat()));
    }
    let merged = place.merge(&["b", "a", "--junit", "merged.xml", "--summary", "merged.md"]);
    assert_eq!(code(&merged), Some(1), "{}", told(&merged));
    let lines: Vec<String> = told(&merged)
        .lines()
        .filter(|line| line.contains("lease-safety L5 (not shrunk): "))
        .map(str::to_owned)
        .collect();
    assert_eq!(lines.len(), 1, "{}", told(&merged));
    assert!(lines[0].contains(" seeds (frozen ") && lines[0].contains(", …)"), "{}", lines[0]);
    let junit = fs::read_to_string(place.path("merged.xml")).expect("written");
    assert!(simulated(&junit) == 2 && junit.contains("failures=\"1\""), "{junit}");
    let summary = fs::read_to_string(place.path("merged.md")).expect("written");
    assert!(summary.contains("| lease-safety L5 | not shrunk | "), "{summary}");
}

#[test]
fn shards_of_other_texts_are_refused() {
    let place = workloads();
    let shard =
        |number: &str| place.campaign(number, &["--seeds", "0..2", "--shard", &format!("{number}/2")]);
    assert_eq!(code(&finished(&mut shard("1"))), Some(0));
    fs::write(place.path("workloads/clean.toml"), CLEAN.replace("rate = 40", "rate = 41")).expect("written");
    assert_eq!(code(&finished(&mut shard("2"))), Some(0));
    let output = place.merge(&["1", "2"]);
    assert_eq!(code(&output), Some(2));
    assert!(told(&output).contains("other workloads, or texts of them"), "{}", told(&output));
}
