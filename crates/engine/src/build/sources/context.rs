//! Contexts: what is given to `dhow build` becomes an open directory, a Dockerfile, and what of the directory is left out.
//!
//! Which it is, is told as `docker buildx build` tells it: `-` is standard input, an archive or a Dockerfile; a Git repository is
//! one by its scheme or by `.git`; another `http` address is an archive or a Dockerfile; everything else is a directory.

use std::fs::File;
use std::io::{BufReader, Cursor, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use ::build::graph;
use ::build::ignore::Patterns;
use base::fs::At;
use rootfs::copy::{Manner, Place};
use rustix::fs::{CWD, FileType, Mode, OFlags};
use rustix::io::Errno;

use super::Error;
use crate::build::files::Owners;
use crate::build::files::listing::open_regular;
use crate::build::files::resolve::{Lost, find};
use crate::error::Result;

/// More of a Dockerfile, or of a `.dockerignore`, is not read.
pub(super) const LONGEST: u64 = 16 << 20;
/// As much of a stream as tells an archive from a Dockerfile.
const HEAD: u64 = 64 << 10;

/// What a context is, as it was given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Spec {
    /// A directory.
    Directory(PathBuf),
    /// Standard input: an archive or a Dockerfile.
    Stdin,
    /// A file from the web: an archive or a Dockerfile.
    Http(String),
    /// A Git repository.
    Git(graph::Git),
    /// A directory with an image: `oci-layout://…`.
    Layout(String),
    /// An image: `docker-image://…`, of `--build-context` alone.
    Image(String),
}

/// What is to be opened.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Asked<'a> {
    /// The context.
    pub(crate) spec: &'a Spec,
    /// `-f`: a path from the working directory for a directory, from the root of any other context; `-` is standard input.
    pub(crate) dockerfile: Option<&'a str>,
    /// A directory of this build, which goes with it: for what has to be unpacked.
    pub(crate) work: &'a Path,
}

/// A context.
#[derive(Debug)]
pub(crate) struct Opened {
    /// The directory, open for reading.
    pub(crate) root: OwnedFd,
    /// What to build by.
    pub(crate) dockerfile: Dockerfile,
    /// What of the directory is not there for the build.
    pub(crate) ignore: Patterns,
    /// To whom copies belong.
    pub(crate) owners: Owners,
    /// The directory outlives the build: digests of its files are worth to be remembered.
    pub(crate) lasting: bool,
}

/// A Dockerfile.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Dockerfile {
    /// As messages name it.
    pub(crate) name: String,
    /// Its text.
    pub(crate) text: String,
}

impl Spec {
    /// What a text means.
    ///
    /// # Errors
    /// A Git address whose reference or directory cannot be one.
    pub(crate) fn parse(text: &str) -> Result<Self> {
        if text == "-" {
            return Ok(Self::Stdin);
        }
        if let Some(layout) = text.strip_prefix("oci-layout://") {
            return Ok(Self::Layout(layout.to_owned()));
        }
        if let Some(image) = text.strip_prefix("docker-image://") {
            return Ok(Self::Image(image.to_owned()));
        }
        // What is there is meant, whatever it looks like: `github.com/me/it` may be a directory.
        if !text.contains("://") && Path::new(text).is_dir() {
            return Ok(Self::Directory(PathBuf::from(text)));
        }
        if let Some(git) = super::git::parse(text)? {
            return Ok(Self::Git(git));
        }
        if text.starts_with("http://") || text.starts_with("https://") {
            return Ok(Self::Http(text.to_owned()));
        }
        Ok(Self::Directory(PathBuf::from(text)))
    }
}

/// Opens a context and reads its Dockerfile. `stdin` is read where the one or the other is `-`; `fetch` knows what is elsewhere.
pub(crate) fn open(asked: &Asked<'_>, stdin: &mut dyn Read, fetch: &dyn Fetch) -> Result<Opened> {
    match asked.spec {
        Spec::Directory(path) => directory(path, asked, stdin),
        Spec::Stdin => {
            if asked.dockerfile == Some("-") {
                return Err(Error::TwiceStdin.into());
            }
            stream(stdin, "from standard input", asked)
        }
        Spec::Http(url) => {
            let file = fetch.http(url)?;
            let shown = format!("from {}", super::without_login(url));
            let mut file = BufReader::new(file);
            if asked.dockerfile == Some("-") {
                let text = dockerfile_of(stdin, "-")?;
                let root = unpacked(&mut file, &shown, asked.work)?;
                return inside(root, Owners::Kept, Some(text), asked);
            }
            stream(&mut file, &shown, asked)
        }
        Spec::Git(git) => {
            let (root, _) = fetch.git(git)?;
            let given = (asked.dockerfile == Some("-")).then(|| dockerfile_of(stdin, "-")).transpose()?;
            inside(root, Owners::Root, given, asked)
        }
        Spec::Layout(text) => Err(Error::Unsupported(format!("oci-layout://{text}")).into()),
        Spec::Image(text) => Err(Error::Unsupported(format!("docker-image://{text}")).into()),
    }
}

