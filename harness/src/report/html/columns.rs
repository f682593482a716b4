//! The operations that are drawn one by one, column by column: a tenth of what the same would be as JSON objects.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use super::pack::Column;
use crate::recorded::{Operation, Outcome, Recorded, What};

/// Most bytes of all texts together, as long as each may have a few.
const TEXTS: usize = 600_000;
const FEW: usize = 12;

/// The columns. `assets/data.js` reads them in the same order and with the same meaning.
#[derive(Debug, Serialize)]
pub(super) struct Columns {
    /// Keys, values, ballots, errors: 0 is none.
    texts: Vec<String>,
    /// All clients, in the order of their numbers.
    clients: Vec<u64>,
    /// Microseconds since the run began, as differences.
    invoked: Column,
    /// Microseconds and 1; 0: it never ended.
    took: Column,
    /// Lines of the history: of the invocation as differences, of the end behind it; 0: it never ended.
    line: Column,
    end_line: Column,
    /// What was asked (2 bits), how it ended (2), swapped or not (2), fast, local.
    bits: Column,
    process: Column,
    /// Place in `clients`.
    client: Column,
    node: Column,
    last_node: Column,
    key: Column,
    value: Column,
    expected: Column,
    returned: Column,
    leader: Column,
    ballot: Column,
    version: Column,
    /// Log index less version, and 1; 0: not recorded.
    index: Column,
    error: Column,
    trip: Column,
}

impl Columns {
    /// Packs the operations at these indices. The texts of those in `core` stay whole.
    pub(super) fn pack(run: &Recorded, kept: &[usize], core: &BTreeSet<usize>) -> Self {
        let mut texts = Numbers { run, by_run: BTreeMap::new(), texts: vec![String::new()] };
        let mut clients: Vec<u64> = run.operations.iter().map(|operation| operation.client).collect();
        clients.sort_unstable();
        clients.dedup();
        let of = || kept.iter().map(|&index| &run.operations[index]);
        let column = |number: fn(&Operation) -> u64| Column::plain(of().map(number));
        let mut text = |number: fn(&Operation) -> u32| {
            Column::plain(of().map(|operation| texts.number(number(operation))).collect::<Vec<_>>())
        };
        let place =
            |operation: &Operation| clients.binary_search(&operation.client).map_or(0, |place| place as u64);
        Self {
            invoked: Column::deltas(of().map(|operation| operation.invoked / 1000)),
            took: column(|operation| {
                // both ends are cut to microseconds alike, so that what did not overlap does not seem to
                operation.ended.map_or(0, |ended| ended / 1000 - operation.invoked / 1000 + 1)
            }),
            line: Column::deltas(of().map(|operation| operation.line.into())),
            end_line: column(|operation| operation.end_line.saturating_sub(operation.line).into()),
            bits: column(bits),
            process: column(|operation| operation.process),
            client: Column::plain(of().map(place)),
            node: column(|operation| operation.node),
            last_node: column(|operation| operation.last_node),
            key: text(|operation| operation.key),
            value: text(|operation| operation.value),
            expected: text(|operation| operation.expected),
            returned: text(|operation| operation.returned),
            leader: column(|operation| operation.leader),
            ballot: text(|operation| operation.ballot),
            version: column(|operation| operation.version),
            index: column(|operation| match operation.index {
                0 => 0,
                index => index.saturating_sub(operation.version) + 1,
            }),
            error: text(|operation| operation.error),
            trip: text(|operation| operation.trip),
            texts: texts.short(core),
            clients,
        }
    }
}

fn bits(operation: &Operation) -> u64 {
    let what = match operation.what {
        What::Get => 0,
        What::Put => 1,
        What::Cas => 2,
        What::Delete => 3,
    };
    let outcome = match operation.outcome {
        Outcome::Ok => 0,
        Outcome::Fail => 1,
        Outcome::Info => 2,
        Outcome::Open => 3,
    };
    let swapped = operation.swapped.map_or(0, |swapped| 1 + u64::from(swapped));
    what | outcome << 2 | swapped << 4 | u64::from(operation.fast) << 6 | u64::from(operation.local) << 7
}

/// The texts of the operations that are drawn, numbered anew.
struct Numbers<'a> {
    run: &'a Recorded,
    by_run: BTreeMap<u32, u64>,
    texts: Vec<String>,
}

impl Numbers<'_> {
    fn number(&mut self, of_run: u32) -> u64 {
        let Some(text) = self.run.texts.get(of_run) else { return 0 };
        *self.by_run.entry(of_run).or_insert_with(|| {
            self.texts.push(text.to_owned());
            self.texts.len() as u64 - 1
        })
    }

    /// The texts, cut where they are too long for the page, but for those of the core.
    fn short(self, core: &BTreeSet<usize>) -> Vec<String> {
        let of_core = core.iter().map(|&index| &self.run.operations[index]);
        let whole = of_core.flat_map(|operation| {
            [operation.key, operation.value, operation.expected, operation.returned]
                .map(|text| self.by_run.get(&text).copied())
        });
        let whole: BTreeSet<u64> = whole.flatten().collect();
        let mut texts = self.texts;
        if texts.iter().map(String::len).sum::<usize>() <= TEXTS {
            return texts;
        }
        let most = (TEXTS / texts.len()).saturating_sub(2 * FEW).max(FEW);
        for (text, number) in texts.iter_mut().zip(0..) {
            if text.len() > most + 2 * FEW && !whole.contains(&number) {
                let begin = text.char_indices().take_while(|(at, _)| *at < most).last();
                let begin = begin.map_or(0, |(at, _)| at);
                *text = format!("{}… ({} bytes)", &text[..begin], text.len());
            }
        }
        texts
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::html::tests::recorded;

    #[test]
    fn long_values_are_cut_but_for_those_that_show_the_violation() {
        let put = |number: u64, kind: &str| {
            let answer = if kind == "ok" {
                r#","returned":null,"version":1,"leader":1,"ballot":"0.1.0@n1","fast":false"#
            } else {
                ""
            };
            let value = format!("{number}-é{}", "x".repeat(2000));
            let who = format!(r#""process":1,"client":1,"node":1,"type":"{kind}","f":"put""#);
            format!(r#"{{"record":"op","time":{number},{who},"key":1,"value":"{value}"{answer}}}"#)
        };
        let lines: Vec<String> =
            (0..1000).flat_map(|number| [put(number, "invoke"), put(number, "ok")]).collect();
        let run = recorded(&lines);
        let kept: Vec<usize> = (0..1000).collect();
        let texts = Columns::pack(&run, &kept, &BTreeSet::from([7])).texts;
        let bytes: usize = texts.iter().map(String::len).sum();
        assert!(bytes < TEXTS + 2100, "{bytes} bytes");
        assert!(texts.iter().any(|text| text.starts_with("7-") && text.len() > 2000), "the core's is whole");
        assert!(texts.iter().any(|text| text.starts_with("8-éxxx") && text.ends_with("… (2004 bytes)")));
        let few = recorded(&lines[..20]);
        assert!(Columns::pack(&few, &[0, 1], &BTreeSet::new()).texts.iter().any(|text| text.len() > 2000));
    }
}
