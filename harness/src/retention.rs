//! Old results do not fill the disk. Of each workload, which is each folder that runs lie in, the newest N runs stay that
//! passed, and the newest 5 N of all others: those that failed, are undecided, or have left no verdict.
//!
//! Only the folder of a run is ever removed: its name is one that a run's folder is given, nothing stands in it that no run
//! writes (so a file of one's own keeps it), nobody holds the lock of its plan, no symbolic link leads to it, and no
//! `campaign.json` beside it or above names it.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt, fs, io,
    num::NonZeroU32,
    path::{Path, PathBuf},
    process::ExitCode,
    str::FromStr,
};

use clap::Args;

use crate::{
    campaign::{kept::Named, record::FILE},
    report::FAILED,
    results::{is_left_by_a_run, was_half_written},
    runs::{
        DEPTH, State, Summaries, Summary, goes_on, named,
        within::{Place, Within},
    },
    terminal::bytes_in_words,
};

/// So many times longer stay runs that did not pass.
const FAILING: usize = 5;

/// What a folder is called while it is removed: should that end half-way, the next time goes on with it.
const GOING: &str = ".pruned-";

/// How many runs that passed stay of each workload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keep(NonZeroU32);

impl Keep {
    /// The newest so many.
    pub fn newest(runs: NonZeroU32) -> Self {
        Self(runs)
    }

    pub(crate) fn number(self) -> u32 {
        self.0.get()
    }
}

impl Default for Keep {
    /// The newest twenty.
    fn default() -> Self {
        Self(NonZeroU32::new(20).expect("it is not zero"))
    }
}

impl FromStr for Keep {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        text.parse().map(Self).map_err(|_| "write a whole number from 1".to_owned())
    }
}

impl fmt::Display for Keep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What pruning has come to, or would.
#[derive(Debug, Default)]
pub struct Pruned {
    /// What was removed.
    pub removed: Vec<Removed>,
    /// How many runs are left.
    pub left: usize,
    /// What could not be removed, and why.
    pub failed: Vec<(PathBuf, io::Error)>,
}

impl Pruned {
    /// The length of all files that are gone.
    pub fn bytes(&self) -> u64 {
        self.removed.iter().map(|removed| removed.bytes).sum()
    }

    /// Says what could not be removed of these results.
    pub(crate) fn tell_failed(&self, results: &Path) {
        for (folder, error) in &self.failed {
            if folder.ends_with(FILE) {
                eprintln!("error: no run below is removed: {} cannot be read: {error}", folder.display());
            } else {
                eprintln!("error: cannot remove {}: {error}", results.join(folder).display());
            }
        }
    }
}

/// A run that was removed, or would be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Removed {
    /// Its folder, below that of the results.
    pub folder: PathBuf,
    /// The length of its files.
    pub bytes: u64,
    /// Whether it ended as its workload expects.
    pub passed: bool,
}

/// Removes the runs below `results` that need not stay, or says which those are.
///
/// # Errors
///
/// The folder cannot be read. What cannot be removed is no such error: it is named in what is returned.
pub fn prune(results: &Path, keep: Keep, dry_run: bool) -> io::Result<Pruned> {
    let within = Within::new(results)?;
    let runs = Summaries::default().read(&within)?.runs;
    let kept = named_by_campaigns(&within, &runs);
    let goes = would_go(&within, &runs, keep, &kept);
    let mut pruned = Pruned { failed: kept.unreadable, ..Pruned::default() };
    if !dry_run {
        let parents: BTreeSet<Place> = runs.iter().map(|(place, _)| place.parent()).collect();
        for parent in &parents {
            go_on(&within, parent, &mut pruned);
        }
    }
    for (place, summary) in &runs {
        let folder = place.path();
        let goes = goes.contains(place);
        match if goes && !dry_run { remove(&within, place) } else { Ok(goes) } {
            Ok(true) => {
                let (bytes, passed) = (summary.bytes, summary.passed());
                pruned.removed.push(Removed { folder, bytes, passed });
            }
            Ok(false) => pruned.left += 1,
            Err(error) => {
                pruned.left += 1;
                pruned.failed.push((folder, error));
            }
        }
    }
    Ok(pruned)
}

