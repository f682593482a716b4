//! `harness shrink`: the first seed of a workload that fails, or a plan that does, made small.

use std::{
    ops::Range,
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use anyhow::Result;
use clap::Args;
use serde_json::{Value, json};

use super::{Ground, Kind, Often, Processes, Shrunk, Size, shrink};
use crate::{
    clock::boottime_ns,
    plan::Plan,
    progress,
    report::{FAILED, html},
    sim::{self, Case, Finding, Options, Outcome, again_of_plan},
    terminal::for_shell,
    workload::{ExpectedVerdict, Time},
};

/// What to shrink.
#[derive(Debug, Args)]
pub struct ShrinkArguments {
    /// A plan that fails, as results hold it (`plan.toml`), or a workload of which some seed does.
    #[arg(value_name = "PLAN.toml|WORKLOAD.toml")]
    file: PathBuf,
    /// Of a workload: the seeds of which the first one that fails is shrunk, from A up to, and without, B.
    #[arg(long, value_name = "A..B", default_value = "0..1000", value_parser = crate::cli::seeds)]
    seeds: Range<u64>,
    /// On real processes instead of in simulated time: what is smaller counts if at least K of N runs of it fail.
    #[arg(long, value_name = "K/N")]
    processes: Option<Often>,
    /// How long it may take; what is smallest then is the result. 2m if left out, 20m on real processes.
    #[arg(long, value_name = "TIME", value_parser = crate::cli::time)]
    budget: Option<Time>,
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

/// How long it may take if nothing is said.
const IN_SIMULATION: Duration = Duration::from_mins(2);

/// The same on real processes.
const ON_PROCESSES: Duration = Duration::from_mins(20);

/// Shrinks what the command line says.
pub fn main(arguments: &ShrinkArguments) -> ExitCode {
    progress::begin(arguments.quiet);
    let code = shrink_first(arguments);
    progress::clear();
    ExitCode::from(code)
}

/// The same; the exit code.
fn shrink_first(arguments: &ShrinkArguments) -> u8 {
    let usual = if arguments.processes.is_some() { ON_PROCESSES } else { IN_SIMULATION };
    let budget = arguments.budget.map_or(usual, |budget| budget.0);
    let processes = arguments.processes.map(|often| Processes::new(often, arguments.out.clone()));
    let mut processes = match processes.transpose() {
        Ok(processes) => processes,
        Err(error) => {
            eprintln!("error: {error:#}");
            return FAILED;
        }
    };
    let jobs = arguments.jobs.unwrap_or_else(sim::processors);
    let end = boottime_ns() + budget.as_nanos() as u64;
    let searched = match &mut processes {
        Some(processes) => failing_on_processes(arguments, processes, end),
        None => failing(arguments, jobs),
    };
    let (plan, finding) = match searched {
        Ok(Searched::Fails(plan, finding)) => (plan, finding),
        Ok(Searched::Nothing) => {
            let place = if processes.is_some() { "on real processes" } else { "in simulation" };
            let words = format!("nothing to shrink: no run of {} fails {place}", arguments.file.display());
            if arguments.json {
                eprintln!("{words}");
            } else {
                say!("{words}");
            }
            return NOTHING;
        }
        Ok(Searched::Broken(why)) => {
            eprintln!("error: nothing to shrink; no run could be made: {why}");
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
    let left = Duration::from_nanos(end.saturating_sub(boottime_ns()));
    let ground = processes.as_mut().map_or(Ground::Simulation(jobs), Ground::Processes);
    let shrunk = match shrink(&plan, &kind, ground, left) {
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
    let (folder, again) = match kept(arguments, processes, &shrunk, plan.seed) {
        Ok(kept) => kept,
        Err(error) => {
            eprintln!("error: the small plan could not be kept: {error:#}");
            return FAILED;
        }
    };
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

/// Where a run of the small plan is kept, and how to see it again.
fn kept(
    arguments: &ShrinkArguments,
    processes: Option<Processes>,
    shrunk: &Shrunk,
    seed: u64,
) -> Result<(PathBuf, String)> {
    if let Some(failing) = processes.and_then(|processes| processes.failing) {
        let again = format!("harness run --plans {}", for_shell(&failing.folder.join("plan.toml")));
        return Ok((failing.folder, again));
    }
    let folder = sim::keep_shrunk(&arguments.out, &shrunk.plan, seed)?;
    let again = again_of_plan(&folder.join("plan.toml"));
    Ok((folder, again))
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
    /// The simulator itself, or what runs the processes, failed, and no plan did.
    Broken(String),
    Nothing,
}

/// The same on real processes: seeds of a workload in turn, or a plan as often as it is to be run, as long as there is time.
fn failing_on_processes(
    arguments: &ShrinkArguments,
    processes: &mut Processes,
    end: u64,
) -> Result<Searched, String> {
    let case = Case::load(&arguments.file, arguments.seeds.clone())?;
    let often = if case.is_plan() { arguments.processes.map_or(1, |often| often.of) } else { 1 };
    let expect = &case.plan.expect;
    let wanted = |finding: &Finding| expect.verdict == ExpectedVerdict::Valid || expect.accepts(finding.by);
    for seed in case.seeds.clone() {
        for _ in 0..often {
            let plan = case.plan(seed);
            match processes.first(&plan, wanted) {
                Ok(Some(finding)) => return Ok(Searched::Fails(Box::new(plan), finding)),
                Ok(None) => {}
                Err(error) => return Ok(Searched::Broken(format!("{error:#}"))),
            }
            if processes.interrupted || boottime_ns() >= end {
                return Ok(Searched::Nothing);
            }
        }
    }
    Ok(Searched::Nothing)
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
