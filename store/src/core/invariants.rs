//! What must always hold, numbered once: the simulator, the model and the golden scripts call this module; the checker has
//! the same list for recorded traces of real processes, in code of its own.
//!
//! | | |
//! |---|---|
//! | SP1 | validity: only proposed commands are decided, each proposal once |
//! | SP2 | uniform agreement: decided logs are prefixes of one another, across incarnations too |
//! | SP3 | integrity: within an incarnation a decided log only grows |
//! | BLE3 | ballots are unique and increase |
//! | L1 | holds of different ballots of one partition never overlap in real time |
//! | L2 | a hold lies within a quorum's grants of its ballot |
//! | L3 | no promise to another node while a grant runs, also across a restart |
//! | L4 | a fast read has received <= checked < expiry, inside a hold of its ballot |
//! | L5 | a fast read covers every write on its key that was acknowledged before it was asked |
//! | L6 | no other ballot decides inside a hold |
//! | L7 | no fast read after a stop-sign was appended |
//! | L8 | reads of one key that follow one another see non-decreasing versions |
//!
//! SP4 (termination), BLE1, BLE2 and the failure detector's properties are about what eventually happens; scripts and
//! simulations require progress within a bound for them.

use std::{
    collections::{BTreeMap, BTreeSet},
    hash::{DefaultHasher, Hash, Hasher},
};

use crate::{
    api::{Ballot, NodeId, PartitionId},
    core::{
        LocalTime, Node, Output,
        kv::KeyValues,
        message::{Entry, ProposalId},
        replica::Replica,
        sessions,
        trace::TraceEvent,
    },
};

/// What broke, in words that begin with the invariant's name.
pub type Violation = String;

/// Watches every turn of every node of a world that has a common clock.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Observer {
    groups: BTreeMap<PartitionId, Observed>,
    /// Fast reads seen.
    pub fast_reads: u64,
    /// Entries decided.
    pub decided: u64,
    /// Leaders seen.
    pub leaders: u64,
    /// Snapshots that a node has fetched from another.
    pub fetched: u64,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
struct Observed {
    quorum: usize,
    /// Hash of every decided entry.
    log: Vec<u64>,
    /// What all decided entries come to; none: the first replica that was seen had applied some already.
    keys: Option<KeyValues>,
    /// Digest of the keys after each number of entries.
    digests: Vec<u64>,
    proposals: BTreeSet<ProposalId>,
    /// How far each node's current incarnation was seen to have decided.
    decided: BTreeMap<NodeId, u64>,
    led: BTreeMap<Ballot, NodeId>,
    holds: BTreeMap<Ballot, Interval>,
    grants: BTreeMap<NodeId, (Ballot, Interval)>,
    /// Ballots under which a node's log ended in a stop-sign.
    stopped: BTreeSet<(NodeId, Ballot)>,
}

/// In common time, nanoseconds; the end is exclusive.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Interval {
    start: u64,
    end: u64,
}

impl Observer {
    /// A node has ended a turn at the common time `now`; `to_common` maps a reading of that node's clock.
    pub fn observe(
        &mut self,
        now: u64,
        id: NodeId,
        node: &Node,
        outputs: &[Output],
        to_common: impl Fn(LocalTime) -> u64,
    ) -> Result<(), Violation> {
        for output in outputs {
            if let Output::Trace(event) = output {
                self.on_event(now, id, event, &to_common)?;
            }
        }
        node.replicas().try_for_each(|replica| self.on_replica(id, replica))
    }

    /// What a replica knows to be decided after a turn of its node.
    pub fn on_replica(&mut self, id: NodeId, replica: &Replica) -> Result<(), Violation> {
        let paxos = replica.paxos();
        let group = self.groups.entry(paxos.group().partition).or_default();
        group.quorum = paxos.group().quorum();
        if group.log.is_empty() && group.keys.is_none() && replica.keys().applied() == 0 {
            group.begin(replica.keys());
        }
        let before = group.decided.insert(id, paxos.decided());
        let from = before.unwrap_or(0);
        if paxos.decided() < from {
            return Err(format!("SP3: node {id} had decided {from} entries and now {}", paxos.decided()));
        }
        let start = paxos.log().start();
        for index in from.max(start) + 1..=paxos.decided() {
            self.decided += u64::from(group.observe_decided(id, index, paxos.entry(index))?);
        }
        // entries that are gone are compared by what they came to
        if before.is_none() || from < start { group.same_keys(id, replica.keys()) } else { Ok(()) }
    }

    /// How many ballots have held the lease of a partition.
    pub fn holders(&self, partition: PartitionId) -> usize {
        self.groups.get(&partition).map_or(0, |group| group.holds.len())
    }

