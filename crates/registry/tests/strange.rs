//! Against a registry that misbehaves.

#![allow(clippy::unwrap_used, reason = "a test")]

mod support;

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use base::{Digest, Failure, Kind};
use registry::{BlobRequest, Credentials, Error, Finished, Location, Opened, Sink};
use support::{Shelf, Strange, answer, client};

const MANIFEST: &[u8] = br#"{"schemaVersion":2,"manifests":[]}"#;

fn blob(bytes: &[u8]) -> BlobRequest {
    BlobRequest { digest: Digest::of(bytes), size: bytes.len() as u64 }
}

fn fetch(server: &Strange, wanted: &BlobRequest) -> Result<Vec<u8>, Error> {
    let shelf = Shelf::default();
    client(Credentials::default())
        .blobs(&server.location(), std::slice::from_ref(wanted), 1, &|blob| Ok(shelf.open(blob)))?;
    Ok(shelf.into_inner().remove(0).1)
}

#[test]
fn web_pages_and_other_things_are_no_manifests() {
    for (response, kind) in [
        (
            answer("200 OK", "Content-Type: text/html; charset=utf-8\r\n", b"<html>log in</html>"),
            Kind::Corrupt,
        ),
        (answer("404 Not Found", "Content-Type: text/html\r\n", b"<html>"), Kind::Corrupt),
        (answer("404 Not Found", "", b"{}"), Kind::NotFound),
        (
            answer("403 Forbidden", "", br#"{"errors":[{"code":"DENIED","message":"no"}]}"#),
            Kind::Unauthorized,
        ),
        (answer("401 Unauthorized", "", b""), Kind::Unauthorized),
        (answer("401 Unauthorized", "WWW-Authenticate: Negotiate\r\n", b""), Kind::Unsupported),
        (answer("418 I'm a teapot", "", b"short"), Kind::Unavailable),
        (answer("302 Found", "Location: https://127.0.0.1:1/\r\n", b""), Kind::Unavailable),
        (answer("302 Found", "Location: http://192.0.2.1/\r\n", b""), Kind::Unavailable),
        (b"not HTTP at all\r\n\r\n".to_vec(), Kind::Unavailable),
        (answer("200 OK", "", &vec![b' '; (4 << 20) + 1]), Kind::Corrupt),
    ] {
        let shown = String::from_utf8_lossy(&response[..response.len().min(60)]).into_owned();
        let server = Strange::start(move |_| response.clone());
        let error = client(Credentials::default()).manifest(&server.location(), "1").unwrap_err();
        assert_eq!(error.kind(), kind, "{shown}: {}", base::failure::chain(&error));
        assert!(!error.to_string().contains('\n'));
    }
}

#[test]
fn a_manifest_of_another_digest_is_refused() {
    let server = Strange::start(|_| answer("200 OK", "", MANIFEST));
    let wanted = Digest::of(b"other").to_string();
    let error = client(Credentials::default()).manifest(&server.location(), &wanted).unwrap_err();
    assert!(matches!(error, Error::Digest { .. }), "{error}");
    // Also where the registry itself says which it should be.
    let claim = format!("Docker-Content-Digest: {wanted}\r\n");
    let server = Strange::start(move |_| answer("200 OK", &claim, MANIFEST));
    let error = client(Credentials::default()).manifest(&server.location(), "1").unwrap_err();
    assert!(matches!(error, Error::Digest { .. }), "{error}");
}

#[test]
fn nobody_there_is_told_as_such() {
    let location = Location { host: "127.0.0.1:1".to_owned(), repository: "x".to_owned() };
    let error = client(Credentials::default()).manifest(&location, "1").unwrap_err();
    assert!(matches!(error, Error::Unreachable { local: true, .. }), "{error}");
    assert_eq!(error.hints(), ["check that the registry at 127.0.0.1:1 is running"]);
    assert!(base::failure::chain(&error).contains("refused"), "{}", base::failure::chain(&error));
}

#[test]
fn a_broken_connection_is_taken_up_where_it_broke() {
    let content: Vec<u8> = (0..200_000u32).map(|i| i as u8).collect();
    let wanted = blob(&content);
    for ranges in [true, false] {
        let (tries, content) = (AtomicUsize::new(0), content.clone());
        let whole = content.clone();
        let server = Strange::start(move |request| {
            let attempt = tries.fetch_add(1, Ordering::SeqCst);
            let from = request
                .header("range")
                .and_then(|r| r.strip_prefix("bytes=")?.strip_suffix('-')?.parse().ok());
            let from = from.filter(|_| ranges).unwrap_or(0);
            let status = if from > 0 { "206 Partial Content" } else { "200 OK" };
            let mut bytes = answer(status, "", &content[from..]);
            if attempt < 3 {
                bytes.truncate(bytes.len() - (200_000 - from) / 2);
            }
            bytes
        });
        assert_eq!(fetch(&server, &wanted).unwrap(), whole, "ranges: {ranges}");
        assert_eq!(server.requests.lock().unwrap().len(), 4);
    }
}

#[test]
fn blobs_of_another_size_are_refused() {
    let wanted = blob(b"0123456789");
    for body in [&b"01234567890"[..], b"012345678", b""] {
        let server = Strange::start(move |_| answer("200 OK", "", body));
        let error = fetch(&server, &wanted).unwrap_err();
        assert!(matches!(error, Error::Size { wanted: 10, .. }), "{error}");
        // Without a length, only the bytes themselves tell.
        let server =
            Strange::start(move |_| [b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n", body].concat());
        let error = fetch(&server, &wanted).unwrap_err();
        assert_eq!(error.kind(), Kind::Corrupt, "{error}");
    }
}

/// A disk that may be full.
struct Full {
    broken: bool,
    received: u64,
}

impl Sink for Full {
    type Error = base::fs::Error;

    fn received(&self) -> u64 {
        self.received
    }

    fn write(&mut self, bytes: &[u8]) -> base::fs::Result<()> {
        self.received += bytes.len() as u64;
        if self.broken {
            let source = std::io::ErrorKind::StorageFull.into();
            return Err(base::fs::Error { action: "write", path: "/full".into(), source });
        }
        Ok(())
    }

    fn forget(&mut self) -> base::fs::Result<()> {
        self.received = 0;
        Ok(())
    }

    fn finish(self) -> base::fs::Result<Finished<Self>> {
        Ok(Finished::Done)
    }
}

/// A sink that comes with something, which may be wrong.
struct Begun<'t> {
    told: &'t Mutex<Vec<Vec<u8>>>,
    bytes: Vec<u8>,
}

impl Sink for Begun<'_> {
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

    fn finish(mut self) -> base::fs::Result<Finished<Self>> {
        let wrong = self.bytes.starts_with(b"wrong");
        self.told.lock().unwrap().push(std::mem::take(&mut self.bytes));
        Ok(if wrong { Finished::Again(self) } else { Finished::Done })
    }
}

#[test]
fn what_is_here_is_not_fetched_and_what_is_no_good_is_fetched_anew() {
    let content = b"right and the rest".to_vec();
    let wanted = blob(&content);
    for (begun, ranges, told) in [
        (&b"right"[..], &["bytes=5-"][..], &[&b"right and the rest"[..]][..]),
        (b"wrong", &["bytes=5-", ""], &[b"wrong and the rest", b"right and the rest"]),
        (b"right and the rest", &[], &[b"right and the rest"]),
    ] {
        let whole = content.clone();
        let server = Strange::start(move |request| match request.header("range") {
            Some(_) => answer("206 Partial Content", "", &whole[5..]),
            None => answer("200 OK", "", &whole),
        });
        let seen = Mutex::new(Vec::new());
        let busy = AtomicUsize::new(0);
        client(Credentials::default())
            .blobs(&server.location(), std::slice::from_ref(&wanted), 1, &|_| {
                // Somebody else has it at first.
                if busy.fetch_add(1, Ordering::SeqCst) == 0 {
                    return Ok(Opened::Busy);
                }
                Ok(Opened::Sink(Begun { told: &seen, bytes: begun.to_vec() }))
            })
            .unwrap();
        assert_eq!(*seen.lock().unwrap(), told);
        let asked: Vec<String> =
            server.requests.lock().unwrap().iter().map(|r| r.header("range").unwrap_or_default()).collect();
        assert_eq!(asked, ranges);
    }
}

#[test]
fn the_sinks_own_failure_is_reported_and_ends_the_rest() {
    let content = vec![7u8; 5_000_000];
    let wanted = blob(&content);
    let server = Strange::start(move |_| answer("200 OK", "", &content));
    let other = BlobRequest { digest: Digest::of(b"other"), size: 5_000_000 };
    let error = client(Credentials::default())
        .blobs(&server.location(), &[wanted.clone(), other], 2, &|blob| {
            Ok(Opened::Sink(Full { broken: blob.digest == wanted.digest, received: 0 }))
        })
        .unwrap_err();
    assert_eq!(error.kind(), Kind::Exhausted, "{error}");
    assert!(base::failure::chain(&error).starts_with("cannot write /full"), "{error}");
}

#[test]
fn a_token_is_fetched_once_and_renewed_when_it_expires() {
    let issued = AtomicUsize::new(0);
    let asked = AtomicUsize::new(0);
    let server = Strange::start(move |request| {
        let host = request.header("host").unwrap();
        if request.path.starts_with("/token") {
            assert_eq!(request.path, "/token?service=s&scope=repository%3Aa%2Fb%3Apull");
            let n = issued.fetch_add(1, Ordering::SeqCst) + 1;
            return answer("200 OK", "", format!(r#"{{"token":"t{n}"}}"#).as_bytes());
        }
        // The first token is good for two requests.
        let good = match request.header("authorization").as_deref() {
            Some("Bearer t1") => asked.fetch_add(1, Ordering::SeqCst) < 2,
            Some("Bearer t2") => true,
            _ => false,
        };
        if good {
            return answer("200 OK", "", MANIFEST);
        }
        let challenge = format!(
            "WWW-Authenticate: Bearer realm=\"http://{host}/token\",service=\"s\",scope=\"repository:a/b:pull\"\r\n"
        );
        answer("401 Unauthorized", &challenge, b"")
    });
    let credentials = Credentials::default().with_password(&server.location().host, "me", "secret");
    let client = client(credentials);
    for _ in 0..4 {
        assert_eq!(client.manifest(&server.location(), "1").unwrap().bytes, MANIFEST);
    }
    let requests = server.requests.lock().unwrap();
    let tokens: Vec<_> = requests.iter().filter(|r| r.path.starts_with("/token")).collect();
    assert_eq!(tokens.len(), 2);
    assert_eq!(tokens[0].header("authorization").as_deref(), Some("Basic bWU6c2VjcmV0"));
    assert_eq!(requests.len(), 1 + 2 + 2 + 1 + 1 + 1);
}

#[test]
fn the_login_stays_behind_where_a_redirect_leads_elsewhere() {
    let storage = Strange::start(|_| answer("200 OK", "", b"content"));
    let elsewhere = format!("http://localhost:{}/signed", storage.port);
    let server = Strange::start(move |request| match request.header("authorization") {
        None => answer("401 Unauthorized", "WWW-Authenticate: Basic realm=\"x\"\r\n", b""),
        Some(_) => answer("307 Temporary Redirect", &format!("Location: {elsewhere}\r\n"), b""),
    });
    let credentials = Credentials::default().with_password(&server.location().host, "me", "secret");
    let bytes = client(credentials).small_blob(&server.location(), &blob(b"content")).unwrap();
    assert_eq!(bytes, b"content");
    let requests = storage.requests.lock().unwrap();
    assert_eq!(requests[0].header("authorization"), None);
}

#[test]
fn a_busy_registry_is_asked_again() {
    let tries = AtomicUsize::new(0);
    let server = Strange::start(move |_| match tries.fetch_add(1, Ordering::SeqCst) {
        0 => answer("429 Too Many Requests", "Retry-After: 0\r\n", b""),
        1 => answer("503 Service Unavailable", "Retry-After: 0\r\n", b""),
        _ => answer("200 OK", "", MANIFEST),
    });
    assert!(client(Credentials::default()).manifest(&server.location(), "1").is_ok());
    let server = Strange::start(|_| answer("429 Too Many Requests", "Retry-After: 0\r\n", b""));
    let error = client(Credentials::default()).manifest(&server.location(), "1").unwrap_err();
    assert!(matches!(error, Error::Unavailable { status: 429, .. }), "{error}");
}

/// The proxy variables are read from the environment, so this runs itself once more with them set.
#[test]
fn proxies_are_used_but_not_to_ourselves() {
    const CHILD: &str = "DHOW_TEST_LOOPBACK";
    if let Ok(port) = std::env::var(CHILD) {
        let far = Location { host: "registry.invalid".to_owned(), repository: "x".to_owned() };
        assert!(client(Credentials::default()).manifest(&far, "1").is_err());
        let near = Location { host: format!("127.0.0.1:{port}"), repository: "x".to_owned() };
        client(Credentials::default()).manifest(&near, "1").unwrap();
        return;
    }
    let proxy = Strange::start(|_| answer("502 Bad Gateway", "", b""));
    let server = Strange::start(|_| answer("200 OK", "", MANIFEST));
    let address = format!("http://127.0.0.1:{}", proxy.port);
    let output = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "proxies_are_used_but_not_to_ourselves"])
        .env(CHILD, server.port.to_string())
        .envs([("HTTPS_PROXY", &address), ("HTTP_PROXY", &address), ("http_proxy", &address)])
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    let asked: Vec<String> = proxy.requests.lock().unwrap().iter().map(|r| r.path.clone()).collect();
    assert!(!asked.is_empty() && asked.iter().all(|path| path == "registry.invalid:443"), "{asked:?}");
    assert_eq!(server.requests.lock().unwrap().len(), 1);
}
