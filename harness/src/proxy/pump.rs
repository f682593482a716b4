//! One direction of a connection: bytes are read, kept and written on in order, while the gate of their link is open.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use tokio::{
    net::tcp::{ReadHalf, WriteHalf},
    time::{Instant, sleep_until},
};

use super::{
    Rule,
    board::Gate,
    kept::{Kept, Step},
};

/// How a direction ended in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// The source ended its stream, and all of it was written.
    Finished,
    /// The receiver is gone; what is left for it is dropped.
    Undeliverable,
}

/// Why a connection is reset at both ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reset {
    /// An end is gone, and the other may know.
    Lost,
    /// Something would have travelled on a severed link.
    Severed,
}

/// One direction of a connection.
pub(super) struct Pump<'a> {
    pub(super) from: ReadHalf<'a>,
    pub(super) to: WriteHalf<'a>,
    pub(super) gate: Gate,
    /// Number of the connection on its listener.
    pub(super) connection: u64,
    /// Bytes that passed.
    pub(super) bytes: &'a AtomicU64,
    /// Holds that stopped this direction.
    pub(super) held: &'a AtomicU64,
    /// The other direction could not write to the source.
    pub(super) from_lost: &'a AtomicBool,
    /// This direction could not write to the receiver.
    pub(super) to_lost: &'a AtomicBool,
}

impl Pump<'_> {
    /// Copies until the direction or the connection ends.
    pub(super) async fn run(&mut self) -> Result<End, Reset> {
        let mut kept = Kept::new();
        let mut pieces = 0;
        loop {
            // a fast source with a fast receiver must not starve the other connections
            tokio::task::coop::consume_budget().await;
            let link = self.gate.link();
            let Self { from, to, connection, bytes, from_lost, .. } = self;
            let step = self.gate.pass(|rules| {
                kept.advance(from, to, bytes, from_lost, || {
                    pieces += 1;
                    rules.delay(link, *connection, pieces)
                })
            });
            match step {
                Ok(Step::Moved) => {}
                Ok(Step::Finished) => return Ok(End::Finished),
                Ok(Step::Lost) => return Err(Reset::Lost),
                Ok(Step::Undeliverable) => {
                    self.to_lost.store(true, Ordering::Relaxed);
                    return Ok(End::Undeliverable);
                }
                Ok(step) => self.progress(&step).await,
                Err(Rule::Sever) => self.severed(&kept).await?,
                Err(Rule::Hold | Rule::Open) => {
                    self.held.fetch_add(1, Ordering::Relaxed);
                    self.gate.changed().await;
                }
            }
        }
    }

    /// Waits until there may be something to do. An error of a socket is met again by the step that follows.
    async fn progress(&mut self, step: &Step) {
        let (due, wants_more, full) = match *step {
            Step::Empty => (None, true, false),
            Step::Travelling { due, wants_more } => (Some(due), wants_more, false),
            _ => (None, false, true),
        };
        tokio::select! {
            biased;
            () = self.gate.changed() => {}
            () = arrival(due), if due.is_some() => {}
            _ = self.from.readable(), if wants_more => {}
            _ = self.to.writable(), if full => {}
        }
    }

    /// Waits for another rule; fails as soon as there is something that would travel.
    async fn severed(&mut self, kept: &Kept) -> Result<(), Reset> {
        if !kept.is_empty() {
            return Err(Reset::Severed);
        }
        let mut first = [0];
        tokio::select! {
            biased;
            () = self.gate.changed() => Ok(()),
            _ = self.from.peek(&mut first) => Err(Reset::Severed),
        }
    }
}

async fn arrival(due: Option<Instant>) {
    if let Some(due) = due {
        sleep_until(due).await;
    }
}
