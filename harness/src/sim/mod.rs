//! The simulator: a seeded world of discrete events that runs the same workloads as real processes.
//!
//! What is the same: the plan, the clients' streams, the faults and their targets, the script, the store's core, the
//! invariants and the checkers. What is simulated: processes, clocks, links, disks, and time. Nothing reads a clock,
//! nothing depends on threads or on the order of a hash map, so that one plan does the same every time, byte for byte; the
//! fingerprint of a run shows it.
//!
//! | file | what it simulates |
//! |---|---|
//! | `world` | the loop, and everything that there is |
//! | `events`, `chance` | the agenda and the fingerprint; the one stream of chance, and the weather |
//! | `machine`, `turns` | a process with its core: inbox, turns, persists, death in the middle of a turn, pauses |
//! | `clock`, `disk`, `network` | clocks with rate and offset; group syncs and lost batches; links that are held or severed |
//! | `clients`, `script` | sessions, workers, final readers; the steps of a script |
//! | `client_links` | faults between clients and nodes |
//! | `faults`, `phases` | the nemesis; boot to final reads, with bounds for progress |
//! | `watch`, `verdict` | the invariants at every turn; the checks at the end |
//! | `seeds`, `keep` | many runs side by side; what is kept of those that fail |
//! | `case` | a workload with its seeds, or a plan |
//! | `command`, `row` | the command line and what it prints |
//!
//! Where it departs from real runs: a killed node always loses what was not synced, whatever `lose_unsynced` says (as in a
//! power failure), and may lose it in the middle of a turn; progress is bounded by the cluster's timeouts, not by the
//! patience of the workload; a node that dies in its recovery has just started its core, and on a real disk is about
//! to; and how a connection breaks (reset, closed, half open, silent) makes no difference to a node, which is not told.

mod case;
mod chance;
mod client_links;
mod clients;
mod clock;
pub mod command;
mod disk;
mod events;
mod faults;
mod keep;
mod machine;
mod network;
mod phases;
mod post;
mod row;
mod script;
mod seeds;
mod turns;
mod verdict;
mod watch;
mod world;

pub use case::{Case, again_of_plan};
pub use command::{first_finding, found, processors};
pub use keep::{keep, keep_replayed, keep_shrunk};
pub use seeds::{Outcome, history, repeat, run, run_seeds};
pub use watch::Finding;

use serde::Serialize;

use crate::history_writer::{Ended, Finished};

/// What a run is asked for, beside its plan. None of it changes what happens, but for `planted`.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options {
    /// What happens is told in words.
    pub tale: bool,
    /// The messages between nodes are recorded.
    pub messages: bool,
    /// More delay for each turn, from a source that no seed fixes: a test shows with it that such a thing is found.
    pub planted: Option<fn() -> u64>,
}

/// What a run contained.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Stats {
    /// Events that happened.
    pub events: u64,
    /// Turns of nodes.
    pub turns: u64,
    /// Messages between nodes.
    pub messages: u64,
    /// Simulated nanoseconds.
    pub simulated: u64,
    /// Operations that were answered.
    pub answered: u64,
    /// Operations that definitely did not happen.
    pub failed: u64,
    /// Operations of which nobody knows.
    pub unknown: u64,
    /// Reads that leaders answered alone.
    pub fast_reads: u64,
    /// Of these, reads in the last tenth of a lease.
    pub near_expiry: u64,
    /// Snapshots that a node has fetched from another.
    pub snapshots_fetched: u64,
    /// Reads that replicas answered from what they had applied.
    pub local_reads: u64,
    /// Times that a client was redirected.
    pub redirects: u64,
    /// Times that a client asked again in its session for what may have happened.
    pub asked_again: u64,
    /// Faults.
    pub faults: u64,
    /// Of these, faults that found nobody to break.
    pub faults_without_target: u64,
    /// Faults of the plan that nothing triggered.
    pub untriggered: u64,
    /// Times that a partition got another leader.
    pub leader_changes: u64,
    /// How often a planted bug was reached.
    pub mutant_reached: u64,
    /// Keys that could not be read at the end.
    pub keys_unread: u64,
    /// Hash of everything that happened.
    #[serde(skip)]
    pub fingerprint: u64,
}

impl Stats {
    fn count(&mut self, finished: &Finished) {
        self.redirects += finished.trip.redirects;
        self.asked_again += finished.trip.unknown;
        match &finished.ended {
            Ended::Ok(result) => {
                self.answered += 1;
                self.fast_reads += u64::from(result.fast);
                self.local_reads += u64::from(result.local);
            }
            Ended::Fail(_) => self.failed += 1,
            Ended::Info(_) => self.unknown += 1,
        }
    }

    /// Both together; of the fingerprints a hash.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self {
            events: self.events + other.events,
            turns: self.turns + other.turns,
            messages: self.messages + other.messages,
            simulated: self.simulated + other.simulated,
            answered: self.answered + other.answered,
            failed: self.failed + other.failed,
            unknown: self.unknown + other.unknown,
            fast_reads: self.fast_reads + other.fast_reads,
            near_expiry: self.near_expiry + other.near_expiry,
            snapshots_fetched: self.snapshots_fetched + other.snapshots_fetched,
            local_reads: self.local_reads + other.local_reads,
            redirects: self.redirects + other.redirects,
            asked_again: self.asked_again + other.asked_again,
            faults: self.faults + other.faults,
            faults_without_target: self.faults_without_target + other.faults_without_target,
            untriggered: self.untriggered + other.untriggered,
            leader_changes: self.leader_changes + other.leader_changes,
            mutant_reached: self.mutant_reached + other.mutant_reached,
            keys_unread: self.keys_unread + other.keys_unread,
            fingerprint: self.fingerprint.rotate_left(7) ^ other.fingerprint,
        }
    }
}
