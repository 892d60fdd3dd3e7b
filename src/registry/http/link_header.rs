//! URL of the next page of a list (distribution-spec, "Listing Tags"; RFC 8288). Registries and proxies write the
//! header `Link` in many forms. A link that the client cannot follow is an error. Some proxies drop the header. If a
//! full page has no link, the client builds the URL of the next page.

use std::collections::HashSet;

use http::HeaderMap;
use http::header::LINK;
use url::Url;

use super::pagination::Paging;
use super::redirect;

/// Maximum number of pages of one list.
pub(crate) const MAX_PAGES: usize = 11_000;

/// State of the requests for the pages of one list. If the links form a cycle, the listing fails.
#[derive(Debug)]
pub(crate) struct Pages {
    first: Url,
    seen: HashSet<Url>,
    /// True if the client built the URL of the current page itself, with `last=`, because the registry sent no link.
    by_last: bool,
}

/// Data of a page from which the client determines the next page: the link to the next page, or the last name of the
/// page.
#[derive(Debug)]
pub(crate) struct PageEnd {
    link: Option<Url>,
    /// Last name of the page, if the page has no link but may not be the last page.
    full_to: Option<String>,
}

impl Pages {
    pub(crate) fn starting_at(first: &Url) -> Self {
        Self { first: first.clone(), seen: HashSet::from([first.clone()]), by_last: false }
    }

    /// Returns true if the client built the URL of the current page itself.
    pub(crate) fn is_by_last(&self) -> bool {
        self.by_last
    }

    /// Records that the client requested the URL `instead` in place of the URL `page`.
    pub(crate) fn record_actual_url(&mut self, page: &Url, instead: &Url) {
        if self.first == *page {
            self.first = instead.clone();
        }
        self.seen.insert(instead.clone());
    }

    /// Determines the [`PageEnd`] of a page from the headers of the response, the number of names and the last name.
    /// Returns an error text if the client cannot follow the link to the next page.
    pub(crate) fn read_page_end(
        &self,
        page: &Url,
        headers: &HeaderMap,
        paging: &Paging,
        (names, last): (usize, Option<&str>),
    ) -> Result<PageEnd, String> {
        let link = next_link(page, headers)?;
        if link.is_some() {
            paging.learn_size(names);
        }
        let is_full = link.is_none() && paging.is_full(page, names);
        Ok(PageEnd { link, full_to: last.filter(|_| is_full).map(str::to_owned) })
    }

    /// Returns the URL of the next page; `None` after the last page. `fresh` is the number of names of the current page
    /// that earlier pages did not have.
    ///
    /// After a full page without a link, the client requests the names after the last name of the full page. If the
    /// registry does not support `last`, the registry sends the same names a second time. In this case, `fresh` is 0,
    /// and the list is complete.
    pub(crate) fn next_page(&mut self, end: PageEnd, fresh: usize) -> Result<Option<Url>, String> {
        if self.by_last && fresh == 0 {
            return Ok(None);
        }
        self.by_last = false;
        if let Some(link) = end.link {
            return self.record_next(link).map(Some);
        }
        let Some(last) = end.full_to else { return Ok(None) };
        let next = after_name(&self.first, &last);
        if self.seen.contains(&next) {
            return Ok(None);
        }
        self.by_last = true;
        self.record_next(next).map(Some)
    }

    /// Returns the URL of the page after `page` in a list that does not support `last`, such as the list of referrers.
    pub(crate) fn linked_page(&mut self, page: &Url, headers: &HeaderMap) -> Result<Option<Url>, String> {
        next_link(page, headers)?.map(|next| self.record_next(next)).transpose()
    }

    fn record_next(&mut self, next: Url) -> Result<Url, String> {
        if self.seen.len() >= MAX_PAGES {
            return Err(format!("the listing has more than {MAX_PAGES} pages"));
        }
        if !self.seen.insert(next.clone()) {
            return Err("the link to the next page leads back to a page that was already read".to_owned());
        }
        Ok(next)
    }
}

/// Returns the URL of a page with the names after `last`.
fn after_name(first: &Url, last: &str) -> Url {
    let mut next = first.clone();
    next.query_pairs_mut().append_pair("last", last);
    next
}

