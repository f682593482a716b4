//! The answer about all runs. One at a time makes it, however many ask: who asks meanwhile is given the last one, and where there
//! is none yet waits without keeping a thread from those who ask for anything else.

use std::{
    io,
    sync::{Arc, Mutex, PoisonError},
};

use bytes::Bytes;
use serde::Serialize;
use tokio::{
    sync::{Mutex as Turns, OwnedMutexGuard},
    task::spawn_blocking,
};

use crate::{
    clock::boottime_ns,
    retention::{Keep, named_by_campaigns, would_go},
    runs::{Summaries, Summary, within::Within},
};

/// For at least so long an answer is given again, and for ten times as long as it took to make: whoever watches takes no more than
/// a tenth of a processor from what is watched.
const FRESH_NS: u64 = 500_000_000;
const FRESH_TIMES: u64 = 10;

/// The runs of a folder.
#[derive(Clone, Debug)]
pub(super) struct Listing {
    within: Within,
    keep: Keep,
    /// What is known of the runs, for whoever makes the next answer.
    making: Arc<Turns<Summaries>>,
    last: Arc<Mutex<Option<Made>>>,
}

/// An answer, and until when it is given without making another.
#[derive(Clone, Debug)]
struct Made {
    until: u64,
    text: Bytes,
}

#[derive(Serialize)]
struct Answer<'a> {
    folder: String,
    runs: Vec<Row<'a>>,
    /// There are more than are listed.
    cut: bool,
    keep: u32,
    /// Bytes that `harness prune` would free.
    would_free: u64,
}

#[derive(Serialize)]
struct Row<'a> {
    #[serde(flatten)]
    summary: &'a Summary,
    /// `harness prune` would remove it.
    goes: bool,
}

impl Listing {
    /// Of a folder; marks what would go if so many runs are kept.
    pub(super) fn new(within: Within, keep: Keep) -> Self {
        Self { within, keep, making: Arc::default(), last: Arc::default() }
    }

    /// All runs, as JSON.
    pub(super) async fn answer(&self) -> io::Result<Bytes> {
        if let Some(fresh) = self.fresh() {
            return Ok(fresh);
        }
        let making = match (Arc::clone(&self.making).try_lock_owned(), self.last()) {
            (Ok(making), _) => making,
            (Err(_), Some(last)) => return Ok(last.text),
            (Err(_), None) => Arc::clone(&self.making).lock_owned().await,
        };
        if let Some(fresh) = self.fresh() {
            return Ok(fresh);
        }
        let listing = self.clone();
        spawn_blocking(move || listing.make(making)).await.map_err(io::Error::other)?
    }

    fn last(&self) -> Option<Made> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn fresh(&self) -> Option<Bytes> {
        self.last().filter(|last| boottime_ns() < last.until).map(|last| last.text)
    }

    fn make(&self, mut making: OwnedMutexGuard<Summaries>) -> io::Result<Bytes> {
        let begun = boottime_ns();
        let listing = making.read(&self.within)?;
        let kept = named_by_campaigns(&self.within, &listing.runs);
        let goes = would_go(&self.within, &listing.runs, self.keep, &kept);
        let rows = || listing.runs.iter().map(|(place, summary)| (summary, goes.contains(place)));
        let answer = Answer {
            folder: self.within.path().display().to_string(),
            runs: rows().map(|(summary, goes)| Row { summary, goes }).collect(),
            cut: listing.cut,
            keep: self.keep.number(),
            would_free: rows().filter(|(_, goes)| *goes).map(|(summary, _)| summary.bytes).sum(),
        };
        let text = Bytes::from(serde_json::to_vec(&answer)?);
        let now = boottime_ns();
        let until = now + FRESH_NS.max((now - begun) * FRESH_TIMES);
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Some(Made { until, text: text.clone() });
        Ok(text)
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, time::Duration};

    use tokio::{task::JoinSet, time::timeout};

    use super::*;

    /// What should take no time at all.
    const SOON: Duration = Duration::from_secs(30);

    /// As the server has it, but with one thread that reads files.
    fn runtime() -> tokio::runtime::Runtime {
        let mut builder = tokio::runtime::Builder::new_current_thread();
        builder.max_blocking_threads(1).enable_all().build().expect("a runtime")
    }

    fn runs(text: &Bytes) -> usize {
        let value: serde_json::Value = serde_json::from_slice(text).expect("JSON");
        value["runs"].as_array().expect("runs").len()
    }

    #[test]
    fn while_one_answer_is_made_the_last_one_is_given_and_nobody_else_waits() {
        let results = tempfile::tempdir().expect("a folder");
        let listing = Listing::new(Within::new(results.path()).expect("a folder"), Keep::default());
        runtime().block_on(async {
            // somebody has begun to make the first answer, and it takes long
            let making = Arc::clone(&listing.making).lock_owned().await;
            let mut waiting = JoinSet::new();
            for _ in 0..20 {
                let listing = listing.clone();
                waiting.spawn(async move { listing.answer().await });
            }
            tokio::task::yield_now().await;
            let other = timeout(SOON, spawn_blocking(|| "a file")).await.expect("a thread is free");
            assert_eq!(other.expect("it is read"), "a file");
            assert!(waiting.try_join_next().is_none(), "there is nothing yet to be told");
            let run = results.path().join("w/20261121T022933Z-3");
            fs::create_dir_all(&run).expect("made");
            fs::write(run.join("plan.toml"), "").expect("written");
            drop(making);
            while let Some(told) = timeout(SOON, waiting.join_next()).await.expect("they are told") {
                assert_eq!(runs(&told.expect("no panic").expect("read")), 1);
            }
            // the next one takes long, too: the last one is as good meanwhile
            let making = Arc::clone(&listing.making).lock_owned().await;
            listing.last.lock().expect("nobody has it").as_mut().expect("made").until = 0;
            let told = timeout(SOON, listing.answer()).await.expect("at once").expect("read");
            assert_eq!(runs(&told), 1);
            drop(making);
            fs::remove_dir_all(run).expect("removed");
            assert_eq!(runs(&listing.answer().await.expect("read")), 0, "and then it is made anew");
        });
    }
}
