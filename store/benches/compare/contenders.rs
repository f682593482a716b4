//! Who is compared, and the rounds.

use std::{collections::BTreeMap, path::Path, slice, sync::Arc, time::Duration};

use anyhow::{Context, Result, ensure};
use serde::Serialize;
use store::{
    config::StorageKind,
    load::{self, Keys, Kind, Length, Link, Load, Mix, Outcome, Pace, Protocol, Target, resident, used},
    local::{self, NodeProcess, Shape},
    node::clock::machine_time,
};

use crate::{
    Arguments, KEYS, LOADS, VALUE,
    etcd::{Etcd, Grpc},
    omnipaxos,
    plain::{Answers, Part, Plain},
    quorum,
    report::Report,
};

/// How long no answer may come.
const PATIENCE: Duration = Duration::from_secs(10);

/// Keys of the node whose memory is measured.
const MANY_KEYS: u64 = 1_000_000;

/// Partitions of the store that has many.
const PARTITIONS: u32 = 16;

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Way {
    Echo,
    QuorumInMemory,
    QuorumSynced,
    LeaseGet,
    DurableLogGet,
    MemoryLogGet,
    MemoryPut,
    DurablePut,
    DurableMix,
    ManyPartitionsGet,
    ManyPartitionsPut,
    ManyPartitionsDurablePut,
    EtcdGet,
    EtcdPut,
    EtcdMix,
    OmnipaxosPut,
    OmnipaxosTightPut,
}

impl Way {
    pub const ALL: [Self; 17] = [
        Self::Echo,
        Self::QuorumInMemory,
        Self::QuorumSynced,
        Self::LeaseGet,
        Self::DurableLogGet,
        Self::MemoryLogGet,
        Self::MemoryPut,
        Self::DurablePut,
        Self::DurableMix,
        Self::ManyPartitionsGet,
        Self::ManyPartitionsPut,
        Self::ManyPartitionsDurablePut,
        Self::EtcdGet,
        Self::EtcdPut,
        Self::EtcdMix,
        Self::OmnipaxosPut,
        Self::OmnipaxosTightPut,
    ];

    pub fn words(self) -> &'static str {
        match self {
            Self::Echo => "plain echo",
            Self::QuorumInMemory => "bare quorum, in memory",
            Self::QuorumSynced => "bare quorum, one sync a batch",
            Self::LeaseGet => "store, GET under a lease",
            Self::DurableLogGet => "store, GET through the log, durable",
            Self::MemoryLogGet => "store, GET through the log, in memory",
            Self::MemoryPut => "store, PUT in memory",
            Self::DurablePut => "store, PUT durable",
            Self::DurableMix => "store, GET and PUT durable, 1:1",
            Self::ManyPartitionsGet => "store, 16 partitions, GET",
            Self::ManyPartitionsPut => "store, 16 partitions, PUT in memory",
            Self::ManyPartitionsDurablePut => "store, 16 partitions, PUT durable",
            Self::EtcdGet => "etcd, linearizable GET",
            Self::EtcdPut => "etcd, PUT",
            Self::EtcdMix => "etcd, GET and PUT, 1:1",
            Self::OmnipaxosPut => "omnipaxos as in its own store, PUT",
            Self::OmnipaxosTightPut => "omnipaxos in the quorum's loop, PUT",
        }
    }

    fn has_many_partitions(self) -> bool {
        matches!(self, Self::ManyPartitionsGet | Self::ManyPartitionsPut | Self::ManyPartitionsDurablePut)
    }

    fn mix(self) -> Mix {
        match self {
            Self::LeaseGet
            | Self::DurableLogGet
            | Self::MemoryLogGet
            | Self::ManyPartitionsGet
            | Self::EtcdGet => Mix::only(Kind::Get),
            Self::DurableMix | Self::EtcdMix => Mix([1, 1, 0]),
            _ => Mix::only(Kind::Put),
        }
    }
}

/// One measurement.
#[derive(Clone, Copy, Debug)]
pub struct Measured {
    pub per_second: f64,
    /// Latencies are those of the slower kind.
    pub p50_us: f64,
    pub p99_us: f64,
    /// Processors used by clients, the leader, and its followers.
    pub processors: [f64; 3],
}

/// The rounds of each way under each load.
pub type Rounds = BTreeMap<(Way, (usize, usize)), Vec<Measured>>;

