//! The driver of the core on a real machine: sockets, the durable log, the clock, and one loop.
//!
//! A turn of the loop: take every input that is ready, read the clock, let the core handle all of it, write the trace,
//! hand the one persist to the log thread, send what needs no persist, and keep the rest until its persist is durable.
//! The whole node runs on one thread beside the one that writes the log.

pub mod clock;
pub mod control;
pub mod outgoing;
pub mod storage;
mod trace_file;
pub mod transport;
pub mod wire;

use std::{
    collections::{BTreeMap, VecDeque},
    io::{BufRead, Write},
    panic::{AssertUnwindSafe, catch_unwind},
    pin::pin,
    process::ExitCode,
    sync::Arc,
    thread,
};

use anyhow::Context;
use tokio::{
    net::TcpListener,
    sync::{mpsc, oneshot},
    time::{Duration, Instant},
};

use crate::{
    api::{ClientReply, ClientRequest, NodeId, NodeStatus, ReplyBody, RequestBody},
    assertions,
    config::{Mutant, NodeConfig, PartitionConfig, StorageKind},
    core::{ClientId, Config, Input, LocalTime, Node, Output, durable::DurableState, trace::TraceEvent},
    directory::{self, Directory},
};
use clock::{Clock, Reading};
use control::{Command, Notice};
use outgoing::Outgoing;
use storage::{Batch, Durable, Found, LogThread, LosesUnsynced, Storage, StorageError};
use trace_file::TraceFile;
use transport::{Event, Identity, Peers};

/// Inputs after which a turn takes no further reading, so that outputs are not kept waiting.
const TURN: usize = 4096;

/// Readings of connections that wait for the loop before connections wait, too: each is of a few dozen inputs at most. All of them
/// are few turns, so that heartbeats do not stand behind many of what clients ask.
const QUEUE: usize = 256;

/// How often the loop looks for something to do before it sleeps: who has just been answered often asks again, and to be woken
/// for that costs more than a look (fast reads at 64 in flight: 1.2 times as many).
const LOOKS: usize = 2;

/// Exit code of a node that cannot start or go on.
pub const FAILED: u8 = 4;

/// Runs a node until its standard input closes. Its log goes to standard error, its notices to standard output.
pub fn run(config: NodeConfig) -> ExitCode {
    run_with(config, true)
}

/// Runs a node until it is killed, whatever its standard input is. What is acknowledged is durable: there is nothing to do
/// before it ends.
pub fn run_until_killed(config: NodeConfig) -> ExitCode {
    run_with(config, false)
}

fn run_with(config: NodeConfig, commanded: bool) -> ExitCode {
    abort_on_panic();
    match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => match runtime.block_on(serve(config, commanded)) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                tracing::error!("{error:#}");
                ExitCode::from(FAILED)
            }
        },
        Err(error) => {
            tracing::error!(%error, "no runtime");
            ExitCode::from(FAILED)
        }
    }
}

/// Half a node is worse than none: a panic anywhere ends the process. One in the core unwinds to [`in_core`] first.
fn abort_on_panic() {
    let print = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        tracing::error!("panic: {panic}");
        print(panic);
        if !assertions::heed(panic) {
            std::process::abort();
        }
    }));
}

/// Runs a piece of the core. When an assertion in it fails, whoever started the node is told, and the process ends: nothing
/// of what the core had to say leaves the node, but which planted bugs it reached is traced.
fn in_core<T>(
    trace: &mut Option<TraceFile>,
    reading: Reading,
    out: &mut Vec<Output>,
    body: impl FnOnce(&mut Vec<Output>) -> T,
) -> T {
    let done = catch_unwind(AssertUnwindSafe(|| assertions::core(|| body(out))));
    done.unwrap_or_else(|_| {
        let reached = |output: &Output| matches!(output, Output::Trace(TraceEvent::MutantReached { .. }));
        out.retain(reached);
        if let Some(Err(error)) = trace.as_mut().map(|trace| trace.write(out, reading)) {
            tracing::error!("{error:#}");
        }
        notice(&Notice::GaveUp { text: assertions::last_words().unwrap_or_default() });
        std::process::abort();
    })
}

