//! Bytes of a file, one after the other, with their lines and columns.

use std::io::BufRead;

use super::Malformed;

/// A place in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    /// From 1.
    pub(super) line: usize,
    /// From 1, in bytes.
    pub(super) column: usize,
}

impl Place {
    /// What is wrong here.
    pub(super) fn malformed(self, message: String) -> Malformed {
        Malformed::At { line: self.line, column: self.column, message }
    }
}

/// A file that is read once.
pub(super) struct Source<R> {
    bytes: R,
    place: Place,
}

impl<R: BufRead> Source<R> {
    pub(super) fn new(bytes: R) -> Self {
        Self { bytes, place: Place { line: 1, column: 1 } }
    }

    /// The next byte, which stays.
    pub(super) fn peek(&mut self) -> Result<Option<u8>, Malformed> {
        Ok(self.bytes.fill_buf()?.first().copied())
    }

    /// Leaves the byte behind that was looked at.
    pub(super) fn skip(&mut self) {
        let byte = self.bytes.fill_buf().ok().and_then(|bytes| bytes.first().copied());
        self.bytes.consume(usize::from(byte.is_some()));
        if byte == Some(b'\n') {
            self.place = Place { line: self.place.line + 1, column: 1 };
        } else {
            self.place.column += 1;
        }
    }

    /// Takes the next byte.
    pub(super) fn next(&mut self) -> Result<Option<u8>, Malformed> {
        let byte = self.peek()?;
        if byte.is_some() {
            self.skip();
        }
        Ok(byte)
    }

    /// The place of the next byte.
    pub(super) fn here(&self) -> Place {
        self.place
    }

    /// What is wrong at the next byte.
    pub(super) fn malformed(&self, message: String) -> Malformed {
        self.place.malformed(message)
    }

    /// Reads the rest of the line, with its end if it has one; `None`: nothing is left.
    pub(super) fn line(&mut self) -> Result<Option<Vec<u8>>, Malformed> {
        let mut line = Vec::new();
        if self.bytes.read_until(b'\n', &mut line)? == 0 {
            return Ok(None);
        }
        self.place = Place { line: self.place.line + 1, column: 1 };
        Ok(Some(line))
    }
}
