//! What a load came to.

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

use super::{Kind, Verdict};

/// Different complaints that are kept.
const COMPLAINTS: usize = 5;

/// The longest latency that is told from longer ones: an hour.
const LONGEST: u64 = 3_600_000_000_000;

/// How many operations ended how. All that were asked are right, wrong, failed or unknown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// Sent, or, at a fixed rate, due.
    pub asked: u64,
    /// Answered as they must be.
    pub right: u64,
    /// Answered otherwise.
    pub wrong: u64,
    /// Certainly not carried out: refused, or never sent since the connection was lost.
    pub failed: u64,
    /// Not answered, or with an error that leaves open whether it was carried out.
    pub unknown: u64,
    /// Of the right ones: reads that a leader answered under its lease.
    pub fast: u64,
    /// Of the right ones: answered by another node than the one that was asked.
    pub elsewhere: u64,
    /// Of the right ones: answered before the load's time was over.
    pub in_time: u64,
}

/// Operations of one kind.
#[derive(Clone, Debug)]
struct Tally {
    counts: Counts,
    latencies: Histogram<u64>,
}

/// What came of the operations of one connection.
#[derive(Debug)]
pub struct Ended {
    tallies: [Tally; 3],
    complaints: Vec<String>,
    /// When the last answer came.
    pub last_answer: u64,
}

impl Ended {
    pub fn new() -> Self {
        Self { tallies: Kind::ALL.map(|_| Tally::new()), complaints: Vec::new(), last_answer: 0 }
    }

    fn tally(&mut self, kind: Kind) -> &mut Tally {
        &mut self.tallies[kind as usize]
    }

    pub fn asked(&mut self, kind: Kind) {
        self.tally(kind).counts.asked += 1;
    }

    pub fn unanswered(&mut self, kind: Kind) {
        self.tally(kind).counts.unknown += 1;
    }

    pub fn answered(&mut self, kind: Kind, verdict: Verdict, latency: u64, in_time: bool) {
        let tally = &mut self.tallies[kind as usize];
        match verdict {
            Verdict::Right { fast, elsewhere } => {
                tally.counts.right += 1;
                tally.counts.fast += u64::from(fast);
                tally.counts.elsewhere += u64::from(elsewhere);
                tally.counts.in_time += u64::from(in_time);
                tally.latencies.saturating_record(latency);
            }
            Verdict::Wrong(why) => {
                tally.counts.wrong += 1;
                self.complain(format!("{}: {why}", kind.name()));
            }
            Verdict::Failed(why) => {
                tally.counts.failed += 1;
                self.complain(format!("{}: {why}", kind.name()));
            }
            Verdict::Unknown(why) => {
                tally.counts.unknown += 1;
                self.complain(format!("{}: {why}", kind.name()));
            }
        }
    }

    /// The connection ended when these were still due.
    pub fn lost(&mut self, why: &str, due: impl Iterator<Item = Kind>) {
        for kind in due {
            let counts = &mut self.tally(kind).counts;
            counts.asked += 1;
            counts.failed += 1;
        }
        self.complain(format!("a connection was lost: {why}"));
    }

    fn complain(&mut self, complaint: String) {
        if self.complaints.len() < COMPLAINTS && !self.complaints.contains(&complaint) {
            self.complaints.push(complaint);
        }
    }
}

impl Tally {
    fn new() -> Self {
        Self {
            counts: Counts::default(),
            latencies: Histogram::new_with_bounds(1, LONGEST, 3).expect("three digits"),
        }
    }
}

/// What a load came to.
#[derive(Debug)]
pub struct Outcome {
    /// How long it took, in seconds.
    pub seconds: f64,
    tallies: [Tally; 3],
    /// What went wrong, the first few different things of each connection.
    pub complaints: Vec<String>,
}

impl Outcome {
    pub(super) fn new(seconds: f64) -> Self {
        Self { seconds, tallies: Kind::ALL.map(|_| Tally::new()), complaints: Vec::new() }
    }

    pub(super) fn add(&mut self, ended: Ended) {
        for (all, one) in self.tallies.iter_mut().zip(ended.tallies) {
            all.counts.add(&one.counts);
            all.latencies.add(&one.latencies).expect("it grows by itself");
        }
        for complaint in ended.complaints {
            if !self.complaints.contains(&complaint) {
                self.complaints.push(complaint);
            }
        }
    }

    /// How all operations ended.
    pub fn counts(&self) -> Counts {
        let mut all = Counts::default();
        for tally in &self.tallies {
            all.add(&tally.counts);
        }
        all
    }

    /// Figures of each kind of which there were operations.
    pub fn figures(&self) -> Vec<Figures> {
        let asked = Kind::ALL.iter().zip(&self.tallies).filter(|(_, tally)| tally.counts.asked > 0);
        asked.map(|(kind, tally)| Figures::of(kind.name(), tally, self.seconds)).collect()
    }

    /// Right answers a second, of all kinds.
    pub fn per_second(&self) -> f64 {
        self.counts().in_time as f64 / self.seconds
    }
}

impl Counts {
    fn add(&mut self, other: &Self) {
        self.asked += other.asked;
        self.right += other.right;
        self.wrong += other.wrong;
        self.failed += other.failed;
        self.unknown += other.unknown;
        self.fast += other.fast;
        self.elsewhere += other.elsewhere;
        self.in_time += other.in_time;
    }

    /// Whether something was asked, and everything was answered as it must be.
    pub fn is_good(&self) -> bool {
        self.asked > 0 && self.right == self.asked
    }
}

/// The middle one of some values; not a number without any.
pub fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

/// Figures of one kind of operation. Latencies, in microseconds, are those of right answers; null without any.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Figures {
    /// The kind.
    pub kind: String,
    /// How many ended how.
    #[serde(flatten)]
    pub counts: Counts,
    /// Right answers a second.
    pub per_second: f64,
    /// Half took no longer.
    pub p50_us: Option<f64>,
    /// Nine of ten took no longer.
    pub p90_us: Option<f64>,
    /// 99 of a hundred took no longer.
    pub p99_us: Option<f64>,
    /// 999 of a thousand took no longer.
    pub p999_us: Option<f64>,
    /// The longest.
    pub max_us: Option<f64>,
}

impl Figures {
    fn of(kind: &str, tally: &Tally, seconds: f64) -> Self {
        let some = |nanos: u64| (tally.counts.right > 0).then_some(nanos as f64 / 1e3);
        let at = |quantile| some(tally.latencies.value_at_quantile(quantile));
        Self {
            kind: kind.to_owned(),
            counts: tally.counts,
            per_second: tally.counts.in_time as f64 / seconds,
            p50_us: at(0.5),
            p90_us: at(0.9),
            p99_us: at(0.99),
            p999_us: at(0.999),
            max_us: some(tally.latencies.max()),
        }
    }
}
