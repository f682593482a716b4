//! A whole cluster at a glance, for people and for scripts: what every node says of itself, put side by side.
//!
//! One node that answers is enough: it names the others. Nodes are asked one after another in time, so the figures of
//! different nodes are of slightly different moments; a lag of a few entries on a busy cluster is no more than that.

use std::{collections::BTreeMap, fmt, time::Duration};

use futures::future::join_all;
use serde::Serialize;
use tokio::time;

use crate::{
    api::{Ballot, NodeId, NodeStatus, PartitionId, PartitionStatus},
    client::{Client, ClientError, Cluster},
    config::Partitioning,
    directory::{Directory, Entry},
};

/// A cluster as its nodes see themselves.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Overview {
    /// Its nodes.
    pub nodes: Vec<NodeLine>,
    /// Its partitions.
    pub partitions: Vec<PartitionLine>,
}

/// A node in an [`Overview`].
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct NodeLine {
    /// The node.
    pub node: NodeId,
    /// Where it was asked.
    pub address: String,
    /// What it says.
    #[serde(flatten)]
    pub said: Said,
}

/// What a node says of itself.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "state")]
pub enum Said {
    /// It serves clients.
    Open {
        /// How often it has started on its disk.
        boot: u64,
        /// Nodes that it suspects.
        suspected: Vec<NodeId>,
    },
    /// It waits for others, of which so many have joined.
    Joining {
        /// How often it has started on its disk.
        boot: u64,
        /// Nodes heard of, itself included.
        joined: u64,
    },
    /// It does not answer.
    NoAnswer {
        /// Why.
        reason: String,
    },
}

/// A partition in an [`Overview`].
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct PartitionLine {
    /// The partition.
    pub partition: PartitionId,
    /// The keys that it holds, in words.
    pub keys: String,
    /// The node that leads it; none of those that answered, if none does.
    pub leader: Option<NodeId>,
    /// The leader's ballot; without a leader the highest one that was promised.
    pub ballot: Ballot,
    /// How long the leader's lease still lasts on its clock; none: it holds none.
    pub lease_ms: Option<u64>,
    /// Entries that are decided, as far as anybody knows.
    pub decided: u64,
    /// Its replicas.
    pub replicas: Vec<ReplicaLine>,
}

/// A replica in an [`Overview`].
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ReplicaLine {
    /// Where it is.
    pub node: NodeId,
    /// How it sees itself; none: its node does not answer.
    #[serde(flatten)]
    pub progress: Option<Progress>,
}

/// How far a replica is.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Progress {
    /// `leader`, `preparing`, `follower` or `recovering`.
    pub role: String,
    /// Entries that it knows to be decided.
    pub decided: u64,
    /// Decided entries that it does not know of.
    pub lag: u64,
}

impl Overview {
    /// Asks all nodes of a cluster, each for as long as `limit`. An error: none of the given ones answered.
    pub async fn of(name: &str, seeds: &[String], limit: Duration) -> Result<Self, ClientError> {
        let (directory, address) = Cluster::look_up(name, seeds, limit, |_| ()).await?;
        let ask = async |(node, address): (NodeId, String)| {
            let asked = async { Client::connect_within(limit, &address, name).await?.status().await };
            let answer = time::timeout(limit, asked).await.unwrap_or(Err(ClientError::NoAnswer));
            (node, address, answer.map_err(|error| error.to_string()))
        };
        let answers = join_all(directory.addresses(&address).into_iter().map(ask)).await;
        Ok(Self::new(&directory, answers))
    }

