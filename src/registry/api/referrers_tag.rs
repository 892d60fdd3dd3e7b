//! Fallback tag of a manifest, such as `sha256-<hex>` (distribution-spec, "Referrers Tag Schema"). The tag points at
//! the list of the manifest's referrers. This file reads the list, and adds entries to the list. Some tools store
//! images under tags of the same form. The client never replaces content that is not a list of referrers.

use std::collections::{HashMap, HashSet};

use serde_json::{Value, json};

use super::referrer_list::ReferrerList;
use crate::oci::{Descriptor, Digest, Manifest, ManifestRef, MediaType, Tag, referrers_tag};
use crate::registry::Repository;
use crate::registry::http::context::Context;
use crate::store::{ErrorKind, Listed, Referrers, Step, StoreError};

/// Maximum number of manifests that the client reads to determine whether an index is a list of referrers.
const MAX_PROBED: usize = 100;

/// Content of a fallback tag at a target.
enum Tagged {
    Nothing,
    /// List of the referrers of the subject.
    List(Manifest),
    /// Content that is not a list of referrers of the subject. The value describes the content for an error message.
    Other(String),
}

impl Repository {
    /// Returns the referrers in the list under the fallback tag. If the tag does not exist, or points at content that
    /// is not an index, returns no referrers. If `fallback` is [`Listed::Absent`], sends no request.
    pub(crate) async fn list_by_fallback_tag(
        &self,
        context: &Context,
        subject: &Digest,
        fallback: Listed,
    ) -> Result<Referrers, StoreError> {
        if fallback == Listed::Absent {
            return Ok(Referrers::default());
        }
        let Some(list) = self.fallback_list(context, subject).await? else { return Ok(Referrers::default()) };
        let read = ReferrerList::read(list.bytes()).map_err(|why| context.error(ErrorKind::Invalid, why))?;
        let doubt = read.doubt();
        // Callers copy `fallback` verbatim, so `fallback` must not have unreadable entries.
        let fallback = Some(list).filter(|_| doubt.is_none());
        Ok(Referrers { manifests: read.manifests, fallback, doubt })
    }

    /// Returns the index under the fallback tag. Returns `None` if the tag does not exist, or if the tag points at
    /// content that is not an index. Also returns `None` if the content is the subject itself, because some registries
    /// return the subject under this tag.
    async fn fallback_list(&self, context: &Context, subject: &Digest) -> Result<Option<Manifest>, StoreError> {
        let tag = ManifestRef::Tag(referrers_tag(subject));
        let found = self.find_manifest(context, &tag).await?;
        Ok(found.filter(|found| found.digest() != *subject && found.media_type().as_str() == MediaType::OCI_INDEX))
    }

    /// Adds `referrers` to the list under the fallback tag. A lock serializes concurrent additions of this process.
    ///
    /// # Errors
    /// - [`ErrorKind::Refused`] if the tag points at content that is not a list of referrers of this subject. The
    ///   client does not change the tag.
    /// - The error of the read if the client cannot read the tag. The client does not change the tag.
    pub(crate) async fn write_referrers(&self, subject: &Digest, referrers: &Referrers) -> Result<(), StoreError> {
        let context = self.context(Step::LinkReferrers, subject);
        let lock = self.registry.facts().referrers.list_lock(&self.name, *subject);
        let _guard = lock.lock().await;
        let present = match self
            .read_fallback_tag(&context.at_step(Step::ListReferrers), &referrers_tag(subject), referrers)
            .await?
        {
            Tagged::Nothing => None,
            Tagged::List(list) => Some(list),
            Tagged::Other(content) => {
                let tag = referrers_tag(subject);
                let detail =
                    format!("the tag {tag} points at {content}, not at a list of referrers: the tag was not changed");
                return Err(context.error(ErrorKind::Refused, detail));
            }
        };
        let merged = merge(present.as_ref(), referrers).map_err(|why| context.error(ErrorKind::Invalid, why))?;
        if let Some(list) = merged {
            self.put_manifest(&context, &list, &ManifestRef::Tag(referrers_tag(subject))).await?;
        }
        Ok(())
    }

    /// Returns true if a tag points at a list of referrers.
    pub(crate) async fn is_referrers_list(&self, tag: &Tag) -> Result<bool, StoreError> {
        let context = self.context(Step::ListReferrers, tag);
        Ok(matches!(self.read_fallback_tag(&context, tag, &Referrers::default()).await?, Tagged::List(_)))
    }

