//! Bytes that are read once, with no more trust than they deserve.

use crate::formats::Malformed;

pub(super) struct Bytes<'a> {
    all: &'a [u8],
    next: usize,
}

impl<'a> Bytes<'a> {
    pub(super) fn new(all: &'a [u8]) -> Self {
        Self { all, next: 0 }
    }

    /// How many are left.
    pub(super) fn left(&self) -> usize {
        self.all.len() - self.next
    }

    /// What is wrong here: the column is the place in the file.
    pub(super) fn malformed(&self, message: String) -> Malformed {
        Malformed::At { line: 1, column: self.next + 1, message }
    }

    pub(super) fn mark(&mut self, mark: &[u8]) -> Result<(), Malformed> {
        if !self.all[self.next..].starts_with(mark) {
            return Err(self.malformed("not a history in the compact form".to_owned()));
        }
        self.next += mark.len();
        Ok(())
    }

    #[inline]
    pub(super) fn byte(&mut self) -> Result<u8, Malformed> {
        let Some(&byte) = self.all.get(self.next) else {
            return Err(self.malformed("the file ends in the middle".to_owned()));
        };
        self.next += 1;
        Ok(byte)
    }

    /// A number, seven bits a byte, the lowest first.
    #[inline]
    pub(super) fn number(&mut self) -> Result<u64, Malformed> {
        let first = self.byte()?;
        if first < 0x80 {
            return Ok(u64::from(first));
        }
        let mut number = u64::from(first & 0x7f);
        for shift in (7..64).step_by(7) {
            let byte = self.byte()?;
            number |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(number);
            }
        }
        Err(self.malformed("a number without an end".to_owned()))
    }

    /// A number of four bytes at most.
    #[inline]
    pub(super) fn small(&mut self) -> Result<u32, Malformed> {
        let number = self.number()?;
        u32::try_from(number).map_err(|_| self.malformed(format!("{number} is too large here")))
    }

    /// A number up to this one.
    #[inline]
    pub(super) fn small_up_to(&mut self, most: u32) -> Result<u32, Malformed> {
        let number = self.small()?;
        if number > most {
            return Err(self.malformed(format!("{number} is too large here: at most {most}")));
        }
        Ok(number)
    }

    /// Its length, and so many bytes.
    pub(super) fn text(&mut self) -> Result<&'a [u8], Malformed> {
        let length = self.number()? as usize;
        let Some(text) = self.all[self.next..].get(..length) else {
            return Err(self.malformed("the file ends in the middle of a text".to_owned()));
        };
        self.next += length;
        Ok(text)
    }
}
