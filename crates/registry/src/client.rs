//! What is asked of registries: manifests, blobs, tags.

use std::collections::{BTreeMap, HashSet};
use std::fs::File;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use base::{Digest, Failure};
use oci::distribution::TagList;
use oci::image::media_type;
use reqwest::Method;
use reqwest::header::{ACCEPT, CONTENT_TYPE, HeaderMap, RANGE};

use crate::endpoint::{Address, Endpoint};
use crate::http::Clients;
use crate::request::{Asked, header, refuse_pages};
use crate::tokens::Tokens;
use crate::{Access, Credentials, Error, Open, Registries, Result, Sink, Told, Upload, upload};

/// How often a document that breaks off is asked for.
const ATTEMPTS: u32 = 3;

/// How to talk to registries.
#[derive(Debug, Clone, Default)]
pub struct Settings {
    /// Who we are, to registries' logs; empty: `dhow/<version>`.
    pub user_agent: String,
    /// Logins.
    pub credentials: Credentials,
    /// A file of root certificates instead of the system's.
    pub certificates: Option<PathBuf>,
    /// Where names lead.
    pub registries: Registries,
    /// A directory of our own for tokens, which live on there for the next process; none: they do not.
    pub tokens: Option<PathBuf>,
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
    pub(crate) clients: Clients,
    pub(crate) tokens: Tokens,
    /// Mirrors that do not answer, and what they said.
    down: Mutex<BTreeMap<String, String>>,
}

