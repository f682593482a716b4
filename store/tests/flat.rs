//! Memory and disk over millions of writes to a thousand keys: the real core, as a group of one, and the real storage, without
//! sockets and clocks, so that it takes minutes.
//!
//! `cargo test --release -p store --test flat -- --ignored --nocapture`; `STORE_WRITES=N` for another number than ten million.

use std::{os::unix::fs::MetadataExt, path::Path};

use store::{
    api::{Key, KeyType, NodeId, Operation},
    config::{
        ClusterConfig, PartitionConfig, Partitioning, ReadMode, RoutingMode, SESSION_IDLE_MS, StorageKind,
        TrimConfig,
    },
    core::{ClientId, Config, Input, LocalTime, Node, Output},
    node::storage::{Batch, Durable, Storage},
};

const NODE: NodeId = 1;
const KEYS: u64 = 1000;
const SAMPLES: u64 = 20;

/// Requests in one turn.
const TURN: u64 = 500;

/// A node of which the test is the driver.
struct Driver {
    config: Config,
    node: Node,
    storage: Durable,
    now: u64,
    answered: u64,
}

impl Driver {
    fn start(folder: &Path) -> Self {
        let (storage, found) = Durable::open(folder, 7, false).expect("the storage opens");
        let partition =
            PartitionConfig { partition: 1, lower: None, upper: None, replication: 1, replicas: vec![NODE] };
        let cluster = ClusterConfig {
            name: "flat".to_owned(),
            key_type: KeyType::Integer,
            partitions: vec![partition],
            threshold: 1,
            heartbeat_ms: 100,
            missed_rounds: 5,
            lease: None,
            request_timeout_ms: 1000,
            session_idle_ms: SESSION_IDLE_MS,
            storage: StorageKind::Durable,
            routing: RoutingMode::Forward,
            reads: ReadMode::Linearizable,
            partitioning: Partitioning::Range,
            trimming: TrimConfig::default(),
            preset: Vec::new(),
        };
        let (disk, boot) = (found.disk, found.boot);
        let config =
            Config { node: NODE, nodes: vec![NODE], disk, boot, cluster, mutant: None, traced: false };
        let mut out = Vec::new();
        let node = Node::start(&config, &found.state, LocalTime(0), &mut out);
        let mut driver = Self { config, node, storage, now: 0, answered: 0 };
        driver.carry_out(out);
        while driver.node.replicas().all(|replica| replica.serving().is_none()) {
            driver.turn([Input::Tick]);
        }
        driver
    }

    fn turn(&mut self, inputs: impl IntoIterator<Item = Input>) {
        self.now += 10_000_000;
        let (now, mut out) = (LocalTime(self.now), Vec::new());
        for input in inputs {
            self.node.handle(&self.config, now, input, &mut out);
        }
        self.node.finish_turn(&self.config, now, &mut out);
        self.carry_out(out);
    }

    fn carry_out(&mut self, out: Vec<Output>) {
        let mut durable = None;
        for output in out {
            match output {
                Output::Persist { number, records } => {
                    self.storage.write(vec![Batch { number, records }]).expect("it is written");
                    self.storage.sync().expect("it is synced");
                    durable = Some(number);
                }
                Output::Reply { response, .. } => {
                    response.expect("every write is done");
                    self.answered += 1;
                }
                _ => {}
            }
        }
        if let Some(number) = durable {
            self.turn([Input::Persisted { number }]);
        }
    }

    fn write(&mut self, first: u64) {
        let put = |number: u64| {
            let operation = Operation::Put {
                key: Key::Integer((number * 7919 % KEYS) as i64),
                value: format!("{number:0>128}").into(),
            };
            Input::Request {
                client: ClientId { connection: 1, request: number },
                operation,
                seen: 0,
                session: None,
            }
        };
        self.turn((first..first + TURN).map(put).collect::<Vec<_>>());
    }

    fn kept(&self) -> u64 {
        self.node.replicas().map(|replica| replica.paxos().length() - replica.paxos().log().start()).sum()
    }
}

#[test]
#[ignore = "takes minutes, for the night"]
fn memory_and_disk_are_flat_over_ten_million_writes() {
    let writes = std::env::var("STORE_WRITES").map_or(10_000_000, |text| text.parse().expect("a number"));
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut driver = Driver::start(folder.path());
    let mut samples: Vec<[u64; 2]> = Vec::new();
    for sample in 1..=SAMPLES {
        while driver.answered < writes * sample / SAMPLES {
            driver.write(driver.answered);
        }
        let taken = [memory() >> 20, disk(folder.path()) >> 20];
        println!(
            "{:>9} writes, {:>4} MiB of memory, {:>4} MiB of disk, {:>6} entries in the log",
            driver.answered,
            taken[0],
            taken[1],
            driver.kept()
        );
        samples.push(taken);
    }
    let (first, second) = samples.split_at(samples.len() / 2);
    for (place, name) in ["memory", "disk"].into_iter().enumerate() {
        let most = |half: &[[u64; 2]]| half.iter().map(|taken| taken[place]).max().unwrap_or(0);
        let (before, after) = (most(first), most(second));
        assert!(
            after <= before + before / 4,
            "{name} grows: {before} MiB in the first half, then {after} MiB"
        );
    }
    // and a restart finds all of it
    drop(driver);
    let driver = Driver::start(folder.path());
    let replica = driver.node.replicas().next().expect("its group");
    assert_eq!(replica.keys().applied(), writes);
}

/// Resident bytes of this process.
fn memory() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("the process's status");
    let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("resident memory");
    resident.trim().trim_end_matches(" kB").parse::<u64>().expect("a number") << 10
}

/// Bytes that a folder's files take. One that is gone meanwhile takes none.
fn disk(folder: &Path) -> u64 {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let of = |entry: std::fs::DirEntry| match entry.metadata() {
        Ok(found) if found.is_dir() => disk(&entry.path()),
        Ok(found) => found.blocks() * 512,
        Err(_) => 0,
    };
    entries.map(of).sum()
}
