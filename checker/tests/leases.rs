//! A truthful run passes every lease check, and each check finds the contradiction that is planted for it.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use checker::history::{Function, History, Key, Kind, OpResult, Record};
use checker::lease_safety::{self, Invariant, LeaseReport, NodeTrace, Traces, check_traces};
use checker::trace::{Ballot, TraceEvent, TraceLine};
use support::Recorder;

/// When the run begins on the common clock.
const ORIGIN: u64 = 10_000_000;
/// Length of a grant.
const LEASE: u64 = 1_000_000;
/// Length of a hold with 100 ppm of drift, `LEASE * (1 - rho) / (1 + rho)`.
const HOLD: u64 = LEASE * 999_900 / 1_000_100;
const FIRST: Ballot = Ballot { config: 1, number: 1, priority: 0, node: 1 };
const SECOND: Ballot = Ballot { config: 1, number: 2, priority: 0, node: 2 };
const P: u32 = 4;

/// A run of three nodes with different clocks: node 1 leads, extends its lease and lets it expire; node 3 crashes and
/// restarts; node 2 takes over, answers, appends a stop-sign and gives its lease back.
#[derive(Clone)]
struct Run {
    lines: Vec<TraceLine>,
    records: Vec<Record>,
}

/// Offset and rate of a node's clock.
fn clock(node: u64) -> (u64, i64) {
    [(0, 0), (7_000_000_000, 100), (55, -100)][node as usize - 1]
}

fn local(node: u64, at: u64) -> u64 {
    let (offset, rate) = clock(node);
    let elapsed = i128::from(at) * (1_000_000 + i128::from(rate)) / 1_000_000;
    offset + u64::try_from(elapsed).unwrap()
}

impl Run {
    fn truthful() -> Self {
        let mut run = Self { lines: Vec::new(), records: Vec::new() };
        for node in 1..=3 {
            run.boot(node, 0);
        }
        run.take_over(FIRST, 1000, &[2, 3]);
        run.decide(FIRST, 3000, 1, &[11, 12]);
        run.fast_read(FIRST, 4000, 2000 + HOLD, 1);
        run.extend(FIRST, 500_000, &[2, 3]);
        run.fast_read(FIRST, 500_000 + HOLD - 40_000, 500_000 + HOLD, 1);
        run.boot(3, 700_000);
        run.at(1, 500_000 + HOLD, TraceEvent::HoldEnded { partition: P, ballot: FIRST });
        run.at(1, 500_000 + HOLD, TraceEvent::SteppedDown { partition: P, ballot: FIRST });
        run.take_over(SECOND, 1_600_000, &[3]);
        run.decide(SECOND, 1_603_000, 3, &[13]);
        run.fast_read(SECOND, 1_604_000, 1_601_000 + HOLD - 500, 3);
        run.at(2, 1_690_000, TraceEvent::StopSign { partition: P, ballot: SECOND, index: 4 });
        run.at(2, 1_700_000, TraceEvent::HoldEnded { partition: P, ballot: SECOND });
        run.at(3, 1_700_100, TraceEvent::Released { partition: P, ballot: SECOND });
        run.records = clients();
        run
    }

    fn at(&mut self, node: u64, at: u64, event: TraceEvent) {
        let starts = |line: &&TraceLine| {
            line.node == node
                && line.common <= ORIGIN + at
                && matches!(line.event, TraceEvent::Started { .. })
        };
        let itself = u64::from(matches!(event, TraceEvent::Started { .. }));
        let boot = self.lines.iter().filter(starts).count() as u64 + itself;
        self.lines.push(TraceLine { node, boot, common: ORIGIN + at, local: local(node, at), event });
    }

    fn boot(&mut self, node: u64, at: u64) {
        let (base_local, rate_ppm) = clock(node);
        let promised = if at == 0 { Ballot { number: 0, ..FIRST } } else { FIRST };
        self.at(node, at, TraceEvent::Started { lease: LEASE, drift_ppm: 100 });
        self.at(node, at, TraceEvent::Clock { base_common: ORIGIN, base_local, rate_ppm });
        self.at(node, at, TraceEvent::Group { partition: P, replicas: vec![1, 2, 3], promised });
    }

