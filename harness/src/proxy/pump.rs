//! One direction of a connection: bytes are read and written on in order, under the terms of their link.

use std::{
    cell::RefCell,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::tcp::{ReadHalf, WriteHalf},
    sync::Notify,
    time::{Instant, Sleep, sleep_until},
};

use super::{
    Deed, Draw, Protocol, Rule, Seen, Strikes,
    board::Terms,
    connection::Shared,
    frames::{Fate, Frames, Part, recognise},
    kept::{Kept, Whole},
    link::Way,
    recording::Tracker,
};

/// Bytes that are read at once.
const BUFFER: usize = 64 << 10;

/// Reads and writes before other connections and switches have their turn.
const STEPS: usize = 32;

thread_local! {
    /// What was just read: all connections share it, since what cannot be written at once is copied.
    static SCRATCH: RefCell<Vec<u8>> = RefCell::new(vec![0; BUFFER]);
}

/// How a direction ended in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// The source ended its stream, and all of it was written.
    Finished,
    /// The receiver is gone; what is left for it is dropped.
    Undeliverable,
}

/// Why a connection ends at both ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cut {
    /// An end is gone, and the other may know.
    Lost,
    /// A rule ends it.
    Ruled(Rule),
}

/// One direction of a connection.
pub(super) struct Pump {
    way: Arc<Way>,
    all_reads: Arc<Notify>,
    /// It carries what the dialer sends.
    forward: bool,
    seed: u64,
    connection: u64,
    protocol: Protocol,
    /// `None`: the protocol has none.
    frames: Option<Frames>,
    /// Reads, where there are no frames.
    reads: u64,
    /// `None`: its frames are not recorded.
    tracker: Option<Tracker>,
    kept: Kept,
    /// How long the frame that passes travels.
    travels: Option<Duration>,
    /// The source's stream has ended, or the source is gone; that arrives at its own time.
    ended: Option<(Ended, Instant)>,
    timer: Option<Pin<Box<Sleep>>>,
    standstill: Standstill,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ended {
    Stream,
    Source,
}

/// Whether a rule stops a direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standstill {
    No,
    Held,
    /// And something would have passed, or the link is the connection's own: it is lost when the silence ends.
    Silent {
        missed: bool,
    },
}

/// What a direction does next.
enum Turn {
    Again,
    Wait,
}

impl Pump {
    /// One direction of connection number `connection`, which obeys `way`.
    pub(super) fn new(shared: &Shared, way: Arc<Way>, forward: bool, connection: u64) -> Self {
        let record = way.record.get().map(Arc::clone);
        let tracker = record.map(|record| Tracker::new(record, connection, !forward, shared.protocol));
        Self {
            way,
            all_reads: Arc::clone(&shared.reads),
            forward,
            seed: shared.seed,
            connection,
            protocol: shared.protocol,
            frames: (shared.protocol != Protocol::Bytes).then(Frames::new),
            reads: 0,
            tracker,
            kept: Kept::default(),
            travels: None,
            ended: None,
            timer: None,
            standstill: Standstill::No,
        }
    }

    /// Copies as much as there is under these terms; ready when the direction or the connection ends. `from_lost` says that
    /// the source is known to be gone, so that its end of stream is none.
    pub(super) fn poll(
        &mut self,
        context: &mut Context,
        terms: &Terms,
        from: &mut ReadHalf,
        to: &mut WriteHalf,
        from_lost: bool,
    ) -> Poll<Result<End, Cut>> {
        let rule = terms.conditions.rule;
        let silent = matches!(rule, Rule::Silence | Rule::HalfOpen);
        if let Standstill::Silent { missed: true } = self.standstill
            && !silent
        {
            return Poll::Ready(Err(Cut::Ruled(Rule::Silence)));
        }
        match rule {
            Rule::Open => {
                self.standstill = Standstill::No;
                self.carry(context, terms, from, to, from_lost)
            }
            Rule::Hold => {
                if self.standstill != Standstill::Held {
                    self.standstill = Standstill::Held;
                    self.way.counters.held.add(1);
                }
                Poll::Pending
            }
            Rule::Silence | Rule::HalfOpen => {
                let missed = self.forward
                    || self.standstill == Standstill::Silent { missed: true }
                    || self.would_travel(context, from).is_ready();
                self.standstill = Standstill::Silent { missed };
                Poll::Pending
            }
            Rule::Close | Rule::Sever => self.would_travel(context, from).map(|()| Err(Cut::Ruled(rule))),
        }
    }

