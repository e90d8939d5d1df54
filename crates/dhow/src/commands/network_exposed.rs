//! `dhow network exposed`.

use clap::Parser;
use engine::{ExposedPort, Reach};
use serde_json::{Value, json};

use crate::commands::Run;
use crate::error::Result;
use crate::format::{self, Row};
use crate::globals::Context;

/// List published ports, and who can really reach each of them.
///
/// The host's firewall rules are tried with packets of every kind of sender, in a network namespace that is thrown away. Firewalls
/// between hosts are not known here. The host itself and containers always reach a published port.
#[derive(Debug, Parser)]
#[command(name = "network exposed")]
pub(crate) struct Arguments {
    /// A Go template, `table TEMPLATE`, or `json`
    #[arg(long, value_name = "FORMAT")]
    format: Option<String>,
}

const TABLE: &str = "table {{.Container}}\t{{.Host}}\t{{.Port}}\t{{.ReachedBy}}";
const HEADERS: &[(&str, &str)] = &[
    ("Container", "CONTAINER"),
    ("ID", "CONTAINER ID"),
    ("Host", "PUBLISHED"),
    ("Port", "PORT"),
    ("ReachedBy", "REACHED BY"),
    ("Reach", "REACH"),
    ("Sources", "SOURCES"),
    ("Reason", "REASON"),
];

impl Run for Arguments {
    fn run(self, context: &Context) -> Result<u8> {
        let rows: Vec<Row> = context.engine()?.exposed()?.iter().map(row).collect();
        format::rows(self.format.as_deref(), TABLE, HEADERS, &rows)?;
        Ok(0)
    }
}

fn row(exposed: &ExposedPort) -> Row {
    let port = &exposed.port;
    let host = match port.host_ip {
        Some(ip) => std::net::SocketAddr::new(ip, port.host_port).to_string(),
        None => format!("*:{}", port.host_port),
    };
    let (reach, sources, reason) = match &exposed.reach {
        Reach::All => ("all", &[][..], ""),
        Reach::Host => ("host", &[][..], ""),
        Reach::Some(sources) => ("some", &sources[..], ""),
        Reach::Unknown(reason) => ("unknown", &[][..], reason.as_str()),
    };
    let reached_by = match &exposed.reach {
        Reach::All => "all".to_owned(),
        Reach::Host => "the host only".to_owned(),
        Reach::Some(sources) => sources.join(", "),
        Reach::Unknown(reason) => format!("unknown: {reason}"),
    };
    let row = json!({
        "Container": exposed.name,
        "ID": exposed.container.short(),
        "Host": host,
        "Port": format!("{}/{}", port.container_port, port.protocol),
        "ReachedBy": reached_by,
        "Reach": reach,
        "Sources": sources.join(","),
        "Reason": reason,
    });
    match row {
        Value::Object(row) => row,
        _ => Row::new(),
    }
}
