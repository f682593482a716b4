//! The links between nodes: one connection for each direction, in order while it lasts, and cut off at its end.
//!
//! A link's conditions are those of the proxy ([`Conditions`]): a held link keeps what it carries and delivers it in order
//! later; a severed one loses it, and the next connection begins with a session. What a killed sender had handed to its kernel may
//! still arrive. Now and then a message of a severed connection comes late, after those of the next connection: a node
//! on TCP would drop it, but the core does not rely on that, since its sessions recognise such messages.

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use store::{api::NodeId, core::Message, node::wire::encode};

use super::{
    chance::{Dice, STRAGGLING, Weather},
    events::{Agenda, Event},
};
use crate::{
    proxy::{self, Conditions, Connect, Deed, Draw, Rule, Strikes},
    replay::{Followed, Follower, Passage},
    workload::seen,
};

/// One in so many messages of a severed connection comes late.
const STRAGGLES: u64 = 3;

/// What a link carries.
#[derive(Debug)]
pub enum Parcel {
    /// A new connection.
    Session,
    /// A message on it.
    Message(Letter),
}

/// A message with its number among all that were sent, from 1.
#[derive(Clone, Debug)]
pub struct Letter {
    /// Its number.
    pub number: u64,
    /// The message.
    pub message: Message,
}

/// All links.
#[derive(Debug)]
pub struct Network {
    nodes: u64,
    links: Vec<Link>,
    weather: Weather,
    seed: u64,
    /// Messages of severed connections that come late; none: it has come, or its receiver has died.
    stragglers: Vec<Option<(u32, Letter)>>,
    /// Messages that were handed to it.
    pub sent: u64,
    /// Messages that faults have struck, also those that have ended.
    struck: BTreeMap<u64, u64>,
    /// The real run whose messages these follow, if the plan says so.
    follower: Option<Follower>,
}

#[derive(Debug, Default)]
struct Link {
    conditions: Conditions,
    connected: bool,
    /// Arrivals that were scheduled in an earlier epoch are void.
    epoch: u32,
    /// In order, with the time of arrival.
    carried: VecDeque<(u64, Parcel)>,
    /// Nothing arrives before this.
    last: u64,
    /// A throttled link is busy until then.
    busy: u64,
    /// Messages that were sent on it.
    sent: u64,
    /// How many messages each fault has met.
    met: BTreeMap<u64, u64>,
    /// Messages that faults keep, which pass when those end.
    kept: Vec<(u64, Letter)>,
}

impl Network {
    /// Links that are open, and not connected. Chance that belongs to faults is drawn from `seed`.
    pub fn new(nodes: u64, weather: Weather, seed: u64) -> Self {
        let links = (0..nodes * nodes).map(|_| Link::default()).collect();
        let (stragglers, struck, follower) = Default::default();
        Self { nodes, links, weather, seed, stragglers, sent: 0, struck, follower }
    }

    /// From now on messages follow those of a real run, as far as they can be matched.
    pub fn follow(&mut self, follower: Follower) {
        self.follower = Some(follower);
    }

    /// The clients begin; in the run that is followed they began at that time of its own.
    pub fn clients_begin(&mut self, there: u64, now: u64) {
        if let Some(follower) = &mut self.follower {
            follower.clients_begin(there, now);
        }
    }

    /// How many messages have followed others.
    pub fn followed(&self) -> Followed {
        self.follower.as_ref().map(|follower| follower.followed).unwrap_or_default()
    }

    /// The ends of a link.
    pub fn ends(&self, link: u32) -> (NodeId, NodeId) {
        (u64::from(link) / self.nodes + 1, u64::from(link) % self.nodes + 1)
    }

    /// The links from and to a node.
    pub fn links_of(&self, node: NodeId) -> impl Iterator<Item = u32> + use<> {
        let nodes = self.nodes;
        let link = move |from: NodeId, to: NodeId| ((from - 1) * nodes + to - 1) as u32;
        (1..=nodes)
            .filter(move |other| *other != node)
            .flat_map(move |other| [link(node, other), link(other, node)])
    }

    /// Whether a link wants a connection, and may have one.
    pub fn wants_connection(&self, link: u32) -> bool {
        let link = &self.links[link as usize];
        !link.connected && link.takes_connections()
    }

