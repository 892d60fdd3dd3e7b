//! Lists of names that registries return in pages: the page size that the client requests, the facts that the client
//! learns about the pages, and the parser of a page. The parser builds no tree of JSON values, to save memory.

use std::borrow::Cow;
use std::fmt;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use http::StatusCode;
use serde::de::{Deserialize, Deserializer, Error as _, SeqAccess, Visitor};
use url::Url;

/// Number of names that the client requests per page. Azure Container Registry returns at most this number of names
/// (Azure/acr, issue 749).
pub(crate) const PAGE: usize = 1000;

/// Maximum length of a page, in bytes. Google's registries add all digests of the repository to a page.
pub(crate) const MAX_PAGE: usize = 16 * 1024 * 1024;

/// Maximum number of names of one list.
pub(crate) const MAX_NAMES: usize = 1_000_000;

/// Maximum number of invalid names in one list. A name is invalid if the grammar of the specification does not allow
/// the name.
pub(crate) const MAX_UNUSABLE: usize = 10_000;

/// Maximum number of characters of an invalid name that a message shows.
const UNUSABLE_SHOWN: usize = 256;

/// Common divisor of the page sizes that registries use by default: 50 (Quay), 100 (distribution, Azure) and 1,000.
const ROUND: usize = 50;

/// Facts that the client learned about the pages of one kind of list at a registry.
#[derive(Debug, Default)]
pub(crate) struct Paging {
    /// True if the registry refused the requested page size.
    refuses_size: AtomicBool,
    /// Largest number of names of a page with a link to the next page; 0 before the first page with a link.
    largest: AtomicUsize,
}

impl Paging {
    /// Returns the query of the URL of the first page.
    pub(crate) fn query(&self) -> String {
        if self.refuses_size.load(Ordering::Relaxed) { String::new() } else { format!("?n={PAGE}") }
    }

    /// Returns true if an error response may mean that the registry refuses the page size. For example, distribution
    /// refuses a size above a configured limit (`PAGINATION_NUMBER_INVALID`).
    pub(crate) fn may_refuse_size(page: &Url, status: StatusCode, codes: &[String]) -> bool {
        let is_refusal = matches!(status, StatusCode::BAD_REQUEST | StatusCode::UNPROCESSABLE_ENTITY);
        is_refusal && requested_size(page).is_some() && !codes.iter().any(|code| code == "NAME_INVALID")
    }

    /// Records that the registry refuses the page size. Later requests for a first page state no size.
    pub(crate) fn learn_size_is_refused(&self) {
        self.refuses_size.store(true, Ordering::Relaxed);
    }

    /// Records the number of names of a page with a link to the next page.
    pub(crate) fn learn_size(&self, names: usize) {
        self.largest.fetch_max(names, Ordering::Relaxed);
    }

    /// Returns true if a page without a link is full, so the list may have more pages. Some proxies drop the header
    /// `Link` (Quay, PR 5398). The page is full if the number of names is:
    ///
    /// - at least the requested number;
    /// - at least the largest number of names of an earlier page with a link;
    /// - a multiple of [`ROUND`], if the client has received no page with a link.
    pub(crate) fn is_full(&self, page: &Url, names: usize) -> bool {
        let largest = self.largest.load(Ordering::Relaxed);
        let has_requested_size = requested_size(page).is_some_and(|requested| names >= requested);
        let has_learned_size = if largest > 0 { names >= largest } else { names.is_multiple_of(ROUND) };
        names > 0 && (has_requested_size || has_learned_size)
    }
}

/// Returns the number of names that the URL of a page requests.
fn requested_size(page: &Url) -> Option<usize> {
    page.query_pairs().find(|(name, _)| name == "n").and_then(|(_, size)| size.parse().ok())
}

/// Returns the URL of a page without the requested page size.
pub(crate) fn without_size(page: &Url) -> Url {
    let mut bare = page.clone();
    let remaining: Vec<(String, String)> =
        page.query_pairs().filter(|(name, _)| name != "n").map(|(name, value)| (name.into(), value.into())).collect();
    bare.set_query(None);
    if !remaining.is_empty() {
        bare.query_pairs_mut().extend_pairs(remaining);
    }
    bare
}

/// List of names, stored in one contiguous string.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Names {
    text: String,
    /// End of each name, as an offset in `text`.
    ends: Vec<u32>,
}

impl Names {
    pub(crate) fn len(&self) -> usize {
        self.ends.len()
    }

