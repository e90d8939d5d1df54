//! What a request asks for: its method, path and query become a [`Route`], or a [`Refusal`].
//!
//! A pure function of bytes that anybody may send. What comes out is typed: no name in it can lead out of a directory.
//! The endpoints are the specification's ("Endpoints", end-1 to end-13), and Docker's `_catalog`.

use base::Digest;
use engine::distribution::{Code, Name, Repository, UploadId};
use hyper::StatusCode;

/// A page of a list that asks for none.
const ALL: usize = 10_000;

/// What is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Route {
    /// `GET /v2/`: whether this is a registry (end-1).
    Version,
    /// `GET /v2/_catalog`.
    Catalog(Window),
    /// `GET /v2/<name>/tags/list` (end-8).
    Tags(Repository, Window),
    /// `GET` or `HEAD /v2/<name>/manifests/<reference>` (end-3).
    Manifest(Repository, Name),
    /// `PUT` of the same (end-7).
    PutManifest(Repository, Name),
    /// `DELETE` of the same (end-9).
    DeleteManifest(Repository, Name),
    /// `GET` or `HEAD /v2/<name>/blobs/<digest>` (end-2).
    Blob(Repository, Digest),
    /// `DELETE` of the same (end-10).
    DeleteBlob(Repository, Digest),
    /// `GET /v2/<name>/referrers/<digest>` (end-12).
    Referrers(Repository, Digest, Option<String>),
    /// `POST /v2/<name>/blobs/uploads/` (end-4a).
    BeginUpload(Repository),
    /// The same with `digest`: the blob is the body (end-4b).
    UploadAtOnce(Repository, Digest),
    /// The same with `mount`, and perhaps `from` (end-11).
    Mount(Repository, Digest, Option<Repository>),
    /// `GET /v2/<name>/blobs/uploads/<id>`: how much is here (end-13).
    UploadStatus(Repository, UploadId),
    /// `PATCH` of the same (end-5).
    Append(Repository, UploadId),
    /// `PUT` of the same with `digest` (end-6).
    Finish(Repository, UploadId, Digest),
    /// `DELETE` of the same.
    Cancel(Repository, UploadId),
}

/// The part of a list that is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Window {
    /// At most so many.
    pub most: usize,
    /// Those behind this.
    pub last: Option<String>,
}

/// A request that makes no sense, or asks for what there cannot be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// The answer's status.
    pub status: StatusCode,
    /// The specification's code.
    pub code: Code,
    /// For people.
    pub message: String,
    /// With 405: what is allowed.
    pub allow: Option<&'static str>,
}

impl Refusal {
    /// One without more to say.
    pub fn new(status: StatusCode, code: Code, message: impl Into<String>) -> Self {
        Self { status, code, message: message.into(), allow: None }
    }

    fn bad(code: Code, message: impl ToString) -> Self {
        Self::new(StatusCode::BAD_REQUEST, code, message.to_string())
    }

    fn not_found() -> Self {
        Self::new(StatusCode::NOT_FOUND, Code::Unsupported, "there is nothing at this address")
    }

    fn method(allow: &'static str) -> Self {
        let status = StatusCode::METHOD_NOT_ALLOWED;
        Self { allow: Some(allow), ..Self::new(status, Code::Unsupported, format!("want {allow}")) }
    }
}

impl Route {
    /// Whether it changes nothing.
    pub fn is_reading(&self) -> bool {
        matches!(
            self,
            Self::Version
                | Self::Catalog(_)
                | Self::Tags(..)
                | Self::Manifest(..)
                | Self::Blob(..)
                | Self::Referrers(..)
                | Self::UploadStatus(..)
        )
    }

