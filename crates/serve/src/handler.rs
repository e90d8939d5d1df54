//! From a request to its answer.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use engine::distribution::{Code, Content, Error, MAX_MANIFEST, Name, Registry, Repository, UploadId};
use hyper::body::{Body, Incoming};
use hyper::header::{
    ACCEPT_RANGES, AUTHORIZATION, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, ETAG, HeaderName,
    IF_NONE_MATCH, LINK, LOCATION, ORIGIN, RANGE, USER_AGENT, WARNING, WWW_AUTHENTICATE,
};
use hyper::{Method, Request, StatusCode};
use serde_json::json;
use tokio::sync::Semaphore;
use tokio::task::spawn_blocking;
use tokio::time::timeout;

use crate::access::{Access, Line};
use crate::body::{Broken, Receiving, Reply};
use crate::login::Login;
use crate::range::{self, Wanted};
use crate::reply::{self, API_VERSION, Answer, CONTENT_DIGEST, set};
use crate::route::{Refusal, Route, Window, encode};

/// How long a request waits for its turn to send a blob.
const TURN: Duration = Duration::from_secs(30);
const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const SUBJECT: HeaderName = HeaderName::from_static("oci-subject");
const FILTERS: HeaderName = HeaderName::from_static("oci-filters-applied");

/// What all requests share.
pub(crate) struct Server {
    registry: Arc<Registry>,
    login: Option<Arc<Login>>,
    read_only: bool,
    uploads: Semaphore,
    /// Hashes of passwords that are computed at once: they are dear, and anybody may ask for one.
    checks: Semaphore,
    access: Access,
}

/// The parts of a request that answers need.
struct Asked {
    head: bool,
    content_type: Option<String>,
    content_range: Option<String>,
    content_length: Option<u64>,
    range: Option<String>,
    if_none_match: Option<String>,
}

type Result<T> = std::result::Result<T, Refusal>;

impl Server {
    pub(crate) fn new(
        registry: Arc<Registry>,
        login: Option<Login>,
        read_only: bool,
        uploads: usize,
        access: Access,
    ) -> Self {
        let (uploads, checks) = (Semaphore::new(uploads), Semaphore::new(2));
        Self { registry, login: login.map(Arc::new), read_only, uploads, checks, access }
    }

    /// Answers a request, and logs it.
    pub(crate) async fn answer(&self, client: IpAddr, request: Request<Incoming>) -> Answer {
        let began = Instant::now();
        let (method, uri) = (request.method().clone(), request.uri().clone());
        let agent = text(&request, USER_AGENT).unwrap_or_default();
        let mut user = None;
        let (head, body) = request.into_parts();
        let mut body = Receiving::new(body);
        let request = Request::from_parts(head, ());
        let mut answer = match self.respond(&request, &mut body, &mut user).await {
            Ok(answer) => answer,
            Err(refusal) => {
                // What was not read of the body would make the connection useless.
                body.rest().await;
                let mut answer = reply::refusal(&refusal);
                if refusal.status == StatusCode::UNAUTHORIZED {
                    set(&mut answer, WWW_AUTHENTICATE, "Basic realm=\"registry\", charset=\"UTF-8\"");
                }
                answer
            }
        };
        set(&mut answer, API_VERSION, "registry/2.0");
        let bytes = answer.body().size_hint().exact();
        if method == Method::HEAD {
            if let Some(bytes) = bytes.filter(|_| !answer.headers().contains_key(CONTENT_LENGTH)) {
                set(&mut answer, CONTENT_LENGTH, bytes.to_string());
            }
            *answer.body_mut() = Reply::empty();
        }
        self.access.log(&Line {
            client,
            user: user.as_deref(),
            method: method.as_str(),
            target: uri.path_and_query().map_or("", |target| target.as_str()),
            agent: &agent,
            status: answer.status().as_u16(),
            bytes,
            took: began.elapsed(),
        });
        answer
    }

