//! What the sources of a `COPY` are: patterns and links become directories and files.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use ::build::graph;
use rustix::fs::{FileType, Mode, OFlags, ResolveFlags, Stat};

use super::error::shown;
use super::filter::{Filter, Include, Ruling, exclude};
use super::listing::{Listing, open_directory, reopen};
use super::resolve::{Found, Lost, find};
use super::{Error, Source, glob};

/// One thing that is copied.
pub(super) enum Chosen {
    /// The content of a directory.
    Directory {
        /// Open for reading.
        directory: OwnedFd,
        /// Its path in the source, without links.
        path: Vec<u8>,
        /// What of it: all, if none.
        include: Option<Include>,
        /// As it was named, if nothing that is copied would be an error.
        required: Option<String>,
    },
    /// Anything else.
    File {
        /// The directory that it is in.
        above: OwnedFd,
        /// Its name there.
        name: Vec<u8>,
        stat: Stat,
        /// The name that it was reached by.
        called: Vec<u8>,
        path: Vec<u8>,
    },
}

/// Finds what is to be copied, in order.
pub(super) fn choose(copy: &graph::Copy, source: &Source<'_>) -> Result<Vec<Chosen>, Error> {
    let mut chosen = Vec::new();
    for text in &copy.sources {
        let (path, pattern) = if copy.parents { pivot(text.as_bytes()) } else { (text.as_bytes(), None) };
        let paths = expand(source, path, copy.required)?;
        for path in paths {
            if let Some(one) = follow(source, &path, pattern.as_deref())? {
                chosen.push(one);
            }
        }
    }
    if !copy.exclude.is_empty() {
        leave_out(&mut chosen, copy)?;
    }
    Ok(chosen)
}

/// Files that are sources themselves are left out by their name.
fn leave_out(chosen: &mut Vec<Chosen>, copy: &graph::Copy) -> Result<(), Error> {
    let filter = Filter { exclude: exclude(&copy.exclude)?, ..Filter::default() };
    let above = filter.top(b"");
    chosen.retain(|one| match one {
        Chosen::Directory { .. } => true,
        Chosen::File { called, .. } => filter.judge(called, 0, false, &above).0 == Ruling::Take,
    });
    Ok(())
}

/// Of a source with its parents: the directory from which on these count, and the rest.
fn pivot(path: &[u8]) -> (&[u8], Option<Vec<u8>>) {
    let found = path.windows(3).position(|three| three == b"/./");
    let (above, rest) = found.map_or((&b""[..], path), |at| (&path[..at], &path[at + 3..]));
    (above, Some(clean(rest)).filter(|rest| !rest.is_empty()))
}

/// A path without empty names, `.` and `..`, which ends at the root.
fn clean(path: &[u8]) -> Vec<u8> {
    let mut names: Vec<&[u8]> = Vec::new();
    for name in path.split(|&b| b == b'/') {
        match name {
            b"" | b"." => {}
            b".." => drop(names.pop()),
            name => names.push(name),
        }
    }
    names.join(&b'/')
}

/// The paths that a pattern stands for. One without wildcards stands for itself.
fn expand(source: &Source<'_>, text: &[u8], required: bool) -> Result<Vec<Vec<u8>>, Error> {
    let path = clean(text);
    let names: Vec<&[u8]> = path.split(|&b| b == b'/').collect();
    let Some(first) = names.iter().position(|name| glob::has_wildcards(name)) else { return Ok(vec![path]) };
    let (above, patterns) = names.split_at(first);
    if !patterns.iter().all(|pattern| glob::is_well_formed(pattern)) {
        return Err(Error::Pattern(shown(text)));
    }
    let mut found = Vec::new();
    match find(source.root, &above.join(&b'/'), &|path, is_directory| hidden(source, path, is_directory)) {
        Ok(base) if base.place.is_none() => {
            let directory = reopen(&base.handle).map_err(|e| Error::source(&base.path, "open", e))?;
            matching(source, directory.as_fd(), &base.path, patterns, &mut found)?;
        }
        Ok(_) | Err(Lost::Missing | Lost::Hidden) => {}
        Err(Lost::Failed(e)) => return Err(Error::source(text, "open", e)),
    }
    if found.is_empty() && required {
        return Err(Error::NoMatch(shown(text)));
    }
    Ok(found)
}

fn matching(
    source: &Source<'_>,
    directory: BorrowedFd<'_>,
    path: &[u8],
    patterns: &[&[u8]],
    found: &mut Vec<Vec<u8>>,
) -> Result<(), Error> {
    let Some((pattern, rest)) = patterns.split_first() else { return Ok(()) };
    let listing = Listing::read(directory).map_err(|e| Error::source(path, "list", e))?;
    for (name, kind) in listing.iter().filter(|(name, _)| glob::matches(pattern, name)) {
        let mut whole = path.to_vec();
        if !whole.is_empty() {
            whole.push(b'/');
        }
        whole.extend_from_slice(name);
        let is_directory = kind == FileType::Directory;
        if hidden(source, &whole, is_directory) {
            continue;
        }
        if rest.is_empty() {
            found.push(whole);
        } else if is_directory {
            let below = match open_directory(directory, name) {
                // Gone meanwhile.
                Err(rustix::io::Errno::NOENT | rustix::io::Errno::NOTDIR) => continue,
                other => other.map_err(|e| Error::source(&whole, "open", e))?,
            };
            matching(source, below.as_fd(), &whole, rest, found)?;
        }
    }
    Ok(())
}

fn follow(source: &Source<'_>, path: &[u8], pattern: Option<&[u8]>) -> Result<Option<Chosen>, Error> {
    let found = match find(source.root, path, &|path, is_directory| hidden(source, path, is_directory)) {
        Ok(found) => found,
        Err(Lost::Missing) => return Err(Error::NotFound(shown(path))),
        Err(Lost::Hidden) => return Err(Error::Ignored(shown(path))),
        Err(Lost::Failed(e)) => return Err(Error::source(path, "open", e)),
    };
    let Found { handle, stat, path: real, place } = found;
    let Some((above, name)) = place else {
        let directory = reopen(&handle).map_err(|e| Error::source(&real, "open", e))?;
        let required = match pattern {
            Some(pattern) if !glob::has_wildcards(pattern) => {
                is_there(&directory, pattern)?;
                Some(shown(pattern))
            }
            _ => None,
        };
        let include = pattern.map(Include::new).transpose()?;
        return Ok(Some(Chosen::Directory { directory, path: real, include, required }));
    };
    if pattern.is_some() {
        return Err(Error::NotFound(shown(path)));
    }
    // Nobody could connect to it, and no layer has such a thing.
    if FileType::from_raw_mode(stat.st_mode) == FileType::Socket {
        return Ok(None);
    }
    let called = path.rsplit(|&b| b == b'/').find(|name| !name.is_empty()).unwrap_or(&name).to_vec();
    Ok(Some(Chosen::File { above, name, stat, called, path: real }))
}

/// Whether a path, with no links on its way, is in a directory.
fn is_there(directory: &OwnedFd, path: &[u8]) -> Result<(), Error> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let plain = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    match rustix::fs::openat2(directory, super::listing::os(path), flags, Mode::empty(), plain) {
        Ok(_) => Ok(()),
        Err(_) => Err(Error::NotFound(shown(path))),
    }
}

/// Whether a file is not there for the build.
fn hidden(source: &Source<'_>, path: &[u8], is_directory: bool) -> bool {
    source.ignore.is_some_and(|patterns| {
        let path = String::from_utf8_lossy(path);
        patterns.excludes(&path) && !(is_directory && patterns.may_include_below(&path))
    })
}
