//! A block: the messages of one link, some ten bytes each.
//!
//! Numbers are little-endian base 128. A block begins with sender, receiver, how many messages were lost before it, how many it
//! has, the first time at which one of these was sent, and how long after that the last is heard of. Each message begins
//! with flags and kind; what it has in common with the one before, or with the last one of its partition, is left out.

use std::collections::BTreeMap;

use store::{
    api::Ballot,
    node::wire::{KINDS, Kind},
};

use super::{Fate, Message, Told};
use crate::proxy::Rule;

const RULES: [Rule; 6] = [Rule::Open, Rule::Hold, Rule::Silence, Rule::HalfOpen, Rule::Close, Rule::Sever];

/// What its two lowest flags say of a message's fate.
const ARRIVED: u8 = 0;
const DROPPED: u8 = 1;
const CUT: u8 = 2;
const OPEN: u8 = 3;
const FATE: u8 = 3;

/// It follows the one before on the same connection.
const FOLLOWS: u8 = 1 << 2;
/// It is about a partition.
const GROUP: u8 = 1 << 3;
/// Ballot and session are those of the last one about the partition.
const SAME: u8 = 1 << 4;
/// A fault struck it.
const STRUCK: u8 = 1 << 5;
/// It arrived before.
const AGAIN: u8 = 1 << 6;
/// It has an index.
const INDEX: u8 = 1 << 7;

/// Messages of one link that are collected.
#[derive(Debug, Default)]
pub(crate) struct Block {
    bytes: Vec<u8>,
    count: u64,
    lost: u64,
    first: u64,
    last: u64,
    before: Before,
}

/// What a message may have in common with those before it.
#[derive(Debug, Default)]
struct Before {
    sent: u64,
    connection: u64,
    back: bool,
    number: u64,
    /// By partition, and of messages about none.
    groups: BTreeMap<Option<u32>, Group>,
}

#[derive(Clone, Copy, Debug)]
struct Group {
    ballot: Ballot,
    session: Option<u64>,
    index: u64,
}

impl Default for Group {
    fn default() -> Self {
        Self { ballot: Ballot::BOTTOM, session: None, index: 0 }
    }
}

/// What a block says of itself before its messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Summary {
    pub(super) from: u64,
    pub(super) to: u64,
    /// Messages of the link that were lost to the record since the block before.
    pub(super) lost: u64,
    pub(super) count: u64,
    /// When the first of them was sent, and the last moment that is known of any.
    pub(super) first: u64,
    pub(super) last: u64,
}

impl Block {
    /// Appends a message of the block's link.
    pub(crate) fn push(&mut self, message: &Message) {
        let Self { bytes, before, .. } = self;
        (self.first, self.last) = if self.count == 0 {
            (message.sent, message.last())
        } else {
            (self.first.min(message.sent), self.last.max(message.last()))
        };
        let told = message.told;
        let partition = message.partition();
        let group = before.groups.entry(partition).or_default();
        let ballot = told.and_then(|told| told.group).map_or(group.ballot, |(_, ballot)| ballot);
        let session = told.map_or(group.session, |told| told.session);
        let follows = self.count > 0
            && (message.connection, message.back, message.number)
                == (before.connection, before.back, before.number + 1);
        let same = (ballot, session) == (group.ballot, group.session);
        let index = told.and_then(|told| told.index);
        let (fate, rule) = match message.fate {
            Fate::Arrived(_) => (ARRIVED, None),
            Fate::Dropped => (DROPPED, None),
            Fate::Cut(_, rule) => (CUT, rule),
            Fate::Open => (OPEN, None),
        };
        let flag = |flag: u8, set: bool| if set { flag } else { 0 };
        bytes.push(
            fate | flag(FOLLOWS, follows)
                | flag(GROUP, partition.is_some())
                | flag(SAME, same)
                | flag(STRUCK, message.fault.is_some())
                | flag(AGAIN, message.again)
                | flag(INDEX, index.is_some()),
        );
        let kind = told.and_then(|told| KINDS.iter().position(|kind| *kind == told.kind));
        bytes.push(kind.map_or(0, |kind| kind as u8 + 1));
        if !follows {
            put(bytes, message.connection << 1 | u64::from(message.back));
            put(bytes, message.number);
        }
        if let Some(partition) = partition {
            put(bytes, u64::from(partition));
        }
        if !same {
            let Ballot { config, number, priority, node } = ballot;
            for part in [u64::from(config), number, u64::from(priority), node] {
                put(bytes, part);
            }
            put(bytes, session.map_or(0, |session| session.saturating_add(1)));
        }
        if let Some(index) = index {
            put_change(bytes, group.index, index);
        }
        if let Some(fault) = message.fault {
            put(bytes, fault);
        }
        put_change(bytes, before.sent, message.sent);
        if matches!(fate, ARRIVED | CUT) {
            put(bytes, message.last().saturating_sub(message.sent));
        }
        if fate == CUT {
            let rule = rule.and_then(|rule| RULES.iter().position(|of| *of == rule));
            bytes.push(rule.map_or(0, |rule| rule as u8 + 1));
        }
        *group = Group { ballot, session, index: index.unwrap_or(group.index) };
        before.sent = message.sent;
        (before.connection, before.back, before.number) = (message.connection, message.back, message.number);
        self.count += 1;
    }

