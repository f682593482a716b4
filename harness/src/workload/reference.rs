//! The reference of workload files: every table and key with its meaning and default, in one list, from which come the commented
//! workload of `harness explain-workload` and the schema of `harness schema`. Tests hold the list against the parser, which
//! is asked what keys and words it knows.

use std::fmt::Write as _;

use serde_json::{Map, Value, json};

use super::{Word, faults::keys_of};
use Kind::{Bool, Inline, Integer, List, Number, OneOf, Target, Text, Time, Words};
use Shown::{Default, Optional, Required};
use tables::{FAULT, Key, Kind, Shown, TABLES, Table};

mod tables;

/// The keys of a table; those with faults have the keys of a fault as well.
fn keys(table: &Table) -> impl Iterator<Item = &'static Key> {
    let fault = matches!(table.header, "[[nemesis]]" | "[[random.fault]]");
    table.keys.iter().chain(if fault { FAULT } else { &[] })
}

/// The commented reference workload. It is a workload itself: what it writes out are the defaults.
pub fn explain() -> String {
    let mut text = String::new();
    for table in TABLES {
        comment(&mut text, table.about);
        if !table.header.is_empty() {
            line(&mut text, table.header);
        }
        for key in keys(table) {
            comment(&mut text, key.about);
            let (mark, value) = match key.value {
                Required(value) | Default(value) => ("", value),
                Optional(value) => ("# ", value),
            };
            line(&mut text, &format!("{mark}{} = {value}", key.name));
        }
        if table.header == "[[nemesis]]" {
            comment(&mut text, "The actions, with the keys that each takes beside `target` and `for`:");
            for word in Word::ALL {
                let keys = keys_of(*word);
                let keys = if keys.is_empty() { String::new() } else { format!(" ({})", keys.join(", ")) };
                comment(&mut text, &format!("  {}{keys}: {}", word.text(), about_action(*word)));
            }
        }
        text.push('\n');
    }
    text.trim_end().to_owned() + "\n"
}

/// Columns of the reference.
const WIDTH: usize = 110;

fn comment(text: &mut String, words: &str) {
    let mut row = String::from("#");
    for word in words.split_whitespace() {
        if row.len() + word.len() >= WIDTH {
            line(text, &row);
            row = String::from("#");
        }
        row.push(' ');
        row += word;
    }
    line(text, &row);
}

fn line(text: &mut String, words: &str) {
    // writing to a String cannot fail
    let _ = writeln!(text, "{words}");
}

/// What an action does, for the list of them.
fn about_action(word: Word) -> &'static str {
    match word {
        Word::Kill => "the nodes die (SIGKILL), and start again when it ends",
        Word::KillDuringWrite => {
            "the same, in the middle of the next write to disk; after a second without one they die all the same, and if none died in a \
             write, it came to nothing"
        }
        Word::KillDuringRecovery => {
            "the same, and once more while they start again, before they serve anybody"
        }
        Word::KillDuringSnapshot => {
            "the same, when the next piece of a snapshot is on its way to them or from them; after a second without one they die all \
             the same, and if none died in the transfer of a snapshot, it came to nothing"
        }
        Word::LoseUnsynced => "the same, and what was not synced is lost, as in a power failure",
        Word::CorruptTail => "the same, and what a torn write leaves follows what is on the disk",
        Word::Wipe => {
            "the nodes die, lose their disks and start as strangers, whom nobody lets in: gone for good"
        }
        Word::Restart => {
            "the nodes start; those that live are killed first. Outweighs whatever keeps them dead"
        }
        Word::Pause => "the nodes stand still (SIGSTOP), and go on when the last pause ends",
        Word::Resume => "the nodes go on. Outweighs whatever keeps them still",
        Word::Isolate => "the nodes are cut off from all others; clients still reach them",
        Word::Cut => "the links between the target and its peer are cut",
        Word::CutOneway => "the links from the target are cut, or those to it",
        Word::Halves => "two halves, the target in the smaller one",
        Word::Split => "so many parts, which know nothing of one another",
        Word::MajoritiesRing => "each node sees a majority, and no two see the same",
        Word::Bridge => "two halves, which only the target connects",
        Word::Chain => "each node sees its two neighbours only, the target stands in the middle",
        Word::Swizzle => "node after node is cut off, and let in again in another order",
        Word::Flap => "the target is cut off, on and off and on again",
        Word::Hold => "the target's messages are kept, and go on in order when it ends or is released",
        Word::Release => "ends what `hold` does to the target; comes to nothing where nothing is held",
        Word::Reset => "the target's connections break, and may be made again at once",
        Word::Refuse => "no new connection with the target comes about; those that there are go on",
        Word::HalfOpen => "the receiver's end of each connection is gone, and the sender is not told",
        Word::Delay => "messages travel for a while",
        Word::Throttle => "no more than so many bytes pass a second",
        Word::FrameDrop => {
            "single messages are lost; this one and the next three come to nothing if they meet no message"
        }
        Word::FrameDuplicate => {
            "single messages come twice; a doubled `forward` is carried out twice, since the store relies on connections not to double"
        }
        Word::FrameReorder => "single messages come after others that were sent later",
        Word::FrameHold => "single messages are kept until it ends, while others pass",
        Word::TransferLeader => {
            "the partition's leader is asked to hand over to the target; comes to nothing if it refuses, or the target leads already"
        }
        Word::StallDisk => "the disk does not sync, or takes longer for it",
        Word::ClockRate => "the clock runs at another rate",
        Word::ClockOffset => {
            "the clock jumps, and jumps back after `for`; without it, it stays where it is, even when all is healed"
        }
        Word::ClockFreeze => "the clock stands still, and goes on from there",
        Word::Heal => "undoes every fault that is in effect",
    }
}

