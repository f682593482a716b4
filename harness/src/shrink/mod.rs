//! Shrinking: from a plan that fails to a small one that fails the same way.
//!
//! First the operations that clients drew from their streams are listed one by one; then faults, steps, operations, clients,
//! keys, nodes, times and what else the plan has are left out, piece by piece, as long as simulated runs show the same kind
//! of violation ([`Kind`]), and do not show it without the bug that is planted. The simulator repeats a plan exactly, so the
//! result fails every time. On real processes a candidate must fail in so many of so many runs ([`Often`]).
//!
//! | file | |
//! |---|---|
//! | `ddmin` | delta debugging over a list |
//! | `listed` | operations as a list |
//! | `trial` | whether a candidate fails the same way |
//! | `processes` | the same on real processes |
//! | `reduce` | what is left out |
//! | `command` | the command line |

pub mod command;
mod ddmin;
mod listed;
mod processes;
mod reduce;
mod trial;

use std::{fmt, time::Duration};

pub(crate) use listed::listed;
pub use processes::{Often, Processes};
pub use trial::{Ground, Kind};

use crate::{
    clock::boottime_ns,
    plan::Plan,
    workload::{Action, OperationStep, Who},
};
use reduce::Reduction;
use trial::Trials;

/// What a plan was shrunk to.
#[derive(Clone, Debug)]
pub struct Shrunk {
    /// The plan.
    pub plan: Plan,
    /// Runs that it took.
    pub runs: u64,
    /// How long it took.
    pub took: Duration,
    /// The time was up before nothing more could be left out.
    pub unfinished: bool,
}

/// Why a plan cannot be shrunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotShrunk {
    /// The simulator is not deterministic.
    #[error("a second run of the same plan shows no such violation")]
    NotAgain,
    /// On real processes too few runs of the plan fail.
    #[error("too few other runs of the same plan show such a violation: ask for fewer of more (--processes)")]
    NotOften,
    /// What the clients asked cannot be listed.
    #[error("the record of a run that fails cannot be read")]
    Unread,
    /// It is not the planted bug that fails: the store does.
    #[error("the same plan shows it without the planted bug as well")]
    WithoutTheBug,
}

/// Shrinks a plan that shows this kind of violation on this ground, and does not show it without the bug that is planted.
pub fn shrink(plan: &Plan, kind: &Kind, ground: Ground<'_>, budget: Duration) -> Result<Shrunk, NotShrunk> {
    let began = boottime_ns();
    let not_again = match ground {
        Ground::Simulation(_) => NotShrunk::NotAgain,
        Ground::Processes(_) => NotShrunk::NotOften,
    };
    let mut trials = Trials::new(kind.clone(), ground, budget);
    let Some(plan) = trials.fails_within(plan, 1) else {
        let without = plan.test.mutant.is_some() && trials.shows_without_mutant(plan);
        return Err(if without { NotShrunk::WithoutTheBug } else { not_again });
    };
    let mut reduction = Reduction { plan, trials: &mut trials };
    reduction.end();
    if reduction.plan.clients.iter().any(|client| client.asks.is_none()) {
        let history = reduction.trials.history(&reduction.plan).map_err(|_| NotShrunk::Unread)?;
        let listed = listed(&reduction.plan, &history);
        if let Some(plan) = reduction.trials.fails(&listed) {
            reduction.plan = plan;
        }
    }
    reduction.run(kind.by);
    let plan = reduction.plan;
    Ok(Shrunk {
        plan,
        runs: trials.runs,
        took: Duration::from_nanos(boottime_ns() - began),
        unfinished: trials.is_over(),
    })
}

/// Whether it is not the bug that is planted in a plan which fails so: the same plan does so without it.
pub fn shows_without_the_bug(plan: &Plan, kind: &Kind) -> bool {
    plan.test.mutant.is_some()
        && Trials::new(kind.clone(), Ground::Simulation(1), Duration::ZERO).shows_without_mutant(plan)
}

/// How large a plan is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size {
    /// Faults, those of steps included.
    pub faults: u64,
    /// Operations that are listed or stand in steps; none: clients ask as much as there is time for.
    pub operations: Option<u64>,
    /// Clients.
    pub clients: u64,
    /// Keys.
    pub keys: u64,
    /// Nodes.
    pub nodes: u64,
    /// Warm-up and faults.
    pub lasts: Duration,
}

impl Size {
    /// The size of a plan.
    pub fn of(plan: &Plan) -> Self {
        let in_steps = plan.steps.iter().filter(|step| matches!(step.action, Action::Fault(_)));
        let asked = plan.steps.iter().filter_map(|step| match &step.action {
            Action::Operation(operation) => Some(operations_of(operation, plan.script_clients)),
            _ => None,
        });
        let listed = plan.clients.iter().map(|client| match &client.asks {
            Some(asks) => Some(asks.len() as u64),
            None => client.operations,
        });
        Self {
            faults: plan.faults.len() as u64 + in_steps.count() as u64,
            operations: listed.chain(asked).sum(),
            clients: plan.last_client(),
            keys: plan.operations.as_ref().map_or(0, |operations| operations.keys.len() as u64),
            nodes: plan.nodes,
            lasts: plan.phases.warm_up.0 + plan.phases.faults.0,
        }
    }
}

fn operations_of(step: &OperationStep, clients: u64) -> Option<u64> {
    let clients = match &step.client {
        Who::All => clients,
        Who::Only(clients) => clients.len() as u64,
    };
    step.lasts.is_none().then_some(clients * step.keys.len() as u64 * step.times)
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { faults, operations, clients, keys, nodes, lasts } = self;
        let operations = operations.map_or_else(|| "endless".to_owned(), |operations| operations.to_string());
        write!(
            f,
            "{faults} faults, {operations} operations, {clients} clients, {keys} keys, {nodes} nodes, {:.1} s",
            lasts.as_secs_f64()
        )
    }
}
