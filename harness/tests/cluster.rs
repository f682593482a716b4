//! Processes are started, stopped and watched as asked, and none outlives the harness.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::{
    collections::BTreeMap,
    future::Future,
    io::{self, BufRead, BufReader},
    net::SocketAddr,
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::Arc,
    time::Duration,
};

use futures::future::BoxFuture;
use harness::{
    cluster::{Cause, Cluster, ClusterEvent, ClusterSpec, ControlError, Death, NodeEvent, StartError},
    proxy::{Link, Network, Protocol},
    targets::{Client, Launch, Pipes, Says, Target, store::Store},
};
use store::{
    api::{KeyType, NodeId},
    config::{
        ClockSkew, ClusterConfig, NodeConfig, Partitioning, ReadMode, RoutingMode, SESSION_IDLE_MS,
        StorageKind, TestOptions, TrimConfig,
    },
    node::control::Notice,
};
use tokio::{
    io::AsyncReadExt,
    net::{TcpListener, TcpStream},
    sync::broadcast,
    time::timeout,
};

/// Listens nowhere, but says so; obeys every command; ends when its standard input closes, like a node.
const OBEDIENT: &str = r#"
echo "started $2" >&2
echo '{"event":"listening","node":1,"address":"'"$ADDRESS"'","boot":1}'
echo '{"event":"open","table":[[1,[1,2]]]}'
echo '{"event":"leading","partition":1,"ballot":{"config":0,"number":1,"priority":0,"node":1}}'
echo 'this is no notice'
commands=0
while read -r command; do
    commands=$((commands + 1))
    echo "got $command" >&2
    echo '{"event":"done","command":'$commands'}'
done
"#;

/// Ends before it listens.
const FAILING: &str = r"
for line in $(seq 100); do echo line $line >&2; done
echo 'cannot open the log' >&2
exit 7
";

/// Never listens.
const SILENT: &str = "echo 'thinking' >&2; read -r command";

/// Ends by itself when told anything.
const DYING: &str = r#"
echo '{"event":"listening","node":1,"address":"127.0.0.1:9","boot":1}'
read -r command
echo 'out of memory' >&2
kill -ABRT $$
"#;

/// Says that it listens, and then heeds nothing that can be ignored: neither the end of its standard input, nor the hang-up
/// that the kernel sends to a stopped process whose parent dies.
const STUBBORN: &str = r#"
trap '' HUP TERM INT
echo '{"event":"listening","node":1,"address":"127.0.0.1:9","boot":1}'
exec sleep 600
"#;

struct World {
    folder: tempfile::TempDir,
    network: Arc<Network>,
    /// What the nodes claim to listen on.
    listener: TcpListener,
}

impl World {
    async fn new() -> Self {
        let network = Arc::new(Network::start(&[1, 2], &[1], Protocol::Frames, 1).await.unwrap());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        Self { folder: tempfile::tempdir().unwrap(), network, listener }
    }

    async fn start(&self, script: &str) -> Result<Cluster, StartError> {
        let spec = spec(self.folder.path(), script, &self.listener.local_addr().unwrap().to_string());
        soon(Cluster::start(spec, Arc::clone(&self.network))).await
    }

    /// A client's connection to `node` gets through.
    async fn reaches(&self, node: u64) {
        let address = self.network.address(Link::client(1, node));
        let (dialed, accepted) =
            soon(async { tokio::join!(TcpStream::connect(address), self.listener.accept()) }).await;
        dialed.unwrap();
        accepted.unwrap();
    }

    async fn refuses(&self, node: u64) {
        // the dialer may learn of the reset before it learns that it is connected
        if let Ok(mut stream) = TcpStream::connect(self.network.address(Link::client(1, node))).await {
            soon(stream.read(&mut [0])).await.expect_err("the connection is reset");
        }
    }
}

/// Two nodes that run `script` in a shell.
fn spec(run_dir: &Path, script: &str, address: &str) -> ClusterSpec {
    let path = run_dir.join("node.sh");
    std::fs::write(&path, format!("ADDRESS={address}\n{script}")).unwrap();
    spec_of(run_dir, vec!["/bin/sh".to_owned(), path.to_str().unwrap().to_owned()])
}