/// The JSON schema of workload files, for editors.
pub fn schema() -> Value {
    let mut root = Map::new();
    for table in TABLES {
        let object = object(keys(table).map(|key| (key.name, kind(key.kind), key.about)), &required(table));
        match table.header.trim_matches(['[', ']']) {
            "" => {
                if let Value::Object(properties) = &object["properties"] {
                    root.extend(properties.clone());
                }
            }
            "clocks" => drop(
                root.insert("clocks".to_owned(), described(kind(Kind::Map(&tables::CLOCK)), table.about)),
            ),
            name => {
                let array = table.header.starts_with("[[");
                let value = if array { json!({ "type": "array", "items": object }) } else { object };
                let value = described(value, table.about);
                match name.split_once('.') {
                    None => drop(root.insert(name.to_owned(), value)),
                    Some((parent, child)) => root[parent]["properties"][child] = value,
                }
            }
        }
    }
    let fault = object(FAULT.iter().map(|key| (key.name, kind(key.kind), key.about)), &["action"]);
    root["step"]["items"]["properties"]["fault"] = fault;
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "workload",
        "type": "object",
        "properties": root,
        "required": ["cluster"],
        "additionalProperties": false,
    })
}

fn required(table: &Table) -> Vec<&'static str> {
    // which of them must be there depends on the others
    let alternatives: &[&str] = &["at", "put", "client", "within", "target", "partitions", "lease"];
    let must = |key: &&Key| matches!(key.value, Required(_)) && !alternatives.contains(&key.name);
    keys(table).filter(must).map(|key| key.name).collect()
}

fn object(keys: impl Iterator<Item = (&'static str, Value, &'static str)>, required: &[&str]) -> Value {
    let properties: Map<String, Value> =
        keys.map(|(name, value, about)| (name.to_owned(), described(value, about))).collect();
    json!({ "type": "object", "properties": properties, "required": required, "additionalProperties": false })
}

fn described(mut value: Value, about: &str) -> Value {
    value["description"] = about.split_whitespace().collect::<Vec<_>>().join(" ").into();
    value
}

