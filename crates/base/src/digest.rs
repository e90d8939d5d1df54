//! Content digests, in the form of the OCI image specification (descriptor.md, "Digests"): `sha256:<64 hex>`.
//!
//! A [`Digest`] is only ever a claim about bytes. What proves the claim is a [`Verifier`] read to its end.

use std::fmt;
use std::io::{self, Read};
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

/// A sha256 digest. The only algorithm that we accept: registries use no other, and the specification
/// requires no other.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest([u8; 32]);

/// Why a text is not a digest.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("`{0}` is not a digest: want sha256: and 64 lower-case hexadecimal digits")]
pub struct ParseDigestError(String);

impl Digest {
    /// The digest of `bytes`.
    pub fn of(bytes: &[u8]) -> Self {
        Self(Sha256::digest(bytes).into())
    }

    /// The 64 hexadecimal digits, without the algorithm.
    pub fn hex(&self) -> String {
        hex(&self.0)
    }

    /// Its bytes.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// The first twelve hexadecimal digits, as tables show them.
    pub fn short(&self) -> String {
        hex(&self.0[..6])
    }

    /// From the 64 hexadecimal digits alone, as blobs and layers are named on disk.
    pub fn from_hex(text: &str) -> Result<Self, ParseDigestError> {
        let bad = || ParseDigestError(text.chars().take(100).collect());
        let mut bytes = [0; 32];
        if text.len() != 64 {
            return Err(bad());
        }
        for (byte, pair) in bytes.iter_mut().zip(text.as_bytes().chunks(2)) {
            *byte = nibble(pair[0]).zip(nibble(pair[1])).map(|(a, b)| a << 4 | b).ok_or_else(bad)?;
        }
        Ok(Self(bytes))
    }
}

fn nibble(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    }
}

/// Lower-case hexadecimal of any bytes.
pub fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    bytes
        .iter()
        .flat_map(|b| [DIGITS[(b >> 4) as usize] as char, DIGITS[(b & 15) as usize] as char])
        .collect()
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sha256:{}", self.hex())
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Digest {
    type Err = ParseDigestError;
    fn from_str(text: &str) -> Result<Self, ParseDigestError> {
        let hex =
            text.strip_prefix("sha256:").ok_or_else(|| ParseDigestError(text.chars().take(100).collect()))?;
        Self::from_hex(hex).map_err(|_| ParseDigestError(text.chars().take(100).collect()))
    }
}

impl Serialize for Digest {
    fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        String::deserialize(from)?.parse().map_err(serde::de::Error::custom)
    }
}

/// Hashes and counts bytes that come in pieces.
#[derive(Debug, Clone, Default)]
pub struct Hasher {
    hasher: Sha256,
    read: u64,
}

impl Hasher {
    /// The next piece.
    pub fn update(&mut self, bytes: &[u8]) {
        self.hasher.update(bytes);
        self.read += bytes.len() as u64;
    }

    /// The digest and the number of all of them.
    pub fn finish(self) -> (Digest, u64) {
        (Digest(self.hasher.finalize().into()), self.read)
    }

    /// The proof that they are what was claimed.
    pub fn verify(self, wanted: &Digest) -> Result<(), DigestMismatch> {
        let (found, read) = self.finish();
        if found == *wanted { Ok(()) } else { Err(DigestMismatch { wanted: *wanted, found, read }) }
    }
}

/// Hashes and counts everything read through it.
pub struct Sha256Reader<R> {
    inner: R,
    hasher: Hasher,
}

impl<R: Read> Sha256Reader<R> {
    /// Wraps `inner`.
    pub fn new(inner: R) -> Self {
        Self { inner, hasher: Hasher::default() }
    }

    /// The digest and the number of the bytes read so far.
    pub fn finish(self) -> (Digest, u64) {
        self.hasher.finish()
    }
}

impl<R: Read> Read for Sha256Reader<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(buffer)?;
        self.hasher.update(&buffer[..n]);
        Ok(n)
    }
}

/// The bytes did not have the digest that was claimed of them.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("the content has the digest {found} ({read} bytes), not {wanted}")]
pub struct DigestMismatch {
    /// What was claimed.
    pub wanted: Digest,
    /// What was read.
    pub found: Digest,
    /// How many bytes were read.
    pub read: u64,
}

/// A reader that fails at its end if what passed through has not the digest it was claimed to have.
/// Whoever consumes it must read to the end: only the end is proof.
pub struct Verifier<R> {
    inner: Option<Sha256Reader<R>>,
    wanted: Digest,
}

impl<R: Read> Verifier<R> {
    /// Reads `inner` and compares with `wanted` at the end.
    pub fn new(inner: R, wanted: Digest) -> Self {
        Self { inner: Some(Sha256Reader::new(inner)), wanted }
    }
}

impl<R: Read> Read for Verifier<R> {
    /// # Errors
    /// `InvalidData` with a [`DigestMismatch`] at the end of the content, besides the inner reader's own.
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let Some(inner) = self.inner.as_mut() else { return Ok(0) };
        let n = inner.read(buffer)?;
        if n == 0
            && !buffer.is_empty()
            && let Some(whole) = self.inner.take()
        {
            let verified = whole.hasher.verify(&self.wanted);
            verified.map_err(|mismatch| io::Error::new(io::ErrorKind::InvalidData, mismatch))?;
        }
        Ok(n)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EMPTY: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    #[test]
    fn digests_round_trip_and_refuse_what_is_not_one() {
        assert_eq!(Digest::of(b"").to_string(), EMPTY);
        assert_eq!(EMPTY.parse::<Digest>().unwrap(), Digest::of(b""));
        for bad in
            ["", "sha256:", "sha512:00", &EMPTY[..70], &EMPTY.to_uppercase(), "sha256:../../etc/passwd"]
        {
            assert!(bad.parse::<Digest>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_verifier_passes_what_was_claimed_and_refuses_the_rest() {
        let mut out = Vec::new();
        Verifier::new(&b"abc"[..], Digest::of(b"abc")).read_to_end(&mut out).unwrap();
        assert_eq!(out, b"abc");
        let error = Verifier::new(&b"abd"[..], Digest::of(b"abc")).read_to_end(&mut out).unwrap_err();
        assert!(error.get_ref().unwrap().is::<DigestMismatch>());
    }
}
