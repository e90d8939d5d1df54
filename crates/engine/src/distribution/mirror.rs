//! A pull-through cache: what clients ask for is fetched from another registry, kept, and served from here.
//!
//! A tag is asked for again each time (one HEAD); what it means is fetched only where that has changed. Where the other
//! registry is away, what the tag meant last is served with a warning. Blobs are fetched if a manifest that was served
//! needs them; their bytes go to the client as they come (see `transfer`), once for all who wait.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use base::{Digest, Failure, Kind};
use registry::{BlobRequest, Client, Finished, Location, Opened, Sink};

use super::document::understand;
use super::error::{Error, Result};
use super::manifests::{Manifest, Tagged};
use super::name::{Name, Repository};
use super::transfer::{Filling, Transfer};
use super::tree::{self, Tree};
use super::{Content, Registry};
use crate::Engine;

/// The registry that is mirrored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Upstream {
    host: String,
    /// What goes before each repository's name there.
    prefix: String,
}

impl Upstream {
    /// From an address: `https://ghcr.io`, `registry.example.com/team`. Plain HTTP is for the loopback interface.
    pub fn parse(url: &str) -> Result<Self> {
        let bad = |why| Error::MirrorUrl { url: url.chars().take(200).collect(), why };
        let (scheme, rest) = match url.split_once("://") {
            Some((scheme, rest)) => (Some(scheme), rest),
            None => (None, url),
        };
        let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
        let path = path.trim_matches('/');
        let path =
            path.strip_prefix("v2").filter(|rest| rest.is_empty() || rest.starts_with('/')).unwrap_or(path);
        let prefix = path.trim_start_matches('/');
        let known = format!("{host}/x").parse::<image::Reference>();
        // Only a host is taken for one there.
        let Some(host) = known
            .ok()
            .map(|r| r.registry().to_owned())
            .filter(|_| host.contains(['.', ':']) || host == "localhost")
        else {
            return Err(bad("want a registry's host, such as https://registry.example.com"));
        };
        if !prefix.is_empty() && prefix.parse::<Repository>().is_err() {
            return Err(bad("its path is no part of a repository's name"));
        }
        let host = if host == "registry-1.docker.io" { "docker.io".to_owned() } else { host };
        match scheme {
            None | Some("https") => {}
            Some("http") if is_loopback(&host) => {}
            Some("http") => return Err(bad("plain HTTP is spoken only on the loopback interface")),
            Some(_) => return Err(bad("want https://")),
        }
        if scheme == Some("https") && is_loopback(&host) {
            return Err(bad("registries on the loopback interface are spoken to in plain HTTP"));
        }
        Ok(Self { host, prefix: prefix.to_owned() })
    }

    /// The other registry's host.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// As a directory is called. A host is letters, digits, dots, hyphens, brackets and colons.
    pub(super) fn file_name(&self) -> String {
        format!("{} {}", self.host, self.prefix.replace('/', "+")).trim_end().to_owned()
    }

    fn location(&self, repository: &Repository) -> Location {
        let mut path = repository.as_str().to_owned();
        if !self.prefix.is_empty() {
            path = format!("{}/{path}", self.prefix);
        } else if self.host == "docker.io" && !path.contains('/') {
            path = format!("library/{path}");
        }
        Location { host: self.host.clone(), repository: path }
    }
}