    fn take_over(&mut self, ballot: Ballot, at: u64, followers: &[u64]) {
        for node in 1..=3 {
            self.at(node, at, TraceEvent::Elected { partition: P, ballot });
        }
        for &node in [ballot.node].iter().chain(followers) {
            self.at(node, at + 1000, TraceEvent::Promised { partition: P, ballot });
        }
        self.extend(ballot, at + 1000, followers);
        self.at(ballot.node, at + 1500, TraceEvent::Leading { partition: P, ballot });
    }

    fn extend(&mut self, ballot: Ballot, at: u64, followers: &[u64]) {
        let until = |node, at| local(node, at) + LEASE;
        self.at(ballot.node, at, TraceEvent::Granted { partition: P, ballot, until: until(ballot.node, at) });
        for &node in followers {
            self.at(
                node,
                at + 100,
                TraceEvent::Granted { partition: P, ballot, until: until(node, at + 100) },
            );
        }
        let until = local(ballot.node, at) + HOLD;
        self.at(ballot.node, at + 500, TraceEvent::Hold { partition: P, ballot, until });
    }

    fn decide(&mut self, ballot: Ballot, at: u64, first: u64, hashes: &[u64]) {
        for node in 1..=3 {
            let leading = node == ballot.node;
            let hashes = hashes.to_vec();
            let at = at + u64::from(!leading) * 100;
            self.at(node, at, TraceEvent::Decided { partition: P, ballot, leading, first, hashes });
        }
    }

    fn fast_read(&mut self, ballot: Ballot, at: u64, expiry: u64, version: u64) {
        let node = ballot.node;
        let [received, checked, expiry] = [at - 50, at, expiry].map(|at| local(node, at));
        let key = "1".to_owned();
        let event = TraceEvent::FastRead {
            partition: P,
            ballot,
            key,
            received,
            checked,
            expiry,
            version,
            applied: 3,
        };
        self.at(node, at, event);
    }

    /// Changes every event for which `change` says so.
    fn change(mut self, mut change: impl FnMut(&mut TraceLine) -> bool) -> Self {
        let changed = self.lines.iter_mut().filter_map(|line| change(line).then_some(())).count();
        assert!(changed > 0, "the tampering applies");
        self
    }

    fn without(mut self, matches: impl Fn(&TraceLine) -> bool) -> Self {
        let before = self.lines.len();
        self.lines.retain(|line| !matches(line));
        assert!(self.lines.len() < before, "the tampering applies");
        self
    }

    fn with(mut self, node: u64, at: u64, event: TraceEvent) -> Self {
        self.at(node, at, event);
        self
    }

    /// Changes the n-th answer in the history.
    fn answering(mut self, nth: usize, change: impl FnOnce(&mut OpResult)) -> Self {
        let answers = self.records.iter_mut().filter_map(|record| match record {
            Record::Op(op) => op.result.as_mut(),
            _ => None,
        });
        change(answers.into_iter().nth(nth).unwrap());
        self
    }

    fn traces(&self) -> Traces {
        let node = |node| {
            let mut lines: Vec<TraceLine> =
                self.lines.iter().filter(|line| line.node == node).cloned().collect();
            lines.sort_by_key(|line| line.common);
            NodeTrace::from_lines(&format!("node-{node}.jsonl"), lines)
        };
        Traces { nodes: vec![node(1), node(2), node(3)] }
    }

    fn judge(&self) -> LeaseReport {
        check_traces(&self.traces(), &History::from_records(self.records.clone()).unwrap())
    }

    /// The invariants that are violated.
    fn violated(&self) -> BTreeSet<Invariant> {
        let report = self.judge();
        for violation in &report.violations {
            assert!(!violation.evidence.is_empty(), "{violation}");
        }
        report.counts.into_keys().collect()
    }
}

