//! Tag selection: the tags of a repository that an entry copies, each with the reason.

use std::borrow::Cow;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, HashSet};

use semver::Version;

use super::version::version_of;
use super::{Pattern, VersionRange};
use crate::oci::{Digest, SignatureTag, Tag};

/// Selection of tags. The default selects every tag.
///
/// A tag is selected if it meets all of these conditions:
/// - an `include` matches the tag, or there is no `include`;
/// - no `exclude` matches the tag;
/// - `semver` contains the version of the tag, or there is no `semver`;
/// - the tag is among the `newest` of the remaining tags, or there is no `newest`.
///
/// If no `exclude` matches a pinned tag (`2.4.1@sha256:…`), the tag is selected with the pinned digest. A pinned tag
/// ignores `semver`, `newest` and the digest of the tag at the source.
///
/// Tags of two forms may contain data about another manifest, their subject:
/// - `sha256-<hex>`: registries without the referrers API store the list of referrers of the subject under this tag;
/// - `sha256-<hex>.sig` and similar tags of cosign.
///
/// Rules for tags of these forms:
/// - Without `semver` and `newest`, such a tag is selected like any other tag. For the first form, the run later reads
///   the content to determine whether the tag is a list of referrers.
/// - With `semver` or `newest`, such a tag is not selected. Instead, the copy of the subject includes the list or
///   signature.
/// - Such a tag never counts for `at_least`.
///
/// ```
/// use transship::oci::{NameError, Tag};
/// use transship::plan::Selection;
///
/// let selection = Selection {
///     exclude: vec!["*-rc*".parse()?],
///     semver: Some(">=1.2".parse()?),
///     newest: Some(2),
///     ..Selection::default()
/// };
/// let listed = ["1.1.0", "1.2.0", "1.3.0", "1.4.0-rc1", "1.10.0", "latest"];
/// let tags: Vec<Tag> = listed.iter().map(|name| name.parse()).collect::<Result<_, NameError>>()?;
/// let selected = selection.select(tags);
/// assert_eq!(selected.tags, ["1.10.0".parse::<Tag>()?, "1.3.0".parse()?], "by version, not by name");
/// let [_, older, ..] = &selected.verdicts[..] else { unreachable!("one verdict for each tag") };
/// assert!(!older.chosen, "{}: {}", older.tag, older.why);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Selection {
    /// Patterns of included tags. If the list is empty, every tag is included.
    pub include: Vec<Pattern>,
    /// Patterns of excluded tags.
    pub exclude: Vec<Pattern>,
    /// The range that must contain the version of a tag. A tag without a version is not selected.
    pub semver: Option<VersionRange>,
    /// Maximum number of tags to select, the newest first:
    /// - tags with a version by descending version;
    /// - then tags without a version by descending name.
    pub newest: Option<usize>,
    /// Minimum number of selected tags and pinned digests. If the selection finds fewer tags and digests, its result
    /// has a [`Shortfall`].
    pub at_least: Option<usize>,
}

/// Result of a [`Selection`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Selected {
    /// The selected tags, the newest first. [`Selection::newest`] defines the order.
    pub tags: Vec<Tag>,
    /// The pinned digests without a tag.
    pub digests: Vec<Digest>,
    /// The pinned tags, each with its digest. `tags` contains no pinned tag.
    pub pins: BTreeMap<Tag, Digest>,
    /// The number of selected tags and pinned digests. Tags with the form of a signature or of a list of referrers do
    /// not count.
    pub found: usize,
    /// The verdicts: one for each listed tag and each pinned tag.
    pub verdicts: Vec<Verdict>,
    /// The shortfall, if fewer tags are selected than `at_least` requires.
    pub shortfall: Option<Shortfall>,
}

/// Decision about a tag, with its reason.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Verdict {
    /// The tag.
    pub tag: Tag,
    /// True if the tag is selected.
    #[serde(rename = "selected")]
    pub chosen: bool,
    /// The reason, as printed after "in:" or "out:".
    #[serde(rename = "reason")]
    pub why: Cow<'static, str>,
}

