//! The course of a real run that simulated runs follow: when processes started, when clients began, and the messages.

use std::{collections::BTreeMap, path::Path, sync::Arc};

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};
use store::{
    api::{Ballot, NodeId},
    node::wire::Kind,
};

use crate::messages::{self, Fate, Message, Messages, Told};

/// The file beside a plan that holds the messages.
pub const FILE: &str = "followed.bin";

/// What a plan says of the run that its simulated runs follow. Times are nanoseconds of that run's history.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Follows {
    /// When its clients began.
    pub warm_up: u64,
    /// Its nodes, the numbers of their lives, and when these began.
    pub starts: Vec<(NodeId, u64, u64)>,
    /// The messages, which stand in a file of their own.
    #[serde(skip)]
    pub course: Arc<Course>,
}

impl Follows {
    /// Of a run whose clients began then.
    pub fn new(warm_up: u64, starts: Vec<(NodeId, u64, u64)>, course: Course) -> Self {
        Self { warm_up, starts, course: Arc::new(course) }
    }

    /// Reads the messages from a folder.
    pub fn read(&mut self, folder: &Path) -> Result<()> {
        let mut all = Vec::new();
        let messages = Messages::open_as(folder, FILE)?.context("there is none beside the plan")?;
        ensure!(messages.ended, "it is cut off");
        messages.between(0, u64::MAX, |message| all.push(message))?;
        self.course = Arc::new(Course::new(all));
        Ok(())
    }

    /// Writes the messages into a folder.
    pub fn write(&self, folder: &Path) -> Result<()> {
        Ok(messages::write_all(folder, FILE, &self.course.messages)?)
    }

    /// When this life of a node has begun.
    pub fn start_of(&self, node: NodeId, boot: u64) -> Option<u64> {
        self.starts.iter().find(|(of, life, _)| (*of, *life) == (node, boot)).map(|(.., at)| *at)
    }
}

/// All messages of a run that say what they are.
#[derive(Debug, Default, PartialEq)]
pub struct Course {
    messages: Vec<Message>,
    links: BTreeMap<(NodeId, NodeId), Road>,
}

/// The messages of one link, in the order in which they were sent.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Road {
    pub(super) passed: Vec<Passed>,
    /// Places of those that say exactly this.
    pub(super) exactly: BTreeMap<Words, Vec<usize>>,
    /// Places of those of a kind about a partition.
    pub(super) alike: BTreeMap<(Kind, Option<u32>), Vec<usize>>,
}

/// One that passed, or did not.
#[derive(Debug, PartialEq)]
pub(super) struct Passed {
    pub(super) sent: u64,
    pub(super) fate: Fate,
    /// When it arrived a second time.
    pub(super) again: Option<u64>,
    /// A fault of single messages struck it.
    pub(super) struck: bool,
}

/// All that a message says of itself.
pub(super) type Words = (Kind, Option<(u32, Ballot)>, Option<u64>, Option<u64>);

pub(super) fn words(told: &Told) -> Words {
    (told.kind, told.group, told.session, told.index)
}

pub(super) fn likeness(told: &Told) -> (Kind, Option<u32>) {
    (told.kind, told.group.map(|(partition, _)| partition))
}

impl Course {
    /// The course of these messages.
    pub(crate) fn new(mut messages: Vec<Message>) -> Self {
        // handshakes are not messages in simulated time, and whoever never knew a message cannot follow it
        messages.retain(|message| {
            message.told.is_some_and(|told| !matches!(told.kind, Kind::Handshake | Kind::Verdict))
        });
        messages.sort_by_key(|message| {
            let Message { sent, from, to, connection, number, again, .. } = *message;
            (sent, from, to, connection, number, again)
        });
        let mut second: BTreeMap<(NodeId, NodeId, u64, u64), u64> = BTreeMap::new();
        let place = |message: &Message| (message.from, message.to, message.connection, message.number);
        for message in messages.iter().filter(|message| message.again) {
            second.extend(message.arrived().map(|at| (place(message), at)));
        }
        let mut links: BTreeMap<(NodeId, NodeId), Road> = BTreeMap::new();
        for message in messages.iter().filter(|message| !message.again) {
            let Some(told) = &message.told else { continue };
            let road = links.entry((message.from, message.to)).or_default();
            let index = road.passed.len();
            let again = second.get(&place(message)).copied();
            let (sent, fate, struck) = (message.sent, message.fate, message.fault.is_some());
            road.passed.push(Passed { sent, fate, again, struck });
            road.exactly.entry(words(told)).or_default().push(index);
            road.alike.entry(likeness(told)).or_default().push(index);
        }
        Self { messages, links }
    }

    /// How many messages there are.
    pub fn len(&self) -> usize {
        self.messages.len()
    }

    /// Whether none is recorded.
    pub fn is_empty(&self) -> bool {
        self.messages.is_empty()
    }

    pub(super) fn road(&self, link: (NodeId, NodeId)) -> Option<&Road> {
        self.links.get(&link)
    }
}
