//! The small values of workload files and plans that are written as one word: durations, keys, targets, entries, waits.

use std::{fmt, str::FromStr, time::Duration};

use checker::history::Key;
use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{Error as _, Unexpected, Visitor},
};
use store::api::{NodeId, PartitionId};

/// A duration, written `"250ms"`, `"30s"`, `"1.5s"` or `"2m"`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Time(pub Duration);

/// The nodes that a fault or an operation is aimed at.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Target {
    /// `node 3`.
    Node(NodeId),
    /// `nodes 1, 2`.
    Nodes(Vec<NodeId>),
    /// `leader(1)`: the node that leads the partition at that moment.
    Leader(PartitionId),
    /// `lease-holder(1)`: the node that holds the partition's lease at that moment.
    LeaseHolder(PartitionId),
    /// `follower(1)`: one replica of the partition that does not lead it.
    Follower(PartitionId),
    /// `followers(1)`: all of them.
    Followers(PartitionId),
    /// `lagging(1)`: the replica of the partition that knows of the fewest decided entries, its leader left out.
    Lagging(PartitionId),
    /// `minority`, `minority(1)`: the most nodes, or replicas of the partition, that are fewer than half; chosen by the seed.
    Minority(Option<PartitionId>),
    /// `majority`, `majority(1)`: the fewest nodes, or replicas of the partition, that are more than half; chosen by the seed.
    Majority(Option<PartitionId>),
    /// `random`, `one`: any node, chosen by the seed.
    Random,
    /// `all`: every node, at once.
    All,
    /// `answered(step)`: the leader that answered the named step.
    Answered(String),
}

/// The other end of a fault of links.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Peer {
    /// `clients`: every client, whatever it does.
    Clients,
    /// Nodes.
    Nodes(Target),
}

/// Where an operation of a step enters the cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Via {
    /// `"any"`: a node chosen by the seed, for each operation anew.
    Any,
    /// `"pinned"`: each client keeps to one node, client after client to the next.
    Pinned,
    /// A node or a role.
    Target(Target),
}

/// Which clients run a step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Who {
    /// `"all"`: all clients, side by side.
    All,
    /// Only these, side by side.
    Only(Vec<u64>),
}

/// What a waiting step waits for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wait {
    /// `"250ms"`: that long.
    For(Time),
    /// `"open"`: until every node serves clients.
    Open,
    /// `"leader(1)"`: until the partition has a leader.
    Leader(PartitionId),
    /// `"leader-change(1)"`: until the partition has another leader than at the last fault.
    LeaderChange(PartitionId),
}

/// Where a client's operations enter the cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Entry {
    /// `"any"`: a node chosen by the seed, for each operation anew.
    #[default]
    Any,
    /// `"pinned"`: each client keeps to one node, client after client to the next.
    Pinned,
    /// `"leader"`: the node that leads the key's partition, as far as the harness knows.
    Leader,
    /// `[1, 2]`: as `pinned`, over these nodes only.
    Nodes(Vec<NodeId>),
}

/// A key as a workload file writes it: a whole number or a text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileKey(pub Key);

impl FromStr for Time {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or(())?;
        let (number, unit) = text.split_at(digits);
        let number: f64 = number.parse().map_err(|_| ())?;
        let seconds = match unit {
            "ms" => number / 1e3,
            "s" => number,
            "m" => number * 60.0,
            "h" => number * 3600.0,
            _ => return Err(()),
        };
        Duration::try_from_secs_f64(seconds).map(Self).map_err(|_| ())
    }
}

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let nanos = self.0.as_nanos();
        if nanos.is_multiple_of(1_000_000_000) {
            write!(f, "{}s", nanos / 1_000_000_000)
        } else if nanos.is_multiple_of(1_000_000) {
            write!(f, "{}ms", nanos / 1_000_000)
        } else {
            write!(f, "{}.{:06}ms", nanos / 1_000_000, nanos % 1_000_000)
        }
    }
}

