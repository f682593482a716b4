//! From what the checks say and what the run contained to one verdict and one exit code.

use std::{collections::BTreeMap, path::PathBuf};

use checker::history::Nemesis;
use serde::Serialize;

use super::{FaultFigures, Figures, lacking::lacking, schema::VERSION};
use crate::{
    cluster::{Cause, Death},
    plan::Plan,
    workload::{CheckName, Expect, ExpectedVerdict, Require},
};

/// What a check, or a run, comes to. Unknown is never valid.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Status {
    /// Nothing is wrong.
    Valid,
    /// Not decided.
    Unknown,
    /// Something is wrong.
    Violation,
}

/// What one check says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Check {
    /// Which.
    pub name: CheckName,
    /// What it comes to.
    pub status: Status,
    /// In one line.
    pub words: String,
    /// What was found, one text each.
    pub findings: Vec<String>,
}

/// What the run contained, beside its figures.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Facts {
    /// Fast reads in the last tenth of a hold; none: traces were not read.
    pub fast_reads_near_expiry: Option<usize>,
    /// Take-overs that never came to lead, by partition; none: traces were not read.
    pub failed_elections: Option<BTreeMap<u32, u64>>,
    /// Keys of the run.
    pub keys: usize,
    /// Of these, keys that were read at the end.
    pub keys_read_at_the_end: usize,
    /// How often a planted bug was reached.
    pub mutant_reached: usize,
    /// Snapshots that a node has fetched from another.
    pub snapshots_fetched: usize,
}

/// Everything that a run has shown.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Report {
    /// The version of this format.
    pub version: u32,
    /// The workload.
    pub workload: String,
    /// The seed.
    pub seed: u64,
    /// What the checks come to.
    pub verdict: Status,
    /// Whether that is what the workload expects.
    pub as_expected: bool,
    /// The process's exit code for this run.
    pub exit_code: u8,
    /// Why the verdict is what it is, in one line.
    pub words: String,
    /// What the run should have contained and did not.
    pub missing: Vec<String>,
    /// Each check.
    pub checks: Vec<Check>,
    /// What the run contained.
    pub facts: Facts,
    /// Its figures.
    pub figures: Figures,
    /// The planted bug.
    pub mutant: Option<String>,
    /// Nodes that ended by themselves.
    pub deaths: Vec<Death>,
    /// The command that does the same again, with the same plan; processes never interleave in the same way twice.
    pub again: String,
    /// The results folder.
    pub folder: PathBuf,
}

/// What a run lacks that it must contain to mean anything, beside faults that took effect: at least one answer.
pub fn missing(require: &Require, facts: &Facts, figures: &Figures) -> Vec<String> {
    let mut missing = Vec::new();
    let mut at_least = |have: u64, wanted: u64, what: &str| {
        if have < wanted {
            missing.push(format!("{have} {what}, {wanted} are required"));
        }
    };
    at_least(figures.answered(), require.operations.max(1), "answered operations");
    at_least(figures.fast_reads, require.fast_reads, "fast reads");
    at_least(figures.local_reads, require.local_reads, "local reads");
    at_least(figures.ways.redirects, require.redirects, "redirects");
    at_least(figures.ways.unknown, require.asked_again, "times asked again in a session");
    at_least(figures.leader_changes.values().sum(), require.leader_changes, "leader changes");
    at_least(facts.snapshots_fetched as u64, require.snapshots_fetched, "snapshots fetched");
    if require.fast_read_near_expiry {
        let near = facts.fast_reads_near_expiry.unwrap_or_default();
        at_least(near as u64, 1, "fast reads in the last tenth of a hold");
    }
    if require.final_reads {
        at_least(facts.keys_read_at_the_end as u64, facts.keys as u64, "keys read at the end");
    }
    // what does not last, or found nobody, has nothing beside it
    for fault in figures.faults.iter().filter(|fault| !fault.instant) {
        let name = called(fault);
        if fault.overlapping < require.operations_per_fault {
            let wanted = require.operations_per_fault;
            missing.push(format!(
                "{} answered operations overlap {name}, {wanted} are required",
                fault.overlapping
            ));
        }
    }
    missing
}

