//! `harness serve`: a results folder in a browser. A table of runs, what each has left, and how one goes that is going on.
//!
//! | file | |
//! |---|---|
//! | `connections` | so many at the same time, and no more |
//! | `answer` | who is answered, and which page or file it is |
//! | `body` | a text, or a file piece by piece |
//! | `listing` | all runs, as JSON |
//! | `api` | what the pages ask for of single runs, as JSON |
//! | `assets` | the pages, which fetch nothing from anywhere else |
//!
//! It only reads. Whoever can connect can read all that runs have left in the folder, hidden files excepted; so it listens on
//! this machine alone unless told otherwise, and answers there only to names of this machine, so that no page of another
//! site that has its name point here (DNS rebinding) reads along.

mod answer;
mod api;
mod body;
mod connections;
mod listing;

use std::{
    io::ErrorKind,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
};

use anyhow::{Context, Result, bail};
use clap::Args;
use hyper::{server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    net::{TcpListener, TcpStream},
    signal::unix::{SignalKind, signal},
    time::{Duration, sleep},
};

use crate::{report::FAILED, retention::Keep, runs::within::Within};
use answer::Site;
use connections::{Connection, Connections};

/// What to show, and where.
#[derive(Debug, Args)]
pub struct ServeArguments {
    /// The folder with the results; runs are found at any depth in it.
    #[arg(value_name = "DIR", default_value = "results")]
    folder: PathBuf,
    /// Where to listen; port 0: any that is free.
    #[arg(long, alias = "addr", value_name = "ADDRESS", default_value = "127.0.0.1:8080")]
    listen: SocketAddr,
    /// Marks what `harness prune` with the same number would remove.
    #[arg(long, value_name = "N", default_value_t = Keep::default())]
    keep: Keep,
    /// No words on standard error; the address is printed all the same.
    #[arg(long)]
    quiet: bool,
}

/// How long a connection may say nothing.
const SILENCE: Duration = Duration::from_secs(20);

/// Threads that read files.
const READERS: usize = 8;

/// Serves until it is interrupted, which is no failure.
pub fn main(arguments: &ServeArguments) -> ExitCode {
    let within = match Within::new(&arguments.folder) {
        Ok(within) => within,
        Err(error) => {
            eprintln!(
                "error: cannot show {}: {}",
                arguments.folder.display(),
                why(&arguments.folder, &error)
            );
            return ExitCode::from(2);
        }
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .max_blocking_threads(READERS)
        .enable_all()
        .build()
        .context("no runtime");
    match runtime.and_then(|runtime| runtime.block_on(serve(within, arguments))) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::from(FAILED)
        }
    }
}

fn why(folder: &Path, error: &std::io::Error) -> String {
    match error.kind() {
        ErrorKind::NotFound => format!(
            "there is no such folder; a run makes it (harness workloads/smoke.toml), or name another one: harness serve DIR{}",
            if folder.is_absolute() { "" } else { ", from where it is" }
        ),
        _ => error.to_string(),
    }
}

async fn serve(within: Within, arguments: &ServeArguments) -> Result<()> {
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    let listener = listen(arguments.listen).await?;
    let address = listener.local_addr().context("the address is not known")?;
    // whoever started it reads this line to learn the port
    say!("http://{address}/");
    if !arguments.quiet {
        eprintln!("serving {}; Ctrl-C ends it", within.path().display());
        if !address.ip().is_loopback() {
            eprintln!("warning: whoever reaches {address} can read all runs in it");
        }
    }
    let site = Arc::new(Site::new(within, address, arguments.keep));
    tokio::select! {
        never = accept(listener, site) => match never {},
        _ = interrupt.recv() => Ok(()),
        _ = terminate.recv() => Ok(()),
    }
}

async fn listen(address: SocketAddr) -> Result<TcpListener> {
    match TcpListener::bind(address).await {
        Ok(listener) => Ok(listener),
        Err(error) if error.kind() == ErrorKind::AddrInUse => bail!(
            "cannot listen on {address}: another program does; choose another port, or any: --listen {}",
            SocketAddr::new(address.ip(), 0)
        ),
        Err(error) => Err(error).with_context(|| format!("cannot listen on {address}")),
    }
}

async fn accept(listener: TcpListener, site: Arc<Site>) -> std::convert::Infallible {
    let mut connections = Connections::default();
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                let connection = connections.admit();
                tokio::spawn(talk(stream, Arc::clone(&site), connection));
            }
            // out of file descriptors, or the other side is gone already; connections that end make room
            Err(_) => sleep(Duration::from_millis(100)).await,
        }
    }
}

/// One connection, until it ends, is silent for too long, or has to make room.
async fn talk(stream: TcpStream, site: Arc<Site>, connection: Arc<Connection>) {
    let service = service_fn(|request| answer::answer(Arc::clone(&site), Arc::clone(&connection), request));
    let conversation = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(SILENCE)
        .max_buf_size(64 << 10)
        .serve_connection(TokioIo::new(stream), service);
    tokio::select! {
        // an error says that the other side is gone or speaks no HTTP: nobody is left to be told
        _ = conversation => {}
        () = connection.must_go() => {}
    }
}
