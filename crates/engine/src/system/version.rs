//! `version`.

use serde::Serialize;

/// What this build is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Version {
    /// Ours.
    pub version: &'static str,
    /// Of the protocol between doors and monitors.
    pub protocol: u32,
    /// Of the runtime specification.
    pub oci: &'static str,
    /// `linux`.
    pub os: &'static str,
    /// Go's name of the architecture: `amd64`, `arm64`.
    pub arch: &'static str,
}

/// The version of this build.
pub fn version() -> Version {
    Version {
        version: env!("CARGO_PKG_VERSION"),
        protocol: state::protocol::VERSION,
        oci: oci::runtime::VERSION,
        os: "linux",
        arch: match std::env::consts::ARCH {
            "x86_64" => "amd64",
            "aarch64" => "arm64",
            other => other,
        },
    }
}