fn called(fault: &FaultFigures) -> String {
    format!("fault {} ({} {})", fault.fault, fault.action, fault.target)
}

/// Exit code of a run that failed, so that nothing is known of what it was to show.
pub const FAILED: u8 = 4;

/// Which exit code of several counts: 1 over 4 over 3 over 0.
pub fn severity(exit_code: u8) -> u8 {
    match exit_code {
        1 => 3,
        FAILED => 2,
        3 => 1,
        _ => 0,
    }
}

/// The verdict, whether it is the expected one, the exit code, and why.
///
/// Of a run in which a node died by itself only violations of linearizability and lease safety count: no death excuses them,
/// and whatever else is wrong may come of the death. A death of which only the end is known otherwise means that the run
/// failed; one by an assertion of the core is a violation of lease safety among the checks.
pub fn judge(
    expect: &Expect,
    checks: &[Check],
    missing: &[String],
    facts: &Facts,
    deaths: &[Death],
) -> (Status, bool, u8, String) {
    let counts = |check: &&Check| {
        let is_safety =
            matches!(check.name, CheckName::Linearizable | CheckName::Sequential | CheckName::LeaseSafety);
        deaths.is_empty() || is_safety && check.status == Status::Violation
    };
    let checks: Vec<&Check> = checks.iter().filter(counts).collect();
    // whom the harness has killed for what it said may have lost by that what it had promised
    let broke = deaths.iter().find(|death| matches!(death.cause, Cause::Broke(_)));
    if let Some(death) = broke.or(deaths.first().filter(|_| checks.is_empty())) {
        return (Status::Unknown, false, FAILED, format!("the run failed: {death}"));
    }
    if checks.is_empty() {
        return (Status::Unknown, false, 3, "nothing was checked".to_owned());
    }
    let worst = checks.iter().map(|check| check.status).max().unwrap_or(Status::Valid);
    let verdict = if worst == Status::Valid && !missing.is_empty() { Status::Unknown } else { worst };
    let deciding = checks.iter().find(|check| check.status == verdict);
    let words = match (verdict, deciding) {
        (Status::Unknown, None) => format!("the run lacks something: {}", missing.join("; ")),
        (Status::Valid, _) => "nothing is wrong".to_owned(),
        (_, Some(check)) => format!("{}: {}", name_of(check.name), check.words),
        (_, None) => String::new(),
    };
    match (expect.verdict, verdict) {
        (ExpectedVerdict::Valid, Status::Valid) => (verdict, true, 0, words),
        (ExpectedVerdict::Valid, Status::Violation) => (verdict, false, 1, words),
        (_, Status::Unknown) => (verdict, false, 3, words),
        (ExpectedVerdict::Violation, Status::Valid) => {
            let reached = facts.mutant_reached;
            let words = format!(
                "a violation was expected and not found; the planted bug was reached {reached} times"
            );
            (verdict, false, 1, words)
        }
        (ExpectedVerdict::Violation, Status::Violation)
            if missing.iter().any(|what| what == NEVER_REACHED) =>
        {
            (verdict, false, 1, format!("{NEVER_REACHED}, so something else is wrong: {words}"))
        }
        (ExpectedVerdict::Violation, Status::Violation) => {
            let found = |check: &&&Check| check.status == Status::Violation;
            if checks.iter().filter(found).any(|check| expect.accepts(check.name)) {
                return (verdict, true, 0, format!("expected, {words}"));
            }
            let by = expect.by.map_or("linearizable, sequential or lease-safety", name_of);
            (verdict, false, 1, format!("{by} was expected to find it; {words}"))
        }
    }
}