async fn serve(config: NodeConfig, commanded: bool) -> anyhow::Result<()> {
    let (storage, found) = open_storage(&config)?;
    if let Some(table) = &found.state.table {
        anyhow::ensure!(
            table.config == config.cluster.digest(),
            "{} belongs to a cluster that was started with another configuration: leases, partitions and presets are \
             agreed on once",
            config.data.display()
        );
    }
    let listener = TcpListener::bind(&config.listen)
        .await
        .with_context(|| format!("cannot listen on {}", config.listen))?;
    let address = listener.local_addr()?;
    let (events, inbox) = mpsc::channel(QUEUE);
    let (signals, internal) = mpsc::unbounded_channel();
    let identity = Identity {
        cluster: config.cluster.name.clone(),
        node: config.node,
        disk: found.disk,
        boot: found.boot,
        config: config.cluster.digest(),
    };
    let running = Running::start(&config, &found, storage, &identity, signals.clone())?;
    tokio::spawn(transport::listen(listener, identity.clone(), events));
    if commanded {
        read_commands(signals);
    }
    notice(&Notice::Listening { node: config.node, address: address.to_string(), boot: identity.boot });
    // a task of its own is woken without a system call, unlike what the runtime was started with
    tokio::spawn(running.run(inbox, internal)).await?
}

fn open_storage(config: &NodeConfig) -> anyhow::Result<(Option<Box<dyn Storage>>, Found)> {
    let fresh_disk = clock::machine_time() ^ u64::from(std::process::id()).rotate_left(40);
    if config.cluster.storage == StorageKind::Memory {
        return Ok((None, Found { disk: fresh_disk, boot: 1, state: DurableState::default() }));
    }
    std::fs::create_dir_all(&config.data)
        .with_context(|| format!("cannot make the data folder {}", config.data.display()))?;
    let (durable, found) = Durable::open(&config.data, fresh_disk, config.test.die_in_recovery)
        .with_context(|| format!("cannot open the data folder {}", config.data.display()))?;
    let storage: Box<dyn Storage> =
        if config.test.lose_unsynced { Box::new(LosesUnsynced::new(durable)) } else { Box::new(durable) };
    Ok((Some(storage), found))
}

/// What happens inside the node, beside connections.
enum Signal {
    Persisted(u64),
    StorageFailed(StorageError),
    Command(Command),
    /// Standard input has closed: whoever started this node is gone.
    End,
}

fn read_commands(signals: mpsc::UnboundedSender<Signal>) {
    thread::spawn(move || {
        for line in std::io::stdin().lock().lines().map_while(Result::ok) {
            match serde_json::from_str(&line) {
                Ok(command) => drop(signals.send(Signal::Command(command))),
                Err(error) => tracing::error!(%error, line, "not a command"),
            }
        }
        let _ = signals.send(Signal::End);
    });
}

fn notice(notice: &Notice) {
    let mut line = serde_json::to_string(notice).expect("a notice can be written as JSON");
    line.push('\n');
    // nobody may listen; the node serves on
    let _ = std::io::stdout().lock().write_all(line.as_bytes());
}

/// The present connection of a peer.
struct Session {
    /// Boot number of the peer, and which of its dials in that life this is.
    dialed: (u64, u64),
    connection: u64,
}

/// A running node.
struct Running {
    config: Config,
    node: Node,
    clock: Clock,
    trace: Option<TraceFile>,
    peers: Peers,
    /// Where it reaches its peers.
    addresses: BTreeMap<NodeId, String>,
    log: Option<LogThread>,
    /// The last persist that is durable.
    durable: u64,
    /// Sends and replies that wait for their persist, in order.
    held: VecDeque<(u64, Output)>,
    /// A persist that counts as durable at once, since there is no disk, or by a planted bug: the core is told in its next turn.
    at_once: Option<u64>,
    /// When the alarm rings that wakes the loop.
    alarm: Option<LocalTime>,
    /// Where replies go, and what keeps the connection open.
    clients: BTreeMap<u64, (Arc<Outgoing<ClientReply>>, oneshot::Sender<()>)>,
    /// The connection of each peer; what an earlier one still brings is dropped.
    sessions: BTreeMap<NodeId, Session>,
    commands: u64,
    /// How many clients it has handed a node to ask first.
    handed: u64,
}

