//! One request: to each endpoint in turn, with its login, its redirects and its repetitions, until there is an answer
//! or an error in words.
//!
//! ```text
//! for each endpoint (mirrors, then the registry):
//!     send ─► 2xx: done
//!          ─► 3xx: there, at most ten times; the login stays behind where the host is another
//!          ─► 401: log in (login.rs), once more
//!          ─► 408, 429, 5xx, a connection that breaks: wait as told, again
//!          ─► else: the next endpoint, or an error
//! ```
//!
//! A mirror that does not answer is not asked again while the client lives.

use std::time::Duration;

use oci::distribution::ErrorResponse;
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, LOCATION, RETRY_AFTER};
use reqwest::{Body, Method, Response, StatusCode, Url};
use serde::de::DeserializeOwned;

use crate::endpoint::{Address, Endpoint, Scheme, is_loopback};
use crate::http::authority;
use crate::{Access, Client, Error, Location, Result};

/// The longest manifest, index, configuration or other document.
const MAX_DOCUMENT: u64 = 4 << 20;
/// How often a request is made before its failure is believed.
pub(crate) const ATTEMPTS: u32 = 4;
/// The longest that we let a registry make us wait. Whoever wants more is not waited for.
const MAX_WAIT: Duration = Duration::from_secs(20);
const MAX_REDIRECTS: usize = 10;

/// What a request is for: for messages, and to tell what a 404 means.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Asked<'a> {
    pub(crate) location: &'a Location,
    pub(crate) what: &'a str,
}

impl Client {
    /// A successful answer to a GET.
    pub(crate) async fn get(
        &self,
        asked: Asked<'_>,
        address: &Address,
        headers: HeaderMap,
    ) -> Result<Response> {
        self.send(asked, Method::GET, address, headers, &|| None).await
    }

    /// The same; and who gave it, if somebody else could be asked instead.
    pub(crate) async fn get_from(
        &self,
        asked: Asked<'_>,
        address: &Address,
        headers: HeaderMap,
    ) -> Result<(Response, Option<String>)> {
        self.send_to_each(asked, Method::GET, address, headers, &|| None).await
    }

    /// The same for any method. A request with a body is made once for each login, and not again: how much of the
    /// body has arrived is not known.
    pub(crate) async fn send(
        &self,
        asked: Asked<'_>,
        method: Method,
        address: &Address,
        headers: HeaderMap,
        body: &dyn Fn() -> Option<Body>,
    ) -> Result<Response> {
        Ok(self.send_to_each(asked, method, address, headers, body).await?.0)
    }

    async fn send_to_each(
        &self,
        asked: Asked<'_>,
        method: Method,
        address: &Address,
        headers: HeaderMap,
        body: &dyn Fn() -> Option<Body>,
    ) -> Result<(Response, Option<String>)> {
        let access = if matches!(method, Method::GET | Method::HEAD) { Access::Pull } else { Access::Push };
        let last = self.settings.registries.endpoints(asked.location, access)?.pop();
        self.at_each(asked.location, access, async |endpoint| {
            let is_last = last.as_ref() == Some(endpoint);
            let is_mirror = endpoint.location != *asked.location;
            let asked = Asked { location: &endpoint.location, ..asked };
            let response =
                self.exchange(endpoint, asked, method.clone(), address, headers.clone(), body).await?;
            if is_mirror {
                // Others may have what it does not.
                refuse_pages(asked, header(&response, CONTENT_TYPE.as_str()).as_deref())?;
            }
            Ok((response, (!is_last).then(|| endpoint.location.host.clone())))
        })
        .await
    }

    /// Tries the endpoints of a repository one after the other. What the last one says counts.
    pub(crate) async fn at_each<T>(
        &self,
        location: &Location,
        access: Access,
        attempt: impl AsyncFn(&Endpoint) -> Result<T>,
    ) -> Result<T> {
        let mut endpoints = self.settings.registries.endpoints(location, access)?;
        let last = endpoints.pop().ok_or_else(|| Error::Host { host: location.host.clone() })?;
        let mut failed = Vec::new();
        for endpoint in endpoints {
            let host = &endpoint.location.host;
            if let Some(why) = self.why_down(host) {
                failed.push(why);
                continue;
            }
            match attempt(&endpoint).await {
                Ok(answer) => return Ok(answer),
                // The disk's failure is not the mirror's.
                Err(error @ (Error::File(_) | Error::Sink(_) | Error::Stopped(_))) => return Err(error),
                Err(error) => {
                    let why = base::failure::chain(&error);
                    if error.is_of_host() {
                        self.note_down(host, why.clone());
                    }
                    failed.push(why);
                }
            }
        }
        match attempt(&last).await {
            Err(error) if !failed.is_empty() => {
                Err(Error::Mirrors { last: Box::new(error), mirrors: failed })
            }
            other => other,
        }
    }

