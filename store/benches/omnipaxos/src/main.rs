//! One of three members of a key-value store in memory on the `omnipaxos` crate, over TCP: what `scripts/bench store` compares the
//! store's writes in memory with. The crate decides, elects and keeps the log. What moves its bytes there is in two ways:
//! [`tasks`], as the crate's own key-value store does it, and [`tight`], with as little around it as can be.
//!
//! Prints where it listens, reads the addresses of all three in a line, and prints `leads` when it does; ends with its input. The
//! first has the highest priority, and a member that is asked and does not lead ends: what is measured is the way straight to the
//! leader. A client's frame is a length, a number and a value; its answer a length and the number, sent when the write is decided
//! and applied. Members greet each other with a byte that is no client's.

mod tasks;
mod tight;

use std::{
    collections::HashMap,
    io::{Read, Write},
    time::Duration,
};

use anyhow::{Context, Result, bail, ensure};
use omnipaxos::{ClusterConfig, OmniPaxosConfig, ServerConfig};
use tokio::{
    io::AsyncWriteExt,
    net::{TcpListener, TcpStream, tcp::OwnedWriteHalf},
    runtime::Builder,
    time::{Interval, MissedTickBehavior},
};

/// The crate counts ticks; elections take ten of them, a second as in its own store: on a busy machine members are late.
const TICK: Duration = Duration::from_millis(100);

/// Decided entries between two trims of the log. Each drops what the one before it found decided, which all members have by then: a
/// log that only grows would be a measurement of how fast there is fresh memory.
const TRIM: usize = 1 << 16;

/// What a member says first; a client's first byte is the high one of a length, 0.
const MEMBER: u8 = 0xff;

fn main() -> Result<()> {
    let usage = "usage: omnipaxos-peer tasks|tight 1|2|3";
    let mut arguments = std::env::args().skip(1);
    let (way, pid) = (arguments.next().context(usage)?, arguments.next().context(usage)?.parse()?);
    match way.as_str() {
        // as it is there
        "tasks" => Builder::new_multi_thread().enable_all().build()?.block_on(tasks::run(pid)),
        "tight" => Builder::new_current_thread().enable_all().build()?.block_on(tight::run(pid)),
        _ => bail!(usage),
    }
}

/// Says where it listens, and is told where all do.
async fn meet() -> Result<(TcpListener, Vec<String>)> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    writeln!(std::io::stdout(), "{}", listener.local_addr()?)?;
    let mut line = String::new();
    std::io::stdin().read_line(&mut line)?;
    let addresses: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
    ensure!(addresses.len() == 3, "three addresses, not {line:?}");
    // whoever started it has gone
    std::thread::spawn(|| {
        let _ = std::io::stdin().read_to_end(&mut Vec::new());
        std::process::exit(0);
    });
    Ok((listener, addresses))
}

/// Connections on which the others are told something.
async fn dial(pid: u64, addresses: &[String]) -> Result<HashMap<u64, OwnedWriteHalf>> {
    let mut peers = HashMap::new();
    for (other, address) in (1..).zip(addresses).filter(|(other, _)| *other != pid) {
        let mut stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        stream.write_u8(MEMBER).await?;
        peers.insert(other, stream.into_split().1);
    }
    Ok(peers)
}

fn config(pid: u64) -> OmniPaxosConfig {
    let cluster_config = ClusterConfig { configuration_id: 1, nodes: vec![1, 2, 3], flexible_quorum: None };
    let leader_priority = u32::from(pid == 1);
    let server_config =
        ServerConfig { pid, election_tick_timeout: 10, leader_priority, ..ServerConfig::default() };
    OmniPaxosConfig { cluster_config, server_config }
}

fn ticks() -> Interval {
    let mut ticks = tokio::time::interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    ticks
}

/// How far the log is decided, and when it is to be trimmed.
#[derive(Default)]
struct Decided {
    applied: usize,
    mark: usize,
}

impl Decided {
    /// Up to where the log is to be trimmed now, if it is.
    fn trim_to(&mut self) -> Option<usize> {
        (self.applied >= self.mark + TRIM)
            .then(|| std::mem::replace(&mut self.mark, self.applied))
            .filter(|to| *to > 0)
    }
}

/// Whether this member leads.
#[derive(Default)]
struct Leads(bool);

impl Leads {
    /// Says so when it has come to lead. `leader`: which member does, and whether it can append.
    fn look(&mut self, leader: Option<(u64, bool)>, pid: u64) -> Result<()> {
        let leads = leader == Some((pid, true));
        if leads && !self.0 {
            writeln!(std::io::stdout(), "leads")?;
        }
        self.0 = leads;
        Ok(())
    }

    fn required(&self) -> Result<()> {
        ensure!(self.0, "a write came to a member that does not lead");
        Ok(())
    }
}
