//! What the parsers must bear, whatever they are fed: they return, and what they read is judged and told about. Where there are two
//! ways to the same end they must agree. The fuzz targets and the test that replays their corpus feed the same functions.

#![allow(dead_code, reason = "not every test feeds")]

use std::cell::RefCell;
use std::fs;

use checker::budget::Budget;
use checker::compact::{self, Compact};
use checker::formats::{self, Format};
use checker::history::History;
use checker::judge::{Object, Question, judge};
use checker::lease_safety::{NodeTrace, Traces, check_traces};
use checker::linearizability::{Certificate, Verdict, check, check_compact};
use checker::sequential;

type Feed = fn(&[u8]);

/// Each format, by the name of its target and of the folder of its corpus.
pub const FORMATS: [(&str, Feed); 7] = [
    ("json_lines", json_lines),
    ("compact", compact_form),
    ("edn", edn),
    ("porcupine_kv", porcupine_kv),
    ("jepsen_text", jepsen_text),
    ("porcupine_log", porcupine_log),
    ("traces", traces),
];

/// What stands between two traces in one input.
const NEXT_NODE: &[u8] = b"\n--\n";

/// Enough to get anywhere, and not so much that an input takes long.
fn budget() -> Budget {
    Budget { steps: Some(300), memory: Some(1 << 20), threads: Some(1), ..Budget::default() }
}

/// This project's JSON lines: whoever reads a line, and in whatever form the history is kept, it means the same.
pub fn json_lines(bytes: &[u8]) {
    let history = History::parse(bytes);
    // a blank before it leaves a line to the slower reader
    let mut indented = bytes.split_inclusive(|&byte| byte == b'\n').fold(Vec::new(), |mut text, line| {
        text.push(b' ');
        text.extend_from_slice(line);
        text
    });
    if bytes.is_empty() || bytes.ends_with(b"\n") {
        indented.push(b' ');
    }
    let again = History::parse(&indented);
    let (Ok(mut history), Ok(mut again)) =
        (history.as_ref().map(Clone::clone), again.as_ref().map(Clone::clone))
    else {
        assert_eq!(history.is_ok(), again.is_ok(), "{history:?} {again:?}");
        return;
    };
    (history.truncated, again.truncated) = (None, None);
    assert_eq!(history, again);
    let report = check(&history, budget());
    sequential::check(&history);
    let mut written = Vec::new();
    if compact::write(&history, &mut written).is_ok() {
        let compact = in_file(&written, |read| read.map(|compact| check_compact(&compact, budget())));
        let compact = compact.expect("what was written is read");
        assert_eq!(kinds(&report.verdict()), kinds(&compact.verdict()));
    }
}

/// The compact form, with the second pass that looks up what is told in words.
pub fn compact_form(bytes: &[u8]) {
    let report = in_file(bytes, |read| read.map(|history| check_compact(&history, budget())));
    if let Some(Verdict::Violation(violation)) = report.map(|report| report.verdict()) {
        assert!(!violation.operations.is_empty());
    }
}

/// Maps of Jepsen and Knossos.
pub fn edn(bytes: &[u8]) {
    foreign(bytes, Format::Edn);
}

/// Maps of Porcupine's key-value stores.
pub fn porcupine_kv(bytes: &[u8]) {
    foreign(bytes, Format::PorcupineKv);
}

/// Columns of Jepsen's history.txt.
pub fn jepsen_text(bytes: &[u8]) {
    foreign(bytes, Format::JepsenText);
}

/// Columns of Jepsen's log.
pub fn porcupine_log(bytes: &[u8]) {
    foreign(bytes, Format::PorcupineLog);
}

/// The traces of some nodes, with a history that tells of nothing.
pub fn traces(bytes: &[u8]) {
    let mut rest = Some(bytes);
    let mut nodes = Vec::new();
    while let Some(text) = rest {
        let end = text.windows(NEXT_NODE.len()).position(|window| window == NEXT_NODE);
        let (node, others) =
            end.map_or((text, None), |end| (&text[..=end], Some(&text[end + NEXT_NODE.len()..])));
        rest = others;
        match NodeTrace::parse(format!("node-{}", nodes.len()), node) {
            Ok(trace) => nodes.push(trace),
            Err(_) => return,
        }
    }
    let header = br#"{"record":"header","workload":"w","seed":0,"origin":0,"initial":[]}"#;
    let history = History::parse(header).expect("a header is a history");
    let report = check_traces(&Traces { nodes }, &history);
    assert_eq!(report.is_valid(), report.violations.is_empty());
}

/// Judges what can be read as a history of every model, and has each certificate checked.
fn foreign(bytes: &[u8], format: Format) {
    let _ = formats::detect(bytes);
    let Ok(calls) = formats::read(bytes, format) else { return };
    for object in <Object as clap::ValueEnum>::value_variants() {
        for whole in [false, true] {
            let question =
                Question { object: *object, format, initial: None, whole, verify: true, budget: budget() };
            let Ok(report) = judge(&calls, &question) else { continue };
            let wrong = report.keys.iter().find(|key| matches!(key.certificate, Certificate::Wrong(_)));
            assert!(wrong.is_none(), "{object:?} {wrong:?}");
        }
    }
}

/// Which verdict it is.
fn kinds(verdict: &Verdict) -> &'static str {
    match verdict {
        Verdict::Valid => "valid",
        Verdict::Violation(_) => "violation",
        Verdict::Unknown(_) => "unknown",
    }
}

/// Reads the compact form, which is read from files, as long as the file is there.
fn in_file<T>(bytes: &[u8], then: impl FnOnce(Option<Compact>) -> T) -> T {
    thread_local! {
        static FILE: RefCell<tempfile::NamedTempFile> = RefCell::new(tempfile::NamedTempFile::new().expect("a place for it"));
    }
    FILE.with_borrow(|file| {
        fs::write(file.path(), bytes).expect("it can be written");
        then(Compact::read(file.path()).ok())
    })
}
