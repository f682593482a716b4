//! What campaigns know from one night to the next: `state.json` in a folder, and the small plans of failures beside it.
//!
//! | what | what for |
//! |---|---|
//! | workloads that were as expected, with digests of their texts | all others get more of the time |
//! | failures, by check and shape | new ones are told from known ones; one whose plan passes is fixed |
//! | counters of coverage | what was never hit in any night |
//!
//! `known/*.toml` are run first in each campaign, those of failures that are fixed, too: whatever comes back is told as such.
//! Simulation is deterministic: a plan that failed, and passes with the same program, shows that the harness is not.
//!
//! What a campaign has brought is kept with the state until the next one: one that is killed before it has told it tells it when
//! it goes on.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    io::Write as _,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};

use super::{
    Verdict, cases, coverage,
    failures::{Failure, failures, what},
    judge::judge,
    record::{Campaign, Class, Ended, Mode, Record, Version, digest},
};
use crate::{results::write_whole, sim::Case};

/// The name of the file.
const FILE: &str = "state.json";

/// Of the format. A file of another version is refused.
const VERSION: u64 = 1;

/// Where plans of failures lie, and what their workloads are called.
pub const PLANS: &str = "known";

/// Blocks of a workload that is new, beside one of any other.
pub const NEW: u64 = 3;

/// A failure of which no plan is kept is forgotten if it is not seen for so many nights.
const FORGOTTEN: u64 = 7;

/// What earlier campaigns have left.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct State {
    version: u64,
    /// Campaigns so far.
    pub nights: u64,
    /// Digest of what the last of them went through: it is taken in once.
    last: String,
    /// Digests of the workloads' texts.
    workloads: BTreeMap<String, String>,
    /// What was found, by the name of its plan.
    failures: BTreeMap<String, Known>,
    /// In which night a workload was last run on real processes.
    real: BTreeMap<String, u64>,
    /// What was ever hit, and in which night last.
    coverage: BTreeMap<String, u64>,
    /// What the last campaign has brought.
    #[serde(default)]
    news: News,
}

/// A failure that was found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Known {
    #[serde(default)]
    mode: Mode,
    kind: String,
    shape: Option<String>,
    words: String,
    /// The night in which it was found first.
    first: u64,
    /// And last.
    last: u64,
    /// Seeds in all nights.
    count: u64,
    /// The program with which its plan has failed.
    program: String,
    /// The night in which its plan has passed.
    fixed: Option<u64>,
}

/// What is new since the last campaign.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct News {
    /// In words, a line each.
    pub lines: Vec<String>,
    /// Simulation has done two things under one plan.
    pub flaky: bool,
}

impl State {
    /// Reads what lies in a folder; nothing, if there is none yet.
    pub fn load(folder: &Path) -> Result<Self> {
        let path = folder.join(FILE);
        if !path.exists() {
            return Ok(Self { version: VERSION, ..Self::default() });
        }
        let text = fs::read_to_string(&path).with_context(|| format!("{} cannot be read", path.display()))?;
        let damaged = || {
            format!(
                "{} is damaged: put back an older one, or begin without by moving it away",
                path.display()
            )
        };
        // another version may have other fields
        let Version { version } = serde_json::from_str(&text).with_context(damaged)?;
        ensure!(
            version == VERSION,
            "{}: its version is {version}, this program reads {VERSION}",
            path.display()
        );
        serde_json::from_str(&text).with_context(damaged)
    }

    /// A hash of all of it.
    pub fn digest(&self) -> Result<String> {
        Ok(digest(&serde_json::to_vec(self)?))
    }

    /// Whether it has taken in this campaign.
    pub fn has(&self, campaign: &Campaign) -> bool {
        self.last == of(campaign)
    }

    /// How many blocks a workload gets of each round.
    pub fn weight(&self, workload: &str, text: &str) -> u64 {
        let known = self.workloads.get(workload).is_some_and(|known| known == text);
        if self.nights > 0 && !known { NEW } else { 1 }
    }

