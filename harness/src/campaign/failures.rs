//! What nobody expects, of all workloads: failures of the same check with the same smallest plan are one.

use std::{collections::BTreeMap, fmt};

use super::record::{Class, Mode, Record};

/// Seeds of a failure that are named.
const NAMED: usize = 5;

/// Failures that look alike.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// How the workloads are run.
    pub mode: Mode,
    /// The check, with the invariant if it names one.
    pub kind: String,
    /// What their smallest plans are made of, if they were shrunk.
    pub shape: Option<String>,
    /// How many seeds of all workloads.
    pub count: u64,
    /// The first few of them.
    pub seeds: Vec<(String, u64)>,
    /// What is found under the first.
    pub words: String,
    /// How small its plan is.
    pub size: Option<String>,
    /// How to see it again.
    pub again: String,
    /// The smallest plan that shows it, if it was shrunk.
    pub plan: Option<String>,
}

/// All failures, those of most seeds first.
pub fn failures(records: &[Record]) -> Vec<Failure> {
    let mut all: BTreeMap<_, Failure> = BTreeMap::new();
    for record in records {
        for class in record.classes.iter().filter(|class| record.is_alarm(class)) {
            let key = (record.mode, class.kind.clone(), class.shape.clone());
            let failure = of(record, class);
            all.entry(key).and_modify(|all| all.and(failure.clone())).or_insert(failure);
        }
    }
    let mut all: Vec<Failure> = all.into_values().collect();
    all.sort_by_key(|failure| std::cmp::Reverse(failure.count));
    all
}

/// What a failure looks like, in words.
pub fn what(mode: Mode, kind: &str, shape: Option<&str>) -> String {
    let shape = shape.unwrap_or("not shrunk");
    let how = if mode == Mode::Real { " on real processes" } else { "" };
    format!("{kind}{how} ({shape})")
}

fn of(record: &Record, class: &Class) -> Failure {
    let Class { kind, shape, count, words, size, again, plan, .. } = class.clone();
    let seeds = class.seeds.iter().map(|seed| (record.workload.clone(), *seed)).collect();
    Failure { mode: record.mode, kind, shape, count, seeds, words, size, again, plan }
}

impl Failure {
    fn and(&mut self, other: Self) {
        self.count += other.count;
        self.seeds.extend(other.seeds);
        self.seeds.truncate(NAMED);
        self.plan = self.plan.take().or(other.plan);
    }

    /// The seeds that are named, by workload: `smoke 3, 7, load 2, …`.
    pub fn seeds_in_words(&self) -> String {
        let before = std::iter::once("").chain(self.seeds.iter().map(|(workload, _)| workload.as_str()));
        let named = self.seeds.iter().zip(before).map(|((workload, seed), before)| {
            if workload == before { seed.to_string() } else { format!("{workload} {seed}") }
        });
        let more = (self.count > self.seeds.len() as u64).then(|| "…".to_owned());
        named.chain(more).collect::<Vec<_>>().join(", ")
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (what, seeds) = (what(self.mode, &self.kind, self.shape.as_deref()), self.seeds_in_words());
        write!(f, "{what}: {} seeds ({seeds}): {}", self.count, self.words)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    fn class(kind: &str, shape: Option<&str>, seeds: &[u64]) -> Class {
        Class {
            kind: kind.to_owned(),
            shape: shape.map(str::to_owned),
            expected: false,
            count: seeds.len() as u64,
            seeds: seeds.to_vec(),
            words: format!("found by {}", seeds[0]),
            ..Class::default()
        }
    }

    fn record(workload: &str, classes: Vec<Class>) -> Record {
        let mode = Mode::Simulation;
        Record { workload: workload.to_owned(), classes, ..Record::new(mode, false) }
    }

    #[test]
    fn what_looks_alike_is_told_once() {
        let kill = Some("kill: get, put");
        let expected = Class { expected: true, ..class("progress", None, &[0]) };
        let records = [
            record("a", vec![class("linearizable", kill, &[3, 7]), class("linearizable", None, &[9])]),
            record("b", vec![class("linearizable", kill, &[1, 2, 4, 5]), expected]),
        ];
        let mut real = record("c", vec![class("linearizable", None, &[0])]);
        real.mode = Mode::Real;
        let failures = failures(&[records.as_slice(), &[real]].concat());
        assert_eq!(failures.len(), 3, "{failures:?}");
        assert_eq!(
            failures[0].to_string(),
            "linearizable (kill: get, put): 6 seeds (a 3, 7, b 1, 2, 4, …): found by 3"
        );
        assert_eq!(failures[1].to_string(), "linearizable (not shrunk): 1 seeds (a 9): found by 9");
        let real = "linearizable on real processes (not shrunk): 1 seeds (c 0): found by 0";
        assert_eq!(failures[2].to_string(), real);
    }
}
