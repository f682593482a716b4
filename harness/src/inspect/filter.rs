//! Which of what happened is asked for.

use anyhow::{Result, bail};

use super::InspectArguments;
use crate::recorded::{Operation, Recorded};

/// Least and most nanoseconds before and after an operation that surround it.
const LEAST: u64 = 5_000_000;
const MOST: u64 = 1_000_000_000;

/// What an event must be to be shown.
pub(super) struct Filter<'a> {
    arguments: &'a InspectArguments,
    key: Option<u32>,
    /// Nanoseconds of the history; logs may be older than it.
    from: i64,
    to: i64,
    /// Nothing is said of operations: the course of the run is asked for.
    pub(super) course: bool,
}

impl<'a> Filter<'a> {
    pub(super) fn of(
        arguments: &'a InspectArguments,
        run: &Recorded,
        centre: Option<&Operation>,
    ) -> Result<Self> {
        let key = match &arguments.key {
            Some(key) => match run.texts.find(key) {
                u32::MAX => bail!("no operation is about the key `{key}`"),
                number => Some(number),
            },
            None => centre.map(|operation| operation.key),
        };
        let nanos = |time: crate::workload::Time| time.0.as_nanos().min(i64::MAX as u128) as i64;
        let around = centre.map(surroundings);
        let from = arguments.from.map(nanos).or(around.map(|(from, _)| from)).unwrap_or(i64::MIN);
        let to = arguments.to.map(nanos).or(around.map(|(_, to)| to)).unwrap_or(i64::MAX);
        if from > to {
            bail!("--from is later than --to: there is no such time");
        }
        let course = key.is_none()
            && arguments.process.is_none()
            && arguments.client.is_none()
            && arguments.node.is_none()
            && arguments.function.is_empty()
            && arguments.outcome.is_empty()
            && arguments.slower.is_none()
            && arguments.from.is_none()
            && arguments.to.is_none();
        Ok(Self { arguments, key, from, to, course })
    }

    /// The time that is asked for, as far as it is one of the history.
    pub(super) fn span(&self) -> (u64, u64) {
        (self.from.max(0) as u64, self.to.max(0) as u64)
    }

    /// Whether something that lasted from one moment to another touches the time that is asked for.
    pub(super) fn covers(&self, from: i64, to: i64) -> bool {
        from <= self.to && to >= self.from
    }

    /// Whether an operation is one of those asked for, but for its key.
    pub(super) fn takes(&self, operation: &Operation) -> bool {
        let Self { arguments, .. } = self;
        let is = |asked: Option<u64>, of: u64| asked.is_none_or(|asked| asked == of);
        let ended = operation.ended.map_or(i64::MAX, |ended| ended as i64);
        let took = operation.ended.map_or(u64::MAX, |ended| ended - operation.invoked);
        self.covers(operation.invoked as i64, ended)
            && is(arguments.process, operation.process)
            && is(arguments.client, operation.client)
            && (is(arguments.node, operation.node) || is(arguments.node, operation.last_node))
            && (arguments.function.is_empty() || arguments.function.contains(&operation.what))
            && (arguments.outcome.is_empty() || arguments.outcome.contains(&operation.outcome))
            && arguments.slower.is_none_or(|slower| u128::from(took) >= slower.0.as_nanos())
    }

    /// Whether it is on the key that is asked for.
    pub(super) fn is_on_key(&self, operation: &Operation) -> bool {
        self.key.is_none_or(|key| key == operation.key)
    }
}

fn surroundings(operation: &Operation) -> (i64, i64) {
    let end = operation.ended.unwrap_or(operation.invoked + MOST);
    let margin = ((end - operation.invoked) / 5).clamp(LEAST, MOST);
    (operation.invoked as i64 - margin as i64, (end + margin) as i64)
}
