//! How a run goes, from its history and traces as they grow. What was read once is not read again, and what is kept does not
//! grow with the run.

mod leaders;
mod throughput;

use std::{
    borrow::Cow,
    collections::{BTreeMap, VecDeque},
    io::{self, ErrorKind},
    path::Path,
};

use checker::history::{Kind, Nemesis, Record};
use serde::{Deserialize, Serialize};

use super::{
    tail::{Read, Tail},
    within::{Entry, Place, Within},
};
use crate::{recorded::HISTORY, report::Outcomes};
pub(crate) use leaders::Leader;
use leaders::Leaders;
use throughput::Throughput;

/// Most bytes of a file that are read before an answer is given; of a long history the rest comes later.
const MOST: u64 = 32 << 20;

/// Events that are remembered.
const EVENTS: usize = 60;

/// Faults in force that are remembered, and such that were undone; a run has a handful.
const FAULTS: usize = 200;

/// Trace files that are followed; a run has one for each node.
const TRACES: usize = 64;

/// Reads on in a run's folder.
#[derive(Debug)]
pub(crate) struct Follower {
    place: Place,
    history: Tail,
    traces: BTreeMap<String, Tail>,
    seen: Seen,
}

/// What was seen so far.
#[derive(Debug, Default)]
struct Seen {
    origin: u64,
    last: u64,
    phase: Option<String>,
    operations: BTreeMap<Function, Outcomes>,
    invoked: u64,
    fast_reads: u64,
    throughput: Throughput,
    in_force: BTreeMap<u64, Fault>,
    undone: VecDeque<Fault>,
    faults: u64,
    leaders: Leaders,
    events: VecDeque<Event>,
    unreadable: u64,
}

/// How a run goes.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Live {
    /// Seconds from the beginning of the run to its last record.
    pub(crate) seconds: f64,
    pub(crate) phase: Option<String>,
    pub(crate) operations: BTreeMap<Function, Outcomes>,
    /// Operations that have begun and not ended.
    pub(crate) open: u64,
    pub(crate) fast_reads: u64,
    pub(crate) throughput: Throughput,
    pub(crate) in_force: Vec<Fault>,
    /// The last ones that were undone.
    pub(crate) undone: Vec<Fault>,
    /// Faults that have begun.
    pub(crate) faults: u64,
    /// By partition.
    pub(crate) leaders: BTreeMap<u32, Option<Leader>>,
    /// The last things that happened, the latest first.
    pub(crate) events: Vec<Event>,
    /// Bytes that are written and not read yet.
    pub(crate) behind: u64,
    /// Lines that are no record.
    pub(crate) unreadable: u64,
}

/// A fault that lasts.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Fault {
    pub(crate) number: u64,
    pub(crate) words: String,
    /// Seconds of the run.
    pub(crate) since: f64,
    /// When it was undone.
    pub(crate) until: Option<f64>,
}

/// Something that happened.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Event {
    /// Seconds of the run.
    pub(crate) at: f64,
    pub(crate) what: &'static str,
    pub(crate) words: String,
}

/// What operations ask.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Function {
    Get,
    Put,
    Cas,
    Delete,
}

/// As much of a line as is counted of an operation: there are tens of thousands a second.
#[derive(Deserialize)]
struct Line<'a> {
    #[serde(borrow)]
    record: Cow<'a, str>,
    #[serde(default)]
    time: u64,
    #[serde(rename = "type")]
    kind: Option<Kind>,
    f: Option<Function>,
    #[serde(default)]
    fast: bool,
}

impl Follower {
    /// Follows the run in this folder from its beginning.
    pub(crate) fn new(place: Place) -> Self {
        Self { place, history: Tail::default(), traces: BTreeMap::new(), seen: Seen::default() }
    }

    /// Bytes that were read.
    #[cfg(test)]
    fn read(&self) -> u64 {
        self.history.read() + self.traces.values().map(Tail::read).sum::<u64>()
    }

