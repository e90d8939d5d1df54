//! Logging in: the answer to a registry's challenge, and to the question whether a login is any good.

use oci::distribution::ErrorResponse;
use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderValue, WWW_AUTHENTICATE};
use reqwest::{Method, Response, StatusCode, Url};

use crate::auth::{self, Challenge, TokenAnswer};
use crate::credentials::Login;
use crate::endpoint::{Address, Endpoint};
use crate::request::{Asked, Request, header};
use crate::tokens::{self, Proof};
use crate::{Access, Client, Error, Location, Result};

impl Client {
    /// Whether a registry takes a login. False where it wants none at all.
    pub fn check_login(&self, host: &str, login: &Login) -> Result<bool> {
        let endpoint = self.settings.registries.of_host(host)?;
        self.runtime.block_on(self.check(&endpoint, login))
    }

    async fn check(&self, endpoint: &Endpoint, login: &Login) -> Result<bool> {
        let location = &endpoint.location;
        let asked = Asked { location, what: "its version" };
        let response = self.ask(endpoint, asked, None).await?;
        let status = response.status();
        if status.is_success() {
            return Ok(false);
        }
        if status != StatusCode::UNAUTHORIZED {
            return Err(self.status_error(asked, response, false).await);
        }
        let proof = match challenge(location, &response)? {
            Challenge::Basic => Proof::Basic,
            Challenge::Bearer { realm, service, scope } => {
                self.token(endpoint, asked, &realm, service, scope.as_deref(), Some(login)).await?.0
            }
        };
        let response = self.ask(endpoint, asked, proven(&proof, Some(login))).await?;
        if response.status().is_success() {
            return Ok(true);
        }
        Err(self.status_error(asked, response, true).await)
    }

    async fn ask(
        &self,
        endpoint: &Endpoint,
        asked: Asked<'_>,
        authorization: Option<String>,
    ) -> Result<Response> {
        let request =
            Request { endpoint, asked, method: Method::GET, headers: HeaderMap::new(), authorization };
        let sent = self.follow(request, &Address::In(String::new()), None).await;
        sent.map_err(|e| e.into_error(asked.location))
    }

    /// Finds the answer to a challenge, and keeps it for the repository's next requests. True if a login went into it.
    pub(crate) async fn log_in(
        &self,
        endpoint: &Endpoint,
        asked: Asked<'_>,
        access: Access,
        response: Response,
        again: bool,
    ) -> Result<bool> {
        let Location { host, repository } = asked.location;
        let status = response.status().as_u16();
        let wanted = || Error::LoginWanted { host: host.clone(), repository: repository.clone(), status };
        if header(&response, WWW_AUTHENTICATE.as_str()).unwrap_or_default().is_empty() {
            return Err(wanted());
        }
        let challenge = challenge(asked.location, &response)?;
        let login = self.settings.credentials.of(&endpoint.location)?;
        let (proof, life) = match challenge {
            Challenge::Basic => match &login {
                Some(Login::Password { .. }) if !again => (Proof::Basic, None),
                Some(_) => return Err(self.status_error(asked, response, true).await),
                None => return Err(wanted()),
            },
            Challenge::Bearer { realm, service, scope } => {
                let actions = if access == Access::Pull { "pull" } else { "pull,push" };
                let scope = scope.unwrap_or_else(|| format!("repository:{repository}:{actions}"));
                let (proof, life) =
                    self.token(endpoint, asked, &realm, service, Some(&scope), login.as_ref()).await?;
                (proof, Some(life))
            }
        };
        let key = self.token_key(endpoint, access);
        self.tokens.put(key, proof, life);
        Ok(login.is_some())
    }

    /// Asks a token server. Its address comes from the registry; plain HTTP is spoken to it only where it is spoken to
    /// the registry itself, or on the loopback interface, so that no password goes over the network in plain text.
    async fn token(
        &self,
        endpoint: &Endpoint,
        asked: Asked<'_>,
        realm: &str,
        service: Option<String>,
        scope: Option<&str>,
        login: Option<&Login>,
    ) -> Result<(Proof, std::time::Duration)> {
        let host = &asked.location.host;
        let bad = || Error::Challenge { host: host.clone(), challenge: realm.chars().take(100).collect() };
        let mut url = Url::parse(realm).map_err(|_| bad())?;
        match url.scheme() {
            "https" => {}
            "http" if endpoint.owns(&url) || self.may_be_plain(&url) => {}
            "http" => {
                return Err(Error::PlainRealm { host: host.clone(), realm: crate::http::authority(&url) });
            }
            _ => return Err(bad()),
        }
        let service: Vec<(&str, String)> = service.map(|s| ("service", s)).into_iter().collect();
        let mut headers = HeaderMap::new();
        let (method, body, authorization) = if let Some(Login::Identity(token)) = login {
            let mut form = reqwest::Url::parse("form:").map_err(|_| bad())?;
            form.query_pairs_mut()
                .extend_pairs(&service)
                .append_pair("grant_type", "refresh_token")
                .append_pair("client_id", "dhow")
                .append_pair("scope", scope.unwrap_or_default())
                .append_pair("refresh_token", token);
            headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/x-www-form-urlencoded"));
            (Method::POST, form.query().map(|query| query.to_owned().into()), None)
        } else {
            let scopes = scope.iter().flat_map(|scope| scope.split(' ')).filter(|scope| !scope.is_empty());
            url.query_pairs_mut().extend_pairs(&service).extend_pairs(scopes.map(|scope| ("scope", scope)));
            let authorization = match login {
                Some(Login::Password { user, password }) => Some(basic(user, password)),
                _ => None,
            };
            (Method::GET, None, authorization)
        };
        // The token server is a host of its own: what is proven to it goes to no other. A realm is asked once.
        let realm = Realm(url.clone());
        let response = self.ask_realm(&realm, asked, method, headers, authorization, body).await?;
        if !response.status().is_success() {
            return Err(self.token_error(asked, response, login.is_some()).await);
        }
        let what = Asked { what: "a token", ..asked };
        let answer: TokenAnswer = self.json(what, response).await?;
        answer.token().map(|(token, life)| (Proof::Bearer(token), life)).ok_or_else(bad)
    }

