//! Blobs and manifests, to a registry.
//!
//! ```text
//! HEAD blob ─► there: nothing to send
//! POST …/uploads/?mount=&from= ─► 201: the registry has it in another repository, and takes it over
//!      └─► 202 Location ─► PATCH all that is left ─► PUT ?digest= ─► 201
//!                              │ the connection broke        ▲
//!                              └─► GET Location: Range says what has arrived ─► PATCH the rest
//! ```
//!
//! The first attempt sends a blob in one request, as Docker does: some registries take no pieces. Only what is left
//! after a broken connection says where in the blob it belongs.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use base::{Digest, Failure};
use bytes::Bytes;
use futures_util::stream::FuturesUnordered;
use futures_util::{StreamExt, TryStreamExt};
use reqwest::header::{CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, HeaderMap, HeaderValue, LOCATION, RANGE};
use reqwest::{Body, Method, Response, StatusCode, Url};
use tokio::sync::Semaphore;

use crate::endpoint::{Address, Endpoint};
use crate::error::SinkError;
use crate::request::{Asked, backoff, header};
use crate::{Access, Client, Error, Location, Result, Scheme};

/// How often an upload may break without one new byte.
const ATTEMPTS: u32 = 5;
/// The longest that we let a registry make us wait.
const LONGEST_PAUSE: Duration = Duration::from_secs(20);
/// How much is read of a blob at a time.
const PIECE: usize = 128 << 10;
/// How often we tell how far an upload is.
const TELL: Duration = Duration::from_millis(100);

/// A blob to push.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Upload {
    /// Its digest.
    pub digest: Digest,
    /// Its size.
    pub size: u64,
    /// A repository of the same registry that may have it.
    pub mount_from: Option<String>,
}

/// How an upload is going.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Told {
    /// The registry has the blob there already.
    Exists,
    /// It has it elsewhere, and took it over.
    Mounted,
    /// It is sent from its beginning.
    Begun,
    /// This many bytes more have gone.
    Sent(u64),
    /// It has arrived.
    Arrived,
}

/// What an upload needs to know of its caller.
pub(crate) struct Caller<'c, E> {
    /// Opens a blob for reading.
    pub(crate) open: &'c (dyn Fn(&Upload) -> std::result::Result<File, E> + Sync),
    /// Hears how it goes.
    pub(crate) tell: &'c (dyn Fn(&Upload, Told) + Sync),
}

pub(crate) fn all<E: Failure>(
    client: &Client,
    location: &Location,
    wanted: &[Upload],
    at_once: usize,
    caller: &Caller<'_, E>,
) -> Result<()> {
    let slots = Semaphore::new(at_once.max(1));
    let uploads: FuturesUnordered<_> = wanted
        .iter()
        .map(|blob| async {
            let _slot = slots.acquire().await.map_err(|_| Error::Stopped(blob.digest))?;
            upload(client, location, blob, caller).await
        })
        .collect();
    client.runtime.block_on(uploads.boxed_local().try_collect::<()>())
}

pub(crate) async fn has_manifest(client: &Client, location: &Location, digest: &Digest) -> Result<bool> {
    let what = format!("manifest {digest} in `{}`", location.repository);
    Session::new(client, location, &what)?.has(&format!("manifests/{digest}")).await
}

pub(crate) async fn put_manifest(
    client: &Client,
    location: &Location,
    name: &str,
    media_type: &str,
    bytes: &[u8],
) -> Result<()> {
    let what = format!("to take the manifest `{name}` of `{}`", location.repository);
    let session = Session::new(client, location, &what)?;
    let mut headers = HeaderMap::new();
    if let Ok(value) = HeaderValue::from_str(media_type) {
        headers.insert(CONTENT_TYPE, value);
    }
    let content = Bytes::copy_from_slice(bytes);
    let body = || Some(Body::from(content.clone()));
    let address = location.url(&format!("manifests/{name}"))?;
    let mut attempt = 1;
    let response = loop {
        // It is the same each time, however often it arrives.
        match session.ask(Method::PUT, &address, headers.clone(), &body).await {
            Err(error) if is_passing(&error) && attempt < ATTEMPTS => {
                tokio::time::sleep(pause(&error, attempt)).await;
                attempt += 1;
            }
            other => break other?,
        }
    };
    let wanted = Digest::of(bytes);
    match header(&response, "docker-content-digest").and_then(|digest| digest.parse::<Digest>().ok()) {
        Some(found) if found != wanted => Err(Error::Digest {
            host: location.host.clone(),
            what: "the manifest that it was given".to_owned(),
            wanted,
            found,
        }),
        _ => Ok(()),
    }
}

