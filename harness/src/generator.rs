//! What a client asks next: a stream that its seed fixes, endless unless the workload says how much is asked in all; or what
//! the plan lists one by one.
//!
//! Every draw is made whatever the answers were, so that the stream depends on the seed alone. Only two things wait for the
//! run: which value a compare-and-swap expects (what this client last saw of the key, nothing if it saw nothing) and who
//! leads a partition.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use checker::history::{Function, Key, Kind, OpResult};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};
use store::api::NodeId;

use crate::{
    plan::{PlannedAsk, PlannedClient, PlannedEntry},
    workload::{Distribution, Operations},
};

/// A client's stream of operations.
#[derive(Clone, Debug)]
pub struct Generator {
    rng: ChaCha8Rng,
    client: PlannedClient,
    nodes: u64,
    operations: Arc<Operations>,
    /// Sums of the keys' weights, up to each key.
    weights: Vec<f64>,
    written: u64,
    /// What is left of the client's share; none: there is no end.
    left: Option<u64>,
    /// What is left of its list, if it has one.
    listed: Option<std::vec::IntoIter<PlannedAsk>>,
}

/// One operation of a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Choice {
    /// What is asked.
    pub ask: Ask,
    /// The node that is asked; none: the leader of the key's partition.
    pub node: Option<NodeId>,
}

/// What is asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Ask {
    /// Read.
    Get(Key),
    /// Write a value that no other operation of the run writes.
    Put(Key, String),
    /// Replace what the client last saw by such a value.
    Cas(Key, String),
    /// Remove.
    Delete(Key),
}

/// What a client last saw of each key; `None`: that it was absent.
#[derive(Clone, Debug, Default)]
pub struct Knowledge(BTreeMap<Key, Option<String>>);

impl Generator {
    /// The stream of a client.
    pub fn new(mut client: PlannedClient, nodes: u64, operations: Arc<Operations>) -> Self {
        let listed = client.asks.take().map(Vec::into_iter);
        let rng = ChaCha8Rng::seed_from_u64(client.seed);
        let weights = cumulative_weights(&operations);
        let left = client.operations;
        Self { rng, client, nodes, operations, weights, written: 0, left, listed }
    }

    /// When the next operation is asked, from the moment at which the clients begin; none: the plan lists none, and the rate
    /// says when.
    pub fn due(&self) -> Option<Duration> {
        self.listed.as_ref()?.as_slice().first().map(|planned| planned.at.0)
    }

    /// The next operation, unless the client has asked its share.
    pub fn choose(&mut self) -> Option<Choice> {
        if let Some(listed) = &mut self.listed {
            return listed.next().map(|PlannedAsk { ask, node, .. }| Choice { ask, node });
        }
        if let Some(left) = &mut self.left {
            *left = left.checked_sub(1)?;
        }
        let any = self.rng.random_range(1..=self.nodes);
        let point = self.rng.random::<f64>();
        let mix = self.operations.mix;
        let kind = self.rng.random_range(0..mix.get + mix.put + mix.cas + mix.delete);
        let key = self.key_at(point);
        let ask = if kind < mix.get {
            Ask::Get(key)
        } else if kind < mix.get + mix.put {
            Ask::Put(key, self.fresh_value())
        } else if kind < mix.get + mix.put + mix.cas {
            Ask::Cas(key, self.fresh_value())
        } else {
            Ask::Delete(key)
        };
        let node = match self.client.entry {
            PlannedEntry::Any => Some(any),
            PlannedEntry::Node(node) => Some(node),
            PlannedEntry::Leader => None,
        };
        Some(Choice { ask, node })
    }

    fn key_at(&self, point: f64) -> Key {
        let total = self.weights.last().copied().unwrap_or_default();
        let index = self.weights.partition_point(|sum| *sum <= point * total);
        self.operations.keys[index.min(self.operations.keys.len() - 1)].clone()
    }

    fn fresh_value(&mut self) -> String {
        self.written += 1;
        let value = format!("c{}-{}", self.client.client, self.written);
        format!("{value:.<width$}", width = self.operations.value_size)
    }
}

impl Ask {
    /// The operation, now that it is known what the client knows.
    pub fn resolve(self, knowledge: &Knowledge) -> Function {
        match self {
            Self::Get(key) => Function::Get { key },
            Self::Put(key, value) => Function::Put { key, value },
            Self::Cas(key, new) => Function::Cas { expected: knowledge.of(&key), key, new },
            Self::Delete(key) => Function::Delete { key },
        }
    }
}

impl Knowledge {
    /// What the client last saw of `key`.
    pub fn of(&self, key: &Key) -> Option<String> {
        self.0.get(key).cloned().flatten()
    }

    /// Takes in how an operation ended.
    pub fn learn(&mut self, function: &Function, kind: Kind, result: Option<&OpResult>) {
        let (Kind::Ok, Some(result)) = (kind, result) else { return };
        let seen = match function {
            Function::Put { value, .. } => Some(value.clone()),
            Function::Cas { new, .. } if result.swapped == Some(true) => Some(new.clone()),
            Function::Get { .. } | Function::Cas { .. } => result.returned.clone(),
            Function::Delete { .. } => None,
        };
        self.0.insert(function.key().clone(), seen);
    }
}

