//! `COPY` and `ADD`.

use std::fmt::Write as _;

use std::collections::BTreeMap;

use super::build::Building;
use super::metadata::join;
use super::run::expand_heredoc;
use super::stages::Planner;
use crate::check::rule;
use crate::dockerfile::{Copying, Heredoc, Node, Word};
use crate::error::Checked;
use crate::expand::Style;
use crate::graph::{Action, Change, Copy, Files, Http, Mode, StepId};
use crate::ignore::Patterns;
use crate::source;

/// What a copy's flags say, their variables replaced.
struct Flags {
    owner: Option<String>,
    mode: Option<Mode>,
    exclude: Vec<String>,
    checksum: Option<String>,
    target: String,
}

impl Planner<'_> {
    pub(super) fn copy(&mut self, building: &mut Building, node: &Node, copying: &Copying) -> Checked<()> {
        let (flags, mut text) = self.copy_flags(building, node, copying)?;
        let (heredocs, paths): (Vec<&Word>, Vec<&Word>) =
            copying.sources.iter().partition(|word| !copying.json && Heredoc::parse(&word.text).is_some());
        if flags.checksum.is_some() && (paths.len() != 1 || !heredocs.is_empty()) {
            return Err(node.fault(checksum_at(copying), "--checksum is for one source alone"));
        }
        let style = Style::new(self.dockerfile.escape);
        let shown = building.shown(node.code(), style, &[]);
        let title = building.title(node, &shown);
        let mut changes = Vec::new();
        for word in paths {
            let path = self.word(building, node, word)?;
            let _ = write!(text, " {path}");
            let change = self.copy_path(building, node, copying, &flags, word, &path, &title)?;
            push(&mut changes, change);
        }
        let named: BTreeMap<&str, &Heredoc> =
            node.heredocs.iter().map(|heredoc| (&*heredoc.name, heredoc)).collect();
        for word in heredocs {
            let Some(name) = Heredoc::parse(&word.text).map(|heredoc| heredoc.name) else { continue };
            let _ = write!(text, " <<{name}");
            let Some(heredoc) = named.get(&*name) else { continue };
            let content = expand_heredoc(self, building, node, heredoc)?.into_bytes();
            let target = if flags.target.ends_with('/') {
                format!("{}{name}", flags.target)
            } else {
                flags.target.clone()
            };
            changes.push(Change::Write {
                target,
                content,
                owner: flags.owner.clone(),
                mode: flags.mode.clone(),
            });
        }
        let written = self.word(building, node, &copying.target)?;
        let _ = write!(text, " {written} # buildkit");
        let files = Files { base: building.step, changes, link: copying.link };
        let step = self.push(Action::Files(files), title, Some(node.lines), building.no_cache);
        building.commit(text, Some(step));
        Ok(())
    }

    /// The flags, and how the history's line begins.
    fn copy_flags(
        &mut self,
        building: &Building,
        node: &Node,
        copying: &Copying,
    ) -> Checked<(Flags, String)> {
        let keyword = if copying.add { "ADD" } else { "COPY" };
        let mut text = keyword.to_owned();
        let mut word = |word: &Option<Word>| match word {
            None => Ok(None),
            Some(word) => {
                self.word(building, node, word).map(|text| Some(text).filter(|text| !text.is_empty()))
            }
        };
        let (owner, chmod) = (word(&copying.chown)?, word(&copying.chmod)?);
        let checksum = word(&copying.checksum)?;
        let target = word(&Some(copying.target.clone()))?.unwrap_or_default();
        if copying.parents {
            text.push_str(" --parents");
        }
        if let Some(owner) = &owner {
            let _ = write!(text, " --chown={owner}");
        }
        if let Some(mode) = &chmod {
            let _ = write!(text, " --chmod={mode}");
        }
        let mut exclude = Vec::new();
        for pattern in &copying.exclude {
            let text = self.word(building, node, pattern)?;
            Patterns::new([&*text]).map_err(|wrong| {
                node.fault(pattern.at.clone(), format!("--exclude: {}: `{text}`", wrong.why))
            })?;
            exclude.push(text);
        }
        let at = copying.chmod.as_ref().map_or(0..0, |word| word.at.clone());
        let mode = match chmod {
            None => None,
            Some(text) => Some(mode(&text).ok_or_else(|| {
                node.fault(at, format!("invalid --chmod `{text}`"))
                    .help("a mode is octal, from 0 to 7777, or symbolic as u=rwX,go=rX")
            })?),
        };
        let directory = copying.sources.len() > 1
            || matches!(&*target, "" | ".")
            || target.ends_with('/')
            || target.ends_with("/.");
        let mut path = join(&building.execution.working_dir, &target);
        if directory && !path.ends_with('/') {
            path.push('/');
        }
        Ok((Flags { owner, mode, exclude, checksum, target: path }, text))
    }

    /// One source: a repository, a file of a web server, or paths of a context or a stage.
    #[expect(clippy::too_many_arguments, reason = "they are one instruction's")]
    fn copy_path(
        &mut self,
        building: &Building,
        node: &Node,
        copying: &Copying,
        flags: &Flags,
        word: &Word,
        path: &str,
        title: &str,
    ) -> Checked<Change> {
        let fault = |message: String| node.fault(word.at.clone(), message);
        if let Some(git) = source::git(path) {
            let mut git = git.map_err(fault)?;
            if !copying.add {
                return Err(fault("the source of a COPY can't be a repository".to_owned()).help("use ADD"));
            }
            git.keep_git_dir |= copying.keep_git_dir == Some(true);
            if let Some(checksum) = &flags.checksum {
                source::check_commit(checksum)
                    .map_err(|why| node.fault(checksum_at(copying), format!("--checksum: {why}")))?;
                if git.checksum.as_ref().is_some_and(|own| own != checksum) {
                    return Err(fault("the address and --checksum name different commits".to_owned()));
                }
                git.checksum = Some(checksum.clone());
            }
            let from = self.push(Action::Git(git), title.to_owned(), Some(node.lines), building.no_cache);
            return Ok(changed(flags, from, "/".to_owned(), false, true));
        }
        if source::is_http(path) {
            if !copying.add {
                return Err(fault("the source of a COPY can't be a URL".to_owned()).help("use ADD"));
            }
            if let Some(checksum) = flags.checksum.as_ref().filter(|checksum| !is_digest(checksum)) {
                let message = format!("--checksum: `{checksum}` is no digest");
                return Err(node
                    .fault(checksum_at(copying), message)
                    .help("a digest is sha256: and 64 hexadecimal digits"));
            }
            let name = url_name(path);
            let http = Http { url: path.to_owned(), name: name.clone(), checksum: flags.checksum.clone() };
            let from = self.push(Action::Http(http), title.to_owned(), Some(node.lines), building.no_cache);
            return Ok(changed(flags, from, format!("/{name}"), copying.unpack.unwrap_or(false), true));
        }
        if flags.checksum.is_some() {
            let message = "--checksum is for sources from a web server, or repositories";
            return Err(node.fault(checksum_at(copying), message));
        }
        let from = match &copying.from {
            None => {
                self.ignored(node, copying, path);
                self.context()
            }
            Some(from) => self.source(node, from, building.index)?,
        };
        let unpack = copying.unpack.unwrap_or(copying.add);
        let source = match path.split_once("/./").filter(|_| copying.parents) {
            Some((parent, rest)) => {
                format!("{}/.{}", join("/", parent).trim_end_matches('/'), join("/", rest))
            }
            None => join("/", path),
        };
        let required = !has_wildcards(path);
        let mut change = changed(flags, from, source, unpack, required);
        if let Change::Copy(copy) = &mut change {
            copy.parents = copying.parents;
        }
        Ok(change)
    }

    /// Says where a source is not there because of the `.dockerignore`.
    fn ignored(&mut self, node: &Node, copying: &Copying, path: &str) {
        let Some(ignore) = &self.options.ignore else { return };
        let clean = join("/", path);
        let hidden = match ignore.excludes_all() {
            _ if ignore.has_exceptions() => false,
            all if clean == "/" => all,
            _ => ignore.excludes(&clean),
        };
        if hidden {
            let keyword = if copying.add { "Add" } else { "Copy" };
            let shown = if clean == "/" { "." } else { clean.trim_start_matches('/') };
            let message =
                format!("Attempting to {keyword} file \"{shown}\" that is excluded by .dockerignore");
            self.checks.warn(rule::COPY_IGNORED_FILE, node.lines, &node.comments, message);
        }
    }
}

