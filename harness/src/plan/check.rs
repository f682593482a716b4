//! Whether a plan makes sense that may have been edited: it names no node and no partition that is not there, and nothing that
//! has no meaning for its system.

use store::config::{ReadMode, TestOptions};

use super::{Cause, Plan, PlannedClient, PlannedEntry, PlannedFault};
use crate::{
    generator,
    workload::{Action, Ask, Fault, FaultAction, FaultSpec, Lack, Scope, Shape, Step, Via, Wait, Who},
};

/// What is wrong with a plan, with its place in it.
pub(super) fn check(plan: &Plan) -> Result<(), String> {
    let scope = Scope {
        nodes: plan.nodes,
        system: &plan.system,
        cluster: &plan.cluster,
        outside: true,
        names: Vec::new(),
    };
    let checking = Checking { plan, scope };
    checking.whole()?;
    for node in &plan.late {
        there("`late`", checking.scope.node(*node, 0..0))?;
    }
    for clock in &plan.clocks {
        there("`clocks`", checking.scope.node(clock.node, 0..0))?;
    }
    for link in &plan.network.links {
        for node in [link.from, link.to] {
            there("`network`", checking.scope.node(node, 0..0))?;
        }
    }
    plan.clients.iter().try_for_each(|client| checking.client(client))?;
    for (index, fault) in plan.faults.iter().enumerate() {
        checking.fault(&format!("fault {}", index + 1), fault)?;
    }
    plan.steps.iter().try_for_each(|step| checking.step(step))
}

struct Checking<'a> {
    plan: &'a Plan,
    scope: Scope<'a>,
}

impl Checking<'_> {
    /// What holds for the plan as a whole.
    fn whole(&self) -> Result<(), String> {
        let plan = self.plan;
        let system = &plan.system;
        if system.is_store() {
            return Ok(());
        }
        let cluster = &plan.cluster;
        let one_range = cluster.partitions.len() == 1
            && cluster.partitions.iter().all(|range| range.lower.is_none() && range.upper.is_none());
        let of_the_store = [
            ("late", !plan.late.is_empty()),
            ("clocks", !plan.clocks.is_empty()),
            ("partitions", !one_range),
            ("lease", cluster.lease.is_some()),
            ("reads", cluster.reads != ReadMode::default()),
            ("preset", !cluster.preset.is_empty()),
            ("test", plan.test != TestOptions::default()),
            ("lease_safety", plan.checks.lease_safety),
        ];
        if let Some((key, _)) = of_the_store.into_iter().find(|(_, said)| *said) {
            return refused(key, system.has_no(key));
        }
        if let Some((key, lack)) = system.lacks_of_clients(plan.share, plan.sessions) {
            return refused(key, lack);
        }
        if let Some(operations) = &plan.operations {
            refused_if("`operations`", system.lacks_of_mix(&operations.mix))?;
            refused_if("`operations`", system.lacks_value_size(operations.value_size))?;
        }
        refused_if("`checks`", system.lacks_consistency(plan.checks.consistency))?;
        refused_if("`expect`", plan.expect.by.and_then(|by| system.lacks_check(by)))?;
        for statement in &plan.expect.that {
            refused_if(&statement.name, system.lacks_statement(&statement.says))?;
        }
        refused_if("`require`", system.lacks_requirement(&plan.require).map(|(_, lack)| lack))
    }

    fn client(&self, client: &PlannedClient) -> Result<(), String> {
        let place = format!("client {}", client.client);
        let system = &self.plan.system;
        match client.entry {
            PlannedEntry::Node(node) => there(&place, self.scope.node(node, 0..0))?,
            PlannedEntry::Leader if !system.is_store() => {
                return refused(&place, system.has_no("entry = \"leader\""));
            }
            PlannedEntry::Leader | PlannedEntry::Any => {}
        }
        for asked in client.asks.iter().flatten() {
            if let Some(node) = asked.node {
                there(&place, self.scope.node(node, 0..0))?;
            }
            if matches!(asked.ask, generator::Ask::Delete(_)) {
                refused_if(&place, system.lacks_ask(&Ask::Delete))?;
            }
        }
        Ok(())
    }

    fn fault(&self, place: &str, fault: &PlannedFault) -> Result<(), String> {
        if let Cause::After(trigger) = &fault.cause {
            refused_if(place, self.plan.system.lacks_happening(&trigger.happening))?;
        }
        self.spec(place, &fault.spec)
    }

    fn spec(&self, place: &str, spec: &FaultSpec) -> Result<(), String> {
        there(place, self.scope.target(&spec.target, 0..0))?;
        if let FaultAction::Links { shape: Shape::Between { peer: Some(peer), .. }, .. } = &spec.action {
            there(place, self.scope.target(peer, 0..0))?;
        }
        match self.plan.system.lacks(spec) {
            Some(why) => Err(format!("{place}: this cannot be done to {}: {why}", self.plan.system.name())),
            None => Ok(()),
        }
    }

    fn step(&self, step: &Step) -> Result<(), String> {
        let place = &format!("step {:?}", step.name);
        let system = &self.plan.system;
        match &step.action {
            Action::Operation(operation) => {
                if let Via::Target(target) = &operation.via {
                    there(place, self.scope.target(target, 0..0))?;
                }
                for target in operation.expect.leader.iter().chain(&operation.expect.not_leader) {
                    there(place, self.scope.target(target, 0..0))?;
                }
                if let Who::Only(clients) = &operation.client
                    && let Some(client) = clients.iter().find(|client| !self.has_client(**client))
                {
                    return Err(format!("{place}: there is no client {client}"));
                }
                refused_if(place, system.lacks_ask(&operation.ask))?;
                refused_if(place, system.lacks_expectation(&operation.expect))
            }
            Action::Fault(spec) => self.spec(place, spec),
            Action::Wait(wait) => {
                if let Wait::Leader(partition) | Wait::LeaderChange(partition) = wait {
                    there(place, self.scope.partition(*partition, 0..0))?;
                }
                refused_if(place, system.lacks_wait(wait))
            }
            Action::Heal(_) | Action::Await(_) => Ok(()),
        }
    }

    fn has_client(&self, client: u64) -> bool {
        (1..=self.plan.script_clients).contains(&client)
    }
}