    pub(crate) fn get(&self, index: usize) -> Option<&str> {
        let end = *self.ends.get(index)? as usize;
        let start = index.checked_sub(1).map_or(0, |before| self.ends[before] as usize);
        self.text.get(start..end)
    }

    pub(crate) fn last(&self) -> Option<&str> {
        self.get(self.len().checked_sub(1)?)
    }

    pub(crate) fn range(&self, range: Range<usize>) -> impl Iterator<Item = (usize, &str)> {
        range.filter_map(|index| Some((index, self.get(index)?)))
    }

    /// Adds a name. Returns an error if the list already has [`MAX_NAMES`] names.
    pub(crate) fn push(&mut self, name: &str) -> Result<(), String> {
        if self.len() >= MAX_NAMES {
            return Err(format!("the list has more than {MAX_NAMES} names"));
        }
        self.text.push_str(name);
        self.ends.push(u32::try_from(self.text.len()).map_err(|_| "the list is too long".to_owned())?);
        Ok(())
    }
}

/// Reads an array of strings. `null` means no names.
impl<'de> Deserialize<'de> for Names {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader;
        impl<'de> Visitor<'de> for Reader {
            type Value = Names;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list of names")
            }

            fn visit_unit<E>(self) -> Result<Names, E> {
                Ok(Names::default())
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Names, A::Error> {
                let mut names = Names::default();
                while let Some(Text(name)) = list.next_element()? {
                    names.push(&name).map_err(A::Error::custom)?;
                }
                Ok(names)
            }
        }
        deserializer.deserialize_any(Reader)
    }
}

/// JSON string. If the string has no escapes, the value borrows the bytes of the input.
#[derive(Debug, serde::Deserialize)]
pub(crate) struct Text<'a>(#[serde(borrow)] pub(crate) Cow<'a, str>);

/// Returns the first [`UNUSABLE_SHOWN`] characters of an invalid name, for a message.
pub(crate) fn shown(name: &str) -> String {
    match name.char_indices().nth(UNUSABLE_SHOWN) {
        Some((end, _)) => format!("{}…", &name[..end]),
        None => name.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(query: &str) -> Url {
        format!("https://h/v2/a/tags/list{query}").parse().unwrap()
    }

    #[test]
    fn list_of_names_may_have_escapes_or_be_null() {
        let read = |json: &str| serde_json::from_str::<Names>(json);
        let names = read(r#"["a","b\u0063","" ,"d"]"#).unwrap();
        let all: Vec<&str> = names.range(0..names.len()).map(|(_, name)| name).collect();
        assert_eq!((all, names.last()), (vec!["a", "bc", "", "d"], Some("d")));
        assert_eq!(read("null").unwrap(), Names::default());
        assert!(read("[1]").is_err() && read(r#"[null]"#).is_err() && read(r#"{"a":1}"#).is_err());
    }

    #[test]
    fn page_is_full_by_requested_seen_or_round_size() {
        let paging = Paging::default();
        let full = |query: &str, names| paging.is_full(&page(query), names);
        assert_eq!([full("?n=2", 1), full("?n=2", 2), full("?n=2", 3)], [false, true, true]);
        assert_eq!(
            [full("?n=1000", 0), full("?n=1000", 99), full("?n=1000", 100), full("", 50)],
            [false, false, true, true]
        );
        paging.learn_size(30);
        assert_eq!([full("?n=1000", 29), full("?n=1000", 30)], [false, true]);
        paging.learn_size(100);
        assert_eq!([full("?n=1000", 50), full("?n=1000", 100)], [false, true], "pages have links here");
    }

    #[test]
    fn refused_page_size_is_not_requested_again() {
        let paging = Paging::default();
        assert_eq!(paging.query(), "?n=1000");
        let refuses = |query: &str, status, code: &str| {
            Paging::may_refuse_size(&page(query), StatusCode::from_u16(status).unwrap(), &[code.to_owned()])
        };
        assert!(refuses("?n=1000", 400, "PAGINATION_NUMBER_INVALID") && refuses("?n=1000", 400, ""));
        assert!(!refuses("", 400, "") && !refuses("?n=1000", 404, "") && !refuses("?n=1000", 400, "NAME_INVALID"));
        assert_eq!(without_size(&page("?n=1000&last=b")).as_str(), "https://h/v2/a/tags/list?last=b");
        assert_eq!(without_size(&page("?n=1000")).as_str(), "https://h/v2/a/tags/list");
        paging.learn_size_is_refused();
        assert_eq!(paging.query(), "");
    }
}
