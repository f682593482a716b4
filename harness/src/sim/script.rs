//! The script of a workload in the simulated world: the same steps and expectations as in real runs, driven by events.
//!
//! A step is looked at whenever something may have brought it on: when its task has ended, when its fault has begun, when
//! its time has come. Each client of a step is a task; tasks of one client wait for one another.

use std::collections::{BTreeMap, VecDeque};

use checker::history::Function;
use store::{
    api::{NodeId, PartitionId},
    routes::Entry,
};

use super::{events::Event, watch::Finding, world::World};
use crate::{
    history_writer::{Ended, Finished},
    plan::node_order,
    script::{
        ATTEMPT_PAUSE, AWAIT_LIMIT, Attempt, FIRST_CHOICE, WAIT_LIMIT,
        expect::{Expected, shown},
        function, is_several, pinned, settled,
    },
    workload::{Action, CheckName, OperationStep, Step, StepOutcome, Via, Wait, Who},
};

/// How often a step that waits for the cluster looks.
const LOOK: u64 = 5_000_000;

/// Pause after an operation that was not answered, although nothing else was expected.
const UNANSWERED: u64 = 1_000_000;

/// The shortest time that an attempt has.
const LEAST: u64 = 20_000_000;

/// A script in progress.
#[derive(Debug, Default)]
pub struct Script {
    position: usize,
    /// When the step at `position` began; none: it has yet to begin.
    since: Option<u64>,
    next_look: Option<u64>,
    done: bool,
    tasks: Vec<Task>,
    /// The tasks of each client: the first one has its session.
    queues: BTreeMap<u64, VecDeque<usize>>,
    answered: BTreeMap<String, NodeId>,
    /// Steps whose faults were asked for, with their places among all faults.
    faults: BTreeMap<String, usize>,
    leaders_at_fault: BTreeMap<PartitionId, NodeId>,
}

/// One client's part of a step.
#[derive(Debug)]
struct Task {
    step: usize,
    client: u64,
    several: bool,
    state: State,
    began: u64,
    /// How many operations have ended as expected.
    time: u64,
    operation_began: u64,
    attempts: u64,
    leaders: Vec<NodeId>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum State {
    /// Another task of the client goes on.
    Queued,
    /// It is about to ask anew.
    Between,
    /// It waits for an answer.
    Asking,
    /// It waits until it attempts again.
    Pausing,
    /// It has ended, as expected or not.
    Ended(Result<(), String>),
}

/// What a look at a step finds.
enum Look {
    Done,
    /// Look again at this time, or when something happens.
    Again(u64),
    Failed(String),
}

/// The step at this place, and its operation.
fn operation_at(steps: &[Step], step: usize) -> Option<&OperationStep> {
    match &steps.get(step)?.action {
        Action::Operation(operation) => Some(operation),
        _ => None,
    }
}

/// Whether the steps expect what only a network without great delays can give.
pub fn expects_still_weather(steps: &[Step]) -> bool {
    steps.iter().any(|step| match &step.action {
        Action::Operation(operation) => operation.expect.outcome != StepOutcome::Any && step.within.is_none(),
        _ => false,
    })
}

impl World<'_> {
    /// Goes on with the script as far as it goes.
    pub(super) fn follow_script(&mut self) {
        if self.script.next_look == Some(self.now) {
            self.script.next_look = None;
        }
        while !self.script.done {
            let plan = self.plan;
            let Some(step) = plan.steps.get(self.script.position) else {
                return self.end_script();
            };
            let since = match self.script.since {
                Some(since) => since,
                None => self.begin_step(step),
            };
            match self.look_at(step, since) {
                Look::Done => {
                    self.script.position += 1;
                    self.script.since = None;
                }
                Look::Again(time) => return self.look(time),
                Look::Failed(words) => return self.script_failed(&step.name, &words),
            }
        }
    }

    /// The script is looked at again at this time, or earlier.
    pub(super) fn look(&mut self, time: u64) {
        if self.script.next_look.is_none_or(|next| time < next) {
            self.script.next_look = Some(time);
            self.agenda.add(time, Event::Script);
        }
    }

    /// The leader that answered a step.
    pub(super) fn answered_by(&self, step: &str) -> Option<NodeId> {
        self.script.answered.get(step).copied()
    }

    fn end_script(&mut self) {
        let since = *self.script.since.get_or_insert(self.now);
        let all: Vec<String> = self.plan.steps.iter().map(|step| step.name.clone()).collect();
        match self.tasks_of(&all, since + AWAIT_LIMIT.as_nanos() as u64) {
            Look::Done => self.finish_script(),
            Look::Again(time) => self.look(time),
            Look::Failed(words) => self.script_failed("end", &words),
        }
    }

    fn script_failed(&mut self, step: &str, words: &str) {
        let text = format!("{step}: {words}");
        self.found(Finding { by: CheckName::Script, text });
        self.finish_script();
    }

    fn finish_script(&mut self) {
        self.script.done = true;
        self.phases.script_done = true;
        self.agenda.add(self.now, Event::Phase);
    }

