//! `store repl`: one line, one request. It says what happens to a request while it is under way.

use std::{
    io::{self, BufRead, IsTerminal, Write},
    process::ExitCode,
};

use store::{
    api::{KeyType, Operation},
    client::Cluster,
    overview::Overview,
};

use tokio::sync::mpsc;

use crate::request::{Destination, failure, key_of, nobody, once_each, outcome, runtime, way};

const HELP: &str = "\
get KEY                 read a key
put KEY VALUE           write a key
cas KEY EXPECTED NEW    write a key if it holds what is expected; EXPECTED is `absent` for a key that is not there
delete KEY              remove a key
status                  partitions, leaders, leases, and how far each replica is
help                    this
quit                    leave; so does the end of input
Keys and values with spaces in them stand in double quotes, in which \\\" is a quote and \\\\ a backslash.";

/// Serves lines of standard input until they end or one says `quit`.
pub fn run(to: &Destination, exactly_once: bool) -> anyhow::Result<ExitCode> {
    // connections live on while nobody types, so that a node that goes is noticed before it is asked again
    let served = runtime()?.block_on(serve(to, exactly_once));
    served.or_else(|error| match error.downcast_ref::<io::Error>().map(io::Error::kind) {
        // who does not read on has heard enough
        Some(io::ErrorKind::BrokenPipe) => Ok(ExitCode::SUCCESS),
        _ => Err(error),
    })
}

async fn serve(to: &Destination, exactly_once: bool) -> anyhow::Result<ExitCode> {
    let session = Session { to, terminal: io::stdin().is_terminal() };
    let mut cluster = match Cluster::join(&to.cluster, &to.address, to.limit(), once_each(tell)).await {
        Ok(cluster) if exactly_once => cluster.exactly_once(),
        Ok(cluster) => cluster,
        Err(error) => {
            writeln!(io::stdout(), "{}", nobody(&error))?;
            return Ok(ExitCode::from(4));
        }
    };
    session.greet(&cluster)?;
    session.prompt()?;
    let mut lines = lines();
    while let Some(line) = lines.recv().await {
        let line = match line {
            Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                writeln!(io::stdout(), "a line that is no text in UTF-8: nothing was asked")?;
                session.prompt()?;
                continue;
            }
            line => line?,
        };
        session.echo(&line)?;
        match Line::read(&line, cluster.directory().key_type) {
            Ok(Line::Nothing) => {}
            Ok(Line::Quit) => return Ok(ExitCode::SUCCESS),
            Ok(Line::Help) => writeln!(io::stdout(), "{HELP}")?,
            Ok(Line::Status) => session.status().await?,
            Ok(Line::Ask(operation)) => session.ask(&mut cluster, &operation).await?,
            Err(reason) => writeln!(io::stdout(), "{reason}")?,
        }
        session.prompt()?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Lines of standard input, which a thread of its own waits for.
fn lines() -> mpsc::UnboundedReceiver<io::Result<String>> {
    let (give, take) = mpsc::unbounded_channel();
    std::thread::spawn(move || {
        for line in io::stdin().lock().lines() {
            if give.send(line).is_err() {
                return;
            }
        }
    });
    take
}

struct Session<'a> {
    to: &'a Destination,
    terminal: bool,
}

impl Session<'_> {
    fn greet(&self, cluster: &Cluster) -> io::Result<()> {
        let directory = cluster.directory();
        let (nodes, partitions) = (directory.peers.len() + 1, directory.partitions.len());
        let entry = directory.entry;
        writeln!(
            io::stdout(),
            "cluster '{}': {nodes} nodes, {partitions} partitions; asking node {entry} first; `help` lists the commands",
            self.to.cluster
        )
    }

    fn prompt(&self) -> io::Result<()> {
        let mut out = io::stdout();
        if self.terminal { write!(out, "> ").and_then(|()| out.flush()) } else { Ok(()) }
    }

    /// Where nobody types, the output shows what was asked.
    fn echo(&self, line: &str) -> io::Result<()> {
        if self.terminal { Ok(()) } else { writeln!(io::stdout(), "> {line}") }
    }

    async fn ask(&self, cluster: &mut Cluster, operation: &Operation) -> io::Result<()> {
        let done = cluster.call(operation, self.to.limit(), once_each(tell)).await;
        match done.result {
            Ok(answer) => writeln!(io::stdout(), "{}\n  {}", outcome(&answer.outcome), way(&answer)),
            Err(error) => writeln!(io::stdout(), "{}", failure(&error)),
        }
    }

    async fn status(&self) -> io::Result<()> {
        match Overview::of(&self.to.cluster, &self.to.address, self.to.limit()).await {
            Ok(overview) => write!(io::stdout(), "{overview}"),
            Err(error) => writeln!(io::stdout(), "{}", nobody(&error)),
        }
    }
}

