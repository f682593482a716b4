//! Who led which partition when, who held its lease and who had granted it, and how the nodes' clocks ran: from the traces.

use std::collections::BTreeMap;

use checker::{
    lease_safety::{Clocks, FOREVER, Traces},
    trace::{Ballot, TraceEvent, TraceLine},
};
use serde::Serialize;

use crate::recorded::{Recorded, end_of};

/// Most intervals of one kind that are drawn.
const MOST: usize = 3000;

/// What a node was for a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Role {
    /// It led.
    Leads,
    /// It held the lease.
    Holds,
    /// It had granted the lease.
    Grants,
}

/// A node was something for a partition. Times are microseconds since the run began, which may be before it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct Interval {
    pub(super) role: Role,
    pub(super) partition: u32,
    pub(super) node: u64,
    pub(super) boot: u64,
    pub(super) ballot: String,
    pub(super) from: i64,
    pub(super) to: i64,
    /// The end of a lease as the node's own clock shows it, counted from the reading of the common clock at which the run began.
    pub(super) own: Option<i64>,
    /// How often the lease was renewed.
    pub(super) renewed: u64,
    /// Why it ended.
    pub(super) end: &'static str,
}

/// A node's clock from a moment on: what it shows, less what the common clock shows, and by how much that grows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct ClockPiece {
    node: u64,
    boot: u64,
    from: i64,
    offset: i64,
    rate_ppm: i64,
}

/// What the traces show over time.
#[derive(Debug, Default, Serialize)]
pub(super) struct Roles {
    pub(super) intervals: Vec<Interval>,
    pub(super) clocks: Vec<ClockPiece>,
    /// When nodes started: node, boot, when.
    pub(super) starts: Vec<(u64, u64, i64)>,
    /// From when until when nodes were dead: node, from, to.
    pub(super) dead: Vec<(u64, i64, i64)>,
    /// The replicas of each partition.
    pub(super) replicas: BTreeMap<u32, Vec<u64>>,
    /// Intervals that were left out.
    pub(super) left_out: usize,
}

/// Reads them off.
pub(super) fn roles(run: &Recorded) -> Roles {
    let Some(traces) = &run.traces else { return Roles::default() };
    let mut reading = Reading {
        clocks: Clocks::collect(traces),
        origin: i128::from(run.header.origin),
        open: BTreeMap::new(),
        roles: Roles::default(),
    };
    for trace in &traces.nodes {
        let mut lines = trace.lines.iter().map(|(_, line)| line).peekable();
        while let Some(line) = lines.next() {
            reading.take(line);
            let next = lines.peek();
            if next.is_none_or(|next| next.boot != line.boot) {
                let end = death(run, line, next.map(|next| next.common));
                reading.stop(line.node, (end.at, end.why));
                reading.roles.dead.extend(end.until.map(|until| (line.node, end.at, until)));
            }
        }
    }
    let mut roles = reading.roles;
    for role in [Role::Grants, Role::Holds, Role::Leads] {
        let before = roles.intervals.len();
        let all = roles.intervals.iter().filter(|interval| interval.role == role).count();
        let mut count = 0;
        // of too many those that are evenly spread are left, so that no node seems to have done nothing
        roles.intervals.retain(|interval| {
            if interval.role != role || all <= MOST {
                return true;
            }
            count += 1;
            count * MOST / all > (count - 1) * MOST / all
        });
        roles.left_out += before - roles.intervals.len();
    }
    roles
}

/// The end of a life of a node, in microseconds.
struct End {
    at: i64,
    why: &'static str,
    /// When it lived again, or the run ended; none: it lived to the end.
    until: Option<i64>,
}

