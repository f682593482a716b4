//! Reading them: what there is at once, single messages by the span of time that they are wanted of.

use std::{
    fs::File,
    io::{BufRead as _, BufReader, ErrorKind, Read as _, Seek as _, SeekFrom},
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, ensure};
use store::node::wire::Kind;

use super::{
    EARLIER, FILE, Header, Message, VERSION,
    block::{self, Summary},
};

/// The longest block that is believed.
const LONGEST: u32 = 64 << 20;

/// Most bytes of what a block says of itself.
const SUMMARY: usize = 60;

/// The messages of a run, on disk.
#[derive(Debug)]
pub(crate) struct Messages {
    pieces: Vec<Piece>,
    /// How many there are.
    pub(crate) count: u64,
    /// How many should be there and are not: there was no time to write them down.
    pub(crate) lost: u64,
    /// How many were there and went, since they were too many, and until when such were sent.
    pub(crate) gone: u64,
    pub(crate) gone_until: u64,
    /// Whether the record was ended in order; otherwise its last messages are missing.
    pub(crate) ended: bool,
}

/// One file.
#[derive(Debug)]
struct Piece {
    path: PathBuf,
    kinds: Vec<Kind>,
    /// Where each block begins, how long it is, and what it says of itself.
    blocks: Vec<(u64, usize, Summary)>,
}

impl Messages {
    /// What a run's folder holds; none: the run has recorded none.
    pub(crate) fn open(folder: &Path) -> Result<Option<Self>> {
        Self::of_files(folder, &[EARLIER, FILE])
    }

    /// What a file of another name holds.
    pub(crate) fn open_as(folder: &Path, name: &str) -> Result<Option<Self>> {
        Self::of_files(folder, &[name])
    }

    fn of_files(folder: &Path, names: &[&str]) -> Result<Option<Self>> {
        let mut all = Self { pieces: Vec::new(), count: 0, lost: 0, gone: 0, gone_until: 0, ended: false };
        for name in names {
            let path = folder.join(name);
            let file = match File::open(&path) {
                Err(error) if error.kind() == ErrorKind::NotFound => continue,
                file => file,
            };
            all.take(&path, file?).with_context(|| format!("{name} cannot be read"))?;
        }
        Ok((!all.pieces.is_empty()).then_some(all))
    }

    /// All that were under way in this span of time, link by link.
    pub(crate) fn between(&self, from: u64, to: u64, mut each: impl FnMut(Message)) -> Result<()> {
        for Piece { path, kinds, blocks } in &self.pieces {
            let mut file = File::open(path)?;
            for (at, length, _) in
                blocks.iter().filter(|(_, _, block)| block.first <= to && block.last >= from)
            {
                let mut bytes = vec![0; *length];
                file.seek(SeekFrom::Start(*at))?;
                file.read_exact(&mut bytes)?;
                let (_, messages) = block::read(&bytes, kinds).context("a block is damaged")?;
                for message in messages {
                    let message = message.context("a message is damaged")?;
                    if message.sent <= to && message.last() >= from {
                        each(message);
                    }
                }
            }
        }
        Ok(())
    }

    /// What is missing, in words; none: nothing is, as far as the record knows.
    pub(crate) fn missing(&self) -> Option<String> {
        let lost = (self.lost > 0).then(|| format!("{} for want of time to write them down", self.lost));
        let gone = (self.gone > 0).then(|| {
            let until = self.gone_until as f64 / 1e9;
            format!("{} from before {until:.3} s, since only the last ones are kept", self.gone)
        });
        let cut = (!self.ended).then(|| "the last ones, since the record was cut off".to_owned());
        let all: Vec<String> = [lost, gone, cut].into_iter().flatten().collect();
        (!all.is_empty()).then(|| all.join("; "))
    }

    fn take(&mut self, path: &Path, file: File) -> Result<()> {
        let mut file = BufReader::new(file);
        let mut line = Vec::new();
        file.read_until(b'\n', &mut line)?;
        let header: Header = serde_json::from_slice(&line).context("its first line")?;
        ensure!(header.version == VERSION, "its version is {}, not {VERSION}", header.version);
        (self.gone, self.gone_until) = (header.gone, header.gone_until);
        let mut piece = Piece { path: path.to_owned(), kinds: header.kinds, blocks: Vec::new() };
        let (mut at, end) = (line.len() as u64, file.get_ref().metadata()?.len());
        self.ended = false;
        let mut length = [0; 4];
        while !self.ended && at + 4 <= end {
            file.read_exact(&mut length)?;
            let length = u32::from_le_bytes(length);
            // a block that is not whole is what was being written when the run was killed
            if length > LONGEST || at + 4 + u64::from(length) > end {
                break;
            }
            let mut first = [0; SUMMARY];
            let told = SUMMARY.min(length as usize);
            file.read_exact(&mut first[..told])?;
            file.seek_relative(i64::from(length) - told as i64)?;
            let Some(summary) = block::summary(&mut &first[..told]) else { break };
            self.ended = summary.count == 0 && summary.lost == 0;
            self.count += summary.count;
            self.lost += summary.lost;
            piece.blocks.push((at + 4, length as usize, summary));
            at += 4 + u64::from(length);
        }
        self.pieces.push(piece);
        Ok(())
    }
}