    /// In which order workloads are run on real processes: 0 for those that are new, and then by the night of the last time.
    pub fn rank(&self, workload: &str, text: &str) -> u64 {
        if self.weight(workload, text) > 1 { 0 } else { self.real.get(workload).map_or(1, |night| night + 1) }
    }

    /// Takes in a campaign that is over, and writes itself: once, but whatever is left of that is done, and told, again.
    pub fn take(&mut self, campaign: &Campaign, folder: &Path) -> Result<News> {
        if campaign.ended == Ended::NotYet {
            return Ok(News::default());
        }
        let plans = folder.join(PLANS);
        fs::create_dir_all(&plans).with_context(|| format!("cannot make the folder {}", plans.display()))?;
        let records: Vec<Record> = campaign.records.iter().map(without_more_of_the_same).collect();
        let failures = failures(&records);
        if !self.has(campaign) {
            self.learn(campaign, &failures, &plans);
            let text = serde_json::to_string_pretty(self)?;
            write_whole(&folder.join(FILE), |out| Ok(out.write_all(text.as_bytes())?))?;
        }
        for failure in &failures {
            let path = plan_of(&plans, &name_of(failure));
            if let Some(plan) = failure.plan.as_ref().filter(|_| !path.exists()) {
                write_whole(&path, |out| Ok(out.write_all(plan.as_bytes())?))?;
            }
        }
        Ok(self.news.clone())
    }

    /// What a campaign has shown, and what of it is news.
    fn learn(&mut self, campaign: &Campaign, failures: &[Failure], plans: &Path) {
        self.nights += 1;
        self.last = of(campaign);
        let mut news = News::default();
        let failing: BTreeSet<String> = failures.iter().map(|failure| failure.kind.clone()).collect();
        for record in campaign.records.iter().filter(|record| shows_nothing(record)) {
            self.passed(record, campaign, &failing, &mut news);
        }
        for failure in failures {
            self.failure(failure, campaign, plans, &mut news);
        }
        let still = self.failures.values().filter(|known| known.fixed.is_none() && known.last < self.nights);
        news.lines.extend(still.map(|known| format!("not seen this time: {}", known.in_words())));
        let night = self.nights;
        for (_, known) in self.failures.extract_if(.., |_, known| known.is_forgotten(night)) {
            news.lines.push(format!("not seen for {FORGOTTEN} nights, and forgotten: {}", known.in_words()));
        }
        self.workloads(campaign);
        let real = campaign.records.iter().filter(|record| record.mode == Mode::Real);
        self.real.extend(real.map(|record| (record.workload.clone(), self.nights)));
        for (name, times) in campaign.records.iter().flat_map(|record| &record.coverage) {
            if *times > 0 {
                self.coverage.insert(name.clone(), self.nights);
            }
        }
        let hit: BTreeMap<String, u64> = self.coverage.keys().map(|name| (name.clone(), 1)).collect();
        let never = coverage::never([&hit].into_iter());
        if !never.is_empty() {
            news.lines.push(format!("never hit in {} nights: {}", self.nights, never.join(", ")));
        }
        self.news = news;
    }

    /// A workload that is not as expected stays new.
    fn workloads(&mut self, campaign: &Campaign) {
        for record in campaign.records.iter().filter(|record| record.mode == Mode::Simulation) {
            let text = campaign.texts.get(&record.workload);
            let text = text.filter(|_| !record.workload.starts_with(&format!("{PLANS}/")));
            match text.filter(|_| judge(record).0 == Verdict::Expected) {
                Some(text) => self.workloads.insert(record.workload.clone(), text.clone()),
                None => self.workloads.remove(&record.workload),
            };
        }
    }

    fn failure(&mut self, failure: &Failure, campaign: &Campaign, plans: &Path, news: &mut News) {
        let name = name_of(failure);
        let night = self.nights;
        let kept = format!("{PLANS}/{name}");
        let (is_kept, has_failed) = (plan_of(plans, &name).exists(), fails(&kept, failure, campaign));
        let known = self.failures.entry(name).or_insert_with(|| Known {
            mode: failure.mode,
            kind: failure.kind.clone(),
            shape: failure.shape.clone(),
            words: failure.words.clone(),
            first: night,
            last: night,
            count: 0,
            program: String::new(),
            fixed: None,
        });
        let which = match (known.first == night, known.fixed.take()) {
            (true, _) => "new",
            (false, None) => "known",
            (false, Some(_)) => "back again",
        };
        known.last = night;
        known.count += failure.count;
        // the plan that is kept has failed with this program: it was run again, or is kept from now on
        if has_failed || !is_kept && failure.plan.is_some() {
            known.program.clone_from(&campaign.head.program);
        }
        news.lines.push(format!("{which}: {}", known.in_words()));
    }

