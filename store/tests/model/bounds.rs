//! What a model run may do, and how often.

use store::{
    api::{KeyType, NodeId, PartitionId},
    config::{
        ClusterConfig, LeaseConfig, Mutant, PartitionConfig, Partitioning, ReadMode, RoutingMode,
        SESSION_IDLE_MS, StorageKind, TrimConfig,
    },
    core::Config,
};

use crate::world::Action;

/// The one partition.
pub const PARTITION: PartitionId = 1;

/// How many replicas it has.
pub const REPLICAS: NodeId = 3;

/// Real time between two ticks, milliseconds. Clocks show [`Rate::Slow`] 3, [`Rate::True`] 4 or [`Rate::Fast`] 5 more: rates
/// of 3/4, 1 and 5/4, the bounds of a drift of 1/4.
pub const TICK_MS: u64 = 4;

/// Bound on the clocks' drift, parts per million: a quarter.
pub const DRIFT_PPM: u64 = 250_000;

/// How fast a clock runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Rate {
    /// 3/4 of real time.
    Slow,
    /// As real time.
    True,
    /// 5/4 of real time.
    Fast,
}

impl Rate {
    /// Milliseconds that the clock gains in a tick.
    pub fn gain(self) -> u64 {
        match self {
            Self::Slow => 3,
            Self::True => 4,
            Self::Fast => 5,
        }
    }
}

/// What clients ask for, each in its order, one operation after the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Ask {
    /// Write a value of its own.
    Write,
    /// Read.
    Read,
    /// Open a session: the first entry of the log.
    Open,
    /// Swap a value of its own in where nothing is, as the first write of that session.
    Once,
    /// Ask for the swap before this again.
    Again,
}

/// Where a run begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// Nobody leads, nothing was ever written.
    Fresh,
    /// Node 1 leads, and everybody follows.
    Led,
    /// As `Led`, but node 1 has found a stop-sign in its log that nobody else knows of.
    LedAfterStopSign,
}

/// What some state of a run must show, so that nothing holds because nothing happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sight {
    /// An entry is decided.
    Decided,
    /// A read is answered under the lease.
    FastRead,
    /// Another ballot than before holds the lease.
    HandOver,
    /// A leader crashes when it has accepted what it has not decided.
    CrashBeforeDecide,
    /// A node fetches a snapshot, since what it lacks is gone from another's log.
    Fetched,
}

/// The bounds of a model.
#[derive(Clone, Debug)]
pub struct Bounds {
    /// What it is called.
    pub name: &'static str,
    /// Where it begins.
    pub start: Start,
    /// Length of a grant in milliseconds; none: no leases.
    pub lease_ms: Option<u64>,
    /// The clocks of the three nodes.
    pub rates: [Rate; REPLICAS as usize],
    /// The clients and what they ask for.
    pub clients: &'static [&'static [Ask]],
    /// How often a node may take over.
    pub elections: u32,
    /// When logs are trimmed.
    pub trimming: TrimConfig,
    /// Who may.
    pub candidates: &'static [NodeId],
    /// How often a leader may be asked to hand over.
    pub hand_overs: u32,
    /// How often a node may stop seeing its leader.
    pub losses: u32,
    /// How often a node may crash.
    pub crashes: u32,
    /// Who may.
    pub mortal: &'static [NodeId],
    /// Whether nodes that crashed may start again.
    pub restarts: bool,
    /// How often a connection may break.
    pub breaks: u32,
    /// How many messages of broken connections may still arrive.
    pub late: u32,
    /// How many ticks the clocks make.
    pub ticks: u32,
    /// Whose syncs take their time, so that a crash may lose what was not synced; the others' are done at once.
    pub slow_disks: &'static [NodeId],
    /// What has happened before: it leads to where a planted bug shows.
    pub prelude: &'static [Action],
    /// What must be seen.
    pub shows: &'static [Sight],
    /// A planted bug.
    pub mutant: Option<Mutant>,
}

const ALL: &[NodeId] = &[1, 2, 3];

