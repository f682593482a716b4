//! A connection to one node that many callers share: what they ask at the same moment travels together.
//!
//! Nothing is sent twice here either, so an operation happens at most once. A caller that waits no longer leaves its answer to
//! nobody; the connection ends with its last handle.

use std::{
    collections::BTreeMap,
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use bytes::Bytes;
use futures::StreamExt;
use tokio::{
    io::AsyncWriteExt,
    net::tcp::{OwnedReadHalf, OwnedWriteHalf},
    sync::{Notify, oneshot},
    task::AbortHandle,
};
use tokio_util::codec::Framed;

use crate::{
    api::{Answer, ClientReply, ClientRequest, Operation, ReplyBody, RequestBody, SessionTag},
    client::{Client, ClientError, mismatch},
    node::wire,
};

/// A handle to the connection.
#[derive(Clone, Debug)]
pub struct Pipeline {
    shared: Arc<Shared>,
    task: Arc<AbortOnDrop>,
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    /// Something is to be written.
    asked: Notify,
}

#[derive(Debug)]
struct State {
    next_id: u64,
    /// Frames that are to be written.
    out: Vec<u8>,
    /// Requests from this number on have not been given to the socket.
    unsent: u64,
    waiting: BTreeMap<u64, oneshot::Sender<Result<ReplyBody, Unanswered>>>,
    /// Why the connection has ended, once it has.
    lost: Option<String>,
}

/// Why there is no answer, as far as the connection knows.
#[derive(Debug, PartialEq)]
enum Unanswered {
    /// It ended before the request was written.
    Unsent(String),
    /// It ended, and the request was written, or a part of it.
    Lost(String),
}

impl From<Unanswered> for ClientError {
    fn from(unanswered: Unanswered) -> Self {
        match unanswered {
            Unanswered::Unsent(reason) => Self::Connect(io::Error::new(io::ErrorKind::NotConnected, reason)),
            Unanswered::Lost(reason) => Self::Lost(reason),
        }
    }
}

#[derive(Debug)]
struct AbortOnDrop(AbortHandle);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Pipeline {
    /// Shares a client's connection. Must be called within a runtime, which carries it from then on.
    pub fn new(client: Client) -> Self {
        let (connection, next_id) = client.into_parts();
        let (out, waiting) = Default::default();
        let state = State { next_id, out, unsent: next_id, waiting, lost: None };
        let shared = Arc::new(Shared { state: Mutex::new(state), asked: Notify::new() });
        let parts = connection.into_parts();
        let (read, write) = parts.io.into_split();
        let mut halves = tokio_util::codec::FramedParts::new::<Bytes>(read, wire::frames());
        // answers may have come behind the handshake's
        halves.read_buf = parts.read_buf;
        let carried = carry(Arc::clone(&shared), Framed::from_parts(halves), write);
        let task = Arc::new(AbortOnDrop(tokio::spawn(carried).abort_handle()));
        Self { shared, task }
    }

    /// Carries out one operation of a client that has seen so much of the partition's log, outside of sessions.
    pub async fn call(&self, operation: Operation, seen: u64) -> Result<Answer, ClientError> {
        self.call_in(None, operation, seen).await
    }

    /// The same with a place in a session.
    pub async fn call_in(
        &self,
        session: Option<SessionTag>,
        operation: Operation,
        seen: u64,
    ) -> Result<Answer, ClientError> {
        operation.fits()?;
        match self.ask(RequestBody::Operation { operation, seen, session })?.await {
            Ok(Ok(ReplyBody::Operation(response))) => Ok(response?),
            Ok(Ok(other)) => Err(mismatch(&other)),
            Ok(Err(unanswered)) => Err(unanswered.into()),
            Err(_) => Err(ClientError::Lost("its task has ended".to_owned())),
        }
    }

    /// Whether the connection has ended: nothing more can be asked.
    pub fn is_lost(&self) -> bool {
        self.shared.lock().lost.is_some()
    }

    /// Whether both are handles to one connection.
    pub fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.task, &other.task)
    }

    /// An error is definite: nothing was sent.
    fn ask(
        &self,
        body: RequestBody,
    ) -> Result<oneshot::Receiver<Result<ReplyBody, Unanswered>>, ClientError> {
        let mut state = self.shared.lock();
        if let Some(reason) = &state.lost {
            return Err(Unanswered::Unsent(reason.clone()).into());
        }
        let id = state.next_id;
        state.next_id += 1;
        wire::put(&mut state.out, &ClientRequest { id, body });
        let (tell, answer) = oneshot::channel();
        state.waiting.insert(id, tell);
        drop(state);
        self.shared.asked.notify_one();
        Ok(answer)
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Nobody is answered any more.
    fn lose(&self, reason: &str) {
        let mut state = self.lock();
        state.lost = Some(reason.to_owned());
        for (id, tell) in std::mem::take(&mut state.waiting) {
            let sent = id < state.unsent;
            let unanswered = if sent { Unanswered::Lost } else { Unanswered::Unsent };
            // an error says that nobody waits any more
            let _ = tell.send(Err(unanswered(reason.to_owned())));
        }
    }
}

