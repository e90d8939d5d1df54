//! What a registry says no to, each with the code that the specification has for it.

use base::{Digest, Failure, Kind, fs};

use super::name::{Name, Repository, Tag, UploadId};

/// The result of a registry's operation.
pub type Result<T> = std::result::Result<T, Error>;

/// The specification's error codes ("Error Codes"), and Docker's for what it leaves out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "the specification tells")]
pub enum Code {
    BlobUnknown,
    BlobUploadInvalid,
    BlobUploadUnknown,
    DigestInvalid,
    ManifestBlobUnknown,
    ManifestInvalid,
    ManifestUnknown,
    NameInvalid,
    NameUnknown,
    SizeInvalid,
    Unauthorized,
    Denied,
    Unsupported,
    TooManyRequests,
    /// Docker's: `n` or `last` of a list make no sense.
    PaginationInvalid,
    /// Docker's: our own fault, or another registry's.
    Unknown,
}

impl Code {
    /// As clients read it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::BlobUnknown => "BLOB_UNKNOWN",
            Self::BlobUploadInvalid => "BLOB_UPLOAD_INVALID",
            Self::BlobUploadUnknown => "BLOB_UPLOAD_UNKNOWN",
            Self::DigestInvalid => "DIGEST_INVALID",
            Self::ManifestBlobUnknown => "MANIFEST_BLOB_UNKNOWN",
            Self::ManifestInvalid => "MANIFEST_INVALID",
            Self::ManifestUnknown => "MANIFEST_UNKNOWN",
            Self::NameInvalid => "NAME_INVALID",
            Self::NameUnknown => "NAME_UNKNOWN",
            Self::SizeInvalid => "SIZE_INVALID",
            Self::Unauthorized => "UNAUTHORIZED",
            Self::Denied => "DENIED",
            Self::Unsupported => "UNSUPPORTED",
            Self::TooManyRequests => "TOOMANYREQUESTS",
            Self::PaginationInvalid => "PAGINATION_NUMBER_INVALID",
            Self::Unknown => "UNKNOWN",
        }
    }
}

/// Why a registry did not do what it was asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// No such repository.
    #[error("there is no repository `{0}`")]
    Repository(Repository),
    /// No such blob.
    #[error("the repository `{repository}` has no blob {digest}")]
    Blob {
        /// Where it was looked for.
        repository: Repository,
        /// Which.
        digest: Digest,
    },
    /// No such manifest.
    #[error("the repository `{repository}` has no manifest `{name}`")]
    Manifest {
        /// Where it was looked for.
        repository: Repository,
        /// Which.
        name: Name,
    },
    /// No such tag.
    #[error("the repository `{repository}` has no tag `{tag}`")]
    Tag {
        /// Where it was looked for.
        repository: Repository,
        /// Which.
        tag: Tag,
    },
    /// No such upload, or none of this repository.
    #[error("there is no upload {0}: it has ended, or was given up")]
    Upload(UploadId),
    /// A piece that does not follow the last one.
    #[error("the upload has {has} bytes, and this piece begins at {begins}")]
    OutOfOrder {
        /// The end of what is here.
        has: u64,
        /// Where the piece begins.
        begins: u64,
    },
    /// Too many unfinished uploads.
    #[error("there are {0} unfinished uploads")]
    TooManyUploads(usize),
    /// Content other than claimed.
    #[error("the content has the digest {found}, not {wanted}")]
    Digest {
        /// What was claimed.
        wanted: Digest,
        /// What it is.
        found: Digest,
    },
    /// A manifest that is none.
    #[error("the manifest cannot be kept: {0}")]
    Document(String),
    /// A manifest of what is not here.
    #[error("the manifest needs {what} {digest}, which the repository does not have")]
    Incomplete {
        /// `the blob`, or `the manifest`.
        what: &'static str,
        /// Which.
        digest: Digest,
    },
    /// A manifest of too many bytes.
    #[error("a manifest has at most {0} bytes")]
    TooLarge(u64),
    /// Stored content that is not what it was.
    #[error("the stored content {0} is damaged")]
    Damaged(Digest),
    /// A record that is not what we wrote.
    #[error("the record {} is broken", .0.display())]
    Record(std::path::PathBuf),
    /// A directory that is no registry's.
    #[error("{} is not empty, and is no registry's directory", .0.display())]
    NotOurs(std::path::PathBuf),
    /// A registry by a later version of Dhow.
    #[error("the registry in {} was written by a newer version of Dhow", .0.display())]
    Newer(std::path::PathBuf),
    /// No randomness.
    #[error("cannot name an upload")]
    Random(#[source] std::io::Error),
    /// A file operation failed.
    #[error(transparent)]
    File(#[from] fs::Error),
    /// The store of local images failed.
    #[error(transparent)]
    Images(#[from] image::Error),
    /// The registry that is mirrored does not give what it was asked for.
    #[error("{0}")]
    Upstream(crate::Error),
    /// A transfer from the mirrored registry has failed; why, its first reader was told.
    #[error("{0}")]
    Transfer(String),
    /// An address that cannot be mirrored.
    #[error("cannot mirror `{url}`: {why}")]
    MirrorUrl {
        /// As it was given.
        url: String,
        /// Why not.
        why: &'static str,
    },
}

impl Error {
    /// The code for clients.
    pub fn code(&self) -> Code {
        match self {
            Self::Repository(_) => Code::NameUnknown,
            Self::Blob { .. } => Code::BlobUnknown,
            Self::Manifest { .. } | Self::Tag { .. } => Code::ManifestUnknown,
            Self::Upload(_) => Code::BlobUploadUnknown,
            Self::OutOfOrder { .. } => Code::BlobUploadInvalid,
            Self::TooManyUploads(_) => Code::TooManyRequests,
            Self::Digest { .. } => Code::DigestInvalid,
            Self::Document(_) => Code::ManifestInvalid,
            Self::Incomplete { .. } => Code::ManifestBlobUnknown,
            Self::TooLarge(_) => Code::SizeInvalid,
            Self::Upstream(e) if matches!(e.kind(), Kind::Unauthorized | Kind::Permission) => Code::Denied,
            _ => Code::Unknown,
        }
    }
}

impl Failure for Error {
    fn kind(&self) -> Kind {
        match self {
            Self::Repository(_)
            | Self::Blob { .. }
            | Self::Manifest { .. }
            | Self::Tag { .. }
            | Self::Upload(_) => Kind::NotFound,
            Self::OutOfOrder { .. } => Kind::Conflict,
            Self::TooManyUploads(_) => Kind::Exhausted,
            Self::Digest { .. }
            | Self::Document(_)
            | Self::Incomplete { .. }
            | Self::TooLarge(_)
            | Self::NotOurs(_)
            | Self::MirrorUrl { .. } => Kind::Invalid,
            Self::Damaged(_) | Self::Record(_) => Kind::Corrupt,
            Self::Newer(_) => Kind::Unsupported,
            Self::Random(_) => Kind::Internal,
            Self::File(e) => e.kind(),
            Self::Images(e) => e.kind(),
            Self::Upstream(e) => e.kind(),
            Self::Transfer(_) => Kind::Unavailable,
        }
    }

    fn hints(&self) -> Vec<String> {
        match self {
            Self::NotOurs(_) => vec!["name a new or an empty directory".to_owned()],
            Self::File(e) => e.hints(),
            Self::Images(e) => e.hints(),
            Self::Upstream(e) => e.hints(),
            Self::TooManyUploads(_) => {
                vec!["try again later: unfinished uploads are given up in time".to_owned()]
            }
            _ => Vec::new(),
        }
    }
}
