//! Docker's format `json-file`: one JSON object a line.

mod encoding;
mod pen;
mod reader;
mod tail;
mod writer;

pub(crate) use reader::JsonReader;
#[cfg(test)]
pub(crate) use reader::MAX_LINE;
pub(crate) use writer::JsonFile;
