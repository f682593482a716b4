//! The store's own command line against real clusters that are started by hand, from one file and from flags.

use std::{
    collections::BTreeMap,
    io::{BufRead, BufReader, Read, Write},
    net::TcpListener,
    path::Path,
    process::{Child, ChildStdin, Command, Output, Stdio},
    sync::{
        Arc, Condvar, Mutex,
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
    thread::JoinHandle,
    time::Duration,
};

use serde_json::Value;
use store::{
    api::{Key, NodeId, Operation},
    client::{self, Client},
    directory::Directory,
    node::control::Notice,
};
use tokio::time::Instant;

const NAME: &str = "by-hand";

/// Three nodes that were started by hand.
struct Cluster {
    folder: tempfile::TempDir,
    addresses: BTreeMap<NodeId, String>,
    running: BTreeMap<NodeId, Child>,
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for node in self.running.keys().copied().collect::<Vec<_>>() {
            self.kill(node);
        }
    }
}

impl Cluster {
    /// The ports are found by binding them all at once, and let go.
    fn new() -> Self {
        let bound: Vec<_> =
            (1..=3).map(|node| (node, TcpListener::bind("127.0.0.1:0").expect("a port"))).collect();
        let address = |listener: &TcpListener| listener.local_addr().expect("an address").to_string();
        let addresses = bound.iter().map(|(node, listener)| (*node, address(listener))).collect();
        let folder = tempfile::tempdir().expect("a temporary folder");
        Self { folder, addresses, running: BTreeMap::new() }
    }

    /// All nodes, from one file with these lines above the nodes.
    fn from_file(lines: &str) -> Self {
        let mut cluster = Self::new();
        let line = |(node, address): (&NodeId, &String)| format!("{node} = \"{address}\"");
        let nodes = cluster.addresses.iter().map(line).collect::<Vec<_>>().join("\n");
        let path = cluster.folder.path().join("cluster.toml");
        std::fs::write(&path, format!("name = \"{NAME}\"\n{lines}\n[nodes]\n{nodes}")).expect("written");
        for node in 1..=3 {
            cluster.start(node, &["--file", path.to_str().expect("text")]).expect("it starts");
        }
        cluster
    }

    /// All nodes, each from flags.
    fn from_flags(flags: &[&str]) -> Self {
        let mut cluster = Self::new();
        let peers: Vec<_> =
            cluster.addresses.iter().map(|(node, address)| format!("{node}={address}")).collect();
        for node in 1..=3 {
            let others: Vec<_> =
                peers.iter().filter(|peer| !peer.starts_with(&format!("{node}="))).cloned().collect();
            let (others, own) = (others.join(","), cluster.addresses[&node].clone());
            let mut arguments = vec!["--listen", &own, "--peers", &others, "--name", NAME];
            arguments.extend(flags);
            cluster.start(node, &arguments).expect("it starts");
        }
        cluster
    }

    /// Starts a node whose standard input is closed, and waits until it listens; else what it says on standard error.
    fn start(&mut self, node: NodeId, arguments: &[&str]) -> Result<(), String> {
        let mut child = store(&["node", "--id", &node.to_string()])
            .arg("--data")
            .arg(self.folder.path())
            .args(arguments)
            .stdin(Stdio::null())
            .spawn()
            .expect("the node starts");
        let mut lines = BufReader::new(child.stdout.take().expect("its output"));
        let mut line = String::new();
        while !matches!(serde_json::from_str(&line), Ok(Notice::Listening { .. })) {
            line.clear();
            if lines.read_line(&mut line).expect("its output can be read") == 0 {
                let mut said = String::new();
                child.stderr.take().expect("its log").read_to_string(&mut said).expect("its log can be read");
                let code = child.wait().expect("it has ended").code();
                return Err(format!("exit code {code:?}: {said}"));
            }
        }
        std::thread::spawn(move || std::io::copy(&mut lines, &mut std::io::sink()));
        self.running.insert(node, child);
        Ok(())
    }

    fn kill(&mut self, node: NodeId) {
        let mut child = self.running.remove(&node).expect("it runs");
        child.kill().expect("it can be killed");
        child.wait().expect("it ends");
    }

    /// Runs a command to its end, at a node.
    fn ask(&self, node: NodeId, arguments: &[&str]) -> Output {
        let output = store(arguments).args(["--cluster", NAME, "--address", &self.addresses[&node]]).output();
        output.expect("it runs")
    }

