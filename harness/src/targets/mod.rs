//! Systems under test: how the nodes of one are run, and how it is asked.
//!
//! The harness knows a system by its [`Target`] alone: what becomes a node's process, what is to be learnt from what that
//! prints, where clients ask. Everything else — faults of processes and of the network, plans, histories, checks, reports —
//! is the same for all of them. `README.md` beside this file shows how one is written.

pub mod etcd;
pub mod maelstrom;
pub mod redis;
pub mod store;

use std::{
    collections::BTreeMap,
    fmt,
    fs::File,
    io::{self, Write},
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    process::Stdio,
    sync::Arc,
    time::Duration,
};

use ::store::{
    api::{NodeId, PartitionId},
    config::ClockSkew,
    routes::Entry,
};
use anyhow::{Context, Result};
use checker::history::{Function, OpResult, Trip};
use futures::future::{BoxFuture, ready};
use tokio::{
    io::AsyncReadExt,
    net::{TcpListener, TcpSocket, TcpStream},
    process::{ChildStdin, ChildStdout},
    time::sleep,
};

pub use crate::cluster::Says;
use crate::{
    history_writer::{Ended, Finished},
    plan::Plan,
    proxy::{Network, Protocol},
    workload::System,
};
use etcd::Etcd;
use maelstrom::Maelstrom;
use redis::Redis;
use store::Store;

/// The system that a plan is for; its nodes are `store_command` if it is the store, and all that they leave is in `run_dir`.
pub async fn of(
    plan: &Plan,
    network: &Network,
    run_dir: &Path,
    store_command: &[String],
) -> Result<Arc<dyn Target>> {
    Ok(match &plan.system {
        System::Store => Arc::new(Store::of(plan, network, run_dir, store_command.to_vec())),
        System::Etcd { bin, reads } => {
            let etcd = Etcd::new(bin, *reads, run_dir, &network.between_nodes()).await;
            Arc::new(etcd.context("no addresses for etcd's members")?)
        }
        System::Redis { bin } => {
            let redis = Redis::new(bin, run_dir, &network.between_nodes());
            Arc::new(redis.context("no addresses for the nodes of Redis")?)
        }
        System::Maelstrom { bin, folder } => {
            let bin = bin.as_deref().context("no program for Maelstrom's nodes: say `--bin COMMAND`")?;
            let peers = network.between_nodes();
            Arc::new(Maelstrom::new(bin, folder.as_deref(), run_dir, peers, plan.seed))
        }
    })
}

/// What its connections carry.
pub fn protocol(system: &System) -> Protocol {
    match system {
        System::Store => Protocol::Frames,
        System::Etcd { .. } | System::Redis { .. } => Protocol::Bytes,
        System::Maelstrom { .. } => Protocol::Sealed,
    }
}

/// A system under test.
pub trait Target: fmt::Debug + Send + Sync {
    /// What becomes the next process of `node`, which starts on whatever is in its [`data`](Self::data). Called once for each
    /// process; whatever file it needs is written here.
    fn launch(&self, node: NodeId) -> io::Result<Launch>;

    /// Follows a process that has just been started until it has nothing more to say, and tells what is to be known of it:
    /// above all where it listens. Its standard output must be read to its end; what it prints to standard error is kept in
    /// its log.
    fn follow(&self, pipes: Pipes, says: Says) -> BoxFuture<'static, ()>;

    /// New clients on the same links, one for each number; `addresses` is where they reach each node. They may share what
    /// connections there are.
    fn clients(&self, addresses: BTreeMap<NodeId, SocketAddr>, numbers: &[u64]) -> Vec<Box<dyn Client>>;

    /// The folder that is the disk of `node`.
    fn data(&self, node: NodeId) -> PathBuf;

    /// The disk of a dead `node` has been taken away.
    fn wiped(&self, _node: NodeId) {}

    /// Before a process of `node` is launched: what the others must be told first, such as that it has lost its disk.
    fn welcome(&self, _node: NodeId) -> BoxFuture<'_, io::Result<()>> {
        Box::pin(ready(Ok(())))
    }

    /// What can be done inside its nodes; none: their processes are all that can be reached.
    fn inside(&self) -> Option<&dyn Inside> {
        None
    }
}

/// What some systems let a tester do inside a node.
pub trait Inside {
    /// Whether the next process of `node` dies in the middle of reading its disk.
    fn die_in_recovery(&self, node: NodeId, dies: bool);

    /// The clock that the next process of `node` begins with.
    fn first_clock(&self, node: NodeId, skew: ClockSkew);

    /// Leaves the disk of a dead node as a write that was torn would.
    fn tear_log(&self, node: NodeId) -> io::Result<()>;
}

/// What becomes a process. The command must become the node: a wrapper has to `exec` it, since signals go to the child alone.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Launch {
    /// Program and arguments.
    pub command: Vec<String>,
    /// Where it will listen, if that is known before it does.
    pub listens: Option<Listens>,
    /// Variables of its environment, beside the harness's own.
    pub environment: Vec<(String, String)>,
    /// What is written to its standard input.
    pub input: Input,
    /// It is to die by itself.
    pub doomed: bool,
}

/// Where a node listens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Listens {
    /// For other nodes.
    pub peers: SocketAddr,
    /// For clients.
    pub clients: SocketAddr,
}

/// What is written to a process's standard input.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Input {
    /// Nothing.
    #[default]
    Nothing,
    /// Commands of the harness, each of which it confirms (see [`Says::notice`]).
    Commands,
    /// Whatever [`Target::follow`] writes.
    Followed,
}

