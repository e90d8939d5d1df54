//! Passing on what is not looked at any more: bytes go from socket to socket through a pipe, and never into this process.

use std::io;
use std::net::{Shutdown, TcpStream};
use std::os::fd::AsFd;

use rustix::io::Errno;
use rustix::pipe::{PipeFlags, SpliceFlags, pipe_with, splice};

/// How much is moved at once: what a pipe holds.
const AT_ONCE: usize = 64 << 10;

/// Passes on all that comes from one to the other, until that ends or the other does not want it; then tells the other.
pub(super) fn pour(from: &TcpStream, to: &TcpStream) {
    if flow(from, to).is_ok() {
        to.shutdown(Shutdown::Write).ok();
    } else {
        // Neither can be of use to the other any more.
        from.shutdown(Shutdown::Both).ok();
        to.shutdown(Shutdown::Both).ok();
    }
}

fn flow(from: &TcpStream, to: &TcpStream) -> io::Result<()> {
    let (out, into) = pipe_with(PipeFlags::CLOEXEC)?;
    loop {
        let mut left = move_some(from, &into, AT_ONCE)?;
        if left == 0 {
            return Ok(());
        }
        while left > 0 {
            let moved = move_some(&out, to, left)?;
            if moved == 0 {
                return Err(io::ErrorKind::WriteZero.into());
            }
            left -= moved;
        }
    }
}

fn move_some(from: impl AsFd, to: impl AsFd, most: usize) -> io::Result<usize> {
    loop {
        match splice(&from, None, &to, None, most, SpliceFlags::MOVE) {
            Err(Errno::INTR) => {}
            other => return Ok(other?),
        }
    }
}
