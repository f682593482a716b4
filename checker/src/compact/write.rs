//! Writes a history in the compact form.

use std::io::{Result, Write};

use rustc_hash::FxHashMap;

use super::{MARK, event};
use crate::history::{Function, History, Key, OpResult};
use crate::linearizability::problem::Value;

/// Writes a history in the compact form.
pub fn write(history: &History, out: &mut impl Write) -> Result<()> {
    let mut keys = Keys::default();
    for (key, value) in &history.header.initial {
        let number = keys.number(key);
        keys.tables[number].initial = keys.tables[number].value(Some(value));
    }
    let body = body(history, &mut keys);
    let mut head = MARK.to_vec();
    number(&mut head, history.operations.len() as u64);
    number(&mut head, keys.tables.len() as u64);
    for table in &keys.tables {
        text(&mut head, &serde_json::to_vec(&table.key)?);
        number(&mut head, table.texts.len() as u64);
        number(&mut head, u64::from(table.initial));
    }
    out.write_all(&head)?;
    out.write_all(&body)?;
    let mut line = Vec::new();
    for value in keys.tables.iter().flat_map(|table| &table.texts) {
        line.clear();
        text(&mut line, value.as_bytes());
        out.write_all(&line)?;
    }
    Ok(())
}

/// A key with its values.
struct Table<'a> {
    key: &'a Key,
    numbers: FxHashMap<&'a str, Value>,
    texts: Vec<&'a str>,
    initial: Value,
}

impl<'a> Table<'a> {
    fn value(&mut self, value: Option<&'a String>) -> Value {
        let Some(text) = value else { return 0 };
        *self.numbers.entry(text).or_insert_with(|| {
            self.texts.push(text);
            self.texts.len() as Value
        })
    }
}

#[derive(Default)]
struct Keys<'a> {
    numbers: FxHashMap<&'a Key, usize>,
    tables: Vec<Table<'a>>,
}

impl<'a> Keys<'a> {
    fn number(&mut self, key: &'a Key) -> usize {
        *self.numbers.entry(key).or_insert_with(|| {
            let (numbers, texts) = (FxHashMap::default(), Vec::new());
            self.tables.push(Table { key, numbers, texts, initial: 0 });
            self.tables.len() - 1
        })
    }
}

/// The events.
fn body<'a>(history: &'a History, keys: &mut Keys<'a>) -> Vec<u8> {
    let mut moments: Vec<(usize, usize)> = Vec::with_capacity(2 * history.operations.len());
    for (index, operation) in history.operations.iter().enumerate() {
        moments.push((operation.invoked.position, index));
        moments.extend(operation.returned.map(|moment| (moment.position, index)));
    }
    moments.sort_unstable();
    let mut body = Vec::new();
    let (mut free, mut slots) = (Vec::new(), 0_u64);
    let mut slot_of: FxHashMap<usize, u64> = FxHashMap::default();
    let (mut line, mut time) = (0, 0);
    for (position, index) in moments {
        let operation = &history.operations[index];
        let begins = position == operation.invoked.position;
        let moment = operation.returned.filter(|_| !begins).unwrap_or(operation.invoked);
        body.push(if begins { kind(&operation.function) } else { event::RETURN });
        number(&mut body, (position - line) as u64);
        number(&mut body, moment.time.saturating_sub(time));
        (line, time) = (position, moment.time);
        let table = keys.number(operation.function.key());
        if begins {
            let slot = free.pop().unwrap_or_else(|| {
                slots += 1;
                slots - 1
            });
            slot_of.insert(index, slot);
            for part in [slot, table as u64, operation.process, operation.node] {
                number(&mut body, part);
            }
            asked(&mut body, &operation.function, &mut keys.tables[table]);
        } else if let (Some(slot), Some(result)) = (slot_of.remove(&index), &operation.result) {
            number(&mut body, slot);
            answered(&mut body, &operation.function, result, &mut keys.tables[table]);
            free.push(slot);
        }
    }
    body.push(event::END);
    body
}

fn kind(function: &Function) -> u8 {
    match function {
        Function::Get { .. } => event::GET,
        Function::Put { .. } => event::PUT,
        Function::Cas { .. } => event::CAS,
        Function::Delete { .. } => event::DELETE,
    }
}

fn asked<'a>(body: &mut Vec<u8>, function: &'a Function, table: &mut Table<'a>) {
    match function {
        Function::Get { .. } | Function::Delete { .. } => {}
        Function::Put { value, .. } => number(body, u64::from(table.value(Some(value)))),
        Function::Cas { expected, new, .. } => {
            number(body, u64::from(table.value(expected.as_ref())));
            number(body, u64::from(table.value(Some(new))));
        }
    }
}

fn answered<'a>(body: &mut Vec<u8>, function: &Function, result: &'a OpResult, table: &mut Table<'a>) {
    match function {
        Function::Get { .. } => number(body, u64::from(table.value(result.returned.as_ref()))),
        Function::Cas { .. } if result.swapped == Some(true) => number(body, 0),
        Function::Cas { .. } => number(body, u64::from(table.value(result.returned.as_ref())) + 1),
        Function::Put { .. } | Function::Delete { .. } => {}
    }
}

fn number(bytes: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        bytes.push(number as u8 | 0x80);
        number >>= 7;
    }
    bytes.push(number as u8);
}

fn text(bytes: &mut Vec<u8>, text: &[u8]) {
    number(bytes, text.len() as u64);
    bytes.extend_from_slice(text);
}
