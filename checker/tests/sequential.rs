//! Sequential consistency with the log as the witness: what it allows, and each way to break it.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use checker::{
    history::{Function, History, Key, Kind, OpResult, Range, Record},
    linearizability::{self, Budget},
    sequential::{Report, Rule, Verdict, check},
};
use support::Recorder;

const KEY: Key = Key::Integer(1);

fn recorder() -> Recorder {
    let mut recorder = Recorder::new(vec![(KEY, "first".to_owned())]);
    let Record::Header(header) = &mut recorder.records[0] else { unreachable!("the first record") };
    header.partitions = vec![Range { partition: 1, lower: None, upper: None }];
    recorder
}

fn judged(recorder: &Recorder) -> Report {
    check(&History::from_records(recorder.records.iter().cloned()).unwrap())
}

fn get() -> Function {
    Function::Get { key: KEY }
}

fn put(value: &str) -> Function {
    Function::Put { key: KEY, value: value.to_owned() }
}

fn cas(expected: &str, new: &str) -> Function {
    Function::Cas { key: KEY, expected: Some(expected.to_owned()), new: new.to_owned() }
}

/// An answer that reflects so much of the log, and the key's version there.
fn answer(returned: Option<&str>, swapped: Option<bool>, version: u64, index: u64) -> OpResult {
    OpResult { version, index: Some(index), ..support::result(returned.map(str::to_owned), swapped) }
}

trait Story {
    fn asks(&mut self, client: u64, function: Function, result: OpResult);
    fn reads(&mut self, client: u64, value: &str, version: u64, index: u64);
    fn writes(&mut self, client: u64, value: &str, index: u64);
    fn may_ask(&mut self, client: u64, function: Function);
}

impl Story for Recorder {
    fn asks(&mut self, client: u64, function: Function, result: OpResult) {
        self.event(client, Kind::Invoke, function.clone(), None);
        self.event(client, Kind::Ok, function, Some(result));
    }

    fn reads(&mut self, client: u64, value: &str, version: u64, index: u64) {
        let result = OpResult { local: true, ..answer(Some(value), None, version, index) };
        self.asks(client, get(), result);
    }

    fn writes(&mut self, client: u64, value: &str, index: u64) {
        self.asks(client, put(value), answer(None, None, index, index));
    }

    fn may_ask(&mut self, client: u64, function: Function) {
        self.event(client, Kind::Invoke, function.clone(), None);
        self.event(client, Kind::Info, function, None);
    }
}

/// A history in which client 2 reads at a replica that lags behind: allowed, though not linearizable.
fn lagging() -> Recorder {
    let mut recorder = recorder();
    recorder.reads(2, "first", 0, 0);
    recorder.writes(1, "a", 1);
    recorder.writes(1, "b", 2);
    recorder.reads(2, "a", 1, 1);
    recorder.reads(1, "b", 2, 2);
    recorder.reads(2, "b", 2, 3);
    recorder
}

fn broken(recorder: &Recorder) -> Vec<Rule> {
    let report = judged(recorder);
    assert_eq!(report.verdict(), Verdict::Violation, "{report:#?}");
    report.violations.iter().map(|violation| violation.rule).collect()
}

#[test]
fn a_replica_that_lags_behind_is_allowed_here_and_only_here() {
    let recorder = lagging();
    let report = judged(&recorder);
    assert_eq!(report.verdict(), Verdict::Valid, "{report:#?}");
    assert_eq!((report.local_reads, report.stale_reads, report.sessions), (4, 1, 2));
    let history = History::from_records(recorder.records).unwrap();
    let linearizable = linearizability::check(&history, Budget::default()).verdict();
    assert!(matches!(linearizable, linearizability::Verdict::Violation(_)), "{linearizable:?}");
}

#[test]
fn a_session_that_goes_back_is_found() {
    let mut recorder = lagging();
    recorder.reads(2, "a", 1, 1);
    assert_eq!(broken(&recorder), [Rule::Session]);
}

#[test]
fn an_own_write_that_is_not_seen_is_found() {
    let mut recorder = lagging();
    recorder.writes(2, "c", 4);
    recorder.reads(2, "b", 2, 3);
    assert_eq!(broken(&recorder), [Rule::Session]);
}

#[test]
fn a_value_that_nobody_wrote_is_found() {
    let mut recorder = lagging();
    recorder.reads(3, "never", 3, 3);
    assert_eq!(broken(&recorder), [Rule::Value]);
    // one that failed was not written either
    let mut recorder = lagging();
    recorder.event(3, Kind::Invoke, put("refused"), None);
    recorder.event(3, Kind::Fail, put("refused"), None);
    recorder.reads(4, "refused", 3, 3);
    assert_eq!(broken(&recorder), [Rule::Value]);
}

