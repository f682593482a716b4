//! What the record of a workload comes to.

use std::collections::BTreeSet;

use super::{
    Verdict,
    record::{Class, Mode, Note, Record},
};
use crate::report::NEVER_REACHED;

/// Whether that is what the workload expects, and why.
pub fn judge(record: &Record) -> (Verdict, String) {
    let Record { negative, reached, undecided, .. } = *record;
    let (seeds, planted) = (record.seeds(), record.mutant.is_some());
    let because = record
        .why
        .as_ref()
        .map_or_else(String::new, |Note { seed, words }| format!("; seed {seed}: {words}"));
    match (record.shown(), &record.failed) {
        (Some(found), _) if !negative => {
            let others = record.failing.saturating_sub(1);
            let others = if others > 0 { format!("; {others} other seeds fail, too") } else { String::new() };
            (Verdict::Unexpected, format!("{}{}{others}", found.words, also(record, found)))
        }
        (Some(found), _) if found.of_the_store => (
            Verdict::Unexpected,
            format!("the planted bug has no part in it: {}{}", found.words, also(record, found)),
        ),
        (Some(found), _) if !found.expected => (
            Verdict::Unexpected,
            format!("not the violation that is expected: {}{}", found.words, also(record, found)),
        ),
        (_, Some(failed)) => (Verdict::Failed, format!("seed {}: {}", failed.seed, failed.words)),
        (Some(found), None) => (Verdict::Expected, found.words.clone()),
        (None, None) if planted && reached == 0 => {
            (Verdict::Undecided, format!("{NEVER_REACHED} in {seeds} seeds"))
        }
        (None, None) if undecided == seeds || undecided > 0 && !negative => {
            (Verdict::Undecided, format!("{undecided} of {seeds} seeds undecided{because}"))
        }
        // how processes interleave is nobody's choice
        (None, None) if negative && record.mode == Mode::Real => {
            (Verdict::Undecided, format!("nothing was found in {seeds} runs on real processes"))
        }
        (None, None) if record.cut_short => {
            (Verdict::Undecided, format!("nothing was found in {seeds} seeds until its time was up"))
        }
        (None, None) if negative => (Verdict::Unexpected, format!("nothing was found in {seeds} seeds")),
        (None, None) => (Verdict::Expected, format!("nothing is wrong in {seeds} seeds")),
    }
}

/// What else was found that is not expected.
fn also(record: &Record, found: &Class) -> String {
    let others = record.classes.iter().filter(|class| !class.expected && class.kind != found.kind);
    let kinds: BTreeSet<&str> = others.map(|class| class.kind.as_str()).collect();
    if kinds.is_empty() {
        return String::new();
    }
    format!("; also {}", kinds.into_iter().collect::<Vec<_>>().join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::campaign::record::Block;

    /// So many seeds, of which so many are undecided.
    fn record(negative: bool, planted: bool, seeds: u64, undecided: u64, reached: u64) -> Record {
        Record {
            workload: "w".to_owned(),
            mode: Mode::Simulation,
            negative,
            mutant: planted.then(|| "bug".to_owned()),
            reached,
            blocks: vec![Block { first: 0, seeds, fingerprint: String::new() }],
            undecided,
            why: None,
            failed: None,
            failing: 0,
            classes: Vec::new(),
            coverage: [].into(),
            cut_short: false,
            took_ms: 0,
        }
    }

    fn with(mut record: Record, expected: bool) -> Record {
        record.found(Class {
            kind: if expected { "linearizable" } else { "progress" }.to_owned(),
            expected,
            count: 1,
            seeds: vec![0],
            words: "so".to_owned(),
            ..Class::default()
        });
        record
    }

    fn broken(mut record: Record) -> Record {
        record.failed(Note { seed: 0, words: "so".to_owned() });
        record
    }

    fn verdict(record: &Record) -> Verdict {
        judge(record).0
    }

    #[test]
    fn a_planted_bug_must_be_reached_and_found() {
        let bug = |seeds, undecided, reached| record(true, true, seeds, undecided, reached);
        assert_eq!(verdict(&with(bug(2, 0, 2), true)), Verdict::Expected);
        assert_eq!(verdict(&bug(1, 0, 1)), Verdict::Unexpected);
        assert_eq!(verdict(&bug(1, 0, 0)), Verdict::Undecided, "it was never reached");
        assert_eq!(verdict(&bug(1, 1, 1)), Verdict::Undecided);
        assert_eq!(verdict(&bug(2, 1, 1)), Verdict::Unexpected, "one seed is decided");
        let cut_short = |found: bool| {
            let record = Record { cut_short: true, ..bug(2, 0, 1) };
            if found { with(record, false) } else { record }
        };
        assert_eq!(verdict(&cut_short(false)), Verdict::Undecided, "other seeds were to come");
        assert_eq!(verdict(&cut_short(true)), Verdict::Unexpected);
        assert_eq!(verdict(&broken(bug(1, 0, 1))), Verdict::Failed);
        assert_eq!(verdict(&broken(with(bug(1, 0, 1), true))), Verdict::Failed);
        // what nobody expects is a violation, whether the bug was reached or not
        for reached in [0, 1] {
            assert_eq!(verdict(&with(bug(1, 0, reached), false)), Verdict::Unexpected);
            assert_eq!(verdict(&broken(with(bug(1, 0, reached), false))), Verdict::Unexpected);
            assert_eq!(verdict(&with(with(bug(2, 0, reached), false), true)), Verdict::Expected);
        }
    }

    #[test]
    fn a_violation_of_the_store_outweighs_what_is_expected() {
        let mut both = with(record(true, true, 2, 0, 1), true);
        let found = Class { expected: false, of_the_store: true, seeds: vec![1], ..both.classes[0].clone() };
        both.found(found);
        assert_eq!(both.classes.len(), 2);
        assert_eq!(judge(&both), (Verdict::Unexpected, "the planted bug has no part in it: so".to_owned()));
        assert_eq!(verdict(&broken(both)), Verdict::Unexpected);
    }

    #[test]
    fn a_clean_workload_must_be_clean_and_decided_in_every_seed() {
        let clean = |seeds, undecided| record(false, false, seeds, undecided, 0);
        assert_eq!(verdict(&clean(1, 0)), Verdict::Expected);
        assert_eq!(verdict(&clean(2, 1)), Verdict::Undecided);
        assert_eq!(verdict(&with(clean(2, 1), false)), Verdict::Unexpected);
        assert_eq!(verdict(&broken(clean(2, 0))), Verdict::Failed);
        assert_eq!(verdict(&broken(with(clean(2, 0), false))), Verdict::Unexpected);
        assert_eq!(verdict(&clean(0, 0)), Verdict::Undecided, "nothing was run");
        assert_eq!(verdict(&record(false, true, 1, 0, 0)), Verdict::Undecided, "a control");
    }

    #[test]
    fn of_many_failing_seeds_the_lowest_is_shown() {
        let mut record = with(record(false, false, 9, 0, 0), false);
        record.failing = 3;
        record.found(Class { seeds: vec![4, 6], count: 2, ..record.classes[0].clone() });
        assert_eq!(record.classes[0].seeds, [0, 4, 6]);
        assert_eq!(judge(&record).1, "so; 2 other seeds fail, too");
    }
}
