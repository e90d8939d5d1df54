//! Which streams of a container the command that runs it is attached to.

use clap::Args;
use state::options::Attach;

#[derive(Debug, Args)]
#[group(skip)]
pub(super) struct Flags {
    /// Attach to these of its streams only: stdin, stdout, stderr
    #[arg(short, long, value_name = "STREAM", value_parser = stream, help_heading = "Running")]
    attach: Vec<Stream>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stream {
    Stdin,
    Stdout,
    Stderr,
}

fn stream(text: &str) -> Result<Stream, &'static str> {
    match text.to_ascii_lowercase().as_str() {
        "stdin" => Ok(Stream::Stdin),
        "stdout" => Ok(Stream::Stdout),
        "stderr" => Ok(Stream::Stderr),
        _ => Err("want stdin, stdout or stderr"),
    }
}

impl Flags {
    /// What is asked for; none where all is left to us.
    pub(super) fn asked(&self) -> Option<Attach> {
        let has = |stream| self.attach.contains(&stream);
        (!self.attach.is_empty()).then(|| Attach {
            stdin: has(Stream::Stdin),
            stdout: has(Stream::Stdout),
            stderr: has(Stream::Stderr),
        })
    }
}
