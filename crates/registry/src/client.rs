//! The client: one request, with its login, its repetitions and its errors in words; and what is made of it.

use std::collections::{BTreeMap, HashSet};
use std::io::Read;
use std::path::PathBuf;
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::Duration;

use base::{Digest, Failure};
use oci::distribution::{ErrorResponse, TagList};
use oci::image::media_type;
use reqwest::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderMap, RANGE, RETRY_AFTER, WWW_AUTHENTICATE};
use reqwest::{Response, StatusCode, Url};
use serde::de::DeserializeOwned;

use crate::auth::{self, Challenge, TokenAnswer};
use crate::credentials::Login;
use crate::endpoint::Scheme;
use crate::{Credentials, Error, Result, http};

/// The longest manifest, index, configuration or other document.
const MAX_DOCUMENT: u64 = 4 << 20;
/// How often a request is made before its failure is believed.
const ATTEMPTS: u32 = 4;
/// The longest that we let a registry make us wait.
const MAX_WAIT: Duration = Duration::from_secs(20);

/// How to talk to registries.
#[derive(Debug, Clone, Default)]
pub struct Settings {
    /// Who we are, to registries' logs; empty: `dhow/<version>`.
    pub user_agent: String,
    /// Logins.
    pub credentials: Credentials,
    /// A file of root certificates instead of the system's.
    pub certificates: Option<PathBuf>,
}

/// A repository in a registry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Location {
    /// The registry's host, with its port if any: `docker.io`, `localhost:5000`.
    pub host: String,
    /// The repository: `library/debian`.
    pub repository: String,
}

/// A manifest or index, its bytes verified against its digest where one was asked for.
#[derive(Debug, Clone)]
pub struct ManifestAnswer {
    /// As they came.
    pub bytes: Vec<u8>,
    /// Their digest.
    pub digest: Digest,
    /// The media type that the registry says.
    pub media_type: Option<String>,
}

/// A blob to fetch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BlobRequest {
    /// Its digest.
    pub digest: Digest,
    /// Its size, which bounds what is read.
    pub size: u64,
}

/// A client of registries.
pub struct Client {
    pub(crate) settings: Settings,
    pub(crate) runtime: tokio::runtime::Runtime,
    https: OnceLock<reqwest::Client>,
    http: OnceLock<reqwest::Client>,
    /// What answered a repository's last challenge: the whole `Authorization`.
    authorizations: Mutex<BTreeMap<(String, String), String>>,
}

/// What a request is for: for messages, and to tell what a 404 means.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Asked<'a> {
    pub(crate) location: &'a Location,
    pub(crate) what: &'a str,
}

