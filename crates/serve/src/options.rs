//! The command line.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};

/// Dhow's servers.
#[derive(Debug, Parser)]
#[command(name = "dhow-serve", bin_name = "dhow", version, disable_help_subcommand = true)]
pub(crate) struct Options {
    /// Where images and containers are kept
    #[arg(long, value_name = "DIR", hide = true)]
    pub(crate) root: Option<PathBuf>,
    /// Where live state is kept
    #[arg(long, value_name = "DIR", hide = true)]
    pub(crate) run_root: Option<PathBuf>,
    /// The configuration
    #[arg(long, value_name = "FILE", hide = true)]
    pub(crate) config: Option<PathBuf>,
    /// Ask no registry
    #[arg(long, hide = true)]
    pub(crate) offline: bool,
    #[command(subcommand)]
    pub(crate) server: Server,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Server {
    /// A registry
    #[command(subcommand)]
    Registry(Registry),
}

#[derive(Debug, Subcommand)]
pub(crate) enum Registry {
    /// Serve images to others: the local ones, those of a directory, or another registry's
    Serve(Box<Serve>),
}

#[derive(Debug, Args)]
pub(crate) struct Serve {
    /// The address to listen on; port 0: any free one
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:5000")]
    pub(crate) listen: SocketAddr,
    /// Keep images in this directory, apart from the local ones
    #[arg(long, value_name = "DIR")]
    pub(crate) dir: Option<PathBuf>,
    /// Fetch what is asked for from this registry, and keep it (in --dir, or below the root)
    #[arg(long, value_name = "URL")]
    pub(crate) mirror_of: Option<String>,
    /// With --mirror-of: how long to keep what nobody asks for: 12h, 30d
    #[arg(long, value_name = "TIME", default_value = "30d", value_parser = duration)]
    pub(crate) keep: Duration,
    /// Take nothing from clients
    #[arg(long)]
    pub(crate) read_only: bool,
    /// Speak TLS with this certificate (PEM, with the chain); read again when it changes
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    pub(crate) tls_cert: Option<PathBuf>,
    /// The key of the certificate (PEM)
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    pub(crate) tls_key: Option<PathBuf>,
    /// Let in whom this file knows (htpasswd -B); read again when it changes
    #[arg(long, value_name = "FILE")]
    pub(crate) htpasswd: Option<PathBuf>,
    /// How many requests may send blobs at once; others wait
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..100_000))]
    pub(crate) max_uploads: u32,
    /// How many connections there may be at once; a single address may have half of them
    #[arg(long, value_name = "N", default_value_t = 1024, value_parser = clap::value_parser!(u32).range(2..1_000_000))]
    pub(crate) max_connections: u32,
    /// How long an upload is kept that gets no more bytes, and a blob that no manifest needs: 90s, 30m, 24h, 7d
    #[arg(long, value_name = "TIME", default_value = "24h", value_parser = duration)]
    pub(crate) upload_lifetime: Duration,
    /// Do not log requests
    #[arg(long, short)]
    pub(crate) quiet: bool,
}

/// `90s`, `30m`, `24h`, `7d`.
fn duration(text: &str) -> Result<Duration, &'static str> {
    const WHY: &str = "want a number and s, m, h or d, such as 24h";
    let digits = text.find(|c: char| !c.is_ascii_digit()).ok_or(WHY)?;
    let number: u64 = text[..digits].parse().map_err(|_| WHY)?;
    let unit = match &text[digits..] {
        "s" => 1,
        "m" => 60,
        "h" => 3600,
        "d" => 86400,
        _ => return Err(WHY),
    };
    number
        .checked_mul(unit)
        .filter(|seconds| *seconds > 0)
        .map(Duration::from_secs)
        .ok_or("want more than nothing")
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_tree_is_sound() {
        Options::command().debug_assert();
    }

    #[test]
    fn times_have_units() {
        assert_eq!(duration("24h"), Ok(Duration::from_hours(24)));
        assert_eq!(duration("2s"), Ok(Duration::from_secs(2)));
        for bad in ["", "1", "s", "0s", "-1s", "1w", "99999999999999999999s", "1h30m"] {
            assert!(duration(bad).is_err(), "{bad}");
        }
    }
}