/// A run in which the planted bug changed nothing shows nothing, whether something was found or not.
pub const NEVER_REACHED: &str = "the planted bug was never reached";

/// The check's name in words.
pub fn name_of(name: CheckName) -> &'static str {
    match name {
        CheckName::Linearizable => "linearizable",
        CheckName::Sequential => "sequential",
        CheckName::LeaseSafety => "lease-safety",
        CheckName::Progress => "progress",
        CheckName::Script => "script",
        CheckName::Statements => "statements",
    }
}

impl Report {
    /// Puts a run's report together; `faults` are those of its history.
    pub fn new(
        plan: &Plan,
        folder: PathBuf,
        checks: Vec<Check>,
        facts: Facts,
        figures: Figures,
        faults: &[Nemesis],
        deaths: Vec<Death>,
    ) -> Self {
        let mut missing = missing(&plan.require, &facts, &figures);
        missing.extend(lacking(plan, faults));
        if plan.test.mutant.is_some() && facts.mutant_reached == 0 {
            missing.push(NEVER_REACHED.to_owned());
        }
        let (verdict, as_expected, exit_code, words) =
            judge(&plan.expect, &checks, &missing, &facts, &deaths);
        let mutant = plan.test.mutant.map(|mutant| format!("{mutant:?}"));
        Self {
            version: VERSION,
            workload: plan.workload.clone(),
            seed: plan.seed,
            verdict,
            as_expected,
            exit_code,
            words,
            missing,
            checks,
            facts,
            figures,
            mutant,
            deaths,
            again: String::new(),
            folder,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(name: CheckName, status: Status) -> Check {
        Check { name, status, words: "so".to_owned(), findings: Vec::new() }
    }

    fn code(expect: &Expect, checks: &[Check], missing: &[String]) -> (Status, u8) {
        let (verdict, _, code, _) = judge(expect, checks, missing, &Facts::default(), &[]);
        (verdict, code)
    }

    #[test]
    fn exit_codes_follow_verdict_and_expectation() {
        let valid = Expect::default();
        let by = Some(CheckName::LeaseSafety);
        let negative = Expect { verdict: ExpectedVerdict::Violation, by, that: Vec::new() };
        let fine = [check(CheckName::Linearizable, Status::Valid)];
        let undecided = [check(CheckName::Linearizable, Status::Unknown)];
        let found =
            [check(CheckName::LeaseSafety, Status::Violation), check(CheckName::Script, Status::Unknown)];
        let other = [check(CheckName::Linearizable, Status::Violation)];
        let lacks = ["something".to_owned()];
        assert_eq!(code(&valid, &fine, &[]), (Status::Valid, 0));
        assert_eq!(code(&valid, &fine, &lacks), (Status::Unknown, 3));
        assert_eq!(code(&valid, &undecided, &[]), (Status::Unknown, 3));
        assert_eq!(code(&valid, &found, &lacks), (Status::Violation, 1));
        assert_eq!(code(&negative, &found, &lacks), (Status::Violation, 0));
        assert_eq!(code(&negative, &other, &[]), (Status::Violation, 1));
        assert_eq!(code(&negative, &fine, &[]), (Status::Valid, 1));
        assert_eq!(code(&negative, &undecided, &[]), (Status::Unknown, 3));
        // without a named check, a cluster that only made no progress shows nothing of a bug
        let unnamed = Expect { verdict: ExpectedVerdict::Violation, ..Expect::default() };
        assert_eq!(code(&unnamed, &other, &[]), (Status::Violation, 0));
        let stuck = [check(CheckName::Progress, Status::Violation)];
        assert_eq!(code(&unnamed, &stuck, &[]), (Status::Violation, 1));
        let unreached = [NEVER_REACHED.to_owned()];
        assert_eq!(code(&negative, &fine, &unreached), (Status::Unknown, 3));
        assert_eq!(code(&negative, &found, &unreached), (Status::Violation, 1));
        assert_eq!(code(&valid, &fine, &unreached), (Status::Unknown, 3));
        assert_eq!(code(&valid, &[], &[]), (Status::Unknown, 3), "nothing was checked");
    }

    #[test]
    fn of_a_run_with_a_death_only_violations_of_safety_count() {
        let death = |cause| Death { node: 2, cause, log: String::new() };
        let unknown = || death(Cause::Unknown("was killed by signal 6".to_owned()));
        let assertion = || death(Cause::Assertion("SP3".to_owned()));
        let judged = |expect: &Expect, checks: &[Check], deaths: &[Death]| {
            let (verdict, as_expected, code, words) =
                judge(expect, checks, &["something".to_owned()], &Facts::default(), deaths);
            assert_eq!(as_expected, code == 0);
            (verdict, code, words)
        };
        let code = |expect: &Expect, checks: &[Check], deaths: &[Death]| {
            let (verdict, code, _) = judged(expect, checks, deaths);
            (verdict, code)
        };
        let valid = Expect::default();
        let negative = |by| Expect { verdict: ExpectedVerdict::Violation, by: Some(by), that: Vec::new() };
        let fine = [check(CheckName::Linearizable, Status::Valid)];
        let (verdict, exit_code, words) = judged(&valid, &fine, &[unknown()]);
        assert_eq!((verdict, exit_code), (Status::Unknown, FAILED));
        assert_eq!(words, "the run failed: node 2 was killed by signal 6, and nobody had killed it");
        for name in [CheckName::Progress, CheckName::Script, CheckName::Statements] {
            let consequence = [check(CheckName::Linearizable, Status::Valid), check(name, Status::Violation)];
            assert_eq!(code(&valid, &consequence, &[unknown()]), (Status::Unknown, FAILED), "{name:?}");
            assert_eq!(code(&negative(name), &consequence, &[unknown()]), (Status::Unknown, FAILED));
        }
        for name in [CheckName::Linearizable, CheckName::Sequential, CheckName::LeaseSafety] {
            let found = [check(name, Status::Violation), check(CheckName::Progress, Status::Violation)];
            let broke = death(Cause::Broke("printed a line that is no message".to_owned()));
            assert_eq!(code(&valid, &found, &[unknown(), broke]), (Status::Unknown, 4));
            for deaths in [vec![unknown()], vec![assertion()], vec![unknown(), assertion()]] {
                assert_eq!(code(&valid, &found, &deaths), (Status::Violation, 1));
                assert_eq!(code(&negative(name), &found, &deaths), (Status::Violation, 0));
                assert_eq!(code(&negative(CheckName::Progress), &found, &deaths), (Status::Violation, 1));
            }
        }
        assert_eq!(code(&negative(CheckName::LeaseSafety), &fine, &[unknown()]), (Status::Unknown, FAILED));
        assert_eq!(code(&valid, &fine, &[assertion()]), (Status::Unknown, FAILED), "never valid");
    }

    #[test]
    fn a_run_that_answers_nothing_lacks_an_answer() {
        let lacking = missing(&Require::default(), &Facts::default(), &Figures::default());
        assert_eq!(lacking, ["0 answered operations, 1 are required"]);
    }

    #[test]
    fn what_a_run_lacks_is_named() {
        let require = Require {
            operations: 10,
            leader_changes: 2,
            fast_read_near_expiry: true,
            final_reads: true,
            ..Require::default()
        };
        let facts = Facts { keys: 3, keys_read_at_the_end: 2, ..Facts::default() };
        let lacking = missing(&require, &facts, &Figures::default());
        assert_eq!(
            lacking,
            [
                "0 answered operations, 10 are required",
                "0 leader changes, 2 are required",
                "0 fast reads in the last tenth of a hold, 1 are required",
                "2 keys read at the end, 3 are required",
            ]
        );
    }
}
