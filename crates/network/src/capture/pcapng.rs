//! Packets in a file of the form pcapng, with nanoseconds and directions: what Wireshark and tcpdump read.

use std::io::{self, Write};

use super::Seen;

const ETHERNET: u16 = 1;

/// The beginning of a file: who wrote it, then its interfaces, in the order in which packets name them.
pub(super) fn header(to: &mut dyn Write, links: &[(u32, String)], keep: u32) -> io::Result<()> {
    let mut section = Block::new(0x0a0d_0d0a);
    // Its order of bytes, version 1.0, and no length: it ends with the file.
    section.u32(0x1a2b_3c4d);
    section.u16(1);
    section.u16(0);
    section.bytes(&u64::MAX.to_ne_bytes());
    section.option(4, b"dhow");
    to.write_all(&section.finish())?;
    for (_, name) in links {
        const NAME: u16 = 2;
        const RESOLUTION: u16 = 9;
        const NANOSECONDS: u8 = 9;
        let mut link = Block::new(1);
        link.u16(ETHERNET);
        link.u16(0);
        link.u32(keep);
        link.option(NAME, name.as_bytes());
        link.option(RESOLUTION, &[NANOSECONDS]);
        to.write_all(&link.finish())?;
    }
    Ok(())
}

/// A packet.
pub(super) fn packet(to: &mut dyn Write, number: u32, seen: &Seen<'_>) -> io::Result<()> {
    const FLAGS: u16 = 2;
    let mut block = Block::new(6);
    block.u32(number);
    let time = u64::from(seen.seconds) * 1_000_000_000 + u64::from(seen.nanoseconds);
    block.u32((time >> 32) as u32);
    block.u32(time as u32);
    block.u32(seen.bytes.len() as u32);
    block.u32(seen.length);
    block.bytes(seen.bytes);
    block.option(FLAGS, &(if seen.outgoing { 2_u32 } else { 1 }).to_ne_bytes());
    to.write_all(&block.finish())
}

/// A block: kind and length, what is in it, and its length again.
struct Block(Vec<u8>);

impl Block {
    fn new(kind: u32) -> Self {
        let mut block = Self(Vec::with_capacity(256));
        block.u32(kind);
        block.u32(0);
        block
    }

    fn u16(&mut self, value: u16) {
        self.0.extend(value.to_ne_bytes());
    }

    fn u32(&mut self, value: u32) {
        self.0.extend(value.to_ne_bytes());
    }

    /// Bytes, filled up to a multiple of four.
    fn bytes(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
        self.0.resize(self.0.len().next_multiple_of(4), 0);
    }

    fn option(&mut self, code: u16, value: &[u8]) {
        self.u16(code);
        self.u16(value.len() as u16);
        self.bytes(value);
    }

    fn finish(mut self) -> Vec<u8> {
        const END_OF_OPTIONS: u32 = 0;
        self.u32(END_OF_OPTIONS);
        let length = (self.0.len() + 4) as u32;
        self.u32(length);
        self.0[4..8].copy_from_slice(&length.to_ne_bytes());
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_block_says_its_length_twice() {
        let mut file = Vec::new();
        header(&mut file, &[(2, "eth0".to_owned()), (1, "lo".to_owned())], 96).unwrap();
        for length in 0..9 {
            let bytes = vec![7; length];
            let seen =
                Seen { seconds: 1, nanoseconds: 2, length: 100, outgoing: true, bytes: &bytes, link: "eth0" };
            packet(&mut file, 0, &seen).unwrap();
        }
        let word = |at: usize| u32::from_ne_bytes(file[at..at + 4].try_into().unwrap()) as usize;
        let (mut at, mut blocks) = (0, 0);
        while at < file.len() {
            let length = word(at + 4);
            assert_eq!((length % 4, word(at + length - 4)), (0, length));
            at += length;
            blocks += 1;
        }
        assert_eq!((at, blocks), (file.len(), 12));
    }
}
