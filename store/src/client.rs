//! Clients: of one node ([`Client`]), of nodes whose addresses are known ([`ClusterClient`]), and of a cluster that is joined by
//! the address of any live node ([`Cluster`]). One operation at a time.
//!
//! A [`Client`] has one connection and sends nothing twice. The others ask another node only where the operation certainly
//! did not happen at the one before, so with each it happens at most once. With sessions ([`Cluster::exactly_once`],
//! [`ClusterClient::exactly_once`]) they also ask again for what may have happened, through deaths of nodes and changes of
//! leaders, until they are told what came of it or the time is up: a write still happens once, and a swap is told what it came
//! to the first time. A session costs an entry of the log in each partition that is written to.
//!
//! The caller decides what to do after an error, and [`ClientError::is_definite`] says what it may conclude: what may have
//! happened is never definite. What a client meets on its way it tells as [`ClientEvent`]s.
//!
//! ```no_run
//! use std::time::Duration;
//!
//! use store::{
//!     api::{Key, Operation, Outcome},
//!     client::Cluster,
//! };
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let limit = Duration::from_secs(5);
//! let nodes = ["127.0.0.1:7001".to_owned(), "127.0.0.1:7002".to_owned()];
//! let cluster = Cluster::join("store", &nodes, limit, |event| eprintln!("{event}")).await?;
//! let mut cluster = cluster.exactly_once();
//! let write = Operation::Put { key: Key::Integer(7), value: "seven".into() };
//! match cluster.call(&write, limit, |event| eprintln!("{event}")).await.result {
//!     Ok(answer) => println!("written as entry {} of its log", answer.version),
//!     Err(error) if error.is_definite() => println!("not written: {error}"),
//!     Err(error) => println!("written or not, nobody knows: {error}"),
//! }
//! let read = Operation::Get { key: Key::Integer(7) };
//! let answer = cluster.call(&read, limit, |event| eprintln!("{event}")).await.result?;
//! if let Outcome::Value(value) = answer.outcome {
//!     println!("{}", value.as_deref().unwrap_or("not found"));
//! }
//! # Ok(())
//! # }
//! ```

mod cluster;
mod event;

pub use cluster::Cluster;
pub use event::{ClientEvent, Place};

use std::{collections::BTreeMap, io, sync::Arc, time::Duration};

use futures::{SinkExt, StreamExt};
use tokio::{
    net::TcpStream,
    time::{self, Instant},
};
use tokio_util::codec::Framed;

use crate::{
    api::{
        Answer, Ballot, ClientReply, ClientRequest, NodeId, NodeStatus, Operation, PartitionId, ReplyBody,
        RequestBody, StoreError, TransferError,
    },
    config::RoutingMode,
    connections::Connections,
    directory::Directory,
    errand::{Errand, Next, Sessions},
    node::wire::{self, Handshake, Role, Verdict},
    routes::{Entry, Obstacle, Routes, Trip},
};

/// How long a node may take to accept a connection and answer the handshake.
const CONNECT: Duration = Duration::from_secs(5);

/// Pause of a client that finds no leader: an election may be in progress.
pub const PAUSE: Duration = Duration::from_millis(20);

/// A connection to one node.
#[derive(Debug)]
pub struct Client {
    connection: Framed<TcpStream, wire::Frames>,
    next_id: u64,
}

/// Why an operation was not answered.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The connection was not made: nothing was sent.
    #[error("cannot connect: {0}")]
    Connect(io::Error),
    /// The node refused the connection: nothing was sent.
    #[error("refused: {0}")]
    Refused(String),
    /// The node answered with an error.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The leader was not changed, or nobody knows whether it was.
    #[error(transparent)]
    Transfer(#[from] TransferError),
    /// No node that could be asked leads the key's partition, for as long as the caller waits. Nowhere has it happened.
    #[error("gave up: {trip}; at last {last}")]
    GaveUp {
        /// What the operation met.
        trip: Trip,
        /// What the last node said.
        last: Box<ClientError>,
    },
    /// An attempt of a client with sessions may have happened, and none of the later ones was told what came of it.
    #[error("the outcome is unknown: {doubt}; {trip}")]
    Unknown {
        /// What the operation met.
        trip: Trip,
        /// Why it may have happened.
        doubt: String,
    },
    /// The request was sent, and no answer came for as long as the caller waits.
    #[error("no answer in time")]
    NoAnswer,
    /// The connection broke, or said something that is no answer, after the request was handed to it.
    #[error("connection lost: {0}")]
    Lost(String),
}

