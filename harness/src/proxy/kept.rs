//! The bytes that one direction of a connection has read and not yet written, in order.

use std::{
    collections::VecDeque,
    io,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    time::Duration,
};

use futures::FutureExt;
use tokio::{
    io::AsyncWriteExt,
    net::tcp::{ReadHalf, WriteHalf},
    time::Instant,
};

/// Bytes that are read at once.
const BUFFER: usize = 64 << 10;

/// The most bytes that travel at a time on a delayed direction; when so many do, no more are read.
const TRAVELLING: usize = 4 << 20;

/// Bytes that were read and not yet written: what is left of the buffer, then what still travels.
pub(super) struct Kept {
    buffer: Box<[u8]>,
    /// What is to be written of the buffer is `buffer[start..end]`.
    start: usize,
    end: usize,
    travelling: VecDeque<Piece>,
    travelling_bytes: usize,
    /// The last piece is the end of the stream or of the source.
    ended: bool,
}

/// What was read at once, and when it arrives.
struct Piece {
    due: Instant,
    what: Read,
}

enum Read {
    Bytes(Box<[u8]>),
    /// The source ended its stream.
    End,
    /// The source is gone.
    Lost,
}

/// What became of one attempt to move bytes.
pub(super) enum Step {
    /// Something happened; there may be more to do.
    Moved,
    /// Nothing to read, and nothing travels.
    Empty,
    /// Nothing to do until then, unless there is more to read, which is wanted or not.
    Travelling { due: Instant, wants_more: bool },
    /// The receiver takes no more.
    Full,
    /// The source ended its stream, and all of it was written.
    Finished,
    /// The receiver is gone.
    Undeliverable,
    /// The source is gone.
    Lost,
}

impl Kept {
    /// Nothing kept.
    pub(super) fn new() -> Self {
        Self {
            buffer: vec![0; BUFFER].into_boxed_slice(),
            start: 0,
            end: 0,
            travelling: VecDeque::new(),
            travelling_bytes: 0,
            ended: false,
        }
    }

    /// True when nothing was read that is not written.
    pub(super) fn is_empty(&self) -> bool {
        self.start == self.end && self.travelling.is_empty()
    }

    /// Writes what has arrived, or reads when nothing has. Does not block. `delay` is asked for the delay of what is read;
    /// `from_lost` says that the source is known to be gone, so that its end of stream is none.
    pub(super) fn advance(
        &mut self,
        from: &ReadHalf,
        to: &mut WriteHalf,
        passed: &AtomicU64,
        from_lost: &AtomicBool,
        delay: impl FnOnce() -> Option<Duration>,
    ) -> Step {
        if self.start < self.end {
            return self.write(to, passed);
        }
        if let Some(due) = self.travelling.front().map(|piece| piece.due) {
            if due <= Instant::now() {
                return self.arrive(to);
            }
            if self.ended || self.travelling_bytes >= TRAVELLING {
                return Step::Travelling { due, wants_more: false };
            }
        }
        let read = match from.try_read(&mut self.buffer) {
            Ok(0) if !from_lost.load(Ordering::Relaxed) => Read::End,
            Ok(read) if read > 0 => match delay() {
                None if self.travelling.is_empty() => {
                    (self.start, self.end) = (0, read);
                    return self.write(to, passed);
                }
                delay => return self.send_off(Read::Bytes(self.buffer[..read].into()), delay),
            },
            Err(error) if is_transient(&error) => {
                return match self.travelling.front() {
                    Some(piece) => Step::Travelling { due: piece.due, wants_more: true },
                    None => Step::Empty,
                };
            }
            Ok(_) | Err(_) => Read::Lost,
        };
        self.ended = true;
        self.send_off(read, delay())
    }

    /// Lets what was read travel, behind what does already.
    fn send_off(&mut self, what: Read, delay: Option<Duration>) -> Step {
        let due = Instant::now() + delay.unwrap_or_default();
        let due = self.travelling.back().map_or(due, |last| due.max(last.due));
        if let Read::Bytes(bytes) = &what {
            self.travelling_bytes += bytes.len();
        }
        self.travelling.push_back(Piece { due, what });
        Step::Moved
    }

    /// Puts the first piece that travels into the buffer, which is empty.
    fn arrive(&mut self, to: &mut WriteHalf) -> Step {
        match self.travelling.pop_front().map(|piece| piece.what) {
            Some(Read::Bytes(bytes)) => {
                self.travelling_bytes -= bytes.len();
                self.buffer[..bytes.len()].copy_from_slice(&bytes);
                (self.start, self.end) = (0, bytes.len());
                Step::Moved
            }
            Some(Read::End) => finish(to),
            Some(Read::Lost) => Step::Lost,
            None => Step::Empty,
        }
    }

    fn write(&mut self, to: &WriteHalf, passed: &AtomicU64) -> Step {
        match to.try_write(&self.buffer[self.start..self.end]) {
            Ok(written) => {
                self.start += written;
                passed.fetch_add(written as u64, Ordering::Relaxed);
                Step::Moved
            }
            Err(error) if is_transient(&error) => Step::Full,
            Err(_) => Step::Undeliverable,
        }
    }
}

/// Ends the receiver's stream.
fn finish(to: &mut WriteHalf) -> Step {
    // an error means that the receiver is gone, which the other direction meets; a shutdown never waits
    let _ = to.shutdown().now_or_never();
    Step::Finished
}

fn is_transient(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted)
}
