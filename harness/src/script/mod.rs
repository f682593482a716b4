//! Runs a workload's steps in their order and holds each answer against what the step expects.
//!
//! The first expectation that fails ends the script, in words: which step, what was expected, what came. If the harness
//! itself stalled since the last fault, nothing timed can be trusted, and the failure decides nothing.

pub(crate) mod expect;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use checker::history::{Function, Key};
use store::{
    api::{NodeId, PartitionId},
    routes::Entry,
};
use tokio::{
    sync::Mutex,
    task::JoinSet,
    time::{self, Instant},
};
use tokio_util::task::AbortOnDropHandle;

use crate::{
    cluster::Cluster,
    history_writer::{Ended, Finished, History},
    nemesis::{FaultError, Nemesis, Roles, Wanted, carry_out, see_through},
    plan::{Plan, node_order},
    stall::Stalls,
    worker::{BACKOFF, Session, Surroundings},
    workload::{Action, Ask, OperationStep, Step, Template, Via, Wait, Who},
};
use expect::{Expected, shown};

/// How long a step that waits may take, unless it says so itself.
pub(crate) const WAIT_LIMIT: Duration = Duration::from_secs(10);

/// How long background operations may take to end, unless the step that awaits them says so itself.
pub(crate) const AWAIT_LIMIT: Duration = Duration::from_secs(30);

/// Pause between two attempts of an operation that has `within`.
pub(crate) const ATTEMPT_PAUSE: Duration = Duration::from_millis(20);

/// Node orders of script choices are numbered from here, those of planned faults from 0.
pub(crate) const FIRST_CHOICE: u64 = 1 << 32;

/// How a script ended.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ScriptReport {
    /// Steps that came true.
    pub passed: usize,
    /// Steps in all.
    pub steps: usize,
    /// What failed, if something did.
    pub failure: Option<Failure>,
    /// True when the harness stalled meanwhile, so that the failure decides nothing.
    pub stalled: bool,
}

/// An expectation that did not come true.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// The step.
    pub step: String,
    /// What was expected, and what came.
    pub words: String,
}

/// What ends a script early.
enum Stop {
    Failure(Failure),
    Fault(FaultError),
}

/// A script in progress.
pub struct Script {
    plan: Arc<Plan>,
    cluster: Arc<Cluster>,
    nemesis: Arc<Nemesis>,
    shared: Arc<Shared>,
    stalls: Arc<Stalls>,
    sessions: BTreeMap<u64, Arc<Mutex<Session>>>,
    /// Operations under way: they end with the script.
    background: BTreeMap<String, Vec<AbortOnDropHandle<Result<Answered, String>>>>,
    faults: BTreeMap<String, u64>,
    /// Faults that change or end later.
    courses: JoinSet<Result<(), FaultError>>,
    leaders_at_fault: BTreeMap<PartitionId, NodeId>,
    /// From when on a stall of the harness matters.
    trusted_since: u64,
}

/// What the tasks of operations need.
struct Shared {
    plan: Arc<Plan>,
    roles: Arc<Roles>,
    history: Arc<History>,
    answered: std::sync::Mutex<BTreeMap<String, NodeId>>,
}

/// The leaders that answered one client of a step.
type Answered = Vec<NodeId>;

/// One client's part of a step.
struct Task {
    shared: Arc<Shared>,
    session: Arc<Mutex<Session>>,
    operation: OperationStep,
    within: Option<Duration>,
    step: String,
    /// Number of the step, from 0.
    index: u64,
    client: u64,
    /// Several operations of this step write: each appends its own mark to the value.
    several: bool,
}

impl Script {
    /// A script that has not begun.
    pub fn new(
        cluster: Arc<Cluster>,
        nemesis: Arc<Nemesis>,
        roles: Arc<Roles>,
        stalls: Arc<Stalls>,
        plan: Arc<Plan>,
        surroundings: &Surroundings,
    ) -> Self {
        let session = |client| {
            let session = Session::new(plan.script_client(client), surroundings.clone());
            (client, Arc::new(Mutex::new(session)))
        };
        let shared = Shared {
            plan: Arc::clone(&plan),
            roles,
            history: Arc::clone(&surroundings.history),
            answered: std::sync::Mutex::default(),
        };
        Self {
            cluster,
            nemesis,
            stalls,
            sessions: (1..=plan.script_clients).map(session).collect(),
            background: BTreeMap::new(),
            faults: BTreeMap::new(),
            courses: JoinSet::new(),
            leaders_at_fault: BTreeMap::new(),
            trusted_since: surroundings.history.now(),
            shared: Arc::new(shared),
            plan,
        }
    }

