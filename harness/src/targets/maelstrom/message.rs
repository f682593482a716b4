//! Messages of Maelstrom's protocol, and which of its errors say that an operation certainly did not happen.

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// A message.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Message {
    /// Who sends it: `n1`, `c3`.
    pub src: String,
    /// To whom.
    pub dest: String,
    /// `type`, `msg_id` or `in_reply_to`, and what goes with them.
    pub body: Value,
}

impl Message {
    /// The type of its body.
    pub fn kind(&self) -> &str {
        self.body["type"].as_str().unwrap_or_default()
    }

    /// The message that it answers.
    pub fn in_reply_to(&self) -> Option<u64> {
        self.body["in_reply_to"].as_u64()
    }

    /// As a line without its end.
    pub fn line(&self) -> Bytes {
        serde_json::to_vec(self).expect("texts and JSON values can be written").into()
    }
}

/// An error that a node answers with, by its code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// 20: there is no such key.
    NoSuchKey,
    /// Another that says that nothing happened.
    Definite(&'static str),
    /// One after which it may have happened, or may happen yet.
    Indefinite(&'static str),
}

impl Refusal {
    /// What a code means (doc/protocol.md, "Errors"); codes that it does not list are taken as indefinite, as it says.
    pub fn of(code: Option<u64>) -> Self {
        match code {
            Some(1) => Self::Definite("node-not-found"),
            Some(10) => Self::Definite("not-supported"),
            Some(11) => Self::Definite("temporarily-unavailable"),
            Some(12) => Self::Definite("malformed-request"),
            Some(14) => Self::Definite("abort"),
            Some(20) => Self::NoSuchKey,
            Some(21) => Self::Definite("key-already-exists"),
            Some(22) => Self::Definite("precondition-failed"),
            Some(30) => Self::Definite("txn-conflict"),
            Some(0) => Self::Indefinite("timeout"),
            Some(13) => Self::Indefinite("crash"),
            _ => Self::Indefinite("an error of its own"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_the_protocol_calls_definite_is_a_failure() {
        let indefinite = |code| matches!(Refusal::of(code), Refusal::Indefinite(_));
        for code in [None, Some(0), Some(13), Some(2), Some(99), Some(1000)] {
            assert!(indefinite(code), "{code:?}");
        }
        for code in [1, 10, 11, 12, 14, 20, 21, 22, 30] {
            assert!(!indefinite(Some(code)), "{code}");
        }
    }
}
