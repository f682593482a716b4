//! Who leads, as the nodes' traces tell it while they grow.

use std::{borrow::Cow, collections::BTreeMap};

use checker::trace::{Ballot, TraceEvent, TraceLine};
use serde::{Deserialize, Serialize};

/// Who leads a partition.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Leader {
    pub(crate) node: u64,
    pub(crate) ballot: String,
    /// Seconds of the run.
    pub(crate) since: f64,
}

/// A change of leaders.
pub(super) struct Change {
    /// On the machine's clock.
    pub(super) common: u64,
    pub(super) words: String,
}

/// Ballots that are led, with the time since when.
#[derive(Debug, Default)]
pub(super) struct Leaders {
    /// By partition. A deposed leader may not know yet that it is one: of several the highest ballot counts.
    led: BTreeMap<u32, BTreeMap<Ballot, u64>>,
    /// When nodes were killed last.
    died: BTreeMap<u64, u64>,
}

#[derive(Deserialize)]
struct Line<'a> {
    #[serde(borrow)]
    kind: Cow<'a, str>,
}

impl Leaders {
    /// Takes in a line of a trace.
    pub(super) fn hear(&mut self, line: &[u8]) -> Result<Option<Change>, ()> {
        // most lines tell of fast reads and decided entries
        let short: Line = serde_json::from_slice(line).map_err(|_| ())?;
        if !["leading", "stepped-down", "started"].contains(&short.kind.as_ref()) {
            return Ok(None);
        }
        let line: TraceLine = serde_json::from_slice(line).map_err(|_| ())?;
        let (node, common) = (line.node, line.common);
        match line.event {
            TraceEvent::Leading { partition, ballot } => {
                let alive = self.died.get(&node).is_none_or(|died| common > *died);
                let led = self.led.entry(partition).or_default();
                if alive {
                    led.insert(ballot, common);
                }
                let words = format!("node {node} leads partition {partition} under {ballot}");
                return Ok(Some(Change { common, words }));
            }
            TraceEvent::SteppedDown { partition, ballot } => {
                self.led.entry(partition).or_default().remove(&ballot);
            }
            // it leads nothing that it led in an earlier life
            TraceEvent::Started { .. } => self.forget(node, common),
            _ => {}
        }
        Ok(None)
    }

    /// A node was killed.
    pub(super) fn died(&mut self, node: u64, common: u64) {
        self.died.insert(node, common);
        self.forget(node, common);
    }

    fn forget(&mut self, node: u64, common: u64) {
        for led in self.led.values_mut() {
            led.retain(|ballot, since| ballot.node != node || *since > common);
        }
    }

    /// Who leads each partition that was ever led, of a run that began at `origin`.
    pub(super) fn now(&self, origin: u64) -> BTreeMap<u32, Option<Leader>> {
        let leader = |(ballot, since): (&Ballot, &u64)| Leader {
            node: ballot.node,
            ballot: ballot.to_string(),
            since: super::seconds(since.saturating_sub(origin)),
        };
        self.led.iter().map(|(partition, led)| (*partition, led.last_key_value().map(leader))).collect()
    }
}
