//! Part of an entry's selection that exists at its source: repositories, tags, and a match for each pattern of
//! `include`. Only a whole run shows it, since a pattern may match in one repository of many.

use std::collections::HashSet;

use super::listing::Listing;
use crate::config::{Endpoint, Entry, Warning};
use crate::plan::{Selected, Shortfall};

/// Maximum number of patterns without a match that warnings name.
const PATTERNS_NAMED: usize = 20;

/// Counts of the repositories and tags found so far.
#[derive(Debug, Default)]
pub(crate) struct Coverage {
    repositories: usize,
    /// The number of selected tags and pinned digests, without signatures.
    found: usize,
    /// The number of selected tags and pinned digests, with signatures.
    selected: usize,
    /// The number of tags that the sources list.
    listed: usize,
    /// The positions in `include` of patterns that matched a tag.
    matched: HashSet<usize>,
    /// True if a listing failed, so that missing tags cannot be determined.
    is_partial: bool,
}

impl Coverage {
    /// Adds one repository. Tags that the entry names one by one are not listed: if such a tag does not exist, it fails
    /// on its own.
    pub(crate) fn add(&mut self, entry: &Entry, listing: &Listing, selected: &Selected) {
        self.repositories += 1;
        self.found += selected.found;
        self.selected += selected.tags.len() + selected.digests.len() + selected.pins.len();
        self.listed += listing.tags.len();
        for (at, pattern) in entry.selection.include.iter().enumerate() {
            let is_met = || !listing.is_complete || listing.tags.keys().any(|tag| pattern.matches(tag));
            if !self.matched.contains(&at) && (pattern.digest().is_some() || is_met()) {
                self.matched.insert(at);
            }
        }
    }

    /// Records that a listing failed.
    pub(crate) fn mark_partial(&mut self) {
        self.is_partial = true;
    }

    /// Returns the shortfall if all repositories of a tree together have too few tags. A single repository is judged
    /// before it is copied.
    pub(crate) fn shortfall(&self, entry: &Entry) -> Option<Shortfall> {
        let wanted = entry.selection.at_least.filter(|wanted| self.found < *wanted)?;
        let is_tree = matches!(entry.source, Endpoint::Tree { .. });
        (is_tree && !self.is_partial).then_some(Shortfall { found: self.found, wanted })
    }

    /// Returns the warnings about selected items that do not exist. Returns none if a listing failed.
    pub(crate) fn warnings(&self, entry: &Entry) -> Vec<Warning> {
        if self.is_partial {
            return Vec::new();
        }
        let warning = |text: String, remedy: &str| Warning {
            entry: Some(entry.name.to_string()),
            text,
            remedy: Some(remedy.to_owned()),
        };
        let source = &entry.source;
        if self.repositories == 0 {
            let remedy = "look at the prefix, and at what the credentials may list there";
            return vec![warning(format!("{source} has no repositories"), remedy)];
        }
        let include = entry.selection.include.iter().enumerate();
        let unmatched: Vec<_> = include.filter(|(at, _)| !self.matched.contains(at)).map(|(_, one)| one).collect();
        let named = unmatched.iter().take(PATTERNS_NAMED).map(|pattern| {
            let text = format!("{:?} under `include` matches no tag of {source}", pattern.to_string());
            warning(text, "correct the pattern, or remove it")
        });
        let mut warnings: Vec<Warning> = named.collect();
        if let Some(more) = unmatched.len().checked_sub(PATTERNS_NAMED).filter(|more| *more > 0) {
            warnings.push(warning(
                format!("{more} more patterns under `include` match no tag of {source}"),
                "correct them",
            ));
        }
        if self.selected == 0 && warnings.is_empty() {
            let text = format!("no tag of {source} is selected; {} listed there", listed_count(self.listed));
            warnings.push(warning(text, &format!("`transship plan --explain {}` says of each tag why", entry.name)));
        }
        warnings
    }
}

fn listed_count(count: usize) -> String {
    match count {
        0 => "none is".to_owned(),
        1 => "1 is".to_owned(),
        more => format!("{more} are"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(source: &str, tags: &str) -> Entry {
        let target = if source.ends_with("**") { "\"t.example/**\"" } else { "t.example/a" };
        let text = format!("version: 1\nsync: [{{name: a, source: {source:?}, target: {target}, tags: {{{tags}}}}}]\n");
        crate::config::parse("sync.yaml", &text, &|_| Some("/tmp".into())).unwrap().entries.remove(0)
    }

    fn coverage(entry: &Entry, repositories: &[&[&str]]) -> Coverage {
        let mut coverage = Coverage::default();
        for tags in repositories {
            let tags = tags.iter().map(|tag| (tag.parse().unwrap(), None)).collect();
            let listing = Listing { tags, is_complete: true, ..Listing::default() };
            let selected = entry.selection.select(listing.tags.keys().cloned().collect());
            coverage.add(entry, &listing, &selected);
        }
        coverage
    }

    fn shown(coverage: &Coverage, entry: &Entry) -> Vec<String> {
        coverage.warnings(entry).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn pattern_without_a_match_in_any_repository_warns() {
        let tree = entry("s.example/**", "include: [\"v*\", gone, \"re:x.*\"]");
        let found = coverage(&tree, &[&["v1"], &["x1"]]);
        assert_eq!(
            shown(&found, &tree),
            ["\"gone\" under `include` matches no tag of s.example/**: correct the pattern, or remove it"]
        );
        let mut partial = coverage(&tree, &[&["v1"]]);
        partial.mark_partial();
        assert_eq!(shown(&partial, &tree), Vec::<String>::new(), "nobody can tell");
    }

    #[test]
    fn tree_without_repositories_warns() {
        let tree = entry("s.example/team/**", "at_least: 1");
        let found = coverage(&tree, &[]);
        assert!(shown(&found, &tree)[0].starts_with("s.example/team/** has no repositories: look at"));
        assert_eq!(found.shortfall(&tree), Some(Shortfall { found: 0, wanted: 1 }));
    }

    #[test]
    fn at_least_counts_all_repositories_together() {
        let tree = entry("s.example/**", "at_least: 2");
        assert_eq!(coverage(&tree, &[&["v1"], &["v1"]]).shortfall(&tree), None);
        assert_eq!(coverage(&tree, &[&["v1"], &[]]).shortfall(&tree), Some(Shortfall { found: 1, wanted: 2 }));
    }

    #[test]
    fn selection_without_a_tag_warns_once() {
        let range = entry("s.example/a", "semver: \">=9\"");
        let expected =
            "no tag of s.example/a is selected; 2 are listed there: `transship plan --explain a` says of each tag why";
        assert_eq!(shown(&coverage(&range, &[&["v1", "v2"]]), &range), [expected]);
        let gone = entry("s.example/a", "include: [\"w*\"]");
        assert_eq!(shown(&coverage(&gone, &[&["v1"]]), &gone).len(), 1);
    }
}
