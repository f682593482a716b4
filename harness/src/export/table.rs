//! One line for each operation, for spreadsheets and data frames.

use std::{
    io::{self, Write},
    path::Path,
};

use anyhow::{Result, ensure};
use serde::Serialize;

use crate::recorded::{Operation, Recorded};

/// A line; `results/README.md` says what the columns mean.
#[derive(Debug, Serialize)]
pub(crate) struct Row<'a> {
    line: u32,
    end_line: Option<u32>,
    process: u64,
    client: u64,
    node: u64,
    last_node: u64,
    function: &'static str,
    key: &'a str,
    value: Option<&'a str>,
    expected: Option<&'a str>,
    outcome: &'static str,
    invoked_ns: u64,
    ended_ns: Option<u64>,
    /// Whether there was a value, of an answer that holds the value seen: it tells an empty one from none.
    found: Option<bool>,
    returned: Option<&'a str>,
    swapped: Option<bool>,
    version: Option<u64>,
    index: Option<u64>,
    leader: Option<u64>,
    ballot: Option<&'a str>,
    fast: Option<bool>,
    local: Option<bool>,
    error: Option<&'a str>,
    trip: Option<&'a str>,
}

/// Writes the operations, in the order of invocation.
pub(super) fn write(folder: &Path, key: Option<&str>, out: &mut impl Write) -> Result<()> {
    let run = Recorded::read(folder)?;
    let only = key.map(|key| run.texts.find(key));
    let of_key = |operation: &&Operation| only.is_none_or(|only| operation.key == only);
    let mut table = csv::Writer::from_writer(out);
    let mut any = false;
    for operation in run.operations.iter().filter(of_key) {
        table.serialize(row(&run, operation)).map_err(io::Error::from)?;
        any = true;
    }
    ensure!(any || key.is_none(), "no operation is about the key `{}`", key.unwrap_or_default());
    table.flush()?;
    Ok(())
}

/// The line of an operation.
pub(crate) fn row<'a>(run: &'a Recorded, operation: &Operation) -> Row<'a> {
    let text = |number| run.texts.get(number);
    let answered = operation.answered();
    Row {
        line: operation.line,
        end_line: operation.ended.map(|_| operation.end_line),
        process: operation.process,
        client: operation.client,
        node: operation.node,
        last_node: operation.last_node,
        function: operation.what.name(),
        key: text(operation.key).unwrap_or_default(),
        value: text(operation.value),
        expected: text(operation.expected),
        outcome: operation.outcome.name(),
        invoked_ns: operation.invoked,
        ended_ns: operation.ended,
        found: operation.tells_a_value().then_some(operation.returned > 0),
        returned: text(operation.returned),
        swapped: operation.swapped,
        version: answered.then_some(operation.version),
        index: answered.then_some(operation.index).filter(|index| *index > 0),
        leader: answered.then_some(operation.leader),
        ballot: text(operation.ballot),
        fast: answered.then_some(operation.fast),
        local: answered.then_some(operation.local),
        error: text(operation.error),
        trip: text(operation.trip),
    }
}