    /// What a request asks for. `path` and `query` as they came, percent-encoded.
    pub fn parse(method: &str, path: &str, query: Option<&str>) -> Result<Self, Refusal> {
        let path = decode(path).ok_or_else(Refusal::not_found)?;
        let query = Query::parse(query.unwrap_or_default())?;
        let reading = matches!(method, "GET" | "HEAD");
        let only_reading = |route| if reading { Ok(route) } else { Err(Refusal::method("GET, HEAD")) };
        let rest = match path.strip_prefix("/v2") {
            Some("" | "/") => return only_reading(Self::Version),
            Some(rest) => rest.strip_prefix('/').ok_or_else(Refusal::not_found)?,
            None => return Err(Refusal::not_found()),
        };
        if rest == "_catalog" {
            return only_reading(Self::Catalog(query.window()?));
        }
        let (before, last) = rest.rsplit_once('/').ok_or_else(Refusal::not_found)?;
        let (before, kind) = before.rsplit_once('/').ok_or_else(Refusal::not_found)?;
        match (kind, last) {
            ("tags", "list") => only_reading(Self::Tags(repository(before)?, query.window()?)),
            ("manifests", reference) => manifest(method, repository(before)?, reference),
            ("referrers", digest) => {
                let wanted = query.get("artifactType").filter(|kind| !kind.is_empty());
                only_reading(Self::Referrers(
                    repository(before)?,
                    parse_digest(digest)?,
                    wanted.map(str::to_owned),
                ))
            }
            ("blobs", "uploads") => begin(method, repository(before)?, &query),
            ("uploads", id) if before.ends_with("/blobs") => {
                let repository = repository(before.strip_suffix("/blobs").unwrap_or(before))?;
                if id.is_empty() {
                    begin(method, repository, &query)
                } else {
                    upload(method, repository, id, &query)
                }
            }
            ("blobs", digest) => blob(method, repository(before)?, digest),
            _ => Err(Refusal::not_found()),
        }
    }
}

fn repository(text: &str) -> Result<Repository, Refusal> {
    text.parse().map_err(|e| Refusal::bad(Code::NameInvalid, e))
}

fn parse_digest(text: &str) -> Result<Digest, Refusal> {
    text.parse().map_err(|e| Refusal::bad(Code::DigestInvalid, e))
}

fn manifest(method: &str, repository: Repository, reference: &str) -> Result<Route, Refusal> {
    let name = reference.parse::<Name>();
    let (route, wrong): (fn(Repository, Name) -> Route, _) = match method {
        // What cannot be a tag is a tag that nobody has put.
        "GET" | "HEAD" => (Route::Manifest, (StatusCode::NOT_FOUND, Code::ManifestUnknown)),
        "DELETE" => (Route::DeleteManifest, (StatusCode::NOT_FOUND, Code::ManifestUnknown)),
        "PUT" => (Route::PutManifest, (StatusCode::BAD_REQUEST, Code::ManifestInvalid)),
        _ => return Err(Refusal::method("GET, HEAD, PUT, DELETE")),
    };
    match name {
        Ok(name) => Ok(route(repository, name)),
        Err(_) if reference.contains(':') => {
            Err(Refusal::bad(Code::DigestInvalid, "want sha256: and 64 lower-case hexadecimal digits"))
        }
        Err(error) => Err(Refusal::new(wrong.0, wrong.1, error.to_string())),
    }
}

fn blob(method: &str, repository: Repository, digest: &str) -> Result<Route, Refusal> {
    let digest = parse_digest(digest)?;
    match method {
        "GET" | "HEAD" => Ok(Route::Blob(repository, digest)),
        "DELETE" => Ok(Route::DeleteBlob(repository, digest)),
        _ => Err(Refusal::method("GET, HEAD, DELETE")),
    }
}

fn begin(method: &str, repository: Repository, query: &Query) -> Result<Route, Refusal> {
    if method != "POST" {
        return Err(Refusal::method("POST"));
    }
    // "If a mount fails due to invalid arguments, the registry falls back to the standard upload behaviour."
    if let Some(Ok(digest)) = query.get("mount").map(str::parse) {
        return match query.get("from").map(str::parse) {
            None => Ok(Route::Mount(repository, digest, None)),
            Some(Ok(from)) => Ok(Route::Mount(repository, digest, Some(from))),
            Some(Err(_)) => Ok(Route::BeginUpload(repository)),
        };
    }
    match query.get("digest") {
        Some(digest) => Ok(Route::UploadAtOnce(repository, parse_digest(digest)?)),
        None => Ok(Route::BeginUpload(repository)),
    }
}

fn upload(method: &str, repository: Repository, id: &str, query: &Query) -> Result<Route, Refusal> {
    let id: UploadId = id.parse().map_err(|e: engine::distribution::ParseNameError| {
        Refusal::new(StatusCode::NOT_FOUND, Code::BlobUploadUnknown, e.to_string())
    })?;
    match method {
        "GET" | "HEAD" => Ok(Route::UploadStatus(repository, id)),
        "PATCH" => Ok(Route::Append(repository, id)),
        "DELETE" => Ok(Route::Cancel(repository, id)),
        "PUT" => {
            let digest = query.get("digest").ok_or_else(|| {
                Refusal::bad(Code::DigestInvalid, "the end of an upload needs the parameter `digest`")
            })?;
            Ok(Route::Finish(repository, id, parse_digest(digest)?))
        }
        _ => Err(Refusal::method("GET, PATCH, PUT, DELETE")),
    }
}

