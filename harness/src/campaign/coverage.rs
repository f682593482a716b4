//! What the runs of a campaign contained, by name: what none of them ever did was not tried.

use std::collections::BTreeMap;

use crate::{
    sim::{Outcome, Stats},
    workload::Word,
};

/// Adds what these runs, with these totals, contained.
pub fn count(totals: &Stats, outcomes: &[Outcome], coverage: &mut BTreeMap<String, u64>) {
    let mut add = |name: String, times| *coverage.entry(name).or_default() += times;
    for (name, times) in of_totals(totals) {
        add(name.to_owned(), times);
    }
    for (fault, times) in outcomes.iter().flat_map(|outcome| &outcome.faults) {
        add(of_fault(fault), *times);
    }
}

/// What nothing of this has happened of all that might.
pub fn never<'a>(coverage: impl Iterator<Item = &'a BTreeMap<String, u64>>) -> Vec<String> {
    let mut all: BTreeMap<String, u64> = names().map(|name| (name, 0)).collect();
    for (name, times) in coverage.flatten() {
        *all.entry(name.clone()).or_default() += times;
    }
    all.into_iter().filter(|(_, times)| *times == 0).map(|(name, _)| name).collect()
}

/// All that might happen: every fault that a workload can ask for, and what is counted of each run.
fn names() -> impl Iterator<Item = String> {
    let counted = of_totals(&Stats::default()).map(|(name, _)| name.to_owned());
    counted.into_iter().chain(Word::ALL.iter().map(|word| of_fault(word.text())))
}

fn of_fault(word: &str) -> String {
    format!("fault {word}")
}

fn of_totals(totals: &Stats) -> [(&'static str, u64); 10] {
    [
        ("answered operations", totals.answered),
        ("refused operations", totals.failed),
        ("operations with unknown outcome", totals.unknown),
        ("fast reads", totals.fast_reads),
        ("fast reads near the end of a lease", totals.near_expiry),
        ("local reads", totals.local_reads),
        ("redirects", totals.redirects),
        ("operations asked again in a session", totals.asked_again),
        ("leader changes", totals.leader_changes),
        ("snapshots fetched", totals.snapshots_fetched),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_no_run_did_is_never_hit() {
        let mut coverage = BTreeMap::new();
        let totals = Stats { answered: 7, ..Stats::default() };
        let faults = [("kill".to_owned(), 2), ("pause".to_owned(), 0)];
        let outcome = Outcome { faults: faults.into(), ..Outcome::default() };
        count(&totals, &[outcome], &mut coverage);
        let never = never([&coverage].into_iter());
        let has = |name: &str| never.iter().any(|never| never == name);
        assert!(!has("answered operations") && !has("fault kill"), "{never:?}");
        assert!(has("fast reads") && has("fault pause") && has("fault isolate"), "{never:?}");
    }
}
