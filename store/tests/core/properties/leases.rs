//! Leader leases (Raft dissertation, section 6.4: while its lease lasts, a leader answers reads without the others, since none
//! of them follows another before it ends). L1 to L9 are the list of `core/invariants.rs`, quoted here.

use std::collections::BTreeSet;

use store::{
    api::{Ballot, StoreError},
    config::Mutant,
    core::{
        durable::Record,
        invariants::Violation,
        message::{Entry, StopSign},
        trace::TraceEvent,
    },
};

use super::{
    ask, get, isolate, led, led_with_rates,
    planted::{Planted, ballot, breaks, fast_read, granted, hold},
    put,
};
use crate::world::{MS, World};

/// The ballots whose hold was told of.
fn held(world: &World) -> BTreeSet<Ballot> {
    let ballots = world.events.iter().filter_map(|(_, _, event)| match event {
        TraceEvent::Hold { ballot, .. } => Some(*ballot),
        _ => None,
    });
    ballots.collect()
}

// ---- worlds, each with the mutant that it catches ----------------------------------------------------------------

/// The leader loses all links while it holds the lease; the others elect another.
fn leader_is_cut_off(rates_ppm: [i64; 3], mutant: Option<Mutant>) -> Result<World, Violation> {
    let mut world = led_with_rates(rates_ppm, mutant)?;
    isolate(&mut world, 3);
    world.run(1500 * MS)?;
    Ok(world)
}

/// The leader can send but not receive, and gives up, but node 1 does not hear that: its grant runs on while it and node 2
/// take over. `restarts`: it restarts before that.
fn grant_outlasts_the_leader(restarts: bool, mutant: Option<Mutant>) -> Result<World, Violation> {
    let mut world = led(3, mutant);
    world.lose(3, 1, "LeaseRelease");
    world.cut(1, 3);
    world.cut(2, 3);
    world.run(270 * MS)?;
    if restarts {
        world.crash(1);
        world.start(1)?;
    }
    world.run(600 * MS)?;
    Ok(world)
}

/// The old leader is asked after it has given up its ballot and another leads.
fn deposed_leader_is_asked(mutant: Option<Mutant>) -> Result<World, Violation> {
    let mut world = leader_is_cut_off([0; 3], mutant)?;
    world.ask(3, get("x"))?;
    world.run(10 * MS)?;
    Ok(world)
}

/// The leader decides a write and dies before the others hear that it is decided. Its successor is asked as soon as it leads.
/// `acknowledged`: the writer was answered; else a reader has seen what it wrote.
fn successor_is_asked_at_once(acknowledged: bool, mutant: Option<Mutant>) -> Result<World, Violation> {
    let mut world = led(3, mutant);
    for follower in [1, 2] {
        world.mute(3, follower, "Decide", true);
    }
    world.mute(3, 1, "Forwarded", !acknowledged);
    world.ask(1, put("x", "new"))?;
    world.run(10 * MS)?;
    assert_eq!(world.asked[0].response.is_some(), acknowledged);
    if !acknowledged {
        world.ask(3, get("x"))?;
        world.run(MS)?;
    }
    world.crash(3);
    let leads = |event: &TraceEvent| matches!(event, TraceEvent::Leading { ballot, .. } if ballot.node == 2);
    let led = world.run_until(1000 * MS, |world| {
        world.events.iter().any(|(_, node, event)| *node == 2 && leads(event))
    })?;
    assert!(led, "node 2 leads");
    world.ask(2, get("x"))?;
    world.run(20 * MS)?;
    Ok(world)
}

/// What a leader lacks for a decision when it is paused.
#[derive(Clone, Copy, PartialEq)]
enum Lacks {
    /// What its followers have acknowledged is under way.
    Acknowledgements,
    /// One follower has acknowledged, the other is cut off, and its own disk is slow.
    OwnDisk,
}

/// The leader is paused for so long that another holds the lease when it goes on, and has what it lacks for a decision.
fn leader_is_paused_before_it_decides(lacks: Lacks) -> Result<World, Violation> {
    let mut world = led(3, None);
    if lacks == Lacks::OwnDisk {
        world.stall_disk(3, true);
        world.cut(3, 2);
    }
    world.ask(3, put("x", "old"))?;
    world.run(if lacks == Lacks::OwnDisk { 10 * MS } else { MS })?;
    world.pause(3);
    world.run(1000 * MS)?;
    assert_eq!(held(&world).len(), 2, "another holds the lease: {:?}", held(&world));
    world.stall_disk(3, false);
    world.resume_in_one_turn(3)?;
    world.run(100 * MS)?;
    Ok(world)
}

// ---- L1 to L9 ----------------------------------------------------------------------------------------------------