/// What the clients saw: a put, the three fast reads around a second put, and two reads through the log.
fn clients() -> Vec<Record> {
    let mut recorder = Recorder::new(Vec::new());
    if let Record::Header(header) = &mut recorder.records[0] {
        header.origin = ORIGIN;
    }
    let key = Key::Integer(1);
    let put = |value: &str| Function::Put { key: key.clone(), value: value.to_owned() };
    let get = Function::Get { key: key.clone() };
    let steps = [
        (put("a"), 2600, 3100, 1, 1, false),
        (get.clone(), 3900, 4100, 1, 1, true),
        (get.clone(), 500_000 + HOLD - 40_100, 500_000 + HOLD - 39_000, 1, 1, true),
        (put("b"), 1_602_000, 1_603_500, 3, 2, false),
        (get.clone(), 1_603_900, 1_604_100, 3, 2, true),
        (get.clone(), 1_900_000, 1_900_100, 3, 2, false),
        (get, 1_900_200, 1_900_300, 3, 2, false),
    ];
    for (function, invoked, answered, version, leader, fast) in steps {
        recorder.event(0, Kind::Invoke, function.clone(), None);
        recorder.time(invoked);
        let result = OpResult { version, leader, fast, ..support::result(None, None) };
        recorder.event(0, Kind::Ok, function, Some(result));
        recorder.time(answered);
    }
    recorder.records
}

fn set(invariants: &[Invariant]) -> BTreeSet<Invariant> {
    invariants.iter().copied().collect()
}

fn is_grant_of(line: &TraceLine, granted: Ballot) -> bool {
    matches!(line.event, TraceEvent::Granted { ballot, .. } if ballot == granted)
}

#[test]
fn a_truthful_run_passes_and_its_exercise_is_counted() {
    let report = Run::truthful().judge();
    assert!(report.is_valid() && report.leases, "{:?}", report.violations);
    let exercise = report.exercise;
    assert_eq!((exercise.holds, exercise.extensions, exercise.grants), (2, 1, 8));
    assert_eq!((exercise.fast_reads, exercise.fast_reads_near_expiry), (3, 1));
    assert_eq!((exercise.boots, exercise.fast_answers_without_event), (4, 0));
    assert_eq!(exercise.leader_changes.get(&P), Some(&1));
    assert_eq!(exercise.entries_compared, 6);
    assert!(exercise.failed_elections.is_empty());
}

#[test]
fn a_take_over_that_never_leads_is_a_failed_election() {
    let third = Ballot { number: SECOND.number + 1, node: 3, ..SECOND };
    let elected = |ballot| TraceEvent::Elected { partition: P, ballot };
    // node 1 only follows it
    let run = Run::truthful().with(3, 3_000_000, elected(third)).with(1, 3_000_100, elected(third));
    assert_eq!(run.judge().exercise.failed_elections, BTreeMap::from([(P, 1)]));
}

#[test]
fn l1_overlapping_holds_are_found() {
    let early = |line: &mut TraceLine| {
        let matches = matches!(line.event, TraceEvent::Hold { ballot: SECOND, .. });
        if matches {
            line.common = ORIGIN + 1_400_000;
        }
        matches
    };
    assert!(Run::truthful().change(early).violated().contains(&Invariant::L1));
    // A holder whose clock freezes holds on.
    let frozen = TraceEvent::Clock {
        base_common: ORIGIN + 600_000,
        base_local: local(1, 600_000),
        rate_ppm: -1_000_000,
    };
    let ends = |line: &TraceLine| {
        matches!(
            line.event,
            TraceEvent::HoldEnded { ballot: FIRST, .. } | TraceEvent::SteppedDown { ballot: FIRST, .. }
        )
    };
    let run = Run::truthful().without(ends).without(|line| line.common == ORIGIN + 500_000 + HOLD - 40_000);
    assert_eq!(run.violated(), set(&[]), "the expiry ends a hold, too");
    let violated = run.with(1, 600_000, frozen).violated();
    assert!(violated.is_superset(&set(&[Invariant::L1, Invariant::L2])), "{violated:?}");
}

