//! From the tables of faults to faults that make sense.

use std::{ops::Range, time::Duration};

use store::config::StorageKind;
use toml::Spanned;

use super::{
    ClockChange, Death, Direction, Fault, FaultAction, FaultSpec, Happening, LinkRule, NemesisEntry, Shape,
    Time, Trigger, When, Word,
    check::{Scope, at_least},
    file, permanent,
    problem::suggestion,
    scalar::{Peer, Target},
};
use crate::proxy::{Connect, Deed, Delay, Match, Rule, Strikes};

/// Checks one `[[nemesis]]`.
pub fn check_entry(
    scope: &Scope,
    faults: Time,
    entry: Spanned<file::Nemesis>,
) -> Result<NemesisEntry, Fault> {
    let span = entry.span();
    let entry = entry.into_inner();
    let name = entry.name.as_ref().map(|name| unique(scope, name)).transpose()?;
    let fault = entry.fault(name);
    let when = match (entry.at, entry.every, entry.after) {
        (Some(at), None, None) if at.get_ref() >= &faults => {
            let fault = Fault::new(at.span(), "the fault is due after the faults phase", "never comes");
            return Err(fault
                .help(format!("the phase takes {faults}: raise `faults` in `[phases]`, or say it earlier")));
        }
        (Some(at), None, None) => When::At(at.into_inner()),
        (None, Some(every), None)
            if entry.lasts.as_ref().is_some_and(|lasts| lasts.get_ref() >= every.get_ref()) =>
        {
            return Err(Fault::new(every.span(), "the fault comes again before it is over", "too often")
                .help("write a longer `every` or a shorter `for`"));
        }
        (None, Some(every), None) if every.get_ref().0 * 3 / 2 >= faults.0 => {
            return Err(Fault::new(every.span(), "the fault may not come at all", "too rare").help(format!(
                "it comes first after half to one and a half of this, and the phase takes {faults}: write a shorter \
                 `every`, or `at`, or raise `faults` in `[phases]`"
            )));
        }
        (None, Some(every), None) => When::Every(every.into_inner()),
        (None, None, Some(after)) => When::After(check_trigger(scope, &after)?),
        _ => {
            return Err(Fault::new(span, "when?", "not one of `at`, `every` and `after`").help(
                "write `at = \"5s\"` for once, `every = \"5s\"` for again and again, or for instance \
                 `after = { writes = 500 }`",
            ));
        }
    };
    let target = fault.target.as_ref().map(|target| (target.get_ref(), target.span()));
    for (target, span) in target.into_iter().chain(peer_nodes(&fault)) {
        if let Target::Answered(_) = target {
            return Err(Fault::new(span, "no step has answered here", "only in a step")
                .help("write `node 3`, `leader(1)`, `follower(1)` or `random`"));
        }
    }
    let mut fault = check_fault(scope, span.clone(), &fault)?;
    fault.permanent = permanent::check(entry.permanent.as_ref(), span, &when, &fault)?;
    Ok(NemesisEntry { when, fault })
}

fn unique(scope: &Scope, name: &Spanned<String>) -> Result<String, Fault> {
    if scope.names.iter().filter(|other| *other == name.get_ref()).count() > 1 {
        return Err(Fault::new(name.span(), "the name is taken", "twice").help("name each fault differently"));
    }
    Ok(name.get_ref().clone())
}

