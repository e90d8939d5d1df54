//! Registries on loopback: Debian's `docker-registry`, and one of our own that answers from memory, asks for any
//! kind of login, remembers what it was asked for, and lies when told to.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};

use base::Digest;
use serde_json::{Value, json};

use crate::image::Image;
use crate::invocation::{Invocation, Process};
use crate::wait::eventually;

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";

/// What a registry wants to know of its clients.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Login {
    /// Nothing.
    None,
    /// The user `user` with the password `secret`, in every request.
    Basic,
    /// A token, which the same user gets.
    Token,
    /// A token, which anybody gets.
    AnonymousToken,
}

/// How a registry lies about one blob.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lie {
    /// One byte is another.
    WrongByte,
    /// It ends early, though its length was announced.
    CutShort,
    /// It goes on for ever.
    Endless,
    /// It is not there.
    Missing,
}

/// A registry that answers from memory until it is dropped.
#[derive(Debug)]
pub struct Registry {
    host: String,
    shared: Arc<Mutex<Shared>>,
}

#[derive(Debug)]
struct Shared {
    login: Login,
    blobs: HashMap<String, Vec<u8>>,
    /// By tag or digest: media type and bytes.
    manifests: HashMap<String, (&'static str, Vec<u8>)>,
    lies: HashMap<String, Lie>,
    requests: Vec<String>,
    stopped: bool,
}

/// What authenticates `user` with `secret` in a header.
const BASIC: &str = "Basic dXNlcjpzZWNyZXQ=";
const TOKEN: &str = "a-token-of-the-tests";

impl Registry {
    /// Opens one on a free port of loopback.
    pub fn new(login: Login) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let host = listener.local_addr().unwrap().to_string();
        let shared = Arc::new(Mutex::new(Shared {
            login,
            blobs: HashMap::new(),
            manifests: HashMap::new(),
            lies: HashMap::new(),
            requests: Vec::new(),
            stopped: false,
        }));
        let (state, name) = (Arc::clone(&shared), host.clone());
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if state.lock().unwrap().stopped {
                    return;
                }
                let (state, name) = (Arc::clone(&state), name.clone());
                std::thread::spawn(move || answer(&stream, &state, &name).ok());
            }
        });
        Self { host, shared }
    }

    /// `127.0.0.1:port`.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// Serves an image under a tag; its layers as they are. Returns the manifest's digest.
    pub fn add(&self, image: &Image, tag: &str) -> String {
        self.add_compressed(image, tag, "", &[])
    }

    /// The same with layers that a program has compressed: `gzip` or `zstd`.
    pub fn add_compressed(&self, image: &Image, tag: &str, suffix: &str, program: &[&str]) -> String {
        let manifest = self.put_image(image, suffix, program);
        let digest = Digest::of(&manifest).to_string();
        let mut shared = self.shared.lock().unwrap();
        shared.manifests.insert(tag.to_owned(), (MANIFEST, manifest.clone()));
        shared.manifests.insert(digest.clone(), (MANIFEST, manifest));
        digest
    }

    /// Serves an index of images for platforms.
    pub fn add_index(&self, images: &[(Value, Image)], tag: &str) {
        let mut entries = Vec::new();
        for (platform, image) in images {
            let manifest = self.put_image(image, "", &[]);
            let digest = Digest::of(&manifest).to_string();
            entries.push(json!({ "mediaType": MANIFEST, "digest": digest, "size": manifest.len(), "platform": platform }));
            self.shared.lock().unwrap().manifests.insert(digest, (MANIFEST, manifest));
        }
        let index =
            json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": entries }).to_string().into_bytes();
        let mut shared = self.shared.lock().unwrap();
        shared.manifests.insert(Digest::of(&index).to_string(), (INDEX, index.clone()));
        shared.manifests.insert(tag.to_owned(), (INDEX, index));
    }

    fn put_image(&self, image: &Image, suffix: &str, program: &[&str]) -> Vec<u8> {
        let mut layers = Vec::new();
        for layer in &image.layers {
            let bytes = if program.is_empty() { layer.clone() } else { filter(program, layer) };
            let media_type = format!("application/vnd.oci.image.layer.v1.tar{suffix}");
            layers.push(json!({ "mediaType": media_type, "digest": self.put(&bytes), "size": bytes.len() }));
        }
        let config = image.config_json();
        let config = json!({
            "mediaType": "application/vnd.oci.image.config.v1+json",
            "digest": self.put(&config),
            "size": config.len(),
        });
        json!({ "schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": layers })
            .to_string()
            .into_bytes()
    }

    /// Serves any document, under a tag and its digest.
    pub fn add_document(&self, tag: &str, media_type: &'static str, document: &Value) -> String {
        let bytes = document.to_string().into_bytes();
        let digest = Digest::of(&bytes).to_string();
        let mut shared = self.shared.lock().unwrap();
        shared.manifests.insert(tag.to_owned(), (media_type, bytes.clone()));
        shared.manifests.insert(digest.clone(), (media_type, bytes));
        digest
    }

    /// Serves a blob; its digest.
    pub fn put(&self, bytes: &[u8]) -> String {
        let digest = Digest::of(bytes).to_string();
        self.shared.lock().unwrap().blobs.insert(digest.clone(), bytes.to_vec());
        digest
    }

    /// From now on lies about this blob or manifest.
    pub fn lie(&self, digest: &str, how: Lie) {
        self.shared.lock().unwrap().lies.insert(digest.to_owned(), how);
    }

    /// From now on tells the truth.
    pub fn be_honest(&self) {
        self.shared.lock().unwrap().lies.clear();
    }

    /// The requests so far, `METHOD path`, and forgets them.
    pub fn take_requests(&self) -> Vec<String> {
        std::mem::take(&mut self.shared.lock().unwrap().requests)
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        self.shared.lock().unwrap().stopped = true;
        // wakes the listener
        TcpStream::connect(&self.host).ok();
    }
}

