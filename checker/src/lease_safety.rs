//! Whether the leases of a recorded run were safe, from what its nodes traced and its clients saw.
//!
//! Each check stands for one invariant of the protocol, under its number:
//! - L1 holds of different ballots of one partition never overlap in real time;
//! - L2 a hold lies within the grants of a quorum to its ballot, and one that has ended is not revived;
//! - L3 an acceptor promises no other node while a grant of its runs, also across its restart;
//! - L4 a fast read has received <= checked < expiry, inside a hold of its ballot;
//! - L5 a fast read covers every write on its key that was acknowledged before it was invoked;
//! - L6 no other ballot decides inside a hold;
//! - L7 no fast read under a ballot after a stop-sign was appended;
//! - L8 reads of one key that are ordered in real time see non-decreasing versions;
//! - SP2 decided logs agree at every index; SP3 within an incarnation a decided log only grows, without gaps;
//! - BLE3 ballots are led by one node once, and each node's elected ballots increase.
//!
//! Comparisons are exact: local times are mapped to the machine's clock in integers. Every violation names the two events
//! that contradict each other. Without leases L1 to L7 do not apply.

mod agreement;
mod clock;
mod holds;
mod invariants;
mod reads;
mod report;
mod traces;

use std::path::Path;

use crate::history::{History, HistoryError};

pub use clock::{Clocks, Common, FOREVER};
pub use report::{Evidence, Exercise, Invariant, LeaseReport, Violation};
pub use traces::{NodeTrace, TraceError, Traces};

use report::Findings;

/// Why a run cannot be judged.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The history cannot be read.
    #[error("history.jsonl: {0}")]
    History(#[from] HistoryError),
    /// The traces cannot be read.
    #[error(transparent)]
    Trace(#[from] TraceError),
}

/// Judges the run recorded in a folder: its `history.jsonl` and all `trace/*.jsonl`.
pub fn check(run: &Path) -> Result<LeaseReport, Error> {
    let traces = Traces::read(&run.join("trace"))?;
    let history = History::read(&run.join("history.jsonl"))?;
    Ok(check_traces(&traces, &history))
}

/// Judges traces and history that were read or built by other means.
pub fn check_traces(traces: &Traces, history: &History) -> LeaseReport {
    let mut findings = Findings::new(traces, history);
    agreement::check(traces, &mut findings);
    let leases = traces.lines().any(|(_, line)| line.lease().is_some_and(|lease| lease > 0));
    if leases {
        let recorded = holds::Recorded::collect(traces, &mut findings);
        invariants::check(&recorded, &mut findings);
        reads::check_fast_reads(traces, history, &mut findings);
    }
    reads::check_versions(history, &mut findings);
    findings.into_report(leases)
}