    /// So many messages are not in it that should be.
    pub(crate) fn lose(&mut self, many: u64) {
        self.lost += many;
    }

    /// How many bytes its messages have.
    pub(crate) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Whether there is nothing to say.
    pub(crate) fn is_empty(&self) -> bool {
        self.count == 0 && self.lost == 0
    }

    pub(super) fn summary(&self, from: u64, to: u64) -> Summary {
        let Self { lost, count, first, last, .. } = *self;
        Summary { from, to, lost, count, first, last }
    }

    /// The whole of it, with its length.
    pub(super) fn finished(&self, from: u64, to: u64) -> Vec<u8> {
        let mut all = vec![0; 4];
        for number in [from, to, self.lost, self.count, self.first, self.last - self.first] {
            put(&mut all, number);
        }
        all.extend_from_slice(&self.bytes);
        let length = u32::try_from(all.len() - 4).expect("blocks are short");
        all[..4].copy_from_slice(&length.to_le_bytes());
        all
    }
}

/// What a block says of itself, and its messages, whose kinds have these numbers; none: it is damaged.
pub(super) fn read<'a>(
    mut bytes: &'a [u8],
    kinds: &'a [Kind],
) -> Option<(Summary, impl Iterator<Item = Option<Message>> + 'a)> {
    let summary = summary(&mut bytes)?;
    let mut before = Before::default();
    let mut left = summary.count;
    let messages = std::iter::from_fn(move || {
        left = left.checked_sub(1)?;
        let message = next(&mut bytes, kinds, summary, &mut before);
        if message.is_none() {
            left = 0;
        }
        Some(message)
    });
    Some((summary, messages))
}

/// What a block says of itself, which is taken off its front.
pub(super) fn summary(bytes: &mut &[u8]) -> Option<Summary> {
    let mut number = || take(bytes);
    let (from, to, lost, count) = (number()?, number()?, number()?, number()?);
    let (first, span) = (number()?, number()?);
    Some(Summary { from, to, lost, count, first, last: first.checked_add(span)? })
}

fn next(bytes: &mut &[u8], kinds: &[Kind], summary: Summary, before: &mut Before) -> Option<Message> {
    let flags = byte(bytes)?;
    let kind = match byte(bytes)? {
        0 => None,
        number => Some(*kinds.get(usize::from(number) - 1)?),
    };
    let (connection, back, number) = if flags & FOLLOWS == 0 {
        let connection = take(bytes)?;
        (connection >> 1, connection & 1 == 1, take(bytes)?)
    } else {
        (before.connection, before.back, before.number.checked_add(1)?)
    };
    let partition = if flags & GROUP == 0 { None } else { Some(u32::try_from(take(bytes)?).ok()?) };
    let group = before.groups.entry(partition).or_default();
    if flags & SAME == 0 {
        let small = |number: u64| u32::try_from(number).ok();
        group.ballot = Ballot {
            config: small(take(bytes)?)?,
            number: take(bytes)?,
            priority: small(take(bytes)?)?,
            node: take(bytes)?,
        };
        group.session = take(bytes)?.checked_sub(1);
    }
    let index = if flags & INDEX == 0 { None } else { Some(take_change(bytes, group.index)?) };
    group.index = index.unwrap_or(group.index);
    let told = kind.map(|kind| Told {
        kind,
        group: partition.map(|partition| (partition, group.ballot)),
        session: group.session,
        index,
    });
    let fault = if flags & STRUCK == 0 { None } else { Some(take(bytes)?) };
    let sent = take_change(bytes, before.sent)?;
    let fate = match flags & FATE {
        ARRIVED => Fate::Arrived(sent.checked_add(take(bytes)?)?),
        DROPPED => Fate::Dropped,
        CUT => {
            let at = sent.checked_add(take(bytes)?)?;
            let rule = match byte(bytes)? {
                0 => None,
                rule => Some(*RULES.get(usize::from(rule) - 1)?),
            };
            Fate::Cut(at, rule)
        }
        _ => Fate::Open,
    };
    before.sent = sent;
    (before.connection, before.back, before.number) = (connection, back, number);
    let again = flags & AGAIN != 0;
    let (from, to) = (summary.from, summary.to);
    Some(Message { sent, from, to, connection, back, number, told, fate, fault, again })
}

