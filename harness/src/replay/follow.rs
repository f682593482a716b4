//! Which recorded message is meant by one that a simulated node sends, and so when that arrives.
//!
//! The same words on the same link are the same message, if they were sent at about the same time; of messages that say the same,
//! the first that was not followed yet. Since simulated nodes take other turns than real ones did, entries come in other
//! portions and sessions have other numbers, so few messages have the same words for long: then one of the same kind about the
//! same partition is meant that was sent closest by. Where there is none either, chance decides as ever.
//!
//! A message that is followed travels as long as the recorded one did. One that is sent at nearly the same moment, on the clock
//! that both runs share, arrives at the same moment, too, so that the messages of all links keep the recorded order as long as
//! nodes send them in time. (Were it so for all, a node whose heartbeats have fallen behind would be taken for one that is cut off.)

use std::{collections::BTreeMap, sync::Arc};

use store::{
    api::NodeId,
    core::Message,
    node::wire::{PEEK, encode},
};

use super::course::{Course, Passed, Road, likeness, words};
use crate::messages::{Fate, Told};

/// How far in time a message may be from the recorded one that says the same, in nanoseconds; and from one of its kind.
const EXACTLY: u64 = 500_000_000;
const ALIKE: u64 = 30_000_000;

/// How near in time a message must be to the recorded one to arrive at the same moment.
const SAME_MOMENT: u64 = 3_000_000;

/// What a message takes at least.
const LEAST: u64 = 10_000;

/// A message whose connection ended arrives so long after that, if it is not cut off here as well.
const CUT: u64 = 5_000_000;

/// How many messages went by the record.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Followed {
    /// Messages that were sent on connections.
    pub sent: u64,
    /// Of these, such that followed one with the same words.
    pub exactly: u64,
    /// Such that followed one of their kind.
    pub alike: u64,
}

/// What becomes of a message that follows another. Times are those of the simulated run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Passage {
    /// It arrives then, and maybe once more.
    Arrives { at: u64, again: Option<u64> },
    /// It arrives then, and others may pass it until then: a fault kept it.
    Late { at: u64 },
    /// A fault took it.
    Dropped,
}

/// Follows a course.
#[derive(Debug)]
pub(crate) struct Follower {
    course: Arc<Course>,
    /// When the clients began, there and here: both clocks agree then.
    there: u64,
    here: u64,
    links: BTreeMap<(NodeId, NodeId), Way>,
    pub(crate) followed: Followed,
}

/// What was followed on a link.
#[derive(Debug, Default)]
struct Way {
    followed: Vec<bool>,
    /// How many of those that are alike are past.
    past: BTreeMap<(store::node::wire::Kind, Option<u32>), usize>,
}

impl Follower {
    /// At the beginning, where both clocks agree.
    pub(crate) fn new(course: Arc<Course>) -> Self {
        let (there, here) = (0, 0);
        Self { course, there, here, links: BTreeMap::new(), followed: Followed::default() }
    }

    /// The clients begin now, as they began there at that time.
    pub(crate) fn clients_begin(&mut self, there: u64, here: u64) {
        (self.there, self.here) = (there, here);
    }

    /// What becomes of a message that is sent now; none: it follows none.
    pub(crate) fn passage(&mut self, link: (NodeId, NodeId), message: &Message, now: u64) -> Option<Passage> {
        let frame = encode(message);
        let told = Told::of(&frame[..frame.len().min(PEEK)])?;
        self.told_passage(link, &told, now)
    }

    fn told_passage(&mut self, link: (NodeId, NodeId), told: &Told, now: u64) -> Option<Passage> {
        self.followed.sent += 1;
        let course = Arc::clone(&self.course);
        let road = course.road(link)?;
        let then = self.there_of(now);
        let way = self.links.entry(link).or_default();
        way.followed.resize(road.passed.len(), false);
        let (index, counter) = match way.exactly(road, told, then) {
            Some(index) => (index, &mut self.followed.exactly),
            None => (way.alike(road, told, then)?, &mut self.followed.alike),
        };
        way.followed[index] = true;
        let Passed { sent, fate, again, struck } = road.passed[index];
        // what both clocks said when it was sent
        let (from, to) =
            if sent.abs_diff(then) <= SAME_MOMENT { (self.there, self.here) } else { (sent, now) };
        let here = |at: u64| (at + to).saturating_sub(from).max(now + LEAST);
        let passage = match fate {
            Fate::Arrived(at) if struck && again.is_none() => Some(Passage::Late { at: here(at) }),
            Fate::Arrived(at) => Some(Passage::Arrives { at: here(at), again: again.map(here) }),
            Fate::Cut(at, _) => Some(Passage::Arrives { at: here(at + CUT), again: None }),
            Fate::Dropped => Some(Passage::Dropped),
            // it was under way when the record ended, and nobody knows for how long
            Fate::Open => None,
        };
        *counter += u64::from(passage.is_some());
        passage
    }

    fn there_of(&self, here: u64) -> u64 {
        (here + self.there).saturating_sub(self.here)
    }
}

impl Way {
    fn exactly(&self, road: &Road, told: &Told, then: u64) -> Option<usize> {
        let same = road.exactly.get(&words(told))?.iter().copied();
        same.filter(|index| !self.followed[*index])
            .find(|index| road.passed[*index].sent.abs_diff(then) <= EXACTLY)
    }

