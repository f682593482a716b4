//! Histories that others wrote: Jepsen's and Knossos's EDN, Jepsen's history.txt and the two formats of Porcupine's corpus.
//!
//! Whatever it is written in, a history is a sequence of events ([`Event`]): a process invokes an operation, and one later event
//! of the same process may tell what became of it. [`read`] pairs them into operations ([`Call`]); what these mean to a model is
//! the concern of [`crate::judge`].

mod detect;
mod edn;
mod events;
mod lines;
mod source;

use std::io::BufRead;

pub use detect::detect;
pub use edn::Edn;
pub use events::{Answer, Call, Event, Lines};

use crate::history::{Kind, Truncated};
use events::Pairing;
use source::Source;

/// How a history is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// This project's JSON lines.
    Jsonl,
    /// Maps of Jepsen and Knossos, in a vector, a list, or bare.
    Edn,
    /// Jepsen's history.txt: process, type, function and value in columns.
    #[value(name = "jepsen-txt")]
    JepsenText,
    /// Jepsen's log as in Porcupine's corpus: the same columns behind `INFO jepsen.util -`. A cas that fails did not match.
    PorcupineLog,
    /// One EDN map a line with string keys: Porcupine's key-value stores.
    PorcupineKv,
    /// This project's compact form.
    Compact,
}

/// A history as it was read.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Calls {
    /// Operations that happened or may have happened, by invocation.
    pub list: Vec<Call>,
    /// How many operations certainly did not happen.
    pub failed: usize,
    /// A last line that was cut off by a crash.
    pub truncated: Option<Truncated>,
}

/// Why a history cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum Malformed {
    /// The file cannot be read.
    #[error(transparent)]
    Io(#[from] std::io::Error),
    /// Something does not fit.
    #[error("line {line}, column {column}: {message}")]
    At {
        /// The line, from 1.
        line: usize,
        /// The column, from 1, in bytes.
        column: usize,
        /// What is wrong.
        message: String,
    },
}

/// Reads a value from the command line.
pub fn parse_value(text: &str) -> Result<Edn, Malformed> {
    let mut source = Source::new(text.as_bytes());
    edn::value(&mut source)?.ok_or_else(|| source.malformed("expected a value".to_owned()))
}

/// Reads a history.
pub fn read(bytes: impl BufRead, format: Format) -> Result<Calls, Malformed> {
    let mut source = Source::new(bytes);
    let mut pairing = Pairing::new(format);
    let mut truncated = None;
    match format {
        Format::JepsenText | Format::PorcupineLog => truncated = columns(&mut source, &mut pairing)?,
        Format::Edn | Format::PorcupineKv => maps(&mut source, &mut pairing)?,
        Format::Jsonl | Format::Compact => {
            return Err(source.malformed("this project's own forms have readers of their own".to_owned()));
        }
    }
    Ok(Calls { truncated, ..pairing.finish() })
}

/// Reads lines of columns. A value that is cut off may look like another, so a last line without an end is left out.
fn columns(source: &mut Source<impl BufRead>, pairing: &mut Pairing) -> Result<Option<Truncated>, Malformed> {
    loop {
        let place = source.here();
        let Some(line) = source.line()? else { return Ok(None) };
        let Some(line) = line.strip_suffix(b"\n") else {
            return Ok(Some(Truncated { line: place.line, bytes: line.len() }));
        };
        if let Some(event) = lines::event(line, place)? {
            pairing.take(event).map_err(|message| place.malformed(message))?;
        }
    }
}

/// Reads maps, bare or in one pair of brackets.
fn maps(source: &mut Source<impl BufRead>, pairing: &mut Pairing) -> Result<(), Malformed> {
    let open = edn::blank(source)?.filter(|byte| matches!(byte, b'[' | b'('));
    let begun = source.here();
    if open.is_some() {
        source.skip();
    }
    loop {
        edn::blank(source)?;
        let place = source.here();
        let Some(map) = edn::event(source)? else { break };
        let event = Event::of_map(map, place.line).map_err(|message| place.malformed(message))?;
        if let Some(event) = event {
            pairing.take(event).map_err(|message| place.malformed(message))?;
        }
    }
    let close = match open {
        Some(b'[') => Some(b']'),
        Some(_) => Some(b')'),
        None => None,
    };
    match (source.peek()?, close) {
        (None, None) => Ok(()),
        (None, Some(close)) => {
            Err(begun.malformed(format!("the history is never closed with `{}`", char::from(close))))
        }
        (found, close) if found == close => {
            source.skip();
            match edn::blank(source)? {
                None => Ok(()),
                Some(_) => {
                    Err(source.malformed("something follows behind the end of the history".to_owned()))
                }
            }
        }
        (Some(byte), _) => Err(source.malformed(format!("`{}` closes nothing here", char::from(byte)))),
    }
}
