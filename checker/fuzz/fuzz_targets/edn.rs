//! Maps of Jepsen and Knossos, and what they mean to each model.
#![no_main]

use checker::budget::Budget;
use checker::formats::{self, Format};
use checker::judge::{Object, Question, judge};
use libfuzzer_sys::fuzz_target;

const OBJECTS: [Object; 9] = [
    Object::Kv,
    Object::Register,
    Object::CasRegister,
    Object::MultiRegister,
    Object::AppendKv,
    Object::Mutex,
    Object::Counter,
    Object::Set,
    Object::Queue,
];

fuzz_target!(|bytes: &[u8]| {
    for format in [Format::Edn, Format::PorcupineKv] {
        let Ok(calls) = formats::read(bytes, format) else { continue };
        for object in OBJECTS {
            let budget = Budget { steps: Some(200), memory: Some(1 << 20), threads: Some(1), ..Budget::default() };
            let question = Question { object, format, initial: None, whole: false, verify: false, budget };
            let _ = judge(&calls, &question);
        }
    }
});
