//! From a file as written to a workload that makes sense: everything that parses and is still impossible is found here.

use std::{
    collections::BTreeSet,
    ops::{Range, RangeInclusive},
    path::Path,
};

use store::{
    api::{Key, KeyType, NodeId, PartitionId},
    config::{
        ClockSkew, ClusterConfig, LeaseConfig, MOST_LOG_BYTES, Mutant, PartitionConfig, Partitioning,
        ReadMode, SESSION_IDLE_MS, StorageKind, TestOptions, TrimConfig,
    },
};
use toml::Spanned;

use super::{
    Action, Checks, Clients, Consistency, Delays, Distribution, Entry, Expect, ExpectedVerdict, Fault,
    FaultSpec, LinkDelay, Mix, NemesisEntry, NodeClock, Operations, System, Word, Workload,
    faults::{self, distribution},
    file, keys, permanent, random, require,
    scalar::{FileKey, Target},
    script, statement, store_key, target,
};

/// More than this many clients, or keys, are a slip of the hand, and would take all memory before anything is said.
const MOST_CLIENTS: u64 = 10_000;
pub const MOST_KEYS: u64 = 1_000_000;

/// What later checks need to know of the cluster.
pub struct Scope<'a> {
    /// How many nodes there are.
    pub nodes: u64,
    /// The system under test.
    pub system: &'a System,
    /// The cluster.
    pub cluster: &'a ClusterConfig,
    /// Clocks may be worse than the leases allow for: a violation is expected.
    pub outside: bool,
    /// The names that `[[nemesis]]` entries have.
    pub names: Vec<String>,
}

/// Checks a whole file, which lies in this folder.
pub fn check(
    name: String,
    (negative, folder): (bool, &Path),
    (source, mut file): (&str, file::File),
) -> Result<Workload, Fault> {
    let system = target::check(file.target.take(), folder)?;
    target::check_file(&system, source, &file)?;
    if !system.is_store() {
        file.checks.lease_safety = false;
    }
    let table = file.cluster.get_ref();
    let nodes = *table.nodes.get_ref();
    let late = table.late.clone();
    let reads = table.reads.clone();
    let cluster = check_cluster(&name, &system, file.cluster)?;
    let violation = file.expect.verdict == ExpectedVerdict::Violation;
    if let Some(reads) = reads
        && *reads.get_ref() == ReadMode::Local
        && file.checks.consistency == Consistency::Linearizable
        && !(negative && violation)
    {
        return Err(Fault::new(reads.span(), "local reads are not linearizable", "any replica answers").help(
            "write `consistency = \"sequential\"` in `[checks]`, which is what they promise, or remove this line",
        ));
    }
    let names = file.nemesis.iter().filter_map(|entry| entry.get_ref().name.as_ref());
    let names = names.map(|name| name.get_ref().clone()).collect();
    let scope = Scope { nodes, system: &system, cluster: &cluster, outside: negative && violation, names };
    for node in &late {
        scope.node(*node.get_ref(), node.span())?;
    }
    let network = check_network(&scope, &file.network)?;
    let clocks = check_clocks(&scope, &file.clocks)?;
    let clients = check_clients(&scope, file.clients)?;
    let operations = file.operations.map(|table| check_operations(&scope, table)).transpose()?;
    let nemesis = file
        .nemesis
        .into_iter()
        .map(|entry| Ok((entry.span(), faults::check_entry(&scope, file.phases.faults, entry)?)))
        .collect::<Result<Vec<_>, Fault>>()?;
    let random = file.random.map(|table| random::check(&scope, table)).transpose()?;
    let places: Vec<Range<usize>> = file.steps.iter().map(Spanned::span).collect();
    let steps = script::check(&scope, &clients, file.steps)?;
    let faults = nemesis.iter().map(|(place, entry)| (place.clone(), &entry.fault));
    let in_steps = places.into_iter().zip(&steps).filter_map(|(place, step)| match &step.action {
        Action::Fault(fault) => Some((place, fault)),
        _ => None,
    });
    permanent::check_core(&scope, &faults.chain(in_steps).collect::<Vec<_>>())?;
    let nemesis: Vec<NemesisEntry> = nemesis.into_iter().map(|(_, entry)| entry).collect();
    let lose_unsynced = file.lose_unsynced.map(|lose| {
        if *lose.get_ref() && cluster.storage == StorageKind::Memory {
            return Err(Fault::new(lose.span(), "nothing is synced in memory", "has no meaning here")
                .help("write `storage = \"durable\"` in `[cluster]`, or remove this line"));
        }
        Ok(lose.into_inner())
    });
    let in_steps = steps.iter().filter_map(|step| match &step.action {
        Action::Fault(fault) => fault.name.clone(),
        _ => None,
    });
    let all_names: Vec<String> = scope.names.iter().cloned().chain(in_steps).collect();
    let that = statement::check(&scope, &all_names, file.expect.that)?;
    let loses = |fault: &FaultSpec| fault.word == Word::LoseUnsynced;
    let in_steps = steps.iter().any(|step| matches!(&step.action, Action::Fault(fault) if loses(fault)));
    let test = TestOptions {
        mutant: file
            .mutant
            .map(|mutant| check_mutant(mutant, &file.checks, negative, violation))
            .transpose()?,
        lose_unsynced: lose_unsynced.transpose()?.unwrap_or_default()
            || in_steps
            || nemesis.iter().any(|entry| loses(&entry.fault))
            || random.iter().flat_map(|random| &random.choices).any(|choice| loses(&choice.fault)),
        ..TestOptions::default()
    };
    let require = require::check(&cluster, &clients, file.require)?;
    Ok(Workload {
        name,
        about: file.about,
        system,
        nodes,
        late: late.into_iter().map(Spanned::into_inner).collect(),
        test,
        network,
        clocks,
        clients,
        operations,
        nemesis,
        random,
        steps,
        phases: file.phases,
        checks: file.checks,
        require,
        expect: Expect { verdict: file.expect.verdict, by: file.expect.by, that },
        cluster,
    })
}

