//! `dhow version`.

use clap::Parser;
use serde_json::{Value, json};

use crate::commands::Run;
use crate::error::Result;
use crate::globals::Context;
use crate::{format, output};

/// Show the version.
#[derive(Debug, Parser)]
#[command(name = "version")]
pub(crate) struct Arguments {
    /// A Go template, or `json`
    #[arg(short, long, value_name = "FORMAT")]
    format: Option<String>,
}

impl Run for Arguments {
    fn run(self, _: &Context) -> Result<u8> {
        let version = engine::version();
        match self.format.as_deref().filter(|format| !format.is_empty()) {
            Some(format) => format::one(format, &value())?,
            None => output::text(&format!(
                "Dhow:\n Version:           {}\n Monitor protocol:  {}\n OCI runtime spec:  {}\n OS/Arch:           {}/{}\n",
                version.version, version.protocol, version.oci, version.os, version.arch
            ))?,
        }
        Ok(0)
    }
}

/// Without a daemon the client is the server: scripts may ask for either.
fn value() -> Value {
    let version = engine::version();
    let part = json!({
        "Version": version.version,
        "Os": version.os,
        "Arch": version.arch,
        "Protocol": version.protocol,
        "OciRuntime": version.oci,
    });
    json!({ "Client": part, "Server": part, "Version": version.version, "Os": version.os, "Arch": version.arch })
}

/// `dhow --version`.
pub(crate) fn short() -> Result<()> {
    output::line(&format!("Dhow version {}", engine::version().version))
}
