//! Names of tags at the targets and in reports, and the rivals of a pushed tag: other tags of the source that would get
//! the same name at the target.

use futures_util::future::join_all;

use crate::config::Entry;
use crate::oci::{ManifestRef, Tag};
use crate::plan::Selected;
use crate::store::{Side, Source};
use crate::sync::TagOutcome;

/// Returns the tag at a target for a tag of the source. For a digest, returns the same digest.
///
/// # Errors
/// [`TagOutcome::Failed`] if the name at the target is not a valid tag.
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

#[derive(Debug, PartialEq, Eq)]
pub(crate) struct ReportedTag {
    /// Tag at the target; `None` for a digest.
    pub(crate) tag: Option<Tag>,
    /// Tag at the source, if the tag has a different name at the target.
    pub(crate) source_tag: Option<Tag>,
}

impl ReportedTag {
    /// Returns the names of a tag or digest of the source. If the name at the target is invalid, the report contains
    /// the name at the source.
    pub(crate) fn new(entry: &Entry, reference: &ManifestRef) -> Self {
        let ManifestRef::Tag(tag) = reference else { return Self { tag: None, source_tag: None } };
        match entry.names.target_tag(tag) {
            Ok(name) if *name != *tag => Self { tag: Some(name.into_owned()), source_tag: Some(tag.clone()) },
            _ => Self { tag: Some(tag.clone()), source_tag: None },
        }
    }
}

/// Returns the rivals of the tags in `selected`. A rival is another tag of the source that the entry's selection takes
/// and that gets the same name at the target. In a run for pushed tags, `selected` contains only the pushed tags. The
/// function requests each possible rival from the source. If the request fails, the rival counts as existing.
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
