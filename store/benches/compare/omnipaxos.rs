//! Three members of a key-value store on the `omnipaxos` crate (`../omnipaxos`), built beside the project.

use std::{path::Path, process::Command};

use anyhow::{Context, Result, ensure};

use crate::plain::Part;

/// The three processes, the leader first; `way`: what moves their bytes, `tasks` or `tight`.
pub fn start(program: &Path, way: &str) -> Result<Vec<Part>> {
    let start = |number: u32| {
        let mut command = Command::new(program);
        command.args([way, &number.to_string()]);
        Part::begin(command).with_context(|| format!("cannot start {}", program.display()))
    };
    let mut members: Vec<Part> = (1..=3).map(start).collect::<Result<_>>()?;
    let addresses: Vec<String> = members.iter().map(|member| member.address.clone()).collect();
    for member in &mut members {
        member.tell(&addresses.join(" "))?;
    }
    let said = members[0].hear().context("the first one was to lead")?;
    ensure!(said == "leads", "the first one was to lead, and said {said:?}");
    Ok(members)
}
