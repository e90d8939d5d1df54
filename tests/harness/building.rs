//! Contexts and Dockerfiles for `dhow build`.

use std::path::{Path, PathBuf};

use crate::Dhow;
use crate::invocation::{Invocation, Output};

/// A directory to build from.
#[derive(Debug)]
pub struct Context<'d> {
    dhow: &'d Dhow,
    path: PathBuf,
}

impl<'d> Context<'d> {
    /// An empty one of this name.
    #[track_caller]
    pub fn new(dhow: &'d Dhow, name: &str) -> Self {
        let path = dhow.scratch().join(name);
        std::fs::create_dir_all(&path).expect("cannot make a context");
        Self { dhow, path }
    }

    /// With a file.
    #[must_use]
    #[track_caller]
    pub fn with(self, name: &str, content: impl AsRef<[u8]>) -> Self {
        self.write(name, content);
        self
    }

    /// Writes a file.
    #[track_caller]
    pub fn write(&self, name: &str, content: impl AsRef<[u8]>) {
        let path = self.path.join(name);
        std::fs::create_dir_all(path.parent().unwrap_or(&self.path)).expect("cannot make a directory");
        std::fs::write(path, content).expect("cannot write a file");
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// `dhow build` of it, with plain progress, no network, and these arguments more.
    pub fn command(&self, args: &[&str]) -> Invocation {
        let path = self.path.display().to_string();
        let network: &[&str] = if args.contains(&"--network") { &[] } else { &["--network", "none"] };
        let own = [&["build", "--progress", "plain"], network].concat();
        self.dhow.command(&[&own[..], args, &[&path]].concat()).limit(120)
    }

    /// The same, which must be a success. Returns what it told.
    #[track_caller]
    pub fn build(&self, args: &[&str]) -> String {
        let output = self.command(args).output();
        assert_eq!(output.code, 0, "{}", output.stderr);
        output.stderr
    }

    /// The same, which must fail with 1. Returns what it told.
    #[track_caller]
    pub fn fails(&self, args: &[&str]) -> String {
        let output: Output = self.command(args).output();
        assert_eq!(output.code, 1, "{}", output.stderr);
        output.stderr
    }
}