/// The parameters of a query. Of one that occurs twice the first counts.
struct Query(Vec<(String, String)>);

impl Query {
    fn parse(text: &str) -> Result<Self, Refusal> {
        let bad = || Refusal::bad(Code::Unsupported, "the query is not UTF-8");
        let mut found = Vec::new();
        for pair in text.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            // A plus sign is one: media types have it, and clients forget to encode it.
            found.push((decode(name).ok_or_else(bad)?, decode(value).ok_or_else(bad)?));
        }
        Ok(Self(found))
    }

    fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    fn window(&self) -> Result<Window, Refusal> {
        let most = match self.get("n") {
            None => ALL,
            Some(text) if !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()) => {
                text.parse::<usize>().unwrap_or(ALL).min(ALL)
            }
            Some(_) => return Err(Refusal::bad(Code::PaginationInvalid, "`n` is not a number")),
        };
        Ok(Window { most, last: self.get("last").map(str::to_owned) })
    }
}

/// Percent-decoding (RFC 3986, 2.1); none where what comes out is not UTF-8, or a sign is not complete.
fn decode(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        rest = after;
        if first != b'%' {
            bytes.push(first);
            continue;
        }
        let digits = rest.get(..2).filter(|d| d.iter().all(u8::is_ascii_hexdigit))?;
        bytes.push(u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?);
        rest = &rest[2..];
    }
    String::from_utf8(bytes).ok()
}