/// What nodes of the store keep resident, MiB.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Memory {
    /// Of one more partition that nobody uses.
    pub idle_partition: f64,
    /// Of the node that takes most, with a million keys of 128 bytes.
    pub million_keys: f64,
}

/// Everybody who is compared.
struct Contenders {
    echo: Part,
    quorum_in_memory: Vec<Part>,
    quorum_synced: Vec<Part>,
    durable: Vec<NodeProcess>,
    in_memory: Vec<NodeProcess>,
    /// Without leases: durable, and in memory.
    without_leases: [Vec<NodeProcess>; 2],
    many_partitions: Vec<NodeProcess>,
    many_durable: Vec<NodeProcess>,
    /// Or why it is left out.
    etcd: Result<Etcd, String>,
    /// The same: built as the crate's own store is, and in the loop of the bare quorum.
    omnipaxos: Result<[Vec<Part>; 2], String>,
    keys: Arc<[i64]>,
}

/// Measures everything.
pub async fn compare(arguments: &Arguments, folder: &Path) -> Result<Report> {
    let contenders = Contenders::start(arguments, folder).await?;
    let idle_partition = contenders.memory_of_a_partition().await?;
    contenders.fill().await?;
    let mut rounds = Rounds::new();
    for round in 0..arguments.rounds {
        for load in LOADS {
            // whoever comes first has the machine in another state
            for turn in 0..Way::ALL.len() {
                let way = Way::ALL[(turn + round * 5) % Way::ALL.len()];
                // one connection reaches one leader
                if way.has_many_partitions() && load.0 < local::NODES as usize {
                    continue;
                }
                let measured = contenders.measure(way, load, arguments.seconds).await;
                let late = || format!("{}, {} x {}", way.words(), load.0, load.1);
                if let Some(measured) = measured.with_context(late)? {
                    rounds.entry((way, load)).or_default().push(measured);
                }
            }
        }
    }
    let etcd = contenders.etcd.as_ref().map(|etcd| etcd.version.clone()).map_err(Clone::clone);
    let omnipaxos = contenders.omnipaxos.as_ref().err().cloned();
    drop(contenders);
    let million_keys = memory_of_many_keys(folder).await?;
    Ok(Report::new(arguments, (etcd, omnipaxos), &rounds, Memory { idle_partition, million_keys }))
}

impl Contenders {
    async fn start(arguments: &Arguments, folder: &Path) -> Result<Self> {
        let shape = |storage, leases, partitions| Shape { storage, leases, partitions };
        let start = async |name: &str, shape| local::start(program(), &folder.join(name), shape).await;
        let quorum_folder = folder.join("quorum");
        std::fs::create_dir(&quorum_folder)?;
        let etcd = named(arguments.etcd.as_deref(), "--etcd", |program| Etcd::start(program, folder));
        let omnipaxos = named(arguments.omnipaxos.as_deref(), "--omnipaxos", |program| {
            Ok([omnipaxos::start(program, "tasks")?, omnipaxos::start(program, "tight")?])
        });
        Ok(Self {
            echo: Part::start(&["echo"])?,
            quorum_in_memory: quorum::start(None)?,
            quorum_synced: quorum::start(Some(&quorum_folder))?,
            durable: start("durable", shape(StorageKind::Durable, true, 1)).await?,
            in_memory: start("in-memory", shape(StorageKind::Memory, true, 1)).await?,
            without_leases: [
                start("durable-without-leases", shape(StorageKind::Durable, false, 1)).await?,
                start("without-leases", shape(StorageKind::Memory, false, 1)).await?,
            ],
            many_partitions: start("many", shape(StorageKind::Memory, true, PARTITIONS)).await?,
            many_durable: start("many-durable", shape(StorageKind::Durable, true, PARTITIONS)).await?,
            etcd,
            omnipaxos,
            keys: (0..KEYS).collect(),
        })
    }

    /// Clusters of one partition and of many, which nobody has used yet, once all partitions have leaders.
    async fn memory_of_a_partition(&self) -> Result<f64> {
        let mut mean = [0.0; 2];
        for (mean, nodes) in mean.iter_mut().zip([&self.in_memory, &self.many_partitions]) {
            target(nodes, 1).await?;
            let memory: Vec<u64> = nodes.iter().filter_map(|node| resident(node.child.id())).collect();
            ensure!(memory.len() == nodes.len(), "a node has died");
            *mean = memory.iter().sum::<u64>() as f64 / nodes.len() as f64;
        }
        Ok((mean[1] - mean[0]) / f64::from(PARTITIONS - 1) / f64::from(1 << 20))
    }

