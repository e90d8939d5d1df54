//! What a `RUN` sees of a context, a repository, or a file from the web: a copy, never the directory itself.
//!
//! That directory is somebody's on this machine: through its FIFOs and sockets a command would reach processes outside, its
//! owners are not those that the step's key speaks of, and it may change while the command runs. A copy has the content that the
//! key has, and costs no blocks where the file system shares them.

use std::path::Path;

use base::fs::{self, At};
use rustix::fs::FileType;
use std::os::unix::fs::MetadataExt;

use ::build::graph::{Change, Copy, StepId};

/// What the copy is called in its directory, be it a file or a directory.
pub(super) const NAME: &str = "it";

/// To copy what is at a path of a step to a directory, or to a name in it.
pub(super) fn all_of(from: StepId, source: &str, target: &str) -> Change {
    Change::Copy(Copy {
        from,
        sources: vec![if source.is_empty() { "/".to_owned() } else { literally(source) }],
        target: target.to_owned(),
        owner: None,
        mode: None,
        exclude: Vec::new(),
        parents: false,
        unpack: false,
        required: true,
    })
}

/// A mount's source is a path; that of a copy may be a pattern.
fn literally(source: &str) -> String {
    if !source.contains(['*', '?', '[']) {
        return source.to_owned();
    }
    let mut pattern = String::new();
    for letter in source.chars() {
        match letter {
            '*' | '?' | '[' => pattern.extend(['[', letter, ']']),
            '\\' => pattern.push_str("\\\\"),
            _ => pattern.push(letter),
        }
    }
    pattern
}

/// Takes away what is neither a file, a directory nor a link: a copy of a device is that device.
pub(super) fn only_files(place: &Path) -> fs::Result<()> {
    let about = match std::fs::symlink_metadata(place) {
        // Of a socket there is no copy.
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        other => other.at("look at", place)?,
    };
    match FileType::from_raw_mode(about.mode()) {
        FileType::Directory => fs::names(place)?.iter().try_for_each(|name| only_files(&place.join(name))),
        FileType::RegularFile | FileType::Symlink => Ok(()),
        _ => fs::remove_file(place).map(drop),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_can_be_read_stays() {
        let dir = tempfile::tempdir().unwrap();
        let place = dir.path().join(NAME);
        std::fs::create_dir_all(place.join("d")).unwrap();
        std::fs::write(place.join("d/file"), "x").unwrap();
        std::os::unix::fs::symlink("/dev/null", place.join("d/link")).unwrap();
        let mode = rustix::fs::Mode::from_raw_mode(0o600);
        rustix::fs::mknodat(rustix::fs::CWD, place.join("d/fifo"), FileType::Fifo, mode, 0).unwrap();
        let _socket = std::os::unix::net::UnixListener::bind(place.join("socket")).unwrap();
        only_files(&place).unwrap();
        assert_eq!(fs::names(&place).unwrap(), ["d"]);
        let mut left = fs::names(&place.join("d")).unwrap();
        left.sort();
        assert_eq!(left, ["file", "link"]);
        only_files(&dir.path().join("none")).unwrap();
    }

    #[test]
    fn a_source_is_no_pattern() {
        assert_eq!(literally("/a\\b"), "/a\\b");
        assert_eq!(literally("/a*[x]\\"), "/a[*][[]x]\\\\");
    }
}
