//! What an unpacked layer says of itself, in extended attributes that overlay keeps to itself: no container
//! sees them, since their names begin as overlay's own do.

use std::io;
use std::os::fd::AsFd;
use std::path::Path;

use rustix::fs::XattrFlags;
use rustix::io::Errno;

/// The attribute that makes a directory of an overlay hide those below it.
pub(crate) const OPAQUE: &str = "trusted.overlay.opaque";

/// Overlay lists a directory that only one layer has as it is, whiteouts included, unless it has this (`origin` in
/// fs/overlayfs/util.c, `ovl_path_check_origin_xattr`). It may be empty: "copied, nobody knows from where".
const ORIGIN: &str = "trusted.overlay.origin";

/// Ours. On a directory: it is there because something is in it, and the archive says nothing of itself. On
/// the root of a layer: what there is to know before the layer is stacked ([`Layer`]).
const MARK: &str = "trusted.overlay.dhow";

/// Makes a directory hide those below it.
pub(crate) fn set_opaque(dir: impl AsFd) -> rustix::io::Result<()> {
    rustix::fs::fsetxattr(dir, OPAQUE, b"y", XattrFlags::empty())
}

/// Whether it does.
pub(crate) fn is_opaque(dir: impl AsFd) -> rustix::io::Result<bool> {
    let mut value = [0; 1];
    found(rustix::fs::fgetxattr(dir, OPAQUE, &mut value)).map(|length| length == Some(1) && value == *b"y")
}

/// Notes that there are whiteouts in a directory, which is to be done wherever one is made: should there be nothing
/// below that they hide, programs would see names that nothing is behind.
pub(crate) fn set_has_whiteouts(dir: impl AsFd) -> rustix::io::Result<()> {
    rustix::fs::fsetxattr(dir, ORIGIN, b"", XattrFlags::empty())
}

/// Whether there may be.
pub(crate) fn has_whiteouts(dir: impl AsFd) -> rustix::io::Result<bool> {
    Ok(found(rustix::fs::fgetxattr(dir, ORIGIN, &mut [0; 1]))?.is_some())
}

/// Notes that the archive has no entry for a directory.
pub(crate) fn set_implied(dir: impl AsFd) -> rustix::io::Result<()> {
    rustix::fs::fsetxattr(dir, MARK, b"i", XattrFlags::empty())
}

/// Whether that is so.
pub(crate) fn is_implied(dir: impl AsFd) -> rustix::io::Result<bool> {
    Ok(found(rustix::fs::fgetxattr(dir, MARK, &mut [0; 4]))?.is_some())
}

/// Takes the note back. Fine if there is none.
pub(crate) fn clear_implied(dir: impl AsFd) -> rustix::io::Result<()> {
    found(rustix::fs::fremovexattr(dir, MARK).map(|()| 0)).map(drop)
}

/// Notes on the store's own directory that there may be layers in it that have yet to settle.
pub(crate) fn set_has_unsettled(dir: impl AsFd) -> rustix::io::Result<()> {
    rustix::fs::fsetxattr(dir, MARK, b"u", XattrFlags::empty())
}

/// Whether there may be.
pub(crate) fn has_unsettled(dir: impl AsFd) -> rustix::io::Result<bool> {
    Ok(found(rustix::fs::fgetxattr(dir, MARK, &mut [0; 4]))?.is_some())
}

/// Takes the note back.
pub(crate) fn clear_has_unsettled(dir: impl AsFd) -> rustix::io::Result<()> {
    clear_implied(dir)
}

/// What is to be known of a layer before it is stacked.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Layer {
    /// Its root hides all layers below. Overlay itself takes no notice of that on the root of a layer.
    pub(crate) opaque: bool,
    /// It has directories that its archive had no entry for.
    pub(crate) implied: bool,
    /// There is nothing in it.
    pub(crate) empty: bool,
    /// The boot that it was unpacked in, as long as it may not be on the disk yet.
    pub(crate) unsettled: Option<Boot>,
}

/// A boot of the machine: what the kernel calls it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Boot([u8; 36]);

impl Boot {
    /// From the kernel's text: a UUID.
    pub(crate) fn parse(text: &[u8]) -> Option<Self> {
        text.trim_ascii().try_into().ok().map(Self)
    }
}

/// Stands before the boot in the attribute's value.
const AT: u8 = b'@';

impl Layer {
    /// Notes it on the layer's root.
    pub(crate) fn write(self, root: impl AsFd) -> rustix::io::Result<()> {
        let letters = [(self.opaque, b'o'), (self.implied, b'i'), (self.empty, b'e')];
        let mut value: Vec<u8> =
            letters.into_iter().filter(|(is, _)| *is).map(|(_, letter)| letter).collect();
        if let Some(Boot(boot)) = self.unsettled {
            value.push(AT);
            value.extend_from_slice(&boot);
        }
        if value.is_empty() {
            return Ok(());
        }
        rustix::fs::fsetxattr(root, MARK, &value, XattrFlags::empty())
    }

    /// The same where something may be noted already.
    pub(crate) fn rewrite(self, root: impl AsFd) -> rustix::io::Result<()> {
        if self == Self::default() {
            return found(rustix::fs::fremovexattr(root, MARK).map(|()| 0)).map(drop);
        }
        self.write(root)
    }

    /// What is noted on the root at `path`; `None` if it is not there.
    pub(crate) fn read(path: &Path) -> io::Result<Option<Self>> {
        let mut value = [0; LONGEST];
        let length = match rustix::fs::lgetxattr(path, MARK, &mut value) {
            Err(Errno::NOENT) => return Ok(None),
            other => found(other)?.unwrap_or(0),
        };
        Ok(Some(Self::parse(&value[..length])))
    }

    /// What is noted on this root.
    pub(crate) fn read_of(root: impl AsFd) -> rustix::io::Result<Self> {
        let mut value = [0; LONGEST];
        let length = found(rustix::fs::fgetxattr(root, MARK, &mut value))?.unwrap_or(0);
        Ok(Self::parse(&value[..length]))
    }

    fn parse(value: &[u8]) -> Self {
        let end = value.iter().position(|byte| *byte == AT).unwrap_or(value.len());
        let (letters, boot) = value.split_at(end);
        let has = |letter| letters.contains(&letter);
        let unsettled = boot.get(1..).and_then(Boot::parse);
        Self { opaque: has(b'o'), implied: has(b'i'), empty: has(b'e'), unsettled }
    }
}

/// Bytes that a value has at most.
const LONGEST: usize = 64;

fn found(length: rustix::io::Result<usize>) -> rustix::io::Result<Option<usize>> {
    match length {
        Ok(length) => Ok(Some(length)),
        Err(Errno::NODATA | Errno::RANGE | Errno::OPNOTSUPP) => Ok(None),
        Err(e) => Err(e),
    }
}
