//! Lists: repositories, tags, referrers.

use base::Digest;
use base::fs;
use oci::image::media_type;
use serde_json::json;

use super::document::Described;
use super::error::Result;
use super::name::{Repository, Tag};
use super::{Registry, tree};

/// A part of a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// In order.
    pub items: Vec<String>,
    /// Whether there are more behind the last one.
    pub more: bool,
}

/// The `most` items behind `last`.
fn page(mut all: Vec<String>, most: usize, last: Option<&str>) -> Page {
    all.sort_unstable();
    all.dedup();
    let begin = last.map_or(0, |last| all.partition_point(|item| item.as_str() <= last));
    let mut items = all.split_off(begin);
    let more = items.len() > most;
    items.truncate(most);
    Page { items, more }
}

impl Registry {
    /// The repositories, at most so many, behind one.
    pub fn repositories(&self, most: usize, last: Option<&str>) -> Result<Page> {
        let mut all = self.tree.list()?;
        if let Some(local) = &self.local {
            // One whose images have all gone is none any more.
            let mut alive = Vec::new();
            for repository in all {
                if !self.own_tags(&repository)?.is_empty() || !self.is_empty(&repository)? {
                    alive.push(repository);
                }
            }
            all = alive;
            all.extend(local.repositories()?);
        }
        Ok(page(all.iter().map(ToString::to_string).collect(), most, last))
    }

    /// The tags of a repository, at most so many, behind one.
    pub fn tags(&self, repository: &Repository, most: usize, last: Option<&str>) -> Result<Page> {
        if let Some(tags) = self.tags_upstream(repository)? {
            return Ok(page(tags, most, last));
        }
        let mut all: Vec<String> = Vec::new();
        for tag in self.own_tags(repository)? {
            // One that follows a local image is in that one's list, or nowhere.
            if self.local.is_none() || self.tagged(repository, &tag)?.is_some_and(|tagged| !tagged.local) {
                all.push(tag.to_string());
            }
        }
        if let Some(local) = &self.local {
            all.extend(local.tags(repository)?.iter().map(ToString::to_string));
        }
        if all.is_empty() && !self.tree.has_repository(repository) {
            return Err(super::Error::Repository(repository.clone()));
        }
        Ok(page(all, most, last))
    }

    pub(super) fn own_tags(&self, repository: &Repository) -> Result<Vec<Tag>> {
        let names = fs::names(&self.tree.repository(repository).join("tags"))?;
        Ok(names.iter().filter_map(|name| name.parse().ok()).collect())
    }

    fn is_empty(&self, repository: &Repository) -> Result<bool> {
        let dir = self.tree.repository(repository);
        Ok(fs::names(&dir.join("manifests"))?.is_empty() && fs::names(&dir.join("blobs/sha256"))?.is_empty())
    }

    pub(super) fn exists(&self, repository: &Repository) -> bool {
        self.tree.has_repository(repository)
            || self
                .local
                .as_ref()
                .is_some_and(|local| local.tags(repository).is_ok_and(|tags| !tags.is_empty()))
    }

    /// The manifests that refer to a subject, those of one type if one is given, as an index. One that nobody refers
    /// to has an empty list, whether it exists or not.
    pub fn referrers(
        &self,
        repository: &Repository,
        subject: &Digest,
        artifact_type: Option<&str>,
    ) -> Result<Vec<u8>> {
        let dir = self.tree.referrers(repository, subject);
        let mut manifests: Vec<Described> = Vec::new();
        for digest in tree::Tree::digests(&dir)? {
            manifests.extend(tree::read::<Described>(&dir.join(digest.hex()))?);
        }
        if let Some(wanted) = artifact_type {
            manifests.retain(|described| described.artifact_type.as_deref() == Some(wanted));
        }
        let index = json!({ "schemaVersion": 2, "mediaType": media_type::INDEX, "manifests": manifests });
        Ok(index.to_string().into_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_begins_behind_the_last_whether_that_exists_or_not() {
        let all = || ["b", "d", "a", "c", "a"].map(str::to_owned).to_vec();
        let items = |most, last| {
            let page = page(all(), most, last);
            (page.items.join(""), page.more)
        };
        assert_eq!(items(10, None), ("abcd".to_owned(), false));
        assert_eq!(items(2, None), ("ab".to_owned(), true));
        assert_eq!(items(2, Some("b")), ("cd".to_owned(), false));
        assert_eq!(items(1, Some("bb")), ("c".to_owned(), true));
        assert_eq!(items(0, None), (String::new(), true));
        assert_eq!(items(5, Some("z")), (String::new(), false));
    }
}
