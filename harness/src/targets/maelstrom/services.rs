//! The services that Maelstrom offers to its nodes: key-value stores and a source of timestamps, which answer at once and never
//! fail. They keep no more than they promise: `seq-kv` answers from the past where a sequentially consistent store may, and
//! `lww-kv` is five replicas that learn of one another by and by. Nodes that trust them with more are found out.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Mutex, PoisonError},
};

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::{Value, json};

use super::message::Message;

/// How many states of itself `seq-kv` remembers.
const REMEMBERED: u64 = 32;

/// The replicas of `lww-kv`.
const REPLICAS: usize = 5;

/// Whether there is a service of this name.
pub(super) fn is_service(name: &str) -> bool {
    ["lin-kv", "seq-kv", "lww-kv", "lin-tso"].contains(&name)
}

/// All services of a run.
#[derive(Debug)]
pub(super) struct Services(Mutex<State>);

#[derive(Debug)]
struct State {
    /// What may be answered in several ways is answered as this says.
    chance: ChaCha8Rng,
    linearizable: BTreeMap<String, Value>,
    sequential: Sequential,
    last_write_wins: [Replica; REPLICAS],
    timestamps: u64,
}

impl Services {
    /// Services whose choices follow a seed.
    pub(super) fn new(seed: u64) -> Self {
        Self(Mutex::new(State {
            chance: ChaCha8Rng::seed_from_u64(seed),
            linearizable: BTreeMap::new(),
            sequential: Sequential::default(),
            last_write_wins: Default::default(),
            timestamps: 0,
        }))
    }

    /// What a service answers; `None`: nobody of this name is one.
    pub(super) fn answer(&self, asked: &Message) -> Option<Message> {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let State { chance, linearizable, sequential, last_write_wins, timestamps } = &mut *state;
        let key = asked.body["key"].to_string();
        let mut body = match asked.dest.as_str() {
            "lin-kv" => {
                let (answer, stored) = outcome(&asked.body, linearizable.get(&key));
                linearizable.extend(stored.map(|value| (key, value)));
                answer
            }
            "seq-kv" => sequential.answer(asked, key, chance),
            "lww-kv" => {
                gossip(last_write_wins, chance);
                last_write_wins[chance.random_range(0..REPLICAS)].answer(&asked.body, key)
            }
            "lin-tso" if asked.kind() == "ts" => {
                *timestamps += 1;
                json!({ "type": "ts_ok", "ts": *timestamps - 1 })
            }
            "lin-tso" => unsupported(asked.kind()),
            _ => return None,
        };
        body["in_reply_to"] = asked.body["msg_id"].clone();
        Some(Message { src: asked.dest.clone(), dest: asked.src.clone(), body })
    }
}

/// What a request comes to where its key has this value: the answer, and what the key holds from then on, if that is written.
fn outcome(body: &Value, found: Option<&Value>) -> (Value, Option<Value>) {
    let kind = body["type"].as_str().unwrap_or_default();
    let missing = || (error(20, "key does not exist"), None);
    match (kind, found) {
        ("read", Some(value)) => (json!({ "type": "read_ok", "value": value }), None),
        ("read", None) => missing(),
        ("write", _) => (json!({ "type": "write_ok" }), Some(body["value"].clone())),
        ("cas", None) if body["create_if_not_exists"] != json!(true) => missing(),
        ("cas", Some(value)) if *value != body["from"] => {
            (error(22, &format!("current value {value} is not {}", body["from"])), None)
        }
        ("cas", _) => (json!({ "type": "cas_ok" }), Some(body["to"].clone())),
        _ => (unsupported(kind), None),
    }
}

fn unsupported(kind: &str) -> Value {
    error(10, &format!("this service knows no {kind:?}"))
}

fn error(code: u64, text: &str) -> Value {
    json!({ "type": "error", "code": code, "text": text })
}

/// `seq-kv`: states one after the other. Whoever asks for what changes nothing may be answered from any of the last ones that
/// is not before what it has seen; what changes something is done to the last one.
#[derive(Debug, Default)]
struct Sequential {
    /// The number of the last state.
    last: u64,
    /// The values of each key, each with the number of the state in which it came.
    values: BTreeMap<String, VecDeque<(u64, Value)>>,
    /// The last state that each asker has seen.
    seen: BTreeMap<String, u64>,
}

impl Sequential {
    fn answer(&mut self, asked: &Message, key: String, chance: &mut ChaCha8Rng) -> Value {
        let seen = self.seen.entry(asked.src.clone()).or_default();
        let values = self.values.entry(key).or_default();
        let at = |state: u64| values.iter().rev().find(|(since, _)| *since <= state).map(|(_, value)| value);
        let state = chance.random_range((*seen).max(self.last.saturating_sub(REMEMBERED))..=self.last);
        let (answer, stored) = outcome(&asked.body, at(state));
        if stored.is_none() || stored.as_ref() == at(state) {
            *seen = state;
            return answer;
        }
        let (answer, stored) = outcome(&asked.body, at(self.last));
        *seen = self.last;
        if let Some(value) = stored {
            self.last += 1;
            *seen = self.last;
            values.push_back((self.last, value));
            let forgotten = self.last.saturating_sub(REMEMBERED);
            while values.get(1).is_some_and(|(since, _)| *since <= forgotten) {
                values.pop_front();
            }
        }
        answer
    }
}

/// A replica of `lww-kv`: values with the times of its clock (Lamport, 1978) at which they were written.
#[derive(Clone, Debug, Default)]
struct Replica {
    clock: u64,
    values: BTreeMap<String, (u64, Value)>,
}

