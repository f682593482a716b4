//! The services that Maelstrom offers to its nodes: key-value stores and a source of timestamps, which answer at once and never
//! fail. `seq-kv` and `lww-kv` promise less than the linearizable store that answers for them here.

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
};

use serde_json::{Value, json};

use super::message::Message;

/// All services of a run.
#[derive(Debug, Default)]
pub struct Services(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    /// By service and key, as JSON.
    stores: BTreeMap<(String, String), Value>,
    timestamps: u64,
}

impl Services {
    /// What a service answers; `None`: nobody of this name is one.
    pub fn answer(&self, asked: &Message) -> Option<Message> {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut body = match asked.dest.as_str() {
            "lin-kv" | "seq-kv" | "lww-kv" => state.store(&asked.dest, &asked.body),
            "lin-tso" if asked.kind() == "ts" => {
                state.timestamps += 1;
                json!({ "type": "ts_ok", "ts": state.timestamps })
            }
            "lin-tso" => unsupported(asked.kind()),
            _ => return None,
        };
        body["in_reply_to"] = asked.body["msg_id"].clone();
        Some(Message { src: asked.dest.clone(), dest: asked.src.clone(), body })
    }
}

impl State {
    fn store(&mut self, service: &str, body: &Value) -> Value {
        let place = (service.to_owned(), body["key"].to_string());
        let kind = body["type"].as_str().unwrap_or_default();
        let found = self.stores.get(&place);
        let missing = || error(20, "key does not exist");
        match (kind, found) {
            ("read", Some(value)) => json!({ "type": "read_ok", "value": value }),
            ("read", None) => missing(),
            ("write", _) => {
                self.stores.insert(place, body["value"].clone());
                json!({ "type": "write_ok" })
            }
            ("cas", None) if body["create_if_not_exists"] != json!(true) => missing(),
            ("cas", Some(value)) if *value != body["from"] => {
                error(22, &format!("current value {value} is not {}", body["from"]))
            }
            ("cas", _) => {
                self.stores.insert(place, body["to"].clone());
                json!({ "type": "cas_ok" })
            }
            _ => unsupported(kind),
        }
    }
}

fn unsupported(kind: &str) -> Value {
    error(10, &format!("this service knows no {kind:?}"))
}

fn error(code: u64, text: &str) -> Value {
    json!({ "type": "error", "code": code, "text": text })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_store_reads_writes_and_swaps() {
        let services = Services::default();
        let ask = |dest: &str, body: Value| {
            let asked = Message { src: "n1".to_owned(), dest: dest.to_owned(), body };
            services.answer(&asked).map(|answer| {
                assert_eq!((answer.src.as_str(), answer.dest.as_str()), (dest, "n1"));
                assert_eq!(answer.body["in_reply_to"], asked.body["msg_id"]);
                (answer.kind().to_owned(), answer.body)
            })
        };
        let error = |answer: Option<(String, Value)>| answer.map(|(_, body)| body["code"].as_u64());
        let read = json!({ "type": "read", "key": 1, "msg_id": 7 });
        let cas = |create: bool| json!({ "type": "cas", "key": 1, "from": 1, "to": 2, "create_if_not_exists": create });
        assert_eq!(error(ask("lin-kv", read.clone())), Some(Some(20)));
        assert_eq!(error(ask("lin-kv", cas(false))), Some(Some(20)));
        assert_eq!(ask("lin-kv", cas(true)).map(|(kind, _)| kind).as_deref(), Some("cas_ok"));
        assert_eq!(ask("lin-kv", read.clone()).map(|(_, body)| body["value"].clone()), Some(json!(2)));
        assert_eq!(error(ask("lin-kv", cas(true))), Some(Some(22)));
        assert_eq!(error(ask("seq-kv", read)), Some(Some(20)), "another service, another store");
        assert_eq!(
            ask("lin-tso", json!({ "type": "ts" })).map(|(_, body)| body["ts"].clone()),
            Some(json!(1))
        );
        assert_eq!(ask("nobody", json!({ "type": "ts" })), None);
    }
}
