//! One connection under load.

use std::{io, time::Duration};

use bytes::BytesMut;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::{Instant, Sleep},
};

use super::{Keys, Length, Link, Load, Mix, Pace, Protocol, Request, figures::Ended, timer::Timer};
use crate::node::clock::machine_time;

/// Bytes that are read at once, at least.
const READ: usize = 64 << 10;

/// When the operations of a connection are due.
#[derive(Debug)]
pub struct Turns {
    start: u64,
    /// At a fixed rate: nanoseconds between two operations of the whole load.
    step: Option<f64>,
    /// This connection, and how many there are.
    place: (u64, u64),
    end: Option<u64>,
    quota: u64,
    taken: u64,
}

/// The next operation of a connection.
enum Turn {
    /// Is due since then.
    Due(u64),
    /// Is due then.
    At(u64),
    /// There is none.
    Never,
}

impl Turns {
    pub fn new(load: &Load, place: (u64, u64), start: u64) -> Self {
        let (number, connections) = place;
        let step = match load.pace {
            Pace::Closed => None,
            Pace::PerSecond(rate) => Some(1e9 / rate),
        };
        let (end, quota) = match load.length {
            Length::Time(time) => (Some(start + time.as_nanos() as u64), u64::MAX),
            Length::Operations(all) => (None, all / connections + u64::from(number < all % connections)),
        };
        Self { start, step, place, end, quota, taken: 0 }
    }

    fn next(&self, now: u64) -> Turn {
        let due = match self.step {
            None => now,
            Some(step) => {
                let (number, connections) = self.place;
                self.start + ((self.taken * connections + number) as f64 * step) as u64
            }
        };
        if self.taken >= self.quota || self.end.is_some_and(|end| due >= end) {
            Turn::Never
        } else if due <= now {
            Turn::Due(due)
        } else {
            Turn::At(due)
        }
    }

    /// Operations that are due by the end and have not been taken; a closed loop owes none but by number.
    fn left(&self) -> u64 {
        match (self.step, self.end) {
            (_, None) => self.quota - self.taken,
            (None, Some(_)) => 0,
            (Some(_), Some(_)) => {
                let mut rest = Self { ..*self };
                while let Turn::Due(_) | Turn::At(_) = rest.next(0) {
                    rest.taken += 1;
                }
                rest.taken - self.taken
            }
        }
    }
}

/// The operations of a connection that wait for their answers.
#[derive(Debug)]
pub struct Asked {
    /// By number, modulo their count.
    slots: Vec<Option<Waiting>>,
    free: Vec<usize>,
    /// Operations so far.
    count: u64,
}

#[derive(Debug)]
struct Waiting {
    id: u64,
    due: u64,
    request: Request,
}

impl Asked {
    /// Room for so many.
    pub fn new(depth: usize) -> Self {
        Self { slots: (0..depth).map(|_| None).collect(), free: (0..depth).collect(), count: 0 }
    }

    /// The operation of this number.
    pub fn request(&self, id: u64) -> Option<Request> {
        let waiting = self.slots[(id % self.slots.len() as u64) as usize].as_ref()?;
        (waiting.id == id).then_some(waiting.request)
    }

    /// Adds one, for which there is room; its number.
    pub fn add(&mut self, due: u64, request: Request) -> u64 {
        let slot = self.free.pop().expect("there is room");
        self.count += 1;
        let id = self.count * self.slots.len() as u64 + slot as u64;
        self.slots[slot] = Some(Waiting { id, due, request });
        id
    }

    fn take(&mut self, id: u64) -> Option<Waiting> {
        let slot = (id % self.slots.len() as u64) as usize;
        let waiting = self.slots[slot].take_if(|waiting| waiting.id == id)?;
        self.free.push(slot);
        Some(waiting)
    }

    fn is_empty(&self) -> bool {
        self.free.len() == self.slots.len()
    }
}

struct Connection<P> {
    stream: TcpStream,
    protocol: P,
    read: BytesMut,
    out: Vec<u8>,
    keys: Keys,
    mix: Mix,
    turns: Turns,
    asked: Asked,
    ended: Ended,
}

