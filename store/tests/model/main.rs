//! An exhaustive model of small configurations (stateright): the real core of one partition, with every order of messages,
//! syncs, crashes, broken connections, elections and ticks of the clocks that the bounds allow.
//!
//! What is the real thing: [`store::core::replica::Replica`] with all below it, its journal, and the invariants that the
//! simulator and the golden scripts use, too. What is an input here: what a heartbeat period brings (a neighbour without a
//! leader, or a ballot), so that elections happen at any time; and the clocks, each with a constant rate within the drift
//! bound, which move only when all move.
//!
//! `cargo test` runs small bounds; `cargo test --release -p store --test model -- --ignored --nocapture` the large ones.

mod bounds;
mod clients;
mod export;
mod machine;
mod network;
mod space;
mod world;

use std::{collections::BTreeSet, fs, path::Path};

use bounds::Bounds;
use export::export;
use space::{explore, hunt};

/// States at which a small exploration is too large for every run of the tests.
const SMALL: usize = 1_000_000;

/// States (with repetition) after which a large exploration stops.
const LARGE: usize = 30_000_000;

#[test]
fn small_configurations_hold_in_every_state() {
    for bounds in Bounds::small() {
        let explored = explore(bounds, SMALL);
        explored.assert_holds();
        assert!(explored.whole, "a small configuration is explored whole");
    }
}

/// A test for each of the large configurations, so that they can be run one by one.
macro_rules! large {
    ($($test:ident: $name:literal,)*) => {
        $(
            #[test]
            #[ignore = "takes minutes, for the night"]
            fn $test() {
                explore_large($name);
            }
        )*

        #[test]
        fn each_large_configuration_has_its_test() {
            let tested = BTreeSet::from([$($name),*]);
            assert_eq!(tested, Bounds::large().iter().map(|bounds| bounds.name).collect());
        }
    };
}

large! {
    large_take_over_and_recovery: "take-over and recovery",
    large_two_take_overs_and_a_broken_connection: "two take-overs and a broken connection",
    large_trimmed_logs_and_crashes: "trimmed logs and crashes",
    large_long_leases: "long leases",
    large_leases_and_crashes: "leases and crashes",
    large_planned_changes_and_a_take_over: "planned changes and a take-over",
    large_a_planned_change_and_a_crash: "a planned change and a crash",
    large_a_write_that_is_asked_for_again: "a write that is asked for again",
}

fn explore_large(name: &str) {
    let bounds = Bounds::large().into_iter().find(|bounds| bounds.name == name).expect("one has this name");
    explore(bounds, LARGE).assert_holds();
}

/// Each is found, and what was found can be run elsewhere: the workload files beside the harness's tests are these paths
/// (`UPDATE_GOLDEN=1` writes them anew).
#[test]
fn planted_bugs_are_found() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../harness/tests/model/negative");
    for bounds in Bounds::planted() {
        let explored = hunt(bounds.clone(), SMALL);
        let (actions, violation) = explored.broken.expect("the planted bug is found");
        let exported = export(&bounds, &actions, &violation);
        let file = folder.join(format!("{}.toml", bounds.mutant_name()));
        if std::env::var_os("UPDATE_GOLDEN").is_some() {
            fs::create_dir_all(&folder).expect("the folder can be made");
            fs::write(&file, &exported).expect("the file can be written");
        }
        let kept = fs::read_to_string(&file).unwrap_or_default();
        assert_eq!(exported, kept, "{}: the path is another than before", file.display());
    }
}

#[test]
fn planted_bugs_of_trimmed_logs_are_found() {
    for bounds in Bounds::planted_in_trimming() {
        assert!(hunt(bounds.clone(), SMALL).broken.is_some(), "{} is found", bounds.title());
    }
}

#[test]
fn planted_bugs_of_sessions_are_found() {
    for bounds in Bounds::planted_in_sessions() {
        assert!(hunt(bounds.clone(), SMALL).broken.is_some(), "{} is found", bounds.title());
    }
}

#[test]
fn controls_hold() {
    for bounds in Bounds::controls() {
        explore(bounds, SMALL).assert_holds();
    }
}
