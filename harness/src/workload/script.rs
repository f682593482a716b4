//! Scripts: steps in an order, each of which does one thing and says what must come of it.

use std::ops::Range;

use checker::history::Key;
use serde::{Deserialize, Serialize};
use toml::Spanned;

use super::{
    Clients, Fault, FaultSpec, Template, Time,
    check::{Scope, at_least},
    faults::check_fault,
    file, history_key, keys,
    scalar::{FileKey, Peer, Target, Via, Wait, Who},
};

/// One step.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Step {
    /// Its name; steps without one are called by their number.
    pub name: String,
    /// How long it may take to come true.
    pub within: Option<Time>,
    /// What it does.
    pub action: Action,
}

/// What a step does.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Action {
    /// Clients ask the store.
    Operation(Box<OperationStep>),
    /// Something breaks.
    Fault(FaultSpec),
    /// The named fault is undone, or `all` of them.
    Heal(String),
    /// Something must happen first.
    Wait(Wait),
    /// Operations in the background must have ended, as they expect.
    Await(Vec<String>),
}

/// Clients ask the store.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OperationStep {
    /// Which clients, side by side.
    pub client: Who,
    /// Where they ask.
    pub via: Via,
    /// Of which keys, at least one, one after the other.
    pub keys: Vec<Key>,
    /// What they ask.
    pub ask: Ask,
    /// How often each of them asks of all of the keys, one time after the other.
    pub times: u64,
    /// For how long each of them asks again and again, whatever `times` says.
    pub lasts: Option<Time>,
    /// Whether the next step starts at once.
    pub background: bool,
    /// After how long an attempt without an answer counts as unknown.
    pub timeout_ms: Option<u64>,
    /// What must come back, each time.
    pub expect: Expectation,
}

/// What a step asks of the store.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Ask {
    /// Read.
    Get,
    /// Write.
    Put {
        /// The value; none: one that no other operation writes.
        value: Option<Template>,
    },
    /// Compare and swap.
    Cas {
        /// What the key must hold; none: nothing.
        expected: Option<Template>,
        /// The new value; none: one that no other operation writes.
        new: Option<Template>,
    },
    /// Remove.
    Delete,
}

/// What must come back.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Expectation {
    /// How it ends.
    pub outcome: StepOutcome,
    /// The value read.
    pub value: Option<Template>,
    /// Whether the key was absent.
    pub absent: Option<bool>,
    /// Whether a compare-and-swap swapped.
    pub swapped: Option<bool>,
    /// Whether the answer was a fast read.
    pub fast: Option<bool>,
    /// Whether the answer was a local read.
    pub local: Option<bool>,
    /// Whether a node that was asked named another one as the leader.
    pub redirected: Option<bool>,
    /// Whether a node that was asked was gone, so that the answer came from another one.
    pub reconnected: Option<bool>,
    /// Who answered.
    pub leader: Option<Target>,
    /// Who did not answer.
    pub not_leader: Option<Target>,
    /// Whether all answers of the step came from one leader.
    pub one_leader: Option<bool>,
    /// How many attempts each operation takes at least: those before the last were refused or not answered in time.
    pub attempts: Option<u64>,
    /// What the error says.
    pub error: Option<String>,
}

/// How an operation of a step ends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum StepOutcome {
    /// It is answered.
    #[default]
    Ok,
    /// It is refused: it definitely did not happen.
    Fail,
    /// Its time passes without an answer, refusals in between or not.
    Timeout,
    /// It is refused or its time passes.
    Unanswered,
    /// Anything.
    Any,
}

impl OperationStep {
    /// The key of a client's operation, counted from 0.
    pub fn key(&self, time: u64) -> &Key {
        &self.keys[(time % self.keys.len() as u64) as usize]
    }

    /// How many operations each client asks for, unless `lasts` says for how long.
    pub fn operations(&self) -> u64 {
        self.times * self.keys.len() as u64
    }
}

/// Checks a script.
pub fn check(scope: &Scope, clients: &Clients, steps: Vec<Spanned<file::Step>>) -> Result<Vec<Step>, Fault> {
    let mut script: Vec<Step> = Vec::new();
    for step in steps {
        let checked = Checking { scope, clients, before: &script }.step(step)?;
        script.push(checked);
    }
    Ok(script)
}

