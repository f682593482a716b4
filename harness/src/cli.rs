//! The command line: which workloads under which seeds, and the exit code that says how they went.

use std::{
    io::Write,
    ops::Range,
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::Context;
use clap::{Args, CommandFactory as _, Parser, Subcommand};
use clap_complete::Shell;
use store::config::NodeConfig;
use tracing_subscriber::fmt::{format::Writer, time::FormatTime};

use crate::{
    campaign::{self, command::CampaignArguments, merge::MergeArguments},
    clock::boottime_ns,
    export::{self, ExportArguments},
    inspect::{self, InspectArguments},
    plan::Plan,
    replay::{self, command::ReplayArguments},
    report::{FAILED, Report, html, render, schema, severity, verdict_line},
    retention::{self, PruneArguments},
    run::{self, Ended},
    selftest::{self, SelftestArguments},
    serve::{self, ServeArguments},
    shrink::{self, command::ShrinkArguments},
    sim::{self, command::SimArguments},
    terminal::{PROGRAM, for_shell},
    workload::{self, System, SystemKind, Time, Workload},
};

/// Starts a real cluster, breaks it on purpose, and says whether its history was linearizable and its leases safe.
///
/// Exit codes: 0 valid, or the expected violation was found; 1 violation, or an expected one was not found; 2 bad usage or
/// bad input; 3 undecided; 4 a run failed, as by a node that died by itself; 130 interrupted. Of several runs the worst
/// counts: 1 over 4 over 3.
#[derive(Debug, Parser)]
#[command(name = "harness", version = env!("HARNESS_VERSION"), args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    run: RunArguments,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Runs workloads (the same as no command at all).
    Run(RunArguments),
    /// Runs workloads in simulated time, many seeds a second.
    Sim(SimArguments),
    /// Goes through all workloads of folders in simulated time: what fails, and whether every planted bug is found.
    Campaign(CampaignArguments),
    /// Puts the shards of a campaign together: one table, one exit code.
    Merge(MergeArguments),
    /// Makes a plan that fails in simulation as small as it goes: the same violation with fewer faults, operations, nodes.
    Shrink(ShrinkArguments),
    /// Follows a real run that failed in simulated time: its faults, requests and messages, until one fails the same way.
    Replay(ReplayArguments),
    /// Writes `report.html` in the folders of old runs anew, from what they have recorded.
    Report {
        /// Folders of runs, such as results/latest.
        #[arg(required = true, value_name = "RUN_DIR")]
        folders: Vec<PathBuf>,
    },
    /// Shows what happened in a run: faults, leaders, operations that match, logs of the nodes, in one order of time.
    Inspect(InspectArguments),
    /// Writes the operations of a run for other tools: EDN for Jepsen, Knossos and Elle, or comma-separated values.
    Export(ExportArguments),
    /// Shows the runs of a results folder in a browser, also one that is going on; only reads.
    Serve(ServeArguments),
    /// Removes old runs: of each workload the newest N that passed stay, and five times as many that did not.
    Prune(PruneArguments),
    /// Prints a workload with every key, its meaning and its default.
    ExplainWorkload,
    /// Prints the JSON schema of workload files, for editors.
    Schema,
    /// Prints what each field of a run's `verdict.json` means.
    ExplainVerdict {
        /// Its JSON schema instead.
        #[arg(long)]
        schema: bool,
    },
    /// Prints what a shell needs to complete commands and options; its documentation says where to put it.
    Completions {
        /// The shell.
        shell: Shell,
    },
    /// Tries every fault on a pair of echo processes: each must do what it says, and nothing else.
    Selftest(SelftestArguments),
    /// One echo process of the self-test.
    #[command(hide = true)]
    Echo {
        /// Its configuration.
        #[arg(long)]
        config: PathBuf,
    },
    /// One node of a cluster.
    #[command(hide = true)]
    Node {
        /// Its configuration.
        #[arg(long)]
        config: PathBuf,
    },
}

