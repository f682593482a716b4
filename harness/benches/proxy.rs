//! What the proxy costs: round trips and throughput through it, beside a plain echo without it and beside two proxies that do
//! nothing but read and write, measured in turn, and how long a switch of the network takes under load. The echo is a process of its own,
//! the proxies and the load are threads. What the bare proxies lose is lost to the machine: three parties share its processors.
//!
//!     scripts/bench proxy [--json] [--rounds N] [--seconds S]

use std::{
    collections::BTreeMap,
    io::{self, BufRead, BufReader, Read, Write},
    net::SocketAddr,
    process::{Child, Command, Stdio},
};

use anyhow::{Context, Result};
use clap::Parser;
use harness::{
    clock::boottime_ns,
    proxy::{Conditions, Link, Network, Protocol, Rule},
};
use serde::Serialize;
use store::{
    api::Ballot,
    core::{
        Message,
        message::{GroupMessage, Suffix},
    },
    load::median,
    node::wire,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinSet,
};

/// A frame with a value of 128 bytes.
const FRAME: usize = 4 + 128;

/// Connections and messages in flight on each.
const LOADS: [(usize, usize); 3] = [(1, 1), (4, 16), (16, 16)];

/// Switches of the network that are timed in each round.
const SWITCHES: usize = 200;

#[derive(Debug, Parser)]
struct Arguments {
    /// One line of JSON instead of the table.
    #[arg(long)]
    json: bool,
    /// How often everything is measured; medians are shown.
    #[arg(long, default_value_t = 7)]
    rounds: usize,
    /// How long one measurement takes.
    #[arg(long, default_value_t = 0.5)]
    seconds: f64,
    /// Be the echo.
    #[arg(long, hide = true)]
    echo: bool,
    /// Cargo says so.
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    if arguments.echo {
        return runtime.block_on(echo());
    }
    let mut echo = Echo::start()?;
    let report = runtime.block_on(measure_all(&arguments, echo.address))?;
    echo.process.kill()?;
    echo.process.wait()?;
    if arguments.json {
        println!("{}", serde_json::to_string(&report)?);
    } else {
        report.print();
    }
    Ok(())
}

/// The echo's process.
struct Echo {
    process: Child,
    address: SocketAddr,
}

impl Echo {
    fn start() -> Result<Self> {
        let mut command = Command::new(std::env::current_exe()?);
        let mut process = command.arg("--echo").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let output = process.stdout.take().context("the echo has no output")?;
        let mut line = String::new();
        BufReader::new(output).read_line(&mut line)?;
        Ok(Self { process, address: line.trim().parse()? })
    }
}

/// Sends back what it gets until its standard input closes.
async fn echo() -> Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    println!("{}", listener.local_addr()?);
    let mut connections = JoinSet::new();
    let mut input = tokio::io::stdin();
    let mut nothing = [0];
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let (mut stream, _) = accepted?;
                stream.set_nodelay(true)?;
                connections.spawn(async move {
                    let mut buffer = vec![0; 64 << 10];
                    while let Ok(read) = stream.read(&mut buffer).await {
                        if read == 0 || stream.write_all(&buffer[..read]).await.is_err() {
                            break;
                        }
                    }
                });
            }
            _ = input.read(&mut nothing) => return Ok(()),
            Some(_) = connections.join_next() => {}
        }
    }
}

/// A proxy that only reads and writes: two threads for each connection, which block.
fn copy_with_threads(echo: SocketAddr) -> Result<SocketAddr> {
    let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    let copy = |mut from: std::net::TcpStream, mut to: std::net::TcpStream| {
        std::thread::spawn(move || {
            let mut buffer = vec![0; 64 << 10];
            while let Ok(read @ 1..) = from.read(&mut buffer) {
                if to.write_all(&buffer[..read]).is_err() {
                    break;
                }
            }
            // the other thread still holds the socket
            let _ = to.shutdown(std::net::Shutdown::Both);
        })
    };
    std::thread::spawn(move || -> io::Result<()> {
        for near in listener.incoming() {
            let (near, far) = (near?, std::net::TcpStream::connect(echo)?);
            near.set_nodelay(true)?;
            far.set_nodelay(true)?;
            copy(near.try_clone()?, far.try_clone()?);
            copy(far, near);
        }
        Ok(())
    });
    Ok(address)
}

