//! Says in words why a key's history is not linearizable.
//!
//! The history is cut behind the completion that no order gets beyond, then operations are dropped as long as what
//! remains still fails (delta debugging, Zeller & Hildebrandt 2002).
//!
//! An operation may be dropped when no operation that stays needs the value that it leaves. Then a failure of what stays
//! proves a failure of the whole: take an order of the whole and delete the dropped operations from it; whoever stays and
//! needs a value finds it as before, since the operation that left it stays, and only changes were taken away behind it.

use std::fmt::Write as _;
use std::time::Duration;

use rustc_hash::{FxHashMap, FxHashSet};

use crate::budget::{Limits, Stopwatch};
use crate::general::{self, Recorded, Searches};
use crate::history::{Function, Key, Moment, Operation};
use crate::linearizability::problem::{Action, Position, Problem, Step, Value};
use crate::linearizability::search::{Answer, search};
use crate::linearizability::{Record, Violation, has_order, unique};
use crate::model::{Register, RegisterOp, RegisterRet};

/// Most operations that the words name.
const NAMED: usize = 12;
/// Most transitions and bytes of one search while dropping.
const STEPS: u64 = 200_000;
const BYTES: usize = 64 << 20;

/// Operations of one key that contradict each other.
pub(crate) struct Core {
    /// By invocation; what had not returned when it shows is unknown.
    pub(crate) steps: Vec<Step>,
    /// The completion that no order gets beyond.
    pub(crate) line: Position,
    /// Which of them cannot be placed, by its place in the list, if that was found.
    pub(crate) stuck: Option<usize>,
    /// A longest order up to there, by their places in the list.
    pub(crate) placed: Vec<usize>,
}

/// Explains why `problem`, the part of `history` about `key`, has no order beyond the completion on line `position`.
pub(crate) fn violation(
    record: &impl Record,
    key: &Key,
    problem: &Problem,
    position: Position,
    limits: Limits<'_>,
) -> Violation {
    let Core { steps, line, stuck, placed } = core(problem, position, limits);
    let indices: Vec<u32> = steps.iter().map(|step| step.operation).collect();
    let told = Told { record, key, problem, operations: record.recorded(&indices) };
    let text = words(&told, &steps, line);
    let operations: Vec<usize> = indices.iter().map(|&index| index as usize).collect();
    let (stuck, placed) = (stuck.map(|at| operations[at]), placed.iter().map(|&at| operations[at]).collect());
    Violation { key: key.clone(), operations, stuck, placed, line: line as usize, text }
}

/// A small part of a problem that still has no order.
pub(crate) fn core(problem: &Problem, position: Position, limits: Limits<'_>) -> Core {
    let own = Stopwatch::start(Some(limits.watch.left(limits.explain)));
    let own = Limits { watch: &own, memory: BYTES, steps: STEPS, ..limits };
    let (core, line) = shrink(problem, position, own);
    let mut steps: Vec<Step> = core.completed.iter().chain(&core.unknown).copied().collect();
    steps.sort_unstable_by_key(|step| step.call);
    let (stuck, placed) = furthest(&steps, problem.initial, own);
    Core { steps, line, stuck, placed }
}

/// Which of these operations cannot be placed, and a longest order up to there: both by their places in the list. The general
/// search finds it, and so agrees that there is no order; nothing where it takes too long.
fn furthest(steps: &[Step], initial: Value, limits: Limits<'_>) -> (Option<usize>, Vec<usize>) {
    let recorded = |step: &Step| {
        let (op, answer) = match step.action {
            Action::Read(value) => (RegisterOp::Get, RegisterRet::Value(Some(value))),
            Action::Write(value) => (RegisterOp::Put(value), RegisterRet::Done),
            Action::Swap { expected, new } => {
                (RegisterOp::Cas { expected: Some(expected), new }, RegisterRet::Done)
            }
        };
        let returned = (step.ret < Position::MAX).then_some((step.ret as usize, answer));
        Recorded { called: step.call as usize, returned, op }
    };
    let history: Vec<_> = steps.iter().map(recorded).collect();
    let limits = Limits { explain: Duration::ZERO, ..limits };
    match general::within(&history, &Register(Some(initial)), Searches::InTurns, limits).verdict {
        general::Verdict::Violation(violation) => (Some(violation.stuck), violation.placed),
        general::Verdict::Valid(order) => {
            panic!("there is an order of what has none: {order:?} of {steps:?}")
        }
        general::Verdict::Unknown(_) => (None, Vec::new()),
    }
}

