//! Where a stream of frames is: each frame is 4 bytes of length, big-endian, then its content.

use std::borrow::Cow;

use store::node::wire;

use super::{Deed, Endpoint, Kind, Link, Seen};

/// Bytes of the length before a frame.
const HEAD: usize = 4;

/// Follows one direction of a connection from its first byte.
#[derive(Debug)]
pub(super) struct Frames {
    /// Number of the frame in `place`, from 0.
    number: u64,
    place: Place,
    /// The first bytes of a frame of which nothing has been let past yet, or all of one that is kept.
    begun: Vec<u8>,
}

#[derive(Debug)]
enum Place {
    /// What becomes of the frame is not decided yet.
    Start,
    /// It passes, and its length has not passed completely.
    PassingHead { head: [u8; HEAD], got: usize },
    /// So many bytes are to come of it.
    Body { left: usize, fate: Fate },
}

/// What becomes of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// It passes.
    Pass,
    /// It is dropped.
    Drop,
    /// It is taken out whole: what is done with it, and the number of the fault that does.
    Take { deed: Deed, fault: u64 },
}

/// The next thing in a stream.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Part<'a> {
    /// A frame begins, and these are enough bytes of it, its length not among them, to tell what it is. [`Frames::decide`]
    /// must be called next.
    Begins { number: u64, length: usize },
    /// Bytes of a frame that passes, and whether it ends with them.
    Passes { bytes: Cow<'a, [u8]>, ends: bool },
    /// A whole frame that was to be taken out.
    Taken { frame: Vec<u8>, deed: Deed, fault: u64 },
}

impl Frames {
    /// At the start of a stream.
    pub(super) fn new() -> Self {
        Self { number: 0, place: Place::Start, begun: Vec::new() }
    }

    /// True when the bytes that come next may pass without [`next`](Self::next).
    pub(super) fn may_pass(&self) -> bool {
        match self.place {
            Place::Start => self.begun.is_empty(),
            Place::PassingHead { .. } => true,
            Place::Body { fate, .. } => fate == Fate::Pass,
        }
    }

    /// True between two frames of which nothing has been let past: something else may be put there.
    pub(super) fn is_between(&self) -> bool {
        matches!(self.place, Place::Start)
    }

    /// All of these bytes pass; returns how many frames began with them.
    pub(super) fn pass(&mut self, mut bytes: &[u8]) -> u64 {
        let mut begun = 0;
        while let [first, ..] = bytes {
            match &mut self.place {
                Place::Start => {
                    begun += 1;
                    self.place = Place::PassingHead { head: [0; HEAD], got: 0 };
                    if let Some((head, rest)) = bytes.split_first_chunk() {
                        bytes = rest;
                        self.headed(*head);
                    }
                }
                Place::PassingHead { head, got } => {
                    head[*got] = *first;
                    *got += 1;
                    bytes = &bytes[1..];
                    if *got == HEAD {
                        let head = *head;
                        self.headed(head);
                    }
                }
                Place::Body { left, .. } => {
                    let some = bytes.len().min(*left);
                    *left -= some;
                    bytes = &bytes[some..];
                    self.end_if_complete();
                }
            }
        }
        begun
    }

    /// The next part of `bytes`, which it takes off their front.
    pub(super) fn next<'a>(&mut self, bytes: &mut &'a [u8]) -> Option<Part<'a>> {
        match &mut self.place {
            Place::Start => {
                let wanted =
                    if self.begun.len() < HEAD { HEAD } else { HEAD + self.length().min(wire::PEEK) };
                self.begun.extend_from_slice(take(bytes, wanted - self.begun.len()));
                if self.begun.len() < wanted {
                    return None;
                }
                if wanted == HEAD && self.length() > 0 {
                    return self.next(bytes);
                }
                Some(Part::Begins { number: self.number, length: self.length() })
            }
            _ if bytes.is_empty() => None,
            Place::PassingHead { got, .. } => {
                let passing = take(bytes, HEAD - *got);
                self.pass(passing);
                Some(Part::Passes { bytes: passing.into(), ends: self.is_between() })
            }
            Place::Body { left, fate } => {
                let (some, fate) = (take(bytes, *left), *fate);
                *left -= some.len();
                match fate {
                    Fate::Pass => {
                        self.end_if_complete();
                        Some(Part::Passes { bytes: some.into(), ends: self.is_between() })
                    }
                    Fate::Drop => {
                        self.end_if_complete();
                        self.next(bytes)
                    }
                    Fate::Take { deed, fault } => {
                        self.begun.extend_from_slice(some);
                        self.end_if_complete();
                        let ends = self.is_between();
                        ends.then(|| Part::Taken { frame: std::mem::take(&mut self.begun), deed, fault })
                    }
                }
            }
        }
    }

    /// What becomes of the frame that has just begun; returns what comes of that at once.
    pub(super) fn decide(&mut self, fate: Fate) -> Option<Part<'static>> {
        let left = HEAD + self.length() - self.begun.len();
        self.place = Place::Body { left, fate };
        self.end_if_complete();
        let ends = self.is_between();
        match fate {
            Fate::Pass => Some(Part::Passes { bytes: std::mem::take(&mut self.begun).into(), ends }),
            Fate::Drop => {
                self.begun.clear();
                None
            }
            Fate::Take { deed, fault } => {
                ends.then(|| Part::Taken { frame: std::mem::take(&mut self.begun), deed, fault })
            }
        }
    }

    /// The first bytes of the frame that has begun, without its length.
    pub(super) fn first_bytes(&self) -> &[u8] {
        self.begun.get(HEAD..).unwrap_or_default()
    }

    /// Whether a frame has begun of which too little has come to decide anything.
    pub(super) fn has_begun_undecided(&self) -> bool {
        self.is_between() && !self.begun.is_empty()
    }

    /// What is left at the end of the stream of a frame that was cut off.
    pub(super) fn leftover(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.begun)
    }

    /// Length of the frame that has begun.
    fn length(&self) -> usize {
        self.begun.first_chunk().map_or(0, |head| u32::from_be_bytes(*head) as usize)
    }

    fn headed(&mut self, head: [u8; HEAD]) {
        self.place = Place::Body { left: u32::from_be_bytes(head) as usize, fate: Fate::Pass };
        self.end_if_complete();
    }

    fn end_if_complete(&mut self) {
        if let Place::Body { left: 0, .. } = self.place {
            self.place = Place::Start;
            self.number += 1;
        }
    }
}

