//! A load on a store, or on something to compare it with: connections with so many operations in flight on each, as fast as
//! answers come or at a fixed rate.
//!
//! At a fixed rate latency counts from the moment at which an operation was meant to be sent, whether or not it could be: a
//! server that stands still for a while delays all operations that were due meanwhile, not just those that it had been sent
//! (otherwise the load would take part in the pause: coordinated omission).
//!
//! Each key holds one value, in which it is written, so each answer can be looked at. Every operation that was asked is counted
//! under exactly one of right, wrong, failed and unknown. All connections are served by the thread that asks; what is ready
//! on one is read at once, and what may be asked then is written at once.

mod connection;
mod figures;
mod keys;
mod processor;
mod store;
mod target;
mod timer;

use std::{io, time::Duration};

use bytes::BytesMut;
use futures::future::join_all;
use tokio::net::TcpStream;

use crate::node::clock::machine_time;
pub use connection::Asked;
pub use figures::{Counts, Figures, Outcome, median};
pub use keys::{Keys, value_of, value_shows};
pub use processor::{resident, used, used_in};
pub use store::StoreProtocol;
pub use target::{Target, check};

/// The shortest value: a key is written in it.
pub const LEAST_VALUE: usize = 20;

/// A load.
#[derive(Clone, Copy, Debug)]
pub struct Load {
    /// Operations in flight on each connection, at most.
    pub depth: usize,
    /// When operations are asked.
    pub pace: Pace,
    /// When it ends.
    pub length: Length,
    /// What is asked.
    pub mix: Mix,
    /// After how long without any answer a connection that waits for one is given up.
    pub patience: Duration,
}

/// When operations are asked.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Pace {
    /// As soon as there is room: a closed loop.
    Closed,
    /// So many a second on all connections together, evenly spread; those that find no room wait, and their latency counts from
    /// when they were due.
    PerSecond(f64),
}

/// When a load ends.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Length {
    /// After so long; what is in flight then is waited for.
    Time(Duration),
    /// After so many operations on all connections together, or when there are no more keys.
    Operations(u64),
}

/// Kinds of operations.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// Reads.
    Get,
    /// Writes.
    Put,
    /// Writes of what holds a certain value, which it does.
    Cas,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Get, Self::Put, Self::Cas];

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Get => "get",
            Self::Put => "put",
            Self::Cas => "cas",
        }
    }
}

/// What is asked: weights of the kinds, in the order of [`Kind::ALL`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Mix(pub [u32; 3]);

impl Mix {
    /// One kind only.
    pub fn only(kind: Kind) -> Self {
        Self(Kind::ALL.map(|one| u32::from(one == kind)))
    }
}

/// One operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request {
    /// Its kind.
    pub kind: Kind,
    /// Its key.
    pub key: i64,
}

/// What an answer says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// What it must.
    Right {
        /// A read that a leader answered under its lease.
        fast: bool,
        /// Another node answered than the one that was asked.
        elsewhere: bool,
    },
    /// Something else.
    Wrong(String),
    /// That the operation was not carried out.
    Failed(String),
    /// That nobody knows whether it was.
    Unknown(String),
}

/// How operations are asked on a connection, and answers read.
pub trait Protocol {
    /// Puts an operation into what is written. Numbers grow on each connection.
    fn ask(&mut self, id: u64, request: Request, out: &mut Vec<u8>);

    /// Takes the next complete answer from what was read: the number of its operation, which must be one of those `asked`, and
    /// what it says. None: none is complete. It may write something of its own. An error ends the connection.
    fn answer(
        &mut self,
        read: &mut BytesMut,
        out: &mut Vec<u8>,
        asked: &Asked,
    ) -> Result<Option<(u64, Verdict)>, String>;
}

/// A connection that is ready.
#[derive(Debug)]
pub struct Link<P> {
    /// The connection.
    pub stream: TcpStream,
    /// What was read already.
    pub read: BytesMut,
    /// How to talk.
    pub protocol: P,
    /// The keys that are asked here.
    pub keys: Keys,
}

/// Puts the load on these connections.
pub async fn run<P: Protocol>(links: Vec<Link<P>>, load: Load) -> io::Result<Outcome> {
    let connections = links.len() as u64;
    let start = machine_time();
    let mut running = Vec::new();
    for (link, number) in links.into_iter().zip(0..) {
        let turns = connection::Turns::new(&load, (number, connections), start);
        running.push(connection::run(link, load, turns)?);
    }
    let ended = join_all(running).await;
    let end = match load.length {
        Length::Time(time) => start + time.as_nanos() as u64,
        Length::Operations(_) => ended.iter().map(|ended| ended.last_answer).max().unwrap_or(start),
    };
    let mut outcome = Outcome::new((end - start) as f64 / 1e9);
    for ended in ended {
        outcome.add(ended);
    }
    Ok(outcome)
}