/// What is to happen next.
enum Next {
    /// An answer comes, or this time.
    Wait(Option<u64>),
    /// Nothing.
    End,
}

/// Asks until the load ends and everything is answered, or the connection ends, or is given up.
pub fn run<P: Protocol>(link: Link<P>, load: Load, turns: Turns) -> io::Result<impl Future<Output = Ended>> {
    let timer = Timer::new()?;
    let Link { stream, read, protocol, keys } = link;
    let mut connection = Connection {
        stream,
        protocol,
        read,
        out: Vec::new(),
        keys,
        mix: load.mix,
        turns,
        asked: Asked::new(load.depth),
        ended: Ended::new(),
    };
    Ok(async move {
        let failed = connection.run(load.patience, timer).await.err();
        let Connection { asked, turns, mut ended, mut keys, mix, .. } = connection;
        for waiting in asked.slots.iter().flatten() {
            ended.unanswered(waiting.request.kind);
        }
        if let Some(error) = failed {
            let never_sent = (0..turns.left()).map_while(|_| keys.next(mix));
            ended.lost(&error, never_sent.map(|request| request.kind));
        }
        ended
    })
}

impl<P: Protocol> Connection<P> {
    async fn run(&mut self, patience: Duration, mut timer: Timer) -> Result<(), String> {
        let mut limit = std::pin::pin!(tokio::time::sleep(patience));
        loop {
            let next = self.fill(machine_time());
            if !self.out.is_empty() {
                self.stream.write_all(&self.out).await.map_err(|error| error.to_string())?;
                self.out.clear();
            }
            let Next::Wait(due) = next else { return Ok(()) };
            self.read.reserve(READ);
            tokio::select! {
                biased;
                read = self.stream.read_buf(&mut self.read) => match read {
                    Ok(0) => return Err("the connection was closed".to_owned()),
                    Ok(_) => self.take_answers()?,
                    Err(error) => return Err(error.to_string()),
                },
                set = timer.until(due.unwrap_or_default()), if due.is_some() => {
                    set.map_err(|error| error.to_string())?;
                }
                () = &mut limit => self.have_patience(patience, limit.as_mut())?,
            }
        }
    }

    /// Asks what is due, as far as there is room.
    fn fill(&mut self, now: u64) -> Next {
        while !self.asked.free.is_empty() {
            match self.turns.next(now) {
                Turn::Due(due) => {
                    let Some(request) = self.keys.next(self.mix) else {
                        self.turns.quota = self.turns.taken;
                        continue;
                    };
                    if self.asked.is_empty() {
                        // the patience with a server that was owed nothing begins now
                        self.ended.last_answer = now;
                    }
                    self.turns.taken += 1;
                    self.ended.asked(request.kind);
                    let id = self.asked.add(due, request);
                    self.protocol.ask(id, request, &mut self.out);
                }
                Turn::At(due) => return Next::Wait(Some(due)),
                Turn::Never if self.asked.is_empty() => return Next::End,
                Turn::Never => break,
            }
        }
        Next::Wait(None)
    }

    fn take_answers(&mut self) -> Result<(), String> {
        let now = machine_time();
        while let Some((id, verdict)) = self.protocol.answer(&mut self.read, &mut self.out, &self.asked)? {
            let Some(Waiting { due, request, .. }) = self.asked.take(id) else {
                return Err(format!("answered {id}, which was not asked"));
            };
            let in_time = self.turns.end.is_none_or(|end| now < end);
            self.ended.answered(request.kind, verdict, now - due, in_time);
            self.ended.last_answer = now;
        }
        Ok(())
    }

    /// Goes on waiting, unless nothing has been answered for too long.
    fn have_patience(&self, patience: Duration, limit: std::pin::Pin<&mut Sleep>) -> Result<(), String> {
        let waited = Duration::from_nanos(machine_time().saturating_sub(self.ended.last_answer));
        let left = if self.asked.is_empty() { patience } else { patience.saturating_sub(waited) };
        if left.is_zero() {
            return Err(format!("no answer for {} ms", patience.as_millis()));
        }
        // a timer is precise to a millisecond
        limit.reset(Instant::now() + left.max(Duration::from_millis(1)));
        Ok(())
    }
}
