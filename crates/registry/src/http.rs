//! The HTTP clients underneath: one with TLS, one without, each made when first needed.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use reqwest::redirect::{Attempt, Policy};
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;

use crate::endpoint::Scheme;
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
const MAX_REDIRECTS: usize = 10;
const CONNECT: Duration = Duration::from_secs(20);
/// How long an answer or its next bytes may take.
const SILENCE: Duration = Duration::from_mins(1);

pub(crate) fn client(scheme: Scheme, settings: &Settings) -> Result<reqwest::Client> {
    let setup = |e: reqwest::Error| Error::Setup(Box::new(e));
    let agent = match &*settings.user_agent {
        "" => concat!("dhow/", env!("CARGO_PKG_VERSION")),
        agent => agent,
    };
    let roots = match scheme {
        Scheme::Https => roots(settings.certificates.as_deref())?,
        Scheme::Http => RootCertStore::empty(),
    };
    let builder = reqwest::Client::builder()
        .user_agent(agent)
        .tls_backend_preconfigured(tls(roots)?)
        .hickory_dns(true)
        // Several connections carry large blobs faster than one that they share.
        .http1_only()
        .referer(false)
        .connect_timeout(CONNECT)
        .read_timeout(SILENCE)
        .redirect(Policy::custom(move |attempt| redirect(attempt, scheme)));
    let builder = match scheme {
        Scheme::Https => builder,
        // No proxy between us and ourselves, and no name service either.
        Scheme::Http => builder.no_proxy().resolve_to_addrs(
            "localhost",
            &[(std::net::Ipv4Addr::LOCALHOST, 0).into(), (std::net::Ipv6Addr::LOCALHOST, 0).into()],
        ),
    };
    builder.build().map_err(setup)
}

/// Registries send blobs from elsewhere. The authorization stays behind (reqwest drops it where the host
/// changes), and so does whoever would lead from HTTPS to plain text.
fn redirect(attempt: Attempt<'_>, scheme: Scheme) -> reqwest::redirect::Action {
    if attempt.previous().len() > MAX_REDIRECTS {
        return attempt.error("too many redirects");
    }
    let next = match (scheme, attempt.url().scheme()) {
        (Scheme::Https, "https") => Ok(()),
        (Scheme::Http, "http") if attempt.url().host_str().is_some_and(crate::endpoint::is_loopback) => {
            Ok(())
        }
        (Scheme::Https, _) => Err("it redirects from HTTPS to plain text"),
        (Scheme::Http, _) => Err("it redirects away from the loopback interface"),
    };
    match next {
        Ok(()) => attempt.follow(),
        Err(why) => attempt.error(why),
    }
}

fn tls(roots: RootCertStore) -> Result<ClientConfig> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|e| Error::Setup(Box::new(e)))?;
    Ok(config.with_root_certificates(roots).with_no_client_auth())
}

fn roots(own: Option<&Path>) -> Result<RootCertStore> {
    let path = match own {
        Some(path) => Some(path.to_owned()),
        None => std::env::var_os("SSL_CERT_FILE")
            .map(PathBuf::from)
            .into_iter()
            .chain(BUNDLES.iter().map(PathBuf::from))
            .find(|path| path.exists()),
    };
    let bytes = base::fs::read(&path.ok_or(Error::NoRootCertificates)?)?;
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(
        CertificateDer::pem_slice_iter(&bytes).filter_map(std::result::Result::ok),
    );
    if roots.is_empty() { Err(Error::NoRootCertificates) } else { Ok(roots) }
}
