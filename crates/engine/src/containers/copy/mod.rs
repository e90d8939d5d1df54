//! `cp`: files go into a container and come out of it, whether it runs or not.
//!
//! ```text
//!              rules: where to, by Docker's table
//! local ──┐                                    ┌── local
//! inside ─┼─► a handle of what is copied ──► a directory, held open ─┼── inside
//! stdin ──┘        (rootfs::copy does it)      └── stdout
//! ```
//!
//! `view` is the container's root, `inside` finds paths in it, `local` finds those of the host.

mod error;
mod inside;
mod local;
mod rules;
mod view;

use std::cell::Cell;
use std::fs::File;
use std::io::BufWriter;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use base::fs::At;
use base::progress::{Progress, Step};
use base::{Failure, Kind, Root};
use rootfs::Limits;
use rootfs::copy::{self, CopyError, Manner, Place as Directory};
use rustix::fs::{FileType, StatVfsMountFlags};
use rustix::io::Errno;

use self::error::{Error, Place};
use self::rules::{Goes, There, What};
use self::view::{Access, View};
use crate::Engine;
use crate::error::Result;

pub use rootfs::copy::Copied;

/// One end of a copy.
#[derive(Debug)]
pub enum CopyEnd {
    /// A path in a container, from its root.
    Container {
        /// The container.
        name: String,
        /// The path.
        path: PathBuf,
    },
    /// A path of the host.
    Local(PathBuf),
    /// An archive, from or to an open file.
    Archive(File),
}

/// How to copy.
#[derive(Debug, Clone, Copy, Default)]
pub struct CopyOptions {
    /// Files belong to whom they belonged to; else to root in a container, and to the caller on the host.
    pub keep_owner: bool,
    /// What is copied is what the last symlink of the source leads to, not that.
    pub follow: bool,
}

/// As many symlinks one behind the other as Linux follows.
const MOST_LINKS: u32 = 40;
/// What is less has been copied before anybody wants to know how far it is.
const WORTH_TELLING: u64 = 16 << 20;

/// What is to be copied.
struct Source {
    handle: OwnedFd,
    kind: FileType,
    what: What,
    name: Vec<u8>,
}

impl Source {
    /// The name that it goes by at the top of an archive.
    fn name_in_archive(&self) -> &[u8] {
        if self.what.contents { b"." } else { &self.name }
    }

    fn refuse_socket(&self, called: &str) -> Result<()> {
        if self.kind == FileType::Socket { Err(Error::Socket(called.to_owned()).into()) } else { Ok(()) }
    }
}

fn kind_of(handle: BorrowedFd<'_>, path: &Path) -> base::fs::Result<FileType> {
    Ok(FileType::from_raw_mode(rustix::fs::fstat(handle).at("look at", path)?.st_mode))
}

impl Engine {
    /// Copies from a container or into one.
    pub fn copy(
        &self,
        from: CopyEnd,
        to: CopyEnd,
        options: CopyOptions,
        progress: &dyn Progress,
    ) -> Result<Copied> {
        let told = Told { id: shown(&from), progress, bytes: Cell::new(0), begun: Cell::new(false) };
        let copied = match (from, to) {
            (CopyEnd::Container { .. }, CopyEnd::Container { .. }) => Err(Error::TwoContainers.into()),
            (CopyEnd::Container { name, path }, to) => {
                self.copy_out(&Place { container: name, path }, to, options, &told)
            }
            (from, CopyEnd::Container { name, path }) => {
                self.copy_in(from, &Place { container: name, path }, options, &told)
            }
            _ => Err(Error::NoContainer.into()),
        };
        told.end();
        copied
    }

    fn copy_out(&self, from: &Place, to: CopyEnd, options: CopyOptions, told: &Told<'_>) -> Result<Copied> {
        // What is wrong with the destination is said before anything is mounted.
        let destination = match to {
            CopyEnd::Local(path) => {
                refuse_empty("destination", &path)?;
                Some((local::destination(&path)?, path))
            }
            CopyEnd::Archive(file) => {
                let view = self.view_of(from, "source", Access::Read)?;
                let source = inside::source(view.root(), from, options.follow)?;
                source.refuse_socket(&from.to_string())?;
                copy::stream(source.handle.as_fd(), source.name_in_archive(), BufWriter::new(file))?;
                return Ok(Copied::default());
            }
            CopyEnd::Container { .. } => None,
        };
        let Some((destination, path)) = destination else { return Err(Error::TwoContainers.into()) };
        let view = self.view_of(from, "source", Access::Read)?;
        let source = inside::source(view.root(), from, options.follow)?;
        source.refuse_socket(&from.to_string())?;
        if matches!(source.kind, FileType::CharacterDevice | FileType::BlockDevice) {
            return Err(Error::DeviceOut(from.clone()).into());
        }
        let ends = (from.to_string(), path.display().to_string());
        let name = target(&source, destination.there, destination.name, &path, ends)?;
        let caller = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
        let owner = (!options.keep_owner).then_some(caller);
        let manner = Manner { owner, tamed: true };
        let place = Directory::on_host(destination.directory);
        Ok(copy::copy(source.handle.as_fd(), &name, place, manner, &|bytes| told.advance(bytes))?)
    }

