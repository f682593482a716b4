//! The life of a connection: accepted, kept silent while its link is held, dialed to the node, copied both ways, ended.
//!
//! An end of a connection learns only what the other direction lets through: a node's refusal, reset or end of stream reaches
//! the dialer when bytes of the backward link would, and the other way round.

use std::{
    collections::BTreeMap,
    convert::Infallible,
    future::{Future, pending},
    io,
    net::{Ipv4Addr, SocketAddr},
    panic::resume_unwind,
    pin::{Pin, pin},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, Interest, ReadBuf},
    net::{TcpListener, TcpSocket, TcpStream},
    sync::Notify,
    task::{JoinError, JoinSet},
    time::sleep,
};

use super::{
    Connect, Endpoint, Link, Protocol, Rule,
    board::{Board, Ticket, View},
    link::Way,
    pump::{Cut, End, Pump},
};

/// How many connections may wait to be accepted.
const BACKLOG: u32 = 1024;

/// How long until a listener tries again what failed, for want of descriptors most likely.
const TRY_AGAIN: Duration = Duration::from_millis(10);

/// Where the nodes listen now.
#[derive(Default)]
pub(super) struct Targets(Mutex<BTreeMap<u64, Target>>);

#[derive(Clone, Copy)]
struct Target {
    address: SocketAddr,
    /// Where it listens for other nodes, if that is another place.
    for_peers: Option<SocketAddr>,
}

impl Targets {
    /// `node` listens at `address`, or nowhere.
    pub(super) fn set(&self, node: u64, address: Option<SocketAddr>) {
        let mut targets = self.all();
        match address {
            Some(address) => targets.insert(node, Target { address, for_peers: None }),
            None => targets.remove(&node),
        };
    }

    /// `node`, which listens, does so for other nodes at this address.
    pub(super) fn set_for_peers(&self, node: u64, address: SocketAddr) {
        if let Some(target) = self.all().get_mut(&node) {
            target.for_peers = Some(address);
        }
    }

    /// Where `node` listens now for clients.
    pub(super) fn get(&self, node: u64) -> Option<SocketAddr> {
        self.all().get(&node).map(|target| target.address)
    }

    /// Where the connections of a link are dialed now.
    fn of(&self, link: Link) -> Option<SocketAddr> {
        let (Endpoint::Node(node) | Endpoint::Client(node)) = link.to;
        let target = *self.all().get(&node)?;
        let between_nodes = link.nodes().is_some();
        Some(target.for_peers.filter(|_| between_nodes).unwrap_or(target.address))
    }

    fn all(&self) -> MutexGuard<'_, BTreeMap<u64, Target>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Where a link's connections are accepted. While it is closed, the dialer's kernel is refused, and the port stays ours:
/// another socket is bound to it and never listens.
pub(super) struct Door {
    address: SocketAddr,
    _reserve: TcpSocket,
    listener: Option<TcpListener>,
}

impl Door {
    /// An open door at a port of its own.
    pub(super) fn new() -> io::Result<Self> {
        let reserve = bound((Ipv4Addr::LOCALHOST, 0).into())?;
        let address = reserve.local_addr()?;
        let mut door = Self { address, _reserve: reserve, listener: None };
        door.open()?;
        Ok(door)
    }

