//! Breaks things on time and mends them again: every fault is recorded with the nodes that it came down to, when it was
//! asked for and when it was in effect.

mod cuts;
mod roles;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use checker::history;
use store::{
    api::NodeId,
    config::{ClockSkew, StorageKind},
};
use tokio::time::{self, Instant};

use crate::{
    cluster::{Cluster, ControlError, StartError},
    history_writer::History,
    plan::{Plan, PlannedFault},
    proxy::Network,
    workload::{FaultAction, FaultSpec, Target},
};
pub use cuts::{Cut, Cuts};
pub use roles::{OBSERVER, Roles};

/// How long a role may be vacant before a fault that is aimed at it is given up.
pub(crate) const VACANCY: Duration = Duration::from_secs(3);

/// Why a fault could not be carried out.
#[derive(Debug, thiserror::Error)]
pub enum FaultError {
    /// A node could not be started again.
    #[error(transparent)]
    Start(#[from] StartError),
    /// A node did not obey.
    #[error(transparent)]
    Control(#[from] ControlError),
}

/// Carries out faults.
pub struct Nemesis {
    plan: Arc<Plan>,
    network: Arc<Network>,
    cluster: Arc<Cluster>,
    history: Arc<History>,
    roles: Arc<Roles>,
    cuts: Cuts,
    active: BTreeMap<u64, Active>,
    clocks: BTreeMap<NodeId, ClockSkew>,
    last_fault: u64,
    /// Nodes that permanent faults have hit.
    outside: BTreeSet<NodeId>,
}

/// A fault in effect.
struct Active {
    spec: FaultSpec,
    target: String,
    nodes: Vec<NodeId>,
    /// Clocks to go back to.
    clocks: BTreeMap<NodeId, ClockSkew>,
}

impl Nemesis {
    /// Everything is whole, but for the nodes that come late: those are cut off under fault number 0.
    pub fn new(
        plan: Arc<Plan>,
        network: Arc<Network>,
        cluster: Arc<Cluster>,
        history: Arc<History>,
        roles: Arc<Roles>,
    ) -> Self {
        let mut cuts = Cuts::default();
        cuts.add(0, late_cut(&plan));
        let clocks = plan.clocks.iter().map(|clock| (clock.node, clock.skew)).collect();
        let active = BTreeMap::new();
        let outside = BTreeSet::new();
        Self { plan, network, cluster, history, roles, cuts, active, clocks, last_fault: 0, outside }
    }

    /// Carries out a fault of the plan; returns its number.
    pub async fn begin(
        &mut self,
        spec: &FaultSpec,
        order: &[NodeId],
        answered: &BTreeMap<String, NodeId>,
    ) -> Result<u64, FaultError> {
        self.last_fault += 1;
        let fault = self.last_fault;
        let requested = self.history.now();
        if spec.action == FaultAction::Heal {
            self.heal().await?;
            self.record(fault, true, spec, Vec::new(), requested);
            return Ok(fault);
        }
        let nodes = self.await_target(spec, order, answered).await;
        let mut active =
            Active { spec: spec.clone(), target: spec.target.to_string(), nodes, clocks: BTreeMap::new() };
        let requested = self.history.now();
        self.break_it(fault, &mut active, order).await?;
        self.record(fault, true, spec, active.nodes.clone(), requested);
        if spec.permanent {
            self.outside.extend(&active.nodes);
        }
        if !active.nodes.is_empty() && spec.action != FaultAction::Restart {
            self.active.insert(fault, active);
        }
        Ok(fault)
    }

    /// Undoes a fault, if it is still in effect.
    pub async fn end(&mut self, fault: u64) -> Result<(), FaultError> {
        let Some(active) = self.active.remove(&fault) else { return Ok(()) };
        let requested = self.history.now();
        self.mend(fault, &active).await?;
        self.record_of(fault, false, &active, requested);
        Ok(())
    }

    /// Undoes every fault in effect that is not permanent, lets late nodes in, and starts dead nodes again that can come back.
    pub async fn heal(&mut self) -> Result<(), FaultError> {
        if self.cuts.remove(0) {
            self.network.switch(self.cuts.rules()).await;
        }
        let passing = |(fault, active): (&u64, &Active)| (!active.spec.permanent).then_some(*fault);
        while let Some(fault) = self.active.iter().find_map(passing) {
            self.end(fault).await?;
        }
        self.restart(&self.plan.node_ids()).await
    }

    /// The nodes that no permanent fault has hit.
    pub fn core(&self) -> Vec<NodeId> {
        self.plan.node_ids().into_iter().filter(|node| !self.outside.contains(node)).collect()
    }

    /// Whether a permanent fault of this kind keeps a node broken, whatever other faults end.
    fn is_kept(&self, action: FaultAction, node: NodeId) -> bool {
        let kept = |active: &Active| active.spec.permanent && active.spec.action == action;
        self.active.values().any(|active| kept(active) && active.nodes.contains(&node))
    }

    /// Whom a target comes down to; waits a while for a role that is vacant.
    async fn await_target(
        &self,
        spec: &FaultSpec,
        order: &[NodeId],
        answered: &BTreeMap<String, NodeId>,
    ) -> Vec<NodeId> {
        let deadline = Instant::now() + VACANCY;
        loop {
            let nodes = self.roles.resolve(&spec.target, order, answered).await;
            let nodes: Vec<NodeId> = nodes.into_iter().filter(|node| self.suits(spec, *node)).collect();
            let hopeless = matches!(spec.target, Target::Node(_) | Target::All | Target::Answered(_));
            if !nodes.is_empty() || hopeless || Instant::now() >= deadline {
                return nodes;
            }
            time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Whether an action can be done to a node in its present state.
    fn suits(&self, spec: &FaultSpec, node: NodeId) -> bool {
        match spec.action {
            FaultAction::Restart => !self.cluster.is_running(node),
            FaultAction::Pause | FaultAction::Clock => {
                self.cluster.is_running(node) && !self.cluster.is_paused(node)
            }
            // what is dead stays so when that is permanent, and is cut off when it comes back
            FaultAction::Kill | FaultAction::Isolate | FaultAction::Halves | FaultAction::CutOneway => {
                spec.permanent || self.cluster.is_running(node)
            }
            FaultAction::Heal => true,
        }
    }

    async fn break_it(
        &mut self,
        fault: u64,
        active: &mut Active,
        order: &[NodeId],
    ) -> Result<(), FaultError> {
        let all = self.plan.node_ids();
        let how = active.spec.links;
        match active.spec.action {
            FaultAction::Kill => {
                let running = active.nodes.iter().filter(|node| self.cluster.is_running(**node));
                let kills = running.map(|node| self.cluster.kill(*node));
                futures::future::try_join_all(kills).await?;
            }
            FaultAction::Pause => {
                for node in &active.nodes {
                    self.cluster.pause(*node).await?;
                }
            }
            FaultAction::Restart => self.restart(&active.nodes).await?,
            FaultAction::Clock => {
                for node in &active.nodes {
                    let before = self.clocks.get(node).copied().unwrap_or_default();
                    let after = active.spec.clock.of(before);
                    self.cluster.clock(*node, after).await?;
                    self.clocks.insert(*node, after);
                    active.clocks.insert(*node, before);
                }
            }
            FaultAction::Isolate => self.cut(fault, Cut::isolate(&all, &active.nodes, how)).await,
            FaultAction::CutOneway => {
                let cut = Cut::oneway(&all, &active.nodes, active.spec.direction, how);
                self.cut(fault, cut).await;
            }
            FaultAction::Halves => {
                active.nodes = smaller_half(&active.nodes, order);
                self.cut(fault, Cut::halves(&all, &active.nodes, how)).await;
            }
            FaultAction::Heal => {}
        }
        Ok(())
    }

    async fn cut(&mut self, fault: u64, cut: Cut) {
        self.cuts.add(fault, cut);
        self.network.switch(self.cuts.rules()).await;
    }

    async fn mend(&mut self, fault: u64, active: &Active) -> Result<(), FaultError> {
        match active.spec.action {
            FaultAction::Kill => self.restart(&active.nodes).await?,
            FaultAction::Pause => {
                let kept = |node: NodeId| self.is_kept(FaultAction::Pause, node);
                for node in active.nodes.iter().filter(|node| self.cluster.is_paused(**node) && !kept(**node))
                {
                    self.cluster.resume(*node).await?;
                }
            }
            FaultAction::Clock => {
                for (node, skew) in &active.clocks {
                    if self.is_kept(FaultAction::Clock, *node) {
                        continue;
                    }
                    self.clocks.insert(*node, *skew);
                    if self.cluster.is_running(*node) {
                        self.cluster.clock(*node, *skew).await?;
                    }
                }
            }
            FaultAction::Isolate | FaultAction::Halves | FaultAction::CutOneway => {
                self.cuts.remove(fault);
                self.network.switch(self.cuts.rules()).await;
            }
            FaultAction::Restart | FaultAction::Heal => {}
        }
        Ok(())
    }

    /// Starts those of the nodes that are dead, unless they have lost what they promised. Each gets the clock back that it
    /// had; its configuration knows only the first.
    async fn restart(&self, nodes: &[NodeId]) -> Result<(), FaultError> {
        if self.plan.cluster.storage == StorageKind::Memory {
            return Ok(());
        }
        let can_come_back =
            |node: &NodeId| !self.cluster.is_running(*node) && !self.is_kept(FaultAction::Kill, *node);
        let dead: Vec<NodeId> = nodes.iter().copied().filter(can_come_back).collect();
        futures::future::try_join_all(dead.iter().map(|node| self.cluster.restart(*node))).await?;
        let first: BTreeMap<NodeId, ClockSkew> =
            self.plan.clocks.iter().map(|clock| (clock.node, clock.skew)).collect();
        for node in dead {
            let now = self.clocks.get(&node).copied().unwrap_or_default();
            if now != first.get(&node).copied().unwrap_or_default() {
                self.cluster.clock(node, now).await?;
            }
        }
        Ok(())
    }

    fn record(&self, fault: u64, begins: bool, spec: &FaultSpec, nodes: Vec<NodeId>, requested: u64) {
        let target = spec.target.to_string();
        let active = Active { spec: spec.clone(), target, nodes, clocks: BTreeMap::new() };
        self.record_of(fault, begins, &active, requested);
    }

    fn record_of(&self, fault: u64, begins: bool, active: &Active, requested: u64) {
        self.history.nemesis(history::Nemesis {
            time: 0,
            requested,
            fault,
            begins,
            action: name_of(active.spec.action).to_owned(),
            target: active.target.clone(),
            nodes: active.nodes.clone(),
        });
    }
}

/// Carries out the plan's faults by the clock. Does not wait for faults that end after the last one has begun: healing
/// ends those.
pub async fn follow_plan(
    nemesis: Arc<tokio::sync::Mutex<Nemesis>>,
    faults: Vec<PlannedFault>,
) -> Result<(), FaultError> {
    let start = Instant::now();
    let mut ends: BTreeSet<(Duration, u64)> = BTreeSet::new();
    let mut begins = faults.into_iter().peekable();
    loop {
        let next_end = ends.first().copied();
        let begin_first = match (begins.peek(), next_end) {
            (None, None) => return Ok(()),
            (Some(fault), Some((end, _))) => fault.at.0 < end,
            (Some(_), None) => true,
            (None, Some(_)) => false,
        };
        if begin_first && let Some(planned) = begins.next() {
            time::sleep_until(start + planned.at.0).await;
            let fault = nemesis.lock().await.begin(&planned.spec, &planned.order, &BTreeMap::new()).await?;
            if let Some(lasts) = planned.spec.lasts {
                ends.insert((start.elapsed() + lasts.0, fault));
            }
        } else if let Some((end, fault)) = next_end {
            time::sleep_until(start + end).await;
            ends.remove(&(end, fault));
            nemesis.lock().await.end(fault).await?;
        }
    }
}

/// The cut that keeps late nodes away from the others.
pub fn late_cut(plan: &Plan) -> Cut {
    Cut::isolate(&plan.node_ids(), &plan.late, crate::workload::LinkFault::Hold)
}

/// The target and as many more, in `order`, as make the smaller half.
pub(crate) fn smaller_half(target: &[NodeId], order: &[NodeId]) -> Vec<NodeId> {
    let mut side: Vec<NodeId> = target.to_vec();
    for node in order {
        if side.len() < order.len() / 2 && !side.contains(node) {
            side.push(*node);
        }
    }
    side
}

/// The action's name in a history.
pub(crate) fn name_of(action: FaultAction) -> &'static str {
    match action {
        FaultAction::Kill => "kill",
        FaultAction::Restart => "restart",
        FaultAction::Pause => "pause",
        FaultAction::Isolate => "isolate",
        FaultAction::Halves => "halves",
        FaultAction::CutOneway => "cut-oneway",
        FaultAction::Heal => "heal",
        FaultAction::Clock => "clock",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_smaller_half_holds_the_target() {
        assert_eq!(smaller_half(&[3], &[5, 3, 1, 2, 4]), [3, 5]);
        assert_eq!(smaller_half(&[5], &[5, 3, 1, 2, 4]), [5, 3]);
        assert_eq!(smaller_half(&[1], &[1]), [1]);
    }
}
