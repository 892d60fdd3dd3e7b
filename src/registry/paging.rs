//! Lists of names that come in pages: how long a page is asked to be, what was learnt of a registry about that, and the names
//! of one page, read without a tree of values between them and the bytes.

use std::borrow::Cow;
use std::fmt;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use http::StatusCode;
use serde::de::{Deserialize, Deserializer, Error as _, SeqAccess, Visitor};
use url::Url;

use super::Registry;
use super::answer::{Answer, Context};
use super::links::Pages;
use super::transport::Call;
use crate::store::StoreError;

/// How many names a page is asked to have. Azure gives no more at once (Azure/acr, issue 749).
pub(crate) const PAGE: usize = 1000;

/// The largest page that is read, in bytes. The registries of Google add every digest to it.
pub(crate) const MAX_PAGE: usize = 16 * 1024 * 1024;

/// The most names of one list.
pub(crate) const MAX_NAMES: usize = 1_000_000;

/// The most names of one list that are outside the grammar of names: more of them are no list of a registry.
pub(crate) const MAX_UNUSABLE: usize = 10_000;

/// The most characters that are kept of a name outside the grammar.
const UNUSABLE_SHOWN: usize = 256;

/// Page sizes that registries are built with are multiples of this: 50 (Quay), 100 (distribution, Azure), 1,000.
const ROUND: usize = 50;

/// What was learnt of the pages of one kind of list at a registry.
#[derive(Debug, Default)]
pub(crate) struct Paging {
    refuses_size: AtomicBool,
    /// The most names of a page that had a link to a next one; 0 where none was seen.
    largest: AtomicUsize,
}

impl Paging {
    /// The query of the first page.
    pub(crate) fn query(&self) -> String {
        if self.refuses_size.load(Ordering::Relaxed) { String::new() } else { format!("?n={PAGE}") }
    }

    /// Whether an answer may refuse the size of page that was asked for: distribution does where its own limit is lower
    /// (`PAGINATION_NUMBER_INVALID`).
    pub(crate) fn may_refuse_size(page: &Url, status: StatusCode, codes: &[String]) -> bool {
        let is_refusal = matches!(status, StatusCode::BAD_REQUEST | StatusCode::UNPROCESSABLE_ENTITY);
        is_refusal && asked_size(page).is_some() && !codes.iter().any(|code| code == "NAME_INVALID")
    }

    /// Remembers that pages are to be asked for without a size.
    pub(crate) fn learn_size_is_refused(&self) {
        self.refuses_size.store(true, Ordering::Relaxed);
    }

    /// Remembers how many names a page had that was not the last one.
    pub(crate) fn learn_size(&self, names: usize) {
        self.largest.fetch_max(names, Ordering::Relaxed);
    }

    /// Whether a page without a link may not be the last one: it has as many names as were asked for, or as pages had that were not
    /// the last. Proxies drop `Link` (Quay, PR 5398), and then the first page looks like all: where no link was ever seen, so does
    /// a page of a number that page sizes are made of.
    pub(crate) fn is_full(&self, page: &Url, names: usize) -> bool {
        let largest = self.largest.load(Ordering::Relaxed);
        let is_as_asked = asked_size(page).is_some_and(|asked| names >= asked);
        let is_as_seen = if largest > 0 { names >= largest } else { names.is_multiple_of(ROUND) };
        names > 0 && (is_as_asked || is_as_seen)
    }
}

