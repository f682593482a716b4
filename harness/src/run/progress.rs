//! The line that says, once a second, how a run goes: one line that changes on a terminal, plain lines elsewhere.

use std::{
    convert::Infallible,
    io::{IsTerminal, Write},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::time::{self, MissedTickBehavior};

use crate::{cluster::Cluster, history_writer::History};

/// How a run goes.
#[derive(Debug, Default)]
pub struct Progress {
    phase: Mutex<&'static str>,
    on_screen: AtomicBool,
}

impl Progress {
    /// A phase begins.
    pub fn phase(&self, name: &'static str) {
        *self.phase.lock().unwrap_or_else(PoisonError::into_inner) = name;
    }

    /// Says so once a second, for as long as it is polled.
    pub async fn report(&self, history: &History, cluster: &Cluster, quiet: bool) -> Infallible {
        if quiet {
            return std::future::pending().await;
        }
        let mut ticks = time::interval(Duration::from_secs(1));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        ticks.tick().await;
        let mut seen = (history.now(), 0);
        loop {
            ticks.tick().await;
            let (now, count) = (history.now(), history.completed_count());
            let rate = (count - seen.1) as f64 * 1e9 / (now - seen.0).max(1) as f64;
            seen = (now, count);
            let faults = history.faults().iter().filter(|fault| fault.begins).count();
            let phase = *self.phase.lock().unwrap_or_else(PoisonError::into_inner);
            let leaders: Vec<String> = cluster
                .leaders()
                .iter()
                .map(|(partition, (node, _))| format!(" {partition}:n{node}"))
                .collect();
            let led = if leaders.is_empty() { "" } else { " leaders" };
            self.show(&format!(
                "{:>4} s  {phase:<11} {rate:>7.0} ops/s  faults {faults:<3}{led}{}",
                now / 1_000_000_000,
                leaders.concat()
            ));
        }
    }

    /// Leaves nothing of the changing line on the screen.
    pub fn clear(&self, quiet: bool) {
        if !quiet && self.on_screen.load(Ordering::Relaxed) {
            write_err("\r\x1b[K");
        }
    }

    fn show(&self, line: &str) {
        if std::io::stderr().is_terminal() {
            self.on_screen.store(true, Ordering::Relaxed);
            write_err(&format!("\r\x1b[K{line}"));
        } else {
            write_err(&format!("{line}\n"));
        }
    }
}

fn write_err(text: &str) {
    let mut stderr = std::io::stderr().lock();
    // nobody may be there to see it; the run goes on
    let _ = stderr.write_all(text.as_bytes()).and_then(|()| stderr.flush());
}
