//! Reads the line of an operation as recorders write it, without a detour; whatever is written in another way is left to serde.
//! The tests hold both against each other.

use super::{Function, Key, Kind, Op, OpResult, Trip};

/// The operation on a line, if the line is written as usual.
pub(super) fn op(line: &[u8]) -> Option<Op> {
    let mut rest = Rest(line);
    rest.word(br#"{"record":"op","time":"#)?;
    let time = rest.number()?;
    rest.word(br#","process":"#)?;
    let process = rest.number()?;
    rest.word(br#","client":"#)?;
    let client = rest.number()?;
    rest.word(br#","node":"#)?;
    let node = rest.number()?;
    rest.word(br#","type":""#)?;
    let kind = [Kind::Invoke, Kind::Ok, Kind::Info, Kind::Fail]
        .into_iter()
        .find(|kind| rest.word(kind.word().as_bytes()).is_some())?;
    rest.word(br#"","f":""#)?;
    let function = function(&mut rest)?;
    let result = if kind == Kind::Ok { Some(result(&mut rest, &function)?) } else { None };
    let error = match rest.word(br#","error":"#) {
        Some(()) => Some(rest.text()?),
        None => None,
    };
    (rest.0 == b"}").then_some(())?;
    let trip = Trip::default();
    Some(Op { time, process, client, node, kind, function, result, error, trip })
}

fn function(rest: &mut Rest<'_>) -> Option<Function> {
    let key = |rest: &mut Rest<'_>, word: &[u8]| {
        rest.word(word)?;
        rest.key()
    };
    match rest.0.first()? {
        b'g' => Some(Function::Get { key: key(rest, br#"get","key":"#)? }),
        b'd' => Some(Function::Delete { key: key(rest, br#"delete","key":"#)? }),
        b'p' => {
            let key = key(rest, br#"put","key":"#)?;
            rest.word(br#","value":"#)?;
            Some(Function::Put { key, value: rest.text()? })
        }
        _ => {
            let key = key(rest, br#"cas","key":"#)?;
            rest.word(br#","expected":"#)?;
            let mut expected = None;
            rest.optional_text(&mut expected).then_some(())?;
            rest.word(br#","new":"#)?;
            Some(Function::Cas { key, expected, new: rest.text()? })
        }
    }
}

fn result(rest: &mut Rest<'_>, function: &Function) -> Option<OpResult> {
    rest.word(br#","returned":"#)?;
    let mut returned = None;
    rest.optional_text(&mut returned).then_some(())?;
    let swapped = if matches!(function, Function::Cas { .. }) {
        rest.word(br#","swapped":"#)?;
        Some(rest.truth()?)
    } else {
        None
    };
    rest.word(br#","version":"#)?;
    let version = rest.number()?;
    let index = match rest.word(br#","index":"#) {
        Some(()) => Some(rest.number()?),
        None => None,
    };
    rest.word(br#","leader":"#)?;
    let leader = rest.number()?;
    rest.word(br#","ballot":"#)?;
    let ballot = rest.text()?;
    rest.word(br#","fast":"#)?;
    let fast = rest.truth()?;
    let local = rest.word(br#","local":true"#).is_some();
    Some(OpResult { returned, swapped, version, index, leader, ballot, fast, local })
}

/// What is left of a line.
struct Rest<'a>(&'a [u8]);

impl Rest<'_> {
    fn word(&mut self, word: &[u8]) -> Option<()> {
        self.0 = self.0.strip_prefix(word)?;
        Some(())
    }

    /// A whole number as JSON has it: without a sign, and without a nought before it.
    fn number(&mut self) -> Option<u64> {
        let length = self.0.iter().take_while(|byte| byte.is_ascii_digit()).count();
        let (digits, rest) = self.0.split_at(length);
        if length == 0 || length > 19 || (length > 1 && digits[0] == b'0') {
            return None;
        }
        self.0 = rest;
        Some(digits.iter().fold(0, |number, digit| number * 10 + u64::from(digit - b'0')))
    }

    fn truth(&mut self) -> Option<bool> {
        match self.word(b"true") {
            Some(()) => Some(true),
            None => self.word(b"false").map(|()| false),
        }
    }

    /// A text in which nothing is escaped.
    fn text(&mut self) -> Option<String> {
        self.word(b"\"")?;
        let length = self.0.iter().position(|&byte| byte == b'"' || byte == b'\\' || byte < 0x20)?;
        let (text, rest) = self.0.split_at(length);
        self.0 = rest.strip_prefix(b"\"")?;
        String::from_utf8(text.to_vec()).ok()
    }

    /// A text or `null`; false: neither.
    fn optional_text(&mut self, text: &mut Option<String>) -> bool {
        if self.word(b"null").is_some() {
            return true;
        }
        *text = self.text();
        text.is_some()
    }

    fn key(&mut self) -> Option<Key> {
        if self.0.first() == Some(&b'"') {
            return self.text().map(Key::String);
        }
        i64::try_from(self.number()?).ok().map(Key::Integer)
    }
}

#[cfg(test)]
mod tests {
    use super::super::Record;
    use super::*;

    const LINES: [&str; 9] = [
        r#"{"record":"op","time":1,"process":2,"client":3,"node":4,"type":"invoke","f":"get","key":5}"#,
        r#"{"record":"op","time":1,"process":2,"client":3,"node":4,"type":"invoke","f":"put","key":"k","value":"v"}"#,
        r#"{"record":"op","time":1,"process":2,"client":3,"node":4,"type":"info","f":"delete","key":-5,"error":"timeout"}"#,
        r#"{"record":"op","time":1,"process":2,"client":3,"node":4,"type":"fail","f":"delete","key":5,"error":"no"}"#,
        r#"{"record":"op","time":1,"process":2,"client":3,"node":4,"type":"invoke","f":"cas","key":5,"expected":null,"new":"b"}"#,
        r#"{"record":"op","time":1,"process":2,"client":3,"node":4,"type":"ok","f":"cas","key":5,"expected":"a","new":"b","returned":null,"swapped":true,"version":7,"index":9,"leader":1,"ballot":"2.1","fast":false}"#,
        r#"{"record":"op","time":1,"process":2,"client":3,"node":4,"type":"ok","f":"get","key":5,"returned":"x\n","version":7,"leader":1,"ballot":"2.1","fast":true,"local":true}"#,
        r#"{"record":"op","time":1,"process":2,"client":3,"node":4,"type":"ok","f":"get","key":5,"returned":"ö","version":7,"leader":1,"ballot":"2.1","fast":true,"local":true}"#,
        r#"{"record":"op","time":1,"process":2,"client":3,"node":4,"type":"ok","f":"get","key":5,"returned":"x","version":7,"leader":1,"ballot":"2.1","fast":true,"trip":{"redirects":1,"gone":0,"leaderless":0,"behind":0}}"#,
    ];

    fn by_serde(line: &[u8]) -> Option<Op> {
        match serde_json::from_slice(line) {
            Ok(Record::Op(op)) => Some(op),
            _ => None,
        }
    }

    #[test]
    fn most_lines_are_read_without_serde() {
        let quick = LINES.map(|line| op(line.as_bytes()).is_some());
        // a negative key, what is escaped and a trip are left to serde
        assert_eq!(quick, [true, true, false, true, true, true, false, true, false]);
    }

    /// Every line, with any one byte changed to one of many or left out, is read as serde reads it, or not at all.
    #[test]
    fn whatever_is_read_is_what_serde_reads() {
        let mut read = 0;
        for line in LINES.map(str::as_bytes) {
            for place in 0..line.len() {
                for byte in *br#"0157-.e"\{},: tfnul"# {
                    let mut changed = line.to_vec();
                    changed[place] = byte;
                    let mut shorter = line.to_vec();
                    shorter.remove(place);
                    for line in [&changed, &shorter] {
                        if let Some(op) = op(line) {
                            assert_eq!(Some(op), by_serde(line), "{}", String::from_utf8_lossy(line));
                            read += 1;
                        }
                    }
                }
            }
        }
        assert!(read > 1000, "{read}");
    }
}
