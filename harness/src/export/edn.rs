//! Histories in EDN, as Jepsen writes them.
//!
//! What means something else there is told around:
//!
//! - an `:ok` read of `nil` says nothing there, so an absent key is read, written and expected as `:absent`;
//! - registers begin unknown or with 0, so the first operations write what each key holds at first;
//! - a swap that did not match is a `:fail`, and the value that it saw is lost; in Elle's form it is a read of that value.
//!
//! Elle's registers begin with `nil`, and each value is written once: there absent is `nil` and cannot be written, so a
//! history with deletes, or with a value that is written twice, is refused.

use std::{
    collections::{BTreeSet, HashSet},
    io::Write,
    path::Path,
};

use anyhow::{Context, Result, bail, ensure};
use checker::{
    formats::Edn,
    history::{Function, Header, Key, Kind, Nemesis, Op, Record},
};

use crate::recorded::{HISTORY, records};

/// Who reads it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Dialect {
    Jepsen,
    Elle,
}

/// Writes the history of a run's folder, of one key or of all.
pub(super) fn write(folder: &Path, dialect: Dialect, key: Option<&str>, out: &mut impl Write) -> Result<()> {
    let path = folder.join(HISTORY);
    let survey = Survey::of(&path, dialect, key)?;
    let mut events = Events { dialect, bare: key.is_some(), next: 0, out };
    events.initial(&survey)?;
    records(&path, |_, record| match record {
        Record::Op(op) if is(op.function.key(), key) => events.operation(&op),
        Record::Nemesis(fault) if dialect == Dialect::Jepsen => events.fault(&fault),
        _ => Ok(()),
    })?;
    Ok(())
}

fn is(key: &Key, only: Option<&str>) -> bool {
    only.is_none_or(|only| key.to_string() == only)
}

/// What is to be known before the first event is written.
struct Survey {
    header: Header,
    keys: BTreeSet<Key>,
    /// The number of a process that the run does not have.
    process: i64,
}

impl Survey {
    fn of(path: &Path, dialect: Dialect, only: Option<&str>) -> Result<Self> {
        let (mut header, mut keys, mut last, mut written) = (None, BTreeSet::new(), 0, HashSet::new());
        records(path, |line, record| {
            match record {
                Record::Header(of_run) => header = Some(of_run),
                Record::Op(op) if op.kind == Kind::Invoke && is(op.function.key(), only) => {
                    last = last.max(op.process);
                    if dialect == Dialect::Elle {
                        fits_elle(line, &op, &mut written)?;
                    }
                    keys.insert(op.function.key().clone());
                }
                _ => {}
            }
            Ok(())
        })?;
        let header: Header = header.context("the history has no header: is this the folder of a run?")?;
        if let Some(only) = only {
            ensure!(!keys.is_empty(), "no operation is about the key `{only}`");
        }
        for (key, value) in header.initial.iter().filter(|_| dialect == Dialect::Elle) {
            let again = written.contains(&(key.clone(), value.clone()));
            ensure!(
                !again,
                "a client writes to key {key} what it holds at first: Elle needs each value written once"
            );
        }
        Ok(Self { header, keys, process: last as i64 + 1 })
    }
}

fn fits_elle(line: u32, op: &Op, written: &mut HashSet<(Key, String)>) -> Result<()> {
    let value = match &op.function {
        Function::Get { .. } => return Ok(()),
        Function::Put { value, .. } | Function::Cas { new: value, .. } => value,
        Function::Delete { .. } => bail!("line {line} is a delete, which Elle's registers do not have"),
    };
    let key = op.function.key();
    let first = written.insert((key.clone(), value.clone()));
    ensure!(first, "line {line} writes {value:?} to key {key} again: Elle needs each value written once");
    Ok(())
}

struct Events<'a, W> {
    dialect: Dialect,
    /// All is about one key, which is left out.
    bare: bool,
    /// Index of the next event.
    next: u64,
    out: &'a mut W,
}