/// What to run.
#[derive(Debug, Args)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of the command line")]
struct RunArguments {
    /// Workload files.
    #[arg(required_unless_present = "target", value_name = "WORKLOAD.toml")]
    workloads: Vec<PathBuf>,
    /// Seed of the run.
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u64).range(..=i64::MAX as u64), conflicts_with = "seeds")]
    seed: u64,
    /// One run for each of these seeds: from A up to, and without, B.
    #[arg(long, value_name = "A..B", value_parser = seeds)]
    seeds: Option<Range<u64>>,
    /// Warm-up and faults together take this long, such as 30s; faults that are due later are left out, and steps take their time.
    #[arg(long, value_name = "TIME", value_parser = time)]
    time_limit: Option<Time>,
    /// The files are plans, as results hold them: each is run once, with its own seed.
    #[arg(long, conflicts_with_all = ["seed", "seeds", "time_limit"])]
    plans: bool,
    /// The workloads are for systems of this kind; it must be what they say themselves. Without a workload: the one that is
    /// shipped for it.
    #[arg(long, value_name = "KIND", conflicts_with = "plans")]
    target: Option<SystemKind>,
    /// The program of a node, in place of what the workload says: for etcd and redis its path, for maelstrom one command, which
    /// the shell runs by `exec`.
    #[arg(long, value_name = "COMMAND")]
    bin: Option<String>,
    /// Where results go.
    #[arg(long, value_name = "DIR", default_value = "results")]
    out: PathBuf,
    /// No progress lines.
    #[arg(long)]
    quiet: bool,
    /// Each report as one line of JSON instead of the summary.
    #[arg(long)]
    json: bool,
    /// Runs a negative workload without its planted bug, and expects it to be valid.
    #[arg(long)]
    without_mutant: bool,
}

/// Exit code after Ctrl-C.
pub(crate) const INTERRUPTED: u8 = 130;

/// Runs what the command line says.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    match cli.command {
        Some(Command::Node { config }) => node(&config),
        Some(Command::Echo { config }) => selftest::echo(&config),
        Some(Command::Selftest(arguments)) => selftest::main(&arguments),
        Some(Command::Run(arguments)) => run_all(&arguments),
        Some(Command::Sim(arguments)) => sim::command::main(&arguments),
        Some(Command::Campaign(arguments)) => campaign::command::main(&arguments),
        Some(Command::Merge(arguments)) => campaign::merge::main(&arguments),
        Some(Command::Shrink(arguments)) => shrink::command::main(&arguments),
        Some(Command::Replay(arguments)) => replay::command::main(&arguments),
        Some(Command::Report { folders }) => draw(&folders),
        Some(Command::Inspect(arguments)) => inspect::main(&arguments),
        Some(Command::Export(arguments)) => export::main(&arguments),
        Some(Command::Serve(arguments)) => serve::main(&arguments),
        Some(Command::Prune(arguments)) => retention::main(&arguments),
        Some(Command::ExplainWorkload) => shown(&workload::reference::explain()),
        Some(Command::ExplainVerdict { schema: false }) => shown(&schema::explain()),
        Some(Command::ExplainVerdict { schema: true }) => shown(&format!("{:#}\n", schema::schema())),
        Some(Command::Completions { shell }) => complete(shell),
        Some(Command::Schema) => shown(&format!("{:#}\n", workload::reference::schema())),
        None => run_all(&cli.run),
    }
}

/// Prints a text; whoever reads it may stop in the middle.
fn shown(text: &str) -> ExitCode {
    let _ = std::io::stdout().lock().write_all(text.as_bytes());
    ExitCode::SUCCESS
}

/// Prints the completions for a shell.
fn complete(shell: Shell) -> ExitCode {
    let mut text = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "harness", &mut text);
    shown(&String::from_utf8_lossy(&text))
}

/// Draws runs that are over.
fn draw(folders: &[PathBuf]) -> ExitCode {
    for folder in folders {
        match html::write(folder) {
            Ok(path) => say!("report          {}", path.display()),
            Err(error) => {
                eprintln!("error: {}: {error:#}", folder.display());
                return ExitCode::from(2);
            }
        }
    }
    ExitCode::SUCCESS
}

