//! `harness campaign`.

use std::{
    collections::BTreeMap,
    fs,
    io::ErrorKind,
    ops::Range,
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use clap::Args;
use store::config::Mutant;

use super::{
    canary, cases,
    finish::Reports,
    hunt::{Means, hunt},
    list::{self, Piece, Shard, Share, pieces},
    real::{self, Interrupted},
    record::{Campaign, Ended, FILE, Head, Mode, Record, VERSION, digest},
    state::{self, News, State},
};
use crate::{
    cli::INTERRUPTED,
    clock::boottime_ns,
    progress,
    report::FAILED,
    retention::{Keep, prune},
    sim::{self, Case},
    terminal::bytes_in_words,
    workload::{CheckName, ExpectedVerdict, Time},
};

/// The time of a campaign for which neither time nor seeds are given.
const BUDGET: Duration = Duration::from_mins(10);

/// The seeds of a campaign for which none are given.
const SEEDS: Range<u64> = 0..1_000_000;

/// What to go through.
#[derive(Debug, Args)]
pub struct CampaignArguments {
    /// Workload files, and folders that are searched for them.
    #[arg(value_name = "DIR|WORKLOAD.toml", default_value = "workloads")]
    paths: Vec<PathBuf>,
    /// How long it may take in all, such as 60m: 10m, or, with --seeds, as long as these seeds take. Whatever the time, each
    /// workload is run at least for its first seeds.
    #[arg(long, value_name = "TIME", value_parser = crate::cli::time)]
    budget: Option<Time>,
    /// No seeds but these of each workload, however much time is left: from A up to, and without, B [default: 0..1000000]
    #[arg(long, value_name = "A..B", value_parser = crate::cli::seeds)]
    seeds: Option<Range<u64>>,
    /// Only the Kth of N parts of the work, which together are what one campaign would do; `harness merge` puts them together.
    #[arg(long, value_name = "K/N", default_value = "1/1", value_parser = list::shard)]
    shard: Shard,
    /// Goes on after the last piece of work that the same command line has finished in the same folder.
    #[arg(long)]
    resume: bool,
    /// At the end so much of the time goes to workloads on real processes, one run at a time: those that are new, and those that
    /// were run the longest ago. Of all shards together; 0s: none.
    #[arg(long, value_name = "TIME", default_value = "0s", value_parser = crate::cli::time)]
    real: Time,
    /// Negative workloads are run on real processes, too, at the end and beside the budget: each until its bug is found, for so
    /// long at most, such as 5m. 0s: none.
    #[arg(long, value_name = "TIME", default_value = "0s", value_parser = crate::cli::time)]
    real_bugs: Time,
    /// Only one in N of the negative workloads, in each night others; those that are new, or were not as expected, in all.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..), requires = "state")]
    sample: u64,
    /// What campaigns know from one night to the next: what is known, new, or fixed, and what was never hit. What is new since
    /// gets more of the time. Of shards only `harness merge` writes it.
    #[arg(long, value_name = "DIR")]
    state: Option<PathBuf>,
    /// A check that sees nothing: for the test that the canaries notice.
    #[arg(long, hide = true, value_parser = check_name)]
    blind: Option<CheckName>,
    /// At most so long is spent to shrink what a seed shows, of the first few that show it; 0s: nothing is shrunk.
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = crate::cli::time)]
    shrink: Time,
    #[command(flatten)]
    reports: Reports,
    /// Where campaign.json, runs that fail, and what they were shrunk to, are kept.
    #[arg(long, value_name = "DIR", default_value = "results")]
    out: PathBuf,
    /// Old runs below that folder go: of each workload the newest N stay that passed, and five times as many others; so do
    /// those that campaign.json names, and those that go on.
    #[arg(long, value_name = "N", default_value_t = Keep::default())]
    keep: Keep,
    /// Runs side by side; as many as there are processors if left out.
    #[arg(long, value_name = "N")]
    jobs: Option<usize>,
}