    async fn fill(&self) -> Result<()> {
        let [durable, in_memory] = &self.without_leases;
        let with_leases = [&self.durable, &self.in_memory, &self.many_partitions, &self.many_durable];
        for nodes in with_leases.into_iter().chain([durable, in_memory]) {
            target(nodes, KEYS as u64).await?.fill().await?;
        }
        if let Ok(etcd) = &self.etcd {
            let leader = etcd.members[etcd.leader().await?].address;
            let link = Grpc::connect(leader, Keys::share(Arc::clone(&self.keys), (0, 1))).await?;
            let all = Load { length: Length::Operations(u64::MAX), ..closed(Mix::only(Kind::Put), 16) };
            load::check(&load::run(vec![link], all).await?).context("etcd could not be filled")?;
        }
        Ok(())
    }

    /// None: it is left out.
    async fn measure(&self, way: Way, size: (usize, usize), seconds: f64) -> Result<Option<Measured>> {
        let load =
            Load { length: Length::Time(Duration::from_secs_f64(seconds)), ..closed(way.mix(), size.1) };
        let plain = async |parts: &[Part], answers| {
            let keys = |number| Keys::random(Arc::clone(&self.keys), number);
            let connect = async |number| Plain(answers).connect(&parts[0].address, keys(number)).await;
            let ids: Vec<u32> = parts.iter().map(|part| part.child.id()).collect();
            measure_all(connect, size.0, load, (&ids[..1], &ids[1..])).await
        };
        let store = async |nodes: &[NodeProcess]| self.measure_store(way, nodes, size.0, load).await;
        let measured = match way {
            Way::Echo => plain(slice::from_ref(&self.echo), Answers::Echo).await,
            Way::QuorumInMemory => plain(&self.quorum_in_memory, Answers::Number).await,
            Way::QuorumSynced => plain(&self.quorum_synced, Answers::Number).await,
            Way::OmnipaxosPut | Way::OmnipaxosTightPut => {
                let Ok([tasks, tight]) = &self.omnipaxos else { return Ok(None) };
                let members = if way == Way::OmnipaxosPut { tasks } else { tight };
                plain(members, Answers::Number).await
            }
            Way::LeaseGet | Way::DurablePut | Way::DurableMix => store(&self.durable).await,
            Way::DurableLogGet => store(&self.without_leases[0]).await,
            Way::MemoryLogGet => store(&self.without_leases[1]).await,
            Way::MemoryPut => store(&self.in_memory).await,
            Way::ManyPartitionsGet | Way::ManyPartitionsPut => store(&self.many_partitions).await,
            Way::ManyPartitionsDurablePut => store(&self.many_durable).await,
            Way::EtcdGet | Way::EtcdPut | Way::EtcdMix => {
                let Ok(etcd) = &self.etcd else { return Ok(None) };
                let leader = etcd.leader().await?;
                let keys = |number| Keys::random(Arc::clone(&self.keys), number);
                let connect = async |number| Grpc::connect(etcd.members[leader].address, keys(number)).await;
                let ids = |leads: bool| {
                    let some =
                        etcd.members.iter().enumerate().filter(|(member, _)| (*member == leader) == leads);
                    some.map(|(_, member)| member.child.id()).collect::<Vec<_>>()
                };
                measure_all(connect, size.0, load, (&ids(true), &ids(false))).await
            }
        };
        measured.map(Some)
    }

    async fn measure_store(
        &self,
        way: Way,
        nodes: &[NodeProcess],
        connections: usize,
        load: Load,
    ) -> Result<Measured> {
        let target = target(nodes, KEYS as u64).await?;
        let leaders = target.leaders();
        let ids = |leads: bool| {
            let some = (1..).zip(nodes).filter(|(number, _)| leaders.contains(number) == leads);
            some.map(|(_, node)| node.child.id()).collect::<Vec<_>>()
        };
        let (leaders, followers) = (ids(true), ids(false));
        let links = async || target.links(connections).await;
        let (outcome, measured) = measure(links, load, (&leaders, &followers)).await?;
        let counts = outcome.counts();
        match way {
            Way::LeaseGet | Way::ManyPartitionsGet => {
                ensure!(counts.fast == counts.right, "of {} reads {} were fast", counts.right, counts.fast);
            }
            Way::DurableLogGet | Way::MemoryLogGet => {
                ensure!(counts.fast == 0, "{} reads were fast without leases", counts.fast);
            }
            _ => {}
        }
        Ok(measured)
    }
}