    /// Reads the content of the fallback tag, and determines the kind of the content. An index counts as a list if the
    /// index contains one of `referrers`, or if [`Self::lists_referrers`] returns true.
    async fn read_fallback_tag(
        &self,
        context: &Context,
        tag: &Tag,
        referrers: &Referrers,
    ) -> Result<Tagged, StoreError> {
        let reference = ManifestRef::Tag(tag.clone());
        let Some(found) = self.find_manifest(context, &reference).await? else { return Ok(Tagged::Nothing) };
        if referrers_tag(&found.digest()) == *tag {
            return Ok(Tagged::Other("the image itself".to_owned()));
        }
        if found.media_type().as_str() != MediaType::OCI_INDEX {
            return Ok(Tagged::Other(format!("{} ({})", found.digest(), found.media_type())));
        }
        let listed = entries(&found).map_err(|why| context.error(ErrorKind::Invalid, why))?;
        let known: HashSet<String> =
            referrers.manifests.iter().map(|descriptor| descriptor.digest.to_string()).collect();
        let has_known = listed.iter().filter_map(digest_in).any(|digest| known.contains(digest));
        if has_known || self.lists_referrers(context, tag, &listed).await? {
            return Ok(Tagged::List(found));
        }
        Ok(Tagged::Other(format!("the index {}", found.digest())))
    }

    /// Returns true if the entries `listed` of an index are referrers of the subject of the fallback tag `tag`. The
    /// client reads the listed manifests. One of these conditions must be true:
    ///
    /// - One of the listed manifests names the subject.
    /// - The registry has none of the listed manifests, and no entry states a platform. Entries of images state
    ///   platforms.
    /// - The index has no entries.
    async fn lists_referrers(&self, context: &Context, tag: &Tag, listed: &[Value]) -> Result<bool, StoreError> {
        let mut may_be_list = listed.len() <= MAX_PROBED;
        for entry in listed.iter().take(MAX_PROBED) {
            let Some(digest) = digest_in(entry).and_then(|digest| digest.parse::<Digest>().ok()) else { continue };
            match self.find_manifest(context, &digest.into()).await? {
                None => may_be_list &= entry.get("platform").is_none_or(Value::is_null),
                Some(child) => match child.view().ok().and_then(|view| view.subject) {
                    Some(named) if referrers_tag(&named) == *tag => return Ok(true),
                    _ => may_be_list = false,
                },
            }
        }
        Ok(may_be_list)
    }
}

/// Merges `referrers` into the list at the target. Returns `None` if the list at the target already contains each of
/// `referrers`. The merge never changes an existing entry.
///
/// If the target has no list, and `referrers` contains exactly the entries of the source's list, returns the source's
/// list unchanged.
fn merge(present: Option<&Manifest>, referrers: &Referrers) -> Result<Option<Manifest>, String> {
    let from_source = referrers.fallback.as_ref().map(entries).transpose()?.unwrap_or_default();
    let from_source: HashMap<&str, &Value> =
        from_source.iter().filter_map(|entry| Some((digest_in(entry)?, entry))).collect();
    let is_listed = |descriptor: &Descriptor| from_source.contains_key(descriptor.digest.to_string().as_str());
    let copied: HashSet<String> = referrers.manifests.iter().map(|descriptor| descriptor.digest.to_string()).collect();
    if let (None, Some(fallback)) = (present, &referrers.fallback)
        && referrers.manifests.iter().all(is_listed)
        && from_source.keys().all(|digest| copied.contains(*digest))
    {
        return Ok(Some(fallback.clone()));
    }
    let mut list: Value = match present {
        Some(present) => serde_json::from_slice(present.json()).map_err(|error| error.to_string())?,
        None => json!({"schemaVersion": 2, "mediaType": MediaType::OCI_INDEX, "manifests": []}),
    };
    if list.get("manifests").is_none_or(Value::is_null) {
        list["manifests"] = json!([]);
    }
    let Some(entries) = list.get_mut("manifests").and_then(Value::as_array_mut) else {
        return Err("`manifests` of the list at the target is not an array".to_owned());
    };
    let before = entries.len();
    let mut present_digests: HashSet<String> = entries.iter().filter_map(digest_in).map(str::to_owned).collect();
    for descriptor in &referrers.manifests {
        let digest = descriptor.digest.to_string();
        if !present_digests.contains(&digest) {
            let verbatim = from_source.get(digest.as_str()).map(|entry| (*entry).clone());
            entries.push(verbatim.unwrap_or_else(|| entry_from_descriptor(descriptor)));
            present_digests.insert(digest);
        }
    }
    if entries.len() == before {
        return Ok(None);
    }
    let bytes = serde_json::to_vec(&list).map_err(|error| error.to_string())?;
    Ok(Some(Manifest::new(MediaType::new(MediaType::OCI_INDEX), bytes.into())))
}

