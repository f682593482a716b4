//! A budget of transitions is kept to exactly, by every search, one of memory nearly so, and what is left undecided says so.

mod support;

use std::{fmt::Write as _, path::Path, process::Command};

use checker::budget::{Budget, Spent};
use checker::general::{Recorded, Searches, Verdict as Found, check_by};
use checker::history::History;
use checker::linearizability::{Report, Verdict, check};
use checker::model::{Access, Keyed, MultiRegister, Register, RegisterOp};
use support::Random;
use support::runs::{Shape, recorded};
use support::small::history;

/// As many transitions as it takes are enough, and one less is not.
fn is_exact(needed: u64, mut decides: impl FnMut(u64) -> (u64, bool)) {
    assert_eq!(decides(needed), (needed, true));
    for fewer in [0, 1, needed / 2, needed - 1].into_iter().filter(|&fewer| fewer < needed) {
        assert_eq!(decides(fewer), (fewer, false), "of {needed}");
    }
}

#[test]
fn the_search_of_registers_keeps_to_its_steps() {
    let shape = Shape { operations: 400, keys: 1, clients: 8, unknown: 20, values: 3, deletes: true };
    for seed in 0..5 {
        let history = History::from_records(recorded(&shape, seed)).expect("well-formed");
        let judged = |steps| check(&history, Budget { steps, threads: Some(1), ..Budget::default() });
        let needed = judged(None).keys[0].steps;
        assert!(needed > 50, "{needed}");
        is_exact(needed, |steps| {
            let Report { keys, .. } = judged(Some(steps));
            if let Verdict::Unknown(why) = &keys[0].verdict {
                assert_eq!(why.reason, "step limit");
                assert!(why.placed < why.completed, "{why:?}");
            }
            (keys[0].steps, keys[0].verdict == Verdict::Valid)
        });
    }
}

#[test]
fn the_general_search_keeps_to_its_steps() {
    let mut draws = Random::new(5);
    let (mut seen, whole) = (0, Keyed::of(Register(Some(0))));
    while seen < 40 {
        // two registers: the parts of one object share the budget
        let history = history(&mut draws, &whole, &|random| {
            let value = random.below(3);
            let op = match random.below(4) {
                0 | 1 => RegisterOp::Get,
                2 => RegisterOp::Put(value),
                _ => RegisterOp::Cas { expected: Some(random.below(3)), new: value },
            };
            (random.below(2), op)
        });
        for searches in [Searches::InTurns, Searches::DepthFirst, Searches::BreadthFirst] {
            let judged = |steps| {
                // a violation is not made small: that has a budget of its own
                let explain = Some(std::time::Duration::ZERO);
                check_by(&history, &whole, searches, Budget { steps, explain, ..Budget::default() })
            };
            let finding = judged(None);
            if finding.steps == 0 || !matches!(finding.verdict, Found::Valid(_)) {
                continue;
            }
            seen += 1;
            is_exact(finding.steps, |steps| {
                let finding = judged(Some(steps));
                if let Found::Unknown(why) = &finding.verdict {
                    assert_eq!(why.reason, Spent::Steps);
                }
                (finding.steps, matches!(finding.verdict, Found::Valid(_)))
            });
        }
    }
}

type Accesses = Vec<Access<u32, u32>>;

/// Two writes at once of each of many registers, which nobody reads, then reads of another one: no read asks for a transition from
/// any of the thousands of states that there can be, and each is linearised in all of them.
fn reads_in_many_states() -> Vec<Recorded<Accesses, Vec<Option<u32>>>> {
    let mut history: Vec<_> = (0..12)
        .flat_map(|register| {
            [1, 2].map(|value| {
                let begin = 10 * register as usize;
                Recorded::completed(vec![Access::Write(register, value)], Vec::new(), begin, begin + 5)
            })
        })
        .collect();
    history.extend((0..2000).map(|number| {
        let begin = 1000 + 10 * number;
        Recorded::completed(vec![Access::Read(99)], vec![None], begin, begin + 5)
    }));
    history
}

#[test]
fn breadth_first_looks_at_its_budget_also_where_nothing_is_tried() {
    let history = reads_in_many_states();
    let judged = |memory: usize| {
        let budget = Budget { memory: Some(memory), threads: Some(1), ..Budget::default() };
        check_by(&history, &MultiRegister::default(), Searches::BreadthFirst, budget).verdict
    };
    let Found::Unknown(why) = judged(32 << 20) else { panic!("2000 times 4096 steps are 128 MiB") };
    assert_eq!(why.reason, Spent::Memory);
    let whole = |searches| check_by(&history, &MultiRegister::default(), searches, Budget::default()).verdict;
    assert!(matches!(whole(Searches::BreadthFirst), Found::Valid(_)));
    assert!(matches!(whole(Searches::InTurns), Found::Valid(_)));
}

/// A history of a queue that takes any search as far as it is let: much is unknown, and the rest overlaps.
fn endless(seed: u64) -> String {
    let mut draws = Random::new(seed);
    let mut events: Vec<(u64, String)> = Vec::new();
    for number in 0..3000 {
        let (begin, value) = (2 * number, draws.below(40));
        let function = if number % 3 == 0 { "dequeue" } else { "enqueue" };
        let asked = if number % 3 == 0 { "nil".to_owned() } else { value.to_string() };
        let event = |kind: &str, value: &str| {
            format!("{{:process {number}, :type :{kind}, :f :{function}, :value {value}}}")
        };
        events.push((begin, event("invoke", &asked)));
        if number >= 30 && draws.below(5) > 0 {
            events.push((begin + 60 + draws.below(60), event("ok", &value.to_string())));
        }
    }
    events.sort_by_key(|(moment, _)| *moment);
    events.iter().fold(String::new(), |mut text, (_, event)| {
        let _ = writeln!(text, "{event}");
        text
    })
}

/// What the program says of a history, and the most memory that it held, in KiB.
fn judged_within(file: &Path, memory: &str) -> (String, u64) {
    let program = Command::new(env!("CARGO_BIN_EXE_checker"))
        .args(["check", "--cost", "--threads", "1", "--explain-limit", "0s", "--time-limit", "5m"])
        .args(["--model", "queue", "--memory-limit", memory])
        .arg(file)
        .output()
        .expect("it runs");
    let told = String::from_utf8(program.stderr).expect("text");
    let cost = told.lines().find_map(|line| line.strip_prefix("cost ")).expect("it tells what it cost");
    let cost: serde_json::Value = serde_json::from_str(cost).expect("JSON");
    let said = String::from_utf8(program.stdout).expect("text");
    (said, cost["peak_kib"].as_u64().expect("the system tells"))
}

#[test]
fn the_general_search_keeps_to_its_memory() {
    let folder = tempfile::tempdir().expect("a folder");
    for (seed, mebibytes) in [(2, 24), (3, 31), (4, 48)] {
        let file = folder.path().join(format!("{seed}.edn"));
        std::fs::write(&file, endless(seed)).expect("written");
        let (_, before) = judged_within(&file, "1");
        let (said, peak) = judged_within(&file, &format!("{mebibytes}MiB"));
        assert!(said.contains("memory limit"), "{said}");
        let (held, limit) = (peak - before, mebibytes << 10);
        assert!(held * 20 <= limit * 21, "{seed}: {held} KiB of {limit}");
        assert!(held * 2 >= limit, "{seed}: it gives up at {held} KiB of {limit}");
    }
}
