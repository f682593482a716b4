//! What can be broken: the words that workload files have for it, and what each of them means.
//!
//! A file says `action = "cut-oneway"` and a few keys beside it; what is left of that after checking is a [`FaultAction`]
//! that cannot be wrong in itself. Everything that a fault does to links is a [`Shape`], which says what links, and a
//! [`LinkRule`], which says what happens to them.

use serde::{Deserialize, Serialize};
use store::{api::PartitionId, config::ClockSkew};

use super::scalar::{Target, Time};
use crate::proxy::{Conditions, Connect, Deed, Delay, FrameFault, Match, Rule, Strikes};

/// A fault as it is asked for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FaultSpec {
    /// Its name, by which expectations and triggers call it.
    pub name: Option<String>,
    /// What the file calls it.
    pub word: Word,
    /// Whom.
    pub target: Target,
    /// After how long it is undone; none: when everything is healed.
    pub lasts: Option<Time>,
    /// What it does.
    pub action: FaultAction,
    /// It outlasts the heal phase: the nodes that it hits are outside of the core that must make progress.
    #[serde(default)]
    pub permanent: bool,
}

/// What a fault does.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FaultAction {
    /// The nodes die, and stay dead while the fault lasts.
    Kill(Death),
    /// The nodes die, lose their disks, and start again as strangers, whom nobody lets in: gone for good.
    Wipe,
    /// The nodes start; those that live are killed first. Whatever kept them dead does so no longer.
    Restart,
    /// The nodes stand still (SIGSTOP) while the fault lasts.
    Pause,
    /// The nodes go on. Whatever kept them still does so no longer.
    Resume,
    /// Something happens to links.
    Links {
        /// To what links.
        shape: Shape,
        /// What happens to them.
        rule: LinkRule,
    },
    /// Whatever `hold` keeps of the nodes' messages is let go.
    Release,
    /// All connections between the nodes and others break, and may be made again at once.
    Reset,
    /// The leader of a partition is asked to hand over to the target.
    TransferLeader {
        /// The partition.
        partition: PartitionId,
    },
    /// The nodes' disks do not sync, or take longer for it.
    StallDisk {
        /// How much longer each sync takes; none: no sync ends.
        slow: Option<Time>,
    },
    /// The nodes' clocks change.
    Clock(ClockChange),
    /// Undoes every fault that is in effect.
    Heal,
}

/// How a node dies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Death {
    /// At once.
    Now,
    /// In the middle of its next write to disk, or after a second without any.
    DuringWrite,
    /// At once, and once more as soon as it has started again.
    DuringRecovery,
    /// When the next piece of a snapshot is on its way to it or from it, or after a second without any.
    DuringSnapshot,
    /// At once, and everything that was not synced is lost.
    LosesUnsynced,
    /// At once, and a write that was torn is left at the end of the log.
    TearsLog,
}

/// Which links a fault is about. A link is directed; links to clients are among them only where the shape says so.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Shape {
    /// Between the target and its peers.
    Between {
        /// The peers; none: all other nodes.
        peer: Option<Target>,
        /// Which way.
        direction: Direction,
    },
    /// Between the target and every client.
    Clients {
        /// Which way: requests go in, answers out.
        direction: Direction,
    },
    /// Between two halves of the nodes, the target in the smaller one.
    Halves,
    /// Between so many parts of the nodes, as equal as can be.
    Split {
        /// How many.
        parts: u64,
    },
    /// The nodes stand on a ring, and each keeps its links to the nearest ones only, just enough for a majority.
    MajoritiesRing,
    /// Between two halves of the nodes; only the target keeps its links to both.
    Bridge,
    /// The nodes stand in a row, and each keeps its links to its neighbours only. The target stands in the middle.
    Chain,
    /// Node after node is cut off, all of them if it comes to that, and let in again in another order.
    Swizzle {
        /// From one change to the next.
        period: Time,
    },
    /// Between the target and all others, on and off and on again.
    Flap {
        /// From one change to the next.
        period: Time,
    },
}