fn check_trigger(scope: &Scope, after: &Spanned<file::After>) -> Result<Trigger, Fault> {
    let span = after.span();
    let after = after.get_ref();
    let happening = match after {
        file::After {
            message: Some(kind),
            leader_change: None,
            writes: None,
            fault: None,
            ends: None,
            ..
        } => {
            for node in after.from.iter().chain(&after.to) {
                scope.node(*node.get_ref(), node.span())?;
            }
            if let Some(partition) = &after.partition {
                scope.partition(*partition.get_ref(), partition.span())?;
            }
            let matching = Match {
                partition: value(after.partition.as_ref()),
                min_ballot: value(after.ballot.as_ref()),
                ..Match::kind(*kind.get_ref())
            };
            Happening::Message { from: value(after.from.as_ref()), to: value(after.to.as_ref()), matching }
        }
        file::After { from, to, ballot, partition, .. }
            if from.is_some() || to.is_some() || ballot.is_some() || partition.is_some() =>
        {
            return Err(Fault::new(
                span,
                "`from`, `to`, `ballot` and `partition` describe a message",
                "no `message`",
            )
            .help("write for instance `after = { message = \"accept\", ballot = 2, from = 1, to = 2 }`"));
        }
        file::After {
            message: None,
            leader_change: Some(partition),
            writes: None,
            fault: None,
            ends: None,
            ..
        } => {
            scope.partition(*partition.get_ref(), partition.span())?;
            Happening::LeaderChange { partition: *partition.get_ref() }
        }
        file::After {
            message: None,
            leader_change: None,
            writes: Some(writes),
            fault: None,
            ends: None,
            count: None,
            ..
        } => {
            let count = at_least(writes, 1, "writes")?;
            return Ok(Trigger { happening: Happening::Write, count, plus: after.plus });
        }
        file::After { message: None, leader_change: None, writes: None, fault: Some(name), .. } => {
            if !scope.names.contains(name.get_ref()) {
                let help = suggestion(name.get_ref(), &scope.names, "names of `[[nemesis]]` entries");
                let title = format!("no fault is called `{}`", name.get_ref());
                return Err(Fault::new(name.span(), title, "named here").help(help));
            }
            let ends = after.ends.as_ref().is_some_and(|ends| *ends.get_ref());
            let name = name.get_ref().clone();
            if ends { Happening::FaultEnds(name) } else { Happening::FaultBegins(name) }
        }
        _ => {
            return Err(Fault::new(span, "after what?", "not one thing").help(
                "write one of `{ message = \"accept\" }`, `{ leader_change = 1 }`, `{ writes = 500 }` and \
                 `{ fault = \"name\" }`; `count` and `plus` may go with it",
            ));
        }
    };
    if let Some(lack) = scope.system.lacks_happening(&happening) {
        let place = after.message.as_ref().map(Spanned::span);
        let place = place.or(after.leader_change.as_ref().map(Spanned::span)).unwrap_or_default();
        return Err(Fault::new(place, lack.what, "would wait for ever").help(lack.help));
    }
    let count = after.count.as_ref().map_or(Ok(1), |count| at_least(count, 1, "times"))?;
    Ok(Trigger { happening, count, plus: after.plus })
}

fn value<T: Copy>(of: Option<&Spanned<T>>) -> Option<T> {
    of.map(|of| *of.get_ref())
}

/// Checks a fault, wherever it stands.
pub fn check_fault(scope: &Scope, span: Range<usize>, fault: &file::Fault) -> Result<FaultSpec, Fault> {
    let word = *fault.action.get_ref();
    only_its_keys(word, fault)?;
    suits_clients(word, fault)?;
    let target = target(scope, &span, fault)?;
    let action = action(scope, &span, word, fault)?;
    let memory = scope.cluster.storage == StorageKind::Memory;
    let restarts = match action {
        FaultAction::Restart | FaultAction::Wipe | FaultAction::Kill(Death::DuringRecovery) => true,
        FaultAction::Kill(_) => fault.lasts.is_some(),
        _ => false,
    };
    if memory && restarts {
        let place = fault.lasts.as_ref().map_or(fault.action.span(), Spanned::span);
        return Err(Fault::new(
            place,
            "a killed node without durable storage stays dead",
            "would restart it",
        )
        .help("remove it, or write `storage = \"durable\"` in `[cluster]`"));
    }
    if memory
        && matches!(
            action,
            FaultAction::StallDisk { .. } | FaultAction::Kill(Death::LosesUnsynced | Death::TearsLog)
        )
    {
        return Err(Fault::new(fault.action.span(), "nothing is synced in memory", "has no meaning here")
            .help("write `storage = \"durable\"` in `[cluster]`, or remove it"));
    }
    let lasts = fault.lasts.as_ref().map(|lasts| *lasts.get_ref());
    let spec = FaultSpec { name: fault.name.clone(), word, target, lasts, action, permanent: false };
    match scope.system.lacks(&spec) {
        None => Ok(spec),
        Some(why) => Err(Fault::new(fault.action.span(), format!("this cannot be done to {}", scope.system.name()), why)
            .help("remove it, or choose what meets processes, connections or bytes: `harness explain-workload` has the list")),
    }
}

