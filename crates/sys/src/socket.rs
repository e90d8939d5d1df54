//! Socket options that rustix does not know.

use std::os::fd::{AsFd, AsRawFd};

use rustix::io::{Errno, Result};

/// Asks the kernel for words beside the error numbers of netlink refusals (`NETLINK_EXT_ACK`), and not to
/// send our message back with them (`NETLINK_CAP_ACK`).
pub fn want_netlink_words<Fd: AsFd>(socket: Fd) -> Result<()> {
    for option in [libc::NETLINK_EXT_ACK, libc::NETLINK_CAP_ACK] {
        set(&socket, libc::SOL_NETLINK, option, &1_i32)?;
    }
    Ok(())
}

/// Discards whatever arrives at a socket that only holds its port: without this, a datagram socket would
/// fill its buffer, and a listening one would complete handshakes that nobody serves.
pub fn discard_all_packets<Fd: AsFd>(socket: Fd) -> Result<()> {
    // Classic BPF: `ret #0`, that is: keep no byte.
    let mut program = [libc::sock_filter { code: (libc::BPF_RET | libc::BPF_K) as u16, jt: 0, jf: 0, k: 0 }];
    let filter = libc::sock_fprog { len: 1, filter: program.as_mut_ptr() };
    set(&socket, libc::SOL_SOCKET, libc::SO_ATTACH_FILTER, &filter)
}

/// Makes a netlink socket hear what is told to a group.
pub fn join_netlink_group<Fd: AsFd>(socket: Fd, group: u32) -> Result<()> {
    set(&socket, libc::SOL_NETLINK, libc::NETLINK_ADD_MEMBERSHIP, &group)
}

/// Lets through to a socket only what a program of classic BPF wants, and no more of it than that says.
pub fn attach_filter<Fd: AsFd>(socket: Fd, program: &[crate::packet::Instruction]) -> Result<()> {
    let mut program: Vec<libc::sock_filter> = program
        .iter()
        .map(|i| libc::sock_filter { code: i.code, jt: i.if_true, jf: i.if_false, k: i.k })
        .collect();
    let len = u16::try_from(program.len()).map_err(|_| Errno::INVAL)?;
    let filter = libc::sock_fprog { len, filter: program.as_mut_ptr() };
    set(&socket, libc::SOL_SOCKET, libc::SO_ATTACH_FILTER, &filter)
}

/// The user, in our user namespace, of whoever connected to a socket, or made it listen (`SO_PEERCRED`). Not through
/// rustix: to it the process id of somebody outside of our PID namespace, which is 0, is an error.
pub fn peer_user<Fd: AsFd>(socket: Fd) -> Result<u32> {
    let mut found = libc::ucred { pid: 0, uid: u32::MAX, gid: u32::MAX };
    let mut length = size_of::<libc::ucred>() as libc::socklen_t;
    // SAFETY: the kernel writes at most `length` bytes into a structure of just that size.
    let result = unsafe {
        libc::getsockopt(
            socket.as_fd().as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_PEERCRED,
            (&raw mut found).cast(),
            &raw mut length,
        )
    };
    if result == 0 { Ok(found.uid) } else { Err(last()) }
}

/// How many bytes of what was sent its receiver has not taken yet (`SIOCOUTQ`): of TCP, what its host has not
/// acknowledged; of a Unix socket, what lies in the receiver's queue.
pub fn unsent<Fd: AsFd>(socket: Fd) -> Result<u32> {
    let mut count: libc::c_int = 0;
    // SAFETY: the kernel writes one C int, and the descriptor is open while borrowed.
    let result = unsafe { libc::ioctl(socket.as_fd().as_raw_fd(), libc::TIOCOUTQ, &raw mut count) };
    if result == 0 { Ok(count.max(0).cast_unsigned()) } else { Err(last()) }
}