fn check_mutant(
    mutant: Spanned<Mutant>,
    checks: &Checks,
    negative: bool,
    violation: bool,
) -> Result<Mutant, Fault> {
    let control = mutant.get_ref().is_control();
    if control && violation {
        return Err(Fault::new(mutant.span(), "a control changes no behaviour", "nothing to find").help(
            "remove `verdict = \"violation\"` from `[expect]`: a workload with a control must be valid",
        ));
    }
    if !checks.lease_safety {
        return Err(Fault::new(
            mutant.span(),
            "nothing would tell whether the bug was reached",
            "planted here",
        )
        .help("remove `lease_safety = false` from `[checks]`: the traces tell of it"));
    }
    if !negative || !violation && !control {
        return Err(Fault::new(mutant.span(), "a planted bug outside a negative workload", "planted here").help(
            "move the file into a folder named `negative` and add `[expect]` with `verdict = \"violation\"`, \
             or remove this line",
        ));
    }
    Ok(mutant.into_inner())
}

fn check_cluster(name: &str, system: &System, table: Spanned<file::Cluster>) -> Result<ClusterConfig, Fault> {
    let place = table.span();
    let table = table.into_inner();
    let (partitions, lease) = match (table.partitions, table.lease, system) {
        (Some(partitions), Some(lease), _) => (partitions, lease),
        // one range of all keys, and leases that nobody asks about
        (None, None, system) if !system.is_store() => {
            let whole = file::Partition { lower: None, upper: None, replicas: Vec::new() };
            let whole = file::Partitions::List(vec![Spanned::new(0..0, whole)]);
            (Spanned::new(0..0, whole), Spanned::new(0..0, file::Lease::Off))
        }
        (None, ..) => return Err(missing(place, "partitions")),
        (Some(_), None, _) => return Err(missing(place, "lease")),
    };
    let nodes = at_least(&table.nodes, 1, "nodes")?;
    if nodes > 64 {
        return Err(Fault::new(table.nodes.span(), "too many nodes", "more than one machine bears")
            .help("write a number from 1 to 64"));
    }
    let threshold = table.threshold.as_ref().map_or(Ok(nodes), |threshold| {
        at_least(threshold, 1, "nodes before clients are served")?;
        at_most(threshold, nodes, "threshold", "there are only as many nodes")
    })?;
    let key_type = match table.key_type {
        file::KeyType::Integer => KeyType::Integer,
        file::KeyType::String => KeyType::String,
    };
    let replication = table.replication.as_ref().map_or(Ok(nodes.min(3)), |replication| {
        at_least(replication, 1, "replicas of each partition")?;
        at_most(replication, nodes, "replication", "a partition's replicas live on different nodes")
    })?;
    let heartbeat_ms = at_least(&table.heartbeat_ms, 1, "milliseconds between heartbeats")?;
    let missed_rounds = at_least(&table.missed_rounds, 1, "missed rounds before a node is suspected")?;
    let mut cluster = ClusterConfig {
        name: name.to_owned(),
        key_type,
        partitioning: table.partitioning,
        partitions: check_partitions(partitions, (table.partitioning, key_type), nodes, replication)?,
        threshold,
        heartbeat_ms,
        missed_rounds,
        lease: check_lease(&lease, heartbeat_ms * missed_rounds)?,
        request_timeout_ms: at_least(&table.request_timeout_ms, 1, "milliseconds")?,
        session_idle_ms: table.session_idle_ms.as_ref().map_or(Ok(SESSION_IDLE_MS), |idle| {
            at_least(idle, 4, "milliseconds, of which the leader looks every quarter")
        })?,
        storage: table.storage,
        routing: table.routing,
        reads: table.reads.map(Spanned::into_inner).unwrap_or_default(),
        trimming: check_trimming(table.snapshot_after_bytes.as_ref(), table.keep_log_bytes.as_ref())?,
        preset: Vec::new(),
    };
    cluster.preset = keys::check_preset(&cluster, table.preset)?;
    Ok(cluster)
}

