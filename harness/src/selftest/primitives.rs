//! The primitives, and what each must do to the frames of one line.

use std::time::Duration;

use store::{
    api::Ballot,
    core::{
        Message,
        entries::Entries,
        message::{GroupMessage, Suffix},
    },
    node::wire,
};

use super::{
    observe::{Newcomer, Observed},
    stage::Ended,
};
use crate::proxy::{
    Conditions, Connect, Deed, Delay, FrameFault, Kind, Link, Match, Protocol, Rule, Strikes,
};

/// Something that can be done to a link.
pub(super) struct Primitive {
    pub(super) name: &'static str,
    pub(super) protocol: Protocol,
    /// Who talks.
    pub(super) line: Link,
    /// The link that it is done to: in the direction of the line, or against it.
    pub(super) on: Link,
    pub(super) conditions: Conditions,
    /// What is sent while it is in effect.
    pub(super) frames: Vec<Vec<u8>>,
    /// The line is ended behind them.
    pub(super) finish: bool,
    /// Answers of before must come through.
    pub(super) other_way: bool,
    /// What must be seen while it is in effect.
    pub(super) during: fn(&Observed) -> bool,
    /// What must be seen once it has ended.
    pub(super) after: fn(&Observed) -> bool,
    /// Later than this after it was due, nothing can be said of a delay.
    pub(super) longest: Duration,
}

const LINE: Link = Link { from: crate::proxy::Endpoint::Client(1), to: crate::proxy::Endpoint::Node(2) };

const fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

impl Primitive {
    fn new(
        name: &'static str,
        conditions: impl Into<Conditions>,
        during: fn(&Observed) -> bool,
        after: fn(&Observed) -> bool,
    ) -> Self {
        Self {
            name,
            protocol: Protocol::Frames,
            line: LINE,
            on: LINE,
            conditions: conditions.into(),
            frames: (1..=20).map(|number| format!("{name} {number}").into_bytes()).collect(),
            finish: false,
            other_way: true,
            during,
            after,
            longest: Duration::MAX,
        }
    }

    /// Everything passes, later than it was sent by what `lowest` says.
    fn delaying(name: &'static str, delay: Delay, during: fn(&Observed) -> bool, longest: Duration) -> Self {
        Self { longest, ..Self::new(name, delay, during, Observed::all_passed) }
    }

    fn striking(
        name: &'static str,
        strikes: Strikes,
        deed: Deed,
        during: fn(&Observed) -> bool,
        after: fn(&Observed) -> bool,
    ) -> Self {
        let fault = FrameFault { fault: 1, matching: Match::default(), strikes, deed };
        Self::new(name, fault, during, after)
    }
}

/// All of them.
pub(super) fn all() -> Vec<Primitive> {
    [rules(), connecting(), slow(), of_frames()].into_iter().flatten().collect()
}

fn rules() -> Vec<Primitive> {
    let ends_here = |during: fn(&Observed) -> bool, name, rule: Rule| Primitive {
        other_way: false,
        ..Primitive::new(name, rule, during, Observed::nothing_arrived)
    };
    vec![
        Primitive::new(
            "hold",
            Rule::Hold,
            |seen| seen.nothing_arrived() && seen.is_open() && seen.newcomer == Newcomer::Silent,
            |seen| seen.all_passed() && seen.is_open() && seen.newcomer == Newcomer::Answered,
        ),
        Primitive {
            on: LINE.backward(),
            other_way: false,
            ..Primitive::new(
                "hold answers",
                Rule::Hold,
                |seen| seen.all_arrived() && seen.answered.is_empty() && seen.is_open(),
                |seen| seen.all_passed() && seen.is_open(),
            )
        },
        ends_here(
            |seen| seen.nothing_arrived() && seen.ended(Ended::Reset) && seen.newcomer == Newcomer::Reset,
            "sever",
            Rule::Sever,
        ),
        ends_here(
            |seen| {
                seen.nothing_arrived() && seen.ended(Ended::Finished) && seen.newcomer == Newcomer::Finished
            },
            "close",
            Rule::Close,
        ),
        Primitive::new(
            "silence",
            Rule::Silence,
            |seen| seen.nothing_arrived() && seen.is_open() && seen.newcomer == Newcomer::Silent,
            |seen| seen.nothing_arrived() && seen.ended(Ended::Reset) && seen.newcomer == Newcomer::Reset,
        ),
        Primitive {
            other_way: false,
            ..Primitive::new(
                "half-open",
                Rule::HalfOpen,
                |seen| {
                    let ends = (seen.here, seen.there) == (Ended::No, Ended::Reset);
                    seen.nothing_arrived() && ends && seen.newcomer == Newcomer::Silent
                },
                |seen| seen.nothing_arrived() && seen.ended(Ended::Reset) && seen.newcomer == Newcomer::Reset,
            )
        },
    ]
}