/// Two nodes of this program.
fn spec_of(run_dir: &Path, command: Vec<String>) -> ClusterSpec {
    let configs = BTreeMap::from([1, 2].map(|node| (node, config(node, run_dir))));
    ClusterSpec {
        target: Arc::new(Store::new(command, configs, run_dir, false)),
        nodes: vec![1, 2],
        run_dir: run_dir.to_owned(),
        start_deadline: Duration::from_secs(20),
    }
}

fn config(node: u64, run_dir: &Path) -> NodeConfig {
    let cluster = ClusterConfig {
        name: "test".to_owned(),
        key_type: KeyType::Integer,
        partitioning: Partitioning::Range,
        partitions: Vec::new(),
        threshold: 2,
        heartbeat_ms: 50,
        missed_rounds: 4,
        lease: None,
        request_timeout_ms: 1000,
        session_idle_ms: SESSION_IDLE_MS,
        storage: StorageKind::Memory,
        routing: RoutingMode::Forward,
        reads: ReadMode::Linearizable,
        trimming: TrimConfig::default(),
        preset: Vec::new(),
    };
    NodeConfig {
        node,
        listen: "127.0.0.1:0".to_owned(),
        peers: BTreeMap::new(),
        data: run_dir.join("data"),
        trace: None,
        clock: ClockSkew::default(),
        cluster,
        test: TestOptions::default(),
    }
}

async fn soon<T>(work: impl Future<Output = T>) -> T {
    timeout(Duration::from_secs(30), work).await.expect("done before the deadline")
}

/// The first event that `wanted` finds something in.
async fn find<T>(
    events: &mut broadcast::Receiver<ClusterEvent>,
    mut wanted: impl FnMut(ClusterEvent) -> Option<T>,
) -> T {
    soon(async {
        loop {
            if let Some(found) = wanted(events.recv().await.unwrap()) {
                return found;
            }
        }
    })
    .await
}

fn state_of(process: u32) -> Option<char> {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    stat.rsplit(')').next()?.trim_start().chars().next()
}

/// True when there is no such process, or only its remains, which someone has yet to reap.
fn is_gone(process: u32) -> bool {
    state_of(process).is_none_or(|state| state == 'Z' || state == 'X')
}

