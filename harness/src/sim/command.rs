//! `harness sim`: which seeds of which workloads, what is printed of them, and the exit code.

use std::{
    collections::BTreeMap,
    ops::Range,
    path::{Path, PathBuf},
    process::ExitCode,
    sync::atomic::{AtomicU64, Ordering},
};

use clap::Args;

use super::{
    Case, Finding, Options, Outcome, Stats, keep,
    row::{Remark, Row},
    seeds::{repeat, run, run_seeds},
};
use crate::{
    clock::boottime_ns,
    plan::Plan,
    progress,
    report::{NEVER_REACHED, name_of, severity},
    workload::{ExpectedVerdict, Time},
};

/// Failing seeds of a workload of which everything is written down.
const KEPT: usize = 3;

/// Reasons for which seeds are undecided that the verdict names.
const REASONS: usize = 3;

/// What to simulate.
#[derive(Debug, Args)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of the command line")]
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
    /// Warm-up and faults together take this long, such as 30s; faults that are due later are left out, and steps take their time.
    #[arg(long, value_name = "TIME", value_parser = crate::cli::time)]
    pub time_limit: Option<Time>,
    /// Runs a negative workload without its planted bug, and expects it to be valid.
    #[arg(long)]
    pub without_mutant: bool,
    /// The files are plans, as results hold them: each is run once, with its own seed.
    #[arg(long, conflicts_with_all = ["seeds", "time_limit"])]
    pub plans: bool,
    /// Where the first failing seeds of each workload are kept.
    #[arg(long, value_name = "DIR", default_value = "results")]
    pub out: PathBuf,
    /// Nothing but what is wrong, and the last line.
    #[arg(long)]
    pub quiet: bool,
    /// What each workload came to, and each seed of which there is anything to say, as one line of JSON before the last line.
    #[arg(long, conflicts_with = "tale")]
    pub json: bool,
}

/// Simulates what the command line says.
pub fn main(arguments: &SimArguments) -> ExitCode {
    let cases: Result<Vec<Case>, String> =
        arguments.workloads.iter().map(|path| load(path, arguments)).collect();
    let cases = match cases {
        Ok(cases) => cases,
        Err(problem) => {
            eprintln!("{problem}");
            return ExitCode::from(2);
        }
    };
    let began = boottime_ns();
    progress::begin(arguments.quiet);
    let mut rows = Vec::new();
    for case in cases {
        let row = simulate(&case, arguments);
        if arguments.json {
            row.print_json();
        } else {
            row.print(arguments.quiet);
        }
        rows.push(row);
    }
    let totals = rows.iter().fold(Stats::default(), |sum, row| sum.and(row.totals));
    let runs = rows.iter().map(|row| row.runs).sum();
    if !arguments.json && !arguments.quiet {
        print_totals(&totals, runs, boottime_ns() - began);
    }
    let Some(worst) = rows.iter().rev().max_by_key(|row| severity(row.exit_code)) else {
        return ExitCode::SUCCESS;
    };
    say!("VERDICT {} {runs} simulated runs: {}", worst.verdict, worst.words);
    ExitCode::from(worst.exit_code)
}

fn load(path: &Path, arguments: &SimArguments) -> Result<Case, String> {
    let case = if arguments.plans {
        Case::of_plan(path)?
    } else {
        Case::of_workload(path, arguments.seeds.clone())?
    };
    let mut case = if arguments.without_mutant { case.without_mutant() } else { case };
    if let Some(limit) = arguments.time_limit {
        case.limit_time(limit);
    }
    Ok(case)
}

