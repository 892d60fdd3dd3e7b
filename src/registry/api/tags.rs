//! Tag listing (distribution-spec, "Listing Tags"), page by page. Google's registries add digests to the standard
//! listing. Azure has a separate listing with digests. The stream yields each tag once.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::fmt;

use futures_util::stream::{self, BoxStream};
use futures_util::{StreamExt as _, TryStreamExt as _};
use http::Method;
use serde::Deserialize;
use serde::de::{Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use url::Url;

use crate::oci::{Digest, RepositoryName, Tag};
use crate::registry::Repository;
use crate::registry::auth::request::RegistryRequest;
use crate::registry::auth::scope::Scopes;
use crate::registry::http::context::Context;
use crate::registry::http::link_header::{PageEnd, Pages};
use crate::registry::http::pagination::{MAX_NAMES, MAX_PAGE, MAX_UNUSABLE, Names, Paging, Text, shown};
use crate::registry::http::request::Expects;
use crate::store::{ErrorKind, Step, StoreError, TagEntry};

/// Maximum number of entries in a batch of the stream.
const ENTRIES_PER_BATCH: usize = 1024;

/// Endpoint that lists tags.
#[derive(Debug, Clone, Copy)]
enum Listing {
    /// Listing of distribution-spec.
    Standard,
    /// Listing of Azure Container Registry, with digests and locks (Azure's REST reference, "Tag - Get List").
    Acr,
}

/// Tag listing in progress.
#[derive(Debug)]
struct Walk {
    listing: Listing,
    pages: Pages,
    /// URL of the next page to read. `None` until the stream has processed the open page, and after the last page.
    next: Option<Url>,
    /// Page with tags that the stream has not yielded yet.
    open: Option<OpenPage>,
    /// Tags that the stream has yielded.
    seen: HashSet<Tag>,
    /// Number of names that are not valid tags.
    unusable: usize,
}

/// Page that the stream is yielding.
#[derive(Debug)]
struct OpenPage {
    page: Page,
    end: PageEnd,
    /// Number of names of the page that the stream has processed.
    reported: usize,
    /// Number of tags of the page that the stream has yielded. Invalid names do not count. The stream does not yield
    /// tags of earlier pages again.
    fresh: usize,
}

impl Listing {
    fn path(self, name: &RepositoryName, paging: &Paging) -> String {
        let query = paging.query();
        match self {
            Self::Standard => format!("/v2/{name}/tags/list{query}"),
            Self::Acr => format!("/acr/v1/{name}/_tags{query}"),
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
        stream::try_unfold(None, move |walk| {
            let context = context.clone();
            async move {
                let walk = match walk {
                    None => self.first_tags(&context).await?,
                    Some(walk) => walk,
                };
                let next = self.next_tags(&context, walk).await?;
                Ok(next.map(|(entries, walk)| (stream::iter(entries.into_iter().map(Ok)), Some(walk))))
            }
        })
        .try_flatten()
        .boxed()
    }

    /// Reads the first page. If the registry has Azure's listing, the client uses Azure's listing. If the registry
    /// refuses Azure's listing but allows the standard listing, the client uses only the standard listing from then on.
    async fn first_tags(&self, context: &Context) -> Result<Walk, StoreError> {
        let mut refused = None;
        if self.registry.has_own_listing() {
            match self.start_listing(context, Listing::Acr).await {
                Err(error) if is_refusal(error.kind) => refused = Some(error),
                walk => return walk,
            }
        }
        let walk = self.start_listing(context, Listing::Standard).await?;
        if let Some(error) = refused {
            tracing::debug!("tags are listed without digests from now on: {error}");
            self.registry.learn_own_listing_is_refused();
        }
        Ok(walk)
    }

    /// Starts a listing and reads the first page.
    async fn start_listing(&self, context: &Context, listing: Listing) -> Result<Walk, StoreError> {
        let first = self.registry.address(&listing.path(&self.name, self.paging(listing)));
        let first = first.map_err(|error| context.error(ErrorKind::Invalid, error))?;
        let pages = Pages::starting_at(&first);
        let mut walk = Walk { listing, pages, next: None, open: None, seen: HashSet::new(), unusable: 0 };
        walk.open = self.tag_page(context, &mut walk, first).await?;
        Ok(walk)
    }

    /// Returns the next tags; `None` after the last page.
    async fn next_tags(&self, context: &Context, mut walk: Walk) -> Result<Option<(Vec<TagEntry>, Walk)>, StoreError> {
        let invalid = |why: String| context.error(ErrorKind::Invalid, why);
        loop {
            if let Some(entries) = walk.next_entries().map_err(invalid)? {
                return Ok(Some((entries, walk)));
            }
            walk.close_page().map_err(invalid)?;
            let Some(url) = walk.next.take() else { return Ok(None) };
            walk.open = self.tag_page(context, &mut walk, url).await?;
        }
    }

    fn paging(&self, listing: Listing) -> &Paging {
        match listing {
            Listing::Standard => &self.registry.facts().tag_pages,
            Listing::Acr => &self.registry.facts().own_tag_pages,
        }
    }

    async fn tag_page(&self, context: &Context, walk: &mut Walk, url: Url) -> Result<Option<OpenPage>, StoreError> {
        let (listing, paging) = (walk.listing, self.paging(walk.listing));
        let request =
            |url| RegistryRequest::read(Method::GET, url, listing.scopes(self)).expects(Expects::Small(MAX_PAGE));
        let Some((url, answer)) = self.registry.list_page(context, paging, &mut walk.pages, (url, request)).await?
        else {
            return Ok(None);
        };
        if !answer.status.is_success() {
            return Err(answer.refusal(context));
        }
        let page = self
            .read_tags(listing, &answer.bytes())
            .map_err(|error| context.error(ErrorKind::Invalid, answer.unreadable(&error)))?;
        let names = (page.names.len(), page.names.last());
        let end = walk.pages.read_page_end(&url, &answer.headers, paging, names);
        let end = end.map_err(|why| context.error(ErrorKind::Invalid, why))?;
        Ok(Some(OpenPage { page, end, reported: 0, fresh: 0 }))
    }

    fn read_tags(&self, listing: Listing, bytes: &[u8]) -> serde_json::Result<Page> {
        match listing {
            Listing::Acr => serde_json::from_slice(bytes).map(|list: DescribedTags| list.tags),
            Listing::Standard => {
                let list: TagList = serde_json::from_slice(bytes)?;
                if list.manifest.is_some() {
                    self.registry.facts().learn_digests_are_listed();
                }
                Ok(list.into_page())
            }
        }
    }
}

impl Walk {
    /// Returns the next tags of the open page; `None` after the last tag of the page.
    fn next_entries(&mut self) -> Result<Option<Vec<TagEntry>>, String> {
        let Some(open) = self.open.as_mut().filter(|open| open.reported < open.page.names.len()) else {
            return Ok(None);
        };
        let end = open.page.names.len().min(open.reported + ENTRIES_PER_BATCH);
        let mut entries = Vec::new();
        for (index, name) in open.page.names.range(open.reported..end) {
            let entry = open.page.entry(index, name);
            match &entry {
                TagEntry::Tag(tag, _) | TagEntry::Locked(tag, _) if !self.seen.insert(tag.clone()) => continue,
                TagEntry::Unusable(_) => self.unusable += 1,
                _ => open.fresh += 1,
            }
            entries.push(entry);
        }
        open.reported = end;
        if self.seen.len() > MAX_NAMES {
            return Err(format!(
                "the list has more than {MAX_NAMES} tags; name the tags to copy in `tags.include`: \
                 exact names need no list"
            ));
        }
        if self.unusable > MAX_UNUSABLE {
            return Err(format!("the list has more than {MAX_UNUSABLE} names that are not valid tags"));
        }
        Ok(Some(entries))
    }

    /// Closes the open page, and determines the URL of the next page.
    fn close_page(&mut self) -> Result<(), String> {
        if let Some(open) = self.open.take() {
            self.next = self.pages.next_page(open.end, open.fresh)?;
        }
        Ok(())
    }
}

/// Returns true if the registry refuses a listing permanently.
fn is_refusal(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::Denied | ErrorKind::NotFound | ErrorKind::Unsupported)
}

/// One page of tags.
#[derive(Debug, Default)]
struct Page {
    names: Names,
    /// Digest of each tag, by the index of the tag in `names`.
    digests: HashMap<usize, Digest>,
    /// Indexes of the locked tags in `names`.
    locked: HashSet<usize>,
}

/// Name of a folder for uploads. Artifactory lists this folder among the tags.
const ARTIFACTORY_UPLOADS: &str = "_uploads";

impl Page {
    fn entry(&self, index: usize, name: &str) -> TagEntry {
        let digest = self.digests.get(&index).copied();
        match name.parse::<Tag>() {
            Ok(tag) if name != ARTIFACTORY_UPLOADS && self.locked.contains(&index) => TagEntry::Locked(tag, digest),
            Ok(tag) if name != ARTIFACTORY_UPLOADS => TagEntry::Tag(tag, digest),
            _ => TagEntry::Unusable(shown(name)),
        }
    }

    #[cfg(any(test, feature = "fuzzing"))]
    fn entries(&self) -> Vec<TagEntry> {
        self.names.range(0..self.names.len()).map(|(index, name)| self.entry(index, name)).collect()
    }
}

/// Parses the same bytes twice: in the format of the specification, and in the format of Azure. Returns the number of
/// entries for each format.
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) fn read_every_form(bytes: &[u8]) -> [serde_json::Result<usize>; 2] {
    let standard = serde_json::from_slice(bytes).map(TagList::into_page);
    let azure = serde_json::from_slice(bytes).map(|list: DescribedTags| list.tags);
    [standard, azure].map(|page| page.map(|page| page.entries().len()))
}

