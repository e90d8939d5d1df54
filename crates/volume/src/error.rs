//! What can be wrong with volumes.

use std::io;
use std::path::PathBuf;

use base::failure::kind_of_io;
use base::{Failure, Id, Kind};

/// Why something about a volume cannot be done.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// There is none of this name.
    #[error("no such volume: {0}")]
    NotFound(String),
    /// Not a name.
    #[error(
        "invalid volume name `{0}`: want at least two letters, digits, `_`, `.` and `-`, the first a letter or digit"
    )]
    Name(String),
    /// A container, running or not, has it.
    #[error("cannot remove the volume {name}: it is in use by {}", of(.users))]
    InUse {
        /// Which.
        name: String,
        /// Who.
        users: Vec<Id>,
    },
    /// It is there already, and of another driver.
    #[error("the volume {0} exists already, with another driver or other options")]
    Different(String),
    /// There is one driver only.
    #[error("there is no volume driver `{0}`: `local` is the only one")]
    Driver(String),
    /// An option that the driver does not know.
    #[error("the volume driver `local` has no option `{0}`: it takes type, device and o")]
    Option(String),
    /// An option that others need.
    #[error("the option `{0}` of the volume is missing")]
    MissingOption(&'static str),
    /// What the options ask to be mounted.
    #[error("volumes of the type `{0}` are not supported")]
    Type(String),
    /// An option of what is to be mounted.
    #[error("the option o=`{0}` of the volume is not supported")]
    MountOption(String),
    /// Its record says nothing that we understand.
    #[error("cannot understand {}", path.display())]
    Broken {
        /// Which file.
        path: PathBuf,
        /// What the parser said.
        source: serde_json::Error,
    },
    /// A later version wrote its record.
    #[error("{} was written by a later version of Dhow (format {format})", path.display())]
    TooNew {
        /// Which file.
        path: PathBuf,
        /// Its format.
        format: u32,
    },
    /// The image's files could not be copied into it.
    #[error("cannot fill the volume {name} with what the image has at {path}")]
    Fill {
        /// Which.
        name: String,
        /// Where in the image.
        path: String,
        /// The volume's directory.
        place: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// What its options ask for could not be mounted.
    #[error("cannot mount the volume {name}")]
    Mount {
        /// Which.
        name: String,
        /// What the kernel said.
        source: io::Error,
    },
    /// No name for an anonymous one.
    #[error("cannot get randomness for a name")]
    Random(#[source] io::Error),
    /// A file operation.
    #[error(transparent)]
    File(#[from] base::fs::Error),
}

/// The result of a deed with volumes.
pub type Result<T> = std::result::Result<T, Error>;

impl Failure for Error {
    fn kind(&self) -> Kind {
        match self {
            Self::NotFound(_) => Kind::NotFound,
            Self::Name(_) | Self::Option(_) | Self::MissingOption(_) => Kind::Invalid,
            Self::InUse { .. } | Self::Different(_) => Kind::Conflict,
            Self::Driver(_) | Self::Type(_) | Self::MountOption(_) | Self::TooNew { .. } => Kind::Unsupported,
            Self::Broken { .. } => Kind::Corrupt,
            Self::Fill { source, .. } | Self::Mount { source, .. } => kind_of_io(source),
            Self::Random(_) => Kind::Internal,
            Self::File(e) => e.kind(),
        }
    }

    fn hints(&self) -> Vec<String> {
        match self {
            Self::Name(name) if name.contains('/') => {
                vec![format!("write the path of a directory of the host with ./ or / in front: ./{name}")]
            }
            Self::InUse { users, .. } => {
                let users: Vec<&str> = users.iter().map(Id::short).collect();
                vec![format!("remove what uses it first: dhow rm {}", users.join(" "))]
            }
            Self::Type(_) => {
                vec![
                    "mount it on the host, and give its directory: -o type=none -o o=bind -o device=DIR"
                        .to_owned(),
                ]
            }
            Self::TooNew { .. } => vec!["use the version that wrote it".to_owned()],
            Self::File(e) => e.hints(),
            Self::Fill { source, place, .. } if source.kind() == io::ErrorKind::StorageFull => {
                let mut hints = base::space::hints(source, place);
                hints.push("or do not copy what the image has there: nocopy".to_owned());
                hints
            }
            _ => Vec::new(),
        }
    }
}

fn of(users: &[Id]) -> String {
    users.iter().map(Id::short).collect::<Vec<_>>().join(", ")
}