    async fn respond(
        &self,
        request: &Request<()>,
        body: &mut Receiving,
        user: &mut Option<String>,
    ) -> Result<Answer> {
        *user = self.admit(request).await?;
        let (method, uri) = (request.method().as_str(), request.uri());
        let route = Route::parse(method, uri.path(), uri.query())?;
        if !route.is_reading() {
            if self.read_only {
                let why = "this registry takes nothing from clients";
                return Err(Refusal::new(StatusCode::METHOD_NOT_ALLOWED, Code::Unsupported, why));
            }
            // Clients of registries are no browsers. A page that somebody looks at here must not push.
            if request.headers().contains_key(ORIGIN) {
                let why = "browsers may not change anything here";
                return Err(Refusal::new(StatusCode::FORBIDDEN, Code::Denied, why));
            }
        }
        let asked = Asked {
            head: method == "HEAD",
            content_type: text(request, CONTENT_TYPE),
            content_range: text(request, CONTENT_RANGE),
            content_length: text(request, CONTENT_LENGTH).and_then(|length| length.parse().ok()),
            range: text(request, RANGE),
            if_none_match: text(request, IF_NONE_MATCH),
        };
        self.act(route, &asked, body).await
    }

    /// Who asks; none where nobody needs to log in.
    async fn admit(&self, request: &Request<()>) -> Result<Option<String>> {
        let Some(login) = &self.login else { return Ok(None) };
        let refused =
            || Refusal::new(StatusCode::UNAUTHORIZED, Code::Unauthorized, "log in with name and password");
        let authorization = text(request, AUTHORIZATION).ok_or_else(refused)?;
        let login = Arc::clone(login);
        let _turn = self.checks.acquire().await.map_err(|_| refused())?;
        let user = spawn_blocking(move || login.check(&authorization)).await.ok().flatten();
        user.map(Some).ok_or_else(refused)
    }