impl Registry {
    /// The answer with a page of a list of names, and the address that it was asked for by in the end. A registry that refuses the
    /// size that a page is to have is asked without one, and that is remembered.
    ///
    /// `None` where a full page had no link and the registry refuses to be asked for what comes after it.
    pub(crate) async fn list_page(
        &self,
        context: &Context,
        paging: &Paging,
        pages: &mut Pages,
        (url, call): (Url, impl Fn(Url) -> Call),
    ) -> Result<Option<(Url, Answer)>, StoreError> {
        let answer = self.send(context, call(url.clone())).await?;
        if Paging::may_refuse_size(&url, answer.status, &answer.codes()) {
            let bare = without_size(&url);
            let again = self.send(context, call(bare.clone())).await?;
            if again.status.is_success() {
                tracing::debug!(place = %context.place, refusal = answer.detail(), "lists are asked for without a page size");
                paging.learn_size_is_refused();
                pages.was_asked_as(&url, &bare);
                return Ok(Some((bare, again)));
            }
        }
        if pages.is_by_last() && matches!(answer.status.as_u16(), 400 | 404 | 405 | 416 | 422 | 501) {
            let refusal = answer.detail();
            tracing::warn!(
                place = %context.place, refusal,
                "a page of the list is full and has no link to a next one, and the registry refuses to be asked for what comes \
                 after it: names may be missing"
            );
            return Ok(None);
        }
        Ok(Some((url, answer)))
    }
}

/// How many names the request for a page asks for.
fn asked_size(page: &Url) -> Option<usize> {
    page.query_pairs().find(|(name, _)| name == "n").and_then(|(_, size)| size.parse().ok())
}

/// The same page, asked for without a size.
pub(crate) fn without_size(page: &Url) -> Url {
    let mut bare = page.clone();
    let kept: Vec<(String, String)> =
        page.query_pairs().filter(|(name, _)| name != "n").map(|(name, value)| (name.into(), value.into())).collect();
    bare.set_query(None);
    if !kept.is_empty() {
        bare.query_pairs_mut().extend_pairs(kept);
    }
    bare
}

/// Names one after the other in one piece of memory.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Names {
    text: String,
    /// Where each name ends.
    ends: Vec<u32>,
}

impl Names {
    pub(crate) fn len(&self) -> usize {
        self.ends.len()
    }

    pub(crate) fn get(&self, at: usize) -> Option<&str> {
        let end = *self.ends.get(at)? as usize;
        let start = at.checked_sub(1).map_or(0, |before| self.ends[before] as usize);
        self.text.get(start..end)
    }

    pub(crate) fn last(&self) -> Option<&str> {
        self.get(self.len().checked_sub(1)?)
    }

    pub(crate) fn range(&self, range: Range<usize>) -> impl Iterator<Item = (usize, &str)> {
        range.filter_map(|at| Some((at, self.get(at)?)))
    }

    /// Adds a name. What there is of a page is bounded by [`MAX_PAGE`].
    pub(crate) fn push(&mut self, name: &str) -> Result<(), String> {
        if self.len() >= MAX_NAMES {
            return Err(format!("it has more than {MAX_NAMES} names"));
        }
        self.text.push_str(name);
        self.ends.push(u32::try_from(self.text.len()).map_err(|_| "it is too long".to_owned())?);
        Ok(())
    }
}

/// An array of texts, or `null` for none.
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

/// A text that is borrowed from the bytes where nothing in it is escaped.
#[derive(Debug, serde::Deserialize)]
pub(crate) struct Text<'a>(#[serde(borrow)] pub(crate) Cow<'a, str>);

/// The beginning of a name that cannot be asked for, for a message.
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
    fn names_are_read_from_a_list_with_escapes_or_null() {
        let read = |json: &str| serde_json::from_str::<Names>(json);
        let names = read(r#"["a","b\u0063","" ,"d"]"#).unwrap();
        let all: Vec<&str> = names.range(0..names.len()).map(|(_, name)| name).collect();
        assert_eq!((all, names.last()), (vec!["a", "bc", "", "d"], Some("d")));
        assert_eq!(read("null").unwrap(), Names::default());
        assert!(read("[1]").is_err() && read(r#"[null]"#).is_err() && read(r#"{"a":1}"#).is_err());
    }

    #[test]
    fn a_page_is_full_by_what_was_asked_or_seen_or_round() {
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
        assert_eq!([full("?n=1000", 50), full("?n=1000", 100)], [false, true], "links come through here");
    }

    #[test]
    fn a_size_that_was_refused_is_not_asked_for_again() {
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
