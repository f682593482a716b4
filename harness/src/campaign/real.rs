//! Workloads on real processes, one run at a time, at the end of a campaign.
//!
//! Which of them is a list, too, that follows from the workloads and the state alone: what is new first, then what was run the
//! longest ago, as many as fit into the time by what their plans say. Of a run that fails two more of the same plan are made:
//! processes never interleave in the same way twice, and in how many of them it fails says where to look.

use std::{fs, path::Path, time::Duration};

use anyhow::{Context, Result};

use super::record::{Block, Class, Note, Record};
use crate::{
    clock::boottime_ns,
    plan::Plan,
    progress,
    report::{FAILED, Report, Status, name_of},
    run::{self, Ended},
    sim::Case,
    terminal::for_shell,
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
    let again = format!("cargo run --release -p harness -- {} --seed {seed}", for_shell(&case.path));
    run_with(seed, record, || {
        progress::tell(|| format!("{} seed {seed} on real processes", case.name()));
        let mut ended = once(&plan, &again, &out.join(&case.group))?;
        if let Ended::Checked(report) = &mut ended {
            let below = report.folder.strip_prefix(fs::canonicalize(out)?).map(Path::to_path_buf);
            report.folder = below.unwrap_or_else(|_| std::mem::take(&mut report.folder));
        }
        Ok(ended)
    })
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
        record.failing += u64::from(attempt == 1);
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
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("no runtime")?;
    runtime.block_on(run::run(plan.clone(), again.to_owned(), &options))
}

/// Writes down what came of one run; its exit code. What is found by several checks fails by each of them.
fn take(report: &Report, record: &mut Record, failing: &mut Vec<Class>) -> u8 {
    let seed = report.seed;
    for fault in &report.figures.faults {
        let took_effect = !fault.nodes.is_empty() && fault.struck != Some(0);
        *record.coverage.entry(format!("fault {}", fault.action)).or_default() += u64::from(took_effect);
    }
    let note = || Note { seed, words: report.words.clone() };
    match report.exit_code {
        0 => {}
        1 => {
            let violated = report.checks.iter().filter(|check| check.status == Status::Violation);
            let mut found: Vec<(&str, String)> = violated
                .map(|check| (name_of(check.name), format!("{}: {}", name_of(check.name), check.words)))
                .collect();
            if found.is_empty() {
                found.push(("nothing that is expected", report.words.clone()));
            }
            for (kind, words) in found {
                let place = failing.iter().position(|class| class.kind == kind).unwrap_or_else(|| {
                    let (kind, seeds, again) = (kind.to_owned(), vec![seed], report.again.clone());
                    failing.push(Class { kind, seeds, words, again, ..Class::default() });
                    failing.len() - 1
                });
                failing[place].count += 1;
                failing[place].kept.push(report.folder.clone());
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
        campaign::record::Mode,
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
        let check = |name| Check {
            name,
            status: Status::Violation,
            words: "a stale read".to_owned(),
            findings: Vec::new(),
        };
        let checks = vec![check(CheckName::Linearizable), check(CheckName::LeaseSafety)];
        let report = |exit_code| Report {
            version: 1,
            workload: "w".to_owned(),
            seed: 3,
            verdict: Status::Violation,
            as_expected: exit_code == 0,
            exit_code,
            words: "a stale read".to_owned(),
            missing: Vec::new(),
            checks: if exit_code == 0 { Vec::new() } else { checks.clone() },
            facts: Facts::default(),
            figures: Figures::default(),
            mutant: None,
            deaths: Vec::new(),
            again: String::new(),
            folder: PathBuf::from("w/20261121T000000Z-3"),
        };
        let runs = |codes: &[Option<u8>]| {
            let mut record = Record::new(Mode::Real, false);
            let mut codes = codes.iter();
            let ended = run_with(3, &mut record, || {
                let code = codes.next().expect("no more runs");
                Ok(code.map_or(Ended::Interrupted(PathBuf::new()), |code| {
                    Ended::Checked(Box::new(report(code)))
                }))
            });
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
    }
}