/// What `program` makes of bytes.
pub fn filter(program: &[&str], bytes: &[u8]) -> Vec<u8> {
    let mut command = Command::new(program[0]);
    let mut child = command
        .args(&program[1..])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("it is installed");
    let mut stdin = child.stdin.take().unwrap();
    std::thread::scope(|scope| {
        scope.spawn(move || stdin.write_all(bytes).unwrap());
        let mut out = Vec::new();
        child.stdout.take().unwrap().read_to_end(&mut out).unwrap();
        assert!(child.wait().unwrap().success(), "{program:?}");
        out
    })
}

struct Request {
    method: String,
    path: String,
    authorization: String,
}

fn read_request(stream: &TcpStream) -> std::io::Result<Request> {
    let mut lines = BufReader::new(stream).lines();
    let first = lines.next().transpose()?.unwrap_or_default();
    let mut words = first.split(' ').map(str::to_owned);
    let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let mut authorization = String::new();
    for line in lines {
        let line = line?;
        if line.is_empty() {
            break;
        }
        if let Some((name, value)) = line.split_once(':')
            && name.eq_ignore_ascii_case("authorization")
        {
            value.trim().clone_into(&mut authorization);
        }
    }
    Ok(Request { method, path, authorization })
}

fn answer(mut stream: &TcpStream, shared: &Mutex<Shared>, host: &str) -> std::io::Result<()> {
    let request = read_request(stream)?;
    let (login, lie, found) = {
        let mut shared = shared.lock().unwrap();
        shared.requests.push(format!("{} {}", request.method, request.path));
        let name = request.path.rsplit('/').next().unwrap_or_default();
        let blob = || shared.blobs.get(name).map(|bytes| ("application/octet-stream", bytes.clone()));
        let found = shared.manifests.get(name).cloned().or_else(blob);
        (shared.login, shared.lies.get(name).copied(), found)
    };
    if request.path.starts_with("/token") {
        let allowed = login == Login::AnonymousToken || request.authorization == BASIC;
        let body = json!({ "token": TOKEN, "expires_in": 300 }).to_string();
        let status = if allowed { "200 OK" } else { "401 Unauthorized" };
        return respond(stream, status, "application/json", "", body.as_bytes());
    }
    let bearer = format!("Bearer {TOKEN}");
    let (wanted, challenge) = match login {
        Login::None => (request.authorization.as_str(), String::new()),
        Login::Basic => (BASIC, "WWW-Authenticate: Basic realm=\"tests\"\r\n".to_owned()),
        Login::Token | Login::AnonymousToken => (
            bearer.as_str(),
            format!(
                "WWW-Authenticate: Bearer realm=\"http://{host}/token\",service=\"tests\",scope=\"repository:x:pull\"\r\n"
            ),
        ),
    };
    if request.authorization != wanted {
        let body = error_body("UNAUTHORIZED", "authentication required");
        return respond(stream, "401 Unauthorized", "application/json", &challenge, &body);
    }
    if request.path == "/v2/" {
        return respond(stream, "200 OK", "application/json", "", b"{}");
    }
    let Some((media_type, mut bytes)) = found.filter(|_| lie != Some(Lie::Missing)) else {
        let code = if request.path.contains("/blobs/") { "BLOB_UNKNOWN" } else { "MANIFEST_UNKNOWN" };
        return respond(stream, "404 Not Found", "application/json", "", &error_body(code, "not here"));
    };
    match lie {
        Some(Lie::WrongByte) => {
            let middle = bytes.len() / 2;
            bytes[middle] ^= 1;
        }
        Some(Lie::CutShort) => {
            let head =
                format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", bytes.len());
            stream.write_all(head.as_bytes())?;
            return stream.write_all(&bytes[..bytes.len() / 2]);
        }
        Some(Lie::Endless) => {
            stream.write_all(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n")?;
            while stream.write_all(&[0; 8192]).is_ok() {}
            return Ok(());
        }
        Some(Lie::Missing) | None => {}
    }
    if request.method == "HEAD" {
        let digest = format!("Docker-Content-Digest: {}\r\n", Digest::of(&bytes));
        let head = format!(
            "HTTP/1.1 200 OK\r\nContent-Type: {media_type}\r\nContent-Length: {}\r\n{digest}Connection: close\r\n\r\n",
            bytes.len()
        );
        return stream.write_all(head.as_bytes());
    }
    respond(stream, "200 OK", media_type, "", &bytes)
}

fn error_body(code: &str, message: &str) -> Vec<u8> {
    json!({ "errors": [{ "code": code, "message": message }] }).to_string().into_bytes()
}

fn respond(
    mut stream: &TcpStream,
    status: &str,
    media_type: &str,
    headers: &str,
    body: &[u8],
) -> std::io::Result<()> {
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Type: {media_type}\r\nContent-Length: {}\r\n{headers}Connection: close\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes())?;
    stream.write_all(body)
}

