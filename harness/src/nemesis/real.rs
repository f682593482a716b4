//! Faults on real processes.
//!
//! What a fault claims is written down first, and then the nodes and the network are brought to what all claims together
//! ask for. Each node is changed by one fault at a time, and faults of different nodes do not wait for one another.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use checker::history;
use futures::future::join_all;
use store::{
    api::NodeId,
    config::{ClockSkew, StorageKind},
    node::{control::DiskFault, wire::Kind},
};
use tokio::sync::watch;

use super::{Active, Effect, Effects, IDLE, LATE, Roles, Wanted, in_words, schedule::wants_peers, suits};
use crate::{
    cluster::{Cluster, ControlError, StartError},
    history_writer::History,
    plan::Plan,
    proxy::{Link, Match, Network, Rule},
    workload::{Death, FaultAction, Happening, Shape, Trigger, Word},
};

/// Why a fault could not be carried out.
#[derive(Debug, thiserror::Error)]
pub enum FaultError {
    /// A node could not be started again.
    #[error(transparent)]
    Start(#[from] StartError),
    /// A node did not obey.
    #[error(transparent)]
    Control(#[from] ControlError),
    /// Several things could not be done.
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
    Several(Vec<FaultError>),
}

impl FaultError {
    /// What came of all of it, or what went wrong with some of it.
    fn of<T>(done: impl IntoIterator<Item = Result<T, Self>>) -> Result<Vec<T>, Self> {
        let (mut all, mut errors) = (Vec::new(), Vec::new());
        for one in done {
            match one {
                Ok(one) => all.push(one),
                Err(error) => errors.push(error),
            }
        }
        match errors.len() {
            0 => Ok(all),
            1 => Err(errors.remove(0)),
            _ => Err(Self::Several(errors)),
        }
    }
}

/// Does all of this side by side, whatever goes wrong with some of it.
pub(super) async fn all<T, F>(works: impl IntoIterator<Item = F>) -> Result<Vec<T>, FaultError>
where
    F: Future<Output = Result<T, FaultError>>,
{
    FaultError::of(join_all(works).await)
}

/// Carries out faults.
pub struct Nemesis {
    plan: Arc<Plan>,
    network: Arc<Network>,
    cluster: Arc<Cluster>,
    history: Arc<History>,
    roles: Arc<Roles>,
    ledger: Mutex<Ledger>,
    /// What each node has been made; one change at a time.
    places: BTreeMap<NodeId, tokio::sync::Mutex<Place>>,
    /// One switch of the network at a time, so that the last one has the last rules.
    switching: tokio::sync::Mutex<()>,
    triggers: Triggers,
}

/// The faults in effect.
#[derive(Default)]
struct Ledger {
    effects: Effects,
    active: BTreeMap<u64, Active>,
    last_fault: u64,
    /// Nodes that permanent faults have hit.
    outside: BTreeSet<NodeId>,
    /// How much each fault struck at its beginning.
    struck: BTreeMap<u64, u64>,
}

/// What a node's process has been told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Place {
    clock: ClockSkew,
    disk: DiskFault,
}

/// What faults wait for.
pub struct Triggers {
    network: Arc<Network>,
    history: Arc<History>,
    cluster: Arc<Cluster>,
    /// How often each named fault has begun and ended.
    faults: watch::Sender<BTreeMap<String, [u64; 2]>>,
}

impl Nemesis {
    /// Everything is whole, but for the nodes that come late: those are cut off.
    pub fn new(
        plan: Arc<Plan>,
        network: Arc<Network>,
        cluster: Arc<Cluster>,
        history: Arc<History>,
        roles: Arc<Roles>,
    ) -> Self {
        let ledger = Ledger { effects: Effects::new(&plan), ..Ledger::default() };
        let places = plan.node_ids().into_iter().map(|node| {
            (
                node,
                tokio::sync::Mutex::new(Place {
                    clock: first_clock(&plan, node),
                    disk: DiskFault::default(),
                }),
            )
        });
        let triggers = Triggers {
            network: Arc::clone(&network),
            history: Arc::clone(&history),
            cluster: Arc::clone(&cluster),
            faults: watch::Sender::default(),
        };
        Self {
            places: places.collect(),
            plan,
            network,
            cluster,
            history,
            roles,
            ledger: Mutex::new(ledger),
            switching: tokio::sync::Mutex::default(),
            triggers,
        }
    }

