//! How messages and records are encoded: postcard, to the end of a buffer that is there anyway.

use postcard::ser_flavors::Flavor;
use serde::Serialize;

/// Encodes to the end of a buffer.
pub fn append<T: Serialize>(out: &mut Vec<u8>, value: &T) {
    postcard::serialize_with_flavor(value, Appended(out)).expect("a value in memory can be encoded");
}

struct Appended<'a>(&'a mut Vec<u8>);

/// Numbers have up to ten bytes, most of them one or two: to copy these one by one is faster than to call for it.
const SHORT: usize = 10;

impl Flavor for Appended<'_> {
    type Output = ();

    fn try_push(&mut self, byte: u8) -> postcard::Result<()> {
        self.0.push(byte);
        Ok(())
    }

    fn try_extend(&mut self, bytes: &[u8]) -> postcard::Result<()> {
        if bytes.len() <= SHORT {
            for byte in bytes {
                self.0.push(*byte);
            }
        } else {
            self.0.extend_from_slice(bytes);
        }
        Ok(())
    }

    fn finalize(self) -> postcard::Result<()> {
        Ok(())
    }
}
