//! Long histories: sound ones are found valid, and a single falsified answer is found, explained by a few operations.

mod support;

use checker::history::{History, Record};
use checker::linearizability::{Budget, Report, Verdict, check};
use support::runs::{Shape, make_stale, recorded};

fn judge(records: Vec<Record>) -> Report {
    let history = History::from_records(records).expect("well-formed");
    let report = check(&history, Budget::default());
    let configurations: usize = report.keys.iter().map(|key| key.configurations).sum();
    println!("{:.3} s, {configurations} configurations", report.elapsed as f64 / 1e9);
    report
}

fn scale() -> usize {
    std::env::var("CHECKER_SCALE").ok().and_then(|text| text.parse().ok()).unwrap_or(1)
}

fn shapes() -> Vec<(&'static str, Shape)> {
    let base = |operations| Shape {
        operations: operations * scale(),
        keys: 10,
        clients: 20,
        unknown: 100,
        values: 0,
        deletes: false,
    };
    vec![
        ("unique values", base(10_000)),
        ("unique values and deletes", Shape { deletes: true, ..base(10_000) }),
        ("unique values, one key", Shape { keys: 1, clients: 10, ..base(3000) }),
        ("few values", Shape { values: 5, ..base(10_000) }),
        (
            "few values and deletes, one key",
            Shape { keys: 1, clients: 5, values: 5, deletes: true, ..base(2000) },
        ),
    ]
}

#[test]
fn long_sound_histories_are_valid() {
    for (name, shape) in shapes() {
        println!("{name}");
        assert_eq!(judge(recorded(&shape, 7)).verdict(), Verdict::Valid, "{name}");
    }
}

#[test]
fn one_stale_read_is_found_and_explained() {
    for (name, shape) in shapes().into_iter().filter(|(_, shape)| shape.values == 0) {
        let mut records = recorded(&shape, 8);
        make_stale(&mut records);
        println!("{name}");
        let Verdict::Violation(violation) = judge(records).verdict() else { panic!("{name}: not found") };
        println!("{}", violation.text);
        assert!(violation.operations.len() <= 12, "{name}: {}", violation.text);
        assert!(violation.text.contains("get read"), "{}", violation.text);
    }
}