/// Writes the login of [`Login::Basic`] where `dhow` looks for it.
pub fn log_in(home: &Path, host: &str) {
    std::fs::create_dir_all(home.join(".docker")).unwrap();
    let config = json!({ "auths": { host: { "auth": BASIC.trim_start_matches("Basic ") } } });
    std::fs::write(home.join(".docker/config.json"), config.to_string()).unwrap();
}

/// Debian's docker-registry on a free port, its data below `dir`.
#[derive(Debug)]
pub struct DockerRegistry {
    host: String,
    _process: Process,
}

impl DockerRegistry {
    /// Starts it; with `users`, the user `user` has to log in with the password `secret`.
    #[track_caller]
    pub fn start(dir: &Path, users: bool) -> Self {
        let free = TcpListener::bind("127.0.0.1:0").unwrap();
        let host = free.local_addr().unwrap().to_string();
        drop(free);
        let data = dir.join("registry");
        std::fs::create_dir_all(&data).unwrap();
        let mut config = json!({
            "version": "0.1",
            "log": { "level": "error" },
            "storage": { "filesystem": { "rootdirectory": data.join("data") } },
            "http": { "addr": host },
        });
        if users {
            let file = data.join("htpasswd");
            let line = Invocation::new("htpasswd").args(&["-Bbn", "user", "secret"]).ok();
            std::fs::write(&file, line).unwrap();
            config["auth"] = json!({ "htpasswd": { "realm": "tests", "path": file } });
        }
        // JSON is YAML
        let file = data.join("config.yml");
        std::fs::write(&file, config.to_string()).unwrap();
        let process = Invocation::new("docker-registry").arg("serve").arg(&file).limit(600).spawn();
        eventually("docker-registry to listen", || TcpStream::connect(&host).ok());
        Self { host, _process: process }
    }

    /// `127.0.0.1:port`.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// Lets skopeo bring an image there, as `repository:tag`.
    #[track_caller]
    pub fn push(&self, image: &Image, dir: &Path, name: &str, flags: &[&str]) {
        let archive = dir.join("push.tar");
        std::fs::write(&archive, image.docker_archive()).unwrap();
        Invocation::new("skopeo")
            .args(&[
                "--insecure-policy",
                "copy",
                "--quiet",
                "--dest-tls-verify=false",
                "--dest-creds=user:secret",
            ])
            .args(flags)
            .arg(format!("docker-archive:{}", archive.display()))
            .arg(format!("docker://{}/{name}", self.host))
            .env("HOME", dir)
            .ok();
    }
}