/// Goes through what the command line says.
pub fn main(arguments: &CampaignArguments) -> ExitCode {
    let seeds = arguments.seeds.clone().unwrap_or(SEEDS);
    let kept = arguments.state.as_ref().map_or_else(|| Ok(Vec::new()), |folder| state::kept(folder));
    let cases = kept.and_then(|kept| Ok([kept, cases::load(&arguments.paths, &seeds)?].concat()));
    let cases = match cases {
        Ok(cases) => cases,
        Err(problem) => {
            eprintln!("{problem}");
            return ExitCode::from(2);
        }
    };
    match Course::begin(arguments, cases, &seeds) {
        Ok(course) => ExitCode::from(course.run()),
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::from(2)
        }
    }
}

/// What this program is: campaigns of different ones are not merged.
fn program() -> Result<String> {
    if let Some(commit) = option_env!("HARNESS_COMMIT") {
        return Ok(format!("commit {commit}"));
    }
    let path = std::env::current_exe().context("cannot find this program")?;
    let bytes = fs::read(&path).with_context(|| format!("{} cannot be read", path.display()))?;
    Ok(format!("program {}", digest(&bytes)))
}

/// Digests of the texts of these cases, by name.
fn texts(cases: &[Case]) -> Result<BTreeMap<String, String>> {
    let text = |case: &Case| -> Result<(String, String)> {
        let text = fs::read(&case.path).with_context(|| format!("{} cannot be read", case.path.display()))?;
        Ok((case.name(), digest(&text)))
    };
    let texts: BTreeMap<String, String> = cases.iter().map(text).collect::<Result<_>>()?;
    ensure!(texts.len() == cases.len(), "two workloads have the same name: name the folder that holds both");
    Ok(texts)
}

/// A campaign that goes on.
struct Course<'a> {
    arguments: &'a CampaignArguments,
    cases: Vec<Case>,
    shares: Vec<Share>,
    /// Workloads that are run on real processes, by their places.
    real: Vec<usize>,
    state: Option<State>,
    campaign: Campaign,
    began: u64,
    /// How long it had taken before it was killed.
    before: u64,
    /// When the time is up.
    end: Option<u64>,
    /// Why something could not be written.
    unwritten: Option<anyhow::Error>,
    /// Old runs that were removed, and their bytes.
    removed: (usize, u64),
}

impl<'a> Course<'a> {
    /// A campaign in which nothing was done, or as much as was done until it was killed.
    fn begin(arguments: &'a CampaignArguments, cases: Vec<Case>, seeds: &Range<u64>) -> Result<Self> {
        let state = arguments.state.as_deref().map(State::load).transpose()?;
        let mut texts = texts(&cases)?;
        let weight = |name: &str, text: &str| state.as_ref().map_or(1, |state| state.weight(name, text));
        let nights = state.as_ref().map_or(0, |state| state.nights);
        let all = cases.len();
        let cases = sampled(cases, arguments.sample, nights, |name| weight(name, &texts[name]) > 1);
        if cases.len() < all {
            let left = all - cases.len();
            arguments.reports.aside(&format!("{left} negative workloads are left to other nights"));
        }
        texts.retain(|name, _| cases.iter().any(|case| case.name() == *name));
        let share = |case: &Case| Share {
            seeds: case.seeds.clone(),
            whole: is_negative(case) || case.is_plan(),
            weight: weight(&case.name(), &texts[&case.name()]),
        };
        let shares: Vec<Share> = cases.iter().map(share).collect();
        let rank =
            |case: &Case| state.as_ref().map_or(0, |state| state.rank(&case.name(), &texts[&case.name()]));
        let mut real = real::chosen(&cases, arguments.real.0, rank);
        let reserved: Duration =
            mine(&real, arguments.shard).map(|(_, place)| real::lasts(&cases[place])).sum();
        if !arguments.real_bugs.0.is_zero() {
            let bugs = |place: &usize| cases[*place].plan.test.mutant.is_some() && !cases[*place].is_plan();
            real.extend((0..cases.len()).filter(bugs));
        }
        let head = Head {
            program: program()?,
            shard: arguments.shard,
            seeds: (seeds.start, seeds.end),
            workloads: digest(format!("{texts:?} {shares:?} {real:?}").as_bytes()),
            state: state.as_ref().map(State::digest).transpose()?,
        };
        let new = Campaign {
            version: VERSION,
            head,
            ended: Ended::NotYet,
            next: 0,
            next_real: 0,
            took_ms: 0,
            texts,
            records: Vec::new(),
        };
        let campaign = if arguments.resume && arguments.out.join(FILE).exists() {
            go_on(arguments, state.as_ref(), &new.head)?
        } else {
            new
        };
        let began = boottime_ns();
        let without_limit = arguments.budget.is_none() && arguments.seeds.is_some();
        let budget = arguments.budget.map_or(BUDGET, |budget| budget.0);
        let left = budget.saturating_sub(Duration::from_millis(campaign.took_ms));
        let left = left.saturating_sub(reserved);
        let end = (!without_limit).then_some(began + left.as_nanos() as u64);
        let before = campaign.took_ms;
        let (unwritten, removed) = (None, (0, 0));
        Ok(Self { arguments, cases, shares, real, state, campaign, began, before, end, unwritten, removed })
    }