impl Running {
    fn start(
        config: &NodeConfig,
        found: &Found,
        storage: Option<Box<dyn Storage>>,
        identity: &Identity,
        signals: mpsc::UnboundedSender<Signal>,
    ) -> anyhow::Result<Self> {
        let mut nodes: Vec<NodeId> = config.peers.keys().copied().chain([config.node]).collect();
        nodes.sort_unstable();
        let core = Config {
            node: config.node,
            nodes,
            disk: found.disk,
            boot: found.boot,
            cluster: config.cluster.clone(),
            mutant: config.test.mutant,
            traced: config.trace.is_some(),
        };
        let late = core.mutant == Some(Mutant::AcknowledgeBeforeSync);
        let failed = signals.clone();
        let log = storage.map(|storage| {
            LogThread::start(
                storage,
                late,
                move |number| drop(signals.send(Signal::Persisted(number))),
                move |error| drop(failed.send(Signal::StorageFailed(error))),
            )
        });
        let mut trace =
            config.trace.as_ref().map(|path| TraceFile::open(path, config.node, found.boot)).transpose()?;
        let clock = Clock::new(config.clock);
        let mut out = vec![Output::Trace(clock.event())];
        let reading = clock.read();
        let node = in_core(&mut trace, reading, &mut out, |out| {
            Node::start(&core, &found.state, reading.local, out)
        });
        let peers = Peers::dial(&config.peers, identity);
        let mut running = Self {
            config: core,
            node,
            clock,
            trace,
            peers,
            addresses: config.peers.clone(),
            log,
            durable: 0,
            held: VecDeque::new(),
            at_once: None,
            alarm: None,
            clients: BTreeMap::new(),
            sessions: BTreeMap::new(),
            commands: 0,
            handed: 0,
        };
        running.carry_out(&mut out, running.clock.read())?;
        Ok(running)
    }

    /// The node's whole life.
    async fn run(
        mut self,
        mut inbox: mpsc::Receiver<Event>,
        mut internal: mpsc::UnboundedReceiver<Signal>,
    ) -> anyhow::Result<()> {
        // what each turn fills and empties
        let (mut inputs, mut out) = (Vec::new(), Vec::new());
        let mut alarm = pin!(tokio::time::sleep(Duration::ZERO));
        loop {
            if let Some(number) = self.at_once.take() {
                inputs.push(Input::Persisted { number });
            } else if inbox.is_empty() && internal.is_empty() {
                if let Some(wait) = self.set_alarm() {
                    alarm.as_mut().reset(Instant::now() + wait);
                }
                tokio::select! {
                    biased;
                    Some(signal) = internal.recv() => {
                        if !self.on_signal(signal, &mut inputs)? {
                            return Ok(());
                        }
                    }
                    Some(event) = inbox.recv() => self.on_event(event, &mut inputs),
                    () = &mut alarm => self.alarm = None,
                }
            }
            while let Ok(signal) = internal.try_recv() {
                if !self.on_signal(signal, &mut inputs)? {
                    return Ok(());
                }
            }
            while inputs.len() < TURN
                && let Ok(event) = inbox.try_recv()
            {
                self.on_event(event, &mut inputs);
            }
            self.turn(&mut inputs, &mut out)?;
            for look in 0..LOOKS {
                // after each turn connections have theirs
                let first = look == 0;
                if first || inbox.is_empty() && internal.is_empty() {
                    tokio::task::yield_now().await;
                }
            }
        }
    }

    /// Until when to wait for something to happen, unless the alarm that is set rings before: to set it costs a system call, and
    /// what comes next is most often the heartbeat that it is set for already.
    fn set_alarm(&mut self) -> Option<Duration> {
        let reading = self.clock.read();
        let Self { trace, node, config, .. } = self;
        let next = |_: &mut Vec<Output>| node.next_deadline(config, reading.local);
        let deadline = in_core(trace, reading, &mut Vec::new(), next);
        // while the machine slept this clock went on, and the runtime's did not: what is past is set anew
        if self.alarm.is_some_and(|set| reading.local < set && set <= deadline) {
            return None;
        }
        self.alarm = Some(deadline);
        Some(self.clock.until(deadline, reading.local))
    }