    /// What a step does at its beginning.
    fn begin_step(&mut self, step: &Step) -> u64 {
        let index = self.script.position;
        self.script.since = Some(self.now);
        self.tell(|| format!("step {}", step.name));
        match &step.action {
            Action::Operation(operation) => self.begin_tasks(index, operation),
            Action::Heal(name) => {
                let fault =
                    self.script.faults.get(name).and_then(|wanted| self.nemesis.wanted[*wanted].began);
                match fault {
                    Some(fault) => self.end_fault(fault),
                    None => self.heal(),
                }
            }
            Action::Fault(spec) => {
                let leaders = self.leaders.all();
                self.script.leaders_at_fault =
                    leaders.into_iter().map(|(partition, (node, _))| (partition, node)).collect();
                let order = node_order(self.plan.nodes, self.plan.seed, FIRST_CHOICE + index as u64);
                let wanted = self.script_fault(spec, order);
                self.script.faults.insert(step.name.clone(), wanted);
            }
            Action::Wait(_) | Action::Await(_) => {}
        }
        self.now
    }

    fn look_at(&mut self, step: &Step, since: u64) -> Look {
        let within = |otherwise: std::time::Duration| {
            since + step.within.map_or(otherwise, |within| within.0).as_nanos() as u64
        };
        match &step.action {
            Action::Operation(operation) if operation.background => Look::Done,
            Action::Operation(_) => self.tasks_of(std::slice::from_ref(&step.name), u64::MAX),
            Action::Await(names) => self.tasks_of(names, within(AWAIT_LIMIT)),
            Action::Heal(_) => Look::Done,
            Action::Fault(_) => {
                let began =
                    self.script.faults.get(&step.name).and_then(|wanted| self.nemesis.wanted[*wanted].began);
                if began.is_some() { Look::Done } else { Look::Again(u64::MAX) }
            }
            Action::Wait(wait) => self.waited(wait, since, within(WAIT_LIMIT)),
        }
    }

    fn waited(&self, wait: &Wait, since: u64, deadline: u64) -> Look {
        let (came, done) = match wait {
            Wait::For(time) => {
                let until = since + time.0.as_nanos() as u64;
                return if self.now >= until { Look::Done } else { Look::Again(until) };
            }
            Wait::Open => ("not every node serves".to_owned(), self.opened.len() as u64 == self.plan.nodes),
            Wait::Leader(partition) | Wait::LeaderChange(partition) => {
                let before = match wait {
                    Wait::LeaderChange(_) => self.script.leaders_at_fault.get(partition).copied(),
                    _ => None,
                };
                let leader = self.leaders.leader(*partition).map(|(node, _)| node);
                let came =
                    leader.map_or("nobody leads".to_owned(), |node| format!("node {node} still leads"));
                (came, leader.is_some() && leader != before)
            }
        };
        match done {
            true => Look::Done,
            false if self.now >= deadline => Look::Failed(format!("waited for {wait}; {came}")),
            false => Look::Again(self.now + LOOK),
        }
    }

    // ---- tasks -------------------------------------------------------------------------------------------------------

    fn begin_tasks(&mut self, step: usize, operation: &OperationStep) {
        let clients: Vec<u64> = match &operation.client {
            Who::All => (1..=self.plan.script_clients).collect(),
            Who::Only(clients) => clients.clone(),
        };
        let several = is_several(clients.len(), operation);
        for client in clients {
            let number = self.script.tasks.len();
            self.script.tasks.push(Task {
                step,
                client,
                several,
                state: State::Queued,
                began: self.now,
                time: 0,
                operation_began: self.now,
                attempts: 0,
                leaders: Vec::new(),
            });
            let queue = self.script.queues.entry(client).or_default();
            queue.push_back(number);
            if queue.len() == 1 {
                self.agenda.add(self.now, Event::Task(number));
            }
        }
    }

    /// Whether the tasks of the named steps have ended as they should.
    fn tasks_of(&self, names: &[String], deadline: u64) -> Look {
        for name in names {
            let Some(step) = self.plan.steps.iter().position(|step| step.name == *name) else { continue };
            let mut leaders: Vec<NodeId> = Vec::new();
            for task in self.script.tasks.iter().filter(|task| task.step == step) {
                match &task.state {
                    State::Ended(Ok(())) => leaders.extend(&task.leaders),
                    State::Ended(Err(words)) => return Look::Failed(format!("{name}: {words}")),
                    _ if self.now >= deadline => return Look::Failed(format!("{name}: it goes on")),
                    _ => return Look::Again(deadline),
                }
            }
            leaders.sort_unstable();
            leaders.dedup();
            let one = operation_at(&self.plan.steps, step).and_then(|operation| operation.expect.one_leader);
            if one == Some(true) && leaders.len() > 1 {
                let words =
                    format!("{name}: expected all answers from one leader; they came from nodes {leaders:?}");
                return Look::Failed(words);
            }
        }
        Look::Done
    }

