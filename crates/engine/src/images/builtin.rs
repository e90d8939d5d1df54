//! The built-in image `hello`: one static binary of ours that shows what the container sees.
//!
//! On the first use of the name it is imported from the binary beside the running one, through the same store
//! as every image; and again when the binary has changed. A stamp in the cache remembers what was imported
//! from which file. An image that the user has under that name is the user's: it is left alone.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use base::fs::{self, At, Durability};
use base::{Digest, Failure, Kind, Timestamp};
use image::{Reference, Resolved, platform, write};
use oci::image::{Execution, ImageConfig};
use serde::{Deserialize, Serialize};

use crate::Engine;
use crate::containers::inspect::rfc3339;
use crate::containers::reconcile::Encode;
use crate::error::Result;
use crate::images::unpack::unpack_from_store;

const CANONICAL: &str = "docker.io/library/hello:latest";
const PROGRAM: &str = "dhow-hello";
const STAMP: &str = "hello.json";
/// What it takes is far less; more is not our binary.
const MAX_PROGRAM: u64 = 256 << 20;

/// What the image was made from.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Stamp {
    manifest: Digest,
    size: u64,
    modified: (i64, i64),
    inode: u64,
}

#[derive(Debug, thiserror::Error)]
enum Error {
    #[error("the built-in image `hello` needs {PROGRAM}, which is neither beside {} nor in ../libexec/dhow", .0.display())]
    Missing(PathBuf),
    #[error("{} has {size} bytes: that is not ours", path.display())]
    TooLarge { path: PathBuf, size: u64 },
}

impl Failure for Error {
    fn kind(&self) -> Kind {
        match self {
            Self::Missing(_) => Kind::NotFound,
            Self::TooLarge { .. } => Kind::Corrupt,
        }
    }

    fn hints(&self) -> Vec<String> {
        vec!["install all of Dhow's programs together: cargo xtask install".to_owned()]
    }
}

impl Engine {
    /// The built-in image, if that is what the name means; imported if it has to be.
    pub(crate) fn builtin(&self, reference: &Reference) -> Result<Option<Resolved>> {
        if reference.canonical() != CANONICAL {
            return Ok(None);
        }
        let stamp_path = self.instance.cache().join(STAMP);
        let stamp: Option<Stamp> =
            fs::read_if_exists(&stamp_path)?.and_then(|bytes| serde_json::from_slice(&bytes).ok());
        let store = self.image_store()?;
        let existing = store.resolve(reference)?;
        if let Some(image) = &existing
            && stamp.as_ref().is_none_or(|stamp| stamp.manifest != image.manifest)
        {
            return Ok(existing);
        }
        let program = match program() {
            Ok(program) => program,
            // What was imported before still serves.
            Err(_) if existing.is_some() => return Ok(existing),
            Err(error) => return Err(error),
        };
        let about = std::fs::metadata(&program).at("examine", &program)?;
        let now = |manifest| Stamp {
            manifest,
            size: about.size(),
            modified: (about.mtime(), about.mtime_nsec()),
            inode: about.ino(),
        };
        if let Some(image) = &existing
            && stamp == Some(now(image.manifest))
        {
            return Ok(existing);
        }
        if about.size() > MAX_PROGRAM {
            return Err(Error::TooLarge { path: program, size: about.size() }.into());
        }
        let modified =
            Timestamp(about.mtime().saturating_mul(1_000_000_000).saturating_add(about.mtime_nsec()));
        let image = self.write_program(reference, &fs::read(&program)?, modified)?;
        let stamp = serde_json::to_vec(&now(image.manifest)).map_err(Encode)?;
        fs::write_atomic(&stamp_path, &stamp, Durability::Volatile)?;
        // The one of the binary before has lost its name, and nobody ever gave it another.
        if let Some(old) = existing.filter(|old| old.id != image.id) {
            store.untag(&Resolved { reference: String::new(), ..old })?;
        }
        Ok(Some(image))
    }