    /// A successful answer of one endpoint, logged in where that is asked for, tried again where that may help.
    pub(crate) async fn exchange(
        &self,
        endpoint: &Endpoint,
        asked: Asked<'_>,
        method: Method,
        address: &Address,
        headers: HeaderMap,
        body: &dyn Fn() -> Option<Body>,
    ) -> Result<Response> {
        let access = if matches!(method, Method::GET | Method::HEAD) { Access::Pull } else { Access::Push };
        let mut attempt = 1;
        let mut logins = 0;
        let mut used_login = false;
        loop {
            let body = body();
            if body.is_some() {
                attempt = ATTEMPTS;
            }
            let authorization = self.authorization(endpoint, access)?;
            let had = authorization.is_some();
            let request =
                Request { endpoint, asked, method: method.clone(), headers: headers.clone(), authorization };
            let pause = match self.follow(request, address, body).await {
                Ok(response) if response.status().is_success() => return Ok(response),
                Ok(response)
                    if response.status() == StatusCode::UNAUTHORIZED
                        && endpoint.owns(response.url())
                        && logins < 2 =>
                {
                    logins += 1;
                    // A second time only if there was a token, which may have expired meanwhile.
                    let had = self.forget(endpoint, access) || had;
                    if logins == 2 && !had {
                        return Err(self.status_error(asked, response, used_login).await);
                    }
                    used_login = self.log_in(endpoint, asked, access, response, logins == 2).await?;
                    continue;
                }
                Ok(response) if attempt < ATTEMPTS && is_passing(response.status()) => {
                    match wait(&response, attempt) {
                        Some(pause) => pause,
                        None => return Err(self.status_error(asked, response, used_login).await),
                    }
                }
                Ok(response) => return Err(self.status_error(asked, response, used_login).await),
                Err(Sent::Error(e)) => return Err(e),
                Err(Sent::Connection(e)) if attempt < ATTEMPTS && is_worth_retrying(&e) => backoff(attempt),
                Err(Sent::Connection(e)) => return Err(connection_error(asked.location, e)),
            };
            attempt += 1;
            tokio::time::sleep(pause).await;
        }
    }

    /// Sends a request, and goes where it is sent: registries keep blobs elsewhere. The login stays behind where
    /// the host is another, and so does whoever would lead from HTTPS to plain text.
    pub(crate) async fn follow(
        &self,
        request: Request<'_>,
        address: &Address,
        mut body: Option<Body>,
    ) -> std::result::Result<Response, Sent> {
        let Request { endpoint, asked, mut method, headers, authorization } = request;
        let mut url = match address {
            Address::In(rest) if rest.is_empty() => endpoint.host_url("v2/")?,
            Address::In(rest) => endpoint.url(rest)?,
            Address::At(url) => url.clone(),
        };
        let mut seen = vec![url.clone()];
        loop {
            let client = self.clients.of(&url, &self.settings)?;
            let mut request = client.request(method.clone(), url.clone()).headers(headers.clone());
            if let Some(authorization) = authorization.as_ref().filter(|_| endpoint.owns(&url)) {
                request = request.header(AUTHORIZATION, authorization);
            }
            let has_body = body.is_some();
            if let Some(body) = body.take() {
                request = request.body(body);
            }
            let response = request.send().await.map_err(Sent::Connection)?;
            let status = response.status().as_u16();
            let again = match status {
                // What is sent cannot be sent twice; what asks for nothing but a document can.
                307 | 308 if !has_body => true,
                301..=303 if !has_body => {
                    if method != Method::HEAD {
                        method = Method::GET;
                    }
                    true
                }
                _ => false,
            };
            let Some(next) = header(&response, LOCATION.as_str()).filter(|_| again) else {
                return Ok(response);
            };
            let refuse =
                |why: &str| Error::Redirect { host: asked.location.host.clone(), why: why.to_owned() };
            let next = url.join(&next).map_err(|_| refuse("to something that is no address"))?;
            if let Some(why) = self.refusal(&url, &next) {
                return Err(refuse(&why).into());
            }
            if seen.contains(&next) {
                return Err(refuse("in a circle").into());
            }
            if seen.len() > MAX_REDIRECTS {
                return Err(refuse(&format!("more than {MAX_REDIRECTS} times")).into());
            }
            seen.push(next.clone());
            url = next;
        }
    }