fn connecting() -> Vec<Primitive> {
    vec![
        Primitive::new(
            "refuse",
            Connect::Refuse,
            |seen| seen.all_passed() && seen.is_open() && seen.newcomer == Newcomer::Refused,
            Observed::all_passed,
        ),
        Primitive::new(
            "accept, stay silent",
            Connect::Silent,
            |seen| seen.all_passed() && seen.is_open() && seen.newcomer == Newcomer::Silent,
            |seen| seen.all_passed() && seen.newcomer == Newcomer::Answered,
        ),
        Primitive {
            finish: true,
            other_way: false,
            longest: millis(450),
            ..Primitive::new(
                "slow close",
                Conditions { slow_close: Some(millis(200)), ..Conditions::default() },
                |seen| {
                    let late = seen.end_took.is_some_and(|took| took >= millis(200));
                    seen.all_passed() && seen.ended(Ended::Finished) && late
                },
                Observed::all_passed,
            )
        },
    ]
}

fn slow() -> Vec<Primitive> {
    vec![
        Primitive::delaying(
            "delay, constant",
            Delay::Constant(millis(40)),
            |seen| seen.all_passed() && seen.shortest() >= millis(40),
            millis(290),
        ),
        Primitive::delaying(
            "delay, uniform",
            // frames do not overtake, so most of the spread lies between the first draw and the highest
            Delay::Uniform { shortest: millis(20), longest: millis(200) },
            |seen| seen.all_passed() && seen.shortest() >= millis(20) && seen.spread() >= millis(5),
            millis(450),
        ),
        Primitive::delaying(
            "delay, exponential",
            Delay::Exponential { mean: millis(30) },
            |seen| seen.all_passed() && seen.spread() >= millis(20),
            millis(1000),
        ),
        Primitive::delaying(
            "delay, lognormal",
            Delay::Lognormal { median: millis(30), high: millis(90) },
            |seen| seen.all_passed() && seen.shortest() >= millis(3) && seen.spread() >= millis(10),
            millis(1000),
        ),
        Primitive {
            frames: (1..=20).map(|number| vec![b'a' + number; 996]).collect(),
            longest: millis(450),
            ..Primitive::new(
                "bandwidth",
                Conditions { bandwidth: Some(100_000), ..Conditions::default() },
                // 20 frames of 1000 bytes
                |seen| seen.all_passed() && seen.took >= millis(200),
                Observed::all_passed,
            )
        },
    ]
}

fn of_frames() -> Vec<Primitive> {
    let half = Strikes::Chance(0.5);
    vec![
        Primitive::striking("drop", half, Deed::Drop, Observed::some_dropped, Observed::some_dropped),
        Primitive::striking(
            "duplicate",
            half,
            Deed::Duplicate,
            Observed::some_duplicated,
            Observed::some_duplicated,
        ),
        Primitive::striking(
            "reorder",
            Strikes::Chance(0.3),
            Deed::Reorder { at_most: millis(2000) },
            Observed::some_reordered,
            Observed::some_reordered,
        ),
        Primitive::striking(
            "hold the 3rd",
            Strikes::Nth(3),
            Deed::Hold,
            |seen| seen.arrived == seen.all_but(|number| number == 3),
            |seen| {
                let mut late = seen.all_but(|number| number == 3);
                late.push(3);
                seen.arrived == late && seen.answered == late
            },
        ),
        matching(),
        Primitive {
            protocol: Protocol::Bytes,
            other_way: false,
            ..Primitive::striking(
                "drop, bytes: sever",
                Strikes::All,
                Deed::Drop,
                |seen| seen.nothing_arrived() && seen.ended(Ended::Reset),
                Observed::nothing_arrived,
            )
        },
    ]
}

/// Frames in turn: an Accept of a ballot that grows, and a heartbeat. Those from ballot 3 on are dropped.
fn matching() -> Primitive {
    let frame = |number: u64| {
        let suffix = Suffix { start: 0, entries: Entries::default() };
        let ballot = Ballot { config: 0, number: number / 2, priority: 0, node: 1 };
        let accept = GroupMessage::Accept { ballot, session: 1, sequence: number, suffix, decided: 0 };
        wire::encode(&match number % 2 {
            0 => Message::Group { partition: 1, message: accept },
            _ => Message::HeartbeatRequest { round: number },
        })
        .to_vec()
    };
    let matching = Match { min_ballot: Some(3), ..Match::kind(Kind::Accept) };
    let fault = FrameFault { fault: 1, matching, strikes: Strikes::All, deed: Deed::Drop };
    let link = Link::between(1, 2);
    let passes = |seen: &Observed| {
        let kept = seen.all_but(|number| number % 2 == 0 && number / 2 >= 3);
        seen.arrived == kept && seen.answered == kept && seen.is_open()
    };
    Primitive {
        line: link,
        on: link,
        frames: (1..=12).map(frame).collect(),
        ..Primitive::new("drop Accept, ballot >= 3", fault, passes, passes)
    }
}