fn missing(place: Range<usize>, name: &str) -> Fault {
    Fault::new(place, format!("missing key `{name}`"), "in this table")
        .help(format!("add `{name} = …` to the table"))
}

fn check_trimming(
    snapshot_after: Option<&Spanned<u64>>,
    keep: Option<&Spanned<u64>>,
) -> Result<TrimConfig, Fault> {
    let mut trimming = TrimConfig::default();
    if let Some(bytes) = snapshot_after {
        trimming.snapshot_after_bytes =
            between(bytes, 1..=MOST_LOG_BYTES, "bytes from one snapshot to the next")?;
    }
    if let Some(bytes) = keep {
        trimming.keep_log_bytes =
            between(bytes, 0..=MOST_LOG_BYTES, "bytes that are kept for a member that lags")?;
    }
    Ok(trimming)
}

fn check_lease(lease: &Spanned<file::Lease>, election_timeout: u64) -> Result<Option<LeaseConfig>, Fault> {
    let file::Lease::On(config) = lease.get_ref() else { return Ok(None) };
    if config.duration_ms > election_timeout {
        return Err(Fault::new(
            lease.span(),
            "the lease is longer than the election timeout",
            format!("{} ms, with an election timeout of {election_timeout} ms", config.duration_ms),
        )
        .help(format!(
            "write `duration_ms = {election_timeout}` or less, or raise `heartbeat_ms` or `missed_rounds`: the \
             election timeout is their product"
        )));
    }
    if config.duration_ms == 0 || config.drift_ppm >= 1_000_000 {
        return Err(Fault::new(lease.span(), "no lease can last under these numbers", "here")
            .help("write a `duration_ms` above 0 and a `drift_ppm` below 1000000, or `lease = \"off\"`"));
    }
    Ok(Some(*config))
}

