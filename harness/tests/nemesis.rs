//! The nemesis on processes that obey, and on some that do not: what cannot be done to one node keeps nothing from the
//! others, faults that meet on one node leave it as all of them ask for, and no error is lost.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::{collections::BTreeMap, future::Future, path::Path, sync::Arc, time::Duration};

use harness::{
    cluster::{Cause, Cluster, ClusterSpec},
    history_writer::History,
    leaders::Leaders,
    nemesis::{FaultError, Nemesis, Roles, Wanted, carry_out},
    plan::Plan,
    proxy::{Network, Protocol},
    script::Script,
    stall::Stalls,
    targets::{Target, store::Store},
    worker::Surroundings,
    workload::{self, Action},
};
use store::config::{ClockSkew, NodeConfig};
use tokio::time::timeout;

/// Obeys every command; a file `broken` in the folder keeps node 1 from starting.
const OBEDIENT: &str = r#"
if grep -q '"node": 1,' "$2" && test -e "$FOLDER/broken"; then exit 7; fi
echo '{"event":"listening","node":1,"address":"127.0.0.1:9","boot":1}'
commands=0
while read -r command; do
    commands=$((commands + 1))
    echo '{"event":"done","command":'$commands'}'
done
"#;

/// Obeys one command only.
const RELUCTANT: &str = r#"
echo '{"event":"listening","node":1,"address":"127.0.0.1:9","boot":1}'
read -r command
echo '{"event":"done","command":1}'
exec sleep 600
"#;

struct World {
    folder: tempfile::TempDir,
    plan: Arc<Plan>,
    cluster: Arc<Cluster>,
    roles: Arc<Roles>,
    nemesis: Arc<Nemesis>,
    surroundings: Surroundings,
}

impl World {
    /// Nodes that run `script` in a shell, and a workload with these steps.
    async fn new(script: &str, steps: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let text = format!("[cluster]\nnodes = 3\npartitions = [{{}}]\nlease = 'off'\n{steps}");
        let workload =
            workload::parse(Path::new("w.toml"), &text).unwrap_or_else(|problem| panic!("{problem}"));
        let plan = Arc::new(Plan::new(workload, 1));
        let nodes = plan.node_ids();
        let network = Arc::new(Network::start(&nodes, &[0, 1], Protocol::Frames, 1).await.unwrap());
        let path = folder.path().join("node.sh");
        std::fs::write(&path, format!("FOLDER={}\n{script}", folder.path().display())).unwrap();
        let config = |node: &u64| NodeConfig {
            node: *node,
            listen: "127.0.0.1:0".to_owned(),
            peers: BTreeMap::new(),
            data: folder.path().join(format!("disk-{node}")),
            trace: None,
            clock: ClockSkew::default(),
            cluster: plan.cluster.clone(),
            test: plan.test.clone(),
        };
        let command = vec!["/bin/sh".to_owned(), path.to_str().unwrap().to_owned()];
        let configs = nodes.iter().map(|node| (*node, config(node))).collect();
        let target: Arc<dyn Target> = Arc::new(Store::new(command, configs, folder.path(), false));
        let spec = ClusterSpec {
            target: Arc::clone(&target),
            nodes: nodes.clone(),
            run_dir: folder.path().to_owned(),
            start_deadline: Duration::from_secs(20),
        };
        let cluster = Arc::new(soon(Cluster::start(spec, Arc::clone(&network))).await.unwrap());
        let roles = Arc::new(Roles::new(Arc::clone(&plan), Arc::clone(&network), Arc::clone(&cluster)));
        let path = folder.path().join("history.jsonl");
        let history = Arc::new(History::create(&path, |origin| plan.header(origin)).unwrap());
        let parts = (Arc::clone(&plan), Arc::clone(&network), Arc::clone(&cluster));
        let nemesis = Nemesis::new(parts.0, parts.1, parts.2, Arc::clone(&history), Arc::clone(&roles));
        let leaders = Arc::new(Leaders::new(plan.cluster.clone()));
        let addresses = Arc::new(network.client_addresses());
        let cluster_config = Arc::new(plan.cluster.clone());
        let surroundings =
            Surroundings { target, addresses, history, leaders, cluster: cluster_config, stride: 10 };
        Self { folder, plan, cluster, roles, nemesis: Arc::new(nemesis), surroundings }
    }

