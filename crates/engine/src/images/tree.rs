//! `image tree`: which images stand on the same layers.
//!
//! The images' chains of layers, lowest first, form a tree: where two chains part, a node ends. A node is a run of
//! layers that the same images have.

use base::Digest;
use serde::Serialize;

use crate::Engine;
use crate::error::Result;
use crate::images::list::familiar;

/// A run of layers, and what stands on it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct TreeNode {
    /// The layers, lowest first.
    pub layers: Vec<TreeLayer>,
    /// Bytes that they take on disk, unpacked and as blobs.
    pub size: u64,
    /// The images that end here: nothing comes on top of these layers in them.
    pub images: Vec<String>,
    /// How many images stand on these layers, those that end here included.
    pub shared_by: u64,
    /// What images have on top.
    pub children: Vec<TreeNode>,
}

/// One layer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct TreeLayer {
    /// The digest of its uncompressed archive.
    pub diff_id: Digest,
    /// Bytes of the blob and of the unpacked tree.
    pub size: u64,
}

/// An image's names, and its layers.
type Chain = (Vec<String>, Vec<TreeLayer>);

impl Engine {
    /// The tree of all images; of one, if that is named: with those that share layers with it.
    pub fn image_tree(&self, name: Option<&str>) -> Result<Vec<TreeNode>> {
        let store = self.image_store()?;
        let wanted = name.map(|name| store.find(name)).transpose()?;
        let mut chains: Vec<(Digest, Chain)> = Vec::new();
        for record in store.list()? {
            let name = familiar(&record);
            if let Some((_, (names, _))) = chains.iter_mut().find(|(id, _)| *id == record.id) {
                names.extend(name);
                continue;
            }
            if let Some(wanted) = &wanted
                && wanted.layers.first().map(|l| l.diff_id) != record.layers.first().map(|l| l.diff_id)
            {
                continue;
            }
            let layer = |layer: &image::Layer| TreeLayer {
                diff_id: layer.diff_id,
                size: layer.size + self.layer_size(&layer.diff_id),
            };
            let layers = record.layers.iter().map(layer).collect();
            chains.push((record.id, (name.into_iter().collect(), layers)));
        }
        let named = chains.into_iter().map(|(id, (names, layers))| {
            (if names.is_empty() { vec![format!("<none> {}", id.short())] } else { names }, layers)
        });
        Ok(grow(named.collect(), 0))
    }
}

/// The nodes of these chains, of which all have the same layers below `depth`.
fn grow(mut chains: Vec<Chain>, depth: usize) -> Vec<TreeNode> {
    let mut nodes = Vec::new();
    while let Some(first) = chains.first() {
        let start = first.1.get(depth).map(|layer| layer.diff_id);
        let (group, others): (Vec<Chain>, Vec<Chain>) =
            chains.into_iter().partition(|(_, layers)| layers.get(depth).map(|l| l.diff_id) == start);
        chains = others;
        nodes.push(node(group, depth));
    }
    // What most stand on comes first.
    nodes.sort_by(|a, b| (b.shared_by, &a.images).cmp(&(a.shared_by, &b.images)));
    nodes
}

fn node(group: Vec<Chain>, depth: usize) -> TreeNode {
    let shared_by = group.len() as u64;
    let run: Vec<TreeLayer> = {
        let longest = &group[0].1[depth..];
        let same = |at: usize, layer: &TreeLayer| {
            group.iter().all(|(_, l)| l.get(depth + at).is_some_and(|l| l.diff_id == layer.diff_id))
        };
        longest
            .iter()
            .enumerate()
            .take_while(|(at, layer)| same(*at, layer))
            .map(|(_, l)| l.clone())
            .collect()
    };
    let end = depth + run.len();
    let (ending, going): (Vec<Chain>, Vec<Chain>) = group.into_iter().partition(|(_, l)| l.len() == end);
    let mut images: Vec<String> = ending.into_iter().flat_map(|(names, _)| names).collect();
    images.sort_unstable();
    let size = run.iter().map(|layer| layer.size).sum();
    let children = if going.is_empty() { Vec::new() } else { grow(going, end) };
    TreeNode { layers: run, size, images, shared_by, children }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chain(name: &str, layers: &str) -> Chain {
        let layer = |c: char| TreeLayer { diff_id: Digest::of(c.to_string().as_bytes()), size: 1 };
        (vec![name.to_owned()], layers.chars().map(layer).collect())
    }

    /// `base(2)[child …]`: names that end there, how many layers, children.
    fn shown(nodes: &[TreeNode]) -> String {
        let one = |n: &TreeNode| {
            format!("{}:{}x{}({})", n.images.join("+"), n.layers.len(), n.shared_by, shown(&n.children))
        };
        nodes.iter().map(one).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn chains_part_where_their_layers_do() {
        let chains = [
            chain("base", "ab"),
            chain("app", "abcd"),
            chain("app2", "abce"),
            chain("base2", "ab"),
            chain("other", "xyz"),
            chain("empty", ""),
        ];
        assert_eq!(
            shown(&grow(chains.to_vec(), 0)),
            "base+base2:2x4(:1x2(app:1x1() app2:1x1())) empty:0x1() other:3x1()"
        );
        assert!(grow(Vec::new(), 0).is_empty());
    }
}
