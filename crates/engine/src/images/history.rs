//! `history`: how an image came to be, step by step.

use base::{Digest, Timestamp};
use oci::image::{History, ImageConfig};

use crate::Engine;
use crate::error::Result;

/// A step, the last one first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HistoryStep {
    /// The image's id for the last step; none for those before, which are no images any more.
    pub id: Option<Digest>,
    /// When, if it says so.
    pub created: Option<Timestamp>,
    /// The command.
    pub created_by: String,
    /// Bytes of the files that it added.
    pub size: u64,
    /// A comment.
    pub comment: String,
    /// The image's names, for the last step.
    pub tags: Vec<String>,
}

impl Engine {
    /// The steps of an image, the last one first.
    pub fn history(&self, name: &str) -> Result<Vec<HistoryStep>> {
        let image = self.find_image(name)?;
        let store = self.image_store()?;
        let bytes = store.read_blob(&image.id)?;
        let config: ImageConfig =
            serde_json::from_slice(&bytes).map_err(|e| image::store::Error::Document {
                what: "configuration",
                digest: image.id,
                source: image::DocumentError::Json(e),
            })?;
        let layers = self.layer_store();
        let mut sizes = Vec::new();
        for layer in &image.layers {
            // Unpacked, as Docker counts; where it is not, the blob's is the best there is.
            sizes.push(match layers.size(&layer.diff_id)? {
                Some(size) => size,
                None => layer.size,
            });
        }
        let names = store.list()?.into_iter().filter(|record| record.id == image.id);
        let tags =
            names.filter(|r| !r.reference.contains('@')).filter_map(|r| crate::images::list::familiar(&r));
        let mut steps = steps(config.history, sizes);
        if let Some(last) = steps.first_mut() {
            last.id = Some(image.id);
            last.tags = tags.collect();
        }
        Ok(steps)
    }
}

/// Steps and the sizes of their layers. What a history tells of fewer layers than there are stays without a command.
fn steps(history: Vec<History>, sizes: Vec<u64>) -> Vec<HistoryStep> {
    let told = history.iter().filter(|step| !step.empty_layer).count();
    let silent = sizes.len().saturating_sub(told);
    let untold = std::iter::repeat_with(History::default).take(silent);
    let mut sizes = sizes.into_iter();
    let mut steps: Vec<HistoryStep> = untold
        .chain(history)
        .map(|step| HistoryStep {
            id: None,
            created: step.created.as_deref().and_then(logging::parse_time),
            created_by: step.created_by.unwrap_or_default(),
            size: if step.empty_layer { 0 } else { sizes.next().unwrap_or(0) },
            comment: step.comment.unwrap_or_default(),
            tags: Vec::new(),
        })
        .collect();
    steps.reverse();
    steps
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(by: &str, empty_layer: bool) -> History {
        History { created_by: Some(by.to_owned()), empty_layer, ..History::default() }
    }

    #[test]
    fn sizes_belong_to_the_steps_that_made_layers() {
        let lines = |history, sizes| -> Vec<(String, u64)> {
            steps(history, sizes).into_iter().map(|s| (s.created_by, s.size)).collect()
        };
        let pair = |by: &str, size| (by.to_owned(), size);
        let history = vec![step("ADD", false), step("ENV", true), step("RUN", false)];
        assert_eq!(lines(history, vec![10, 20]), [pair("RUN", 20), pair("ENV", 0), pair("ADD", 10)]);
        assert_eq!(
            lines(vec![step("RUN", false)], vec![1, 2, 3]),
            [pair("RUN", 3), pair("", 2), pair("", 1)]
        );
        assert_eq!(lines(vec![], vec![5]), [pair("", 5)]);
        assert_eq!(lines(vec![step("A", false), step("B", false)], vec![5]), [pair("B", 0), pair("A", 5)]);
    }
}
