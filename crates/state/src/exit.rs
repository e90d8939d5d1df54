//! How a run ended is written even where there is no room for it.
//!
//! ```text
//! ROOT/containers/ID/exit.json    where it belongs
//! RUN/containers/ID/exit.json     where that file system is full: the live directory stays, without an owner, and
//!                                 whoever finds it there moves it to where it belongs as soon as there is room
//! ```
//!
//! Where RUN is full, too, it takes the place of `live.json`, which is not needed any more and whose blocks are there.

use std::fs::OpenOptions;
use std::io;
use std::os::unix::fs::FileExt;

use base::fs::{self, At, Durability};
use base::{Id, Kind};

use crate::Instance;
use crate::container::{Exit, file};

/// Where it was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kept {
    /// Beside the container's record.
    InPlace,
    /// In the live directory, which has to stay: the caller lets go of it without removing it.
    Live,
}

/// Writes how a run of a container ended. The caller owns the container.
pub fn write(instance: &Instance, id: &Id, exit: &Exit) -> fs::Result<Kept> {
    let bytes = encode(exit)?;
    let error = match fs::write_atomic(&instance.container(id).join(file::EXIT), &bytes, Durability::Volatile)
    {
        Ok(()) => return Ok(Kept::InPlace),
        Err(error) => error,
    };
    if !is_full(&error) {
        return Err(error);
    }
    let live = instance.live(id);
    let path = live.join(file::EXIT);
    if fs::write_atomic(&path, &bytes, Durability::Volatile).is_ok() {
        return Ok(Kept::Live);
    }
    // The first error tells of what people can do something about.
    in_place_of(&live.join(file::LIVE), &path, &bytes).map_or(Err(error), |()| Ok(Kept::Live))
}

/// Moves an end that is kept in the live directory, if there is one, to where it belongs. The caller owns the container.
pub fn settle(instance: &Instance, id: &Id) -> fs::Result<()> {
    let kept = instance.live(id).join(file::EXIT);
    let Some(bytes) = fs::read_if_exists(&kept)? else { return Ok(()) };
    fs::write_atomic(&instance.container(id).join(file::EXIT), &bytes, Durability::Volatile)?;
    fs::remove_file(&kept)?;
    Ok(())
}

/// Removes what is left of attempts to write it, whose writers were killed. The caller owns the container.
pub fn forget_torn(instance: &Instance, id: &Id) {
    let begin = format!(".{}.", file::EXIT);
    for entry in std::fs::read_dir(instance.container(id)).into_iter().flatten().flatten() {
        if entry.file_name().as_encoded_bytes().starts_with(begin.as_bytes()) {
            // It goes with the container at the latest.
            std::fs::remove_file(entry.path()).ok();
        }
    }
}

/// Whether an error says that there is no room.
fn is_full(error: &fs::Error) -> bool {
    base::failure::kind_of_io(&error.source) == Kind::Exhausted
}

fn encode(exit: &Exit) -> fs::Result<Vec<u8>> {
    serde_json::to_vec(exit).map_err(io::Error::from).at("encode", file::EXIT)
}

/// Writes over a file, which then becomes another. It is as long as it was, or nearly: no block is allocated.
fn in_place_of(old: &std::path::Path, new: &std::path::Path, bytes: &[u8]) -> io::Result<()> {
    let file = OpenOptions::new().write(true).open(old)?;
    file.write_all_at(bytes, 0)?;
    file.set_len(bytes.len() as u64)?;
    std::fs::rename(old, new)
}

#[cfg(test)]
mod tests {
    use super::*;
    use base::Timestamp;

    #[test]
    fn an_end_takes_the_place_of_what_is_not_needed_any_more() {
        let dir = tempfile::tempdir().unwrap();
        let (live, exit) = (dir.path().join("live"), dir.path().join("exit"));
        std::fs::write(&live, [b'x'; 500]).unwrap();
        let bytes = encode(&exit_of(7)).unwrap();
        in_place_of(&live, &exit, &bytes).unwrap();
        assert!(!live.exists());
        assert_eq!(serde_json::from_slice::<Exit>(&std::fs::read(exit).unwrap()).unwrap(), exit_of(7));
    }

    #[test]
    fn what_is_no_lack_of_room_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let instance = Instance::new(&dir.path().join("root"), &dir.path().join("run"));
        let id = Id::random().unwrap();
        assert!(write(&instance, &id, &exit_of(1)).unwrap_err().is_not_found());
        std::fs::create_dir_all(instance.container(&id)).unwrap();
        assert_eq!(write(&instance, &id, &exit_of(1)).unwrap(), Kept::InPlace);
    }

    fn exit_of(code: i32) -> Exit {
        Exit {
            format: crate::container::FORMAT,
            code,
            oom_killed: false,
            started: None,
            finished: Timestamp(0),
            error: None,
            stopped: false,
            restarts: 0,
            health: None,
        }
    }
}