impl FromStr for Target {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        if let Some(node) = text.strip_prefix("node ") {
            return node.trim().parse().map(Self::Node).map_err(|_| ());
        }
        if let Some(nodes) = text.strip_prefix("nodes ") {
            let nodes = nodes.split(',').map(|node| node.trim().parse().map_err(|_| ()));
            return nodes.collect::<Result<_, _>>().map(Self::Nodes);
        }
        match text {
            "random" | "one" => return Ok(Self::Random),
            "all" => return Ok(Self::All),
            "minority" => return Ok(Self::Minority(None)),
            "majority" => return Ok(Self::Majority(None)),
            _ => {}
        }
        let (role, argument) = text.strip_suffix(')').and_then(|text| text.split_once('(')).ok_or(())?;
        let partition = || argument.trim().parse().map_err(|_| ());
        match role {
            "leader" => partition().map(Self::Leader),
            "lease-holder" => partition().map(Self::LeaseHolder),
            "follower" => partition().map(Self::Follower),
            "followers" => partition().map(Self::Followers),
            "lagging" => partition().map(Self::Lagging),
            "minority" => partition().map(Some).map(Self::Minority),
            "majority" => partition().map(Some).map(Self::Majority),
            "answered" => Ok(Self::Answered(argument.trim().to_owned())),
            _ => Err(()),
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Node(node) => write!(f, "node {node}"),
            Self::Leader(partition) => write!(f, "leader({partition})"),
            Self::LeaseHolder(partition) => write!(f, "lease-holder({partition})"),
            Self::Follower(partition) => write!(f, "follower({partition})"),
            Self::Followers(partition) => write!(f, "followers({partition})"),
            Self::Lagging(partition) => write!(f, "lagging({partition})"),
            Self::Minority(None) => f.write_str("minority"),
            Self::Minority(Some(partition)) => write!(f, "minority({partition})"),
            Self::Majority(None) => f.write_str("majority"),
            Self::Majority(Some(partition)) => write!(f, "majority({partition})"),
            Self::Nodes(nodes) => {
                let nodes: Vec<String> = nodes.iter().map(NodeId::to_string).collect();
                write!(f, "nodes {}", nodes.join(", "))
            }
            Self::Random => f.write_str("random"),
            Self::All => f.write_str("all"),
            Self::Answered(step) => write!(f, "answered({step})"),
        }
    }
}

impl FromStr for Peer {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        if text == "clients" { Ok(Self::Clients) } else { text.parse().map(Self::Nodes) }
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Clients => f.write_str("clients"),
            Self::Nodes(target) => target.fmt(f),
        }
    }
}

impl FromStr for Wait {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        if text == "open" {
            return Ok(Self::Open);
        }
        let Some((event, argument)) = text.strip_suffix(')').and_then(|text| text.split_once('(')) else {
            return text.parse().map(Self::For);
        };
        let partition = argument.parse().map_err(|_| ())?;
        match event {
            "leader" => Ok(Self::Leader(partition)),
            "leader-change" => Ok(Self::LeaderChange(partition)),
            _ => Err(()),
        }
    }
}

impl fmt::Display for Wait {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::For(time) => time.fmt(f),
            Self::Open => f.write_str("open"),
            Self::Leader(partition) => write!(f, "leader({partition})"),
            Self::LeaderChange(partition) => write!(f, "leader-change({partition})"),
        }
    }
}

/// Serde through `FromStr` and `Display`, with a message that shows how it is written.
macro_rules! as_text {
    ($type:ty, $expecting:literal) => {
        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                struct Text;
                impl Visitor<'_> for Text {
                    type Value = $type;

                    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                        f.write_str($expecting)
                    }

                    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<$type, E> {
                        text.parse().map_err(|()| E::invalid_value(Unexpected::Str(text), &self))
                    }
                }
                deserializer.deserialize_str(Text)
            }
        }

        impl Serialize for $type {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }
    };
}

as_text!(Time, "a duration such as \"250ms\", \"30s\" or \"2m\"");
as_text!(
    Target,
    "a target: \"node 3\", \"nodes 1, 2\", \"leader(1)\", \"lease-holder(1)\", \"follower(1)\", \"followers(1)\", \
     \"lagging(1)\", \"minority\", \"majority\", \"minority(1)\", \"majority(1)\", \"random\", \"all\" or, in a step, \
     \"answered(step name)\""
);
as_text!(Peer, "\"clients\", or nodes such as \"node 3\", \"follower(1)\" or \"leader(2)\"");
as_text!(Wait, "what to wait for: \"250ms\", \"open\", \"leader(1)\" or \"leader-change(1)\"");

/// Serde for a value that is a word, a number or a list of numbers.
enum WordOrNumbers {
    Word(String),
    Number(u64),
    Numbers(Vec<u64>),
}