/// Percent-encodes what stands in a query or path of ours.
pub(crate) fn encode(text: &str) -> String {
    use std::fmt::Write;
    let mut out = String::new();
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~/:".contains(&byte) {
            out.push(byte as char);
        } else {
            write!(out, "%{byte:02X}").ok();
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn digest() -> Digest {
        Digest::of(b"x")
    }

    fn parse(method: &str, target: &str) -> Result<Route, Refusal> {
        let (path, query) = target.split_once('?').map_or((target, None), |(p, q)| (p, Some(q)));
        Route::parse(method, path, query)
    }

    #[test]
    fn every_endpoint_has_its_route() {
        let (d, id) = (digest(), "a".repeat(64));
        let name: Repository = "a/b".parse().unwrap();
        let upload: UploadId = id.parse().unwrap();
        let tag = |text: &str| text.parse::<Name>().unwrap();
        let window = |most, last: Option<&str>| Window { most, last: last.map(str::to_owned) };
        let n = || name.clone();
        for (method, target, route) in [
            ("GET", "/v2".to_owned(), Route::Version),
            ("HEAD", "/v2/".to_owned(), Route::Version),
            ("GET", "/v2/_catalog?n=5&last=x%2Fy".to_owned(), Route::Catalog(window(5, Some("x/y")))),
            ("GET", "/v2/a/b/tags/list".to_owned(), Route::Tags(n(), window(ALL, None))),
            ("GET", "/v2/a/b/tags/list?n=0".to_owned(), Route::Tags(n(), window(0, None))),
            ("HEAD", "/v2/a/b/manifests/v1".to_owned(), Route::Manifest(n(), tag("v1"))),
            ("GET", format!("/v2/a/b/manifests/sha256%3A{}", d.hex()), Route::Manifest(n(), Name::Digest(d))),
            ("PUT", "/v2/a/b/manifests/v1".to_owned(), Route::PutManifest(n(), tag("v1"))),
            ("DELETE", format!("/v2/a/b/manifests/{d}"), Route::DeleteManifest(n(), Name::Digest(d))),
            ("GET", format!("/v2/a/b/blobs/{d}"), Route::Blob(n(), d)),
            ("DELETE", format!("/v2/a/b/blobs/{d}"), Route::DeleteBlob(n(), d)),
            ("POST", "/v2/a/b/blobs/uploads/".to_owned(), Route::BeginUpload(n())),
            ("POST", "/v2/a/b/blobs/uploads".to_owned(), Route::BeginUpload(n())),
            ("POST", format!("/v2/a/b/blobs/uploads/?digest={d}"), Route::UploadAtOnce(n(), d)),
            ("POST", format!("/v2/a/b/blobs/uploads/?mount={d}&from=a%2Fb"), Route::Mount(n(), d, Some(n()))),
            ("POST", format!("/v2/a/b/blobs/uploads/?mount={d}"), Route::Mount(n(), d, None)),
            ("POST", "/v2/a/b/blobs/uploads/?mount=x&from=y".to_owned(), Route::BeginUpload(n())),
            ("POST", format!("/v2/a/b/blobs/uploads/?mount={d}&from=.."), Route::BeginUpload(n())),
            ("GET", format!("/v2/a/b/blobs/uploads/{id}"), Route::UploadStatus(n(), upload.clone())),
            ("PATCH", format!("/v2/a/b/blobs/uploads/{id}"), Route::Append(n(), upload.clone())),
            ("PUT", format!("/v2/a/b/blobs/uploads/{id}?digest={d}"), Route::Finish(n(), upload.clone(), d)),
            ("DELETE", format!("/v2/a/b/blobs/uploads/{id}"), Route::Cancel(n(), upload.clone())),
            (
                "GET",
                format!("/v2/a/b/referrers/{d}?artifactType=a/b+json"),
                Route::Referrers(n(), d, Some("a/b+json".to_owned())),
            ),
        ] {
            assert_eq!(parse(method, &target), Ok(route), "{method} {target}");
        }
    }

    #[test]
    fn what_is_no_endpoint_is_told_as_the_specification_has_it() {
        let id = "a".repeat(64);
        for (method, target, status, code) in [
            ("GET", "/", 404, Code::Unsupported),
            ("GET", "/v1/", 404, Code::Unsupported),
            ("GET", "/v2x/a/tags/list", 404, Code::Unsupported),
            ("GET", "/v2/tags/list", 404, Code::Unsupported),
            ("GET", "/v2/A/tags/list", 400, Code::NameInvalid),
            ("GET", "/v2/../tags/list", 400, Code::NameInvalid),
            ("GET", "/v2/a/%2e%2e/b/tags/list", 400, Code::NameInvalid),
            ("GET", "/v2/a/tags/list?n=x", 400, Code::PaginationInvalid),
            ("GET", "/v2/a/tags/list?n=-1", 400, Code::PaginationInvalid),
            ("GET", "/v2/a/manifests/.INVALID", 404, Code::ManifestUnknown),
            ("GET", "/v2/a/manifests/sha256:totallywrong", 400, Code::DigestInvalid),
            ("PUT", "/v2/a/manifests/.x", 400, Code::ManifestInvalid),
            ("POST", "/v2/a/manifests/x", 405, Code::Unsupported),
            ("GET", "/v2/a/blobs/md5:0", 400, Code::DigestInvalid),
            ("GET", "/v2/a/blobs/..%2f..%2fetc%2fpasswd", 404, Code::Unsupported),
            ("GET", "/v2/a/blobs/uploads/", 405, Code::Unsupported),
            ("POST", "/v2/a/blobs/uploads/?digest=x", 400, Code::DigestInvalid),
            ("GET", "/v2/a/blobs/uploads/x", 404, Code::BlobUploadUnknown),
            ("PUT", &format!("/v2/a/blobs/uploads/{id}"), 400, Code::DigestInvalid),
            ("GET", "/v2/a/referrers/x", 400, Code::DigestInvalid),
            ("GET", "/v2/%", 404, Code::Unsupported),
            ("GET", "/v2/%ff", 404, Code::Unsupported),
        ] {
            let refusal = parse(method, target).unwrap_err();
            assert_eq!((refusal.status.as_u16(), refusal.code), (status, code), "{method} {target}");
        }
    }

    proptest! {
        #[test]
        fn no_request_makes_it_panic(
            method in "(GET|HEAD|PUT|POST|PATCH|DELETE|[A-Z]{0,5})",
            path in "/v2/[a-zA-Z0-9/._%:@é-]{0,30}(/(tags/list|manifests/|blobs/|blobs/uploads/|referrers/))?[a-z0-9:%.]{0,70}",
            query in "[a-z0-9=&%+:/]{0,40}",
        ) {
            let _ = Route::parse(&method, &path, Some(&query));
        }

        #[test]
        fn what_is_encoded_is_decoded_as_it_was(text in ".{0,30}") {
            prop_assert_eq!(decode(&encode(&text)), Some(text));
        }
    }
}