impl<W: Write> Events<'_, W> {
    /// What the keys hold at first, as writes that end before anything else begins.
    fn initial(&mut self, survey: &Survey) -> Result<()> {
        for key in &survey.keys {
            let initial = survey.header.initial.iter().find(|(of, _)| of == key).map(|(_, value)| value);
            if self.dialect == Dialect::Elle && initial.is_none() {
                continue;
            }
            let value = match self.dialect {
                Dialect::Jepsen => self.keyed(key, value(initial)),
                Dialect::Elle => vector([access("w", key, text(initial))]),
            };
            let function = if self.dialect == Dialect::Elle { "txn" } else { "write" };
            for kind in [Kind::Invoke, Kind::Ok] {
                self.event(0, Edn::Integer(survey.process), kind, function, value.clone(), None)?;
            }
        }
        Ok(())
    }

    fn operation(&mut self, op: &Op) -> Result<()> {
        let (kind, function, value) = match self.dialect {
            Dialect::Jepsen => self.of_jepsen(op),
            Dialect::Elle => (op.kind, "txn", transaction(op)),
        };
        let process = Edn::Integer(op.process as i64);
        self.event(op.time, process, kind, function, value, op.error.as_deref())
    }

    fn of_jepsen(&self, op: &Op) -> (Kind, &'static str, Edn) {
        let returned = op.result.as_ref().map(|result| value(result.returned.as_ref()));
        let (function, about) = match &op.function {
            Function::Get { .. } => ("read", returned.unwrap_or(Edn::Nil)),
            Function::Put { value: new, .. } => ("write", value(Some(new))),
            Function::Cas { expected, new, .. } => {
                ("cas", vector([value(expected.as_ref()), value(Some(new))]))
            }
            Function::Delete { .. } => ("write", value(None)),
        };
        let matched = op.result.as_ref().is_none_or(|result| result.swapped != Some(false));
        let kind = if matched { op.kind } else { Kind::Fail };
        (kind, function, self.keyed(op.function.key(), about))
    }

    fn keyed(&self, key: &Key, about: Edn) -> Edn {
        if self.bare { about } else { vector([name(key), about]) }
    }

    fn fault(&mut self, fault: &Nemesis) -> Result<()> {
        let function = format!("{}-{}", if fault.begins { "start" } else { "stop" }, fault.action);
        let nodes = fault.nodes.iter().map(|node| Edn::Integer(*node as i64)).collect();
        let about = Edn::Map(vec![
            (keyword("fault"), Edn::Integer(fault.fault as i64)),
            (keyword("target"), text(Some(&fault.target))),
            (keyword("nodes"), Edn::Sequence(nodes)),
        ]);
        self.event(fault.time, keyword("nemesis"), Kind::Info, &function, about, None)
    }

    fn event(
        &mut self,
        time: u64,
        process: Edn,
        kind: Kind,
        function: &str,
        value: Edn,
        error: Option<&str>,
    ) -> Result<()> {
        let mut event = vec![
            (keyword("index"), Edn::Integer(self.next as i64)),
            (keyword("time"), Edn::Integer(time as i64)),
            (keyword("process"), process),
            (keyword("type"), keyword(kind.word())),
            (keyword("f"), keyword(function)),
            (keyword("value"), value),
        ];
        event.extend(error.map(|error| (keyword("error"), Edn::Text(error.into()))));
        self.next += 1;
        Ok(writeln!(self.out, "{}", Edn::Map(event))?)
    }
}

/// An operation as a transaction on a register.
fn transaction(op: &Op) -> Edn {
    let key = op.function.key();
    let returned = op.result.as_ref().and_then(|result| result.returned.as_ref());
    let swapped = op.result.as_ref().and_then(|result| result.swapped);
    match &op.function {
        Function::Get { .. } => vector([access("r", key, text(returned))]),
        Function::Put { value, .. } => vector([access("w", key, text(Some(value)))]),
        Function::Cas { .. } if swapped == Some(false) => vector([access("r", key, text(returned))]),
        Function::Cas { expected, new, .. } => {
            let seen = if op.kind == Kind::Ok { text(expected.as_ref()) } else { Edn::Nil };
            vector([access("r", key, seen), access("w", key, text(Some(new)))])
        }
        Function::Delete { .. } => unreachable!("deletes are refused before the first event is written"),
    }
}

fn access(word: &str, key: &Key, about: Edn) -> Edn {
    vector([keyword(word), name(key), about])
}

