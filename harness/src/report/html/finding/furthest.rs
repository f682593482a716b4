//! The order of a few operations that gets furthest: as many as possible one after the other, each seeing what the one
//! before it has left, and none before one that had ended when it began.

use std::collections::BTreeSet;

use crate::recorded::{Operation, Outcome, Recorded, What};

/// Most operations that are tried in all orders; minimal ones are fewer.
const MOST: usize = 24;
/// Most configurations that are tried.
const TRIED: usize = 200_000;

/// Places in `operations` in that order, each with the number of the text that the key holds behind it.
pub(super) fn order(
    run: &Recorded,
    operations: &[usize],
    initial: Option<&str>,
    culprit: Option<usize>,
) -> Vec<(usize, u32)> {
    if operations.len() > MOST {
        return Vec::new();
    }
    let operations: Vec<&Operation> = operations.iter().map(|&index| &run.operations[index]).collect();
    let initial = initial.map_or(0, |text| run.texts.find(text));
    let mut search =
        Search { operations, culprit, seen: BTreeSet::new(), path: Vec::new(), best: Vec::new() };
    search.go(0, initial);
    search.best
}

struct Search<'a> {
    operations: Vec<&'a Operation>,
    culprit: Option<usize>,
    seen: BTreeSet<(u32, u32)>,
    path: Vec<(usize, u32)>,
    best: Vec<(usize, u32)>,
}

impl Search<'_> {
    /// Goes on behind those in `placed`, which have left `state`.
    fn go(&mut self, placed: u32, state: u32) {
        if self.seen.len() >= TRIED || !self.seen.insert((placed, state)) {
            return;
        }
        if self.worth(&self.path) > self.worth(&self.best) {
            self.best = self.path.clone();
        }
        for place in 0..self.operations.len() {
            if placed & 1 << place != 0 || !self.may_be_next(placed, place) {
                continue;
            }
            if let Some(after) = carried_out(self.operations[place], state) {
                self.path.push((place, after));
                self.go(placed | 1 << place, after);
                self.path.pop();
            }
        }
    }

    /// Nothing that remains had ended when it began.
    fn may_be_next(&self, placed: u32, place: usize) -> bool {
        let begins = self.operations[place].line;
        let remaining = self.operations.iter().enumerate().filter(|(other, _)| placed & 1 << other == 0);
        !remaining.filter(|(_, other)| other.outcome == Outcome::Ok).any(|(_, other)| other.end_line < begins)
    }

    /// Answered operations first; among equals the order that leaves the one unplaced of which the checker says so.
    fn worth(&self, path: &[(usize, u32)]) -> (usize, bool, usize) {
        let answered = path.iter().filter(|(place, _)| self.operations[*place].outcome == Outcome::Ok);
        let spares = !path.iter().any(|(place, _)| Some(*place) == self.culprit);
        (answered.count(), spares, usize::MAX - path.len())
    }
}

/// What the key holds after the operation; none: it cannot have happened then as it was answered.
fn carried_out(operation: &Operation, state: u32) -> Option<u32> {
    let answered = operation.outcome == Outcome::Ok;
    match operation.what {
        What::Get => (answered && operation.returned == state).then_some(state),
        What::Put => Some(operation.value),
        What::Delete => Some(0),
        What::Cas => match operation.swapped {
            Some(false) => (operation.returned == state && operation.expected != state).then_some(state),
            // of an unknown one only the swap matters
            _ => (operation.expected == state).then_some(operation.value),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::html::tests::recorded;

    /// process, lines of invocation and end, and the function with its answer
    fn line(at: usize, process: u64, kind: &str, rest: &str) -> String {
        let answer =
            if kind == "ok" { r#","version":1,"leader":1,"ballot":"0.1.0@n1","fast":false"# } else { "" };
        let who = format!(r#""process":{process},"client":{process},"node":1,"type":"{kind}""#);
        format!(r#"{{"record":"op","time":{},{who},"key":1,{rest}{answer}}}"#, at * 1000)
    }

    #[test]
    fn a_stale_read_is_what_cannot_be_placed() {
        let put = |value: &str| format!(r#""f":"put","value":"{value}""#);
        let get = r#""f":"get""#;
        let null = |what: String| format!(r#"{what},"returned":null"#);
        let run = recorded(&[
            line(1, 1, "invoke", &put("a")),
            line(2, 1, "ok", &null(put("a"))),
            line(3, 2, "invoke", &put("b")),
            line(4, 2, "ok", &null(put("b"))),
            line(5, 3, "invoke", get),
            line(6, 3, "ok", &format!(r#"{get},"returned":"a""#)),
        ]);
        let placed = order(&run, &[0, 1, 2], None, Some(2));
        let placed: Vec<_> = placed.into_iter().map(|(place, state)| (place, run.texts.get(state))).collect();
        assert_eq!(placed, [(0, Some("a")), (1, Some("b"))]);
        // were it not for the second write, it could be placed
        assert_eq!(order(&run, &[0, 2], None, Some(1)).len(), 2);
        // a key that held something at first
        assert_eq!(order(&run, &[2], Some("a"), Some(0)).len(), 1);
        assert_eq!(order(&run, &[2], Some("z"), Some(0)).len(), 0);
    }
}
