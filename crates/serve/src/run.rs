//! From the command line to a server, and its end.

use std::ffi::OsString;
use std::io::Write;
use std::sync::Arc;
use std::time::Duration;

use base::Failure;
use clap::Parser;
use clap::error::ErrorKind;
use engine::distribution::{self, Registry, Upstream};
use engine::{Engine, Settings};

use crate::access::Access;
use crate::handler::Server;
use crate::listener::{self, Limits};
use crate::login::{self, Login};
use crate::options::{self, Options, Serve};
use crate::tls::{self, Tls};

/// Docker's exit code for a bad flag.
const BAD_FLAG: u8 = 125;

/// Why the server could not start or go on.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("{0}")]
    Engine(engine::Error),
    #[error(transparent)]
    Registry(#[from] distribution::Error),
    #[error(transparent)]
    Tls(#[from] tls::Error),
    #[error(transparent)]
    Login(#[from] login::Error),
    #[error("cannot listen on {0}")]
    Listen(std::net::SocketAddr, #[source] std::io::Error),
    #[error("cannot start: {0}")]
    Setup(#[source] std::io::Error),
}

impl From<engine::Error> for Error {
    fn from(error: engine::Error) -> Self {
        Self::Engine(error)
    }
}

impl Error {
    fn hints(&self) -> Vec<String> {
        match self {
            Self::Engine(e) => e.hints(),
            Self::Registry(e) => e.hints(),
            Self::Tls(e) => e.hints(),
            Self::Login(e) => e.hints(),
            Self::Listen(_, e) if e.kind() == std::io::ErrorKind::AddrInUse => {
                vec!["somebody else listens there: choose another address with --listen".to_owned()]
            }
            _ => Vec::new(),
        }
    }
}

/// Talk goes to standard error. Where nobody listens, nobody minds.
pub(crate) fn say(text: &str) {
    writeln!(std::io::stderr(), "dhow: {text}").ok();
}

/// Parses, serves, and returns the exit code.
pub fn run(words: Vec<OsString>) -> u8 {
    let options = match Options::try_parse_from(words) {
        Ok(options) => options,
        Err(e) if matches!(e.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) => {
            return u8::from(write!(std::io::stdout(), "{e}").is_err());
        }
        Err(e) => {
            let text = e.to_string();
            say(&format!(
                "registry serve: {}",
                text.lines().next().unwrap_or_default().trim_start_matches("error: ")
            ));
            writeln!(std::io::stderr(), "  hint: see `dhow registry serve --help`").ok();
            return BAD_FLAG;
        }
    };
    match start(options) {
        Ok(()) => 0,
        Err(error) => {
            say(&base::failure::chain(&error));
            for hint in error.hints() {
                writeln!(std::io::stderr(), "  hint: {hint}").ok();
            }
            1
        }
    }
}

fn start(options: Options) -> Result<(), Error> {
    let options::Server::Registry(options::Registry::Serve(serve)) = options.server;
    let settings = Settings {
        root: options.root,
        run_root: options.run_root,
        config: options.config,
        offline: options.offline,
    };
    let registry = Arc::new(open(&settings, &serve)?);
    let login = serve.htpasswd.as_deref().map(Login::open).transpose()?;
    let tls = match (&serve.tls_cert, &serve.tls_key) {
        (Some(certificate), Some(key)) => Some(Tls::open(certificate, key)?),
        _ => None,
    };
    let read_only = serve.read_only || registry.is_mirror();
    if !serve.listen.ip().is_loopback() {
        if login.is_none() {
            let may = if read_only { "pull from" } else { "push to and pull from" };
            say(&format!("warning: without --htpasswd everybody who reaches {} can {may} it", serve.listen));
        } else if tls.is_none() {
            say("warning: without --tls-cert passwords go over the network in plain text");
        }
    }
    raise_descriptors();
    let limits = Limits { connections: serve.max_connections as usize, secure: tls.is_some() };
    let access = if serve.quiet { Access::Silent } else { Access::Standard };
    let server = Server::new(Arc::clone(&registry), login, read_only, serve.max_uploads as usize, access);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .thread_name("serve")
        .build()
        .map_err(Error::Setup)?;
    let sweeping =
        (serve.upload_lifetime.min(serve.keep) / 2).clamp(Duration::from_secs(1), Duration::from_mins(10));
    let result = runtime.block_on(async {
        let sweeper = tokio::spawn(sweep(Arc::clone(&registry), sweeping));
        let served = listener::serve(serve.listen, tls, server, limits).await;
        sweeper.abort();
        served
    });
    runtime.shutdown_timeout(Duration::from_secs(1));
    // The client of a mirror has a runtime of its own, which must not end on a thread of this one: it ends here.
    drop(registry);
    result
}

fn open(settings: &Settings, serve: &Serve) -> Result<Registry, Error> {
    let lifetime = serve.upload_lifetime;
    match (&serve.mirror_of, &serve.dir) {
        (Some(url), dir) => {
            let upstream = Upstream::parse(url)?;
            // In a directory of its own it needs no rights, and so no engine.
            let (dir, engine) = if let Some(dir) = dir {
                (dir.clone(), Engine::open(settings).ok())
            } else {
                let engine = Engine::open(settings)?;
                (engine.mirror_directory(&upstream), Some(engine))
            };
            Ok(Registry::mirror_of(&upstream, &dir, lifetime, serve.keep, engine.as_ref())?)
        }
        (None, Some(dir)) => Ok(Registry::in_directory(dir, lifetime)?),
        (None, None) => Ok(Registry::of_images(&Engine::open(settings)?, lifetime)?),
    }
}

/// As many descriptors as we may have: each connection is one, and most of them read a file.
fn raise_descriptors() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let now = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: now.maximum, maximum: now.maximum }).ok();
}

async fn sweep(registry: Arc<Registry>, every: Duration) {
    let mut ticks = tokio::time::interval(every);
    loop {
        ticks.tick().await;
        let registry = Arc::clone(&registry);
        let swept = tokio::task::spawn_blocking(move || registry.sweep()).await;
        if let Ok(Err(error)) = swept {
            say(&format!("warning: cannot sweep: {}", base::failure::chain(&error)));
        }
    }
}