    /// Reads what has come, and says how the run goes. A run that was begun anew in the same folder is followed anew.
    pub(crate) fn on(&mut self, within: &Within) -> io::Result<Live> {
        let behind = match self.read_on(within)? {
            Read::On { behind } => behind,
            Read::Anew => {
                *self = Self::new(self.place.clone());
                match self.read_on(within)? {
                    Read::On { behind } => behind,
                    // it changes faster than it is read: the next time, then
                    Read::Anew => 0,
                }
            }
        };
        Ok(self.seen.live(behind))
    }

    /// How a run went, from its history alone.
    pub(crate) fn of_history(within: &Within, place: &Place) -> io::Result<Live> {
        let mut follower = Self::new(place.clone());
        let mut before = None;
        // of a run that goes on some is always behind: as much as there was is enough
        while let Read::On { behind } = follower.read_history(within)? {
            if behind == 0 || before == Some(follower.history.read()) {
                break;
            }
            before = Some(follower.history.read());
        }
        Ok(follower.seen.live(0))
    }

    fn read_on(&mut self, within: &Within) -> io::Result<Read> {
        match self.read_history(within)? {
            Read::On { behind } => self.read_traces(within, behind),
            Read::Anew => Ok(Read::Anew),
        }
    }

    fn read_history(&mut self, within: &Within) -> io::Result<Read> {
        let seen = &mut self.seen;
        let history = self.place.join(HISTORY).ok_or(ErrorKind::NotFound)?;
        match within.file(&history) {
            Ok(file) => self.history.on(&file, MOST, |line| seen.history(line)),
            // a run that is booting has none yet; one that had one is another run now
            Err(error) if error.kind() == ErrorKind::NotFound && self.history.read() == 0 => {
                Ok(Read::On { behind: 0 })
            }
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(Read::Anew),
            Err(error) => Err(error),
        }
    }

    fn read_traces(&mut self, within: &Within, mut behind: u64) -> io::Result<Read> {
        let seen = &mut self.seen;
        let folder = self.place.join("trace").ok_or(ErrorKind::NotFound)?;
        let traces = within.list(&folder).unwrap_or_default().into_iter();
        let traces = traces.filter(|(name, entry)| {
            Path::new(name).extension().is_some_and(|ending| ending == "jsonl")
                && matches!(entry, Entry::File { .. })
        });
        for (name, _) in traces.take(TRACES) {
            let Some(Ok(file)) = folder.join(&name).map(|place| within.file(&place)) else { continue };
            match self.traces.entry(name).or_default().on(&file, MOST, |line| seen.trace(line))? {
                Read::On { behind: more } => behind += more,
                Read::Anew => return Ok(Read::Anew),
            }
        }
        Ok(Read::On { behind })
    }
}

impl Seen {
    fn history(&mut self, line: &[u8]) {
        let Ok(short) = serde_json::from_slice::<Line>(line) else {
            self.unreadable += u64::from(!line.trim_ascii().is_empty());
            return;
        };
        self.last = self.last.max(short.time);
        match (short.record.as_ref(), short.kind, short.f) {
            ("op", Some(kind), Some(function)) => self.operation(short.time, kind, function, short.fast),
            ("op", _, _) => self.unreadable += 1,
            _ => match serde_json::from_slice(line) {
                Ok(Record::Header(header)) => self.origin = header.origin,
                Ok(Record::Phase(phase)) => {
                    self.event(phase.time, "phase", phase.name.clone());
                    self.phase = Some(phase.name);
                }
                Ok(Record::Nemesis(fault)) => self.fault(&fault),
                Ok(Record::Op(_)) => {}
                Err(_) => self.unreadable += 1,
            },
        }
    }

    fn operation(&mut self, time: u64, kind: Kind, function: Function, fast: bool) {
        if kind == Kind::Invoke {
            self.invoked += 1;
            return;
        }
        let outcomes = self.operations.entry(function).or_default();
        *match kind {
            Kind::Ok => &mut outcomes.ok,
            Kind::Fail => &mut outcomes.fail,
            Kind::Info | Kind::Invoke => &mut outcomes.info,
        } += 1;
        self.fast_reads += u64::from(fast && kind == Kind::Ok);
        self.throughput.count(time, kind);
    }

