//! The harness's faults, each tried on a pair of plain echo processes: it must do what it says to the frames of one line, and
//! nothing to anybody else's. A run that relies on a fault which does not bite, or that bites something else, proves nothing.

mod echo;
mod observe;
mod primitives;
mod stage;

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use anyhow::{Context, Result};
use clap::{Args, ValueEnum};
use serde::Serialize;

use observe::{Newcomer, Observed, Trial};
use stage::{Ended, Stage};

/// What to try.
#[derive(Debug, Args)]
pub struct SelftestArguments {
    /// One line of JSON instead of the table.
    #[arg(long)]
    json: bool,
    /// Does every fault wrong, to show that this is found.
    #[arg(long, hide = true)]
    sabotage: Option<Sabotage>,
}

/// How a fault is done wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Sabotage {
    /// Not at all.
    Idle,
    /// To everybody.
    Everywhere,
}

/// What a primitive was found to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
enum Finding {
    /// It does what it says, and nothing else.
    Proven,
    /// The machine was too busy to tell.
    Undecided,
    /// It does not.
    Broken,
}

/// A row of the table.
#[derive(Debug, Serialize)]
struct Row {
    primitive: &'static str,
    finding: Finding,
    /// Frames sent while it was in effect.
    sent: usize,
    /// Those that arrived while it was.
    arrived: usize,
    /// Those that arrived only once it had ended.
    later: usize,
    /// Those that never arrived.
    lost: usize,
    /// Arrivals beyond the first.
    twice: usize,
    /// Arrivals before an earlier frame's.
    overtaken: usize,
    /// The longest that a frame travelled.
    slowest_ms: f64,
    /// What became of the connection, at the tester's end and the echo's.
    ends: String,
    /// What became of one that was dialed meanwhile.
    newcomer: &'static str,
    /// What was wrong, or could not be told.
    reasons: Vec<String>,
}

/// Tries every primitive and shows what came of it. Exit codes: 0 all are proven, 1 one is broken, 3 one could not be told,
/// 4 they could not be tried.
pub(crate) fn main(arguments: &SelftestArguments) -> ExitCode {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let rows =
        match runtime.context("no runtime").and_then(|runtime| runtime.block_on(run(arguments.sabotage))) {
            Ok(rows) => rows,
            Err(error) => {
                eprintln!("error: {error:#}");
                say!("VERDICT unknown selftest: it could not be carried out");
                return ExitCode::from(4);
            }
        };
    if arguments.json {
        say!("{}", serde_json::to_string(&rows).expect("plain data"));
    } else {
        show(&rows);
    }
    let count = |finding| rows.iter().filter(|row| row.finding == finding).count();
    let (broken, undecided) = (count(Finding::Broken), count(Finding::Undecided));
    let (verdict, code) = match (broken, undecided) {
        (0, 0) => ("valid", 0),
        (0, _) => ("unknown", 3),
        _ => ("violation", 1),
    };
    say!(
        "VERDICT {verdict} selftest: {} faults proven, {broken} broken, {undecided} undecided",
        count(Finding::Proven)
    );
    ExitCode::from(code)
}

/// One of the echo processes.
pub(crate) fn echo(config: &Path) -> ExitCode {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    match runtime.context("no runtime").and_then(|runtime| runtime.block_on(echo::run(config))) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::from(4)
        }
    }
}

async fn run(sabotage: Option<Sabotage>) -> Result<Vec<Row>> {
    let program = std::env::current_exe().context("cannot find this program, which is also the echo's")?;
    let program = program.into_os_string().into_string();
    let program =
        program.map_err(|path| anyhow::anyhow!("this program's path is not text: {}", path.display()))?;
    let folder = Folder::new()?;
    let stage = Stage::start(vec![program, "echo".to_owned()], &folder.0, sabotage).await?;
    let mut rows = Vec::new();
    for primitive in primitives::all() {
        let trial = observe::try_out(&stage, &primitive).await;
        rows.push(Row::new(
            primitive.name,
            trial.with_context(|| format!("{} could not be tried", primitive.name))?,
        ));
    }
    for (name, kills) in [("pause", false), ("kill", true)] {
        let trial = observe::try_process(&stage, kills).await;
        rows.push(Row::new(name, trial.with_context(|| format!("{name} could not be tried"))?));
    }
    stage.stop().await?;
    Ok(rows)
}

impl Row {
    fn new(primitive: &'static str, trial: Trial) -> Self {
        let Trial { during, after, broken, undecided } = trial;
        let finding = match (broken.as_slice(), undecided.as_slice()) {
            ([], []) => Finding::Proven,
            ([], _) => Finding::Undecided,
            _ => Finding::Broken,
        };
        let mut once = after.arrived.clone();
        once.sort_unstable();
        once.dedup();
        Self {
            primitive,
            finding,
            sent: after.sent,
            arrived: during.arrived.len(),
            later: after.arrived.len().saturating_sub(during.arrived.len()),
            lost: after.sent.saturating_sub(once.len()),
            twice: after.arrived.len() - once.len(),
            overtaken: after.arrived.windows(2).filter(|pair| pair[0] > pair[1]).count(),
            slowest_ms: after.latest().as_secs_f64() * 1000.0,
            ends: ends(&during, &after),
            newcomer: in_words(during.newcomer),
            reasons: broken.into_iter().chain(undecided).collect(),
        }
    }
}

fn ends(during: &Observed, after: &Observed) -> String {
    let end = |end| match end {
        Ended::No => "open",
        Ended::Finished => "FIN",
        Ended::Reset => "RST",
    };
    let both = |seen: &Observed| format!("{}/{}", end(seen.here), end(seen.there));
    match (both(during), both(after)) {
        (during, after) if during == after => during,
        (during, after) => format!("{during}, then {after}"),
    }
}

fn in_words(newcomer: Newcomer) -> &'static str {
    match newcomer {
        Newcomer::Untried => "-",
        Newcomer::Refused => "refused",
        Newcomer::Silent => "silent",
        Newcomer::Answered => "answered",
        Newcomer::Reset => "RST",
        Newcomer::Finished => "FIN",
    }
}

fn show(rows: &[Row]) {
    say!(
        "{:<26} {:>5} {:>8} {:>6} {:>5} {:>6} {:>10} {:>8}  {:<24} {:<9} finding",
        "fault",
        "sent",
        "arrived",
        "later",
        "lost",
        "twice",
        "overtaken",
        "max ms",
        "ends",
        "newcomer"
    );
    for row in rows {
        let finding = match row.finding {
            Finding::Proven => "proven",
            Finding::Undecided => "undecided",
            Finding::Broken => "BROKEN",
        };
        say!(
            "{:<26} {:>5} {:>8} {:>6} {:>5} {:>6} {:>10} {:>8.1}  {:<24} {:<9} {finding}",
            row.primitive,
            row.sent,
            row.arrived,
            row.later,
            row.lost,
            row.twice,
            row.overtaken,
            row.slowest_ms,
            row.ends,
            row.newcomer
        );
        for reason in &row.reasons {
            say!("    {reason}");
        }
    }
}

/// A folder for the echoes' logs, which is removed at the end.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Result<Self> {
        let path = std::env::temp_dir().join(format!("harness-selftest-{}", std::process::id()));
        std::fs::create_dir_all(&path).with_context(|| format!("cannot make {}", path.display()))?;
        Ok(Self(path))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // what is left of it harms nobody
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// How long what must happen may take: on a busy machine long, and not when it will not happen.
fn patience(sabotage: Option<Sabotage>) -> Duration {
    match sabotage {
        None => Duration::from_secs(10),
        Some(_) => Duration::from_millis(300),
    }
}