    async fn ask_realm(
        &self,
        realm: &Realm,
        asked: Asked<'_>,
        method: Method,
        headers: HeaderMap,
        authorization: Option<String>,
        body: Option<reqwest::Body>,
    ) -> Result<Response> {
        let endpoint = realm.endpoint();
        let request = Request { endpoint: &endpoint, asked, method, headers, authorization };
        let sent = self.follow(request, &Address::At(realm.0.clone()), body).await;
        sent.map_err(|e| e.into_error(asked.location))
    }

    /// What a token server's refusal means.
    async fn token_error(&self, asked: Asked<'_>, response: Response, with_login: bool) -> Error {
        let Location { host, repository } = asked.location.clone();
        let status = response.status().as_u16();
        // 400 is what OAuth says to a token that is none any more (RFC 6749, 5.2).
        if !matches!(status, 400 | 401 | 403) {
            return self.status_error(Asked { what: "a token", ..asked }, response, with_login).await;
        }
        let body = self.document(asked, response).await.unwrap_or_default();
        let errors: ErrorResponse = serde_json::from_slice(&body).unwrap_or_default();
        let first = errors.errors.into_iter().next().unwrap_or_default();
        let said: String = first.message.chars().filter(|c| !c.is_control()).take(200).collect();
        if with_login {
            Error::LoginRefused { host, repository, status, said }
        } else {
            Error::LoginWanted { host, repository, status }
        }
    }

    /// What is known to answer an endpoint's challenge.
    pub(crate) fn authorization(&self, endpoint: &Endpoint, access: Access) -> Result<Option<String>> {
        let Some(proof) = self.tokens.get(self.token_key(endpoint, access)) else { return Ok(None) };
        let login = match proof {
            Proof::Basic => self.settings.credentials.of(&endpoint.location)?,
            Proof::Bearer(_) => None,
        };
        Ok(proven(&proof, login.as_ref()))
    }

    /// Drops what did not help; true if there was something.
    pub(crate) fn forget(&self, endpoint: &Endpoint, access: Access) -> bool {
        self.tokens.forget(self.token_key(endpoint, access))
    }

    fn token_key(&self, endpoint: &Endpoint, access: Access) -> base::Digest {
        tokens::key(endpoint, access, self.settings.credentials.fingerprint(&endpoint.location))
    }
}

/// A token server's address.
struct Realm(Url);

impl Realm {
    /// The token server as an endpoint: only its host counts.
    fn endpoint(&self) -> Endpoint {
        let scheme = if self.0.scheme() == "http" {
            crate::endpoint::Scheme::Http
        } else {
            crate::endpoint::Scheme::Https
        };
        let location = Location { host: crate::http::authority(&self.0), repository: String::new() };
        Endpoint { scheme, location }
    }
}

fn challenge(location: &Location, response: &Response) -> Result<Challenge> {
    // There may be several headers, and several challenges in each.
    let said: Vec<&str> =
        response.headers().get_all(WWW_AUTHENTICATE).iter().filter_map(|value| value.to_str().ok()).collect();
    let said = said.join(", ");
    auth::parse(&said).ok_or_else(|| Error::Challenge {
        host: location.host.clone(),
        challenge: said.chars().filter(|c| !c.is_control()).take(100).collect(),
    })
}

/// The value of `Authorization`.
fn proven(proof: &Proof, login: Option<&Login>) -> Option<String> {
    match (proof, login) {
        (Proof::Bearer(token), _) => Some(format!("Bearer {token}")),
        (Proof::Basic, Some(Login::Password { user, password })) => Some(basic(user, password)),
        (Proof::Basic, _) => None,
    }
}

fn basic(user: &str, password: &str) -> String {
    use base64::Engine as _;
    format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(format!("{user}:{password}")))
}
