//! Permanent faults: they outlast the heal phase, and the nodes that they hit are outside of the core that must make
//! progress. Whatever they come down to, the core keeps a majority of every partition.

use std::{collections::BTreeSet, ops::Range};

use store::{api::NodeId, config::PartitionConfig};
use toml::Spanned;

use super::{Fault, FaultAction, FaultSpec, NemesisEntry, Target, When, check::Scope};

/// Whether a fault of a `[[nemesis]]` is permanent; refuses what cannot be.
pub fn check(permanent: Option<&Spanned<bool>>, when: When, fault: &FaultSpec) -> Result<bool, Fault> {
    let Some(place) = permanent.filter(|permanent| *permanent.get_ref()).map(Spanned::span) else {
        return Ok(false);
    };
    if matches!(fault.action, FaultAction::Restart | FaultAction::Heal) {
        return Err(Fault::new(place, "this action leaves nothing broken", "nothing that could last")
            .help("remove this line"));
    }
    match (when, fault.lasts) {
        (When::At(_), Some(_)) => Err(Fault::new(place, "a permanent fault does not end", "and has a `for`")
            .help("remove `for`, or write `every` instead of `at` for a fault that comes and goes for ever")),
        (When::Every(_), None) => Err(Fault::new(place, "a permanent fault comes once", "and has no `for`")
            .help("add `for` to have it come and go for ever, or write `at` instead of `every`")),
        (When::Every(_), Some(_)) if !matches!(fault.target, Target::Node(_)) => {
            Err(Fault::new(place, "a permanent fault may not wander", "comes to another node each time")
                .help("name the node: `target = \"node 3\"`"))
        }
        _ => Ok(true),
    }
}

/// Refuses permanent faults that may leave a partition without a majority.
pub fn check_core(scope: &Scope, nemesis: &[(Range<usize>, NemesisEntry)]) -> Result<(), Fault> {
    let permanent = || nemesis.iter().filter(|(_, entry)| entry.fault.permanent);
    let Some((place, _)) = permanent().next_back() else { return Ok(()) };
    for partition in &scope.cluster.partitions {
        let may_fail = partition.replication - (partition.replication / 2 + 1);
        let faults: Vec<&FaultSpec> = permanent().map(|(_, entry)| &entry.fault).collect();
        let failing = failing(scope, partition, &faults).min(partition.replication);
        if failing > may_fail {
            let (number, replicas) = (partition.partition, partition.replication);
            return Err(Fault::new(
                place.clone(),
                format!("partition {number} may be left without a majority"),
                format!("with this, {failing} of its {replicas} replicas may be broken for ever"),
            )
            .help(format!(
                "permanent faults may hit {may_fail} of {replicas} replicas: name nodes (`target = \"node 3\"`) \
                 and `replicas`, or remove a fault"
            )));
        }
    }
    Ok(())
}

/// How many replicas of a partition may be hit, at the worst.
fn failing(scope: &Scope, partition: &PartitionConfig, faults: &[&FaultSpec]) -> u64 {
    let may_replicate = |node: &NodeId| partition.replicas.is_empty() || partition.replicas.contains(node);
    let named: BTreeSet<NodeId> = faults
        .iter()
        .filter_map(|fault| match fault.target {
            Target::Node(node) if fault.action != FaultAction::Halves => Some(node),
            _ => None,
        })
        .filter(may_replicate)
        .collect();
    let unnamed = faults.iter().map(|fault| match fault.target {
        _ if fault.action == FaultAction::Halves => scope.nodes / 2,
        Target::Node(_) => 0,
        Target::All => scope.nodes,
        Target::Followers(_) => scope.nodes - 1,
        _ => 1,
    });
    named.len() as u64 + unnamed.sum::<u64>()
}
