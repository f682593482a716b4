//! What a node does that starts again: on a disk whose last write is torn, on one that is damaged, and on one that was full. Real
//! node processes; every byte of the files has its turn in `node::storage`.

use std::{
    io::{BufRead, BufReader, Read},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::mpsc::{Receiver, channel},
    thread,
    time::Duration,
};

use store::{
    api::{Key, Operation, Outcome},
    client::Client,
    node::{control::Notice, storage::tear_log},
};

const NAME: &str = "recovery";

/// How long anything may take.
const LIMIT: Duration = Duration::from_secs(30);

/// A cluster of one node.
struct Node {
    child: Child,
    address: String,
    /// Its log, once it has ended.
    log: Receiver<String>,
}

impl Drop for Node {
    fn drop(&mut self) {
        // it may have ended
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Node {
    /// Starts it on a folder; its log when it ends before it listens.
    fn start(folder: &Path) -> Result<Self, (ExitStatus, String)> {
        Self::run(Command::new(env!("CARGO_BIN_EXE_store")), folder)
    }

    /// The same, and no file that it writes may be longer than that many blocks, as on a disk that is full.
    fn start_within(folder: &Path, blocks: u64) -> Self {
        let mut shell = Command::new("sh");
        let script = format!("trap '' XFSZ; ulimit -f {blocks}; exec \"$0\" \"$@\"");
        shell.args(["-c", &script, env!("CARGO_BIN_EXE_store")]);
        Self::run(shell, folder).unwrap_or_else(|(_, log)| panic!("{log}"))
    }

    fn run(mut command: Command, folder: &Path) -> Result<Self, (ExitStatus, String)> {
        let mut child = command
            .args(["node", "--id", "1", "--listen", "127.0.0.1:0", "--name", NAME, "--data"])
            .arg(folder)
            .env("RUST_LOG", "warn")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the node starts");
        let (tell, log) = channel();
        let mut errors = child.stderr.take().expect("its log");
        thread::spawn(move || {
            let mut text = String::new();
            let _ = errors.read_to_string(&mut text);
            let _ = tell.send(text);
        });
        let mut notices = BufReader::new(child.stdout.take().expect("its output"));
        let address = loop {
            let mut line = String::new();
            if notices.read_line(&mut line).expect("its output can be read") == 0 {
                let status = child.wait().expect("it ends");
                return Err((status, log.recv_timeout(LIMIT).expect("its log")));
            }
            if let Ok(Notice::Listening { address, .. }) = serde_json::from_str(&line) {
                break address;
            }
        };
        thread::spawn(move || std::io::copy(&mut notices, &mut std::io::sink()));
        Ok(Self { child, address, log })
    }

    /// Waits for its end.
    fn end(mut self) -> (ExitStatus, String) {
        let log = self.log.recv_timeout(LIMIT).expect("it ends");
        (self.child.wait().expect("it ends"), log)
    }

    fn kill(mut self) -> String {
        self.child.kill().expect("it can be killed");
        self.end().1
    }

    /// Writes until something fails, at most so many keys; how many were acknowledged.
    async fn write(&self, from: i64, keys: i64, value: &str) -> i64 {
        let mut client = self.client().await;
        for key in from..from + keys {
            let put = Operation::Put { key: Key::Integer(key), value: format!("{value} {key}").into() };
            if client.call(put).await.is_err() {
                return key - from;
            }
        }
        keys
    }

    async fn read(&self, key: i64) -> String {
        let mut client = self.client().await;
        let got = client.call(Operation::Get { key: Key::Integer(key) }).await.expect("it is answered");
        match got.outcome {
            Outcome::Value(Some(value)) => value.to_string(),
            other => panic!("key {key}: {other:?}"),
        }
    }

    /// A client, once it is answered.
    async fn client(&self) -> Client {
        loop {
            if let Ok(mut client) = Client::connect(&self.address, NAME).await
                && client.call(Operation::Get { key: Key::Integer(0) }).await.is_ok()
            {
                return client;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let limited = async { tokio::time::timeout(LIMIT, future).await };
    runtime.block_on(limited).expect("done in time")
}

/// A node that was killed after ten writes: its folder, and the log in it.
fn written() -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let node = Node::start(folder.path()).unwrap_or_else(|(_, log)| panic!("{log}"));
    assert_eq!(block_on(node.write(1, 10, "value")), 10);
    node.kill();
    let log = folder.path().join("node-1/log/1.seg");
    (folder, log)
}

#[test]
fn a_torn_tail_is_cut_off_and_the_log_says_how_much() {
    let (folder, segment) = written();
    tear_log(&folder.path().join("node-1")).expect("torn");
    let node = Node::start(folder.path()).unwrap_or_else(|(_, log)| panic!("{log}"));
    for key in 1..=10 {
        assert_eq!(block_on(node.read(key)), format!("value {key}"));
    }
    let log = node.kill();
    assert!(log.contains("was torn by a crash and never acknowledged: cut off"), "{log}");
    assert!(log.contains(&format!("file={}", segment.display())) && log.contains("bytes=64"), "{log}");
}

#[test]
fn damage_in_the_middle_stops_the_node_and_it_says_what_and_where() {
    let (folder, segment) = written();
    let mut bytes = std::fs::read(&segment).expect("the segment");
    let at = bytes.windows(7).position(|window| window == b"value 5").expect("the fifth write");
    bytes[at] ^= 1;
    std::fs::write(&segment, &bytes).expect("damaged");
    let Err((status, log)) = Node::start(folder.path()) else { panic!("it starts") };
    assert_eq!(status.code(), Some(4), "{log}");
    assert!(log.contains(&format!("{} is damaged: write ", segment.display())), "{log}");
    assert!(log.contains("is not whole, and whole ones follow from byte"), "{log}");
    assert!(log.contains("Otherwise leave this node off"), "{log}");
    assert_eq!(std::fs::read(&segment).expect("the segment"), bytes, "nothing was changed");
    bytes[at] ^= 1;
    std::fs::write(&segment, &bytes).expect("put back");
    let node = Node::start(folder.path()).unwrap_or_else(|(_, log)| panic!("{log}"));
    assert_eq!(block_on(node.read(10)), "value 10");
}

/// A node that is written to until its disk is full ends for that reason. Started again with space, it has all of what it
/// acknowledged; the node that was started again.
fn fills_up(
    node: Node,
    reason: &str,
    with_space: impl FnOnce() -> Result<Node, (ExitStatus, String)>,
) -> Node {
    let value = "x".repeat(1000);
    let acknowledged = block_on(node.write(11, 10_000, &value));
    assert!(acknowledged > 10, "{acknowledged} were acknowledged");
    let (status, log) = node.end();
    assert_eq!(status.code(), Some(4), "{log}");
    assert!(log.contains("the durable log cannot go on") && log.contains(reason), "{log}");
    let node = with_space().unwrap_or_else(|(_, log)| panic!("{log}"));
    for key in 11..11 + acknowledged {
        assert_eq!(block_on(node.read(key)), format!("{value} {key}"));
    }
    assert_eq!(block_on(node.write(1, 1, "again")), 1, "and it serves on");
    assert_eq!(block_on(node.read(1)), "again 1");
    node
}

/// On a disk on which files may be that many blocks long.
fn files_fill_up(blocks: impl Fn(u64) -> u64) {
    let (folder, segment) = written();
    let bytes = std::fs::read(&segment).expect("the segment");
    let used = bytes.iter().rposition(|byte| *byte != 0).expect("it is not empty") as u64;
    let node = Node::start_within(folder.path(), blocks(used));
    let node = fills_up(node, "File too large", || Node::start(folder.path()));
    for key in 2..=10 {
        assert_eq!(block_on(node.read(key)), format!("value {key}"), "from before it was full");
    }
}

#[test]
fn a_full_disk_stops_the_node_and_what_it_acknowledged_is_there_when_there_is_space_again() {
    files_fill_up(|used| used / 512 + 128);
}

#[test]
fn a_node_for_whose_next_segment_there_is_no_space_stops_like_that_too() {
    // the first has one mebibyte, the next has two
    files_fill_up(|_| 3 << 10);
}

/// A file system of so many mebibytes in memory, which only processes in its namespace see.
struct SmallDisk {
    holder: Child,
    folder: tempfile::TempDir,
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // with it goes the last one that holds the namespace
        let _ = self.holder.kill();
        let _ = self.holder.wait();
    }
}

impl SmallDisk {
    /// None where namespaces of users are not allowed.
    fn new(mebibytes: u32) -> Option<Self> {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let script = format!("mount -t tmpfs -o size={mebibytes}m small \"$0\" && echo mounted && exec cat");
        let mut unshare = Command::new("unshare");
        unshare.args(["--user", "--map-root-user", "--mount", "sh", "-c", &script]).arg(folder.path());
        unshare.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut disk = Self { holder: unshare.spawn().ok()?, folder };
        let mut line = String::new();
        let stdout = disk.holder.stdout.take().expect("its output");
        BufReader::new(stdout).read_line(&mut line).expect("its output can be read");
        (line == "mounted\n").then_some(disk)
    }

    /// A command that sees it.
    fn inside(&self, program: &str) -> Command {
        let mut command = Command::new("nsenter");
        command.args(["--preserve-credentials", "--user", "--mount", "--target"]);
        command.arg(self.holder.id().to_string()).arg(program);
        command
    }

    fn node(&self) -> Result<Node, (ExitStatus, String)> {
        Node::run(self.inside(env!("CARGO_BIN_EXE_store")), self.folder.path())
    }

    fn grow(&self, mebibytes: u32) {
        let mut mount = self.inside("mount");
        mount.args(["-o", &format!("remount,size={mebibytes}m")]).arg(self.folder.path());
        assert!(mount.status().expect("it runs").success(), "the file system grows");
    }
}

#[test]
fn a_file_system_without_space_stops_the_node_and_nothing_is_lost() {
    let Some(disk) = SmallDisk::new(4) else {
        eprintln!("skipped: no file system can be mounted in a namespace of one's own here");
        return;
    };
    let node = disk.node().unwrap_or_else(|(_, log)| panic!("{log}"));
    fills_up(node, "No space left on device", || {
        disk.grow(64);
        disk.node()
    });
}