fn check_partitions(
    partitions: Spanned<file::Partitions>,
    (partitioning, key_type): (Partitioning, KeyType),
    nodes: u64,
    replication: u64,
) -> Result<Vec<PartitionConfig>, Fault> {
    let span = partitions.span();
    let list = match partitions.into_inner() {
        file::Partitions::Even(even) if partitioning == Partitioning::Hash => {
            return hash_partitions(&even, replication);
        }
        file::Partitions::Even(even) => return even_partitions(span, &even, key_type, replication),
        file::Partitions::List(list) => list,
    };
    if list.is_empty() {
        return Err(Fault::new(span, "a cluster without partitions", "empty")
            .help("write `[{}]` for one range of all keys"));
    }
    let ranges = list.len();
    let mut checked: Vec<PartitionConfig> = Vec::new();
    for (index, partition) in list.into_iter().enumerate() {
        let whole = partition.span();
        let partition = partition.into_inner();
        let lower = partition.lower.as_ref().map(|key| typed(key, key_type)).transpose()?;
        let upper = partition.upper.as_ref().map(|key| typed(key, key_type)).transpose()?;
        if let (Partitioning::Hash, Some(bound)) =
            (partitioning, partition.lower.as_ref().or(partition.upper.as_ref()))
        {
            return Err(bound_of_hash(bound.span()));
        }
        if let (Some(low), Some(high)) = (&lower, &upper)
            && low >= high
        {
            return Err(Fault::new(whole, "an empty range", format!("{low} is not below {high}"))
                .help("a partition holds the keys in [lower, upper)"));
        }
        if let Some(before) = checked.last().filter(|_| partitioning == Partitioning::Range) {
            let place = partition.lower.as_ref().map_or(whole.clone(), Spanned::span);
            let ascending = matches!((&before.upper, &lower), (Some(upper), Some(lower)) if upper <= lower);
            if !ascending {
                let end = before
                    .upper
                    .as_ref()
                    .map_or_else(|| "no upper bound".to_owned(), |key| format!("`upper = {key}`"));
                return Err(Fault::new(
                    place,
                    "ranges overlap or do not ascend",
                    "begins before the range above it ends",
                )
                .help(format!("the range above has {end}; the next must begin there or later")));
            }
        }
        if index + 1 < ranges && upper.is_none() && partitioning == Partitioning::Range {
            return Err(Fault::new(
                whole,
                "ranges overlap or do not ascend",
                "has no upper bound, and another follows",
            )
            .help("add `upper = …`: only the last range may be open"));
        }
        let replicas = check_replicas(&partition.replicas, nodes)?;
        checked.push(PartitionConfig {
            partition: index as PartitionId + 1,
            lower,
            upper,
            replication: if replicas.is_empty() { replication } else { replicas.len() as u64 },
            replicas,
        });
    }
    Ok(checked)
}

fn bound_of_hash(span: Range<usize>) -> Fault {
    Fault::new(span, "hash partitioning has no bounds", "has no meaning here")
        .help("write `partitions = { count = 3 }`, or leave `partitioning` out")
}

fn hash_partitions(even: &file::EvenPartitions, replication: u64) -> Result<Vec<PartitionConfig>, Fault> {
    if let Some(bound) = even.from.as_ref().or(even.to.as_ref()) {
        return Err(bound_of_hash(bound.span()));
    }
    let count = at_least(&even.count, 1, "partitions")?;
    let partition = |partition: u64| PartitionConfig {
        partition: partition as PartitionId,
        lower: None,
        upper: None,
        replication,
        replicas: Vec::new(),
    };
    Ok((1..=count).map(partition).collect())
}

