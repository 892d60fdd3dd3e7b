//! Pages of a list (distribution-spec, "Listing Tags"; RFC 8288): which address has the next one. Registries and the proxies
//! before them write `Link` in many ways, and some proxies drop it. So a link that cannot be followed is an error, and a full
//! page without a link is followed by a request of our own.

use std::collections::HashSet;

use http::HeaderMap;
use http::header::LINK;
use url::Url;

use super::locate;
use super::paging::Paging;

/// The most pages that one list may have.
pub(crate) const MAX_PAGES: usize = 11_000;

/// Walks the pages of one list, and ends where a registry sends us in circles.
#[derive(Debug)]
pub(crate) struct Pages {
    first: Url,
    seen: HashSet<Url>,
    /// Whether the page on the way was asked for by `last=`, which the registry did not tell us to do.
    by_last: bool,
}

/// A page that was read, and what may follow it.
#[derive(Debug)]
pub(crate) struct Turn {
    link: Option<Url>,
    /// The last name of a page that may not be the last one though it has no link.
    full_to: Option<String>,
}

impl Pages {
    pub(crate) fn starting_at(first: &Url) -> Self {
        Self { first: first.clone(), seen: HashSet::from([first.clone()]), by_last: false }
    }

    /// Whether the page on the way is one that the registry may not understand the request for.
    pub(crate) fn is_by_last(&self) -> bool {
        self.by_last
    }

    /// Notes that a page was asked for by another address in the end.
    pub(crate) fn was_asked_as(&mut self, page: &Url, instead: &Url) {
        if self.first == *page {
            self.first = instead.clone();
        }
        self.seen.insert(instead.clone());
    }

    /// Takes in a page of a list of names, whose answer had these headers and so many names. An error says why the list cannot
    /// be completed.
    pub(crate) fn turn(
        &self,
        page: &Url,
        headers: &HeaderMap,
        paging: &Paging,
        (names, last): (usize, Option<&str>),
    ) -> Result<Turn, String> {
        let link = next_of(page, headers)?;
        if link.is_some() {
            paging.learn_size(names);
        }
        let is_full = link.is_none() && paging.is_full(page, names);
        Ok(Turn { link, full_to: last.filter(|_| is_full).map(str::to_owned) })
    }

    /// The page after that, of which `fresh` names were not in the list before. `None` after the last one.
    ///
    /// Where a full page had no link, the names after its last one are asked for. A registry that does not know of `last` gives
    /// what it gave before: then the list is complete.
    pub(crate) fn next(&mut self, turn: Turn, fresh: usize) -> Result<Option<Url>, String> {
        if self.by_last && fresh == 0 {
            return Ok(None);
        }
        self.by_last = false;
        if let Some(link) = turn.link {
            return self.enter(link).map(Some);
        }
        let Some(last) = turn.full_to else { return Ok(None) };
        let next = after_name(&self.first, &last);
        if self.seen.contains(&next) {
            return Ok(None);
        }
        self.by_last = true;
        self.enter(next).map(Some)
    }

    /// The page after `page` of a list that knows of no `last`, as that of referrers.
    pub(crate) fn after(&mut self, page: &Url, headers: &HeaderMap) -> Result<Option<Url>, String> {
        next_of(page, headers)?.map(|next| self.enter(next)).transpose()
    }

    fn enter(&mut self, next: Url) -> Result<Url, String> {
        if self.seen.len() >= MAX_PAGES {
            return Err(format!("the listing has more than {MAX_PAGES} pages"));
        }
        if !self.seen.insert(next.clone()) {
            return Err("the link to its next page leads back to a page that was read already".to_owned());
        }
        Ok(next)
    }
}

/// The address of the names after this one.
fn after_name(first: &Url, last: &str) -> Url {
    let mut next = first.clone();
    next.query_pairs_mut().append_pair("last", last);
    next
}