/// A proxy that only reads and writes: two tasks for each connection, all on one thread.
fn copy_with_tasks(echo: SocketAddr) -> Result<SocketAddr> {
    let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
    listener.set_nonblocking(true)?;
    let address = listener.local_addr()?;
    let copy = |mut from: tokio::net::tcp::OwnedReadHalf, mut to: tokio::net::tcp::OwnedWriteHalf| {
        tokio::spawn(async move {
            let mut buffer = vec![0; 64 << 10];
            while let Ok(read @ 1..) = from.read(&mut buffer).await {
                if to.write_all(&buffer[..read]).await.is_err() {
                    break;
                }
            }
        })
    };
    let serve = async move {
        let listener = TcpListener::from_std(listener)?;
        loop {
            let (near, far) = (listener.accept().await?.0, TcpStream::connect(echo).await?);
            near.set_nodelay(true)?;
            far.set_nodelay(true)?;
            let ((from_near, to_near), (from_far, to_far)) = (near.into_split(), far.into_split());
            copy(from_near, to_far);
            copy(from_far, to_near);
        }
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    std::thread::spawn(move || -> io::Result<()> { runtime.block_on(serve) });
    Ok(address)
}

/// What one load came to, in one round.
struct Measured {
    per_second: f64,
    /// The median round trip in microseconds.
    p50: f64,
}

/// The ways to the echo: none between, ours, the bare ones, and ours where the messages between nodes are recorded.
const WAYS: [&str; 5] = ["direct", "proxy", "bare, threads", "bare, tasks", "proxy, recorded"];

async fn measure_all(arguments: &Arguments, echo: SocketAddr) -> Result<Report> {
    let network = Network::start(&[1], &[1, 2], Protocol::Frames, 1).await?;
    network.set_target(1, Some(echo));
    let proxied = network.address(Link::client(1, 1));
    let folder = tempfile::tempdir()?;
    let between_nodes = Network::start(&[1, 2], &[], Protocol::Frames, 1).await?;
    between_nodes.record(folder.path(), boottime_ns())?;
    between_nodes.set_target(1, Some(echo));
    let recorded = between_nodes.address(Link::between(2, 1));
    let ways = [echo, proxied, copy_with_threads(echo)?, copy_with_tasks(echo)?, recorded];
    let mut rows: Vec<Row> = LOADS.iter().map(|load| Row::new(*load)).collect();
    let mut switches = Vec::new();
    for round in 0..arguments.rounds {
        for (row, load) in rows.iter_mut().zip(LOADS) {
            // whoever comes first has the machine in another state
            for turn in 0..ways.len() {
                let way = (turn + round) % ways.len();
                row.add(way, &measure(ways[way], load, arguments.seconds).await?);
            }
        }
        switches.extend(time_switches(&network).await?);
    }
    network.shutdown().await?;
    between_nodes.shutdown().await?;
    switches.sort_by(f64::total_cmp);
    Ok(Report {
        rounds: arguments.rounds,
        seconds: arguments.seconds,
        rows: rows.iter().map(Row::medians).collect(),
        switches: switches.len(),
        switch_p50_ms: switches[switches.len() / 2],
        switch_p99_ms: switches[switches.len() * 99 / 100],
    })
}

async fn measure(
    address: SocketAddr,
    (connections, window): (usize, usize),
    seconds: f64,
) -> Result<Measured> {
    let mut tasks = JoinSet::new();
    let start = boottime_ns();
    let warm = start + (seconds * 0.2e9) as u64;
    let end = warm + (seconds * 1e9) as u64;
    for _ in 0..connections {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        tasks.spawn(keep_in_flight(stream, window, warm, end));
    }
    let (mut count, mut trips) = (0, Vec::new());
    while let Some(done) = tasks.join_next().await {
        let (more, some) = done??;
        count += more;
        trips.extend(some);
    }
    trips.sort_unstable();
    let p50 = trips.get(trips.len() / 2).map_or(f64::NAN, |nanos| *nanos as f64 / 1000.0);
    Ok(Measured { per_second: count as f64 / seconds, p50 })
}

/// Keeps so many messages in flight; returns how many came back between `warm` and `end`, and with one in flight how long
/// each took, in nanoseconds.
async fn keep_in_flight(
    mut stream: TcpStream,
    window: usize,
    warm: u64,
    end: u64,
) -> Result<(usize, Vec<u64>)> {
    let mut message = [b'x'; FRAME];
    message[..4].copy_from_slice(&(FRAME as u32 - 4).to_be_bytes());
    // what is recorded is what nodes send
    let suffix = Suffix { start: 70_000, entries: Vec::new().into() };
    let accept = GroupMessage::Accept {
        ballot: Ballot::BOTTOM,
        session: 3,
        sequence: 70_000,
        suffix,
        decided: 70_000,
    };
    let content = wire::encode(&Message::Group { partition: 1, message: accept });
    message[4..4 + content.len()].copy_from_slice(&content);
    let messages = message.repeat(window);
    let mut buffer = vec![0; 64 << 10];
    let (mut count, mut trips, mut received) = (0, Vec::new(), 0);
    let mut sent_at = boottime_ns();
    stream.write_all(&messages).await?;
    loop {
        let read = stream.read(&mut buffer).await?;
        anyhow::ensure!(read > 0, "the echo is gone");
        received += read;
        let complete = received / FRAME;
        received %= FRAME;
        let now = boottime_ns();
        if now >= end {
            return Ok((count, trips));
        }
        if now >= warm {
            count += complete;
            if window == 1 && complete == 1 {
                trips.push(now - sent_at);
            }
        }
        sent_at = boottime_ns();
        stream.write_all(&messages[..complete * FRAME]).await?;
    }
}

/// Milliseconds from the command until it is in effect, with 64 messages in flight on the link that is held and released.
async fn time_switches(network: &Network) -> Result<Vec<f64>> {
    let link = Link::client(1, 1);
    let address = network.address(link);
    let switching = async {
        let mut times = Vec::new();
        for turn in 0..SWITCHES {
            let rule = if turn % 2 == 0 { Rule::Hold } else { Rule::Open };
            let conditions = BTreeMap::from([(link, Conditions::from(rule))]);
            let effective = network.switch(conditions).await;
            times.push((effective.effective - effective.requested) as f64 / 1e6);
            tokio::time::sleep(std::time::Duration::from_millis(1)).await;
        }
        network.open().await;
        times
    };
    let load = async {
        loop {
            if let Err(error) = measure(address, (4, 16), 0.2).await {
                return error;
            }
        }
    };
    tokio::select! {
        times = switching => Ok(times),
        error = load => Err(error),
    }
}

/// The rounds of one load, by way.
struct Row {
    load: (usize, usize),
    per_second: [Vec<f64>; WAYS.len()],
    p50: [Vec<f64>; WAYS.len()],
}

impl Row {
    fn new(load: (usize, usize)) -> Self {
        Self { load, per_second: Default::default(), p50: Default::default() }
    }

    fn add(&mut self, way: usize, measured: &Measured) {
        self.per_second[way].push(measured.per_second);
        self.p50[way].push(measured.p50);
    }

    fn medians(&self) -> Medians {
        let ways = WAYS.iter().enumerate().map(|(way, name)| {
            let pairs = |values: &[Vec<f64>], of: fn(f64, f64) -> f64| {
                median(values[way].iter().zip(&values[0]).map(|(some, direct)| of(*some, *direct)).collect())
            };
            let medians = Way {
                per_second: median(self.per_second[way].clone()),
                throughput_ratio: pairs(&self.per_second, |some, direct| some / direct),
                p50_us: median(self.p50[way].clone()),
                round_trip_ratio: pairs(&self.p50, |some, direct| some / direct),
                added_us: pairs(&self.p50, |some, direct| some - direct),
            };
            (*name, medians)
        });
        let beside_bare = self.per_second[1]
            .iter()
            .enumerate()
            .map(|(round, ours)| ours / self.per_second[2][round].max(self.per_second[3][round]));
        Medians {
            connections: self.load.0,
            in_flight: self.load.0 * self.load.1,
            beside_bare: median(beside_bare.collect()),
            ways: ways.collect(),
        }
    }
}

/// Medians over the rounds; ratios and differences are medians of the rounds'.
#[derive(Debug, Serialize)]
struct Medians {
    connections: usize,
    in_flight: usize,
    /// Throughput through the proxy over that of the better bare one, round by round.
    beside_bare: f64,
    ways: BTreeMap<&'static str, Way>,
}

/// One way to the echo; ratios and differences are to the direct one.
#[derive(Debug, Serialize)]
struct Way {
    per_second: f64,
    throughput_ratio: f64,
    /// With one in flight; null otherwise.
    p50_us: f64,
    round_trip_ratio: f64,
    added_us: f64,
}

#[derive(Debug, Serialize)]
struct Report {
    rounds: usize,
    seconds: f64,
    rows: Vec<Medians>,
    switches: usize,
    switch_p50_ms: f64,
    switch_p99_ms: f64,
}

impl Report {
    fn print(&self) {
        println!("messages a second, and the ratio to direct");
        print!("in flight    ");
        for name in WAYS {
            print!(" {name:>18}");
        }
        println!("   goal      proxy / better bare");
        for (row, goal) in self.rows.iter().zip(["-", ">= 0.50", ">= 0.30"]) {
            let (all, connections) = (row.in_flight, row.connections);
            print!("{all:>3} ({connections:>2} x {:>2})", all / connections);
            for name in WAYS {
                let way = &row.ways[name];
                print!(" {:>11.0} ({:.2})", way.per_second, way.throughput_ratio);
            }
            println!("   {goal:<7}   {:.2}", row.beside_bare);
        }
        if let Some(row) = self.rows.first() {
            println!("round trip p50, and what is added to direct (goal < 60 us and <= 1.60x)");
            for name in WAYS {
                let way = &row.ways[name];
                let (p50, added, ratio) = (way.p50_us, way.added_us, way.round_trip_ratio);
                println!("  {name:<14} {p50:>7.1} us {added:>+7.1} us {ratio:>6.2}x");
            }
        }
        println!(
            "switch of the network under load: p50 {:.3} ms, p99 {:.3} ms of {} (goal p99 < 5)",
            self.switch_p50_ms, self.switch_p99_ms, self.switches
        );
        println!("{} rounds of {} s each, in turn; medians", self.rounds, self.seconds);
    }
}
