//! A run in one row: what it was, what it has come to, how large it is. What was read of a run that is over is read again only
//! when its files have changed.

use std::{
    collections::{BTreeMap, HashMap},
    io,
};

use serde::{Deserialize, Serialize, de::IgnoredAny};

use super::{
    Follower, find, goes_on, named,
    within::{Entry, Place, Within},
};
use crate::{
    recorded::HISTORY,
    report::{Outcomes, html},
    results::{PLAN, VERDICT},
    retention::foreign,
};

/// Most bytes of a `verdict.json` that is read, and of a history that is counted where no verdict has figures.
const MOST_VERDICT: u64 = 16 << 20;
const MOST_HISTORY: u64 = 64 << 20;

/// Most files of a run that its size counts.
const MOST_FILES: usize = 20_000;

/// What a run has come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum State {
    /// Its process lives.
    Running,
    /// Nothing is wrong.
    Valid,
    /// Something is wrong.
    Violation,
    /// Not decided.
    Unknown,
    /// It is over and has left no verdict: it was interrupted or killed, or it failed.
    NoVerdict,
}

/// A run.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Summary {
    /// Its folder, below that of the results.
    pub(crate) place: String,
    pub(crate) workload: String,
    /// What the folder of its workload is in, if anything.
    pub(crate) campaign: Option<String>,
    pub(crate) seed: Option<u64>,
    pub(crate) simulated: bool,
    pub(crate) state: State,
    /// Whether that is what the workload expects.
    pub(crate) as_expected: Option<bool>,
    pub(crate) words: String,
    /// Its planted bug.
    pub(crate) mutant: Option<String>,
    /// Operations that have ended.
    pub(crate) operations: Option<u64>,
    pub(crate) faults: Option<u64>,
    pub(crate) seconds: Option<f64>,
    /// Seconds since 1970.
    pub(crate) began: i64,
    pub(crate) bytes: u64,
    /// Whether it has a report.
    pub(crate) report: bool,
    /// What stands in its folder that no run writes: it is not removed then.
    pub(crate) foreign: Option<String>,
}

impl Summary {
    /// Whether it ended as its workload expects, as far as it has said.
    pub(crate) fn passed(&self) -> bool {
        self.as_expected == Some(true)
    }
}

/// As much of `verdict.json` as a row needs; simulated runs, and those of earlier versions, say less.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Told {
    workload: Option<String>,
    seed: Option<u64>,
    verdict: String,
    as_expected: Option<bool>,
    words: String,
    mutant: Option<String>,
    figures: Option<Figures>,
}

#[derive(Debug, Deserialize)]
struct Figures {
    seconds: f64,
    operations: BTreeMap<String, Outcomes>,
    faults: Vec<IgnoredAny>,
}

/// The runs of a folder.
#[derive(Debug)]
pub(crate) struct Listing {
    pub(crate) runs: Vec<(Place, Summary)>,
    /// There are more.
    pub(crate) cut: bool,
}

/// What is known of the runs of a folder.
#[derive(Debug, Default)]
pub(crate) struct Summaries {
    known: HashMap<Place, (Vec<(String, Entry)>, Summary)>,
}

impl Summaries {
    /// Looks at all runs.
    pub(crate) fn read(&mut self, within: &Within) -> io::Result<Listing> {
        let found = find(within)?;
        let mut known = HashMap::new();
        let mut runs = Vec::new();
        for (place, entries) in found.runs {
            let running = goes_on(within, &place).unwrap_or(false);
            let before = self.known.remove(&place);
            let summary = match before {
                Some((then, summary)) if then == entries && !running && summary.state != State::Running => {
                    summary
                }
                _ => summary(within, &place, &entries, running),
            };
            runs.push((place.clone(), summary.clone()));
            known.insert(place, (entries, summary));
        }
        self.known = known;
        Ok(Listing { runs, cut: found.cut })
    }
}

