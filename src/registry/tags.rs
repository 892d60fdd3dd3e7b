//! The tag listing (distribution-spec, "Listing Tags"), page by page, with digests where a registry adds them.

use std::collections::HashMap;

use futures_util::stream::{self, BoxStream};
use futures_util::{StreamExt as _, TryStreamExt as _};
use http::Method;
use serde::Deserialize;
use url::Url;

use super::Repository;
use super::answer::Context;
use super::links::Pages;
use super::scope::Scopes;
use super::transport::{Call, Expects};
use crate::oci::{Digest, Tag};
use crate::store::{ErrorKind, Step, StoreError, TagEntry};

/// How many tags a page is asked to have.
const PAGE: usize = 1000;

/// The largest page that is read. The registries of Google add every digest to it.
pub(crate) const MAX_PAGE: usize = 32 * 1024 * 1024;

#[derive(Deserialize)]
struct TagList {
    #[serde(default)]
    tags: Option<Vec<String>>,
    /// Google's addition: digest -> its tags.
    #[serde(default)]
    manifest: Option<HashMap<String, Tagged>>,
}

#[derive(Deserialize)]
struct Tagged {
    #[serde(default)]
    tag: Vec<String>,
}

impl Repository {
    pub(crate) fn list_tags(&self) -> BoxStream<'_, Result<TagEntry, StoreError>> {
        let context = self.context(Step::ListTags, "");
        let first = match self.url(&context, &format!("tags/list?n={PAGE}")) {
            Ok(url) => url,
            Err(error) => return stream::iter([Err(error)]).boxed(),
        };
        let start = Some((Pages::starting_at(&first), first));
        stream::try_unfold(start, move |next| {
            let context = context.clone();
            async move {
                let Some((mut pages, url)) = next else { return Ok(None) };
                let (entries, next) = self.tag_page(&context, url, &mut pages).await?;
                Ok(Some((stream::iter(entries.into_iter().map(Ok)), next.map(|url| (pages, url)))))
            }
        })
        .try_flatten()
        .boxed()
    }

    async fn tag_page(
        &self,
        context: &Context,
        url: Url,
        pages: &mut Pages,
    ) -> Result<(Vec<TagEntry>, Option<Url>), StoreError> {
        let call = Call::read(Method::GET, url.clone(), Scopes::pull(&self.name)).expects(Expects::Small(MAX_PAGE));
        let answer = self.registry.send(context, call).await?;
        if !answer.status.is_success() {
            return Err(answer.refusal(context));
        }
        let list: TagList = serde_json::from_slice(&answer.bytes())
            .map_err(|error| context.error(ErrorKind::Invalid, format!("the list cannot be read: {error}")))?;
        if list.manifest.is_some() {
            self.registry.learn_digests_are_listed();
        }
        let next = pages.after(&url, &answer.headers).map_err(|why| context.error(ErrorKind::Invalid, why))?;
        Ok((entries(list), next))
    }
}

fn entries(list: TagList) -> Vec<TagEntry> {
    let mut digests: HashMap<String, Digest> = HashMap::new();
    for (digest, tagged) in list.manifest.unwrap_or_default() {
        if let Ok(digest) = digest.parse::<Digest>() {
            digests.extend(tagged.tag.into_iter().map(|tag| (tag, digest)));
        }
    }
    let entry = |name: String| match name.parse::<Tag>() {
        Ok(tag) => TagEntry::Tag(tag, digests.get(&name).copied()),
        Err(_) => TagEntry::Unusable(name),
    };
    list.tags.unwrap_or_default().into_iter().map(entry).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(json: &str) -> Vec<TagEntry> {
        entries(serde_json::from_str(json).unwrap())
    }

    #[test]
    fn no_tags_come_in_three_shapes() {
        for json in [r#"{"name":"a","tags":null}"#, r#"{"name":"a","tags":[]}"#, r#"{"name":"a"}"#] {
            assert_eq!(read(json), []);
        }
    }

    #[test]
    fn a_name_that_is_no_tag_is_told_and_digests_of_the_listing_are_kept() {
        let digest = Digest::of(b"x");
        let json = format!(
            r#"{{"tags":["v1","sha256:a","v2"],"manifest":{{"{digest}":{{"tag":["v1","old"],"imageSizeBytes":"1"}},"md5:1":{{}}}}}}"#
        );
        let tag = |name: &str, digest| TagEntry::Tag(name.parse().unwrap(), digest);
        assert_eq!(read(&json), [tag("v1", Some(digest)), TagEntry::Unusable("sha256:a".into()), tag("v2", None)]);
    }
}
