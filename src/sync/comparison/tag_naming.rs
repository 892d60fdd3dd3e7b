//! Names of tags at the targets: the reference of a tag at a target, the names in reports, and the further tags of a
//! source that would get the name of a pushed tag.

use futures_util::future::join_all;

use crate::config::Entry;
use crate::oci::{ManifestRef, Tag};
use crate::plan::Selected;
use crate::store::{Side, Source};
use crate::sync::TagOutcome;

/// Returns the reference at a target of a tag or digest of the source.
///
/// # Errors
/// Returns the outcome of the tag if its name at the target is not a valid tag.
pub(crate) fn target_reference(entry: &Entry, reference: &ManifestRef) -> Result<ManifestRef, TagOutcome> {
    let ManifestRef::Tag(tag) = reference else { return Ok(reference.clone()) };
    match entry.names.target_tag(tag) {
        Ok(name) => Ok(ManifestRef::Tag(name.into_owned())),
        Err(error) => Err(TagOutcome::Failed {
            side: Some(Side::Target),
            step: None,
            subject: Some(tag.to_string()),
            message: error.to_string(),
        }),
    }
}

/// Names of a tag in a report.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct ReportedTag {
    /// Tag at the target; `None` for a digest.
    pub(crate) tag: Option<Tag>,
    /// Tag at the source, if the tag at the target has another name.
    pub(crate) source_tag: Option<Tag>,
}

impl ReportedTag {
    /// Returns the names of a tag or digest of the source. A tag without a valid name keeps its name here.
    pub(crate) fn new(entry: &Entry, reference: &ManifestRef) -> Self {
        let ManifestRef::Tag(tag) = reference else { return Self { tag: None, source_tag: None } };
        match entry.names.target_tag(tag) {
            Ok(name) if *name != *tag => Self { tag: Some(name.into_owned()), source_tag: Some(tag.clone()) },
            _ => Self { tag: Some(tag.clone()), source_tag: None },
        }
    }
}

/// Returns the tags of the source that the entry selects, that are not in `selected`, and that would get the name of a
/// tag in `selected`. In a run for pushed tags, `selected` has only these tags. Requests each such tag; an unanswered
/// request counts as a tag that exists.
pub(crate) async fn query_name_rivals(source: &dyn Source, entry: &Entry, selected: &Selected) -> Vec<Tag> {
    if entry.names.keeps_every_name() {
        return Vec::new();
    }
    let names = selected.tags.iter().filter_map(|tag| entry.names.target_tag(tag).ok());
    let rivals = names.flat_map(|name| entry.names.source_tags(&name));
    let rivals = rivals.filter(|tag| !selected.tags.contains(tag) && entry.selection.takes(tag));
    let exists = |tag: Tag| async move {
        let is_absent = matches!(source.resolve(&ManifestRef::Tag(tag.clone())).await, Ok(None));
        (!is_absent).then_some(tag)
    };
    join_all(rivals.map(exists)).await.into_iter().flatten().collect()
}
