//! Whether a smaller plan still shows the same: by carrying it out, in simulated time or on real processes.

use std::{
    fmt,
    sync::{
        Once,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use checker::history::Record;
use store::assertions;

use super::processes::{Failing, Processes};
use crate::{
    clock::boottime_ns,
    plan::Plan,
    progress,
    report::name_of,
    sim::{self, Finding, Options, Outcome},
    workload::CheckName,
};

/// What kind of violation a run shows. A smaller plan counts only if it shows the same kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kind {
    /// The check that found it.
    pub by: CheckName,
    /// The invariant that it names (`L4`, `SP2`), if it names one.
    pub invariant: Option<String>,
}

impl Kind {
    /// The kind of a finding.
    pub fn of(finding: &Finding) -> Self {
        let name = finding.text.split(':').next().unwrap_or_default();
        let letters = name.trim_end_matches(|c: char| c.is_ascii_digit());
        let named = letters.len() < name.len()
            && !letters.is_empty()
            && letters.chars().all(|c| c.is_ascii_uppercase());
        Self { by: finding.by, invariant: named.then(|| name.to_owned()) }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(name_of(self.by))?;
        self.invariant.as_ref().map_or(Ok(()), |invariant| write!(f, " {invariant}"))
    }
}

/// Events of simulated runs that one candidate may cost, all its seeds together.
const EVENTS: u64 = 400_000;

/// At last they may cost so many times as much.
const MOST_EFFORT: u64 = 16;

/// Where candidates are carried out.
pub enum Ground<'a> {
    /// In simulated time, so many side by side.
    Simulation(usize),
    /// On real processes, one at a time.
    Processes(&'a mut Processes),
}

/// Carries candidates out.
pub struct Trials<'a> {
    kind: Kind,
    ground: Ground<'a>,
    /// When the time is up, by the one clock.
    end: u64,
    /// Events of the last run that failed: what the next candidate will cost, about.
    events: u64,
    /// Each candidate may cost so many times as much as at first.
    effort: u64,
    /// Runs so far.
    pub runs: u64,
}

impl<'a> Trials<'a> {
    /// Looks for this kind of violation, for so long.
    pub fn new(kind: Kind, ground: Ground<'a>, budget: Duration) -> Self {
        install_hook();
        SHRINKING.fetch_add(1, Ordering::Relaxed);
        let end = boottime_ns() + budget.as_nanos() as u64;
        Self { kind, ground, end, events: EVENTS, effort: 1, runs: 0 }
    }

    /// Whether the time is up, or the user has stopped it all.
    pub fn is_over(&self) -> bool {
        let interrupted = matches!(&self.ground, Ground::Processes(processes) if processes.interrupted);
        interrupted || boottime_ns() >= self.end
    }

    /// From now on each candidate is tried with more seeds; false: with as many as ever.
    pub fn try_harder(&mut self) -> bool {
        let harder = self.effort < MOST_EFFORT && matches!(self.ground, Ground::Simulation(_));
        self.effort = MOST_EFFORT.min(self.effort * 4);
        harder
    }

    /// The candidate, under the first seed with which it shows the violation. To leave anything out changes what chance does to
    /// all that follows, so a candidate is tried with several seeds: the more, the less its runs cost.
    pub fn fails(&mut self, candidate: &Plan) -> Option<Plan> {
        let tries = (self.effort * EVENTS / self.events.max(1)).clamp(3, 100 * self.effort);
        if self.is_over() { None } else { self.fails_within(candidate, tries) }
    }

    /// The same with a given number of seeds, whatever the time. On real processes it keeps its seed, and all of its runs are
    /// made.
    pub fn fails_within(&mut self, candidate: &Plan, tries: u64) -> Option<Plan> {
        let jobs = match &mut self.ground {
            Ground::Simulation(jobs) => *jobs,
            Ground::Processes(processes) => {
                let (fails, runs) = processes.fails(candidate, &self.kind);
                self.runs += runs;
                return fails.then(|| candidate.clone());
            }
        };
        let plan = |seed: u64| Plan { seed, ..candidate.clone() };
        // what makes no sense (a fault of a node that is left out) ends in a panic, and shows nothing
        let one = |seed: u64| sim::run(&plan(seed), &Options::default());
        let shows = |outcome: &Outcome| self.shows(candidate, outcome);
        let outcomes = sim::run_seeds(candidate.seed..candidate.seed + tries, jobs, one, shows);
        self.runs += outcomes.len() as u64;
        progress::tell(|| {
            format!("{} seed {}: shrinking, {} runs", candidate.workload, candidate.seed, self.runs)
        });
        let last = outcomes.last().filter(|outcome| self.shows(candidate, outcome))?;
        let plan = plan(last.seed);
        if plan.test.mutant.is_some() && self.shows_without_mutant(&plan) {
            return None;
        }
        self.events = last.stats.events;
        Some(plan)
    }

    /// What the clients of this plan ask and are told, in a run that fails.
    pub fn history(&self, plan: &Plan) -> anyhow::Result<Vec<Record>> {
        match &self.ground {
            Ground::Simulation(_) => Ok(sim::history(plan)),
            Ground::Processes(processes) => {
                processes.failing.as_ref().map_or(Ok(Vec::new()), Failing::history)
            }
        }
    }

    fn shows(&self, plan: &Plan, outcome: &Outcome) -> bool {
        let reached = plan.test.mutant.is_none() || outcome.stats.mutant_reached > 0;
        reached && outcome.findings.iter().any(|finding| Kind::of(finding) == self.kind)
    }

    /// Whether it is not the planted bug that fails: a plan of which too much is left out can be too little to succeed.
    pub fn shows_without_mutant(&mut self, plan: &Plan) -> bool {
        self.runs += 1;
        let plan = plan.clone().without_mutant();
        if let Ground::Processes(processes) = &mut self.ground {
            return processes.shows(&plan, &self.kind);
        }
        let one = |_| sim::run(&plan, &Options::default());
        let outcomes = sim::run_seeds(plan.seed..plan.seed + 1, 1, one, |_| false);
        outcomes.iter().any(|outcome| self.shows(&plan, outcome))
    }
}

impl Drop for Trials<'_> {
    fn drop(&mut self) {
        SHRINKING.fetch_sub(1, Ordering::Relaxed);
    }
}

/// How many plans are being shrunk.
static SHRINKING: AtomicUsize = AtomicUsize::new(0);

/// Runs that make no sense are expected while a plan is shrunk, and not told.
fn install_hook() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let print = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            let of_a_run =
                SHRINKING.load(Ordering::Relaxed) > 0 && std::thread::current().name() != Some("main");
            if !assertions::heed(panic) && !of_a_run {
                print(panic);
            }
        }));
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kind_of_a_violation_is_its_check_and_its_invariant() {
        let kind = |by, text: &str| Kind::of(&Finding { by, text: text.to_owned() }).to_string();
        assert_eq!(kind(CheckName::LeaseSafety, "L4: a fast read at 3 s"), "lease-safety L4");
        assert_eq!(kind(CheckName::LeaseSafety, "a node's core gave up: L1"), "lease-safety");
        assert_eq!(kind(CheckName::Progress, "SP4: keys could not be read"), "progress SP4");
        assert_eq!(kind(CheckName::Linearizable, "process 7 read 3"), "linearizable");
    }
}