    /// A connection is made.
    pub fn connect(&mut self, index: u32, now: u64, agenda: &mut Agenda, dice: &mut Dice) {
        let delay = self.weather.message.draw(dice);
        let link = &mut self.links[index as usize];
        link.connected = true;
        link.carry(index, now + delay, Parcel::Session, agenda);
    }

    /// A node sends a message; without a connection it is lost.
    pub fn send(
        &mut self,
        (from, to): (NodeId, NodeId),
        message: Message,
        now: u64,
        agenda: &mut Agenda,
        dice: &mut Dice,
    ) {
        self.sent += 1;
        let index = ((from - 1) * self.nodes + to - 1) as u32;
        let due = now + self.weather.message.draw(dice);
        let link = &mut self.links[index as usize];
        if !link.connected {
            return;
        }
        link.sent += 1;
        let letter = Letter { number: self.sent, message };
        let follower = self.follower.as_mut();
        if let Some(passage) =
            follower.and_then(|follower| follower.passage((from, to), &letter.message, now))
        {
            return self.pass_as_recorded(index, letter, passage, agenda);
        }
        if link.conditions == Conditions::default() {
            return link.carry(index, due, Parcel::Message(letter), agenda);
        }
        let draw = Draw {
            seed: self.seed,
            link: proxy::Link::between(from, to),
            connection: u64::from(link.epoch),
            frame: link.sent,
            purpose: 0,
        };
        let due = link.travel(&letter.message, due, now, draw);
        let struck = link.struck(&letter.message, draw);
        if let Some((fault, _)) = struck {
            *self.struck.entry(fault).or_default() += 1;
        }
        match struck {
            None => link.carry(index, due, Parcel::Message(letter), agenda),
            Some((_, Deed::Drop)) => {}
            Some((_, Deed::Duplicate)) => {
                link.carry(index, due, Parcel::Message(letter.clone()), agenda);
                link.carry(index, due, Parcel::Message(letter), agenda);
            }
            Some((_, Deed::Reorder { at_most })) => {
                // others pass it until then, or nobody does
                let late = due + dice.below(at_most.as_nanos() as u64 + 1);
                agenda.add(late, Event::Straggler(self.stragglers.len()));
                self.stragglers.push(Some((index, letter)));
            }
            Some((fault, Deed::Hold)) => link.kept.push((fault, letter)),
        }
    }

    /// What became of the message that this one follows becomes of this one.
    fn pass_as_recorded(&mut self, index: u32, letter: Letter, passage: Passage, agenda: &mut Agenda) {
        let link = &mut self.links[index as usize];
        // by the fault that is in effect there, as in that run
        if let Some(fault) = link.who_does(passage) {
            *self.struck.entry(fault).or_default() += 1;
        }
        match passage {
            Passage::Arrives { at, again } => {
                let twice = again.map(|again| (again, letter.clone()));
                link.carry(index, at, Parcel::Message(letter), agenda);
                if let Some((again, letter)) = twice {
                    link.carry(index, again, Parcel::Message(letter), agenda);
                }
            }
            Passage::Late { at } => {
                agenda.add(at, Event::Straggler(self.stragglers.len()));
                self.stragglers.push(Some((index, letter)));
            }
            Passage::Dropped => {}
        }
    }

    /// How many messages the fault of this number has struck so far.
    pub fn struck(&self, fault: u64) -> u64 {
        self.struck.get(&fault).copied().unwrap_or_default()
    }

    /// The parcel whose arrival was scheduled.
    pub fn arrived(&mut self, link: u32, epoch: u32) -> Option<Parcel> {
        let link = &mut self.links[link as usize];
        if link.epoch != epoch {
            return None;
        }
        link.carried.pop_front().map(|(_, parcel)| parcel)
    }

