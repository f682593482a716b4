//! A client of `lin-kv`.

use std::{collections::BTreeMap, io, net::SocketAddr, sync::Arc, time::Duration};

use checker::history::{Function, Key};
use futures::{
    FutureExt, SinkExt, StreamExt,
    future::{BoxFuture, select_all},
};
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
    targets::{Client, Place, answered, only_asking},
};

/// A client with a connection to each node that it has asked.
pub(super) struct MaelstromClient {
    name: String,
    addresses: Arc<BTreeMap<NodeId, SocketAddr>>,
    values: Arc<Values>,
    lines: BTreeMap<NodeId, Line>,
    /// Messages sent.
    sent: u64,
    /// Connections dialed.
    dialed: u64,
}

impl MaelstromClient {
    pub(super) fn new(
        number: u64,
        addresses: Arc<BTreeMap<NodeId, SocketAddr>>,
        values: Arc<Values>,
    ) -> Self {
        Self { name: format!("c{number}"), addresses, values, lines: BTreeMap::new(), sent: 0, dialed: 0 }
    }

    async fn ask(&mut self, node: NodeId, function: &Function, deadline: Instant) -> Ended {
        let mut line = match self.line(node, deadline).await {
            Ok(line) => line,
            Err(words) => return Ended::Fail(words),
        };
        self.reach_others(node, deadline).await;
        self.sent += 1;
        let mut body = self.body(function);
        body["msg_id"] = json!(self.sent);
        let asked = Message { src: self.name.clone(), dest: name(node), body };
        // whatever part of it was sent when time is up, nothing else is asked on this connection then
        match timeout_at(deadline, line.send(asked.line())).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => return Ended::Info(format!("the connection broke: {error}")),
            Err(_) => return Ended::Info("it could not be sent in time".to_owned()),
        }
        self.lines.insert(node, line);
        match timeout_at(deadline, self.answer(node)).await {
            Err(_) => Ended::Info("no answer in time".to_owned()),
            Ok(Err(words)) => Ended::Info(words),
            Ok(Ok((from, answer))) => self.meaning(from, function, &answer),
        }
    }

    /// The answer to what was sent last, from whichever node: the one that was asked may have handed it on. An error says that
    /// the connection to that one is gone.
    async fn answer(&mut self, node: NodeId) -> Result<(NodeId, Message), String> {
        loop {
            let heard =
                self.lines.iter_mut().map(|(from, line)| Box::pin(line.next().map(|frame| (*from, frame))));
            let ((from, frame), ..) = select_all(heard).await;
            let Some(Ok(frame)) = frame else {
                self.lines.remove(&from);
                if from == node {
                    return Err("the connection ended before an answer came".to_owned());
                }
                continue;
            };
            // others are answers that came too late for earlier questions, or say that a connection is there
            if let Ok(answer) = serde_json::from_slice::<Message>(&frame)
                && answer.in_reply_to() == Some(self.sent)
            {
                return Ok((from, answer));
            }
        }
    }

    /// The connection to `node`; an error says why nothing was asked.
    async fn line(&mut self, node: NodeId, deadline: Instant) -> Result<Line, String> {
        if let Some(line) = self.lines.remove(&node) {
            return Ok(line);
        }
        let dialed = async {
            let mut line = self.dial(node).await.map_err(|error| error.to_string())?;
            match line.next().await {
                Some(Ok(_)) => Ok(line),
                _ => Err("the connection ended at once".to_owned()),
            }
        };
        let dialed =
            timeout_at(deadline, dialed).await.unwrap_or_else(|_| Err("no answer in time".to_owned()));
        dialed.map_err(|words| format!("node {node} could not be reached: {words}"))
    }

    /// Dials whom it has no connection with, so that they can answer what is handed on to them.
    async fn reach_others(&mut self, asked: NodeId, deadline: Instant) {
        let lacking = |node: &NodeId| *node != asked && !self.lines.contains_key(node);
        let others: Vec<NodeId> = self.addresses.keys().copied().filter(lacking).collect();
        for other in others {
            if let Ok(Ok(line)) = timeout_at(deadline, self.dial(other)).await {
                self.lines.insert(other, line);
            }
        }
    }

    async fn dial(&mut self, node: NodeId) -> io::Result<Line> {
        self.dialed += 1;
        dial(&self.name, self.dialed, self.addresses[&node]).await
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
        let ok = |returned, swapped| answered(node, returned, swapped);
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
    fn call<'a>(
        &'a mut self,
        place: Place,
        function: &'a Function,
        limit: Duration,
    ) -> BoxFuture<'a, Finished> {
        only_asking(place, |node| self.ask(node, function, Instant::now() + limit))
    }

    /// `lin-kv` cannot swap for a value what is not there: that is written.
    fn instead(&self, function: Function) -> Function {
        match function {
            Function::Cas { key, expected: None, new } => Function::Put { key, value: new },
            function => function,
        }
    }
}
