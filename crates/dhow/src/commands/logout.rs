//! `dhow logout`.

use clap::Parser;

use crate::commands::Run;
use crate::error::Result;
use crate::globals::Context;
use crate::output;

/// Forget the login of a registry.
#[derive(Debug, Parser)]
#[command(name = "logout")]
pub(crate) struct Arguments {
    /// The registry [default: Docker Hub]
    server: Option<String>,
}

impl Run for Arguments {
    fn run(self, context: &Context) -> Result<u8> {
        let (host, was_there) = context.engine()?.logout(self.server.as_deref())?;
        output::line(&if was_there {
            format!("Removing login credentials for {host}")
        } else {
            format!("Not logged in to {host}")
        })?;
        Ok(0)
    }
}
