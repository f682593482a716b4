//! Campaigns: every workload of some folders, in simulated time, seed after seed as long as the time lasts.
//!
//! A negative workload is over as soon as a seed shows what it expects; what fails is shrunk. Any other workload goes on, block
//! of seeds after block. The table says of each planted bug whether it was reached, which check found it and after how many seeds,
//! and how small the plan is that still shows it. Several campaigns can share the work, be killed, go on, and be merged.
//!
//! | file | |
//! |---|---|
//! | `cases` | the workloads of files and folders |
//! | `list` | what is done in which order, and by which shard |
//! | `hunt`, `shape`, `coverage` | one piece of it: what its seeds find, how small that is, what they contained |
//! | `real` | a workload on real processes |
//! | `canary` | whether it would see that anything is wrong |
//! | `record` | `campaign.json`: all that was done so far |
//! | `judge`, `failures` | what a record comes to; what went wrong in all of them |
//! | `state` | what campaigns know from one night to the next |
//! | `kept` | runs that a `campaign.json` names, which nobody removes |
//! | `table`, `junit`, `markdown` | what is printed, the same for a CI server and for its summary |
//! | `finish` | what both command lines write and print at the end |
//! | `command`, `merge` | the command lines |

mod canary;
mod cases;
pub mod command;
mod coverage;
mod failures;
mod finish;
mod hunt;
mod judge;
mod junit;
pub(crate) mod kept;
mod list;
mod markdown;
pub mod merge;
mod real;
pub(crate) mod record;
mod shape;
mod state;
mod table;

/// How a workload of a campaign went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// As expected: nothing was found, or the planted bug was.
    Expected,
    /// Something was found that is not expected, or a planted bug was reached and not found in any of its seeds.
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

    /// In words.
    pub fn words(self) -> &'static str {
        match self {
            Self::Expected => "as expected",
            Self::Unexpected => "not as expected",
            Self::Undecided => "undecided",
            Self::Failed => "failed",
        }
    }
}
