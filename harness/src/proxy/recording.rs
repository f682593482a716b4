//! What is recorded of the messages between nodes: when each frame was read and written, what it is, and what became of it.
//!
//! Every direction of a connection follows its frames on its own ([`Tracker`]). When a frame's fate is known, some ten bytes of
//! it are appended to what is collected of its link, which has an end: what comes when it is full is lost to the record, and
//! counted. A thread of its own takes what there is of all links, ten times a second, and writes it down, so a slow disk
//! delays no frame.

use std::{
    collections::{BTreeMap, VecDeque},
    io,
    path::Path,
    sync::{Arc, Mutex, PoisonError, mpsc},
    thread::JoinHandle,
    time::Duration,
};

use store::node::wire::PEEK;

use super::{Kind, Link, Protocol, Rule};
use crate::{
    clock::boottime_ns,
    messages::{Block, Fate, Message, Told, Writer},
};

/// How often what was collected is written.
const INTERVAL: Duration = Duration::from_millis(100);

/// The most bytes that are collected of one link: at ten bytes a frame, a hundred thousand in the time until they are taken.
const MOST: usize = 1 << 20;

/// The most frames that one direction of a connection follows at once.
const MOST_OPEN: usize = 1 << 16;

/// Bytes of the length before a frame.
const HEAD: usize = 4;

/// What is collected of one link.
#[derive(Debug)]
pub(super) struct LinkRecord {
    from: u64,
    to: u64,
    /// The machine's clock at time 0 of the history.
    origin: u64,
    block: Mutex<Block>,
}

impl LinkRecord {
    fn new(from: u64, to: u64, origin: u64) -> Self {
        Self { from, to, origin, block: Mutex::default() }
    }

    fn push(&self, message: &Message) {
        let mut block = self.block.lock().unwrap_or_else(PoisonError::into_inner);
        if block.len() < MOST { block.push(message) } else { block.lose(1) }
    }

    fn lose(&self, many: u64) {
        self.block.lock().unwrap_or_else(PoisonError::into_inner).lose(many);
    }

