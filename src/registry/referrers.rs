//! What refers to a manifest (distribution-spec, "Listing Referrers", "Referrers Tag Schema"): by the API where there is
//! one, else by the fallback tag, which is ours to keep up.

use std::collections::{HashMap, HashSet};

use http::header::{ACCEPT, CONTENT_TYPE};
use http::{HeaderValue, Method};
use serde_json::{Value, json};
use url::Url;

use super::Repository;
use super::answer::{Answer, Context};
use super::client::ReferrersApi;
use super::links::Pages;
use super::paging::MAX_PAGE;
use super::referrer_list::{MAX_REFERRERS, ReferrerList};
use super::transport::{Call, Expects};
use crate::oci::{Descriptor, Digest, Manifest, ManifestRef, MediaType, referrers_tag};
use crate::store::{ErrorKind, Listed, Referrers, Step, StoreError};

/// The most bytes of all pages of one list.
const MAX_LIST: usize = 4 * MAX_PAGE;

/// What the referrers API says of a subject.
enum Answered {
    /// These refer to it.
    Listed(ReferrerList),
    /// There is no such API.
    NoApi,
    /// Nobody can tell.
    Unknown(StoreError),
}

/// What one request to the API came to.
enum Asked {
    Listed(ReferrerList),
    /// An answer as registries give that have no such API.
    LikeNoApi(Answer),
}

impl Repository {
    /// By the API, and where that does not answer by the fallback tag. An error only where nothing may be read for now.
    pub(crate) async fn list_referrers(&self, subject: &Digest, fallback: Listed) -> Result<Referrers, StoreError> {
        let context = self.context(Step::ListReferrers, subject);
        let first = self.registry.first_to_probe().await;
        let doubt = match self.ask_api(&context, subject).await {
            Answered::Listed(list) => {
                let doubt = list.doubt();
                return Ok(Referrers { manifests: list.manifests, fallback: None, doubt });
            }
            Answered::NoApi => None,
            Answered::Unknown(error) if error.quota_spent().is_some() => return Err(error),
            Answered::Unknown(error) => Some(error),
        };
        drop(first);
        let found = match self.by_fallback_tag(&context, subject, fallback).await {
            Err(error) if error.quota_spent().is_some() => return Err(error),
            found => found,
        };
        let keeps_lists = self.registry.referrers_api() != ReferrersApi::Present;
        Ok(match (found, doubt) {
            (Ok(found), None) => found,
            // A registry that refuses the API in its own way, and keeps the list under the tag.
            (Ok(found), Some(_)) if keeps_lists && !found.manifests.is_empty() => found,
            (Ok(found), Some(error)) => Referrers { doubt: Some(error.to_string()), ..found },
            (Err(error), None) => Referrers { doubt: Some(error.to_string()), ..Referrers::default() },
            (Err(tag), Some(error)) => {
                let doubt = format!("{error}; and by the fallback tag: {}", tag.detail);
                Referrers { doubt: Some(doubt), ..Referrers::default() }
            }
        })
    }

    /// Asks the API, unless it is known that there is none. An answer as of a registry without it is asked for once more before it is
    /// believed: it may be one odd answer. From a registry that has answered before it is believed in no case.
    async fn ask_api(&self, context: &Context, subject: &Digest) -> Answered {
        if self.registry.referrers_api() == ReferrersApi::Absent {
            return Answered::NoApi;
        }
        let mut last = None;
        for _ in 0..2 {
            match self.referrers_by_api(context, subject).await {
                Ok(Asked::Listed(list)) => return Answered::Listed(list),
                Ok(Asked::LikeNoApi(answer)) => last = Some(answer),
                Err(error) => return Answered::Unknown(error),
            }
        }
        let Some(answer) = last else { return Answered::NoApi };
        if self.registry.referrers_api() == ReferrersApi::Present {
            let detail = format!("{}, though this registry has answered such requests before", answer.detail());
            return Answered::Unknown(context.error(ErrorKind::Invalid, detail));
        }
        // A registry that names what it does not know understood the question.
        if !answer.codes().iter().any(|code| code == "NAME_UNKNOWN" || code == "MANIFEST_UNKNOWN") {
            self.registry.learn_referrers_api(ReferrersApi::Absent);
        }
        Answered::NoApi
    }

    /// One list, all its pages.
    async fn referrers_by_api(&self, context: &Context, subject: &Digest) -> Result<Asked, StoreError> {
        let invalid = |why: String| context.error(ErrorKind::Invalid, why);
        let mut url = self.url(context, &format!("referrers/{subject}"))?;
        let mut pages = Pages::starting_at(&url);
        let (mut all, mut bytes) = (ReferrerList::default(), 0);
        let mut is_first = true;
        loop {
            let answer = self.registry.send(context, self.referrers_call(url.clone())).await?;
            if is_first && is_like_no_api(&answer) {
                return Ok(Asked::LikeNoApi(answer));
            }
            if !answer.status.is_success() {
                return Err(answer.refusal(context));
            }
            let body = answer.bytes();
            let page = ReferrerList::read(&body).map_err(invalid)?;
            if std::mem::take(&mut is_first) {
                self.registry.learn_referrers_api(ReferrersApi::Present);
            }
            bytes += body.len();
            all.manifests.extend(page.manifests);
            all.unreadable += page.unreadable;
            if all.manifests.len() + all.unreadable > MAX_REFERRERS {
                return Err(invalid(format!("more than {MAX_REFERRERS} referrers")));
            }
            if bytes > MAX_LIST {
                return Err(invalid(format!("a list of more than {MAX_LIST} bytes")));
            }
            match pages.after(&url, &answer.headers).map_err(invalid)? {
                Some(next) => url = next,
                None => return Ok(Asked::Listed(all)),
            }
        }
    }

