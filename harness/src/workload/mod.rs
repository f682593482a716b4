//! Workload files: which cluster is started, what its clients do, what is broken when, and what must be true of it all.
//!
//! [`load`] reads a TOML file into a [`Workload`] in which nothing is left to doubt: every node, partition and key that it
//! names exists, every default is filled in. Whatever is wrong comes back as one [`Problem`] that points at its place.

use std::{path::Path, time::Duration};

use checker::history::Key;
use serde::{Deserialize, Serialize};
use store::{
    api::{self, NodeId},
    config::{ClockSkew, ClusterConfig, TestOptions},
};

use crate::proxy::Delay;

pub(crate) use check::Scope;
pub(crate) use lacks::Lack;
pub use problem::{Fault, Problem};
pub use random::{Choice, RandomFaults};
pub use scalar::{Entry, Target, Time, Via, Wait, Who};
pub use script::{Action, Ask, Expectation, OperationStep, Step, StepOutcome};
pub use statement::{Event, Moment, Often, Says, Statement};
pub use target::{EtcdReads, System, SystemKind};
pub use template::Template;
pub use trigger::{Happening, Trigger, seen};
pub use vocabulary::{
    ClockChange, Death, Direction, FaultAction, FaultSpec, LinkFault, LinkRule, Shape, Word,
};

mod check;
mod faults;
mod file;
mod keys;
mod lacks;
mod permanent;
mod problem;
mod random;
pub mod reference;
mod require;
mod scalar;
mod script;
mod statement;
mod target;
mod template;
mod trigger;
mod vocabulary;

/// A workload, checked.
#[derive(Clone, Debug, PartialEq)]
pub struct Workload {
    /// The file's name without its ending.
    pub name: String,
    /// What it is for, in words.
    pub about: Option<String>,
    /// The system under test.
    pub system: System,
    /// How many nodes there are: 1 to this.
    pub nodes: u64,
    /// Nodes that are cut off from the others until a step heals them.
    pub late: Vec<NodeId>,
    /// The cluster.
    pub cluster: ClusterConfig,
    /// Planted bugs and what else only tests ask for.
    pub test: TestOptions,
    /// How long messages between nodes travel without any fault.
    pub network: Delays,
    /// Each node's clock, where it differs from the machine's.
    pub clocks: Vec<NodeClock>,
    /// The clients.
    pub clients: Clients,
    /// What they do at random; none: only steps.
    pub operations: Option<Operations>,
    /// Faults beside the script.
    pub nemesis: Vec<NemesisEntry>,
    /// Faults at random.
    pub random: Option<RandomFaults>,
    /// The script.
    pub steps: Vec<Step>,
    /// How long what takes.
    pub phases: Phases,
    /// What is checked.
    pub checks: Checks,
    /// What a run must contain to mean anything.
    pub require: Require,
    /// How it should end.
    pub expect: Expect,
}

/// How long messages between nodes travel without any fault.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Delays {
    /// On every link; none: as long as the machine takes.
    pub delay: Option<Delay>,
    /// On single links, instead of that.
    pub links: Vec<LinkDelay>,
}

/// How long messages travel on one link.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LinkDelay {
    /// The sender.
    pub from: NodeId,
    /// The receiver.
    pub to: NodeId,
    /// How long.
    pub delay: Delay,
}

impl Delays {
    /// Those of a link from one node to another.
    pub fn of(&self, from: NodeId, to: NodeId) -> Option<Delay> {
        let single = self.links.iter().find(|link| (link.from, link.to) == (from, to));
        single.map(|link| link.delay).or(self.delay)
    }
}

/// A node's clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeClock {
    /// The node.
    pub node: NodeId,
    /// How its clock differs from the machine's.
    pub skew: ClockSkew,
}

/// The clients.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Clients {
    /// How many.
    pub count: u64,
    /// Where their operations enter the cluster.
    pub entry: Entry,
    /// After how long an operation without an answer counts as unknown.
    pub timeout_ms: u64,
    /// So many of them share one connection to each node.
    pub share: u64,
    /// They have sessions: what may have happened they ask for again, and it happens once.
    pub sessions: bool,
}

