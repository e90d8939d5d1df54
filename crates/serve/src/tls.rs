//! TLS: the certificate, read again when its files change.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use base::fs;
use rustls::ServerConfig;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::TlsAcceptor;

use crate::run::say;

/// How often the files are looked at, at most.
const LOOK: Duration = Duration::from_secs(1);

/// Why TLS cannot be spoken.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error(transparent)]
    File(#[from] fs::Error),
    #[error("there is no certificate in {}", .0.display())]
    NoCertificate(PathBuf),
    #[error("there is no private key in {}", .0.display())]
    NoKey(PathBuf),
    #[error("cannot use the certificate in {}", .0.display())]
    Unusable(PathBuf, #[source] rustls::Error),
}

impl Error {
    pub(crate) fn hints(&self) -> Vec<String> {
        match self {
            Self::Unusable(..) => vec!["check that the key is the certificate's, both in PEM".to_owned()],
            _ => Vec::new(),
        }
    }
}

/// The current certificate.
pub(crate) struct Tls {
    certificate: PathBuf,
    key: PathBuf,
    current: Mutex<Current>,
}

struct Current {
    acceptor: TlsAcceptor,
    stamp: Stamp,
    looked: Instant,
}

/// What tells two versions of the files apart.
type Stamp = [Option<(u64, i64, i64, u64)>; 2];

impl Tls {
    pub(crate) fn open(certificate: &Path, key: &Path) -> Result<Self, Error> {
        let stamp = stamp(certificate, key);
        let acceptor = load(certificate, key)?;
        let current = Mutex::new(Current { acceptor, stamp, looked: Instant::now() });
        Ok(Self { certificate: certificate.to_owned(), key: key.to_owned(), current })
    }

    /// Who accepts the next connection. Files that have changed and make no sense (yet) are told of, and what was read
    /// before goes on.
    pub(crate) fn acceptor(&self) -> TlsAcceptor {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        if current.looked.elapsed() >= LOOK {
            current.looked = Instant::now();
            let stamp = stamp(&self.certificate, &self.key);
            if stamp != current.stamp {
                current.stamp = stamp;
                match load(&self.certificate, &self.key) {
                    Ok(acceptor) => {
                        current.acceptor = acceptor;
                        say("the certificate has been read again");
                    }
                    Err(error) => say(&format!(
                        "warning: the old certificate stays in use: {}",
                        base::failure::chain(&error)
                    )),
                }
            }
        }
        current.acceptor.clone()
    }
}

fn stamp(certificate: &Path, key: &Path) -> Stamp {
    [certificate, key].map(|path| {
        let about = std::fs::metadata(path).ok()?;
        Some((about.ino(), about.mtime(), about.mtime_nsec(), about.len()))
    })
}

fn load(certificate: &Path, key: &Path) -> Result<TlsAcceptor, Error> {
    let chain: Vec<CertificateDer<'static>> =
        CertificateDer::pem_slice_iter(&fs::read(certificate)?).filter_map(Result::ok).collect();
    if chain.is_empty() {
        return Err(Error::NoCertificate(certificate.to_owned()));
    }
    let private = PrivateKeyDer::from_pem_slice(&fs::read(key)?).map_err(|_| Error::NoKey(key.to_owned()))?;
    let unusable = |e| Error::Unusable(certificate.to_owned(), e);
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(unusable)?
        .with_no_client_auth()
        .with_single_cert(chain, private);
    let mut config = config.map_err(unusable)?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}
