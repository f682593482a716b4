//! Ballot leader election of one group, quorum-connected (OmniPaxos, EuroSys'23, section 5.2).
//!
//! Every heartbeat period the [`detector`](crate::core::node) hands over what the connected replicas said last: their own
//! ballot, the leader that they follow, and whether they are *happy*. A leader is happy while it is connected to a quorum
//! of replicas that do not follow a higher one; a follower is happy while it sees its leader and that leader is happy. A
//! replica takes over when it is unhappy, all its neighbours are, and it is connected to a quorum. Its new ballot is above
//! every one that it has seen, and durable before anyone hears of it (BLE3).
//!
//! Why not the gossip election of the course: it counts a vote for the highest ballot seen, which deadlocks when only a
//! hub still has a quorum, and livelocks on a chain, where the two ends depose one another for ever.
//!
//! Departure from the paper: a ballot can be *spent*. A leader whose lease ran out, or that was refused, gives its ballot up
//! for good and is unhappy until somebody, perhaps itself, is elected with a higher one.

use crate::{
    api::{Ballot, NodeId},
    core::message::GroupStatus,
};

/// A replica's part in the election of its group's leader.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Election {
    own: Ballot,
    spent: bool,
    leader: Ballot,
    happy: bool,
    /// No ballot at or below this number will be announced.
    floor: u64,
}

/// What a period of election came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Elected {
    /// The leader is who it was.
    Unchanged,
    /// Another leads, with a higher ballot.
    Other(Ballot),
    /// This replica takes over; the ballot must be durable before it is announced.
    Myself(Ballot),
}

impl Election {
    /// The election of a replica that has announced and promised these ballots in earlier lives.
    pub fn new(node: NodeId, priority: u32, announced: Ballot, promised: Ballot) -> Self {
        let own =
            if announced == Ballot::BOTTOM { Ballot { priority, node, ..Ballot::BOTTOM } } else { announced };
        let floor = own.number.max(promised.number);
        Self { own, spent: true, leader: promised.max(announced), happy: false, floor }
    }

    /// The ballot of the leader that this replica follows.
    pub fn leader(&self) -> Ballot {
        self.leader
    }

    /// This replica's own ballot.
    pub fn own(&self) -> Ballot {
        self.own
    }

    /// Whether this replica sees its leader connected to a quorum.
    pub fn happy(&self) -> bool {
        self.happy
    }

    /// Gives up the own ballot for good, and goes above `seen` next time.
    pub fn spend(&mut self, seen: Ballot) {
        self.spent = true;
        self.happy = false;
        self.floor = self.floor.max(seen.number);
    }

    /// One period: `replies` are the last words of the connected replicas, `promised` this replica's promise.
    pub fn tick(&mut self, replies: &[GroupStatus], quorum: usize, promised: Ballot) -> Elected {
        let before = self.leader;
        let highest = replies.iter().map(|reply| reply.ballot).max().unwrap_or_default();
        self.leader = self.leader.max(highest);
        // a promise to a leader that no heartbeat has told of yet: it is given one period to be heard of
        let promised_news = promised > self.leader;
        self.leader = self.leader.max(promised);
        self.happy = promised_news || self.is_happy(replies, quorum);
        if !self.happy && replies.iter().all(|reply| !reply.happy) && replies.len() + 1 >= quorum {
            return Elected::Myself(self.take_over());
        }
        if self.leader == before { Elected::Unchanged } else { Elected::Other(self.leader) }
    }

    fn is_happy(&self, replies: &[GroupStatus], quorum: usize) -> bool {
        if self.leader != self.own {
            return replies.iter().any(|reply| reply.ballot == self.leader && reply.happy);
        }
        let followers = replies.iter().filter(|reply| reply.leader <= self.own).count();
        !self.spent && followers + 1 >= quorum
            || replies.iter().any(|reply| reply.leader > self.own && reply.happy)
    }

    /// The leader of the promised ballot wants this replica to lead in its place.
    pub fn succeed(&mut self, promised: Ballot) -> Ballot {
        self.leader = self.leader.max(promised);
        self.take_over()
    }

