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
    sim::{self, Case, Finding, Options, Outcome, again_of_plan},
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
    let (plan, finding) = match failing(arguments, jobs) {
        Ok(Searched::Fails(plan, finding)) => (plan, finding),
        Ok(Searched::Nothing) => {
            say!("nothing to shrink: no run of {} fails in simulation", arguments.file.display());
            return ExitCode::from(NOTHING);
        }
        Ok(Searched::Broken(why)) => {
            eprintln!("error: nothing to shrink; the simulator failed: {why}");
            return ExitCode::from(FAILED);
        }
        Err(problem) => {
            eprintln!("{problem}");
            return ExitCode::from(2);
        }
    };
    let kind = Kind::of(&finding);
    say!("{} seed {}: {kind}: {finding}", plan.workload, plan.seed);
    say!("before  {}", Size::of(&plan));
    match shrink(&plan, &kind, jobs, arguments.budget.0) {
        Ok(shrunk) => show(&shrunk, &arguments.out, plan.seed),
        Err(why) => {
            eprintln!("error: {why}");
            ExitCode::from(FAILED)
        }
    }
}

fn show(shrunk: &Shrunk, out: &Path, seed: u64) -> ExitCode {
    let unfinished = if shrunk.unfinished { "; the time was up" } else { "" };
    let (runs, seconds) = (shrunk.runs, shrunk.took.as_secs_f64());
    say!("after   {} ({runs} runs in {seconds:.1} s{unfinished})", Size::of(&shrunk.plan));
    match sim::keep_shrunk(out, &shrunk.plan, seed) {
        Ok(folder) => {
            say!("kept    {}", folder.display());
            say!("report  {}", folder.join(html::FILE).display());
            say!("again   {}", again_of_plan(&folder.join("plan.toml")));
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("error: the small plan could not be kept: {error:#}");
            ExitCode::from(FAILED)
        }
    }
}

/// What the seeds have shown.
enum Searched {
    /// The first plan that fails, with what is wrong.
    Fails(Box<Plan>, Finding),
    /// The simulator itself failed, and no plan did.
    Broken(String),
    Nothing,
}

fn failing(arguments: &ShrinkArguments, jobs: usize) -> Result<Searched, String> {
    let case = Case::load(&arguments.file, arguments.seeds.clone())?;
    let one = |seed: u64| sim::run(&case.plan(seed), &Options::default());
    let finding = |outcome: &Outcome| sim::first_finding(&case.plan, outcome).cloned();
    let outcomes = sim::run_seeds(case.seeds.clone(), jobs, one, |outcome| finding(outcome).is_some());
    let fails = outcomes.last().and_then(|last| Some((case.plan(last.seed), finding(last)?)));
    let broken = || {
        let failed = |outcome: &Outcome| Some(format!("seed {}: {}", outcome.seed, outcome.failed.as_ref()?));
        outcomes.iter().find_map(failed)
    };
    Ok(match (fails, broken()) {
        (Some((plan, finding)), _) => Searched::Fails(Box::new(plan), finding),
        (None, Some(why)) => Searched::Broken(why),
        (None, None) => Searched::Nothing,
    })
}
