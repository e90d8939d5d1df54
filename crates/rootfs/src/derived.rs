//! Layers that are made of layers, for an image that cannot be stacked as it is. They lie beside the unpacked
//! ones, are made when an image comes in (or, should they be missing, when it is run), and go with the last image
//! that needs them:
//!
//! - `merged-<digest>`: so many layers as one. The kernel stacks 500; of a deeper image as many blocks of
//!   [`BLOCK`] as are needed are merged, from below, so that images on a common base share them.
//! - `parents-<digest>`: lies on top, and has the directories that would look wrong otherwise (`stack`).
//!
//! The digests are of the layers' diff ids.

use std::collections::HashSet;
use std::path::PathBuf;

use base::Digest;
use base::fs::At;

use crate::mark::Layer;
use crate::stack::Stack;
use crate::store::{Unfinished, remove_tree};
use crate::{Error, LayerStore, MAX_LOWERS, Result};

/// How many layers are merged into one.
const BLOCK: usize = 128;

const MERGED: &str = "merged-";
pub(crate) const PARENTS: &str = "parents-";

/// What is stacked for an image, topmost first: names of directories in the store.
#[derive(Debug, Default, PartialEq, Eq)]
struct Names {
    lowers: Vec<String>,
    /// Those of them that are merged of layers, given as theirs.
    merged: Vec<(String, Vec<Digest>)>,
    /// Those of them with directories that their archives had no entries for.
    implied: Vec<usize>,
    /// What lies on top.
    parents: Option<String>,
}

impl LayerStore {
    /// Makes what is missing to stack these layers (lowest first, as images list them). It is made at
    /// the first start as well, which then takes longer.
    pub fn prepare(&self, layers: &[Digest]) -> Result<()> {
        self.lowers(layers).map(drop)
    }

    /// Removes what was made of layers for images that are no more: all that none of `images` (the diff ids of
    /// each, lowest first) needs. The caller knows that these are all that are stored, on their way in or used by
    /// a container. Nothing that is lost is lost for ever: it is made again when it is needed.
    pub fn sweep_derived<'a>(&self, images: impl IntoIterator<Item = &'a [Digest]>) -> Result<()> {
        let present: Vec<String> = base::fs::names(&self.layers)?
            .into_iter()
            .filter(|name| name.starts_with(MERGED) || name.starts_with(PARENTS))
            .collect();
        if present.is_empty() {
            return Ok(());
        }
        let mut needed = HashSet::new();
        for image in images {
            match self.names(image) {
                Ok(names) => {
                    needed.extend(names.merged.into_iter().map(|(name, _)| name));
                    needed.extend(names.parents);
                }
                Err(Error::Missing(_) | Error::TooDeep { .. }) => {}
                Err(e) => return Err(e),
            }
        }
        for name in present.iter().filter(|name| !needed.contains(*name)) {
            remove_tree(&self.layers.join(name), &self.removing)?;
        }
        Ok(())
    }

    /// The directories to stack, topmost first; what is missing of them is made.
    pub(crate) fn lowers(&self, layers: &[Digest]) -> Result<Vec<PathBuf>> {
        let names = self.names(layers)?;
        for (name, of) in &names.merged {
            let path = self.layers.join(name);
            if self.look(&path)?.is_none() {
                let paths: Vec<PathBuf> = of.iter().map(|layer| self.path(layer)).collect();
                self.make(name, |unfinished| Stack::open(&paths)?.merge(&unfinished.fd))?;
            }
        }
        let mut lowers: Vec<PathBuf> = names.lowers.iter().map(|name| self.layers.join(name)).collect();
        if let Some(name) = &names.parents {
            let path = self.layers.join(name);
            let mut found = self.look(&path)?;
            if found.is_none() {
                self.make(name, |unfinished| {
                    let empty = !Stack::open(&lowers)?.parents(&names.implied, &unfinished.fd)?;
                    let note = Layer { empty, ..Layer::default() };
                    note.write(&unfinished.fd).at("mark", &unfinished.path)
                })?;
                found = self.look(&path)?;
            }
            if !found.unwrap_or_default().empty {
                lowers.insert(0, path);
            }
        }
        Ok(lowers)
    }

    fn make(&self, name: &str, fill: impl FnOnce(&Unfinished) -> base::fs::Result<()>) -> Result<()> {
        let unfinished = Unfinished::create(&self.layers)?;
        let made = fill(&unfinished)
            .map_err(Error::from)
            .and_then(|()| self.publish(&unfinished, &self.layers.join(name)));
        if !matches!(made, Ok(true)) {
            remove_tree(&unfinished.path, &self.removing).ok();
        }
        made.map(drop)
    }

    fn names(&self, layers: &[Digest]) -> Result<Names> {
        let mut stack: Vec<(Digest, Layer)> = Vec::with_capacity(layers.len());
        let mut seen = HashSet::new();
        // The same layer once more, further down, shows nothing that it does not show above; and the kernel takes no
        // directory twice.
        for layer in layers.iter().rev().filter(|layer| seen.insert(**layer)) {
            let path = self.path(layer);
            let found = self.look(&path)?;
            let found = found.ok_or(Error::Missing(*layer))?;
            stack.push((*layer, found));
            if found.opaque {
                break;
            }
        }
        arrange(&stack)
    }
}

