//! A file system without room: what is said about it. The kernel says the same of missing blocks and of missing
//! inodes, and does not say on which file system; people need both to do something about it.

use std::io;
use std::path::{Path, PathBuf};

use rustix::fs::{StatVfs, statvfs};

/// What to do about an error that says that there is no room at `path`; empty where it says something else.
pub fn hints(error: &io::Error, path: &Path) -> Vec<String> {
    let first = match error.kind() {
        io::ErrorKind::StorageFull => full(path),
        io::ErrorKind::QuotaExceeded => {
            format!("raise the disk quota on the file system of {}, or use less of it", path.display())
        }
        _ => return Vec::new(),
    };
    vec![first, NEXT.to_owned()]
}

/// What to do then, whatever is full.
pub const NEXT: &str =
    "see what takes the space: dhow system df; remove what nothing uses: dhow system prune";

/// What is free, and of how much, on the file system of a path.
fn full(path: &Path) -> String {
    // What could not be made is not there: the nearest directory that is lies on the same file system.
    let found = path.ancestors().find_map(|place| Some((place, statvfs(place).ok()?)));
    let Some((place, space)) = found else {
        return format!("make room on the file system of {}", path.display());
    };
    let (free, all) = (bytes(&space, space.f_bavail), bytes(&space, space.f_blocks));
    // Of both: what lacked may be back by now, since what was begun has been undone, and the smaller is the one.
    let inodes = match space.f_files {
        0 => String::new(),
        files => format!(" and {} of {files} inodes", space.f_favail),
    };
    let mount = mount_point(place);
    let (free, all) = (shown(free), shown(all));
    format!("make room on the file system at {}: {free} of {all}{inodes} are free now", mount.display())
}

/// Whether nothing more can be made on the file system of a path. One that cannot be asked is not.
pub fn is_full(path: &Path) -> bool {
    statvfs(path).is_ok_and(|space| {
        // What a directory takes, at the least.
        bytes(&space, space.f_bavail) < space.f_bsize.max(4096) || space.f_files > 0 && space.f_ffree == 0
    })
}

fn bytes(space: &StatVfs, blocks: u64) -> u64 {
    blocks.saturating_mul(space.f_frsize)
}

/// The uppermost directory on the same file system.
fn mount_point(place: &Path) -> PathBuf {
    use std::os::unix::fs::MetadataExt;
    let Ok(real) = place.canonicalize() else { return place.to_owned() };
    let device = |path: &Path| std::fs::metadata(path).map(|m| m.dev()).ok();
    let here = device(&real);
    real.ancestors().take_while(|above| device(above) == here).last().unwrap_or(&real).to_owned()
}

fn shown(bytes: u64) -> String {
    match bytes {
        0 => "0 bytes".to_owned(),
        1..0x10_0000 => format!("{} KiB", bytes.div_ceil(1 << 10)),
        0x10_0000..0x4000_0000 => format!("{} MiB", bytes >> 20),
        _ => format!("{} GiB", bytes >> 30),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_full_is_told_of() {
        let path = Path::new("/proc/self/nothing/here");
        assert!(hints(&io::ErrorKind::NotFound.into(), path).is_empty());
        let told = hints(&io::ErrorKind::StorageFull.into(), path);
        assert!(told[0].contains("file system at /proc"), "{told:?}");
        assert!(told[1].contains("dhow system df") && told[1].contains("dhow system prune"), "{told:?}");
        assert!(hints(&io::ErrorKind::QuotaExceeded.into(), path)[0].contains("quota"));
    }

    #[test]
    fn sizes_are_short() {
        let sizes = [0, 1, 1023, 4096, (1 << 20) - 1, 55 << 20, 3 << 30].map(shown);
        assert_eq!(sizes, ["0 bytes", "1 KiB", "1 KiB", "4 KiB", "1024 KiB", "55 MiB", "3 GiB"]);
    }
}