impl ClientError {
    /// True when the operation certainly did not happen and never will.
    pub fn is_definite(&self) -> bool {
        match self {
            Self::Connect(_) | Self::Refused(_) | Self::GaveUp { .. } => true,
            Self::Store(error) => error.is_definite(),
            Self::Transfer(error) => error.leader_is_unchanged(),
            Self::Unknown { .. } | Self::NoAnswer | Self::Lost(_) => false,
        }
    }

    /// What a client does after it.
    fn next(&self, errand: &mut Errand, sessions: &mut Sessions) -> Next {
        match self {
            Self::Connect(_) | Self::Refused(_) => Next::GoOn(Obstacle::Gone),
            Self::Store(error) => errand.refused(error, sessions),
            Self::NoAnswer | Self::Lost(_) => errand.unanswered(&self.to_string()),
            Self::Transfer(_) | Self::GaveUp { .. } | Self::Unknown { .. } => Next::End,
        }
    }
}

impl Client {
    /// Connects to a node of the named cluster, within five seconds.
    pub async fn connect(address: &str, cluster: &str) -> Result<Self, ClientError> {
        Self::connect_within(CONNECT, address, cluster).await
    }

    /// Connects to a node of the named cluster, if it answers so soon.
    pub async fn connect_within(limit: Duration, address: &str, cluster: &str) -> Result<Self, ClientError> {
        time::timeout(limit, Self::shake_hands(address, cluster)).await.unwrap_or_else(|_| {
            let reason = format!("{address} did not answer within {} ms", limit.as_millis());
            Err(ClientError::Connect(io::Error::new(io::ErrorKind::TimedOut, reason)))
        })
    }

    async fn shake_hands(address: &str, cluster: &str) -> Result<Self, ClientError> {
        let stream = TcpStream::connect(address).await.map_err(ClientError::Connect)?;
        stream.set_nodelay(true).map_err(ClientError::Connect)?;
        let mut connection = Framed::new(stream, wire::frames());
        let hello = Handshake { version: wire::VERSION, cluster: cluster.to_owned(), role: Role::Client };
        connection.send(wire::encode(&hello)).await.map_err(ClientError::Connect)?;
        match connection.next().await {
            Some(Ok(frame)) => match wire::decode::<Verdict>(&frame) {
                Ok(Verdict::Welcome { .. }) => Ok(Self { connection, next_id: 1 }),
                Ok(Verdict::Refused { reason }) => Err(ClientError::Refused(reason)),
                Err(error) => Err(ClientError::Refused(format!("not a store node: {error}"))),
            },
            Some(Err(error)) => Err(ClientError::Connect(error)),
            None => Err(ClientError::Refused("the node closed the connection".to_owned())),
        }
    }

    /// The connection, and the number of the next request.
    pub(crate) fn into_parts(self) -> (Framed<TcpStream, wire::Frames>, u64) {
        (self.connection, self.next_id)
    }

    /// Carries out one operation.
    pub async fn call(&mut self, operation: Operation) -> Result<Answer, ClientError> {
        operation.fits()?;
        match self.request(RequestBody::Operation { operation, seen: 0, session: None }).await? {
            ReplyBody::Operation(response) => Ok(response?),
            other => Err(mismatch(&other)),
        }
    }