    /// Where it is.
    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    fn open(&mut self) -> io::Result<&TcpListener> {
        match &mut self.listener {
            Some(listener) => Ok(listener),
            closed => Ok(closed.insert(bound(self.address)?.listen(BACKLOG)?)),
        }
    }
}

/// Both sockets of a door may be bound to one port, since both say so and only one listens.
fn bound(address: SocketAddr) -> io::Result<TcpSocket> {
    let socket = TcpSocket::new_v4()?;
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    Ok(socket)
}

/// What the connections of one link share.
#[derive(Clone)]
pub(super) struct Shared {
    pub(super) board: Arc<Board>,
    pub(super) targets: Arc<Targets>,
    pub(super) there: Arc<Way>,
    pub(super) back: Arc<Way>,
    pub(super) protocol: Protocol,
    pub(super) seed: u64,
    /// Is told of every read.
    pub(super) reads: Arc<Notify>,
}

/// Accepts connections of one link until it is dropped, which resets those that are left. Every connection has its ticket
/// before this listener acknowledges another switch, so that no switch misses one.
pub(super) async fn accept_all(mut door: Door, shared: Shared, mut ticket: Ticket) -> Infallible {
    let mut connections = JoinSet::new();
    loop {
        let accepted = ticket.follow(|context, view| {
            while let Poll::Ready(Some(ended)) = connections.poll_join_next(context) {
                pass_on_panic(ended);
            }
            if view.there.conditions.connect == Connect::Refuse {
                door.listener = None;
                return Poll::Pending;
            }
            match door.open() {
                Ok(listener) => listener.poll_accept(context),
                Err(error) => Poll::Ready(Err(error)),
            }
        });
        match accepted.await {
            Ok((dialer, _)) => {
                let number = shared.there.counters.connections.add(1);
                let ticket = Ticket::new(&shared.board, shared.there.link);
                connections.spawn(shared.clone().serve(ticket, number, ResetOnDrop::new(dialer)));
            }
            Err(error) => {
                tracing::warn!(link = ?shared.there.link, %error, "could not accept a connection");
                let mut rest = pin!(sleep(TRY_AGAIN));
                ticket
                    .follow(|context, view| {
                        if view.there.conditions.connect == Connect::Refuse {
                            door.listener = None;
                        }
                        rest.as_mut().poll(context)
                    })
                    .await;
            }
        }
    }
}

/// Half a proxy is worse than none: a panic of any of its tasks goes on to its thread, which ends.
pub(super) fn pass_on_panic<T>(ended: Result<T, JoinError>) {
    if let Err(error) = ended
        && let Ok(panic) = error.try_into_panic()
    {
        resume_unwind(panic);
    }
}

/// What became of reaching the node.
enum Reached {
    Node(ResetOnDrop),
    /// It does not listen.
    Refused,
    /// The dialer left while the link was held, so the node never hears of it.
    GivenUp,
    /// A rule ends the connection.
    Ruled(Rule),
}

/// How copying came to its end.
enum Ending {
    /// Both directions ended in order.
    Finished,
    /// An end is gone, and the other one knows.
    Lost,
    /// A rule ends the connection.
    Ruled(Rule),
}

impl Shared {
    /// One connection, from its acceptance to its end.
    async fn serve(self, mut ticket: Ticket, number: u64, dialer: ResetOnDrop) {
        // the ticket acknowledges a severing when it is dropped, so it must outlive the sockets, which `carry` owns
        self.carry(&mut ticket, number, dialer).await;
    }

    async fn carry(&self, ticket: &mut Ticket, number: u64, mut dialer: ResetOnDrop) {
        let mut node = match self.reach(ticket, &dialer).await {
            Reached::Node(node) => node,
            Reached::Refused => {
                self.there.counters.refused.add(1);
                return ticket.follow(|_, view| until_told(view.back.conditions.rule)).await;
            }
            Reached::GivenUp => return,
            Reached::Ruled(rule) => {
                self.there.counters.severed.add(1);
                if rule == Rule::Close {
                    end_in_order(ticket, &mut [dialer]).await;
                }
                return;
            }
        };
        match self.copy(ticket, number, &mut dialer, &mut node).await {
            Ending::Finished => {
                dialer.graceful = true;
                node.graceful = true;
            }
            Ending::Lost => {}
            Ending::Ruled(rule) => {
                self.there.counters.severed.add(1);
                match rule {
                    Rule::Close => end_in_order(ticket, &mut [dialer, node]).await,
                    Rule::HalfOpen => {
                        drop(node);
                        until_half_open_ends(ticket, &dialer).await;
                    }
                    _ => {}
                }
            }
        }
    }

    /// Reaches the node once the link is open. The attempt begins under the rules, so that the node sees no new connection
    /// while the link is held.
    async fn reach(&self, ticket: &mut Ticket, dialer: &ResetOnDrop) -> Reached {
        let mut hung_up = pin!(hung_up(&dialer.stream));
        let mut attempt = None;
        let (mut held, mut silenced) = (false, false);
        ticket
            .follow(|context, view| {
                let conditions = &view.there.conditions;
                let silent = matches!(conditions.rule, Rule::Silence | Rule::HalfOpen);
                if matches!(conditions.rule, Rule::Sever | Rule::Close) {
                    return Poll::Ready(Reached::Ruled(conditions.rule));
                }
                if silenced && !silent {
                    return Poll::Ready(Reached::Ruled(Rule::Silence));
                }
                silenced |= silent;
                let waits = conditions.connect == Connect::Silent && attempt.is_none();
                if silent || conditions.rule == Rule::Hold || waits {
                    if !held {
                        held = true;
                        self.there.counters.held.add(1);
                    }
                    return hung_up.as_mut().poll(context).map(|()| Reached::GivenUp);
                }
                let attempt = match (&mut attempt, self.targets.of(self.there.link)) {
                    (Some(attempt), _) => attempt,
                    (none, Some(address)) => none.insert(Box::pin(TcpStream::connect(address))),
                    (None, None) => return Poll::Ready(Reached::Refused),
                };
                let reached = std::task::ready!(attempt.as_mut().poll(context));
                Poll::Ready(reached.map_or(Reached::Refused, |node| Reached::Node(ResetOnDrop::new(node))))
            })
            .await
    }

