//! What a workload states of its runs, held against a recorded history. The same for real and simulated runs.
//!
//! A statement is about windows of a run: from each time that something happens until the next time that something else
//! does. Where nobody asked anything, or what was to happen did not, the run decides nothing.

use std::collections::BTreeMap;

use checker::history::{Function, History, Operation};
use store::api::PartitionId;

use crate::{
    plan::Plan,
    report::Status,
    run::all_keys,
    stall::Stall,
    workload::{Event, Moment, Says, Statement, store_key},
};

/// What a run shows of a statement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Judged {
    /// What it comes to.
    pub status: Status,
    /// The statement's name, and what was found unless it is true.
    pub words: String,
}

/// What there is to judge by.
#[derive(Clone, Copy)]
pub struct Evidence<'a> {
    /// The plan.
    pub plan: &'a Plan,
    /// The history.
    pub history: &'a History,
    /// How often each partition got another leader.
    pub leader_changes: &'a BTreeMap<PartitionId, u64>,
    /// When the harness itself did not run: what it timed then decides nothing.
    pub stalls: &'a [Stall],
}

/// A stretch of a run, nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Window {
    from: u64,
    to: u64,
}

/// Judges all statements of the plan.
pub fn judge(evidence: &Evidence<'_>) -> Vec<Judged> {
    let statements = evidence.plan.expect.that.iter();
    statements
        .map(|statement| {
            let (status, words) = match evidence.statement(statement) {
                Ok(()) => (Status::Valid, statement.name.clone()),
                Err((status, words)) => (status, format!("{}: {words}", statement.name)),
            };
            Judged { status, words }
        })
        .collect()
}

/// Why a statement is not true, or not decided.
type Not = (Status, String);

