//! What the calls of a history mean to a model.

use std::collections::BTreeSet;

use rustc_hash::FxHashMap;

use super::{Object, Question};
use crate::formats::{Answer, Call, Edn, Format, Malformed};
use crate::general::Recorded;
use crate::history::Key;
use crate::model::{
    Access, AppendOp, CounterOp, MutexOp, QueueOp, QueueRet, RegisterOp, RegisterRet, SetOp, SetRet, Text,
};

type Meaning<O, R> = Result<Option<Recorded<O, R>>, Malformed>;

/// A part of an operation on several registers.
type Part = Access<Edn, Edn>;

pub(super) struct Translate<'a> {
    question: &'a Question,
    /// Values are pairs of a key and what it is about, as Jepsen's independent keys are written.
    tuples: bool,
}

impl<'a> Translate<'a> {
    pub(super) fn new(calls: &[Call], question: &'a Question) -> Result<Self, Malformed> {
        let registers = matches!(question.object, Object::Kv | Object::Register | Object::CasRegister);
        // no register holds vectors, so where every read and write has a pair, the first of it is a key
        let paired = |call: &Call| {
            matches!(&*call.function, "cas" | "compare-and-set")
                || call.argument.sequence().is_some_and(|pair| pair.len() == 2)
        };
        let is_read_or_write = |call: &Call| matches!(&*call.function, "read" | "write" | "get" | "put");
        let tuples = registers
            && calls.iter().any(is_read_or_write)
            && calls.iter().all(|call| call.key.is_none() && paired(call));
        if question.initial.is_some() && !registers && question.object != Object::Counter {
            let message =
                "this model begins empty; only a register or a counter has an initial value".to_owned();
            return Err(Malformed::At { line: 1, column: 1, message });
        }
        let translate = Self { question, tuples };
        translate.tell_keys_apart(calls)?;
        Ok(translate)
    }

    /// A keyword, say, and a string can read alike as keys; they must not be taken for one.
    fn tell_keys_apart(&self, calls: &[Call]) -> Result<(), Malformed> {
        let mut known: FxHashMap<Key, &Edn> = FxHashMap::default();
        for call in calls {
            let Some(key) = self.written_key(call) else { continue };
            let first = *known.entry(self.key(call)).or_insert(key);
            if first != key {
                return Err(wrong(call, &format!("this key, {key}, reads like another, {first}")));
            }
        }
        Ok(())
    }