    fn fault(&mut self, fault: &Nemesis) {
        let nodes: Vec<String> = fault.nodes.iter().map(ToString::to_string).collect();
        let whom = if nodes.is_empty() { "nobody".to_owned() } else { format!("node {}", nodes.join(", ")) };
        let words = format!("{} {} -> {whom}", fault.action, fault.target);
        if !fault.begins {
            if let Some(begun) = self.in_force.remove(&fault.fault) {
                self.undone.push_back(Fault { until: Some(seconds(fault.time)), ..begun });
                self.undone.drain(..self.undone.len().saturating_sub(FAULTS));
            }
            self.event(fault.time, "undone", words);
            return;
        }
        self.faults += 1;
        if kills(&fault.action) {
            fault
                .nodes
                .iter()
                .for_each(|node| self.leaders.died(*node, self.origin.saturating_add(fault.time)));
        }
        self.event(fault.time, "fault", words.clone());
        if !fault.instant && self.in_force.len() < FAULTS {
            let since = seconds(fault.time);
            self.in_force.insert(fault.fault, Fault { number: fault.fault, words, since, until: None });
        }
    }

    fn trace(&mut self, line: &[u8]) {
        match self.leaders.hear(line) {
            Ok(None) => {}
            Ok(Some(change)) => {
                let at = change.common.saturating_sub(self.origin);
                self.event(at, "leader", change.words);
            }
            Err(()) => self.unreadable += u64::from(!line.trim_ascii().is_empty()),
        }
    }

    fn event(&mut self, at: u64, what: &'static str, words: String) {
        self.events.push_front(Event { at: seconds(at), what, words });
        if self.events.len() > EVENTS {
            // history and traces are read in turn: the earliest need not be the last
            let earliest = (0..self.events.len())
                .min_by(|one, other| self.events[*one].at.total_cmp(&self.events[*other].at));
            earliest.map(|earliest| self.events.remove(earliest));
        }
    }

    fn live(&self, behind: u64) -> Live {
        let ended: u64 = self.operations.values().map(|of| of.ok + of.fail + of.info).sum();
        let mut events: Vec<Event> = self.events.iter().cloned().collect();
        events.sort_by(|one, other| other.at.total_cmp(&one.at));
        Live {
            seconds: seconds(self.last),
            phase: self.phase.clone(),
            operations: self.operations.clone(),
            open: self.invoked.saturating_sub(ended),
            fast_reads: self.fast_reads,
            throughput: self.throughput.clone(),
            in_force: self.in_force.values().cloned().collect(),
            undone: self.undone.iter().cloned().collect(),
            faults: self.faults,
            leaders: self.leaders.now(self.origin),
            events,
            behind,
            unreadable: self.unreadable,
        }
    }
}

/// Whether who is struck leads no longer, without having said so.
fn kills(action: &str) -> bool {
    action.starts_with("kill") || ["lose-unsynced", "corrupt-tail", "wipe", "restart"].contains(&action)
}

fn seconds(nanoseconds: u64) -> f64 {
    (nanoseconds / 1_000_000) as f64 / 1000.0
}

#[cfg(test)]
mod tests {
    use std::{fs::OpenOptions, io::Write as _};

    use super::*;

    fn append(path: &Path, text: &str) {
        let mut file = OpenOptions::new().append(true).create(true).open(path).expect("opened");
        file.write_all(text.as_bytes()).expect("written");
    }

    const HEADER: &str =
        "{\"record\":\"header\",\"workload\":\"w\",\"seed\":7,\"origin\":1000000000,\"initial\":[]}\n";