    /// A node has crashed: its holds are over, its grants are not, and its next incarnation may know less to be decided.
    pub fn crashed(&mut self, now: u64, id: NodeId) {
        for group in self.groups.values_mut() {
            group.decided.remove(&id);
            for (ballot, hold) in &mut group.holds {
                if ballot.node == id {
                    hold.end = hold.end.min(now);
                }
            }
        }
    }

    /// A node has told of an event at the common time `now`; `to_common` maps a reading of its clock.
    pub fn on_event(
        &mut self,
        now: u64,
        id: NodeId,
        event: &TraceEvent,
        to_common: &impl Fn(LocalTime) -> u64,
    ) -> Result<(), Violation> {
        match *event {
            TraceEvent::Leading { partition, ballot } => {
                self.leaders += 1;
                self.group(partition).on_leading(id, ballot)
            }
            TraceEvent::Promised { partition, ballot } => self.group(partition).on_promised(now, id, ballot),
            TraceEvent::Group { partition, promised, .. } => {
                self.group(partition).on_restart(now, id, promised)
            }
            TraceEvent::Granted { partition, ballot, until } => {
                let end = to_common(LocalTime(until));
                self.group(partition).grants.insert(id, (ballot, Interval { start: now, end }));
                Ok(())
            }
            TraceEvent::Released { partition, ballot } => {
                self.group(partition).on_released(now, id, ballot);
                Ok(())
            }
            TraceEvent::Hold { partition, ballot, until } => {
                self.group(partition).on_hold(now, ballot, to_common(LocalTime(until)))
            }
            TraceEvent::HoldEnded { partition, ballot } => {
                if let Some(hold) = self.group(partition).holds.get_mut(&ballot) {
                    hold.end = hold.end.min(now);
                }
                Ok(())
            }
            TraceEvent::Decided { partition, ballot, leading: true, .. } => {
                self.group(partition).on_decided_by_leader(now, ballot)
            }
            TraceEvent::StopSign { partition, ballot, .. } => {
                self.group(partition).stopped.insert((id, ballot));
                Ok(())
            }
            TraceEvent::Snapshot { fetched, .. } => {
                self.fetched += u64::from(fetched);
                Ok(())
            }
            TraceEvent::FastRead { partition, ballot, received, checked, expiry, .. } => {
                self.fast_reads += 1;
                if self.group(partition).stopped.contains(&(id, ballot)) {
                    return Err(format!("L7: a fast read under {ballot} after a stop-sign"));
                }
                if !(received <= checked && checked < expiry) {
                    return Err(format!("L4: received {received}, checked {checked}, expiry {expiry}"));
                }
                self.group(partition).on_fast_read(now, ballot, to_common(LocalTime(expiry)))
            }
            _ => Ok(()),
        }
    }

    fn group(&mut self, partition: PartitionId) -> &mut Observed {
        self.groups.entry(partition).or_default()
    }
}

fn digest_of(what: impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    what.hash(&mut hasher);
    hasher.finish()
}

/// Of the keys, and of the sessions beside them.
fn digest_of_all(keys: &KeyValues) -> u64 {
    let of_sessions = keys.sessions().iter().map(digest_of);
    keys.iter().map(digest_of).chain(of_sessions).fold(0, |all, one| all ^ one)
}

/// Of all that an entry of this index can change.
fn digest_of_named(keys: &KeyValues, entry: &Entry, index: u64) -> u64 {
    let key = match entry {
        Entry::Command(command) => {
            let key = command.operation.key();
            keys.get(key).map(|held| (key, held))
        }
        Entry::StopSign(_) | Entry::Expiry(_) => None,
    };
    let sessions = sessions::named_by(entry, index).into_iter();
    let sessions = sessions.filter_map(|session| Some(digest_of((session, keys.sessions().get(session)?))));
    key.map(digest_of).into_iter().chain(sessions).fold(0, |all, one| all ^ one)
}

impl Observed {
    /// A replica's keys, of which no entry has changed any.
    fn begin(&mut self, keys: &KeyValues) {
        self.digests = vec![digest_of_all(keys)];
        self.keys = Some(keys.clone());
    }

    /// SP2: a replica's keys and sessions are what the decided entries come to.
    fn same_keys(&self, id: NodeId, keys: &KeyValues) -> Result<(), Violation> {
        let Some(expected) = self.keys.as_ref().and_then(|_| self.digests.get(keys.applied() as usize))
        else {
            return Ok(());
        };
        if digest_of_all(keys) == *expected {
            return Ok(());
        }
        Err(format!(
            "SP2: the keys or sessions of node {id} are not what the {} entries that it has applied come to",
            keys.applied()
        ))
    }

