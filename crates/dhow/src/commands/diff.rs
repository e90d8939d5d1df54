//! `dhow diff`.

use clap::Parser;
use engine::ChangeKind;

use crate::commands::Run;
use crate::error::Result;
use crate::globals::Context;
use crate::output;

/// Show what a container has changed in its files: A added, C changed, D deleted.
#[derive(Debug, Parser)]
#[command(name = "diff")]
pub(crate) struct Arguments {
    /// The container
    container: String,
}

impl Run for Arguments {
    fn run(self, context: &Context) -> Result<u8> {
        let mut text = Vec::new();
        for change in context.engine()?.diff(&self.container)? {
            let letter = match change.kind {
                ChangeKind::Added => b'A',
                ChangeKind::Changed => b'C',
                ChangeKind::Deleted => b'D',
            };
            text.extend_from_slice(&[letter, b' ']);
            // A name of the container's own choice is neither two lines nor a command to a terminal.
            for &byte in &change.path {
                if byte.is_ascii_control() { text.extend(byte.escape_ascii()) } else { text.push(byte) }
            }
            text.push(b'\n');
        }
        output::bytes(&text)?;
        Ok(0)
    }
}
