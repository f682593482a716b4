//! `store node`: where a node's configuration comes from.

use std::{collections::BTreeMap, path::PathBuf, process::ExitCode};

use anyhow::{Context, bail, ensure};
use store::{
    api::{KeyType, NodeId},
    cluster_file::{ClusterFile, Lease, Off, WrittenKey},
    config::{NodeConfig, Partitioning, StorageKind, TestOptions},
};

/// One node, from one of: `--config` (JSON, all of it, for programs; it ends with its standard input), `--file` (the TOML file of the
/// cluster) with `--id`, or `--id`, `--listen` and `--peers` with what the cluster is to be like. The latter two run until they
/// are killed.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// The node's configuration, JSON, for programs.
    #[arg(long, conflicts_with_all = ["file", "id"])]
    config: Option<PathBuf>,
    /// With --config: allow what only tests ask for, planted bugs and lost writes.
    #[arg(long, requires = "config")]
    allow_test_options: bool,
    /// The cluster's description, TOML: the same for all nodes.
    #[arg(long, requires = "id", conflicts_with = "flags")]
    file: Option<PathBuf>,
    /// The node's number.
    #[arg(long)]
    id: Option<NodeId>,
    /// The folder of the nodes' state: node N has a folder node-N in it.
    #[arg(long, requires = "id")]
    data: Option<PathBuf>,
    /// Where the node listens, if not where `--file` or `--peers` says.
    #[arg(long, requires = "id")]
    listen: Option<String>,
    #[command(flatten)]
    flags: Flags,
}

/// A cluster in flags: the same for all its nodes.
#[derive(Debug, clap::Args)]
#[group(id = "flags", multiple = true, requires = "id")]
struct Flags {
    /// The nodes, with commas between them, this one included or not.
    #[arg(long, value_name = "NUMBER=ADDRESS,…", value_delimiter = ',', value_parser = numbered)]
    peers: Vec<(NodeId, String)>,
    /// Name of the cluster.
    #[arg(long)]
    name: Option<String>,
    /// Number of partitions.
    #[arg(long)]
    partitions: Option<u64>,
    /// How keys find their partitions: `hash`, or `range` with --split-at.
    #[arg(long, value_parser = partitioning)]
    partitioning: Option<Partitioning>,
    /// First keys of all ranges but the first one.
    #[arg(long, value_name = "KEY,…", value_delimiter = ',', allow_hyphen_values = true)]
    split_at: Vec<String>,
    /// Nodes that replicate each partition.
    #[arg(long)]
    replication: Option<u64>,
    /// Keys are texts, not integers.
    #[arg(long)]
    string_keys: bool,
    /// Keep state in memory only.
    #[arg(long)]
    memory: bool,
    /// Read through the log, without leader leases.
    #[arg(long)]
    without_leases: bool,
}

/// Runs the node.
pub fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    if let Some(path) = &arguments.config {
        let config = NodeConfig::load(path)?;
        if !arguments.allow_test_options && config.test != TestOptions::default() {
            bail!("the configuration has test options: they need --allow-test-options");
        }
        return Ok(store::node::run(config));
    }
    let id = arguments.id.context("which node? Write `--id 1` with --file or --peers, or `--config FILE`")?;
    let mut cluster = match &arguments.file {
        Some(path) => ClusterFile::load(path)?,
        None => arguments.flags.cluster(id, arguments.listen.as_deref())?,
    };
    if let Some(data) = &arguments.data {
        cluster.data.clone_from(data);
    }
    let mut config = cluster.node(id)?;
    if let Some(listen) = &arguments.listen {
        config.listen.clone_from(listen);
    }
    Ok(store::node::run_until_killed(config))
}

impl Flags {
    fn cluster(&self, id: NodeId, listen: Option<&str>) -> anyhow::Result<ClusterFile> {
        let mut nodes = BTreeMap::new();
        for (node, address) in &self.peers {
            ensure!(nodes.insert(*node, address.clone()).is_none(), "--peers names node {node} twice");
        }
        if let Some(listen) = listen {
            nodes.entry(id).or_insert_with(|| listen.to_owned());
        }
        ensure!(
            nodes.contains_key(&id),
            "where does node {id} listen? Write `--listen ADDRESS`, or name it in --peers"
        );
        let mut cluster = ClusterFile::of(nodes);
        if let Some(name) = &self.name {
            cluster.name.clone_from(name);
        }
        if self.string_keys {
            cluster.key_type = KeyType::String;
        }
        if self.memory {
            cluster.storage = StorageKind::Memory;
        }
        if self.without_leases {
            cluster.lease = Lease::Off(Off::Off);
        }
        let (partitions, partitioning, replication) = (self.partitions, self.partitioning, self.replication);
        let written = |text: &String| match text.parse() {
            Ok(number) if !self.string_keys => WrittenKey::Integer(number),
            _ => WrittenKey::Text(text.clone()),
        };
        let split_at = self.split_at.iter().map(written).collect();
        Ok(ClusterFile { partitions, partitioning, replication, split_at, ..cluster })
    }
}

fn partitioning(text: &str) -> Result<Partitioning, String> {
    match text {
        "hash" => Ok(Partitioning::Hash),
        "range" => Ok(Partitioning::Range),
        _ => Err("write `hash` or `range`".to_owned()),
    }
}

/// A node's number and address.
fn numbered(text: &str) -> Result<(NodeId, String), String> {
    let (number, address) =
        text.split_once('=').ok_or("expected NUMBER=ADDRESS, such as 2=127.0.0.1:7002")?;
    let number = number.parse().map_err(|_| format!("'{number}' is no number of a node"))?;
    Ok((number, address.to_owned()))
}