/// What happens to a link. What several faults do to one link adds up.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LinkRule {
    /// Bytes are kept, or connections end.
    Rule(Rule),
    /// New connections do not come about.
    Connect(Connect),
    /// Messages travel for a while.
    Delay(Delay),
    /// No more than so many bytes pass a second.
    Throttle {
        /// So many.
        bytes_per_second: u64,
    },
    /// Something happens to single messages.
    Frames {
        /// Which are meant.
        matching: Match,
        /// Which of those are struck.
        strikes: Strikes,
        /// What becomes of them.
        deed: Deed,
    },
}

impl LinkRule {
    /// As the network takes it, for the fault of this number.
    pub fn conditions(&self, fault: u64) -> Conditions {
        match self {
            Self::Rule(rule) => (*rule).into(),
            Self::Connect(connect) => (*connect).into(),
            Self::Delay(delay) => (*delay).into(),
            Self::Throttle { bytes_per_second } => {
                Conditions { bandwidth: Some(*bytes_per_second), ..Conditions::default() }
            }
            Self::Frames { matching, strikes, deed } => {
                FrameFault { fault, matching: matching.clone(), strikes: *strikes, deed: *deed }.into()
            }
        }
    }
}

/// What a cut does to its links, as files say it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LinkFault {
    /// Bytes wait, and go on in order when the link is opened.
    #[default]
    Hold,
    /// Connections are reset, and new ones too.
    Sever,
    /// Connections are ended in order, and new ones too.
    Close,
    /// Nothing passes, and nobody is told; connections are reset when it ends.
    Silence,
}

impl From<LinkFault> for LinkRule {
    fn from(fault: LinkFault) -> Self {
        Self::Rule(match fault {
            LinkFault::Hold => Rule::Hold,
            LinkFault::Sever => Rule::Sever,
            LinkFault::Close => Rule::Close,
            LinkFault::Silence => Rule::Silence,
        })
    }
}

/// Which way, seen from the target.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Direction {
    /// From the target.
    Out,
    /// To the target.
    In,
    /// Both ways.
    #[default]
    Both,
}

/// How a node's clock changes. What several faults ask of one clock adds up: jumps to their sum, of rates the last counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ClockChange {
    /// Another rate error, in parts per million.
    Rate {
        /// Parts per million.
        ppm: i64,
    },
    /// A jump, forward or back; the end of the fault is a jump the other way. Without an end the clock stays where it is.
    Offset {
        /// Milliseconds.
        ms: i64,
    },
    /// It stands still, and goes on from there.
    Freeze,
}

/// The rate of a clock that stands still.
const STILL_PPM: i64 = -1_000_000;

impl ClockChange {
    /// The clock that comes of it.
    #[must_use]
    pub fn of(self, now: ClockSkew) -> ClockSkew {
        match self {
            Self::Rate { ppm } => ClockSkew { rate_ppm: ppm, ..now },
            Self::Offset { ms } => ClockSkew { offset_ms: now.offset_ms.saturating_add(ms), ..now },
            Self::Freeze => ClockSkew { rate_ppm: STILL_PPM, ..now },
        }
    }
}

/// Declares [`Word`] with the text of each.
macro_rules! words {
    ($($(#[$doc:meta])* $word:ident = $text:literal,)*) => {
        /// The actions by the words that files have for them.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
        pub enum Word {
            $($(#[$doc])* #[serde(rename = $text)] $word,)*
        }

        impl Word {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$word,)*];

            /// As it is written.
            pub fn text(self) -> &'static str {
                match self {
                    $(Self::$word => $text,)*
                }
            }
        }
    };
}

impl Word {
    /// What such a fault strikes one by one, in words: if none, it was in effect in vain. None: having somebody to break is enough.
    pub fn strikes(self) -> Option<&'static str> {
        match self {
            Self::FrameDrop | Self::FrameDuplicate | Self::FrameReorder | Self::FrameHold => Some("message"),
            Self::KillDuringWrite => Some("node in a write"),
            Self::KillDuringRecovery => Some("node in its recovery"),
            Self::KillDuringSnapshot => Some("node in the transfer of a snapshot"),
            Self::Release => Some("hold"),
            Self::TransferLeader => Some("leader"),
            _ => None,
        }
    }
}