    fn op(time: u64, kind: &str, rest: &str) -> String {
        format!(r#"{{"record":"op","time":{time},"process":1,"client":1,"node":1,"type":"{kind}","#)
            + &format!("\"f\":\"put\",\"key\":1,\"value\":\"{{\\\"x\\\"}}\"{rest}}}\n")
    }

    fn fault(time: u64, begins: bool, action: &str) -> String {
        let whom = r#""target":"leader(1)","nodes":[2]"#;
        format!(
            r#"{{"record":"nemesis","time":{time},"requested":1,"fault":1,"begins":{begins},"action":"{action}",{whom}}}"#
        ) + "\n"
    }

    fn leading(common: u64, node: u64, number: u64, kind: &str) -> String {
        let ballot = format!(r#"{{"config":0,"number":{number},"priority":0,"node":{node}}}"#);
        format!(
            r#"{{"node":{node},"boot":1,"common":{common},"local":5,"kind":"{kind}","partition":1,"ballot":{ballot}}}"#
        ) + "\n"
    }

    #[test]
    fn a_time_that_no_clock_shows_is_no_panic() {
        let folder = tempfile::tempdir().expect("a folder");
        let within = Within::new(folder.path()).expect("a folder");
        append(&folder.path().join(HISTORY), &format!("{HEADER}{}", fault(u64::MAX, true, "kill")));
        let live = Follower::new(Place::default()).on(&within).expect("read");
        assert_eq!((live.faults, live.events.len()), (1, 1));
    }

    #[test]
    fn a_run_is_followed_step_by_step_and_nothing_is_read_twice() {
        let folder = tempfile::tempdir().expect("a folder");
        let within = Within::new(folder.path()).expect("a folder");
        let mut follower = Follower::new(Place::default());
        let live = follower.on(&within).expect("nothing is there yet");
        assert_eq!((live.seconds, live.open, live.leaders.len()), (0.0, 0, 0));
        let (history, trace) = (folder.path().join(HISTORY), folder.path().join("trace"));
        std::fs::create_dir(&trace).expect("made");
        let mut bytes = 0;
        let mut write = |path: &Path, text: &str| {
            append(path, text);
            bytes += text.len() as u64;
            bytes
        };
        let half = op(
            2_500_000_000,
            "ok",
            ",\"returned\":null,\"version\":1,\"leader\":2,\"ballot\":\"b\",\"fast\":true",
        );
        let (begin, end) = half.split_at(40);
        write(&history, &(HEADER.to_owned() + &op(1_500_000_000, "invoke", "") + begin));
        write(&trace.join("node-2.jsonl"), &leading(1_200_000_000, 2, 1, "leading"));
        let live = follower.on(&within).expect("read");
        assert_eq!((live.open, live.operations.len(), live.unreadable), (1, 0, 0));
        let leads =
            |live: &Live| live.leaders.get(&1).cloned().flatten().map(|leader| (leader.node, leader.since));
        assert_eq!(leads(&live), Some((2, 0.2)));
        write(&history, end);
        let all = write(&history, &fault(3_000_000_000, true, "kill"));
        let live = follower.on(&within).expect("read");
        assert_eq!(live.operations[&Function::Put], Outcomes { ok: 1, fail: 0, info: 0 });
        assert_eq!((live.open, live.fast_reads, live.in_force.len(), live.seconds), (0, 1, 1, 3.0));
        assert_eq!((leads(&live), live.leaders.len()), (None, 1), "who is killed leads no longer");
        assert_eq!((live.throughput.at(10), live.throughput.at(9)), ([1, 0, 0], [0, 0, 0]));
        assert_eq!(follower.read(), all);
        write(&trace.join("node-3.jsonl"), &leading(4_600_000_000, 3, 2, "leading"));
        write(&history, &fault(4_000_000_000, false, "kill"));
        let all =
            write(&history, "{\"record\":\"phase\",\"time\":4700000000,\"name\":\"heal\"}\nno record\n\n");
        let live = follower.on(&within).expect("read");
        assert_eq!(
            (leads(&live), live.in_force.len(), live.phase.as_deref()),
            (Some((3, 3.6)), 0, Some("heal"))
        );
        let events: Vec<_> = live.events.iter().map(|event| event.what).collect();
        assert_eq!(events, ["phase", "undone", "leader", "fault", "leader"]);
        assert_eq!((live.unreadable, live.behind, follower.read()), (1, 0, all));
        write(&trace.join("node-3.jsonl"), &leading(5_000_000_000, 3, 2, "stepped-down"));
        assert_eq!(leads(&follower.on(&within).expect("read")), None);
        // another run in the same folder
        std::fs::write(&history, HEADER).expect("written");
        let live = follower.on(&within).expect("read");
        assert_eq!((live.operations.len(), live.faults, live.seconds), (0, 0, 0.0));
    }
}
