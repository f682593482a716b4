//! What is kept of a seed that fails: the same files as of a real run, the tale and the messages between nodes, in
//! `results/<workload>/sim-<seed>/`.
//!
//! The run is carried out once more for that; since the same plan does the same, nothing needs to be kept of those that pass.

use std::{
    fs::File,
    io::{BufWriter, Write as _},
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};
use serde::Serialize;

use super::{
    Finding, Options, Outcome,
    command::exit_code_of_one,
    seeds::{carry_out, run},
};
use crate::{
    messages,
    plan::Plan,
    report::{Status, html, schema},
    results::{ResultsFolder, VERDICT},
    terminal::{PROGRAM, for_shell},
    workload::CheckName,
};

/// What `verdict.json` says of a simulated run: as much as its report needs of that of a real one.
#[derive(Serialize)]
struct Verdict<'a> {
    version: u32,
    workload: &'a str,
    seed: u64,
    #[serde(rename = "verdict")]
    status: Status,
    as_expected: bool,
    exit_code: u8,
    words: String,
    again: String,
    missing: &'a [String],
    checks: Vec<Findings<'a>>,
    mutant: Option<String>,
}

/// What one check has found.
#[derive(Serialize)]
struct Findings<'a> {
    name: CheckName,
    status: Status,
    words: String,
    #[serde(rename = "findings")]
    texts: Vec<&'a str>,
}

/// Writes plan, history, traces, messages, tale, verdict and report of a plan's run, which has come to `outcome`; the folder.
pub fn keep(results: &Path, plan: &Plan, outcome: &Outcome) -> Result<PathBuf> {
    keep_as(results, &format!("sim-{}", plan.seed), plan, outcome)
}

/// The same of a plan that was shrunk from the run of another seed, in `results/<workload>/shrunk-<that seed>/`.
pub fn keep_shrunk(results: &Path, plan: &Plan, seed: u64) -> Result<PathBuf> {
    keep_as(results, &format!("shrunk-{seed}"), plan, &run(plan, &Options::default()))
}

/// The same of a plan that follows a real run, with what it follows, in `results/<workload>/replayed-<seed>/`.
pub fn keep_replayed(results: &Path, plan: &Plan, outcome: &Outcome) -> Result<PathBuf> {
    keep_as(results, &format!("replayed-{}", plan.seed), plan, outcome)
}

fn keep_as(results: &Path, name: &str, plan: &Plan, outcome: &Outcome) -> Result<PathBuf> {
    let folder = ResultsFolder::of_simulated(results, name, plan)?;
    if let Some(follows) = &plan.follows {
        follows.write(folder.path())?;
    }
    let options = Options { tale: true, messages: true, ..Options::default() };
    let mut world = carry_out(plan, &options);
    folder.write("tale.txt", &world.tale.take().unwrap_or_default().join("\n"))?;
    write_lines(&folder.path().join("history.jsonl"), &world.watch.records)?;
    for (lines, node) in world.watch.trace_lines().iter().zip(1..) {
        write_lines(&folder.path().join(format!("trace/node-{node}.jsonl")), lines)?;
    }
    let messages = world.post.take().unwrap_or_default().all();
    messages::write_all(folder.path(), messages::FILE, &messages)
        .with_context(|| format!("cannot write {} in {}", messages::FILE, folder.path().display()))?;
    let verdict = verdict(plan, outcome, folder.path());
    folder.write(VERDICT, &schema::in_json(&verdict)?)?;
    html::write(folder.path())?;
    Ok(folder.path().to_owned())
}

fn verdict<'a>(plan: &'a Plan, outcome: &'a Outcome, folder: &Path) -> Verdict<'a> {
    let mut checks: Vec<Findings<'a>> = Vec::new();
    for Finding { by, text } in &outcome.findings {
        match checks.iter_mut().find(|check| check.name == *by) {
            Some(check) => check.texts.push(text),
            None => checks.push(Findings {
                name: *by,
                status: Status::Violation,
                words: text.lines().next().unwrap_or_default().trim_end_matches(':').to_owned(),
                texts: vec![text],
            }),
        }
    }
    let first =
        checks.first().map(|check| format!("{}: {}", crate::report::name_of(check.name), check.words));
    let undecided = outcome.undecided.first().cloned();
    let words =
        if outcome.diverged { Some("two runs of this seed differ".to_owned()) } else { first.clone() };
    let exit_code = exit_code_of_one(plan, outcome);
    Verdict {
        version: schema::VERSION,
        workload: &plan.workload,
        seed: plan.seed,
        status: if first.is_some() { Status::Violation } else { Status::Unknown },
        as_expected: exit_code == 0,
        exit_code,
        words: words.or(undecided).unwrap_or_else(|| "nothing was decided".to_owned()),
        again: format!("{PROGRAM} sim --plans {} --tale", for_shell(&folder.join("plan.toml"))),
        missing: &outcome.undecided,
        checks,
        mutant: plan.test.mutant.map(|mutant| format!("{mutant:?}")),
    }
}

fn write_lines(path: &Path, lines: &[impl Serialize]) -> Result<()> {
    let write = || -> Result<()> {
        let mut file = BufWriter::new(File::create(path)?);
        for line in lines {
            serde_json::to_writer(&mut file, line)?;
            file.write_all(b"\n")?;
        }
        Ok(file.flush()?)
    };
    write().with_context(|| format!("cannot write {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{sim::Stats, workload};

    #[test]
    fn a_verdict_says_whether_it_is_the_expected_one() {
        let plan = |head: &str, expect: &str| {
            let text = format!("{head}[cluster]\nnodes = 3\npartitions = [{{}}]\nlease = 'off'\n{expect}");
            let workload = workload::parse(Path::new("negative/w.toml"), &text);
            Plan::new(workload.unwrap_or_else(|problem| panic!("{problem}")), 0)
        };
        let negative =
            plan("mutant = 'stale-accept-sync'\n", "[expect]\nverdict = 'violation'\nby = 'linearizable'\n");
        let says = |plan: &Plan, by: CheckName, reached: u64| {
            let stats = Stats { mutant_reached: reached, ..Stats::default() };
            let findings = vec![Finding { by, text: "so".to_owned() }];
            let outcome = Outcome { findings, stats, ..Outcome::default() };
            let verdict = verdict(plan, &outcome, Path::new("folder"));
            (verdict.status, verdict.as_expected, verdict.exit_code)
        };
        let violation = |as_expected, exit_code| (Status::Violation, as_expected, exit_code);
        assert_eq!(says(&negative, CheckName::Linearizable, 1), violation(true, 0));
        assert_eq!(says(&negative, CheckName::Linearizable, 0), violation(false, 1), "it is not the bug");
        assert_eq!(says(&negative, CheckName::Progress, 1), violation(false, 1), "another check");
        assert_eq!(says(&plan("", ""), CheckName::Linearizable, 0), violation(false, 1));
    }
}
