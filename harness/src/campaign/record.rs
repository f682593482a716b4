//! `campaign.json`: what a campaign has done so far, for those who go on with it, merge it with others, or read it.
//!
//! It is written whole after each piece of work. Everything that is printed of a campaign is made from it.

use std::{
    collections::BTreeMap,
    fs,
    io::Write as _,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use super::list::Shard;
use crate::results::write_whole;

/// The name of the file.
pub const FILE: &str = "campaign.json";

/// Of the format. A file of another version is refused.
pub const VERSION: u64 = 1;

/// Seeds of a class that are named.
const NAMED: usize = 5;

/// A campaign, or several that were merged.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Campaign {
    /// [`VERSION`].
    pub version: u64,
    /// What it goes through.
    pub head: Head,
    /// Whether it is over.
    pub ended: Ended,
    /// The first piece of the list that it has not looked at.
    pub next: u64,
    /// The first run on real processes that it has not looked at.
    pub next_real: u64,
    /// How long it has taken so far; of several the longest.
    pub took_ms: u64,
    /// Digests of the workloads' texts.
    pub texts: BTreeMap<String, String>,
    /// What came of each workload.
    pub records: Vec<Record>,
}

/// What is read of a file before all else.
#[derive(Debug, Deserialize)]
pub(super) struct Version {
    pub(super) version: u64,
}

/// What a campaign goes through. Two of them belong together if they differ in nothing but the number of the shard.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Head {
    /// The program: the commit that it was built from, if that was told when it was built, or its digest.
    pub program: String,
    /// Which shard of how many.
    pub shard: Shard,
    /// Seeds of workloads: from the first up to, and without, the second.
    pub seeds: (u64, u64),
    /// Digest of the list: names, texts and weights of all workloads, in their order.
    pub workloads: String,
    /// Digest of what earlier campaigns had left, if they left anything.
    pub state: Option<String>,
}

/// Whether a campaign is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Ended {
    /// Not yet, or it was killed.
    NotYet,
    /// Its time was up: how far it got depends on the machine.
    TimeIsUp,
    /// All seeds were run.
    AllIsDone,
}

/// How a workload is run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    /// In simulated time, to see whether anything would be seen.
    Canary,
    /// In simulated time.
    #[default]
    Simulation,
    /// On real processes.
    Real,
}

/// What came of a workload in one mode.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Record {
    /// The workload: its file, with its place in the folder that was searched.
    pub workload: String,
    /// How it is run.
    pub mode: Mode,
    /// It expects a violation.
    pub negative: bool,
    /// Its planted bug.
    pub mutant: Option<String>,
    /// How often that was reached.
    pub reached: u64,
    /// What was run.
    pub blocks: Vec<Block>,
    /// Seeds that are undecided.
    pub undecided: u64,
    /// Why the lowest of them is.
    pub why: Option<Note>,
    /// Why the simulator, or what keeps its runs, failed: the lowest seed.
    pub failed: Option<Note>,
    /// Seeds under which anything was found.
    #[serde(default)]
    pub failing: u64,
    /// What was found, by kind and shape.
    pub classes: Vec<Class>,
    /// Its time was up before all of its seeds were run, and before anything was found.
    #[serde(default)]
    pub cut_short: bool,
    /// What the seeds contained.
    pub coverage: BTreeMap<String, u64>,
    /// How long the seeds took, without shrinking.
    pub took_ms: u64,
}

/// Seeds that were run one after the other.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Block {
    /// The first.
    pub first: u64,
    /// How many.
    pub seeds: u64,
    /// A hash of everything that happened in each, in hexadecimal digits.
    pub fingerprint: String,
}

/// Something about a seed.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Note {
    /// The seed.
    pub seed: u64,
    /// What.
    pub words: String,
}

/// What was found, and looks alike.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Class {
    /// The check, with the invariant if it names one.
    pub kind: String,
    /// What the smallest plan that shows it has: its faults and operations. None: no seed of it was shrunk.
    pub shape: Option<String>,
    /// A negative workload expects it.
    pub expected: bool,
    /// The planted bug has no part in it: it was never reached, or the same plan shows it without the bug, too.
    #[serde(default)]
    pub of_the_store: bool,
    /// How many seeds.
    pub count: u64,
    /// The lowest of them.
    pub seeds: Vec<u64>,
    /// What is found under the lowest.
    pub words: String,
    /// How small the plan of that is.
    pub size: Option<String>,
    /// How long it took to shrink it.
    pub shrink_ms: u64,
    /// How to see it again.
    pub again: String,
    /// Folders of runs that show it, below that of the campaign: they stay as long as they are named here.
    #[serde(default)]
    pub kept: Vec<PathBuf>,
    /// The smallest plan that shows it, if it was shrunk.
    pub plan: Option<String>,
}

impl Campaign {
    /// Reads what a campaign has written in a folder.
    pub fn load(folder: &Path) -> Result<Self> {
        let path = folder.join(FILE);
        let text = fs::read_to_string(&path).with_context(|| format!("{} cannot be read", path.display()))?;
        Self::parse(&text).with_context(|| format!("{} cannot be used", path.display()))
    }

    fn parse(text: &str) -> Result<Self> {
        let Version { version } = serde_json::from_str(text).context("it is damaged, or no campaign's")?;
        anyhow::ensure!(version == VERSION, "its version is {version}, this program reads {VERSION}");
        serde_json::from_str(text).context("it is damaged")
    }

