//! Git repositories, fetched with the host's `git`.
//!
//! ```text
//! STORE/git/<digest of the address>/     its lock: one fetch at a time
//!     repository/                        bare; what was fetched stays for the next build
//! WORK/git<n>/                           the files of one commit
//! ```
//!
//! The program is told as little as it needs: an environment of our own, no configuration of the system, the user or the
//! repository, no hooks, no prompts, no transports but those of addresses. What comes from a Dockerfile stands behind `--`, or was
//! looked at first (`address`). A login is neither an argument nor written down: it is in the environment of that one process.

mod address;
mod error;
mod program;

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use ::build::graph::Git;
use base::Digest;
use base::fs::{At, Durability};
use rustix::fs::{CWD, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

pub(crate) use self::address::{parse, shown};
pub(crate) use self::error::GitError;
pub(crate) use self::program::Access;
use self::program::{Keys, Program};
use super::hold;
use crate::build::cancel::Cancel;

/// Is in a repository that nobody is changing, or has died over.
const WHOLE: &str = "dhow";

/// Where repositories are kept, and what a build has of them.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Places<'a> {
    /// Outlives the build.
    pub(crate) store: &'a Path,
    /// Goes with the build.
    pub(crate) work: &'a Path,
}

/// A commit's files.
#[derive(Debug)]
pub(crate) struct Fetched {
    /// The directory, or the subdirectory of it that was asked for, open for reading.
    pub(crate) root: OwnedFd,
    /// Which commit.
    pub(crate) commit: String,
}

type Result<T> = std::result::Result<T, GitError>;

/// Fetches a commit's files.
pub(crate) fn fetch(git: &Git, places: Places<'_>, access: Access<'_>, cancel: &Cancel) -> Result<Fetched> {
    let fetched = fetch_until(git, places, access, cancel);
    // Whatever it was that could not go on then.
    if cancel.check().is_err() { Err(GitError::Interrupted) } else { fetched }
}

fn fetch_until(git: &Git, places: Places<'_>, access: Access<'_>, cancel: &Cancel) -> Result<Fetched> {
    address::check(git, access.local)?;
    let (program, url) = Program::new(&git.url, access, cancel);
    // What somebody's own keys opened is not for those who have others.
    let whose = if access.keys == Keys::User { "" } else { "\0lent" };
    let own = places.store.join("git").join(Digest::of(format!("{url}{whose}").as_bytes()).hex());
    let _lock = hold(&own, cancel)?.ok_or(GitError::Interrupted)?;
    let repository = own.join("repository");
    prepare(&program, &repository)?;
    // A fetch that is killed leaves locks, and objects without a name.
    let whole = repository.join(WHOLE);
    let changing = |change: &dyn Fn() -> Result<()>| {
        base::fs::remove_file(&whole)?;
        let changed = change();
        if cancel.check().is_ok() {
            base::fs::write_atomic(&whole, b"", Durability::Volatile)?;
        } else {
            base::fs::remove_dir_all(&repository)?;
        }
        changed
    };
    let in_it = program.within(&repository);
    let commit = if address::is_commit(&git.reference) {
        if !has(&in_it, &git.reference) {
            changing(&|| fetch_commit(&in_it, &url, &git.reference))?;
        }
        git.reference.clone()
    } else {
        let found = advertised(&program, &url, &git.reference)?;
        verified(git, found.commit.clone())?;
        if !has(&in_it, &found.commit) {
            let refspec = format!("+{}:refs/dhow/{}", found.name, found.commit);
            // A server that is nothing but files knows no part of a history.
            let words = ["fetch", "--quiet", "--no-tags", "--no-recurse-submodules"];
            changing(&|| shallow(&in_it, &words, &["--", &url, &refspec]))?;
        }
        if !has(&in_it, &found.commit) {
            return Err(GitError::Moved { url: shown(&url), reference: git.reference.clone() });
        }
        found.commit
    };
    let commit = verified(git, commit)?;
    let tree = checkout(&program, &in_it, &repository, &url, &commit, git.keep_git_dir, places.work)?;
    Ok(Fetched { root: subdirectory(&tree, &git.subdirectory)?, commit })
}

