//! Certificates that do not hold are refused, and what they cost has an end.

mod support;

use std::collections::BTreeSet;
use std::fmt::Write as _;

use checker::budget::{Budget, Spent};
use checker::general::{Recorded, Refuted, Undecided, Verdict, Violation, check, verify};
use checker::model::{
    Counter, CounterOp, Mutex, MutexOp, Register, RegisterOp, RegisterRet, Set, SetOp, SetRet,
};
use support::command::checked;

fn violation(core: &[usize], stuck: usize, placed: &[usize]) -> Verdict {
    Verdict::Violation(Violation { core: core.to_vec(), stuck, placed: placed.to_vec() })
}

#[test]
fn a_core_is_of_different_operations() {
    let once = [Recorded::completed(MutexOp::Acquire, true, 1, 2)];
    assert_eq!(verify(&once, &Mutex(false), &violation(&[0, 0], 0, &[])), Err(Refuted::Named(0)));
    let twice = [once[0].clone(), Recorded::completed(MutexOp::Acquire, true, 3, 4)];
    assert_eq!(verify(&twice, &Mutex(false), &violation(&[0, 1], 1, &[0])), Ok(()));
    assert_eq!(verify(&twice, &Mutex(false), &violation(&[0, 2], 0, &[0])), Err(Refuted::Named(2)));
}

#[test]
fn what_is_told_of_a_violation_is_checked() {
    let put = |value, called, returned| {
        Recorded::completed(RegisterOp::Put(value), RegisterRet::Done, called, returned)
    };
    let get = |value, called, returned| {
        Recorded::completed(RegisterOp::Get, RegisterRet::Value(Some(value)), called, returned)
    };
    let history = [put(1, 1, 2), put(2, 3, 4), get(1, 5, 6)];
    let verified =
        |stuck, placed: &[usize]| verify(&history, &Register(None), &violation(&[0, 1, 2], stuck, placed));
    assert_eq!(verified(2, &[0, 1]), Ok(()));
    assert_eq!(verified(2, &[]), Ok(()));
    assert_eq!(verified(3, &[0, 1]), Err(Refuted::Stuck(3)));
    assert_eq!(verified(2, &[0, 1, 1]), Err(Refuted::Named(1)));
    assert_eq!(verified(2, &[3]), Err(Refuted::Named(3)));
    assert_eq!(verified(2, &[0, 1, 2]), Err(Refuted::Answer(2)));
    assert_eq!(verified(2, &[1, 0]), Err(Refuted::RealTime(0, 1)));
}

/// A set to which so many elements are added, one after the other.
fn added(count: usize) -> Vec<Recorded<SetOp<u64>, SetRet<u64>>> {
    let add = |place| Recorded::completed(SetOp::Add(place as u64), SetRet::Done, 2 * place, 2 * place + 1);
    (0..count).map(add).collect()
}

#[test]
fn what_states_hold_counts_as_memory() {
    let finding = check(&added(300), &Set::default(), Budget::default());
    assert!(matches!(finding.verdict, Verdict::Valid(_)));
    let elements = 300 * 301 / 2;
    assert!(finding.bytes > elements * size_of::<u64>(), "{} bytes", finding.bytes);
    let budget = Budget { memory: Some(1 << 20), ..Budget::default() };
    let verdict = check(&added(3000), &Set::default(), budget).verdict;
    assert!(matches!(verdict, Verdict::Unknown(Undecided { reason: Spent::Memory, .. })), "{verdict:?}");
}

/// Beside the core there are thousands of operations of different kinds, and sets that hold them.
#[test]
fn trying_every_order_has_an_end() {
    let mut history = added(8000);
    let read = SetRet::Elements(BTreeSet::from([1]));
    history.push(Recorded::completed(SetOp::Read, read.clone(), 20_000, 20_001));
    history.push(Recorded::completed(SetOp::Remove(1), SetRet::Done, 20_002, 20_003));
    history.push(Recorded::completed(SetOp::Read, read, 20_004, 20_005));
    let claim = violation(&[8000, 8002], 8002, &[]);
    assert_eq!(verify(&history, &Set::default(), &claim), Err(Refuted::TooMany));
    // where the object is small, a long history is no obstacle
    let mut counted: Vec<_> = (0..8000)
        .map(|place| Recorded::completed(CounterOp::Add(0), None, 2 * place, 2 * place + 1))
        .collect();
    counted.push(Recorded::completed(CounterOp::Read, Some(7), 20_000, 20_001));
    assert_eq!(verify(&counted, &Counter(0), &violation(&[8000], 8000, &[])), Ok(()));
}

/// Seventeen additions at once, whose order does not matter to the search, and to which each set of them is another state.
#[test]
fn what_is_not_verified_is_said_in_the_verdict() {
    let mut text = String::new();
    for kind in ["invoke", "ok"] {
        for process in 0..17 {
            let _ = writeln!(text, "{process} :{kind} :add {}", 1 << process);
        }
    }
    text += "99 :invoke :read nil\n99 :ok :read 0\n";
    let arguments = ["--model", "counter", "--explain-limit", "0s", "--verify"];
    let (code, last) = checked(&text, &arguments);
    assert!(code == 1 && last.ends_with("; not verified: key : too many orders to try)"), "{code} {last}");
    assert!(!checked(&text, &arguments[..4]).1.contains("not verified"));
}
