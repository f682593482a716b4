//! How clients' sessions expire. The leader remembers, by its own clock, since when each session has had the same last write, and
//! has an entry close those that are idle for too long. Whether one is closed is decided when that entry is applied, and only
//! if it has written nothing meanwhile: so a clock that runs wrong closes a session early or late, and harms no write.
//!
//! A new leader knows nothing of what its predecessor saw, and begins anew. Clients that ask again for what was carried out
//! already do not keep their session alive: its number stays.

use std::{collections::BTreeMap, time::Duration};

use super::{Leadership, Replica, Standing};
use crate::core::{LocalTime, Moment, Turn, message::Entry, sessions::Expiry};

/// How often a leader looks in the time after which an idle session expires.
const LOOKS: u32 = 4;

/// The most sessions that one entry names.
const MOST_AT_ONCE: usize = 1000;

/// What a leader knows of how long sessions are idle.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Idle {
    /// The last write of each session when the leader last looked, and since when it has been that.
    since: BTreeMap<u64, (u64, LocalTime)>,
    looked: LocalTime,
}

impl Replica {
    /// Looks at the sessions if it is time to, and proposes that those that are idle expire.
    pub(super) fn expire_sessions(&mut self, turn: &mut Turn<'_>) {
        let Standing::Leader(leadership) = &self.standing else { return };
        if self.expire_sessions_at(leadership, turn.moment()).is_none_or(|due| due > turn.now) {
            return;
        }
        let limit = limit(turn.moment());
        let Standing::Leader(leadership) = &mut self.standing else { return };
        let sessions = self.kv.sessions();
        let Idle { since, looked } = &mut leadership.idle;
        *looked = turn.now;
        since.retain(|session, _| sessions.get(*session).is_some());
        let mut idle = Vec::new();
        for (session, held) in sessions.iter() {
            let known = since.entry(session).or_insert((held.last, turn.now));
            if known.0 != held.last {
                *known = (held.last, turn.now);
            }
            if turn.now.since(known.1) >= limit && idle.len() < MOST_AT_ONCE {
                // unless it expires, it is named again after as long
                known.1 = turn.now;
                idle.push((session, held.last));
            }
        }
        if !idle.is_empty() {
            self.paxos.propose(Entry::Expiry(Expiry { sessions: idle }), turn);
        }
    }

    /// When a leader that proposes looks at the sessions next; a group without any is left in peace.
    pub(super) fn expire_sessions_at(
        &self,
        leadership: &Leadership,
        moment: Moment<'_>,
    ) -> Option<LocalTime> {
        let proposes = self.serving().is_some() && !self.paxos.stopped() && !self.is_handing_over();
        let looks = proposes && !self.kv.sessions().is_empty();
        looks.then(|| leadership.idle.looked + limit(moment) / LOOKS)
    }
}

fn limit(moment: Moment<'_>) -> Duration {
    Duration::from_millis(moment.config.cluster.session_idle_ms)
}
