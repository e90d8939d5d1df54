//! What a layer may cost, whatever it claims of itself.
//!
//! The numbers are generous: no layer that anybody uses comes near them. They exist so that a hostile one
//! ends in a clear error instead of in a full disk or a machine without memory.

/// Entries of one layer. The largest layers in use (whole distributions, `node_modules`) have about a
/// million; ext4 makes 16 million inodes on a disk of 256 GB.
pub(crate) const ENTRIES: u64 = 16 << 20;

/// Bytes of one layer, unpacked; also of a single sparse file, holes included. The largest layers in use
/// (weights of language models) have tens of gigabytes.
pub(crate) const UNPACKED: u64 = 512 << 30;

/// How many bytes may come out of one compressed byte. Deflate cannot do more than 1032; zstd can do 30,000
/// with zeros, which no real layer of more than [`RATIO_FREE`] bytes needs.
pub(crate) const RATIO: u64 = 2000;

/// Bytes that may come out before [`RATIO`] counts, so that small layers of zeros pass.
pub(crate) const RATIO_FREE: u64 = 1 << 30;

/// Bytes of a name or link target: the kernel's `PATH_MAX`, less the final zero.
pub(crate) const PATH: u32 = 4095;

/// Bytes of an entry's extended headers. Linux takes at most 64 KiB for an attribute's value, and ext4 a few
/// KiB for all of a file.
pub(crate) const METADATA: u32 = 1 << 20;

/// Regions of a sparse file.
pub(crate) const SPARSE_REGIONS: usize = 100_000;

/// Bytes that are held to read one header with all its extensions: [`METADATA`] and a sparse map of
/// [`SPARSE_REGIONS`], 48 bytes each, with room. The parser wants a header in one piece, and an archive could
/// let it grow for ever.
pub(crate) const HEADER: usize = 8 << 20;