    /// One turn of the core; the clock is read here, after the last input was dequeued.
    fn turn(&mut self, inputs: &mut Vec<Input>, out: &mut Vec<Output>) -> anyhow::Result<()> {
        let reading = self.clock.read();
        let Self { trace, node, config, .. } = self;
        in_core(trace, reading, out, |out| {
            for input in inputs.drain(..) {
                node.handle(config, reading.local, input, out);
            }
            node.finish_turn(config, reading.local, out);
        });
        self.carry_out(out, reading)
    }

    /// Traces, then the persist, then what may leave; everything else waits for its persist.
    fn carry_out(&mut self, out: &mut Vec<Output>, reading: Reading) -> anyhow::Result<()> {
        if let Some(trace) = &mut self.trace {
            trace.write(out, reading)?;
        }
        for output in out.extract_if(.., |output| matches!(output, Output::Persist { .. })) {
            self.persist(output)?;
        }
        // what has waited longer goes first
        self.release();
        for output in out.drain(..) {
            match output {
                Output::Send { needs, .. } | Output::Reply { needs, .. } if needs > self.durable => {
                    self.held.push_back((needs, output));
                }
                Output::Send { .. } | Output::Reply { .. } => self.let_go(output),
                Output::Transferred { client, result } => {
                    self.reply(client.connection, client.request, ReplyBody::Transferred(result));
                }
                Output::Open => self.announce_open(),
                Output::Leading { partition, ballot } => {
                    notice(&Notice::Leading { partition, ballot });
                }
                Output::SteppedDown { partition, ballot } => {
                    notice(&Notice::SteppedDown { partition, ballot });
                }
                Output::Trace(_) | Output::Persist { .. } => {}
            }
        }
        Ok(())
    }

    fn persist(&mut self, output: Output) -> anyhow::Result<()> {
        let Output::Persist { number, records } = output else { return Ok(()) };
        match &self.log {
            Some(log) => log.persist(Batch { number, records }),
            None => self.is_durable_at_once(number),
        }
        if self.config.mutant == Some(Mutant::AcknowledgeBeforeSync) {
            self.is_durable_at_once(number);
            self.trace_mutant()?;
        }
        Ok(())
    }

    fn is_durable_at_once(&mut self, number: u64) {
        self.durable = number;
        self.at_once = Some(number);
    }

    fn trace_mutant(&mut self) -> anyhow::Result<()> {
        let reading = self.clock.read();
        let name = format!("{:?}", Mutant::AcknowledgeBeforeSync);
        match &mut self.trace {
            Some(trace) => trace.write(&[Output::Trace(TraceEvent::MutantReached { name })], reading),
            None => Ok(()),
        }
    }

    /// Lets go of what waits for nothing any more. To one peer, what becomes free leaves in its order.
    fn release(&mut self) {
        let durable = self.durable;
        if self.held.iter().all(|(needs, _)| *needs > durable) {
            return;
        }
        let mut still_held = VecDeque::new();
        for (needs, output) in std::mem::take(&mut self.held) {
            if needs > durable {
                still_held.push_back((needs, output));
            } else {
                self.let_go(output);
            }
        }
        self.held = still_held;
    }

    /// Sends, or replies.
    fn let_go(&mut self, output: Output) {
        match output {
            Output::Send { to, message, .. } => self.peers.send(to, message),
            Output::Reply { client, response, .. } => {
                self.reply(client.connection, client.request, ReplyBody::Operation(response));
            }
            _ => unreachable!("only sends and replies wait for a persist"),
        }
    }

    fn reply(&mut self, connection: u64, id: u64, body: ReplyBody) {
        if let Some((replies, _)) = self.clients.get(&connection)
            && !replies.add(ClientReply { id, body })
        {
            tracing::warn!(connection, "client dropped: it does not read its replies");
            self.clients.remove(&connection);
        }
    }

    /// False when the node ends.
    fn on_signal(&mut self, signal: Signal, inputs: &mut Vec<Input>) -> anyhow::Result<bool> {
        match signal {
            Signal::Persisted(number) => {
                if number > self.durable {
                    self.durable = number;
                    self.release();
                }
                inputs.push(Input::Persisted { number });
            }
            Signal::StorageFailed(error) => return Err(error).context("the durable log cannot go on"),
            Signal::Command(command) => {
                self.obey(command)?;
                self.commands += 1;
                notice(&Notice::Done { command: self.commands });
            }
            Signal::End => return Ok(false),
        }
        Ok(true)
    }