#[test]
fn l2_a_hold_beyond_its_grants_is_found() {
    let extension = |line: &TraceLine| is_grant_of(line, FIRST) && line.common > ORIGIN + 400_000;
    let one = Run::truthful().without(|line| extension(line) && line.node == 2);
    assert_eq!(one.violated(), set(&[]), "two of three are a quorum");
    let run = Run::truthful().without(|line| extension(line) && line.node > 1);
    assert_eq!(run.violated(), set(&[Invariant::L2]));
    let late = |line: &mut TraceLine| {
        let late = extension(line) && line.node > 1;
        line.common += u64::from(late) * 1000;
        late
    };
    assert_eq!(
        Run::truthful().change(late).violated(),
        set(&[Invariant::L2]),
        "grants after the hold are too late"
    );
    let short = |line: &mut TraceLine| {
        let node = line.node;
        match &mut line.event {
            TraceEvent::Granted { until, ballot: SECOND, .. } if node == 3 => {
                *until -= 99_000 + LEASE / 10 * 8;
                true
            }
            _ => false,
        }
    };
    assert_eq!(Run::truthful().change(short).violated(), set(&[]), "the hold was given up by then");
    let given_up = |line: &TraceLine| matches!(line.event, TraceEvent::HoldEnded { ballot: SECOND, .. });
    let run = Run::truthful().change(short).without(given_up);
    assert_eq!(run.violated(), set(&[Invariant::L2]));
}

#[test]
fn l2_a_released_grant_covers_nothing() {
    let released = TraceEvent::Released { partition: P, ballot: SECOND };
    assert_eq!(Run::truthful().with(3, 1_650_000, released).violated(), set(&[Invariant::L2]));
}

#[test]
fn l2_a_revived_hold_is_found() {
    let until = local(2, 1_701_000) + 1000;
    let again = TraceEvent::Hold { partition: P, ballot: SECOND, until };
    assert!(Run::truthful().with(2, 1_701_000, again.clone()).violated().contains(&Invariant::L2));
    // An acknowledgement that comes after the expiry, although the grants last a little longer.
    let ends = |line: &TraceLine| matches!(line.event, TraceEvent::HoldEnded { ballot: SECOND, .. });
    let hold_ends = 1_601_000 + HOLD;
    let late = |at| TraceEvent::Hold { partition: P, ballot: SECOND, until: local(2, at + 50) };
    let run = Run::truthful().without(ends).without(|line| matches!(line.event, TraceEvent::Released { .. }));
    assert_eq!(run.clone().with(2, hold_ends - 500, late(hold_ends)).violated(), set(&[]), "in time");
    assert_eq!(run.with(2, hold_ends + 20, late(hold_ends + 20)).violated(), set(&[Invariant::L2]));
}

#[test]
fn a_holder_that_restarts_holds_no_more_and_may_lead_again_at_once() {
    let again = Ballot { number: 2, ..FIRST };
    let mut restarted = Run { lines: Vec::new(), records: clients()[..1].to_vec() };
    (1..=3).for_each(|node| restarted.boot(node, 0));
    restarted.take_over(FIRST, 1000, &[2, 3]);
    restarted.boot(1, 300_000);
    let mut run = restarted.clone();
    run.take_over(again, 310_000, &[2, 3]);
    assert_eq!(run.violated(), set(&[]));
    run.at(1, 400_000, TraceEvent::HoldEnded { partition: P, ballot: again });
    let run = run.without(|line| is_grant_of(line, again) && line.node > 1);
    assert_eq!(run.violated(), set(&[Invariant::L2]), "grants of the earlier ballot do not count");
    restarted.fast_read(FIRST, 305_000, 2000 + HOLD, 1);
    assert_eq!(restarted.violated(), set(&[Invariant::L4]), "what it held is gone");
}