/// What clients do at random.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Operations {
    /// Kinds of operations by weight.
    pub mix: Mix,
    /// How often which key is used.
    pub distribution: Distribution,
    /// Zipf's exponent, or the hot key's share.
    pub skew: f64,
    /// Values are padded to this many bytes.
    pub value_size: usize,
    /// Operations per second of all clients together; none: each client asks again as soon as it is answered.
    pub rate: Option<u64>,
    /// Operations of all clients together, dealt to them evenly; none: as many as the phases have time for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub total: Option<u64>,
    /// The keys.
    pub keys: Vec<Key>,
}

/// Kinds of operations by weight.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Mix {
    /// Reads.
    pub get: u32,
    /// Writes.
    pub put: u32,
    /// Compare-and-swaps.
    pub cas: u32,
    /// Deletions.
    pub delete: u32,
}

/// How often which key is used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Distribution {
    /// Each as often as any other.
    #[default]
    Uniform,
    /// The k-th key in proportion to 1/k^skew.
    Zipf,
    /// The first key takes the share `skew`, the others split the rest.
    Hot,
}

/// A fault and what brings it on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NemesisEntry {
    /// Once, again and again, or when something happens.
    pub when: When,
    /// What.
    pub fault: FaultSpec,
}

/// What brings a fault on. Times count from the beginning of the faults phase.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum When {
    /// Its time has come, once.
    At(Time),
    /// Its time has come, again and again, each time after a pause between half and one and a half of this.
    Every(Time),
    /// Something has happened.
    After(Trigger),
}

/// How long what takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Phases {
    /// At most, until every node serves and every partition has a leader.
    pub boot: Time,
    /// Operations before the first fault.
    pub warm_up: Time,
    /// Operations while faults come and go; with a script, as long as the script takes.
    pub faults: Time,
    /// At most, until every partition has a leader again after everything is healed.
    pub heal: Time,
    /// Operations after that.
    pub quiesce: Time,
    /// Whether every key is read at the end.
    pub final_reads: bool,
}

/// What is checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Checks {
    /// How consistent must the history be?
    pub consistency: Consistency,
    /// Were the leases safe, and did all nodes decide the same?
    pub lease_safety: bool,
    /// Is every key readable again after everything is healed?
    pub progress: bool,
    /// Time for each check.
    pub budget: Time,
}

/// How consistent a history must be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Consistency {
    /// Each key is linearizable.
    #[default]
    Linearizable,
    /// Each partition is sequentially consistent, and its writes are linearizable: what local reads promise.
    Sequential,
    /// It is not checked.
    Unchecked,
}

/// What a run must contain to mean anything; a run without it is undecided.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Require {
    /// Operations that were answered; without any, a run shows nothing in any case.
    pub operations: u64,
    /// Of these, operations that overlap each fault.
    pub operations_per_fault: u64,
    /// Times that a partition got another leader.
    pub leader_changes: u64,
    /// Fast reads.
    pub fast_reads: u64,
    /// Reads that replicas answered from what they had applied, whoever led.
    pub local_reads: u64,
    /// Times that a client was redirected to a leader.
    pub redirects: u64,
    /// Times that a client with a session asked again for what may have happened.
    pub asked_again: u64,
    /// Snapshots that a node has fetched from another, since what it lacked was gone from the log.
    pub snapshots_fetched: u64,
    /// A fast read within the last tenth of a hold.
    pub fast_read_near_expiry: bool,
    /// A final read of every key.
    pub final_reads: bool,
}

/// How a run should end.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Expect {
    /// With which verdict.
    pub verdict: ExpectedVerdict,
    /// Which check must find the violation; none: consistency or lease safety, since a cluster that only made no progress
    /// shows nothing of a bug.
    pub by: Option<CheckName>,
    /// What else must be true.
    pub that: Vec<Statement>,
}

impl Expect {
    /// Whether a violation that this check has found is the expected one.
    pub fn accepts(&self, check: CheckName) -> bool {
        match self.by {
            Some(by) => by == check,
            None => {
                matches!(check, CheckName::Linearizable | CheckName::Sequential | CheckName::LeaseSafety)
            }
        }
    }
}

/// The verdict that a workload should end with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ExpectedVerdict {
    /// Nothing is found.
    #[default]
    Valid,
    /// A planted bug is found.
    Violation,
}

