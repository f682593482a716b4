//! `harness inspect`: a run in a terminal. What the clients asked, what was broken, who led, and what the nodes logged, in
//! one order of time.

mod events;
mod filter;
mod logs;
mod show;

use std::{path::PathBuf, process::ExitCode};

use anyhow::{Context, Result, ensure};
use clap::Args;

use crate::{
    cli::time,
    messages::Message,
    recorded::{Operation, Outcome, Recorded, What},
    workload::Time,
};
use events::Happened;
use filter::Filter;

/// Which run, and what of it.
#[derive(Debug, Args)]
pub struct InspectArguments {
    /// The folder of a run, such as results/latest.
    #[arg(value_name = "RUN_DIR")]
    folder: PathBuf,
    /// What surrounds an operation: the line of the history where it was invoked or ended.
    #[arg(long, value_name = "LINE")]
    around: Option<u32>,
    /// Operations on this key.
    #[arg(long)]
    key: Option<String>,
    /// Operations of this process.
    #[arg(long)]
    process: Option<u64>,
    /// Operations of this client, whatever its process.
    #[arg(long)]
    client: Option<u64>,
    /// Operations that asked this node first or last.
    #[arg(long)]
    node: Option<u64>,
    /// Operations of these kinds.
    #[arg(long, value_enum, value_delimiter = ',')]
    function: Vec<What>,
    /// Operations that ended so; `open`: the history ends before.
    #[arg(long, value_enum, value_delimiter = ',')]
    outcome: Vec<Outcome>,
    /// Operations that took at least this long.
    #[arg(long, value_name = "TIME", value_parser = time)]
    slower: Option<Time>,
    /// What happened from then on, such as 3.5s of the run.
    #[arg(long, value_name = "TIME", value_parser = time)]
    from: Option<Time>,
    /// What happened until then.
    #[arg(long, value_name = "TIME", value_parser = time)]
    to: Option<Time>,
    /// What the nodes logged, too (with `--around` they always speak).
    #[arg(long)]
    logs: bool,
    /// The messages between nodes, too, where the run has recorded them.
    #[arg(long)]
    messages: bool,
    /// Most events; 0: all.
    #[arg(long, default_value_t = 200)]
    limit: usize,
    /// Each event as a line of JSON.
    #[arg(long)]
    json: bool,
}

/// Shows what is asked for.
pub fn main(arguments: &InspectArguments) -> ExitCode {
    match look(arguments) {
        Ok(shown) => {
            shown.lines.iter().for_each(|line| say!("{line}"));
            shown.lacking.iter().for_each(|lacking| eprintln!("warning: {lacking}"));
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("error: {}: {error:#}", arguments.folder.display());
            ExitCode::from(2)
        }
    }
}

/// What is asked for.
struct Shown {
    lines: Vec<String>,
    /// What could not be read.
    lacking: Vec<String>,
}

fn look(arguments: &InspectArguments) -> Result<Shown> {
    let mut run = Recorded::read(&arguments.folder)?;
    let mut lacking = std::mem::take(&mut run.lacking);
    let centre = arguments.around.map(|line| centre(&run, line)).transpose()?;
    let filter = Filter::of(arguments, &run, centre)?;
    let logs = if arguments.logs || centre.is_some() { logs::read(&run)? } else { logs::Logs::default() };
    lacking.extend(logs.lacking);
    let messages = if arguments.messages { messages(&run, &filter, &mut lacking)? } else { Vec::new() };
    let (events, beside) = events::choose(&run, &filter, logs.lines, messages);
    let most = if arguments.limit == 0 { events.len() } else { arguments.limit.min(events.len()) };
    let first = events[..most].iter();
    let lines = if arguments.json {
        first.map(|event| show::json(&run, event)).collect::<Result<_>>()?
    } else {
        let mut lines: Vec<String> = first.map(|event| show::line(&run, event, centre)).collect();
        let of_clients = events.iter().filter(|event| matches!(event.what, Happened::Operation(_)));
        lines.extend(show::end(&run, arguments, of_clients.count(), events.len() - most, beside));
        lines
    };
    Ok(Shown { lines, lacking })
}

/// The messages that were under way in the time that is asked for.
fn messages(run: &Recorded, filter: &Filter<'_>, lacking: &mut Vec<String>) -> Result<Vec<Message>> {
    let mut chosen = Vec::new();
    match &run.messages {
        Some(messages) => {
            let (from, to) = filter.span();
            messages.between(from, to, |message| chosen.push(message))?;
            lacking.extend(
                messages.missing().map(|missing| format!("messages that are not recorded: {missing}")),
            );
        }
        None => lacking.push("the run has recorded no messages between nodes".to_owned()),
    }
    Ok(chosen)
}

