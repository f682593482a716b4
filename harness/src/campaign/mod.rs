//! Campaigns: every workload of some folders, in simulated time, seed after seed as long as the time lasts.
//!
//! A negative workload is over as soon as a seed shows what it expects; what fails is shrunk. Any other workload takes its share
//! of the time. The table says of each planted bug whether it was reached, which check found it and after how many seeds, and
//! how small the plan is that still shows it.
//!
//! | file | |
//! |---|---|
//! | `cases` | the workloads of files and folders |
//! | `hunt` | the seeds of one workload, until something is found or its time is up |
//! | `table` | what is printed |
//! | `junit` | the same for a CI server |
//! | `command` | the command line |

mod cases;
pub mod command;
mod hunt;
mod junit;
mod table;

use std::time::Duration;

use crate::shrink::{Kind, Size};

/// How the seeds of one workload went.
#[derive(Clone, Debug)]
pub struct Row {
    /// The workload: its file, with its place in the folder that was searched.
    pub workload: String,
    /// Its planted bug, if it has one.
    pub mutant: Option<String>,
    /// How often the planted bug was reached, in all seeds.
    pub reached: u64,
    /// Seeds that were run.
    pub seeds: u64,
    /// What was found first, if anything was.
    pub found: Option<Found>,
    /// Whether that is what the workload expects.
    pub verdict: Verdict,
    /// Why, in words.
    pub words: String,
    /// How long the seeds took.
    pub took: Duration,
}

/// What a seed has shown.
#[derive(Clone, Debug)]
pub struct Found {
    /// The seed.
    pub seed: u64,
    /// The check, and the invariant.
    pub kind: Kind,
    /// How small the plan is that still shows it, if it was shrunk, and how long that took.
    pub shrunk: Option<(Size, Duration)>,
    /// How to see it again.
    pub again: String,
}

/// How a workload of a campaign went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// As expected: nothing was found, or the planted bug was.
    Expected,
    /// Something was found that is not expected, or a planted bug was reached and not found.
    Unexpected,
    /// Nothing is decided.
    Undecided,
    /// The simulator failed.
    Failed,
}

impl Verdict {
    /// Its exit code.
    pub fn exit_code(self) -> u8 {
        match self {
            Self::Expected => 0,
            Self::Unexpected => 1,
            Self::Undecided => 3,
            Self::Failed => crate::report::FAILED,
        }
    }
}
