//! Reads EDN, the notation of Clojure's data, value by value: whatever Jepsen and Knossos write.

use std::fmt::{self, Write as _};
use std::io::BufRead;

use super::Malformed;
use super::source::{Place, Source};

/// Deeper values are refused.
const DEPTH: usize = 64;

/// A value.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Edn {
    /// `nil`
    #[default]
    Nil,
    /// `true`, `false`
    Bool(bool),
    /// An integer of 64 bits.
    Integer(i64),
    /// A string.
    Text(Box<str>),
    /// A keyword with its colon, a symbol, a character, or another number, as it is written.
    Word(Box<str>),
    /// A list or a vector.
    Sequence(Vec<Edn>),
    /// A set, sorted.
    Set(Vec<Edn>),
    /// A map, by its keys.
    Map(Vec<(Edn, Edn)>),
}

impl Edn {
    /// The name of a keyword.
    pub fn keyword(&self) -> Option<&str> {
        match self {
            Self::Word(word) => word.strip_prefix(':'),
            _ => None,
        }
    }

    /// The elements of a list or a vector.
    pub fn sequence(&self) -> Option<&[Self]> {
        match self {
            Self::Sequence(elements) => Some(elements),
            _ => None,
        }
    }

    /// The number.
    pub fn integer(&self) -> Option<i64> {
        match self {
            Self::Integer(number) => Some(*number),
            _ => None,
        }
    }
}

impl fmt::Display for Edn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let all = |f: &mut fmt::Formatter<'_>, open: &str, elements: &[Self], close: &str| {
            f.write_str(open)?;
            for (index, element) in elements.iter().enumerate() {
                write!(f, "{}{element}", if index > 0 { " " } else { "" })?;
            }
            f.write_str(close)
        };
        match self {
            Self::Nil => f.write_str("nil"),
            Self::Bool(truth) => write!(f, "{truth}"),
            Self::Integer(number) => write!(f, "{number}"),
            Self::Text(text) => string(text, f),
            Self::Word(word) => f.write_str(word),
            Self::Sequence(elements) => all(f, "[", elements, "]"),
            Self::Set(elements) => all(f, "#{", elements, "}"),
            Self::Map(entries) => {
                f.write_str("{")?;
                for (index, (key, value)) in entries.iter().enumerate() {
                    write!(f, "{}{key} {value}", if index > 0 { ", " } else { "" })?;
                }
                f.write_str("}")
            }
        }
    }
}

/// A string with the escapes that EDN knows.
fn string(text: &str, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    f.write_char('"')?;
    for character in text.chars() {
        match character {
            '"' => f.write_str("\\\""),
            '\\' => f.write_str("\\\\"),
            '\n' => f.write_str("\\n"),
            '\r' => f.write_str("\\r"),
            '\t' => f.write_str("\\t"),
            other => f.write_char(other),
        }?;
    }
    f.write_char('"')
}

/// Reads the next value; `None`: the end, or, inside brackets, the closing one, which is left there.
pub(super) fn value<R: BufRead>(source: &mut Source<R>) -> Result<Option<Edn>, Malformed> {
    blank(source)?;
    let begun = source.here();
    match element(source, 0)? {
        Some(Edn::Map(mut entries)) => {
            by_keys(&mut entries, begun)?;
            Ok(Some(Edn::Map(entries)))
        }
        other => Ok(other),
    }
}

/// The same, but that a map's own entries, which whoever reads an event looks through in any case, stay as they are written.
pub(super) fn event<R: BufRead>(source: &mut Source<R>) -> Result<Option<Edn>, Malformed> {
    element(source, 0)
}

/// Skips what means nothing; tells the byte behind it.
pub(super) fn blank<R: BufRead>(source: &mut Source<R>) -> Result<Option<u8>, Malformed> {
    loop {
        match source.peek()? {
            Some(b' ' | b'\t' | b'\r' | b'\n' | b',' | 0x0c) => source.skip(),
            Some(b';') => while !matches!(source.next()?, None | Some(b'\n')) {},
            other => return Ok(other),
        }
    }
}

