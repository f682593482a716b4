//! A member that has lost its disk is another one to the cluster: the others must let the old one go and take the new one in,
//! before that starts. Whoever started it as it was first would let it vote twice.

use std::{collections::BTreeMap, io, net::SocketAddr, sync::Arc, time::Duration};

use serde_json::{Value, json};
use store::api::NodeId;
use tokio::time::{Instant, sleep};

use super::client::EtcdClient;
use crate::workload::EtcdReads;

/// How long the others may take, which need a majority for it.
const PATIENCE: Duration = Duration::from_mins(1);

/// How long one of them may take for an answer.
const ANSWER: Duration = Duration::from_secs(2);

/// Between two attempts.
const PAUSE: Duration = Duration::from_millis(200);

/// Has the others replace the member that its peers reach at `url` by one that has not started yet.
pub(super) async fn replace(others: BTreeMap<NodeId, SocketAddr>, url: &str) -> io::Result<()> {
    let asked: Vec<NodeId> = others.keys().copied().collect();
    let mut client = EtcdClient::new(Arc::new(others), EtcdReads::Linearizable);
    let deadline = Instant::now() + PATIENCE;
    let mut last = "nobody was asked".to_owned();
    // only one that was added here has never started: one that has may still be without a name
    let mut added = false;
    while Instant::now() < deadline {
        for node in &asked {
            match step(&mut client, *node, url, &mut added).await {
                Ok(true) => return Ok(()),
                Ok(false) => {}
                Err(words) => last = words,
            }
        }
        sleep(PAUSE).await;
    }
    Err(io::Error::other(format!("the other members did not take it in within {PATIENCE:?}: {last}")))
}

/// One step on the way there, by one of the others; true: it is done. `added`: one was asked to add it before.
async fn step(client: &mut EtcdClient, node: NodeId, url: &str, added: &mut bool) -> Result<bool, String> {
    let list = client.tell(node, "/v3/cluster/member/list", &json!({}), ANSWER).await?;
    let members = list["members"].as_array().map_or(&[][..], Vec::as_slice);
    let is_it =
        |member: &&Value| member["peerURLs"].as_array().is_some_and(|urls| urls.iter().any(|at| at == url));
    match members.iter().find(is_it) {
        Some(member) if *added && member["name"].as_str().unwrap_or_default().is_empty() => Ok(true),
        Some(member) => {
            client.tell(node, "/v3/cluster/member/remove", &json!({ "ID": member["ID"] }), ANSWER).await?;
            Ok(false)
        }
        None => {
            // though the answer may be lost
            *added = true;
            client.tell(node, "/v3/cluster/member/add", &json!({ "peerURLs": [url] }), ANSWER).await?;
            Ok(false)
        }
    }
}