    /// Puts together what was answered, or why it was not.
    fn new(directory: &Directory, answers: Vec<(NodeId, String, Result<NodeStatus, String>)>) -> Self {
        let mut groups: BTreeMap<PartitionId, BTreeMap<NodeId, PartitionStatus>> = BTreeMap::new();
        let mut nodes = Vec::new();
        for (node, address, answer) in answers {
            let said = match answer {
                Err(reason) => Said::NoAnswer { reason },
                Ok(status) if status.open => {
                    for group in status.partitions {
                        groups.entry(group.partition).or_default().insert(node, group);
                    }
                    Said::Open { boot: status.boot, suspected: status.suspected }
                }
                Ok(status) => Said::Joining { boot: status.boot, joined: status.joined },
            };
            nodes.push(NodeLine { node, address, said });
        }
        let none = BTreeMap::new();
        let partition = |entry: &Entry| {
            let said = groups.get(&entry.config.partition).unwrap_or(&none);
            let keys = match directory.partitioning {
                Partitioning::Range => entry.config.to_string(),
                Partitioning::Hash => format!("by hash, 1 of {}", directory.partitions.len()),
            };
            PartitionLine::new(entry, keys, said)
        };
        Self { nodes, partitions: directory.partitions.iter().map(partition).collect() }
    }
}

impl PartitionLine {
    fn new(entry: &Entry, keys: String, said: &BTreeMap<NodeId, PartitionStatus>) -> Self {
        // two may say that they lead while one of them does not know yet that it was deposed: the higher ballot leads
        let leading = said.iter().filter(|(_, group)| group.role == "leader");
        let leader = leading.max_by_key(|(_, group)| group.promised);
        let highest = said.values().map(|group| group.promised).max().unwrap_or_default();
        let decided = said.values().map(|group| group.decided).max().unwrap_or_default();
        let replica = |node: &NodeId| {
            let progress = said.get(node).map(|group| Progress {
                role: group.role.clone(),
                decided: group.decided,
                lag: decided - group.decided,
            });
            ReplicaLine { node: *node, progress }
        };
        Self {
            partition: entry.config.partition,
            keys,
            leader: leader.map(|(node, _)| *node),
            ballot: leader.map_or(highest, |(_, group)| group.promised),
            lease_ms: leader.and_then(|(_, group)| group.hold_ms),
            decided,
            replicas: entry.replicas.iter().map(replica).collect(),
        }
    }
}

impl fmt::Display for Overview {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let nodes = self.nodes.iter().map(|line| {
            let [state, boot, suspects] = line.said.columns();
            [line.node.to_string(), line.address.clone(), state, boot, suspects]
        });
        table(f, ["node", "address", "state", "boot", "suspects"], nodes)?;
        writeln!(f)?;
        let partitions = self.partitions.iter().map(|line| {
            let lease = line.lease_ms.map_or_else(|| "none".to_owned(), |left| format!("{left} ms left"));
            let replicas: Vec<_> = line.replicas.iter().map(ToString::to_string).collect();
            [
                line.partition.to_string(),
                line.keys.clone(),
                line.leader.map_or_else(|| "none".to_owned(), |node| format!("node {node}")),
                line.ballot.to_string(),
                lease,
                line.decided.to_string(),
                replicas.join(", "),
            ]
        });
        table(
            f,
            ["partition", "keys", "leader", "ballot", "lease", "decided", "lag of each replica"],
            partitions,
        )
    }
}

impl Said {
    /// State, boot and suspects.
    fn columns(&self) -> [String; 3] {
        match self {
            Self::Open { boot, suspected } => ["open".to_owned(), boot.to_string(), listed(suspected)],
            Self::Joining { boot, joined } => {
                [format!("joining, {joined} heard of"), boot.to_string(), "-".to_owned()]
            }
            Self::NoAnswer { reason } => [format!("no answer: {reason}"), "-".to_owned(), "-".to_owned()],
        }
    }
}

impl fmt::Display for ReplicaLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { node, progress } = self;
        match progress {
            None => write!(f, "{node}: no answer"),
            Some(Progress { role, lag, .. }) if role == "leader" || role == "follower" => {
                write!(f, "{node}: {lag}")
            }
            Some(Progress { role, lag, .. }) => write!(f, "{node}: {lag} ({role})"),
        }
    }
}

fn listed(nodes: &[NodeId]) -> String {
    let nodes: Vec<_> = nodes.iter().map(ToString::to_string).collect();
    if nodes.is_empty() { "none".to_owned() } else { nodes.join(", ") }
}

