//! Canaries: before anything else, whether this campaign would see that something is wrong.
//!
//! | canary | what must be |
//! |---|---|
//! | `canary/NAME` | a bug is planted: one of the first seeds must show it, by the check that it breaks |
//! | `canary/NAME-without-the-bug` | the same without the bug: nothing is wrong |
//! | `canary/a-false-NAME` | a workload states, or a step expects, what is false of any cluster: that must be found |
//! | `canary/a-true-NAME` | the same with what is true: nothing is wrong |
//! | `canary/a-tampered-history` | a read returns what had been overwritten, with the place in the log of a later value |
//!
//! The checks of a history must not take the word of such a place for it, which is the certificate of a wrong order, and must
//! have called the same history valid before. The workloads are built in, so that no edited file can quieten a canary. If one
//! fails, nothing else is run or believed.

use std::{collections::BTreeMap, path::Path};

use checker::{
    history::{Function, History, Key, Kind, Record as Line},
    linearizability, sequential,
};

use super::{
    Verdict,
    hunt::{Means, hunt_with},
    judge::judge,
    record::{Block, Mode, Note, Record, digest},
};
use crate::{
    plan::Plan,
    report::name_of,
    sim::{self, Case, Options},
    workload::{self, CheckName, ExpectedVerdict, Workload},
};

/// Seeds within which a planted bug must be found.
const SEEDS: u64 = 40;

/// Seeds that must show nothing without it.
const CLEAN: u64 = 1;

/// Bugs that are planted, each for the check that must find it.
const BUGS: [(CheckName, &str, &str); 3] = [
    (
        CheckName::Linearizable,
        "reads-without-lease",
        include_str!("../../../workloads/negative/reads-without-lease.toml"),
    ),
    (
        CheckName::LeaseSafety,
        "restart-forgets-grant",
        include_str!("../../../workloads/negative/restart-forgets-grant.toml"),
    ),
    (
        CheckName::Progress,
        "election-needs-all",
        include_str!("../../../workloads/negative/election-needs-all.toml"),
    ),
];

/// Of workloads without any bug: what states or expects something of them, something false, and something true.
const CLAIMS: [(CheckName, &str, &str, &str, &str); 2] = [
    (
        CheckName::Statements,
        "statement",
        "[operations]\nmix = { get = 1, put = 1 }\nkeys = { count = 2 }\nrate = 50\n\
         [phases]\nwarm_up = '500ms'\nfaults = '3s'\n\
         [[nemesis]]\nname = 'death'\nat = '500ms'\naction = 'kill'\ntarget = 'leader(1)'\nfor = '2s'\n",
        "[[expect.that]]\nsays = 'silence'\nafter = { fault = 'death' }\nuntil = { fault = 'death', ends = true }\n",
        "[[expect.that]]\nsays = 'progress'\nafter = { fault = 'death' }\nwithin = '2s'\n",
    ),
    (
        CheckName::Script,
        "expectation",
        "[[step]]\nname = 'write'\nclient = 1\nvia = 1\nput = { key = 1, value = 'a' }\n",
        "[[step]]\nname = 'read'\nclient = 2\nvia = 2\nget = { key = 1 }\nexpect = { value = 'b' }\n",
        "[[step]]\nname = 'read'\nclient = 2\nvia = 2\nget = { key = 1 }\nexpect = { value = 'a' }\n",
    ),
];

/// The cluster of which they are claimed.
const CLUSTER: &str = "[cluster]\nnodes = 3\npartitions = [{}]\nheartbeat_ms = 40\nmissed_rounds = 5\nlease = 'off'\n\
                       request_timeout_ms = 300\n[clients]\ncount = 2\ntimeout_ms = 400\n";

/// Whether all canaries are as they should be. `blind` is a check that sees nothing, which the canaries must notice.
pub fn records(means: &Means, blind: Option<CheckName>) -> Result<Vec<Record>, String> {
    let mut records = Vec::new();
    for (by, name, text) in BUGS {
        let mut workload = parse(name, text)?;
        workload.expect.by = Some(by);
        records.push(run(name, workload.clone(), SEEDS, means, blind)?);
        let without = workload.without_mutant();
        records.push(run(&format!("{name}-without-the-bug"), without, CLEAN, means, blind)?);
    }
    for (by, name, what, is_false, is_true) in CLAIMS {
        let is_false =
            format!("{CLUSTER}{what}[expect]\nverdict = 'violation'\nby = '{}'\n{is_false}", name_of(by));
        let is_true = format!("{CLUSTER}{what}{is_true}");
        for (name, text) in [(format!("a-false-{name}"), is_false), (format!("a-true-{name}"), is_true)] {
            records.push(run(&name, parse(&name, &text)?, CLEAN, means, blind)?);
        }
    }
    let (_, name, text) = BUGS[0];
    records.push(tampered(&parse(name, text)?.without_mutant(), blind));
    Ok(records)
}

/// What is wrong with the canaries; nothing: the campaign can be believed.
pub fn problems(records: &[Record]) -> Vec<String> {
    let canaries = records.iter().filter(|record| record.mode == Mode::Canary);
    let judged = canaries.map(|record| (record, judge(record)));
    let bad = judged.filter(|(_, (verdict, _))| *verdict != Verdict::Expected);
    bad.map(|(record, (_, words))| format!("{} fails: {words}", record.workload)).collect()
}