/// Where the headers of a page say that the next one is.
fn next_of(page: &Url, headers: &HeaderMap) -> Result<Option<Url>, String> {
    let mut unnamed = None;
    for value in headers.get_all(LINK) {
        let text = value.to_str().map_err(|_| "the link to its next page is not text".to_owned())?;
        for link in links(text) {
            match link.relations {
                Some(relations) if is_next(&relations) => return resolve(page, link.target).map(Some),
                Some(_) => {}
                None => unnamed = unnamed.or(Some(link.target.to_owned())),
            }
        }
    }
    // RFC 8288 demands a relation. There is one kind of link that a list has, so one without is taken for that.
    unnamed.map(|target| resolve(page, &target)).transpose()
}

/// Where a link leads. One that leads to the same list under another origin is followed at our own: a registry behind a proxy
/// links by the name or the scheme that it knows itself by. Nothing is sent to another host.
fn resolve(page: &Url, target: &str) -> Result<Url, String> {
    if let Ok(url) = page.join(target)
        && is_same_list(page, &url)
    {
        let mut own = page.clone();
        own.set_query(url.query());
        return Ok(own);
    }
    let next = locate::follow(page, target).map_err(|astray| format!("the link to its next page: {astray}"))?;
    if !locate::same_origin(page, &next) {
        return Err(format!("the link to its next page leads to another host, {}", locate::shown(&next)));
    }
    Ok(next)
}

/// Whether two addresses are of one list: a proxy may add a prefix to the path, or take one away.
fn is_same_list(page: &Url, link: &Url) -> bool {
    let (ours, theirs) = (page.path(), link.path());
    let is_api = |path: &str| path.starts_with("/v2/") || path.starts_with("/acr/");
    matches!(link.scheme(), "http" | "https")
        && (ours == theirs || (is_api(theirs) && ours.ends_with(theirs)) || (is_api(ours) && theirs.ends_with(ours)))
}

/// One link of a header's value.
struct Link<'a> {
    target: &'a str,
    /// What stands in `rel`; `None` where there is none.
    relations: Option<String>,
}

/// The links of one header value, also of one without `<` and `>`.
fn links(value: &str) -> Vec<Link<'_>> {
    let mut found = Vec::new();
    let mut rest = value;
    loop {
        rest = rest.trim_start_matches(|c: char| c == ',' || c.is_whitespace());
        if rest.is_empty() {
            return found;
        }
        let (target, after) = match rest.strip_prefix('<') {
            Some(inner) => inner.split_once('>').unwrap_or_else(|| bare(inner)),
            None => bare(rest),
        };
        let end = end_outside_quotes(after, b',');
        found.push(Link { target: target.trim(), relations: relations(&after[..end]) });
        rest = &after[end..];
    }
}

/// The target of a link without `<` and `>`, and what follows it.
fn bare(text: &str) -> (&str, &str) {
    let end = text.find(|c: char| matches!(c, ';' | ',' | '>') || c.is_whitespace()).unwrap_or(text.len());
    text.split_at(end)
}

/// Where this byte is first found outside quotes; the length where it is not.
fn end_outside_quotes(text: &str, end: u8) -> usize {
    let mut quoted = false;
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            b'"' => quoted = !quoted,
            _ if byte == end && !quoted => return at,
            _ => {}
        }
    }
    text.len()
}

