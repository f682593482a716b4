//! What is kept of a seed that fails: the same files as of a real run, and the tale, in `results/<workload>/sim-<seed>/`.
//!
//! The run is carried out once more for that; since the same plan does the same, nothing needs to be kept of those that pass.

use std::{
    fs::File,
    io::{BufWriter, Write as _},
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};
use serde::Serialize;

use super::{Options, seeds::carry_out};
use crate::{plan::Plan, results::ResultsFolder};

/// Writes plan, history, traces and tale of a plan's run; the folder.
pub fn keep(results: &Path, plan: &Plan) -> Result<PathBuf> {
    keep_as(results, &format!("sim-{}", plan.seed), plan)
}

/// The same of a plan that was shrunk from the run of another seed, in `results/<workload>/shrunk-<that seed>/`.
pub fn keep_shrunk(results: &Path, plan: &Plan, seed: u64) -> Result<PathBuf> {
    keep_as(results, &format!("shrunk-{seed}"), plan)
}

fn keep_as(results: &Path, name: &str, plan: &Plan) -> Result<PathBuf> {
    let folder = ResultsFolder::of_simulated(results, name, plan)?;
    let options = Options { tale: true, planted: None };
    let mut world = carry_out(plan, &options);
    folder.write("tale.txt", &world.tale.take().unwrap_or_default().join("\n"))?;
    write_lines(&folder.path().join("history.jsonl"), &world.watch.records)?;
    for (lines, node) in world.watch.trace_lines().iter().zip(1..) {
        write_lines(&folder.path().join(format!("trace/node-{node}.jsonl")), lines)?;
    }
    Ok(folder.path().to_owned())
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
