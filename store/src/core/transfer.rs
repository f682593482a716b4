//! Planned changes of leaders, on the node that leads: from the request to the announcement of the successor.
//!
//! A leader that is asked to hand over serves on until the successor is nearly up to date. Then it answers nothing any more,
//! reads included, and lets what is in its log be decided. Once the successor has all of it durably, the leader voids its hold
//! for good, gives its grants back, and only then tells the successor to take over ([`Replica::hand_over_if_ready`]).
//! Operations that arrive meanwhile wait on this node, where they certainly have not happened. If the successor does not get
//! that far within an election timeout each time, the leader goes on as if nothing had been asked: up to the hand-over it has
//! held its lease all the time.

use std::{collections::BTreeMap, time::Duration};

use crate::{
    api::{Ballot, NodeId, PartitionId, TransferError},
    core::{ClientId, LocalTime, Moment, Output, Turn, replica::Replica, routing::Routing},
};

/// The transfers that this node has begun and that are not answered.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Transfers(BTreeMap<PartitionId, Transfer>);

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Transfer {
    client: ClientId,
    to: NodeId,
    /// The ballot that this node led under.
    from: Ballot,
    step: Step,
    /// When this step is given up.
    deadline: LocalTime,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Step {
    /// The leader serves; the successor is being brought up to date.
    CatchUp,
    /// The leader answers nobody; what is in its log is being decided.
    Drain,
    /// The lease is given up, the successor told.
    HandedOver,
}

impl Transfers {
    /// Whether operations on this partition wait until it is clear who leads it.
    pub fn concern(&self, partition: PartitionId) -> bool {
        self.0.get(&partition).is_some_and(|transfer| transfer.step != Step::CatchUp)
    }

    /// The partitions of the transfers.
    pub fn partitions(&self) -> Vec<PartitionId> {
        self.0.keys().copied().collect()
    }

    /// Begins a transfer, if the replica agrees to it. `trusted`: the successor answers the failure detector.
    pub fn begin(
        &mut self,
        (client, to): (ClientId, NodeId),
        replica: &mut Replica,
        trusted: bool,
        turn: &mut Turn<'_>,
    ) -> Result<(), TransferError> {
        let partition = replica.paxos().group().partition;
        if let Some(transfer) = self.0.get(&partition) {
            return Err(TransferError::UnderWay { to: transfer.to });
        }
        let from = replica.may_hand_over(to, trusted, turn.moment())?;
        let deadline = turn.now + patience(turn.moment());
        self.0.insert(partition, Transfer { client, to, from, step: Step::CatchUp, deadline });
        Ok(())
    }

    /// Goes on with a partition's transfer as far as it can go now.
    pub fn go_on(&mut self, replica: &mut Replica, routing: &Routing, turn: &mut Turn<'_>) {
        let partition = replica.paxos().group().partition;
        let Some(transfer) = self.0.get_mut(&partition) else { return };
        let deadline = turn.now + patience(turn.moment());
        if transfer.step == Step::CatchUp && replica.stop_serving_for(transfer.to) {
            (transfer.step, transfer.deadline) = (Step::Drain, deadline);
        }
        if transfer.step == Step::Drain && replica.hand_over_if_ready(turn) {
            (transfer.step, transfer.deadline) = (Step::HandedOver, deadline);
        }
        // it may have to lead again itself
        let leader =
            routing.leader(partition).max(replica.serving()).filter(|leader| *leader > transfer.from);
        if leader.is_none() && turn.now < transfer.deadline {
            return;
        }
        let (to, waited_ms) = (transfer.to, patience(turn.moment()).as_millis() as u64);
        // it may also have lost its ballot in another way
        let leads = replica.serving() == Some(transfer.from);
        let result = match (leader, transfer.step) {
            (Some(leader), _) if leader.node == to => Ok(leader),
            (Some(leader), _) => Err(TransferError::Elsewhere { leader }),
            (None, Step::CatchUp) if leads => Err(replica.lags(to)),
            (None, Step::Drain) if leads => Err(TransferError::TooSlow { to, waited_ms }),
            (None, _) => Err(TransferError::NoSuccessor { waited_ms }),
        };
        replica.end_hand_over();
        let client = transfer.client;
        self.0.remove(&partition);
        turn.announce(Output::Transferred { client, result });
    }

    /// When [`Transfers::go_on`] gives something up.
    pub fn next_deadline(&self) -> Option<LocalTime> {
        self.0.values().map(|transfer| transfer.deadline).min()
    }
}

/// How long each step may take. Before the hand-over the partition stands still for so long at most; after it an election would
/// come to the same.
fn patience(moment: Moment<'_>) -> Duration {
    moment.config.cluster.election_timeout()
}
