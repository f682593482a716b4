//! No more connections than file descriptors and memory are there for: when there are too many, that goes which has done
//! nothing for the longest time. So a thousand that say nothing keep nobody out.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use tokio::sync::Notify;

use crate::clock::boottime_ns;

/// Most connections at the same time.
const MOST: usize = 200;

/// A connection that was admitted.
#[derive(Debug)]
pub(super) struct Connection {
    /// When it did something last.
    touched: AtomicU64,
    goes: Notify,
}

impl Connection {
    /// A connection that nobody else knows of.
    fn new() -> Self {
        Self { touched: AtomicU64::new(boottime_ns()), goes: Notify::new() }
    }

    /// It does something.
    pub(super) fn touch(&self) {
        self.touched.store(boottime_ns(), Ordering::Relaxed);
    }

    /// Returns when another one needs its place.
    pub(super) async fn must_go(&self) {
        self.goes.notified().await;
    }
}

/// The connections that are open.
#[derive(Debug, Default)]
pub(super) struct Connections {
    open: Vec<Arc<Connection>>,
}

impl Connections {
    /// One more. It is open for as long as anybody holds it.
    pub(super) fn admit(&mut self) -> Arc<Connection> {
        self.open.retain(|connection| Arc::strong_count(connection) > 1);
        if self.open.len() >= MOST {
            let touched = |at: &usize| self.open[*at].touched.load(Ordering::Relaxed);
            if let Some(stalest) = (0..self.open.len()).min_by_key(touched) {
                self.open.swap_remove(stalest).goes.notify_one();
            }
        }
        let connection = Arc::new(Connection::new());
        self.open.push(Arc::clone(&connection));
        connection
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;

    use super::*;

    #[test]
    fn the_one_that_has_been_silent_the_longest_makes_room() {
        let mut connections = Connections::default();
        let mut open: Vec<_> = (0..MOST).map(|_| connections.admit()).collect();
        open[0].touch();
        let must_go = |connection: &Connection| connection.must_go().now_or_never().is_some();
        assert!(open.iter().all(|connection| !must_go(connection)));
        open.push(connections.admit());
        let going: Vec<usize> = (0..open.len()).filter(|at| must_go(&open[*at])).collect();
        assert_eq!(going, [1], "the first has spoken since");
        open.truncate(10);
        assert!(!must_go(&connections.admit()));
        assert_eq!(connections.open.len(), 10, "nine of them, since one went, and the new one");
    }
}
