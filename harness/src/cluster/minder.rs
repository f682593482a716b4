//! The tasks that follow a process: one reads what it prints, so that its pipe never fills, the other reaps it.

use std::{
    fs::File,
    io::{self, Read, Seek, SeekFrom},
    os::unix::process::ExitStatusExt,
    path::Path,
    process::ExitStatus,
    sync::Arc,
    time::Duration,
};

use rustix::process::Signal;
use store::node::control::Notice;
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::{Child, ChildStdout},
    sync::watch,
    time::timeout,
};

use super::{
    Cause, Death, NodeEvent, Watch,
    process::{Exit, Process, Said},
};
use crate::{clock::boottime_ns, proxy::Network};

/// How long what a process has printed is read after its end. Its pipe closes with it, unless it left children behind.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// Lines of a log that an error quotes.
const QUOTED_LINES: usize = 15;

/// The most of a log's end that is looked at for them.
const QUOTED_BYTES: u64 = 16 << 10;

/// Follows one process, and tells everyone what becomes of it.
#[derive(Clone)]
pub(super) struct Minder {
    pub(super) process: Arc<Process>,
    pub(super) says: Arc<watch::Sender<Said>>,
    pub(super) watch: Arc<Watch>,
    pub(super) network: Arc<Network>,
}

impl Minder {
    /// Reads and reaps the process until both are done.
    pub(super) async fn mind(self, mut child: Child, output: ChildStdout) {
        let mut reading = tokio::spawn(self.clone().read(output));
        let status = child.wait().await;
        let at = boottime_ns();
        if timeout(LAST_WORDS, &mut reading).await.is_err() {
            reading.abort();
        }
        let node = self.process.node();
        let by_kill = status.as_ref().is_ok_and(|status| status.signal() == Some(Signal::KILL.as_raw()));
        let status = status.map_or_else(|error| format!("could not be waited for ({error})"), in_words);
        self.network.set_target(node, None);
        self.watch.leaders().ended(node);
        let log = self.process.log_tail();
        // it may have died by itself at the moment at which it was to be killed
        let cause = match self.process.gave_up() {
            Some(text) => Some(Cause::Assertion(text)),
            None if by_kill && self.process.was_killed() => None,
            None => Some(Cause::Unknown(status.clone())),
        };
        let expected = cause.is_none();
        // before its end is known, so that whoever knows of its end knows of this
        self.watch.deaths().extend(cause.map(|cause| Death { node, cause, log: log.clone() }));
        self.says.send_modify(|said| said.exit = Some(Exit { at, status: status.clone() }));
        self.watch.report(at, node, NodeEvent::Exited { status, expected, log });
    }

    async fn read(self, output: ChildStdout) {
        let mut output = BufReader::new(output);
        let mut line = Vec::new();
        // an error ends it like the end of the stream does: nothing more can be read
        while output.read_until(b'\n', &mut line).await.is_ok_and(|read| read > 0) {
            let at = boottime_ns();
            let what = match serde_json::from_slice(&line) {
                Ok(notice) => {
                    self.heed(at, &notice);
                    NodeEvent::Notice(notice)
                }
                Err(_) => {
                    NodeEvent::Unparsable { line: String::from_utf8_lossy(&line).trim_end().to_owned() }
                }
            };
            self.watch.report(at, self.process.node(), what);
            line.clear();
        }
    }

    fn heed(&self, at: u64, notice: &Notice) {
        let node = self.process.node();
        self.watch.leaders().record(at, node, notice);
        match notice {
            Notice::Listening { address, .. } => {
                // an address that is none is reported to whoever waits for it
                if let Ok(target) = address.parse() {
                    self.network.set_target(node, Some(target));
                }
                self.says.send_modify(|said| said.address = Some(address.clone()));
            }
            Notice::Open { .. } => self.says.send_modify(|said| said.open = true),
            Notice::Done { command } => self.says.send_modify(|said| said.done = *command),
            Notice::GaveUp { text } => self.says.send_modify(|said| said.gave_up = Some(text.clone())),
            Notice::Leading { .. } | Notice::SteppedDown { .. } => {}
        }
    }
}

fn in_words(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exited with status {code}"),
        (None, Some(signal)) => format!("was killed by signal {signal}"),
        (None, None) => format!("ended ({status})"),
    }
}

/// The last lines of the file at `path`, or words that say why they cannot be had.
pub(super) fn log_tail(path: &Path) -> String {
    read_tail(path).unwrap_or_else(|error| format!("(could not read {}: {error})", path.display()))
}

fn read_tail(path: &Path) -> io::Result<String> {
    let mut file = File::open(path)?;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(QUOTED_BYTES)))?;
    let mut end = Vec::new();
    file.take(QUOTED_BYTES).read_to_end(&mut end)?;
    let end = String::from_utf8_lossy(&end);
    let lines: Vec<_> = end.lines().collect();
    Ok(lines[lines.len().saturating_sub(QUOTED_LINES)..].join("\n"))
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;

    #[test]
    fn only_the_last_lines_of_a_log_are_quoted() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let lines: Vec<_> = (0..10_000).map(|line| format!("line {line}")).collect();
        std::fs::write(&path, lines.join("\n")).unwrap();
        assert_eq!(log_tail(&path), lines[10_000 - QUOTED_LINES..].join("\n"));
        std::fs::write(&path, "").unwrap();
        assert_eq!(log_tail(&path), "");
        assert!(log_tail(&folder.path().join("none")).contains("could not read"));
    }
}
