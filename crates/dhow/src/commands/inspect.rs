//! `dhow inspect`.

use clap::Parser;
use engine::Engine;
use serde::Serialize;
use serde_json::Value;

use crate::commands::{Run, each};
use crate::error::{Error, Result};
use crate::globals::Context;
use crate::{format, output};

/// Show all that is known of containers, images, networks or volumes.
#[derive(Debug, Parser)]
#[command(name = "inspect")]
pub(crate) struct Arguments {
    /// A Go template, or `json`
    #[arg(short, long, value_name = "FORMAT")]
    format: Option<String>,
    /// Only what is of this type
    #[arg(long = "type", value_name = "TYPE", value_parser = ["container", "image", "network", "volume"])]
    kind: Option<String>,
    /// What containers take of the disk, too
    #[arg(short, long)]
    size: bool,
    /// Containers, images, networks or volumes
    #[arg(required = true, value_name = "NAME")]
    names: Vec<String>,
}

impl Run for Arguments {
    fn run(self, context: &Context) -> Result<u8> {
        let kind = self.kind.as_deref().map(|kind| match kind {
            "image" => Kind::Image,
            "network" => Kind::Network,
            "volume" => Kind::Volume,
            _ => Kind::Container,
        });
        let what = What { kind, size: self.size };
        show(&context.engine()?, &self.names, what, self.format.as_deref())
    }
}

/// What a name may be of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Container,
    Image,
    Network,
    Volume,
}

/// What is asked for.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct What {
    /// None: of any kind.
    pub(super) kind: Option<Kind>,
    /// The sizes of containers, too.
    pub(super) size: bool,
}

/// In this order.
const KINDS: [Kind; 4] = [Kind::Container, Kind::Image, Kind::Network, Kind::Volume];

/// Prints what is known of these, and complains about those that are not there.
pub(super) fn show(engine: &Engine, names: &[String], what: What, format: Option<&str>) -> Result<u8> {
    let mut code = 0;
    let mut found = Vec::new();
    for name in names {
        match find(engine, name, what) {
            Ok(value) => found.push(value),
            Err(error) => {
                each::complain(&error);
                code = 1;
            }
        }
    }
    match format.filter(|format| !format.is_empty()) {
        None => output::line(&pretty(&found))?,
        Some(format) => {
            for value in &found {
                match format::one(format, value) {
                    Err(error @ Error::Template(_)) => {
                        each::complain(&error);
                        code = 1;
                    }
                    other => other?,
                }
            }
        }
    }
    Ok(code)
}

fn find(engine: &Engine, name: &str, What { kind, size }: What) -> Result<Value> {
    for candidate in KINDS.into_iter().filter(|k| kind.is_none_or(|wanted| wanted == *k)) {
        let found = match candidate {
            Kind::Container if size => engine.inspect_container_with_size(name),
            Kind::Container => engine.inspect_container(name),
            Kind::Image => engine.inspect_image(name),
            Kind::Network => engine.inspect_network(name),
            Kind::Volume => engine.inspect_volume(name),
        };
        match found {
            Err(e) if e.kind() == base::Kind::NotFound && kind.is_none() => {}
            other => return other.map_err(Error::Engine),
        }
    }
    Err(Error::Usage {
        message: format!("no such container, image, network or volume: {name}"),
        hints: Vec::new(),
    })
}

/// Four spaces, as Docker indents.
fn pretty(values: &[Value]) -> String {
    let mut text = Vec::new();
    let formatter = serde_json::ser::PrettyFormatter::with_indent(b"    ");
    let mut serializer = serde_json::Serializer::with_formatter(&mut text, formatter);
    // Writing JSON values to memory cannot fail.
    values.serialize(&mut serializer).ok();
    String::from_utf8_lossy(&text).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_indent_is_dockers() {
        assert_eq!(pretty(&[serde_json::json!({"Id": "x"})]), "[\n    {\n        \"Id\": \"x\"\n    }\n]");
        assert_eq!(pretty(&[]), "[]");
    }
}