async fn gone(process: u32) {
    soon(async {
        while !is_gone(process) {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    })
    .await;
}

#[tokio::test]
async fn nodes_are_started_with_their_configuration_and_reached_through_the_network() {
    let world = World::new().await;
    world.refuses(1).await;
    let cluster = world.start(OBEDIENT).await.unwrap();
    assert!(cluster.is_running(1) && cluster.is_running(2));
    world.reaches(1).await;
    world.reaches(2).await;
    soon(cluster.wait_open(Duration::from_secs(20))).await.unwrap();

    let path = world.folder.path().join("data/node-2.json");
    let written: NodeConfig = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    assert_eq!(written, config(2, world.folder.path()));
    let log = std::fs::read_to_string(world.folder.path().join("logs/node-2.log")).unwrap();
    assert_eq!(log, format!("started {}\n", path.display()));

    let processes = [1, 2].map(|node| cluster.process_id(node).unwrap());
    soon(cluster.shutdown()).await;
    assert!(processes.into_iter().all(is_gone));
}

#[tokio::test]
async fn a_killed_node_is_refused_until_it_is_started_again() {
    let world = World::new().await;
    let cluster = world.start(OBEDIENT).await.unwrap();
    let mut events = cluster.events();
    let first = cluster.process_id(1).unwrap();

    let killed = soon(cluster.kill(1)).await.unwrap();
    assert!(killed.requested < killed.effective);
    assert!(!cluster.is_running(1) && state_of(first).is_none(), "reaped");
    assert!(cluster.is_running(2));
    world.refuses(1).await;
    let (at, end) = find(&mut events, |event| match event.what {
        NodeEvent::Exited { status, expected, .. } => Some((event.at, (event.node, status, expected))),
        _ => None,
    })
    .await;
    assert_eq!(end, (1, "was killed by signal 9".to_owned(), true));
    assert_eq!(at, killed.effective);
    assert!(matches!(cluster.kill(1).await, Err(ControlError::NotRunning { node: 1 })));

    soon(cluster.restart(1)).await.unwrap();
    assert!(cluster.is_running(1) && cluster.process_id(1) != Some(first));
    world.reaches(1).await;
    assert!(matches!(cluster.restart(1).await, Err(StartError::Running { node: 1 })));
    let log = std::fs::read_to_string(world.folder.path().join("logs/node-1.log")).unwrap();
    assert_eq!(log.lines().count(), 2, "the log of the first life is kept: {log}");
}

#[tokio::test]
async fn a_paused_node_stands_still_and_can_be_killed() {
    let world = World::new().await;
    let cluster = world.start(OBEDIENT).await.unwrap();
    let process = cluster.process_id(1).unwrap();
    soon(cluster.pause(1)).await.unwrap();
    assert_eq!(state_of(process), Some('T'));
    assert!(cluster.is_paused(1) && cluster.is_running(1) && !cluster.is_paused(2));
    world.reaches(1).await;

    soon(cluster.resume(1)).await.unwrap();
    assert!(state_of(process) != Some('T') && !cluster.is_paused(1));
    soon(cluster.clock(1, ClockSkew::default())).await.unwrap();

    soon(cluster.pause(1)).await.unwrap();
    soon(cluster.kill(1)).await.unwrap();
    assert!(!cluster.is_paused(1) && is_gone(process));
    assert!(matches!(cluster.pause(1).await, Err(ControlError::NotRunning { .. })));
}

#[tokio::test]
async fn a_clock_command_is_in_effect_when_the_node_says_so() {
    let world = World::new().await;
    let cluster = world.start(OBEDIENT).await.unwrap();
    for rate_ppm in [100, -100, 0] {
        soon(cluster.clock(1, ClockSkew { rate_ppm, offset_ms: 0 })).await.unwrap();
    }
    let log = std::fs::read_to_string(world.folder.path().join("logs/node-1.log")).unwrap();
    assert!(log.ends_with("got {\"clock\":{\"rate_ppm\":0,\"offset_ms\":0}}\n"), "{log}");
    soon(cluster.kill(1)).await.unwrap();
    soon(cluster.restart(1)).await.unwrap();
    soon(cluster.clock(1, ClockSkew::default())).await.unwrap();
}

#[tokio::test]
async fn what_nodes_say_is_heard_and_their_death_noticed() {
    let world = World::new().await;
    let cluster = world.start(DYING).await.unwrap();
    let mut events = cluster.events();
    let error = soon(cluster.clock(2, ClockSkew::default())).await.unwrap_err();
    assert!(matches!(error, ControlError::Exited { node: 2, .. }), "{error}");
    let (status, log) = find(&mut events, |event| match event.what {
        NodeEvent::Exited { status, expected: false, log } if event.node == 2 => Some((status, log)),
        _ => None,
    })
    .await;
    assert_eq!((status.as_str(), log.as_str()), ("was killed by signal 6", "out of memory"));
    assert!(!cluster.is_running(2) && cluster.is_running(1));
    world.refuses(2).await;
    assert!(soon(cluster.wait_open(Duration::from_secs(20))).await.is_err(), "one node is dead");
}

/// Gives up over an assertion when told anything, and is killed before it has aborted.
const GIVING_UP: &str = r#"
echo '{"event":"listening","node":1,"address":"127.0.0.1:9","boot":1}'
read -r command
echo '{"event":"gave-up","text":"SP3: a decided log only grows"}'
echo 'last words' >&2
kill -KILL $$
"#;

#[tokio::test]
async fn a_death_of_its_own_is_no_planned_one_even_if_the_harness_kills_it_at_that_moment() {
    let world = World::new().await;
    let cluster = world.start(DYING).await.unwrap();
    soon(cluster.kill(1)).await.unwrap();
    assert_eq!(cluster.deaths(), [], "it was killed");
    let process = cluster.process_id(2).unwrap();
    let dead = rustix::process::Pid::from_raw(process as i32).unwrap();
    rustix::process::kill_process(dead, rustix::process::Signal::ABORT).unwrap();
    // nobody can reap it while this thread does not wait for anything
    let deadline = harness::clock::boottime_ns() + 30_000_000_000;
    while state_of(process) != Some('Z') {
        assert!(harness::clock::boottime_ns() < deadline, "it does not die");
        std::thread::yield_now();
    }
    soon(cluster.kill(2)).await.unwrap();
    let cause = Cause::Unknown("was killed by signal 6".to_owned());
    assert_eq!(cluster.deaths(), [Death { node: 2, cause, log: String::new() }]);
    soon(cluster.restart(2)).await.unwrap();
    soon(cluster.clock(2, ClockSkew::default())).await.unwrap_err();
    assert_eq!(cluster.deaths().len(), 2, "who knows of its end finds it among the deaths");
}

#[tokio::test]
async fn a_core_that_gave_up_is_a_death_whatever_ended_its_process() {
    let world = World::new().await;
    let cluster = world.start(GIVING_UP).await.unwrap();
    let error = soon(cluster.kill_in_write(2, Duration::from_secs(20))).await;
    assert!(error.is_ok(), "it died when told: {error:?}");
    let cause = Cause::Assertion("SP3: a decided log only grows".to_owned());
    let death = Death { node: 2, cause, log: "last words".to_owned() };
    assert_eq!(death.to_string(), "node 2's core gave up: SP3: a decided log only grows");
    assert_eq!(cluster.deaths(), [death]);
}

#[tokio::test]
async fn leadership_follows_the_notices_and_lines_that_are_none_are_reported() {
    let world = World::new().await;
    let cluster = world.start(OBEDIENT).await.unwrap();
    for node in [1, 2] {
        soon(cluster.kill(node)).await.unwrap();
    }
    assert_eq!(cluster.leader(1), None, "the dead do not lead");
    let mut events = cluster.events();
    soon(cluster.restart(1)).await.unwrap();
    let line = find(&mut events, |event| match event.what {
        NodeEvent::Unparsable { line } => Some(line),
        _ => None,
    })
    .await;
    assert_eq!(line, "this is no notice");
    let (leader, ballot) = cluster.leader(1).unwrap();
    assert_eq!((leader, ballot.number), (1, 1));
    assert_eq!(cluster.leader_changes(), BTreeMap::from([(1, 0)]));
    assert_eq!(cluster.leaders(), BTreeMap::from([(1, (1, ballot))]));
    soon(cluster.clock(1, ClockSkew::default())).await.unwrap();
    let done = find(&mut events, |event| match event.what {
        NodeEvent::Notice(Notice::Done { command }) => Some(command),
        _ => None,
    });
    assert_eq!(done.await, 1);
}

#[tokio::test]
async fn a_node_that_ends_before_it_listens_shows_why() {
    let world = World::new().await;
    let Err(error) = world.start(FAILING).await else { panic!("it cannot start") };
    let text = error.to_string();
    assert!(text.contains("exited with status 7 before it listened"), "{text}");
    assert!(text.ends_with("line 99\nline 100\ncannot open the log"), "{text}");
    assert!(!text.contains("line 86\n"), "only the last lines: {text}");
}

#[tokio::test]
async fn a_node_that_never_listens_is_killed_at_the_deadline() {
    let world = World::new().await;
    let mut spec = spec(world.folder.path(), SILENT, "");
    spec.start_deadline = Duration::from_millis(300);
    let Err(error) = soon(Cluster::start(spec, Arc::clone(&world.network))).await else {
        panic!("it cannot start")
    };
    assert!(matches!(&error, StartError::Silent { log, .. } if log == "thinking"), "{error}");
}

#[tokio::test]
async fn a_program_that_does_not_exist_is_named() {
    let world = World::new().await;
    let spec = spec_of(world.folder.path(), vec!["/no/such/program".to_owned()]);
    let Err(error) = soon(Cluster::start(spec, Arc::clone(&world.network))).await else {
        panic!("it cannot start")
    };
    assert!(error.to_string().contains("/no/such/program"), "{error}");
}

#[tokio::test]
async fn dropping_a_cluster_kills_its_nodes() {
    let world = World::new().await;
    let cluster = world.start(OBEDIENT).await.unwrap();
    soon(cluster.pause(2)).await.unwrap();
    let processes = [1, 2].map(|node| cluster.process_id(node).unwrap());
    drop(cluster);
    for process in processes {
        gone(process).await;
    }
}

/// Names the folder in which a copy of this program, started by the test below, starts a cluster.
const DOOMED: &str = "HARNESS_TEST_DOOMED";

/// Not a test but a role: starts a cluster with a paused node, tells its processes, and waits to be killed.
#[tokio::test]
async fn doomed_harness() {
    let Some(folder) = std::env::var_os(DOOMED).map(PathBuf::from) else { return };
    let network = Arc::new(Network::start(&[1, 2], &[], Protocol::Frames, 1).await.unwrap());
    let cluster = Cluster::start(spec(&folder, STUBBORN, ""), network).await.unwrap();
    cluster.pause(2).await.unwrap();
    println!("\nnodes {} {}", cluster.process_id(1).unwrap(), cluster.process_id(2).unwrap());
    std::future::pending::<()>().await;
}

#[tokio::test]
async fn no_node_outlives_a_killed_harness_not_even_a_paused_one() {
    let folder = tempfile::tempdir().unwrap();
    let mut harness = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "doomed_harness", "--nocapture"])
        .env(DOOMED, folder.path())
        .stdout(Stdio::piped())
        .process_group(0)
        .spawn()
        .unwrap();
    let lines = BufReader::new(harness.stdout.take().unwrap()).lines().map_while(Result::ok);
    let nodes: Vec<u32> = lines
        .filter_map(|line| line.strip_prefix("nodes ").map(str::to_owned))
        .take(1)
        .flat_map(|nodes| nodes.split(' ').map(|node| node.parse().unwrap()).collect::<Vec<_>>())
        .collect();
    assert_eq!(nodes.len(), 2, "the cluster was started");
    assert_eq!(state_of(nodes[1]), Some('T'));
    harness.kill().unwrap();
    harness.wait().unwrap();
    for node in nodes {
        gone(node).await;
    }
}

