//! What is on its way to a client or to a peer: the loop adds it, the connection's writer takes all that is there.
//!
//! It is encoded where it is added, as much as one write takes. Behind that it waits as it is, since its values are shared: a
//! client that asks for a long value again and again and does not read costs no copy of it for each time.

use std::{
    collections::VecDeque,
    sync::{Mutex, MutexGuard, PoisonError},
};

use serde::Serialize;
use tokio::sync::Notify;

use super::wire::{self, WRITE};

/// What waits for one connection behind what is written next, at most.
const QUEUE: usize = 4096;

/// Replies to one client, or messages to one peer, that are not written yet.
#[derive(Debug)]
pub struct Outgoing<T> {
    waiting: Mutex<Waiting<T>>,
    added: Notify,
}

#[derive(Debug)]
struct Waiting<T> {
    /// What is written next.
    frames: Vec<u8>,
    /// What comes behind that.
    rest: VecDeque<T>,
}

impl<T> Default for Outgoing<T> {
    fn default() -> Self {
        let waiting = Waiting { frames: Vec::new(), rest: VecDeque::new() };
        Self { waiting: Mutex::new(waiting), added: Notify::new() }
    }
}

impl<T: Serialize> Outgoing<T> {
    /// Adds something; false when too much waits.
    #[must_use]
    pub fn add(&self, value: T) -> bool {
        let mut waiting = self.lock();
        let first = waiting.frames.is_empty();
        if waiting.rest.is_empty() && waiting.frames.len() < WRITE {
            wire::put(&mut waiting.frames, &value);
        } else if waiting.rest.len() < QUEUE {
            waiting.rest.push_back(value);
        } else {
            return false;
        }
        drop(waiting);
        if first {
            self.added.notify_one();
        }
        true
    }

    /// Waits until there is something, and gives what one write takes for an empty buffer.
    pub async fn take(&self, out: &mut Vec<u8>) {
        while !self.lock().take(out) {
            self.added.notified().await;
        }
    }

    /// Forgets all of it.
    pub fn clear(&self) {
        let mut waiting = self.lock();
        waiting.frames.clear();
        waiting.rest.clear();
    }

    fn lock(&self) -> MutexGuard<'_, Waiting<T>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T: Serialize> Waiting<T> {
    fn take(&mut self, out: &mut Vec<u8>) -> bool {
        if self.frames.is_empty() {
            return false;
        }
        std::mem::swap(out, &mut self.frames);
        while self.frames.len() < WRITE
            && let Some(value) = self.rest.pop_front()
        {
            wire::put(&mut self.frames, &value);
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;
    use futures::FutureExt;

    use super::*;
    use crate::api::{Answer, Ballot, ClientReply, Outcome, ReplyBody, Value};

    fn reply(id: u64, value: &Value) -> ClientReply {
        let outcome = Outcome::Value(Some(Value::clone(value)));
        let answer = Answer {
            outcome,
            version: 1,
            index: 1,
            leader: 1,
            ballot: Ballot::BOTTOM,
            fast: true,
            local: false,
        };
        ClientReply { id, body: ReplyBody::Operation(Ok(answer)) }
    }

    /// The numbers of all replies that are taken.
    fn taken(replies: &Outgoing<ClientReply>) -> Vec<u64> {
        let (mut out, mut numbers) = (Vec::new(), Vec::new());
        while replies.take(&mut out).now_or_never().is_some() {
            let mut frames = BytesMut::from(&out[..]);
            while let Some(reply) = wire::take::<ClientReply>(&mut frames, 2 * WRITE).expect("whole frames") {
                numbers.push(reply.id);
            }
            out.clear();
        }
        numbers
    }

    #[test]
    fn replies_come_in_their_order_however_many_writes_they_take() {
        let replies = Outgoing::default();
        let value = Value::from("x".repeat(WRITE / 3));
        for id in 0..10 {
            assert!(replies.add(reply(id, &value)));
        }
        assert_eq!(replies.lock().rest.len(), 7, "three make a write");
        assert_eq!(taken(&replies), (0..10).collect::<Vec<_>>());
        assert!(replies.add(reply(10, &value)));
        assert_eq!(taken(&replies), [10]);
    }

    /// Of what is not read, one write is encoded, and the rest shares its values.
    #[test]
    fn there_is_an_end_to_what_waits() {
        let replies = Outgoing::default();
        let value = Value::from("x".repeat(WRITE));
        let added = (0..2 * QUEUE as u64).take_while(|id| replies.add(reply(*id, &value))).count();
        assert_eq!(added, QUEUE + 1);
        assert!(replies.lock().frames.len() < 2 * WRITE);
        assert_eq!(value.sharers(), QUEUE + 1);
    }
}
