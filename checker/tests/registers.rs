//! Registers that others recorded: where each value was written once they are decided without a search, and the search, either
//! half of it, and trying every order agree; every certificate holds.

mod support;

use checker::budget::Budget;
use checker::formats::{self, Format};
use checker::general::{Searches, Verdict as Found, check_by};
use checker::judge::{Object, Question, judge};
use checker::linearizability::{Certificate, KeyReport, Method, Verdict};
use checker::model::{Register, RegisterOp, RegisterRet};
use support::Random;
use support::small::{History, history, orders};

type Registers = History<Register<i64>>;

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// A history whose writes leave values of their own, or, with `repeats`, one that was there before; swaps expect one that may be there.
fn random(random: &mut Random, repeats: bool) -> Registers {
    let next = std::cell::Cell::new(0);
    let fresh = || {
        next.set(next.get() + 1);
        next.get()
    };
    history(random, &Register(Some(0)), &|random| {
        let new = if repeats && random.below(8) == 0 { 1 } else { fresh() };
        let near = (next.get() - random.below(3) as i64).max(0);
        match random.below(8) {
            0..3 => RegisterOp::Get,
            3..5 => RegisterOp::Put(new),
            5 if repeats && random.below(4) == 0 => RegisterOp::Delete,
            _ => RegisterOp::Cas { expected: Some(near), new },
        }
    })
}

/// As EDN for keys; swaps that did not match are left out, which only takes a constraint away. `None`: two things happen at one
/// moment, which a file cannot tell.
fn in_edn(history: &mut Registers) -> Option<String> {
    history.retain(|operation| {
        !matches!(operation.returned, Some((_, RegisterRet::Differs(_) | RegisterRet::Refused)))
    });
    let mut events: Vec<(usize, String)> = Vec::new();
    for (process, operation) in history.iter().enumerate() {
        let shown = |value: Option<i64>| value.map_or("nil".to_owned(), |value| value.to_string());
        let (function, asked) = match operation.op {
            RegisterOp::Get => ("read", "nil".to_owned()),
            RegisterOp::Put(value) => ("write", value.to_string()),
            RegisterOp::Delete => ("delete", "nil".to_owned()),
            RegisterOp::Cas { expected, new } => ("cas", format!("[{} {new}]", shown(expected))),
        };
        let event = |kind: &str, value: &str| {
            format!("{{:process {process} :type :{kind} :f :{function} :value {value}}}\n")
        };
        events.push((operation.called, event("invoke", &asked)));
        events.extend(operation.returned.as_ref().map(|(ret, answer)| match answer {
            RegisterRet::Value(value) => (*ret, event("ok", &shown(*value))),
            _ => (*ret, event("ok", &asked)),
        }));
    }
    events.sort();
    let crowded = events.windows(2).any(|pair| pair[0].0 == pair[1].0);
    (!crowded).then(|| events.into_iter().map(|(_, event)| event).collect())
}

fn judged(text: &str) -> KeyReport {
    let calls = formats::read(text.as_bytes(), Format::Edn).expect("well-formed");
    let initial = formats::parse_value("0").ok();
    let (object, format, budget) =
        (Object::Kv, Format::Edn, Budget { threads: Some(1), ..Budget::default() });
    let question = Question { object, format, initial, whole: false, verify: true, budget };
    judge(&calls, &question).expect("it is understood").keys.remove(0)
}

#[test]
fn unique_values_are_decided_as_the_search_decides_them() {
    let (cases, mut draws) = (number("CHECKER_CASES", 1500), Random::new(number("CHECKER_SEED", 1)));
    let (mut counts, mut quick) = ([0_u64; 2], [0_u64; 2]);
    for case in 0..cases {
        let repeats = case % 4 == 0;
        let mut history = random(&mut draws, repeats);
        let Some(text) = in_edn(&mut history).filter(|text| !text.is_empty()) else { continue };
        let report = judged(&text);
        let valid = orders(&history, &Register(Some(0))).any;
        let told = || format!("{case}: {report:?} of {text}");
        match &report.verdict {
            Verdict::Valid => assert!(valid, "{}", told()),
            Verdict::Violation(violation) => {
                assert!(!valid, "{}", told());
                assert!(violation.operations.len() <= 6 || report.method == Method::Search, "{}", told());
            }
            Verdict::Unknown(_) => panic!("undecided: {}", told()),
        }
        assert!(matches!(report.certificate, Certificate::Holds), "{}", told());
        for searches in [Searches::DepthFirst, Searches::BreadthFirst] {
            let found = check_by(&history, &Register(Some(0)), searches, Budget::default()).verdict;
            assert_eq!(matches!(found, Found::Valid(_)), valid, "{searches:?} {}", told());
        }
        counts[usize::from(valid)] += 1;
        quick[usize::from(repeats)] += u64::from(report.method == Method::UniqueValues);
        assert!(repeats || report.method == Method::UniqueValues, "no value was written twice: {}", told());
    }
    println!("{counts:?}, without a search {quick:?}");
    assert!(counts.iter().all(|count| count * 20 > cases), "violations and valid ones: {counts:?}");
    assert!(quick[1] < quick[0], "what repeats is searched: {quick:?}");
}

#[test]
fn a_swap_that_does_not_say_what_it_saw_is_searched() {
    let log = |events: &str| {
        let calls = formats::read(events.as_bytes(), Format::PorcupineLog).expect("well-formed");
        let (object, format, budget) = (Object::CasRegister, Format::PorcupineLog, Budget::default());
        let question = Question { object, format, initial: None, whole: false, verify: true, budget };
        judge(&calls, &question).expect("it is understood").keys.remove(0)
    };
    let write = "0\t:invoke\t:write\t1\n0\t:ok\t:write\t1\n";
    let refused = |of: &str| format!("0\t:invoke\t:cas\t{of}\n0\t:fail\t:cas\t{of}\n");
    let found = |events: String| {
        let report = log(&events);
        (report.method, report.verdict == Verdict::Valid)
    };
    assert_eq!(found(write.to_owned()), (Method::UniqueValues, true));
    assert_eq!(found(write.to_owned() + &refused("[2 3]")), (Method::Search, true));
    assert_eq!(found(write.to_owned() + &refused("[1 3]")), (Method::Search, false));
}