impl Client {
    /// Makes a client. Opens nothing yet.
    pub fn new(settings: Settings) -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|e| Error::Setup(Box::new(e)))?;
        let tokens = Tokens::new(settings.tokens.clone());
        Ok(Self { settings, runtime, clients: Clients::default(), tokens, down: Mutex::default() })
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
        let address = location.url(&format!("manifests/{tag_or_digest}"))?;
        let asked = Asked { location, what: &what };
        let found = self
            .at_each(location, Access::Pull, async |endpoint| {
                self.fetch_manifest_at(endpoint, asked, &address, tag_or_digest).await
            })
            .await;
        match found {
            Err(error) if error.is_not_found() => {
                // The answer that helps most with a misspelt tag. Whatever goes wrong here does not matter.
                let tags = self.fetch_tags(location).await.unwrap_or_default();
                Err(error.with_tags(tags))
            }
            other => other,
        }
    }

    async fn fetch_manifest_at(
        &self,
        endpoint: &Endpoint,
        asked: Asked<'_>,
        address: &Address,
        tag_or_digest: &str,
    ) -> Result<ManifestAnswer> {
        let (bytes, headers) = self.document_at(endpoint, asked, address, accept_manifests()).await?;
        let said = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
        let digest = Digest::of(&bytes);
        let claimed = said("docker-content-digest").and_then(|digest| digest.parse().ok());
        if let Some(wanted) = tag_or_digest.parse().ok().or(claimed)
            && wanted != digest
        {
            let host = endpoint.location.host.clone();
            return Err(Error::Digest { host, what: "the manifest".to_owned(), wanted, found: digest });
        }
        Ok(ManifestAnswer { bytes, digest, media_type: said(CONTENT_TYPE.as_str()).map(str::to_owned) })
    }

    /// A whole document, asked for again where it breaks off.
    async fn document_at(
        &self,
        endpoint: &Endpoint,
        asked: Asked<'_>,
        address: &Address,
        headers: HeaderMap,
    ) -> Result<(Vec<u8>, HeaderMap)> {
        let asked = Asked { location: &endpoint.location, ..asked };
        let mut attempt = 1;
        loop {
            let response =
                self.exchange(endpoint, asked, Method::GET, address, headers.clone(), &|| None).await?;
            refuse_pages(asked, header(&response, CONTENT_TYPE.as_str()).as_deref())?;
            let said = response.headers().clone();
            match self.document(asked, response).await {
                Err(Error::Broken { .. }) if attempt < ATTEMPTS => {
                    tokio::time::sleep(crate::request::backoff(attempt)).await;
                    attempt += 1;
                }
                other => return other.map(|bytes| (bytes, said)),
            }
        }
    }

    /// The digest of the manifest or index that a tag means now; `None` if the registry does not say.
    pub fn manifest_digest(&self, location: &Location, tag: &str) -> Result<Option<Digest>> {
        let what = format!("tag `{tag}` in `{}`", location.repository);
        let asked = Asked { location, what: &what };
        let address = location.url(&format!("manifests/{tag}"))?;
        let response =
            self.runtime.block_on(self.send(asked, Method::HEAD, &address, accept_manifests(), &|| None))?;
        Ok(header(&response, "docker-content-digest").and_then(|digest| digest.parse().ok()))
    }

    /// A small blob (a configuration) in memory, verified.
    pub fn small_blob(&self, location: &Location, wanted: &BlobRequest) -> Result<Vec<u8>> {
        let what = format!("blob {} in `{}`", wanted.digest, location.repository);
        let asked = Asked { location, what: &what };
        let address = location.url(&format!("blobs/{}", wanted.digest))?;
        self.runtime.block_on(self.at_each(location, Access::Pull, async |endpoint| {
            let (bytes, _) = self.document_at(endpoint, asked, &address, HeaderMap::new()).await?;
            let host = endpoint.location.host.clone();
            let BlobRequest { digest, size } = *wanted;
            let (found, length) = (Digest::of(&bytes), bytes.len() as u64);
            if length != size {
                return Err(Error::Size { host, digest, wanted: size, found: length });
            }
            if found != digest {
                return Err(Error::Digest { host, what: "a blob".to_owned(), wanted: digest, found });
            }
            Ok(bytes)
        }))
    }

    /// Blobs, at most `at_once` of them at a time. `open` tells of each whether it has to be fetched, and gives the
    /// sink for its bytes, which are not verified: that is the sink's business. A broken connection is taken up
    /// where it broke. The first failure ends the whole. A blob that is asked for twice comes once.
    pub fn blobs<S: Sink>(
        &self,
        location: &Location,
        wanted: &[BlobRequest],
        at_once: usize,
        open: Open<'_, S>,
    ) -> Result<()> {
        let mut seen = HashSet::new();
        let wanted: Vec<&BlobRequest> = wanted.iter().filter(|w| seen.insert(w.digest)).collect();
        crate::transfer::all(self, location, &wanted, at_once, open)
    }

    /// Sends blobs that the repository lacks, at most `at_once` of them at a time; those that another repository of
    /// the registry has are taken over from there. `open` gives a blob's bytes, and `tell` hears how it goes. A broken
    /// connection is taken up where it broke. The first failure ends the whole.
    pub fn upload<E: Failure>(
        &self,
        location: &Location,
        blobs: &[Upload],
        at_once: usize,
        open: &(dyn Fn(&Upload) -> std::result::Result<File, E> + Sync),
        tell: &(dyn Fn(&Upload, Told) + Sync),
    ) -> Result<()> {
        upload::all(self, location, blobs, at_once, &upload::Caller { open, tell })
    }

    /// Whether the repository has this manifest or index; asked of the registry that a push goes to.
    pub fn has_manifest(&self, location: &Location, digest: &Digest) -> Result<bool> {
        self.runtime.block_on(upload::has_manifest(self, location, digest))
    }

    /// Gives the repository a manifest or index, under a tag or its digest. What it names must be there.
    pub fn put_manifest(
        &self,
        location: &Location,
        tag_or_digest: &str,
        media_type: &str,
        bytes: &[u8],
    ) -> Result<()> {
        self.runtime.block_on(upload::put_manifest(self, location, tag_or_digest, media_type, bytes))
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
        // From outside, and bound for a terminal.
        tags.retain(|tag| !tag.chars().any(char::is_control));
        tags.sort_unstable();
        Ok(tags)
    }

    /// Forgets all tokens, here and on disk: logins have changed.
    pub fn forget_tokens(&self) {
        self.tokens.clear();
    }

    /// What a mirror said when it stopped answering.
    pub(crate) fn why_down(&self, host: &str) -> Option<String> {
        self.down.lock().unwrap_or_else(PoisonError::into_inner).get(host).cloned()
    }

    /// From now on that mirror is passed over.
    pub(crate) fn note_down(&self, host: &str, why: String) {
        self.down.lock().unwrap_or_else(PoisonError::into_inner).insert(host.to_owned(), why);
    }
}

/// The request header for the documents that we know.
fn accept_manifests() -> HeaderMap {
    let accept =
        [media_type::MANIFEST, media_type::INDEX, media_type::DOCKER_MANIFEST, media_type::DOCKER_INDEX];
    let mut headers = HeaderMap::new();
    if let Ok(value) = accept.join(", ").parse() {
        headers.insert(ACCEPT, value);
    }
    headers
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
