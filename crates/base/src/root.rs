//! The resolver of paths inside a root.
//!
//! A path from an image is an allegation: it may hold `..`, absolute symlinks, links into `/proc`. It is
//! never joined to a host path and opened. [`Root`] holds a descriptor of the root directory and asks the
//! kernel (`openat2(2)`, Linux 5.6, `RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS`) to resolve the path as if that
//! directory were `/`; what comes back is a descriptor, which no later rename or symlink can redirect.

use std::ffi::{CStr, OsStr, OsString};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::fs::{CWD, Mode, OFlags, ResolveFlags};

/// A directory that paths are confined to.
#[derive(Debug)]
pub struct Root(OwnedFd);

/// How many dangling symlinks are followed, one to the next, to make a file.
const MOST_LINKS: u32 = 8;
/// The kernel's.
const LONGEST_PATH: usize = 4096;

const CONFINED: ResolveFlags = ResolveFlags::IN_ROOT.union(ResolveFlags::NO_MAGICLINKS);

impl Root {
    /// Opens the directory at a path of ours (a trusted one).
    pub fn open(path: &Path) -> io::Result<Self> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        Ok(Self(rustix::fs::openat(CWD, path, flags, Mode::empty())?))
    }

    /// Uses a directory that is open already (`O_PATH` will do).
    pub fn from_fd(directory: OwnedFd) -> Self {
        Self(directory)
    }

    /// Resolves `path` to an `O_PATH` descriptor, following symlinks within the root.
    pub fn resolve(&self, path: &Path) -> io::Result<OwnedFd> {
        self.open_with(path, OFlags::PATH, Mode::empty())
    }

    /// Resolves `path` but not a symlink in its last component.
    pub fn resolve_nofollow(&self, path: &Path) -> io::Result<OwnedFd> {
        self.open_with(path, OFlags::PATH | OFlags::NOFOLLOW, Mode::empty())
    }

    /// Resolves `path` to an `O_PATH` descriptor of a directory, with no symlink anywhere on the way.
    ///
    /// # Errors
    /// `ELOOP` where there is one.
    pub fn resolve_plain_dir(&self, path: &Path) -> io::Result<OwnedFd> {
        self.open_how(path, OFlags::PATH | OFlags::DIRECTORY, Mode::empty(), ResolveFlags::NO_SYMLINKS)
    }

    /// Opens `path` with the given flags (close-on-exec is always added).
    pub fn open_with(&self, path: &Path, flags: OFlags, mode: Mode) -> io::Result<OwnedFd> {
        self.open_how(path, flags, mode, ResolveFlags::empty())
    }

    fn open_how(&self, path: &Path, flags: OFlags, mode: Mode, more: ResolveFlags) -> io::Result<OwnedFd> {
        let path = KernelPath::new(inside(path))?;
        loop {
            let how = CONFINED | more;
            match rustix::fs::openat2(&self.0, path.as_c_str(), flags | OFlags::CLOEXEC, mode, how) {
                // Somebody renamed something meanwhile, and the kernel could not be sure: try again.
                Err(rustix::io::Errno::AGAIN) => {}
                other => return Ok(other?),
            }
        }
    }

    /// Resolves the directory that holds the last component of `path`, and that component's name.
    ///
    /// # Errors
    /// `InvalidInput` if the path has no last component (`/`, `..`).
    pub fn parent(&self, path: &Path) -> io::Result<(OwnedFd, OsString)> {
        let (parent, name) = split(path)?;
        Ok((self.open_with(parent, OFlags::PATH | OFlags::DIRECTORY, Mode::empty())?, name.to_owned()))
    }

    /// Makes the directory `path` with its missing parents (0755, owned by the caller) and returns an
    /// `O_PATH` descriptor of it. Symlinks are followed within the root; where one dangles, the directory is made
    /// where it leads to within the root.
    pub fn create_dir_all(&self, path: &Path) -> io::Result<OwnedFd> {
        self.create_dir_behind(path, MOST_LINKS)
    }

    fn create_dir_behind(&self, path: &Path, links: u32) -> io::Result<OwnedFd> {
        match self.open_dir(path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            other => return other,
        }
        // Walk down, each directory opened relative to the root by its growing prefix, so that `..` and symlinks
        // mean what they mean inside. (Prefixes are slices: the child of a launch, which calls this, may not
        // allocate.)
        let bytes = path.as_os_str().as_bytes();
        let mut begin = 0;
        while begin < bytes.len() {
            let end = bytes[begin..].iter().position(|&b| b == b'/').map_or(bytes.len(), |n| begin + n);
            let name = &bytes[begin..end];
            if !matches!(name, b"" | b"." | b"..") {
                let above = Path::new(OsStr::from_bytes(&bytes[..begin]));
                let parent = self.open_dir(above)?;
                match rustix::fs::mkdirat(&parent, OsStr::from_bytes(name), Mode::from_raw_mode(0o755)) {
                    Ok(()) => {}
                    Err(rustix::io::Errno::EXIST) => {
                        self.create_link_target(&parent, above, &bytes[begin..end], &bytes[..end], links)?;
                    }
                    Err(e) => return Err(e.into()),
                }
            }
            begin = end + 1;
        }
        self.open_dir(path)
    }

    /// Where `prefix`, which is there, is a symlink that leads nowhere: makes the directory that it means.
    fn create_link_target(
        &self,
        parent: &OwnedFd,
        above: &Path,
        name: &[u8],
        prefix: &[u8],
        links: u32,
    ) -> io::Result<()> {
        match self.open_dir(Path::new(OsStr::from_bytes(prefix))) {
            Err(e) if e.kind() == io::ErrorKind::NotFound && links > 0 => {}
            other => return other.map(drop),
        }
        behind_link(parent, above, OsStr::from_bytes(name), |target| {
            self.create_dir_behind(target, links - 1).map(drop)
        })
    }

    fn open_dir(&self, path: &Path) -> io::Result<OwnedFd> {
        self.open_with(path, OFlags::PATH | OFlags::DIRECTORY, Mode::empty())
    }

    /// Makes an empty regular file at `path` unless something is there, with its missing parents, and
    /// returns an `O_PATH` descriptor of what is there. Where `path` is a symlink that leads nowhere (images have
    /// `/etc/resolv.conf` as one into `/run`), the file is made where it leads to within the root.
    pub fn create_file(&self, path: &Path) -> io::Result<OwnedFd> {
        self.create_file_behind(path, MOST_LINKS)
    }

    fn create_file_behind(&self, path: &Path, links: u32) -> io::Result<OwnedFd> {
        match self.resolve(path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            other => return other,
        }
        let (above, name) = split(path)?;
        let parent = self.create_dir_all(above)?;
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        match rustix::fs::openat(&parent, name, flags, Mode::from_raw_mode(0o644)) {
            Ok(_) => return self.resolve(path),
            Err(rustix::io::Errno::EXIST) => {}
            Err(e) => return Err(e.into()),
        }
        match self.resolve(path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound && links > 0 => {}
            other => return other,
        }
        behind_link(&parent, above, name, |target| self.create_file_behind(target, links - 1))
    }
}