    /// Calls an operation of the registry on a thread that may block.
    async fn call<T: Send + 'static>(
        &self,
        operation: impl FnOnce(&Registry) -> std::result::Result<T, Error> + Send + 'static,
    ) -> Result<T> {
        let registry = Arc::clone(&self.registry);
        match spawn_blocking(move || operation(&registry)).await {
            Ok(done) => done.map_err(|error| reply::failure(&error)),
            Err(panic) => {
                crate::run::say(&format!("error: {panic}"));
                let status = StatusCode::INTERNAL_SERVER_ERROR;
                Err(Refusal::new(status, Code::Unknown, "an error of the registry's own: its log tells more"))
            }
        }
    }

    async fn act(&self, route: Route, asked: &Asked, body: &mut Receiving) -> Result<Answer> {
        match route {
            Route::Version => Ok(reply::document(StatusCode::OK, "application/json", b"{}".to_vec())),
            Route::Catalog(window) => self.catalog(window).await,
            Route::Tags(repository, window) => self.tags(repository, window).await,
            Route::Manifest(repository, name) => self.manifest(repository, name, asked).await,
            Route::PutManifest(repository, name) => self.put_manifest(repository, name, asked, body).await,
            Route::DeleteManifest(repository, name) => {
                self.call(move |registry| match name {
                    Name::Digest(digest) => registry.delete_manifest(&repository, &digest),
                    Name::Tag(tag) => registry.delete_tag(&repository, &tag),
                })
                .await?;
                Ok(reply::empty(StatusCode::ACCEPTED))
            }
            Route::Blob(repository, digest) => {
                let content = self.call(move |registry| registry.content(&repository, &digest)).await?;
                Ok(blob(content, &digest, asked))
            }
            Route::DeleteBlob(repository, digest) => {
                self.call(move |registry| registry.delete_blob(&repository, &digest)).await?;
                Ok(reply::empty(StatusCode::ACCEPTED))
            }
            Route::Referrers(repository, subject, kind) => {
                let filtered = kind.is_some();
                let find =
                    move |registry: &Registry| registry.referrers(&repository, &subject, kind.as_deref());
                let mut answer = reply::document(StatusCode::OK, INDEX, self.call(find).await?);
                if filtered {
                    set(&mut answer, FILTERS, "artifactType");
                }
                Ok(answer)
            }
            Route::BeginUpload(repository) => self.begin(repository).await,
            Route::UploadAtOnce(repository, digest) => {
                let to = repository.clone();
                let id = self.call(move |registry| registry.begin_upload(&to)).await?;
                let received = self.receive(&repository, &id, asked, body).await;
                let finished = match received {
                    Ok(_) => self.finish(repository.clone(), id.clone(), digest).await,
                    Err(refusal) => Err(refusal),
                };
                if finished.is_err() {
                    // Nobody knows its name.
                    self.call(move |registry| registry.cancel_upload(&repository, &id)).await.ok();
                }
                finished
            }
            Route::Mount(repository, digest, from) => {
                let to = repository.clone();
                let mount = move |registry: &Registry| registry.mount(&to, &digest, from.as_ref());
                if self.call(mount).await? {
                    Ok(created_blob(&repository, &digest))
                } else {
                    self.begin(repository).await
                }
            }
            Route::UploadStatus(repository, id) => {
                let (at, upload) = (repository.clone(), id.clone());
                let offset = self.call(move |registry| registry.upload_offset(&at, &upload)).await?;
                Ok(reply::upload(StatusCode::NO_CONTENT, &repository, &id, offset))
            }
            Route::Append(repository, id) => match self.receive(&repository, &id, asked, body).await {
                Ok(offset) => Ok(reply::upload(StatusCode::ACCEPTED, &repository, &id, offset)),
                Err(refusal) => self.where_it_stands(&repository, &id, refusal, body).await,
            },
            Route::Finish(repository, id, digest) => {
                match self.receive(&repository, &id, asked, body).await {
                    Ok(_) => self.finish(repository, id, digest).await,
                    Err(refusal) => self.where_it_stands(&repository, &id, refusal, body).await,
                }
            }
            Route::Cancel(repository, id) => {
                self.call(move |registry| registry.cancel_upload(&repository, &id)).await?;
                Ok(reply::empty(StatusCode::NO_CONTENT))
            }
        }
    }

    async fn catalog(&self, window: Window) -> Result<Answer> {
        let Window { most, last } = window;
        let page = self.call(move |registry| registry.repositories(most, last.as_deref())).await?;
        let body = json!({ "repositories": page.items }).to_string().into_bytes();
        let mut answer = reply::document(StatusCode::OK, "application/json", body);
        link(&mut answer, "/v2/_catalog", most, page.more, page.items.last());
        Ok(answer)
    }

    async fn tags(&self, repository: Repository, window: Window) -> Result<Answer> {
        let Window { most, last } = window;
        let of = repository.clone();
        let page = self.call(move |registry| registry.tags(&of, most, last.as_deref())).await?;
        let body = json!({ "name": repository.as_str(), "tags": page.items }).to_string().into_bytes();
        let mut answer = reply::document(StatusCode::OK, "application/json", body);
        link(&mut answer, &format!("/v2/{repository}/tags/list"), most, page.more, page.items.last());
        Ok(answer)
    }

    async fn manifest(&self, repository: Repository, name: Name, asked: &Asked) -> Result<Answer> {
        let manifest = self.call(move |registry| registry.get_manifest(&repository, &name)).await?;
        let mut answer = if is_known(asked, &manifest.digest.to_string()) {
            reply::empty(StatusCode::NOT_MODIFIED)
        } else {
            reply::document(StatusCode::OK, &manifest.media_type, manifest.bytes)
        };
        set(&mut answer, CONTENT_DIGEST, manifest.digest.to_string());
        set(&mut answer, ETAG, format!("\"{}\"", manifest.digest));
        if let Some(warning) = manifest.warning {
            // RFC 7234, 5.5: stale, as asking whether it still is what it was has failed.
            set(&mut answer, WARNING, format!("111 - \"Revalidation Failed: {warning}\""));
        }
        Ok(answer)
    }

    async fn put_manifest(
        &self,
        repository: Repository,
        name: Name,
        asked: &Asked,
        body: &mut Receiving,
    ) -> Result<Answer> {
        let too_large = || reply::failure(&Error::TooLarge(MAX_MANIFEST));
        if asked.content_length.is_some_and(|length| length > MAX_MANIFEST) {
            return Err(too_large());
        }
        let bytes = match body.whole(MAX_MANIFEST).await {
            Err(Broken::TooLong(_)) => return Err(too_large()),
            other => other.map_err(|broken| not_received(&broken))?,
        };
        let content_type = asked.content_type.clone();
        let (to, by) = (repository.clone(), name.clone());
        let put = move |registry: &Registry| registry.put_manifest(&to, &by, content_type.as_deref(), &bytes);
        let put = self.call(put).await?;
        if let Some(why) = put.not_local {
            crate::run::say(&format!("{repository}:{name} is kept, but is no local image: {why}"));
        }
        let mut answer = reply::empty(StatusCode::CREATED);
        set(&mut answer, LOCATION, format!("/v2/{repository}/manifests/{}", put.digest));
        set(&mut answer, CONTENT_DIGEST, put.digest.to_string());
        if let Some(subject) = put.subject {
            set(&mut answer, SUBJECT, subject.to_string());
        }
        Ok(answer)
    }

    async fn begin(&self, repository: Repository) -> Result<Answer> {
        let to = repository.clone();
        let id = self.call(move |registry| registry.begin_upload(&to)).await?;
        Ok(reply::upload(StatusCode::ACCEPTED, &repository, &id, 0))
    }

    async fn finish(&self, repository: Repository, id: UploadId, digest: base::Digest) -> Result<Answer> {
        let to = repository.clone();
        self.call(move |registry| registry.finish_upload(&to, &id, &digest)).await?;
        Ok(created_blob(&repository, &digest))
    }

    /// Takes a piece of an upload; tells where the next one begins.
    async fn receive(
        &self,
        repository: &Repository,
        id: &UploadId,
        asked: &Asked,
        body: &mut Receiving,
    ) -> Result<u64> {
        let (at, upload) = (repository.clone(), id.clone());
        let mut offset = self.call(move |registry| registry.upload_offset(&at, &upload)).await?;
        if let Some(range) = &asked.content_range {
            let invalid = |message: String| {
                Refusal::new(StatusCode::RANGE_NOT_SATISFIABLE, Code::BlobUploadInvalid, message)
            };
            let Some((first, last)) = range::of_piece(range) else {
                return Err(invalid("Content-Range is not <first>-<last>".to_owned()));
            };
            if first != offset {
                return Err(reply::failure(&Error::OutOfOrder { has: offset, begins: first }));
            }
            if asked.content_length.is_some_and(|length| length != last - first + 1) {
                let why = "Content-Range and Content-Length contradict each other";
                return Err(Refusal::new(StatusCode::BAD_REQUEST, Code::SizeInvalid, why));
            }
        }
        if asked.content_length == Some(0) {
            return Ok(offset);
        }
        let Ok(Ok(_turn)) = timeout(TURN, self.uploads.acquire()).await else {
            let why = "too many uploads at once";
            return Err(Refusal::new(StatusCode::TOO_MANY_REQUESTS, Code::TooManyRequests, why));
        };
        loop {
            let (piece, end) = body.piece().await;
            if !piece.is_empty() {
                let (at, upload) = (repository.clone(), id.clone());
                let append = move |registry: &Registry| registry.append(&at, &upload, offset, &piece);
                offset = self.call(append).await?;
            }
            match end {
                None => {}
                Some(Ok(())) => return Ok(offset),
                // What has come stays: the client may ask how much, and go on there.
                Some(Err(broken)) => return Err(not_received(&broken)),
            }
        }
    }

    /// A piece that was refused for its place: where the next one should begin.
    async fn where_it_stands(
        &self,
        repository: &Repository,
        id: &UploadId,
        refusal: Refusal,
        body: &mut Receiving,
    ) -> Result<Answer> {
        if refusal.status != StatusCode::RANGE_NOT_SATISFIABLE {
            return Err(refusal);
        }
        let (at, upload) = (repository.clone(), id.clone());
        let offset = self.call(move |registry| registry.upload_offset(&at, &upload)).await?;
        body.rest().await;
        let mut answer = reply::refusal(&refusal);
        let state = reply::upload(refusal.status, repository, id, offset);
        for (name, value) in state.headers() {
            if name != CONTENT_LENGTH {
                answer.headers_mut().insert(name.clone(), value.clone());
            }
        }
        Ok(answer)
    }
}

