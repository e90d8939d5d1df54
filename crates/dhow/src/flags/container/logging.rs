//! How what it says is kept.

use std::str::FromStr;

use clap::Args;
use state::options::{ContainerOptions, LogDriver};

use crate::error::{Error, Result};
use crate::flags::size::Bytes;

#[derive(Debug, Args)]
#[group(skip)]
pub(super) struct Flags {
    /// How to keep what it says, or where to send it: json-file, local, syslog, journald, fluentd, none
    #[arg(long, value_name = "DRIVER", help_heading = "Logs")]
    log_driver: Option<Driver>,
    /// How large its log may grow: max-size=BYTES, max-file=NUMBER, compress=BOOL (not of json-file); what else its driver
    /// has
    #[arg(long, value_name = "KEY=VALUE", help_heading = "Logs")]
    log_opt: Vec<String>,
}

#[derive(Debug, Clone, Copy)]
struct Driver(LogDriver);

/// Not a driver that is here.
#[derive(Debug, thiserror::Error)]
#[error("want json-file, local, syslog, journald, fluentd or none")]
struct NotADriver;

impl FromStr for Driver {
    type Err = NotADriver;
    fn from_str(text: &str) -> std::result::Result<Self, NotADriver> {
        LogDriver::named(text).map(Self).ok_or(NotADriver)
    }
}

impl Flags {
    pub(super) fn apply(self, options: &mut ContainerOptions) -> Result<()> {
        options.log.driver = self.log_driver.map(|Driver(driver)| driver);
        for text in &self.log_opt {
            let bad =
                |want: &str| Error::flag(format!("invalid value '{text}' for '--log-opt': want {want}"));
            match text.split_once('=') {
                Some(("max-size", "-1")) => options.log.max_size = Some(0),
                Some(("max-size", size)) => {
                    let Bytes(size) = size.parse().map_err(|_| bad("max-size=BYTES, such as 10m"))?;
                    options.log.max_size = Some(size);
                }
                Some(("max-file", number)) => {
                    let files = number.parse().ok().filter(|files| *files > 0);
                    options.log.max_files = Some(files.ok_or_else(|| bad("max-file=NUMBER, 1 at least"))?);
                }
                Some(("compress", answer)) => {
                    options.log.compress = Some(answer.parse().map_err(|_| bad("compress=true or false"))?);
                }
                Some((name, value)) if !name.is_empty() => {
                    options.log.more.insert(name.to_owned(), value.to_owned());
                }
                _ => return Err(bad("KEY=VALUE, such as max-size=10m")),
            }
        }
        Ok(())
    }
}
