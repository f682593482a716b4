//! What campaigns, and several that were merged, write and print.

use std::{io::Write as _, path::PathBuf};

use anyhow::Result;
use clap::Args;

use super::{
    Verdict,
    judge::judge,
    junit, markdown,
    record::{Campaign, Record},
    table::{self, Whole},
};
use crate::results::write_whole;

/// Files that are written beside `campaign.json`, and what is printed.
#[derive(Debug, Args)]
pub struct Reports {
    /// Also writes the rows as `JUnit` XML.
    #[arg(long, value_name = "FILE")]
    junit: Option<PathBuf>,
    /// Also writes a summary in Markdown.
    #[arg(long, value_name = "FILE")]
    summary: Option<PathBuf>,
    /// Nothing but what is not as expected, and the last line.
    #[arg(long)]
    pub quiet: bool,
    /// campaign.json as one line before the last one, instead of the table.
    #[arg(long)]
    json: bool,
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

    /// Prints the line above all rows.
    pub fn head(&self) {
        if !self.quiet && !self.json {
            say!("{}", table::head());
        }
    }

    /// Prints a row, with what is to be said of it.
    pub fn row(&self, record: &Record, remark: &str) {
        if !(self.json || self.quiet && judge(record).0 == Verdict::Expected) {
            say!("{}{remark}", table::line(record));
        }
    }

    /// Prints what else is of interest to those who look on.
    pub fn aside(&self, words: &str) {
        if !self.quiet && !self.json {
            say!("{words}");
        }
    }

    /// Prints what there is to say below the rows; what it all comes to.
    pub fn told(&self, campaign: &Campaign, remarks: &[String]) -> Whole {
        let records = &campaign.records;
        let whole = Whole::of(records, campaign.ended);
        if self.json {
            match serde_json::to_string(campaign) {
                Ok(text) => say!("{text}"),
                Err(error) => eprintln!("error: the campaign cannot be written as JSON: {error}"),
            }
            return whole;
        }
        for told in table::unexpected(records).iter().chain(remarks) {
            say!("{told}");
        }
        for told in table::never(records).into_iter().chain(table::bugs(records)) {
            self.aside(&told);
        }
        whole
    }
}
