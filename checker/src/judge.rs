//! Judges histories that others wrote, by the model that they are of.
//!
//! A history is split by keys where the model has them; each key is judged on its own (linearizability is local: Herlihy & Wing
//! 1990, theorem 1), in parallel. The result does not depend on the number of threads unless the time is up.

mod parallel;
mod registers;
mod translate;
mod words;

use stateright::semantics::SequentialSpec;

use crate::budget::{Budget, Limits, Stopwatch};
use crate::formats::{Call, Calls, Edn, Format, Malformed};
use crate::general::{self, Finding, Model, Recorded, Recording, Refuted, Searches, verify};
use crate::history::Key;
use crate::linearizability::{Certificate, KeyReport, Method, Report, Undecided, Verdict, Violation};
use crate::model::{Append, Counter, Keyed, MultiRegister, Mutex, Queue, Register, Set};
pub(crate) use parallel::in_parallel;
use translate::Translate;

/// What a history is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Object {
    /// Keys with get, put, compare-and-swap and delete.
    Kv,
    /// A register with read and write.
    Register,
    /// A register with read, write and compare-and-swap.
    CasRegister,
    /// Registers that are read and written several at a time.
    MultiRegister,
    /// Keys with get, put and append, which hold the empty text at first.
    AppendKv,
    /// A lock with acquire and release.
    Mutex,
    /// A number with add and read.
    Counter,
    /// A set with add, remove and read.
    Set,
    /// A queue with enqueue and dequeue.
    Queue,
}

/// How to judge.
#[derive(Clone, Debug, PartialEq)]
pub struct Question {
    /// What the history is of.
    pub object: Object,
    /// How it was written: a few things mean something else in some formats.
    pub format: Format,
    /// What a register holds at first, or a number; `None`: what is usual in this format.
    pub initial: Option<Edn>,
    /// Judge all keys as one object.
    pub whole: bool,
    /// Have each verdict's certificate checked by other means.
    pub verify: bool,
    /// What it may cost.
    pub budget: Budget,
}

/// Judges the operations of a history.
pub fn judge(history: &Calls, question: &Question) -> Result<Report, Malformed> {
    let calls = &history.list[..];
    let watch = Stopwatch::start(question.budget.time);
    let translate = Translate::new(calls, question)?;
    let judged = Judged { calls, question, watch: &watch };
    let parts = || split(calls, &translate);
    let keys = match question.object {
        Object::Kv if question.whole => {
            let registers = Keyed::of(Register(translate.initial()));
            judged.all(whole(calls), &registers, search, |call| {
                Ok(translate.register(call)?.map(|recorded| with_key(translate.key(call), recorded)))
            })
        }
        Object::AppendKv if question.whole => {
            let texts = Keyed::of(Append::default());
            judged.all(whole(calls), &texts, search, |call| {
                Ok(translate.append(call)?.map(|recorded| with_key(translate.key(call), recorded)))
            })
        }
        Object::Kv | Object::Register | Object::CasRegister => {
            let first = Register(translate.initial());
            judged.all(parts(), &first, registers::by_unique_values, |call| translate.register(call))
        }
        Object::AppendKv => judged.all(parts(), &Append::default(), search, |call| translate.append(call)),
        Object::MultiRegister => {
            judged.all(whole(calls), &MultiRegister::default(), search, |call| translate.registers(call))
        }
        Object::Mutex => judged.all(parts(), &Mutex::default(), search, |call| translate.mutex(call)),
        Object::Counter => {
            judged.all(parts(), &Counter(translate.number()?), search, |call| translate.counter(call))
        }
        Object::Set => judged.all(parts(), &Set::default(), search, |call| translate.set(call)),
        Object::Queue => judged.all(parts(), &Queue::default(), search, |call| translate.queue(call)),
    }?;
    let elapsed = watch.elapsed().as_nanos() as u64;
    Ok(Report { keys, operations: calls.len(), failed: history.failed, elapsed })
}

/// What a call means to a model; `None`: it constrains nothing.
type Meaning<M> = Option<Recorded<<M as SequentialSpec>::Op, <M as SequentialSpec>::Ret>>;

/// For models of which nothing is known that would save the search.
fn search<M: Model>(_: &Recording<M>, _: &M, _: Limits<'_>) -> Option<general::Verdict> {
    None
}

/// An operation on a key, of the object that all keys are together.
fn with_key<O, R>(key: Key, recorded: Recorded<O, R>) -> Recorded<(Key, O), R> {
    let Recorded { called, returned, op } = recorded;
    Recorded { called, returned, op: (key, op) }
}

/// The places of a key's calls.
type Part = (Key, Vec<usize>);

fn whole(calls: &[Call]) -> Vec<Part> {
    vec![(Key::String(String::new()), (0..calls.len()).collect())]
}

fn split(calls: &[Call], translate: &Translate<'_>) -> Vec<Part> {
    if !calls.is_empty() && translate.knows_no_keys(calls) {
        return whole(calls);
    }
    let mut parts = std::collections::BTreeMap::<Key, Vec<usize>>::new();
    for (place, call) in calls.iter().enumerate() {
        parts.entry(translate.key(call)).or_default().push(place);
    }
    parts.into_iter().collect()
}

struct Judged<'a> {
    calls: &'a [Call],
    question: &'a Question,
    watch: &'a Stopwatch,
}

