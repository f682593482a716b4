//! A counterexample as a workload file: the same crashes, requests and delays in the same order, for the simulator and for
//! real processes.
//!
//! A model's path says which message arrives when; a workload can only say which links keep theirs back from one step to
//! another, and whom nobody hears, so that another takes over. So the file is the path's skeleton, not the path: it may have
//! to run under several seeds until the same thing comes of it.

use std::fmt::Write;

use store::{
    api::NodeId,
    core::{Message, message::GroupMessage},
};

use crate::{
    bounds::{Ask, Bounds, DRIFT_PPM, REPLICAS, Rate},
    machine::Running,
    network::Carried,
    space::start,
    world::{Action, Scene, World},
};

/// Real milliseconds of the exported run for one of the model's.
const SCALE: u64 = 20;

const HEARTBEAT_MS: u64 = 40;
const MISSED_ROUNDS: u64 = 5;

/// Writes the workload file.
pub fn export(bounds: &Bounds, actions: &[Action], violation: &str) -> String {
    let scene = Scene::new(bounds.clone());
    let path: Vec<Action> = bounds.prelude.iter().chain(actions).copied().collect();
    let mut states = vec![start(&scene)];
    for action in &path {
        let next = states.last().expect("there is a first").after(*action, &scene);
        states.push(next);
    }
    let mut text = head(bounds, violation);
    let mut held: Vec<Held> = Vec::new();
    for (number, epoch) in epochs(&path).into_iter().enumerate() {
        let carried = carried(&states[epoch.end]);
        for what in
            carried.iter().filter(|what| !held.iter().any(|held| held.what == **what)).collect::<Vec<_>>()
        {
            let held_now =
                Held { what: *what, name: format!("{number}: {} of {} to {}", what.2, what.0, what.1) };
            hold(&mut text, &held_now);
            held.push(held_now);
        }
        step(&mut text, path[epoch.start], &states[epoch.start], bounds);
        for over in held.extract_if(.., |held| !carried.contains(&held.what)) {
            let _ = writeln!(text, "[[step]]\nheal = \"{}\"\n", over.name);
        }
        text.push_str("[[step]]\nwait = \"60ms\"\n\n");
    }
    text.push_str("[[step]]\nheal = \"all\"\n\n[expect]\nverdict = \"violation\"\n");
    text
}

fn head(bounds: &Bounds, violation: &str) -> String {
    let mut text = format!(
        "about = \"\"\"\nA path of the model `{}` on which this was broken:\n{}\"\"\"\n\n",
        bounds.title(),
        violation.replace('"', "'")
    );
    if bounds.mutant.is_some() {
        let _ = writeln!(text, "mutant = \"{}\"\n", bounds.mutant_name());
    }
    let _ = writeln!(text, "[cluster]\nnodes = {REPLICAS}\npartitions = [{{}}]");
    let _ = writeln!(text, "heartbeat_ms = {HEARTBEAT_MS}\nmissed_rounds = {MISSED_ROUNDS}");
    match bounds.lease_ms {
        Some(lease) => {
            let duration = (lease * SCALE).min(HEARTBEAT_MS * MISSED_ROUNDS);
            let _ = writeln!(text, "lease = {{ duration_ms = {duration}, drift_ppm = {DRIFT_PPM} }}");
        }
        None => text.push_str("lease = \"off\"\n"),
    }
    let clients = bounds.clients.len();
    let _ = writeln!(text, "\n[clients]\ncount = {clients}\ntimeout_ms = 1000\n\n[clocks]");
    for (node, rate) in (1..).zip(bounds.rates) {
        let drift = i64::try_from(DRIFT_PPM).expect("it is small");
        let rate_ppm = match rate {
            Rate::Slow => -drift,
            Rate::True => 0,
            Rate::Fast => drift,
        };
        let _ = writeln!(text, "{node} = {{ rate_ppm = {rate_ppm} }}");
    }
    text.push_str("\n[[step]]\nwait = \"leader(1)\"\n\n");
    take_over(&mut text, 1);
    text
}

/// Only one node hears the others, so that it alone sees a quorum, and the others have no leader.
fn take_over(text: &mut String, node: NodeId) {
    let deaf: Vec<String> =
        (1..=REPLICAS).filter(|other| *other != node).map(|other| other.to_string()).collect();
    let (lasts, wait) = (HEARTBEAT_MS * (MISSED_ROUNDS + 6), HEARTBEAT_MS * (MISSED_ROUNDS + 5));
    let _ = writeln!(
        text,
        "[[step]]\nfault = {{ action = \"frame-drop\", target = \"nodes {}\", direction = \"in\", \
         kinds = [\"heartbeat-reply\"], for = \"{lasts}ms\" }}\n\n[[step]]\nwait = \"{wait}ms\"\n",
        deaf.join(", ")
    );
}

