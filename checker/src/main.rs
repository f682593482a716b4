//! The checker's command line.
//!
//! The last line on stdout is `VERDICT valid|violation|unknown …`. Exit codes: 0 valid, 1 violation, 2 bad usage or bad
//! input, 3 undecided since a budget ran out or since there is nothing to judge, 4 the checker contradicts itself.

use std::fs::File;
use std::io::{BufRead, BufReader, BufWriter, ErrorKind, Read, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use checker::budget::Stopwatch;
use checker::compact::{self, Compact};
use checker::formats;
use checker::history::{History, Truncated};
use checker::judge::{self, Object, Question};
use checker::lease_safety::{self, LeaseReport};
use checker::linearizability::{self, Budget, Certificate, KeyReport, Report, Verdict};
use checker::sequential;
use clap::{Parser, Subcommand, ValueEnum};

/// Prints a line, as `println!` does, but for what [`line`] says.
macro_rules! say {
    ($($words:tt)*) => { line(format_args!($($words)*)) };
}

/// Prints a line. Whoever read it may have left (`checker check … | head`): the exit code is there all the same.
fn line(words: std::fmt::Arguments<'_>) {
    if let Err(error) = writeln!(std::io::stdout(), "{words}")
        && error.kind() != ErrorKind::BrokenPipe
    {
        eprintln!("error: cannot write to standard output: {error}");
    }
}

/// Decides whether recorded histories are linearizable, and whether leases were safe.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Is this history linearizable?
    Check {
        /// The history.
        file: PathBuf,
        /// What the history is of; without it what is usual in its format: keys with get, put, cas and delete, keys with
        /// append, or
        /// one register with cas.
        #[arg(long, value_enum)]
        model: Option<Model>,
        /// What a register or a counter holds at first, as EDN: 0, "a", nil. Histories of this project tell that themselves.
        #[arg(long)]
        initial: Option<String>,
        /// How it is written.
        #[arg(long, value_enum, default_value_t = Format::Auto)]
        format: Format,
        /// Give up after this time: 500ms, 60s, 5m.
        #[arg(long, value_parser = duration, default_value = "60s")]
        time_limit: Duration,
        /// Give up beyond this much search state: 512MiB, 4GiB, or bytes.
        #[arg(long, value_parser = bytes, default_value = "4GiB")]
        memory_limit: usize,
        /// Time for making the counterexample of a violation small, for each key: 0s leaves it as it is found.
        #[arg(long, value_parser = duration)]
        explain_limit: Option<Duration>,
        /// Most threads; without it one for each processor.
        #[arg(long)]
        threads: Option<usize>,
        /// Judge all keys as one object. Not for JSON lines and the compact form.
        #[arg(long)]
        whole: bool,
        /// Have the certificate of each verdict checked by other means: the order found, or the operations that have none.
        /// Not for JSON lines and the compact form.
        #[arg(long)]
        verify: bool,
        /// Print the verdict of each key.
        #[arg(long)]
        per_key: bool,
        /// Tell on standard error what reading and judging cost.
        #[arg(long)]
        cost: bool,
        /// Print the whole report as JSON before the verdict.
        #[arg(long)]
        json: bool,
    },
    /// Write a history of JSON lines in the compact form, which is read much quicker.
    Convert {
        /// The history.
        file: PathBuf,
        /// Where to write it.
        #[arg(short, long)]
        output: PathBuf,
    },
    /// Is each partition of this history sequentially consistent, as reads through any replica promise?
    Sequential {
        /// The history.
        file: PathBuf,
        /// Print the whole report as JSON before the verdict.
        #[arg(long)]
        json: bool,
    },
    /// Were the leases of this run safe, and do its nodes agree?
    Leases {
        /// The folder of the run, with history.jsonl and trace/.
        run: PathBuf,
        /// Print the whole report as JSON before the verdict.
        #[arg(long)]
        json: bool,
    },
}

#[derive(Clone, Copy, ValueEnum)]
enum Model {
    /// Keys with get, put, compare-and-swap and delete.
    Kv,
    /// A register with read and write.
    Register,
    /// A register with read, write and compare-and-swap.
    CasRegister,
    /// Registers that are read and written several at a time.
    MultiRegister,
    /// Keys with get, put and append.
    AppendKv,
    /// A lock with acquire and release.
    Mutex,
    /// A number with add and read.
    Counter,
    /// A set with add, remove and read.
    Set,
    /// A queue with enqueue and dequeue.
    Queue,
}