fn even_partitions(
    span: Range<usize>,
    even: &file::EvenPartitions,
    key_type: KeyType,
    replication: u64,
) -> Result<Vec<PartitionConfig>, Fault> {
    let count = at_least(&even.count, 1, "partitions")? as i64;
    if key_type != KeyType::Integer {
        return Err(Fault::new(span, "text has no even ranges", "needs integer keys")
            .help("list the ranges: `partitions = [{ upper = \"m\" }, { lower = \"m\" }]`"));
    }
    let (Some(from), Some(end)) = (&even.from, &even.to) else {
        return Err(Fault::new(span, "even ranges of what?", "no `from` and `to`")
            .help("write `{ count = 3, from = 1, to = 6001 }`, or `partitioning = \"hash\"`"));
    };
    let (from, to) = (*from.get_ref(), *end.get_ref());
    if to.checked_sub(from).is_none_or(|width| width < count) {
        return Err(Fault::new(end.span(), "too few keys for the partitions", "ends here").help(format!(
            "{count} partitions of [{from}, to) need `to` of at least {}",
            from.saturating_add(count)
        )));
    }
    let bound =
        |index: i64| Key::Integer(from + ((to - from) / count) * index + ((to - from) % count).min(index));
    Ok((0..count)
        .map(|index| PartitionConfig {
            partition: index as PartitionId + 1,
            lower: Some(bound(index)),
            upper: Some(bound(index + 1)),
            replication,
            replicas: Vec::new(),
        })
        .collect())
}

fn check_replicas(replicas: &[Spanned<u64>], nodes: u64) -> Result<Vec<NodeId>, Fault> {
    let mut seen = BTreeSet::new();
    for replica in replicas {
        existing_node(*replica.get_ref(), nodes, replica.span())?;
        if !seen.insert(*replica.get_ref()) {
            return Err(Fault::new(
                replica.span(),
                "a node cannot hold two replicas of a partition",
                "again",
            )
            .help("name each node once"));
        }
    }
    Ok(replicas.iter().map(|replica| *replica.get_ref()).collect())
}

fn check_network(scope: &Scope, network: &file::Network) -> Result<Delays, Fault> {
    let delay = network.delay.as_ref().map(distribution).transpose()?;
    let mut links: Vec<LinkDelay> = Vec::new();
    for link in &network.links {
        let file::LinkDelay { from, to, delay } = link.get_ref();
        scope.node(*from.get_ref(), from.span())?;
        scope.node(*to.get_ref(), to.span())?;
        let (from, to) = (*from.get_ref(), *to.get_ref());
        if from == to {
            return Err(Fault::new(link.span(), "a node has no link to itself", "here")
                .help("name two nodes: `{ from = 1, to = 2, delay = \"20ms\" }`"));
        }
        if links.iter().any(|other| (other.from, other.to) == (from, to)) {
            return Err(Fault::new(
                link.span(),
                format!("the link from {from} to {to} has a delay already"),
                "again",
            )
            .help("name each link once"));
        }
        links.push(LinkDelay { from, to, delay: distribution(delay)? });
    }
    Ok(Delays { delay, links })
}

fn check_clocks(
    scope: &Scope,
    clocks: &std::collections::BTreeMap<Spanned<String>, Spanned<file::Clock>>,
) -> Result<Vec<NodeClock>, Fault> {
    clocks
        .iter()
        .map(|(key, clock)| {
            let node = key.get_ref().parse().map_err(|_| {
                Fault::new(key.span(), "not a node", "here")
                    .help("write the node's number: `1 = { rate_ppm = 1000 }`")
            })?;
            scope.node(node, key.span())?;
            let file::Clock { rate_ppm, offset_ms } = *clock.get_ref();
            scope.clock_rate(rate_ppm, clock.span())?;
            Ok(NodeClock { node, skew: ClockSkew { rate_ppm, offset_ms } })
        })
        .collect()
}

