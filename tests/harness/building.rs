//! Contexts and Dockerfiles for `dhow build`.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
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

/// Shows files of a directory; of those below `locked/` to `me:zq9xw7k` alone. Ends with the test's process.
pub fn served(directory: &Path) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let directory = directory.to_owned();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let lines = BufReader::new(stream.try_clone().unwrap()).lines();
            let head: Vec<String> =
                lines.map_while(|line| line.ok().filter(|line| !line.is_empty())).collect();
            let path = head.first().and_then(|line| line.split([' ', '?']).nth(1)).unwrap_or("/").to_owned();
            let known =
                head.iter().any(|line| line.to_lowercase() == "authorization: basic bwu6ene5ehc3aw==");
            let (status, body) = match std::fs::read(directory.join(&path[1..])) {
                _ if path.starts_with("/locked/") && !known => ("401 Unauthorized", Vec::new()),
                Ok(body) => ("200 OK", body),
                Err(_) => ("404 Not Found", Vec::new()),
            };
            let modified = "Last-Modified: Wed, 21 Oct 2015 07:28:00 GMT";
            let length = body.len();
            let head = format!(
                "HTTP/1.1 {status}\r\nConnection: close\r\n{modified}\r\nContent-Length: {length}\r\n\r\n"
            );
            stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(&body)).ok();
        }
    });
    address
}
