//! The file that a node's protocol events go to.

use std::{
    fs::{File, OpenOptions},
    io::{Read, Seek, SeekFrom, Write},
    path::Path,
};

use anyhow::Context;

use super::clock::Reading;
use crate::{
    api::NodeId,
    core::{
        Output,
        trace::{TraceEvent, TraceLine},
    },
};

/// Appends the events of a turn with one write(2), before anything that they explain leaves the node: what a killed node
/// has done is in its file.
#[derive(Debug)]
pub struct TraceFile {
    file: File,
    node: NodeId,
    boot: u64,
    buffer: Vec<u8>,
}

impl TraceFile {
    /// Opens or makes the file. Ends the half line that a crash may have left, so that no later event is lost with it.
    pub fn open(path: &Path, node: NodeId, boot: u64) -> anyhow::Result<Self> {
        let problem = || format!("cannot open the trace file {}", path.display());
        let mut file =
            OpenOptions::new().append(true).read(true).create(true).open(path).with_context(problem)?;
        let mut last = [b'\n'];
        if file.metadata().with_context(problem)?.len() > 0 {
            file.seek(SeekFrom::End(-1)).with_context(problem)?;
            file.read_exact(&mut last).with_context(problem)?;
        }
        if last != [b'\n'] {
            file.write_all(b"\n").with_context(problem)?;
        }
        Ok(Self { file, node, boot, buffer: Vec::new() })
    }

    /// Writes the trace events among the outputs of a turn.
    pub fn write(&mut self, outputs: &[Output], reading: Reading) -> anyhow::Result<()> {
        self.buffer.clear();
        for output in outputs {
            if let Output::Trace(event) = output {
                self.put(event, reading)?;
            }
        }
        if self.buffer.is_empty() {
            return Ok(());
        }
        self.file.write_all(&self.buffer).context("cannot write the trace")
    }

    fn put(&mut self, event: &TraceEvent, reading: Reading) -> anyhow::Result<()> {
        let (node, boot) = (self.node, self.boot);
        let line = TraceLine { node, boot, common: reading.common, local: reading.local.0, event };
        serde_json::to_writer(&mut self.buffer, &line)?;
        self.buffer.push(b'\n');
        Ok(())
    }
}
