//! Lines of columns: process, type, function, value; as in Jepsen's history.txt, or behind `INFO  jepsen.util -` of its log.

use super::source::{Place, Source};
use super::{Edn, Event, Kind, Malformed, edn};

/// The event on a line; `None`: it tells of none.
pub(super) fn event(line: &[u8], place: Place) -> Result<Option<Event>, Malformed> {
    let at =
        |offset: usize, message: String| Place { line: place.line, column: offset + 1 }.malformed(message);
    let text = std::str::from_utf8(line).map_err(|error| at(error.valid_up_to(), "not UTF-8".to_owned()))?;
    if text.trim().is_empty() {
        return Ok(None);
    }
    let is_log = text.starts_with("INFO");
    let columns = if is_log { text.split_once(" - ").map(|(_, columns)| columns) } else { Some(text) };
    let columns =
        columns.ok_or_else(|| at(0, "a line of a log without ` - ` before its columns".to_owned()))?;
    let mut offset = text.len() - columns.len();
    let mut next = || {
        let rest = text[offset..].trim_start();
        let begin = text.len() - rest.len();
        let end = rest.find(char::is_whitespace).map_or(text.len(), |length| begin + length);
        offset = end;
        (begin, &text[begin..end])
    };
    let (at_process, process) = next();
    let (at_kind, word) = next();
    let kind = [Kind::Invoke, Kind::Ok, Kind::Fail, Kind::Info]
        .into_iter()
        .find(|kind| word.strip_prefix(':') == Some(kind.word()));
    let Ok(process) = process.parse() else {
        // the nemesis, or a line of the log that tells of something else
        if process.starts_with(':') || (is_log && kind.is_none()) {
            return Ok(None);
        }
        return Err(at(at_process, format!("expected a process number, found {process:?}")));
    };
    let Some(kind) = kind else {
        return Err(at(at_kind, format!("{word:?} is not :invoke, :ok, :fail or :info")));
    };
    let (at_function, function) = next();
    let Some(function) = function.strip_prefix(':') else {
        return Err(at(at_function, format!("expected a function such as :read, found {function:?}")));
    };
    let column = |error| match error {
        Malformed::At { column, message, .. } => at(offset + column - 1, message),
        error @ Malformed::Io(_) => error,
    };
    let value = edn::value(&mut Source::new(&line[offset..])).map_err(column)?.unwrap_or(Edn::Nil);
    let (line, function) = (place.line, function.into());
    Ok(Some(Event { line, process, kind, function, key: None, value, time: None }))
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    fn read(line: &str) -> Result<Option<Event>, Malformed> {
        event(line.as_bytes(), Place { line: 7, column: 1 })
    }

    #[test]
    fn reads_columns() {
        for line in ["INFO  jepsen.util - 3\t:ok\t:cas\t[1 2]", "3  :ok   :cas [1 2] :note"] {
            let event = read(line).unwrap().unwrap();
            assert_eq!((event.process, event.kind, &*event.function), (3, Kind::Ok, "cas"));
            assert_eq!(event.value.to_string(), "[1 2]");
        }
        for line in ["", "INFO  jepsen.core - starting", ":nemesis\t:info\t:start\tnil"] {
            assert_eq!(read(line).unwrap(), None, "{line}");
        }
        assert_eq!(read("0 :invoke :read").unwrap().unwrap().value, Edn::Nil);
    }

    #[test]
    fn errors_name_the_place() {
        let cases = [
            ("hello", "line 7, column 1: expected a process number, found \"hello\""),
            ("3 :done :read 1", "line 7, column 3: \":done\" is not"),
            ("3 :ok read 1", "line 7, column 7: expected a function"),
            ("3 :ok :read [1", "line 7, column 13: this is never closed"),
        ];
        for (line, expected) in cases {
            let message = read(line).unwrap_err().to_string();
            assert!(message.starts_with(expected), "{message}");
        }
    }
}
