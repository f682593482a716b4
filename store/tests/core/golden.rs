//! Golden scripts: short stories of the protocol in simulated time, in `tests/golden/`. Lines that begin with `#` tell the
//! story, lines that begin with `>` are commands, and what follows them is what happened. `UPDATE_GOLDEN=1` writes what
//! happens now; the difference is reviewed like code.
//!
//! Messages take a millisecond, a sync half of one, the heartbeat period is 50 ms, the election timeout 300 ms and the lease
//! 300 ms. Every turn is watched by the invariants. `messages NAME...` tells of these messages too; without names, of none.

use std::{collections::BTreeMap, fmt::Write, path::Path};

use crate::{
    cluster::one_partition,
    world::{Constant, MS, World},
};
use store::{
    api::{Key, NodeId, Operation, SessionTag},
    config::TrimConfig,
};

#[test]
fn every_script_tells_what_happens() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let mut scripts: Vec<_> = std::fs::read_dir(&folder)
        .expect("the folder of scripts")
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "txt"))
        .collect();
    scripts.sort();
    assert!(scripts.len() >= 29, "the scripts are there");
    let mut different = Vec::new();
    for path in scripts {
        let script = std::fs::read_to_string(&path).expect("a script");
        let told = tell(&script).unwrap_or_else(|problem| panic!("{}: {problem}", path.display()));
        if told == script {
            continue;
        }
        if std::env::var_os("UPDATE_GOLDEN").is_some() {
            std::fs::write(&path, told).expect("the script is written");
        } else {
            different.push(format!("{}\n{}", path.display(), first_difference(&script, &told)));
        }
    }
    assert!(different.is_empty(), "scripts that tell another story now:\n{}", different.join("\n"));
}

fn first_difference(script: &str, told: &str) -> String {
    let lines = script.lines().zip(told.lines()).zip(1..);
    match lines.into_iter().find(|((before, now), _)| before != now) {
        Some(((before, now), line)) => format!("  line {line}\n  - {before}\n  + {now}"),
        None => "  one is longer".to_owned(),
    }
}

/// The script with what happens now after each command.
fn tell(script: &str) -> Result<String, String> {
    let mut story = Story { world: None };
    let mut told = String::new();
    let mut after_command = false;
    for (line, number) in script.lines().zip(1..) {
        if let Some(command) = line.strip_prefix("> ") {
            writeln!(told, "{line}").expect("text grows");
            story.perform(command, &mut told).map_err(|problem| format!("line {number}: {problem}"))?;
            after_command = true;
        } else if line.starts_with('#') {
            after_command = false;
            writeln!(told, "{line}").expect("text grows");
        } else if line.is_empty() || !after_command {
            writeln!(told, "{line}").expect("text grows");
        }
    }
    Ok(told)
}

struct Story {
    world: Option<World>,
}

impl Story {
    fn perform(&mut self, command: &str, told: &mut String) -> Result<(), String> {
        let words: Vec<&str> = command.split_whitespace().collect();
        if words[0] == "cluster" {
            self.world = Some(cluster(&words[1..])?);
            return Ok(());
        }
        let world = self.world.as_mut().ok_or("no cluster")?;
        command_in(world, &words)?;
        if words[0] == "show" {
            show(world, told);
        }
        for line in std::mem::take(&mut world.told) {
            writeln!(told, "{line}").expect("text grows");
        }
        Ok(())
    }
}

/// `cluster NODES [no-lease] [trim SNAPSHOT-AFTER KEEP] [idle MILLISECONDS]`: one partition on all of them.
fn cluster(words: &[&str]) -> Result<World, String> {
    let nodes = number(words.first())?;
    let mut cluster = one_partition(nodes);
    if words.contains(&"no-lease") {
        cluster.lease = None;
    }
    if let Some(place) = words.iter().position(|word| *word == "trim") {
        let (snapshot_after_bytes, keep_log_bytes) =
            (number(words.get(place + 1))?, number(words.get(place + 2))?);
        cluster.trimming = TrimConfig { snapshot_after_bytes, keep_log_bytes };
    }
    if let Some(place) = words.iter().position(|word| *word == "idle") {
        cluster.session_idle_ms = number(words.get(place + 1))?;
    }
    let mut world = World::new(&cluster, nodes, &BTreeMap::new(), None, Box::new(Constant));
    for node in 1..=nodes {
        world.start(node)?;
    }
    Ok(world)
}

