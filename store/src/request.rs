//! One request of a person to a cluster: an operation or the cluster's status, shown in words.

use std::{collections::BTreeSet, io::Write, process::ExitCode, time::Duration};

use anyhow::Context;
use store::{
    api::{Answer, Key, KeyType, NodeId, Operation, Outcome, PartitionId},
    client::{ClientError, ClientEvent, Cluster},
    overview::Overview,
};

/// Which cluster is asked, and for how long.
#[derive(Debug, clap::Args)]
pub struct Destination {
    /// Addresses of nodes, with commas between them: one that lives is enough.
    #[arg(long, value_name = "ADDRESSES", default_value = "127.0.0.1:7001", value_delimiter = ',')]
    pub address: Vec<String>,
    /// Name of the cluster.
    #[arg(long, default_value = "store")]
    pub cluster: String,
    /// After how many milliseconds a request without an answer is given up.
    #[arg(long, value_name = "MILLISECONDS", default_value_t = 5000)]
    timeout_ms: u64,
}

impl Destination {
    /// For how long a request is waited for.
    pub fn limit(&self) -> Duration {
        Duration::from_millis(self.timeout_ms)
    }
}

/// How one operation is asked for.
#[derive(Debug, clap::Args)]
pub struct Asked {
    #[command(flatten)]
    to: Destination,
    /// Print the answer as JSON, in which an absent key is not the same as any value.
    #[arg(long)]
    json: bool,
}

/// The outcome is unknown; never the same as a failure.
const UNKNOWN: u8 = 3;

/// The request certainly had no effect.
const FAILED: u8 = 4;

/// Carries out one operation on a key and shows what came of it.
pub fn operate(
    Asked { to, json }: &Asked,
    key: &str,
    operation: impl FnOnce(Key) -> Operation,
) -> anyhow::Result<ExitCode> {
    runtime()?.block_on(async {
        let mut tell = once_each(|event| eprintln!("{event}"));
        let mut cluster = match Cluster::join(&to.cluster, &to.address, to.limit(), &mut tell).await {
            Ok(cluster) => cluster,
            Err(error) => return no_node(&error),
        };
        let operation = operation(key_of(cluster.directory().key_type, key)?);
        let done = cluster.call(&operation, to.limit(), tell).await;
        match done.result {
            Ok(answer) => {
                if *json {
                    show(format_args!("{}\n", serde_json::to_string(&answer)?));
                } else {
                    show(format_args!("{}\n  {}\n", outcome(&answer.outcome), way(&answer)));
                }
                let swapped = !matches!(answer.outcome, Outcome::NotSwapped { .. });
                Ok(if swapped { ExitCode::SUCCESS } else { ExitCode::from(1) })
            }
            Err(error) => {
                writeln!(std::io::stderr(), "{}", failure(&error))?;
                Ok(ExitCode::from(if error.is_definite() { FAILED } else { UNKNOWN }))
            }
        }
    })
}

/// Shows how all nodes see themselves and their groups.
pub fn status(to: &Destination, json: bool) -> anyhow::Result<ExitCode> {
    let overview = match runtime()?.block_on(Overview::of(&to.cluster, &to.address, to.limit())) {
        Ok(overview) => overview,
        Err(error) => return no_node(&error),
    };
    if json {
        show(format_args!("{}\n", serde_json::to_string_pretty(&overview)?));
    } else {
        show(format_args!("{overview}"));
    }
    Ok(ExitCode::SUCCESS)
}

/// Has another replica lead a partition.
pub fn transfer_leader(
    to: &Destination,
    partition: PartitionId,
    successor: NodeId,
) -> anyhow::Result<ExitCode> {
    runtime()?.block_on(async {
        let mut tell = once_each(|event| eprintln!("{event}"));
        let mut cluster = match Cluster::join(&to.cluster, &to.address, to.limit(), &mut tell).await {
            Ok(cluster) => cluster,
            Err(error) => return no_node(&error),
        };
        match cluster.transfer_leader((partition, successor), to.limit(), tell).await {
            Ok(ballot) => {
                show(format_args!("node {successor} leads partition {partition} under ballot {ballot}\n"));
                Ok(ExitCode::SUCCESS)
            }
            Err(error) => {
                writeln!(std::io::stderr(), "error: {error}")?;
                Ok(ExitCode::from(if error.is_definite() { FAILED } else { UNKNOWN }))
            }
        }
    })
}

/// Tells each thing that happens to a request once: until somebody leads, the same few happen fifty times a second.
pub fn once_each(tell: impl Fn(&str)) -> impl FnMut(&ClientEvent) {
    let mut told = BTreeSet::new();
    move |event| {
        let words = event.to_string();
        if !told.contains(&words) {
            tell(&words);
            told.insert(words);
        }
    }
}

/// Prints what came of a request. Nobody may read it: the exit code says what has happened all the same.
fn show(words: std::fmt::Arguments<'_>) {
    if let Err(error) = write!(std::io::stdout(), "{words}")
        && error.kind() != std::io::ErrorKind::BrokenPipe
    {
        eprintln!("error: cannot write to standard output: {error}");
    }
}

fn no_node(error: &ClientError) -> anyhow::Result<ExitCode> {
    writeln!(std::io::stderr(), "error: {}", nobody(error))?;
    Ok(ExitCode::from(FAILED))
}

/// Why nobody could be asked.
pub fn nobody(error: &ClientError) -> String {
    match error {
        ClientError::Refused(_) => error.to_string(),
        _ => format!("no node of the cluster answers: {error}"),
    }
}

/// A runtime for one thread.
pub fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread().enable_all().build().context("no runtime")
}

/// A key of the cluster's kind.
pub fn key_of(key_type: KeyType, text: &str) -> anyhow::Result<Key> {
    key_type.parse(text).with_context(|| format!("'{text}' is no key: the keys of this cluster are integers"))
}

/// What became of an operation.
pub fn outcome(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Value(Some(value)) => value.to_string(),
        Outcome::Value(None) => "not found".to_owned(),
        Outcome::Written | Outcome::Swapped => "written".to_owned(),
        Outcome::Deleted => "deleted".to_owned(),
        Outcome::Opened => "opened".to_owned(),
        Outcome::NotSwapped { seen: Some(seen) } => format!("not written: it holds {seen}"),
        Outcome::NotSwapped { seen: None } => "not written: it is absent".to_owned(),
    }
}

/// Who answered, and how.
pub fn way(answer: &Answer) -> String {
    let how = match (answer.fast, answer.local) {
        (true, _) => ", fast read",
        (_, true) => ", local read",
        _ => "",
    };
    let Answer { version, leader, ballot, .. } = answer;
    format!("version {version}, answered by node {leader} under ballot {ballot}{how}")
}

/// Why there is no answer, and what that means.
pub fn failure(error: &ClientError) -> String {
    let meaning = if error.is_definite() {
        "nothing has happened"
    } else {
        "the outcome is unknown: it may have happened, or may yet happen"
    };
    format!("{error}\n  {meaning}")
}
