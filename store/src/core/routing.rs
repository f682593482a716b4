//! Which leader an operation goes to, on the node that a client asked.
//!
//! The table of leaders takes only higher ballots: an announcement of an earlier leader may come late. An operation is
//! forwarded at most once. While no live leader is known it waits here, where it certainly has not happened; once it is
//! forwarded and no answer comes, nobody can tell.

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use crate::{
    api::{Ballot, NodeId, Operation, PartitionId, Response, SessionTag, StoreError},
    config::Mutant,
    core::{
        ClientId, LocalTime, Moment, Turn,
        message::{ForwardId, Message},
    },
};

/// Bytes of operations that wait on a node, at most.
const MOST_WAITING: u64 = 128 << 20;

/// The table of leaders, and the operations of this node's clients that are not answered yet.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Routing {
    leaders: BTreeMap<PartitionId, Ballot>,
    waiting: BTreeMap<PartitionId, VecDeque<Waiting>>,
    /// About how many bytes the operations take that wait.
    bytes: u64,
    forwarded: BTreeMap<ForwardId, Forwarded>,
    next_forward: u64,
}

/// An operation that waits.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Waiting {
    /// Whom to answer.
    pub client: ClientId,
    /// The operation.
    pub operation: Operation,
    /// How much of the partition's log its client has seen.
    pub seen: u64,
    /// Its place in its client's session.
    pub session: Option<SessionTag>,
    /// When it arrived.
    pub received: LocalTime,
    /// What it waits for.
    pub until: Until,
}

/// What an operation waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Until {
    /// A leader.
    Led,
    /// That this node's replica has applied as much as the client has seen. So much it has applied when last looked at.
    Applied(u64),
}

impl Waiting {
    /// About how many bytes it takes.
    fn weight(&self) -> u64 {
        (128 + self.operation.key().weight() + self.operation.values()) as u64
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Forwarded {
    client: ClientId,
    to: NodeId,
    received: LocalTime,
}

impl Routing {
    /// A leader was announced; an announcement that is older than what is known changes nothing.
    pub fn learn(&mut self, partition: PartitionId, ballot: Ballot) {
        let known = self.leaders.entry(partition).or_default();
        *known = (*known).max(ballot);
    }

    /// The leader of a partition, as far as is known.
    pub fn leader(&self, partition: PartitionId) -> Option<Ballot> {
        self.leaders.get(&partition).copied()
    }

    /// An operation that waits, until a leader is known and not suspected, or until enough is applied here; unless too much waits.
    pub fn wait(&mut self, partition: PartitionId, waiting: Waiting, turn: &mut Turn<'_>) {
        let bytes = self.bytes + waiting.weight();
        if bytes > MOST_WAITING {
            return turn.reply(waiting.client, Err(StoreError::Busy { bytes: self.bytes }));
        }
        self.bytes = bytes;
        self.waiting.entry(partition).or_default().push_back(waiting);
    }

    /// Partitions for which operations wait.
    pub fn partitions_waited_for(&self) -> Vec<PartitionId> {
        self.waiting.keys().copied().collect()
    }

    /// Takes the operations that wait for a partition, oldest first.
    pub fn take_waiting(&mut self, partition: PartitionId) -> VecDeque<Waiting> {
        let taken = self.waiting.remove(&partition).unwrap_or_default();
        self.bytes -= taken.iter().map(Waiting::weight).sum::<u64>();
        taken
    }

    /// Hands an operation to the leader, once and for all.
    pub fn forward(&mut self, to: NodeId, waiting: Waiting, turn: &mut Turn<'_>) {
        self.next_forward += 1;
        let Waiting { client, operation, seen, session, received, .. } = waiting;
        let id = ForwardId { boot: turn.config.boot, number: self.next_forward };
        self.forwarded.insert(id, Forwarded { client, to, received });
        let drops = session.is_some() && turn.has(Mutant::ForwardDropsSession);
        if drops {
            turn.reached(Mutant::ForwardDropsSession);
        }
        let session = session.filter(|_| !drops);
        turn.send(to, Message::Forward { id, operation, seen, session });
    }

    /// The leader has answered.
    pub fn on_forwarded(&mut self, from: NodeId, id: ForwardId, response: Response, turn: &mut Turn<'_>) {
        if self.forwarded.get(&id).is_some_and(|forwarded| forwarded.to == from)
            && let Some(forwarded) = self.forwarded.remove(&id)
        {
            turn.reply(forwarded.client, response);
        }
    }

    /// Answers what has waited too long: definitely not carried out when it never left this node.
    pub fn expire(&mut self, turn: &mut Turn<'_>) {
        let timeout = timeout(turn.moment());
        for (partition, queue) in &mut self.waiting {
            while queue.front().is_some_and(|oldest| oldest.received + timeout <= turn.now) {
                let Some(expired) = queue.pop_front() else { break };
                self.bytes -= expired.weight();
                let (partition, waited_ms) = (*partition, timeout.as_millis() as u64);
                let error = match expired.until {
                    Until::Led => StoreError::NoLeader { partition, waited_ms },
                    Until::Applied(applied) => {
                        StoreError::Behind { partition, applied, seen: expired.seen, waited_ms }
                    }
                };
                turn.reply(expired.client, Err(error));
            }
        }
        self.waiting.retain(|_, queue| !queue.is_empty());
        while let Some(oldest) = self.forwarded.first_entry() {
            if oldest.get().received + timeout > turn.now {
                break;
            }
            let Forwarded { client, to, .. } = oldest.remove();
            let reason = format!("node {to} did not answer within {} ms", timeout.as_millis());
            turn.reply(client, Err(StoreError::Indefinite { reason }));
        }
    }

    /// When [`Routing::expire`] has something to do.
    pub fn next_deadline(&self, moment: Moment<'_>) -> Option<LocalTime> {
        let waiting = self.waiting.values().filter_map(|queue| queue.front()).map(|waiting| waiting.received);
        let forwarded = self.forwarded.values().next().map(|forwarded| forwarded.received);
        waiting.chain(forwarded).min().map(|received| received + timeout(moment))
    }
}

fn timeout(moment: Moment<'_>) -> Duration {
    Duration::from_millis(moment.config.cluster.request_timeout_ms)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_takes_only_higher_ballots() {
        let ballot = |number, node| Ballot { config: 0, number, priority: 0, node };
        let mut routing = Routing::default();
        routing.learn(1, ballot(2, 1));
        routing.learn(1, ballot(1, 3));
        assert_eq!(routing.leader(1), Some(ballot(2, 1)));
        routing.learn(1, ballot(2, 2));
        assert_eq!(routing.leader(1), Some(ballot(2, 2)));
    }
}
