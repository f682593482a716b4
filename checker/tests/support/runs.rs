//! Long histories.

#![allow(dead_code, reason = "not every test has long histories")]

use checker::history::{Function, Key, Kind, OpResult, Record};

use super::{Random, Recorder, answer};

/// What a recorded history is like.
#[derive(Clone, Copy)]
pub struct Shape {
    pub operations: usize,
    pub keys: u64,
    pub clients: usize,
    /// One operation in so many is left unknown; 0: none.
    pub unknown: u64,
    /// Different values; 0: each write has its own.
    pub values: u64,
    pub deletes: bool,
}

enum Client {
    Idle,
    Asked(Function),
    Served(Function, OpResult),
}

/// Clients that run at random against registers; an unknown operation took effect or not, at random.
pub fn recorded(shape: &Shape, seed: u64) -> Vec<Record> {
    let mut random = Random::new(seed);
    let loses = |random: &mut Random| shape.unknown > 0 && random.below(shape.unknown * 2) == 0;
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
            Client::Asked(function) if loses(&mut random) => {
                recorder.event(*process, Kind::Info, function, None);
                (*process, fresh) = (fresh, fresh + 1);
                Client::Idle
            }
            Client::Asked(function) => {
                let Key::Integer(index) = function.key() else { unreachable!("keys are integers here") };
                let result = answer(&mut state[*index as usize], &function);
                Client::Served(function, result)
            }
            Client::Served(function, _) if loses(&mut random) => {
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
pub fn make_stale(records: &mut [Record]) {
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
