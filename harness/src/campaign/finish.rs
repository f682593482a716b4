//! What campaigns, and several that were merged, write and print at their end.

use std::{io::Write as _, path::PathBuf};

use anyhow::Result;
use clap::Args;

use super::{
    junit, markdown,
    record::Campaign,
    table::{self, Whole},
};
use crate::results::write_whole;

/// Files that are written beside `campaign.json`.
#[derive(Debug, Args)]
pub struct Reports {
    /// Also writes the rows as `JUnit` XML.
    #[arg(long, value_name = "FILE")]
    junit: Option<PathBuf>,
    /// Also writes a summary in Markdown.
    #[arg(long, value_name = "FILE")]
    summary: Option<PathBuf>,
}

impl Reports {
    /// Writes them.
    pub fn write(&self, campaign: &Campaign, remarks: &[String]) -> Result<()> {
        if let Some(path) = &self.junit {
            junit::write(path, &campaign.records)?;
        }
        if let Some(path) = &self.summary {
            let whole = Whole::of(&campaign.records, campaign.ended);
            let text = markdown::summary(&campaign.records, &whole, remarks);
            write_whole(path, |out| Ok(out.write_all(text.as_bytes())?))?;
        }
        Ok(())
    }
}

/// Prints what there is to say below the rows; what it all comes to.
pub fn told(campaign: &Campaign, remarks: &[String]) -> Whole {
    let records = &campaign.records;
    for told in table::unexpected(records).iter().chain(remarks) {
        say!("{told}");
    }
    for told in table::never(records).into_iter().chain(table::bugs(records)) {
        say!("{told}");
    }
    Whole::of(records, campaign.ended)
}