/// When a life of a node ended that traced `last` as its last word: when it was killed, or else when the run ended. A node that
/// has lost its disk (a wipe) traces no more, and lives.
fn death(run: &Recorded, last: &TraceLine, next: Option<u64>) -> End {
    let since = |common: u64| common as i64 - run.header.origin as i64;
    let last_words = since(last.common);
    let by = next.map_or(run.last as i64, since);
    let kill = run.faults.iter().find(|fault| {
        let hits = fault.begins && fault.nodes.contains(&last.node);
        let kills =
            ["kill", "wipe", "restart", "lose", "corrupt"].iter().any(|word| fault.action.starts_with(word));
        hits && kills && (last_words - 1_000_000..=by).contains(&(fault.time as i64))
    });
    let died = run
        .verdict
        .as_ref()
        .is_some_and(|verdict| verdict.deaths.iter().any(|death| death.node == last.node));
    let end = run.last as i64;
    let (at, why, until) = match (kill, next) {
        (Some(kill), Some(next)) => {
            ((kill.time as i64).max(last_words), "the node was killed", Some(since(next)))
        }
        (Some(kill), None) => {
            let until = if kill.instant {
                None
            } else {
                Some(end_of(kill, &run.faults).map_or(end, |back| back.time as i64))
            };
            ((kill.time as i64).max(last_words), "the node was killed", until)
        }
        (None, Some(next)) => (last_words, "the node stopped", Some(since(next))),
        (None, None) if died => (last_words, "the node died", Some(end)),
        (None, None) => (by.max(last_words), "the record ends", None),
    };
    End { at: at / 1000, why, until: until.map(|until| until / 1000) }
}

struct Reading {
    clocks: Clocks,
    origin: i128,
    /// What has not ended, by role, partition and node.
    open: BTreeMap<(Role, u32, u64), (Ballot, Interval)>,
    roles: Roles,
}

impl Reading {
    fn since(&self, common: i128) -> i64 {
        ((common - self.origin) / 1000) as i64
    }

    fn take(&mut self, line: &TraceLine) {
        let now = self.since(line.common.into());
        match &line.event {
            TraceEvent::Started { .. } => self.roles.starts.push((line.node, line.boot, now)),
            TraceEvent::Clock { base_common, base_local, rate_ppm } => self.roles.clocks.push(ClockPiece {
                node: line.node,
                boot: line.boot,
                from: self.since(i128::from(*base_common)).max(0),
                offset: (*base_local as i64 - *base_common as i64) / 1000,
                rate_ppm: *rate_ppm,
            }),
            TraceEvent::Group { partition, replicas, .. } => {
                self.roles.replicas.insert(*partition, replicas.clone());
            }
            TraceEvent::Leading { partition, ballot } => {
                self.begin(Role::Leads, *partition, *ballot, line, now, None);
            }
            TraceEvent::SteppedDown { partition, .. } => {
                self.end(Role::Leads, *partition, line.node, now, "stepped down");
            }
            TraceEvent::Hold { partition, ballot, until } => {
                self.lease(Role::Holds, *partition, *ballot, line, *until);
            }
            TraceEvent::HoldEnded { partition, .. } => {
                self.end(Role::Holds, *partition, line.node, now, "given up");
            }
            TraceEvent::Granted { partition, ballot, until } => {
                self.lease(Role::Grants, *partition, *ballot, line, *until);
            }
            TraceEvent::Released { partition, .. } => {
                self.end(Role::Grants, *partition, line.node, now, "given back by the holder");
            }
            _ => {}
        }
    }

    /// A lease is granted, held or renewed until a moment of the node's own clock.
    fn lease(&mut self, role: Role, partition: u32, ballot: Ballot, line: &TraceLine, until: u64) {
        let now = self.since(line.common.into());
        let end = self.clocks.reaches(line.node, line.boot, line.common.into(), until);
        let to = if end == FOREVER { i64::MAX } else { self.since(end) };
        let own = Some((i128::from(until) - self.origin) as i64 / 1000);
        if let Some((of, open)) = self.open.get_mut(&(role, partition, line.node))
            && *of == ballot
            && now <= open.to
        {
            (open.to, open.own) = (to, own);
            open.renewed += 1;
            return;
        }
        self.begin(role, partition, ballot, line, now, own.map(|own| (own, to)));
    }

