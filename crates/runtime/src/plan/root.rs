//! The plan of the root file system.

use std::ffi::{CString, OsStr};
use std::fmt::Write as _;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use oci::runtime::{Linux, Spec};
use rustix::fs::OFlags;
use sys::mount::propagation;

use super::tree::{Copying, HostTree};
use super::{PlanError, c_string, mounts, open};
use crate::bundle::RootSource;

/// How the root file system comes to be.
#[derive(Debug)]
pub(crate) struct RootPlan {
    /// Where it is attached while it is built.
    pub(crate) mountpoint: CString,
    /// Read-only in the end.
    pub(crate) readonly: bool,
    /// What it is.
    pub(crate) source: RootSourcePlan,
    /// The propagation of the copies of a directory's mounts, all of them: private, or the host's slaves.
    pub(crate) before: u64,
    /// The propagation of the container's `/` and whether it goes for all below; none: as it is made.
    pub(crate) after: Option<(u64, bool)>,
    /// The SELinux context of an overlay.
    pub(crate) label: Option<CString>,
}

#[derive(Debug)]
pub(crate) enum RootSourcePlan {
    /// Through `fsconfig(lowerdir+)`, Linux 6.7.
    Overlay { lowers: Vec<CString>, upper: CString, work: CString, volatile: bool },
    /// Through `mount(2)` for kernels before: its options are one page, so that the directories are named by
    /// descriptor numbers, relative to `/proc/self/fd`, as which they hold some hundred layers. The descriptors
    /// hold the numbers: the child opens the paths anew in their places, since overlayfs (6.1, for one) takes only
    /// mounts of the namespace that it is mounted in.
    OldOverlay { options: CString, directories: Vec<(CString, OwnedFd)> },
    /// A directory as it is: a copy of its mounts, attached nowhere yet.
    Directory(HostTree),
}

impl RootSourcePlan {
    /// The directory that an overlay writes to.
    pub(crate) fn upper(&self) -> Option<&Path> {
        let upper = match self {
            Self::Overlay { upper, .. } => upper,
            // The working directory comes last, the upper one before it.
            Self::OldOverlay { directories, .. } => &directories.get(directories.len().checked_sub(2)?)?.0,
            Self::Directory(_) => return None,
        };
        Some(Path::new(OsStr::from_bytes(upper.to_bytes())))
    }
}

/// The longest string that `fsconfig(2)` takes, with its end.
pub(super) const LONGEST_PARAMETER: usize = 256;
/// The most lower directories that overlayfs takes.
pub(crate) const MOST_LOWERS: usize = 500;

pub(super) fn plan(
    source: &RootSource,
    spec: &Spec,
    linux: &Linux,
    copying: Copying,
) -> Result<RootPlan, PlanError> {
    let root = spec.root.as_ref().ok_or(PlanError::Missing("root"))?;
    let (kind, recursive) = mounts::root_propagation(linux)?;
    let source = match source {
        RootSource::Directory(path) => {
            use base::fs::At;
            RootSourcePlan::Directory(HostTree::new(path, true, copying).at("open", path)?)
        }
        RootSource::Overlay { lowers, upper, work, volatile } => {
            if lowers.is_empty() || lowers.len() > MOST_LOWERS {
                let value = format!("{} layers, of 1 to {MOST_LOWERS}", lowers.len());
                return Err(PlanError::Invalid { field: "root", value });
            }
            let longest = lowers.iter().chain([upper, work]).map(|p| p.as_os_str().len()).max();
            if longest < Some(LONGEST_PARAMETER) && kernel_at_least(6, 7) {
                RootSourcePlan::Overlay {
                    lowers: lowers.iter().map(|p| path_string(p)).collect::<Result<_, _>>()?,
                    upper: path_string(upper)?,
                    work: path_string(work)?,
                    volatile: *volatile,
                }
            } else {
                old_overlay(lowers, upper, work, *volatile)?
            }
        }
    };
    Ok(RootPlan {
        mountpoint: path_string(&root.path)?,
        readonly: root.readonly,
        source,
        // A peer of the host's it never is, not even if it is to be shared: what is mounted in it while it is built is
        // nobody else's to see. `shared` means the container's own mounts and what copies are made of them.
        before: if kind == propagation::SLAVE { kind } else { propagation::PRIVATE },
        after: matches!(kind, propagation::SHARED | propagation::UNBINDABLE).then_some((kind, recursive)),
        label: mounts::mount_label(linux)?,
    })
}

fn old_overlay(
    lowers: &[PathBuf],
    upper: &Path,
    work: &Path,
    volatile: bool,
) -> Result<RootSourcePlan, PlanError> {
    let mut directories = Vec::with_capacity(lowers.len() + 2);
    let mut options = String::from("lowerdir=");
    for (n, lower) in lowers.iter().enumerate() {
        let fd = open(lower, OFlags::PATH | OFlags::DIRECTORY)?;
        // Writing to a String cannot fail.
        let _ = write!(options, "{}{}", if n > 0 { ":" } else { "" }, fd.as_raw_fd());
        directories.push((path_string(lower)?, fd));
    }
    for (key, path) in [("upperdir", upper), ("workdir", work)] {
        let fd = open(path, OFlags::PATH | OFlags::DIRECTORY)?;
        let _ = write!(options, ",{key}={}", fd.as_raw_fd());
        directories.push((path_string(path)?, fd));
    }
    if volatile {
        options.push_str(",volatile,redirect_dir=off,metacopy=off");
    }
    if options.len() > 4000 {
        return Err(PlanError::Unsupported(format!("{} layers on a kernel before 6.7", lowers.len())));
    }
    Ok(RootSourcePlan::OldOverlay { options: c_string("root", options)?, directories })
}

fn path_string(path: &Path) -> Result<CString, PlanError> {
    c_string("root", path.as_os_str().as_bytes())
}

/// Whether the running kernel is of this version or later.
pub(super) fn kernel_at_least(major: u32, minor: u32) -> bool {
    let name = rustix::system::uname();
    let release = name.release().to_bytes();
    let mut numbers =
        release.split(|b| !b.is_ascii_digit()).map_while(|n| std::str::from_utf8(n).ok()?.parse().ok());
    let found: (u32, u32) = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    found >= (major, minor)
}