impl Evidence<'_> {
    fn statement(&self, statement: &Statement) -> Result<(), Not> {
        if let Says::LeaderChanges { at_least } = statement.says {
            return self.leader_changes(statement.partition, at_least);
        }
        let windows = self.windows(statement);
        if windows.is_empty() {
            return Err((Status::Unknown, format!("{} did not come", shown(statement.after.as_ref()))));
        }
        for window in windows {
            for partition in self.partitions(statement.partition) {
                self.in_window(statement.says, partition, window)?;
            }
        }
        Ok(())
    }

    fn in_window(&self, says: Says, partition: PartitionId, window: Window) -> Result<(), Not> {
        match says {
            Says::Silence => self.silence(partition, window),
            Says::FastReads => self.fast_reads(partition, window),
            Says::OtherLeader { within } => {
                self.other_leader(partition, window.from, window.from + within.0.as_nanos() as u64)
            }
            Says::Progress { within } => {
                self.progress(partition, window.from, window.from + within.0.as_nanos() as u64)
            }
            Says::LeaderChanges { .. } => Ok(()),
        }
    }

    fn silence(&self, partition: PartitionId, window: Window) -> Result<(), Not> {
        let mut asked = self.asked(partition, window.from, window.to).peekable();
        if asked.peek().is_none() {
            return Err(nobody_asked(partition, window));
        }
        match asked.find(|operation| returned_by(operation, window.to)) {
            Some(operation) => Err(violation(partition, operation, "was answered")),
            None => Ok(()),
        }
    }

    fn fast_reads(&self, partition: PartitionId, window: Window) -> Result<(), Not> {
        let is_read = |operation: &&Operation| {
            matches!(operation.function, Function::Get { .. }) && returned_by(operation, window.to)
        };
        let mut reads = self.asked(partition, window.from, window.to).filter(is_read).peekable();
        if reads.peek().is_none() {
            return Err(nobody_asked(partition, window));
        }
        match reads.find(|read| read.result.as_ref().is_some_and(|result| !result.fast)) {
            Some(read) => Err(violation(partition, read, "was not fast")),
            None => Ok(()),
        }
    }

    fn other_leader(&self, partition: PartitionId, from: u64, to: u64) -> Result<(), Not> {
        let before = self.answers(partition).filter(|(_, returned, _)| *returned <= from);
        let Some((_, _, old)) = before.max_by_key(|(_, returned, _)| *returned) else {
            let words = format!("nobody had answered for partition {partition} before {}", seconds(from));
            return Err((Status::Unknown, words));
        };
        let mut after =
            self.answers(partition).filter(|(invoked, returned, _)| *invoked >= from && *returned <= to);
        if after.any(|(_, _, leader)| leader != old) {
            return Ok(());
        }
        let words = format!(
            "partition {partition} had no answer from another leader than node {old} from {} to {}",
            seconds(from),
            seconds(to)
        );
        Err((self.unless_stalled(from, to), words))
    }

    fn progress(&self, partition: PartitionId, from: u64, to: u64) -> Result<(), Not> {
        let mut asked = self.asked(partition, from, to).peekable();
        if asked.peek().is_none() {
            return Err(nobody_asked(partition, Window { from, to }));
        }
        if asked.any(|operation| returned_by(operation, to)) {
            return Ok(());
        }
        let words = format!(
            "no operation of partition {partition} was answered from {} to {}",
            seconds(from),
            seconds(to)
        );
        Err((self.unless_stalled(from, to), words))
    }

    fn leader_changes(&self, partition: Option<PartitionId>, at_least: u64) -> Result<(), Not> {
        for partition in self.partitions(partition) {
            let changes = self.leader_changes.get(&partition).copied().unwrap_or_default();
            if changes < at_least {
                let words =
                    format!("partition {partition} got another leader {changes} times, not {at_least}");
                return Err((Status::Violation, words));
            }
        }
        Ok(())
    }

    /// What came too late is nobody's fault when the harness stood still.
    fn unless_stalled(&self, from: u64, to: u64) -> Status {
        let stalled = self.stalls.iter().any(|stall| stall.from < to && stall.to > from);
        if stalled { Status::Unknown } else { Status::Violation }
    }

    /// The partition, or all of which the run knows keys.
    fn partitions(&self, partition: Option<PartitionId>) -> Vec<PartitionId> {
        if let Some(partition) = partition {
            return vec![partition];
        }
        let keys = all_keys(self.plan);
        let mut partitions: Vec<PartitionId> =
            keys.iter().filter_map(|key| self.plan.cluster.partition_of(&store_key(key))).collect();
        partitions.sort_unstable();
        partitions.dedup();
        partitions
    }

    /// Operations on a partition that were asked in that time, refused ones left out.
    fn asked(&self, partition: PartitionId, from: u64, to: u64) -> impl Iterator<Item = &Operation> {
        self.history.operations.iter().filter(move |operation| {
            (from..=to).contains(&operation.invoked.time)
                && self.plan.cluster.partition_of(&store_key(operation.function.key())) == Some(partition)
        })
    }

    /// When each operation of a partition that a leader answered was asked and answered, and who led.
    fn answers(&self, partition: PartitionId) -> impl Iterator<Item = (u64, u64, u64)> {
        self.asked(partition, 0, u64::MAX).filter_map(|operation| {
            let result = operation.result.as_ref().filter(|result| !result.local)?;
            Some((operation.invoked.time, operation.returned?.time, result.leader))
        })
    }

    fn windows(&self, statement: &Statement) -> Vec<Window> {
        let end = self.end();
        let froms = statement.after.as_ref().map_or(vec![0], |after| self.times(after, true));
        let untils = statement.until.as_ref().map(|until| self.times(until, false));
        let window = |from: u64| {
            let to = match &untils {
                Some(untils) => untils.iter().copied().find(|until| *until > from).unwrap_or(end),
                None => end,
            };
            Window { from, to }
        };
        froms.into_iter().map(window).collect()
    }

    /// When a moment came: as a beginning, when it was in effect; as an end, when it was asked for.
    fn times(&self, moment: &Moment, beginning: bool) -> Vec<u64> {
        let of_fault = |name: &String, begins: bool| -> Vec<u64> {
            let faults = self.history.faults.iter();
            let named = faults.filter(|fault| fault.begins == begins && fault.name.as_ref() == Some(name));
            // one that found nobody did not happen
            let real = named.filter(|fault| !fault.nodes.is_empty() || fault.action == "heal");
            real.map(|fault| if beginning { fault.time } else { fault.requested }).collect()
        };
        let times: Vec<u64> = match &moment.event {
            Event::FaultBegins(name) => of_fault(name, true),
            Event::FaultEnds(name) => of_fault(name, false),
            Event::Phase(name) => self
                .history
                .phases
                .iter()
                .filter(|phase| phase.name == *name)
                .map(|phase| phase.time)
                .collect(),
        };
        times.into_iter().map(|time| time + moment.plus.0.as_nanos() as u64).collect()
    }

    fn end(&self) -> u64 {
        let operations = self.history.operations.iter();
        let returned = operations.map(|operation| operation.returned.unwrap_or(operation.invoked).time);
        returned.max().unwrap_or_default()
    }
}

fn returned_by(operation: &Operation, to: u64) -> bool {
    operation.returned.is_some_and(|returned| returned.time <= to)
}

fn nobody_asked(partition: PartitionId, window: Window) -> Not {
    let (from, to) = (seconds(window.from), seconds(window.to));
    (Status::Unknown, format!("nobody asked partition {partition} for anything from {from} to {to}"))
}

fn violation(partition: PartitionId, operation: &Operation, what: &str) -> Not {
    let name = crate::history_writer::name_of(&operation.function);
    let words = format!(
        "a {name} of key {} in partition {partition}, asked at {}, {what}",
        operation.function.key(),
        seconds(operation.invoked.time)
    );
    (Status::Violation, words)
}

fn shown(moment: Option<&Moment>) -> String {
    match moment.map(|moment| &moment.event) {
        Some(Event::FaultBegins(name)) => format!("the fault `{name}`"),
        Some(Event::FaultEnds(name)) => format!("the end of the fault `{name}`"),
        Some(Event::Phase(name)) => format!("the phase `{name}`"),
        None => "the beginning".to_owned(),
    }
}

fn seconds(nanos: u64) -> String {
    format!("{:.3} s", nanos as f64 / 1e9)
}
