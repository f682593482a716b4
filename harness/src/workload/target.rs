//! `[target]`: which system is under test, and what a workload file must not say of it.

use std::{
    collections::BTreeMap,
    ops::Range,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize, de::IgnoredAny};
use toml::Spanned;

use crate::results::PLAN;

use super::{Fault, file, lacks::Lack, scalar::Entry};

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
        let plans = if path.file_name().is_some_and(|name| name == PLAN) { "--plans " } else { "" };
        Err(format!(
            "{name} is for {}, which cannot be simulated: run it as processes, `harness {plans}{name}`",
            self.name()
        ))
    }
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

/// The keys of some tables by name, with their places.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Tables {
    cluster: Names,
    clients: Names,
    operations: Names,
    checks: Names,
    require: Names,
    expect: Names,
}

/// The keys of a table; what they are is skipped.
#[derive(Default, Deserialize)]
#[serde(transparent)]
#[expect(clippy::zero_sized_map_values, reason = "the values are there, and are skipped")]
struct Names(BTreeMap<Spanned<String>, IgnoredAny>);

impl Names {
    fn keys(&self) -> impl Iterator<Item = &Spanned<String>> {
        self.0.keys()
    }

    /// Where a key stands.
    fn place(&self, key: &str) -> Option<Range<usize>> {
        self.keys().find(|name| name.get_ref() == key).map(Spanned::span)
    }
}

/// Refuses what a file says that has no meaning for its target.
pub(super) fn check_file(system: &System, source: &str, file: &file::File) -> Result<(), Fault> {
    if system.is_store() {
        return Ok(());
    }
    let refuse = |place, lack: Lack| Err(Fault::new(place, lack.what, "here").help(lack.help));
    let tables: Tables = toml::from_str(source)?;
    for key in tables.cluster.keys() {
        if !["nodes", "key_type"].contains(&key.get_ref().as_str()) {
            return refuse(key.span(), system.has_no(key.get_ref()));
        }
    }
    if let Some(mutant) = &file.mutant {
        return refuse(mutant.span(), system.has_no("mutant"));
    }
    if let Some(lose) = &file.lose_unsynced {
        return refuse(lose.span(), system.has_no("lose_unsynced"));
    }
    if let Some(name) = file.clocks.keys().next() {
        return refuse(name.span(), system.has_no("clocks"));
    }
    if *file.clients.entry.get_ref() == Entry::Leader {
        return refuse(file.clients.entry.span(), system.has_no("entry = \"leader\""));
    }
    if let Some((key, lack)) = system.lacks_of_clients(*file.clients.share.get_ref(), file.clients.sessions) {
        return refuse(tables.clients.place(key).unwrap_or_default(), lack);
    }
    if let Some(place) = tables.checks.place("lease_safety") {
        return refuse(place, system.has_no("lease_safety"));
    }
    if let Some(lack) = system.lacks_consistency(file.checks.consistency) {
        return refuse(tables.checks.place("consistency").unwrap_or_default(), lack);
    }
    if let Some(lack) = file.expect.by.and_then(|by| system.lacks_check(by)) {
        return refuse(tables.expect.place("by").unwrap_or_default(), lack);
    }
    for statement in &file.expect.that {
        let says = &statement.get_ref().says;
        if !matches!(says.get_ref(), file::Says::Silence | file::Says::Progress | file::Says::Writes) {
            return refuse(says.span(), system.has_no(says.get_ref().text()));
        }
    }
    if let Some(require) = &file.require
        && let Some((key, lack)) = system.lacks_requirement(require.get_ref())
    {
        return refuse(tables.require.place(key).unwrap_or(require.span()), lack);
    }
    if let Some(operations) = file.operations.as_ref().map(Spanned::get_ref) {
        if let Some(lack) = system.lacks_of_mix(operations.mix.get_ref()) {
            return refuse(operations.mix.span(), lack);
        }
        if let Some(lack) = system.lacks_value_size(operations.value_size) {
            return refuse(tables.operations.place("value_size").unwrap_or_default(), lack);
        }
    }
    Ok(())
}
