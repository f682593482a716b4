//! Leader leases: a promise to promise no other for a while.
//!
//! An acceptor that answers a leader's Prepare or LeaseExtend grants it the lease for D on its own clock ([`Grant`]). The
//! leader, once a quorum has granted, holds the lease ([`Hold`]) and answers reads alone: no other leader can have a
//! quorum's promises, hence nothing that this leader does not know of can be decided.
//!
//! Why the two never disagree although clocks do: every clock runs at a rate in [1-rho, 1+rho]. A refusal lasts D on the
//! grantor's clock, hence at least D/(1+rho) of real time after the grant. The hold is counted from before the request
//! was sent and lasts D(1-rho)/(1+rho) on the holder's clock, hence at most D/(1+rho) of real time. Offsets do not matter,
//! since no reading of one clock is compared with one of another. (Raft dissertation, section 6.4, which needs synchronised
//! rates; the factor makes the bound explicit.)
//!
//! A restarted acceptor has forgotten its grant, so it behaves as if it had given one to the node of its durable promise
//! at the moment of the restart ([`Terms::restart_wait`]).

use std::{collections::BTreeMap, time::Duration};

use crate::{
    api::{Ballot, NodeId},
    config::LeaseConfig,
    core::LocalTime,
};

const MILLION: u128 = 1_000_000;

/// Length of grants and bound of drift, as configured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Terms {
    duration: Duration,
    drift_ppm: u64,
}

impl Terms {
    /// From the configuration.
    pub fn new(config: LeaseConfig) -> Self {
        Self { duration: Duration::from_millis(config.duration_ms), drift_ppm: config.drift_ppm }
    }

    /// How long a grant lasts on the grantor's clock (D).
    pub fn grant(&self) -> Duration {
        self.duration
    }

    /// How long a hold lasts on the holder's clock, from before it asked: D(1-rho)/(1+rho), rounded down.
    pub fn hold(&self) -> Duration {
        let rho = u128::from(self.drift_ppm);
        let (factor, divisor) = (MILLION - rho, MILLION + rho);
        // asked for with every read; only a lease of hours needs the long division
        match u64::try_from(self.duration.as_nanos() * factor) {
            Ok(product) => Duration::from_nanos(product / divisor as u64),
            Err(_) => nanoseconds(self.duration.as_nanos() * factor / divisor),
        }
    }

    /// How long a candidate waits on its own clock until a refusal of `remaining` on another's is over:
    /// remaining(1+rho)/(1-rho), rounded up.
    pub fn wait(&self, remaining: Duration) -> Duration {
        let rho = u128::from(self.drift_ppm);
        nanoseconds((remaining.as_nanos() * (MILLION + rho)).div_ceil(MILLION - rho))
    }

    /// How long a restarted acceptor refuses all but the node of its durable promise.
    pub fn restart_wait(&self) -> Duration {
        self.wait(self.duration)
    }
}

fn nanoseconds(count: u128) -> Duration {
    Duration::from_nanos(u64::try_from(count).unwrap_or(u64::MAX))
}

/// What an acceptor has granted: it promises no node but the ballot's before `until`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Grant {
    /// The ballot; its node is the holder.
    pub ballot: Ballot,
    /// End on this node's clock.
    pub until: LocalTime,
}

impl Grant {
    /// Grants `ballot` the lease from now on; a running grant to the same node is never shortened.
    pub fn renew(earlier: Option<Self>, ballot: Ballot, until: LocalTime) -> Self {
        match earlier {
            Some(grant) if grant.ballot.node == ballot.node => Self { ballot, until: grant.until.max(until) },
            _ => Self { ballot, until },
        }
    }

    /// How long it keeps this acceptor from promising `candidate`; none when it does not.
    pub fn refuses(&self, candidate: NodeId, now: LocalTime) -> Option<Duration> {
        (self.ballot.node != candidate && now < self.until).then(|| self.until.since(now))
    }
}

/// The leader's side: when each acceptor's granted request was sent, on the leader's clock.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Hold {
    granted: BTreeMap<NodeId, LocalTime>,
    /// The same times, the newest first: every read asks for one of them.
    newest: Vec<LocalTime>,
}

impl Hold {
    /// An acceptor has granted the request that was sent at `sent_at`.
    pub fn acknowledge(&mut self, from: NodeId, sent_at: LocalTime) {
        let newest = self.granted.entry(from).or_default();
        *newest = (*newest).max(sent_at);
        self.newest = self.granted.values().copied().collect();
        self.newest.sort_unstable_by(|a, b| b.cmp(a));
    }

    /// When the lease ends on the leader's clock, if it lasts `length` from the request: the oldest of the newest
    /// quorum of granted requests counts. None without a quorum.
    pub fn expiry(&self, quorum: usize, length: Duration) -> Option<LocalTime> {
        self.newest.get(quorum - 1).map(|oldest| *oldest + length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn terms(duration_ms: u64, drift_ppm: u64) -> Terms {
        Terms::new(LeaseConfig { duration_ms, drift_ppm })
    }

    fn ballot(number: u64, node: NodeId) -> Ballot {
        Ballot { config: 0, number, priority: 0, node }
    }

    /// L1, by arithmetic: with the holder's clock slow and the grantor's fast, the hold ends first in real time.
    #[test]
    fn a_hold_ends_before_the_grants_that_it_rests_on_whatever_the_rates() {
        for rho in [0, 1, 1_000, 100_000, 300_000, 900_000] {
            let terms = terms(1_000, rho);
            let longest_hold = terms.hold().as_nanos() * MILLION / (MILLION - u128::from(rho));
            let shortest_refusal = terms.grant().as_nanos() * MILLION / (MILLION + u128::from(rho));
            assert!(longest_hold <= shortest_refusal, "rho {rho}: {longest_hold} > {shortest_refusal}");
        }
    }

    #[test]
    fn a_candidate_waits_out_a_refusal_whatever_the_rates() {
        let terms = terms(1_000, 200_000);
        let shortest_wait = terms.wait(terms.grant()).as_nanos() * MILLION / 1_200_000;
        let longest_refusal = terms.grant().as_nanos() * MILLION / 800_000;
        assert!(shortest_wait >= longest_refusal);
    }

    #[test]
    fn a_hold_counts_from_the_oldest_request_of_the_newest_quorum() {
        let mut hold = Hold::default();
        hold.acknowledge(1, LocalTime(50));
        assert_eq!(hold.expiry(2, Duration::from_nanos(10)), None);
        hold.acknowledge(2, LocalTime(20));
        hold.acknowledge(3, LocalTime(30));
        assert_eq!(hold.expiry(2, Duration::from_nanos(10)), Some(LocalTime(40)));
        hold.acknowledge(3, LocalTime(25));
        assert_eq!(
            hold.expiry(2, Duration::from_nanos(10)),
            Some(LocalTime(40)),
            "a late grant takes nothing back"
        );
    }

    #[test]
    fn a_grant_refuses_every_other_node_until_it_ends() {
        let grant = Grant::renew(None, ballot(1, 1), LocalTime(100));
        assert_eq!(grant.refuses(2, LocalTime(99)), Some(Duration::from_nanos(1)));
        assert_eq!(grant.refuses(2, LocalTime(100)), None);
        assert_eq!(grant.refuses(1, LocalTime(50)), None);
        assert_eq!(Grant::renew(Some(grant), ballot(2, 1), LocalTime(60)).until, LocalTime(100));
    }
}