    /// Runs all steps. Faults that change or end later go on; they are handed back with the report.
    pub async fn run(mut self) -> (Result<ScriptReport, FaultError>, JoinSet<Result<(), FaultError>>) {
        let report = self.steps().await;
        (report, self.courses)
    }

    async fn steps(&mut self) -> Result<ScriptReport, FaultError> {
        let steps = self.plan.steps.clone();
        let mut report = ScriptReport { steps: steps.len(), ..ScriptReport::default() };
        for (index, step) in steps.iter().enumerate() {
            match self.step(index as u64, step).await {
                Ok(()) => report.passed += 1,
                Err(stop) => return self.stopped(report, stop),
            }
        }
        let left: Vec<String> = self.background.keys().cloned().collect();
        match self.awaits(&left, AWAIT_LIMIT).await {
            Ok(()) => Ok(report),
            Err(stop) => self.stopped(report, stop),
        }
    }

    fn stopped(&self, mut report: ScriptReport, stop: Stop) -> Result<ScriptReport, FaultError> {
        match stop {
            Stop::Fault(error) => Err(error),
            Stop::Failure(failure) => {
                let now = self.shared.history.now();
                report.stalled = self.stalls.during(self.trusted_since, now).is_some();
                report.failure = Some(failure);
                Ok(report)
            }
        }
    }

    async fn step(&mut self, index: u64, step: &Step) -> Result<(), Stop> {
        let within = step.within.map(|within| within.0);
        match &step.action {
            Action::Operation(operation) => self.operation(index, step, operation).await,
            Action::Wait(wait) => self.wait(step, wait, within.unwrap_or(WAIT_LIMIT)).await,
            Action::Await(names) => self.awaits(names, within.unwrap_or(AWAIT_LIMIT)).await,
            Action::Heal(name) => {
                let healed = match self.faults.get(name) {
                    Some(fault) => self.nemesis.end(*fault).await,
                    None => self.nemesis.heal().await,
                };
                healed.map_err(Stop::Fault)
            }
            Action::Fault(spec) => {
                self.trusted_since = self.shared.history.now();
                self.leaders_at_fault = self
                    .cluster
                    .leaders()
                    .into_iter()
                    .map(|(partition, (node, _))| (partition, node))
                    .collect();
                let order = node_order(self.plan.nodes, self.plan.seed, FIRST_CHOICE + index);
                let answered = self.shared.answered();
                let wanted = Wanted { spec, order: &order, answered: &answered, planned: None };
                let begun = carry_out(&self.nemesis, wanted, None).await.map_err(Stop::Fault)?;
                let Some(fault) = begun else { return Ok(()) };
                let (nemesis, spec) = (Arc::clone(&self.nemesis), spec.clone());
                self.courses.spawn(async move { see_through(&nemesis, fault, &spec, None).await });
                self.faults.insert(step.name.clone(), fault);
                Ok(())
            }
        }
    }

    async fn operation(&mut self, index: u64, step: &Step, operation: &OperationStep) -> Result<(), Stop> {
        let clients: Vec<u64> = match &operation.client {
            Who::All => self.sessions.keys().copied().collect(),
            Who::Only(clients) => clients.clone(),
        };
        let several = is_several(clients.len(), operation);
        let mut tasks = Vec::new();
        for client in clients {
            let task = Task {
                shared: Arc::clone(&self.shared),
                session: Arc::clone(&self.sessions[&client]),
                operation: OperationStep::clone(operation),
                within: step.within.map(|within| within.0),
                step: step.name.clone(),
                index,
                client,
                several,
            };
            tasks.push(AbortOnDropHandle::new(tokio::spawn(task.run())));
        }
        self.background.insert(step.name.clone(), tasks);
        if operation.background {
            return Ok(());
        }
        self.awaits(std::slice::from_ref(&step.name), Duration::MAX).await
    }

