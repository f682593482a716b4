//! Which keys: of `[operations]`, of steps and of presets, each of which may name them one by one or by range.

use std::collections::BTreeSet;

use checker::history::Key;
use store::{
    api::{self, KeyType},
    config::{ClusterConfig, Partitioning},
};
use toml::Spanned;

use super::{
    Fault,
    check::{MOST_KEYS, at_least, between, held, key_in, ranges_of},
    file, history_key,
    template::Template,
};

/// The keys that a table names. With text keys, the numbers of a range are texts.
pub fn check(cluster: &ClusterConfig, keys: &Spanned<file::Keys>) -> Result<Vec<Key>, Fault> {
    let help = "write one of `{ count = 12 }`, `{ from = 1, to = 13 }` (with `step = 2` every other one) and `{ list = [1, 2, \
                3] }`";
    let found: Vec<api::Key> = match keys.get_ref() {
        file::Keys { count: Some(count), from: None, to: None, step: None, list } if list.is_empty() => {
            let wanted = between(count, 1..=MOST_KEYS, "keys")?;
            spread(cluster, wanted).ok_or_else(|| {
                Fault::new(count.span(), "the partitions do not hold that many keys", "too many")
                    .help("name the keys: `keys = { list = […] }`")
            })?
        }
        file::Keys { count: None, from: Some(from), to: Some(to), step, list }
            if list.is_empty() && from < to =>
        {
            let step = step.as_ref().map_or(Ok(1), |step| at_least(step, 1, "keys from one to the next"))?;
            if from.abs_diff(*to).div_ceil(step) > MOST_KEYS {
                return Err(Fault::new(keys.span(), format!("more than {MOST_KEYS} keys"), "in this range")
                    .help("narrow the range, or write a longer `step`"));
            }
            let numbers = (*from..*to).step_by(usize::try_from(step).unwrap_or(usize::MAX));
            let key = |number: i64| match cluster.key_type {
                KeyType::Integer => api::Key::Integer(number),
                KeyType::String => api::Key::String(number.to_string()),
            };
            numbers.map(|number| held(cluster, key(number), keys.span())).collect::<Result<_, _>>()?
        }
        file::Keys { count: None, from: None, to: None, step: None, list } if !list.is_empty() => {
            list.iter().map(|key| key_in(cluster, key)).collect::<Result<_, _>>()?
        }
        _ => {
            return Err(
                Fault::new(keys.span(), "which keys?", "not one of the three ways to say it").help(help)
            );
        }
    };
    Ok(found.iter().map(history_key).collect())
}

/// `count` keys, dealt to the partitions in turn.
fn spread(cluster: &ClusterConfig, count: u64) -> Option<Vec<api::Key>> {
    match cluster.partitioning {
        Partitioning::Range => spread_over_ranges(cluster, count),
        Partitioning::Hash => Some(spread_by_hash(cluster, count)),
    }
}

/// Of each partition the first keys from 1 on that fall into it.
fn spread_by_hash(cluster: &ClusterConfig, count: u64) -> Vec<api::Key> {
    let mut partitions: Vec<_> = cluster.partitions.iter().map(|config| (config.partition, 0_i64)).collect();
    let mut keys = Vec::new();
    let key = |number: i64| match cluster.key_type {
        KeyType::Integer => api::Key::Integer(number),
        KeyType::String => api::Key::String(format!("{number:04}")),
    };
    while (keys.len() as u64) < count {
        let position = keys.len() % partitions.len();
        let (partition, last) = &mut partitions[position];
        let mut later = (*last + 1..).map(|number| (number, key(number)));
        let found = later.find(|(_, key)| cluster.partition_of(key) == Some(*partition));
        let (number, key) = found.expect("a hash leaves no partition empty");
        *last = number;
        keys.push(key);
    }
    keys
}

fn spread_over_ranges(cluster: &ClusterConfig, count: u64) -> Option<Vec<api::Key>> {
    let partitions = cluster.partitions.len() as u64;
    (0..count)
        .map(|index| {
            let partition = &cluster.partitions[(index % partitions) as usize];
            let offset = (index / partitions) as i64;
            let key = match (cluster.key_type, &partition.lower, &partition.upper) {
                (KeyType::Integer, Some(api::Key::Integer(lower)), _) => {
                    api::Key::Integer(lower.checked_add(offset)?)
                }
                (KeyType::Integer, _, Some(api::Key::Integer(upper))) => {
                    api::Key::Integer(upper.checked_sub(1 + offset)?)
                }
                (KeyType::Integer, ..) => api::Key::Integer(1 + offset),
                (KeyType::String, Some(lower), _) => api::Key::String(format!("{lower}{offset:04}")),
                (KeyType::String, None, _) => api::Key::String(format!("{offset:04}")),
            };
            partition.contains(&key).then_some(key)
        })
        .collect()
}

/// The values that keys hold before the first operation.
pub fn check_preset(cluster: &ClusterConfig, preset: file::Preset) -> Result<Vec<(api::Key, String)>, Fault> {
    match preset {
        file::Preset::Keys(keys) => keys
            .into_iter()
            .map(|(key, value)| {
                let parsed = cluster.key_type.parse(key.get_ref());
                let held = parsed.filter(|key| cluster.partition_of(key).is_some()).ok_or_else(|| {
                    Fault::new(key.span(), "no partition holds this key", "preset here")
                        .help(ranges_of(cluster))
                })?;
                Ok((held, value))
            })
            .collect(),
        file::Preset::Ranges(ranges) => {
            let mut seen = BTreeSet::new();
            let mut values = Vec::new();
            for range in ranges {
                let keys = check(cluster, &range.keys)?;
                let value = Template::check(&range.value, &keys)?;
                for key in keys {
                    values.push((super::store_key(&key), value.of(&key)));
                    if let Some(key) = seen.replace(key) {
                        return Err(Fault::new(
                            range.keys.span(),
                            format!("the key {key} is preset twice"),
                            "again",
                        )
                        .help("name each key once"));
                    }
                }
            }
            Ok(values)
        }
    }
}