async fn upload<E: Failure>(
    client: &Client,
    location: &Location,
    blob: &Upload,
    caller: &Caller<'_, E>,
) -> Result<()> {
    let Upload { digest, size, .. } = blob;
    let path = format!("blobs/{digest}");
    let what = format!("to take the blob {digest} into `{}`", location.repository);
    let session = Session::new(client, location, &what)?;
    if session.has(&path).await? {
        (caller.tell)(blob, Told::Exists);
        return Ok(());
    }
    let Some(mut at) = session.begin(blob).await? else {
        (caller.tell)(blob, Told::Mounted);
        return Ok(());
    };
    let file = (caller.open)(blob).map_err(|e| Error::Sink(SinkError::new(e)))?;
    let file = Arc::new(file);
    (caller.tell)(blob, Told::Begun);
    let (mut arrived, mut attempt, mut resumed) = (0, 1, false);
    loop {
        let sent = AtomicU64::new(0);
        let sending = async {
            if arrived < *size || *size == 0 {
                at = session
                    .send(&at, &file, arrived, *size, &sent, |n| (caller.tell)(blob, Told::Sent(n)))
                    .await?;
            }
            session.close(&at, digest).await
        };
        let error = match sending.await {
            Ok(()) => break,
            Err(error) => error,
        };
        if matches!(error, Error::Status { .. }) && resumed {
            // The registry has put the pieces together wrongly, or we have misunderstood which it has.
            resumed = false;
            (at, arrived) = (session.begin_anew().await?, 0);
            (caller.tell)(blob, Told::Begun);
            continue;
        }
        if !is_passing(&error) || attempt >= ATTEMPTS {
            return Err(error);
        }
        tokio::time::sleep(pause(&error, attempt)).await;
        // The end may have arrived, and only the answer to it not.
        if session.has(&path).await? {
            break;
        }
        let before = arrived;
        (at, arrived) = match session.status(&at).await? {
            Some((at, arrived)) if arrived <= *size => (at, arrived),
            _ => (session.begin_anew().await?, 0),
        };
        resumed = arrived > 0;
        attempt = if arrived > before { 1 } else { attempt + 1 };
        (caller.tell)(blob, Told::Begun);
        (caller.tell)(blob, Told::Sent(arrived));
    }
    (caller.tell)(blob, Told::Arrived);
    Ok(())
}

/// One upload's requests. They go to the registry itself, never to a mirror of it.
struct Session<'s> {
    client: &'s Client,
    endpoint: Endpoint,
    asked: Asked<'s>,
}

impl<'s> Session<'s> {
    fn new(client: &'s Client, location: &'s Location, what: &'s str) -> Result<Self> {
        let endpoint = client.settings.registries.endpoints(location, Access::Push)?.pop();
        let endpoint = endpoint.ok_or_else(|| Error::Host { host: location.host.clone() })?;
        Ok(Self { client, endpoint, asked: Asked { location, what } })
    }

    async fn ask(
        &self,
        method: Method,
        address: &Address,
        headers: HeaderMap,
        body: &dyn Fn() -> Option<Body>,
    ) -> Result<Response> {
        self.client.exchange(&self.endpoint, self.asked, method, address, headers, body).await
    }