fn verified(git: &Git, commit: String) -> Result<String> {
    match &git.checksum {
        Some(wanted) if !commit.starts_with(&**wanted) => {
            Err(GitError::OtherCommit { url: shown(&git.url), wanted: wanted.clone(), found: commit })
        }
        _ => Ok(commit),
    }
}

/// An empty repository, unless there is a whole one.
fn prepare(program: &Program<'_>, repository: &Path) -> Result<()> {
    if repository.join(WHOLE).exists() {
        return Ok(());
    }
    base::fs::remove_dir_all(repository)?;
    let path = repository.display().to_string();
    program.run(&["init", "--quiet", "--bare", "--template=", "--", &path])?;
    // For checkouts that keep `.git`: they fetch from here.
    program.within(repository).run(&["config", "uploadpack.allowAnySHA1InWant", "true"])?;
    base::fs::write_atomic(&repository.join(WHOLE), b"", Durability::Volatile)?;
    Ok(())
}

/// Whether a commit with all its files is in a repository.
fn has(repository: &Program<'_>, commit: &str) -> bool {
    repository.run(&["cat-file", "-e", &format!("{commit}^{{tree}}")]).is_ok()
        && repository.run(&["rev-parse", "--quiet", "--verify", &format!("refs/dhow/{commit}")]).is_ok()
}

/// A reference as the server has it.
struct Advertised {
    name: String,
    commit: String,
}

fn advertised(program: &Program<'_>, url: &str, reference: &str) -> Result<Advertised> {
    let none = || GitError::NoReference { url: shown(url), reference: reference.to_owned() };
    if reference.is_empty() {
        let text = program.run(&["ls-remote", "--quiet", "--", url, "HEAD"])?;
        let commit = lines(&text).find(|(_, name)| *name == "HEAD").map(|(commit, _)| commit.to_owned());
        return Ok(Advertised { name: "HEAD".to_owned(), commit: commit.ok_or_else(none)? });
    }
    let text = program.run(&["ls-remote", "--quiet", "--", url, reference, &format!("{reference}^{{}}")])?;
    // As git-checkout: branches before tags.
    for name in [reference.to_owned(), format!("refs/heads/{reference}"), format!("refs/tags/{reference}")] {
        if name != "HEAD" && !name.starts_with("refs/") {
            continue;
        }
        let peeled = format!("{name}^{{}}");
        let of = |wanted: &str| {
            lines(&text).find(|(_, name)| *name == wanted).map(|(commit, _)| commit.to_owned())
        };
        // An annotated tag is an object of its own.
        if let Some(commit) = of(&peeled).or_else(|| of(&name)).filter(|commit| address::is_commit(commit)) {
            return Ok(Advertised { name, commit });
        }
    }
    Err(none())
}

fn lines(text: &str) -> impl Iterator<Item = (&str, &str)> {
    text.lines().filter_map(|line| line.split_once('\t'))
}

/// Fetches a commit by its name; from a server that gives none by name, all that it has.
fn fetch_commit(repository: &Program<'_>, url: &str, commit: &str) -> Result<()> {
    let own = format!("+{commit}:refs/dhow/{commit}");
    let quick = repository.run(&[
        "fetch",
        "--quiet",
        "--depth=1",
        "--no-tags",
        "--no-recurse-submodules",
        "--",
        url,
        &own,
    ]);
    if quick.is_ok() && has(repository, commit) {
        return Ok(());
    }
    let all = ["+refs/heads/*:refs/all/heads/*", "+refs/tags/*:refs/all/tags/*"];
    let mut words = vec!["fetch", "--quiet", "--no-tags", "--no-recurse-submodules"];
    // What was fetched in part before is made whole.
    if repository.run(&["rev-parse", "--is-shallow-repository"])?.trim() == "true" {
        words.push("--unshallow");
    }
    words.extend(["--", url]);
    words.extend(all);
    let fetched = repository.run(&words);
    if repository.run(&["cat-file", "-e", &format!("{commit}^{{tree}}")]).is_err() {
        // That the server has nothing of this name matters more than how it said so.
        fetched?;
        return Err(GitError::NoReference { url: shown(url), reference: commit.to_owned() });
    }
    repository.run(&["update-ref", &format!("refs/dhow/{commit}"), commit]).map(drop)
}

