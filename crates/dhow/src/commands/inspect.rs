//! `dhow inspect`.

use base::Kind;
use clap::Parser;
use engine::Engine;
use serde::Serialize;
use serde_json::Value;

use crate::commands::{Run, each};
use crate::error::{Error, Result};
use crate::globals::Context;
use crate::{format, output};

/// Show all that is known of containers or images.
#[derive(Debug, Parser)]
#[command(name = "inspect")]
pub(crate) struct Arguments {
    /// A Go template, or `json`
    #[arg(short, long, value_name = "FORMAT")]
    format: Option<String>,
    /// Only what is of this type
    #[arg(long = "type", value_name = "TYPE", value_parser = ["container", "image"])]
    kind: Option<String>,
    /// Containers or images
    #[arg(required = true, value_name = "NAME")]
    names: Vec<String>,
}

impl Run for Arguments {
    fn run(self, context: &Context) -> Result<u8> {
        let engine = context.engine()?;
        let mut code = 0;
        let mut found = Vec::new();
        for name in &self.names {
            match find(&engine, name, self.kind.as_deref()) {
                Ok(value) => found.push(value),
                Err(error) => {
                    each::complain(&error);
                    code = 1;
                }
            }
        }
        match self.format.as_deref() {
            None => output::line(&pretty(&found))?,
            Some(format) => found.iter().try_for_each(|value| format::one(format, value))?,
        }
        Ok(code)
    }
}

/// A container of this name, else an image.
fn find(engine: &Engine, name: &str, kind: Option<&str>) -> Result<Value> {
    if kind != Some("image") {
        match engine.inspect_container(name) {
            Err(e) if e.kind() == Kind::NotFound && kind.is_none() => {}
            other => return other.map_err(Error::Engine),
        }
    }
    match engine.inspect_image(name) {
        Err(e) if e.kind() == Kind::NotFound && kind.is_none() => {
            Err(Error::Usage { message: format!("no such container or image: {name}"), hints: Vec::new() })
        }
        other => other.map_err(Error::Engine),
    }
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
