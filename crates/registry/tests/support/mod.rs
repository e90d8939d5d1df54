//! Registries to test against: Debian's docker-registry, and one that misbehaves on demand.
#![allow(dead_code, unreachable_pub, reason = "each test binary uses a part")]
#![allow(clippy::unwrap_used, reason = "a test")]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use base::Digest;
use registry::{BlobRequest, Client, Credentials, Finished, Location, Opened, Settings, Sink};

/// Runs a program that the tests need; says which is missing.
pub fn run(program: &str, arguments: &[&str], dir: &Path) {
    let output = Command::new(program).args(arguments).current_dir(dir).output();
    let output =
        output.unwrap_or_else(|e| panic!("this test needs `{program}` (Debian package of that name): {e}"));
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {arguments:?}: {errors}");
}

/// A docker-registry of our own, ended with the value.
pub struct DockerRegistry {
    child: Child,
    dir: tempfile::TempDir,
    pub port: u16,
}

impl DockerRegistry {
    /// `extra`: more lines of its configuration, indented below `http:` or at the top.
    pub fn start(http: &str, top: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        // A port that is free now; where somebody takes it first, the registry ends and the next one is tried.
        for _ in 0..10 {
            let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
            let root = dir.path().display();
            let config = format!(
                "version: 0.1\nlog: {{level: error}}\nstorage: {{filesystem: {{rootdirectory: {root}/data}}}}\n\
                 http:\n  addr: 127.0.0.1:{port}\n{}{}",
                http.replace("DIR", &root.to_string()),
                top.replace("DIR", &root.to_string())
            );
            std::fs::write(dir.path().join("config.yml"), config).unwrap();
            let mut child = Command::new("docker-registry")
                .args(["serve", "config.yml"])
                .current_dir(dir.path())
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
                .unwrap_or_else(|e| {
                    panic!("this test needs `docker-registry` (Debian package of that name): {e}")
                });
            let end = Instant::now() + Duration::from_secs(20);
            while Instant::now() < end && child.try_wait().unwrap().is_none() {
                if TcpStream::connect(("127.0.0.1", port)).is_ok() {
                    return Self { child, dir, port };
                }
                std::thread::sleep(Duration::from_millis(20));
            }
            child.kill().ok();
            child.wait().ok();
        }
        panic!("docker-registry does not start");
    }

    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    pub fn location(&self, repository: &str) -> Location {
        Location { host: format!("127.0.0.1:{}", self.port), repository: repository.to_owned() }
    }

    /// Pushes an image of two layers with skopeo, and returns the directory of its layout.
    pub fn push(&self, repository: &str, tag: &str, credentials: Option<&str>) -> PathBuf {
        let layout = self.dir().join("layout");
        if !layout.exists() {
            let dir = self.dir();
            run("umoci", &["init", "--layout", "layout"], dir);
            run("umoci", &["new", "--image", "layout:x"], dir);
            for (name, size) in [("one", 100_000), ("two", 3_000_000)] {
                // Bytes that do not compress well, so that the blob is larger than a few chunks.
                let mut state = 1u32;
                let bytes = std::iter::repeat_with(|| {
                    state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                    (state >> 24) as u8
                });
                let bytes: Vec<u8> = bytes.take(size).collect();
                std::fs::write(dir.join(name), bytes).unwrap();
                run("umoci", &["insert", "--image", "layout:x", name, &format!("/{name}")], dir);
            }
        }
        let to = format!("docker://127.0.0.1:{}/{repository}:{tag}", self.port);
        let mut arguments = vec!["copy", "-q", "--dest-tls-verify=false"];
        if let Some(credentials) = credentials {
            arguments.extend(["--dest-creds", credentials]);
        }
        arguments.extend(["oci:layout:x", &to]);
        run("skopeo", &arguments, self.dir());
        layout
    }
}

impl Drop for DockerRegistry {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

pub fn client(credentials: Credentials) -> Client {
    Client::new(Settings { credentials, ..Settings::default() }).unwrap()
}

/// A request as the misbehaving registry got it.
#[derive(Debug, Clone)]
pub struct Request {
    pub path: String,
    pub headers: String,
}

impl Request {
    pub fn header(&self, name: &str) -> Option<String> {
        let find = |line: &str| {
            let (key, value) = line.split_once(": ")?;
            key.eq_ignore_ascii_case(name).then(|| value.to_owned())
        };
        self.headers.lines().find_map(find)
    }
}

/// A server that answers as the test says: the raw bytes of an answer, after which the connection is closed.
pub struct Strange {
    pub port: u16,
    pub requests: Arc<Mutex<Vec<Request>>>,
}

impl Strange {
    pub fn start(answer: impl Fn(&Request) -> Vec<u8> + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let requests = Arc::new(Mutex::new(Vec::new()));
        let (seen, answer) = (requests.clone(), Arc::new(answer));
        // Ends with the test's process.
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (Ok(mut stream), seen, answer) = (stream, seen.clone(), answer.clone()) else { return };
                std::thread::spawn(move || {
                    let mut reader = BufReader::new(stream.try_clone().unwrap());
                    let mut first = String::new();
                    reader.read_line(&mut first).ok();
                    let mut headers = String::new();
                    while reader.read_line(&mut headers).is_ok_and(|n| n > 2) {}
                    let path = first.split(' ').nth(1).unwrap_or_default().to_owned();
                    let request = Request { path, headers };
                    seen.lock().unwrap().push(request.clone());
                    stream.write_all(&answer(&request)).ok();
                    // What was sent must arrive before the connection goes.
                    stream.shutdown(std::net::Shutdown::Write).ok();
                    std::io::copy(&mut reader.take(1 << 20), &mut std::io::sink()).ok();
                });
            }
        });
        Self { port, requests }
    }

    pub fn location(&self) -> Location {
        Location { host: format!("127.0.0.1:{}", self.port), repository: "a/b".to_owned() }
    }
}

/// An answer with a body.
pub fn answer(status: &str, headers: &str, body: &[u8]) -> Vec<u8> {
    let mut bytes =
        format!("HTTP/1.1 {status}\r\n{headers}Content-Length: {}\r\nConnection: close\r\n\r\n", body.len())
            .into_bytes();
    bytes.extend_from_slice(body);
    bytes
}

/// What came, by digest: a sink that keeps everything in memory.
#[derive(Default)]
pub struct Shelf(Mutex<Vec<(Digest, Vec<u8>)>>);

pub struct Slot<'s> {
    shelf: &'s Shelf,
    digest: Digest,
    bytes: Vec<u8>,
}

impl Shelf {
    pub fn open(&self, blob: &BlobRequest) -> Opened<Slot<'_>> {
        Opened::Sink(Slot { shelf: self, digest: blob.digest, bytes: Vec::new() })
    }

    pub fn into_inner(self) -> Vec<(Digest, Vec<u8>)> {
        self.0.into_inner().unwrap()
    }
}

impl Sink for Slot<'_> {
    type Error = base::fs::Error;

    fn received(&self) -> u64 {
        self.bytes.len() as u64
    }

    fn write(&mut self, bytes: &[u8]) -> base::fs::Result<()> {
        self.bytes.extend_from_slice(bytes);
        Ok(())
    }

    fn forget(&mut self) -> base::fs::Result<()> {
        self.bytes.clear();
        Ok(())
    }

    fn finish(self) -> base::fs::Result<Finished<Self>> {
        self.shelf.0.lock().unwrap().push((self.digest, self.bytes));
        Ok(Finished::Done)
    }
}
