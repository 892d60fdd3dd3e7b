//! Lookup of signature tags and referrers tags in the list of a source's tags.
//!
//! The list may lack existing tags. distribution 3.1.0 and 3.1.1 on S3 omit every extension: a tag whose name begins
//! with the name of another listed tag (distribution#4891). For example, a list with `sha256-<hex>` omits cosign's
//! `sha256-<hex>.sig`. If the list may omit a tag for this reason, or if the list is empty, a run requests the tag.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::oci::{Digest, Tag, may_name_a_digest};
use crate::store::Listed;

/// Listed tags of a source whose own names may contain a digest, such as `sha256-<hex>.sig`.
#[derive(Debug, Default)]
pub struct ListedTags {
    names: HashSet<Tag>,
    /// True if the list is empty. An empty list does not prove that a tag is absent.
    is_empty: bool,
    /// Listed tags whose extensions the list may omit. Empty if the list contains an extension of any tag, because the
    /// registry then omits no extensions.
    stems: HashSet<String>,
    /// True once the run has found a tag at the source that is not in the list.
    omits: AtomicBool,
}

impl ListedTags {
    /// Reads a whole list. The tags in `sorted` must be in ascending order.
    #[must_use]
    pub fn read<'a>(sorted: impl IntoIterator<Item = &'a Tag>) -> Self {
        let mut listed = Self { is_empty: true, ..Self::default() };
        let (mut shows_extensions, mut last) = (false, None::<&Tag>);
        for tag in sorted {
            listed.is_empty = false;
            // In sorted order, the extensions of a tag directly follow the tag. So the comparison of neighbours is
            // enough.
            shows_extensions |= last.is_some_and(|last| tag.as_str().starts_with(last.as_str()));
            last = Some(tag);
            if may_name_a_digest(tag) {
                listed.names.insert(tag.clone());
            }
            if !shows_extensions && may_begin_a_digest(tag) {
                listed.stems.insert(tag.to_string());
            }
        }
        if shows_extensions {
            listed.stems = HashSet::new();
        }
        listed
    }

    /// Returns true if the list contains the tag. Callers pass only a tag whose own name may contain a digest, such as
    /// `sha256-<hex>.sig`.
    #[must_use]
    pub fn has(&self, tag: &Tag) -> bool {
        self.names.contains(tag)
    }

    /// Returns [`Listed::Absent`] if the list proves that the source does not have the tag. Otherwise returns
    /// [`Listed::Possible`], and the caller must request the tag.
    #[must_use]
    pub fn look_up(&self, tag: &Tag) -> Listed {
        let is_hidden = || {
            let name = tag.as_str();
            (1..name.len()).filter_map(|end| name.get(..end)).any(|stem| self.stems.contains(stem))
        };
        let may_exist = self.has(tag) || self.is_empty || self.omits.load(Ordering::Relaxed) || is_hidden();
        if may_exist { Listed::Possible } else { Listed::Absent }
    }

    /// Records that the source has a tag. If the list lacks the tag, no tag counts as absent after this call. Returns
    /// true for the first recorded tag that the list lacks.
    pub(super) fn record_found(&self, tag: &Tag) -> bool {
        !self.has(tag) && !self.omits.swap(true, Ordering::Relaxed)
    }
}

/// Returns true if a tag that contains a digest may begin with this tag. Examples are `sha`, `sha256`, `sha256-` and
/// `sha256-<hex>`.
fn may_begin_a_digest(tag: &Tag) -> bool {
    Digest::ALGORITHMS.iter().any(|name| match tag.as_str().strip_prefix(name) {
        Some(rest) => rest.is_empty() || rest.starts_with('-'),
        None => name.starts_with(tag.as_str()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oci::{referrers_tag, signature_tags};

    fn read(tags: &[&str]) -> ListedTags {
        let mut tags: Vec<Tag> = tags.iter().map(|tag| tag.parse().unwrap()).collect();
        tags.sort();
        ListedTags::read(&tags)
    }

    #[test]
    fn tag_missing_from_plain_list_is_absent() {
        let subject = Digest::of(b"image");
        let ([signature, attestation, _], list) = (signature_tags(&subject), referrers_tag(&subject));
        let listed = read(&["v1", "v2", "latest", signature.as_str()]);
        assert_eq!(listed.look_up(&signature), Listed::Possible);
        assert_eq!((listed.look_up(&attestation), listed.look_up(&list)), (Listed::Absent, Listed::Absent));
    }

    #[test]
    fn tag_extending_listed_tag_may_exist_unless_list_shows_extensions() {
        let subject = Digest::of(b"image");
        let ([signature, attestation, _], list) = (signature_tags(&subject), referrers_tag(&subject));
        for stem in [list.as_str(), "sha256", "sha", "sha256-"] {
            assert_eq!(read(&["v1", stem]).look_up(&signature), Listed::Possible, "{stem}");
            // The list contains an extension of another tag, so the list omits no extensions.
            assert_eq!(read(&["v1", "v1.2", stem]).look_up(&signature), Listed::Absent, "{stem}");
            assert_eq!(read(&["v1", stem, "w", "w2"]).look_up(&signature), Listed::Absent, "{stem}");
        }
        assert_eq!(read(&["v1", list.as_str(), signature.as_str()]).look_up(&attestation), Listed::Absent);
        assert_eq!(read(&["v1", referrers_tag(&Digest::of(b"other")).as_str()]).look_up(&signature), Listed::Absent);
    }

    #[test]
    fn empty_or_incomplete_list_proves_no_absence() {
        let subject = Digest::of(b"image");
        let ([signature, attestation, _], list) = (signature_tags(&subject), referrers_tag(&subject));
        assert_eq!(read(&[]).look_up(&list), Listed::Possible);
        let listed = read(&["v1"]);
        assert_eq!(listed.look_up(&attestation), Listed::Absent);
        assert!(listed.record_found(&signature) && !listed.record_found(&list), "only the first tag is reported");
        assert_eq!(listed.look_up(&attestation), Listed::Possible);
    }
}