    /// A plan of a failure shows nothing any more. It is run again all the same.
    fn passed(&mut self, record: &Record, campaign: &Campaign, failing: &BTreeSet<String>, news: &mut News) {
        let name = record.workload.strip_prefix(&format!("{PLANS}/")).unwrap_or_default();
        let Some(known) = self.failures.get_mut(name).filter(|known| known.fixed.is_none()) else { return };
        if record.undecided > 0 {
            news.lines.push(format!("undecided: {}", known.in_words()));
        } else if known.program == campaign.head.program {
            news.flaky = true;
            news.lines.push(format!(
                "the plan of a failure passes with the program that it failed with: the harness is not deterministic: {}",
                known.in_words()
            ));
        } else if !failing.contains(&known.kind) {
            // otherwise other seeds may still show the same, if with another shape
            known.fixed = Some(self.nights);
            news.lines.push(format!("fixed: {}", known.in_words()));
        }
    }
}

/// Whether the kept plan of this name was run and has shown this failure.
fn fails(kept: &str, failure: &Failure, campaign: &Campaign) -> bool {
    let shows = |class: &Class| class.kind == failure.kind && class.shape == failure.shape && !class.expected;
    campaign.records.iter().any(|record| record.workload == kept && record.classes.iter().any(shows))
}

impl Known {
    /// Without a plan nobody can tell whether it is fixed.
    fn is_forgotten(&self, night: u64) -> bool {
        self.program.is_empty() && night - self.last >= FORGOTTEN
    }

    fn in_words(&self) -> String {
        let Self { mode, kind, shape, words, first, count, .. } = self;
        let what = what(*mode, kind, shape.as_deref());
        format!("{what}, {count} seeds since night {first}: {words}")
    }
}

/// The plans that earlier campaigns have kept, each a case.
pub fn kept(folder: &Path) -> Result<Vec<Case>, String> {
    let plans = folder.join(PLANS);
    let mut cases = if has_plans(&plans) { cases::load(&[plans], &(0..1))? } else { Vec::new() };
    for case in &mut cases {
        case.group = PathBuf::from(PLANS);
    }
    Ok(cases)
}

fn has_plans(folder: &Path) -> bool {
    let is_plan = |entry: fs::DirEntry| entry.path().extension().is_some_and(|extension| extension == "toml");
    fs::read_dir(folder).is_ok_and(|entries| entries.flatten().any(is_plan))
}

/// Whether a case is such a plan.
pub fn is_kept(case: &Case) -> bool {
    case.is_plan() && case.group == Path::new(PLANS)
}

/// Whether it is the record of a kept plan that was run, and showed nothing: it has passed, or is undecided.
fn shows_nothing(record: &Record) -> bool {
    let kept = record.mode == Mode::Simulation && record.workload.starts_with(&format!("{PLANS}/"));
    kept && record.seeds() > 0 && record.classes.is_empty() && record.failed.is_none()
}

/// Seeds of a workload that were not shrunk are of a shape that others of them have, as far as anybody can tell.
fn without_more_of_the_same(record: &Record) -> Record {
    let has_shape = |kind: &str| {
        let mut unexpected = record.classes.iter().filter(|class| !class.expected);
        unexpected.any(|class| class.kind == kind && class.shape.is_some())
    };
    let mut left = record.clone();
    left.classes.retain(|class| class.shape.is_some() || !has_shape(&class.kind));
    left
}

fn of(campaign: &Campaign) -> String {
    let head = &campaign.head;
    digest(format!("{} {:?} {} {:?}", head.program, head.seeds, head.workloads, head.state).as_bytes())
}

