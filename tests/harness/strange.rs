//! A registry on loopback that answers what a test wants it to, byte by byte: for faults, and for watching who is told
//! what. With certificates of its own, if need be.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use base::Digest;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig, ServerConnection, StreamOwned};
use rustls_pki_types::PrivateKeyDer;
use serde_json::json;

use crate::image::Image;

/// A request as it came.
#[derive(Debug, Clone)]
pub struct Request {
    /// `GET`.
    pub method: String,
    /// With its query.
    pub path: String,
    headers: Vec<(String, String)>,
    /// Its body, as long as it said.
    pub body: Vec<u8>,
}

impl Request {
    /// A header's value.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }
}

/// What is answered.
#[derive(Debug, Clone)]
pub enum Reply {
    /// These bytes, and then the end of the connection.
    Bytes(Vec<u8>),
    /// These bytes, and then spaces for as long as somebody reads.
    Endless(Vec<u8>),
}

/// An answer with a body.
pub fn reply(status: &str, headers: &str, body: impl AsRef<[u8]>) -> Reply {
    let body = body.as_ref();
    let head =
        format!("HTTP/1.1 {status}\r\n{headers}Content-Length: {}\r\nConnection: close\r\n\r\n", body.len());
    Reply::Bytes([head.as_bytes(), body].concat())
}

/// An answer that says it is JSON of the registry's errors.
pub fn error(status: &str, headers: &str, code: &str, message: &str) -> Reply {
    let body = json!({ "errors": [{ "code": code, "message": message }] }).to_string();
    reply(status, &format!("Content-Type: application/json\r\n{headers}"), body)
}

impl Reply {
    /// The same, but the connection ends half way through the body.
    #[must_use]
    pub fn cut(self) -> Self {
        let Self::Bytes(mut bytes) = self else { panic!("it has no end") };
        let head = bytes.windows(4).position(|w| w == b"\r\n\r\n").expect("it has a head") + 4;
        bytes.truncate(head + (bytes.len() - head) / 2);
        Self::Bytes(bytes)
    }
}

type Answer = dyn Fn(&Request) -> Reply + Send + Sync;

/// The registry, until it is dropped.
pub struct Strange {
    host: String,
    seen: Arc<Mutex<Vec<Request>>>,
    stopped: Arc<AtomicBool>,
}

impl Strange {
    /// In plain HTTP.
    pub fn new(answer: impl Fn(&Request) -> Reply + Send + Sync + 'static) -> Self {
        Self::start(None, Arc::new(answer))
    }

    /// In HTTPS.
    pub fn with_tls(tls: ServerConfig, answer: impl Fn(&Request) -> Reply + Send + Sync + 'static) -> Self {
        Self::start(Some(Arc::new(tls)), Arc::new(answer))
    }

    fn start(tls: Option<Arc<ServerConfig>>, answer: Arc<Answer>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let host = listener.local_addr().unwrap().to_string();
        let (seen, stopped) = (Arc::new(Mutex::new(Vec::new())), Arc::new(AtomicBool::new(false)));
        let (state, over) = (Arc::clone(&seen), Arc::clone(&stopped));
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if over.load(Ordering::SeqCst) {
                    return;
                }
                let (tls, answer, state) = (tls.clone(), Arc::clone(&answer), Arc::clone(&state));
                std::thread::spawn(move || serve(stream, tls, &*answer, &state).ok());
            }
        });
        Self { host, seen, stopped }
    }

    /// `127.0.0.1:port`.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The requests so far, and forgets them.
    pub fn take(&self) -> Vec<Request> {
        std::mem::take(&mut self.seen.lock().unwrap())
    }

    /// The same as `METHOD path`.
    pub fn take_lines(&self) -> Vec<String> {
        self.take().into_iter().map(|request| format!("{} {}", request.method, request.path)).collect()
    }
}

impl Drop for Strange {
    fn drop(&mut self) {
        self.stopped.store(true, Ordering::SeqCst);
        // wakes it
        TcpStream::connect(&self.host).ok();
    }
}

fn serve(
    stream: TcpStream,
    tls: Option<Arc<ServerConfig>>,
    answer: &Answer,
    seen: &Mutex<Vec<Request>>,
) -> std::io::Result<()> {
    let Some(tls) = tls else {
        let mut both = &stream;
        converse(&mut both, answer, seen)?;
        // what was sent must arrive before the connection goes
        stream.shutdown(Shutdown::Write)?;
        std::io::copy(&mut both.take(1 << 20), &mut std::io::sink())?;
        return Ok(());
    };
    let connection = ServerConnection::new(tls).map_err(std::io::Error::other)?;
    let mut stream = StreamOwned::new(connection, stream);
    converse(&mut stream, answer, seen)?;
    stream.conn.send_close_notify();
    stream.flush()?;
    stream.sock.shutdown(Shutdown::Write)
}

fn converse(
    stream: &mut (impl Read + Write),
    answer: &Answer,
    seen: &Mutex<Vec<Request>>,
) -> std::io::Result<()> {
    let request = read(stream)?;
    seen.lock().unwrap().push(request.clone());
    let (bytes, endless) = match answer(&request) {
        Reply::Bytes(bytes) => (bytes, false),
        Reply::Endless(bytes) => (bytes, true),
    };
    stream.write_all(&bytes)?;
    if endless {
        loop {
            // ends when nobody reads any more
            stream.write_all(&[b' '; 16384])?;
        }
    }
    stream.flush()
}