fn element<R: BufRead>(source: &mut Source<R>, depth: usize) -> Result<Option<Edn>, Malformed> {
    loop {
        let Some(byte) = blank(source)? else { return Ok(None) };
        if depth > DEPTH {
            return Err(source.malformed(format!("more than {DEPTH} brackets inside one another")));
        }
        match byte {
            b')' | b']' | b'}' => return Ok(None),
            b'(' => return elements(source, b')', depth).map(|all| Some(Edn::Sequence(all))),
            b'[' => return elements(source, b']', depth).map(|all| Some(Edn::Sequence(all))),
            b'{' => return map(source, depth).map(Some),
            b'"' => return text(source).map(|text| Some(Edn::Text(text.into()))),
            b'#' => {
                if let Some(value) = dispatch(source, depth)? {
                    return Ok(Some(value));
                }
            }
            b'^' => {
                source.skip();
                required(source, depth, "what ^ says")?;
                return required(source, depth, "a value behind ^").map(Some);
            }
            b'\\' => return character(source).map(Some),
            _ => return word(source).map(|word| Some(atom(&word))),
        }
    }
}

fn required<R: BufRead>(source: &mut Source<R>, depth: usize, what: &str) -> Result<Edn, Malformed> {
    element(source, depth + 1)?.ok_or_else(|| source.malformed(format!("expected {what}")))
}

fn elements<R: BufRead>(source: &mut Source<R>, close: u8, depth: usize) -> Result<Vec<Edn>, Malformed> {
    let begun = source.here();
    source.skip();
    let mut all = Vec::new();
    while let Some(value) = element(source, depth + 1)? {
        all.push(value);
    }
    match source.peek()? {
        Some(byte) if byte == close => source.skip(),
        Some(byte) => {
            let (found, wanted) = (char::from(byte), char::from(close));
            return Err(source.malformed(format!("`{found}` where `{wanted}` is missing")));
        }
        None => return Err(begun.malformed(format!("this is never closed with `{}`", char::from(close)))),
    }
    Ok(all)
}

fn map<R: BufRead>(source: &mut Source<R>, depth: usize) -> Result<Edn, Malformed> {
    let begun = source.here();
    let mut all = elements(source, b'}', depth)?.into_iter();
    let mut entries = Vec::with_capacity(all.len() / 2);
    while let Some(key) = all.next() {
        let value = all.next().ok_or_else(|| begun.malformed(format!("no value for {key} in this map")))?;
        entries.push((key, value));
    }
    if depth > 0 {
        by_keys(&mut entries, begun)?;
    }
    Ok(Edn::Map(entries))
}

/// Sorts a map: two of them are equal whatever order they are written in.
fn by_keys(entries: &mut [(Edn, Edn)], begun: Place) -> Result<(), Malformed> {
    entries.sort_unstable();
    match entries.windows(2).find(|pair| pair[0].0 == pair[1].0) {
        Some(twice) => Err(begun.malformed(format!("{} stands twice in this map", twice[0].0))),
        None => Ok(()),
    }
}

/// What begins with `#`; `None`: something that is to be left out.
fn dispatch<R: BufRead>(source: &mut Source<R>, depth: usize) -> Result<Option<Edn>, Malformed> {
    source.skip();
    match source.peek()? {
        Some(b'{') => {
            let mut all = elements(source, b'}', depth)?;
            all.sort_unstable();
            all.dedup();
            Ok(Some(Edn::Set(all)))
        }
        Some(b'"') => text(source).map(|text| Some(Edn::Text(text.into()))),
        Some(b'_') => {
            source.skip();
            required(source, depth, "what #_ leaves out")?;
            Ok(None)
        }
        Some(b'#') => {
            source.skip();
            word(source).map(|word| Some(Edn::Word(format!("##{word}").into())))
        }
        // a tag, as of #jepsen.history.Op{…}: the value is what counts
        _ => {
            word(source)?;
            required(source, depth, "a value behind the tag").map(Some)
        }
    }
}

/// A string, with what is escaped in it.
fn text<R: BufRead>(source: &mut Source<R>) -> Result<String, Malformed> {
    let begun = source.here();
    source.skip();
    let mut bytes = Vec::new();
    loop {
        match source.next()? {
            None => return Err(begun.malformed("this string is never closed".to_owned())),
            Some(b'"') => break,
            Some(b'\\') => match source.next()? {
                Some(b'n') => bytes.push(b'\n'),
                Some(b't') => bytes.push(b'\t'),
                Some(b'r') => bytes.push(b'\r'),
                Some(b'b') => bytes.push(8),
                Some(b'f') => bytes.push(12),
                Some(b'u') => {
                    let first = code(source, begun)?;
                    let second = match first {
                        0xd800..0xdc00 if source.next()? == Some(b'\\') && source.next()? == Some(b'u') => {
                            Some(code(source, begun)?)
                        }
                        _ => None,
                    };
                    let symbol = char::decode_utf16([first].into_iter().chain(second)).next();
                    let Some(Ok(symbol)) = symbol else {
                        return Err(begun.malformed("half of a pair of \\u without the other".to_owned()));
                    };
                    bytes.extend_from_slice(symbol.encode_utf8(&mut [0; 4]).as_bytes());
                }
                Some(byte @ (b'"' | b'\\')) => bytes.push(byte),
                Some(other) => {
                    let message = format!("\\{} means nothing in a string", char::from(other));
                    return Err(begun.malformed(message));
                }
                None => return Err(begun.malformed("this string is never closed".to_owned())),
            },
            Some(byte) => bytes.push(byte),
        }
    }
    String::from_utf8(bytes).map_err(|_| begun.malformed("this string is not UTF-8".to_owned()))
}

