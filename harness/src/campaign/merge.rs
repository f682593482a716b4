//! `harness merge`: the shards of a campaign, put together.

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context, Result, ensure};
use clap::Args;

use super::{
    Verdict, canary,
    finish::Reports,
    judge::judge,
    list::Shard,
    record::{Campaign, Ended, Head, Mode, Note, Record},
    state::{News, State},
};
use crate::report::FAILED;

/// What to merge.
#[derive(Debug, Args)]
pub struct MergeArguments {
    /// Folders of the shards: what each campaign was told with --out.
    #[arg(required = true, value_name = "OUT")]
    folders: Vec<PathBuf>,
    /// Writes the campaign.json of all together here.
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// What campaigns know from one night to the next: takes these in.
    #[arg(long, value_name = "DIR")]
    state: Option<PathBuf>,
    #[command(flatten)]
    reports: Reports,
}

/// Merges what the command line says.
pub fn main(arguments: &MergeArguments) -> ExitCode {
    let load = |folder: &PathBuf| Ok((folder.clone(), Campaign::load(folder)?));
    let shards: Result<Vec<_>> = arguments.folders.iter().map(load).collect();
    let state = arguments.state.as_deref().map(State::load).transpose();
    let merged = state.and_then(|state| {
        let merged = merge(shards?)?;
        if let Some(state) = &state {
            is_that_of_the_shards(state, &merged.0)?;
        }
        Ok((merged, state))
    });
    let ((campaign, mut remarks), state) = match merged {
        Ok(merged) => merged,
        Err(error) => {
            eprintln!("error: {error:#}");
            return ExitCode::from(2);
        }
    };
    arguments.reports.head();
    for record in &campaign.records {
        arguments.reports.row(record, "");
    }
    let mut news = Ok(News::default());
    if let (Some(mut state), Some(folder)) = (state, &arguments.state)
        && canary::problems(&campaign.records).is_empty()
    {
        news = state.take(&campaign, folder);
    }
    let (news, taken) = news.map_or_else(|error| (News::default(), Err(error)), |news| (news, Ok(())));
    remarks.extend(news.lines);
    let mut whole = arguments.reports.told(&campaign, &remarks);
    if news.flaky {
        whole = whole.or_worse(FAILED);
    }
    let written = taken.and(arguments.out.as_ref().map_or(Ok(()), |out| campaign.write(out)));
    if let Err(error) = written.and_then(|()| arguments.reports.write(&campaign, &remarks)) {
        eprintln!("error: {error:#}");
        whole = whole.or_worse(FAILED);
    }
    say!("{whole}");
    ExitCode::from(whole.exit_code)
}

/// What is new and what is known depends on what the shards began with.
fn is_that_of_the_shards(state: &State, campaign: &Campaign) -> Result<()> {
    ensure!(
        state.has(campaign) || campaign.head.state == Some(state.digest()?),
        "the shards had another state, or none: give --state the folder that they had, as it was then"
    );
    Ok(())
}

/// All shards together, and what of them is missing.
fn merge(mut shards: Vec<(PathBuf, Campaign)>) -> Result<(Campaign, Vec<String>)> {
    shards.sort_by_key(|(_, campaign)| campaign.head.shard.number);
    for pair in shards.windows(2) {
        belong_together(&pair[0], &pair[1])?;
    }
    let (folder, first) = shards.first().context("there is nothing to merge")?;
    ensure!(first.head.shard.number > 0, "{} is merged already", folder.display());
    let of = first.head.shard.of;
    let numbers: Vec<u64> = shards.iter().map(|(_, campaign)| campaign.head.shard.number).collect();
    let missing = (1..=of).filter(|number| !numbers.contains(number));
    let missing = missing.map(|number| format!("shard {number}/{of} is missing"));
    let killed = shards.iter().filter(|(_, campaign)| campaign.ended == Ended::NotYet);
    let killed = killed.map(|(_, campaign)| format!("shard {} is not at its end", campaign.head.shard));
    let mut remarks: Vec<String> = missing.chain(killed).collect();
    let ended = shards.iter().map(|(_, campaign)| campaign.ended);
    let in_time = ended.clone().all(|ended| ended == Ended::AllIsDone);
    let ended = match (remarks.is_empty(), in_time) {
        (false, _) => Ended::NotYet,
        (true, true) => Ended::AllIsDone,
        (true, false) => Ended::TimeIsUp,
    };
    if ended == Ended::TimeIsUp && of > 1 {
        remarks.push("how far each shard got depends on its machine".to_owned());
    }
    let head = Head { shard: Shard { number: 0, of }, ..first.head.clone() };
    let mut all = Campaign {
        version: first.version,
        head,
        ended,
        next: 0,
        next_real: 0,
        took_ms: 0,
        texts: first.texts.clone(),
        records: Vec::new(),
    };
    for (_, campaign) in shards {
        all.next = all.next.max(campaign.next);
        all.next_real = all.next_real.max(campaign.next_real);
        all.took_ms = all.took_ms.max(campaign.took_ms);
        for record in campaign.records {
            add(&mut all, record, campaign.head.shard)?;
        }
    }
    Ok((all, remarks))
}

