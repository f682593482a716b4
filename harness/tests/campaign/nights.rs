//! What campaigns know of those before them: one that was killed goes on, and a night knows what the last one has found.

use std::{fs, os::unix::process::ExitStatusExt as _, process::Stdio};

use super::place::{CLEAN, FROZEN, Place, blocks, code, finished, timeless, told, wait_for, workloads};

#[test]
fn a_killed_campaign_goes_on_and_comes_to_the_same_end() {
    let place = workloads();
    let arguments = ["--seeds", "0..80", "--jobs", "1"];
    assert_eq!(code(&finished(&mut place.campaign("whole", &arguments))), Some(0));
    let mut child = place.campaign("killed", &arguments).stdout(Stdio::null()).spawn().expect("it runs");
    let file = place.path("killed/campaign.json");
    wait_for("some blocks", || file.exists() && blocks(&place.read("killed")).len() > 5);
    child.kill().expect("it is killed");
    let status = child.wait().expect("it is over");
    assert_eq!(status.signal(), Some(9), "it was killed in the middle: {status}");
    let before = place.read("killed");
    assert_eq!(before["ended"], "not-yet");
    assert!(blocks(&before).len() < blocks(&place.read("whole")).len());
    let other = finished(&mut place.campaign("killed", &["--seeds", "0..81", "--resume"]));
    assert_eq!(code(&other), Some(2));
    assert!(told(&other).contains("seeds 0..80 and not 0..81"), "{}", told(&other));
    let resumed = finished(&mut place.campaign("killed", &[&arguments[..], &["--resume"]].concat()));
    assert_eq!(code(&resumed), Some(0), "{}", told(&resumed));
    assert_eq!(timeless(place.read("killed")), timeless(place.read("whole")));
    // when all is done, nothing is done again
    let again = finished(&mut place.campaign("killed", &[&arguments[..], &["--resume"]].concat()));
    assert_eq!(code(&again), Some(0), "{}", told(&again));
    assert_eq!(timeless(place.read("killed")), timeless(place.read("whole")));
}

#[test]
fn what_one_night_has_found_the_next_one_knows() {
    let place = Place::new(&[("frozen.toml", FROZEN.to_owned()), ("clean.toml", CLEAN.to_owned())]);
    let night = |out: &str, seeds: &str| {
        // shrunk, so that its plan is kept; in a small time, since nobody reads it
        let arguments = ["--seeds", seeds, "--state", "state", "--summary", "night.md", "--shrink", "3s"];
        let output = finished(&mut place.campaign(out, &arguments));
        assert_eq!(code(&output), Some(1), "{}", told(&output));
        fs::read_to_string(place.path("night.md")).expect("written")
    };
    let first = night("first", "0..2");
    assert!(first.contains("\n- new: lease-safety L"), "{first}");
    fs::write(place.path("workloads/clean.toml"), CLEAN.replace("rate = 40", "rate = 41")).expect("written");
    let second = night("second", "100..102");
    assert!(second.contains("\n- known: lease-safety L"), "{second}");
    assert!(second.contains("| known/lease-safety-l"), "its plan was run again: {second}");
    // it is over: nothing is run again, and the state takes it in once
    let state = fs::read(place.path("state/state.json")).expect("written");
    let before = timeless(place.read("second"));
    let again = ["--seeds", "100..102", "--state", "state", "--resume"];
    let output = finished(&mut place.campaign("second", &again));
    assert_eq!(code(&output), Some(1), "{}", told(&output));
    assert_eq!(timeless(place.read("second")), before);
    assert_eq!(fs::read(place.path("state/state.json")).expect("there"), state);
    // nothing of it can be used when it is damaged
    fs::write(place.path("state/state.json"), "{").expect("written");
    let output = finished(&mut place.campaign("third", &["--seeds", "0..2", "--state", "state"]));
    assert_eq!(code(&output), Some(2), "{}", told(&output));
    assert!(told(&output).contains("state/state.json is damaged"), "{}", told(&output));
}
