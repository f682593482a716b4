//! What is sent: a text, or a file piece by piece, so that a large one takes no more memory than a small one.

use std::{
    fs::File,
    io,
    os::unix::fs::FileExt as _,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use hyper::body::{Frame, SizeHint};
use tokio::task::{JoinHandle, spawn_blocking};

use super::connections::Connection;

/// Bytes that are read at once.
const PIECE: u64 = 64 << 10;

/// The body of an answer.
#[derive(Debug)]
pub(super) enum Body {
    /// All of it.
    Whole(Bytes),
    /// A part of a file.
    Part(Part),
}

/// Bytes of a file. Who asks for a file that grows gets it as it was then.
#[derive(Debug)]
pub(super) struct Part {
    file: Arc<File>,
    from: u64,
    to: u64,
    reading: Option<JoinHandle<io::Result<Vec<u8>>>>,
    connection: Arc<Connection>,
}

impl Body {
    /// The bytes of a file in `[from, to)`.
    pub(super) fn part(file: File, from: u64, to: u64, connection: Arc<Connection>) -> Self {
        Self::Part(Part { file: Arc::new(file), from, to, reading: None, connection })
    }

    /// How many bytes are left.
    pub(super) fn length(&self) -> u64 {
        match self {
            Self::Whole(bytes) => bytes.len() as u64,
            Self::Part(part) => part.to - part.from,
        }
    }
}

impl Part {
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Option<io::Result<Bytes>>> {
        if self.from == self.to {
            return Poll::Ready(None);
        }
        let (file, from, to) = (&self.file, self.from, self.to);
        let reading = self.reading.get_or_insert_with(|| {
            // it is asked for more, so what it got before was sent
            self.connection.touch();
            let file = Arc::clone(file);
            spawn_blocking(move || {
                let mut piece = vec![0; PIECE.min(to - from) as usize];
                file.read_exact_at(&mut piece, from)?;
                Ok(piece)
            })
        });
        let read = ready!(Pin::new(reading).poll(context));
        self.reading = None;
        Poll::Ready(Some(read.map_err(io::Error::other).flatten().map(|piece| {
            self.from += piece.len() as u64;
            Bytes::from(piece)
        })))
    }
}

impl hyper::body::Body for Body {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        match &mut *self {
            Self::Whole(bytes) if bytes.is_empty() => Poll::Ready(None),
            Self::Whole(bytes) => Poll::Ready(Some(Ok(Frame::data(std::mem::take(bytes))))),
            Self::Part(part) => part.poll(context).map(|piece| piece.map(|piece| piece.map(Frame::data))),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.length() == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.length())
    }
}

/// The bytes that a `Range` header asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wanted {
    /// Everything: there is no such header, or one that may be ignored.
    All,
    /// Those in `[from, to)`.
    Range(u64, u64),
    /// None that there are.
    Nothing,
}

/// What a `Range` header asks for of so many bytes; of several ranges everything.
pub(super) fn wanted(range: Option<&str>, length: u64) -> Wanted {
    let Some((first, last)) = range.and_then(|range| range.strip_prefix("bytes=")?.split_once('-')) else {
        return Wanted::All;
    };
    let (first, last) = (first.trim(), last.trim());
    match (first.parse::<u64>(), last.parse::<u64>()) {
        (Ok(first), _) if first >= length && (last.is_empty() || last.parse::<u64>().is_ok()) => {
            Wanted::Nothing
        }
        (Ok(first), Ok(last)) if first <= last => Wanted::Range(first, last.saturating_add(1).min(length)),
        (Ok(first), Err(_)) if last.is_empty() => Wanted::Range(first, length),
        (Err(_), Ok(0)) if first.is_empty() => Wanted::Nothing,
        (Err(_), Ok(_)) if first.is_empty() && length == 0 => Wanted::Nothing,
        (Err(_), Ok(last)) if first.is_empty() => Wanted::Range(length.saturating_sub(last), length),
        _ => Wanted::All,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_those_of_http() {
        for (range, is) in [
            ("bytes=0-0", Wanted::Range(0, 1)),
            ("bytes=2-5", Wanted::Range(2, 6)),
            ("bytes=2-500", Wanted::Range(2, 10)),
            ("bytes=2-18446744073709551615", Wanted::Range(2, 10)),
            ("bytes=9-", Wanted::Range(9, 10)),
            ("bytes=10-", Wanted::Nothing),
            ("bytes=10-12", Wanted::Nothing),
            ("bytes=-3", Wanted::Range(7, 10)),
            ("bytes=-30", Wanted::Range(0, 10)),
            ("bytes=-0", Wanted::Nothing),
            ("bytes=5-2", Wanted::All),
            ("bytes=0-1,3-4", Wanted::All),
            ("bytes=-", Wanted::All),
            ("bytes=x-2", Wanted::All),
            ("lines=0-1", Wanted::All),
        ] {
            assert_eq!(wanted(Some(range), 10), is, "{range}");
        }
        assert_eq!(wanted(None, 10), Wanted::All);
        assert_eq!(
            (wanted(Some("bytes=0-"), 0), wanted(Some("bytes=-1"), 0)),
            (Wanted::Nothing, Wanted::Nothing)
        );
    }
}
