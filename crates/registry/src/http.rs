//! The HTTP clients underneath: one for each way of talking to hosts, made when first needed. None of them follows
//! redirects: where those lead, and what may go along, is decided in [`crate::request`].

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use reqwest::Url;
use reqwest::redirect::Policy;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use crate::endpoint::is_loopback;
use crate::registries::Certificates;
use crate::{Error, Result, Settings};

/// Where distributions keep all root certificates in one file: reading a directory of a hundred and fifty
/// takes three times as long.
const BUNDLES: [&str; 5] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];
const CONNECT: Duration = Duration::from_secs(20);
/// How long an answer or its next bytes may take.
const SILENCE: Duration = Duration::from_mins(1);

/// A way of talking to hosts.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Way {
    /// HTTPS, with what the system trusts.
    Https,
    /// HTTPS, with certificates that are this host's alone; so its connections are nobody else's either.
    HttpsOf(String),
    /// HTTP to ourselves.
    Loopback,
    /// HTTP elsewhere.
    Http,
}

/// The clients.
#[derive(Debug, Default)]
pub(crate) struct Clients(Mutex<BTreeMap<Way, reqwest::Client>>);

impl Clients {
    /// The client for an address.
    pub(crate) fn of(&self, url: &Url, settings: &Settings) -> Result<reqwest::Client> {
        let host = authority(url);
        let own = settings.registries.certificates(&host).filter(|_| url.scheme() == "https");
        let way = match (url.scheme(), &own) {
            ("https", Some(_)) => Way::HttpsOf(host),
            ("https", None) => Way::Https,
            _ if is_loopback(&host) => Way::Loopback,
            _ => Way::Http,
        };
        let mut clients = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(client) = clients.get(&way) {
            return Ok(client.clone());
        }
        let client = client(&way, own.as_ref(), settings)?;
        clients.insert(way, client.clone());
        Ok(client)
    }
}

/// `host[:port]`, as names of registries say it.
pub(crate) fn authority(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
}

fn client(way: &Way, own: Option<&Certificates>, settings: &Settings) -> Result<reqwest::Client> {
    let agent = match &*settings.user_agent {
        "" => concat!("dhow/", env!("CARGO_PKG_VERSION")),
        agent => agent,
    };
    let roots = match way {
        Way::Https | Way::HttpsOf(_) => roots(settings.certificates.as_deref(), own)?,
        Way::Loopback | Way::Http => RootCertStore::empty(),
    };
    let builder = reqwest::Client::builder()
        .user_agent(agent)
        .tls_backend_preconfigured(tls(roots, own)?)
        .hickory_dns(true)
        // Several connections carry large blobs faster than one that they share.
        .http1_only()
        .referer(false)
        .connect_timeout(CONNECT)
        .read_timeout(SILENCE)
        .redirect(Policy::none());
    let builder = match way {
        Way::Http => builder,
        Way::Https | Way::HttpsOf(_) => localhost(builder),
        // No proxy between us and ourselves, and no name service either.
        Way::Loopback => localhost(builder.no_proxy()),
    };
    builder.build().map_err(|e| Error::Setup(Box::new(e)))
}

fn localhost(builder: reqwest::ClientBuilder) -> reqwest::ClientBuilder {
    builder.resolve_to_addrs(
        "localhost",
        &[(std::net::Ipv4Addr::LOCALHOST, 0).into(), (std::net::Ipv6Addr::LOCALHOST, 0).into()],
    )
}

fn tls(roots: RootCertStore, own: Option<&Certificates>) -> Result<ClientConfig> {
    let setup = |e: rustls::Error| Error::Setup(Box::new(e));
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config =
        ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().map_err(setup)?;
    let config = config.with_root_certificates(roots);
    let Some((certificate, key)) = own.and_then(|own| own.identity.as_ref()) else {
        return Ok(config.with_no_client_auth());
    };
    let chain = read_certificates(certificate)?;
    let unfit = |why: String| Error::Certificate { path: key.clone(), why };
    let bytes = base::fs::read(key)?;
    let parsed = PrivateKeyDer::from_pem_slice(&bytes)
        .map_err(|_| unfit("it has no private key in PEM".to_owned()))?;
    config.with_client_auth_cert(chain, parsed).map_err(|e| unfit(e.to_string()))
}

/// The authorities that the system trusts, and those that are one host's alone.
fn roots(instead: Option<&Path>, own: Option<&Certificates>) -> Result<RootCertStore> {
    let mut roots = RootCertStore::empty();
    let system = match instead {
        Some(path) => Some(path.to_owned()),
        None => std::env::var_os("SSL_CERT_FILE")
            .map(PathBuf::from)
            .into_iter()
            .chain(BUNDLES.iter().map(PathBuf::from))
            .find(|path| path.exists()),
    };
    if let Some(path) = system {
        let bytes = base::fs::read(&path)?;
        // A bundle has what nobody can parse any more: the rest is good.
        roots.add_parsable_certificates(
            CertificateDer::pem_slice_iter(&bytes).filter_map(std::result::Result::ok),
        );
    }
    for path in own.map(|own| own.authorities.as_slice()).unwrap_or_default() {
        for certificate in read_certificates(path)? {
            let unfit = |e: rustls::Error| Error::Certificate { path: path.clone(), why: e.to_string() };
            roots.add(certificate).map_err(unfit)?;
        }
    }
    if roots.is_empty() { Err(Error::NoRootCertificates) } else { Ok(roots) }
}

/// The certificates in a file that somebody named: one that is broken is an error.
fn read_certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>> {
    let unfit = |why: &str| Error::Certificate { path: path.to_owned(), why: why.to_owned() };
    let bytes = base::fs::read(path)?;
    let found: std::result::Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&bytes).collect();
    match found {
        Ok(found) if !found.is_empty() => Ok(found),
        _ => Err(unfit("it has no certificate in PEM")),
    }
}