impl Client {
    /// Makes a client. Opens nothing yet.
    pub fn new(settings: Settings) -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|e| Error::Setup(Box::new(e)))?;
        Ok(Self {
            settings,
            runtime,
            https: OnceLock::new(),
            http: OnceLock::new(),
            authorizations: Mutex::default(),
        })
    }

    /// A manifest or index by tag or digest.
    pub fn manifest(&self, location: &Location, tag_or_digest: &str) -> Result<ManifestAnswer> {
        self.runtime.block_on(self.fetch_manifest(location, tag_or_digest))
    }

    async fn fetch_manifest(&self, location: &Location, tag_or_digest: &str) -> Result<ManifestAnswer> {
        let what = match tag_or_digest.parse::<Digest>() {
            Ok(digest) => format!("manifest {digest} in `{}`", location.repository),
            Err(_) => format!("tag `{tag_or_digest}` in `{}`", location.repository),
        };
        let asked = Asked { location, what: &what };
        let accept =
            [media_type::MANIFEST, media_type::INDEX, media_type::DOCKER_MANIFEST, media_type::DOCKER_INDEX];
        let mut headers = HeaderMap::new();
        if let Ok(value) = accept.join(", ").parse() {
            headers.insert(ACCEPT, value);
        }
        let url = location.url(&format!("manifests/{tag_or_digest}"))?;
        let response = match self.get(asked, &url, headers).await {
            Err(Error::NotFound { host, what, .. }) => {
                // The answer that helps most with a misspelt tag. Whatever goes wrong here does not matter.
                let tags = self.fetch_tags(location).await.unwrap_or_default();
                return Err(Error::NotFound { host, what, tags });
            }
            other => other?,
        };
        let said = header(&response, CONTENT_TYPE.as_str());
        let claimed = header(&response, "docker-content-digest").and_then(|d| d.parse::<Digest>().ok());
        refuse_pages(asked, said.as_deref())?;
        let bytes = self.document(asked, response).await?;
        let digest = Digest::of(&bytes);
        if let Some(wanted) = tag_or_digest.parse().ok().or(claimed)
            && wanted != digest
        {
            let host = location.host.clone();
            return Err(Error::Digest { host, what: "the manifest".to_owned(), wanted, found: digest });
        }
        Ok(ManifestAnswer { bytes, digest, media_type: said })
    }

    /// A small blob (a configuration) in memory, verified.
    pub fn small_blob(&self, location: &Location, wanted: &BlobRequest) -> Result<Vec<u8>> {
        let BlobRequest { digest, size } = wanted;
        let host = || location.host.clone();
        let what = format!("blob {digest} in `{}`", location.repository);
        let asked = Asked { location, what: &what };
        let bytes = self.runtime.block_on(async {
            let response =
                self.get(asked, &location.url(&format!("blobs/{digest}"))?, HeaderMap::new()).await?;
            self.document(asked, response).await
        })?;
        let found = Digest::of(&bytes);
        if bytes.len() as u64 != *size {
            return Err(Error::Size {
                host: host(),
                digest: *digest,
                wanted: *size,
                found: bytes.len() as u64,
            });
        }
        if found != *digest {
            return Err(Error::Digest { host: host(), what: "a blob".to_owned(), wanted: *digest, found });
        }
        Ok(bytes)
    }

    /// Blobs, several at once. `sink` is called for each, on threads of their own, with the bytes as they come
    /// (not verified: that is the store's business), and ends the whole by failing. A broken connection is taken
    /// up where it broke, without the sink's noticing. A blob that is asked for twice comes once.
    pub fn blobs<E: Failure>(
        &self,
        location: &Location,
        wanted: &[BlobRequest],
        sink: &(dyn Fn(&BlobRequest, &mut dyn Read) -> std::result::Result<(), E> + Sync),
    ) -> Result<()> {
        let mut seen = HashSet::new();
        let wanted: Vec<&BlobRequest> = wanted.iter().filter(|w| seen.insert(w.digest)).collect();
        crate::transfer::all(self, location, &wanted, sink)
    }

    /// The repository's tags, the first thousand or so.
    pub fn tags(&self, location: &Location) -> Result<Vec<String>> {
        self.runtime.block_on(self.fetch_tags(location))
    }

    async fn fetch_tags(&self, location: &Location) -> Result<Vec<String>> {
        let what = format!("repository `{}`", location.repository);
        let asked = Asked { location, what: &what };
        let response = self.get(asked, &location.url("tags/list?n=1000")?, HeaderMap::new()).await?;
        let list: TagList = self.json(asked, response).await?;
        let mut tags = list.tags.unwrap_or_default();
        tags.sort_unstable();
        Ok(tags)
    }

    /// A successful answer to a GET, logged in where that is asked for, tried again where that may help.
    pub(crate) async fn get(&self, asked: Asked<'_>, url: &Url, headers: HeaderMap) -> Result<Response> {
        let mut attempt = 1;
        let mut logins = 0;
        loop {
            let mut request = self.http(asked.location.scheme())?.get(url.clone()).headers(headers.clone());
            if let Some(authorization) = self.authorization(asked.location) {
                request = request.header(AUTHORIZATION, authorization);
            }
            let pause = match request.send().await {
                Ok(response) if response.status().is_success() => return Ok(response),
                Ok(response) if response.status() == StatusCode::UNAUTHORIZED && logins < 2 => {
                    logins += 1;
                    // A second time only if there was a token, which may have expired meanwhile.
                    let had = self.forget(asked.location);
                    if logins == 2 && !had {
                        return Err(self.status_error(asked, response).await);
                    }
                    self.log_in(asked, response, logins == 2).await?;
                    continue;
                }
                Ok(response) if attempt < ATTEMPTS && is_passing(response.status()) => {
                    wait(&response, attempt)
                }
                Ok(response) => return Err(self.status_error(asked, response).await),
                Err(e) if attempt < ATTEMPTS && is_worth_retrying(&e) => backoff(attempt),
                Err(e) => return Err(connection_error(asked.location, e)),
            };
            attempt += 1;
            tokio::time::sleep(pause).await;
        }
    }

    /// Finds the answer to a challenge, and keeps it for the repository's next requests.
    async fn log_in(&self, asked: Asked<'_>, response: Response, again: bool) -> Result<()> {
        let Location { host, repository } = asked.location;
        let status = response.status().as_u16();
        let wanted = || Error::LoginWanted { host: host.clone(), repository: repository.clone(), status };
        let challenge = header(&response, WWW_AUTHENTICATE.as_str()).unwrap_or_default();
        let login = self.settings.credentials.of(host);
        let authorization = match auth::parse(&challenge) {
            None if challenge.is_empty() => return Err(wanted()),
            None => {
                let challenge = challenge.chars().take(100).collect();
                return Err(Error::Challenge { host: host.clone(), challenge });
            }
            Some(Challenge::Basic) => match login {
                Some(Login::Password { user, password }) if !again => basic(user, password),
                Some(_) => return Err(self.status_error(asked, response).await),
                None => return Err(wanted()),
            },
            Some(Challenge::Bearer { realm, service, scope }) => {
                let scope = scope.unwrap_or_else(|| format!("repository:{repository}:pull"));
                self.token(asked, &realm, service, &scope, login).await?
            }
        };
        let key = (host.clone(), repository.clone());
        self.authorizations.lock().unwrap_or_else(PoisonError::into_inner).insert(key, authorization);
        Ok(())
    }

    /// Asks a token server. Its address comes from the registry; it is held to the registry's own scheme, so
    /// that a password never goes over the network in plain text.
    async fn token(
        &self,
        asked: Asked<'_>,
        realm: &str,
        service: Option<String>,
        scope: &str,
        login: Option<&Login>,
    ) -> Result<String> {
        let host = &asked.location.host;
        let bad = || Error::Challenge { host: host.clone(), challenge: realm.chars().take(100).collect() };
        let mut url = Url::parse(realm).map_err(|_| bad())?;
        let scheme = match url.scheme() {
            "https" => Scheme::Https,
            "http" if url.host_str().is_some_and(crate::endpoint::is_loopback) => Scheme::Http,
            _ => return Err(bad()),
        };
        let client = self.http(scheme)?;
        let service: Vec<(&str, String)> = service.map(|s| ("service", s)).into_iter().collect();
        let request = if let Some(Login::Identity(token)) = login {
            let mut form = reqwest::Url::parse("form:").map_err(|_| bad())?;
            form.query_pairs_mut()
                .extend_pairs(&service)
                .append_pair("grant_type", "refresh_token")
                .append_pair("client_id", "dhow")
                .append_pair("scope", scope)
                .append_pair("refresh_token", token);
            let body = form.query().unwrap_or_default().to_owned();
            client.post(url).header(CONTENT_TYPE, "application/x-www-form-urlencoded").body(body)
        } else {
            url.query_pairs_mut().extend_pairs(&service).append_pair("scope", scope);
            match login {
                Some(Login::Password { user, password }) => {
                    client.get(url).header(AUTHORIZATION, basic(user, password))
                }
                _ => client.get(url),
            }
        };
        let response = request.send().await.map_err(|e| connection_error(asked.location, e))?;
        if !response.status().is_success() {
            return Err(self.status_error(asked, response).await);
        }
        let what = Asked { what: "a token", ..asked };
        let answer: TokenAnswer = self.json(what, response).await?;
        answer.token().map(|token| format!("Bearer {token}")).ok_or_else(bad)
    }

    fn authorization(&self, location: &Location) -> Option<String> {
        let key = (location.host.clone(), location.repository.clone());
        self.authorizations.lock().unwrap_or_else(PoisonError::into_inner).get(&key).cloned()
    }

    /// Drops what did not help; true if there was something.
    fn forget(&self, location: &Location) -> bool {
        let key = (location.host.clone(), location.repository.clone());
        self.authorizations.lock().unwrap_or_else(PoisonError::into_inner).remove(&key).is_some()
    }

    fn http(&self, scheme: Scheme) -> Result<&reqwest::Client> {
        let cell = match scheme {
            Scheme::Https => &self.https,
            Scheme::Http => &self.http,
        };
        if let Some(client) = cell.get() {
            return Ok(client);
        }
        let client = http::client(scheme, &self.settings)?;
        Ok(cell.get_or_init(|| client))
    }

    /// The whole body of an answer that must be small.
    async fn document(&self, asked: Asked<'_>, mut response: Response) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(|e| connection_error(asked.location, e))? {
            if (bytes.len() + chunk.len()) as u64 > MAX_DOCUMENT {
                let Asked { location, what } = asked;
                return Err(Error::TooLarge {
                    host: location.host.clone(),
                    what: what.to_owned(),
                    limit: MAX_DOCUMENT,
                });
            }
            bytes.extend_from_slice(&chunk);
        }
        Ok(bytes)
    }

    async fn json<T: DeserializeOwned>(&self, asked: Asked<'_>, response: Response) -> Result<T> {
        let said = header(&response, CONTENT_TYPE.as_str());
        refuse_pages(asked, said.as_deref())?;
        let bytes = self.document(asked, response).await?;
        serde_json::from_slice(&bytes).map_err(|_| Error::NotARegistry {
            host: asked.location.host.clone(),
            what: asked.what.to_owned(),
            found: "something that is not the JSON of one".to_owned(),
        })
    }

    /// What an unsuccessful answer means.
    async fn status_error(&self, asked: Asked<'_>, response: Response) -> Error {
        let Location { host, repository } = asked.location.clone();
        let status = response.status();
        let said_type = header(&response, CONTENT_TYPE.as_str());
        let body = self.document(asked, response).await.unwrap_or_default();
        let errors: ErrorResponse = serde_json::from_slice(&body).unwrap_or_default();
        let first = errors.errors.into_iter().next().unwrap_or_default();
        // From outside, and bound for a terminal.
        let said: String = first.message.chars().filter(|c| !c.is_control()).take(200).collect();
        let what = asked.what.to_owned();
        let code = status.as_u16();
        match code {
            401 | 403 if self.settings.credentials.of(&host).is_some() => {
                Error::LoginRefused { host, repository, status: code, said }
            }
            401 | 403 => Error::LoginWanted { host, repository, status: code },
            404 if first.code == "NAME_UNKNOWN" => {
                Error::NotFound { host, what: format!("repository `{repository}`"), tags: Vec::new() }
            }
            404 if first.code.is_empty() && said_type.is_some_and(|t| t.starts_with("text/html")) => {
                Error::NotARegistry { host, what, found: "a web page (404)".to_owned() }
            }
            404 => Error::NotFound { host, what, tags: Vec::new() },
            429 | 500..=599 => Error::Unavailable { host, status: code, said },
            _ => Error::Status { host, what, status: code, said },
        }
    }
}