    /// Other conditions are in effect on a link; the link, when it has to be dialed again.
    pub fn set(
        &mut self,
        (from, to): (NodeId, NodeId),
        conditions: Conditions,
        now: u64,
        agenda: &mut Agenda,
        dice: &mut Dice,
    ) -> Option<u32> {
        let index = ((from - 1) * self.nodes + to - 1) as u32;
        let link = &mut self.links[index as usize];
        if link.conditions == conditions {
            return None;
        }
        let before = std::mem::replace(&mut link.conditions, conditions);
        let in_effect: Vec<u64> = link.conditions.frames.iter().map(|fault| fault.fault).collect();
        link.met.retain(|fault, _| in_effect.contains(fault));
        let (kept, free) =
            std::mem::take(&mut link.kept).into_iter().partition(|(fault, _)| in_effect.contains(fault));
        link.kept = kept;
        for (_, letter) in free {
            link.carry(index, now, Parcel::Message(letter), agenda);
        }
        if ends_connections(link.conditions.rule) {
            self.reset(index, now, agenda, dice);
        } else {
            link.reschedule(index, now, agenda);
        }
        let link = &self.links[index as usize];
        let took = !ends_connections(before.rule) && before.connect == Connect::Accept;
        (!took && link.takes_connections()).then_some(index)
    }

    /// A link's connection breaks: what it carries is lost, but for what comes late.
    pub fn reset(&mut self, index: u32, now: u64, agenda: &mut Agenda, dice: &mut Dice) {
        let link = &mut self.links[index as usize];
        link.connected = false;
        link.kept.clear();
        for (_, parcel) in link.carried.drain(..) {
            if let Parcel::Message(letter) = parcel
                && dice.one_in(STRAGGLES)
            {
                let due = now + dice.within(STRAGGLING);
                agenda.add(due, Event::Straggler(self.stragglers.len()));
                self.stragglers.push(Some((index, letter)));
            }
        }
        link.reschedule(index, now, agenda);
    }

    /// A message that comes late, with its link.
    pub fn straggler(&mut self, index: usize) -> Option<(u32, Letter)> {
        self.stragglers.get_mut(index)?.take()
    }

    /// A node has died: what was on its way to it is lost, and a part of what was on its way from it.
    pub fn node_died(&mut self, node: NodeId, now: u64, agenda: &mut Agenda, dice: &mut Dice) {
        for index in self.links_of(node) {
            let (from, _) = self.ends(index);
            let link = &mut self.links[index as usize];
            let kept = if from == node { dice.below(link.carried.len() as u64 + 1) } else { 0 };
            link.carried.truncate(kept as usize);
            link.kept.clear();
            link.connected = false;
            link.reschedule(index, now, agenda);
        }
        let nodes = self.nodes;
        for straggler in &mut self.stragglers {
            if straggler.as_ref().is_some_and(|(link, _)| u64::from(*link) % nodes + 1 == node) {
                *straggler = None;
            }
        }
    }
}

/// Whether connections break under this rule. How they do makes no difference to a node here, which is not told.
pub(super) fn ends_connections(rule: Rule) -> bool {
    match rule {
        Rule::Open | Rule::Hold => false,
        Rule::Silence | Rule::HalfOpen | Rule::Close | Rule::Sever => true,
    }
}

impl Link {
    fn takes_connections(&self) -> bool {
        !ends_connections(self.conditions.rule) && self.conditions.connect == Connect::Accept
    }

    /// When a message arrives that would arrive at `due`: later, by what the link's conditions add.
    fn travel(&mut self, message: &Message, due: u64, now: u64, draw: Draw) -> u64 {
        let delays = self.conditions.delays.iter().zip(u64::MAX / 2..);
        let delay: Duration = delays.map(|(delay, purpose)| delay.draw(Draw { purpose, ..draw })).sum();
        let mut due = due + delay.as_nanos() as u64;
        if let Some(bandwidth) = self.conditions.bandwidth {
            let bytes = encode(message).len() as u64;
            self.busy = self.busy.max(now) + bytes * 1_000_000_000 / bandwidth.max(1);
            due += self.busy - now;
        }
        due
    }