/// A header as text.
fn text<T>(request: &Request<T>, name: HeaderName) -> Option<String> {
    request.headers().get(name).and_then(|value| value.to_str().ok()).map(str::to_owned)
}

/// Whether the client has this already.
fn is_known(asked: &Asked, digest: &str) -> bool {
    let tags = asked.if_none_match.as_deref().unwrap_or_default();
    tags.split(',').any(|tag| tag.trim().trim_start_matches("W/").trim_matches('"') == digest)
}

fn not_received(broken: &Broken) -> Refusal {
    let status = match broken {
        Broken::Silence | Broken::Slow => StatusCode::REQUEST_TIMEOUT,
        Broken::Connection(_) | Broken::TooLong(_) => StatusCode::BAD_REQUEST,
    };
    Refusal::new(status, Code::BlobUploadInvalid, broken.to_string())
}

fn created_blob(repository: &Repository, digest: &base::Digest) -> Answer {
    let mut answer = reply::empty(StatusCode::CREATED);
    set(&mut answer, LOCATION, format!("/v2/{repository}/blobs/{digest}"));
    set(&mut answer, CONTENT_DIGEST, digest.to_string());
    answer
}

/// A blob or a part of it.
fn blob(content: Content, digest: &base::Digest, asked: &Asked) -> Answer {
    let size = match &content {
        Content::Whole(blob) => blob.size,
        Content::Coming(transfer) => transfer.size(),
    };
    let mut answer = if is_known(asked, &digest.to_string()) {
        reply::empty(StatusCode::NOT_MODIFIED)
    } else {
        // "A server must ignore a Range header field received with a method other than GET" (RFC 9110, 14.2).
        let wanted = if asked.head { Wanted::All } else { range::of_download(asked.range.as_deref(), size) };
        let (status, begin, end) = match wanted {
            Wanted::All => (StatusCode::OK, 0, size),
            Wanted::Part(first, last) => (StatusCode::PARTIAL_CONTENT, first, last + 1),
            Wanted::Nothing => {
                let why = format!("there are {size} bytes");
                let status = StatusCode::RANGE_NOT_SATISFIABLE;
                let mut answer = reply::refusal(&Refusal::new(status, Code::SizeInvalid, why));
                set(&mut answer, CONTENT_RANGE, format!("bytes */{size}"));
                return answer;
            }
        };
        let mut answer = reply::empty(status);
        if status == StatusCode::PARTIAL_CONTENT {
            set(&mut answer, CONTENT_RANGE, format!("bytes {begin}-{}/{size}", end - 1));
        }
        set(&mut answer, CONTENT_TYPE, "application/octet-stream");
        if asked.head {
            set(&mut answer, CONTENT_LENGTH, size.to_string());
        } else {
            *answer.body_mut() = Reply::blob(content, begin, end);
        }
        answer
    };
    set(&mut answer, CONTENT_DIGEST, digest.to_string());
    set(&mut answer, ETAG, format!("\"{digest}\""));
    set(&mut answer, ACCEPT_RANGES, "bytes");
    answer
}

/// Where the next part of a list is ("Listing Tags": RFC 5988).
fn link(answer: &mut Answer, path: &str, most: usize, more: bool, last: Option<&String>) {
    if let Some(last) = last.filter(|_| more) {
        set(answer, LINK, format!("<{path}?n={most}&last={}>; rel=\"next\"", encode(last)));
    }
}
