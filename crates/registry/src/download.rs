//! A file from the web, by its address: what `import` may be given. Nobody is logged in there, and no mirror stands in
//! for it; what `registries.toml` says of the host counts all the same.

use std::io::{self, Write};

use base::failure::kind_of_io;
use base::{Failure, Kind};
use reqwest::header::{
    CONTENT_DISPOSITION, ETAG, HeaderMap, HeaderName, HeaderValue, IF_MODIFIED_SINCE, IF_NONE_MATCH,
    IF_RANGE, LAST_MODIFIED, RANGE,
};
use reqwest::{Method, Response, StatusCode, Url};

use crate::endpoint::{Address, Endpoint};
use crate::http::authority;
use crate::request::{
    ATTEMPTS, Asked, Request, Sent, backoff, connection_error, is_passing, is_worth_retrying,
};
use crate::{Client, Error};

/// How often it is asked whether a file is still wanted.
const LOOK: std::time::Duration = std::time::Duration::from_millis(50);

/// Why a file did not come.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DownloadError {
    /// It is no address.
    #[error("it is not the address of a file")]
    Address,
    /// The server does not give it.
    #[error("`{host}` answers {status}")]
    Status {
        /// The server.
        host: String,
        /// The answer's status and its name.
        status: StatusCode,
    },
    /// The server cannot be asked, or breaks off again and again.
    #[error(transparent)]
    Server(#[from] Error),
    /// It became another one between two attempts.
    #[error("it changed on `{host}` while it came")]
    Changed {
        /// The server.
        host: String,
    },
    /// It is longer than whoever wants it takes.
    #[error("it is longer than {0} bytes")]
    Long(u64),
    /// Nobody wants it any more.
    #[error("it was given up while it came")]
    Stopped,
    /// Whoever takes the bytes failed.
    #[error("cannot pass on what came")]
    Write(#[source] io::Error),
}

impl Failure for DownloadError {
    fn kind(&self) -> Kind {
        match self {
            Self::Address | Self::Stopped => Kind::Invalid,
            Self::Long(_) => Kind::Exhausted,
            Self::Status { status: StatusCode::NOT_FOUND | StatusCode::GONE, .. } => Kind::NotFound,
            Self::Status { status: StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN, .. } => {
                Kind::Unauthorized
            }
            Self::Status { .. } | Self::Changed { .. } => Kind::Unavailable,
            Self::Server(e) => e.kind(),
            Self::Write(e) => kind_of_io(e),
        }
    }

    fn hints(&self) -> Vec<String> {
        match self {
            Self::Address => vec!["give it as https://HOST/PATH".to_owned()],
            Self::Changed { .. } => vec!["try again".to_owned()],
            Self::Server(e) => e.hints(),
            Self::Status { .. } | Self::Long(_) | Self::Stopped | Self::Write(_) => Vec::new(),
        }
    }
}

/// What tells one state of a file from the next.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Version {
    /// `ETag`.
    pub etag: Option<String>,
    /// `Last-Modified`.
    pub modified: Option<String>,
}

/// What is said of a file that came.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Came {
    /// Its version.
    pub version: Version,
    /// `Content-Disposition`.
    pub disposition: Option<String>,
}

/// Which file is wanted.
#[derive(Debug, Clone, Default)]
pub struct Wanted {
    /// The version that is here already.
    pub unless: Version,
    /// Bytes that it may have.
    pub most: Option<u64>,
}

/// What is told while a file comes.
pub trait Watch {
    /// It begins, and is so many bytes long, if the server says so.
    fn begins(&self, total: Option<u64>);
    /// So many more bytes have come.
    fn came(&self, bytes: u64);
    /// Whether it is still wanted. Asked again and again, also while nothing comes.
    fn goes_on(&self) -> bool {
        true
    }
}

impl Client {
    /// Fetches a file into `out`. A connection that breaks is made again, and goes on where it broke if the server
    /// can tell that the file is still the same.
    pub fn download(&self, url: &str, out: &mut dyn Write, watch: &dyn Watch) -> Result<(), DownloadError> {
        self.download_unless(url, &Wanted::default(), out, watch).map(drop)
    }

    /// The same, unless it is still of a version that is here already: then none, and nothing is written.
    pub fn download_unless(
        &self,
        url: &str,
        wanted: &Wanted,
        out: &mut dyn Write,
        watch: &dyn Watch,
    ) -> Result<Option<Came>, DownloadError> {
        let url = Url::parse(url).map_err(|_| DownloadError::Address)?;
        if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none() {
            return Err(DownloadError::Address);
        }
        let endpoint = self.settings.registries.of_host(&authority(&url))?;
        self.runtime.block_on(async {
            let mut download = std::pin::pin!(self.download_from(&endpoint, &url, wanted, out, watch));
            loop {
                match tokio::time::timeout(LOOK, &mut download).await {
                    Ok(done) => return done,
                    Err(_) if watch.goes_on() => {}
                    Err(_) => return Err(DownloadError::Stopped),
                }
            }
        })
    }

