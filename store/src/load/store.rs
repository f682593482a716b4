//! A load on this store.

use bytes::BytesMut;

use super::{Asked, Keys, Kind, Link, Protocol, Request, Verdict, value_of, value_shows};
use crate::{
    api::{
        Answer, ClientReply, ClientRequest, Key, KeyType, NodeId, Operation, Outcome, ReplyBody, RequestBody,
    },
    client::{Client, ClientError},
    node::wire,
};

/// The frames of a client of this store.
#[derive(Clone, Debug)]
pub struct StoreProtocol {
    /// The kind of keys.
    pub key_type: KeyType,
    /// Bytes of a value.
    pub value_size: usize,
    /// The node that is asked.
    pub node: NodeId,
}

impl StoreProtocol {
    /// Connects to the node.
    pub async fn connect(self, address: &str, cluster: &str, keys: Keys) -> Result<Link<Self>, ClientError> {
        let (connection, _) = Client::connect(address, cluster).await?.into_parts();
        let parts = connection.into_parts();
        Ok(Link { stream: parts.io, read: parts.read_buf, protocol: self, keys })
    }

    fn operation(&self, Request { kind, key }: Request) -> Operation {
        let value = || value_of(key, self.value_size);
        let key = key_of(key, self.key_type);
        match kind {
            Kind::Get => Operation::Get { key },
            Kind::Put => Operation::Put { key, value: value() },
            Kind::Cas => Operation::Cas { key, expected: Some(value()), new: value() },
        }
    }

    fn judge(&self, asked: Request, answer: &Answer) -> Verdict {
        let right = match (asked.kind, &answer.outcome) {
            (Kind::Get, Outcome::Value(Some(value))) => {
                value_shows(value.as_bytes(), asked.key, self.value_size)
            }
            (Kind::Put, Outcome::Written) | (Kind::Cas, Outcome::Swapped) => true,
            _ => false,
        };
        if right {
            Verdict::Right { fast: answer.fast, elsewhere: answer.leader != self.node }
        } else {
            Verdict::Wrong(format!("key {} was answered {:?}", asked.key, answer.outcome))
        }
    }
}

/// The key of this number.
pub fn key_of(key: i64, key_type: KeyType) -> Key {
    match key_type {
        KeyType::Integer => Key::Integer(key),
        KeyType::String => Key::String(format!("bench-{key}")),
    }
}

impl Protocol for StoreProtocol {
    fn ask(&mut self, id: u64, request: Request, out: &mut Vec<u8>) {
        let body = RequestBody::Operation { operation: self.operation(request), seen: 0, session: None };
        wire::put(out, &ClientRequest { id, body });
    }

    fn answer(
        &mut self,
        read: &mut BytesMut,
        _: &mut Vec<u8>,
        asked: &Asked,
    ) -> Result<Option<(u64, Verdict)>, String> {
        let Some(reply) = wire::take(read, wire::MAX_FRAME)? else { return Ok(None) };
        let ClientReply { id, body } = reply;
        let request = asked.request(id).ok_or_else(|| format!("answered {id}, which was not asked"))?;
        let verdict = match body {
            ReplyBody::Operation(Ok(answer)) => self.judge(request, &answer),
            ReplyBody::Operation(Err(error)) if error.is_definite() => Verdict::Failed(error.to_string()),
            ReplyBody::Operation(Err(error)) => Verdict::Unknown(error.to_string()),
            other => return Err(format!("the answer is to something else: {other:?}")),
        };
        Ok(Some((id, verdict)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::{Ballot, StoreError, Value};

    const SIZE: usize = 32;

    fn protocol() -> StoreProtocol {
        StoreProtocol { key_type: KeyType::Integer, value_size: SIZE, node: 1 }
    }

    fn answer(outcome: Outcome) -> Answer {
        let (ballot, leader) = (Ballot::BOTTOM, 1);
        Answer { outcome, version: 1, index: 1, leader, ballot, fast: false, local: false }
    }

    #[test]
    fn only_what_a_key_holds_is_right() {
        let right = Verdict::Right { fast: false, elsewhere: false };
        let judge = |kind, outcome| protocol().judge(Request { kind, key: 7 }, &answer(outcome));
        let holds = |key| Some::<Value>(value_of(key, SIZE));
        assert_eq!(judge(Kind::Get, Outcome::Value(holds(7))), right);
        assert_eq!(judge(Kind::Put, Outcome::Written), right);
        assert_eq!(judge(Kind::Cas, Outcome::Swapped), right);
        for (kind, outcome) in [
            (Kind::Get, Outcome::Value(holds(8))),
            (Kind::Get, Outcome::Value(None)),
            (Kind::Get, Outcome::Written),
            (Kind::Put, Outcome::Value(None)),
            (Kind::Cas, Outcome::NotSwapped { seen: holds(7) }),
        ] {
            assert!(matches!(judge(kind, outcome.clone()), Verdict::Wrong(_)), "{kind:?} {outcome:?}");
        }
        let moved = Answer { leader: 2, ..answer(Outcome::Written) };
        let verdict = protocol().judge(Request { kind: Kind::Put, key: 7 }, &moved);
        assert_eq!(verdict, Verdict::Right { fast: false, elsewhere: true });
    }

    /// What a node writes, as the protocol reads it, byte by byte.
    fn read(reply: &ClientReply, asked: &Asked) -> Result<Option<(u64, Verdict)>, String> {
        let frame = wire::encode(reply);
        let (mut read, mut out) = (BytesMut::new(), Vec::new());
        for byte in (frame.len() as u32).to_be_bytes().iter().chain(&frame[..frame.len() - 1]) {
            read.extend_from_slice(&[*byte]);
            assert_eq!(protocol().answer(&mut read, &mut out, asked), Ok(None), "it is not complete");
        }
        read.extend_from_slice(&frame[frame.len() - 1..]);
        let answer = protocol().answer(&mut read, &mut out, asked);
        assert!(answer.is_err() || read.is_empty(), "all of it is taken");
        answer
    }

    #[test]
    fn an_error_is_a_failure_if_it_is_definite_and_answers_to_nothing_end_the_connection() {
        let mut asked = Asked::new(2);
        let id = asked.add(0, Request { kind: Kind::Put, key: 7 });
        let says = |error: &StoreError| {
            let reply = ClientReply { id, body: ReplyBody::Operation(Err(error.clone())) };
            read(&reply, &asked).expect("a reply").expect("all of it").1
        };
        let error = StoreError::Indefinite { reason: "it was deposed".to_owned() };
        assert_eq!(says(&error), Verdict::Unknown(error.to_string()));
        let error = StoreError::NotLeader { partition: 1, leader: None };
        assert_eq!(says(&error), Verdict::Failed(error.to_string()));
        let body = ReplyBody::Operation(Ok(answer(Outcome::Written)));
        assert!(read(&ClientReply { id: id + 2, body }, &asked).is_err(), "another life of the same slot");
    }
}
