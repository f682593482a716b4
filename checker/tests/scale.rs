//! Long histories: sound ones are found valid, and a single falsified answer is found, explained by a few operations.

mod support;

use checker::history::{Function, History, Key, Kind, OpResult, Record};
use checker::linearizability::{Budget, Report, Verdict, check};
use support::{Recorder, answer};

/// What a recorded history is like.
struct Shape {
    operations: usize,
    keys: u64,
    clients: usize,
    /// One operation in so many is left unknown.
    unknown: u64,
    /// Different values; 0: each write has its own.
    values: u64,
    deletes: bool,
}

/// A small generator of its own, so that the histories stay the same for ever.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % bound
    }
}

enum Client {
    Idle,
    Asked(Function),
    Served(Function, OpResult),
}

/// Clients that run at random against registers; an unknown operation took effect or not, at random.
fn recorded(shape: &Shape, seed: u64) -> Vec<Record> {
    let mut random = Random(seed);
    let mut state = vec![None; shape.keys as usize];
    let mut recorder = Recorder::new(Vec::new());
    let mut clients: Vec<(u64, Client)> =
        (0..shape.clients as u64).map(|process| (process, Client::Idle)).collect();
    let (mut asked, mut fresh) = (0, shape.clients as u64);
    while asked < shape.operations {
        let (process, client) = &mut clients[random.below(shape.clients as u64) as usize];
        *client = match std::mem::replace(client, Client::Idle) {
            Client::Idle => {
                asked += 1;
                let index = random.below(shape.keys);
                let key = Key::Integer(index as i64);
                let value = if shape.values == 0 { asked as u64 } else { random.below(shape.values) };
                let new = format!("v{value}");
                let function = match random.below(10) {
                    0..5 => Function::Get { key },
                    5..8 => Function::Put { key, value: new },
                    8 if shape.deletes => Function::Delete { key },
                    _ => Function::Cas { key, expected: state[index as usize].clone(), new },
                };
                recorder.event(*process, Kind::Invoke, function.clone(), None);
                Client::Asked(function)
            }
            Client::Asked(function) if random.below(shape.unknown * 2) == 0 => {
                recorder.event(*process, Kind::Info, function, None);
                (*process, fresh) = (fresh, fresh + 1);
                Client::Idle
            }
            Client::Asked(function) => {
                let Key::Integer(index) = function.key() else { unreachable!("keys are integers here") };
                let result = answer(&mut state[*index as usize], &function);
                Client::Served(function, result)
            }
            Client::Served(function, _) if random.below(shape.unknown * 2) == 0 => {
                recorder.event(*process, Kind::Info, function, None);
                (*process, fresh) = (fresh, fresh + 1);
                Client::Idle
            }
            Client::Served(function, result) => {
                recorder.event(*process, Kind::Ok, function, Some(result));
                Client::Idle
            }
        };
    }
    recorder.records
}

/// Lets a read in the last tenth answer what was read on the same key half-way before.
fn make_stale(records: &mut [Record]) {
    let read = |record: &Record| match record {
        Record::Op(op) if op.kind == Kind::Ok && matches!(op.function, Function::Get { .. }) => {
            op.result.as_ref().map(|result| (op.function.clone(), result.returned.clone()))
        }
        _ => None,
    };
    let half = records.len() / 2;
    let late =
        (records.len() / 10 * 9..records.len()).find(|&at| read(&records[at]).is_some()).expect("reads");
    let (function, fresh) = read(&records[late]).expect("a read");
    let old = records[..half]
        .iter()
        .rev()
        .filter_map(read)
        .find(|(other, value)| *other == function && *value != fresh);
    if let Record::Op(op) = &mut records[late] {
        op.result.as_mut().expect("answered").returned = old.expect("an older value").1;
    }
}

fn judge(records: Vec<Record>) -> Report {
    let history = History::from_records(records).expect("well-formed");
    let report = check(&history, Budget::default());
    let configurations: usize = report.keys.iter().map(|key| key.configurations).sum();
    println!("{:.3} s, {configurations} configurations", report.elapsed as f64 / 1e9);
    report
}

fn scale() -> usize {
    std::env::var("CHECKER_SCALE").ok().and_then(|text| text.parse().ok()).unwrap_or(1)
}

fn shapes() -> Vec<(&'static str, Shape)> {
    let base = |operations| Shape {
        operations: operations * scale(),
        keys: 10,
        clients: 20,
        unknown: 100,
        values: 0,
        deletes: false,
    };
    vec![
        ("unique values", base(10_000)),
        ("unique values and deletes", Shape { deletes: true, ..base(10_000) }),
        ("unique values, one key", Shape { keys: 1, clients: 10, ..base(3000) }),
        ("few values", Shape { values: 5, ..base(10_000) }),
        (
            "few values and deletes, one key",
            Shape { keys: 1, clients: 5, values: 5, deletes: true, ..base(2000) },
        ),
    ]
}

#[test]
fn long_sound_histories_are_valid() {
    for (name, shape) in shapes() {
        println!("{name}");
        assert_eq!(judge(recorded(&shape, 7)).verdict(), Verdict::Valid, "{name}");
    }
}

#[test]
fn one_stale_read_is_found_and_explained() {
    for (name, shape) in shapes().into_iter().filter(|(_, shape)| shape.values == 0) {
        let mut records = recorded(&shape, 8);
        make_stale(&mut records);
        println!("{name}");
        let Verdict::Violation(violation) = judge(records).verdict() else { panic!("{name}: not found") };
        println!("{}", violation.text);
        assert!(violation.operations.len() <= 12, "{name}: {}", violation.text);
        assert!(violation.text.contains("get read"), "{}", violation.text);
    }
}
