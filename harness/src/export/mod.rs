//! `harness export`: a run's operations in the forms that other tools read.

mod edn;
mod table;

pub(crate) use table::row;

use std::{
    fs::{self, File},
    io::{self, BufWriter, ErrorKind, Write},
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context, Result};
use clap::{Args, ValueEnum};

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
    // whole or not at all
    let new = beside(path)?;
    let done =
        File::create(&new).with_context(|| format!("cannot write {}", new.display())).and_then(|file| {
            let mut out = BufWriter::new(file);
            write(arguments, &mut out)?;
            out.flush()?;
            fs::rename(&new, path).with_context(|| format!("cannot write {}", path.display()))
        });
    if done.is_err() {
        let _ = fs::remove_file(&new);
    }
    done
}

/// A name in the same folder, for what is not whole yet.
fn beside(path: &Path) -> Result<PathBuf> {
    let name = path.file_name().with_context(|| format!("{} is no name of a file", path.display()))?;
    Ok(path.with_file_name(format!(".{}-{}", name.to_string_lossy(), std::process::id())))
}

fn write(arguments: &ExportArguments, out: &mut impl Write) -> Result<()> {
    let key = arguments.key.as_deref();
    match arguments.form {
        Form::Jepsen => edn::write(&arguments.folder, edn::Dialect::Jepsen, key, out),
        Form::Elle => edn::write(&arguments.folder, edn::Dialect::Elle, key, out),
        Form::Csv => table::write(&arguments.folder, key, out),
    }
}
