//! One simulated machine: a process with the store's core, its clock and its disk.

use store::{
    api::{NodeId, NodeStatus},
    assertions,
    config::{ClockSkew, Mutant, StorageKind},
    core::{Config, Input, LocalTime, Node, Output},
    node::control::DiskFault,
};

use super::{chance::Delay, clock::Clock, disk::Disk};
use crate::plan::Plan;

/// A machine.
#[derive(Debug)]
pub struct Machine {
    /// What its core is told.
    pub config: Config,
    /// What runs on it.
    pub process: Process,
    /// The process is stopped: what comes in waits.
    pub paused: bool,
    /// How many processes have ended or begun: events of an earlier life are void.
    pub life: u64,
    /// Its clock.
    pub clock: Clock,
    /// Rate and offset that it has, or will have when it starts.
    pub skew: ClockSkew,
    /// Rate and offset without any fault.
    pub first_skew: ClockSkew,
    /// Its disk.
    pub disk: Disk,
    /// What is wrong with it.
    pub disk_fault: DiskFault,
    /// A sync is over, but for the stalled disk.
    pub sync_waits: bool,
    /// When the process is to die, if it is.
    pub doom: Option<Doom>,
    /// How long its disk takes for a sync.
    pub sync: Delay,
    /// The core's next deadline.
    pub deadline: LocalTime,
    /// When the earliest wake-up that counts is due.
    pub armed: u64,
    /// What waits for the next turn.
    pub inbox: Vec<Incoming>,
    /// The last persist that is durable.
    durable: u64,
    /// Sends and replies that wait for their persist, in order.
    held: Vec<(u64, Output)>,
}

/// When a process is to die.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Doom {
    /// In its next sync.
    Write {
        /// The fault that wants it.
        fault: u64,
    },
    /// When the next piece of a snapshot is on its way to it or from it.
    Snapshot {
        /// The fault that wants it.
        fault: u64,
        /// There was one.
        caught: bool,
    },
    /// As soon as its core has started.
    Recovery {
        /// The fault that wants it.
        fault: u64,
    },
}

/// What runs on a machine.
#[derive(Debug)]
pub enum Process {
    /// Nothing.
    Dead,
    /// A process whose core has not started yet.
    Starting,
    /// A node.
    Up(Box<Node>),
}

/// What a process takes in.
#[derive(Debug)]
pub enum Incoming {
    /// For the core.
    Input(Input),
    /// The log thread says so.
    Persisted(u64),
}

impl Machine {
    /// A machine on which nothing runs.
    pub fn new(plan: &Plan, node: NodeId, disk: u64, sync: Delay) -> Self {
        let skew = plan
            .clocks
            .iter()
            .find(|clock| clock.node == node)
            .map_or_else(ClockSkew::default, |clock| clock.skew);
        let config = Config {
            node,
            nodes: plan.node_ids(),
            disk,
            boot: 0,
            cluster: plan.cluster.clone(),
            mutant: plan.test.mutant,
            traced: true,
        };
        Self {
            config,
            process: Process::Dead,
            paused: false,
            life: 0,
            clock: Clock::new(0, skew),
            skew,
            first_skew: skew,
            disk: Disk::default(),
            disk_fault: DiskFault::default(),
            sync_waits: false,
            doom: None,
            sync,
            deadline: LocalTime(0),
            armed: u64::MAX,
            inbox: Vec::new(),
            durable: 0,
            held: Vec::new(),
        }
    }

    /// The node, if there is one.
    pub fn node(&self) -> Option<&Node> {
        match &self.process {
            Process::Up(node) => Some(node),
            Process::Dead | Process::Starting => None,
        }
    }

    /// Whether there is a process, be it paused or still starting.
    pub fn is_running(&self) -> bool {
        !matches!(self.process, Process::Dead)
    }

    /// Whether a node runs and is not paused.
    pub fn is_awake(&self) -> bool {
        matches!(self.process, Process::Up(_)) && !self.paused
    }