/// The path in pieces, each of which begins with something that is done to the nodes, and goes on with what comes of it.
fn epochs(path: &[Action]) -> Vec<std::ops::Range<usize>> {
    let done_to = |action: &Action| {
        !matches!(
            action,
            Action::Deliver(..)
                | Action::DeliverLate(..)
                | Action::Sync(_)
                | Action::Wake(_)
                | Action::Follow(..)
        )
    };
    let mut begins: Vec<usize> = (0..path.len()).filter(|at| done_to(&path[*at])).collect();
    begins.push(path.len());
    begins.windows(2).map(|pair| pair[0]..pair[1]).collect()
}

/// A kind of message, and from whom to whom; or what a disk has not synced, from its node to itself.
type What = (NodeId, NodeId, &'static str);

/// What is kept back, and what the file calls that.
struct Held {
    what: What,
    name: String,
}

const DISK: &str = "sync";

/// What is on its way.
fn carried(world: &World) -> Vec<What> {
    let syncing = |node: &NodeId| world.machine(*node).running().is_some_and(Running::is_syncing);
    let mut all: Vec<What> = (1..=REPLICAS).filter(syncing).map(|node| (node, node, DISK)).collect();
    for ((from, to), link) in world.network.iter() {
        for kind in link.live.iter().filter_map(kind) {
            if !all.contains(&(from, to, kind)) {
                all.push((from, to, kind));
            }
        }
    }
    all
}

/// How workload files call a message.
fn kind(carried: &Carried) -> Option<&'static str> {
    let Carried::Message(Message::Group { message, .. }) = carried else { return None };
    Some(match message {
        GroupMessage::Prepare { .. } => "prepare",
        GroupMessage::Promise { .. } => "promise",
        GroupMessage::AcceptSync { .. } => "accept-sync",
        GroupMessage::Accept { .. } => "accept",
        GroupMessage::Accepted { .. } => "accepted",
        GroupMessage::Decide { .. } => "decide",
        GroupMessage::PrepareReq { .. } => "prepare-req",
        GroupMessage::Nack { .. } => "nack",
        GroupMessage::LeaseNack { .. } => "lease-nack",
        GroupMessage::LeaseExtend { .. } => "lease-extend",
        GroupMessage::LeaseGranted { .. } => "lease-granted",
        GroupMessage::LeaseRelease { .. } => "lease-release",
        GroupMessage::TakeOver { .. } => "take-over",
        GroupMessage::Trimmed { .. } => "trimmed",
        GroupMessage::FetchSnapshot { .. } => "fetch-snapshot",
        GroupMessage::SnapshotPiece { .. } => "snapshot-piece",
        GroupMessage::AcceptedByAll { .. } => "accepted-by-all",
    })
}

fn hold(text: &mut String, held: &Held) {
    let (from, to, kind) = held.what;
    if kind == DISK {
        let fault = format!("{{ action = \"stall-disk\", target = \"node {from}\" }}");
        let _ = writeln!(text, "[[step]]\nname = \"{}\"\nfault = {fault}\n", held.name);
        return;
    }
    let _ = writeln!(
        text,
        "[[step]]\nname = \"{}\"\nfault = {{ action = \"frame-hold\", target = \"node {from}\", peer = \"node {to}\", \
         direction = \"out\", kinds = [\"{kind}\"] }}\n",
        held.name
    );
}

fn step(text: &mut String, action: Action, before: &World, bounds: &Bounds) {
    match action {
        Action::NoLeader(node) => take_over(text, node),
        Action::Ask(client, node) => {
            let ask = bounds.clients[client][before.clients.asked_by(client)];
            assert!(matches!(ask, Ask::Read | Ask::Write), "workloads have no step for {ask:?}");
            let ask = if ask == Ask::Read { "get = { key = 1 }" } else { "put = { key = 1 }" };
            let _ = writeln!(
                text,
                "[[step]]\nclient = {}\nvia = {node}\n{ask}\nbackground = true\nexpect = {{ outcome = \"any\" }}\n",
                client + 1
            );
        }
        Action::Crash(node) => {
            let word = if bounds.slow_disks.contains(&node) { "lose-unsynced" } else { "kill" };
            let _ = writeln!(
                text,
                "[[step]]\nname = \"{node} dies\"\nfault = {{ action = \"{word}\", target = \"node {node}\" }}\n"
            );
        }
        Action::HandOver(_, to) => {
            let _ = writeln!(
                text,
                "[[step]]\nfault = {{ action = \"transfer-leader\", partition = 1, target = \"node {to}\" }}\n"
            );
        }
        Action::Restart(node) => {
            let _ = writeln!(text, "[[step]]\nheal = \"{node} dies\"\n");
        }
        Action::Break(from, to) => {
            let _ = writeln!(
                text,
                "[[step]]\nfault = {{ action = \"reset\", target = \"nodes {from}, {to}\" }}\n"
            );
        }
        Action::Tick => {
            let _ = writeln!(text, "[[step]]\nwait = \"{}ms\"\n", crate::bounds::TICK_MS * SCALE);
        }
        _ => {}
    }
}