    fn written_key<'b>(&self, call: &'b Call) -> Option<&'b Edn> {
        let pair = || call.argument.sequence().and_then(<[Edn]>::first);
        call.key.as_ref().or_else(|| self.tuples.then(pair).flatten())
    }

    /// Whether all calls are about one object.
    pub(super) fn knows_no_keys(&self, calls: &[Call]) -> bool {
        calls.iter().all(|call| self.written_key(call).is_none())
    }

    /// The key that a call is about.
    pub(super) fn key(&self, call: &Call) -> Key {
        match self.written_key(call) {
            Some(Edn::Integer(number)) => Key::Integer(*number),
            Some(Edn::Text(text)) => Key::String(text.to_string()),
            Some(other) => Key::String(other.to_string()),
            None => Key::String(String::new()),
        }
    }

    /// What a register holds at first.
    pub(super) fn initial(&self) -> Option<Edn> {
        let usual = if self.question.format == Format::Edn && self.question.object == Object::CasRegister {
            // as Knossos's own tests have it
            Edn::Integer(0)
        } else {
            Edn::Nil
        };
        present(self.question.initial.as_ref().unwrap_or(&usual))
    }

    /// What a counter begins with.
    pub(super) fn number(&self) -> Result<i64, Malformed> {
        let initial = self.question.initial.as_ref().unwrap_or(&Edn::Integer(0));
        initial.integer().ok_or_else(|| Malformed::At {
            line: 1,
            column: 1,
            message: format!("a counter begins with a number, not with {initial}"),
        })
    }

    /// The value of a pair of key and value.
    fn bare<'b>(&self, value: &'b Edn) -> &'b Edn {
        match value.sequence() {
            Some([_, value]) if self.tuples => value,
            _ => value,
        }
    }

    pub(super) fn register(&self, call: &Call) -> Meaning<RegisterOp<Edn>, RegisterRet<Edn>> {
        let argument = self.bare(&call.argument);
        let op = match &*call.function {
            "read" | "get" => RegisterOp::Get,
            "write" | "put" => match present(argument) {
                Some(value) => RegisterOp::Put(value),
                None => RegisterOp::Delete,
            },
            "delete" if self.question.object == Object::Kv => RegisterOp::Delete,
            "cas" | "compare-and-set" if self.question.object != Object::Register => {
                match argument.sequence() {
                    Some([expected, new]) => match present(new) {
                        Some(new) => RegisterOp::Cas { expected: present(expected), new },
                        None => return Err(wrong(call, "a cas to nil is not supported")),
                    },
                    _ => return Err(wrong(call, "a cas has two values: [expected new]")),
                }
            }
            _ => return Err(unheard(call, "read, write and cas")),
        };
        let answer = match &call.returned {
            // what nobody saw constrains nothing
            None if op == RegisterOp::Get => return Ok(None),
            None => None,
            Some((_, Answer::Refused)) => Some(RegisterRet::Refused),
            Some((_, Answer::Ok(value))) if op == RegisterOp::Get => {
                if self.tuples && *value != Edn::Nil && !is_pair_of(value, &call.argument) {
                    return Err(wrong_answer(call, "the answer is about another key"));
                }
                let value = present(self.bare(value));
                if value.is_none() && self.nil_says_nothing() {
                    return Ok(None);
                }
                Some(RegisterRet::Value(value))
            }
            Some(_) => Some(RegisterRet::Done),
        };
        Ok(Some(recorded(call, op, answer)))
    }

    /// Whether a read of nil constrains nothing: Jepsen's clients leave it nil when they cannot tell, and Knossos's registers
    /// take it for any value (so does [`MultiRegister`](crate::model::MultiRegister)). Keys that can be absent are another matter.
    fn nil_says_nothing(&self) -> bool {
        self.question.format == Format::Edn && self.question.object != Object::Kv
    }

    #[expect(clippy::unused_self, reason = "it is called like the others")]
    pub(super) fn append(&self, call: &Call) -> Meaning<AppendOp, Option<Text>> {
        let text = |value: &Edn| match value {
            Edn::Text(text) => Ok(Text::from(&**text)),
            other => Err(wrong(call, &format!("expected a string, found {other}"))),
        };
        let op = match &*call.function {
            "get" | "read" => AppendOp::Get,
            "put" | "write" => AppendOp::Put(text(&call.argument)?),
            "append" => AppendOp::Append(text(&call.argument)?),
            _ => return Err(unheard(call, "get, put and append")),
        };
        let answer = match &call.returned {
            None if op == AppendOp::Get => return Ok(None),
            Some((_, Answer::Ok(value))) if op == AppendOp::Get => Some(Some(text(value)?)),
            returned => returned.as_ref().map(|_| None),
        };
        Ok(Some(recorded(call, op, answer)))
    }

    #[expect(clippy::unused_self, reason = "it is called like the others")]
    pub(super) fn registers(&self, call: &Call) -> Meaning<Vec<Part>, Vec<Option<Edn>>> {
        let op = accesses(call, &call.argument)?;
        let answer = match &call.returned {
            Some((_, Answer::Ok(value))) => {
                let found = accesses(call, value)?;
                if found.len() != op.len()
                    || !found.iter().zip(&op).all(|(told, asked)| tells_of(&told.0, &asked.0))
                {
                    return Err(wrong_answer(call, "the answer has other parts than the question"));
                }
                let reads = found.into_iter().filter(|(part, _)| matches!(part, Access::Read(_)));
                Some(reads.map(|(_, value)| present(&value)).collect())
            }
            _ => None,
        };
        let reads_only = op.iter().all(|(access, _)| matches!(access, Access::Read(_)));
        if answer.is_none() && reads_only {
            return Ok(None);
        }
        Ok(Some(recorded(call, op.into_iter().map(|(access, _)| access).collect(), answer)))
    }

    #[expect(clippy::unused_self, reason = "it is called like the others")]
    pub(super) fn mutex(&self, call: &Call) -> Meaning<MutexOp, bool> {
        let op = match &*call.function {
            "acquire" => MutexOp::Acquire,
            "release" => MutexOp::Release,
            _ => return Err(unheard(call, "acquire and release")),
        };
        Ok(Some(recorded(call, op, call.returned.as_ref().map(|_| true))))
    }

    #[expect(clippy::unused_self, reason = "it is called like the others")]
    pub(super) fn counter(&self, call: &Call) -> Meaning<CounterOp, Option<i64>> {
        let number = |value: &Edn| match value.integer() {
            Some(number) => Ok(number),
            None => Err(wrong(call, &format!("expected a number, found {value}"))),
        };
        let op = match &*call.function {
            "add" => CounterOp::Add(number(&call.argument)?),
            "inc" | "increment" => CounterOp::Add(1),
            "dec" | "decrement" => CounterOp::Add(-1),
            "read" => CounterOp::Read,
            _ => return Err(unheard(call, "add and read")),
        };
        let answer = match &call.returned {
            None | Some((_, Answer::Ok(Edn::Nil))) if op == CounterOp::Read => return Ok(None),
            Some((_, Answer::Ok(value))) if op == CounterOp::Read => Some(Some(number(value)?)),
            returned => returned.as_ref().map(|_| None),
        };
        Ok(Some(recorded(call, op, answer)))
    }

    #[expect(clippy::unused_self, reason = "it is called like the others")]
    pub(super) fn set(&self, call: &Call) -> Meaning<SetOp<Edn>, SetRet<Edn>> {
        let op = match &*call.function {
            "add" => SetOp::Add(call.argument.clone()),
            "remove" => SetOp::Remove(call.argument.clone()),
            "read" => SetOp::Read,
            _ => return Err(unheard(call, "add, remove and read")),
        };
        let answer = match &call.returned {
            None | Some((_, Answer::Ok(Edn::Nil))) if op == SetOp::Read => return Ok(None),
            Some((_, Answer::Ok(Edn::Set(elements) | Edn::Sequence(elements)))) if op == SetOp::Read => {
                let set: BTreeSet<Edn> = elements.iter().cloned().collect();
                if set.len() < elements.len() {
                    return Err(wrong(call, "an element is read twice"));
                }
                Some(SetRet::Elements(set))
            }
            Some((_, Answer::Ok(other))) if op == SetOp::Read => {
                return Err(wrong(call, &format!("expected a set or a list, found {other}")));
            }
            returned => returned.as_ref().map(|_| SetRet::Done),
        };
        Ok(Some(recorded(call, op, answer)))
    }

    #[expect(clippy::unused_self, reason = "it is called like the others")]
    pub(super) fn queue(&self, call: &Call) -> Meaning<QueueOp<Edn>, QueueRet<Edn>> {
        let op = match &*call.function {
            "enqueue" => QueueOp::Enqueue(call.argument.clone()),
            "dequeue" => QueueOp::Dequeue,
            _ => return Err(unheard(call, "enqueue and dequeue")),
        };
        let answer = match &call.returned {
            Some((_, Answer::Ok(value))) if op == QueueOp::Dequeue => Some(QueueRet::Taken(present(value))),
            returned => returned.as_ref().map(|_| QueueRet::Done),
        };
        Ok(Some(recorded(call, op, answer)))
    }
}

