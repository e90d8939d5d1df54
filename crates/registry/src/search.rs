//! Searching: Docker Hub's `/v1/search`, which some others have too; else the list of all repositories (distribution's
//! `/v2/_catalog`), sieved here.

use oci::distribution::Catalog;
use reqwest::header::{HeaderMap, LINK};
use reqwest::{Method, Url};
use serde::Deserialize;

use crate::endpoint::{Address, Endpoint};
use crate::request::{Asked, header};
use crate::{Client, Error, Result};

/// How many repositories are asked for at once.
const PAGE: usize = 1000;
/// A registry of more pages is not read to its end.
const MAX_PAGES: usize = 100;

/// A repository that was found.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(default)]
pub struct Found {
    /// `nginx`, `me/tool`; with the host where it is not Docker Hub.
    pub name: String,
    /// What it is, on one line.
    pub description: String,
    /// How many people like it.
    #[serde(rename = "star_count")]
    pub stars: u64,
    /// Whether it is one of Docker Hub's own.
    #[serde(rename = "is_official")]
    pub official: bool,
    /// Whether Docker Hub builds it.
    #[serde(rename = "is_automated")]
    pub automated: bool,
}

#[derive(Deserialize)]
struct Results {
    results: Vec<Found>,
}

impl Client {
    /// Repositories of a registry that have to do with a term; at most so many.
    pub fn search(&self, host: &str, term: &str, limit: usize) -> Result<Vec<Found>> {
        let endpoint = self.settings.registries.of_host(host)?;
        let mut found = self.runtime.block_on(async {
            match self.search_index(&endpoint, term, limit).await? {
                Some(found) => Ok(found),
                None => self.search_catalog(&endpoint, term, limit).await,
            }
        })?;
        found.truncate(limit);
        for item in &mut found {
            for text in [&mut item.name, &mut item.description] {
                // From outside, and bound for a terminal.
                *text = text
                    .split(|c: char| c.is_control() || c == ' ')
                    .filter(|word| !word.is_empty())
                    .collect::<Vec<_>>()
                    .join(" ");
            }
            if host != "docker.io" {
                item.name = format!("{host}/{}", item.name);
            }
        }
        Ok(found)
    }

    /// `None` where the registry has no search.
    async fn search_index(
        &self,
        endpoint: &Endpoint,
        term: &str,
        limit: usize,
    ) -> Result<Option<Vec<Found>>> {
        let mut url = endpoint.host_url("v1/search?")?;
        url.query_pairs_mut().append_pair("q", term).append_pair("n", &limit.to_string());
        let asked = Asked { location: &endpoint.location, what: "a search" };
        match self.exchange(endpoint, asked, Method::GET, &Address::At(url), HeaderMap::new(), &|| None).await
        {
            Ok(response) => match self.json::<Results>(asked, response).await {
                Ok(Results { results }) => Ok(Some(results)),
                // A web page for whatever is asked.
                Err(Error::NotARegistry { .. }) => Ok(None),
                Err(error) => Err(error),
            },
            Err(error) if is_unknown(&error) => Ok(None),
            Err(error) => Err(error),
        }
    }

    async fn search_catalog(&self, endpoint: &Endpoint, term: &str, limit: usize) -> Result<Vec<Found>> {
        let asked = Asked { location: &endpoint.location, what: "the list of its repositories" };
        let mut found = Vec::new();
        let mut url = endpoint.host_url(&format!("v2/_catalog?n={PAGE}"))?;
        for _ in 0..MAX_PAGES {
            let address = Address::At(url.clone());
            let response =
                match self.exchange(endpoint, asked, Method::GET, &address, HeaderMap::new(), &|| None).await
                {
                    Err(error) if is_unknown(&error) => {
                        return Err(Error::NoSearch { host: endpoint.location.host.clone() });
                    }
                    other => other?,
                };
            let next = header(&response, LINK.as_str()).and_then(|link| next_page(&url, &link));
            let catalog: Catalog = self.json(asked, response).await?;
            let fits = |name: &String| name.contains(&term.to_lowercase());
            let names = catalog.repositories.unwrap_or_default().into_iter().filter(fits);
            found.extend(names.map(|name| Found { name, ..Found::default() }));
            match next {
                Some(next) if found.len() < limit && endpoint.owns(&next) => url = next,
                _ => break,
            }
        }
        Ok(found)
    }
}

/// Whether a registry does not know what is asked of it at all.
fn is_unknown(error: &Error) -> bool {
    matches!(
        error,
        Error::NotFound { .. }
            | Error::NotARegistry { .. }
            | Error::Status { status: 400 | 405 | 410 | 501, .. }
    )
}

/// `</v2/_catalog?n=…&last=…>; rel="next"`
fn next_page(from: &Url, link: &str) -> Option<Url> {
    let (target, parameters) = link.strip_prefix('<')?.split_once('>')?;
    parameters.contains("next").then(|| from.join(target).ok())?
}
