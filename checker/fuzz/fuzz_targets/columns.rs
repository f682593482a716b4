//! Lines of columns: Jepsen's history.txt and its log.
#![no_main]

use checker::formats::{self, Format};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    for format in [Format::JepsenText, Format::PorcupineLog] {
        let _ = formats::read(bytes, format);
    }
    let _ = formats::detect(bytes);
});