/// A snapshot after every entry, and nothing is kept.
const AT_ONCE: TrimConfig = TrimConfig { snapshot_after_bytes: 1, keep_log_bytes: 0 };

const WRITE: &[&[Ask]] = &[&[Ask::Write]];
const READ: &[&[Ask]] = &[&[Ask::Read]];
const WRITE_AND_READ: &[&[Ask]] = &[&[Ask::Write], &[Ask::Read]];
const ASKED_AGAIN: &[&[Ask]] = &[&[Ask::Open, Ask::Once, Ask::Again]];
const WRITE_THEN_READ: &[&[Ask]] = &[&[Ask::Write, Ask::Read]];

/// The first client has its session, and everybody knows that.
const OPENED: &[Action] = &[
    Action::Ask(0, 1),
    Action::Deliver(1, 2),
    Action::Deliver(1, 3),
    Action::Deliver(2, 1),
    Action::Deliver(3, 1),
    Action::Deliver(1, 2),
    Action::Deliver(1, 3),
];

impl Bounds {
    /// Node 1 leads, and nothing goes wrong: what the others are made from.
    const fn calm(name: &'static str, clients: &'static [&'static [Ask]], shows: &'static [Sight]) -> Self {
        Self {
            name,
            start: Start::Led,
            lease_ms: None,
            rates: [Rate::True; 3],
            clients,
            elections: 0,
            trimming: TrimConfig { snapshot_after_bytes: u64::MAX, keep_log_bytes: 0 },
            candidates: ALL,
            hand_overs: 0,
            losses: 0,
            crashes: 0,
            mortal: ALL,
            restarts: true,
            breaks: 0,
            late: 0,
            ticks: 0,
            slow_disks: &[],
            prelude: &[],
            shows,
            mutant: None,
        }
    }

    /// As `calm`, with leases of `lease_ms`; the clock of node 1 is slow, those of the others are fast.
    const fn leased(
        name: &'static str,
        lease_ms: u64,
        clients: &'static [&'static [Ask]],
        shows: &'static [Sight],
    ) -> Self {
        Self {
            lease_ms: Some(lease_ms),
            rates: [Rate::Slow, Rate::Fast, Rate::Fast],
            ..Self::calm(name, clients, shows)
        }
    }

    /// Small enough for every run of the tests, all of them explored whole.
    pub fn small() -> Vec<Self> {
        use Sight::{CrashBeforeDecide, Decided, FastRead, Fetched, HandOver};
        vec![
            Self {
                start: Start::Fresh,
                elections: 1,
                ..Self::calm("first election", WRITE_AND_READ, &[Decided])
            },
            Self {
                elections: 1,
                crashes: 1,
                restarts: false,
                ..Self::calm("take-over", WRITE, &[Decided, CrashBeforeDecide])
            },
            Self {
                crashes: 1,
                slow_disks: ALL,
                ..Self::calm("lost writes", WRITE_AND_READ, &[Decided, CrashBeforeDecide])
            },
            Self { breaks: 1, late: 2, ..Self::calm("sessions", WRITE_AND_READ, &[Decided]) },
            Self {
                elections: 1,
                candidates: &[2],
                ticks: 1,
                ..Self::leased("leases", 5, READ, &[FastRead, HandOver])
            },
            Self {
                elections: 1,
                candidates: &[2],
                crashes: 1,
                mortal: &[3],
                ..Self::leased("restarted acceptor", 5, READ, &[FastRead])
            },
            Self {
                hand_overs: 1,
                candidates: &[],
                ..Self::leased("planned change", 5, WRITE_THEN_READ, &[Decided, FastRead, HandOver])
            },
            Self {
                start: Start::LedAfterStopSign,
                elections: 1,
                candidates: &[2],
                ..Self::leased("stop-sign", 5, READ, &[Decided])
            },
            Self {
                elections: 1,
                candidates: &[3],
                trimming: AT_ONCE,
                ..Self::calm("trimmed logs", WRITE, &[Decided, Fetched])
            },
            Self {
                breaks: 1,
                late: 1,
                trimming: AT_ONCE,
                ..Self::calm("trimmed logs and a broken connection", WRITE, &[Decided, Fetched])
            },
        ]
    }

