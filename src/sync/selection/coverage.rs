//! Coverage: a record of the patterns of an entry that match a repository or tag at the source. After all repositories
//! of the entry have been listed, transship warns about each pattern without a match.

use std::collections::HashSet;

use super::listing::Listing;
use crate::config::{Entry, Warning};
use crate::plan::{RepositoryPattern, RepositorySelection, Selected, Shortfall};

/// Maximum number of warnings about patterns without a match, for repositories and for tags separately.
const MAX_NAMED_PATTERNS: usize = 20;

/// Repositories, tags and matching patterns that a run has found so far.
#[derive(Debug, Default)]
pub(crate) struct Coverage {
    repositories: usize,
    /// The number of all repositories of a tree, including repositories that the entry does not select.
    listed_repositories: usize,
    /// The indexes of the patterns under `repositories` that match a repository. The first indexes are for the patterns
    /// of `include`, and the next indexes are for the patterns of `exclude`.
    matched_repositories: HashSet<usize>,
    /// The number of selected tags and pinned digests, as in [`Selected::found`].
    found: usize,
    /// The number of all selected tags and pinned digests, including signatures and lists of referrers.
    selected: usize,
    /// The number of tags in the lists of all source repositories.
    listed: usize,
    /// The indexes of the patterns under `include` that match a tag.
    matched: HashSet<usize>,
    /// True if a listing failed. In this case, a pattern without a match can match a tag that the run did not list.
    is_partial: bool,
}

impl Coverage {
    /// Adds one selected repository. If the entry names its tags one by one, the run does not list the repository, and
    /// all patterns count as matched. If a named tag does not exist, the sync of the tag fails.
    pub(crate) fn add(&mut self, entry: &Entry, listing: &Listing, selected: &Selected) {
        self.repositories += 1;
        self.found += selected.found;
        self.selected += selected.tags.len() + selected.digests.len() + selected.pins.len();
        self.listed += listing.tags.len();
        for (index, pattern) in entry.selection.include.iter().enumerate() {
            let is_matched = || !listing.is_complete || listing.tags.keys().any(|tag| pattern.matches(tag));
            if !self.matched.contains(&index) && (pattern.digest().is_some() || is_matched()) {
                self.matched.insert(index);
            }
        }
    }

    /// Adds one repository of a tree, even if the entry does not select the repository. `name` is the part below the
    /// prefix: `app` for `team/app` in the tree `team/**`.
    pub(crate) fn add_repository(&mut self, entry: &Entry, name: &str) {
        self.listed_repositories += 1;
        for (index, (_, pattern)) in repository_patterns(entry).enumerate() {
            if !self.matched_repositories.contains(&index) && pattern.matches(name) {
                self.matched_repositories.insert(index);
            }
        }
    }

    /// Records that a listing failed.
    pub(crate) fn mark_partial(&mut self) {
        self.is_partial = true;
    }

    /// If all repositories of a tree together have fewer selected tags than `at_least` requires, returns the shortfall.
    /// For an entry with a single repository, [`Selected::enough`] checks the number of tags before the copy.
    pub(crate) fn shortfall(&self, entry: &Entry) -> Option<Shortfall> {
        let wanted = entry.selection.at_least.filter(|wanted| self.found < *wanted)?;
        let is_tree = entry.source.is_tree();
        (is_tree && !self.is_partial).then_some(Shortfall { found: self.found, wanted })
    }

