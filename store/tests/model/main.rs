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
mod machine;
mod network;
mod space;
mod world;

use bounds::Bounds;
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

#[test]
#[ignore = "takes minutes, for the night"]
fn large_configurations_hold_in_every_state_that_is_reached() {
    for bounds in Bounds::large() {
        explore(bounds, LARGE).assert_holds();
    }
}

#[test]
fn planted_bugs_are_found() {
    for bounds in Bounds::planted() {
        let title = bounds.title();
        assert!(hunt(bounds, SMALL).broken.is_some(), "{title} is not found");
    }
}

#[test]
fn controls_hold() {
    for bounds in Bounds::controls() {
        explore(bounds, SMALL).assert_holds();
    }
}