/// A step among those before it.
struct Checking<'a> {
    scope: &'a Scope<'a>,
    clients: &'a Clients,
    before: &'a [Step],
}

impl Checking<'_> {
    fn step(&self, step: Spanned<file::Step>) -> Result<Step, Fault> {
        let span = step.span();
        let step = step.into_inner();
        let name = self.name(&step)?;
        let verbs = verbs(&step);
        let action = match verbs.as_slice() {
            ["get" | "put" | "cas" | "delete"] => self.operation(&step, &span)?,
            [verb] => {
                no_operation(verb, &step)?;
                self.other(&step, &span)?
            }
            [] => {
                return Err(Fault::new(span, "a step that does nothing", "no verb").help(
                    "write one of `get`, `put`, `cas`, `delete`, `fault`, `heal`, `wait` and `await` in each step",
                ));
            }
            _ => {
                return Err(Fault::new(span, "a step that does several things", verbs.join(" and "))
                    .help("make a `[[step]]` of each; `background = true` lets them run side by side"));
            }
        };
        Ok(Step { name, within: step.within.map(Spanned::into_inner), action })
    }

    fn name(&self, step: &file::Step) -> Result<String, Fault> {
        let Some(name) = &step.name else { return Ok(format!("step {}", self.before.len() + 1)) };
        if name.get_ref() == "all" || self.before.iter().any(|step| step.name == *name.get_ref()) {
            return Err(
                Fault::new(name.span(), "the name is taken", "again").help("name each step differently")
            );
        }
        Ok(name.get_ref().clone())
    }

    fn operation(&self, step: &file::Step, span: &Range<usize>) -> Result<Action, Fault> {
        let who = step.client.as_ref().ok_or_else(|| {
            Fault::new(span.clone(), "who asks?", "no `client`")
                .help("add `client = 1`, a list, or `client = \"all\"`")
        })?;
        if let Who::Only(clients) = who.get_ref()
            && let Some(client) = clients.iter().find(|client| **client == 0 || **client > self.clients.count)
        {
            return Err(Fault::new(who.span(), format!("there is no client {client}"), "named here")
                .help(format!("the clients are 1 to {}: see `count` in `[clients]`", self.clients.count)));
        }
        if let Some(via) = &step.via
            && let Via::Target(target) = via.get_ref()
        {
            self.target(target, via.span())?;
        }
        let via = step.via.as_ref().map_or(Via::Any, |via| via.get_ref().clone());
        let times = step.times.as_ref().map_or(1, |times| *times.get_ref());
        if let Some(place) = step.times.as_ref().filter(|times| *times.get_ref() == 0 || step.lasts.is_some())
        {
            return Err(Fault::new(place.span(), "how often?", "0 times, or beside `for`")
                .help("write `times` of 1 or more, or `for` without `times`"));
        }
        let (keys, ask) = self.ask(step)?;
        if let Some(lack) = self.scope.system.lacks_ask(&ask) {
            let place = step.delete.as_ref().map(Spanned::span).or(step.cas.as_ref().map(Spanned::span));
            return Err(Fault::new(place.unwrap_or(span.clone()), lack.what, "asked here").help(lack.help));
        }
        let expect = step.expect.as_ref();
        let expect =
            expect.map_or(Ok(Expectation::default()), |expect| self.expectation(step, &keys, expect))?;
        Ok(Action::Operation(Box::new(OperationStep {
            client: who.get_ref().clone(),
            via,
            keys,
            ask,
            times,
            lasts: step.lasts.as_ref().map(|lasts| *lasts.get_ref()),
            background: step.background.as_ref().is_some_and(|background| *background.get_ref()),
            timeout_ms: step.timeout_ms.as_ref().map(|timeout| *timeout.get_ref()),
            expect,
        })))
    }

    fn ask(&self, step: &file::Step) -> Result<(Vec<Key>, Ask), Fault> {
        let of = |text: &Option<Spanned<String>>, keys: &[Key]| {
            text.as_ref().map(|text| Template::check(text, keys)).transpose()
        };
        if let Some(get) = &step.get {
            let file::OfKey { key, keys } = get.get_ref();
            return Ok((self.keys(key.as_ref(), keys.as_ref(), get.span())?, Ask::Get));
        }
        if let Some(put) = &step.put {
            let file::Put { key, keys, value } = put.get_ref();
            let keys = self.keys(key.as_ref(), keys.as_ref(), put.span())?;
            let value = of(value, &keys)?;
            return Ok((keys, Ask::Put { value }));
        }
        if let Some(cas) = &step.cas {
            let file::Cas { key, keys, expected, new } = cas.get_ref();
            let keys = self.keys(key.as_ref(), keys.as_ref(), cas.span())?;
            let (expected, new) = (of(expected, &keys)?, of(new, &keys)?);
            return Ok((keys, Ask::Cas { expected, new }));
        }
        let delete =
            step.delete.as_ref().unwrap_or_else(|| unreachable!("called for steps with an operation"));
        let file::OfKey { key, keys } = delete.get_ref();
        Ok((self.keys(key.as_ref(), keys.as_ref(), delete.span())?, Ask::Delete))
    }

    /// The one key or the keys of an operation.
    fn keys(
        &self,
        key: Option<&Spanned<FileKey>>,
        keys: Option<&Spanned<file::Keys>>,
        span: Range<usize>,
    ) -> Result<Vec<Key>, Fault> {
        match (key, keys) {
            (Some(key), None) => Ok(vec![history_key(&self.scope.file_key(key)?)]),
            (None, Some(keys)) => keys::check(self.scope.cluster, keys),
            _ => Err(Fault::new(span, "of which key?", "neither `key` nor `keys`, or both")
                .help("write `key = 1`, or `keys = { from = 1, to = 13 }` for one after the other")),
        }
    }

    fn expectation(
        &self,
        step: &file::Step,
        keys: &[Key],
        expect: &Spanned<file::Expectation>,
    ) -> Result<Expectation, Fault> {
        let span = expect.span();
        let expect = expect.get_ref();
        for target in expect.leader.iter().chain(&expect.not_leader) {
            self.target(target.get_ref(), target.span())?;
        }
        let answered = expect.value.is_some()
            || expect.absent.is_some()
            || expect.swapped.is_some()
            || expect.fast.is_some()
            || expect.local.is_some()
            || expect.redirected.is_some()
            || expect.reconnected.is_some()
            || expect.leader.is_some();
        if answered && !matches!(expect.outcome, StepOutcome::Ok | StepOutcome::Any) {
            return Err(Fault::new(
                span,
                "what is not answered has no value, leader or speed",
                "contradicts itself",
            )
            .help("remove `outcome`, or what describes the answer"));
        }
        if let Some(attempts) = &expect.attempts {
            at_least(attempts, 2, "attempts: every operation takes one")?;
            if step.within.is_none() || !matches!(expect.outcome, StepOutcome::Ok) {
                return Err(Fault::new(
                    attempts.span(),
                    "nothing is attempted again here",
                    "has no meaning here",
                )
                .help("add `within = \"5s\"` to a step that expects an answer"));
            }
        }
        let expectation = Expectation {
            outcome: expect.outcome,
            value: expect.value.as_ref().map(|value| Template::check(value, keys)).transpose()?,
            absent: expect.absent.as_ref().map(|absent| *absent.get_ref()),
            swapped: expect.swapped,
            fast: expect.fast,
            local: expect.local,
            redirected: expect.redirected,
            reconnected: expect.reconnected,
            leader: expect.leader.as_ref().map(|leader| leader.get_ref().clone()),
            not_leader: expect.not_leader.as_ref().map(|leader| leader.get_ref().clone()),
            one_leader: expect.one_leader,
            attempts: expect.attempts.as_ref().map(|attempts| *attempts.get_ref()),
            error: expect.error.clone(),
        };
        match self.scope.system.lacks_expectation(&expectation) {
            Some(lack) => Err(Fault::new(span, lack.what, "expected here").help(lack.help)),
            None => Ok(expectation),
        }
    }

    fn other(&self, step: &file::Step, span: &Range<usize>) -> Result<Action, Fault> {
        if let Some(fault) = &step.fault {
            if let Some(target) = &fault.get_ref().target {
                self.target(target.get_ref(), target.span())?;
            }
            let name = step.name.as_ref().map(|name| name.get_ref().clone());
            let fault = fault.get_ref().fault(name);
            if let Some(peer) = &fault.peer
                && let Peer::Nodes(target) = peer.get_ref()
            {
                self.target(target, peer.span())?;
            }
            return check_fault(self.scope, span.clone(), &fault).map(Action::Fault);
        }
        if let Some(name) = &step.heal {
            let is_fault = |step: &&Step| matches!(step.action, Action::Fault(_));
            self.earlier(name.get_ref(), name.span(), "fault", is_fault)?;
            return Ok(Action::Heal(name.get_ref().clone()));
        }
        if let Some(wait) = &step.wait {
            if let Wait::Leader(partition) | Wait::LeaderChange(partition) = wait.get_ref() {
                self.scope.partition(*partition, wait.span())?;
            }
            if let Some(lack) = self.scope.system.lacks_wait(wait.get_ref()) {
                return Err(Fault::new(wait.span(), lack.what, "waited for here").help(lack.help));
            }
            return Ok(Action::Wait(wait.get_ref().clone()));
        }
        let names = step.awaits.iter().flatten();
        let in_background =
            |step: &&Step| matches!(&step.action, Action::Operation(operation) if operation.background);
        for name in names.clone() {
            self.earlier(name.get_ref(), name.span(), "background operation", in_background)?;
        }
        Ok(Action::Await(names.map(|name| name.get_ref().clone()).collect()))
    }

    fn target(&self, target: &Target, span: Range<usize>) -> Result<(), Fault> {
        if let Target::Answered(name) = target {
            let is_operation = |step: &&Step| matches!(step.action, Action::Operation(_));
            return self.earlier(name, span, "operation", is_operation);
        }
        self.scope.target(target, span)
    }

    fn earlier(
        &self,
        name: &str,
        span: Range<usize>,
        what: &str,
        fits: impl Fn(&&Step) -> bool,
    ) -> Result<(), Fault> {
        let known: Vec<&str> = self.before.iter().filter(fits).map(|step| step.name.as_str()).collect();
        if known.contains(&name) || (name == "all" && what == "fault") {
            return Ok(());
        }
        let help = super::problem::suggestion(name, &known, "names so far");
        Err(Fault::new(span, format!("no earlier {what} is called `{name}`"), "named here").help(help))
    }
}

