//! What happens to a client on its way through a cluster, for whoever wants to tell a user.

use std::fmt;

use crate::{
    api::NodeId,
    routes::{Detour, Why},
};

/// A node that a client asks or goes to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// Its number; none: only its address is known.
    pub node: Option<NodeId>,
    /// Its address.
    pub address: String,
}

/// A client goes on to another node. But for `Unknown` the operation certainly did not happen at the one before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClientEvent {
    /// The node that was asked named the leader: the client goes there.
    Redirected {
        /// The node that was asked.
        from: Place,
        /// The leader.
        leader: Place,
    },
    /// The node could not be reached: another one is asked.
    Gone {
        /// The node.
        node: Place,
        /// The next one.
        next: Place,
    },
    /// The node knows of no leader, or of none that has not been asked in vain: an election may be in progress. After a pause
    /// another node is asked.
    NoLeader {
        /// The node that was asked.
        from: Place,
        /// The next one.
        next: Place,
    },
    /// Nobody knows whether it happened at the node: the client, which has a session, asks again.
    Unknown {
        /// The node.
        node: Place,
        /// The next one.
        next: Place,
    },
    /// The node's replica has not applied as much as the client has seen: another one is asked.
    Behind {
        /// The node.
        node: Place,
        /// The next one.
        next: Place,
    },
}

impl ClientEvent {
    pub(super) fn of(detour: &Detour, place: impl Fn(NodeId) -> Place) -> Self {
        let (from, to) = (place(detour.from), place(detour.to));
        match detour.why {
            Why::Redirected => Self::Redirected { from, leader: to },
            Why::Gone => Self::Gone { node: from, next: to },
            Why::Leaderless => Self::NoLeader { from, next: to },
            Why::Behind => Self::Behind { node: from, next: to },
            Why::Unknown => Self::Unknown { node: from, next: to },
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.node {
            Some(node) => write!(f, "node {node} at {}", self.address),
            None => write!(f, "the node at {}", self.address),
        }
    }
}

impl fmt::Display for ClientEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Redirected { leader, .. } => write!(f, "redirected to the leader, {leader}"),
            Self::Gone { node, next } => write!(f, "{node} is gone, trying {next}"),
            Self::NoLeader { next, .. } => write!(f, "election in progress, retrying at {next}"),
            Self::Unknown { node, next } => {
                write!(f, "it may have happened at {node}, asking again at {next}")
            }
            Self::Behind { node, next } => write!(f, "{node} is behind what was seen, trying {next}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_are_told_in_words() {
        let place = |node| Place { node: Some(node), address: format!("host:{node}") };
        let said = |why| {
            let detour = Detour { from: 1, why, to: 2, pause: false };
            ClientEvent::of(&detour, place).to_string()
        };
        assert_eq!(said(Why::Redirected), "redirected to the leader, node 2 at host:2");
        assert_eq!(said(Why::Gone), "node 1 at host:1 is gone, trying node 2 at host:2");
        assert_eq!(said(Why::Leaderless), "election in progress, retrying at node 2 at host:2");
        assert_eq!(
            said(Why::Unknown),
            "it may have happened at node 1 at host:1, asking again at node 2 at host:2"
        );
        assert_eq!(said(Why::Behind), "node 1 at host:1 is behind what was seen, trying node 2 at host:2");
    }
}