    fn referrers_call(&self, url: Url) -> Call {
        Call::read(Method::GET, url, self.reading())
            .that_lists_referrers()
            .header(ACCEPT, HeaderValue::from_static(MediaType::OCI_INDEX))
            .expects(Expects::Small(MAX_PAGE))
    }

    async fn by_fallback_tag(
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
        // A list with entries that nobody can read is not written on as it is.
        let fallback = Some(list).filter(|_| doubt.is_none());
        Ok(Referrers { manifests: read.manifests, fallback, doubt })
    }

    /// What stands under the fallback tag, if it is a list: at some registries the tag answers with the image itself.
    async fn fallback_list(&self, context: &Context, subject: &Digest) -> Result<Option<Manifest>, StoreError> {
        let tag = ManifestRef::Tag(referrers_tag(subject));
        let found = self.find_manifest(context, &tag).await?;
        Ok(found.filter(|found| found.digest() != *subject && found.media_type().as_str() == MediaType::OCI_INDEX))
    }

    pub(crate) async fn write_referrers(&self, subject: &Digest, referrers: &Referrers) -> Result<(), StoreError> {
        let context = self.context(Step::LinkReferrers, subject);
        let lock = self.registry.lock_of(&self.name, *subject);
        let _turn = lock.lock().await;
        let present = self.fallback_list(&context.at(Step::ListReferrers), subject).await?;
        let merged = merge(present.as_ref(), referrers).map_err(|why| context.error(ErrorKind::Invalid, why))?;
        if let Some(list) = merged {
            self.put_manifest(&context, &list, &ManifestRef::Tag(referrers_tag(subject))).await?;
        }
        Ok(())
    }
}

/// Whether an answer is one that registries without the referrers API give: Artifactory says 406, others show a page for people.
fn is_like_no_api(answer: &Answer) -> bool {
    let is_page = || {
        answer.header(&CONTENT_TYPE).is_some_and(|stated| stated.starts_with("text/html"))
            || answer.bytes().trim_ascii_start().starts_with(b"<")
    };
    match answer.status {
        status if status.is_success() => is_page(),
        status => matches!(status.as_u16(), 400 | 404 | 405 | 406 | 410 | 415 | 501),
    }
}

/// The list to write so that it has everything of both; `None` when nothing is to be added. Entries keep what they say, also where
/// that is wrong (GHCR states another `artifactType`), and the source's list is taken verbatim where there is none and nothing of
/// it was left behind.
fn merge(present: Option<&Manifest>, referrers: &Referrers) -> Result<Option<Manifest>, String> {
    let theirs = referrers.fallback.as_ref().map(entries).transpose()?.unwrap_or_default();
    let theirs: HashMap<&str, &Value> = theirs.iter().filter_map(|entry| Some((digest_in(entry)?, entry))).collect();
    let covered = |descriptor: &Descriptor| theirs.contains_key(descriptor.digest.to_string().as_str());
    let carried: HashSet<String> = referrers.manifests.iter().map(|one| one.digest.to_string()).collect();
    if let (None, Some(fallback)) = (present, &referrers.fallback)
        && referrers.manifests.iter().all(covered)
        && theirs.keys().all(|digest| carried.contains(*digest))
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
        return Err("the list at the target has no manifests".to_owned());
    };
    let before = entries.len();
    let mut has: HashSet<String> = entries.iter().filter_map(digest_in).map(str::to_owned).collect();
    for descriptor in &referrers.manifests {
        let digest = descriptor.digest.to_string();
        if !has.contains(&digest) {
            let verbatim = theirs.get(digest.as_str()).map(|entry| (*entry).clone());
            entries.push(verbatim.unwrap_or_else(|| written(descriptor)));
            has.insert(digest);
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
        let manifests = ReferrerList::read(list.bytes()).unwrap().manifests;
        Referrers { manifests, fallback: with_list.then(|| list.clone()), doubt: None }
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
    fn a_list_of_which_some_was_left_behind_is_written_without_that() {
        let theirs = list(&["a", "b"]);
        let carried = Referrers { fallback: Some(theirs), ..referrers(&list(&["a"]), false) };
        let merged = merge(None, &carried).unwrap().unwrap();
        let json: Value = serde_json::from_slice(merged.bytes()).unwrap();
        assert_eq!(json["manifests"], json!([entry("a")]), "the entry that is carried keeps what it says");
    }

    #[test]
    fn a_list_with_null_for_its_manifests_is_added_to() {
        let empty = json!({"schemaVersion": 2, "mediaType": MediaType::OCI_INDEX, "manifests": null}).to_string();
        let present = Manifest::new(MediaType::new(MediaType::OCI_INDEX), empty.into());
        let merged = merge(Some(&present), &referrers(&list(&["a"]), true)).unwrap().unwrap();
        let json: Value = serde_json::from_slice(merged.bytes()).unwrap();
        assert_eq!(json["manifests"], json!([entry("a")]));
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
