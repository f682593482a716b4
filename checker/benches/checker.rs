//! What the checker takes for histories of all kinds, as a process of its own: time of reading and judging, configurations, peak
//! memory, and the goals. Generated histories are the same each time; public ones are measured where there are any.
//!
//!     scripts/bench checker [--json] [--rounds N] [--full] [--histories DIR]

#[path = "../tests/support/mod.rs"]
mod support;

use std::fs::File;
use std::io::{BufReader, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use checker::budget::{Budget, Stopwatch};
use checker::compact;
use checker::formats::{self, Format};
use checker::history::History;
use checker::judge::{self, Object, Question};
use clap::Parser;
use serde::Serialize;
use serde_json::Value;
use support::runs::{Shape, make_stale, recorded};

#[derive(Debug, Parser)]
struct Arguments {
    /// One line of JSON instead of the table.
    #[arg(long)]
    json: bool,
    /// How often everything is measured; medians are shown.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// All sizes: every number of keys and clients and share of unknown operations for a million operations, and ten million.
    #[arg(long)]
    full: bool,
    /// A folder of public histories with expected.csv.
    #[arg(long)]
    histories: Option<PathBuf>,
    /// Cargo says so.
    #[arg(long, hide = true)]
    bench: bool,
}

/// What is measured together: files that are judged one after the other.
struct Case {
    name: String,
    files: Vec<(PathBuf, Vec<String>)>,
    verdict: Option<&'static str>,
    /// Most milliseconds, with and without reading.
    goal: Option<(f64, bool)>,
}

/// What it took: sums over the files, but the memory, which is the most.
#[derive(Serialize)]
struct Row {
    name: String,
    files: usize,
    read_ms: f64,
    judged_ms: f64,
    /// What the processor was busy with it, with starting and reading; none: it is told in ticks that are too long.
    processor_ms: Option<f64>,
    configurations: u64,
    peak_mib: f64,
    goal_ms: Option<f64>,
    met: Option<bool>,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let folder = tempfile::tempdir()?;
    let mut rows = Vec::new();
    for case in public(arguments.histories.as_deref())? {
        rows.push(measured(&case, arguments.rounds)?);
    }
    if let Some(folder) = &arguments.histories {
        rows.insert(1, in_one_process("etcd logs, decided, in one process", folder, arguments.rounds)?);
    }
    for (name, make) in generated(arguments.full) {
        // one at a time: a million operations are hundreds of megabytes of JSON
        let case = make(folder.path(), name)?;
        rows.push(measured(&case, arguments.rounds)?);
        for (file, _) in &case.files {
            std::fs::remove_file(file)?;
        }
    }
    if arguments.json {
        println!("{}", serde_json::to_string(&rows)?);
        return Ok(());
    }
    let heads = ["files", "read ms", "judged ms", "processor", "config.", "MiB", "goal ms"];
    let [files, read, judged, processor, configurations, peak, goal] = heads;
    println!(
        "{:<58} {files:>5} {read:>9} {judged:>10} {processor:>10} {configurations:>8} {peak:>7} {goal:>8}",
        "medians; goals bound the processor's time (-: all time)"
    );
    for row in rows {
        let goal = row.goal_ms.map_or(String::new(), |goal| format!("{goal:.0}"));
        let processor = row.processor_ms.map_or("-".to_owned(), |taken| format!("{taken:.2}"));
        let met = row.met.map_or("", |met| if met { "met" } else { "MISSED" });
        println!(
            "{:<58} {:>5} {:>9.2} {:>10.2} {processor:>10} {:>8} {:>7.1} {goal:>8} {met}",
            row.name, row.files, row.read_ms, row.judged_ms, row.configurations, row.peak_mib
        );
    }
    Ok(())
}

/// Passes over Porcupine's corpus in each round: its own benchmark also goes through it again and again.
const PASSES: usize = 10;

/// Decides the logs of Porcupine's corpus in this process, as its own benchmark does; the memory is not measured.
fn in_one_process(name: &str, folder: &Path, rounds: usize) -> Result<Row> {
    let mut logs = Vec::new();
    for entry in std::fs::read_dir(folder.join("porcupine-jepsen")).context("the logs")? {
        let file = BufReader::new(File::open(entry?.path())?);
        logs.push(formats::read(file, Format::PorcupineLog)?);
    }
    let budget = Budget { threads: Some(1), explain: Some(Duration::ZERO), ..Budget::default() };
    let (object, format) = (Object::CasRegister, Format::PorcupineLog);
    let question = Question { object, format, initial: None, whole: false, verify: false, budget };
    let mut runs = Vec::new();
    let mut configurations = 0;
    for _ in 0..PASSES * rounds.max(1) {
        let watch = Stopwatch::start(None);
        configurations = 0;
        for log in &logs {
            let report = judge::judge(log, &question)?;
            configurations += report.keys.iter().map(|key| key.configurations as u64).sum::<u64>();
        }
        runs.push(watch.elapsed().as_secs_f64() * 1e3);
    }
    runs.sort_unstable_by(f64::total_cmp);
    // one thread: what passed is what it was busy, or more
    let passed = runs[runs.len() / 2];
    Ok(Row {
        name: name.to_owned(),
        files: logs.len(),
        read_ms: 0.0,
        judged_ms: passed,
        processor_ms: None,
        configurations,
        peak_mib: 0.0,
        goal_ms: Some(2.0),
        met: Some(passed <= 2.0),
    })
}

/// The goals that public histories have.
fn public(folder: Option<&Path>) -> Result<Vec<Case>> {
    let Some(folder) = folder else { return Ok(Vec::new()) };
    let expected = folder.join("expected.csv");
    let expected = std::fs::read_to_string(&expected).with_context(|| expected.display().to_string())?;
    let mut all: Vec<(PathBuf, Vec<String>)> = Vec::new();
    for line in expected.lines().skip(1) {
        let [file, format, model, _] = line.split(',').collect::<Vec<_>>()[..] else { bail!("{line}?") };
        let options = ["--format", format, "--model", model].map(str::to_owned).to_vec();
        all.push((folder.join(file), options));
    }
    let chosen = |part: &str| {
        let is_chosen = |(file, _): &&(PathBuf, Vec<String>)| file.to_string_lossy().contains(part);
        all.iter().filter(is_chosen).cloned().collect::<Vec<_>>()
    };
    let whole = |mut files: Vec<(PathBuf, Vec<String>)>| {
        for (_, options) in &mut files {
            options.push("--whole".to_owned());
        }
        files
    };
    let brief = |mut files: Vec<(PathBuf, Vec<String>)>| {
        for (_, options) in &mut files {
            options.extend(["--explain-limit", "0s"].map(str::to_owned));
        }
        files
    };
    let case = |name: &str, files, goal| Case { name: name.to_owned(), files, verdict: None, goal };
    Ok(vec![
        case("all public histories", all.clone(), None),
        case("etcd logs, decided and explained", chosen("etcd_"), None),
        case("10 clients, 10 keys as one object, decided", brief(whole(chosen("c10-"))), Some((50.0, false))),
        case("10 clients, 10 keys as one object, explained", whole(chosen("c10-")), None),
    ])
}

type Make = Box<dyn FnOnce(&Path, String) -> Result<Case>>;

fn generated(full: bool) -> Vec<(String, Make)> {
    let mut all: Vec<(String, Make)> = Vec::new();
    let base =
        Shape { operations: 1_000_000, keys: 10, clients: 50, unknown: 100, values: 0, deletes: false };
    let sizes: &[(u64, usize, u64)] = &[(1, 10, 0), (10, 50, 100), (1000, 100, 20)];
    let every: Vec<(u64, usize, u64)> = [1, 10, 1000]
        .into_iter()
        .flat_map(|keys| [10, 50, 100].map(|clients| (keys, clients)))
        .flat_map(|(keys, clients)| [0, 100, 20].map(|unknown| (keys, clients, unknown)))
        .collect();
    for &(keys, clients, unknown) in if full { &every[..] } else { sizes } {
        let percent = 100_u64.checked_div(unknown).unwrap_or(0);
        let name = format!("1M operations, {keys} keys, {clients} clients, {percent}% unknown, compact");
        let shape = Shape { keys, clients, unknown, ..base };
        all.push((
            name,
            Box::new(move |folder, name| one(folder, name, &shape, true, None, Some((300.0, true)))),
        ));
    }
    let jsonl = Shape { operations: 500_000, ..base };
    // a million events
    all.push((
        "500k operations as JSON lines".to_owned(),
        Box::new(move |folder, name| one(folder, name, &jsonl, false, None, Some((1000.0, true)))),
    ));
    if full {
        let ten = Shape { operations: 10_000_000, ..base };
        all.push((
            "10M operations, 10 keys, compact".to_owned(),
            Box::new(move |folder, name| one(folder, name, &ten, true, None, Some((3000.0, true)))),
        ));
    }
    let stale = Shape { operations: 100_000, ..base };
    all.push((
        "100k operations, one stale read".to_owned(),
        Box::new(move |folder, name| one(folder, name, &stale, true, Some(8), Some((100.0, false)))),
    ));
    let twice = Shape { operations: 1000, keys: 1, clients: 20, unknown: 0, values: 5, ..base };
    all.push((
        "1000 operations, 5 values, 20 clients, 1 key".to_owned(),
        Box::new(move |folder, name| one(folder, name, &twice, false, None, Some((10.0, false)))),
    ));
    let hard = Shape { clients: 50, unknown: 20, ..twice };
    all.push((
        "1000 operations, 5 values, 50 clients, 1 key, 5% unknown".to_owned(),
        Box::new(move |folder, name| one(folder, name, &hard, false, None, Some((10_000.0, false)))),
    ));
    all
}

/// A generated history in a file.
fn one(
    folder: &Path,
    name: String,
    shape: &Shape,
    small: bool,
    stale: Option<u64>,
    goal: Option<(f64, bool)>,
) -> Result<Case> {
    let mut records = recorded(shape, stale.unwrap_or(7));
    let mut verdict = "valid";
    if stale.is_some() {
        make_stale(&mut records);
        verdict = "violation";
    }
    let file = folder.join("history");
    let mut out = BufWriter::new(File::create(&file)?);
    if small {
        compact::write(&History::from_records(records)?, &mut out)?;
    } else {
        for record in &records {
            serde_json::to_writer(&mut out, record)?;
            out.write_all(b"\n")?;
        }
    }
    out.flush()?;
    Ok(Case { name, files: vec![(file, Vec::new())], verdict: Some(verdict), goal })
}

fn measured(case: &Case, rounds: usize) -> Result<Row> {
    let mut runs: Vec<Row> = (0..rounds.max(1)).map(|_| run(case)).collect::<Result<_>>()?;
    let (_, with_reading) = case.goal.unwrap_or_default();
    // the share of judging in the time that passed is its share of the processor's
    let share = |row: &Row| if with_reading { 1.0 } else { row.judged_ms / (row.judged_ms + row.read_ms) };
    let time = |row: &Row| row.processor_ms.unwrap_or_default() * share(row);
    runs.sort_by(|one, other| time(one).total_cmp(&time(other)));
    let middle = runs.len() / 2;
    let mut row = runs.swap_remove(middle);
    row.met = case.goal.map(|(goal, _)| time(&row) <= goal);
    Ok(row)
}

fn run(case: &Case) -> Result<Row> {
    let goal_ms = case.goal.map(|(goal, _)| goal);
    let (name, files) = (case.name.clone(), case.files.len());
    let mut row = Row {
        name,
        files,
        read_ms: 0.0,
        judged_ms: 0.0,
        processor_ms: None,
        configurations: 0,
        peak_mib: 0.0,
        goal_ms,
        met: None,
    };
    for (file, options) in &case.files {
        let mut command = Command::new(env!("CARGO_BIN_EXE_checker"));
        let output =
            command.arg("check").arg(file).args(["--cost", "--threads", "1"]).args(options).output()?;
        let (stdout, stderr) =
            (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        let last = stdout.lines().last().unwrap_or_default();
        if case.verdict.is_some_and(|verdict| !last.starts_with(&format!("VERDICT {verdict}"))) {
            bail!("{}: {last} {stderr}", case.name);
        }
        let cost = stderr.lines().find_map(|line| line.strip_prefix("cost ")).context("no cost is told")?;
        let cost: Value = serde_json::from_str(cost)?;
        let number = |name: &str| cost[name].as_u64().unwrap_or_default();
        row.read_ms += number("read_ns") as f64 / 1e6;
        row.judged_ms += number("judged_ns") as f64 / 1e6;
        *row.processor_ms.get_or_insert_default() += number("processor_ns") as f64 / 1e6;
        row.configurations += number("configurations");
        row.peak_mib = row.peak_mib.max(number("peak_kib") as f64 / 1024.0);
    }
    Ok(row)
}