    /// Begins the fault of a step.
    async fn begin(&self, step: usize) -> u64 {
        let Action::Fault(spec) = &self.plan.steps[step].action else { panic!("no fault") };
        let answered = BTreeMap::new();
        let wanted = Wanted { spec, planned: None, order: &[1, 2, 3], answered: &answered };
        soon(carry_out(&self.nemesis, wanted, None)).await.unwrap().expect("it has begun")
    }
}

async fn soon<T>(work: impl Future<Output = T>) -> T {
    timeout(Duration::from_secs(30), work).await.expect("done before the deadline")
}

fn steps(faults: &[(&str, &str)]) -> String {
    let step = |(action, target): &(&str, &str)| {
        format!(
            "[[step]]\nname = '{action} {target}'\nfault = {{ action = '{action}', target = '{target}' }}\n"
        )
    };
    faults.iter().map(step).collect()
}

#[tokio::test]
async fn what_cannot_be_healed_keeps_nothing_else_from_it() {
    let faults = steps(&[("kill", "node 1"), ("kill", "node 2"), ("pause", "node 3")]);
    let world = World::new(OBEDIENT, &faults).await;
    for step in 0..3 {
        world.begin(step).await;
    }
    assert!(!world.cluster.is_running(1) && !world.cluster.is_running(2) && world.cluster.is_paused(3));
    std::fs::write(world.folder.path().join("broken"), "").unwrap();
    let error = soon(world.nemesis.heal()).await.unwrap_err();
    // once when its fault ended, once when all nodes were looked at
    let FaultError::Several(errors) = &error else { panic!("{error}") };
    assert_eq!(errors.len(), 2, "{error}");
    let one = "node 1 exited with status 7 before it listened";
    assert!(errors.iter().all(|error| error.to_string().starts_with(one)), "{error}");
    assert!(world.cluster.is_running(2), "the second fault is undone");
    assert!(world.cluster.is_running(3) && !world.cluster.is_paused(3), "the third too");
    let deaths = world.cluster.deaths();
    assert_eq!(deaths.len(), 2);
    assert!(
        deaths
            .iter()
            .all(|death| death.node == 1 && death.cause == Cause::Unknown("exited with status 7".to_owned()))
    );
}

#[tokio::test]
async fn a_wiped_node_comes_back_as_other_faults_ask_for() {
    let faults = steps(&[("pause", "node 1"), ("wipe", "node 1")]);
    let world = World::new(OBEDIENT, &faults).await;
    let pause = world.begin(0).await;
    let first = world.cluster.process_id(1);
    world.begin(1).await;
    assert!(world.cluster.is_running(1) && world.cluster.process_id(1) != first, "it has another life");
    assert!(world.cluster.is_paused(1), "it is to stand still");
    soon(world.nemesis.end(pause)).await.unwrap();
    assert!(world.cluster.is_running(1) && !world.cluster.is_paused(1));
    assert_eq!(world.cluster.deaths(), []);
}

#[tokio::test]
async fn a_fault_of_a_step_that_cannot_be_undone_is_handed_back() {
    let steps =
        "[[step]]\nname = 'slow'\nfault = { action = 'stall-disk', target = 'node 1', for = '50ms' }\n";
    let world = World::new(RELUCTANT, steps).await;
    let script = Script::new(
        Arc::clone(&world.cluster),
        Arc::clone(&world.nemesis),
        Arc::clone(&world.roles),
        Arc::new(Stalls::default()),
        Arc::clone(&world.plan),
        &world.surroundings,
    );
    let (report, mut courses) = soon(script.run()).await;
    assert_eq!(report.unwrap().passed, 1);
    let undone = soon(courses.join_next()).await.expect("a fault that ends later").unwrap();
    let error = undone.expect_err("node 1 obeyed only once").to_string();
    assert!(error.starts_with("node 1 did not confirm its new disk"), "{error}");
}
