//! What a user asks to be mounted into a container: directories of the host, volumes, images, memory.
//!
//! A record keeps them settled: an anonymous volume has its name, an image its id and layers, an id of a mapping its
//! number. What a field means that an older record has not is what that version did.

use std::collections::BTreeMap;
use std::path::PathBuf;

use base::Digest;
use serde::{Deserialize, Serialize};

/// `-v HOST:CONTAINER[:OPTIONS]`, `--mount type=bind`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct BindMount {
    /// The host's path, absolute.
    pub source: PathBuf,
    /// The container's path, absolute.
    pub destination: PathBuf,
    /// `ro`.
    pub read_only: bool,
    /// `rprivate` (the default), `rslave`, `rshared`, `private`, `slave`, `shared`.
    pub propagation: Option<String>,
    /// What becomes of the mounts below the source.
    #[serde(skip_serializing_if = "is_default")]
    pub recursion: Recursion,
    /// A source that is missing is an error (`--mount`); otherwise it is made as a directory, as Docker does.
    #[serde(skip_serializing_if = "is_default")]
    pub must_exist: bool,
    /// `map`: whose files of the host are whose in the container. What is not named stays as it is.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub map: Vec<IdMap>,
    /// How it was asked for.
    #[serde(skip_serializing_if = "is_default")]
    pub origin: Origin,
    /// The options as they were written, for `inspect`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub mode: String,
}

/// `bind-recursive`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Recursion {
    /// They come along, and are read-only where the mount is.
    #[default]
    Enabled,
    /// They stay outside.
    Disabled,
    /// They come along, and can be written to even where the mount is read-only.
    Writable,
}

/// Who asked for a mount, and in which notation.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Origin {
    /// `-v`, `--tmpfs`.
    #[default]
    Short,
    /// `--mount`.
    Long,
    /// `--volumes-from`.
    Inherited,
    /// The image.
    Image,
}

/// `map=HOST:CONTAINER`: files of the host's user (and the group of the same name) are the container's user's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct IdMap {
    /// Users, groups, or both.
    #[serde(default)]
    pub of: IdKind,
    /// A name or a number of the host; in a record always a number.
    pub host: String,
    /// A name or a number of the container; in a record always a number.
    pub container: String,
    /// How many, from these on.
    #[serde(default = "one")]
    pub count: u32,
}

/// What ids are of.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum IdKind {
    /// A user and its group.
    #[default]
    Both,
    /// Users.
    User,
    /// Groups.
    Group,
}

/// `-v [NAME:]CONTAINER[:OPTIONS]`, `--mount type=volume`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct VolumeMount {
    /// Which; empty: a new anonymous one, whose name the record has.
    pub name: String,
    /// The container's path, absolute.
    pub destination: PathBuf,
    /// `ro`.
    pub read_only: bool,
    /// It was made for this container, and goes with it where that is asked for.
    #[serde(skip_serializing_if = "is_default")]
    pub anonymous: bool,
    /// `nocopy`: it is not filled with what the image has there.
    #[serde(skip_serializing_if = "is_default")]
    pub no_copy: bool,
    /// `volume-subpath`: only this directory or file of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subpath: Option<PathBuf>,
    /// `volume-driver`, for when it is made.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub driver: Option<String>,
    /// `volume-opt`, for when it is made.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub driver_options: BTreeMap<String, String>,
    /// `volume-label`, for when it is made.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// How it was asked for.
    #[serde(skip_serializing_if = "is_default")]
    pub origin: Origin,
    /// The options as they were written, for `inspect`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub mode: String,
}

/// `--mount type=image`: an image's files, read-only.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ImageMount {
    /// The image, as the user wrote it.
    pub image: String,
    /// The container's path, absolute.
    pub destination: PathBuf,
    /// `image-subpath`: only this directory or file of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subpath: Option<PathBuf>,
    /// The digest of its configuration, once it is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<Digest>,
    /// Its unpacked layers, lowest first: in use as long as the container exists.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub layers: Vec<Digest>,
}

/// `--tmpfs CONTAINER[:OPTIONS]`, `--mount type=tmpfs`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct TmpfsMount {
    /// The container's path, absolute.
    pub destination: PathBuf,
    /// `size=64m`, `mode=1777`, `noexec`, …; the defaults are `rw,noexec,nosuid,nodev,size=50%`.
    pub options: Vec<String>,
    /// How it was asked for.
    #[serde(skip_serializing_if = "is_default")]
    pub origin: Origin,
}

/// `--volumes-from CONTAINER[:ro]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VolumesFrom {
    /// The container, as the user wrote it.
    pub container: String,
    /// All of them read-only.
    #[serde(default)]
    pub read_only: bool,
}

fn one() -> u32 {
    1
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mounts_of_an_old_record_are_what_they_were() {
        let old = r#"{"source":"/a","destination":"/b","read_only":true,"propagation":null}"#;
        let bind: BindMount = serde_json::from_str(old).unwrap();
        assert!(bind.read_only && !bind.must_exist && bind.map.is_empty());
        assert_eq!((bind.recursion, bind.origin), (Recursion::Enabled, Origin::Short));
        assert_eq!(serde_json::to_string(&bind).unwrap(), old, "and an old engine reads ours");
        let tmpfs: TmpfsMount = serde_json::from_str(r#"{"destination":"/t","options":[]}"#).unwrap();
        assert_eq!(tmpfs.origin, Origin::Short);
    }
}
