//! `harness shrink`: the first seed of a workload that fails, or a plan that does, made small.

use std::{
    ops::Range,
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::Args;
use serde_json::{Value, json};

use super::{Kind, Shrunk, Size, shrink};
use crate::{
    plan::Plan,
    progress,
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
    /// Nothing but the last line: how to see it again.
    #[arg(long)]
    quiet: bool,
    /// What came of it as one line of JSON, and nothing else.
    #[arg(long)]
    json: bool,
}

/// Exit code when nothing fails: there is nothing to shrink.
const NOTHING: u8 = 3;

/// Shrinks what the command line says.
pub fn main(arguments: &ShrinkArguments) -> ExitCode {
    progress::begin(arguments.quiet);
    let code = shrink_first(arguments);
    progress::clear();
    ExitCode::from(code)
}

/// The same; the exit code.
fn shrink_first(arguments: &ShrinkArguments) -> u8 {
    let jobs = arguments.jobs.unwrap_or_else(sim::processors);
    let (plan, finding) = match failing(arguments, jobs) {
        Ok(Searched::Fails(plan, finding)) => (plan, finding),
        Ok(Searched::Nothing) => {
            let words =
                format!("nothing to shrink: no run of {} fails in simulation", arguments.file.display());
            if arguments.json {
                eprintln!("{words}");
            } else {
                say!("{words}");
            }
            return NOTHING;
        }
        Ok(Searched::Broken(why)) => {
            eprintln!("error: nothing to shrink; the simulator failed: {why}");
            return FAILED;
        }
        Err(problem) => {
            eprintln!("{problem}");
            return 2;
        }
    };
    let kind = Kind::of(&finding);
    let told = !arguments.quiet && !arguments.json;
    if told {
        say!("{} seed {}: {kind}: {finding}", plan.workload, plan.seed);
        say!("before  {}", Size::of(&plan));
    }
    let shrunk = match shrink(&plan, &kind, jobs, arguments.budget.0) {
        Ok(shrunk) => shrunk,
        Err(why) => {
            eprintln!("error: {why}");
            return FAILED;
        }
    };
    if told {
        let unfinished = if shrunk.unfinished { "; the time was up" } else { "" };
        let (runs, seconds) = (shrunk.runs, shrunk.took.as_secs_f64());
        say!("after   {} ({runs} runs in {seconds:.1} s{unfinished})", Size::of(&shrunk.plan));
    }
    let folder = match sim::keep_shrunk(&arguments.out, &shrunk.plan, plan.seed) {
        Ok(folder) => folder,
        Err(error) => {
            eprintln!("error: the small plan could not be kept: {error:#}");
            return FAILED;
        }
    };
    let again = again_of_plan(&folder.join("plan.toml"));
    if arguments.json {
        say!("{}", in_json(&plan, &finding, &shrunk, &folder, &again));
        return 0;
    }
    if told {
        say!("kept    {}", folder.display());
        say!("report  {}", folder.join(html::FILE).display());
    }
    say!("again   {again}");
    0
}

fn in_json(plan: &Plan, finding: &Finding, shrunk: &Shrunk, folder: &Path, again: &str) -> Value {
    let size = |plan: &Plan| {
        let Size { faults, operations, clients, keys, nodes, lasts } = Size::of(plan);
        json!({
            "faults": faults, "operations": operations, "clients": clients, "keys": keys, "nodes": nodes,
            "seconds": lasts.as_secs_f64(),
        })
    };
    json!({
        "workload": plan.workload, "seed": plan.seed, "kind": Kind::of(finding).to_string(), "words": finding.text,
        "before": size(plan), "after": size(&shrunk.plan), "runs": shrunk.runs, "seconds": shrunk.took.as_secs_f64(),
        "unfinished": shrunk.unfinished, "folder": folder, "again": again,
    })
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
    let one = |seed: u64| {
        progress::tell(|| format!("{}: looking for a seed that fails: {seed}", case.plan.workload));
        sim::run(&case.plan(seed), &Options::default())
    };
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