    /// Why nobody goes from one address to the other.
    fn refusal(&self, from: &Url, to: &Url) -> Option<String> {
        match (from.scheme(), to.scheme()) {
            (_, "https") => None,
            ("http", "http") if from.origin() == to.origin() || self.may_be_plain(to) => None,
            ("http", "http") => Some(format!("to plain HTTP on `{}`", authority(to))),
            ("https", "http") => Some("from HTTPS to plain text".to_owned()),
            (_, scheme) => {
                Some(format!("to an address of the kind `{}:`", scheme.chars().take(20).collect::<String>()))
            }
        }
    }

    /// Whether a host is one that is spoken to in plain HTTP.
    pub(crate) fn may_be_plain(&self, url: &Url) -> bool {
        let host = authority(url);
        is_loopback(&host) || self.settings.registries.scheme(&host) == Scheme::Http
    }

    /// The whole of an answer, if it is no longer than documents are.
    pub(crate) async fn document(&self, asked: Asked<'_>, mut response: Response) -> Result<Vec<u8>> {
        let too_large = || Error::TooLarge {
            host: asked.location.host.clone(),
            what: asked.what.to_owned(),
            limit: MAX_DOCUMENT,
        };
        if response.content_length().is_some_and(|length| length > MAX_DOCUMENT) {
            return Err(too_large());
        }
        let mut bytes = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(|e| connection_error(asked.location, e))? {
            if (bytes.len() + chunk.len()) as u64 > MAX_DOCUMENT {
                return Err(too_large());
            }
            bytes.extend_from_slice(&chunk);
        }
        Ok(bytes)
    }

    /// An answer as the JSON that it should be.
    pub(crate) async fn json<T: DeserializeOwned>(&self, asked: Asked<'_>, response: Response) -> Result<T> {
        let said = header(&response, CONTENT_TYPE.as_str());
        refuse_pages(asked, said.as_deref())?;
        let bytes = self.document(asked, response).await?;
        serde_json::from_slice(&bytes).map_err(|_| Error::NotARegistry {
            host: asked.location.host.clone(),
            what: asked.what.to_owned(),
            found: "something that is not the JSON of one".to_owned(),
        })
    }

    /// What an unsuccessful answer means.
    pub(crate) async fn status_error(&self, asked: Asked<'_>, response: Response, with_login: bool) -> Error {
        let Location { host, repository } = asked.location.clone();
        let status = response.status();
        let said_type = header(&response, CONTENT_TYPE.as_str());
        let again_in = retry_after(&response).map(|pause| pause.as_secs());
        let body = self.document(asked, response).await.unwrap_or_default();
        let errors: ErrorResponse = serde_json::from_slice(&body).unwrap_or_default();
        let first = errors.errors.into_iter().next().unwrap_or_default();
        // From outside, and bound for a terminal.
        let said: String = first.message.chars().filter(|c| !c.is_control()).take(200).collect();
        let what = asked.what.to_owned();
        let code = status.as_u16();
        match code {
            401 | 403 if with_login => Error::LoginRefused { host, repository, status: code, said },
            403 => Error::Forbidden { host, repository, said },
            401 => Error::LoginWanted { host, repository, status: code },
            404 if first.code == "NAME_UNKNOWN" => {
                Error::NotFound { host, what: format!("repository `{repository}`"), tags: Vec::new() }
            }
            404 if first.code.is_empty() && said_type.is_some_and(|t| t.starts_with("text/html")) => {
                Error::NotARegistry { host, what, found: "a web page (404)".to_owned() }
            }
            404 => Error::NotFound { host, what, tags: Vec::new() },
            429 | 500..=599 => Error::Unavailable { host, status: code, said, again_in },
            _ => Error::Status { host, what, status: code, said },
        }
    }
}

/// What is sent to an endpoint.
pub(crate) struct Request<'a> {
    pub(crate) endpoint: &'a Endpoint,
    pub(crate) asked: Asked<'a>,
    pub(crate) method: Method,
    pub(crate) headers: HeaderMap,
    /// For the endpoint's own host, and no other.
    pub(crate) authorization: Option<String>,
}

