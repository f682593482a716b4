//! One primitive in effect and ended, seen from both ends of its line and from everybody else's.

use std::{io, time::Duration};

use anyhow::{Context, Result};

use super::{
    echo::LATER,
    primitives::Primitive,
    stage::{Ended, Line, Received, Stage, interference, numbers, on_connection, shown, until},
};
use crate::proxy::{Link, LinkCounters, Protocol};

/// Round trips of everybody else while a primitive is in effect.
const TRIPS: usize = 20;

/// Slower round trips of somebody else say that the machine is too busy to tell.
const SLOW: Duration = Duration::from_millis(250);

/// What was seen of a line under a primitive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Observed {
    /// Frames that were sent.
    pub(super) sent: usize,
    /// Numbers of the frames that the echo has got, in that order.
    pub(super) arrived: Vec<usize>,
    /// Numbers of the frames that came back.
    pub(super) answered: Vec<usize>,
    /// How long those travelled that arrived.
    pub(super) travelled: Vec<Duration>,
    /// From the first one's sending to the last one's arrival.
    pub(super) took: Duration,
    /// How the tester's end has ended.
    pub(super) here: Ended,
    /// How the echo's end has ended.
    pub(super) there: Ended,
    /// How long after the last frame was sent the echo's end did.
    pub(super) end_took: Option<Duration>,
    pub(super) newcomer: Newcomer,
    /// What the proxy counted on the link since the primitive was put in effect.
    pub(super) dropped: u64,
    pub(super) duplicated: u64,
    pub(super) reordered: u64,
}

/// What has become of a connection that was dialed meanwhile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Newcomer {
    /// None was dialed.
    Untried,
    Refused,
    Silent,
    Answered,
    Reset,
    Finished,
}

impl Observed {
    pub(super) fn nothing_arrived(&self) -> bool {
        self.arrived.is_empty()
    }

    pub(super) fn all_but(&self, not: fn(usize) -> bool) -> Vec<usize> {
        (1..=self.sent).filter(|number| !not(*number)).collect()
    }

    pub(super) fn all_arrived(&self) -> bool {
        self.arrived == self.all_but(|_| false)
    }

    pub(super) fn all_passed(&self) -> bool {
        self.all_arrived() && self.answered == self.arrived
    }

    pub(super) fn is_open(&self) -> bool {
        self.ended(Ended::No)
    }

    /// Both ends have ended like this.
    pub(super) fn ended(&self, ended: Ended) -> bool {
        self.here == ended && self.there == ended
    }

    pub(super) fn shortest(&self) -> Duration {
        self.travelled.iter().min().copied().unwrap_or_default()
    }

    pub(super) fn latest(&self) -> Duration {
        self.travelled.iter().max().copied().unwrap_or_default()
    }

    pub(super) fn spread(&self) -> Duration {
        self.latest().saturating_sub(self.shortest())
    }

    /// Some are missing, as many as the proxy says, and the others passed in order.
    pub(super) fn some_dropped(&self) -> bool {
        let in_order = self.arrived.is_sorted_by(|a, b| a < b);
        let missing = self.sent - self.arrived.len().min(self.sent);
        in_order && self.is_some(missing, self.dropped) && self.answered == self.arrived
    }

    /// Some came twice, one copy behind the other, as many as the proxy says, and all in order.
    pub(super) fn some_duplicated(&self) -> bool {
        let mut once = self.arrived.clone();
        once.dedup();
        let twice = self.arrived.len() - once.len();
        once == self.all_but(|_| false)
            && self.is_some(twice, self.duplicated)
            && self.answered == self.arrived
    }

    /// All came, and as many as the proxy says behind the next one.
    pub(super) fn some_reordered(&self) -> bool {
        let mut sorted = self.arrived.clone();
        sorted.sort_unstable();
        let behind = self.arrived.windows(2).filter(|pair| pair[0] > pair[1]).count();
        sorted == self.all_but(|_| false)
            // the last one has nothing to be behind of
            && (behind as u64..=behind as u64 + 1).contains(&self.reordered)
            && behind > 0
            && self.answered == self.arrived
    }

    fn in_words(&self) -> String {
        let Self { arrived, answered, here, there, newcomer, .. } = self;
        let times = format!("{:?} to {:?}", self.shortest(), self.latest());
        format!(
            "arrived {arrived:?} in {times}, answered {answered:?}, ends {here:?} and {there:?}, newcomer {newcomer:?}"
        )
    }

