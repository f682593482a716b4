//! The rows of a campaign for a CI server.

use std::{io::Write as _, path::Path};

use anyhow::{Context, Result};
use quick_junit::{NonSuccessKind, Report, TestCase, TestCaseStatus, TestSuite};

use super::{Row, Verdict};
use crate::results::write_whole;

/// Writes a `JUnit` file with a case for each workload. What is undecided is not passed.
pub fn write(path: &Path, rows: &[Row]) -> Result<()> {
    let mut suite = TestSuite::new("simulation");
    suite.add_test_cases(rows.iter().map(case));
    let mut report = Report::new("harness campaign");
    report.add_test_suite(suite);
    let text = report.to_string().context("the rows cannot be written as XML")?;
    write_whole(path, |out| Ok(out.write_all(text.as_bytes())?))
}

fn case(row: &Row) -> TestCase {
    let failure = |kind, what: &str| {
        let mut status = TestCaseStatus::non_success(kind);
        status.set_type(what).set_message(row.words.as_str());
        if let Some(found) = &row.found {
            status.set_description(format!("again: {}", found.again));
        }
        status
    };
    let status = match row.verdict {
        Verdict::Expected => TestCaseStatus::success(),
        Verdict::Unexpected => failure(NonSuccessKind::Failure, "unexpected"),
        Verdict::Undecided => failure(NonSuccessKind::Failure, "undecided"),
        Verdict::Failed => failure(NonSuccessKind::Error, "failed"),
    };
    let mut case = TestCase::new(row.workload.as_str(), status);
    case.set_classname("simulation").set_time(row.took);
    case
}

#[cfg(test)]
mod tests {
    use std::{fs, time::Duration};

    use super::*;

    #[test]
    fn nothing_but_the_expected_passes() {
        let row = |verdict| Row {
            workload: format!("{verdict:?}"),
            mutant: None,
            reached: 0,
            seeds: 3,
            found: None,
            verdict,
            words: "a <wrong> read".to_owned(),
            took: Duration::from_secs(1),
        };
        let all = [Verdict::Expected, Verdict::Unexpected, Verdict::Undecided, Verdict::Failed];
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("junit.xml");
        write(&path, &all.map(row)).expect("written");
        let text = fs::read_to_string(&path).expect("it is there");
        assert!(text.contains("tests=\"4\" skipped=\"0\" failures=\"2\" errors=\"1\""), "{text}");
        assert!(text.contains("a &lt;wrong&gt; read"), "{text}");
    }
}
