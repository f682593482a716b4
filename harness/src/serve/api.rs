//! What the pages ask for of single runs, as JSON.

use std::{
    io::{self, ErrorKind},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use serde::Serialize;

use crate::{
    recorded::{CheckWords, Verdict},
    results::VERDICT,
    runs::{
        Follower, Live, Summary, goes_on, is_run, summary,
        within::{Entry, Place, Within},
    },
};

/// Runs that are followed at the same time; of more, that which was asked for the longest time ago is begun anew.
const FOLLOWED: usize = 16;

/// Most bytes of a verdict that is shown.
const MOST_VERDICT: u64 = 16 << 20;

/// Most files of a run that are listed.
const MOST_FILES: usize = 2000;

/// Answers.
#[derive(Debug)]
pub(super) struct Api {
    within: Within,
    followed: Mutex<Vec<(Place, Arc<Mutex<Follower>>)>>,
}

#[derive(Serialize)]
struct Run {
    folder: String,
    #[serde(flatten)]
    summary: Summary,
    again: Option<String>,
    missing: Vec<String>,
    deaths: Vec<String>,
    checks: Vec<CheckWords>,
    files: Vec<FileRow>,
    /// There are more files.
    cut: bool,
}

#[derive(Serialize)]
struct FileRow {
    name: String,
    bytes: u64,
}

#[derive(Serialize)]
struct Going {
    running: bool,
    #[serde(flatten)]
    live: Live,
}

impl Api {
    /// Of the runs of a folder.
    pub(super) fn new(within: Within) -> Self {
        Self { within, followed: Mutex::default() }
    }

    /// One run, and its files.
    pub(super) fn run(&self, place: &Place) -> io::Result<Vec<u8>> {
        let entries = self.run_at(place)?;
        let running = goes_on(&self.within, place).unwrap_or(false);
        let summary = summary(&self.within, place, &entries, running);
        let verdict = if running { None } else { self.verdict(place) };
        let verdict = verdict.unwrap_or_default().short();
        let (files, cut) = self.files(place, entries);
        let run = Run {
            folder: self.within.path().join(place.path()).display().to_string(),
            summary,
            deaths: verdict.deaths_in_words(),
            again: verdict.again,
            missing: verdict.missing,
            checks: verdict.checks,
            files,
            cut,
        };
        Ok(serde_json::to_vec(&run)?)
    }

    /// How a run goes.
    pub(super) fn live(&self, place: &Place) -> io::Result<Vec<u8>> {
        self.run_at(place)?;
        // looked at before: what a run writes before it is over is read then
        let running = goes_on(&self.within, place).unwrap_or(false);
        let follower = self.follower(place);
        let live = lock(&follower).on(&self.within)?;
        Ok(serde_json::to_vec(&Going { running, live })?)
    }

    /// The entries of a run's folder; an error if it is none.
    pub(super) fn run_at(&self, place: &Place) -> io::Result<Vec<(String, Entry)>> {
        let entries = self.within.list(place)?;
        if is_run(&entries) { Ok(entries) } else { Err(ErrorKind::NotFound.into()) }
    }

    /// An error unless the place lies in a run's folder.
    pub(super) fn run_above(&self, place: &Place) -> io::Result<()> {
        let mut folder = place.clone();
        while folder.depth() > 0 {
            folder = folder.parent();
            match self.run_at(&folder) {
                Ok(_) => return Ok(()),
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        Err(ErrorKind::NotFound.into())
    }

    fn verdict(&self, place: &Place) -> Option<Verdict> {
        let bytes = self.within.text(&place.join(VERDICT)?, MOST_VERDICT).ok()?;
        serde_json::from_slice(&bytes).ok()
    }

    fn files(&self, run: &Place, entries: Vec<(String, Entry)>) -> (Vec<FileRow>, bool) {
        let mut files = Vec::new();
        let mut waiting = vec![(String::new(), run.clone(), entries)];
        while let Some((path, place, entries)) = waiting.pop() {
            for (name, entry) in entries {
                match entry {
                    Entry::File { length, .. } => {
                        files.push(FileRow { name: format!("{path}{name}"), bytes: length });
                    }
                    Entry::Folder => {
                        let Some(place) = place.join(&name) else { continue };
                        let entries = self.within.list(&place).unwrap_or_default();
                        waiting.push((format!("{path}{name}/"), place, entries));
                    }
                    Entry::Other => {}
                }
            }
            if files.len() > MOST_FILES {
                files.truncate(MOST_FILES);
                return (files, true);
            }
        }
        (files, false)
    }

    /// Who follows a run; the latest that was asked for stands last.
    fn follower(&self, place: &Place) -> Arc<Mutex<Follower>> {
        let mut followed = lock(&self.followed);
        let known = followed.iter().position(|(of, _)| of == place).map(|at| followed.remove(at));
        if known.is_none() && followed.len() >= FOLLOWED {
            followed.remove(0);
        }
        let begin = || Arc::new(Mutex::new(Follower::new(place.clone())));
        let who = known.map_or_else(begin, |(_, who)| who);
        followed.push((place.clone(), Arc::clone(&who)));
        who
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
