//! `[target]`: which system is under test, and what the words of a workload file have no meaning for there.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize, de::IgnoredAny};
use toml::Spanned;

use super::{
    Choice, Death, Fault, FaultAction, FaultSpec, LinkRule, Mix, Require, Shape, file,
    scalar::{Entry, Target},
};
use crate::proxy::Match;

/// The system under test.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "kind", deny_unknown_fields)]
pub enum System {
    /// The store of this project.
    #[default]
    Store,
    /// etcd, version 3.
    Etcd {
        /// Its program.
        bin: String,
        /// How reads are asked for.
        reads: EtcdReads,
    },
    /// Redis: a primary, which is node 1, and its replicas.
    Redis {
        /// Its program.
        bin: String,
    },
    /// A node of Maelstrom's protocol: JSON lines on standard input and output.
    Maelstrom {
        /// The command of a node, for the shell; none: the command line has to say.
        bin: Option<String>,
        /// Where that is run; none: where the harness is.
        folder: Option<PathBuf>,
    },
}

/// How etcd is asked to read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum EtcdReads {
    /// Through a quorum.
    #[default]
    Linearizable,
    /// From what the member has, however old.
    Serializable,
}

/// The kinds by name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum SystemKind {
    /// The store of this project.
    #[default]
    Store,
    /// etcd, version 3.
    Etcd,
    /// Redis, a primary and replicas.
    Redis,
    /// Nodes of Maelstrom's protocol.
    Maelstrom,
}

impl SystemKind {
    /// As it is written.
    pub fn text(self) -> &'static str {
        match self {
            Self::Store => "store",
            Self::Etcd => "etcd",
            Self::Redis => "redis",
            Self::Maelstrom => "maelstrom",
        }
    }
}

impl System {
    /// Its kind.
    pub fn kind(&self) -> SystemKind {
        match self {
            Self::Store => SystemKind::Store,
            Self::Etcd { .. } => SystemKind::Etcd,
            Self::Redis { .. } => SystemKind::Redis,
            Self::Maelstrom { .. } => SystemKind::Maelstrom,
        }
    }

    /// Its name.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Store => "the store",
            Self::Etcd { .. } => "etcd",
            Self::Redis { .. } => "Redis",
            Self::Maelstrom { .. } => "a Maelstrom node",
        }
    }

    /// Whether it is this project's store: it alone says who leads, leaves traces and can be simulated.
    pub fn is_store(&self) -> bool {
        *self == Self::Store
    }

    /// An error for whoever would simulate it.
    pub fn simulated(&self, path: &Path) -> Result<(), String> {
        if self.is_store() {
            return Ok(());
        }
        let name = path.display();
        Err(format!(
            "error: {name} is for {}, which cannot be simulated: run it as processes, `harness {name}`",
            self.name()
        ))
    }

    /// Why a fault cannot be done to it; none: it can.
    pub(super) fn lacks(&self, fault: &FaultSpec) -> Option<&'static str> {
        if self.is_store() {
            return None;
        }
        self.lacks_role(&fault.target).or_else(|| match &fault.action {
            FaultAction::Kill(Death::Now) => None,
            FaultAction::Kill(_) | FaultAction::StallDisk { .. } => Some("its disk is out of reach"),
            FaultAction::Wipe => Some("it has no way back in for a member without its disk"),
            FaultAction::TransferLeader { .. } => Some("nobody says who leads"),
            FaultAction::Clock(_) => Some("its clock is out of reach"),
            FaultAction::Links { rule: LinkRule::Frames { matching, .. }, .. } => match self {
                Self::Etcd { .. } | Self::Redis { .. } => Some("its messages are not known, only bytes"),
                _ if *matching != Match::default() => Some("its messages have no kinds that are known"),
                _ => None,
            },
            FaultAction::Links { .. }
            | FaultAction::Restart
            | FaultAction::Pause
            | FaultAction::Resume
            | FaultAction::Release
            | FaultAction::Reset
            | FaultAction::Heal => None,
        })
    }

    /// Why it is not known which nodes a target means; none: it is.
    pub(super) fn lacks_role(&self, target: &Target) -> Option<&'static str> {
        match target {
            _ if self.is_store() => None,
            Target::Leader(_) | Target::LeaseHolder(_) | Target::Follower(_) | Target::Followers(_) => {
                Some("does not say who leads")
            }
            Target::Lagging(_) => Some("does not say how far a node has come"),
            Target::Minority(Some(_)) | Target::Majority(Some(_)) => Some("has no partitions that are known"),
            Target::Node(_)
            | Target::Nodes(_)
            | Target::Random
            | Target::All
            | Target::Minority(None)
            | Target::Majority(None)
            | Target::Answered(_) => None,
        }
    }
}