    /// The record of a workload; if there is none yet, it begins with this one. Canaries and those that expect a violation come
    /// first.
    pub fn record(&mut self, new: Record) -> &mut Record {
        let key = |record: &Record| (record.mode, !record.negative, record.workload.clone());
        let place = match self.records.binary_search_by_key(&key(&new), key) {
            Ok(place) => place,
            Err(place) => {
                self.records.insert(place, new);
                place
            }
        };
        &mut self.records[place]
    }

    /// Takes these canaries instead of those of before.
    pub fn replace_canaries(&mut self, canaries: Vec<Record>) {
        self.records.retain(|record| record.mode != Mode::Canary);
        for canary in canaries {
            self.record(canary);
        }
    }

    /// Writes it, whole or not at all.
    pub fn write(&self, folder: &Path) -> Result<()> {
        fs::create_dir_all(folder).with_context(|| format!("cannot make the folder {}", folder.display()))?;
        let text = serde_json::to_string_pretty(self)?;
        write_whole(&folder.join(FILE), |out| Ok(out.write_all(text.as_bytes())?))
    }
}

impl Head {
    /// In what two campaigns differ that are shards of one, or the same.
    pub fn differs(&self, other: &Self) -> Vec<String> {
        let Self { program, shard, seeds, workloads, state } = self;
        let mut differs = Vec::new();
        if *program != other.program {
            differs.push(format!("{program} and not {}", other.program));
        }
        if *shard != other.shard {
            differs.push(format!("shard {shard} and not {}", other.shard));
        }
        if *seeds != other.seeds {
            differs
                .push(format!("seeds {}..{} and not {}..{}", seeds.0, seeds.1, other.seeds.0, other.seeds.1));
        }
        if *workloads != other.workloads {
            differs.push("other workloads, or texts of them".to_owned());
        }
        if *state != other.state {
            differs.push("another state of earlier campaigns".to_owned());
        }
        differs
    }
}

impl Mode {
    /// As it is written.
    pub fn text(self) -> &'static str {
        match self {
            Self::Canary => "canary",
            Self::Simulation => "simulation",
            Self::Real => "real",
        }
    }
}

impl Record {
    /// Nothing was run yet of a workload, which has no name yet either.
    pub fn new(mode: Mode, negative: bool) -> Self {
        Self {
            workload: String::new(),
            mode,
            negative,
            mutant: None,
            reached: 0,
            blocks: Vec::new(),
            undecided: 0,
            why: None,
            failed: None,
            failing: 0,
            classes: Vec::new(),
            cut_short: false,
            coverage: BTreeMap::new(),
            took_ms: 0,
        }
    }

    /// Seeds that were run.
    pub fn seeds(&self) -> u64 {
        self.blocks.iter().map(|block| block.seeds).sum()
    }

    /// The class that says most: a violation of the store itself, or else what is expected, or else the one of the lowest seed.
    pub fn shown(&self) -> Option<&Class> {
        self.classes
            .iter()
            .min_by_key(|class| (!class.of_the_store, !class.expected, class.seeds.first().copied()))
    }

    /// Whether a class is something that nobody expects. What else a planted bug brings about is put down to it, where some seed
    /// shows what is expected of it.
    pub fn is_alarm(&self, class: &Class) -> bool {
        let excused = self.negative && self.classes.iter().any(|class| class.expected);
        !class.expected && (class.of_the_store || !excused)
    }

    /// Why the lowest undecided seed is undecided.
    pub fn undecided(&mut self, note: Note) {
        self.undecided += 1;
        lowest(&mut self.why, note);
    }

    /// The simulator, or what keeps its runs, failed under a seed.
    pub fn failed(&mut self, note: Note) {
        lowest(&mut self.failed, note);
    }

    /// A seed has shown something, or many have.
    pub fn found(&mut self, class: Class) {
        let key =
            |class: &Class| (class.kind.clone(), class.shape.clone(), class.expected, class.of_the_store);
        match self.classes.binary_search_by_key(&key(&class), key) {
            Ok(place) => self.classes[place].and(class),
            Err(place) => self.classes.insert(place, class),
        }
    }

    /// What another shard has found out about the same workload.
    pub fn and(&mut self, other: Self) {
        self.reached += other.reached;
        self.blocks.extend(other.blocks);
        self.blocks.sort_by_key(|block| block.first);
        self.undecided += other.undecided;
        if let Some(why) = other.why {
            lowest(&mut self.why, why);
        }
        if let Some(failed) = other.failed {
            lowest(&mut self.failed, failed);
        }
        self.failing += other.failing;
        self.cut_short |= other.cut_short;
        for class in other.classes {
            self.found(class);
        }
        for (name, count) in other.coverage {
            *self.coverage.entry(name).or_default() += count;
        }
        self.took_ms += other.took_ms;
    }
}

impl Class {
    /// Both together, told by the one of the lower seed.
    pub fn and(&mut self, other: Self) {
        let count = self.count + other.count;
        let mut seeds = [self.seeds.as_slice(), &other.seeds].concat();
        seeds.sort_unstable();
        seeds.truncate(NAMED);
        let mut kept = [self.kept.as_slice(), &other.kept].concat();
        kept.sort_unstable();
        kept.dedup();
        if other.seeds.first() < self.seeds.first() {
            *self = other;
        }
        (self.count, self.seeds, self.kept) = (count, seeds, kept);
    }
}

fn lowest(kept: &mut Option<Note>, note: Note) {
    if kept.as_ref().is_none_or(|kept| note < *kept) {
        *kept = Some(note);
    }
}

/// A hash of bytes, in hexadecimal digits. Not for secrets.
pub fn digest(bytes: &[u8]) -> String {
    format!("{:016x}", xxhash_rust::xxh3::xxh3_64(bytes))
}