    /// For the night: more of everything.
    pub fn large() -> Vec<Self> {
        use Sight::{CrashBeforeDecide, Decided, FastRead, Fetched, HandOver};
        vec![
            Self {
                elections: 1,
                candidates: &[2],
                crashes: 1,
                mortal: &[1],
                restarts: false,
                prelude: OPENED,
                ..Self::calm("a write that is asked for again", ASKED_AGAIN, &[Decided, CrashBeforeDecide])
            },
            Self {
                hand_overs: 2,
                elections: 1,
                ticks: 1,
                ..Self::leased(
                    "planned changes and a take-over",
                    5,
                    WRITE_AND_READ,
                    &[Decided, FastRead, HandOver],
                )
            },
            Self {
                hand_overs: 1,
                candidates: &[],
                crashes: 1,
                slow_disks: ALL,
                ..Self::leased(
                    "a planned change and a crash",
                    5,
                    WRITE_AND_READ,
                    &[Decided, FastRead, HandOver],
                )
            },
            Self {
                elections: 1,
                crashes: 1,
                slow_disks: ALL,
                ..Self::calm("take-over and recovery", WRITE, &[Decided, CrashBeforeDecide])
            },
            Self {
                elections: 2,
                breaks: 1,
                late: 2,
                ..Self::calm("two take-overs and a broken connection", WRITE_AND_READ, &[Decided])
            },
            Self {
                elections: 1,
                crashes: 1,
                slow_disks: &[3],
                trimming: AT_ONCE,
                ..Self::calm("trimmed logs and crashes", WRITE_AND_READ, &[Decided, Fetched])
            },
            Self {
                elections: 1,
                ticks: 3,
                losses: 1,
                ..Self::leased("long leases", 10, WRITE_THEN_READ, &[Decided, FastRead, HandOver])
            },
            Self {
                elections: 1,
                crashes: 1,
                ticks: 2,
                slow_disks: ALL,
                ..Self::leased("leases and crashes", 5, WRITE_THEN_READ, &[Decided, FastRead, HandOver])
            },
        ]
    }

    /// For each planted bug that three replicas can show: where it shows.
    pub fn planted() -> Vec<Self> {
        use Action::{Ask, Crash, Deliver, NoLeader, Restart};
        let with = |mutant, bounds| Self { mutant: Some(mutant), ..bounds };
        let one_take_over = Self { elections: 1, candidates: &[2], ..Self::calm("take-over", WRITE, &[]) };
        let lease = Self {
            elections: 1,
            candidates: &[2],
            ticks: 1,
            ..Self::leased("leases", 5, WRITE_AND_READ, &[])
        };
        vec![
            with(Mutant::AdoptByBallotOnly, one_take_over.clone()),
            with(
                Mutant::AdoptByLengthOnly,
                Self {
                    elections: 2,
                    candidates: &[1, 2],
                    prelude: &[Ask(0, 1), NoLeader(2), Deliver(2, 3), Deliver(3, 2)],
                    ..Self::calm("two take-overs", WRITE_AND_READ, &[])
                },
            ),
            with(Mutant::AcceptedBallotNotSet, one_take_over.clone()),
            with(
                Mutant::PromiseNotDurable,
                Self {
                    crashes: 1,
                    mortal: &[3],
                    slow_disks: &[3],
                    prelude: &[NoLeader(2), Deliver(2, 3), Deliver(3, 2), Crash(3), Restart(3)],
                    ..one_take_over.clone()
                },
            ),
            with(Mutant::StaleAcceptSync, Self { breaks: 1, late: 2, ..one_take_over.clone() }),
            with(
                Mutant::LeaderCountsUnsynced,
                Self { crashes: 1, mortal: &[1], slow_disks: &[1], ..one_take_over.clone() },
            ),
            with(
                Mutant::AnnouncedNotDurable,
                Self { elections: 2, crashes: 1, mortal: &[2], slow_disks: &[2], ..one_take_over },
            ),
            with(Mutant::LeaseWithoutDriftMargin, lease.clone()),
            with(Mutant::DeposedLeaderServesReads, lease.clone()),
            with(Mutant::CandidateIgnoresOwnGrant, lease.clone()),
            with(Mutant::FastReadBeforeAdoptedSuffix, lease.clone()),
            with(Mutant::LeaseKeptAcrossTransfer, Self { hand_overs: 1, elections: 0, ..lease.clone() }),
            with(Mutant::RestartForgetsGrant, Self { crashes: 1, mortal: &[3], ticks: 0, ..lease }),
        ]
    }