/// Fetches the last commit alone, or else all.
fn shallow(program: &Program<'_>, words: &[&str], rest: &[&str]) -> Result<()> {
    if program.run(&[words, &["--depth=1"], rest].concat()).is_ok() {
        return Ok(());
    }
    program.run(&[words, rest].concat()).map(drop)
}

/// Writes a commit's files into a new directory of the build.
fn checkout(
    program: &Program<'_>,
    in_it: &Program<'_>,
    repository: &Path,
    url: &str,
    commit: &str,
    keep: bool,
    work: &Path,
) -> Result<PathBuf> {
    let tree = fresh(work)?;
    let has_submodules = in_it.run(&["cat-file", "-e", &format!("{commit}:.gitmodules")]).is_ok();
    if !keep && !has_submodules {
        let index = tree.with_extension("index");
        let at = in_it.at(&tree).with("GIT_INDEX_FILE", &index.display().to_string());
        let done = at.run(&["read-tree", "--reset", "-u", commit]);
        base::fs::remove_file(&index)?;
        return done.map(|_| tree);
    }
    let path = tree.display().to_string();
    program.run(&["init", "--quiet", "--template=", "--", &path])?;
    let own = program.within(&tree.join(".git")).at(&tree);
    let from = repository.display().to_string();
    own.of_a_directory().run(&["fetch", "--quiet", "--depth=1", "--no-tags", "--", &from, commit])?;
    own.run(&["config", "remote.origin.url", url])?;
    own.run(&["config", "remote.origin.fetch", "+refs/heads/*:refs/remotes/origin/*"])?;
    own.run(&["checkout", "--quiet", "--force", "--detach", commit])?;
    if has_submodules {
        // Their addresses are the repository's: whatever its own is, theirs are not paths of this machine.
        shallow(&own.of_others(), &["submodule", "--quiet", "update", "--init", "--recursive"], &[])?;
    }
    if !keep {
        without_git(&tree)?;
    }
    Ok(tree)
}

fn fresh(work: &Path) -> Result<PathBuf> {
    for number in 0_u32.. {
        let path = work.join(format!("git{number}"));
        match base::fs::create_dir(&path, 0o755) {
            Err(e) if e.source.kind() == std::io::ErrorKind::AlreadyExists => {}
            other => return Ok(other.map(|()| path)?),
        }
    }
    Ok(work.to_owned())
}

/// Removes `.git`, and those of submodules, which are files.
fn without_git(tree: &Path) -> Result<()> {
    base::fs::remove_dir_all(&tree.join(".git"))?;
    let mut todo = vec![tree.to_owned()];
    while let Some(directory) = todo.pop() {
        for entry in std::fs::read_dir(&directory).at("list", &directory)? {
            let entry = entry.at("list", &directory)?;
            let kind = entry.file_type().at("look at", entry.path())?;
            if entry.file_name() == ".git" && kind.is_file() {
                base::fs::remove_file(&entry.path())?;
            } else if kind.is_dir() {
                todo.push(entry.path());
            }
        }
    }
    Ok(())
}

/// A directory of the files; not one that a link leads out to.
fn subdirectory(tree: &Path, name: &str) -> Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let top = rustix::fs::openat(CWD, tree, flags, Mode::empty()).at("open", tree)?;
    let name = name.trim_matches('/');
    if name.is_empty() {
        return Ok(top);
    }
    let beneath = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
    loop {
        return match rustix::fs::openat2(&top, name, flags, Mode::empty(), beneath) {
            Err(Errno::AGAIN) => continue,
            Err(Errno::XDEV | Errno::LOOP) => Err(GitError::Leaves(name.to_owned())),
            Err(Errno::NOENT | Errno::NOTDIR) => Err(GitError::NoSubdirectory(name.to_owned())),
            other => Ok(other.at("open", tree.join(name))?),
        };
    }
}

#[cfg(test)]
mod tests;