    /// Does what is left; the exit code.
    fn run(mut self) -> u8 {
        progress::begin(self.arguments.reports.quiet);
        self.arguments.reports.head();
        match canary::records(&self.means(&[]), self.arguments.blind) {
            Ok(canaries) => self.campaign.replace_canaries(canaries),
            Err(problem) => {
                eprintln!("{problem}");
                return FAILED;
            }
        }
        // once the state has taken it in, the list is that of the next night
        let taken = self.state.as_ref().is_some_and(|state| state.has(&self.campaign));
        if canary::problems(&self.campaign.records).is_empty() && !taken {
            let ended = self.pieces();
            if self.on_real_processes() == Err(Interrupted) {
                say!("VERDICT unknown campaign: interrupted");
                return INTERRUPTED;
            }
            self.campaign.ended = ended;
        }
        let remarks = self.finish();
        self.make_room(&self.arguments.out);
        if self.removed.0 > 0 {
            let (runs, bytes) = (self.removed.0, bytes_in_words(self.removed.1));
            let words = format!("removed {runs} old runs, {bytes} (--keep {})", self.arguments.keep);
            self.arguments.reports.aside(&words);
        }
        let whole = self.arguments.reports.told(&self.campaign, &remarks.lines);
        let whole = if remarks.flaky { whole.or_worse(FAILED) } else { whole };
        let whole = self.unwritten.iter().fold(whole, |whole, error| {
            eprintln!("error: {error:#}");
            whole.or_worse(FAILED)
        });
        say!("{whole}");
        whole.exit_code
    }

    /// Does what is left of the list; how it ended.
    fn pieces(&mut self) -> Ended {
        let (shard, next) = (self.arguments.shard, self.campaign.next);
        let mut pieces = pieces(self.shares.clone())
            .filter(|piece| shard.has(piece.index) && piece.index >= next)
            .peekable();
        let mut first = Vec::new();
        while let Some(piece) = pieces.next_if(|piece| piece.round == 0) {
            first.push(piece);
        }
        for place in 0..first.len() {
            let means = self.means(&first[place..]);
            self.piece(&first[place], &means);
        }
        for piece in pieces {
            if self.end.is_some_and(|end| boottime_ns() >= end) {
                return Ended::TimeIsUp;
            }
            self.piece(&piece, &self.means(&[]));
        }
        Ended::AllIsDone
    }

