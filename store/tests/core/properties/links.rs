//! Perfect links (Cachin, Guerraoui, Rodrigues, module 2.3) and FIFO per session, on real sockets: the transport of the node,
//! with a way between two of them that breaks after so many bytes.
//!
//! A session is one connection. PL2, PL3 and FIFO hold always. PL1 holds while a connection lasts: what it had not delivered
//! when it broke is lost, and the protocol sends again what it still needs.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use bytes::Bytes;
use futures::{SinkExt, StreamExt};
use store::{
    api::NodeId,
    core::Message,
    node::{
        transport::{self, Event, Identity, Peers},
        wire::{self, Handshake, Role, Verdict},
    },
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::mpsc,
    time::timeout,
};
use tokio_util::codec::Framed;

/// Nothing here takes that long.
const DEADLINE: Duration = Duration::from_secs(20);

/// A message as it was delivered: by which connection, from whom, and its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Delivered {
    session: u64,
    from: NodeId,
    number: u64,
}

fn numbered(number: u64) -> Message {
    Message::HeartbeatRequest { round: number }
}

fn identity(node: NodeId) -> Identity {
    Identity { cluster: "links".to_owned(), node, disk: node, boot: 1, config: 7 }
}

/// What happened when node 1 sent 1, 2, 3 and so on to node 2, and the way there broke now and then.
struct Run {
    /// The last number that was sent.
    sent: u64,
    delivered: Vec<Delivered>,
}

impl Run {
    /// A number that was sent and not delivered.
    fn lost(&self) -> Option<u64> {
        (1..=self.sent).find(|number| !self.delivered.iter().any(|message| message.number == *number))
    }

    /// A message that was delivered a second time.
    fn repeated(&self) -> Option<&Delivered> {
        let mut seen = BTreeSet::new();
        self.delivered.iter().find(|message| !seen.insert(message.number))
    }

    /// A message that nobody sent.
    fn created(&self) -> Option<&Delivered> {
        self.delivered.iter().find(|message| message.from != 1 || !(1..=self.sent).contains(&message.number))
    }

    /// A message that does not follow the one before in its session.
    fn out_of_order(&self) -> Option<&Delivered> {
        let pairs = self.delivered.iter().zip(self.delivered.iter().skip(1));
        let follows = |(before, after): &(&Delivered, &Delivered)| {
            if before.session == after.session {
                before.number + 1 == after.number
            } else {
                before.session < after.session && before.number < after.number
            }
        };
        pairs.into_iter().find(|pair| !follows(pair)).map(|(_, after)| after)
    }

    fn sessions(&self) -> u64 {
        let sessions: BTreeSet<u64> = self.delivered.iter().map(|message| message.session).collect();
        sessions.len() as u64
    }
}

/// Sends until each of `breaks` has happened and what was sent after the last has arrived.
fn run(breaks: &[u64]) -> Run {
    block_on(async {
        let (address, mut events) = listen_as_node_2().await;
        let way = break_after(address, breaks.to_vec()).await;
        let peers = Peers::dial(&BTreeMap::from([(2, way)]), &identity(1));
        let mut run = Run { sent: 0, delivered: Vec::new() };
        let enough = 500 * (breaks.len() as u64 + 1);
        while run.sent < enough || run.sessions() <= breaks.len() as u64 || !run.has_last() {
            for _ in 0..50 {
                run.sent += 1;
                peers.send(2, numbered(run.sent));
            }
            // what a broken way has swallowed does not come
            let patience = if breaks.is_empty() { DEADLINE } else { Duration::from_millis(50) };
            while !run.has_last()
                && let Ok(event) = timeout(patience, events.recv()).await
            {
                run.take(event.expect("node 2 listens"));
            }
        }
        run
    })
}

impl Run {
    fn has_last(&self) -> bool {
        self.delivered.last().is_some_and(|message| message.number == self.sent)
    }

    fn take(&mut self, event: Event) {
        match event {
            // a closed channel: the connection has broken meanwhile
            Event::Peer { verdict, .. } => drop(verdict.send(None)),
            Event::Messages { from, connection, messages } => {
                for message in messages {
                    let Message::HeartbeatRequest { round } = message else {
                        panic!("{message:?} was not sent")
                    };
                    self.delivered.push(Delivered { session: connection, from, number: round });
                }
            }
            other => panic!("{other:?} of a peer"),
        }
    }
}

async fn listen_as_node_2() -> (String, mpsc::Receiver<Event>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address").to_string();
    let (events, inbox) = mpsc::channel(10_000);
    tokio::spawn(transport::listen(listener, identity(2), events));
    (address, inbox)
}

/// A way to `address`: the first connection breaks after so many bytes, the second after so many, and the last stays.
async fn break_after(address: String, breaks: Vec<u64>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let way = listener.local_addr().expect("an address").to_string();
    tokio::spawn(async move {
        for limit in breaks.into_iter().map(Some).chain(std::iter::repeat(None)) {
            let (near, _) = listener.accept().await.expect("a connection");
            let far = TcpStream::connect(&address).await.expect("node 2 listens");
            tokio::spawn(pass(near, far, limit.unwrap_or(u64::MAX)));
        }
    });
    way
}