fn target(scope: &Scope, span: &Range<usize>, fault: &file::Fault) -> Result<Target, Fault> {
    if let Some((peer, span)) = peer_nodes(fault) {
        scope.target(peer, span)?;
    }
    match (&fault.target, *fault.action.get_ref()) {
        (Some(target), _) => {
            scope.target(target.get_ref(), target.span())?;
            Ok(target.get_ref().clone())
        }
        (None, Word::Heal | Word::Split | Word::MajoritiesRing | Word::Swizzle | Word::Release) => {
            Ok(Target::All)
        }
        (None, Word::Halves | Word::Bridge | Word::Chain) => Ok(Target::Random),
        (None, _) => Err(Fault::new(span.clone(), "whom?", "this action needs a `target`")
            .help("write `target = \"leader(1)\"`, `\"node 3\"`, `\"follower(1)\"` or `\"random\"`")),
    }
}

/// The nodes at the other end, with their place.
fn peer_nodes(fault: &file::Fault) -> Option<(&Target, Range<usize>)> {
    let peer = fault.peer.as_ref()?;
    match peer.get_ref() {
        Peer::Clients => None,
        Peer::Nodes(target) => Some((target, peer.span())),
    }
}

fn action(scope: &Scope, span: &Range<usize>, word: Word, fault: &file::Fault) -> Result<FaultAction, Fault> {
    let cut = || fault.links.as_ref().map(|links| *links.get_ref()).unwrap_or_default().into();
    let direction = |otherwise| fault.direction.as_ref().map_or(otherwise, |way| *way.get_ref());
    let between = |otherwise| {
        let direction = direction(otherwise);
        match fault.peer.as_ref().map(Spanned::get_ref) {
            None => Shape::Between { peer: None, direction },
            Some(Peer::Nodes(peer)) => Shape::Between { peer: Some(peer.clone()), direction },
            Some(Peer::Clients) => Shape::Clients { direction },
        }
    };
    let shaped = |shape| FaultAction::Links { shape, rule: cut() };
    let on_links = |rule| FaultAction::Links { shape: between(Direction::Both), rule };
    Ok(match word {
        Word::Kill => FaultAction::Kill(Death::Now),
        Word::KillDuringWrite => FaultAction::Kill(Death::DuringWrite),
        Word::KillDuringRecovery => FaultAction::Kill(Death::DuringRecovery),
        Word::KillDuringSnapshot => FaultAction::Kill(Death::DuringSnapshot),
        Word::LoseUnsynced => FaultAction::Kill(Death::LosesUnsynced),
        Word::CorruptTail => FaultAction::Kill(Death::TearsLog),
        Word::Wipe => FaultAction::Wipe,
        Word::Restart => FaultAction::Restart,
        Word::Pause => FaultAction::Pause,
        Word::Resume => FaultAction::Resume,
        Word::Isolate => shaped(between(Direction::Both)),
        Word::Cut => {
            needed(fault.peer.as_ref(), span, "from whom?", "`peer`", "peer = \"follower(1)\"")?;
            shaped(between(Direction::Both))
        }
        Word::CutOneway => shaped(between(Direction::Out)),
        Word::Halves => shaped(Shape::Halves),
        Word::Split => {
            let parts = needed(fault.parts.as_ref(), span, "into how many parts?", "`parts`", "parts = 3")?;
            let parts = at_least(parts, 2, "parts")?;
            shaped(Shape::Split { parts })
        }
        Word::MajoritiesRing => {
            if scope.nodes < 4 {
                return Err(Fault::new(fault.action.span(), "a ring without gaps", "cuts nothing")
                    .help("it takes four nodes or more: with fewer, each needs all of its neighbours for a majority"));
            }
            shaped(Shape::MajoritiesRing)
        }
        Word::Bridge => shaped(Shape::Bridge),
        Word::Chain => shaped(Shape::Chain),
        Word::Swizzle => shaped(Shape::Swizzle { period: period(fault, span)? }),
        Word::Flap => shaped(Shape::Flap { period: period(fault, span)? }),
        Word::Hold => on_links(LinkRule::Rule(Rule::Hold)),
        Word::Refuse => on_links(LinkRule::Connect(Connect::Refuse)),
        Word::HalfOpen => on_links(LinkRule::Rule(Rule::HalfOpen)),
        Word::Delay => {
            let delay = needed(fault.delay.as_ref(), span, "how long?", "`delay`", "delay = \"20ms\"")?;
            on_links(LinkRule::Delay(distribution(delay)?))
        }
        Word::Throttle => {
            let limit = needed(
                fault.bytes_per_second.as_ref(),
                span,
                "how much passes?",
                "`bytes_per_second`",
                "bytes_per_second = 20000",
            )?;
            on_links(LinkRule::Throttle { bytes_per_second: at_least(limit, 1, "bytes a second")? })
        }
        Word::FrameDrop => on_links(frames(scope, fault, Deed::Drop)?),
        Word::FrameDuplicate => on_links(frames(scope, fault, Deed::Duplicate)?),
        Word::FrameReorder => {
            let at_most = value(fault.at_most.as_ref()).map_or(REORDERED, |at_most| at_most.0);
            on_links(frames(scope, fault, Deed::Reorder { at_most })?)
        }
        Word::FrameHold => on_links(frames(scope, fault, Deed::Hold)?),
        Word::Release => FaultAction::Release,
        Word::Reset => FaultAction::Reset,
        Word::TransferLeader => {
            let partition =
                needed(fault.partition.as_ref(), span, "which partition?", "`partition`", "partition = 1")?;
            scope.partition(*partition.get_ref(), partition.span())?;
            FaultAction::TransferLeader { partition: *partition.get_ref() }
        }
        Word::StallDisk => FaultAction::StallDisk { slow: fault.slow.as_ref().map(|slow| *slow.get_ref()) },
        Word::ClockRate => {
            let rate =
                needed(fault.rate_ppm.as_ref(), span, "at what rate?", "`rate_ppm`", "rate_ppm = 40000")?;
            scope.clock_rate(*rate.get_ref(), rate.span())?;
            FaultAction::Clock(ClockChange::Rate { ppm: *rate.get_ref() })
        }
        Word::ClockOffset => {
            let jump = needed(fault.offset_ms.as_ref(), span, "how far?", "`offset_ms`", "offset_ms = 500")?;
            FaultAction::Clock(ClockChange::Offset { ms: *jump.get_ref() })
        }
        Word::ClockFreeze => FaultAction::Clock(ClockChange::Freeze),
        Word::Heal => FaultAction::Heal,
    })
}