/// Error of a selection with fewer tags than `at_least` requires.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("too few tags are selected: {found}, but `at_least` requires {wanted}")]
pub struct Shortfall {
    /// The number of selected tags and pinned digests, as in [`Selected::found`].
    pub found: usize,
    /// The number that `at_least` requires.
    pub wanted: usize,
}

/// Reason of a verdict. Most reasons are static texts, because a list may have a million tags.
type Reason = Cow<'static, str>;

impl Selected {
    /// Returns this result if the selection has enough tags.
    ///
    /// # Errors
    /// [`Shortfall`] if fewer tags are selected than `at_least` requires.
    pub fn enough(self) -> Result<Self, Shortfall> {
        self.shortfall.map_or(Ok(self), Err)
    }
}

impl Selection {
    /// Applies this selection to `tags`. Duplicates in `tags` count once.
    #[must_use]
    pub fn select(&self, tags: Vec<Tag>) -> Selected {
        let pins = self.pins();
        // A strictly sorted list has no duplicates.
        let is_unique = tags.is_sorted_by(|tag, next| tag < next);
        let mut seen = HashSet::new();
        let mut judged: Vec<(Tag, Result<Reason, Reason>)> = tags
            .into_iter()
            .filter(|tag| !pins.contains_key(tag) && (is_unique || seen.insert(tag.clone())))
            .map(|tag| {
                let judgement = self.judge(&tag);
                (tag, judgement)
            })
            .collect();
        if let Some(newest) = self.newest {
            keep_newest(&mut judged, newest);
        }
        let digests = self.pinned();
        let mut newest_first: Vec<Tag> = chosen(&judged).cloned().collect();
        newest_first.sort_by_cached_key(newest_first_key);
        let counted = |tag: &Tag| SignatureTag::read(tag).is_none();
        let found = newest_first.iter().filter(|tag| counted(tag)).count() + digests.len() + pins.len();
        let pinned = pins.iter().map(|(tag, digest)| (tag.clone(), Ok(format!("pinned to {digest}").into())));
        judged.extend(pinned);
        Selected {
            tags: newest_first,
            digests,
            pins,
            found,
            shortfall: self.at_least.filter(|wanted| found < *wanted).map(|wanted| Shortfall { found, wanted }),
            verdicts: judged.into_iter().map(Verdict::from).collect(),
        }
    }

    /// Returns the literal tags of `include` if the selection needs no tag list of the source, otherwise `None`. The
    /// result may contain tags that an `exclude` matches. The selection needs no list if it meets both conditions:
    /// - `include` is not empty, and each of its patterns is a literal tag or has a digest;
    /// - `semver` and `newest` are not set.
    #[must_use]
    pub fn literals(&self) -> Option<Vec<&Tag>> {
        if self.include.is_empty() || self.semver.is_some() || self.newest.is_some() {
            return None;
        }
        let named = self.include.iter().all(|pattern| pattern.literal().is_some() || pattern.digest().is_some());
        named.then(|| self.include.iter().filter_map(Pattern::literal).collect())
    }

    /// Returns the pinned tags that no `exclude` matches, each with its digest.
    #[must_use]
    pub fn pins(&self) -> BTreeMap<Tag, Digest> {
        let pins = self.include.iter().filter_map(Pattern::pin);
        let wanted = pins.filter(|(tag, _)| !self.exclude.iter().any(|pattern| pattern.matches(tag)));
        wanted.map(|(tag, digest)| (tag.clone(), digest)).collect()
    }

    /// Returns true if all keys except `newest` select a tag. Ignores `newest`, because `newest` depends on all tags of
    /// the source. Returns false for a pinned tag.
    #[must_use]
    pub fn takes(&self, tag: &Tag) -> bool {
        !self.include.iter().filter_map(Pattern::pin).any(|(pinned, _)| pinned == tag) && self.judge(tag).is_ok()
    }

    /// Returns true if every tag is selected.
    #[must_use]
    pub fn takes_every_tag(&self) -> bool {
        self.include.is_empty() && self.exclude.is_empty() && self.semver.is_none() && self.newest.is_none()
    }

