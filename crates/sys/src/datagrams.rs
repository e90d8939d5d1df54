//! Many datagrams in one system call: `recvmmsg(2)`, `sendmmsg(2)`. IPv4 only.

use std::io;
use std::mem::MaybeUninit;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::fd::{AsRawFd, BorrowedFd};

/// The most datagrams that one call receives or sends.
pub const MOST: usize = 32;

/// Room for received datagrams.
#[derive(Debug)]
pub struct Datagrams {
    bytes: Box<[u8]>,
    room: usize,
    lengths: [usize; MOST],
    senders: [SocketAddrV4; MOST],
}

impl Datagrams {
    /// For datagrams of so many bytes each; what is longer is cut off.
    pub fn new(room: usize) -> Self {
        Self {
            bytes: vec![0; room * MOST].into(),
            room,
            lengths: [0; MOST],
            senders: [SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 0); MOST],
        }
    }

    /// Takes what has arrived, without waiting. How many there are: 0 where nothing is there.
    pub fn receive(&mut self, socket: BorrowedFd<'_>) -> io::Result<usize> {
        let mut addresses: [MaybeUninit<libc::sockaddr_in>; MOST] = [MaybeUninit::zeroed(); MOST];
        let mut slices: [MaybeUninit<libc::iovec>; MOST] = [MaybeUninit::zeroed(); MOST];
        let mut headers: [MaybeUninit<libc::mmsghdr>; MOST] = [MaybeUninit::zeroed(); MOST];
        for (n, room) in self.bytes.chunks_exact_mut(self.room.max(1)).take(MOST).enumerate() {
            slices[n].write(libc::iovec { iov_base: room.as_mut_ptr().cast(), iov_len: room.len() });
            // SAFETY: all zeroes are a valid header; it is filled in place.
            let header = unsafe { headers[n].assume_init_mut() };
            header.msg_hdr.msg_name = addresses[n].as_mut_ptr().cast();
            header.msg_hdr.msg_namelen = size_of::<libc::sockaddr_in>() as u32;
            header.msg_hdr.msg_iov = slices[n].as_mut_ptr();
            header.msg_hdr.msg_iovlen = 1;
        }
        // SAFETY: each header points to an address and a slice of this frame, the slices into `self.bytes`, which we borrow
        // exclusively; with MSG_DONTWAIT a null timeout.
        let received = unsafe {
            libc::recvmmsg(
                socket.as_raw_fd(),
                headers.as_mut_ptr().cast(),
                MOST as u32,
                libc::MSG_DONTWAIT,
                std::ptr::null_mut(),
            )
        };
        if received < 0 {
            let error = io::Error::last_os_error();
            return if error.kind() == io::ErrorKind::WouldBlock { Ok(0) } else { Err(error) };
        }
        for n in 0..received as usize {
            // SAFETY: zeroed, then written by the kernel: any bits are valid in either.
            let (header, address) = unsafe { (headers[n].assume_init(), addresses[n].assume_init()) };
            self.lengths[n] = (header.msg_len as usize).min(self.room);
            self.senders[n] = SocketAddrV4::new(
                Ipv4Addr::from_bits(u32::from_be(address.sin_addr.s_addr)),
                u16::from_be(address.sin_port),
            );
        }
        Ok(received as usize)
    }

    /// The `n`th datagram of the last [`Datagrams::receive`], and who sent it.
    ///
    /// # Panics
    /// Beyond [`MOST`].
    pub fn get(&self, n: usize) -> (&[u8], SocketAddrV4) {
        let start = n * self.room;
        (&self.bytes[start..start + self.lengths[n]], self.senders[n])
    }
}

/// Sends datagrams, at most [`MOST`], without waiting. How many were sent: the kernel stops at the first that it refuses,
/// and fails where that is the first of all.
pub fn send(socket: BorrowedFd<'_>, datagrams: &[(&[u8], SocketAddrV4)]) -> io::Result<usize> {
    let mut addresses: [MaybeUninit<libc::sockaddr_in>; MOST] = [MaybeUninit::zeroed(); MOST];
    let mut slices: [MaybeUninit<libc::iovec>; MOST] = [MaybeUninit::zeroed(); MOST];
    let mut headers: [MaybeUninit<libc::mmsghdr>; MOST] = [MaybeUninit::zeroed(); MOST];
    let count = datagrams.len().min(MOST);
    for (n, (bytes, to)) in datagrams.iter().take(MOST).enumerate() {
        // The kernel only reads it.
        slices[n].write(libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() });
        // SAFETY: all zeroes are a valid address and a valid header; they are filled in place.
        let (address, header) = unsafe { (addresses[n].assume_init_mut(), headers[n].assume_init_mut()) };
        address.sin_family = libc::AF_INET as u16;
        address.sin_port = to.port().to_be();
        address.sin_addr.s_addr = to.ip().to_bits().to_be();
        header.msg_hdr.msg_name = addresses[n].as_mut_ptr().cast();
        header.msg_hdr.msg_namelen = size_of::<libc::sockaddr_in>() as u32;
        header.msg_hdr.msg_iov = slices[n].as_mut_ptr();
        header.msg_hdr.msg_iovlen = 1;
    }
    // SAFETY: each of the `count` headers points to an address and a slice of this frame, and the slices to bytes that
    // are borrowed, which the kernel only reads.
    let sent = unsafe {
        libc::sendmmsg(
            socket.as_raw_fd(),
            headers.as_mut_ptr().cast(),
            count as u32,
            libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL,
        )
    };
    if sent < 0 { Err(io::Error::last_os_error()) } else { Ok(sent as usize) }
}

#[cfg(test)]
mod tests {
    use std::net::{SocketAddr, UdpSocket};
    use std::os::fd::AsFd;

    use super::*;

    #[test]
    fn many_are_received_and_answered_at_once() {
        let (ours, theirs) =
            (UdpSocket::bind("127.0.0.1:0").unwrap(), UdpSocket::bind("127.0.0.1:0").unwrap());
        let SocketAddr::V4(address) = theirs.local_addr().unwrap() else { panic!() };
        let mut datagrams = Datagrams::new(4);
        assert_eq!(datagrams.receive(ours.as_fd()).unwrap(), 0);
        for n in 0..40_u8 {
            theirs.send_to(&[n; 6][..usize::from(n % 7)], ours.local_addr().unwrap()).unwrap();
        }
        assert_eq!(datagrams.receive(ours.as_fd()).unwrap(), MOST);
        assert_eq!(datagrams.get(0), (&[][..], address));
        assert_eq!(datagrams.get(3), (&[3; 3][..], address));
        assert_eq!(datagrams.get(6), (&[6; 4][..], address), "cut off");
        let answers: Vec<_> = (0..3).map(|n| datagrams.get(n)).collect();
        assert_eq!(send(ours.as_fd(), &answers).unwrap(), 3);
        let mut buffer = [0; 8];
        let lengths: Vec<usize> = (0..3).map(|_| theirs.recv(&mut buffer).unwrap()).collect();
        assert_eq!(lengths, [0, 1, 2]);
        assert_eq!(datagrams.receive(ours.as_fd()).unwrap(), 8);
    }
}