/// Adds what a shard has found out about a workload.
fn add(all: &mut Campaign, mut record: Record, shard: Shard) -> Result<()> {
    let Record { workload, mode, negative, mutant, .. } = record.clone();
    let whole = all.record(Record { workload, mutant, ..Record::new(mode, negative) });
    if mode == Mode::Canary {
        add_canary(whole, record, shard);
        return Ok(());
    }
    for block in &record.blocks {
        let both = whole.blocks.iter().any(|other| other.first == block.first);
        ensure!(!both, "two shards have run seed {} of {}", block.first, record.workload);
    }
    // they lie in the folder of the shard, and its own file names them
    record.classes.iter_mut().for_each(|class| class.kept.clear());
    whole.and(record);
    Ok(())
}

/// Every shard runs the same canaries: all must live, and all must have gone the same way.
fn add_canary(whole: &mut Record, record: Record, shard: Shard) {
    let seed = record.blocks.first().map_or(0, |block| block.first);
    let (verdict, words) = judge(&record);
    if whole.blocks.is_empty() {
        *whole = record;
    } else if whole.blocks != record.blocks {
        whole.failed(Note { seed, words: format!("it went another way in shard {shard} than in others") });
    }
    if verdict != Verdict::Expected {
        whole.failed(Note { seed, words: format!("in shard {shard}: {words}") });
    }
}

