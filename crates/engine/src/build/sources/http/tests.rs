//! Against a small server of our own.

use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::os::unix::fs::MetadataExt;
use std::sync::{Arc, Mutex};

use super::*;

/// Answers with what it is told to, and notes what it was asked. Ends with the test's process.
struct Server {
    address: String,
    asked: Arc<Mutex<Vec<String>>>,
    body: Arc<Mutex<String>>,
}

impl Server {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://me:secret@{}/file", listener.local_addr().unwrap());
        let (asked, body) = (Arc::new(Mutex::new(Vec::new())), Arc::new(Mutex::new("one".to_owned())));
        let (notes, content) = (Arc::clone(&asked), Arc::clone(&body));
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let lines = BufReader::new(stream.try_clone().unwrap()).lines();
                let head: Vec<String> =
                    lines.map_while(|line| line.ok().filter(|line| !line.is_empty())).collect();
                let body = content.lock().unwrap().clone();
                let same =
                    head.iter().any(|line| line.to_lowercase() == format!("if-none-match: \"{body}\""));
                notes.lock().unwrap().push(head.join("\n"));
                let answer = if same {
                    "HTTP/1.1 304 Not Modified\r\nConnection: close\r\n\r\n".to_owned()
                } else {
                    format!(
                        "HTTP/1.1 200 OK\r\nConnection: close\r\nETag: \"{body}\"\r\n\
                         Last-Modified: Wed, 21 Oct 2015 07:28:00 GMT\r\nContent-Length: {}\r\n\r\n{body}",
                        body.len()
                    )
                };
                stream.write_all(answer.as_bytes()).unwrap();
            }
        });
        Self { address, asked, body }
    }

    fn times(&self) -> usize {
        self.asked.lock().unwrap().len()
    }
}

struct Bench {
    dir: tempfile::TempDir,
    client: Client,
    server: Server,
}

impl Bench {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("work")).unwrap();
        let client = Client::new(registry::Settings::default()).unwrap();
        Self { dir, client, server: Server::start() }
    }

    fn fetch(&self, checksum: Option<&str>) -> Result<Fetched> {
        let (store, work) = (self.dir.path().join("store"), self.dir.path().join("work"));
        let places = Places { store: &store, work: &work };
        let (url, name) = (self.server.address.clone(), "name".to_owned());
        fetch(
            &Http { url, name, checksum: checksum.map(str::to_owned) },
            places,
            &self.client,
            &Cancel::default(),
        )
    }

    fn file(&self, number: u32) -> PathBuf {
        self.dir.path().join(format!("work/http{number}/name"))
    }
}

#[test]
fn a_file_is_fetched_once_and_asked_for_again() {
    let bench = Bench::new();
    bench.fetch(None).unwrap();
    assert_eq!(fs::read(bench.file(0)).unwrap(), b"one");
    let stat = fs::metadata(bench.file(0)).unwrap();
    assert_eq!((stat.mode() & 0o7777, stat.mtime()), (0o600, 1_445_412_480));
    bench.fetch(None).unwrap();
    assert_eq!(bench.server.times(), 2);
    assert_eq!(fs::read(bench.file(1)).unwrap(), b"one");
    "three".clone_into(&mut bench.server.body.lock().unwrap());
    bench.fetch(None).unwrap();
    assert_eq!(fs::read(bench.file(2)).unwrap(), b"three");
    assert_eq!(fs::read(bench.file(1)).unwrap(), b"one", "an earlier step's stays");
    // One that is known by its digest is not asked for.
    let sum = Digest::of(b"three").to_string();
    bench.fetch(Some(&sum)).unwrap();
    assert_eq!(bench.server.times(), 3);
}

#[test]
fn a_wrong_or_spoilt_file_is_not_taken() {
    let bench = Bench::new();
    let error = bench.fetch(Some(&Digest::of(b"other").to_string())).unwrap_err();
    assert!(matches!(error, HttpError::Checksum { .. }));
    assert!(!base::failure::chain(&error).contains("secret"), "{error}");
    let own = bench.dir.path().join("store/http").read_dir().unwrap().next().unwrap().unwrap().path();
    fs::write(own.join("body"), "two").unwrap();
    bench.fetch(None).unwrap();
    fs::write(own.join("state.json"), "{").unwrap();
    bench.fetch(None).unwrap();
    for number in 0..2 {
        assert_eq!(fs::read(bench.file(number)).unwrap(), b"one");
    }
    assert_eq!(fs::read_dir(own).unwrap().count(), 2);
}

#[test]
fn names_are_names() {
    let bench = Bench::new();
    let (store, work) = (bench.dir.path().join("store"), bench.dir.path().join("work"));
    let places = Places { store: &store, work: &work };
    for name in ["", ".", "..", "a/b", "/etc/x"] {
        let http = Http { url: bench.server.address.clone(), name: name.to_owned(), checksum: None };
        assert!(
            matches!(fetch(&http, places, &bench.client, &Cancel::default()), Err(HttpError::Name(_))),
            "{name}"
        );
    }
    assert_eq!(bench.server.times(), 0);
}
