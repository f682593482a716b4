//! `harness sim`: which seeds of which workloads, what is printed of them, and the exit code.

use std::{ops::Range, path::PathBuf, process::ExitCode};

use clap::Args;

use super::{
    Options, Outcome, Stats,
    seeds::{repeat, run, run_seeds},
};
use crate::{
    clock::boottime_ns,
    plan::Plan,
    workload::{self, CheckName, ExpectedVerdict, NemesisEntry, Time, When, Workload},
};

/// Failing seeds of a workload that are printed one by one.
const SHOWN: usize = 20;

/// What to simulate.
#[derive(Debug, Args)]
pub struct SimArguments {
    /// Workload files.
    #[arg(required = true, value_name = "WORKLOAD.toml")]
    pub workloads: Vec<PathBuf>,
    /// One run of each workload for each of these seeds: from A up to, and without, B.
    #[arg(long, value_name = "A..B", default_value = "0..100", value_parser = crate::cli::seeds)]
    pub seeds: Range<u64>,
    /// Runs side by side; as many as there are processors if left out.
    #[arg(long, value_name = "N")]
    pub jobs: Option<usize>,
    /// Every seed is run twice, and must do the same both times.
    #[arg(long)]
    pub twice: bool,
    /// Tells what happens in each run: for one seed.
    #[arg(long)]
    pub tale: bool,
    /// Warm-up and faults together take this long, such as 30s.
    #[arg(long, value_name = "TIME", value_parser = crate::cli::time)]
    pub time_limit: Option<Time>,
    /// Runs a negative workload without its planted bug, and expects it to be valid.
    #[arg(long)]
    pub without_mutant: bool,
}

/// What the seeds of one workload came to.
struct Row {
    verdict: &'static str,
    exit_code: u8,
    words: String,
    totals: Stats,
    runs: u64,
}

/// Simulates what the command line says.
pub fn main(arguments: &SimArguments) -> ExitCode {
    let mut workloads = Vec::new();
    for path in &arguments.workloads {
        match workload::load(path) {
            Ok(workload) => workloads.push((path, workload)),
            Err(problem) => {
                eprintln!("{problem}");
                return ExitCode::from(2);
            }
        }
    }
    let began = boottime_ns();
    let mut rows = Vec::new();
    for (path, workload) in workloads {
        let mut workload = if arguments.without_mutant { workload.without_mutant() } else { workload };
        if let Some(limit) = arguments.time_limit {
            workload.limit_time(limit);
        }
        let row = simulate(&workload, arguments, &path.display().to_string());
        println!("{}: {}", workload.name, row.words);
        rows.push(row);
    }
    let totals = rows.iter().fold(Stats::default(), |sum, row| sum.and(row.totals));
    let runs = rows.iter().map(|row| row.runs).sum();
    print_totals(&totals, runs, boottime_ns() - began);
    let severity = |row: &&Row| match row.exit_code {
        1 => 2,
        3 => 1,
        _ => 0,
    };
    let Some(worst) = rows.iter().rev().max_by_key(severity) else { return ExitCode::SUCCESS };
    println!("VERDICT {} {runs} simulated runs: {}", worst.verdict, worst.words);
    ExitCode::from(worst.exit_code)
}

fn simulate(workload: &Workload, arguments: &SimArguments, path: &str) -> Row {
    let options = Options { tale: arguments.tale, planted: None };
    let jobs = arguments
        .jobs
        .unwrap_or_else(|| std::thread::available_parallelism().map_or(1, std::num::NonZero::get));
    let began = boottime_ns();
    let one = |seed: u64| {
        let plan = Plan::new(workload.clone(), seed);
        let mut outcome = if arguments.twice { repeat(&plan, &options) } else { run(&plan, &options) };
        let told = std::mem::take(&mut outcome.tale);
        for line in told {
            println!("{line}");
        }
        outcome
    };
    let negative = workload.expect.verdict == ExpectedVerdict::Violation;
    let by = workload.expect.by;
    let outcomes = run_seeds(arguments.seeds.clone(), jobs, one, |outcome| negative && is_found(outcome, by));
    let again = |seed: u64| format!("harness sim {path} --seeds {seed}..{} --tale", seed + 1);
    let failing = outcomes.iter().filter(|outcome| outcome.diverged || !outcome.findings.is_empty());
    for outcome in failing.take(SHOWN) {
        let found = outcome.findings.first().map_or("", |finding| finding.text.as_str());
        let found = if outcome.diverged { "two runs of this seed differ" } else { found };
        println!(
            "seed {}: {}\n    again: {}",
            outcome.seed,
            found.replace('\n', "\n    "),
            again(outcome.seed)
        );
    }
    for outcome in outcomes.iter().filter(|outcome| !outcome.undecided.is_empty()).take(SHOWN) {
        println!("seed {}: undecided: {}", outcome.seed, outcome.undecided.join("; "));
    }
    let seconds = (boottime_ns() - began) as f64 / 1e9;
    judge(workload, &outcomes, seconds)
}