/// Returns the URL of the next page from the `Link` headers of a page.
fn next_link(page: &Url, headers: &HeaderMap) -> Result<Option<Url>, String> {
    let mut unnamed = None;
    for value in headers.get_all(LINK) {
        let text = value.to_str().map_err(|_| "the link to the next page is not text".to_owned())?;
        for link in read_links(text) {
            match link.relations {
                Some(relations) if has_next(&relations) => return resolve(page, link.target).map(Some),
                Some(_) => {}
                None => unnamed = unnamed.or(Some(link.target.to_owned())),
            }
        }
    }
    // RFC 8288 requires a relation. If a link has no relation, the client uses the link as the link to the next page.
    unnamed.map(|target| resolve(page, &target)).transpose()
}

/// Resolves the target of a link. A registry behind a proxy can send links with the registry's internal host name or
/// scheme. If the link leads to the same list at another origin, the client uses the origin of the page. A link to
/// other content at another host is an error.
fn resolve(page: &Url, target: &str) -> Result<Url, String> {
    if let Ok(url) = page.join(target)
        && is_same_list(page, &url)
    {
        let mut own = page.clone();
        own.set_query(url.query());
        return Ok(own);
    }
    let next = redirect::resolve_location(page, target)
        .map_err(|error| format!("the link to the next page cannot be followed: {error}"))?;
    if !redirect::same_origin(page, &next) {
        return Err(format!("the link to the next page leads to another host, {}", redirect::shown(&next)));
    }
    Ok(next)
}

/// Returns true if two URLs belong to one list. The paths of the URLs may differ by a prefix that a proxy adds or
/// removes.
fn is_same_list(page: &Url, link: &Url) -> bool {
    let (ours, theirs) = (page.path(), link.path());
    let is_api = |path: &str| path.starts_with("/v2/") || path.starts_with("/acr/");
    matches!(link.scheme(), "http" | "https")
        && (ours == theirs || (is_api(theirs) && ours.ends_with(theirs)) || (is_api(ours) && theirs.ends_with(ours)))
}

/// Link in the value of a header.
struct Link<'a> {
    target: &'a str,
    /// Value of the parameter `rel`; `None` if the link has no parameter `rel`.
    relations: Option<String>,
}

/// Parses the links of one header value. Accepts links without `<` and `>`.
fn read_links(value: &str) -> Vec<Link<'_>> {
    let mut found = Vec::new();
    let mut rest = value;
    loop {
        rest = rest.trim_start_matches(|c: char| c == ',' || c.is_whitespace());
        if rest.is_empty() {
            return found;
        }
        let (target, after) = match rest.strip_prefix('<') {
            Some(inner) => inner.split_once('>').unwrap_or_else(|| split_bare(inner)),
            None => split_bare(rest),
        };
        let end = end_outside_quotes(after, b',');
        found.push(Link { target: target.trim(), relations: read_relations(&after[..end]) });
        rest = &after[end..];
    }
}

/// Splits a text into the target of a link without `<` and `>`, and the rest.
fn split_bare(text: &str) -> (&str, &str) {
    let end = text.find(|c: char| matches!(c, ';' | ',' | '>') || c.is_whitespace()).unwrap_or(text.len());
    text.split_at(end)
}

/// Returns the offset of the first byte `end` outside quotes. If the text has no byte `end` outside quotes, returns the
/// length of the text.
fn end_outside_quotes(text: &str, end: u8) -> usize {
    let mut quoted = false;
    for (offset, byte) in text.bytes().enumerate() {
        match byte {
            b'"' => quoted = !quoted,
            _ if byte == end && !quoted => return offset,
            _ => {}
        }
    }
    text.len()
}

/// Returns the value of `rel` among a link's parameters.
fn read_relations(mut parameters: &str) -> Option<String> {
    while !parameters.is_empty() {
        let end = end_outside_quotes(parameters, b';');
        if let Some((name, value)) = parameters[..end].split_once('=')
            && name.trim().eq_ignore_ascii_case("rel")
        {
            return Some(value.trim().trim_matches(['"', '\'']).to_owned());
        }
        parameters = parameters.get(end + 1..).unwrap_or_default();
    }
    None
}