/// The value of `rel` among a link's parameters.
fn relations(mut parameters: &str) -> Option<String> {
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

fn is_next(relations: &str) -> bool {
    relations.split_whitespace().any(|relation| relation.eq_ignore_ascii_case("next"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(page: &str, link: &str) -> Result<Option<String>, String> {
        let page: Url = page.parse().unwrap();
        let headers = HeaderMap::from_iter([(LINK, link.parse().unwrap())]);
        Pages::starting_at(&page).after(&page, &headers).map(|next| next.map(|url| url.to_string()))
    }

    #[test]
    fn the_next_page_is_found_in_every_shape_of_link() {
        let page = "https://h/v2/a/tags/list?n=2";
        let next = Ok(Some("https://h/v2/a/tags/list?last=b&n=2".to_owned()));
        for link in [
            r#"</v2/a/tags/list?last=b&n=2>; rel="next""#,
            "<list?last=b&n=2>;rel=next",
            r#"<https://h/v2/a/tags/list?last=b&n=2> ; title="a, b; rel=x"; REL="prev Next""#,
            r#"<x>; rel="prev", <list?last=b&n=2>; rel="next""#,
            "<list?last=b&n=2>; rel='next'",
            "<list?last=b&n=2>; rel = NEXT",
            // Without a relation, or without brackets, or with one of them.
            "</v2/a/tags/list?last=b&n=2>",
            r#"<x>; rel="first", <list?last=b&n=2>"#,
            r#"/v2/a/tags/list?last=b&n=2; rel="next""#,
            "/v2/a/tags/list?last=b&n=2",
            r#"</v2/a/tags/list?last=b&n=2; rel="next""#,
            // By the name or the scheme that the registry behind a proxy knows itself by: it is followed at our own.
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
    fn a_link_that_leads_in_circles_or_elsewhere_is_an_error() {
        let page = "https://h/v2/a/tags/list?n=2";
        let circle = "the link to its next page leads back to a page that was read already";
        for link in ["<?n=2>; rel=next", "<>; rel=next"] {
            assert_eq!(after(page, link).unwrap_err(), circle);
        }
        for link in ["<https://evil/x?token>; rel=next", "<https://evil/x?token>"] {
            assert_eq!(
                after(page, link).unwrap_err(),
                "the link to its next page leads to another host, https://evil/x"
            );
        }
        assert_eq!(
            after(page, "<http://h/x>; rel=next").unwrap_err(),
            "the link to its next page: it leads from HTTPS to plain HTTP at http://h/x, which is refused"
        );
        let page: Url = page.parse().unwrap();
        let foreign = HeaderMap::from_iter([(LINK, http::HeaderValue::from_bytes(b"<\xff>; rel=next").unwrap())]);
        let told = Pages::starting_at(&page).after(&page, &foreign).unwrap_err();
        assert_eq!(told, "the link to its next page is not text");
    }

    #[test]
    fn a_listing_without_end_is_an_error() {
        let mut page: Url = "https://h/0".parse().unwrap();
        let mut pages = Pages::starting_at(&page);
        for number in 1.. {
            let headers = HeaderMap::from_iter([(LINK, format!("<{number}>; rel=next").parse().unwrap())]);
            match pages.after(&page, &headers) {
                Ok(next) => page = next.unwrap(),
                Err(error) => {
                    assert_eq!((number, error.as_str()), (MAX_PAGES, "the listing has more than 11000 pages"));
                    break;
                }
            }
        }
    }

    #[test]
    fn a_full_page_without_a_link_is_continued_by_its_last_name() {
        let first: Url = "https://h/v2/a/tags/list?n=1000".parse().unwrap();
        let paging = Paging::default();
        let mut pages = Pages::starting_at(&first);
        let none = HeaderMap::new();
        let turn =
            |pages: &Pages, page: &Url, names, last| pages.turn(page, &none, &paging, (names, Some(last))).unwrap();

        let full = turn(&pages, &first, 1000, "v+9");
        let next = pages.next(full, 1000).unwrap().unwrap();
        assert_eq!(next.as_str(), "https://h/v2/a/tags/list?n=1000&last=v%2B9");
        assert!(pages.is_by_last());
        // What comes is the first page again: the registry does not know of `last`.
        let again = turn(&pages, &next, 1000, "v+9");
        assert_eq!(pages.next(again, 0), Ok(None));

        let mut short = Pages::starting_at(&first);
        let turned = turn(&short, &first, 7, "v7");
        assert_eq!(short.next(turned, 7), Ok(None));
    }
}