/// One run, read anew.
pub(crate) fn summary(within: &Within, place: &Place, entries: &[(String, Entry)], running: bool) -> Summary {
    let told = if running { None } else { told(within, place) };
    let state = match told.as_ref().map(|told| told.verdict.as_str()) {
        _ if running => State::Running,
        Some("valid") => State::Valid,
        Some("violation") => State::Violation,
        Some(_) => State::Unknown,
        None => State::NoVerdict,
    };
    let told = told.unwrap_or_default();
    let file = |wanted: &str| entries.iter().find(|(name, _)| name == wanted).map(|(_, entry)| entry);
    let name = if place.depth() == 0 { last_name(within, 0) } else { place.name().to_owned() };
    let named = named(&name);
    let parent =
        if place.depth() > 1 { place.parent().to_string() } else { last_name(within, 1 - place.depth()) };
    let workload = told.workload.unwrap_or_else(|| parent.rsplit('/').next().unwrap_or_default().to_owned());
    let counted = match (&told.figures, file(HISTORY)) {
        (None, Some(Entry::File { length, .. })) if !running && *length <= MOST_HISTORY => {
            Follower::of_history(within, place).ok()
        }
        _ => None,
    };
    // whatever numbers the files hold
    let ended = |sum: u64, outcomes: &Outcomes| {
        [outcomes.ok, outcomes.fail, outcomes.info].into_iter().fold(sum, u64::saturating_add)
    };
    let (operations, faults, seconds) = match (told.figures, counted) {
        (Some(of), _) => {
            let operations = of.operations.values().fold(0, ended);
            (Some(operations), Some(of.faults.len() as u64), Some(of.seconds))
        }
        (None, Some(live)) => {
            let operations = live.operations.values().fold(0, ended);
            (Some(operations), Some(live.faults), Some(live.seconds))
        }
        (None, None) => (None, None, None),
    };
    let written = entries.iter().filter_map(|(name, entry)| match entry {
        Entry::File { modified, .. } if [PLAN, HISTORY].contains(&name.as_str()) => Some(*modified),
        _ => None,
    });
    let began = named.and_then(|named| named.began);
    Summary {
        place: place.to_string(),
        campaign: campaign(&parent, &workload),
        workload,
        seed: told.seed.or(named.map(|named| named.seed)),
        simulated: named.is_some() && began.is_none(),
        state,
        as_expected: told.as_expected,
        words: told.words,
        mutant: told.mutant,
        operations,
        faults,
        seconds,
        began: began.unwrap_or_else(|| (written.min().unwrap_or_default() / 1_000_000_000) as i64),
        bytes: bytes(within, place),
        report: file(html::FILE).is_some(),
        // where it cannot be looked at, nothing is removed
        foreign: foreign(within, place).unwrap_or_else(|error| Some(error.to_string())),
    }
}

/// The names before that of the workload.
fn campaign(parent: &str, workload: &str) -> Option<String> {
    let before = match parent.strip_suffix(workload) {
        Some(before) if before.is_empty() || before.ends_with('/') => before.trim_end_matches('/'),
        _ => parent,
    };
    (!before.is_empty()).then(|| before.to_owned())
}

fn told(within: &Within, place: &Place) -> Option<Told> {
    let bytes = within.text(&place.join(VERDICT)?, MOST_VERDICT).ok()?;
    // a verdict that cannot be read decides nothing
    Some(serde_json::from_slice(&bytes).unwrap_or_else(|error| Told {
        verdict: "unknown".to_owned(),
        words: format!("{VERDICT} cannot be read: {error}"),
        ..Told::default()
    }))
}

/// A name of the way to the folder itself, counted from its end.
fn last_name(within: &Within, from_end: usize) -> String {
    let names = within.path().iter().rev();
    names.map(|name| name.to_string_lossy().into_owned()).nth(from_end).unwrap_or_default()
}