    /// Asks the node how it sees itself.
    pub async fn status(&mut self) -> Result<NodeStatus, ClientError> {
        match self.request(RequestBody::Status).await? {
            ReplyBody::Status(status) => Ok(status),
            other => Err(mismatch(&other)),
        }
    }

    /// Asks the node, which must lead the partition, to have another one lead it; the new leader's ballot.
    pub async fn transfer_leader(
        &mut self,
        partition: PartitionId,
        to: NodeId,
    ) -> Result<Ballot, ClientError> {
        match self.request(RequestBody::TransferLeader { partition, to }).await? {
            ReplyBody::Transferred(result) => Ok(result?),
            other => Err(mismatch(&other)),
        }
    }

    /// Asks the node what the cluster is like, and whom to ask first.
    pub async fn directory(&mut self) -> Result<Directory, ClientError> {
        match self.request(RequestBody::Directory).await? {
            ReplyBody::Directory(directory) => Ok(directory),
            other => Err(mismatch(&other)),
        }
    }

    async fn request(&mut self, body: RequestBody) -> Result<ReplyBody, ClientError> {
        let id = self.next_id;
        self.next_id += 1;
        let request = wire::encode(&ClientRequest { id, body });
        self.connection.send(request).await.map_err(|error| ClientError::Lost(error.to_string()))?;
        match self.connection.next().await {
            Some(Ok(frame)) => match wire::decode::<ClientReply>(&frame) {
                Ok(reply) if reply.id == id => Ok(reply.body),
                Ok(reply) => Err(ClientError::Lost(format!("asked {id}, was answered {}", reply.id))),
                Err(error) => Err(ClientError::Lost(format!("not a reply: {error}"))),
            },
            Some(Err(error)) => Err(ClientError::Lost(error.to_string())),
            None => Err(ClientError::Lost("the node closed the connection".to_owned())),
        }
    }
}

/// An answer to something else than what was asked.
pub(crate) fn mismatch(reply: &ReplyBody) -> ClientError {
    ClientError::Lost(format!("the answer is to something else: {reply:?}"))
}

/// A client of nodes whose addresses are known: it has a connection to each node that it has asked, its own or shared with others, and follows
/// redirects. It is one session: where replicas answer reads themselves, none of its reads is older than what it was answered
/// before.
#[derive(Debug)]
pub struct ClusterClient {
    connections: Arc<Connections>,
    routes: Routes,
    sessions: Sessions,
}

/// How an operation ended.
#[derive(Debug)]
pub struct Done {
    /// The answer, or why there is none.
    pub result: Result<Answer, ClientError>,
    /// The node that was asked last.
    pub node: NodeId,
    /// What the operation met on its way.
    pub trip: Trip,
}

impl ClusterClient {
    /// A client with connections of its own, none of them made yet.
    pub fn new(cluster: &str, addresses: BTreeMap<NodeId, String>, routing: RoutingMode) -> Self {
        Self::sharing(Arc::new(Connections::new(cluster, addresses)), routing)
    }

    /// A client that uses connections that others use too.
    pub fn sharing(connections: Arc<Connections>, routing: RoutingMode) -> Self {
        let routes = Routes::new(routing, connections.nodes());
        Self { connections, routes, sessions: Sessions::default() }
    }

    /// The same client with sessions: what may have happened it asks for again, until it is told what came of it or its time is
    /// up, or a node has too much to do ([`StoreError::Busy`]). Each write happens once all the same.
    #[must_use]
    pub fn exactly_once(self) -> Self {
        Self { sessions: Sessions::exactly_once(), ..self }
    }

    /// The node at which an operation on a key of this partition would be asked first.
    pub fn first(&self, partition: PartitionId, entry: Entry) -> NodeId {
        self.routes.begin(partition, entry).node()
    }

