//! The phases of a simulated run: boot, warm-up, faults, heal, quiesce, final reads, end, as in real runs.
//!
//! Liveness (SP4) is part of the run: within [`Phases::bound`] of simulated time every partition has a leader after boot and
//! after the heal, and within as much again every key has been read, through the core when permanent faults stay.

use checker::history::{Key, Phase, Record};

use super::{events::Event, watch::Finding, world::World};
use crate::{
    plan::Plan,
    workload::{CheckName, core_in_words},
};

/// How often a phase that waits for something looks.
const LOOK: u64 = 10_000_000;

/// Election timeouts within which a whole cluster makes progress. The failure detector's period may have grown to four
/// times the configured one, and a lease or a restarted acceptor's wait comes on top.
const TIMEOUTS: u32 = 20;

/// Where a run is.
#[derive(Debug)]
pub struct Phases {
    stage: Stage,
    deadline: u64,
    bound: u64,
    /// The script, if there is one, has ended.
    pub script_done: bool,
    faults_end: u64,
    /// When the clients began, here and in the run that is followed; none: none is.
    pub clients_began: Option<(u64, u64)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Boot,
    WarmUp,
    Faults,
    Heal,
    Quiesce,
    Stopping,
    FinalReads,
    End,
}

impl Stage {
    /// Its name in a history, if it is a phase of its own.
    fn name(self) -> Option<&'static str> {
        match self {
            Self::Boot | Self::Stopping => None,
            Self::WarmUp => Some("warm-up"),
            Self::Faults => Some("faults"),
            Self::Heal => Some("heal"),
            Self::Quiesce => Some("quiesce"),
            Self::FinalReads => Some("final-reads"),
            Self::End => Some("end"),
        }
    }
}

impl Phases {
    /// Before the first phase.
    pub fn new(plan: &Plan) -> Self {
        let lease = plan.cluster.lease.map_or(0, |lease| {
            let slow = 1_000_000 + lease.drift_ppm;
            lease.duration_ms * 1_000_000 * slow / (1_000_000 - lease.drift_ppm).max(1)
        });
        let bound = (plan.cluster.election_timeout() * TIMEOUTS).as_nanos() as u64 + 2 * lease;
        let script_done = plan.steps.is_empty();
        // until they have begun, both runs have one clock
        let clients_began = plan.follows.as_ref().map(|_| (0, 0));
        Self { stage: Stage::Boot, deadline: bound, bound, script_done, faults_end: 0, clients_began }
    }
}

impl World<'_> {
    /// Goes on to the next phase when it is time, or looks again later.
    pub(super) fn phase(&mut self) {
        let phases = self.plan.phases;
        let nanos = |time: crate::workload::Time| time.0.as_nanos() as u64;
        let late = self.now >= self.phases.deadline;
        match self.phases.stage {
            Stage::Boot => {
                let whole = self.opened.len() as u64 == self.plan.nodes && self.all_led();
                if !whole && self.plan.late.is_empty() {
                    return self.look_again(
                        late,
                        "not every node served and not every partition had a leader after boot",
                    );
                }
                if let Some(follows) = &self.plan.follows {
                    if self.now < follows.warm_up {
                        return self.agenda.add(follows.warm_up, Event::Phase);
                    }
                    self.phases.clients_began = Some((self.now, follows.warm_up));
                    self.network.clients_begin(follows.warm_up, self.now);
                }
                self.start_workers();
                let warm_up = if self.plan.operations.is_some() { nanos(phases.warm_up) } else { 0 };
                self.enter(Stage::WarmUp, warm_up);
            }
            Stage::WarmUp => {
                self.plan_faults();
                let timed = self.plan.steps.is_empty() || !self.plan.faults.is_empty();
                self.phases.faults_end = self.now + if timed { nanos(phases.faults) } else { 0 };
                if !self.plan.steps.is_empty() {
                    self.look(self.now);
                }
                let until = self.phases.faults_end - self.now;
                self.enter(Stage::Faults, until);
            }
            // the end of the script looks, too
            Stage::Faults if !self.phases.script_done || self.now < self.phases.faults_end => {}
            Stage::Faults => {
                self.nemesis.closed = true;
                self.phases.deadline = self.now + self.phases.bound;
                self.enter(Stage::Heal, 0);
                self.heal();
            }
            Stage::Heal => {
                let whole = self.all_led();
                if !whole {
                    return self
                        .look_again(late, "not every partition had a leader after everything was healed");
                }
                let quiesce = if self.plan.operations.is_some() { nanos(phases.quiesce) } else { 0 };
                self.enter(Stage::Quiesce, quiesce);
            }
            Stage::Quiesce => {
                self.clients.stopping = true;
                self.enter(Stage::Stopping, 0);
            }
            Stage::Stopping if self.clients.workers_wait() => self.agenda.add(self.now + LOOK, Event::Phase),
            Stage::Stopping => {
                if phases.final_reads {
                    self.start_readers();
                }
                self.phases.deadline = self.now + self.phases.bound;
                self.enter(Stage::FinalReads, 0);
            }
            Stage::FinalReads => {
                let unread: Vec<Key> = self.clients.unread().cloned().collect();
                self.stats.keys_unread = unread.len() as u64;
                if !unread.is_empty() {
                    return self.look_again(late, &format!("keys {unread:?} could not be read"));
                }
                self.enter(Stage::End, 0);
            }
            Stage::End => {
                self.close_faults();
                self.over = true;
            }
        }
    }

    fn enter(&mut self, stage: Stage, lasts: u64) {
        self.phases.stage = stage;
        self.tell(|| format!("{stage:?}"));
        if let Some(name) = stage.name() {
            let phase = Phase { time: self.now, name: name.to_owned() };
            self.watch.records.push(Record::Phase(phase));
        }
        self.agenda.add(self.now + lasts, Event::Phase);
    }

    fn look_again(&mut self, late: bool, lacking: &str) {
        if !late {
            return self.agenda.add(self.now + LOOK, Event::Phase);
        }
        let (bound, core) = (self.phases.bound as f64 / 1e9, self.core());
        let whole = core.len() as u64 == self.plan.nodes;
        let of = if whole { String::new() } else { format!(" by {}", core_in_words(&core)) };
        let text = format!("SP4: {lacking} within {bound:.1} s of simulated time{of}");
        self.found(Finding { by: CheckName::Progress, text });
        self.over = true;
    }
}
