//! Manifests of a repository: put, get, removed.

use base::Digest;
use base::fs::{self, Durability};
use serde::{Deserialize, Serialize};
use serde_json::json;
use state::lock::Lock;

use super::Registry;
use super::document::{Described, Understood, understand};
use super::error::{Error, Result};
use super::name::{Name, Repository, Tag};
use super::tree::{self, Tree};

/// A manifest as it was put.
#[derive(Debug, Clone)]
pub struct Manifest {
    /// Its digest.
    pub digest: Digest,
    /// What it is called.
    pub media_type: String,
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// What is wrong with it nonetheless: the registry behind a mirror could not be asked, say.
    pub warning: Option<String>,
}

/// What putting a manifest has led to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Put {
    /// Its digest.
    pub digest: Digest,
    /// What it refers to.
    pub subject: Option<Digest>,
    /// Why it is no local image, if it was to be one.
    pub not_local: Option<String>,
}

/// A manifest's record.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Record {
    #[serde(flatten)]
    pub(super) described: Described,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) subject: Option<Digest>,
}

/// A tag's record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Tagged {
    pub(super) digest: Digest,
    /// It follows a local image: it goes with that one's name.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(super) local: bool,
}

impl Registry {
    /// Keeps a manifest under a tag or its own digest. Whatever it needs must be here.
    pub fn put_manifest(
        &self,
        repository: &Repository,
        name: &Name,
        content_type: Option<&str>,
        bytes: &[u8],
    ) -> Result<Put> {
        let understood = understand(bytes, content_type)?;
        let digest = understood.described.digest;
        if let Name::Digest(wanted) = name
            && *wanted != digest
        {
            return Err(Error::Digest { wanted: *wanted, found: digest });
        }
        {
            // Until its record is written, nobody may sweep away what it needs.
            let _held = self.tree.hold()?;
            self.refuse_incomplete(repository, &understood)?;
            self.keep_manifest(repository, &understood, bytes)?;
        }
        let mut put = Put { digest, subject: understood.subject, not_local: None };
        if let Name::Tag(tag) = name {
            put.not_local = self.tag(repository, tag, &digest)?;
        }
        Ok(put)
    }

    fn refuse_incomplete(&self, repository: &Repository, understood: &Understood) -> Result<()> {
        for digest in &understood.blobs {
            let path = self.tree.own_blob(repository, digest);
            let Ok(about) = std::fs::metadata(&path) else {
                return Err(Error::Incomplete { what: "the blob", digest: *digest });
            };
            if let Some(size) = understood.sizes.get(digest).filter(|size| **size != about.len()) {
                let text = format!("it says that {digest} has {size} bytes, but that has {}", about.len());
                return Err(Error::Document(text));
            }
        }
        let missing = |digest: &&Digest| !self.tree.manifest(repository, digest).exists();
        match understood.manifests.iter().find(missing) {
            Some(digest) => Err(Error::Incomplete { what: "the manifest", digest: *digest }),
            None => Ok(()),
        }
    }

    /// Blob, record, and the entry below its subject, in this order. The caller holds the tree.
    pub(super) fn keep_manifest(
        &self,
        repository: &Repository,
        understood: &Understood,
        bytes: &[u8],
    ) -> Result<()> {
        let Understood { described, subject, .. } = understood;
        self.tree.ensure(repository)?;
        self.with_temporary(bytes, |file| self.tree.keep(repository, &described.digest, file))?;
        let record = Record { described: described.clone(), subject: *subject };
        tree::write(&self.tree.manifest(repository, &described.digest), &record)?;
        if let Some(subject) = subject {
            let dir = self.tree.referrers(repository, subject);
            fs::create_dir_all(&dir, 0o700)?;
            tree::write(&dir.join(described.digest.hex()), described)?;
        }
        Ok(())
    }

    /// A manifest by tag or digest.
    pub fn manifest(&self, repository: &Repository, name: &Name) -> Result<Manifest> {
        let digest = match name {
            Name::Digest(digest) => *digest,
            Name::Tag(tag) => self.resolve(repository, tag)?,
        };
        let unknown = || self.no_manifest(repository, name);
        let record: Record = match tree::read(&self.tree.manifest(repository, &digest))? {
            Some(record) => record,
            None if self.adopt_digest(repository, &digest)? => {
                tree::read(&self.tree.manifest(repository, &digest))?.ok_or_else(unknown)?
            }
            None => return Err(unknown()),
        };
        let path = self.tree.own_blob(repository, &digest);
        let bytes = fs::read_if_exists(&path)?.ok_or_else(unknown)?;
        if Digest::of(&bytes) != digest {
            return Err(Error::Damaged(digest));
        }
        Ok(Manifest { digest, media_type: record.described.media_type, bytes, warning: None })
    }

