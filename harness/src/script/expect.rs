//! An answer held against an expectation.

use checker::history::{Key, OpResult, Trip};
use store::api::NodeId;

use crate::{
    history_writer::{Ended, Finished},
    workload::{Expectation, StepOutcome},
};

/// An expectation, with its roles resolved.
pub struct Expected<'a> {
    /// What the step says.
    pub expect: &'a Expectation,
    /// The key that is asked for.
    pub key: &'a Key,
    /// The nodes that may have answered; none: any.
    pub leader: Option<Vec<NodeId>>,
    /// The nodes that must not have answered.
    pub not_leader: Option<Vec<NodeId>>,
}

impl Expected<'_> {
    /// True when no answer may come in all the step's time.
    pub fn wants_silence(&self) -> bool {
        matches!(self.expect.outcome, StepOutcome::Timeout | StepOutcome::Unanswered)
    }

    /// The least number of the attempt that may be answered, if this answer comes earlier.
    pub fn wants_later(&self, ended: &Ended, attempt: u64) -> Option<u64> {
        self.expect.attempts.filter(|least| ended.result().is_some() && attempt < *least)
    }

    /// Whether the operation ended as expected; if not, what was expected. `time_is_up` says that all the step's time has
    /// passed in attempts.
    pub fn judge(&self, finished: &Finished, time_is_up: bool) -> Result<(), String> {
        let ended = &finished.ended;
        let met = match (self.expect.outcome, ended) {
            (StepOutcome::Any, _)
            | (StepOutcome::Ok, Ended::Ok(_))
            | (StepOutcome::Fail | StepOutcome::Unanswered, Ended::Fail(_))
            | (StepOutcome::Timeout | StepOutcome::Unanswered, Ended::Info(_)) => true,
            (StepOutcome::Timeout, Ended::Fail(_)) => time_is_up,
            _ => false,
        };
        if !met {
            return Err(self.outcome_in_words().to_owned());
        }
        match ended {
            Ended::Ok(result) => self.judge_answer(result).and_then(|()| self.judge_way(&finished.trip)),
            Ended::Fail(error) | Ended::Info(error) => match &self.expect.error {
                Some(words) if !error.contains(words) => Err(format!("an error that says {words:?}")),
                _ => Ok(()),
            },
        }
    }

    fn judge_answer(&self, result: &OpResult) -> Result<(), String> {
        let expect = self.expect;
        if let Some(value) = expect.value.as_ref().map(|value| value.of(self.key))
            && result.returned.as_ref() != Some(&value)
        {
            return Err(format!("the value {value:?}"));
        }
        if let Some(absent) = expect.absent
            && result.returned.is_none() != absent
        {
            return Err(if absent { "an absent key" } else { "a value" }.to_owned());
        }
        if let Some(swapped) = expect.swapped
            && result.swapped != Some(swapped)
        {
            return Err(if swapped { "a swap" } else { "no swap" }.to_owned());
        }
        if let Some(fast) = expect.fast
            && result.fast != fast
        {
            return Err(if fast { "a fast read" } else { "an answer through the log" }.to_owned());
        }
        if let Some(local) = expect.local
            && result.local != local
        {
            return Err(if local { "a local read" } else { "an answer of the leader" }.to_owned());
        }
        if let Some(leaders) = &self.leader
            && !leaders.contains(&result.leader)
        {
            return Err(format!("an answer from {}", nodes(leaders)));
        }
        match &self.not_leader {
            Some(leaders) if leaders.contains(&result.leader) => {
                Err(format!("an answer from another node than {}", nodes(leaders)))
            }
            _ => Ok(()),
        }
    }

    /// How the operation came to who answered.
    fn judge_way(&self, trip: &Trip) -> Result<(), String> {
        if let Some(redirected) = self.expect.redirected
            && (trip.redirects > 0) != redirected
        {
            return Err(if redirected { "a redirect" } else { "no redirect" }.to_owned());
        }
        match self.expect.reconnected {
            Some(true) if trip.gone == 0 => {
                Err("an answer from another node than one that is gone".to_owned())
            }
            Some(false) if trip.gone > 0 => Err("no node that is gone".to_owned()),
            _ => Ok(()),
        }
    }

    fn outcome_in_words(&self) -> &'static str {
        match self.expect.outcome {
            StepOutcome::Ok => "an answer",
            StepOutcome::Fail => "a refusal",
            StepOutcome::Timeout => "no answer in time",
            StepOutcome::Unanswered => "no answer",
            StepOutcome::Any => "anything",
        }
    }
}

