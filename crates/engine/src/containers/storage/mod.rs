//! What a container mounts besides its root: from what was asked to what is there.
//!
//! | when | what |
//! |---|---|
//! | created, before anything is touched (`plan`) | `--volumes-from` and the image's `VOLUME`s become mounts, anonymous volumes get names, images ids, names of users numbers |
//! | created, with a record that is not seen yet (`make`) | volumes are made, filled and held, until the record is seen |
//! | started (`find`) | every mount gets the path that it is of |
//! | removed (`remove`) | its anonymous volumes go before its record does |

mod find;
mod ids;
mod make;
mod plan;
mod remove;

use base::{Failure, Kind};

pub(crate) use find::{Found, Storage};
pub(crate) use ids::mappings;

/// What cannot be mounted.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("the source of the mount on {destination} does not exist: {path}")]
    NoSource { path: String, destination: String },
    #[error("the volume {0} of the container is gone")]
    VolumeGone(String),
    #[error("the image `{image}` of the mount on {destination} is not unpacked any more")]
    ImageGone { image: String, destination: String },
    #[error("there is no {what} `{name}` in {place}")]
    NoSuchId { what: &'static str, name: String, place: &'static str },
    #[error("the map of the mount on {destination} gives {what} {id} twice")]
    MappedTwice { destination: String, what: &'static str, id: u32 },
    #[error("the map of the mount on {0} has too many entries")]
    TooManyMaps(String),
}

impl Failure for Error {
    fn kind(&self) -> Kind {
        match self {
            Self::VolumeGone(_) | Self::ImageGone { .. } => Kind::NotFound,
            _ => Kind::Invalid,
        }
    }

    fn hints(&self) -> Vec<String> {
        match self {
            Self::NoSource { path, .. } => {
                vec![format!("make it first (mkdir {path}), or use -v, which does")]
            }
            Self::VolumeGone(_) => vec!["remove the container, and create it anew".to_owned()],
            Self::ImageGone { image, .. } => vec![format!("pull it again: dhow pull {image}")],
            _ => Vec::new(),
        }
    }
}