fn take<'a>(bytes: &mut &'a [u8], most: usize) -> &'a [u8] {
    let (taken, rest) = bytes.split_at(most.min(bytes.len()));
    *bytes = rest;
    taken
}

/// What a frame of the store's protocol is, by its place on the connection and its first bytes.
pub(super) fn recognise(link: Link, forward: bool, number: u64, first_bytes: &[u8]) -> Option<Seen> {
    let plain = |kind| Some(Seen { kind, partition: None, ballot: None });
    match (link.from, link.to, forward) {
        (_, _, true) if number == 0 => plain(Kind::Handshake),
        (_, _, false) if number == 0 => plain(Kind::Verdict),
        (Endpoint::Client(_), _, true) => plain(Kind::Request),
        (_, Endpoint::Client(_), false) => plain(Kind::Reply),
        _ => wire::peek(first_bytes),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(content: &[u8]) -> Vec<u8> {
        let mut frame = (content.len() as u32).to_be_bytes().to_vec();
        frame.extend_from_slice(content);
        frame
    }

    /// Frames of all lengths around the interesting ones.
    fn contents() -> Vec<Vec<u8>> {
        [0, 1, 3, 4, 5, 47, 48, 49, 100, 0, 0, 1000].map(|length| vec![length as u8; length]).to_vec()
    }

    fn stream() -> Vec<u8> {
        contents().iter().flat_map(|content| frame(content)).collect()
    }

    /// What comes of the stream when it is read `piece` bytes at a time and every third frame has this fate.
    fn carried_out(piece: usize, fate: Fate) -> (Vec<u8>, Vec<Vec<u8>>) {
        let mut frames = Frames::new();
        let (mut passed, mut taken) = (Vec::new(), Vec::new());
        for mut bytes in stream().chunks(piece) {
            loop {
                let mut part = frames.next(&mut bytes);
                if let Some(Part::Begins { number, length }) = part {
                    assert_eq!(length, contents()[number as usize].len());
                    assert_eq!(frames.first_bytes().len(), length.min(wire::PEEK));
                    part = frames.decide(if number % 3 == 0 { fate } else { Fate::Pass });
                    if part.is_none() {
                        continue;
                    }
                }
                match part {
                    Some(Part::Passes { bytes, .. }) => passed.extend_from_slice(&bytes),
                    Some(Part::Taken { frame, .. }) => taken.push(frame),
                    Some(Part::Begins { .. }) => unreachable!("decided above"),
                    None => break,
                }
            }
            assert!(bytes.is_empty(), "left over: {bytes:?}");
        }
        (passed, taken)
    }

    #[test]
    fn frames_are_found_however_they_are_cut_up() {
        let third = |wanted: bool| -> Vec<Vec<u8>> {
            let all = contents().into_iter().enumerate();
            all.filter(|(number, _)| (number % 3 == 0) == wanted)
                .map(|(_, content)| frame(&content))
                .collect()
        };
        for piece in 1..200 {
            assert_eq!(carried_out(piece, Fate::Pass), (stream(), Vec::new()), "{piece}");
            assert_eq!(carried_out(piece, Fate::Drop), (third(false).concat(), Vec::new()), "{piece}");
            let taken = carried_out(piece, Fate::Take { deed: Deed::Hold, fault: 1 });
            assert_eq!(taken, (third(false).concat(), third(true)), "{piece}");
        }
    }

    #[test]
    fn a_stream_that_passed_unseen_can_be_looked_at_from_any_byte_on() {
        let all = stream();
        for unseen in 0..all.len() {
            let mut frames = Frames::new();
            let (first, mut rest) = all.split_at(unseen);
            let mut begun = frames.pass(first);
            let mut passed = first.to_vec();
            while let Some(part) = frames.next(&mut rest) {
                let part = match part {
                    Part::Begins { number, .. } => {
                        assert_eq!(number, begun, "{unseen}");
                        begun += 1;
                        frames.decide(Fate::Pass)
                    }
                    part => Some(part),
                };
                let Some(Part::Passes { bytes, .. }) = part else { panic!("{part:?}") };
                passed.extend_from_slice(&bytes);
            }
            assert_eq!((begun, passed == all), (contents().len() as u64, true), "{unseen}");
        }
    }
}
