//! The proxy's thread stays awake for a moment after it has read something: to wake a thread costs several times what it costs to
//! carry a frame, and the answer comes soon.

use std::time::Duration;

use futures::FutureExt;
use tokio::sync::Notify;

use crate::clock::boottime_ns;

/// How long the thread looks for more before it sleeps.
const AWAKE: Duration = Duration::from_micros(50);

/// Notified of every read. Looks for more, and offers the processor to whoever else wants it each time: without that, two
/// busy cores would wait for a thread that waits for them.
pub(super) async fn stay_awake(reads: &Notify) {
    loop {
        reads.notified().await;
        let mut last = boottime_ns();
        loop {
            std::thread::yield_now();
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
