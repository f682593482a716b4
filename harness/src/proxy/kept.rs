//! What one direction of a connection has read and not yet written.

use std::collections::VecDeque;

use tokio::time::Instant;

/// The most bytes that are kept for one direction of a connection, roughly; when so many are, no more are read.
const MOST: usize = 4 << 20;

/// Bytes on their way: what is to be written now, what travels, and what was taken out of the order.
#[derive(Debug, Default)]
pub(super) struct Kept {
    /// To be written now, from `written` on.
    arrived: Vec<u8>,
    written: usize,
    travelling: VecDeque<Piece>,
    /// Follows the next frame that passes, or passes at that time.
    late: Option<(Instant, Whole)>,
    /// Passes when the fault of this number ends.
    caught: Vec<(u64, Whole)>,
    /// Bytes that travel or were taken out.
    bytes: usize,
}

/// A frame that was taken out of the order, with its length, and its number on the connection.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Whole {
    pub(super) number: u64,
    pub(super) bytes: Vec<u8>,
}

#[derive(Debug)]
struct Piece {
    due: Instant,
    bytes: Vec<u8>,
}

impl Kept {
    /// True when nothing was read that is not written.
    pub(super) fn is_empty(&self) -> bool {
        self.to_write().is_empty() && self.bytes == 0
    }

    /// True when there is room for more.
    pub(super) fn has_room(&self) -> bool {
        self.bytes < MOST
    }

    /// What is to be written now.
    pub(super) fn to_write(&self) -> &[u8] {
        &self.arrived[self.written..]
    }

    /// So many bytes of it were written.
    pub(super) fn wrote(&mut self, bytes: usize) {
        self.written += bytes;
        if self.written == self.arrived.len() {
            self.arrived.clear();
            self.written = 0;
        }
    }

    /// These bytes are to be written, behind what already is.
    pub(super) fn arrive(&mut self, bytes: &[u8]) {
        self.arrived.extend_from_slice(bytes);
    }

    /// These bytes travel until `due`, and never overtake what travels already; without `due` they do not travel, but that
    /// holds for them too.
    pub(super) fn send_off(&mut self, bytes: &[u8], due: Option<Instant>) {
        let due = match (self.travelling.back(), due) {
            (None, None) => return self.arrive(bytes),
            (None, Some(due)) => due,
            (Some(last), due) => due.map_or(last.due, |due| due.max(last.due)),
        };
        self.bytes += bytes.len();
        match self.travelling.back_mut() {
            Some(last) if last.due == due => last.bytes.extend_from_slice(bytes),
            _ => self.travelling.push_back(Piece { due, bytes: bytes.to_vec() }),
        }
    }

    /// Whatever is due by `now` arrives. Returns whether anything was.
    pub(super) fn advance(&mut self, now: Instant) -> bool {
        let mut any = false;
        while let Some(piece) = self.travelling.pop_front_if(|piece| piece.due <= now) {
            self.bytes -= piece.bytes.len();
            self.arrive(&piece.bytes);
            any = true;
        }
        any
    }

    /// When the next bytes arrive or are late for too long.
    pub(super) fn next_due(&self) -> Option<Instant> {
        let late = self.late.as_ref().map(|(due, _)| *due);
        [self.travelling.front().map(|piece| piece.due), late].into_iter().flatten().min()
    }

    /// When the last bytes arrive that travel.
    pub(super) fn last_due(&self) -> Option<Instant> {
        self.travelling.back().map(|piece| piece.due)
    }

    /// A frame waits for the next one to pass, but not longer than until `due`. It is given back when one waits already.
    pub(super) fn make_late(&mut self, frame: Whole, due: Instant) -> Result<(), Whole> {
        if self.late.is_some() {
            return Err(frame);
        }
        self.bytes += frame.bytes.len();
        self.late = Some((due, frame));
        Ok(())
    }

    /// The frame that waits for another to pass, which has; or for `due`, if that is given and has come.
    pub(super) fn take_late(&mut self, now: Option<Instant>) -> Option<Whole> {
        let (_, frame) = self.late.take_if(|(due, _)| now.is_none_or(|now| *due <= now))?;
        self.bytes -= frame.bytes.len();
        Some(frame)
    }

    /// A frame waits until the fault of this number ends.
    pub(super) fn catch(&mut self, fault: u64, frame: Whole) {
        self.bytes += frame.bytes.len();
        self.caught.push((fault, frame));
    }

    /// The first frame whose fault is no longer in effect.
    pub(super) fn take_released(&mut self, in_effect: impl Fn(u64) -> bool) -> Option<Whole> {
        let index = self.caught.iter().position(|(fault, _)| !in_effect(*fault))?;
        let (_, frame) = self.caught.remove(index);
        self.bytes -= frame.bytes.len();
        Some(frame)
    }

    /// True when nothing travels and nothing is kept for later, though something may be to be written.
    pub(super) fn is_at_rest(&self) -> bool {
        self.bytes == 0
    }

    /// Drops what is kept for later, since its sender is gone.
    pub(super) fn forget(&mut self) {
        self.bytes -= self.caught.drain(..).map(|(_, frame)| frame.bytes.len()).sum::<usize>();
        let _ = self.take_late(None);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn nothing_overtakes_what_travels() {
        let (start, mut kept) = (Instant::now(), Kept::default());
        let at = |millis| start + Duration::from_millis(millis);
        kept.send_off(b"a", None);
        kept.send_off(b"b", Some(at(20)));
        kept.send_off(b"c", Some(at(10)));
        kept.send_off(b"d", None);
        kept.send_off(b"e", Some(at(30)));
        assert_eq!(kept.to_write(), b"a");
        assert!(!kept.advance(at(19)));
        assert!(kept.advance(at(20)));
        assert_eq!(kept.to_write(), b"abcd");
        kept.wrote(3);
        assert_eq!((kept.to_write(), kept.next_due()), (&b"d"[..], Some(at(30))));
        assert!(kept.advance(at(30)));
        kept.wrote(2);
        assert!(kept.is_empty());
    }

    #[tokio::test]
    async fn what_is_taken_out_counts_as_kept_until_it_is_given_back() {
        let (now, mut kept) = (Instant::now(), Kept::default());
        let whole = |number, bytes: &[u8]| Whole { number, bytes: bytes.to_vec() };
        assert_eq!(kept.make_late(whole(1, b"late"), now), Ok(()));
        assert_eq!(kept.make_late(whole(2, b"also"), now), Err(whole(2, b"also")));
        kept.catch(7, whole(3, b"seven"));
        kept.catch(8, whole(4, &vec![0; MOST]));
        assert!(!kept.has_room() && !kept.is_at_rest());
        assert_eq!(kept.take_released(|fault| fault == 8), Some(whole(3, b"seven")));
        assert_eq!(kept.take_released(|fault| fault == 8), None);
        kept.forget();
        assert!(kept.is_empty() && kept.take_late(None).is_none());
    }
}
