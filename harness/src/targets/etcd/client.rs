//! A client of etcd's JSON gateway (`/v3/kv/…`).

use std::{collections::BTreeMap, net::SocketAddr, sync::Arc, time::Duration};

use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;
use checker::history::{Function, OpResult};
use futures::future::BoxFuture;
use http_body_util::{BodyExt, Full, Limited};
use hyper::{Request, client::conn::http1::SendRequest};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use store::api::NodeId;
use tokio::time::{Instant, timeout, timeout_at};

use super::connect;
use crate::{
    history_writer::{Ended, Finished},
    targets::{Client, Place, only_asking},
    workload::EtcdReads,
};

/// How long a member may take to say that it is healthy.
const PATIENCE: Duration = Duration::from_millis(500);

/// The longest answer.
const LONGEST: usize = 4 << 20;

/// A connection of HTTP.
type Http = SendRequest<Full<Bytes>>;

/// A client with a connection to each member that it has asked.
pub(super) struct EtcdClient {
    addresses: Arc<BTreeMap<NodeId, SocketAddr>>,
    reads: EtcdReads,
    connections: BTreeMap<NodeId, Http>,
}

/// Why there is no answer.
enum Lost {
    /// Nothing was asked.
    Unasked(String),
    /// It was asked, and may have happened.
    Unknown(String),
}

impl EtcdClient {
    pub(super) fn new(addresses: Arc<BTreeMap<NodeId, SocketAddr>>, reads: EtcdReads) -> Self {
        Self { addresses, reads, connections: BTreeMap::new() }
    }

    async fn ask(&mut self, node: NodeId, function: &Function, deadline: Instant) -> Ended {
        let (path, body) = self.question(function);
        match self.post(node, path, &body, deadline).await {
            Ok((200, answer)) => meaning(node, function, &answer),
            // invalid as it was asked, so nobody did it (gRPC's code 3)
            Ok((400, answer)) if answer["code"] == 3 => Ended::Fail(words(&answer)),
            Ok((_, answer)) => Ended::Info(words(&answer)),
            Err(Lost::Unasked(words)) => Ended::Fail(words),
            Err(Lost::Unknown(words)) => Ended::Info(words),
        }
    }

    fn question(&self, function: &Function) -> (&'static str, Value) {
        let key = encoded(&function.key().to_string());
        match function {
            Function::Get { .. } => {
                let serializable = self.reads == EtcdReads::Serializable;
                ("/v3/kv/range", json!({ "key": key, "serializable": serializable }))
            }
            Function::Put { value, .. } => ("/v3/kv/put", json!({ "key": key, "value": encoded(value) })),
            Function::Delete { .. } => ("/v3/kv/deleterange", json!({ "key": key })),
            Function::Cas { expected, new, .. } => {
                let compare = match expected {
                    Some(expected) => {
                        json!({ "key": key, "target": "VALUE", "result": "EQUAL", "value": encoded(expected) })
                    }
                    None => json!({ "key": key, "target": "VERSION", "result": "EQUAL", "version": "0" }),
                };
                let put = json!({ "requestPut": { "key": key, "value": encoded(new) } });
                let read = json!({ "requestRange": { "key": key } });
                ("/v3/kv/txn", json!({ "compare": [compare], "success": [put], "failure": [read] }))
            }
        }
    }

    /// Has a member do something else than what clients ask for; its answer, or why it has not done it, or not said so.
    pub(super) async fn tell(
        &mut self,
        node: NodeId,
        path: &'static str,
        body: &Value,
        limit: Duration,
    ) -> Result<Value, String> {
        match self.post(node, path, body, Instant::now() + limit).await {
            Ok((200, answer)) => Ok(answer),
            Ok((_, answer)) => Err(words(&answer)),
            Err(Lost::Unasked(words) | Lost::Unknown(words)) => Err(words),
        }
    }

    /// Asks a member, on the connection that there is or on a new one, which counts only when the member has answered on it:
    /// whoever dials a dead one has reached the proxy alone.
    async fn post(
        &mut self,
        node: NodeId,
        path: &'static str,
        body: &Value,
        deadline: Instant,
    ) -> Result<(u16, Value), Lost> {
        let mut http = match self.connections.remove(&node).filter(|http| !http.is_closed()) {
            Some(http) => http,
            None => self.connection(node, deadline).await?,
        };
        let request = Request::post(path)
            .header("host", "etcd")
            .header("content-type", "application/json")
            .body(Full::new(Bytes::from(body.to_string())));
        let request = request.map_err(|error| Lost::Unasked(error.to_string()))?;
        let answered = timeout_at(deadline, answer(&mut http, request)).await;
        let answered = answered.map_err(|_| Lost::Unknown("no answer in time".to_owned()))?;
        let answered = answered.map_err(|words| Lost::Unknown(format!("the connection broke: {words}")))?;
        self.connections.insert(node, http);
        Ok(answered)
    }

    async fn connection(&self, node: NodeId, deadline: Instant) -> Result<Http, Lost> {
        let unasked = |words: String| Lost::Unasked(format!("node {node} could not be reached: {words}"));
        let address = self.addresses.get(&node).ok_or_else(|| unasked("it has no address".to_owned()))?;
        let made = timeout_at(deadline, open(*address)).await;
        made.unwrap_or_else(|_| Err("no answer in time".to_owned())).map_err(unasked)
    }
}

impl Client for EtcdClient {
    fn call<'a>(
        &'a mut self,
        place: Place,
        function: &'a Function,
        limit: Duration,
    ) -> BoxFuture<'a, Finished> {
        only_asking(place, |node| self.ask(node, function, Instant::now() + limit))
    }
}

