//! Finds out how a history is written, from its beginning.

use super::Format;
use crate::compact::MARK;

/// How a history is written that begins with these bytes, which hold its first line; `None`: like nothing that is known.
pub fn detect(beginning: &[u8]) -> Option<Format> {
    if beginning.starts_with(MARK) {
        return Some(Format::Compact);
    }
    let text = String::from_utf8_lossy(beginning);
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with(';'));
    let first = lines.clone().next()?;
    if first.starts_with("INFO") {
        return Some(Format::PorcupineLog);
    }
    if first.starts_with(|symbol: char| symbol.is_ascii_digit()) || first.starts_with(":nemesis") {
        return Some(Format::JepsenText);
    }
    if first.starts_with("{\"") {
        return Some(Format::Jsonl);
    }
    if !first.starts_with(['{', '[', '(', '#']) {
        return None;
    }
    let kv = first.starts_with('{') && first.contains(":key \"") && first.ends_with('}');
    if first.starts_with('{') && !kv && !first.ends_with('}') && lines.clone().count() == 1 {
        // more of this line would tell
        return None;
    }
    Some(if kv { Format::PorcupineKv } else { Format::Edn })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_are_told_by_how_they_begin() {
        let cases = [
            ("{\"record\":\"header\"", Some(Format::Jsonl)),
            ("; a comment\n\n({:process 0", Some(Format::Edn)),
            ("[{:process 0", Some(Format::Edn)),
            ("{:process 0, :type :invoke, :f :read}", Some(Format::Edn)),
            ("#jepsen.history.Op{:process 0", Some(Format::Edn)),
            ("{:process 0, :type :invoke, :f :get, :key \"1\", :value nil}\n{", Some(Format::PorcupineKv)),
            ("INFO  jepsen.util - 0\t:invoke", Some(Format::PorcupineLog)),
            ("0\t:invoke\t:read\tnil", Some(Format::JepsenText)),
            (":nemesis\t:info\t:start\tnil", Some(Format::JepsenText)),
            ("{:process 0, :type :invoke, :f :put, :value \"xx", None),
            ("{:process 0,\n :type :invoke", Some(Format::Edn)),
            ("", None),
            ("hello", None),
        ];
        for (text, expected) in cases {
            assert_eq!(detect(text.as_bytes()), expected, "{text}");
        }
    }
}
