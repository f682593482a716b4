//! `harness shrink`: the first seed of a workload that fails, or a plan that does, made small.

use std::{
    ops::Range,
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::Args;

use super::{Kind, NOT_AGAIN, Shrunk, Size, shrink};
use crate::{
    plan::Plan,
    report::{FAILED, html},
    sim::{self, Case, Finding, Options, Outcome},
    workload::Time,
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
        eprintln!("error: {NOT_AGAIN}");
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
    let case = Case::load(&arguments.file, arguments.seeds.clone())?;
    let one = |seed: u64| sim::run(&case.plan(seed), &Options::default());
    let finding = |outcome: &Outcome| sim::first_finding(&case.plan, outcome).cloned();
    let outcomes = sim::run_seeds(case.seeds.clone(), jobs, one, |outcome| finding(outcome).is_some());
    let last = outcomes.last();
    Ok(last.and_then(|last| Some((case.plan(last.seed), finding(last)?))))
}