/// Columns as wide as what stands in them.
fn table<const N: usize>(
    f: &mut fmt::Formatter<'_>,
    head: [&str; N],
    rows: impl Iterator<Item = [String; N]>,
) -> fmt::Result {
    let rows: Vec<[String; N]> = [head.map(str::to_owned)].into_iter().chain(rows).collect();
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or_default();
    let widths: Vec<usize> = (0..N).map(width).collect();
    for row in &rows {
        let cells: Vec<_> = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        writeln!(f, "{}", cells.join("  ").trim_end())?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        api::KeyType,
        config::{PartitionConfig, RoutingMode},
    };

    fn directory() -> Directory {
        let config =
            PartitionConfig { partition: 1, lower: None, upper: None, replication: 3, replicas: Vec::new() };
        Directory {
            node: 1,
            entry: 1,
            key_type: KeyType::Integer,
            routing: RoutingMode::Redirect,
            peers: BTreeMap::from([(2, "b:2".to_owned()), (3, "c:3".to_owned())]),
            suspected: Vec::new(),
            partitioning: Partitioning::Range,
            partitions: vec![Entry { config, replicas: vec![1, 2, 3], leader: None }],
        }
    }

    fn ballot(number: u64, node: NodeId) -> Ballot {
        Ballot { config: 0, number, priority: 0, node }
    }

    fn says(node: NodeId, role: &str, ballot: Ballot, decided: u64, hold_ms: Option<u64>) -> NodeStatus {
        let group = PartitionStatus {
            partition: 1,
            elected: ballot,
            promised: ballot,
            role: role.to_owned(),
            hold_ms,
            log_start: 0,
            log_length: decided,
            decided,
        };
        NodeStatus { node, boot: 4, open: true, joined: 3, suspected: vec![3], partitions: vec![group] }
    }

    #[test]
    fn of_two_that_say_that_they_lead_the_higher_ballot_does() {
        let answers = vec![
            (1, "a:1".to_owned(), Ok(says(1, "leader", ballot(2, 1), 5, None))),
            (2, "b:2".to_owned(), Ok(says(2, "leader", ballot(3, 2), 9, Some(700)))),
            (3, "c:3".to_owned(), Err("cannot connect: refused".to_owned())),
        ];
        let overview = Overview::new(&directory(), answers);
        let expected = "\
node  address  state                               boot  suspects
1     a:1      open                                4     3
2     b:2      open                                4     3
3     c:3      no answer: cannot connect: refused  -     -

partition  keys  leader  ballot    lease        decided  lag of each replica
1          all   node 2  0.3.0@n2  700 ms left  9        1: 4, 2: 0, 3: no answer
";
        assert_eq!(overview.to_string(), expected);
    }

    #[test]
    fn without_a_leader_the_highest_promise_is_shown() {
        let answers = vec![
            (1, "a:1".to_owned(), Ok(says(1, "follower", ballot(7, 3), 5, None))),
            (2, "b:2".to_owned(), Ok(says(2, "recovering", ballot(6, 2), 3, None))),
            (3, "c:3".to_owned(), Err("no answer in time".to_owned())),
        ];
        let overview = Overview::new(&directory(), answers);
        let shown = overview.to_string();
        assert!(
            shown.ends_with(
                "1          all   none    0.7.0@n3  none   5        1: 0, 2: 2 (recovering), 3: no answer\n"
            ),
            "{shown}"
        );
        let json = serde_json::to_value(&overview).expect("JSON");
        let line = &json["partitions"][0];
        assert_eq!(
            (&line["leader"], &line["lease_ms"]),
            (&serde_json::Value::Null, &serde_json::Value::Null)
        );
        assert_eq!(line["replicas"][1]["lag"], 2);
        assert_eq!(line["replicas"][2], serde_json::json!({ "node": 3 }), "nothing is known of it");
        assert_eq!(json["nodes"][2]["state"], "no-answer");
    }
}