fn is_loopback(host: &str) -> bool {
    let name = host.rsplit_once(':').map_or(host, |(name, _)| name).trim_matches(['[', ']']);
    name == "localhost" || name.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// What is being fetched: once for all who ask.
type Coming = Arc<Mutex<HashMap<(Repository, Digest), Arc<Transfer>>>>;

/// The client, and what it is fetching.
pub(super) struct Mirror {
    upstream: Upstream,
    /// How long a manifest stays that nobody asks for.
    pub(super) keep: Duration,
    client: Arc<Client>,
    coming: Coming,
}

impl Mirror {
    pub(super) fn new(upstream: &Upstream, keep: Duration, engine: Option<&Engine>) -> crate::Result<Self> {
        let client = if let Some(engine) = engine {
            engine.registry_client()?
        } else {
            let credentials = crate::registries::remote::credentials()?;
            Client::new(registry::Settings { credentials, ..Default::default() })?
        };
        Ok(Self { upstream: upstream.clone(), keep, client: Arc::new(client), coming: Arc::default() })
    }
}

impl Registry {
    /// A manifest by tag or digest, from here or, in a mirror, from there.
    pub fn get_manifest(&self, repository: &Repository, name: &Name) -> Result<Manifest> {
        let Some(mirror) = &self.mirror else { return self.manifest(repository, name) };
        let manifest = self.mirrored(mirror, repository, name)?;
        // How long ago somebody asked for it, more or less.
        let path = self.tree.manifest(repository, &manifest.digest);
        if tree::age(&path).is_some_and(|age| age > mirror.keep.as_secs() / 30) {
            tree::touch(&path);
        }
        Ok(manifest)
    }

    fn mirrored(&self, mirror: &Mirror, repository: &Repository, name: &Name) -> Result<Manifest> {
        match name {
            Name::Digest(_) => match self.manifest(repository, name) {
                Ok(manifest) => Ok(manifest),
                Err(error) if error.kind() == Kind::NotFound => self.fetch_manifest(mirror, repository, name),
                Err(error) => Err(error),
            },
            Name::Tag(tag) => {
                let kept = self.tagged(repository, tag)?.map(|tagged| tagged.digest);
                let kept = kept.filter(|digest| self.tree.manifest(repository, digest).exists());
                let location = mirror.upstream.location(repository);
                let fetched = match mirror.client.manifest_digest(&location, tag.as_str()) {
                    Ok(now) if now.is_some() && now == kept => return self.manifest(repository, name),
                    Ok(_) => self.fetch_manifest(mirror, repository, name),
                    Err(error) => Err(self.no_answer(repository, name, error)),
                };
                match fetched {
                    Err(Error::Upstream(error)) if error.kind() == Kind::Unavailable && kept.is_some() => {
                        let mut manifest = self.manifest(repository, name)?;
                        manifest.warning = Some(format!("{} could not be asked", mirror.upstream.host));
                        Ok(manifest)
                    }
                    other => other,
                }
            }
        }
    }

    /// In a mirror, the tags that the other registry has; none where it cannot be asked.
    pub(super) fn tags_upstream(&self, repository: &Repository) -> Result<Option<Vec<String>>> {
        let Some(mirror) = &self.mirror else { return Ok(None) };
        match mirror.client.tags(&mirror.upstream.location(repository)) {
            Ok(tags) => Ok(Some(tags)),
            Err(error) => match error.kind() {
                Kind::Unavailable => Ok(None),
                Kind::NotFound => Err(Error::Repository(repository.clone())),
                _ => Err(Error::Upstream(error.into())),
            },
        }
    }

    fn fetch_manifest(&self, mirror: &Mirror, repository: &Repository, name: &Name) -> Result<Manifest> {
        let location = mirror.upstream.location(repository);
        let answer = mirror.client.manifest(&location, &name.to_string());
        let answer = answer.map_err(|error| self.no_answer(repository, name, error))?;
        let understood = understand(&answer.bytes, answer.media_type.as_deref())?;
        {
            let _held = self.tree.hold()?;
            self.keep_manifest(repository, &understood, &answer.bytes)?;
        }
        if let Name::Tag(tag) = name {
            self.set_tag(repository, tag, &Tagged { digest: answer.digest, local: false })?;
        }
        let media_type = understood.described.media_type;
        Ok(Manifest { digest: answer.digest, media_type, bytes: answer.bytes, warning: None })
    }

    fn no_answer(&self, repository: &Repository, name: &Name, error: registry::Error) -> Error {
        match error.kind() {
            Kind::NotFound => self.no_manifest(repository, name),
            _ => Error::Upstream(error.into()),
        }
    }

    /// A blob, from here or, in a mirror, from there.
    pub fn content(&self, repository: &Repository, digest: &Digest) -> Result<Content> {
        let Some(mirror) = &self.mirror else { return self.blob(repository, digest).map(Content::Whole) };
        let key = (repository.clone(), *digest);
        let mut coming = mirror.coming.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(transfer) = coming.get(&key).map(Arc::clone) {
            drop(coming);
            return transfer.await_begin().map(|()| Content::Coming(transfer));
        }
        match self.blob(repository, digest) {
            Err(error) if error.kind() == Kind::NotFound => {}
            other => return other.map(Content::Whole),
        }
        let Some(size) = self.announced_size(repository, digest)? else {
            return Err(self.no_blob(repository, digest));
        };
        {
            // Somebody else's, from another repository of the same registry.
            let _held = self.tree.hold()?;
            if self.tree.link(repository, digest)? {
                return self.blob(repository, digest).map(Content::Whole);
            }
        }
        let path = self.tree.uploads().join(format!(".{}", tree::temporary_name()?));
        let transfer = Arc::new(Transfer::new(*digest, size, path)?);
        let work = Work {
            tree: self.tree.clone(),
            client: Arc::clone(&mirror.client),
            location: mirror.upstream.location(repository),
            repository: repository.clone(),
            transfer: Arc::clone(&transfer),
        };
        let registry = Arc::clone(&mirror.coming);
        let done = move || {
            let how = work.run();
            // First it is in its place, then it is not coming any more, then everybody knows.
            registry.lock().unwrap_or_else(PoisonError::into_inner).remove(&key);
            work.transfer.end(how);
        };
        let thread = std::thread::Builder::new().name("mirror".to_owned()).spawn(done);
        thread.map_err(|e| Error::Transfer(format!("cannot start a thread: {e}")))?;
        coming.insert((repository.clone(), *digest), Arc::clone(&transfer));
        drop(coming);
        transfer.await_begin().map(|()| Content::Coming(transfer))
    }

    /// The size that a manifest of the repository says a blob has; none if no manifest needs it.
    fn announced_size(&self, repository: &Repository, digest: &Digest) -> Result<Option<u64>> {
        for manifest in Tree::digests(&self.tree.repository(repository).join("manifests"))? {
            let bytes =
                base::fs::read_if_exists(&self.tree.own_blob(repository, &manifest))?.unwrap_or_default();
            let size = understand(&bytes, None).ok().and_then(|found| found.sizes.get(digest).copied());
            if size.is_some() {
                return Ok(size);
            }
        }
        Ok(None)
    }
}

/// What a thread does to bring a blob.
struct Work {
    tree: Tree,
    client: Arc<Client>,
    location: Location,
    repository: Repository,
    transfer: Arc<Transfer>,
}

impl Work {
    fn run(&self) -> std::result::Result<(), String> {
        let digest = self.transfer.digest();
        let wanted = [BlobRequest { digest, size: self.transfer.size() }];
        let open = |_: &BlobRequest| Ok(Opened::Sink(Arriving::new(&self.transfer)));
        let brought = self.client.blobs(&self.location, &wanted, 1, &open);
        brought.map_err(|error| base::failure::chain(&error))?;
        let kept = self
            .tree
            .hold()
            .and_then(|_held| self.tree.keep(&self.repository, &digest, self.transfer.path()));
        kept.map_err(|error| base::failure::chain(&error))
    }
}

/// Where the client puts what comes.
struct Arriving {
    transfer: Arc<Transfer>,
    filling: Filling,
    received: u64,
}

impl Arriving {
    fn new(transfer: &Arc<Transfer>) -> Self {
        Self { transfer: Arc::clone(transfer), filling: Filling::default(), received: 0 }
    }
}

impl Sink for Arriving {
    type Error = Error;

    fn received(&self) -> u64 {
        self.received
    }

    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.received += bytes.len() as u64;
        self.filling.write(&self.transfer, bytes)
    }

    /// A transfer that is not finished keeps nothing.
    fn forget(&mut self) -> Result<()> {
        Ok(())
    }

    fn finish(self) -> Result<Finished<Self>> {
        self.filling.finish(&self.transfer).map(|()| Finished::Done)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn addresses_of_registries_are_taken_and_others_are_not() {
        let at = |url: &str, name: &str| {
            let location = Upstream::parse(url).unwrap().location(&name.parse().unwrap());
            format!("{} {}", location.host, location.repository)
        };
        assert_eq!(at("https://registry-1.docker.io", "debian"), "docker.io library/debian");
        assert_eq!(at("docker.io", "team/app"), "docker.io team/app");
        assert_eq!(at("https://ghcr.io/v2/", "a"), "ghcr.io a");
        assert_eq!(at("http://127.0.0.1:5000/team", "a/b"), "127.0.0.1:5000 team/a/b");
        assert_eq!(at("localhost:5000", "a"), "localhost:5000 a");
        for bad in [
            "",
            "x",
            "ftp://x.io",
            "http://x.io",
            "https://",
            "https://x.io/A",
            "https://u@x.io",
            "https://x.io/../a",
        ] {
            assert!(Upstream::parse(bad).is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn no_address_makes_it_panic(text in "[a-zA-Z0-9:/@.\\[\\]é -]{0,40}") {
            let _ = Upstream::parse(&text);
        }
    }
}
