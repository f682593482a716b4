//! The recorded traces of a run: one file per node, appended across restarts.

use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};

use crate::history::{Truncated, column_of, without_place};
use crate::trace::{TraceEvent, TraceLine};

/// The traces of all nodes of a run.
#[derive(Clone, Debug, Default)]
pub struct Traces {
    /// Each file.
    pub nodes: Vec<NodeTrace>,
}

/// One trace file: the events of one node, in the order in which it wrote them.
#[derive(Clone, Debug)]
pub struct NodeTrace {
    /// Name of the file.
    pub file: String,
    /// Its events with their lines, from 1.
    pub lines: Vec<(usize, TraceLine)>,
    /// Lines that a crash cut off.
    pub truncated: Vec<Truncated>,
}

/// Why traces cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum TraceError {
    /// A file or the folder cannot be read.
    #[error("cannot read {path}: {source}")]
    Io {
        /// The file or folder.
        path: String,
        /// Why.
        source: std::io::Error,
    },
    /// The folder holds no trace.
    #[error("{path} holds no *.jsonl file")]
    Empty {
        /// The folder.
        path: String,
    },
    /// A line does not fit.
    #[error("{file}: line {line}, column {column}: {message}")]
    Malformed {
        /// The file.
        file: String,
        /// The line, from 1.
        line: usize,
        /// The column, from 1.
        column: usize,
        /// What is wrong with it.
        message: String,
    },
}

/// Where an event stands: index of the file in [`Traces::nodes`], index in [`NodeTrace::lines`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Place {
    pub(super) file: u32,
    pub(super) index: u32,
}

impl Traces {
    /// Reads all `*.jsonl` files of a folder, in the order of their names.
    pub fn read(folder: &Path) -> Result<Self, TraceError> {
        let io = |source| TraceError::Io { path: folder.display().to_string(), source };
        let mut paths: Vec<PathBuf> = Vec::new();
        for entry in fs::read_dir(folder).map_err(io)? {
            let path = entry.map_err(io)?.path();
            if path.extension().is_some_and(|extension| extension == "jsonl") {
                paths.push(path);
            }
        }
        if paths.is_empty() {
            return Err(TraceError::Empty { path: folder.display().to_string() });
        }
        paths.sort();
        Ok(Self { nodes: paths.iter().map(|path| NodeTrace::read(path)).collect::<Result<_, _>>()? })
    }

    /// All events with their places, file by file.
    pub(super) fn lines(&self) -> impl Iterator<Item = (Place, &TraceLine)> {
        self.nodes.iter().enumerate().flat_map(|(file, node)| {
            let place = move |index: usize| Place { file: file as u32, index: index as u32 };
            node.lines.iter().enumerate().map(move |(index, (_, line))| (place(index), line))
        })
    }

    /// All events in the order of the common clock; those of one file stay in the order in which they were written.
    pub(super) fn in_common_order(&self) -> Vec<(Place, &TraceLine)> {
        let mut all: Vec<_> = self.lines().collect();
        all.sort_by_key(|(place, line)| (line.common, *place));
        all
    }
}

impl NodeTrace {
    /// A trace from events; the n-th stands for line n.
    pub fn from_lines(file: &str, lines: impl IntoIterator<Item = TraceLine>) -> Self {
        let lines = lines.into_iter().enumerate().map(|(index, line)| (index + 1, line)).collect();
        Self { file: file.to_owned(), lines, truncated: Vec::new() }
    }

    /// Reads one file.
    pub fn read(path: &Path) -> Result<Self, TraceError> {
        let io = |source| TraceError::Io { path: path.display().to_string(), source };
        let file = path.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned());
        Self::parse(file, BufReader::with_capacity(1 << 18, File::open(path).map_err(io)?))
    }

    /// Reads the contents of a file of this name. A crash may leave a half-written line: at the end of the file, or before the
    /// first event of the next boot, which has ended it.
    pub fn parse(file: String, mut reader: impl BufRead) -> Result<Self, TraceError> {
        let mut trace = Self { file, lines: Vec::new(), truncated: Vec::new() };
        let (mut text, mut halves) = (Vec::new(), Vec::new());
        for number in 1.. {
            text.clear();
            let read = reader.read_until(b'\n', &mut text);
            if read.map_err(|source| TraceError::Io { path: trace.file.clone(), source })? == 0 {
                break;
            }
            trace.take(number, text.trim_ascii(), &mut halves)?;
        }
        trace.truncated.extend(halves.into_iter().map(|half| half.cut));
        Ok(trace)
    }

    /// Takes a line. `halves` are the half-written ones since the last whole one, each the last of its boot.
    fn take(&mut self, number: usize, body: &[u8], halves: &mut Vec<Half>) -> Result<(), TraceError> {
        if body.is_empty() {
            return Ok(());
        }
        let line = match serde_json::from_slice::<TraceLine>(body) {
            Ok(line) => line,
            Err(error) => {
                let otherwise = self.malformed(number, column_of(&error, body), without_place(&error));
                // what a crash leaves is a beginning
                let is_beginning =
                    serde_json::from_slice::<serde_json::Value>(body).is_err_and(|error| error.is_eof());
                if !is_beginning {
                    return Err(otherwise);
                }
                halves.push(Half { cut: Truncated { line: number, bytes: body.len() }, otherwise });
                return Ok(());
            }
        };
        let before = self.lines.last().map_or(1, |(_, last)| last.boot);
        if line.boot < before + halves.len() as u64
            && let Some(half) = halves.pop()
        {
            return Err(half.otherwise);
        }
        self.truncated.extend(halves.drain(..).map(|half| half.cut));
        if let Some((_, last)) = self.lines.last() {
            if line.common < last.common {
                return Err(self.malformed(number, 1, "the common clock goes backwards".to_owned()));
            }
            if line.node != last.node || line.boot < last.boot {
                return Err(self.malformed(
                    number,
                    1,
                    "another node, or an earlier boot, in one file".to_owned(),
                ));
            }
        }
        self.lines.push((number, line));
        Ok(())
    }

    fn malformed(&self, line: usize, column: usize, message: String) -> TraceError {
        TraceError::Malformed { file: self.file.clone(), line, column, message }
    }
}

/// A line that may be half-written.
struct Half {
    cut: Truncated,
    /// What is wrong with it if it is not, since its boot goes on.
    otherwise: TraceError,
}

impl TraceLine {
    /// The length of a lease that a starting node is configured with.
    pub(super) fn lease(&self) -> Option<u64> {
        match self.event {
            TraceEvent::Started { lease, .. } => Some(lease),
            _ => None,
        }
    }
}