    fn is_some(&self, seen: usize, counted: u64) -> bool {
        seen as u64 == counted && seen > 0 && seen < self.sent
    }
}

/// What came of trying a primitive.
#[derive(Clone, Debug)]
pub(super) struct Trial {
    pub(super) during: Observed,
    pub(super) after: Observed,
    /// What was wrong.
    pub(super) broken: Vec<String>,
    /// What could not be told.
    pub(super) undecided: Vec<String>,
}

/// The lines of everybody else.
struct Others(Vec<Line>);

impl Others {
    /// Everyone but who talks on `line` or is answered on `on`: another client of the node, the client at the other node, the
    /// nodes among themselves.
    async fn dial(stage: &Stage, protocol: Protocol, [line, on]: [Link; 2], name: &str) -> Result<Self> {
        let links = [
            Link::client(2, 2),
            Link::client(1, 1),
            Link::client(1, 2),
            Link::between(1, 2),
            Link::between(2, 1),
            Link::between(3, 2),
        ];
        let mut others = Vec::new();
        for link in links.into_iter().filter(|link| *link != line && link.backward() != on) {
            others.push(stage.open(protocol, link, &format!("{name} {}", shown(link))).await?);
        }
        Ok(Self(others))
    }

    /// Everyone makes round trips with frames like these; returns the slowest. Whatever was on its way elsewhere has
    /// arrived after that.
    async fn talk(&mut self, frames: &[Vec<u8>]) -> Result<Duration> {
        let mut slowest = Duration::ZERO;
        for frame in frames.iter().cycle().take(TRIPS) {
            for line in &mut self.0 {
                slowest = slowest.max(line.round_trip(frame.clone()).await?);
            }
        }
        Ok(slowest)
    }

    /// Everyone dials anew, is answered, and ends that connection in order.
    async fn come_and_go(&self, stage: &Stage, protocol: Protocol, name: &str) -> Result<()> {
        for Line { link, .. } in &self.0 {
            let dialed = stage.dial(protocol, *link).await;
            let mut guest = dialed.with_context(|| format!("{} did not connect", shown(*link)))?;
            guest.round_trip(format!("guest {name}").into_bytes()).await?;
            guest.finish().await;
            stage.until(|| Ok(guest.received().ended == Ended::Finished)).await?;
        }
        Ok(())
    }
}

/// One trial, while it goes on.
struct Setting<'a> {
    stage: &'a Stage,
    primitive: &'a Primitive,
    line: Line,
    newcomer: Option<Line>,
    /// Why the newcomer was not connected.
    unconnected: Option<Newcomer>,
    before: LinkCounters,
}

/// Tries a primitive: an error says that nothing could be tried.
pub(super) async fn try_out(stage: &Stage, primitive: &Primitive) -> Result<Trial> {
    let Primitive { name, protocol, line, on, .. } = *primitive;
    let network = stage.network(protocol);
    network.open().await;
    let mut others = Others::dial(stage, protocol, [line, on], name).await?;
    let mut line = stage.open(protocol, line, name).await?;
    let counters = network.counters();
    let before = of(&counters, on);
    let later = [LATER, name.as_bytes()].concat();
    if primitive.other_way {
        line.send(later.clone()).await;
        let greeting = line.sent[0].1.clone();
        until(|| Ok(on_connection(&stage.heard(2)?, &greeting).frames.len() == 2)).await?;
    }
    let (mut broken, mut undecided) = (Vec::new(), Vec::new());
    let switched = stage.switch(protocol, &[on], &primitive.conditions).await;
    for frame in &primitive.frames {
        line.send(frame.clone()).await;
    }
    if primitive.finish {
        line.finish().await;
    }
    let mut setting = Setting { stage, primitive, line, newcomer: None, unconnected: None, before };
    setting.dial_newcomer().await;
    let _ = stage.until(|| Ok((primitive.during)(&setting.look()?))).await;
    match others.talk(&primitive.frames).await {
        Ok(slowest) if slowest > SLOW => undecided.push(format!("a round trip of others took {slowest:?}")),
        Ok(_) => {}
        Err(error) => broken.push(format!("others were touched: {error:#}")),
    }
    if let Err(error) = others.come_and_go(stage, protocol, name).await {
        broken.push(format!("others were touched: {error:#}"));
    }
    let during = setting.look()?;
    if !(primitive.during)(&during) {
        broken.push(format!("while in effect: {}", during.in_words()));
    }
    if during.latest().max(during.end_took.unwrap_or_default()) > primitive.longest {
        undecided.push(format!("travelled for {:?}: too busy a machine", during.latest()));
    }
    if primitive.other_way {
        match setting.answer_of(&later).await {
            Err(error) => broken.push(format!("the other direction was touched: {error:#}")),
            Ok(at) if at < switched.effective => {
                undecided.push("the other direction was not tried".to_owned());
            }
            Ok(_) => {}
        }
    }
    network.open().await;
    let _ = stage.until(|| Ok((primitive.after)(&setting.look()?))).await;
    if let Err(error) = others.talk(&primitive.frames).await {
        broken.push(format!("others were touched: {error:#}"));
    }
    let after = setting.look()?;
    if !(primitive.after)(&after) {
        broken.push(format!("once it had ended: {}", after.in_words()));
    }
    broken.extend(touched(&counters, &network.counters(), [on, setting.line.link]));
    Ok(Trial { during, after, broken, undecided })
}