/// How long a message is kept back at most for others to pass, unless the file says so.
const REORDERED: Duration = Duration::from_millis(50);

pub fn distribution(delay: &Spanned<file::DelayTable>) -> Result<Delay, Fault> {
    let table = match *delay.get_ref() {
        file::DelayTable::Constant(time) => return Ok(Delay::Constant(time.0)),
        file::DelayTable::Distribution(table) => table,
    };
    match table {
        file::Distributed { shortest: Some(shortest), longest: Some(longest), mean: None, median: None, high: None }
            if shortest <= longest =>
        {
            Ok(Delay::Uniform { shortest: shortest.0, longest: longest.0 })
        }
        file::Distributed { shortest: None, longest: None, mean: Some(mean), median: None, high: None } => {
            Ok(Delay::Exponential { mean: mean.0 })
        }
        file::Distributed { shortest: None, longest: None, mean: None, median: Some(median), high: Some(high) }
            if median <= high =>
        {
            Ok(Delay::Lognormal { median: median.0, high: high.0 })
        }
        _ => Err(Fault::new(delay.span(), "no such distribution", "not one of the ways to say it").help(
            "write one of `\"20ms\"`, `{ shortest = \"1ms\", longest = \"20ms\" }`, `{ mean = \"5ms\" }` and `{ median = \
             \"5ms\", high = \"50ms\" }`",
        )),
    }
}

