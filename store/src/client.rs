//! A client of one node: one connection, one operation at a time, no retries.
//!
//! Nothing is sent twice here, so an operation happens at most once; the caller decides what to do after an error, and
//! [`ClientError::is_definite`] says what it may conclude.

use std::{io, time::Duration};

use futures::{SinkExt, StreamExt};
use tokio::net::TcpStream;
use tokio_util::codec::Framed;

use crate::{
    api::{Answer, ClientReply, ClientRequest, NodeStatus, Operation, ReplyBody, RequestBody, StoreError},
    node::wire::{self, Handshake, Role, Verdict},
};

/// How long a node may take to accept a connection and answer the handshake.
const CONNECT: Duration = Duration::from_secs(5);

/// A connection to one node.
#[derive(Debug)]
pub struct Client {
    connection: Framed<TcpStream, wire::Frames>,
    next_id: u64,
}

/// Why an operation was not answered.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The connection was not made: nothing was sent.
    #[error("cannot connect: {0}")]
    Connect(io::Error),
    /// The node refused the connection: nothing was sent.
    #[error("refused: {0}")]
    Refused(String),
    /// The node answered with an error.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The connection broke, or said something that is no answer, after the request was handed to it.
    #[error("connection lost: {0}")]
    Lost(String),
}

impl ClientError {
    /// True when the operation certainly did not happen and never will.
    pub fn is_definite(&self) -> bool {
        match self {
            Self::Connect(_) | Self::Refused(_) => true,
            Self::Store(error) => error.is_definite(),
            Self::Lost(_) => false,
        }
    }
}

impl Client {
    /// Connects to a node of the named cluster, within five seconds.
    pub async fn connect(address: &str, cluster: &str) -> Result<Self, ClientError> {
        Self::connect_within(CONNECT, address, cluster).await
    }

    /// Connects to a node of the named cluster, if it answers so soon.
    pub async fn connect_within(limit: Duration, address: &str, cluster: &str) -> Result<Self, ClientError> {
        tokio::time::timeout(limit, Self::shake_hands(address, cluster)).await.unwrap_or_else(|_| {
            let reason = format!("{address} did not answer within {} ms", limit.as_millis());
            Err(ClientError::Connect(io::Error::new(io::ErrorKind::TimedOut, reason)))
        })
    }

    async fn shake_hands(address: &str, cluster: &str) -> Result<Self, ClientError> {
        let stream = TcpStream::connect(address).await.map_err(ClientError::Connect)?;
        stream.set_nodelay(true).map_err(ClientError::Connect)?;
        let mut connection = Framed::new(stream, wire::frames());
        let hello = Handshake { version: wire::VERSION, cluster: cluster.to_owned(), role: Role::Client };
        connection.send(wire::encode(&hello)).await.map_err(ClientError::Connect)?;
        match connection.next().await {
            Some(Ok(frame)) => match wire::decode::<Verdict>(&frame) {
                Ok(Verdict::Welcome { .. }) => Ok(Self { connection, next_id: 1 }),
                Ok(Verdict::Refused { reason }) => Err(ClientError::Refused(reason)),
                Err(error) => Err(ClientError::Refused(format!("not a store node: {error}"))),
            },
            Some(Err(error)) => Err(ClientError::Connect(error)),
            None => Err(ClientError::Refused("the node closed the connection".to_owned())),
        }
    }

    /// The connection, and the number of the next request.
    pub(crate) fn into_parts(self) -> (Framed<TcpStream, wire::Frames>, u64) {
        (self.connection, self.next_id)
    }

    /// Carries out one operation.
    pub async fn call(&mut self, operation: Operation) -> Result<Answer, ClientError> {
        match self.request(RequestBody::Operation(operation)).await? {
            ReplyBody::Operation(response) => Ok(response?),
            ReplyBody::Status(_) => Err(ClientError::Lost("a status came back for an operation".to_owned())),
        }
    }

    /// Asks the node how it sees itself.
    pub async fn status(&mut self) -> Result<NodeStatus, ClientError> {
        match self.request(RequestBody::Status).await? {
            ReplyBody::Status(status) => Ok(status),
            ReplyBody::Operation(_) => {
                Err(ClientError::Lost("an operation's answer came back for a status".to_owned()))
            }
        }
    }

    async fn request(&mut self, body: RequestBody) -> Result<ReplyBody, ClientError> {
        let id = self.next_id;
        self.next_id += 1;
        let request = wire::encode(&ClientRequest { id, body });
        self.connection.send(request).await.map_err(|error| ClientError::Lost(error.to_string()))?;
        match self.connection.next().await {
            Some(Ok(frame)) => match wire::decode::<ClientReply>(&frame) {
                Ok(reply) if reply.id == id => Ok(reply.body),
                Ok(reply) => Err(ClientError::Lost(format!("asked {id}, was answered {}", reply.id))),
                Err(error) => Err(ClientError::Lost(format!("not a reply: {error}"))),
            },
            Some(Err(error)) => Err(ClientError::Lost(error.to_string())),
            None => Err(ClientError::Lost("the node closed the connection".to_owned())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_that_accepts_and_never_answers_is_given_up_and_nothing_was_sent() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async {
            let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
            let address = silent.local_addr().expect("an address").to_string();
            let error = Client::connect_within(Duration::from_millis(50), &address, "any").await;
            let error = error.expect_err("nobody answers");
            assert!(error.is_definite());
            let expected = format!("cannot connect: {address} did not answer within 50 ms");
            assert_eq!(error.to_string(), expected);
        });
    }
}