    /// Ready when there is something to carry, be it an end.
    fn would_travel(&self, context: &mut Context, from: &mut ReadHalf) -> Poll<()> {
        if !self.kept.is_empty() || self.ended.is_some() {
            return Poll::Ready(());
        }
        let mut first = [0];
        from.poll_peek(context, &mut ReadBuf::new(&mut first)).map(drop)
    }

    fn carry(
        &mut self,
        context: &mut Context,
        terms: &Terms,
        from: &mut ReadHalf,
        to: &mut WriteHalf,
        from_lost: bool,
    ) -> Poll<Result<End, Cut>> {
        for _ in 0..STEPS {
            if !self.kept.to_write().is_empty() {
                match ready!(Pin::new(&mut *to).poll_write(context, self.kept.to_write())) {
                    Ok(written) => {
                        self.kept.wrote(written);
                        self.wrote(written);
                    }
                    Err(_) => return Poll::Ready(Ok(End::Undeliverable)),
                }
                continue;
            }
            if !self.kept.is_at_rest() || self.ended.is_some() {
                let now = Instant::now();
                self.give_back(terms, now);
                if self.kept.advance(now) || !self.kept.to_write().is_empty() {
                    continue;
                }
                match self.ended {
                    Some((Ended::Source, due)) if due <= now => return Poll::Ready(Err(Cut::Lost)),
                    Some((Ended::Stream, due)) if due <= now && self.kept.is_empty() => {
                        // an error means that the receiver is gone, which the other direction meets; it never waits
                        let _ = Pin::new(&mut *to).poll_shutdown(context);
                        return Poll::Ready(Ok(End::Finished));
                    }
                    _ => {}
                }
            }
            if self.ended.is_none() && self.kept.has_room() {
                match self.read(context, terms, from, to, from_lost) {
                    Poll::Ready(Ok(Turn::Again)) => continue,
                    Poll::Ready(Ok(Turn::Wait)) => return Poll::Pending,
                    Poll::Ready(Err(end)) => return Poll::Ready(end),
                    Poll::Pending => {}
                }
            }
            ready!(self.await_due(context));
        }
        context.waker().wake_by_ref();
        Poll::Pending
    }

    /// Waits for what comes by itself.
    fn await_due(&mut self, context: &mut Context) -> Poll<()> {
        let end = self.ended.map(|(_, due)| due).filter(|_| self.kept.is_at_rest());
        let Some(due) = [self.kept.next_due(), end].into_iter().flatten().min() else { return Poll::Pending };
        match &mut self.timer {
            Some(timer) if timer.deadline() == due => {}
            Some(timer) => timer.as_mut().reset(due),
            None => self.timer = Some(Box::pin(sleep_until(due))),
        }
        self.timer.as_mut().map_or(Poll::Pending, |timer| timer.as_mut().poll(context))
    }

    /// What was taken out of the order goes on, if it is time and no frame is cut in two by that.
    fn give_back(&mut self, terms: &Terms, now: Instant) {
        let between = self.frames.as_ref().is_none_or(Frames::is_between);
        if !between {
            return;
        }
        let in_effect = |fault| terms.conditions.frames.iter().any(|other| other.fault == fault);
        while let Some(frame) = self.kept.take_released(in_effect) {
            self.give_back_one(&frame);
        }
        if let Some(frame) = self.kept.take_late(Some(now)) {
            self.give_back_one(&frame);
        }
    }

    fn give_back_one(&mut self, frame: &Whole) {
        self.kept.send_off(&frame.bytes, None);
        self.track(|tracker| tracker.hand_on_whole(frame.number, frame.bytes.len(), false));
    }

    /// The connection ends, by this rule or because an end of it is gone.
    pub(super) fn close(&mut self, rule: Option<Rule>) {
        self.track(|tracker| tracker.end(rule));
    }

    fn track(&mut self, tell: impl FnOnce(&mut Tracker)) {
        if let Some(tracker) = &mut self.tracker {
            tell(tracker);
        }
    }

    fn wrote(&mut self, bytes: usize) {
        self.way.counters.bytes.add(bytes as u64);
        self.track(|tracker| tracker.wrote(bytes));
    }