    /// Runs what is left to be run on real processes.
    fn on_real_processes(&mut self) -> Result<(), Interrupted> {
        let next = self.campaign.next_real;
        let left: Vec<_> =
            mine(&self.real, self.arguments.shard).filter(|(index, _)| *index >= next).collect();
        for (index, place) in left {
            let case = &self.cases[place];
            let mutant = case.plan.test.mutant.map(name_of_mutant);
            let record =
                Record { workload: case.name(), mutant, ..Record::new(Mode::Real, is_negative(case)) };
            let record = self.campaign.record(record);
            let CampaignArguments { out, real_bugs, .. } = self.arguments;
            let ended = if is_negative(case) {
                real::find_out(case, real_bugs.0, out, record)
            } else {
                real::run(case, case.seeds.start, out, record)
            };
            if ended.is_ok() {
                self.arguments.reports.row(record, " on real processes");
                self.campaign.next_real = index + 1;
            }
            let folder = folder_of(case, &self.arguments.out);
            self.save(&[]);
            self.make_room(&folder);
            ended?;
        }
        Ok(())
    }

    /// Writes that it is over, and takes it in for the next one; what is new.
    fn finish(&mut self) -> News {
        self.save(&[]);
        let Self { state, campaign, arguments, .. } = self;
        let (Some(state), Some(folder)) = (state, &arguments.state) else { return News::default() };
        if campaign.head.shard.of > 1 || !canary::problems(&campaign.records).is_empty() {
            return News::default();
        }
        match state.take(campaign, folder) {
            Ok(news) => {
                self.save(&news.lines);
                news
            }
            Err(error) => {
                self.unwritten = Some(error);
                News::default()
            }
        }
    }

    /// Does a piece of work, and writes down that it is done.
    fn piece(&mut self, piece: &Piece, means: &Means) {
        let case = &self.cases[piece.case];
        let record = self.campaign.record(Record {
            workload: case.name(),
            mutant: case.plan.test.mutant.map(name_of_mutant),
            ..Record::new(Mode::Simulation, is_negative(case))
        });
        let kept = |record: &Record| record.classes.iter().map(|class| class.kept.len()).sum::<usize>();
        let (failing, before) = (record.classes.len(), kept(record));
        hunt(case, &piece.seeds, means, record);
        let more = kept(record) > before;
        // a line for what is over, and for what is new
        if record.negative || record.classes.len() > failing {
            self.arguments.reports.row(record, "");
        }
        self.campaign.next = piece.index + 1;
        let folder = folder_of(case, &self.arguments.out);
        self.save(&[]);
        if more {
            self.make_room(&folder);
        }
    }

    /// Removes old runs in a folder, but for those that what was written last names.
    fn make_room(&mut self, folder: &Path) {
        // what could not be written may name others
        if self.unwritten.is_some() {
            return;
        }
        match prune(folder, self.arguments.keep, false) {
            Ok(pruned) => {
                pruned.tell_failed(folder);
                self.removed.0 += pruned.removed.len();
                self.removed.1 += pruned.bytes();
            }
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => eprintln!("error: old runs in {} are not removed: {error}", folder.display()),
        }
    }

    /// After each piece of work, so that one that is killed has told what it knew.
    fn save(&mut self, remarks: &[String]) {
        let Self { arguments, campaign, .. } = self;
        campaign.took_ms = self.before + (boottime_ns() - self.began) / 1_000_000;
        let written =
            campaign.write(&arguments.out).and_then(|()| arguments.reports.write(campaign, remarks));
        self.unwritten = written.err();
    }

