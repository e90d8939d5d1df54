//! The process that sends logs to collectors (`dhow-shipper`): whoever has something for it finds it, or starts it.
//!
//! Its lock is the one of RUN/shipper. Who gets that while no shipper lives makes the socket in it and hands both down, so
//! that whoever connects from then on is heard.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use base::fs::{self, At};
use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, connect, listen, socket_with,
};
use state::Instance;
use state::lock::Lock;
use state::shipping;
use sys::process::{Arguments, Spawn};

use crate::client::{self, SpawnError};

const PROGRAM: &str = "dhow-shipper";
/// So many monitors may knock at once.
const BACKLOG: i32 = 1024;

/// The shipper's program.
pub fn find_program() -> Result<PathBuf, SpawnError> {
    client::find_program(PROGRAM)
}

/// What ties somebody to the shipper.
#[derive(Debug, Default)]
pub struct Tie {
    /// A connection, which hangs up when the shipper ends. None where one is just starting or ending: to be asked for again
    /// in a moment.
    pub link: Option<OwnedFd>,
    /// The shipper's process, where it was started here: its parent, if that lives longer, buries it.
    pub child: Option<OwnedFd>,
}

/// A connection to the instance's shipper, which is started if there is none.
pub fn ensure(instance: &Instance, program: &Path) -> Result<Tie, SpawnError> {
    let dir = shipping::shipper(instance);
    fs::create_dir_all(&dir, 0o700)?;
    let open = openat(CWD, &dir, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
        .at("open", &dir)?;
    // A Unix address holds 108 bytes, and roots may be deep: so it is reached through the descriptor.
    let path = format!("/proc/self/fd/{}/{}", open.as_raw_fd(), shipping::file::SOCKET);
    let address = SocketAddrUnix::new(path).at("name the socket in", &dir)?;
    let link = connect_to(&address).at("connect to the shipper in", &dir)?;
    if link.is_some() {
        return Ok(Tie { link, child: None });
    }
    let Some(lock) = Lock::try_exclusive(&dir)? else { return Ok(Tie::default()) };
    // Somebody may have started one, and that one have ended, meanwhile: its socket is nobody's any more.
    fs::remove_file(&dir.join(shipping::file::SOCKET))?;
    let listener = new_socket()
        .and_then(|socket| bind(&socket, &address).map(|()| socket))
        .and_then(|socket| listen(&socket, BACKLOG).map(|()| socket))
        .at("make a socket in", &dir)?;
    let child = start(instance, program, &lock, &listener)
        .map_err(|source| SpawnError::Start { program: program.to_owned(), source })?;
    drop(lock);
    let link = connect_to(&address).at("connect to the shipper in", &dir)?;
    Ok(Tie { link, child: Some(child) })
}

fn new_socket() -> rustix::io::Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)
}

fn connect_to(address: &SocketAddrUnix) -> rustix::io::Result<Option<OwnedFd>> {
    let socket = new_socket()?;
    match connect(&socket, address) {
        Ok(()) => Ok(Some(socket)),
        // Nobody is there, or too many at once.
        Err(Errno::NOENT | Errno::CONNREFUSED | Errno::AGAIN) => Ok(None),
        Err(error) => Err(error),
    }
}

fn start(instance: &Instance, program: &Path, lock: &Lock, listener: &OwnedFd) -> io::Result<OwnedFd> {
    let text = |bytes: &[u8]| CString::new(bytes).map_err(io::Error::from);
    let file = openat(CWD, program, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
    let null = openat(CWD, "/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())?;
    let arguments = vec![
        text(PROGRAM.as_bytes())?,
        text(instance.root().as_os_str().as_bytes())?,
        text(instance.run().as_os_str().as_bytes())?,
    ];
    let spawn = Spawn {
        program: file.as_fd(),
        arguments: Arguments::new(arguments, 0),
        environment: Arguments::new(Vec::new(), 0),
        inherit: vec![lock.as_fd(), listener.as_fd()],
        cgroup: None,
    };
    spawn.start(null.as_fd()).map(|(_, process)| process)
}