/// Decides what is stacked for these layers, topmost first.
fn arrange(stack: &[(Digest, Layer)]) -> Result<Names> {
    // One place is for the parents.
    let blocks = stack.len().saturating_sub(MAX_LOWERS - 1).div_ceil(BLOCK - 1);
    let Some(single) = stack.len().checked_sub(blocks * BLOCK) else {
        return Err(Error::TooDeep { layers: stack.len(), most: (MAX_LOWERS - 1) * BLOCK });
    };
    let mut names = Names::default();
    let (singles, deep) = stack.split_at(single);
    for (index, (digest, layer)) in singles.iter().enumerate() {
        names.lowers.push(digest.hex());
        if layer.implied {
            names.implied.push(index);
        }
    }
    for block in deep.chunks(BLOCK) {
        let of: Vec<Digest> = block.iter().map(|(digest, _)| *digest).collect();
        let name = format!("{MERGED}{}", digest_of(&of).hex());
        if block.iter().any(|(_, layer)| layer.implied) {
            names.implied.push(names.lowers.len());
        }
        names.lowers.push(name.clone());
        names.merged.push((name, of));
    }
    // The lowest has nothing below that it could look like.
    names.implied.retain(|&index| index + 1 < names.lowers.len());
    if !names.implied.is_empty() {
        let of: Vec<Digest> = stack.iter().map(|(digest, _)| *digest).collect();
        names.parents = Some(format!("{PARENTS}{}", digest_of(&of).hex()));
    }
    Ok(names)
}

fn digest_of(layers: &[Digest]) -> Digest {
    let text: Vec<String> = layers.iter().map(Digest::to_string).collect();
    Digest::of(text.join(" ").as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stack(layers: usize, implied: &[usize]) -> Vec<(Digest, Layer)> {
        let layer = |index| Layer { implied: implied.contains(&index), ..Layer::default() };
        // Topmost first: the lowest is 0.
        (0..layers).rev().map(|index| (Digest::of(&index.to_le_bytes()), layer(index))).collect()
    }

    #[test]
    fn few_layers_are_stacked_as_they_are() {
        for layers in [0, 1, 499] {
            let names = arrange(&stack(layers, &[])).unwrap();
            assert_eq!((names.lowers.len(), names.merged.len(), names.parents), (layers, 0, None));
        }
    }

    #[test]
    fn deeper_stacks_are_merged_from_below_until_they_fit() {
        for (layers, blocks) in [(500, 1), (626, 1), (627, 2), (10_000, 75), (63_872, 499)] {
            let names = arrange(&stack(layers, &[])).unwrap();
            assert_eq!(names.merged.len(), blocks, "{layers}");
            assert_eq!(names.lowers.len(), layers - blocks * (BLOCK - 1), "{layers}");
            assert!(names.lowers.len() < MAX_LOWERS);
            let merged: Vec<_> = names.merged.iter().map(|(name, _)| name.clone()).collect();
            assert_eq!(names.lowers[names.lowers.len() - blocks..], merged);
        }
        assert!(matches!(arrange(&stack(63_873, &[])), Err(Error::TooDeep { .. })));
        // Two images on one base share what is merged.
        let (one, two) = (arrange(&stack(560, &[])).unwrap(), arrange(&stack(600, &[])).unwrap());
        assert_eq!(one.merged, two.merged);
    }

    #[test]
    fn parents_are_made_where_there_is_something_below() {
        assert_eq!(arrange(&stack(3, &[0])).unwrap().parents, None);
        let names = arrange(&stack(3, &[0, 1])).unwrap();
        assert_eq!(names.implied, [1]);
        assert!(names.parents.unwrap().starts_with(PARENTS));
        let names = arrange(&stack(1000, &[200, 600])).unwrap();
        assert_eq!(names.implied.len(), 2);
    }
}
