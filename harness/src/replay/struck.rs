//! A plan's faults as they struck in a run of it: whom they found, when they were in effect, and when that ended.
//!
//! Who leads is decided by moments that no record has, so a simulated run may have other leaders, and a fault that strikes the same
//! nodes strikes nobody who matters. Therefore faults may also be aimed at the roles that they were planned for, at the same times.

use std::time::Duration;

use checker::history::Nemesis;

use crate::{
    plan::{Cause, Plan, PlannedFault},
    recorded::end_of,
    workload::{FaultAction, FaultSpec, Shape, Target, Time},
};

/// At whom faults are aimed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Aim {
    /// The nodes that they found.
    Nodes,
    /// The roles in which these were.
    Roles,
}

/// The plan of a run, whose clients began at this time of its history, with its faults as they struck. What never began is left
/// out, and so is what found nobody; faults of steps are not touched: steps ask for them again.
pub(super) fn as_they_struck(plan: &Plan, faults: &[Nemesis], began: u64, aim: Aim) -> Plan {
    let phase = began + plan.phases.warm_up.0.as_nanos() as u64;
    let beginnings = faults.iter().filter(|record| record.begins);
    let struck = beginnings.filter_map(|record| {
        let planned = plan.faults.get(usize::try_from(record.planned?).ok()?.checked_sub(1)?)?;
        let finds_nobody = record.nodes.is_empty() && planned.spec.action != FaultAction::Heal;
        (!finds_nobody).then(|| one(planned, record, end_of(record, faults), phase, aim))
    });
    let mut faults: Vec<PlannedFault> = struck.collect();
    faults.sort_by_key(|fault| match fault.cause {
        Cause::At(at) => at.0,
        Cause::After(_) => Duration::MAX,
    });
    Plan { faults, ..plan.clone() }
}

/// In effect for certain between the time of its record and the time at which its end was asked for.
fn one(planned: &PlannedFault, begin: &Nemesis, end: Option<&Nemesis>, phase: u64, aim: Aim) -> PlannedFault {
    let nanos = |nanos: u64| Time(Duration::from_nanos(nanos));
    let mut spec = planned.spec.clone();
    if !spec.permanent && spec.lasts.is_some() {
        spec.lasts = end.map(|end| nanos(end.requested.saturating_sub(begin.time))).or(spec.lasts);
    }
    if aim == Aim::Nodes {
        spec = aimed(spec, &begin.nodes);
    }
    let cause = Cause::At(nanos(begin.time.saturating_sub(phase)));
    PlannedFault { cause, spec, ..planned.clone() }
}

/// The fault aimed at the nodes that it is recorded with, as far as these tell whom it found: of two roles that are both several
/// nodes, and of a shape that takes all of them in its own order, they do not, and it aims as it did.
fn aimed(mut spec: FaultSpec, nodes: &[u64]) -> FaultSpec {
    match &mut spec.action {
        FaultAction::Links { shape: Shape::Between { peer: Some(peer), .. }, .. } => {
            let single = matches!(
                spec.target,
                Target::Node(_)
                    | Target::Leader(_)
                    | Target::LeaseHolder(_)
                    | Target::Follower(_)
                    | Target::Lagging(_)
                    | Target::Random
                    | Target::Answered(_)
            );
            if let (true, [first, others @ ..]) = (single, nodes) {
                spec.target = Target::Node(*first);
                *peer = Target::Nodes(others.to_vec());
            }
        }
        FaultAction::Links { shape: Shape::Chain, .. } => {
            if let Some(middle) = nodes.get(nodes.len() / 2) {
                spec.target = Target::Node(*middle);
            }
        }
        FaultAction::Links {
            shape: Shape::Split { .. } | Shape::MajoritiesRing | Shape::Swizzle { .. },
            ..
        }
        | FaultAction::Heal => {}
        _ => spec.target = Target::Nodes(nodes.to_vec()),
    }
    spec
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::workload;

    const WORKLOAD: &str = "[cluster]\nnodes = 3\npartitions = [{}]\nlease = 'off'\n[operations]\nmix = { get = 1 }\n\
        keys = { count = 1 }\nrate = 10\n[phases]\nwarm_up = '1s'\nfaults = '9s'\n\
        [[nemesis]]\nat = '1s'\naction = 'kill'\ntarget = 'leader(1)'\nfor = '2s'\n\
        [[nemesis]]\nat = '4s'\naction = 'cut'\ntarget = 'leader(1)'\npeer = 'followers(1)'\nfor = '1s'\n\
        [[nemesis]]\nafter = { leader_change = 1, count = 9 }\naction = 'pause'\ntarget = 'random'\nfor = '1s'\n";

    fn record(fault: u64, begins: bool, time: u64, nodes: &[u64]) -> Nemesis {
        Nemesis {
            time: time * 1_000_000,
            requested: time * 1_000_000 - 500_000,
            fault,
            begins,
            action: String::new(),
            target: String::new(),
            nodes: nodes.to_vec(),
            name: None,
            planned: Some(fault),
            struck: None,
            instant: false,
        }
    }

    #[test]
    fn faults_strike_whom_they_found_when_they_did() {
        let workload =
            workload::parse(Path::new("w.toml"), WORKLOAD).unwrap_or_else(|problem| panic!("{problem}"));
        let plan = Plan::new(workload, 1);
        let faults =
            [record(1, true, 3_510, &[2]), record(1, false, 5_530, &[2]), record(2, true, 6_520, &[3, 1, 2])];
        let struck = as_they_struck(&plan, &faults, 1_500_000_000, Aim::Nodes);
        assert_eq!(struck.faults.len(), 2, "one was never triggered");
        let [kill, cut] = &struck.faults[..] else { panic!("{:?}", struck.faults) };
        assert_eq!(kill.cause, Cause::At(Time(Duration::from_millis(1_010))));
        assert_eq!(kill.spec.target, Target::Nodes(vec![2]));
        assert_eq!(kill.spec.lasts, Some(Time(Duration::from_micros(2_019_500))));
        assert_eq!(cut.spec.target, Target::Node(3));
        assert!(
            matches!(&cut.spec.action, FaultAction::Links { shape: Shape::Between { peer: Some(peer), .. }, .. }
            if *peer == Target::Nodes(vec![1, 2]))
        );
        assert_eq!(cut.spec.lasts, Some(Time(Duration::from_secs(1))), "its end is not recorded");
        let by_role = as_they_struck(&plan, &faults, 1_500_000_000, Aim::Roles);
        assert_eq!(by_role.faults[0].spec.target, Target::Leader(1));
        assert_eq!(by_role.faults[0].cause, kill.cause);
    }
}