/// A part of the problem that still fails and from which nothing more could be dropped, and the completion that no order
/// of it gets beyond.
fn shrink(problem: &Problem, position: Position, limits: Limits<'_>) -> (Problem, Position) {
    let fails = |candidate: &Problem| has_order(candidate, limits) == Some(false);
    let prefix = problem.prefix(position);
    let mut core = if fails(&prefix) { prefix } else { problem.clone() };
    // where values are unique, two chains, or one, are enough
    if let Some(few) = unique::contradiction(&core) {
        let candidate = core.restricted(|step| few.contains(&step.operation));
        if is_closed(&core, &candidate) && fails(&candidate) {
            core = candidate;
        }
    }
    let mut chunk = (core.completed.len() + core.unknown.len()).div_ceil(2);
    while chunk > 0 {
        let mut begin = 0;
        let mut dropped = false;
        while begin < core.completed.len() + core.unknown.len() && !limits.watch.expired() {
            match without(&core, begin, chunk).filter(fails) {
                Some(smaller) => {
                    core = smaller;
                    dropped = true;
                }
                None => begin += chunk,
            }
        }
        if chunk > 1 || !dropped {
            chunk /= 2;
        }
    }
    let line = match search(&core, limits).answer {
        Answer::Stuck { position } => position,
        _ => position,
    };
    (core, line)
}

/// The problem without those of `count` operations from the `begin`-th on that may be dropped; `None`: none may.
fn without(problem: &Problem, begin: usize, count: usize) -> Option<Problem> {
    let mut steps: Vec<Step> = problem.completed.iter().chain(&problem.unknown).copied().collect();
    steps.sort_unstable_by_key(|step| step.call);
    let end = (begin + count).min(steps.len());
    let mut dropped = steps[begin..end].to_vec();
    let mut needed: FxHashSet<_> =
        steps[..begin].iter().chain(&steps[end..]).filter_map(|step| step.action.needs()).collect();
    loop {
        let before = dropped.len();
        dropped.retain(|step| {
            let stays = step.action.leaves().is_some_and(|value| needed.contains(&value));
            if stays {
                needed.extend(step.action.needs());
            }
            !stays
        });
        if dropped.len() == before {
            break;
        }
    }
    let dropped: FxHashSet<u32> = dropped.iter().map(|step| step.operation).collect();
    (!dropped.is_empty()).then(|| problem.restricted(|step| !dropped.contains(&step.operation)))
}

/// Whether every value that the part needs is left in it by whatever leaves it in the whole.
fn is_closed(whole: &Problem, part: &Problem) -> bool {
    let steps =
        |problem: &'_ Problem| problem.completed.iter().chain(&problem.unknown).copied().collect::<Vec<_>>();
    let kept: FxHashSet<u32> = steps(part).iter().map(|step| step.operation).collect();
    let needed: FxHashSet<_> = steps(part).iter().filter_map(|step| step.action.needs()).collect();
    steps(whole).iter().all(|step| {
        kept.contains(&step.operation) || step.action.leaves().is_none_or(|value| !needed.contains(&value))
    })
}

/// What the words are about.
struct Told<'a, R> {
    record: &'a R,
    key: &'a Key,
    /// The whole of the key.
    problem: &'a Problem,
    /// Those of the core.
    operations: FxHashMap<u32, Operation>,
}

fn words(told: &Told<'_, impl Record>, steps: &[Step], line: Position) -> String {
    let total = told.problem.completed.len() + told.problem.unknown.len();
    let mut text =
        format!("key {}: no order explains {} of its {total} operations:\n", told.key, steps.len());
    let last_named = steps.len().saturating_sub(NAMED);
    if last_named > 0 {
        let _ = writeln!(text, "  ({last_named} earlier operations on which these build)");
    }
    for step in &steps[last_named..] {
        if let Some(operation) = told.operations.get(&step.operation) {
            let _ = writeln!(text, "  {}", in_words(operation));
        }
    }
    text + &reason(told, steps, line)
}

