//! What a primitive is tried on: two echo processes, the network between them and the tester, and lines that talk to them.

use std::{
    collections::BTreeMap,
    io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use anyhow::{Context, Result};
use futures::StreamExt;
use store::{
    api::KeyType,
    config::{
        ClockSkew, ClusterConfig, NodeConfig, Partitioning, ReadMode, RoutingMode, SESSION_IDLE_MS,
        StorageKind, TestOptions, TrimConfig,
    },
    node::wire,
};
use tokio::{
    io::AsyncWriteExt,
    net::{TcpStream, tcp::OwnedWriteHalf},
    task::AbortHandle,
    time::{Instant, sleep},
};
use tokio_util::codec::FramedRead;

use super::{
    Sabotage,
    echo::{Heard, What, framed},
    patience,
};
use crate::{
    clock::{Effective, boottime_ns},
    cluster::{Cluster, ClusterSpec},
    proxy::{Conditions, Endpoint, Link, LinkCounters, Network, Protocol},
    targets::store::Store,
};

/// How long what has nothing to do with a fault may take, on a busy machine too.
const DEADLINE: Duration = Duration::from_secs(10);

/// How often a log is looked at.
const LOOK: Duration = Duration::from_millis(1);

/// Echo processes, and the networks between them and the tester: one that knows frames and one that does not.
pub(super) struct Stage {
    pub(super) cluster: Cluster,
    framed: Arc<Network>,
    plain: Arc<Network>,
    folder: PathBuf,
    sabotage: Option<Sabotage>,
    /// How long what depends on a fault may take.
    patience: Duration,
}

impl Stage {
    /// Starts two echo processes with `command`.
    pub(super) async fn start(
        command: Vec<String>,
        folder: &Path,
        sabotage: Option<Sabotage>,
    ) -> Result<Self> {
        // node 3 only dials
        let start = |protocol| Network::start(&[1, 2, 3], &[1, 2], protocol, 1);
        let framed = Arc::new(start(Protocol::Frames).await.context("the network did not start")?);
        let plain = Arc::new(start(Protocol::Bytes).await.context("the network did not start")?);
        let configs = BTreeMap::from([1, 2].map(|node| (node, config(node, folder))));
        let spec = ClusterSpec {
            target: Arc::new(Store::new(command, configs, folder, false)),
            nodes: vec![1, 2],
            run_dir: folder.to_owned(),
            start_deadline: DEADLINE,
        };
        let cluster =
            Cluster::start(spec, Arc::clone(&framed)).await.context("the echo processes did not start")?;
        for node in [1, 2] {
            plain.set_target(node, framed.target(node));
        }
        let patience = patience(sabotage);
        Ok(Self { cluster, framed, plain, folder: folder.to_owned(), sabotage, patience })
    }

    /// The network for a protocol.
    pub(super) fn network(&self, protocol: Protocol) -> &Network {
        match protocol {
            Protocol::Frames | Protocol::Sealed => &self.framed,
            Protocol::Bytes => &self.plain,
        }
    }

    /// Puts conditions on some links, or does it wrong when it is asked to.
    pub(super) async fn switch(
        &self,
        protocol: Protocol,
        links: &[Link],
        conditions: &Conditions,
    ) -> Effective {
        let network = self.network(protocol);
        let links: Vec<Link> = match self.sabotage {
            None => links.to_vec(),
            Some(Sabotage::Idle) => Vec::new(),
            Some(Sabotage::Everywhere) => network.links().collect(),
        };
        network.switch(links.into_iter().map(|link| (link, conditions.clone())).collect()).await
    }

    /// The nodes that a fault of node 2's process is to meet.
    pub(super) fn nodes(&self) -> &'static [u64] {
        match self.sabotage {
            None => &[2],
            Some(Sabotage::Idle) => &[],
            Some(Sabotage::Everywhere) => &[1, 2],
        }
    }

    /// What an echo has said so far.
    pub(super) fn heard(&self, node: u64) -> Result<Vec<Heard>> {
        let path = self.folder.join("logs").join(format!("node-{node}.log"));
        let text =
            std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        // the last line may not be complete yet
        let complete = text.rfind('\n').map_or("", |end| &text[..end]);
        complete.lines().map(|line| serde_json::from_str(line).context("an echo's log")).collect()
    }

    /// Waits until something holds that depends on a fault.
    pub(super) async fn until(&self, holds: impl FnMut() -> Result<bool>) -> Result<()> {
        within(self.patience, holds).await
    }

    /// Dials on a link; the error is that of the connection.
    pub(super) async fn dial(&self, protocol: Protocol, link: Link) -> io::Result<Line> {
        Line::dial(self.network(protocol), link, self.patience).await
    }

    /// Dials, greets, and waits for the greeting to come back. The greeting takes the place of a handshake.
    pub(super) async fn open(&self, protocol: Protocol, link: Link, name: &str) -> Result<Line> {
        let dialed = self.dial(protocol, link).await;
        let mut opened = dialed.with_context(|| format!("{} did not connect", shown(link)))?;
        opened.send(format!("hello {name}").into_bytes()).await;
        until(|| Ok(opened.received().frames.len() == 1)).await.with_context(|| shown(link))?;
        Ok(opened)
    }

    /// Kills the echoes and closes the networks.
    pub(super) async fn stop(self) -> Result<()> {
        self.cluster.shutdown().await;
        self.framed.shutdown().await?;
        self.plain.shutdown().await?;
        Ok(())
    }
}

