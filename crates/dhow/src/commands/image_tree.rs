//! `dhow image tree`.

use std::fmt::Write;

use clap::Parser;
use engine::TreeNode;

use crate::commands::Run;
use crate::error::{Error, Result};
use crate::globals::Context;
use crate::{human, output};

/// Show which images stand on the same layers.
#[derive(Debug, Parser)]
#[command(name = "image tree")]
pub(crate) struct Arguments {
    /// A line for each layer
    #[arg(long)]
    layers: bool,
    /// Do not cut digests off
    #[arg(long)]
    no_trunc: bool,
    /// `json`
    #[arg(long, value_name = "FORMAT")]
    format: Option<String>,
    /// Only those that have their lowest layer in common with this one
    image: Option<String>,
}

impl Run for Arguments {
    fn run(self, context: &Context) -> Result<u8> {
        if let Some(bad) = self.format.as_deref().filter(|format| *format != "json") {
            return Err(Error::Format(format!("`{bad}`: there is `json` alone")));
        }
        let nodes = context.engine()?.image_tree(self.image.as_deref())?;
        if self.format.is_some() {
            let text = serde_json::to_string(&nodes).map_err(|e| Error::Format(e.to_string()))?;
            return output::line(&text).map(|()| 0);
        }
        let mut text = String::new();
        for node in &nodes {
            self.node(&mut text, node, "", "", "");
        }
        output::text(&text)?;
        Ok(0)
    }
}

impl Arguments {
    /// `head` stands before the first line, `rest` before those below it.
    fn node(&self, text: &mut String, node: &TreeNode, head: &str, rest: &str, inner: &str) {
        let digest = |hex: String| if self.no_trunc { hex } else { hex[..12].to_owned() };
        let layers = match (&node.layers[..], self.layers) {
            ([], _) => "no layers".to_owned(),
            ([one], _) | ([one, ..], true) => digest(one.diff_id.hex()),
            ([first, .., last], false) => {
                format!(
                    "{}…{} ({} layers)",
                    digest(first.diff_id.hex()),
                    digest(last.diff_id.hex()),
                    node.layers.len()
                )
            }
        };
        let shared =
            if node.shared_by > 1 { format!("  shared by {} images", node.shared_by) } else { String::new() };
        writeln!(text, "{head}{layers}  {}{shared}", human::size(node.size, 3)).ok();
        let below = format!("{rest}{inner}");
        if self.layers {
            for layer in node.layers.iter().skip(1) {
                let bar = if node.children.is_empty() && node.images.is_empty() { " " } else { "│" };
                writeln!(
                    text,
                    "{below}{bar} {}  {}",
                    digest(layer.diff_id.hex()),
                    human::size(layer.size, 3)
                )
                .ok();
            }
        }
        let count = node.images.len() + node.children.len();
        let branch =
            |at: usize| if at + 1 == count { ("└── ", "    ") } else { ("├── ", "│   ") };
        for (at, image) in node.images.iter().enumerate() {
            writeln!(text, "{below}{}{image}", branch(at).0).ok();
        }
        for (at, child) in node.children.iter().enumerate() {
            let (head, inner) = branch(node.images.len() + at);
            self.node(text, child, &format!("{below}{head}"), &below, inner);
        }
    }
}

#[cfg(test)]
mod tests {
    use base::Digest;
    use engine::TreeLayer;

    use super::*;

    #[test]
    fn branches_are_drawn() {
        let layer = |n: u8| TreeLayer { diff_id: Digest::of(&[n]), size: 1000 };
        let node = |layers: &[u8], images: &[&str], shared_by, children| TreeNode {
            layers: layers.iter().map(|n| layer(*n)).collect(),
            size: 1000 * layers.len() as u64,
            images: images.iter().map(|i| (*i).to_owned()).collect(),
            shared_by,
            children,
        };
        let children = vec![node(&[2], &["app:1"], 1, Vec::new()), node(&[3, 4], &["app:2"], 1, Vec::new())];
        let tree = node(&[1], &["base:1"], 3, children);
        let arguments = Arguments { layers: false, no_trunc: false, format: None, image: None };
        let mut text = String::new();
        arguments.node(&mut text, &tree, "", "", "");
        let short = |n: u8| Digest::of(&[n]).short();
        let expected = format!(
            "{}  1kB  shared by 3 images\n├── base:1\n├── {}  1kB\n│   └── app:1\n└── {}…{} (2 layers)  2kB\n    └── app:2\n",
            short(1),
            short(2),
            short(3),
            short(4)
        );
        assert_eq!(text, expected);
    }
}
