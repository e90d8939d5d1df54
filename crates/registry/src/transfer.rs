//! Blobs, several at once: the network on the calling thread, each blob into a sink.
//!
//! ```text
//! open (a thread of its own: it may hash what is here) ─► Busy: again later, and others go first
//!   ─► Sink ─► ranges of the blob, written as they come ─► finish (a thread: it syncs) ─► Done
//!                ▲ a broken connection goes on where it broke        │ Again: what was here was no good
//!                └───────────────────────────────────────────────────┘ Wrong: from a mirror, which is asked no more
//! ```
//!
//! A sink's `write` runs on the thread that all transfers share, and must not wait for anything but the disk.

use std::collections::BTreeSet;
use std::thread::{self, Scope};
use std::time::Duration;

use base::{Digest, Failure};
use bytes::Buf;
use futures_util::stream::FuturesUnordered;
use futures_util::{StreamExt, TryStreamExt};
use reqwest::StatusCode;
use tokio::sync::{Semaphore, oneshot};

use crate::client::range;
use crate::error::SinkError;
use crate::request::{Asked, backoff, connection_error, is_worth_retrying};
use crate::{BlobRequest, Client, Error, Location, Result};

/// How often a blob's connection may break without one new byte.
const ATTEMPTS: u32 = 5;
/// How long we wait before we ask again whether somebody else is done with a blob.
const BUSY: Duration = Duration::from_millis(100);

/// Where the bytes of one blob go.
pub trait Sink: Send + Sized {
    /// Why it takes no more.
    type Error: Failure;

    /// How many bytes it has already. They are not fetched.
    fn received(&self) -> u64;

    /// Takes the next bytes; never more than the blob has.
    fn write(&mut self, bytes: &[u8]) -> std::result::Result<(), Self::Error>;

    /// What it has is not the blob's: nothing of it is to be kept. Who can take another blob's bytes instead has
    /// received none from now on.
    fn forget(&mut self) -> std::result::Result<(), Self::Error>;

    /// All bytes are there.
    fn finish(self) -> std::result::Result<Finished<Self>, Self::Error>;
}

/// What a sink makes of all bytes.
pub enum Finished<S: Sink> {
    /// It is content.
    Done,
    /// What it had before was no good: it has nothing now, and wants all of the blob.
    Again(S),
    /// It is not the blob. It has nothing now, and could take all of it once more, from somebody else; if there is
    /// nobody else, this is what it says.
    Wrong(S, S::Error),
}

/// Whether a blob has to be fetched.
pub enum Opened<S> {
    /// It is here.
    Present,
    /// Somebody else fetches it: ask again.
    Busy,
    /// Fetch it into this.
    Sink(S),
}

/// Makes the sink of a blob. Called on threads of its own.
pub type Open<'o, S> =
    &'o (dyn Fn(&BlobRequest) -> std::result::Result<Opened<S>, <S as Sink>::Error> + Sync);

pub(crate) fn all<S: Sink>(
    client: &Client,
    location: &Location,
    wanted: &[&BlobRequest],
    at_once: usize,
    open: Open<'_, S>,
) -> Result<()> {
    let slots = Semaphore::new(at_once.max(1));
    thread::scope(|scope| {
        let transfers: FuturesUnordered<_> =
            wanted.iter().map(|blob| transfer(client, location, blob, &slots, open, scope)).collect();
        // The first failure drops the other transfers, and their sinks keep what came.
        client.runtime.block_on(transfers.boxed_local().try_collect::<()>())
    })
}