    /// The first fault that strikes a message, and what it does.
    fn struck(&mut self, message: &Message, draw: Draw) -> Option<(u64, Deed)> {
        if self.conditions.frames.is_empty() {
            return None;
        }
        let seen = seen(message);
        for fault in self.conditions.frames.iter().filter(|fault| fault.matching.means(Some(&seen))) {
            let met = self.met.entry(fault.fault).or_default();
            *met += 1;
            let struck = match fault.strikes {
                Strikes::All => true,
                Strikes::Chance(chance) => Draw { purpose: fault.fault, ..draw }.fraction() < chance,
                Strikes::Nth(nth) => *met == nth,
            };
            if struck {
                return Some((fault.fault, fault.deed));
            }
        }
        None
    }

    /// The fault of single messages in effect that does what became of a message that follows another.
    fn who_does(&self, passage: Passage) -> Option<u64> {
        let does = |deed: Deed| match passage {
            Passage::Arrives { again, .. } => again.is_some() && deed == Deed::Duplicate,
            Passage::Late { .. } => matches!(deed, Deed::Hold | Deed::Reorder { .. }),
            Passage::Dropped => deed == Deed::Drop,
        };
        self.conditions.frames.iter().find(|fault| does(fault.deed)).map(|fault| fault.fault)
    }

    fn carry(&mut self, index: u32, time: u64, parcel: Parcel, agenda: &mut Agenda) {
        self.last = self.last.max(time);
        self.carried.push_back((self.last, parcel));
        if self.conditions.rule == Rule::Open {
            agenda.add(self.last, Event::Arrive { link: index, epoch: self.epoch });
        }
    }

