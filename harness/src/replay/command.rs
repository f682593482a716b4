//! `harness replay`: simulated runs that follow a real one that failed.

use std::{
    ops::Range,
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::Args;

use super::{Aim, Replay, follow::Followed};
use crate::{
    plan::Plan,
    report::{FAILED, html, name_of},
    shrink::{Kind, Size},
    sim::{self, Options, Outcome, again_of_plan},
    terminal::for_shell,
};

/// Exit code when no seed shows it.
const NOTHING: u8 = 3;

/// Which run, and how often.
#[derive(Debug, Args)]
pub struct ReplayArguments {
    /// The folder of a real run that failed, such as results/latest.
    #[arg(value_name = "RUN_DIR")]
    folder: PathBuf,
    /// Seeds of what the record does not say: from A up to, and without, B.
    #[arg(long, value_name = "A..B", default_value = "0..20", value_parser = crate::cli::seeds)]
    seeds: Range<u64>,
    /// Runs side by side; as many as there are processors if left out.
    #[arg(long, value_name = "N")]
    jobs: Option<usize>,
    /// Follows faults and requests, and lets the seed decide about messages.
    #[arg(long)]
    without_messages: bool,
    /// Where the first run that shows the same is kept.
    #[arg(long, value_name = "DIR", default_value = "results")]
    out: PathBuf,
}

/// Tries what the command line says.
pub fn main(arguments: &ReplayArguments) -> ExitCode {
    let mut replay = match Replay::of(&arguments.folder) {
        Ok(replay) => replay,
        Err(error) => {
            eprintln!("error: {}: {error:#}", arguments.folder.display());
            return ExitCode::from(2);
        }
    };
    if arguments.without_messages {
        replay.leave_out_messages();
    }
    let Replay { kinds, words, lacking, .. } = &replay;
    let (plan, _) = replay.plan(0);
    say!("{}, real processes: {words}", plan.workload);
    for lacking in lacking {
        say!("not recorded: {lacking}");
    }
    let messages = plan.follows.as_ref().map_or(0, |follows| follows.course.len());
    say!("follows  {}; {messages} messages", Size::of(&plan));
    let one = |seed: u64| sim::run(&replay.plan(seed).0, &Options::default());
    let jobs = arguments.jobs.unwrap_or_else(sim::processors);
    let outcomes =
        sim::run_seeds(arguments.seeds.clone(), jobs, one, |outcome| same(&plan, outcome, kinds).is_some());
    for outcome in &outcomes {
        let aim = match replay.plan(outcome.seed).1 {
            Aim::Nodes => "the same nodes",
            Aim::Roles => "the same roles",
        };
        say!("seed {}: faults at {aim}, {}", outcome.seed, told(outcome, kinds));
    }
    let last = outcomes.last().and_then(|last| Some((last, same(&plan, last, kinds)?)));
    let Some((outcome, kind)) = last else {
        let looked_for: Vec<String> = kinds.iter().map(Kind::to_string).collect();
        say!("NOT AGAIN in {} simulated runs: {}", outcomes.len(), looked_for.join(", "));
        return ExitCode::from(NOTHING);
    };
    match sim::keep_replayed(&arguments.out, &replay.plan(outcome.seed).0, outcome) {
        Ok(folder) => {
            show(&folder);
            say!("AGAIN {kind} in simulated run {} of {}", outcomes.len(), arguments.seeds.clone().count());
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("error: seed {} could not be kept: {error:#}", outcome.seed);
            ExitCode::from(FAILED)
        }
    }
}

fn show(folder: &Path) {
    let plan = folder.join("plan.toml");
    say!("kept     {}", folder.display());
    say!("report   {}", folder.join(html::FILE).display());
    say!("again    {}", again_of_plan(&plan));
    say!("smaller  harness shrink {}", for_shell(&plan));
}

/// What a simulated run shows of what the real one has shown, if a planted bug has anything to do with it.
fn same<'a>(plan: &Plan, outcome: &Outcome, kinds: &'a [Kind]) -> Option<&'a Kind> {
    let reached = plan.test.mutant.is_none() || outcome.stats.mutant_reached > 0;
    let shown: Vec<Kind> = outcome.findings.iter().map(Kind::of).collect();
    kinds.iter().find(|kind| reached && shown.contains(kind))
}

/// What became of a run, and how much of the record it followed.
fn told(outcome: &Outcome, kinds: &[Kind]) -> String {
    let Followed { sent, exactly, alike } = outcome.followed;
    let share = 100.0 * (exactly + alike) as f64 / sent.max(1) as f64;
    let followed = format!(
        "{} of {sent} messages as recorded ({share:.0}%, {exactly} of them word for word)",
        exactly + alike
    );
    let shown = match (&outcome.failed, outcome.findings.first()) {
        (Some(why), _) => format!("the simulator failed: {why}"),
        (None, None) => "nothing is wrong".to_owned(),
        (None, Some(first)) => {
            let of_kind = |kind: &Kind| outcome.findings.iter().find(|finding| Kind::of(finding) == *kind);
            let same = kinds.iter().find_map(of_kind);
            let which = if same.is_some() { "the same" } else { "another violation" };
            let finding = same.unwrap_or(first);
            let text = finding.text.lines().next().unwrap_or_default();
            format!("{which}: {}: {text}", name_of(finding.by))
        }
    };
    format!("{followed}; {shown}")
}
