//! The rules of the whole network, how they are changed in one step, and who has yet to obey.

use std::{
    collections::BTreeMap,
    future::{Future, poll_fn},
    pin::Pin,
    sync::{
        Arc, PoisonError, RwLock, RwLockReadGuard,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll},
};

use futures::task::AtomicWaker;
use tokio::sync::{Mutex, oneshot, watch};

use super::{Conditions, Link, Match, Seen};
use crate::clock::{Effective, boottime_ns};

/// The rules in effect. Bytes move only while `rules` is locked for reading, so that a switch, which locks it for writing,
/// falls between two movements of bytes on every connection at once.
#[derive(Default)]
pub(super) struct Board {
    rules: RwLock<Rules>,
    members: std::sync::Mutex<Members>,
    census: watch::Sender<Census>,
    /// One switch at a time.
    switching: Mutex<()>,
}

#[derive(Default)]
struct Rules {
    /// Counts the switches.
    epoch: u64,
    by_link: BTreeMap<Link, Arc<Terms>>,
    watchers: BTreeMap<Link, Vec<Arc<Watcher>>>,
}

/// What is in effect on one link.
#[derive(Default)]
pub(super) struct Terms {
    pub(super) conditions: Conditions,
    pub(super) watchers: Vec<Arc<Watcher>>,
}

/// Connections and listeners: whom to wake when the rules change.
#[derive(Default)]
struct Members {
    last: u64,
    wakers: BTreeMap<u64, Arc<AtomicWaker>>,
}

#[derive(Clone, Copy, Default)]
struct Census {
    /// Members that exist.
    live: usize,
    /// Those of them that have not acknowledged the last switch.
    behind: usize,
}

impl Board {
    /// Replaces the conditions of all links, and waits until every member has acknowledged.
    pub(super) async fn switch(&self, by_link: BTreeMap<Link, Conditions>) -> Effective {
        self.change(|rules| {
            rules.by_link = by_link
                .into_iter()
                .map(|(link, conditions)| (link, Arc::new(Terms { conditions, watchers: Vec::new() })))
                .collect();
        })
        .await
    }

    /// Looks for the matching frame with this number, from 1, on all of `links` together, from now on.
    pub(super) async fn watch(&self, links: &[Link], matching: Match, nth: u64) -> Watch {
        let (tell, seen) = oneshot::channel();
        let watcher = Arc::new(Watcher {
            matching,
            left: AtomicU64::new(nth),
            tell: std::sync::Mutex::new(Some(tell)),
        });
        self.change(|rules| {
            for link in links {
                rules.watchers.entry(*link).or_default().push(Arc::clone(&watcher));
            }
        })
        .await;
        Watch(seen)
    }

    /// The conditions in effect.
    pub(super) fn conditions(&self) -> BTreeMap<Link, Conditions> {
        self.read().by_link.iter().map(|(link, terms)| (*link, terms.conditions.clone())).collect()
    }

    /// Looks at something while no byte moves.
    pub(super) fn still<T>(&self, look: impl FnOnce() -> T) -> T {
        let _nothing_moves = self.rules.write().unwrap_or_else(PoisonError::into_inner);
        look()
    }

    async fn change(&self, change: impl FnOnce(&mut Rules)) -> Effective {
        let requested = boottime_ns();
        let _one_at_a_time = self.switching.lock().await;
        {
            let mut rules = self.rules.write().unwrap_or_else(PoisonError::into_inner);
            rules.epoch += 1;
            change(&mut rules);
            rules.attach_watchers();
            self.census.send_modify(|census| census.behind = census.live);
        }
        self.members().wakers.values().for_each(|waker| waker.wake());
        let mut census = self.census.subscribe();
        census.wait_for(|census| census.behind == 0).await.expect("the sender lives in self");
        Effective::since(requested)
    }