/// Of these faults those that can be done to the system, each once: a role that nobody tells of is any node.
pub(super) fn possible(system: &System, choices: Vec<Choice>) -> Vec<Choice> {
    if system.is_store() {
        return choices;
    }
    let mut possible: Vec<Choice> = Vec::new();
    for mut choice in choices {
        if system.lacks_role(&choice.fault.target).is_some() {
            choice.fault.target = Target::Random;
        }
        if let FaultAction::Links { shape: Shape::Between { peer: Some(peer), .. }, .. } =
            &mut choice.fault.action
            && system.lacks_role(peer).is_some()
        {
            *peer = Target::Random;
        }
        if system.lacks(&choice.fault).is_none() && !possible.contains(&choice) {
            possible.push(choice);
        }
    }
    possible
}

/// The keys of `[cluster]` by name, for systems that have few of them.
#[derive(Deserialize)]
#[expect(clippy::zero_sized_map_values, reason = "the values are there, and are skipped")]
struct ClusterKeys {
    cluster: BTreeMap<Spanned<String>, IgnoredAny>,
}

/// What `[target]` of a file in this folder says.
pub(super) fn check(table: Option<file::System>, folder: &Path) -> Result<System, Fault> {
    let Some(file::System { kind, bin, reads }) = table else { return Ok(System::Store) };
    let meaningless = |place, key: &str, help: &str| {
        Err(Fault::new(place, format!("`{key}` has no meaning for this target"), "here").help(help))
    };
    match (kind, bin, reads) {
        (SystemKind::Store, Some(bin), _) => {
            meaningless(bin.span(), "bin", "the store's nodes are the harness itself: remove this line")
        }
        (SystemKind::Store | SystemKind::Redis | SystemKind::Maelstrom, _, Some(reads)) => meaningless(
            reads.span(),
            "reads",
            "only etcd can be asked to read in another way: remove this line",
        ),
        (SystemKind::Store, None, None) => Ok(System::Store),
        (SystemKind::Etcd, bin, reads) => Ok(System::Etcd {
            bin: bin.map_or_else(|| "etcd".to_owned(), Spanned::into_inner),
            reads: reads.map(Spanned::into_inner).unwrap_or_default(),
        }),
        (SystemKind::Redis, bin, None) => {
            Ok(System::Redis { bin: bin.map_or_else(|| "redis-server".to_owned(), Spanned::into_inner) })
        }
        (SystemKind::Maelstrom, bin, None) => {
            let folder = bin.is_some().then(|| folder.to_owned());
            Ok(System::Maelstrom { bin: bin.map(Spanned::into_inner), folder })
        }
    }
}

/// Refuses what a file says that has no meaning for its target.
pub(super) fn check_file(system: &System, source: &str, file: &file::File) -> Result<(), Fault> {
    if system.is_store() {
        return Ok(());
    }
    let refuse = |place, key: &str| {
        Err(Fault::new(place, format!("`{key}` has no meaning for {}", system.name()), "here")
            .help("remove it: only the store of this project has that"))
    };
    let keys: ClusterKeys = toml::from_str(source)?;
    for key in keys.cluster.into_keys() {
        if !["nodes", "key_type"].contains(&key.get_ref().as_str()) {
            return refuse(key.span(), key.get_ref());
        }
    }
    if let Some(mutant) = &file.mutant {
        return refuse(mutant.span(), "mutant");
    }
    if let Some(lose) = &file.lose_unsynced {
        return refuse(lose.span(), "lose_unsynced");
    }
    if let Some(name) = file.clocks.keys().next() {
        return refuse(name.span(), "clocks");
    }
    if *file.clients.entry.get_ref() == Entry::Leader {
        return refuse(file.clients.entry.span(), "entry = \"leader\"");
    }
    if file.clients.sessions {
        return refuse(file.clients.entry.span(), "sessions");
    }
    for statement in &file.expect.that {
        let says = &statement.get_ref().says;
        if !matches!(says.get_ref(), file::Says::Silence | file::Says::Progress | file::Says::Writes) {
            return refuse(says.span(), says.get_ref().text());
        }
    }
    if let Some(require) = &file.require
        && let Some(key) = beyond(require.get_ref())
    {
        return refuse(require.span(), key);
    }
    if let (System::Maelstrom { .. }, Some(operations)) = (system, &file.operations) {
        let mix: &Spanned<Mix> = &operations.get_ref().mix;
        if mix.get_ref().delete > 0 {
            return Err(Fault::new(mix.span(), "lin-kv has no `delete`", "deletes")
                .help("remove `delete` from the mix"));
        }
    }
    Ok(())
}

/// What is required that only the store shows.
fn beyond(require: &Require) -> Option<&'static str> {
    let asked = [
        ("leader_changes", require.leader_changes),
        ("fast_reads", require.fast_reads),
        ("local_reads", require.local_reads),
        ("redirects", require.redirects),
        ("asked_again", require.asked_again),
        ("snapshots_fetched", require.snapshots_fetched),
        ("fast_read_near_expiry", u64::from(require.fast_read_near_expiry)),
    ];
    asked.into_iter().find(|(_, asked)| *asked > 0).map(|(key, _)| key)
}