fn there(place: &str, found: Result<(), Fault>) -> Result<(), String> {
    found.map_err(|fault| format!("{place}: {}", fault.in_words()))
}

fn refused_if(place: &str, lack: Option<Lack>) -> Result<(), String> {
    lack.map_or(Ok(()), |lack| refused(place, lack))
}

fn refused(place: &str, Lack { what, help }: Lack) -> Result<(), String> {
    Err(format!("{place}: {what}; {help}"))
}

#[cfg(test)]
mod tests {
    use std::{path::Path, time::Duration};

    use store::api::Key;

    use super::*;
    use crate::workload::{self, CheckName, Consistency, System, Target, Time};

    const STEPS: &str = r#"
        [operations]
        mix = { get = 1, put = 1 }
        keys = { count = 2 }
        [phases]
        faults = "1s"
        [[nemesis]]
        at = "1ms"
        action = "kill"
        target = "node 2"
        for = "1ms"
        [[step]]
        wait = "open"
        [[step]]
        client = 1
        via = "node 1"
        put = { key = 1, value = "a" }
    "#;

    fn plan(kind: &str) -> Plan {
        let text = format!("[target]\nkind = \"{kind}\"\n[cluster]\nnodes = 3\n{STEPS}");
        let workload = workload::parse(Path::new("w.toml"), &text);
        Plan::new(workload.unwrap_or_else(|problem| panic!("{problem}")), 1)
    }

