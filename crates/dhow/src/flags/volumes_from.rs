//! `--volumes-from CONTAINER[:ro]`.

use std::str::FromStr;

use state::options::VolumesFrom;

/// A container whose mounts are mounted, too.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct From(pub(crate) VolumesFrom);

/// Not a container.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("want CONTAINER, CONTAINER:ro or CONTAINER:rw")]
pub(crate) struct NotAContainer;

impl FromStr for From {
    type Err = NotAContainer;
    fn from_str(text: &str) -> Result<Self, NotAContainer> {
        let (container, mode) = text.split_once(':').unwrap_or((text, "rw"));
        let read_only = match mode {
            "ro" | "ro,z" | "ro,Z" => true,
            "rw" | "z" | "Z" | "rw,z" | "rw,Z" => false,
            _ => return Err(NotAContainer),
        };
        if container.is_empty() {
            return Err(NotAContainer);
        }
        Ok(Self(VolumesFrom { container: container.to_owned(), read_only }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dockers_forms() {
        let read_only = |text: &str| text.parse::<From>().map(|From(from)| from.read_only);
        assert_eq!((read_only("a"), read_only("a:rw"), read_only("a:ro")), (Ok(false), Ok(false), Ok(true)));
        for bad in ["", ":ro", "a:", "a:x", "a:ro:x"] {
            assert_eq!(read_only(bad), Err(NotAContainer), "{bad}");
        }
    }
}
