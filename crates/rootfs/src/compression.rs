//! What a blob is packed with, and the reader that unpacks it.
//!
//! The media type only says whether this can be a layer at all. What it is packed with is told by the first
//! bytes: registries and archives in use label gzip as plain tar and the reverse.

use std::fmt;
use std::io::{self, BufRead, BufReader, Chain, Cursor, Read};

/// How a blob is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compression {
    /// Not at all.
    None,
    /// RFC 1952, in any number of members.
    Gzip,
    /// RFC 8878, in any number of frames.
    Zstd,
}

impl fmt::Display for Compression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::None => "tar",
            Self::Gzip => "gzip",
            Self::Zstd => "zstd",
        })
    }
}

/// Why a blob is no layer that we can unpack.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum Unsupported {
    /// Its media type says that it is something else.
    #[error("its media type is {0}, which is no layer")]
    MediaType(String),
    /// Its media type says that it is encrypted.
    #[error("it is encrypted ({0})")]
    Encrypted(String),
    /// It begins as some other format does.
    #[error("it is compressed with {0}; layers are plain, gzip or zstd")]
    Format(&'static str),
}

/// Refuses what cannot be a layer by its media type. Unknown types pass: the content decides.
pub(crate) fn check_media_type(media_type: &str) -> Result<(), Unsupported> {
    let shown = || media_type.chars().take(100).collect::<String>().escape_debug().to_string();
    let base = media_type.split(';').next().unwrap_or_default().trim();
    if base.ends_with("+encrypted") {
        Err(Unsupported::Encrypted(shown()))
    } else if base.ends_with("json") || base.starts_with("text/") {
        Err(Unsupported::MediaType(shown()))
    } else {
        Ok(())
    }
}

/// The compression that content beginning with these bytes (at least six, if there are so many) has.
pub fn sniff(head: &[u8]) -> Result<Compression, Unsupported> {
    Ok(match head {
        [0x1f, 0x8b, ..] => Compression::Gzip,
        // A frame, or a skippable frame as pzstd puts them first.
        [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Compression::Zstd,
        [b'B', b'Z', b'h', b'1'..=b'9', 0x31, 0x41, ..] => return Err(Unsupported::Format("bzip2")),
        [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => return Err(Unsupported::Format("xz")),
        [0x04, 0x22, 0x4d, 0x18, ..] => return Err(Unsupported::Format("lz4")),
        _ => Compression::None,
    })
}

/// How many bytes [`sniff`] wants to see.
const HEAD: u64 = 6;

type Sniffed<R> = BufReader<Chain<Cursor<Vec<u8>>, R>>;

/// A reader of a blob's uncompressed content.
pub(crate) enum Decoder<R: Read> {
    Plain(Sniffed<R>),
    Gzip(Box<flate2::bufread::MultiGzDecoder<Sniffed<R>>>),
    Zstd(zstd::stream::read::Decoder<'static, Sniffed<R>>),
    Bzip2(Box<bzip2::bufread::MultiBzDecoder<Sniffed<R>>>),
    Xz(Box<lzma_rust2::XzReader<Sniffed<R>>>),
}

/// Why no decoder could be made.
#[derive(Debug)]
pub(crate) enum OpenError {
    Read(io::Error),
    Unsupported(Unsupported),
}

impl<R: Read> Decoder<R> {
    /// Looks at the first bytes of `blob` and picks the decoder. `window`: how many bytes zstd may hold.
    pub(crate) fn new(blob: R, window: u64) -> Result<Self, OpenError> {
        let (head, whole) = sniffed(blob)?;
        let compression = sniff(&head).map_err(OpenError::Unsupported)?;
        Self::of(compression, whole, window)
    }

    /// The same for archives that are no layers: they may be compressed with bzip2 and xz, too.
    pub(crate) fn of_archive(archive: R, window: u64) -> Result<Self, OpenError> {
        let (head, whole) = sniffed(archive)?;
        match sniff(&head) {
            Ok(compression) => Self::of(compression, whole, window),
            Err(Unsupported::Format("bzip2")) => {
                Ok(Self::Bzip2(Box::new(bzip2::bufread::MultiBzDecoder::new(whole))))
            }
            Err(Unsupported::Format("xz")) => {
                let most = u32::try_from(window >> 10).unwrap_or(u32::MAX);
                Ok(Self::Xz(Box::new(lzma_rust2::XzReader::new_mem_limit(whole, true, most))))
            }
            Err(other) => Err(OpenError::Unsupported(other)),
        }
    }

    fn of(compression: Compression, whole: Sniffed<R>, window: u64) -> Result<Self, OpenError> {
        Ok(match compression {
            Compression::None => Self::Plain(whole),
            Compression::Gzip => Self::Gzip(Box::new(flate2::bufread::MultiGzDecoder::new(whole))),
            Compression::Zstd => {
                let mut decoder = zstd::stream::read::Decoder::with_buffer(whole).map_err(OpenError::Read)?;
                decoder.window_log_max(window.max(1 << 10).ilog2().min(31)).map_err(OpenError::Read)?;
                Self::Zstd(decoder)
            }
        })
    }

    /// What was picked, of what layers may have.
    pub(crate) fn compression(&self) -> Compression {
        match self {
            Self::Plain(_) | Self::Bzip2(_) | Self::Xz(_) => Compression::None,
            Self::Gzip(_) => Compression::Gzip,
            Self::Zstd(_) => Compression::Zstd,
        }
    }
}

impl<R: Read> Read for Decoder<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(reader) => {
                // Read through the buffer only while it holds something: then straight into the caller's.
                if reader.buffer().is_empty() && buffer.len() < 64 << 10 {
                    reader.fill_buf()?;
                }
                reader.read(buffer)
            }
            Self::Gzip(reader) => reader.read(buffer),
            Self::Zstd(reader) => reader.read(buffer),
            Self::Bzip2(reader) => reader.read(buffer),
            Self::Xz(reader) => reader.read(buffer),
        }
    }
}

