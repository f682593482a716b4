//! What brings the plan's faults on, and what ends them.
//!
//! Each fault has a course of its own: it waits for its time or for what triggers it, then for somebody in the role that it
//! is aimed at, begins, and ends. A fault that waits keeps no other from its time. What has been begun is always carried
//! through; only waiting is cut short when the phase ends.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use store::api::NodeId;
use tokio::time::{self, Instant};

use super::{FaultError, LOOK_AGAIN, Nemesis, VACANCY, is_fixed, real::all};
use crate::{
    plan::{Cause, PlannedFault},
    workload::{FaultAction, FaultSpec, Shape},
};

/// A fault that is asked for.
#[derive(Clone, Copy, Debug)]
pub struct Wanted<'a> {
    /// What.
    pub spec: &'a FaultSpec,
    /// All nodes, in the order in which it chooses among them.
    pub order: &'a [NodeId],
    /// Who answered which step.
    pub answered: &'a BTreeMap<String, NodeId>,
    /// Its place in the plan's list of faults, from 1; none: a step asks for it.
    pub planned: Option<u64>,
}

/// Carries out these of the plan's faults, each with its place in the plan, until then. Does not wait for ends that are due later: healing brings those about.
pub async fn follow_plan(
    nemesis: &Arc<Nemesis>,
    faults: &[(u64, PlannedFault)],
    until: Instant,
) -> Result<(), FaultError> {
    let start = Instant::now();
    // what cannot be carried out keeps nothing else from its time
    let courses = faults.iter().map(|(number, planned)| course(nemesis, *number, planned, start, until));
    all(courses).await.map(drop)
}

async fn course(
    nemesis: &Arc<Nemesis>,
    number: u64,
    planned: &PlannedFault,
    start: Instant,
    until: Instant,
) -> Result<(), FaultError> {
    let caused = async {
        match &planned.cause {
            Cause::At(at) => time::sleep_until(start + at.0).await,
            Cause::After(trigger) => nemesis.triggers().happened(trigger).await,
        }
    };
    if time::timeout_at(until, caused).await.is_err() {
        return Ok(());
    }
    let answered = BTreeMap::new();
    let wanted =
        Wanted { spec: &planned.spec, order: &planned.order, answered: &answered, planned: Some(number) };
    match carry_out(nemesis, wanted, Some(until)).await? {
        Some(fault) => see_through(nemesis, fault, &planned.spec, Some(until)).await,
        None => Ok(()),
    }
}

/// Begins a fault as soon as there is somebody to break; returns its number. A role that stays vacant is given up after a
/// while, and the fault is recorded without anybody; none: the time was up before.
pub async fn carry_out(
    nemesis: &Nemesis,
    wanted: Wanted<'_>,
    until: Option<Instant>,
) -> Result<Option<u64>, FaultError> {
    let deadline = Instant::now() + VACANCY;
    loop {
        let (nodes, peers) = nemesis.whom(wanted).await;
        let somebody = !nodes.is_empty() && (!peers.is_empty() || !wants_peers(&wanted.spec.action));
        let hopeless = is_fixed(&wanted.spec.target) || wanted.spec.action == FaultAction::Heal;
        let last = hopeless || Instant::now() >= deadline;
        if (somebody || last)
            && let Some(fault) = nemesis.begin(wanted, nodes, peers, last).await?
        {
            return Ok(Some(fault));
        }
        if until.is_some_and(|until| Instant::now() + LOOK_AGAIN >= until) {
            return Ok(None);
        }
        time::sleep(LOOK_AGAIN).await;
    }
}

/// Changes a fault as time passes, if it does that, and ends it when its time is over.
pub async fn see_through(
    nemesis: &Nemesis,
    fault: u64,
    spec: &FaultSpec,
    until: Option<Instant>,
) -> Result<(), FaultError> {
    let began = Instant::now();
    let end = spec.lasts.map(|lasts| began + lasts.0);
    let far = began + Duration::from_secs(1 << 24);
    let last = end.unwrap_or(far).min(until.unwrap_or(far));
    let period = match spec.action {
        FaultAction::Links { shape: Shape::Swizzle { period } | Shape::Flap { period }, .. } => period.0,
        _ => Duration::MAX,
    };
    for tick in 1_u32.. {
        let next = period.checked_mul(tick).and_then(|passed| began.checked_add(passed));
        let Some(next) = next.filter(|next| *next < last) else { break };
        time::sleep_until(next).await;
        if !nemesis.change(fault, u64::from(tick)).await? {
            return Ok(());
        }
    }
    match end {
        Some(end) if end <= last => {
            time::sleep_until(end).await;
            nemesis.end(fault).await
        }
        _ => Ok(()),
    }
}

pub(crate) fn wants_peers(action: &FaultAction) -> bool {
    matches!(action, FaultAction::Links { shape: Shape::Between { peer: Some(_), .. }, .. })
}
