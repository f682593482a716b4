//! The store's own command line, for people.

mod bench;
mod launch;
mod repl;
mod request;

use std::{
    io::{self, Write},
    process::ExitCode,
};

use clap::{Parser, Subcommand};
use request::{Asked, Destination, operate, status, transfer_leader};
use store::api::{NodeId, Operation, PartitionId};

/// A partitioned, replicated, linearizable key-value store.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run one node.
    Node(launch::Arguments),
    /// Read a key.
    Get {
        #[command(flatten)]
        asked: Asked,
        /// The key.
        #[arg(allow_negative_numbers = true)]
        key: String,
    },
    /// Write a key.
    Put {
        #[command(flatten)]
        asked: Asked,
        /// The key.
        #[arg(allow_negative_numbers = true)]
        key: String,
        /// Its new value.
        #[arg(allow_negative_numbers = true)]
        value: String,
    },
    /// Write a key if it holds what is expected.
    Cas {
        #[command(flatten)]
        asked: Asked,
        /// The key.
        #[arg(allow_negative_numbers = true)]
        key: String,
        /// Its new value.
        #[arg(allow_negative_numbers = true)]
        new: String,
        /// What it must hold; without this it must be absent.
        #[arg(long, allow_negative_numbers = true)]
        expected: Option<String>,
    },
    /// Remove a key.
    Delete {
        #[command(flatten)]
        asked: Asked,
        /// The key.
        #[arg(allow_negative_numbers = true)]
        key: String,
    },
    /// Show partitions, leaders, leases and how far each replica is: exit code 0 as soon as one node answers.
    Status {
        #[command(flatten)]
        to: Destination,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Have another replica lead a partition, without waiting for a lease to end.
    TransferLeader {
        #[command(flatten)]
        to: Destination,
        /// The partition.
        #[arg(long)]
        partition: PartitionId,
        /// The node that is to lead it.
        #[arg(long = "to", value_name = "NODE")]
        successor: NodeId,
    },
    /// Ask one thing after another, line by line.
    Repl {
        #[command(flatten)]
        to: Destination,
        /// Use a session of the cluster: a write whose answer is lost is asked for again, and happens once.
        #[arg(long)]
        exactly_once: bool,
    },
    /// Measure a cluster of three nodes on this machine: fast reads, reads through the log, writes.
    Bench(bench::Arguments),
}

fn main() -> ExitCode {
    let filter = tracing_subscriber::EnvFilter::try_from_default_env()
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("info"));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr).init();
    match run(Arguments::parse().command) {
        Ok(code) => code,
        Err(error) => {
            let _ = writeln!(io::stderr(), "error: {error:#}");
            ExitCode::from(2)
        }
    }
}

fn run(command: Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::Node(arguments) => launch::run(&arguments),
        Command::Get { asked, key } => operate(&asked, &key, |key| Operation::Get { key }),
        Command::Put { asked, key, value } => {
            operate(&asked, &key, |key| Operation::Put { key, value: value.into() })
        }
        Command::Cas { asked, key, new, expected } => {
            let expected = expected.map(Into::into);
            operate(&asked, &key, |key| Operation::Cas { key, expected, new: new.into() })
        }
        Command::Delete { asked, key } => operate(&asked, &key, |key| Operation::Delete { key }),
        Command::Status { to, json } => status(&to, json),
        Command::TransferLeader { to, partition, successor } => transfer_leader(&to, partition, successor),
        Command::Repl { to, exactly_once } => repl::run(&to, exactly_once),
        Command::Bench(arguments) => bench::run(&arguments),
    }
}
