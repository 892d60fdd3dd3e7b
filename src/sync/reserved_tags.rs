//! Tags with a reserved form: each is identified by its content. A list of referrers follows its subject, a tag that
//! keeps a previous digest stays where it is, and any other content under such a name is an ordinary tag.

use futures_util::StreamExt as _;
use futures_util::stream;

use super::TagOutcome;
use super::compare::source_digest;
use super::derived::Derived;
use super::journaling::arrived;
use super::late_referrers::{AtTarget, list_at_target};
use super::repository_sync::RepositorySync;
use crate::copy::{Batch, CopyError, Order};
use crate::oci::{Digest, ManifestRef, SignatureTag, Tag, referrers_tag};
use crate::plan::{ReservedForm, Selection};
use crate::store::{ErrorKind, Side, Target};

/// Maximum number of tags that are identified at once.
const AT_ONCE: usize = 32;

/// Content of a tag with a reserved form.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Content {
    /// Ordinary content, as under any other tag.
    Ordinary,
    /// List of the referrers of a subject.
    List { list: Digest, subject: Digest },
    /// Content that another tag had before it moved. It belongs to the registry at which that tag moved.
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
pub(crate) fn sort(tags: Vec<Tag>, selection: &Selection, with_referrers: bool) -> SortedTags {
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

/// Identifies a tag with a reserved form that points at `content` at the source. An index that is new here costs a GET
/// of the index and of the manifests that it lists.
pub(crate) async fn find_out(
    batch: &Batch,
    derived: &Derived,
    tag: &Tag,
    form: &ReservedForm,
    content: Digest,
) -> Content {
    if let ReservedForm::Previous { digits } = form {
        return if content.short() == *digits { Content::Previous } else { Content::Ordinary };
    }
    if referrers_tag(&content) == *tag {
        return Content::Ordinary;
    }
    let subject = match derived.list_subject(tag, content).await {
        Some(subject) => Some(subject),
        None => match batch.subject_of_list(tag, content).await {
            Ok(subject) => {
                derived.note_list(tag, content, subject.unwrap_or(content)).await;
                subject
            }
            // The list is too long to be read as an index, or broken: its referrers are looked up together with its
            // subject.
            Err(CopyError::Manifest { .. }) => match SignatureTag::read(tag) {
                Some(SignatureTag::Referrers(subject)) => Some(subject),
                _ => None,
            },
            Err(_) => None,
        },
    };
    match subject.filter(|subject| *subject != content) {
        Some(subject) => Content::List { list: content, subject },
        None => Content::Ordinary,
    }
}

/// List of referrers and its subject.
struct List {
    tag: Tag,
    list: Digest,
    subject: Digest,
}

impl RepositorySync<'_> {
    /// Settles tags with a reserved form after all others: only then it is known which subjects are copied.
    pub(crate) async fn settle_reserved(&self, reserved: Vec<(Tag, ReservedForm)>) {
        let source = self.pair.source.as_ref();
        let found: Vec<(Tag, ReservedForm, Content)> = stream::iter(reserved)
            .map(|(tag, form)| async move {
                let digest = match self.known_list(&tag) {
                    Some(known) => Ok(known),
                    None => source_digest(source, &self.listing, &ManifestRef::Tag(tag.clone())).await,
                };
                let content = match digest {
                    Ok(digest) => find_out(&self.batch, &self.derived, &tag, &form, digest).await,
                    // The copy of the tag reports the failure.
                    Err(_) => Content::Ordinary,
                };
                (tag, form, content)
            })
            .buffered(AT_ONCE)
            .collect()
            .await;
        let entry = &self.run.request.entry;
        let (mut ordinary, mut lists, mut no_lists) = (Vec::new(), Vec::new(), Vec::new());
        for (tag, form, content) in found {
            let is_named = form.is_named_by(&entry.selection, &tag);
            match content {
                Content::Ordinary => {
                    no_lists.push(tag.clone());
                    ordinary.push(tag);
                }
                Content::List { .. } if !entry.referrers && is_named => ordinary.push(tag),
                Content::List { .. } if !entry.referrers => {
                    tracing::debug!(source = source.place(), %tag, "skipped: a list of referrers, and `referrers: \
                         false`");
                }
                Content::List { list, subject } => lists.push(List { tag, list, subject }),
                Content::Previous => {
                    tracing::debug!(source = source.place(), %tag, "skipped: it keeps what another tag stood for \
                         before");
                }
            }
        }
        self.run.chosen(ordinary.len() * self.pair.targets.len()).await;
        self.no_lists.lock().extend(no_lists);
        self.each(ordinary.into_iter().map(ManifestRef::Tag)).await;
        stream::iter(lists).for_each_concurrent(AT_ONCE, |list| async move { self.settle_list(&list).await }).await;
    }

    /// Protects a target's list of referrers from being overwritten with other content under its tag: nothing could
    /// find the referrers that it lists any more. The tag is blocked, by its name.
    pub(crate) async fn spare_list(&self, target: &dyn Target, reference: &ManifestRef) -> Result<(), TagOutcome> {
        let ManifestRef::Tag(tag) = reference else { return Ok(()) };
        if !self.no_lists.lock().contains(tag) {
            return Ok(());
        }
        match target.has_referrers_list(tag).await {
            Ok(true) => {
                let reason = format!(
                    "under the tag {tag} the target keeps the list of what refers to an image, which the source's \
                     image of that name \
                     would replace"
                );
                Err(TagOutcome::Blocked { reason })
            }
            // A target that denies the read is written nevertheless, as for any of its tags.
            Ok(false) => Ok(()),
            Err(error) if error.kind == ErrorKind::Denied => Ok(()),
            Err(error) => Err(TagOutcome::failed_at(Side::Target, &error)),
        }
    }

    /// Settles a list of referrers.
    /// - If its subject is selected, the list went with it.
    /// - If the subject came in another way (as a child of an index), the referrers in the list are copied to it.
    /// - If the source lacks the subject or has no tag for it, the list is logged and copied as it is.
    async fn settle_list(&self, list: &List) {
        if self.run.is_draining() || self.has_compared(&list.subject) || self.batch.has_read(&list.subject) {
            return;
        }
        let source = self.pair.source.as_ref();
        let subject = ManifestRef::Digest(list.subject);
        let is_at_source = !matches!(source.resolve(&subject).await, Ok(None));
        let selection = &self.run.request.entry.selection;
        let is_named = ReservedForm::ReferrersList.is_named_by(selection, &list.tag);
        // With a narrower selection the subject is one of the unwanted ones.
        let is_wanted = !is_at_source || is_named || selection.takes_every_tag();
        let mut is_told = false;
        for (at, target) in self.pair.targets.iter().enumerate() {
            if is_at_source && matches!(target.resolve(&subject).await, Ok(Some(_))) {
                if let Err(error) = self.refresh_referrers(at, &list.tag, list.subject).await {
                    self.settle(at, &ManifestRef::Tag(list.tag.clone()), Some(list.list), None, error).await;
                }
            } else if is_wanted {
                if !std::mem::replace(&mut is_told, true) {
                    let why = if is_at_source { "its subject has no tag" } else { "its subject is not at the source" };
                    let List { tag, subject, .. } = list;
                    tracing::warn!(source = source.place(), %tag, %subject, why, "a list of referrers is copied \
                         without its subject");
                }
                self.bring_list(at, list).await;
            }
        }
    }

    /// Copies a list under its tag if the target has none. Otherwise, and if the target denies the read, copies the
    /// referrers that the list has; they are added to the target's own list.
    async fn bring_list(&self, at: usize, list: &List) {
        let reference = ManifestRef::Tag(list.tag.clone());
        let target = &self.pair.targets[at];
        let there = match list_at_target(target.as_ref(), &reference).await {
            Ok(there) => there,
            Err(error) => {
                let outcome = TagOutcome::failed_at(Side::Target, &error);
                return self.settle(at, &reference, Some(list.list), None, outcome).await;
            }
        };
        if let AtTarget::Has(Some(there)) = there
            && (there == list.list || self.derived.referrers_done(target.place(), list.list).await == Some(there))
        {
            return self.settle(at, &reference, Some(list.list), Some(there), TagOutcome::Unchanged).await;
        }
        let targets = vec![(at, None)];
        if matches!(there, AtTarget::Has(None)) {
            let order = Order { reference: reference.clone(), digest: list.list, tag: Some(list.tag.clone()), targets };
            self.bring(at, &reference, list.list, order).await;
            return;
        }
        let listed = match self.batch.list_children(list.list).await {
            Ok(listed) => listed,
            Err(error) => {
                return self.settle(at, &reference, Some(list.list), None, TagOutcome::failed(&error)).await;
            }
        };
        let mut is_complete = true;
        for digest in listed {
            let order = Order { reference: digest.into(), digest, tag: None, targets: targets.clone() };
            is_complete &= self.bring(at, &digest.into(), digest, order).await;
        }
        // If a referrer is missing, the next run tries again.
        if is_complete && let Ok(Some(now)) = target.resolve(&reference).await {
            self.derived.note_referrers(target.place(), list.list, now.digest).await;
        }
    }

    /// Copies and records one order, and returns true if all of it arrived.
    async fn bring(&self, at: usize, reference: &ManifestRef, digest: Digest, order: Order) -> bool {
        let mut copies = self.copies(order).await;
        let mut is_complete = true;
        while let Some((_, result)) = copies.next().await {
            match result {
                Ok(arrival) => {
                    is_complete &= arrival.left_behind.is_empty();
                    arrived(self.run, &arrival, TagOutcome::Copied).await;
                }
                Err(error) => {
                    is_complete = false;
                    self.settle(at, reference, Some(digest), None, TagOutcome::failed(&error)).await;
                }
            }
        }
        is_complete
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oci::signature_tags;

    #[test]
    fn signatures_stay_behind_without_referrers_unless_an_include_names_them() {
        let [signature, ..] = signature_tags(&Digest::of(b"image"));
        let tags = || vec![signature.clone(), "v1".parse().unwrap()];
        let sorted = sort(tags(), &Selection::default(), true);
        assert_eq!((sorted.ordinary.len(), sorted.signatures.len()), (1, 1));
        let sorted = sort(tags(), &Selection::default(), false);
        assert_eq!((sorted.ordinary.len(), sorted.signatures.len(), sorted.unwanted.len()), (1, 0, 1));
        let named = Selection { include: vec![signature.as_str().parse().unwrap()], ..Selection::default() };
        assert_eq!(sort(tags(), &named, false).signatures, std::slice::from_ref(&signature));
    }
}
