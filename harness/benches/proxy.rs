//! What the proxy costs: round trips and throughput through it beside a plain echo without it, measured alternately, and how
//! long a switch of the network takes under load. The echo is a process of its own, the proxy and the load are threads.
//!
//!     scripts/bench proxy [--json] [--rounds N] [--seconds S]

use std::{
    collections::BTreeMap,
    io::{BufRead, BufReader},
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

/// What one load came to, in one round.
struct Measured {
    per_second: f64,
    /// The median round trip in microseconds.
    p50: f64,
}

async fn measure_all(arguments: &Arguments, echo: SocketAddr) -> Result<Report> {
    let network = Network::start(&[1], &[1, 2], Protocol::Frames, 1).await?;
    network.set_target(1, Some(echo));
    let proxied = network.address(Link::client(1, 1));
    let mut rows: Vec<Row> = LOADS.iter().map(|load| Row::new(*load)).collect();
    let mut switches = Vec::new();
    for round in 0..arguments.rounds {
        for (row, load) in rows.iter_mut().zip(LOADS) {
            let mut both = Vec::new();
            // whoever comes first has the machine in another state
            let order = if round % 2 == 0 { [echo, proxied] } else { [proxied, echo] };
            for address in order {
                both.push(measure(address, load, arguments.seconds).await?);
            }
            if round % 2 == 1 {
                both.reverse();
            }
            row.add(&both[0], &both[1]);
        }
        switches.extend(time_switches(&network).await?);
    }
    network.shutdown().await?;
    switches.sort_by(f64::total_cmp);
    Ok(Report {
        rounds: arguments.rounds,
        rows: rows.into_iter().map(Row::medians).collect(),
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

/// The rounds of one load.
struct Row {
    load: (usize, usize),
    direct: Vec<f64>,
    proxied: Vec<f64>,
    direct_p50: Vec<f64>,
    proxied_p50: Vec<f64>,
}

impl Row {
    fn new(load: (usize, usize)) -> Self {
        let (direct, proxied, direct_p50, proxied_p50) = Default::default();
        Self { load, direct, proxied, direct_p50, proxied_p50 }
    }

    fn add(&mut self, direct: &Measured, proxied: &Measured) {
        self.direct.push(direct.per_second);
        self.proxied.push(proxied.per_second);
        self.direct_p50.push(direct.p50);
        self.proxied_p50.push(proxied.p50);
    }

    fn medians(self) -> Medians {
        let pairs = |a: &[f64], b: &[f64], of: fn(f64, f64) -> f64| {
            median(a.iter().zip(b).map(|(a, b)| of(*a, *b)).collect())
        };
        Medians {
            connections: self.load.0,
            in_flight: self.load.0 * self.load.1,
            throughput_ratio: pairs(&self.proxied, &self.direct, |proxied, direct| proxied / direct),
            round_trip_ratio: pairs(&self.proxied_p50, &self.direct_p50, |proxied, direct| proxied / direct),
            added_us: pairs(&self.proxied_p50, &self.direct_p50, |proxied, direct| proxied - direct),
            direct_per_second: median(self.direct),
            proxied_per_second: median(self.proxied),
            direct_p50_us: median(self.direct_p50),
            proxied_p50_us: median(self.proxied_p50),
        }
    }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

/// Medians over the rounds; ratios are medians of the rounds' ratios.
#[derive(Debug, Serialize)]
struct Medians {
    connections: usize,
    in_flight: usize,
    direct_per_second: f64,
    proxied_per_second: f64,
    throughput_ratio: f64,
    direct_p50_us: f64,
    proxied_p50_us: f64,
    round_trip_ratio: f64,
    added_us: f64,
}

#[derive(Debug, Serialize)]
struct Report {
    rounds: usize,
    rows: Vec<Medians>,
    switches: usize,
    switch_p50_ms: f64,
    switch_p99_ms: f64,
}

impl Report {
    fn print(&self) {
        println!("in flight       direct/s      proxied/s   ratio   goal");
        for (row, goal) in self.rows.iter().zip(["-", ">= 0.50", ">= 0.30"]) {
            println!(
                "{:>3} ({:>2} x {:>2}) {:>12.0} {:>14.0} {:>7.2}   {goal}",
                row.in_flight,
                row.connections,
                row.in_flight / row.connections,
                row.direct_per_second,
                row.proxied_per_second,
                row.throughput_ratio,
            );
        }
        if let Some(row) = self.rows.first() {
            println!(
                "round trip p50  {:.1} us direct, {:.1} us proxied: {:.1} us added (goal < 60), ratio {:.2} (goal <= 1.60)",
                row.direct_p50_us, row.proxied_p50_us, row.added_us, row.round_trip_ratio
            );
        }
        println!(
            "switch          p50 {:.3} ms, p99 {:.3} ms of {} under load (goal p99 < 5)",
            self.switch_p50_ms, self.switch_p99_ms, self.switches
        );
        println!("{} rounds, medians", self.rounds);
    }
}
