//! Says in words why a history has no order.

use std::fmt::Write as _;

use crate::explain::seconds;
use crate::formats::{Answer, Call, Edn};
use crate::history::Key;

/// Most operations that the words name.
const NAMED: usize = 12;

pub(super) fn violation(calls: &[Call], key: &Key, core: &[usize], stuck: usize, total: usize) -> String {
    let rest = total - core.len();
    let mut text = format!("{}no order explains {} of {total} operations", whose(key), core.len());
    text += match rest {
        0 => ":\n",
        _ => ", even if all others happened at any time after they were asked for, or never:\n",
    };
    let hidden = core.len().saturating_sub(NAMED);
    if hidden > 0 {
        let _ = writeln!(text, "  ({hidden} earlier operations on which these build)");
    }
    for &place in &core[hidden..] {
        let _ = writeln!(text, "  {}", told(&calls[place]));
    }
    text + &reason(calls, core, stuck)
}

/// That no order explains a key, where no time was given to say which operations it takes for that.
pub(super) fn violation_in_short(calls: &[Call], key: &Key, core: &[usize], stuck: usize) -> String {
    whose(key) + &reason(calls, core, stuck)
}

/// The key, if the object has any.
fn whose(key: &Key) -> String {
    match key {
        Key::String(text) if text.is_empty() => String::new(),
        key => format!("key {key}: "),
    }
}

/// One sentence on the operation whose completion no order gets beyond.
fn reason(calls: &[Call], core: &[usize], stuck: usize) -> String {
    let mut text = String::new();
    let culprit = &calls[stuck];
    let line = culprit.lines.returned.unwrap_or_default();
    let _ = write!(text, "Up to line {line} there is an order; the answer to process {} ", culprit.process);
    let _ = write!(text, "({}) leaves none", asked_and_answered(culprit));
    let before = |place: &&usize| {
        calls[**place].returned.as_ref().is_some_and(|(returned, _)| *returned < culprit.called)
    };
    if let Some(&latest) = core.iter().filter(before).max_by_key(|&&place| calls[place].lines.returned) {
        let latest = &calls[latest];
        let _ = write!(
            text,
            ", although process {} ({}) had finished before it began",
            latest.process,
            asked_and_answered(latest)
        );
    }
    text + "."
}

fn told(call: &Call) -> String {
    let moment = |line: usize, time: Option<u64>| match time {
        Some(time) => format!("{} (line {line})", seconds(time)),
        None => format!("line {line}"),
    };
    let begin = moment(call.lines.invoked, call.times.0);
    match call.lines.returned {
        Some(line) => {
            let end = moment(line, call.times.1);
            format!("process {}: {}, from {begin} to {end}", call.process, asked_and_answered(call))
        }
        None => {
            format!("process {}: {}, from {begin}, outcome unknown", call.process, asked_and_answered(call))
        }
    }
}

fn asked_and_answered(call: &Call) -> String {
    let asked = match &call.argument {
        Edn::Nil => call.function.to_string(),
        argument => format!("{} {argument}", call.function),
    };
    match &call.returned {
        Some((_, Answer::Ok(value))) if call.argument != *value => format!("{} → {value}", call.function),
        Some((_, Answer::Refused)) => format!("{asked} did not match"),
        _ => asked,
    }
}
