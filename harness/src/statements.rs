//! What a workload states of its runs, held against a recorded history. The same for real and simulated runs.
//!
//! A statement is about windows of a run: from each time that something happens until the next time that something else
//! does. Where nobody asked anything, what was to happen did not, or the run was over before the window was, the run decides
//! nothing, unless the window has already shown that the statement is false.

use std::collections::BTreeMap;

use checker::history::{Function, History, Operation};
use store::api::PartitionId;

use crate::{
    plan::Plan,
    report::{Status, took_effect},
    run::all_keys,
    stall::Stall,
    workload::{Event, Moment, Often, Says, Statement, Time, store_key},
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
    /// When each partition got another leader, on the clock that the history's origin is a reading of.
    pub leader_changes: &'a BTreeMap<PartitionId, Vec<u64>>,
    /// How often a node took a partition over and never came to lead under that ballot; none: there are no traces.
    pub failed_elections: Option<&'a BTreeMap<PartitionId, u64>>,
    /// When the harness itself did not run: what it timed then decides nothing.
    pub stalls: &'a [Stall],
}

/// A stretch of a run, nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Window {
    from: u64,
    to: u64,
    /// The run went on until then.
    whole: bool,
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
        match statement.says {
            Says::LeaderChanges(often) if statement.after.is_none() && statement.until.is_none() => {
                // of the whole run, boot included
                let changes = counts(self.leader_changes);
                return self.so_often(statement.partition, often, &changes, "leader changes");
            }
            Says::FailedElections(often) => {
                let untraced = || (Status::Unknown, "there are no traces: see `lease_safety`".to_owned());
                let failed = self.failed_elections.ok_or_else(untraced)?;
                return self.so_often(statement.partition, often, failed, "failed elections");
            }
            _ => {}
        }
        let windows = self.windows(statement);
        if windows.is_empty() {
            return Err((Status::Unknown, format!("{} did not come", shown(statement.after.as_ref()))));
        }
        let partitions = self.partitions(statement.partition);
        let everywhere =
            windows.iter().flat_map(|window| partitions.iter().map(move |partition| (*window, *partition)));
        let not_true = everywhere
            .filter_map(|(window, partition)| self.in_window(statement.says, partition, window).err());
        // one window in which it is false outweighs any that decide nothing
        let worst = not_true.reduce(|worst, not| if not.0 > worst.0 { not } else { worst });
        worst.map_or(Ok(()), Err)
    }

    fn in_window(&self, says: Says, partition: PartitionId, window: Window) -> Result<(), Not> {
        match says {
            Says::Silence => self.silence(partition, window),
            Says::FastReads => self.fast_reads(partition, window),
            Says::OtherLeader { within } => self.other_leader(partition, self.within(window.from, within)),
            Says::Progress { within } => {
                self.progress(partition, self.within(window.from, within), "operation", |_| true)
            }
            Says::Writes { within } => {
                let is_write = |operation: &Operation| !matches!(operation.function, Function::Get { .. });
                self.progress(partition, self.within(window.from, within), "write", is_write)
            }
            Says::LeaderChanges(often) => self.leader_changes(partition, window, often),
            Says::FailedElections(_) => Ok(()),
        }
    }

    fn silence(&self, partition: PartitionId, window: Window) -> Result<(), Not> {
        let mut asked = self.asked(partition, window.from, window.to).peekable();
        if asked.peek().is_none() {
            return Err(nobody_asked(partition, window));
        }
        match asked.find(|operation| returned_by(operation, window.to)) {
            Some(operation) => Err(violation(partition, operation, "was answered")),
            None => window.went_on(),
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
            None => window.went_on(),
        }
    }

    fn other_leader(&self, partition: PartitionId, window: Window) -> Result<(), Not> {
        let Window { from, to, .. } = window;
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
        if self.asked(partition, from, to).next().is_none() {
            return Err(nobody_asked(partition, window));
        }
        window.went_on()?;
        let words = format!(
            "partition {partition} had no answer from another leader than node {old} from {} to {}",
            seconds(from),
            seconds(to)
        );
        Err((self.unless_stalled(from, to), words))
    }

    fn progress(
        &self,
        partition: PartitionId,
        window: Window,
        what: &str,
        is_meant: impl Fn(&Operation) -> bool,
    ) -> Result<(), Not> {
        let Window { from, to, .. } = window;
        let mut asked = self.asked(partition, from, to).filter(|operation| is_meant(operation)).peekable();
        if asked.peek().is_none() {
            return Err(nobody_asked(partition, window));
        }
        if asked.any(|operation| returned_by(operation, to)) {
            return Ok(());
        }
        window.went_on()?;
        let words = format!(
            "no {what} of partition {partition} was answered from {} to {}",
            seconds(from),
            seconds(to)
        );
        Err((self.unless_stalled(from, to), words))
    }

    fn leader_changes(&self, partition: PartitionId, window: Window, often: Often) -> Result<(), Not> {
        let Window { from, to, .. } = window;
        let origin = self.history.header.origin;
        let times = self.leader_changes.get(&partition).into_iter().flatten();
        let inside = times.filter(|time| (from + origin..=to + origin).contains(time));
        let count = inside.count() as u64;
        let too_many = often.at_most.is_some_and(|most| count > most);
        if !too_many {
            window.went_on()?;
        }
        if often.allows(count) {
            return Ok(());
        }
        let words = format!(
            "partition {partition} had {count} leader changes from {} to {}, not {often}",
            seconds(from),
            seconds(to)
        );
        Err((self.unless_stalled(from, to), words))
    }

    fn so_often(
        &self,
        partition: Option<PartitionId>,
        often: Often,
        counts: &BTreeMap<PartitionId, u64>,
        what: &str,
    ) -> Result<(), Not> {
        for partition in self.partitions(partition) {
            let count = counts.get(&partition).copied().unwrap_or_default();
            if !often.allows(count) {
                let words = format!("partition {partition} had {count} {what}, not {often}");
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

    /// Operations on a partition that were asked in that time; one that was refused was asked, too.
    fn asked(&self, partition: PartitionId, from: u64, to: u64) -> impl Iterator<Item = &Operation> {
        self.history.operations.iter().chain(&self.history.refused).filter(move |operation| {
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
        let window = |from: u64| match &untils {
            Some(untils) => match untils.iter().copied().find(|until| *until > from) {
                Some(to) => Window { from, to, whole: to <= end },
                None => Window { from, to: end, whole: false },
            },
            None => Window { from, to: end, whole: true },
        };
        froms.into_iter().map(window).collect()
    }

    /// So long from then on.
    fn within(&self, from: u64, within: Time) -> Window {
        let to = from + within.0.as_nanos() as u64;
        Window { from, to, whole: to <= self.end() }
    }

    /// When a moment came: as a beginning, when it was in effect; as an end, when it was asked for.
    fn times(&self, moment: &Moment, beginning: bool) -> Vec<u64> {
        let of_fault = |name: &String, begins: bool| -> Vec<u64> {
            let faults = self.history.faults.iter();
            let named = faults.filter(|fault| fault.begins == begins && fault.name.as_ref() == Some(name));
            // one that came to nothing did not happen
            let real = named.filter(|fault| took_effect(fault, &self.history.faults));
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

    /// The end of the run, or of what was recorded of it.
    fn end(&self) -> u64 {
        let operations = self.history.operations.iter();
        let returned = operations.map(|operation| operation.returned.unwrap_or(operation.invoked).time);
        let phases = self.history.phases.iter().map(|phase| phase.time);
        returned.chain(phases).max().unwrap_or_default()
    }
}

/// How often each partition got another leader.
pub fn counts(changes: &BTreeMap<PartitionId, Vec<u64>>) -> BTreeMap<PartitionId, u64> {
    changes.iter().map(|(partition, times)| (*partition, times.len() as u64)).collect()
}

impl Window {
    /// Nothing speaks against a statement so far; in a window that the run did not live to the end of, that decides nothing.
    fn went_on(self) -> Result<(), Not> {
        let words = || format!("the run was over before what begins at {} was", seconds(self.from));
        if self.whole { Ok(()) } else { Err((Status::Unknown, words())) }
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

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::workload;

    /// What a statement comes to after these lines: seconds, then `get N` answered by node N at once, `refused`, `lost`, or the
    /// name of a phase.
    fn judged(statement: &str, lines: &[(u64, &str)]) -> (Status, String) {
        let text = format!(
            "[cluster]\nnodes = 3\npartitions = [{{}}]\nlease = 'off'\npreset = {{ 1 = 'a' }}\n[[expect.that]]\n{statement}"
        );
        let workload =
            workload::parse(Path::new("w.toml"), &text).unwrap_or_else(|problem| panic!("{problem}"));
        let plan = Plan::new(workload, 0);
        let mut records =
            vec![r#"{"record":"header","workload":"w","seed":0,"origin":0,"initial":[]}"#.to_owned()];
        for (process, (at, what)) in lines.iter().enumerate() {
            let op = |time: u64, kind: &str, more: &str| {
                format!(
                    r#"{{"record":"op","time":{time},"process":{process},"client":{process},"node":1,"type":"{kind}","f":"get","key":1{more}}}"#
                )
            };
            let (asked, ended) = (at * 1_000_000_000, at * 1_000_000_000 + 1);
            match what.split_once(' ') {
                Some(("get", node)) => {
                    let result = r#","returned":"a","version":1,"ballot":"0.1.0@n1","fast":false,"leader":"#;
                    records.extend([op(asked, "invoke", ""), op(ended, "ok", &format!("{result}{node}"))]);
                }
                _ if *what == "refused" => records.extend([op(asked, "invoke", ""), op(ended, "fail", "")]),
                _ if *what == "lost" => records.extend([op(asked, "invoke", ""), op(ended, "info", "")]),
                _ => records.push(format!(r#"{{"record":"phase","time":{asked},"name":"{what}"}}"#)),
            }
        }
        let history = History::parse(&(records.join("\n") + "\n")).unwrap_or_else(|error| panic!("{error}"));
        let evidence = Evidence {
            plan: &plan,
            history: &history,
            leader_changes: &BTreeMap::new(),
            failed_elections: None,
            stalls: &[],
        };
        let judged = judge(&evidence).remove(0);
        (judged.status, judged.words)
    }

    fn status(statement: &str, lines: &[(u64, &str)]) -> Status {
        judged(statement, lines).0
    }

    #[test]
    fn nobody_asked_is_not_no_other_leader() {
        let other = "says = 'other-leader'\nafter = { phase = 'heal' }\nwithin = '5s'";
        let after = |what: &'static str| status(other, &[(1, "get 2"), (2, "heal"), (3, what), (20, "end")]);
        assert_eq!(after("get 3"), Status::Valid);
        assert_eq!(after("get 2"), Status::Violation);
        assert_eq!(after("refused"), Status::Violation, "somebody asked");
        assert_eq!(after("quiesce"), Status::Unknown, "nobody did");
    }

    #[test]
    fn what_was_refused_was_asked() {
        let silence = "says = 'silence'\nafter = { phase = 'heal' }\nuntil = { phase = 'end' }";
        let after = |what: &'static str| status(silence, &[(1, "heal"), (2, what), (3, "end")]);
        assert_eq!(after("refused"), Status::Valid);
        assert_eq!(after("lost"), Status::Valid);
        assert_eq!(after("get 1"), Status::Violation);
        assert_eq!(after("quiesce"), Status::Unknown);
        let progress = "says = 'progress'\nwithin = '5s'";
        assert_eq!(status(progress, &[(1, "heal"), (2, "refused"), (9, "end")]), Status::Violation);
    }

    #[test]
    fn a_read_is_no_write() {
        let reads = [(1, "heal"), (2, "get 1"), (20, "end")];
        assert_eq!(status("says = 'progress'\nwithin = '5s'", &reads), Status::Valid);
        assert_eq!(status("says = 'writes'\nwithin = '5s'", &reads), Status::Unknown, "nobody wrote");
    }

    #[test]
    fn a_window_that_the_run_does_not_live_to_see_decides_nothing_unless_it_is_false_already() {
        let progress =
            |end| status("says = 'progress'\nwithin = '5s'", &[(1, "heal"), (2, "lost"), (end, "end")]);
        assert_eq!((progress(6), progress(5)), (Status::Violation, Status::Unknown));
        let early = [(1, "heal"), (2, "get 1"), (3, "end")];
        assert_eq!(status("says = 'progress'\nwithin = '5s'", &early), Status::Valid, "true already");
        let other = "says = 'other-leader'\nafter = { phase = 'heal' }\nwithin = '5s'";
        let other = |end| status(other, &[(0, "get 2"), (1, "heal"), (2, "get 2"), (end, "end")]);
        assert_eq!((other(6), other(5)), (Status::Violation, Status::Unknown));
        let silence = "says = 'silence'\nafter = { phase = 'faults' }\nuntil = { phase = 'heal' }";
        let silence = |what: &'static str| judged(silence, &[(1, "faults"), (2, what), (3, "end")]);
        let (status, words) = silence("lost");
        assert_eq!(status, Status::Unknown, "{words}");
        assert!(words.contains("the run was over before what begins at 1.000 s was"), "{words}");
        assert_eq!(silence("get 1").0, Status::Violation, "false already");
    }

    #[test]
    fn a_false_window_outweighs_one_that_decides_nothing() {
        let silence = "says = 'silence'\nafter = { phase = 'heal' }\nuntil = { phase = 'quiesce' }";
        let twice = [(1, "heal"), (2, "quiesce"), (3, "heal"), (4, "get 1"), (5, "quiesce"), (6, "end")];
        assert_eq!(status(silence, &twice), Status::Violation);
    }
}