fn check_clients(scope: &Scope, clients: file::Clients) -> Result<Clients, Fault> {
    let count = between(&clients.count, 1..=MOST_CLIENTS, "clients")?;
    let timeout_ms = at_least(&clients.timeout_ms, 1, "milliseconds")?;
    let share = at_least(&clients.share, 1, "clients to a connection")?;
    let span = clients.entry.span();
    let entry = clients.entry.into_inner();
    if let Entry::Nodes(nodes) = &entry {
        if nodes.is_empty() {
            return Err(Fault::new(span, "no entry node", "empty").help("name at least one node"));
        }
        for node in nodes {
            scope.node(*node, span.clone())?;
        }
    }
    Ok(Clients { count, entry, timeout_ms, share, sessions: clients.sessions })
}

fn check_operations(scope: &Scope, table: Spanned<file::Operations>) -> Result<Operations, Fault> {
    let table = table.into_inner();
    if *table.mix.get_ref() == Mix::default() {
        return Err(Fault::new(table.mix.span(), "no operation has a weight", "all are 0")
            .help("write `mix = { get = 6, put = 3, cas = 1 }`"));
    }
    let skew = match (&table.skew, table.distribution) {
        (None, Distribution::Hot) => 0.8,
        (None, _) => 1.0,
        (Some(skew), Distribution::Uniform) => {
            return Err(Fault::new(skew.span(), "a uniform distribution has no skew", "has no meaning here")
                .help("add `distribution = \"zipf\"` or `\"hot\"`, or remove this line"));
        }
        (Some(skew), Distribution::Hot) if !(0.0..=1.0).contains(skew.get_ref()) => {
            return Err(Fault::new(skew.span(), "not a share", "the hot key's share of the operations")
                .help("write a number from 0 to 1"));
        }
        (Some(skew), _) if skew.get_ref().is_nan() || *skew.get_ref() < 0.0 => {
            return Err(
                Fault::new(skew.span(), "not a skew", "here").help("write a number above 0, such as 0.99")
            );
        }
        (Some(skew), _) => *skew.get_ref(),
    };
    let rate = table.rate.as_ref().map(|rate| at_least(rate, 1, "operations per second")).transpose()?;
    let total = table.total.as_ref().map(|total| at_least(total, 1, "operations")).transpose()?;
    let keys = keys::check(scope.cluster, &table.keys)?;
    Ok(Operations {
        mix: table.mix.into_inner(),
        distribution: table.distribution,
        skew,
        value_size: table.value_size,
        rate,
        total,
        keys,
    })
}

impl Scope<'_> {
    /// A node that exists.
    pub fn node(&self, node: NodeId, span: Range<usize>) -> Result<(), Fault> {
        existing_node(node, self.nodes, span)
    }

    /// A target whose node or partition exists.
    pub fn target(&self, target: &Target, span: Range<usize>) -> Result<(), Fault> {
        if let Some(why) = self.system.lacks_role(target) {
            return Err(Fault::new(
                span,
                "nobody can tell which node this is",
                format!("{} {why}", self.system.name()),
            )
            .help("write \"node 3\", \"nodes 1, 2\", \"minority\", \"majority\", \"random\" or \"all\""));
        }
        match target {
            Target::Node(node) => self.node(*node, span),
            Target::Nodes(nodes) => nodes.iter().try_for_each(|node| self.node(*node, span.clone())),
            Target::Leader(partition)
            | Target::LeaseHolder(partition)
            | Target::Follower(partition)
            | Target::Followers(partition)
            | Target::Lagging(partition)
            | Target::Minority(Some(partition))
            | Target::Majority(Some(partition)) => self.partition(*partition, span),
            Target::Minority(None)
            | Target::Majority(None)
            | Target::Random
            | Target::All
            | Target::Answered(_) => Ok(()),
        }
    }

    /// A partition that exists.
    pub fn partition(&self, partition: PartitionId, span: Range<usize>) -> Result<(), Fault> {
        let partitions = self.cluster.partitions.len();
        if partition == 0 || partition as usize > partitions {
            return Err(Fault::new(span, format!("there is no partition {partition}"), "named here")
                .help(format!("the partitions are 1 to {partitions}")));
        }
        Ok(())
    }

    /// A key of the cluster's kind that a partition holds.
    pub fn file_key(&self, key: &Spanned<FileKey>) -> Result<Key, Fault> {
        key_in(self.cluster, key)
    }

    /// A clock may differ by no more than the leases allow for, or a violation would be nobody's fault.
    pub fn clock_rate(&self, rate_ppm: i64, span: Range<usize>) -> Result<(), Fault> {
        let lease = self.cluster.lease.filter(|_| !self.outside);
        let bound = lease.map_or(999_999, |lease| lease.drift_ppm);
        if rate_ppm.unsigned_abs() > bound {
            return Err(Fault::new(span, "a clock beyond the drift bound", format!("{rate_ppm} ppm")).help(
                format!(
                    "leases are only safe within `drift_ppm`: write a rate from -{bound} to {bound}, or, to see a \
                     violation found, expect one in a folder named `negative`"
                ),
            ));
        }
        Ok(())
    }
}