fn put(bytes: &mut Vec<u8>, mut number: u64) {
    while number >= 128 {
        bytes.push(number as u8 | 128);
        number >>= 7;
    }
    bytes.push(number as u8);
}

/// From one number to another, either way.
fn put_change(bytes: &mut Vec<u8>, from: u64, to: u64) {
    let change = to.wrapping_sub(from) as i64;
    put(bytes, (change << 1 ^ change >> 63) as u64);
}

fn byte(bytes: &mut &[u8]) -> Option<u8> {
    let (first, rest) = bytes.split_first()?;
    *bytes = rest;
    Some(*first)
}

fn take(bytes: &mut &[u8]) -> Option<u64> {
    let mut number = 0;
    for shift in (0..64).step_by(7) {
        let next = byte(bytes)?;
        let part = u64::from(next & 127);
        if part << shift >> shift != part {
            return None;
        }
        number |= part << shift;
        if next < 128 {
            return Some(number);
        }
    }
    None
}

fn take_change(bytes: &mut &[u8], from: u64) -> Option<u64> {
    let folded = take(bytes)?;
    let change = (folded >> 1) as i64 ^ -((folded & 1) as i64);
    Some(from.wrapping_add(change as u64))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ballot(number: u64) -> Ballot {
        Ballot { config: 0, number, priority: 2, node: 3 }
    }

    fn message(number: u64, told: Option<Told>, fate: Fate) -> Message {
        Message {
            sent: 1_000 + 10 * number,
            from: 1,
            to: 2,
            connection: 4,
            back: false,
            number,
            told,
            fate,
            fault: None,
            again: false,
        }
    }

    fn accept(partition: u32, of: u64, index: u64) -> Told {
        let group = Some((partition, ballot(of)));
        Told { kind: Kind::Accept, group, session: Some(9), index: Some(index) }
    }

    fn all() -> Vec<Message> {
        let heartbeat = Some(Told { index: Some(7), ..Told::plain(Kind::HeartbeatRequest) });
        let mut all = vec![
            message(0, Some(Told::plain(Kind::Handshake)), Fate::Arrived(1_000)),
            message(1, Some(accept(1, 5, 17)), Fate::Arrived(1_040)),
            message(2, Some(accept(1, 5, 18)), Fate::Arrived(1_041)),
            message(3, Some(accept(2, 6, 3)), Fate::Dropped),
            message(4, None, Fate::Cut(9_000, Some(Rule::Sever))),
            message(5, heartbeat, Fate::Cut(9_000, None)),
            message(6, Some(accept(1, 7, 2)), Fate::Open),
            message(3, Some(accept(1, u64::MAX, u64::MAX)), Fate::Arrived(u64::MAX)),
        ];
        all[3].fault = Some(3);
        all[7].again = true;
        (all[4].connection, all[4].back) = (5, true);
        all
    }

    fn block() -> Block {
        let mut block = Block::default();
        for message in all() {
            block.push(&message);
        }
        block.lose(12);
        block
    }

    #[test]
    fn a_block_says_what_it_was_told() {
        let bytes = block().finished(1, 2);
        let (length, content) = bytes.split_first_chunk().expect("a length");
        assert_eq!(u32::from_le_bytes(*length) as usize, content.len());
        let (summary, messages) = read(content, &KINDS).expect("a block");
        let expected = Summary { from: 1, to: 2, lost: 12, count: 8, first: 1_000, last: u64::MAX };
        assert_eq!(summary, expected);
        let messages: Option<Vec<Message>> = messages.collect();
        assert_eq!(messages.expect("whole"), all());
    }

    #[test]
    fn an_ordinary_message_takes_some_ten_bytes() {
        let mut block = Block::default();
        for number in 0..1_000 {
            let mut message = message(number, Some(accept(1, 5, number)), Fate::Arrived(0));
            message.sent = 1_000_000_000 + 50_000 * number;
            message.fate = Fate::Arrived(message.sent + 30_000);
            block.push(&message);
        }
        assert!(block.len() <= 11 * 1_000, "{} bytes", block.len());
    }

    #[test]
    fn a_damaged_block_ends_early_and_does_no_harm() {
        let bytes = block().finished(1, 2);
        for end in 4..bytes.len() {
            let Some((_, messages)) = read(&bytes[4..end], &KINDS) else { continue };
            let messages: Vec<Option<Message>> = messages.collect();
            assert!(messages.iter().filter(|message| message.is_none()).count() == 1, "cut at {end}");
        }
        for at in 4..bytes.len() {
            for bit in 0..8 {
                let mut damaged = bytes.clone();
                damaged[at] ^= 1 << bit;
                if let Some((_, messages)) = read(&damaged[4..], &KINDS) {
                    assert!(messages.take(1 << 16).count() > 0 || at < 10);
                }
            }
        }
    }
}