    fn take(&self) -> Block {
        std::mem::take(&mut *self.block.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// The thread that writes. Dropping it writes what there is.
pub(super) struct Recording {
    stop: Option<mpsc::Sender<()>>,
    thread: Option<JoinHandle<io::Result<()>>>,
}

impl Recording {
    /// Begins to record these links in a run's folder; what each of them appends to.
    pub(super) fn start(
        folder: &Path,
        origin: u64,
        links: impl Iterator<Item = Link>,
    ) -> io::Result<(Self, BTreeMap<Link, Arc<LinkRecord>>)> {
        let record = |link: Link| {
            let (from, to) = link.nodes()?;
            Some((link, Arc::new(LinkRecord::new(from, to, origin))))
        };
        let records: BTreeMap<Link, Arc<LinkRecord>> = links.filter_map(record).collect();
        let mut writer = Writer::create(folder)?;
        let all: Vec<Arc<LinkRecord>> = records.values().cloned().collect();
        let (stop, stopping) = mpsc::channel();
        let body = move || {
            // nothing is ever sent: an error that is no timeout says that this is to end
            while stopping.recv_timeout(INTERVAL) == Err(mpsc::RecvTimeoutError::Timeout) {
                write_down(&mut writer, &all)?;
            }
            write_down(&mut writer, &all)?;
            writer.finish()
        };
        let thread = std::thread::Builder::new().name("messages".to_owned()).spawn(body)?;
        Ok((Self { stop: Some(stop), thread: Some(thread) }, records))
    }

    /// Writes what there is; an error says why the record ends before this.
    pub(super) fn finish(mut self) -> io::Result<()> {
        self.end()
    }

    fn end(&mut self) -> io::Result<()> {
        drop(self.stop.take());
        let Some(thread) = self.thread.take() else { return Ok(()) };
        thread.join().unwrap_or_else(|_| Err(io::Error::other("the thread that writes messages panicked")))
    }
}

impl Drop for Recording {
    fn drop(&mut self) {
        // whoever wants to know has called `finish`
        let _ = self.end();
    }
}

fn write_down(writer: &mut Writer, records: &[Arc<LinkRecord>]) -> io::Result<()> {
    for record in records {
        let block = record.take();
        if !block.is_empty() {
            writer.write(record.from, record.to, &block)?;
        }
    }
    Ok(())
}

/// Follows the frames of one direction of a connection, from its first byte to its end.
#[derive(Debug)]
pub(super) struct Tracker {
    record: Arc<LinkRecord>,
    connection: u64,
    back: bool,
    protocol: Protocol,
    /// Time of the last read, in nanoseconds of the history.
    read_at: u64,
    /// Where the reading is.
    reading: Reading,
    /// Frames that have begun and of which nothing is decided or not all has been handed on, in order.
    begun: VecDeque<Frame>,
    /// Bytes of the first of these that were handed on.
    handed: u64,
    /// Frames that wait to be written, with the number of bytes that are when they are.
    on_way: VecDeque<(u64, Frame)>,
    /// Frames that were taken out of the order.
    aside: BTreeMap<u64, Frame>,
    /// Bytes that were handed on to be written, and bytes that were written.
    queued: u64,
    written: u64,
    /// The connection has ended, and by this rule, if it was one.
    ended: bool,
    rule: Option<Rule>,
}

#[derive(Debug, Default)]
struct Reading {
    /// Frames that have begun so far.
    frames: u64,
    /// Of the length of a frame, as far as it was read.
    head: [u8; HEAD],
    got: usize,
    /// Bytes of the content that are to come.
    left: usize,
    /// First bytes of the content, as long as there are not enough of them.
    first: Vec<u8>,
}

#[derive(Clone, Debug)]
struct Frame {
    number: u64,
    sent: u64,
    /// With its length; none: that is not known yet.
    bytes: Option<u64>,
    told: Option<Told>,
    fault: Option<u64>,
    again: bool,
}

impl Tracker {
    /// At the start of a direction of connection number `connection`; `back`: against the one in which that was dialed.
    pub(super) fn new(record: Arc<LinkRecord>, connection: u64, back: bool, protocol: Protocol) -> Self {
        Self {
            record,
            connection,
            back,
            protocol,
            read_at: 0,
            reading: Reading::default(),
            begun: VecDeque::new(),
            handed: 0,
            on_way: VecDeque::new(),
            aside: BTreeMap::new(),
            queued: 0,
            written: 0,
            ended: false,
            rule: None,
        }
    }

    /// These bytes were read just now.
    pub(super) fn read(&mut self, mut bytes: &[u8]) {
        self.read_at = self.now();
        while !bytes.is_empty() {
            let reading = &mut self.reading;
            if reading.got < HEAD {
                if reading.got == 0 {
                    let frame = Frame {
                        number: reading.frames,
                        sent: self.read_at,
                        bytes: None,
                        told: None,
                        fault: None,
                        again: false,
                    };
                    self.begun.push_back(frame);
                    reading.frames += 1;
                }
                let some = bytes.len().min(HEAD - reading.got);
                reading.head[reading.got..reading.got + some].copy_from_slice(&bytes[..some]);
                reading.got += some;
                bytes = &bytes[some..];
                if reading.got < HEAD {
                    return;
                }
                reading.left = u32::from_be_bytes(reading.head) as usize;
                let length = (HEAD + reading.left) as u64;
                if let Some(frame) = self.begun.back_mut() {
                    frame.bytes = Some(length);
                }
                if reading.left == 0 {
                    self.tell(&[]);
                    self.reading.got = 0;
                }
                continue;
            }
            let some = bytes.len().min(reading.left);
            let content = u32::from_be_bytes(reading.head) as usize;
            let wanted = content.min(PEEK);
            let before = content - reading.left;
            reading.left -= some;
            let ends = reading.left == 0;
            if before == 0 && some >= wanted {
                self.tell(&bytes[..wanted]);
            } else if before < wanted {
                let mut first = std::mem::take(&mut reading.first);
                first.extend_from_slice(&bytes[..some.min(wanted - before)]);
                if first.len() == wanted {
                    self.tell(&first);
                    first.clear();
                }
                self.reading.first = first;
            }
            if ends {
                self.reading.got = 0;
            }
            bytes = &bytes[some..];
        }
    }

    /// So many bytes of frames that pass were handed on to be written.
    pub(super) fn hand_on(&mut self, bytes: usize) {
        self.queued += bytes as u64;
        self.handed += bytes as u64;
        while let Some(whole) = self.begun.front().and_then(|frame| frame.bytes)
            && self.handed >= whole
            && let Some(frame) = self.begun.pop_front()
        {
            self.handed -= whole;
            let end = self.queued - self.handed;
            self.put_on_way(end, frame);
        }
    }

    /// The frame that has just begun is dropped by this fault.
    pub(super) fn drop_frame(&mut self, fault: u64) {
        if let Some(frame) = self.begun.pop_front() {
            self.record(&Frame { fault: Some(fault), ..frame }, Fate::Dropped);
        }
    }

    /// The frame that has just been read whole is taken out by this fault; its number.
    pub(super) fn take_out(&mut self, fault: u64) -> u64 {
        let Some(frame) = self.begun.pop_front() else { return u64::MAX };
        let number = frame.number;
        self.aside.insert(number, Frame { fault: Some(fault), ..frame });
        number
    }

    /// The frame of this number was taken out in vain: nothing is done to it.
    pub(super) fn spare(&mut self, number: u64) {
        if let Some(frame) = self.aside.get_mut(&number) {
            frame.fault = None;
        }
    }

    /// The frame of this number, which was taken out, was handed on whole; `stays`: and will be once more.
    pub(super) fn hand_on_whole(&mut self, number: u64, bytes: usize, stays: bool) {
        self.queued += bytes as u64;
        let Some(frame) = self.aside.remove(&number) else { return };
        if stays {
            self.aside.insert(number, Frame { again: true, ..frame.clone() });
        }
        self.put_on_way(self.queued, frame);
    }

    /// So many bytes were written just now.
    pub(super) fn wrote(&mut self, bytes: usize) {
        self.written += bytes as u64;
        if self.on_way.front().is_none_or(|(end, _)| *end > self.written) {
            return;
        }
        let now = self.now();
        while let Some((_, frame)) = self.on_way.pop_front_if(|(end, _)| *end <= self.written) {
            self.record(&frame, Fate::Arrived(now));
        }
    }

    /// The connection ends, by this rule or because an end is gone.
    pub(super) fn end(&mut self, rule: Option<Rule>) {
        (self.ended, self.rule) = (true, rule);
    }

    fn put_on_way(&mut self, end: u64, frame: Frame) {
        if self.on_way.len() + self.aside.len() < MOST_OPEN {
            self.on_way.push_back((end, frame));
        } else {
            self.record.lose(1);
        }
    }

    /// The frame that is being read begins with these bytes.
    fn tell(&mut self, first_bytes: &[u8]) {
        let number = self.reading.frames - 1;
        let told = match (number, self.back, self.protocol) {
            (0, false, _) => Some(Told::plain(Kind::Handshake)),
            (0, true, _) => Some(Told::plain(Kind::Verdict)),
            (_, _, Protocol::Frames) => Told::of(first_bytes),
            (_, _, Protocol::Sealed | Protocol::Bytes) => None,
        };
        if let Some(frame) = self.begun.back_mut() {
            frame.told = told;
        }
    }

    fn now(&self) -> u64 {
        boottime_ns().saturating_sub(self.record.origin)
    }

    fn record(&self, frame: &Frame, fate: Fate) {
        let Frame { number, sent, told, fault, again, .. } = *frame;
        let LinkRecord { from, to, .. } = *self.record;
        let (connection, back) = (self.connection, self.back);
        self.record.push(&Message { sent, from, to, connection, back, number, told, fate, fault, again });
    }
}

impl Drop for Tracker {
    /// Whatever has not arrived does not.
    fn drop(&mut self) {
        let fate = if self.ended { Fate::Cut(self.now(), self.rule) } else { Fate::Open };
        let on_way = std::mem::take(&mut self.on_way).into_iter().map(|(_, frame)| frame);
        let begun = std::mem::take(&mut self.begun);
        let aside = std::mem::take(&mut self.aside).into_values();
        for frame in on_way.chain(aside).chain(begun) {
            self.record(&frame, fate);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use store::{api::Ballot, core, core::message::GroupMessage, node::wire::encode};
    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        net::{TcpListener, TcpStream},
        time::timeout,
    };

    use super::*;
    use crate::{
        messages::Messages,
        proxy::{Conditions, Deed, FrameFault, LinkCounters, Match, Network, Strikes},
    };

    fn framed(content: &[u8]) -> Vec<u8> {
        [&(content.len() as u32).to_be_bytes()[..], content].concat()
    }

    fn release(number: u64) -> Vec<u8> {
        let message = GroupMessage::LeaseRelease { ballot: Ballot { number, ..Ballot::BOTTOM } };
        framed(&encode(&core::Message::Group { partition: 3, message }))
    }

    fn tracker(record: &Arc<LinkRecord>) -> Tracker {
        Tracker::new(Arc::clone(record), 0, false, Protocol::Frames)
    }

    /// What a file holds, in the order of the file.
    fn all(folder: &Path) -> (Vec<Message>, Messages) {
        let messages = Messages::open(folder).expect("readable").expect("recorded");
        let mut all = Vec::new();
        messages.between(0, u64::MAX, |message| all.push(message)).expect("read");
        (all, messages)
    }

    fn written(record: &LinkRecord) -> (Vec<Message>, Messages) {
        let folder = tempfile::tempdir().expect("a folder");
        let mut writer = Writer::create(folder.path()).expect("begun");
        writer.write(1, 2, &record.take()).expect("written");
        writer.finish().expect("finished");
        all(folder.path())
    }

    #[test]
    fn frames_are_known_and_in_order_however_they_are_cut_up() {
        let mut stream = framed(b"hello");
        (1..9).for_each(|number| stream.extend(release(number)));
        stream.extend(framed(b""));
        stream.extend(framed(&[9; 300]));
        for piece in 1..stream.len() {
            let record = Arc::new(LinkRecord::new(1, 2, 0));
            let mut tracker = tracker(&record);
            for bytes in stream.chunks(piece) {
                tracker.read(bytes);
                tracker.hand_on(bytes.len());
                tracker.wrote(bytes.len());
            }
            drop(tracker);
            let (all, _) = written(&record);
            let numbers: Vec<u64> = all.iter().map(|message| message.number).collect();
            assert_eq!(numbers, (0..11).collect::<Vec<_>>(), "{piece}");
            assert!(all.iter().all(|message| message.arrived().is_some()), "{piece}");
            let ballots: Vec<Option<u64>> = all
                .iter()
                .map(|message| message.told.and_then(|told| told.group).map(|(_, ballot)| ballot.number))
                .collect();
            let known = (1..9).map(Some);
            assert_eq!(
                ballots,
                [None].into_iter().chain(known).chain([None; 2]).collect::<Vec<_>>(),
                "{piece}"
            );
            assert_eq!(all[0].told, Some(Told::plain(Kind::Handshake)));
            assert_eq!((all[9].told, all[10].told), (None, None));
        }
    }

    #[test]
    fn what_a_full_record_does_not_take_is_counted() {
        let record = Arc::new(LinkRecord::new(1, 2, 0));
        let mut tracker = tracker(&record);
        let (frame, many) = (release(1), 200_000);
        for _ in 0..many {
            tracker.read(&frame);
            tracker.hand_on(frame.len());
            tracker.wrote(frame.len());
        }
        // and of what cannot be followed: these wait for a receiver that takes nothing
        for _ in 0..MOST_OPEN + 10 {
            tracker.read(&frame);
            tracker.hand_on(frame.len());
        }
        drop(tracker);
        assert!(record.block.lock().expect("whole").len() < MOST + 64);
        let (all, messages) = written(&record);
        assert!(messages.lost > 10 && !all.is_empty(), "{} lost", messages.lost);
        assert_eq!(messages.count + messages.lost, many + MOST_OPEN as u64 + 10);
        assert_eq!(messages.count, all.len() as u64);
    }

    async fn soon<T>(work: impl Future<Output = T>) -> T {
        timeout(Duration::from_secs(20), work).await.expect("in time")
    }

    /// Whether a record has each frame that was counted, once; one that was doubled twice.
    fn agrees(counters: &LinkCounters, recorded: &[Message], lost: u64) -> bool {
        let its = recorded.iter().filter(|message| counters.link == Link::between(message.from, message.to));
        its.count() as u64 + lost == counters.frames + counters.duplicated
    }

    #[tokio::test]
    async fn every_frame_that_is_counted_is_recorded_with_what_became_of_it() {
        let folder = tempfile::tempdir().expect("a folder");
        let network = Network::start(&[1, 2], &[1], Protocol::Frames, 1).await.expect("a network");
        network.record(folder.path(), 0).expect("recorded");
        let node = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        network.set_target(2, Some(node.local_addr().expect("bound")));
        let link = Link::between(1, 2);
        let fault = |fault, nth, deed| {
            let (matching, strikes) = (Match::default(), Strikes::Nth(nth));
            Conditions::from(FrameFault { fault, matching, strikes, deed })
        };
        let mut faults = fault(1, 2, Deed::Drop);
        faults += fault(2, 3, Deed::Duplicate);
        faults += fault(3, 4, Deed::Reorder { at_most: Duration::from_secs(20) });
        faults += fault(4, 5, Deed::Hold);
        soon(network.switch(BTreeMap::from([(link, faults)]))).await;
        let connect = TcpStream::connect(network.address(link));
        let (sender, accepted) = tokio::join!(soon(connect), soon(node.accept()));
        let (mut sender, mut receiver) = (sender.expect("connected"), accepted.expect("accepted").0);
        let mut stream = framed(b"hello");
        (1..11).for_each(|number| stream.extend(release(number)));
        sender.write_all(&stream).await.expect("sent");
        // one is dropped, one doubled, one held
        let mut came = vec![0; stream.len() - release(1).len()];
        soon(receiver.read_exact(&mut came)).await.expect("received");
        soon(network.open()).await;
        let mut held = vec![0; release(8).len()];
        soon(receiver.read_exact(&mut held)).await.expect("received");
        // the rest of this one never comes
        sender.write_all(&release(99)[..3]).await.expect("sent");
        soon(receiver.read_exact(&mut [0; 3])).await.expect("received");
        soon(network.switch(BTreeMap::from([(link, Rule::Sever)]))).await;
        soon(network.shutdown()).await.expect("closed");
        let (messages, summary) = all(folder.path());
        let counters = network.counters();
        assert_eq!(summary.missing(), None);
        let between = counters.iter().filter(|counters| counters.link.nodes().is_some());
        for counters in between.clone() {
            assert!(agrees(counters, &messages, 0), "{counters:?} {messages:#?}");
        }
        assert_eq!(between.map(|counters| counters.frames).max(), Some(12));
        let of = |number| -> Vec<&Message> {
            messages.iter().filter(|message| message.from == 1 && message.number == number).collect()
        };
        let struck = |number: u64| of(number)[0].fault;
        // what one fault has struck, those behind it do not count
        let expected = [None, Some(1), None, Some(2), None, Some(3), None, Some(4)];
        assert_eq!((1..9).map(struck).collect::<Vec<_>>(), expected);
        assert_eq!(of(2)[0].fate, Fate::Dropped);
        assert_eq!(of(4).iter().map(|message| message.again).collect::<Vec<_>>(), [false, true]);
        assert!(of(11)[0].arrived().is_none(), "{:?}", of(11));
        // a record that has lost one without a word does not agree
        let missing = &messages[1..];
        assert!(!counters.iter().all(|counters| agrees(counters, missing, 0)));
    }
}
