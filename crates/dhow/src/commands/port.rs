//! `dhow port`.

use clap::Parser;
use state::options::{PortMapping, Protocol};

use crate::commands::Run;
use crate::error::{Error, Result};
use crate::globals::Context;
use crate::output;

/// List the ports that a container publishes, or where one of its ports is.
#[derive(Debug, Parser)]
#[command(name = "port")]
pub(crate) struct Arguments {
    /// The container
    container: String,
    /// One of its ports
    #[arg(value_name = "PORT[/PROTOCOL]")]
    port: Option<String>,
}

impl Run for Arguments {
    fn run(self, context: &Context) -> Result<u8> {
        let wanted = self.port.as_deref().map(parse).transpose()?;
        let ports = context.engine()?.published_ports(&self.container)?;
        if let Some((port, protocol)) = wanted {
            let found: Vec<String> = ports
                .iter()
                .filter(|p| (p.container_port, p.protocol) == (port, protocol))
                .map(host)
                .collect();
            if found.is_empty() {
                return Err(Error::NotPublished {
                    port: format!("{port}/{protocol}"),
                    container: self.container,
                });
            }
            return output::text(&found.iter().flat_map(|line| [line, "\n"]).collect::<String>()).map(|()| 0);
        }
        for port in &ports {
            output::line(&format!("{}/{} -> {}", port.container_port, port.protocol, host(port)))?;
        }
        Ok(0)
    }
}

fn host(port: &PortMapping) -> String {
    match port.host_ip {
        Some(ip) => std::net::SocketAddr::new(ip, port.host_port).to_string(),
        None => format!("0.0.0.0:{}", port.host_port),
    }
}

fn parse(text: &str) -> Result<(u16, Protocol)> {
    let (port, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
    let protocol = match protocol {
        "tcp" => Some(Protocol::Tcp),
        "udp" => Some(Protocol::Udp),
        "sctp" => Some(Protocol::Sctp),
        _ => None,
    };
    match (port.parse::<u16>(), protocol) {
        (Ok(port), Some(protocol)) if port > 0 => Ok((port, protocol)),
        _ => Err(Error::Usage {
            message: format!("invalid port `{text}`: want a number, and maybe /tcp or /udp behind it"),
            hints: Vec::new(),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_in_dockers_forms() {
        assert_eq!(parse("80").unwrap(), (80, Protocol::Tcp));
        assert_eq!(parse("53/udp").unwrap(), (53, Protocol::Udp));
        for bad in ["", "x", "0", "80/", "80/x", "70000", "/tcp"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}
