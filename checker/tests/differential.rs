//! Random small histories: the checker must agree with stateright's tester and with trying every order.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use checker::history::{Function, History, Key, Kind, OpResult, Operation, Record};
use checker::linearizability::{Budget, Verdict, check};
use checker::model::{Register, RegisterOp, RegisterRet};
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use stateright::semantics::{ConsistencyTester, LinearizabilityTester, SequentialSpec};
use support::{Recorder, answer};

type Raw = (u8, u8, u8, u8, u8);

/// Turns random bytes into a history of one key: processes invoke, the register takes effect, answers return; now and
/// then an answer is lost or falsified, or its version is.
fn history(raw: &[Raw], processes: u8, values: u8, unique: bool, deletes: bool) -> Vec<Record> {
    let key = Key::Integer(1);
    let mut state = None;
    let mut recorder = Recorder::new(Vec::new());
    let mut open: Vec<Option<(u64, Function, Option<OpResult>)>> = vec![None; usize::from(processes)];
    let mut fresh = u64::from(processes);
    // what an honest store says of the order in which operations took effect
    let mut version = 0;
    let mut effect = |state: &mut Option<String>, function: &Function| {
        let result = answer(state, function);
        version += u64::from(!matches!(function, Function::Get { .. }) && result.swapped != Some(false));
        OpResult { version, ..result }
    };
    let mut names: Vec<u64> = (0..fresh).collect();
    for (count, &(process, what, first, second, fate)) in raw.iter().enumerate() {
        let slot = usize::from(process % processes);
        let (value, other) = (first % values, second % values);
        let written = if unique { format!("u{count}") } else { value.to_string() };
        match open[slot].take() {
            None => {
                let seen = if unique { state.clone() } else { (other > 0).then(|| other.to_string()) };
                let function = match what % 8 {
                    0..=2 => Function::Get { key: key.clone() },
                    3 | 4 => Function::Put { key: key.clone(), value: written },
                    5 if deletes => Function::Delete { key: key.clone() },
                    _ => Function::Cas { key: key.clone(), expected: seen, new: written },
                };
                recorder.event(names[slot], Kind::Invoke, function.clone(), None);
                open[slot] = Some((names[slot], function, None));
            }
            Some((name, function, None)) if fate % 4 == 0 => {
                let result = effect(&mut state, &function);
                open[slot] = Some((name, function, Some(result)));
            }
            Some((name, function, result)) if fate % 8 == 1 => {
                let kind = if result.is_none() && what % 2 == 0 { Kind::Fail } else { Kind::Info };
                recorder.event(name, kind, function, None);
                if kind == Kind::Info {
                    names[slot] = fresh;
                    fresh += 1;
                }
            }
            Some((name, function, result)) => {
                let mut result = result.unwrap_or_else(|| effect(&mut state, &function));
                if fate % 16 == 2 && result.swapped != Some(true) && !matches!(function, Function::Put { .. })
                {
                    result.returned = (other > 0).then(|| other.to_string());
                    if unique {
                        result.returned = Some(format!("u{}", count.saturating_sub(usize::from(second % 8))));
                    }
                }
                if fate % 16 == 3 {
                    // a store that lies about the order
                    result.version = u64::from(first ^ second) % 8;
                }
                recorder.event(name, Kind::Ok, function, Some(result));
            }
        }
    }
    recorder.records
}

fn asked(function: &Function) -> RegisterOp<String> {
    match function.clone() {
        Function::Get { .. } => RegisterOp::Get,
        Function::Put { value, .. } => RegisterOp::Put(value),
        Function::Cas { expected, new, .. } => RegisterOp::Cas { expected, new },
        Function::Delete { .. } => RegisterOp::Delete,
    }
}

fn answered(function: &Function, result: &OpResult) -> RegisterRet<String> {
    match (function, result.swapped) {
        (Function::Get { .. }, _) => RegisterRet::Value(result.returned.clone()),
        (Function::Cas { .. }, Some(false)) => RegisterRet::Differs(result.returned.clone()),
        _ => RegisterRet::Done,
    }
}