    fn read(&self) -> RwLockReadGuard<'_, Rules> {
        self.rules.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn members(&self) -> std::sync::MutexGuard<'_, Members> {
        self.members.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Rules {
    /// Hands every link's watchers to its terms, without those that have seen their frame or that nobody waits for.
    fn attach_watchers(&mut self) {
        for (link, watchers) in &mut self.watchers {
            watchers.retain(|watcher| watcher.is_wanted());
            let terms = self.by_link.entry(*link).or_default();
            let conditions = terms.conditions.clone();
            *terms = Arc::new(Terms { conditions, watchers: watchers.clone() });
        }
        self.watchers.retain(|_, watchers| !watchers.is_empty());
    }

    fn view(&self, link: Link) -> View {
        let of = |link| self.by_link.get(&link).cloned().unwrap_or_default();
        View { epoch: self.epoch, there: of(link), back: of(link.backward()) }
    }
}

impl Terms {
    /// True when bytes pass unseen, as long as the rule lets them.
    pub(super) fn are_plain(&self) -> bool {
        self.watchers.is_empty() && self.conditions.is_plain()
    }
}

/// The rules in effect as one connection sees them.
pub(super) struct View {
    epoch: u64,
    /// What holds for bytes from the dialer.
    pub(super) there: Arc<Terms>,
    /// What holds for bytes to the dialer.
    pub(super) back: Arc<Terms>,
}

/// A connection's or a listener's place in the census: a switch waits until it has acknowledged or is gone.
pub(super) struct Ticket {
    board: Arc<Board>,
    link: Link,
    number: u64,
    waker: Arc<AtomicWaker>,
    view: View,
    /// The last switch that was acknowledged.
    acknowledged: u64,
}

impl Ticket {
    /// Enters a connection of `link`, which obeys the rules in effect.
    pub(super) fn new(board: &Arc<Board>, link: Link) -> Self {
        let waker = Arc::new(AtomicWaker::new());
        let number = {
            let mut members = board.members();
            members.last += 1;
            let number = members.last;
            members.wakers.insert(number, Arc::clone(&waker));
            number
        };
        let view = {
            let rules = board.read();
            board.census.send_modify(|census| census.live += 1);
            rules.view(link)
        };
        let acknowledged = view.epoch;
        Self { board: Arc::clone(board), link, number, waker, view, acknowledged }
    }

    /// Does `step`, which must not block, whenever what it waits for or a switch says so, until it is ready. No switch falls
    /// between its beginning and its end, and a switch is acknowledged once a step under its rules has nothing more to do.
    pub(super) async fn follow<T>(&mut self, mut step: impl FnMut(&mut Context, &View) -> Poll<T>) -> T {
        let Self { board, link, waker, view, acknowledged, .. } = self;
        poll_fn(|context| {
            // before the rules are looked at, so that a switch after that wakes
            waker.register(context.waker());
            let rules = board.read();
            if view.epoch != rules.epoch {
                *view = rules.view(*link);
            }
            let polled = step(context, view);
            if polled.is_pending() && *acknowledged != rules.epoch {
                *acknowledged = rules.epoch;
                board.census.send_if_modified(|census| {
                    census.behind -= 1;
                    census.behind == 0
                });
            }
            polled
        })
        .await
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let rules = self.board.read();
        self.board.members().wakers.remove(&self.number);
        self.board.census.send_if_modified(|census| {
            census.live -= 1;
            if self.acknowledged != rules.epoch {
                census.behind -= 1;
            }
            census.behind == 0
        });
    }
}

/// Looks out for a frame.
pub(super) struct Watcher {
    matching: Match,
    /// How many matching frames are still to come, the one that is looked for included.
    left: AtomicU64,
    tell: std::sync::Mutex<Option<oneshot::Sender<Sighting>>>,
}

/// A frame that a [`Watch`] looked out for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sighting {
    /// [`boottime_ns`] when the proxy had read its first bytes; none of it had reached its receiver yet.
    pub at: u64,
    /// What it is; `None` where the protocol is not known.
    pub seen: Option<Seen>,
}

/// Waits for a frame that was looked out for. Dropping it ends the look-out.
#[derive(Debug)]
pub struct Watch(oneshot::Receiver<Sighting>);

impl Watcher {
    /// A frame is about to pass.
    pub(super) fn look(&self, seen: Option<&Seen>) {
        if !self.matching.means(seen) {
            return;
        }
        let before = self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1));
        if before == Ok(1)
            && let Some(tell) = self.tell.lock().unwrap_or_else(PoisonError::into_inner).take()
        {
            // an error says that nobody waits any more
            let _ = tell.send(Sighting { at: boottime_ns(), seen: seen.copied() });
        }
    }

    fn is_wanted(&self) -> bool {
        let tell = self.tell.lock().unwrap_or_else(PoisonError::into_inner);
        tell.as_ref().is_some_and(|tell| !tell.is_closed())
    }
}

impl Future for Watch {
    /// `None`: the network is gone.
    type Output = Option<Sighting>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context) -> Poll<Self::Output> {
        Pin::new(&mut self.0).poll(context).map(Result::ok)
    }
}
