//! Reads a recorded history from its file.
//!
//! A line that does not fit is an error with line and column. One exception: a run that crashed may leave its last line
//! half-written, without a line end; that is tolerated and reported.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;

use rustc_hash::FxHashSet;

use super::operations::{Operation, Pairing};
use super::{Header, Nemesis, Phase, Record, quick};

/// A well-formed history.
#[derive(Clone, Debug, PartialEq)]
pub struct History {
    /// What it is of.
    pub header: Header,
    /// Operations that happened or may have happened, in the order of invocation.
    pub operations: Vec<Operation>,
    /// Operations that definitely did not happen, in the order in which that was told. None has returned.
    pub refused: Vec<Operation>,
    /// Faults, in the order of lines.
    pub faults: Vec<Nemesis>,
    /// Phases, in the order of lines.
    pub phases: Vec<Phase>,
    /// A last line that was cut off by a crash.
    pub truncated: Option<Truncated>,
}

/// A last line that was cut off by a crash, and is not part of what was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Truncated {
    /// The line, from 1.
    pub line: usize,
    /// How many bytes of it there are.
    pub bytes: usize,
}

/// Why a history cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum HistoryError {
    /// The file cannot be read.
    #[error("cannot read {path}: {source}")]
    Io {
        /// The file.
        path: String,
        /// Why.
        source: std::io::Error,
    },
    /// A line does not fit.
    #[error("line {line}, column {column}: {message}")]
    Malformed {
        /// The line, from 1.
        line: usize,
        /// The column, from 1.
        column: usize,
        /// What is wrong with it.
        message: String,
    },
}

impl History {
    /// Reads a history from a file of JSON lines.
    pub fn read(path: &Path) -> Result<Self, HistoryError> {
        let io = |source| HistoryError::Io { path: path.display().to_string(), source };
        Self::read_from(BufReader::with_capacity(1 << 18, File::open(path).map_err(io)?), path)
    }

    /// Reads the lines of a history; errors call it by `path`.
    pub fn read_from(mut lines: impl BufRead, path: &Path) -> Result<Self, HistoryError> {
        let io = |source| HistoryError::Io { path: path.display().to_string(), source };
        let mut assembly = Assembly::default();
        let mut text = Vec::new();
        loop {
            text.clear();
            if lines.read_until(b'\n', &mut text).map_err(io)? == 0 {
                return assembly.finish();
            }
            assembly.line(&text)?;
        }
    }

    /// Reads a history from the contents of such a file.
    pub fn parse(text: impl AsRef<[u8]>) -> Result<Self, HistoryError> {
        let mut assembly = Assembly::default();
        for line in text.as_ref().split_inclusive(|&byte| byte == b'\n') {
            assembly.line(line)?;
        }
        assembly.finish()
    }

    /// Puts a history together from records; the n-th stands for line n.
    pub fn from_records(records: impl IntoIterator<Item = Record>) -> Result<Self, HistoryError> {
        let mut assembly = Assembly::default();
        for record in records {
            assembly.line += 1;
            assembly.record(record).map_err(|message| assembly.malformed(1, message))?;
        }
        assembly.finish()
    }
}

#[derive(Default)]
struct Assembly {
    line: usize,
    header: Option<Header>,
    pairing: Pairing,
    faults: Vec<Nemesis>,
    phases: Vec<Phase>,
    truncated: Option<Truncated>,
}

impl Assembly {
    fn line(&mut self, bytes: &[u8]) -> Result<(), HistoryError> {
        self.line += 1;
        let (body, ended) = match bytes.strip_suffix(b"\n") {
            Some(body) => (body, true),
            None => (bytes, false),
        };
        if body.trim_ascii().is_empty() {
            return Ok(());
        }
        if let Some(op) = quick::op(body) {
            return self.record(Record::Op(op)).map_err(|message| self.malformed(1, message));
        }
        match serde_json::from_slice(body) {
            Ok(record) => {
                let column = 1 + body.len() - body.trim_ascii_start().len();
                self.record(record).map_err(|message| self.malformed(column, message))
            }
            Err(_) if !ended && serde_json::from_slice::<serde_json::Value>(body).is_err() => {
                self.truncated = Some(Truncated { line: self.line, bytes: body.len() });
                Ok(())
            }
            Err(error) => Err(self.malformed(column_of(&error, body), without_place(&error))),
        }
    }

    fn record(&mut self, record: Record) -> Result<(), String> {
        match record {
            Record::Header(_) if self.header.is_some() => return Err("a second header".to_owned()),
            Record::Header(header) => {
                let mut known = FxHashSet::default();
                if let Some((key, _)) = header.initial.iter().find(|(key, _)| !known.insert(key)) {
                    return Err(format!("key {key} has two initial values"));
                }
                self.header = Some(header);
            }
            _ if self.header.is_none() => return Err("the first record must be the header".to_owned()),
            Record::Op(op) => self.pairing.take(op, self.line)?,
            Record::Nemesis(fault) => self.faults.push(fault),
            Record::Phase(phase) => self.phases.push(phase),
        }
        Ok(())
    }

    fn finish(self) -> Result<History, HistoryError> {
        let Some(header) = self.header else {
            let message = "no header: this is not a history".to_owned();
            return Err(HistoryError::Malformed { line: self.line.max(1), column: 1, message });
        };
        let (operations, refused) = self.pairing.finish();
        Ok(History {
            header,
            operations,
            refused,
            faults: self.faults,
            phases: self.phases,
            truncated: self.truncated,
        })
    }