    /// Whether the repository has something.
    async fn has(&self, path: &str) -> Result<bool> {
        let address = Address::At(self.endpoint.url(path)?);
        match self.ask(Method::HEAD, &address, HeaderMap::new(), &|| None).await {
            Ok(_) => Ok(true),
            Err(Error::NotFound { .. } | Error::NotARegistry { .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Begins an upload: where to send the blob; `None`: the registry has it from elsewhere.
    async fn begin(&self, blob: &Upload) -> Result<Option<Url>> {
        let mut url = self.endpoint.url("blobs/uploads/")?;
        if let Some(from) = blob.mount_from.as_deref() {
            url.query_pairs_mut().append_pair("mount", &blob.digest.to_string()).append_pair("from", from);
            match self.post(&url).await {
                Ok(response) if response.status() == StatusCode::CREATED => return Ok(None),
                Ok(response) if header(&response, LOCATION.as_str()).is_some() => {
                    return self.next(&url, &response).map(Some);
                }
                // We may be allowed to read that repository or not: then it is an ordinary upload.
                _ => {}
            }
        }
        self.begin_anew().await.map(Some)
    }

    async fn begin_anew(&self) -> Result<Url> {
        let url = self.endpoint.url("blobs/uploads/")?;
        let response = self.post(&url).await?;
        self.next(&url, &response)
    }

    async fn post(&self, url: &Url) -> Result<Response> {
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_LENGTH, HeaderValue::from_static("0"));
        self.ask(Method::POST, &Address::At(url.clone()), headers, &|| None).await
    }

    /// Sends the blob from `from` on; where to go on from there. The registry's answer to the last byte counts,
    /// not our having sent it.
    async fn send(
        &self,
        at: &Url,
        file: &Arc<File>,
        from: u64,
        size: u64,
        sent: &AtomicU64,
        tell: impl Fn(u64),
    ) -> Result<Url> {
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
        headers.insert(CONTENT_LENGTH, HeaderValue::from(size - from));
        if from > 0
            && let Ok(value) = HeaderValue::from_str(&format!("{from}-{}", size - 1))
        {
            headers.insert(CONTENT_RANGE, value);
        }
        let counter = Arc::new(AtomicU64::new(0));
        let body = || Some(content(file, from, size, &counter));
        let address = Address::At(at.clone());
        let mut request = pin!(self.ask(Method::PATCH, &address, headers, &body));
        let response = loop {
            let outcome = tokio::time::timeout(TELL, &mut request).await;
            let now = counter.load(Ordering::Relaxed);
            // A request that is made anew after a login begins anew.
            tell(now.saturating_sub(sent.swap(now, Ordering::Relaxed)));
            if let Ok(response) = outcome {
                break response?;
            }
        };
        self.next(at, &response)
    }

    async fn close(&self, at: &Url, digest: &Digest) -> Result<()> {
        let mut url = at.clone();
        url.query_pairs_mut().append_pair("digest", &digest.to_string());
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_LENGTH, HeaderValue::from_static("0"));
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
        self.ask(Method::PUT, &Address::At(url), headers, &|| None).await.map(drop)
    }

    /// How much has arrived, and where to go on; `None`: the registry has forgotten the upload.
    async fn status(&self, at: &Url) -> Result<Option<(Url, u64)>> {
        let answer = self.ask(Method::GET, &Address::At(at.clone()), HeaderMap::new(), &|| None).await;
        match answer {
            Ok(response) => {
                let arrived = header(&response, RANGE.as_str()).and_then(|text| arrived(&text));
                Ok(Some((self.next(at, &response)?, arrived.unwrap_or(0))))
            }
            Err(Error::NotFound { .. } | Error::Status { .. } | Error::NotARegistry { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The address that an answer tells to go on at. It may be another host's, which gets no login of ours; but not
    /// one in plain text where the registry is not.
    fn next(&self, from: &Url, response: &Response) -> Result<Url> {
        let Some(text) = header(response, LOCATION.as_str()) else { return Ok(from.clone()) };
        let url = from.join(&text).ok().filter(|url| {
            url.scheme() == "https"
                || url.scheme() == "http"
                    && self.endpoint.scheme == Scheme::Http
                    && (url.origin() == from.origin() || self.client.may_be_plain(url))
        });
        url.ok_or_else(|| Error::NotARegistry {
            host: self.asked.location.host.clone(),
            what: self.asked.what.to_owned(),
            found: "an upload address that cannot be used".to_owned(),
        })
    }
}

/// A blob's bytes from `from` on, counted as they go.
fn content(file: &Arc<File>, from: u64, size: u64, counter: &Arc<AtomicU64>) -> Body {
    counter.store(0, Ordering::Relaxed);
    let state = (Arc::clone(file), Arc::clone(counter), from);
    Body::wrap_stream(futures_util::stream::unfold(state, move |(file, counter, at)| async move {
        let length = PIECE.min(usize::try_from(size - at).unwrap_or(PIECE));
        if length == 0 {
            return None;
        }
        let mut piece = vec![0; length];
        let read = file.read_exact_at(&mut piece, at).map(|()| Bytes::from(piece));
        counter.fetch_add(length as u64, Ordering::Relaxed);
        Some((read, (file, counter, at + length as u64)))
    }))
}

/// `0-1233`: 1234 bytes. Docker's registry says `0-0` of none, and nobody sends a single one.
fn arrived(range: &str) -> Option<u64> {
    let (first, last) = range.trim().trim_start_matches("bytes=").split_once('-')?;
    let last: u64 = last.parse().ok()?;
    (first == "0").then_some(if last == 0 { 0 } else { last.checked_add(1)? })
}

/// How long to wait before going on: what the registry says, as far as that can be borne.
fn pause(error: &Error, attempt: u32) -> Duration {
    match error {
        Error::Unavailable { again_in: Some(seconds), .. } => {
            Duration::from_secs(*seconds).min(LONGEST_PAUSE)
        }
        _ => backoff(attempt),
    }
}

fn is_passing(error: &Error) -> bool {
    matches!(
        error,
        Error::Broken { .. } | Error::Timeout { .. } | Error::Unavailable { .. } | Error::Unreachable { .. }
    ) || matches!(error, Error::NotFound { .. } | Error::Status { status: 416 | 499, .. })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_tell_what_has_arrived() {
        for (text, want) in [
            ("0-0", Some(0)),
            ("0-9", Some(10)),
            ("bytes=0-9", Some(10)),
            (" 0-18446744073709551615", None),
            ("5-9", None),
            ("", None),
            ("-", None),
            ("0-x", None),
        ] {
            assert_eq!(arrived(text), want, "{text}");
        }
    }
}
