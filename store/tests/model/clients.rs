//! The clients of the model, and what they were told.

use stateright::semantics::{
    ConsistencyTester, LinearizabilityTester,
    register::{Register, RegisterOp, RegisterRet},
};
use store::{
    api::{Answer, Key, NodeId, Operation, Outcome, Response, SessionTag, Value},
    core::invariants::Violation,
};

use crate::bounds::Ask;

/// The one key.
const KEY: Key = Key::Integer(1);

/// What was asked and answered, in the order in which it happened.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Clients {
    /// For each client, what it has asked for, the last of it perhaps without an answer.
    asked: Vec<Vec<Asked>>,
    /// Every asking and answering, as positions in `asked`.
    order: Vec<(Moment, usize, usize)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Moment {
    Asked,
    Answered,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Asked {
    ask: Ask,
    /// Who is to answer.
    node: NodeId,
    /// Highest version that anyone had been told of.
    known_version: u64,
    answer: State,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum State {
    Pending,
    Ok(Answer),
    /// It may have happened or not.
    Unknown,
    Refused,
}

impl Clients {
    /// So many clients that have asked nothing yet.
    pub fn new(count: usize) -> Self {
        Self { asked: vec![Vec::new(); count], order: Vec::new() }
    }

    /// What a client asks next, if it has an answer to what it asked before.
    pub fn next(&self, client: usize, script: &[Ask]) -> Option<(Operation, Option<SessionTag>)> {
        let asked = &self.asked[client];
        let waits = asked.last().is_some_and(|last| last.answer == State::Pending);
        let ask = script.get(asked.len()).filter(|_| !waits)?;
        Some(request(*ask, client, asked.len()))
    }

    /// How much a client has asked.
    pub fn asked_by(&self, client: usize) -> usize {
        self.asked[client].len()
    }

    /// A client asks the next of its script; the number of the request.
    pub fn ask(&mut self, client: usize, node: NodeId, script: &[Ask]) -> u64 {
        let number = self.asked[client].len();
        // what is asked for again is one operation with what was asked before, unless that was refused
        let first = self.asked[client].last().filter(|_| script[number] == Ask::Again);
        let first = first.filter(|first| first.answer != State::Refused);
        let known_version = first.map_or_else(|| self.known_version(), |first| first.known_version);
        self.asked[client].push(Asked { ask: script[number], node, known_version, answer: State::Pending });
        self.order.push((Moment::Asked, client, number));
        number as u64
    }

    /// A client is answered. An answer reflects what anyone knew when it was asked (L5, L8), and the whole is linearizable.
    pub fn answered(&mut self, client: usize, number: u64, response: &Response) -> Result<(), Violation> {
        let asked = &mut self.asked[client][number as usize];
        assert_eq!(asked.answer, State::Pending, "a request is answered once");
        asked.answer = match response {
            Ok(answer) => State::Ok(answer.clone()),
            Err(error) if error.is_definite() => State::Refused,
            Err(_) => State::Unknown,
        };
        self.order.push((Moment::Answered, client, number as usize));
        let Ok(answer) = response else { return Ok(()) };
        let known = self.asked[client][number as usize].known_version;
        if answer.version < known {
            let invariant = if answer.fast { "L5" } else { "L8" };
            return Err(format!("{invariant}: version {} answered where {known} was known", answer.version));
        }
        if asked_again_in_vain(&self.asked[client]) {
            return Err(format!("linearizable: two verdicts of one write: {:?}", self.asked[client]));
        }
        if self.history().is_consistent() {
            return Ok(());
        }
        Err(format!("linearizable: {:?}", self.asked))
    }

    /// Whether a read was answered under the lease.
    pub fn read_fast(&self) -> bool {
        self.asked.iter().flatten().any(|asked| matches!(&asked.answer, State::Ok(answer) if answer.fast))
    }

    /// A node is dead: nobody knows what became of what it was to answer.
    pub fn crashed(&mut self, node: NodeId) {
        let pending = |asked: &&mut Asked| asked.node == node && asked.answer == State::Pending;
        for asked in self.asked.iter_mut().flatten().filter(pending) {
            asked.answer = State::Unknown;
        }
    }

    fn known_version(&self) -> u64 {
        let versions = self.asked.iter().flatten().map(|asked| match &asked.answer {
            State::Ok(answer) => answer.version,
            State::Pending | State::Unknown | State::Refused => 0,
        });
        versions.max().unwrap_or(0)
    }

    /// The history for stateright's tester. What was refused did not happen; what is unknown stays in flight.
    fn history(&self) -> LinearizabilityTester<(usize, usize), Register<Option<Value>>> {
        let mut tester = LinearizabilityTester::new(Register(None));
        for (moment, client, number) in &self.order {
            let asked = &self.asked[*client][*number];
            let again = number.checked_sub(1).filter(|_| asked.ask == Ask::Again);
            let first = again.map(|first| &self.asked[*client][first].answer);
            // a thread each: one operation follows another only in real time
            let thread = (*client, again.unwrap_or(*number));
            let done = match (moment, &asked.answer, first) {
                _ if asked.ask == Ask::Open => continue,
                // what is asked for again was invoked the first time, and has returned if that was answered
                (_, State::Refused, _)
                | (Moment::Answered, State::Unknown | State::Pending, _)
                | (Moment::Asked, _, Some(State::Pending | State::Ok(_) | State::Unknown))
                | (Moment::Answered, _, Some(State::Ok(_))) => continue,
                (Moment::Asked, _, _) => tester.on_invoke(thread, operation(asked.ask, *client, *number)),
                (Moment::Answered, State::Ok(answer), _) => tester.on_return(thread, returned(answer)),
            };
            done.expect("each operation is asked once and answered once");
        }
        tester
    }
}

/// Whether a write that was asked for twice was answered in two ways.
fn asked_again_in_vain(asked: &[Asked]) -> bool {
    asked.windows(2).filter(|pair| pair[1].ask == Ask::Again).any(|pair| {
        match (&pair[0].answer, &pair[1].answer) {
            (State::Ok(first), State::Ok(again)) => {
                (first.version, first.index) != (again.version, again.index)
            }
            _ => false,
        }
    })
}

fn request(ask: Ask, client: usize, number: usize) -> (Operation, Option<SessionTag>) {
    match ask {
        Ask::Read => (Operation::Get { key: KEY }, None),
        Ask::Write => (Operation::Put { key: KEY, value: written(ask, client, number) }, None),
        Ask::Open => (Operation::OpenSession { key: KEY }, None),
        Ask::Once | Ask::Again => {
            let swap = Operation::Cas { key: KEY, expected: None, new: written(ask, client, number) };
            (swap, Some(SessionTag { session: 1, sequence: 1 }))
        }
    }
}

fn written(ask: Ask, client: usize, number: usize) -> Value {
    let number = if ask == Ask::Again { number - 1 } else { number };
    format!("{client}.{number}").into()
}

fn operation(ask: Ask, client: usize, number: usize) -> RegisterOp<Option<Value>> {
    match ask {
        Ask::Read => RegisterOp::Read,
        _ => RegisterOp::Write(Some(written(ask, client, number))),
    }
}

fn returned(answer: &Answer) -> RegisterRet<Option<Value>> {
    match &answer.outcome {
        Outcome::Value(value) => RegisterRet::ReadOk(value.clone()),
        // nobody else writes: no write is answered so
        Outcome::NotSwapped { seen } => RegisterRet::ReadOk(seen.clone()),
        _ => RegisterRet::WriteOk,
    }
}
