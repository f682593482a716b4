//! The compact form, with the second pass that looks up what is told in words.
#![no_main]

use checker::budget::Budget;
use checker::compact::Compact;
use checker::linearizability::check_compact;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let file = tempfile::NamedTempFile::new().expect("a place for it");
    std::fs::write(file.path(), bytes).expect("it can be written");
    if let Ok(history) = Compact::read(file.path()) {
        let budget = Budget { steps: Some(200), memory: Some(1 << 20), threads: Some(1), ..Budget::default() };
        check_compact(&history, budget);
    }
});
