//! etcd, version 3: real members as processes, asked through the JSON gateway of their clients' port.
//!
//! Members know one another by one address each, so a member cannot be told another address for each of its peers. Each has a
//! `Gate` instead, which finds out which member dials and sends it through the link between the two.

mod client;
mod gate;
mod members;

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use futures::future::{BoxFuture, ready};
use store::api::NodeId;
use tokio::net::{TcpSocket, TcpStream};

use super::{Client, Launch, Listens, Pipes, Says, Target, reserved, until_ready};
use crate::workload::EtcdReads;
use client::{EtcdClient, is_healthy};
use gate::{Gate, Processes};

/// A cluster of members.
#[derive(Debug)]
pub struct Etcd {
    bin: String,
    reads: EtcdReads,
    run_dir: PathBuf,
    members: BTreeMap<NodeId, Member>,
    processes: Arc<Processes>,
    /// Members whose disk was taken away at some time: they are others than those that the cluster began with.
    wiped: Mutex<BTreeSet<NodeId>>,
}

/// One member.
#[derive(Debug)]
struct Member {
    gate: Gate,
    /// Ports of its own, which nobody else is given while these sockets are there.
    listens: Listens,
    _ports: [TcpSocket; 2],
}

impl Etcd {
    /// Members that are each this program; `peers` says where each reaches the others.
    pub async fn new(
        bin: &str,
        reads: EtcdReads,
        run_dir: &Path,
        peers: &BTreeMap<NodeId, BTreeMap<NodeId, SocketAddr>>,
    ) -> io::Result<Self> {
        let processes = Arc::new(Processes::default());
        let mut members = BTreeMap::new();
        for node in peers.keys() {
            let links = peers.iter().filter_map(|(from, links)| Some((*from, *links.get(node)?))).collect();
            let gate = Gate::open(links, Arc::clone(&processes)).await?;
            let ports = [reserved()?, reserved()?];
            let listens = Listens { peers: ports[0].local_addr()?, clients: ports[1].local_addr()? };
            members.insert(*node, Member { gate, listens, _ports: ports });
        }
        let (bin, run_dir) = (bin.to_owned(), run_dir.to_owned());
        Ok(Self { bin, reads, run_dir, members, processes, wiped: Mutex::default() })
    }

    /// The members and where they are reached, as etcd wants it.
    fn initial_cluster(&self) -> String {
        let member = |(node, member): (&NodeId, &Member)| format!("n{node}=http://{}", member.gate.address());
        self.members.iter().map(member).collect::<Vec<_>>().join(",")
    }
}

impl Target for Etcd {
    fn launch(&self, node: NodeId) -> io::Result<Launch> {
        let Member { gate, listens, .. } = &self.members[&node];
        let is_another = lock(&self.wiped).contains(&node);
        let data = self.data(node);
        std::fs::create_dir_all(data.parent().unwrap_or(&data))?;
        let flags = [
            ("name", format!("n{node}")),
            ("data-dir", data.to_string_lossy().into_owned()),
            ("listen-client-urls", format!("http://{}", listens.clients)),
            ("advertise-client-urls", format!("http://{}", listens.clients)),
            ("listen-peer-urls", format!("http://{}", listens.peers)),
            ("initial-advertise-peer-urls", format!("http://{}", gate.address())),
            ("initial-cluster", self.initial_cluster()),
            ("initial-cluster-state", if is_another { "existing" } else { "new" }.to_owned()),
            ("heartbeat-interval", "50".to_owned()),
            ("election-timeout", "500".to_owned()),
        ];
        let mut command = vec![self.bin.clone()];
        command.extend(flags.into_iter().map(|(flag, value)| format!("--{flag}={value}")));
        Ok(Launch { command, listens: Some(*listens), ..Launch::default() })
    }

    fn follow(&self, pipes: Pipes, says: Says) -> BoxFuture<'static, ()> {
        self.processes.started(says.node(), says.process_id());
        let address = self.members[&says.node()].listens.clients;
        until_ready(pipes, says, move || is_healthy(address))
    }

    fn clients(&self, addresses: BTreeMap<NodeId, SocketAddr>, numbers: &[u64]) -> Vec<Box<dyn Client>> {
        let addresses = Arc::new(addresses);
        let client =
            |_: &u64| -> Box<dyn Client> { Box::new(EtcdClient::new(Arc::clone(&addresses), self.reads)) };
        numbers.iter().map(client).collect()
    }

    fn wiped(&self, node: NodeId) {
        lock(&self.wiped).insert(node);
    }

    fn welcome(&self, node: NodeId) -> BoxFuture<'_, io::Result<()>> {
        let has_nothing = lock(&self.wiped).contains(&node) && !self.data(node).exists();
        if !has_nothing {
            return Box::pin(ready(Ok(())));
        }
        let others = self.members.iter().filter(|(other, _)| **other != node);
        let others = others.map(|(other, member)| (*other, member.listens.clients)).collect();
        let url = format!("http://{}", self.members[&node].gate.address());
        Box::pin(async move { members::replace(others, &url).await })
    }

    fn data(&self, node: NodeId) -> PathBuf {
        self.run_dir.join("data").join(format!("node-{node}"))
    }
}

/// A connection without delay.
async fn connect(address: SocketAddr) -> io::Result<TcpStream> {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// The lock of a map that is whole whatever panics.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
