//! The line of an operation, piece by piece: a recorder of tens of thousands a second has no time for what serde does to
//! flatten one structure into another. The tests hold it against what serde writes.

use checker::history::{Function, Key, Kind, OpResult};
use serde::Serialize;

use super::{Asked, Ended, Finished};

/// Appends the line of an invocation (`finished` is `None`) or a completion.
pub(super) fn put_op(line: &mut Vec<u8>, time: u64, asked: &Asked, finished: Option<&Finished>) {
    let ended = finished.map(|finished| &finished.ended);
    line.extend_from_slice(br#"{"record":"op","time":"#);
    put(line, &time);
    line.extend_from_slice(br#","process":"#);
    put(line, &asked.process);
    line.extend_from_slice(br#","client":"#);
    put(line, &asked.client);
    line.extend_from_slice(br#","node":"#);
    put(line, &finished.map_or(asked.node, |finished| finished.node));
    line.extend_from_slice(br#","type":""#);
    line.extend_from_slice(ended.map_or(Kind::Invoke, Ended::kind).word().as_bytes());
    put_function(line, &asked.function);
    match ended {
        None => {}
        Some(Ended::Ok(result)) => put_result(line, result),
        Some(Ended::Fail(error) | Ended::Info(error)) => {
            line.extend_from_slice(br#","error":"#);
            put(line, error);
        }
    }
    if let Some(Finished { trip, .. }) = finished.filter(|finished| !finished.trip.is_straight()) {
        line.extend_from_slice(br#","trip":"#);
        put(line, trip);
    }
    line.extend_from_slice(b"}\n");
}

/// Begins behind the word of the operation's type.
fn put_function(line: &mut Vec<u8>, function: &Function) {
    let begin = |line: &mut Vec<u8>, begin: &[u8], key: &Key| {
        line.extend_from_slice(begin);
        match key {
            Key::Integer(number) => put(line, number),
            Key::String(text) => put(line, text),
        }
    };
    match function {
        Function::Get { key } => begin(line, br#"","f":"get","key":"#, key),
        Function::Put { key, value } => {
            begin(line, br#"","f":"put","key":"#, key);
            line.extend_from_slice(br#","value":"#);
            put(line, value);
        }
        Function::Cas { key, expected, new } => {
            begin(line, br#"","f":"cas","key":"#, key);
            line.extend_from_slice(br#","expected":"#);
            put(line, expected);
            line.extend_from_slice(br#","new":"#);
            put(line, new);
        }
        Function::Delete { key } => begin(line, br#"","f":"delete","key":"#, key),
    }
}

fn put_result(line: &mut Vec<u8>, result: &OpResult) {
    line.extend_from_slice(br#","returned":"#);
    put(line, &result.returned);
    if let Some(swapped) = result.swapped {
        line.extend_from_slice(br#","swapped":"#);
        put(line, &swapped);
    }
    line.extend_from_slice(br#","version":"#);
    put(line, &result.version);
    if let Some(index) = result.index {
        line.extend_from_slice(br#","index":"#);
        put(line, &index);
    }
    line.extend_from_slice(br#","leader":"#);
    put(line, &result.leader);
    line.extend_from_slice(br#","ballot":"#);
    put(line, &result.ballot);
    line.extend_from_slice(br#","fast":"#);
    put(line, &result.fast);
    if result.local {
        line.extend_from_slice(br#","local":true"#);
    }
}

fn put(line: &mut Vec<u8>, value: &impl Serialize) {
    serde_json::to_writer(line, value).expect("numbers and texts can be written to memory");
}

#[cfg(test)]
mod tests {
    use checker::history::{Record, Trip};

    use super::*;

    fn functions() -> Vec<Function> {
        let keys = [Key::Integer(-7), Key::String("a \"key\"\n".to_owned())];
        let of = |key: &Key| {
            let key = || key.clone();
            [
                Function::Get { key: key() },
                Function::Put { key: key(), value: "c1-1\\\u{1}é".to_owned() },
                Function::Cas { key: key(), expected: None, new: String::new() },
                Function::Cas { key: key(), expected: Some("\"".to_owned()), new: "c1-2".to_owned() },
                Function::Delete { key: key() },
            ]
        };
        keys.iter().flat_map(of).collect()
    }

    fn endings() -> Vec<Option<Ended>> {
        let result = |returned: Option<&str>, swapped, index, fast, local| OpResult {
            returned: returned.map(str::to_owned),
            swapped,
            version: u64::MAX,
            index,
            leader: 3,
            ballot: "0.12.0@n3".to_owned(),
            fast,
            local,
        };
        vec![
            None,
            Some(Ended::Ok(result(None, None, Some(7), true, false))),
            Some(Ended::Ok(result(Some("tab\t"), Some(false), None, false, false))),
            Some(Ended::Ok(result(None, Some(true), Some(u64::MAX), false, false))),
            Some(Ended::Ok(result(Some("old"), None, Some(0), false, true))),
            Some(Ended::Fail("it \"failed\"".to_owned())),
            Some(Ended::Info("no answer in time".to_owned())),
        ]
    }

    #[test]
    fn a_line_is_what_serde_writes() {
        let way = Trip { redirects: 1, gone: 2, leaderless: 3, behind: 4, unknown: 5 };
        for function in functions() {
            for (ended, trip) in
                endings().into_iter().flat_map(|ended| [(ended.clone(), Trip::default()), (ended, way)])
            {
                let asked = Asked { process: 300, client: 4, node: 5, function: function.clone() };
                let finished = ended.map(|ended| Finished { ended, node: 6, trip });
                let op = match &finished {
                    None => asked.op(1_234_567_890_123, Kind::Invoke),
                    Some(finished) => asked.completion(1_234_567_890_123, finished),
                };
                let expected = serde_json::to_string(&Record::Op(op)).expect("plain data") + "\n";
                let mut line = Vec::new();
                put_op(&mut line, 1_234_567_890_123, &asked, finished.as_ref());
                assert_eq!(String::from_utf8(line).expect("text"), expected);
            }
        }
    }
}
