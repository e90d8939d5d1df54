//! Blobs, several at once: the network on the calling thread, and for each blob a thread that consumes it.
//!
//! ```text
//! registry ──► fetch (async, this thread) ──► channel of chunks ──► Chunks: Read ──► sink (its own thread)
//! ```
//!
//! The channel is short, so that a slow sink slows its download and not our memory. Where a connection breaks,
//! the fetch goes on with a range request, and the sink notices nothing.

use std::io::{self, Read};
use std::thread;

use base::Failure;
use bytes::{Buf, Bytes};
use futures_util::{StreamExt, TryStreamExt};
use reqwest::StatusCode;
use tokio::sync::{mpsc, oneshot};

use crate::client::{Asked, backoff, connection_error, is_worth_retrying, range};
use crate::error::SinkError;
use crate::{BlobRequest, Client, Error, Location, Result};

/// How many blobs come at once: more connections bring no more bytes.
const AT_ONCE: usize = 6;
/// How many chunks (some 16 KiB each) wait for a slow sink.
const CHUNKS: usize = 32;
/// How often a blob's connection may break without one new byte.
const ATTEMPTS: u32 = 5;

type Sink<'s, E> = &'s (dyn Fn(&BlobRequest, &mut dyn Read) -> std::result::Result<(), E> + Sync);

pub(crate) fn all<E: Failure>(
    client: &Client,
    location: &Location,
    wanted: &[&BlobRequest],
    sink: Sink<'_, E>,
) -> Result<()> {
    thread::scope(|scope| {
        let transfers = futures_util::stream::iter(wanted.iter().copied()).map(|blob| async move {
            let (feed, chunks) = mpsc::channel(CHUNKS);
            let (done, outcome) = oneshot::channel();
            thread::Builder::new()
                .name("blob".to_owned())
                .spawn_scoped(scope, move || {
                    let mut reader = Chunks { from: chunks, current: Bytes::new(), ended: false };
                    // Nobody waits any more where another blob has failed.
                    done.send(sink(blob, &mut reader)).ok();
                })
                .map_err(|e| Error::Setup(Box::new(e)))?;
            // What the network says explains what the sink then says: it comes first.
            fetch(client, location, blob, feed).await?;
            match outcome.await {
                Ok(sunk) => sunk.map_err(|e| Error::Sink(SinkError::new(e))),
                Err(_) => Err(Error::Stopped(blob.digest)),
            }
        });
        // The first failure drops the other transfers, their channels close, and their sinks end.
        client.runtime.block_on(transfers.buffer_unordered(AT_ONCE).try_collect::<()>())
    })
}

/// What goes through the channel: bytes, then `None` for the end. A channel that closes without it was cut.
type Feed = mpsc::Sender<Option<Bytes>>;

async fn fetch(client: &Client, location: &Location, blob: &BlobRequest, feed: Feed) -> Result<()> {
    let BlobRequest { digest, size } = blob;
    let what = format!("blob {digest} in `{}`", location.repository);
    let asked = Asked { location, what: &what };
    let url = location.url(&format!("blobs/{digest}"))?;
    let wrong_size =
        |found| Error::Size { host: location.host.clone(), digest: *digest, wanted: *size, found };
    let mut received = 0;
    let mut attempt = 0;
    while received < *size || attempt == 0 {
        let before = received;
        let mut response = client.get(asked, &url, range(received)).await?;
        // A server that knows no ranges sends all again.
        let mut skip = if response.status() == StatusCode::PARTIAL_CONTENT { 0 } else { received };
        if let Some(length) = response.content_length()
            && length != *size - received + skip
        {
            return Err(wrong_size(length.saturating_add(received - skip)));
        }
        let broke = loop {
            match response.chunk().await {
                Ok(Some(mut chunk)) => {
                    let known = skip.min(chunk.len() as u64);
                    chunk.advance(known as usize);
                    skip -= known;
                    received += chunk.len() as u64;
                    if received > *size {
                        return Err(wrong_size(received));
                    }
                    if !chunk.is_empty() && feed.send(Some(chunk)).await.is_err() {
                        // The sink is through with it, well or badly: it will say.
                        return Ok(());
                    }
                }
                Ok(None) => break None,
                Err(e) => break Some(e),
            }
        };
        attempt = if received > before { 1 } else { attempt + 1 };
        match broke {
            None if received < *size && attempt >= 2 => return Err(wrong_size(received)),
            Some(e) if attempt >= ATTEMPTS || !is_worth_retrying(&e) => {
                return Err(connection_error(location, e));
            }
            Some(_) => tokio::time::sleep(backoff(attempt)).await,
            None => {}
        }
    }
    feed.send(None).await.ok();
    Ok(())
}

/// The consuming end of a transfer.
struct Chunks {
    from: mpsc::Receiver<Option<Bytes>>,
    current: Bytes,
    ended: bool,
}

impl Read for Chunks {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.current.is_empty() {
            match self.from.blocking_recv() {
                Some(Some(chunk)) => self.current = chunk,
                Some(None) => self.ended = true,
                None if self.ended => {}
                None => {
                    return Err(io::Error::new(io::ErrorKind::ConnectionAborted, "the transfer was stopped"));
                }
            }
        }
        let n = self.current.len().min(buffer.len());
        buffer[..n].copy_from_slice(&self.current[..n]);
        self.current.advance(n);
        Ok(n)
    }
}
