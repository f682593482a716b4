//! Faults on the links between clients and nodes, as the proxy carries them out: what a client asks obeys the link towards
//! the node, what it is answered the link back, and a new connection both.

use store::api::NodeId;

use super::{
    events::{Attempt, Event},
    network::ends_connections,
    world::World,
};
use crate::proxy::{Conditions, Connect, Draw, Endpoint, Link, Rule};

/// What becomes of what a client and a node send each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Passage {
    /// It arrives.
    Passes,
    /// It waits until the link changes.
    Waits(Link),
    /// It is lost, and nobody is told.
    Lost,
    /// Its connection breaks.
    Breaks,
}

impl World<'_> {
    /// What becomes of a request on a connection that is there, or on a new one, which needs the way back for its handshake.
    pub(super) fn request_passes(&self, client: u64, node: NodeId, connected: bool) -> Passage {
        let (there, back) = (Link::client(client, node), Link::answers(node, client));
        let asked = self.passes(there);
        if connected || asked != Passage::Passes {
            return asked;
        }
        match self.nemesis.conditions(there).map(|conditions| conditions.connect).unwrap_or_default() {
            Connect::Accept => self.passes(back),
            Connect::Silent => Passage::Waits(there),
            Connect::Refuse => Passage::Breaks,
        }
    }

    /// What becomes of an answer.
    pub(super) fn answer_passes(&self, client: u64, node: NodeId) -> Passage {
        match self.rule(Link::client(client, node)) {
            // the node's end is gone, so it has nothing to answer on
            Rule::HalfOpen => Passage::Lost,
            _ => self.passes(Link::answers(node, client)),
        }
    }

    fn rule(&self, link: Link) -> Rule {
        self.nemesis.conditions(link).map(|conditions| conditions.rule).unwrap_or_default()
    }

    fn passes(&self, link: Link) -> Passage {
        match self.rule(link) {
            Rule::Open => Passage::Passes,
            Rule::Hold => Passage::Waits(link),
            Rule::Silence | Rule::HalfOpen => Passage::Lost,
            Rule::Close | Rule::Sever => Passage::Breaks,
        }
    }

    /// How much longer faults make something travel on a client's link: the client's `number`-th operation, there or back.
    pub(super) fn client_delay(&self, link: Link, number: u64) -> u64 {
        let Some(conditions) = self.nemesis.conditions(link) else { return 0 };
        let draw = Draw { seed: self.plan.seed, link, connection: 0, frame: number, purpose: 0 };
        let delays = conditions.delays.iter().zip(0_u64..);
        delays.map(|(delay, purpose)| delay.draw(Draw { purpose, ..draw }).as_nanos() as u64).sum()
    }

    /// Other conditions are in effect on a link between a client and a node: what waited for that tries again, and
    /// connections end that were to end now.
    pub(super) fn client_link_changed(&mut self, link: Link, before: &Conditions, after: &Conditions) {
        let (client, node, asks) = match (link.from, link.to) {
            (Endpoint::Client(client), Endpoint::Node(node)) => (client, node, true),
            (Endpoint::Node(node), Endpoint::Client(client)) => (client, node, false),
            _ => return,
        };
        let is_silent = |rule| matches!(rule, Rule::Silence | Rule::HalfOpen);
        let broken_now = asks && matches!(after.rule, Rule::Close | Rule::Sever) && after.rule != before.rule;
        // what went nowhere is reset when that ends
        let silence_ends = is_silent(before.rule) && !is_silent(after.rule);
        if broken_now || silence_ends || ends_connections(before.rule) && !ends_connections(after.rule) {
            self.break_connection(client, node);
        }
        for (_, event) in self.clients.parked.extract_if(.., |(of, _)| *of == link) {
            self.agenda.add(self.now, event);
        }
    }

    /// The connection between a client and a node breaks, if there is one: what was on its way is lost, and the client is
    /// told a little later.
    fn break_connection(&mut self, client: u64, node: NodeId) {
        self.clients.forget_connection(client, node);
        let delay = self.weather.message.draw(&mut self.dice);
        if let Some(number) = self.clients.asks(client, node) {
            self.agenda.add(self.now + delay, Event::Lost(Attempt { client, number }));
        }
    }
}