fn tell(words: &str) {
    // whoever does not read it does not want it
    let _ = writeln!(io::stdout(), "  {words}");
}

/// What a line asks for.
#[derive(Debug, PartialEq)]
enum Line {
    Nothing,
    Help,
    Status,
    Quit,
    Ask(Operation),
}

/// A word of a line: in quotes it is never a keyword.
#[derive(Debug, PartialEq)]
struct Word {
    text: String,
    quoted: bool,
}

impl Line {
    fn read(line: &str, key_type: KeyType) -> Result<Self, String> {
        let words = words(line)?;
        let Some((command, arguments)) = words.split_first() else { return Ok(Self::Nothing) };
        let usage = |usage: &str| format!("write `{usage}`; `help` says more");
        let key = |word: &Word| key_of(key_type, &word.text).map_err(|error| error.to_string());
        match (command.text.as_str(), arguments) {
            ("help", []) => Ok(Self::Help),
            ("status", []) => Ok(Self::Status),
            ("quit" | "exit", []) => Ok(Self::Quit),
            ("get", [at]) => Ok(Self::Ask(Operation::Get { key: key(at)? })),
            ("delete", [at]) => Ok(Self::Ask(Operation::Delete { key: key(at)? })),
            ("put", [at, value]) => {
                Ok(Self::Ask(Operation::Put { key: key(at)?, value: value.text.as_str().into() }))
            }
            ("cas", [at, expected, new]) => {
                let absent = expected.text == "absent" && !expected.quoted;
                let expected = (!absent).then(|| expected.text.as_str().into());
                Ok(Self::Ask(Operation::Cas { key: key(at)?, expected, new: new.text.as_str().into() }))
            }
            ("get", _) => Err(usage("get KEY")),
            ("delete", _) => Err(usage("delete KEY")),
            ("put", _) => Err(usage("put KEY VALUE")),
            ("cas", _) => Err(usage("cas KEY EXPECTED NEW")),
            (other, _) => Err(format!("'{other}' is no command; `help` lists them")),
        }
    }
}

fn words(line: &str) -> Result<Vec<Word>, String> {
    let mut words = Vec::new();
    let mut rest = line.chars().peekable();
    while let Some(first) = rest.next() {
        if first.is_whitespace() {
            continue;
        }
        let quoted = first == '"';
        let mut text = String::new();
        if !quoted {
            text.push(first);
            while let Some(next) = rest.next_if(|next| !next.is_whitespace()) {
                text.push(next);
            }
            words.push(Word { text, quoted });
            continue;
        }
        loop {
            match rest.next() {
                Some('"') => break,
                Some('\\') => text.extend(rest.next()),
                Some(other) => text.push(other),
                None => return Err("a quote is not closed".to_owned()),
            }
        }
        words.push(Word { text, quoted });
    }
    Ok(words)
}

#[cfg(test)]
mod tests {
    use store::api::Key;

    use super::*;

    fn read(line: &str) -> Result<Line, String> {
        Line::read(line, KeyType::Integer)
    }

    #[test]
    fn lines_are_read_with_quotes_and_without() {
        let cas = |expected: Option<&str>| Operation::Cas {
            key: Key::Integer(1),
            expected: expected.map(Into::into),
            new: "a \"b\"".into(),
        };
        assert_eq!(read("  cas 1 absent \"a \\\"b\\\"\" "), Ok(Line::Ask(cas(None))));
        assert_eq!(read("cas 1 \"absent\" \"a \\\"b\\\"\""), Ok(Line::Ask(cas(Some("absent")))));
        assert_eq!(read("   "), Ok(Line::Nothing));
        let text = Line::read("get \"two words\"", KeyType::String);
        assert_eq!(text, Ok(Line::Ask(Operation::Get { key: Key::String("two words".to_owned()) })));
    }

    #[test]
    fn what_cannot_be_read_is_refused_with_what_to_write() {
        let refused = |line| read(line).expect_err("it is no request");
        assert_eq!(refused("get"), "write `get KEY`; `help` says more");
        assert_eq!(refused("put 1"), "write `put KEY VALUE`; `help` says more");
        assert_eq!(refused("put 1 two words"), "write `put KEY VALUE`; `help` says more");
        assert_eq!(refused("frobnicate 1"), "'frobnicate' is no command; `help` lists them");
        assert_eq!(refused("put 1 \"a"), "a quote is not closed");
        assert_eq!(refused("get seven"), "'seven' is no key: the keys of this cluster are integers");
    }
}