    fn read(
        &mut self,
        context: &mut Context,
        terms: &Terms,
        from: &mut ReadHalf,
        to: &mut WriteHalf,
        from_lost: bool,
    ) -> Poll<Result<Turn, Result<End, Cut>>> {
        SCRATCH.with_borrow_mut(|scratch| {
            let mut buffer = ReadBuf::new(&mut scratch[..at_once(terms)]);
            let read = ready!(Pin::new(from).poll_read(context, &mut buffer));
            let bytes = buffer.filled();
            self.all_reads.notify_one();
            Poll::Ready(match read {
                Ok(()) if !bytes.is_empty() => {
                    self.track(|tracker| tracker.read(bytes));
                    let unseen = terms.are_plain()
                        && self.kept.is_empty()
                        && self.frames.as_ref().is_none_or(Frames::may_pass);
                    if unseen {
                        self.pass(context, bytes, to).map_err(Ok)
                    } else {
                        self.take(terms, bytes).map(|()| Turn::Again).map_err(Err)
                    }
                }
                Ok(()) if !from_lost => {
                    self.end(terms, Ended::Stream);
                    Ok(Turn::Again)
                }
                Ok(()) | Err(_) => {
                    self.end(terms, Ended::Source);
                    Ok(Turn::Again)
                }
            })
        })
    }

    /// Writes what was read, as far as the receiver takes it.
    fn pass(&mut self, context: &mut Context, mut bytes: &[u8], to: &mut WriteHalf) -> Result<Turn, End> {
        self.travels = None;
        if let Some(frames) = &mut self.frames {
            self.way.counters.frames.add(frames.pass(bytes));
        }
        self.track(|tracker| tracker.hand_on(bytes.len()));
        while !bytes.is_empty() {
            match Pin::new(&mut *to).poll_write(context, bytes) {
                Poll::Ready(Ok(written)) => {
                    self.wrote(written);
                    bytes = &bytes[written..];
                }
                Poll::Ready(Err(_)) => return Err(End::Undeliverable),
                Poll::Pending => {
                    self.kept.arrive(bytes);
                    return Ok(Turn::Wait);
                }
            }
        }
        Ok(Turn::Again)
    }

    /// Looks at what was read and does what the terms say.
    fn take(&mut self, terms: &Terms, mut bytes: &[u8]) -> Result<(), Cut> {
        let Some(mut frames) = self.frames.take() else { return self.take_read(terms, bytes) };
        while let Some(part) = frames.next(&mut bytes) {
            let part = match part {
                Part::Begins { number, length } => {
                    self.way.counters.frames.add(1);
                    let seen = recognise(self.way.link, self.forward, number, frames.first_bytes());
                    let seen = seen.filter(|_| number == 0 || self.protocol != Protocol::Sealed);
                    let fate = self.judge(terms, number, length, seen);
                    frames.decide(fate)
                }
                part => Some(part),
            };
            match part {
                Some(Part::Passes { bytes, ends }) => {
                    self.send_off(terms, &bytes);
                    self.track(|tracker| tracker.hand_on(bytes.len()));
                    if ends {
                        self.let_late_follow(terms);
                    }
                }
                Some(Part::Taken { frame, deed, fault }) => self.carry_out(terms, deed, fault, frame),
                Some(Part::Begins { .. }) | None => {}
            }
        }
        self.frames = Some(frames);
        Ok(())
    }

    /// As [`take`](Self::take), without frames.
    fn take_read(&mut self, terms: &Terms, bytes: &[u8]) -> Result<(), Cut> {
        self.reads += 1;
        match self.judge(terms, self.reads, bytes.len(), None) {
            Fate::Pass => {
                self.send_off(terms, bytes);
                Ok(())
            }
            Fate::Drop | Fate::Take { .. } => Err(Cut::Ruled(Rule::Sever)),
        }
    }

    /// What becomes of a frame that begins, and how long it travels.
    fn judge(&mut self, terms: &Terms, number: u64, length: usize, seen: Option<Seen>) -> Fate {
        for watcher in &terms.watchers {
            watcher.look(seen.as_ref());
        }
        let delays = terms.conditions.delays.iter().zip(0..);
        let travels: Duration = delays.map(|(delay, index)| delay.draw(self.draw(number, index))).sum();
        self.travels = (!terms.conditions.delays.is_empty()).then_some(travels);
        let delayed = self.travels.is_some() || terms.conditions.bandwidth.is_some();
        self.way.counters.delayed.add(u64::from(delayed));
        let mut meant = terms.conditions.frames.iter().filter(|fault| fault.matching.means(seen.as_ref()));
        let strikes = |strikes, fault| match strikes {
            Strikes::All => true,
            Strikes::Chance(chance) => self.draw(number, 1 << 63 | fault).fraction() < chance,
            Strikes::Nth(nth) => self.way.count(fault) == nth,
        };
        match meant.find(|fault| strikes(fault.strikes, fault.fault)) {
            None => Fate::Pass,
            Some(fault) => match fault.deed {
                Deed::Drop => {
                    let number = fault.fault;
                    self.way.counters.dropped.add(1);
                    self.way.strike(number);
                    self.track(|tracker| tracker.drop_frame(number));
                    Fate::Drop
                }
                _ if length > Deed::MAX_KEPT => Fate::Pass,
                deed => Fate::Take { deed, fault: fault.fault },
            },
        }
    }

