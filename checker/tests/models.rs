//! Random small histories of every model: the general search, and either half of it alone, must agree with stateright's tester
//! and with trying every order, and every certificate must hold.
//!
//! `CHECKER_CASES` histories of each model, from `CHECKER_SEED`. Stateright's tester remembers nothing of what it has tried, and is
//! not asked where that would take it for ever.

mod support;

use checker::budget::Budget;
use checker::general::{Model, Recorded, Refuted, Searches, Verdict, check_by, verify};
use checker::model::{
    Access, Append, AppendOp, Counter, CounterOp, Keyed, MultiRegister, Mutex, MutexOp, Queue, QueueOp,
    Register, RegisterOp, Set, SetOp, Text,
};
use stateright::semantics::{ConsistencyTester, LinearizabilityTester, SequentialSpec};
use support::Random;
use support::small::{History, MANY, Orders, history, orders};

fn by_stateright<M>(history: &History<M>, model: &M) -> bool
where
    M: Model<Op: std::fmt::Debug, Ret: std::fmt::Debug>,
{
    let mut tester = LinearizabilityTester::new(model.clone());
    // at one moment what is invoked comes before what returns
    let mut events: Vec<(usize, bool, usize)> = Vec::new();
    for (place, operation) in history.iter().enumerate() {
        events.push((operation.called, false, place));
        events.extend(operation.returned.as_ref().map(|(ret, _)| (*ret, true, place)));
    }
    events.sort_unstable();
    for (_, returns, place) in events {
        let operation = &history[place];
        let done = match &operation.returned {
            Some((_, answer)) if returns => tester.on_return(place, answer.clone()),
            _ => tester.on_invoke(place, operation.op.clone()),
        };
        done.expect("well-formed");
    }
    tester.is_consistent()
}

/// Judges random histories of one model; tells how many were valid and how many not.
fn agree<M>(name: &str, model: &M, ask: impl Fn(&mut Random) -> M::Op)
where
    M: Model<Op: std::fmt::Debug, Ret: std::fmt::Debug>,
{
    let number =
        |name: &str, default| std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default);
    let (cases, seed) = (number("CHECKER_CASES", 120), number("CHECKER_SEED", 1));
    let mut random = Random::new(seed);
    let (mut counts, mut unverified, mut unasked) = ([0_u64; 2], 0, 0);
    for case in 0..cases {
        let history = history(&mut random, model, &ask);
        let Orders { any: valid, tried } = orders(&history, model);
        if tried <= MANY {
            assert_eq!(valid, by_stateright(&history, model), "stateright, {name} {case}: {history:?}");
        } else {
            unasked += 1;
        }
        for searches in [Searches::InTurns, Searches::DepthFirst, Searches::BreadthFirst] {
            let verdict = check_by(&history, model, searches, Budget::default()).verdict;
            let told = || format!("{name} {case}, {searches:?}: {verdict:?} of {history:?}");
            let found = match &verdict {
                Verdict::Valid(_) => true,
                Verdict::Violation(_) => false,
                Verdict::Unknown(why) => panic!("undecided: {why}: {}", told()),
            };
            assert_eq!(found, valid, "trying every order: {}", told());
            // a core can have more orders than can be tried; it must not happen often
            match verify(&history, model, &verdict) {
                Err(Refuted::TooMany) => unverified += 1,
                verified => verified.unwrap_or_else(|refuted| panic!("{refuted}: {}", told())),
            }
        }
        counts[usize::from(valid)] += 1;
    }
    assert!(unverified <= 3 * cases / 100, "{name}: {unverified} cores were not verified");
    assert!(unasked <= 6 * cases / 100, "{name}: stateright was not asked about {unasked} histories");
    println!("{name}: {} valid, {} violations; {unasked} not for stateright", counts[1], counts[0]);
    assert!(counts.iter().all(|&count| count > cases / 150), "{name}: violations and valid ones: {counts:?}");
}

fn register(values: u64) -> impl Fn(&mut Random) -> RegisterOp<u64> {
    move |random| match random.below(8) {
        0..3 => RegisterOp::Get,
        3..5 => RegisterOp::Put(random.below(values)),
        5 => RegisterOp::Delete,
        _ => {
            let expected = random.below(values + 1);
            RegisterOp::Cas { expected: (expected > 0).then(|| expected - 1), new: random.below(values) }
        }
    }
}