impl Replica {
    fn answer(&mut self, body: &Value, key: String) -> Value {
        let (answer, stored) = outcome(body, self.values.get(&key).map(|(_, value)| value));
        if let Some(value) = stored {
            self.values.insert(key, (self.clock, value));
            self.clock += 1;
        }
        answer
    }

    /// Takes over what another has written later; of one time, the value that is greater as a text.
    fn learn(&mut self, other: &Self) {
        self.clock = self.clock.max(other.clock);
        for (key, (time, value)) in &other.values {
            let newer = self
                .values
                .get(key)
                .is_none_or(|(own_time, own)| (own_time, own.to_string()) < (time, value.to_string()));
            if newer {
                self.values.insert(key.clone(), (*time, value.clone()));
            }
        }
    }
}

/// One of the replicas learns what another knows.
fn gossip(replicas: &mut [Replica; REPLICAS], chance: &mut ChaCha8Rng) {
    let (from, to) = (chance.random_range(0..REPLICAS), chance.random_range(0..REPLICAS));
    let from = replicas[from].clone();
    replicas[to].learn(&from);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a service answers to a node.
    fn ask(services: &Services, node: &str, service: &str, body: Value) -> Value {
        let asked = Message { src: node.to_owned(), dest: service.to_owned(), body };
        let answer = services.answer(&asked).expect("a service");
        assert_eq!((answer.src.as_str(), answer.dest.as_str()), (service, node));
        assert_eq!(answer.body["in_reply_to"], asked.body["msg_id"]);
        answer.body
    }

    fn write(services: &Services, node: &str, service: &str, value: u64) {
        let body = json!({ "type": "write", "key": 1, "value": value });
        assert_eq!(ask(services, node, service, body)["type"], "write_ok");
    }

    /// The value that is read; 0: none.
    fn read(services: &Services, node: &str, service: &str) -> u64 {
        let answer = ask(services, node, service, json!({ "type": "read", "key": 1 }));
        assert!(answer["type"] == "read_ok" || answer["code"] == 20, "{answer}");
        answer["value"].as_u64().unwrap_or_default()
    }

    #[test]
    fn the_linearizable_store_reads_writes_and_swaps() {
        let services = Services::new(0);
        let ask = |body: Value| ask(&services, "n1", "lin-kv", body);
        let get = json!({ "type": "read", "key": 1, "msg_id": 7 });
        let cas = |create: bool| json!({ "type": "cas", "key": 1, "from": 1, "to": 2, "create_if_not_exists": create });
        assert_eq!(ask(get.clone())["code"], 20);
        assert_eq!(ask(cas(false))["code"], 20);
        assert_eq!(ask(cas(true))["type"], "cas_ok");
        assert_eq!(ask(get)["value"], 2);
        assert_eq!(ask(cas(true))["code"], 22);
        assert_eq!(ask(json!({ "type": "add", "key": 1 }))["code"], 10);
        assert_eq!(read(&services, "n1", "seq-kv"), 0, "another service, another store");
    }

    #[test]
    fn timestamps_count_from_zero_and_nobody_else_is_a_service() {
        let services = Services::new(0);
        for number in 0..3 {
            assert_eq!(ask(&services, "n1", "lin-tso", json!({ "type": "ts" }))["ts"], number);
        }
        let asked = Message { src: "n1".to_owned(), dest: "nobody".to_owned(), body: json!({}) };
        assert_eq!(services.answer(&asked), None);
        assert!(is_service("lin-tso") && !is_service("nobody"));
    }

    #[test]
    fn the_sequential_store_shows_the_past_and_never_goes_back() {
        let services = Services::new(1);
        let (mut stale, mut before) = (0, 0);
        for value in 1..=500 {
            write(&services, "n1", "seq-kv", value);
            assert_eq!(read(&services, "n1", "seq-kv"), value, "its own writes are never too old");
            let seen = read(&services, "n2", "seq-kv");
            assert!(seen >= before && seen + REMEMBERED >= value, "{before}, {seen}, {value}");
            stale += u64::from(seen < value);
            before = seen;
        }
        assert!(stale > 100, "{stale} of 500 reads were stale");
        let held = services.0.lock().expect("nobody has panicked").sequential.values["1"].len();
        assert!(held as u64 <= REMEMBERED + 1, "{held} values are kept");
        // what changes something is done to the last state
        let cas = json!({ "type": "cas", "key": 1, "from": 500, "to": 501 });
        let swapped = (0..100).any(|_| ask(&services, "n3", "seq-kv", cas.clone())["type"] == "cas_ok");
        assert!(swapped && read(&services, "n3", "seq-kv") == 501);
    }

    #[test]
    fn the_last_write_wins_in_the_end_and_not_at_once() {
        let services = Services::new(2);
        write(&services, "n1", "lww-kv", 1);
        let seen: Vec<u64> = (0..200).map(|_| read(&services, "n1", "lww-kv")).collect();
        assert!(seen.contains(&0), "every replica had the write at once");
        assert!(seen[150..].iter().all(|value| *value == 1), "replicas have not learnt of it: {seen:?}");
        (2..20).for_each(|value| write(&services, "n1", "lww-kv", value));
        let seen: Vec<u64> = (0..200).map(|_| read(&services, "n2", "lww-kv")).collect();
        assert!(seen[150..].iter().all(|value| *value == seen[199]), "replicas do not agree: {seen:?}");
    }
}
