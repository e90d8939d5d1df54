//! Against Debian's docker-registry, filled by skopeo.

#![allow(clippy::unwrap_used, reason = "a test")]

mod support;

use base::{Digest, Failure, Kind};
use oci::image::Manifest;
use registry::{BlobRequest, Client, Credentials, Error, Location, Settings};
use support::{DockerRegistry, Shelf, client, run};

fn pull(client: &Client, location: &Location, tag: &str) -> registry::Result<Vec<(Digest, usize)>> {
    let answer = client.manifest(location, tag)?;
    let manifest: Manifest = serde_json::from_slice(&answer.bytes).unwrap();
    let config = BlobRequest { digest: manifest.config.digest, size: manifest.config.size };
    assert_eq!(client.small_blob(location, &config)?.len() as u64, config.size);
    let wanted: Vec<_> =
        manifest.layers.iter().map(|l| BlobRequest { digest: l.digest, size: l.size }).collect();
    let got = Shelf::default();
    client.blobs(location, &wanted, 2, &|blob| Ok(got.open(blob)))?;
    let got = got.into_inner();
    for (digest, bytes) in &got {
        assert_eq!(Digest::of(bytes), *digest);
    }
    Ok(got.into_iter().map(|(digest, bytes)| (digest, bytes.len())).collect())
}

#[test]
fn an_image_comes_whole_by_tag_and_by_digest() {
    let server = DockerRegistry::start("", "");
    server.push("me/tool", "1", None);
    server.push("me/tool", "2", None);
    let (client, location) = (client(Credentials::default()), server.location("me/tool"));
    assert_eq!(client.tags(&location).unwrap(), ["1", "2"]);
    let by_tag = client.manifest(&location, "1").unwrap();
    let by_digest = client.manifest(&location, &by_tag.digest.to_string()).unwrap();
    assert_eq!(by_tag.bytes, by_digest.bytes);
    assert_eq!(pull(&client, &location, "2").unwrap().len(), 2);
    // By the name of this machine, too.
    let named = Location { host: format!("localhost:{}", server.port), ..location.clone() };
    assert_eq!(pull(&client, &named, "1").unwrap().len(), 2);

    let error = client.manifest(&location, "3").unwrap_err();
    assert_eq!(error.kind(), Kind::NotFound);
    let text = error.to_string();
    assert!(text.ends_with("has no tag `3` in `me/tool` (404); known tags: 1, 2"), "{text}");
    let error = client.manifest(&server.location("me/nothing"), "1").unwrap_err();
    assert_eq!(error.kind(), Kind::NotFound, "{error}");
}

#[test]
fn a_registry_with_passwords_wants_the_right_one() {
    let server = DockerRegistry::start("", "auth: {htpasswd: {realm: test, path: DIR/htpasswd}}\n");
    run("htpasswd", &["-cbB", "-C", "4", "htpasswd", "me", "secret"], server.dir());
    server.push("me/tool", "1", Some("me:secret"));
    let location = server.location("me/tool");

    let error = client(Credentials::default()).manifest(&location, "1").unwrap_err();
    assert!(matches!(error, Error::LoginWanted { status: 401, .. }), "{error}");
    assert_eq!(error.kind(), Kind::Unauthorized);
    assert!(error.hints()[0].contains("dhow login 127.0.0.1:"));

    let wrong = Credentials::default().with_password(&location.host, "me", "wrong");
    let error = client(wrong).manifest(&location, "1").unwrap_err();
    assert!(matches!(error, Error::LoginRefused { .. }), "{error}");
    assert!(!base::failure::chain(&error).contains("wrong"));

    let right = Credentials::default().with_password(&location.host, "me", "secret");
    assert_eq!(pull(&client(right), &location, "1").unwrap().len(), 2);
}

/// `0.0.0.0` is this machine to the kernel, but not the loopback interface to us: so it is spoken to in HTTPS.
#[test]
fn https_needs_a_certificate_that_we_can_check() {
    let server = DockerRegistry::start("", "");
    let plain = Location { host: format!("0.0.0.0:{}", server.port), repository: "x".to_owned() };
    let dir = server.dir();
    let subject = [
        "-subj",
        "/CN=test",
        "-addext",
        "subjectAltName=IP:0.0.0.0",
        "-addext",
        "basicConstraints=critical,CA:FALSE",
        "-days",
        "2",
    ];
    let make = ["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"];
    let files = ["-keyout", "key.pem", "-out", "cert.pem"];
    run("openssl", &[&make[..], &files, &subject].concat(), dir);
    let trusted = Settings { certificates: Some(dir.join("cert.pem")), ..Settings::default() };
    let error = Client::new(trusted.clone()).unwrap().manifest(&plain, "1").unwrap_err();
    assert!(matches!(error, Error::Tls { .. }), "{}", base::failure::chain(&error));
    assert!(error.hints()[0].contains("plain HTTP"), "{:?}", base::failure::chain(&error));

    let (cert, key) = (dir.join("cert.pem"), dir.join("key.pem"));
    let tls = format!("  tls: {{certificate: {}, key: {}}}\n", cert.display(), key.display());
    let secure = DockerRegistry::start(&tls, "");
    let location = Location { host: format!("0.0.0.0:{}", secure.port), repository: "x".to_owned() };
    let error = Client::new(trusted).unwrap().manifest(&location, "1").unwrap_err();
    assert_eq!(error.kind(), Kind::NotFound, "{}", base::failure::chain(&error));

    let error = client(Credentials::default()).manifest(&location, "1").unwrap_err();
    assert!(matches!(error, Error::Tls { .. }), "{}", base::failure::chain(&error));
    assert!(error.hints()[0].contains("update-ca-certificates"));
}
