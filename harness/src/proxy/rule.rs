//! What may be done to a link.

use std::{ops::AddAssign, time::Duration};

use serde::{Deserialize, Serialize};
pub use store::node::wire::{Kind, Seen};

use super::Delay;

/// What happens to the bytes of a link and to the connections that carry them.
///
/// A rule acts at once on connections that were dialed in the link's own direction. A connection that was dialed against it
/// (its answers travel on the link) is ended only when something would travel on the link; until then the other direction
/// passes.
///
/// In the order of strength: of two rules for one link the later one holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Rule {
    /// They pass.
    #[default]
    Open,
    /// They are kept and pass in order once the link is open again. New connections are accepted and stay silent.
    Hold,
    /// Nothing passes and no end is told; when the rule ends, the connections are reset and what was kept is lost. New ones
    /// are accepted, stay silent, and are reset then.
    Silence,
    /// The receiver's end of each connection is reset; the dialer is not told, and what it sends goes nowhere until it is
    /// reset when the rule ends. New connections are accepted, never reach the receiver, and end likewise.
    HalfOpen,
    /// Connections are ended in order (FIN) at both ends, though what was on its way is lost. New ones are accepted and
    /// ended.
    Close,
    /// Connections are reset (RST) at both ends. New ones are accepted and reset.
    Sever,
}

/// What happens to new connections that are dialed in the direction of a link, whatever its [`Rule`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Connect {
    /// They are accepted and dialed on.
    #[default]
    Accept,
    /// They are accepted and stay silent; they are dialed on when this ends.
    Silent,
    /// Nobody listens: the dialer's kernel is refused.
    Refuse,
}

/// Everything that is done to a link at a time. `Conditions::default()` lets everything pass; a [`Rule`] alone converts into
/// conditions. Conditions of several faults are added up with `+=`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "kebab-case", deny_unknown_fields)]
pub struct Conditions {
    /// What happens to the bytes and their connections.
    pub rule: Rule,
    /// What happens to new connections.
    pub connect: Connect,
    /// How long bytes travel: the sum of these.
    pub delays: Vec<Delay>,
    /// The most bytes a second, shared by all connections.
    pub bandwidth: Option<u64>,
    /// How much longer the end of a connection travels, be it in order or by reset.
    pub slow_close: Option<Duration>,
    /// What happens to single frames: the first that strikes decides.
    pub frames: Vec<FrameFault>,
}

/// A fault of single frames.
///
/// Where the protocol is not known there are no frames, and nothing is ever taken out of a stream: there, each read counts as
/// one without a kind, and one that is struck severs its connection.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FrameFault {
    /// Number of the fault. It counts and draws for itself, so two faults must not have the same.
    pub fault: u64,
    /// Which frames are meant.
    pub matching: Match,
    /// Which of those are struck.
    pub strikes: Strikes,
    /// What becomes of a frame that is struck.
    pub deed: Deed,
}

/// Which of the matching frames are struck.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Strikes {
    /// All of them.
    All,
    /// Each with this probability, by a [`Draw`](super::Draw).
    Chance(f64),
    /// The one with this number, from 1, among the link's matching frames since the fault was put in effect.
    Nth(u64),
}

/// What becomes of a frame. One of more than [`MAX_KEPT`](Self::MAX_KEPT) bytes may be dropped, but passes otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Deed {
    /// It is lost.
    Drop,
    /// It is sent twice.
    Duplicate,
    /// It follows the next frame of its connection, or passes after this time if none comes before.
    Reorder {
        /// How long it waits at most.
        at_most: Duration,
    },
    /// It is kept while others pass, and passes when the fault ends.
    Hold,
}

impl Deed {
    /// The longest frame that is kept for a while.
    pub const MAX_KEPT: usize = 4 << 20;
}

/// Which frames are meant: those that fulfil all of it. The default is every frame but the handshake of a connection, which
/// must be named to be meant.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "kebab-case", deny_unknown_fields)]
pub struct Match {
    /// One of these kinds; empty: any.
    pub kinds: Vec<Kind>,
    /// About this partition; a frame that is about none is not meant then.
    pub partition: Option<u32>,
    /// With a ballot whose number is at least this; a frame without a ballot is not meant then.
    pub min_ballot: Option<u64>,
    /// With a ballot whose number is at most this; as above.
    pub max_ballot: Option<u64>,
}