fn cumulative_weights(operations: &Operations) -> Vec<f64> {
    let keys = operations.keys.len();
    let others = (keys - 1).max(1) as f64;
    let weight = |index: usize| match operations.distribution {
        Distribution::Uniform => 1.0,
        Distribution::Zipf => (index as f64 + 1.0).powf(-operations.skew),
        Distribution::Hot if index == 0 => operations.skew,
        Distribution::Hot => (1.0 - operations.skew) / others,
    };
    (0..keys)
        .scan(0.0, |sum, index| {
            *sum += weight(index);
            Some(*sum)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::workload::{Mix, Time};

    fn operations(distribution: Distribution, skew: f64) -> Arc<Operations> {
        Arc::new(Operations {
            mix: Mix { get: 5, put: 3, cas: 2, delete: 1 },
            distribution,
            skew,
            value_size: 8,
            rate: None,
            total: None,
            keys: (1..=10).map(Key::Integer).collect(),
        })
    }

    fn stream(client: u64, seed: u64, operations: &Arc<Operations>) -> Vec<Choice> {
        stream_of(
            PlannedClient { client, seed, entry: PlannedEntry::Any, operations: None, asks: None },
            operations,
        )
    }

    fn stream_of(client: PlannedClient, operations: &Arc<Operations>) -> Vec<Choice> {
        let mut generator = Generator::new(client, 5, Arc::clone(operations));
        (0..2000).map_while(|_| generator.choose()).collect()
    }

    #[test]
    fn a_share_ends_the_stream_and_changes_nothing_before() {
        let operations = operations(Distribution::Uniform, 1.0);
        let shared = |share| PlannedClient {
            client: 1,
            seed: 42,
            entry: PlannedEntry::Any,
            operations: share,
            asks: None,
        };
        assert_eq!(stream_of(shared(Some(7)), &operations), stream(1, 42, &operations)[..7]);
        assert_eq!(stream_of(shared(Some(0)), &operations), []);
    }

    #[test]
    fn a_list_is_asked_instead_of_the_stream() {
        let ask = |at: u64, ask: Ask| PlannedAsk { at: Time(Duration::from_millis(at)), ask, node: Some(2) };
        let (put, get) = (Ask::Put(Key::Integer(3), "three".to_owned()), Ask::Get(Key::Integer(3)));
        let asks = Some(vec![ask(5, put.clone()), ask(9, get.clone())]);
        let client =
            PlannedClient { client: 1, seed: 1, entry: PlannedEntry::Leader, operations: None, asks };
        let mut generator = Generator::new(client, 5, operations(Distribution::Uniform, 1.0));
        assert_eq!(generator.due(), Some(Duration::from_millis(5)));
        assert_eq!(generator.choose(), Some(Choice { ask: put, node: Some(2) }));
        assert_eq!(generator.due(), Some(Duration::from_millis(9)));
        assert_eq!(generator.choose(), Some(Choice { ask: get, node: Some(2) }));
        assert_eq!((generator.due(), generator.choose()), (None, None));
    }

    #[test]
    fn the_seed_fixes_the_stream() {
        let operations = operations(Distribution::Uniform, 1.0);
        assert_eq!(stream(1, 42, &operations), stream(1, 42, &operations));
        assert_ne!(stream(1, 42, &operations), stream(1, 43, &operations));
    }

    #[test]
    fn no_value_is_written_twice() {
        let operations = operations(Distribution::Uniform, 1.0);
        let mut seen = BTreeSet::new();
        for choice in (1..=12).flat_map(|client| stream(client, 42, &operations)) {
            if let Ask::Put(_, value) | Ask::Cas(_, value) = choice.ask {
                assert!(value.len() >= 8, "padded");
                assert!(seen.insert(value.clone()), "{value} is written twice");
            }
        }
    }

    fn share_of_first(operations: &Arc<Operations>) -> f64 {
        let first = |choice: &Choice| match &choice.ask {
            Ask::Get(key) | Ask::Put(key, _) | Ask::Cas(key, _) | Ask::Delete(key) => *key == Key::Integer(1),
        };
        stream(1, 7, operations).iter().filter(|choice| first(choice)).count() as f64 / 2000.0
    }

    #[test]
    fn distributions_favour_the_first_key_as_they_should() {
        assert!((0.05..0.15).contains(&share_of_first(&operations(Distribution::Uniform, 1.0))));
        assert!((0.28..0.41).contains(&share_of_first(&operations(Distribution::Zipf, 1.0))));
        assert!((0.75..0.85).contains(&share_of_first(&operations(Distribution::Hot, 0.8))));
    }

    #[test]
    fn a_swap_expects_what_the_client_last_saw() {
        let key = Key::Integer(1);
        let mut knowledge = Knowledge::default();
        let swap = |knowledge: &Knowledge| Ask::Cas(Key::Integer(1), "new".to_owned()).resolve(knowledge);
        let expects = |expected: Option<&str>| Function::Cas {
            key: Key::Integer(1),
            expected: expected.map(str::to_owned),
            new: "new".to_owned(),
        };
        assert_eq!(swap(&knowledge), expects(None));
        let result = |returned: Option<&str>| OpResult {
            returned: returned.map(str::to_owned),
            swapped: None,
            version: 1,
            index: None,
            leader: 1,
            ballot: String::new(),
            fast: false,
            local: false,
        };
        knowledge.learn(&Function::Get { key: key.clone() }, Kind::Ok, Some(&result(Some("seen"))));
        assert_eq!(swap(&knowledge), expects(Some("seen")));
        let put = Function::Put { key: key.clone(), value: "put".to_owned() };
        knowledge.learn(&put, Kind::Info, None);
        assert_eq!(swap(&knowledge), expects(Some("seen")), "an unknown write teaches nothing");
        knowledge.learn(&put, Kind::Ok, Some(&result(None)));
        assert_eq!(swap(&knowledge), expects(Some("put")));
        knowledge.learn(&Function::Delete { key }, Kind::Ok, Some(&result(None)));
        assert_eq!(swap(&knowledge), expects(None));
    }
}