fn frames(scope: &Scope, fault: &file::Fault, deed: Deed) -> Result<LinkRule, Fault> {
    if let Some(partition) = &fault.partition {
        scope.partition(*partition.get_ref(), partition.span())?;
    }
    let strikes = match (&fault.chance, &fault.nth) {
        (None, None) => Strikes::All,
        (Some(chance), None) if (0.0..=1.0).contains(chance.get_ref()) => Strikes::Chance(*chance.get_ref()),
        (Some(chance), None) => {
            return Err(
                Fault::new(chance.span(), "not a probability", "here").help("write a number from 0 to 1")
            );
        }
        (None, Some(nth)) => Strikes::Nth(at_least(nth, 1, "messages")?),
        (Some(chance), Some(_)) => {
            return Err(Fault::new(chance.span(), "which messages?", "beside `nth`")
                .help("write one of `chance` and `nth`, or neither for all messages"));
        }
    };
    let matching = Match {
        kinds: fault.kinds.as_ref().map(|kinds| kinds.get_ref().clone()).unwrap_or_default(),
        partition: value(fault.partition.as_ref()),
        min_ballot: value(fault.min_ballot.as_ref()),
        max_ballot: value(fault.max_ballot.as_ref()),
    };
    Ok(LinkRule::Frames { matching, strikes, deed })
}

fn period(fault: &file::Fault, span: &Range<usize>) -> Result<Time, Fault> {
    let period = needed(fault.period.as_ref(), span, "how fast?", "`period`", "period = \"200ms\"")?;
    if period.get_ref().0.is_zero() {
        return Err(Fault::new(period.span(), "no time from one change to the next", "here")
            .help("write a `period` such as \"200ms\""));
    }
    Ok(*period.get_ref())
}

fn needed<'a, T>(
    value: Option<&'a Spanned<T>>,
    span: &Range<usize>,
    title: &str,
    key: &str,
    example: &str,
) -> Result<&'a Spanned<T>, Fault> {
    value.ok_or_else(|| {
        Fault::new(span.clone(), title, format!("this action needs {key}")).help(format!("write `{example}`"))
    })
}

/// The keys that an action takes, beside `target` and `for`.
pub fn keys_of(word: Word) -> &'static [&'static str] {
    match word {
        Word::Isolate | Word::Halves | Word::MajoritiesRing | Word::Bridge | Word::Chain => &["links"],
        Word::Cut => &["links", "peer"],
        Word::CutOneway => &["links", "peer", "direction"],
        Word::Split => &["links", "parts"],
        Word::Swizzle | Word::Flap => &["links", "period"],
        Word::Hold | Word::Refuse | Word::HalfOpen => &["peer", "direction"],
        Word::Delay => &["peer", "direction", "delay"],
        Word::Throttle => &["peer", "direction", "bytes_per_second"],
        Word::FrameDrop | Word::FrameDuplicate | Word::FrameHold => {
            &["peer", "direction", "kinds", "partition", "min_ballot", "max_ballot", "chance", "nth"]
        }
        Word::FrameReorder => &[
            "peer",
            "direction",
            "kinds",
            "partition",
            "min_ballot",
            "max_ballot",
            "chance",
            "nth",
            "at_most",
        ],
        Word::TransferLeader => &["partition"],
        Word::StallDisk => &["slow"],
        Word::ClockRate => &["rate_ppm"],
        Word::ClockOffset => &["offset_ms"],
        Word::Kill
        | Word::KillDuringWrite
        | Word::KillDuringRecovery
        | Word::KillDuringSnapshot
        | Word::LoseUnsynced
        | Word::CorruptTail
        | Word::Wipe
        | Word::Restart
        | Word::Pause
        | Word::Resume
        | Word::Release
        | Word::Reset
        | Word::ClockFreeze
        | Word::Heal => &[],
    }
}