/// Someone else's program, or why it is left out.
fn named<T>(
    program: Option<&Path>,
    option: &str,
    start: impl FnOnce(&Path) -> Result<T>,
) -> Result<T, String> {
    match program {
        None => Err(format!("no program was named with {option}")),
        Some(program) if !program.exists() => Err(format!("there is no {}", program.display())),
        Some(program) => start(program).map_err(|error| format!("{error:#}")),
    }
}

fn program() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_store"))
}

async fn target(nodes: &[NodeProcess], keys: u64) -> Result<Target> {
    let addresses: Vec<String> = nodes.iter().map(|node| node.address.clone()).collect();
    Target::find(local::NAME, &addresses, keys, VALUE).await
}

fn closed(mix: Mix, depth: usize) -> Load {
    let length = Length::Time(Duration::ZERO);
    Load { depth, pace: Pace::Closed, length, mix, patience: PATIENCE }
}

/// A fifth of what is measured.
fn warm_up(load: Load) -> Length {
    match load.length {
        Length::Time(time) => Length::Time(time / 5),
        Length::Operations(operations) => Length::Operations(operations / 5 + 1),
    }
}

/// What a node takes that holds a million keys.
async fn memory_of_many_keys(folder: &Path) -> Result<f64> {
    let shape = Shape { storage: StorageKind::Memory, leases: true, partitions: 1 };
    let nodes = local::start(program(), &folder.join("million"), shape).await?;
    target(&nodes, MANY_KEYS).await?.fill().await?;
    let most = nodes.iter().filter_map(|node| resident(node.child.id())).max().context("nodes that live")?;
    Ok(most as f64 / f64::from(1 << 20))
}

/// The load on so many connections to one process.
async fn measure_all<P: Protocol>(
    connect: impl AsyncFn(u64) -> Result<Link<P>>,
    connections: usize,
    load: Load,
    processes: (&[u32], &[u32]),
) -> Result<Measured> {
    let links = async || {
        let mut links = Vec::new();
        for number in 0..connections as u64 {
            links.push(connect(number).await?);
        }
        Ok(links)
    };
    Ok(measure(links, load, processes).await?.1)
}

/// The load, after a while in which it is not counted.
async fn measure<P: Protocol>(
    links: impl AsyncFn() -> Result<Vec<Link<P>>>,
    load: Load,
    (leaders, followers): (&[u32], &[u32]),
) -> Result<(Outcome, Measured)> {
    load::check(&load::run(links().await?, Load { length: warm_up(load), ..load }).await?)?;
    let links = links().await?;
    let before = Used::now(leaders, followers);
    let outcome = load::run(links, load).await?;
    let after = Used::now(leaders, followers);
    let measured = Measured::of(&outcome, after.since(&before))?;
    Ok((outcome, measured))
}

/// Processor time so far, in seconds, and when that was.
struct Used {
    at: u64,
    by: [f64; 3],
}

impl Used {
    fn now(leaders: &[u32], followers: &[u32]) -> Self {
        let sum = |ids: &[u32]| ids.iter().filter_map(|id| used(*id)).sum();
        Self { at: machine_time(), by: [sum(&[std::process::id()]), sum(leaders), sum(followers)] }
    }

    fn since(&self, before: &Self) -> [f64; 3] {
        let seconds = (self.at - before.at) as f64 / 1e9;
        std::array::from_fn(|who| (self.by[who] - before.by[who]) / seconds)
    }
}

impl Measured {
    fn of(outcome: &Outcome, processors: [f64; 3]) -> Result<Self> {
        load::check(outcome)?;
        ensure!(outcome.counts().in_time > 0, "nothing was answered within {} s", outcome.seconds);
        let figures = outcome.figures();
        let p50 = figures.iter().filter_map(|figures| figures.p50_us).fold(0.0, f64::max);
        let p99 = figures.iter().filter_map(|figures| figures.p99_us).fold(0.0, f64::max);
        Ok(Self { per_second: outcome.per_second(), p50_us: p50, p99_us: p99, processors })
    }
}
