//! What a run has shown: figures, verdicts and the words for them.

mod figures;
mod summary;
mod verdict;

pub use figures::{FaultFigures, Figures, Latency, Outcomes};
pub use summary::{render, verdict_line};
pub use verdict::{Check, FAILED, Facts, NEVER_REACHED, Report, Status, judge, missing, name_of, severity};