#[test]
fn a_value_of_another_index_is_found() {
    let mut recorder = lagging();
    recorder.reads(3, "a", 2, 2);
    assert_eq!(broken(&recorder), [Rule::Value], "version 2 left another value");
    let mut recorder = lagging();
    recorder.reads(3, "a", 1, 2);
    assert_eq!(broken(&recorder), [Rule::Value], "version 2 was there by then");
    let mut recorder = lagging();
    recorder.reads(3, "b", 2, 1);
    assert_eq!(broken(&recorder), [Rule::Log], "version 2 was not there yet");
}

#[test]
fn a_read_of_what_nobody_had_asked_for_yet_is_found() {
    let mut recorder = recorder();
    recorder.reads(2, "a", 1, 1);
    recorder.writes(1, "a", 1);
    assert_eq!(broken(&recorder), [Rule::RealTime]);
    let mut recorder = lagging();
    recorder.reads(2, "later", 4, 4);
    recorder.may_ask(1, put("later"));
    assert_eq!(broken(&recorder), [Rule::Value]);
}

#[test]
fn writes_respect_real_time_and_have_an_entry_each() {
    let mut recorder = lagging();
    recorder.writes(3, "c", 5);
    recorder.writes(4, "d", 4);
    assert_eq!(broken(&recorder), [Rule::RealTime]);
    let mut recorder = lagging();
    recorder.event(3, Kind::Invoke, put("c"), None);
    recorder.event(4, Kind::Invoke, put("d"), None);
    recorder.event(3, Kind::Ok, put("c"), Some(answer(None, None, 4, 4)));
    recorder.event(4, Kind::Ok, put("d"), Some(answer(None, None, 4, 4)));
    assert_eq!(broken(&recorder), [Rule::Log]);
}

#[test]
fn a_swap_is_held_against_the_version_before_it() {
    let swap = |expected: &str| {
        let mut recorder = lagging();
        recorder.asks(3, cas(expected, "c"), answer(None, Some(true), 4, 4));
        recorder
    };
    assert_eq!(judged(&swap("b")).verdict(), Verdict::Valid);
    assert_eq!(broken(&swap("a")), [Rule::Value]);
    let refused = |seen: &str, version: u64| {
        let mut recorder = lagging();
        recorder.asks(3, cas("b", "c"), answer(Some(seen), Some(false), version, 4));
        recorder
    };
    assert_eq!(broken(&refused("b", 2)), [Rule::Value], "it held what was expected");
    assert_eq!(broken(&refused("a", 1)), [Rule::Value], "it held something else");
}

#[test]
fn a_write_of_which_nobody_knows_may_be_seen_under_one_version() {
    let seen = |versions: &[u64]| {
        let mut recorder = lagging();
        recorder.may_ask(5, put("maybe"));
        for (version, client) in versions.iter().zip(6..) {
            recorder.reads(client, "maybe", *version, *version);
        }
        recorder
    };
    assert_eq!(judged(&seen(&[])).verdict(), Verdict::Valid);
    assert_eq!(judged(&seen(&[4, 4])).verdict(), Verdict::Valid);
    assert_eq!(broken(&seen(&[4, 5])), [Rule::Value], "it was written once");
    assert_eq!(broken(&seen(&[1])), [Rule::Value], "entry 1 is another's");
    let mut behind = seen(&[]);
    behind.asks(6, cas("maybe", "c"), answer(None, Some(true), 5, 5));
    assert_eq!(judged(&behind).verdict(), Verdict::Valid, "nobody has read it, a swap has");
    behind.reads(7, "maybe", 6, 6);
    assert_eq!(broken(&behind), [Rule::Value], "it is spent");
}

/// Both are asked for while a leader dies, the swap first: what it expects may have come about after it was asked for, but not after
/// its outcome was seen.
#[test]
fn an_unknown_swap_may_find_what_was_asked_for_later() {
    let story = |asked_late: bool| {
        let mut recorder = lagging();
        recorder.event(5, Kind::Invoke, cas("maybe", "c"), None);
        if !asked_late {
            recorder.event(6, Kind::Invoke, put("maybe"), None);
        }
        recorder.event(5, Kind::Info, cas("maybe", "c"), None);
        recorder.reads(7, "c", 5, 5);
        if asked_late {
            recorder.event(6, Kind::Invoke, put("maybe"), None);
        }
        recorder.event(6, Kind::Info, put("maybe"), None);
        recorder
    };
    assert_eq!(judged(&story(false)).verdict(), Verdict::Valid);
    assert_eq!(broken(&story(true)), [Rule::Value], "the swap was seen before");
}