/// The life of the connection.
async fn carry(shared: Arc<Shared>, read: Framed<OwnedReadHalf, wire::Frames>, write: OwnedWriteHalf) {
    // readers first: whoever is answered asks again before the next write
    let reason = tokio::select! {
        biased;
        reason = read_replies(&shared, read) => reason,
        error = write_requests(&shared, write) => error.to_string(),
    };
    shared.lose(&reason);
}

/// Hands answers to whom they belong; returns why there are no more.
async fn read_replies(shared: &Shared, mut frames: Framed<OwnedReadHalf, wire::Frames>) -> String {
    loop {
        let frame = match frames.next().await {
            Some(Ok(frame)) => frame,
            Some(Err(error)) => return error.to_string(),
            None => return "the node closed the connection".to_owned(),
        };
        let ClientReply { id, body } = match wire::decode(&frame) {
            Ok(reply) => reply,
            Err(error) => return format!("not a reply: {error}"),
        };
        match shared.lock().waiting.remove(&id) {
            // an error says that nobody waits any more
            Some(tell) => drop(tell.send(Ok(body))),
            None => return format!("answered {id}, which was not asked"),
        }
    }
}

/// Writes what is asked; returns why it cannot.
async fn write_requests(shared: &Shared, mut write: OwnedWriteHalf) -> io::Error {
    let mut out = Vec::new();
    loop {
        shared.asked.notified().await;
        {
            let mut state = shared.lock();
            std::mem::swap(&mut out, &mut state.out);
            state.unsent = state.next_id;
        }
        if let Err(error) = write.write_all(&out).await {
            return error;
        }
        out.clear();
    }
}

#[cfg(test)]
mod tests {
    use futures::SinkExt;
    use tokio::net::{TcpListener, TcpStream};

    use super::*;
    use crate::{
        api::{Ballot, Key, Outcome},
        node::wire::{Handshake, Verdict},
    };

    /// A node that has accepted one client.
    async fn accepted(listener: &TcpListener) -> Framed<TcpStream, wire::Frames> {
        let (stream, _) = listener.accept().await.expect("a client");
        let mut frames = Framed::new(stream, wire::frames());
        let hello = frames.next().await.expect("a handshake").expect("a frame");
        wire::decode::<Handshake>(&hello).expect("a handshake");
        frames.send(wire::encode(&Verdict::Welcome { node: 1 })).await.expect("sent");
        frames
    }

    async fn asked(node: &mut Framed<TcpStream, wire::Frames>) -> ClientRequest {
        wire::decode(&node.next().await.expect("a request").expect("a frame")).expect("a request")
    }

    async fn answer(node: &mut Framed<TcpStream, wire::Frames>, request: &ClientRequest) {
        let RequestBody::Operation { operation: Operation::Get { key: Key::Integer(key) }, .. } =
            request.body
        else {
            panic!("{request:?}")
        };
        let answer = Answer {
            outcome: Outcome::Value(None),
            version: key as u64,
            index: key as u64,
            leader: 1,
            ballot: Ballot::BOTTOM,
            fast: true,
            local: false,
        };
        let body = ReplyBody::Operation(Ok(answer));
        node.send(wire::encode(&ClientReply { id: request.id, body })).await.expect("sent");
    }

    fn get(key: i64) -> Operation {
        Operation::Get { key: Key::Integer(key) }
    }

