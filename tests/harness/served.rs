//! A registry of our own, served for a test; and curl, which talks to it.

use std::path::Path;

use rustix::process::Signal;
use serde_json::Value;

use crate::instance::{Dhow, bin_dir};
use crate::invocation::{Invocation, Output, Process};
use crate::wait::eventually;

/// `dhow registry serve`, until it is dropped.
#[derive(Debug)]
pub struct Served {
    process: Process,
    address: String,
}

/// An answer to a request.
#[derive(Debug, Clone)]
pub struct Answer {
    /// Its status.
    pub status: u16,
    /// Its headers, their names in lower case.
    pub headers: Vec<(String, String)>,
    /// Its body.
    pub body: String,
}

impl Served {
    /// Over a directory, on any free port.
    #[track_caller]
    pub fn directory(dir: &Path, flags: &[&str]) -> Self {
        let invocation =
            Invocation::new(bin_dir().join("dhow")).args(&["registry", "serve", "--dir"]).arg(dir);
        Self::start(invocation.args(&["--listen", "127.0.0.1:0"]).args(flags).env("HOME", dir))
    }

    /// Over the images of an instance, on any free port.
    #[track_caller]
    pub fn images(dhow: &Dhow, flags: &[&str]) -> Self {
        Self::start(dhow.command(&[&["registry", "serve", "--listen", "127.0.0.1:0"], flags].concat()))
    }

    /// With this command line.
    #[track_caller]
    pub fn start(invocation: Invocation) -> Self {
        let mut process = invocation.limit(600).spawn();
        let address = eventually("the registry to listen", || {
            let said = process.stderr();
            let found = said.lines().find_map(|line| line.strip_prefix("dhow: listening on "));
            assert!(found.is_some() || process.is_running(), "it does not start: {said}");
            found.map(str::to_owned)
        });
        Self { process, address }
    }

    /// `http://127.0.0.1:port`.
    pub fn url(&self) -> &str {
        &self.address
    }

    /// `127.0.0.1:port`.
    pub fn host(&self) -> &str {
        self.address.split_once("//").map_or(&self.address, |(_, host)| host)
    }

    /// Asks with curl: its arguments, and the path (or a `Location`).
    #[track_caller]
    pub fn curl(&self, args: &[&str], path: &str) -> Answer {
        self.curl_with(args, path, &[])
    }

    /// The same with a body.
    #[track_caller]
    pub fn curl_with(&self, args: &[&str], path: &str, body: &[u8]) -> Answer {
        let mut invocation = Invocation::new("curl")
            .args(&[
                "--silent",
                "--show-error",
                "--include",
                "--path-as-is",
                "--noproxy",
                "*",
                "-H",
                "Expect:",
            ])
            .args(args);
        if !body.is_empty() {
            invocation = invocation.args(&["--data-binary", "@-"]).input(body);
        }
        let url = if path.contains("://") { path.to_owned() } else { format!("{}{path}", self.address) };
        Answer::parse(&invocation.arg(url).ok())
    }

    /// What a GET brings, by way of a file.
    #[track_caller]
    pub fn fetch(&self, path: &str, by: &Path) -> Vec<u8> {
        let curl =
            Invocation::new("curl").args(&["--silent", "--show-error", "--fail", "--noproxy", "*", "-o"]);
        curl.arg(by).arg(format!("{}{path}", self.address)).ok();
        std::fs::read(by).unwrap()
    }

    /// What it has logged.
    pub fn log(&self) -> String {
        self.process.stdout()
    }

    /// What it has said.
    pub fn said(&self) -> String {
        self.process.stderr()
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// Kills it as nothing can prevent.
    pub fn kill(mut self) {
        self.process.kill();
    }

    /// Tells it to stop, and waits for that.
    #[track_caller]
    pub fn stop(self) -> Output {
        self.process.signal(Signal::TERM);
        self.process.wait()
    }
}

impl Answer {
    fn parse(text: &str) -> Self {
        let (head, body) = text.split_once("\r\n\r\n").unwrap_or((text, ""));
        let mut lines = head.lines();
        let status = lines.next().and_then(|line| line.split(' ').nth(1)?.parse().ok());
        let header = |line: &str| {
            let (name, value) = line.split_once(':')?;
            Some((name.to_ascii_lowercase(), value.trim().to_owned()))
        };
        Self {
            status: status.unwrap_or_else(|| panic!("no status in {text:?}")),
            headers: lines.filter_map(header).collect(),
            body: body.to_owned(),
        }
    }

    /// A header's value; empty if it is not there.
    pub fn header(&self, name: &str) -> &str {
        self.headers.iter().find(|(key, _)| key == name).map_or("", |(_, value)| value.as_str())
    }

    /// The body as JSON.
    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|e| panic!("{self:#?}: {e}"))
    }

    /// The code of the first error in the body.
    #[track_caller]
    pub fn code(&self) -> String {
        self.json()["errors"][0]["code"].as_str().unwrap_or_default().to_owned()
    }

    /// Checks the status.
    #[track_caller]
    pub fn expect(self, status: u16) -> Self {
        assert_eq!(self.status, status, "{self:#?}");
        self
    }

    /// Checks the status, and the code of the error.
    #[track_caller]
    pub fn refused(self, status: u16, code: &str) -> Self {
        let answer = self.expect(status);
        assert_eq!(answer.code(), code, "{answer:#?}");
        assert_eq!(answer.header("content-type"), "application/json", "{answer:#?}");
        answer
    }
}