fn command_in(world: &mut World, words: &[&str]) -> Result<(), String> {
    let node = |position: usize| number(words.get(position));
    match words[0] {
        "run" => world.run(node(1)? * MS),
        // until there is a leader, which the first script tells of
        "boot" => {
            world.run(600 * MS)?;
            world.told.clear();
            Ok(())
        }
        "show" => Ok(()),
        "messages" => {
            world.tell_messages = words[1..].iter().map(|name| (*name).to_owned()).collect();
            Ok(())
        }
        "crash" => {
            world.crash(node(1)?);
            Ok(())
        }
        "restart" => world.start(node(1)?),
        "pause" => {
            world.pause(node(1)?);
            Ok(())
        }
        "resume" => {
            world.resume(node(1)?);
            Ok(())
        }
        "stall" | "unstall" => {
            world.stall_disk(node(1)?, words[0] == "stall");
            Ok(())
        }
        "cut-oneway" => {
            world.cut(node(1)?, node(2)?);
            Ok(())
        }
        "cut" => {
            world.cut(node(1)?, node(2)?);
            world.cut(node(2)?, node(1)?);
            Ok(())
        }
        "isolate" => {
            let lonely = node(1)?;
            for other in world.ids().into_iter().filter(|other| *other != lonely) {
                world.cut(lonely, other);
                world.cut(other, lonely);
            }
            Ok(())
        }
        "heal" => world.open_all(),
        "lose" => {
            world.lose(node(1)?, node(2)?, words[3]);
            Ok(())
        }
        "mute" => {
            world.mute(node(1)?, node(2)?, words[3], true);
            Ok(())
        }
        "keep" => {
            world.keep(node(1)?, node(2)?, words[3]);
            Ok(())
        }
        "release" => {
            world.release(node(1)?, node(2)?);
            Ok(())
        }
        "transfer" => world.transfer(node(1)?, node(2)?),
        "ask" => world.ask(node(1)?, operation(&words[2..])?).map(drop),
        // the session, the number of the write in it, then as `ask`
        "ask-in" => {
            let session = Some(SessionTag { session: node(1)?, sequence: node(2)? });
            world.ask_in(session, node(3)?, operation(&words[4..])?, 0).map(drop)
        }
        other => Err(format!("unknown command {other}")),
    }
}

fn operation(words: &[&str]) -> Result<Operation, String> {
    let key = |name: &str| Key::String(name.to_owned());
    match words {
        ["get", name] => Ok(Operation::Get { key: key(name) }),
        ["put", name, value] => Ok(Operation::Put { key: key(name), value: (*value).into() }),
        ["cas", name, "absent", new] => {
            Ok(Operation::Cas { key: key(name), expected: None, new: (*new).into() })
        }
        ["cas", name, expected, new] => {
            Ok(Operation::Cas { key: key(name), expected: Some((*expected).into()), new: (*new).into() })
        }
        ["delete", name] => Ok(Operation::Delete { key: key(name) }),
        ["open-session", name] => Ok(Operation::OpenSession { key: key(name) }),
        _ => Err(format!("no operation: {words:?}")),
    }
}

fn number(word: Option<&&str>) -> Result<NodeId, String> {
    word.ok_or("a number is missing")?.parse().map_err(|error| format!("{error}"))
}

fn show(world: &World, told: &mut String) {
    for id in world.ids() {
        let Some(status) = world.status(id) else {
            writeln!(told, "n{id}: down").expect("text grows");
            continue;
        };
        for group in status.partitions {
            let gone = match group.log_start {
                0 => String::new(),
                start => format!(", {start} of them gone"),
            };
            let hold = if group.hold_ms.is_some() { ", holds the lease" } else { "" };
            let suspects = if status.suspected.is_empty() {
                String::new()
            } else {
                format!(", suspects {:?}", status.suspected)
            };
            writeln!(
                told,
                "n{id}: {}, elected {}, promised {}, {} entries, {} decided{gone}{hold}{suspects}",
                group.role, group.elected, group.promised, group.log_length, group.decided
            )
            .expect("text grows");
        }
    }
}