/// Calls `then` with the path that the symlink `name` in `parent` (which is `above`) stands for.
///
/// Put together on the stack: the child of a launch may not allocate. What comes out is an allegation like any
/// other, and to be resolved as one.
fn behind_link<T>(
    parent: &OwnedFd,
    above: &Path,
    name: &OsStr,
    then: impl FnOnce(&Path) -> io::Result<T>,
) -> io::Result<T> {
    let mut target = [std::mem::MaybeUninit::uninit(); LONGEST_PATH];
    let (target, _) = rustix::fs::readlinkat_raw(parent, name, &mut target)?;
    let above = if target.starts_with(b"/") { b"" } else { above.as_os_str().as_bytes() };
    let mut joined = [0; LONGEST_PATH];
    let length = above.len() + target.len();
    let place = joined.get_mut(..length).ok_or(rustix::io::Errno::NAMETOOLONG)?;
    place[..above.len()].copy_from_slice(above);
    place[above.len()..].copy_from_slice(target);
    then(Path::new(OsStr::from_bytes(place)))
}

impl AsFd for Root {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// A path in the form that the kernel takes, on the stack whatever its length: the child of a launch, which resolves
/// paths here, may not allocate, and the usual conversion does for long ones.
pub struct KernelPath {
    bytes: [u8; Self::LONGEST],
}

impl KernelPath {
    /// The longest path that the kernel takes, with its end: `PATH_MAX`.
    const LONGEST: usize = 4096;

