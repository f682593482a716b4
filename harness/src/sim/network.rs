//! The links between nodes: one connection for each direction, in order while it lasts, and cut off at its end.
//!
//! A link's rule is that of the proxy ([`Rule`]): a held link keeps what it carries and delivers it in order later; a
//! severed one loses it, and the next connection begins with a session. What a killed sender had handed to its kernel may
//! still arrive. Now and then a message of a severed connection comes late, after those of the next connection: a node
//! on TCP would drop it, but the core does not rely on that, since its sessions recognise such messages.

use std::collections::VecDeque;

use store::{api::NodeId, core::Message};

use super::{
    chance::{Dice, STRAGGLING, Weather},
    events::{Agenda, Event},
};
use crate::proxy::Rule;

/// One in so many messages of a severed connection comes late.
const STRAGGLES: u64 = 3;

/// What a link carries.
#[derive(Debug)]
pub enum Parcel {
    /// A new connection.
    Session,
    /// A message on it.
    Message(Message),
}

/// All links.
#[derive(Debug)]
pub struct Network {
    nodes: u64,
    links: Vec<Link>,
    weather: Weather,
    /// Messages of severed connections that come late; none: it has come, or its receiver has died.
    stragglers: Vec<Option<(u32, Message)>>,
    /// Messages that were handed to it.
    pub sent: u64,
}

#[derive(Debug, Default)]
struct Link {
    rule: Rule,
    connected: bool,
    /// Arrivals that were scheduled in an earlier epoch are void.
    epoch: u32,
    /// In order, with the time of arrival.
    carried: VecDeque<(u64, Parcel)>,
    /// Nothing arrives before this.
    last: u64,
}

impl Network {
    /// Links that are open, and not connected.
    pub fn new(nodes: u64, weather: Weather) -> Self {
        let links = (0..nodes * nodes).map(|_| Link::default()).collect();
        Self { nodes, links, weather, stragglers: Vec::new(), sent: 0 }
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

    /// Whether a link wants a connection.
    pub fn wants_connection(&self, link: u32) -> bool {
        let link = &self.links[link as usize];
        !link.connected && link.rule != Rule::Sever
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
        let delay = self.weather.message.draw(dice);
        let link = &mut self.links[index as usize];
        if link.connected {
            link.carry(index, now + delay, Parcel::Message(message), agenda);
        }
    }

    /// The parcel whose arrival was scheduled.
    pub fn arrived(&mut self, link: u32, epoch: u32) -> Option<Parcel> {
        let link = &mut self.links[link as usize];
        if link.epoch != epoch {
            return None;
        }
        link.carried.pop_front().map(|(_, parcel)| parcel)
    }

    /// A link gets another rule; the link, when it has to be dialed again.
    pub fn rule(
        &mut self,
        (from, to): (NodeId, NodeId),
        rule: Rule,
        now: u64,
        agenda: &mut Agenda,
        dice: &mut Dice,
    ) -> Option<u32> {
        let index = ((from - 1) * self.nodes + to - 1) as u32;
        let link = &mut self.links[index as usize];
        if link.rule == rule {
            return None;
        }
        let severed = link.rule == Rule::Sever;
        link.rule = rule;
        if rule == Rule::Sever {
            self.reset(index, now, agenda, dice);
        } else {
            link.reschedule(index, now, agenda);
        }
        severed.then_some(index)
    }

    /// A link's connection breaks: what it carries is lost, but for what comes late.
    pub fn reset(&mut self, index: u32, now: u64, agenda: &mut Agenda, dice: &mut Dice) {
        let link = &mut self.links[index as usize];
        link.connected = false;
        for (_, parcel) in link.carried.drain(..) {
            if let Parcel::Message(message) = parcel
                && dice.one_in(STRAGGLES)
            {
                let due = now + dice.within(STRAGGLING);
                agenda.add(due, Event::Straggler(self.stragglers.len()));
                self.stragglers.push(Some((index, message)));
            }
        }
        link.reschedule(index, now, agenda);
    }

    /// A message that comes late, with its link.
    pub fn straggler(&mut self, index: usize) -> Option<(u32, Message)> {
        self.stragglers.get_mut(index)?.take()
    }

    /// A node has died: what was on its way to it is lost, and a part of what was on its way from it.
    pub fn node_died(&mut self, node: NodeId, now: u64, agenda: &mut Agenda, dice: &mut Dice) {
        for index in self.links_of(node) {
            let (from, _) = self.ends(index);
            let link = &mut self.links[index as usize];
            let kept = if from == node { dice.below(link.carried.len() as u64 + 1) } else { 0 };
            link.carried.truncate(kept as usize);
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

impl Link {
    fn carry(&mut self, index: u32, time: u64, parcel: Parcel, agenda: &mut Agenda) {
        self.last = self.last.max(time);
        self.carried.push_back((self.last, parcel));
        if self.rule == Rule::Open {
            agenda.add(self.last, Event::Arrive { link: index, epoch: self.epoch });
        }
    }

    fn reschedule(&mut self, index: u32, now: u64, agenda: &mut Agenda) {
        self.epoch += 1;
        if self.rule == Rule::Open {
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
            let network = Network::new(2, Weather::draw(&mut dice, false));
            let mut bench = Self { network, agenda: Agenda::default(), dice };
            bench.network.connect(1, 0, &mut bench.agenda, &mut bench.dice);
            bench
        }

        fn send(&mut self, round: u64) {
            let message = Message::HeartbeatRequest { round };
            self.network.send((1, 2), message, 0, &mut self.agenda, &mut self.dice);
        }

        fn rule(&mut self, rule: Rule) -> Option<u32> {
            self.network.rule((1, 2), rule, 0, &mut self.agenda, &mut self.dice)
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
                    Some(Parcel::Message(Message::HeartbeatRequest { round })) => all.push(round.to_string()),
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