/// What came, in words.
pub fn shown(finished: &Finished) -> String {
    let Trip { redirects, gone, .. } = finished.trip;
    let way = match (redirects, gone) {
        (0, 0) => String::new(),
        _ => format!(" (redirected {redirects} times, {gone} times a node was gone)"),
    };
    match &finished.ended {
        Ended::Ok(result) => {
            let what = match (&result.returned, result.swapped) {
                (_, Some(true)) => "a swap".to_owned(),
                (Some(value), Some(false)) => format!("no swap, since it held {value:?}"),
                (None, Some(false)) => "no swap, since the key was absent".to_owned(),
                (Some(value), None) => format!("{value:?}"),
                (None, None) => "no value".to_owned(),
            };
            let speed = match (result.fast, result.local) {
                (true, _) => "fast",
                (_, true) => "local",
                _ => "through the log",
            };
            format!("{what}, {speed}, from node {} under ballot {}{way}", result.leader, result.ballot)
        }
        Ended::Fail(error) => format!("a refusal: {error}"),
        Ended::Info(error) => format!("no answer: {error}"),
    }
}

fn nodes(nodes: &[NodeId]) -> String {
    match nodes {
        [] => "nobody (the role is vacant)".to_owned(),
        [node] => format!("node {node}"),
        _ => format!("nodes {nodes:?}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(returned: Option<&str>, fast: bool, leader: NodeId) -> Ended {
        Ended::Ok(OpResult {
            returned: returned.map(str::to_owned),
            swapped: None,
            version: 1,
            index: None,
            leader,
            ballot: "0.1.0@n1".to_owned(),
            fast,
            local: false,
        })
    }

    fn judge(expect: &Expectation, ended: &Ended, time_is_up: bool) -> Result<(), String> {
        way(expect, ended, Trip::default(), time_is_up)
    }

    fn way(expect: &Expectation, ended: &Ended, trip: Trip, time_is_up: bool) -> Result<(), String> {
        let finished = Finished { ended: ended.clone(), node: 1, trip };
        let key = &Key::Integer(1);
        Expected { expect, key, leader: None, not_leader: Some(vec![2]) }.judge(&finished, time_is_up)
    }

    #[test]
    fn the_way_to_an_answer_is_judged() {
        let redirected = Expectation { redirected: Some(true), ..Expectation::default() };
        let straight = Expectation { redirected: Some(false), ..Expectation::default() };
        let reconnected = Expectation { reconnected: Some(true), ..Expectation::default() };
        let once = Trip { redirects: 1, ..Trip::default() };
        let gone = Trip { gone: 1, ..Trip::default() };
        let judged = |expect: &Expectation, trip: Trip| way(expect, &answer(None, false, 1), trip, false);
        assert_eq!(judged(&redirected, once), Ok(()));
        assert_eq!(judged(&redirected, gone), Err("a redirect".to_owned()));
        assert_eq!(judged(&straight, gone), Ok(()));
        assert_eq!(judged(&straight, once), Err("no redirect".to_owned()));
        assert_eq!(judged(&reconnected, gone), Ok(()));
        assert!(judged(&reconnected, once).is_err());
    }

    #[test]
    fn each_part_of_an_expectation_can_fail() {
        let expect = Expectation { value: Some("a".into()), fast: Some(true), ..Expectation::default() };
        assert_eq!(judge(&expect, &answer(Some("a"), true, 1), false), Ok(()));
        assert_eq!(judge(&expect, &answer(Some("b"), true, 1), false), Err("the value \"a\"".to_owned()));
        assert_eq!(judge(&expect, &answer(Some("a"), false, 1), false), Err("a fast read".to_owned()));
        let other = Err("an answer from another node than node 2".to_owned());
        assert_eq!(judge(&expect, &answer(Some("a"), true, 2), false), other);
        assert_eq!(judge(&expect, &Ended::Info("late".to_owned()), false), Err("an answer".to_owned()));
    }

    #[test]
    fn refusals_become_a_timeout_only_when_time_is_up() {
        let expect = Expectation { outcome: StepOutcome::Timeout, ..Expectation::default() };
        let refused = Ended::Fail("no leader".to_owned());
        assert!(judge(&expect, &refused, false).is_err());
        assert!(judge(&expect, &refused, true).is_ok());
        assert!(judge(&expect, &answer(None, false, 1), true).is_err());
        assert!(judge(&expect, &Ended::Info("late".to_owned()), false).is_ok());
    }

    #[test]
    fn an_answer_before_the_least_attempt_comes_too_early() {
        let expect = Expectation { attempts: Some(3), ..Expectation::default() };
        let expected = Expected { expect: &expect, key: &Key::Integer(1), leader: None, not_leader: None };
        assert_eq!(expected.wants_later(&answer(None, false, 1), 2), Some(3));
        assert_eq!(expected.wants_later(&answer(None, false, 1), 3), None);
        assert_eq!(expected.wants_later(&Ended::Fail("no leader".to_owned()), 1), None);
    }

    #[test]
    fn an_error_must_say_what_is_expected() {
        let expect = Expectation {
            outcome: StepOutcome::Fail,
            error: Some("not ready".to_owned()),
            ..Expectation::default()
        };
        assert!(judge(&expect, &Ended::Fail("the cluster is not ready: 8 of 9".to_owned()), false).is_ok());
        assert!(judge(&expect, &Ended::Fail("refused".to_owned()), false).is_err());
    }
}