async fn transfer<'s, S: Sink + 's>(
    client: &Client,
    location: &Location,
    blob: &'s BlobRequest,
    slots: &Semaphore,
    open: Open<'s, S>,
    scope: &'s Scope<'s, '_>,
) -> Result<()> {
    let failed = |e| Error::Sink(SinkError::new(e));
    loop {
        let slot = slots.acquire().await.map_err(|_| Error::Stopped(blob.digest))?;
        let mut sink = match aside(scope, blob.digest, move || open(blob)).await?.map_err(failed)? {
            Opened::Present => return Ok(()),
            Opened::Sink(sink) => sink,
            Opened::Busy => {
                drop(slot);
                tokio::time::sleep(BUSY).await;
                continue;
            }
        };
        let mut mirrors = BTreeSet::new();
        loop {
            fetch(client, location, blob, &mut sink, &mut mirrors).await?;
            match aside(scope, blob.digest, move || sink.finish()).await?.map_err(failed)? {
                Finished::Done => {
                    drop(slot);
                    return Ok(());
                }
                Finished::Again(empty) => sink = empty,
                Finished::Wrong(_, error) if mirrors.is_empty() => return Err(failed(error)),
                Finished::Wrong(empty, _) => {
                    for mirror in std::mem::take(&mut mirrors) {
                        let why =
                            format!("the mirror `{mirror}` sends other content as blob {}", blob.digest);
                        client.note_down(&mirror, why);
                    }
                    sink = empty;
                }
            }
        }
    }
}

/// Does something that takes its time on a thread of its own.
async fn aside<'s, T: Send + 's>(
    scope: &'s Scope<'s, '_>,
    blob: Digest,
    work: impl FnOnce() -> T + Send + 's,
) -> Result<T> {
    let (done, outcome) = oneshot::channel();
    thread::Builder::new()
        .name("blob".to_owned())
        // Nobody waits any more where another blob has failed.
        .spawn_scoped(scope, move || drop(done.send(work())))
        .map_err(|e| Error::Setup(Box::new(e)))?;
    outcome.await.map_err(|_| Error::Stopped(blob))
}

/// Fetches what the sink lacks. A mirror that cannot give it is asked no more; `mirrors` are those that gave some of it.
async fn fetch<S: Sink>(
    client: &Client,
    location: &Location,
    blob: &BlobRequest,
    sink: &mut S,
    mirrors: &mut BTreeSet<String>,
) -> Result<()> {
    let BlobRequest { digest, size } = blob;
    let what = format!("blob {digest} in `{}`", location.repository);
    let asked = Asked { location, what: &what };
    let url = location.url(&format!("blobs/{digest}"))?;
    let wrong_size =
        |found| Error::Size { host: location.host.clone(), digest: *digest, wanted: *size, found };
    // Whether somebody else may have it: then it is only this mirror's fault.
    let passes_on = |mirror: Option<&String>, error: Error| match mirror {
        Some(mirror) => {
            client.note_down(mirror, base::failure::chain(&error));
            Ok(())
        }
        None => Err(error),
    };
    let mut attempt = 0;
    'attempts: while sink.received() < *size {
        let before = sink.received();
        let (mut response, mirror) = client.get_from(asked, &url, range(before)).await?;
        // A server that knows no ranges sends all again.
        let mut skip = if response.status() == StatusCode::PARTIAL_CONTENT { 0 } else { before };
        if let Some(length) = response.content_length()
            && length != *size - before + skip
        {
            passes_on(mirror.as_ref(), wrong_size(length.saturating_add(before - skip)))?;
            continue;
        }
        mirrors.extend(mirror.clone());
        let mut received = before;
        let broke = loop {
            match response.chunk().await {
                Ok(Some(mut chunk)) => {
                    let known = skip.min(chunk.len() as u64);
                    chunk.advance(known as usize);
                    skip -= known;
                    received += chunk.len() as u64;
                    if received > *size {
                        sink.forget().map_err(|e| Error::Sink(SinkError::new(e)))?;
                        let mirror = mirror.as_ref().filter(|_| sink.received() == 0);
                        passes_on(mirror, wrong_size(received))?;
                        continue 'attempts;
                    }
                    sink.write(&chunk).map_err(|e| Error::Sink(SinkError::new(e)))?;
                }
                Ok(None) => break None,
                Err(e) => break Some(e),
            }
        };
        attempt = if received > before { 1 } else { attempt + 1 };
        match broke {
            None if received < *size && attempt >= 2 => {
                passes_on(mirror.as_ref(), wrong_size(received))?;
                attempt = 0;
            }
            Some(e) if attempt >= ATTEMPTS || !is_worth_retrying(&e) => {
                passes_on(mirror.as_ref(), connection_error(location, e))?;
                attempt = 0;
            }
            Some(_) => tokio::time::sleep(backoff(attempt)).await,
            None => {}
        }
    }
    Ok(())
}