/// The first bytes, and all of them.
fn sniffed<R: Read>(mut blob: R) -> Result<(Vec<u8>, Sniffed<R>), OpenError> {
    let mut head = Vec::with_capacity(HEAD as usize);
    blob.by_ref().take(HEAD).read_to_end(&mut head).map_err(OpenError::Read)?;
    Ok((head.clone(), BufReader::with_capacity(64 << 10, Cursor::new(head).chain(blob))))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn unpack(bytes: &[u8]) -> (Compression, io::Result<Vec<u8>>) {
        let mut decoder = Decoder::new(bytes, 128 << 20).ok().unwrap();
        let mut out = Vec::new();
        (decoder.compression(), decoder.read_to_end(&mut out).map(|_| out))
    }

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn the_content_tells_the_compression() {
        let text = b"something to pack ".repeat(1000);
        for (packed, want) in [
            (text.clone(), Compression::None),
            (gzip(&text), Compression::Gzip),
            ([gzip(&text[..7]), gzip(&text[7..])].concat(), Compression::Gzip),
            (zstd::encode_all(&text[..], 1).unwrap(), Compression::Zstd),
            (
                [
                    b"\x50\x2a\x4d\x18\x02\0\0\0xx".to_vec(),
                    zstd::encode_all(&text[..7], 1).unwrap(),
                    zstd::encode_all(&text[7..], 1).unwrap(),
                ]
                .concat(),
                Compression::Zstd,
            ),
        ] {
            let (found, content) = unpack(&packed);
            assert_eq!((found, content.unwrap()), (want, text.clone()));
        }
        assert_eq!(unpack(b"").1.unwrap(), b"");
        assert_eq!(unpack(b"abc").1.unwrap(), b"abc");
    }

    /// "something to pack " forty times, as xz and bzip2 pack it.
    const XZ: &[u8] = b"\
        \xfd\x37\x7a\x58\x5a\x00\x00\x04\xe6\xd6\xb4\x46\x02\x00\x21\x01\x16\x00\x00\x00\x74\x2f\xe5\xa3\
        \xe0\x02\xcf\x00\x1d\x5d\x00\x39\x9b\xc9\xf2\xeb\x82\xb4\xab\x37\x79\xb6\xaf\x2a\x7f\x7d\x99\xcb\
        \x06\x45\x4e\xe2\x63\x91\x82\xb2\x39\x8e\x00\x00\x00\x00\x00\x00\xce\x8f\x4a\x43\xee\xee\xe9\x01\
        \x00\x01\x39\xd0\x05\x00\x00\x00\xd3\x0d\x0b\x5e\xb1\xc4\x67\xfb\x02\x00\x00\x00\x00\x04\x59\x5a";
    const BZIP2: &[u8] = b"\
        \x42\x5a\x68\x39\x31\x41\x59\x26\x53\x59\x63\xee\x5e\x9d\x00\x01\x3f\x91\x80\x40\x00\x2a\xeb\xcc\
        \x00\x20\x00\x70\x40\x00\x00\xa5\x51\x31\x0f\x09\x81\x3f\x09\xe0\x99\x13\xb1\x30\x26\x44\xd8\x99\
        \x13\x02\x7f\x13\x42\x74\x26\xc4\xd0\x4d\x89\xc0\x9e\x8b\xb9\x22\x9c\x28\x48\x31\xf7\x2f\x4e\x80";

    fn unpack_archive(bytes: &[u8], window: u64) -> io::Result<Vec<u8>> {
        let mut decoder = Decoder::of_archive(bytes, window).ok().unwrap();
        let mut out = Vec::new();
        decoder.read_to_end(&mut out).map(|_| out)
    }

    #[test]
    fn archives_may_be_packed_with_more() {
        let text = b"something to pack ".repeat(40);
        for packed in [XZ, BZIP2] {
            assert_eq!(unpack_archive(packed, 128 << 20).unwrap(), text);
            assert_eq!(unpack_archive(&[packed, packed].concat(), 128 << 20).unwrap(), text.repeat(2));
            for cut in [packed.len() - 1, packed.len() / 2, 7] {
                assert!(unpack_archive(&packed[..cut], 128 << 20).is_err(), "{cut}");
            }
            assert!(Decoder::new(packed, 128 << 20).is_err(), "layers are not");
        }
        // It wants eight megabytes.
        assert!(unpack_archive(XZ, 1 << 20).is_err());
    }

    proptest::proptest! {
        #[test]
        fn a_spoilt_archive_is_an_error_at_worst(at in 0usize..4096, byte: u8, cut in 0usize..4096) {
            for packed in [XZ, BZIP2] {
                let mut spoilt = packed.to_vec();
                let at = 6 + at % (packed.len() - 6);
                spoilt[at] = byte;
                unpack_archive(&spoilt, 16 << 20).ok();
                spoilt.truncate(6 + cut % (packed.len() - 6));
                unpack_archive(&spoilt, 16 << 20).ok();
            }
        }
    }

    #[test]
    fn truncated_streams_are_errors() {
        let text = b"something to pack ".repeat(1000);
        for packed in [gzip(&text), zstd::encode_all(&text[..], 1).unwrap()] {
            for cut in [packed.len() - 1, packed.len() / 2, 7] {
                assert!(unpack(&packed[..cut]).1.is_err());
            }
        }
    }

    #[test]
    fn what_is_no_layer_is_named() {
        assert!(check_media_type("application/vnd.oci.image.layer.v1.tar+gzip").is_ok());
        assert!(check_media_type("application/vnd.docker.image.rootfs.diff.tar.gzip").is_ok());
        assert!(check_media_type("").is_ok());
        assert!(check_media_type("application/vnd.in-toto+json").is_err());
        assert!(check_media_type("application/vnd.oci.image.layer.v1.tar+gzip+encrypted").is_err());
        assert_eq!(sniff(b"\xfd7zXZ\0\0\0"), Err(Unsupported::Format("xz")));
    }
}