    /// Copies a path.
    ///
    /// # Errors
    /// `InvalidFilename` where it is longer than the kernel takes, `InvalidInput` where it holds a zero.
    pub fn new(path: &Path) -> io::Result<Self> {
        let path = path.as_os_str().as_bytes();
        if path.contains(&0) {
            return Err(rustix::io::Errno::INVAL.into());
        }
        let mut bytes = [0; Self::LONGEST];
        let room = bytes.get_mut(..path.len()).filter(|_| path.len() < Self::LONGEST);
        room.ok_or(rustix::io::Errno::NAMETOOLONG)?.copy_from_slice(path);
        Ok(Self { bytes })
    }

    /// The path.
    pub fn as_c_str(&self) -> &CStr {
        // There is always a zero: the path is shorter than the room, and the rest is zeros.
        CStr::from_bytes_until_nul(&self.bytes).unwrap_or_default()
    }
}

/// `openat2` takes an empty path as an error; the root itself is `.`.
fn inside(path: &Path) -> &Path {
    if path.as_os_str().is_empty() { Path::new(".") } else { path }
}

/// The parent and the last name of `path`, without normalising what lies before.
fn split(path: &Path) -> io::Result<(&Path, &OsStr)> {
    let bytes = path.as_os_str().as_bytes();
    let trimmed = &bytes[..bytes.iter().rposition(|&b| b != b'/').map_or(0, |i| i + 1)];
    let cut = trimmed.iter().rposition(|&b| b == b'/').map_or(0, |i| i + 1);
    let name = &trimmed[cut..];
    if matches!(name, b"" | b"." | b"..") {
        // Without words of its own: those would be allocated, and this is for the child of a clone, too.
        return Err(rustix::io::Errno::INVAL.into());
    }
    Ok((Path::new(OsStr::from_bytes(&trimmed[..cut])), OsStr::from_bytes(name)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    struct Scratch(std::path::PathBuf);
    impl Scratch {
        fn new(name: &str) -> Self {
            let dir = std::env::temp_dir().join(format!("dhow-root-{name}-{}", std::process::id()));
            std::fs::create_dir_all(dir.join("inside")).unwrap();
            Self(dir)
        }
        fn root(&self) -> Root {
            Root::open(&self.0.join("inside")).unwrap()
        }
    }
    impl Drop for Scratch {
        fn drop(&mut self) {
            std::fs::remove_dir_all(&self.0).ok();
        }
    }

    #[test]
    fn dots_and_absolute_links_stay_inside() {
        let scratch = Scratch::new("dots");
        std::fs::write(scratch.0.join("secret"), "outside").unwrap();
        symlink("/secret", scratch.0.join("inside/absolute")).unwrap();
        symlink("../../secret", scratch.0.join("inside/relative")).unwrap();
        for path in ["../secret", "/../secret", "absolute", "relative", "a/../../secret"] {
            assert!(scratch.root().resolve(Path::new(path)).is_err(), "{path}");
        }
    }

    #[test]
    fn creating_through_a_link_lands_inside() {
        let scratch = Scratch::new("create");
        symlink("/etc", scratch.0.join("inside/link")).unwrap();
        std::fs::create_dir(scratch.0.join("inside/etc")).unwrap();
        scratch.root().create_file(Path::new("/link/deep/file")).unwrap();
        assert!(scratch.0.join("inside/etc/deep/file").exists());
        scratch.root().create_dir_all(Path::new("x/./y//z")).unwrap();
        assert!(scratch.0.join("inside/x/y/z").is_dir());
    }

    #[test]
    fn a_directory_is_made_where_a_dangling_link_leads_within_the_root() {
        let scratch = Scratch::new("dangling-dir");
        let inside = scratch.0.join("inside");
        std::fs::create_dir(inside.join("var")).unwrap();
        symlink("../../../run", inside.join("var/run")).unwrap();
        symlink("/../../mnt/data", inside.join("data")).unwrap();
        symlink("loop", inside.join("loop")).unwrap();
        for (path, made) in [("/var/run/x", "run/x"), ("data", "mnt/data"), ("/data/y/z", "mnt/data/y/z")] {
            scratch.root().create_dir_all(Path::new(path)).unwrap();
            assert!(inside.join(made).is_dir(), "{path}");
        }
        assert!(scratch.root().create_dir_all(Path::new("/loop")).is_err());
        assert_eq!(std::fs::read_dir(&scratch.0).unwrap().count(), 1, "nothing outside");
    }

    #[test]
    fn a_plain_directory_has_no_symlink_on_its_way() {
        let scratch = Scratch::new("plain");
        std::fs::create_dir_all(scratch.0.join("inside/a/b")).unwrap();
        symlink("a", scratch.0.join("inside/l")).unwrap();
        assert!(scratch.root().resolve_plain_dir(Path::new("/a/b")).is_ok());
        let error = scratch.root().resolve_plain_dir(Path::new("/l/b")).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(rustix::io::Errno::LOOP.raw_os_error()));
    }

    #[test]
    fn a_file_is_made_where_a_dangling_link_leads_within_the_root() {
        let scratch = Scratch::new("dangling");
        let inside = scratch.0.join("inside");
        std::fs::create_dir(inside.join("etc")).unwrap();
        symlink("../run/resolve/stub", inside.join("etc/relative")).unwrap();
        symlink("/../../../outside", inside.join("etc/absolute")).unwrap();
        symlink("relative2", inside.join("etc/chain")).unwrap();
        symlink("../../../../chained", inside.join("etc/relative2")).unwrap();
        symlink("loop", inside.join("etc/loop")).unwrap();
        for (path, made) in
            [("/etc/relative", "run/resolve/stub"), ("etc/absolute", "outside"), ("/etc/chain", "chained")]
        {
            scratch.root().create_file(Path::new(path)).unwrap();
            assert!(inside.join(made).is_file(), "{path}");
        }
        assert!(scratch.root().create_file(Path::new("/etc/loop")).is_err());
        assert_eq!(std::fs::read_dir(&scratch.0).unwrap().count(), 1, "nothing outside");
    }

    #[test]
    fn long_paths_resolve_and_too_long_ones_say_so() {
        let scratch = Scratch::new("long");
        let long = format!("{}x", "./".repeat(1500));
        scratch.root().create_dir_all(Path::new(&long)).unwrap();
        assert!(scratch.0.join("inside/x").is_dir());
        let error = scratch.root().resolve(Path::new(&"a/".repeat(2048))).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(rustix::io::Errno::NAMETOOLONG.raw_os_error()));
        assert!(scratch.root().resolve(Path::new("a\0b")).is_err());
    }

    #[test]
    fn a_path_that_names_no_file_is_refused_without_allocating() {
        let scratch = Scratch::new("no-name");
        for path in ["gone/..", "gone/."] {
            let error = scratch.root().create_file(Path::new(path)).unwrap_err();
            // An error with words is no system call's.
            assert_eq!(error.raw_os_error(), Some(rustix::io::Errno::INVAL.raw_os_error()), "{path}");
        }
    }

    #[test]
    fn magic_links_are_refused() {
        let root = Root::open(Path::new("/proc")).unwrap();
        assert!(root.resolve(Path::new("self/root/etc")).is_err());
        assert!(root.resolve(Path::new("self/cwd")).is_err());
    }
}
