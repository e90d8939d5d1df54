//! What a step is called in the cache: the digest of what it does and of what it does it to.
//!
//! Every field is written with its name and its length, so that no two different steps are written alike.

use ::build::graph::{Change, Files, Mode, Mounted, Run};
use base::{Digest, Hasher};

/// Counted up whenever the same step would be done otherwise than before: then nothing of before is taken for it.
const VERSION: &str = "dhow build 2";

/// A key in the making, and its parts for whoever asks what has changed.
pub(super) struct Key {
    hasher: Hasher,
    parts: Vec<(String, Digest)>,
}

impl Key {
    pub(super) fn new(kind: &str) -> Self {
        let mut key = Self { hasher: Hasher::default(), parts: Vec::new() };
        key.raw("version", VERSION.as_bytes());
        key.raw("kind", kind.as_bytes());
        key
    }

    fn raw(&mut self, name: &str, value: &[u8]) {
        for bytes in [name.as_bytes(), value] {
            self.hasher.update(&(bytes.len() as u64).to_le_bytes());
            self.hasher.update(bytes);
        }
    }

    /// A part that people know by this name.
    pub(super) fn part(&mut self, name: impl Into<String>, value: &[u8]) {
        let name = name.into();
        self.raw(&name, value);
        self.parts.push((name, Digest::of(value)));
    }

    /// The files below, by their layers.
    pub(super) fn layers(&mut self, name: impl Into<String>, layers: &[Digest]) {
        let text: Vec<String> = layers.iter().map(Digest::hex).collect();
        self.part(name, text.join(" ").as_bytes());
    }

    pub(super) fn finish(self) -> (Digest, Vec<(String, Digest)>) {
        (self.hasher.finish().0, self.parts)
    }
}

/// What a `RUN` is, but for the files that it sees.
pub(super) fn run(key: &mut Key, run: &Run) {
    key.part("the command", run.arguments.join("\0").as_bytes());
    for entry in &run.env {
        let (name, value) = entry.split_once('=').unwrap_or((entry, ""));
        if !run.unkeyed.iter().any(|unkeyed| unkeyed == name) {
            key.part(format!("the variable {name}"), value.as_bytes());
        }
    }
    key.part("the directory", run.directory.as_bytes());
    key.part("the user", run.user.as_bytes());
    key.part("the network", format!("{:?}", run.network).as_bytes());
    key.part("the security mode", &[u8::from(run.insecure)]);
    for (name, content) in &run.pipes {
        key.part(format!("the here-document {name}"), content);
    }
    for mount in &run.mounts {
        let what = match &mount.what {
            Mounted::Bind { source, writable, .. } => format!("bind {source} {writable}"),
            Mounted::Cache { id, source, sharing, mode, uid, gid, read_only, .. } => {
                format!("cache {id}\0{source}\0{sharing:?} {mode:o} {uid} {gid} {read_only}")
            }
            Mounted::Tmpfs { size } => format!("tmpfs {size:?}"),
            // Not what is in it: a new password is no reason to do everything again.
            Mounted::Secret { id, mode, uid, gid, .. } => format!("secret {id}\0{mode:o} {uid} {gid}"),
            Mounted::SecretEnv { id, name, .. } => format!("secret {id}\0{name}"),
            Mounted::Ssh { id, mode, uid, gid, .. } => format!("ssh {id}\0{mode:o} {uid} {gid}"),
        };
        key.part(format!("the mount on {}", mount.target), what.as_bytes());
    }
}

/// What changes of files are, but for what is copied.
pub(super) fn files(key: &mut Key, files: &Files) {
    key.part("--link", &[u8::from(files.link)]);
    for change in &files.changes {
        match change {
            Change::Copy(copy) => {
                let mode = copy.mode.as_ref().map(mode_text).unwrap_or_default();
                let flags = [copy.parents, copy.unpack, copy.required].map(u8::from);
                key.part("the sources", copy.sources.join("\0").as_bytes());
                key.part("the target", copy.target.as_bytes());
                key.part("--chown", copy.owner.as_deref().unwrap_or_default().as_bytes());
                key.part("--chmod", mode.as_bytes());
                key.part("--exclude", copy.exclude.join("\0").as_bytes());
                key.part("the flags", &flags);
            }
            Change::Write { target, content, owner, mode } => {
                key.part("the target", target.as_bytes());
                key.part(format!("the here-document {target}"), content);
                key.part("--chown", owner.as_deref().unwrap_or_default().as_bytes());
                key.part("--chmod", mode.as_ref().map(mode_text).unwrap_or_default().as_bytes());
            }
            Change::MakeDirectory { target, owner } => {
                key.part("the directory", target.as_bytes());
                key.part("the user", owner.as_deref().unwrap_or_default().as_bytes());
            }
        }
    }
}

fn mode_text(mode: &Mode) -> String {
    match mode {
        Mode::Octal(bits) => format!("{bits:o}"),
        Mode::Symbolic(text) => text.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_different_steps_are_written_alike() {
        let of = |parts: &[(&str, &str)]| {
            let mut key = Key::new("run");
            for (name, value) in parts {
                key.part(*name, value.as_bytes());
            }
            key.finish().0
        };
        assert_ne!(of(&[("a", "bc")]), of(&[("ab", "c")]));
        assert_ne!(of(&[("a", "b"), ("c", "")]), of(&[("a", "bc"), ("", "")]));
        assert_eq!(of(&[("a", "b")]), of(&[("a", "b")]));
    }
}