/// Opens what `--build-context` gives a name to: it needs no Dockerfile, and has a `.dockerignore` of its own.
pub(crate) fn open_named(spec: &Spec, work: &Path, fetch: &dyn Fetch) -> Result<Opened> {
    let none = Dockerfile { name: String::new(), text: String::new() };
    let (root, owners, lasting) = match spec {
        Spec::Directory(path) => (open_directory(path)?, Owners::Root, true),
        Spec::Http(url) => {
            let shown = format!("from {}", super::without_login(url));
            (unpacked(&mut fetch.http(url)?, &shown, work)?, Owners::Kept, false)
        }
        Spec::Git(git) => {
            let (root, _) = fetch.git(git)?;
            (root, Owners::Root, false)
        }
        Spec::Stdin => return Err(Error::Unsupported("-".to_owned()).into()),
        Spec::Layout(text) => return Err(Error::Unsupported(format!("oci-layout://{text}")).into()),
        Spec::Image(text) => return Err(Error::Unsupported(format!("docker-image://{text}")).into()),
    };
    let ignore = ignore_inside(root.as_fd(), &[".dockerignore"])?;
    Ok(Opened { root, dockerfile: none, ignore, owners, lasting })
}

/// Fetches what is elsewhere.
pub(crate) trait Fetch {
    /// A file from the web, whole.
    fn http(&self, url: &str) -> Result<File>;
    /// A repository's files, or those of its subdirectory, and its commit.
    fn git(&self, git: &graph::Git) -> Result<(OwnedFd, String)>;
}

fn directory(path: &Path, asked: &Asked<'_>, stdin: &mut dyn Read) -> Result<Opened> {
    let root = open_directory(path)?;
    let (dockerfile, own) = match asked.dockerfile {
        Some("-") => (dockerfile_of(stdin, "-")?, None),
        Some(given) => {
            (read_dockerfile(Path::new(given))?, Some(PathBuf::from(format!("{given}.dockerignore"))))
        }
        None => {
            let place = path.join("Dockerfile");
            // Some file systems, and the people on them, make no difference.
            let found = match read_dockerfile(&place) {
                Err(error) if error.kind() == base::Kind::NotFound => {
                    read_dockerfile(&path.join("dockerfile")).map_err(|_| error)
                }
                other => other,
            };
            (found?, Some(path.join("Dockerfile.dockerignore")))
        }
    };
    let ignore = match own.map(|own| ignore_at(&own)).transpose()?.flatten() {
        Some(ignore) => ignore,
        None => ignore_inside(root.as_fd(), &[".dockerignore"])?,
    };
    Ok(Opened { root, dockerfile, ignore, owners: Owners::Root, lasting: true })
}

fn open_directory(path: &Path) -> Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    match rustix::fs::openat(CWD, path, flags, Mode::empty()) {
        Err(Errno::NOENT) => Err(Error::NoDirectory(path.to_owned()).into()),
        Err(Errno::NOTDIR) => Err(Error::NotDirectory(path.to_owned()).into()),
        other => Ok(other.at("open", path)?),
    }
}

/// A stream that is an archive or a Dockerfile.
fn stream(input: &mut dyn Read, origin: &str, asked: &Asked<'_>) -> Result<Opened> {
    let mut head = Vec::new();
    let read = (&mut *input).take(HEAD).read_to_end(&mut head);
    read.map_err(|source| Error::Read { path: origin.to_owned(), source })?;
    let is_archive = begins_archive(&head);
    let mut input = Cursor::new(head).chain(input);
    if is_archive {
        let root = unpacked(&mut input, origin, asked.work)?;
        return inside(root, Owners::Kept, None, asked);
    }
    let dockerfile = dockerfile_of(&mut input, "-")?;
    if let Some(name) = asked.dockerfile {
        return Err(Error::StdinAndFile(name.to_owned()).into());
    }
    let root = empty(asked.work)?;
    let ignore = Patterns::default();
    Ok(Opened { root, dockerfile, ignore, owners: Owners::Root, lasting: false })
}

/// Whether what comes is an archive, by its beginning: compressed, or with the name of a format where tar has it.
fn begins_archive(head: &[u8]) -> bool {
    let is_tar =
        head.get(257..262) == Some(b"ustar") || (head.len() >= 512 && rootfs::copy::is_archive(head));
    is_tar || !matches!(rootfs::sniff(head), Ok(rootfs::Compression::None))
}

/// A new empty directory of the build.
fn empty(work: &Path) -> Result<OwnedFd> {
    for number in 0_u32.. {
        let path = work.join(format!("context{number}"));
        match base::fs::create_dir(&path, 0o755) {
            Err(e) if e.source.kind() == std::io::ErrorKind::AlreadyExists => {}
            other => {
                other?;
                return open_directory(&path);
            }
        }
    }
    Err(Error::NoDirectory(work.to_owned()).into())
}

