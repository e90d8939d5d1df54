//! Extended attributes: those that are content of an image, and what overlay writes into its upper directory
//! (Documentation/filesystems/overlayfs.rst).

use std::os::fd::BorrowedFd;

use rustix::io::Errno;

use super::Why;
use crate::apply::is_content;
use crate::attributes::Attribute;
use crate::name::shown;
use crate::tree::os;

/// Of one file or directory.
#[derive(Debug, Default)]
pub(super) struct Attributes {
    /// Content, ordered by name.
    pub(super) content: Vec<(Vec<u8>, Vec<u8>)>,
    /// Overlay hides what lower directories have here.
    pub(super) opaque: bool,
    /// An empty file that is a whiteout (Linux 6.7, in overlays on overlays).
    pub(super) whiteout: bool,
    /// An attribute that says that the content, or part of it, is elsewhere: `redirect_dir=on` and `metacopy=on` do so.
    pub(super) elsewhere: Option<&'static str>,
}

/// Reads them.
pub(super) fn attributes(file: BorrowedFd<'_>) -> Result<Attributes, Why> {
    let mut found = Attributes::default();
    let failed = |e: Errno| Why::System { action: "read the attributes", source: e.into() };
    for name in names(file).map_err(failed)? {
        match &name[..] {
            b"trusted.overlay.opaque" => {
                found.opaque = value(file, &name).map_err(failed)?.is_some_and(|value| value == b"y");
            }
            b"trusted.overlay.whiteout" => found.whiteout = true,
            b"trusted.overlay.redirect" => found.elsewhere = Some("trusted.overlay.redirect"),
            b"trusted.overlay.metacopy" => found.elsewhere = Some("trusted.overlay.metacopy"),
            _ if is_content(&name) => {
                // An archive has a key, an equals sign and the value.
                if name.contains(&b'=') {
                    return Err(Why::Attribute(shown(&name)));
                }
                // Taken away meanwhile: then it has none.
                if let Some(value) = value(file, &name).map_err(failed)? {
                    found.content.push((name, value));
                }
            }
            _ => {}
        }
    }
    found.content.sort_unstable();
    Ok(found)
}

/// Those that are content, ordered by name, whatever else the file has.
pub(crate) fn content(file: BorrowedFd<'_>) -> Result<Vec<Attribute>, Errno> {
    let mut found = Vec::new();
    for name in names(file)?.into_iter().filter(|name| is_content(name)) {
        if let Some(value) = value(file, &name)? {
            found.push((name, value));
        }
    }
    found.sort_unstable();
    Ok(found)
}

fn names(file: BorrowedFd<'_>) -> Result<Vec<Vec<u8>>, Errno> {
    let list = match grown(|buffer| rustix::fs::flistxattr(file, buffer)) {
        Err(Errno::OPNOTSUPP) => return Ok(Vec::new()),
        other => other?,
    };
    Ok(list.split(|&b| b == 0).filter(|name| !name.is_empty()).map(<[u8]>::to_vec).collect())
}

fn value(file: BorrowedFd<'_>, name: &[u8]) -> Result<Option<Vec<u8>>, Errno> {
    match grown(|buffer| rustix::fs::fgetxattr(file, os(name), buffer)) {
        Err(Errno::NODATA) => Ok(None),
        other => other.map(Some),
    }
}

/// Calls with a larger buffer until all fits. Linux takes no more than 64 KiB of either.
fn grown(mut call: impl FnMut(&mut [u8]) -> rustix::io::Result<usize>) -> rustix::io::Result<Vec<u8>> {
    let mut buffer = vec![0; 512];
    loop {
        match call(&mut buffer) {
            Ok(length) => {
                buffer.truncate(length);
                return Ok(buffer);
            }
            Err(Errno::RANGE) if buffer.len() < 1 << 20 => buffer.resize(buffer.len() * 8, 0),
            Err(e) => return Err(e),
        }
    }
}