impl Setting<'_> {
    async fn dial_newcomer(&mut self) {
        match self.stage.dial(self.primitive.protocol, self.line.link).await {
            Ok(mut newcomer) => {
                newcomer.send(format!("newcomer {}", self.primitive.name).into_bytes()).await;
                self.newcomer = Some(newcomer);
            }
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                self.unconnected = Some(Newcomer::Refused);
            }
            Err(_) => self.unconnected = Some(Newcomer::Reset),
        }
    }

    /// Both ends as they are now.
    fn look(&self) -> Result<Observed> {
        let network = self.stage.network(self.primitive.protocol);
        let contents = &self.primitive.frames;
        let heard = self.stage.heard(2)?;
        let (here, there) = (self.line.received(), on_connection(&heard, &self.line.sent[0].1));
        let sent_at =
            |frame: &Vec<u8>| self.line.sent.iter().find(|(_, content)| content == frame).map(|(at, _)| *at);
        let travelled = |(at, frame): &(u64, Vec<u8>)| {
            contents.contains(frame).then(|| at.saturating_sub(sent_at(frame).unwrap_or_default()))
        };
        let first_sent = contents.iter().filter_map(sent_at).min().unwrap_or_default();
        let ours = there.frames.iter().filter(|(_, frame)| contents.contains(frame));
        let last_arrived = ours.map(|(at, _)| *at).max().unwrap_or_default();
        let last_sent = self.line.sent.last().map(|(at, _)| *at).unwrap_or_default();
        let ended = there.ended != Ended::No;
        let now = of(&network.counters(), self.primitive.on);
        Ok(Observed {
            sent: contents.len(),
            arrived: numbers(&there, contents),
            answered: numbers(&here, contents),
            travelled: there.frames.iter().filter_map(travelled).map(Duration::from_nanos).collect(),
            took: Duration::from_nanos(last_arrived.saturating_sub(first_sent)),
            here: here.ended,
            there: there.ended,
            end_took: ended.then(|| Duration::from_nanos(there.ended_at.saturating_sub(last_sent))),
            newcomer: self.newcomer(),
            dropped: now.dropped - self.before.dropped,
            duplicated: now.duplicated - self.before.duplicated,
            reordered: now.reordered - self.before.reordered,
        })
    }

    fn newcomer(&self) -> Newcomer {
        let received = self.newcomer.as_ref().map(Line::received);
        match (self.unconnected, received) {
            (Some(newcomer), _) => newcomer,
            (None, Some(Received { frames, .. })) if !frames.is_empty() => Newcomer::Answered,
            (None, Some(Received { ended: Ended::Reset, .. })) => Newcomer::Reset,
            (None, Some(Received { ended: Ended::Finished, .. })) => Newcomer::Finished,
            (None, _) => Newcomer::Silent,
        }
    }

    /// When the answer came to a frame that was sent before.
    async fn answer_of(&self, content: &Vec<u8>) -> Result<u64> {
        let answer =
            || self.line.received().frames.iter().find(|(_, frame)| frame == content).map(|(at, _)| *at);
        self.stage.until(|| Ok(answer().is_some())).await?;
        answer().context("an answer")
    }
}