fn simulate(case: &Case, arguments: &SimArguments) -> Row {
    let options = Options { tale: arguments.tale, ..Options::default() };
    let jobs = arguments.jobs.unwrap_or_else(processors);
    let began = boottime_ns();
    let (runs, failing) = (AtomicU64::new(0), AtomicU64::new(0));
    let one = |seed: u64| {
        let (number, all) = (runs.fetch_add(1, Ordering::Relaxed) + 1, case.seeds.end - case.seeds.start);
        let failing_so_far = failing.load(Ordering::Relaxed);
        progress::tell(|| format!("{}: run {number} of {all}, {failing_so_far} fail", case.plan.workload));
        let plan = case.plan(seed);
        let mut outcome = if arguments.twice { repeat(&plan, &options) } else { run(&plan, &options) };
        let told = std::mem::take(&mut outcome.tale);
        for line in told {
            say!("{line}");
        }
        failing.fetch_add(u64::from(outcome.diverged || !outcome.findings.is_empty()), Ordering::Relaxed);
        outcome
    };
    let enough = |outcome: &Outcome| found(&case.plan, outcome).is_some();
    let outcomes = run_seeds(case.seeds.clone(), jobs, one, enough);
    let mut row = judge(&case.plan, &outcomes, (boottime_ns() - began) as f64 / 1e9);
    row.seeds = outcomes.iter().filter_map(|outcome| Remark::of(case, outcome)).collect();
    if row.exit_code != 0 {
        keep_first(case, &outcomes, &mut row, &arguments.out);
    }
    progress::clear();
    row
}

/// Writes everything down of the first few seeds that fail.
fn keep_first(case: &Case, outcomes: &[Outcome], row: &mut Row, out: &Path) {
    let failing = outcomes.iter().filter(|outcome| outcome.diverged || !outcome.findings.is_empty());
    for (place, outcome) in failing.take(KEPT).enumerate() {
        match keep(out, &case.plan(outcome.seed), outcome) {
            Ok(folder) => {
                if let Some(seed) = row.seeds.iter_mut().filter(|seed| seed.fails()).nth(place) {
                    seed.kept = Some(folder);
                }
            }
            Err(error) => {
                eprintln!("error: {error:#}");
                row.fail(&format!("seed {} could not be kept: {error:#}", outcome.seed));
            }
        }
    }
}

/// How many runs go on side by side unless the command line says so.
pub fn processors() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
}

/// What is wrong with a run: of a negative workload what it expects, of any other the first finding.
pub fn first_finding<'a>(plan: &Plan, outcome: &'a Outcome) -> Option<&'a Finding> {
    match plan.expect.verdict {
        ExpectedVerdict::Violation => found(plan, outcome),
        ExpectedVerdict::Valid => outcome.findings.first(),
    }
}

/// What a negative workload expects of its seeds: a finding of the check that it names, in a run in which the planted bug,
/// if there is one, has changed something.
pub fn found<'a>(plan: &Plan, outcome: &'a Outcome) -> Option<&'a Finding> {
    let unreached = plan.test.mutant.is_some() && outcome.stats.mutant_reached == 0;
    if plan.expect.verdict != ExpectedVerdict::Violation || unreached {
        return None;
    }
    outcome.findings.iter().find(|finding| plan.expect.accepts(finding.by))
}

fn judge(plan: &Plan, outcomes: &[Outcome], seconds: f64) -> Row {
    let mut row = judge_runs(plan, outcomes, seconds);
    let failed = outcomes.iter().filter(|outcome| outcome.failed.is_some()).count();
    if failed > 0 {
        row.fail(&format!("the simulator failed in {failed} of {} seeds", outcomes.len()));
    }
    row
}

/// The exit code for one run alone.
pub(super) fn exit_code_of_one(plan: &Plan, outcome: &Outcome) -> u8 {
    judge(plan, std::slice::from_ref(outcome), 0.0).exit_code
}

fn judge_runs(plan: &Plan, outcomes: &[Outcome], seconds: f64) -> Row {
    let totals = outcomes.iter().fold(Stats::default(), |sum, outcome| sum.and(outcome.stats));
    let runs = outcomes.len() as u64;
    let row = |verdict, exit_code, words| Row {
        workload: plan.workload.clone(),
        verdict,
        exit_code,
        words,
        totals,
        runs,
        seeds: Vec::new(),
    };
    let diverged = outcomes.iter().filter(|outcome| outcome.diverged).count();
    if diverged > 0 {
        return row("violation", 1, format!("{diverged} of {runs} seeds are not deterministic"));
    }
    if plan.expect.verdict == ExpectedVerdict::Violation {
        let (verdict, exit_code, words) = judge_negative(plan, outcomes, &totals, seconds);
        return row(verdict, exit_code, words);
    }
    let failing = outcomes.iter().filter(|outcome| !outcome.findings.is_empty()).count();
    if failing > 0 {
        row("violation", 1, format!("{failing} of {runs} seeds fail"))
    } else if outcomes.iter().any(|outcome| !outcome.undecided.is_empty()) {
        row("unknown", 3, undecided_in_words(outcomes))
    } else {
        row("valid", 0, format!("nothing is wrong in {runs} seeds"))
    }
}

