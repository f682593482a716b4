//! Events and their pairing into operations.

use rustc_hash::FxHashMap;

use super::{Calls, Edn, Format, Kind};

/// An operation is invoked or completes.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    /// Line, from 1, on which it begins.
    pub line: usize,
    /// Who.
    pub process: i64,
    /// Invocation or completion.
    pub kind: Kind,
    /// What: `read`, `write`, …
    pub function: Box<str>,
    /// The key, where it stands apart.
    pub key: Option<Edn>,
    /// What it is about.
    pub value: Edn,
    /// Nanoseconds, where they are told.
    pub time: Option<u64>,
}

impl Event {
    /// The event that a map tells of; `None`: it is not about an operation of a client.
    pub(super) fn of_map(map: Edn, line: usize) -> Result<Option<Self>, String> {
        let Edn::Map(entries) = map else {
            return Err(format!(
                "expected a map such as {{:process 0, :type :invoke, :f :read}}, found {}",
                brief(&map)
            ));
        };
        let Fields { kind, process, function, key, value, time } = Fields::of(entries)?;
        let kind = match kind.as_ref().and_then(Edn::keyword) {
            Some("invoke") => Kind::Invoke,
            Some("ok") => Kind::Ok,
            Some("fail") => Kind::Fail,
            Some("info") => Kind::Info,
            other => {
                let found = other.unwrap_or("missing");
                return Err(format!(":type is {found}, not :invoke, :ok, :fail or :info"));
            }
        };
        let process = match process {
            Some(Edn::Integer(process)) => process,
            // the nemesis
            Some(Edn::Word(name))
                if name.starts_with(|first: char| first == ':' || first.is_alphabetic()) =>
            {
                return Ok(None);
            }
            Some(other) => {
                let found = brief(&other);
                return Err(format!(
                    ":process is {found}, no number of a client and no name such as :nemesis"
                ));
            }
            None => return Err(":process is missing".to_owned()),
        };
        let function = function.as_ref().and_then(Edn::keyword);
        let function = function.ok_or(":f is missing, or no keyword")?.into();
        let time = time.as_ref().and_then(Edn::integer).and_then(|time| u64::try_from(time).ok());
        Ok(Some(Self { line, process, kind, function, key, value: value.unwrap_or_default(), time }))
    }
}

/// What a map tells of an event.
#[derive(Default)]
struct Fields {
    kind: Option<Edn>,
    process: Option<Edn>,
    function: Option<Edn>,
    key: Option<Edn>,
    value: Option<Edn>,
    time: Option<Edn>,
}

impl Fields {
    fn of(entries: Vec<(Edn, Edn)>) -> Result<Self, String> {
        let mut fields = Self::default();
        for (name, value) in entries {
            let field = match name.keyword() {
                Some("type") => &mut fields.kind,
                Some("process") => &mut fields.process,
                Some("f") => &mut fields.function,
                Some("key") => &mut fields.key,
                Some("value") => &mut fields.value,
                Some("time") => &mut fields.time,
                _ => continue,
            };
            if field.replace(value).is_some() {
                return Err(format!("{name} stands twice in this map"));
            }
        }
        Ok(fields)
    }
}

/// A value, cut short.
fn brief(value: &Edn) -> String {
    let text = value.to_string();
    match text.char_indices().nth(40) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

/// Lines on which an operation is invoked and completes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lines {
    /// Invocation.
    pub invoked: usize,
    /// Completion, if it returned.
    pub returned: Option<usize>,
}

/// What came back.
#[derive(Clone, Debug, PartialEq)]
pub enum Answer {
    /// It was done; this is the value that came back, often the one that was asked for.
    Ok(Edn),
    /// It was looked at and refused, without a word why: a compare-and-swap that did not match.
    Refused,
}

/// An operation that happened or may have happened.
#[derive(Clone, Debug, PartialEq)]
pub struct Call {
    /// Who.
    pub process: i64,
    /// What: `read`, `write`, …
    pub function: Box<str>,
    /// The key, where it stands apart.
    pub key: Option<Edn>,
    /// What was asked.
    pub argument: Edn,
    /// Place among the events, from 1.
    pub called: usize,
    /// Place of the completion, and what came back; `None`: unknown.
    pub returned: Option<(usize, Answer)>,
    /// Where this is written.
    pub lines: Lines,
    /// Nanoseconds of invocation and completion, where they are told.
    pub times: (Option<u64>, Option<u64>),
}

/// Pairs events as they come.
pub(super) struct Pairing {
    format: Format,
    /// `None`: it failed.
    calls: Vec<Option<Call>>,
    open: FxHashMap<i64, usize>,
    events: usize,
}

impl Pairing {
    pub(super) fn new(format: Format) -> Self {
        Self { format, calls: Vec::new(), open: FxHashMap::default(), events: 0 }
    }

    /// Takes the next event; the error says what does not fit.
    pub(super) fn take(&mut self, event: Event) -> Result<(), String> {
        self.events += 1;
        let Event { line, process, kind, function, key, value, time } = event;
        if kind == Kind::Invoke {
            if let Some(open) = self.open.insert(process, self.calls.len()) {
                let line = self.calls[open].as_ref().map_or(0, |call| call.lines.invoked);
                return Err(format!(
                    "process {process} invokes an operation while that of line {line} is open"
                ));
            }
            let lines = Lines { invoked: line, returned: None };
            let (called, times) = (self.events, (time, None));
            let call = Call { process, function, key, argument: value, called, returned: None, lines, times };
            self.calls.push(Some(call));
            return Ok(());
        }
        let Some(place) = self.open.remove(&process) else {
            return Err(format!("process {process} completes ({}) without an open operation", kind.word()));
        };
        let slot = &mut self.calls[place];
        let call = slot.as_mut().expect("an open operation has not failed");
        let asked = (&*call.function, &call.argument);
        if call.function != function || (key.is_some() && key != call.key) || differs(asked, kind, &value) {
            return Err(format!(
                "this {} of :{function} {} does not match the :{} {} that process {process} invoked on line {}",
                kind.word(),
                brief(&value),
                call.function,
                brief(&call.argument),
                call.lines.invoked
            ));
        }
        let answer = match kind {
            Kind::Ok => Answer::Ok(value),
            // the log of Porcupine's corpus: a cas that failed was looked at, anything else was not carried out
            Kind::Fail if self.format == Format::PorcupineLog && &*function == "cas" => Answer::Refused,
            Kind::Fail => {
                *slot = None;
                return Ok(());
            }
            Kind::Info | Kind::Invoke => return Ok(()),
        };
        call.returned = Some((self.events, answer));
        call.lines.returned = Some(line);
        call.times.1 = time;
        Ok(())
    }

    pub(super) fn finish(self) -> Calls {
        let all = self.calls.len();
        let list: Vec<Call> = self.calls.into_iter().flatten().collect();
        Calls { failed: all - list.len(), list, truncated: None }
    }
}

/// Whether a completion tells of another value than was to be written. It may leave it out; where it did not succeed a word may
/// say why (`:timed-out`).
fn differs((function, argument): (&str, &Edn), kind: Kind, told: &Edn) -> bool {
    let writes = ["write", "put", "append", "add", "remove", "enqueue", "cas", "compare-and-set"];
    let left_out = *argument == Edn::Nil
        || *told == Edn::Nil
        || (kind != Kind::Ok && matches!(told, Edn::Word(_) | Edn::Text(_)));
    writes.contains(&function) && !left_out && told != argument
}
