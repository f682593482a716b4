//! The rows of a campaign for a CI server.

use std::{io::Write as _, path::Path, time::Duration};

use anyhow::{Context, Result};
use quick_junit::{NonSuccessKind, Report, TestCase, TestCaseStatus, TestSuite};

use super::{Verdict, judge::judge, record::Record};
use crate::results::write_whole;

/// Writes a `JUnit` file with a case for each workload in each mode. What is undecided is not passed.
pub fn write(path: &Path, records: &[Record]) -> Result<()> {
    let mut suite = TestSuite::new("campaign");
    suite.add_test_cases(records.iter().map(case));
    let mut report = Report::new("harness campaign");
    report.add_test_suite(suite);
    let text = report.to_string().context("the rows cannot be written as XML")?;
    write_whole(path, |out| Ok(out.write_all(text.as_bytes())?))
}

fn case(record: &Record) -> TestCase {
    let (verdict, words) = judge(record);
    let failure = |kind, what: &str| {
        let mut status = TestCaseStatus::non_success(kind);
        status.set_type(what).set_message(words.as_str());
        if let Some(found) = record.shown() {
            status.set_description(format!("again: {}", found.again));
        }
        status
    };
    let status = match verdict {
        Verdict::Expected => TestCaseStatus::success(),
        Verdict::Unexpected => failure(NonSuccessKind::Failure, "unexpected"),
        Verdict::Undecided => failure(NonSuccessKind::Failure, "undecided"),
        Verdict::Failed => failure(NonSuccessKind::Error, "failed"),
    };
    let mut case = TestCase::new(record.workload.as_str(), status);
    case.set_classname(record.mode.text()).set_time(Duration::from_millis(record.took_ms));
    case
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::campaign::record::{Block, Class, Mode, Note};

    #[test]
    fn nothing_but_the_expected_passes() {
        let blocks = vec![Block { first: 0, seeds: 3, fingerprint: String::new() }];
        let record = |name: &str| Record {
            workload: name.to_owned(),
            blocks: blocks.clone(),
            ..Record::new(Mode::Simulation, false)
        };
        let mut all = ["expected", "unexpected", "undecided", "failed"].map(record);
        all[1].found(Class {
            kind: "linearizable".to_owned(),
            expected: false,
            count: 1,
            seeds: vec![1],
            words: "a <wrong> read".to_owned(),
            again: "harness sim".to_owned(),
            ..Class::default()
        });
        all[2].undecided(Note { seed: 1, words: "so".to_owned() });
        all[3].failed(Note { seed: 1, words: "so".to_owned() });
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("junit.xml");
        write(&path, &all).expect("written");
        let text = fs::read_to_string(&path).expect("it is there");
        assert!(text.contains("tests=\"4\" skipped=\"0\" failures=\"2\" errors=\"1\""), "{text}");
        assert!(text.contains("a &lt;wrong&gt; read"), "{text}");
        assert!(text.contains("name=\"expected\" classname=\"simulation\""), "{text}");
    }
}
