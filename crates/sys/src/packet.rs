//! A ring of packets that the kernel fills (`AF_PACKET`, `TPACKET_V3`) and we read without a system call for each.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::ptr;
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::io::{Errno, Result};

use crate::socket::{attach_filter, set};

/// One block: what the kernel fills before it hands it over.
const BLOCK: usize = 256 << 10;
/// How many there are: what waits while nobody reads.
const BLOCKS: usize = 16;
/// Milliseconds after which a block that is not full is handed over.
const RETIRED_AFTER: u32 = 40;
/// What the kernel wants to be told, and does not use with blocks.
const FRAME: usize = 2048;

/// One instruction of classic BPF.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Instruction {
    /// What is done.
    pub code: u16,
    /// How many instructions are skipped if a comparison is true.
    pub if_true: u8,
    /// How many if it is false.
    pub if_false: u8,
    /// A number.
    pub k: u32,
}

/// A packet as it passed a link.
#[derive(Debug, Clone, Copy)]
pub struct Packet<'a> {
    /// Seconds since 1970.
    pub seconds: u32,
    /// And nanoseconds.
    pub nanoseconds: u32,
    /// How long it was.
    pub length: u32,
    /// Its link's index.
    pub link: u32,
    /// Its link's kind (`ARPHRD_…`).
    pub hardware: u16,
    /// Its namespace sent it.
    pub outgoing: bool,
    /// What was kept of it.
    pub bytes: &'a [u8],
}

/// What the kernel counted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Packets that the filter wanted.
    pub seen: u64,
    /// Those of them for which there was no room.
    pub dropped: u64,
}

/// The ring, in the network namespace of the thread that opened it.
#[derive(Debug)]
pub struct Ring {
    socket: OwnedFd,
    memory: *mut u8,
    next: usize,
    counts: Counts,
}

// SAFETY: the memory is this value's alone, and whoever has it may read it from any thread.
unsafe impl Send for Ring {}

impl Ring {
    /// Begins to capture what passes a link, or all of them (0).
    pub fn open(link: u32, filter: &[Instruction]) -> Result<Self> {
        // SAFETY: numbers only; the descriptor is new and ours. Protocol 0: nothing comes before it is bound.
        let socket = unsafe {
            match libc::socket(libc::AF_PACKET, libc::SOCK_RAW | libc::SOCK_CLOEXEC, 0) {
                -1 => return Err(last()),
                fd => OwnedFd::from_raw_fd(fd),
            }
        };
        set(&socket, libc::SOL_PACKET, libc::PACKET_VERSION, &(libc::tpacket_versions::TPACKET_V3 as i32))?;
        let request = libc::tpacket_req3 {
            tp_block_size: BLOCK as u32,
            tp_block_nr: BLOCKS as u32,
            tp_frame_size: FRAME as u32,
            tp_frame_nr: (BLOCK / FRAME * BLOCKS) as u32,
            tp_retire_blk_tov: RETIRED_AFTER,
            tp_sizeof_priv: 0,
            tp_feature_req_word: 0,
        };
        set(&socket, libc::SOL_PACKET, libc::PACKET_RX_RING, &request)?;
        attach_filter(&socket, filter)?;
        // SAFETY: a new mapping of the kernel's choice, of the size that was just agreed on; unmapped on drop.
        let memory = unsafe {
            libc::mmap(
                ptr::null_mut(),
                BLOCK * BLOCKS,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED,
                socket.as_raw_fd(),
                0,
            )
        };
        if memory == libc::MAP_FAILED {
            return Err(last());
        }
        let ring = Self { socket, memory: memory.cast(), next: 0, counts: Counts::default() };
        ring.bind(link)?;
        Ok(ring)
    }

    fn bind(&self, link: u32) -> Result<()> {
        // SAFETY: all zeroes are a valid structure of numbers.
        let mut address: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
        address.sll_family = libc::AF_PACKET as u16;
        address.sll_protocol = (libc::ETH_P_ALL as u16).to_be();
        address.sll_ifindex = link.cast_signed();
        // SAFETY: the kernel reads a structure of just that size.
        let result = unsafe {
            libc::bind(
                self.socket.as_raw_fd(),
                (&raw const address).cast(),
                size_of::<libc::sockaddr_ll>() as libc::socklen_t,
            )
        };
        if result == 0 { Ok(()) } else { Err(last()) }
    }

