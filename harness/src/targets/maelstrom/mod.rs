//! Nodes of [Maelstrom's protocol](https://github.com/jepsen-io/maelstrom/blob/main/doc/protocol.md): programs in any
//! language that read and print JSON lines, and know of no network. The harness is their network: every message travels on a
//! connection of its link, through the proxy, so that all faults of links meet it, single messages included.
//!
//! The workload is `lin-kv`: `read`, `write` and `cas` of single keys. Values of histories are texts; a node is asked with a
//! number in the place of each, as Maelstrom asks it.

mod bridge;
mod client;
mod message;
mod services;

use std::{
    collections::BTreeMap,
    io,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use futures::future::BoxFuture;
use serde_json::{Value, json};
use store::api::NodeId;

use super::{Client, Input, Launch, Pipes, Says, Target};
use crate::terminal::for_shell;
use bridge::Bridge;
use client::MaelstromClient;
use services::Services;

/// A cluster of such nodes.
#[derive(Debug)]
pub struct Maelstrom {
    /// What the shell runs as a node.
    command: String,
    run_dir: PathBuf,
    nodes: Vec<NodeId>,
    /// Where each node reaches each other node.
    peers: BTreeMap<NodeId, BTreeMap<NodeId, SocketAddr>>,
    values: Arc<Values>,
    services: Arc<Services>,
}

impl Maelstrom {
    /// Nodes that are each this command of the shell, run in `folder`, or where the harness is; `peers` says where each node
    /// reaches the others, and the services that they ask choose by this seed what they may choose.
    pub fn new(
        bin: &str,
        folder: Option<&Path>,
        run_dir: &Path,
        peers: BTreeMap<NodeId, BTreeMap<NodeId, SocketAddr>>,
        seed: u64,
    ) -> Self {
        let enter = folder
            .filter(|folder| !folder.as_os_str().is_empty())
            .map(|folder| format!("cd -- {} && ", for_shell(folder)))
            .unwrap_or_default();
        Self {
            command: format!("{enter}exec {bin}"),
            run_dir: run_dir.to_owned(),
            nodes: peers.keys().copied().collect(),
            peers,
            values: Arc::default(),
            services: Arc::new(Services::new(seed)),
        }
    }
}

impl Target for Maelstrom {
    /// A node that keeps something finds in `NODE_DATA` the folder that outlives its process, and not the run.
    fn launch(&self, node: NodeId) -> io::Result<Launch> {
        let data = std::path::absolute(self.data(node))?;
        std::fs::create_dir_all(&data)?;
        let command = ["/bin/sh", "-c", &self.command].map(str::to_owned).to_vec();
        let environment = vec![("NODE_DATA".to_owned(), data.to_string_lossy().into_owned())];
        Ok(Launch { command, environment, input: Input::Followed, ..Launch::default() })
    }

    fn follow(&self, pipes: Pipes, says: Says) -> BoxFuture<'static, ()> {
        let peers = self.peers.get(&says.node()).cloned().unwrap_or_default();
        Box::pin(Bridge::carry(says, pipes, self.nodes.clone(), peers, Arc::clone(&self.services)))
    }

    fn clients(&self, addresses: BTreeMap<NodeId, SocketAddr>, numbers: &[u64]) -> Vec<Box<dyn Client>> {
        let addresses = Arc::new(addresses);
        let client = |number: &u64| -> Box<dyn Client> {
            Box::new(MaelstromClient::new(*number, Arc::clone(&addresses), Arc::clone(&self.values)))
        };
        numbers.iter().map(client).collect()
    }

    fn data(&self, node: NodeId) -> PathBuf {
        self.run_dir.join("data").join(format!("node-{node}"))
    }
}

/// The numbers that stand for values: nodes are asked with integers, as Maelstrom asks them.
#[derive(Debug, Default)]
struct Values(Mutex<Known>);

#[derive(Debug, Default)]
struct Known {
    numbers: BTreeMap<String, usize>,
    texts: Vec<String>,
}

impl Values {
    /// The number of a value, from 1.
    fn number(&self, text: &str) -> Value {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let next = known.texts.len() + 1;
        let number = *known.numbers.entry(text.to_owned()).or_insert(next);
        if number == next {
            known.texts.push(text.to_owned());
        }
        json!(number)
    }

    /// The value of a number. What nobody has written is a value of its own, and so a violation.
    fn text(&self, number: &Value) -> String {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let index = number.as_u64().and_then(|number| number.checked_sub(1));
        let text = index.and_then(|index| known.texts.get(index as usize));
        text.cloned().unwrap_or_else(|| format!("never written: {number}"))
    }
}

/// A node's name.
fn name(node: NodeId) -> String {
    format!("n{node}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_come_back_and_invented_ones_are_nobody_s() {
        let values = Values::default();
        let (one, two) = (values.number("a"), values.number("b"));
        assert_eq!((values.number("a"), one != two), (one.clone(), true));
        assert_eq!((values.text(&one).as_str(), values.text(&two).as_str()), ("a", "b"));
        for invented in [json!(0), json!(3), json!(-1), json!("a"), json!(1.5)] {
            assert!(values.text(&invented).starts_with("never written"), "{invented}");
        }
    }
}
