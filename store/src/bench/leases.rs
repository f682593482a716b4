//! `store bench leases`: 10,000 reads with leases and without, as the first of the stores that this one descends from was
//! measured (6.31 s with the lease, 12.76 s without).
//!
//! Two clusters run side by side and are asked in turn, so that both find the machine in the same state; the one that is not
//! asked only sends its heartbeats.

use std::{io::Write, process::ExitCode, time::Duration};

use anyhow::Context;
use store::load::median;
use tokio::time::timeout;

use super::{NodeProcess, find_leader, in_folder, load, start};

/// What the origin took, in seconds: with the lease and without.
const ORIGIN: [f64; 2] = [6.31, 12.76];

/// Clients that share the reads among them.
const CLIENTS: [u64; 3] = [1, 4, 16];

/// What is compared.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Reads in one measurement.
    #[arg(long, default_value_t = 10_000)]
    reads: u64,
    /// How often everything is measured; medians are shown.
    #[arg(long, default_value_t = 7)]
    rounds: usize,
    /// Keep state on disk instead of in memory, as the origin did.
    #[arg(long)]
    durable: bool,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// One number of clients: medians over the rounds, the ratio that of the rounds' ratios.
#[derive(Debug, serde::Serialize)]
struct Row {
    clients: u64,
    reads: u64,
    rounds: usize,
    seconds_with_leases: f64,
    seconds_without: f64,
    /// Without over with.
    ratio: f64,
}

/// A cluster, and where its leader is.
struct Ready {
    leader: String,
    _nodes: Vec<NodeProcess>,
}

/// Runs the comparison.
pub fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let rows = in_folder("store-bench-leases", async |folder| {
        let with = ready(arguments, &folder.join("with"), true).await?;
        let without = ready(arguments, &folder.join("without"), false).await?;
        let mut rows = Vec::new();
        for clients in CLIENTS {
            rows.push(compare(arguments, clients, &with, &without).await?);
        }
        Ok(rows)
    })?;
    print(arguments, &rows)?;
    Ok(ExitCode::SUCCESS)
}

async fn ready(arguments: &Arguments, folder: &std::path::Path, lease: bool) -> anyhow::Result<Ready> {
    let nodes = start(&of(arguments, 1), folder, lease).await?;
    let leader =
        timeout(Duration::from_secs(20), find_leader(&nodes)).await.context("no leader within 20 s")??;
    Ok(Ready { leader, _nodes: nodes })
}

async fn compare(arguments: &Arguments, clients: u64, with: &Ready, without: &Ready) -> anyhow::Result<Row> {
    let load_of = of(arguments, clients);
    let mut seconds = [Vec::new(), Vec::new()];
    let mut ratios = Vec::new();
    // the first round warms up; whoever comes first has the machine in another state
    for round in 0..=arguments.rounds {
        let mut both = [0.0; 2];
        for lease in if round % 2 == 0 { [true, false] } else { [false, true] } {
            let leader = if lease { &with.leader } else { &without.leader };
            let figures = load("read", &load_of, leader, false, lease).await?;
            both[usize::from(!lease)] = figures.operations as f64 / figures.per_second;
        }
        if round > 0 {
            seconds[0].push(both[0]);
            seconds[1].push(both[1]);
            ratios.push(both[1] / both[0]);
        }
    }
    let [with, without] = seconds;
    Ok(Row {
        clients,
        reads: arguments.reads / clients * clients,
        rounds: arguments.rounds,
        seconds_with_leases: median(with),
        seconds_without: median(without),
        ratio: median(ratios),
    })
}

/// The load of one measurement.
fn of(arguments: &Arguments, clients: u64) -> super::Arguments {
    super::Arguments {
        command: None,
        clients,
        operations: arguments.reads,
        value_size: 128,
        memory: !arguments.durable,
        json: false,
    }
}

fn print(arguments: &Arguments, rows: &[Row]) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    if arguments.json {
        writeln!(out, "{}", serde_json::to_string(rows)?)?;
        return Ok(());
    }
    let storage = if arguments.durable { "durable" } else { "in memory" };
    writeln!(
        out,
        "reads, straight to the leader of three nodes, {storage}    with leases   without   ratio"
    )?;
    for row in rows {
        let who = if row.clients == 1 { "one client".to_owned() } else { format!("{} clients", row.clients) };
        writeln!(
            out,
            "{:>6} reads of {who:<40} {:>9.3} s {:>7.3} s {:>6.2}x",
            row.reads, row.seconds_with_leases, row.seconds_without, row.ratio
        )?;
    }
    let [with, without] = ORIGIN;
    writeln!(
        out,
        "{:<54} {with:>9.2} s {without:>7.2} s {:>6.2}x",
        "the origin's 10,000 reads",
        without / with
    )?;
    writeln!(
        out,
        "{} rounds, in turn; medians. Every answer was looked at: fast with leases, not fast without",
        arguments.rounds
    )?;
    Ok(())
}
