//! Archives and layouts: `docker save`, OCI archives, OCI layout directories.
//!
//! An archive may come through a pipe and have its table of contents at the end, so every member goes to a
//! file of the ingest on the way past, hashed. Only when the whole is read and every document in it is checked
//! do those that images need become blobs, by rename. One that lies in a file is looked through first: then its layers
//! are read once, on their way to both the store and whoever unpacks them, all at once ([`Images::receive`]). A broken
//! archive leaves nothing.
//!
//! Names in an archive are keys of a table here, never paths on this machine. A layout's directory is opened
//! through [`base::Root`], so that its links cannot lead out of it.

mod archive;
mod docker;
mod files;
mod oci_layout;

use std::collections::BTreeSet;
use std::fs::File;
use std::io::Read;
use std::path::PathBuf;

use base::{Digest, Failure, Kind};
use oci::image::Platform;

use self::files::{Files, Place, PlaceReader};
use crate::manifest::DocumentError;
use crate::{Ingest, Reference, platform, store};

/// The annotation with an image's name in an OCI layout (image-layout.md).
pub(crate) const REF_NAME: &str = "org.opencontainers.image.ref.name";
/// The annotation with an image's whole name, as containerd and Docker write it.
pub(crate) const CONTAINERD_NAME: &str = "io.containerd.image.name";

/// Where the images come from.
pub enum Source<'s> {
    /// A file, or the directory of an OCI layout.
    Path(PathBuf),
    /// A stream that cannot seek.
    Stream(&'s mut dyn Read),
}

/// An image that is in the store now, but has no name yet: unpack its layers, then [`Ingest::commit`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// The name that the archive gives it.
    pub reference: Option<Reference>,
    /// Its manifest.
    pub manifest: Digest,
    /// The index that the manifest was chosen from.
    pub source: Option<Digest>,
}

/// The result of loading.
pub type Result<T> = std::result::Result<T, Error>;

/// Why an archive or layout gave no images.
#[derive(Debug, thiserror::Error)]
#[error("cannot load {origin}")]
pub struct Error {
    /// The file, or `standard input`.
    pub origin: String,
    /// Why.
    #[source]
    pub cause: Cause,
}

