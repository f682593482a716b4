//! `checker check`: is this history linearizable?

use std::fmt::Display;
use std::fs::File;
use std::io::{BufRead, BufReader, Cursor, Read};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, ensure};
use checker::budget::Stopwatch;
use checker::compact::Compact;
use checker::formats::{self, Format};
use checker::history::History;
use checker::judge::{self, Object, Question};
use checker::linearizability::{self, Budget, Certificate, KeyReport, Report, Verdict};
use clap::builder::PossibleValue;
use clap::{Args, ValueEnum};

use super::amounts::{bytes, duration};
use crate::note_cut;

/// How to judge a history, and what to print beside the verdict.
#[derive(Args)]
pub(crate) struct Check {
    /// The history; `-` is standard input.
    file: PathBuf,
    /// What the history is of; without it what is usual in its format: keys with get, put, cas and delete, keys with append,
    /// or one register with cas.
    #[arg(long, value_enum)]
    model: Option<Object>,
    /// What a register or a counter holds at first, as EDN: 0, "a", nil. Histories of this project tell that themselves.
    #[arg(long)]
    initial: Option<String>,
    /// How it is written.
    #[arg(long, value_enum, default_value_t = Written::Auto)]
    format: Written,
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
    #[command(flatten)]
    shown: Shown,
}

/// What to print beside the verdict.
#[derive(Args)]
struct Shown {
    /// Print the verdict of each key.
    #[arg(long)]
    per_key: bool,
    /// Tell on standard error what reading and judging cost.
    #[arg(long)]
    cost: bool,
    /// Print the whole report as JSON before the verdict.
    #[arg(long)]
    json: bool,
}

/// How a history is said to be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Written {
    Auto,
    As(Format),
}

impl ValueEnum for Written {
    fn value_variants<'a>() -> &'a [Self] {
        use Format::{Compact, Edn, JepsenText, Jsonl, PorcupineKv, PorcupineLog};
        const ALL: [Written; 7] = [
            Written::Auto,
            Written::As(Jsonl),
            Written::As(Edn),
            Written::As(JepsenText),
            Written::As(PorcupineLog),
            Written::As(PorcupineKv),
            Written::As(Compact),
        ];
        &ALL
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        match self {
            Self::Auto => Some(PossibleValue::new("auto").help("Find out")),
            Self::As(format) => format.to_possible_value(),
        }
    }
}

impl Check {
    /// Judges the history and tells of it.
    pub(crate) fn run(&self) -> anyhow::Result<ExitCode> {
        let watch = Stopwatch::start(None);
        let report = self.judge()?;
        if self.shown.json {
            say!("{}", serde_json::to_string(&report)?);
        }
        if self.shown.cost {
            tell_cost(&report, watch.elapsed());
        }
        Ok(self.tell(&report))
    }

    fn judge(&self) -> anyhow::Result<Report> {
        let place = || self.file.display().to_string();
        let input = if self.file == Path::new("-") { Path::new("/dev/stdin") } else { &self.file };
        let mut source = BufReader::with_capacity(1 << 18, File::open(input).with_context(place)?);
        // a pipe can be read only once
        let beginning = beginning(&mut source).with_context(place)?;
        let format = match self.format {
            Written::As(format) => format,
            Written::Auto => formats::detect(beginning.get_ref())
                .with_context(|| format!("{}: not a history that is known; say --format", place()))?,
        };
        let source = beginning.chain(source);
        match format {
            Format::Jsonl => {
                self.refuse_what_is_not_for_keys("JSON lines")?;
                let history = History::read_from(source, &self.file).with_context(place)?;
                note_cut(history.truncated.as_ref());
                Ok(linearizability::check(&history, self.budget()))
            }
            Format::Compact => {
                self.refuse_what_is_not_for_keys("the compact form")?;
                let is_file = std::fs::metadata(input).with_context(place)?.is_file();
                ensure!(
                    is_file,
                    "{}: a history in the compact form must be a file: it is read twice",
                    place()
                );
                let history = Compact::read(input).with_context(place)?;
                Ok(linearizability::check_compact(&history, self.budget()))
            }
            _ => {
                let calls = formats::read(source, format).with_context(place)?;
                note_cut(calls.truncated.as_ref());
                judge::judge(&calls, &self.question(format)?).with_context(place)
            }
        }
    }

    fn budget(&self) -> Budget {
        let (time, memory) = (Some(self.time_limit), Some(self.memory_limit));
        Budget { time, memory, threads: self.threads, explain: self.explain_limit, ..Budget::default() }
    }

    /// This project's own histories tell what keys hold at first, and are judged key by key, by searches of their own.
    fn refuse_what_is_not_for_keys(&self, form: &str) -> anyhow::Result<()> {
        if !matches!(self.model, None | Some(Object::Kv)) {
            anyhow::bail!("a history in {form} is of the model kv");
        }
        let asked =
            [(self.initial.is_some(), "--initial"), (self.whole, "--whole"), (self.verify, "--verify")];
        if let Some((_, flag)) = asked.into_iter().find(|(asked, _)| *asked) {
            anyhow::bail!(
                "{flag} is not for JSON lines and the compact form: they tell what keys hold at first, and are judged key by \
                 key, by searches of their own"
            );
        }
        Ok(())
    }

    fn question(&self, format: Format) -> anyhow::Result<Question> {
        let usual = if format == Format::PorcupineKv { Object::AppendKv } else { Object::CasRegister };
        let initial = self.initial.as_deref().map(formats::parse_value).transpose().context("--initial")?;
        let (object, whole, verify) = (self.model.unwrap_or(usual), self.whole, self.verify);
        Ok(Question { object, format, initial, whole, verify, budget: self.budget() })
    }

    fn tell(&self, report: &Report) -> ExitCode {
        let seconds = Duration::from_nanos(report.elapsed).as_secs_f64();
        let not_verified = not_verified(report);
        let (operations, keys) = (report.operations, report.keys.len());
        let size = format!("{operations} operations on {keys} keys in {seconds:.3} s{not_verified}");
        for key in report.keys.iter().filter(|_| !self.shown.json) {
            match &key.verdict {
                Verdict::Valid if self.shown.per_key => {
                    say!("key {}: valid, {} operations", key.key, key.completed);
                }
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
        // a single register has no key
        let of = |key: &dyn Display| match key.to_string().as_str() {
            "" => String::new(),
            key => format!("key {key} "),
        };
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
                say!("VERDICT violation {}line {} ({size})", of(&violation.key), violation.line);
                ExitCode::from(1)
            }
            Verdict::Unknown(undecided) => {
                say!("VERDICT unknown {}{} ({size})", of(&undecided.key), undecided.reason);
                let is_wrong = |key: &KeyReport| matches!(key.certificate, Certificate::Wrong(_));
                ExitCode::from(if report.keys.iter().any(is_wrong) { 4 } else { 3 })
            }
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

/// The first bytes of a source, and the rest of the line that they end in, within reason.
fn beginning(source: &mut impl BufRead) -> std::io::Result<Cursor<Vec<u8>>> {
    let mut bytes = Vec::new();
    source.by_ref().take(4096).read_to_end(&mut bytes)?;
    source.take(1 << 24).read_until(b'\n', &mut bytes)?;
    Ok(Cursor::new(bytes))
}