/// The checks by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CheckName {
    /// The history against the model.
    Linearizable,
    /// The history against the log that its answers tell of.
    Sequential,
    /// The traces against the lease rules.
    LeaseSafety,
    /// Reads after everything is healed.
    Progress,
    /// The script's expectations.
    Script,
    /// What the workload states of its runs.
    Statements,
}

/// Reads and checks a workload file.
pub fn load(path: &Path) -> Result<Workload, Problem> {
    let shown = path.display().to_string();
    let source = std::fs::read_to_string(path).map_err(|error| Problem::unreadable(&shown, &error))?;
    parse(path, &source)
}

/// Checks a workload file's text; its path decides its name, and whether planted bugs are allowed.
pub fn parse(path: &Path, source: &str) -> Result<Workload, Problem> {
    let name = path.file_stem().map_or_else(|| "workload".to_owned(), |stem| stem.to_string_lossy().into());
    let negative = path.parent().is_some_and(|folder| folder.ends_with("negative"));
    let folder = path.parent().unwrap_or(Path::new(""));
    toml::from_str(source)
        .map_err(Fault::from)
        .and_then(|file| check::check(name, (negative, folder), (source, file)))
        .map_err(|fault| fault.into_problem(&path.display().to_string(), source))
}

/// The core that must make progress, in words.
pub fn core_in_words(core: &[NodeId]) -> String {
    if core.is_empty() {
        return "nobody, since permanent faults have hit every node".to_owned();
    }
    let nodes: Vec<String> = core.iter().map(NodeId::to_string).collect();
    format!("the core of nodes {}", nodes.join(", "))
}

/// The store's key for a key of a history.
pub fn store_key(key: &Key) -> api::Key {
    match key {
        Key::Integer(number) => api::Key::Integer(*number),
        Key::String(text) => api::Key::String(text.clone()),
    }
}

/// A history's key for a key of the store.
pub fn history_key(key: &api::Key) -> Key {
    match key {
        api::Key::Integer(number) => Key::Integer(*number),
        api::Key::String(text) => Key::String(text.clone()),
    }
}

impl Workload {
    /// The workload without its planted bug, if it has one: it should be valid then.
    #[must_use]
    pub fn without_mutant(mut self) -> Self {
        if self.test.mutant.take().is_some() {
            self.expect.verdict = ExpectedVerdict::Valid;
            self.expect.by = None;
        }
        self
    }

    /// Lets warm-up and faults take this long together; faults that are due later are left out, which a note says.
    pub fn limit_time(&mut self, limit: Time) {
        let all = self.nemesis.len();
        self.phases.warm_up = self.phases.warm_up.min(limit);
        self.phases.faults = Time(limit.0.saturating_sub(self.phases.warm_up.0));
        let faults = self.phases.faults;
        self.nemesis.retain(|entry| match entry.when {
            When::At(at) => at < faults,
            When::Every(_) | When::After(_) => true,
        });
        let left_out = all - self.nemesis.len();
        if left_out > 0 {
            eprintln!("note: {}: {left_out} faults are due after {limit}, and are left out", self.name);
        }
    }
}

impl Phases {
    /// The phases of a run by the names that its history has for them.
    pub const NAMES: &[&str] = &["warm-up", "faults", "heal", "quiesce", "final-reads", "end"];

    /// The end of a run at the latest, counted from the beginning of the faults phase: until then permanent faults come and go.
    pub fn end(&self) -> Duration {
        self.faults.0 + self.heal.0 + self.quiesce.0 + FINAL_READS
    }
}

/// How long all final reads may take.
pub const FINAL_READS: Duration = Duration::from_secs(20);

impl Default for Phases {
    fn default() -> Self {
        let seconds = |seconds| Time(Duration::from_secs(seconds));
        Self {
            boot: seconds(30),
            warm_up: seconds(2),
            faults: seconds(10),
            heal: seconds(20),
            quiesce: seconds(1),
            final_reads: true,
        }
    }
}

impl Default for Checks {
    fn default() -> Self {
        let budget = Time(Duration::from_mins(1));
        Self { consistency: Consistency::default(), lease_safety: true, progress: true, budget }
    }
}
