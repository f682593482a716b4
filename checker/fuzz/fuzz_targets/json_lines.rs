//! This project's JSON lines.
#![no_main]

use checker::history::History;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let _ = History::parse(text);
});