#[derive(Deserialize)]
struct TagList {
    #[serde(default)]
    tags: Names,
    /// Digests of the tags. Only Google's registries send this field.
    #[serde(default)]
    manifest: Option<DigestOfTag>,
}

impl TagList {
    fn into_page(self) -> Page {
        let Self { tags: names, manifest } = self;
        let Some(DigestOfTag(digest_of)) = manifest else { return Page { names, ..Page::default() } };
        let digests =
            names.range(0..names.len()).filter_map(|(index, name)| Some((index, *digest_of.get(name)?))).collect();
        Page { names, digests, locked: HashSet::new() }
    }
}

/// Map from each tag to the digest of the tag. In the response, the field `manifest` has this form:
/// `{"sha256:…": {"tag": ["v1", "v2"]}}`.
#[derive(Default)]
struct DigestOfTag(HashMap<Box<str>, Digest>);

impl<'de> Deserialize<'de> for DigestOfTag {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        struct Tagged {
            #[serde(default)]
            tag: Names,
        }
        struct Reader;
        impl<'de> Visitor<'de> for Reader {
            type Value = DigestOfTag;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a map from digests to tags")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<DigestOfTag, A::Error> {
                let mut digest_of = HashMap::new();
                while let Some((Text(digest), Tagged { tag })) = map.next_entry()? {
                    let Ok(digest) = digest.parse::<Digest>() else { continue };
                    digest_of.extend(tag.range(0..tag.len()).map(|(_, name)| (name.into(), digest)));
                }
                Ok(DigestOfTag(digest_of))
            }
        }
        deserializer.deserialize_map(Reader)
    }
}

