//! Sources that are found inside of something: a path in a volume, or in an image's layers.
//!
//! What lies there is a container's or an image's to make, and may be changed while we look: the path is resolved by the
//! kernel, with that directory as its root (`openat2(2)`), and what was found is what is mounted, by its descriptor. So a
//! link to the host leads nowhere, and one that appears meanwhile is too late (CVE-2017-1002101, CVE-2021-25741).

use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use base::root::Root;
use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::io::Errno;
use rustix::mount::{MountPropagationFlags, OpenTreeFlags, mount_change, open_tree};

use super::tree::{Copying, HostTree};
use crate::bundle::Inside;

/// `MS_RDONLY`.
const READ_ONLY: u64 = 1;
/// What the old `mount(2)` takes of options.
const PAGE: usize = 4096;

/// The tree at `path` inside.
pub(super) fn tree(inside: &Inside, path: &Path, recursive: bool, copying: Copying) -> io::Result<HostTree> {
    match inside {
        Inside::Directory(root) => HostTree::of(Root::open(root)?.resolve(path)?, recursive, copying),
        Inside::Layers(layers) => match &layers[..] {
            [] => Err(Errno::NOENT.into()),
            [only] => HostTree::of(Root::open(only)?.resolve(path)?, recursive, copying),
            several => Ok(HostTree::copied(stacked(several.to_vec(), path.to_owned())?)),
        },
    }
}

/// The tree at `path` in these layers, topmost first. They are mounted where nobody sees it: in a thread's own mount
/// namespace, which ends with it. What comes back is attached nowhere.
fn stacked(layers: Vec<PathBuf>, path: PathBuf) -> io::Result<OwnedFd> {
    let thread = std::thread::Builder::new().name("image".to_owned()).spawn(move || {
        sys::process::unshare(sys::process::namespaces::MOUNT as u32)?;
        mount_change(c"/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)?;
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let open = |layer: &PathBuf| openat(CWD, layer, flags, Mode::empty());
        let open: Vec<OwnedFd> = layers.iter().map(open).collect::<Result<_, _>>()?;
        // By the numbers of their descriptors: whatever their names are, hundreds of them fit into a page.
        let numbers: Vec<String> = open.iter().map(|layer| layer.as_raw_fd().to_string()).collect();
        let options = CString::new(format!("lowerdir={}", numbers.join(":")))?;
        if options.as_bytes_with_nul().len() > PAGE {
            return Err(Errno::TOOBIG.into());
        }
        // Any directory is good to be covered, as long as the layers are looked at by their numbers.
        let place = CString::new(layers.first().map_or(&b"/"[..], |first| first.as_os_str().as_bytes()))?;
        rustix::process::chdir(c"/proc/thread-self/fd")?;
        sys::mount::mount_old(c"overlay", &place, c"overlay", READ_ONLY, &options)?;
        let found = Root::open(Path::new(std::ffi::OsStr::from_bytes(place.as_bytes())))?.resolve(&path)?;
        let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
        Ok(open_tree(&found, c"", flags | OpenTreeFlags::AT_EMPTY_PATH)?)
    });
    thread.and_then(|thread| thread.join().unwrap_or_else(|_| Err(io::Error::other("a thread died"))))
}