/// A system that nobody knows how to follow: its nodes run on, whatever is known of them.
#[derive(Debug)]
struct Careless {
    /// The one who follows makes a mistake.
    panics: bool,
}

impl Target for Careless {
    fn launch(&self, _: NodeId) -> io::Result<Launch> {
        Ok(Launch { command: ["sleep", "600"].map(str::to_owned).to_vec(), ..Launch::default() })
    }

    fn follow(&self, _: Pipes, _: Says) -> BoxFuture<'static, ()> {
        let panics = self.panics;
        Box::pin(async move { assert!(!panics, "what is this line?") })
    }

    fn clients(&self, _: BTreeMap<NodeId, SocketAddr>, _: &[u64]) -> Vec<Box<dyn Client>> {
        Vec::new()
    }

    fn data(&self, _: NodeId) -> PathBuf {
        PathBuf::new()
    }
}

#[tokio::test]
async fn a_node_that_is_followed_no_more_is_killed_and_told_of() {
    for (panics, words) in [
        (true, "is followed no more, since the harness panicked: what is this line?"),
        (false, "closed its standard output and ran on"),
    ] {
        let world = World::new().await;
        let spec = ClusterSpec {
            target: Arc::new(Careless { panics }),
            nodes: vec![1],
            run_dir: world.folder.path().to_owned(),
            start_deadline: Duration::from_secs(20),
        };
        let started = soon(Cluster::start(spec, Arc::clone(&world.network))).await;
        let Err(StartError::Exited { node: 1, status, .. }) = started else {
            panic!("a node is trusted of which nothing is known");
        };
        assert_eq!(status, words);
    }
}
