//! L1, L2 and L6: what holds owe each other, their grants, and the decisions of other ballots.

use rustc_hash::FxHashMap;

use super::clock::Common;
use super::holds::{Grant, Hold, Recorded, Span};
use super::report::{Findings, Invariant};
use super::traces::Place;

/// Judges what has been recorded of all nodes together.
pub(super) fn check(recorded: &Recorded, findings: &mut Findings<'_>) {
    let mut partitions: FxHashMap<u32, Vec<&Hold>> = FxHashMap::default();
    for hold in recorded.holds.iter().filter(|hold| hold.start < hold.end) {
        partitions.entry(hold.partition).or_default().push(hold);
    }
    let mut partitions: Vec<_> = partitions.into_iter().collect();
    partitions.sort_unstable_by_key(|(partition, _)| *partition);
    for (partition, holds) in &mut partitions {
        holds.sort_by_key(|hold| (hold.start, hold.events[0].place));
        no_overlap(*partition, holds, findings);
        no_decision_inside(*partition, holds, recorded, findings);
        for hold in holds.iter() {
            within_grants(*partition, hold, recorded, findings);
        }
    }
}

/// L1. In the order of starts, a hold overlaps an earlier one exactly when it starts before the latest end so far.
fn no_overlap(partition: u32, holds: &[&Hold], findings: &mut Findings<'_>) {
    let mut latest: Option<&Hold> = None;
    for &hold in holds {
        if let Some(other) = latest.filter(|other| hold.start < other.end && hold.ballot != other.ballot) {
            findings.add(Invariant::L1, |findings| {
                let text = format!(
                    "partition {partition} is held by node {} until {} and by node {} from {}",
                    other.ballot.node,
                    findings.moment(other.end),
                    hold.ballot.node,
                    findings.moment(hold.start)
                );
                (text, vec![findings.event(last_event(other).place), findings.event(hold.events[0].place)])
            });
        }
        if latest.is_none_or(|other| other.end < hold.end) {
            latest = Some(hold);
        }
    }
}

/// L2. At each `hold` event a quorum has granted the ballot, before, until its end or that of the hold.
///
/// Grants recorded later do not count: the holder could not know of them. The actual end of the hold bounds what is owed,
/// since a hold that was given up needs no grant any more.
fn within_grants(partition: u32, hold: &Hold, recorded: &Recorded, findings: &mut Findings<'_>) {
    let replicas = recorded.replicas.get(&partition).map_or(&[][..], Vec::as_slice);
    let quorum = replicas.len() / 2 + 1;
    for span in &hold.events {
        let owed = span.until.min(hold.end);
        if owed <= span.at {
            continue;
        }
        let ends: Vec<Option<(Common, Place)>> = replicas
            .iter()
            .map(|&node| {
                let grants = recorded.grants.get(&(partition, node))?;
                grants
                    .iter()
                    .rev()
                    .filter(|grant| grant.ballot == hold.ballot)
                    .find_map(|grant| granted_until(grant, span.at))
            })
            .collect();
        let enough = ends.iter().flatten().filter(|(end, _)| *end >= owed).count();
        if enough < quorum {
            findings.add(Invariant::L2, |findings| {
                let told = replicas.iter().zip(&ends).map(|(node, end)| match end {
                    Some((end, _)) => format!("node {node} until {}", findings.moment(*end)),
                    None => format!("node {node} not at all"),
                });
                let text = format!(
                    "node {} holds partition {partition} until {}, but of {quorum} grants needed only {enough} cover that: {}",
                    hold.ballot.node,
                    findings.moment(owed),
                    told.collect::<Vec<_>>().join(", ")
                );
                let short = ends.iter().flatten().filter(|(end, _)| *end < owed).map(|(_, place)| *place);
                let places = std::iter::once(span.place).chain(short);
                (text, places.map(|place| findings.event(place)).collect())
            });
        }
    }
}

/// Until when a grant was promised as far as recorded at a moment, and by which event it ends then.
fn granted_until(grant: &Grant, at: Common) -> Option<(Common, Place)> {
    let last = grant.events.partition_point(|span| span.at <= at).checked_sub(1)?;
    let span = grant.events[last];
    match grant.over {
        Some((over, place)) if over < span.until => Some((over, place)),
        _ => Some((span.until, span.place)),
    }
}

/// L6. Sweeps over decisions and holds in the order of time.
fn no_decision_inside(partition: u32, holds: &[&Hold], recorded: &Recorded, findings: &mut Findings<'_>) {
    let mut decisions = recorded.decisions.get(&partition).cloned().unwrap_or_default();
    decisions.sort_by_key(|&(at, _, place)| (at, place));
    let mut active: Vec<&Hold> = Vec::new();
    let mut next = holds.iter().peekable();
    for (at, ballot, place) in decisions {
        while let Some(hold) = next.next_if(|hold| hold.start <= at) {
            active.push(hold);
        }
        active.retain(|hold| at < hold.end);
        if let Some(hold) = active.iter().find(|hold| hold.ballot != ballot) {
            findings.add(Invariant::L6, |findings| {
                let text = format!(
                    "node {} decides in partition {partition} while node {} holds it, from {} to {}",
                    ballot.node,
                    hold.ballot.node,
                    findings.moment(hold.start),
                    findings.moment(hold.end)
                );
                (text, vec![findings.event(hold.events[0].place), findings.event(place)])
            });
        }
    }
}

fn last_event(hold: &Hold) -> Span {
    *hold.events.last().expect("a hold begins with an event")
}
