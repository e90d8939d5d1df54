//! The client.

use std::io::Read;

use base::{Digest, Failure};

use crate::{Credentials, Result};

/// How to talk to registries.
#[derive(Clone, Default)]
pub struct Settings {
    /// Who we are, to registries' logs; empty: `dhow/<version>`.
    pub user_agent: String,
    /// Logins.
    pub credentials: Credentials,
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
pub struct Client {}

impl Client {
    /// Makes a client. Opens nothing yet.
    pub fn new(_settings: Settings) -> Result<Self> {
        todo!()
    }
    /// A manifest or index by tag or digest.
    pub fn manifest(&self, _location: &Location, _tag_or_digest: &str) -> Result<ManifestAnswer> {
        todo!()
    }
    /// A small blob (a configuration) in memory, verified.
    pub fn small_blob(&self, _location: &Location, _wanted: &BlobRequest) -> Result<Vec<u8>> {
        todo!()
    }
    /// Blobs, several at once. `sink` is called for each, on threads of their own, with the bytes as they come
    /// (not verified: that is the store's business), and ends the whole by failing.
    pub fn blobs<E: Failure>(
        &self,
        _location: &Location,
        _wanted: &[BlobRequest],
        _sink: &(dyn Fn(&BlobRequest, &mut dyn Read) -> std::result::Result<(), E> + Sync),
    ) -> Result<()> {
        todo!()
    }
    /// The repository's tags, the first thousand or so.
    pub fn tags(&self, _location: &Location) -> Result<Vec<String>> {
        todo!()
    }
}