#[test]
fn l2_an_acceptors_clock_that_jumps_forward_is_found() {
    let jump = |node| TraceEvent::Clock {
        base_common: ORIGIN + 510_000,
        base_local: local(node, 510_000) + LEASE / 2,
        rate_ppm: 0,
    };
    let run = Run::truthful().with(2, 510_000, jump(2));
    assert_eq!(run.violated(), set(&[]), "a quorum is left");
    let run = run.with(3, 510_000, jump(3));
    assert_eq!(run.violated(), set(&[Invariant::L2]));
}

#[test]
fn l3_a_promise_to_another_while_a_grant_runs_is_found() {
    let early = |at: u64| {
        Run::truthful().change(move |line| {
            let matches = line.node == 3 && matches!(line.event, TraceEvent::Promised { ballot: SECOND, .. });
            if matches {
                line.common = ORIGIN + at;
            }
            matches
        })
    };
    // Node 3 granted until 1,500,100 on a clock that is 100 ppm slow, before it crashed.
    assert_eq!(early(1_400_000).violated(), set(&[Invariant::L3]));
    assert_eq!(early(1_500_150).violated(), set(&[Invariant::L3]));
    assert_eq!(early(1_500_350).violated(), set(&[]));
    let shorter = TraceEvent::Granted { partition: P, ballot: FIRST, until: local(3, 510_010) };
    assert_eq!(
        early(1_400_000).with(3, 510_000, shorter).violated(),
        set(&[Invariant::L3]),
        "a grant only grows"
    );
    let released = TraceEvent::Released { partition: P, ballot: FIRST };
    assert_eq!(early(1_450_000).with(3, 1_440_000, released).violated(), set(&[]));
}

#[test]
fn l4_reads_outside_their_hold_are_found() {
    let tamper = |change: fn(&mut u64, &mut u64, &mut u64)| {
        Run::truthful().change(|line| match &mut line.event {
            TraceEvent::FastRead { received, checked, expiry, .. } if line.common == ORIGIN + 4000 => {
                change(received, checked, expiry);
                true
            }
            _ => false,
        })
    };
    let found = set(&[Invariant::L4]);
    assert_eq!(tamper(|received, checked, _| *received = *checked + 1).violated(), found);
    assert_eq!(tamper(|received, checked, _| *received = *checked).violated(), set(&[]));
    assert_eq!(tamper(|_, checked, expiry| *expiry = *checked).violated(), found);
    assert_eq!(tamper(|_, _, expiry| *expiry += 1).violated(), found);
    let mut late = Run::truthful();
    late.fast_read(FIRST, 500_000 + HOLD + 10, 500_000 + HOLD + 20, 1);
    assert_eq!(late.violated(), found);
    let mut given_up = Run::truthful().without(|line| matches!(line.event, TraceEvent::StopSign { .. }));
    given_up.fast_read(SECOND, 1_705_000, 1_601_000 + HOLD - 500, 3);
    assert_eq!(given_up.violated(), found);
    let mut other = Run::truthful();
    other.fast_read(FIRST, 1_650_000, 1_700_000, 3);
    assert_eq!(other.violated(), found);
}

#[test]
fn l5_a_fast_read_that_misses_an_acknowledged_write_is_found() {
    let run = Run::truthful().answering(4, |result| result.version = 1);
    let report = run.judge();
    assert_eq!(run.violated(), set(&[Invariant::L5]));
    let evidence = &report.violations[0].evidence;
    assert_eq!((evidence[0].line, evidence[1].line), (9, 11), "the write and the read in the history");
    assert_eq!(report.exercise.fast_answers_without_event, 1);
    let run = Run::truthful().change(|line| match &mut line.event {
        TraceEvent::FastRead { applied, .. } => {
            *applied = 0;
            true
        }
        _ => false,
    });
    assert_eq!(run.violated(), set(&[Invariant::L5]));
}

#[test]
fn l6_a_decision_inside_the_hold_of_another_is_found() {
    let decided =
        |ballot| TraceEvent::Decided { partition: P, ballot, leading: true, first: 4, hashes: vec![14] };
    assert_eq!(Run::truthful().with(1, 1_650_000, decided(FIRST)).violated(), set(&[Invariant::L6]));
    assert_eq!(Run::truthful().with(1, 1_550_000, decided(FIRST)).violated(), set(&[Invariant::Sp3]));
    assert_eq!(Run::truthful().with(2, 1_650_000, decided(SECOND)).violated(), set(&[]));
}