/// The runs that campaigns name, whose files lie in the folders above them, those above the results included.
pub(crate) fn named_by_campaigns(within: &Within, runs: &[(Place, Summary)]) -> Named {
    let above = within.path().ancestors().take(DEPTH).map(Path::to_owned);
    let mut folders: BTreeSet<PathBuf> = above.collect();
    for (place, _) in runs {
        let mut folder = place.clone();
        while folder.depth() > 0 {
            folder = folder.parent();
            folders.insert(within.path().join(folder.path()));
        }
    }
    Named::by(folders)
}

/// The runs that need not stay, but for those that campaigns name.
pub(crate) fn would_go(
    within: &Within,
    runs: &[(Place, Summary)],
    keep: Keep,
    kept: &Named,
) -> BTreeSet<Place> {
    let may_go = |place: &Place, summary: &Summary| {
        summary.foreign.is_none() && !kept.has(&within.path().join(place.path()))
    };
    let mut alike: BTreeMap<(Place, bool), Vec<&(Place, Summary)>> = BTreeMap::new();
    for run in runs {
        let (place, summary) = run;
        if place.depth() > 0 && summary.state != State::Running && named(place.name()).is_some() {
            alike.entry((place.parent(), summary.passed())).or_default().push(run);
        }
    }
    let mut goes = BTreeSet::new();
    for ((_, passed), mut runs) in alike {
        runs.sort_by_key(|(place, summary)| (summary.began, place));
        let stay = keep.number() as usize * if passed { 1 } else { FAILING };
        let old = runs.iter().rev().skip(stay);
        goes.extend(old.filter(|(place, summary)| may_go(place, summary)).map(|(place, _)| place.clone()));
    }
    goes
}

/// What stands in a run's folder that no run writes.
pub(crate) fn foreign(within: &Within, run: &Place) -> io::Result<Option<String>> {
    let names = within.names(run)?;
    Ok(names.into_iter().find(|name| !is_left_by_a_run(name) && !was_half_written(name)))
}

/// Removes a run's folder, which is looked at again at the last moment; false: it stays after all.
fn remove(within: &Within, place: &Place) -> io::Result<bool> {
    let folder = within.path().join(place.path());
    let is_there = fs::canonicalize(&folder)? == folder;
    if !is_there || goes_on(within, place)? || foreign(within, place)?.is_some() {
        return Ok(false);
    }
    let going = folder.with_file_name(format!("{GOING}{}", place.name()));
    fs::rename(&folder, &going)?;
    fs::remove_dir_all(&going)?;
    Ok(true)
}

/// Goes on with what was begun to be removed.
fn go_on(within: &Within, parent: &Place, pruned: &mut Pruned) {
    let is_going = |name: &String| name.strip_prefix(GOING).is_some_and(|name| named(name).is_some());
    for name in within.names(parent).unwrap_or_default().into_iter().filter(is_going) {
        let folder = within.path().join(parent.path()).join(&name);
        let is_folder = fs::symlink_metadata(&folder).is_ok_and(|data| data.is_dir());
        if is_folder && let Err(error) = fs::remove_dir_all(&folder) {
            pruned.failed.push((parent.path().join(name), error));
        }
    }
}

/// What to remove.
#[derive(Debug, Args)]
pub struct PruneArguments {
    /// The folder with the results; runs are found at any depth in it.
    #[arg(value_name = "DIR", default_value = "results")]
    folder: PathBuf,
    /// So many runs that passed stay of each workload, the newest; of others five times as many.
    #[arg(long, value_name = "N")]
    keep: Keep,
    /// Only says what would be removed.
    #[arg(long)]
    dry_run: bool,
    /// Only the last line.
    #[arg(long)]
    quiet: bool,
}