    /// What `status --json` says at a node once it satisfies a condition.
    fn status_when(&self, node: NodeId, condition: impl Fn(&Value) -> bool) -> Value {
        let deadline = Instant::now() + Duration::from_secs(20);
        loop {
            let output = self.ask(node, &["status", "--json"]);
            assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
            let status = serde_json::from_slice(&output.stdout).expect("JSON");
            if condition(&status) {
                return status;
            }
            assert!(Instant::now() < deadline, "not within 20 s: {status:#}");
        }
    }

    /// Who leads partition 1, once somebody does and every replica knows all that is decided.
    fn leader(&self, node: NodeId) -> NodeId {
        let settled = |status: &Value| {
            let replicas = status["partitions"][0]["replicas"].as_array().expect("replicas");
            status["partitions"][0]["leader"].is_u64()
                && replicas.iter().all(|replica| replica["lag"] == 0 && replica["role"] != "recovering")
        };
        let status = self.status_when(node, settled);
        status["partitions"][0]["leader"].as_u64().expect("a leader")
    }

    /// A node that does not lead, which hands the next client that joins to `first`.
    fn hands_next(&self, asked: NodeId, first: NodeId) {
        let before = (first + 1) % 3 + 1;
        while self.directory(asked).entry != before {}
    }

    fn directory(&self, node: NodeId) -> Directory {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async {
            let mut client = Client::connect(&self.addresses[&node], NAME).await.expect("it listens");
            client.directory().await.expect("it tells")
        })
    }

    /// A text with what differs from run to run masked: addresses, ballots, the leader's number.
    fn masked(&self, text: &str, leader: NodeId) -> String {
        let mut masked = text.to_owned();
        for (node, address) in &self.addresses {
            let at = if *node == leader { "LEADER" } else { "FOLLOWER" };
            masked = masked.replace(&format!("node {node} at {address}"), at).replace(address, at);
        }
        let masked = masked.replace(&format!("node {leader}"), "LEADER");
        let word = |word: &str| match word.split_once("@n") {
            Some((_, node)) => {
                format!("BALLOT{}", node.trim_start_matches(|digit: char| digit.is_ascii_digit()))
            }
            None => word.to_owned(),
        };
        let line = |line: &str| line.split(' ').map(word).collect::<Vec<_>>().join(" ");
        masked.lines().map(line).collect::<Vec<_>>().join("\n")
    }
}

