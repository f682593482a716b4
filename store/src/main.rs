//! The store's own command line, for people.

mod bench;

use std::{io::Write, path::PathBuf, process::ExitCode, time::Duration};

use clap::{Parser, Subcommand};
use store::{
    api::{KeyType, NodeId, Operation, Outcome},
    client::{Client, ClientError, ClusterClient},
    config::{NodeConfig, RoutingMode},
    routes::Entry,
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
    /// Number and address of a node of a cluster whose nodes redirect, for each of them; the first one is asked first.
    #[arg(long = "node", value_name = "NUMBER=ADDRESS", value_parser = numbered, conflicts_with = "address")]
    nodes: Vec<(NodeId, String)>,
    /// With --node: after how many milliseconds an operation without an answer is given up.
    #[arg(long, default_value_t = 5000)]
    timeout_ms: u64,
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
    let operation = operation(key);
    let answer = block_on(async {
        let Some((first, _)) = to.nodes.first() else {
            return Client::connect(&to.address, &to.cluster).await?.call(operation).await;
        };
        let addresses = to.nodes.iter().cloned().collect();
        let mut client = ClusterClient::new(&to.cluster, addresses, RoutingMode::Redirect);
        let limit = Duration::from_millis(to.timeout_ms);
        // one operation has one partition, whichever it is
        client.call((0, Entry::At(*first)), &operation, limit, |detour| eprintln!("{detour}")).await.result
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
    let way = match (answer.fast, answer.local) {
        (true, _) => ", fast read",
        (_, true) => ", local read",
        _ => "",
    };
    writeln!(
        out,
        "  version {}, answered by node {} under ballot {}{way}",
        answer.version, answer.leader, answer.ballot
    )?;
    Ok(code)
}

/// A node's number and address.
fn numbered(text: &str) -> Result<(NodeId, String), String> {
    let (number, address) =
        text.split_once('=').ok_or("expected NUMBER=ADDRESS, such as 1=127.0.0.1:7001")?;
    let number = number.parse().map_err(|_| format!("'{number}' is no number of a node"))?;
    Ok((number, address.to_owned()))
}

fn status(to: &Destination) -> anyhow::Result<ExitCode> {
    let address = to.nodes.first().map_or(&to.address, |(_, address)| address);
    let status = block_on(async { Client::connect(address, &to.cluster).await?.status().await })?;
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
            "partition {}: {}, leader {}, promised {}, {} of {} entries decided, {} trimmed{hold}",
            group.partition,
            group.role,
            group.elected,
            group.promised,
            group.decided,
            group.log_length,
            group.log_start
        )?;
    }
    Ok(ExitCode::SUCCESS)
}

fn block_on<T>(future: impl Future<Output = Result<T, ClientError>>) -> anyhow::Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    Ok(runtime.block_on(future)?)
}