/// Why an archive or layout gave no images.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Cause {
    /// The store failed, or found that content is not what it should be.
    #[error(transparent)]
    Store(#[from] store::Error),
    /// A file operation failed.
    #[error(transparent)]
    File(#[from] base::fs::Error),
    /// The stream failed.
    #[error("it cannot be read")]
    Read(#[source] std::io::Error),
    /// The compressed stream is broken.
    #[error("its compression is broken")]
    Compression(#[source] std::io::Error),
    /// The archive was cut off.
    #[error("it ends too early: it is truncated")]
    Truncated,
    /// Not a tar archive.
    #[error("it is neither a tar archive (plain, gzip or zstd) nor the directory of an OCI layout")]
    NotAnArchive,
    /// A compression that we lack.
    #[error("it is compressed with {0}, which we cannot read")]
    UnknownCompression(&'static str),
    /// A tar archive that is broken further down.
    #[error("its tar format is broken")]
    Tar(#[source] tar_core::parse::ParseError),
    /// A tar archive of something else.
    #[error("it holds no images: it has neither an OCI layout's `index.json` nor Docker's `manifest.json`")]
    NoImages,
    /// Docker's format before version 1.10.
    #[error("it is of Docker's format before version 1.10, which carries no digests that could be verified")]
    Legacy,
    /// A list of images with none in it.
    #[error("it holds no images: its list of them is empty")]
    Empty,
    /// Something in it is not there.
    #[error("it lacks `{0}`")]
    Missing(String),
    /// Two members of one name.
    #[error("it has two members called `{0}`")]
    Duplicate(String),
    /// More than anybody's archive has.
    #[error("it has more than {0}")]
    TooMany(&'static str),
    /// A member that is not a plain file.
    #[error("its member `{0}` is not a plain file")]
    NotAFile(String),
    /// A document in it that is none.
    #[error("its `{name}` cannot be used")]
    Document {
        /// The member.
        name: String,
        /// Why.
        source: DocumentError,
    },
    /// A member whose content is not what its name or a manifest says.
    #[error("its member `{name}` has the digest {found}, not {wanted}")]
    Digest {
        /// The member.
        name: String,
        /// What it should have.
        wanted: Digest,
        /// What it has.
        found: Digest,
    },
    /// A member of another size than its descriptor says.
    #[error("its member `{name}` has {found} bytes, not {wanted}")]
    Size {
        /// The member.
        name: String,
        /// What it should have.
        wanted: u64,
        /// What it has.
        found: u64,
    },
    /// A name that is none.
    #[error("it names an image badly")]
    Name(#[source] crate::reference::ParseReferenceError),
    /// Nothing for this machine.
    #[error("it has no image for {wanted}, only for {offered}")]
    NoPlatform {
        /// What was asked for.
        wanted: String,
        /// What there is.
        offered: String,
    },
}

impl Failure for Error {
    fn kind(&self) -> Kind {
        match &self.cause {
            Cause::Store(e) => e.kind(),
            Cause::File(e) => e.kind(),
            Cause::Document { source, .. } => source.kind(),
            Cause::UnknownCompression(_) | Cause::Legacy => Kind::Unsupported,
            Cause::NotAnArchive | Cause::NoImages | Cause::NoPlatform { .. } => Kind::Invalid,
            _ => Kind::Corrupt,
        }
    }

    fn hints(&self) -> Vec<String> {
        match &self.cause {
            Cause::Store(e) => e.hints(),
            Cause::File(e) => e.hints(),
            Cause::Document { source, .. } => source.hints(),
            Cause::NotAnArchive | Cause::NoImages => {
                vec![
                    "give what `docker save` wrote, an OCI archive, or the directory of an OCI layout"
                        .to_owned(),
                ]
            }
            Cause::UnknownCompression(what) => vec![format!("decompress it with {what} first")],
            Cause::Legacy => vec!["load it into a current Docker, and save it there again".to_owned()],
            Cause::Truncated => vec!["make or fetch the archive again".to_owned()],
            _ => Vec::new(),
        }
    }
}

/// The images of an archive or layout: their documents are in the store, and all layers but those that are pending.
#[derive(Debug)]
pub struct Images {
    /// What there is.
    pub found: Vec<Found>,
    /// Layers that are still in the archive: [`Images::receive`] each, before anything is committed.
    pub pending: Vec<Pending>,
    file: Option<File>,
    origin: String,
}

/// A layer that is still in the archive's file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pending {
    /// The digest that its blob shall have.
    pub digest: Digest,
    name: String,
    place: Place,
}

impl Pending {
    /// The length of its blob.
    pub fn size(&self) -> u64 {
        self.place.size
    }
}

impl Images {
    /// Reads a layer into the store, and past `with` on the way, which need not read to its end. What `with` says is
    /// returned; but where the layer is not what it should be, that comes first.
    pub fn receive<T>(
        &self,
        ingest: &Ingest,
        pending: &Pending,
        with: impl FnOnce(&mut dyn Read) -> T,
    ) -> Result<T> {
        let failed = |cause| Error { origin: self.origin.clone(), cause };
        let file = self.file.as_ref().ok_or_else(|| failed(Cause::Missing(pending.name.clone())))?;
        let reader = PlaceReader::new(file, pending.place);
        let received = (|| {
            let mut receiver = ingest.receive(&pending.digest, Some(pending.place.size), reader)?;
            let said = with(&mut receiver);
            receiver.finish()?;
            Ok(said)
        })();
        received.map_err(|error| {
            failed(match error {
                store::Error::Digest { wanted, found } => {
                    Cause::Digest { name: pending.name.clone(), wanted, found }
                }
                // The file is shorter than its headers said.
                store::Error::Size { .. } => Cause::Truncated,
                other => other.into(),
            })
        })
    }
}

/// Reads a whole archive or layout into the store. Nothing has a name before [`Ingest::commit`], so that a
/// broken archive leaves nothing.
pub fn read(ingest: &Ingest, source: Source<'_>, wanted: Option<&Platform>) -> Result<Vec<Found>> {
    let images = open(ingest, source, wanted)?;
    for pending in &images.pending {
        images.receive(ingest, pending, |_| ())?;
    }
    Ok(images.found)
}

/// Reads an archive or layout as far as that must be one thing after the other. Nothing has a name before
/// [`Ingest::commit`], so that a broken archive leaves nothing. Of an image for several platforms, the one for
/// `wanted` is taken (none: this machine's), and of images for one, only those for `wanted` (none: all of them).
pub fn open(ingest: &Ingest, source: Source<'_>, wanted: Option<&Platform>) -> Result<Images> {
    let origin = match &source {
        Source::Path(path) => path.display().to_string(),
        Source::Stream(_) => "standard input".to_owned(),
    };
    match open_any(ingest, source, wanted) {
        Ok((found, pending, file)) => Ok(Images { found, pending, file, origin }),
        Err(cause) => Err(Error { origin, cause }),
    }
}

/// What images need of an archive, everything checked: only now is anything put into the store.
#[derive(Default)]
struct Plan {
    /// Members that become blobs.
    members: Vec<String>,
    /// Layers that stay in the archive until they are unpacked.
    pending: Vec<Pending>,
    /// Blobs that we made ourselves.
    documents: Vec<Vec<u8>>,
    found: Vec<Found>,
    /// The platforms of images that nobody wants.
    left_out: BTreeSet<String>,
}

impl Plan {
    /// Leaves out an image that is for another platform than the one wanted; true if it is.
    fn leaves_out(&mut self, offered: &Platform, wanted: Option<&Platform>) -> bool {
        let other = wanted.is_some_and(|wanted| !platform::suits(offered, wanted));
        if other {
            self.left_out.insert(platform::display(offered));
        }
        other
    }

    /// Why there is nothing in it.
    fn nothing(&self, wanted: Option<&Platform>) -> Cause {
        match wanted {
            Some(wanted) if !self.left_out.is_empty() => {
                let offered: Vec<&str> = self.left_out.iter().take(20).map(String::as_str).collect();
                Cause::NoPlatform {
                    wanted: platform::display(wanted),
                    offered: files::shown(&offered.join(", ")),
                }
            }
            _ => Cause::NoImages,
        }
    }
}

type Opened = (Vec<Found>, Vec<Pending>, Option<File>);

fn open_any(
    ingest: &Ingest,
    source: Source<'_>,
    wanted: Option<&Platform>,
) -> std::result::Result<Opened, Cause> {
    let mut files = Files::open(ingest, source)?;
    let plan = if files.contains("oci-layout") && files.contains("index.json") {
        oci_layout::plan(&mut files, wanted)?
    } else if files.contains("manifest.json") {
        docker::plan(&mut files, wanted)?
    } else if files.contains("repositories") {
        return Err(Cause::Legacy);
    } else {
        return Err(Cause::NoImages);
    };
    for name in &plan.members {
        files.keep(name)?;
    }
    for document in &plan.documents {
        ingest.write_blob(&Digest::of(document), Some(document.len() as u64), &**document)?;
    }
    let mut pending: Vec<Pending> = Vec::new();
    for layer in plan.pending {
        // A document of this archive may be what another calls a layer, and one layer be in several images.
        if !ingest.has_blob(&layer.digest)? && !pending.iter().any(|other| other.digest == layer.digest) {
            pending.push(layer);
        }
    }
    Ok((plan.found, pending, files.file))
}