fn judge_negative(
    plan: &Plan,
    outcomes: &[Outcome],
    totals: &Stats,
    seconds: f64,
) -> (&'static str, u8, String) {
    let runs = outcomes.len();
    let reached = match plan.test.mutant {
        Some(_) => format!("planted bug reached {} times", totals.mutant_reached),
        None => "no bug is planted".to_owned(),
    };
    if let Some((outcome, finding)) =
        outcomes.iter().find_map(|outcome| Some((outcome, found(plan, outcome)?)))
    {
        let (seed, by) = (outcome.seed, name_of(finding.by));
        let words =
            format!("expected, found by seed {seed} after {seconds:.1} s, {reached}; {by}: {finding}");
        ("violation", 0, words)
    } else if outcomes.iter().any(|outcome| !outcome.findings.is_empty()) {
        ("violation", 1, format!("not the expected one, {reached}"))
    } else if plan.test.mutant.is_some() && totals.mutant_reached == 0 {
        ("unknown", 3, format!("{NEVER_REACHED} in {runs} seeds"))
    } else if outcomes.iter().all(|outcome| !outcome.undecided.is_empty()) {
        ("unknown", 3, undecided_in_words(outcomes))
    } else {
        ("valid", 1, format!("a violation was expected and not found in {runs} seeds, {reached}"))
    }
}

/// How many seeds are undecided, and why most of them are.
fn undecided_in_words(outcomes: &[Outcome]) -> String {
    let undecided = outcomes.iter().filter(|outcome| !outcome.undecided.is_empty()).count();
    let mut reasons: BTreeMap<&str, usize> = BTreeMap::new();
    for reason in outcomes.iter().flat_map(|outcome| &outcome.undecided) {
        *reasons.entry(reason).or_default() += 1;
    }
    let mut reasons: Vec<(&str, usize)> = reasons.into_iter().collect();
    reasons.sort_by_key(|(_, seeds)| std::cmp::Reverse(*seeds));
    let more = reasons.len().saturating_sub(REASONS);
    let shown = reasons.iter().take(REASONS).map(|(reason, seeds)| format!("{reason} ({seeds} times)"));
    let mut shown: Vec<String> = shown.collect();
    shown.extend((more > 0).then(|| format!("{more} other reasons")));
    format!("{undecided} of {} seeds undecided: {}", outcomes.len(), shown.join("; "))
}

