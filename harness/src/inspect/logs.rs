//! What the nodes logged, on the clock of the history.

use std::{
    fs,
    io::{BufRead, BufReader},
    path::Path,
};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use crate::recorded::Recorded;

/// A line of a node's log.
#[derive(Debug, Serialize)]
pub(super) struct Logged {
    /// Nanoseconds of the history. Of a line without a time, such as the words of a panic: that of the line before.
    pub(super) time: i64,
    pub(super) node: u64,
    /// `INFO`, `WARN`, …; none: the line is no record.
    pub(super) level: Option<String>,
    pub(super) text: String,
}

/// All lines, and what could not be read.
#[derive(Default)]
pub(super) struct Logs {
    pub(super) lines: Vec<Logged>,
    pub(super) lacking: Vec<String>,
}

/// A line as the node writes it.
#[derive(Deserialize)]
struct Line {
    /// Seconds on the machine's clock.
    timestamp: String,
    level: String,
    fields: serde_json::Map<String, serde_json::Value>,
    target: String,
}

/// Reads the logs of a run; simulated nodes have none.
pub(super) fn read(run: &Recorded) -> Result<Logs> {
    let folder = run.folder.join("logs");
    let mut logs = Logs::default();
    if !folder.is_dir() {
        logs.lacking.push("this run has no logs of its nodes".to_owned());
        return Ok(logs);
    }
    let entries = fs::read_dir(&folder).with_context(|| format!("cannot read {}", folder.display()))?;
    for entry in entries {
        let path = entry?.path();
        let name = path.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
        let Some(node) = name.strip_prefix("node-").and_then(|node| node.parse().ok()) else { continue };
        logs.node(&path, node, run.header.origin)?;
    }
    Ok(logs)
}

impl Logs {
    fn node(&mut self, path: &Path, node: u64, origin: u64) -> Result<()> {
        let cannot = || format!("cannot read {}", path.display());
        let mut file = BufReader::new(fs::File::open(path).with_context(cannot)?);
        let (mut bytes, mut last) = (Vec::new(), 0);
        while file.read_until(b'\n', &mut bytes).with_context(cannot)? > 0 {
            let text = String::from_utf8_lossy(bytes.trim_ascii_end()).into_owned();
            bytes.clear();
            let Ok(line) = serde_json::from_str::<Line>(&text) else {
                self.lines.push(Logged { time: last, node, level: None, text });
                continue;
            };
            let Some(common) = nanoseconds(&line.timestamp) else {
                let old = "its times are not those of the machine's clock, as an earlier version wrote them";
                self.lacking.push(format!("{} is left out: {old}", path.display()));
                self.lines.retain(|line| line.node != node);
                return Ok(());
            };
            last = common as i64 - origin as i64;
            let text = words(&line);
            self.lines.push(Logged { time: last, node, level: Some(line.level), text });
        }
        Ok(())
    }
}

/// Nanoseconds of `SECONDS.NANOSECONDS`.
fn nanoseconds(timestamp: &str) -> Option<u64> {
    let (seconds, rest) = timestamp.split_once('.')?;
    let rest = (rest.len() == 9).then(|| rest.parse::<u64>().ok()).flatten()?;
    seconds.parse::<u64>().ok()?.checked_mul(1_000_000_000)?.checked_add(rest)
}

/// The message, and its fields behind it.
fn words(line: &Line) -> String {
    let text = |value: &serde_json::Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let message = line.fields.get("message").map(text).unwrap_or_default();
    let fields = line.fields.iter().filter(|(name, _)| *name != "message");
    let fields = fields.map(|(name, value)| format!(" {name}={}", text(value))).collect::<Vec<_>>().concat();
    format!("{message}{fields} ({})", line.target)
}

#[cfg(test)]
mod tests {
    use super::nanoseconds;

    #[test]
    fn a_timestamp_is_seconds_of_the_machines_clock() {
        assert_eq!(nanoseconds("48038.219134257"), Some(48_038_219_134_257));
        for wrong in
            ["2026-11-21T23:38:22.042381Z", "48038", "48038.2", "x.000000001", "18446744073710.000000000"]
        {
            assert_eq!(nanoseconds(wrong), None, "{wrong}");
        }
    }
}