/// One sentence on the operation whose completion no order gets beyond.
fn reason(told: &Told<'_, impl Record>, steps: &[Step], line: Position) -> String {
    let culprit = steps.iter().find(|step| step.ret == line);
    let found = culprit.and_then(|culprit| Some((culprit, told.operations.get(&culprit.operation)?)));
    let Some((culprit, operation)) = found else {
        return format!("No order gets beyond line {line}.");
    };
    let mut text =
        format!("Up to line {} there is an order; the answer to {} leaves none", line - 1, brief(operation));
    let Some(needed) = culprit.action.needs() else { return text + "." };
    let writers: Vec<&Step> = steps.iter().filter(|step| step.action.leaves() == Some(needed)).collect();
    let value = match (&operation.function, operation.result.as_ref()) {
        (Function::Cas { expected, .. }, Some(result)) if result.swapped == Some(true) => expected.as_ref(),
        (_, result) => result.and_then(|result| result.returned.as_ref()),
    };
    if writers.is_empty() && told.record.initial(told.key).as_ref() != value {
        text += &unwritten(told, needed, value, line);
    }
    // The value was overwritten by an operation that began after its writers had finished and ended before the culprit began.
    let written = writers.iter().map(|step| step.ret).max().unwrap_or(0);
    let between = |step: &&Step| {
        let leaves = step.action.leaves().is_some_and(|value| value != needed);
        leaves && step.call > written && step.ret < culprit.call
    };
    if let Some(hiding) = steps.iter().find(between).and_then(|hiding| told.operations.get(&hiding.operation))
    {
        let _ = write!(text, ": although {} had finished before it began", brief(hiding));
    }
    text + "."
}

/// That nobody had written a value before that line; and who wrote it later, or asked to and was refused.
fn unwritten(told: &Told<'_, impl Record>, needed: Value, value: Option<&String>, line: Position) -> String {
    let writes = |step: &&Step| step.action.leaves() == Some(needed) && step.call > line;
    let Problem { completed, unknown, .. } = told.problem;
    let later = completed.iter().chain(unknown).filter(writes).min_by_key(|step| step.call);
    if let Some(later) =
        later.and_then(|later| told.record.recorded(&[later.operation]).remove(&later.operation))
    {
        let since = moment(later.invoked);
        return format!(": {} was asked for later only, by {}, from {since}", shown(value), brief(&later));
    }
    let nobody = match value {
        Some(_) => format!(": nobody wrote {}", shown(value)),
        None => ": nobody deleted it".to_owned(),
    };
    match told.record.refused(told.key, value) {
        Some(refused) => {
            let since = moment(refused.invoked);
            format!("{nobody}; {} asked to, from {since}, and was told that it had failed", brief(&refused))
        }
        None => nobody,
    }
}

/// An operation in words, with its answer and its times.
pub(crate) fn in_words(operation: &Operation) -> String {
    let Operation { process, node, .. } = operation;
    format!("process {process} at node {node}: {}, {}", asked_and_answered(operation), interval(operation))
}

fn brief(operation: &Operation) -> String {
    format!("process {} ({})", operation.process, asked_and_answered(operation))
}

fn asked_and_answered(operation: &Operation) -> String {
    let result = operation.result.as_ref();
    match (&operation.function, result) {
        (Function::Get { .. }, None) => "get".to_owned(),
        (Function::Get { .. }, Some(result)) => format!("get read {}", shown(result.returned.as_ref())),
        (Function::Put { value, .. }, _) => format!("put {}", shown(Some(value))),
        (Function::Delete { .. }, _) => "delete".to_owned(),
        (Function::Cas { expected, new, .. }, result) => {
            let swap = format!("cas {} to {}", shown(expected.as_ref()), shown(Some(new)));
            match result {
                Some(result) if result.swapped == Some(true) => format!("{swap} swapped"),
                Some(result) => format!("{swap} saw {}", shown(result.returned.as_ref())),
                None => swap,
            }
        }
    }
}

fn interval(operation: &Operation) -> String {
    match operation.returned {
        Some(returned) => format!("from {} to {}", moment(operation.invoked), moment(returned)),
        None => format!("from {}, outcome unknown", moment(operation.invoked)),
    }
}

fn moment(moment: Moment) -> String {
    format!("{} (line {})", seconds(moment.time), moment.position)
}

fn shown(value: Option<&String>) -> String {
    value.map_or_else(|| "absent".to_owned(), |text| format!("{text:?}"))
}

/// Nanoseconds as seconds with six digits.
pub(crate) fn seconds(nanoseconds: u64) -> String {
    format!("{}.{:06} s", nanoseconds / 1_000_000_000, nanoseconds % 1_000_000_000 / 1000)
}