    /// Carries out one operation on a key of this partition within `limit`. `told` hears why another node is asked.
    pub async fn call(
        &mut self,
        (partition, entry): (PartitionId, Entry),
        operation: &Operation,
        limit: Duration,
        mut told: impl FnMut(&ClientEvent),
    ) -> Done {
        let deadline = Instant::now() + limit;
        let mut journey = self.routes.begin(partition, entry);
        if let Err(error) = operation.fits() {
            return Done { result: Err(error.into()), node: journey.node(), trip: journey.trip() };
        }
        let mut errand = Errand::new(partition, operation.clone(), &mut self.sessions);
        loop {
            let node = journey.node();
            let seen = self.routes.seen(partition);
            let error = match self.attempt(node, (&errand, seen), deadline, limit).await {
                Ok(answer) => {
                    self.routes.answered(partition, &answer);
                    match errand.answered(answer, &mut self.sessions) {
                        Some(answer) => return Done { result: Ok(answer), node, trip: journey.trip() },
                        None => continue,
                    }
                }
                Err(error) => error,
            };
            let next = error.next(&mut errand, &mut self.sessions);
            let detour = errand.detour(&next, &mut journey, &mut self.routes);
            let trip = journey.trip();
            let detour = match (next, detour) {
                (Next::Unknown(doubt), _) => {
                    return Done { result: Err(ClientError::Unknown { trip, doubt }), node, trip };
                }
                (Next::Reopen, _) => continue,
                (_, None) => return Done { result: Err(error), node, trip },
                (_, Some(detour)) => detour,
            };
            told(&ClientEvent::of(&detour, |node| self.place(node)));
            let next = Instant::now() + if detour.pause { PAUSE } else { Duration::ZERO };
            if next >= deadline {
                let gave_up = match errand.doubt() {
                    Some(doubt) => ClientError::Unknown { trip, doubt: doubt.to_owned() },
                    None => ClientError::GaveUp { trip, last: Box::new(error) },
                };
                return Done { result: Err(gave_up), node, trip };
            }
            time::sleep_until(next).await;
        }
    }

    fn place(&self, node: NodeId) -> Place {
        let address = self.connections.to(node).map_or_else(|| "?".to_owned(), |to| to.address().to_owned());
        Place { node: Some(node), address }
    }

    /// Until the request is sent, every failure is definite.
    async fn attempt(
        &self,
        node: NodeId,
        (errand, seen): (&Errand, u64),
        deadline: Instant,
        limit: Duration,
    ) -> Result<Answer, ClientError> {
        let Some(connection) = self.connections.to(node) else {
            return Err(ClientError::Refused(format!("node {node} has no address")));
        };
        let left = deadline.saturating_duration_since(Instant::now());
        let (patience, (operation, session)) = (errand.patience(limit), errand.request());
        let pipeline = connection.reach(self.routes.patience(limit).min(patience).min(left)).await?;
        let deadline = deadline.min(Instant::now() + patience);
        let answered = time::timeout_at(deadline, pipeline.call_in(session, operation, seen)).await;
        answered.unwrap_or_else(|_| {
            // whatever is wrong with it must not keep the next operation waiting, too
            connection.give_up(&pipeline);
            Err(ClientError::NoAnswer)
        })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    };

    use super::*;
    use crate::api::{Ballot, Key, Outcome, Response};