/// Links on which the proxy has done anything but carry, though nobody asked it to.
fn touched(before: &[LinkCounters], after: &[LinkCounters], meant: [Link; 2]) -> Vec<String> {
    let pairs = before.iter().zip(after).filter(|(before, _)| !meant.contains(&before.link));
    pairs
        .map(|(before, after)| (after.link, interference(before, after)))
        .filter(|(_, words)| !words.is_empty())
        .map(|(link, words)| format!("the proxy touched {}: {words}", shown(link)))
        .collect()
}

fn of(counters: &[LinkCounters], link: Link) -> LinkCounters {
    *counters.iter().find(|counters| counters.link == link).expect("a link of the network")
}

/// Tries to pause and to kill a process: `true` kills.
pub(super) async fn try_process(stage: &Stage, kills: bool) -> Result<Trial> {
    stage.network(Protocol::Frames).open().await;
    let name = if kills { "kill" } else { "pause" };
    let mut others = Vec::new();
    for link in [Link::client(1, 1), Link::between(2, 1)] {
        others.push(stage.open(Protocol::Frames, link, &format!("{name} {}", shown(link))).await?);
    }
    let mut others = Others(others);
    let mut process =
        Process { stage, kills, line: stage.open(Protocol::Frames, Link::client(1, 2), name).await? };
    let (mut broken, mut undecided) = (Vec::new(), Vec::new());
    for node in stage.nodes() {
        process.begin(*node).await?;
    }
    for frame in process.frames() {
        process.line.send(frame).await;
    }
    let stopped = |seen: &Observed| {
        let end = if kills { seen.here != Ended::No } else { seen.here == Ended::No };
        seen.nothing_arrived() && seen.answered.is_empty() && end
    };
    let _ = stage.until(|| Ok(stopped(&process.look()?))).await;
    match others.talk(&process.frames()).await {
        Ok(slowest) if slowest > SLOW => undecided.push(format!("a round trip of others took {slowest:?}")),
        Ok(_) => {}
        Err(error) => broken.push(format!("others were touched: {error:#}")),
    }
    let during = process.look()?;
    if !stopped(&during) {
        broken.push(format!("while in effect: {}", during.in_words()));
    }
    for node in stage.nodes() {
        process.end(*node).await?;
    }
    let back = |seen: &Observed| if kills { seen.nothing_arrived() } else { seen.all_passed() };
    let _ = stage.until(|| Ok(back(&process.look()?))).await;
    let after = process.look()?;
    if !back(&after) {
        broken.push(format!("once it had ended: {}", after.in_words()));
    }
    if let Err(error) = stage.open(Protocol::Frames, Link::client(1, 2), &format!("{name} again")).await {
        broken.push(format!("the process did not come back: {error:#}"));
    }
    Ok(Trial { during, after, broken, undecided })
}

/// A fault of a process, while it is tried.
struct Process<'a> {
    stage: &'a Stage,
    kills: bool,
    line: Line,
}

impl Process<'_> {
    fn frames(&self) -> Vec<Vec<u8>> {
        let name = if self.kills { "killed" } else { "paused" };
        (1..=20).map(|number| format!("{name} {number}").into_bytes()).collect()
    }

    async fn begin(&self, node: u64) -> Result<()> {
        let cluster = &self.stage.cluster;
        if self.kills { cluster.kill(node).await } else { cluster.pause(node).await }?;
        Ok(())
    }

    async fn end(&self, node: u64) -> Result<()> {
        let cluster = &self.stage.cluster;
        if self.kills {
            cluster.restart(node).await?;
        } else {
            cluster.resume(node).await?;
        }
        Ok(())
    }

    fn look(&self) -> Result<Observed> {
        let contents = self.frames();
        let heard = self.stage.heard(2)?;
        let (here, there) = (self.line.received(), on_connection(&heard, &self.line.sent[0].1));
        Ok(Observed {
            sent: contents.len(),
            arrived: numbers(&there, &contents),
            answered: numbers(&here, &contents),
            travelled: Vec::new(),
            took: Duration::ZERO,
            here: here.ended,
            there: there.ended,
            end_took: None,
            newcomer: Newcomer::Untried,
            dropped: 0,
            duplicated: 0,
            reordered: 0,
        })
    }
}