    async fn download_from(
        &self,
        endpoint: &Endpoint,
        url: &Url,
        wanted: &Wanted,
        out: &mut dyn Write,
        watch: &dyn Watch,
    ) -> Result<Option<Came>, DownloadError> {
        let location = &endpoint.location;
        let most = wanted.most.unwrap_or(u64::MAX);
        let mut came = Came::default();
        let mut received = 0;
        let mut etag: Option<HeaderValue> = None;
        let mut attempt = 1;
        loop {
            let broke = match self.ask_for(endpoint, url, &wanted.unless, received, etag.as_ref()).await {
                Ok(response) if received == 0 && response.status() == StatusCode::NOT_MODIFIED => {
                    return Ok(None);
                }
                Ok(mut response) => {
                    if received > 0 && response.status() != StatusCode::PARTIAL_CONTENT {
                        return Err(DownloadError::Changed { host: location.host.clone() });
                    }
                    if received == 0 {
                        etag = response.headers().get(ETAG).filter(|tag| is_strong(tag)).cloned();
                        came = said_of(response.headers());
                        watch.begins(response.content_length());
                        if response.content_length().is_some_and(|length| length > most) {
                            return Err(DownloadError::Long(most));
                        }
                    }
                    loop {
                        match response.chunk().await {
                            Ok(Some(chunk)) => {
                                received += chunk.len() as u64;
                                if received > most {
                                    return Err(DownloadError::Long(most));
                                }
                                out.write_all(&chunk).map_err(DownloadError::Write)?;
                                watch.came(chunk.len() as u64);
                                attempt = 1;
                            }
                            Ok(None) => return Ok(Some(came)),
                            Err(error) => break error,
                        }
                    }
                }
                Err(Asking::Status(status)) if attempt < ATTEMPTS && is_passing(status) => {
                    tokio::time::sleep(backoff(attempt)).await;
                    attempt += 1;
                    continue;
                }
                Err(Asking::Status(status)) => {
                    return Err(DownloadError::Status { host: location.host.clone(), status });
                }
                Err(Asking::Sent(Sent::Error(error))) => return Err(error.into()),
                Err(Asking::Sent(Sent::Connection(error))) => error,
            };
            let may_go_on = received == 0 || etag.is_some();
            if attempt >= ATTEMPTS || !may_go_on || !is_worth_retrying(&broke) {
                return Err(connection_error(location, broke).into());
            }
            tokio::time::sleep(backoff(attempt)).await;
            attempt += 1;
        }
    }

    /// The file, or what is left of it.
    async fn ask_for(
        &self,
        endpoint: &Endpoint,
        url: &Url,
        unless: &Version,
        from: u64,
        etag: Option<&HeaderValue>,
    ) -> Result<Response, Asking> {
        let mut headers = HeaderMap::new();
        if from == 0 {
            // A server that knows tags goes by them alone (RFC 9110, 13.2.2).
            for (name, value) in [(IF_NONE_MATCH, &unless.etag), (IF_MODIFIED_SINCE, &unless.modified)] {
                if let Some(value) = value.as_ref().and_then(|value| HeaderValue::try_from(value).ok()) {
                    headers.insert(name, value);
                }
            }
        }
        if let Some(etag) = etag.filter(|_| from > 0)
            && let Ok(range) = HeaderValue::try_from(format!("bytes={from}-"))
        {
            headers.insert(RANGE, range);
            headers.insert(IF_RANGE, etag.clone());
        }
        let asked = Asked { location: &endpoint.location, what: "a file" };
        let request = Request { endpoint, asked, method: Method::GET, headers, authorization: None };
        let response = self.follow(request, &Address::At(url.clone()), None).await.map_err(Asking::Sent)?;
        match response.status() {
            status if status.is_success() => Ok(response),
            StatusCode::NOT_MODIFIED if from == 0 && *unless != Version::default() => Ok(response),
            status => Err(Asking::Status(status)),
        }
    }
}

fn said_of(headers: &HeaderMap) -> Came {
    let text = |name: HeaderName| headers.get(name)?.to_str().ok().map(str::to_owned);
    let version = Version { etag: text(ETAG), modified: text(LAST_MODIFIED) };
    Came { version, disposition: text(CONTENT_DISPOSITION) }
}

/// Why a server gives no file.
enum Asking {
    Status(StatusCode),
    Sent(Sent),
}

/// A weak one may stay the same while bytes change (RFC 9110, 8.8.1).
fn is_strong(etag: &HeaderValue) -> bool {
    etag.as_bytes().starts_with(b"\"")
}
