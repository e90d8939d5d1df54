//! What a layer may cost, whatever it claims of itself.
//!
//! The numbers are generous: no layer that anybody uses comes near them. They exist so that a hostile one
//! ends in a clear error instead of in a full disk or a machine without memory. Each can be set, and the
//! error names the key that sets it.

/// The bounds of one layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Bytes, unpacked; also of a single sparse file, holes included. The largest layers in use (weights of
    /// language models) have tens of gigabytes.
    pub max_size: u64,
    /// Entries, and directories that are made without one. The largest layers in use (whole distributions,
    /// `node_modules`) have about a million; ext4 makes 16 million inodes on a disk of 256 GB.
    pub max_entries: u64,
    /// How many bytes may come out of one compressed byte. Deflate cannot do more than 1032, zstd 30,000, both
    /// with zeros; a program's layer has less than ten.
    pub max_ratio: u64,
    /// Bytes that may come out before `max_ratio` counts, so that small layers of zeros pass.
    pub ratio_free: u64,
    /// Bytes of a name or a link's target.
    pub max_path: u32,
    /// Bytes of an entry's extended headers. Linux takes at most 64 KiB for an attribute's value, and ext4 a
    /// few KiB for all of a file.
    pub max_metadata: u32,
    /// Bytes of memory that a zstd stream may want for its window; a power of two, at least 1 KiB.
    pub max_window: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_size: 512 << 30,
            max_entries: 16 << 20,
            max_ratio: 500,
            ratio_free: 1 << 30,
            max_path: PATH,
            max_metadata: 1 << 20,
            max_window: 128 << 20,
        }
    }
}

/// A bound that a layer does not keep to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Exceeded {
    /// [`Limits::max_size`].
    #[error("it unpacks to more than {0} bytes")]
    Size(u64),
    /// [`Limits::max_entries`].
    #[error("it has more than {0} entries")]
    Entries(u64),
    /// [`Limits::max_ratio`].
    #[error("it unpacks to more than {0} times its size")]
    Ratio(u64),
    /// [`Limits::max_path`].
    #[error("it has a name of more than {0} bytes")]
    Path(u32),
    /// [`Limits::max_metadata`].
    #[error("one of its entries has more than {0} bytes of extended headers")]
    Metadata(u32),
    /// [`Limits::max_window`].
    #[error("its zstd stream wants more than {0} bytes of memory")]
    Window(u64),
}

impl Exceeded {
    /// The bound's name, as a configuration has it.
    pub fn key(&self) -> &'static str {
        match self {
            Self::Size(_) => "max_size",
            Self::Entries(_) => "max_entries",
            Self::Ratio(_) => "max_ratio",
            Self::Path(_) => "max_path",
            Self::Metadata(_) => "max_metadata",
            Self::Window(_) => "max_window",
        }
    }

    pub(crate) fn hint(&self) -> String {
        format!("if you trust the image, raise `{}` in the section [unpack] of config.toml", self.key())
    }
}

/// The longest name that the kernel takes: its `PATH_MAX`, less the final zero.
pub const PATH: u32 = 4095;

/// Regions of a sparse file.
pub(crate) const SPARSE_REGIONS: usize = 100_000;

/// Bytes that are held for the sparse map of one header: [`SPARSE_REGIONS`], 48 bytes each, with room. The
/// parser wants a header in one piece, and an archive could let it grow for ever.
pub(crate) const SPARSE_MAP: usize = 7 << 20;