    /// Does to a frame that was taken out what the fault of this number does.
    fn carry_out(&mut self, terms: &Terms, deed: Deed, fault: u64, bytes: Vec<u8>) {
        let number = self.tracker.as_mut().map_or(0, |tracker| tracker.take_out(fault));
        let frame = Whole { number, bytes };
        let counters = &self.way.counters;
        match deed {
            Deed::Duplicate => {
                counters.duplicated.add(1);
                self.way.strike(fault);
                self.send_off_whole(terms, &frame, true);
                self.send_off_whole(terms, &frame, false);
                self.let_late_follow(terms);
            }
            Deed::Reorder { at_most } => match self.kept.make_late(frame, Instant::now() + at_most) {
                Ok(()) => {
                    counters.reordered.add(1);
                    self.way.strike(fault);
                }
                Err(second) => {
                    self.track(|tracker| tracker.spare(second.number));
                    self.send_off_whole(terms, &second, false);
                    self.let_late_follow(terms);
                }
            },
            Deed::Hold => {
                counters.held.add(1);
                self.way.strike(fault);
                self.kept.catch(fault, frame);
            }
            Deed::Drop => unreachable!("a frame that is dropped is not taken out"),
        }
    }

    /// A frame has passed, so the one that waited for that follows.
    fn let_late_follow(&mut self, terms: &Terms) {
        if let Some(late) = self.kept.take_late(None) {
            self.send_off_whole(terms, &late, false);
        }
    }

    /// A frame that was taken out leaves; `stays`: and will leave once more.
    fn send_off_whole(&mut self, terms: &Terms, frame: &Whole, stays: bool) {
        self.send_off(terms, &frame.bytes);
        self.track(|tracker| tracker.hand_on_whole(frame.number, frame.bytes.len(), stays));
    }

    /// Bytes leave the source, and arrive when the terms say.
    fn send_off(&mut self, terms: &Terms, bytes: &[u8]) {
        let due = match (terms.conditions.bandwidth, self.travels) {
            (None, None) => None,
            (bandwidth, travels) => {
                let now = Instant::now();
                let sent = bandwidth.map_or(now, |bandwidth| self.way.occupy(bytes.len(), bandwidth, now));
                Some(sent + travels.unwrap_or_default())
            }
        };
        self.kept.send_off(bytes, due);
    }

    /// Nothing more comes from the source; that travels too, and does not overtake.
    fn end(&mut self, terms: &Terms, ended: Ended) {
        match ended {
            Ended::Source => self.kept.forget(),
            Ended::Stream => {
                let between = self.frames.as_ref().is_none_or(Frames::is_between);
                if between {
                    self.let_late_follow(terms);
                }
                self.count_last();
                let leftover = self.frames.as_mut().map(Frames::leftover).unwrap_or_default();
                self.send_off(terms, &leftover);
                self.track(|tracker| tracker.hand_on(leftover.len()));
                if !between || !leftover.is_empty() {
                    // behind a part of a frame nothing can follow
                    self.kept.forget();
                }
            }
        }
        let delayed = !terms.conditions.delays.is_empty() || terms.conditions.slow_close.is_some();
        self.way.counters.delayed.add(u64::from(delayed));
        let draw = |purpose| self.draw(u64::MAX, purpose);
        let delays = terms.conditions.delays.iter().zip(0..).map(|(delay, index)| delay.draw(draw(index)));
        let due = Instant::now() + delays.sum() + terms.conditions.slow_close.unwrap_or_default();
        self.ended = Some((ended, self.kept.last_due().map_or(due, |last| due.max(last))));
    }

    /// Nothing more is read: a frame that began, and of which too little has come to decide anything, counts as well.
    fn count_last(&mut self) {
        if self.frames.as_ref().is_some_and(Frames::has_begun_undecided) {
            self.way.counters.frames.add(1);
        }
    }

    fn draw(&self, frame: u64, purpose: u64) -> Draw {
        // both directions of a connection may obey one link
        let connection = self.connection * 2 + u64::from(self.forward);
        Draw { seed: self.seed, link: self.way.link, connection, frame, purpose }
    }
}

impl Drop for Pump {
    fn drop(&mut self) {
        self.count_last();
    }
}

/// How many bytes are read at once: on a narrow link so few that they do not arrive in lumps.
fn at_once(terms: &Terms) -> usize {
    terms
        .conditions
        .bandwidth
        .map_or(BUFFER, |bandwidth| (bandwidth / 100).clamp(512, BUFFER as u64) as usize)
}