    /// What faults wait for.
    pub fn triggers(&self) -> &Triggers {
        &self.triggers
    }

    /// Whom a fault comes down to at this moment: its target, and its peer.
    pub(super) async fn whom(&self, wanted: Wanted<'_>) -> (Vec<NodeId>, Vec<NodeId>) {
        let Wanted { spec, order, answered, .. } = wanted;
        if spec.action == FaultAction::Heal {
            return (Vec::new(), Vec::new());
        }
        let nodes = self.roles.resolve_for(spec, order, answered).await;
        let peers = match &spec.action {
            FaultAction::Links { shape: Shape::Between { peer: Some(peer), .. }, .. } => {
                // a role that the target has already is somebody else's here
                let others: Vec<NodeId> =
                    order.iter().copied().filter(|node| !nodes.contains(node)).collect();
                let peers = self.roles.resolve(peer, &others, answered).await;
                peers.into_iter().filter(|peer| !nodes.contains(peer)).collect()
            }
            _ => Vec::new(),
        };
        (nodes, peers)
    }

    /// A fault begins; returns its number. None: meanwhile nothing can be done to these nodes any more, and this was not to
    /// be the last attempt.
    pub(super) async fn begin(
        &self,
        wanted: Wanted<'_>,
        nodes: Vec<NodeId>,
        peers: Vec<NodeId>,
        last: bool,
    ) -> Result<Option<u64>, FaultError> {
        let requested = self.history.now();
        let action = &wanted.spec.action;
        let mut nodes = nodes;
        nodes.retain(|node| suits(wanted.spec, self.roles.state(*node)));
        if !last && nodes.is_empty() {
            return Ok(None);
        }
        if wants_peers(action) && peers.is_empty() {
            nodes.clear();
        }
        let mut active = Active {
            spec: wanted.spec.clone(),
            planned: wanted.planned,
            nodes,
            peers,
            order: wanted.order.to_vec(),
            clients: self.plan.last_client(),
        };
        let nobody = active.nodes.is_empty() && *action != FaultAction::Heal;
        let fault = {
            let mut ledger = self.ledger();
            ledger.last_fault += 1;
            let fault = ledger.last_fault;
            if !nobody && let Some(effect) = active.effect(0) {
                ledger.effects.set(fault, effect);
                ledger.active.insert(fault, active.clone());
            }
            if active.spec.permanent {
                ledger.effects.keep(fault);
            }
            if active.leaves_outside() {
                ledger.outside.extend(active.touched());
            }
            fault
        };
        if !nobody {
            let struck = self.act(&active).await?;
            self.ledger().struck.insert(fault, struck);
            if let Some(effect) = active.effect(0) {
                let gone = self.settle(&effect).await?;
                if !matches!(effect, Effect::Down(_)) && !gone.is_empty() {
                    self.leave_out(fault, &mut active, &gone).await?;
                }
            }
        }
        self.record(fault, true, &active, requested);
        Ok(Some(fault))
    }

    /// These nodes have died before the fault reached them, which an earlier one kept waiting: nothing was done to them, and nothing is
    /// recorded of them.
    async fn leave_out(&self, fault: u64, active: &mut Active, gone: &[NodeId]) -> Result<(), FaultError> {
        active.nodes.retain(|node| !gone.contains(node));
        {
            let mut ledger = self.ledger();
            // somebody may have ended it meanwhile
            if ledger.active.remove(&fault).is_some() {
                ledger.effects.remove(fault);
                if let Some(effect) = active.effect(0).filter(|_| !active.nodes.is_empty()) {
                    ledger.effects.set(fault, effect);
                    ledger.active.insert(fault, active.clone());
                }
            }
        }
        // one that has come back meanwhile was told of it
        self.settle_nodes(gone).await.map(drop)
    }

    /// A fault changes its links, or ends by itself; false when it is over.
    pub(super) async fn change(&self, fault: u64, tick: u64) -> Result<bool, FaultError> {
        let changed = {
            let mut ledger = self.ledger();
            let effect = match ledger.active.get(&fault) {
                Some(active) => active.effect(tick),
                None => return Ok(false),
            };
            let changed = effect.is_some();
            if let Some(effect) = effect {
                ledger.effects.set(fault, effect);
            }
            changed
        };
        if changed {
            self.switch().await;
        } else {
            self.end(fault).await?;
        }
        Ok(changed)
    }