#[test]
fn l7_a_fast_read_after_a_stop_sign_is_found() {
    let mut run = Run::truthful();
    run.fast_read(SECOND, 1_695_000, 1_601_000 + HOLD - 500, 3);
    assert_eq!(run.violated(), set(&[Invariant::L7]));
}

#[test]
fn l8_reads_that_go_back_are_found() {
    assert_eq!(Run::truthful().answering(6, |result| result.version = 2).violated(), set(&[Invariant::L8]));
}

#[test]
fn sp2_different_decisions_are_found() {
    let run = Run::truthful().change(|line| match &mut line.event {
        TraceEvent::Decided { hashes, .. } if line.node == 2 && hashes.len() == 2 => {
            hashes[1] = 99;
            true
        }
        _ => false,
    });
    assert_eq!(run.violated(), set(&[Invariant::Sp2]));
}

#[test]
fn sp3_gaps_and_repetitions_are_found() {
    let told =
        |first| TraceEvent::Decided { partition: P, ballot: SECOND, leading: false, first, hashes: vec![13] };
    assert_eq!(Run::truthful().with(1, 1_800_000, told(3)).violated(), set(&[Invariant::Sp3]));
    assert_eq!(Run::truthful().with(1, 1_800_000, told(5)).violated(), set(&[Invariant::Sp3]));
    let restarted = Run::truthful().with(3, 1_650_000, told(3));
    assert_eq!(restarted.violated(), set(&[Invariant::Sp3]));
    let in_its_next_boot = Run::truthful().with(
        3,
        800_000,
        TraceEvent::Decided { partition: P, ballot: FIRST, leading: false, first: 2, hashes: vec![12] },
    );
    assert_eq!(in_its_next_boot.violated(), set(&[]), "a restarted node may tell its log again");
}

#[test]
fn sp3_snapshots_bridge_what_is_decided_and_nothing_else() {
    let told =
        |first| TraceEvent::Decided { partition: P, ballot: SECOND, leading: false, first, hashes: vec![13] };
    let snapshot = |index, start, fetched| TraceEvent::Snapshot { partition: P, index, start, fetched };
    let after = |event| Run::truthful().with(1, 1_800_000, event);
    // node 1 has told of entries 1 to 3
    assert_eq!(after(snapshot(3, 2, false)).violated(), set(&[]), "of all that it has decided");
    assert_eq!(after(snapshot(3, 4, false)).violated(), set(&[Invariant::Sp3]), "entry 4 is gone");
    assert_eq!(after(snapshot(4, 4, false)).violated(), set(&[Invariant::Sp3]), "not decided there yet");
    assert_eq!(after(snapshot(2, 2, true)).violated(), set(&[Invariant::Sp3]), "it undoes what was decided");
    let fetched = after(snapshot(8, 8, true));
    assert_eq!(fetched.violated(), set(&[]));
    assert_eq!(fetched.judge().exercise.snapshots_fetched, 1);
    let goes_on = after(snapshot(8, 8, true)).with(1, 1_810_000, told(9));
    assert_eq!(goes_on.violated(), set(&[]), "behind it");
    let gap = after(snapshot(8, 8, true)).with(1, 1_810_000, told(10));
    assert_eq!(gap.violated(), set(&[Invariant::Sp3]));
}

#[test]
fn ble3_ballots_that_repeat_are_found() {
    let found = set(&[Invariant::Ble3]);
    let elected = TraceEvent::Elected { partition: P, ballot: FIRST };
    assert_eq!(Run::truthful().with(2, 1_800_000, elected.clone()).violated(), found);
    assert_eq!(Run::truthful().with(3, 750_000, elected).violated(), set(&[]), "in its next boot");
    let leading = |ballot| TraceEvent::Leading { partition: P, ballot };
    assert_eq!(Run::truthful().with(1, 1_800_000, leading(FIRST)).violated(), found);
    assert_eq!(Run::truthful().with(1, 1_800_000, leading(SECOND)).violated(), found);
}

