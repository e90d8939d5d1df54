//! The records of names: readable, and in their place.

use base::{Digest, Failure, Kind};
use image::{
    Document, Error as StoreError, RecordFile, Reference, Resolved, choose_platform, classify, platform,
};

use super::Check;
use super::report::{Problem, ProblemKind};
use crate::error::Result;
use crate::{Engine, PullOptions};

/// Why a record was not made again.
#[derive(Debug, thiserror::Error)]
enum Unmended {
    #[error("index.json does not tell what it was, and it cannot be pulled: {0}")]
    Pull(crate::Error),
}

impl Failure for Unmended {
    fn kind(&self) -> Kind {
        Kind::Corrupt
    }
}

impl Check<'_> {
    /// All images whose records can be read, broken ones mended before if that is wanted.
    pub(super) fn records(&mut self) -> Result<Vec<Resolved>> {
        let store = self.engine.image_store()?;
        for file in store.record_files()? {
            let Err(error) = &file.record else { continue };
            let shown =
                file.reference.as_ref().map_or_else(|| file.path.display().to_string(), Reference::to_string);
            let problem = Problem::new(ProblemKind::Record, shown, base::failure::chain(error));
            if matches!(error, StoreError::NewerRecord { .. }) {
                self.hopeless(problem, "it is for a newer version of Dhow, which should check it");
                continue;
            }
            self.problem(problem, |engine| mend(engine, &file));
        }
        let records: Vec<Resolved> =
            store.record_files()?.into_iter().filter_map(|file| file.record.ok()).collect();
        self.found.records = records.len() as u64;
        Ok(records)
    }

    /// `index.json` and `oci-layout`.
    pub(super) fn layout(&mut self) -> Result<()> {
        let store = self.engine.image_store()?;
        // While a record cannot be read, it is not known what should be in them.
        let Ok(stale) = store.stale_layout_files() else { return Ok(()) };
        for name in stale {
            let problem = Problem::new(ProblemKind::Layout, name, "it does not say what is here");
            self.problem(problem, |engine| {
                engine.image_store()?.mend_layout_files()?;
                Ok("written anew".to_owned())
            });
        }
        Ok(())
    }
}

fn mend(engine: &Engine, file: &RecordFile) -> Result<String> {
    let store = engine.image_store()?;
    let Some(reference) = &file.reference else {
        store.remove_record_file(file)?;
        return Ok("removed: it stands for no name that anybody could ask for".to_owned());
    };
    let listed = store.listed(reference)?.map(|descriptor| descriptor.digest);
    // What is broken would keep every change of a name from being listed. It comes back if nothing better comes.
    let content = base::fs::read_if_exists(&file.path)?;
    store.remove_record_file(file)?;
    let mended = match listed.map(|digest| from_blobs(engine, reference, &digest)) {
        Some(Ok(())) => Ok("made again from index.json and the blobs".to_owned()),
        _ => engine
            .pull(&reference.canonical(), &PullOptions::default(), &base::progress::Silent)
            .map(|_| "pulled again".to_owned())
            .map_err(|e| Unmended::Pull(e).into()),
    };
    if mended.is_err()
        && let Some(content) = content
    {
        base::fs::write_atomic(&file.path, &content, base::fs::Durability::Synced)?;
    }
    mended
}

/// Makes a record from the manifest (or index) and its blobs, which must be here.
fn from_blobs(engine: &Engine, reference: &Reference, digest: &Digest) -> Result<()> {
    let store = engine.image_store()?;
    let ingest = store.ingest()?;
    ingest.protect(&[*digest])?;
    let (manifest, source) = match classify(&store.read_blob(digest)?, None)? {
        Document::Manifest(_) => (*digest, None),
        Document::Index(index) => match choose_platform(&index, &platform::host()) {
            Some(chosen) => (chosen.digest, Some(*digest)),
            None => return Err(StoreError::NotFound(reference.to_string()).into()),
        },
    };
    let blobs: Vec<Digest> = ingest.inspect(&manifest)?.blobs().collect();
    ingest.protect(&blobs)?;
    ingest.commit(Some(reference), &manifest, source.as_ref())?;
    Ok(())
}