fn print_totals(totals: &Stats, runs: u64, nanos: u64) {
    let seconds = nanos as f64 / 1e9;
    say!(
        "{runs} runs in {seconds:.1} s: {:.0} runs a minute, {:.0} events a second, {:.0} times real time",
        runs as f64 * 60.0 / seconds,
        totals.events as f64 / seconds,
        totals.simulated as f64 / nanos as f64
    );
    say!(
        "operations {} answered, {} refused, {} unknown, {} redirects, {} asked again; {} fast reads, {} near the end of a lease, {} local; {} snapshots fetched",
        totals.answered,
        totals.failed,
        totals.unknown,
        totals.redirects,
        totals.asked_again,
        totals.fast_reads,
        totals.near_expiry,
        totals.local_reads,
        totals.snapshots_fetched
    );
    say!(
        "faults {} ({} found nobody); leader changes {}; turns {}; messages {}; fingerprint {:016x}",
        totals.faults,
        totals.faults_without_target,
        totals.leader_changes,
        totals.turns,
        totals.messages,
        totals.fingerprint
    );
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workload::{self, CheckName};

    fn plan(mutant: &str, expect: &str) -> Plan {
        let text = format!(
            "{mutant}\n[cluster]\nnodes = 3\npartitions = [{{}}]\nlease = 'off'\n[require]\noperations = 10\n{expect}"
        );
        let workload = workload::parse(Path::new("negative/w.toml"), &text);
        Plan::new(workload.unwrap_or_else(|problem| panic!("{problem}")), 0)
    }

    fn outcome(reached: u64, found: Option<CheckName>) -> Outcome {
        let findings = found.map(|by| Finding { by, text: "so".to_owned() });
        let stats = Stats { mutant_reached: reached, answered: 10, ..Stats::default() };
        Outcome { findings: findings.into_iter().collect(), stats, ..Outcome::default() }
    }

    fn judged(plan: &Plan, outcomes: &[Outcome]) -> (&'static str, u8) {
        let row = judge(plan, outcomes, 0.0);
        (row.verdict, row.exit_code)
    }

    #[test]
    fn a_planted_bug_that_was_never_reached_shows_nothing() {
        let bug =
            plan("mutant = 'stale-accept-sync'", "[expect]\nverdict = 'violation'\nby = 'linearizable'");
        let (yes, other) = (Some(CheckName::Linearizable), Some(CheckName::Progress));
        assert_eq!(judged(&bug, &[outcome(0, None), outcome(0, None)]), ("unknown", 3));
        assert_eq!(judged(&bug, &[outcome(0, None), outcome(1, None)]), ("valid", 1));
        assert_eq!(judged(&bug, &[outcome(0, None), outcome(1, yes)]), ("violation", 0));
        assert_eq!(judged(&bug, &[outcome(1, None), outcome(0, yes)]), ("violation", 1), "another bug");
        assert_eq!(judged(&bug, &[outcome(1, other)]), ("violation", 1), "another check");
        let broken = Outcome { failed: Some("so".to_owned()), ..Outcome::default() };
        assert_eq!(judged(&bug, &[broken, outcome(1, yes)]), ("unknown", 4));
        let lacks = Outcome { undecided: vec!["so".to_owned()], ..outcome(1, None) };
        assert_eq!(judged(&bug, &[lacks.clone(), lacks.clone()]), ("unknown", 3), "no seed decides anything");
        assert_eq!(judged(&bug, &[lacks, outcome(1, None)]), ("valid", 1));
        let control = plan("mutant = 'control-prepare-twice'", "");
        assert_eq!(judged(&control, &[outcome(1, None)]), ("valid", 0));
        assert_eq!(judged(&control, &[outcome(1, other)]), ("violation", 1));
    }

    #[test]
    fn a_plan_without_a_bug_is_judged_by_what_it_finds_and_contains() {
        let plan = plan("", "");
        assert_eq!(judged(&plan, &[outcome(0, None)]), ("valid", 0));
        assert_eq!(
            judged(&plan, &[outcome(0, None), outcome(0, Some(CheckName::Progress))]),
            ("violation", 1)
        );
        let undecided = |why: &str| Outcome { undecided: vec![why.to_owned()], ..outcome(0, None) };
        assert_eq!(judged(&plan, &[undecided("so")]), ("unknown", 3));
        let some = [undecided("so"), outcome(0, None), undecided("otherwise"), undecided("so")];
        let words = judge(&plan, &some, 0.0).words;
        assert_eq!(words, "3 of 4 seeds undecided: so (2 times); otherwise (1 times)");
        let broken = Outcome { failed: Some("so".to_owned()), ..Outcome::default() };
        assert_eq!(judged(&plan, &[broken.clone(), outcome(0, None)]), ("unknown", 4));
        let progress = outcome(0, Some(CheckName::Progress));
        assert_eq!(judged(&plan, &[broken, progress]), ("violation", 1), "a violation says more");
        let diverged = Outcome { diverged: true, ..outcome(0, None) };
        assert_eq!(judged(&plan, &[diverged]), ("violation", 1));
    }
}
