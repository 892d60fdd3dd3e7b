//! The tag listing (distribution-spec, "Listing Tags"), page by page, with digests where a registry adds them or has a
//! listing of its own that tells them. Each tag is told once, and no list is kept whole but for its names.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::fmt;

use futures_util::stream::{self, BoxStream};
use futures_util::{StreamExt as _, TryStreamExt as _};
use http::Method;
use serde::Deserialize;
use serde::de::{Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use url::Url;

use super::Repository;
use super::answer::Context;
use super::links::{Pages, Turn};
use super::paging::{MAX_NAMES, MAX_PAGE, MAX_UNUSABLE, Names, Paging, Text, shown};
use super::scope::Scopes;
use super::transport::{Call, Expects};
use crate::oci::{Digest, RepositoryName, Tag};
use crate::store::{ErrorKind, Step, StoreError, TagEntry};

/// How many tags of a page are made of its names at a time.
const TOGETHER: usize = 1024;

/// The ways to list tags.
#[derive(Debug, Clone, Copy)]
enum Listing {
    /// distribution-spec's.
    Standard,
    /// Azure Container Registry's own (its REST reference, "Tag - Get List"), which tells digests and locks.
    Acr,
}

/// A listing under way.
#[derive(Debug)]
struct Walk {
    listing: Listing,
    pages: Pages,
    /// The page to be read next.
    next: Option<Url>,
    open: Option<Open>,
    /// Every tag that was told.
    seen: HashSet<Tag>,
    /// How many names were told that are no tags.
    unusable: usize,
}

/// A page that was read and is being told.
#[derive(Debug)]
struct Open {
    page: Page,
    turn: Turn,
    /// How many of its names have been told.
    at: usize,
    /// How many of these were not in the list before.
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
                let told = self.next_tags(&context, walk).await?;
                Ok(told.map(|(entries, walk)| (stream::iter(entries.into_iter().map(Ok)), Some(walk))))
            }
        })
        .try_flatten()
        .boxed()
    }

    /// The first page, in the registry's own way where it has one. If that is refused and the standard one is not, it is not
    /// tried again: the rights to the one may be given without those to the other.
    async fn first_tags(&self, context: &Context) -> Result<Walk, StoreError> {
        let mut refused = None;
        if self.registry.has_own_listing() {
            match self.begin(context, Listing::Acr).await {
                Err(error) if is_refusal(error.kind) => refused = Some(error),
                walk => return walk,
            }
        }
        let walk = self.begin(context, Listing::Standard).await?;
        if let Some(error) = refused {
            tracing::debug!("tags are listed without digests from now on: {error}");
            self.registry.learn_own_listing_is_refused();
        }
        Ok(walk)
    }

    /// A listing with its first page.
    async fn begin(&self, context: &Context, listing: Listing) -> Result<Walk, StoreError> {
        let first = self.registry.address(&listing.path(&self.name, self.paging(listing)));
        let first = first.map_err(|error| context.error(ErrorKind::Invalid, error))?;
        let pages = Pages::starting_at(&first);
        let mut walk = Walk { listing, pages, next: None, open: None, seen: HashSet::new(), unusable: 0 };
        walk.open = self.tag_page(context, &mut walk, first).await?;
        Ok(walk)
    }

    /// Some tags more; `None` after the last page.
    async fn next_tags(&self, context: &Context, mut walk: Walk) -> Result<Option<(Vec<TagEntry>, Walk)>, StoreError> {
        let invalid = |why: String| context.error(ErrorKind::Invalid, why);
        loop {
            if let Some(entries) = walk.some().map_err(invalid)? {
                return Ok(Some((entries, walk)));
            }
            walk.turn().map_err(invalid)?;
            let Some(url) = walk.next.take() else { return Ok(None) };
            walk.open = self.tag_page(context, &mut walk, url).await?;
        }
    }

    fn paging(&self, listing: Listing) -> &Paging {
        match listing {
            Listing::Standard => &self.registry.tag_pages,
            Listing::Acr => &self.registry.own_tag_pages,
        }
    }

    async fn tag_page(&self, context: &Context, walk: &mut Walk, url: Url) -> Result<Option<Open>, StoreError> {
        let (listing, paging) = (walk.listing, self.paging(walk.listing));
        let call = |url| Call::read(Method::GET, url, listing.scopes(self)).expects(Expects::Small(MAX_PAGE));
        let Some((url, answer)) = self.registry.list_page(context, paging, &mut walk.pages, (url, call)).await? else {
            return Ok(None);
        };
        if !answer.status.is_success() {
            return Err(answer.refusal(context));
        }
        let page = self
            .read_tags(listing, &answer.bytes())
            .map_err(|error| context.error(ErrorKind::Invalid, answer.unreadable(&error)))?;
        let names = (page.names.len(), page.names.last());
        let turn = walk.pages.turn(&url, &answer.headers, paging, names);
        let turn = turn.map_err(|why| context.error(ErrorKind::Invalid, why))?;
        Ok(Some(Open { page, turn, at: 0, fresh: 0 }))
    }

    fn read_tags(&self, listing: Listing, bytes: &[u8]) -> serde_json::Result<Page> {
        match listing {
            Listing::Acr => serde_json::from_slice(bytes).map(|list: DescribedTags| list.tags),
            Listing::Standard => {
                let list: TagList = serde_json::from_slice(bytes)?;
                if list.manifest.is_some() {
                    self.registry.learn_digests_are_listed();
                }
                Ok(list.into_page())
            }
        }
    }
}

