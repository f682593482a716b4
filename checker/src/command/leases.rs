//! `checker leases`: were the leases of this run safe, and do its nodes agree?

use std::path::Path;
use std::process::ExitCode;

use anyhow::Context;
use checker::lease_safety::{self, LeaseReport};

/// Judges a run and tells of it.
pub(crate) fn leases(run: &Path, json: bool) -> anyhow::Result<ExitCode> {
    let report = lease_safety::check(run).with_context(|| run.display().to_string())?;
    if json {
        say!("{}", serde_json::to_string(&report)?);
    } else {
        tell_leases(&report);
    }
    let checked = if report.leases { "L1-L8 SP2 SP3 BLE3" } else { "L8 SP2 SP3 BLE3, no leases" };
    if report.is_valid() && report.exercise.boots == 0 {
        say!("VERDICT unknown no node has started in these traces");
        return Ok(ExitCode::from(3));
    }
    if report.is_valid() {
        say!("VERDICT valid ({checked})");
        return Ok(ExitCode::SUCCESS);
    }
    let counts: Vec<String> =
        report.counts.iter().map(|(invariant, count)| format!("{invariant} x{count}")).collect();
    say!("VERDICT violation {} ({checked})", counts.join(" "));
    Ok(ExitCode::from(1))
}

fn tell_leases(report: &LeaseReport) {
    for violation in &report.violations {
        say!("{violation}\n");
    }
    let exercise = &report.exercise;
    say!("events {}, boots {}, cut-off lines {}", exercise.events, exercise.boots, exercise.truncated_lines);
    say!(
        "promises {}, entries compared {}, snapshots fetched {}",
        exercise.promises,
        exercise.entries_compared,
        exercise.snapshots_fetched
    );
    for (partition, changes) in &exercise.leader_changes {
        say!("partition {partition}: {changes} leader changes");
    }
    for (partition, failed) in &exercise.failed_elections {
        say!("partition {partition}: {failed} take-overs that never led");
    }
    for (mutant, count) in &exercise.mutants {
        say!("planted bug {mutant} reached {count} times");
    }
    if !report.leases {
        say!("no node had leases on: L1 to L7 were not checked");
        return;
    }
    say!("grants {}, holds {}, extensions {}", exercise.grants, exercise.holds, exercise.extensions);
    say!(
        "fast reads {}, of them {} in the last tenth of a lease; {} fast answers without a trace event",
        exercise.fast_reads,
        exercise.fast_reads_near_expiry,
        exercise.fast_answers_without_event
    );
}
