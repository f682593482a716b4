//! The checker's command line.
//!
//! The last line on stdout is `VERDICT valid|violation|unknown …`. Exit codes: 0 valid, 1 violation, 2 bad usage or bad
//! input, 3 undecided since a budget ran out.

use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use checker::history::History;
use checker::lease_safety::{self, LeaseReport};
use checker::linearizability::{self, Budget, Report, Verdict};
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
        /// What the history is of.
        #[arg(long, value_enum, default_value_t = Model::Kv)]
        model: Model,
        /// How it is written.
        #[arg(long, value_enum, default_value_t = Format::Auto)]
        format: Format,
        /// Give up after this time: 500ms, 60s, 5m.
        #[arg(long, value_parser = duration, default_value = "60s")]
        time_limit: Duration,
        /// Give up beyond this much search state: 512MiB, 4GiB, or bytes.
        #[arg(long, value_parser = bytes, default_value = "4GiB")]
        memory_limit: usize,
        /// Print the whole report as JSON before the verdict.
        #[arg(long)]
        json: bool,
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
}

#[derive(Clone, Copy, ValueEnum)]
enum Format {
    /// Find out.
    Auto,
    /// This project's JSON lines.
    Jsonl,
}

fn main() -> ExitCode {
    let done = match Arguments::parse().command {
        Command::Check {
            file,
            model: Model::Kv,
            format: Format::Auto | Format::Jsonl,
            time_limit,
            memory_limit,
            json,
        } => {
            let budget = Budget { time: Some(time_limit), memory: Some(memory_limit), ..Budget::default() };
            check(&file, budget, json)
        }
        Command::Sequential { file, json } => sequential(&file, json),
        Command::Leases { run, json } => leases(&run, json),
    };
    done.unwrap_or_else(|error| {
        eprintln!("error: {error:#}");
        ExitCode::from(2)
    })
}

fn check(file: &Path, budget: Budget, json: bool) -> anyhow::Result<ExitCode> {
    let history = History::read(file).with_context(|| file.display().to_string())?;
    if let Some(cut) = &history.truncated {
        eprintln!("note: line {} is cut off after {} bytes and is left out", cut.line, cut.bytes);
    }
    let report = linearizability::check(&history, budget);
    if json {
        say!("{}", serde_json::to_string(&report)?);
    }
    Ok(tell(&report, json))
}

fn tell(report: &Report, json: bool) -> ExitCode {
    let seconds = Duration::from_nanos(report.elapsed).as_secs_f64();
    let size = format!("{} operations on {} keys in {seconds:.3} s", report.operations, report.keys.len());
    for key in report.keys.iter().filter(|_| !json) {
        match &key.verdict {
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
            ExitCode::from(3)
        }
    }
}

fn sequential(file: &Path, json: bool) -> anyhow::Result<ExitCode> {
    let history = History::read(file).with_context(|| file.display().to_string())?;
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