/// Page of Azure's listing, with one item for each tag.
#[derive(Deserialize)]
struct DescribedTags {
    #[serde(default, deserialize_with = "read_described_tags")]
    tags: Page,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct DescribedTag<'a> {
    #[serde(borrow)]
    name: Cow<'a, str>,
    #[serde(default, borrow)]
    digest: Option<Cow<'a, str>>,
    #[serde(default)]
    changeable_attributes: Option<Changeable>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Changeable {
    #[serde(default)]
    write_enabled: Option<bool>,
}

fn read_described_tags<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Page, D::Error> {
    struct Reader;
    impl<'de> Visitor<'de> for Reader {
        type Value = Page;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a list of tags")
        }

        fn visit_unit<E>(self) -> Result<Page, E> {
            Ok(Page::default())
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Page, A::Error> {
            let mut page = Page::default();
            while let Some(tag) = list.next_element::<DescribedTag<'_>>()? {
                let index = page.names.len();
                page.names.push(&tag.name).map_err(A::Error::custom)?;
                if let Some(digest) = tag.digest.and_then(|digest| digest.parse().ok()) {
                    page.digests.insert(index, digest);
                }
                if tag.changeable_attributes.and_then(|attributes| attributes.write_enabled) == Some(false) {
                    page.locked.insert(index);
                }
            }
            Ok(page)
        }
    }
    deserializer.deserialize_any(Reader)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(json: &str) -> Vec<TagEntry> {
        serde_json::from_str::<TagList>(json).unwrap().into_page().entries()
    }

    #[test]
    fn empty_tag_list_is_read_in_three_shapes() {
        for json in [r#"{"name":"a","tags":null}"#, r#"{"name":"a","tags":[]}"#, r#"{"name":"a"}"#] {
            assert_eq!(read(json), []);
        }
    }

    #[test]
    fn unusable_name_is_reported_and_listed_digests_are_kept() {
        let digest = Digest::of(b"x");
        let json = format!(
            r#"{{"tags":["v1","sha256:a","v2"],
                "manifest":{{"{digest}":{{"tag":["v1","old"],"imageSizeBytes":"1"}},"md5:1":{{}}}}}}"#
        );
        let tag = |name: &str, digest| TagEntry::Tag(name.parse().unwrap(), digest);
        assert_eq!(read(&json), [tag("v1", Some(digest)), TagEntry::Unusable("sha256:a".into()), tag("v2", None)]);
    }

    #[test]
    fn azure_list_yields_an_entry_for_each_tag() {
        let digest = Digest::of(b"x");
        let json = format!(
            r#"{{"registry":"h","imageName":"a","tags":[
                {{"name":"v1","digest":"{digest}","signed":false}},{{"name":"v2"}},{{"name":"sha256:a","digest":"x"}},
                {{"name":"v3","changeableAttributes":{{"writeEnabled":false,"deleteEnabled":true}}}}]}}"#
        );
        let tag = |name: &str, digest| TagEntry::Tag(name.parse().unwrap(), digest);
        let read = |json: &str| serde_json::from_str::<DescribedTags>(json).unwrap().tags.entries();
        let locked = TagEntry::Locked("v3".parse().unwrap(), None);
        let all = [tag("v1", Some(digest)), tag("v2", None), TagEntry::Unusable("sha256:a".into()), locked];
        assert_eq!(read(&json), all);
        assert_eq!((read("{}"), read(r#"{"tags":null}"#)), (vec![], vec![]));
    }
}
