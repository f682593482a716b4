//! The line of an operation, piece by piece: a recorder of tens of thousands a second has no time for what serde does to
//! flatten one structure into another. The tests hold it against what serde writes.

use checker::history::{Function, Key, Kind, OpResult};
use serde::Serialize;

use super::{Asked, Ended};

/// Appends the line of an invocation (`ended` is `None`) or a completion.
pub(super) fn put_op(line: &mut Vec<u8>, time: u64, asked: &Asked, ended: Option<&Ended>) {
    line.extend_from_slice(br#"{"record":"op","time":"#);
    put(line, &time);
    line.extend_from_slice(br#","process":"#);
    put(line, &asked.process);
    line.extend_from_slice(br#","client":"#);
    put(line, &asked.client);
    line.extend_from_slice(br#","node":"#);
    put(line, &asked.node);
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
    line.extend_from_slice(br#","leader":"#);
    put(line, &result.leader);
    line.extend_from_slice(br#","ballot":"#);
    put(line, &result.ballot);
    line.extend_from_slice(br#","fast":"#);
    put(line, &result.fast);
}

fn put(line: &mut Vec<u8>, value: &impl Serialize) {
    serde_json::to_writer(line, value).expect("numbers and texts can be written to memory");
}

#[cfg(test)]
mod tests {
    use checker::history::{Op, Record};

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
        let result = |returned: Option<&str>, swapped, fast| OpResult {
            returned: returned.map(str::to_owned),
            swapped,
            version: u64::MAX,
            leader: 3,
            ballot: "0.12.0@n3".to_owned(),
            fast,
        };
        vec![
            None,
            Some(Ended::Ok(result(None, None, true))),
            Some(Ended::Ok(result(Some("tab\t"), Some(false), false))),
            Some(Ended::Ok(result(None, Some(true), false))),
            Some(Ended::Fail("it \"failed\"".to_owned())),
            Some(Ended::Info("no answer in time".to_owned())),
        ]
    }

    #[test]
    fn a_line_is_what_serde_writes() {
        for function in functions() {
            for ended in endings() {
                let asked = Asked { process: 300, client: 4, node: 5, function: function.clone() };
                let op = Op {
                    time: 1_234_567_890_123,
                    process: 300,
                    client: 4,
                    node: 5,
                    kind: ended.as_ref().map_or(Kind::Invoke, Ended::kind),
                    function: function.clone(),
                    result: ended.as_ref().and_then(Ended::result).cloned(),
                    error: match &ended {
                        Some(Ended::Fail(error) | Ended::Info(error)) => Some(error.clone()),
                        Some(Ended::Ok(_)) | None => None,
                    },
                };
                let expected = serde_json::to_string(&Record::Op(op)).expect("plain data") + "\n";
                let mut line = Vec::new();
                put_op(&mut line, 1_234_567_890_123, &asked, ended.as_ref());
                assert_eq!(String::from_utf8(line).expect("text"), expected);
            }
        }
    }
}
