//! Workloads on real processes, one run at a time, at the end of a campaign.
//!
//! Which of them is a list, too, that follows from the workloads and the state alone: what is new first, then what was run the
//! longest ago, as many as fit into the time by what their plans say. Of a run that fails two more of the same plan are made:
//! processes never interleave in the same way twice, and in how many of them it fails says where to look.
//!
//! Negative workloads are run there if that is asked for, seed after seed, until their bug is found or their time is up: a bug
//! that real processes do not show in that time is undecided, since how they interleave is nobody's choice.

use std::{fs, ops::Range, path::Path, time::Duration};

use anyhow::Result;

use super::record::{Block, Class, Note, Record};
use crate::{
    clock::boottime_ns,
    plan::Plan,
    progress,
    report::{FAILED, Report, Status, name_of},
    run::{self, Ended},
    sim::Case,
    terminal::{PROGRAM, for_shell},
    workload::ExpectedVerdict,
};

/// What boot, heal, final reads and checks take, about.
const BESIDE: Duration = Duration::from_secs(8);

/// Runs of a plan that fails.
const RUNS: u64 = 3;

/// The user has stopped it all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Interrupted;

/// The workloads that are run, by their places: those that expect to be valid, the lowest `rank` first.
pub fn chosen(cases: &[Case], time: Duration, rank: impl Fn(&Case) -> u64) -> Vec<usize> {
    let valid =
        |case: &Case| case.plan.expect.verdict == ExpectedVerdict::Valid && case.plan.test.mutant.is_none();
    let mut places: Vec<usize> =
        (0..cases.len()).filter(|place| valid(&cases[*place]) && !cases[*place].is_plan()).collect();
    places.sort_by_key(|place| rank(&cases[*place]));
    let mut left = time;
    places.retain(|place| {
        let fits = left.checked_sub(lasts(&cases[*place]));
        left = fits.unwrap_or(left);
        fits.is_some()
    });
    places
}

/// How long a run of it takes, about.
pub fn lasts(case: &Case) -> Duration {
    let phases = &case.plan.phases;
    phases.warm_up.0 + phases.faults.0 + phases.quiesce.0 + BESIDE
}

/// Runs a seed of a workload on real processes, and writes down what comes of it, as far as it got if it is interrupted.
pub fn run(case: &Case, seed: u64, out: &Path, record: &mut Record) -> Result<(), Interrupted> {
    let plan = case.plan(seed);
    run_with(seed, record, || on_processes(case, &plan, out))
}

/// Runs a workload with a planted bug on real processes until it is found out, for so long at most.
pub fn find_out(case: &Case, limit: Duration, out: &Path, record: &mut Record) -> Result<(), Interrupted> {
    find_out_with(case.seeds.clone(), limit, record, |seed, bug| {
        let plan = case.plan(seed);
        let plan = if bug == Bug::Planted { plan } else { plan.without_mutant() };
        on_processes(case, &plan, out)
    })
}

/// Whether a run has the bug that is planted in its workload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Bug {
    Planted,
    Removed,
}

/// The same with another way to run a seed. What is not the expected violation may be another effect of the bug, so others are
/// looked for; unless the same seed shows a violation without the bug: that is one of the store.
fn find_out_with(
    seeds: Range<u64>,
    limit: Duration,
    record: &mut Record,
    mut once: impl FnMut(u64, Bug) -> Result<Ended>,
) -> Result<(), Interrupted> {
    let began = boottime_ns();
    let took = || Duration::from_nanos(boottime_ns() - began);
    let mut once = |seed, bug, record: &mut Record| match once(seed, bug) {
        Ok(Ended::Interrupted(_)) => Err(Interrupted),
        Ok(Ended::Checked(report)) => Ok(Some(report)),
        Err(error) => {
            record.failed(Note { seed, words: format!("{error:#}") });
            Ok(None)
        }
    };
    for seed in seeds {
        let mut is_over = true;
        if let Some(report) = once(seed, Bug::Planted, record)? {
            let another = report.verdict == Status::Violation && !report.as_expected;
            let plain = if another { once(seed, Bug::Removed, record) } else { Ok(None) };
            let of_the_store = matches!(&plain, Ok(Some(plain)) if plain.verdict == Status::Violation);
            // it is written down whatever becomes of the other run
            is_over = take_negative(&report, of_the_store, record);
            plain?;
        }
        record.blocks.push(Block { first: seed, seeds: 1, fingerprint: String::new() });
        if is_over || took() >= limit {
            break;
        }
    }
    record.took_ms += took().as_millis() as u64;
    Ok(())
}