    /// Hands all packets of the next block to `each`, if the kernel is done with it. It is readable
    /// ([`AsFd`]) when there is one.
    pub fn next_block(&mut self, mut each: impl FnMut(Packet<'_>)) -> bool {
        const STATUS: usize = 8;
        const OF_USER: u32 = 1;
        const OF_KERNEL: u32 = 0;
        // SAFETY: `next` is below BLOCKS, so that this lies within the mapping.
        let block = unsafe { self.memory.add(self.next * BLOCK) };
        // SAFETY: aligned (blocks are whole pages), within the mapping, and changed by the kernel and by us only as a whole.
        let status = unsafe { AtomicU32::from_ptr(block.add(STATUS).cast()) };
        if status.load(Ordering::Acquire) & OF_USER == 0 {
            return false;
        }
        // SAFETY: BLOCK bytes within the mapping, which the kernel leaves alone until the status is given back, below.
        let bytes = unsafe { std::slice::from_raw_parts(block, BLOCK) };
        packets(bytes, &mut each);
        status.store(OF_KERNEL, Ordering::Release);
        self.next = (self.next + 1) % BLOCKS;
        true
    }

    /// What the kernel has counted by now.
    pub fn counts(&mut self) -> Result<Counts> {
        let mut found = libc::tpacket_stats_v3 { tp_packets: 0, tp_drops: 0, tp_freeze_q_cnt: 0 };
        let mut length = size_of_val(&found) as libc::socklen_t;
        // SAFETY: the kernel writes at most `length` bytes into a structure of just that size.
        let result = unsafe {
            libc::getsockopt(
                self.socket.as_raw_fd(),
                libc::SOL_PACKET,
                libc::PACKET_STATISTICS,
                (&raw mut found).cast(),
                &raw mut length,
            )
        };
        if result != 0 {
            return Err(last());
        }
        // To ask sets the kernel's counters back.
        self.counts.seen += u64::from(found.tp_packets);
        self.counts.dropped += u64::from(found.tp_drops);
        Ok(self.counts)
    }
}

impl AsFd for Ring {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl Drop for Ring {
    fn drop(&mut self) {
        // SAFETY: the mapping that `open` made, which nobody borrows any more.
        unsafe { libc::munmap(self.memory.cast(), BLOCK * BLOCKS) };
    }
}

/// The packets of a block. Ends early where a length makes no sense.
fn packets(block: &[u8], each: &mut impl FnMut(Packet<'_>)) {
    // tpacket_block_desc: version, private, status, number of packets, offset of the first.
    let (Some(count), Some(first)) = (u32_at(block, 12), u32_at(block, 16)) else { return };
    let mut at = first as usize;
    for _ in 0..count {
        let Some(header) = block.get(at..) else { return };
        let Some((packet, next)) = packet(header) else { return };
        each(packet);
        if next == 0 {
            return;
        }
        at += next;
    }
}

/// One packet by its header (`tpacket3_hdr`, then `sockaddr_ll`), and how far the next one is.
fn packet(header: &[u8]) -> Option<(Packet<'_>, usize)> {
    const ADDRESS: usize = 48;
    const OUTGOING: u8 = libc::PACKET_OUTGOING;
    let (kept, start) = (u32_at(header, 12)? as usize, u16_at(header, 24)? as usize);
    let packet = Packet {
        seconds: u32_at(header, 4)?,
        nanoseconds: u32_at(header, 8)?,
        length: u32_at(header, 16)?,
        link: u32_at(header, ADDRESS + 4)?,
        hardware: u16_at(header, ADDRESS + 8)?,
        outgoing: *header.get(ADDRESS + 10)? == OUTGOING,
        bytes: header.get(start..start.checked_add(kept)?)?,
    };
    Some((packet, u32_at(header, 0)? as usize))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

fn last() -> Errno {
    Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::INVAL)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_with_lengths_that_make_no_sense_is_harmless() {
        let mut block = vec![0; 512];
        block[12..16].copy_from_slice(&3_u32.to_ne_bytes());
        block[16..20].copy_from_slice(&48_u32.to_ne_bytes());
        for word in (48..120).step_by(4) {
            for value in [0, 1, 60, 500, u32::MAX] {
                let mut broken = block.clone();
                broken[word..word + 4].copy_from_slice(&u32::to_ne_bytes(value));
                let mut bytes = 0;
                packets(&broken, &mut |packet| bytes += packet.bytes.len());
                assert!(bytes <= 3 * 512);
            }
        }
    }
}