#[derive(Clone, Copy, ValueEnum)]
enum Format {
    /// Find out.
    Auto,
    /// This project's JSON lines.
    Jsonl,
    /// Jepsen's and Knossos's EDN.
    Edn,
    /// Jepsen's history.txt.
    JepsenTxt,
    /// Jepsen's log as in Porcupine's corpus; a cas that fails did not match.
    PorcupineLog,
    /// The key-value histories of Porcupine's corpus.
    PorcupineKv,
}

fn main() -> ExitCode {
    let done = match Arguments::parse().command {
        Command::Check {
            file,
            model,
            initial,
            format,
            time_limit,
            memory_limit,
            explain_limit,
            threads,
            whole,
            verify,
            per_key,
            cost,
            json,
        } => {
            let (time, memory) = (Some(time_limit), Some(memory_limit));
            let budget = Budget { time, memory, threads, explain: explain_limit, ..Budget::default() };
            let asked = Asked { model, initial, whole, verify };
            check(&file, format, &asked, budget, Shown { per_key, cost, json })
        }
        Command::Convert { file, output } => convert(&file, &output),
        Command::Sequential { file, json } => sequential(&file, json),
        Command::Leases { run, json } => leases(&run, json),
    };
    done.unwrap_or_else(|error| {
        eprintln!("error: {error:#}");
        ExitCode::from(2)
    })
}

/// What to judge.
struct Asked {
    model: Option<Model>,
    initial: Option<String>,
    whole: bool,
    verify: bool,
}

/// What to print beside the verdict.
#[derive(Clone, Copy)]
struct Shown {
    per_key: bool,
    cost: bool,
    json: bool,
}

fn check(
    file: &Path,
    format: Format,
    asked: &Asked,
    budget: Budget,
    shown: Shown,
) -> anyhow::Result<ExitCode> {
    let place = || file.display().to_string();
    let watch = Stopwatch::start(None);
    let format = match format {
        Format::Auto => {
            let found = beginning(file).map(|bytes| formats::detect(&bytes)).with_context(place)?;
            found.with_context(|| format!("{}: not a history that is known; say --format", place()))?
        }
        Format::Jsonl => formats::Format::Jsonl,
        Format::Edn => formats::Format::Edn,
        Format::JepsenTxt => formats::Format::JepsenText,
        Format::PorcupineLog => formats::Format::PorcupineLog,
        Format::PorcupineKv => formats::Format::PorcupineKv,
    };
    if let (formats::Format::Jsonl | formats::Format::Compact, Some(flag)) = (format, asked.general()) {
        anyhow::bail!(
            "{flag} is not for JSON lines and the compact form: they tell what keys hold at first, and are judged key by key, by \
             searches of their own"
        );
    }
    let report = match format {
        formats::Format::Jsonl if matches!(asked.model, None | Some(Model::Kv)) => {
            let history = History::read(file).with_context(place)?;
            note_cut(history.truncated.as_ref());
            linearizability::check(&history, budget)
        }
        formats::Format::Compact if matches!(asked.model, None | Some(Model::Kv)) => {
            linearizability::check_compact(&Compact::read(file).with_context(place)?, budget)
        }
        formats::Format::Compact => anyhow::bail!("the compact form has histories of the model kv"),
        formats::Format::Jsonl => anyhow::bail!("JSON lines are histories of the model kv"),
        _ => {
            let bytes = BufReader::with_capacity(1 << 18, File::open(file).with_context(place)?);
            let calls = formats::read(bytes, format).with_context(place)?;
            note_cut(calls.truncated.as_ref());
            judge::judge(&calls, &asked.question(format, budget)?).with_context(place)?
        }
    };
    if shown.json {
        say!("{}", serde_json::to_string(&report)?);
    }
    if shown.cost {
        tell_cost(&report, watch.elapsed());
    }
    Ok(tell(&report, shown))
}

fn note_cut(truncated: Option<&Truncated>) {
    if let Some(cut) = truncated {
        eprintln!("note: line {} is cut off after {} bytes and is left out", cut.line, cut.bytes);
    }
}

fn convert(file: &Path, output: &Path) -> anyhow::Result<ExitCode> {
    let history = History::read(file).with_context(|| file.display().to_string())?;
    note_cut(history.truncated.as_ref());
    let place = || output.display().to_string();
    let mut out = BufWriter::new(File::create(output).with_context(place)?);
    compact::write(&history, &mut out).and_then(|()| out.flush()).with_context(place)?;
    Ok(ExitCode::SUCCESS)
}

