//! `harness export`: a run's operations in the forms that other tools read.

mod edn;
mod table;

pub(crate) use table::row;

use std::{
    io::{self, BufWriter, ErrorKind, Write},
    path::PathBuf,
    process::ExitCode,
};

use anyhow::Result;
use clap::{Args, ValueEnum};

use crate::results::write_whole;

/// What to write, and where.
#[derive(Debug, Args)]
pub struct ExportArguments {
    /// The folder of a run, such as results/latest.
    #[arg(value_name = "RUN_DIR")]
    folder: PathBuf,
    /// For whom.
    #[arg(long = "as", value_enum)]
    form: Form,
    /// Only the operations on this key, as the history writes it; for `jepsen` as those of one register, without the key.
    #[arg(long)]
    key: Option<String>,
    /// Where to write it, instead of standard output.
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
}

/// The forms.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Form {
    /// Jepsen's history in EDN: read, write and cas of independent keys, with the faults; Knossos reads that of one key.
    Jepsen,
    /// Transactions of registers in EDN, for elle-cli (`--model rw-register`); there must be no deletes.
    Elle,
    /// Comma-separated values with a header: one line for each operation, times in nanoseconds.
    Csv,
}

/// Writes what is asked for.
pub fn main(arguments: &ExportArguments) -> ExitCode {
    match export(arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {}: {error:#}", arguments.folder.display());
            ExitCode::from(2)
        }
    }
}

fn export(arguments: &ExportArguments) -> Result<()> {
    let Some(path) = &arguments.output else {
        let mut out = BufWriter::new(io::stdout().lock());
        let written = write(arguments, &mut out).and_then(|()| out.flush().map_err(Into::into));
        // whoever read it may have seen enough
        let left = |error: &anyhow::Error| {
            error.chain().any(|cause| {
                cause.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == ErrorKind::BrokenPipe)
            })
        };
        return if written.as_ref().is_err_and(left) { Ok(()) } else { written };
    };
    write_whole(path, |out| write(arguments, out))
}

fn write(arguments: &ExportArguments, out: &mut impl Write) -> Result<()> {
    let key = arguments.key.as_deref();
    match arguments.form {
        Form::Jepsen => edn::write(&arguments.folder, edn::Dialect::Jepsen, key, out),
        Form::Elle => edn::write(&arguments.folder, edn::Dialect::Elle, key, out),
        Form::Csv => table::write(&arguments.folder, key, out),
    }
}
