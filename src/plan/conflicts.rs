//! Tag conflicts. A tag of a target is in conflict if several entries would write the tag from different sources. In a
//! conflict, no entry may write the tag.

use std::collections::{BTreeMap, BTreeSet};

use crate::oci::Tag;

/// Tags that one entry is about to write at one target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    /// The entry's name.
    pub entry: String,
    /// The source of the tags, as text. The text is an endpoint, an endpoint with a tag (`registry/app:v1`), or an
    /// endpoint with a pinned digest (`registry/app@sha256:…`).
    pub source: String,
    /// The target endpoint of the tags, as text.
    pub target: String,
    /// The tags that the entry would write at the target.
    pub tags: Vec<Tag>,
}

/// Returns the conflicting tags, each with its target and the sorted names of the entries that claim the tag. Entries
/// that write a tag from the same source do not conflict.
#[must_use]
pub fn find_conflicts(claims: &[Claim]) -> BTreeMap<(String, Tag), Vec<String>> {
    let mut by_tag: BTreeMap<(&str, &Tag), Claimants<'_>> = BTreeMap::new();
    for claim in claims {
        for tag in &claim.tags {
            let claimants = by_tag.entry((&claim.target, tag)).or_default();
            claimants.entries.insert(&claim.entry);
            claimants.sources.insert(&claim.source);
        }
    }
    by_tag
        .into_iter()
        .filter(|(_, claimants)| claimants.sources.len() > 1)
        .map(|((target, tag), claimants)| {
            ((target.to_owned(), tag.clone()), claimants.entries.into_iter().map(str::to_owned).collect())
        })
        .collect()
}

#[derive(Default)]
struct Claimants<'a> {
    entries: BTreeSet<&'a str>,
    sources: BTreeSet<&'a str>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claim(entry: &str, source: &str, target: &str, tags: &[&str]) -> Claim {
        let tags = tags.iter().map(|tag| tag.parse().unwrap()).collect();
        Claim { entry: entry.into(), source: source.into(), target: target.into(), tags }
    }

    #[test]
    fn tag_claimed_from_two_sources_is_in_conflict() {
        let claims = [
            claim("b", "s1", "t", &["v1", "v2"]),
            claim("a", "s2", "t", &["v2", "v3"]),
            claim("c", "s1", "t", &["v1"]),
            claim("d", "s2", "elsewhere", &["v1"]),
        ];
        let found = find_conflicts(&claims);
        let expected =
            BTreeMap::from([(("t".to_owned(), "v2".parse().unwrap()), vec!["a".to_owned(), "b".to_owned()])]);
        assert_eq!(found, expected);
    }
}