fn word_or_numbers<'de, D: Deserializer<'de>>(
    deserializer: D,
    expecting: &'static str,
) -> Result<WordOrNumbers, D::Error> {
    struct Any(&'static str);
    impl<'de> Visitor<'de> for Any {
        type Value = WordOrNumbers;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str(self.0)
        }

        fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<WordOrNumbers, E> {
            Ok(WordOrNumbers::Word(text.to_owned()))
        }

        fn visit_i64<E: serde::de::Error>(self, number: i64) -> Result<WordOrNumbers, E> {
            match u64::try_from(number) {
                Ok(number) => Ok(WordOrNumbers::Number(number)),
                Err(_) => Err(E::invalid_value(Unexpected::Signed(number), &self)),
            }
        }

        fn visit_seq<A: serde::de::SeqAccess<'de>>(self, mut seq: A) -> Result<WordOrNumbers, A::Error> {
            let mut numbers = Vec::new();
            while let Some(number) = seq.next_element()? {
                numbers.push(number);
            }
            Ok(WordOrNumbers::Numbers(numbers))
        }
    }
    deserializer.deserialize_any(Any(expecting))
}

const VIA: &str =
    "a node's number, \"any\", \"pinned\", or a target such as \"leader(1)\" or \"answered(step name)\"";
const WHO: &str = "a client's number, a list of them, or \"all\"";
const ENTRY: &str = "\"any\", \"pinned\", \"leader\" or a list of nodes";

impl<'de> Deserialize<'de> for Via {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match word_or_numbers(deserializer, VIA)? {
            WordOrNumbers::Number(node) => Ok(Self::Target(Target::Node(node))),
            WordOrNumbers::Word(word) if word == "any" => Ok(Self::Any),
            WordOrNumbers::Word(word) if word == "pinned" => Ok(Self::Pinned),
            WordOrNumbers::Word(word) => match word.parse() {
                Ok(target) => Ok(Self::Target(target)),
                Err(()) => Err(D::Error::invalid_value(Unexpected::Str(&word), &VIA)),
            },
            WordOrNumbers::Numbers(_) => Err(D::Error::invalid_type(Unexpected::Seq, &VIA)),
        }
    }
}

impl Serialize for Via {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Any => serializer.serialize_str("any"),
            Self::Pinned => serializer.serialize_str("pinned"),
            Self::Target(target) => target.serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for Who {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match word_or_numbers(deserializer, WHO)? {
            WordOrNumbers::Number(client) => Ok(Self::Only(vec![client])),
            WordOrNumbers::Numbers(clients) => Ok(Self::Only(clients)),
            WordOrNumbers::Word(word) if word == "all" => Ok(Self::All),
            WordOrNumbers::Word(word) => Err(D::Error::invalid_value(Unexpected::Str(&word), &WHO)),
        }
    }
}

impl Serialize for Who {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::All => serializer.serialize_str("all"),
            Self::Only(clients) => clients.serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for Entry {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match word_or_numbers(deserializer, ENTRY)? {
            WordOrNumbers::Numbers(nodes) => Ok(Self::Nodes(nodes)),
            WordOrNumbers::Number(node) => Ok(Self::Nodes(vec![node])),
            WordOrNumbers::Word(word) => match word.as_str() {
                "any" => Ok(Self::Any),
                "pinned" => Ok(Self::Pinned),
                "leader" => Ok(Self::Leader),
                _ => Err(D::Error::invalid_value(Unexpected::Str(&word), &ENTRY)),
            },
        }
    }
}

impl Serialize for Entry {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Any => serializer.serialize_str("any"),
            Self::Pinned => serializer.serialize_str("pinned"),
            Self::Leader => serializer.serialize_str("leader"),
            Self::Nodes(nodes) => nodes.serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for FileKey {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct AnyKey;
        impl Visitor<'_> for AnyKey {
            type Value = FileKey;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a key: a whole number or a text in quotes")
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<FileKey, E> {
                Ok(FileKey(Key::String(text.to_owned())))
            }

            fn visit_i64<E: serde::de::Error>(self, number: i64) -> Result<FileKey, E> {
                Ok(FileKey(Key::Integer(number)))
            }
        }
        deserializer.deserialize_any(AnyKey)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_written_to_the_nanosecond_and_read_again() {
        let cases = [
            (250_000_000, "250ms"),
            (30_000_000_000, "30s"),
            (0, "0s"),
            (1_234_567_891, "1234.567891ms"),
            (7, "0.000007ms"),
            (86_399_999_999_999, "86399999.999999ms"),
        ];
        for (nanos, text) in cases {
            let time = Time(Duration::from_nanos(nanos));
            assert_eq!(time.to_string(), text);
            assert_eq!(text.parse(), Ok(time));
        }
    }
}
