//! The life of a connection: accepted, kept silent while its link is held, dialed to the node, copied both ways, ended.
//!
//! An end of a connection learns only what the other direction lets through: a node's refusal, reset or end of stream reaches
//! the dialer when bytes of the backward link would, and the other way round.

use std::{
    collections::BTreeMap,
    future::{Future, pending, poll_fn},
    net::SocketAddr,
    pin::pin,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    task::Poll,
    time::Duration,
};

use tokio::{
    io::Interest,
    net::{TcpListener, TcpStream},
    task::JoinSet,
};

use super::{
    Counters, Link, Rule,
    board::{Board, Gate, Ticket},
    pump::{End, Pump, Reset},
};

/// Where the nodes listen now.
#[derive(Default)]
pub(super) struct Targets(Mutex<BTreeMap<u64, SocketAddr>>);

impl Targets {
    /// `node` listens at `address`, or nowhere.
    pub(super) fn set(&self, node: u64, address: Option<SocketAddr>) {
        let mut targets = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match address {
            Some(address) => targets.insert(node, address),
            None => targets.remove(&node),
        };
    }

    fn get(&self, node: u64) -> Option<SocketAddr> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(&node).copied()
    }
}

/// What the connections of one link share.
#[derive(Clone)]
pub(super) struct Shared {
    pub(super) link: Link,
    pub(super) board: Arc<Board>,
    pub(super) targets: Arc<Targets>,
    pub(super) counters: Arc<Counters>,
}

/// What became of reaching the node.
enum Dial {
    Reached(ResetOnDrop),
    /// It does not listen.
    Refused,
    /// The dialer left while the link was held, so the node never hears of it.
    GivenUp,
}

/// Accepts connections of one link until it is dropped, which resets those that are left.
pub(super) async fn accept_all(listener: TcpListener, shared: Shared) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((dialer, _)) => {
                    let number = shared.counters.connections.fetch_add(1, Ordering::Relaxed);
                    connections.spawn(shared.clone().serve(number, ResetOnDrop::new(dialer)));
                }
                Err(error) => {
                    tracing::warn!(link = ?shared.link, %error, "could not accept a connection");
                    // out of descriptors, most likely: the next attempt fails at once until some connection ends
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
            },
            Some(_) = connections.join_next() => {}
        }
    }
}

impl Shared {
    /// One connection, from its acceptance to its end.
    async fn serve(self, number: u64, dialer: ResetOnDrop) {
        // acknowledges a severing when it is dropped, so it must outlive the sockets, which `carry` owns
        let mut ticket = Ticket::new(&self.board);
        let mut gate = Gate::new(&self.board, self.link);
        tokio::select! {
            biased;
            () = ticket.until_severed(&mut gate) => self.count_severed(),
            () = self.carry(number, dialer) => {}
        }
    }

    async fn carry(&self, number: u64, dialer: ResetOnDrop) {
        let mut forward = Gate::new(&self.board, self.link);
        let mut backward = Gate::new(&self.board, self.link.backward());
        if forward.rule() == Rule::Hold {
            self.counters.held.fetch_add(1, Ordering::Relaxed);
        }
        match self.dial(&dialer, &mut forward).await {
            Dial::Reached(node) => self.copy(number, [dialer, node], [forward, backward]).await,
            Dial::Refused => {
                self.counters.refused.fetch_add(1, Ordering::Relaxed);
                backward.released().await;
            }
            Dial::GivenUp => {}
        }
    }

    /// Reaches the node once the link is open. The attempt itself begins under the gate, so that the node sees no new
    /// connection while the link is held.
    async fn dial(&self, dialer: &ResetOnDrop, forward: &mut Gate) -> Dial {
        loop {
            tokio::select! {
                biased;
                () = forward.released() => {}
                () = hung_up(&dialer.stream), if forward.rule() == Rule::Hold => return Dial::GivenUp,
            }
            let Some(address) = self.targets.get(self.link.to) else { return Dial::Refused };
            let mut attempt = pin!(TcpStream::connect(address));
            let begun =
                poll_fn(|context| Poll::Ready(forward.pass(|_| attempt.as_mut().poll(context)))).await;
            let reached = match begun {
                Ok(Poll::Ready(reached)) => reached,
                Ok(Poll::Pending) => attempt.await,
                Err(_) => {
                    forward.changed().await;
                    continue;
                }
            };
            return reached.map_or(Dial::Refused, |stream| Dial::Reached(ResetOnDrop::new(stream)));
        }
    }

    async fn copy(&self, number: u64, ends: [ResetOnDrop; 2], gates: [Gate; 2]) {
        let [mut dialer, mut node] = ends;
        let [forward, backward] = gates;
        let (dialer_lost, node_lost) = (AtomicBool::new(false), AtomicBool::new(false));
        let (from_dialer, to_dialer) = dialer.stream.split();
        let (from_node, to_node) = node.stream.split();
        let mut there = Pump {
            from: from_dialer,
            to: to_node,
            gate: forward,
            connection: number,
            bytes: &self.counters.forward_bytes,
            held: &self.counters.held,
            from_lost: &dialer_lost,
            to_lost: &node_lost,
        };
        let mut back = Pump {
            from: from_node,
            to: to_dialer,
            gate: backward,
            connection: number,
            bytes: &self.counters.backward_bytes,
            held: &self.counters.held,
            from_lost: &node_lost,
            to_lost: &dialer_lost,
        };
        match tokio::try_join!(there.run(), back.run()) {
            Ok((End::Finished, End::Finished)) => {
                dialer.graceful = true;
                node.graceful = true;
            }
            // the end that still is there learns of the other's loss when its direction lets it
            Ok((End::Undeliverable, _)) => back.gate.released().await,
            Ok((_, End::Undeliverable)) => there.gate.released().await,
            Err(Reset::Lost) => {}
            Err(Reset::Severed) => self.count_severed(),
        }
    }

    fn count_severed(&self) {
        self.counters.severed.fetch_add(1, Ordering::Relaxed);
    }
}

/// Waits until the peer has closed its sending half or reset the connection, without reading. Cancel safe.
async fn hung_up(stream: &TcpStream) {
    // priority readiness includes this, and of plain bytes it says nothing
    let ready = stream.ready(Interest::PRIORITY).await;
    if ready.is_ok_and(|ready| !ready.is_read_closed()) {
        // urgent data, which stays ready and hides the rest
        pending::<()>().await;
    }
}

/// A socket that is closed with RST, unless both of its directions have ended in order.
struct ResetOnDrop {
    stream: TcpStream,
    graceful: bool,
}

impl ResetOnDrop {
    fn new(stream: TcpStream) -> Self {
        // fails only on a socket that is dead already, which its first use reports
        let _ = stream.set_nodelay(true);
        Self { stream, graceful: false }
    }
}

impl Drop for ResetOnDrop {
    fn drop(&mut self) {
        if !self.graceful {
            // as above
            let _ = self.stream.set_zero_linger();
        }
    }
}