/// "Holds of different ballots of one partition never overlap in real time."
#[test]
fn l1_holds_never_overlap() {
    // a holder whose clock is slow, acceptors whose clocks are fast, both as far as is allowed
    let world = leader_is_cut_off([200_000, 200_000, -200_000], None).expect("no invariant breaks");
    assert!(held(&world).len() >= 2, "the lease has changed hands: {:?}", held(&world));
    // it bites: another holds the lease before the first hold ends, and a hold that has ended is revived
    let mut planted = Planted::with_hold(ballot(1, 3));
    breaks("L1", planted.see(99, 2, hold(ballot(2, 2), 200)));
    let mut planted = Planted::with_hold(ballot(1, 3));
    planted.see(50, 3, TraceEvent::HoldEnded { partition: 1, ballot: ballot(1, 3) }).expect("given back");
    breaks("L1", planted.see(60, 3, hold(ballot(1, 3), 100)));
    // at the same instant, too
    let mut planted = Planted::with_hold(ballot(1, 3));
    planted.see(0, 3, TraceEvent::HoldEnded { partition: 1, ballot: ballot(1, 3) }).expect("given back");
    breaks("L1", planted.see(0, 3, hold(ballot(1, 3), 100)));
}

/// "A hold lies within a quorum's grants of its ballot."
#[test]
fn l2_a_hold_lies_within_a_quorums_grants() {
    let rates = [200_000, 200_000, -200_000];
    led_with_rates(rates, None).expect("no invariant breaks");
    // it bites: the holder counts its lease as if all clocks ran alike
    breaks("L2", led_with_rates(rates, Some(Mutant::LeaseWithoutDriftMargin)).map(drop));
    // and: only one of three has granted, and two have granted another ballot
    let mut planted = Planted::new();
    planted.see(0, 3, granted(ballot(1, 3), 100)).expect("a grant");
    breaks("L2", planted.see(0, 3, hold(ballot(1, 3), 100)));
    let mut planted = Planted::with_hold(ballot(1, 3));
    breaks("L2", planted.see(10, 3, hold(ballot(1, 3), 101)));
}

/// "No promise to another node while a grant runs, also across a restart."
#[test]
fn l3_no_promise_to_another_while_a_grant_runs() {
    for restarts in [false, true] {
        let world = grant_outlasts_the_leader(restarts, None).expect("no invariant breaks");
        assert!(held(&world).contains(&ballot(2, 2)), "node 2 has come to lead in the end");
    }
    // it bites: a candidate promises itself in spite of its grant, and a restarted acceptor forgets what it may have granted
    breaks("L3", grant_outlasts_the_leader(false, Some(Mutant::CandidateIgnoresOwnGrant)).map(drop));
    breaks("L3", grant_outlasts_the_leader(true, Some(Mutant::RestartForgetsGrant)).map(drop));
}

/// "A fast read has received <= checked < expiry, inside a hold of its ballot."
#[test]
fn l4_a_fast_read_is_checked_inside_its_hold() {
    let world = deposed_leader_is_asked(None).expect("no invariant breaks");
    assert_eq!(world.observer.fast_reads, 0, "who has given up answers nothing alone");
    // it bites: a deposed leader goes on answering
    breaks("L4", deposed_leader_is_asked(Some(Mutant::DeposedLeaderServesReads)).map(drop));
    // and: checked before it was received, checked at the expiry, an expiry beyond the hold, a hold that is over
    for times in [(51, 50, 100), (50, 100, 100), (50, 60, 101)] {
        breaks("L4", Planted::with_hold(ballot(1, 3)).see(60, 3, fast_read(ballot(1, 3), times)));
    }
    breaks("L4", Planted::with_hold(ballot(1, 3)).see(100, 3, fast_read(ballot(1, 3), (50, 60, 100))));
    Planted::with_hold(ballot(1, 3)).see(60, 3, fast_read(ballot(1, 3), (50, 60, 100))).expect("a good read");
}

/// "A fast read covers every write on its key that was acknowledged before it was asked", adopted ones too.
#[test]
fn l5_a_fast_read_covers_every_acknowledged_write() {
    let world = successor_is_asked_at_once(true, None).expect("no invariant breaks");
    let answer = world.asked[1].response.clone().expect("an answer").expect("the value");
    assert_eq!(
        (answer.version, answer.fast),
        (1, false),
        "it went through the log, behind the adopted write"
    );
    // it bites: the successor answers before what it has adopted is applied
    breaks("L5", successor_is_asked_at_once(true, Some(Mutant::FastReadBeforeAdoptedSuffix)).map(drop));
}