    /// Imports the built-in image once more, if it is that: its blobs can be had from nowhere else.
    pub(crate) fn import_builtin_again(&self, reference: &Reference, image: &Resolved) -> Result<bool> {
        let stamp: Option<Stamp> = fs::read_if_exists(&self.instance.cache().join(STAMP))?
            .and_then(|bytes| serde_json::from_slice(&bytes).ok());
        if reference.canonical() != CANONICAL || stamp.is_none_or(|stamp| stamp.manifest != image.manifest) {
            return Ok(false);
        }
        let program = program()?;
        self.write_program(reference, &fs::read(&program)?, image.created)?;
        Ok(true)
    }

    /// The image that a user's text stands for, the built-in one included.
    pub(crate) fn find_image(&self, text: &str) -> Result<Resolved> {
        if let Ok(reference) = text.parse()
            && let Some(image) = self.builtin(&reference)?
        {
            return Ok(image);
        }
        Ok(self.image_store()?.find(text)?)
    }

    /// Writes an image of one program, under this name.
    pub(crate) fn write_program(
        &self,
        reference: &Reference,
        program: &[u8],
        made: Timestamp,
    ) -> Result<Resolved> {
        let store = self.image_store()?;
        let ingest = store.ingest()?;
        let config = ImageConfig {
            created: Some(rfc3339(made)),
            platform: platform::host(),
            config: Some(Execution {
                entrypoint: Some(vec!["/hello".to_owned()]),
                working_dir: "/".to_owned(),
                ..Execution::default()
            }),
            ..ImageConfig::default()
        };
        let image = write::image(&ingest, &[&archive("hello", program)], config)?;
        let layers = self.layer_store();
        ingest.protect(&image.diff_ids().collect::<Vec<_>>())?;
        unpack_from_store(&store, &layers, &image.layers, &base::progress::Silent)?;
        Ok(ingest.commit(Some(reference), &image.manifest, None)?)
    }
}

fn program() -> Result<PathBuf> {
    let me = std::env::current_exe().at("find", "/proc/self/exe")?;
    let dir = me.parent().unwrap_or(Path::new("/"));
    let candidates = [dir.join(PROGRAM), dir.join("../libexec/dhow").join(PROGRAM)];
    Ok(candidates.into_iter().find(|path| path.is_file()).ok_or_else(|| Error::Missing(dir.to_owned()))?)
}

/// A tar archive (POSIX.1-2001, ustar) of one executable file, owned by root, of 1970.
fn archive(name: &str, content: &[u8]) -> Vec<u8> {
    const BLOCK: usize = 512;
    let mut header = [0u8; BLOCK];
    let mut put = |at: usize, text: &str| header[at..at + text.len()].copy_from_slice(text.as_bytes());
    put(0, name);
    put(100, "0000755\0");
    put(108, "0000000\0");
    put(116, "0000000\0");
    put(124, &format!("{:011o}\0", content.len()));
    put(136, "00000000000\0");
    // The checksum is of the header with blanks in its own place.
    put(148, "        ");
    put(156, "0");
    put(257, "ustar\x0000");
    let sum: u32 = header.iter().map(|b| u32::from(*b)).sum();
    header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    let mut archive = header.to_vec();
    archive.extend_from_slice(content);
    archive.resize(archive.len().next_multiple_of(BLOCK) + 2 * BLOCK, 0);
    archive
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_archive_is_one_that_tar_reads() {
        use std::io::Write;
        use std::process::{Command, Stdio};
        let mut tar = Command::new("tar")
            .args(["-tvf", "-"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        tar.stdin.take().unwrap().write_all(&archive("hello", &[7; 1000])).unwrap();
        let output = tar.wait_with_output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(
            output.status.success() && text.starts_with("-rwxr-xr-x 0/0") && text.contains("1000"),
            "{text}"
        );
        assert!(text.trim_end().ends_with(" hello"), "{text}");
    }
}