/// Writes down what came of one run of a workload with a planted bug; whether it is over with that.
fn take_negative(report: &Report, of_the_store: bool, record: &mut Record) -> bool {
    let note = || Note { seed: report.seed, words: report.words.clone() };
    record.reached += report.facts.mutant_reached as u64;
    match (report.exit_code, report.verdict) {
        (0, _) | (1, Status::Violation) => {
            record.failing += 1;
            for class in classes_of(report) {
                record.found(Class { expected: report.as_expected, of_the_store, count: 1, ..class });
            }
            return report.as_expected || of_the_store;
        }
        // nothing was found
        (1, _) => return false,
        (3, _) => {
            record.undecided(note());
            return false;
        }
        _ => record.failed(note()),
    }
    true
}

/// What a failing run has shown, by each check that fails; of no runs yet.
fn classes_of(report: &Report) -> Vec<Class> {
    let violated = report.checks.iter().filter(|check| check.status == Status::Violation);
    let mut found: Vec<(&str, String)> = violated
        .map(|check| (name_of(check.name), format!("{}: {}", name_of(check.name), check.words)))
        .collect();
    if found.is_empty() {
        found.push(("nothing that is expected", report.words.clone()));
    }
    let class = |(kind, words): (&str, String)| Class {
        kind: kind.to_owned(),
        words,
        seeds: vec![report.seed],
        again: report.again.clone(),
        kept: vec![report.folder.clone()],
        ..Class::default()
    };
    found.into_iter().map(class).collect()
}

/// One run; its folder is told by its place below the one where all is kept.
fn on_processes(case: &Case, plan: &Plan, out: &Path) -> Result<Ended> {
    progress::tell(|| format!("{} seed {} on real processes", case.name(), plan.seed));
    let again = format!("{PROGRAM} {} --seed {}", for_shell(&case.path), plan.seed);
    let mut ended = once(plan, &again, &out.join(&case.group))?;
    if let Ended::Checked(report) = &mut ended {
        let below = report.folder.strip_prefix(fs::canonicalize(out)?).map(Path::to_path_buf);
        report.folder = below.unwrap_or_else(|_| std::mem::take(&mut report.folder));
    }
    Ok(ended)
}

/// The same with another way to run it.
fn run_with(
    seed: u64,
    record: &mut Record,
    mut once: impl FnMut() -> Result<Ended>,
) -> Result<(), Interrupted> {
    let began = boottime_ns();
    let mut failing: Vec<Class> = Vec::new();
    for attempt in 1..=RUNS {
        let code = match once() {
            Ok(Ended::Interrupted(_)) => return Err(Interrupted),
            Ok(Ended::Checked(report)) => take(&report, record, &mut failing),
            Err(error) => {
                record.failed(Note { seed, words: format!("{error:#}") });
                FAILED
            }
        };
        if attempt == 1 && code != 1 {
            break;
        }
        // after an interruption its first run has been written down before
        let again = record.classes.iter().any(|class| class.seeds.contains(&seed));
        record.failing += u64::from(attempt == 1 && !again);
        for class in &failing {
            write_down(class, attempt, record);
        }
    }
    record.took_ms += (boottime_ns() - began) / 1_000_000;
    // nothing that two runs have in common
    record.blocks.push(Block { first: seed, seeds: 1, fingerprint: String::new() });
    Ok(())
}

/// Writes down what so many runs of a plan have shown, instead of what fewer of them had.
fn write_down(failing: &Class, runs: u64, record: &mut Record) {
    record.classes.retain(|class| (&class.kind, &class.seeds) != (&failing.kind, &failing.seeds));
    let words = format!("{}; {} of {runs} runs of this plan fail", failing.words, failing.count);
    record.found(Class { words, count: 1, ..failing.clone() });
}

fn once(plan: &Plan, again: &str, results: &Path) -> Result<Ended> {
    let options =
        run::Options { results: results.to_owned(), node_command: crate::cli::node_command()?, quiet: true };
    run::alone(plan, again.to_owned(), &options)
}

