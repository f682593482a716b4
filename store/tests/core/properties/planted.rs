//! Events that contradict a property, shown to the observer that watches every world.

use store::{
    api::{Ballot, NodeId},
    core::{
        Config, LocalTime, Node, Output,
        durable::{DurableGroup, DurableState},
        invariants::{Observer, Violation},
        log::Log,
        message::{Command, Entry, ProposalId, Table},
        trace::TraceEvent,
    },
};

use super::put;
use crate::cluster::one_partition;

/// An observer that is shown events that no world has brought forth.
pub struct Planted {
    observer: Observer,
    config: Config,
    node: Node,
}

impl Planted {
    /// Watches a group of three.
    pub fn new() -> Self {
        Self::with_decided(0)
    }

    /// The node that it looks at has decided so many entries.
    pub fn with_decided(entries: u64) -> Self {
        let cluster = one_partition(3);
        let config =
            Config { node: 1, nodes: vec![1, 2, 3], disk: 1, boot: 1, cluster, mutant: None, traced: true };
        let node = node_with_decided(&config, entries);
        let mut planted = Self { observer: Observer::default(), config, node };
        planted.look(0, 1).expect("nothing has happened yet");
        planted
    }

    /// It loses all but so many entries, and the observer is not told that it has crashed.
    pub fn restart_unnoticed(&mut self, entries: u64) {
        self.node = node_with_decided(&self.config, entries);
    }

    /// A turn of a node in which nothing happens.
    pub fn look(&mut self, now: u64, id: NodeId) -> Result<(), Violation> {
        self.observer.observe(now, id, &self.node, &[], |local| local.0)
    }

    /// A turn of a node in which one event happens. All clocks are the common one.
    pub fn see(&mut self, now: u64, id: NodeId, event: TraceEvent) -> Result<(), Violation> {
        self.observer.observe(now, id, &self.node, &[Output::Trace(event)], |local| local.0)
    }

    /// Two nodes grant a ballot the lease, and its node holds it, from 0 until 100.
    pub fn with_hold(ballot: Ballot) -> Self {
        let mut planted = Self::new();
        for node in [1, 2] {
            planted.see(0, node, granted(ballot, 100)).expect("a grant");
        }
        planted.see(0, ballot.node, hold(ballot, 100)).expect("a hold within its grants");
        planted
    }
}

fn node_with_decided(config: &Config, entries: u64) -> Node {
    let table = Table {
        members: [(1, 1), (2, 2), (3, 3)].into(),
        config: config.cluster.digest(),
        replicas: [(1, vec![1, 2, 3])].into(),
    };
    let entry = |number| {
        Entry::Command(Command {
            id: ProposalId { node: 3, boot: 1, number },
            operation: put("x", "a"),
            session: None,
        })
    };
    let group = DurableGroup {
        log: Log::new(0, (1..=entries).map(entry).collect()),
        decided: entries,
        ..DurableGroup::default()
    };
    let durable = DurableState { table: Some(table), groups: [(1, group)].into() };
    Node::start(config, &durable, LocalTime(0), &mut Vec::new())
}

pub fn ballot(number: u64, node: NodeId) -> Ballot {
    Ballot { config: 0, number, priority: 0, node }
}

pub fn granted(ballot: Ballot, until: u64) -> TraceEvent {
    TraceEvent::Granted { partition: 1, ballot, until }
}

pub fn hold(ballot: Ballot, until: u64) -> TraceEvent {
    TraceEvent::Hold { partition: 1, ballot, until }
}

pub fn fast_read(ballot: Ballot, (received, checked, expiry): (u64, u64, u64)) -> TraceEvent {
    let key = "x".to_owned();
    TraceEvent::FastRead { partition: 1, ballot, key, received, checked, expiry, version: 0, applied: 0 }
}

/// What was seen breaks this invariant.
#[track_caller]
pub fn breaks(invariant: &str, result: Result<(), Violation>) {
    let violation = result.expect_err("a contradiction");
    assert!(violation.starts_with(invariant), "{invariant} is meant, {violation} found");
}