    fn begin(
        &mut self,
        role: Role,
        partition: u32,
        ballot: Ballot,
        line: &TraceLine,
        now: i64,
        lease: Option<(i64, i64)>,
    ) {
        self.end(role, partition, line.node, now, "a new one began");
        let interval = Interval {
            role,
            partition,
            node: line.node,
            boot: line.boot,
            ballot: ballot.to_string(),
            from: now,
            to: lease.map_or(i64::MAX, |(_, to)| to),
            own: lease.map(|(own, _)| own),
            renewed: 0,
            end: "",
        };
        self.open.insert((role, partition, line.node), (ballot, interval));
    }

    fn end(&mut self, role: Role, partition: u32, node: u64, now: i64, why: &'static str) {
        let Some((_, mut interval)) = self.open.remove(&(role, partition, node)) else { return };
        (interval.to, interval.end) = if now < interval.to { (now, why) } else { (interval.to, "ran out") };
        self.roles.intervals.push(interval);
    }

    /// The node's process has ended, and with it what it was. What it had granted binds it beyond that.
    fn stop(&mut self, node: u64, (when, why): (i64, &'static str)) {
        let its: Vec<_> = self.open.keys().filter(|(.., of)| *of == node).copied().collect();
        for (role, partition, node) in its {
            let when = if role == Role::Grants { i64::MAX - 1 } else { when };
            self.end(role, partition, node, when, why);
        }
    }
}

/// Where each node's trace has its events, for those who look for single ones.
pub(super) fn events(traces: &Traces) -> impl Iterator<Item = &TraceLine> {
    traces.nodes.iter().flat_map(|node| node.lines.iter().map(|(_, line)| line))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::html::tests::traced;

    fn line(boot: u64, micros: u64, rest: &str) -> String {
        // the history begins when the common clock shows 1000 ns
        format!(r#"{{"node":1,"boot":{boot},"common":{0},"local":{0},{rest}}}"#, 1000 + micros * 1000)
    }

    #[test]
    fn a_lease_ends_on_both_clocks_and_a_leader_when_it_is_killed() {
        let of = r#""partition":1,"ballot":{"config":0,"number":2,"priority":0,"node":1}"#;
        let until = |micros: u64| format!(r#""kind":"hold",{of},"until":{}"#, 1000 + micros * 1000);
        // the node's clock runs at half the rate of the common one from 1000 µs on
        let slow = r#""kind":"clock","base_common":1001000,"base_local":1001000,"rate_ppm":-500000"#;
        let kill = r#""fault":1,"begins":true,"action":"kill","target":"node 1","nodes":[1]"#;
        let run = traced(
            &[
                format!(r#"{{"record":"nemesis","time":6000000,"requested":6000000,{kill}}}"#),
                r#"{"record":"phase","time":10000000,"name":"end"}"#.to_owned(),
            ],
            &[
                line(1, 1000, r#""kind":"started","lease":1,"drift_ppm":0"#),
                line(1, 1000, slow),
                line(1, 1000, &format!(r#""kind":"leading",{of}"#)),
                line(1, 1000, &until(2000)),
                line(1, 2000, &until(2500)),
                line(2, 8000, r#""kind":"started","lease":1,"drift_ppm":0"#),
            ],
        );
        let roles = roles(&run);
        let of = |role| roles.intervals.iter().find(|interval| interval.role == role).expect("an interval");
        let hold = of(Role::Holds);
        assert_eq!((hold.from, hold.to, hold.own, hold.renewed), (1000, 4000, Some(2500), 1));
        assert_eq!(hold.end, "ran out");
        let leads = of(Role::Leads);
        assert_eq!((leads.from, leads.to, leads.end), (1000, 6000, "the node was killed"));
        assert_eq!(leads.ballot, "0.2.0@n1");
        assert_eq!(roles.starts, [(1, 1, 1000), (1, 2, 8000)]);
        assert_eq!(roles.clocks.len(), 1);
        assert_eq!(roles.dead, [(1, 6000, 8000)]);
    }
}