/// A key of the cluster's kind that a partition holds.
pub fn key_in(cluster: &ClusterConfig, key: &Spanned<FileKey>) -> Result<Key, Fault> {
    held(cluster, typed(key, cluster.key_type)?, key.span())
}

/// The key, if a partition holds it.
pub fn held(cluster: &ClusterConfig, key: Key, span: Range<usize>) -> Result<Key, Fault> {
    if cluster.partition_of(&key).is_none() {
        return Err(Fault::new(span, format!("no partition holds the key {key}"), "used here")
            .help(ranges_of(cluster)));
    }
    Ok(key)
}

fn existing_node(node: NodeId, nodes: u64, span: Range<usize>) -> Result<(), Fault> {
    if node == 0 || node > nodes {
        return Err(Fault::new(span, format!("there is no node {node}"), "named here")
            .help(format!("the nodes are 1 to {nodes}")));
    }
    Ok(())
}

fn typed(key: &Spanned<FileKey>, key_type: KeyType) -> Result<Key, Fault> {
    let typed = store_key(&key.get_ref().0);
    if typed.key_type() == key_type {
        return Ok(typed);
    }
    let (is, write) = match key_type {
        KeyType::Integer => ("a text", "a number without quotes, or set `key_type = \"string\"`"),
        KeyType::String => ("a number", "a text in quotes, or set `key_type = \"integer\"`"),
    };
    Err(Fault::new(key.span(), "a key of the wrong kind", format!("this is {is}"))
        .help(format!("write {write}")))
}

pub fn at_least(value: &Spanned<u64>, least: u64, what: &str) -> Result<u64, Fault> {
    if *value.get_ref() < least {
        return Err(Fault::new(value.span(), format!("too few {what}"), "here")
            .help(format!("write {least} or more")));
    }
    Ok(*value.get_ref())
}

pub fn between(value: &Spanned<u64>, allowed: RangeInclusive<u64>, what: &str) -> Result<u64, Fault> {
    if allowed.contains(value.get_ref()) {
        return Ok(*value.get_ref());
    }
    let (least, most) = allowed.into_inner();
    Err(Fault::new(value.span(), format!("{} {what}", value.get_ref()), "here")
        .help(format!("write a number from {least} to {most}")))
}

fn at_most(value: &Spanned<u64>, nodes: u64, name: &str, why: &str) -> Result<u64, Fault> {
    if *value.get_ref() > nodes {
        return Err(Fault::new(
            value.span(),
            format!("an impossible cluster: {name} {} with {nodes} nodes", value.get_ref()),
            why,
        )
        .help(format!("write {nodes} or less, or add nodes")));
    }
    Ok(*value.get_ref())
}

pub fn ranges_of(cluster: &ClusterConfig) -> String {
    let shown = |key: &Option<Key>| key.as_ref().map_or_else(|| "…".to_owned(), Key::to_string);
    let ranges: Vec<String> = cluster
        .partitions
        .iter()
        .map(|partition| format!("[{}, {})", shown(&partition.lower), shown(&partition.upper)))
        .collect();
    format!("the partitions hold {}", ranges.join(", "))
}
