//! One address for a node that all of its peers know it by, and a link of its own for each of them: whoever dials is
//! recognised by its process, since the kernel says which process a connection of this machine belongs to.

use std::{
    collections::BTreeMap,
    fs, io,
    net::{Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex},
};

use store::api::NodeId;
use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
    task::{AbortHandle, JoinSet},
};

use super::{connect, lock};
use crate::targets::accepted;

/// An open gate; it is closed when this is dropped.
#[derive(Debug)]
pub(super) struct Gate {
    address: SocketAddr,
    task: AbortHandle,
}

/// The processes of the nodes.
#[derive(Debug, Default)]
pub(super) struct Processes(Mutex<BTreeMap<NodeId, u32>>);

impl Gate {
    /// A gate behind which there is a link for each node.
    pub(super) async fn open(
        links: BTreeMap<NodeId, SocketAddr>,
        processes: Arc<Processes>,
    ) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let task = tokio::spawn(accept_all((listener, address), links, processes)).abort_handle();
        Ok(Self { address, task })
    }

    /// Where it is.
    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn accept_all(
    (listener, own): (TcpListener, SocketAddr),
    links: BTreeMap<NodeId, SocketAddr>,
    processes: Arc<Processes>,
) {
    let mut connections = JoinSet::new();
    let mut warned = false;
    loop {
        let (stream, from) = tokio::select! {
            accepted = accepted(&listener) => accepted,
            Some(_) = connections.join_next() => continue,
        };
        match processes.owner(from, own) {
            Ok(Dialer::Node(node)) => {
                if let Some(link) = links.get(&node) {
                    connections.spawn(carry(stream, *link));
                }
            }
            Ok(Dialer::Gone) => {}
            Ok(Dialer::Stranger) if warned => {}
            Ok(Dialer::Stranger) => {
                warned = true;
                tracing::warn!(
                    %from, to = %own, members = ?links.keys().collect::<Vec<_>>(),
                    "somebody who is no member dials a member as its peer, and gets nowhere; told once"
                );
            }
            Err(error) => tracing::warn!(%error, "could not find out which member dials"),
        }
    }
}

/// Who holds the end of a connection from which it was dialed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Dialer {
    /// The process of this node.
    Node(NodeId),
    /// A process that is no node's.
    Stranger,
    /// Nobody any more.
    Gone,
}

/// Carries one connection through its link. When either end is lost, so is the other.
async fn carry(mut dialer: TcpStream, link: SocketAddr) {
    let reset = |stream: &TcpStream| {
        // fails only on a socket that is dead already
        let _ = stream.set_zero_linger();
    };
    // fails only on a socket that is dead already, which its first use reports
    let _ = dialer.set_nodelay(true);
    let Ok(mut link) = connect(link).await else { return reset(&dialer) };
    if copy_bidirectional(&mut dialer, &mut link).await.is_err() {
        reset(&dialer);
        reset(&link);
    }
}

impl Processes {
    /// The process of `node` is this one from now on.
    pub(super) fn started(&self, node: NodeId, process: u32) {
        lock(&self.0).insert(node, process);
    }

    /// Who holds the end of a connection from one address to another.
    fn owner(&self, from: SocketAddr, to: SocketAddr) -> io::Result<Dialer> {
        let held = || Ok::<_, io::Error>(inode(&fs::read_to_string("/proc/net/tcp")?, from, to));
        let Some(inode) = held()? else { return Ok(Dialer::Gone) };
        let link = format!("socket:[{inode}]");
        let processes = lock(&self.0).clone();
        let holds = |process: &u32| {
            let Ok(files) = fs::read_dir(format!("/proc/{process}/fd")) else { return false };
            files
                .flatten()
                .any(|file| fs::read_link(file.path()).is_ok_and(|to| to.as_os_str() == link.as_str()))
        };
        Ok(match processes.iter().find(|(_, process)| holds(process)) {
            Some((node, _)) => Dialer::Node(*node),
            // a node may have died between the two looks
            None if held()? == Some(inode) => Dialer::Stranger,
            None => Dialer::Gone,
        })
    }
}

/// The inode of the socket with these addresses, its own first, in the table that the kernel shows as `/proc/net/tcp`. Connections
/// to different places may have one local address.
fn inode(table: &str, local: SocketAddr, remote: SocketAddr) -> Option<u64> {
    let wanted = [shown(local)?, shown(remote)?];
    table.lines().find_map(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let addresses = fields.get(1..3)?;
        let inode = fields.get(9).filter(|_| addresses == wanted)?;
        inode.parse().ok().filter(|inode| *inode > 0)
    })
}

/// An address as it stands there: the bytes of memory, and the port as a number.
fn shown(address: SocketAddr) -> Option<String> {
    let SocketAddr::V4(address) = address else { return None };
    Some(format!("{:08X}:{:04X}", u32::from_ne_bytes(address.ip().octets()), address.port()))
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    #[tokio::test]
    async fn a_gate_knows_who_dials() {
        let behind = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let processes = Arc::new(Processes::default());
        let links = BTreeMap::from([(7, behind.local_addr().unwrap())]);
        let gate = Gate::open(links, Arc::clone(&processes)).await.unwrap();

        let log = tempfile::NamedTempFile::new().unwrap();
        let told = tracing_subscriber::fmt().with_writer(Arc::new(log.reopen().unwrap())).finish();
        let telling = tracing::subscriber::set_default(told);
        for _ in 0..2 {
            let mut stranger = TcpStream::connect(gate.address()).await.unwrap();
            assert_eq!(stranger.read(&mut [0]).await.unwrap_or(0), 0, "a stranger gets nowhere");
        }
        drop(telling);
        let told = fs::read_to_string(log.path()).unwrap();
        assert_eq!(told.matches("who is no member").count(), 1, "once: {told}");

        processes.started(7, std::process::id());
        let mut dialer = TcpStream::connect(gate.address()).await.unwrap();
        let (mut accepted, _) = behind.accept().await.unwrap();
        dialer.write_all(b"there").await.unwrap();
        let mut heard = [0; 5];
        accepted.read_exact(&mut heard).await.unwrap();
        assert_eq!(&heard, b"there");
        accepted.set_zero_linger().unwrap();
        drop(accepted);
        assert_eq!(dialer.read(&mut [0]).await.unwrap_or(0), 0, "a loss behind the gate is a loss before it");
    }

    #[tokio::test]
    async fn a_dialer_that_has_died_is_no_stranger() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let (own, processes) = (listener.local_addr().unwrap(), Processes::default());
        let dialer = TcpStream::connect(own).await.unwrap();
        let from = dialer.local_addr().unwrap();
        assert_eq!(processes.owner(from, own).unwrap(), Dialer::Stranger);
        processes.started(3, std::process::id());
        assert_eq!(processes.owner(from, own).unwrap(), Dialer::Node(3));
        drop(dialer);
        assert_eq!(processes.owner(from, own).unwrap(), Dialer::Gone);
    }

    #[test]
    fn the_kernel_s_table_is_read() {
        let table = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n   \
                     0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4711 1 0\n   \
                     1: 0100007F:1F91 0100007F:1F8F 01 00000000:00000000 00:00000000 00000000     0        0 4713 1 0\n   \
                     2: 0100007F:1F91 0100007F:1F90 01 00000000:00000000 00:00000000 00000000     0        0 4712 1 0\n";
        let local = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        assert_eq!(inode(table, local(8081), local(8080)), Some(4712));
        assert_eq!(inode(table, local(8081), local(8079)), Some(4713), "one port, another place");
        assert_eq!(inode(table, local(8082), local(8080)), None);
    }
}
