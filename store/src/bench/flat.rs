//! `store bench flat`: whether memory and disk stay as they are while writes go on. Three nodes, writes of 1,000 keys, and after each
//! share of them what every node takes.

use std::{io::Write, os::unix::fs::MetadataExt, path::Path, process::ExitCode, time::Duration};

use anyhow::Context;
use store::{client::Client, load::resident};
use tokio::time::timeout;

use super::{NAME, NodeProcess, find_leader, in_folder, load, start};

/// What is measured.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Writes in all.
    #[arg(long, default_value_t = 10_000_000)]
    writes: u64,
    /// How often all nodes are looked at.
    #[arg(long, default_value_t = 20)]
    samples: u64,
    /// Clients, each with one operation in flight.
    #[arg(long, default_value_t = 128)]
    clients: u64,
    /// Kill a follower at a third of the writes, and leave it dead.
    #[arg(long)]
    dead: bool,
    /// Print JSON, one sample a line.
    #[arg(long)]
    json: bool,
}

/// What a node takes.
#[derive(Debug, serde::Serialize)]
struct Sample {
    writes: u64,
    per_second: f64,
    nodes: Vec<Taken>,
}

#[derive(Debug, serde::Serialize)]
struct Taken {
    /// Resident memory, MiB; none: it is dead.
    memory: Option<u64>,
    /// Its folder, MiB.
    disk: u64,
    /// Entries in its log.
    entries: Option<u64>,
}

/// Runs it.
pub fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    in_folder("store-bench-flat", async |folder| measure(arguments, folder).await)?;
    Ok(ExitCode::SUCCESS)
}

async fn measure(arguments: &Arguments, folder: &Path) -> anyhow::Result<()> {
    let share = super::Arguments {
        command: None,
        clients: arguments.clients,
        operations: arguments.writes / arguments.samples,
        value_size: 128,
        memory: false,
        json: false,
    };
    let mut nodes = start(&share, folder, true).await?;
    let leader =
        timeout(Duration::from_secs(20), find_leader(&nodes)).await.context("no leader within 20 s")??;
    let mut done = 0;
    for sample in 0..arguments.samples {
        if arguments.dead && sample == arguments.samples / 3 {
            let follower = nodes.iter_mut().find(|node| node.address != leader).context("a follower")?;
            follower.child.kill()?;
            follower.child.wait()?;
        }
        let figures = load("write", &share, &leader, true, false).await?;
        done += figures.operations;
        let mut taken = Vec::new();
        for (node, number) in nodes.iter_mut().zip(1..) {
            taken.push(look(node, &folder.join(format!("node-{number}"))).await?);
        }
        print(arguments, &Sample { writes: done, per_second: figures.per_second, nodes: taken })?;
    }
    Ok(())
}

async fn look(node: &mut NodeProcess, folder: &Path) -> anyhow::Result<Taken> {
    let disk = size(folder)? >> 20;
    if node.child.try_wait()?.is_some() {
        return Ok(Taken { memory: None, disk, entries: None });
    }
    let memory = resident(node.child.id()).context("resident memory")? >> 20;
    let status = Client::connect(&node.address, NAME).await?.status().await?;
    let entries = status.partitions.iter().map(|group| group.log_length - group.log_start).sum();
    Ok(Taken { memory: Some(memory), disk, entries: Some(entries) })
}

/// Bytes that all files in a folder take on the disk. One that is gone meanwhile takes none.
fn size(folder: &Path) -> std::io::Result<u64> {
    let mut bytes = 0;
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        bytes += match entry.metadata() {
            Ok(found) if found.is_dir() => size(&entry.path()).unwrap_or(0),
            Ok(found) => found.blocks() * 512,
            Err(_) => 0,
        };
    }
    Ok(bytes)
}

fn print(arguments: &Arguments, sample: &Sample) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    if arguments.json {
        writeln!(out, "{}", serde_json::to_string(sample)?)?;
        return Ok(());
    }
    write!(out, "{:>9} writes {:>7.0}/s", sample.writes, sample.per_second)?;
    for Taken { memory, disk, entries } in &sample.nodes {
        match (memory, entries) {
            (Some(memory), Some(entries)) => {
                write!(out, " | {memory:>4} MiB, disk {disk:>4} MiB, {entries:>6} entries")?;
            }
            _ => write!(out, " | dead,     disk {disk:>4} MiB,               ")?,
        }
    }
    writeln!(out)?;
    Ok(())
}
