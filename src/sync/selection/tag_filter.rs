//! Filter that restricts a run to tags that were just pushed, at most 100 tags. The run syncs only the pushed tags that
//! the entry selects.

use std::collections::{BTreeMap, BTreeSet};

use futures_util::future::join_all;

use super::listing::{Listing, list_tags, tag_names};
use super::pairs::{Pair, pair_in_tree};
use crate::config::{Endpoint, Entry};
use crate::oci::{ManifestRef, Repository, RepositoryName, Tag};
use crate::plan::{Selected, Selection};
use crate::store::{Source, StoreError};
use crate::sync::OpenError;

/// Maximum number of tags in a filter. For more pushed tags, the run has no filter, because a list of all tags needs
/// fewer requests than one request for each pushed tag.
const MAX_TAGS: usize = 100;

/// Pushed tags of each source repository. Never empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TagFilter(BTreeMap<RepositoryName, BTreeSet<Tag>>);

impl TagFilter {
    /// Creates a filter for one tag of a source repository.
    #[must_use]
    pub fn from_tag(repository: RepositoryName, tag: Tag) -> Self {
        Self(BTreeMap::from([(repository, BTreeSet::from([tag]))]))
    }

    /// Returns the union of the filters of two runs. Returns `None`, which means no filter, if one of the runs has no
    /// filter, or if the union has more than 100 tags.
    #[must_use]
    pub fn union(first: Option<Self>, second: Option<Self>) -> Option<Self> {
        let (Self(mut all), Self(more)) = (first?, second?);
        for (repository, tags) in more {
            all.entry(repository).or_default().extend(tags);
        }
        let count: usize = all.values().map(BTreeSet::len).sum();
        (count <= MAX_TAGS).then_some(Self(all))
    }

    /// Returns the pairs of an entry whose source has a pushed tag. Requests no catalog, because the push proves that
    /// the repository exists.
    pub(crate) fn pairs(&self, entry: &Entry) -> Vec<Result<Pair, OpenError>> {
        match &entry.source {
            Endpoint::Repository(repository) if self.0.contains_key(&repository.name) => {
                vec![Ok(Pair { source: entry.source.clone(), targets: entry.targets.clone() })]
            }
            Endpoint::Tree { host, .. } => {
                let source = |name: &RepositoryName| Repository { host: host.clone(), name: name.clone() };
                self.0.keys().filter_map(|name| pair_in_tree(entry, Endpoint::Repository(source(name)))).collect()
            }
            Endpoint::Repository(_) | Endpoint::Layout(_) | Endpoint::LayoutTree(_) | Endpoint::Archive(_) => {
                Vec::new()
            }
        }
    }

    /// Returns the pushed tags of one source that exist at the source and that `selection` selects. If the selection
    /// has `newest`, lists all tags of the source. Otherwise requests each selected tag once. Ignores `at_least`,
    /// because the pushed tags are not all tags of the source.
    pub(crate) async fn select(
        &self,
        source: &dyn Source,
        endpoint: &Endpoint,
        selection: &Selection,
    ) -> Result<(Listing, Selected), StoreError> {
        let Endpoint::Repository(repository) = endpoint else { return Ok(Default::default()) };
        let Some(pushed) = self.0.get(&repository.name) else { return Ok(Default::default()) };
        let (listing, mut selected) = if selection.newest.is_some() {
            let listing = list_tags(source, selection).await?;
            let selected = selection.select(tag_names(&listing));
            (listing, selected)
        } else {
            let mut selected = selection.select(pushed.iter().cloned().collect());
            let listing = query_tags(source, &selected.tags).await;
            selected.tags.retain(|tag| listing.tags.contains_key(tag));
            (listing, selected)
        };
        for verdict in selected.verdicts.iter().filter(|verdict| !verdict.chosen && pushed.contains(&verdict.tag)) {
            let source = source.place();
            tracing::debug!(source, tag = %verdict.tag, why = %verdict.why, "skipped a pushed tag: not selected");
        }
        selected.tags.retain(|tag| pushed.contains(tag));
        selected.digests.clear();
        selected.pins.clear();
        Ok((listing, selected))
    }
}

/// Queries the source for these tags. Skips a tag that no longer exists. If the query for a tag fails, the listing
/// contains the tag without a digest, and the sync of the tag reports the error.
async fn query_tags(source: &dyn Source, tags: &[Tag]) -> Listing {
    let query = async |tag: &Tag| match source.resolve(&ManifestRef::Tag(tag.clone())).await {
        Ok(Some(found)) => Some((tag.clone(), Some(found.digest))),
        Ok(None) => {
            tracing::info!(source = source.place(), %tag, "skipped a pushed tag: it no longer exists");
            None
        }
        Err(_) => Some((tag.clone(), None)),
    };
    let found = join_all(tags.iter().map(query)).await;
    Listing { tags: found.into_iter().flatten().collect(), ..Listing::default() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn only(repository: &str, tags: impl IntoIterator<Item = String>) -> Option<TagFilter> {
        let filter = |tag: String| Some(TagFilter::from_tag(repository.parse().unwrap(), tag.parse().unwrap()));
        tags.into_iter().map(filter).reduce(TagFilter::union).unwrap()
    }

    fn tags(count: usize) -> impl Iterator<Item = String> {
        (0..count).map(|number| format!("v{number}"))
    }

    #[test]
    fn more_than_a_hundred_tags_mean_the_whole_entry() {
        let hundred = only("app", tags(100)).unwrap();
        assert_eq!(
            TagFilter::union(Some(hundred.clone()), only("app", tags(1))),
            Some(hundred.clone()),
            "the filter already has this tag"
        );
        assert_eq!(TagFilter::union(Some(hundred.clone()), only("other", tags(1))), None);
        assert_eq!(TagFilter::union(Some(hundred.clone()), None), None);
        assert_eq!(TagFilter::union(None, Some(hundred)), None);
    }

    fn entry(source: &str, target: &str) -> Entry {
        let text = format!("version: 1\nsync: [{{name: a, source: {source}, target: {target}}}]\n");
        crate::config::parse("sync.yaml", &text, &|_| Some("/tmp".into())).unwrap().entries.remove(0)
    }

    fn pairs(entry: &Entry, pushed: &TagFilter) -> Vec<String> {
        let shown = |pair: Result<Pair, OpenError>| {
            let pair = pair.unwrap();
            format!("{} -> {}", pair.source, pair.targets[0])
        };
        pushed.pairs(entry).into_iter().map(shown).collect()
    }

    #[test]
    fn tree_runs_only_the_repositories_with_pushes() {
        let pushed = TagFilter::union(only("team/a/b", tags(1)), only("teams/a", tags(1))).unwrap();
        let tree = entry("\"one.example/team/**\"", "\"two.example/mirror/**\"");
        assert_eq!(pairs(&tree, &pushed), ["one.example/team/a/b -> two.example/mirror/a/b"]);
        let all = entry("\"one.example/**\"", "\"two.example/**\"");
        assert_eq!(pairs(&all, &pushed).len(), 2);
        assert_eq!(pairs(&entry("one.example/team/a/b", "two.example/b"), &pushed).len(), 1);
        assert_eq!(pairs(&entry("one.example/team/a", "two.example/b"), &pushed).len(), 0);
        assert_eq!(pairs(&entry("oci-layout:./team", "two.example/b"), &pushed).len(), 0);
    }
}