/// Whether an action has an end, so that `for` says when.
fn may_last(word: Word) -> bool {
    !matches!(
        word,
        Word::Wipe
            | Word::Restart
            | Word::Resume
            | Word::Release
            | Word::Reset
            | Word::TransferLeader
            | Word::Heal
    )
}

/// The actions that may be about links to clients.
const ON_CLIENT_LINKS: &[Word] =
    &[Word::Cut, Word::CutOneway, Word::Hold, Word::Refuse, Word::HalfOpen, Word::Delay];

fn suits_clients(word: Word, fault: &file::Fault) -> Result<(), Fault> {
    let Some(peer) = fault.peer.as_ref().filter(|peer| *peer.get_ref() == Peer::Clients) else {
        return Ok(());
    };
    if !ON_CLIENT_LINKS.contains(&word) {
        let words: Vec<String> = ON_CLIENT_LINKS.iter().map(|word| format!("`{}`", word.text())).collect();
        let title = format!("`{}` is not done to the links of clients", word.text());
        let help = format!("{} are; or name nodes", words.join(", "));
        return Err(Fault::new(peer.span(), title, "here").help(help));
    }
    match &fault.direction {
        Some(direction) if word == Word::Refuse => {
            Err(Fault::new(direction.span(), "nodes do not connect to clients", "has no meaning here")
                .help("remove it: clients connect to nodes, and are refused"))
        }
        _ => Ok(()),
    }
}

fn only_its_keys(word: Word, fault: &file::Fault) -> Result<(), Fault> {
    let given = [
        ("links", fault.links.as_ref().map(Spanned::span)),
        ("direction", fault.direction.as_ref().map(Spanned::span)),
        ("peer", fault.peer.as_ref().map(Spanned::span)),
        ("parts", fault.parts.as_ref().map(Spanned::span)),
        ("period", fault.period.as_ref().map(Spanned::span)),
        ("slow", fault.slow.as_ref().map(Spanned::span)),
        ("delay", fault.delay.as_ref().map(Spanned::span)),
        ("bytes_per_second", fault.bytes_per_second.as_ref().map(Spanned::span)),
        ("kinds", fault.kinds.as_ref().map(Spanned::span)),
        ("partition", fault.partition.as_ref().map(Spanned::span)),
        ("min_ballot", fault.min_ballot.as_ref().map(Spanned::span)),
        ("max_ballot", fault.max_ballot.as_ref().map(Spanned::span)),
        ("chance", fault.chance.as_ref().map(Spanned::span)),
        ("nth", fault.nth.as_ref().map(Spanned::span)),
        ("at_most", fault.at_most.as_ref().map(Spanned::span)),
        ("rate_ppm", fault.rate_ppm.as_ref().map(Spanned::span)),
        ("offset_ms", fault.offset_ms.as_ref().map(Spanned::span)),
        ("for", fault.lasts.as_ref().filter(|_| !may_last(word)).map(Spanned::span)),
    ];
    let keys = keys_of(word);
    let stray = given
        .into_iter()
        .find_map(|(key, span)| span.filter(|_| !keys.contains(&key)).map(|span| (key, span)));
    let Some((key, span)) = stray else { return Ok(()) };
    let title = format!("`{key}` does not go with `{}`", word.text());
    let belongs: Vec<String> = Word::ALL
        .iter()
        .filter(|word| if key == "for" { may_last(**word) } else { keys_of(**word).contains(&key) })
        .map(|word| format!("`{}`", word.text()))
        .collect();
    Err(Fault::new(span, title, "has no meaning here").help(format!("it belongs to {}", belongs.join(", "))))
}