    /// Waits for operations, and checks what only all answers of a step together can show.
    async fn awaits(&mut self, names: &[String], limit: Duration) -> Result<(), Stop> {
        let deadline = Instant::now().checked_add(limit);
        for name in names {
            let fail = |words: String| Stop::Failure(Failure { step: name.clone(), words });
            let mut leaders = Vec::new();
            for task in self.background.remove(name).unwrap_or_default() {
                let ended = match deadline {
                    Some(deadline) => time::timeout_at(deadline, task).await,
                    None => Ok(task.await),
                };
                match ended {
                    Ok(Ok(Ok(answered))) => leaders.extend(answered),
                    Ok(Ok(Err(words))) => return Err(fail(words)),
                    Ok(Err(error)) => return Err(fail(format!("its task ended: {error}"))),
                    Err(_) => return Err(fail(format!("expected its end within {limit:?}; it goes on"))),
                }
            }
            leaders.sort_unstable();
            leaders.dedup();
            if self.wants_one_leader(name) && leaders.len() > 1 {
                return Err(fail(format!(
                    "expected all answers from one leader; they came from nodes {leaders:?}"
                )));
            }
        }
        Ok(())
    }

    fn wants_one_leader(&self, name: &str) -> bool {
        self.plan.steps.iter().any(|step| match &step.action {
            Action::Operation(operation) => step.name == name && operation.expect.one_leader == Some(true),
            _ => false,
        })
    }

    async fn wait(&self, step: &Step, wait: &Wait, limit: Duration) -> Result<(), Stop> {
        let deadline = Instant::now() + limit;
        let fail = |came: String| {
            Stop::Failure(Failure { step: step.name.clone(), words: format!("waited for {wait}; {came}") })
        };
        match wait {
            Wait::For(time) => time::sleep(time.0).await,
            Wait::Open => self.cluster.wait_open(limit).await.map_err(|error| fail(error.to_string()))?,
            Wait::Leader(partition) | Wait::LeaderChange(partition) => {
                let before = match wait {
                    Wait::LeaderChange(_) => self.leaders_at_fault.get(partition).copied(),
                    _ => None,
                };
                loop {
                    let leader = self.shared.roles.leader(*partition);
                    if leader.is_some() && leader != before {
                        break;
                    }
                    if Instant::now() >= deadline {
                        let came = leader
                            .map_or("nobody leads".to_owned(), |node| format!("node {node} still leads"));
                        return Err(fail(format!("after {limit:?} {came}")));
                    }
                    time::sleep(Duration::from_millis(5)).await;
                }
            }
        }
        Ok(())
    }
}

impl Shared {
    fn answered(&self) -> BTreeMap<String, NodeId> {
        self.answered.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone()
    }

    fn remember(&self, step: &str, leader: NodeId) {
        let mut answered = self.answered.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        answered.insert(step.to_owned(), leader);
    }
}

impl Task {
    async fn run(self) -> Result<Answered, String> {
        let session = Arc::clone(&self.session);
        let mut session = session.lock().await;
        let mut answered = Vec::new();
        let started = Instant::now();
        for time in 0.. {
            let again = match self.operation.lasts {
                Some(lasts) => started.elapsed() < lasts.0,
                None => time < self.operation.operations(),
            };
            if !again {
                break;
            }
            let leader = self.once(&mut session, time).await?;
            if leader.is_none() && self.operation.lasts.is_some() {
                time::sleep(BACKOFF).await;
            }
            answered.extend(leader);
        }
        answered.sort_unstable();
        answered.dedup();
        Ok(answered)
    }

    /// One operation, attempted again while the step has time and another attempt can do no harm.
    async fn once(&self, session: &mut Session, time: u64) -> Result<Option<NodeId>, String> {
        let function = function(&self.operation, self.index, self.client, time, self.several);
        let limit = Duration::from_millis(self.operation.timeout_ms.unwrap_or(self.shared.plan.timeout_ms));
        let started = Instant::now();
        let mut attempts = 0;
        loop {
            attempts += 1;
            let left =
                self.within.map_or(limit, |within| within.saturating_sub(started.elapsed()).min(limit));
            let finished = match self.entry(time * 1000 + attempts).await {
                Some(entry) => {
                    session.ask(entry, function.clone(), left.max(Duration::from_millis(20))).await
                }
                None => Finished::straight(0, Ended::Fail("nobody is there to be asked".to_owned())),
            };
            let ended = &finished.ended;
            let time_is_up = self.within.is_none_or(|within| started.elapsed() >= within);
            let expected = self.expected(function.key()).await;
            if let Some(result) = ended.result() {
                self.shared.remember(&self.step, result.leader);
            }
            let attempt = Attempt { number: attempts, time_is_up, timed: self.within.is_some() };
            if let Some(verdict) = settled(&expected, &finished, &function, attempt) {
                return verdict.map(|()| ended.result().map(|result| result.leader)).map_err(|wanted| {
                    format!(
                        "expected {wanted}; client {} got {} at attempt {attempts}",
                        self.client,
                        shown(&finished)
                    )
                });
            }
            time::sleep(ATTEMPT_PAUSE).await;
        }
    }

