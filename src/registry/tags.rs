//! The tag listing (distribution-spec, "Listing Tags"), page by page, with digests where a registry adds them or has a
//! listing of its own that tells them.

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
use crate::oci::{Digest, RepositoryName, Tag};
use crate::store::{ErrorKind, Step, StoreError, TagEntry};

/// How many tags a page is asked to have. Azure gives no more at once (Azure/acr, issue 749).
const PAGE: usize = 1000;

/// The largest page that is read. The registries of Google add every digest to it.
pub(crate) const MAX_PAGE: usize = 32 * 1024 * 1024;

/// The ways to list tags.
#[derive(Debug, Clone, Copy)]
enum Listing {
    /// distribution-spec's.
    Standard,
    /// Azure Container Registry's own (its REST reference, "Tag - Get List"), which tells digests.
    Acr,
}

/// A listing under way.
#[derive(Debug)]
struct Walk {
    listing: Listing,
    pages: Pages,
    next: Url,
}

/// Some tags, and where there are more.
type Page = (Vec<TagEntry>, Option<Walk>);

enum Next {
    First,
    Further(Walk),
}

impl Listing {
    fn path(self, name: &RepositoryName) -> String {
        match self {
            Self::Standard => format!("/v2/{name}/tags/list?n={PAGE}"),
            Self::Acr => format!("/acr/v1/{name}/_tags?n={PAGE}"),
        }
    }

    fn scopes(self, repository: &Repository) -> Scopes {
        match self {
            Self::Standard => repository.reading(),
            Self::Acr => Scopes::metadata(&repository.name),
        }
    }
}

impl Repository {
    pub(crate) fn list_tags(&self) -> BoxStream<'_, Result<TagEntry, StoreError>> {
        let context = self.context(Step::ListTags, "");
        stream::try_unfold(Some(Next::First), move |next| {
            let context = context.clone();
            async move {
                let (entries, walk) = match next {
                    None => return Ok(None),
                    Some(Next::First) => self.first_tags(&context).await?,
                    Some(Next::Further(walk)) => self.tag_page(&context, walk).await?,
                };
                Ok(Some((stream::iter(entries.into_iter().map(Ok)), walk.map(Next::Further))))
            }
        })
        .try_flatten()
        .boxed()
    }

    /// The first page, in the registry's own way where it has one. If that is refused and the standard one is not, it is not
    /// tried again: the rights to the one may be given without those to the other.
    async fn first_tags(&self, context: &Context) -> Result<Page, StoreError> {
        let mut refused = None;
        if self.registry.has_own_listing() {
            match self.tag_page(context, self.begin(context, Listing::Acr)?).await {
                Err(error) if is_refusal(error.kind) => refused = Some(error),
                page => return page,
            }
        }
        let page = self.tag_page(context, self.begin(context, Listing::Standard)?).await?;
        if let Some(error) = refused {
            tracing::debug!("tags are listed without digests from now on: {error}");
            self.registry.learn_own_listing_is_refused();
        }
        Ok(page)
    }

    fn begin(&self, context: &Context, listing: Listing) -> Result<Walk, StoreError> {
        let next = self.registry.address(&listing.path(&self.name));
        let next = next.map_err(|error| context.error(ErrorKind::Invalid, error))?;
        Ok(Walk { listing, pages: Pages::starting_at(&next), next })
    }

    async fn tag_page(&self, context: &Context, walk: Walk) -> Result<Page, StoreError> {
        let Walk { listing, mut pages, next: url } = walk;
        let call = Call::read(Method::GET, url.clone(), listing.scopes(self)).expects(Expects::Small(MAX_PAGE));
        let answer = self.registry.send(context, call).await?;
        if !answer.status.is_success() {
            return Err(answer.refusal(context));
        }
        let entries = self
            .read_tags(listing, &answer.bytes())
            .map_err(|error| context.error(ErrorKind::Invalid, answer.unreadable(&error)))?;
        let next = pages.after(&url, &answer.headers).map_err(|why| context.error(ErrorKind::Invalid, why))?;
        Ok((entries, next.map(|next| Walk { listing, pages, next })))
    }

    fn read_tags(&self, listing: Listing, bytes: &[u8]) -> serde_json::Result<Vec<TagEntry>> {
        Ok(match listing {
            Listing::Acr => described(serde_json::from_slice(bytes)?),
            Listing::Standard => {
                let list: TagList = serde_json::from_slice(bytes)?;
                if list.manifest.is_some() {
                    self.registry.learn_digests_are_listed();
                }
                entries(list)
            }
        })
    }
}

/// Whether a listing is not to be had, as against a failure that passes.
fn is_refusal(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::Denied | ErrorKind::NotFound | ErrorKind::Unsupported)
}

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

fn entries(list: TagList) -> Vec<TagEntry> {
    let mut digests: HashMap<String, Digest> = HashMap::new();
    for (digest, tagged) in list.manifest.unwrap_or_default() {
        if let Ok(digest) = digest.parse::<Digest>() {
            digests.extend(tagged.tag.into_iter().map(|tag| (tag, digest)));
        }
    }
    let entry = |name: String| {
        let digest = digests.get(&name).copied();
        entry(name, digest)
    };
    list.tags.unwrap_or_default().into_iter().map(entry).collect()
}

/// Azure's list: one item a tag.
#[derive(Deserialize)]
struct DescribedTags {
    #[serde(default)]
    tags: Option<Vec<DescribedTag>>,
}

#[derive(Deserialize)]
struct DescribedTag {
    name: String,
    #[serde(default)]
    digest: Option<String>,
}

fn described(list: DescribedTags) -> Vec<TagEntry> {
    let tags = list.tags.unwrap_or_default().into_iter();
    tags.map(|tag| entry(tag.name, tag.digest.and_then(|digest| digest.parse().ok()))).collect()
}

/// Artifactory lists the folder of its uploads among the tags.
const NO_TAG: &str = "_uploads";

fn entry(name: String, digest: Option<Digest>) -> TagEntry {
    match name.parse::<Tag>() {
        Ok(tag) if name != NO_TAG => TagEntry::Tag(tag, digest),
        _ => TagEntry::Unusable(name),
    }
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

    #[test]
    fn azures_list_has_an_item_for_each_tag() {
        let digest = Digest::of(b"x");
        let json = format!(
            r#"{{"registry":"h","imageName":"a","tags":[{{"name":"v1","digest":"{digest}","signed":false}},{{"name":"v2"}},{{"name":"sha256:a","digest":"x"}}]}}"#
        );
        let tag = |name: &str, digest| TagEntry::Tag(name.parse().unwrap(), digest);
        let read = |json: &str| described(serde_json::from_str(json).unwrap());
        assert_eq!(read(&json), [tag("v1", Some(digest)), tag("v2", None), TagEntry::Unusable("sha256:a".into())]);
        assert_eq!((read("{}"), read(r#"{"tags":null}"#)), (vec![], vec![]));
    }
}