fn kind(of: Kind) -> Value {
    match of {
        Text | Target => json!({ "type": "string" }),
        Bool => json!({ "type": "boolean" }),
        Integer(i64::MIN) => json!({ "type": "integer" }),
        Integer(least) => json!({ "type": "integer", "minimum": least }),
        Number => json!({ "type": "number" }),
        Time => json!({ "type": "string", "pattern": "^[0-9.]+(ms|s|m|h)$" }),
        Words(words) => json!({ "enum": words }),
        Kind::Action => json!({ "enum": Word::ALL.iter().map(|word| word.text()).collect::<Vec<_>>() }),
        List(items) => json!({ "type": "array", "items": kind(*items) }),
        OneOf([]) => json!({}),
        OneOf(kinds) => json!({ "anyOf": kinds.iter().map(|of| kind(*of)).collect::<Vec<_>>() }),
        Inline(keys, must) => {
            let required = keys.iter().take(must).map(|(name, _)| *name).collect();
            let properties: Map<String, Value> =
                keys.iter().map(|(name, of)| ((*name).to_owned(), kind(*of))).collect();
            let required: Vec<&str> = required;
            json!({ "type": "object", "properties": properties, "required": required, "additionalProperties": false })
        }
        Kind::Map(values) => json!({ "type": "object", "additionalProperties": kind(*values) }),
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, path::Path};

    use super::*;
    use crate::workload::{Workload, parse};

    fn parsed(text: &str) -> Result<Workload, String> {
        parse(Path::new("reference.toml"), text).map_err(|problem| problem.to_string())
    }

    /// The least workload that has all tables, with more lines in one of them.
    fn least(header: &str, more: &str) -> String {
        let mut text = String::new();
        for table in TABLES {
            line(&mut text, table.header);
            for key in keys(table) {
                let is_there = more.starts_with(&format!("{} = ", key.name)) && table.header == header;
                if let (Required(value), false) = (&key.value, is_there) {
                    line(&mut text, &format!("{} = {value}", key.name));
                }
            }
            if table.header == header {
                line(&mut text, more);
            }
        }
        text
    }

    /// What the parser says it knows instead of something that it does not.
    fn known(header: &str, line: &str, what: &str) -> BTreeSet<String> {
        let problem = parsed(&least(header, line)).expect_err(line);
        let list = problem.split_once(what).unwrap_or_else(|| panic!("{header} {line}: {problem}")).1;
        list.split('`').skip(1).step_by(2).map(str::to_owned).collect()
    }

    fn set(names: impl IntoIterator<Item = &'static str>) -> BTreeSet<String> {
        names.into_iter().map(str::to_owned).collect()
    }

    #[test]
    fn the_reference_is_a_workload_and_writes_out_the_defaults() {
        let explained = parsed(&explain()).unwrap_or_else(|problem| panic!("{problem}"));
        assert_eq!(explained, parsed(&least("", "")).unwrap_or_else(|problem| panic!("{problem}")));
    }

    #[test]
    fn the_reference_has_the_keys_that_the_parser_has() {
        for table in TABLES.iter().filter(|table| !table.keys.is_empty()) {
            let mut ours: BTreeSet<String> = set(keys(table).map(|key| key.name));
            if table.header.is_empty() {
                let tables = TABLES.iter().map(|table| table.header.trim_matches(['[', ']']));
                ours.extend(set(tables.filter(|name| !name.is_empty() && !name.contains('.'))));
            } else {
                let parent = format!("{}.", table.header.trim_matches(['[', ']']));
                let child = |table: &&Table| table.header.trim_matches(['[', ']']).starts_with(&parent);
                let children = TABLES.iter().filter(child);
                ours.extend(
                    children
                        .filter_map(|table| table.header.trim_matches(['[', ']']).split_once('.'))
                        .map(|(_, name)| name.to_owned()),
                );
            }
            assert_eq!(known(table.header, "zzz = 0", "keys here: "), ours, "{}", table.header);
        }
    }

    fn inline(of: Kind) -> Option<&'static [(&'static str, Kind)]> {
        match of {
            Inline(keys, _) => Some(keys),
            OneOf(kinds) => kinds.iter().find_map(|of| inline(*of)),
            _ => None,
        }
    }

    #[test]
    fn the_reference_has_the_words_that_the_parser_has() {
        for table in TABLES {
            for key in keys(table) {
                let line = |value: &str| format!("{} = {value}", key.name);
                let words = |value: &str| known(table.header, &line(value), "words for it: ");
                match key.kind {
                    Words(ours) => assert_eq!(words("\"zzz\""), set(ours.iter().copied()), "{}", key.name),
                    List(Words(ours)) => {
                        assert_eq!(words("[\"zzz\"]"), set(ours.iter().copied()), "{}", key.name);
                    }
                    Kind::Action => {
                        assert_eq!(words("\"zzz\""), set(Word::ALL.iter().map(|word| word.text())));
                    }
                    _ => {}
                }
                if let Some(ours) = inline(key.kind) {
                    let theirs = known(table.header, &line("{ zzz = 0 }"), "keys here: ");
                    assert_eq!(theirs, set(ours.iter().map(|(name, _)| *name)), "{}", key.name);
                }
            }
        }
        let fault = known("[[step]]", "fault = { zzz = 0 }", "keys here: ");
        assert_eq!(fault, set(FAULT.iter().map(|key| key.name)));
    }

    #[test]
    fn every_example_is_read() {
        for table in TABLES {
            for key in keys(table) {
                let (Required(value) | Default(value) | Optional(value)) = key.value;
                let text = least(table.header, &format!("{} = {value}", key.name));
                // what does not go with the rest of the least workload is found later
                let problem = parsed(&text).err().unwrap_or_default();
                for sign in ["unknown key", "unknown word", "wrong type", "wrong value", "missing key"] {
                    assert!(!problem.contains(sign), "{} {}: {problem}", table.header, key.name);
                }
            }
        }
    }

    /// Whether a value conforms to a schema, as far as ours go.
    fn conforms(value: &Value, schema: &Value) -> Result<(), String> {
        if let Some(words) = schema["enum"].as_array() {
            return if words.contains(value) { Ok(()) } else { Err(format!("{value} is none of {words:?}")) };
        }
        if let Some(ways) = schema["anyOf"].as_array() {
            let fits = ways.iter().any(|way| conforms(value, way).is_ok());
            return if fits { Ok(()) } else { Err(format!("{value} is none of {ways:?}")) };
        }
        let fits = match schema["type"].as_str() {
            None => true,
            Some("string") => value.is_string(),
            Some("boolean") => value.is_boolean(),
            Some("number") => value.is_number(),
            Some("integer") => {
                let least = schema["minimum"].as_i64().unwrap_or(i64::MIN);
                value.as_i64().is_some_and(|number| number >= least)
            }
            Some("array") => {
                let items = value.as_array().ok_or_else(|| format!("{value} is no list"))?;
                return items.iter().try_for_each(|item| conforms(item, &schema["items"]));
            }
            Some(_) => return object_conforms(value, schema),
        };
        if fits { Ok(()) } else { Err(format!("{value} is no {}", schema["type"])) }
    }

    fn object_conforms(value: &Value, schema: &Value) -> Result<(), String> {
        let object = value.as_object().ok_or_else(|| format!("{value} is no table"))?;
        for name in schema["required"].as_array().into_iter().flatten() {
            let name = name.as_str().unwrap_or_default();
            object.get(name).ok_or_else(|| format!("{name} is missing"))?;
        }
        for (name, value) in object {
            let of_key = schema["properties"].get(name).unwrap_or(&schema["additionalProperties"]);
            if *of_key == Value::Bool(false) {
                return Err(format!("unknown key {name}"));
            }
            conforms(value, of_key).map_err(|error| format!("{name}: {error}"))?;
        }
        Ok(())
    }

    fn checked(text: &str) -> Result<(), String> {
        let value: Value = toml::from_str(text).map_err(|error| error.to_string())?;
        conforms(&value, &schema())
    }

    #[test]
    fn shipped_workloads_conform_to_the_schema_and_wrong_ones_do_not() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../workloads");
        let mut folders = vec![root];
        let mut files = 0;
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(&folder).expect("workloads") {
                let path = entry.expect("an entry").path();
                if path.is_dir() {
                    // these are plans
                    folders.extend((!path.ends_with("regressions")).then_some(path));
                } else if path.extension().is_some_and(|ending| ending == "toml") {
                    let text = std::fs::read_to_string(&path).expect("a workload");
                    checked(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
                    files += 1;
                }
            }
        }
        assert!(files > 10);
        checked(&explain()).unwrap_or_else(|error| panic!("{error}"));
        for (right, wrong) in [
            ("nodes = 5", "nodes = \"5\""),
            ("nodes = 5", "nodes = 5\nnods = 5"),
            ("nodes = 5\n", "\n"),
            ("action = \"kill\"", "action = \"kil\""),
            ("at = \"2s\"", "at = 2"),
        ] {
            let text = explain();
            assert!(text.contains(right), "{right}");
            assert!(checked(&text.replacen(right, wrong, 1)).is_err(), "{wrong} conforms");
        }
    }
}
