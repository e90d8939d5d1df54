//! Bodies: what we send as we read it, and what we receive as it comes.

use std::future::Future;
use std::io;
use std::os::unix::fs::FileExt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use engine::distribution::{Blob, Content, Transfer};
use http_body_util::BodyExt;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use tokio::task::{JoinHandle, spawn_blocking};
use tokio::time::timeout;

/// How much of a blob is read at once.
const CHUNK: usize = 128 << 10;
/// How much of an upload is gathered before it is written.
pub(crate) const PIECE: usize = 512 << 10;
/// How long a client may send nothing.
const SILENCE: Duration = Duration::from_secs(30);
/// The least that a client must send in a second, once it had time to begin.
const SLOWEST: u64 = 1024;

/// A body of an answer: some bytes, or a blob.
pub(crate) enum Reply {
    /// As it is; `None` once it is sent.
    Bytes(Option<Bytes>),
    /// Read while it is sent.
    Blob(Reading),
}

/// A part of a blob that is being sent.
pub(crate) struct Reading {
    source: Arc<Source>,
    offset: u64,
    end: u64,
    /// The next piece, which is read while the last one is sent.
    next: Option<JoinHandle<io::Result<Bytes>>>,
}

enum Source {
    File(Blob),
    Transfer(Arc<Transfer>),
}

impl Source {
    fn read(&self, offset: u64, most: usize) -> io::Result<Bytes> {
        let mut buffer = vec![0; most];
        let read = match self {
            Self::File(blob) => blob.file.read_at(&mut buffer, offset)?,
            Self::Transfer(transfer) => {
                transfer.read_at(offset, &mut buffer).map_err(|e| io::Error::other(e.to_string()))?
            }
        };
        if read == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        buffer.truncate(read);
        Ok(buffer.into())
    }
}

impl Reply {
    /// Nothing.
    pub(crate) fn empty() -> Self {
        Self::Bytes(None)
    }

    /// Some bytes.
    pub(crate) fn bytes(bytes: impl Into<Bytes>) -> Self {
        Self::Bytes(Some(bytes.into()).filter(|bytes: &Bytes| !bytes.is_empty()))
    }

    /// From the byte `begin` to the one before `end`.
    pub(crate) fn blob(content: Content, begin: u64, end: u64) -> Self {
        let source = match content {
            Content::Whole(blob) => Source::File(blob),
            Content::Coming(transfer) => Source::Transfer(transfer),
        };
        let mut reading = Reading { source: Arc::new(source), offset: begin, end, next: None };
        reading.read_ahead();
        Self::Blob(reading)
    }
}

impl Reading {
    fn read_ahead(&mut self) {
        let left = self.end - self.offset;
        if left > 0 && self.next.is_none() {
            let (source, offset) = (Arc::clone(&self.source), self.offset);
            let most = left.min(CHUNK as u64) as usize;
            self.next = Some(spawn_blocking(move || source.read(offset, most)));
        }
    }
}

impl Body for Reply {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        match self.get_mut() {
            Self::Bytes(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Self::Blob(reading) => {
                reading.read_ahead();
                let Some(next) = &mut reading.next else { return Poll::Ready(None) };
                let read =
                    ready!(Pin::new(next).poll(context)).map_err(io::Error::other).and_then(|read| read);
                reading.next = None;
                if let Ok(bytes) = &read {
                    reading.offset += bytes.len() as u64;
                    reading.read_ahead();
                } else {
                    reading.offset = reading.end;
                }
                Poll::Ready(Some(read.map(Frame::data)))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Bytes(bytes) => bytes.is_none(),
            Self::Blob(reading) => reading.offset == reading.end && reading.next.is_none(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Bytes(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64)),
            Self::Blob(reading) => SizeHint::with_exact(reading.end - reading.offset),
        }
    }
}

/// Why a body did not come.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Broken {
    #[error("the connection broke: {0}")]
    Connection(#[from] hyper::Error),
    #[error("nothing came for {} seconds", SILENCE.as_secs())]
    Silence,
    #[error("less than {SLOWEST} bytes came in a second")]
    Slow,
    #[error("it is longer than {0} bytes")]
    TooLong(u64),
}

/// A body on its way in.
pub(crate) struct Receiving {
    body: Incoming,
    began: Instant,
    received: u64,
}

impl Receiving {
    pub(crate) fn new(body: Incoming) -> Self {
        Self { body, began: Instant::now(), received: 0 }
    }

    /// The next bytes; `None` at the end.
    async fn next(&mut self) -> Result<Option<Bytes>, Broken> {
        loop {
            let frame = timeout(SILENCE, self.body.frame()).await.map_err(|_| Broken::Silence)?;
            let Some(frame) = frame else { return Ok(None) };
            let Ok(bytes) = frame?.into_data() else { continue };
            self.received += bytes.len() as u64;
            let seconds = self.began.elapsed().as_secs();
            if seconds > SILENCE.as_secs() && self.received / seconds < SLOWEST {
                return Err(Broken::Slow);
            }
            return Ok(Some(bytes));
        }
    }

    /// About [`PIECE`] bytes, fewer at the end; and why no more will come, if that is so.
    pub(crate) async fn piece(&mut self) -> (BytesMut, Option<Result<(), Broken>>) {
        let mut piece = BytesMut::new();
        loop {
            match self.next().await {
                Ok(Some(bytes)) if piece.is_empty() && bytes.len() >= PIECE => return (bytes.into(), None),
                Ok(Some(bytes)) => piece.extend_from_slice(&bytes),
                Ok(None) => return (piece, Some(Ok(()))),
                Err(why) => return (piece, Some(Err(why))),
            }
            if piece.len() >= PIECE {
                return (piece, None);
            }
        }
    }

    /// All of a body that must be small.
    pub(crate) async fn whole(&mut self, most: u64) -> Result<Vec<u8>, Broken> {
        let mut whole = Vec::new();
        while let Some(bytes) = self.next().await? {
            if (whole.len() + bytes.len()) as u64 > most {
                return Err(Broken::TooLong(most));
            }
            whole.extend_from_slice(&bytes);
        }
        Ok(whole)
    }

    /// Takes what is left of a request that was answered before its end, if it is not too much: who is still sending
    /// when the connection closes may never read the answer.
    pub(crate) async fn rest(&mut self) {
        const MOST: u64 = 4 << 20;
        let most = self.received + MOST;
        let rest = async {
            while self.received < most {
                if !matches!(self.next().await, Ok(Some(_))) {
                    break;
                }
            }
        };
        timeout(Duration::from_secs(3), rest).await.ok();
    }
}