    /// True when nobody had decided this index before.
    fn observe_decided(&mut self, id: NodeId, index: u64, entry: &Entry) -> Result<bool, Violation> {
        let mut hasher = DefaultHasher::new();
        entry.hash(&mut hasher);
        let hash = hasher.finish();
        if let Some(known) = self.log.get(index as usize - 1) {
            if *known != hash {
                return Err(format!("SP2: node {id} decided another entry {index} than was decided before"));
            }
            return Ok(false);
        }
        if self.log.len() as u64 + 1 != index {
            return Err(format!("SP3: node {id} decided entry {index} before its predecessor"));
        }
        self.log.push(hash);
        self.apply(entry);
        if let Entry::Command(command) = entry
            && !self.proposals.insert(command.id)
        {
            return Err(format!("SP1: proposal {:?} was decided twice", command.id));
        }
        Ok(true)
    }

    fn apply(&mut self, entry: &Entry) {
        let (Some(keys), Some(digest)) = (&mut self.keys, self.digests.last().copied()) else { return };
        let index = keys.applied() + 1;
        let before = digest_of_named(keys, entry, index);
        keys.apply(entry);
        self.digests.push(digest ^ before ^ digest_of_named(keys, entry, index));
    }

    fn on_leading(&mut self, id: NodeId, ballot: Ballot) -> Result<(), Violation> {
        if let Some(other) = self.led.insert(ballot, id) {
            return Err(format!("BLE3: ballot {ballot} was led before, by node {other}"));
        }
        let earlier = self.led.keys().filter(|led| led.node == id).max();
        if ballot.node != id || earlier.is_some_and(|earlier| *earlier > ballot) {
            return Err(format!("BLE3: node {id} leads under {ballot} after {earlier:?}"));
        }
        Ok(())
    }

    fn on_promised(&mut self, now: u64, id: NodeId, ballot: Ballot) -> Result<(), Violation> {
        match self.grants.get(&id) {
            Some((granted, interval)) if granted.node != ballot.node && now < interval.end => Err(format!(
                "L3: node {id} promised {ballot} at {now} while its grant to {granted} runs until {}",
                interval.end
            )),
            _ => Ok(()),
        }
    }

    /// A grant leaves its node only after its promise is durable. So what was granted to a higher ballot than the disk holds
    /// was never told to anyone, and no hold rests on it.
    fn on_restart(&mut self, now: u64, id: NodeId, promised: Ballot) -> Result<(), Violation> {
        let Some((ballot, _)) = self.grants.get(&id).copied().filter(|(granted, _)| *granted > promised)
        else {
            return Ok(());
        };
        self.grants.remove(&id);
        match self.holds.get(&ballot) {
            Some(hold) if now < hold.end => self.covered(ballot, hold.end),
            _ => Ok(()),
        }
    }

    /// L2: a quorum's grants of the ballot last until the end of its hold.
    fn covered(&self, ballot: Ballot, end: u64) -> Result<(), Violation> {
        let covering =
            self.grants.values().filter(|(granted, grant)| *granted == ballot && grant.end >= end).count();
        if covering < self.quorum {
            return Err(format!("L2: {covering} grants cover the hold of {ballot} until {end}"));
        }
        Ok(())
    }

    fn on_released(&mut self, now: u64, id: NodeId, ballot: Ballot) {
        if let Some((granted, interval)) = self.grants.get_mut(&id)
            && *granted == ballot
        {
            interval.end = interval.end.min(now);
        }
    }

    fn on_hold(&mut self, now: u64, ballot: Ballot, end: u64) -> Result<(), Violation> {
        if let Some(hold) = self.holds.get(&ballot).filter(|hold| hold.end <= now) {
            return Err(format!("L1: the hold of {ballot} ended at {} and is revived at {now}", hold.end));
        }
        let hold = self.holds.entry(ballot).or_insert(Interval { start: now, end });
        hold.end = end;
        let start = hold.start;
        let overlapping = self
            .holds
            .iter()
            .find(|(other, hold)| **other != ballot && hold.start < end && start.max(now) < hold.end);
        if let Some((other, hold)) = overlapping {
            return Err(format!(
                "L1: at {now} ballot {ballot} holds the lease until {end}, and {other} from {} to {}",
                hold.start, hold.end
            ));
        }
        self.covered(ballot, end)
    }

    fn on_decided_by_leader(&self, now: u64, ballot: Ballot) -> Result<(), Violation> {
        match self.holds.iter().find(|(other, hold)| **other != ballot && hold.start <= now && now < hold.end)
        {
            Some((other, hold)) => {
                Err(format!("L6: {ballot} decided at {now} inside the hold of {other} until {}", hold.end))
            }
            None => Ok(()),
        }
    }

    fn on_fast_read(&self, now: u64, ballot: Ballot, expiry: u64) -> Result<(), Violation> {
        match self.holds.get(&ballot) {
            Some(hold) if hold.start <= now && now < hold.end && expiry <= hold.end => Ok(()),
            hold => Err(format!(
                "L4: a fast read under {ballot} at {now}, expiry {expiry}, outside its hold {hold:?}"
            )),
        }
    }
}
