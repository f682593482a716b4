//! What a run has shown: figures, verdicts and the words for them.

mod figures;
pub mod html;
mod lacking;
pub mod schema;
mod summary;
mod verdict;

pub use figures::{FaultFigures, Figures, Latency, Outcomes, fault_figures};
pub use lacking::{lacking, took_effect};
pub use summary::{render, verdict_line};
pub use verdict::{Check, FAILED, Facts, NEVER_REACHED, Report, Status, judge, missing, name_of, severity};
