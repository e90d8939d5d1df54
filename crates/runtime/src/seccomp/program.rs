//! A compiled filter, and its form on disk.
//!
//! ```text
//! magic "dhow-bpf" | version u32 | native arch u32 | flags u32 | count u32 | checksum u64 | count × 8 bytes
//! ```
//!
//! All little-endian. The checksum covers every other byte. A filter that lost a bit could let a call
//! through or kill every process, so a file is believed only wholly: anything else is an error, and
//! [`super::cached`] makes the file anew.

use std::path::Path;

use super::Error;
use super::arch::Arch;

/// `BPF_MAXINSNS`: the kernel takes no longer program.
pub const MAX_INSTRUCTIONS: usize = 4096;

const MAGIC: &[u8; 8] = b"dhow-bpf";
const VERSION: u32 = 1;
const HEADER: usize = 32;

/// One instruction, as the kernel's `struct sock_filter` has it.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SockFilter {
    /// The operation.
    pub code: u16,
    /// How many instructions are skipped where the comparison holds.
    pub jt: u8,
    /// How many are skipped where it does not.
    pub jf: u8,
    /// The operand.
    pub k: u32,
}

/// A compiled filter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Program {
    pub(super) flags: u32,
    pub(super) instructions: Vec<SockFilter>,
}

impl Program {
    /// For `seccomp(SECCOMP_SET_MODE_FILTER, flags, …)`.
    pub fn flags(&self) -> u32 {
        self.flags
    }

    /// For `struct sock_fprog`: at most [`MAX_INSTRUCTIONS`].
    pub fn instructions(&self) -> &[SockFilter] {
        &self.instructions
    }

    /// True where some calls are handed to a listener, which whoever installs it has to ask for
    /// (`SECCOMP_FILTER_FLAG_NEW_LISTENER`).
    pub fn notifies(&self) -> bool {
        self.instructions.iter().any(|i| i.code == super::compile::RET && i.k == super::action::NOTIFY)
    }

    /// The cache file's content.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(HEADER + self.instructions.len() * 8);
        bytes.extend_from_slice(MAGIC);
        bytes.extend_from_slice(&VERSION.to_le_bytes());
        bytes.extend_from_slice(&native_audit().to_le_bytes());
        bytes.extend_from_slice(&self.flags.to_le_bytes());
        bytes.extend_from_slice(&(self.instructions.len() as u32).to_le_bytes());
        bytes.extend_from_slice(&[0; 8]);
        for instruction in &self.instructions {
            bytes.extend_from_slice(&instruction.code.to_le_bytes());
            bytes.extend_from_slice(&[instruction.jt, instruction.jf]);
            bytes.extend_from_slice(&instruction.k.to_le_bytes());
        }
        let sum = checksum(&bytes);
        bytes[24..HEADER].copy_from_slice(&sum.to_le_bytes());
        bytes
    }

    /// Reads a cache file's content, verifying it wholly.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, Error> {
        let (Some(header), Some(body)) = (bytes.get(..HEADER), bytes.get(HEADER..)) else {
            return Err(Error::Cache { reason: "it is too short" });
        };
        let word =
            |at: usize| u32::from_le_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]);
        if &header[..8] != MAGIC || word(8) != VERSION {
            return Err(Error::Cache { reason: "it is of another format" });
        }
        if word(12) != native_audit() {
            return Err(Error::Cache { reason: "it is for another processor" });
        }
        let count = word(20) as usize;
        if count == 0 || count > MAX_INSTRUCTIONS || body.len() != count * 8 {
            return Err(Error::Cache { reason: "its length is wrong" });
        }
        let mut claimed = [0; 8];
        claimed.copy_from_slice(&header[24..HEADER]);
        if checksum(bytes).to_le_bytes() != claimed {
            return Err(Error::Cache { reason: "its checksum is wrong" });
        }
        let instructions = body
            .chunks_exact(8)
            .map(|c| SockFilter {
                code: u16::from_le_bytes([c[0], c[1]]),
                jt: c[2],
                jf: c[3],
                k: u32::from_le_bytes([c[4], c[5], c[6], c[7]]),
            })
            .collect();
        Ok(Self { flags: word(16), instructions })
    }

    /// Reads and verifies a cache file.
    pub fn load(path: &Path) -> Result<Self, Error> {
        Self::from_bytes(&base::fs::read(path)?)
    }
}

fn native_audit() -> u32 {
    Arch::native().map_or(0, Arch::audit)
}

/// FNV-1a over everything but the checksum's own place. It guards against torn and rotten files, not against
/// people: who can write to the cache directory is root already.
fn checksum(bytes: &[u8]) -> u64 {
    let mut hash = super::FNV_START;
    for (at, &byte) in bytes.iter().enumerate() {
        if !(24..HEADER).contains(&at) {
            hash = super::fnv(hash, byte);
        }
    }
    hash
}

#[cfg(any(test, feature = "fuzzing"))]
pub mod interpret {
    //! The kernel's interpreter, as far as our compiler uses it; a program that leaves its own bounds panics. For tests
    //! and fuzzing alone.

    use super::Program;

    /// What the kernel hands to a filter.
    #[derive(Debug, Clone, Copy)]
    pub struct Call {
        /// Its number.
        pub number: u32,
        /// `AUDIT_ARCH_*`.
        pub arch: u32,
        /// Its arguments.
        pub args: [u64; 6],
    }

    impl Call {
        fn word(&self, offset: u32) -> u32 {
            match offset {
                0 => self.number,
                4 => self.arch,
                16..64 if offset.is_multiple_of(4) => {
                    let arg = self.args[(offset as usize - 16) / 8];
                    if offset.is_multiple_of(8) { arg as u32 } else { (arg >> 32) as u32 }
                }
                _ => panic!("load at {offset}"),
            }
        }
    }

    /// What the kernel answers.
    pub fn run(program: &Program, call: &Call) -> u32 {
        let (mut at, mut a) = (0_usize, 0_u32);
        loop {
            let i = program.instructions[at];
            at += 1;
            let jump = |holds: bool| usize::from(if holds { i.jt } else { i.jf });
            match i.code {
                0x20 => a = call.word(i.k),
                0x54 => a &= i.k,
                0x05 => at += i.k as usize,
                0x15 => at += jump(a == i.k),
                0x25 => at += jump(a > i.k),
                0x35 => at += jump(a >= i.k),
                0x06 => return i.k,
                other => panic!("operation {other:#x}"),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn sample() -> Program {
        Program {
            flags: 4,
            instructions: vec![
                SockFilter { code: 0x20, jt: 0, jf: 0, k: 4 },
                SockFilter { code: 0x06, jt: 0, jf: 0, k: 0x7fff_0000 },
            ],
        }
    }

    #[test]
    fn a_file_comes_back_as_it_was() {
        let program = sample();
        assert_eq!(Program::from_bytes(&program.to_bytes()).unwrap(), program);
    }

    #[test]
    fn every_flipped_bit_and_every_cut_is_noticed() {
        let bytes = sample().to_bytes();
        for at in 0..bytes.len() {
            for bit in 0..8 {
                let mut broken = bytes.clone();
                broken[at] ^= 1 << bit;
                assert!(Program::from_bytes(&broken).is_err(), "byte {at} bit {bit}");
            }
            assert!(Program::from_bytes(&bytes[..at]).is_err());
        }
        assert!(Program::from_bytes(&[&bytes[..], &[0]].concat()).is_err());
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            prop_assert!(Program::from_bytes(&bytes).is_err());
        }
    }
}