fn checksum_at(copying: &Copying) -> std::ops::Range<usize> {
    copying.checksum.as_ref().map_or(0..0, |word| word.at.clone())
}

fn changed(flags: &Flags, from: StepId, source: String, unpack: bool, required: bool) -> Change {
    Change::Copy(Copy {
        from,
        sources: vec![source],
        target: flags.target.clone(),
        owner: flags.owner.clone(),
        mode: flags.mode.clone(),
        exclude: flags.exclude.clone(),
        parents: false,
        unpack,
        required,
    })
}

/// Adds a change; what differs from the last in nothing but its source joins that.
fn push(changes: &mut Vec<Change>, change: Change) {
    if let (Some(Change::Copy(last)), Change::Copy(next)) = (changes.last_mut(), &change) {
        let sources = std::mem::replace(&mut last.sources, next.sources.clone());
        let same = last == next;
        last.sources = sources;
        if same {
            last.sources.extend(next.sources.iter().cloned());
            return;
        }
    }
    changes.push(change);
}

/// Whether a path is a pattern; what is escaped makes none.
fn has_wildcards(path: &str) -> bool {
    let mut chars = path.chars();
    while let Some(c) = chars.next() {
        match c {
            '*' | '?' | '[' => return true,
            '\\' => {
                chars.next();
            }
            _ => {}
        }
    }
    false
}

/// `0644`, `u=rwX,go=rX`.
fn mode(text: &str) -> Option<Mode> {
    if text.bytes().all(|b| b.is_ascii_digit()) {
        return u32::from_str_radix(text, 8).ok().filter(|mode| *mode <= 0o7777).map(Mode::Octal);
    }
    let clause = |clause: &str| {
        let rest = clause.trim_start_matches(['u', 'g', 'o', 'a']);
        rest.starts_with(['+', '-', '='])
            && rest.split(['+', '-', '=']).skip(1).all(|rights| {
                rights.chars().all(|c| "rwxXst".contains(c)) || matches!(rights, "u" | "g" | "o")
            })
    };
    text.split(',').all(clause).then(|| Mode::Symbolic(text.to_owned()))
}

fn is_digest(text: &str) -> bool {
    text.strip_prefix("sha256:").is_some_and(|hex| {
        hex.len() == 64 && hex.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
    })
}

/// What a file from a web server is called: the end of its path.
fn url_name(url: &str) -> String {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let rest = rest.split(['?', '#']).next().unwrap_or_default();
    let path = rest.split_once('/').map_or("", |(_, path)| path);
    match path.trim_end_matches('/').rsplit('/').next() {
        None | Some("" | "." | "..") => "__unnamed__".to_owned(),
        Some(name) => name.to_owned(),
    }
}