    /// Returns the pinned digests without a tag. Omits excluded digests and duplicates.
    fn pinned(&self) -> Vec<Digest> {
        let unwanted: BTreeSet<Digest> = self.exclude.iter().filter_map(Pattern::digest).collect();
        let mut seen = unwanted;
        let untagged = self.include.iter().filter(|pattern| pattern.pin().is_none());
        untagged.filter_map(Pattern::digest).filter(|digest| seen.insert(*digest)).collect()
    }

    /// Applies all keys except `newest`. `Ok` is the reason to select the tag, and `Err` is the reason to skip the tag.
    fn judge(&self, tag: &Tag) -> Result<Reason, Reason> {
        match SignatureTag::read(tag) {
            Some(SignatureTag::Referrers(subject)) if self.semver.is_some() || self.newest.is_some() => {
                return Err(format!(
                    "named as the referrers list of {subject}: `semver` and `newest` do not apply to such a list"
                )
                .into());
            }
            Some(SignatureTag::Cosign(subject)) if self.semver.is_some() || self.newest.is_some() => {
                return Err(format!("a signature of {subject}, which is copied with its subject").into());
            }
            _ => {}
        }
        let mut why: Reason = match self.include.iter().find(|pattern| pattern.matches(tag)) {
            Some(pattern) => format!("included by {:?}", pattern.to_string()).into(),
            None if self.include.is_empty() => "every tag is included".into(),
            None => return Err("no `include` matches the tag".into()),
        };
        if let Some(pattern) = self.exclude.iter().find(|pattern| pattern.matches(tag)) {
            return Err(format!("excluded by {:?}", pattern.to_string()).into());
        }
        if let Some(range) = &self.semver {
            why.to_mut().push_str(&format!(", {}", within(range, tag)?));
        }
        Ok(why)
    }
}

fn chosen(judged: &[(Tag, Result<Reason, Reason>)]) -> impl Iterator<Item = &Tag> {
    judged.iter().filter(|(_, judgement)| judgement.is_ok()).map(|(tag, _)| tag)
}

/// Compares the version of a tag with a range. `Ok` is the reason to select the tag, and `Err` is the reason to skip
/// the tag.
fn within(range: &VersionRange, tag: &Tag) -> Result<String, Reason> {
    match version_of(tag) {
        None => Err("the tag has no version".into()),
        Some(version) if range.matches(&version) => Ok(format!("version {version} is in \"{range}\"")),
        Some(version) if !version.pre.is_empty() => Err(format!(
            "version {version} is a pre-release, and \"{range}\" does not include pre-releases of that \
                version"
        )
        .into()),
        Some(version) => Err(format!("version {version} is outside \"{range}\"").into()),
    }
}

/// Sorts items by their tags for people: in the order of `newest`, and the tags of signatures and of lists of referrers
/// last.
pub fn sort_newest_first<T>(items: &mut [T], tag: impl Fn(&T) -> &Tag) {
    items.sort_by_cached_key(|item| (SignatureTag::read(tag(item)).is_some(), newest_first_key(tag(item))));
}

/// Returns the key that sorts tags, the newest first:
/// - tags with a version before tags without a version;
/// - tags with a version by descending version;
/// - tags of the same version by ascending name: `1.2` before `1.2-slim`;
/// - tags without a version by descending name.
fn newest_first_key(tag: &Tag) -> (Reverse<Option<Version>>, Option<Tag>, Reverse<Option<Tag>>) {
    match version_of(tag) {
        Some(version) => (Reverse(Some(version)), Some(tag.clone()), Reverse(None)),
        None => (Reverse(None), None, Reverse(Some(tag.clone()))),
    }
}

/// Deselects all selected tags after the first `newest` tags in the order of [`newest_first_key`].
fn keep_newest(judged: &mut [(Tag, Result<Reason, Reason>)], newest: usize) {
    let mut selected: Vec<usize> = (0..judged.len()).filter(|index| judged[*index].1.is_ok()).collect();
    selected.sort_by_cached_key(|index| newest_first_key(&judged[*index].0));
    for (rank, index) in selected.into_iter().enumerate() {
        let judgement = &mut judged[index].1;
        match judgement {
            Ok(why) if rank < newest => why.to_mut().push_str(&format!(", number {} of the newest {newest}", rank + 1)),
            _ => *judgement = Err(format!("not among the newest {newest}").into()),
        }
    }
}