    fn reschedule(&mut self, index: u32, now: u64, agenda: &mut Agenda) {
        self.epoch += 1;
        if self.conditions.rule == Rule::Open {
            for (time, _) in &self.carried {
                agenda.add(now.max(*time), Event::Arrive { link: index, epoch: self.epoch });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Bench {
        network: Network,
        agenda: Agenda,
        dice: Dice,
    }

    impl Bench {
        fn new() -> Self {
            let mut dice = Dice::new(3);
            let network = Network::new(2, Weather::draw(&mut dice, false), 3);
            let mut bench = Self { network, agenda: Agenda::default(), dice };
            bench.network.connect(1, 0, &mut bench.agenda, &mut bench.dice);
            bench
        }

        fn send(&mut self, round: u64) {
            let message = Message::HeartbeatRequest { round };
            self.network.send((1, 2), message, 0, &mut self.agenda, &mut self.dice);
        }

        fn rule(&mut self, rule: Rule) -> Option<u32> {
            self.set(rule.into())
        }

        fn set(&mut self, conditions: Conditions) -> Option<u32> {
            self.network.set((1, 2), conditions, 0, &mut self.agenda, &mut self.dice)
        }

        fn arrivals(&mut self) -> Vec<String> {
            let mut all = Vec::new();
            while let Some((_, event)) = self.agenda.take() {
                if let Event::Straggler(_) = event {
                    continue;
                }
                let Event::Arrive { link, epoch } = event else { panic!("{event:?}") };
                match self.network.arrived(link, epoch) {
                    Some(Parcel::Session) => all.push("session".to_owned()),
                    Some(Parcel::Message(Letter {
                        message: Message::HeartbeatRequest { round }, ..
                    })) => {
                        all.push(round.to_string());
                    }
                    Some(other) => panic!("{other:?}"),
                    None => {}
                }
            }
            all
        }
    }

    #[test]
    fn a_connection_keeps_the_order() {
        let mut bench = Bench::new();
        (1..6).for_each(|round| bench.send(round));
        assert_eq!(bench.arrivals(), ["session", "1", "2", "3", "4", "5"]);
    }

    #[test]
    fn a_hold_keeps_and_a_cut_loses() {
        let mut bench = Bench::new();
        bench.send(1);
        bench.rule(Rule::Hold);
        bench.send(2);
        assert_eq!(bench.arrivals(), Vec::<String>::new());
        assert_eq!(bench.rule(Rule::Open), None);
        assert_eq!(bench.arrivals(), ["session", "1", "2"]);
        bench.send(3);
        bench.rule(Rule::Sever);
        bench.send(4);
        assert_eq!(bench.rule(Rule::Open), Some(1));
        assert_eq!(bench.arrivals(), Vec::<String>::new());
        assert!(bench.network.wants_connection(1));
    }

    fn frames(strikes: Strikes, deed: Deed) -> Conditions {
        proxy::FrameFault { fault: 7, matching: proxy::Match::default(), strikes, deed }.into()
    }

    #[test]
    fn single_messages_are_dropped_doubled_and_kept() {
        let arrivals = |strikes, deed| {
            let mut bench = Bench::new();
            bench.set(frames(strikes, deed));
            (1..5).for_each(|round| bench.send(round));
            bench.arrivals()
        };
        assert_eq!(arrivals(Strikes::Nth(2), Deed::Drop), ["session", "1", "3", "4"]);
        assert_eq!(arrivals(Strikes::All, Deed::Drop), ["session"]);
        assert_eq!(arrivals(Strikes::Nth(2), Deed::Duplicate), ["session", "1", "2", "2", "3", "4"]);
        assert_eq!(arrivals(Strikes::Nth(2), Deed::Hold), ["session", "1", "3", "4"]);
        let mut bench = Bench::new();
        bench.set(frames(Strikes::Nth(2), Deed::Hold));
        (1..5).for_each(|round| bench.send(round));
        bench.set(Conditions::default());
        assert_eq!(bench.arrivals(), ["session", "1", "3", "4", "2"]);
    }

    #[test]
    fn a_message_that_is_reordered_comes_a_little_late() {
        let mut bench = Bench::new();
        bench.set(frames(Strikes::Nth(1), Deed::Reorder { at_most: Duration::from_millis(50) }));
        bench.send(1);
        let all = std::iter::from_fn(|| bench.agenda.take());
        let late: Vec<u64> =
            all.filter(|(_, event)| matches!(event, Event::Straggler(_))).map(|(time, _)| time).collect();
        assert!(matches!(late[..], [time] if time < 1_000_000_000), "{late:?}");
        assert!(bench.network.straggler(0).is_some());
    }

    #[test]
    fn a_throttled_link_takes_its_time_and_a_delay_adds_up() {
        let last = |conditions: Conditions| {
            let mut bench = Bench::new();
            bench.set(conditions);
            (1..101).for_each(|round| bench.send(round));
            std::iter::from_fn(|| bench.agenda.take()).map(|(time, _)| time).max().expect("arrivals")
        };
        let bytes = encode(&Message::HeartbeatRequest { round: 1 }).len() as u64 * 100;
        let throttled = last(Conditions { bandwidth: Some(bytes), ..Conditions::default() });
        assert!((1_000_000_000..1_300_000_000).contains(&throttled), "{throttled}");
        let delay = proxy::Delay::Constant(Duration::from_secs(2));
        let mut delayed = Conditions::from(delay);
        delayed += delay.into();
        let delayed = last(delayed);
        assert!((4_000_000_000..4_300_000_000).contains(&delayed), "{delayed}");
    }

    #[test]
    fn a_refused_link_keeps_the_connection_that_it_has() {
        let mut bench = Bench::new();
        bench.set(Connect::Refuse.into());
        bench.send(1);
        assert_eq!(bench.arrivals(), ["session", "1"]);
        bench.network.reset(1, 0, &mut bench.agenda, &mut bench.dice);
        assert!(!bench.network.wants_connection(1));
        assert_eq!(bench.set(Conditions::default()), Some(1), "dialed again");
        assert!(bench.network.wants_connection(1));
    }

    #[test]
    fn what_a_dead_sender_had_sent_may_arrive_and_what_a_dead_receiver_was_sent_does_not() {
        let mut partly = 0;
        for _ in 0..20 {
            let mut bench = Bench::new();
            (1..6).for_each(|round| bench.send(round));
            bench.network.node_died(1, 0, &mut bench.agenda, &mut bench.dice);
            let arrived = bench.arrivals();
            assert!(
                ["session", "1", "2", "3", "4", "5"]
                    .starts_with(&arrived.iter().map(String::as_str).collect::<Vec<_>>())
            );
            partly += usize::from(!arrived.is_empty() && arrived.len() < 6);
            let mut bench = Bench::new();
            bench.send(1);
            bench.network.node_died(2, 0, &mut bench.agenda, &mut bench.dice);
            assert_eq!(bench.arrivals(), Vec::<String>::new());
        }
        assert!(partly <= 20);
    }
}
