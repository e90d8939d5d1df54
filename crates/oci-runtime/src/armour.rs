//! Our own binary, out of the container's reach.
//!
//! What enters a container is, until it executes the container's command, this program; and a command that is a
//! symlink or a script pointing to `/proc/self/exe` makes it this program again. Whoever gets hold of that file there
//! can wait for our end and write to it, as root of the host (CVE-2019-5736). So before anything of a container is
//! looked at, the program executes itself once more through a mount of its own binary that is read-only and attached
//! nowhere. Its descriptor closes with that execution, which dissolves the mount: nobody can change it any more, not
//! even with the rights to mount. Four system calls and an exec; where mounting is not permitted (rootless), a sealed
//! copy in memory takes its place.
//!
//! Whether it is so is asked of the kernel each time. The name that we are called by only tells that it was tried.

use std::ffi::CString;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;

use rustix::fs::{
    CWD, MemfdFlags, Mode, OFlags, SealFlags, StatVfsMountFlags, fcntl_add_seals, fcntl_get_seals, fstatvfs,
    memfd_create, openat, sendfile,
};
use rustix::mount::{OpenTreeFlags, open_tree};
use sys::mount::{Change, attributes, change};
use sys::process::Arguments;

use crate::error::{Doing as _, Error};

/// The name that the second execution has.
const NAME: &str = "dhow-runtime:unwritable";

/// Returns where our binary cannot be written to, executing it anew if need be.
pub(crate) fn put_on() -> Result<(), Error> {
    let me = openat(CWD, "/proc/self/exe", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
        .doing("open /proc/self/exe")?;
    if is_unwritable(&me)? {
        return Ok(());
    }
    let mut arguments = std::env::args_os();
    if arguments.next().is_some_and(|name| name == NAME) {
        return Err(Error::Unsupported("cannot protect this program against the container".to_owned()));
    }
    let strings = |list: Vec<Vec<u8>>| {
        // None has a zero byte: they come from where zero bytes end them.
        Arguments::new(list.into_iter().filter_map(|s| CString::new(s).ok()).collect(), 0)
    };
    let mut given = vec![NAME.as_bytes().to_vec()];
    given.extend(arguments.map(OsStringExt::into_vec));
    let environment = std::env::vars_os().map(|(name, value)| {
        let mut line = name.into_vec();
        line.push(b'=');
        line.extend(value.into_vec());
        line
    });
    let mut environment = strings(environment.collect());
    let program = match read_only_mount() {
        Ok(mount) => mount,
        Err(_) => sealed_copy(&me).doing("make a sealed copy of this program")?,
    };
    drop(me);
    let error = sys::process::exec_descriptor(program.as_fd(), &mut strings(given), &mut environment);
    Err(error).doing("execute this program through a read-only mount")
}

/// A mount that is read-only, or a memory that is sealed. (A file that we may not write to is no proof: the
/// container may.)
fn is_unwritable(me: &OwnedFd) -> Result<bool, Error> {
    let mount = fstatvfs(me).doing("look at /proc/self/exe")?;
    if mount.f_flag.contains(StatVfsMountFlags::RDONLY) {
        return Ok(true);
    }
    // Only files in memory have seals at all.
    Ok(fcntl_get_seals(me).is_ok_and(|seals| seals.contains(SEALS)))
}

const SEALS: SealFlags =
    SealFlags::SEAL.union(SealFlags::SHRINK).union(SealFlags::GROW).union(SealFlags::WRITE);

fn read_only_mount() -> std::io::Result<OwnedFd> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    let mount = open_tree(CWD, "/proc/self/exe", flags)?;
    change(mount.as_fd(), Change { set: attributes::RDONLY, ..Change::default() })?;
    Ok(mount)
}

fn sealed_copy(me: &OwnedFd) -> std::io::Result<OwnedFd> {
    let memory = memfd_create("dhow-runtime", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
    while sendfile(&memory, me, None, 1 << 30)? > 0 {}
    fcntl_add_seals(&memory, SEALS)?;
    Ok(memory)
}
