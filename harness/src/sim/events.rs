//! What is due when: the world's agenda, and the fingerprint of all that happened.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BinaryHeap},
    hash::{Hash, Hasher},
};

use store::api::NodeId;

/// Something that happens at its time. Small, since there are many; what it is about lies where it happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Event {
    /// A node has something to do, or a deadline of its own may have come.
    Wake(NodeId),
    /// The next parcel of a link arrives, unless the link has changed since.
    Arrive {
        /// Index of the link.
        link: u32,
        /// The link's epoch when the parcel was scheduled.
        epoch: u32,
    },
    /// A message of a severed connection comes late.
    Straggler(usize),
    /// A link's sender dials.
    Dial(u32),
    /// A disk has synced what it was writing, unless the process has died since.
    Synced {
        /// The node.
        node: NodeId,
        /// Its life.
        life: u64,
    },
    /// A process has started.
    Start {
        /// The node.
        node: NodeId,
        /// Its life.
        life: u64,
    },
    /// A client's request arrives at its node.
    Request(Attempt),
    /// The answer arrives at the client.
    Reply(Attempt),
    /// The client learns that its connection is lost.
    Lost(Attempt),
    /// The client waits no longer.
    Timeout(Attempt),
    /// A client goes on to another node with what certainly did not happen at the one before.
    Again(Attempt),
    /// A client asks its next question.
    Due(u64),
    /// A fault is due, or is tried again.
    Fault(usize),
    /// A fault ends.
    Undo(u64),
    /// A fault changes its links.
    Change {
        /// The fault.
        fault: u64,
        /// How often it has, this time included.
        tick: u64,
    },
    /// A node that is to die dies now, unless it has died before.
    Doom {
        /// The node.
        node: NodeId,
        /// Its life.
        life: u64,
    },
    /// The phases go on, if it is time.
    Phase,
    /// The script goes on, if it can.
    Script,
    /// A task of the script goes on.
    Task(usize),
}

/// One operation of one client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Attempt {
    /// The client.
    pub client: u64,
    /// The client's count.
    pub number: u64,
}

/// Events in the order of their times; those of one time in the order in which they were added.
///
/// Most of what is added is due at once, and most of what waits is due much later (every request has a time limit). So only
/// the events of the present slot are kept in order; those of each later slot wait unordered until it comes.
#[derive(Debug, Default)]
pub struct Agenda {
    present: BinaryHeap<Reverse<Due>>,
    slot: u64,
    later: BTreeMap<u64, Vec<Reverse<Due>>>,
    added: u64,
}

/// An event with its time and its place among all that were added.
type Due = (u64, u64, Event);

/// A slot is this power of two of nanoseconds long: two milliseconds.
const SLOT: u32 = 21;

impl Agenda {
    /// Adds an event.
    pub fn add(&mut self, time: u64, event: Event) {
        self.added += 1;
        let due = Reverse((time, self.added, event));
        let slot = time >> SLOT;
        if slot <= self.slot {
            self.present.push(due);
        } else {
            self.later.entry(slot).or_default().push(due);
        }
    }

    /// Takes the next one, with its time.
    pub fn take(&mut self) -> Option<(u64, Event)> {
        if self.present.is_empty()
            && let Some((slot, due)) = self.later.pop_first()
        {
            self.slot = slot;
            self.present.extend(due);
        }
        self.present.pop().map(|Reverse((time, _, event))| (time, event))
    }
}

/// A rolling hash of everything that happened: two runs with the same fingerprint did the same. Not for secrets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Fingerprint(u64);

impl Fingerprint {
    /// Takes in what happened.
    pub fn add(&mut self, what: &impl Hash) {
        what.hash(self);
    }

    /// The hash so far.
    pub fn value(self) -> u64 {
        self.0
    }

    fn mix(&mut self, word: u64) {
        self.0 = (self.0.rotate_left(5) ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }
}

impl Hasher for Fingerprint {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.mix(u64::from_le_bytes(word));
        }
    }

    fn write_u8(&mut self, number: u8) {
        self.mix(u64::from(number));
    }

    fn write_u32(&mut self, number: u32) {
        self.mix(u64::from(number));
    }

    fn write_u64(&mut self, number: u64) {
        self.mix(number);
    }

    fn write_usize(&mut self, number: usize) {
        self.mix(number as u64);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_of_one_time_keep_their_order() {
        let mut agenda = Agenda::default();
        for (time, event) in
            [(5, Event::Wake(1)), (3, Event::Phase), (5, Event::Dial(0)), (3, Event::Wake(9))]
        {
            agenda.add(time, event);
        }
        let order: Vec<_> = std::iter::from_fn(|| agenda.take()).collect();
        assert_eq!(order, [(3, Event::Phase), (3, Event::Wake(9)), (5, Event::Wake(1)), (5, Event::Dial(0))]);
    }

    #[test]
    fn events_of_all_slots_come_in_the_order_of_time() {
        let mut agenda = Agenda::default();
        let slot = 1 << SLOT;
        for time in [9 * slot, 3, slot, 9 * slot - 1, slot - 1, 700 * slot] {
            agenda.add(time, Event::Phase);
        }
        let mut times = Vec::new();
        while let Some((time, event)) = agenda.take() {
            times.push(time);
            // what happens now brings on what happens at once, and later
            if (time, event) == (slot, Event::Phase) {
                agenda.add(slot, Event::Script);
                agenda.add(8 * slot, Event::Script);
                agenda.add(9 * slot + 1, Event::Script);
            }
        }
        let expected = [3, slot - 1, slot, slot, 8 * slot, 9 * slot - 1, 9 * slot, 9 * slot + 1, 700 * slot];
        assert_eq!(times, expected);
    }

    #[test]
    fn the_fingerprint_depends_on_order() {
        let of = |words: &[&str]| {
            let mut print = Fingerprint::default();
            for word in words {
                print.add(word);
            }
            print.value()
        };
        assert_eq!(of(&["a", "b"]), of(&["a", "b"]));
        assert_ne!(of(&["a", "b"]), of(&["b", "a"]));
    }
}