    /// A task begins, or attempts again.
    pub(super) fn task(&mut self, number: usize) {
        let now = self.now;
        let task = &mut self.script.tasks[number];
        match task.state {
            State::Queued => {
                task.began = now;
                self.next_operation(number);
            }
            State::Between => self.next_operation(number),
            State::Pausing => self.attempt(number),
            State::Asking | State::Ended(_) => {}
        }
    }

    fn next_operation(&mut self, number: usize) {
        let now = self.now;
        let task = &mut self.script.tasks[number];
        let Some(operation) = operation_at(&self.plan.steps, task.step) else { return };
        let again = match operation.lasts {
            Some(lasts) => now - task.began < lasts.0.as_nanos() as u64,
            None => task.time < operation.operations(),
        };
        if !again {
            return self.end_task(number, Ok(()));
        }
        task.operation_began = now;
        task.attempts = 0;
        self.attempt(number);
    }

    fn attempt(&mut self, number: usize) {
        let now = self.now;
        let task = &mut self.script.tasks[number];
        task.attempts += 1;
        task.state = State::Asking;
        let (client, index) = (task.client, task.step as u64);
        let passed = now - task.operation_began;
        let attempt = task.time * 1000 + task.attempts;
        let Some(operation) = operation_at(&self.plan.steps, task.step) else { return };
        let asked = function(operation, index, client, task.time, task.several);
        let limit = operation.timeout_ms.unwrap_or(self.plan.timeout_ms) * 1_000_000;
        let within = self.plan.steps[task.step].within.map(|within| within.0.as_nanos() as u64);
        let left = within.map_or(limit, |within| within.saturating_sub(passed).min(limit));
        let choice = FIRST_CHOICE + (index << 16) + (client << 32) + attempt;
        let order = node_order(self.plan.nodes, self.plan.seed, choice);
        let entry = match &operation.via {
            Via::Any => order.first().copied().map(Entry::Leader),
            Via::Pinned => Some(Entry::Leader(pinned(client, self.plan.nodes))),
            Via::Target(target) => self.resolve(target, &order).first().copied().map(Entry::At),
        };
        if let Some(entry) = entry {
            return self.ask(self.plan.script_client(client), entry, asked, left.max(LEAST));
        }
        let ended = Ended::Fail("nobody is there to be asked".to_owned());
        self.judge_attempt(number, &asked, &Finished::straight(0, ended));
    }

    /// A client of the script has its answer.
    pub(super) fn task_answered(&mut self, client: u64, asked: &Function, finished: &Finished) {
        let client = client - self.plan.clients.len() as u64;
        let task = self.script.queues.get(&client).and_then(|queue| queue.front().copied());
        if let Some(number) = task {
            self.judge_attempt(number, asked, finished);
        }
    }

    fn judge_attempt(&mut self, number: usize, asked: &Function, finished: &Finished) {
        let ended = &finished.ended;
        let task = &self.script.tasks[number];
        let step = &self.plan.steps[task.step];
        let Some(operation) = operation_at(&self.plan.steps, task.step) else { return };
        if let Some(result) = ended.result() {
            self.script.answered.insert(step.name.clone(), result.leader);
        }
        let within = step.within.map(|within| within.0.as_nanos() as u64);
        let time_is_up = within.is_none_or(|within| self.now - task.operation_began >= within);
        let order = node_order(self.plan.nodes, self.plan.seed, FIRST_CHOICE + task.step as u64);
        let expect = &operation.expect;
        let resolved = |target: &Option<_>| target.as_ref().map(|target| self.resolve(target, &order));
        let expected = Expected {
            expect,
            key: asked.key(),
            leader: resolved(&expect.leader),
            not_leader: resolved(&expect.not_leader),
        };
        let attempt = Attempt { number: task.attempts, time_is_up, timed: within.is_some() };
        let verdict = settled(&expected, finished, asked, attempt);
        let (client, attempts) = (task.client, task.attempts);
        let task = &mut self.script.tasks[number];
        match verdict {
            None => {
                task.state = State::Pausing;
                self.agenda.add(self.now + ATTEMPT_PAUSE.as_nanos() as u64, Event::Task(number));
            }
            Some(Ok(())) => {
                task.leaders.extend(ended.result().map(|result| result.leader));
                task.time += 1;
                task.state = State::Between;
                // where nobody is there to be asked no time would pass
                let pause = if ended.result().is_some() { 0 } else { UNANSWERED };
                self.agenda.add(self.now + pause, Event::Task(number));
            }
            Some(Err(wanted)) => {
                let got = shown(finished);
                let words = format!("expected {wanted}; client {client} got {got} at attempt {attempts}");
                self.end_task(number, Err(words));
            }
        }
    }

    fn end_task(&mut self, number: usize, result: Result<(), String>) {
        let task = &mut self.script.tasks[number];
        task.state = State::Ended(result);
        let client = task.client;
        if let Some(queue) = self.script.queues.get_mut(&client) {
            queue.pop_front();
            if let Some(next) = queue.front() {
                self.agenda.add(self.now, Event::Task(*next));
            }
        }
        self.look(self.now);
    }
}