fn has_next(relations: &str) -> bool {
    relations.split_whitespace().any(|relation| relation.eq_ignore_ascii_case("next"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(page: &str, link: &str) -> Result<Option<String>, String> {
        let page: Url = page.parse().unwrap();
        let headers = HeaderMap::from_iter([(LINK, link.parse().unwrap())]);
        Pages::starting_at(&page).linked_page(&page, &headers).map(|next| next.map(|url| url.to_string()))
    }

    #[test]
    fn next_page_is_found_in_every_form_of_link() {
        let page = "https://h/v2/a/tags/list?n=2";
        let next = Ok(Some("https://h/v2/a/tags/list?last=b&n=2".to_owned()));
        for link in [
            r#"</v2/a/tags/list?last=b&n=2>; rel="next""#,
            "<list?last=b&n=2>;rel=next",
            r#"<https://h/v2/a/tags/list?last=b&n=2> ; title="a, b; rel=x"; REL="prev Next""#,
            r#"<x>; rel="prev", <list?last=b&n=2>; rel="next""#,
            "<list?last=b&n=2>; rel='next'",
            "<list?last=b&n=2>; rel = NEXT",
            // Links without a relation, without brackets, or with only one bracket.
            "</v2/a/tags/list?last=b&n=2>",
            r#"<x>; rel="first", <list?last=b&n=2>"#,
            r#"/v2/a/tags/list?last=b&n=2; rel="next""#,
            "/v2/a/tags/list?last=b&n=2",
            r#"</v2/a/tags/list?last=b&n=2; rel="next""#,
            // Links with the internal host name or scheme of a registry behind a proxy. The client follows these links
            // at the page's origin.
            r#"<http://registry.internal:5000/v2/a/tags/list?last=b&n=2>; rel="next""#,
            r#"<http://h/v2/a/tags/list?last=b&n=2>; rel="next""#,
            r#"<http://internal/registry/v2/a/tags/list?last=b&n=2>; rel="next""#,
        ] {
            assert_eq!(after(page, link), next, "{link}");
        }
        let prefixed = after("https://h/art/v2/a/tags/list?n=2", "/v2/a/tags/list?last=b; rel=next");
        assert_eq!(prefixed, Ok(Some("https://h/art/v2/a/tags/list?last=b".to_owned())));
        assert_eq!(after(page, r#"<x>; rel="prev""#), Ok(None));
        assert_eq!(after(page, " "), Ok(None));
    }

    #[test]
    fn link_in_a_circle_or_elsewhere_is_an_error() {
        let page = "https://h/v2/a/tags/list?n=2";
        let circle = "the link to the next page leads back to a page that was already read";
        for link in ["<?n=2>; rel=next", "<>; rel=next"] {
            assert_eq!(after(page, link).unwrap_err(), circle);
        }
        for link in ["<https://evil/x?token>; rel=next", "<https://evil/x?token>"] {
            assert_eq!(
                after(page, link).unwrap_err(),
                "the link to the next page leads to another host, https://evil/x"
            );
        }
        assert_eq!(
            after(page, "<http://h/x>; rel=next").unwrap_err(),
            "the link to the next page cannot be followed: the URL must not lead from HTTPS to plain HTTP: http://h/x"
        );
        let page: Url = page.parse().unwrap();
        let foreign = HeaderMap::from_iter([(LINK, http::HeaderValue::from_bytes(b"<\xff>; rel=next").unwrap())]);
        let error = Pages::starting_at(&page).linked_page(&page, &foreign).unwrap_err();
        assert_eq!(error, "the link to the next page is not text");
    }

    #[test]
    fn endless_listing_is_an_error() {
        let mut page: Url = "https://h/0".parse().unwrap();
        let mut pages = Pages::starting_at(&page);
        for number in 1.. {
            let headers = HeaderMap::from_iter([(LINK, format!("<{number}>; rel=next").parse().unwrap())]);
            match pages.linked_page(&page, &headers) {
                Ok(next) => page = next.unwrap(),
                Err(error) => {
                    assert_eq!((number, error.as_str()), (MAX_PAGES, "the listing has more than 11000 pages"));
                    break;
                }
            }
        }
    }

    #[test]
    fn full_page_without_link_continues_after_its_last_name() {
        let first: Url = "https://h/v2/a/tags/list?n=1000".parse().unwrap();
        let paging = Paging::default();
        let mut pages = Pages::starting_at(&first);
        let none = HeaderMap::new();
        let end_of = |pages: &Pages, page: &Url, names, last| {
            pages.read_page_end(page, &none, &paging, (names, Some(last))).unwrap()
        };

        let full = end_of(&pages, &first, 1000, "v+9");
        let next = pages.next_page(full, 1000).unwrap().unwrap();
        assert_eq!(next.as_str(), "https://h/v2/a/tags/list?n=1000&last=v%2B9");
        assert!(pages.is_by_last());
        // The registry does not support `last`, and returns the first page a second time.
        let again = end_of(&pages, &next, 1000, "v+9");
        assert_eq!(pages.next_page(again, 0), Ok(None));

        let mut short = Pages::starting_at(&first);
        let not_full = end_of(&short, &first, 7, "v7");
        assert_eq!(short.next_page(not_full, 7), Ok(None));
    }
}
