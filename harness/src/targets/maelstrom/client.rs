//! A client of `lin-kv`.

use std::{collections::BTreeMap, net::SocketAddr, sync::Arc, time::Duration};

use checker::history::{Function, Key, OpResult, Trip};
use futures::{SinkExt, StreamExt, future::BoxFuture};
use serde_json::{Value, json};
use store::api::NodeId;
use tokio::time::{Instant, timeout_at};

use super::{
    Values,
    bridge::{Line, dial},
    message::{Message, Refusal},
    name,
};
use crate::{
    history_writer::{Ended, Finished},
    targets::{Client, Place},
};

/// A client with a connection to each node that it has asked.
pub(super) struct MaelstromClient {
    name: String,
    addresses: Arc<BTreeMap<NodeId, SocketAddr>>,
    values: Arc<Values>,
    lines: BTreeMap<NodeId, Line>,
    /// Messages sent.
    sent: u64,
}

impl MaelstromClient {
    pub(super) fn new(
        number: u64,
        addresses: Arc<BTreeMap<NodeId, SocketAddr>>,
        values: Arc<Values>,
    ) -> Self {
        Self { name: format!("c{number}"), addresses, values, lines: BTreeMap::new(), sent: 0 }
    }

    async fn ask(&mut self, node: NodeId, function: &Function, deadline: Instant) -> Ended {
        let mut line = match self.line(node, deadline).await {
            Ok(line) => line,
            Err(words) => return Ended::Fail(words),
        };
        self.sent += 1;
        let mut body = self.body(function);
        body["msg_id"] = json!(self.sent);
        let asked = Message { src: self.name.clone(), dest: name(node), body };
        if let Err(error) = line.send(asked.line()).await {
            return Ended::Info(format!("the connection broke: {error}"));
        }
        let answer = loop {
            match timeout_at(deadline, line.next()).await {
                Err(_) => break None,
                Ok(None) => return Ended::Info("the connection ended before an answer came".to_owned()),
                Ok(Some(Err(error))) => return Ended::Info(format!("the connection broke: {error}")),
                Ok(Some(Ok(frame))) => match serde_json::from_slice::<Message>(&frame) {
                    Ok(answer) if answer.in_reply_to() == Some(self.sent) => break Some(answer),
                    // an answer that came too late for an earlier question
                    _ => {}
                },
            }
        };
        self.lines.insert(node, line);
        match answer {
            None => Ended::Info("no answer in time".to_owned()),
            Some(answer) => self.meaning(node, function, &answer),
        }
    }

    /// The connection to `node`; an error says why nothing was asked.
    async fn line(&mut self, node: NodeId, deadline: Instant) -> Result<Line, String> {
        if let Some(line) = self.lines.remove(&node) {
            return Ok(line);
        }
        let address = self.addresses.get(&node).ok_or_else(|| format!("node {node} has no address"))?;
        let dialed = async {
            let mut line = dial(&self.name, *address).await.map_err(|error| error.to_string())?;
            match line.next().await {
                Some(Ok(_)) => Ok(line),
                _ => Err("the connection ended at once".to_owned()),
            }
        };
        let dialed =
            timeout_at(deadline, dialed).await.unwrap_or_else(|_| Err("no answer in time".to_owned()));
        dialed.map_err(|words| format!("node {node} could not be reached: {words}"))
    }

    fn body(&self, function: &Function) -> Value {
        let key = match function.key() {
            Key::Integer(number) => json!(number),
            Key::String(text) => json!(text),
        };
        match function {
            Function::Get { .. } => json!({ "type": "read", "key": key }),
            Function::Put { value, .. } => {
                json!({ "type": "write", "key": key, "value": self.values.number(value) })
            }
            Function::Cas { expected, new, .. } => {
                let from = expected.as_ref().map_or(Value::Null, |from| self.values.number(from));
                json!({ "type": "cas", "key": key, "from": from, "to": self.values.number(new) })
            }
            Function::Delete { .. } => json!({ "type": "delete", "key": key }),
        }
    }

    fn meaning(&self, node: NodeId, function: &Function, answer: &Message) -> Ended {
        let ok = |returned: Option<String>, swapped: Option<bool>| {
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
        };
        let body = &answer.body;
        match (function, answer.kind()) {
            (Function::Get { .. }, "read_ok") => match body.get("value") {
                None | Some(Value::Null) => ok(None, None),
                Some(value) => ok(Some(self.values.text(value)), None),
            },
            (Function::Put { .. }, "write_ok") => ok(None, None),
            (Function::Cas { .. }, "cas_ok") => ok(None, Some(true)),
            (_, "error") => {
                let code = body["code"].as_u64();
                let text = body["text"].as_str().unwrap_or_default();
                match (Refusal::of(code), function) {
                    (Refusal::NoSuchKey, Function::Get { .. }) => ok(None, None),
                    (Refusal::NoSuchKey, Function::Cas { .. }) => ok(None, Some(false)),
                    (Refusal::NoSuchKey, _) => Ended::Fail(format!("key-does-not-exist: {text}")),
                    (Refusal::Definite(error), _) => Ended::Fail(format!("{error}: {text}")),
                    (Refusal::Indefinite(error), _) => Ended::Info(format!("{error}: {text}")),
                }
            }
            _ => Ended::Info(format!("an answer that means nothing here: {body}")),
        }
    }
}

impl Client for MaelstromClient {
    fn first(&self, place: Place) -> NodeId {
        place.node()
    }

    fn call<'a>(
        &'a mut self,
        place: Place,
        function: &'a Function,
        limit: Duration,
    ) -> BoxFuture<'a, Finished> {
        Box::pin(async move {
            let node = place.node();
            let ended = self.ask(node, function, Instant::now() + limit).await;
            Finished { ended, node, trip: Trip::default() }
        })
    }

    /// `lin-kv` cannot swap for a value what is not there: that is written.
    fn instead(&self, function: Function) -> Function {
        match function {
            Function::Cas { key, expected: None, new } => Function::Put { key, value: new },
            function => function,
        }
    }
}