/// Why there is no answer.
pub(crate) enum Sent {
    /// The connection's fault, which may pass.
    Connection(reqwest::Error),
    /// Another one, which will not.
    Error(Error),
}

impl From<Error> for Sent {
    fn from(error: Error) -> Self {
        Self::Error(error)
    }
}

impl Sent {
    pub(crate) fn into_error(self, location: &Location) -> Error {
        match self {
            Self::Connection(error) => connection_error(location, error),
            Self::Error(error) => error,
        }
    }
}

pub(crate) fn header(response: &Response, name: &str) -> Option<String> {
    response.headers().get(name).and_then(|value| value.to_str().ok()).map(str::to_owned)
}

/// A login page, a captive portal, a parked domain.
pub(crate) fn refuse_pages(asked: Asked<'_>, content_type: Option<&str>) -> Result<()> {
    match content_type {
        Some(page) if page.starts_with("text/html") => Err(Error::NotARegistry {
            host: asked.location.host.clone(),
            what: asked.what.to_owned(),
            found: "a web page".to_owned(),
        }),
        _ => Ok(()),
    }
}

pub(crate) fn is_passing(status: StatusCode) -> bool {
    matches!(status.as_u16(), 408 | 429 | 500 | 502 | 503 | 504)
}

/// Nobody there, or another certificate, stays so; a connection that broke may not.
pub(crate) fn is_worth_retrying(error: &reqwest::Error) -> bool {
    !(error.is_connect() || error.is_builder() || error.is_redirect() || is_tls(&base::failure::chain(error)))
}

pub(crate) fn backoff(attempt: u32) -> Duration {
    Duration::from_millis(200 << attempt.min(5))
}

/// How long to wait before the next attempt; `None` where the registry wants more than we give.
fn wait(response: &Response, attempt: u32) -> Option<Duration> {
    let pause = retry_after(response).unwrap_or_else(|| backoff(attempt));
    (pause <= MAX_WAIT).then_some(pause)
}

/// `Retry-After`: seconds, or a date (RFC 9110, 10.2.3).
fn retry_after(response: &Response) -> Option<Duration> {
    let text = header(response, RETRY_AFTER.as_str())?;
    parse_retry_after(text.trim(), jiff::Timestamp::now())
}

fn parse_retry_after(text: &str, now: jiff::Timestamp) -> Option<Duration> {
    if let Ok(seconds) = text.parse::<u64>() {
        return Some(Duration::from_secs(seconds));
    }
    let date = jiff::fmt::rfc2822::DateTimeParser::new().parse_timestamp(text).ok()?;
    Some(Duration::try_from(date.duration_since(now)).unwrap_or_default())
}

/// The address of a blob's storage may hold a signature: no address in messages.
pub(crate) fn connection_error(location: &Location, error: reqwest::Error) -> Error {
    let host = location.host.clone();
    let source = error.without_url();
    let text = base::failure::chain(&source);
    if is_tls(&text) {
        Error::Tls { host, source }
    } else if source.is_timeout() && !source.is_connect() {
        Error::Timeout { host }
    } else if source.is_connect() && text.contains("dns error") {
        Error::NoSuchHost { host, source }
    } else if source.is_connect() {
        let local = is_loopback(&host);
        Error::Unreachable { host, local, source }
    } else {
        Error::Broken { host, source }
    }
}

/// Whether it is TLS that failed: with version 1.3, a server tells that it wants another certificate of ours only after
/// the handshake.
fn is_tls(text: &str) -> bool {
    const SIGNS: [&str; 8] = [
        "tls handshake eof",
        "certificate",
        "Certificate",
        "InvalidContentType",
        "HandshakeFailure",
        "corrupt message",
        "fatal alert",
        "peer is incompatible",
    ];
    SIGNS.iter().any(|sign| text.contains(sign))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn registries_say_when_to_come_again_in_seconds_or_as_a_date() {
        let now = "2015-10-21T07:28:00Z".parse().unwrap();
        let seconds = |text: &str| parse_retry_after(text, now).map(|pause| pause.as_secs());
        assert_eq!(seconds("120"), Some(120));
        assert_eq!(seconds("Wed, 21 Oct 2015 07:28:30 GMT"), Some(30));
        assert_eq!(seconds("Wed, 21 Oct 2015 07:27:30 GMT"), Some(0));
        for none in ["", "soon", "-1", "1.5"] {
            assert_eq!(seconds(none), None, "{none}");
        }
    }
}