fn config(node: u64, folder: &Path) -> NodeConfig {
    let cluster = ClusterConfig {
        name: "selftest".to_owned(),
        key_type: KeyType::Integer,
        partitioning: Partitioning::Range,
        partitions: Vec::new(),
        threshold: 2,
        heartbeat_ms: 50,
        missed_rounds: 4,
        lease: None,
        request_timeout_ms: 1000,
        session_idle_ms: SESSION_IDLE_MS,
        storage: StorageKind::Memory,
        routing: RoutingMode::Forward,
        reads: ReadMode::Linearizable,
        trimming: TrimConfig::default(),
        preset: Vec::new(),
    };
    NodeConfig {
        node,
        listen: "127.0.0.1:0".to_owned(),
        peers: BTreeMap::new(),
        data: folder.join("data").join(format!("node-{node}")),
        trace: None,
        clock: ClockSkew::default(),
        cluster,
        test: TestOptions::default(),
    }
}

/// How an end of a connection has ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Ended {
    /// Not yet.
    #[default]
    No,
    /// In order.
    Finished,
    /// By reset.
    Reset,
}

/// A connection of the tester to an echo.
pub(super) struct Line {
    pub(super) link: Link,
    to: OwnedWriteHalf,
    reader: AbortHandle,
    received: Arc<Mutex<Received>>,
    /// What was sent and when, the greeting first.
    pub(super) sent: Vec<(u64, Vec<u8>)>,
    patience: Duration,
}

/// What has come back on a line.
#[derive(Clone, Debug, Default)]
pub(super) struct Received {
    /// When it came, and its content.
    pub(super) frames: Vec<(u64, Vec<u8>)>,
    pub(super) ended: Ended,
    /// When it ended.
    pub(super) ended_at: u64,
}

impl Received {
    fn end(&mut self, ended: Ended, at: u64) {
        if self.ended == Ended::No {
            (self.ended, self.ended_at) = (ended, at);
        }
    }
}

impl Line {
    async fn dial(network: &Network, link: Link, patience: Duration) -> io::Result<Self> {
        let stream = TcpStream::connect(network.address(link)).await?;
        stream.set_nodelay(true)?;
        let (from, to) = stream.into_split();
        let received = Arc::new(Mutex::new(Received::default()));
        let into = Arc::clone(&received);
        let reader = tokio::spawn(async move {
            let mut frames = FramedRead::new(from, wire::frames());
            loop {
                let next = frames.next().await;
                let mut into = into.lock().unwrap_or_else(PoisonError::into_inner);
                match next {
                    Some(Ok(frame)) => into.frames.push((boottime_ns(), frame.to_vec())),
                    Some(Err(error)) if error.kind() == io::ErrorKind::ConnectionReset => {
                        return into.end(Ended::Reset, boottime_ns());
                    }
                    // an end inside a frame is one too
                    Some(Err(_)) | None => return into.end(Ended::Finished, boottime_ns()),
                }
            }
        });
        Ok(Self { link, to, reader: reader.abort_handle(), received, sent: Vec::new(), patience })
    }