    fn copy_in(&self, from: CopyEnd, to: &Place, options: CopyOptions, told: &Told<'_>) -> Result<Copied> {
        let manner = Manner { owner: (!options.keep_owner).then_some((0, 0)), tamed: false };
        let advance = |bytes| told.advance(bytes);
        match from {
            CopyEnd::Local(path) => {
                refuse_empty("source", &path)?;
                let source = local::source(&path, options.follow)?;
                source.refuse_socket(&path.display().to_string())?;
                let view = self.view_of(to, "destination", Access::Write)?;
                let destination = inside::destination(view.root(), to)?;
                refuse_read_only(view.root(), destination.directory.as_fd(), to)?;
                let ends = (path.display().to_string(), to.to_string());
                let name = target(&source, destination.there, destination.name, &to.path, ends)?;
                let place =
                    Directory::in_container(destination.directory, view.root_again()?, &destination.path);
                copy::copy(source.handle.as_fd(), &name, place, manner, &advance)
                    .map_err(|error| explain(error, to))
            }
            CopyEnd::Archive(file) => {
                let view = self.view_of(to, "destination", Access::Write)?;
                let destination = inside::destination(view.root(), to)?;
                if destination.there != There::Directory {
                    return Err(Error::NoDirectory(to.clone()).into());
                }
                refuse_read_only(view.root(), destination.directory.as_fd(), to)?;
                let place =
                    Directory::in_container(destination.directory, view.root_again()?, &destination.path);
                // An archive says whom its files belong to, and the caller vouches for how much it holds.
                let manner = Manner { owner: None, ..manner };
                let limits = Limits { max_size: u64::MAX, max_entries: u64::MAX, ..Limits::default() };
                copy::unpack(file, place, manner, limits, &advance).map_err(|error| explain(error, to))
            }
            CopyEnd::Container { .. } => Err(Error::TwoContainers.into()),
        }
    }

    fn view_of(&self, place: &Place, what: &'static str, access: Access) -> Result<View> {
        let found = self.find(&place.container)?;
        refuse_empty(what, &place.path)?;
        let record = found.record.clone();
        let view = self.view(&place.container, found, access)?;
        let action = match access {
            Access::Read => "archive-path",
            Access::Write => "extract-to-dir",
        };
        self.note_container(action, &record, &[]);
        Ok(view)
    }
}

fn refuse_empty(what: &'static str, path: &Path) -> Result<()> {
    if path.as_os_str().is_empty() { Err(Error::Empty { what }.into()) } else { Ok(()) }
}

/// The name that the copy gets in the directory that it goes to, by Docker's table.
fn target(
    source: &Source,
    there: There,
    name: Vec<u8>,
    path: &Path,
    (from, to): (String, String),
) -> Result<Vec<u8>> {
    match rules::decide(source.what, there, rules::asserts_directory(path)) {
        Ok(Goes::Into) => Ok(source.name.clone()),
        Ok(Goes::Over) => Ok(b".".to_vec()),
        Ok(Goes::As) => Ok(name),
        Err(source) => Err(Error::Rule { from, to, source }.into()),
    }
}

/// What cannot be written is said before half of it is tried.
fn refuse_read_only(root: &Root, directory: BorrowedFd<'_>, to: &Place) -> Result<()> {
    let path = Path::new(&to.path);
    let status = rustix::fs::fstatvfs(directory).at("look at", path)?;
    if !status.f_flag.contains(StatVfsMountFlags::RDONLY) {
        return Ok(());
    }
    let device = |file: BorrowedFd<'_>| rustix::fs::fstat(file).map(|stat| stat.st_dev).at("look at", path);
    if device(directory)? == device(root.as_fd())? {
        return Err(Error::ReadOnlyRoot(to.clone()).into());
    }
    Err(Error::ReadOnlyMount(to.clone()).into())
}

/// A read-only mount that lies below the destination.
fn explain(error: CopyError, to: &Place) -> crate::error::Error {
    let read_only = |e: &std::io::Error| e.raw_os_error() == Some(Errno::ROFS.raw_os_error());
    if error.system().is_some_and(read_only) {
        return Nested { to: to.clone(), error }.into();
    }
    error.into()
}

#[derive(Debug, thiserror::Error)]
#[error("cannot copy all to {to}")]
struct Nested {
    to: Place,
    #[source]
    error: CopyError,
}

impl Failure for Nested {
    fn kind(&self) -> Kind {
        self.error.kind()
    }

    fn hints(&self) -> Vec<String> {
        Error::ReadOnlyMount(self.to.clone()).hints()
    }
}

/// What a copy is called while it goes on.
fn shown(from: &CopyEnd) -> String {
    match from {
        CopyEnd::Container { name, path } => format!("{name}:{}", path.display()),
        CopyEnd::Local(path) => path.display().to_string(),
        CopyEnd::Archive(_) => "archive".to_owned(),
    }
}

/// Tells how far it is, once that is worth it.
struct Told<'a> {
    id: String,
    progress: &'a dyn Progress,
    bytes: Cell<u64>,
    begun: Cell<bool>,
}

impl Told<'_> {
    fn advance(&self, bytes: u64) {
        let before = self.bytes.replace(self.bytes.get() + bytes);
        if self.begun.get() {
            self.progress.advance(&self.id, bytes);
        } else if before + bytes >= WORTH_TELLING {
            self.progress.begin(&self.id, Step::Copy, None);
            self.progress.advance(&self.id, before + bytes);
            self.begun.set(true);
        }
    }

    fn end(&self) {
        if self.begun.get() {
            self.progress.end(&self.id, Step::Copy);
        }
    }
}