#[test]
fn a_choice_among_unknown_writes_that_are_alike_decides_nothing() {
    let delete = || Function::Delete { key: KEY };
    let absent = |version: u64| OpResult { local: true, ..answer(None, None, version, version) };
    let mut recorder = lagging();
    recorder.may_ask(5, delete());
    recorder.event(6, Kind::Invoke, get(), None);
    recorder.may_ask(7, delete());
    recorder.event(6, Kind::Ok, get(), Some(absent(5)));
    recorder.asks(8, get(), absent(4));
    assert_eq!(judged(&recorder).verdict(), Verdict::Valid);
    recorder.asks(9, get(), absent(6));
    assert_eq!(
        judged(&recorder).verdict(),
        Verdict::Unknown,
        "three versions of two deletions, after a choice"
    );
}

#[test]
fn without_indices_or_partitions_nothing_is_decided() {
    let mut recorder = lagging();
    for record in &mut recorder.records {
        if let Record::Op(op) = record
            && let Some(result) = &mut op.result
        {
            result.index = None;
        }
    }
    assert_eq!(judged(&recorder).verdict(), Verdict::Unknown);
    let mut recorder = lagging();
    let Record::Header(header) = &mut recorder.records[0] else { unreachable!("the first record") };
    header.partitions.clear();
    assert_eq!(judged(&recorder).verdict(), Verdict::Unknown);
}

/// A small generator of its own, so that the histories stay the same for ever.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % bound
    }
}

/// A log that clients append to and replicas follow at their own pace.
fn random(random: &mut Random) -> Recorder {
    let mut recorder = recorder();
    let mut log = vec![(0, Some("first".to_owned()))];
    let mut seen = [0; 4];
    for number in 0..60 {
        let client = random.below(4);
        let index = log.len() as u64;
        let (version, held) = log.last().cloned().unwrap();
        match random.below(5) {
            0 => {
                let value = format!("v{number}");
                recorder.writes(client, &value, index);
                log.push((index, Some(value)));
            }
            1 => {
                let (expected, new) = (held.clone().unwrap(), format!("v{number}"));
                recorder.asks(client, cas(&expected, &new), answer(None, Some(true), index, index));
                log.push((index, Some(new)));
            }
            2 => {
                let result = answer(held.as_deref(), Some(false), version, index);
                recorder.asks(client, cas("nothing of this kind", "new"), result);
                log.push((version, held));
            }
            _ => {
                let at = seen[client as usize] + random.below(index - seen[client as usize]);
                let (version, held) = log[at as usize].clone();
                recorder.reads(client, &held.unwrap(), version, at);
                seen[client as usize] = at;
                continue;
            }
        }
        seen[client as usize] = index;
    }
    recorder
}

#[test]
fn random_logs_are_valid_and_what_is_changed_in_an_answer_is_found() {
    for seed in 0..200 {
        let mut rng = Random(seed);
        let recorder = random(&mut rng);
        let report = judged(&recorder);
        assert_eq!(report.verdict(), Verdict::Valid, "seed {seed}: {report:#?}");
        let reads: Vec<usize> = (0..recorder.records.len())
            .filter(|place| match &recorder.records[*place] {
                Record::Op(op) => op.result.as_ref().is_some_and(|result| result.local),
                _ => false,
            })
            .collect();
        let place = reads[rng.below(reads.len() as u64) as usize];
        for change in 0..3 {
            let mut changed = self::recorder();
            changed.records = recorder.records.clone();
            let Record::Op(op) = &mut changed.records[place] else { unreachable!("a read") };
            let result = op.result.as_mut().unwrap();
            match change {
                0 => result.returned = Some("v999".to_owned()),
                1 => result.version += 1,
                _ => result.index = Some(result.version + 1000),
            }
            let last = log_end(&recorder);
            let still_last = change == 2 && op.result.as_ref().unwrap().version == last;
            if !still_last {
                assert_eq!(judged(&changed).verdict(), Verdict::Violation, "seed {seed}, change {change}");
            }
        }
    }
}

/// The last version of the key.
fn log_end(recorder: &Recorder) -> u64 {
    let versions = recorder.records.iter().filter_map(|record| match record {
        Record::Op(op) => op.result.as_ref().map(|result| result.version),
        _ => None,
    });
    versions.max().unwrap_or_default()
}