fn entries(list: &Manifest) -> Result<Vec<Value>, String> {
    let list: Value = serde_json::from_slice(list.json()).map_err(|error| error.to_string())?;
    Ok(list.get("manifests").and_then(Value::as_array).cloned().unwrap_or_default())
}

fn digest_in(entry: &Value) -> Option<&str> {
    entry.get("digest").and_then(Value::as_str)
}

fn entry_from_descriptor(descriptor: &Descriptor) -> Value {
    let mut entry = json!({
        "mediaType": descriptor.media_type,
        "digest": descriptor.digest,
        "size": descriptor.size,
    });
    if let (Some(artifact_type), Some(entry)) = (&descriptor.artifact_type, entry.as_object_mut()) {
        entry.insert("artifactType".to_owned(), artifact_type.clone().into());
    }
    entry
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(content: &str) -> Value {
        json!({"mediaType": MediaType::OCI_MANIFEST, "digest": Digest::of(content.as_bytes()), "size": 3,
               "artifactType": "a/b", "annotations": {"of": content}})
    }

    fn list(contents: &[&str]) -> Manifest {
        let entries: Vec<Value> = contents.iter().map(|content| entry(content)).collect();
        let body = json!({"schemaVersion": 2, "mediaType": MediaType::OCI_INDEX, "manifests": entries, "x-kept": 1});
        Manifest::new(MediaType::new(MediaType::OCI_INDEX), body.to_string().into())
    }

    fn referrers(list: &Manifest, with_list: bool) -> Referrers {
        let manifests = ReferrerList::read(list.bytes()).unwrap().manifests;
        Referrers { manifests, fallback: with_list.then(|| list.clone()), doubt: None }
    }

    #[test]
    fn list_is_copied_verbatim_to_target_without_list() {
        let from_source = list(&["a"]);
        assert_eq!(merge(None, &referrers(&from_source, true)).unwrap(), Some(from_source));
    }

    #[test]
    fn merge_adds_missing_entries_without_changing_any() {
        let (ours, from_source) = (list(&["a"]), list(&["a", "b"]));
        let merged = merge(Some(&ours), &referrers(&from_source, true)).unwrap().unwrap();
        let json: Value = serde_json::from_slice(merged.bytes()).unwrap();
        assert_eq!(json["manifests"], json!([entry("a"), entry("b")]));
        assert_eq!(json["x-kept"], 1);
        assert_eq!(merge(Some(&merged), &referrers(&from_source, true)).unwrap(), None);
    }

    #[test]
    fn entries_of_uncopied_referrers_are_not_written() {
        let from_source = list(&["a", "b"]);
        let copied = Referrers { fallback: Some(from_source), ..referrers(&list(&["a"]), false) };
        let merged = merge(None, &copied).unwrap().unwrap();
        let json: Value = serde_json::from_slice(merged.bytes()).unwrap();
        assert_eq!(json["manifests"], json!([entry("a")]), "the copied entry is unchanged");
    }

    #[test]
    fn entries_are_added_to_list_with_null_manifests() {
        let empty = json!({"schemaVersion": 2, "mediaType": MediaType::OCI_INDEX, "manifests": null}).to_string();
        let present = Manifest::new(MediaType::new(MediaType::OCI_INDEX), empty.into());
        let merged = merge(Some(&present), &referrers(&list(&["a"]), true)).unwrap().unwrap();
        let json: Value = serde_json::from_slice(merged.bytes()).unwrap();
        assert_eq!(json["manifests"], json!([entry("a")]));
    }

    #[test]
    fn new_list_is_written_if_neither_side_has_one() {
        let from_source = list(&["a"]);
        let merged = merge(None, &referrers(&from_source, false)).unwrap().unwrap();
        let json: Value = serde_json::from_slice(merged.bytes()).unwrap();
        assert_eq!(json["manifests"][0]["digest"], Digest::of(b"a").to_string());
        assert_eq!(json["manifests"][0]["artifactType"], "a/b");
        assert_eq!(json["mediaType"], MediaType::OCI_INDEX);
    }
}
