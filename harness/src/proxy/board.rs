//! The rules of the whole network, how they are changed in one step, and who has yet to obey.

use std::{
    collections::BTreeMap,
    sync::{Arc, PoisonError, RwLock, RwLockReadGuard},
    time::Duration,
};

use tokio::sync::{Mutex, watch};

use super::{
    Link, Rule,
    delay::{Delay, Draw},
};
use crate::clock::{Effective, boottime_ns};

/// The rules in effect. Bytes move only while `rules` is locked for reading, so that a switch, which locks it for writing,
/// falls between two movements of bytes on every connection at once.
pub(super) struct Board {
    rules: RwLock<Rules>,
    /// The number of the switch in effect, for those who wait for the next one.
    changed: watch::Sender<u64>,
    census: watch::Sender<Census>,
    /// One switch at a time.
    switching: Mutex<()>,
}

/// The rules and delays in effect.
#[derive(Default)]
pub(super) struct Rules {
    /// Counts the switches.
    epoch: u64,
    by_link: BTreeMap<Link, Rule>,
    /// What delays are drawn from.
    seed: u64,
    delays: BTreeMap<Link, Delay>,
}

#[derive(Clone, Copy, Default)]
struct Census {
    /// Connections that exist.
    live: usize,
    /// Those of them that have not acknowledged the last switch.
    behind: usize,
}

impl Board {
    /// Everything open.
    pub(super) fn new() -> Self {
        Self {
            rules: RwLock::default(),
            changed: watch::Sender::new(0),
            census: watch::Sender::new(Census::default()),
            switching: Mutex::new(()),
        }
    }

    /// Replaces all rules, and waits until every connection has acknowledged.
    pub(super) async fn switch(&self, by_link: BTreeMap<Link, Rule>) -> Effective {
        let requested = boottime_ns();
        let _one_at_a_time = self.switching.lock().await;
        {
            let mut rules = self.rules.write().unwrap_or_else(PoisonError::into_inner);
            rules.epoch += 1;
            rules.by_link = by_link;
            self.census.send_modify(|census| census.behind = census.live);
            self.changed.send_replace(rules.epoch);
        }
        let mut census = self.census.subscribe();
        census.wait_for(|census| census.behind == 0).await.expect("the sender lives in self");
        Effective::since(requested)
    }

    /// Replaces all delays, for what is read from now on.
    pub(super) fn set_delays(&self, seed: u64, delays: BTreeMap<Link, Delay>) {
        let mut rules = self.rules.write().unwrap_or_else(PoisonError::into_inner);
        (rules.seed, rules.delays) = (seed, delays);
    }

    /// The rules in effect.
    pub(super) fn rules(&self) -> BTreeMap<Link, Rule> {
        self.read().by_link.clone()
    }

    fn read(&self) -> RwLockReadGuard<'_, Rules> {
        self.rules.read().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Rules {
    fn of(&self, link: Link) -> Rule {
        self.by_link.get(&link).copied().unwrap_or_default()
    }

    /// How long the given piece of the given connection travels on `link`; `None` when it does not at all.
    pub(super) fn delay(&self, link: Link, connection: u64, piece: u64) -> Option<Duration> {
        let delay = self.delays.get(&link)?;
        Some(delay.draw(Draw { seed: self.seed, link, connection, piece }))
    }
}

/// A view of one link's rule, which bytes of that link pass through.
pub(super) struct Gate {
    board: Arc<Board>,
    link: Link,
    /// The switch that `rule` is of.
    epoch: u64,
    rule: Rule,
    changed: watch::Receiver<u64>,
}

impl Gate {
    /// The gate of `link`.
    pub(super) fn new(board: &Arc<Board>, link: Link) -> Self {
        let changed = board.changed.subscribe();
        let (epoch, rule) = {
            let rules = board.read();
            (rules.epoch, rules.of(link))
        };
        Self { board: Arc::clone(board), link, epoch, rule, changed }
    }

    /// The link.
    pub(super) fn link(&self) -> Link {
        self.link
    }

    /// Does `step`, which must not block, if the link is open, with no switch before it is done; else says what the rule is.
    pub(super) fn pass<T>(&mut self, step: impl FnOnce(&Rules) -> T) -> Result<T, Rule> {
        let rules = self.board.read();
        if self.epoch != rules.epoch {
            self.epoch = rules.epoch;
            self.rule = rules.of(self.link);
        }
        match self.rule {
            Rule::Open => Ok(step(&rules)),
            rule => Err(rule),
        }
    }

    /// The rule in effect.
    pub(super) fn rule(&mut self) -> Rule {
        self.pass(|_| ()).err().unwrap_or_default()
    }

    /// Waits for a switch after the one that was last looked at. Cancel safe.
    pub(super) async fn changed(&mut self) {
        let seen = self.epoch;
        self.changed.wait_for(|epoch| *epoch > seen).await.expect("the sender lives in the board");
    }

    /// Waits until the link is not held. Cancel safe.
    pub(super) async fn released(&mut self) {
        while self.rule() == Rule::Hold {
            self.changed().await;
        }
    }
}

/// A connection's entry in the census: a switch waits until the connection has acknowledged it or is gone.
pub(super) struct Ticket {
    board: Arc<Board>,
    /// The last switch that was acknowledged.
    epoch: u64,
}

impl Ticket {
    /// Enters a new connection, which obeys the rules in effect.
    pub(super) fn new(board: &Arc<Board>) -> Self {
        let epoch = {
            let rules = board.read();
            board.census.send_modify(|census| census.live += 1);
            rules.epoch
        };
        Self { board: Arc::clone(board), epoch }
    }

    /// The connection obeys the rules of switch number `epoch`.
    pub(super) fn acknowledge(&mut self, epoch: u64) {
        let rules = self.board.read();
        if self.epoch < epoch && epoch == rules.epoch {
            self.board.census.send_if_modified(|census| {
                census.behind -= 1;
                census.behind == 0
            });
        }
        self.epoch = epoch;
    }

    /// Waits until the link of `gate` is severed; acknowledges every switch that does not do so.
    pub(super) async fn until_severed(&mut self, gate: &mut Gate) {
        while gate.rule() != Rule::Sever {
            self.acknowledge(gate.epoch);
            gate.changed().await;
        }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let rules = self.board.read();
        self.board.census.send_if_modified(|census| {
            census.live -= 1;
            if self.epoch != rules.epoch {
                census.behind -= 1;
            }
            census.behind == 0
        });
    }
}