    /// Undoes a fault, if it is still in effect.
    pub async fn end(&self, fault: u64) -> Result<(), FaultError> {
        let requested = self.history.now();
        let (active, effect) = {
            let mut ledger = self.ledger();
            (ledger.active.remove(&fault), ledger.effects.remove(fault))
        };
        let (Some(active), Some(effect)) = (active, effect) else { return Ok(()) };
        self.settle(&effect).await?;
        self.record(fault, false, &active, requested);
        Ok(())
    }

    /// The run is over: what is still in effect, since it is permanent, ends with it and says what it has struck.
    pub fn close(&self) {
        let active = std::mem::take(&mut self.ledger().active);
        let requested = self.history.now();
        for (fault, active) in active {
            self.record(fault, false, &active, requested);
        }
    }

    /// The nodes that no permanent fault has hit.
    pub fn core(&self) -> Vec<NodeId> {
        let ledger = self.ledger();
        self.plan.node_ids().into_iter().filter(|node| !ledger.outside.contains(node)).collect()
    }

    /// Undoes every fault in effect that is not permanent, lets late nodes in, and starts dead nodes again that can come back.
    /// What cannot be healed keeps nothing else from it.
    pub async fn heal(&self) -> Result<(), FaultError> {
        let late = self.ledger().effects.remove(LATE);
        if late.is_some() {
            self.switch().await;
        }
        let mut done = Vec::new();
        loop {
            let passing =
                self.ledger().active.iter().find(|(_, active)| active.heals()).map(|(fault, _)| *fault);
            let Some(fault) = passing else { break };
            done.push(self.end(fault).await);
        }
        done.push(self.settle_nodes(&self.plan.node_ids()).await.map(drop));
        FaultError::of(done).map(drop)
    }

    /// What a fault does once, at its beginning; returns how much it has struck, if it counts that.
    async fn act(&self, active: &Active) -> Result<u64, FaultError> {
        let nodes = &active.nodes;
        match &active.spec.action {
            FaultAction::Kill(death) => {
                let caught = all(nodes.iter().map(|node| self.kill(*node, *death))).await?;
                return Ok(caught.into_iter().filter(|caught| *caught).count() as u64);
            }
            FaultAction::Wipe => drop(all(nodes.iter().map(|node| self.wipe(*node))).await?),
            FaultAction::Restart => {
                self.ledger().effects.let_live(nodes);
                all(nodes.iter().map(|node| self.kill(*node, Death::Now))).await?;
                self.settle_nodes(nodes).await?;
            }
            FaultAction::Resume => {
                self.ledger().effects.let_go_on(nodes);
                self.settle_nodes(nodes).await?;
            }
            FaultAction::Release => {
                let held: Vec<u64> = {
                    let ledger = self.ledger();
                    let holds = |active: &Active| {
                        active.spec.word == Word::Hold && active.nodes.iter().any(|node| nodes.contains(node))
                    };
                    ledger
                        .active
                        .iter()
                        .filter(|(_, active)| holds(active))
                        .map(|(fault, _)| *fault)
                        .collect()
                };
                for fault in &held {
                    self.end(*fault).await?;
                }
                return Ok(held.len() as u64);
            }
            FaultAction::Reset => self.reset(nodes).await,
            FaultAction::Heal => self.heal().await?,
            FaultAction::TransferLeader { partition } => {
                let mut transferred = 0;
                for node in nodes {
                    transferred += u64::from(self.roles.transfer(*partition, *node).await);
                }
                return Ok(transferred);
            }
            FaultAction::Pause
            | FaultAction::Links { .. }
            | FaultAction::StallDisk { .. }
            | FaultAction::Clock(_) => {}
        }
        Ok(0)
    }