/// A grant leaves its node only once the promise is durable, so the disk tells whether anyone counts on it.
#[test]
fn l3_a_grant_that_a_crash_undid_binds_nobody_and_one_that_it_did_not_still_does() {
    let next = Ballot { number: 9, ..FIRST };
    let long = TraceEvent::Granted { partition: P, ballot: next, until: local(3, 5_000_000) };
    let crashed = Run::truthful().with(3, 690_000, long);
    assert_eq!(crashed.violated(), set(&[]), "the promise to it was not on the disk");
    let kept = crashed.change(|line| match &mut line.event {
        TraceEvent::Group { promised, .. } if line.boot == 2 => {
            *promised = next;
            true
        }
        _ => false,
    });
    assert_eq!(kept.violated(), set(&[Invariant::L3]));
}

#[test]
fn without_leases_only_agreement_and_versions_are_checked() {
    let off = |run: Run| {
        run.change(|line| match &mut line.event {
            TraceEvent::Started { lease, .. } => {
                *lease = 0;
                true
            }
            _ => false,
        })
    };
    let mut run = Run::truthful();
    run.fast_read(FIRST, 1_650_000, 1_700_000, 3);
    let report = off(run).judge();
    assert!(report.is_valid() && !report.leases);
    assert_eq!(
        off(Run::truthful().answering(6, |result| result.version = 2)).violated(),
        set(&[Invariant::L8])
    );
}

#[test]
fn a_run_is_read_from_its_folder() {
    let folder = tempfile::tempdir().unwrap();
    let run = Run::truthful();
    fs::create_dir(folder.path().join("trace")).unwrap();
    for node in run.traces().nodes {
        let mut text = String::new();
        for (_, line) in &node.lines {
            // What a crash leaves: a half-written line that the next boot ends, and one at the end.
            if line.boot == 2 && matches!(line.event, TraceEvent::Started { .. }) {
                text += "{\"node\":3,\"boot\":1,\"comm\n";
            }
            text += &serde_json::to_string(line).unwrap();
            text.push('\n');
        }
        text += r#"{"node":"#;
        fs::write(folder.path().join("trace").join(&node.file), text).unwrap();
    }
    let history: Vec<String> =
        run.records.iter().map(|record| serde_json::to_string(record).unwrap()).collect();
    fs::write(folder.path().join("history.jsonl"), history.join("\n")).unwrap();
    let report = lease_safety::check(folder.path()).unwrap();
    assert!(report.is_valid(), "{:?}", report.violations);
    let mut expected = run.judge().exercise;
    expected.truncated_lines = 4;
    assert_eq!(report.exercise, expected);

    // what looks half-written and is not: its boot goes on
    let node = &run.traces().nodes[0];
    let whole = serde_json::to_string(&node.lines[0].1).unwrap();
    fs::write(folder.path().join("trace/node-8.jsonl"), format!("{whole}\n{{\"node\":1,\"bo\n{whole}\n"))
        .unwrap();
    let error = lease_safety::check(folder.path()).unwrap_err().to_string();
    assert!(error.starts_with("node-8.jsonl: line 2, column 13: EOF while parsing a string"), "{error}");
    // nor is a line half-written that is the beginning of none
    fs::write(folder.path().join("trace/node-8.jsonl"), format!("{whole}\nnothing of the kind\n")).unwrap();
    let error = lease_safety::check(folder.path()).unwrap_err().to_string();
    assert!(error.starts_with("node-8.jsonl: line 2, column 2: expected ident"), "{error}");
    fs::remove_file(folder.path().join("trace/node-8.jsonl")).unwrap();

    fs::write(folder.path().join("trace/node-9.jsonl"), "{\"node\":9}\n").unwrap();
    let error = lease_safety::check(folder.path()).unwrap_err().to_string();
    assert!(error.starts_with("node-9.jsonl: line 1, column 10: missing field"), "{error}");
}