    /// The same for bugs of trimmed logs; their paths are not exported, since a workload says nothing of when a log is trimmed.
    pub fn planted_in_trimming() -> Vec<Self> {
        let with = |mutant, bounds| Self { mutant: Some(mutant), trimming: AT_ONCE, ..bounds };
        let calm = Self::calm("trimmed logs", WRITE, &[]);
        vec![
            with(Mutant::TrimmedSentAsWhole, Self { breaks: 1, ..calm.clone() }),
            with(Mutant::LateSnapshotTruncates, Self { elections: 1, candidates: &[3], ..calm.clone() }),
            with(
                Mutant::SnapshotIndexBeforeKeys,
                Self { crashes: 1, mortal: &[1], slow_disks: &[1], ..calm },
            ),
        ]
    }

    /// The same for bugs of sessions; workloads have no step that asks again.
    pub fn planted_in_sessions() -> Vec<Self> {
        let calm = Self::calm("a write that is asked for again", ASKED_AGAIN, &[]);
        vec![Self { mutant: Some(Mutant::SessionForgotten), prelude: OPENED, ..calm }]
    }

    /// Controls: code that is other, behaviour that is not.
    pub fn controls() -> Vec<Self> {
        let with = |mutant| Self {
            elections: 1,
            candidates: &[2],
            mutant: Some(mutant),
            ..Self::calm("take-over", WRITE, &[Sight::Decided])
        };
        vec![with(Mutant::ControlDecideByCounting), with(Mutant::ControlPrepareTwice)]
    }

    /// The planted bug, as configurations call it.
    pub fn mutant_name(&self) -> String {
        let name = self.mutant.map(|mutant| serde_json::to_value(mutant).expect("it has a name"));
        name.and_then(|name| name.as_str().map(str::to_owned)).unwrap_or_default()
    }

    /// What a run is called.
    pub fn title(&self) -> String {
        match self.mutant {
            Some(mutant) => format!("{mutant:?} ({})", self.name),
            None => self.name.to_owned(),
        }
    }

    /// The configuration of a node in its `boot`th life.
    pub fn config(&self, node: NodeId, boot: u64) -> Config {
        let replicas: Vec<NodeId> = (1..=REPLICAS).collect();
        let partition = PartitionConfig {
            partition: PARTITION,
            lower: None,
            upper: None,
            replication: REPLICAS,
            replicas: replicas.clone(),
        };
        let cluster = ClusterConfig {
            name: self.name.to_owned(),
            key_type: KeyType::Integer,
            partitioning: Partitioning::Range,
            partitions: vec![partition],
            threshold: REPLICAS,
            // nothing is sent again for want of an answer: only what happens brings it about
            heartbeat_ms: 1_000_000,
            missed_rounds: 1,
            lease: self.lease_ms.map(|duration_ms| LeaseConfig { duration_ms, drift_ppm: DRIFT_PPM }),
            request_timeout_ms: 1_000_000,
            session_idle_ms: SESSION_IDLE_MS,
            storage: StorageKind::Durable,
            routing: RoutingMode::Forward,
            reads: ReadMode::Linearizable,
            trimming: self.trimming,
            preset: Vec::new(),
        };
        Config { node, nodes: replicas, disk: node, boot, cluster, mutant: self.mutant, traced: true }
    }
}