/// The four digits of a `\u`.
fn code<R: BufRead>(source: &mut Source<R>, begun: Place) -> Result<u16, Malformed> {
    let mut code = 0;
    for _ in 0..4 {
        let digit = source.next()?.and_then(|byte| char::from(byte).to_digit(16));
        let digit = digit.ok_or_else(|| begun.malformed("a \\u without four digits".to_owned()))?;
        code = code * 16 + digit as u16;
    }
    Ok(code)
}

fn character<R: BufRead>(source: &mut Source<R>) -> Result<Edn, Malformed> {
    let begun = source.here();
    source.skip();
    let mut bytes = vec![b'\\'];
    // the character itself may be a bracket or a blank
    bytes.extend(source.next()?);
    while let Some(byte) = source.peek()?.filter(|&byte| is_of_word(byte)) {
        bytes.push(byte);
        source.skip();
    }
    let text = String::from_utf8(bytes).map_err(|_| begun.malformed("not UTF-8".to_owned()))?;
    Ok(Edn::Word(text.into()))
}

fn is_of_word(byte: u8) -> bool {
    !matches!(
        byte,
        b' ' | b'\t' | b'\r' | b'\n' | b',' | b';' | b'"' | b'(' | b')' | b'[' | b']' | b'{' | b'}' | 0x0c
    )
}

fn word<R: BufRead>(source: &mut Source<R>) -> Result<String, Malformed> {
    let begun = source.here();
    let mut bytes = Vec::new();
    while let Some(byte) = source.peek()?.filter(|&byte| is_of_word(byte)) {
        bytes.push(byte);
        source.skip();
    }
    if bytes.is_empty() {
        return Err(begun.malformed("expected a word".to_owned()));
    }
    String::from_utf8(bytes).map_err(|_| begun.malformed("not UTF-8".to_owned()))
}

fn atom(word: &str) -> Edn {
    match word {
        "nil" => Edn::Nil,
        "true" => Edn::Bool(true),
        "false" => Edn::Bool(false),
        number => number
            .strip_suffix('N')
            .unwrap_or(number)
            .parse()
            .map_or_else(|_| Edn::Word(word.into()), Edn::Integer),
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Option<Edn>, Malformed> {
        value(&mut Source::new(text.as_bytes()))
    }

    #[test]
    fn reads_what_jepsen_writes() {
        let cases = [
            ("nil", "nil"),
            (" ; a comment\n {:a 1, :b [2 3N]}", "{:a 1, :b [2 3]}"),
            (r##"#jepsen.history.Op{:value "#{ #[ \"x\\ ö"}"##, r##"{:value "#{ #[ \"x\\ ö"}"##),
            ("#{3 1 2 1}", "#{1 2 3}"),
            ("(:read #_ignored nil \\a \\newline 1.5 1/2 ##NaN)", "[:read nil \\a \\newline 1.5 1/2 ##NaN]"),
            ("#inst \"2020-01-01\"", "\"2020-01-01\""),
            ("^{:line 1} [x/y]", "[x/y]"),
            ("\"\\u00e4\"", "\"ä\""),
            ("99999999999999999999", "99999999999999999999"),
        ];
        for (text, expected) in cases {
            assert_eq!(read(text).unwrap().unwrap().to_string(), expected);
        }
        assert_eq!(read(" ,; nothing").unwrap(), None);
    }

    #[test]
    fn errors_name_the_place() {
        let cases = [
            ("[1 2", "line 1, column 1: this is never closed with `]`"),
            ("{:a 1\n :b}", "line 1, column 1: no value for :b in this map"),
            ("[1\n  2)", "line 2, column 4: `)` where `]` is missing"),
            ("\n\"abc", "line 2, column 1: this string is never closed"),
            ("#", "line 1, column 2: expected a word"),
        ];
        for (text, expected) in cases {
            assert_eq!(read(text).unwrap_err().to_string(), expected);
        }
        let deep = "[".repeat(100_000);
        assert!(read(&deep).unwrap_err().to_string().contains("more than 64 brackets"));
    }
}