/// Passes bytes on, both ways, until `limit` bytes have gone to the far side.
async fn pass(near: TcpStream, far: TcpStream, limit: u64) {
    let (near_read, mut near_write) = near.into_split();
    let (mut far_read, mut far_write) = far.into_split();
    let mut limited = near_read.take(limit);
    tokio::select! {
        _ = tokio::io::copy(&mut limited, &mut far_write) => {}
        _ = tokio::io::copy(&mut far_read, &mut near_write) => {}
    }
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let limited = async { timeout(DEADLINE, future).await };
    runtime.block_on(limited).expect("done within 20 s")
}

/// Places at which the way breaks: between two frames or inside one, as it happens.
const BREAKS: [u64; 4] = [200, 1_001, 333, 777];

/// "If a correct process p sends a message m to a correct process q, then q eventually delivers m."
#[test]
fn pl1_reliable_delivery() {
    let whole = run(&[]);
    assert_eq!((whole.lost(), whole.sessions()), (None, 1));
    // it bites: a way that breaks loses what was under way; but the next session is there by itself, and delivers
    let broken = run(&BREAKS);
    assert!(broken.lost().is_some());
    assert!(broken.has_last() && broken.sessions() == 5, "{} sessions", broken.sessions());
}

/// "No message is delivered by a process more than once."
#[test]
fn pl2_no_duplication() {
    let mut run = run(&BREAKS);
    assert_eq!(run.repeated(), None);
    // it bites: the next session delivers once more what the one before has delivered
    let again = Delivered { session: run.sessions() + 1, ..run.delivered[10] };
    run.delivered.push(again);
    assert_eq!(run.repeated(), Some(&again));
}

/// "If some process q delivers a message m with sender p, then m was previously sent to q by process p."
#[test]
fn pl3_no_creation() {
    let mut run = run(&BREAKS);
    assert_eq!(run.created(), None);
    // it bites: another sender, and a number that was not sent yet
    for created in [Delivered { from: 3, ..run.delivered[0] }, Delivered { number: 0, ..run.delivered[0] }] {
        run.delivered.push(created);
        assert_eq!(run.created(), Some(&created));
        run.delivered.pop();
    }
}

/// "If some process sends message m1 before it sends message m2, then no process delivers m2 unless it has already delivered
/// m1": the FIFO property, for each session.
#[test]
fn fifo_per_session() {
    let mut run = run(&BREAKS);
    assert_eq!(run.out_of_order(), None);
    // it bites: two messages change places, one is left out, and an earlier session delivers beside its successor
    run.delivered.swap(5, 6);
    assert!(run.out_of_order().is_some());
    run.delivered.swap(5, 6);
    let left_out = run.delivered.remove(5);
    assert!(run.out_of_order().is_some());
    run.delivered.insert(5, left_out);
    assert_eq!(run.out_of_order(), None);
    let late = Delivered { number: run.sent + 1, ..run.delivered[0] };
    run.delivered.push(late);
    assert_eq!(run.out_of_order(), Some(&late));
}

/// PL3, for whoever is not let in: what stands behind the hello of a stranger, and half a frame, are not delivered.
#[test]
fn pl3_nothing_is_delivered_of_a_refused_connection_or_of_half_a_frame() {
    block_on(async {
        let (address, mut events) = listen_as_node_2().await;
        let say = async |cluster: &str, behind: &[u8]| {
            let stream = TcpStream::connect(&address).await.expect("node 2 listens");
            let mut connection = Framed::new(stream, wire::frames());
            let role = Role::Node { node: 1, to: 2, disk: 1, boot: 1, dial: 1, config: 7 };
            let hello = Handshake { version: wire::VERSION, cluster: cluster.to_owned(), role };
            connection.send(wire::encode(&hello)).await.expect("sent");
            connection.get_mut().write_all(behind).await.expect("sent");
            connection.get_mut().shutdown().await.expect("no more follows");
            connection
        };
        let whole = framed(&wire::encode(&numbered(9)));
        let half = &framed(&wire::encode(&numbered(300)))[..6];
        let mut refused = say("stranger", &whole).await;
        let frame = refused.next().await.expect("an answer").expect("a frame");
        assert!(matches!(wire::decode(&frame), Ok(Verdict::Refused { .. })));
        assert!(refused.next().await.is_none(), "it is closed");
        let mut cut_off = say("links", &[&whole, half].concat()).await;
        let Some(Event::Peer { verdict, .. }) = events.recv().await else { panic!("only node 1 is let in") };
        verdict.send(None).expect("it waits to be let in");
        let Some(Event::Messages { from: 1, messages, .. }) = events.recv().await else {
            panic!("a message")
        };
        assert_eq!(messages, [numbered(9)]);
        cut_off.next().await.expect("an answer").expect("a frame");
        assert!(cut_off.next().await.is_none(), "it is closed");
        assert!(events.try_recv().is_err(), "nothing came of half a frame");
    });
}

/// A frame as it stands on the wire.
fn framed(frame: &Bytes) -> Vec<u8> {
    [&(frame.len() as u32).to_be_bytes(), &frame[..]].concat()
}