fn store(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_store"));
    command.args(arguments).env("RUST_LOG", "error").stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn status_puts_all_nodes_side_by_side_and_one_that_answers_is_enough() {
    let mut cluster = Cluster::from_file("partitions = 2\nheartbeat_ms = 50\n");
    let leader = cluster.leader(1);
    let both = |status: &Value| status["partitions"][1]["lease_ms"].is_u64();
    let status = cluster.status_when(2, both);
    let nodes: Vec<_> = status["nodes"].as_array().expect("nodes").iter().collect();
    for (node, number) in nodes.iter().zip(1..) {
        let address = &cluster.addresses[&number];
        let expected = serde_json::json!(
            { "node": number, "address": address, "state": "open", "boot": 1, "suspected": [] }
        );
        assert_eq!(**node, expected);
    }
    let one = &status["partitions"][0];
    assert_eq!((&one["partition"], &one["keys"]), (&1.into(), &"by hash, 1 of 2".into()));
    assert!(one["ballot"]["node"] == leader && one["lease_ms"].as_u64().is_some_and(|left| left <= 500));
    let roles: Vec<_> =
        one["replicas"].as_array().expect("replicas").iter().map(|replica| &replica["role"]).collect();
    let expected: Vec<_> = (1..=3).map(|node| if node == leader { "leader" } else { "follower" }).collect();
    assert_eq!(roles, expected);

    let follower = leader % 3 + 1;
    cluster.kill(follower);
    let alive = follower % 3 + 1;
    let suspects =
        |status: &Value| status["nodes"][alive as usize - 1]["suspected"] == serde_json::json!([follower]);
    let status = cluster.status_when(alive, suspects);
    let dead = &status["nodes"][follower as usize - 1];
    assert_eq!(dead["state"], "no-answer");
    assert!(dead["reason"].as_str().is_some_and(|why| why.starts_with("cannot connect: ")), "{dead}");
    assert_eq!(
        status["partitions"][0]["replicas"][follower as usize - 1],
        serde_json::json!({ "node": follower })
    );
    let table = text(&cluster.ask(alive, &["status"]).stdout);
    assert!(
        table.starts_with("node  address") && table.contains(&format!("{follower}: no answer")),
        "{table}"
    );
    // an address that answers may stand behind one that does not
    let seeds = format!("{},{}", cluster.addresses[&follower], cluster.addresses[&alive]);
    let output = store(&["status", "--cluster", NAME, "--address", &seeds]).output().expect("it runs");
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let output = cluster.ask(follower, &["status"]);
    assert_eq!(output.status.code(), Some(4));
    assert!(text(&output.stderr).starts_with("error: no node of the cluster answers: cannot connect: "));
}

#[test]
fn one_address_is_enough_to_find_the_leader_and_stderr_tells_how() {
    let cluster =
        Cluster::from_file("key_type = \"string\"\nsplit_at = [\"m\"]\npreset = { a = \"first\" }\n");
    let leader = cluster.leader(1);
    let follower = leader % 3 + 1;
    cluster.hands_next(follower, follower);
    let output = cluster.ask(follower, &["get", "a"]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    assert_eq!(
        cluster.masked(&text(&output.stdout), leader),
        "first\n  version 0, answered by LEADER under ballot BALLOT, fast read"
    );
    assert_eq!(cluster.masked(&text(&output.stderr), leader), "redirected to the leader, LEADER");
    let code = |arguments: &[&str]| cluster.ask(1, arguments).status.code();
    assert_eq!(code(&["cas", "a", "second", "--expected", "other"]), Some(1), "not written is no success");
    assert_eq!(code(&["get", "nobody"]), Some(0), "not found is a success");
    assert_eq!(code(&["get", "a", "--cluster-name", "x"]), Some(2), "what cannot be understood");
    assert_eq!(code(&["put", "-5", "-6"]), Some(0), "a number may be negative");
    assert_eq!(code(&["cas", "-5", "not found", "--expected", "-6"]), Some(0));
    let held = |key: &str| {
        let output = cluster.ask(leader, &["get", key, "--json"]);
        let answer: Value = serde_json::from_slice(&output.stdout).expect("JSON");
        answer["outcome"]["Value"].clone()
    };
    assert_eq!((held("-5"), held("nobody")), (Value::from("not found"), Value::Null));
}

/// The others are up, and no majority is: what happens again and again is told once.
#[test]
fn what_a_request_meets_is_told_once() {
    let mut cluster = Cluster::from_flags(&["--memory"]);
    cluster.leader(1);
    cluster.kill(2);
    cluster.kill(3);
    let output = cluster.ask(1, &["put", "1", "one", "--timeout-ms", "3000"]);
    assert_ne!(output.status.code(), Some(0));
    let said = text(&output.stderr);
    assert!(said.lines().count() <= 10, "{said}");
}

/// Two that were started for different clusters: each says why it is not let in, and whoever refuses it says so once.
#[test]
fn a_node_that_is_refused_says_so_and_fills_no_log() {
    let mut cluster = Cluster::new();
    let (say, said) = mpsc::channel();
    for (node, other, name) in [(1, 2, "one"), (2, 1, "another")] {
        let peer = format!("{other}={}", cluster.addresses[&other]);
        let id = node.to_string();
        let mut child = store(&["node", "--memory", "--id", &id, "--name", name])
            .args(["--listen", &cluster.addresses[&node], "--peers", &peer])
            .env("RUST_LOG", "warn")
            .stdin(Stdio::null())
            .spawn()
            .expect("the node starts");
        let (log, say) = (BufReader::new(child.stderr.take().expect("its log")), say.clone());
        std::thread::spawn(move || {
            log.lines().map_while(Result::ok).try_for_each(|line| say.send((node, line)))
        });
        cluster.running.insert(node, child);
    }
    let mut told: BTreeMap<(NodeId, bool), u64> = BTreeMap::new();
    let (mut limit, mut all) = (Duration::from_secs(20), false);
    // for a second after each of the four was told: at one dial in 20 ms there would be fifty lines of each
    while let Ok((node, line)) = said.recv_timeout(limit) {
        *told.entry((node, line.contains("the peer refuses this node"))).or_default() += 1;
        if told.len() == 4 && !all {
            (limit, all) = (Duration::from_secs(1), true);
        }
    }
    let once = [(1, false), (1, true), (2, false), (2, true)].map(|who| (who, 1));
    assert_eq!(told, BTreeMap::from(once));
}

/// `store repl` with its standard input in the test's hands.
struct Repl {
    child: Child,
    input: ChildStdin,
    lines: mpsc::Receiver<String>,
    said: String,
}

impl Repl {
    fn start(cluster: &Cluster, node: NodeId, flags: &[&str]) -> Self {
        let address = &cluster.addresses[&node];
        let mut child = store(&["repl", "--cluster", NAME, "--address", address, "--timeout-ms", "15000"])
            .args(flags)
            .stdin(Stdio::piped())
            .spawn()
            .expect("it starts");
        let input = child.stdin.take().expect("its input");
        let output = BufReader::new(child.stdout.take().expect("its output"));
        let (give, lines) = mpsc::channel();
        std::thread::spawn(move || output.lines().map_while(Result::ok).try_for_each(|line| give.send(line)));
        let mut repl = Self { child, input, lines, said: String::new() };
        repl.read_until("cluster ");
        repl
    }

    /// Asks, and reads until a line begins so.
    fn ask(&mut self, line: &str, last: &str) {
        writeln!(self.input, "{line}").expect("it reads");
        self.read_until(last);
    }

    /// Reads until a line begins so.
    fn read_until(&mut self, last: &str) {
        let deadline = Instant::now() + Duration::from_secs(50);
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let line = self.lines.recv_timeout(left);
            let line =
                line.unwrap_or_else(|end| panic!("no line begins with {last:?} ({end}): {}", self.said));
            self.said.extend([line.as_str(), "\n"]);
            if line.starts_with(last) {
                return;
            }
        }
    }

    /// Leaves; all that was said.
    fn quit(mut self) -> String {
        writeln!(self.input, "quit").expect("it reads");
        self.said.extend(self.lines.iter().map(|line| line + "\n"));
        assert!(self.child.wait().expect("it ends").success());
        std::mem::take(&mut self.said)
    }
}

impl Drop for Repl {
    fn drop(&mut self) {
        // it has ended by itself unless the test fails
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn a_session_tells_its_user_what_happens() {
    let mut cluster = Cluster::from_file("heartbeat_ms = 50\n");
    let leader = cluster.leader(1);
    let follower = leader % 3 + 1;
    cluster.hands_next(follower, follower);
    let mut repl = Repl::start(&cluster, follower, &[]);
    let answered = "  version";
    for line in ["get 1", "put 1 \"one and only\"", "cas 1 absent two", "cas 1 \"one and only\" two", "get 1"]
    {
        repl.ask(line, answered);
    }
    repl.ask("delete 1", answered);
    repl.ask("get seven", "'seven'");
    repl.ask("drop 1", "'drop'");
    repl.ask("put 1", "write");
    repl.ask("help", "Keys");
    let before = repl.said.clone();
    cluster.kill(leader);
    repl.ask("put 2 three", answered);
    repl.ask("get 2", answered);
    let said = repl.quit();
    let masked = cluster.masked(&before, leader);
    let expected = format!(
        "\
cluster 'by-hand': 3 nodes, 1 partitions; asking node {follower} first; `help` lists the commands
> get 1
  redirected to the leader, LEADER
not found
  version 0, answered by LEADER under ballot BALLOT, fast read
> put 1 \"one and only\"
written
  version 1, answered by LEADER under ballot BALLOT
> cas 1 absent two
not written: it holds one and only
  version 1, answered by LEADER under ballot BALLOT
> cas 1 \"one and only\" two
written
  version 3, answered by LEADER under ballot BALLOT
> get 1
two
  version 3, answered by LEADER under ballot BALLOT, fast read
> delete 1
deleted
  version 4, answered by LEADER under ballot BALLOT
> get seven
'seven' is no key: the keys of this cluster are integers
> drop 1
'drop' is no command; `help` lists them
> put 1
write `put KEY VALUE`; `help` says more
> help
get KEY                 read a key
put KEY VALUE           write a key
cas KEY EXPECTED NEW    write a key if it holds what is expected; EXPECTED is `absent` for a key that is not there
delete KEY              remove a key
status                  partitions, leaders, leases, and how far each replica is
help                    this
quit                    leave; so does the end of input
Keys and values with spaces in them stand in double quotes, in which \\\" is a quote and \\\\ a backslash."
    );
    assert_eq!(masked, expected);
    // how often it is told to try elsewhere depends on how long the election takes
    let after = cluster.masked(&said[before.len()..], leader);
    let mut lines = after.lines();
    assert_eq!(lines.next(), Some("> put 2 three"));
    assert_eq!(lines.next(), Some("  LEADER is gone, trying FOLLOWER"));
    let met: Vec<_> = lines.by_ref().take_while(|line| *line != "written").collect();
    assert!(met.iter().any(|line| line.starts_with("  election in progress, retrying at ")), "{after}");
    for line in met {
        let known = [
            "  election in progress, retrying at ",
            "  redirected to the leader, ",
            "  LEADER is gone, trying ",
        ];
        assert!(known.iter().any(|known| line.starts_with(known)), "{after}");
    }
    let rest: Vec<_> = lines.collect();
    assert_eq!(rest[1..], ["> get 2", "three", rest[3], "> quit"], "the new leader is remembered");
}

/// The answer to the swap is lost with the majority: it is asked for again, and is not taken for somebody else's.
#[test]
fn a_swap_of_a_repl_with_a_session_happens_once() {
    let mut cluster = Cluster::from_file("heartbeat_ms = 50\nrequest_timeout_ms = 300\nlease = \"off\"\n");
    let leader = cluster.leader(1);
    let mut repl = Repl::start(&cluster, leader, &["--exactly-once"]);
    repl.ask("put 1 one", "  version ");
    let others: Vec<_> = (1..=3).filter(|node| *node != leader).collect();
    for node in &others {
        cluster.kill(*node);
    }
    let before = repl.said.len();
    repl.ask("cas 1 one two", "  it may have happened at ");
    let file = cluster.folder.path().join("cluster.toml");
    for node in others {
        cluster.start(node, &["--file", file.to_str().expect("text")]).expect("it comes back");
    }
    repl.read_until("  version ");
    repl.ask("get 1", "  version ");
    let said = repl.quit();
    let after = &said[before..];
    assert!(after.contains("\nwritten\n") && after.contains("\ntwo\n"), "{said}");
}

/// Without leases a leader that is alone goes on taking writes, and cannot tell what becomes of them.
#[test]
fn a_write_without_an_answer_is_unknown_and_never_a_failure() {
    let mut cluster = Cluster::from_flags(&["--without-leases", "--replication", "3", "--memory"]);
    let leader = cluster.leader(1);
    for node in 1..=3 {
        if node != leader {
            cluster.kill(node);
        }
    }
    let output = cluster.ask(leader, &["put", "1", "one", "--timeout-ms", "1000"]);
    assert_eq!(output.status.code(), Some(3), "{}", text(&output.stderr));
    let said = text(&output.stderr);
    assert!(
        said.ends_with(
            "no answer in time\n  the outcome is unknown: it may have happened, or may yet happen\n"
        ),
        "{said}"
    );
}

#[test]
fn a_node_that_is_told_nonsense_says_what_to_write() {
    let mut cluster = Cluster::new();
    let mut refused = |arguments: &[&str]| cluster.start(1, arguments).expect_err("it does not start");
    let refusals = [
        (refused(&[]), "where does node 1 listen?"),
        (refused(&["--peers", "2"]), "expected NUMBER=ADDRESS"),
        (
            refused(&["--listen", "127.0.0.1:0", "--partitions", "3", "--partitioning", "range"]),
            "3 ranges of keys need 2 bounds",
        ),
        (refused(&["--listen", "127.0.0.1:0", "--replication", "2"]), "wants 2 replicas, but only 1 nodes"),
        (refused(&["--file", "nowhere.toml"]), "cannot read nowhere.toml"),
    ];
    for (refusal, expected) in refusals {
        assert!(refusal.starts_with("exit code Some(2)") && refusal.contains(expected), "{refusal}");
    }
    assert!(
        Path::new(cluster.folder.path()).read_dir().expect("a folder").next().is_none(),
        "nothing was made"
    );
}

/// How often something has happened.
#[derive(Default)]
struct Count {
    count: Mutex<usize>,
    grown: Condvar,
}

impl Count {
    fn add(&self) {
        *self.count.lock().expect("a number") += 1;
        self.grown.notify_all();
    }

    /// Waits until it has happened so often more.
    fn grows_by(&self, more: usize) {
        let count = self.count.lock().expect("a number");
        let until = *count + more;
        let limit = Duration::from_secs(20);
        let waited = self.grown.wait_timeout_while(count, limit, |count| *count < until);
        let (_count, waited) = waited.expect("a number");
        assert!(!waited.timed_out(), "not {more} more within {limit:?}");
    }
}

/// A client that writes one thing after another until it is told to stop.
struct Writer {
    written: Arc<Count>,
    stop: Arc<AtomicBool>,
    /// How long each write took, and why some were not answered.
    thread: JoinHandle<(Vec<Duration>, Vec<String>)>,
}

impl Writer {
    fn start(addresses: Vec<String>) -> Self {
        let (written, stop) = (Arc::new(Count::default()), Arc::new(AtomicBool::new(false)));
        let (count, told) = (Arc::clone(&written), Arc::clone(&stop));
        let thread = std::thread::spawn(move || {
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(write_until_told(&addresses, &count, &told))
        });
        Self { written, stop, thread }
    }

    /// Waits for so many writes more.
    fn goes_on(&self, writes: usize) {
        self.written.grows_by(writes);
    }

    fn stop(self) -> (Vec<Duration>, Vec<String>) {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().expect("it has written")
    }
}

async fn write_until_told(
    addresses: &[String],
    written: &Count,
    stop: &AtomicBool,
) -> (Vec<Duration>, Vec<String>) {
    let limit = Duration::from_secs(10);
    let mut cluster = client::Cluster::join(NAME, addresses, limit, |_| ()).await.expect("it joins");
    let (mut took, mut failures) = (Vec::new(), Vec::new());
    while !stop.load(Ordering::Relaxed) {
        let write = Operation::Put { key: Key::Integer(1), value: "x".into() };
        let began = Instant::now();
        if let Err(error) = cluster.call(&write, limit, |_| ()).await.result {
            failures.push(error.to_string());
        }
        took.push(began.elapsed());
        written.add();
    }
    (took, failures)
}

/// The longest writes, longest first, and the usual one.
fn longest(mut took: Vec<Duration>, count: usize) -> (Vec<Duration>, Duration) {
    took.sort_unstable();
    (took.iter().rev().take(count).copied().collect(), took[took.len() / 2])
}

/// An election would wait for the lease of two seconds to end.
#[test]
fn a_leader_is_moved_by_command_and_writes_wait_for_a_few_round_trips_only() {
    const TRANSFERS: usize = 10;
    let cluster = Cluster::from_file("heartbeat_ms = 200\n");
    let leader = cluster.leader(1);
    let addresses: Vec<String> = cluster.addresses.values().cloned().collect();
    let calm = Writer::start(addresses.clone());
    calm.goes_on(50 * TRANSFERS);
    let (calm, _) = longest(calm.stop().0, TRANSFERS);
    let writer = Writer::start(addresses);
    for turn in 1..=TRANSFERS as NodeId {
        writer.goes_on(50);
        let to = (leader + turn) % 3 + 1;
        let output =
            cluster.ask(turn % 3 + 1, &["transfer-leader", "--partition", "1", "--to", &to.to_string()]);
        assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
        let said = cluster.masked(&text(&output.stdout), to);
        assert!(said.starts_with("LEADER leads partition 1 under ballot BALLOT"), "{said}");
    }
    let to = (leader + TRANSFERS as NodeId) % 3 + 1;
    writer.goes_on(1);
    let (took, failures) = writer.stop();
    let (gaps, usual) = longest(took, TRANSFERS);
    println!("a write takes {usual:?}; the longest with {TRANSFERS} hand-overs {gaps:?}, without {calm:?}");
    assert_eq!(failures, Vec::<String>::new(), "what arrives meanwhile waits");
    assert!(gaps[0] < Duration::from_secs(1), "{gaps:?}");
    assert_eq!(cluster.leader(2), to, "nobody has taken the lead back");
    let refused = cluster.ask(to, &["transfer-leader", "--partition", "1", "--to", "9"]);
    assert_eq!(refused.status.code(), Some(4));
    assert!(
        text(&refused.stderr)
            .ends_with("error: node 9 does not replicate the partition: nodes [1, 2, 3] do\n")
    );
    let refused = cluster.ask(to, &["transfer-leader", "--partition", "2", "--to", "1"]);
    assert_eq!(refused.status.code(), Some(4));
    assert!(text(&refused.stderr).ends_with("error: there is no partition 2\n"));
}
