//! Writing them.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{self, Write as _},
    path::{Path, PathBuf},
};

use super::{Block, EARLIER, FILE, Header, Message, SEGMENT};

/// The files of a run that goes on.
#[derive(Debug)]
pub(crate) struct Writer {
    folder: PathBuf,
    name: &'static str,
    file: File,
    /// How long a file grows; what this one has, and of the earlier one; and what went.
    segment: u64,
    bytes: u64,
    now: Held,
    earlier: Held,
    gone: Held,
}

/// What files hold.
#[derive(Clone, Copy, Debug, Default)]
struct Held {
    messages: u64,
    until: u64,
}

impl Writer {
    /// Begins the file of a run, and removes what an earlier one has left.
    pub(crate) fn create(folder: &Path) -> io::Result<Self> {
        Self::with_segments(folder, FILE, SEGMENT)
    }

    fn with_segments(folder: &Path, name: &'static str, segment: u64) -> io::Result<Self> {
        match fs::remove_file(folder.join(EARLIER)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let (file, bytes) = begin(&folder.join(name), Held::default())?;
        let (now, earlier, gone) = Default::default();
        Ok(Self { folder: folder.to_owned(), name, file, segment, bytes, now, earlier, gone })
    }

    /// Writes the messages of one link.
    pub(crate) fn write(&mut self, from: u64, to: u64, block: &Block) -> io::Result<()> {
        let bytes = block.finished(from, to);
        if self.bytes + bytes.len() as u64 > self.segment {
            self.begin_another()?;
        }
        self.file.write_all(&bytes)?;
        self.bytes += bytes.len() as u64;
        let summary = block.summary(from, to);
        self.now.messages += summary.count + summary.lost;
        self.now.until = self.now.until.max(summary.last);
        Ok(())
    }

    /// Says that nothing comes after this.
    pub(crate) fn finish(mut self) -> io::Result<()> {
        self.file.write_all(&Block::default().finished(0, 0))
    }

    fn begin_another(&mut self) -> io::Result<()> {
        let path = self.folder.join(self.name);
        fs::rename(&path, self.folder.join(EARLIER))?;
        self.gone.messages += self.earlier.messages;
        self.gone.until = self.gone.until.max(self.earlier.until);
        self.earlier = std::mem::take(&mut self.now);
        (self.file, self.bytes) = begin(&path, self.gone)?;
        Ok(())
    }
}

fn begin(path: &Path, gone: Held) -> io::Result<(File, u64)> {
    let mut line = serde_json::to_vec(&Header::new(gone.messages, gone.until))?;
    line.push(b'\n');
    let mut file = File::create(path)?;
    file.write_all(&line)?;
    Ok((file, line.len() as u64))
}

/// Messages that go into one block.
const AT_ONCE: usize = 4096;

/// Writes all messages of a run that is over into one file of this name; those of each link in their order.
pub(crate) fn write_all(folder: &Path, name: &'static str, messages: &[Message]) -> io::Result<()> {
    let mut writer = Writer::with_segments(folder, name, u64::MAX)?;
    for messages in messages.chunks(AT_ONCE) {
        let mut links: BTreeMap<(u64, u64), Block> = BTreeMap::new();
        for message in messages {
            links.entry((message.from, message.to)).or_default().push(message);
        }
        for ((from, to), block) in links {
            writer.write(from, to, &block)?;
        }
    }
    writer.finish()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::messages::{Fate, Messages};

    fn message(number: u64) -> Message {
        let sent = 1_000_000 * number;
        Message {
            sent,
            from: 1,
            to: 2,
            connection: 0,
            back: false,
            number,
            told: None,
            fate: Fate::Arrived(sent + 500),
            fault: None,
            again: false,
        }
    }

    #[test]
    fn the_last_messages_stay_and_what_went_is_counted() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut writer = Writer::with_segments(folder.path(), FILE, 4096).expect("begun");
        for piece in 0..200 {
            let mut block = Block::default();
            (0..10).for_each(|number| block.push(&message(10 * piece + number)));
            if piece == 3 || piece == 199 {
                block.lose(5);
            }
            writer.write(1, 2, &block).expect("written");
        }
        writer.finish().expect("finished");
        let size = |name| fs::metadata(folder.path().join(name)).expect("a file").len();
        assert!(size(FILE) <= 4096 + 16 && size(EARLIER) <= 4096);
        let messages = Messages::open(folder.path()).expect("readable").expect("there");
        let mut numbers = Vec::new();
        messages.between(0, u64::MAX, |message| numbers.push(message.number)).expect("read");
        let first = numbers[0];
        assert_eq!(numbers, (first..2000).collect::<Vec<_>>(), "no gap");
        // with the five that there was no time for
        assert!(first > 40 && messages.gone == first + 5, "{first} went, {} are counted", messages.gone);
        assert_eq!(messages.gone_until, 1_000_000 * (first - 1) + 500);
        assert_eq!((messages.lost, messages.count, messages.ended), (5, 2000 - first, true));
        let mut few = Vec::new();
        messages.between(1_990_000_000, 1_991_000_000, |message| few.push(message.number)).expect("read");
        assert_eq!(few, [1990, 1991]);
    }

    #[test]
    fn a_file_that_was_cut_off_is_read_as_far_as_it_goes_and_says_so() {
        let folder = tempfile::tempdir().expect("a folder");
        let all: Vec<Message> = (0..5000).map(message).collect();
        write_all(folder.path(), FILE, &all).expect("written");
        let whole = fs::read(folder.path().join(FILE)).expect("read");
        fs::write(folder.path().join(FILE), &whole[..whole.len() - 100]).expect("cut");
        let messages = Messages::open(folder.path()).expect("readable").expect("there");
        assert_eq!((messages.count, messages.ended), (4096, false));
        fs::write(folder.path().join(FILE), b"{\"version\":99}\n").expect("written");
        assert!(Messages::open(folder.path()).is_err());
    }
}