    async fn copy(
        &self,
        ticket: &mut Ticket,
        number: u64,
        dialer: &mut ResetOnDrop,
        node: &mut ResetOnDrop,
    ) -> Ending {
        let (mut from_dialer, mut to_dialer) = dialer.stream.split();
        let (mut from_node, mut to_node) = node.stream.split();
        let pump = |way, forward| Pump::new(self, Arc::clone(way), forward, number);
        let (mut there, mut back) = (pump(&self.there, true), pump(&self.back, false));
        let (mut there_ended, mut back_ended) = (None, None);
        let ending = ticket
            .follow(|context, View { there: terms_there, back: terms_back, .. }| {
                let rule = terms_there.conditions.rule;
                if matches!(rule, Rule::Sever | Rule::Close | Rule::HalfOpen) {
                    return Poll::Ready(Ending::Ruled(rule));
                }
                // an end that cannot be written to is gone, whatever reading from it says
                let gone = |ended: Option<End>| ended == Some(End::Undeliverable);
                if there_ended.is_none() {
                    let lost = gone(back_ended);
                    match there.poll(context, terms_there, &mut from_dialer, &mut to_node, lost) {
                        Poll::Ready(Ok(end)) => there_ended = Some(end),
                        Poll::Ready(Err(cut)) => return Poll::Ready(cut.into()),
                        Poll::Pending => {}
                    }
                }
                if back_ended.is_none() {
                    let lost = gone(there_ended);
                    match back.poll(context, terms_back, &mut from_node, &mut to_dialer, lost) {
                        Poll::Ready(Ok(end)) => back_ended = Some(end),
                        Poll::Ready(Err(cut)) => return Poll::Ready(cut.into()),
                        Poll::Pending => {}
                    }
                }
                match (there_ended, back_ended) {
                    (Some(End::Finished), Some(End::Finished)) => Poll::Ready(Ending::Finished),
                    // the end that still is there learns of the other's loss when its direction lets it
                    (Some(End::Undeliverable), Some(_)) => {
                        until_told(terms_back.conditions.rule).map(|()| Ending::Lost)
                    }
                    (Some(_), Some(End::Undeliverable)) => {
                        until_told(terms_there.conditions.rule).map(|()| Ending::Lost)
                    }
                    _ => Poll::Pending,
                }
            })
            .await;
        let rule = match ending {
            Ending::Ruled(rule) => Some(rule),
            Ending::Finished | Ending::Lost => None,
        };
        there.close(rule);
        back.close(rule);
        ending
    }
}

impl From<Cut> for Ending {
    fn from(cut: Cut) -> Self {
        match cut {
            Cut::Lost => Self::Lost,
            Cut::Ruled(rule) => Self::Ruled(rule),
        }
    }
}

/// Whether an end may be told under this rule of the link to it that the other end is gone.
fn until_told(rule: Rule) -> Poll<()> {
    match rule {
        Rule::Hold | Rule::Silence | Rule::HalfOpen => Poll::Pending,
        Rule::Open | Rule::Close | Rule::Sever => Poll::Ready(()),
    }
}

/// Ends the streams, and drops what still comes until these ends are closed as well or the rule ends: a socket that is
/// closed with something unread would be reset.
async fn end_in_order<const N: usize>(ticket: &mut Ticket, ends: &mut [ResetOnDrop; N]) {
    for end in &mut *ends {
        end.graceful = true;
    }
    ticket
        .follow(|context, view| {
            let mut open = false;
            for ResetOnDrop { stream, .. } in &mut *ends {
                // an error says that this end is gone
                let _ = Pin::new(&mut *stream).poll_shutdown(context);
                open |= drain(context, stream).is_pending();
            }
            let rule_holds =
                view.there.conditions.rule == Rule::Close || view.back.conditions.rule == Rule::Close;
            if open && rule_holds { Poll::Pending } else { Poll::Ready(()) }
        })
        .await;
}

/// Reads and forgets; ready when the stream is at its end.
fn drain(context: &mut Context, stream: &mut TcpStream) -> Poll<()> {
    let mut nowhere = [0; 4096];
    loop {
        let mut buffer = ReadBuf::new(&mut nowhere);
        match std::task::ready!(Pin::new(&mut *stream).poll_read(context, &mut buffer)) {
            Ok(()) if !buffer.filled().is_empty() => {}
            Ok(()) | Err(_) => return Poll::Ready(()),
        }
    }
}

/// The dialer is told when the rule ends, unless it leaves before.
async fn until_half_open_ends(ticket: &mut Ticket, dialer: &ResetOnDrop) {
    let mut hung_up = pin!(hung_up(&dialer.stream));
    ticket
        .follow(|context, view| match view.there.conditions.rule {
            Rule::HalfOpen => hung_up.as_mut().poll(context),
            _ => Poll::Ready(()),
        })
        .await;
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