fn unpacked(input: &mut dyn Read, origin: &str, work: &Path) -> Result<OwnedFd> {
    let root = empty(work)?;
    let place = Place::on_host(root.try_clone().at("open", work)?);
    rootfs::copy::unpack(input, place, Manner::default(), rootfs::Limits::default(), &|_| {})
        .map_err(|source| Error::Unpack { origin: origin.to_owned(), source })?;
    Ok(root)
}

/// A context that came from elsewhere: its Dockerfile is in it, and its links lead nowhere else.
fn inside(root: OwnedFd, owners: Owners, given: Option<Dockerfile>, asked: &Asked<'_>) -> Result<Opened> {
    let name = asked.dockerfile.filter(|name| *name != "-").unwrap_or("Dockerfile");
    let is_given = given.is_some();
    let dockerfile = match given {
        Some(dockerfile) => dockerfile,
        None => match read_inside(root.as_fd(), name)? {
            Some(bytes) => text_of(bytes, name)?,
            None => return Err(Error::NoDockerfile(name.to_owned()).into()),
        },
    };
    let own = format!("{name}.dockerignore");
    let names = if is_given { &[".dockerignore"][..] } else { &[&*own, ".dockerignore"] };
    let ignore = ignore_inside(root.as_fd(), names)?;
    Ok(Opened { root, dockerfile, ignore, owners, lasting: false })
}

fn read_dockerfile(path: &Path) -> Result<Dockerfile> {
    let name = path.display().to_string();
    match open_file(path) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Err(Error::NoDockerfile(name).into()),
        Err(source) => Err(Error::Read { path: name, source }.into()),
        Ok(mut file) => dockerfile_of(&mut file, &name),
    }
}

/// A file that is one: a FIFO would let us wait for ever. But shells give one (`-f <(…)`) below `/dev`.
fn open_file(path: &Path) -> std::io::Result<File> {
    if path.starts_with("/dev") {
        return File::open(path);
    }
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let file = rustix::fs::openat(CWD, path, flags, Mode::empty())?;
    match FileType::from_raw_mode(rustix::fs::fstat(&file)?.st_mode) {
        FileType::RegularFile => Ok(file.into()),
        FileType::Directory => Err(Errno::ISDIR.into()),
        _ => Err(std::io::Error::other("it is no regular file")),
    }
}

fn dockerfile_of(input: &mut dyn Read, name: &str) -> Result<Dockerfile> {
    text_of(bounded(input, name)?, name)
}

fn text_of(bytes: Vec<u8>, name: &str) -> Result<Dockerfile> {
    let text = String::from_utf8(bytes).map_err(|_| Error::BinaryDockerfile(name.to_owned()))?;
    Ok(Dockerfile { name: name.to_owned(), text })
}

fn bounded(input: &mut dyn Read, name: &str) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let read = input.take(LONGEST + 1).read_to_end(&mut bytes);
    read.map_err(|source| Error::Read { path: name.to_owned(), source })?;
    if bytes.len() as u64 > LONGEST {
        return Err(Error::LongDockerfile(name.to_owned()).into());
    }
    Ok(bytes)
}

/// A regular file of a context, links resolved in it.
fn read_inside(root: BorrowedFd<'_>, name: &str) -> Result<Option<Vec<u8>>> {
    let failed = |source| Error::Read { path: name.to_owned(), source };
    let found = match find(root, name.as_bytes(), &|_, _| false) {
        Ok(found) => found,
        Err(Lost::Missing | Lost::Hidden) => return Ok(None),
        Err(Lost::Failed(e)) => return Err(failed(e).into()),
    };
    let Some((above, last)) = found.place else { return Ok(None) };
    match open_regular(above.as_fd(), &last) {
        Err(Errno::NOENT | Errno::AGAIN | Errno::LOOP | Errno::NXIO) => Ok(None),
        other => {
            let (file, _) = other.map_err(|e| failed(e.into()))?;
            bounded(&mut File::from(file), name).map(Some)
        }
    }
}

/// The first of these that a context has; nothing is left out, if none.
fn ignore_inside(root: BorrowedFd<'_>, names: &[&str]) -> Result<Patterns> {
    for name in names {
        if let Some(bytes) = read_inside(root, name)? {
            return patterns(&bytes, name);
        }
    }
    Ok(Patterns::default())
}

/// That of a Dockerfile which is anywhere.
fn ignore_at(path: &Path) -> Result<Option<Patterns>> {
    let name = path.display().to_string();
    match open_file(path) {
        Err(e) if matches!(e.kind(), std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory) => {
            Ok(None)
        }
        Err(source) => Err(Error::Read { path: name, source }.into()),
        Ok(mut file) => patterns(&bounded(&mut file, &name)?, &name).map(Some),
    }
}

fn patterns(bytes: &[u8], name: &str) -> Result<Patterns> {
    let text = String::from_utf8_lossy(bytes);
    let parsed = Patterns::parse(&text);
    Ok(parsed.map_err(|source| Error::Ignore { path: name.to_owned(), source })?)
}

#[cfg(test)]
mod tests;