fn node(path: &Path) -> ExitCode {
    // the harness has pointed standard error at the node's log file
    let filter = tracing_subscriber::EnvFilter::try_from_default_env()
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("info"));
    tracing_subscriber::fmt()
        .json()
        .with_timer(CommonClock)
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .init();
    match NodeConfig::load(path) {
        Ok(config) => store::node::run(config),
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::from(2)
        }
    }
}

/// Logs have the time of the machine's clock, in seconds, as the history and the traces have it in nanoseconds.
struct CommonClock;

impl FormatTime for CommonClock {
    fn format_time(&self, w: &mut Writer<'_>) -> std::fmt::Result {
        let now = boottime_ns();
        write!(w, "{}.{:09}", now / 1_000_000_000, now % 1_000_000_000)
    }
}

/// From now on what goes wrong beside a run is told on standard error.
fn tell_warnings() {
    tracing_subscriber::fmt()
        .without_time()
        .with_target(false)
        .with_ansi(false)
        .with_env_filter("harness=warn")
        .with_writer(std::io::stderr)
        .init();
}

fn run_all(arguments: &RunArguments) -> ExitCode {
    tell_warnings();
    let default = arguments.target.into_iter().filter(|_| arguments.workloads.is_empty());
    let default = default.filter_map(|kind| SHIPPED.iter().find(|(of, ..)| *of == kind));
    let default: Vec<PathBuf> = default.map(|(_, path, _)| PathBuf::from(path)).collect();
    let paths = arguments.workloads.iter().chain(&default);
    let plans: Result<Vec<Vec<(Plan, String)>>, String> = paths.map(|path| plans(path, arguments)).collect();
    let plans = match plans {
        Ok(plans) => plans.concat(),
        Err(problem) => {
            eprintln!("{problem}");
            return ExitCode::from(2);
        }
    };
    let options = match options(arguments) {
        Ok(options) => options,
        Err(error) => {
            eprintln!("error: {error:#}");
            return ExitCode::from(FAILED);
        }
    };
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("error: no runtime: {error}");
            return ExitCode::from(FAILED);
        }
    };
    let code = runtime.block_on(run_plans(plans, &options, arguments.json));
    // a check that an interrupted run has left computing is waited for by nobody
    runtime.shutdown_background();
    code
}

/// One run after the other; the last line is that of the worst.
async fn run_plans(plans: Vec<(Plan, String)>, options: &run::Options, json: bool) -> ExitCode {
    let several = plans.len() > 1;
    let mut rows: Vec<Row> = Vec::new();
    for (plan, again) in plans {
        let (workload, seed) = (plan.workload.clone(), plan.seed);
        let row = match run::run(plan, again, options).await {
            Ok(Ended::Checked(report)) => {
                show(&report, json);
                Row::of(&report)
            }
            Ok(Ended::Interrupted(folder)) => {
                eprintln!(
                    "interrupted: every node is killed; the history so far is kept in {}",
                    folder.display()
                );
                say!("VERDICT unknown {workload} seed {seed}: interrupted");
                return ExitCode::from(INTERRUPTED);
            }
            Err(error) => {
                eprintln!("error: {error:#}");
                let cause = error.root_cause().to_string();
                let verdict = format!(
                    "VERDICT unknown {workload} seed {seed}: the run failed: {}",
                    cause.lines().next().unwrap_or_default()
                );
                Row { workload, seed, exit_code: FAILED, answered: 0, fast: 0, leader_changes: 0, verdict }
            }
        };
        if several {
            say!("{}", row.verdict);
        }
        rows.push(row);
    }
    if several {
        table(&rows);
    }
    let Some(worst) = rows.iter().max_by_key(|row| severity(row.exit_code)) else { return ExitCode::SUCCESS };
    say!("{}", worst.verdict);
    ExitCode::from(worst.exit_code)
}

