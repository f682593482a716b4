//! Columns of numbers, packed into text: variable-length integers in base64, which browsers unpack at once.

use serde::{Serialize, Serializer};

/// A column of whole numbers; small ones take a byte each. Written as base64 of LEB128.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Column {
    bytes: Vec<u8>,
    last: i64,
}

impl Column {
    /// The numbers as they are.
    pub(super) fn plain(numbers: impl IntoIterator<Item = u64>) -> Self {
        let mut column = Self::default();
        numbers.into_iter().for_each(|number| column.put(number));
        column
    }

    /// The differences between one number and the next, which may be negative.
    pub(super) fn deltas(numbers: impl IntoIterator<Item = u64>) -> Self {
        let mut column = Self::default();
        for number in numbers {
            let delta = number as i64 - column.last;
            column.last = number as i64;
            column.put(((delta << 1) ^ (delta >> 63)) as u64);
        }
        column
    }

    fn put(&mut self, mut number: u64) {
        while number >= 0x80 {
            self.bytes.push(number as u8 | 0x80);
            number >>= 7;
        }
        self.bytes.push(number as u8);
    }

    fn base64(&self) -> String {
        const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
        let mut text = String::with_capacity(self.bytes.len().div_ceil(3) * 4);
        for three in self.bytes.chunks(3) {
            let word =
                (0..3).fold(0_u32, |word, at| word << 8 | u32::from(three.get(at).copied().unwrap_or(0)));
            for digit in 0..4 {
                let known = digit <= three.len();
                let digit = DIGITS[(word >> (18 - 6 * digit)) as usize & 63];
                text.push(if known { char::from(digit) } else { '=' });
            }
        }
        text
    }
}

impl Serialize for Column {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.base64())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_base64_of_variable_length_integers() {
        assert_eq!(Column::plain([0, 1, 127]).base64(), "AAF/");
        assert_eq!(Column::plain([128]).base64(), "gAE=");
        assert_eq!(Column::plain([300, 5]).base64(), "rAIF");
        assert_eq!(Column::plain([7]).base64(), "Bw==");
        assert_eq!(Column::plain([]).base64(), "");
        assert_eq!(Column::deltas([5, 3, 3, 200]).bytes, [10, 3, 0, 0x8a, 0x03]);
    }
}
