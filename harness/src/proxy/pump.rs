//! One direction of a connection: bytes are read, kept and written on in order, while the gate of their link is open.

use std::{
    io,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
};

use futures::FutureExt;
use tokio::{
    io::AsyncWriteExt,
    net::tcp::{ReadHalf, WriteHalf},
};

use super::{Rule, board::Gate};

/// Bytes that a direction reads at once, and the most that it keeps.
const BUFFER: usize = 64 << 10;

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
    /// Bytes that passed.
    pub(super) bytes: &'a AtomicU64,
    /// Holds that stopped this direction.
    pub(super) held: &'a AtomicU64,
    /// The other direction could not write to the source.
    pub(super) from_lost: &'a AtomicBool,
    /// This direction could not write to the receiver.
    pub(super) to_lost: &'a AtomicBool,
}

/// Bytes that were read and not yet written: `bytes[start..end]`.
struct Kept {
    bytes: Box<[u8]>,
    start: usize,
    end: usize,
}

/// What became of one attempt to move bytes.
enum Step {
    Moved,
    /// Nothing to read.
    Empty,
    /// The receiver takes no more.
    Full,
    Ended(End),
    Lost,
}

impl Pump<'_> {
    /// Copies until the direction or the connection ends.
    pub(super) async fn run(&mut self) -> Result<End, Reset> {
        let mut kept = Kept { bytes: vec![0; BUFFER].into_boxed_slice(), start: 0, end: 0 };
        loop {
            // a fast source with a fast receiver must not starve the other connections
            tokio::task::coop::consume_budget().await;
            let Self { from, to, bytes, from_lost, to_lost, .. } = self;
            let step = self.gate.pass(|| kept.advance(from, to, bytes, from_lost));
            match step {
                Ok(Step::Moved) => {}
                Ok(Step::Empty) => tokio::select! {
                    biased;
                    () = self.gate.changed() => {}
                    // an error is met again by the read that follows
                    _ = from.readable() => {}
                },
                Ok(Step::Full) => tokio::select! {
                    biased;
                    () = self.gate.changed() => {}
                    _ = to.writable() => {}
                },
                Ok(Step::Ended(end)) => {
                    to_lost.fetch_or(end == End::Undeliverable, Ordering::Relaxed);
                    return Ok(end);
                }
                Ok(Step::Lost) => return Err(Reset::Lost),
                Err(Rule::Sever) => self.severed(&kept).await?,
                Err(Rule::Hold | Rule::Open) => {
                    self.held.fetch_add(1, Ordering::Relaxed);
                    self.gate.changed().await;
                }
            }
        }
    }

    /// Waits for another rule; fails as soon as there is something that would travel.
    async fn severed(&mut self, kept: &Kept) -> Result<(), Reset> {
        if kept.start < kept.end {
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

impl Kept {
    /// Writes what is kept, reading first when that is nothing. Does not block.
    fn advance(
        &mut self,
        from: &ReadHalf,
        to: &mut WriteHalf,
        passed: &AtomicU64,
        from_lost: &AtomicBool,
    ) -> Step {
        if self.start == self.end {
            match from.try_read(&mut self.bytes) {
                Ok(0) if from_lost.load(Ordering::Relaxed) => return Step::Lost,
                // an error of the shutdown means that the receiver is gone, which the other direction meets
                Ok(0) => {
                    let _ = to.shutdown().now_or_never();
                    return Step::Ended(End::Finished);
                }
                Ok(read) => (self.start, self.end) = (0, read),
                Err(error) if is_transient(&error) => return Step::Empty,
                Err(_) => return Step::Lost,
            }
        }
        match to.try_write(&self.bytes[self.start..self.end]) {
            Ok(written) => {
                self.start += written;
                passed.fetch_add(written as u64, Ordering::Relaxed);
                Step::Moved
            }
            Err(error) if is_transient(&error) => Step::Full,
            Err(_) => Step::Ended(End::Undeliverable),
        }
    }
}

fn is_transient(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted)
}