fn name(key: &Key) -> Edn {
    match key {
        Key::Integer(number) => Edn::Integer(*number),
        Key::String(text) => Edn::Text(text.as_str().into()),
    }
}

/// What a key holds, absence as a value.
fn value(text: Option<&String>) -> Edn {
    text.map_or_else(|| keyword("absent"), |text| Edn::Text(text.as_str().into()))
}

fn text(text: Option<&String>) -> Edn {
    text.map_or(Edn::Nil, |text| Edn::Text(text.as_str().into()))
}

fn keyword(word: &str) -> Edn {
    Edn::Word(format!(":{word}").into())
}

fn vector<const N: usize>(elements: [Edn; N]) -> Edn {
    Edn::Sequence(elements.into())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use checker::{
        formats::{self, Format},
        judge::{Object, Question, judge},
        linearizability::{Budget, Verdict},
    };

    use super::*;

    const HEADER: &str = r#"{"record":"header","workload":"w","seed":7,"origin":0,"initial":[[1,"a"]]}"#;
    const FAULT: &str = r#"{"record":"nemesis","time":3,"requested":2,"fault":1,"begins":true,"action":"kill","target":"leader(1)","nodes":[2]}"#;

    /// A line of a history: an invocation, or what ends it.
    fn op(time: u64, process: u64, kind: &str, rest: &str) -> String {
        format!(
            r#"{{"record":"op","time":{time},"process":{process},"client":{process},"node":1,"type":"{kind}",{rest}}}"#
        )
    }

    fn ok(time: u64, process: u64, rest: &str) -> String {
        let answer = r#""version":1,"leader":1,"ballot":"0.1.0@n1","fast":false"#;
        op(time, process, "ok", &format!("{rest},{answer}"))
    }

    const GET: &str = r#""f":"get","key":1"#;
    const PUT: &str = r#""f":"put","key":1,"value":"say \"b\"""#;
    const CAS: &str = r#""f":"cas","key":1,"expected":"a","new":"c""#;
    const DELETE: &str = r#""f":"delete","key":1"#;
    const OTHER: &str = r#""f":"get","key":"x y""#;

    /// Reads `a`; writes `say "b"`; a swap from `a` that does not match; a write that nobody knows of; another key.
    fn history(read: &str) -> Vec<String> {
        vec![
            op(1, 1, "invoke", GET),
            ok(2, 1, &format!(r#"{GET},"returned":{read}"#)),
            op(3, 1, "invoke", PUT),
            ok(4, 1, &format!(r#"{PUT},"returned":null"#)),
            FAULT.to_owned(),
            op(5, 2, "invoke", CAS),
            ok(6, 2, &format!(r#"{CAS},"returned":"say \"b\"","swapped":false"#)),
            op(7, 2, "invoke", r#""f":"put","key":1,"value":"d""#),
            op(8, 2, "info", r#""f":"put","key":1,"value":"d","error":"timeout""#),
            op(9, 3, "invoke", OTHER),
            ok(10, 3, &format!(r#"{OTHER},"returned":null"#)),
        ]
    }

    fn written(lines: &[String], dialect: Dialect, key: Option<&str>) -> Result<String> {
        let folder = tempfile::tempdir().expect("a folder");
        fs::write(folder.path().join(HISTORY), format!("{HEADER}\n{}\n", lines.join("\n"))).expect("written");
        let mut out = Vec::new();
        write(folder.path(), dialect, key, &mut out)?;
        Ok(String::from_utf8(out).expect("text"))
    }

    /// Whether it is linearizable.
    fn valid(text: &str, object: Object) -> bool {
        let calls = formats::read(text.as_bytes(), Format::Edn).expect("a history in EDN");
        let question = Question {
            object,
            format: Format::Edn,
            initial: None,
            whole: false,
            verify: true,
            budget: Budget::default(),
        };
        match judge(&calls, &question).expect("of this model").verdict() {
            Verdict::Valid => true,
            Verdict::Violation(_) => false,
            Verdict::Unknown(why) => panic!("{why:?}"),
        }
    }

    #[test]
    fn jepsen_reads_registers_by_key_and_absence_as_a_value() {
        let text = written(&history(r#""a""#), Dialect::Jepsen, None).expect("written");
        let expected = r#"{:index 0, :time 0, :process 4, :type :invoke, :f :write, :value [1 "a"]}
{:index 1, :time 0, :process 4, :type :ok, :f :write, :value [1 "a"]}
{:index 2, :time 0, :process 4, :type :invoke, :f :write, :value ["x y" :absent]}
{:index 3, :time 0, :process 4, :type :ok, :f :write, :value ["x y" :absent]}
{:index 4, :time 1, :process 1, :type :invoke, :f :read, :value [1 nil]}
{:index 5, :time 2, :process 1, :type :ok, :f :read, :value [1 "a"]}
{:index 6, :time 3, :process 1, :type :invoke, :f :write, :value [1 "say \"b\""]}
{:index 7, :time 4, :process 1, :type :ok, :f :write, :value [1 "say \"b\""]}
{:index 8, :time 3, :process :nemesis, :type :info, :f :start-kill, :value {:fault 1, :target "leader(1)", :nodes [2]}}
{:index 9, :time 5, :process 2, :type :invoke, :f :cas, :value [1 ["a" "c"]]}
{:index 10, :time 6, :process 2, :type :fail, :f :cas, :value [1 ["a" "c"]]}
{:index 11, :time 7, :process 2, :type :invoke, :f :write, :value [1 "d"]}
{:index 12, :time 8, :process 2, :type :info, :f :write, :value [1 "d"], :error "timeout"}
{:index 13, :time 9, :process 3, :type :invoke, :f :read, :value ["x y" nil]}
{:index 14, :time 10, :process 3, :type :ok, :f :read, :value ["x y" :absent]}
"#;
        assert_eq!(text, expected);
    }

    #[test]
    fn one_key_is_one_register() {
        let text = written(&history(r#""a""#), Dialect::Jepsen, Some("1")).expect("written");
        assert!(text.contains(r#":f :cas, :value ["a" "c"]}"#) && !text.contains("x y"), "{text}");
        assert!(
            written(&history(r#""a""#), Dialect::Jepsen, Some("2"))
                .expect_err("refused")
                .to_string()
                .contains("`2`")
        );
    }

    #[test]
    fn what_is_written_has_the_verdict_of_the_history() {
        for (read, expected) in [(r#""a""#, true), ("null", false)] {
            for key in [None, Some("1")] {
                let text = written(&history(read), Dialect::Jepsen, key).expect("written");
                assert_eq!(valid(&text, Object::CasRegister), expected, "{text}");
            }
        }
        // a delete is seen, and so is a read that misses it
        for (read, expected) in [("null", true), (r#""a""#, false)] {
            let mut lines =
                vec![op(1, 1, "invoke", DELETE), ok(2, 1, &format!(r#"{DELETE},"returned":null"#))];
            lines.push(op(3, 1, "invoke", GET));
            lines.push(ok(4, 1, &format!(r#"{GET},"returned":{read}"#)));
            let text = written(&lines, Dialect::Jepsen, None).expect("written");
            assert_eq!(valid(&text, Object::CasRegister), expected, "{text}");
        }
    }

    #[test]
    fn elle_gets_transactions_whose_writes_are_unique() {
        let text = written(&history(r#""a""#), Dialect::Elle, None).expect("written");
        assert!(
            text.starts_with(
                r#"{:index 0, :time 0, :process 4, :type :invoke, :f :txn, :value [[:w 1 "a"]]}"#
            )
        );
        assert!(text.contains(r#":type :invoke, :f :txn, :value [[:r 1 nil] [:w 1 "c"]]}"#), "{text}");
        assert!(text.contains(r#":type :ok, :f :txn, :value [[:r 1 "say \"b\""]]}"#), "{text}");
        assert!(text.contains(r#":value [[:r "x y" nil]]}"#) && !text.contains("nemesis"), "{text}");

        let delete = [op(1, 1, "invoke", DELETE)];
        assert!(
            written(&delete, Dialect::Elle, None)
                .expect_err("refused")
                .to_string()
                .starts_with("line 2 is a delete")
        );
        let twice = [op(1, 1, "invoke", PUT), op(2, 2, "invoke", PUT)];
        let error = written(&twice, Dialect::Elle, None).expect_err("refused").to_string();
        assert!(error.starts_with("line 3 writes"), "{error}");
    }
}
