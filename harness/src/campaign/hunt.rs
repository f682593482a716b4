//! One piece of work: seeds of a workload, what they find, and how small that is.

use std::{
    ops::Range,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::Result;
use store::config::Mutant;

use super::{
    coverage,
    record::{Block, Class, Mode, Note, Record},
    shape::shape,
    state::is_kept,
};
use crate::{
    clock::boottime_ns,
    plan::Plan,
    progress,
    results::PLAN,
    shrink::{self, Ground, Kind, NotShrunk, Shrunk, Size},
    sim::{self, Case, Finding, Options, Outcome, Stats},
};

/// The seeds of a negative workload are run in rounds, at most of so many for each thread; the time is looked at after each.
const ROUND: u64 = 8;

/// Seeds of a workload that show the same kind of violation and are shrunk and kept; of more, those that show another as well.
const CLOSELY: u64 = 3;

/// What a piece of work may spend.
#[derive(Clone, Debug)]
pub struct Means {
    /// A negative workload begins no round after this moment, but for the first. None: there is time for all seeds.
    pub end: Option<u64>,
    /// Time to shrink what a seed shows; zero: it is not shrunk.
    pub shrink: Duration,
    /// Runs side by side.
    pub jobs: usize,
    /// Where runs that fail, and small plans, are kept.
    pub out: PathBuf,
}

/// Runs a piece of work, and writes down what comes of it. Negative workloads are over when they are found out; of others all
/// seeds are run, whatever they show: so it depends on nothing but the list of pieces what is run.
pub fn hunt(case: &Case, piece: &Range<u64>, means: &Means, record: &mut Record) {
    hunt_with(case, piece, means, record, &|seed| {
        progress::tell(|| format!("{} seed {seed}", case.name()));
        sim::run(&case.plan(seed), &Options::default())
    });
}

/// The same with another way to run a seed.
pub fn hunt_with(
    case: &Case,
    piece: &Range<u64>,
    means: &Means,
    record: &mut Record,
    one: &(impl Fn(u64) -> Outcome + Sync),
) {
    let began = boottime_ns();
    let outcomes = if record.negative {
        until_found(case, piece, means, one)
    } else {
        sim::run_seeds(piece.clone(), means.jobs, one, |_| false)
    };
    record.took_ms += (boottime_ns() - began) / 1_000_000;
    let totals = outcomes.iter().fold(Stats::default(), |sum, outcome| sum.and(outcome.stats));
    record.blocks.push(Block {
        first: piece.start,
        seeds: outcomes.len() as u64,
        fingerprint: format!("{:016x}", totals.fingerprint),
    });
    record.reached += totals.mutant_reached;
    coverage::count(&totals, &outcomes, &mut record.coverage);
    let found = outcomes.iter().any(|outcome| sim::found(&case.plan, outcome).is_some());
    record.cut_short |= record.negative && !found && (outcomes.len() as u64) < piece.end - piece.start;
    for outcome in &outcomes {
        take(case, outcome, found, means, record);
    }
}

/// Runs seeds until one shows what is expected, or fails, or the time is up.
fn until_found(
    case: &Case,
    piece: &Range<u64>,
    means: &Means,
    one: &(impl Fn(u64) -> Outcome + Sync),
) -> Vec<Outcome> {
    let enough = |outcome: &Outcome| outcome.failed.is_some() || sim::found(&case.plan, outcome).is_some();
    let is_over = || means.end.is_some_and(|end| boottime_ns() >= end);
    let (mut outcomes, mut next, mut round) = (Vec::new(), piece.start, 1);
    while next < piece.end && (outcomes.is_empty() || !is_over()) {
        let until = piece.end.min(next + round * means.jobs as u64);
        outcomes.extend(sim::run_seeds(next..until, means.jobs, one, enough));
        if outcomes.last().is_some_and(enough) {
            break;
        }
        next = until;
        round = ROUND.min(round * 2);
    }
    outcomes
}

/// Writes down what came of a seed; `found`: some seed shows what is expected.
fn take(case: &Case, outcome: &Outcome, found: bool, means: &Means, record: &mut Record) {
    let note = |words: &str| Note { seed: outcome.seed, words: words.to_owned() };
    if let Some(why) = outcome.undecided.first() {
        record.undecided(note(why));
    }
    if let Some(why) = &outcome.failed {
        record.failed(note(&format!("the simulator failed: {why}")));
    }
    let expected = sim::found(&case.plan, outcome);
    // beside the expected violation stands whatever else the planted bug has brought about
    let findings = expected.map_or_else(|| one_of_each_check(&outcome.findings), |finding| vec![finding]);
    if findings.is_empty() {
        return;
    }
    let class = |finding: &&Finding| Class {
        kind: Kind::of(finding).to_string(),
        expected: expected.is_some(),
        of_the_store: record.mode == Mode::Canary
            && is_of_the_store(case.plan.test.mutant, outcome.stats.mutant_reached),
        count: 1,
        seeds: vec![outcome.seed],
        words: finding.to_string(),
        again: case.again(outcome.seed),
        ..Class::default()
    };
    let mut classes: Vec<Class> = findings.iter().map(class).collect();
    // canaries are seen again every time, and nobody looks into them
    if record.mode == Mode::Simulation
        && let Some(place) = least_known(&classes, record)
    {
        closely(case, &mut classes, place, (findings[place], found), means, record);
    }
    record.failing += 1;
    for class in classes {
        record.found(class);
    }
}

/// The first finding of each check: what else that has found mostly follows from it, and stands in the run that is kept.
fn one_of_each_check(findings: &[Finding]) -> Vec<&Finding> {
    let mut each: Vec<&Finding> = Vec::new();
    for finding in findings {
        if each.iter().all(|other| other.by != finding.by) {
            each.push(finding);
        }
    }
    each
}

/// Which of the kinds that a seed shows is looked at closely, if any is: rather one of which no small plan is known.
fn least_known(classes: &[Class], record: &Record) -> Option<usize> {
    let known = |class: &Class| {
        let alike = record.classes.iter().filter(|known| known.kind == class.kind);
        let shrunk = alike.clone().any(|known| known.shape.is_some());
        (shrunk, alike.map(|known| known.count).sum::<u64>())
    };
    let all = classes.iter().map(known).enumerate().filter(|(_, (_, before))| *before < CLOSELY);
    all.min_by_key(|(_, known)| *known).map(|(place, _)| place)
}

/// Whether what a seed shows has nothing to do with the planted bug, since that was never reached. The counter of one bug may
/// miss that it has changed something.
fn is_of_the_store(mutant: Option<Mutant>, reached: u64) -> bool {
    let counted = mutant.is_some_and(|mutant| mutant != Mutant::AdoptByLengthOnly);
    counted && reached == 0
}

/// Shrinks one of the kinds that a seed shows, and keeps the run unless it is expected, or is put down to a planted bug that is
/// found as expected under another seed. Whatever the time, what the same plan shows without the planted bug is one of the store.
fn closely(
    case: &Case,
    classes: &mut [Class],
    place: usize,
    (finding, found): (&Finding, bool),
    means: &Means,
    record: &mut Record,
) {
    let class = &mut classes[place];
    let seed = class.seeds[0];
    let mut plan = case.plan(seed);
    // what is not the expected violation has nothing to do with the planted bug, by which shrinking goes
    let shrinks = (class.expected || !record.negative) && !is_kept(case);
    let kind = Kind::of(finding);
    let small = if shrinks && !means.shrink.is_zero() {
        Some(shrink::shrink(&plan, &kind, Ground::Simulation(means.jobs), means.shrink))
    } else if shrink::shows_without_the_bug(&plan, &kind) {
        // that the bug was never reached says less: a run may be over before it is told that it was
        Some(Err(NotShrunk::WithoutTheBug))
    } else {
        None
    };
    match &small {
        Some(Err(why @ NotShrunk::WithoutTheBug)) => {
            // it is the store that fails
            (class.expected, class.of_the_store) = (false, true);
            class.words = format!("{}; {why}", class.words);
            plan = plan.without_mutant();
        }
        Some(Err(why)) => {
            record.failed(Note { seed, words: format!("{}; {why}", class.words) });
        }
        Some(Ok(Shrunk { plan, took, .. })) => {
            class.shape = Some(shape(plan));
            class.plan = whole_text(plan);
            class.size = Some(Size::of(plan).to_string());
            class.shrink_ms = took.as_millis() as u64;
        }
        None if is_kept(case) => {
            // it is as small as it was, whatever it shows
            for class in &mut *classes {
                (class.shape, class.plan) = (Some(shape(&plan)), whole_text(&plan));
            }
        }
        None => {}
    }
    let class = &classes[place];
    let small = small.and_then(Result::ok).map(|small| small.plan);
    let failing = (!class.expected && (class.of_the_store || !found)).then_some(&plan);
    if let Err(error) = keep(case, seed, classes, place, (failing, small.as_ref()), means) {
        record.failed(Note { seed, words: format!("{error:#}") });
    }
}

/// A plan as one file; none: it needs the record of a run that it follows beside it, and cannot be run without.
fn whole_text(plan: &Plan) -> Option<String> {
    plan.follows.is_none().then(|| toml::to_string(plan).ok())?
}

/// Keeps the run of a plan that shows all of these, and that of the small plan that shows one of them, if there are any.
fn keep(
    case: &Case,
    seed: u64,
    classes: &mut [Class],
    place: usize,
    (failing, small): (Option<&Plan>, Option<&Plan>),
    means: &Means,
) -> Result<()> {
    let out = means.out.join(&case.group);
    let put = |classes: &mut [Class], folder: &Path| {
        for class in classes {
            class.again = sim::again_of_plan(&folder.join(PLAN));
            class.kept.push(folder.strip_prefix(&means.out).unwrap_or(folder).to_owned());
        }
    };
    if let Some(plan) = failing {
        let folder = sim::keep(&out, plan, &sim::run(plan, &Options::default()))?;
        put(classes, &folder);
    }
    if let Some(small) = small {
        let folder = sim::keep_shrunk(&out, small, seed)?;
        put(&mut classes[place..=place], &folder);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        campaign::{junit, markdown, record::Ended, table},
        workload::CheckName,
    };

    const CLEAN: &str = "[cluster]\nnodes = 3\npartitions = [{}]\nlease = 'off'\n\
        [clients]\ncount = 1\n[operations]\nmix = { get = 1 }\nkeys = { count = 1 }\nrate = 10\n\
        [phases]\nwarm_up = '100ms'\nfaults = '1s'\n";

    /// What a piece of work with these seeds writes down, of which each shows these findings.
    fn hunted(
        name: &str,
        text: &str,
        seeds: Range<u64>,
        findings: impl Fn(u64) -> Vec<Finding> + Sync,
        reached: u64,
        shrink: Duration,
    ) -> (Record, tempfile::TempDir) {
        hunted_until(None, (name, text), seeds, findings, reached, shrink)
    }

    /// The same, if that is when its time is up.
    fn hunted_until(
        end: Option<u64>,
        (name, text): (&str, &str),
        seeds: Range<u64>,
        findings: impl Fn(u64) -> Vec<Finding> + Sync,
        reached: u64,
        shrink: Duration,
    ) -> (Record, tempfile::TempDir) {
        let out = tempfile::tempdir().expect("a folder");
        let workload = crate::workload::parse(Path::new(name), text).unwrap_or_else(|told| panic!("{told}"));
        let case = Case::built_in("w", workload, seeds.clone()).expect("it can be simulated");
        let means = Means { end, shrink, jobs: 1, out: out.path().to_owned() };
        let negative = case.plan.expect.verdict == crate::workload::ExpectedVerdict::Violation;
        let mut record = Record { workload: case.name(), ..Record::new(Mode::Simulation, negative) };
        let stats = Stats { mutant_reached: reached, ..Stats::default() };
        let one = |seed| Outcome { seed, findings: findings(seed), stats, ..Outcome::default() };
        hunt_with(&case, &seeds, &means, &mut record, &one);
        (record, out)
    }

    fn finding(by: CheckName, text: &str) -> Finding {
        Finding { by, text: text.to_owned() }
    }

    #[test]
    fn all_that_a_seed_shows_is_told_and_kept_and_the_seed_counts_once() {
        let findings = [
            finding(CheckName::LeaseSafety, "L5: one"),
            finding(CheckName::LeaseSafety, "L6: of the same check"),
            finding(CheckName::Linearizable, "a stale read"),
            finding(CheckName::Progress, "nothing was answered"),
        ];
        let (record, out) = hunted("w.toml", CLEAN, 0..5, |_| findings.to_vec(), 0, Duration::ZERO);
        let kinds: Vec<_> = record.classes.iter().map(|class| (class.kind.as_str(), class.count)).collect();
        assert_eq!(kinds, [("lease-safety L5", 5), ("linearizable", 5), ("progress", 5)]);
        assert_eq!((record.failing, record.seeds()), (5, 5));
        let (verdict, words) = crate::campaign::judge::judge(&record);
        assert_eq!(verdict, crate::campaign::Verdict::Unexpected);
        let told = "; also linearizable, progress; 4 other seeds fail, too";
        assert!(words.ends_with(told), "{words}");
        for class in &record.classes {
            assert_eq!(class.kept.len(), 3, "{class:?}");
            assert!(class.kept.iter().all(|run| out.path().join(run).join(PLAN).exists()), "{class:?}");
        }
    }

    #[test]
    fn what_else_a_planted_bug_shows_is_no_failure_where_it_is_found_as_expected() {
        let text = format!(
            "mutant = 'election-needs-all'\n{CLEAN}[expect]\nverdict = 'violation'\nby = 'linearizable'\n"
        );
        let (other, expected) = (CheckName::LeaseSafety, CheckName::Linearizable);
        let shown = |seed| vec![finding(if seed == 0 { other } else { expected }, "so")];
        let (record, out) = hunted("negative/w.toml", &text, 0..2, shown, 1, Duration::ZERO);
        assert_eq!(record.classes.len(), 2, "{:?}", record.classes);
        let lines = table::unexpected(std::slice::from_ref(&record));
        assert_eq!((lines, std::fs::read_dir(out.path()).expect("there").count()), (vec![], 0));
        // where it never is, it is an alarm
        let shown = |_| vec![finding(other, "so")];
        let (record, out) = hunted("negative/w.toml", &text, 0..2, shown, 1, Duration::ZERO);
        assert_eq!(table::unexpected(std::slice::from_ref(&record)).len(), 1);
        assert_eq!(record.classes[0].kept.len(), 2, "{:?}", record.classes);
        assert!(out.path().join(&record.classes[0].kept[0]).join(PLAN).exists());
        // nor is it one of the store because the bug was not seen to be reached: without it nothing is wrong
        let (record, _out) = hunted("negative/w.toml", &text, 0..2, shown, 0, Duration::ZERO);
        assert!(record.classes.iter().all(|class| !class.of_the_store), "{:?}", record.classes);
    }

    #[test]
    fn a_hunt_that_ends_with_its_time_and_has_found_nothing_is_cut_short() {
        let text = format!(
            "mutant = 'election-needs-all'\n{CLEAN}[expect]\nverdict = 'violation'\nby = 'linearizable'\n"
        );
        let hunted = |seeds: Range<u64>, found: Option<u64>| {
            let shown = move |seed| match found {
                Some(at) if at == seed => vec![finding(CheckName::Linearizable, "so")],
                _ => Vec::new(),
            };
            // its time was up before it began
            let (record, _out) =
                hunted_until(Some(0), ("negative/w.toml", &text), seeds, shown, 1, Duration::ZERO);
            (record.seeds(), record.cut_short, crate::campaign::judge::judge(&record).0)
        };
        assert_eq!(hunted(0..5, None), (1, true, crate::campaign::Verdict::Undecided));
        assert_eq!(hunted(0..1, None), (1, false, crate::campaign::Verdict::Unexpected), "all were run");
        assert_eq!(hunted(0..5, Some(0)), (1, false, crate::campaign::Verdict::Expected));
    }

    #[test]
    fn a_kept_plan_has_its_shape_in_all_that_it_shows() {
        let folder = tempfile::tempdir().expect("a folder");
        let workload =
            crate::workload::parse(Path::new("w.toml"), CLEAN).unwrap_or_else(|told| panic!("{told}"));
        let mut plan = Plan::new(workload, 7);
        let text = whole_text(&plan).expect("a plan");
        std::fs::create_dir(folder.path().join("known")).expect("made");
        std::fs::write(folder.path().join("known/x.toml"), &text).expect("written");
        let cases = super::super::state::kept(folder.path()).expect("a plan");
        let out = tempfile::tempdir().expect("a folder");
        let means = Means { end: None, shrink: Duration::ZERO, jobs: 1, out: out.path().to_owned() };
        let mut record = Record { workload: cases[0].name(), ..Record::new(Mode::Simulation, false) };
        let findings =
            [finding(CheckName::LeaseSafety, "L5: one"), finding(CheckName::Linearizable, "a stale read")];
        let one = |seed| Outcome { seed, findings: findings.to_vec(), ..Outcome::default() };
        hunt_with(&cases[0], &(7..8), &means, &mut record, &one);
        let told: Vec<_> = record.classes.iter().map(|class| (&class.shape, &class.plan)).collect();
        assert_eq!(told, [(&Some(shape(&plan)), &Some(text.clone())), (&Some(shape(&plan)), &Some(text))]);
        // one that needs a record beside it is not kept without that
        plan.follows = Some(crate::replay::Follows::new(0, Vec::new(), crate::replay::Course::default()));
        assert_eq!(whole_text(&plan), None);
    }

    #[test]
    fn what_cannot_be_shrunk_is_told_everywhere() {
        // a second run of the plan does not show it: nothing can be left out
        let found = [finding(CheckName::Linearizable, "a stale read")];
        let (record, out) = hunted("w.toml", CLEAN, 3..4, |_| found.to_vec(), 0, Duration::from_secs(5));
        assert!(record.failed.is_some() && record.classes[0].shape.is_none(), "{record:?}");
        assert!(out.path().join(&record.classes[0].kept[0]).join(PLAN).exists());
        let line = table::line(&record);
        assert!(line.contains("linearizable") && line.ends_with('!'), "{line}");
        let records = [record];
        let told = table::unexpected(&records).join("\n");
        assert!(told.starts_with("linearizable (not shrunk): 1 seeds (w 3): a stale read"), "{told}");
        assert!(told.contains("again: harness sim --plans "), "{told}");
        let whole = table::Whole::of(&records, Ended::AllIsDone);
        assert_eq!(whole.exit_code, 1);
        let summary = markdown::summary(&records, &whole, &[]);
        assert!(summary.contains("| linearizable | not shrunk | 1 | w 3 | a stale read |"), "{summary}");
        assert!(summary.contains("| w | simulation | **not as expected**: a stale read | 1 |"), "{summary}");
        let path = out.path().join("junit.xml");
        junit::write(&path, &records).expect("written");
        let text = std::fs::read_to_string(path).expect("it is there");
        assert!(text.contains("failures=\"1\"") && text.contains("again: harness sim --plans "), "{text}");
    }

    #[test]
    fn what_fails_without_the_planted_bug_too_is_of_the_store_even_if_there_is_no_time_to_shrink() {
        // a statement that is false of any cluster, whether its bug does anything or not
        let text = format!(
            "mutant = 'election-needs-all'\n{CLEAN}[expect]\nverdict = 'violation'\nby = 'statements'\n\
             [[expect.that]]\nsays = 'leader-changes'\nat_least = 99\n"
        );
        let found = [finding(CheckName::Statements, "so")];
        let (record, out) = hunted("negative/w.toml", &text, 0..1, |_| found.to_vec(), 1, Duration::ZERO);
        let [class] = &record.classes[..] else { panic!("{record:?}") };
        assert!(class.of_the_store && !class.expected, "{class:?}");
        assert_eq!(crate::campaign::judge::judge(&record).0, crate::campaign::Verdict::Unexpected);
        assert!(out.path().join(&class.kept[0]).join(PLAN).exists(), "it is kept");
        let (record, _out) =
            hunted("negative/w.toml", &text.replace("99", "0"), 0..1, |_| found.to_vec(), 1, Duration::ZERO);
        assert!(record.classes[0].expected, "nothing is wrong without it: {:?}", record.classes);
    }

    #[test]
    fn what_is_found_where_the_planted_bug_is_not_reached_is_of_the_store() {
        assert!(is_of_the_store(Some(Mutant::AdoptByBallotOnly), 0));
        assert!(!is_of_the_store(Some(Mutant::AdoptByBallotOnly), 1));
        assert!(!is_of_the_store(Some(Mutant::AdoptByLengthOnly), 0), "it may not be counted");
        assert!(!is_of_the_store(None, 0), "no bug is planted");
    }
}
