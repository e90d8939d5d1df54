//! `images`: what is in the store.

use std::collections::BTreeMap;

use base::{Digest, Timestamp};
use image::{Reference, Resolved};

use crate::Engine;
use crate::containers::records;
use crate::error::Result;

/// A line of `images`: one name of one image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageSummary {
    /// The repository in familiar form; none where the image has no name.
    pub repository: Option<String>,
    /// The tag; none where the name has a digest instead, or there is none.
    pub tag: Option<String>,
    /// The digest that the registry knows it by: of the index, or the manifest.
    pub digest: Digest,
    /// The image's id: the digest of its configuration.
    pub id: Digest,
    /// When it was made, as it says itself.
    pub created: Option<Timestamp>,
    /// Bytes of its blobs, as stored.
    pub size: u64,
    /// Every name of this image in familiar form.
    pub references: Vec<String>,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// `linux/amd64`, `linux/arm64/v8`, …
    pub platform: String,
    /// The digest of the manifest.
    pub manifest: Digest,
}

impl Engine {
    /// All images, newest first, a line per name.
    pub fn images(&self) -> Result<Vec<ImageSummary>> {
        let records = self.image_store()?.list()?;
        let mut names: BTreeMap<Digest, Vec<String>> = BTreeMap::new();
        for record in &records {
            names.entry(record.id).or_default().extend(familiar(record));
        }
        let mut lines: Vec<ImageSummary> =
            records.iter().map(|r| summary(r, names.get(&r.id).cloned().unwrap_or_default())).collect();
        lines.sort_by(|a, b| (b.created, &a.repository, &a.tag).cmp(&(a.created, &b.repository, &b.tag)));
        Ok(lines)
    }

    /// The line of one image, by a name of it or its id.
    pub fn image(&self, name: &str) -> Result<ImageSummary> {
        Ok(summary(&self.image_store()?.find(name)?, Vec::new()))
    }

    /// How many containers were made of each image.
    pub fn image_uses(&self) -> Result<BTreeMap<Digest, u64>> {
        let mut uses = BTreeMap::new();
        for id in records::all(&self.instance)? {
            if let Some(record) = records::record(&self.instance, &id)? {
                *uses.entry(record.image.id).or_insert(0) += 1;
            }
        }
        Ok(uses)
    }
}

/// The record's name as people write it.
pub(crate) fn familiar(record: &Resolved) -> Option<String> {
    record.reference.parse::<Reference>().ok().map(|r| r.to_string())
}

/// The line of one record. `references`: all names of the image; empty: this one.
pub(crate) fn summary(record: &Resolved, references: Vec<String>) -> ImageSummary {
    let reference = record.reference.parse::<Reference>().ok();
    let labels = record.config.config.as_ref().map(|c| c.labels.clone()).unwrap_or_default();
    ImageSummary {
        repository: reference.as_ref().map(Reference::familiar_name),
        tag: reference.as_ref().and_then(|r| r.tag().map(str::to_owned)),
        digest: record.source.unwrap_or(record.manifest),
        id: record.id,
        created: (record.created != Timestamp(0)).then_some(record.created),
        size: record.size,
        references: if references.is_empty() { familiar(record).into_iter().collect() } else { references },
        labels,
        platform: image::platform::display(&record.config.platform),
        manifest: record.manifest,
    }
}
