//! What refers to a manifest (distribution-spec, "Listing Referrers", "Referrers Tag Schema"): by the API where there is
//! one, else by the fallback tag, which is ours to keep up.

use futures_util::TryStreamExt as _;
use futures_util::stream;
use http::header::{ACCEPT, CONTENT_TYPE};
use http::{HeaderValue, Method, StatusCode};
use serde_json::{Value, json};
use url::Url;

use super::Repository;
use super::answer::{Answer, Context};
use super::client::ReferrersApi;
use super::links::Pages;
use super::manifests::MAX_MANIFEST;
use super::transport::{Call, Expects};
use crate::oci::{Children, Descriptor, Digest, Manifest, ManifestRef, MediaType, referrers_tag};
use crate::store::{ErrorKind, Listed, Referrers, Step, StoreError};

/// The most referrers of one manifest.
const MAX_REFERRERS: usize = 10_000;

impl Repository {
    pub(crate) async fn list_referrers(&self, subject: &Digest, fallback: Listed) -> Result<Referrers, StoreError> {
        let context = self.context(Step::ListReferrers, subject);
        let first = self.registry.first_to_probe().await;
        if self.registry.referrers_api() != ReferrersApi::Absent
            && let Some(manifests) = self.referrers_by_api(&context, subject).await?
        {
            return Ok(Referrers { manifests, fallback: None });
        }
        drop(first);
        if fallback == Listed::Absent {
            return Ok(Referrers::default());
        }
        let Some(list) = self.fallback_list(&context, subject).await? else { return Ok(Referrers::default()) };
        let manifests = listed(&list).map_err(|why| context.error(ErrorKind::Invalid, why))?;
        Ok(Referrers { manifests, fallback: Some(list) })
    }

    /// `None` where there is no API.
    async fn referrers_by_api(
        &self,
        context: &Context,
        subject: &Digest,
    ) -> Result<Option<Vec<Descriptor>>, StoreError> {
        let first = self.url(context, &format!("referrers/{subject}"))?;
        let mut pages = Pages::starting_at(&first);
        let answer = self.registry.send(context, self.referrers_call(first.clone())).await?;
        if self.is_without_api(&answer) {
            return Ok(None);
        }
        let (found, next) = referrers_page(context, &answer, &first, &mut pages)?;
        self.registry.learn_referrers_api(ReferrersApi::Present);
        let more = stream::try_unfold((next, pages), |(next, mut pages)| async {
            let Some(url) = next else { return Ok::<_, StoreError>(None) };
            let answer = self.registry.send(context, self.referrers_call(url.clone())).await?;
            let (found, next) = referrers_page(context, &answer, &url, &mut pages)?;
            Ok(Some((found, (next, pages))))
        });
        let all = more.try_fold(found, |mut all, page| async {
            all.extend(page);
            if all.len() > MAX_REFERRERS {
                return Err(context.error(ErrorKind::Invalid, format!("more than {MAX_REFERRERS} referrers")));
            }
            Ok(all)
        });
        all.await.map(Some)
    }

    fn referrers_call(&self, url: Url) -> Call {
        Call::read(Method::GET, url, self.reading())
            .that_lists_referrers()
            .header(ACCEPT, HeaderValue::from_static(MediaType::OCI_INDEX))
            .expects(Expects::Small(MAX_MANIFEST))
    }

    /// Whether an answer means that there is no API, and remembers it.
    fn is_without_api(&self, answer: &Answer) -> bool {
        // A page for people: whatever is asked of it, it answers so.
        let is_page =
            answer.status.is_success() && answer.header(&CONTENT_TYPE).is_some_and(|t| t.starts_with("text/html"));
        let refuses =
            matches!(answer.status, StatusCode::NOT_FOUND | StatusCode::BAD_REQUEST | StatusCode::METHOD_NOT_ALLOWED);
        if !is_page && !refuses {
            return false;
        }
        // A registry that names what it does not know understood the question.
        if !answer.codes().iter().any(|code| code == "NAME_UNKNOWN" || code == "MANIFEST_UNKNOWN") {
            self.registry.learn_referrers_api(ReferrersApi::Absent);
        }
        true
    }

    /// What stands under the fallback tag, if it is a list: at some registries the tag answers with the image itself.
    async fn fallback_list(&self, context: &Context, subject: &Digest) -> Result<Option<Manifest>, StoreError> {
        let tag = ManifestRef::Tag(referrers_tag(subject));
        let found = self.find_manifest(context, &tag).await?;
        Ok(found.filter(|found| found.digest() != *subject && found.media_type().as_str() == MediaType::OCI_INDEX))
    }

    pub(crate) async fn write_referrers(
        &self,
        subject: &Digest,
        referrers: &Referrers,
        list: Listed,
    ) -> Result<(), StoreError> {
        let context = self.context(Step::LinkReferrers, subject);
        let lock = self.registry.lock_of(&self.name, *subject);
        let _turn = lock.lock().await;
        let present = match list {
            Listed::Absent => None,
            Listed::Perhaps => self.fallback_list(&context.at(Step::ListReferrers), subject).await?,
        };
        let merged = merge(present.as_ref(), referrers).map_err(|why| context.error(ErrorKind::Invalid, why))?;
        if let Some(list) = merged {
            self.put_manifest(&context, &list, &ManifestRef::Tag(referrers_tag(subject))).await?;
        }
        Ok(())
    }
}

