//! `harness merge`: the shards of a campaign, put together.

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context, Result, ensure};
use clap::Args;

use super::{
    canary,
    finish::{self, Reports},
    list::Shard,
    record::{Campaign, Ended, Head},
    state::{News, State},
    table,
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
    say!("{}", table::head());
    for record in &campaign.records {
        say!("{}", table::line(record));
    }
    let mut news = Ok(News::default());
    if let (Some(mut state), Some(folder)) = (state, &arguments.state)
        && canary::problems(&campaign.records).is_empty()
    {
        news = state.take(&campaign, folder);
    }
    let (news, taken) = news.map_or_else(|error| (News::default(), Err(error)), |news| (news, Ok(())));
    remarks.extend(news.lines);
    let mut whole = finish::told(&campaign, &remarks);
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
            all.add(record)?;
        }
    }
    Ok((all, remarks))
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
    use crate::campaign::record::{Block, Mode, Record, VERSION};

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
