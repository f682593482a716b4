//! A file of lines that grows: each line is handed over once, and no byte is read twice.

use std::{
    fs::File,
    io,
    os::unix::fs::{FileExt, MetadataExt},
};

/// Bytes that are read at once.
const PIECE: usize = 256 << 10;

/// A line that is longer is passed over.
const LONGEST: usize = 4 << 20;

/// Where reading stopped the last time.
#[derive(Debug, Default)]
pub(super) struct Tail {
    /// Device and number of the file.
    file: Option<(u64, u64)>,
    /// As much of it was read.
    read: u64,
    /// The beginning of a line whose end was not written yet.
    begun: Vec<u8>,
    /// The line is too long: what comes before its end is dropped.
    dropping: bool,
}

/// What reading on has come to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Read {
    /// The lines were handed over; as many bytes are still to be read.
    On {
        /// How many.
        behind: u64,
    },
    /// It is another file than the last time, or has become shorter: whatever was read before is not of this one.
    Anew,
}

impl Tail {
    /// Bytes of the file that were read.
    pub(super) fn read(&self) -> u64 {
        self.read
    }

    /// Reads about `most` of the bytes that have come since the last time, and hands over the lines that have ended.
    pub(super) fn on(&mut self, file: &File, most: u64, mut take: impl FnMut(&[u8])) -> io::Result<Read> {
        let now = file.metadata()?;
        let which = Some((now.dev(), now.ino()));
        if self.file.is_some() && (self.file != which || now.len() < self.read) {
            return Ok(Read::Anew);
        }
        self.file = which;
        let mut piece = vec![0; PIECE.min(now.len().saturating_sub(self.read) as usize)];
        let end = now.len().min(self.read + most);
        while self.read < end {
            let wanted = piece.len().min((end - self.read) as usize);
            let count = file.read_at(&mut piece[..wanted], self.read)?;
            if count == 0 {
                break;
            }
            self.read += count as u64;
            self.lines(&piece[..count], &mut take);
        }
        Ok(Read::On { behind: now.len().saturating_sub(self.read) })
    }

    fn lines(&mut self, mut bytes: &[u8], take: &mut impl FnMut(&[u8])) {
        while let Some(end) = bytes.iter().position(|byte| *byte == b'\n') {
            let (line, rest) = (&bytes[..end], &bytes[end + 1..]);
            if std::mem::take(&mut self.dropping) {
                self.begun = Vec::new();
            } else if self.begun.is_empty() {
                take(line);
            } else {
                self.begun.extend_from_slice(line);
                take(&self.begun);
                self.begun.clear();
            }
            bytes = rest;
        }
        if self.dropping || self.begun.len() + bytes.len() > LONGEST {
            (self.dropping, self.begun) = (true, Vec::new());
        } else {
            self.begun.extend_from_slice(bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{fs::OpenOptions, io::Write as _};

    use super::*;

    #[test]
    fn each_line_comes_once_however_it_was_written() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("lines");
        let mut out = OpenOptions::new().append(true).create(true).open(&path).expect("made");
        let mut tail = Tail::default();
        let mut on = |most: u64| {
            let mut lines = Vec::new();
            let file = File::open(&path).expect("there");
            let read = tail
                .on(&file, most, |line| lines.push(String::from_utf8(line.to_vec()).expect("text")))
                .expect("read");
            (lines, read, tail.read())
        };
        assert_eq!(on(100), (vec![], Read::On { behind: 0 }, 0));
        out.write_all(b"one\ntw").expect("written");
        assert_eq!(on(100), (vec!["one".to_owned()], Read::On { behind: 0 }, 6));
        out.write_all(b"o\n\nthree\n").expect("written");
        assert_eq!(on(4), (vec!["two".to_owned(), String::new()], Read::On { behind: 5 }, 10));
        assert_eq!(on(100), (vec!["three".to_owned()], Read::On { behind: 0 }, 15));
        out.set_len(3).expect("cut");
        assert_eq!(on(100), (vec![], Read::Anew, 15));
    }

    #[test]
    fn a_line_without_an_end_takes_no_memory() {
        let mut tail = Tail::default();
        let mut lines = Vec::new();
        let mut take = |line: &[u8]| lines.push(line.len());
        tail.lines(b"first\nsecond", &mut take);
        for _ in 0..3 {
            tail.lines(&vec![b'x'; LONGEST / 2], &mut take);
            assert!(tail.begun.capacity() <= LONGEST * 2);
        }
        assert!(tail.dropping && tail.begun.is_empty());
        tail.lines(b"end of it\nlast\n", &mut take);
        assert_eq!(lines, [5, 4]);
    }
}