/// Removes what need not stay.
pub fn main(arguments: &PruneArguments) -> ExitCode {
    let pruned = match prune(&arguments.folder, arguments.keep, arguments.dry_run) {
        Ok(pruned) => pruned,
        Err(error) => {
            eprintln!("error: {}: {error}", arguments.folder.display());
            return ExitCode::from(2);
        }
    };
    let (done, runs) = (if arguments.dry_run { "would remove" } else { "removed" }, pruned.removed.len());
    for Removed { folder, bytes, passed } in pruned.removed.iter().filter(|_| !arguments.quiet) {
        let how = if *passed { "passed" } else { "not passed" };
        say!("{done}  {:>9}  {how:<10}  {}", bytes_in_words(*bytes), folder.display());
    }
    pruned.tell_failed(&arguments.folder);
    say!("{done} {runs} runs, {}; {} stay", bytes_in_words(pruned.bytes()), pruned.left);
    if pruned.failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(FAILED) }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    /// A results folder in which everything is made by hand.
    struct Results(tempfile::TempDir);

    impl Results {
        fn new() -> Self {
            Self(tempfile::tempdir().expect("a folder"))
        }

        fn run(&self, place: &str, passed: Option<bool>) -> PathBuf {
            let folder = self.0.path().join(place);
            fs::create_dir_all(folder.join("trace")).expect("made");
            fs::write(folder.join("plan.toml"), "").expect("written");
            if let Some(passed) = passed {
                let verdict = format!(r#"{{"verdict":"violation","as_expected":{passed}}}"#);
                fs::write(folder.join("verdict.json"), verdict).expect("written");
            }
            folder
        }

        fn prune(&self, keep: u32, dry_run: bool) -> (Vec<String>, usize) {
            let keep = Keep::newest(NonZeroU32::new(keep).expect("a number"));
            let pruned = prune(self.0.path(), keep, dry_run).expect("read");
            assert!(pruned.failed.is_empty(), "{pruned:?}");
            let name = |removed: Removed| removed.folder.display().to_string();
            (pruned.removed.into_iter().map(name).collect(), pruned.left)
        }
    }

    #[test]
    fn of_each_workload_the_newest_stay_and_failing_ones_five_times_as_many() {
        let results = Results::new();
        for second in 10..20 {
            results.run(&format!("smoke/202611210000{second}Z-1"), Some(true));
            results.run(&format!("smoke/202611210001{second}Z-1"), Some(false));
        }
        results.run("nightly/load/20200101T000000Z-1", Some(true));
        results.run("smoke/20200101T000000Z-2", None);
        // these names are no run's
        assert_eq!(results.prune(1, true), (vec![], 22));
        for second in 10..20 {
            let rename = |from: String, to: String| {
                fs::rename(results.0.path().join(from), results.0.path().join(to)).expect("renamed");
            };
            rename(format!("smoke/202611210000{second}Z-1"), format!("smoke/20261121T0000{second}Z-1"));
            rename(format!("smoke/202611210001{second}Z-1"), format!("smoke/20261121T0001{second}Z-1"));
        }
        let (would, left) = results.prune(1, true);
        assert_eq!(left, 1 + 1 + 5);
        let older: Vec<String> = ["smoke/20200101T000000Z-2".to_owned()]
            .into_iter()
            .chain((10..19).map(|second| format!("smoke/20261121T0000{second}Z-1")))
            .chain((10..15).map(|second| format!("smoke/20261121T0001{second}Z-1")))
            .collect();
        assert_eq!(would, older);
        assert_eq!(results.prune(1, false), (older, 7), "what was said is done");
        assert_eq!(results.prune(1, false), (vec![], 7));
        assert!(results.0.path().join("smoke/20261121T000019Z-1").is_dir(), "the newest one");
        assert!(
            results.0.path().join("nightly/load/20200101T000000Z-1").is_dir(),
            "the only one of its workload"
        );
    }

    #[test]
    fn nothing_goes_but_the_folder_of_a_run_that_is_over() {
        let results = Results::new();
        let old = |seed: u32| results.run(&format!("w/2020010{seed}T000000Z-{seed}"), Some(true));
        let (goes, running, noted, hidden, linked) = (old(1), old(2), old(3), old(4), old(5));
        results.run("w/20261121T000000Z-9", Some(true));
        results.run("w/notes", Some(true));
        // as many without a verdict as stay: but for its lock the one that goes on would be one too many
        for second in 0..5 {
            results.run(&format!("w/20261120T00000{second}Z-1"), None);
        }
        fs::write(noted.join("why-it-matters.md"), "").expect("written");
        fs::create_dir(hidden.join(".git")).expect("made");
        let lock = fs::File::open(running.join("plan.toml")).expect("there");
        lock.lock().expect("locked");
        let outside = tempfile::tempdir().expect("a folder");
        fs::write(outside.path().join("precious"), "").expect("written");
        // a link in a run's folder goes with it, and what it leads to stays; a link to a run's folder is none
        symlink(outside.path(), goes.join("data")).expect("linked");
        let elsewhere = outside.path().join("20190101T000000Z-1");
        fs::rename(&linked, &elsewhere).expect("moved");
        symlink(&elsewhere, &linked).expect("linked");
        assert_eq!(results.prune(1, true).0, ["w/20200101T000000Z-1"]);
        let within = Within::new(results.0.path()).expect("a folder");
        let place = |name: &str| Place::default().join("w").and_then(|w| w.join(name)).expect("a place");
        let stays = |name: &str| !remove(&within, &place(name)).expect("looked at");
        // what has changed since it was listed: it goes on now, holds something else now, is a link now
        assert!(stays("20200102T000000Z-2") && stays("20200103T000000Z-3") && stays("20200105T000000Z-5"));
        assert_eq!(results.prune(1, false).0, ["w/20200101T000000Z-1"]);
        assert!(!goes.exists() && outside.path().join("precious").exists());
        for folder in [&running, &noted, &hidden, &elsewhere] {
            assert!(folder.join("verdict.json").exists(), "{}", folder.display());
        }
        drop(lock);
        fs::remove_dir(hidden.join(".git")).expect("removed");
        fs::write(hidden.join(".report.html-77"), "").expect("a report that was not finished");
        assert_eq!(results.prune(1, false).0, ["w/20200102T000000Z-2", "w/20200104T000000Z-4"]);
        let root =
            prune(&results.0.path().join("w/20261121T000000Z-9"), Keep::default(), false).expect("read");
        assert_eq!((root.removed, root.left), (vec![], 1), "the folder itself stays");
    }

    #[test]
    fn what_a_campaign_names_stays_from_wherever_it_is_looked_at() {
        let results = Results::new();
        for second in 10..20 {
            results.run(&format!("nightly/w/20261121T0000{second}Z-1"), Some(true));
        }
        let write =
            |text: &str| fs::write(results.0.path().join("nightly/campaign.json"), text).expect("written");
        let kept = r#"["w/20261121T000011Z-1","w/20261121T000019Z-1"]"#;
        write(&format!(r#"{{"records":[{{"classes":[{{"kept":{kept}}}]}}]}}"#));
        let keep = Keep::newest(NonZeroU32::MIN);
        let would = |folder: &str| {
            let pruned = prune(&results.0.path().join(folder), keep, true).expect("read");
            let name =
                |removed: Removed| removed.folder.file_name().map(|name| name.to_string_lossy().into_owned());
            (pruned.removed.into_iter().filter_map(name).collect::<Vec<_>>(), pruned.failed.len())
        };
        let all: Vec<String> = (10..19).map(|second| format!("20261121T0000{second}Z-1")).collect();
        let others: Vec<String> = all.iter().filter(|name| !name.contains("11Z")).cloned().collect();
        for folder in ["", "nightly", "nightly/w"] {
            assert_eq!(would(folder), (others.clone(), 0), "{folder}");
        }
        write("{");
        assert_eq!(would("nightly/w"), (vec![], 1), "it may name any of them");
        fs::remove_file(results.0.path().join("nightly/campaign.json")).expect("removed");
        assert_eq!(would(""), (all, 0));
    }

    #[test]
    fn what_was_removed_half_way_is_removed() {
        let results = Results::new();
        results.run("w/20261121T000000Z-9", Some(true));
        let half = results.run("w/.pruned-20200101T000000Z-1", None);
        let other = results.run("w/.pruned-mine", None);
        assert_eq!(results.prune(1, true), (vec![], 1));
        assert!(half.exists());
        assert_eq!(results.prune(1, false), (vec![], 1));
        assert!(!half.exists() && other.exists());
    }

    #[test]
    fn keep_is_a_number_from_one() {
        assert_eq!("3".parse::<Keep>().map(|keep| keep.to_string()), Ok("3".to_owned()));
        for wrong in ["0", "-1", "x", ""] {
            assert!(wrong.parse::<Keep>().is_err(), "{wrong}");
        }
    }
}