words! {
    /// [`Death::Now`]
    Kill = "kill",
    /// [`Death::DuringWrite`]
    KillDuringWrite = "kill-during-write",
    /// [`Death::DuringRecovery`]
    KillDuringRecovery = "kill-during-recovery",
    /// [`Death::DuringSnapshot`]
    KillDuringSnapshot = "kill-during-snapshot",
    /// [`Death::LosesUnsynced`]
    LoseUnsynced = "lose-unsynced",
    /// [`Death::TearsLog`]
    CorruptTail = "corrupt-tail",
    /// [`FaultAction::Wipe`]
    Wipe = "wipe",
    /// [`FaultAction::Restart`]
    Restart = "restart",
    /// [`FaultAction::Pause`]
    Pause = "pause",
    /// [`FaultAction::Resume`]
    Resume = "resume",
    /// All links of the target.
    Isolate = "isolate",
    /// The links between the target and its peers, both ways.
    Cut = "cut",
    /// The same, one way.
    CutOneway = "cut-oneway",
    /// [`Shape::Halves`]
    Halves = "halves",
    /// [`Shape::Split`]
    Split = "split",
    /// [`Shape::MajoritiesRing`]
    MajoritiesRing = "majorities-ring",
    /// [`Shape::Bridge`]
    Bridge = "bridge",
    /// [`Shape::Chain`]
    Chain = "chain",
    /// [`Shape::Swizzle`]
    Swizzle = "swizzle",
    /// [`Shape::Flap`]
    Flap = "flap",
    /// [`Rule::Hold`], until it is released.
    Hold = "hold",
    /// [`FaultAction::Release`]
    Release = "release",
    /// [`FaultAction::Reset`]
    Reset = "reset",
    /// [`Connect::Refuse`]
    Refuse = "refuse",
    /// [`Rule::HalfOpen`]
    HalfOpen = "half-open",
    /// [`LinkRule::Delay`]
    Delay = "delay",
    /// [`LinkRule::Throttle`]
    Throttle = "throttle",
    /// [`Deed::Drop`]
    FrameDrop = "frame-drop",
    /// [`Deed::Duplicate`]
    FrameDuplicate = "frame-duplicate",
    /// [`Deed::Reorder`]
    FrameReorder = "frame-reorder",
    /// [`Deed::Hold`]
    FrameHold = "frame-hold",
    /// [`FaultAction::TransferLeader`]
    TransferLeader = "transfer-leader",
    /// [`FaultAction::StallDisk`]
    StallDisk = "stall-disk",
    /// [`ClockChange::Rate`]
    ClockRate = "clock-rate",
    /// [`ClockChange::Offset`]
    ClockOffset = "clock-offset",
    /// [`ClockChange::Freeze`]
    ClockFreeze = "clock-freeze",
    /// [`FaultAction::Heal`]
    Heal = "heal",
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_fault_leaves_alone_what_it_does_not_name() {
        let now = ClockSkew { rate_ppm: 20_000, offset_ms: -1000 };
        let rate = ClockChange::Rate { ppm: 40_000 };
        assert_eq!(rate.of(now), ClockSkew { rate_ppm: 40_000, offset_ms: -1000 });
        let jump = ClockChange::Offset { ms: 5 };
        assert_eq!(jump.of(now), ClockSkew { rate_ppm: 20_000, offset_ms: -995 });
        assert_eq!(ClockChange::Freeze.of(now), ClockSkew { rate_ppm: -1_000_000, offset_ms: -1000 });
    }
}