    fn obey(&mut self, command: Command) -> anyhow::Result<()> {
        match (command, &self.log) {
            (Command::Clock(skew), _) => {
                self.clock.set(skew);
                self.alarm = None;
                self.carry_out(&mut vec![Output::Trace(self.clock.event())], self.clock.read())?;
            }
            (Command::Disk(fault), Some(log)) => log.disk().set(fault),
            (Command::DieInWrite, Some(log)) => log.disk().die_in_write(),
            // in memory nothing is ever written
            (Command::Disk(_) | Command::DieInWrite, None) => {}
        }
        Ok(())
    }

    fn on_event(&mut self, event: Event, inputs: &mut Vec<Input>) {
        match event {
            Event::Peer { from, disk, dialed, connection, verdict } => {
                let reason = self.refusal(from, disk, dialed);
                if reason.is_none() {
                    self.sessions.insert(from, Session { dialed, connection });
                    inputs.push(Input::Session { from });
                }
                // the connection may be gone already
                let _ = verdict.send(reason);
            }
            Event::Messages { from, connection, messages } => {
                if self.sessions.get(&from).is_some_and(|session| session.connection == connection) {
                    inputs.extend(messages.into_iter().map(|message| Input::Message { from, message }));
                }
            }
            Event::Client { connection, replies, open } => {
                self.clients.insert(connection, (replies, open));
            }
            Event::Gone { connection } => {
                self.clients.remove(&connection);
            }
            Event::Requests { connection, requests } => {
                for request in requests {
                    self.on_request(connection, request, inputs);
                }
            }
        }
    }

    fn on_request(
        &mut self,
        connection: u64,
        ClientRequest { id, body }: ClientRequest,
        inputs: &mut Vec<Input>,
    ) {
        let client = ClientId { connection, request: id };
        match body {
            RequestBody::Operation { operation, seen, session } => {
                inputs.push(Input::Request { client, operation, seen, session });
            }
            RequestBody::TransferLeader { partition, to } => {
                inputs.push(Input::Transfer { client, partition, to });
            }
            RequestBody::Status => {
                let status = self.status();
                self.reply(connection, id, ReplyBody::Status(status));
            }
            RequestBody::Directory => {
                let directory = self.directory();
                self.reply(connection, id, ReplyBody::Directory(directory));
            }
        }
    }

    fn status(&mut self) -> NodeStatus {
        let reading = self.clock.read();
        let Self { trace, node, config, .. } = self;
        let status = |_: &mut Vec<Output>| node.status(config, reading.local);
        in_core(trace, reading, &mut Vec::new(), status)
    }

    /// What a client must know; those that ask one after another are sent to different nodes.
    fn directory(&mut self) -> Directory {
        let turn = self.handed;
        self.handed += 1;
        let suspected = self.status().suspected;
        let table = self.node.table();
        let partition = |config: &PartitionConfig| directory::Entry {
            config: config.clone(),
            replicas: table
                .and_then(|table| table.replicas.get(&config.partition))
                .cloned()
                .unwrap_or_default(),
            leader: self.node.leader(config.partition),
        };
        let cluster = &self.config.cluster;
        Directory {
            node: self.config.node,
            entry: Directory::entry(self.config.node, self.config.others(), &suspected, turn),
            key_type: cluster.key_type,
            routing: cluster.routing,
            peers: self.addresses.clone(),
            suspected,
            partitioning: cluster.partitioning,
            partitions: cluster.partitions.iter().map(partition).collect(),
        }
    }

    /// Why a peer may not connect.
    fn refusal(&self, from: NodeId, disk: u64, dialed: (u64, u64)) -> Option<String> {
        if !self.node.accepts_peer(from, disk) {
            return Some(format!("node {from} came back with another disk: it has lost its promises"));
        }
        // a hello that was long under way must not displace the connection that its sender has dialed since
        let newer = self.sessions.get(&from).is_some_and(|session| session.dialed > dialed);
        newer.then(|| format!("node {from} has dialed again since"))
    }

    fn announce_open(&self) {
        let table = self.node.table().map(|table| table.replicas.clone()).unwrap_or_default();
        notice(&Notice::Open { table: table.into_iter().collect() });
    }
}