    /// What the first of these pieces may spend, or any later one. Time to shrink what negative workloads are expected to find is
    /// put aside, at most half of all, so that the others share the rest.
    fn means(&self, first: &[Piece]) -> Means {
        let CampaignArguments { shrink, jobs, out, .. } = self.arguments;
        let jobs = jobs.unwrap_or_else(sim::processors);
        let means = Means { end: None, shrink: shrink.0, jobs, out: out.clone() };
        let Some(end) = self.end.filter(|_| !first.is_empty()) else { return means };
        let now = boottime_ns();
        let left = Duration::from_nanos(end.saturating_sub(now));
        let expected = first.iter().filter(|piece| is_negative(&self.cases[piece.case])).count() as u32;
        let aside = shrink.0.min(left / 2 / expected.max(1));
        let share = left.saturating_sub(aside * expected) / first.len() as u32;
        Means { end: Some(now + share.as_nanos() as u64), shrink: aside, ..means }
    }
}

/// Where runs of a workload are kept.
fn folder_of(case: &Case, out: &Path) -> PathBuf {
    out.join(&case.group).join(&case.plan.workload)
}

fn is_negative(case: &Case) -> bool {
    case.plan.expect.verdict == ExpectedVerdict::Violation
}

/// A shard's part of the workloads that are run on real processes, each with its place in that list.
fn mine(real: &[usize], shard: Shard) -> impl Iterator<Item = (u64, usize)> {
    (0..).zip(real.iter().copied()).filter(move |(index, _)| shard.has(*index))
}

/// Without the negative workloads whose turn is in another night. Plans are run in all.
fn sampled(cases: Vec<Case>, sample: u64, night: u64, is_new: impl Fn(&str) -> bool) -> Vec<Case> {
    let mut place = 0;
    let mut turn = |case: &Case| {
        let sampled = is_negative(case) && !case.is_plan();
        place += u64::from(sampled);
        !sampled || place % sample == night % sample || is_new(&case.name())
    };
    cases.into_iter().filter(|case| turn(case)).collect()
}

/// What the same command line has done until it was killed.
fn go_on(arguments: &CampaignArguments, state: Option<&State>, head: &Head) -> Result<Campaign> {
    let campaign = Campaign::load(&arguments.out)?;
    let mut before = campaign.head.clone();
    if state.is_some_and(|state| state.has(&campaign)) {
        // the state has changed since, by this campaign
        before.state.clone_from(&head.state);
        before.workloads.clone_from(&head.workloads);
    }
    let differs = before.differs(head);
    ensure!(
        differs.is_empty(),
        "{} is of another campaign ({}): leave out --resume, or name another folder",
        arguments.out.join(FILE).display(),
        differs.join(", ")
    );
    Ok(campaign)
}

/// A check by its name.
fn check_name(text: &str) -> Result<CheckName, String> {
    serde_json::from_value(text.into()).map_err(|error| error.to_string())
}

/// As workload files write it.
fn name_of_mutant(mutant: Mutant) -> String {
    serde_json::to_value(mutant).ok().and_then(|name| Some(name.as_str()?.to_owned())).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::workload;

    #[test]
    fn in_as_many_nights_as_there_are_samples_every_negative_workload_has_its_turn() {
        let case = |name: &str, expect: &str| {
            let text = format!("[cluster]\nnodes = 3\npartitions = [{{}}]\nlease = 'off'\n{expect}");
            let workload =
                workload::parse(Path::new("w.toml"), &text).unwrap_or_else(|told| panic!("{told}"));
            Case::built_in(name, workload, 0..9).expect("it can be simulated")
        };
        let negative = "[expect]\nverdict = 'violation'\n";
        let mut cases: Vec<Case> = ["a", "b", "c", "d", "e"].map(|name| case(name, negative)).into();
        cases.push(case("valid", ""));
        let night = |night| -> Vec<String> {
            sampled(cases.clone(), 2, night, |name| name == "e").iter().map(Case::name).collect()
        };
        assert_eq!(night(0), ["b", "d", "e", "valid"]);
        assert_eq!(night(1), ["a", "c", "e", "valid"]);
        assert_eq!(night(2), night(0));
        assert_eq!(sampled(cases.clone(), 1, 7, |_| false).len(), cases.len());
    }
}