    /// Returns the patterns under `repositories` that match no repository, each with its key (`include` or `exclude`).
    fn unmatched_repositories<'e>(
        &self,
        entry: &'e Entry,
    ) -> impl Iterator<Item = (&'static str, &'e RepositoryPattern)> {
        let is_unmatched = |index: &usize| !self.matched_repositories.contains(index);
        repository_patterns(entry).enumerate().filter(move |(index, _)| is_unmatched(index)).map(|(_, pattern)| pattern)
    }

    /// Returns the warnings about patterns without a match, and about a selection without any tag. If a listing failed,
    /// returns no warnings.
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
        if self.repositories == 0 && self.listed_repositories == 0 {
            let remedy = "check the prefix, and that the credentials may list the repositories";
            return vec![warning(format!("{source} has no repositories"), remedy)];
        }
        let mut warnings: Vec<Warning> = self
            .unmatched_repositories(entry)
            .map(|(key, pattern)| {
                let text =
                    format!("{:?} under `repositories.{key}` matches no repository of {source}", pattern.to_string());
                warning(text, "correct the pattern, or remove it")
            })
            .take(MAX_NAMED_PATTERNS)
            .collect();
        if self.repositories == 0 {
            let text = format!("no repository of {source} is selected; the source lists {}", self.listed_repositories);
            warnings.push(warning(text, "correct the patterns under `repositories`"));
            return warnings;
        }
        let include = entry.selection.include.iter().enumerate();
        let unmatched: Vec<_> =
            include.filter(|(index, _)| !self.matched.contains(index)).map(|(_, pattern)| pattern).collect();
        let named = unmatched.iter().take(MAX_NAMED_PATTERNS).map(|pattern| {
            let text = format!("{:?} under `include` matches no tag of {source}", pattern.to_string());
            warning(text, "correct the pattern, or remove it")
        });
        warnings.extend(named);
        if let Some(more) = unmatched.len().checked_sub(MAX_NAMED_PATTERNS).filter(|more| *more > 0) {
            warnings.push(warning(
                format!("{more} more patterns under `include` match no tag of {source}"),
                "correct the patterns, or remove them",
            ));
        }
        if self.selected == 0 && warnings.is_empty() {
            let text = format!("no tag of {source} is selected; the source lists {}", format_tag_count(self.listed));
            warnings.push(warning(
                text,
                &format!("`transship plan --explain {}` shows the reason for each tag", entry.name),
            ));
        }
        warnings
    }
}

/// Returns the patterns under `repositories`, each with its key (`include` or `exclude`).
fn repository_patterns(entry: &Entry) -> impl Iterator<Item = (&'static str, &RepositoryPattern)> {
    let RepositorySelection { include, exclude } = &entry.repositories;
    let include = include.iter().map(|pattern| ("include", pattern));
    include.chain(exclude.iter().map(|pattern| ("exclude", pattern)))
}

fn format_tag_count(count: usize) -> String {
    match count {
        1 => "1 tag".to_owned(),
        count => format!("{count} tags"),
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
        assert_eq!(shown(&partial, &tree), Vec::<String>::new(), "the missing tags are unknown");
    }

    #[test]
    fn tree_without_repositories_warns() {
        let tree = entry("s.example/team/**", "at_least: 1");
        let found = coverage(&tree, &[]);
        assert!(shown(&found, &tree)[0].starts_with("s.example/team/** has no repositories: check the prefix"));
        assert_eq!(found.shortfall(&tree), Some(Shortfall { found: 0, wanted: 1 }));
    }

    #[test]
    fn repository_pattern_without_a_match_warns() {
        let mut tree = entry("s.example/**", "at_least: 1");
        let patterns = |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect();
        tree.repositories = RepositorySelection { include: patterns(&["team/*", "gone"]), exclude: patterns(&["x"]) };
        let mut found = coverage(&tree, &[&["v1"]]);
        ["team/app", "other"].iter().for_each(|name| found.add_repository(&tree, name));
        assert_eq!(
            shown(&found, &tree),
            [
                "\"gone\" under `repositories.include` matches no repository of s.example/**: correct the pattern, or \
                 remove it",
                "\"x\" under `repositories.exclude` matches no repository of s.example/**: correct the pattern, or \
                 remove it",
            ]
        );
        tree.repositories = RepositorySelection { include: patterns(&["none"]), exclude: Vec::new() };
        let mut none = coverage(&tree, &[]);
        none.add_repository(&tree, "other");
        let warnings = shown(&none, &tree);
        assert!(
            warnings[1].starts_with("no repository of s.example/** is selected; the source lists 1"),
            "{warnings:?}"
        );
        assert_eq!(none.shortfall(&tree), Some(Shortfall { found: 0, wanted: 1 }));
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
        let expected = "no tag of s.example/a is selected; the source lists 2 tags: \
                        `transship plan --explain a` shows the reason for each tag";
        assert_eq!(shown(&coverage(&range, &[&["v1", "v2"]]), &range), [expected]);
        let gone = entry("s.example/a", "include: [\"w*\"]");
        assert_eq!(shown(&coverage(&gone, &[&["v1"]]), &gone).len(), 1);
    }
}
