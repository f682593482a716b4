//! The store's own command line, for people.

mod bench;

use std::{io::Write, path::PathBuf, process::ExitCode};

use clap::{Parser, Subcommand};
use store::{
    api::{KeyType, Operation, Outcome},
    client::{Client, ClientError},
    config::NodeConfig,
};

/// A partitioned, replicated, linearizable key-value store.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run one node until standard input closes.
    Node {
        /// The node's configuration, JSON.
        #[arg(long)]
        config: PathBuf,
        /// Allow what only tests ask for: planted bugs and lost writes.
        #[arg(long)]
        allow_test_options: bool,
    },
    /// Read a key.
    Get {
        #[command(flatten)]
        to: Destination,
        /// The key.
        key: String,
    },
    /// Write a key.
    Put {
        #[command(flatten)]
        to: Destination,
        /// The key.
        key: String,
        /// Its new value.
        value: String,
    },
    /// Write a key if it holds what is expected.
    Cas {
        #[command(flatten)]
        to: Destination,
        /// The key.
        key: String,
        /// Its new value.
        new: String,
        /// What it must hold; without this it must be absent.
        #[arg(long)]
        expected: Option<String>,
    },
    /// Remove a key.
    Delete {
        #[command(flatten)]
        to: Destination,
        /// The key.
        key: String,
    },
    /// Show how a node sees itself and its groups.
    Status {
        #[command(flatten)]
        to: Destination,
    },
    /// Measure a cluster of three nodes on this machine: fast reads, reads through the log, writes.
    Bench(bench::Arguments),
}

/// Which node of which cluster is asked.
#[derive(Debug, clap::Args)]
struct Destination {
    /// Address of a node.
    #[arg(long, default_value = "127.0.0.1:7000")]
    address: String,
    /// Name of the cluster.
    #[arg(long, default_value = "store")]
    cluster: String,
    /// Keys are texts, not integers.
    #[arg(long)]
    string_keys: bool,
}

fn main() -> ExitCode {
    let filter = tracing_subscriber::EnvFilter::try_from_default_env()
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("info"));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
    match run(Arguments::parse().command) {
        Ok(code) => code,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "error: {error:#}");
            ExitCode::from(2)
        }
    }
}

fn run(command: Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::Node { config, allow_test_options } => {
            let config = NodeConfig::load(&config)?;
            if !allow_test_options && config.test != store::config::TestOptions::default() {
                anyhow::bail!("the configuration has test options: they need --allow-test-options");
            }
            Ok(store::node::run(config))
        }
        Command::Get { to, key } => operate(&to, &key, |key| Operation::Get { key }),
        Command::Put { to, key, value } => {
            operate(&to, &key, |key| Operation::Put { key, value: value.into() })
        }
        Command::Cas { to, key, new, expected } => {
            let expected = expected.map(Into::into);
            operate(&to, &key, |key| Operation::Cas { key, expected, new: new.into() })
        }
        Command::Delete { to, key } => operate(&to, &key, |key| Operation::Delete { key }),
        Command::Status { to } => status(&to),
        Command::Bench(arguments) => bench::run(&arguments),
    }
}

fn operate(
    to: &Destination,
    key: &str,
    operation: impl FnOnce(store::api::Key) -> Operation,
) -> anyhow::Result<ExitCode> {
    let key_type = if to.string_keys { KeyType::String } else { KeyType::Integer };
    let key = key_type
        .parse(key)
        .ok_or_else(|| anyhow::anyhow!("'{key}' is no integer; with --string-keys keys are texts"))?;
    let answer = block_on(async {
        let mut client = Client::connect(&to.address, &to.cluster).await?;
        client.call(operation(key)).await
    })?;
    let mut out = std::io::stdout().lock();
    let (shown, code) = match &answer.outcome {
        Outcome::Value(Some(value)) => (value.to_string(), ExitCode::SUCCESS),
        Outcome::Value(None) => ("not found".to_owned(), ExitCode::SUCCESS),
        Outcome::Written | Outcome::Swapped => ("written".to_owned(), ExitCode::SUCCESS),
        Outcome::Deleted => ("deleted".to_owned(), ExitCode::SUCCESS),
        Outcome::NotSwapped { seen: Some(seen) } => {
            (format!("not written: it holds {seen}"), ExitCode::from(1))
        }
        Outcome::NotSwapped { seen: None } => ("not written: it is absent".to_owned(), ExitCode::from(1)),
    };
    writeln!(out, "{shown}")?;
    let fast = if answer.fast { ", fast read" } else { "" };
    writeln!(
        out,
        "  version {}, answered by node {} under ballot {}{fast}",
        answer.version, answer.leader, answer.ballot
    )?;
    Ok(code)
}

fn status(to: &Destination) -> anyhow::Result<ExitCode> {
    let status = block_on(async { Client::connect(&to.address, &to.cluster).await?.status().await })?;
    let mut out = std::io::stdout().lock();
    writeln!(
        out,
        "node {} (boot {}), {}",
        status.node,
        status.boot,
        if status.open { "open" } else { "joining" }
    )?;
    writeln!(out, "suspected: {:?}", status.suspected)?;
    for group in status.partitions {
        let hold = group.hold_ms.map(|hold| format!(", lease for {hold} ms")).unwrap_or_default();
        writeln!(
            out,
            "partition {}: {}, leader {}, promised {}, {} of {} entries decided{hold}",
            group.partition, group.role, group.elected, group.promised, group.decided, group.log_length
        )?;
    }
    Ok(ExitCode::SUCCESS)
}

fn block_on<T>(future: impl Future<Output = Result<T, ClientError>>) -> anyhow::Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    Ok(runtime.block_on(future)?)
}
