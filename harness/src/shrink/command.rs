//! `harness shrink`: the first seed of a workload that fails, or a plan that does, made small.

use std::{
    ops::Range,
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::Args;

use super::{Kind, Shrunk, Size, shrink};
use crate::{
    plan::Plan,
    report::{FAILED, html},
    sim::{self, Finding, Options, Outcome},
    workload::{self, Time},
};

/// What to shrink.
#[derive(Debug, Args)]
pub struct ShrinkArguments {
    /// A plan that fails in simulation, as results hold it (`plan.toml`), or a workload of which some seed does.
    #[arg(value_name = "PLAN.toml|WORKLOAD.toml")]
    file: PathBuf,
    /// Of a workload: the seeds of which the first one that fails is shrunk, from A up to, and without, B.
    #[arg(long, value_name = "A..B", default_value = "0..1000", value_parser = crate::cli::seeds)]
    seeds: Range<u64>,
    /// How long it may take, such as 2m; what is smallest then is the result.
    #[arg(long, value_name = "TIME", default_value = "2m", value_parser = crate::cli::time)]
    budget: Time,
    /// Runs side by side; as many as there are processors if left out.
    #[arg(long, value_name = "N")]
    jobs: Option<usize>,
    /// Where the small plan and what its run recorded are kept.
    #[arg(long, value_name = "DIR", default_value = "results")]
    out: PathBuf,
}

/// Exit code when nothing fails: there is nothing to shrink.
const NOTHING: u8 = 3;

/// Shrinks what the command line says.
pub fn main(arguments: &ShrinkArguments) -> ExitCode {
    let jobs = arguments.jobs.unwrap_or_else(sim::processors);
    let failing = match failing(arguments, jobs) {
        Ok(failing) => failing,
        Err(problem) => {
            eprintln!("{problem}");
            return ExitCode::from(2);
        }
    };
    let Some((plan, finding)) = failing else {
        say!("nothing to shrink: no run of {} fails in simulation", arguments.file.display());
        return ExitCode::from(NOTHING);
    };
    let kind = Kind::of(&finding);
    say!("{} seed {}: {kind}: {finding}", plan.workload, plan.seed);
    say!("before  {}", Size::of(&plan));
    let Some(shrunk) = shrink(&plan, &kind, jobs, arguments.budget.0) else {
        eprintln!("error: a second run of the same plan shows no such violation");
        return ExitCode::from(FAILED);
    };
    show(&shrunk, &arguments.out, plan.seed)
}

fn show(shrunk: &Shrunk, out: &Path, seed: u64) -> ExitCode {
    let unfinished = if shrunk.unfinished { "; the time was up" } else { "" };
    let (runs, seconds) = (shrunk.runs, shrunk.took.as_secs_f64());
    say!("after   {} ({runs} runs in {seconds:.1} s{unfinished})", Size::of(&shrunk.plan));
    match sim::keep_shrunk(out, &shrunk.plan, seed) {
        Ok(folder) => {
            say!("kept    {}", folder.display());
            say!("report  {}", folder.join(html::FILE).display());
            say!("again   harness sim --plans {}/plan.toml --tale", folder.display());
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("error: the small plan could not be kept: {error:#}");
            ExitCode::from(FAILED)
        }
    }
}

/// The first plan that fails, with what is wrong.
fn failing(arguments: &ShrinkArguments, jobs: usize) -> Result<Option<(Plan, Finding)>, String> {
    let path = &arguments.file;
    let text = std::fs::read_to_string(path)
        .map_err(|error| format!("error: {} cannot be read: {error}", path.display()))?;
    // plans name their workload, workload files do not
    let is_plan = text.lines().any(|line| line.starts_with("workload = "));
    if is_plan {
        let plan = Plan::load(path)?;
        let seeds = plan.seed..plan.seed + 1;
        return Ok(first_failing(&seeds, jobs, |_| plan.clone()));
    }
    let workload = workload::load(path).map_err(|problem| problem.to_string())?;
    Ok(first_failing(&arguments.seeds, jobs, |seed| Plan::new(workload.clone(), seed)))
}

fn first_failing(
    seeds: &Range<u64>,
    jobs: usize,
    plan: impl Fn(u64) -> Plan + Sync,
) -> Option<(Plan, Finding)> {
    let one = |seed: u64| sim::run(&plan(seed), &Options::default());
    let finding = |outcome: &Outcome| sim::first_finding(&plan(outcome.seed), outcome).cloned();
    let outcomes = sim::run_seeds(seeds.clone(), jobs, one, |outcome| finding(outcome).is_some());
    let last = outcomes.last()?;
    Some((plan(last.seed), finding(last)?))
}