fn recorded<O, R>(call: &Call, op: O, answer: Option<R>) -> Recorded<O, R> {
    let returned = call.returned.as_ref().map(|(at, _)| *at).zip(answer);
    Recorded { called: call.called, returned, op }
}

/// Whether a value is a pair that begins as this one.
fn is_pair_of(value: &Edn, argument: &Edn) -> bool {
    match (value.sequence(), argument.sequence()) {
        (Some([told, _]), Some([asked, _])) => told == asked,
        _ => false,
    }
}

/// Whether a part of an answer is about a part of the question. A write may leave out what it wrote.
fn tells_of(told: &Part, asked: &Part) -> bool {
    match (told, asked) {
        (Access::Write(told, Edn::Nil), Access::Write(asked, _)) => told == asked,
        _ => told == asked,
    }
}

fn present(value: &Edn) -> Option<Edn> {
    (*value != Edn::Nil).then(|| value.clone())
}

/// The parts of an operation on several registers, each with the value beside it: `[[:read k v] …]`, or a map of keys
/// to values for a plain read or write.
fn accesses(call: &Call, value: &Edn) -> Result<Vec<(Part, Edn)>, Malformed> {
    let access = |function: Option<&str>, key: &Edn, value: &Edn| match function {
        Some("read" | "r") => Ok((Access::Read(key.clone()), value.clone())),
        Some("write" | "w") => Ok((Access::Write(key.clone(), value.clone()), value.clone())),
        _ => Err(wrong(call, "expected parts such as [:read :x nil] and [:write :y 1]")),
    };
    match value {
        Edn::Map(entries) => {
            entries.iter().map(|(key, value)| access(Some(&call.function), key, value)).collect()
        }
        Edn::Sequence(parts) => parts
            .iter()
            .map(|part| match part.sequence() {
                Some([function, key, value]) => access(function.keyword(), key, value),
                Some([function, key]) => access(function.keyword(), key, &Edn::Nil),
                _ => access(None, &Edn::Nil, &Edn::Nil),
            })
            .collect(),
        other => Err(wrong(call, &format!("expected a list of parts or a map, found {other}"))),
    }
}

fn unheard(call: &Call, known: &str) -> Malformed {
    wrong(call, &format!("this model does not know :{}; it knows {known}", call.function))
}

fn wrong_answer(call: &Call, message: &str) -> Malformed {
    let line = call.lines.returned.unwrap_or(call.lines.invoked);
    Malformed::At { line, column: 1, message: message.to_owned() }
}

fn wrong(call: &Call, message: &str) -> Malformed {
    Malformed::At { line: call.lines.invoked, column: 1, message: message.to_owned() }
}
