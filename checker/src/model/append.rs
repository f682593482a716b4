//! A text that is read, replaced and appended to: a key of the stores of Porcupine's corpus.

use std::hash::{Hash, Hasher};
use std::sync::Arc;

use rustc_hash::FxHasher;
use stateright::semantics::SequentialSpec;

use crate::general::Model;

/// A text that is cheap to clone, to hash and to tell apart from others.
#[derive(Clone, Debug)]
pub struct Text {
    text: Arc<str>,
    digest: u64,
}

impl Text {
    /// The text.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    fn followed_by(&self, suffix: &Self) -> Self {
        Self::from([self.as_str(), suffix.as_str()].concat().as_str())
    }
}

impl From<&str> for Text {
    fn from(text: &str) -> Self {
        let mut hasher = FxHasher::default();
        text.hash(&mut hasher);
        Self { text: Arc::from(text), digest: hasher.finish() }
    }
}

impl Default for Text {
    fn default() -> Self {
        Self::from("")
    }
}

impl PartialEq for Text {
    fn eq(&self, other: &Self) -> bool {
        self.digest == other.digest && (Arc::ptr_eq(&self.text, &other.text) || self.text == other.text)
    }
}

impl Eq for Text {}

impl Hash for Text {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.digest.hash(state);
    }
}

/// The value of one key.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Append(pub Text);

/// What it is asked.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum AppendOp {
    /// Read.
    Get,
    /// Replace.
    Put(Text),
    /// Append.
    Append(Text),
}

impl SequentialSpec for Append {
    type Op = AppendOp;
    /// What was read; `None`: written.
    type Ret = Option<Text>;

    fn invoke(&mut self, op: &AppendOp) -> Option<Text> {
        match op {
            AppendOp::Get => return Some(self.0.clone()),
            AppendOp::Put(text) => self.0 = text.clone(),
            AppendOp::Append(text) => self.0 = self.0.followed_by(text),
        }
        None
    }
}

impl Model for Append {
    fn is_read(op: &AppendOp, _: &Option<Text>) -> bool {
        *op == AppendOp::Get
    }

    fn weight(&self) -> usize {
        self.0.as_str().len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sequence_of_operations() {
        let text = |text: &str| Text::from(text);
        let steps = [
            (AppendOp::Get, Some(text(""))),
            (AppendOp::Append(text("a")), None),
            (AppendOp::Append(text("b")), None),
            (AppendOp::Get, Some(text("ab"))),
            (AppendOp::Put(text("c")), None),
            (AppendOp::Get, Some(text("c"))),
        ];
        assert!(Append::default().is_valid_history(steps.clone()));
        let mut wrong = steps;
        wrong[3].1 = Some(text("ba"));
        assert!(!Append::default().is_valid_history(wrong));
    }
}