    fn alike(&mut self, road: &Road, told: &Told, then: u64) -> Option<usize> {
        let alike = road.alike.get(&likeness(told))?;
        let past = self.past.entry(likeness(told)).or_default();
        while let Some(index) = alike.get(*past)
            && (self.followed[*index] || road.passed[*index].sent + ALIKE < then)
        {
            *past += 1;
        }
        alike.get(*past).copied().filter(|index| road.passed[*index].sent <= then + ALIKE)
    }
}

#[cfg(test)]
mod tests {
    use store::{api::Ballot, node::wire::Kind};

    use super::*;
    use crate::messages;

    const MS: u64 = 1_000_000;

    fn told(kind: Kind, index: u64) -> Told {
        let ballot = Ballot { config: 0, number: 1, priority: 0, node: 1 };
        Told { kind, group: Some((1, ballot)), session: Some(1), index: Some(index) }
    }

    fn recorded(number: u64, sent: u64, told: Told, fate: Fate) -> messages::Message {
        messages::Message {
            sent,
            from: 1,
            to: 2,
            connection: 0,
            back: false,
            number,
            told: Some(told),
            fate,
            fault: None,
            again: false,
        }
    }

    fn follower(messages: Vec<messages::Message>) -> Follower {
        Follower::new(Arc::new(Course::new(messages)))
    }

    #[test]
    fn a_message_arrives_when_the_one_with_its_words_did() {
        let arrived = |at| Fate::Arrived(at * MS);
        let mut doubled = recorded(2, 12 * MS, told(Kind::Accept, 3), arrived(16));
        doubled.again = true;
        let mut held = recorded(5, 15 * MS, told(Kind::Accept, 7), arrived(40));
        (doubled.fault, held.fault) = (Some(1), Some(2));
        let mut follower = follower(vec![
            recorded(0, 10 * MS, told(Kind::Accept, 1), arrived(14)),
            recorded(1, 11 * MS, told(Kind::Accept, 2), Fate::Dropped),
            recorded(2, 12 * MS, told(Kind::Accept, 3), arrived(15)),
            doubled,
            recorded(3, 13 * MS, told(Kind::Accept, 4), Fate::Cut(20 * MS, None)),
            recorded(4, 14 * MS, told(Kind::Accept, 5), Fate::Open),
            held,
        ]);
        follower.clients_begin(5 * MS, 105 * MS);
        let mut passage = |index, now| follower.told_passage((1, 2), &told(Kind::Accept, index), now * MS);
        let at = |at, again: Option<u64>| Passage::Arrives { at: at * MS, again: again.map(|at| at * MS) };
        assert_eq!(passage(1, 109), Some(at(114, None)), "when it did");
        assert_eq!(passage(3, 111), Some(at(115, Some(116))), "whatever came before it");
        assert_eq!(passage(2, 112), Some(Passage::Dropped));
        assert_eq!(passage(4, 113), Some(at(125, None)), "unless it is cut off before");
        assert_eq!(passage(5, 114), None);
        assert_eq!(passage(7, 115), Some(Passage::Late { at: 140 * MS }), "others may pass it");
        assert_eq!(passage(6, 114), None, "none is left");
        // that nobody knows when one arrived is no record to go by
        assert_eq!(follower.followed, Followed { sent: 7, exactly: 5, alike: 0 });
        let late = Passage::Arrives { at: 144 * MS, again: None };
        let again = vec![recorded(0, 10 * MS, told(Kind::Decide, 1), arrived(14))];
        let mut follower = Follower::new(Arc::new(Course::new(again)));
        follower.clients_begin(5 * MS, 105 * MS);
        assert_eq!(follower.told_passage((1, 2), &told(Kind::Decide, 1), 140 * MS), Some(late));
        assert_eq!(follower.told_passage((2, 1), &told(Kind::Decide, 1), 140 * MS), None, "another link");
        assert_eq!(follower.followed, Followed { sent: 2, exactly: 1, alike: 0 });
    }

    #[test]
    fn one_without_its_words_follows_the_nearest_of_its_kind_in_order() {
        let arrived = |at| Fate::Arrived(at * MS);
        let mut follower = follower(vec![
            recorded(0, 10 * MS, told(Kind::Accept, 1), arrived(11)),
            recorded(1, 60 * MS, told(Kind::Accept, 2), arrived(61)),
            recorded(2, 62 * MS, told(Kind::Decide, 1), arrived(90)),
            recorded(3, 65 * MS, told(Kind::Accept, 3), arrived(70)),
        ]);
        let mut passage = |index, now| follower.told_passage((1, 2), &told(Kind::Accept, index), now * MS);
        let at = |at| Some(Passage::Arrives { at, again: None });
        assert_eq!(passage(77, 58), at(61 * MS), "the first is past");
        assert_eq!(
            passage(78, 59),
            at(64 * MS),
            "as long as it took, not when it arrived: that was sent much later"
        );
        assert_eq!(passage(79, 59), None);
        assert_eq!(passage(1, 59), at(60 * MS), "its words were not followed yet");
        assert_eq!(follower.followed, Followed { sent: 4, exactly: 1, alike: 2 });
    }
}