impl Match {
    /// Frames of this kind.
    pub fn kind(kind: Kind) -> Self {
        Self { kinds: vec![kind], ..Self::default() }
    }

    /// Whether a frame is meant; `None` stands for one that was not recognised.
    pub fn means(&self, seen: Option<&Seen>) -> bool {
        let Some(seen) = seen else { return *self == Self::default() };
        let kind = match self.kinds.as_slice() {
            [] => !matches!(seen.kind, Kind::Handshake | Kind::Verdict),
            kinds => kinds.contains(&seen.kind),
        };
        let number = seen.ballot.map(|ballot| ballot.number);
        kind && self.partition.is_none_or(|partition| seen.partition == Some(partition))
            && self.min_ballot.is_none_or(|min| number.is_some_and(|number| number >= min))
            && self.max_ballot.is_none_or(|max| number.is_some_and(|number| number <= max))
    }
}

impl Conditions {
    /// True when bytes pass as they come, as long as the rule lets them.
    pub(super) fn is_plain(&self) -> bool {
        self.delays.is_empty()
            && self.bandwidth.is_none()
            && self.slow_close.is_none()
            && self.frames.is_empty()
    }
}

impl From<Rule> for Conditions {
    fn from(rule: Rule) -> Self {
        Self { rule, ..Self::default() }
    }
}

impl From<Delay> for Conditions {
    fn from(delay: Delay) -> Self {
        Self { delays: vec![delay], ..Self::default() }
    }
}

impl From<Connect> for Conditions {
    fn from(connect: Connect) -> Self {
        Self { connect, ..Self::default() }
    }
}

impl From<FrameFault> for Conditions {
    fn from(fault: FrameFault) -> Self {
        Self { frames: vec![fault], ..Self::default() }
    }
}

impl AddAssign for Conditions {
    /// What two faults together do to a link: the stronger rule, the sum of the delays, the smaller bandwidth, all frame
    /// faults.
    fn add_assign(&mut self, other: Self) {
        self.rule = self.rule.max(other.rule);
        self.connect = self.connect.max(other.connect);
        self.delays.extend(other.delays);
        self.bandwidth = [self.bandwidth, other.bandwidth].into_iter().flatten().min();
        self.slow_close = self.slow_close.max(other.slow_close);
        self.frames.extend(other.frames);
    }
}

#[cfg(test)]
mod tests {
    use store::api::Ballot;

    use super::*;

    #[test]
    fn a_match_fulfils_all_of_it() {
        let ballot = Some(Ballot { number: 3, ..Ballot::BOTTOM });
        let accept = Seen { kind: Kind::Accept, partition: Some(2), ballot };
        let at_least = |min_ballot| Match { min_ballot, ..Match::kind(Kind::Accept) };
        assert!(Match::default().means(Some(&accept)));
        assert!(at_least(Some(3)).means(Some(&accept)));
        assert!(!at_least(Some(4)).means(Some(&accept)));
        assert!(!Match { max_ballot: Some(2), ..Match::default() }.means(Some(&accept)));
        assert!(!Match { partition: Some(1), ..Match::default() }.means(Some(&accept)));
        assert!(!Match::kind(Kind::Promise).means(Some(&accept)));
        assert!(Match::default().means(None) && !at_least(None).means(None));
        let handshake = Seen { kind: Kind::Handshake, partition: None, ballot: None };
        assert!(!Match::default().means(Some(&handshake)), "only by name");
        assert!(Match::kind(Kind::Handshake).means(Some(&handshake)));
        assert!(!Match { min_ballot: Some(0), ..Match::kind(Kind::Handshake) }.means(Some(&handshake)));
    }

    #[test]
    fn conditions_add_up() {
        let millis = Duration::from_millis;
        let mut sum = Conditions::from(Rule::Hold);
        sum += Conditions { bandwidth: Some(100), ..Delay::Constant(millis(1)).into() };
        sum += Conditions { bandwidth: Some(50), ..Delay::Constant(millis(2)).into() };
        sum += Conditions { slow_close: Some(millis(5)), connect: Connect::Refuse, ..Rule::Sever.into() };
        let expected = Conditions {
            rule: Rule::Sever,
            connect: Connect::Refuse,
            delays: vec![Delay::Constant(millis(1)), Delay::Constant(millis(2))],
            bandwidth: Some(50),
            slow_close: Some(millis(5)),
            frames: Vec::new(),
        };
        assert_eq!(sum, expected);
    }
}
