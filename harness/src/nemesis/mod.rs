//! Breaks things on time and mends them again: every fault is recorded with the nodes that it came down to, when it was
//! asked for and when it was in effect.
//!
//! | file | what it is |
//! |---|---|
//! | `scene` | whom a target comes down to |
//! | `shapes` | which links a fault is about |
//! | `effects` | what all faults in effect come to together |
//! | `roles` | who is what among real processes |
//! | `real` | faults on real processes; those of simulated ones are in `sim::faults` |
//! | `schedule` | what brings the plan's faults on, and their ends |

mod effects;
mod real;
mod roles;
mod scene;
mod schedule;
mod shapes;

use std::time::Duration;

use store::api::NodeId;

use crate::{
    plan::Plan,
    proxy::Rule,
    workload::{Direction, FaultAction, FaultSpec, LinkRule, Shape},
};
pub use effects::{Active, Effect, Effects};
pub use real::{FaultError, Nemesis};
pub use roles::{OBSERVER, Roles};
pub use scene::{Member, Scene, is_fixed};
pub(crate) use schedule::wants_peers;
pub use schedule::{Wanted, carry_out, follow_plan, see_through};
pub use shapes::{Ground, links};

/// How long a role may be vacant before a fault that is aimed at it is given up.
pub(crate) const VACANCY: Duration = Duration::from_secs(3);

/// How long until a vacant role is looked for again.
pub(crate) const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// How long a node that is to die in a write may go without one.
pub(crate) const IDLE: Duration = Duration::from_secs(1);

/// The number of the fault that keeps late nodes away from the others.
pub(crate) const LATE: u64 = 0;

/// What keeps late nodes away from the others.
pub(crate) fn late_effect(plan: &Plan) -> Effect {
    let order = plan.node_ids();
    let shape = Shape::Between { peer: None, direction: Direction::Both };
    let ground = Ground { target: &plan.late, peers: &[], order: &order, clients: 0 };
    Effect::Links(links(&shape, ground, 0).unwrap_or_default(), LinkRule::Rule(Rule::Hold))
}

/// What a node is like, as far as it decides whether something can be done to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct State {
    /// It has a process.
    pub running: bool,
    /// Its process stands still.
    pub paused: bool,
}

/// Whether a fault can be done to a node in its present state.
pub(crate) fn suits(spec: &FaultSpec, state: State) -> bool {
    match spec.action {
        FaultAction::Heal | FaultAction::Restart | FaultAction::Release => true,
        FaultAction::Resume => state.paused,
        // what a node that stands still would have to do itself
        FaultAction::Clock(_) | FaultAction::StallDisk { .. } => state.running && !state.paused,
        // a node that is named and dead already stays so for as long as this lasts, too, and is cut off when it comes back
        FaultAction::Kill(_) | FaultAction::Links { .. } => {
            state.running || spec.permanent || is_fixed(&spec.target)
        }
        FaultAction::Wipe | FaultAction::Pause | FaultAction::Reset | FaultAction::TransferLeader { .. } => {
            state.running
        }
    }
}

/// Actions that name no target in most files choose all nodes: what they do is not aimed at anybody.
pub(crate) fn in_words(active: &Active) -> (String, Vec<NodeId>) {
    let peer = match &active.spec.action {
        FaultAction::Links { shape: Shape::Between { peer: Some(peer), .. }, .. } => format!(" and {peer}"),
        FaultAction::Links { shape: Shape::Clients { .. }, .. } => " and clients".to_owned(),
        _ => String::new(),
    };
    (format!("{}{peer}", active.spec.target), active.touched())
}