    /// How the node sees itself; none when it does not answer.
    pub fn status(&self, now: u64) -> Option<NodeStatus> {
        let node = self.node().filter(|_| !self.paused)?;
        Some(assertions::core(|| node.status(&self.config, self.clock.local(now))))
    }

    /// A process begins; its core does not run yet.
    pub fn begin(&mut self) {
        self.life += 1;
        self.process = Process::Starting;
    }

    /// The core starts on what the disk holds, with a clock that knows nothing of its earlier drift.
    pub fn start(&mut self, now: u64, out: &mut Vec<Output>) {
        self.config.boot += 1;
        self.durable = 0;
        self.clock = Clock::new(now, self.skew);
        out.push(Output::Trace(self.clock.event()));
        let local = self.clock.local(now);
        let (node, deadline) = assertions::core(|| {
            let node = Node::start(&self.config, self.disk.state(), local, out);
            let deadline = node.next_deadline(&self.config, local);
            (node, deadline)
        });
        self.deadline = deadline;
        self.process = Process::Up(Box::new(node));
    }

    /// The process dies, with everything that only it knew.
    pub fn die(&mut self) {
        self.life += 1;
        self.process = Process::Dead;
        self.paused = false;
        self.armed = u64::MAX;
        self.inbox.clear();
        self.held.clear();
        self.sync_waits = false;
        self.doom = None;
    }

    /// Gets another disk, an empty one. What the node does from then on is no record of the member that it was: it is not
    /// traced.
    pub fn wipe(&mut self, disk: u64) {
        self.disk = Disk::default();
        self.config.disk = disk;
        self.config.boot = 0;
        self.config.traced = false;
        self.durable = 0;
    }

    /// One turn of the core: all that waits, and one reading of the clock. What a persist has set free comes first.
    pub fn turn(&mut self, now: u64, freed: &mut Vec<Output>, out: &mut Vec<Output>) {
        let local = self.clock.local(now);
        let mut inbox = std::mem::take(&mut self.inbox);
        for incoming in inbox.drain(..) {
            let input = match incoming {
                Incoming::Input(input) => input,
                Incoming::Persisted(number) => {
                    self.free(number, freed);
                    Input::Persisted { number }
                }
            };
            if let Process::Up(node) = &mut self.process {
                assertions::core(|| node.handle(&self.config, local, input, out));
            }
        }
        self.inbox = inbox;
        if let Process::Up(node) = &mut self.process {
            self.deadline = assertions::core(|| {
                node.finish_turn(&self.config, local, out);
                node.next_deadline(&self.config, local)
            });
        }
    }

    /// Keeps an output until its persist is durable; gives it back when it need not wait.
    pub fn hold(&mut self, needs: u64, output: Output) -> Option<Output> {
        if needs <= self.durable {
            return Some(output);
        }
        self.held.push((needs, output));
        None
    }

    /// Takes note of a persist that nobody will wait for: there is no disk, or the planted bug does not care.
    pub fn acknowledge_early(&mut self, number: u64) {
        self.durable = number;
        self.inbox.push(Incoming::Persisted(number));
    }

    /// Whether the planted bug of this name is in.
    pub fn acknowledges_before_sync(&self) -> bool {
        self.config.mutant == Some(Mutant::AcknowledgeBeforeSync)
    }

    /// Whether what is persisted outlives the process.
    pub fn has_disk(&self) -> bool {
        self.config.cluster.storage == StorageKind::Durable
    }

    fn free(&mut self, number: u64, freed: &mut Vec<Output>) {
        if number <= self.durable {
            return;
        }
        self.durable = number;
        if self.held.iter().all(|(needs, _)| *needs > number) {
            return;
        }
        for (needs, output) in std::mem::take(&mut self.held) {
            if needs > number {
                self.held.push((needs, output));
            } else {
                freed.push(output);
            }
        }
    }
}
