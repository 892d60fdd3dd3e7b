//! Tags whose names have a reserved form, such as `sha256-<hex>`. The content of a tag with a reserved form decides how
//! a run copies the tag:
//! - The run copies a list of referrers together with the subject of the list.
//! - If the tag keeps a previous digest (`v1.previous-<hex>`), the run skips the tag. The run copies the tag only if
//!   `include` names the tag or its form (`*.previous-*`).
//! - The run copies a tag with any other content like an ordinary tag.

use crate::copy::{Batch, CopyError};
use crate::oci::{Digest, SignatureTag, Tag, referrers_tag};
use crate::plan::{ReservedForm, Selection};
use crate::sync::journaling::derived_digests::DerivedDigests;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ReservedContent {
    /// Ordinary content, as under any other tag.
    Ordinary,
    /// List of the referrers of a subject.
    List { list: Digest, subject: Digest },
    /// Previous content of another tag of the same repository. The content is a backup, so a run does not copy the
    /// content.
    Previous,
}

/// Selected tags, sorted by the forms of their names.
#[derive(Debug, Default)]
pub(crate) struct SortedTags {
    /// Tags that are copied like any other tag.
    pub(crate) ordinary: Vec<Tag>,
    /// Signatures of cosign.
    pub(crate) signatures: Vec<Tag>,
    /// Tags with a reserved form that is not the form of a signature. The content of these tags is not known yet.
    pub(crate) reserved: Vec<(Tag, ReservedForm)>,
    /// Signatures of cosign that are not copied, because the entry has `referrers: false`.
    pub(crate) unwanted: Vec<Tag>,
}

pub(crate) fn sort_by_form(tags: Vec<Tag>, selection: &Selection, with_referrers: bool) -> SortedTags {
    let mut sorted = SortedTags::default();
    for tag in tags {
        match ReservedForm::read(&tag) {
            None => sorted.ordinary.push(tag),
            Some(form @ ReservedForm::Signature) if !with_referrers && !form.is_named_by(selection, &tag) => {
                sorted.unwanted.push(tag);
            }
            Some(ReservedForm::Signature) => sorted.signatures.push(tag),
            // If an `include` names the tag or its form, the tag is copied like an ordinary tag.
            Some(form @ ReservedForm::Previous { .. }) if form.is_named_by(selection, &tag) => {
                sorted.ordinary.push(tag)
            }
            Some(form) => sorted.reserved.push((tag, form)),
        }
    }
    sorted
}

/// Determines the kind of content under a tag with a reserved form. `content` is the digest of the tag at the source.
/// If the journal does not contain the result, the function requests the manifest with GET. For an index, the function
/// also requests the listed manifests.
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
            // The list is invalid, or too long for an index. The run copies the listed referrers with the subject.
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