    #[test]
    fn a_node_that_accepts_and_never_answers_is_given_up_and_nothing_was_sent() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async {
            let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
            let address = silent.local_addr().expect("an address").to_string();
            let error = Client::connect_within(Duration::from_millis(50), &address, "any").await;
            let error = error.expect_err("nobody answers");
            assert!(error.is_definite());
            let expected = format!("cannot connect: {address} did not answer within 50 ms");
            assert_eq!(error.to_string(), expected);
        });
    }

    /// A node that answers every operation with `response`, or, without one, closes the connection instead.
    async fn node(response: Option<Response>) -> (String, Arc<AtomicUsize>) {
        node_that_says(vec![response]).await
    }

    /// A node that answers one operation after the other like this, and all further ones like the last.
    async fn node_that_says(responses: Vec<Option<Response>>) -> (String, Arc<AtomicUsize>) {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address").to_string();
        let asked = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&asked);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let mut frames = Framed::new(stream, wire::frames());
                frames.next().await.expect("a handshake").expect("a frame");
                frames.send(wire::encode(&Verdict::Welcome { node: 1 })).await.expect("sent");
                while let Some(Ok(frame)) = frames.next().await {
                    let number = count.fetch_add(1, Ordering::Relaxed).min(responses.len() - 1);
                    let ClientRequest { id, .. } = wire::decode(&frame).expect("a request");
                    let Some(response) = responses[number].clone() else { break };
                    let body = ReplyBody::Operation(response);
                    frames.send(wire::encode(&ClientReply { id, body })).await.expect("sent");
                }
            }
        });
        (address, asked)
    }

    fn led_by(node: NodeId) -> Ballot {
        Ballot { config: 0, number: 1, priority: 0, node }
    }

    fn redirect(leader: Option<NodeId>) -> Response {
        Err(StoreError::NotLeader { partition: 1, leader: leader.map(led_by) })
    }

    fn written(node: NodeId) -> Answer {
        let (outcome, ballot) = (Outcome::Written, led_by(node));
        let (version, index, fast, local) = (1, 1, false, false);
        Answer { outcome, version, index, leader: node, ballot, fast, local }
    }

    /// What comes of a write that is asked of node 1, what the client said meanwhile, and how often each node was asked.
    async fn write(nodes: Vec<Option<Response>>) -> (Done, Vec<String>, Vec<usize>) {
        let (mut addresses, mut counts) = (BTreeMap::new(), Vec::new());
        for (response, number) in nodes.into_iter().zip(1..) {
            let (address, asked) = node(response).await;
            addresses.insert(number, address);
            counts.push(asked);
        }
        let mut client = ClusterClient::new("any", addresses, RoutingMode::Redirect);
        let operation = Operation::Put { key: Key::Integer(1), value: "a".into() };
        let mut told = Vec::new();
        let limit = Duration::from_millis(300);
        let hear = |event: &ClientEvent| told.push(event.to_string());
        let done = client.call((1, Entry::At(1)), &operation, limit, hear).await;
        (done, told, counts.iter().map(|asked| asked.load(Ordering::Relaxed)).collect())
    }

    fn in_a_runtime(test: impl Future<Output = ()>) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.expect("a runtime").block_on(test);
    }

    #[test]
    fn a_redirect_is_followed_to_the_answer() {
        in_a_runtime(async {
            let (done, told, asked) =
                write(vec![Some(redirect(Some(3))), Some(redirect(Some(3))), Some(Ok(written(3)))]).await;
            assert_eq!(done.result.expect("an answer").leader, 3);
            assert_eq!((done.node, done.trip), (3, Trip { redirects: 1, ..Trip::default() }));
            assert_eq!((told.len(), asked), (1, vec![1, 0, 1]));
            assert!(told[0].starts_with("redirected to the leader, node 3 at 127.0.0.1:"), "{told:?}");
        });
    }

    #[test]
    fn clients_that_share_connections_follow_redirects_over_them() {
        in_a_runtime(async {
            // each node serves one connection only, as long as it stands
            let ((first, _), (third, _)) =
                (node(Some(redirect(Some(3)))).await, node(Some(Ok(written(3)))).await);
            let addresses = BTreeMap::from([(1, first), (3, third)]);
            let connections = Arc::new(Connections::new("any", addresses));
            let write = || async {
                let mut client = ClusterClient::sharing(Arc::clone(&connections), RoutingMode::Redirect);
                let operation = Operation::Put { key: Key::Integer(1), value: "a".into() };
                client.call((1, Entry::At(1)), &operation, Duration::from_mins(1), |_| ()).await
            };
            let (one, other) = tokio::join!(write(), write());
            for done in [one, other] {
                assert_eq!(done.result.expect("an answer").leader, 3);
                assert_eq!((done.node, done.trip.redirects), (3, 1));
            }
        });
    }

    #[test]
    fn an_operation_that_may_have_happened_is_asked_nowhere_else() {
        in_a_runtime(async {
            let (done, told, asked) = write(vec![Some(redirect(Some(2))), None, Some(Ok(written(3)))]).await;
            let error = done.result.expect_err("nobody knows");
            assert!(matches!(error, ClientError::Lost(_)) && !error.is_definite(), "{error}");
            assert_eq!((told.len(), asked), (1, vec![1, 1, 0]), "node 2 may have carried it out");
        });
    }

    /// What comes of a write of a client with sessions that begins at node 1, and how often each node was asked.
    async fn write_once(nodes: Vec<Vec<Option<Response>>>) -> (Done, Vec<usize>) {
        let (mut addresses, mut counts) = (BTreeMap::new(), Vec::new());
        for (responses, number) in nodes.into_iter().zip(1..) {
            let (address, asked) = node_that_says(responses).await;
            addresses.insert(number, address);
            counts.push(asked);
        }
        let mut client = ClusterClient::new("any", addresses, RoutingMode::Redirect).exactly_once();
        let operation = Operation::Put { key: Key::Integer(1), value: "a".into() };
        let done = client
            .call((1, Entry::At(1)), &operation, Duration::from_millis(300), |_: &ClientEvent| ())
            .await;
        (done, counts.iter().map(|asked| asked.load(Ordering::Relaxed)).collect())
    }

    #[test]
    fn with_a_session_what_may_have_happened_is_asked_for_again() {
        in_a_runtime(async {
            // node 1 opens the session, and is gone with the write
            let (done, asked) =
                write_once(vec![vec![Some(Ok(written(1))), None], vec![Some(Ok(written(2)))]]).await;
            assert_eq!(done.result.expect("an answer").leader, 2);
            assert_eq!((done.node, done.trip.unknown, asked), (2, 1, vec![2, 1]));
        });
    }

    #[test]
    fn what_may_have_happened_is_unknown_in_the_end_whatever_was_said_after_it() {
        in_a_runtime(async {
            let opens = Some(Ok(written(1)));
            let (done, asked) = write_once(vec![vec![opens.clone(), None], vec![Some(redirect(None))]]).await;
            let error = done.result.expect_err("nobody knows");
            assert!(matches!(error, ClientError::Unknown { .. }) && !error.is_definite(), "{error}");
            assert!(asked[1] > 0, "refused, which is definite of this time only");
            let expired = Some(Err(StoreError::SessionExpired { session: 1 }));
            let (done, _) = write_once(vec![vec![opens, None], vec![expired]]).await;
            let error = done.result.expect_err("nobody knows");
            assert!(error.to_string().contains("session 1 has expired") && !error.is_definite(), "{error}");
        });
    }

    #[test]
    fn a_session_that_could_not_be_opened_leaves_nothing_in_doubt() {
        in_a_runtime(async {
            let (done, asked) = write_once(vec![vec![None], vec![Some(redirect(None))]]).await;
            let error = done.result.expect_err("nobody leads");
            assert!(matches!(error, ClientError::GaveUp { .. }) && error.is_definite(), "{error}");
            assert!(asked.iter().all(|times| *times > 0), "{asked:?}");
        });
    }

    #[test]
    fn a_client_that_finds_no_leader_gives_up_in_time_and_nothing_has_happened() {
        in_a_runtime(async {
            let (done, told, asked) = write(vec![Some(redirect(None)), Some(redirect(Some(1)))]).await;
            let error = done.result.expect_err("nobody leads");
            // its time may be up while it asks
            let in_doubt = matches!(error, ClientError::NoAnswer);
            assert!(in_doubt || matches!(error, ClientError::GaveUp { .. }), "{error}");
            assert_ne!(error.is_definite(), in_doubt, "{error}");
            assert!(told[0].starts_with("election in progress, retrying at node 2 at "), "{told:?}");
            assert!(asked.iter().sum::<usize>() <= 300 / 20 + 3, "it pauses: {asked:?}");
        });
    }
}