impl Judged<'_> {
    /// Judges each part as an object that begins as `model`: without a search where `quick` has a verdict.
    fn all<M>(
        &self,
        parts: Vec<Part>,
        model: &M,
        quick: impl Fn(&Recording<M>, &M, Limits<'_>) -> Option<general::Verdict> + Sync,
        meaning: impl Fn(&Call) -> Result<Meaning<M>, Malformed>,
    ) -> Result<Vec<KeyReport>, Malformed>
    where
        M: Model<Op: Send + Sync, Ret: Send + Sync> + Send + Sync,
    {
        let mut histories = Vec::new();
        for (key, members) in parts {
            let mut places = Vec::with_capacity(members.len());
            let mut history = Vec::with_capacity(members.len());
            for place in members {
                if let Some(recorded) = meaning(&self.calls[place])? {
                    places.push(place);
                    history.push(recorded);
                }
            }
            histories.push((key, places, history));
        }
        let budget = self.question.budget;
        Ok(in_parallel(
            &histories,
            budget.threads,
            |(_, places, _)| places.len(),
            |(key, places, history), threads| {
                let limits = Limits::share(budget, threads, self.watch);
                let (method, finding) = match quick(history, model, limits) {
                    Some(verdict) => {
                        let finding = Finding { verdict, steps: 0, configurations: 0, bytes: 0 };
                        (Method::UniqueValues, finding)
                    }
                    None => (Method::Search, general::within(history, model, Searches::InTurns, limits)),
                };
                let certificate = if self.question.verify {
                    certificate(history, model, &finding.verdict)
                } else {
                    Certificate::Unchecked
                };
                self.report((key, places, history), method, finding, certificate)
            },
        ))
    }

    fn report<O, R>(
        &self,
        (key, places, history): (&Key, &[usize], &[Recorded<O, R>]),
        method: Method,
        finding: Finding,
        certificate: Certificate,
    ) -> KeyReport {
        let completed = history.iter().filter(|operation| operation.returned.is_some()).count();
        let verdict = match finding.verdict {
            _ if matches!(certificate, Certificate::Wrong(_)) => {
                let reason = "wrong certificate";
                Verdict::Unknown(Undecided { key: key.clone(), reason, placed: 0, completed })
            }
            general::Verdict::Valid(_) => Verdict::Valid,
            general::Verdict::Violation(violation) => {
                let outer = |inner: &[usize]| inner.iter().map(|&place| places[place]).collect::<Vec<_>>();
                let (operations, stuck) = (outer(&violation.core), places[violation.stuck]);
                let furthest = outer(&violation.placed);
                let line = self.calls[stuck].lines.returned.unwrap_or_default();
                let text = if self.question.budget.explain.is_some_and(|limit| limit.is_zero()) {
                    words::violation_in_short(self.calls, key, &operations, stuck)
                } else {
                    words::violation(self.calls, key, &operations, stuck, history.len())
                };
                let (key, stuck) = (key.clone(), Some(stuck));
                Verdict::Violation(Violation { key, operations, stuck, placed: furthest, line, text })
            }
            general::Verdict::Unknown(general::Undecided { reason, placed, completed }) => {
                Verdict::Unknown(Undecided { key: key.clone(), reason: reason.words(), placed, completed })
            }
        };
        KeyReport {
            key: key.clone(),
            method,
            completed,
            unknown: history.len() - completed,
            steps: finding.steps,
            configurations: finding.configurations,
            certificate,
            verdict,
        }
    }
}

/// Has the certificate of a verdict checked by other means.
fn certificate<M: Model>(
    history: &[Recorded<M::Op, M::Ret>],
    model: &M,
    verdict: &general::Verdict,
) -> Certificate {
    match verify(history, model, verdict) {
        Ok(()) => Certificate::Holds,
        Err(why @ Refuted::TooMany) => Certificate::Open(why.to_string()),
        Err(why) => Certificate::Wrong(why.to_string()),
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;
    use crate::model::MutexOp;

    /// Of several keys it must be told which one is meant, however short the explanation.
    #[test]
    fn a_violation_in_short_names_its_key() {
        let text = "0 :invoke :acquire nil\n0 :ok :acquire nil\n";
        let calls = crate::formats::read(text.as_bytes(), Format::JepsenText).unwrap();
        let of = |key| words::violation_in_short(&calls.list, &key, &[0], 0);
        assert!(
            of(Key::Integer(7)).starts_with("key 7: Up to line 2 there is an order"),
            "{}",
            of(Key::Integer(7))
        );
        assert!(of(Key::String(String::new())).starts_with("Up to line 2"), "an object without keys");
    }

    #[test]
    fn a_wrong_certificate_is_no_verdict() {
        let text = "0 :invoke :acquire nil\n0 :ok :acquire nil\n";
        let calls = crate::formats::read(text.as_bytes(), Format::JepsenText).unwrap();
        let (object, format, budget) = (Object::Mutex, Format::JepsenText, Budget::default());
        let question = Question { object, format, initial: None, whole: false, verify: true, budget };
        let report = judge(&calls, &question).unwrap();
        assert_eq!((&report.keys[0].certificate, report.verdict()), (&Certificate::Holds, Verdict::Valid));
        let history = [Recorded::completed(MutexOp::Acquire, true, 1, 2)];
        let watch = Stopwatch::start(None);
        let judged = Judged { calls: &calls.list, question: &question, watch: &watch };
        let of = |verdict: general::Verdict| {
            let certificate = certificate(&history, &Mutex(false), &verdict);
            let finding = Finding { verdict, steps: 0, configurations: 0, bytes: 0 };
            judged.report((&Key::Integer(1), &[0], &history), Method::Search, finding, certificate)
        };
        let general = general::Violation { core: vec![0], stuck: 0, placed: Vec::new() };
        for wrong in [general::Verdict::Valid(Vec::new()), general::Verdict::Violation(general)] {
            let found = of(wrong);
            assert!(matches!(found.certificate, Certificate::Wrong(_)), "{found:?}");
            assert!(matches!(found.verdict, Verdict::Unknown(_)), "{found:?}");
        }
    }
}
