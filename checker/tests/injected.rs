//! Lies that are planted in long sound histories: every one is found, and told by a few operations.
//!
//! `CHECKER_CASES` lies of each kind.

mod support;

use checker::history::{Function, History, Key, Kind, Op, OpResult, Record};
use checker::linearizability::{Budget, Verdict, check};
use support::runs::{Shape, recorded};
use support::{Random, result};

/// What is wrong with an answer.
#[derive(Clone, Copy, Debug)]
enum Lie {
    /// A read returns a value that had been overwritten before it began.
    Stale,
    /// A write is acknowledged, and nothing of it is there when it is read afterwards.
    Lost,
    /// A read returns what nobody wrote.
    Invented,
    /// Two reads, one after the other, see two writes in one order, two others in the other.
    BackAndForth,
    /// Two swaps of one value succeed.
    SwappedTwice,
    /// A swap fails that saw what it expected.
    RefusedAMatch,
}

/// Appends a client that does one thing after the other, behind everything else.
struct Tail<'a> {
    records: &'a mut Vec<Record>,
    process: u64,
    time: u64,
}

impl<'a> Tail<'a> {
    fn of(records: &'a mut Vec<Record>) -> Self {
        let time = records.len() as u64 * 10 + 1000;
        Self { records, process: 1_000_000, time }
    }

    fn event(&mut self, process: u64, kind: Kind, function: &Function, result: Option<OpResult>) {
        self.time += 10;
        let (function, error, trip) = (function.clone(), None, checker::history::Trip::default());
        let (time, client, node) = (self.time, process, 1);
        self.records.push(Record::Op(Op {
            time,
            process,
            client,
            node,
            kind,
            function,
            result,
            error,
            trip,
        }));
    }

    fn done(&mut self, function: &Function, returned: Option<&str>, swapped: Option<bool>) {
        let answer = result(returned.map(str::to_owned), swapped);
        self.event(self.process, Kind::Invoke, function, None);
        self.event(self.process, Kind::Ok, function, Some(answer));
    }

    fn put(&mut self, key: &Key, value: &str) {
        self.done(&Function::Put { key: key.clone(), value: value.to_owned() }, None, None);
    }

    fn read(&mut self, key: &Key, value: Option<&str>) {
        self.done(&Function::Get { key: key.clone() }, value, None);
    }

    fn swap(&mut self, key: &Key, expected: &str, new: &str, saw: Option<&str>) {
        let function =
            Function::Cas { key: key.clone(), expected: Some(expected.to_owned()), new: new.to_owned() };
        self.done(&function, saw, Some(saw.is_none()));
    }
}

/// Somewhere in the last part of the history a client does something that nothing can explain. The rest goes on around it:
/// each step
/// of it is moved back to a place of its own among the other events.
fn plant(records: &mut Vec<Record>, lie: Lie, alone: bool, random: &mut Random) {
    // on a key of its own it is the only thing wrong; among others it is not alone
    let key = Key::Integer(if alone { 77 } else { random.below(5) as i64 });
    let sound = records.len();
    let mut tail = Tail::of(records);
    match lie {
        Lie::Stale => {
            tail.put(&key, "one");
            tail.put(&key, "two");
            tail.read(&key, Some("one"));
        }
        Lie::Lost => {
            let key = Key::Integer(77);
            tail.put(&key, "one");
            tail.read(&key, None);
        }
        Lie::Invented => tail.read(&key, Some("nobody's")),
        Lie::BackAndForth => {
            let write = |value: &str| Function::Put { key: key.clone(), value: value.to_owned() };
            let both = [(2_000_000, write("one")), (2_000_001, write("two"))];
            for (process, write) in &both {
                tail.event(*process, Kind::Invoke, write, None);
            }
            for value in ["one", "two", "one"] {
                tail.read(&key, Some(value));
            }
            let answer = |(process, write): &(u64, Function)| (*process, write.clone());
            for (process, write) in both.iter().map(answer) {
                tail.event(process, Kind::Ok, &write, Some(result(None, None)));
            }
        }
        Lie::SwappedTwice => {
            tail.put(&key, "one");
            tail.swap(&key, "one", "two", None);
            tail.swap(&key, "one", "three", None);
        }
        Lie::RefusedAMatch => {
            tail.put(&key, "one");
            tail.swap(&key, "one", "two", Some("one"));
        }
    }
    interleave(records, sound, random);
}

/// Moves the events behind `sound` back among those before, in their order, and gives all events new times.
fn interleave(records: &mut Vec<Record>, sound: usize, random: &mut Random) {
    let planted = records.split_off(sound);
    let mut places: Vec<usize> =
        planted.iter().map(|_| sound - random.below(sound as u64 / 5) as usize).collect();
    places.sort_unstable();
    for (record, place) in planted.into_iter().zip(places).rev() {
        records.insert(place, record);
    }
    for (number, record) in records.iter_mut().enumerate() {
        if let Record::Op(op) = record {
            op.time = number as u64;
        }
    }
}

fn all_are_found(lie: Lie) {
    let cases: u64 = std::env::var("CHECKER_CASES").ok().and_then(|text| text.parse().ok()).unwrap_or(40);
    let mut random = Random::new(lie as u64 + 1);
    let base = Shape { operations: 600, keys: 5, clients: 10, unknown: 25, values: 0, deletes: false };
    for case in 0..cases {
        // every other history has values that are written again and again
        let shape = Shape { values: if case % 2 == 0 { 0 } else { 8 }, deletes: case % 4 > 1, ..base };
        let mut records = recorded(&shape, case + 1);
        let alone = shape.values > 0 || case % 4 == 0;
        plant(&mut records, lie, alone, &mut random);
        let history = History::from_records(records).expect("well-formed");
        let budget = Budget { threads: Some(1), ..Budget::default() };
        let Verdict::Violation(violation) = check(&history, budget).verdict() else {
            panic!("{lie:?} {case}: not found");
        };
        // among others the lie may break a chain of swaps, which is told from its beginning
        let few = violation.operations.len() <= 6;
        assert!(few || !alone, "{lie:?} {case}: {}", violation.text);
    }
}

#[test]
fn stale_reads_are_found() {
    all_are_found(Lie::Stale);
}

#[test]
fn lost_writes_are_found() {
    all_are_found(Lie::Lost);
}

#[test]
fn invented_values_are_found() {
    all_are_found(Lie::Invented);
}

#[test]
fn reads_that_go_back_and_forth_are_found() {
    all_are_found(Lie::BackAndForth);
}

#[test]
fn values_swapped_twice_are_found() {
    all_are_found(Lie::SwappedTwice);
}

#[test]
fn refused_matches_are_found() {
    all_are_found(Lie::RefusedAMatch);
}