    fn take_over(&mut self) -> Ballot {
        let number = self.leader.number.max(self.floor).max(self.own.number) + 1;
        assert!(number > self.floor, "BLE3: a ballot is never announced twice");
        self.own = Ballot { number, ..self.own };
        self.floor = number;
        self.leader = self.own;
        self.spent = false;
        self.happy = true;
        self.own
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ballot(number: u64, node: NodeId) -> Ballot {
        Ballot { config: 0, number, priority: 0, node }
    }

    fn says(ballot: Ballot, leader: Ballot, happy: bool) -> GroupStatus {
        GroupStatus { partition: 1, ballot, leader, happy, leading: false, decided: 0 }
    }

    fn fresh(node: NodeId) -> Election {
        Election::new(node, 0, Ballot::BOTTOM, Ballot::BOTTOM)
    }

    #[test]
    fn ble1_a_replica_that_reaches_a_quorum_elects_somebody() {
        let mut election = fresh(1);
        assert_eq!(election.tick(&[], 2, Ballot::BOTTOM), Elected::Unchanged, "alone it may not");
        let silent = says(ballot(0, 2), Ballot::BOTTOM, false);
        assert_eq!(election.tick(&[silent], 2, Ballot::BOTTOM), Elected::Myself(ballot(1, 1)));
    }

    #[test]
    fn ble2_of_two_that_take_over_at_once_the_higher_ballot_wins() {
        let (mut one, mut two) = (fresh(1), fresh(2));
        assert_eq!(
            one.tick(&[says(two.own(), two.leader(), false)], 2, Ballot::BOTTOM),
            Elected::Myself(ballot(1, 1))
        );
        assert_eq!(
            two.tick(&[says(ballot(0, 1), Ballot::BOTTOM, false)], 2, Ballot::BOTTOM),
            Elected::Myself(ballot(1, 2))
        );
        assert_eq!(
            one.tick(&[says(two.own(), two.leader(), two.happy())], 2, ballot(1, 1)),
            Elected::Other(ballot(1, 2))
        );
        assert_eq!(
            two.tick(&[says(one.own(), one.leader(), one.happy())], 2, ballot(1, 2)),
            Elected::Unchanged
        );
        assert!(one.happy() && two.happy());
    }

    #[test]
    fn ble3_a_restarted_replica_goes_above_what_it_announced_and_promised() {
        let mut election = Election::new(1, 0, ballot(4, 1), ballot(7, 2));
        let neighbour = says(ballot(7, 2), ballot(7, 2), false);
        assert_eq!(election.tick(&[neighbour], 2, ballot(7, 2)), Elected::Myself(ballot(8, 1)));
    }

    #[test]
    fn a_spent_ballot_never_leads_again() {
        let mut election = fresh(1);
        let neighbour = says(ballot(0, 2), ballot(1, 1), false);
        let Elected::Myself(first) = election.tick(&[neighbour], 2, Ballot::BOTTOM) else {
            panic!("takes over")
        };
        election.spend(ballot(5, 2));
        let Elected::Myself(second) = election.tick(&[neighbour], 2, first) else {
            panic!("takes over again")
        };
        assert_eq!(second, ballot(6, 1));
    }

    /// Quorum loss: the hub sees the old leader, but hears that it has no quorum.
    #[test]
    fn a_hub_takes_over_from_a_leader_that_only_it_still_sees() {
        let mut hub = Election::new(2, 0, Ballot::BOTTOM, ballot(3, 1));
        let others = [3, 4, 5].map(|node| says(ballot(0, node), ballot(3, 1), false));
        let dead_end = says(ballot(3, 1), ballot(3, 1), false);
        let replies: Vec<_> = others.into_iter().chain([dead_end]).collect();
        assert_eq!(hub.tick(&replies, 3, ballot(3, 1)), Elected::Myself(ballot(4, 2)));
    }

    /// A chain B - A - C with leader B: C does not see B, but hears from A that it is well.
    #[test]
    fn the_end_of_a_chain_does_not_depose_a_leader_that_its_neighbour_sees() {
        let mut end = Election::new(3, 0, Ballot::BOTTOM, ballot(1, 2));
        let middle = says(ballot(0, 1), ballot(1, 2), true);
        assert_eq!(end.tick(&[middle], 2, ballot(1, 2)), Elected::Unchanged);
    }
}