impl Walk {
    /// The next tags of the page that is open; `None` where it is told.
    fn some(&mut self) -> Result<Option<Vec<TagEntry>>, String> {
        let Some(open) = self.open.as_mut().filter(|open| open.at < open.page.names.len()) else { return Ok(None) };
        let end = open.page.names.len().min(open.at + TOGETHER);
        let mut entries = Vec::new();
        for (at, name) in open.page.names.range(open.at..end) {
            let entry = open.page.entry(at, name);
            match &entry {
                TagEntry::Tag(tag, _) | TagEntry::Locked(tag, _) if !self.seen.insert(tag.clone()) => continue,
                TagEntry::Unusable(_) => self.unusable += 1,
                _ => open.fresh += 1,
            }
            entries.push(entry);
        }
        open.at = end;
        if self.seen.len() > MAX_NAMES {
            return Err(format!(
                "the list has more than {MAX_NAMES} tags; name those that are wanted in `tags.include`, which needs no list"
            ));
        }
        if self.unusable > MAX_UNUSABLE {
            return Err(format!("the list has more than {MAX_UNUSABLE} names that are no tags by the specification"));
        }
        Ok(Some(entries))
    }

    /// Closes the page that is told, and finds the next one.
    fn turn(&mut self) -> Result<(), String> {
        if let Some(open) = self.open.take() {
            self.next = self.pages.next(open.turn, open.fresh)?;
        }
        Ok(())
    }
}

/// Whether a listing is not to be had, as against a failure that passes.
fn is_refusal(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::Denied | ErrorKind::NotFound | ErrorKind::Unsupported)
}

/// One page of tags.
#[derive(Debug, Default)]
struct Page {
    names: Names,
    /// By the place of the name.
    digests: HashMap<usize, Digest>,
    locked: HashSet<usize>,
}

/// Artifactory lists the folder of its uploads among the tags.
const NO_TAG: &str = "_uploads";

impl Page {
    fn entry(&self, at: usize, name: &str) -> TagEntry {
        let digest = self.digests.get(&at).copied();
        match name.parse::<Tag>() {
            Ok(tag) if name != NO_TAG && self.locked.contains(&at) => TagEntry::Locked(tag, digest),
            Ok(tag) if name != NO_TAG => TagEntry::Tag(tag, digest),
            _ => TagEntry::Unusable(shown(name)),
        }
    }

    #[cfg(any(test, feature = "fuzzing"))]
    fn entries(&self) -> Vec<TagEntry> {
        self.names.range(0..self.names.len()).map(|(at, name)| self.entry(at, name)).collect()
    }
}

/// Reads a page in each form: that of the specification, and Azure's. The fuzz target wants no more than how many entries each has.
#[cfg(any(test, feature = "fuzzing"))]
pub(super) fn read_every_form(bytes: &[u8]) -> [serde_json::Result<usize>; 2] {
    let standard = serde_json::from_slice(bytes).map(TagList::into_page);
    let azure = serde_json::from_slice(bytes).map(|list: DescribedTags| list.tags);
    [standard, azure].map(|page| page.map(|page| page.entries().len()))
}

#[derive(Deserialize)]
struct TagList {
    #[serde(default)]
    tags: Names,
    /// Google's addition.
    #[serde(default)]
    manifest: Option<DigestOfTag>,
}

impl TagList {
    fn into_page(self) -> Page {
        let Self { tags: names, manifest } = self;
        let Some(DigestOfTag(digest_of)) = manifest else { return Page { names, ..Page::default() } };
        let digests = names.range(0..names.len()).filter_map(|(at, name)| Some((at, *digest_of.get(name)?))).collect();
        Page { names, digests, locked: HashSet::new() }
    }
}

/// Google's map from each digest to its tags and more, turned round.
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

/// Azure's list: one item a tag.
#[derive(Deserialize)]
struct DescribedTags {
    #[serde(default, deserialize_with = "described")]
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

fn described<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Page, D::Error> {
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
                let at = page.names.len();
                page.names.push(&tag.name).map_err(A::Error::custom)?;
                if let Some(digest) = tag.digest.and_then(|digest| digest.parse().ok()) {
                    page.digests.insert(at, digest);
                }
                if tag.changeable_attributes.and_then(|attributes| attributes.write_enabled) == Some(false) {
                    page.locked.insert(at);
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
            r#"{{"registry":"h","imageName":"a","tags":[{{"name":"v1","digest":"{digest}","signed":false}},{{"name":"v2"}},{{"name":"sha256:a","digest":"x"}},{{"name":"v3","changeableAttributes":{{"writeEnabled":false,"deleteEnabled":true}}}}]}}"#
        );
        let tag = |name: &str, digest| TagEntry::Tag(name.parse().unwrap(), digest);
        let read = |json: &str| serde_json::from_str::<DescribedTags>(json).unwrap().tags.entries();
        let locked = TagEntry::Locked("v3".parse().unwrap(), None);
        let all = [tag("v1", Some(digest)), tag("v2", None), TagEntry::Unusable("sha256:a".into()), locked];
        assert_eq!(read(&json), all);
        assert_eq!((read("{}"), read(r#"{"tags":null}"#)), (vec![], vec![]));
    }
}