impl Input {
    pub(crate) fn pipe(self) -> Stdio {
        match self {
            Self::Nothing => Stdio::null(),
            Self::Commands | Self::Followed => Stdio::piped(),
        }
    }
}

/// The ends of a process's pipes.
#[derive(Debug)]
pub struct Pipes {
    /// Where it reads, with [`Input::Followed`].
    pub input: Option<ChildStdin>,
    /// What it prints.
    pub output: ChildStdout,
}

/// A client, which asks one thing at a time.
pub trait Client: Send {
    /// The node that is asked first from this place: the one that is named, for a client that cannot tell who leads.
    fn first(&self, place: Place) -> NodeId {
        place.node()
    }

    /// Asks, for as long as `limit` at most. What may have happened must not be [`Ended::Fail`](crate::history_writer::Ended).
    fn call<'a>(
        &'a mut self,
        place: Place,
        function: &'a Function,
        limit: Duration,
    ) -> BoxFuture<'a, Finished>;

    /// What is asked in place of what the system has no way to be asked.
    fn instead(&self, function: Function) -> Function {
        function
    }
}

/// Where something is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// The partition of its key.
    pub partition: PartitionId,
    /// The node, or the leader.
    pub entry: Entry,
}

impl Place {
    /// The node that is named.
    pub fn node(self) -> NodeId {
        match self.entry {
            Entry::At(node) | Entry::Leader(node) => node,
        }
    }
}

/// What `node` answered, where that is all that it tells: the value read or seen (`None`: there is none), whether it swapped.
pub(crate) fn answered(node: NodeId, returned: Option<String>, swapped: Option<bool>) -> Ended {
    Ended::Ok(OpResult {
        returned,
        swapped,
        version: 0,
        index: None,
        leader: node,
        ballot: String::new(),
        fast: false,
        local: false,
    })
}

/// What comes of asking the node that is named, by a client that asks nobody else.
pub(crate) fn only_asking<'a, F>(place: Place, ask: impl FnOnce(NodeId) -> F) -> BoxFuture<'a, Finished>
where
    F: Future<Output = Ended> + Send + 'a,
{
    let node = place.node();
    let asked = ask(node);
    Box::pin(async move { Finished { ended: asked.await, node, trip: Trip::default() } })
}

/// How often a node that starts is asked whether it serves clients.
const LOOK: Duration = Duration::from_millis(50);

/// Follows a process that says nothing which is needed, and whose log gets what it prints: it serves clients as soon as `is_ready`
/// is true.
pub(crate) fn until_ready<F>(
    mut pipes: Pipes,
    says: Says,
    is_ready: impl Fn() -> F + Send + Sync + 'static,
) -> BoxFuture<'static, ()>
where
    F: Future<Output = bool> + Send,
{
    Box::pin(async move {
        let serves = async {
            while !is_ready().await {
                sleep(LOOK).await;
            }
            says.open();
            std::future::pending::<()>().await;
        };
        tokio::select! {
            () = copied(&mut pipes.output, says.log()) => {}
            () = serves => {}
        }
    })
}

/// Reads what a process prints to its end.
async fn copied(output: &mut ChildStdout, log: io::Result<File>) {
    let mut log = log.ok();
    let mut bytes = vec![0; 8 << 10];
    while let Ok(read @ 1..) = output.read(&mut bytes).await {
        if let Some(log) = &mut log {
            // what cannot be kept is lost, and is no reason to end a node
            let _ = log.write_all(&bytes[..read]);
        }
    }
}

/// How long after a connection could not be accepted the next is.
const TRY_AGAIN: Duration = Duration::from_millis(100);

/// The next connection, and where it comes from. What fails is told of and tried again after a while: there may be no more
/// files to open, and whoever asks again at once is told the same.
pub(crate) async fn accepted(listener: &TcpListener) -> (TcpStream, SocketAddr) {
    until_accepted(|| listener.accept()).await
}

async fn until_accepted<T, F>(mut accept: impl FnMut() -> F) -> T
where
    F: Future<Output = io::Result<T>>,
{
    loop {
        match accept().await {
            Ok(accepted) => return accepted,
            Err(error) => tracing::warn!(%error, "could not accept a connection of a node or a client"),
        }
        sleep(TRY_AGAIN).await;
    }
}

/// A port that stays ours until this is dropped: a socket that is bound to it, and never listens. Who listens there must say
/// `SO_REUSEADDR`, as servers do.
pub(crate) fn reserved() -> io::Result<TcpSocket> {
    let socket = TcpSocket::new_v4()?;
    socket.set_reuseaddr(true)?;
    socket.bind((Ipv4Addr::LOCALHOST, 0).into())?;
    Ok(socket)
}

/// The clients of one link, when there is one.
pub(crate) fn only(mut clients: Vec<Box<dyn Client>>) -> Box<dyn Client> {
    clients.pop().expect("there is a client for each number")
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use tokio::time::timeout;

    use super::*;

    #[tokio::test]
    async fn a_listener_that_fails_is_left_in_peace_for_a_while() {
        let asked = Cell::new(0);
        let failing = until_accepted(|| {
            asked.set(asked.get() + 1);
            async { Err::<(), _>(io::Error::other("no more files")) }
        });
        assert!(timeout(TRY_AGAIN * 3, failing).await.is_err(), "nothing was accepted");
        assert!((1..=4).contains(&asked.get()), "asked {} times", asked.get());

        let answers = Cell::new(0);
        let second = until_accepted(|| {
            answers.set(answers.get() + 1);
            let answer = if answers.get() < 2 { Err(io::Error::other("not yet")) } else { Ok(7) };
            async { answer }
        });
        assert_eq!(second.await, 7);
    }
}