fn read(stream: &mut impl Read) -> std::io::Result<Request> {
    let mut reader = BufReader::new(stream);
    let mut line = || -> std::io::Result<String> {
        let mut text = String::new();
        if reader.read_line(&mut text)? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        Ok(text.trim_end().to_owned())
    };
    let first = line()?;
    let mut words = first.split(' ').map(str::to_owned);
    let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let mut headers = Vec::new();
    loop {
        let text = line()?;
        match text.split_once(':') {
            Some((key, value)) => headers.push((key.to_owned(), value.trim().to_owned())),
            None => break,
        }
    }
    let mut request = Request { method, path, headers, body: Vec::new() };
    let length = request.header("content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
    request.body.resize(length, 0);
    reader.read_exact(&mut request.body)?;
    Ok(request)
}

/// What an image is in a registry: answers by the end of a path.
#[derive(Debug, Clone)]
pub struct Content {
    /// The tag that means it.
    pub tag: String,
    /// Its manifest.
    pub manifest: Vec<u8>,
    /// Its configuration and its layers.
    pub blobs: Vec<Vec<u8>>,
}

impl Content {
    /// Of an image.
    pub fn of(image: &Image, tag: &str) -> Self {
        let descriptor = |media_type: &str, bytes: &[u8]| json!({ "mediaType": media_type, "digest": Digest::of(bytes).to_string(), "size": bytes.len() });
        let config = image.config_json();
        let layers: Vec<_> = image
            .layers
            .iter()
            .map(|layer| descriptor("application/vnd.oci.image.layer.v1.tar", layer))
            .collect();
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": descriptor("application/vnd.oci.image.config.v1+json", &config),
            "layers": layers,
        });
        let blobs = std::iter::once(config).chain(image.layers.iter().cloned()).collect();
        Self { tag: tag.to_owned(), manifest: manifest.to_string().into_bytes(), blobs }
    }

    /// The digest of its manifest.
    pub fn digest(&self) -> String {
        Digest::of(&self.manifest).to_string()
    }

    /// The answer of a registry that has it and nothing else, in whatever repository.
    pub fn answer(&self, request: &Request) -> Reply {
        let name = request.path.rsplit('/').next().unwrap_or_default();
        let is_manifest = request.path.contains("/manifests/") && (name == self.tag || name == self.digest());
        let (headers, body) = if is_manifest {
            let digest = format!("Docker-Content-Digest: {}\r\n", self.digest());
            (
                format!("Content-Type: application/vnd.oci.image.manifest.v1+json\r\n{digest}"),
                self.manifest.clone(),
            )
        } else if let Some(blob) = self.blobs.iter().find(|blob| Digest::of(blob).to_string() == name) {
            ("Content-Type: application/octet-stream\r\n".to_owned(), blob.clone())
        } else if request.path.contains("/tags/list") {
            (String::new(), json!({ "name": "x", "tags": [self.tag] }).to_string().into_bytes())
        } else if request.path == "/v2/" {
            (String::new(), b"{}".to_vec())
        } else {
            return error("404 Not Found", "", "MANIFEST_UNKNOWN", "not here");
        };
        let Reply::Bytes(bytes) = reply("200 OK", &headers, &body) else { unreachable!() };
        let end = if request.method == "HEAD" { bytes.len() - body.len() } else { bytes.len() };
        Reply::Bytes(bytes[..end].to_vec())
    }
}

/// An authority that signs certificates.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
    der: rustls_pki_types::CertificateDer<'static>,
}

/// How long a certificate is good.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Validity {
    /// For long.
    Good,
    /// No more.
    Expired,
}

impl Authority {
    /// A new one, whom nobody trusts.
    #[allow(clippy::new_without_default, reason = "each is another")]
    pub fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params
            .distinguished_name
            .push(rcgen::DnType::CommonName, format!("authority {}", crate::wait::random(u64::MAX)));
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap();
        let (pem, der) = (certificate.pem(), certificate.der().clone());
        Self { issuer: Issuer::new(params, key), pem, der }
    }

    /// Its own certificate, in PEM.
    pub fn pem(&self) -> &str {
        &self.pem
    }

    /// A certificate for a name and its key, in PEM.
    pub fn certificate(&self, name: &str) -> (String, String) {
        let key = KeyPair::generate().unwrap();
        let certificate =
            CertificateParams::new(vec![name.to_owned()]).unwrap().signed_by(&key, &self.issuer).unwrap();
        (certificate.pem(), key.serialize_pem())
    }

    /// What a server of that name needs; with `clients`, it wants a certificate that this authority has signed.
    pub fn server(&self, name: &str, validity: Validity, clients: bool) -> ServerConfig {
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        if validity == Validity::Expired {
            params.not_before = rcgen::date_time_ymd(2001, 1, 1);
            params.not_after = rcgen::date_time_ymd(2002, 1, 1);
        }
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config =
            ServerConfig::builder_with_provider(Arc::clone(&provider)).with_safe_default_protocol_versions();
        let config = config.unwrap();
        let config = if clients {
            let mut roots = RootCertStore::empty();
            roots.add(self.der.clone()).unwrap();
            let verifier =
                WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build().unwrap();
            config.with_client_cert_verifier(verifier)
        } else {
            config.with_no_client_auth()
        };
        let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
        config.with_single_cert(vec![certificate.der().clone()], key).unwrap()
    }

    /// Makes an instance trust it, for one host; with `me`, with a certificate for the instance itself.
    pub fn introduce(&self, instance: &Path, host: &str, me: bool) {
        let directory = instance.join("certs.d").join(host);
        std::fs::create_dir_all(&directory).unwrap();
        std::fs::write(directory.join("ca.crt"), &self.pem).unwrap();
        if me {
            let (certificate, key) = self.certificate("me");
            std::fs::write(directory.join("client.cert"), certificate).unwrap();
            std::fs::write(directory.join("client.key"), key).unwrap();
        }
    }
}