    fn malformed(&self, column: usize, message: String) -> HistoryError {
        HistoryError::Malformed { line: self.line, column, message }
    }
}

/// The column of an error. `serde_json` loses it inside tagged records; there the word that the error quotes is looked up.
pub(crate) fn column_of(error: &serde_json::Error, body: &[u8]) -> usize {
    if error.line() > 0 {
        return error.column().max(1);
    }
    let message = error.to_string();
    let quoted = message.split(['`', '"']).nth(1).unwrap_or_default().as_bytes();
    let found = !quoted.is_empty() && quoted.len() <= body.len();
    let place = found.then(|| body.windows(quoted.len()).position(|window| window == quoted)).flatten();
    place.map_or(body.len().max(1), |offset| offset + 1)
}

/// The message of an error without the place that it names inside the line.
pub(crate) fn without_place(error: &serde_json::Error) -> String {
    let message = error.to_string();
    match message.rfind(" at line ") {
        Some(end) => message[..end].to_owned(),
        None => message,
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::super::Moment;
    use super::*;

    const HEADER: &str = r#"{"record":"header","workload":"w","seed":1,"origin":5,"initial":[[1,"a"]]}"#;

    fn event(time: u64, process: u64, rest: &str) -> String {
        format!(r#"{{"record":"op","time":{time},"process":{process},"client":0,"node":1,{rest}}}"#)
    }

    fn get(kind: &str) -> String {
        format!(r#""type":"{kind}","f":"get","key":1"#)
    }

    fn answer() -> String {
        format!(r#"{},"returned":"a","version":0,"leader":1,"ballot":"1","fast":true"#, get("ok"))
    }

    fn parse(lines: &[String]) -> Result<History, HistoryError> {
        let mut text = format!("{HEADER}\n");
        for line in lines {
            text += line;
            text.push('\n');
        }
        History::parse(&text)
    }

    fn refusal(lines: &[String]) -> String {
        parse(lines).expect_err("must be refused").to_string()
    }

    #[test]
    fn pairs_operations_and_sets_failed_ones_aside() {
        let history = parse(&[
            event(1, 0, &get("invoke")),
            event(2, 1, &get("invoke")),
            event(2, 2, &get("invoke")),
            event(3, 1, &get("fail")),
            event(4, 0, &answer()),
            event(5, 2, &get("info")),
            event(6, 3, &get("invoke")),
        ])
        .unwrap();
        assert_eq!((history.operations.len(), history.refused.len()), (3, 1));
        let first = &history.operations[0];
        assert_eq!(first.invoked, Moment { position: 2, time: 1 });
        assert_eq!(first.returned, Some(Moment { position: 6, time: 4 }));
        assert_eq!(first.result.as_ref().unwrap().returned.as_deref(), Some("a"));
        assert!(history.operations[1].returned.is_none() && history.operations[2].returned.is_none());
    }

    #[test]
    fn a_half_written_last_line_is_reported() {
        let text = format!("{HEADER}\n{}\n{}", event(1, 0, &get("invoke")), r#"{"record":"op","ti"#);
        let history = History::parse(&text).unwrap();
        assert_eq!(history.truncated, Some(Truncated { line: 3, bytes: 18 }));
        assert_eq!(history.operations.len(), 1);
        let ended = History::parse(&(text + "\n")).expect_err("a cut line with an end is damage").to_string();
        assert!(ended.starts_with("line 3, column 18: EOF"), "{ended}");
    }

    #[test]
    fn malformed_histories_are_refused_with_their_place() {
        let open = event(1, 0, &get("invoke"));
        let cases = [
            (
                vec![open.clone(), event(2, 0, &get("invoke"))],
                "line 3, column 1: process 0 invokes an operation while",
            ),
            (vec![event(2, 0, &answer())], "line 2, column 1: process 0 completes (ok) without"),
            (vec![open.clone(), event(0, 1, &get("invoke"))], "line 3, column 1: time goes backwards"),
            (
                vec![open.clone(), event(2, 0, &get("info")), event(3, 0, &get("invoke"))],
                "line 4, column 1: process 0 goes on",
            ),
            (
                vec![open.clone(), event(2, 0, r#""type":"fail","f":"get","key":2"#)],
                "line 3, column 1: this fail does not match",
            ),
            (vec![open.clone(), event(2, 0, &get("ok"))], "line 3, column 1: ok without a complete result"),
            // a value that is left out is not one that is absent
            (
                vec![open.clone(), event(2, 0, &answer().replace(r#""returned":"a","#, ""))],
                "line 3, column 1: ok without a complete result",
            ),
            (
                vec![event(1, 0, r#""type":"invoke","f":"cas","key":1,"new":"b""#)],
                "line 2, column 100: missing field `expected`",
            ),
            (
                vec![event(1, 0, r#""type":"invoke","f":"got","key":1"#)],
                "line 2, column 78: unknown variant `got`",
            ),
            (vec!["{\"record\":}".to_owned()], "line 2, column 11: expected value"),
            (vec![HEADER.to_owned()], "line 2, column 1: a second header"),
        ];
        for (lines, expected) in cases {
            let message = refusal(&lines);
            assert!(message.starts_with(expected), "{message} is not {expected}");
        }
        assert!(History::parse("").unwrap_err().to_string().contains("no header"));
        assert!(
            History::parse(event(1, 0, &get("invoke")))
                .unwrap_err()
                .to_string()
                .contains("must be the header")
        );
    }
}