/// How many bytes of a TCP connection the other host has acknowledged since it was made (`tcpi_bytes_acked`). It can
/// be asked when the connection has broken, too.
pub fn tcp_acknowledged<Fd: AsFd>(socket: Fd) -> Result<u64> {
    // struct tcp_info of linux/tcp.h (libc knows only its beginning); the field is there since 4.1.
    const FIELD: usize = 120;
    let mut info = [0_u8; FIELD + 8];
    let mut length = info.len() as libc::socklen_t;
    // SAFETY: the kernel writes at most `length` bytes into an array of just that size.
    let result = unsafe {
        libc::getsockopt(
            socket.as_fd().as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_INFO,
            info.as_mut_ptr().cast(),
            &raw mut length,
        )
    };
    if result != 0 {
        return Err(last());
    }
    match info.last_chunk::<8>() {
        Some(field) if length as usize >= info.len() => Ok(u64::from_ne_bytes(*field)),
        _ => Err(Errno::OPNOTSUPP),
    }
}

/// Sends a whole frame by an interface, through a raw socket of the family `AF_PACKET`.
pub fn send_frame<Fd: AsFd>(socket: Fd, interface: u32, frame: &[u8]) -> Result<()> {
    // SAFETY: all zeroes are a valid address; it is filled in place.
    let mut to: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
    to.sll_family = libc::AF_PACKET as u16;
    to.sll_ifindex = interface.cast_signed();
    // SAFETY: the kernel reads `frame` and an address of just that size, both alive, and the descriptor is open while
    // borrowed.
    let result = unsafe {
        libc::sendto(
            socket.as_fd().as_raw_fd(),
            frame.as_ptr().cast(),
            frame.len(),
            libc::MSG_NOSIGNAL,
            (&raw const to).cast(),
            size_of::<libc::sockaddr_ll>() as libc::socklen_t,
        )
    };
    if result < 0 { Err(last()) } else { Ok(()) }
}

fn last() -> Errno {
    Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::INVAL)
}

pub(crate) fn set<Fd: AsFd, T>(socket: &Fd, level: i32, option: i32, value: &T) -> Result<()> {
    let length = size_of::<T>() as libc::socklen_t;
    // SAFETY: `value` is a live, plain C value of `length` bytes, the kernel only reads it (and, for a filter
    // program, the array it points to, which outlives the call), and the descriptor is open while borrowed.
    let result = unsafe {
        libc::setsockopt(socket.as_fd().as_raw_fd(), level, option, std::ptr::from_ref(value).cast(), length)
    };
    if result == 0 { Ok(()) } else { Err(last()) }
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;
    use std::time::Duration;

    #[test]
    fn what_was_taken_is_known() {
        use std::io::{Read, Write};
        use std::os::unix::net::UnixDatagram;

        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let mut client = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (mut server, _) = listener.accept().unwrap();
        let before = super::tcp_acknowledged(&client).unwrap();
        client.write_all(b"twelve bytes").unwrap();
        server.read_exact(&mut [0; 12]).unwrap();
        drop(server);
        // The end of the stream comes after the acknowledgement.
        assert_eq!(client.read(&mut [0; 1]).unwrap(), 0);
        assert_eq!(super::tcp_acknowledged(&client).unwrap() - before, 12);
        // What comes too late is not acknowledged, and the count is still to be had after the reset.
        client.write_all(b"too late").unwrap();
        while client.write_all(b"x").is_ok() {
            std::thread::sleep(Duration::from_millis(1));
        }
        assert_eq!(super::tcp_acknowledged(&client).unwrap() - before, 12);

        let (one, other) = UnixDatagram::pair().unwrap();
        assert_eq!(super::unsent(&one).unwrap(), 0);
        one.send(b"x").unwrap();
        assert!(super::unsent(&one).unwrap() > 0);
        other.recv(&mut [0; 1]).unwrap();
        assert_eq!(super::unsent(&one).unwrap(), 0);
    }

    #[test]
    fn a_discarding_socket_receives_nothing() {
        let deaf = UdpSocket::bind("127.0.0.1:0").unwrap();
        super::discard_all_packets(&deaf).unwrap();
        deaf.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
        UdpSocket::bind("127.0.0.1:0").unwrap().send_to(b"x", deaf.local_addr().unwrap()).unwrap();
        assert!(deaf.recv(&mut [0; 1]).is_err());
    }
}
