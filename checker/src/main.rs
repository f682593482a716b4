//! The checker's command line.
//!
//! The last line on stdout is `VERDICT valid|violation|unknown …`. Exit codes: 0 valid, 1 violation, 2 bad usage or bad
//! input, 3 undecided since a budget ran out or since there is nothing to judge, 4 the checker contradicts itself.

use std::fs::File;
use std::io::{BufWriter, ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;
use checker::compact;
use checker::history::{History, Truncated};
use checker::sequential;
use clap::{Parser, Subcommand};
use command::check::Check;
use command::leases::leases;

/// Prints a line, as `println!` does, but for what [`line`] says.
macro_rules! say {
    ($($words:tt)*) => { $crate::line(format_args!($($words)*)) };
}

/// Prints a line. Whoever read it may have left (`checker check … | head`): the exit code is there all the same.
fn line(words: std::fmt::Arguments<'_>) {
    if let Err(error) = writeln!(std::io::stdout(), "{words}")
        && error.kind() != ErrorKind::BrokenPipe
    {
        eprintln!("error: cannot write to standard output: {error}");
    }
}

/// The larger commands.
mod command {
    mod amounts;
    pub(crate) mod check;
    pub(crate) mod leases;
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
    Check(Box<Check>),
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

fn main() -> ExitCode {
    let done = match Arguments::parse().command {
        Command::Check(check) => check.run(),
        Command::Convert { file, output } => convert(&file, &output),
        Command::Sequential { file, json } => sequential(&file, json),
        Command::Leases { run, json } => leases(&run, json),
    };
    done.unwrap_or_else(|error| {
        eprintln!("error: {error:#}");
        ExitCode::from(2)
    })
}

fn convert(file: &Path, output: &Path) -> anyhow::Result<ExitCode> {
    let history = History::read(file).with_context(|| file.display().to_string())?;
    note_cut(history.truncated.as_ref());
    let place = || output.display().to_string();
    let is_itself = matches!((file.canonicalize(), output.canonicalize()), (Ok(from), Ok(to)) if from == to);
    anyhow::ensure!(!is_itself, "{}: the history would be overwritten by its other form", place());
    let mut out = BufWriter::new(File::create(output).with_context(place)?);
    compact::write(&history, &mut out).and_then(|()| out.flush()).with_context(place)?;
    Ok(ExitCode::SUCCESS)
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
        sequential::Verdict::Valid if history.operations.is_empty() => {
            ("unknown no operations", ExitCode::from(3))
        }
        sequential::Verdict::Valid => ("valid", ExitCode::SUCCESS),
        sequential::Verdict::Violation => ("violation", ExitCode::from(1)),
        sequential::Verdict::Unknown => ("unknown", ExitCode::from(3)),
    };
    say!("VERDICT {word} ({size}, {} local reads)", report.local_reads);
    Ok(code)
}

/// Says that a last line was cut off.
fn note_cut(truncated: Option<&Truncated>) {
    if let Some(cut) = truncated {
        eprintln!("note: line {} is cut off after {} bytes and is left out", cut.line, cut.bytes);
    }
}