/// Writes down what came of one run; its exit code. What is found by several checks fails by each of them.
fn take(report: &Report, record: &mut Record, failing: &mut Vec<Class>) -> u8 {
    let seed = report.seed;
    for fault in &report.figures.faults {
        let took_effect = !fault.nodes.is_empty() && fault.struck != Some(0);
        *record.coverage.entry(format!("fault {}", fault.action)).or_default() += u64::from(took_effect);
    }
    record.reached += report.facts.mutant_reached as u64;
    let note = || Note { seed, words: report.words.clone() };
    match report.exit_code {
        0 => {}
        1 => {
            for found in classes_of(report) {
                let known = failing.iter().position(|class| class.kind == found.kind);
                match known.map(|place| &mut failing[place]) {
                    Some(class) => {
                        class.count += 1;
                        class.kept.extend(found.kept);
                    }
                    None => failing.push(Class { count: 1, ..found }),
                }
            }
        }
        3 => record.undecided(note()),
        _ => record.failed(note()),
    }
    report.exit_code
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;
    use crate::{
        campaign::{Verdict, judge::judge, record::Mode, table},
        report::{Check, Facts, Figures},
        workload::{self, CheckName},
    };

    #[test]
    fn as_many_are_chosen_as_there_is_time_for_by_their_rank() {
        let case = |name: &str, more: &str| {
            let text = format!(
                "[cluster]\nnodes = 3\npartitions = [{{}}]\nlease = 'off'\n\
                [phases]\nwarm_up = '1s'\nfaults = '10s'\nquiesce = '1s'\n{more}"
            );
            let workload =
                workload::parse(Path::new("w.toml"), &text).unwrap_or_else(|told| panic!("{told}"));
            Case::built_in(name, workload, 0..9).expect("it can be simulated")
        };
        let cases = [
            case("a", ""),
            case("negative", "[expect]\nverdict = 'violation'\n"),
            case("b", ""),
            case("c", ""),
        ];
        let rank = |case: &Case| u64::from(case.name() != "c");
        assert_eq!(chosen(&cases, Duration::from_secs(39), rank), [3]);
        assert_eq!(chosen(&cases, Duration::from_secs(40), rank), [3, 0]);
        assert_eq!(chosen(&cases, Duration::from_secs(90), rank), [3, 0, 2]);
        assert_eq!(chosen(&cases, Duration::ZERO, rank), [0; 0]);
    }

    #[test]
    fn a_violation_is_not_lost_when_the_next_run_is_interrupted() {
        let again = |record: &mut Record, codes: &[Option<u8>]| {
            let mut codes = codes.iter();
            run_with(3, record, || {
                let code = codes.next().expect("no more runs");
                Ok(code.map_or(Ended::Interrupted(PathBuf::new()), |code| {
                    let verdict = if code == 0 { Status::Valid } else { Status::Violation };
                    Ended::Checked(Box::new(report(3, code, verdict)))
                }))
            })
        };
        let runs = |codes: &[Option<u8>]| {
            let mut record = Record::new(Mode::Real, false);
            let ended = again(&mut record, codes);
            let words: Vec<_> = record
                .classes
                .iter()
                .map(|class| (class.count, class.words.clone(), class.kept.len()))
                .collect();
            assert_eq!(record.failing, 1, "one seed");
            (ended, words, record.seeds())
        };
        let found = |runs: &str, kept| {
            let words = |check| format!("{check}: a stale read; {runs} runs of this plan fail");
            vec![(1, words("lease-safety"), kept), (1, words("linearizable"), kept)]
        };
        assert_eq!(runs(&[Some(1), None]), (Err(Interrupted), found("1 of 1", 1), 0));
        assert_eq!(runs(&[Some(1), Some(0), None]), (Err(Interrupted), found("1 of 2", 1), 0));
        assert_eq!(runs(&[Some(1), Some(0), Some(1)]), (Ok(()), found("2 of 3", 2), 1));
        // whoever goes on later runs the same seed from its first run on
        let mut record = Record::new(Mode::Real, false);
        assert_eq!(again(&mut record, &[Some(1), None]), Err(Interrupted));
        assert_eq!(again(&mut record, &[Some(1), Some(1), Some(1)]), Ok(()));
        assert_eq!((record.failing, record.classes.len(), record.seeds()), (1, 2, 1), "{record:?}");
    }

    #[test]
    fn a_control_must_be_reached_on_real_processes_too() {
        let ended = |reached| {
            let mut record =
                Record { mutant: Some("control-prepare-twice".to_owned()), ..Record::new(Mode::Real, false) };
            let once = || {
                let mut report = report(0, 0, Status::Valid);
                report.facts.mutant_reached = reached;
                Ok(Ended::Checked(Box::new(report)))
            };
            assert_eq!(run_with(0, &mut record, once), Ok(()));
            judge(&record).0
        };
        assert_eq!((ended(0), ended(3)), (Verdict::Undecided, Verdict::Expected));
    }

    /// What runs with these exit codes and verdicts come to; the next one of a pair is the run without the bug.
    fn find_out(runs: &[(Bug, u8, Status)], limit: Duration) -> Record {
        let mut record = Record { mutant: Some("bug".to_owned()), ..Record::new(Mode::Real, true) };
        let mut left = runs.iter();
        let seeds = 0..runs.iter().filter(|(bug, ..)| *bug == Bug::Planted).count() as u64;
        let ended = find_out_with(seeds, limit, &mut record, |seed, asked| {
            let (bug, code, verdict) = left.next().expect("no more runs");
            assert_eq!(asked, *bug);
            Ok(Ended::Checked(Box::new(report(seed, *code, *verdict))))
        });
        assert_eq!(ended, Ok(()));
        record
    }

    const LONG: Duration = Duration::from_hours(1);
    const FOUND: (Bug, u8, Status) = (Bug::Planted, 0, Status::Violation);
    const NOTHING: (Bug, u8, Status) = (Bug::Planted, 1, Status::Valid);
    const ANOTHER: (Bug, u8, Status) = (Bug::Planted, 1, Status::Violation);
    const CLEAN: (Bug, u8, Status) = (Bug::Removed, 0, Status::Valid);
    const WRONG: (Bug, u8, Status) = (Bug::Removed, 1, Status::Violation);

    #[test]
    fn a_planted_bug_is_looked_for_until_it_is_found_or_the_time_is_up() {
        let find_out = |runs: &[_], limit| {
            let record = find_out(runs, limit);
            (record.seeds(), record.reached, judge(&record).0)
        };
        let undecided = (Bug::Planted, 3, Status::Unknown);
        assert_eq!(find_out(&[NOTHING, undecided, FOUND, NOTHING], LONG), (3, 3, Verdict::Expected));
        assert_eq!(find_out(&[NOTHING, NOTHING], LONG), (2, 2, Verdict::Undecided), "not of the store");
        assert_eq!(find_out(&[NOTHING, FOUND], Duration::ZERO), (1, 1, Verdict::Undecided));
    }

    #[test]
    fn another_violation_than_the_expected_is_told_unless_the_bug_alone_has_it_and_is_found() {
        let find_out = |runs: &[_]| {
            let record = find_out(runs, LONG);
            let told = table::unexpected(std::slice::from_ref(&record));
            (record.seeds(), judge(&record).0, told.is_empty())
        };
        assert_eq!(find_out(&[ANOTHER, CLEAN, FOUND]), (2, Verdict::Expected, true));
        assert_eq!(find_out(&[ANOTHER, CLEAN, NOTHING]), (2, Verdict::Unexpected, false));
        assert_eq!(find_out(&[ANOTHER, WRONG, FOUND]), (1, Verdict::Unexpected, false), "of the store");
    }

    fn report(seed: u64, exit_code: u8, verdict: Status) -> Report {
        let check = |name| Check {
            name,
            status: Status::Violation,
            words: "a stale read".to_owned(),
            findings: Vec::new(),
        };
        let checks = [CheckName::Linearizable, CheckName::LeaseSafety].map(check);
        Report {
            version: 1,
            workload: "w".to_owned(),
            seed,
            verdict,
            as_expected: exit_code == 0,
            exit_code,
            words: "a stale read".to_owned(),
            missing: Vec::new(),
            checks: if verdict == Status::Violation { checks.to_vec() } else { Vec::new() },
            facts: Facts { mutant_reached: 1, ..Facts::default() },
            figures: Figures::default(),
            mutant: None,
            deaths: Vec::new(),
            again: String::new(),
            folder: PathBuf::from("w/20261121T000000Z-3"),
        }
    }
}
