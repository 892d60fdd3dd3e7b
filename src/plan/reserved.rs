//! Reserved forms of tag names. A tag of a reserved form probably has content about another tag or manifest, such as a
//! list of referrers. The name is only a hint: the content of the tag decides.

use super::Selection;
use crate::oci::{Digest, SignatureTag, Tag, has_form_of_referrers_tag};

/// Reserved form of a tag's name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ReservedForm {
    /// `sha256-<64 hex>`: usually the list of referrers of a subject.
    ReferrersList,
    /// `sha256-<64 hex>.sig`, `.att`, `.sbom`: cosign's artifacts about a subject.
    Signature,
    /// `TAG.previous-<12 hex>`: usually a tag that `overwrite: keep_previous` wrote. The digits are the first digits of
    /// an earlier digest of `TAG`.
    Previous {
        /// The hexadecimal digits.
        digits: String,
    },
}

impl ReservedForm {
    /// Returns the reserved form of a tag; `None` for an ordinary tag.
    #[must_use]
    pub fn read(tag: &Tag) -> Option<Self> {
        if has_form_of_referrers_tag(tag) {
            return Some(Self::ReferrersList);
        }
        if let Some(SignatureTag::Cosign(_)) = SignatureTag::read(tag) {
            return Some(Self::Signature);
        }
        let (name, digits) = tag.as_str().rsplit_once(".previous-")?;
        let is_short_digest =
            digits.len() == 12 && digits.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
        (!name.is_empty() && is_short_digest).then(|| Self::Previous { digits: digits.to_owned() })
    }

    /// Returns true if a pattern of `include` matches the tag and is meant for this form, such as `*.sig` or
    /// `sha256-*`. A general pattern, such as `*`, does not count, because its text does not contain a marker of the
    /// form (`.sig`, `sha256-`).
    #[must_use]
    pub fn is_named_by(&self, selection: &Selection, tag: &Tag) -> bool {
        let markers: &[&str] = match self {
            Self::ReferrersList => &["-"],
            Self::Signature => &["-", ".sig", ".att", ".sbom"],
            Self::Previous { .. } => &[".previous-"],
        };
        let has_marker = |text: &str| {
            markers.iter().any(|marker| match *marker {
                "-" => Digest::ALGORITHMS.iter().any(|name| text.contains(&format!("{name}-"))),
                marker => text.contains(marker),
            })
        };
        // In a regular expression, a backslash precedes the dot of a marker.
        let names_form = |text: &str| has_marker(&text.replace('\\', ""));
        selection.include.iter().any(|pattern| pattern.matches(tag) && names_form(&pattern.to_string()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oci::{referrers_tag, signature_tags};

    fn tag(text: &str) -> Tag {
        text.parse().unwrap()
    }

    #[test]
    fn reserved_forms_are_recognised_and_similar_tags_ordinary() {
        let subject = Digest::of(b"image");
        assert_eq!(ReservedForm::read(&referrers_tag(&subject)), Some(ReservedForm::ReferrersList));
        assert_eq!(ReservedForm::read(&signature_tags(&subject)[1]), Some(ReservedForm::Signature));
        let digits = "0123456789ab".to_owned();
        assert_eq!(ReservedForm::read(&tag("v1.previous-0123456789ab")), Some(ReservedForm::Previous { digits }));
        for ordinary in ["v1", "v1.previous-", "v1.previous-0123456789abc", ".previous-0123", "sha256-abc"] {
            if let Ok(tag) = ordinary.parse() {
                assert_eq!(ReservedForm::read(&tag), None, "{ordinary}");
            }
        }
    }

    #[test]
    fn include_names_a_form_only_by_its_text() {
        let list = referrers_tag(&Digest::of(b"image"));
        let named = |include: &str, tag: &Tag| {
            let selection = Selection { include: vec![include.parse().unwrap()], ..Selection::default() };
            ReservedForm::read(tag).unwrap().is_named_by(&selection, tag)
        };
        assert!(named(list.as_str(), &list) && named("sha256-*", &list));
        assert!(!named("*", &list) && !named("re:.*", &list));
        let signature = &signature_tags(&Digest::of(b"image"))[0];
        assert!(named("*.sig", signature) && named(r"re:.*\.sig", signature) && !named("*", signature));
        let previous = tag("v1.previous-0123456789ab");
        assert!(named("*.previous-*", &previous) && !named("v1*", &previous));
        let everything = Selection::default();
        assert!(!ReservedForm::read(&previous).unwrap().is_named_by(&everything, &previous));
    }
}
