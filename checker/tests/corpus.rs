//! The corpus of the fuzz targets, fed again: what was found once stays fixed where nobody fuzzes. And what a file costs that was
//! written to cost much: memory in proportion to the file.

mod support;

use std::fs;
use std::path::Path;
use std::process::Command;

use support::feed::FORMATS;

#[test]
fn the_corpus_is_borne() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus");
    for (name, feed) in FORMATS {
        let folder = corpus.join(name);
        let files = fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
        let mut count = 0;
        for file in files {
            let file = file.expect("it can be listed").path();
            println!("{}", file.display());
            feed(&fs::read(&file).expect("it can be read"));
            count += 1;
        }
        assert!(count > 10, "{name} has a corpus");
    }
}

/// How large the files are, and what reading and judging them may take: so much to begin with, and so much for each byte.
const SIZE: usize = 2 << 20;
const EMPTY: usize = 64 << 20;
const FOR_EACH: usize = 32;

#[test]
fn memory_is_in_proportion_to_the_file() {
    let value = |of: String| format!("{{:process 0 :type :invoke :f :write :value {of}}}\n");
    let numbers = "1 ".repeat(SIZE / 2);
    let events = many(SIZE / 48, |n| format!("{n} :invoke :write {n}\n"));
    let maps = many(SIZE / 60, |n| value(n.to_string()).replace(":process 0", &format!(":process {n}")));
    let header = |initial: &str| {
        format!(r#"{{"record":"header","workload":"w","seed":0,"origin":0,"initial":[{initial}]}}"#) + "\n"
    };
    let keys = many(SIZE / 12, |n| format!(r#"[{n},"v"],"#)) + r#"["last","v"]"#;
    let puts = many(SIZE / 110, |n| {
        let who = format!(r#""process":{n},"client":{n},"node":1,"type":"invoke""#);
        format!(r#"{{"record":"op","time":{n},{who},"f":"put","key":{n},"value":"v"}}"#) + "\n"
    });
    // numbers of operations, keys and values that the file cannot hold; key 1 begins with value 0
    let (huge, one) = ([0xff, 0xff, 0xff, 0xff, 0x07], [1]);
    let claims = |operations: &[u8], keys: &[u8], values: &[u8]| {
        [b"LINHIST1", operations, keys, &[1, b'1'], values, &vec![0; SIZE]].concat()
    };
    let files: Vec<(&str, &str, Vec<u8>)> = vec![
        ("numbers", "edn", value(format!("[{numbers}]")).into()),
        ("a set", "edn", value(format!("#{{{}}}", many(SIZE / 8, |n| format!("{n} ")))).into()),
        ("brackets", "edn", "[".repeat(SIZE).into()),
        ("a string that has no end", "edn", format!("\"{}", "x".repeat(SIZE)).into()),
        ("many operations", "edn", maps.clone().into()),
        ("many operations", "porcupine-kv", maps.into()),
        ("a long line", "jepsen-txt", format!("0 :invoke :write [{numbers}]\n").into()),
        ("many operations", "jepsen-txt", events.clone().into()),
        ("many operations", "porcupine-log", events.replace(" :invoke", "\t:invoke").into()),
        ("many initial values", "jsonl", header(&keys).into()),
        ("many operations", "jsonl", (header("") + &puts).into()),
        ("brackets", "jsonl", "[".repeat(SIZE).into()),
        ("more operations than it holds", "compact", claims(&huge, &one, &one)),
        ("more keys than it holds", "compact", claims(&one, &huge, &one)),
        ("more values than it holds", "compact", claims(&one, &one, &huge)),
    ];
    let folder = tempfile::tempdir().expect("a place");
    let file = folder.path().join("history");
    for (what, format, bytes) in files {
        fs::write(&file, &bytes).expect("it can be written");
        let limit = (EMPTY + FOR_EACH * bytes.len()) / 1024;
        let checker = env!("CARGO_BIN_EXE_checker");
        let line = format!(
            "ulimit -v {limit}; exec {checker} check $0 --format {format} --threads 1 --memory-limit 8MiB"
        );
        let output = Command::new("sh").args(["-c", &line]).arg(&file).output().expect("there is a shell");
        let (code, stderr) = (output.status.code(), String::from_utf8_lossy(&output.stderr));
        assert!(matches!(code, Some(0..=3)), "{format}, {what}, in {limit} KiB: {code:?} {stderr}");
    }
}

/// So many pieces of text behind each other.
fn many(count: usize, piece: impl Fn(usize) -> String) -> String {
    let pieces: Vec<String> = (0..count).map(piece).collect();
    pieces.concat()
}
