//! The proxy's thread stays awake for a moment after it has read something: to wake a thread costs several times what it costs to
//! carry a frame, and the answer comes soon.
//!
//! That pays only while a processor is idle. When somebody else wants it, whoever looks for more takes it from those that would
//! send more, and falls behind them in the kernel's order each time that it yields: then the thread sleeps, and what comes
//! meanwhile is carried together.

use std::time::Duration;

use futures::FutureExt;
use tokio::sync::Notify;

use crate::clock::boottime_ns;

/// How long the thread looks for more before it sleeps.
const AWAKE: Duration = Duration::from_micros(50);

/// Somebody else had the processor if offering it took so long.
const TAKEN: Duration = Duration::from_micros(5);

/// How long the thread sleeps between reads once that has happened.
const REST: Duration = Duration::from_millis(10);

/// Notified of every read. Looks for more, and offers the processor to whoever else wants it each time.
pub(super) async fn stay_awake(reads: &Notify) {
    let mut rests_until = 0;
    loop {
        reads.notified().await;
        let mut last = boottime_ns();
        while last >= rests_until {
            let before = boottime_ns();
            std::thread::yield_now();
            let offered = boottime_ns();
            if offered - before > TAKEN.as_nanos() as u64 {
                rests_until = offered + REST.as_nanos() as u64;
                break;
            }
            // the runtime looks for events before it goes on here
            tokio::task::yield_now().await;
            let now = boottime_ns();
            if reads.notified().now_or_never().is_some() {
                last = now;
            } else if now - last > AWAKE.as_nanos() as u64 {
                break;
            }
        }
    }
}