/// Two shards, in the order of their numbers.
fn belong_together(one: &(PathBuf, Campaign), other: &(PathBuf, Campaign)) -> Result<()> {
    let names = |folder: &Path| folder.display().to_string();
    let (one_name, other_name) = (names(&one.0), names(&other.0));
    let (head, next) = (&one.1.head, &other.1.head);
    ensure!(head.shard != next.shard, "{one_name} and {other_name} are both shard {}", head.shard);
    let number = if head.shard.of == next.shard.of { next.shard.number } else { head.shard.number };
    let alike = Head { shard: Shard { number, ..head.shard }, ..head.clone() };
    let differs = alike.differs(next);
    ensure!(
        differs.is_empty(),
        "{one_name} and {other_name} are not shards of one campaign ({})",
        differs.join(", ")
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::campaign::{
        record::{Block, Class, VERSION},
        table,
    };

    fn shard(number: u64, of: u64, first: u64) -> (PathBuf, Campaign) {
        let head = Head {
            program: "commit 7".to_owned(),
            shard: Shard { number, of },
            seeds: (0, 100),
            workloads: "0".to_owned(),
            state: None,
        };
        let block = Block { first, seeds: 2, fingerprint: format!("{first:016x}") };
        let record = Record {
            workload: "w".to_owned(),
            blocks: vec![block],
            took_ms: 10,
            ..Record::new(Mode::Simulation, false)
        };
        let campaign = Campaign {
            version: VERSION,
            head,
            ended: Ended::AllIsDone,
            next: number,
            next_real: 0,
            took_ms: 5,
            texts: [].into(),
            records: vec![record],
        };
        (PathBuf::from(format!("out-{number}")), campaign)
    }

    fn refused(shards: Vec<(PathBuf, Campaign)>) -> String {
        merge(shards).map_or_else(|error| format!("{error:#}"), |_| "merged".to_owned())
    }

    #[test]
    fn shards_are_put_together_whatever_their_order() {
        let (all, remarks) = merge(vec![shard(2, 2, 2), shard(1, 2, 0)]).expect("they belong together");
        assert!(remarks.is_empty(), "{remarks:?}");
        assert_eq!(all.ended, Ended::AllIsDone);
        let blocks: Vec<u64> = all.records[0].blocks.iter().map(|block| block.first).collect();
        assert_eq!((all.records.len(), blocks), (1, vec![0, 2]));
    }

    #[test]
    fn a_missing_shard_is_named_and_the_whole_is_not_at_its_end() {
        let (all, remarks) = merge(vec![shard(1, 3, 0), shard(3, 3, 4)]).expect("they belong together");
        assert_eq!((all.ended, remarks), (Ended::NotYet, vec!["shard 2/3 is missing".to_owned()]));
        let mut killed = shard(2, 2, 2);
        killed.1.ended = Ended::NotYet;
        let (all, remarks) = merge(vec![shard(1, 2, 0), killed]).expect("they belong together");
        assert_eq!((all.ended, remarks), (Ended::NotYet, vec!["shard 2/2 is not at its end".to_owned()]));
    }

    #[test]
    fn a_canary_that_fails_in_any_shard_fails() {
        let canary = |negative, found: bool, fingerprint: &str| {
            let blocks = vec![Block { first: 0, seeds: 1, fingerprint: fingerprint.to_owned() }];
            let mut record =
                Record { workload: "canary/c".to_owned(), blocks, ..Record::new(Mode::Canary, negative) };
            if found {
                let kind = "linearizable".to_owned();
                record.found(Class {
                    kind,
                    expected: negative,
                    count: 1,
                    seeds: vec![0],
                    ..Class::default()
                });
            }
            record
        };
        let problems = |canaries: [Record; 3]| {
            let shards = canaries.into_iter().zip(1..).map(|(canary, number)| {
                let (folder, mut shard) = shard(number, 3, number * 2);
                shard.records.push(canary);
                (folder, shard)
            });
            let (all, _) = merge(shards.collect()).expect("they belong together");
            let whole = table::Whole::of(&all.records, all.ended);
            (canary::problems(&all.records), whole.exit_code)
        };
        let lives = || canary(true, true, "a");
        assert_eq!(problems([lives(), lives(), lives()]), (vec![], 0));
        let blind = canary(true, false, "a");
        for place in 0..3 {
            let mut all = [lives(), lives(), lives()];
            all[place] = blind.clone();
            let (problems, exit_code) = problems(all);
            let words = format!("in shard {}/3: nothing was found in 1 seeds", place + 1);
            assert!(problems.len() == 1 && problems[0].contains(&words), "{problems:?}");
            assert_eq!(exit_code, FAILED);
        }
        let clean = || canary(false, false, "a");
        let (problems_of_alarm, exit_code) = problems([clean(), clean(), canary(false, true, "a")]);
        assert_eq!((problems_of_alarm.len(), exit_code), (1, FAILED), "what is clean is called a violation");
        let (other, exit_code) = problems([lives(), canary(true, true, "b"), lives()]);
        assert!(other[0].contains("went another way in shard 2/3"), "{other:?}");
        assert_eq!(exit_code, FAILED);
    }

    #[test]
    fn the_state_must_be_the_one_that_the_shards_had() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut state = State::load(folder.path()).expect("there is none");
        let mut shard = shard(1, 1, 0);
        let refused = |state: &State, campaign: &Campaign| is_that_of_the_shards(state, campaign).is_err();
        assert!(refused(&state, &shard.1), "they had none");
        shard.1.head.state = Some(state.digest().expect("JSON"));
        let (campaign, _) = merge(vec![shard]).expect("one");
        assert!(!refused(&state, &campaign));
        state.take(&campaign, folder.path()).expect("taken in");
        assert!(!refused(&state, &campaign), "it is taken in once, however often it is merged");
        let other = Campaign { head: Head { seeds: (100, 200), ..campaign.head.clone() }, ..campaign };
        assert!(refused(&state, &other), "it has changed since");
    }

    #[test]
    fn what_does_not_belong_together_is_refused() {
        assert_eq!(
            refused(vec![shard(1, 2, 0), shard(2, 3, 2)]),
            "out-1 and out-2 are not shards of one campaign (shard 1/2 and not 2/3)"
        );
        assert_eq!(refused(vec![shard(1, 2, 0), shard(1, 2, 0)]), "out-1 and out-1 are both shard 1/2");
        assert!(refused(vec![shard(1, 2, 0), shard(2, 2, 0)]).contains("seed 0 of w"), "both ran it");
        let changed = |change: fn(&mut Head)| {
            let mut other = shard(2, 2, 2);
            change(&mut other.1.head);
            refused(vec![shard(1, 2, 0), other])
        };
        assert!(changed(|head| head.program = "commit 8".to_owned()).contains("commit 7 and not commit 8"));
        assert!(changed(|head| head.seeds = (0, 9)).contains("seeds 0..100 and not 0..9"));
        assert!(
            changed(|head| head.workloads = "1".to_owned()).contains("other workloads, or texts of them")
        );
        let (merged, _) = merge(vec![shard(1, 1, 0)]).expect("one");
        assert_eq!(refused(vec![("all".into(), merged)]), "all is merged already");
    }
}
