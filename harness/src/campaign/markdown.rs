//! A campaign in Markdown, for the summary that a CI server shows.

use std::fmt::Write as _;

use super::{
    Verdict,
    failures::failures,
    judge::judge,
    record::Record,
    table::{self, Whole},
};

/// The summary: the verdict, what went wrong, and all rows.
pub fn summary(records: &[Record], whole: &Whole, remarks: &[String]) -> String {
    let mut text = format!("## {}\n\n", cell(&whole.to_string()));
    for remark in remarks {
        _ = writeln!(text, "- {}", cell(remark));
    }
    for told in table::bugs(records).into_iter().chain(table::never(records)) {
        _ = writeln!(text, "- {}", cell(&told));
    }
    let failures = failures(records);
    if !failures.is_empty() {
        text += "\n| found by | made of | seeds | which | first | again |\n|---|---|---|---|---|---|\n";
    }
    for failure in failures {
        let shape = failure.shape.clone().unwrap_or_else(|| "not shrunk".to_owned());
        let (count, which) = (failure.count.to_string(), failure.seeds_in_words());
        row(&mut text, &[failure.kind, shape, count, which, failure.words, failure.again]);
    }
    text += "\n<details><summary>all workloads</summary>\n\n";
    text += "| workload | mode | verdict | seeds | reached | found by | seed | time | shrunk to |\n";
    text += "|---|---|---|---|---|---|---|---|---|\n";
    for record in records {
        let (verdict, words) = judge(record);
        let verdict = match verdict {
            Verdict::Expected => verdict.words().to_owned(),
            _ => format!("**{}**: {words}", verdict.words()),
        };
        let [workload, others @ ..] = table::cells(record);
        let cells = [workload, record.mode.text().to_owned(), verdict];
        row(&mut text, &[cells.as_slice(), &others].concat());
    }
    text + "\n</details>\n"
}

fn row(text: &mut String, cells: &[String]) {
    let cells: Vec<String> = cells.iter().map(|words| cell(words)).collect();
    _ = writeln!(text, "| {} |", cells.join(" | "));
}

/// Words that neither end a cell nor begin anything.
fn cell(words: &str) -> String {
    words.replace('|', "\\|").replace('<', "&lt;").replace('\n', " ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::campaign::record::{Block, Ended, Mode, Note};

    #[test]
    fn words_stay_in_their_cells() {
        let mut record = Record {
            workload: "a|b".to_owned(),
            blocks: vec![Block { first: 0, seeds: 3, fingerprint: String::new() }],
            ..Record::new(Mode::Simulation, false)
        };
        record.failed(Note { seed: 1, words: "one\n<two>".to_owned() });
        let records = [record];
        let text = summary(&records, &Whole::of(&records, Ended::AllIsDone), &["so".to_owned()]);
        assert!(
            text.starts_with("## VERDICT unknown campaign of 1 workloads, 3 simulated runs\n\n- so\n"),
            "{text}"
        );
        assert!(text.contains("| a\\|b | simulation | **failed**: seed 1: one &lt;two> | 3 |"), "{text}");
    }
}