    fn run(test: impl Future<Output = ()>) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(test);
    }

    #[test]
    fn answers_find_their_callers_in_any_order_and_late_ones_nobody() {
        run(async {
            let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
            let address = listener.local_addr().expect("an address").to_string();
            let (client, mut node) = tokio::join!(Client::connect(&address, "any"), accepted(&listener));
            let pipeline = Pipeline::new(client.expect("welcome"));
            let serve = async {
                let (first, second) = (asked(&mut node).await, asked(&mut node).await);
                let third = asked(&mut node).await;
                for request in [&third, &first, &second] {
                    answer(&mut node, request).await;
                }
            };
            let given_up = async {
                let call = pipeline.call(get(1), 0);
                tokio::select! {
                    biased;
                    answer = call => panic!("{answer:?}"),
                    () = tokio::task::yield_now() => {}
                }
                tokio::join!(pipeline.call(get(2), 0), pipeline.call(get(3), 0))
            };
            let ((second, third), ()) = tokio::join!(given_up, serve);
            assert_eq!(second.expect("an answer").version, 2);
            assert_eq!(third.expect("an answer").version, 3);
            assert!(!pipeline.is_lost(), "an answer that came too late ends nothing");
        });
    }

    #[test]
    fn all_who_wait_learn_of_a_loss_which_is_indefinite_and_later_callers_of_one_that_is_definite() {
        run(async {
            let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
            let address = listener.local_addr().expect("an address").to_string();
            let (client, mut node) = tokio::join!(Client::connect(&address, "any"), accepted(&listener));
            let pipeline = Pipeline::new(client.expect("welcome"));
            let leave = async move {
                asked(&mut node).await;
                asked(&mut node).await;
                drop(node);
            };
            let (first, second, ()) = tokio::join!(pipeline.call(get(1), 0), pipeline.call(get(2), 0), leave);
            for lost in [first, second] {
                let error = lost.expect_err("the node is gone");
                assert!(!error.is_definite(), "{error}");
                assert!(error.to_string().starts_with("connection lost: "), "{error}");
            }
            assert!(pipeline.is_lost());
            assert!(pipeline.call(get(3), 0).await.expect_err("nothing was sent").is_definite());
        });
    }

    /// What was never written has certainly not happened.
    #[test]
    fn of_those_who_wait_when_the_connection_ends_only_who_was_sent_is_in_doubt() {
        let (out, waiting) = Default::default();
        let state = State { next_id: 3, out, unsent: 2, waiting, lost: None };
        let shared = Shared { state: Mutex::new(state), asked: Notify::new() };
        let wait = |id| {
            let (tell, answer) = oneshot::channel();
            shared.lock().waiting.insert(id, tell);
            answer
        };
        let (mut sent, mut unsent) = (wait(1), wait(2));
        shared.lose("gone");
        let lost = sent.try_recv().expect("it is told").expect_err("no answer");
        assert!(!ClientError::from(lost).is_definite());
        let not_connected = unsent.try_recv().expect("it is told").expect_err("no answer");
        assert!(ClientError::from(not_connected).is_definite());
    }

    #[test]
    fn an_answer_to_what_nobody_asked_ends_the_connection() {
        run(async {
            let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
            let address = listener.local_addr().expect("an address").to_string();
            let (client, mut node) = tokio::join!(Client::connect(&address, "any"), accepted(&listener));
            let pipeline = Pipeline::new(client.expect("welcome"));
            let serve = async {
                let mut request = asked(&mut node).await;
                request.id += 7;
                answer(&mut node, &request).await;
            };
            let (answer, ()) = tokio::join!(pipeline.call(get(1), 0), serve);
            assert!(!answer.expect_err("it is another's").is_definite());
        });
    }

    #[test]
    fn the_connection_ends_with_its_last_handle() {
        run(async {
            let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
            let address = listener.local_addr().expect("an address").to_string();
            let (client, mut node) = tokio::join!(Client::connect(&address, "any"), accepted(&listener));
            let pipeline = Pipeline::new(client.expect("welcome"));
            let other = pipeline.clone();
            assert!(other.is_same(&pipeline));
            drop(pipeline);
            assert!(!other.is_lost());
            drop(other);
            assert!(node.next().await.is_none(), "closed in order");
        });
    }
}