    /// Returns whether the node was caught in the act in which it was to die.
    async fn kill(&self, node: NodeId, death: Death) -> Result<bool, FaultError> {
        let _place = self.places[&node].lock().await;
        if !self.cluster.is_running(node) {
            return Ok(false);
        }
        match death {
            Death::DuringWrite if !self.cluster.is_paused(node) => {
                return Ok(self.cluster.kill_in_write(node, IDLE).await?);
            }
            Death::DuringSnapshot if !self.cluster.is_paused(node) => {
                let caught = self.snapshot_travels(node).await;
                self.cluster.kill(node).await?;
                return Ok(caught);
            }
            Death::Now | Death::LosesUnsynced | Death::DuringWrite | Death::DuringSnapshot => {
                self.cluster.kill(node).await?;
            }
            Death::TearsLog => {
                self.cluster.kill(node).await?;
                self.cluster.tear_log(node)?;
            }
            Death::DuringRecovery => {
                self.cluster.kill(node).await?;
                return Ok(self.cluster.die_in_recovery(node).await?);
            }
        }
        Ok(false)
    }

    /// Waits until a piece of a snapshot is on its way to the node or from it; returns whether one was within a second.
    async fn snapshot_travels(&self, node: NodeId) -> bool {
        let touches = |link: &Link| link.nodes().is_some_and(|(from, to)| from == node || to == node);
        let links: Vec<Link> = self.network.links().filter(touches).collect();
        let travels = self.network.watch(&links, Match::kind(Kind::SnapshotPiece), 1).await;
        tokio::time::timeout(IDLE, travels).await.is_ok_and(|sighting| sighting.is_some())
    }

    /// The node comes back without its disk, unless another fault keeps it dead, and as other faults ask for.
    async fn wipe(&self, node: NodeId) -> Result<(), FaultError> {
        let mut place = self.places[&node].lock().await;
        if self.cluster.is_running(node) {
            self.cluster.kill(node).await?;
        }
        self.cluster.wipe(node)?;
        self.settle_place(node, &mut place).await.map(drop)
    }

    /// Breaks the connections between the nodes and all others; what faults there are stay.
    async fn reset(&self, nodes: &[NodeId]) {
        let _one_at_a_time = self.switching.lock().await;
        let conditions = self.ledger().effects.conditions();
        let touches =
            |link: &Link| link.nodes().is_some_and(|(from, to)| nodes.contains(&from) || nodes.contains(&to));
        let mut broken = conditions.clone();
        for link in self.network.links().filter(touches) {
            *broken.entry(link).or_default() += Rule::Sever.into();
        }
        self.network.switch(broken).await;
        self.network.switch(conditions).await;
    }

    /// Brings about what has changed with an effect that has come or gone; the nodes that are dead, and stay so.
    async fn settle(&self, effect: &Effect) -> Result<Vec<NodeId>, FaultError> {
        match effect {
            Effect::Links(..) => {
                self.switch().await;
                Ok(Vec::new())
            }
            _ => self.settle_nodes(effect.nodes()).await,
        }
    }

    async fn switch(&self) {
        let _one_at_a_time = self.switching.lock().await;
        let conditions = self.ledger().effects.conditions();
        self.network.switch(conditions).await;
    }

    async fn settle_nodes(&self, nodes: &[NodeId]) -> Result<Vec<NodeId>, FaultError> {
        let live = all(nodes.iter().map(|node| self.settle_node(*node))).await?;
        Ok(nodes.iter().zip(live).filter(|(_, lives)| !lives).map(|(node, _)| *node).collect())
    }

    async fn settle_node(&self, node: NodeId) -> Result<bool, FaultError> {
        let mut place = self.places[&node].lock().await;
        self.settle_place(node, &mut place).await
    }

    /// Starts the node, stops it, sets its clock and its disk, until it is as all faults together ask for. Whether it lives.
    async fn settle_place(&self, node: NodeId, place: &mut Place) -> Result<bool, FaultError> {
        let (down, paused) = {
            let ledger = self.ledger();
            (ledger.effects.is_down(node), ledger.effects.is_paused(node))
        };
        // without a disk it would come back without its promises
        let may_start = !down && self.plan.cluster.storage == StorageKind::Durable;
        if !self.cluster.is_running(node) {
            if !may_start {
                return Ok(false);
            }
            self.start(node, place).await?;
        }
        match (self.cluster.is_paused(node), paused) {
            (false, true) => self.cluster.pause(node).await.map(drop)?,
            (true, false) => self.cluster.resume(node).await.map(drop)?,
            _ => {}
        }
        // one that stands still is told when it goes on
        if !paused {
            self.tell(node, place).await?;
        }
        Ok(true)
    }