#[test]
fn registers() {
    agree("register, 2 values", &Register(None), register(2));
    agree("register, 3 values", &Register(Some(0)), register(3));
    agree("register, 30 values", &Register(None), register(30));
}

#[test]
fn registers_that_do_not_say_why_they_refuse() {
    /// A register whose failed swaps do not tell what they saw.
    #[derive(Clone, PartialEq, Eq, Hash, Debug)]
    struct Silent(Register<u64>);
    impl SequentialSpec for Silent {
        type Op = RegisterOp<u64>;
        type Ret = checker::model::RegisterRet<u64>;
        fn invoke(&mut self, op: &Self::Op) -> Self::Ret {
            use checker::model::RegisterRet;
            match self.0.invoke(op) {
                RegisterRet::Differs(_) => RegisterRet::Refused,
                answer => answer,
            }
        }
    }
    impl Model for Silent {
        fn is_read(op: &Self::Op, answer: &Self::Ret) -> bool {
            Register::is_read(op, answer)
        }
    }
    agree("silent register", &Silent(Register(Some(0))), register(3));
}

#[test]
fn many_registers() {
    let ask = |random: &mut Random| (random.below(3), register(2)(random));
    agree("keyed registers", &Keyed::of(Register(None)), ask);
    agree("keyed registers that hold 0 at first", &Keyed::of(Register(Some(0))), ask);
    let ask = |random: &mut Random| {
        let parts = 1 + random.below(2);
        let part = |random: &mut Random| match (random.below(2), random.below(3)) {
            (0, key) => Access::Read(key),
            (_, key) => Access::Write(key, random.below(4)),
        };
        (0..parts).map(|_| part(random)).collect::<Vec<Access<u64, u64>>>()
    };
    // one is not there at first: what is read of it then fits anything, so that of such registers alone few histories are wrong
    agree("multi-register", &MultiRegister([(0, 0), (1, 0)].into()), ask);
}

#[test]
fn texts_counters_and_locks() {
    let ask = |random: &mut Random| match random.below(6) {
        0..3 => AppendOp::Get,
        3 => AppendOp::Put(Text::from(["a", "b"][random.below(2) as usize])),
        _ => AppendOp::Append(Text::from(["a", "b"][random.below(2) as usize])),
    };
    agree("append", &Append::default(), ask);
    let ask = |random: &mut Random| match random.below(2) {
        0 => CounterOp::Read,
        _ => CounterOp::Add(random.below(5) as i64 - 2),
    };
    agree("counter", &Counter::default(), ask);
    agree("mutex", &Mutex(false), |random| [MutexOp::Acquire, MutexOp::Release][random.below(2) as usize]);
}

#[test]
fn sets_and_queues() {
    let ask = |random: &mut Random| match random.below(5) {
        0..2 => SetOp::Read,
        2..4 => SetOp::Add(random.below(4)),
        _ => SetOp::Remove(random.below(4)),
    };
    agree("set", &Set::default(), ask);
    let ask = |random: &mut Random| match random.below(2) {
        0 => QueueOp::Enqueue(random.below(3)),
        _ => QueueOp::Dequeue,
    };
    agree("queue", &Queue::default(), ask);
}

/// Three additions of 1, invoked in one order and returned in another, and what then runs long enough for breadth first to have
/// its turn: what orders commuting neighbours and what picks one of those that are alike must not exclude each other's orders.
#[test]
fn alike_operations_return_in_another_order_than_they_were_invoked() {
    let add = |called, returned| Recorded::completed(CounterOp::Add(1), None, called, returned);
    let mut history = vec![add(1, 6), add(2, 5), Recorded::completed(CounterOp::Read, Some(2), 3, 4)];
    history.extend((0..300).map(|place| add(10 + 2 * place, 11 + 2 * place)));
    for searches in [Searches::InTurns, Searches::DepthFirst, Searches::BreadthFirst] {
        let verdict = check_by(&history, &Counter(0), searches, Budget::default()).verdict;
        assert_eq!(verify(&history, &Counter(0), &verdict), Ok(()), "{searches:?}");
        assert!(matches!(verdict, Verdict::Valid(_)), "{searches:?}: {verdict:?}");
    }
}