fn referrers_page(
    context: &Context,
    answer: &Answer,
    url: &Url,
    pages: &mut Pages,
) -> Result<(Vec<Descriptor>, Option<Url>), StoreError> {
    if !answer.status.is_success() {
        return Err(answer.refusal(context));
    }
    let stated = answer.header(&CONTENT_TYPE).map(MediaType::new);
    let list = Manifest::received(stated.as_ref(), answer.bytes(), None);
    let found = listed(&list).map_err(|why| context.error(ErrorKind::Invalid, why))?;
    let next = pages.after(url, &answer.headers).map_err(|why| context.error(ErrorKind::Invalid, why))?;
    Ok((found, next))
}

/// The manifests that a list lists.
fn listed(list: &Manifest) -> Result<Vec<Descriptor>, String> {
    match list.view().map_err(|error| format!("the list cannot be read: {error}"))?.children {
        Children::Manifests(manifests) => Ok(manifests),
        Children::Blobs { .. } => Err("the list is an image".to_owned()),
    }
}

/// The list to write so that it has everything of both; `None` when nothing is to be added. Entries keep what they say, and the
/// source's list is taken verbatim where there is none.
fn merge(present: Option<&Manifest>, referrers: &Referrers) -> Result<Option<Manifest>, String> {
    let theirs = referrers.fallback.as_ref().map(entries).transpose()?.unwrap_or_default();
    let covered = |descriptor: &Descriptor| has(&theirs, &descriptor.digest);
    if let (None, Some(fallback)) = (present, &referrers.fallback)
        && referrers.manifests.iter().all(covered)
    {
        return Ok(Some(fallback.clone()));
    }
    let mut list: Value = match present {
        Some(present) => serde_json::from_slice(present.bytes()).map_err(|error| error.to_string())?,
        None => json!({"schemaVersion": 2, "mediaType": MediaType::OCI_INDEX, "manifests": []}),
    };
    let Some(entries) = list.get_mut("manifests").and_then(Value::as_array_mut) else {
        return Err("the list at the target has no manifests".to_owned());
    };
    let before = entries.len();
    for descriptor in &referrers.manifests {
        if !has(entries, &descriptor.digest) {
            let verbatim = theirs.iter().find(|entry| is_of(entry, &descriptor.digest)).cloned();
            entries.push(verbatim.unwrap_or_else(|| written(descriptor)));
        }
    }
    if entries.len() == before {
        return Ok(None);
    }
    let bytes = serde_json::to_vec(&list).map_err(|error| error.to_string())?;
    Ok(Some(Manifest::new(MediaType::new(MediaType::OCI_INDEX), bytes.into())))
}

fn entries(list: &Manifest) -> Result<Vec<Value>, String> {
    let list: Value = serde_json::from_slice(list.bytes()).map_err(|error| error.to_string())?;
    Ok(list.get("manifests").and_then(Value::as_array).cloned().unwrap_or_default())
}

fn has(entries: &[Value], digest: &Digest) -> bool {
    entries.iter().any(|entry| is_of(entry, digest))
}

fn is_of(entry: &Value, digest: &Digest) -> bool {
    entry.get("digest").and_then(Value::as_str) == Some(digest.to_string().as_str())
}

fn written(descriptor: &Descriptor) -> Value {
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
        Referrers { manifests: listed(list).unwrap(), fallback: with_list.then(|| list.clone()) }
    }

    #[test]
    fn a_list_is_taken_verbatim_where_there_is_none() {
        let theirs = list(&["a"]);
        assert_eq!(merge(None, &referrers(&theirs, true)).unwrap(), Some(theirs));
    }

    #[test]
    fn merging_adds_what_is_missing_and_keeps_what_entries_say() {
        let (ours, theirs) = (list(&["a"]), list(&["a", "b"]));
        let merged = merge(Some(&ours), &referrers(&theirs, true)).unwrap().unwrap();
        let json: Value = serde_json::from_slice(merged.bytes()).unwrap();
        assert_eq!(json["manifests"], json!([entry("a"), entry("b")]));
        assert_eq!(json["x-kept"], 1);
        assert_eq!(merge(Some(&merged), &referrers(&theirs, true)).unwrap(), None);
    }

    #[test]
    fn without_a_list_at_either_side_one_is_written() {
        let theirs = list(&["a"]);
        let merged = merge(None, &referrers(&theirs, false)).unwrap().unwrap();
        let json: Value = serde_json::from_slice(merged.bytes()).unwrap();
        assert_eq!(json["manifests"][0]["digest"], Digest::of(b"a").to_string());
        assert_eq!(json["manifests"][0]["artifactType"], "a/b");
        assert_eq!(json["mediaType"], MediaType::OCI_INDEX);
    }
}
