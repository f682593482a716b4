//! The process at the far end of the self-test: it sends back every frame that it gets and says on standard error, which is
//! its log file, what came when and on which connection.

use std::{
    io,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use anyhow::{Context, Result};
use futures::StreamExt;
use serde::{Deserialize, Serialize};
use store::{
    config::NodeConfig,
    node::{control::Notice, wire},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::Mutex,
};
use tokio_util::codec::FramedRead;

use crate::clock::boottime_ns;

/// A frame that begins with this is sent back after [`LATER_BY`].
pub(super) const LATER: &[u8] = b"later ";

/// See [`LATER`].
const LATER_BY: Duration = Duration::from_millis(150);

/// Something that the echo noticed: a line of its log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Heard {
    /// [`boottime_ns`] when it did.
    pub(super) at: u64,
    /// Number of the connection, in the order of acceptance.
    pub(super) connection: u64,
    /// What it was.
    pub(super) what: What,
}

/// What an echo may notice of a connection.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum What {
    /// It was accepted.
    Opened,
    /// A frame came, with this content.
    Frame(Vec<u8>),
    /// It was ended in order.
    Finished,
    /// It was reset.
    Reset,
}

/// Echoes until its standard input closes.
pub(super) async fn run(config: &Path) -> Result<()> {
    let text =
        std::fs::read_to_string(config).with_context(|| format!("cannot read {}", config.display()))?;
    let node = serde_json::from_str::<NodeConfig>(&text).context("not a node's configuration")?.node;
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?.to_string();
    println!("{}", serde_json::to_string(&Notice::Listening { node, address, boot: 1 })?);
    let mut input = tokio::io::stdin();
    let mut nothing = [0];
    for connection in 1.. {
        tokio::select! {
            accepted = listener.accept() => {
                tell(connection, What::Opened);
                tokio::spawn(serve(accepted?.0, connection));
            }
            _ = input.read(&mut nothing) => break,
        }
    }
    Ok(())
}

async fn serve(stream: TcpStream, connection: u64) -> Result<()> {
    stream.set_nodelay(true)?;
    let (from, to) = stream.into_split();
    let (to, was_reset) = (Arc::new(Mutex::new(to)), Arc::new(AtomicBool::new(false)));
    let mut frames = FramedRead::new(from, wire::frames());
    while let Some(frame) = frames.next().await {
        let frame = match frame {
            Ok(frame) => frame,
            Err(error) => {
                note_reset(&error, &was_reset);
                break;
            }
        };
        tell(connection, What::Frame(frame.to_vec()));
        let (to, was_reset) = (Arc::clone(&to), Arc::clone(&was_reset));
        let late = frame.starts_with(LATER);
        let answer = async move {
            if late {
                tokio::time::sleep(LATER_BY).await;
            }
            if let Err(error) = to.lock().await.write_all(&framed(&frame)).await {
                note_reset(&error, &was_reset);
            }
        };
        if late {
            // nothing waits behind it
            tokio::spawn(answer);
        } else {
            answer.await;
        }
    }
    let end = if was_reset.load(Ordering::Relaxed) { What::Reset } else { What::Finished };
    tell(connection, end);
    Ok(())
}

/// Whichever of reading and writing comes first is told of a reset; the other one then sees an end in order.
fn note_reset(error: &io::Error, was_reset: &AtomicBool) {
    if error.kind() == io::ErrorKind::ConnectionReset {
        was_reset.store(true, Ordering::Relaxed);
    }
}

fn tell(connection: u64, what: What) {
    let heard = Heard { at: boottime_ns(), connection, what };
    eprintln!("{}", serde_json::to_string(&heard).expect("plain data"));
}

/// A frame with this content.
pub(super) fn framed(content: &[u8]) -> Vec<u8> {
    let mut frame = (content.len() as u32).to_be_bytes().to_vec();
    frame.extend_from_slice(content);
    frame
}