/// The operation that was invoked or ended on a line of the history.
fn centre(run: &Recorded, line: u32) -> Result<&Operation> {
    let of = run.operations.iter().find(|operation| [operation.line, operation.end_line].contains(&line));
    ensure!(line > 0, "lines are counted from 1");
    of.with_context(|| format!("no operation was invoked or ended on line {line} of the history"))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        arguments: InspectArguments,
    }

    const HISTORY: &str = r#"{"record":"header","workload":"w","seed":7,"origin":1000000000,"initial":[]}
{"record":"nemesis","time":1000000,"requested":900000,"fault":1,"begins":true,"action":"pause","target":"leader(1)","nodes":[2]}
{"record":"op","time":2000000,"process":1,"client":1,"node":1,"type":"invoke","f":"put","key":1,"value":"a\u001b[2J"}
{"record":"op","time":3000000,"process":2,"client":2,"node":1,"type":"invoke","f":"get","key":2}
{"record":"op","time":4000000,"process":1,"client":1,"node":3,"type":"ok","f":"put","key":1,"value":"a\u001b[2J","returned":null,"version":1,"index":1,"leader":3,"ballot":"0.2.0@n3","fast":false}
{"record":"nemesis","time":5000000,"requested":5000000,"fault":1,"begins":false,"action":"pause","target":"leader(1)","nodes":[2]}
{"record":"op","time":900000000,"process":2,"client":2,"node":1,"type":"info","f":"get","key":2,"error":"timeout"}
{"record":"op","time":950000000,"process":3,"client":2,"node":1,"type":"invoke","f":"get","key":1}
"#;

    const TRACE: &str = r#"{"node":3,"boot":1,"common":1002500000,"local":1002500000,"kind":"leading","partition":1,"ballot":{"config":0,"number":2,"priority":0,"node":3}}
"#;

    const LOG: &str = r#"{"timestamp":"1.003500000","level":"WARN","fields":{"message":"connection lost","peer":2},"target":"store"}
thread 'main' panicked
{"timestamp":"1.500000000","level":"INFO","fields":{"message":"connected"},"target":"store"}
"#;

    fn folder() -> tempfile::TempDir {
        let folder = tempfile::tempdir().expect("a folder");
        for (name, text) in
            [("trace/node-3.jsonl", TRACE), ("logs/node-3.log", LOG), ("history.jsonl", HISTORY)]
        {
            let path = folder.path().join(name);
            fs::create_dir_all(path.parent().expect("a parent")).expect("made");
            fs::write(path, text).expect("written");
        }
        folder
    }

    fn shown(options: &[&str]) -> Result<Vec<String>> {
        let folder = folder();
        let path = folder.path().to_str().expect("text");
        let cli = Cli::try_parse_from([&["inspect", path][..], options].concat())?;
        look(&cli.arguments).map(|shown| shown.lines)
    }

    #[test]
    fn what_surrounds_an_operation_is_in_the_order_of_one_clock() {
        let expected = [
            "!      0.001000 s  fault 1       pause leader(1): n2",
            ">      0.002000 s  process 1     #3 n1..n3 put 1 = \"a\\u{1b}[2J\"  ok by n3 (0.2.0@n3 at log 1) after 2.00 ms",
            "*      0.002500 s  n3            leads partition 1, ballot 0.2.0@n3",
            "       0.003500 s  n3 log        WARN connection lost peer=2 (store)",
            "       0.003500 s  n3 log        thread 'main' panicked",
            "!      0.005000 s  fault 1       end of pause leader(1): n2",
            "operations on other keys that are left out: 1",
            "1 of 3 operations (1 ok, 0 fail, 1 info, 1 open), w seed 7",
            "no verdict: the run was interrupted, or it failed",
        ];
        for line in ["3", "5"] {
            assert_eq!(shown(&["--around", line]).expect("shown"), expected);
        }
        assert!(shown(&["--around", "2"]).expect_err("refused").to_string().contains("line 2"));
    }

    #[test]
    fn operations_are_found_by_what_is_said_of_them() {
        let lines = |options: &[&str]| -> Vec<String> {
            let lines = shown(options).expect("shown");
            let of_clients = lines.iter().filter(|line| line.contains(" process "));
            of_clients.map(|line| line.split('#').nth(1).expect("a line")[..1].to_owned()).collect()
        };
        assert_eq!(lines(&["--key", "1"]), ["3", "8"]);
        assert_eq!(lines(&["--client", "2"]), ["4", "8"]);
        assert_eq!(lines(&["--process", "2"]), ["4"]);
        assert_eq!(lines(&["--node", "3"]), ["3"]);
        assert_eq!(lines(&["--outcome", "info,open"]), ["4", "8"]);
        assert_eq!(lines(&["--function", "put"]), ["3"]);
        // one that is not over may take any time
        assert_eq!(lines(&["--slower", "100ms"]), ["4", "8"]);
        assert_eq!(lines(&["--from", "10ms", "--to", "20ms"]), ["4"]);
        assert_eq!(lines(&[]), [""; 0]);
        assert!(shown(&["--key", "3"]).expect_err("refused").to_string().contains("`3`"));
        assert!(shown(&["--from", "2s", "--to", "1s"]).is_err());
    }

    #[test]
    fn each_event_may_be_a_line_of_json() {
        let lines = shown(&["--client", "2", "--logs", "--json"]).expect("shown");
        let events: Vec<serde_json::Value> =
            lines.iter().map(|line| serde_json::from_str(line).expect("JSON")).collect();
        let kinds: Vec<&str> = events.iter().map(|event| event["event"].as_str().expect("a word")).collect();
        assert_eq!(kinds, ["fault", "leads", "operation", "log", "log", "fault", "log", "operation"]);
        assert_eq!(
            (events[2]["at"].as_u64(), events[2]["outcome"].as_str()),
            (Some(3_000_000), Some("info"))
        );
    }
}