fn by_stateright(history: &History) -> bool {
    let mut tester = LinearizabilityTester::new(Register(None));
    let mut events: Vec<(usize, &Operation, bool)> = Vec::new();
    for operation in &history.operations {
        events.push((operation.invoked.position, operation, true));
        events.extend(operation.returned.map(|moment| (moment.position, operation, false)));
    }
    events.sort_by_key(|event| event.0);
    for (_, operation, invokes) in events {
        if invokes {
            tester.on_invoke(operation.process, asked(&operation.function)).unwrap();
        } else {
            let result = operation.result.as_ref().unwrap();
            tester.on_return(operation.process, answered(&operation.function, result)).unwrap();
        }
    }
    tester.is_consistent()
}

/// Tries every order.
fn by_force(left: &[&Operation], state: &Register<String>) -> bool {
    let end = left.iter().filter_map(|operation| operation.returned).map(|moment| moment.position).min();
    let Some(end) = end else { return true };
    left.iter().enumerate().filter(|(_, operation)| operation.invoked.position < end).any(
        |(index, operation)| {
            let mut next = state.clone();
            let returned = next.invoke(&asked(&operation.function));
            let fits = operation
                .result
                .as_ref()
                .is_none_or(|result| answered(&operation.function, result) == returned);
            let mut rest = left.to_vec();
            rest.remove(index);
            fits && by_force(&rest, &next)
        },
    )
}

fn agree(records: Vec<Record>, force: bool) -> bool {
    let history = History::from_records(records).unwrap();
    let verdict = check(&history, Budget { threads: Some(1), ..Budget::default() }).verdict();
    let valid = match &verdict {
        Verdict::Valid => true,
        Verdict::Violation(violation) => {
            let core: Vec<&Operation> =
                violation.operations.iter().map(|&index| &history.operations[index]).collect();
            let cut = |operation: &&Operation| {
                operation.returned.is_none_or(|moment| moment.position <= violation.line)
            };
            let core_alone: Vec<Operation> = core
                .iter()
                .map(|operation| if cut(operation) { (*operation).clone() } else { unanswered(operation) })
                .collect();
            if force {
                assert!(
                    !by_force(&core_alone.iter().collect::<Vec<_>>(), &Register(None)),
                    "core fails: {violation:?}"
                );
            }
            false
        }
        Verdict::Unknown(undecided) => panic!("unbounded, yet undecided: {undecided:?}"),
    };
    assert_eq!(valid, by_stateright(&history), "stateright disagrees");
    if force {
        let all: Vec<&Operation> = history.operations.iter().collect();
        assert_eq!(valid, by_force(&all, &Register(None)), "brute force disagrees");
    }
    valid
}

fn unanswered(operation: &Operation) -> Operation {
    Operation { returned: None, result: None, ..operation.clone() }
}

fn cases() -> u32 {
    std::env::var("CHECKER_CASES").ok().and_then(|text| text.parse().ok()).unwrap_or(3000)
}

fn raw(length: usize) -> impl Strategy<Value = Vec<Raw>> {
    proptest::collection::vec(any::<Raw>(), 0..length)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(), failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn few_values(raw in raw(24), processes in 1..5_u8) {
        agree(history(&raw, processes, 3, false, true), true);
    }

    #[test]
    fn two_values_many_processes(raw in raw(22), processes in 3..7_u8) {
        agree(history(&raw, processes, 2, false, true), true);
    }

    #[test]
    fn unique_values(raw in raw(26), processes in 1..6_u8, deletes: bool) {
        agree(history(&raw, processes, 200, true, deletes), true);
    }
}

#[test]
fn the_random_histories_are_of_both_kinds() {
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let (mut counts, mut methods) = ([0_u32; 2], [0_u32; 3]);
    for unique in [false, true] {
        for _ in 0..400 {
            let raw = raw(24).new_tree(&mut runner).unwrap().current();
            let records = history(&raw, 4, 3, unique, true);
            counts[usize::from(agree(records.clone(), false))] += 1;
            for key in check(&History::from_records(records).unwrap(), Budget::default()).keys {
                methods[key.method as usize] += 1;
            }
        }
    }
    assert!(counts.iter().all(|&count| count > 80), "violations and valid histories: {counts:?}");
    assert!(methods.iter().all(|&count| count > 40), "unique values, witnesses and searches: {methods:?}");
}