    /// Starts a node. Its clock is right from the beginning: one that jumped when it is told would shorten waits that are
    /// counted from there.
    async fn start(&self, node: NodeId, place: &mut Place) -> Result<(), FaultError> {
        let clock = self.ledger().effects.clock(node, first_clock(&self.plan, node));
        self.cluster.set_first_clock(node, clock);
        self.cluster.restart(node).await?;
        *place = Place { clock, disk: DiskFault::default() };
        self.tell(node, place).await
    }

    async fn tell(&self, node: NodeId, place: &mut Place) -> Result<(), FaultError> {
        let wanted = {
            let effects = &self.ledger().effects;
            Place { clock: effects.clock(node, first_clock(&self.plan, node)), disk: effects.disk(node) }
        };
        if wanted.clock != place.clock {
            self.cluster.clock(node, wanted.clock).await?;
        }
        if wanted.disk != place.disk {
            self.cluster.disk(node, wanted.disk).await?;
        }
        *place = wanted;
        Ok(())
    }

    fn record(&self, fault: u64, begins: bool, active: &Active, requested: u64) {
        let (target, nodes) = in_words(active);
        let struck = active.spec.word.strikes().map(|_| {
            let at_first = self.ledger().struck.get(&fault).copied().unwrap_or_default();
            at_first + self.network.struck(fault)
        });
        self.history.nemesis(history::Nemesis {
            time: 0,
            requested,
            fault,
            begins,
            action: active.spec.word.text().to_owned(),
            target,
            nodes,
            name: active.spec.name.clone(),
            planned: active.planned,
            struck,
            instant: active.is_instant(),
        });
        if let Some(name) = &active.spec.name {
            self.triggers.faults.send_modify(|faults| {
                faults.entry(name.clone()).or_default()[usize::from(!begins)] += 1;
            });
        }
    }

    fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Triggers {
    /// Waits until what triggers a fault has happened, counted from now on.
    pub async fn happened(&self, trigger: &Trigger) {
        let count = trigger.count;
        match &trigger.happening {
            Happening::Write => {
                let mut writes = self.history.writes();
                let base = *writes.borrow();
                reached(&mut writes, |writes| *writes >= base + count).await;
            }
            Happening::FaultBegins(name) | Happening::FaultEnds(name) => {
                let edge = usize::from(matches!(trigger.happening, Happening::FaultEnds(_)));
                let times =
                    |faults: &BTreeMap<String, [u64; 2]>| faults.get(name).map_or(0, |times| times[edge]);
                let mut faults = self.faults.subscribe();
                reached(&mut faults, |faults| times(faults) >= count).await;
            }
            Happening::LeaderChange { partition } => {
                let changes = || self.cluster.leader_changes().get(partition).copied().unwrap_or_default();
                let mut events = self.cluster.events();
                let base = changes();
                while changes() < base + count {
                    // a lost event is as good as one that came: what they have led to is looked at
                    let _ = events.recv().await;
                }
            }
            Happening::Message { from, to, matching } => {
                let meant = |link: &Link| {
                    let is = |end: &Option<NodeId>, node| end.is_none_or(|end| end == node);
                    link.nodes().is_some_and(|(sender, receiver)| is(from, sender) && is(to, receiver))
                };
                let links: Vec<Link> = self.network.links().filter(meant).collect();
                if self.network.watch(&links, matching.clone(), count).await.await.is_none() {
                    std::future::pending::<()>().await;
                }
            }
        }
        tokio::time::sleep(trigger.plus.0).await;
    }
}

/// Waits for a value; for ever when nobody can send it any more.
async fn reached<T>(values: &mut watch::Receiver<T>, fits: impl FnMut(&T) -> bool) {
    if values.wait_for(fits).await.is_err() {
        std::future::pending::<()>().await;
    }
}

fn first_clock(plan: &Plan, node: NodeId) -> ClockSkew {
    plan.clocks.iter().find(|clock| clock.node == node).map(|clock| clock.skew).unwrap_or_default()
}
