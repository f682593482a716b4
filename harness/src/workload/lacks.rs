//! What of a workload, or of a plan, has no meaning for a system that is not the store: nobody says who leads there, clocks and
//! disks are out of reach, and some things cannot be asked for at all.

use super::{
    Ask, CheckName, Choice, Consistency, Death, Expectation, FaultAction, FaultSpec, Happening, LinkRule,
    Mix, Require, Shape, System,
    scalar::{Target, Wait},
    statement::Says,
};
use crate::proxy::Match;

/// What has no meaning, and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Lack {
    /// What, and for which system.
    pub(crate) what: String,
    /// What would be right.
    pub(crate) help: &'static str,
}

impl System {
    /// A key that only the store has.
    pub(crate) fn has_no(&self, key: &str) -> Lack {
        self.lack(key, "remove it: only the store of this project has that")
    }

    fn lack(&self, key: &str, help: &'static str) -> Lack {
        Lack { what: format!("`{key}` has no meaning for {}", self.name()), help }
    }

    /// Why a fault cannot be done to it; none: it can.
    pub(crate) fn lacks(&self, fault: &FaultSpec) -> Option<&'static str> {
        if self.is_store() {
            return None;
        }
        self.lacks_role(&fault.target).or_else(|| match &fault.action {
            FaultAction::Kill(Death::Now) => None,
            FaultAction::Kill(_) | FaultAction::StallDisk { .. } => Some("its disk is out of reach"),
            FaultAction::Wipe if matches!(self, Self::Etcd { .. }) => None,
            FaultAction::Wipe => Some("it has no way back in for a member without its disk"),
            FaultAction::TransferLeader { .. } => Some("nobody says who leads"),
            FaultAction::Clock(_) => Some("its clock is out of reach"),
            FaultAction::Links { rule: LinkRule::Frames { matching, .. }, .. } => match self {
                Self::Etcd { .. } | Self::Redis { .. } => Some("its messages are not known, only bytes"),
                _ if *matching != Match::default() => Some("its messages have no kinds that are known"),
                _ => None,
            },
            FaultAction::Links { .. }
            | FaultAction::Restart
            | FaultAction::Pause
            | FaultAction::Resume
            | FaultAction::Release
            | FaultAction::Reset
            | FaultAction::Heal => None,
        })
    }

    /// Why it is not known which nodes a target means; none: it is.
    pub(crate) fn lacks_role(&self, target: &Target) -> Option<&'static str> {
        match target {
            _ if self.is_store() => None,
            Target::Leader(_) | Target::LeaseHolder(_) | Target::Follower(_) | Target::Followers(_) => {
                Some("does not say who leads")
            }
            Target::Lagging(_) => Some("does not say how far a node has come"),
            Target::Minority(Some(_)) | Target::Majority(Some(_)) => Some("has no partitions that are known"),
            Target::Node(_)
            | Target::Nodes(_)
            | Target::Random
            | Target::All
            | Target::Minority(None)
            | Target::Majority(None)
            | Target::Answered(_) => None,
        }
    }

    /// Why a fault cannot wait for this; none: it can.
    pub(crate) fn lacks_happening(&self, happening: &Happening) -> Option<Lack> {
        let tells = self.is_store()
            || !matches!(happening, Happening::Message { .. } | Happening::LeaderChange { .. });
        (!tells).then(|| Lack {
            what: format!("{} does not tell of this", self.name()),
            help: "write `writes = 500`, or `fault = \"…\"`, the name of another",
        })
    }

    /// Why a step cannot wait for this.
    pub(crate) fn lacks_wait(&self, wait: &Wait) -> Option<Lack> {
        let key = match wait {
            _ if self.is_store() => return None,
            Wait::For(_) | Wait::Open => return None,
            Wait::Leader(_) => "leader",
            Wait::LeaderChange(_) => "leader-change",
        };
        Some(self.lack(key, "write `wait = \"open\"`, or a time: nobody says who leads"))
    }

    /// Why this cannot be asked.
    pub(crate) fn lacks_ask(&self, ask: &Ask) -> Option<Lack> {
        match (self, ask) {
            (Self::Maelstrom { .. }, Ask::Delete) => {
                Some(Lack { what: "lin-kv has no `delete`".to_owned(), help: "remove this step" })
            }
            (Self::Maelstrom { .. }, Ask::Cas { expected: None, .. }) => Some(Lack {
                what: "lin-kv cannot swap for a value what is not there".to_owned(),
                help: "write what is expected, or a `put`",
            }),
            _ => None,
        }
    }

    /// Why a step cannot expect this.
    pub(crate) fn lacks_expectation(&self, expect: &Expectation) -> Option<Lack> {
        if self.is_store() {
            return None;
        }
        let asked = [
            ("fast", expect.fast.is_some()),
            ("local", expect.local.is_some()),
            ("redirected", expect.redirected.is_some()),
            ("reconnected", expect.reconnected.is_some()),
            ("leader", expect.leader.is_some()),
            ("not_leader", expect.not_leader.is_some()),
            ("one_leader", expect.one_leader.is_some()),
        ];
        asked.into_iter().find(|(_, asked)| *asked).map(|(key, _)| self.has_no(key))
    }

    /// What clients cannot do, by its key.
    pub(crate) fn lacks_of_clients(&self, share: u64, sessions: bool) -> Option<(&'static str, Lack)> {
        let asked = [("sessions", sessions), ("share", share > 1)];
        let (key, _) = asked.into_iter().find(|(_, asked)| *asked && !self.is_store())?;
        Some((key, self.has_no(key)))
    }

    /// What clients cannot ask at random.
    pub(crate) fn lacks_of_mix(&self, mix: &Mix) -> Option<Lack> {
        (matches!(self, Self::Maelstrom { .. }) && mix.delete > 0)
            .then(|| Lack { what: "lin-kv has no `delete`".to_owned(), help: "remove `delete` from the mix" })
    }

    /// Why values have no size.
    pub(crate) fn lacks_value_size(&self, size: usize) -> Option<Lack> {
        let numbers = matches!(self, Self::Maelstrom { .. });
        (numbers && size > 0).then(|| self.lack("value_size", "remove it: lin-kv is asked with numbers"))
    }

    /// Why this cannot be promised of it.
    pub(crate) fn lacks_consistency(&self, consistency: Consistency) -> Option<Lack> {
        (!self.is_store() && consistency == Consistency::Sequential).then(|| {
            self.lack(
                "consistency = \"sequential\"",
                "write \"linearizable\": the order of a log, which the other check goes by, is only told by the store",
            )
        })
    }

    /// Why this check finds nothing.
    pub(crate) fn lacks_check(&self, by: CheckName) -> Option<Lack> {
        let key = match by {
            _ if self.is_store() => return None,
            CheckName::Sequential => "by = \"sequential\"",
            CheckName::LeaseSafety => "by = \"lease-safety\"",
            CheckName::Linearizable | CheckName::Progress | CheckName::Script | CheckName::Statements => {
                return None;
            }
        };
        Some(self.lack(key, "write \"linearizable\", or remove it: that check is made of the store alone"))
    }

    /// Why this cannot be stated of its runs.
    pub(crate) fn lacks_statement(&self, says: &Says) -> Option<Lack> {
        let key = match says {
            _ if self.is_store() => return None,
            Says::Silence | Says::Progress { .. } | Says::Writes { .. } => return None,
            Says::FastReads => "fast-reads",
            Says::OtherLeader { .. } => "other-leader",
            Says::LeaderChanges(_) => "leader-changes",
            Says::FailedElections(_) => "failed-elections",
        };
        Some(self.has_no(key))
    }

    /// What is required that only the store shows, by its key.
    pub(crate) fn lacks_requirement(&self, require: &Require) -> Option<(&'static str, Lack)> {
        let asked = [
            ("leader_changes", require.leader_changes),
            ("fast_reads", require.fast_reads),
            ("local_reads", require.local_reads),
            ("redirects", require.redirects),
            ("asked_again", require.asked_again),
            ("snapshots_fetched", require.snapshots_fetched),
            ("fast_read_near_expiry", u64::from(require.fast_read_near_expiry)),
        ];
        let (key, _) = asked.into_iter().find(|(_, asked)| *asked > 0 && !self.is_store())?;
        Some((key, self.has_no(key)))
    }
}

/// Of these faults those that can be done to the system, each once: a role that nobody tells of is any node.
pub(super) fn possible(system: &System, choices: Vec<Choice>) -> Vec<Choice> {
    if system.is_store() {
        return choices;
    }
    let mut possible: Vec<Choice> = Vec::new();
    for mut choice in choices {
        if system.lacks_role(&choice.fault.target).is_some() {
            choice.fault.target = Target::Random;
        }
        if let FaultAction::Links { shape: Shape::Between { peer: Some(peer), .. }, .. } =
            &mut choice.fault.action
            && system.lacks_role(peer).is_some()
        {
            *peer = Target::Random;
        }
        if system.lacks(&choice.fault).is_none() && !possible.contains(&choice) {
            possible.push(choice);
        }
    }
    possible
}