/// "No other ballot decides inside a hold."
#[test]
fn l6_no_other_ballot_decides_inside_a_hold() {
    // the old leader has a quorum's acknowledgements when it goes on, and looks at the clock before it counts them
    for lacks in [Lacks::Acknowledgements, Lacks::OwnDisk] {
        let world = leader_is_paused_before_it_decides(lacks).expect("no invariant breaks");
        let by_the_old = |event: &TraceEvent| matches!(event, TraceEvent::Decided { ballot: of, leading: true, .. } if *of == ballot(1, 3));
        assert!(
            !world.events.iter().any(|(_, _, event)| by_the_old(event)),
            "the old ballot decides nothing"
        );
        assert_eq!(world.decided_values(1), ["old".into()], "the new one has adopted and decided it");
    }
    // it bites
    let decided =
        TraceEvent::Decided { partition: 1, ballot: ballot(1, 1), leading: true, first: 1, hashes: vec![7] };
    breaks("L6", Planted::with_hold(ballot(2, 3)).see(50, 1, decided.clone()));
    Planted::with_hold(ballot(2, 3)).see(100, 1, decided).expect("the hold is over");
}

/// "No fast read after a stop-sign was appended."
///
/// Nobody proposes one yet, but the log has room for it: here the leader finds one on its disk, as if an earlier life had
/// appended it.
#[test]
fn l7_no_fast_read_after_a_stop_sign() {
    let mut world = led(3, None);
    ask(&mut world, 1, put("x", "one")).expect("an answer").expect("it is written");
    let fast = ask(&mut world, 1, get("x")).expect("an answer").expect("it is read");
    assert!(fast.fast, "the lease is there");
    (1..=3).for_each(|node| world.crash(node));
    let stop_sign = Entry::StopSign(StopSign { config: 1, members: vec![1, 2, 3] });
    let (accepted_ballot, start) = (ballot(1, 3), 1);
    world.plant(
        3,
        &Record::Accepted { partition: 1, accepted_ballot, start, entries: vec![stop_sign].into() },
    );
    (1..=3).for_each(|node| world.start(node).expect("it starts"));
    world.run(1000 * MS).expect("no invariant breaks");
    let status = world.status(3).expect("it runs").partitions[0].clone();
    assert_eq!((status.role.as_str(), status.decided, status.hold_ms.is_some()), ("leader", 2, true));
    let fast_reads = world.observer.fast_reads;
    for node in 1..=3 {
        let refused = ask(&mut world, node, get("x")).expect("an answer");
        assert!(
            matches!(refused, Err(StoreError::NoLeader { .. } | StoreError::NotLeader { .. })),
            "{refused:?}"
        );
    }
    assert_eq!(world.observer.fast_reads, fast_reads, "although it holds the lease");
    // it bites
    let mut planted = Planted::with_hold(ballot(1, 3));
    let stop_sign = TraceEvent::StopSign { partition: 1, ballot: ballot(1, 3), index: 1 };
    planted.see(40, 3, stop_sign).expect("a stop-sign");
    breaks("L7", planted.see(60, 3, fast_read(ballot(1, 3), (50, 60, 100))));
}

/// "Reads of one key that follow one another see non-decreasing versions."
#[test]
fn l8_reads_never_go_back() {
    let world = successor_is_asked_at_once(false, None).expect("no invariant breaks");
    let version = |number: usize| Some(world.asked[number].response.as_ref()?.as_ref().ok()?.version);
    assert_eq!((version(0), version(1), version(2)), (None, Some(1), Some(1)), "put, get, get");
    // it bites: the successor answers before what it has adopted is applied
    breaks("L8", successor_is_asked_at_once(false, Some(Mutant::FastReadBeforeAdoptedSuffix)).map(drop));
}

/// What happens to a world, with a planted bug or without.
type Story = fn(Option<Mutant>) -> Result<World, Violation>;

/// "And a test of the checker itself, L9: with drift above rho, or any lease mutant, it finds a violation."
#[test]
fn l9_what_breaks_the_lease_is_found() {
    // a little beyond the bound of 20 %, on the side where it hurts: the same world is clean at the bound (l1)
    for rates in [[200_000, 200_000, -210_000], [210_000, 210_000, -200_000]] {
        breaks("L2", leader_is_cut_off(rates, None).map(drop));
    }
    let stories: [(Mutant, Story); 5] = [
        (Mutant::LeaseWithoutDriftMargin, |mutant| leader_is_cut_off([200_000, 200_000, -200_000], mutant)),
        (Mutant::DeposedLeaderServesReads, deposed_leader_is_asked),
        (Mutant::CandidateIgnoresOwnGrant, |mutant| grant_outlasts_the_leader(false, mutant)),
        (Mutant::RestartForgetsGrant, |mutant| grant_outlasts_the_leader(true, mutant)),
        (Mutant::FastReadBeforeAdoptedSuffix, |mutant| successor_is_asked_at_once(true, mutant)),
    ];
    for (mutant, story) in stories {
        assert!(story(None).is_ok(), "without {mutant:?}");
        breaks("L", story(Some(mutant)).map(drop));
    }
}