/// A run in the table of several.
struct Row {
    workload: String,
    seed: u64,
    exit_code: u8,
    answered: u64,
    fast: u64,
    leader_changes: u64,
    verdict: String,
}

impl Row {
    fn of(report: &Report) -> Self {
        Self {
            workload: report.workload.clone(),
            seed: report.seed,
            exit_code: report.exit_code,
            answered: report.figures.answered(),
            fast: report.figures.fast_reads,
            leader_changes: report.figures.leader_changes.values().sum(),
            verdict: verdict_line(report),
        }
    }
}

fn table(rows: &[Row]) {
    say!("{:<32} {:>8} {:>9} {:>9} {:>8} exit", "workload", "seed", "answered", "fast", "changes");
    for row in rows {
        let Row { workload, seed, answered, fast, leader_changes, exit_code, .. } = row;
        say!("{workload:<32} {seed:>8} {answered:>9} {fast:>9} {leader_changes:>8} {exit_code}");
    }
}

fn show(report: &Report, json: bool) {
    if json {
        match serde_json::to_string(report) {
            Ok(text) => say!("{text}"),
            Err(error) => eprintln!("error: the report cannot be written as JSON: {error}"),
        }
    } else {
        say!("{}", render(report).trim_end());
    }
}

/// What is run of a file: a plan, or a workload's plan for each seed; each with the command line that runs it again.
fn plans(path: &Path, arguments: &RunArguments) -> Result<Vec<(Plan, String)>, String> {
    let again = again(path, arguments);
    if arguments.plans {
        let mut plan = Plan::load(path)?;
        run_by(&mut plan.system, path, arguments)?;
        return Ok(vec![(if arguments.without_mutant { plan.without_mutant() } else { plan }, again)]);
    }
    let mut workload = match shipped(path) {
        Some(text) => workload::parse(path, text),
        None => workload::load(path),
    }
    .map_err(|problem| problem.to_string())?;
    run_by(&mut workload.system, path, arguments)?;
    let workload = adapted(workload, arguments);
    let seeds = arguments.seeds.clone().unwrap_or(arguments.seed..arguments.seed + 1);
    Ok(seeds.map(|seed| (Plan::new(workload.clone(), seed), format!("{again} --seed {seed}"))).collect())
}

/// The workloads that come with the program, by the paths that they have in the project.
const SHIPPED: [(SystemKind, &str, &str); 4] = [
    (SystemKind::Store, "workloads/smoke.toml", include_str!("../../workloads/smoke.toml")),
    (
        SystemKind::Etcd,
        "workloads/etcd/linearizable.toml",
        include_str!("../../workloads/etcd/linearizable.toml"),
    ),
    (SystemKind::Redis, "workloads/redis/primary.toml", include_str!("../../workloads/redis/primary.toml")),
    (
        SystemKind::Maelstrom,
        "workloads/maelstrom/lin-kv.toml",
        include_str!("../../workloads/maelstrom/lin-kv.toml"),
    ),
];

/// The text of a workload that comes with the program, where there is no such file.
fn shipped(path: &Path) -> Option<&'static str> {
    let named = |(_, name, _): &&(_, &str, _)| path == Path::new(name);
    SHIPPED.iter().find(named).filter(|_| !path.exists()).map(|(.., text)| *text)
}

/// The system that the command line asks for, which must be the one that the file at `path` is for.
fn run_by(system: &mut System, path: &Path, arguments: &RunArguments) -> Result<(), String> {
    if let Some(kind) = arguments.target.filter(|kind| *kind != system.kind()) {
        return Err(format!(
            "error: {} is a workload for {}; `--target {}` wants one with `kind = \"{}\"` in `[target]`",
            path.display(),
            system.name(),
            kind.text(),
            kind.text()
        ));
    }
    let unknown = || Err("error: which program is a node? Say `--bin \"python3 your_node.py\"`".to_owned());
    match (&arguments.bin, system) {
        (None, System::Maelstrom { bin: None, .. }) => unknown(),
        (None, System::Maelstrom { folder: Some(folder), .. })
            if !folder.as_os_str().is_empty() && !folder.is_dir() =>
        {
            unknown()
        }
        (None, _) => Ok(()),
        (Some(_), System::Store) => Err(format!(
            "error: `--bin` has no meaning for {}: the store's nodes are this program",
            path.display()
        )),
        (Some(program), System::Etcd { bin, .. } | System::Redis { bin }) => {
            program.clone_into(bin);
            Ok(())
        }
        (Some(program), System::Maelstrom { bin, folder }) => {
            *bin = Some(program.clone());
            *folder = None;
            Ok(())
        }
    }
}