fn plan_of(plans: &Path, name: &str) -> PathBuf {
    plans.join(format!("{name}.toml"))
}

/// What the failure's plan is called: the same for whatever looks alike.
fn name_of(failure: &Failure) -> String {
    let shape = failure.shape.as_deref().unwrap_or("not shrunk");
    let how = if failure.mode == Mode::Real { "real " } else { "" };
    let text = format!("{how}{} {shape}", failure.kind);
    let words: String = text.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect();
    let short: String = words.to_ascii_lowercase().chars().take(60).collect();
    format!("{short}-{}", &digest(text.as_bytes())[..6])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::campaign::record::{Block, Head, VERSION as CAMPAIGN};

    fn record(workload: &str, failing: bool) -> Record {
        let mut record = Record {
            workload: workload.to_owned(),
            blocks: vec![Block { first: 0, seeds: 4, fingerprint: String::new() }],
            ..Record::new(Mode::Simulation, false)
        };
        if failing {
            record.found(Class {
                kind: "linearizable".to_owned(),
                shape: Some("kill: get".to_owned()),
                count: 2,
                seeds: vec![1, 3],
                words: "a stale read".to_owned(),
                plan: Some("workload = 'w'".to_owned()),
                ..Class::default()
            });
        }
        record
    }

    /// The campaign of a night, by a program.
    fn campaign(seed: u64, program: &str, records: Vec<Record>) -> Campaign {
        let head = Head {
            program: program.to_owned(),
            shard: super::super::list::Shard { number: 1, of: 1 },
            seeds: (seed, seed + 9),
            workloads: "0".to_owned(),
            state: None,
        };
        Campaign {
            version: CAMPAIGN,
            head,
            ended: Ended::AllIsDone,
            next: 0,
            next_real: 0,
            took_ms: 0,
            texts: [("w".to_owned(), "digest".to_owned())].into(),
            records,
        }
    }

    /// What is said of failures.
    fn told(news: &News) -> Vec<String> {
        let lines = news.lines.iter().filter(|line| !line.starts_with("never hit"));
        lines.map(|line| line.split(&[':', ','][..]).next().unwrap_or_default().to_owned()).collect()
    }

    #[test]
    fn a_failure_is_new_then_known_then_fixed_then_back() {
        let folder = tempfile::tempdir().expect("a folder");
        let night = |seed, program: &str, records| {
            let mut state = State::load(folder.path()).expect("whole");
            state.take(&campaign(seed, program, records), folder.path()).expect("taken in")
        };
        assert_eq!(told(&night(0, "one", vec![record("w", true)])), ["new"]);
        assert_eq!(
            told(&night(0, "one", vec![record("w", true)])),
            ["new"],
            "it is taken in once, and told again"
        );
        let plans: Vec<_> = fs::read_dir(folder.path().join(PLANS)).expect("there").collect();
        let plan = plans[0].as_ref().expect("a plan").path();
        let kept = format!("known/{}", plan.file_stem().expect("a name").to_string_lossy());
        assert_eq!(told(&night(1, "one", vec![record(&kept, true), record("w", true)])), ["known"]);
        assert_eq!(told(&night(2, "one", vec![record("w", false)])), ["not seen this time"]);
        let flaky = night(3, "one", vec![record(&kept, false)]);
        assert!(flaky.flaky && flaky.lines[0].contains("not deterministic"), "{flaky:?}");
        let fixed = night(4, "two", vec![record(&kept, false)]);
        assert_eq!((told(&fixed), fixed.flaky), (vec!["fixed".to_owned()], false));
        assert!(
            night(5, "two", vec![record(&kept, false)])
                .lines
                .iter()
                .all(|line| line.starts_with("never hit"))
        );
        // it is run in every night: what comes back is seen at once
        assert!(plan.exists());
        let back = night(6, "three", vec![record(&kept, true)]);
        assert_eq!(told(&back), ["back again"]);
        let flaky = night(7, "three", vec![record(&kept, false)]);
        assert!(flaky.flaky, "it has failed with this program");
        assert_eq!(told(&night(8, "four", vec![record("w", true)])), ["known"]);
    }

    #[test]
    fn a_campaign_that_was_killed_before_it_told_its_news_tells_them_when_it_goes_on() {
        let folder = tempfile::tempdir().expect("a folder");
        let night = || {
            let mut state = State::load(folder.path()).expect("whole");
            state.take(&campaign(0, "one", vec![record("w", true)]), folder.path()).expect("taken in")
        };
        let news = night();
        let state = fs::read(folder.path().join(FILE)).expect("written");
        let plans =
            || fs::read_dir(folder.path().join(PLANS)).expect("there").flatten().map(|entry| entry.path());
        let plan = plans().next().expect("a plan");
        let text = fs::read(&plan).expect("readable");
        // the kill came between the state and the plans
        fs::remove_file(&plan).expect("removed");
        assert_eq!(night(), news);
        assert_eq!(fs::read(&plan).expect("it is there again"), text);
        assert_eq!(fs::read(folder.path().join(FILE)).expect("there"), state, "nothing is counted twice");
    }

    /// What is kept after the first night, in which this record failed; its file, and what its workload is called.
    fn kept_of(failing: Record, folder: &Path) -> (PathBuf, String) {
        let mut state = State::load(folder).expect("there is none");
        state.take(&campaign(0, "one", vec![failing]), folder).expect("taken in");
        let mut plans = fs::read_dir(folder.join(PLANS)).expect("there");
        let plan = plans.next().expect("a plan").expect("readable").path();
        let name = format!("known/{}", plan.file_stem().expect("a name").to_string_lossy());
        (plan, name)
    }

    #[test]
    fn a_failure_without_a_plan_is_forgotten_in_the_end() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut state = State::load(folder.path()).expect("there is none");
        let mut unshrunk = record("w", true);
        (unshrunk.classes[0].shape, unshrunk.classes[0].plan) = (None, None);
        state.take(&campaign(0, "one", vec![unshrunk, record("v", true)]), folder.path()).expect("taken in");
        let mut night = |seed| {
            let news = state.take(&campaign(seed, "one", vec![]), folder.path()).expect("taken in");
            told(&news)
        };
        for seed in 1..FORGOTTEN {
            assert_eq!(night(seed), ["not seen this time", "not seen this time"]);
        }
        let forgotten = format!("not seen for {FORGOTTEN} nights");
        assert_eq!(night(FORGOTTEN), ["not seen this time", "not seen this time", &forgotten]);
        assert_eq!(night(FORGOTTEN + 1), ["not seen this time"], "its plan is run in every night");
    }

    #[test]
    fn an_undecided_run_of_a_plan_neither_fixes_it_nor_shows_that_the_harness_is_at_fault() {
        for program in ["one", "two"] {
            let folder = tempfile::tempdir().expect("a folder");
            let (plan, name) = kept_of(record("w", true), folder.path());
            let mut state = State::load(folder.path()).expect("whole");
            let undecided = Record { undecided: 4, ..record(&name, false) };
            let news = state.take(&campaign(1, program, vec![undecided]), folder.path()).expect("taken in");
            assert_eq!(
                (told(&news), news.flaky),
                (vec!["undecided".into(), "not seen this time".into()], false)
            );
            assert!(plan.exists(), "it is run again");
        }
    }

    #[test]
    fn nothing_is_fixed_while_anything_fails_by_the_same_check() {
        let folder = tempfile::tempdir().expect("a folder");
        let (plan, name) = kept_of(record("w", true), folder.path());
        let mut other = record("w", true);
        other.classes[0].shape = None;
        let night = |seed, records| {
            let mut state = State::load(folder.path()).expect("whole");
            state.take(&campaign(seed, "two", records), folder.path()).expect("taken in")
        };
        assert_eq!(told(&night(1, vec![record(&name, false), other.clone()])), ["new", "not seen this time"]);
        assert!(plan.exists(), "it may be the same");
        other.classes[0].kind = "progress".to_owned();
        let news = night(2, vec![record(&name, false), other]);
        assert_eq!(told(&news), ["fixed", "new", "not seen this time"]);
    }

    #[test]
    fn what_was_not_shrunk_is_told_unless_its_own_workload_has_shown_its_shape() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut state = State::load(folder.path()).expect("there is none");
        let mut both = record("both", true);
        both.found(Class { shape: None, seeds: vec![5], ..both.classes[0].clone() });
        let unshrunk = |workload: &str, mode, words: &str| {
            let mut record = Record { mode, ..record(workload, true) };
            (record.classes[0].shape, record.classes[0].plan) = (None, None);
            record.classes[0].words = words.to_owned();
            record
        };
        let real = unshrunk("both", Mode::Real, "on processes");
        let records = vec![both.clone(), real];
        let news = state.take(&campaign(0, "one", records), folder.path()).expect("taken in");
        let lines = news.lines.join("\n");
        assert_eq!(told(&news), ["new", "new"], "{lines}");
        assert!(lines.contains("linearizable on real processes (not shrunk), 2 seeds"), "{lines}");
        let records = vec![both, unshrunk("negative", Mode::Simulation, "of the store")];
        let news = state.take(&campaign(1, "one", records), folder.path()).expect("taken in");
        assert_eq!(told(&news), ["new", "known", "not seen this time"]);
        assert!(news.lines[0].ends_with("linearizable (not shrunk), 2 seeds since night 2: of the store"));
    }

    #[test]
    fn what_is_new_has_changed_or_was_not_as_expected_gets_more() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut state = State::load(folder.path()).expect("there is none");
        assert_eq!(state.weight("w", "digest"), 1, "in the first night all are new");
        state.take(&campaign(0, "one", vec![record("w", false)]), folder.path()).expect("taken in");
        assert_eq!((state.weight("w", "digest"), state.weight("w", "other")), (1, NEW));
        assert_eq!(state.weight("v", "digest"), NEW);
        state.take(&campaign(1, "one", vec![record("w", true)]), folder.path()).expect("taken in");
        assert_eq!(state.weight("w", "digest"), NEW);
    }

    #[test]
    fn what_was_hit_in_any_night_counts() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut state = State::load(folder.path()).expect("there is none");
        let mut hit = record("w", false);
        hit.coverage = [("fast reads".to_owned(), 3), ("fault kill".to_owned(), 0)].into();
        let news = state.take(&campaign(0, "one", vec![hit]), folder.path()).expect("taken in");
        let line = news.lines.last().expect("there is more to hit");
        assert!(line.starts_with("never hit in 1 nights: ") && line.contains("fault kill"), "{line}");
        assert!(!line.contains("fast reads,"), "{line}");
        let mut hit = record("w", false);
        hit.coverage = [("fault kill".to_owned(), 1)].into();
        let news = state.take(&campaign(1, "one", vec![hit]), folder.path()).expect("taken in");
        let line = news.lines.last().expect("there is more to hit");
        assert!(!line.contains("fault kill,") && !line.contains("fast reads,"), "{line}");
    }

    #[test]
    fn what_is_no_plan_among_the_plans_is_no_case() {
        let folder = tempfile::tempdir().expect("a folder");
        fs::create_dir(folder.path().join(PLANS)).expect("made");
        fs::write(folder.path().join(PLANS).join(".keep"), "").expect("written");
        assert!(kept(folder.path()).expect("nothing is kept").is_empty());
    }

    #[test]
    fn a_campaign_that_is_not_over_and_a_damaged_file_change_nothing() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut state = State::load(folder.path()).expect("there is none");
        let killed = Campaign { ended: Ended::NotYet, ..campaign(0, "one", vec![record("w", true)]) };
        assert_eq!(state.take(&killed, folder.path()).expect("not taken in"), News::default());
        assert_eq!(state.nights, 0);
        fs::write(folder.path().join(FILE), "{\"version\": 1, \"nig").expect("written");
        let error = format!("{:#}", State::load(folder.path()).expect_err("it is damaged"));
        assert!(error.contains("state.json is damaged"), "{error}");
        fs::write(folder.path().join(FILE), "{\"version\": 99, \"more\": 0}").expect("written");
        let error = format!("{:#}", State::load(folder.path()).expect_err("it is newer"));
        assert!(error.contains("its version is 99, this program reads 1"), "{error}");
    }
}