    async fn expected<'a>(&'a self, key: &'a Key) -> Expected<'a> {
        let expect = &self.operation.expect;
        let answered = self.shared.answered();
        let mut expected = Expected { expect, key, leader: None, not_leader: None };
        let order = node_order(self.shared.plan.nodes, self.shared.plan.seed, FIRST_CHOICE + self.index);
        if let Some(target) = &expect.leader {
            expected.leader = Some(self.shared.roles.resolve(target, &order, &answered).await);
        }
        if let Some(target) = &expect.not_leader {
            expected.not_leader = Some(self.shared.roles.resolve(target, &order, &answered).await);
        }
        expected
    }

    async fn entry(&self, attempt: u64) -> Option<Entry> {
        let choice = FIRST_CHOICE + (self.index << 16) + (self.client << 32) + attempt;
        let order = node_order(self.shared.plan.nodes, self.shared.plan.seed, choice);
        match &self.operation.via {
            Via::Any => order.first().copied().map(Entry::Leader),
            Via::Pinned => Some(Entry::Leader(pinned(self.client, self.shared.plan.nodes))),
            Via::Target(target) => {
                let nodes = self.shared.roles.resolve(target, &order, &self.shared.answered()).await;
                nodes.first().copied().map(Entry::At)
            }
        }
    }
}

/// One attempt of an operation.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Attempt {
    /// The first one is 1.
    pub number: u64,
    /// All the step's time has passed.
    pub time_is_up: bool,
    /// The step has a time, within which there may be more than one.
    pub timed: bool,
}

/// What an attempt settles of an operation: that it came as expected, or what was expected. None: it may be attempted
/// again, since it has time left and another attempt can do no harm.
pub(crate) fn settled(
    expected: &Expected<'_>,
    finished: &Finished,
    function: &Function,
    attempt: Attempt,
) -> Option<Result<(), String>> {
    let ended = &finished.ended;
    if let Some(least) = expected.wants_later(ended, attempt.number) {
        return Some(Err(format!("no answer before attempt {least}")));
    }
    let verdict = expected.judge(finished, attempt.time_is_up && attempt.timed);
    let must_stay_silent = expected.wants_silence() && ended.result().is_none();
    let settled = verdict.is_ok() && !must_stay_silent;
    let harmless = matches!(ended, Ended::Fail(_)) || matches!(function, Function::Get { .. });
    let broke_silence = expected.wants_silence() && ended.result().is_some();
    (settled || attempt.time_is_up || !harmless || broke_silence).then_some(verdict)
}

/// The node that a pinned client keeps to.
pub(crate) fn pinned(client: u64, nodes: u64) -> NodeId {
    (client - 1) % nodes + 1
}

/// What a client asks in step number `index`, counted from 0, for the given time, counted from 0. When several operations
/// of the step write, each appends its own mark to the value.
pub(crate) fn function(
    operation: &OperationStep,
    index: u64,
    client: u64,
    time: u64,
    several: bool,
) -> Function {
    let mark = format!("-{client}-{}", time + 1);
    let key = operation.key(time).clone();
    let value = |given: &Option<Template>| match given {
        Some(given) if several => format!("{}{mark}", given.of(&key)),
        Some(given) => given.of(&key),
        None => format!("s{}{mark}", index + 1),
    };
    match &operation.ask {
        Ask::Get => Function::Get { key },
        Ask::Put { value: given } => Function::Put { value: value(given), key },
        Ask::Cas { expected, new } => {
            let expected = expected.as_ref().map(|expected| expected.of(&key));
            Function::Cas { expected, new: value(new), key }
        }
        Ask::Delete => Function::Delete { key },
    }
}

/// Whether a step asks more than once of a key, of several clients or of one.
pub(crate) fn is_several(clients: usize, operation: &OperationStep) -> bool {
    clients > 1 || operation.times > 1 || operation.lasts.is_some()
}
