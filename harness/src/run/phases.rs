//! What happens when: the phases of a run, one after the other.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use anyhow::{Context, Result, bail};
use checker::history::{Function, Key};
use store::{api::NodeId, routes::Entry};
use tokio::{
    sync::watch,
    task::JoinSet,
    time::{self, Instant},
};

use super::{Carried, READERS, Run};
use crate::{
    generator::Generator,
    history_writer::Ended,
    nemesis::{FaultError, follow_plan},
    plan::{PlannedEntry, PlannedFault},
    script::{Script, ScriptReport},
    worker::{Session, Worker},
    workload::FINAL_READS,
};

/// The phases of one run.
pub struct Phases {
    run: Arc<Run>,
    workers: JoinSet<()>,
    /// Permanent faults, which come and go until the end.
    permanent: JoinSet<Result<(), FaultError>>,
    /// Faults of a script's steps that change or end later.
    scripted: JoinSet<Result<(), FaultError>>,
    stop: watch::Sender<bool>,
}

impl Phases {
    /// Before the first phase; the processes have started.
    pub fn new(run: Arc<Run>) -> Self {
        let stop = watch::Sender::new(false);
        Self { run, workers: JoinSet::new(), permanent: JoinSet::new(), scripted: JoinSet::new(), stop }
    }

    /// Carries out all of them.
    pub async fn carry_out(mut self) -> Result<Carried> {
        let phases = self.run.plan.phases;
        self.run.progress.phase("boot");
        if self.run.plan.late.is_empty() {
            let boot = phases.boot.0;
            self.run.cluster.wait_open(boot).await.context("not every node came to serve clients")?;
            if !self.leaders_within(boot).await {
                bail!("not every partition had a leader {boot:?} after all nodes had found each other");
            }
        }
        if self.run.plan.operations.is_some() {
            self.enter("warm-up");
            self.start_workers();
            time::sleep(phases.warm_up.0).await;
        }
        self.enter("faults");
        let mut carried = Carried { script: self.faults().await?, ..Carried::default() };
        carried.healed = self.enter("heal");
        let healing = self.run.nemesis.heal().await;
        self.tolerated(healing).context("not everything could be healed")?;
        carried.core = self.run.nemesis.core();
        let has_leaders = self.leaders_within(phases.heal.0).await;
        if self.run.plan.operations.is_some() {
            self.enter("quiesce");
            time::sleep(phases.quiesce.0).await;
        }
        self.stop_workers().await?;
        self.enter("final-reads");
        if !has_leaders {
            carried
                .unread
                .push(format!("not every partition had a leader {:?} after healing", phases.heal.0));
        }
        if phases.final_reads {
            carried.unread.extend(self.final_reads(&carried.core).await?);
        }
        while let Some(ended) = self.permanent.try_join_next().or_else(|| self.scripted.try_join_next()) {
            self.tolerated(ended.context("the course of a fault ended early")?)
                .context("a fault could not be carried out to its end")?;
        }
        self.permanent.shutdown().await;
        self.run.nemesis.close();
        carried.keys_read = self.run.keys_read.load(Ordering::Relaxed);
        carried.ended = self.enter("end");
        Ok(carried)
    }

    fn enter(&self, phase: &'static str) -> u64 {
        self.run.progress.phase(phase);
        self.run.history.phase(phase)
    }

    /// The script, if there is one, beside the faults by the clock; without a script, for as long as the phase takes.
    async fn faults(&mut self) -> Result<Option<ScriptReport>> {
        let plan = Arc::clone(&self.run.plan);
        let numbered = (1..).zip(plan.faults.iter().cloned());
        let (permanent, passing): (Vec<_>, Vec<_>) =
            numbered.partition(|(_, fault): &(u64, PlannedFault)| fault.spec.permanent);
        let nemesis = Arc::clone(&self.run.nemesis);
        let end = Instant::now() + plan.phases.end();
        self.permanent.spawn(async move { follow_plan(&nemesis, &permanent, end).await });
        let lasts = if plan.steps.is_empty() || !plan.faults.is_empty() {
            plan.phases.faults.0
        } else {
            Duration::ZERO
        };
        let until = Instant::now() + lasts;
        let by_the_clock = async {
            let planned = follow_plan(&self.run.nemesis, &passing, until);
            let (done, ()) = tokio::join!(planned, time::sleep_until(until));
            done
        };
        if plan.steps.is_empty() {
            self.tolerated(by_the_clock.await).context("a fault could not be carried out")?;
            return Ok(None);
        }
        let script = Script::new(
            Arc::clone(&self.run.cluster),
            Arc::clone(&self.run.nemesis),
            Arc::clone(&self.run.roles),
            Arc::clone(&self.run.stalls),
            Arc::clone(&plan),
            &self.run.surroundings,
        );
        let ((script, scripted), clock) = tokio::join!(script.run(), by_the_clock);
        self.scripted = scripted;
        self.tolerated(clock).context("a fault could not be carried out")?;
        Ok(Some(script.context("a step's fault could not be carried out")?))
    }

