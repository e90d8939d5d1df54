//! `save`: images leave in an archive or a directory.

use std::fs::{File, OpenOptions};
use std::path::{Path, PathBuf};

use base::fs::At;
use base::progress::{Progress, Step};
use base::{Digest, Failure, Kind};
use image::save::{self, Format, Target, Wanted};
use image::{Reference, Resolved};
use oci::image::Platform;

use crate::Engine;
use crate::error::Result;

/// What is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SaveFormat {
    /// Docker's archive, which is also an OCI archive.
    #[default]
    DockerArchive,
    /// An OCI layout in an archive.
    OciArchive,
    /// An OCI layout as a directory.
    OciDirectory,
}

/// Where it goes.
#[derive(Debug)]
pub enum SaveTarget {
    /// A file, which appears when it is whole; for [`SaveFormat::OciDirectory`] a directory that is new or empty.
    Path(PathBuf),
    /// An open file or pipe.
    File(File),
}

#[derive(Debug, thiserror::Error)]
#[error("the image {image} is here for {has}, not for {asked}")]
struct OtherPlatform {
    image: String,
    has: String,
    asked: String,
}

impl Failure for OtherPlatform {
    fn kind(&self) -> Kind {
        Kind::NotFound
    }

    fn hints(&self) -> Vec<String> {
        vec![format!("pull it first: dhow pull --platform {} {}", self.asked, self.image)]
    }
}

fn is_for(image: &Resolved, platform: &Platform) -> bool {
    let own = &image.config.platform;
    (&own.os, &own.architecture) == (&platform.os, &platform.architecture)
        && (platform.variant.is_none() || own.variant == platform.variant)
}

impl Engine {
    /// Saves images: each text is a name, an id, or a repository, which means all its tags.
    pub fn save(
        &self,
        names: &[String],
        format: SaveFormat,
        platform: Option<&str>,
        target: SaveTarget,
        progress: &dyn Progress,
    ) -> Result<()> {
        let wanted = self.wanted(names)?;
        if let Some(text) = platform {
            let asked = crate::images::pull::platform_of(Some(text))?;
            if let Some(other) = wanted.iter().find(|wanted| !is_for(&wanted.image, &asked)) {
                let has = image::platform::display(&other.image.config.platform);
                return Err(OtherPlatform {
                    image: other.image.reference.clone(),
                    has,
                    asked: text.to_owned(),
                }
                .into());
            }
        }
        let store = self.image_store()?;
        let total = wanted.iter().map(|wanted| wanted.image.size).sum();
        progress.begin(SAVING, Step::Save, Some(total));
        let advance = |bytes| progress.advance(SAVING, bytes);
        let shape = if format == SaveFormat::DockerArchive { Format::Docker } else { Format::Oci };
        match (&target, format) {
            (SaveTarget::Path(path), SaveFormat::OciDirectory) => {
                save::write(&store, &wanted, shape, Target::Directory(path), &advance)?;
            }
            (SaveTarget::Path(path), _) => {
                into_file(path, |file| {
                    Ok(save::write(&store, &wanted, shape, Target::Archive(file), &advance)?)
                })?;
            }
            (SaveTarget::File(file), _) => {
                save::write(&store, &wanted, shape, Target::Archive(file), &advance)?;
            }
        }
        progress.end(SAVING, Step::Save);
        for wanted in &wanted {
            let id = wanted.image.id.to_string();
            self.note_image("save", &id, &id);
        }
        Ok(())
    }

    /// The images that these texts mean, each once, with all the names that were asked for.
    fn wanted(&self, texts: &[String]) -> Result<Vec<Wanted>> {
        let mut wanted: Vec<Wanted> = Vec::new();
        for text in texts {
            for (image, name) in self.meant(text)? {
                let same = wanted.iter().position(|w| w.image.manifest == image.manifest);
                let index = same.unwrap_or_else(|| {
                    wanted.push(Wanted { image, names: Vec::new() });
                    wanted.len() - 1
                });
                wanted[index].names.extend(name);
                wanted[index].names.sort();
                wanted[index].names.dedup();
            }
        }
        Ok(wanted)
    }

    fn meant(&self, text: &str) -> Result<Vec<(Resolved, Option<Reference>)>> {
        if let Ok(reference) = text.parse::<Reference>()
            && !names_tag_or_digest(text)
        {
            let mut tags: Vec<(Resolved, Option<Reference>)> = Vec::new();
            for record in self.image_store()?.list()? {
                let name = record.reference.parse::<Reference>().ok();
                let same = |name: &Reference| {
                    (name.registry(), name.repository()) == (reference.registry(), reference.repository())
                        && name.digest().is_none()
                };
                if name.as_ref().is_some_and(same) {
                    tags.push((record, name));
                }
            }
            if !tags.is_empty() {
                tags.sort_by(|a, b| a.1.cmp(&b.1));
                return Ok(tags);
            }
        }
        let image = self.find_image(text)?;
        // An id names no name.
        let name = text.parse::<Reference>().ok().filter(|name| {
            name.canonical() == image.reference
                || name.digest() == Some(&image.manifest)
                || is_digest(name, image.source)
        });
        Ok(vec![(image, name)])
    }
}

/// What progress is shown under.
const SAVING: &str = "archive";

fn is_digest(name: &Reference, digest: Option<Digest>) -> bool {
    digest.is_some() && name.digest() == digest.as_ref()
}

/// Whether a reference is more than a repository.
fn names_tag_or_digest(text: &str) -> bool {
    text.contains('@') || text.rsplit('/').next().is_some_and(|last| last.contains(':'))
}

/// Has a file written beside its place and put there whole. A device or pipe is written to as it is.
pub(crate) fn into_file(path: &Path, write: impl FnOnce(&File) -> Result<()>) -> Result<()> {
    let special = std::fs::metadata(path).is_ok_and(|there| !there.is_file());
    if special {
        return write(&OpenOptions::new().write(true).open(path).at("open", path)?);
    }
    let mut name = std::ffi::OsString::from(".");
    name.push(path.file_name().unwrap_or_default());
    name.push(format!(".{}", std::process::id()));
    let temporary = path.with_file_name(name);
    let file = OpenOptions::new().write(true).create(true).truncate(true).open(&temporary);
    let file = file.at("create", &temporary)?;
    let done = write(&file).and_then(|()| Ok(base::fs::rename(&temporary, path)?));
    if done.is_err() {
        // What went wrong matters more than the leftover.
        base::fs::remove_file(&temporary).ok();
    }
    done.map_err(|error| match error.kind() {
        Kind::Exhausted => NoRoom { path: path.to_owned(), error }.into(),
        _ => error,
    })
}

/// A file that does not fit.
#[derive(Debug, thiserror::Error)]
#[error("cannot write {}: {error}", path.display())]
struct NoRoom {
    path: PathBuf,
    error: crate::Error,
}

impl Failure for NoRoom {
    fn kind(&self) -> Kind {
        self.error.kind()
    }

    fn hints(&self) -> Vec<String> {
        let hints = self.error.hints();
        // Who has more to say has met something else.
        if hints == [base::space::NEXT] {
            base::space::hints(&std::io::ErrorKind::StorageFull.into(), &self.path)
        } else {
            hints
        }
    }
}