    /// Removes a manifest, with the tags that mean it.
    pub fn delete_manifest(&self, repository: &Repository, digest: &Digest) -> Result<()> {
        let _held = self.tree.hold()?;
        let path = self.tree.manifest(repository, digest);
        let Some(record) = tree::read::<Record>(&path)? else {
            return Err(self.no_manifest(repository, &Name::Digest(*digest)));
        };
        {
            let _alone = self.alone_in(repository)?;
            for tag in self.own_tags(repository)? {
                if self.tagged(repository, &tag)?.is_some_and(|tagged| tagged.digest == *digest) {
                    self.forget_local(repository, &tag)?;
                    fs::remove_file(&self.tree.tag(repository, &tag))?;
                }
            }
            self.write_index(repository)?;
        }
        if let Some(subject) = record.subject {
            fs::remove_file(&self.tree.referrers(repository, &subject).join(digest.hex()))?;
        }
        fs::remove_file(&path)?;
        fs::remove_file(&self.tree.own_blob(repository, digest))?;
        Ok(())
    }

    /// Removes a tag.
    pub fn delete_tag(&self, repository: &Repository, tag: &Tag) -> Result<()> {
        let _held = self.tree.hold()?;
        let _alone =
            if self.tree.has_repository(repository) { Some(self.alone_in(repository)?) } else { None };
        let local = self.forget_local(repository, tag)?;
        if !fs::remove_file(&self.tree.tag(repository, tag))? && !local {
            return Err(self.no_manifest(repository, &Name::Tag(tag.clone())));
        }
        if self.tree.has_repository(repository) { self.write_index(repository) } else { Ok(()) }
    }

    /// Makes a tag mean a manifest that is here, and a local image of it where that can be. Tells why it cannot.
    fn tag(&self, repository: &Repository, tag: &Tag, digest: &Digest) -> Result<Option<String>> {
        let _alone = self.alone_in(repository)?;
        // First the tag: were the name there and we died, it would mean something that the tag does not.
        let mut tagged = Tagged { digest: *digest, local: false };
        tree::write(&self.tree.tag(repository, tag), &tagged)?;
        let not_local = match self.become_local(repository, tag, digest)? {
            Ok(local) => {
                if local {
                    tagged.local = true;
                    tree::write(&self.tree.tag(repository, tag), &tagged)?;
                }
                None
            }
            Err(why) => Some(why),
        };
        self.write_index(repository)?;
        Ok(not_local)
    }

    pub(super) fn set_tag(&self, repository: &Repository, tag: &Tag, tagged: &Tagged) -> Result<()> {
        let _alone = self.alone_in(repository)?;
        self.write_tag(repository, tag, tagged)
    }

    /// The caller is alone in the repository.
    pub(super) fn write_tag(&self, repository: &Repository, tag: &Tag, tagged: &Tagged) -> Result<()> {
        if self.tagged(repository, tag)?.as_ref() != Some(tagged) {
            tree::write(&self.tree.tag(repository, tag), tagged)?;
            self.write_index(repository)?;
        }
        Ok(())
    }

    pub(super) fn tagged(&self, repository: &Repository, tag: &Tag) -> Result<Option<Tagged>> {
        tree::read(&self.tree.tag(repository, tag))
    }

    /// The lock of a repository's tags.
    pub(super) fn alone_in(&self, repository: &Repository) -> Result<Lock> {
        Ok(Lock::exclusive(&self.tree.repository(repository))?)
    }

    /// `index.json` of a repository, for tools that read OCI layouts. A crash before it is written leaves an old one.
    pub(super) fn write_index(&self, repository: &Repository) -> Result<()> {
        let mut manifests = Vec::new();
        for tag in self.own_tags(repository)? {
            let Some(tagged) = self.tagged(repository, &tag)? else { continue };
            let path = self.tree.manifest(repository, &tagged.digest);
            let Some(Record { mut described, .. }) = tree::read(&path)? else { continue };
            described
                .annotations
                .insert("org.opencontainers.image.ref.name".to_owned(), tag.as_str().to_owned());
            manifests.push(described);
        }
        let index = json!({
            "schemaVersion": 2,
            "mediaType": oci::image::media_type::INDEX,
            "manifests": manifests,
        });
        let path = self.tree.repository(repository).join("index.json");
        Ok(fs::write_atomic(&path, index.to_string().as_bytes(), Durability::Volatile)?)
    }

    pub(super) fn no_manifest(&self, repository: &Repository, name: &Name) -> Error {
        if !self.exists(repository) {
            return Error::Repository(repository.clone());
        }
        match name {
            Name::Tag(tag) => Error::Tag { repository: repository.clone(), tag: tag.clone() },
            Name::Digest(_) => Error::Manifest { repository: repository.clone(), name: name.clone() },
        }
    }
}

/// All blobs and manifests that a repository's manifests need.
pub(super) fn needed(tree: &Tree, repository: &Repository) -> Result<std::collections::HashSet<Digest>> {
    let mut needed = std::collections::HashSet::new();
    for digest in Tree::digests(&tree.repository(repository).join("manifests"))? {
        needed.insert(digest);
        let path = tree.own_blob(repository, &digest);
        let Some(bytes) = fs::read_if_exists(&path)? else { continue };
        // What cannot be understood any more needs nothing that could be known.
        let Ok(understood) = understand(&bytes, None) else { continue };
        needed.extend(
            understood.blobs.into_iter().chain(understood.manifests).chain(understood.sizes.into_keys()),
        );
    }
    Ok(needed)
}
