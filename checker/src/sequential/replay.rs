//! The replay of one partition's log: what each answer says of its key is held against what the log had there.

use std::collections::{BTreeMap, BTreeSet};

use super::{Asked, Findings, Rule};
use crate::history::{Function, Key};

/// What is known of one key.
#[derive(Default)]
struct Timeline<'a> {
    /// Each known version, with what it left.
    versions: BTreeMap<u64, Left<'a>>,
    /// Writes with an unknown outcome that no version has been ascribed to, in the order in which they were invoked.
    unknown: Vec<&'a Asked<'a>>,
    /// Answers that say what the key held.
    claims: Vec<&'a Asked<'a>>,
    /// Some version could have been ascribed to several of the unknown ones.
    chosen: bool,
}

/// What a version left in its key, and who wrote it.
#[derive(Clone, Copy)]
struct Left<'a> {
    value: Option<&'a str>,
    writer: Option<&'a Asked<'a>>,
}

/// Replays a partition, some of whose entries are taken by answered operations.
pub(super) fn replay(
    asked: &[Asked<'_>],
    initial: &[(Key, String)],
    mut taken: BTreeSet<u64>,
    findings: &mut Findings,
) {
    let mut keys: BTreeMap<&Key, Timeline<'_>> = BTreeMap::new();
    for now in asked {
        let timeline = keys.entry(now.operation.function.key()).or_default();
        if now.wrote() {
            let value = written(&now.operation.function);
            timeline.versions.entry(now.version()).or_insert(Left { value, writer: Some(now) });
        } else if now.operation.result.is_some() {
            timeline.claims.push(now);
        } else if !now.is_get() {
            timeline.unknown.push(now);
        }
    }
    for (key, mut timeline) in keys {
        let value = initial.iter().find(|(preset, _)| preset == key).map(|(_, value)| value.as_str());
        timeline.versions.insert(0, Left { value, writer: None });
        timeline.judge(&mut taken, findings);
    }
}

/// The first line by which the entry of this version was in the log: its writer was answered, or another was shown that much of
/// the log. A swap with an unknown outcome may have happened long after it was asked for.
fn known_by(version: u64, writer: &Asked<'_>, claims: &[&Asked<'_>]) -> usize {
    if writer.operation.returned.is_some() {
        return writer.line();
    }
    let show = claims.iter().filter(|claim| claim.index().is_some_and(|index| index >= version));
    show.map(|claim| claim.line()).min().unwrap_or(usize::MAX)
}

/// The value that an operation leaves when it writes.
fn written(function: &Function) -> Option<&str> {
    match function {
        Function::Put { value, .. } | Function::Cas { new: value, .. } => Some(value),
        Function::Get { .. } | Function::Delete { .. } => None,
    }
}

fn value_in_words(value: Option<&str>) -> String {
    value.map_or("nothing".to_owned(), |value| format!("{value:?}"))
}