impl From<(Tag, Result<Reason, Reason>)> for Verdict {
    fn from((tag, judgement): (Tag, Result<Reason, Reason>)) -> Self {
        let chosen = judgement.is_ok();
        Self { tag, chosen, why: judgement.unwrap_or_else(|why| why) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oci::{referrers_tag, signature_tags};

    fn patterns(texts: &[&str]) -> Vec<Pattern> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    fn tags(texts: &[&str]) -> Vec<Tag> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn tags_are_sorted_by_version_with_signatures_last() {
        let signature = signature_tags(&crate::oci::Digest::of(b"x"))[0].to_string();
        let mut given = tags(&["1.1.0", "latest", &signature, "1.0.0", "1.10.0", "1.2.0", "1.10.0-slim", "1.10.0-rc1"]);
        sort_newest_first(&mut given, |tag| tag);
        let sorted: Vec<&str> = given.iter().map(Tag::as_str).collect();
        let expected = ["1.10.0", "1.10.0-slim", "1.10.0-rc1", "1.2.0", "1.1.0", "1.0.0", "latest", &signature];
        assert_eq!(sorted, expected);
    }

    fn chosen(selection: &Selection, given: &[&str]) -> Vec<String> {
        selection.select(tags(given)).tags.iter().map(Tag::to_string).collect()
    }

    fn why(selection: &Selection, given: &[&str]) -> Vec<String> {
        let describe = |verdict: &Verdict| format!("{} {}: {}", verdict.tag, verdict.chosen, verdict.why);
        selection.select(tags(given)).verdicts.iter().map(describe).collect()
    }

    #[test]
    fn default_selection_selects_every_tag_once() {
        assert_eq!(chosen(&Selection::default(), &["b", "a", "b"]), ["b", "a"]);
        assert_eq!(why(&Selection::default(), &["a"]), ["a true: every tag is included"]);
    }

    #[test]
    fn every_verdict_states_its_reason() {
        let selection = Selection {
            include: patterns(&["3.*", "latest"]),
            exclude: patterns(&["*-rc*"]),
            semver: Some(">=3.12, <4".parse().unwrap()),
            newest: Some(1),
            at_least: None,
        };
        assert_eq!(
            why(&selection, &["3.12", "3.13-slim", "3.11", "3.13-rc1", "latest", "2.7", "3.14.0b1"]),
            [
                "3.12 false: not among the newest 1",
                r#"3.13-slim true: included by "3.*", version 3.13.0 is in ">=3.12, <4", number 1 of the newest 1"#,
                r#"3.11 false: version 3.11.0 is outside ">=3.12, <4""#,
                r#"3.13-rc1 false: excluded by "*-rc*""#,
                "latest false: the tag has no version",
                "2.7 false: no `include` matches the tag",
                "3.14.0b1 false: version 3.14.0-b.1 is a pre-release, \
                 and \">=3.12, <4\" does not include pre-releases of that version",
            ]
        );
    }

    #[test]
    fn newest_tags_are_ordered_by_version_then_name() {
        let newest = |newest| Selection { newest: Some(newest), ..Selection::default() };
        let given = ["nightly", "v1.9", "edge", "v1.10", "v1.10-slim", "v1.10-rc1"];
        assert_eq!(chosen(&newest(1), &given), ["v1.10"]);
        assert_eq!(chosen(&newest(3), &given), ["v1.10", "v1.10-slim", "v1.10-rc1"]);
        assert_eq!(chosen(&newest(5), &given), ["v1.10", "v1.10-slim", "v1.10-rc1", "v1.9", "nightly"]);
        assert_eq!(chosen(&newest(0), &given), Vec::<String>::new());
    }

    #[test]
    fn referrers_list_tag_is_selected_without_semver_and_newest() {
        let subject = Digest::of(b"image");
        let tag = referrers_tag(&subject);
        let selection = Selection { include: patterns(&["*"]), ..Selection::default() };
        assert!(selection.select(vec![tag.clone()]).verdicts[0].chosen);
        let selection = Selection { newest: Some(2), ..selection };
        let verdict = &selection.select(vec![tag]).verdicts[0];
        assert!(!verdict.chosen && verdict.why.contains(&subject.to_string()), "{}", verdict.why);
    }

    #[test]
    fn cosign_tags_are_selected_but_never_counted() {
        let [signature, ..] = signature_tags(&Digest::of(b"image"));
        let given = [signature.as_str(), "v1"];
        assert_eq!(chosen(&Selection::default(), &given), ["v1", signature.as_str()]);
        let two = Selection { at_least: Some(2), ..Selection::default() };
        assert_eq!(two.select(tags(&given)).shortfall, Some(Shortfall { found: 1, wanted: 2 }));
        let newest = Selection { newest: Some(2), ..Selection::default() };
        assert_eq!(chosen(&newest, &given), ["v1"]);
        let semver = Selection { semver: Some("*".parse().unwrap()), ..Selection::default() };
        assert_eq!(chosen(&semver, &given), ["v1"]);
        assert!(why(&semver, &given)[0].contains("a signature of sha256:"));
        let excluded = Selection { exclude: patterns(&["sha256-*"]), ..Selection::default() };
        assert_eq!(chosen(&excluded, &given), ["v1"]);
    }

    #[test]
    fn shortfall_error_names_both_numbers() {
        let selection = Selection { include: patterns(&["v*"]), at_least: Some(2), ..Selection::default() };
        let error = selection.select(tags(&["v1", "x"])).enough().unwrap_err();
        assert_eq!(error.to_string(), "too few tags are selected: 1, but `at_least` requires 2");
        assert!(selection.select(tags(&["v1", "v2"])).enough().is_ok());
    }

    #[test]
    fn pinned_digest_is_selected_without_any_tag() {
        let digest = Digest::of(b"x");
        let pin = format!("@{digest}");
        let selection = Selection { include: patterns(&[&pin, &pin]), at_least: Some(1), ..Selection::default() };
        let selected = selection.select(tags(&["v1"]));
        assert_eq!((selected.digests, selected.tags, selected.shortfall), (vec![digest], vec![], None));
    }

    #[test]
    fn pinned_tag_is_selected_only_with_its_digest() {
        let digest = Digest::of(b"x");
        let pin = format!("v1@{digest}");
        let mut selection =
            Selection { include: patterns(&["v*", &pin]), newest: Some(1), at_least: Some(2), ..Selection::default() };
        let selected = selection.select(tags(&["v1", "v0"]));
        assert_eq!((selected.tags, selected.shortfall), (tags(&["v0"]), None));
        assert_eq!(selected.pins, BTreeMap::from([("v1".parse().unwrap(), digest)]));
        assert_eq!(selected.verdicts[1].why, format!("pinned to {digest}"));
        assert!(selection.takes(&"v2".parse().unwrap()) && !selection.takes(&"v1".parse().unwrap()));
        selection.exclude = patterns(&["v1"]);
        assert_eq!(selection.select(tags(&["v1"])).pins, BTreeMap::new());
        let pins_alone = Selection { include: patterns(&[&pin]), ..Selection::default() };
        assert_eq!(pins_alone.literals(), Some(vec![]), "no listing is needed");
    }

    #[test]
    fn literal_includes_need_no_listing() {
        let literals = |selection: Selection| selection.literals().map(|tags| tags.len());
        let named =
            Selection { include: patterns(&["v1", "v2", &format!("@{}", Digest::of(b""))]), ..Selection::default() };
        assert_eq!(literals(Selection { newest: Some(1), ..named.clone() }), None);
        assert_eq!(literals(Selection { semver: Some("1".parse().unwrap()), ..named.clone() }), None);
        assert_eq!(literals(Selection { include: patterns(&["v1", "v*"]), ..Selection::default() }), None);
        assert_eq!(literals(Selection::default()), None);
        assert_eq!(literals(named), Some(2));
    }
}
