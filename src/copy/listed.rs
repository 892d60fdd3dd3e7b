//! The tags of a source that may name a digest, by its list: signatures and lists of referrers.
//!
//! A list is a hint. distribution 3.1.0 and 3.1.1 on S3 leave out every tag that extends another listed tag (distribution#4891): behind
//! `sha256-<hex>`, the list of referrers, cosign's `sha256-<hex>.sig` is not listed. Where a tag may be missing for that reason, or where
//! the list has nothing at all, the tag itself is requested.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::oci::{Digest, Tag, may_name_a_digest};
use crate::store::Listed;

/// The tags of a source's list that may name a digest.
#[derive(Debug, Default)]
pub struct ListedTags {
    names: HashSet<Tag>,
    /// Whether the list has nothing: what is copied from there has no tag, or the list is wrong.
    is_empty: bool,
    /// Listed tags that may hide longer ones. None where the list has a tag that extends another one: it leaves no such tag out.
    stems: HashSet<String>,
    /// Whether a tag was found that the list lacks.
    omits: AtomicBool,
}

impl ListedTags {
    /// Reads a whole list, whose tags come in their order.
    #[must_use]
    pub fn read<'a>(sorted: impl IntoIterator<Item = &'a Tag>) -> Self {
        let mut listed = Self { is_empty: true, ..Self::default() };
        let (mut shows_extensions, mut last) = (false, None::<&Tag>);
        for tag in sorted {
            listed.is_empty = false;
            // Between a tag and one that extends it only others stand that extend it too.
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

    /// Whether the list has a tag.
    #[must_use]
    pub fn has(&self, tag: &Tag) -> bool {
        self.names.contains(tag)
    }

    /// Whether a tag is worth a request: [`Listed::Absent`] only where the list lacks it and hides no such tag.
    #[must_use]
    pub fn tells(&self, tag: &Tag) -> Listed {
        let is_hidden = || {
            let name = tag.as_str();
            (1..name.len()).filter_map(|end| name.get(..end)).any(|stem| self.stems.contains(stem))
        };
        let may_be_there = self.has(tag) || self.is_empty || self.omits.load(Ordering::Relaxed) || is_hidden();
        if may_be_there { Listed::Perhaps } else { Listed::Absent }
    }

    /// Notes that a tag is there. Where the list lacks it, nothing is taken for absent from then on; returns whether it is the first
    /// such tag.
    pub(super) fn found(&self, tag: &Tag) -> bool {
        !self.has(tag) && !self.omits.swap(true, Ordering::Relaxed)
    }
}

/// Whether a tag that names a digest may begin with this one: `sha256-` and hex digits, or the beginning of that.
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
    fn a_tag_that_a_plain_list_lacks_is_absent() {
        let subject = Digest::of(b"image");
        let ([signature, attestation, _], list) = (signature_tags(&subject), referrers_tag(&subject));
        let listed = read(&["v1", "v2", "latest", signature.as_str()]);
        assert_eq!(listed.tells(&signature), Listed::Perhaps);
        assert_eq!((listed.tells(&attestation), listed.tells(&list)), (Listed::Absent, Listed::Absent));
    }

    #[test]
    fn a_tag_behind_a_shorter_one_may_be_there_unless_the_list_shows_such_tags() {
        let subject = Digest::of(b"image");
        let ([signature, attestation, _], list) = (signature_tags(&subject), referrers_tag(&subject));
        for stem in [list.as_str(), "sha256", "sha", "sha256-"] {
            assert_eq!(read(&["v1", stem]).tells(&signature), Listed::Perhaps, "{stem}");
            // Another tag shows that this list leaves none out.
            assert_eq!(read(&["v1", "v1.2", stem]).tells(&signature), Listed::Absent, "{stem}");
            assert_eq!(read(&["v1", stem, "w", "w2"]).tells(&signature), Listed::Absent, "{stem}");
        }
        assert_eq!(read(&["v1", list.as_str(), signature.as_str()]).tells(&attestation), Listed::Absent);
        assert_eq!(read(&["v1", referrers_tag(&Digest::of(b"other")).as_str()]).tells(&signature), Listed::Absent);
    }

    #[test]
    fn an_empty_list_says_nothing_and_neither_does_one_that_lacked_a_tag() {
        let subject = Digest::of(b"image");
        let ([signature, attestation, _], list) = (signature_tags(&subject), referrers_tag(&subject));
        assert_eq!(read(&[]).tells(&list), Listed::Perhaps);
        let listed = read(&["v1"]);
        assert_eq!(listed.tells(&attestation), Listed::Absent);
        assert!(listed.found(&signature) && !listed.found(&list), "it is told once");
        assert_eq!(listed.tells(&attestation), Listed::Perhaps);
    }
}