    /// When a node has died by itself, faults that meet it fail; what the run still shows says more than such a failure.
    fn tolerated(&self, done: Result<(), FaultError>) -> Result<(), FaultError> {
        if self.run.cluster.deaths().is_empty() { done } else { Ok(()) }
    }

    /// Whether every partition has a leader within this time, where the nodes say so.
    async fn leaders_within(&self, limit: Duration) -> bool {
        if !self.run.plan.system.is_store() {
            return true;
        }
        let partitions = self.run.plan.cluster.partitions.len();
        let deadline = Instant::now() + limit;
        while self.run.cluster.leaders().len() < partitions {
            if Instant::now() >= deadline {
                return false;
            }
            time::sleep(Duration::from_millis(10)).await;
        }
        true
    }

    fn start_workers(&mut self) {
        let plan = &self.run.plan;
        let Some(operations) = plan.operations.clone().map(Arc::new) else { return };
        let clients = plan.clients.len() as u32;
        // the rate is divided among the clients, which begin one after the other within one interval
        let interval = operations.rate.map(|rate| Duration::from_secs_f64(f64::from(clients) / rate as f64));
        let surroundings = &self.run.surroundings;
        let sessions = plan.clients.chunks(plan.share.max(1) as usize).flat_map(|group| {
            let numbers: Vec<u64> = group.iter().map(|client| client.client).collect();
            group.iter().zip(Session::sharing(&numbers, surroundings))
        });
        for (index, (client, session)) in sessions.enumerate() {
            let first = interval.unwrap_or_default() * index as u32 / clients;
            let worker = Worker {
                session,
                generator: Generator::new(client.clone(), plan.nodes, Arc::clone(&operations)),
                interval,
                limit: Duration::from_millis(plan.timeout_ms),
            };
            self.workers.spawn(worker.run(first, self.stop.subscribe()));
        }
    }

    async fn stop_workers(&mut self) -> Result<()> {
        self.stop.send_replace(true);
        while let Some(ended) = self.workers.join_next().await {
            ended.context("a client ended in the middle of the run")?;
        }
        Ok(())
    }

    /// Reads every key through several nodes of the core; returns what could not be read, and why.
    async fn final_reads(&self, core: &[NodeId]) -> Result<Vec<String>> {
        let deadline = Instant::now() + FINAL_READS;
        let mut readers = JoinSet::new();
        for reader in 0..READERS {
            let keys: Vec<Key> =
                self.run.keys.iter().skip(reader as usize).step_by(READERS as usize).cloned().collect();
            readers.spawn(read_all(Arc::clone(&self.run), core.to_vec(), reader, keys, deadline));
        }
        let mut unread = Vec::new();
        while let Some(read) = readers.join_next().await {
            unread.extend(read.context("a final reader ended in the middle of its work")?);
        }
        Ok(unread)
    }
}

/// One reader's keys; each is asked for again until it is answered, each time at the next node of the core.
async fn read_all(
    run: Arc<Run>,
    core: Vec<NodeId>,
    reader: u64,
    keys: Vec<Key>,
    deadline: Instant,
) -> Vec<String> {
    let mut session = Session::new(run.plan.last_client() + 1 + reader, run.surroundings.clone());
    let limit = Duration::from_millis(run.plan.timeout_ms);
    let first = match run.plan.clients.first().map(|client| client.entry) {
        Some(PlannedEntry::Node(node)) => node,
        _ => 1,
    };
    let mut nodes = core.iter().copied().cycle().skip((first + reader) as usize % core.len().max(1));
    let mut unread = Vec::new();
    for key in keys {
        loop {
            let Some(node) = nodes.next() else {
                unread.push(format!("key {key}: no node is left in the core"));
                break;
            };
            let ended = session.ask(Entry::At(node), Function::Get { key: key.clone() }, limit).await.ended;
            match ended {
                Ended::Ok(_) => {
                    run.keys_read.fetch_add(1, Ordering::Relaxed);
                    break;
                }
                Ended::Fail(error) | Ended::Info(error) if Instant::now() >= deadline => {
                    unread.push(format!("key {key}: {error}"));
                    break;
                }
                Ended::Fail(_) | Ended::Info(_) => time::sleep(Duration::from_millis(50)).await,
            }
        }
    }
    unread
}