    /// What is said of a plan that was edited and is read again.
    fn edited(kind: &str, edit: impl FnOnce(&mut Plan)) -> String {
        let mut plan = plan(kind);
        edit(&mut plan);
        let file = tempfile::NamedTempFile::new().expect("a file");
        std::fs::write(file.path(), toml::to_string(&plan).expect("written")).expect("written");
        let problem = Plan::load(file.path()).err().unwrap_or_else(|| "nothing".to_owned());
        let told = problem.strip_prefix(&format!("error: {} cannot be run: ", file.path().display()));
        told.unwrap_or(&problem).to_owned()
    }

    #[test]
    fn what_a_workload_may_say_a_plan_may_say() {
        for kind in ["etcd", "maelstrom", "redis"] {
            assert_eq!(edited(kind, |_| {}), "nothing", "{kind}");
            assert_eq!(edited(kind, |plan| plan.require.operations = 7), "nothing", "{kind}");
        }
    }

    #[test]
    fn nodes_partitions_and_clients_must_be_there() {
        let told = edited("etcd", |plan| plan.faults[0].spec.target = Target::Node(9));
        assert!(told.starts_with("fault 1: there is no node 9"), "{told}");
        let told = edited("etcd", |plan| plan.clients[1].entry = PlannedEntry::Node(4));
        assert!(told.starts_with("client 2: there is no node 4"), "{told}");
        let told = edited("etcd", |plan| plan.script_clients = 0);
        assert_eq!(told, "step \"step 2\": there is no client 1");
    }

    #[test]
    fn what_has_no_meaning_for_the_system_is_refused() {
        let told = edited("etcd", |plan| plan.faults[0].spec.target = Target::Leader(1));
        assert!(told.starts_with("fault 1: nobody can tell which node this is (etcd does not say"), "{told}");
        let told = edited("redis", |plan| plan.faults[0].spec.action = FaultAction::Wipe);
        assert!(told.starts_with("fault 1: this cannot be done to Redis"), "{told}");
        let told = edited("etcd", |plan| plan.steps[0].action = Action::Wait(Wait::Leader(1)));
        assert!(told.starts_with("step \"step 1\": `leader` has no meaning for etcd; write"), "{told}");
        let told = edited("etcd", |plan| plan.checks.consistency = Consistency::Sequential);
        assert!(told.starts_with("`checks`: `consistency = \"sequential\"` has no meaning"), "{told}");
        let told = edited("etcd", |plan| plan.expect.by = Some(CheckName::LeaseSafety));
        assert!(told.starts_with("`expect`: `by = \"lease-safety\"` has no meaning"), "{told}");
        let told = edited("etcd", |plan| plan.checks.lease_safety = true);
        assert!(told.starts_with("lease_safety: `lease_safety` has no meaning for etcd"), "{told}");
        let told = edited("etcd", |plan| plan.share = 2);
        assert!(told.starts_with("share: `share` has no meaning for etcd"), "{told}");
        let told = edited("etcd", |plan| plan.require.fast_reads = 1);
        assert!(told.starts_with("`require`: `fast_reads` has no meaning for etcd"), "{told}");
        let told = edited("maelstrom", |plan| {
            plan.operations.iter_mut().for_each(|operations| operations.mix.delete = 1);
        });
        assert_eq!(told, "`operations`: lin-kv has no `delete`; remove `delete` from the mix");
        let told = edited("maelstrom", |plan| {
            let Action::Operation(operation) = &mut plan.steps[1].action else { return };
            operation.ask = Ask::Delete;
        });
        assert_eq!(told, "step \"step 2\": lin-kv has no `delete`; remove this step");
        let told = edited("maelstrom", |plan| plan.cluster.preset.push((Key::Integer(1), "a".to_owned())));
        assert!(told.starts_with("preset: `preset` has no meaning for a Maelstrom node"), "{told}");
        // the store may do all that
        let stores = |edit: fn(&mut Plan)| {
            edited("etcd", |plan| {
                plan.system = System::Store;
                edit(plan);
            })
        };
        assert_eq!(stores(|plan| plan.share = 2), "nothing");
        assert_eq!(stores(|plan| plan.faults[0].spec.lasts = Some(Time(Duration::from_secs(1)))), "nothing");
    }
}
