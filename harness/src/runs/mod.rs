//! The runs of a results folder: which of the folders below it are a run's, what each has come to, and how one goes that is
//! not over yet.

mod follow;
mod summary;
mod tail;
pub(crate) mod within;

pub(crate) use follow::{Follower, Live};
pub(crate) use summary::{State, Summaries, Summary, summary};

use std::io;

use crate::{
    recorded::HISTORY,
    results::{PLAN, is_going_on, seconds_of},
};
use within::{Entry, Place, Within};

/// How deep runs lie at most: campaigns put them into FOLDER/WORKLOAD/RUN.
pub(crate) const DEPTH: usize = 8;

/// Most runs that are found, and most names that are looked at for them.
const MOST_RUNS: usize = 20_000;
const MOST_NAMES: usize = 500_000;

/// The runs below a folder.
#[derive(Debug, Default)]
pub(crate) struct Found {
    /// Where they are, in order, with what is in them.
    pub(crate) runs: Vec<(Place, Vec<(String, Entry)>)>,
    /// There was more than is looked at.
    pub(crate) cut: bool,
}

/// Finds the runs below a folder; it may be one itself. A run's folder has a plan or a history; nothing in it is another run.
pub(crate) fn find(within: &Within) -> io::Result<Found> {
    let mut found = Found::default();
    let mut names = 0;
    let mut waiting = vec![Place::default()];
    while let Some(place) = waiting.pop() {
        let entries = match within.list(&place) {
            Ok(entries) => entries,
            // it may be gone meanwhile, or be closed to us
            Err(_) if place.depth() > 0 => continue,
            Err(error) => return Err(error),
        };
        names += entries.len();
        if is_run(&entries) {
            found.runs.push((place, entries));
        } else if place.depth() < DEPTH {
            let folders = entries.into_iter().filter(|(_, entry)| *entry == Entry::Folder);
            waiting.extend(folders.filter_map(|(name, _)| place.join(&name)));
        }
        if found.runs.len() >= MOST_RUNS || names >= MOST_NAMES {
            found.cut = !waiting.is_empty();
            break;
        }
    }
    found.runs.sort_unstable_by(|(one, _), (other, _)| one.cmp(other));
    Ok(found)
}

/// Whether somebody still writes into a run's folder. A run whose plan is gone is over: nobody can hold its lock.
pub(crate) fn goes_on(within: &Within, run: &Place) -> io::Result<bool> {
    let plan = run.join(PLAN).ok_or(io::ErrorKind::NotFound)?;
    match within.file(&plan) {
        Ok(plan) => is_going_on(&plan),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// What the name of a run's folder says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Named {
    /// When it began, in seconds since 1970: of runs on real processes.
    pub(crate) began: Option<i64>,
    /// Its seed.
    pub(crate) seed: u64,
}

/// What the name of a folder says, if it is one that a run's folder is given.
pub(crate) fn named(name: &str) -> Option<Named> {
    let (how, seed) = name.split_once('-')?;
    let (began, seed) = match how {
        "sim" | "shrunk" | "replayed" => (None, seed),
        time => {
            let (seed, copy) = seed.split_once('.').unwrap_or((seed, "2"));
            copy.parse::<u32>().ok()?;
            (Some(seconds_of(time)?), seed)
        }
    };
    let seed = seed.bytes().all(|byte| byte.is_ascii_digit()).then(|| seed.parse().ok())??;
    Some(Named { began, seed })
}

/// Whether a folder with these entries is a run's.
pub(crate) fn is_run(entries: &[(String, Entry)]) -> bool {
    let of_a_run = |(name, entry): &(String, Entry)| {
        matches!(entry, Entry::File { .. }) && [PLAN, HISTORY].contains(&name.as_str())
    };
    entries.iter().any(of_a_run)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn names_say_when_and_with_which_seed() {
        let named = |name| named(name).map(|named| (named.began, named.seed));
        assert_eq!(named("20261121T022933Z-12"), Some((Some(1_795_228_173), 12)));
        assert_eq!(named("20261121T022933Z-12.3"), Some((Some(1_795_228_173), 12)));
        assert_eq!((named("sim-7"), named("shrunk-0")), (Some((None, 7)), Some((None, 0))));
        for other in [
            "smoke",
            "sim-",
            "sim-x",
            "sim-+1",
            "simulation-3",
            "20261121T022933Z",
            "2026-11-21",
            "sim-7.1",
            "20261121T022933Z-1.x",
        ] {
            assert_eq!(named(other), None, "{other}");
        }
    }

    #[test]
    fn runs_are_found_where_campaigns_put_them_and_nothing_else_is_one() {
        let results = tempfile::tempdir().expect("a folder");
        let file = |name: &str| {
            let path = results.path().join(name);
            fs::create_dir_all(path.parent().expect("a folder")).expect("made");
            fs::write(path, "").expect("written");
        };
        file("smoke/20261121T022933Z-1/plan.toml");
        file("smoke/20261121T022933Z-1/data/node-1/plan.toml");
        file("negative/lease/sim-3/history.jsonl");
        file("README.md");
        file("notes/readme.md");
        file(".hidden/run/plan.toml");
        fs::create_dir_all(results.path().join("odd/plan.toml")).expect("made");
        std::os::unix::fs::symlink("smoke/20261121T022933Z-1", results.path().join("latest"))
            .expect("linked");
        let places = |path: &std::path::Path| {
            let found = find(&Within::new(path).expect("a folder")).expect("read");
            assert!(!found.cut);
            found.runs.iter().map(|(place, _)| place.to_string()).collect::<Vec<_>>()
        };
        assert_eq!(places(results.path()), ["negative/lease/sim-3", "smoke/20261121T022933Z-1"]);
        assert_eq!(places(&results.path().join("latest")), [""], "the folder of a run itself");
    }
}