    /// Sends a frame. That it cannot be sent shows in what comes of it.
    pub(super) async fn send(&mut self, content: Vec<u8>) {
        let frame = framed(&content);
        self.sent.push((boottime_ns(), content));
        // whichever of reading and writing comes first is told of a reset; the other one then sees an end in order
        if let Err(error) = self.to.write_all(&frame).await
            && error.kind() == io::ErrorKind::ConnectionReset
        {
            self.received.lock().unwrap_or_else(PoisonError::into_inner).end(Ended::Reset, boottime_ns());
        }
    }

    /// Ends the stream.
    pub(super) async fn finish(&mut self) {
        let _ = self.to.shutdown().await;
    }

    /// What has come back so far.
    pub(super) fn received(&self) -> Received {
        self.received.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Sends a frame and waits until it comes back; returns how long that took.
    pub(super) async fn round_trip(&mut self, content: Vec<u8>) -> Result<Duration> {
        let (start, before) = (boottime_ns(), self.received().frames.len());
        self.send(content.clone()).await;
        within(self.patience, || {
            let received = self.received();
            anyhow::ensure!(received.ended == Ended::No, "{} has ended", shown(self.link));
            Ok(received.frames.len() > before)
        })
        .await
        .with_context(|| format!("a frame on {} did not come back", shown(self.link)))?;
        let received = self.received();
        anyhow::ensure!(
            received.frames.len() == before + 1 && received.frames[before].1 == content,
            "another frame came back on {}",
            shown(self.link)
        );
        Ok(Duration::from_nanos(boottime_ns() - start))
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        self.reader.abort();
    }
}

/// Waits until something holds that has nothing to do with a fault.
pub(super) async fn until(holds: impl FnMut() -> Result<bool>) -> Result<()> {
    within(DEADLINE, holds).await
}

async fn within(patience: Duration, mut holds: impl FnMut() -> Result<bool>) -> Result<()> {
    let deadline = Instant::now() + patience;
    while !holds()? {
        anyhow::ensure!(Instant::now() < deadline, "it did not happen within {patience:?}");
        sleep(LOOK).await;
    }
    Ok(())
}

/// A link in words.
pub(super) fn shown(link: Link) -> String {
    let end = |end| match end {
        Endpoint::Node(node) => format!("n{node}"),
        Endpoint::Client(client) => format!("c{client}"),
    };
    format!("{}->{}", end(link.from), end(link.to))
}

/// The numbers, from 1, in `contents` of what was received, in the order in which it was.
pub(super) fn numbers(received: &Received, contents: &[Vec<u8>]) -> Vec<usize> {
    let number = |frame| contents.iter().position(|content| content == frame).map(|index| index + 1);
    received.frames.iter().filter_map(|(_, frame)| number(frame)).collect()
}

/// Contents of the frames on the connection that brought this greeting, with their times, and how it ended.
pub(super) fn on_connection(heard: &[Heard], greeting: &[u8]) -> Received {
    let opened = heard.iter().rfind(|heard| matches!(&heard.what, What::Frame(frame) if frame == greeting));
    let Some(connection) = opened.map(|heard| heard.connection) else { return Received::default() };
    // numbers begin anew with the process
    let start = heard
        .iter()
        .rposition(|heard| heard.connection == connection && heard.what == What::Opened)
        .unwrap_or_default();
    let mut received = Received::default();
    for heard in heard[start..].iter().filter(|heard| heard.connection == connection) {
        match &heard.what {
            What::Opened => {}
            What::Frame(frame) => received.frames.push((heard.at, frame.clone())),
            What::Finished => received.end(Ended::Finished, heard.at),
            What::Reset => received.end(Ended::Reset, heard.at),
        }
    }
    received
}

/// What the proxy has done to a link between two looks beside letting bytes pass; empty: nothing.
pub(super) fn interference(before: &LinkCounters, after: &LinkCounters) -> String {
    let all = |counters: &LinkCounters| {
        let LinkCounters { held, delayed, dropped, duplicated, reordered, severed, refused, .. } = *counters;
        [held, delayed, dropped, duplicated, reordered, severed, refused]
    };
    let names = ["held", "delayed", "dropped", "duplicated", "reordered", "severed", "refused"];
    let grown = names.into_iter().zip(all(before).into_iter().zip(all(after)));
    let words: Vec<String> = grown
        .filter(|(_, (before, after))| before != after)
        .map(|(name, (before, after))| format!("{name} {}", after - before))
        .collect();
    words.join(", ")
}
