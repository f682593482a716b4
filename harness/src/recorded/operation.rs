//! What a client asked, and what came of it.

use std::collections::HashMap;

use checker::history::Key;
use clap::ValueEnum;

use super::Recorded;

/// An operation with all that the history says of it. Texts are indices of [`Texts`].
#[derive(Clone, Debug)]
pub(crate) struct Operation {
    pub(crate) invoked: u64,
    /// When it was answered, refused or given up; `None`: the history ends before.
    pub(crate) ended: Option<u64>,
    /// Lines of the history; 0: there is none.
    pub(crate) line: u32,
    pub(crate) end_line: u32,
    pub(crate) process: u64,
    pub(crate) client: u64,
    /// The node that was asked first, and the one that was asked last.
    pub(crate) node: u64,
    pub(crate) last_node: u64,
    pub(crate) what: What,
    pub(crate) outcome: Outcome,
    pub(crate) key: u32,
    /// Whether the key is an integer, and not a text that looks like one.
    pub(crate) integer: bool,
    pub(crate) value: u32,
    pub(crate) expected: u32,
    pub(crate) returned: u32,
    pub(crate) swapped: Option<bool>,
    pub(crate) version: u64,
    pub(crate) index: u64,
    pub(crate) leader: u64,
    pub(crate) ballot: u32,
    pub(crate) fast: bool,
    pub(crate) local: bool,
    pub(crate) error: u32,
    pub(crate) trip: u32,
}

/// What was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum What {
    Get,
    Put,
    Cas,
    Delete,
}

/// How it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Outcome {
    Ok,
    Fail,
    Info,
    /// The history ends before.
    Open,
}

impl What {
    /// The word that stands for it in a history.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Get => "get",
            Self::Put => "put",
            Self::Cas => "cas",
            Self::Delete => "delete",
        }
    }
}

impl Outcome {
    /// The word that stands for it in a history; `open` where none does.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Fail => "fail",
            Self::Info => "info",
            Self::Open => "open",
        }
    }
}

impl Operation {
    /// Whether an answer came.
    pub(crate) fn answered(&self) -> bool {
        self.outcome == Outcome::Ok
    }

    /// Its key.
    pub(crate) fn named(&self, run: &Recorded) -> Option<Key> {
        let text = run.texts.get(self.key)?;
        if self.integer { text.parse().ok().map(Key::Integer) } else { Some(Key::String(text.to_owned())) }
    }

    /// The last moment at which it may have happened: one whose outcome is unknown may at any time.
    pub(crate) fn may_happen_until(&self) -> u64 {
        match self.outcome {
            Outcome::Info | Outcome::Open => u64::MAX,
            Outcome::Ok | Outcome::Fail => self.ended.unwrap_or(u64::MAX),
        }
    }

    /// Whether its answer holds what the key held.
    pub(crate) fn tells_a_value(&self) -> bool {
        self.answered() && (self.what == What::Get || self.swapped == Some(false))
    }
}

/// Texts by number; 0 is none.
#[derive(Debug)]
pub(crate) struct Texts {
    texts: Vec<String>,
    numbers: HashMap<String, u32>,
}

impl Default for Texts {
    fn default() -> Self {
        Self { texts: vec![String::new()], numbers: HashMap::new() }
    }
}

impl Texts {
    pub(super) fn number(&mut self, text: &str) -> u32 {
        if let Some(number) = self.numbers.get(text) {
            return *number;
        }
        let number = self.texts.len() as u32;
        self.texts.push(text.to_owned());
        self.numbers.insert(text.to_owned(), number);
        number
    }

    pub(super) fn optional(&mut self, text: Option<&String>) -> u32 {
        text.map_or(0, |text| self.number(text))
    }

    /// The number of a text; one that stands for nothing else if the run does not hold it.
    pub(crate) fn find(&self, text: &str) -> u32 {
        self.numbers.get(text).copied().unwrap_or(u32::MAX)
    }

    /// The text of a number; `None`: there is none.
    pub(crate) fn get(&self, number: u32) -> Option<&str> {
        let text = self.texts.get(number as usize).filter(|_| number > 0);
        text.map(String::as_str)
    }
}
