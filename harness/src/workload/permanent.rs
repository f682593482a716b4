//! Permanent faults: they outlast the heal phase, and the nodes that they hit are outside of the core that must make
//! progress. Whatever they come down to, the core keeps a majority of every partition.

use std::{collections::BTreeSet, ops::Range};

use store::{api::NodeId, config::PartitionConfig};
use toml::Spanned;

use super::{Fault, FaultAction, FaultSpec, Shape, Target, When, check::Scope};

/// Whether a fault of a `[[nemesis]]` is permanent; refuses what cannot be.
pub fn check(
    permanent: Option<&Spanned<bool>>,
    entry: Range<usize>,
    when: &When,
    fault: &FaultSpec,
) -> Result<bool, Fault> {
    let wanders = matches!(when, When::Every(_)) && !matches!(fault.target, Target::Node(_));
    if wanders && fault.action == FaultAction::Wipe {
        return Err(Fault::new(
            entry,
            "a node that lost its disk never comes back",
            "another one is lost each time",
        )
        .help("name the node: `target = \"node 3\"`, or write `at` instead of `every`"));
    }
    let Some(place) = permanent.filter(|permanent| *permanent.get_ref()).map(Spanned::span) else {
        return Ok(false);
    };
    match &fault.action {
        FaultAction::Restart
        | FaultAction::Resume
        | FaultAction::Release
        | FaultAction::Reset
        | FaultAction::TransferLeader { .. }
        | FaultAction::Heal => {
            return Err(Fault::new(place, "this action leaves nothing broken", "nothing that could last")
                .help("remove this line"));
        }
        FaultAction::Links {
            shape:
                Shape::Split { .. } | Shape::MajoritiesRing | Shape::Bridge | Shape::Chain | Shape::Swizzle { .. },
            ..
        } => {
            return Err(Fault::new(place, "no core is left whole", "cuts links of every node")
                .help("a permanent fault needs a target: write for instance `isolate`"));
        }
        _ => {}
    }
    match (when, fault.lasts) {
        (When::At(_), Some(_)) => Err(Fault::new(place, "a permanent fault does not end", "and has a `for`")
            .help("remove `for`, or write `every` instead of `at` for a fault that comes and goes for ever")),
        (When::Every(_), None) => Err(Fault::new(place, "a permanent fault comes once", "and has no `for`")
            .help("add `for` to have it come and go for ever, or write `at` instead of `every`")),
        (When::After(_), Some(_)) => {
            Err(Fault::new(place, "a permanent fault does not end", "and has a `for`").help("remove `for`"))
        }
        (When::Every(_), Some(_)) if wanders => {
            Err(Fault::new(place, "a permanent fault may not wander", "comes to another node each time")
                .help("name the node: `target = \"node 3\"`"))
        }
        _ => Ok(true),
    }
}

/// Refuses permanent faults that may leave a partition without a majority. `faults` are those of `[[nemesis]]` and of steps.
pub fn check_core(scope: &Scope, faults: &[(Range<usize>, &FaultSpec)]) -> Result<(), Fault> {
    // a node without its disk is gone for good, whatever the file says
    let lasts = |fault: &FaultSpec| fault.permanent || fault.action == FaultAction::Wipe;
    let permanent: Vec<_> = faults.iter().filter(|(_, fault)| lasts(fault)).collect();
    let Some((place, _)) = permanent.last() else { return Ok(()) };
    for partition in &scope.cluster.partitions {
        let may_fail = partition.replication - (partition.replication / 2 + 1);
        let mut hit = Hit::default();
        for (_, fault) in &permanent {
            hit.add(scope, fault);
        }
        let failing = hit.of(partition).min(partition.replication);
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

/// The nodes that faults may hit, at the worst.
#[derive(Default)]
struct Hit {
    named: BTreeSet<NodeId>,
    /// So many others, whoever they are.
    unnamed: u64,
}

impl Hit {
    fn add(&mut self, scope: &Scope, fault: &FaultSpec) {
        match &fault.action {
            FaultAction::Links { shape: Shape::Halves, .. } => {
                self.unnamed += size(scope, &fault.target).max(scope.nodes / 2);
            }
            FaultAction::Links { shape: Shape::Between { peer: Some(peer), .. }, .. } => {
                self.target(scope, &fault.target);
                self.target(scope, peer);
            }
            _ => self.target(scope, &fault.target),
        }
    }

    fn target(&mut self, scope: &Scope, target: &Target) {
        match target {
            Target::Node(node) => drop(self.named.insert(*node)),
            Target::Nodes(nodes) => self.named.extend(nodes),
            _ => self.unnamed += size(scope, target),
        }
    }

    /// How many replicas of a partition are among them.
    fn of(&self, partition: &PartitionConfig) -> u64 {
        let may_replicate =
            |node: &&NodeId| partition.replicas.is_empty() || partition.replicas.contains(node);
        self.named.iter().filter(may_replicate).count() as u64 + self.unnamed
    }
}

/// How many nodes a target may come down to.
fn size(scope: &Scope, target: &Target) -> u64 {
    match target {
        Target::All => scope.nodes,
        Target::Followers(_) => scope.nodes - 1,
        Target::Nodes(nodes) => nodes.len() as u64,
        Target::Minority(_) => (scope.nodes - 1) / 2,
        Target::Majority(_) => scope.nodes / 2 + 1,
        Target::Node(_)
        | Target::Random
        | Target::Leader(_)
        | Target::LeaseHolder(_)
        | Target::Follower(_)
        | Target::Lagging(_)
        | Target::Answered(_) => 1,
    }
}