/// What it cost, in one line of JSON.
fn tell_cost(report: &Report, all: Duration) {
    let judged = Duration::from_nanos(report.elapsed);
    let sum = |count: fn(&KeyReport) -> u64| report.keys.iter().map(count).sum::<u64>();
    let cost = serde_json::json!({
        "read_ns": (all.saturating_sub(judged)).as_nanos() as u64,
        "judged_ns": report.elapsed,
        "steps": sum(|key| key.steps),
        "configurations": sum(|key| key.configurations as u64),
        "processor_ns": processor_time(),
        "peak_kib": peak_memory(),
    });
    eprintln!("cost {cost}");
}

/// Time that the main thread has spent on a processor, in nanoseconds, where the system tells: what is left of the time that
/// passed when others use the machine, too.
fn processor_time() -> Option<u64> {
    std::fs::read_to_string("/proc/self/schedstat").ok()?.split_whitespace().next()?.parse().ok()
}

/// Most memory that this process held at any moment, in KiB, where the system tells.
fn peak_memory() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().trim_end_matches("kB").trim().parse().ok()
}

/// The first bytes of a file, and the rest of the line that they end in, within reason.
fn beginning(file: &Path) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let mut file = BufReader::new(File::open(file)?);
    file.by_ref().take(4096).read_to_end(&mut bytes)?;
    file.take(1 << 24).read_until(b'\n', &mut bytes)?;
    Ok(bytes)
}

impl Asked {
    /// What was asked that only the general search takes.
    fn general(&self) -> Option<&'static str> {
        let asked =
            [(self.initial.is_some(), "--initial"), (self.whole, "--whole"), (self.verify, "--verify")];
        asked.into_iter().find_map(|(asked, flag)| asked.then_some(flag))
    }

    fn question(&self, format: formats::Format, budget: Budget) -> anyhow::Result<Question> {
        let object = match self.model {
            Some(Model::Kv) => Object::Kv,
            Some(Model::Register) => Object::Register,
            None if format == formats::Format::PorcupineKv => Object::AppendKv,
            Some(Model::CasRegister) | None => Object::CasRegister,
            Some(Model::MultiRegister) => Object::MultiRegister,
            Some(Model::AppendKv) => Object::AppendKv,
            Some(Model::Mutex) => Object::Mutex,
            Some(Model::Counter) => Object::Counter,
            Some(Model::Set) => Object::Set,
            Some(Model::Queue) => Object::Queue,
        };
        let initial = self.initial.as_deref().map(formats::parse_value).transpose().context("--initial")?;
        Ok(Question { object, format, initial, whole: self.whole, verify: self.verify, budget })
    }
}

fn tell(report: &Report, shown: Shown) -> ExitCode {
    let seconds = Duration::from_nanos(report.elapsed).as_secs_f64();
    let not_verified = not_verified(report);
    let (operations, keys) = (report.operations, report.keys.len());
    let size = format!("{operations} operations on {keys} keys in {seconds:.3} s{not_verified}");
    for key in report.keys.iter().filter(|_| !shown.json) {
        match &key.verdict {
            Verdict::Valid if shown.per_key => say!("key {}: valid, {} operations", key.key, key.completed),
            Verdict::Valid => {}
            Verdict::Violation(violation) => say!("{}\n", violation.text),
            Verdict::Unknown(undecided) => say!(
                "key {}: undecided ({}); {} of {} operations were put in order",
                undecided.key,
                undecided.reason,
                undecided.placed,
                undecided.completed
            ),
        }
    }
    match report.verdict() {
        Verdict::Valid if report.operations + report.failed == 0 => {
            say!("VERDICT unknown no operations ({size})");
            ExitCode::from(3)
        }
        Verdict::Valid => {
            say!("VERDICT valid ({size})");
            ExitCode::SUCCESS
        }
        Verdict::Violation(violation) => {
            say!("VERDICT violation key {} line {} ({size})", violation.key, violation.line);
            ExitCode::from(1)
        }
        Verdict::Unknown(undecided) => {
            say!("VERDICT unknown key {} {} ({size})", undecided.key, undecided.reason);
            let is_wrong = |key: &KeyReport| matches!(key.certificate, Certificate::Wrong(_));
            ExitCode::from(if report.keys.iter().any(is_wrong) { 4 } else { 3 })
        }
    }
}

/// Words on the first verdict whose certificate does not hold, or could not be checked.
fn not_verified(report: &Report) -> String {
    let words = report.keys.iter().find_map(|key| match &key.certificate {
        Certificate::Unchecked | Certificate::Holds => None,
        Certificate::Open(why) => Some(format!("; not verified: key {}: {why}", key.key)),
        Certificate::Wrong(why) => Some(format!("; the checker is wrong: key {}: {why}", key.key)),
    });
    words.unwrap_or_default()
}