fn parse(name: &str, text: &str) -> Result<Workload, String> {
    workload::parse(Path::new(&format!("negative/{name}.toml")), text).map_err(|problem| problem.to_string())
}

fn run(
    name: &str,
    workload: Workload,
    seeds: u64,
    means: &Means,
    blind: Option<CheckName>,
) -> Result<Record, String> {
    let negative = workload.expect.verdict == ExpectedVerdict::Violation;
    let case = Case::built_in(name, workload, 0..seeds)?;
    let mutant = case.plan.test.mutant.map(|_| name.to_owned());
    let mut record = Record { mutant, ..named(name, negative) };
    let one = |seed| {
        let mut outcome = sim::run(&case.plan(seed), &Options::default());
        outcome.findings.retain(|finding| Some(finding.by) != blind);
        outcome
    };
    hunt_with(&case, &(0..seeds), means, &mut record, &one);
    Ok(record)
}

fn named(name: &str, negative: bool) -> Record {
    Record { workload: format!("canary/{name}"), ..Record::new(Mode::Canary, negative) }
}

/// Whether the checks of a history notice that it was changed, and nothing before.
fn tampered(workload: &Workload, blind: Option<CheckName>) -> Record {
    let mut record = named("a-tampered-history", false);
    let lines = sim::history(&Plan::new(workload.clone(), 0));
    let changed = with_a_stale_read(&lines);
    for (by, valid) in
        [(CheckName::Linearizable, linearizable as Judge), (CheckName::Sequential, follows_its_log)]
    {
        let valid = |lines: &[Line]| {
            Some(by) == blind || History::from_records(lines.to_vec()).is_ok_and(|history| valid(&history))
        };
        let wrong = match &changed {
            None => Some("it has no read that could be changed"),
            Some(_) if !valid(&lines) => Some("calls what was not changed a violation"),
            Some(changed) if valid(changed) => Some("calls a violation valid"),
            Some(_) => None,
        };
        if let Some(wrong) = wrong {
            record.failed(Note { seed: 0, words: format!("{} {wrong}", name_of(by)) });
        }
    }
    record.blocks.push(Block { first: 0, seeds: 1, fingerprint: digest(format!("{lines:?}").as_bytes()) });
    record
}

type Judge = fn(&History) -> bool;

fn linearizable(history: &History) -> bool {
    let report = linearizability::check(history, linearizability::Budget::default());
    matches!(report.verdict(), linearizability::Verdict::Valid)
}

fn follows_its_log(history: &History) -> bool {
    sequential::check(history).verdict() == sequential::Verdict::Valid
}

/// The last read of a key that had other values before returns the first of them, which a write that had ended before the read
/// was asked for had replaced. Nothing else of the answer is changed.
fn with_a_stale_read(lines: &[Line]) -> Option<Vec<Line>> {
    let mut written: BTreeMap<&Key, Vec<&str>> = BTreeMap::new();
    let (mut asked, mut stale) = (BTreeMap::new(), None);
    for (place, line) in lines.iter().enumerate() {
        let Line::Op(operation) = line else { continue };
        match (&operation.function, operation.kind) {
            (Function::Put { .. }, Kind::Invoke) => {
                _ = asked.insert(operation.process, written.clone());
            }
            (Function::Put { key, value }, Kind::Ok) => {
                // the first, and then one that was asked for after the first had ended
                let before =
                    asked.get(&operation.process).and_then(|written| written.get(key)).map_or(0, Vec::len);
                let values = written.entry(key).or_default();
                if values.is_empty() || values.len() == 1 && before == 1 {
                    values.push(value);
                }
            }
            (Function::Get { .. }, Kind::Invoke) => _ = asked.insert(operation.process, written.clone()),
            (Function::Get { key }, Kind::Ok) => {
                let before = asked.get(&operation.process).and_then(|written| written.get(key));
                if let Some([first, _]) = before.map(Vec::as_slice) {
                    stale = Some((place, (*first).to_owned()));
                }
            }
            _ => {}
        }
    }
    let (place, value) = stale?;
    let mut lines = lines.to_vec();
    if let Line::Op(operation) = &mut lines[place]
        && let Some(result) = &mut operation.result
    {
        result.returned = Some(value);
    }
    Some(lines)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn found(blind: Option<CheckName>) -> Vec<String> {
        let means = Means { end: None, shrink: Duration::ZERO, jobs: 1, out: "nowhere".into() };
        problems(&records(&means, blind).expect("the built-in workloads are right"))
    }

    #[test]
    fn the_canaries_live() {
        assert_eq!(found(None), [""; 0]);
    }

    #[test]
    fn a_check_that_sees_nothing_is_noticed() {
        let fails = |blind, name: &str| {
            let problems = found(Some(blind));
            assert!(problems.iter().any(|problem| problem.contains(name)), "{blind:?}: {problems:?}");
        };
        fails(CheckName::Linearizable, "canary/reads-without-lease fails");
        fails(
            CheckName::Linearizable,
            "canary/a-tampered-history fails: seed 0: linearizable calls a violation valid",
        );
        fails(CheckName::Statements, "canary/a-false-statement fails: nothing was found");
        fails(CheckName::Script, "canary/a-false-expectation fails: nothing was found");
        fails(CheckName::LeaseSafety, "canary/restart-forgets-grant fails");
        fails(CheckName::Progress, "canary/election-needs-all fails");
        fails(
            CheckName::Sequential,
            "canary/a-tampered-history fails: seed 0: sequential calls a violation valid",
        );
    }
}