impl<'a> Timeline<'a> {
    fn judge(mut self, taken: &mut BTreeSet<u64>, findings: &mut Findings) {
        let mut claims = std::mem::take(&mut self.claims);
        // versions that only claims know of are ascribed from the lowest one on
        claims.sort_by_key(|claim| (claim.version(), claim.line()));
        for claim in &claims {
            self.has_written(claim, taken, findings);
        }
        for claim in &claims {
            self.is_last(claim, findings);
        }
        let swaps: Vec<(u64, &Asked<'_>)> = self
            .versions
            .iter()
            .filter_map(|(version, left)| Some((*version, left.writer?)))
            .filter(|(_, writer)| matches!(writer.operation.function, Function::Cas { .. }))
            .collect();
        for (version, swap) in swaps {
            let known = known_by(version, swap, &claims);
            self.could_swap((version, known), swap, findings);
        }
    }

    /// The version of a claim left the value that it shows, and was asked for before it was shown.
    fn has_written(&mut self, claim: &Asked<'_>, taken: &mut BTreeSet<u64>, findings: &mut Findings) {
        let Some(result) = &claim.operation.result else { return };
        let (version, shown) = (claim.version(), result.returned.as_deref());
        if let Function::Cas { expected, .. } = &claim.operation.function
            && expected.as_deref() == shown
        {
            findings.violation(Rule::Value, claim, "it found what it expected, and did not swap");
        }
        let left = match self.versions.get(&version) {
            Some(left) => *left,
            None => match self.ascribe(version, claim, taken, findings) {
                Some(left) => left,
                None => return,
            },
        };
        if left.value != shown {
            let (shown, held) = (value_in_words(shown), value_in_words(left.value));
            let what = format!("it shows {shown} as version {version}, which left {held}");
            return self.contradicts(Rule::Value, claim, &what, findings);
        }
        let asked_for = left.writer.map_or(0, |writer| writer.operation.invoked.position);
        if asked_for > claim.line() {
            let what = format!("it shows version {version}, which was asked for on line {asked_for}, later");
            self.contradicts(Rule::RealTime, claim, &what, findings);
        }
    }

    /// A version that no answered write has: finds the write with an unknown outcome that left what the claim shows.
    fn ascribe(
        &mut self,
        version: u64,
        claim: &Asked<'_>,
        taken: &mut BTreeSet<u64>,
        findings: &mut Findings,
    ) -> Option<Left<'a>> {
        let shown = claim.operation.result.as_ref().and_then(|result| result.returned.as_deref());
        if !taken.insert(version) {
            let what = format!("it shows version {version}, an entry that did not write this key");
            findings.violation(Rule::Value, claim, &what);
            return None;
        }
        let writer = self.take_unknown(|writer| {
            written(&writer.operation.function) == shown
                && writer.floor < version
                && writer.operation.invoked.position < claim.line()
        });
        let Some(writer) = writer else {
            let shown = value_in_words(shown);
            let what = format!("it shows {shown} as version {version}, which nobody can have written");
            self.contradicts(Rule::Value, claim, &what, findings);
            return None;
        };
        let left = Left { value: written(&writer.operation.function), writer: Some(writer) };
        self.versions.insert(version, left);
        Some(left)
    }

    /// Takes the first write with an unknown outcome that fits.
    fn take_unknown(&mut self, fits: impl Fn(&Asked<'_>) -> bool) -> Option<&'a Asked<'a>> {
        let mut places = (0..self.unknown.len()).filter(|place| fits(self.unknown[*place]));
        let (first, second) = (places.next()?, places.next());
        drop(places);
        self.chosen |= second.is_some();
        Some(self.unknown.remove(first))
    }

    /// A contradiction. It shows nothing when another choice among unknown writes might not have led to it.
    fn contradicts(&self, rule: Rule, claim: &Asked<'_>, what: &str, findings: &mut Findings) {
        if self.chosen {
            let key = claim.operation.function.key();
            findings
                .undecided(format!("key {key} has unknown writes that are alike; with one choice {what}"));
        } else {
            findings.violation(rule, claim, what);
        }
    }

    /// No other version of the key lies between the one that a claim shows and its index.
    fn is_last(&self, claim: &Asked<'_>, findings: &mut Findings) {
        let (version, index) = (claim.version(), claim.index().unwrap_or_default());
        let last = self.versions.range(..=index).next_back().map_or(0, |(last, _)| *last);
        if last > version {
            let what = format!("it shows version {version} at {index}, where version {last} was the last");
            findings.violation(Rule::Value, claim, &what);
        }
    }

    /// A compare-and-swap of this version, which had happened by this line, found what it expected.
    fn could_swap(&mut self, (version, known): (u64, usize), swap: &Asked<'_>, findings: &mut Findings) {
        let Function::Cas { expected, .. } = &swap.operation.function else { return };
        let expected = expected.as_deref();
        let Some((before, left)) = self.versions.range(..version).next_back() else { return };
        let (before, held) = (*before, left.value);
        if held == expected {
            return;
        }
        // an unknown write that nobody has read may lie between
        let between = self.take_unknown(|writer| {
            written(&writer.operation.function) == expected
                && before.max(writer.floor) + 1 < version
                && writer.operation.invoked.position < known
        });
        match between.map(|between| &between.operation.function) {
            None => {
                let (held, wanted) = (value_in_words(held), value_in_words(expected));
                let what = format!(
                    "it swapped {wanted} as version {version}, where version {before} had left {held}"
                );
                self.contradicts(Rule::Value, swap, &what, findings);
            }
            Some(Function::Cas { expected, .. }) if expected.as_deref() != held => {
                findings
                    .undecided(format!("how version {version} came to find what it expected is not known"));
            }
            Some(_) => {}
        }
    }
}