fn sequential(file: &Path, json: bool) -> anyhow::Result<ExitCode> {
    let history = History::read(file).with_context(|| file.display().to_string())?;
    note_cut(history.truncated.as_ref());
    let report = sequential::check(&history);
    if json {
        say!("{}", serde_json::to_string(&report)?);
    } else {
        report.violations.iter().for_each(|violation| say!("line {}: {}\n", violation.line, violation.text));
        report.undecided.iter().for_each(|what| say!("undecided: {what}"));
    }
    let size = format!("{} operations of {} sessions", report.operations, report.sessions);
    let (word, code) = match report.verdict() {
        sequential::Verdict::Valid => ("valid", ExitCode::SUCCESS),
        sequential::Verdict::Violation => ("violation", ExitCode::from(1)),
        sequential::Verdict::Unknown => ("unknown", ExitCode::from(3)),
    };
    say!("VERDICT {word} ({size}, {} local reads)", report.local_reads);
    Ok(code)
}

fn leases(run: &Path, json: bool) -> anyhow::Result<ExitCode> {
    let report = lease_safety::check(run).with_context(|| run.display().to_string())?;
    if json {
        say!("{}", serde_json::to_string(&report)?);
    } else {
        tell_leases(&report);
    }
    let checked = if report.leases { "L1-L8 SP2 SP3 BLE3" } else { "L8 SP2 SP3 BLE3, no leases" };
    if report.is_valid() {
        say!("VERDICT valid ({checked})");
        return Ok(ExitCode::SUCCESS);
    }
    let counts: Vec<String> =
        report.counts.iter().map(|(invariant, count)| format!("{invariant} x{count}")).collect();
    say!("VERDICT violation {} ({checked})", counts.join(" "));
    Ok(ExitCode::from(1))
}

fn tell_leases(report: &LeaseReport) {
    for violation in &report.violations {
        say!("{violation}\n");
    }
    let exercise = &report.exercise;
    say!("events {}, boots {}, cut-off lines {}", exercise.events, exercise.boots, exercise.truncated_lines);
    say!(
        "promises {}, entries compared {}, snapshots fetched {}",
        exercise.promises,
        exercise.entries_compared,
        exercise.snapshots_fetched
    );
    for (partition, changes) in &exercise.leader_changes {
        say!("partition {partition}: {changes} leader changes");
    }
    for (partition, failed) in &exercise.failed_elections {
        say!("partition {partition}: {failed} take-overs that never led");
    }
    for (mutant, count) in &exercise.mutants {
        say!("planted bug {mutant} reached {count} times");
    }
    if !report.leases {
        say!("no node had leases on: L1 to L7 were not checked");
        return;
    }
    say!("grants {}, holds {}, extensions {}", exercise.grants, exercise.holds, exercise.extensions);
    say!(
        "fast reads {}, of them {} in the last tenth of a lease; {} fast answers without a trace event",
        exercise.fast_reads,
        exercise.fast_reads_near_expiry,
        exercise.fast_answers_without_event
    );
}

/// A duration: a whole number and `ms`, `s` or `m`.
fn duration(text: &str) -> Result<Duration, String> {
    let (number, unit) = split_unit(text)?;
    match unit {
        "ms" => Ok(Duration::from_millis(number)),
        "s" => Ok(Duration::from_secs(number)),
        "m" => number.checked_mul(60).map(Duration::from_secs).ok_or_else(|| "too long".to_owned()),
        _ => Err("expected a number with ms, s or m".to_owned()),
    }
}

/// A size: a whole number of bytes, or with `KiB`, `MiB` or `GiB`.
fn bytes(text: &str) -> Result<usize, String> {
    let (number, unit) = split_unit(text)?;
    let shift = match unit {
        "" | "B" => 0,
        "KiB" => 10,
        "MiB" => 20,
        "GiB" => 30,
        _ => return Err("expected a number of bytes, or with KiB, MiB or GiB".to_owned()),
    };
    usize::try_from(number)
        .ok()
        .and_then(|number| number.checked_mul(1 << shift))
        .ok_or_else(|| "too large".to_owned())
}

fn split_unit(text: &str) -> Result<(u64, &str), String> {
    let end = text.find(|symbol: char| !symbol.is_ascii_digit()).unwrap_or(text.len());
    let number = text[..end].parse().map_err(|_| "expected a whole number first".to_owned())?;
    Ok((number, &text[end..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_and_sizes() {
        assert_eq!(duration("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(duration("2m"), Ok(Duration::from_mins(2)));
        assert!(duration("5").is_err() && duration("s").is_err());
        assert_eq!(bytes("3MiB"), Ok(3 << 20));
        assert_eq!(bytes("77"), Ok(77));
        assert!(bytes("1TB").is_err() && bytes("99999999999GiB").is_err());
    }
}