/// Whether an outcome is what a negative workload expects.
fn is_found(outcome: &Outcome, by: Option<CheckName>) -> bool {
    outcome.findings.iter().any(|finding| by.is_none_or(|by| by == finding.by))
}

fn judge(workload: &Workload, outcomes: &[Outcome], seconds: f64) -> Row {
    let totals = outcomes.iter().fold(Stats::default(), |sum, outcome| sum.and(outcome.stats));
    let runs = outcomes.len() as u64;
    let row = |verdict, exit_code, words| Row { verdict, exit_code, words, totals, runs };
    let diverged = outcomes.iter().filter(|outcome| outcome.diverged).count();
    if diverged > 0 {
        return row("violation", 1, format!("{diverged} of {runs} seeds are not deterministic"));
    }
    if workload.expect.verdict == ExpectedVerdict::Violation {
        let reached = totals.mutant_reached;
        return match outcomes.iter().find(|outcome| is_found(outcome, workload.expect.by)) {
            Some(outcome) => {
                row("violation", 0, format!("expected, found by seed {} after {seconds:.1} s", outcome.seed))
            }
            None => row(
                "valid",
                1,
                format!(
                    "a violation was expected and not found in {runs} seeds; the planted bug was reached {reached} times"
                ),
            ),
        };
    }
    let failing = outcomes.iter().filter(|outcome| !outcome.findings.is_empty()).count();
    let undecided = outcomes.iter().filter(|outcome| !outcome.undecided.is_empty()).count();
    let missing = missing(workload, &totals, runs);
    if failing > 0 {
        row("violation", 1, format!("{failing} of {runs} seeds fail"))
    } else if undecided > 0 {
        row("unknown", 3, format!("{undecided} of {runs} seeds are undecided"))
    } else if !missing.is_empty() {
        row("unknown", 3, format!("the runs lack something: {}", missing.join("; ")))
    } else {
        row("valid", 0, format!("nothing is wrong in {runs} seeds"))
    }
}

/// What the seeds together lack of what the workload requires of one run.
fn missing(workload: &Workload, totals: &Stats, runs: u64) -> Vec<String> {
    let require = &workload.require;
    let mut missing = Vec::new();
    let mut at_least = |have: u64, wanted: u64, what: &str| {
        if have < wanted * runs {
            missing.push(format!("{} {what} a run, {wanted} are required", have / runs.max(1)));
        }
    };
    at_least(totals.answered, require.operations, "answered operations");
    at_least(totals.fast_reads, require.fast_reads, "fast reads");
    at_least(totals.leader_changes, require.leader_changes, "leader changes");
    let triggered = |entry: &&NemesisEntry| matches!(entry.when, When::After(_));
    let waiting = workload.nemesis.iter().filter(triggered).count() as u64;
    if waiting > 0 && totals.untriggered == waiting * runs {
        missing.push("no fault that waits for something was triggered".to_owned());
    }
    if require.fast_read_near_expiry && totals.near_expiry == 0 {
        missing.push("no fast read in the last tenth of a hold".to_owned());
    }
    missing
}

fn print_totals(totals: &Stats, runs: u64, nanos: u64) {
    let seconds = nanos as f64 / 1e9;
    println!(
        "{runs} runs in {seconds:.1} s: {:.0} runs a minute, {:.0} events a second, {:.0} times real time",
        runs as f64 * 60.0 / seconds,
        totals.events as f64 / seconds,
        totals.simulated as f64 / nanos as f64
    );
    println!(
        "operations {} answered, {} refused, {} unknown; {} fast reads, {} near the end of a lease",
        totals.answered, totals.failed, totals.unknown, totals.fast_reads, totals.near_expiry
    );
    println!(
        "faults {} ({} found nobody); leader changes {}; turns {}; messages {}; fingerprint {:016x}",
        totals.faults,
        totals.faults_without_target,
        totals.leader_changes,
        totals.turns,
        totals.messages,
        totals.fingerprint
    );
}