fn adapted(workload: Workload, arguments: &RunArguments) -> Workload {
    let mut workload = if arguments.without_mutant { workload.without_mutant() } else { workload };
    if let Some(limit) = arguments.time_limit {
        workload.limit_time(limit);
    }
    workload
}

/// The command that runs a workload in the same way, but for the seed.
fn again(path: &Path, arguments: &RunArguments) -> String {
    let limit = arguments.time_limit.map(|limit| format!(" --time-limit {limit}")).unwrap_or_default();
    let without = if arguments.without_mutant { " --without-mutant" } else { "" };
    let plans = if arguments.plans { " --plans" } else { "" };
    let bin =
        arguments.bin.as_ref().map(|bin| format!(" --bin {}", for_shell(Path::new(bin)))).unwrap_or_default();
    format!("{PROGRAM} {}{plans}{limit}{without}{bin}", for_shell(path))
}

fn options(arguments: &RunArguments) -> anyhow::Result<run::Options> {
    let node_command = node_command()?;
    Ok(run::Options { results: arguments.out.clone(), node_command, quiet: arguments.quiet })
}

/// The command that becomes a node: this program.
pub(crate) fn node_command() -> anyhow::Result<Vec<String>> {
    let program =
        std::env::current_exe().context("cannot find this program, which is also the nodes' program")?;
    let program = program.into_os_string().into_string();
    let program =
        program.map_err(|path| anyhow::anyhow!("this program's path is not text: {}", path.display()))?;
    Ok(vec![program, "node".to_owned()])
}

/// A range of seeds.
pub(crate) fn seeds(text: &str) -> Result<Range<u64>, String> {
    let (from, to) = text.split_once("..").ok_or("write two numbers, such as 0..20")?;
    let parse = |number: &str| match number.parse::<u64>() {
        Ok(number) if i64::try_from(number).is_ok() => Ok(number),
        _ => Err(format!("`{number}` is no seed: write a whole number from 0")),
    };
    let range = parse(from)?..parse(to)?;
    if range.is_empty() { Err("the range is empty".to_owned()) } else { Ok(range) }
}

/// A duration.
pub(crate) fn time(text: &str) -> Result<Time, String> {
    text.parse().map_err(|()| "write a number and a unit, such as 30s".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn run_may_be_left_out() {
        for arguments in
            [&["harness", "a.toml", "--seed", "3"][..], &["harness", "run", "a.toml", "--seed", "3"]]
        {
            let cli = Cli::parse_from(arguments);
            let run = match cli.command {
                Some(Command::Run(run)) => run,
                None => cli.run,
                Some(other) => panic!("{other:?}"),
            };
            assert_eq!((run.workloads, run.seed), (vec![PathBuf::from("a.toml")], 3));
        }
        assert!(Cli::try_parse_from(["harness"]).is_err());
        assert!(Cli::try_parse_from(["harness", "node", "--config", "x"]).is_ok());
    }

    #[test]
    fn seeds_are_a_range() {
        assert_eq!(seeds("0..20"), Ok(0..20));
        for wrong in ["20", "3..3", "4..2", "a..b", "-1..2"] {
            assert!(seeds(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_violation_outweighs_a_failure_outweighs_the_undecided() {
        let worst = [0, 3, 4, 1].into_iter().max_by_key(|code| severity(*code));
        assert_eq!(worst, Some(1));
        assert_eq!([0, 3, 4].into_iter().max_by_key(|code| severity(*code)), Some(4));
    }
}