fn verbs(step: &file::Step) -> Vec<&'static str> {
    [
        ("get", step.get.is_some()),
        ("put", step.put.is_some()),
        ("cas", step.cas.is_some()),
        ("delete", step.delete.is_some()),
        ("fault", step.fault.is_some()),
        ("heal", step.heal.is_some()),
        ("wait", step.wait.is_some()),
        ("await", step.awaits.is_some()),
    ]
    .into_iter()
    .filter_map(|(verb, present)| present.then_some(verb))
    .collect()
}

/// Keys that only operations take.
fn no_operation(verb: &str, step: &file::Step) -> Result<(), Fault> {
    let spans = [
        ("client", step.client.as_ref().map(Spanned::span)),
        ("via", step.via.as_ref().map(Spanned::span)),
        ("times", step.times.as_ref().map(Spanned::span)),
        ("for", step.lasts.as_ref().map(Spanned::span)),
        ("timeout_ms", step.timeout_ms.as_ref().map(Spanned::span)),
        ("background", step.background.as_ref().map(Spanned::span)),
        ("expect", step.expect.as_ref().map(Spanned::span)),
    ];
    match spans.into_iter().find_map(|(key, span)| span.map(|span| (key, span))) {
        Some((key, span)) => {
            Err(Fault::new(span, format!("`{key}` does not go with `{verb}`"), "has no meaning here")
                .help("it belongs to `get`, `put`, `cas` and `delete`"))
        }
        None => Ok(()),
    }
}
