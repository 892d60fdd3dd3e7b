//! Tags with a reserved form. The content of each decides how it is copied. A list of referrers is copied with its
//! subject. A tag that keeps a previous digest is copied only if `include` names the tag or its form. Any other content
//! under such a name is an ordinary tag.

use crate::copy::{Batch, CopyError};
use crate::oci::{Digest, SignatureTag, Tag, referrers_tag};
use crate::plan::{ReservedForm, Selection};
use crate::sync::journaling::derived_digests::DerivedDigests;

/// Content of a tag with a reserved form.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ReservedContent {
    /// Ordinary content, as under any other tag.
    Ordinary,
    /// List of the referrers of a subject.
    List { list: Digest, subject: Digest },
    /// Content that another tag had before it was overwritten. This content belongs to the registry at which that tag
    /// was overwritten.
    Previous,
}

/// Selected tags by the possible meaning of their names.
#[derive(Debug, Default)]
pub(crate) struct SortedTags {
    pub(crate) ordinary: Vec<Tag>,
    /// Signatures of cosign.
    pub(crate) signatures: Vec<Tag>,
    /// Tags that are to be identified.
    pub(crate) reserved: Vec<(Tag, ReservedForm)>,
    /// Signatures of cosign, if the entry does not want referrers.
    pub(crate) unwanted: Vec<Tag>,
}

/// Sorts selected tags only by their names.
pub(crate) fn sort_by_form(tags: Vec<Tag>, selection: &Selection, with_referrers: bool) -> SortedTags {
    let mut sorted = SortedTags::default();
    for tag in tags {
        match ReservedForm::read(&tag) {
            None => sorted.ordinary.push(tag),
            Some(form @ ReservedForm::Signature) if !with_referrers && !form.is_named_by(selection, &tag) => {
                sorted.unwanted.push(tag);
            }
            Some(ReservedForm::Signature) => sorted.signatures.push(tag),
            // An include that has the full name of a tag, or its form, selects that tag deliberately.
            Some(form @ ReservedForm::Previous { .. }) if form.is_named_by(selection, &tag) => {
                sorted.ordinary.push(tag)
            }
            Some(form) => sorted.reserved.push((tag, form)),
        }
    }
    sorted
}

/// Identifies a tag with a reserved form that points at `content` at the source. For an index that is new here, the
/// index and the manifests that it lists are requested with GET.
pub(crate) async fn identify_content(
    batch: &Batch,
    derived: &DerivedDigests,
    tag: &Tag,
    form: &ReservedForm,
    content: Digest,
) -> ReservedContent {
    if let ReservedForm::Previous { digits } = form {
        return if content.short() == *digits { ReservedContent::Previous } else { ReservedContent::Ordinary };
    }
    if referrers_tag(&content) == *tag {
        return ReservedContent::Ordinary;
    }
    let subject = match derived.list_subject(tag, content).await {
        Some(subject) => Some(subject),
        None => match batch.subject_of_list(tag, content).await {
            Ok(subject) => {
                derived.record_list_subject(tag, content, subject.unwrap_or(content)).await;
                subject
            }
            // The list is too long to be read as an index, or broken: its referrers are queried together with its
            // subject.
            Err(CopyError::Manifest { .. }) => match SignatureTag::read(tag) {
                Some(SignatureTag::Referrers(subject)) => Some(subject),
                _ => None,
            },
            Err(_) => None,
        },
    };
    match subject.filter(|subject| *subject != content) {
        Some(subject) => ReservedContent::List { list: content, subject },
        None => ReservedContent::Ordinary,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oci::signature_tags;

    #[test]
    fn signatures_without_referrers_need_an_include() {
        let [signature, ..] = signature_tags(&Digest::of(b"image"));
        let tags = || vec![signature.clone(), "v1".parse().unwrap()];
        let sorted = sort_by_form(tags(), &Selection::default(), true);
        assert_eq!((sorted.ordinary.len(), sorted.signatures.len()), (1, 1));
        let sorted = sort_by_form(tags(), &Selection::default(), false);
        assert_eq!((sorted.ordinary.len(), sorted.signatures.len(), sorted.unwanted.len()), (1, 0, 1));
        let named = Selection { include: vec![signature.as_str().parse().unwrap()], ..Selection::default() };
        assert_eq!(sort_by_form(tags(), &named, false).signatures, std::slice::from_ref(&signature));
    }
}
