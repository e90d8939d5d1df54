//! Frames as somebody makes them who may: to send (`NET_RAW`), and to see what comes.

use std::ffi::CString;
use std::io::{Error, Result, Write};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

const ALL: u16 = 0x0003;

/// Sends frames, which are written in hexadecimal, through a link.
pub(crate) fn send(link: &str, frames: &[&str]) -> Result<()> {
    let socket = open(link)?;
    for frame in frames {
        let bytes: Vec<u8> = (0..frame.len() / 2)
            .map(|at| u8::from_str_radix(&frame[2 * at..2 * at + 2], 16))
            .collect::<std::result::Result<_, _>>()
            .map_err(Error::other)?;
        rustix::net::send(&socket, &bytes, rustix::net::SendFlags::empty())?;
    }
    Ok(())
}

/// Prints all frames that come in through a link, in hexadecimal, until it is killed.
pub(crate) fn hear(link: &str) -> Result<()> {
    let socket = open(link)?;
    println!("listening");
    let mut buffer = [0; 4096];
    loop {
        let (_, length) = rustix::net::recv(&socket, &mut buffer[..], rustix::net::RecvFlags::empty())?;
        let mut out = std::io::stdout().lock();
        for byte in &buffer[..length.min(4096)] {
            write!(out, "{byte:02x}")?;
        }
        writeln!(out)?;
        out.flush()?;
    }
}

#[expect(unsafe_code, reason = "nobody offers a safe address of a packet socket")]
fn open(link: &str) -> Result<OwnedFd> {
    let name = CString::new(link)?;
    // SAFETY: plain system calls on a descriptor of ours, with a structure of numbers of the length that is told.
    unsafe {
        let fd = libc::socket(libc::AF_PACKET, libc::SOCK_RAW | libc::SOCK_CLOEXEC, ALL.to_be().into());
        if fd < 0 {
            return Err(Error::last_os_error());
        }
        let socket = OwnedFd::from_raw_fd(fd);
        let mut address: libc::sockaddr_ll = std::mem::zeroed();
        address.sll_family = libc::AF_PACKET as u16;
        address.sll_protocol = ALL.to_be();
        address.sll_ifindex = libc::if_nametoindex(name.as_ptr()).cast_signed();
        let length = std::mem::size_of_val(&address) as libc::socklen_t;
        if libc::bind(socket.as_raw_fd(), (&raw const address).cast(), length) < 0 {
            return Err(Error::last_os_error());
        }
        Ok(socket)
    }
}
