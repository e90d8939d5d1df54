//! Archives and layouts: `docker save`, OCI archives, OCI layout directories.
//!
//! An archive may come through a pipe and have its table of contents at the end, so every member goes to a
//! file of the ingest on the way past, hashed. Only when the whole is read and every document in it is checked
//! do those that images need become blobs, by rename. A broken archive leaves nothing.
//!
//! Names in an archive are keys of a table here, never paths on this machine. A layout's directory is opened
//! through [`base::Root`], so that its links cannot lead out of it.

mod archive;
mod docker;
mod files;
mod oci_layout;

use std::io::Read;
use std::path::PathBuf;

use base::{Digest, Failure, Kind};
use oci::image::Platform;

use self::files::Files;
use crate::manifest::DocumentError;
use crate::{Ingest, Reference, store};

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
            Cause::UnknownCompression(_) => Kind::Unsupported,
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
            Cause::Truncated => vec!["make or fetch the archive again".to_owned()],
            _ => Vec::new(),
        }
    }
}

/// Reads a whole archive or layout into the store. Nothing has a name before [`Ingest::commit`], so that a
/// broken archive leaves nothing.
pub fn read(ingest: &Ingest, source: Source<'_>, platform: &Platform) -> Result<Vec<Found>> {
    let origin = match &source {
        Source::Path(path) => path.display().to_string(),
        Source::Stream(_) => "standard input".to_owned(),
    };
    read_any(ingest, source, platform).map_err(|cause| Error { origin, cause })
}

/// What images need of an archive, everything checked: only now is anything put into the store.
#[derive(Default)]
struct Plan {
    /// Members that become blobs.
    members: Vec<String>,
    /// Blobs that we made ourselves.
    documents: Vec<Vec<u8>>,
    found: Vec<Found>,
}

fn read_any(
    ingest: &Ingest,
    source: Source<'_>,
    platform: &Platform,
) -> std::result::Result<Vec<Found>, Cause> {
    let mut files = Files::open(ingest, source)?;
    let plan = if files.contains("oci-layout") && files.contains("index.json") {
        oci_layout::plan(&mut files, platform)?
    } else if files.contains("manifest.json") {
        docker::plan(&mut files)?
    } else {
        return Err(Cause::NoImages);
    };
    for name in &plan.members {
        files.keep(name)?;
    }
    for document in &plan.documents {
        ingest.write_blob(&Digest::of(document), Some(document.len() as u64), &**document)?;
    }
    Ok(plan.found)
}
