//! The history's file, which a thread of its own writes: a disk that is slow for a moment keeps no client waiting.
//!
//! Lines are collected and handed over in large pieces, in order, through a queue that has an end: when the disk falls behind
//! for long, recording waits for it, and nothing is lost. Dropping it, in a panic too, writes what there is.

use std::{
    fs::File,
    io::{self, Write},
    sync::{Arc, OnceLock, mpsc},
    thread::{self, JoinHandle},
};

/// Lines are handed over when they make up so many bytes.
const PIECE: usize = 256 << 10;

/// Pieces that wait for the disk before recording waits, too.
const QUEUE: usize = 32;

/// A file of lines.
#[derive(Debug)]
pub(super) struct LineFile {
    lines: Vec<u8>,
    /// `None` only while it is dropped.
    orders: Option<mpsc::SyncSender<Order>>,
    failure: Arc<OnceLock<io::Error>>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug)]
enum Order {
    Write(Vec<u8>),
    /// Say when everything before is written.
    Tell(mpsc::SyncSender<()>),
}

impl LineFile {
    /// Starts the thread that writes to `file`.
    pub(super) fn start(file: File) -> io::Result<Self> {
        let (orders, queue) = mpsc::sync_channel(QUEUE);
        let failure = Arc::default();
        let failed = Arc::clone(&failure);
        let thread = thread::Builder::new()
            .name("history".to_owned())
            .spawn(move || write_all(file, &queue, &failed))?;
        Ok(Self { lines: Vec::new(), orders: Some(orders), failure, thread: Some(thread) })
    }

    /// Appends what `put` puts, which must be whole lines.
    pub(super) fn append(&mut self, put: impl FnOnce(&mut Vec<u8>)) {
        put(&mut self.lines);
        if self.lines.len() >= PIECE {
            self.hand_over();
        }
    }

    /// Hands everything so far to the thread, which hands it to the operating system.
    pub(super) fn hand_over(&mut self) {
        if !self.lines.is_empty() {
            let next = Vec::with_capacity(PIECE + PIECE / 8);
            let lines = std::mem::replace(&mut self.lines, next);
            self.order(Order::Write(lines));
        }
    }

    /// Waits until everything so far is in the operating system's hands, or never will be.
    pub(super) fn wait(&mut self) {
        self.hand_over();
        let (tell, told) = mpsc::sync_channel(1);
        self.order(Order::Tell(tell));
        // an error says that the thread has ended, which `failure` tells
        let _ = told.recv();
    }

    /// Why not everything could be written, once that has happened.
    pub(super) fn failure(&self) -> Option<&io::Error> {
        self.failure.get()
    }

    fn order(&self, order: Order) {
        if self.orders.as_ref().is_none_or(|orders| orders.send(order).is_err()) {
            // only a panic ends the thread before this does
            let _ = self.failure.set(io::Error::other("its thread has ended"));
        }
    }
}

impl Drop for LineFile {
    fn drop(&mut self) {
        self.hand_over();
        self.orders = None;
        if let Some(thread) = self.thread.take() {
            // an error says that it has panicked, which it has reported
            let _ = thread.join();
        }
    }
}

/// The thread's life. After a failure nothing more is written: the file has no gap, only an end.
fn write_all(mut file: File, orders: &mpsc::Receiver<Order>, failure: &OnceLock<io::Error>) {
    for order in orders {
        match order {
            Order::Write(lines) if failure.get().is_none() => {
                if let Err(error) = file.write_all(&lines) {
                    let _ = failure.set(error);
                }
            }
            Order::Write(_) => {}
            // an error says that nobody waits any more
            Order::Tell(tell) => drop(tell.send(())),
        }
    }
}
