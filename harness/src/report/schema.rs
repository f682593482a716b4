//! What `verdict.json` holds: every field with its meaning and unit, in one list, from which come the words of
//! `harness explain-verdict` and its JSON schema. Where tests run, every verdict that is written is held against it.

use std::fmt::Write as _;

use serde_json::{Map, Value, json};

use Kind::{Bool, Each, Integer, List, Maybe, Number, Object, OneOf, Pair, Text};

/// The version of `verdict.json`. It grows when a field gets another meaning, or goes; not when one is added.
pub const VERSION: u32 = 1;

/// A field.
struct Field {
    name: &'static str,
    kind: Kind,
    there: There,
    about: &'static str,
}

/// When a field is there.
#[derive(Clone, Copy, PartialEq, Eq)]
enum There {
    Always,
    /// In runs on real processes, not in simulated ones.
    Real,
    UnlessZero,
}

/// What a field holds.
#[derive(Clone, Copy)]
enum Kind {
    Text,
    Bool,
    /// From 0.
    Integer,
    Number,
    OneOf(&'static [&'static str]),
    /// Or `null`.
    Maybe(&'static Kind),
    List(&'static Kind),
    /// An object with one value for each thing of that name.
    Each(&'static str, &'static Kind),
    /// Two of them.
    Pair(&'static Kind),
    Object(&'static [Field]),
}

/// A field that all runs have.
const fn both(name: &'static str, kind: Kind, about: &'static str) -> Field {
    Field { name, kind, there: There::Always, about }
}

/// A field that only runs on real processes have.
const fn real(name: &'static str, kind: Kind, about: &'static str) -> Field {
    Field { name, kind, there: There::Real, about }
}

const STATUS: Kind = OneOf(&["valid", "unknown", "violation"]);

const FIELDS: &[Field] = &[
    both("version", Integer, "of this format: 1"),
    both("workload", Text, "name of the workload"),
    both("seed", Integer, "seed of the run"),
    both("verdict", STATUS, "what the checks come to; unknown is never valid"),
    both(
        "as_expected",
        Bool,
        "whether that is what the workload expects: of one with a planted bug, a violation",
    ),
    both(
        "exit_code",
        Integer,
        "of the process for this run: 0 as expected, 1 violation (or an expected one not found), 3 undecided, 4 the run failed",
    ),
    both("words", Text, "why the verdict is what it is, in one line"),
    both("missing", List(&Text), "what the run should have contained and did not; then it shows nothing"),
    both(
        "checks",
        List(&Object(CHECK)),
        "each check that was made, or, of a simulated run, that found something",
    ),
    real("facts", Object(FACTS), "what the run contained, beside its figures"),
    real("figures", Object(FIGURES), "figures of the run"),
    both("mutant", Maybe(&Text), "the planted bug"),
    real("deaths", List(&Object(DEATH)), "nodes that ended by themselves: nobody had killed them"),
    both("again", Text, "the command that does the same again, with the same plan"),
    real("folder", Text, "the folder of the run, when it was made"),
];

const CHECK: &[Field] = &[
    both(
        "name",
        OneOf(&["linearizable", "sequential", "lease-safety", "progress", "script", "statements"]),
        "which check",
    ),
    both("status", STATUS, "what it comes to"),
    both("words", Text, "in one line"),
    both("findings", List(&Text), "what was found, one text each"),
];

const FACTS: &[Field] = &[
    real(
        "fast_reads_near_expiry",
        Maybe(&Integer),
        "fast reads in the last tenth of a hold; null: traces were not read",
    ),
    real(
        "failed_elections",
        Maybe(&Each("partition", &Integer)),
        "take-overs that never came to lead; null: traces were not read",
    ),
    real("keys", Integer, "keys of the run"),
    real("keys_read_at_the_end", Integer, "of these, keys that were read after everything was healed"),
    real("mutant_reached", Integer, "how often a planted bug was reached"),
    real("snapshots_fetched", Integer, "snapshots that a node has fetched from another"),
];

const FIGURES: &[Field] = &[
    real("seconds", Number, "length of the run from boot to end, in seconds"),
    real("operations", Each("kind", &Object(OUTCOMES)), "operations: get, put, cas, delete"),
    real("fast_reads", Integer, "reads that leaders answered without their group"),
    real("local_reads", Integer, "reads that replicas answered from what they had applied"),
    real("ways", Object(WAYS), "what all operations together met on their ways from node to node"),
    real("latencies", List(&Object(LATENCY)), "how long answered operations took, by the way that they took"),
    real("faults", List(&Object(FAULT)), "the faults that began before everything was healed"),
    real("leader_changes", Each("partition", &Integer), "leader changes"),
    real(
        "stalls",
        List(&Pair(&Number)),
        "from when to when the harness itself did not run when it should have, in seconds since the run began",
    ),
];

const OUTCOMES: &[Field] = &[
    real("ok", Integer, "answered"),
    real("fail", Integer, "definitely did not happen"),
    real("info", Integer, "nobody knows whether they happened"),
];

const WAYS: &[Field] = &[
    real("redirects", Integer, "times that a node named the leader and the client went there"),
    real("gone", Integer, "times that a node could not be reached"),
    real("leaderless", Integer, "times that a node knew of no leader"),
    real("behind", Integer, "times that a replica had not applied as much as the client had seen"),
    Field {
        name: "unknown",
        kind: Integer,
        there: There::UnlessZero,
        about: "times that an operation was asked for again in its session; left out if it is 0",
    },
];

const LATENCY: &[Field] = &[
    real("way", OneOf(&["fast reads", "local reads", "log reads", "writes"]), "the way"),
    real("count", Integer, "answered operations"),
    real("per_second", Number, "of the time from the first invocation to the last end"),
    real("p50", Integer, "half took no longer, in microseconds"),
    real("p90", Integer, "nine of ten took no longer, in microseconds"),
    real("p99", Integer, "99 of 100 took no longer, in microseconds"),
    real("max", Integer, "none took longer, in microseconds"),
];

const FAULT: &[Field] = &[
    real("fault", Integer, "its number in the history"),
    real("action", Text, "what: a word of harness explain-workload"),
    real("target", Text, "whom, as the workload says"),
    real("nodes", List(&Integer), "whom it came down to; none: it did not happen"),
    real("from", Integer, "when it was in effect, in nanoseconds of the history"),
    real("to", Maybe(&Integer), "when it was undone, in nanoseconds of the history"),
    real("instant", Bool, "it did not last: there was nothing to undo"),
    real("overlapping", Integer, "answered operations that overlap it"),
    real("struck", Maybe(&Integer), "how much it has struck, where that is counted; 0: it came to nothing"),
];

const DEATH: &[Field] = &[
    real("node", Integer, "the node"),
    real(
        "cause",
        Each("kind", &Text),
        "what it died of, in words: `assertion` of its core, which is a violation of lease safety, or `unknown`",
    ),
    real("log", Text, "the last lines of its log"),
];

/// What every field means, for people.
pub fn explain() -> String {
    let mut text = format!(
        "verdict.json, version {VERSION}: what a run has come to. A field that is added does not change the version.\n\
         Fields marked * are those of runs on real processes; simulated runs have the others.\n\n"
    );
    describe(&mut text, "", FIELDS);
    text
}

fn describe(text: &mut String, before: &str, fields: &[Field]) {
    for field in fields {
        let name = format!("{before}{}", field.name);
        let mark = if field.there == There::Real && before.is_empty() { "*" } else { " " };
        // writing to a String cannot fail
        let _ = writeln!(text, "{mark} {name}: {}\n      {}", in_words(field.kind), field.about);
        inner(text, name, field.kind);
    }
}

/// The fields of what a field holds.
fn inner(text: &mut String, name: String, kind: Kind) {
    match kind {
        List(of) => inner(text, name + "[]", *of),
        Each(what, of) => inner(text, format!("{name}.{}", what.to_uppercase()), *of),
        Maybe(of) => inner(text, name, *of),
        Object(fields) => describe(text, &format!("{name}."), fields),
        Text | Bool | Integer | Number | OneOf(_) | Pair(_) => {}
    }
}

fn in_words(kind: Kind) -> String {
    match kind {
        Text => "text".to_owned(),
        Bool => "true or false".to_owned(),
        Integer => "whole number".to_owned(),
        Number => "number".to_owned(),
        OneOf(words) => words.join(" | "),
        Maybe(of) => format!("{}, or null", in_words(*of)),
        List(of) => format!("list: {}", in_words(*of)),
        Each(what, of) => format!("by {what}: {}", in_words(*of)),
        Pair(of) => format!("two: {}", in_words(*of)),
        Object(_) => "object".to_owned(),
    }
}

/// The JSON schema of `verdict.json`.
pub fn schema() -> Value {
    let simulated: Vec<&Field> = FIELDS.iter().filter(|field| field.there != There::Real).collect();
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "verdict.json of a run",
        "description": format!("Version {VERSION}. The first form is of runs on real processes, the second of simulated ones."),
        "anyOf": [object(&FIELDS.iter().collect::<Vec<_>>()), object(&simulated)],
    })
}

fn object(fields: &[&Field]) -> Value {
    let mut properties = Map::new();
    for field in fields {
        let mut value = as_schema(field.kind);
        if field.name == "version" {
            value = json!({ "enum": [VERSION] });
        } else if field.name == "exit_code" {
            value = json!({ "enum": [0, 1, 3, 4] });
        }
        value["description"] = field.about.into();
        properties.insert(field.name.to_owned(), value);
    }
    let required = fields.iter().filter(|field| field.there != There::UnlessZero);
    let required: Vec<&str> = required.map(|field| field.name).collect();
    json!({ "type": "object", "properties": properties, "required": required, "additionalProperties": false })
}

fn as_schema(kind: Kind) -> Value {
    match kind {
        Text => json!({ "type": "string" }),
        Bool => json!({ "type": "boolean" }),
        Integer => json!({ "type": "integer", "minimum": 0 }),
        Number => json!({ "type": "number" }),
        OneOf(words) => json!({ "enum": words }),
        Maybe(of) => json!({ "anyOf": [{ "type": "null" }, as_schema(*of)] }),
        List(of) => json!({ "type": "array", "items": as_schema(*of) }),
        Each(_, of) => json!({ "type": "object", "additionalProperties": as_schema(*of) }),
        Pair(of) => json!({ "type": "array", "items": as_schema(*of), "minItems": 2, "maxItems": 2 }),
        Object(fields) => object(&fields.iter().collect::<Vec<_>>()),
    }
}

/// A verdict as `verdict.json` holds it. In builds that are tested, one that is not as this says is a bug.
pub(crate) fn in_json(verdict: &impl serde::Serialize) -> serde_json::Result<String> {
    let text = serde_json::to_string_pretty(verdict)?;
    debug_assert_eq!(
        serde_json::from_str(&text).map(|verdict| conforms(&verdict, &schema())).ok(),
        Some(Ok(()))
    );
    Ok(text)
}

/// Holds a value against a schema, as far as the schemas here go.
pub(crate) fn conforms(value: &Value, schema: &Value) -> Result<(), String> {
    if let Some(words) = schema["enum"].as_array() {
        return if words.contains(value) { Ok(()) } else { Err(format!("{value} is none of {words:?}")) };
    }
    if let Some(ways) = schema["anyOf"].as_array() {
        let errors: Vec<String> = ways.iter().filter_map(|way| conforms(value, way).err()).collect();
        return if errors.len() < ways.len() { Ok(()) } else { Err(errors.join("; or ")) };
    }
    let fits = match schema["type"].as_str() {
        None => true,
        Some("null") => value.is_null(),
        Some("string") => value.is_string(),
        Some("boolean") => value.is_boolean(),
        Some("number") => value.is_number(),
        Some("integer") => {
            let least = schema["minimum"].as_i64().unwrap_or(i64::MIN);
            value.is_u64() || value.as_i64().is_some_and(|number| number >= least)
        }
        Some("array") => {
            let items = value.as_array().ok_or_else(|| format!("{value} is no list"))?;
            let count =
                schema["minItems"].as_u64().unwrap_or(0)..=schema["maxItems"].as_u64().unwrap_or(u64::MAX);
            if !count.contains(&(items.len() as u64)) {
                return Err(format!("{value} has {} items", items.len()));
            }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        cluster::{Cause, Death},
        report::{Facts, FaultFigures, Figures, Latency, Outcomes},
    };

    /// A verdict of a run on real processes that has everything.
    fn full() -> Value {
        let latency = Latency { way: "log reads", count: 1, per_second: 0.5, p50: 1, p90: 2, p99: 3, max: 4 };
        let fault = FaultFigures {
            fault: 1,
            action: "kill".to_owned(),
            target: "leader(1)".to_owned(),
            nodes: vec![2],
            from: 5,
            to: Some(6),
            instant: false,
            overlapping: 3,
            struck: Some(0),
        };
        let figures = Figures {
            operations: [("get", Outcomes { ok: 1, fail: 2, info: 3 })].into(),
            latencies: vec![latency],
            faults: vec![fault],
            leader_changes: [(1, 2)].into(),
            stalls: vec![(0.5, 0.75)],
            ..Figures::default()
        };
        let facts = Facts { failed_elections: Some([(1, 0)].into()), ..Facts::default() };
        let cause = Cause::Assertion("SP3".to_owned());
        let death = Death { node: 2, cause, log: "last words".to_owned() };
        json!({
            "version": VERSION, "workload": "w", "seed": 7, "verdict": "violation", "as_expected": false, "exit_code": 1,
            "words": "so", "missing": ["this"], "mutant": null, "deaths": [death], "again": "harness", "folder": "results",
            "checks": [{ "name": "lease-safety", "status": "violation", "words": "so", "findings": ["L3"] }],
            "facts": facts, "figures": figures,
        })
    }

    #[test]
    fn what_is_written_conforms_and_whatever_is_changed_does_not() {
        let schema = schema();
        let full = full();
        assert_eq!(conforms(&full, &schema), Ok(()));
        let simulated = json!({
            "version": 1, "workload": "w", "seed": 7, "verdict": "unknown", "as_expected": false, "exit_code": 3, "words": "",
            "missing": [], "checks": [], "mutant": "bug", "again": "harness",
        });
        assert_eq!(conforms(&simulated, &schema), Ok(()));
        let mut tried = 0;
        // each field of each object in turn: left out, under another name, and of another kind
        for place in places(&full, "") {
            for change in 0..3 {
                let mut changed = full.clone();
                let (parent, name) = place.rsplit_once('/').expect("a field");
                let parent = changed.pointer_mut(parent).and_then(Value::as_object_mut).expect("an object");
                let value = parent.remove(name).expect("it is there");
                match change {
                    0 => {}
                    1 => drop(parent.insert(format!("{name}_"), value)),
                    _ => drop(parent.insert(name.to_owned(), json!([[1]]))),
                }
                // names of partitions and operations are free
                let free = ["/operations/", "/leader_changes/", "/failed_elections/", "/cause/"];
                if change == 2
                    || !free.iter().any(|free| {
                        place.rsplit_once('/').is_some_and(|(of, _)| (of.to_owned() + "/").ends_with(free))
                    })
                {
                    assert!(conforms(&changed, &schema).is_err(), "{place}: {changed}");
                    tried += 1;
                }
            }
        }
        assert!(tried > 120, "{tried}");
        let mut later = full;
        later["version"] = 2.into();
        assert!(conforms(&later, &schema).is_err());
    }

    /// The pointers to all fields of all objects.
    fn places(value: &Value, at: &str) -> Vec<String> {
        match value {
            Value::Object(fields) => fields
                .iter()
                .flat_map(|(name, value)| {
                    let at = format!("{at}/{name}");
                    let inner = places(value, &at);
                    [at].into_iter().chain(inner)
                })
                .collect(),
            Value::Array(items) => items
                .iter()
                .enumerate()
                .flat_map(|(number, item)| places(item, &format!("{at}/{number}")))
                .collect(),
            _ => Vec::new(),
        }
    }

    #[test]
    fn every_field_is_explained() {
        let text = explain();
        for place in places(&full(), "") {
            let name = place.rsplit('/').next().unwrap_or_default();
            let free = ["get", "1", "assertion"].contains(&name);
            assert!(free || text.contains(&format!("{name}: ")), "{place} is not in\n{text}");
        }
        assert!(
            text.contains("figures.latencies[].p50: whole number") && text.contains("microseconds"),
            "{text}"
        );
        assert!(text.contains("figures.operations.KIND.ok: "), "{text}");
    }
}