/// The request header for the rest of a blob.
pub(crate) fn range(from: u64) -> HeaderMap {
    let mut headers = HeaderMap::new();
    if from > 0
        && let Ok(value) = format!("bytes={from}-").parse()
    {
        headers.insert(RANGE, value);
    }
    headers
}

fn basic(user: &str, password: &str) -> String {
    use base64::Engine as _;
    format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(format!("{user}:{password}")))
}

fn header(response: &Response, name: &str) -> Option<String> {
    response.headers().get(name).and_then(|value| value.to_str().ok()).map(str::to_owned)
}

/// A login page, a captive portal, a parked domain.
fn refuse_pages(asked: Asked<'_>, content_type: Option<&str>) -> Result<()> {
    match content_type {
        Some(page) if page.starts_with("text/html") => Err(Error::NotARegistry {
            host: asked.location.host.clone(),
            what: asked.what.to_owned(),
            found: "a web page".to_owned(),
        }),
        _ => Ok(()),
    }
}

fn is_passing(status: StatusCode) -> bool {
    matches!(status.as_u16(), 408 | 429 | 500 | 502 | 503 | 504)
}

/// Nobody there, or another certificate, stays so; a connection that broke may not.
pub(crate) fn is_worth_retrying(error: &reqwest::Error) -> bool {
    !(error.is_connect() || error.is_builder() || error.is_redirect())
}

pub(crate) fn backoff(attempt: u32) -> Duration {
    Duration::from_millis(200 << attempt.min(5))
}

fn wait(response: &Response, attempt: u32) -> Duration {
    let seconds = header(response, RETRY_AFTER.as_str()).and_then(|text| text.trim().parse::<u64>().ok());
    seconds.map_or_else(|| backoff(attempt), Duration::from_secs).min(MAX_WAIT)
}

/// The address of a blob's storage may hold a signature: no address in messages.
pub(crate) fn connection_error(location: &Location, error: reqwest::Error) -> Error {
    let host = location.host.clone();
    let source = error.without_url();
    let text = base::failure::chain(&source);
    if source.is_connect()
        && [
            "certificate",
            "Certificate",
            "InvalidContentType",
            "HandshakeFailure",
            "corrupt message",
            "fatal alert",
        ]
        .iter()
        .any(|sign| text.contains(sign))
    {
        Error::Tls { host, source }
    } else if source.is_timeout() && !source.is_connect() {
        Error::Timeout { host }
    } else if source.is_connect() {
        let local = location.scheme() == Scheme::Http;
        Error::Unreachable { host, local, source }
    } else {
        Error::Broken { host, source }
    }
}
