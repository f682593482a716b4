//! `harness campaign`.

use std::{ops::Range, path::PathBuf, process::ExitCode, time::Duration};

use clap::Args;

use super::{
    Row, cases,
    hunt::{Means, hunt},
    junit, table,
};
use crate::{
    clock::boottime_ns,
    report::{FAILED, severity},
    sim::{self, Case},
    workload::{ExpectedVerdict, Time},
};

/// What to go through.
#[derive(Debug, Args)]
pub struct CampaignArguments {
    /// Workload files, and folders that are searched for them.
    #[arg(value_name = "DIR|WORKLOAD.toml", default_value = "workloads")]
    paths: Vec<PathBuf>,
    /// How long it may take in all, such as 60m. Each workload has an equal share of what is left when it begins; those that
    /// expect a violation come first.
    #[arg(long, value_name = "TIME", default_value = "10m", value_parser = crate::cli::time)]
    budget: Time,
    /// No seeds but these of each workload, however much time is left: from A up to, and without, B.
    #[arg(long, value_name = "A..B", default_value = "0..1000000", value_parser = crate::cli::seeds)]
    seeds: Range<u64>,
    /// At most so long is spent to shrink what was found in a workload; 0s: it is not shrunk.
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = crate::cli::time)]
    shrink: Time,
    /// Also writes the rows as `JUnit` XML.
    #[arg(long, value_name = "FILE")]
    junit: Option<PathBuf>,
    /// Where runs that fail, and what they were shrunk to, are kept.
    #[arg(long, value_name = "DIR", default_value = "results")]
    out: PathBuf,
    /// Runs side by side; as many as there are processors if left out.
    #[arg(long, value_name = "N")]
    jobs: Option<usize>,
}

/// Goes through what the command line says.
pub fn main(arguments: &CampaignArguments) -> ExitCode {
    let cases = match cases::load(&arguments.paths, &arguments.seeds) {
        Ok(cases) => cases,
        Err(problem) => {
            eprintln!("{problem}");
            return ExitCode::from(2);
        }
    };
    let end = boottime_ns() + arguments.budget.0.as_nanos() as u64;
    say!("{}", table::head());
    let (mut rows, mut unwritten): (Vec<Row>, _) = (Vec::new(), None);
    for (place, case) in cases.iter().enumerate() {
        let left = Duration::from_nanos(end.saturating_sub(boottime_ns()));
        let row = hunt(case, &means(arguments, left, &cases[place..]));
        say!("{}", table::line(&row));
        rows.push(row);
        // after each, so that one that is interrupted has told what it knew
        unwritten = arguments.junit.as_ref().and_then(|path| junit::write(path, &rows).err());
    }
    let mut code = finish(&rows);
    if let Some(error) = unwritten {
        eprintln!("error: {error:#}");
        code = [code, FAILED].into_iter().max_by_key(|code| severity(*code)).unwrap_or(FAILED);
    }
    ExitCode::from(code)
}

/// What the first of these cases may spend. Time to shrink what negative workloads are expected to find is put aside, at most half
/// of all, so that the others share the rest.
fn means(arguments: &CampaignArguments, left: Duration, cases: &[Case]) -> Means {
    let negative = |case: &&Case| case.plan.expect.verdict == ExpectedVerdict::Violation;
    let expected = cases.iter().filter(negative).count() as u32;
    let aside = arguments.shrink.0.min(left / 2 / expected.max(1));
    let share = left.saturating_sub(aside * expected) / cases.len() as u32;
    let shrink = if cases.iter().take(1).any(|case| negative(&case)) { aside } else { aside.min(share) };
    Means {
        time: share,
        shrink,
        jobs: arguments.jobs.unwrap_or_else(sim::processors),
        out: arguments.out.clone(),
    }
}

/// Prints what the rows come to; the exit code.
fn finish(rows: &[Row]) -> u8 {
    for told in table::unexpected(rows) {
        say!("{told}");
    }
    if let Some(bugs) = table::bugs(rows) {
        say!("{bugs}");
    }
    let seeds: u64 = rows.iter().map(|row| row.seeds).sum();
    let code = rows.iter().map(|row| row.verdict.exit_code()).max_by_key(|code| severity(*code)).unwrap_or(0);
    let verdict = match code {
        0 => "valid",
        1 => "violation",
        _ => "unknown",
    };
    say!("VERDICT {verdict} campaign of {} workloads, {seeds} simulated runs", rows.len());
    code
}