/// The length of all files of a run.
fn bytes(within: &Within, place: &Place) -> u64 {
    let (mut bytes, mut files) = (0, 0);
    let mut waiting = vec![place.clone()];
    while let Some(place) = waiting.pop() {
        for (name, entry) in within.list(&place).unwrap_or_default() {
            files += 1;
            match entry {
                Entry::File { length, .. } => bytes += length,
                Entry::Folder => waiting.extend(place.join(&name)),
                Entry::Other => {}
            }
        }
        if files > MOST_FILES {
            break;
        }
    }
    bytes
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_row_says_what_a_run_has_come_to() {
        let results = tempfile::tempdir().expect("a folder");
        let file = |name: &str, text: &str| {
            let path = results.path().join(name);
            fs::create_dir_all(path.parent().expect("a folder")).expect("made");
            fs::write(path, text).expect("written");
        };
        let header = r#"{"record":"header","workload":"w","seed":7,"origin":1,"initial":[]}"#;
        let end = r#"{"record":"op","time":2000000000,"process":1,"client":1,"node":1,"type":"info","f":"get","key":1}"#;
        file("smoke/20261121T022933Z-3/plan.toml", "x");
        file(
            "smoke/20261121T022933Z-3/verdict.json",
            r#"{"workload":"smoke","seed":3,"verdict":"valid","as_expected":true,"words":"nothing is wrong",
                "figures":{"seconds":23.5,"faults":[{},{}],
                    "operations":{"get":{"ok":5,"fail":1,"info":2},"put":{"ok":2,"fail":0,"info":0}}}}"#,
        );
        file("nightly/w/sim-7/history.jsonl", &format!("{header}\n{end}\n"));
        file("w/20261121T022934Z-8/plan.toml", "");
        file("w/20261121T022934Z-8/verdict.json", "{");
        let within = Within::new(results.path()).expect("a folder");
        let mut summaries = Summaries::default();
        let mut read = || -> Vec<Summary> {
            let listing = summaries.read(&within).expect("read");
            listing.runs.into_iter().map(|(_, summary)| summary).collect()
        };
        let runs = read();
        let [simulated, smoke, damaged] = &runs[..] else { panic!("{runs:?}") };
        assert_eq!(
            (smoke.state, smoke.passed(), smoke.operations, smoke.faults),
            (State::Valid, true, Some(10), Some(2))
        );
        assert_eq!((smoke.seconds, smoke.began, smoke.seed), (Some(23.5), 1_795_228_173, Some(3)));
        assert_eq!((smoke.campaign.as_deref(), smoke.simulated, smoke.report), (None, false, false));
        assert!(smoke.bytes > 200);
        assert_eq!(
            (simulated.state, simulated.workload.as_str(), simulated.seed),
            (State::NoVerdict, "w", Some(7))
        );
        assert_eq!((simulated.campaign.as_deref(), simulated.simulated), (Some("nightly"), true));
        assert_eq!(
            (simulated.operations, simulated.faults, simulated.seconds),
            (Some(1), Some(0), Some(2.0))
        );
        assert_eq!(
            (damaged.state, damaged.passed()),
            (State::Unknown, false),
            "never valid: {}",
            damaged.words
        );
        let lock = fs::File::open(results.path().join("smoke/20261121T022933Z-3/plan.toml")).expect("there");
        lock.lock().expect("locked");
        assert_eq!(read()[1].state, State::Running, "whatever verdict an earlier run has left");
        drop(lock);
        assert_eq!(read()[1].state, State::Valid);
        file("smoke/20261121T022933Z-3/verdict.json", r#"{"verdict":"violation"}"#);
        assert_eq!(read()[1].state, State::Violation, "a change is noticed");
        let huge = u64::MAX;
        let operations =
            format!(r#"{{"get":{{"ok":{huge},"fail":1,"info":0}},"put":{{"ok":2,"fail":0,"info":0}}}}"#);
        let figures = format!(r#"{{"seconds":1.0,"faults":[],"operations":{operations}}}"#);
        file(
            "smoke/20261121T022933Z-3/verdict.json",
            &format!(r#"{{"verdict":"valid","figures":{figures}}}"#),
        );
        assert_eq!(read()[1].operations, Some(huge), "whatever numbers it holds");
    }
}
