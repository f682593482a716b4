//! What is known of a process: what is said of it while it lives, and its end.

use std::{
    fs::File,
    io::{self, Read, Seek, SeekFrom},
    net::SocketAddr,
    os::unix::process::ExitStatusExt,
    path::Path,
    process::ExitStatus,
    sync::Arc,
    time::Duration,
};

use rustix::process::Signal;
use store::{api::NodeId, node::control::Notice};
use tokio::{
    process::Child,
    sync::watch,
    task::{JoinError, JoinHandle},
    time::timeout,
};

use super::{
    Cause, Death, NodeEvent, Watch,
    process::{Exit, Process, Said},
};
use crate::{
    clock::boottime_ns,
    panics,
    proxy::Network,
    targets::{Listens, Pipes, Target},
};

/// How long what a process has printed is read after its end, and how long it may run on after it has nothing more to print. Its
/// pipe closes with it, unless it left children behind.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// Lines of a log that an error quotes.
const QUOTED_LINES: usize = 15;

/// The most of a log's end that is looked at for them.
const QUOTED_BYTES: u64 = 16 << 10;

/// What is learnt of one process: whoever follows it says so here, and everyone who waits for it knows.
#[derive(Clone)]
pub struct Says {
    process: Arc<Process>,
    said: Arc<watch::Sender<Said>>,
    watch: Arc<Watch>,
    network: Arc<Network>,
}

impl Says {
    pub(super) fn new(
        process: Arc<Process>,
        said: watch::Sender<Said>,
        watch: Arc<Watch>,
        network: Arc<Network>,
    ) -> Self {
        Self { process, said: Arc::new(said), watch, network }
    }

    /// The node.
    pub fn node(&self) -> NodeId {
        self.process.node()
    }

    /// The number of its process.
    pub fn process_id(&self) -> u32 {
        self.process.id()
    }

    /// Its log, for what it prints elsewhere.
    pub fn log(&self) -> io::Result<File> {
        self.process.log()
    }

    /// It listens at this one address.
    pub fn listening(&self, address: SocketAddr) {
        self.network.set_target(self.node(), Some(address));
        self.said.send_modify(|said| said.address = Some(address.to_string()));
    }

    /// It will listen there: connections are dialed to these addresses from now on.
    pub(super) fn listens(&self, listens: Listens) {
        self.network.set_target(self.node(), Some(listens.clients));
        self.network.set_peer_target(self.node(), listens.peers);
        self.said.send_modify(|said| said.address = Some(listens.clients.to_string()));
    }

    /// It serves clients.
    pub fn open(&self) {
        self.said.send_modify(|said| said.open = true);
    }

    /// It did what no node of its kind may do, such as `printed a line that is no message: "…"`. It is killed for that, and
    /// the run tells of it.
    pub fn broke(&self, words: String) {
        self.said.send_modify(|said| {
            said.broke.get_or_insert(words);
        });
        self.process.kill_as_found();
    }

    /// It said this, in the words that the store has for it.
    pub fn notice(&self, notice: Notice) {
        let (at, node) = (boottime_ns(), self.node());
        self.watch.leaders().record(at, node, &notice);
        match &notice {
            Notice::Listening { address, .. } => match address.parse() {
                Ok(address) => self.listening(address),
                // reported to whoever waits for it
                Err(_) => self.said.send_modify(|said| said.address = Some(address.clone())),
            },
            Notice::Open { .. } => self.open(),
            Notice::Done { command } => self.said.send_modify(|said| said.done = *command),
            Notice::GaveUp { text } => self.said.send_modify(|said| said.gave_up = Some(text.clone())),
            Notice::Leading { .. } | Notice::SteppedDown { .. } => {}
        }
        self.watch.report(at, node, NodeEvent::Notice(notice));
    }

    /// It printed a line that says nothing.
    pub fn unparsable(&self, line: &[u8]) {
        let line = String::from_utf8_lossy(line).trim_end().to_owned();
        self.watch.report(boottime_ns(), self.node(), NodeEvent::Unparsable { line });
    }

    /// Has the process followed, and reaps it.
    pub(super) async fn mind(self, mut child: Child, pipes: Pipes, target: Arc<dyn Target>) {
        let following = tokio::spawn(target.follow(pipes, self.clone()));
        let status = self.until_its_end(&mut child, following).await;
        let at = boottime_ns();
        let node = self.node();
        let by_kill = status.as_ref().is_ok_and(|status| status.signal() == Some(Signal::KILL.as_raw()));
        let status = status.map_or_else(|error| format!("could not be waited for ({error})"), in_words);
        self.network.set_target(node, None);
        self.watch.leaders().ended(node);
        let log = self.process.log_tail();
        // it may have died by itself at the moment at which it was to be killed
        let cause = match (self.process.gave_up(), self.process.broke()) {
            (Some(text), _) => Some(Cause::Assertion(text)),
            (None, Some(words)) => Some(Cause::Broke(words)),
            (None, None) if by_kill && self.process.was_killed() => None,
            (None, None) => Some(Cause::Unknown(status.clone())),
        };
        let expected = cause.is_none();
        // before its end is known, so that whoever knows of its end knows of this
        self.watch.deaths().extend(cause.map(|cause| Death { node, cause, log: log.clone() }));
        let how = self.process.broke().unwrap_or_else(|| status.clone());
        self.said.send_modify(|said| said.exit = Some(Exit { at, status: how }));
        self.watch.report(at, node, NodeEvent::Exited { status, expected, log });
    }
}

impl Says {
    /// Waits for the end of the process, and for what it has printed. Nobody but the kernel ends its output before it.
    async fn until_its_end(
        &self,
        child: &mut Child,
        mut following: JoinHandle<()>,
    ) -> io::Result<ExitStatus> {
        tokio::select! {
            status = child.wait() => {
                match timeout(LAST_WORDS, &mut following).await {
                    Ok(followed) => self.followed(followed),
                    Err(_) => following.abort(),
                }
                status
            }
            followed = &mut following => {
                self.followed(followed);
                if let Ok(status) = timeout(LAST_WORDS, child.wait()).await {
                    return status;
                }
                self.broke("closed its standard output and ran on".to_owned());
                child.wait().await
            }
        }
    }

    /// A process that nobody follows any more must not go on: nothing that it says would be known.
    fn followed(&self, followed: Result<(), JoinError>) {
        if let Some(panic) = followed.err().and_then(|error| error.try_into_panic().ok()) {
            self.broke(format!(
                "is followed no more, since the harness panicked: {}",
                panics::words(&*panic)
            ));
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
