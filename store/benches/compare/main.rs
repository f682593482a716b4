//! The store beside etcd, omnipaxos, a plain echo and a bare quorum of three, in turn, on the same machine and over as many connections with
//! as many operations in flight. Everything is asked by the same loop (`store::load`), one thread, straight to the leader, and
//! every answer is looked at: one that is not right ends the comparison. What counts are ratios within a round.
//!
//!     scripts/bench store [--json] [--rounds N] [--seconds S]

mod contenders;
mod etcd;
mod omnipaxos;
mod plain;
mod quorum;
mod report;

use std::path::PathBuf;

use anyhow::Result;
use clap::{Parser, Subcommand};

/// Bytes of a value.
const VALUE: usize = 128;

/// Keys that are asked.
const KEYS: i64 = 1000;

/// Connections and operations in flight on each.
const LOADS: [(usize, usize); 3] = [(1, 1), (4, 16), (16, 16)];

#[derive(Debug, Parser)]
struct Arguments {
    #[command(subcommand)]
    part: Option<Command>,
    /// JSON instead of the tables.
    #[arg(long)]
    json: bool,
    /// How often everything is measured; medians are shown.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// How long one measurement takes.
    #[arg(long, default_value_t = 0.5)]
    seconds: f64,
    /// etcd's program. Without it, or if it is not there, etcd is left out.
    #[arg(long)]
    etcd: Option<PathBuf>,
    /// The program of `store/benches/omnipaxos`. The same.
    #[arg(long)]
    omnipaxos: Option<PathBuf>,
    /// Cargo says so.
    #[arg(long, hide = true)]
    bench: bool,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Be one of the small programs.
    #[command(subcommand, hide = true)]
    Part(Part),
}

#[derive(Debug, Subcommand)]
enum Part {
    Echo,
    Quorum {
        /// The followers of a leader.
        #[arg(long = "follower")]
        followers: Vec<String>,
        /// The file that is synced.
        #[arg(long)]
        sync: Option<PathBuf>,
    },
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    match arguments.part {
        Some(Command::Part(Part::Echo)) => return runtime.block_on(plain::echo()),
        Some(Command::Part(Part::Quorum { followers, sync })) => {
            return runtime.block_on(quorum::serve(followers, sync));
        }
        None => {}
    }
    anyhow::ensure!(arguments.rounds > 0, "--rounds 0: nothing would be measured");
    anyhow::ensure!(
        arguments.seconds >= 0.05 && arguments.seconds <= 600.0,
        "--seconds {}: from 0.05 to 600",
        arguments.seconds
    );
    let folder = tempfile::tempdir()?;
    let report = runtime.block_on(contenders::compare(&arguments, folder.path()))?;
    if arguments.json {
        println!("{}", serde_json::to_string_pretty(&report)?);
    } else {
        print!("{report}");
    }
    Ok(())
}
