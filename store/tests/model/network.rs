//! The links of the model: first in, first out while a connection lasts; what a broken one still carries may come late,
//! beside its successor, or never.

use std::collections::VecDeque;

use store::{
    api::NodeId,
    core::{Input, Message},
};

use crate::bounds::REPLICAS;

/// One direction between two nodes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Link {
    /// What the present connection carries.
    pub live: VecDeque<Carried>,
    /// What earlier ones still carry.
    pub late: VecDeque<Message>,
}

/// What a connection carries.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Carried {
    /// It begins.
    Hello,
    /// A message.
    Message(Message),
}

impl Carried {
    /// What it is to the node that receives it.
    pub fn input(self, from: NodeId) -> Input {
        match self {
            Self::Hello => Input::Session { from },
            Self::Message(message) => Input::Message { from, message },
        }
    }
}

/// All links.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Network(Vec<Link>);

impl Network {
    /// Connected, and idle.
    pub fn new() -> Self {
        Self(vec![Link::default(); (REPLICAS * REPLICAS) as usize])
    }

    /// Every link with its ends, in a fixed order.
    pub fn iter(&self) -> impl Iterator<Item = ((NodeId, NodeId), &Link)> {
        pairs().map(|(from, to)| ((from, to), &self.0[place(from, to)]))
    }

    /// A link.
    pub fn link(&mut self, from: NodeId, to: NodeId) -> &mut Link {
        &mut self.0[place(from, to)]
    }

    /// The connection breaks, and a new one begins. What it carried comes late or, where `keep` is false, never.
    pub fn break_link(&mut self, from: NodeId, to: NodeId, keep: bool) {
        let link = self.link(from, to);
        let rest = std::mem::take(&mut link.live).into_iter().filter_map(|carried| match carried {
            Carried::Message(message) => Some(message),
            Carried::Hello => None,
        });
        if keep {
            link.late.extend(rest);
        }
        link.live.push_back(Carried::Hello);
    }

    /// A node is gone: nothing reaches it any more; what it sent may still come.
    pub fn crash(&mut self, node: NodeId, keep: bool) {
        for (from, to) in pairs() {
            if to == node {
                *self.link(from, to) = Link::default();
            } else if from == node && !keep {
                self.link(from, to).live.clear();
            }
        }
    }
}

fn pairs() -> impl Iterator<Item = (NodeId, NodeId)> {
    (1..=REPLICAS).flat_map(|from| (1..=REPLICAS).filter(move |to| *to != from).map(move |to| (from, to)))
}

fn place(from: NodeId, to: NodeId) -> usize {
    ((from - 1) * REPLICAS + to - 1) as usize
}