/// True when the member that listens there has a leader and serves clients.
pub(super) async fn is_healthy(address: SocketAddr) -> bool {
    let healthy = async {
        let mut http = open(address).await?;
        answer(&mut http, get("/health")?).await
    };
    matches!(timeout(PATIENCE, healthy).await, Ok(Ok((200, body))) if body["health"] == "true")
}

/// A connection on which a member has answered.
async fn open(address: SocketAddr) -> Result<Http, String> {
    let stream = connect(address).await.map_err(|error| error.to_string())?;
    let made = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await;
    let (mut http, connection) = made.map_err(|error| error.to_string())?;
    // its errors reach whoever asks on it
    tokio::spawn(connection);
    answer(&mut http, get("/version")?).await?;
    Ok(http)
}

fn get(path: &'static str) -> Result<Request<Full<Bytes>>, String> {
    Request::get(path).header("host", "etcd").body(Full::default()).map_err(|error| error.to_string())
}

/// Status and content of the answer; a content that is no JSON is a text.
async fn answer(http: &mut Http, request: Request<Full<Bytes>>) -> Result<(u16, Value), String> {
    http.ready().await.map_err(|error| error.to_string())?;
    let response = http.send_request(request).await.map_err(|error| error.to_string())?;
    let status = response.status().as_u16();
    let body = Limited::new(response.into_body(), LONGEST).collect().await;
    let body = body.map_err(|error| error.to_string())?.to_bytes();
    let text = || Value::String(String::from_utf8_lossy(&body).into_owned());
    Ok((status, serde_json::from_slice(&body).unwrap_or_else(|_| text())))
}

/// What an answer says of the operation. Numbers are texts there, and what is zero or false is left out.
fn meaning(node: NodeId, function: &Function, answer: &Value) -> Ended {
    let value = |range: &Value| match range["kvs"].as_array().map(Vec::as_slice) {
        None | Some([]) if range["header"].is_object() => Ok((None, 0)),
        None | Some([]) => Err(format!("an answer that means nothing here: {answer}")),
        // an empty value is left out
        Some([pair, ..]) => decoded(pair.get("value")).map(|value| (Some(value), version(pair))),
    };
    let read = match function {
        Function::Get { .. } => value(answer).map(|(value, version)| (value, None, version)),
        Function::Put { .. } | Function::Delete { .. } => Ok((None, None, 0)),
        Function::Cas { .. } if answer["succeeded"] == true => Ok((None, Some(true), 0)),
        Function::Cas { .. } => value(&answer["responses"][0]["response_range"])
            .map(|(value, version)| (value, Some(false), version)),
    };
    match read {
        Ok((returned, swapped, version)) => Ended::Ok(OpResult {
            returned,
            swapped,
            version,
            index: None,
            leader: node,
            ballot: answer["header"]["raft_term"].as_str().unwrap_or_default().to_owned(),
            fast: false,
            local: false,
        }),
        Err(words) => Ended::Info(words),
    }
}

fn version(pair: &Value) -> u64 {
    pair["version"].as_str().and_then(|text| text.parse().ok()).unwrap_or_default()
}

fn encoded(text: &str) -> String {
    STANDARD.encode(text)
}

fn decoded(value: Option<&Value>) -> Result<String, String> {
    let text = value.and_then(Value::as_str).unwrap_or_default();
    let bytes = STANDARD.decode(text).map_err(|error| format!("{text:?} is no value: {error}"))?;
    String::from_utf8(bytes).map_err(|error| format!("{text:?} is no value: {error}"))
}

/// What an error says.
fn words(answer: &Value) -> String {
    let text = answer["error"].as_str().or_else(|| answer["message"].as_str()).or_else(|| answer.as_str());
    text.map_or_else(|| answer.to_string(), str::to_owned)
}

#[cfg(test)]
mod tests {
    use checker::history::Key;

    use super::*;

    fn result(function: &Function, answer: &Value) -> Option<(Option<String>, Option<bool>, u64)> {
        match meaning(3, function, answer) {
            Ended::Ok(result) => Some((result.returned, result.swapped, result.version)),
            Ended::Fail(_) | Ended::Info(_) => None,
        }
    }

    #[test]
    fn answers_mean_what_the_gateway_leaves_out() {
        let key = Key::Integer(1);
        let get = Function::Get { key: key.clone() };
        let pair = json!({ "key": "MQ==", "value": "YQ==", "version": "4" });
        let found = json!({ "header": { "raft_term": "2" }, "kvs": [pair], "count": "1" });
        assert_eq!(result(&get, &found), Some((Some("a".to_owned()), None, 4)));
        assert_eq!(result(&get, &json!({ "header": {} })), Some((None, None, 0)), "absent");
        assert_eq!(result(&get, &json!({})), None, "no answer to this");
        let empty = json!({ "kvs": [{ "key": "MQ==", "version": "1" }] });
        assert_eq!(
            result(&get, &empty),
            Some((Some(String::new()), None, 1)),
            "an empty value is not absent"
        );
        assert_eq!(result(&get, &json!({ "kvs": [{ "value": "?" }] })), None);

        let cas = Function::Cas { key, expected: None, new: "b".to_owned() };
        assert_eq!(result(&cas, &json!({ "succeeded": true })), Some((None, Some(true), 0)));
        let refused = json!({ "responses": [{ "response_range": { "kvs": [pair] } }] });
        assert_eq!(result(&cas, &refused), Some((Some("a".to_owned()), Some(false), 4)));
        let absent = json!({ "responses": [{ "response_range": { "header": {} } }] });
        assert_eq!(result(&cas, &absent), Some((None, Some(false), 0)));
        assert_eq!(
            result(&cas, &json!({ "responses": [{ "responseRange": {} }] })),
            None,
            "of another version"
        );
    }
}
